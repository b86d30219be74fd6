//! The locator's view: peers, where they are registered, how far they can be, and the routes there.

use serde::Serialize;

use super::Provenance;
use super::route::{Contradiction, RouteChange, RouteRisk, RouteRow};

/// What `psc locate` shows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LocateView {
    /// What this is.
    pub provenance: Provenance,
    /// Peers, most bytes first, then by address.
    pub peers: Vec<PeerRow>,
    /// Peers not shown because of the limit.
    pub omitted: u64,
    /// By registered country, most bytes first: (code, name, peers, bytes).
    pub countries: Vec<(String, String, u64, u64)>,
    /// Routers that sent ICMP errors: (address, what, count).
    pub routers: Vec<(String, String, u64)>,
    /// Where the country data comes from, with its date and licence.
    pub attribution: String,
    /// Where the recording was made, when that is known or was given.
    pub vantage: Option<Vantage>,
    /// Peers by prefix (/24, /48), most bytes first.
    pub prefixes: Vec<PrefixRow>,
    /// Routes reconstructed from route probes, by target, protocol and source.
    pub routes: Vec<RouteRow>,
    /// Routes not shown because of the limit.
    pub routes_omitted: u64,
    /// What is known about the largest packet that fits the way to and from a peer.
    pub path_mtus: Vec<PathMtuRow>,
    /// Claimed places that the round-trip times rule out.
    pub contradictions: Vec<Contradiction>,
    /// What speaks against each route, with the parts of its score, highest score first.
    pub risks: Vec<RouteRisk>,
    /// Routes that differ from those of the earlier recording given as the baseline.
    pub changes: Vec<RouteChange>,
    /// Name of the baseline; empty when none was given.
    pub baseline: String,
    /// Attribution of each further data set used: the map, the user's databases, tables.
    pub sources: Vec<String>,
}

/// Where a recording was made.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Vantage {
    /// Degrees north, degrees east.
    pub place: (f64, f64),
    /// Name of the place, or of the country.
    pub name: String,
    /// `given`, `city database of 192.0.2.1`, `registered country of 192.0.2.1`.
    pub how: String,
    /// Kilometres around `place` in which the recording was made; 0 for a point that was given.
    pub within_km: u64,
}

/// Distribution of a time, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// Samples measured.
    pub samples: u64,
    /// Least of all samples.
    pub min: u64,
    /// Median of the samples kept (all up to 512, evenly thinned beyond).
    pub p50: u64,
    /// 90th percentile of the samples kept.
    pub p90: u64,
    /// 99th percentile of the samples kept.
    pub p99: u64,
    /// Greatest of all samples.
    pub max: u64,
    /// Jitter by the formula of RFC 3550, section 6.4.1, over consecutive samples; `None`
    /// for one.
    pub jitter_rfc3550: Option<u64>,
    /// Standard deviation of all samples (n - 1); `None` for one.
    pub stddev: Option<u64>,
}

/// One peer address.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PeerRow {
    /// Address.
    pub address: String,
    /// `global`, `private`, `loopback`, `link-local`, `documentation`, `multicast`, ... (IANA
    /// special-purpose registries).
    pub scope: String,
    /// ISO 3166 code of the *registered* country, or the one that the user's city database has;
    /// empty when none or not global.
    pub country: String,
    /// Its English name.
    pub country_name: String,
    /// Packets from, to this peer.
    pub packets: (u64, u64),
    /// IP bytes from, to this peer.
    pub bytes: (u64, u64),
    /// Received TTL or hop limit values with counts, most first.
    pub ttls: Vec<(u8, u64)>,
    /// Hops away, estimated from the most common TTL; `None` when nothing was received.
    pub hops_estimate: Option<u8>,
    /// RTT from handshakes, nanoseconds: (min, median, samples); `None` not measured.
    pub rtt: Option<(u64, u64, u64)>,
    /// Farthest it can be by the minimum RTT of any kind, kilometres (light in fibre: 100 km per ms
    /// of RTT).
    pub distance_bound_km: Option<u64>,
    /// Label for each of the above: `measured`, `estimated`, `registered`, `bounded`.
    pub labels: Vec<(String, String)>,
    /// The /24 or /48 it is in; empty for addresses that are not global.
    pub prefix: String,
    /// City, by the user's city database; empty without.
    pub city: String,
    /// Autonomous system number, by the user's ASN database.
    pub asn: Option<u32>,
    /// Name of the autonomous system; empty when unknown.
    pub as_name: String,
    /// Service that is known to answer for this address from many places; empty when none is known.
    pub anycast: String,
    /// Entry of the user's block list that covers it (longest prefix); empty when none.
    pub listed: String,
    /// Degrees north, degrees east at which it is drawn; `None` when no place may be claimed.
    pub place: Option<(f64, f64)>,
    /// Where `place` comes from: `registered country`, `city database`.
    pub place_from: String,
    /// RTT from TCP handshakes; time in this host taken off where the recording shows it.
    pub rtt_handshake: Option<Spread>,
    /// RTT from TCP data to its acknowledgement, which the peer may delay.
    pub rtt_data: Option<Spread>,
    /// RTT from route probes that the peer itself answered.
    pub rtt_probe: Option<Spread>,
    /// Median time from the first sight of a measured packet to its hand-over to the driver,
    /// nanoseconds, not part of the RTT; `None` in a capture, which cannot see it.
    pub host_ns: Option<u64>,
    /// Changes of the received TTL within one flow: (from, to, times). The route changed, or
    /// somebody else sent the packet.
    pub hop_changes: Vec<(u8, u8, u64)>,
    /// Why the ways there and back seem to differ; empty when nothing hints at it.
    pub asymmetry: String,
    /// Each value with how it is known and from which packets: (value, label, packets).
    pub evidence: Vec<(String, String, String)>,
}

/// Peers of one prefix.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PrefixRow {
    /// `192.0.2.0/24`, `2001:db8::/48`.
    pub prefix: String,
    /// Addresses seen.
    pub peers: u64,
    /// IP bytes from and to them.
    pub bytes: u64,
    /// ISO 3166 code, when all of them agree; else empty.
    pub country: String,
    /// Handshake and data round trips of all of them; `None` not measured.
    pub rtt: Option<Spread>,
    /// Least and most of the estimated hops.
    pub hops: Option<(u8, u8)>,
}

/// What one kind of packet says about a path's MTU.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PathMtuRow {
    /// The peer at the far end.
    pub peer: String,
    /// Bytes of IP packet.
    pub mtu: u64,
    /// `at most` (a router or the far end said so), `at least` (such a packet arrived).
    pub bound: String,
    /// `measured` or `bounded`.
    pub label: String,
    /// Which packets say so.
    pub evidence: String,
    /// How many.
    pub times: u64,
}
