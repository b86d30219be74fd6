//! Neighbour spoofing in IPv6 (RFC 4861, threats in RFC 3756): a neighbour advertisement in another's
//! name, and one that stops others from getting an address.
//!
//! **Sees** neighbour solicitations and advertisements per link. Signs:
//! - two stations advertise one address with the override flag, and one does so three times or more
//!   unasked, or both answer the same solicitation, or ownership changes three times within a minute;
//! - one station answers duplicate address detection (a solicitation from `::`) for three or more
//!   addresses: each host is told that its address is taken.
//!
//! **Silent on** the up to three unasked advertisements with which a host announces a change (RFC 4861
//! section 7.2.6), proxies and anycast (no override flag), virtual routers, and one real duplicate.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use psc_formats::packet::{Network, Transport};

use super::{Link, Mac, link_of, mac_text};
use crate::bounded::Bounded;
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Distinct, Draft, Seen, listed};
use crate::view::detect::Finding;

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const OVERRIDE: u32 = 1 << 29;
const SOLICITED: u32 = 1 << 30;

/// `MAX_NEIGHBOR_ADVERTISEMENT` of RFC 4861 section 10 is 3: more are not an announcement.
const UNASKED: u64 = 4;
const CHANGES: u64 = 3;
const CHANGES_NS: u64 = 60_000_000_000;
const RACE_NS: u64 = 1_000_000_000;
const ASKED_NS: u64 = 5_000_000_000;
const REFUSALS: usize = 3;

const ADDRESSES: usize = 8_192;
const STATIONS: usize = 4_096;

#[derive(Debug, Default)]
struct Address {
    asked: Option<u64>,
    answered: Option<(u64, Mac)>,
    /// Per station: unasked and all advertisements with override.
    claims: BTreeMap<Mac, (u64, u64)>,
    first: Option<Mac>,
    current: Option<Mac>,
    changes: u64,
    changed: u64,
    races: u64,
    seen: Seen,
}

#[derive(Debug)]
struct Refuser {
    addresses: Distinct<Ipv6Addr>,
    seen: Seen,
}

#[derive(Debug)]
pub(super) struct NdpSpoofing {
    addresses: Bounded<(Link, Ipv6Addr), Address>,
    /// Addresses under duplicate detection, and when.
    probed: Bounded<(Link, Ipv6Addr), u64>,
    refusers: Bounded<(Link, Mac), Refuser>,
}

impl Default for NdpSpoofing {
    fn default() -> Self {
        Self {
            addresses: Bounded::new(ADDRESSES),
            probed: Bounded::new(ADDRESSES),
            refusers: Bounded::new(STATIONS),
        }
    }
}

/// The link-layer address in the option of this kind (1 source, 2 target).
fn link_address(body: &[u8], kind: u8) -> Option<Mac> {
    let mut options = body.get(16..)?;
    loop {
        let [code, eights, rest @ ..] = options else { return None };
        if *code == kind && *eights == 1 {
            return rest.first_chunk::<6>().copied();
        }
        options = options.get(usize::from(*eights) * 8..).filter(|_| *eights > 0)?;
    }
}

impl Detector for NdpSpoofing {
    fn about(&self) -> About {
        About {
            id: "ndp-spoofing",
            sees: "two stations advertising one IPv6 address with override, or one refusing others \
                   their addresses; silent on announcements of a change, proxies, anycast, virtual \
                   routers and a single real duplicate.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let (Network::V6(ip), Transport::Icmp(icmp)) =
            (packet.headers.network, packet.headers.transport)
        else {
            return;
        };
        let body = packet.payload();
        let Some(target) = body.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets)) else {
            return;
        };
        let link = link_of(packet);
        match icmp.icmp_type {
            SOLICITATION if ip.src.is_unspecified() => {
                *self.probed.entry_or_forget((link, target), || packet.at) = packet.at;
            }
            SOLICITATION => {
                self.addresses.entry_or_forget((link, target), Address::default).asked =
                    Some(packet.at);
            }
            ADVERTISEMENT => {
                let frame = packet.headers.ethernet.map(|frame| frame.src);
                let Some(mac) = link_address(body, 2).or(frame) else { return };
                let probed = self
                    .probed
                    .get(&(link, target))
                    .is_some_and(|at| packet.at.saturating_sub(*at) <= RACE_NS);
                if probed && icmp.rest & SOLICITED == 0 {
                    let refuser =
                        self.refusers.entry_or_forget((link, frame.unwrap_or(mac)), || Refuser {
                            addresses: Distinct::new(256),
                            seen: Seen::default(),
                        });
                    refuser.addresses.add(target);
                    refuser.seen.add(packet);
                }
                if icmp.rest & OVERRIDE != 0 && !matches!(mac, [0, 0, 0x5e, 0, 2, _]) {
                    self.addresses.entry_or_forget((link, target), Address::default).advertised(
                        packet,
                        mac,
                        icmp.rest & SOLICITED != 0,
                    );
                }
            }
            _ => {}
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let mut findings = Vec::new();
        let addresses = std::mem::replace(&mut self.addresses, Bounded::new(1));
        for ((_, ip), address) in addresses.into_oldest_first() {
            findings.extend(address.finding(ip, context));
        }
        let refusers = std::mem::replace(&mut self.refusers, Bounded::new(1));
        for ((_, mac), refuser) in refusers.into_oldest_first() {
            if refuser.addresses.len() >= REFUSALS {
                findings.push(refusal(mac, &refuser, context));
            }
        }
        findings
    }
}

impl Address {
    fn advertised(&mut self, packet: &Packet<'_>, mac: Mac, solicited: bool) {
        let asked = self.asked.filter(|at| packet.at.saturating_sub(*at) <= ASKED_NS);
        if self.claims.len() < 4 || self.claims.contains_key(&mac) {
            let claim = self.claims.entry(mac).or_default();
            claim.0 += u64::from(asked.is_none() || !solicited);
            claim.1 += 1;
        }
        if let Some(asked) = asked.filter(|_| solicited) {
            if let Some((of, who)) = self.answered
                && of == asked
                && who != mac
                && packet.at.saturating_sub(asked) <= RACE_NS
            {
                self.races += 1;
            }
            self.answered = Some((asked, mac));
        }
        self.first.get_or_insert(mac);
        if self.current.is_some_and(|current| current != mac) {
            if packet.at.saturating_sub(self.changed) > CHANGES_NS {
                self.changes = 0;
            }
            self.changes += 1;
            self.changed = packet.at;
        }
        self.current = Some(mac);
        if self.claims.len() > 1 {
            self.seen.add(packet);
        }
    }

    fn finding(&self, ip: Ipv6Addr, context: &Context<'_>) -> Option<Finding> {
        let first = self.first?;
        let (suspect, (unasked, all)) = self
            .claims
            .iter()
            .filter(|(mac, _)| **mac != first)
            .max_by_key(|(_, counts)| **counts)?;
        let mut evidence = Vec::new();
        if *unasked >= UNASKED {
            evidence.push(format!(
                "{} advertised it {unasked} times unasked; announcing a change takes at most three.",
                mac_text(*suspect)
            ));
        }
        if self.changes >= CHANGES {
            evidence.push(format!("Ownership changed {} times within a minute.", self.changes));
        }
        if self.races > 0 {
            evidence.push(format!("{} solicitations were answered by both.", self.races));
        }
        if evidence.is_empty() {
            return None;
        }
        evidence.push(format!("{} advertised it first.", mac_text(first)));
        let text = mac_text(*suspect);
        let believed = context.tables.neighbours.iter().any(|fact| {
            fact.at >= self.seen.first()
                && fact
                    .neighbours
                    .iter()
                    .any(|n| n.address == ip && n.mac.eq_ignore_ascii_case(&text))
        });
        Some(
            Draft {
                id: "ndp-spoofing",
                severity: "high",
                doubt: (*unasked < UNASKED)
                    .then_some("medium: two hosts configured with one address look the same"),
                title: format!("{text} advertises {ip}, which {} has.", mac_text(first)),
                evidence,
                effect: match (context.has_stack(), believed) {
                    (false, _) => "not observable: a capture has no neighbour table.".to_owned(),
                    (true, true) => {
                        format!("confirmed: the neighbour table listed {ip} at {text}.")
                    }
                    (true, false) => {
                        format!(
                            "not confirmed: no neighbour entry of {ip} was seen to name {text}."
                        )
                    }
                },
                advice: "Pin the router's entry (ip -6 neigh replace ADDRESS lladdr MAC dev IF nud \
                         permanent) and find the station in the switch's address table.",
                actors: vec![format!("{text} ({all} advertisements; can be forged)")],
                targets: vec![ip.to_string()],
                seen: &self.seen,
                references: &[
                    "RFC 4861 section 7.2",
                    "RFC 3756 section 4.1.1",
                    "MITRE ATT&CK T1557",
                ],
            }
            .finding(context),
        )
    }
}

fn refusal(mac: Mac, refuser: &Refuser, context: &Context<'_>) -> Finding {
    let text = mac_text(mac);
    Draft {
        id: "ndp-address-refusal",
        severity: "high",
        doubt: None,
        title: format!(
            "{text} answered duplicate address detection for {} addresses: nobody gets one.",
            refuser.addresses.count()
        ),
        evidence: vec![format!(
            "Among them: {}.",
            listed(refuser.addresses.iter().map(ToString::to_string), 5)
        )],
        effect: "not observable: whether the hosts gave up is on them.".to_owned(),
        advice: "Find the station in the switch's address table (RFC 7527 tells a loop from an \
                 attack).",
        actors: vec![text],
        targets: refuser.addresses.iter().take(5).map(ToString::to_string).collect(),
        seen: &refuser.seen,
        references: &["RFC 4862 section 5.4", "RFC 3756 section 4.1.3", "MITRE ATT&CK T1499"],
    }
    .finding(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, ALL, B, GATEWAY, Scene, icmp, ip_with};

    fn solicit(from: &str, target: &str) -> Vec<u8> {
        let target: Ipv6Addr = target.parse().expect("address");
        let message = icmp(SOLICITATION, 0, 0, &target.octets());
        ip_with((A, ALL), (from, "ff02::1:ff00:1"), 58, (255, 0, 0), &message)
    }

    fn advertise(mac: Mac, target: &str, flags: u32) -> Vec<u8> {
        let address: Ipv6Addr = target.parse().expect("address");
        let body = [&address.octets()[..], &[2, 1], &mac].concat();
        let message = icmp(ADVERTISEMENT, 0, flags, &body);
        ip_with((mac, ALL), (target, "ff02::1"), 58, (255, 0, 0), &message)
    }

    #[test]
    fn attacks_and_their_twins() {
        let asked = solicit("fe80::a", "fe80::1");
        let real = advertise(GATEWAY, "fe80::1", SOLICITED | OVERRIDE);
        let forged = advertise(B, "fe80::1", OVERRIDE);
        let proxied = advertise(B, "fe80::1", SOLICITED);
        type Case = (&'static str, Vec<Vec<u8>>, &'static [&'static str]);
        let insists: Vec<_> =
            [asked.clone(), real.clone()].into_iter().chain(vec![forged.clone(); 4]).collect();
        let announces: Vec<_> =
            [asked.clone(), real.clone()].into_iter().chain(vec![forged.clone(); 3]).collect();
        let dad = |n: u16| {
            let target = format!("fe80::{n}");
            [solicit("::", &target), advertise(B, &target, OVERRIDE)]
        };
        let cases: Vec<Case> = vec![
            ("insists", insists, &["ndp-spoofing"]),
            ("announces a change", announces, &[]),
            (
                "both answer",
                vec![asked.clone(), real.clone(), advertise(B, "fe80::1", SOLICITED | OVERRIDE)],
                &["ndp-spoofing"],
            ),
            ("a proxy", vec![asked.clone(), real, proxied], &[]),
            ("refuses all", (1..=4).flat_map(dad).collect(), &["ndp-address-refusal"]),
            ("one duplicate", (1..=1).flat_map(dad).collect(), &[]),
        ];
        for (name, frames, expected) in cases {
            let mut scene = Scene::of(NdpSpoofing::default());
            for (n, frame) in frames.iter().enumerate() {
                // Unasked claims come long after the question.
                scene.frame(if n < 3 { n as u64 } else { 10_000 + n as u64 }, frame);
            }
            assert_eq!(scene.ids(), expected, "{name}");
        }
    }
}
