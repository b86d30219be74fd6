//! In-path reset injection: somebody who sees a connection resets it in a side's name.
//!
//! **Sees** resets at a right sequence number after which the same side goes on: it sends new data, a FIN,
//! or acknowledges more. A TCP that resets is done (RFC 9293 section 3.5.2). One such packet is enough
//! when the reset came with another TTL than the side's last three or more packets (by two or more);
//! three without that.
//!
//! **Silent on** a reset that ends a connection, data that a reset overtook (it lies before the reset's
//! number), the same ports used again after a new SYN, and repeated resets.
//!
//! References: Weaver, Sommer and Paxson, "Detecting Forged TCP Reset Packets", NDSS 2009.

use psc_formats::FiveTuple;

use crate::analyzer::tcp::{ACK, FIN, RST, SYN};
use crate::bounded::Bounded;
use crate::guarder::conversation::ahead;
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Draft, Seen, counted};
use crate::view::detect::Finding;

const FLOWS: usize = 16_384;
const SAME_TTL: u64 = 3;
const TTL_DIFFERS: u8 = 2;
const WENT_ON: u64 = 3;
/// A connection that goes on later than this is another one whose SYN was not seen.
const SOON_NS: u64 = 30_000_000_000;

#[derive(Debug)]
struct Reset {
    at: u64,
    seq: u32,
    ack: Option<u32>,
    ttl: u8,
    usual: Option<u8>,
    seen: Seen,
    went_on: u64,
}

#[derive(Debug)]
pub(super) struct InPathReset {
    resets: Bounded<FiveTuple, Reset>,
}

impl Default for InPathReset {
    fn default() -> Self {
        Self { resets: Bounded::new(FLOWS) }
    }
}

impl Detector for InPathReset {
    fn about(&self) -> About {
        About {
            id: "in-path-reset",
            sees: "a reset at the right number after which its sender goes on; silent on resets \
                   that end a connection, overtaken data and ports used again.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let (Some(tcp), Some(tuple)) = (packet.headers.tcp(), packet.headers.tuple()) else {
            return;
        };
        if tcp.flags & SYN != 0 {
            self.resets.remove(&tuple);
            self.resets.remove(&tuple.reversed());
            return;
        }
        if tcp.flags & RST != 0 {
            let Some(found) = packet.flows.get(&tuple) else { return };
            let (side, peer) = found.sides(&tuple);
            let Some(next) = side.next.filter(|_| !side.fin) else { return };
            let received = peer.ack.unwrap_or(next);
            if ahead(tcp.seq, received) < 0 || ahead(tcp.seq, next) > 0 {
                return;
            }
            let usual = (side.same_ttl >= SAME_TTL).then_some(side.ttl);
            let reset = self.resets.entry_or_forget(tuple, || Reset {
                at: packet.at,
                seq: tcp.seq,
                ack: side.ack,
                ttl: packet.headers.ttl().unwrap_or(0),
                usual,
                seen: Seen::default(),
                went_on: 0,
            });
            reset.seen.add(packet);
            return;
        }
        let Some(reset) = self.resets.get_mut(&tuple) else { return };
        let soon = packet.at.saturating_sub(reset.at) <= SOON_NS;
        let sends = packet.headers.payload_len > 0 || tcp.flags & FIN != 0;
        let new = ahead(tcp.seq, reset.seq) >= 0 && sends
            || tcp.flags & ACK != 0 && reset.ack.is_some_and(|ack| ahead(tcp.ack, ack) > 0);
        if soon && new {
            reset.went_on += 1;
            reset.seen.add(packet);
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let resets = std::mem::replace(&mut self.resets, Bounded::new(1));
        let mut findings = Vec::new();
        for (tuple, reset) in resets.into_oldest_first() {
            let differs = reset.usual.filter(|usual| usual.abs_diff(reset.ttl) >= TTL_DIFFERS);
            if !(reset.went_on >= WENT_ON || reset.went_on > 0 && differs.is_some()) {
                continue;
            }
            let ttl = match differs {
                Some(usual) => format!(
                    "The reset came with TTL {}, its other packets with {usual}.",
                    reset.ttl
                ),
                None => format!(
                    "The reset came with TTL {}, as its other packets or nearly.",
                    reset.ttl
                ),
            };
            findings.push(
                Draft {
                    id: "in-path-reset",
                    severity: "high",
                    doubt: differs.is_none().then_some(
                        "medium: a balancer that resets for a server which goes on looks the same",
                    ),
                    title: format!("Somebody reset {tuple} in the name of {}.", tuple.src),
                    evidence: vec![
                        format!(
                            "{} went on after its reset: {} with new data or acknowledgements.",
                            tuple.src,
                            counted(reset.went_on, "packet")
                        ),
                        ttl,
                    ],
                    effect: "confirmed: the reset was at the right number, which a host takes.".to_owned(),
                    advice: "Look for a device on the path that is meant to do this (firewall, parental \
                             or state filter); TLS does not help against resets, IPsec and QUIC do.",
                    actors: vec!["a device on the path".to_owned()],
                    targets: vec![tuple.dst.to_string(), tuple.src.to_string()],
                    seen: &reset.seen,
                    references: &[
                        "RFC 3360",
                        "RFC 9293 section 3.5.2",
                        "Weaver, Sommer, Paxson NDSS 2009",
                        "MITRE ATT&CK T1565.002",
                    ],
                }
                .finding(context),
            );
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::Scene;
    use crate::sample::{tcp, with_ttl};

    const C: &str = "10.0.0.1:40000";
    const S: &str = "10.0.0.2:80";

    /// A connection whose server has TTL 57, then a reset in its name, then what follows.
    fn scene(reset_ttl: u8, then: &[psc_formats::packet::Headers]) -> usize {
        let mut scene = Scene::of(InPathReset::default());
        scene.headers(0, &tcp(C, S, SYN, 100, 0, 0));
        scene.headers(1, &with_ttl(tcp(S, C, SYN | ACK, 900, 101, 0), 57));
        for i in 0..4 {
            scene.headers(2, &with_ttl(tcp(S, C, ACK, 901 + i * 10, 101, 10), 57));
        }
        scene.headers(3, &tcp(C, S, ACK, 101, 941, 0));
        scene.headers(4, &with_ttl(tcp(S, C, RST, 941, 0, 0), reset_ttl));
        for (n, headers) in then.iter().enumerate() {
            scene.headers(5 + n as u64, &with_ttl(*headers, 57));
        }
        scene.ids().len()
    }

    #[test]
    fn a_side_that_goes_on_did_not_reset() {
        let data = |seq| tcp(S, C, ACK, seq, 101, 10);
        assert_eq!(scene(64, &[data(941)]), 1, "another TTL");
        assert_eq!(scene(57, &[data(941)]), 0, "the same TTL, once");
        assert_eq!(scene(57, &[data(941), data(951), data(961)]), 1);
        assert_eq!(scene(64, &[data(911)]), 0, "overtaken");
        assert_eq!(scene(64, &[]), 0, "it ended");
        let again =
            [tcp(C, S, SYN, 7000, 0, 0), tcp(S, C, SYN | ACK, 99_000, 7001, 0), data(99_001)];
        assert_eq!(scene(64, &again), 0, "the ports used again");
    }
}
