//! One UDP service asked for at many addresses: SNMP, SIP, EtherNet/IP, NetBIOS and the like.
//!
//! **Sees** datagrams of one source to one service port of 25 or more hosts within five minutes, four in
//! five of which did not answer, and which lie close together: four or more to a network of 256 (a scan of
//! the whole Internet shows up so where it passes a network); or of 500 hosts anywhere (a worm), resolvers and
//! clocks apart.
//!
//! **Silent on** resolvers and time clients, whose servers are scattered and answer, peers of file sharing
//! (no service port), and a poller whose hosts answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::amplification::service;
use crate::bounded::Bounded;
use crate::guarder::attempt::{Change, Turn};
use crate::guarder::detect::{About, Context, Detector};
use crate::guarder::evidence::{Draft, Seen, listed};
use crate::view::detect::Finding;

const WINDOW_NS: u64 = 300_000_000_000;
const HOSTS: usize = 25;
const DENSE: usize = 4;
/// So many that are anywhere: a worm (Slammer, CERT CA-2003-04). Answers of resolvers and clocks may be out of
/// view.
const SCATTERED: usize = 500;
const REMEMBERED: usize = 1_024;
const SOURCES: usize = 2_048;

#[derive(Debug, Default)]
struct Asked {
    start: u64,
    quiet: BTreeSet<IpAddr>,
    answered: BTreeSet<IpAddr>,
    seen: Seen,
}

impl Asked {
    fn is_scan(&self, port: u16) -> bool {
        let quiet = self.quiet.difference(&self.answered).count();
        if quiet < HOSTS || quiet < self.answered.len() * 4 {
            return false;
        }
        if quiet >= SCATTERED && !matches!(port, 53 | 123 | 443) {
            return true;
        }
        let mut networks: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for host in &self.quiet {
            let network = match host {
                IpAddr::V4(v4) => v4.octets()[..3].to_vec(),
                IpAddr::V6(v6) => v6.octets()[..14].to_vec(),
            };
            *networks.entry(network).or_default() += 1;
        }
        quiet >= networks.len() * DENSE
    }
}

#[derive(Debug)]
pub(super) struct UdpSweep {
    sources: Bounded<(IpAddr, u16), Asked>,
    kept: Vec<((IpAddr, u16), Asked)>,
}

impl Default for UdpSweep {
    fn default() -> Self {
        Self { sources: Bounded::new(SOURCES), kept: Vec::new() }
    }
}

fn is_service(port: u16) -> bool {
    port != 0
        && (port < 1_024
            || service(port).is_some()
            || matches!(port, 5_060 | 20_000 | 44_818 | 47_808))
}

impl Detector for UdpSweep {
    fn about(&self) -> About {
        About {
            id: "udp-sweep",
            sees: "one UDP service asked for at 25 or more addresses close together of which few answer; \
                   silent on resolvers, time clients, file sharing and pollers whose hosts answer.",
        }
    }

    fn attempt(&mut self, change: &Change) {
        let (host, port) = (change.server.ip(), change.server.port());
        if change.protocol != 17 || !is_service(port) || host.is_multicast() {
            return;
        }
        let mut spill = Vec::new();
        let asked = self.sources.entry((change.client.ip(), port), Asked::default, &mut spill);
        if asked.seen.packets == 0
            || change.at.saturating_sub(asked.start) > WINDOW_NS && !asked.is_scan(port)
        {
            *asked = Asked { start: change.at, ..Asked::default() };
        }
        match change.turn {
            Turn::Opened => asked.seen.at(change.at, change.journey),
            Turn::Answered => {
                asked.answered.insert(host);
            }
            Turn::Unanswered | Turn::Refused if asked.quiet.len() < REMEMBERED => {
                asked.quiet.insert(host);
            }
            _ => {}
        }
        self.keep(spill);
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let sources = std::mem::replace(&mut self.sources, Bounded::new(1));
        self.keep(sources.into_oldest_first());
        std::mem::take(&mut self.kept)
            .into_iter()
            .map(|((source, port), asked)| {
                Draft {
                    id: "port-scan",
                    severity: if asked.answered.is_empty() { "low" } else { "medium" },
                    doubt: Some(
                        "medium: most did not answer, which an outage on the way does, too",
                    ),
                    title: format!(
                        "{source} tried udp port {port} of {} hosts in vain.",
                        asked.quiet.len()
                    ),
                    evidence: vec![
                        format!(
                            "In vain: {}.",
                            listed(asked.quiet.iter().map(ToString::to_string), 20)
                        ),
                        if asked.answered.is_empty() {
                            "None answered.".to_owned()
                        } else {
                            format!(
                                "Found open: {}.",
                                listed(asked.answered.iter().map(ToString::to_string), 20)
                            )
                        },
                    ],
                    effect: format!("confirmed: it learned of {} hosts.", asked.answered.len()),
                    advice: "Check that what answered is meant to; drop the service at the border.",
                    actors: vec![format!("{source} (unproven: a datagram's source can be forged)")],
                    targets: asked.quiet.iter().take(5).map(ToString::to_string).collect(),
                    seen: &asked.seen,
                    references: &[
                        "MITRE ATT&CK T1046",
                        "MITRE ATT&CK T1595.001",
                        "Zeek policy/misc/scan.zeek",
                    ],
                }
                .finding(context)
            })
            .collect()
    }
}

impl UdpSweep {
    fn keep(&mut self, gone: Vec<((IpAddr, u16), Asked)>) {
        let room = SOURCES.saturating_sub(self.kept.len());
        self.kept
            .extend(gone.into_iter().filter(|((_, port), asked)| asked.is_scan(*port)).take(room));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, ip, udp};

    #[test]
    fn neighbours_that_do_not_answer_make_a_sweep() {
        for (name, hosts, port, near, answers, found) in [
            ("sweep", 25, 161, true, 0, 1),
            ("too few", 24, 161, true, 0, 0),
            ("no service", 100, 6881, true, 0, 0),
            ("scattered", 100, 53, false, 0, 0),
            ("a poller", 100, 161, true, 1, 0),
            ("one of ten is there", 100, 161, true, 10, 1),
        ] {
            let mut scene = Scene::of(UdpSweep::default());
            for i in 0..hosts {
                let host = if near { format!("10.0.1.{i}") } else { format!("192.{i}.2.1") };
                let at = u64::from(i as u32) * 20;
                scene.frame(at, &ip((A, B), "10.0.0.9", &host, 17, &udp(4000, port, b"x")));
                if answers > 0 && i % answers == 0 {
                    scene.frame(at + 1, &ip((B, A), &host, "10.0.0.9", 17, &udp(port, 4000, b"y")));
                }
            }
            scene.frame(10_000, &ip((A, B), "10.0.0.8", "10.0.0.7", 17, &udp(9, 9, b"")));
            assert_eq!(scene.ids().len(), found, "{name}");
        }
    }
}
