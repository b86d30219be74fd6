//! Rules in the kernel: loaded, attached, tried out, counted.
//!
//! A rule set is loaded as programs and tables of its own. Replacing it swaps the program under the link, so
//! that each packet meets the old rules or the new ones; blocks and proven sources live on.

mod attach;
mod load;
mod state;
mod wire;

pub use attach::{Attached, Point};
pub use load::{Guard, GuardOptions, GuardRules};
pub use state::{Block, Counters, Never, Told, Totals};

use libbpf_rs::Error;

/// Why rules could not be put into the kernel: what was being done, and the kernel's answer.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {cause}")]
pub struct GuardError {
    doing: String,
    cause: String,
}

impl GuardError {
    fn new(doing: impl Into<String>, cause: &Error) -> Self {
        Self { doing: doing.into(), cause: format!("{cause:#}") }
    }

    fn io(doing: impl Into<String>, cause: &std::io::Error) -> Self {
        Self { doing: doing.into(), cause: cause.to_string() }
    }
}
