//! Routes told by somebody who is no router: forged OSPF advertisements, and a better default route by RIP.
//!
//! **Sees**
//! - one OSPF advertisement whose new instances come from its own router (by the identifier in the header)
//!   and from somebody else in turn, three times and less than a minute apart: its owner fights back (RFC
//!   2328 section 13.4), which it need not while it alone speaks for itself;
//! - a host that tells a default route by RIP with a smaller metric than the router heard before it (two
//!   updates or more).
//!
//! **Silent on** advertisements that are refreshed and flooded on, by whichever neighbour is first, and a
//! second router with the same metric or a worse one. Where the owner is not on this link, nothing is said.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use psc_formats::packet::Transport;

use crate::bounded::Bounded;
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Draft, Seen, counted};
use crate::view::detect::Finding;

const OSPF: u8 = 89;
const UPDATE: u8 = 4;
const TURNS: u64 = 3;
const APART_NS: u64 = 60_000_000_000;
const ADVERTISEMENTS: usize = 8_192;
const IN_ONE: usize = 64;
const ROUTERS: usize = 256;
const HEARD: u64 = 2;

#[derive(Debug, Default)]
struct Advertisement {
    seq: i32,
    from: Option<IpAddr>,
    /// Whether its own router told the newest instance.
    own: bool,
    at: u64,
    turns: u64,
    /// Who told new instances, and how many.
    tellers: BTreeMap<IpAddr, u64>,
    first: Option<IpAddr>,
    seen: Seen,
}

#[derive(Debug)]
struct Teller {
    updates: u64,
    metric: u32,
    newcomer: bool,
    seen: Seen,
}

#[derive(Debug)]
pub(super) struct Routing {
    /// By type, identifier and advertising router.
    advertisements: Bounded<(u8, u32, u32), Advertisement>,
    defaults: BTreeMap<IpAddr, Teller>,
}

impl Default for Routing {
    fn default() -> Self {
        Self { advertisements: Bounded::new(ADVERTISEMENTS), defaults: BTreeMap::new() }
    }
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk::<4>()?))
}

/// Type, identifier, advertising router and sequence number of the advertisements in an update (RFC 2328
/// appendix A.3.5 and A.4.1).
fn advertisements(bytes: &[u8]) -> Vec<(u8, u32, u32, i32)> {
    let mut out = Vec::new();
    if bytes.first() != Some(&2) || bytes.get(1) != Some(&UPDATE) {
        return out;
    }
    let mut at = 28;
    let count = be32(bytes, 24).unwrap_or(0);
    while out.len() < (count as usize).min(IN_ONE) {
        let Some(lsa) = bytes.get(at..at + 20) else { break };
        let (Some(id), Some(router), Some(seq)) = (be32(lsa, 4), be32(lsa, 8), be32(lsa, 12))
        else {
            break;
        };
        out.push((lsa[3], id, router, seq as i32));
        at += usize::from(u16::from_be_bytes([lsa[18], lsa[19]])).max(20);
    }
    out
}

/// The metric of the default route in a RIP response (RFC 2453).
fn default_route(bytes: &[u8]) -> Option<u32> {
    if bytes.first()? != &2 || !matches!(bytes.get(1)?, 1 | 2) {
        return None;
    }
    let entries = bytes.get(4..)?.chunks_exact(20).take(25);
    entries
        .filter(|entry| entry[..2] == [0, 2] && entry[4..8] == [0; 4] && entry[8..12] == [0; 4])
        .find_map(|entry| be32(entry, 16))
        .filter(|metric| *metric < 16)
}

impl Detector for Routing {
    fn about(&self) -> About {
        About {
            id: "routing-spoofing",
            sees: "OSPF advertisements that two tell in turn, and a better default route by RIP from \
                   somebody new; silent on refreshing, flooding and second routers.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Some((src, _)) = packet.headers.addresses() else { return };
        match packet.headers.transport {
            Transport::Udp(udp) if udp.dport == 520 && udp.sport == 520 => {
                if let Some(metric) = default_route(packet.payload()) {
                    self.told_default(src, metric, packet);
                }
            }
            Transport::None if packet.headers.protocol() == Some(OSPF) => {
                let speaker = be32(packet.payload(), 4);
                for (kind, id, router, seq) in advertisements(packet.payload()) {
                    let own = speaker == Some(router);
                    let known = self
                        .advertisements
                        .entry_or_forget((kind, id, router), Advertisement::default);
                    if known.from.is_some() && seq <= known.seq {
                        continue;
                    }
                    if own != known.own
                        && known.from.is_some_and(|from| from != src)
                        && packet.at.saturating_sub(known.at) < APART_NS
                    {
                        known.turns += 1;
                        known.seen.add(packet);
                    }
                    if own {
                        known.first = Some(src);
                    }
                    (known.seq, known.from, known.at) = (seq, Some(src), packet.at);
                    known.own = own;
                    if known.tellers.len() < 8 {
                        *known.tellers.entry(src).or_default() += 1;
                    }
                }
            }
            _ => {}
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let all = std::mem::replace(&mut self.advertisements, Bounded::new(1)).into_oldest_first();
        let mut findings: Vec<Finding> = all
            .iter()
            .filter(|(_, known)| known.turns >= TURNS)
            .map(|((_, _, router), known)| fought(Ipv4Addr::from(*router), known, context))
            .collect();
        for (host, teller) in std::mem::take(&mut self.defaults) {
            if teller.newcomer {
                findings.push(
                    Draft {
                        id: "routing-spoofing",
                        severity: "medium",
                        doubt: Some("medium: a router that is newly connected does the same"),
                        title: format!(
                            "{host}, new on this link, tells a better default route by RIP."
                        ),
                        evidence: vec![format!(
                            "{} with metric {}, smaller than that of the router heard before.",
                            counted(teller.seen.packets, "update"),
                            teller.metric
                        )],
                        effect: "not observable: whether others took it is not in view.".to_owned(),
                        advice: ADVICE,
                        actors: vec![format!(
                            "{host} (unproven: a datagram's source can be forged)"
                        )],
                        targets: vec![],
                        seen: &teller.seen,
                        references: &["RFC 2453 section 4.1", "MITRE ATT&CK T1557"],
                    }
                    .finding(context),
                );
            }
        }
        findings
    }
}

const ADVICE: &str = "Authenticate routing messages (RFC 5709, RFC 4822), and listen to none on ports that \
                      lead to hosts (passive interfaces).";

impl Routing {
    fn told_default(&mut self, src: IpAddr, metric: u32, packet: &Packet<'_>) {
        let before =
            self.defaults.iter().filter(|(ip, t)| **ip != src && !t.newcomer && t.updates >= HEARD);
        let best = before.map(|(_, teller)| teller.metric).min();
        let known = self.defaults.contains_key(&src);
        if !known && self.defaults.len() >= ROUTERS {
            return;
        }
        let teller = self.defaults.entry(src).or_insert_with(|| Teller {
            updates: 0,
            metric,
            newcomer: best.is_some_and(|best| metric < best),
            seen: Seen::default(),
        });
        teller.updates += 1;
        teller.metric = metric;
        teller.seen.add(packet);
    }
}

fn fought(router: Ipv4Addr, known: &Advertisement, context: &Context<'_>) -> Finding {
    let others: Vec<String> = known
        .tellers
        .keys()
        .filter(|ip| Some(**ip) != known.first)
        .map(ToString::to_string)
        .collect();
    let first = known.first.map(|ip| ip.to_string()).unwrap_or_default();
    Draft {
        id: "routing-spoofing",
        severity: "high",
        doubt: Some("medium: two routers with one router identifier do the same"),
        title: format!("{} speaks for OSPF router {router}, which contradicts.", others.join(", ")),
        evidence: vec![format!(
            "New instances of its advertisement came from {first} and from {} in turn, {} times.",
            others.join(", "),
            known.turns
        )],
        effect:
            "confirmed: the forged instance was flooded, or it would not have been contradicted."
                .to_owned(),
        advice: ADVICE,
        actors: others
            .iter()
            .map(|ip| format!("{ip} (unproven: the source can be forged)"))
            .collect(),
        targets: vec![router.to_string()],
        seen: &known.seen,
        references: &["RFC 2328 section 13.4", "RFC 6863", "MITRE ATT&CK T1557"],
    }
    .finding(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, ip, udp};

    fn update(src: &str, speaker: [u8; 4], seq: u32) -> Vec<u8> {
        let mut body = vec![2, UPDATE, 0, 48];
        body.extend(speaker);
        body.resize(24, 0);
        body.extend([0, 0, 0, 1, 0, 1, 2, 1, 192, 0, 2, 1, 192, 0, 2, 1]);
        body.extend((0x8000_0000 + seq).to_be_bytes());
        body.extend([0, 0, 0, 20]);
        for cut in 0..body.len() {
            assert!(advertisements(&body[..cut]).is_empty());
        }
        ip((A, B), src, "224.0.0.5", 89, &body)
    }

    #[test]
    fn an_advertisement_has_one_origin_or_is_fought_over() {
        let run = |told: &[(&str, u32, u64)]| {
            let mut scene = Scene::of(Routing::default());
            let mut at = 0;
            for (src, seq, gap_s) in told {
                at += gap_s * 1_000;
                let speaker = if *src == "10.0.0.1" { [192, 0, 2, 1] } else { [192, 0, 2, 66] };
                scene.frame(at, &update(src, speaker, *seq));
            }
            scene.ids().len()
        };
        let (real, evil) = ("10.0.0.1", "10.0.0.66");
        assert_eq!(run(&[(real, 1, 0), (evil, 9, 5), (real, 10, 1), (evil, 11, 5)]), 1);
        assert_eq!(run(&[(real, 1, 0), (evil, 9, 5), (real, 10, 1)]), 0, "twice");
        assert_eq!(
            run(&[(real, 1, 0), (evil, 2, 900), (real, 3, 900), (evil, 4, 900)]),
            0,
            "slowly"
        );
        assert_eq!(
            run(&[(real, 1, 0), (evil, 1, 1), (real, 2, 5), (evil, 2, 1), (real, 3, 5)]),
            0,
            "flooded on"
        );
        let (left, right) = ("10.0.0.2", "10.0.0.3");
        let flaps = [(left, 1, 0), (right, 2, 5), (left, 3, 5), (right, 4, 5), (left, 5, 5)];
        assert_eq!(run(&flaps), 0, "the first of two neighbours to tell of somebody far");
    }

    #[test]
    fn a_better_default_route_by_somebody_new() {
        for (metric, before, found) in [(1, 2, 1), (3, 2, 0), (1, 1, 0)] {
            let mut scene = Scene::of(Routing::default());
            let tell = |src: &str, metric: u8| {
                let mut body = vec![2, 2, 0, 0, 0, 2, 0, 0];
                body.resize(23, 0);
                body.push(metric);
                ip((A, B), src, "224.0.0.9", 17, &udp(520, 520, &body))
            };
            for n in 0..before {
                scene.frame(n * 30_000, &tell("10.0.0.1", 3));
            }
            scene.frame(90_000, &tell("10.0.0.66", metric));
            assert_eq!(scene.ids().len(), found, "metric {metric}");
        }
    }
}
