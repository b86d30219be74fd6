//! Neighbour cache exhaustion (RFC 6583): a scan of an IPv6 subnet makes its router ask for thousands of
//! addresses that nobody has.
//!
//! **Sees** neighbour solicitations of one station for 200 or more addresses within ten seconds of which at
//! most one in ten is advertised.
//!
//! **Silent on** a router of a large network whose hosts answer, and on duplicate address detection.

use std::net::IpAddr;
use std::net::Ipv6Addr;

use psc_formats::packet::{Network, Transport};

use super::{Link, Mac, link_of, mac_text};
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Distinct, Draft};
use crate::guarder::watch::{Tally, Watch};
use crate::view::detect::Finding;

const WINDOW_NS: u64 = 10_000_000_000;
const ADDRESSES: usize = 200;
const STATIONS: usize = 256;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

#[derive(Debug)]
struct Asked {
    targets: Distinct<Ipv6Addr>,
    there: Distinct<Ipv6Addr>,
}

impl Tally for Asked {
    fn new() -> Self {
        Self { targets: Distinct::new(2_048), there: Distinct::new(2_048) }
    }
    fn is_attack(&self) -> bool {
        self.targets.len() >= ADDRESSES && self.there.len() * 10 <= self.targets.len()
    }
    fn merge(&mut self, later: Self) {
        self.targets.merge(later.targets);
        self.there.merge(later.there);
    }
}

#[derive(Debug)]
pub(super) struct NdpScan {
    stations: Watch<(Link, Mac), Asked>,
}

impl Default for NdpScan {
    fn default() -> Self {
        Self { stations: Watch::new(STATIONS, WINDOW_NS) }
    }
}

impl Detector for NdpScan {
    fn about(&self) -> About {
        About {
            id: "ndp-exhaustion",
            sees: "neighbour solicitations for 200 or more addresses within ten seconds that hardly \
                   anybody has; silent on routers whose hosts answer and on duplicate address detection.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let (Transport::Icmp(icmp), Network::V6(ip)) =
            (packet.headers.transport, packet.headers.network)
        else {
            return;
        };
        let Some(frame) = packet.headers.ethernet else { return };
        let Some(target) =
            packet.payload().first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets))
        else {
            return;
        };
        let link = link_of(packet);
        if icmp.icmp_type == SOLICITATION && !ip.src.is_unspecified() {
            self.stations.of((link, frame.src), packet.at).add(packet, |asked| {
                asked.targets.add(target);
            });
        } else if icmp.icmp_type == ADVERTISEMENT
            && let Some(asker) = self.stations.known(&(link, frame.dst))
        {
            asker.note(|asked| {
                asked.there.add(target);
            });
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let found = self.stations.finish();
        found
            .into_iter()
            .map(|((_, mac), watched)| {
                let asked = &watched.attack;
                let examples = asked.targets.iter().take(3).map(|ip| IpAddr::from(*ip).to_string());
                Draft {
                    id: "ndp-exhaustion",
                    severity: "medium",
                    doubt: None,
                    title: format!(
                        "{} had to ask for {} IPv6 addresses of which {} are there.",
                        mac_text(mac),
                        asked.targets.count(),
                        asked.there.count()
                    ),
                    evidence: vec![
                        format!("{} solicitations in the worst ten seconds.", watched.peak),
                        "If this is a router, somebody behind it scans the subnet: it asks for every address \
                         that packets come for."
                            .to_owned(),
                    ],
                    effect: "not observable: whether its neighbour cache overflowed is not in view.".to_owned(),
                    advice: "Limit unanswered neighbour entries on the router (RFC 6583 section 6), or use \
                             prefixes as long as the hosts are few.",
                    actors: vec!["whoever sends to these addresses".to_owned()],
                    targets: std::iter::once(mac_text(mac)).chain(examples).collect(),
                    seen: &watched.evidence,
                    references: &["RFC 6583", "RFC 3756 section 4.3.2", "MITRE ATT&CK T1499"],
                }
                .finding(context)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, GATEWAY, Scene, icmp, ip_with};

    #[test]
    fn solicitations_for_nobody_by_the_hundred() {
        for (n, answered, found) in [(200_u16, 0, 1), (199, 0, 0), (400, 2, 0)] {
            let mut scene = Scene::of(NdpScan::default());
            for i in 0..n {
                let target: Ipv6Addr = format!("2001:db8::{i:x}").parse().expect("address");
                let ask = icmp(135, 0, 0, &target.octets());
                let at = u64::from(i) * 20;
                let frame = ip_with((GATEWAY, B), ("fe80::1", "ff02::1"), 58, (255, 0, 0), &ask);
                scene.frame(at, &frame);
                if answered > 0 && i % answered == 0 {
                    let tell = icmp(136, 0, 0x6000_0000, &target.octets());
                    let from = target.to_string();
                    let frame = ip_with((A, GATEWAY), (&from, "fe80::1"), 58, (255, 0, 0), &tell);
                    scene.frame(at, &frame);
                }
            }
            assert_eq!(scene.ids().len(), found, "{n}, 1 of {answered} answers");
        }
    }
}
