//! TTL anomalies: packets of one connection that cannot come the way the others came, and floods that
//! make routers answer.
//!
//! **Sees**
//! - a connection whose one side came with one TTL eight times or more, then two or more data segments
//!   with a TTL lower by five or more between others of the usual one: inserted by somebody else, or meant
//!   to die between an inspector and the host (Ptacek and Newsham, 1998);
//! - 1,000 packets in ten seconds with a TTL of 0 or 1 to other than multicast and link-local addresses:
//!   each costs a router an ICMP error (RFC 6192).
//!
//! **Silent on** traceroute (TCP too: it sends each TTL in turn and not between data), route changes
//! (the TTL stays changed), handshakes answered by a proxy or balancer, and resets (in-path injection
//! looks at those).

use std::net::IpAddr;

use psc_formats::FiveTuple;

use crate::analyzer::tcp::{RST, SYN};
use crate::bounded::Bounded;
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Distinct, Draft, Seen, counted, listed};
use crate::guarder::watch::{Tally, Watch};
use crate::view::detect::Finding;

const USUAL: u64 = 8;
const LOWER_BY: u8 = 5;
const ODD: u64 = 2;
const FLOWS: usize = 16_384;

const WINDOW_NS: u64 = 10_000_000_000;
const EXPIRING: u64 = 1_000;
const HOSTS: usize = 4_096;

#[derive(Debug, Default)]
struct Flow {
    usual: u8,
    times: u64,
    /// Odd ones not yet followed by a usual one: a route change so far.
    pending: Seen,
    odd: Seen,
    lowest: u8,
}

#[derive(Debug)]
struct Expiring {
    packets: u64,
    targets: Distinct<IpAddr>,
}

impl Tally for Expiring {
    fn new() -> Self {
        Self { packets: 0, targets: Distinct::new(1024) }
    }
    fn is_attack(&self) -> bool {
        self.packets >= EXPIRING
    }
    fn merge(&mut self, later: Self) {
        self.packets += later.packets;
        self.targets.merge(later.targets);
    }
}

#[derive(Debug)]
pub(super) struct Ttl {
    flows: Bounded<FiveTuple, Flow>,
    /// Flows that made room and had odd packets.
    kept: Vec<(FiveTuple, Flow)>,
    expiring: Watch<IpAddr, Expiring>,
}

impl Default for Ttl {
    fn default() -> Self {
        Self {
            flows: Bounded::new(FLOWS),
            kept: Vec::new(),
            expiring: Watch::new(HOSTS, WINDOW_NS),
        }
    }
}

impl Detector for Ttl {
    fn about(&self) -> About {
        About {
            id: "ttl-anomaly",
            sees: "data of one connection that came another way than the rest, and floods of \
                   expiring packets; silent on traceroute, route changes, proxied handshakes and \
                   resets.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let headers = packet.headers;
        let (Some(ttl), Some(tuple)) = (headers.ttl(), headers.tuple()) else { return };
        let link_local = match tuple.dst {
            IpAddr::V4(dst) => dst.is_link_local() || dst.is_broadcast(),
            IpAddr::V6(dst) => dst.is_unicast_link_local(),
        };
        // Routing protocols and neighbours on the link do use a TTL of 1.
        if ttl <= 1 && !tuple.dst.is_multicast() && !link_local && tuple.protocol != 2 {
            self.expiring.of(tuple.src, packet.at).add(packet, |expiring| {
                expiring.packets += 1;
                expiring.targets.add(tuple.dst);
            });
        }
        let Some(tcp) = headers.tcp() else { return };
        if tcp.flags & (SYN | RST) != 0 {
            return;
        }
        let mut spill = Vec::new();
        let flow = self.flows.entry(tuple, Flow::default, &mut spill);
        if flow.times == 0 || ttl == flow.usual {
            flow.usual = ttl;
            flow.times += 1;
            if flow.pending.packets > 0 {
                let pending = std::mem::take(&mut flow.pending);
                flow.odd.merge(&pending);
            }
        } else if flow.times >= USUAL && ttl.saturating_add(LOWER_BY) <= flow.usual {
            if headers.payload_len > 0 {
                flow.pending.add(packet);
                flow.lowest = if flow.lowest == 0 { ttl } else { flow.lowest.min(ttl) };
            }
            if flow.pending.packets > USUAL {
                // It stays: the route changed.
                *flow = Flow {
                    usual: ttl,
                    times: USUAL,
                    odd: std::mem::take(&mut flow.odd),
                    ..Flow::default()
                };
            }
        } else if flow.times < USUAL {
            *flow = Flow { usual: ttl, times: 1, ..Flow::default() };
        }
        self.keep(spill);
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let flows = std::mem::replace(&mut self.flows, Bounded::new(1));
        self.keep(flows.into_oldest_first());
        let mut findings: Vec<Finding> = std::mem::take(&mut self.kept)
            .iter()
            .map(|(tuple, flow)| mixed(tuple, flow, context))
            .collect();
        for (source, watched) in self.expiring.finish() {
            let expiring = &watched.attack;
            findings.push(
                Draft {
                    id: "ttl-expiry-flood",
                    severity: "medium",
                    doubt: None,
                    title: format!(
                        "{source} sent {} packets that expire at the next router.",
                        expiring.packets
                    ),
                    evidence: vec![
                        format!("{} in the worst ten seconds.", watched.peak),
                        format!(
                            "To: {}.",
                            listed(expiring.targets.iter().map(ToString::to_string), 5)
                        ),
                    ],
                    effect: "not observable: the router's load is not in view.".to_owned(),
                    advice: "Limit ICMP errors and expiring packets at the router (RFC 6192).",
                    actors: vec![format!("{source} (unproven: the source may be forged)")],
                    targets: expiring.targets.iter().take(5).map(ToString::to_string).collect(),
                    seen: &watched.evidence,
                    references: &["RFC 6192", "MITRE ATT&CK T1498.001"],
                }
                .finding(context),
            );
        }
        findings
    }
}

impl Ttl {
    fn keep(&mut self, gone: Vec<(FiveTuple, Flow)>) {
        let odd = gone.into_iter().filter(|(_, flow)| flow.odd.packets >= ODD);
        let room = FLOWS.saturating_sub(self.kept.len());
        self.kept.extend(odd.take(room));
    }
}

fn mixed(tuple: &FiveTuple, flow: &Flow, context: &Context<'_>) -> Finding {
    Draft {
        id: "ttl-anomaly",
        severity: "low",
        doubt: Some("medium: paths of different length in use at once look the same"),
        title: format!(
            "{} data segments of {tuple} came with a TTL down to {} between others with {}.",
            flow.odd.packets, flow.lowest, flow.usual
        ),
        evidence: vec![counted(flow.times, "packet") + " came with the usual one."],
        effect: "not observable: whether they reached the host is not in view.".to_owned(),
        advice: "Compare the odd segments with what the host acknowledged (psc trace, the journeys \
                 named here).",
        actors: vec!["unknown: somebody nearer or farther than the peer".to_owned()],
        targets: vec![tuple.dst.to_string()],
        seen: &flow.odd,
        references: &["Ptacek and Newsham 1998", "CAPEC-594"],
    }
    .finding(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::Scene;
    use crate::sample;

    fn ids(ttls: &[u8]) -> Vec<String> {
        let mut scene = Scene::of(Ttl::default());
        for (n, ttl) in ttls.iter().enumerate() {
            let data = sample::tcp("10.0.0.1:1", "10.0.0.2:2", 0x10, n as u32, 1, 1);
            scene.headers(n as u64, &sample::with_ttl(data, *ttl));
        }
        scene.ids()
    }

    #[test]
    fn odd_ones_between_usual_ones_are_found() {
        let with = |odd: &[u8]| [&[60; 10][..], odd, &[60; 5]].concat();
        assert_eq!(ids(&with(&[50, 50])), ["ttl-anomaly"]);
        assert!(ids(&with(&[50])).is_empty(), "one");
        assert!(ids(&with(&[58, 58])).is_empty(), "a neighbouring path");
        assert!(ids(&[[60; 10], [50; 10]].concat()).is_empty(), "a route change");
    }

    #[test]
    fn expiring_packets_by_the_thousand_are_a_flood() {
        for (n, found) in [(1000, 1), (999, 0)] {
            let mut scene = Scene::of(Ttl::default());
            for i in 0..n {
                let probe = sample::udp("10.0.0.1:1", "192.0.2.2:33434", 1);
                scene.headers(i, &sample::with_ttl(probe, 1));
            }
            assert_eq!(scene.ids().len(), found);
        }
    }
}
