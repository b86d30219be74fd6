//! ICMP flood: more echo requests or errors than anybody needs.
//!
//! **Sees**, per host and ten seconds, echo requests (1,000 or more: a hundred a second) and other ICMP
//! that it did not ask for by its own traffic. ICMP errors about what the host sent do not count, nor do
//! answers.
//!
//! **Silent on** pollers (a request a second from each), `ping` and `mtr`, neighbour discovery, multicast
//! listener reports, and errors that answer a flood of the host's own.
//!
//! `ping -f` by an administrator is a flood by this measure; it says so itself.

use std::net::IpAddr;

use psc_formats::packet::{Network, Transport};

use crate::bounded::Top;
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::effect;
use crate::guarder::evidence::{Distinct, Draft};
use crate::guarder::watch::{Tally, Watch};
use crate::view::detect::Finding;

const WINDOW_NS: u64 = 10_000_000_000;
const REQUESTS: u64 = 1_000;
const HOSTS: usize = 1_024;

#[derive(Debug)]
struct Messages {
    requests: u64,
    others: u64,
    bytes: u64,
    sources: Distinct<IpAddr>,
    top: Top<IpAddr>,
}

impl Tally for Messages {
    fn new() -> Self {
        Self { requests: 0, others: 0, bytes: 0, sources: Distinct::new(1_024), top: Top::new(32) }
    }
    fn is_attack(&self) -> bool {
        self.requests + self.others >= REQUESTS
    }
    fn merge(&mut self, later: Self) {
        self.requests += later.requests;
        self.others += later.others;
        self.bytes += later.bytes;
        self.sources.merge(later.sources);
        for (source, n) in later.top.most(8) {
            self.top.add(source, n);
        }
    }
}

#[derive(Debug)]
pub(super) struct IcmpFlood {
    hosts: Watch<IpAddr, Messages>,
}

impl Default for IcmpFlood {
    fn default() -> Self {
        Self { hosts: Watch::new(HOSTS, WINDOW_NS) }
    }
}

impl Detector for IcmpFlood {
    fn about(&self) -> About {
        About {
            id: "icmp-flood",
            sees: "1,000 or more echo requests or unasked ICMP messages at one host within ten \
                   seconds; silent on pollers, ping, neighbour discovery and errors about the host's \
                   own traffic.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let (Transport::Icmp(icmp), Some(tuple)) =
            (packet.headers.transport, packet.headers.tuple())
        else {
            return;
        };
        let (request, counts) = match packet.headers.network {
            Network::V4(_) => (icmp.icmp_type == 8, icmp.icmp_type != 0),
            // Below 128 are errors; from 130 on neighbour discovery and listeners.
            _ => (icmp.icmp_type == 128, icmp.icmp_type <= 128),
        };
        let own = icmp.quoted.is_some_and(|quoted| packet.flows.sent(&quoted.tuple).is_some());
        if !counts || own || tuple.dst.is_multicast() {
            return;
        }
        self.hosts.of(tuple.dst, packet.at).add(packet, |messages| {
            if request {
                messages.requests += 1;
            } else {
                messages.others += 1;
            }
            messages.bytes += u64::from(packet.headers.payload_len);
            messages.sources.add(tuple.src);
            messages.top.add(tuple.src, 1);
        });
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let found = self.hosts.finish();
        found
            .into_iter()
            .map(|(host, watched)| {
                let flood = &watched.attack;
                let all = flood.requests + flood.others;
                let mut actors: Vec<String> = flood
                    .top
                    .most(5)
                    .into_iter()
                    .filter(|(_, n)| n * 20 >= all)
                    .map(|(source, n)| format!("{source} (at least {n}; unproven: may be forged)"))
                    .collect();
                if actors.is_empty() {
                    actors.push(format!("{} addresses with few each", flood.sources.count()));
                }
                Draft {
                    id: "icmp-flood",
                    severity: "medium",
                    doubt: None,
                    title: format!("{host} got {all} ICMP messages that nothing called for."),
                    evidence: vec![
                        format!(
                            "{} echo requests and {} others; {} in the worst ten seconds.",
                            flood.requests, flood.others, watched.peak
                        ),
                        format!(
                            "From {} addresses, {} bytes behind the header on average.",
                            flood.sources.count(),
                            flood.bytes / all.max(1)
                        ),
                    ],
                    effect: effect::counters(
                        host,
                        &[("IcmpInEchos", "echo requests taken"), ("Icmp6InEchos", "ICMPv6 echo requests taken")],
                        context,
                    ),
                    advice: "Limit ICMP per source at the border; net.ipv4.icmp_msgs_per_sec bounds what \
                             the host answers.",
                    actors,
                    targets: vec![host.to_string()],
                    seen: &watched.evidence,
                    references: &["MITRE ATT&CK T1498.001", "CAPEC-487", "RFC 4732"],
                }
                .finding(context)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, icmp, ip};

    #[test]
    fn a_hundred_a_second_is_a_flood_and_a_poller_is_not() {
        for (n, gap_ms, found) in [(1000, 5, 1), (999, 5, 0), (2000, 100, 0)] {
            let mut scene = Scene::of(IcmpFlood::default());
            for i in 0..n {
                let ping = icmp(8, 0, i, &[0; 32]);
                scene.frame(u64::from(i) * gap_ms, &ip((A, B), "192.0.2.1", "10.0.0.2", 1, &ping));
            }
            assert_eq!(scene.ids().len(), found, "{n} every {gap_ms} ms");
        }
    }
}
