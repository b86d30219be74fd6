//! What `psc live` shows while it runs.

/// The state of things at one moment. Times are nanoseconds since psc began to watch.
#[derive(Clone, Debug, Default)]
pub struct LiveView {
    /// Interface.
    pub interface: String,
    /// What becomes of packets: `watching`, `dry-run`, `enforcing`, with the attach points.
    pub mode: String,
    /// Now.
    pub at: u64,
    /// Packets seen on the interface.
    pub packets: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Flows known.
    pub flows: u64,
    /// Packets that the kernel dropped.
    pub drops: u64,
    /// Events that the recorder lost.
    pub lost: u64,
    /// Packets that rules discarded, or would have.
    pub discarded: u64,
    /// Blocks under way.
    pub blocks: u64,
    /// Busiest flows: (flow, packets, bytes).
    pub top: Vec<(String, u64, u64)>,
    /// Drops by reason: (reason, packets).
    pub reasons: Vec<(String, u64)>,
    /// Rules that have acted: (id, action, matched, discarded, blocked).
    pub rules: Vec<(String, String, u64, u64, u64)>,
    /// Blocks: (who, rule, nanoseconds left).
    pub blocked: Vec<(String, String, u64)>,
    /// What happened, latest last: (when, text).
    pub log: Vec<(u64, String)>,
}
