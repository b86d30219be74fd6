//! What was exchanged with each peer, from where it can be seen.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use psc_formats::Tables;

use crate::bounded::Bounded;
use crate::view::locate::PeerRow;

use super::rtt::{Sample, Samples};
use super::{countries, hops, place};

/// Peers kept; beyond, those not seen for longest go and are counted.
const PEERS: usize = 65_536;

/// TTL values shown per peer.
const TTLS: usize = 8;

/// One address as seen from one namespace.
#[derive(Clone, Debug, Default)]
struct Peer {
    /// From, to.
    packets: [u64; 2],
    /// From, to.
    bytes: [u64; 2],
    /// At most 256 by nature.
    ttls: BTreeMap<u8, u64>,
    rtt: Samples,
}

/// Which side of a packet the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// It sent the packet, which had this TTL left.
    From { ttl: Option<u8> },
    /// The packet was sent to it.
    To,
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

/// Peers, countries and what was left out.
pub(super) struct Summary {
    pub(super) rows: Vec<PeerRow>,
    pub(super) omitted: u64,
    /// Addresses forgotten for want of room.
    pub(super) forgotten: u64,
    pub(super) countries: Vec<(String, String, u64, u64)>,
}

impl Peers {
    pub(super) fn packet(&mut self, netns: u32, address: IpAddr, side: Side, bytes: u64) {
        let peer = self.seen.entry_or_forget((netns, address), Peer::default);
        let index = match side {
            Side::From { ttl } => {
                if let Some(ttl) = ttl {
                    *peer.ttls.entry(ttl).or_default() += 1;
                }
                0
            }
            Side::To => 1,
        };
        peer.packets[index] += 1;
        peer.bytes[index] = peer.bytes[index].saturating_add(bytes);
    }

    pub(super) fn rtt(&mut self, netns: u32, sample: Sample) {
        let peer = self.seen.entry_or_forget((netns, sample.peer), Peer::default);
        peer.rtt.add(sample.rtt_ns);
    }

    /// Sums up over namespaces. `measured` says how round trips were measured.
    pub(super) fn finish(self, tables: &Tables, measured: &str, limit: usize) -> Summary {
        let local = local_addresses(tables);
        let forgotten = self.seen.evicted();
        let mut merged: BTreeMap<IpAddr, Peer> = BTreeMap::new();
        for ((netns, address), peer) in self.seen.into_oldest_first() {
            let own = local.get(&netns).is_some_and(|own| own.contains(&address));
            if own || address.is_unspecified() {
                continue;
            }
            merged.entry(address).or_default().merge(&peer);
        }
        let mut all: Vec<(IpAddr, Peer)> = merged.into_iter().collect();
        all.sort_by(|(a, left), (b, right)| right.total().cmp(&left.total()).then(a.cmp(b)));

        let mut by_country: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for (address, peer) in &all {
            if let Some(code) = place::registered_country(*address) {
                let (peers, bytes) = by_country.entry(code).or_default();
                *peers += 1;
                *bytes = bytes.saturating_add(peer.total());
            }
        }
        let mut countries: Vec<(String, String, u64, u64)> = by_country
            .into_iter()
            .map(|(code, (peers, bytes))| {
                (code.to_owned(), countries::name(code).unwrap_or(code).to_owned(), peers, bytes)
            })
            .collect();
        countries.sort_by(|a, b| b.3.cmp(&a.3).then_with(|| a.0.cmp(&b.0)));
        Summary {
            omitted: all.len().saturating_sub(limit) as u64,
            rows: all.iter().take(limit).map(|(a, peer)| peer.row(*a, measured)).collect(),
            forgotten,
            countries,
        }
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
        }
        for (ttl, count) in &other.ttls {
            *self.ttls.entry(*ttl).or_default() += count;
        }
        self.rtt.merge(&other.rtt);
    }

    fn row(&self, address: IpAddr, measured: &str) -> PeerRow {
        let mut ttls: Vec<(u8, u64)> = self.ttls.iter().map(|(&ttl, &n)| (ttl, n)).collect();
        ttls.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        ttls.truncate(TTLS);
        let scope = place::scope(address);
        let country = place::registered_country(address);
        let hops = ttls.first().map(|(ttl, _)| hops::estimate(*ttl));
        let rtt = self.rtt.summary();
        let labels = [
            country.map(|_| ("country", "registered")),
            hops.map(|_| ("hops", "estimated")),
            rtt.map(|_| ("rtt", measured)),
            rtt.map(|_| ("distance", "bounded")),
        ];
        PeerRow {
            address: address.to_string(),
            scope: scope.to_owned(),
            country: country.unwrap_or_default().to_owned(),
            country_name: country.and_then(countries::name).unwrap_or_default().to_owned(),
            packets: self.packets.into(),
            bytes: self.bytes.into(),
            ttls,
            hops_estimate: hops,
            rtt,
            distance_bound_km: rtt.map(|(min, ..)| hops::distance_bound_km(min)),
            labels: labels
                .into_iter()
                .flatten()
                .map(|(what, label)| (what.to_owned(), label.to_owned()))
                .collect(),
        }
    }
}

/// Addresses of each namespace's devices.
pub(super) fn local_addresses(tables: &Tables) -> HashMap<u32, BTreeSet<IpAddr>> {
    let mut local: HashMap<u32, BTreeSet<IpAddr>> = HashMap::new();
    for device in tables.devices.values() {
        let own = local.entry(device.netns).or_default();
        own.extend(
            device
                .addresses
                .iter()
                .filter_map(|text| text.split('/').next()?.parse::<IpAddr>().ok()),
        );
    }
    local
}
