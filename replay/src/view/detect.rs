//! The guarder's view: findings.

use serde::Serialize;

use super::Provenance;

/// What `psc guard detect` shows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DetectView {
    /// What this is.
    pub provenance: Provenance,
    /// Findings, worst first, then by time, then by id.
    pub findings: Vec<Finding>,
    /// Detectors that ran: (id, what it sees, what it could not see in this recording or empty).
    pub detectors: Vec<(String, String, String)>,
}

/// A conclusion that cites its evidence.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Finding {
    /// `arp-conflict`, `syn-flood`, `port-scan`, `listen-overflow`...
    pub id: String,
    /// `high`, `medium`, `low`, `info`.
    pub severity: String,
    /// `high`, `medium`, `low`, and why when not high.
    pub confidence: String,
    /// One sentence: what happened.
    pub title: String,
    /// What it rests on, one sentence each, with numbers and units.
    pub evidence: Vec<String>,
    /// Whether its effect was confirmed in the stack: `confirmed: ...`, `not confirmed: ...`,
    /// `not observable: ...`.
    pub effect: String,
    /// What to do next: command or sysctl.
    pub advice: String,
    /// Who did it, as far as it can be said; spoofable sources are called so.
    pub actors: Vec<String>,
    /// Who it was done to.
    pub targets: Vec<String>,
    /// First and last evidence, nanoseconds; `last` 0 when it is about the recording as a whole.
    pub first: u64,
    /// See `first`.
    pub last: u64,
    /// Packets that are evidence.
    pub packets: u64,
    /// Journeys to look at, up to five.
    pub journeys: Vec<u64>,
    /// RFC, CVE, ATT&CK.
    pub references: Vec<String>,
}

/// Puts findings into the order in which they are shown: worst first, then by time, then by id, then
/// by title.
pub fn sort(findings: &mut [Finding]) {
    fn key(finding: &Finding) -> (usize, u64, &str, &str) {
        let ranks = ["high", "medium", "low", "info"];
        let rank = ranks.iter().position(|rank| *rank == finding.severity).unwrap_or(ranks.len());
        (rank, finding.first, &finding.id, &finding.title)
    }
    findings.sort_by(|a, b| key(a).cmp(&key(b)));
}
