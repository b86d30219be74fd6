//! The compiled form of a rule set: what a program in the kernel and the evaluator here both walk.
//!
//! A rule's condition becomes **rows**, each a conjunction of [`ValueSet`]s over [`Key`]s. All rows
//! together become a [`RuleTable`]: for each key in use a lookup from value to a bit vector of the rows
//! that this value satisfies (Lakshman and Stiliadis 1998), with a summary bit for every 64 rows
//! (Baboescu and Varghese 2001). A packet matches the rows that are in the conjunction of its
//! vectors, so its cost grows with the number of keys and hardly with the number of rules.

mod behaviour;
mod key;
mod set;
mod table;
#[cfg(test)]
mod tests;

pub use behaviour::{
    Action, Behaviour, CELLS, Cells, Distinct, EVERY_RULE, Flow, Per, Rate, StateKey, Unit, cell,
};
pub use key::{KEYS, Key, Keys, Width};
pub use set::ValueSet;
pub use table::{Dim, Kind, MAX_DIMS, Row, RuleTable, TableError};

/// Bytes of a packet that rules look at, from its first. Headers that go on beyond are cut, there as
/// here, and a rule can ask for that (`frame.headers_cut`).
pub const WINDOW: usize = 256;
