//! What each flow said, in one look-up a packet.
//!
//! Locating must cost a small part of reading, so a packet touches one record: its flow's, found by a
//! small cache before the keyed hash that hostile tuples cannot slow down. Flows are summed up into
//! peers when they make room for others, and at the end.

use std::collections::HashMap;
use std::net::IpAddr;

use psc_formats::FiveTuple;
use psc_formats::packet::{Headers, Transport};

use super::rtt::{Kind, Sample, Timing};
use super::spread::Samples;
use crate::engine::JourneyId;
use crate::first_sight::Direction;

/// Flows kept; when there are more, those not used for longest are summed up, half at once.
const FLOWS: usize = 32_768;
/// Slots of the cache; a power of two.
const CACHE: usize = 4_096;
/// TTL values and changes kept for one way of a flow.
const TTLS: usize = 8;

/// One flow's key: namespace, and the tuple in canonical order.
type Key = (u32, FiveTuple);

/// What went one way.
#[derive(Clone, Debug, Default)]
pub(super) struct Way {
    /// Packets and IP bytes seen coming from the source.
    pub(super) from: (u64, u64),
    /// Packets and IP bytes seen going to the destination.
    pub(super) to: (u64, u64),
    /// Received TTLs that can have passed routers, with counts; the one in use is at `ttl_at`.
    pub(super) ttls: Vec<(u8, u64)>,
    ttl_at: usize,
    /// (from, to, times).
    pub(super) changes: Vec<(u8, u8, u64)>,
    /// Round trips to the source of this way.
    pub(super) rtt: [Samples; 2],
    pub(super) host: Samples,
    /// First sample, nanoseconds on the recording's clock.
    pub(super) first_rtt: Option<u64>,
    /// Largest IP packet seen coming that was one wire packet.
    pub(super) largest: u32,
    /// Least MSS that its SYNs announced.
    pub(super) mss: Option<u16>,
    /// Largest IP packet in fragments that came, and how many fragments.
    pub(super) fragments: (u32, u64),
    /// Initial TTL of what left here last: to tell what expired from what was meant to.
    pub(super) sent_ttl: Option<u8>,
}

impl Way {
    /// Notes a TTL. `alike`: all packets of this flow are sent with one, so a change means something.
    fn ttl(&mut self, ttl: u8, alike: bool) {
        if let Some((known, count)) = self.ttls.get_mut(self.ttl_at) {
            if *known == ttl {
                *count += 1;
                return;
            }
            let change = (*known, ttl);
            if let Some((.., times)) =
                self.changes.iter_mut().find(|(from, to, _)| (*from, *to) == change)
            {
                *times += 1;
            } else if alike && self.changes.len() < TTLS {
                self.changes.push((change.0, change.1, 1));
            }
        }
        let known = self.ttls.iter().position(|(known, _)| *known == ttl);
        match known {
            Some(at) => {
                self.ttls[at].1 += 1;
                self.ttl_at = at;
            }
            None if self.ttls.len() < TTLS => {
                self.ttl_at = self.ttls.len();
                self.ttls.push((ttl, 1));
            }
            // Somebody plays with TTLs: those beyond the room are not told apart.
            None => {}
        }
    }

    pub(super) fn sample(&mut self, at: u64, sample: Sample) {
        self.first_rtt.get_or_insert(at);
        let kind = match sample.kind {
            Kind::Handshake => 0,
            Kind::Data => 1,
        };
        self.rtt[kind].add(sample.rtt_ns);
        if let Some(ns) = sample.host_ns {
            self.host.add(ns);
        }
    }
}

/// One flow, both ways.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    pub(super) netns: u32,
    /// In canonical order; way 0 goes as it says.
    pub(super) tuple: FiveTuple,
    used: u64,
    pub(super) ways: [Way; 2],
    /// Whether its packets can have passed routers; `None` not asked yet.
    pub(super) crosses: Option<bool>,
    timing: Option<Box<Timing>>,
}

impl Flow {
    fn new((netns, tuple): Key) -> Self {
        Self {
            netns,
            tuple,
            used: 0,
            ways: [Way::default(), Way::default()],
            crosses: None,
            timing: None,
        }
    }

    /// Who sends what goes this way.
    pub(super) fn source(&self, way: usize) -> IpAddr {
        if way == 0 { self.tuple.src } else { self.tuple.dst }
    }
}

/// All flows.
#[derive(Debug)]
pub(super) struct Flows {
    slab: Vec<Flow>,
    index: HashMap<Key, u32>,
    /// Slab index + 1.
    cache: Vec<u32>,
    uses: u64,
}

impl Default for Flows {
    fn default() -> Self {
        Self { slab: Vec::new(), index: HashMap::new(), cache: vec![0; CACHE], uses: 0 }
    }
}

/// A cheap mix: it chooses a cache slot only, and what shares one is found by the keyed hash.
fn slot((netns, tuple): &Key) -> usize {
    let half = |address: IpAddr| match address {
        IpAddr::V4(v4) => u64::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6) as u64,
    };
    let ports = u64::from(tuple.sport) << 24 ^ u64::from(tuple.dport) << 8;
    let mixed = half(tuple.src)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(half(tuple.dst).rotate_left(32))
        .wrapping_add(ports ^ u64::from(*netns) << 44 ^ u64::from(tuple.protocol))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 52) as usize % CACHE
}

/// The key, and which way the tuple goes in it.
fn key(netns: u32, tuple: FiveTuple) -> (Key, usize) {
    let canonical = tuple.canonical();
    ((netns, canonical), usize::from(canonical != tuple))
}

impl Flows {
    /// The flow of `tuple` and the way it goes. Flows that had to make room are handed to `spill`.
    pub(super) fn get(
        &mut self,
        netns: u32,
        tuple: FiveTuple,
        spill: impl FnMut(Flow),
    ) -> (&mut Flow, usize) {
        let (key, way) = key(netns, tuple);
        self.uses += 1;
        let slot = slot(&key);
        let cached = (self.cache[slot] as usize).wrapping_sub(1);
        let hit = self.slab.get(cached).is_some_and(|flow| (flow.netns, flow.tuple) == key);
        let at = if hit {
            cached
        } else {
            let at = self.find(key, spill);
            self.cache[slot] = at as u32 + 1;
            at
        };
        let flow = &mut self.slab[at];
        flow.used = self.uses;
        (flow, way)
    }

    fn find(&mut self, key: Key, spill: impl FnMut(Flow)) -> usize {
        if let Some(at) = self.index.get(&key) {
            return *at as usize;
        }
        if self.slab.len() >= FLOWS {
            self.make_room(spill);
        }
        let at = self.slab.len();
        self.slab.push(Flow::new(key));
        self.index.insert(key, at as u32);
        at
    }

    /// Hands on the half that was not used for longest.
    fn make_room(&mut self, mut spill: impl FnMut(Flow)) {
        let mut used: Vec<u64> = self.slab.iter().map(|flow| flow.used).collect();
        let half = used.len() / 2;
        let cut = *used.select_nth_unstable(half).1;
        let all = std::mem::take(&mut self.slab);
        self.index.clear();
        self.cache.fill(0);
        for flow in all {
            if flow.used < cut {
                spill(flow);
            } else {
                self.index.insert((flow.netns, flow.tuple), self.slab.len() as u32);
                self.slab.push(flow);
            }
        }
    }

    /// The way of a flow that is known; `None` for one that is not, or not any more.
    pub(super) fn known(&self, netns: u32, tuple: FiveTuple) -> Option<&Way> {
        let (key, way) = key(netns, tuple);
        let at = *self.index.get(&key)? as usize;
        Some(&self.slab[at].ways[way])
    }

    /// All flows in the order of their first packets.
    pub(super) fn into_flows(self) -> Vec<Flow> {
        self.slab
    }
}

impl Flow {
    /// Counts one packet that goes `way`. `crossed`: its TTL says how many routers it passed.
    pub(super) fn count(
        &mut self,
        way: usize,
        direction: Direction,
        headers: &Headers,
        bytes: u64,
        crossed: bool,
    ) {
        // Without ports it is no one flow: neighbour discovery and echoes start with TTLs of their own.
        let alike = self.tuple.sport != 0 || self.tuple.dport != 0;
        let one = &mut self.ways[way];
        if direction != Direction::Ingress {
            one.to.0 += 1;
            one.to.1 = one.to.1.saturating_add(bytes);
            one.sent_ttl = headers.ttl();
        }
        if direction != Direction::Egress {
            one.from.0 += 1;
            one.from.1 = one.from.1.saturating_add(bytes);
            if crossed && let Some(ttl) = headers.ttl() {
                one.ttl(ttl, alike);
            }
        }
        if let Transport::Tcp(tcp) = &headers.transport
            && let Some(mss) = tcp.options.mss
            && direction != Direction::Egress
        {
            one.mss = Some(one.mss.map_or(mss, |known| known.min(mss)));
        }
    }

    /// One sighting of a TCP segment that goes `way`.
    pub(super) fn time(
        &mut self,
        way: usize,
        direction: Direction,
        at: u64,
        journey: Option<JourneyId>,
        headers: &Headers,
    ) {
        if !matches!(headers.transport, Transport::Tcp(_)) {
            return;
        }
        let timing = self.timing.get_or_insert_default();
        if let Some(sample) = timing.sighting(way, direction, at, journey, headers) {
            // The packet at hand is the answer: its sender is the peer measured.
            self.ways[way].sample(at, sample);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn tuple(n: u32) -> FiveTuple {
        let src = std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string();
        sample::udp(&format!("{src}:1"), "10.255.0.1:2", 1).tuple().expect("tuple")
    }

    #[test]
    fn both_ways_are_one_flow_and_namespaces_are_two() {
        let mut flows = Flows::default();
        let t = tuple(1);
        let (_, there) = flows.get(1, t, |_| panic!());
        let (_, back) = flows.get(1, t.reversed(), |_| panic!());
        flows.get(2, t, |_| panic!());
        assert_eq!(there + back, 1);
        assert_eq!(flows.into_flows().len(), 2);
    }

    #[test]
    fn nothing_is_lost_when_flows_make_room() {
        let mut flows = Flows::default();
        let mut spilled = 0;
        let mut packets = 0;
        let mut take = |flow: Flow, spilled: &mut u64| {
            *spilled += 1;
            packets += flow.ways[0].to.0 + flow.ways[1].to.0;
        };
        let headers = sample::udp("10.0.0.1:1", "10.0.0.2:2", 1);
        let many = FLOWS as u32 * 3;
        for n in 0..many {
            // One flow stays in use throughout.
            for n in [n, 0] {
                let (flow, way) = flows.get(0, tuple(n), |flow| take(flow, &mut spilled));
                flow.count(way, Direction::Egress, &headers, 1, false);
            }
            assert!(flows.slab.len() <= FLOWS);
        }
        assert!(flows.known(0, tuple(0)).is_some_and(|way| way.to.0 == u64::from(many) + 1));
        for flow in flows.into_flows() {
            take(flow, &mut spilled);
        }
        assert_eq!((spilled, packets), (u64::from(many), u64::from(many) * 2));
    }

    #[test]
    fn changes_of_the_ttl_are_counted() {
        let mut way = Way::default();
        for ttl in [60, 60, 58, 60, 58, 58] {
            way.ttl(ttl, true);
        }
        assert_eq!(way.ttls, [(60, 3), (58, 3)]);
        assert_eq!(way.changes, [(60, 58, 2), (58, 60, 1)]);
    }
}
