//! SNMP communities guessed (onesixtyone, `snmp_login`): versions 1 and 2c send their password in the clear, and
//! a wrong one is not answered (RFC 1157 section 4.1).
//!
//! **Sees** 20 or more different communities of one client within a minute.
//!
//! **Silent on** pollers, which know one or a few, and on SNMPv3.

use std::net::IpAddr;

use psc_formats::Manifest;
use psc_formats::packet::Transport;

use crate::guarder::detect::{About, Context, Detector, Packet, needs_payload};
use crate::guarder::evidence::{Distinct, Draft, hash, listed};
use crate::guarder::watch::{Tally, Watch};
use crate::view::detect::Finding;

const WINDOW_NS: u64 = 60_000_000_000;
const COMMUNITIES: usize = 20;
const KEYS: usize = 1_024;

#[derive(Debug)]
struct Tried {
    communities: Distinct<u64>,
    hosts: Distinct<IpAddr>,
    answered: u64,
}

impl Tally for Tried {
    fn new() -> Self {
        Self { communities: Distinct::new(1_024), hosts: Distinct::new(256), answered: 0 }
    }
    fn is_attack(&self) -> bool {
        self.communities.len() >= COMMUNITIES
    }
    fn merge(&mut self, later: Self) {
        self.communities.merge(later.communities);
        self.hosts.merge(later.hosts);
        self.answered += later.answered;
    }
}

#[derive(Debug)]
pub(super) struct SnmpGuess {
    clients: Watch<IpAddr, Tried>,
}

impl Default for SnmpGuess {
    fn default() -> Self {
        Self { clients: Watch::new(KEYS, WINDOW_NS) }
    }
}

/// SEQUENCE, INTEGER version 0 or 1, OCTET STRING community.
fn community(payload: &[u8]) -> Option<&[u8]> {
    let [0x30, len, rest @ ..] = payload else { return None };
    // A long form says in how many bytes its length follows (X.690 section 8.1.3.5).
    let skip = if len & 0x80 == 0 { 0 } else { usize::from(len & 0x7f) };
    match rest.get(skip..)? {
        [2, 1, 0 | 1, 4, len, rest @ ..] => rest.get(..usize::from(*len)),
        _ => None,
    }
}

impl Detector for SnmpGuess {
    fn about(&self) -> About {
        About {
            id: "snmp-guessing",
            sees: "20 or more different SNMP communities of one client within a minute; silent on pollers.",
        }
    }

    fn blind(&self, manifest: &Manifest) -> String {
        needs_payload(manifest)
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Transport::Udp(udp) = packet.headers.transport else { return };
        let Some((src, dst)) = packet.headers.addresses() else { return };
        if udp.dport == 161 {
            let Some(name) = community(packet.payload()) else { return };
            let name = hash(name);
            self.clients.of(src, packet.at).add(packet, |tried| {
                tried.communities.add(name);
                tried.hosts.add(dst);
            });
        } else if udp.sport == 161
            && let Some(client) = self.clients.known(&dst)
        {
            client.note(|tried| tried.answered += 1);
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let found = self.clients.finish();
        found
            .into_iter()
            .map(|(client, watched)| {
                let tried = &watched.attack;
                Draft {
                    id: "brute-force",
                    severity: if tried.answered > 0 { "high" } else { "medium" },
                    doubt: None,
                    title: format!(
                        "{client} tried {} SNMP communities.",
                        tried.communities.count()
                    ),
                    evidence: vec![format!(
                        "At {} hosts: {}.",
                        tried.hosts.count(),
                        listed(tried.hosts.iter().map(ToString::to_string), 5)
                    )],
                    effect: if tried.answered > 0 {
                        format!("confirmed: {} answers came back.", tried.answered)
                    } else {
                        "not confirmed: no answer is in view.".to_owned()
                    },
                    advice: "Use SNMPv3, and answer only those that may ask.",
                    actors: vec![format!("{client} (unproven: a datagram's source can be forged)")],
                    targets: tried.hosts.iter().take(5).map(ToString::to_string).collect(),
                    seen: &watched.evidence,
                    references: &["MITRE ATT&CK T1110.001", "RFC 1157 section 4.1"],
                }
                .finding(context)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, ip, udp};

    #[test]
    fn many_communities_are_guesses_and_few_are_a_poller() {
        for (different, found) in [(20, 1), (19, 0), (2, 0)] {
            let mut scene = Scene::of(SnmpGuess::default());
            for n in 0..60_u64 {
                let name = format!("c{:02}", n % different);
                let mut body = vec![0x30, 40, 2, 1, 1, 4, 3];
                body.extend(name.as_bytes());
                body.extend([0xa0; 34]);
                let frame = ip((A, B), "192.0.2.1", "10.0.0.2", 17, &udp(4000, 161, &body));
                scene.frame(n * 100, &frame);
            }
            assert_eq!(scene.ids().len(), found, "{different}");
        }
        assert_eq!(community(&[0x30, 0x82, 1, 0, 2, 1, 0, 4, 1, b'x']), Some(&b"x"[..]));
        assert_eq!(community(&[0x30, 3, 2, 1, 3]), None, "version 3");
    }
}
