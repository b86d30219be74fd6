//! ARP poisoning that meets no contradiction: a host that tells others, unasked and again and again,
//! where an address is, while the owner of that address is silent or out of view.
//!
//! **Sees** ARP replies to one host that nobody in view had asked for, and unicast requests whose
//! sender address is claimed that way (a cache takes both). **Threshold**: five such claims of one
//! address by one station over at least four seconds: tools repeat every one to ten seconds (arpspoof
//! 2, ettercap 10), since caches forget, and RFC 5227 announces twice and broadcast. It becomes a
//! finding with one of these signs: the station claims two or more addresses so; IP packets of the
//! address come from another station; the neighbour table had another station there before; the frame
//! comes from another station than the one it claims; else at ten claims, of low confidence.
//!
//! Announcements (gratuitous ARP) are told, with low confidence, when one station makes 15 or more for one
//! address, no more than four seconds apart on average: `arpspoof` without a target does that every two.
//!
//! **Silent on** announcements of failover and start (a handful), answers, proxy ARP, failover, virtual routers, and
//! the unicast requests by which Linux refreshes a neighbour. What two stations claim by ARP is the
//! arp-spoofing detector's.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use psc_formats::packet::Network;

use super::{Link, Mac, link_of, mac_text};
use crate::bounded::Bounded;
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Distinct, Draft, Seen, counted, listed};
use crate::view::detect::Finding;

const CLAIMS: u64 = 5;
const CLAIMS_ALONE: u64 = 10;
const SPREAD_NS: u64 = 4_000_000_000;

/// A reply this long after a request for its address was asked for.
const ASKED_NS: u64 = 5_000_000_000;

/// Announcements, and their mean distance.
const ANNOUNCED: u64 = 15;
const ANNOUNCED_NS: u64 = 4_000_000_000;

const ADDRESSES: usize = 8_192;

#[derive(Debug)]
struct Claim {
    unasked: Seen,
    told: Distinct<Ipv4Addr>,
    foreign: u64,
}

#[derive(Debug, Default)]
struct Address {
    asked: Option<u64>,
    /// Who claims it by ARP, and how.
    claims: BTreeMap<Mac, Claim>,
    /// Gratuitous ARP, by station.
    announced: BTreeMap<Mac, Seen>,
    /// Stations that claimed it in any way by ARP.
    claimants: Vec<Mac>,
    /// Station that IP packets with this source came from last.
    speaks: Option<(Mac, u64)>,
}

#[derive(Debug)]
pub(super) struct ArpUnasked {
    addresses: Bounded<(Link, Ipv4Addr), Address>,
}

impl Default for ArpUnasked {
    fn default() -> Self {
        Self { addresses: Bounded::new(ADDRESSES) }
    }
}

/// Virtual routers move between hosts by design (RFC 9568 section 7.3, HSRP, GLBP).
fn is_virtual(mac: Mac) -> bool {
    matches!(mac, [0, 0, 0x5e, 0, 1 | 2, _] | [0, 0, 0x0c, 7, 0xac, _] | [0, 7, 0xb4, ..])
}

impl Detector for ArpUnasked {
    fn about(&self) -> About {
        About {
            id: "arp-poisoning",
            sees: "a station that tells others unasked, five times or more, that an address is its \
                   own, with no contradiction by ARP; silent on announcements, answers, proxy ARP, \
                   failover and unicast refreshes.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let link = link_of(packet);
        let Some(frame) = packet.headers.ethernet else { return };
        match packet.headers.network {
            Network::Arp(arp) => {
                if arp.opcode == 1 && arp.target != arp.sender && !arp.target.is_unspecified() {
                    self.addresses.entry_or_forget((link, arp.target), Address::default).asked =
                        Some(packet.at);
                }
                if arp.sender.is_unspecified() || is_virtual(arp.sender_mac) {
                    return;
                }
                let address = self.addresses.entry_or_forget((link, arp.sender), Address::default);
                if address.claimants.len() < 4 && !address.claimants.contains(&arp.sender_mac) {
                    address.claimants.push(arp.sender_mac);
                }
                let asked =
                    address.asked.is_some_and(|asked| packet.at.saturating_sub(asked) <= ASKED_NS);
                if arp.sender == arp.target && frame.dst[0] & 1 == 1 && address.announced.len() < 4
                {
                    address.announced.entry(arp.sender_mac).or_default().add(packet);
                }
                let directed = frame.dst[0] & 1 == 0 && arp.sender != arp.target;
                if arp.opcode != 2 || asked || !directed || address.claims.len() >= 4 {
                    return;
                }
                let claim = address.claims.entry(arp.sender_mac).or_insert_with(|| Claim {
                    unasked: Seen::default(),
                    told: Distinct::new(256),
                    foreign: 0,
                });
                claim.unasked.add(packet);
                claim.told.add(arp.target);
                claim.foreign += u64::from(frame.src != arp.sender_mac);
            }
            Network::V4(ip) => {
                if let Some(address) = self.addresses.get_mut(&(link, ip.src)) {
                    address.speaks = Some((frame.src, packet.at));
                }
            }
            Network::V6(_) | Network::None => {}
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let all = std::mem::replace(&mut self.addresses, Bounded::new(1)).into_oldest_first();
        // (station, address, the address's state)
        let mut claims: Vec<(Mac, Ipv4Addr, &Address, &Claim)> = Vec::new();
        for ((_, ip), address) in &all {
            for (mac, claim) in &address.claims {
                let spread = claim.unasked.last().saturating_sub(claim.unasked.first());
                if claim.unasked.packets >= CLAIMS
                    && spread >= SPREAD_NS
                    && address.claimants.len() == 1
                {
                    claims.push((*mac, *ip, address, claim));
                }
            }
        }
        claims.sort_by_key(|(mac, ip, ..)| (*mac, *ip));
        let mut findings: Vec<Finding> = claims
            .chunk_by(|a, b| a.0 == b.0)
            .filter_map(|station| finding(station, context))
            .collect();
        for ((_, ip), address) in &all {
            for (mac, seen) in address.announced.iter().filter(|_| address.claimants.len() == 1) {
                let lasted = seen.last().saturating_sub(seen.first());
                if seen.packets >= ANNOUNCED && lasted <= (seen.packets - 1) * ANNOUNCED_NS {
                    findings.push(announced(*mac, *ip, seen, context));
                }
            }
        }
        findings
    }
}

/// An address announced as nobody needs to who has it.
fn announced(mac: Mac, ip: Ipv4Addr, seen: &Seen, context: &Context<'_>) -> Finding {
    let text = mac_text(mac);
    Draft {
        id: "arp-spoofing",
        severity: "medium",
        doubt: Some("low: some clusters announce their address all the time"),
        title: format!("{text} announces to all, again and again, that it is {ip}."),
        evidence: vec![format!(
            "{}, {:.1} s apart on average; RFC 5227 has two.",
            counted(seen.packets, "announcement"),
            (seen.last() - seen.first()) as f64 / 1e9 / (seen.packets - 1) as f64
        )],
        effect: "not observable: nothing in view says who has the address.".to_owned(),
        advice: "Compare with the host's or router's own address (ip link on it), and find the station in \
                 the switch's address table.",
        actors: vec![format!("{text} (a link-layer address can be forged)")],
        targets: vec![ip.to_string()],
        seen,
        references: &["RFC 5227", "MITRE ATT&CK T1557.002", "CAPEC-141"],
    }
    .finding(context)
}

fn finding(
    station: &[(Mac, Ipv4Addr, &Address, &Claim)],
    context: &Context<'_>,
) -> Option<Finding> {
    let mac = station.first()?.0;
    let text = mac_text(mac);
    let mut signs = Vec::new();
    let mut seen = Seen::default();
    let mut told = Distinct::new(256);
    if station.len() > 1 {
        signs.push(format!("{text} claims {} addresses that way.", station.len()));
    }
    for (_, ip, address, claim) in station {
        seen.merge(&claim.unasked);
        told.merge(claim.told.clone());
        if let Some((other, _)) = address.speaks.filter(|(other, _)| *other != mac) {
            signs.push(format!("IP packets from {ip} come from {} instead.", mac_text(other)));
        }
        if claim.foreign > 0 {
            signs.push(format!(
                "{} of its claims to {ip} came in frames from yet another station.",
                claim.foreign
            ));
        }
        let before = context.tables.neighbours.iter().find_map(|fact| {
            let entry = fact.neighbours.iter().find(|n| n.address == IpAddr::V4(*ip))?;
            (!entry.mac.is_empty() && !entry.mac.eq_ignore_ascii_case(&text)).then_some(&entry.mac)
        });
        if let Some(before) = before {
            signs.push(format!("The neighbour table had {ip} at {before}."));
        }
    }
    let alone = signs.is_empty();
    if alone && seen.packets < CLAIMS_ALONE {
        return None;
    }
    let addresses: Vec<String> = station.iter().map(|(_, ip, ..)| ip.to_string()).collect();
    let mut evidence = vec![format!(
        "{} that nobody had asked for, to {} hosts, {:.1} s apart on average.",
        counted(seen.packets, "reply").replace("replys", "replies"),
        told.count(),
        (seen.last() - seen.first()) as f64 / 1e9 / (seen.packets.max(2) - 1) as f64
    )];
    evidence.extend(signs);
    let believed = context.tables.neighbours.iter().any(|fact| {
        fact.at >= seen.first()
            && fact.neighbours.iter().any(|n| {
                n.mac.eq_ignore_ascii_case(&text) && addresses.contains(&n.address.to_string())
            })
    });
    Some(
        Draft {
            id: "arp-spoofing",
            severity: if alone { "medium" } else { "high" },
            doubt: alone.then_some(
                "low: nothing in view says that the address is somebody else's; a device that \
                 announces itself oddly looks the same",
            ),
            title: format!(
                "{text} keeps telling others, unasked, that it is {}.",
                listed(addresses.iter().cloned(), 3)
            ),
            evidence,
            effect: match (context.has_stack(), believed) {
                (false, _) => "not observable: a capture has no neighbour table.".to_owned(),
                (true, true) => format!("confirmed: the neighbour table lists {text} there."),
                (true, false) => {
                    "not confirmed: no neighbour entry here was seen to name it.".to_owned()
                }
            },
            advice: "Compare with the router's or host's own address (ip link on it); pin it (ip \
                     neigh replace ADDRESS lladdr MAC dev IF nud permanent) and find the station \
                     in the switch's address table.",
            actors: vec![format!("{text} (a link-layer address can be forged)")],
            targets: told.iter().take(5).map(ToString::to_string).collect(),
            seen: &seen,
            references: &["RFC 826", "RFC 5227", "MITRE ATT&CK T1557.002", "CAPEC-141"],
        }
        .finding(context),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, GATEWAY, Scene};
    use crate::sample;

    fn poison(n: u64, addresses: &[&str]) -> Scene {
        let mut scene = Scene::of(ArpUnasked::default());
        for i in 0..n {
            for ip in addresses {
                scene.headers(i * 2000, &sample::arp(2, A, ip, B, "10.0.0.7"));
            }
        }
        scene
    }

    #[test]
    fn claims_of_two_addresses_are_poisoning() {
        let found = poison(5, &["10.0.0.1", "10.0.0.2"]).findings();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].id.as_str(), found[0].confidence.as_str()), ("arp-spoofing", "high"));
        assert_eq!(found[0].packets, 10);
        assert!(poison(4, &["10.0.0.1", "10.0.0.2"]).ids().is_empty());
    }

    #[test]
    fn one_address_needs_a_sign_or_patience() {
        let mut spoken = poison(5, &["10.0.0.1"]);
        let from_gateway = sample::with_mac(sample::udp("10.0.0.1:53", "10.0.0.7:9", 1), GATEWAY);
        spoken.headers(11_000, &from_gateway);
        assert_eq!(spoken.findings()[0].confidence, "high");
        assert!(poison(5, &["10.0.0.1"]).ids().is_empty());
        assert!(poison(10, &["10.0.0.1"]).findings()[0].confidence.starts_with("low"));
    }

    #[test]
    fn an_address_announced_every_two_seconds_is_told_with_doubt() {
        for (n, gap_ms, found) in [(15, 2_000, 1), (14, 2_000, 0), (40, 4_100, 0)] {
            let mut scene = Scene::of(ArpUnasked::default());
            for i in 0..n {
                let claim = sample::arp(2, A, "10.0.0.1", [0xff; 6], "10.0.0.1");
                let mut frame = claim;
                frame.ethernet = Some(psc_formats::packet::Ethernet { dst: [0xff; 6], src: A });
                scene.headers(i * gap_ms, &frame);
            }
            let findings = scene.findings();
            assert_eq!(findings.len(), found, "{n} every {gap_ms} ms");
            assert!(findings.iter().all(|finding| finding.confidence.starts_with("low")));
        }
    }

    #[test]
    fn benign_twins_are_left_alone() {
        let mut answered = Scene::of(ArpUnasked::default());
        let mut proxy = Scene::of(ArpUnasked::default());
        let mut announced = Scene::of(ArpUnasked::default());
        for i in 0..20 {
            let ask = sample::arp(1, B, "10.0.0.7", [0; 6], "10.0.0.1");
            answered.headers(i * 2000, &ask);
            answered.headers(i * 2000 + 1, &sample::arp(2, A, "10.0.0.1", B, "10.0.0.7"));
            let remote = format!("10.9.0.{i}");
            proxy.headers(i * 2000, &sample::arp(1, B, "10.0.0.7", [0; 6], &remote));
            proxy.headers(i * 2000 + 1, &sample::arp(2, A, &remote, B, "10.0.0.7"));
            announced.headers(i * 10_000, &sample::arp(2, A, "10.0.0.1", [0xff; 6], "10.0.0.1"));
        }
        for (name, scene) in [("answers", answered), ("proxy", proxy), ("announced", announced)] {
            assert!(scene.ids().is_empty(), "{name}");
        }
    }
}
