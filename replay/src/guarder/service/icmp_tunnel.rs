//! Data in ICMP echo (ptunnel, icmptunnel, icmpsh, Loki): answers that do not return what was sent.
//!
//! "The data received in the echo message must be returned in the echo reply message" (RFC 792).
//!
//! **Sees** ten or more echo replies between two hosts that carry other bytes than the request of the same
//! identifier and sequence number, and at least a quarter of all; or 50 or more requests of 200 bytes and more,
//! nine in ten of which carry what none before did behind the first 24 bytes (where ping keeps times): a file on
//! its way out, answered or not.
//!
//! **Silent on** ping of any size and pattern, on hosts that return less than they got (some do), small requests
//! with random bytes (some programs make each different), and packets whose bytes were not stored.

use std::fmt::Write as _;
use std::net::IpAddr;

use psc_formats::Manifest;
use psc_formats::packet::{Network, Transport};

use crate::bounded::Bounded;
use crate::guarder::detect::{About, Context, Detector, Packet, needs_payload};
use crate::guarder::evidence::{Distinct, Draft, Seen, hash};
use crate::view::detect::Finding;

const OTHER: u64 = 10;
const LARGE: usize = 200;
const TIMES: usize = 24;
const DIFFERENT: usize = 50;
const REMEMBERED: usize = 1_024;
const PAIRS: usize = 1_024;
const REQUESTS: usize = 16_384;

#[derive(Debug)]
struct Pair {
    seen: Seen,
    same: u64,
    other: u64,
    bytes: [u64; 2],
    example: Option<(String, String)>,
    /// Large requests: how many, what they carried, and the packets.
    large: u64,
    carried: Distinct<u64>,
    asked: Seen,
}

impl Pair {
    fn new() -> Self {
        Self {
            seen: Seen::default(),
            same: 0,
            other: 0,
            bytes: [0; 2],
            example: None,
            large: 0,
            carried: Distinct::new(REMEMBERED),
            asked: Seen::default(),
        }
    }

    fn returns_other(&self) -> bool {
        self.other >= OTHER && self.other * 3 >= self.same
    }

    fn carries(&self) -> bool {
        self.carried.len() >= DIFFERENT
            && self.carried.len() as u64 * 10 >= self.large.min(REMEMBERED as u64) * 9
    }
}

#[derive(Debug)]
struct Request {
    hash: u64,
    len: usize,
    start: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct IcmpTunnel {
    /// By asker, asked, identifier and sequence number.
    requests: Bounded<(IpAddr, IpAddr, u32), Request>,
    pairs: Bounded<(IpAddr, IpAddr), Pair>,
}

impl Default for IcmpTunnel {
    fn default() -> Self {
        Self { requests: Bounded::new(REQUESTS), pairs: Bounded::new(PAIRS) }
    }
}

fn shown(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "nothing".to_owned();
    }
    bytes.iter().take(8).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Detector for IcmpTunnel {
    fn about(&self) -> About {
        About {
            id: "icmp-tunnel",
            sees: "ten or more echo replies that carry other data than the request they answer; silent \
                   on ping of any size and pattern and on hosts that return less than they got.",
        }
    }

    fn blind(&self, manifest: &Manifest) -> String {
        needs_payload(manifest)
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Transport::Icmp(icmp) = packet.headers.transport else { return };
        let Some((src, dst)) = packet.headers.addresses() else { return };
        let payload = packet.payload();
        if payload.len() < packet.headers.payload_len as usize || packet.bytes.is_empty() {
            return;
        }
        let (request, reply) = match packet.headers.network {
            Network::V4(ip) if ip.more_fragments || ip.fragment_offset > 0 => return,
            Network::V4(_) => (icmp.icmp_type == 8, icmp.icmp_type == 0),
            _ => (icmp.icmp_type == 128, icmp.icmp_type == 129),
        };
        if request && !dst.is_multicast() {
            let start = payload[..payload.len().min(8)].to_vec();
            let fresh = Request { hash: hash(payload), len: payload.len(), start };
            if payload.len() >= LARGE {
                let pair = self.pairs.entry_or_forget((src, dst), Pair::new);
                pair.large += 1;
                pair.asked.add(packet);
                pair.carried.add(hash(&payload[TIMES..]));
            }
            let key = (src, dst, icmp.rest);
            self.requests.remove(&key);
            self.requests.entry_or_forget(key, || fresh);
        } else if reply && let Some(request) = self.requests.remove(&(dst, src, icmp.rest)) {
            let pair = self.pairs.entry_or_forget((dst, src), Pair::new);
            // A prefix of what was sent, or the same.
            let returned = payload.len() <= request.len
                && (payload.len() < request.len
                    && payload
                        .starts_with(&request.start[..request.start.len().min(payload.len())])
                    || hash(payload) == request.hash)
                && !(payload.is_empty() && request.len > 0 && pair.other > 0);
            if returned {
                pair.same += 1;
                return;
            }
            pair.other += 1;
            pair.bytes[0] += request.len as u64;
            pair.bytes[1] += payload.len() as u64;
            pair.seen.add(packet);
            if pair.example.is_none() {
                pair.example = Some((shown(&request.start), shown(payload)));
            }
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let pairs = std::mem::replace(&mut self.pairs, Bounded::new(1)).into_oldest_first();
        pairs
            .into_iter()
            .filter(|(_, pair)| pair.returns_other() || pair.carries())
            .map(|((asker, asked), pair)| {
                let (sent, got) = pair.example.clone().unwrap_or_default();
                let other = pair.returns_other();
                let mut evidence = Vec::new();
                if other {
                    evidence.push(format!(
                        "{} of {} replies did not return what was sent, as every host does.",
                        pair.other,
                        pair.other + pair.same
                    ));
                    evidence.push(format!(
                        "The first: {sent} was sent, {got} came back (hexadecimal)."
                    ));
                }
                if pair.carries() {
                    evidence.push(format!(
                        "{} requests of {LARGE} bytes or more, {} of them with bytes that none before had.",
                        pair.large,
                        pair.carried.len()
                    ));
                }
                Draft {
                    id: "icmp-tunnel",
                    severity: "high",
                    doubt: None,
                    title: format!("{asker} and {asked} carry data in ICMP echo."),
                    evidence,
                    effect: if other {
                        format!(
                            "confirmed: {} bytes went to {asked}, {} came back.",
                            pair.bytes[0], pair.bytes[1]
                        )
                    } else {
                        format!("confirmed: {} packets went to {asked}.", pair.large)
                    },
                    advice: "See what sends these on the inner host; let echo through by rate and size only.",
                    actors: vec![asker.to_string(), asked.to_string()],
                    targets: vec![asker.to_string(), asked.to_string()],
                    seen: if other { &pair.seen } else { &pair.asked },
                    references: &["RFC 792", "MITRE ATT&CK T1095", "MITRE ATT&CK T1572"],
                }
                .finding(context)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, icmp, ip};

    #[test]
    fn what_comes_back_is_what_was_sent_or_a_tunnel() {
        type Case<'a> = (&'a str, u32, &'a [u8], &'a [u8], usize);
        let cases: [Case<'_>; 6] = [
            ("tunnel", 10, b"abcdefghij", b"0123456789", 1),
            ("too few", 9, b"abcdefghij", b"0123456789", 0),
            ("ping", 100, b"abcdefghij", b"abcdefghij", 0),
            ("less than was sent", 100, b"abcdefghij", b"abcd", 0),
            ("more than was sent", 20, b"", b"whoami", 1),
            ("empty", 100, b"", b"", 0),
        ];
        for (name, n, sent, back, found) in cases {
            let mut scene = Scene::of(IcmpTunnel::default());
            for i in 0..n {
                let at = u64::from(i) * 2;
                scene.frame(at, &ip((A, B), "10.0.0.9", "192.0.2.1", 1, &icmp(8, 0, i, sent)));
                scene.frame(at + 1, &ip((B, A), "192.0.2.1", "10.0.0.9", 1, &icmp(0, 0, i, back)));
            }
            assert_eq!(scene.ids().len(), found, "{name}");
        }
    }

    #[test]
    fn a_file_goes_out_in_large_requests_that_differ() {
        for (name, size, n, differ, found) in [
            ("a file", 900, 50, true, 1),
            ("fewer", 900, 49, true, 0),
            ("small", 199, 200, true, 0),
            ("ping -s 900", 900, 200, false, 0),
        ] {
            let mut scene = Scene::of(IcmpTunnel::default());
            for i in 0..n {
                let mut body = vec![0x55; size];
                // Ping keeps the time in front.
                body[0] = i as u8;
                if differ {
                    body[100] = i as u8;
                }
                let request = icmp(8, 0, i, &body);
                scene.frame(u64::from(i), &ip((A, B), "10.0.0.9", "192.0.2.1", 1, &request));
            }
            assert_eq!(scene.ids().len(), found, "{name}");
        }
    }
}
