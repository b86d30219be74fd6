//! LAND: a packet from an address to itself (CVE-1999-0016, again CVE-2005-0688).
//!
//! **Sees** packets whose source and destination address are the same on a link with other stations; on
//! a link without addresses (raw IP, the loopback of a capture) only a TCP SYN from a port to itself.
//!
//! **Silent on** loopback, where hosts do talk to their own addresses, multicast, and BFD echo, which a
//! neighbour is meant to loop back (RFC 5881 section 4).

use std::net::IpAddr;

use psc_formats::event::DeviceId;

use crate::analyzer::tcp::{ACK, SYN};
use crate::bounded::Bounded;
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Draft, Seen, counted};
use crate::view::detect::Finding;

const HOSTS: usize = 4_096;
const BFD_ECHO: u16 = 3785;

#[derive(Debug)]
pub(super) struct Land {
    hosts: Bounded<(DeviceId, IpAddr), Seen>,
}

impl Default for Land {
    fn default() -> Self {
        Self { hosts: Bounded::new(HOSTS) }
    }
}

impl Detector for Land {
    fn about(&self) -> About {
        About {
            id: "land",
            sees: "packets from an address to itself on a link with other stations; silent on \
                   loopback, multicast and BFD echo.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Some(tuple) = packet.headers.tuple() else { return };
        if tuple.src != tuple.dst
            || tuple.src.is_loopback()
            || tuple.src.is_unspecified()
            || tuple.src.is_multicast()
            || tuple.protocol == 17 && tuple.dport == BFD_ECHO
        {
            return;
        }
        let to_itself = packet
            .headers
            .tcp()
            .is_some_and(|tcp| tcp.flags & (SYN | ACK) == SYN && tcp.sport == tcp.dport);
        if packet.on_a_wire() || (packet.headers.ethernet.is_none() && to_itself) {
            self.hosts.entry_or_forget((packet.device, tuple.src), Seen::default).add(packet);
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let hosts = std::mem::replace(&mut self.hosts, Bounded::new(1));
        hosts
            .into_oldest_first()
            .into_iter()
            // A capture cannot say that a device is the loopback one, a recording can.
            .filter(|((device, _), _)| {
                context
                    .tables
                    .devices
                    .get(device)
                    .is_none_or(|d| d.kind != "loopback" && d.name != "lo")
            })
            .map(|((_, host), seen)| {
                Draft {
                    id: "land",
                    severity: "medium",
                    doubt: None,
                    title: format!("{} from {host} to itself.", counted(seen.packets, "packet")),
                    evidence: vec![
                        "No host puts a packet to itself on a link: the source is forged."
                            .to_owned(),
                    ],
                    effect: crate::guarder::effect::counters(
                        host,
                        &[("TcpExtIPReversePathFilter", "packets refused for their source")],
                        context,
                    ),
                    advice: "Drop them at the border; Linux refuses its own address as a source.",
                    actors: vec!["unknown: the source is forged".to_owned()],
                    targets: vec![host.to_string()],
                    seen: &seen,
                    references: &["CVE-1999-0016", "CVE-2005-0688", "RFC 6274 section 3.14.1"],
                }
                .finding(context)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, ip, tcp};

    #[test]
    fn to_itself_on_a_wire_is_land_and_on_loopback_is_not() {
        let zero = [0; 6];
        for (macs, src, dst, found) in [
            ((A, B), "10.0.0.2", "10.0.0.2", 1),
            ((zero, zero), "10.0.0.2", "10.0.0.2", 0),
            ((A, B), "127.0.0.1", "127.0.0.1", 0),
            ((A, B), "10.0.0.1", "10.0.0.2", 0),
            ((A, B), "2001:db8::1", "2001:db8::1", 1),
        ] {
            let mut scene = Scene::of(Land::default());
            scene.frame(0, &ip(macs, src, dst, 6, &tcp((139, 139), 2, 1, 0, &[], &[])));
            assert_eq!(scene.ids().len(), found, "{src} > {dst}");
        }
    }
}
