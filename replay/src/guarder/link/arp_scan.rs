//! ARP scan: one host asking for many addresses of its link, most of which nobody has.
//!
//! **Sees** ARP requests by link-layer source, and the replies to them. **Thresholds**: 30 different
//! addresses within a minute of which at most half answered; 100 where not one reply to this host is
//! in view (a capture on another switch port sees broadcasts only). A /24 has 254 addresses and
//! arp-scan and nmap ask for all of them within seconds, while a host that works talks to a handful.
//!
//! **Silent on** a router or poller that asks for hosts which are there, gratuitous announcements,
//! address probes (sender 0.0.0.0, RFC 5227) and a host that asks for one dead neighbour again and
//! again.
//!
//! A router asks for every address of a network that is scanned from outside: the finding says so.

use std::net::Ipv4Addr;

use psc_formats::packet::Network;

use super::{Link, Mac, link_of, mac_text};
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Distinct, Draft, listed};
use crate::guarder::watch::{Tally, Watch};
use crate::view::detect::Finding;

const WINDOW_NS: u64 = 60_000_000_000;
const TARGETS: usize = 30;
const TARGETS_BLIND: usize = 100;

/// Askers watched at once, and addresses remembered of each.
const ASKERS: usize = 1_024;
const REMEMBERED: usize = 1_024;

#[derive(Debug)]
struct Asked {
    targets: Distinct<Ipv4Addr>,
    answered: Distinct<Ipv4Addr>,
    sender: Option<Ipv4Addr>,
}

impl Tally for Asked {
    fn new() -> Self {
        Self {
            targets: Distinct::new(REMEMBERED),
            answered: Distinct::new(REMEMBERED),
            sender: None,
        }
    }

    fn is_attack(&self) -> bool {
        let least = if self.answered.len() == 0 { TARGETS_BLIND } else { TARGETS };
        self.targets.len() >= least && self.answered.len() * 2 <= self.targets.len()
    }

    fn merge(&mut self, later: Self) {
        self.targets.merge(later.targets);
        self.answered.merge(later.answered);
        self.sender = later.sender.or(self.sender);
    }
}

#[derive(Debug)]
pub(super) struct ArpScan {
    askers: Watch<(Link, Mac), Asked>,
}

impl Default for ArpScan {
    fn default() -> Self {
        Self { askers: Watch::new(ASKERS, WINDOW_NS) }
    }
}

impl Detector for ArpScan {
    fn about(&self) -> About {
        About {
            id: "arp-scan",
            sees: "one host asking by ARP for 30 or more addresses within a minute of which at most \
                   half are there; silent on routers and pollers whose hosts answer, announcements \
                   and address probes.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Network::Arp(arp) = packet.headers.network else { return };
        let link = link_of(packet);
        let probe = arp.sender.is_unspecified();
        if arp.opcode == 1 && arp.target != arp.sender && !probe {
            self.askers.of((link, arp.sender_mac), packet.at).add(packet, |asked| {
                asked.targets.add(arp.target);
                asked.sender = Some(arp.sender);
            });
        } else if arp.opcode == 2
            && let Some(asker) = self.askers.known(&(link, arp.target_mac))
        {
            asker.note(|asked| {
                if asked.targets.contains(&arp.sender) {
                    asked.answered.add(arp.sender);
                }
            });
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let found = self.askers.finish();
        found
            .into_iter()
            .map(|((_, mac), watched)| {
                let asked = &watched.attack;
                let sender = asked.sender.map_or_else(String::new, |ip| format!(" ({ip})"));
                let blind = asked.answered.len() == 0;
                Draft {
                    id: "arp-scan",
                    severity: "low",
                    doubt: blind.then_some(
                        "medium: no reply to this host is in view, so which addresses exist is \
                         not known",
                    ),
                    title: format!(
                        "{}{sender} asked for {} addresses of its link, of which {} answered.",
                        mac_text(mac),
                        asked.targets.count(),
                        asked.answered.count()
                    ),
                    evidence: vec![
                        format!(
                            "Asked for: {}.",
                            listed(asked.targets.iter().map(ToString::to_string), 20)
                        ),
                        format!("{} requests in the busiest minute.", watched.peak),
                        "If this is a router, somebody behind it scans this network: it asks for \
                         every address that packets come for."
                            .to_owned(),
                    ],
                    effect: if blind {
                        "not observable: replies to this host are not in view.".to_owned()
                    } else {
                        format!("confirmed: it learned of {} hosts.", asked.answered.count())
                    },
                    advice: "Find the host behind this link-layer address (bridge fdb show, the \
                             switch's address table) and what it runs.",
                    actors: vec![format!("{}{sender}", mac_text(mac))],
                    targets: asked.targets.iter().take(5).map(ToString::to_string).collect(),
                    seen: &watched.evidence,
                    references: &[
                        "MITRE ATT&CK T1018",
                        "MITRE ATT&CK T1046",
                        "RFC 826",
                        "RFC 5227",
                    ],
                }
                .finding(context)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene};
    use crate::sample;

    /// `n` addresses asked for within `ms`, every `answers`th of which is there.
    fn scan(n: u64, ms: u64, answers: u64) -> Vec<String> {
        let mut scene = Scene::of(ArpScan::default());
        for i in 0..n {
            let ip = format!("10.0.0.{}", i % 254 + 1);
            let at = i * ms / n;
            scene.headers(at, &sample::arp(1, A, "10.0.0.254", [0; 6], &ip));
            if answers != 0 && i % answers == 0 {
                scene.headers(at, &sample::arp(2, B, &ip, A, "10.0.0.254"));
            }
        }
        scene.ids()
    }

    #[test]
    fn many_addresses_of_which_few_exist_are_a_scan() {
        for (n, ms, answers, found) in [
            (254, 3_000, 10, true),
            (30, 1_000, 10, true),
            (29, 1_000, 10, false),
            (60, 59_000, 10, true),
            (60, 600_000, 10, false), // ten a minute
            (254, 3_000, 0, true),
            (99, 3_000, 0, false),  // nothing answered in view: more is asked
            (200, 3_000, 1, false), // a router to 200 hosts that are there
        ] {
            assert_eq!(!scan(n, ms, answers).is_empty(), found, "{n} in {ms} ms, 1 of {answers}");
        }
    }

    #[test]
    fn a_dead_neighbour_asked_for_again_is_no_scan() {
        let mut scene = Scene::of(ArpScan::default());
        for i in 0..200 {
            scene.headers(i * 100, &sample::arp(1, A, "10.0.0.254", [0; 6], "10.0.0.9"));
        }
        assert!(scene.ids().is_empty());
    }
}
