//! Neighbour discovery that no host makes: advertisements of hosts by the hundred (flood_advertise6), and messages in
//! fragments, which hide from what guards a switch's ports (RFC 7113).
//!
//! **Sees**
//! - 300 or more unsolicited neighbour advertisements within ten seconds from 200 or more addresses of one link;
//! - fragments with hop limit 255 from an address of the link that do not carry UDP or TCP: nothing but neighbour
//!   discovery asks for that hop limit, and it may not be fragmented (RFC 6980).
//!
//! **Silent on** a network that wakes up (each host announces itself once or twice, in its own time), large pings
//! and fragmented multicast DNS.

use std::net::IpAddr;

use psc_formats::event::DeviceId;
use psc_formats::packet::{Network, Transport};

use crate::bounded::Bounded;
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Distinct, Draft, Seen, counted};
use crate::guarder::watch::{Tally, Watch};
use crate::view::detect::Finding;

const WINDOW_NS: u64 = 10_000_000_000;
const ADVERTISEMENTS: u64 = 300;
const ADDRESSES: usize = 200;
const FRAGMENTS: u64 = 2;
const SENDERS: usize = 1_024;

#[derive(Debug)]
struct Advertised(u64, Distinct<IpAddr>);

impl Tally for Advertised {
    fn new() -> Self {
        Self(0, Distinct::new(1_024))
    }
    fn is_attack(&self) -> bool {
        self.0 >= ADVERTISEMENTS && self.1.len() >= ADDRESSES
    }
    fn merge(&mut self, later: Self) {
        self.0 += later.0;
        self.1.merge(later.1);
    }
}

#[derive(Debug)]
pub(super) struct NdpFlood {
    links: Watch<DeviceId, Advertised>,
    fragmented: Bounded<IpAddr, Seen>,
}

impl Default for NdpFlood {
    fn default() -> Self {
        Self { links: Watch::new(64, WINDOW_NS), fragmented: Bounded::new(SENDERS) }
    }
}

impl Detector for NdpFlood {
    fn about(&self) -> About {
        About {
            id: "ndp-flood",
            sees: "300 or more unsolicited neighbour advertisements of 200 addresses within ten seconds, and \
                   neighbour discovery in fragments; silent on a network that wakes up, large pings and \
                   multicast DNS.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Network::V6(ip) = packet.headers.network else { return };
        if ip.hop_limit != 255 {
            return;
        }
        if ip.fragment.is_some() && ip.src.is_unicast_link_local() && !matches!(ip.protocol, 6 | 17)
        {
            self.fragmented.entry_or_forget(ip.src.into(), Seen::default).add(packet);
        }
        if let Transport::Icmp(icmp) = packet.headers.transport
            && icmp.icmp_type == 136
            // Not solicited (RFC 4861 section 4.4).
            && icmp.rest & 0x4000_0000 == 0
        {
            self.links.of(packet.device, packet.at).add(packet, |advertised| {
                advertised.0 += 1;
                advertised.1.add(ip.src.into());
            });
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (_, watched) in self.links.finish() {
            let Advertised(n, addresses) = &watched.attack;
            findings.push(
                Draft {
                    id: "na-flood",
                    severity: "medium",
                    doubt: None,
                    title: format!("{n} neighbour advertisements of {} addresses on one link.", addresses.count()),
                    evidence: vec![format!("{} in the worst ten seconds, none of them solicited.", watched.peak)],
                    effect: "not observable: whether neighbour caches overflowed is not in view.".to_owned(),
                    advice: "Limit neighbour discovery per port (ND inspection, RFC 6583), and find the station.",
                    actors: vec!["one station or few behind made-up addresses".to_owned()],
                    targets: vec!["hosts of the link".to_owned()],
                    seen: &watched.evidence,
                    references: &["RFC 4861 section 7.2.6", "RFC 6583", "thc-ipv6 flood_advertise6"],
                }
                .finding(context),
            );
        }
        let fragmented = std::mem::replace(&mut self.fragmented, Bounded::new(1));
        for (sender, seen) in fragmented.into_oldest_first() {
            if seen.packets < FRAGMENTS {
                continue;
            }
            findings.push(
                Draft {
                    id: "fragmented-ndp",
                    severity: "medium",
                    doubt: None,
                    title: format!("{sender} sends neighbour discovery in fragments."),
                    evidence: vec![format!(
                        "{} with hop limit 255, which nothing else of the link asks for.",
                        counted(seen.packets, "fragment")
                    )],
                    effect: "not observable: hosts that follow RFC 6980 discard them.".to_owned(),
                    advice: "Drop fragmented ICMPv6 at the ports of hosts (RFC 7113), and find the station.",
                    actors: vec![sender.to_string()],
                    targets: vec!["hosts of the link".to_owned()],
                    seen: &seen,
                    references: &["RFC 6980", "RFC 7113", "thc-ipv6 fake_router6"],
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
    use crate::guarder::scene::{A, B, Scene, icmp, ip_with};

    fn sent(times: u64, hosts: u64, flags: u32, hops: u8) -> usize {
        let mut scene = Scene::of(NdpFlood::default());
        for n in 0..times {
            let advertisement = icmp(136, 0, flags, &[0; 16]);
            let from = format!("fe80::{:x}", n % hosts + 1);
            scene.frame(n, &ip_with((A, B), (&from, "ff02::1"), 58, (hops, 0, 0), &advertisement));
        }
        scene.ids().len()
    }

    #[test]
    fn hundreds_of_hosts_do_not_announce_themselves_at_once() {
        for (name, times, hosts, flags, hops, found) in [
            ("a flood", 300, 200, 0x2000_0000, 255, 1),
            ("fewer", 299, 200, 0x2000_0000, 255, 0),
            ("of few", 300, 199, 0x2000_0000, 255, 0),
            ("answers", 300, 300, 0x6000_0000, 255, 0),
            ("from elsewhere", 300, 300, 0x2000_0000, 64, 0),
        ] {
            assert_eq!(sent(times, hosts, flags, hops), found, "{name}");
        }
    }

    #[test]
    fn fragments_of_the_link_carry_datagrams_or_nothing() {
        for (name, next, hops, times, found) in [
            ("discovery behind options", 60, 255, 2, 1),
            ("once", 58, 255, 1, 0),
            ("multicast DNS", 17, 255, 4, 0),
            ("a large ping", 58, 64, 4, 0),
        ] {
            let mut scene = Scene::of(NdpFlood::default());
            for n in 0..times {
                let mut fragment = vec![next, 0, 0, 1, 0, 0, 0, 9];
                fragment.extend([next, 0, 0, 0, 0, 0, 0, 0].repeat(8));
                scene.frame(
                    n,
                    &ip_with((A, B), ("fe80::66", "ff02::1"), 44, (hops, 0, 0), &fragment),
                );
            }
            assert_eq!(scene.ids().len(), found, "{name}");
        }
    }
}
