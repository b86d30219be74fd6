//! Rogue DHCP server, and DHCP starvation.
//!
//! **Sees** DHCPv4 (RFC 2131): who offers what, and who asks. A **rogue server** is a second one on a
//! link whose offers name another router, other name servers or another subnet than the first: that is
//! what lets it stand in the middle. **Starvation** is 64 different clients discovering within a minute
//! of which fewer than half go on to request, or whose client address is not the frame's.
//!
//! **Silent on** servers in failover (same options), relays, a server that answers for several links,
//! and an office switching on (each client requests what it was offered).
//!
//! Two servers that are meant to differ look the same as a rogue one; who came first is taken as meant.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use psc_formats::Manifest;

use super::{Link, Mac, link_of, mac_text};
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Distinct, Draft, Seen};
use crate::guarder::watch::{Tally, Watch};
use crate::view::detect::Finding;

const LINKS: usize = 1_024;
const SERVERS: usize = 16;
const MINUTE_NS: u64 = 60_000_000_000;
const CLIENTS: usize = 64;

/// What of a DHCP message matters here.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    /// 1 discover, 2 offer, 3 request, 5 ack.
    kind: u8,
    client: Mac,
    relayed: bool,
    server: Option<Ipv4Addr>,
    terms: Terms,
}

/// What a server tells its clients to use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Terms {
    router: Option<Ipv4Addr>,
    names: Option<Ipv4Addr>,
    mask: Option<Ipv4Addr>,
    subnet: Option<Ipv4Addr>,
}

/// Reads a BOOTP message with DHCP options (RFC 2131, RFC 2132); `None` when it is none.
fn read(payload: &[u8]) -> Option<Message> {
    let fixed = payload.first_chunk::<240>()?;
    if fixed[1] != 1 || fixed[2] != 6 || fixed[236..240] != [0x63, 0x82, 0x53, 0x63] {
        return None;
    }
    let address = |at: usize| Ipv4Addr::new(fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]);
    let mut message = Message {
        client: [fixed[28], fixed[29], fixed[30], fixed[31], fixed[32], fixed[33]],
        relayed: !address(24).is_unspecified(),
        ..Message::default()
    };
    let mut options = &payload[240..];
    while let Some((&code, rest)) = options.split_first() {
        if code == 0 {
            options = rest;
            continue;
        }
        let Some((&len, rest)) = rest.split_first().filter(|_| code != 255) else { break };
        let Some((value, rest)) = rest.split_at_checked(usize::from(len)) else { break };
        let first = value.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets));
        match code {
            1 => message.terms.mask = first,
            3 => message.terms.router = first,
            6 => message.terms.names = first,
            53 => message.kind = value.first().copied().unwrap_or(0),
            54 => message.server = first,
            _ => {}
        }
        options = rest;
    }
    let offered = address(16);
    message.terms.subnet = message
        .terms
        .mask
        .filter(|_| !offered.is_unspecified())
        .map(|mask| Ipv4Addr::from_bits(offered.to_bits() & mask.to_bits()));
    (message.kind != 0).then_some(message)
}

#[derive(Debug)]
struct Server {
    mac: Mac,
    id: Ipv4Addr,
    terms: Terms,
    seen: Seen,
    clients: Distinct<Mac>,
}

#[derive(Debug)]
struct Asking {
    discovering: Distinct<Mac>,
    requesting: Distinct<Mac>,
    foreign: u64,
}

impl Tally for Asking {
    fn new() -> Self {
        Self { discovering: Distinct::new(4096), requesting: Distinct::new(4096), foreign: 0 }
    }
    fn is_attack(&self) -> bool {
        let n = self.discovering.len();
        n >= CLIENTS && (self.requesting.len() * 2 < n || self.foreign * 2 > n as u64)
    }
    fn merge(&mut self, later: Self) {
        self.discovering.merge(later.discovering);
        self.requesting.merge(later.requesting);
        self.foreign += later.foreign;
    }
}

#[derive(Debug)]
pub(super) struct Dhcp {
    servers: BTreeMap<Link, Vec<Server>>,
    asking: Watch<Link, Asking>,
}

impl Default for Dhcp {
    fn default() -> Self {
        Self { servers: BTreeMap::new(), asking: Watch::new(LINKS, MINUTE_NS) }
    }
}

impl Detector for Dhcp {
    fn about(&self) -> About {
        About {
            id: "rogue-dhcp",
            sees: "a second DHCP server on a link that offers another router, name server or \
                   subnet, and 64 or more clients a minute that discover and never request; silent \
                   on failover pairs, relays and an office switching on.",
        }
    }

    fn blind(&self, manifest: &Manifest) -> String {
        super::super::detect::needs_payload(manifest)
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Some(udp) = packet.headers.tuple().filter(|tuple| tuple.protocol == 17) else { return };
        if !matches!((udp.sport, udp.dport), (67 | 68, 67 | 68)) {
            return;
        }
        let Some(message) = read(packet.payload()) else { return };
        if message.relayed {
            return;
        }
        let link = link_of(packet);
        let frame = packet.headers.ethernet.map(|frame| frame.src);
        match message.kind {
            1 | 3 => {
                let foreign = frame.is_some_and(|src| src != message.client);
                self.asking.of(link, packet.at).add(packet, |asking| {
                    if message.kind == 1 {
                        asking.discovering.add(message.client);
                        asking.foreign += u64::from(foreign);
                    } else {
                        asking.requesting.add(message.client);
                    }
                });
            }
            // Offers and acknowledgements that lease an address.
            2 | 5 if udp.sport == 67 && message.terms.subnet.is_some() => {
                if self.servers.len() >= LINKS && !self.servers.contains_key(&link) {
                    return;
                }
                let servers = self.servers.entry(link).or_default();
                let mac = frame.unwrap_or([0; 6]);
                let IpAddrV4(source) = v4(packet);
                let id = message.server.unwrap_or(source);
                let known = servers.iter().position(|server| server.mac == mac && server.id == id);
                if known.is_none() && servers.len() >= SERVERS {
                    return;
                }
                let index = known.unwrap_or_else(|| {
                    servers.push(Server {
                        mac,
                        id,
                        terms: message.terms.clone(),
                        seen: Seen::default(),
                        clients: Distinct::new(1024),
                    });
                    servers.len() - 1
                });
                servers[index].seen.add(packet);
                servers[index].clients.add(message.client);
            }
            _ => {}
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for servers in std::mem::take(&mut self.servers).into_values() {
            let Some((first, others)) = servers.split_first() else { continue };
            for other in others {
                let differences = differences(&first.terms, &other.terms);
                // One server may lease different subnets of one wire; it says so in its id.
                if differences.is_empty() || other.id == first.id && other.mac == first.mac {
                    continue;
                }
                findings.push(rogue(first, other, differences, context));
            }
        }
        for (_, watched) in self.asking.finish() {
            findings.push(starvation(&watched.attack, &watched.evidence, context));
        }
        findings
    }
}

struct IpAddrV4(Ipv4Addr);

fn v4(packet: &Packet<'_>) -> IpAddrV4 {
    match packet.headers.network {
        psc_formats::packet::Network::V4(ip) => IpAddrV4(ip.src),
        _ => IpAddrV4(Ipv4Addr::UNSPECIFIED),
    }
}

fn differences(first: &Terms, other: &Terms) -> Vec<String> {
    let said = |ip: Option<Ipv4Addr>| ip.map_or_else(|| "none".to_owned(), |ip| ip.to_string());
    [
        ("router", first.router, other.router),
        ("name server", first.names, other.names),
        ("subnet", first.subnet, other.subnet),
    ]
    .into_iter()
    .filter(|(_, a, b)| a != b)
    .map(|(what, a, b)| format!("It offers {what} {}, the first server {}.", said(b), said(a)))
    .collect()
}

fn rogue(
    first: &Server,
    other: &Server,
    mut evidence: Vec<String>,
    context: &Context<'_>,
) -> Finding {
    evidence.push(format!(
        "{} ({}) leased to {} clients, {} ({}) to {}.",
        first.id,
        mac_text(first.mac),
        first.clients.count(),
        other.id,
        mac_text(other.mac),
        other.clients.count()
    ));
    let both = other.clients.iter().filter(|mac| first.clients.contains(mac)).count();
    if both > 0 {
        evidence.push(format!("{both} clients were offered leases by both."));
    }
    Draft {
        id: "rogue-dhcp",
        severity: "high",
        doubt: (both == 0).then_some(
            "medium: no client is in view that both answered, so they may serve different networks",
        ),
        title: format!(
            "A second DHCP server, {} ({}), offers other terms than {}.",
            other.id,
            mac_text(other.mac),
            first.id
        ),
        evidence,
        effect: "not observable: which lease a client took shows in its next packets, not here."
            .to_owned(),
        advice: "Find the station in the switch's address table; allow DHCP server messages only \
                 from the port of the real server (DHCP snooping).",
        actors: vec![format!("{} at {}", other.id, mac_text(other.mac))],
        targets: other.clients.iter().take(5).map(|mac| mac_text(*mac)).collect(),
        seen: &other.seen,
        references: &["RFC 2131", "RFC 7610", "MITRE ATT&CK T1557.003"],
    }
    .finding(context)
}

fn starvation(asking: &Asking, seen: &Seen, context: &Context<'_>) -> Finding {
    Draft {
        id: "dhcp-starvation",
        severity: "medium",
        doubt: None,
        title: format!(
            "{} clients asked for a DHCP lease within a minute and {} went on to request one.",
            asking.discovering.count(),
            asking.requesting.count()
        ),
        evidence: vec![format!(
            "{} messages came in frames from another address than the client they speak for.",
            asking.foreign
        )],
        effect: "not observable: the server's pool is not in view.".to_owned(),
        advice: "Limit addresses per switch port, and leases per port at the server.",
        actors: vec!["one station or few behind made-up client addresses".to_owned()],
        targets: vec![],
        seen,
        references: &["RFC 2131 section 7", "CAPEC-125", "MITRE ATT&CK T1499"],
    }
    .finding(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, ALL, B, GATEWAY, Scene, ip, udp};

    fn message(kind: u8, client: Mac, options: &[(u8, [u8; 4])], yours: [u8; 4]) -> Vec<u8> {
        let mut out = vec![if kind == 2 || kind == 5 { 2 } else { 1 }, 1, 6, 0];
        out.resize(16, 0);
        out.extend(yours);
        out.resize(28, 0);
        out.extend(client);
        out.resize(236, 0);
        out.extend([0x63, 0x82, 0x53, 0x63, 53, 1, kind]);
        for (code, value) in options {
            out.extend([*code, 4]);
            out.extend(value);
        }
        out.push(255);
        out
    }

    fn offer(mac: Mac, server: &str, client: Mac, router: [u8; 4]) -> Vec<u8> {
        let id: Ipv4Addr = server.parse().expect("address");
        let options = [(54, id.octets()), (1, [255, 255, 255, 0]), (3, router), (6, router)];
        let body = message(2, client, &options, [10, 0, 0, 50]);
        ip((mac, ALL), server, "255.255.255.255", 17, &udp(67, 68, &body))
    }

    #[test]
    fn a_second_server_with_another_router_is_rogue() {
        let mut scene = Scene::of(Dhcp::default());
        scene.frame(0, &offer(GATEWAY, "10.0.0.1", A, [10, 0, 0, 1]));
        scene.frame(1, &offer(B, "10.0.0.66", A, [10, 0, 0, 66]));
        let found = scene.findings();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].id.as_str(), found[0].confidence.as_str()), ("rogue-dhcp", "high"));
        assert!(found[0].evidence[0].contains("router 10.0.0.66"));
    }

    #[test]
    fn a_failover_pair_is_not() {
        let mut scene = Scene::of(Dhcp::default());
        scene.frame(0, &offer(GATEWAY, "10.0.0.2", A, [10, 0, 0, 1]));
        scene.frame(1, &offer(B, "10.0.0.3", A, [10, 0, 0, 1]));
        assert!(scene.ids().is_empty());
    }

    #[test]
    fn clients_that_never_request_starve_the_pool() {
        for (n, requests, found) in [(64_u8, false, 1), (63, false, 0), (200, true, 0)] {
            let mut scene = Scene::of(Dhcp::default());
            for i in 0..n {
                let client = [2, 9, 0, 0, 0, i];
                for kind in if requests { &[1, 3][..] } else { &[1] } {
                    let body = message(*kind, client, &[], [0; 4]);
                    let body = udp(68, 67, &body);
                    let at = u64::from(i) * 100;
                    scene.frame(at, &ip((client, ALL), "0.0.0.0", "255.255.255.255", 17, &body));
                }
            }
            assert_eq!(scene.ids().len(), found, "{n} clients");
        }
    }

    #[test]
    fn damage_is_no_message() {
        let whole = message(2, A, &[(54, [10, 0, 0, 1])], [10, 0, 0, 9]);
        for cut in 0..whole.len() {
            let _ = read(&whole[..cut]);
        }
        assert_eq!(read(&whole).map(|m| m.kind), Some(2));
        assert_eq!(read(&whole[..239]), None);
    }
}
