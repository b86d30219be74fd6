//! Routes: hops found by route probes, what speaks against them, what changed.

use serde::Serialize;

use super::locate::Spread;

/// The way from one source to one target, as far as route probes showed it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RouteRow {
    /// Who sent the probes.
    pub source: String,
    /// Network namespace of the sender, or the host of a merged recording; empty when not known.
    pub host: String,
    /// Where they went.
    pub target: String,
    /// `icmp`, `udp` or `tcp`.
    pub protocol: String,
    /// `recorded packets` or `probe results`.
    pub evidence: String,
    /// First probe and last answer, nanoseconds on the recording's clock.
    pub first: u64,
    /// See `first`.
    pub last: u64,
    /// Route probes sent, those beyond the target left out.
    pub sent: u64,
    /// Of these, answered.
    pub answered: u64,
    /// Different flow keys tried: packets with one key take one way (Paris traceroute).
    pub flows: u64,
    /// The TTL at which the target itself answered first.
    pub reached: Option<u8>,
    /// Hops by TTL, from the first to the last that is worth showing.
    pub hops: Vec<HopRow>,
    /// Links between routers, by TTL and address.
    pub links: Vec<LinkRow>,
    /// A router that packets came back to: the addresses that repeat. Empty when none.
    pub looped: Vec<String>,
    /// The last TTL that answered when nothing beyond does and the target was not reached.
    pub silent_beyond: Option<u8>,
    /// One sentence each: rate limiting, address translation, a filter, a changing route.
    pub notes: Vec<String>,
    /// Kilometres along the places of the hops, estimated; `None` with fewer than two places.
    pub path_km: Option<u64>,
    /// Kilometres from the first to the last of these places by the great circle.
    pub direct_km: Option<u64>,
}

/// What answered at one TTL.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HopRow {
    /// Initial TTL or hop limit of the probes.
    pub ttl: u8,
    /// Probes sent with it.
    pub sent: u64,
    /// Answers.
    pub answered: u64,
    /// Who answered, most answers first; several are alternatives.
    pub nodes: Vec<NodeRow>,
}

/// One router, or the target, at one TTL.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NodeRow {
    /// Address that the answer came from.
    pub address: String,
    /// `time exceeded`, `echo reply`, `port unreachable`, `TCP answer`, ...
    pub answer: String,
    /// Answers.
    pub answers: u64,
    /// Round trip of the probes it answered.
    pub rtt: Option<Spread>,
    /// Scope by IANA's registries.
    pub scope: String,
    /// ISO 3166 code as for peers; empty when none.
    pub country: String,
    /// Autonomous system, by the user's database.
    pub asn: Option<u32>,
    /// Name of the autonomous system.
    pub as_name: String,
    /// Where it is drawn.
    pub place: Option<(f64, f64)>,
    /// Block list entry that covers it.
    pub listed: String,
    /// Hops back, estimated from the TTL that the answer had left.
    pub back_hops: Option<u8>,
    /// MPLS labels that the router quoted (RFC 4950): `label 24001 exp 0 ttl 1`.
    pub mpls: Vec<String>,
    /// The quoted probe had been changed on its way: address translation.
    pub translated: bool,
}

/// Two routers that follow each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LinkRow {
    /// TTL of `from`; 0 is the source.
    pub ttl: u8,
    /// Nearer address.
    pub from: String,
    /// Farther address.
    pub to: String,
    /// Flow keys that passed both; 0 when no single flow showed both and each was the only router
    /// at its TTL.
    pub flows: u64,
    /// Hops between them that did not answer.
    pub hidden: u8,
}

/// A claimed place that the speed of light rules out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Contradiction {
    /// The peer or router.
    pub address: String,
    /// `place` (one claim against its own RTT and the vantage), `pair` (two claims against the sum of
    /// their RTTs: one at least is wrong), `anycast` (the place of a block that answers from many).
    pub kind: String,
    /// What is claimed: `registered in Australia`.
    pub claim: String,
    /// Kilometres that the claim is away at least.
    pub claimed_km: u64,
    /// Kilometres that the RTT allows at most.
    pub bound_km: u64,
    /// One sentence.
    pub text: String,
}

/// What speaks against a route. Never a score without its parts.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RouteRisk {
    /// Where the route goes.
    pub target: String,
    /// Who asked.
    pub source: String,
    /// Sum of the parts, at most 100.
    pub score: u64,
    /// Parts: (name, points, why).
    pub parts: Vec<(String, u64, String)>,
    /// Registered countries of its routers, in the order of the hops.
    pub countries: Vec<String>,
    /// Networks of its routers in the order of the hops: autonomous systems where a database says,
    /// else /24 and /48 prefixes.
    pub networks: Vec<String>,
}

/// A route or a peer that differs from the baseline.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RouteChange {
    /// Target or peer.
    pub target: String,
    /// `route`, `hops`, `reached`, `rtt`.
    pub what: String,
    /// One sentence.
    pub text: String,
}
