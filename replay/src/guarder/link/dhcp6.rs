//! Rogue DHCPv6 server (mitm6): Windows asks for one on every link, and takes the resolver that it is told.
//!
//! **Sees** a station that tells three or more times (ADVERTISE or REPLY, RFC 8415) that it is itself the resolver, by
//! an address of the link, and that announces itself as no router; or a second station that names other resolvers
//! than the first.
//!
//! **Silent on** routers, which give their own address and announce themselves, on relays, and on two servers that
//! say the same.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use psc_formats::Manifest;
use psc_formats::packet::Transport;

use super::{Link, link_of};
use crate::guarder::detect::{About, Context, Detector, Packet, needs_payload};
use crate::guarder::evidence::{Draft, Seen, counted, listed};
use crate::view::detect::Finding;

const TOLD: u64 = 3;
const SERVERS: usize = 64;

#[derive(Debug, Default)]
struct Server {
    seen: Seen,
    resolvers: Vec<Ipv6Addr>,
}

#[derive(Debug, Default)]
pub(super) struct Dhcp6 {
    /// In the order in which they were heard.
    servers: Vec<((Link, Ipv6Addr), Server)>,
    /// Stations that announced a router's lifetime.
    routers: BTreeSet<(Link, Ipv6Addr)>,
}

/// Resolvers (option 23, RFC 3646) of an ADVERTISE or a REPLY; `None` for other messages.
fn resolvers(payload: &[u8]) -> Option<Vec<Ipv6Addr>> {
    let [2 | 7, _, _, _, options @ ..] = payload else { return None };
    let mut rest = options;
    while let Some((head, after)) = rest.split_first_chunk::<4>() {
        let (code, len) =
            (u16::from_be_bytes([head[0], head[1]]), u16::from_be_bytes([head[2], head[3]]));
        let (value, next) = after.split_at_checked(usize::from(len))?;
        if code == 23 {
            let addresses = value.chunks_exact(16).take(8);
            return Some(
                addresses
                    .filter_map(|a| <[u8; 16]>::try_from(a).ok())
                    .map(Ipv6Addr::from)
                    .collect(),
            );
        }
        rest = next;
    }
    Some(Vec::new())
}

impl Detector for Dhcp6 {
    fn about(&self) -> About {
        About {
            id: "rogue-dhcp6",
            sees: "a DHCPv6 server that is no router and names itself as resolver, or other resolvers than the \
                   first one; silent on routers, relays and servers that say the same.",
        }
    }

    fn blind(&self, manifest: &Manifest) -> String {
        needs_payload(manifest)
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Some((IpAddr::V6(src), _)) = packet.headers.addresses() else { return };
        let link = link_of(packet);
        match packet.headers.transport {
            // Router lifetime (RFC 4861 section 4.2) follows hop limit and flags.
            Transport::Icmp(icmp)
                if icmp.icmp_type == 134
                    && icmp.rest & 0xffff != 0
                    && self.routers.len() < SERVERS =>
            {
                self.routers.insert((link, src));
            }
            Transport::Udp(udp) if (udp.sport, udp.dport) == (547, 546) => {
                let Some(told) = resolvers(packet.payload()).filter(|told| !told.is_empty()) else {
                    return;
                };
                let key = (link, src);
                let index = match self.servers.iter().position(|(known, _)| *known == key) {
                    Some(index) => index,
                    None if self.servers.len() >= SERVERS => return,
                    None => {
                        self.servers.push((key, Server::default()));
                        self.servers.len() - 1
                    }
                };
                let server = &mut self.servers[index].1;
                server.seen.add(packet);
                server.resolvers = told;
            }
            _ => {}
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let servers = std::mem::take(&mut self.servers);
        let mut findings = Vec::new();
        for ((link, address), server) in &servers {
            let first = servers.iter().find(|((other, _), _)| other == link);
            let other_than_first = first.is_some_and(|((_, first), told)| {
                first != address && told.resolvers.iter().all(|r| !server.resolvers.contains(r))
            });
            let itself = server.resolvers.contains(address) && address.is_unicast_link_local();
            let router = self.routers.contains(&(*link, *address));
            if server.seen.packets < TOLD || router || !itself && !other_than_first {
                continue;
            }
            findings.push(
                Draft {
                    id: "rogue-dhcp",
                    severity: "high",
                    doubt: Some("medium: a server may be meant to be resolver and no router"),
                    title: format!("{address} answers DHCPv6 and names {} as resolver.", if itself { "itself" } else { "others" }),
                    evidence: vec![
                        format!("Resolvers told: {}.", listed(server.resolvers.iter().map(ToString::to_string), 4)),
                        format!("{} with them; it announces itself as no router.", counted(server.seen.packets, "answer")),
                    ],
                    effect: "not observable: whether clients ask it for names shows in DNS to it.".to_owned(),
                    advice: "Let only the ports of servers send DHCPv6 answers (RFC 7610), and find the station.",
                    actors: vec![address.to_string()],
                    targets: vec!["clients of the link".to_owned()],
                    seen: &server.seen,
                    references: &["MITRE ATT&CK T1557.003", "RFC 7610", "RFC 8415"],
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
    use crate::guarder::scene::{A, B, Scene, icmp, ip, udp};

    fn reply(resolver: &str) -> Vec<u8> {
        let address: Ipv6Addr = resolver.parse().expect("address");
        [&[7, 0, 0, 1, 0, 2, 0, 1, 9, 0, 23, 0, 16][..], &address.octets()].concat()
    }

    #[test]
    fn who_names_itself_and_is_no_router_is_rogue() {
        for (name, resolver, lifetime, times, found) in [
            ("itself", "fe80::66", 0, 3, 1),
            ("twice only", "fe80::66", 0, 2, 0),
            ("a router", "fe80::66", 1_800, 3, 0),
            ("a resolver elsewhere", "2001:db8::53", 0, 3, 0),
        ] {
            let mut scene = Scene::of(Dhcp6::default());
            let router = icmp(134, 0, 0x4000_0000 | lifetime, &[0; 8]);
            scene.frame(0, &ip((A, B), "fe80::66", "ff02::1", 58, &router));
            for n in 0..times {
                let frame = udp(547, 546, &reply(resolver));
                scene.frame(n, &ip((A, B), "fe80::66", "fe80::10", 17, &frame));
            }
            assert_eq!(scene.ids().len(), found, "{name}");
        }
        assert_eq!(resolvers(&[7, 0, 0, 1, 0, 23, 0, 99]), None, "cut");
        assert_eq!(resolvers(&[1, 0, 0, 1]), None, "a question");
    }
}
