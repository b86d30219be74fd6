//! Smurf and fraggle: requests to a broadcast address in a victim's name, and the replies that hit it.
//!
//! **Sees**, per ten seconds, (1) echo requests, or datagrams to echo (7) and chargen (19), sent to a
//! broadcast address: 20 or more from one source; (2) echo replies from 5 or more hosts to one that asked
//! none of them: 100 or more.
//!
//! **Silent on** `ping -b` by hand (one a second), and on replies to a host that did ask.

use std::net::IpAddr;

use psc_formats::FiveTuple;
use psc_formats::event::DeviceId;
use psc_formats::packet::{Network, Transport};

use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Distinct, Draft, listed};
use crate::guarder::watch::{Tally, Watch};
use crate::view::detect::Finding;

const WINDOW_NS: u64 = 10_000_000_000;
const REQUESTS: u64 = 20;
const REPLIES: u64 = 100;
const REPLIERS: usize = 5;
const HOSTS: usize = 1_024;

/// Requests to broadcast addresses in one host's name, and replies to it that it had not asked for.
#[derive(Debug)]
struct Bounced {
    /// Where requests are counted: a bridge hands one broadcast to every port, and each may be recorded.
    device: Option<DeviceId>,
    requests: u64,
    replies: u64,
    targets: Distinct<IpAddr>,
    repliers: Distinct<IpAddr>,
}

impl Tally for Bounced {
    fn new() -> Self {
        Self {
            device: None,
            requests: 0,
            replies: 0,
            targets: Distinct::new(256),
            repliers: Distinct::new(1024),
        }
    }
    fn is_attack(&self) -> bool {
        self.requests >= REQUESTS || self.replies >= REPLIES && self.repliers.len() >= REPLIERS
    }
    fn merge(&mut self, later: Self) {
        self.requests += later.requests;
        self.replies += later.replies;
        self.targets.merge(later.targets);
        self.repliers.merge(later.repliers);
    }
}

#[derive(Debug)]
pub(super) struct Smurf {
    victims: Watch<IpAddr, Bounced>,
}

impl Default for Smurf {
    fn default() -> Self {
        Self { victims: Watch::new(HOSTS, WINDOW_NS) }
    }
}

fn is_broadcast(packet: &Packet<'_>, dst: IpAddr) -> bool {
    let IpAddr::V4(dst) = dst else {
        return dst.is_multicast();
    };
    let frame = packet.headers.ethernet.is_some_and(|frame| frame.dst == [0xff; 6]);
    // The last address of a /24 seen behind routers, where the frame is unicast.
    frame || dst.is_broadcast() || dst.octets()[3] == 255
}

impl Detector for Smurf {
    fn about(&self) -> About {
        About {
            id: "smurf",
            sees: "many requests to a broadcast address in one host's name, or echo replies of many \
                   hosts to one that asked none; silent on ping to broadcast by hand and on replies \
                   to who asked.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Some((src, dst)) = packet.headers.addresses() else { return };
        let (request, reply) = match packet.headers.transport {
            Transport::Icmp(icmp) => match packet.headers.network {
                Network::V4(_) => (icmp.icmp_type == 8, icmp.icmp_type == 0),
                _ => (icmp.icmp_type == 128, icmp.icmp_type == 129),
            },
            Transport::Udp(udp) => (matches!(udp.dport, 7 | 19), false),
            Transport::Tcp(_) | Transport::Ports(..) | Transport::None => return,
        };
        if request && is_broadcast(packet, dst) {
            self.victims.of(src, packet.at).add(packet, |bounced| {
                let here = *bounced.device.get_or_insert(packet.device) == packet.device;
                bounced.requests += u64::from(here);
                bounced.targets.add(dst);
            });
        } else if reply && !dst.is_multicast() {
            let protocol = if src.is_ipv4() { 1 } else { 58 };
            let asked = FiveTuple { protocol, src: dst, sport: 0, dst: src, dport: 0 };
            if packet.flows.sent(&asked).is_none() {
                self.victims.of(dst, packet.at).add(packet, |bounced| {
                    bounced.replies += 1;
                    bounced.repliers.add(src);
                });
            }
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let found = self.victims.finish();
        found
            .into_iter()
            .map(|(victim, watched)| {
                let bounced = &watched.attack;
                Draft {
                    id: "smurf",
                    severity: "high",
                    doubt: None,
                    title: format!(
                        "{} requests to broadcast in the name of {victim}, and {} replies to it \
                         that it had not asked for.",
                        bounced.requests, bounced.replies
                    ),
                    evidence: vec![
                        format!(
                            "Broadcast addresses: {}.",
                            listed(bounced.targets.iter().map(ToString::to_string), 5)
                        ),
                        format!("{} hosts replied.", bounced.repliers.count()),
                        format!("{} packets in the worst ten seconds.", watched.peak),
                    ],
                    effect: if bounced.replies > 0 {
                        format!("confirmed: {} replies reached it.", bounced.replies)
                    } else {
                        "not confirmed: no reply is in view.".to_owned()
                    },
                    advice: "Keep net.ipv4.icmp_echo_ignore_broadcasts=1 and routers from forwarding \
                             directed broadcasts (RFC 2644).",
                    actors: vec![format!("somebody in the name of {victim}")],
                    targets: vec![victim.to_string()],
                    seen: &watched.evidence,
                    references: &["CVE-1999-0513", "RFC 2644", "MITRE ATT&CK T1498.002"],
                }
                .finding(context)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, ALL, B, Scene, icmp, ip};

    #[test]
    fn requests_to_broadcast_and_replies_nobody_asked_for() {
        for (n, gap_ms, found) in [(20, 100, 1), (20, 1000, 0), (500, 1, 1)] {
            let mut scene = Scene::of(Smurf::default());
            for i in 0..n {
                let ping = icmp(8, 0, i, &[0; 8]);
                scene.frame(
                    u64::from(i) * gap_ms,
                    &ip((A, ALL), "10.0.0.9", "10.0.0.255", 1, &ping),
                );
            }
            assert_eq!(scene.ids().len(), found, "{n} every {gap_ms} ms");
        }
        for (asks, found) in [(false, 1), (true, 0)] {
            let mut scene = Scene::of(Smurf::default());
            for i in 0..120_u32 {
                let host = format!("192.0.2.{}", i % 10 + 1);
                if asks {
                    scene.frame(
                        u64::from(i),
                        &ip((A, B), "10.0.0.9", &host, 1, &icmp(8, 0, i, &[])),
                    );
                }
                scene.frame(u64::from(i), &ip((B, A), &host, "10.0.0.9", 1, &icmp(0, 0, i, &[])));
            }
            assert_eq!(scene.ids().len(), found, "asked: {asks}");
        }
    }
}
