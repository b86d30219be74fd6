//! A rule as data, and what it finds.

use psc_formats::manifest::Layer;

use super::case::Case;
use super::seen::{Kind, Times};
use crate::view::detect::Finding;

/// One cause that can be told from a recording.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// Name of the cause, as findings carry it.
    pub(super) id: &'static str,
    /// Where in the stack the cause is.
    pub(super) layer: Layer,
    /// `high`, `medium` or `low`.
    pub(super) severity: &'static str,
    /// What it looks at.
    pub(super) looks_at: &'static str,
    /// What is then said to be the cause.
    pub(super) cause: &'static str,
    /// The healthy look-alike that it says nothing about.
    pub(super) silent_on: &'static str,
    /// Kernel files, manual pages, RFCs.
    pub(super) references: &'static [&'static str],
    /// How it is found.
    pub(super) find: Find,
}

/// How a rule finds its cause.
#[derive(Clone, Copy, Debug)]
pub(super) enum Find {
    /// Packets dropped for a reason at a place.
    Drops(DropRule),
    /// Several events, counters and facts together.
    Own(fn(&mut Case<'_>) -> Vec<Found>),
}

/// Packets dropped for a reason at a place are the cause themselves.
#[derive(Clone, Copy, Debug)]
pub(super) struct DropRule {
    /// `skb_drop_reason` names, any of these.
    pub(super) reasons: &'static [&'static str],
    /// Prefixes of the functions that discard, any of these; all when empty.
    pub(super) functions: &'static [&'static str],
    /// Kinds of packet, any of these; all when empty.
    pub(super) kinds: &'static [Kind],
    /// Fewer are no finding.
    pub(super) least: u64,
    /// Title, with the place holders of [`Case::fill`].
    pub(super) title: &'static str,
    /// What to change, with the same place holders.
    pub(super) advice: &'static str,
    /// Counters that confirm it.
    pub(super) counters: &'static [&'static str],
    /// Sysctls that decide it, with the same place holders.
    pub(super) sysctls: &'static [&'static str],
}

impl DropRule {
    pub(super) const PLAIN: Self = Self {
        reasons: &[],
        functions: &[],
        kinds: &[],
        least: 1,
        title: "",
        advice: "",
        counters: &[],
        sysctls: &[],
    };
}

/// How sure a finding is, before the recorder's own loss is taken into account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Sure {
    #[default]
    High,
    Medium(String),
    Low(String),
}

/// One cause found.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) title: String,
    pub(super) evidence: Vec<String>,
    /// What the stack did about it; empty is "confirmed by the kernel's own events".
    pub(super) effect: String,
    pub(super) advice: String,
    pub(super) actors: Vec<String>,
    /// Where first, then whom it hit.
    pub(super) targets: Vec<String>,
    pub(super) times: Times,
    pub(super) sure: Sure,
}

impl Rule {
    /// Runs the rule.
    pub(super) fn run(&self, case: &mut Case<'_>) -> Vec<Finding> {
        let found = match &self.find {
            Find::Drops(drops) => case.drops_of(drops),
            Find::Own(find) => find(case),
        };
        found.into_iter().map(|found| self.finding(case, found)).collect()
    }

    fn finding(&self, case: &Case<'_>, found: Found) -> Finding {
        let times = if found.times.count == 0 && found.times.first == 0 {
            Times { first: case.provenance.first, last: case.provenance.last, ..found.times }
        } else {
            found.times
        };
        let mut targets = found.targets;
        let mut known = std::collections::BTreeSet::new();
        targets.retain(|target| known.insert(target.clone()));
        Finding {
            id: self.id.to_owned(),
            severity: self.severity.to_owned(),
            confidence: case.confidence(&found.sure),
            title: found.title,
            evidence: found.evidence,
            effect: if found.effect.is_empty() {
                "confirmed: the kernel's own events say so.".to_owned()
            } else {
                found.effect
            },
            advice: found.advice,
            actors: found.actors,
            targets,
            first: times.first,
            last: times.last,
            packets: times.count,
            journeys: times.journeys.to_vec(),
            references: self.references.iter().map(|&reference| reference.to_owned()).collect(),
        }
    }
}
