//! IP protocol scan: which protocols a host speaks (nmap -sO).
//!
//! **Sees** 15 or more different IP protocols from one source to one host within five minutes.
//! **Silent on** everything else: hosts speak three or four to each other, and seldom one more.

use std::net::IpAddr;

use psc_formats::packet::Network;

use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Distinct, Draft, listed};
use crate::guarder::watch::{Tally, Watch};
use crate::view::detect::Finding;

const WINDOW_NS: u64 = 300_000_000_000;
const PROTOCOLS: usize = 15;
const PAIRS: usize = 8_192;

#[derive(Debug)]
struct Protocols(Distinct<u8>);

impl Tally for Protocols {
    fn new() -> Self {
        Self(Distinct::new(256))
    }
    fn is_attack(&self) -> bool {
        self.0.len() >= PROTOCOLS
    }
    fn merge(&mut self, later: Self) {
        self.0.merge(later.0);
    }
}

#[derive(Debug)]
pub(super) struct ProtocolScan {
    pairs: Watch<(IpAddr, IpAddr), Protocols>,
}

impl Default for ProtocolScan {
    fn default() -> Self {
        Self { pairs: Watch::new(PAIRS, WINDOW_NS) }
    }
}

impl Detector for ProtocolScan {
    fn about(&self) -> About {
        About {
            id: "protocol-scan",
            sees: "15 or more IP protocols tried by one source at one host within five minutes; silent \
                   on what hosts speak to each other.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let (src, dst, protocol) = match packet.headers.network {
            Network::V4(ip) if ip.fragment_offset == 0 => {
                (IpAddr::from(ip.src), IpAddr::from(ip.dst), ip.protocol)
            }
            Network::V6(ip) => (IpAddr::from(ip.src), IpAddr::from(ip.dst), ip.protocol),
            Network::V4(_) | Network::Arp(_) | Network::None => return,
        };
        self.pairs.of((src, dst), packet.at).add(packet, |protocols| {
            protocols.0.add(protocol);
        });
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let found = self.pairs.finish();
        found
            .into_iter()
            .map(|((src, dst), watched)| {
                let protocols = &watched.attack.0;
                Draft {
                    id: "protocol-scan",
                    severity: "low",
                    doubt: None,
                    title: format!("{src} tried {} IP protocols at {dst}.", protocols.len()),
                    evidence: vec![format!(
                        "Tried: {}.",
                        listed(protocols.iter().map(ToString::to_string), 20)
                    )],
                    effect: "not observable: what it learned depends on what came back.".to_owned(),
                    advice: "Drop what the host does not speak at the border.",
                    actors: vec![format!("{src} (unproven: the source can be forged)")],
                    targets: vec![dst.to_string()],
                    seen: &watched.evidence,
                    references: &["MITRE ATT&CK T1046", "MITRE ATT&CK T1595.001"],
                }
                .finding(context)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, ip};

    #[test]
    fn fifteen_protocols_make_a_scan() {
        for (n, found) in [(15, 1), (14, 0)] {
            let mut scene = Scene::of(ProtocolScan::default());
            for protocol in 0..n {
                let frame = ip((A, B), "10.0.0.9", "10.0.0.2", 100 + protocol, &[0; 8]);
                scene.frame(u64::from(protocol) * 100, &frame);
            }
            assert_eq!(scene.ids().len(), found, "{n}");
        }
    }
}
