//! The locator, offline: peers, where they are registered, how far they can be, and which routers
//! spoke up. It sends nothing, and it never invents a hop that no packet showed.

mod anycast;
mod coordinates;
mod countries;
mod distance;
mod flows;
mod gazetteer;
mod hops;
mod merge;
mod peers;
mod place;
mod prefixes;
mod probes;
mod risk;
mod routes;
mod rtt;
mod spread;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use psc_formats::event::DeviceId;
use psc_formats::manifest::Origin;
use psc_formats::packet::{Headers, Icmp, Network, Transport};
use psc_formats::{EventKind, Manifest, Tables};

use crate::bounded::Top;
use crate::engine::{ClosedJourney, JourneyId, Lineage, Observer, Pass, Sighting, World};
use crate::first_sight::{Direction, ip_bytes};
use crate::view::NoticeRow;
use crate::view::locate::{LocateView, PathMtuRow};

pub use self::gazetteer::{Database, Gazetteer, Here};
pub use self::merge::{compare, merge};
pub use self::prefixes::BlockList;

use self::flows::Flows;
use self::peers::Peers;
use self::probes::Probes;

/// Routers remembered.
const ROUTERS: usize = 1_024;
/// MTUs that routers announced, remembered.
const MTUS: usize = 1_024;
/// Rows of path MTUs shown.
const MTU_ROWS: usize = 500;

/// What to show and what to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Peers shown at most; the rest are counted as left out.
    pub peers: usize,
    /// Routes shown at most; the rest are counted as left out.
    pub routes: usize,
    /// What names addresses.
    pub gazetteer: Gazetteer,
    /// Where the recording was made, when the user says so.
    pub here: Option<Here>,
}

impl Default for Options {
    fn default() -> Self {
        Self { peers: 1000, routes: 200, gazetteer: Gazetteer::default(), here: None }
    }
}

/// Observes a pass and says who was at the other end.
#[derive(Debug)]
pub struct Locator {
    options: Options,
    flows: Flows,
    peers: Peers,
    probes: Probes,
    routers: Top<(IpAddr, String)>,
    /// (peer, MTU, router, whether the quoted packet is known).
    mtus: Top<(IpAddr, u64, IpAddr, bool)>,
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
            flows: Flows::default(),
            peers: Peers::default(),
            probes: Probes::default(),
            routers: Top::new(ROUTERS),
            mtus: Top::new(MTUS),
            own: Own::default(),
        }
    }

    /// What the pass that it observed says about places.
    pub fn finish(mut self, manifest: &Manifest, pass: &Pass) -> LocateView {
        let measured = match manifest.origin {
            Origin::Capture => "measured from the capture point",
            Origin::Kernel | Origin::Merge => "measured",
        };
        for flow in self.flows.into_flows() {
            self.peers.add(&flow);
        }
        for fact in &pass.tables.route_probes {
            self.probes.stored(fact);
        }
        let (runs, routes_forgotten) = self.probes.finish();
        for ((netns, _, target, ..), run) in &runs {
            let answers = run.hops.iter().filter_map(|(ttl, hop)| {
                let own = hop.nodes.iter().find(|((from, answer), _)| {
                    from == target && *answer != probes::Answer::Expired
                });
                own.map(|(_, node)| (*ttl, node))
            });
            for (ttl, node) in answers.take(1) {
                self.peers.probed(*netns, *target, &node.rtt, ttl);
            }
        }
        let gazetteer = &self.options.gazetteer;
        let from = distance::From::new(self.options.here.as_ref(), &pass.tables, gazetteer);
        let names = namespace_names(&pass.tables, manifest);
        let mut routes: Vec<_> = runs
            .iter()
            .map(|(key, run)| {
                let host = names.get(&key.0).cloned().unwrap_or_default();
                routes::row(key, run, host, gazetteer, from.as_ref())
            })
            .collect();
        routes.sort_by(|a, b| {
            (&a.target, &a.protocol, &a.source, &a.host).cmp(&(
                &b.target,
                &b.protocol,
                &b.source,
                &b.host,
            ))
        });
        let routes_omitted = routes.len().saturating_sub(self.options.routes) as u64;
        routes.truncate(self.options.routes);

        let known = self.peers.finish(&pass.tables, gazetteer);
        let limit = self.options.peers;
        let mut provenance = pass.provenance.clone();
        for (text, count) in [
            (
                "addresses were forgotten because there were too many; totals by country leave them \
                 out",
                known.forgotten,
            ),
            ("routes were forgotten because there were too many", routes_forgotten),
        ] {
            if count > 0 {
                let severity = "data-loss".to_owned();
                provenance.notices.push(NoticeRow { severity, text: text.to_owned(), count });
            }
        }
        let mut routers: Vec<(String, String, u64)> = self
            .routers
            .most(ROUTERS)
            .into_iter()
            .map(|((address, what), count)| (address.to_string(), what, count))
            .collect();
        routers.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| (&a.0, &a.1).cmp(&(&b.0, &b.1))));
        let mut path_mtus = announced(&self.mtus);
        path_mtus.extend(known.path_mtus());
        path_mtus.truncate(MTU_ROWS);
        let mut view = LocateView {
            provenance,
            peers: known
                .peers
                .iter()
                .take(limit)
                .map(|(address, peer, entry)| peer.row(*address, entry, measured))
                .collect(),
            omitted: known.peers.len().saturating_sub(limit) as u64,
            countries: known.countries(),
            routers,
            attribution: place::attribution(),
            vantage: from.as_ref().map(|from| from.shown.clone()),
            prefixes: known.prefixes(),
            routes,
            routes_omitted,
            path_mtus,
            contradictions: distance::contradictions(from.as_ref(), &known.claims()),
            sources: gazetteer.sources(),
            ..LocateView::default()
        };
        view.risks = risk::assess(&view);
        view
    }

    /// Counts one packet. `whole`: it is one packet on the wire, not several merged. `timed`: when it was here,
    /// and its journey, where round trips are to be told in one go.
    fn passage(
        &mut self,
        netns: u32,
        direction: Direction,
        headers: &Headers,
        len: u32,
        whole: bool,
        timed: Option<(u64, Option<JourneyId>)>,
    ) {
        let Some((src, dst)) = headers.addresses() else { return };
        if direction != Direction::Egress
            && let Transport::Icmp(icmp) = &headers.transport
        {
            self.router(netns, src, matches!(headers.network, Network::V6(_)), icmp);
        }
        let Some(tuple) = headers.tuple() else { return };
        let bytes = ip_bytes(headers, len);
        let peers = &mut self.peers;
        let (flow, way) = self.flows.get(netns, tuple, |flow| peers.add(flow));
        // What may not leave the link is sent with whatever TTL its protocol says. Asked once a flow, not
        // once a packet.
        let crossed = *flow
            .crosses
            .get_or_insert_with(|| place::crosses_routers(src) && place::crosses_routers(dst));
        flow.count(way, direction, headers, bytes, crossed);
        if whole && direction == Direction::Ingress {
            flow.ways[way].largest = flow.ways[way].largest.max(bytes as u32);
        }
        if let Network::V4(ip) = headers.network
            && direction != Direction::Egress
            && ip.more_fragments
        {
            flow.ways[way].fragment(u32::from(ip.total_len));
        }
        if let Some((at, journey)) = timed {
            flow.time(way, direction, at, journey, headers);
        }
    }

    /// An ICMP error that came from somewhere else than where the quoted packet was going: a router.
    fn router(&mut self, netns: u32, from: IpAddr, v6: bool, icmp: &Icmp) {
        let Some(what) = icmp_error(v6, icmp.icmp_type, icmp.code) else { return };
        let Some(quoted) = icmp.quoted else { return };
        let way = self.flows.known(netns, quoted.tuple);
        let known = way.is_some() || self.probes.awaits(netns, &quoted);
        let mtu = match (v6, icmp.icmp_type, icmp.code) {
            (false, 3, 4) => u64::from(icmp.rest & 0xffff),
            (true, 2, _) => u64::from(icmp.rest),
            _ => 0,
        };
        if mtu > 0 {
            self.mtus.add((quoted.tuple.dst, mtu, from, known), 1);
        }
        if quoted.tuple.dst == from {
            return;
        }
        let started = way.and_then(|way| way.sent_ttl).filter(|ttl| *ttl >= 64);
        let what = match (known, started) {
            (true, Some(ttl)) if what == "time exceeded" => {
                format!("{what} of a packet sent with TTL {ttl}: a loop, or a way as long as that")
            }
            (true, _) => what.to_owned(),
            (false, _) => {
                format!("{what}, about a packet not seen in this recording (it may be forged)")
            }
        };
        self.routers.add((from, what), 1);
    }
}

/// What routers announced about the MTU of ways.
fn announced(mtus: &Top<(IpAddr, u64, IpAddr, bool)>) -> Vec<PathMtuRow> {
    let row = |((peer, mtu, router, known), times): ((IpAddr, u64, IpAddr, bool), u64)| {
        let doubt = if known { "" } else { ", about a packet not seen here (it may be forged)" };
        let said = if peer.is_ipv4() { "fragmentation needed" } else { "packet too big" };
        PathMtuRow {
            peer: peer.to_string(),
            mtu,
            bound: "at most".to_owned(),
            label: "measured".to_owned(),
            evidence: format!("{router} says {said}{doubt}"),
            times,
        }
    };
    mtus.most(MTUS).into_iter().map(row).collect()
}

/// Names of the namespaces; the host's for the first one.
fn namespace_names(tables: &Tables, manifest: &Manifest) -> BTreeMap<u32, String> {
    let mut names: BTreeMap<u32, String> = BTreeMap::new();
    for device in tables.devices.values() {
        let name = if device.netns_name.is_empty() {
            manifest.host.name.clone()
        } else {
            device.netns_name.clone()
        };
        let known = names.entry(device.netns).or_default();
        // Devices come in no order: the greatest name is as good as any, and always the same.
        if name > *known {
            *known = name;
        }
    }
    for fact in &tables.route_probes {
        names.entry(fact.netns).or_insert_with(|| fact.host.clone());
    }
    names
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
        let captured = matches!(event.kind, EventKind::Captured { .. });
        let at = event.at.0;
        // A capture has each packet once, at one point: nothing is known of its time in a host.
        let journey = sighting.journey.filter(|_| !captured);
        let tcp = matches!(headers.transport, Transport::Tcp(_));
        if captured {
            if direction == Direction::Unknown {
                direction = self.own.direction(world.tables, headers);
            }
            // Merged packets look like one in a capture: those that may be are not told apart.
            let whole = event.len <= 1_514;
            self.passage(netns, direction, headers, event.len, whole, Some((at, journey)));
        } else if tcp && let Some(tuple) = headers.tuple() {
            let peers = &mut self.peers;
            let (flow, way) = self.flows.get(netns, tuple, |flow| peers.add(flow));
            flow.time(way, direction, at, journey, headers);
        }
        // Made here and queued: more than the first sight of a journey, since where only one namespace is
        // recorded nobody sees a packet's end, and the next one in its buffer looks like its going on.
        let made =
            matches!(event.kind, EventKind::DeviceQueue {}) && event.iif == 0 && sighting.fresh;
        let born = captured || made || (sighting.opens && direction == Direction::Egress);
        self.probes.sighting((netns, direction), at, journey, born, headers);
    }

    /// Counts a packet once per namespace and direction: what is forwarded came from one peer and
    /// went to another.
    fn closed(&mut self, world: World<'_>, journey: &ClosedJourney) {
        if journey.clone {
            return;
        }
        let segment = journey.lineage.iter().any(|edge| edge.how == Lineage::Segment);
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
                let whole = event.gso.segments() == 1;
                self.passage(passage.0, direction, headers, event.len, whole, None);
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
        if self.addresses.is_empty() {
            return Direction::Unknown;
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
