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
    /// Empty when the kernel can enforce the rule exactly; else why it can only be replayed.
    pub replay_only: String,
    /// Packets that the rule evaluator was asked about.
    pub of: u64,
    /// Packets that the rule was about.
    pub matched: u64,
    /// Packets that it would have discarded: all for `drop`, those over the rate for `limit`, none for `alert`.
    pub discarded: u64,
    /// Discarded packets of flows that were healthy: two-way, and for TCP established with data acknowledged.
    pub healthy_packets: u64,
    /// Healthy flows that would have lost a packet.
    pub healthy_flows: u64,
    /// Of these, up to five that would have lost most: (flow, discarded packets, packets of it).
    pub hurt: Vec<(String, u64, u64)>,
    /// Flows that could not be judged because there were too many.
    pub unjudged: u64,
    /// What that means, in one sentence.
    pub verdict: String,
}
