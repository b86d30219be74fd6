//! The analyzer's view: volume, latency by layer, drops by reason and place, flows, counters.

use serde::Serialize;

use super::Provenance;
use super::tcp::TcpSheet;
use super::trace::Latency;

/// What `psc analyze` shows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AnalyzeView {
    /// What this is.
    pub provenance: Provenance,
    /// Volume by layer and direction, wire side first.
    pub volume: Vec<VolumeRow>,
    /// Volume over time.
    pub series: Series,
    /// Latency between layers, receive side then transmit side.
    pub latency: Vec<LayerLatency>,
    /// Waits for softirqs and for a CPU, by CPU and by process; empty unless these probes were asked for.
    pub delays: Vec<DelayRow>,
    /// Drops, most packets first.
    pub drops: Vec<DropRow>,
    /// Packet loss in its three kinds, never added up.
    pub loss: ThreeLosses,
    /// Connections, most bytes first.
    pub flows: Vec<FlowRow>,
    /// Flows not shown because of the limit.
    pub flows_omitted: u64,
    /// The same totals by flow, interface, process, cgroup, namespace, drop reason, peer and port.
    pub breakdowns: Vec<Breakdown>,
    /// Interaction frequency between layers: (from layer, to layer, steps).
    pub interactions: Vec<Interaction>,
    /// Kernel counters against counts from events.
    pub counters: Vec<CounterRow>,
    /// Findings of the analyzer (listen overflow, ...), worst first.
    pub findings: Vec<super::detect::Finding>,
    /// Events per CPU.
    pub cpus: Vec<CpuRow>,
}

/// Volume of one layer in one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VolumeRow {
    /// Layer name.
    pub layer: String,
    /// `ingress` or `egress`; `unknown` for captures that do not say.
    pub direction: String,
    /// Device name; empty when it is over all.
    pub device: String,
    /// Namespace of the device, name or inode; empty when it is over all, or a capture.
    pub netns: String,
    /// skbs seen.
    pub skbs: u64,
    /// Wire segments that they stand for.
    pub segments: u64,
    /// Bytes, `skb->len` summed (for captures: frame bytes).
    pub bytes: u64,
}

/// Volume over time, fixed bins.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Series {
    /// Start of the first bin, nanoseconds on the recording's clock.
    pub start: u64,
    /// Width of a bin, nanoseconds.
    pub bin_ns: u64,
    /// Ingress packets (skbs) per bin.
    pub ingress: Vec<u64>,
    /// Egress packets (skbs) per bin.
    pub egress: Vec<u64>,
    /// Packets of unknown direction per bin.
    pub unknown: Vec<u64>,
    /// Bytes per bin, all directions.
    pub bytes: Vec<u64>,
    /// Drops per bin.
    pub drops: Vec<u64>,
}

/// Time between two points of the stack.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LayerLatency {
    /// `ingress` or `egress`.
    pub direction: String,
    /// From layer and probe, `link netif_receive_skb`.
    pub from: String,
    /// To layer and probe.
    pub to: String,
    /// Percentiles; count 0 is "unavailable", with the reason in `note`.
    pub latency: Latency,
    /// Why it is unavailable, or what it includes (`application scheduling`); empty when plain.
    pub note: String,
    /// Histogram for drawing: (upper bound in nanoseconds, count), non-empty buckets only.
    pub histogram: Vec<(u64, u64)>,
    /// The whole HDR histogram, three significant digits: (value in nanoseconds, count). Sums of these
    /// over several recordings have the percentiles of all their samples together.
    pub recorded: Vec<(u64, u64)>,
}

/// What packets waited for beside queues, of one CPU or process.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DelayRow {
    /// `NET_RX wait`, `NET_RX run`, `NET_TX wait`, `NET_TX run` (softirqs, by CPU) or `scheduling` (from being
    /// woken by a socket to running, by process).
    pub delay: String,
    /// `CPU 0`, or `comm[pid]`; `others` is over those for which there was no room.
    pub of: String,
    /// Percentiles.
    pub latency: Latency,
    /// Sum of all samples, nanoseconds.
    pub total_ns: u64,
}

/// Drops of one reason at one place.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DropRow {
    /// Drop reason name.
    pub reason: String,
    /// `function+offset`.
    pub location: String,
    /// Layer of that function.
    pub layer: String,
    /// Namespace name or inode.
    pub netns: String,
    /// Device name.
    pub device: String,
    /// skbs, including those only counted.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// First and last, nanoseconds.
    pub first: u64,
    /// See `first`.
    pub last: u64,
    /// Journeys to look at, up to five.
    pub journeys: Vec<u64>,
    /// Top flows with counts, up to five.
    pub flows: Vec<(String, u64)>,
    /// What it means in one sentence, and what to look at; empty when psc has no note on it.
    pub meaning: String,
}

/// The three losses.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ThreeLosses {
    /// TCP segments that were retransmitted, of data segments sent.
    pub network_retransmitted: u64,
    /// See `network_retransmitted`.
    pub network_sent: u64,
    /// Journeys that the kernel dropped, of all journeys.
    pub kernel_dropped: u64,
    /// See `kernel_dropped`.
    pub kernel_journeys: u64,
    /// Events that the recorder lost; `None` unknown.
    pub recorder_lost: Option<u64>,
    /// Events that the recorder kept.
    pub recorder_kept: u64,
}

/// One connection, originator first.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FlowRow {
    /// Number in order of first packet, from 1: `#flow=N`.
    pub id: u64,
    /// `tcp`, `udp`, `icmp`...
    pub protocol: String,
    /// Originator `address:port`.
    pub originator: String,
    /// Responder `address:port`.
    pub responder: String,
    /// First packet, nanoseconds.
    pub first: u64,
    /// Last minus first, nanoseconds.
    pub duration_ns: u64,
    /// Packets from the originator, from the responder. Each packet counts once however many
    /// probes or devices saw it.
    pub packets: (u64, u64),
    /// IP bytes from the originator, from the responder.
    pub bytes: (u64, u64),
    /// Drops of packets of this connection.
    pub drops: u64,
    /// Retransmitted segments.
    pub retransmits: u64,
    /// Handshake RTT, nanoseconds; `None` not measured.
    pub handshake_rtt_ns: Option<u64>,
    /// Zeek's `conn_state` for TCP (`SF`, `S0`, `REJ`...), empty otherwise.
    pub state: String,
    /// Owner `comm[pid]`, when a fact says; else empty.
    pub process: String,
    /// What is known of a TCP connection beyond that; `None` for other protocols.
    pub tcp: Option<TcpSheet>,
}

/// Totals by one key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Breakdown {
    /// `flow`, `interface`, `process`, `cgroup`, `netns`, `drop-reason`, `peer` or `port`.
    pub by: String,
    /// Most bytes first.
    pub rows: Vec<BreakdownRow>,
    /// Rows not shown because of the limit.
    pub omitted: u64,
}

/// Totals of one value of a key. A packet between two peers, or two processes of this host, counts for
/// both. Interfaces and namespaces count what passed the link layer, drop reasons what was dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BreakdownRow {
    /// The value: `eth0`, `nginx[981]`, `10.0.0.2`, `443/tcp`...; `unknown` when no fact says.
    pub name: String,
    /// Packets, both directions.
    pub packets: u64,
    /// Bytes, both directions.
    pub bytes: u64,
    /// Packets dropped by the kernel.
    pub drops: u64,
    /// TCP segments sent again.
    pub retransmits: u64,
    /// Connections; 0 for keys that are no part of connections.
    pub connections: u64,
}

/// Steps between two layers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Interaction {
    /// Layer name.
    pub from: String,
    /// Layer name.
    pub to: String,
    /// Steps.
    pub count: u64,
    /// Steps per second of recording.
    pub per_second: f64,
}

/// One kernel counter against events.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CounterRow {
    /// Namespace name or inode.
    pub netns: String,
    /// `TcpRetransSegs`.
    pub name: String,
    /// Increase over the recording by the kernel.
    pub kernel: u64,
    /// Count from events; `None` when no event corresponds.
    pub events: Option<u64>,
    /// `agrees`, `differs`, or `no event for it`; with the recorder's loss in mind.
    pub verdict: String,
}

/// Events of one CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CpuRow {
    /// CPU number.
    pub cpu: u16,
    /// Events.
    pub events: u64,
    /// Missing sequence numbers.
    pub gaps: u64,
}
