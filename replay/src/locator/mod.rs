//! The locator, offline: peers, where they are registered, how far they can be, and which routers
//! spoke up. It sends nothing, and it never invents a hop that no packet showed.

mod countries;
mod hops;
mod peers;
mod place;
mod rtt;

use std::collections::BTreeSet;
use std::net::IpAddr;

use psc_formats::event::DeviceId;
use psc_formats::manifest::Origin;
use psc_formats::packet::{Headers, Icmp, Network, Transport};
use psc_formats::{EventKind, FiveTuple, Manifest, Tables};

use crate::bounded::{Bounded, Top};
use crate::engine::{ClosedJourney, Lineage, Observer, Pass, Sighting, World};
use crate::first_sight::{Direction, ip_bytes};
use crate::view::NoticeRow;
use crate::view::locate::LocateView;

use self::peers::{Peers, Side};

/// Flows remembered, to tell ICMP errors about real packets from others.
const FLOWS: usize = 65_536;

/// Routers remembered.
const ROUTERS: usize = 1_024;

/// What to show.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Peers shown at most; the rest are counted as left out.
    pub peers: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { peers: 1000 }
    }
}

/// Observes a pass and says who was at the other end.
#[derive(Debug)]
pub struct Locator {
    options: Options,
    peers: Peers,
    handshakes: rtt::Handshakes,
    flows: Bounded<FiveTuple, ()>,
    routers: Top<(IpAddr, String)>,
    own: Own,
}

impl Default for Locator {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

impl Locator {
    /// A locator that has seen nothing.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            peers: Peers::default(),
            handshakes: rtt::Handshakes::default(),
            flows: Bounded::new(FLOWS),
            routers: Top::new(ROUTERS),
            own: Own::default(),
        }
    }

    /// What the pass that it observed says about places.
    pub fn finish(self, manifest: &Manifest, pass: &Pass) -> LocateView {
        let measured = match manifest.origin {
            Origin::Capture => "measured from the capture point",
            Origin::Kernel | Origin::Merge => "measured",
        };
        let summary = self.peers.finish(&pass.tables, measured, self.options.peers);
        let mut provenance = pass.provenance.clone();
        if summary.forgotten > 0 {
            provenance.notices.push(NoticeRow {
                severity: "data-loss".to_owned(),
                text: "addresses were forgotten because there were too many; totals by country \
                       leave them out"
                    .to_owned(),
                count: summary.forgotten,
            });
        }
        let mut routers: Vec<(String, String, u64)> = self
            .routers
            .most(ROUTERS)
            .into_iter()
            .map(|((address, what), count)| (address.to_string(), what, count))
            .collect();
        routers.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| (&a.0, &a.1).cmp(&(&b.0, &b.1))));
        LocateView {
            provenance,
            peers: summary.rows,
            omitted: summary.omitted,
            countries: summary.countries,
            routers,
            attribution: place::attribution(),
        }
    }

    fn passage(&mut self, netns: u32, direction: Direction, headers: &Headers, len: u32) {
        let Some((src, dst)) = headers.addresses() else { return };
        let bytes = ip_bytes(headers, len);
        if direction != Direction::Egress {
            // What may not leave the link is sent with whatever TTL its protocol says.
            let far = place::crosses_routers(src) && place::crosses_routers(dst);
            let ttl = headers.ttl().filter(|_| far);
            self.peers.packet(netns, src, Side::From { ttl }, bytes);
            if let Transport::Icmp(icmp) = &headers.transport {
                self.router(src, matches!(headers.network, Network::V6(_)), icmp);
            }
        }
        if direction != Direction::Ingress {
            self.peers.packet(netns, dst, Side::To, bytes);
        }
        if let Some(tuple) = headers.tuple() {
            self.flows.entry_or_forget(tuple, || ());
        }
    }

    /// An ICMP error that came from somewhere else than where the quoted packet was going: a router.
    fn router(&mut self, from: IpAddr, v6: bool, icmp: &Icmp) {
        let Some(what) = icmp_error(v6, icmp.icmp_type, icmp.code) else { return };
        let Some(quoted) = icmp.quoted else { return };
        if quoted.tuple.dst == from {
            return;
        }
        let known = self.flows.get(&quoted.tuple).is_some();
        let what = if known {
            what.to_owned()
        } else {
            format!("{what}, about a packet not seen in this recording (it may be forged)")
        };
        self.routers.add((from, what), 1);
    }
}

/// The name of an ICMP error; `None` for messages that are none.
fn icmp_error(v6: bool, icmp_type: u8, code: u8) -> Option<&'static str> {
    Some(match (v6, icmp_type, code) {
        (false, 3, 0) => "network unreachable",
        (false, 3, 1) | (true, 1, 3) => "host unreachable",
        (false, 3, 4) => "fragmentation needed",
        (false, 3, 9 | 10 | 13) | (true, 1, 1) => "administratively prohibited",
        (false, 3, _) | (true, 1, _) => "destination unreachable",
        (false, 5, _) | (true, 137, _) => "redirect",
        (false, 11, 1) | (true, 3, 1) => "reassembly time exceeded",
        (false, 11, _) | (true, 3, _) => "time exceeded",
        (false, 12, _) | (true, 4, _) => "parameter problem",
        (true, 2, _) => "packet too big",
        _ => return None,
    })
}

fn netns(tables: &Tables, device: DeviceId) -> u32 {
    tables.devices.get(&device).map_or(0, |device| device.netns)
}

impl Observer for Locator {
    fn sighting(&mut self, world: World<'_>, sighting: &Sighting<'_>) {
        let event = sighting.event;
        let Some(mut direction) = Direction::of(&event.kind) else { return };
        let Some(headers) = sighting.headers else { return };
        let netns = netns(world.tables, event.device);
        if matches!(event.kind, EventKind::Captured { .. }) {
            if direction == Direction::Unknown {
                direction = self.own.direction(world.tables, headers);
            }
            self.passage(netns, direction, headers, event.len);
        }
        let at = event.at.0;
        let point = (netns, direction);
        if let Some(sample) = self.handshakes.sighting(point, at, sighting.journey, headers) {
            self.peers.rtt(netns, sample);
        }
    }

    /// Counts a packet once per namespace and direction: what is forwarded came from one peer and
    /// went to another.
    fn closed(&mut self, world: World<'_>, journey: &ClosedJourney) {
        if journey.clone {
            return;
        }
        let segment = journey.lineage.iter().any(|(how, _)| *how == Lineage::Segment);
        let mut passed: Vec<(u32, Direction)> = Vec::new();
        for (index, event) in journey.steps.iter().enumerate() {
            if matches!(event.kind, EventKind::Captured { .. }) {
                return;
            }
            let Some(direction) = Direction::of(&event.kind) else { continue };
            // Its segments were one skb when that was queued, and counted there.
            if segment && matches!(event.kind, EventKind::TransmitStart {}) {
                continue;
            }
            let passage = (netns(world.tables, event.device), direction);
            let shown = journey.headers.iter().rev().find(|(at, _)| *at as usize <= index);
            let Some((_, headers)) = shown.or(journey.headers.first()) else { return };
            if !passed.contains(&passage) {
                passed.push(passage);
                self.passage(passage.0, direction, headers, event.len);
            }
        }
    }
}

/// Addresses of the capturing host, where the capture says them.
#[derive(Debug, Default)]
struct Own {
    /// Devices known when `addresses` was made; interfaces of a capture only ever get more.
    devices: usize,
    addresses: BTreeSet<IpAddr>,
}

impl Own {
    /// The direction of a captured frame by its addresses.
    fn direction(&mut self, tables: &Tables, headers: &Headers) -> Direction {
        if self.devices != tables.devices.len() {
            self.devices = tables.devices.len();
            self.addresses = peers::local_addresses(tables).into_values().flatten().collect();
        }
        let Some((src, dst)) = headers.addresses() else { return Direction::Unknown };
        match (self.addresses.contains(&src), self.addresses.contains(&dst)) {
            (true, false) => Direction::Egress,
            (false, true) => Direction::Ingress,
            _ => Direction::Unknown,
        }
    }
}

#[cfg(test)]
#[path = "locator_tests.rs"]
mod tests;
