//! What one protocol's packet did to another's socket or route.
//!
//! An ICMP error quotes the packet it is about (RFC 792, RFC 4443). When the socket of that flow is then told
//! of an error, when its next full packets fit the path MTU that the message names and those before did not, or
//! when packets to that destination then leave towards another neighbour after a redirect, the message
//! did it. And a packet about which the kernel sends an ICMP error is why that error exists.

use psc_formats::event::SkbAddr;
use psc_formats::packet::{Headers, Network, Transport};
use psc_formats::{EventKind, FiveTuple, Ns};

use super::graph::Spot;
use crate::bounded::Bounded;
use crate::engine::{JourneyId, Sighting};
use crate::view::trace::Effect;

/// Messages and flows remembered at most.
const MAX: usize = 1 << 13;

/// Effects told at most; further ones are in the graph's counts only.
const MAX_TOLD: usize = 64;

/// How long after a message its effect may show, nanoseconds: TCP's next transmission may wait for its
/// retransmission timer.
const WINDOW: u64 = 3_000_000_000;

/// Bytes that a full packet may be below the path MTU: TCP options, and IPv4 fragments' multiple of eight.
const SLACK: u32 = 72;

/// An ICMP message about a flow.
#[derive(Clone, Copy, Debug)]
struct Message {
    journey: JourneyId,
    at: Ns,
    icmp_type: u8,
    /// Path MTU that it names.
    mtu: Option<u32>,
    redirect: bool,
    place: Spot,
    /// The packets of its flow that are no larger have been told.
    told: bool,
}

/// What is known of a flow's packets.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    /// Largest network packet, bytes.
    largest: u32,
    /// Link-layer address it was last sent to.
    towards: Option<[u8; 6]>,
}

/// An error that the kernel is about to send on a CPU, about a packet.
#[derive(Clone, Copy, Debug)]
struct About {
    journey: JourneyId,
    at: Ns,
    place: Spot,
}

/// Collects effects.
#[derive(Debug)]
pub(super) struct Effects {
    messages: Bounded<FiveTuple, Message>,
    sent: Bounded<FiveTuple, Sent>,
    about: Vec<Option<About>>,
    /// Edges: from, to, times.
    pub(super) edges: std::collections::BTreeMap<(Spot, Spot), u64>,
    told: Vec<Effect>,
    omitted: u64,
}

impl Default for Effects {
    fn default() -> Self {
        Self {
            messages: Bounded::new(MAX),
            sent: Bounded::new(MAX),
            about: Vec::new(),
            edges: std::collections::BTreeMap::new(),
            told: Vec::new(),
            omitted: 0,
        }
    }
}

impl Effects {
    /// Whether a sighting can be of a cause or an effect.
    pub(super) fn concern(sighting: &Sighting<'_>) -> bool {
        let quotes = |headers: &Headers| matches!(headers.transport, Transport::Icmp(icmp) if icmp.quoted.is_some());
        match sighting.event.kind {
            EventKind::IcmpSend { .. }
            | EventKind::SockError { .. }
            | EventKind::DeviceQueue {}
            | EventKind::Captured { .. } => true,
            _ => sighting.headers.is_some_and(quotes),
        }
    }

    /// Looks at one sighting, which is at `place`.
    pub(super) fn see(&mut self, sighting: &Sighting<'_>, place: Spot) {
        let event = sighting.event;
        if let EventKind::IcmpSend { .. } = event.kind {
            self.sends(sighting, place);
            return;
        }
        if let EventKind::SockError { tuple, error } = event.kind {
            self.fails(sighting, place, tuple, error);
            return;
        }
        if event.skb == SkbAddr(0) && !matches!(event.kind, EventKind::Captured { .. }) {
            return;
        }
        let Some(headers) = sighting.headers else { return };
        let quoted = match headers.transport {
            Transport::Icmp(icmp) => icmp.quoted.map(|quoted| (icmp, quoted)),
            _ => None,
        };
        match (quoted, event.kind) {
            (Some((icmp, quoted)), kind) => {
                if matches!(kind, EventKind::DeviceQueue {}) {
                    self.answers(sighting, place);
                }
                let v6 = matches!(headers.network, Network::V6(_));
                let mtu = match (v6, icmp.icmp_type, icmp.code) {
                    (false, 3, 4) => Some(icmp.rest & 0xffff).filter(|mtu| *mtu >= 68),
                    (true, 2, _) => Some(icmp.rest),
                    _ => None,
                };
                let redirect = matches!((v6, icmp.icmp_type), (false, 5) | (true, 137));
                let Some(journey) = sighting.journey else { return };
                let message = Message {
                    journey,
                    at: event.at,
                    icmp_type: icmp.icmp_type,
                    mtu,
                    redirect,
                    place,
                    told: false,
                };
                let known = self.messages.entry_or_forget(quoted.tuple, || message);
                if known.journey == journey {
                    // Where the message has got to.
                    (known.at, known.place) = (event.at, place);
                } else {
                    *known = message;
                }
            }
            (None, EventKind::DeviceQueue {} | EventKind::Captured { .. }) => {
                self.sent(sighting, place, headers);
            }
            (None, _) => {}
        }
    }

    fn edge(&mut self, from: Spot, to: Spot) {
        if self.edges.len() < MAX || self.edges.contains_key(&(from, to)) {
            *self.edges.entry((from, to)).or_default() += 1;
        }
    }

    fn tell(&mut self, effect: Effect) {
        if self.told.len() < MAX_TOLD {
            self.told.push(effect);
        } else {
            self.omitted += 1;
        }
    }

    /// The kernel is about to send an error about this packet.
    fn sends(&mut self, sighting: &Sighting<'_>, place: Spot) {
        let Some(journey) = sighting.journey else { return };
        let cpu = usize::from(sighting.event.cpu);
        if self.about.len() <= cpu {
            self.about.resize(cpu + 1, None);
        }
        self.about[cpu] = Some(About { journey, at: sighting.event.at, place });
    }

    /// An ICMP error leaves: it is the one that this CPU was about to send.
    fn answers(&mut self, sighting: &Sighting<'_>, place: Spot) {
        let event = sighting.event;
        if event.iif != 0 {
            return;
        }
        let about = self.about.get_mut(usize::from(event.cpu)).and_then(Option::take);
        let (Some(about), Some(journey)) = (about, sighting.journey) else { return };
        // The same call sends it; a millisecond is long for that.
        if event.at.0.saturating_sub(about.at.0) > 1_000_000 || about.journey == journey {
            return;
        }
        self.edge(about.place, place);
        let headers = sighting.headers.map(psc_formats::packet::summary).unwrap_or_default();
        self.tell(Effect {
            at: event.at.0,
            kind: "error sent".to_owned(),
            cause: about.journey.0,
            journey: Some(journey.0),
            target: sighting
                .headers
                .and_then(Headers::tuple)
                .map_or_else(String::new, |t| t.to_string()),
            words: format!("the kernel answered journey {} with {headers}", about.journey.0),
            evidence: "observed".to_owned(),
        });
    }

    /// A socket was told of an error.
    fn fails(&mut self, sighting: &Sighting<'_>, place: Spot, tuple: FiveTuple, error: u32) {
        let at = sighting.event.at;
        let Some(message) = self.messages.get(&tuple).copied() else { return };
        if at.0.saturating_sub(message.at.0) > WINDOW {
            return;
        }
        self.edge(message.place, place);
        self.tell(Effect {
            at: at.0,
            kind: "socket error".to_owned(),
            cause: message.journey.0,
            journey: None,
            target: tuple.to_string(),
            words: format!(
                "the socket of {tuple} was told of error {}, {} after ICMP type {}",
                errno(error),
                micros(at.0.saturating_sub(message.at.0)),
                message.icmp_type
            ),
            evidence: "observed".to_owned(),
        });
    }

    /// A packet of a flow leaves: does it heed a message?
    fn sent(&mut self, sighting: &Sighting<'_>, place: Spot, headers: &Headers) {
        let event = sighting.event;
        let Some(tuple) = headers.tuple() else { return };
        let size = match event.gso.size {
            0 => size(headers),
            segment => size(headers).map(|size| {
                size.saturating_sub(headers.payload_len).saturating_add(segment.into())
            }),
        };
        let Some(size) = size else { return };
        let towards = headers.ethernet.map(|ethernet| ethernet.dst);
        let before = *self.sent.entry_or_forget(tuple, Sent::default);
        if let Some(sent) = self.sent.get_mut(&tuple) {
            sent.largest = sent.largest.max(size);
            sent.towards = towards.or(sent.towards);
        }
        let Some(message) = self.messages.get(&tuple).copied() else { return };
        let late = event.at.0.saturating_sub(message.at.0) > WINDOW;
        if message.told || late || event.at.0 < message.at.0 {
            return;
        }
        let lowered = message.mtu.filter(|mtu| {
            before.largest > *mtu && size <= *mtu && size.saturating_add(SLACK) >= *mtu
        });
        let moved = message.redirect && before.towards.is_some() && towards != before.towards;
        let (kind, words) = match (lowered, moved) {
            (Some(mtu), _) => (
                "path MTU",
                format!(
                    "packets of {tuple} fit the path MTU of {mtu} bytes that it names: up to {} bytes before, \
                     {size} now",
                    before.largest
                ),
            ),
            (None, true) => {
                ("route", format!("packets of {tuple} now leave towards another neighbour"))
            }
            (None, false) => return,
        };
        if let Some(known) = self.messages.get_mut(&tuple) {
            known.told = true;
        }
        if let Some(sent) = self.sent.get_mut(&tuple) {
            sent.largest = size;
        }
        self.edge(message.place, place);
        self.tell(Effect {
            at: event.at.0,
            kind: kind.to_owned(),
            cause: message.journey.0,
            journey: sighting.journey.map(|journey| journey.0),
            target: tuple.to_string(),
            words,
            evidence: "content".to_owned(),
        });
    }

    /// Effects in time order, and how many more there were.
    pub(super) fn finish(mut self) -> (Vec<Effect>, u64) {
        self.told.sort_by(|a, b| (a.at, a.cause, &a.kind).cmp(&(b.at, b.cause, &b.kind)));
        (self.told, self.omitted)
    }
}

/// Bytes of the network packet.
fn size(headers: &Headers) -> Option<u32> {
    match headers.network {
        Network::V4(ip) => Some(u32::from(ip.header_len) + l4(headers)),
        Network::V6(_) => Some(40 + l4(headers)),
        Network::Arp(_) | Network::None => None,
    }
}

/// Bytes from the transport header on.
fn l4(headers: &Headers) -> u32 {
    let header = match headers.transport {
        Transport::None => 0,
        _ => u32::from(headers.payload_offset.saturating_sub(headers.transport_offset)),
    };
    header + headers.payload_len
}

/// The errors that ICMP makes (`icmp_err_convert` in net/ipv4/icmp.c), by name.
fn errno(error: u32) -> String {
    match error {
        90 => "EMSGSIZE".to_owned(),
        92 => "ENOPROTOOPT".to_owned(),
        101 => "ENETUNREACH".to_owned(),
        111 => "ECONNREFUSED".to_owned(),
        112 => "EHOSTDOWN".to_owned(),
        113 => "EHOSTUNREACH".to_owned(),
        71 => "EPROTO".to_owned(),
        95 => "EOPNOTSUPP".to_owned(),
        64 => "ENONET".to_owned(),
        13 => "EACCES".to_owned(),
        number => number.to_string(),
    }
}

fn micros(ns: u64) -> String {
    format!("{}.{:03} us", ns / 1000, ns % 1000)
}
