//! What happened to a packet on its way, and the journeys that are one story with it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use psc_formats::event::{DeviceId, SkbAddr};
use psc_formats::packet::{Headers, Network};
use psc_formats::{Event, EventKind, Ns};
use rustc_hash::FxHashMap;

use super::words;
use crate::analyzer::netns_name;
use crate::engine::{ClosedJourney, Evidence, Lineage, World};
use crate::view::trace::{Passage, Story, StoryEdge, Transit};

/// Edges kept at most; journeys joined by further ones are told without those.
const MAX_EDGES: usize = 1 << 20;

/// Journeys of one story told at most.
const MAX_MEMBERS: usize = 256;

/// Which journeys belong together.
#[derive(Debug, Default)]
pub(super) struct Stories {
    edges: Vec<(u64, Lineage, u64, Evidence)>,
}

impl Stories {
    pub(super) fn see(&mut self, journey: &ClosedJourney) {
        for edge in &journey.lineage {
            if self.edges.len() < MAX_EDGES {
                self.edges.push((journey.id.0, edge.how, edge.of.0, edge.evidence));
            }
        }
    }

    /// The stories that `told` journeys are part of, by their first journey; a journey that is joined to no
    /// other has none.
    pub(super) fn of(&self, told: impl Iterator<Item = u64>) -> Vec<Story> {
        let mut around: FxHashMap<u64, Vec<usize>> = FxHashMap::default();
        for (index, &(journey, _, of, _)) in self.edges.iter().enumerate() {
            around.entry(journey).or_default().push(index);
            around.entry(of).or_default().push(index);
        }
        let mut stories: BTreeMap<u64, Story> = BTreeMap::new();
        let mut done = BTreeSet::new();
        for start in told {
            if !around.contains_key(&start) || !done.insert(start) {
                continue;
            }
            let (mut members, mut edges) = (BTreeSet::from([start]), BTreeSet::new());
            let mut next = VecDeque::from([start]);
            let mut omitted = 0;
            while let Some(journey) = next.pop_front() {
                for &index in &around[&journey] {
                    let (one, _, other, _) = self.edges[index];
                    let beyond = if one == journey { other } else { one };
                    if !members.contains(&beyond) {
                        if members.len() >= MAX_MEMBERS {
                            omitted += 1;
                            continue;
                        }
                        members.insert(beyond);
                        next.push_back(beyond);
                    }
                    edges.insert(index);
                }
            }
            done.extend(members.iter().copied());
            let mut edges: Vec<StoryEdge> =
                edges.into_iter().map(|at| edge(self.edges[at])).collect();
            edges.sort_by(|a, b| (a.journey, a.of, &a.kind).cmp(&(b.journey, b.of, &b.kind)));
            let journeys: Vec<u64> = members.into_iter().collect();
            stories.insert(journeys[0], Story { id: journeys[0], journeys, edges, omitted });
        }
        stories.into_values().collect()
    }
}

fn edge((journey, how, of, evidence): (u64, Lineage, u64, Evidence)) -> StoryEdge {
    StoryEdge {
        journey,
        kind: match how {
            Lineage::Clone => "clone",
            Lineage::Copy => "copy",
            Lineage::Segment => "segment",
            Lineage::Merged => "merged",
            Lineage::Fragment => "fragment",
            Lineage::Reassembled => "reassembled",
        }
        .to_owned(),
        of,
        evidence: match evidence {
            Evidence::Content => "content",
            Evidence::Observed => "observed",
        }
        .to_owned(),
        words: words::lineage(how, of),
    }
}

/// Crossings of namespaces, forwarding, translation and tunnels, in the order of the steps.
pub(super) fn passages(journey: &ClosedJourney, world: World<'_>) -> Vec<Passage> {
    let mut passages = Vec::new();
    let mut states = journey.headers.iter().peekable();
    let mut headers: Option<&Headers> = None;
    // Where it was last: device, and whether it had been received there.
    let mut place: Option<(DeviceId, bool)> = None;
    let arrivals: Vec<_> = journey.steps.iter().filter_map(arrival).collect();
    for (step, index) in journey.steps.iter().zip(0_u32..) {
        let mut add = |kind: &str, from: String, to: String| {
            let (step, kind) = (index as usize, kind.to_owned());
            passages.push(Passage { step, kind, from, to, transit: None });
        };
        if let Some((kind, from, to)) = moved(step, place, world) {
            add(kind, from, to);
            let came = arrivals.iter().find(|(skb, at, _)| (*skb, *at) == (step.skb, step.at));
            if let (Some((.., transit)), Some(passage)) = (came, passages.last_mut()) {
                "host".clone_into(&mut passage.kind);
                passage.transit = Some(transit.clone());
            }
        }
        let mut add = |kind: &str, from: String, to: String| {
            let (step, kind) = (index as usize, kind.to_owned());
            passages.push(Passage { step, kind, from, to, transit: None });
        };
        if tells_device(step) {
            let received = match step.kind {
                EventKind::Receive {} => true,
                EventKind::DeviceQueue {} | EventKind::TransmitStart {} => false,
                _ => place.is_some_and(|(device, received)| received && device == step.device),
            };
            place = Some((step.device, received));
        }
        while let Some((_, now)) = states.next_if(|(from, _)| *from <= index) {
            if let Some(old) = headers {
                for (kind, from, to) in rewritten(old, now) {
                    add(kind, from, to);
                }
            }
            headers = Some(now);
        }
    }
    passages
}

/// The skb and time of a packet's first event on the host that it is handed to, and how long that took.
fn arrival(sent: &Event) -> Option<(SkbAddr, Ns, Transit)> {
    let EventKind::Handed { child, arrival, earlier, later } = sent.kind else { return None };
    let took = arrival.saturating_sub(sent.at.0);
    let transit = Transit {
        took_ns: took,
        least_ns: took.saturating_sub(earlier),
        most_ns: (later < u64::MAX).then(|| took.saturating_add(later)),
    };
    Some((child, Ns(arrival), transit))
}

/// Whether a step says on which device the packet is. A driver's answer comes from behind it.
fn tells_device(step: &Event) -> bool {
    step.device != DeviceId(0)
        && !step.kind.is_deeper_tier()
        && !matches!(step.kind, EventKind::TransmitDone { .. })
}

/// Whether a step is elsewhere than the one before: in another namespace, or going out by another device
/// than it came in by.
fn moved(
    step: &Event,
    place: Option<(DeviceId, bool)>,
    world: World<'_>,
) -> Option<(&'static str, String, String)> {
    let (before, received) = place?;
    if step.device == before || !tells_device(step) {
        return None;
    }
    let [from, to] = [before, step.device].map(|id| world.tables.devices.get(&id));
    let (Some(from), Some(to)) = (from, to) else { return None };
    let at = |device: &psc_formats::fact::DeviceFact| match device.netns {
        0 => device.name.clone(),
        netns => format!("{} ({})", device.name, netns_name(world.tables, netns)),
    };
    if from.netns != to.netns {
        return Some(("namespace", at(from), at(to)));
    }
    let leaves = matches!(step.kind, EventKind::DeviceQueue {});
    (received && leaves).then(|| ("forwarded", at(from), at(to)))
}

/// What the stack made of the headers: translated addresses, or another packet around or inside.
fn rewritten(old: &Headers, now: &Headers) -> Vec<(&'static str, String, String)> {
    let (Some(was), Some(is)) = (old.tuple(), now.tuple()) else { return Vec::new() };
    if was == is {
        return Vec::new();
    }
    // What is around or inside is another packet; between two tunnels' packets only addresses change.
    match (is_tunnelled(old), is_tunnelled(now)) {
        (false, true) => return vec![("encapsulated", was.to_string(), is.to_string())],
        (true, false) => return vec![("decapsulated", was.to_string(), is.to_string())],
        _ => {}
    }
    let end = |address: std::net::IpAddr, port: u16| match (port, address) {
        (0, address) => address.to_string(),
        (port, std::net::IpAddr::V6(address)) => format!("[{address}]:{port}"),
        (port, address) => format!("{address}:{port}"),
    };
    let mut changes = Vec::new();
    if was.protocol != is.protocol {
        return changes;
    }
    // A later fragment has no ports to compare.
    let ports = !is_later_fragment(old) && !is_later_fragment(now);
    if was.src != is.src || ports && was.sport != is.sport {
        changes.push(("source NAT", end(was.src, was.sport), end(is.src, is.sport)));
    }
    if was.dst != is.dst || ports && was.dport != is.dport {
        changes.push(("destination NAT", end(was.dst, was.dport), end(is.dst, is.dport)));
    }
    changes
}

/// Whether this is a tunnel's packet: IP in IP, GRE, ESP, AH, or UDP to the port of VXLAN (4789, and Linux's
/// old 8472), GENEVE (6081) or ESP in UDP (4500).
fn is_tunnelled(headers: &Headers) -> bool {
    let port = headers.tuple().map_or(0, |tuple| tuple.dport);
    match headers.protocol() {
        Some(4 | 41 | 47 | 50 | 51) => true,
        Some(17) => matches!(port, 4789 | 8472 | 6081 | 4500),
        _ => false,
    }
}

fn is_later_fragment(headers: &Headers) -> bool {
    match headers.network {
        Network::V4(ip) => ip.fragment_offset != 0,
        Network::V6(ip) => ip.fragment.is_some_and(|(_, offset, _)| offset != 0),
        Network::Arp(_) | Network::None => false,
    }
}
