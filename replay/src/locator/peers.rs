//! What was exchanged with each peer, from where it can be seen.

use std::collections::btree_map;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use psc_formats::Tables;

use super::distance::Claim;
use super::flows::Flow;
use super::gazetteer::{Entry, Gazetteer};
use super::spread::Samples;
use super::{countries, hops, place};
use crate::bounded::Bounded;
use crate::view::locate::{PathMtuRow, PeerRow, PrefixRow};

/// Peers kept; beyond, those not seen for longest go and are counted.
const PEERS: usize = 65_536;
/// TTL values shown per peer.
const TTLS: usize = 8;
/// Prefixes shown.
const PREFIXES: usize = 200;

/// One address as seen from one namespace.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    /// From, to.
    pub(super) packets: [u64; 2],
    /// From, to.
    bytes: [u64; 2],
    /// At most 256 by nature.
    ttls: BTreeMap<u8, u64>,
    changes: BTreeMap<(u8, u8), u64>,
    /// Handshake, data.
    rtt: [Samples; 2],
    probe: Samples,
    host: Samples,
    first_rtt: Option<u64>,
    largest: u32,
    mss: Option<u16>,
    fragments: (u32, u64),
    /// Hops to it by route probes.
    forward: Option<u8>,
}

#[derive(Debug)]
pub(super) struct Peers {
    seen: Bounded<(u32, IpAddr), Peer>,
}

impl Default for Peers {
    fn default() -> Self {
        Self { seen: Bounded::new(PEERS) }
    }
}

/// Peers with what is known about their addresses, own addresses left out.
pub(super) struct Known {
    pub(super) peers: Vec<(IpAddr, Peer, Entry)>,
    /// Addresses forgotten for want of room.
    pub(super) forgotten: u64,
}

impl Peers {
    /// Adds a flow that will get no more packets.
    pub(super) fn add(&mut self, flow: &Flow) {
        let came = |way: usize| flow.ways[way].from.0 > 0 || flow.ways[way].first_rtt.is_some();
        let went = |way: usize| flow.ways[way].to.0 > 0;
        // Each end once; the one that was used last goes last.
        let ends = if went(1) { [1, 0] } else { [0, 1] };
        for end in ends {
            let (from, to) = (&flow.ways[end], &flow.ways[1 - end]);
            if !came(end) && !went(1 - end) {
                continue;
            }
            let peer = self.seen.entry_or_forget((flow.netns, flow.source(end)), Peer::default);
            if came(end) {
                let way = from;
                peer.packets[0] += way.from.0;
                peer.bytes[0] = peer.bytes[0].saturating_add(way.from.1);
                for (ttl, count) in way.ttls() {
                    *peer.ttls.entry(ttl).or_default() += count;
                }
                for (from, to, times) in way.changes() {
                    *peer.changes.entry((*from, *to)).or_default() += times;
                }
                way.handshake.merge_into(&mut peer.rtt[0]);
                way.data.merge_into(&mut peer.rtt[1]);
                way.host.merge_into(&mut peer.host);
                peer.first_rtt = earliest(peer.first_rtt, way.first_rtt);
                peer.largest = peer.largest.max(way.largest);
                peer.mss = match (peer.mss, way.mss) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
                let (largest, fragments) = way.fragments();
                peer.fragments.0 = peer.fragments.0.max(largest);
                peer.fragments.1 += fragments;
            }
            if went(1 - end) {
                peer.packets[1] += to.to.0;
                peer.bytes[1] = peer.bytes[1].saturating_add(to.to.1);
            }
        }
    }

    /// A target that answered route probes.
    pub(super) fn probed(&mut self, netns: u32, target: IpAddr, rtt: &Samples, hops: u8) {
        let peer = self.seen.entry_or_forget((netns, target), Peer::default);
        peer.probe.merge(rtt);
        peer.forward = Some(peer.forward.map_or(hops, |known| known.min(hops)));
    }

    /// Sums up over namespaces, most bytes first.
    pub(super) fn finish(self, tables: &Tables, gazetteer: &Gazetteer) -> Known {
        let local = local_addresses(tables);
        let forgotten = self.seen.evicted();
        let mut merged: BTreeMap<IpAddr, Peer> = BTreeMap::new();
        for ((netns, address), peer) in self.seen.into_oldest_first() {
            let own = local.get(&netns).is_some_and(|own| own.contains(&address));
            if own || address.is_unspecified() {
                continue;
            }
            match merged.entry(address) {
                btree_map::Entry::Vacant(new) => {
                    new.insert(peer);
                }
                btree_map::Entry::Occupied(known) => known.into_mut().merge(&peer),
            }
        }
        let mut peers: Vec<(IpAddr, Peer, Entry)> = merged
            .into_iter()
            .map(|(address, peer)| (address, peer, gazetteer.look_up(address)))
            .collect();
        peers
            .sort_by(|(a, left, _), (b, right, _)| right.total().cmp(&left.total()).then(a.cmp(b)));
        Known { peers, forgotten }
    }
}

fn earliest(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

impl Known {
    /// By registered country, most bytes first.
    pub(super) fn countries(&self) -> Vec<(String, String, u64, u64)> {
        let mut by_country: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for (_, peer, entry) in &self.peers {
            if !entry.country.is_empty() {
                let (peers, bytes) = by_country.entry(&entry.country).or_default();
                *peers += 1;
                *bytes = bytes.saturating_add(peer.total());
            }
        }
        let mut rows: Vec<(String, String, u64, u64)> = by_country
            .into_iter()
            .map(|(code, (peers, bytes))| {
                let name = countries::name(code).unwrap_or(code);
                (code.to_owned(), name.to_owned(), peers, bytes)
            })
            .collect();
        rows.sort_by(|a, b| b.3.cmp(&a.3).then_with(|| a.0.cmp(&b.0)));
        rows
    }

    /// By prefix, most bytes first.
    pub(super) fn prefixes(&self) -> Vec<PrefixRow> {
        let mut by_prefix: BTreeMap<&str, (PrefixRow, Samples)> = BTreeMap::new();
        for (_, peer, entry) in self.peers.iter().filter(|(.., entry)| !entry.prefix.is_empty()) {
            let (row, rtt) = by_prefix.entry(&entry.prefix).or_default();
            if row.peers == 0 {
                row.country.clone_from(&entry.country);
            } else if row.country != entry.country {
                row.country.clear();
            }
            row.peers += 1;
            row.bytes = row.bytes.saturating_add(peer.total());
            if let Some(hops) = peer.hops() {
                let (least, most) = row.hops.unwrap_or((hops, hops));
                row.hops = Some((least.min(hops), most.max(hops)));
            }
            peer.rtt.iter().for_each(|one| rtt.merge(one));
        }
        let mut rows: Vec<PrefixRow> = by_prefix
            .into_iter()
            .map(|(prefix, (row, rtt))| PrefixRow {
                prefix: prefix.to_owned(),
                rtt: rtt.spread(),
                ..row
            })
            .collect();
        rows.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.prefix.cmp(&b.prefix)));
        rows.truncate(PREFIXES);
        rows
    }

    /// Those with a least round trip and a claim about their place.
    pub(super) fn claims(&self) -> Vec<Claim<'_>> {
        self.peers
            .iter()
            .filter(|(.., entry)| !entry.country.is_empty())
            .filter_map(|(address, peer, entry)| {
                Some(Claim { address: *address, rtt_ns: peer.least_rtt()?, entry })
            })
            .collect()
    }

    /// What packets of peers say about the MTU of the way.
    pub(super) fn path_mtus(&self) -> Vec<PathMtuRow> {
        let mut rows = Vec::new();
        for (address, peer, _) in &self.peers {
            let header = if address.is_ipv4() { 40 } else { 60 };
            let mut row = |mtu: u64, bound: &str, label: &str, evidence: String, times: u64| {
                rows.push(PathMtuRow {
                    peer: address.to_string(),
                    mtu,
                    bound: bound.to_owned(),
                    label: label.to_owned(),
                    evidence,
                    times,
                });
            };
            if peer.fragments.1 > 0 {
                // All fragments but the last are cut to a multiple of eight bytes of payload.
                row(
                    u64::from(peer.fragments.0) + 7,
                    "at most",
                    "bounded",
                    format!("fragments of {} bytes arrived from it", peer.fragments.0),
                    peer.fragments.1,
                );
            }
            if let Some(mss) = peer.mss {
                let text = format!("announces MSS {mss} in its SYN");
                row(u64::from(mss) + header, "at most", "bounded", text, 1);
            }
            if peer.largest > 0 {
                let text = format!("a packet of {} bytes arrived from it", peer.largest);
                row(u64::from(peer.largest), "at least", "measured", text, 1);
            }
        }
        rows
    }
}

impl Peer {
    fn total(&self) -> u64 {
        self.bytes[0].saturating_add(self.bytes[1])
    }

    fn merge(&mut self, other: &Self) {
        for side in 0..2 {
            self.packets[side] += other.packets[side];
            self.bytes[side] = self.bytes[side].saturating_add(other.bytes[side]);
            self.rtt[side].merge(&other.rtt[side]);
        }
        for (ttl, count) in &other.ttls {
            *self.ttls.entry(*ttl).or_default() += count;
        }
        for (change, times) in &other.changes {
            *self.changes.entry(*change).or_default() += times;
        }
        self.probe.merge(&other.probe);
        self.host.merge(&other.host);
        self.first_rtt = earliest(self.first_rtt, other.first_rtt);
        self.largest = self.largest.max(other.largest);
        self.mss = match (self.mss, other.mss) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.fragments.0 = self.fragments.0.max(other.fragments.0);
        self.fragments.1 += other.fragments.1;
        self.forward = match (self.forward, other.forward) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    /// The smallest round trip of any kind.
    fn least_rtt(&self) -> Option<u64> {
        let all = self.rtt.iter().chain([&self.probe]);
        all.filter_map(Samples::least).min()
    }

    fn most_common_ttl(&self) -> Option<u8> {
        let common = self.ttls.iter().max_by_key(|(ttl, n)| (**n, std::cmp::Reverse(**ttl)));
        common.map(|(ttl, _)| *ttl)
    }

    fn hops(&self) -> Option<u8> {
        self.most_common_ttl().map(hops::estimate)
    }

    fn asymmetry(&self, address: IpAddr) -> String {
        // Nobody answers for many.
        if !place::crosses_routers(address) {
            return String::new();
        }
        let mut hints = Vec::new();
        // A hop count there includes the peer itself, the estimate back only routers.
        if let (Some(there), Some(back)) = (self.forward.map(|ttl| ttl - 1), self.hops())
            && there.abs_diff(back) >= 2
        {
            hints.push(format!(
                "{there} routers there (measured by route probes), about {back} back (estimated)"
            ));
        }
        let [from, to] = self.packets;
        match (from, to) {
            (0, to) if to >= 5 => hints.push("nothing came back this way".to_owned()),
            (from, 0) if from >= 5 => hints.push("nothing was sent back this way".to_owned()),
            _ => {}
        }
        hints.join("; ")
    }

    /// The row. `measured` says how round trips were measured.
    pub(super) fn row(&self, address: IpAddr, entry: &Entry, measured: &str) -> PeerRow {
        let mut ttls: Vec<(u8, u64)> = self.ttls.iter().map(|(&ttl, &n)| (ttl, n)).collect();
        ttls.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        ttls.truncate(TTLS);
        let hops = self.hops();
        let [handshake, data] = [self.rtt[0].spread(), self.rtt[1].spread()];
        let probe = self.probe.spread();
        let least = self.least_rtt();
        let country_label =
            if entry.country_from == "registered" { "registered" } else { "from a database" };
        let labels = [
            (!entry.country.is_empty()).then_some(("country", country_label)),
            hops.map(|_| ("hops", "estimated")),
            handshake.or(data).map(|_| ("rtt", measured)),
            least.map(|_| ("distance", "bounded")),
        ];
        let drawn = entry.drawn();
        PeerRow {
            address: address.to_string(),
            scope: entry.scope.to_owned(),
            country: entry.country.clone(),
            country_name: entry.country_name.clone(),
            packets: self.packets.into(),
            bytes: self.bytes.into(),
            evidence: self.evidence(entry, &ttls, measured),
            ttls,
            hops_estimate: hops,
            rtt: handshake.map(|rtt| (rtt.min, rtt.p50, rtt.samples)),
            distance_bound_km: least.map(hops::distance_bound_km),
            labels: labels
                .into_iter()
                .flatten()
                .map(|(what, label)| (what.to_owned(), label.to_owned()))
                .collect(),
            prefix: entry.prefix.clone(),
            city: entry.city.clone(),
            asn: entry.asn,
            as_name: entry.as_name.clone(),
            anycast: entry.anycast.to_owned(),
            listed: entry.listed.clone(),
            place: drawn.map(|drawn| drawn.0),
            place_from: drawn.map_or("", |drawn| drawn.1).to_owned(),
            rtt_handshake: handshake,
            rtt_data: data,
            rtt_probe: probe,
            host_ns: self.host.spread().map(|host| host.p50),
            hop_changes: self.changes.iter().map(|((a, b), n)| (*a, *b, *n)).take(TTLS).collect(),
            asymmetry: self.asymmetry(address),
        }
    }

    /// Which packets each value comes from.
    fn evidence(
        &self,
        entry: &Entry,
        ttls: &[(u8, u64)],
        measured: &str,
    ) -> Vec<(String, String, String)> {
        let mut rows = Vec::new();
        let mut row = |what: &str, label: &str, packets: String| {
            rows.push((what.to_owned(), label.to_owned(), packets));
        };
        if entry.country_from == "registered" {
            row("country", "registered", "the address, by the registries' delegations".to_owned());
        } else if !entry.country_from.is_empty() {
            row("country", "from a database", format!("the address, by {}", entry.country_from));
        }
        if let Some((ttl, times)) = ttls.first() {
            let text = format!(
                "TTL {ttl} of {times} packets received, taken to start at the next of 32, 64, 128, 255"
            );
            row("hops", "estimated", text);
        }
        let since = self.first_rtt.map_or(String::new(), |at| format!(", the first at {at} ns"));
        if let Some(rtt) = self.rtt[0].spread() {
            let text =
                format!("{} handshakes (SYN to SYN-ACK, SYN-ACK to ACK){since}", rtt.samples);
            row("rtt_handshake", measured, text);
        }
        if let Some(rtt) = self.rtt[1].spread() {
            let text = format!(
                "{} data segments to their acknowledgements, retransmitted ones left out{since}",
                rtt.samples
            );
            row("rtt_data", measured, text);
        }
        if let Some(rtt) = self.probe.spread() {
            row("rtt_probe", "measured", format!("{} route probes it answered", rtt.samples));
        }
        if let Some(host) = self.host.spread() {
            let text = format!("first probe to driver, {} measured packets", host.samples);
            row("host", "measured", text);
        }
        if self.least_rtt().is_some() {
            row("distance", "bounded", "the least round trip, at 100 km per ms".to_owned());
        }
        rows
    }
}

/// Addresses of the devices in each namespace.
pub(super) fn local_addresses(tables: &Tables) -> HashMap<u32, BTreeSet<IpAddr>> {
    let mut local: HashMap<u32, BTreeSet<IpAddr>> = HashMap::new();
    for device in tables.devices.values() {
        let addresses = local.entry(device.netns).or_default();
        for address in &device.addresses {
            let bare = address.split('/').next().unwrap_or(address);
            addresses.extend(bare.parse::<IpAddr>());
        }
    }
    local
}
