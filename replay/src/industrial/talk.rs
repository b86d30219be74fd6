//! Who talks to whom: what was said between each client and server.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Effect, Message, Protocol, Role};
use crate::guarder::Seen;

/// Pairs at once; units, functions and address ranges of each.
const PAIRS: usize = 4_096;
const UNITS: usize = 256;
const RANGES: usize = 256;

/// One client and one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ends {
    pub(crate) protocol: Protocol,
    pub(crate) client: IpAddr,
    pub(crate) server: IpAddr,
}

/// One function between them.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) effect: Effect,
    pub(crate) asked: Seen,
    /// Those of them that had the effect: one code may do more or less by what follows it.
    pub(crate) told: Seen,
    pub(crate) refused: u64,
    /// First and last address and count, merged.
    pub(crate) ranges: BTreeSet<(u32, u32)>,
}

/// What was said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Talk {
    pub(crate) functions: BTreeMap<u16, Function>,
    pub(crate) units: BTreeSet<u32>,
    pub(crate) seen: Seen,
    pub(crate) wrong: Seen,
    pub(crate) wrong_bytes: u64,
    pub(crate) requests: u64,
    pub(crate) responses: u64,
    pub(crate) refusals: Seen,
    /// Answers of a gateway that the unit behind it is silent: neither refused nor granted.
    pub(crate) absent: u64,
}

/// All pairs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Talks {
    pub(crate) pairs: BTreeMap<Ends, Talk>,
    /// Pairs that found no room.
    pub(crate) untold: u64,
}

impl Talks {
    /// The pair, unless there are too many.
    pub(crate) fn of(&mut self, ends: Ends) -> Option<&mut Talk> {
        if self.pairs.len() >= PAIRS && !self.pairs.contains_key(&ends) {
            self.untold += 1;
            return None;
        }
        Some(self.pairs.entry(ends).or_default())
    }
}

impl Talk {
    pub(crate) fn heard(
        &mut self,
        message: &Message,
        at: u64,
        journey: Option<crate::engine::JourneyId>,
    ) {
        self.seen.at(at, journey);
        match message.role {
            Role::Request => {
                self.requests += 1;
                if self.units.len() < UNITS {
                    self.units.insert(message.unit);
                }
                let function = self.functions.entry(message.function).or_insert_with(|| Function {
                    name: message.name,
                    effect: message.effect,
                    asked: Seen::default(),
                    told: Seen::default(),
                    refused: 0,
                    ranges: BTreeSet::new(),
                });
                let heavy = matches!(message.effect, Effect::Write | Effect::Control);
                if heavy && message.effect > function.effect {
                    (function.name, function.effect) = (message.name, message.effect);
                    function.told = Seen::default();
                }
                if message.effect == function.effect {
                    function.told.at(at, journey);
                }
                function.asked.at(at, journey);
                if let Some((first, count)) = message.address {
                    function.covers(first, first.saturating_add(count.max(1) - 1));
                }
            }
            Role::Response => {
                self.responses += 1;
                if message.refused.is_some() {
                    self.refusals.at(at, journey);
                    if let Some(function) = self.functions.get_mut(&message.function) {
                        function.refused += 1;
                    }
                }
            }
        }
    }
}

impl Function {
    /// Adds a range, joined with those that it touches.
    fn covers(&mut self, mut first: u32, mut last: u32) {
        let touching: Vec<(u32, u32)> = self
            .ranges
            .iter()
            .filter(|(from, to)| *from <= last.saturating_add(1) && first <= to.saturating_add(1))
            .copied()
            .collect();
        for range in touching {
            first = first.min(range.0);
            last = last.max(range.1);
            self.ranges.remove(&range);
        }
        if self.ranges.len() >= RANGES
            && let Some(range) = self.ranges.pop_last()
        {
            first = first.min(range.0);
            last = last.max(range.1);
        }
        self.ranges.insert((first, last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_joined_and_bounded() {
        let mut function = Function {
            name: "",
            effect: Effect::Read,
            asked: Seen::default(),
            told: Seen::default(),
            refused: 0,
            ranges: BTreeSet::new(),
        };
        for (first, last) in [(10, 19), (30, 39), (20, 29), (100, 100)] {
            function.covers(first, last);
        }
        assert_eq!(function.ranges.iter().copied().collect::<Vec<_>>(), [(10, 39), (100, 100)]);
        for n in 0..10_000 {
            function.covers(1000 + n * 7, 1000 + n * 7);
        }
        assert!(function.ranges.len() <= RANGES);
    }
}
