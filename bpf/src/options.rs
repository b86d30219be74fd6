//! What to capture, and why capture could not start.

use std::net::IpAddr;
use std::time::Duration;

/// Which probes to attach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Every probe that journeys and drops need.
    #[default]
    Default,
    /// Every probe that an event kind exists for.
    Full,
}

/// When kernel stacks are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StackPolicy {
    /// Once per path key, then rarely to confirm.
    #[default]
    Learn,
    /// At each event. Costs more than everything else together.
    All,
    /// Learned, at `kfree_skb` only.
    Drops,
    /// Never.
    Off,
}

impl StackPolicy {
    /// As the manifest and the command line spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Learn => "learn",
            Self::All => "all",
            Self::Drops => "drops",
            Self::Off => "off",
        }
    }
}

/// When packet bytes are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BytesMode {
    /// Once per journey and again where the headers changed.
    #[default]
    Once,
    /// At each event that still has a packet; for tests of attribution.
    Every,
}

/// A connection that is never recorded, in either direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exclude {
    /// IP protocol number.
    pub protocol: u8,
    /// One end.
    pub local: (IpAddr, u16),
    /// The other end.
    pub remote: (IpAddr, u16),
}

impl Exclude {
    /// The ssh connection that this process was started through, from `SSH_CONNECTION`.
    pub fn ssh() -> Option<Self> {
        Self::parse_ssh(&std::env::var("SSH_CONNECTION").ok()?)
    }

    /// `CLIENT-ADDRESS CLIENT-PORT SERVER-ADDRESS SERVER-PORT`, as sshd sets it.
    fn parse_ssh(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let mut end = || -> Option<(IpAddr, u16)> {
            // An IPv6 address may carry a zone.
            let address = words.next()?.split('%').next()?.parse::<IpAddr>().ok()?;
            Some((address.to_canonical(), words.next()?.parse().ok()?))
        };
        let remote = end()?;
        Some(Self { protocol: 6, local: end()?, remote })
    }
}

/// What to capture and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which probes.
    pub profile: Profile,
    /// Whether to probe the functions of the stack, too (tier 2), where the kernel lets us.
    pub functions: bool,
    /// Whether to be the first and last hook of netfilter in this namespace (tier 1b).
    pub netfilter: bool,
    /// Share of all CPUs' time that the probes and this process may take, in millionths; `None` lets them
    /// take what they need.
    pub budget_ppm: Option<u32>,
    /// When stacks are taken.
    pub stacks: StackPolicy,
    /// When packet bytes are taken.
    pub bytes: BytesMode,
    /// Packet bytes kept: `None` is whole packets (up to 64 KiB), 0 none.
    pub snaplen: Option<u32>,
    /// Only these interfaces, by name in any namespace; empty is all. An interface that appears
    /// later is picked up.
    pub interfaces: Vec<String>,
    /// Only these network namespaces: a name of `ip netns`, a path, or an inode; empty is all.
    pub namespaces: Vec<String>,
    /// Connections never recorded.
    pub exclude: Vec<Exclude>,
    /// Ring bytes per CPU, rounded up to a power of two; `None` is 16 MiB, less on many CPUs.
    pub ring_bytes: Option<usize>,
    /// Identical drops (reason, place, interface) per [`Self::aggregate_window`] and CPU beyond
    /// which they are counted instead of stored; 0 stores all.
    pub aggregate_over: u32,
    /// Window of [`Self::aggregate_over`].
    pub aggregate_window: Duration,
    /// Attach the programs but have them return at once; for benchmarks.
    pub empty: bool,
    /// Command line to put into the manifest.
    pub command: String,
    /// Filter expression to put into the manifest (applied by the caller).
    pub filter: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            profile: Profile::Default,
            functions: false,
            netfilter: false,
            budget_ppm: None,
            stacks: StackPolicy::Learn,
            bytes: BytesMode::Once,
            snaplen: Some(128),
            interfaces: Vec::new(),
            namespaces: Vec::new(),
            exclude: Vec::new(),
            ring_bytes: None,
            aggregate_over: 1000,
            aggregate_window: Duration::from_millis(100),
            empty: false,
            command: String::new(),
            filter: String::new(),
        }
    }
}

/// Why capture could not start: what is missing, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The kernel has no type information.
    #[error(
        "this kernel has no BTF (/sys/kernel/btf/vmlinux is missing): live capture needs a kernel built with CONFIG_DEBUG_INFO_BTF=y, as distribution kernels since about 5.8 are"
    )]
    NoBtf,
    /// Capabilities are missing.
    #[error(
        "not allowed to capture: missing {}; run as root, or grant them with `setcap {}+ep`",
        missing.join(", "),
        missing.join(",").to_lowercase()
    )]
    Privilege {
        /// Names of the missing capabilities.
        missing: Vec<&'static str>,
    },
    /// A namespace that was asked for does not exist.
    #[error(
        "no network namespace {name:?}: give a name that `ip netns` lists, a path such as /proc/PID/ns/net, or an inode number"
    )]
    NoNamespace {
        /// As given.
        name: String,
    },
    /// More entries than the kernel side has room for.
    #[error("{what}: at most {limit} can be given")]
    TooMany {
        /// Which option.
        what: &'static str,
        /// How many fit.
        limit: usize,
    },
    /// Not one probe attached.
    #[error("no probe could be attached; first failure: {first}")]
    NoProbe {
        /// The first failure.
        first: String,
    },
    /// The kernel refused something else.
    #[error("{doing}: {cause}{hint}")]
    Kernel {
        /// What was being done.
        doing: &'static str,
        /// The kernel's answer.
        cause: String,
        /// What may help, with its leading separator, or empty.
        hint: &'static str,
    },
}

impl StartError {
    pub(crate) fn kernel(doing: &'static str, cause: &libbpf_rs::Error) -> Self {
        let hint = match cause.kind() {
            libbpf_rs::ErrorKind::OutOfMemory => {
                " (out of memory: use a smaller ring with fewer bytes per CPU)"
            }
            libbpf_rs::ErrorKind::PermissionDenied => {
                " (refused: a security module or kernel lockdown may forbid BPF; before 5.11 raise `ulimit -l`)"
            }
            _ => "",
        };
        Self::Kernel { doing, cause: format!("{cause:#}"), hint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_connection_names_the_client_first() {
        let x = Exclude::parse_ssh("192.0.2.7 50000 198.51.100.1 22").expect("well formed");
        assert_eq!(x.remote, (IpAddr::from([192, 0, 2, 7]), 50000));
        assert_eq!(x.local, (IpAddr::from([198, 51, 100, 1]), 22));
    }

    #[test]
    fn ssh_connection_with_a_zone_or_junk() {
        assert!(Exclude::parse_ssh("fe80::1%eth0 1 fe80::2%eth0 22").is_some());
        for junk in ["", "192.0.2.7", "192.0.2.7 70000 198.51.100.1 22", "a b c d"] {
            assert_eq!(Exclude::parse_ssh(junk), None, "{junk}");
        }
    }

    #[test]
    fn missing_privilege_names_the_capabilities() {
        let text = StartError::Privilege { missing: vec!["CAP_BPF", "CAP_PERFMON"] }.to_string();
        assert!(text.contains("CAP_BPF, CAP_PERFMON"), "{text}");
        assert!(text.contains("setcap cap_bpf,cap_perfmon+ep"), "{text}");
    }
}
