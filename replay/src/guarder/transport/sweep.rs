//! Scans that SYNs and datagrams do not show: ACK scans (which ports are filtered) and ping sweeps (which
//! hosts are there).
//!
//! **Sees**
//! - bare ACKs, or FINs with ACK (Maimon scan), outside of any connection to 15 or more ports of a host
//!   within five minutes, each the only segment of its conversation but for a reset in answer;
//! - ICMP echo or timestamp requests to 25 or more hosts within five minutes of which at most half answer.
//!
//! The numbers are those of Zeek's `policy/misc/scan.zeek`. **Silent on** connections begun before the
//! recording (they go on), pollers whose hosts answer, and one host pinged often.

use std::collections::BTreeMap;
use std::net::IpAddr;

use psc_formats::packet::{Network, Transport};

use crate::analyzer::tcp::{ACK, FIN, RST, SYN};
use crate::bounded::Bounded;
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Distinct, Draft, Seen, listed};
use crate::guarder::watch::{Tally, Watch};
use crate::view::detect::Finding;

const WINDOW_NS: u64 = 300_000_000_000;
const PORTS: usize = 15;
const HOSTS: usize = 25;
const WATCHED: usize = 2_048;
const REMEMBERED: usize = 512;

/// What came of a bare ACK to one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    Asked,
    Reset,
    /// The conversation went on: a connection.
    Connected,
}

#[derive(Debug, Default)]
struct Acks {
    start: u64,
    ports: BTreeMap<(u16, u16), Port>,
    fins: u64,
    seen: Seen,
}

impl Acks {
    fn asked(&self) -> (usize, usize) {
        let reset = self.ports.values().filter(|port| **port == Port::Reset).count();
        let asked = self.ports.values().filter(|port| **port == Port::Asked).count();
        (reset, asked)
    }

    fn is_scan(&self) -> bool {
        let (reset, asked) = self.asked();
        let connected = self.ports.len() - reset - asked;
        let mut ports: Vec<u16> = self
            .ports
            .iter()
            .filter(|(_, p)| **p != Port::Connected)
            .map(|((_, d), _)| *d)
            .collect();
        ports.dedup();
        ports.sort_unstable();
        ports.dedup();
        ports.len() >= PORTS && connected * 4 <= reset + asked
    }
}

#[derive(Debug)]
struct Pings {
    targets: Distinct<IpAddr>,
    answered: Distinct<IpAddr>,
}

impl Tally for Pings {
    fn new() -> Self {
        Self { targets: Distinct::new(REMEMBERED), answered: Distinct::new(REMEMBERED) }
    }
    fn is_attack(&self) -> bool {
        self.targets.len() >= HOSTS && self.answered.len() * 2 <= self.targets.len()
    }
    fn merge(&mut self, later: Self) {
        self.targets.merge(later.targets);
        self.answered.merge(later.answered);
    }
}

#[derive(Debug)]
pub(super) struct Sweep {
    acks: Bounded<(IpAddr, IpAddr), Acks>,
    kept: Vec<((IpAddr, IpAddr), Acks)>,
    pings: Watch<IpAddr, Pings>,
}

impl Default for Sweep {
    fn default() -> Self {
        Self {
            acks: Bounded::new(WATCHED),
            kept: Vec::new(),
            pings: Watch::new(WATCHED, WINDOW_NS),
        }
    }
}

impl Detector for Sweep {
    fn about(&self) -> About {
        About {
            id: "sweep",
            sees: "ACK scans of 15 or more ports and pings of 25 or more hosts, most of them absent, \
                   within five minutes; silent on connections begun before and on pollers whose hosts \
                   answer.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Some(tuple) = packet.headers.tuple() else { return };
        match packet.headers.transport {
            Transport::Tcp(tcp) => {
                let flags = tcp.flags & (SYN | ACK | RST | FIN);
                // A server that closes what began before the recording sends FINs to clients' ports, which
                // are not below those that systems hand out (Linux: 32768).
                let maimon = flags == FIN | ACK && tcp.dport < 32_768;
                let bare = (flags == ACK || maimon) && packet.headers.payload_len == 0;
                let unknown = packet.flows.get(&tuple).is_none();
                if bare && unknown {
                    let mut spill = Vec::new();
                    let acks = self.acks.entry((tuple.src, tuple.dst), Acks::default, &mut spill);
                    if acks.seen.packets == 0
                        || packet.at.saturating_sub(acks.start) > WINDOW_NS && !acks.is_scan()
                    {
                        *acks = Acks { start: packet.at, ..Acks::default() };
                    }
                    if acks.ports.len() < REMEMBERED {
                        acks.ports.insert((tuple.sport, tuple.dport), Port::Asked);
                    }
                    acks.fins += u64::from(maimon);
                    acks.seen.add(packet);
                    self.keep(spill);
                } else if let Some(acks) = self.acks.get_mut(&(tuple.dst, tuple.src))
                    && let Some(port) = acks.ports.get_mut(&(tuple.dport, tuple.sport))
                {
                    *port = if tcp.flags & RST != 0 && *port != Port::Connected {
                        Port::Reset
                    } else {
                        Port::Connected
                    };
                } else if !bare
                    && let Some(acks) = self.acks.get_mut(&(tuple.src, tuple.dst))
                    && let Some(port) = acks.ports.get_mut(&(tuple.sport, tuple.dport))
                    && tcp.flags & RST == 0
                {
                    *port = Port::Connected;
                }
            }
            Transport::Icmp(icmp) => {
                let (asks, answers) = match packet.headers.network {
                    Network::V4(_) => {
                        (matches!(icmp.icmp_type, 8 | 13), matches!(icmp.icmp_type, 0 | 14))
                    }
                    _ => (icmp.icmp_type == 128, icmp.icmp_type == 129),
                };
                if asks && !tuple.dst.is_multicast() {
                    self.pings.of(tuple.src, packet.at).add(packet, |pings| {
                        pings.targets.add(tuple.dst);
                    });
                } else if answers && let Some(asker) = self.pings.known(&tuple.dst) {
                    asker.note(|pings| {
                        if pings.targets.contains(&tuple.src) {
                            pings.answered.add(tuple.src);
                        }
                    });
                }
            }
            Transport::Udp(_) | Transport::Ports(..) | Transport::None => {}
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let acks = std::mem::replace(&mut self.acks, Bounded::new(1));
        self.keep(acks.into_oldest_first());
        let mut findings: Vec<Finding> = std::mem::take(&mut self.kept)
            .iter()
            .map(|((source, host), acks)| ack_scan(*source, *host, acks, context))
            .collect();
        for (source, watched) in self.pings.finish() {
            let pings = &watched.attack;
            findings.push(
                Draft {
                    id: "ping-sweep",
                    severity: "low",
                    doubt: None,
                    title: format!(
                        "{source} pinged {} hosts of which {} answered.",
                        pings.targets.count(),
                        pings.answered.count()
                    ),
                    evidence: vec![format!(
                        "Pinged: {}.",
                        listed(pings.targets.iter().map(ToString::to_string), 20)
                    )],
                    effect: format!("confirmed: it learned of {} hosts.", pings.answered.count()),
                    advice: "Limit echo requests from outside per source, if hosts are not to be found.",
                    actors: vec![format!("{source} (it must read the answers)")],
                    targets: pings.targets.iter().take(5).map(ToString::to_string).collect(),
                    seen: &watched.evidence,
                    references: &["MITRE ATT&CK T1018", "MITRE ATT&CK T1595.001", "Zeek policy/misc/scan.zeek"],
                }
                .finding(context),
            );
        }
        findings
    }
}

impl Sweep {
    fn keep(&mut self, gone: Vec<((IpAddr, IpAddr), Acks)>) {
        let room = WATCHED.saturating_sub(self.kept.len());
        self.kept.extend(gone.into_iter().filter(|(_, acks)| acks.is_scan()).take(room));
    }
}

fn ack_scan(source: IpAddr, host: IpAddr, acks: &Acks, context: &Context<'_>) -> Finding {
    let (reset, silent) = acks.asked();
    let ports =
        acks.ports.iter().filter(|(_, p)| **p != Port::Connected).map(|((_, d), _)| d.to_string());
    let ports: Vec<String> = ports.collect();
    Draft {
        id: "port-scan",
        severity: "low",
        doubt: (reset == 0).then_some(
            "medium: nothing was answered, which connections begun before the recording may look like",
        ),
        title: format!(
            "{source} sent ACKs of no connection to {} ports of {host} ({}).",
            ports.len(),
            if acks.fins * 2 > acks.seen.packets { "Maimon scan" } else { "ACK scan" }
        ),
        evidence: vec![
            format!("{reset} were answered by a reset (unfiltered), {silent} by nothing (filtered)."),
            format!("Ports: {}.", listed(ports.into_iter(), 20)),
        ],
        effect: format!("confirmed: it learned that {reset} ports are not filtered."),
        advice: "Drop segments of no connection at the border (nft: ct state invalid drop).",
        actors: vec![format!("{source} (unproven: no handshake, so the address may be forged)")],
        targets: vec![host.to_string()],
        seen: &acks.seen,
        references: &["MITRE ATT&CK T1046", "MITRE ATT&CK T1595.001", "RFC 9293 section 3.10.7.1"],
    }
    .finding(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, icmp, ip};
    use crate::sample;

    #[test]
    fn bare_acks_to_many_ports_are_a_scan_and_connections_are_not() {
        for (ports, goes_on, found) in [(15_u16, false, 1), (14, false, 0), (100, true, 0)] {
            let mut scene = Scene::of(Sweep::default());
            for port in 1..=ports {
                let (from, to) = (format!("10.0.0.9:{}", 4000), format!("10.0.0.2:{port}"));
                let at = u64::from(port);
                scene.headers(at, &sample::tcp(&from, &to, ACK, 1, 77, 0));
                if goes_on {
                    scene.headers(at, &sample::tcp(&to, &from, ACK, 77, 1, 5));
                } else {
                    scene.headers(at, &sample::tcp(&to, &from, RST, 77, 0, 0));
                }
            }
            assert_eq!(scene.ids().len(), found, "{ports}");
        }
    }

    #[test]
    fn pings_to_absent_hosts_are_a_sweep() {
        for (hosts, answer, found) in [(25, 0, 1), (24, 0, 0), (100, 1, 0), (100, 3, 1)] {
            let mut scene = Scene::of(Sweep::default());
            for i in 0..hosts {
                let host = format!("10.0.1.{i}");
                scene.frame(i * 10, &ip((A, B), "10.0.0.9", &host, 1, &icmp(8, 0, 1, &[])));
                if answer != 0 && i % answer == 0 {
                    scene.frame(i * 10, &ip((B, A), &host, "10.0.0.9", 1, &icmp(0, 0, 1, &[])));
                }
            }
            assert_eq!(scene.ids().len(), found, "{hosts} hosts, 1 of {answer} answers");
        }
    }
}
