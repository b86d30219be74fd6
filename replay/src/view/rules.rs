//! The guarder's rules: what they are, and what they would have done.

use serde::Serialize;

use super::Provenance;

/// What `psc guard check` shows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RuleCheckView {
    /// The rule file.
    pub file: String,
    /// Its rules, in order.
    pub rules: Vec<CheckedRule>,
    /// Never-block entries.
    pub never_block: usize,
    /// Header fields looked up for each packet.
    pub fields: usize,
    /// Conjunctions of all rules that the kernel can decide.
    pub conjunctions: usize,
    /// Bytes of lookup tables in the kernel.
    pub table_bytes: u64,
    /// Whether `psc live --enforce` takes the file.
    pub enforceable: bool,
}

/// One rule, checked.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CheckedRule {
    /// Its id.
    pub id: String,
    /// Line of the file, from 1.
    pub line: usize,
    /// `pass`, `count`, `log`, `alert`, `drop` or `limit`.
    pub action: String,
    /// What it does in words: rate, threshold, block.
    pub does: String,
    /// The condition as psc understood it.
    pub condition: String,
    /// `exact`, `replay-only` or `finding`.
    pub compiled: String,
    /// Why it is `replay-only`; empty otherwise.
    pub reason: String,
}

/// What `psc guard replay` shows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RuleReplayView {
    /// What this is.
    pub provenance: Provenance,
    /// The rule file.
    pub file: String,
    /// Packets that rules were asked about; one that comes in and goes out again is asked about twice.
    pub asked: u64,
    /// Of these, in a capture that does not say which way they went: rules of both directions looked.
    pub direction_unknown: u64,
    /// Of these, packets whose headers were not recorded whole: the kernel might decide otherwise.
    pub headers_cut: u64,
    /// Packets that would have been discarded.
    pub discarded: u64,
    /// Bytes of these.
    pub discarded_bytes: u64,
    /// Rules, in order.
    pub rules: Vec<RuleOutcome>,
    /// Flows with discarded packets that were healthy in the recording.
    pub healthy_flows_hit: u64,
    /// Discarded packets of these flows.
    pub healthy_packets: u64,
    /// What the kernel did while this was recorded by `psc live`, beside what replay comes to; empty for
    /// other recordings.
    pub recorded: Vec<RecordedVerdict>,
    /// Flows too many to keep apart; what they lost is counted, their health is not known.
    pub flows_forgotten: u64,
}

/// What one rule would have done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RuleOutcome {
    /// Its id.
    pub id: String,
    /// Its action.
    pub action: String,
    /// Packets that it counted, logged or alerted about, passed or discarded.
    pub matched: u64,
    /// Bytes of these.
    pub matched_bytes: u64,
    /// Packets that it would have discarded itself.
    pub discarded: u64,
    /// Packets that the blocks it made would have discarded.
    pub blocked: u64,
    /// Bytes of the discarded and the blocked.
    pub discarded_bytes: u64,
    /// Blocks that it would have made.
    pub blocks: u64,
    /// Packets for which it would have made a block, had their source completed a handshake.
    pub unproven: u64,
    /// First packet that it acted on, nanoseconds; `None` when there was none.
    pub first: Option<u64>,
    /// Last packet that it acted on, nanoseconds.
    pub last: Option<u64>,
    /// Flows that it or its blocks would have discarded packets of.
    pub flows: u64,
    /// Of these, flows that were healthy: two-way, and for TCP established with data acknowledged and no
    /// reset by the side that was asked.
    pub healthy_flows: u64,
    /// Discarded packets of these flows: collateral damage.
    pub healthy_packets: u64,
    /// Of these flows, up to five that would have lost most.
    pub examples: Vec<Collateral>,
    /// Sources that would have lost most packets: (address, packets at least), up to five.
    pub sources: Vec<(String, u64)>,
    /// Why the kernel cannot enforce it; empty when it can.
    pub replay_only: String,
}

/// A healthy flow that a rule would have hurt.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Collateral {
    /// The flow.
    pub flow: String,
    /// Packets that it would have lost.
    pub packets: u64,
    /// Packets that it had, both ways.
    pub of: u64,
    /// Why it counts as healthy.
    pub why: String,
}

/// One rule's verdicts as recorded, which are authoritative, and as replayed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RecordedVerdict {
    /// The rule.
    pub id: String,
    /// Packets that the kernel discarded, blocks included (of a dry-run: would have).
    pub recorded: u64,
    /// Packets that replay would have discarded.
    pub replayed: u64,
    /// Why they may differ; empty when they do not.
    pub why: String,
}
