//! Floods of IP packets that are neither TCP, UDP nor ICMP: any protocol number from anywhere, or packets in GRE that
//! belong to nothing (Mirai's `greip` and `greeth`).
//!
//! **Sees**, per host within ten seconds, 3,000 or more packets of such a protocol
//! - from 200 or more sources, or
//! - in GRE (RFC 2784) with 1,000 or more different pairs of addresses inside, four of five packets another.
//!
//! **Silent on** tunnels (GRE, IP in IP, ESP), whose ends are few and whose inner hosts go on talking, and routing
//! protocols.

use std::net::IpAddr;

use psc_formats::packet::Transport;

use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Distinct, Draft, counted};
use crate::guarder::watch::{Tally, Watch};
use crate::view::detect::Finding;

const WINDOW_NS: u64 = 10_000_000_000;
const PACKETS: u64 = 3_000;
const SOURCES: usize = 200;
const INNER: usize = 1_000;
const HOSTS: usize = 512;
const GRE: u8 = 47;

#[derive(Debug)]
struct Load {
    packets: u64,
    sources: Distinct<IpAddr>,
    protocols: Distinct<u8>,
    gre: u64,
    inner: Distinct<u64>,
}

impl Tally for Load {
    fn new() -> Self {
        Self {
            packets: 0,
            sources: Distinct::new(1_024),
            protocols: Distinct::new(256),
            gre: 0,
            inner: Distinct::new(4_096),
        }
    }
    fn is_attack(&self) -> bool {
        let inner = self.inner.len();
        let odd_inside = inner >= INNER && inner as u64 * 5 >= self.gre.min(4_096) * 4;
        self.packets >= PACKETS && (self.sources.len() >= SOURCES || odd_inside)
    }
    fn merge(&mut self, later: Self) {
        self.packets += later.packets;
        self.sources.merge(later.sources);
        self.protocols.merge(later.protocols);
        self.gre += later.gre;
        self.inner.merge(later.inner);
    }
}

#[derive(Debug)]
pub(super) struct IpFlood {
    hosts: Watch<IpAddr, Load>,
}

impl Default for IpFlood {
    fn default() -> Self {
        Self { hosts: Watch::new(HOSTS, WINDOW_NS) }
    }
}

/// Source and destination of the IPv4 packet inside, as one number.
fn inside(packet: &Packet<'_>) -> Option<u64> {
    let outer = usize::from(packet.headers.network_offset);
    let header = usize::from(packet.bytes.get(outer)? & 0xf) * 4;
    let gre = packet.bytes.get(outer + header..)?;
    // Checksum, key and sequence number take four bytes each (RFC 2890).
    let flags = *gre.first()?;
    let optional = [0x80, 0x20, 0x10].iter().filter(|bit| flags & **bit != 0).count() * 4;
    let at = 4 + optional + if gre.get(2..4)? == [0x65, 0x58] { 14 } else { 0 };
    let inner = gre.get(at..)?;
    (inner.first()? >> 4 == 4).then_some(())?;
    Some(u64::from_be_bytes(*inner.get(12..)?.first_chunk::<8>()?))
}

impl Detector for IpFlood {
    fn about(&self) -> About {
        About {
            id: "ip-flood",
            sees: "3,000 or more packets that are neither TCP, UDP nor ICMP within ten seconds, from 200 or more \
                   sources or with a thousand different pairs of hosts inside GRE; silent on tunnels and routing.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let (Some((src, dst)), Some(protocol)) =
            (packet.headers.addresses(), packet.headers.protocol())
        else {
            return;
        };
        let plain = matches!(protocol, 1 | 2 | 6 | 17 | 58 | 132);
        let decoded = !matches!(packet.headers.transport, Transport::None | Transport::Ports(..));
        if plain || decoded || dst.is_multicast() {
            return;
        }
        let inner = (protocol == GRE).then(|| inside(packet)).flatten();
        self.hosts.of(dst, packet.at).add(packet, |load| {
            load.packets += 1;
            load.sources.add(src);
            load.protocols.add(protocol);
            if let Some(pair) = inner {
                load.gre += 1;
                load.inner.add(pair);
            }
        });
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let found = self.hosts.finish();
        found
            .into_iter()
            .map(|(host, watched)| {
                let load = &watched.attack;
                Draft {
                    id: "ip-flood",
                    severity: "high",
                    doubt: None,
                    title: format!("{host} got {} packets of protocols that it has no use for.", load.packets),
                    evidence: vec![
                        format!("{} in the worst ten seconds.", watched.peak),
                        format!(
                            "{} addresses, {} protocol numbers, {} with {} pairs of hosts inside.",
                            load.sources.count(),
                            load.protocols.count(),
                            counted(load.gre, "GRE packet"),
                            load.inner.count()
                        ),
                    ],
                    effect: "not observable: whether it filled the link is not in view.".to_owned(),
                    advice: "Let through only the protocols that are used, and ask upstream to do so.",
                    actors: vec![format!("{} addresses, which may be forged", load.sources.count())],
                    targets: vec![host.to_string()],
                    seen: &watched.evidence,
                    references: &["MITRE ATT&CK T1498.001", "RFC 4732"],
                }
                .finding(context)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, ip, v4};

    #[test]
    fn a_tunnel_has_few_ends_and_a_flood_many() {
        for (name, protocol, sources, inner, found) in [
            ("any source", 253, 200, 1, 1),
            ("few sources", 253, 199, 1, 0),
            ("Mirai", 47, 1, 3_000, 1),
            ("a tunnel", 47, 1, 50, 0),
        ] {
            let mut scene = Scene::of(IpFlood::default());
            for n in 0..3_000_u32 {
                let from = format!("192.0.{}.{}", n % sources / 250, n % sources % 250 + 1);
                let there = std::net::Ipv4Addr::from_bits(0x0a00_0000 + n % inner);
                let packet = v4(there, [10, 1, 1, 1].into(), 17, (64, 0, 0), &[0; 16]);
                let body = [&[0, 0, 8, 0][..], &packet].concat();
                scene.frame(u64::from(n), &ip((A, B), &from, "10.0.0.2", protocol, &body));
            }
            assert_eq!(scene.ids().len(), found, "{name}");
        }
    }
}
