//! Rogue router advertisements (RFC 4861, RFC 6104): somebody says to be the IPv6 router.
//!
//! **Sees** ICMPv6 router advertisements per link. Signs:
//! - a second router announces a default route with other prefixes than the first one;
//! - the lifetime of a known router is set to zero by another station than the one that announced it;
//! - ten or more routers or prefixes within ten seconds (a flood: hosts make an address for each);
//! - an advertisement from an address that is not link-local, or with a hop limit below 255: it
//!   came from outside the link, or was made badly (RFC 4861 section 6.1.2: hosts drop it).
//!
//! **Silent on** two routers announcing the same prefix, a router that shuts down (it sets its own
//! lifetime to zero), renumbering by the same router, and virtual routers.
//!
//! A second uplink that is meant looks like a rogue router with its own prefix: confidence is medium.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use psc_formats::packet::{Network, Transport};

use super::{Link, Mac, link_of, mac_text};
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Distinct, Draft, Seen, listed};
use crate::guarder::watch::{Tally, Watch};
use crate::view::detect::Finding;

const ADVERTISEMENT: u8 = 134;
const FLOOD: usize = 10;
const FLOOD_NS: u64 = 10_000_000_000;
const LINKS: usize = 1_024;
const ROUTERS: usize = 32;

type Prefix = (Ipv6Addr, u8);

#[derive(Debug)]
struct Router {
    address: Ipv6Addr,
    mac: Mac,
    prefixes: Distinct<Prefix>,
    default: bool,
    seen: Seen,
    /// Advertisements of this address from other stations that set its lifetime to zero.
    killed: Seen,
    killer: Option<Mac>,
}

#[derive(Debug, Default)]
struct Segment {
    routers: Vec<Router>,
    outside: Seen,
    outsiders: Vec<Ipv6Addr>,
}

#[derive(Debug)]
struct Flood {
    routers: Distinct<Ipv6Addr>,
    prefixes: Distinct<Prefix>,
}

impl Tally for Flood {
    fn new() -> Self {
        Self { routers: Distinct::new(1024), prefixes: Distinct::new(1024) }
    }
    fn is_attack(&self) -> bool {
        self.routers.len() >= FLOOD || self.prefixes.len() >= FLOOD
    }
    fn merge(&mut self, later: Self) {
        self.routers.merge(later.routers);
        self.prefixes.merge(later.prefixes);
    }
}

#[derive(Debug)]
pub(super) struct RogueRa {
    segments: BTreeMap<Link, Segment>,
    floods: Watch<Link, Flood>,
}

impl Default for RogueRa {
    fn default() -> Self {
        Self { segments: BTreeMap::new(), floods: Watch::new(LINKS, FLOOD_NS) }
    }
}

/// Prefixes of the prefix-information options (RFC 4861 section 4.6.2); `body` starts behind the fixed
/// eight bytes of ICMPv6.
fn prefixes(body: &[u8]) -> Vec<Prefix> {
    let mut found = Vec::new();
    let mut options = body.get(8..).unwrap_or(&[]);
    while let [kind, eights, ..] = *options {
        let len = usize::from(eights) * 8;
        let Some(option) = options.get(..len).filter(|_| len > 0) else { break };
        if kind == 3
            && let Some(octets) = option.get(16..32).and_then(<[u8]>::first_chunk::<16>)
            && found.len() < 64
        {
            found.push((Ipv6Addr::from(*octets), option[2]));
        }
        options = &options[len..];
    }
    found
}

fn is_virtual(mac: Mac) -> bool {
    matches!(mac, [0, 0, 0x5e, 0, 2, _])
}

impl Detector for RogueRa {
    fn about(&self) -> About {
        About {
            id: "rogue-ra",
            sees: "router advertisements by a second router with other prefixes, by somebody else \
                   in a router's name, from outside the link, or by the dozen; silent on redundant \
                   routers, shutdown, renumbering and virtual routers.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let (Network::V6(ip), Transport::Icmp(icmp)) =
            (packet.headers.network, packet.headers.transport)
        else {
            return;
        };
        if icmp.icmp_type != ADVERTISEMENT {
            return;
        }
        let link = link_of(packet);
        if self.segments.len() >= LINKS && !self.segments.contains_key(&link) {
            return;
        }
        let segment = self.segments.entry(link).or_default();
        if !ip.src.is_unicast_link_local() || ip.hop_limit != 255 {
            segment.outside.add(packet);
            if segment.outsiders.len() < 5 && !segment.outsiders.contains(&ip.src) {
                segment.outsiders.push(ip.src);
            }
            return;
        }
        let mac = packet.headers.ethernet.map_or([0; 6], |frame| frame.src);
        let lifetime = icmp.rest & 0xffff;
        let announced = prefixes(packet.payload());
        self.floods.of(link, packet.at).add(packet, |flood| {
            flood.routers.add(ip.src);
            for prefix in &announced {
                flood.prefixes.add(*prefix);
            }
        });
        let known = segment.routers.iter().position(|router| router.address == ip.src);
        match known {
            Some(index) => {
                let router = &mut segment.routers[index];
                let stranger = router.mac != mac && !is_virtual(mac) && !is_virtual(router.mac);
                if stranger && lifetime == 0 {
                    router.killed.add(packet);
                    router.killer = Some(mac);
                    return;
                }
                router.seen.add(packet);
                router.default |= lifetime > 0;
                for prefix in announced {
                    router.prefixes.add(prefix);
                }
            }
            None if segment.routers.len() < ROUTERS => {
                let mut router = Router {
                    address: ip.src,
                    mac,
                    prefixes: Distinct::new(64),
                    default: lifetime > 0,
                    seen: Seen::default(),
                    killed: Seen::default(),
                    killer: None,
                };
                router.seen.add(packet);
                for prefix in announced {
                    router.prefixes.add(prefix);
                }
                segment.routers.push(router);
            }
            None => {}
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let mut findings = Vec::new();
        let floods = self.floods.finish();
        for (_, watched) in &floods {
            findings.push(
                Draft {
                    id: "ra-flood",
                    severity: "high",
                    doubt: None,
                    title: format!(
                        "{} routers announced {} prefixes, ten or more of either within ten \
                         seconds.",
                        watched.attack.routers.count(),
                        watched.attack.prefixes.count()
                    ),
                    evidence: vec![format!(
                        "{} advertisements in the worst ten seconds.",
                        watched.peak
                    )],
                    effect: "not observable: addresses that hosts made of them are not in view."
                        .to_owned(),
                    advice: ADVICE,
                    actors: vec!["one station or few behind made-up routers".to_owned()],
                    targets: vec!["all IPv6 hosts of the link".to_owned()],
                    seen: &watched.evidence,
                    references: &["RFC 6104", "RFC 6105", "CVE-2010-4669"],
                }
                .finding(context),
            );
        }
        for (link, segment) in std::mem::take(&mut self.segments) {
            if segment.outside.packets > 0 {
                findings.push(outside(&segment, context));
            }
            for router in segment.routers.iter().filter(|router| router.killed.packets > 0) {
                findings.push(killed(router, context));
            }
            // What a flood is made of is told once.
            if floods.iter().any(|(flooded, _)| *flooded == link) {
                continue;
            }
            let mut real = segment.routers.iter().filter(|router| router.default);
            let Some(first) = real.next() else { continue };
            for other in real {
                let shared = other.prefixes.iter().any(|prefix| first.prefixes.contains(prefix));
                if !shared && other.prefixes.len() > 0 && !is_virtual(other.mac) {
                    findings.push(second(first, other, context));
                }
            }
        }
        findings
    }
}

const ADVICE: &str = "Find the station in the switch's address table; let only the router's port send \
                      router advertisements (RA-Guard, RFC 6105).";

fn named(prefixes: &Distinct<Prefix>) -> String {
    listed(prefixes.iter().map(|(net, len)| format!("{net}/{len}")), 3)
}

fn second(first: &Router, other: &Router, context: &Context<'_>) -> Finding {
    Draft {
        id: "rogue-ra",
        severity: "high",
        doubt: Some("medium: a second uplink that is meant looks the same"),
        title: format!(
            "A second router, {} ({}), announces {}.",
            other.address,
            mac_text(other.mac),
            named(&other.prefixes)
        ),
        evidence: vec![format!(
            "The first router, {} ({}), announces {}.",
            first.address,
            mac_text(first.mac),
            named(&first.prefixes)
        )],
        effect: "not observable: which router a host took shows in its next packets, not here."
            .to_owned(),
        advice: ADVICE,
        actors: vec![format!("{} at {}", other.address, mac_text(other.mac))],
        targets: vec!["all IPv6 hosts of the link".to_owned()],
        seen: &other.seen,
        references: &["RFC 6104", "RFC 6105", "RFC 4861", "MITRE ATT&CK T1557"],
    }
    .finding(context)
}

fn killed(router: &Router, context: &Context<'_>) -> Finding {
    let killer = mac_text(router.killer.unwrap_or_default());
    Draft {
        id: "rogue-ra",
        severity: "high",
        doubt: None,
        title: format!("{killer} withdrew the router {} of another station.", router.address),
        evidence: vec![format!(
            "{} comes from {}; {} advertisements with lifetime 0 came from {killer}.",
            router.address,
            mac_text(router.mac),
            router.killed.packets
        )],
        effect: "not observable: the hosts' routes are not in view.".to_owned(),
        advice: ADVICE,
        actors: vec![killer.clone()],
        targets: vec![router.address.to_string()],
        seen: &router.killed,
        references: &["RFC 6104", "RFC 6105", "RFC 4861 section 6.2.5"],
    }
    .finding(context)
}

fn outside(segment: &Segment, context: &Context<'_>) -> Finding {
    let who = listed(segment.outsiders.iter().map(ToString::to_string), 5);
    Draft {
        id: "rogue-ra",
        severity: "medium",
        doubt: None,
        title: format!("Router advertisements that cannot come from this link: {who}."),
        evidence: vec![
            "A router advertises from a link-local address with hop limit 255; these did not."
                .to_owned(),
        ],
        effect: "not confirmed: hosts that follow RFC 4861 section 6.1.2 drop them.".to_owned(),
        advice: ADVICE,
        actors: segment.outsiders.iter().map(ToString::to_string).collect(),
        targets: vec!["all IPv6 hosts of the link".to_owned()],
        seen: &segment.outside,
        references: &["RFC 4861 section 6.1.2", "RFC 6104"],
    }
    .finding(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, GATEWAY, Scene, icmp, ip_with};

    const GROUP: Mac = [0x33, 0x33, 0, 0, 0, 1];

    fn advertise(mac: Mac, from: &str, lifetime: u32, prefix: &str, hops: u8) -> Vec<u8> {
        let mut body = vec![0; 8];
        let net: Ipv6Addr = prefix.parse().expect("prefix");
        body.extend([3, 4, 64, 0xc0]);
        body.extend([0; 12]);
        body.extend(net.octets());
        let message = icmp(ADVERTISEMENT, 0, 64 << 24 | lifetime, &body);
        ip_with((mac, GROUP), (from, "ff02::1"), 58, (hops, 0, 0), &message)
    }

    #[test]
    fn attacks_and_their_twins() {
        type Case = (&'static str, Vec<Vec<u8>>, &'static [&'static str]);
        let real = advertise(GATEWAY, "fe80::1", 1800, "2001:db8:1::", 255);
        let cases: Vec<Case> = vec![
            (
                "another router, another prefix",
                vec![real.clone(), advertise(B, "fe80::b", 1800, "2001:db8:66::", 255)],
                &["rogue-ra"],
            ),
            (
                "withdrawn by another",
                vec![real.clone(), advertise(B, "fe80::1", 0, "2001:db8:1::", 255)],
                &["rogue-ra"],
            ),
            ("from outside", vec![advertise(B, "fe80::b", 1800, "2001:db8::", 64)], &["rogue-ra"]),
            (
                "redundant routers",
                vec![real.clone(), advertise(A, "fe80::2", 1800, "2001:db8:1::", 255)],
                &[],
            ),
            (
                "shutting down",
                vec![real.clone(), advertise(GATEWAY, "fe80::1", 0, "2001:db8:1::", 255)],
                &[],
            ),
            (
                "renumbering",
                vec![real.clone(), advertise(GATEWAY, "fe80::1", 1800, "2001:db8:2::", 255)],
                &[],
            ),
            (
                "a flood",
                (0..12)
                    .map(|n| {
                        advertise(B, &format!("fe80::{n}"), 9, &format!("2001:db8:{n}::"), 255)
                    })
                    .collect(),
                &["ra-flood"],
            ),
        ];
        for (name, frames, expected) in cases {
            let mut scene = Scene::of(RogueRa::default());
            for (n, frame) in frames.iter().enumerate() {
                scene.frame(n as u64, frame);
            }
            assert_eq!(scene.ids(), expected, "{name}");
        }
    }

    #[test]
    fn options_that_lie_about_their_length_end_the_walk() {
        let mut body = vec![0; 8];
        body.extend([3, 0, 64]);
        assert!(prefixes(&body).is_empty());
        body[9] = 200;
        assert!(prefixes(&body).is_empty());
    }
}
