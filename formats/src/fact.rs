//! Facts: what the recorder learned beside the events, in-band and before the events that need it.
//!
//! Stored as JSON documents inside fact frames, so that a new field is no new format version:
//! unknown fields and unknown facts are skipped by older readers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::Ns;
use crate::manifest::ProbeStatus;

pub use crate::firewall::{FilterChain, FilterRule, FirewallFact};

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "kebab-case")]
pub enum Fact {
    /// A network device, or a change of one (same id).
    Device(DeviceFact),
    /// A kernel symbol.
    Symbol(SymbolFact),
    /// A unique kernel stack.
    Stack(StackFact),
    /// A task seen in process context.
    Task(TaskFact),
    /// A socket, or a change of one (same id).
    Socket(SocketFact),
    /// Routes of a namespace, as text (`ip route`-like lines).
    Routes(RoutesFact),
    /// Neighbours of a namespace.
    Neighbours(NeighboursFact),
    /// Counters of a namespace at one time.
    Counters(CountersFact),
    /// Network-relevant sysctls of a namespace.
    Sysctls(SysctlsFact),
    /// What the recorder lost up to one time.
    Loss(LossFact),
    /// A probe changed after start.
    Probe(ProbeFact),
    /// Clock offset measured again.
    Clock(ClockFact),
    /// Something the reader should know: damage skipped, an interface that went away.
    Notice(NoticeFact),
    /// A chain of firewall rules that function probes met.
    Chain(ChainFact),
    /// Chains and rules of a namespace's packet filter.
    Firewall(FirewallFact),
    /// How much of the traffic is recorded from here on.
    Sampling(SamplingFact),
    /// What the recorder signed so far.
    Checkpoint(CheckpointFact),
    /// The rules that were in the kernel, from one time on.
    Rules(RulesFact),
    /// What these rules had done up to one time.
    Verdicts(VerdictsFact),
    /// The recording was closed in good order.
    End(EndFact),
    /// What a prober sent towards one target, and what came back.
    RouteProbes(RouteProbesFact),
    /// A fact of a later version; skipped.
    #[serde(other)]
    Unknown,
}

/// A chain of rules, named by the function that walks it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChainFact {
    /// Number, dense from 1.
    pub id: u32,
    /// `nft` or `iptables`.
    pub kind: String,
    /// Table.
    pub table: String,
    /// Chain; empty for iptables, whose tables are walked as one.
    pub chain: String,
}

/// What part of the flows is recorded from a moment on (`record --budget`): those whose hash is below a bound.
/// A total of recorded packets times `weight` is an unbiased estimate of all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SamplingFact {
    /// From when, on the recording's clock.
    pub at: u64,
    /// One in this many flows is recorded; 1 is all.
    pub weight: u32,
    /// Events left out by this since the start.
    pub shed: u64,
    /// Share of all CPU time that the recorder and its probes took before this, in millionths.
    pub load_ppm: u32,
    /// Optional probes that are detached from here on to save time.
    pub probes_off: Vec<String>,
}

/// A network device in one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceFact {
    /// [`crate::event::DeviceId`].
    pub id: u16,
    /// Network namespace: inode number, 0 for captures.
    pub netns: u32,
    /// Name of the namespace where one is known (`ip netns`, container id), else empty.
    pub netns_name: String,
    /// Interface index in that namespace.
    pub ifindex: u32,
    /// `eth0`.
    pub name: String,
    /// `ARPHRD_*`.
    pub arphrd: u16,
    /// Link-layer address, empty when none.
    pub mac: String,
    /// MTU, bytes.
    pub mtu: u32,
    /// `veth`, `bridge`, `loopback`, driver name...; empty when unknown.
    pub kind: String,
    /// Interface index of the peer (veth), 0 when none.
    pub peer_ifindex: u32,
    /// Addresses with prefix length.
    pub addresses: Vec<String>,
    /// Captures: `LINKTYPE_*`.
    pub link_type: Option<u16>,
    /// Administratively up (`IFF_UP`); `None` when it was not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up: Option<bool>,
    /// With carrier (`IFF_LOWER_UP`); `None` when it was not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carrier: Option<bool>,
    /// ARP is turned off (`IFF_NOARP`); `None` when it was not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_arp: Option<bool>,
}

/// A kernel symbol, without its address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SymbolFact {
    /// [`crate::event::SymbolId`].
    pub id: u32,
    /// `tcp_v4_rcv`.
    pub name: String,
    /// Bytes into the function.
    pub offset: u32,
    /// Module, empty for the kernel proper.
    pub module: String,
}

/// A unique kernel stack, innermost frame first, cut at the interrupt entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StackFact {
    /// [`crate::StackId`].
    pub id: u32,
    /// [`crate::event::SymbolId`]s.
    pub frames: Vec<u32>,
}

/// A task seen in process context.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskFact {
    /// Thread id in the initial namespace.
    pub tid: u32,
    /// Process id (thread group).
    pub pid: u32,
    /// `comm`.
    pub comm: String,
    /// cgroup path, empty when unknown.
    pub cgroup: String,
    /// Container id from the cgroup path, empty when none.
    pub container: String,
}

/// A socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SocketFact {
    /// [`crate::SockId`], 0 when no event has named it (snapshot only).
    pub id: u32,
    /// Kernel's socket cookie, 0 when unknown.
    pub cookie: u64,
    /// Network namespace inode.
    pub netns: u32,
    /// IP protocol.
    pub protocol: u8,
    /// Local address and port.
    pub local: Option<(IpAddr, u16)>,
    /// Remote address and port.
    pub remote: Option<(IpAddr, u16)>,
    /// `TCP_*` state.
    pub state: u8,
    /// Receive queue: bytes, or for a listener connections waiting to be accepted.
    pub recv_queue: u32,
    /// Send queue: bytes, or for a listener the backlog limit.
    pub send_queue: u32,
    /// Owner, 0 when unknown.
    pub pid: u32,
    /// Owner's `comm`, empty when unknown.
    pub comm: String,
    /// When this was read.
    pub at: u64,
}

/// Routes of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RoutesFact {
    /// When this was read.
    pub at: u64,
    /// Network namespace inode.
    pub netns: u32,
    /// Routes.
    pub routes: Vec<Route>,
    /// Routes that refuse: blackhole, unreachable, prohibit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refusing: Vec<RefusingRoute>,
    /// Policy rules that are not the kernel's own three, as `ip rule` shows them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
}

/// A route that leads nowhere on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusingRoute {
    /// `blackhole`, `unreachable` or `prohibit`.
    pub kind: String,
    /// Destination.
    pub destination: IpAddr,
    /// Prefix length.
    pub prefix: u8,
    /// Number of its table (`main` is 254).
    pub table: u32,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination.
    pub destination: IpAddr,
    /// Prefix length.
    pub prefix: u8,
    /// Next hop; `None` is on-link.
    pub gateway: Option<IpAddr>,
    /// Output interface name.
    pub device: String,
    /// Metric.
    pub metric: u32,
}

/// Neighbours of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NeighboursFact {
    /// When this was read.
    pub at: u64,
    /// Network namespace inode.
    pub netns: u32,
    /// Neighbours.
    pub neighbours: Vec<Neighbour>,
}

/// One neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Address.
    pub address: IpAddr,
    /// Link-layer address, empty when unresolved.
    pub mac: String,
    /// Interface name.
    pub device: String,
    /// `NUD_*` or flags as the kernel shows them.
    pub state: String,
}

/// Counters of a namespace at one time; names as `nstat` prints them (`TcpExtListenOverflows`), and
/// `softnet.0.dropped`, `dev.eth0.rx_dropped`, `ethtool.eth0.rx_missed_errors`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CountersFact {
    /// When this was read.
    pub at: u64,
    /// Network namespace inode.
    pub netns: u32,
    /// Absolute values; a counter that is absent was not there.
    pub values: BTreeMap<String, u64>,
}

/// Network-relevant sysctls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SysctlsFact {
    /// Network namespace inode.
    pub netns: u32,
    /// `net.ipv4.conf.all.rp_filter` → `1`.
    pub values: BTreeMap<String, String>,
}

/// What the recorder lost, cumulative since start. Never network loss, never kernel drops.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LossFact {
    /// When this was read.
    pub at: u64,
    /// Events written to the ring, per CPU.
    pub written: Vec<u64>,
    /// Events lost because the ring was full, per CPU.
    pub ring_full: Vec<u64>,
    /// Probe runs the kernel skipped because the same program was already running on that CPU, per
    /// probe (`bpf_prog_info.recursion_misses`).
    pub recursion: BTreeMap<String, u64>,
    /// Events lost because the ring was full, per probe.
    pub by_probe: BTreeMap<String, u64>,
    /// Packets whose bytes were wanted and could not be read.
    pub unreadable_packets: u64,
    /// Stacks wanted and not taken (stack table full or collision).
    pub missed_stacks: u64,
    /// Events that the confirmations which agreed stand for: each for the events inferred since the
    /// check before it of the same path; an estimate. 0 together with `stacks_differed` is "not known".
    pub stacks_agreed: u64,
    /// As `stacks_agreed`, for confirmations that differed.
    pub stacks_differed: u64,
    /// Events left out because the filter or the recorder's own exclusion said so (not lost).
    pub filtered: u64,
    /// Events left out by aggregation (counted in `Repeated` events, not lost).
    pub aggregated: u64,
    /// Events of flows left out to keep within `record --budget`; [`SamplingFact`] has the weights.
    pub shed: u64,
    /// Calls of probed functions whose return was never seen: they have no time and no result.
    pub lost_returns: u64,
    /// Captures: packets the capturing program said it dropped.
    pub capture_dropped: Option<u64>,
}

/// A probe changed after start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeFact {
    /// When.
    pub at: u64,
    /// [`crate::ProbeId`].
    pub id: u16,
    /// What it is now.
    pub status: ProbeStatus,
}

/// Clock offset measured again (clock step, suspend).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClockFact {
    /// When.
    pub at: u64,
    /// As [`crate::manifest::Clock::realtime_offset_ns`].
    pub realtime_offset_ns: i64,
    /// As [`crate::manifest::Clock::uncertainty_ns`].
    pub uncertainty_ns: u64,
}

/// Something the reader should know, counted and shown with every result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NoticeFact {
    /// When, 0 when it has no time.
    pub at: u64,
    /// How bad.
    pub severity: Severity,
    /// One sentence: what, where.
    pub text: String,
    /// How many of the same.
    pub count: u64,
}

/// How bad a notice is, in Perfetto's terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing.
    #[default]
    Info,
    /// Correct operation that still lost data.
    DataLoss,
    /// Damage or a fault.
    Error,
}

/// The recording was closed in good order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndFact {
    /// When.
    pub at: u64,
    /// Why: `duration`, `signal`, `command exited`, `disk full`...
    pub reason: String,
    /// Exit status of `-- CMD`.
    pub command_status: Option<i32>,
    /// Signature over all frames before the end frame and over this fact without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seal: Option<CheckpointFact>,
}

/// A signed [`crate::custody::Statement`] about the frames before this fact's own, inside the
/// recording. Slices and recovered files carry those of the recording that they were made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckpointFact {
    /// As [`crate::custody::Statement::at`].
    pub at: u64,
    /// Recording, 32 hex digits.
    pub recording: String,
    /// Number of the frame.
    pub frame: u64,
    /// Hash of the frame, 64 hex digits.
    pub hash: String,
    /// Public key, 64 hex digits.
    pub key: String,
    /// Signature, 128 hex digits.
    pub signature: String,
}

/// Route probes towards one target: packets that expire on their way, and who answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteProbesFact {
    /// When the first was sent, nanoseconds on the recording's clock.
    pub at: u64,
    /// Network namespace inode of the sender, 0 when unknown.
    pub netns: u32,
    /// Name of the sending host.
    pub host: String,
    /// Address that they were sent from.
    pub source: Option<IpAddr>,
    /// Address that they were sent to.
    pub target: Option<IpAddr>,
    /// IP protocol of the probes (ICMP 1, TCP 6, UDP 17, ICMPv6 58).
    pub protocol: u8,
    /// `classic`, `paris` or `dublin`: what a flow key is kept for.
    pub strategy: String,
    /// Program that sent them, with its version.
    pub tool: String,
    /// In the order they were sent.
    pub probes: Vec<RouteProbe>,
}

/// One route probe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteProbe {
    /// When it was sent, nanoseconds on the recording's clock.
    pub at: u64,
    /// Its initial TTL or hop limit.
    pub ttl: u8,
    /// What keeps it on one of several equal ways: ports, or identifier and sequence of an echo.
    pub flow: (u16, u16),
    /// What came back; `None` for nothing within the prober's patience.
    pub answer: Option<RouteAnswer>,
}

/// What came back about a route probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteAnswer {
    /// Who sent it.
    pub from: IpAddr,
    /// Nanoseconds from sending the probe.
    pub rtt_ns: u64,
    /// `time-exceeded`, `echo-reply`, `unreachable`, or `reply` for one that is no ICMP.
    pub kind: String,
    /// ICMP code, 0 where there is none.
    pub code: u8,
    /// MPLS labels quoted (RFC 4950): (label, traffic class, TTL).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mpls: Vec<(u32, u8, u8)>,
    /// The quoted probe is not as it was sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub translated: bool,
}

impl Fact {
    /// Its `fact` tag: the name of its kind in JSON and in archives.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Device(_) => "device",
            Self::Symbol(_) => "symbol",
            Self::Stack(_) => "stack",
            Self::Task(_) => "task",
            Self::Socket(_) => "socket",
            Self::Routes(_) => "routes",
            Self::Neighbours(_) => "neighbours",
            Self::Counters(_) => "counters",
            Self::Sysctls(_) => "sysctls",
            Self::Loss(_) => "loss",
            Self::Probe(_) => "probe",
            Self::Clock(_) => "clock",
            Self::Notice(_) => "notice",
            Self::Chain(_) => "chain",
            Self::Firewall(_) => "firewall",
            Self::Sampling(_) => "sampling",
            Self::Checkpoint(_) => "checkpoint",
            Self::Rules(_) => "rules",
            Self::Verdicts(_) => "verdicts",
            Self::End(_) => "end",
            Self::RouteProbes(_) => "route-probes",
            Self::Unknown => "unknown",
        }
    }

    /// When it was read, for the facts that say.
    pub fn at(&self) -> Option<Ns> {
        match self {
            Self::Socket(fact) => Some(fact.at),
            Self::Routes(fact) => Some(fact.at),
            Self::Neighbours(fact) => Some(fact.at),
            Self::Counters(fact) => Some(fact.at),
            Self::Firewall(fact) => Some(fact.at),
            Self::Loss(fact) => Some(fact.at),
            Self::Rules(fact) => Some(fact.at),
            Self::Verdicts(fact) => Some(fact.at),
            Self::Probe(fact) => Some(fact.at),
            Self::Clock(fact) => Some(fact.at),
            Self::Notice(fact) => (fact.at != 0).then_some(fact.at),
            Self::Sampling(fact) => Some(fact.at),
            Self::Checkpoint(fact) => (fact.at != 0).then_some(fact.at),
            Self::End(fact) => Some(fact.at),
            Self::RouteProbes(fact) => Some(fact.at),
            Self::Device(_)
            | Self::Symbol(_)
            | Self::Stack(_)
            | Self::Task(_)
            | Self::Sysctls(_)
            | Self::Chain(_)
            | Self::Unknown => None,
        }
        .map(Ns)
    }
}

/// A rule file that `psc live` put into the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RulesFact {
    /// When it was in place, on the recording's clock.
    pub at: u64,
    /// Interface that it was for.
    pub interface: String,
    /// Where it was attached: `XDP in the driver`, `TC ingress`...
    pub points: Vec<String>,
    /// Packets were discarded; else only counted.
    pub enforced: bool,
    /// Name of the file.
    pub file: String,
    /// The file.
    pub text: String,
}

/// What the rules in the kernel had done since they were put there: authoritative where replay comes to
/// another result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VerdictsFact {
    /// When this was counted, on the recording's clock.
    pub at: u64,
    /// Packets that rules were asked about.
    pub asked: u64,
    /// Packets discarded (of a dry-run: that would have been).
    pub discarded: u64,
    /// Packets kept by a never-block entry.
    pub never: u64,
    /// Packets that passed because state could not be kept.
    pub no_state: u64,
    /// By rule, in order of the file.
    pub rules: Vec<RuleVerdicts>,
}

/// What one rule had done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuleVerdicts {
    /// Its id.
    pub id: String,
    /// Packets that it acted on.
    pub matched: u64,
    /// Packets that it discarded itself.
    pub discarded: u64,
    /// Packets that its blocks discarded.
    pub blocked: u64,
    /// Blocks that it made.
    pub blocks: u64,
    /// Blocks that it did not make, their source being unproven.
    pub unproven: u64,
}
