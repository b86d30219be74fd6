//! Forged ICMP errors other than packet-too-big: unreachable, source quench, time exceeded, parameter
//! problem, about packets that nobody sent.
//!
//! **Sees** each error and the packet that it quotes. A finding takes one error about a TCP sequence
//! number that was never sent (RFC 5927 section 4.1: such a forger guesses), or three within a minute
//! about flows that their sender never had, while what it sends is in view.
//!
//! **Silent on** genuine errors, late ones, errors about fragments, and recordings that do not show
//! what the host sends.
//!
//! Errors about flows that never were also come back when somebody forges this host's address
//! elsewhere (backscatter): the finding says so.

use std::net::IpAddr;

use psc_formats::packet::{Network, Transport};

use super::quoted::{Verdict, judge};
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Distinct, Draft, counted, listed};
use crate::guarder::watch::{Tally, Watch};
use crate::view::detect::Finding;

const WINDOW_NS: u64 = 60_000_000_000;
const UNKNOWN: u64 = 3;
const HOSTS: usize = 8_192;

#[derive(Debug)]
struct Errors {
    unknown: u64,
    never_sent: u64,
    senders: Distinct<IpAddr>,
    flows: Distinct<String>,
    kinds: Distinct<(u8, u8)>,
}

impl Tally for Errors {
    fn new() -> Self {
        Self {
            unknown: 0,
            never_sent: 0,
            senders: Distinct::new(256),
            flows: Distinct::new(64),
            kinds: Distinct::new(64),
        }
    }
    fn is_attack(&self) -> bool {
        self.never_sent > 0 || self.unknown >= UNKNOWN
    }
    fn merge(&mut self, later: Self) {
        self.unknown += later.unknown;
        self.never_sent += later.never_sent;
        self.senders.merge(later.senders);
        self.flows.merge(later.flows);
        self.kinds.merge(later.kinds);
    }
}

#[derive(Debug)]
pub(super) struct ForgedErrors {
    hosts: Watch<IpAddr, Errors>,
}

impl Default for ForgedErrors {
    fn default() -> Self {
        Self { hosts: Watch::new(HOSTS, WINDOW_NS) }
    }
}

impl Detector for ForgedErrors {
    fn about(&self) -> About {
        About {
            id: "forged-icmp-error",
            sees: "ICMP errors about TCP data that was never sent, or three a minute about flows \
                   that never were; silent on genuine and late errors and on senders out of view.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Transport::Icmp(icmp) = packet.headers.transport else { return };
        let judged = match packet.headers.network {
            Network::V4(_) => {
                matches!(icmp.icmp_type, 4 | 11 | 12) || icmp.icmp_type == 3 && icmp.code != 4
            }
            Network::V6(_) => matches!(icmp.icmp_type, 1 | 3 | 4),
            Network::Arp(_) | Network::None => false,
        };
        let Some(quoted) = icmp.quoted.filter(|_| judged) else { return };
        let Some((sender, _)) = packet.headers.addresses() else { return };
        // A host's own errors to itself come from a filter or tunnel on it.
        if sender == quoted.tuple.src {
            return;
        }
        let verdict = judge(packet, &quoted);
        if !matches!(verdict, Verdict::NoSuchFlow | Verdict::NeverSent) {
            return;
        }
        self.hosts.of(quoted.tuple.src, packet.at).add(packet, |errors| {
            if verdict == Verdict::NeverSent {
                errors.never_sent += 1;
            } else {
                errors.unknown += 1;
            }
            errors.senders.add(sender);
            errors.flows.add(quoted.tuple.to_string());
            errors.kinds.add((icmp.icmp_type, icmp.code));
        });
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let found = self.hosts.finish();
        found
            .into_iter()
            .map(|(host, watched)| {
                let errors = &watched.attack;
                let guessed = errors.never_sent > 0;
                let kinds = errors.kinds.iter().map(|(kind, code)| format!("{kind}/{code}"));
                let effect = crate::guarder::effect::counters(
                    host,
                    &[("TcpExtOutOfWindowIcmps", "ICMP errors refused as out of window")],
                    context,
                );
                Draft {
                    id: "forged-icmp-error",
                    severity: "medium",
                    doubt: (!guessed).then_some(
                        "medium: errors about packets that somebody else sends in this host's name \
                         look the same",
                    ),
                    title: format!(
                        "{host} got {} about packets that it never sent.",
                        counted(watched.evidence.packets, "ICMP error")
                    ),
                    evidence: vec![
                        format!(
                            "{} quote a sequence number that was never sent, {} a flow that never \
                             was.",
                            errors.never_sent, errors.unknown
                        ),
                        format!("They quote: {}.", listed(errors.flows.iter().cloned(), 5)),
                        format!("Type/code: {}.", listed(kinds, 8)),
                    ],
                    effect: if effect.starts_with("confirmed") {
                        effect.replacen("confirmed", "not confirmed: the stack refused them", 1)
                    } else {
                        effect
                    },
                    advice: "Nothing to do where the stack checks them (Linux does for TCP); if \
                             they come with forged traffic in this host's name, tell its network.",
                    actors: vec![format!(
                        "{} (unproven: the source of ICMP can be forged)",
                        listed(errors.senders.iter().map(ToString::to_string), 5)
                    )],
                    targets: vec![host.to_string()],
                    seen: &watched.evidence,
                    references: &["RFC 5927", "RFC 6633", "CVE-2004-0790", "CVE-2004-0791"],
                }
                .finding(context)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, icmp, ip, tcp, udp, v4};
    use crate::sample;

    const HOST: &str = "10.0.0.2";
    const PEER: &str = "192.0.2.9";

    fn error(kind: u8, code: u8, quote: &[u8]) -> Vec<u8> {
        ip((B, A), "192.0.2.1", HOST, 1, &icmp(kind, code, 0, quote))
    }

    fn quote(protocol: u8, segment: &[u8]) -> Vec<u8> {
        v4(sample::v4(HOST), sample::v4(PEER), protocol, (1, 1, 0x4000), segment)
    }

    fn found(errors: &[Vec<u8>]) -> usize {
        let mut scene = Scene::of(ForgedErrors::default());
        for i in 0..20 {
            let data = tcp((80, 40_000), 0x10, 1000 + i, 1, &[], &[0]);
            scene.frame(u64::from(i) * 100, &ip((A, B), HOST, PEER, 6, &data));
            let ask = udp(5000, 53, &[0; 20]);
            scene.frame(u64::from(i) * 100, &ip((A, B), HOST, PEER, 17, &ask));
        }
        for (n, error) in errors.iter().enumerate() {
            scene.frame(3000 + n as u64, error);
        }
        scene.ids().len()
    }

    #[test]
    fn guesses_are_found_and_genuine_errors_are_not() {
        let at = |seq| quote(6, &tcp((80, 40_000), 0x10, seq, 1, &[], &[]));
        let to = |port| quote(17, &udp(5000, port, &[0; 20]));
        assert_eq!(found(&[error(3, 1, &at(1010))]), 0, "genuine");
        assert_eq!(found(&[error(3, 3, &at(77_000))]), 1, "a guess");
        assert_eq!(found(&[error(3, 3, &to(53)), error(3, 3, &to(53)), error(11, 0, &to(53))]), 0);
        let strange: Vec<_> = (0..3).map(|n| error(3, 3, &to(1000 + n))).collect();
        assert_eq!(found(&strange), 1, "three about flows that never were");
        assert_eq!(found(&strange[..2]), 0);
    }
}
