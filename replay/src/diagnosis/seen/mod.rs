//! What rules look at, gathered in one pass and bounded however long the recording is.

mod connections;
mod datagrams;
mod drops;
mod errors;
mod link;
mod names;
mod pace;
mod services;
mod sockets;
mod stack;
mod waits;

use std::net::IpAddr;

use psc_formats::EventKind;
use psc_formats::event::DeviceId;
use psc_formats::packet::Transport;

pub(super) use connections::{Connection, Connections, RESENT_STUCK};
pub(super) use datagrams::answering;
pub(super) use drops::{Drop, Kind};
pub(super) use errors::IcmpError;
pub(super) use link::Ask;
pub(super) use pace::SLOW_NS;
pub(super) use services::{Exchange, SLOW_NS as DNS_SLOW_NS};
pub(super) use sockets::{Refusal, Reset};
pub(super) use stack::Hook;
pub(super) use waits::LONG_NS;

use crate::bounded::Bounded;
use crate::engine::{ClosedJourney, Sighting, World};
use crate::first_sight::FirstSight;

/// Distinct keys kept of one kind of evidence; more are left out, not merged.
const KEYS: usize = 4_096;

/// Everything seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    once: FirstSight,
    pub(super) drops: drops::Drops,
    pub(super) connections: Connections,
    pub(super) datagrams: datagrams::Datagrams,
    pub(super) waits: waits::Waits,
    pub(super) errors: errors::Errors,
    pub(super) link: link::Link,
    pub(super) services: services::Services,
    pub(super) names: names::Names,
    pub(super) sockets: sockets::Sockets,
}

impl Seen {
    pub(super) fn sighting(&mut self, world: World<'_>, sighting: &Sighting<'_>) {
        let event = sighting.event;
        match event.kind {
            EventKind::Repeated { .. } => self.drops.repeated(world, event),
            EventKind::Neighbour { .. } => self.link.neighbour(event),
            _ => {
                self.sockets.event(event);
                self.connections.socket_event(event);
            }
        }
        let first = self.once.packet(sighting);
        if let (EventKind::Receive {}, Some(journey), None) = (event.kind, sighting.journey, first)
        {
            self.link.arrived(event.device, journey.0);
        }
        let Some((headers, _)) = first else { return };
        let bytes = if sighting.fresh { sighting.bytes } else { &[] };
        self.drops.packet(headers);
        self.errors.packet(event, headers, sighting.journey);
        self.link.packet(event, headers, bytes, sighting.journey);
        if headers.tcp().is_some() {
            self.connections.packet(event, headers, sighting.journey);
            self.waits.packet(event, headers);
        } else if let Transport::Udp(_) = headers.transport {
            self.datagrams.packet(event, headers, sighting.journey);
            self.services.packet(event, headers, bytes, sighting.journey);
            self.names.packet(event, headers, bytes, sighting.journey);
        } else {
            self.services.echo(event, headers, sighting.journey);
        }
    }

    pub(super) fn closed(&mut self, world: World<'_>, journey: &ClosedJourney) {
        if self.once.never_counted(journey)
            && let Some((index, headers)) = journey.headers.first()
            && headers.tcp().is_some()
            && let Some(event) = journey.steps.get(*index as usize)
        {
            // Dropped before it came by any device: an attempt all the same.
            self.connections.packet(event, headers, Some(journey.id));
        }
        self.drops.journey(world, journey);
        self.errors.journey(journey);
        self.waits.journey(journey);
        self.connections.journey(world, journey);
    }
}

/// First, last and how many, with a few journeys to look at.
#[derive(Clone, Debug, Default)]
pub(super) struct Times {
    pub(super) count: u64,
    /// Nanoseconds on the recording's clock.
    pub(super) first: u64,
    /// See `first`.
    pub(super) last: u64,
    pub(super) journeys: Journeys,
}

/// The first few journeys, in place: every connection has some.
#[derive(Clone, Debug, Default)]
pub(super) struct Journeys {
    len: u8,
    first: [u64; Times::JOURNEYS],
}

impl std::ops::Deref for Journeys {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        &self.first[..usize::from(self.len)]
    }
}

impl Journeys {
    /// One more, when there is room.
    fn push(&mut self, journey: u64) {
        if let Some(free) = self.first.get_mut(usize::from(self.len)) {
            *free = journey;
            self.len += 1;
        }
    }

    /// The lowest of both.
    fn merge(&mut self, other: &Self) {
        let mut all = [0; 2 * Times::JOURNEYS];
        let (own, both) = (self.len(), self.len() + other.len());
        all[..own].copy_from_slice(self);
        all[own..both].copy_from_slice(other);
        all[..both].sort_unstable();
        self.len = 0;
        for (index, journey) in all[..both].iter().enumerate() {
            if index == 0 || all[index - 1] != *journey {
                self.push(*journey);
            }
        }
    }
}

impl Times {
    const JOURNEYS: usize = 5;

    pub(super) fn add(&mut self, at: u64, count: u64, journey: Option<u64>) {
        if self.count == 0 {
            (self.first, self.last) = (at, at);
        }
        self.count = self.count.saturating_add(count);
        self.first = self.first.min(at);
        self.last = self.last.max(at);
        if let Some(journey) = journey
            && self.journeys.last() != Some(&journey)
        {
            self.journeys.push(journey);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = other.clone();
            return;
        }
        self.count = self.count.saturating_add(other.count);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.journeys.merge(&other.journeys);
    }
}

/// Entries of a bounded table in the order of their keys.
pub(super) fn sorted<K: Ord + std::hash::Hash + Clone, V>(table: &Bounded<K, V>) -> Vec<(&K, &V)> {
    let mut all: Vec<(&K, &V)> = table.iter().collect();
    all.sort_by(|a, b| a.0.cmp(b.0));
    all
}

/// Multicast or broadcast: nobody in particular.
pub(super) fn is_group(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast(),
    }
}

/// Namespace inode of an event's device, 0 when it has none.
fn netns(world: World<'_>, device: DeviceId) -> u32 {
    world.tables.devices.get(&device).map_or(0, |fact| fact.netns)
}
