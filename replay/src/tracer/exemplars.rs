//! Which journeys to tell in full.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::engine::{ClosedJourney, Outcome};

/// Slowest journeys told.
const SLOWEST: usize = 5;

/// Journeys told of each drop reason and place.
const PER_DROP: usize = 2;

/// Reasons and places of drops told at most.
const MAX_DROPS: usize = 64;

/// Journeys kept for telling.
#[derive(Debug, Default)]
pub(super) struct Exemplars {
    limit: usize,
    slowest: BTreeMap<(u64, Reverse<u64>), Rc<ClosedJourney>>,
    dropped: BTreeMap<(u32, u32), Drops>,
    earliest: BTreeMap<u64, Rc<ClosedJourney>>,
}

/// Those of one reason and place.
#[derive(Debug)]
struct Drops {
    packets: u64,
    told: Vec<Rc<ClosedJourney>>,
}

impl Exemplars {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Looks at one journey; `path` wants it as the example of its shape, too, and gets it.
    ///
    /// `took` is how long it was under way, nanoseconds, which its free may come long after.
    pub(super) fn see(
        &mut self,
        journey: &ClosedJourney,
        took: u64,
        path: bool,
    ) -> Option<Rc<ClosedJourney>> {
        let id = journey.id.0;
        let slow = (took, Reverse(id));
        let is_slow = !journey.clone
            && journey.steps.len() > 1
            && (self.slowest.len() < SLOWEST
                || self.slowest.first_key_value().is_some_and(|(least, _)| *least < slow));
        let drop = match journey.outcome {
            Outcome::Dropped { reason, location } => Some((reason, location.0)),
            Outcome::Delivered | Outcome::EndNotObserved => None,
        };
        if let Some(drops) = drop.and_then(|key| self.dropped.get_mut(&key)) {
            drops.packets += 1;
        }
        let drop = drop.filter(|key| match self.dropped.get(key) {
            // Journeys close out of order; the earliest are told.
            Some(Drops { told, .. }) => {
                told.len() < PER_DROP || told.last().is_some_and(|last| last.id.0 > id)
            }
            None => self.dropped.len() < MAX_DROPS,
        });
        let is_early = self.limit > 0
            && (self.earliest.len() < self.limit
                || self.earliest.last_key_value().is_some_and(|(last, _)| *last > id));
        if !(path || is_slow || is_early || drop.is_some()) {
            return None;
        }
        let kept = Rc::new(journey.clone());
        if is_slow {
            self.slowest.insert(slow, Rc::clone(&kept));
            if self.slowest.len() > SLOWEST {
                self.slowest.pop_first();
            }
        }
        if let Some(key) = drop {
            let of_key = self.dropped.entry(key).or_insert(Drops { packets: 1, told: Vec::new() });
            of_key.told.push(Rc::clone(&kept));
            of_key.told.sort_by_key(|journey| journey.id);
            of_key.told.truncate(PER_DROP);
        }
        if is_early {
            self.earliest.insert(id, Rc::clone(&kept));
            if self.earliest.len() > self.limit {
                self.earliest.pop_last();
            }
        }
        Some(kept)
    }

    /// The earliest, in time order, without a role.
    pub(super) fn in_order(&self) -> Vec<(&'static str, Rc<ClosedJourney>)> {
        self.earliest.values().map(|journey| ("", Rc::clone(journey))).collect()
    }

    /// Each once with its role: slowest, dropped (one of each reason and place, most packets first, then another
    /// of each), `typical`, then in time order.
    pub(super) fn roles(
        &self,
        typical: &[Rc<ClosedJourney>],
        others: &[Rc<ClosedJourney>],
    ) -> Vec<(&'static str, Rc<ClosedJourney>)> {
        let mut told = BTreeSet::new();
        let slowest = self.slowest.values().rev().map(|journey| ("slowest", journey));
        let mut drops: Vec<&Drops> = self.dropped.values().collect();
        drops.sort_by_key(|drops| Reverse(drops.packets));
        let dropped = (0..PER_DROP)
            .flat_map(|nth| drops.iter().filter_map(move |drops| drops.told.get(nth)))
            .map(|journey| ("dropped", journey));
        let typical = typical.iter().map(|journey| ("typical", journey));
        let mut rows: Vec<_> = slowest
            .chain(dropped)
            .chain(typical)
            .filter(|(_, journey)| told.insert(journey.id))
            .map(|(role, journey)| (role, Rc::clone(journey)))
            .collect();
        let mut rest: Vec<_> = others
            .iter()
            .chain(self.earliest.values())
            .filter(|journey| told.insert(journey.id))
            .map(|journey| ("", Rc::clone(journey)))
            .collect();
        rest.sort_by_key(|(_, journey)| journey.id);
        rows.append(&mut rest);
        rows
    }
}
