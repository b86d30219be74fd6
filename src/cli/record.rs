//! Options of `psc record`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::probe::ProbeArgs;
use super::values::{Bytes, Share, Span};

/// `psc record`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  psc record -o web.psc                        until Ctrl-C
  psc record -i eth0 --for 10s -o web.psc      one interface, ten seconds
  psc record -o curl.psc -- curl -s http://10.0.0.2/
  psc record -f 'tcp.port == 443' -o tls.psc   one service only
  psc record --functions --for 2s -o deep.psc  every function on the way, with verdicts
  psc record --ring 60s -o last.psc            keep the last minute; write on SIGUSR1 or exit
  psc record --rotate-size 1GiB --keep 24 -o web.psc   web.0001.psc, web.0002.psc, ...
  psc record --probe 192.0.2.7 -o way.psc       record while probing a route, then stop
  ssh server psc record --for 5s -o - > server.psc     that ssh connection is left out

Stop with Ctrl-C or SIGTERM: the recording is closed in good order. A second signal stops at once; \
what was written stays readable.")]
pub(crate) struct RecordArgs {
    /// Record only events of this interface (repeat for several) [default: all]
    #[arg(short, long = "interface", value_name = "IF")]
    pub(crate) interface: Vec<String>,
    /// Recording to write, `-` for standard output [default: psc-HOST-TIME.psc]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Replace the output if it exists
    #[arg(long)]
    pub(crate) force: bool,
    /// Store only packets (and events of their sockets) for which this holds
    ///
    /// The expression is asked for every event that carries packet bytes. Where it holds, the packet's
    /// buffer is followed: its later events are kept too, also those without bytes, until it is freed
    /// or its bytes no longer match. An event of a socket is kept when a packet between the socket's
    /// addresses and ports, in either direction, would match. Events that concern no packet and no
    /// socket (neighbours, NAPI, routes) are always kept, and so are interfaces, routes, sockets,
    /// sysctls and counters. What was left out is counted, and is never called loss. A packet is judged
    /// when its bytes are first seen: an expression about what happens to it later (a drop reason,
    /// say) belongs on `psc trace -f`.
    #[arg(short, long, value_name = "EXPR")]
    pub(crate) filter: Option<String>,
    /// Bytes to keep of each packet, 0 for whole packets
    ///
    /// The default keeps headers. What applications here send lies in pages, which are read where more
    /// than 128 bytes are asked for (Linux 6.12 and later; `psc info` says when this kernel cannot).
    #[arg(short, long, value_name = "BYTES", default_value_t = 128)]
    pub(crate) snaplen: u32,
    /// Stop after this time
    #[arg(long = "for", value_name = "TIME")]
    pub(crate) duration: Option<Span>,
    /// Keep the last part only, in memory; write it on SIGUSR1 and at the end
    #[arg(long, value_name = "TIME", conflicts_with_all = ["rotate_size", "rotate_time"])]
    pub(crate) ring: Option<Span>,
    /// Memory that `--ring` may use; older events go first
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    pub(crate) ring_memory: Bytes,
    /// Record only this network namespace: name, path or inode (repeat for several)
    /// [default: all]
    #[arg(long, value_name = "NS")]
    pub(crate) netns: Vec<String>,
    /// How many probes: `default`, or `full` with all that this kernel has
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) profile: Profile,
    /// Also probe the functions of the stack: exact paths, verdicts and times
    ///
    /// Entry, and return where it says something, of some 130 functions from driver to socket: netfilter hooks
    /// with table, chain and verdict, conntrack, NAT, routing, forwarding, fragments, tunnels, and which packet
    /// was cloned, copied, cut or merged into which. Needs a kernel with kprobe.multi, fentry or kprobes; what cannot
    /// be probed is listed in the recording. Costs several times what the default probes do: for finding
    /// a fault, not for every day.
    #[arg(long)]
    pub(crate) functions: bool,
    /// Also see packets before and after all other netfilter hooks
    ///
    /// In the namespaces that `--netns` names, else in this one. Makes psc the first and the last hook of every IPv4 and IPv6 hook (Linux 6.4 and later), so that the time
    /// between is netfilter's and a packet that does not come out was kept there. psc's hooks accept everything,
    /// but they are hooks: part of the path while they are there.
    #[arg(long)]
    pub(crate) netfilter_links: bool,
    /// Share of all CPUs' time that recording may take: `2%` [default: as much as it needs]
    ///
    /// Measured each second, probes and this process together. Over it, optional probes (`--functions`, those that
    /// only the full profile has) are detached; if that is not enough, whole flows are left out by a hash of their
    /// ends, one in two, four and so on kept, until it is. Weights are recorded, so that totals of what was kept,
    /// times the weight, are unbiased; what is left out is counted and is never called loss. Flows come back when
    /// the load falls. Behind NAT, the two sides of a connection are two flows.
    #[arg(long, value_name = "PERCENT")]
    pub(crate) budget: Option<Share>,
    /// Which events get a kernel stack
    #[arg(long, value_name = "POLICY", default_value = "learn")]
    pub(crate) stacks: StackPolicy,
    /// When to take packet bytes
    #[arg(long, value_name = "WHEN", default_value = "once")]
    pub(crate) bytes: BytesPolicy,
    /// Start a new file when this one has reached this size (whole frames)
    #[arg(long, value_name = "SIZE")]
    pub(crate) rotate_size: Option<Bytes>,
    /// Start a new file after this time
    #[arg(long, value_name = "TIME")]
    pub(crate) rotate_time: Option<Span>,
    /// Keep only this many files when rotating; the oldest is removed [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep: Option<u32>,
    /// Kernel ring memory per CPU; a larger ring rides out longer bursts [default: by profile]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) ring_mib: Option<u32>,
    /// Read interfaces, routes, sockets and counters again this often
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub(crate) facts_interval: Span,
    /// Sign the recording with this key: at checkpoints, and its end (`psc keygen` makes one)
    #[arg(long, value_name = "KEYFILE", help_heading = "Evidence")]
    pub(crate) sign: Option<PathBuf>,
    /// Append a statement about the recording to this file at each checkpoint, to be kept elsewhere
    #[arg(long, value_name = "FILE", help_heading = "Evidence")]
    pub(crate) checkpoints: Option<PathBuf>,
    /// Time between checkpoints
    #[arg(long, value_name = "TIME", default_value = "60s", help_heading = "Evidence")]
    pub(crate) checkpoint_every: Span,
    #[command(flatten)]
    pub(crate) probing: ProbeArgs,
    /// Command to run while recording, as the invoking user; the recording ends when it does
    #[arg(last = true, value_name = "CMD", conflicts_with = "duration")]
    pub(crate) command: Vec<String>,
}

/// Probe profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// Probes that earn their cost on every packet
    Default,
    /// All probes that this kernel offers
    Full,
}

/// When to take packet bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BytesPolicy {
    /// Once per packet, and again where its headers changed
    Once,
    /// At every event that can read them (costly)
    Every,
}

/// Which events get a kernel stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StackPolicy {
    /// When the kind of event is new, then rarely to confirm; others are marked inferred
    Learn,
    /// Every event (costly)
    All,
    /// Drops only
    Drops,
    /// None
    Off,
}
