//! What each flow said, in one look-up a packet.
//!
//! Locating must cost a small part of reading, so a packet touches one small record: its flow's. What most
//! flows never have (a second TTL, fragments, more than a few round trips) is beside it. Flows are summed up
//! into peers when they make room for others, and at the end.

use std::hash::BuildHasher;
use std::net::IpAddr;

use hashbrown::{DefaultHashBuilder, HashTable};
use psc_formats::FiveTuple;
use psc_formats::packet::{Headers, Transport};

use super::rtt::{Kind, Sample, Timing};
use super::spread::Few;
use crate::engine::JourneyId;
use crate::first_sight::Direction;

/// Flows kept; when there are more, those not used for longest are summed up, half at once.
const FLOWS: usize = 32_768;
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
    /// The one TTL received so far that can have passed routers, with its count; with several, they are in
    /// `rare`.
    ttl: (u64, u8),
    /// Initial TTL of what left here last: to tell what expired from what was meant to.
    pub(super) sent_ttl: Option<u8>,
    /// Least MSS that its SYNs announced.
    pub(super) mss: Option<u16>,
    /// Largest IP packet seen coming that was one wire packet.
    pub(super) largest: u32,
    /// Round trips to the source of this way: of handshakes, of data.
    pub(super) handshake: Few<1>,
    pub(super) data: Few<2>,
    pub(super) host: Few<1>,
    /// First sample, nanoseconds on the recording's clock.
    pub(super) first_rtt: Option<u64>,
    rare: Option<Box<Rare>>,
}

/// What few ways have.
#[derive(Clone, Debug, Default)]
struct Rare {
    /// Several TTLs with counts; the one in use is at `ttl_at`.
    ttls: Vec<(u8, u64)>,
    ttl_at: usize,
    /// (from, to, times).
    changes: Vec<(u8, u8, u64)>,
    /// Largest IP packet in fragments that came, and how many fragments.
    fragments: (u32, u64),
}

impl Rare {
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
}

impl Way {
    /// Notes a TTL. `alike`: all packets of this flow are sent with one, so a change means something.
    fn ttl(&mut self, ttl: u8, alike: bool) {
        let (count, known) = &mut self.ttl;
        let several = self.rare.as_ref().is_some_and(|rare| !rare.ttls.is_empty());
        if !several && (*count == 0 || *known == ttl) {
            (*count, *known) = (*count + 1, ttl);
            return;
        }
        let rare = self.rare.get_or_insert_default();
        if !several {
            rare.ttls.push((*known, *count));
        }
        rare.ttl(ttl, alike);
    }

    /// Received TTLs that can have passed routers, with counts.
    pub(super) fn ttls(&self) -> impl Iterator<Item = (u8, u64)> {
        let several = self.rare.as_ref().map_or(&[][..], |rare| &rare.ttls);
        let (count, ttl) = self.ttl;
        let one = (several.is_empty() && count > 0).then_some((ttl, count));
        one.into_iter().chain(several.iter().copied())
    }

    /// Changes of the TTL: (from, to, times).
    pub(super) fn changes(&self) -> &[(u8, u8, u64)] {
        self.rare.as_ref().map_or(&[], |rare| &rare.changes)
    }

    /// Largest IP packet in fragments that came, and how many fragments.
    pub(super) fn fragments(&self) -> (u32, u64) {
        self.rare.as_ref().map_or((0, 0), |rare| rare.fragments)
    }

    /// Notes a fragment with this length.
    pub(super) fn fragment(&mut self, len: u32) {
        let fragments = &mut self.rare.get_or_insert_default().fragments;
        *fragments = (fragments.0.max(len), fragments.1 + 1);
    }

    pub(super) fn sample(&mut self, at: u64, sample: Sample) {
        self.first_rtt.get_or_insert(at);
        match sample.kind {
            Kind::Handshake => self.handshake.add(sample.rtt_ns),
            Kind::Data => self.data.add(sample.rtt_ns),
        }
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
    hash: u64,
    pub(super) ways: [Way; 2],
    /// Whether its packets can have passed routers; `None` not asked yet.
    pub(super) crosses: Option<bool>,
    timing: Option<Box<Timing>>,
}

impl Flow {
    fn new((netns, tuple): Key, hash: u64) -> Self {
        Self {
            netns,
            tuple,
            used: 0,
            hash,
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
#[derive(Debug, Default)]
pub(super) struct Flows {
    slab: Vec<Flow>,
    /// Places in the slab, by a hash with a seed of its own: who crafts tuples does not know which meet.
    places: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Where the last packet's flow is: packets come in bursts.
    last: usize,
    uses: u64,
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
        spill: impl FnMut(&Flow),
    ) -> (&mut Flow, usize) {
        let (key, way) = key(netns, tuple);
        self.uses += 1;
        if self.slab.get(self.last).is_none_or(|flow| (flow.netns, flow.tuple) != key) {
            self.last = self.find(key, spill);
        }
        let flow = &mut self.slab[self.last];
        flow.used = self.uses;
        (flow, way)
    }

    fn find(&mut self, key: Key, spill: impl FnMut(&Flow)) -> usize {
        let hash = self.hasher.hash_one(key);
        if let Some(place) = self.place(hash, &key) {
            return place;
        }
        if self.slab.len() >= FLOWS {
            self.make_room(spill);
        }
        let place = self.slab.len();
        self.slab.push(Flow::new(key, hash));
        let slab = &self.slab;
        self.places.insert_unique(hash, place as u32, |other| slab[*other as usize].hash);
        place
    }

    fn place(&self, hash: u64, key: &Key) -> Option<usize> {
        let same = |place: &u32| {
            let flow = &self.slab[*place as usize];
            (flow.netns, flow.tuple) == *key
        };
        self.places.find(hash, same).map(|place| *place as usize)
    }

    /// Hands on the half that was not used for longest.
    fn make_room(&mut self, mut spill: impl FnMut(&Flow)) {
        let mut used: Vec<u64> = self.slab.iter().map(|flow| flow.used).collect();
        let half = used.len() / 2;
        let cut = *used.select_nth_unstable(half).1;
        self.slab.retain(|flow| {
            let stays = flow.used >= cut;
            if !stays {
                spill(flow);
            }
            stays
        });
        self.places.clear();
        for (place, flow) in self.slab.iter().enumerate() {
            let slab = &self.slab;
            self.places.insert_unique(flow.hash, place as u32, |at| slab[*at as usize].hash);
        }
    }

    /// The way of a flow that is known; `None` for one that is not, or not any more.
    pub(super) fn known(&self, netns: u32, tuple: FiveTuple) -> Option<&Way> {
        let (key, way) = key(netns, tuple);
        let place = self.place(self.hasher.hash_one(key), &key)?;
        Some(&self.slab[place].ways[way])
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
        let mut take = |flow: &Flow, spilled: &mut u64| {
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
            take(&flow, &mut spilled);
        }
        assert_eq!((spilled, packets), (u64::from(many), u64::from(many) * 2));
    }

    #[test]
    fn changes_of_the_ttl_are_counted() {
        let mut way = Way::default();
        for ttl in [60, 60, 58, 60, 58, 58] {
            way.ttl(ttl, true);
        }
        assert_eq!(way.ttls().collect::<Vec<_>>(), [(60, 3), (58, 3)]);
        assert_eq!(way.changes(), [(60, 58, 2), (58, 60, 1)]);
        let mut steady = Way::default();
        steady.fragment(1500);
        for ttl in [60, 60, 60] {
            steady.ttl(ttl, true);
        }
        assert_eq!(steady.ttls().collect::<Vec<_>>(), [(60, 3)]);
        assert_eq!((steady.changes(), steady.fragments()), (&[][..], (1500, 1)));
    }
}
