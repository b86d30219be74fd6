//! The diagnosis' view: causes, and the rules that looked for them.

use serde::Serialize;

use super::Provenance;
use super::detect::Finding;

/// What `psc diagnose` shows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DiagnoseView {
    /// What this is.
    pub provenance: Provenance,
    /// Causes found, worst first, then by time, then by id.
    pub findings: Vec<Finding>,
    /// Every rule that looked, in the order in which they look: causes before symptoms.
    pub rules: Vec<RuleRow>,
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RuleRow {
    /// Name of the cause, as findings carry it.
    pub id: String,
    /// Family of causes.
    pub family: String,
    /// Layer at which the cause is.
    pub layer: String,
    /// `high`, `medium` or `low`.
    pub severity: String,
    /// Events, counters and facts that it looks at.
    pub looks_at: String,
    /// What is then said to be the cause.
    pub cause: String,
    /// The healthy look-alike that it says nothing about.
    pub silent_on: String,
    /// Kernel files, manual pages, RFCs.
    pub references: Vec<String>,
}
