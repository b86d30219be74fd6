//! Drops by reason, place and what kind of packet it was.

use std::collections::BTreeMap;
use std::net::IpAddr;

use psc_formats::event::{DeviceId, SockId, SymbolId};
use psc_formats::packet::{Headers, Network, Transport};
use psc_formats::{Event, EventKind, FiveTuple};

use super::stack::{self, Hook};
use super::{KEYS, Times, is_group, netns};
use crate::bounded::{Bounded, Top};
use crate::engine::{ClosedJourney, Outcome, World};

/// Datagram flows remembered by who began.
const DATAGRAM_FLOWS: usize = 32_768;

/// Flows and destinations remembered of one kind of drop.
const TOP: usize = 64;

const SYN: u16 = 0x02;
const RST: u16 = 0x04;
const ACK: u16 = 0x10;

/// What kind of packet was dropped: the same reason means another thing for another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::diagnosis) enum Kind {
    /// TCP SYN: an attempt to connect.
    Syn,
    /// TCP RST.
    Reset,
    /// Other TCP.
    Segment,
    /// A datagram of whoever began the exchange.
    Datagram,
    /// A datagram of the side that answers.
    Reply,
    /// To a multicast or broadcast address.
    Group,
    /// ICMP errors and echoes.
    Message,
    /// ARP, neighbour solicitations and advertisements.
    Discovery,
    /// Group membership reports and router discovery, which hosts send whether anybody listens or not.
    Chatter,
    /// A fragment without a transport header.
    Fragment,
    /// Anything else.
    Other,
    /// Not stored: the recorder only counted it.
    Counted,
}

type Key = (u32, SymbolId, u32, DeviceId, Kind, Hook);

/// Packets dropped for one reason at one place.
#[derive(Clone, Debug)]
pub(in crate::diagnosis) struct Drop {
    /// `enum skb_drop_reason` of the recorded kernel.
    pub(in crate::diagnosis) reason: u32,
    pub(in crate::diagnosis) location: SymbolId,
    /// Namespace inode, 0 unknown.
    pub(in crate::diagnosis) netns: u32,
    pub(in crate::diagnosis) device: DeviceId,
    pub(in crate::diagnosis) kind: Kind,
    pub(in crate::diagnosis) hook: Hook,
    pub(in crate::diagnosis) times: Times,
    pub(in crate::diagnosis) flows: Top<FiveTuple>,
    /// Destinations as (protocol, address, port).
    pub(in crate::diagnosis) services: Top<(u8, IpAddr, u16)>,
    /// Headers of the first.
    pub(in crate::diagnosis) sample: Option<Headers>,
    /// Socket of the first, 0 none.
    pub(in crate::diagnosis) sock: SockId,
    /// Longest `skb->len`, bytes.
    pub(in crate::diagnosis) longest: u32,
    /// How often one of them was received on its way, at most.
    pub(in crate::diagnosis) hops: u32,
    /// The stack of the first goes through netfilter's reject.
    pub(in crate::diagnosis) rejected: bool,
}

impl Drop {
    fn new(key: Key) -> Self {
        Self {
            reason: key.0,
            location: key.1,
            netns: key.2,
            device: key.3,
            kind: key.4,
            hook: key.5,
            times: Times::default(),
            flows: Top::new(TOP),
            services: Top::new(TOP),
            sample: None,
            sock: SockId(0),
            longest: 0,
            hops: 0,
            rejected: false,
        }
    }
}

/// All drops.
#[derive(Debug)]
pub(in crate::diagnosis) struct Drops {
    rows: BTreeMap<Key, Drop>,
    /// Datagram flows, either way round, and who sent first.
    began: Bounded<FiveTuple, FiveTuple>,
    /// Ends that began exchanges.
    clients: Bounded<(IpAddr, u16), ()>,
}

impl Default for Drops {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
            began: Bounded::new(DATAGRAM_FLOWS),
            clients: Bounded::new(DATAGRAM_FLOWS),
        }
    }
}

impl Drops {
    /// A packet on its way, told once.
    pub(super) fn packet(&mut self, headers: &Headers) {
        if let Transport::Udp(_) = headers.transport
            && let Some(tuple) = headers.tuple()
        {
            let first = *self.began.entry_or_forget(tuple.canonical(), || tuple);
            if first == tuple {
                self.clients.entry_or_forget((tuple.src, tuple.sport), || ());
            }
        }
    }

    pub(super) fn journey(&mut self, world: World<'_>, journey: &ClosedJourney) {
        let Outcome::Dropped { reason, location } = journey.outcome else { return };
        let free = journey.steps.iter().rev().find(|e| matches!(e.kind, EventKind::Free { .. }));
        let Some(last) = free.or(journey.steps.last()) else { return };
        let device = crate::analyzer::place_of(&journey.steps);
        let headers = journey.headers.last().map(|(_, headers)| headers);
        let kind = self.kind(headers);
        let hook = stack::hook(world.tables, last.stack.id);
        let key = (reason, location, netns(world, device), device, kind, hook);
        if self.rows.len() >= KEYS && !self.rows.contains_key(&key) {
            return;
        }
        let row = self.rows.entry(key).or_insert_with(|| Drop::new(key));
        if row.times.count == 0 {
            row.sample = headers.copied();
            row.sock = last.sock;
            row.rejected = ["nf_reject_ip", "nft_reject"]
                .iter()
                .any(|f| stack::passes(world.tables, last.stack.id, f));
        }
        row.times.add(last.at.0, 1, Some(journey.id.0));
        row.longest = row.longest.max(last.len);
        if let Some(flow) = headers.and_then(Headers::tuple).or(journey.flow) {
            row.flows.add(flow, 1);
            row.services.add((flow.protocol, flow.dst, flow.dport), 1);
        }
        let hops = journey.steps.iter().filter(|e| matches!(e.kind, EventKind::Receive {})).count();
        row.hops = row.hops.max(hops as u32);
    }

    /// Like frees that the recorder counted instead of storing.
    pub(super) fn repeated(&mut self, world: World<'_>, event: &Event) {
        let EventKind::Repeated { kind, count, reason, location, first, .. } = event.kind else {
            return;
        };
        if kind != (EventKind::Free { reason: 0, location: SymbolId(0) }).tag() {
            return;
        }
        let device = event.device;
        // What was stored of the same says what was counted.
        let stored = self
            .rows
            .values_mut()
            .filter(|row| row.reason == reason && row.location == location && row.device == device)
            .max_by_key(|row| row.times.count);
        if let Some(row) = stored {
            row.times.add(first, 0, None);
            row.times.add(event.at.0, count, None);
            return;
        }
        let netns = netns(world, device);
        let key = (reason, location, netns, device, Kind::Counted, Hook::Unknown);
        if self.rows.len() >= KEYS && !self.rows.contains_key(&key) {
            return;
        }
        let row = self.rows.entry(key).or_insert_with(|| Drop::new(key));
        row.times.add(first, 0, None);
        row.times.add(event.at.0, count, None);
    }

    /// Whether a datagram answers a question of its destination.
    pub(in crate::diagnosis) fn began_at_other_end(&self, about: FiveTuple) -> bool {
        about.protocol == 17 && self.clients.get(&(about.dst, about.dport)).is_some()
    }

    pub(in crate::diagnosis) fn rows(&self) -> impl Iterator<Item = &Drop> {
        self.rows.values()
    }

    fn kind(&self, headers: Option<&Headers>) -> Kind {
        let Some(headers) = headers else { return Kind::Other };
        if matches!(headers.network, Network::Arp(_)) {
            return Kind::Discovery;
        }
        let Some((_, dst)) = headers.addresses() else { return Kind::Other };
        match headers.transport {
            Transport::Tcp(tcp) if tcp.flags & RST != 0 => Kind::Reset,
            Transport::Tcp(tcp) if tcp.flags & (SYN | ACK) == SYN => Kind::Syn,
            // The answer of the other side: a scanner's kernel knows nothing of it.
            Transport::Tcp(tcp) if tcp.flags & SYN != 0 => Kind::Reply,
            Transport::Tcp(_) => Kind::Segment,
            Transport::Icmp(icmp) => {
                let v6 = dst.is_ipv6();
                if v6 && matches!(icmp.icmp_type, 135 | 136) {
                    Kind::Discovery
                } else if v6 && matches!(icmp.icmp_type, 130..=134 | 137 | 143) {
                    Kind::Chatter
                } else if is_group(dst) {
                    Kind::Group
                } else {
                    Kind::Message
                }
            }
            _ if is_group(dst) => {
                if headers.protocol() == Some(2) {
                    Kind::Chatter
                } else {
                    Kind::Group
                }
            }
            Transport::Udp(_) => match headers.tuple() {
                Some(tuple)
                    if self.began.get(&tuple.canonical()).is_some_and(|first| *first != tuple) =>
                {
                    Kind::Reply
                }
                _ => Kind::Datagram,
            },
            Transport::Ports(..) => Kind::Other,
            Transport::None => match headers.network {
                Network::V4(ip) if ip.fragment_offset > 0 || ip.more_fragments => Kind::Fragment,
                Network::V6(ip) if ip.fragment.is_some() => Kind::Fragment,
                _ => Kind::Other,
            },
        }
    }
}
