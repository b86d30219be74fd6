//! Carpet bombing: a flood that is spread over a whole network, so that no host of it gets enough to be noticed.
//!
//! **Sees**, per /24 (IPv6: /64) within ten seconds, and 50 or more hosts of it,
//! - 2,000 or more TCP connections begun in vain by 500 or more sources;
//! - 1,000 or more answers of amplifying services that nobody had asked for, from 10 or more servers, of 200 bytes
//!   or more on average.
//!
//! **Silent on** scans (few sources), a network's own resolvers and time (asked for), and floods of one host, which
//! are told as such.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use psc_formats::packet::Transport;

use super::amplification::service;
use crate::bounded::Bounded;
use crate::guarder::attempt::{Change, Turn};
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Distinct, Draft, Seen};
use crate::guarder::watch::{Tally, Watch};
use crate::view::detect::Finding;

const WINDOW_NS: u64 = 10_000_000_000;
const NETWORKS: usize = 512;
const HOSTS: usize = 50;
const CONNECTIONS: u64 = 2_000;
const SOURCES: usize = 500;
const ANSWERS: u64 = 1_000;
const SERVERS: usize = 10;
const LARGE: u64 = 200;

/// One ten seconds of a network.
#[derive(Debug)]
struct Load {
    packets: u64,
    bytes: u64,
    hosts: Distinct<IpAddr>,
    sources: Distinct<IpAddr>,
}

impl Tally for Load {
    fn new() -> Self {
        Self { packets: 0, bytes: 0, hosts: Distinct::new(256), sources: Distinct::new(1_024) }
    }
    fn is_attack(&self) -> bool {
        self.is_spread()
            && self.packets >= ANSWERS
            && self.sources.len() >= SERVERS
            && self.bytes >= self.packets * LARGE
    }
    fn merge(&mut self, later: Self) {
        self.packets += later.packets;
        self.bytes += later.bytes;
        self.hosts.merge(later.hosts);
        self.sources.merge(later.sources);
    }
}

impl Load {
    /// Over many hosts: one that gets much alone is told alone.
    fn is_spread(&self) -> bool {
        self.hosts.len() >= HOSTS && self.packets <= self.hosts.len() as u64 * 100
    }
}

#[derive(Debug)]
struct Begun {
    start: u64,
    load: Load,
    seen: Seen,
    worst: Option<(Load, Seen)>,
}

#[derive(Debug)]
pub(super) struct Carpet {
    answers: Watch<(IpAddr, u16), Load>,
    begun: Bounded<IpAddr, Begun>,
}

impl Default for Carpet {
    fn default() -> Self {
        Self { answers: Watch::new(NETWORKS, WINDOW_NS), begun: Bounded::new(NETWORKS) }
    }
}

/// First address of the network.
fn network(host: IpAddr) -> IpAddr {
    match host {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & 0xffff_ff00).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

fn written(network: IpAddr) -> String {
    format!("{network}/{}", if network.is_ipv4() { 24 } else { 64 })
}

impl Begun {
    fn settle(&mut self, next: u64) {
        let load = std::mem::replace(&mut self.load, Load::new());
        let seen = std::mem::take(&mut self.seen);
        let flood =
            load.is_spread() && load.packets >= CONNECTIONS && load.sources.len() >= SOURCES;
        if flood && self.worst.as_ref().is_none_or(|(worst, _)| worst.packets < load.packets) {
            self.worst = Some((load, seen));
        }
        self.start = next;
    }
}

impl Detector for Carpet {
    fn about(&self) -> About {
        About {
            id: "carpet-bombing",
            sees: "2,000 connections begun in vain by 500 sources, or 1,000 unasked answers of amplifying \
                   services, within ten seconds over 50 or more hosts of one network; silent on scans and on \
                   floods of one host.",
        }
    }

    fn attempt(&mut self, change: &Change) {
        let vain = matches!(change.turn, Turn::Unanswered | Turn::Refused);
        if change.protocol != 6 || !vain {
            return;
        }
        let (at, host) = (change.at, change.server.ip());
        let fresh = || Begun { start: at, load: Load::new(), seen: Seen::default(), worst: None };
        let begun = self.begun.entry_or_forget(network(host), fresh);
        if at.saturating_sub(begun.start) >= WINDOW_NS {
            begun.settle(at);
        }
        begun.load.packets += 1;
        begun.load.hosts.add(host);
        begun.load.sources.add(change.client.ip());
        begun.seen.at(at, change.journey);
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Transport::Udp(udp) = packet.headers.transport else { return };
        let Some(tuple) = packet.headers.tuple().filter(|tuple| !tuple.dst.is_multicast()) else {
            return;
        };
        if service(udp.sport).is_none() || udp.sport == udp.dport {
            return;
        }
        if packet.flows.sent(&tuple.reversed()).is_none() {
            let bytes = u64::from(packet.headers.payload_len);
            self.answers.of((network(tuple.dst), udp.sport), packet.at).add(packet, |load| {
                load.packets += 1;
                load.bytes += bytes;
                load.hosts.add(tuple.dst);
                load.sources.add(tuple.src);
            });
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for ((network, port), watched) in self.answers.finish() {
            let name = service(port).map_or("", |(name, _)| name);
            let title = format!(
                "{} answers that nobody had asked for came to all of {}.",
                name,
                written(network)
            );
            findings.push(draft(network, title, &watched.attack, &watched.evidence, context));
        }
        let begun = std::mem::replace(&mut self.begun, Bounded::new(1)).into_oldest_first();
        for (network, mut begun) in begun {
            begun.settle(0);
            let Some((load, seen)) = begun.worst else { continue };
            let title = format!("Connections to all of {} were begun in vain.", written(network));
            findings.push(draft(network, title, &load, &seen, context));
        }
        findings
    }
}

fn draft(
    network: IpAddr,
    title: String,
    load: &Load,
    seen: &Seen,
    context: &Context<'_>,
) -> Finding {
    Draft {
        id: "carpet-bombing",
        severity: "high",
        doubt: None,
        title,
        evidence: vec![format!(
            "{} packets to {} hosts, from {} addresses.",
            load.packets,
            load.hosts.count(),
            load.sources.count()
        )],
        effect: "not observable: it is the link to the network that is to be filled.".to_owned(),
        advice: "Limit for the network and not for each host; ask upstream to do so.",
        actors: vec![format!("{} addresses, which may be forged", load.sources.count())],
        targets: vec![written(network)],
        seen,
        references: &["MITRE ATT&CK T1498", "RFC 4732"],
    }
    .finding(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, ip, tcp, udp};

    #[test]
    fn a_network_is_flooded_by_many_or_by_amplifiers() {
        for (name, hosts, sources, found) in
            [("carpet", 100, 600, 1), ("few hosts", 40, 600, 0), ("a scan", 100, 3, 0)]
        {
            let mut scene = Scene::of(Carpet::default());
            for n in 0..3_000_u32 {
                let from = format!("192.0.{}.{}", n % sources / 250, n % sources % 250);
                let to = format!("10.0.0.{}", n % hosts);
                let syn = tcp((2_000 + n as u16, 80), 2, n, 0, &[], &[]);
                scene.frame(u64::from(n), &ip((A, B), &from, &to, 6, &syn));
            }
            assert_eq!(scene.ids().len(), found, "{name}");
        }
        for (name, port, size, found) in
            [("monlist", 123, 440, 1), ("time", 123, 48, 0), ("a stream", 5004, 440, 0)]
        {
            let mut scene = Scene::of(Carpet::default());
            for n in 0..1_500_u32 {
                let (from, to) = (format!("192.0.2.{}", n % 20), format!("10.0.0.{}", n % 100));
                let frame = ip((A, B), &from, &to, 17, &udp(port, 80, &vec![0; size]));
                scene.frame(u64::from(n), &frame);
            }
            assert_eq!(scene.ids().len(), found, "{name}");
        }
    }
}
