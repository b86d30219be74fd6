//! Packets that go on in another host's recording: one journey over all of them.
//!
//! A merged recording says at a packet's last transmit which event is its first on the next host, by skb and time
//! (`EventKind::Handed`). The generation that opens with exactly that event gets the number of the journey that
//! was handed on. On each host it is a generation like any other; when the last of them has closed, they are told as
//! one journey, their events in time order.

use std::collections::{BTreeMap, VecDeque};

use psc_formats::packet::Headers;
use psc_formats::{Event, EventKind, Ns, SkbAddr};
use rustc_hash::FxHashMap;

use super::Journeys;
use crate::engine::{ClosedJourney, JourneyId};

/// Journeys under way between hosts or on several of them, at most; further ones are told host by host.
const MAX: usize = 1 << 18;

/// Hosts of one journey, at most: a packet in a loop of hosts is not followed for ever.
const MAX_PARTS: u32 = 256;

/// What is known of one journey over several hosts.
#[derive(Debug, Default)]
struct Parts {
    /// Generations opened so far.
    opened: u32,
    /// Of those, not yet closed.
    open: u32,
    /// Arrivals that were told of and have not been seen.
    expected: u32,
    /// Parts that have closed, each with its place in the order in which they opened.
    closed: Vec<(u32, ClosedJourney)>,
}

impl Parts {
    fn is_over(&self) -> bool {
        self.open == 0 && self.expected == 0
    }
}

/// Journeys over several hosts.
#[derive(Debug, Default)]
pub(super) struct Handed {
    expected: BTreeMap<(Ns, SkbAddr), JourneyId>,
    parts: FxHashMap<JourneyId, Parts>,
    /// Over, and to be told.
    ready: VecDeque<JourneyId>,
}

impl Handed {
    pub(super) fn len(&self) -> usize {
        self.parts.len()
    }

    /// The journey that goes on with the generation that `event` opens, and its place among the journey's parts.
    pub(super) fn arrives(&mut self, event: &Event) -> Option<(JourneyId, u32)> {
        let id = self.expected.remove(&(event.at, event.skb))?;
        let parts = self.parts.get_mut(&id)?;
        parts.expected -= 1;
        parts.open += 1;
        parts.opened += 1;
        Some((id, parts.opened - 1))
    }

    /// Gives up arrivals before `now`: events come in time order.
    pub(super) fn expire(&mut self, now: Ns) {
        while let Some(first) = self.expected.first_entry()
            && first.key().0 < now
        {
            let id = first.remove();
            if let Some(parts) = self.parts.get_mut(&id) {
                parts.expected -= 1;
                if parts.is_over() {
                    self.ready.push_back(id);
                }
            }
        }
    }

    /// Whether a closed generation is a part of a journey that goes on elsewhere.
    pub(super) fn holds(&self, id: JourneyId) -> bool {
        !self.parts.is_empty() && self.parts.contains_key(&id)
    }

    /// Keeps a part that closed until all have.
    pub(super) fn keep(&mut self, part: u32, closed: ClosedJourney) {
        let id = closed.id;
        let Some(parts) = self.parts.get_mut(&id) else { return };
        parts.open -= 1;
        parts.closed.push((part, closed));
        if parts.is_over() {
            self.ready.push_back(id);
        }
    }

    /// A journey all of whose parts have closed.
    pub(super) fn take_ready(&mut self) -> Option<ClosedJourney> {
        let id = self.ready.pop_front()?;
        let mut parts = self.parts.remove(&id)?.closed;
        parts.sort_by_key(|(part, _)| *part);
        let mut parts = parts.into_iter().map(|(_, closed)| closed);
        let first = parts.next()?;
        Some(parts.fold(first, joined))
    }
}

/// Two parts as one journey, `next` on the later host.
fn joined(first: ClosedJourney, next: ClosedJourney) -> ClosedJourney {
    let (mut steps, mut headers) = (Vec::new(), Vec::<(u32, Headers)>::new());
    let mut rest = [first.steps.iter().peekable(), next.steps.iter().peekable()];
    let mut states = [first.headers.iter().peekable(), next.headers.iter().peekable()];
    let mut taken = [0_u32; 2];
    loop {
        let at = |part: &mut std::iter::Peekable<std::slice::Iter<'_, Event>>| {
            part.peek().map(|step| step.at)
        };
        let [a, b] = &mut rest;
        let part = match (at(a), at(b)) {
            (Some(a), Some(b)) => usize::from(b < a),
            (Some(_), None) => 0,
            (None, Some(_)) => 1,
            (None, None) => break,
        };
        while let Some((_, state)) = states[part].next_if(|(from, _)| *from <= taken[part]) {
            // The next host saw what this one sent: only what differs is news.
            if headers.last().is_none_or(|(_, known)| known != state) {
                headers.push((steps.len() as u32, *state));
            }
        }
        taken[part] += 1;
        steps.extend(rest[part].next());
    }
    let mut lineage = first.lineage;
    lineage.extend(next.lineage);
    lineage.retain(|edge| edge.of != first.id);
    ClosedJourney {
        id: first.id,
        skb: first.skb,
        steps,
        headers,
        flow: first.flow.or(next.flow),
        outcome: next.outcome,
        ambiguous: first.ambiguous.or(next.ambiguous),
        lineage,
        clone: first.clone,
    }
}

impl Journeys {
    /// Takes in that a packet goes on on another host.
    pub(super) fn note_handed(&mut self, event: &Event) {
        let EventKind::Handed { child, arrival, .. } = event.kind else { return };
        let Some(slot) = self.nested(event).or_else(|| self.current(event.skb)) else { return };
        let id = self.slab.get(slot).id;
        let handed = &mut self.handed;
        let key = (Ns(arrival), child);
        if key.0 < event.at || handed.parts.len() >= MAX || handed.expected.contains_key(&key) {
            return;
        }
        let parts = handed.parts.entry(id).or_insert_with(|| Parts {
            opened: 1,
            open: 1,
            ..Parts::default()
        });
        if parts.opened < MAX_PARTS {
            parts.expected += 1;
            handed.expected.insert(key, id);
        }
    }
}
