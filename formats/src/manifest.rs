//! How a recording was made: fixed when recording starts, first frame of every archive.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Index into [`Manifest::probes`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(pub u16);

/// How a recording was made. Later facts (loss, counters, sockets) are in-band: [`crate::Fact`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// What made the events.
    pub origin: Origin,
    /// psc version that wrote this.
    pub psc_version: String,
    /// Command line, as given.
    pub command: String,
    /// The clock of [`crate::Ns`].
    pub clock: Clock,
    /// The recorded host.
    pub host: Host,
    /// Every probe wanted, in [`ProbeId`] order, with what became of it.
    pub probes: Vec<Probe>,
    /// `skb_drop_reason` number to name, from the recorded kernel's BTF.
    pub drop_reasons: BTreeMap<u32, String>,
    /// `sk_rst_reason` number to name, from the recorded kernel's BTF; empty where it has none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub reset_reasons: BTreeMap<u32, String>,
    /// Packet bytes kept per packet; `None` is whole packets.
    pub snaplen: Option<u32>,
    /// Stack policy: `learn`, `all`, `drops` or `off`; empty for captures.
    pub stacks: String,
    /// Filter expression given to `record -f`; empty when none.
    pub filter: String,
    /// What this host does that these probes cannot see, one sentence each.
    pub blind_spots: Vec<String>,
    /// The circumstances of the recording; absent in captures and before psc recorded them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acquisition: Option<crate::custody::Acquisition>,
    /// What was done since it was recorded, oldest first: empty in what a recorder wrote.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub custody: Vec<crate::custody::Step>,
}

/// What made the events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// eBPF on a running kernel.
    Kernel,
    /// A pcap or pcapng capture: packets without stack events.
    #[default]
    Capture,
    /// Several recordings merged.
    Merge,
}

/// The clock of [`crate::Ns`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Clock {
    /// `monotonic` (live) or `realtime` (captures).
    pub kind: ClockKind,
    /// Add to an [`crate::Ns`] for nanoseconds since the Unix epoch, as measured at start.
    pub realtime_offset_ns: i64,
    /// How wrong that offset may be: half the time the two clock readings took, nanoseconds.
    pub uncertainty_ns: u64,
}

/// Kind of clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockKind {
    /// `CLOCK_MONOTONIC`.
    Monotonic,
    /// Nanoseconds since the Unix epoch.
    #[default]
    Realtime,
}

/// The recorded host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// `uname -n`.
    pub name: String,
    /// `uname -r`; empty for captures.
    pub kernel: String,
    /// `uname -m`.
    pub arch: String,
    /// CPUs online.
    pub cpus: u32,
    /// Kernel configuration facts that matter (`CONFIG_KPROBES` → `y`), where readable.
    pub config: BTreeMap<String, String>,
}

/// One probe wanted and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Probe {
    /// Kernel name: `skb:kfree_skb`, `ip_rcv`.
    pub name: String,
    /// How it attaches: `tp_btf`, `raw_tp`, `kprobe.multi`, `fentry`, `kprobe`, `netfilter`, `capture`.
    pub method: String,
    /// Layer it observes.
    pub layer: Layer,
    /// What became of it.
    pub status: ProbeStatus,
}

/// What became of a probe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeStatus {
    /// It observed for the whole recording (or until a fact says otherwise).
    Attached,
    /// It was wanted and could not be had, with the reason.
    Failed(String),
    /// This profile does not want it.
    #[default]
    Unwanted,
}

/// Layer of the stack, outermost (wire) first. The order is the order of ladders and reports.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// Driver, NAPI, XDP.
    Driver,
    /// Queueing disciplines.
    Qdisc,
    /// Device-independent link layer: GRO, backlog, bridge, neighbour.
    #[default]
    Link,
    /// IP, ICMP, routing, netfilter.
    Network,
    /// TCP, UDP and the rest.
    Transport,
    /// Socket queues and buffers.
    Socket,
    /// System calls and readers.
    User,
}

impl Layer {
    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Driver => "driver",
            Self::Qdisc => "qdisc",
            Self::Link => "link",
            Self::Network => "network",
            Self::Transport => "transport",
            Self::Socket => "socket",
            Self::User => "user",
        }
    }
}

impl Manifest {
    /// The probe's name, or `?` for an id the list does not have.
    pub fn probe_name(&self, id: ProbeId) -> &str {
        self.probes.get(id.0 as usize).map_or("?", |probe| &probe.name)
    }

    /// The reason's name without `SKB_DROP_REASON_`, or its number.
    pub fn drop_reason(&self, reason: u32) -> String {
        match self.drop_reasons.get(&reason) {
            Some(name) => name.clone(),
            None => format!("reason {reason}"),
        }
    }

    /// Nanoseconds since the Unix epoch of a time on the recording's clock.
    pub fn epoch_ns(&self, at: crate::Ns) -> i128 {
        i128::from(at.0) + i128::from(self.clock.realtime_offset_ns)
    }
}
