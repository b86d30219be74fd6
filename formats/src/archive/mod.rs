//! The .psc archive: what psc records, in append-only frames. FORMAT.md specifies it for a second
//! implementer.
//!
//! [`Writer`] takes [`crate::Batch`]es and writes them to anything that takes bytes. [`Reader`] is
//! an [`crate::EventSource`] over a file or a stream; it steps over damage and says so with
//! notices. [`frame`] has the header that makes damage visible, [`v1`] the frozen payloads.

mod chain;
mod claims;
mod columns;
mod data;
mod decode;
mod encode;
pub mod frame;
mod index;
mod info;
mod payload;
mod predict;
mod problem;
mod reader;
mod recover;
mod slice;
pub mod v1;
mod verify;
mod walk;
mod writer;

pub use claims::{Expected, SignedBy};
pub use data::Input;
pub use frame::{FrameKind, Hash, RecordingId};
pub use info::{ArchiveInfo, FrameCount, info};
pub use payload::{LEVEL, Parent};
pub use problem::{Problem, ProblemKind};
pub use reader::Reader;
pub use recover::{RecoverReport, recover};
pub use slice::{SliceReport, slice};
pub use verify::{PROBLEMS_KEPT, State, VerifyReport, verify, verify_against};
pub use writer::{FRAME_EVENTS, Writer, create_file};

use problem::Fault;

/// Whether a file that starts with `head` is an archive; 16 bytes are enough to tell.
pub fn is_archive(head: &[u8]) -> bool {
    head.starts_with(&frame::MAGIC)
}
