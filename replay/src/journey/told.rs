//! Lineage that a function probe saw: which skb was made of which, or went into which.
//!
//! It names edges and decides nothing else: identity, counts and ends are the same without it.

use std::collections::VecDeque;

use psc_formats::{Event, EventKind, Ns, SkbAddr};
use rustc_hash::FxHashMap;

use super::Journeys;
use crate::engine::{Evidence, JourneyId, Lineage};

/// How long an skb may exist before a probe of tier 1 sees it, nanoseconds of event time.
const WINDOW: u64 = 1_000_000_000;

/// Skbs told of and not seen yet, at most.
const MAX: usize = 1 << 16;

#[derive(Clone, Copy, Debug)]
struct Told {
    how: Lineage,
    of: JourneyId,
    at: Ns,
}

/// What was told of skbs that no journey has yet.
#[derive(Debug, Default)]
pub(super) struct Tellings {
    of: FxHashMap<SkbAddr, Told>,
    ages: VecDeque<(Ns, SkbAddr)>,
}

impl Journeys {
    /// Takes in an event that tells of lineage.
    pub(super) fn note_told(&mut self, event: &Event) {
        let at_hand = |skb| self.nested(event).or_else(|| self.current(skb));
        let how = match event.kind {
            EventKind::Cloned { .. } => Lineage::Clone,
            EventKind::Copied { .. } => Lineage::Copy,
            EventKind::Segmented { .. } => Lineage::Segment,
            EventKind::Fragmented { .. } => Lineage::Fragment,
            EventKind::Merged { into } | EventKind::Reassembled { into } => {
                let how = match event.kind {
                    EventKind::Merged { .. } => Lineage::Merged,
                    _ => Lineage::Reassembled,
                };
                if let (Some(part), Some(whole)) = (at_hand(event.skb), self.current(into)) {
                    let of = self.slab.get(whole).id;
                    self.slab.get_mut(part).join(how, of, Evidence::Observed);
                }
                return;
            }
            _ => return,
        };
        let (Some(child), Some(parent)) = (event.kind.other_skb(), at_hand(event.skb)) else {
            return;
        };
        let of = self.slab.get(parent).id;
        let told = &mut self.told;
        while let Some(&(at, skb)) = told.ages.front()
            && (at.0.saturating_add(WINDOW) < event.at.0 || told.ages.len() >= MAX)
        {
            told.ages.pop_front();
            if told.of.get(&skb).is_some_and(|telling| telling.at == at) {
                told.of.remove(&skb);
            }
        }
        told.ages.push_back((event.at, child));
        told.of.insert(child, Told { how, of, at: event.at });
    }

    /// Joins a generation that has just opened to what was told of its address.
    pub(super) fn take_told(&mut self, slot: u32, event: &Event) {
        if self.told.of.is_empty() {
            return;
        }
        if let Some(told) = self.told.of.remove(&event.skb)
            && told.at.0.saturating_add(WINDOW) >= event.at.0
        {
            self.slab.get_mut(slot).join(told.how, told.of, Evidence::Observed);
        }
    }
}
