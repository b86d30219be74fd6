//! Something else on the ports that firewalls let through: UDP ports 53 and 123 that carry neither DNS nor NTP
//! (a tunnel, a shell, a file on its way out).
//!
//! **Sees** 100 or more datagrams between two hosts on one of these ports, 20 or more each way, of which half or
//! more of one side are no message of the protocol.
//!
//! **Silent on** any version and extension of NTP (RFC 5905, RFC 7822, RFC 8915, modes 6 and 7), all kinds of
//! DNS messages, and one-way nonsense, which is a flood.

use std::net::IpAddr;

use psc_formats::Manifest;
use psc_formats::packet::Transport;

use crate::bounded::Bounded;
use crate::guarder::detect::{About, Context, Detector, Packet, needs_payload};
use crate::guarder::evidence::{Draft, Seen};
use crate::view::detect::Finding;

const DATAGRAMS: u64 = 100;
const EACH_WAY: u64 = 20;
const PAIRS: usize = 2_048;

#[derive(Debug, Default)]
struct Pair {
    seen: Seen,
    /// From the client and from the server.
    sent: [u64; 2],
    bytes: [u64; 2],
    strange: [u64; 2],
}

#[derive(Debug)]
pub(super) struct Mismatch {
    pairs: Bounded<(IpAddr, IpAddr, u16), Pair>,
}

impl Default for Mismatch {
    fn default() -> Self {
        Self { pairs: Bounded::new(PAIRS) }
    }
}

/// A header of DNS (RFC 1035 section 4.1.1): counts that a datagram can hold. What follows may be damaged or cut.
fn is_dns(bytes: &[u8]) -> bool {
    let Some(&[_, _, flags, _, q1, questions, a1, _, n1, _, r1, _]) = bytes.first_chunk::<12>()
    else {
        return false;
    };
    // Query, inverse query, status, notify, update, stateful.
    let opcode = flags >> 3 & 0xf;
    opcode <= 6 && [q1, a1, n1, r1] == [0; 4] && questions <= 16
}

/// A packet of NTP: the 48 bytes and what may follow them, or control and private messages.
fn is_ntp(bytes: &[u8]) -> bool {
    const FIXED: usize = 48;
    /// The longest message authentication code with its key's number (RFC 8573, and SHA-512).
    const LONGEST_MAC: usize = 4 + 64;
    let Some(first) = bytes.first() else { return false };
    if !(1..=5).contains(&(first >> 3 & 7)) {
        return false;
    }
    match first & 7 {
        6 => bytes.len() >= 12,
        7 => bytes.len() >= 8,
        0 => false,
        _ => {
            let Some(mut rest) = bytes.get(FIXED..) else { return false };
            while rest.len() > LONGEST_MAC {
                let len = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
                let fits = len >= 16 && len % 4 == 0;
                let Some(next) = rest.get(len..).filter(|_| fits) else { return false };
                rest = next;
            }
            rest.len() % 4 == 0
        }
    }
}

impl Detector for Mismatch {
    fn about(&self) -> About {
        About {
            id: "port-mismatch",
            sees: "100 or more datagrams between two hosts on UDP port 53 or 123 that are neither DNS nor \
                   NTP; silent on extensions of both and on one-way nonsense.",
        }
    }

    fn blind(&self, manifest: &Manifest) -> String {
        needs_payload(manifest)
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Transport::Udp(udp) = packet.headers.transport else { return };
        let Some((src, dst)) = packet.headers.addresses() else { return };
        let (port, to_server) = match (udp.sport, udp.dport) {
            (_, port @ (53 | 123)) => (port, true),
            (port @ (53 | 123), _) => (port, false),
            _ => return,
        };
        let payload = packet.payload();
        if payload.len() < packet.headers.payload_len as usize || dst.is_multicast() {
            return;
        }
        // Between two clocks both ports are the same: the lower address asks.
        let (client, server) = match (udp.sport == udp.dport, to_server) {
            (true, _) => (src.min(dst), src.max(dst)),
            (false, true) => (src, dst),
            (false, false) => (dst, src),
        };
        let right = if port == 53 { is_dns(payload) } else { is_ntp(payload) };
        let pair = self.pairs.entry_or_forget((client, server, port), Pair::default);
        let side = usize::from(src != client);
        pair.sent[side] += 1;
        pair.bytes[side] += payload.len() as u64;
        if !right {
            pair.strange[side] += 1;
            pair.seen.add(packet);
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let pairs = std::mem::replace(&mut self.pairs, Bounded::new(1)).into_oldest_first();
        pairs
            .into_iter()
            .filter(|(_, pair)| {
                let enough = pair.sent[0] + pair.sent[1] >= DATAGRAMS;
                // One side may be made to look right, and some of the other.
                let strange = (0..2).any(|side| {
                    pair.strange[side] >= EACH_WAY && pair.strange[side] * 2 >= pair.sent[side]
                });
                enough && strange && pair.sent.iter().all(|n| *n >= EACH_WAY)
            })
            .map(|((client, server, port), pair)| {
                let name = if port == 53 { "DNS" } else { "NTP" };
                Draft {
                    id: "port-mismatch",
                    severity: "medium",
                    doubt: Some("medium: some tunnels (VPNs) use these ports by their owner's will"),
                    title: format!("{client} and {server} speak something on UDP port {port} that is no {name}."),
                    evidence: vec![
                        format!("{} of {} datagrams are no {name}.", pair.strange.iter().sum::<u64>(), pair.sent[0] + pair.sent[1]),
                        format!("{} bytes one way, {} the other.", pair.bytes[0], pair.bytes[1]),
                    ],
                    effect: "not observable: what they carry is not known.".to_owned(),
                    advice: "Let clients reach only the resolvers and clocks that are meant, and find what runs \
                             at the inner one.",
                    actors: vec![client.to_string()],
                    targets: vec![server.to_string()],
                    seen: &pair.seen,
                    references: &["MITRE ATT&CK T1048", "MITRE ATT&CK T1571", "RFC 7822"],
                }
                .finding(context)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns;
    use crate::guarder::scene::{A, B, Scene, ip, udp};

    #[test]
    fn messages_are_told_from_nonsense() {
        let mut time = vec![0x23; 48];
        assert!(is_ntp(&time));
        time.extend([1, 4, 0, 36]);
        time.resize(48 + 36 + 52, 0);
        assert!(is_ntp(&time), "an extension, and what may be a long code");
        time.resize(48 + 400, 7);
        assert!(!is_ntp(&time));
        assert!(is_ntp(&[0x17, 0, 3, 42, 0, 0, 0, 0]), "mode 7");
        assert!(!is_ntp(&[0xff; 48]) && !is_ntp(&[]));
        let question = dns::message(1, 0x0100, "www.example.com", 1, &[]);
        assert!(is_dns(&question) && is_dns(&question[..12]));
        assert!(!is_dns(&question[..11]) && !is_dns(&[0x45; 100]));
    }

    #[test]
    fn nonsense_both_ways_is_told() {
        let question = dns::message(1, 0x0100, "www.example.com", 1, &[]);
        for (name, body, back, found) in [
            ("tunnel", &[0xa5; 300][..], true, 1),
            ("names", &question, true, 0),
            ("flood", &[0xa5; 300], false, 0),
        ] {
            let mut scene = Scene::of(Mismatch::default());
            for n in 0..120 {
                let there = udp(4000, 53, body);
                scene.frame(n, &ip((A, B), "10.0.0.2", "192.0.2.1", 17, &there));
                if back {
                    scene.frame(n, &ip((B, A), "192.0.2.1", "10.0.0.2", 17, &udp(53, 4000, body)));
                }
            }
            assert_eq!(scene.ids().len(), found, "{name}");
        }
    }
}
