//! Forged and impossible sources: martians (RFC 1812 section 5.3.7, RFC 6890), this host's own address
//! from outside, and what the stack itself refused for its source.
//!
//! **Sees**
//! - sources (and the loopback destination) that no packet on a link may have: 127.0.0.0/8, `::1`,
//!   multicast, the broadcast address, 240.0.0.0/4, IPv4-mapped IPv6; 0.0.0.0 except DHCP and IGMP;
//! - in a recording, packets received with an address of the receiving host as source;
//! - in a recording, packets that the stack dropped for their source (`IP_RPFILTER`,
//!   `IP_INVALID_SOURCE`, `IP_LOCALNET`, `IP_LOCAL_SOURCE`).
//!
//! **Silent on** loopback, DHCP, IGMP, IPv6 duplicate address detection, and private addresses, which are
//! ordinary inside.
//!
//! Asymmetric routing is refused by the reverse-path filter as well: such findings are of medium
//! confidence. A forged source that could be real is not told from a real one here; floods from many of
//! them are found as floods.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use psc_formats::EventKind;
use psc_formats::event::DeviceId;
use psc_formats::packet::{Headers, Network, Transport};

use crate::bounded::Bounded;
use crate::engine::{Sighting, World};
use crate::first_sight::Direction;
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Distinct, Draft, Seen, counted, listed};
use crate::view::detect::Finding;

const RECEIVED: usize = 16_384;

/// A single packet says little: class E has been seen as private space, devices without an address send from
/// none, and addresses are made anonymous.
const FEW: u64 = 3;

/// Who forges sends on; an anonymous address turns up now and then.
const APART_NS: u64 = 60_000_000_000;

const REASONS: [&str; 4] = ["IP_RPFILTER", "IP_INVALID_SOURCE", "IP_LOCALNET", "IP_LOCAL_SOURCE"];

/// Why an address cannot be where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wrong {
    Loopback,
    LoopbackDestination,
    Multicast,
    Broadcast,
    Reserved,
    Unspecified,
    Mapped,
}

impl Wrong {
    fn words(self) -> &'static str {
        match self {
            Self::Loopback => "from a loopback address",
            Self::LoopbackDestination => "to a loopback address",
            Self::Multicast => "from a multicast address",
            Self::Broadcast => "from the broadcast address",
            Self::Reserved => "from the reserved range 240.0.0.0/4",
            Self::Unspecified => "from no address at all",
            Self::Mapped => "from an IPv4-mapped IPv6 address",
        }
    }
}

#[derive(Debug)]
struct Odd {
    seen: Seen,
    sources: Distinct<IpAddr>,
    targets: Distinct<IpAddr>,
}

impl Odd {
    fn new() -> Self {
        Self { seen: Seen::default(), sources: Distinct::new(256), targets: Distinct::new(256) }
    }
}

#[derive(Debug)]
pub(super) struct Sources {
    odd: BTreeMap<Wrong, Odd>,
    refused: BTreeMap<&'static str, Odd>,
    /// What devices received, by source: the receiving host's own addresses are known at the end.
    received: Bounded<(DeviceId, IpAddr), Seen>,
}

impl Default for Sources {
    fn default() -> Self {
        Self { odd: BTreeMap::new(), refused: BTreeMap::new(), received: Bounded::new(RECEIVED) }
    }
}

fn judge(headers: &Headers) -> Option<Wrong> {
    let protocol = headers.protocol()?;
    match headers.network {
        Network::V4(ip) => {
            let dhcp =
                matches!(headers.transport, Transport::Udp(udp) if matches!(udp.sport, 67 | 68));
            Some(match ip.src {
                // A capture of the loopback device with made-up link addresses.
                src if src.is_loopback() && ip.dst.is_loopback() => return None,
                src if src.is_loopback() => Wrong::Loopback,
                _ if ip.dst.is_loopback() => Wrong::LoopbackDestination,
                src if src.is_multicast() => Wrong::Multicast,
                Ipv4Addr::BROADCAST => Wrong::Broadcast,
                src if src.octets()[0] >= 240 => Wrong::Reserved,
                Ipv4Addr::UNSPECIFIED if matches!(protocol, 6 | 17) && !dhcp => Wrong::Unspecified,
                _ => return None,
            })
        }
        Network::V6(ip) => Some(match ip.src {
            src if src.is_loopback() && ip.dst.is_loopback() => return None,
            src if src.is_loopback() => Wrong::Loopback,
            _ if ip.dst.is_loopback() => Wrong::LoopbackDestination,
            src if src.is_multicast() => Wrong::Multicast,
            src if src.to_ipv4_mapped().is_some() => Wrong::Mapped,
            src if src.is_unspecified() && matches!(protocol, 6) => Wrong::Unspecified,
            _ => return None,
        }),
        Network::Arp(_) | Network::None => None,
    }
}

impl Detector for Sources {
    fn about(&self) -> About {
        About {
            id: "spoofed-source",
            sees: "sources that no packet on a link may have, a host's own address from outside, \
                   and what the stack refused for its source; silent on loopback, DHCP, IGMP and \
                   private addresses.",
        }
    }

    fn sighting(&mut self, world: World<'_>, sighting: &Sighting<'_>) {
        let EventKind::Free { reason, .. } = sighting.event.kind else { return };
        let name = world.manifest.drop_reason(reason);
        let Some(reason) = REASONS.iter().find(|wanted| name == **wanted) else { return };
        let Some((src, dst)) = sighting.headers.and_then(Headers::addresses) else { return };
        let odd = self.refused.entry(reason).or_insert_with(Odd::new);
        odd.seen.at(sighting.event.at.0, sighting.journey);
        odd.sources.add(src);
        odd.targets.add(dst);
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Some((src, dst)) = packet.headers.addresses().filter(|_| packet.on_a_wire()) else {
            return;
        };
        // Who is answered is there, whatever its address: captures with rewritten addresses.
        let answered = packet
            .headers
            .tuple()
            .is_some_and(|tuple| packet.flows.sent(&tuple.reversed()).is_some());
        if let Some(wrong) = judge(packet.headers)
            && !packet.damaged
            && !answered
        {
            let odd = self.odd.entry(wrong).or_insert_with(Odd::new);
            odd.seen.add(packet);
            odd.sources.add(src);
            odd.targets.add(dst);
        }
        if packet.direction == Direction::Ingress && packet.device.0 != 0 && !dst.is_multicast() {
            self.received.entry_or_forget((packet.device, src), Seen::default).add(packet);
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut odd = std::mem::take(&mut self.odd);
        odd.retain(|_, odd| {
            let span = odd.seen.last().saturating_sub(odd.seen.first());
            odd.seen.packets >= FEW && span / odd.seen.packets <= APART_NS
        });
        let refused = std::mem::take(&mut self.refused);
        findings.extend(impossible(&odd, &refused, context));
        let received = std::mem::replace(&mut self.received, Bounded::new(1));
        for ((device, src), seen) in received.into_oldest_first() {
            findings.extend(own(device, src, &seen, context));
        }
        findings
    }
}

const ADVICE: &str = "Filter sources at the border (BCP 38); net.ipv4.conf.all.rp_filter=1 refuses what \
                      would not be answered the same way.";
const REFERENCES: &[&str] =
    &["RFC 2827 (BCP 38)", "RFC 3704", "RFC 6890", "RFC 1812 section 5.3.7"];

/// One finding for all that cannot be: a flood from random addresses has every kind.
fn impossible(
    odd: &BTreeMap<Wrong, Odd>,
    refused: &BTreeMap<&'static str, Odd>,
    context: &Context<'_>,
) -> Option<Finding> {
    let mut seen = Seen::default();
    let mut targets = Distinct::new(256);
    let mut evidence = Vec::new();
    let named = |odd: &Odd| listed(odd.sources.iter().map(ToString::to_string), 5);
    let told = |odd: &Odd| listed(odd.targets.iter().map(ToString::to_string), 5);
    for (wrong, odd) in odd {
        seen.merge(&odd.seen);
        targets.merge(odd.targets.clone());
        let n = counted(odd.seen.packets, "packet");
        evidence.push(match wrong {
            Wrong::LoopbackDestination => {
                format!("{n} {}: {} sent to {}.", wrong.words(), named(odd), told(odd))
            }
            Wrong::Unspecified => format!("{n} {}, sent to {}.", wrong.words(), told(odd)),
            _ => format!("{n} {}: {}.", wrong.words(), named(odd)),
        });
    }
    if !odd.is_empty() && !context.has_stack() {
        evidence.push("A capture whose addresses were made anonymous looks the same.".to_owned());
    }
    let mut dropped = 0;
    for (reason, odd) in refused {
        // Those that are odd as well have been counted.
        if evidence.is_empty() || *reason == "IP_RPFILTER" {
            seen.merge(&odd.seen);
        }
        targets.merge(odd.targets.clone());
        dropped += odd.seen.packets;
        let n = counted(odd.seen.packets, "packet");
        evidence.push(format!("{n} refused by the stack ({reason}): {}.", named(odd)));
    }
    if evidence.is_empty() {
        return None;
    }
    let only_filter = odd.is_empty() && refused.keys().all(|reason| *reason == "IP_RPFILTER");
    Some(
        Draft {
            id: "spoofed-source",
            severity: if dropped > 0 { "medium" } else { "low" },
            doubt: only_filter
                .then_some("medium: asymmetric routing is refused by the reverse-path filter, too"),
            title: format!(
                "{} with a source that cannot be right where it was seen.",
                counted(seen.packets, "packet")
            ),
            evidence,
            effect: if dropped > 0 {
                format!("not confirmed: the stack dropped {dropped} of them.")
            } else {
                "not observable: whether a host dropped them is not in view.".to_owned()
            },
            advice: ADVICE,
            actors: vec!["unknown: the source is forged, or a host is misconfigured".to_owned()],
            targets: targets.iter().take(5).map(ToString::to_string).collect(),
            seen: &seen,
            references: REFERENCES,
        }
        .finding(context),
    )
}

/// A host received packets from itself.
fn own(device: DeviceId, src: IpAddr, seen: &Seen, context: &Context<'_>) -> Option<Finding> {
    let here = context.tables.devices.get(&device)?;
    let text = src.to_string();
    let mut ours = context.tables.devices.values().filter(|d| d.netns == here.netns);
    let has = |local: &String| local.split('/').next() == Some(text.as_str());
    if here.kind == "loopback" || here.name == "lo" || !ours.any(|d| d.addresses.iter().any(has)) {
        return None;
    }
    Some(
        Draft {
            id: "spoofed-source",
            severity: "high",
            doubt: None,
            title: format!("{} received from {src}, which is its own.", here.name),
            evidence: vec![format!("{} came from outside.", counted(seen.packets, "packet"))],
            effect: crate::guarder::effect::counters(
                src,
                &[("TcpExtIPReversePathFilter", "packets refused for their source")],
                context,
            ),
            advice: ADVICE,
            actors: vec!["unknown: the source is forged".to_owned()],
            targets: vec![text],
            seen,
            references: REFERENCES,
        }
        .finding(context),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, ALL, B, Scene, ip, udp};

    #[test]
    fn what_no_link_carries_is_named_and_what_it_does_is_not() {
        for (src, dst, sport, found) in [
            ("127.0.0.1", "10.0.0.2", 9, "from a loopback"),
            ("10.0.0.1", "127.0.0.1", 9, "to a loopback"),
            ("224.0.0.1", "10.0.0.2", 9, "from a multicast"),
            ("255.255.255.255", "10.0.0.2", 9, "from the broadcast"),
            ("0.0.0.0", "10.0.0.2", 9, "from no address"),
            ("0.0.0.0", "255.255.255.255", 68, ""),
            ("10.0.0.1", "10.0.0.2", 9, ""),
            ("250.1.1.1", "10.0.0.2", 9, ""), // once
            ("ff02::1", "2001:db8::1", 9, "from a multicast"),
            ("::ffff:10.0.0.1", "2001:db8::1", 9, "from an IPv4-mapped"),
            ("fe80::1", "ff02::1", 9, ""),
        ] {
            let mut scene = Scene::of(Sources::default());
            for port in 1..=if src.starts_with("250") { 1 } else { 3 } {
                scene.frame(0, &ip((A, B), src, dst, 17, &udp(sport, 66 + port, &[])));
            }
            scene.frame(1, &ip(([0; 6], ALL), "127.0.0.1", "127.0.0.1", 17, &udp(1, 2, &[])));
            let titles: Vec<_> =
                scene.findings().into_iter().map(|f| f.evidence.join(" ")).collect();
            assert_eq!(titles.is_empty(), found.is_empty(), "{src} > {dst}: {titles:?}");
            assert!(titles.iter().all(|title| title.contains(found)), "{titles:?}");
        }
    }
}
