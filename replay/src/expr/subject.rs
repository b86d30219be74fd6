//! What an expression is asked about.

use psc_formats::guard::ValueSet;
use psc_formats::packet::{Arp, Headers, Icmp, Ipv4, Ipv6, Network, Tcp, Transport, Udp};
use psc_formats::{Context, Event, EventKind, Ns};

use crate::engine::{ClosedJourney, Outcome, Sighting, World};

/// One event with what is known about its packet, or one journey at its end.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub(super) world: World<'a>,
    pub(super) event: Option<&'a Event>,
    pub(super) headers: Option<&'a Headers>,
    pub(super) bytes: &'a [u8],
    pub(super) journey: Option<&'a ClosedJourney>,
}

impl<'a> Subject<'a> {
    /// One event with the headers known of its packet and the bytes that it carries.
    pub fn event(
        world: World<'a>,
        event: &'a Event,
        headers: Option<&'a Headers>,
        bytes: &'a [u8],
    ) -> Self {
        Self { world, event: Some(event), headers, bytes, journey: None }
    }

    /// One sighting.
    pub fn sighting(world: World<'a>, sighting: &Sighting<'a>) -> Self {
        Self::event(world, sighting.event, sighting.headers, sighting.bytes)
    }

    /// A step of a journey that has closed, with the headers as they were then. Packet bytes are not
    /// kept until then, and the parser refuses to ask for both.
    pub fn closed(
        world: World<'a>,
        journey: &'a ClosedJourney,
        step: &'a Event,
        headers: Option<&'a Headers>,
    ) -> Self {
        Self { world, event: Some(step), headers, bytes: &[], journey: Some(journey) }
    }

    pub(super) fn v4(&self) -> Option<&'a Ipv4> {
        match &self.headers?.network {
            Network::V4(ip) => Some(ip),
            Network::V6(_) | Network::Arp(_) | Network::None => None,
        }
    }

    pub(super) fn v6(&self) -> Option<&'a Ipv6> {
        match &self.headers?.network {
            Network::V6(ip) => Some(ip),
            Network::V4(_) | Network::Arp(_) | Network::None => None,
        }
    }

    pub(super) fn arp(&self) -> Option<&'a Arp> {
        match &self.headers?.network {
            Network::Arp(arp) => Some(arp),
            Network::V4(_) | Network::V6(_) | Network::None => None,
        }
    }

    pub(super) fn tcp(&self) -> Option<&'a Tcp> {
        self.headers?.tcp()
    }

    pub(super) fn udp(&self) -> Option<&'a Udp> {
        match &self.headers?.transport {
            Transport::Udp(udp) => Some(udp),
            _ => None,
        }
    }

    /// ICMP proper.
    pub(super) fn icmp(&self) -> Option<&'a Icmp> {
        self.v4().and(self.any_icmp())
    }

    pub(super) fn icmpv6(&self) -> Option<&'a Icmp> {
        self.v6().and(self.any_icmp())
    }

    pub(super) fn any_icmp(&self) -> Option<&'a Icmp> {
        match &self.headers?.transport {
            Transport::Icmp(icmp) => Some(icmp),
            _ => None,
        }
    }

    /// Transport payload in the bytes of this event.
    pub(super) fn payload(&self) -> Option<&'a [u8]> {
        // Headers may be the last known ones, their offsets say nothing about no bytes.
        let offset = self.headers?.payload_offset as usize;
        self.bytes.get(offset..).filter(|payload| !payload.is_empty())
    }

    /// Since the first event of the recording, nanoseconds.
    pub(super) fn relative(&self) -> Option<u64> {
        let Ns(start) = self.world.start?;
        Some(self.event?.at.0.saturating_sub(start))
    }

    /// Reason and caller of a free event, whether or not it was a drop.
    pub(super) fn free(&self) -> Option<(u32, psc_formats::event::SymbolId)> {
        match self.event?.kind {
            EventKind::Free { reason, location } => Some((reason, location)),
            EventKind::Repeated { kind, reason, location, .. } if kind == free_tag() => {
                Some((reason, location))
            }
            _ => None,
        }
    }

    /// Reason and caller of a drop: of a journey's outcome, or of drops that were only counted.
    pub(super) fn drop(&self) -> Option<(u32, psc_formats::event::SymbolId)> {
        match (self.journey, &self.event?.kind) {
            (Some(journey), _) => match journey.outcome {
                Outcome::Dropped { reason, location } => Some((reason, location)),
                Outcome::Delivered | Outcome::EndNotObserved => None,
            },
            (None, EventKind::Repeated { .. }) => self.free(),
            (None, _) => None,
        }
    }

    /// Name and number of the process that the event's socket, else its task, belongs to.
    pub(super) fn process(&self) -> Option<(&'a str, u32)> {
        let event = self.event?;
        let tables = self.world.tables;
        let socket = tables.sockets.get(&event.sock).filter(|socket| socket.pid != 0);
        if let Some(socket) = socket {
            return Some((&socket.comm, socket.pid));
        }
        match event.context {
            Context::Task(tid) => tables.tasks.get(&tid).map(|task| (task.comm.as_str(), task.pid)),
            Context::Unknown | Context::Softirq | Context::Hardirq => None,
        }
    }
}

fn free_tag() -> u8 {
    EventKind::Free { reason: 0, location: psc_formats::event::SymbolId(0) }.tag()
}

impl Subject<'_> {
    /// Whether the packet's source is in one of these sets.
    pub(crate) fn source_in(&self, narrow: &ValueSet, wide: &ValueSet) -> bool {
        self.v4().is_some_and(|ip| narrow.contains(Some(u32::from(ip.src).into())))
            || self.v6().is_some_and(|ip| wide.contains(Some(ip.src.into())))
    }
}
