//! Skbs that GRO merges into one, told by content: after the merge the first goes on with more bytes, and
//! those of its flow whose payload fills exactly that room are in it.

use std::collections::VecDeque;

use psc_formats::event::DeviceId;
use psc_formats::packet::Headers;
use psc_formats::{Event, EventKind, FiveTuple, Ns};
use rustc_hash::FxHashMap;

use super::Journeys;
use crate::engine::{Evidence, JourneyId, Lineage};

/// How long GRO may hold an skb, nanoseconds of event time; in truth one NAPI poll, or
/// `gro_flush_timeout`.
const WINDOW: u64 = 1_000_000_000;

/// Skbs held by GRO at most, of all devices; beyond, the oldest are forgotten.
const MAX_HELD: usize = 1 << 18;

type Key = (DeviceId, FiveTuple);

/// An skb in GRO.
#[derive(Clone, Copy, Debug)]
struct Held {
    slot: u32,
    id: JourneyId,
    at: Ns,
    /// TCP sequence number; `None` for UDP.
    seq: Option<u32>,
    payload: u32,
    /// Bytes of `skb->len` before the payload.
    overhead: u32,
}

/// Skbs in GRO by device and flow, in order of arrival.
#[derive(Debug, Default)]
pub(super) struct Merges {
    held: FxHashMap<Key, Vec<Held>>,
    ages: VecDeque<(Ns, Key)>,
}

impl Merges {
    fn hold(&mut self, key: Key, held: Held) {
        while let Some(&(at, old)) = self.ages.front()
            && (at.0.saturating_add(WINDOW) < held.at.0 || self.ages.len() >= MAX_HELD)
        {
            self.ages.pop_front();
            if let Some(list) = self.held.get_mut(&old) {
                list.retain(|one| one.at > at);
                if list.is_empty() {
                    self.held.remove(&old);
                }
            }
        }
        self.ages.push_back((held.at, key));
        self.held.entry(key).or_default().push(held);
    }
}

impl Journeys {
    /// GRO got an skb: it may be merged into another.
    pub(super) fn note_gro(&mut self, slot: u32, event: &Event) {
        let generation = self.slab.get(slot);
        let Some(headers) = generation.last_headers() else { return };
        let (Some(flow), true) = (headers.tuple(), headers.payload_len > 0) else { return };
        let Some(overhead) = event.len.checked_sub(headers.payload_len) else { return };
        let held = Held {
            slot,
            id: generation.id,
            at: event.at,
            seq: headers.tcp().map(|tcp| tcp.seq),
            payload: headers.payload_len,
            overhead,
        };
        self.merges.hold((event.device, flow), held);
    }

    /// The stack got an skb from GRO: joins to it those that were merged into it.
    pub(super) fn note_merged(&mut self, slot: u32, event: &Event) {
        if !matches!(event.kind, EventKind::Receive {}) || self.merges.held.is_empty() {
            return;
        }
        let generation = self.slab.get(slot);
        let id = generation.id;
        let Some(flow) = generation.last_headers().and_then(Headers::tuple) else { return };
        let key = (event.device, flow);
        let Some(list) = self.merges.held.get_mut(&key) else { return };
        let Some(at) = list.iter().position(|held| held.id == id) else { return };
        let head = list.remove(at);
        let room = event.len.saturating_sub(head.overhead).saturating_sub(head.payload);
        let parts = merged(&head, room, &list[at..]);
        let parts: Vec<Held> = parts.into_iter().map(|part| list[at + part]).collect();
        list.retain(|held| !parts.iter().any(|part| part.id == held.id));
        if list.is_empty() {
            self.merges.held.remove(&key);
        }
        for part in parts {
            if self.slab.holds(part.slot, part.id) {
                let generation = self.slab.get_mut(part.slot);
                generation.join(Lineage::Merged, id, Evidence::Content);
                generation.goes_on = true;
            }
        }
    }
}

/// Which of `after` fill the `room` behind the payload of `head`: by sequence number where there is one,
/// else the next ones, if they fill it exactly.
fn merged(head: &Held, room: u32, after: &[Held]) -> Vec<usize> {
    if room == 0 {
        return Vec::new();
    }
    let mut parts = Vec::new();
    let mut filled = 0;
    for (index, held) in after.iter().enumerate() {
        let fits = match (head.seq, held.seq) {
            (Some(first), Some(seq)) => {
                let offset = seq.wrapping_sub(first);
                offset >= head.payload
                    && offset.saturating_add(held.payload) <= head.payload.saturating_add(room)
            }
            _ => filled < room,
        };
        if fits {
            filled = filled.saturating_add(held.payload);
            parts.push(index);
        }
    }
    // A sequence number proves each by itself; without one, only the sum does.
    if head.seq.is_none() && filled != room {
        parts.clear();
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_fill_the_room_behind_the_head() {
        let held = |seq: Option<u32>, payload| Held {
            slot: 0,
            id: JourneyId(0),
            at: Ns(0),
            seq,
            payload,
            overhead: 52,
        };
        let tcp = |seqs: &[u32]| seqs.iter().map(|seq| held(Some(*seq), 100)).collect::<Vec<_>>();
        let udp = |lens: &[u32]| lens.iter().map(|len| held(None, *len)).collect::<Vec<_>>();
        #[rustfmt::skip]
        let cases = [
            ("nothing merged",     held(Some(0), 100),        0,   tcp(&[100, 200]),      vec![]),
            ("the next two",       held(Some(0), 100),        200, tcp(&[100, 200, 300]), vec![0, 1]),
            ("one lost, not seen", held(Some(0), 100),        300, tcp(&[100, 300, 400]), vec![0, 1]),
            ("behind the end",     held(Some(500), 100),      100, tcp(&[400, 600, 700]), vec![1]),
            ("around zero",        held(Some(u32::MAX), 100), 100, tcp(&[99, 199]),       vec![0]),
            ("datagrams",          held(None, 50),            70,  udp(&[50, 20, 50]),    vec![0, 1]),
            ("not exactly",        held(None, 50),            60,  udp(&[50, 20]),        vec![]),
        ];
        for (name, head, room, after, expected) in cases {
            assert_eq!(merged(&head, room, &after), expected, "{name}");
        }
    }
}
