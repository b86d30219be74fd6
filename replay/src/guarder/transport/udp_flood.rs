//! UDP flood: datagrams that nobody answers, to ever new ports or from ever new sources.
//!
//! **Sees**, per host and ten seconds, datagrams of conversations in which the host sent nothing. A flood
//! is one of
//! - 1,000 or more of them in 500 or more conversations, four of five of all UDP to that host;
//! - 1,000 or more of them that the host refused: ten ICMP port unreachables (Linux sends a few a second
//!   at most, `icmp_ratelimit`), or, in a recording, 500 drops for want of a socket;
//! - 50,000 in one conversation without an answer (5,000 a second), or 5,000 that all carry the same bytes,
//!   which no medium and no tunnel does.
//!
//! **Silent on** servers that answer, media and telemetry streams (few conversations, accepted), answers
//! from service ports (amplification looks at those) and UDP scans (as many ports as datagrams).
//!
//! Where the host's own packets are out of view, confidence is low: it may answer.

use std::net::IpAddr;

use psc_formats::EventKind;
use psc_formats::packet::{Headers, Network, Transport};

use super::amplification::service;
use crate::bounded::Top;
use crate::engine::{Sighting, World};
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::effect;
use crate::guarder::evidence::{Distinct, Draft};
use crate::guarder::watch::{Tally, Watch};
use crate::view::detect::Finding;

const WINDOW_NS: u64 = 10_000_000_000;
const DATAGRAMS: u64 = 1_000;
const CONVERSATIONS: u64 = 500;
const REFUSALS: u64 = 10;
const DROPS: u64 = 500;
const ONE: u64 = 50_000;
const SAME: u64 = 5_000;
const HOSTS: usize = 1_024;

#[derive(Debug)]
struct Unanswered {
    datagrams: u64,
    bytes: u64,
    answered: u64,
    /// Datagrams and conversations that were answered after they had been counted.
    late: u64,
    late_conversations: u64,
    refusals: u64,
    drops: u64,
    /// Datagrams with the bytes of the one before, and what those hash to.
    same: u64,
    last: u64,
    conversations: u64,
    ports: Distinct<u16>,
    sources: Distinct<IpAddr>,
    top: Top<IpAddr>,
}

impl Tally for Unanswered {
    fn new() -> Self {
        Self {
            datagrams: 0,
            bytes: 0,
            answered: 0,
            late: 0,
            late_conversations: 0,
            refusals: 0,
            drops: 0,
            same: 0,
            last: 0,
            conversations: 0,
            ports: Distinct::new(1_024),
            sources: Distinct::new(1_024),
            top: Top::new(32),
        }
    }

    fn is_attack(&self) -> bool {
        let datagrams = self.datagrams.saturating_sub(self.late);
        let many = datagrams >= DATAGRAMS;
        let spread = self.conversations.saturating_sub(self.late_conversations) >= CONVERSATIONS
            && datagrams >= self.answered.saturating_mul(4);
        let refused = self.refusals >= REFUSALS || self.drops >= DROPS;
        // A scanner asks each port once or twice.
        let scan = self.ports.len() as u64 * 2 > self.datagrams && self.sources.len() == 1;
        let monotone = datagrams >= SAME && self.same * 10 >= self.datagrams * 9;
        let one = (datagrams >= ONE || monotone) && self.answered == 0;
        many && !scan && (spread || refused) || one
    }

    fn merge(&mut self, later: Self) {
        self.datagrams += later.datagrams;
        self.bytes += later.bytes;
        self.answered += later.answered;
        self.late += later.late;
        self.late_conversations += later.late_conversations;
        self.refusals += later.refusals;
        self.drops += later.drops;
        self.same += later.same;
        self.conversations += later.conversations;
        self.ports.merge(later.ports);
        self.sources.merge(later.sources);
        for (source, n) in later.top.most(8) {
            self.top.add(source, n);
        }
    }
}

#[derive(Debug)]
pub(super) struct UdpFlood {
    hosts: Watch<IpAddr, Unanswered>,
    /// Hosts that sent anything.
    senders: Distinct<IpAddr>,
}

impl Default for UdpFlood {
    fn default() -> Self {
        Self { hosts: Watch::new(HOSTS, WINDOW_NS), senders: Distinct::new(65_536) }
    }
}

impl Detector for UdpFlood {
    fn about(&self) -> About {
        About {
            id: "udp-flood",
            sees: "1,000 or more unanswered datagrams within ten seconds in hundreds of \
                   conversations or refused by the host; silent on servers that answer, streams, \
                   amplified answers and scans.",
        }
    }

    fn sighting(&mut self, world: World<'_>, sighting: &Sighting<'_>) {
        let EventKind::Free { reason, .. } = sighting.event.kind else { return };
        if world.manifest.drop_reason(reason) != "NO_SOCKET" {
            return;
        }
        let udp = sighting.headers.filter(|h| matches!(h.transport, Transport::Udp(_)));
        if let Some((_, dst)) = udp.and_then(Headers::addresses)
            && let Some(host) = self.hosts.known(&dst)
        {
            host.note(|unanswered| unanswered.drops += 1);
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Some(tuple) = packet.headers.tuple() else { return };
        self.senders.add(tuple.src);
        if let Transport::Icmp(icmp) = packet.headers.transport {
            let refusal = match packet.headers.network {
                Network::V4(_) => icmp.icmp_type == 3 && icmp.code == 3,
                _ => icmp.icmp_type == 1 && icmp.code == 4,
            };
            if refusal
                && icmp.quoted.is_some_and(|quoted| quoted.tuple.protocol == 17)
                && let Some(host) = self.hosts.known(&tuple.src)
            {
                host.note(|unanswered| unanswered.refusals += 1);
            }
            return;
        }
        if !matches!(packet.headers.transport, Transport::Udp(_)) || tuple.dst.is_multicast() {
            return;
        }
        let answered = packet.flows.sent(&tuple.reversed()).is_some();
        if let Some(found) = packet.flows.get(&tuple)
            && let (side, peer) = found.sides(&tuple)
            && side.packets == 0
            && let Some(host) = self.hosts.known(&tuple.src)
        {
            host.note(|unanswered| {
                unanswered.late += peer.packets;
                unanswered.late_conversations += 1;
            });
        }
        // Answers of a service are nobody's flood of requests, and amplification looks at them.
        let broadcast = packet.headers.ethernet.is_some_and(|frame| frame.dst[0] & 1 == 1);
        if broadcast || service(tuple.sport).is_some() && service(tuple.dport).is_none() {
            return;
        }
        let begins = packet.flows.get(&tuple).is_none();
        let host = self.hosts.of(tuple.dst, packet.at);
        if answered {
            host.note(|unanswered| unanswered.answered += 1);
            return;
        }
        let payload = packet.payload();
        let whole = payload.len() as u32 == packet.headers.payload_len;
        let bytes = crate::guarder::evidence::hash(payload);
        host.add(packet, |unanswered| {
            unanswered.same +=
                u64::from(whole && unanswered.datagrams > 0 && unanswered.last == bytes);
            unanswered.last = bytes;
            unanswered.datagrams += 1;
            unanswered.bytes += u64::from(packet.headers.payload_len);
            unanswered.conversations += u64::from(begins);
            unanswered.ports.add(tuple.dport);
            unanswered.sources.add(tuple.src);
            unanswered.top.add(tuple.src, 1);
        });
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let found = self.hosts.finish();
        found
            .into_iter()
            .map(|(host, watched)| {
                let flood = &watched.attack;
                let mut actors: Vec<String> = flood
                    .top
                    .most(5)
                    .into_iter()
                    .filter(|(_, n)| n * 20 >= flood.datagrams)
                    .map(|(source, n)| format!("{source} (at least {n}; unproven: may be forged)"))
                    .collect();
                if actors.is_empty() {
                    actors.push(format!("{} addresses with few each", flood.sources.count()));
                }
                let blind = !self.senders.contains(&host);
                Draft {
                    id: "udp-flood",
                    severity: "high",
                    doubt: blind.then_some("low: what this host sends is not in view, so it may answer"),
                    title: format!("{host} got {} datagrams that it did not answer.", flood.datagrams),
                    evidence: vec![
                        format!(
                            "{} in the worst ten seconds, {} payload bytes in all.",
                            watched.peak, flood.bytes
                        ),
                        format!(
                            "{} conversations, from {} addresses to {} ports; {} datagrams belonged to \
                             answered ones.",
                            flood.conversations,
                            flood.sources.count(),
                            flood.ports.count(),
                            flood.answered
                        ),
                        format!(
                            "{} were refused by ICMP, {} dropped by the stack for want of a socket.",
                            flood.refusals, flood.drops
                        ),
                    ],
                    effect: effect::counters(
                        host,
                        &[
                            ("UdpNoPorts", "datagrams to ports without a socket"),
                            ("Udp6NoPorts", "IPv6 datagrams to ports without a socket"),
                            ("UdpRcvbufErrors", "datagrams lost to a full socket"),
                        ],
                        context,
                    ),
                    advice: "Limit per destination port at the border; drop ports without a service \
                             before the stack answers them.",
                    actors,
                    targets: vec![host.to_string()],
                    seen: &watched.evidence,
                    references: &["MITRE ATT&CK T1498.001", "CERT CA-1996-01", "RFC 4732"],
                }
                .finding(context)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::Scene;
    use crate::sample;

    #[test]
    fn floods_are_found_and_streams_servers_and_scans_are_not() {
        type Ends = fn(u32) -> (String, String);
        let random: Ends =
            |i| (format!("192.0.2.{}:{}", i % 200, 2000 + i % 7919), "10.0.0.2:80".into());
        let ports: Ends = |i| ("192.0.2.1:4000".into(), format!("10.0.0.2:{}", 1 + i % 600));
        let stream: Ends = |i| (format!("192.0.2.1:{}", 4000 + i % 4), "10.0.0.2:5004".into());
        let scan: Ends = |i| ("192.0.2.1:4000".into(), format!("10.0.0.2:{}", 1 + i));
        for (name, ends, n, answers, found) in [
            ("random sources", random, 1500, false, 1),
            ("too few", random, 999, false, 0),
            ("answered", random, 3000, true, 0),
            ("many ports again and again", ports, 3000, false, 1),
            ("a stream", stream, 9000, false, 0),
            ("a scan", scan, 2000, false, 0),
        ] {
            let mut scene = Scene::of(UdpFlood::default());
            for i in 0..n {
                let (from, to) = ends(i);
                scene.headers(u64::from(i), &sample::udp(&from, &to, 20));
                if answers {
                    scene.headers(u64::from(i), &sample::udp(&to, &from, 20));
                }
            }
            assert_eq!(scene.ids().len(), found, "{name}");
        }
    }
}
