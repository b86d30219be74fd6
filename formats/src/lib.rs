//! Everything psc reads and writes, with no kernel, clock or analysis in it.
//!
//! An [`Event`] is one sighting at one probe. Sources ([`EventSource`]) yield batches of events
//! with the packet bytes and facts that belong to them: an archive ([`archive`]), a capture
//! ([`pcap`]), or (in `psc-bpf`) the live kernel. [`packet`] is the only header decoder.

mod ahead;
pub mod archive;
pub mod custody;
pub mod event;
pub mod fact;
mod firewall;
pub mod flow;
pub mod function;
pub mod guard;
pub mod manifest;
pub mod open;
pub mod packet;
pub mod pcap;
pub mod redact;
pub mod source;
pub mod tables;

pub use event::{Context, Event, EventKind, Gso, Ns, PacketRef, SkbAddr, SockId, Stack, StackId};
pub use fact::Fact;
pub use flow::FiveTuple;
pub use manifest::{Manifest, ProbeId};
pub use open::open;
pub use source::{Batch, EventSource, Progress, SourceError};
pub use tables::Tables;
