//! Options of `psc locate`, and those about places that `psc report` shares.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::probe::{ProbeArgs, SaveArgs};
use super::{Select, ViewFormat};

/// `psc locate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  psc locate web.psc
  psc locate web.psc --format svg --figure map --here DE -o map.svg
  psc locate web.psc --city-db city.mmdb --asn-db asn.mmdb
  psc locate today.psc --baseline yesterday.psc      what changed
  psc locate berlin.psc tokyo.psc                    one topology of several hosts
  psc locate web.psc --format json | jq '.peers[0]'
  psc locate --probe 192.0.2.7 example.com --save routes.psc   (root) sends probes
  psc locate --probe - --rate 500 < targets.txt                thousands of targets

Reading sends nothing: hops are estimated from received TTLs, round-trip times are taken from handshakes \
and data, countries are those an address is registered in, which is not where its host stands. A \
traceroute, mtr or Trippy run that happened while recording is shown as a route. Only --probe sends.")]
pub(crate) struct LocateArgs {
    /// Recordings or captures to read, `-` for standard input; several are shown as one
    #[arg(required_unless_present = "probe")]
    pub(crate) input: Vec<PathBuf>,
    /// Peers to show; the rest is counted
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) limit: usize,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: ViewFormat,
    /// Figure for `--format svg`
    #[arg(long, value_name = "FIGURE", default_value = "map")]
    pub(crate) figure: LocateFigure,
    /// File to write instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) select: Select,
    #[command(flatten)]
    pub(crate) places: PlacesArgs,
    #[command(flatten)]
    pub(crate) probing: ProbeArgs,
    #[command(flatten)]
    pub(crate) saving: SaveArgs,
}

/// Figures of `psc locate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LocateFigure {
    /// Peers on the world map
    Map,
    /// Hosts, routers, prefixes and countries with their links
    Topology,
    /// Round trips by hop
    Hops,
}

/// What is known about places beside the recording.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Places")]
pub(crate) struct PlacesArgs {
    /// Where the recording was made: `52.5,13.4` (north, east) or a country's code
    ///
    /// Arcs on the map start there, and claims about places are held against it. Without it, the host's
    /// own global addresses are looked up like any other.
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    pub(crate) here: Option<String>,
    /// Your own city or country database (.mmdb); its word goes before the registries'
    #[arg(long, value_name = "FILE")]
    pub(crate) city_db: Option<PathBuf>,
    /// Your own database of autonomous systems (.mmdb)
    #[arg(long, value_name = "FILE")]
    pub(crate) asn_db: Option<PathBuf>,
    /// List of prefixes to point out, one a line; the longest that matches counts (repeat for several)
    #[arg(long, value_name = "FILE")]
    pub(crate) block_list: Vec<PathBuf>,
    /// Earlier recording to compare routes, hops and round-trip times with
    #[arg(long, value_name = "EARLIER")]
    pub(crate) baseline: Option<PathBuf>,
}
