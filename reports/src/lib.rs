//! Reports: views drawn as terminal text, JSON, standalone SVG and one self-contained HTML page.
//!
//! Every function here is a pure function of a view and a style: no clock, no locale, no
//! environment, no map order, so the same recording gives the same bytes everywhere. Nothing here
//! sees an event or an archive.
//!
//! Invariants, each held by a test:
//! - The first line of every text, and the first screen of the page, says how complete the
//!   recording is.
//! - Every string that can come from a packet, a process or a file name goes through [`escape`].
//! - Colour never carries meaning alone: a word or a shape says the same.
//! - What a limit leaves out is said, with its number and the command that shows it.

pub mod ci;
pub mod escape;
pub mod html;
pub mod json;
mod measured;
pub mod svg;
pub mod text;
pub mod units;

pub use json::json;
