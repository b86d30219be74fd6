//! Port scan: one source trying many ports of a host, or one port of many hosts, mostly in vain.
//!
//! **Sees**: failed attempts: SYNs and first datagrams refused (reset, ICMP unreachable) or
//! unanswered, and TCP segments with no flags, FIN alone or FIN+PSH+URG, which no TCP sends. A datagram
//! needs no answer, so unanswered ones count only at a host that refused others of the same source
//! (Linux answers one port unreachable a second after the first six, `icmp_ratelimit`). **Thresholds** are those of Zeek's `policy/misc/scan.zeek`: 15 ports of one
//! host, or 25 hosts on one port, within five minutes, and at least half of those it tried failed; or as
//! many within two hours of which nine in ten failed (slow scan).
//!
//! **Silent on**: clients with many connections to few ports, health checks, a NAT address with many
//! users (their attempts succeed), a client that keeps trying a dead service (one port of one host),
//! a host whose IPv6 leads nowhere (web servers, none of which ever answers),
//! and UDP traceroute (ports 33434 to 33534, RFC 8029 section 4.3 and common practice). Associations of SCTP
//! are judged like datagrams: silence counts where others were refused.
//!
//! A peer-to-peer client whose list of peers is stale can look like a scan of many hosts.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use psc_formats::EventKind;
use psc_formats::Manifest;
use psc_formats::flow::ProtocolName;
use psc_formats::manifest::Origin;
use psc_formats::packet::{Headers, Transport};

use crate::analyzer::tcp::{ACK, FIN, RST, SYN};
use crate::bounded::Bounded;
use crate::engine::{Sighting, World};
use crate::view::detect::Finding;

use super::attempt::{Change, Turn};
use super::detect::{About, Context, Detector, Packet};
use super::evidence::{Exemplars, listed};

const PORTS: usize = 15;
const HOSTS: usize = 25;
const WINDOW_NS: u64 = 300_000_000_000;

/// A slow scan (nmap -T1 waits 15 seconds between ports, -T0 five minutes) has as many targets within two
/// hours, of which at most one in ten is there: over so long a time a working client finds more.
const SLOW_WINDOW_NS: u64 = 7_200_000_000_000;
const SLOW_WATCHED: usize = 1_024;

/// (source, host) pairs and (source, port) pairs watched at once, each.
const WATCHED: usize = 4_096;

/// Distinct ports or hosts remembered per pair.
const DISTINCT: usize = 1_024;

/// Ports or hosts named in a finding.
const NAMED: usize = 20;

const TRACEROUTE: std::ops::RangeInclusive<u16> = 33434..=33534;

const UDP: u8 = 17;
const TCP: u8 = 6;
const SCTP: u8 = 132;
const PSH_URG: u16 = 0x08 | 0x20;

/// How an attempt failed, or that it did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Result {
    Open,
    Refused,
    Unanswered,
    /// A datagram without an answer, which it may not need.
    Quiet,
    /// A segment that no TCP sends; whether it was answered says little.
    Stealth,
}

/// Attempts of one source at one host, or at one port of any host.
#[derive(Debug)]
struct Attempts<T> {
    first: u64,
    last: u64,
    /// SYNs and stealth segments sent, UDP datagrams refused.
    tried: u64,
    failed: u64,
    refused: u64,
    unanswered: u64,
    stealth: u64,
    /// Handshakes completed: the source is where it says.
    proven: u64,
    targets: BTreeSet<T>,
    /// Datagrams unanswered, which prove nothing until others are refused.
    quiet: BTreeSet<T>,
    open: BTreeSet<T>,
    exemplars: Exemplars,
}

impl<T: Ord + Copy> Attempts<T> {
    fn new(at: u64) -> Self {
        Self {
            first: at,
            last: at,
            tried: 0,
            failed: 0,
            refused: 0,
            unanswered: 0,
            stealth: 0,
            proven: 0,
            targets: BTreeSet::new(),
            quiet: BTreeSet::new(),
            open: BTreeSet::new(),
            exemplars: Exemplars::default(),
        }
    }

    /// Judged by distinct targets and not by attempts: a thousand good connections to one port do not
    /// hide a scan of forty others.
    fn is_scan(&self, distinct: usize) -> bool {
        let targets = if self.refused > 0 {
            self.targets.union(&self.quiet).count()
        } else {
            self.targets.len()
        };
        targets >= distinct && targets >= self.open.len()
    }

    /// Web pages over IPv6 that nobody ever answers: a host with an address and no way out tries each server
    /// in vain before IPv4 (RFC 8305).
    fn is_way_out_missing(&self, source: IpAddr, protocol: u8, port: u16) -> bool {
        source.is_ipv6()
            && protocol == TCP
            && matches!(port, 80 | 443)
            && self.refused == 0
            && self.stealth == 0
            && self.open.is_empty()
    }

    /// Once judged a scan, what was quiet counts.
    fn settle(&mut self) {
        if self.refused > 0 {
            self.failed += self.quiet.len() as u64;
            self.unanswered += self.quiet.len() as u64;
            self.targets.append(&mut self.quiet);
        }
    }

    /// The slow kind: nearly all it tried was in vain.
    fn is_slow_scan(&self, distinct: usize) -> bool {
        self.is_scan(distinct) && self.open.len() * 10 <= self.targets.len() + self.quiet.len()
    }

    /// What kind of scan it was, in one sentence.
    fn kind(&self, udp: bool) -> String {
        let slow = self.last.saturating_sub(self.first) > WINDOW_NS;
        let name = if udp {
            "UDP scan"
        } else if self.stealth * 2 > self.failed {
            "scan with flags that no TCP sends (null, FIN or XMAS)"
        } else if self.proven > 0 {
            "connect scan: what was open was connected to"
        } else {
            "SYN scan: no handshake was completed"
        };
        format!("Kind: {}{name}.", if slow { "slow " } else { "" })
    }

    /// Starts over when the window is past and it was no scan.
    fn roll(&mut self, at: u64, distinct: usize, window: u64) {
        if at.saturating_sub(self.first) > window && !self.is_scan(distinct) {
            *self = Self::new(at);
        }
    }

    /// Asked without the watch that [`Change`] keeps: quiet until something comes back.
    fn asked(&mut self, at: u64, target: T, packet: &Packet<'_>) {
        self.tried += 1;
        self.exemplars.add(packet.journey);
        self.end(at, target, Result::Quiet);
    }

    fn end(&mut self, at: u64, target: T, result: Result) {
        self.last = self.last.max(at);
        let distinct = match result {
            Result::Open => &mut self.open,
            Result::Quiet => &mut self.quiet,
            Result::Refused | Result::Unanswered | Result::Stealth => &mut self.targets,
        };
        if distinct.len() < DISTINCT {
            distinct.insert(target);
        }
        match result {
            Result::Open | Result::Quiet => return,
            Result::Refused => self.refused += 1,
            Result::Unanswered => self.unanswered += 1,
            Result::Stealth => self.stealth += 1,
        }
        self.failed += 1;
    }
}

type HostKey = (IpAddr, IpAddr);
type PortKey = (IpAddr, u8, u16);

/// What this host's stack answered to one source.
#[derive(Clone, Copy, Debug, Default)]
struct Answers {
    resets: u64,
    unreachables: u64,
}

#[derive(Debug)]
pub(super) struct PortScan {
    hosts: Bounded<HostKey, Attempts<(u8, u16)>>,
    ports: Bounded<PortKey, Attempts<IpAddr>>,
    slow_hosts: Bounded<HostKey, Attempts<(u8, u16)>>,
    slow_ports: Bounded<PortKey, Attempts<IpAddr>>,
    answers: Bounded<IpAddr, Answers>,
    findings_lost: u64,
}

impl Default for PortScan {
    fn default() -> Self {
        Self {
            hosts: Bounded::new(WATCHED),
            ports: Bounded::new(WATCHED),
            slow_hosts: Bounded::new(SLOW_WATCHED),
            slow_ports: Bounded::new(SLOW_WATCHED),
            answers: Bounded::new(WATCHED),
            findings_lost: 0,
        }
    }
}

impl PortScan {
    fn both(
        &mut self,
        source: IpAddr,
        target: (IpAddr, u8, u16),
        at: u64,
        mut tell: impl FnMut(Tell<'_>),
    ) {
        let (host, protocol, port) = target;
        let mut spill = Vec::new();
        let attempts = self.hosts.entry((source, host), || Attempts::new(at), &mut spill);
        attempts.roll(at, PORTS, WINDOW_NS);
        tell(Tell::Host(attempts));
        self.findings_lost += spill.iter().filter(|(_, old)| old.is_scan(PORTS)).count() as u64;
        let mut spill = Vec::new();
        let attempts = self.ports.entry((source, protocol, port), || Attempts::new(at), &mut spill);
        attempts.roll(at, HOSTS, WINDOW_NS);
        tell(Tell::Port(attempts));
        self.findings_lost += spill.iter().filter(|(_, old)| old.is_scan(HOSTS)).count() as u64;
        let attempts = self.slow_hosts.entry_or_forget((source, host), || Attempts::new(at));
        attempts.roll(at, PORTS, SLOW_WINDOW_NS);
        tell(Tell::Host(attempts));
        let attempts =
            self.slow_ports.entry_or_forget((source, protocol, port), || Attempts::new(at));
        attempts.roll(at, HOSTS, SLOW_WINDOW_NS);
        tell(Tell::Port(attempts));
    }

    /// SCTP: the first chunk says what a packet is (RFC 9260 section 3.2).
    fn chunk(&mut self, packet: &Packet<'_>, sport: u16, dport: u16) {
        const COMMON_HEADER: usize = 12;
        let first = usize::from(packet.headers.transport_offset) + COMMON_HEADER;
        let (Some(chunk), Some((src, dst))) = (packet.bytes.get(first), packet.headers.addresses())
        else {
            return;
        };
        let at = packet.at;
        match chunk {
            // INIT, and COOKIE ECHO, which a scan sends without a cookie.
            1 | 10
                if packet
                    .headers
                    .tuple()
                    .is_some_and(|tuple| packet.flows.get(&tuple).is_none()) =>
            {
                self.both(src, (dst, SCTP, dport), at, |tell| match tell {
                    Tell::Host(attempts) => attempts.asked(at, (SCTP, dport), packet),
                    Tell::Port(attempts) => attempts.asked(at, dst, packet),
                });
            }
            // INIT ACK, ABORT.
            2 => self.ended(dst, SocketAddr::new(src, sport), SCTP, at, Result::Open),
            6 => self.ended(dst, SocketAddr::new(src, sport), SCTP, at, Result::Refused),
            _ => {}
        }
    }

    fn ended(&mut self, source: IpAddr, target: SocketAddr, protocol: u8, at: u64, result: Result) {
        let (host, port) = (target.ip(), target.port());
        self.both(source, (host, protocol, port), at, |tell| match tell {
            Tell::Host(attempts) => attempts.end(at, (protocol, port), result),
            Tell::Port(attempts) => attempts.end(at, host, result),
        });
    }
}

enum Tell<'a> {
    Host(&'a mut Attempts<(u8, u16)>),
    Port(&'a mut Attempts<IpAddr>),
}

impl Detector for PortScan {
    fn about(&self) -> About {
        About {
            id: "port-scan",
            sees: "one source failing at 15 or more ports of a host, or at one port of 25 or more \
                   hosts, within five minutes and at no fewer than it reached; silent on busy \
                   clients, health checks, NAT addresses, retries and UDP traceroute.",
        }
    }

    fn blind(&self, manifest: &Manifest) -> String {
        match manifest.origin {
            Origin::Capture => {
                "a capture has no stack events, so answers are seen on the wire only".to_owned()
            }
            Origin::Kernel | Origin::Merge => String::new(),
        }
    }

    /// What this host's stack answered: resets, and ICMP errors about a source's packets.
    fn sighting(&mut self, _world: World<'_>, sighting: &Sighting<'_>) {
        match sighting.event.kind {
            EventKind::SendReset { tuple, .. } => {
                self.answers.entry_or_forget(tuple.dst, Answers::default).resets += 1;
            }
            EventKind::IcmpSend { icmp_type: 3, .. } => {
                if let Some((source, _)) = sighting.headers.and_then(Headers::addresses) {
                    self.answers.entry_or_forget(source, Answers::default).unreachables += 1;
                }
            }
            _ => {}
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let headers = packet.headers;
        match &headers.transport {
            Transport::Tcp(tcp) => {
                let flags = tcp.flags & (SYN | ACK | RST | FIN | PSH_URG);
                let stealth = flags == 0 || flags == FIN || flags == FIN | PSH_URG;
                if let Some((source, host)) = headers.addresses().filter(|_| stealth) {
                    let at = packet.at;
                    self.both(source, (host, TCP, tcp.dport), at, |tell| match tell {
                        Tell::Host(attempts) => {
                            attempts.tried += 1;
                            attempts.exemplars.add(packet.journey);
                        }
                        Tell::Port(attempts) => {
                            attempts.tried += 1;
                            attempts.exemplars.add(packet.journey);
                        }
                    });
                    let target = SocketAddr::new(host, tcp.dport);
                    self.ended(source, target, TCP, at, Result::Stealth);
                }
            }
            Transport::Ports(sport, dport) if headers.protocol() == Some(SCTP) => {
                self.chunk(packet, *sport, *dport);
            }
            Transport::Icmp(_) | Transport::Udp(_) | Transport::Ports(..) | Transport::None => {}
        }
    }

    fn attempt(&mut self, change: &Change) {
        let source = change.client.ip();
        let (server, protocol, at) = (change.server, change.protocol, change.at);
        if protocol == UDP && TRACEROUTE.contains(&server.port()) {
            return;
        }
        let target = (server.ip(), protocol, server.port());
        match change.turn {
            Turn::Opened => self.both(source, target, at, |tell| match tell {
                Tell::Host(attempts) => {
                    attempts.tried += 1;
                    attempts.exemplars.add(change.journey);
                }
                Tell::Port(attempts) => {
                    attempts.tried += 1;
                    attempts.exemplars.add(change.journey);
                }
            }),
            Turn::Answered => self.ended(source, server, protocol, at, Result::Open),
            Turn::Refused => self.ended(source, server, protocol, at, Result::Refused),
            Turn::Unanswered if protocol == UDP => {
                // At one port of many hosts, silence is what peer-to-peer clients meet all day.
                for hosts in [&mut self.hosts, &mut self.slow_hosts] {
                    if let Some(attempts) = hosts.get_mut(&(source, server.ip())) {
                        attempts.end(at, (protocol, server.port()), Result::Quiet);
                    }
                }
            }
            Turn::Unanswered => self.ended(source, server, protocol, at, Result::Unanswered),
            Turn::Completed => self.both(source, target, at, |tell| match tell {
                Tell::Host(attempts) => attempts.proven += 1,
                Tell::Port(attempts) => attempts.proven += 1,
            }),
            Turn::Retried | Turn::Aborted => {}
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let hosts = std::mem::replace(&mut self.hosts, Bounded::new(1));
        let ports = std::mem::replace(&mut self.ports, Bounded::new(1));
        let mut findings = Vec::new();
        let slow = std::mem::replace(&mut self.slow_hosts, Bounded::new(1)).into_oldest_first();
        let fast = |key: &HostKey| hosts.get(key).is_some_and(|found| found.is_scan(PORTS));
        let slow: Vec<_> = slow
            .into_iter()
            .filter(|(key, attempts)| attempts.is_slow_scan(PORTS) && !fast(key))
            .collect();
        let hosts = hosts.into_oldest_first().into_iter();
        let hosts = hosts.filter(|(_, attempts)| attempts.is_scan(PORTS));
        for ((source, host), mut attempts) in hosts.chain(slow) {
            attempts.settle();
            let name = |&(protocol, port): &(u8, u16)| format!("{}/{port}", ProtocolName(protocol));
            let text = Text {
                udp: attempts.targets.iter().all(|(protocol, _)| *protocol == UDP),
                title: format!(
                    "{source} tried {} ports of {host} in vain.",
                    attempts.targets.len()
                ),
                tried: listed(attempts.targets.iter().map(name), NAMED),
                open: listed(attempts.open.iter().map(name), NAMED),
                targets: vec![host.to_string()],
            };
            findings.push(self.finding(source, &attempts, text, context));
        }
        let slow = std::mem::replace(&mut self.slow_ports, Bounded::new(1)).into_oldest_first();
        let fast = |key: &PortKey| ports.get(key).is_some_and(|found| found.is_scan(HOSTS));
        let slow: Vec<_> = slow
            .into_iter()
            .filter(|(key, attempts)| attempts.is_slow_scan(HOSTS) && !fast(key))
            .collect();
        let ports = ports.into_oldest_first().into_iter();
        let ports = ports.filter(|(_, attempts)| attempts.is_scan(HOSTS));
        for ((source, protocol, port), attempts) in ports.chain(slow) {
            if attempts.is_way_out_missing(source, protocol, port) {
                continue;
            }
            let text = Text {
                udp: protocol == UDP,
                title: format!(
                    "{source} tried {} port {port} of {} hosts in vain.",
                    ProtocolName(protocol),
                    attempts.targets.len()
                ),
                tried: listed(attempts.targets.iter().map(ToString::to_string), NAMED),
                open: listed(attempts.open.iter().map(ToString::to_string), NAMED),
                targets: attempts.targets.iter().take(5).map(ToString::to_string).collect(),
            };
            findings.push(self.finding(source, &attempts, text, context));
        }
        findings
    }
}

struct Text {
    udp: bool,
    title: String,
    tried: String,
    open: String,
    targets: Vec<String>,
}

impl PortScan {
    fn finding<T: Ord + Copy>(
        &self,
        source: IpAddr,
        attempts: &Attempts<T>,
        text: Text,
        context: &Context<'_>,
    ) -> Finding {
        let mut evidence = vec![
            format!(
                "{} of {} attempts failed: {} refused, {} unanswered, {} segments that no TCP \
                 sends.",
                attempts.failed,
                attempts.tried,
                attempts.refused,
                attempts.unanswered,
                attempts.stealth
            ),
            format!("In vain: {}.", text.tried),
        ];
        evidence.push(attempts.kind(text.udp));
        if !text.open.is_empty() {
            evidence.push(format!("Found open: {}.", text.open));
        }
        if self.findings_lost > 0 {
            evidence.push(format!(
                "{} more scans had to be forgotten because too many sources were watched.",
                self.findings_lost
            ));
        }
        let proof = if attempts.proven > 0 {
            format!("proven by {} completed handshakes", attempts.proven)
        } else {
            "unproven: no handshake completed, so the address may be forged".to_owned()
        };
        let silent = attempts.unanswered.saturating_mul(10) > attempts.failed.saturating_mul(9);
        Finding {
            id: "port-scan".to_owned(),
            severity: if attempts.open_count() > 0 { "medium" } else { "low" }.to_owned(),
            confidence: context.confidence(silent.then_some(
                "medium: nearly all attempts went unanswered, which an outage on the way does, too",
            )),
            title: text.title,
            evidence,
            effect: self.effect(source, attempts, context),
            advice: "Check that what it found open is meant to be; limit new connections per \
                     source, and drop rather than refuse at the border if that is your policy."
                .to_owned(),
            actors: vec![format!("{source} ({proof})")],
            targets: text.targets,
            first: attempts.first,
            last: attempts.last,
            packets: attempts.tried,
            journeys: attempts.exemplars.list(),
            references: [
                "MITRE ATT&CK T1046",
                "MITRE ATT&CK T1595.001",
                "RFC 9293 section 3.10.7.1",
                "Zeek policy/misc/scan.zeek",
            ]
            .map(str::to_owned)
            .to_vec(),
        }
    }

    fn effect<T>(&self, source: IpAddr, attempts: &Attempts<T>, context: &Context<'_>) -> String {
        let open = match attempts.open_count() {
            0 => "it learned of nothing open".to_owned(),
            n => format!("it learned of {n} open"),
        };
        if !context.has_stack() {
            return format!("not observable: a capture has no stack events; on the wire, {open}.");
        }
        match self.answers.get(&source) {
            Some(answers) => format!(
                "confirmed: the stack answered it with {} resets and {} ICMP unreachables; {open}.",
                answers.resets, answers.unreachables
            ),
            None => format!("not confirmed: the stack here answered it with nothing; {open}."),
        }
    }
}

impl<T> Attempts<T> {
    fn open_count(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
#[path = "port_scan_tests.rs"]
mod tests;
