//! Views: plain results, ready to be drawn. The only types that `reports` sees, and, serialised,
//! the JSON that `--format json` prints (schema version [`SCHEMA`]).
//!
//! Times are nanoseconds on the recording's clock unless a name says otherwise; lists are sorted
//! the way they are to be shown, with every tie broken, so that output never depends on threads.

pub mod analyze;
pub mod check;
pub mod detect;
pub mod diagnose;
pub mod diff;
pub mod explain;
pub mod info;
pub mod live;
pub mod locate;
pub mod route;
pub mod rules;
pub mod suggest;
pub mod tcp;
pub mod trace;

use serde::Serialize;

/// Version of the JSON documents made from views; raised when a field changes meaning or goes.
pub const SCHEMA: u32 = 1;

/// What every report says first: what this is and how complete it is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Provenance {
    /// File name without directories.
    pub source: String,
    /// `kernel`, `capture` or `merge`.
    pub origin: String,
    /// Host name, kernel release, architecture; empty for captures.
    pub host: String,
    /// Command that recorded.
    pub command: String,
    /// psc version that recorded.
    pub psc_version: String,
    /// First and last event, nanoseconds on the recording's clock.
    pub first: u64,
    /// See `first`.
    pub last: u64,
    /// First event as RFC 3339 UTC with nanoseconds.
    pub start_utc: String,
    /// Last event minus first, nanoseconds.
    pub duration_ns: u64,
    /// Events read.
    pub events: u64,
    /// Packets with bytes read.
    pub packets: u64,
    /// How complete the recording is.
    pub completeness: Completeness,
    /// Notices, worst first, then by text.
    pub notices: Vec<NoticeRow>,
    /// Filter and time range applied by this command, empty when none.
    pub selection: String,
}

/// How complete the recording is. Recorder loss only: never network loss, never kernel drops.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Completeness {
    /// One line, shown first: `complete: no event lost`, `lost 120 of 45,000 events (0.27 %)`,
    /// `loss unknown: the capture does not say`.
    pub line: String,
    /// Events lost by the recorder; `None` when the source cannot know.
    pub lost: Option<u64>,
    /// Lost by a full ring, as counted in the kernel.
    pub ring_full: Option<u64>,
    /// Probe runs skipped by recursion.
    pub recursion: Option<u64>,
    /// Sum of per-CPU sequence gaps found in the events; equals `ring_full` when all is well.
    pub sequence_gaps: u64,
    /// Events left out on purpose by filter.
    pub filtered: u64,
    /// Events counted instead of stored.
    pub aggregated: u64,
    /// The recording has an end mark.
    pub closed: bool,
    /// Probes wanted, attached.
    pub probes_attached: usize,
    /// See `probes_attached`.
    pub probes_wanted: usize,
    /// Probes that failed, with the reason.
    pub probes_failed: Vec<(String, String)>,
    /// What this host does that the probes cannot see.
    pub blind_spots: Vec<String>,
    /// Stacks: observed, confirmations that agreed, confirmations that contradicted, inferred.
    pub stacks: StackShare,
}

/// How stacks of events are known, in events.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct StackShare {
    /// First of their key.
    pub observed: u64,
    /// Taken to confirm, agreed.
    pub confirmed: u64,
    /// Taken to confirm, differed.
    pub contradicted: u64,
    /// Learned, not taken.
    pub inferred: u64,
    /// Events that confirmations which agreed stand for, over the whole recording: an estimate in which
    /// each check stands for the events inferred since the check before it of the same path. 0 with `weight_differed` is "not known".
    pub weight_agreed: u64,
    /// As `weight_agreed`, for confirmations that differed.
    pub weight_differed: u64,
    /// No stack.
    pub none: u64,
}

/// One notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NoticeRow {
    /// `info`, `data-loss` or `error`.
    pub severity: String,
    /// One sentence.
    pub text: String,
    /// How many.
    pub count: u64,
}
