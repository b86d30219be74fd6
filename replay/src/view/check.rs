//! What `psc test` and `psc diff --gate` show: statements about recordings, and whether they hold.

use serde::Serialize;

use super::Provenance;

/// Statements and what became of them.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CheckView {
    /// The recording that was checked.
    pub provenance: Provenance,
    /// The recording it was compared with, by name; empty when it was compared with none.
    pub base: String,
    /// File with the statements, or how they were given.
    pub statements: String,
    /// In the order in which they were given.
    pub checks: Vec<Check>,
    /// How many of them do not hold.
    pub failed: u64,
}

/// One statement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Name that it was given, else made from its number.
    pub name: String,
    /// What it says, in words.
    pub statement: String,
    /// Line in the file of statements, from 1; 0 when there is none.
    pub line: u64,
    /// Whether it holds.
    pub holds: bool,
    /// What was found, one sentence with numbers and units.
    pub found: String,
    /// Evidence when it does not hold, one sentence each.
    pub evidence: Vec<String>,
    /// Journeys to look at, up to five.
    pub journeys: Vec<u64>,
}
