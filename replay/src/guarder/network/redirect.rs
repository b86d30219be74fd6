//! Forged ICMP redirects (RFC 792, RFC 4861 section 8): somebody who is not the gateway in use tells a
//! host to send its packets elsewhere.
//!
//! **Sees** redirects and the packets that they quote. Signs: the frame comes from another station than
//! the one through which the host sends that flow; the quoted packet was never sent, though what the
//! host sends is in view; the sender names itself as the better gateway in the real gateway's name; in
//! IPv6, not from a link-local address with hop limit 255. Three redirects for a host out of view are
//! reported with low confidence.
//!
//! **Silent on** the genuine one: from the station that just got the quoted packet, naming another.
//!
//! Cannot tell an attacker that already is the gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use psc_formats::packet::{Mac, Network, Transport};

use super::quoted::{Verdict, judge};
use crate::bounded::Bounded;
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Distinct, Draft, Seen, counted, listed};
use crate::view::detect::Finding;

const HOSTS: usize = 4_096;
const STATIONS: usize = 4_096;
const UNSEEN: u64 = 3;

/// Redirects of one host to one gateway.
#[derive(Debug)]
struct Told {
    seen: Seen,
    senders: Distinct<IpAddr>,
    about: Distinct<IpAddr>,
    signs: BTreeSet<&'static str>,
    unseen: u64,
    /// Station that the flow went to before, per destination.
    before: BTreeMap<IpAddr, [u8; 6]>,
    /// Packets to those destinations that went elsewhere afterwards.
    diverted: u64,
    diverted_to: Option<[u8; 6]>,
}

#[derive(Debug)]
pub(super) struct Redirect {
    /// (host told, gateway named).
    told: Bounded<(IpAddr, IpAddr), Told>,
    /// Gateways named to a host, to follow what it does next.
    followed: Bounded<IpAddr, Vec<IpAddr>>,
    /// Stations of addresses by ARP, and of IPv6 routers by their advertisements.
    stations: Bounded<IpAddr, [u8; 6]>,
}

impl Default for Redirect {
    fn default() -> Self {
        Self {
            told: Bounded::new(HOSTS),
            followed: Bounded::new(HOSTS),
            stations: Bounded::new(STATIONS),
        }
    }
}

impl Detector for Redirect {
    fn about(&self) -> About {
        About {
            id: "forged-redirect",
            sees: "ICMP and ICMPv6 redirects that do not come from the gateway in use, or about \
                   packets never sent; silent on a gateway's genuine redirect.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        if let Network::Arp(arp) = packet.headers.network {
            let sender = IpAddr::V4(arp.sender);
            *self.stations.entry_or_forget(sender, || arp.sender_mac) = arp.sender_mac;
            return;
        }
        let Some((src, dst)) = packet.headers.addresses() else { return };
        self.follow(packet, src, dst);
        let Transport::Icmp(icmp) = packet.headers.transport else { return };
        let mut signs = Vec::new();
        let gateway: IpAddr = match (packet.headers.network, icmp.icmp_type) {
            (Network::V4(_), 5) => Ipv4Addr::from(icmp.rest).into(),
            (Network::V6(_), 134) => {
                if let Some(frame) = packet.headers.ethernet {
                    self.stations.entry_or_forget(src, || frame.src);
                }
                return;
            }
            (Network::V6(ip), 137) => {
                let Some(target) = packet.payload().first_chunk::<16>() else { return };
                if !ip.src.is_unicast_link_local() || ip.hop_limit != 255 {
                    signs.push("it did not come from a router of this link");
                }
                Ipv6Addr::from(*target).into()
            }
            _ => return,
        };
        // The packet may be left out (RFC 4861 section 4.6.3); IPv6 says all the same what it is about.
        let (host, about, verdict, way) = match (icmp.quoted, packet.payload().get(16..32)) {
            (Some(quoted), _) => {
                let way = packet.flows.sent(&quoted.tuple).and_then(|side| side.to_mac);
                (quoted.tuple.src, quoted.tuple.dst, judge(packet, &quoted), way)
            }
            (None, Some(about)) if dst.is_ipv6() => {
                let Ok(about) = <[u8; 16]>::try_from(about) else { return };
                (dst, Ipv6Addr::from(about).into(), Verdict::Plausible, None)
            }
            (None, _) => return,
        };
        match verdict {
            Verdict::NoSuchFlow => signs.push("it quotes a flow that the host never had"),
            Verdict::NoSuchProtocol => {
                signs.push("it quotes a protocol of which the host sent nothing in view");
            }
            Verdict::NeverSent => signs.push("it quotes a sequence number that was never sent"),
            Verdict::Stale => signs.push("it quotes data acknowledged long ago"),
            Verdict::Plausible | Verdict::CannotSay => {}
        }
        let frame = packet.headers.ethernet;
        if let (Some(frame), Some(way)) = (frame, way)
            && frame.src != way
            && !is_virtual(way)
        {
            signs.push("it comes from another station than the gateway in use");
        }
        if let Some(frame) = frame
            && src.is_ipv6()
            && self.stations.get(&src).is_some_and(|router| *router != frame.src)
        {
            signs.push("it comes from another station than the router in whose name it is");
        }
        if let (Some(frame), named @ IpAddr::V4(_)) = (frame, gateway)
            && src != gateway
            && gateway != about
            && self.stations.get(&named) == Some(&frame.src)
            && way.is_none_or(|way| way != frame.src)
        {
            signs.push("its sender is the station that it names as the better gateway");
        }
        let unseen = verdict == Verdict::CannotSay && way.is_none();
        if signs.is_empty() && !unseen {
            return;
        }
        let told = self.told.entry_or_forget((host, gateway), || Told {
            seen: Seen::default(),
            senders: Distinct::new(64),
            about: Distinct::new(64),
            signs: BTreeSet::new(),
            unseen: 0,
            before: BTreeMap::new(),
            diverted: 0,
            diverted_to: None,
        });
        told.seen.add(packet);
        told.senders.add(src);
        told.about.add(about);
        told.signs.extend(signs);
        told.unseen += u64::from(unseen);
        if let Some(way) = way.filter(|_| told.before.len() < 64) {
            told.before.entry(about).or_insert(way);
        }
        let followed = self.followed.entry_or_forget(host, Vec::new);
        if followed.len() < 8 && !followed.contains(&gateway) {
            followed.push(gateway);
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let told = std::mem::replace(&mut self.told, Bounded::new(1));
        told.into_oldest_first()
            .into_iter()
            .filter(|(_, told)| !told.signs.is_empty() || told.unseen >= UNSEEN)
            .map(|((host, gateway), told)| finding(host, gateway, &told, context))
            .collect()
    }
}

impl Redirect {
    /// Whether the host does as it was told: its frames to that destination go to another station.
    fn follow(&mut self, packet: &Packet<'_>, src: IpAddr, dst: IpAddr) {
        let Some(gateways) = self.followed.get(&src) else { return };
        let Some(frame) = packet.headers.ethernet else { return };
        for gateway in gateways {
            if let Some(told) = self.told.get_mut(&(src, *gateway))
                && told.before.get(&dst).is_some_and(|before| *before != frame.dst)
            {
                told.diverted += 1;
                told.diverted_to = Some(frame.dst);
            }
        }
    }
}

fn is_virtual(mac: [u8; 6]) -> bool {
    matches!(mac, [0, 0, 0x5e, 0, 1 | 2, _] | [0, 0, 0x0c, 7, 0xac, _] | [0, 7, 0xb4, ..])
}

fn finding(host: IpAddr, gateway: IpAddr, told: &Told, context: &Context<'_>) -> Finding {
    let strong = told.signs.iter().any(|sign| !sign.contains("in view"));
    let doubt = if told.signs.is_empty() {
        Some("low: what the host sends is not in view, so whether it asked for this is not known")
    } else if !strong {
        Some("medium: the recording may not show all that the host sends")
    } else {
        None
    };
    let mut evidence = vec![format!(
        "{} about {}.",
        counted(told.seen.packets, "redirect"),
        listed(told.about.iter().map(ToString::to_string), 5)
    )];
    if !told.signs.is_empty() {
        let signs: Vec<&str> = told.signs.iter().copied().collect();
        evidence.push(format!("Signs: {}.", signs.join("; ")));
    }
    let effect = match told.diverted_to {
        Some(mac) => format!(
            "confirmed: {} of {host} to these destinations went to {} afterwards.",
            counted(told.diverted, "packet"),
            Mac(mac)
        ),
        None if told.before.is_empty() => {
            "not observable: where the host sent these packets is not in view.".to_owned()
        }
        None => "not confirmed: no packet was seen to take another way afterwards.".to_owned(),
    };
    Draft {
        id: "forged-redirect",
        severity: if strong && doubt.is_none() { "high" } else { "medium" },
        doubt,
        title: format!("{host} was told to use {gateway} as its gateway, by a forged redirect."),
        evidence,
        effect,
        advice: "Set net.ipv4.conf.all.accept_redirects=0 and net.ipv6.conf.all.accept_redirects=0, \
                 then `ip route flush cache`.",
        actors: vec![format!(
            "{} (unproven: the source of ICMP can be forged)",
            listed(told.senders.iter().map(ToString::to_string), 5)
        )],
        targets: vec![host.to_string()],
        seen: &told.seen,
        references: &["RFC 792", "RFC 1122 section 3.2.2.2", "RFC 4861 section 8", "MITRE ATT&CK T1557"],
    }
    .finding(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, GATEWAY, Scene, icmp, ip, tcp, v4};
    use crate::sample;

    const HOST: &str = "10.0.0.2";
    const PEER: &str = "192.0.2.9";
    const BETTER: u32 = 0x0a00_0003;

    fn redirect(mac: [u8; 6], port: u16, seq: u32) -> Vec<u8> {
        let segment = tcp((port, 80), 0x10, seq, 1, &[], &[]);
        let quote = v4(sample::v4(HOST), sample::v4(PEER), 6, (63, 1, 0x4000), &segment);
        ip((mac, A), "10.0.0.1", HOST, 1, &icmp(5, 1, BETTER, &quote))
    }

    fn scene(redirects: &[Vec<u8>], then: [u8; 6]) -> Vec<Finding> {
        let mut scene = Scene::of(Redirect::default());
        for i in 0..20 {
            let data = tcp((40_000, 80), 0x10, 1000 + i, 1, &[], &[0]);
            scene.frame(u64::from(i) * 100, &ip((A, GATEWAY), HOST, PEER, 6, &data));
        }
        for (n, message) in redirects.iter().enumerate() {
            scene.frame(2000 + n as u64, message);
        }
        let data = tcp((40_000, 80), 0x10, 1020, 1, &[], &[0]);
        scene.frame(2500, &ip((A, then), HOST, PEER, 6, &data));
        scene.findings()
    }

    #[test]
    fn the_gateways_own_redirect_is_genuine() {
        let found = scene(&[redirect(GATEWAY, 40_000, 1019)], [2, 0, 0, 0, 0, 3]);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn another_station_or_an_unknown_packet_is_not() {
        let found = scene(&[redirect(B, 40_000, 1019)], B);
        assert_eq!((found.len(), found[0].confidence.as_str()), (1, "high"));
        assert!(found[0].effect.starts_with("confirmed: 1 packet"), "{}", found[0].effect);
        let found = scene(&[redirect(GATEWAY, 41_000, 5)], GATEWAY);
        assert_eq!(found.len(), 1);
        assert!(found[0].effect.starts_with("not observable"), "{}", found[0].effect);
    }

    #[test]
    fn for_a_host_out_of_view_three_are_reported_with_doubt() {
        for (n, found) in [(2, 0), (3, 1)] {
            let mut scene = Scene::of(Redirect::default());
            (0..n).for_each(|i| scene.frame(i, &redirect(B, 40_000, 1)));
            let findings = scene.findings();
            assert_eq!(findings.len(), found);
            assert!(findings.iter().all(|f| f.confidence.starts_with("low")));
        }
    }
}
