//! What of a packet another host knows again, and when it left or came.

use std::collections::hash_map::Entry;

use psc_formats::event::SkbAddr;
use psc_formats::packet::{Headers, Network, Transport};
use psc_formats::{Event, EventKind, FiveTuple, Ns};
use rustc_hash::FxHashMap;

use crate::engine::{ClosedJourney, JourneyId, Observer, Sighting, World};

/// Packets remembered of one recording: enough for any bound, in bounded memory.
const MOST: usize = 1 << 20;

/// What does not change on the way between two hosts that share a link or route to each other without NAT.
/// Checksums are left out: a sender that leaves them to its card has not made them yet.
pub(super) type Key = (FiveTuple, [u32; 4]);

/// A packet as it was at one place: its content, and the TTL that tells where on its way it was.
type Look = (Key, u8);

/// When and where a packet left or came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Time on its recording's clock.
    pub at: Ns,
    /// CPU of the event.
    pub cpu: u16,
    /// Its number on that CPU.
    pub seq: u64,
    /// Its skb.
    pub skb: SkbAddr,
}

/// The packets of a recording that another may know: those that look like no other.
#[derive(Debug, Default)]
pub struct Marks {
    /// First and latest look of journeys that are open: between them may be a translation.
    open: FxHashMap<JourneyId, (Look, Look)>,
    /// `None`: several look alike.
    pub(super) sent: FxHashMap<Look, Option<Mark>>,
    pub(super) received: FxHashMap<Look, Option<Mark>>,
}

fn look(headers: &Headers, bytes: &[u8]) -> Option<Look> {
    let tuple = headers.tuple()?;
    let (id, fragment) = match headers.network {
        Network::V4(ip) => (u32::from(ip.id), u32::from(ip.fragment_offset)),
        Network::V6(ip) => {
            (ip.flow_label, ip.fragment.map_or(0, |(id, offset, _)| id ^ u32::from(offset)))
        }
        Network::Arp(_) | Network::None => return None,
    };
    let detail = match headers.transport {
        Transport::Tcp(tcp) => [
            tcp.seq,
            tcp.ack ^ tcp.options.timestamp.map_or(0, |(value, _)| value),
            u32::from(tcp.flags),
        ],
        Transport::Udp(udp) => {
            let from = usize::from(headers.payload_offset);
            let payload = bytes.get(from..).unwrap_or(&[]);
            let mut words = payload
                .chunks(4)
                .take(4)
                .map(|chunk| chunk.iter().fold(0, |word, byte| word << 8 | u32::from(*byte)));
            let mixed = words.by_ref().fold(0_u32, |sum, word| sum.rotate_left(7) ^ word);
            [u32::from(udp.len), mixed, 0]
        }
        Transport::Icmp(icmp) => {
            [u32::from(icmp.icmp_type) << 8 | u32::from(icmp.code), icmp.rest, 0]
        }
        Transport::Ports(..) | Transport::None => [headers.payload_len, 0, 0],
    };
    let key = (tuple, [id ^ fragment.rotate_left(16), detail[0], detail[1], detail[2]]);
    Some((key, headers.ttl().unwrap_or(0)))
}

fn mark(event: &Event) -> Mark {
    Mark { at: event.at, cpu: event.cpu, seq: event.seq, skb: event.skb }
}

fn note(marks: &mut FxHashMap<Look, Option<Mark>>, look: Look, mark: Mark) {
    let full = marks.len() >= MOST;
    match marks.entry(look) {
        // Two that look alike tell nothing.
        Entry::Occupied(mut known) => drop(known.insert(None)),
        Entry::Vacant(free) if !full => drop(free.insert(Some(mark))),
        Entry::Vacant(_) => {}
    }
}

impl Observer for Marks {
    fn sighting(&mut self, _: World<'_>, sighting: &Sighting<'_>) {
        if !sighting.fresh {
            return;
        }
        let Some(look) = sighting.headers.and_then(|headers| look(headers, sighting.bytes)) else {
            return;
        };
        match (sighting.event.kind, sighting.journey) {
            (EventKind::Captured { direction: 1 }, _) => {
                note(&mut self.received, look, mark(sighting.event));
            }
            (EventKind::Captured { direction: 2 }, _) => {
                note(&mut self.sent, look, mark(sighting.event));
            }
            (_, Some(journey)) => match self.open.entry(journey) {
                Entry::Occupied(mut known) => known.get_mut().1 = look,
                Entry::Vacant(free) => drop(free.insert((look, look))),
            },
            (_, None) => {}
        }
    }

    fn closed(&mut self, _: World<'_>, journey: &ClosedJourney) {
        let Some((first_look, last_look)) = self.open.remove(&journey.id) else { return };
        if journey.clone {
            return;
        }
        let came = |event: &&Event| {
            matches!(
                event.kind,
                EventKind::GroReceive {} | EventKind::BacklogQueue {} | EventKind::Receive {}
            )
        };
        if let Some(first) = journey.tier_one().next().filter(came) {
            note(&mut self.received, first_look, mark(first));
        }
        let left = |event: &&Event| matches!(event.kind, EventKind::TransmitStart {});
        if let Some(last) = journey.steps.iter().rev().find(left) {
            note(&mut self.sent, last_look, mark(last));
        }
    }
}
