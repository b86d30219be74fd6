//! The guarder's suggestions: rules for what was found, and what they would have touched.

use serde::Serialize;

use super::Provenance;

/// What `psc guard suggest` shows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SuggestView {
    /// What this is.
    pub provenance: Provenance,
    /// One for each finding that a rule on packets can answer, in the order of findings.
    pub suggestions: Vec<Suggestion>,
    /// Findings without one: (title, why).
    pub without: Vec<(String, String)>,
}

/// One rule, held against the recording.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Suggestion {
    /// Title of the finding that it answers.
    pub finding: String,
    /// `drop`, `limit` or `alert`.
    pub action: String,
    /// The condition, as `-f` takes it.
    pub expression: String,
    /// The rule as a rule file has it.
    pub rule: String,
    /// Why this action.
    pub why: String,
    /// Packets that it matched.
    pub matched: u64,
    /// Packets looked at.
    pub of: u64,
    /// Matched packets of healthy flows (both sides sent data).
    pub healthy_packets: u64,
    /// Healthy flows with a matched packet.
    pub healthy_flows: u64,
    /// Flows among the matched that could not be judged because there were too many.
    pub unjudged: u64,
    /// What that means, in one sentence.
    pub verdict: String,
}
