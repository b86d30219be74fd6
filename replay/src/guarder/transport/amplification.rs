//! Reflection and amplification over UDP, seen at the victim and at the reflector (RFC 4732, CISA
//! TA14-017A).
//!
//! **Sees** datagrams from and to the ports of services that answer more than they are asked.
//! - **Victim**: 100 or more datagrams within ten seconds from such a port, in conversations in which the
//!   host asked nothing, of 200 bytes or more on average (bare volume, where 1,000 came).
//! - **Reflector**: one client asks 50 or more times within ten seconds, always in questions of one size,
//!   and gets five times the bytes or more; ten are enough for NTP monlist (CVE-2013-5211), memcached,
//!   chargen and quotd, which no client of today asks over UDP.
//!
//! **Silent on** a resolver and its answers, a busy client of a server (its questions differ in size, or
//! their answers do not grow fivefold), and printers and televisions that answer a search of the link.
//!
//! Where what the victim sends is out of view, confidence is low: it may have asked.

use std::net::IpAddr;

use psc_formats::packet::Transport;

use crate::bounded::Bounded;
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::effect;
use crate::guarder::evidence::{Distinct, Draft, listed};
use crate::guarder::watch::{Tally, Watch};
use crate::view::detect::Finding;

const WINDOW_NS: u64 = 10_000_000_000;
const UNASKED: u64 = 100;
const UNASKED_SMALL: u64 = 1_000;
const LARGE: u64 = 200;
const QUESTIONS: u64 = 50;
const QUESTIONS_OBSOLETE: u64 = 10;
const FACTOR: u64 = 5;
const KEYS: usize = 2_048;
/// Answers to a search of the link come for so long (UPnP 2.0 has five seconds, mDNS repeats for a minute).
const CALLED_NS: u64 = 60_000_000_000;

/// (port, name, whether nobody asks it over UDP any more). Amplification factors are in TA14-017A.
const SERVICES: &[(u16, &str, bool)] = &[
    (17, "QOTD", true),
    (19, "chargen", true),
    (53, "DNS", false),
    (69, "TFTP", false),
    (111, "portmap", false),
    (123, "NTP", false),
    (137, "NetBIOS", false),
    (161, "SNMP", false),
    (389, "CLDAP", false),
    (427, "SLP", false),
    (500, "ISAKMP", false),
    (520, "RIP", false),
    (1194, "OpenVPN", false),
    (1434, "MS SQL", false),
    (1900, "SSDP", false),
    (3283, "ARD", false),
    (3389, "RDP", false),
    (3702, "WS-Discovery", false),
    (5093, "Sentinel", false),
    (5353, "mDNS", false),
    (5683, "CoAP", false),
    (10001, "Ubiquiti", false),
    (11211, "memcached", true),
    (27015, "Steam", false),
    (27960, "Quake", false),
    (30718, "Lantronix", false),
    (32410, "Plex", false),
    (32412, "Plex", false),
    (32414, "Plex", false),
    (33848, "Jenkins", false),
    (37810, "DVR", false),
    (47808, "BACnet", false),
];

/// TFTP answers from a new port (RFC 1350 section 4): a first block of data tells it.
fn is_tftp(payload: &[u8]) -> bool {
    payload.starts_with(&[0, 3, 0, 1]) && payload.len() >= 5
}

/// The service of a port that can amplify.
pub(super) fn service(port: u16) -> Option<(&'static str, bool)> {
    let index = SERVICES.binary_search_by_key(&port, |(port, ..)| *port).ok()?;
    Some((SERVICES[index].1, SERVICES[index].2))
}

#[derive(Debug)]
struct Unasked {
    datagrams: u64,
    bytes: u64,
    asked: u64,
    reflectors: Distinct<IpAddr>,
}

impl Tally for Unasked {
    fn new() -> Self {
        Self { datagrams: 0, bytes: 0, asked: 0, reflectors: Distinct::new(512) }
    }
    fn is_attack(&self) -> bool {
        let large = self.datagrams >= UNASKED && self.bytes >= self.datagrams * LARGE;
        (large || self.datagrams >= UNASKED_SMALL) && self.datagrams >= self.asked
    }
    fn merge(&mut self, later: Self) {
        self.datagrams += later.datagrams;
        self.bytes += later.bytes;
        self.asked += later.asked;
        self.reflectors.merge(later.reflectors);
    }
}

#[derive(Debug)]
struct Questions {
    asked: u64,
    asked_bytes: u64,
    answers: u64,
    answered_bytes: u64,
    sizes: Distinct<u32>,
    obsolete: u64,
}

impl Tally for Questions {
    fn new() -> Self {
        Self {
            asked: 0,
            asked_bytes: 0,
            answers: 0,
            answered_bytes: 0,
            sizes: Distinct::new(16),
            obsolete: 0,
        }
    }
    fn is_attack(&self) -> bool {
        let grows =
            self.answered_bytes >= self.asked_bytes.saturating_mul(FACTOR) && self.answers > 0;
        let same = self.asked >= QUESTIONS && self.sizes.len() <= 2;
        grows && (same || self.obsolete >= QUESTIONS_OBSOLETE)
    }
    fn merge(&mut self, later: Self) {
        self.asked += later.asked;
        self.asked_bytes += later.asked_bytes;
        self.answers += later.answers;
        self.answered_bytes += later.answered_bytes;
        self.sizes.merge(later.sizes);
        self.obsolete += later.obsolete;
    }
}

#[derive(Debug)]
pub(super) struct Amplification {
    /// (host, service port).
    victims: Watch<(IpAddr, u16), Unasked>,
    /// (server, port, client).
    clients: Watch<(IpAddr, u16, IpAddr), Questions>,
    /// Questions to everybody (discovery): who asked, from which port, which service, and when.
    called: Bounded<(IpAddr, u16, u16), u64>,
    senders: Distinct<IpAddr>,
}

impl Default for Amplification {
    fn default() -> Self {
        Self {
            victims: Watch::new(KEYS, WINDOW_NS),
            clients: Watch::new(KEYS, WINDOW_NS),
            called: Bounded::new(KEYS),
            senders: Distinct::new(65_536),
        }
    }
}

/// NTP mode 7 with the request code for the list of clients (MON_GETLIST, MON_GETLIST_1).
fn is_monlist(payload: &[u8]) -> bool {
    matches!(payload, [first, _, _, 20 | 42, ..] if first & 7 == 7)
}

impl Detector for Amplification {
    fn about(&self) -> About {
        About {
            id: "amplification",
            sees: "answers of amplifying services that a host had not asked for, and a service here \
                   that is asked the same over and over for five times the bytes; silent on \
                   resolvers, busy clients and local discovery.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Some(tuple) = packet.headers.tuple() else { return };
        self.senders.add(tuple.src);
        let fragment = matches!(packet.headers.transport, Transport::None);
        if !matches!(packet.headers.transport, Transport::Udp(_)) || fragment {
            return;
        }
        let group = packet.headers.ethernet.is_some_and(|frame| frame.dst[0] & 1 == 1);
        if tuple.dst.is_multicast() || group {
            if service(tuple.dport).is_some() {
                let call = (tuple.src, tuple.sport, tuple.dport);
                *self.called.entry_or_forget(call, || packet.at) = packet.at;
            }
            return;
        }
        let bytes = u64::from(packet.headers.payload_len);
        let tftp = tuple.sport >= 1_024 && tuple.dport != 69 && is_tftp(packet.payload());
        let port = if tftp { 69 } else { tuple.sport };
        if service(port).is_some() && tuple.sport != tuple.dport {
            let called = self.called.get(&(tuple.dst, tuple.dport, tuple.sport));
            let asked = called.is_some_and(|at| packet.at.saturating_sub(*at) <= CALLED_NS)
                || packet.flows.sent(&tuple.reversed()).is_some();
            let victim = self.victims.of((tuple.dst, port), packet.at);
            if asked {
                victim.note(|unasked| unasked.asked += 1);
            } else {
                victim.add(packet, |unasked| {
                    unasked.datagrams += 1;
                    unasked.bytes += bytes;
                    unasked.reflectors.add(tuple.src);
                });
            }
            if let Some(client) = self.clients.known(&(tuple.src, tuple.sport, tuple.dst)) {
                client.note(|questions| {
                    questions.answers += 1;
                    questions.answered_bytes += bytes;
                });
            }
        } else if let Some((_, obsolete)) = service(tuple.dport) {
            let monlist = tuple.dport == 123 && is_monlist(packet.payload());
            self.clients.of((tuple.dst, tuple.dport, tuple.src), packet.at).add(
                packet,
                |questions| {
                    questions.asked += 1;
                    questions.asked_bytes += bytes;
                    questions.sizes.add(packet.headers.payload_len);
                    questions.obsolete += u64::from(obsolete || monlist);
                },
            );
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for ((host, port), watched) in self.victims.finish() {
            let unasked = &watched.attack;
            let name = service(port).map_or("", |(name, _)| name);
            let blind = !self.senders.contains(&host);
            findings.push(
                Draft {
                    id: "amplification-victim",
                    severity: "high",
                    doubt: blind.then_some("low: what this host sends is not in view, so it may have asked"),
                    title: format!(
                        "{host} got {} {name} answers ({} bytes) that it had not asked for.",
                        unasked.datagrams, unasked.bytes
                    ),
                    evidence: vec![
                        format!("{} in the worst ten seconds.", watched.peak),
                        format!(
                            "They came from {} servers: {}.",
                            unasked.reflectors.count(),
                            listed(unasked.reflectors.iter().map(ToString::to_string), 5)
                        ),
                        format!("{} {name} answers belonged to questions.", unasked.asked),
                    ],
                    effect: effect::counters(
                        host,
                        &[("UdpNoPorts", "datagrams to ports without a socket")],
                        context,
                    ),
                    advice: "Ask upstream to drop datagrams from this service port to this host; tell \
                             the reflectors' networks.",
                    actors: vec!["unknown: somebody who asks in this host's name".to_owned()],
                    targets: vec![host.to_string()],
                    seen: &watched.evidence,
                    references: REFERENCES,
                }
                .finding(context),
            );
        }
        for ((server, port, client), watched) in self.clients.finish() {
            let questions = &watched.attack;
            let name = service(port).map_or("", |(name, _)| name);
            let factor = questions.answered_bytes as f64 / questions.asked_bytes.max(1) as f64;
            findings.push(
                Draft {
                    id: "amplification-reflector",
                    severity: "high",
                    doubt: None,
                    title: format!("{name} at {server} is used as a reflector against {client}."),
                    evidence: vec![
                        format!(
                            "{} questions of {} bytes drew {} answers of {} bytes: {factor:.1} times.",
                            questions.asked,
                            questions.asked_bytes,
                            questions.answers,
                            questions.answered_bytes
                        ),
                        format!("The questions had {} sizes.", questions.sizes.count()),
                        format!("{} questions in the worst ten seconds.", watched.peak),
                    ],
                    effect: format!(
                        "confirmed: {} bytes were sent to {client}.",
                        questions.answered_bytes
                    ),
                    advice: "Answer only those that the service is for (recursion, monlist and the like \
                             off), limit answers per client (DNS response rate limiting), filter \
                             forged sources (BCP 38).",
                    actors: vec![format!("somebody in the name of {client} (unproven)")],
                    targets: vec![client.to_string(), server.to_string()],
                    seen: &watched.evidence,
                    references: REFERENCES,
                }
                .finding(context),
            );
        }
        findings
    }
}

const REFERENCES: &[&str] = &[
    "CISA TA14-017A",
    "RFC 5358",
    "RFC 2827 (BCP 38)",
    "CVE-2013-5211",
    "CVE-2018-1000115",
    "MITRE ATT&CK T1498.002",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, ip, udp};

    #[test]
    fn the_table_is_sorted() {
        assert!(SERVICES.is_sorted_by_key(|(port, ..)| *port));
        assert_eq!(service(53), Some(("DNS", false)));
        assert_eq!(service(54), None);
    }

    /// Answers of `len` bytes from `port`, asked for or not.
    fn answers(n: u32, port: u16, len: usize, asked: bool) -> Vec<String> {
        let mut scene = Scene::of(Amplification::default());
        for i in 0..n {
            let server = format!("192.0.2.{}", i % 20 + 1);
            let client = 20_000 + (i % 30_000) as u16;
            if asked {
                // Questions of a resolver differ.
                let ask = udp(client, port, &vec![0; 40 + i as usize % 30]);
                scene.frame(u64::from(i), &ip((A, B), "10.0.0.9", &server, 17, &ask));
            }
            let answer = udp(port, client, &vec![0; len]);
            scene.frame(u64::from(i), &ip((B, A), &server, "10.0.0.9", 17, &answer));
        }
        scene.ids()
    }

    #[test]
    fn unasked_answers_make_a_victim_and_asked_ones_a_client() {
        for port in [53, 123, 161, 389, 1900, 11_211, 47_808] {
            assert_eq!(answers(100, port, 400, false), ["amplification-victim"], "{port}");
        }
        assert!(answers(99, 53, 400, false).is_empty());
        assert!(answers(500, 53, 90, false).is_empty(), "small ones by the hundred");
        assert!(answers(3000, 53, 400, true).is_empty(), "a resolver");
        assert!(answers(3000, 5004, 400, false).is_empty(), "a stream");
    }

    fn asks(n: u32, port: u16, question: &[u8], answer: usize, varied: bool) -> usize {
        let mut scene = Scene::of(Amplification::default());
        for i in 0..n {
            let mut body = question.to_vec();
            if varied {
                body.resize(question.len() + i as usize % 30, 0);
            }
            let at = u64::from(i) * 10;
            scene.frame(at, &ip((A, B), "198.51.100.7", "10.0.0.53", 17, &udp(4444, port, &body)));
            let body = udp(port, 4444, &vec![0; answer]);
            scene.frame(at, &ip((B, A), "10.0.0.53", "198.51.100.7", 17, &body));
        }
        scene.ids().len()
    }

    #[test]
    fn the_same_question_over_and_over_makes_a_reflector() {
        assert_eq!(asks(50, 53, &[0; 40], 400, false), 1);
        assert_eq!(asks(49, 53, &[0; 40], 400, false), 0);
        assert_eq!(asks(500, 53, &[0; 40], 120, false), 0, "answers that do not grow fivefold");
        assert_eq!(asks(500, 53, &[0; 40], 400, true), 0, "a busy client");
        assert_eq!(asks(10, 123, &[0x17, 0, 3, 42, 0, 0, 0, 0], 440, false), 1, "monlist");
        assert_eq!(asks(10, 123, &[0x23; 48], 48, false), 0, "time");
    }
}
