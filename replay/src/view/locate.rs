//! The locator's view: peers, where they are registered, how far they can be.

use serde::Serialize;

use super::Provenance;

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
}

/// One peer address.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PeerRow {
    /// Address.
    pub address: String,
    /// `global`, `private`, `loopback`, `link-local`, `documentation`, `multicast`, ... (IANA
    /// special-purpose registries).
    pub scope: String,
    /// ISO 3166 code of the *registered* country; empty when none or not global.
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
    /// Farthest it can be by the minimum RTT, kilometres (light in fibre: 100 km per ms of RTT).
    pub distance_bound_km: Option<u64>,
    /// Label for each of the above: `measured`, `estimated`, `registered`, `bounded`.
    pub labels: Vec<(String, String)>,
}
