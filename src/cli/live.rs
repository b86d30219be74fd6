//! `psc live`: clap types only.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::values::{Bytes, Span};

/// `psc live`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  psc live -i eth0                               watch: flows, drops, findings
  psc live -i eth0 --rules rules.toml            and count what rules would discard
  psc live -i eth0 --rules rules.toml --enforce  discard it, until psc ends
  psc live -i eth0 --rules rules.toml --enforce --confirm-within 60s -o live.psc

Nothing is discarded without --enforce. Whatever way psc ends, the kernel takes the rules out with it. \
SIGHUP reads the rule file again and swaps the rules between two packets; SIGUSR1 (or Enter) confirms.")]
pub(crate) struct LiveArgs {
    /// Interface to watch, in this network namespace
    #[arg(short, long, value_name = "NAME")]
    pub(crate) interface: String,
    /// Rules to try out, or with --enforce to apply
    #[arg(short, long, value_name = "FILE")]
    pub(crate) rules: Option<PathBuf>,
    /// Discard what the rules say; without it they only count
    #[arg(long, requires = "rules")]
    pub(crate) enforce: bool,
    /// Where rules look at packets that come in
    #[arg(long, value_name = "POINT", default_value = "auto")]
    pub(crate) attach: AttachPoint,
    /// Go back to what was before, unless confirmed by SIGUSR1 or Enter in time
    #[arg(long, value_name = "SPAN", requires = "enforce")]
    pub(crate) confirm_within: Option<Span>,
    /// Stop by itself after this long
    #[arg(long = "for", value_name = "SPAN")]
    pub(crate) duration: Option<Span>,
    /// Record what is seen, decided and done into this file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Replace the output if it exists
    #[arg(long, requires = "output")]
    pub(crate) force: bool,
    /// Stop recording (not watching) when the file has this size
    #[arg(long, value_name = "SIZE", default_value = "1GiB", requires = "output")]
    pub(crate) max_size: Bytes,
}

/// Where rules look at packets that come in; those that go out are always looked at in TC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AttachPoint {
    /// By what this interface is and what the programs take here; said at start
    Auto,
    /// TC: after the skb was made; keeps every offload
    Tc,
    /// TC as a filter, which stays should psc be killed and then passes everything after a second: what kernels
    /// before 6.6 have
    TcFilter,
    /// XDP in the driver: before the skb
    Xdp,
    /// XDP after the skb was made, for drivers without it
    XdpGeneric,
}
