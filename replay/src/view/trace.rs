//! The tracer's view: paths, the path graph, and single journeys.

use serde::Serialize;

use super::Provenance;

/// What `psc trace` shows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TraceView {
    /// What this is.
    pub provenance: Provenance,
    /// How journeys came out.
    pub journeys: JourneyTotals,
    /// Distinct paths, most journeys first, then by signature.
    pub paths: Vec<PathRow>,
    /// Distinct paths not in `paths` because of the limit.
    pub paths_omitted: u64,
    /// Journeys of paths that are not in `paths`.
    pub path_journeys_omitted: u64,
    /// The aggregated path graph.
    pub graph: PathGraph,
    /// Journeys offered first: slowest, dropped, typical; then in time order up to the limit.
    pub exemplars: Vec<Journey>,
    /// Journeys not shown because of the limit.
    pub omitted: u64,
    /// Stories that the journeys shown are part of: several skbs that are one packet, or parts of one.
    pub stories: Vec<Story>,
    /// What one protocol's packets did to another's sockets and routes, in time order.
    pub effects: Vec<Effect>,
    /// Effects not in `effects`, which has a limit.
    pub effects_omitted: u64,
}

/// What an ICMP message did to the socket or route of the flow that it quotes, or why it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Effect {
    /// When it showed, nanoseconds.
    pub at: u64,
    /// `error sent` (a packet made the kernel send an ICMP error), `socket error` (the socket was told),
    /// `path MTU` (its packets got smaller) or `route` (its packets leave towards another neighbour).
    pub kind: String,
    /// Journey of the cause: the ICMP message, or for `error sent` the packet that it is about.
    pub cause: u64,
    /// Journey that shows the effect, where it is a packet.
    pub journey: Option<u64>,
    /// Flow whose socket or route was changed.
    pub target: String,
    /// One sentence.
    pub words: String,
    /// `observed`: a probe saw it; `content`: told by the packets before and after.
    pub evidence: String,
}

/// Journeys joined to each other: clones, copies, segments, merges, fragments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Story {
    /// Number of its first journey.
    pub id: u64,
    /// Its journeys, by number.
    pub journeys: Vec<u64>,
    /// How they are joined, by journey.
    pub edges: Vec<StoryEdge>,
    /// Edges to journeys that are not in `journeys`, which has a limit.
    pub omitted: u64,
}

/// How one journey is joined to another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StoryEdge {
    /// The part.
    pub journey: u64,
    /// `clone`, `copy`, `segment`, `merged`, `fragment` or `reassembled`.
    pub kind: String,
    /// What it is a part of, was made of, or went into.
    pub of: u64,
    /// `observed`: a probe saw the kernel do it; `content`: told by what the packets say (identification,
    /// sequence numbers, payload) and what their CPU was doing.
    pub evidence: String,
    /// In words: `merged by GRO into journey 12`.
    pub words: String,
}

/// Something that happened to one packet on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Passage {
    /// The step that shows it, from 0.
    pub step: usize,
    /// `host` (came from another host's recording), `namespace` (crossed from one to another), `forwarded`, `source NAT`, `destination NAT`,
    /// `encapsulated` or `decapsulated`.
    pub kind: String,
    /// Device and namespace, address and port, or flow, before.
    pub from: String,
    /// The same after.
    pub to: String,
    /// How long it took from host to host, where that is what happened.
    pub transit: Option<Transit>,
}

/// A packet's way from one host to the next, in a merge of their recordings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Transit {
    /// From the last transmit on the host before to the first step on this one by the merged clocks, nanoseconds.
    pub took_ns: u64,
    /// No less than this, by causality; never below 0, which all packets need.
    pub least_ns: u64,
    /// No more than this, by causality; `None` when no packet the other way bounds it.
    pub most_ns: Option<u64>,
}

/// How journeys came out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct JourneyTotals {
    /// Journeys.
    pub total: u64,
    /// Ended by delivery (consumed, copied to user, or transmitted out of view).
    pub delivered: u64,
    /// Ended by a drop.
    pub dropped: u64,
    /// Whose end no probe saw.
    pub end_not_observed: u64,
    /// Whose identity could not be settled; each is also in one of the others.
    pub ambiguous: u64,
    /// Reasons for ambiguity with counts, most first.
    pub ambiguity: Vec<(String, u64)>,
    /// Events that belong to no skb (socket, neighbour, NAPI).
    pub events_without_skb: u64,
}

/// A journey's shape without times.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PathRow {
    /// Stable id of the shape, hexadecimal.
    pub id: String,
    /// Steps in words: `link:net_dev_queue > driver:net_dev_start_xmit > ...`.
    pub steps: Vec<PathStep>,
    /// Journeys of this shape.
    pub journeys: u64,
    /// Wire bytes.
    pub bytes: u64,
    /// `delivered`, `dropped: NO_SOCKET`, `end not observed`.
    pub outcome: String,
    /// First to last step: p50, p99 and max, nanoseconds.
    pub latency: Latency,
    /// A journey of this shape, by id.
    pub example: u64,
}

/// One step of a shape.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PathStep {
    /// Layer name.
    pub layer: String,
    /// Probe name.
    pub probe: String,
    /// Function that reached the probe, from the stack; empty when unknown.
    pub function: String,
    /// Device name; empty when unknown.
    pub device: String,
}

/// Percentiles of a duration, nanoseconds, from an HDR histogram with three significant digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// Samples. When 0 the rest means nothing and is shown as "unavailable".
    pub count: u64,
    /// Smallest.
    pub min: u64,
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// Largest.
    pub max: u64,
}

/// The path graph: nodes are (layer, function or probe), edges are steps.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PathGraph {
    /// Nodes, by layer, then by name.
    pub nodes: Vec<GraphNode>,
    /// Edges, by (from, to).
    pub edges: Vec<GraphEdge>,
}

/// One node.
#[derive(Clone, Debug, Default, Serialize)]
pub struct GraphNode {
    /// Layer name.
    pub layer: String,
    /// Function or probe.
    pub name: String,
    /// `observed` at a probe; `inferred` when every stack that names it was learned, not taken;
    /// `stack` when it is only known as the function through which stacks entered its layer; `effect` when
    /// no packet was there, only another's effect on a socket.
    pub evidence: String,
    /// Sightings.
    pub events: u64,
    /// Wire bytes.
    pub bytes: u64,
    /// Journeys that ended here in a drop.
    pub drops: u64,
    /// Drop reasons with counts, most first.
    pub drop_reasons: Vec<(String, u64)>,
}

/// One edge.
#[derive(Clone, Debug, Default, Serialize)]
pub struct GraphEdge {
    /// Index into nodes.
    pub from: usize,
    /// Index into nodes.
    pub to: usize,
    /// Steps taken.
    pub count: u64,
    /// Time of the step.
    pub latency: Latency,
    /// `step`, `call` (in kernel stacks, from the entry into one layer to the entry into the next; no
    /// time is known), `lineage` (clone, copy, NAT...) or `effect` (cross-protocol).
    pub kind: String,
}

/// One packet's story.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Journey {
    /// Number in time order, from 1: `#journey=N`.
    pub id: u64,
    /// Why it is offered: `slowest`, `dropped`, `typical`, or empty.
    pub role: String,
    /// First event, nanoseconds.
    pub first: u64,
    /// Last minus first, nanoseconds; to its read where it was read, since giving its memory back afterwards is
    /// no time of the packet.
    pub duration_ns: u64,
    /// Flow in words at the start; empty when no bytes were seen.
    pub flow: String,
    /// One line about the packet: `TCP SYN seq 0 win 64240`, `UDP 12 bytes`; packet text escaped.
    pub summary: String,
    /// Wire bytes at the start.
    pub len: u32,
    /// Wire segments that its skb stands for.
    pub segments: u32,
    /// As [`PathRow::outcome`].
    pub outcome: String,
    /// Where it was dropped: function and offset; empty when it was not.
    pub drop_location: String,
    /// Why its identity is ambiguous; empty when it is not.
    pub ambiguous: String,
    /// Steps in time order.
    pub steps: Vec<JourneyStep>,
    /// What happened to it on its way, by step.
    pub passages: Vec<Passage>,
}

/// One step of one packet.
#[derive(Clone, Debug, Default, Serialize)]
pub struct JourneyStep {
    /// When, nanoseconds on the recording's clock.
    pub at: u64,
    /// Since the step before, nanoseconds.
    pub delta_ns: u64,
    /// CPU.
    pub cpu: u16,
    /// Layer name.
    pub layer: String,
    /// Probe name.
    pub probe: String,
    /// Function that the step happened in: the innermost of the stack that tells (freeing and tracing
    /// are the same everywhere), else the caller that a free names; empty when unknown.
    pub function: String,
    /// Kernel stack, innermost first; empty when none.
    pub stack: Vec<String>,
    /// `observed`, `confirmed`, `contradicted`, `inferred` or empty.
    pub stack_evidence: String,
    /// Device name.
    pub device: String,
    /// Namespace name or inode; empty when unknown.
    pub netns: String,
    /// Task `comm[pid]`, `softirq`, `hardirq` or empty.
    pub context: String,
    /// Details in words: `reason NO_SOCKET at udp_rcv+0x..`, `rc 0`.
    pub detail: String,
    /// Headers as they were when they had changed here: `10.0.0.1:5 > 10.0.1.1:80`; else empty.
    pub headers: String,
    /// `clone of 12`, `NAT`, ...; empty when none.
    pub lineage: String,
}
