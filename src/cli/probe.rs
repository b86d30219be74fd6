//! Options of active probing. Nothing is sent without `--probe`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::values::Span;

/// What to send where.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Probing (sends packets)")]
pub(crate) struct ProbeArgs {
    /// Send route probes to these addresses or names; `-` reads them from standard input, one a line
    #[arg(long, value_name = "TARGET", num_args = 1..)]
    pub(crate) probe: Vec<String>,
    /// Kind of probes
    #[arg(long, value_name = "PROTOCOL", default_value = "udp")]
    pub(crate) protocol: ProbeProtocol,
    /// What of a UDP probe stays the same within a round, so that routers send it one way
    #[arg(long, value_name = "STRATEGY", default_value = "paris")]
    pub(crate) strategy: ProbeStrategy,
    /// Destination port of TCP probes
    #[arg(long, value_name = "PORT", default_value_t = 443, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,
    /// Rounds for each target; a round has a flow key of its own, so more rounds find more equal ways
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) rounds: u16,
    /// Farthest hop
    #[arg(long, value_name = "HOPS", default_value_t = 30, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) max_hops: u8,
    /// Packets a second over all targets, never exceeded
    #[arg(long, value_name = "PACKETS", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,
    /// How long to wait for the answers of a round
    #[arg(long, value_name = "TIME", default_value = "1s")]
    pub(crate) wait: Span,
}

/// What `psc locate` alone has: where results go.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Probing (sends packets)")]
pub(crate) struct SaveArgs {
    /// Keep the results as a recording, to be located again later or elsewhere
    #[arg(long, value_name = "FILE", requires = "probe")]
    pub(crate) save: Option<PathBuf>,
    /// Replace the file of `--save` if it exists
    #[arg(long, requires = "save")]
    pub(crate) force: bool,
}

/// Kind of route probes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProbeProtocol {
    /// Echo requests
    Icmp,
    /// Datagrams to high ports
    #[default]
    Udp,
    /// SYNs to one port
    Tcp,
}

/// How UDP probes are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProbeStrategy {
    /// By port: each probe may go another way
    Classic,
    /// By checksum: one way a round
    #[default]
    Paris,
    /// By identification (IPv6: length): one way a round, and address translation shows
    Dublin,
}
