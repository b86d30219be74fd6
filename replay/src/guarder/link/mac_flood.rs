//! MAC flood: frames from ever new source addresses, to overflow a switch's address table.
//!
//! **Sees**, per link and ten seconds, source addresses that sent exactly one frame, to a unicast
//! address that never sent any: macof makes both at random. **Threshold**: 100 such frames. Hosts of a
//! large network also send single frames, but broadcasts (ARP, DHCP, mDNS) or to hosts that exist.
//!
//! **Silent on** a large network waking up, virtual machines moving, and a mirror port of many hosts.

use std::collections::{BTreeMap, BTreeSet};

use psc_formats::EventKind;

use super::{Link, Mac, link_of, mac_text};
use crate::engine::{Sighting, World};
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Distinct, Draft, Seen, listed};
use crate::view::detect::Finding;

const WINDOW_NS: u64 = 10_000_000_000;
const FRAMES: usize = 100;

/// Addresses remembered in a window; the threshold is far below.
const ADDRESSES: usize = 16_384;
const LINKS: usize = 1_024;

/// A source's frames in the window: how many, and where the first went.
#[derive(Clone, Copy, Debug)]
struct Source {
    frames: u64,
    to: Mac,
}

#[derive(Debug, Default)]
struct Wire {
    start: u64,
    sources: BTreeMap<Mac, Source>,
    /// Addresses that spoke in earlier windows.
    known: BTreeSet<Mac>,
    window: Seen,
    flood: Seen,
    single: u64,
    peak: u64,
    examples: Vec<Mac>,
}

impl Wire {
    fn settle(&mut self, next: u64) {
        let stray = |(mac, source): (&Mac, &Source)| {
            let answered = self.sources.contains_key(&source.to) || self.known.contains(&source.to);
            (source.frames == 1 && source.to[0] & 1 == 0 && !answered).then_some(*mac)
        };
        let strays: Vec<Mac> = self.sources.iter().filter_map(stray).collect();
        if strays.len() >= FRAMES {
            self.flood.merge(&self.window);
            self.single += strays.len() as u64;
            self.peak = self.peak.max(strays.len() as u64);
            self.examples.extend(strays.iter().take(5 - self.examples.len().min(5)));
        } else {
            for mac in self.sources.keys() {
                if self.known.len() < ADDRESSES {
                    self.known.insert(*mac);
                }
            }
        }
        self.sources.clear();
        self.window = Seen::default();
        self.start = next;
    }
}

#[derive(Debug)]
pub(super) struct MacFlood {
    links: BTreeMap<Link, Wire>,
    /// Addresses that a bridge of this host learned.
    learned: Distinct<u64>,
}

impl Default for MacFlood {
    fn default() -> Self {
        Self { links: BTreeMap::new(), learned: Distinct::new(ADDRESSES) }
    }
}

impl Detector for MacFlood {
    fn about(&self) -> About {
        About {
            id: "mac-flood",
            sees: "100 or more source addresses within ten seconds that sent one frame each, to \
                   addresses that nobody has; silent on large networks waking up, moving machines \
                   and mirror ports.",
        }
    }

    fn sighting(&mut self, _world: World<'_>, sighting: &Sighting<'_>) {
        if let EventKind::BridgeLearn { mac, .. } = sighting.event.kind {
            self.learned.add(mac);
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Some(frame) = packet.headers.ethernet else { return };
        let link = link_of(packet);
        if frame.src == [0; 6] || (self.links.len() >= LINKS && !self.links.contains_key(&link)) {
            return;
        }
        let wire =
            self.links.entry(link).or_insert_with(|| Wire { start: packet.at, ..Wire::default() });
        if packet.at.saturating_sub(wire.start) >= WINDOW_NS {
            wire.settle(packet.at);
        }
        let room = wire.sources.len() < ADDRESSES;
        match wire.sources.get_mut(&frame.src) {
            Some(source) => source.frames += 1,
            None if room => {
                wire.sources.insert(frame.src, Source { frames: 1, to: frame.dst });
                wire.window.add(packet);
            }
            None => {}
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (link, mut wire) in std::mem::take(&mut self.links) {
            wire.settle(0);
            if wire.single == 0 {
                continue;
            }
            let local = wire.examples.iter().filter(|mac| mac[0] & 2 != 0).count();
            let name = context.tables.devices.get(&link.0).map_or("", |device| &device.name);
            let effect = if !context.has_stack() {
                "not observable: a capture does not show a switch's table.".to_owned()
            } else if self.learned.len() >= FRAMES {
                format!("confirmed: a bridge here learned {} addresses.", self.learned.count())
            } else {
                "not confirmed: no bridge of this host learned them; a switch's own table is not \
                 in view."
                    .to_owned()
            };
            findings.push(
                Draft {
                    id: "mac-flood",
                    severity: "high",
                    doubt: None,
                    title: "Ever new addresses send one frame each, to addresses that nobody has."
                        .to_owned(),
                    evidence: vec![
                        format!(
                            "{} addresses, {} of them in the worst ten seconds.",
                            wire.single, wire.peak
                        ),
                        format!(
                            "Among the first: {}; {local} of these are locally administered, as \
                             random ones are.",
                            listed(wire.examples.iter().map(|mac| mac_text(*mac)), 5)
                        ),
                    ],
                    effect,
                    advice: "Limit addresses per switch port (port security; for a Linux bridge: ip \
                             link set dev BRIDGE type bridge fdb_max_learned N).",
                    actors: vec!["one station or few behind forged source addresses".to_owned()],
                    targets: if name.is_empty() { vec![] } else { vec![format!("link of {name}")] },
                    seen: &wire.flood,
                    references: &["MITRE ATT&CK T1557", "CAPEC-125", "IEEE 802.1D section 7.9"],
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
    use crate::guarder::scene::{ALL, GATEWAY, Scene, ether};

    fn mac(kind: u8, n: u64) -> Mac {
        let b = n.to_be_bytes();
        [kind, 7, b[4], b[5], b[6], b[7]]
    }

    fn frames(n: u64, to: impl Fn(u64) -> Mac, per_source: u64) -> Vec<String> {
        let mut scene = Scene::of(MacFlood::default());
        scene.frame(0, &ether(GATEWAY, ALL, 0x0800, &[]));
        for i in 0..n * per_source {
            scene.frame(i * 5, &ether(mac(2, i / per_source), to(i), 0x88b5, &[]));
        }
        scene.ids()
    }

    #[test]
    fn random_sources_to_random_addresses_are_a_flood() {
        assert_eq!(frames(500, |i| mac(4, i), 1), ["mac-flood"]);
        assert!(frames(99, |i| mac(4, i), 1).is_empty());
    }

    #[test]
    fn a_network_that_wakes_up_is_not() {
        assert!(frames(1500, |_| ALL, 1).is_empty(), "broadcasts");
        assert!(
            frames(1500, |_| GATEWAY, 1).is_empty(),
            "one frame each to a gateway that is there"
        );
        assert!(frames(500, |i| mac(4, i), 3).is_empty(), "stations that go on");
    }
}
