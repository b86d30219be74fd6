//! Several recordings on one time line.
//!
//! Clocks of hosts differ. What two recordings have in common is packets: one that both saw was received after it
//! was sent, so each bounds how far the clocks can be apart, from one side; answers bound it from the other. Hosts
//! that exchange nothing bound each other through those between them. The bounds are kept and shown, and where the
//! clocks themselves say something that lies between, that is taken.

mod clocks;
mod marks;
mod remap;
mod ways;

pub use clocks::{Alignment, Offset, align};
pub use marks::{Mark, Marks};
pub use remap::{Extent, Joint, Remap};
pub use ways::Pair;
