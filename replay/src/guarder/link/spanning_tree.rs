//! Spanning tree attacks: a root claimed by somebody who was no bridge here, and floods of BPDUs.
//!
//! **Sees**, per link and VLAN,
//! - a bridge that had not been heard, claiming three times to be a root better than the one that others
//!   had announced three times before;
//! - BPDUs of 20 or more bridges within ten seconds: one link has one or two; or 100 notices of topology
//!   changes.
//!
//! **Silent on** a root that fails and one that comes back, topology changes, and many VLANs (per-VLAN
//! spanning tree counts each for itself). Somebody who plugs in a switch with a better priority does what
//! an attacker does: confidence is medium.

use std::collections::BTreeMap;

use super::snap::{CISCO, Carried, read};
use super::{Mac, mac_text};
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Distinct, Draft, Seen, counted};
use crate::guarder::watch::{Tally, Watch};
use crate::view::detect::Finding;
use psc_formats::event::DeviceId;

const ANNOUNCED: u64 = 3;
const BRIDGES: usize = 20;
/// A bridge notifies once in two seconds until it is heard (IEEE 802.1D section 8.6.14).
const NOTICES: u64 = 100;
const WINDOW_NS: u64 = 10_000_000_000;
const TREES: usize = 4_096;

/// Device, VLAN.
type Tree = (DeviceId, u16);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bpdu {
    root: u64,
    bridge: u64,
    cost: u32,
}

#[derive(Debug, Default)]
struct Roots {
    /// Roots announced, and by which bridges heard so far; bounded by [`BRIDGES`] each.
    announced: BTreeMap<u64, u64>,
    bridges: BTreeMap<u64, Seen>,
    /// The claim: root, the root before, the frame's source.
    claim: Option<(u64, u64, Mac)>,
    claimed: Seen,
}

#[derive(Debug)]
struct Speakers {
    bridges: Distinct<[u8; 6]>,
    notices: u64,
}

impl Tally for Speakers {
    fn new() -> Self {
        Self { bridges: Distinct::new(1_024), notices: 0 }
    }
    fn is_attack(&self) -> bool {
        self.bridges.len() >= BRIDGES || self.notices >= NOTICES
    }
    fn merge(&mut self, later: Self) {
        self.bridges.merge(later.bridges);
        self.notices += later.notices;
    }
}

#[derive(Debug)]
pub(super) struct SpanningTree {
    trees: BTreeMap<Tree, Roots>,
    speakers: Watch<DeviceId, Speakers>,
}

impl Default for SpanningTree {
    fn default() -> Self {
        Self { trees: BTreeMap::new(), speakers: Watch::new(64, WINDOW_NS) }
    }
}

/// A configuration or rapid BPDU (IEEE 802.1D section 9.3); `None` for a topology change notification.
fn bpdu(bytes: &[u8]) -> Option<Bpdu> {
    if bytes.get(..2)? != [0, 0] || !matches!(bytes.get(3)?, 0 | 2) {
        return None;
    }
    let be64 = |at: usize| Some(u64::from_be_bytes(*bytes.get(at..)?.first_chunk::<8>()?));
    Some(Bpdu {
        root: be64(5)?,
        cost: u32::from_be_bytes(*bytes.get(13..)?.first_chunk::<4>()?),
        bridge: be64(17)?,
    })
}

fn mac_of(id: u64) -> Mac {
    let bytes = id.to_be_bytes();
    std::array::from_fn(|n| bytes[n + 2])
}

fn id_text(id: u64) -> String {
    format!("{}/{}", id >> 48, mac_text(mac_of(id)))
}

impl Detector for SpanningTree {
    fn about(&self) -> About {
        About {
            id: "spanning-tree",
            sees: "a spanning tree root claimed by a bridge that had not been heard, and BPDUs of 20 or \
                   more bridges within ten seconds; silent on a root that fails or comes back, on topology \
                   changes and on many VLANs.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Some(frame) = packet.headers.ethernet else { return };
        if packet.headers.ether_type >= 0x0600 && packet.headers.ether_type != 0x010b {
            return;
        }
        let Some((tags, carried)) = read(packet) else { return };
        let bytes = match carried {
            Carried::Llc(0x42, 0x42, bytes) | Carried::Snap(CISCO, 0x010b, bytes) => bytes,
            Carried::Llc(..) | Carried::Snap(..) | Carried::Type(..) => return,
        };
        if bytes.get(..4) == Some(&[0, 0, 0, 0x80]) {
            self.speakers
                .of(packet.device, packet.at)
                .add(packet, |speakers| speakers.notices += 1);
        }
        let Some(bpdu) = bpdu(bytes) else { return };
        self.speakers.of(packet.device, packet.at).add(packet, |speakers| {
            speakers.bridges.add(mac_of(bpdu.bridge));
        });
        // The low bits of a priority are the VLAN (IEEE 802.1t), on trunks with a tag or without.
        let vlan = tags.first().map_or((bpdu.bridge >> 48) as u16 & 0x0fff, |(_, vlan)| *vlan);
        let key = (packet.device, vlan);
        if self.trees.len() >= TREES && !self.trees.contains_key(&key) {
            return;
        }
        let roots = self.trees.entry(key).or_default();
        let itself = bpdu.root == bpdu.bridge && bpdu.cost == 0;
        if let Some((root, ..)) = roots.claim {
            if itself && bpdu.root == root {
                roots.claimed.add(packet);
            }
        } else if itself
            && !roots.bridges.contains_key(&bpdu.bridge)
            && !roots.announced.contains_key(&bpdu.root)
        {
            let before = roots
                .announced
                .iter()
                .filter(|(_, n)| **n >= ANNOUNCED)
                .map(|(root, _)| *root)
                .min();
            if let Some(before) = before.filter(|before| bpdu.root < *before) {
                roots.claim = Some((bpdu.root, before, frame.src));
                roots.claimed.add(packet);
            }
        }
        if roots.announced.len() < BRIDGES {
            *roots.announced.entry(bpdu.root).or_default() += 1;
        }
        if roots.bridges.len() < BRIDGES {
            roots.bridges.entry(bpdu.bridge).or_default().add(packet);
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let mut findings = Vec::new();
        let floods = self.speakers.finish();
        for (_, watched) in &floods {
            findings.push(draft(
                "stp-flood",
                if watched.attack.bridges.len() >= BRIDGES {
                    let bridges = watched.attack.bridges.count();
                    format!("{bridges} bridges announce themselves on one link.")
                } else {
                    let notices = watched.attack.notices;
                    format!("{notices} topology changes were notified on one link.")
                },
                vec![format!("{} BPDUs in the worst ten seconds.", watched.peak)],
                None,
                vec!["one station or few behind made-up bridge addresses".to_owned()],
                &watched.evidence,
                context,
            ));
        }
        for ((_, vlan), roots) in std::mem::take(&mut self.trees) {
            let Some((root, before, mac)) = roots.claim else { continue };
            if roots.claimed.packets < ANNOUNCED || !floods.is_empty() {
                continue;
            }
            findings.push(draft(
                "stp-root-claim",
                format!("{} claims to be the root of the spanning tree.", mac_text(mac)),
                vec![
                    format!(
                        "Before, it was {}; the claim is {} (VLAN {vlan}).",
                        id_text(before),
                        id_text(root)
                    ),
                    format!(
                        "{} of it, from a bridge not heard before.",
                        counted(roots.claimed.packets, "BPDU")
                    ),
                ],
                Some("medium: a switch that somebody plugs in does the same"),
                vec![format!("{} (a link-layer address can be forged)", mac_text(mac))],
                &roots.claimed,
                context,
            ));
        }
        findings
    }
}

fn draft(
    id: &str,
    title: String,
    evidence: Vec<String>,
    doubt: Option<&str>,
    actors: Vec<String>,
    seen: &Seen,
    context: &Context<'_>,
) -> Finding {
    Draft {
        id,
        severity: "high",
        doubt,
        title,
        evidence,
        effect: "not observable: which way the bridges then forwarded is not in view.".to_owned(),
        advice: "Guard ports that lead to hosts against BPDUs (BPDU guard; for a Linux bridge: bridge link \
                 set dev PORT guard on), and the root's place (root guard).",
        actors,
        targets: vec![],
        seen,
        references: &["IEEE 802.1D section 9", "CAPEC-125", "MITRE ATT&CK T1557"],
    }
    .finding(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, ether};

    const ALL_BRIDGES: Mac = [1, 0x80, 0xc2, 0, 0, 0];

    fn frame(source: Mac, root: u64, bridge: u64, cost: u32) -> Vec<u8> {
        let mut body = vec![0x42, 0x42, 3, 0, 0, 0, 0, 0];
        body.extend(root.to_be_bytes());
        body.extend(cost.to_be_bytes());
        body.extend(bridge.to_be_bytes());
        body.extend([0; 10]);
        ether(source, ALL_BRIDGES, body.len() as u16, &body)
    }

    /// (source, root, bridge, cost, how often)
    fn run(said: &[(Mac, u64, u64, u32, usize)]) -> Vec<String> {
        let mut scene = Scene::of(SpanningTree::default());
        let mut at = 0;
        for (source, root, bridge, cost, n) in said {
            for _ in 0..*n {
                at += 2_000;
                scene.frame(at, &frame(*source, *root, *bridge, *cost));
            }
        }
        scene.ids()
    }

    #[test]
    fn a_stranger_that_claims_the_root() {
        let (first, second, better) =
            (8 << 60 | 0x1b54_0001, 8 << 60 | 0x1b54_0002, 8 << 60 | 0x1b53_0001);
        assert_eq!(run(&[(A, first, first, 0, 3), (B, better, better, 0, 3)]), ["stp-root-claim"]);
        assert!(
            run(&[(A, first, first, 0, 2), (B, better, better, 0, 3)]).is_empty(),
            "too early to say"
        );
        assert!(
            run(&[(A, first, first, 0, 3), (B, better, better, 0, 2)]).is_empty(),
            "reconvergence"
        );
        assert!(
            run(&[(A, first, first, 0, 9), (B, second, second, 0, 9)]).is_empty(),
            "failed over"
        );
        assert!(run(&[(A, first, first, 0, 5), (B, better, second, 4, 9)]).is_empty(), "hearsay");
        let back = [(A, first, first, 0, 5), (B, second, second, 0, 5), (A, first, first, 0, 5)];
        assert!(run(&back).is_empty(), "came back");
    }

    #[test]
    fn a_flood_of_bridges() {
        for (n, found) in [(20_u64, 1), (19, 0)] {
            let mut scene = Scene::of(SpanningTree::default());
            for i in 0..n {
                scene.frame(i * 100, &frame(A, 8 << 60 | (i + 1), 8 << 60 | (i + 1), 0));
            }
            assert_eq!(scene.ids().iter().filter(|id| *id == "stp-flood").count(), found, "{n}");
        }
    }
}
