//! LAND: a packet from an address to itself (CVE-1999-0016, again CVE-2005-0688).
//!
//! **Sees** TCP SYNs whose source and destination address are the same on a link with other stations, and any
//! packets of that kind by the twenty; on a link without addresses (raw IP, the loopback of a capture) only a
//! SYN from a port to itself.
//!
//! **Silent on** loopback, where hosts do talk to their own addresses, multicast, BFD echo, which a
//! neighbour is meant to loop back (RFC 5881 section 4), and a few datagrams of a host to itself in the file of a
//! program that writes frames around them.

use std::net::IpAddr;

use psc_formats::event::DeviceId;

use crate::analyzer::tcp::{ACK, SYN};
use crate::bounded::Bounded;
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Draft, Seen, counted};
use crate::view::detect::Finding;

const HOSTS: usize = 4_096;
const BFD_ECHO: u16 = 3785;
const MANY: u64 = 20;

#[derive(Debug)]
pub(super) struct Land {
    hosts: Bounded<(DeviceId, IpAddr), Itself>,
}

#[derive(Debug, Default)]
struct Itself {
    seen: Seen,
    syns: u64,
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
            sees: "TCP SYNs from an address to itself on a link with other stations, and other packets of the \
                   kind by the twenty; silent on loopback, multicast and BFD echo.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Some(tuple) = packet.headers.tuple() else { return };
        if tuple.src != tuple.dst
            || packet.damaged
            || tuple.src.is_loopback()
            || tuple.src.is_unspecified()
            || tuple.src.is_multicast()
            || tuple.protocol == 17 && tuple.dport == BFD_ECHO
        {
            return;
        }
        let syn = packet.headers.tcp().filter(|tcp| tcp.flags & (SYN | ACK) == SYN);
        let to_itself = syn.is_some_and(|tcp| tcp.sport == tcp.dport);
        if packet.on_a_wire() || (packet.headers.ethernet.is_none() && to_itself) {
            let key = (packet.device, tuple.src);
            let itself = self.hosts.entry_or_forget(key, Itself::default);
            itself.seen.add(packet);
            itself.syns += u64::from(syn.is_some());
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let hosts = std::mem::replace(&mut self.hosts, Bounded::new(1));
        hosts
            .into_oldest_first()
            .into_iter()
            .filter(|(_, itself)| itself.syns > 0 || itself.seen.packets >= MANY)
            // A capture cannot say that a device is the loopback one, a recording can.
            .filter(|((device, _), _)| {
                context
                    .tables
                    .devices
                    .get(device)
                    .is_none_or(|d| d.kind != "loopback" && d.name != "lo")
            })
            .map(|((_, host), Itself { seen, .. })| {
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
    use crate::guarder::scene::{A, B, Scene, ip, tcp, udp};

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
        for (n, found) in [(19, 0), (20, 1)] {
            let mut scene = Scene::of(Land::default());
            for at in 0..n {
                scene.frame(at, &ip((A, B), "10.0.0.2", "10.0.0.2", 17, &udp(7, 7, b"x")));
            }
            assert_eq!(scene.ids().len(), found, "{n} datagrams");
        }
        let mut scene = Scene::of(Land::default());
        let mut damaged = ip((A, B), "10.0.0.2", "10.0.0.2", 6, &tcp((1, 1), 2, 1, 0, &[], &[]));
        damaged[24..26].copy_from_slice(&[1, 2]);
        scene.frame(0, &damaged);
        assert!(scene.ids().is_empty(), "a packet that no host takes");
    }
}
