//! Edges of the path graph that lead from one skb to another: cut, merged, copied, put together.

use std::collections::BTreeMap;

use psc_formats::EventKind;

use super::graph::Spot;
use crate::bounded::Bounded;
use crate::engine::{ClosedJourney, Lineage};

/// Journeys whose places are remembered for those joined to them.
const MAX: usize = 1 << 12;

/// Edges kept at most.
const MAX_EDGES: usize = 1 << 10;

/// Where a journey ended, and where the stack got it from the device.
#[derive(Clone, Copy, Debug)]
struct Places {
    last: Spot,
    received: Spot,
}

/// Collects the edges.
#[derive(Debug)]
pub(super) struct Kin {
    known: Bounded<u64, Places>,
    /// Where parts ended, by the journey they went into, until that closes.
    waiting: Bounded<u64, Vec<Spot>>,
    pub(super) edges: BTreeMap<(Spot, Spot), u64>,
}

impl Default for Kin {
    fn default() -> Self {
        Self { known: Bounded::new(MAX), waiting: Bounded::new(MAX), edges: BTreeMap::new() }
    }
}

impl Kin {
    /// A journey that closed: where it began and ended, and where the stack got it from a device.
    pub(super) fn see(
        &mut self,
        journey: &ClosedJourney,
        first: Spot,
        last: Spot,
        received: Option<Spot>,
    ) {
        if matches!(journey.steps.first().map(|step| step.kind), Some(EventKind::Captured { .. })) {
            return;
        }
        let received = received.unwrap_or(first);
        let places = Places { last, received };
        for part in self.waiting.remove(&journey.id.0).unwrap_or_default() {
            self.edge(part, received);
        }
        for edge in &journey.lineage {
            let of = self.known.get(&edge.of.0).copied();
            match edge.how {
                Lineage::Merged | Lineage::Reassembled => {
                    if let Some(whole) = of {
                        self.edge(last, whole.received);
                    } else {
                        let parts = self.waiting.entry_or_forget(edge.of.0, Vec::new);
                        if parts.len() < 256 {
                            parts.push(last);
                        }
                    }
                }
                // Fragments of what was cut before any probe are only joined to each other.
                Lineage::Clone | Lineage::Copy | Lineage::Segment | Lineage::Fragment => {
                    if let Some(parent) = of {
                        self.edge(parent.last, first);
                    }
                }
            }
        }
        self.known.entry_or_forget(journey.id.0, || places);
    }

    fn edge(&mut self, from: Spot, to: Spot) {
        if self.edges.len() < MAX_EDGES || self.edges.contains_key(&(from, to)) {
            *self.edges.entry((from, to)).or_default() += 1;
        }
    }
}
