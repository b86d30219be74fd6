//! DNS used as a tunnel: data in the names that are asked for and in the answers (iodine, dnscat2, dns2tcp,
//! exfiltration by lookups).
//!
//! **Sees**, of one client and one registered domain, within ten minutes, 50 or more different names below
//! it that
//! - are 40 characters long on average below the domain (15 is usual; tunnels fill the 253 that a name
//!   may have), or
//! - are asked by types that carry free data (TXT, NULL, CNAME, MX, KEY, private use) three times in four
//!   and are 20 characters long, or get 150 bytes of answer on average.
//!
//! The signs are those of Farnham, "Detecting DNS Tunneling" (SANS 2013): length, many different names,
//! unusual types, volume per domain.
//!
//! **Silent on** reverse lookups, service discovery, block lists, mail policy records and content
//! distribution, whose names are short or few. A virus scanner that asks its maker about hashes by DNS does
//! tunnel, and looks like it.

use std::net::IpAddr;

use psc_formats::Manifest;
use psc_formats::packet::Transport;

use crate::dns;
use crate::guarder::detect::{About, Context, Detector, Packet, needs_payload};
use crate::guarder::evidence::{Distinct, Draft, hash};
use crate::guarder::watch::{Tally, Watch};
use crate::view::detect::Finding;

const WINDOW_NS: u64 = 600_000_000_000;
const NAMES: usize = 50;
const LONG: u64 = 40;
const LONG_FREE: u64 = 20;
const LARGE_ANSWER: u64 = 150;
const KEYS: usize = 4_096;
const REMEMBERED: usize = 512;

#[derive(Debug)]
struct Names {
    different: Distinct<u64>,
    /// Characters below the domain of the different names.
    characters: u64,
    asked: u64,
    free: u64,
    answers: u64,
    answered_bytes: u64,
    example: String,
}

impl Names {
    fn is_free(&self) -> bool {
        self.free * 4 >= self.asked * 3
    }
}

impl Tally for Names {
    fn new() -> Self {
        Self {
            different: Distinct::new(REMEMBERED),
            characters: 0,
            asked: 0,
            free: 0,
            answers: 0,
            answered_bytes: 0,
            example: String::new(),
        }
    }
    fn is_attack(&self) -> bool {
        let mean = self.characters / (self.different.len() as u64).max(1);
        let large = self.answered_bytes >= LARGE_ANSWER * self.answers.max(1);
        self.different.len() >= NAMES
            && (mean >= LONG || self.is_free() && (mean >= LONG_FREE || large))
    }
    fn merge(&mut self, later: Self) {
        self.different.merge(later.different);
        self.characters += later.characters;
        self.asked += later.asked;
        self.free += later.free;
        self.answers += later.answers;
        self.answered_bytes += later.answered_bytes;
        if later.example.len() > self.example.len() {
            self.example = later.example;
        }
    }
}

#[derive(Debug)]
pub(super) struct DnsTunnel {
    domains: Watch<(IpAddr, String), Names>,
}

impl Default for DnsTunnel {
    fn default() -> Self {
        Self { domains: Watch::new(KEYS, WINDOW_NS) }
    }
}

/// Whether a packet on the port of DNS goes to the server; `None` on other ports.
pub(super) fn to_server(packet: &Packet<'_>) -> Option<bool> {
    let (sport, dport) = match packet.headers.transport {
        Transport::Udp(udp) => (udp.sport, udp.dport),
        Transport::Tcp(tcp) => (tcp.sport, tcp.dport),
        Transport::Icmp(_) | Transport::Ports(..) | Transport::None => return None,
    };
    match (sport, dport) {
        (_, 53) => Some(true),
        (53, _) => Some(false),
        _ => None,
    }
}

fn is_free(kind: u16) -> bool {
    matches!(kind, 5 | 10 | 15 | 16 | 25) || kind >= 0xff00
}

impl Detector for DnsTunnel {
    fn about(&self) -> About {
        About {
            id: "dns-tunnel",
            sees: "50 or more long names below one domain asked by one client within ten minutes, or \
                   names asked by types that carry free data; silent on reverse lookups, block lists, \
                   service discovery and content distribution.",
        }
    }

    fn blind(&self, manifest: &Manifest) -> String {
        needs_payload(manifest)
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Some(to_server) = to_server(packet) else { return };
        let Some((src, dst)) = packet.headers.addresses() else { return };
        let Some(message) = packet.dns else { return };
        if message.response == to_server || message.name.rsplit('.').next() == Some("arpa") {
            return;
        }
        let (domain, below) = dns::split(&message.name);
        let (client, server) = if to_server { (src, dst) } else { (dst, src) };
        // No top-level domain has a digit (RFC 3696 section 2): the server itself is the other end.
        let last = domain.rsplit('.').next().unwrap_or_default();
        let (domain, below) =
            if last.bytes().any(|b| b.is_ascii_digit()) && !last.starts_with("xn--") {
                (format!("no domain, at {server},"), message.name.as_str())
            } else {
                (domain.to_owned(), below)
            };
        if below.is_empty() || below.starts_with('_') {
            return;
        }
        let key = (client, domain);
        if !to_server {
            if let Some(names) = self.domains.known(&key) {
                names.note(|names| {
                    names.answers += 1;
                    names.answered_bytes += message.answered_bytes;
                });
            }
            return;
        }
        let characters = below.chars().filter(|c| *c != '.').count() as u64;
        self.domains.of(key, packet.at).add(packet, |names| {
            names.asked += 1;
            names.free += u64::from(is_free(message.kind));
            let before = names.different.len();
            names.different.add(hash(below.as_bytes()));
            if names.different.len() > before {
                names.characters += characters;
            }
            if below.len() > names.example.len() {
                below.clone_into(&mut names.example);
            }
        });
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let found = self.domains.finish();
        found
            .into_iter()
            .map(|((client, domain), watched)| {
                let names = &watched.attack;
                let mean = names.characters / (names.different.len() as u64).max(1);
                let example: String = names.example.chars().take(80).collect();
                Draft {
                    id: "dns-tunnel",
                    severity: "high",
                    doubt: (!names.is_free()).then_some(
                        "medium: a scanner that asks its maker about hashes by DNS looks the same",
                    ),
                    title: format!(
                        "{client} asked for {} different names below {domain} that look like data.",
                        names.different.count()
                    ),
                    evidence: vec![
                        format!("They are {mean} characters long on average, such as {example}."),
                        format!(
                            "{} of {} questions were of types that carry free data (TXT, NULL, CNAME, MX).",
                            names.free, names.asked
                        ),
                        format!("{} answers carried {} bytes.", names.answers, names.answered_bytes),
                    ],
                    effect: format!(
                        "confirmed: about {} bytes went out in names, {} came back.",
                        names.characters * 5 / 8,
                        names.answered_bytes
                    ),
                    advice: "See what runs on the client; let only your resolvers ask outside, and limit \
                             names and questions per domain there.",
                    actors: vec![client.to_string()],
                    targets: vec![domain.clone()],
                    seen: &watched.evidence,
                    references: &[
                        "MITRE ATT&CK T1071.004",
                        "MITRE ATT&CK T1048.003",
                        "Farnham, Detecting DNS Tunneling (SANS 2013)",
                    ],
                }
                .finding(context)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, ip, udp};

    fn asks(n: u32, label: usize, kind: u16, domain: &str) -> usize {
        let mut scene = Scene::of(DnsTunnel::default());
        for i in 0..n {
            let name = format!("{i:0label$}.{domain}");
            let body = dns::message(i as u16, 0x0100, &name, kind, &[]);
            let at = u64::from(i) * 200;
            scene.frame(at, &ip((A, B), "10.0.0.9", "192.0.2.53", 17, &udp(4000, 53, &body)));
        }
        scene.ids().len()
    }

    #[test]
    fn many_long_names_are_data_and_short_or_few_are_names() {
        for (n, label, kind, domain, found) in [
            (50, 40, 1, "x.example", 1),
            (50, 40, 1, "a1b2c3", 1),
            (49, 40, 1, "x.example", 0),
            (50, 39, 1, "x.example", 0),
            (50, 20, 16, "x.example", 1),
            (50, 19, 16, "x.example", 0),
            (500, 12, 1, "cdn.example", 0),
            (500, 40, 12, "2.0.192.in-addr.arpa", 0),
        ] {
            assert_eq!(
                asks(n, label, kind, domain),
                found,
                "{n} of {label}, type {kind}, {domain}"
            );
        }
    }
}
