//! What `psc info` shows about a recording without analysing it.

use serde::Serialize;

use super::Provenance;

/// What `psc info` shows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct InfoView {
    /// What this is.
    pub provenance: Provenance,
    /// Who recorded, on what, and how good its clock was: (name, value); what is unknown is absent.
    pub acquisition: Vec<(String, String)>,
    /// What was done to make this file, oldest first, one sentence each.
    pub custody: Vec<String>,
    /// Events by probe, in probe order: (name, method, status, events).
    pub probes: Vec<(String, String, String, u64)>,
    /// Events by kind, most first.
    pub kinds: Vec<(String, u64)>,
    /// Devices: (netns, name, kind, addresses).
    pub devices: Vec<(String, String, String, String)>,
    /// Frames by kind: (kind, frames, stored bytes, raw bytes); empty for captures.
    pub frames: Vec<(String, u64, u64, u64)>,
    /// Size of the file, bytes.
    pub file_bytes: u64,
    /// Stored bytes per event: (all, events alone, packets alone); `None` for captures.
    pub bytes_per_event: Option<(f64, f64, f64)>,
}
