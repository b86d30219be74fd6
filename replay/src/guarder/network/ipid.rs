//! IP identification probing (idle scan): somebody asks a third host over and over for its next
//! identification, and learns from the steps what it sent to others.
//!
//! **Sees**, per minute, SYN-ACKs and ACKs without a connection from one prober to one host, each
//! answered by a reset: six or more (nmap begins with six), where the resets' identifications count up;
//! and segments of the same kind from other hosts that the prober's victim sends to it. With such a
//! third party it is an idle scan; without, of low confidence.
//!
//! **Silent on** a late SYN-ACK or two, backscatter (no single prober), and hosts whose identifications
//! do not count (Linux sends resets with 0 or random ones).

use std::collections::VecDeque;
use std::net::IpAddr;

use psc_formats::packet::Network;

use crate::analyzer::tcp::{ACK, RST, SYN};
use crate::bounded::Bounded;
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Distinct, Draft, Seen, listed};
use crate::view::detect::Finding;

const WINDOW_NS: u64 = 60_000_000_000;
const PROBES: usize = 6;
/// Steps between the identifications of resets to one prober that count as counting.
const STEP: u16 = 256;
const PAIRS: usize = 8_192;

#[derive(Debug, Default)]
struct Pair {
    probes: VecDeque<u64>,
    most: usize,
    seen: Seen,
    ids: VecDeque<u16>,
    counting: usize,
    answered: u64,
}

#[derive(Debug)]
pub(super) struct Ipid {
    /// (prober, host).
    pairs: Bounded<(IpAddr, IpAddr), Pair>,
    /// Who sent unasked SYN-ACKs or resets to a host.
    others: Bounded<IpAddr, Distinct<IpAddr>>,
}

impl Default for Ipid {
    fn default() -> Self {
        Self { pairs: Bounded::new(PAIRS), others: Bounded::new(PAIRS) }
    }
}

impl Detector for Ipid {
    fn about(&self) -> About {
        About {
            id: "ipid-probing",
            sees: "one host drawing six or more resets a minute with counted-up identifications \
                   from another (idle scan); silent on late SYN-ACKs, backscatter and hosts whose \
                   identifications do not count.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let (Some(tcp), Some(tuple)) = (packet.headers.tcp(), packet.headers.tuple()) else {
            return;
        };
        let flags = tcp.flags & (SYN | ACK | RST);
        let unknown = packet.flows.get(&tuple).is_none_or(|found| {
            let (_, peer) = found.sides(&tuple);
            !peer.syn && peer.bytes == 0
        });
        if (flags == SYN | ACK || flags == ACK && packet.headers.payload_len == 0) && unknown {
            self.others.entry_or_forget(tuple.dst, || Distinct::new(64)).add(tuple.src);
            let pair = self.pairs.entry_or_forget((tuple.src, tuple.dst), Pair::default);
            pair.seen.add(packet);
            pair.probes.push_back(packet.at);
            while pair.probes.front().is_some_and(|at| packet.at.saturating_sub(*at) > WINDOW_NS) {
                pair.probes.pop_front();
            }
            if pair.probes.len() > 64 {
                pair.probes.pop_front();
            }
            pair.most = pair.most.max(pair.probes.len());
        } else if flags & RST != 0
            && let Network::V4(ip) = packet.headers.network
            && let Some(pair) = self.pairs.get_mut(&(tuple.dst, tuple.src))
        {
            pair.answered += 1;
            if let Some(last) = pair.ids.back() {
                let step = ip.id.wrapping_sub(*last);
                pair.counting += usize::from((1..=STEP).contains(&step));
            }
            pair.ids.push_back(ip.id);
            if pair.ids.len() > 8 {
                pair.ids.pop_front();
            }
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let pairs = std::mem::replace(&mut self.pairs, Bounded::new(1));
        let mut findings = Vec::new();
        for ((prober, host), pair) in pairs.into_oldest_first() {
            let counts = pair.counting + 1 >= PROBES && pair.counting * 2 >= pair.answered as usize;
            if pair.most < PROBES || !counts {
                continue;
            }
            let victims: Vec<IpAddr> = self
                .others
                .get(&host)
                .map(|others| others.iter().filter(|other| **other != prober).copied().collect())
                .unwrap_or_default();
            let ids: Vec<String> = pair.ids.iter().map(ToString::to_string).collect();
            findings.push(
                Draft {
                    id: "ipid-probing",
                    severity: "medium",
                    doubt: victims.is_empty().then_some(
                        "low: no third host is in view that it learns about; the probes alone may \
                         only ask whether this host would do",
                    ),
                    title: format!(
                        "{prober} drew {} resets from {host} whose identifications count up.",
                        pair.answered
                    ),
                    evidence: vec![
                        format!("{} probes without a connection, {} within a minute.", pair.seen.packets, pair.most),
                        format!("The last identifications: {}.", ids.join(", ")),
                        format!(
                            "Others that sent it segments without a connection: {}.",
                            listed(victims.iter().map(ToString::to_string), 5)
                        ),
                    ],
                    effect: format!(
                        "confirmed: {} of the steps are small enough to count packets by.",
                        pair.counting
                    ),
                    advice: "Let the host choose identifications at random (Linux, BSD and Windows of \
                             this century do) and drop segments without a connection before it.",
                    actors: vec![format!("{prober} (proven as far as it reads the answers)")],
                    targets: std::iter::once(host).chain(victims).map(|ip| ip.to_string()).take(5).collect(),
                    seen: &pair.seen,
                    references: &["RFC 6274 section 3.5.2", "MITRE ATT&CK T1595.001", "CAPEC-303"],
                }
                .finding(context),
            );
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, ip, ip_with, tcp};

    fn probe(scene: &mut Scene, ms: u64, prober: &str, id: u16) {
        let port = 40_000 + ms as u16;
        scene.frame(ms, &ip((A, B), prober, "10.0.0.5", 6, &tcp((port, 80), 0x12, 9, 1, &[], &[])));
        let reset = tcp((80, port), 4, 1, 0, &[], &[]);
        scene.frame(ms, &ip_with((B, A), ("10.0.0.5", prober), 6, (64, id, 0), &reset));
    }

    #[test]
    fn counting_answers_to_one_prober_are_found() {
        // (probes, step of the identification, found)
        for (n, step, found) in [(6_u16, 2, 1), (5, 2, 0), (20, 0, 0), (20, 7919, 0)] {
            let mut scene = Scene::of(Ipid::default());
            for i in 0..n {
                probe(
                    &mut scene,
                    u64::from(i) * 100,
                    "10.0.0.66",
                    500_u16.wrapping_add(i.wrapping_mul(step)),
                );
            }
            assert_eq!(scene.ids().len(), found, "{n} probes, step {step}");
        }
    }

    #[test]
    fn with_a_third_party_it_is_an_idle_scan() {
        let mut scene = Scene::of(Ipid::default());
        for i in 0..8 {
            probe(&mut scene, u64::from(i) * 100, "10.0.0.66", 500 + i * 2);
        }
        probe(&mut scene, 950, "192.0.2.80", 517);
        let found = scene.findings();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].confidence, "high");
        assert!(found[0].targets.contains(&"192.0.2.80".to_owned()));
    }
}
