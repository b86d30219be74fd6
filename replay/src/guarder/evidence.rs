//! What findings are made of: when, how many packets, which journeys, how many different values.

use std::collections::BTreeSet;

use crate::engine::JourneyId;
use crate::view::detect::Finding;

use super::detect::{Context, Packet};

/// The first journeys of a kind, for the evidence.
#[derive(Clone, Debug, Default)]
pub(super) struct Exemplars(Vec<u64>);

impl Exemplars {
    pub(super) fn add(&mut self, journey: Option<JourneyId>) {
        if let Some(journey) = journey
            && self.0.len() < 5
            && !self.0.contains(&journey.0)
        {
            self.0.push(journey.0);
        }
    }

    pub(super) fn list(&self) -> Vec<u64> {
        self.0.clone()
    }
}

/// Packets that are evidence: when, how many, and the first few of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    first: Option<u64>,
    last: u64,
    pub(crate) packets: u64,
    exemplars: Exemplars,
}

impl Seen {
    pub(super) fn add(&mut self, packet: &Packet<'_>) {
        self.at(packet.at, packet.journey);
    }

    pub(crate) fn at(&mut self, at: u64, journey: Option<JourneyId>) {
        self.first.get_or_insert(at);
        self.last = self.last.max(at);
        self.packets += 1;
        self.exemplars.add(journey);
    }

    pub(crate) fn merge(&mut self, later: &Self) {
        self.first = match (self.first, later.first) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.last = self.last.max(later.last);
        self.packets += later.packets;
        for journey in &later.exemplars.0 {
            self.exemplars.add(Some(JourneyId(*journey)));
        }
    }

    pub(crate) fn first(&self) -> u64 {
        self.first.unwrap_or(0)
    }

    pub(crate) fn last(&self) -> u64 {
        self.last
    }
}

/// Different values, counted exactly up to a limit.
#[derive(Clone, Debug)]
pub(super) struct Distinct<K> {
    seen: BTreeSet<K>,
    limit: usize,
    more: bool,
}

impl<K: Ord + Clone> Distinct<K> {
    pub(super) fn new(limit: usize) -> Self {
        Self { seen: BTreeSet::new(), limit, more: false }
    }

    /// Whether it is new, as far as that can be said.
    pub(super) fn add(&mut self, key: K) -> bool {
        if self.seen.len() < self.limit {
            return self.seen.insert(key);
        }
        let new = !self.seen.contains(&key);
        self.more |= new;
        new
    }

    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }

    pub(super) fn contains(&self, key: &K) -> bool {
        self.seen.contains(key)
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.more |= other.more;
        for key in other.seen {
            self.add(key);
        }
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &K> {
        self.seen.iter()
    }

    /// `12`, or `more than 1024`.
    pub(super) fn count(&self) -> String {
        format!("{}{}", if self.more { "more than " } else { "" }, self.seen.len())
    }
}

/// Up to `limit` of them, and how many more there are.
pub(super) fn listed(names: impl ExactSizeIterator<Item = String>, limit: usize) -> String {
    let more = names.len().saturating_sub(limit);
    let mut list: Vec<String> = names.take(limit).collect();
    if more > 0 {
        list.push(format!("and {more} more"));
    }
    list.join(", ")
}

/// FNV-1a, to remember that bytes were seen without keeping them.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, b: &u8| (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

pub(super) fn counted(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// A finding before the recording's own doubts are added.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) id: &'a str,
    pub(super) severity: &'a str,
    /// The detector's own doubt: `medium: ...` or `low: ...`.
    pub(super) doubt: Option<&'a str>,
    pub(super) title: String,
    pub(super) evidence: Vec<String>,
    pub(super) effect: String,
    pub(super) advice: &'a str,
    pub(super) actors: Vec<String>,
    pub(super) targets: Vec<String>,
    pub(super) seen: &'a Seen,
    pub(super) references: &'a [&'a str],
}

impl Draft<'_> {
    pub(super) fn finding(self, context: &Context<'_>) -> Finding {
        Finding {
            id: self.id.to_owned(),
            severity: self.severity.to_owned(),
            confidence: context.confidence(self.doubt),
            title: self.title,
            evidence: self.evidence,
            effect: self.effect,
            advice: self.advice.to_owned(),
            actors: self.actors,
            targets: self.targets,
            first: self.seen.first(),
            last: self.seen.last(),
            packets: self.seen.packets,
            journeys: self.seen.exemplars.list(),
            references: self.references.iter().map(|text| (*text).to_owned()).collect(),
        }
    }
}
