//! What `psc diff` shows: how the second of two recordings differs from the first.

use serde::Serialize;

use super::Provenance;
use super::trace::{Latency, PathStep};

/// Two recordings compared.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DiffView {
    /// The recording compared with.
    pub base: Provenance,
    /// The recording compared.
    pub new: Provenance,
    /// What the two have in common, so that only that is compared.
    pub common: DiffCommon,
    /// Journeys of both: listeners' clones are none.
    pub journeys: DiffJourneys,
    /// Changes beyond chance, over all three lists, whether or not a limit hides them.
    pub significant: u64,
    /// Drops by reason and function that are new, gone, more or fewer; beyond chance first, then most
    /// journeys first.
    pub drops: Vec<DropChange>,
    /// Drops compared that are not in `drops`: as frequent as before.
    pub drops_same: u64,
    /// Paths that appeared or vanished, or are travelled more or less often; order as `drops`.
    pub paths: Vec<PathChange>,
    /// Paths compared that are not in `paths`: as frequent as before.
    pub paths_same: u64,
    /// Changed paths not in `paths` because of the limit.
    pub paths_omitted: u64,
    /// Steps whose time moved beyond chance and by more than the threshold, largest first.
    pub steps: Vec<StepChange>,
    /// Steps compared that are not in `steps`: their time did not move.
    pub steps_same: u64,
    /// Steps that both recordings have, but too few times in one of them to tell.
    pub steps_untold: u64,
    /// Moved steps not in `steps` because of the limit.
    pub steps_omitted: u64,
    /// How it was decided what is a change.
    pub method: DiffMethod,
}

/// What two recordings have in common.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DiffCommon {
    /// Probes that both have: steps at others are left out before anything is compared.
    pub probes: u64,
    /// Attached in the base alone.
    pub only_base: Vec<String>,
    /// Attached in the new one alone.
    pub only_new: Vec<String>,
    /// Functions were compared: both have kernel stacks. Otherwise steps are named by probe alone.
    pub functions: bool,
    /// Devices were compared: the two share a device name. Otherwise paths are told without devices.
    pub devices: bool,
    /// What a reader must know before believing a change, one sentence each.
    pub notes: Vec<String>,
}

/// Journeys of two recordings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DiffJourneys {
    /// Journeys of the base.
    pub base: u64,
    /// Journeys of the new one.
    pub new: u64,
    /// Of them dropped, in the base.
    pub base_dropped: u64,
    /// Of them dropped, in the new one.
    pub new_dropped: u64,
}

/// Drops of one reason in one function.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DropChange {
    /// `new` (the base has none), `gone`, `more` or `fewer`.
    pub change: String,
    /// Drop reason.
    pub reason: String,
    /// Layer name.
    pub layer: String,
    /// Function that dropped, without offset: offsets differ between builds of one kernel.
    pub function: String,
    /// Journeys dropped, base; with those that the recorder counted instead of storing.
    pub base: u64,
    /// Journeys dropped, new.
    pub new: u64,
    /// Whether chance is ruled out at the level of `method`.
    pub significant: bool,
    /// How often chance alone would differ as much, after correction for the number of comparisons; four
    /// significant digits.
    pub chance: f64,
    /// A journey of the recording that has more of them; `None` when all were only counted.
    pub example: Option<u64>,
}

/// One path.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PathChange {
    /// `appeared` (the base has none), `vanished`, `more` or `fewer`.
    pub change: String,
    /// Its steps at common probes.
    pub steps: Vec<PathStep>,
    /// `delivered`, `dropped: NO_SOCKET`, `end not observed`.
    pub outcome: String,
    /// Journeys, base.
    pub base: u64,
    /// Journeys, new.
    pub new: u64,
    /// As [`DropChange::significant`].
    pub significant: bool,
    /// As [`DropChange::chance`].
    pub chance: f64,
    /// A journey of the recording that has more of them.
    pub example: u64,
}

/// The time of one step, from one probe to the next.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StepChange {
    /// `slower` or `faster`: the median moved; `slower tail` or `faster tail`: only the 99th
    /// percentile did.
    pub change: String,
    /// Where it starts.
    pub from: StepEnd,
    /// Where it ends.
    pub to: StepEnd,
    /// Times, base.
    pub base: Latency,
    /// Times, new.
    pub new: Latency,
    /// What moved (median or 99th percentile), new minus base, nanoseconds.
    pub shift_ns: i64,
    /// Probability that a step of the new recording takes longer than one of the base, ties halved: 0.5
    /// is no difference.
    pub superiority: f64,
    /// As [`DropChange::chance`].
    pub chance: f64,
}

/// Where a step starts or ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct StepEnd {
    /// Layer name.
    pub layer: String,
    /// Probe name.
    pub probe: String,
    /// Function that reached the probe; empty when unknown or not compared.
    pub function: String,
}

/// How it was decided what is a change.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DiffMethod {
    /// Expected share of false ones among the changes called significant.
    pub false_discovery: f64,
    /// Smallest relative move of a step's median or 99th percentile that is called one.
    pub threshold: f64,
    /// Comparisons made, all of which the correction counts.
    pub comparisons: u64,
    /// The tests in words, with their sources.
    pub tests: Vec<String>,
}
