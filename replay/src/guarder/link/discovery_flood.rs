//! Floods of neighbour announcements (CDP, LLDP), which fill the tables of switches.
//!
//! **Sees** 50 or more different announcers on one link within ten seconds. LLDP is not forwarded (IEEE
//! 802.1AB): a link has one neighbour, or a few behind a switch that does not speak it.
//!
//! **Silent on** the neighbours of a large unmanaged network, which announce themselves every 30 seconds.

use psc_formats::event::DeviceId;

use super::Mac;
use super::snap::{CISCO, Carried, read};
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Distinct, Draft, listed};
use crate::guarder::watch::{Tally, Watch};
use crate::view::detect::Finding;

const WINDOW_NS: u64 = 10_000_000_000;
const ANNOUNCERS: usize = 50;
/// Both protocols name the announcer at their beginning.
const NAME: usize = 40;

#[derive(Debug)]
struct Announcers {
    names: Distinct<Vec<u8>>,
    stations: Distinct<Mac>,
}

impl Tally for Announcers {
    fn new() -> Self {
        Self { names: Distinct::new(256), stations: Distinct::new(256) }
    }
    fn is_attack(&self) -> bool {
        self.names.len() >= ANNOUNCERS
    }
    fn merge(&mut self, later: Self) {
        self.names.merge(later.names);
        self.stations.merge(later.stations);
    }
}

#[derive(Debug)]
pub(super) struct DiscoveryFlood {
    links: Watch<(DeviceId, &'static str), Announcers>,
}

impl Default for DiscoveryFlood {
    fn default() -> Self {
        Self { links: Watch::new(64, WINDOW_NS) }
    }
}

impl Detector for DiscoveryFlood {
    fn about(&self) -> About {
        About {
            id: "discovery-flood",
            sees: "50 or more neighbours that announce themselves by CDP or LLDP within ten seconds; \
                   silent on the neighbours of a large network.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Some(frame) = packet.headers.ethernet.filter(|frame| frame.dst[0] & 1 == 1) else {
            return;
        };
        if !matches!(packet.headers.ether_type, 0x88cc | 0..=0x05ff | 0x2000) {
            return;
        }
        let Some((_, carried)) = read(packet) else { return };
        let (protocol, bytes) = match carried {
            Carried::Type(0x88cc, bytes) => ("LLDP", bytes),
            Carried::Snap(CISCO, 0x2000, bytes) => ("CDP", bytes.get(4..).unwrap_or(&[])),
            Carried::Type(..) | Carried::Snap(..) | Carried::Llc(..) => return,
        };
        self.links.of((packet.device, protocol), packet.at).add(packet, |announcers| {
            announcers.names.add(bytes[..bytes.len().min(NAME)].to_vec());
            announcers.stations.add(frame.src);
        });
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let found = self.links.finish();
        found
            .into_iter()
            .map(|((_, protocol), watched)| {
                let announcers = &watched.attack;
                Draft {
                    id: "discovery-flood",
                    severity: "medium",
                    doubt: None,
                    title: format!(
                        "{} neighbours announce themselves by {protocol} on one link.",
                        announcers.names.count()
                    ),
                    evidence: vec![
                        format!(
                            "{} stations, among them {}.",
                            announcers.stations.count(),
                            listed(announcers.stations.iter().map(|mac| super::mac_text(*mac)), 3)
                        ),
                        format!("{} announcements in the worst ten seconds.", watched.peak),
                    ],
                    effect: "not observable: a switch's table of neighbours is not in view."
                        .to_owned(),
                    advice: "Turn CDP and LLDP off on ports that lead to hosts.",
                    actors: vec!["one station or few behind made-up addresses".to_owned()],
                    targets: vec![],
                    seen: &watched.evidence,
                    references: &["IEEE 802.1AB", "MITRE ATT&CK T1499"],
                }
                .finding(context)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, Scene, ether};

    #[test]
    fn many_neighbours_at_once_are_a_flood() {
        for (n, gap_ms, found) in [(50_u8, 100, 1), (49, 100, 0), (200, 300, 0)] {
            let mut scene = Scene::of(DiscoveryFlood::default());
            for i in 0..n {
                let mut from = A;
                from[5] = i;
                let body = [&[2, 7, 4][..], &from, &[4, 3, 7, b'p', b'1', 0, 0]].concat();
                let frame = ether(from, [1, 0x80, 0xc2, 0, 0, 0x0e], 0x88cc, &body);
                scene.frame(u64::from(i) * gap_ms, &frame);
            }
            assert_eq!(scene.ids().len(), found, "{n} every {gap_ms} ms");
        }
    }
}
