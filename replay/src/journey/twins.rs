//! Recent packets by content, to recognise clones and copies.

use std::collections::VecDeque;

use psc_formats::Ns;
use rustc_hash::FxHashMap;

use crate::engine::JourneyId;

/// How long a packet is remembered after its birth, event time.
const WINDOW: u64 = 2_000_000_000;

/// Packets remembered at most.
const MAX: usize = 1 << 18;

/// A journey that was born with some content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Twin {
    pub(super) id: JourneyId,
    /// Its slot, as long as that still holds `id`.
    pub(super) slot: u32,
}

/// The latest journey of each content.
#[derive(Debug, Default)]
pub(super) struct Twins {
    by_content: FxHashMap<u64, Twin>,
    order: VecDeque<(Ns, u64, JourneyId)>,
}

impl Twins {
    pub(super) fn insert(&mut self, now: Ns, content: u64, twin: Twin) {
        while let Some(&(at, old, id)) = self.order.front() {
            if at.0.saturating_add(WINDOW) > now.0 && self.order.len() < MAX {
                break;
            }
            self.order.pop_front();
            if self.by_content.get(&old).is_some_and(|known| known.id == id) {
                self.by_content.remove(&old);
            }
        }
        self.by_content.insert(content, twin);
        self.order.push_back((now, content, twin.id));
    }

    pub(super) fn get(&self, content: u64) -> Option<Twin> {
        self.by_content.get(&content).copied()
    }
}
