//! Floods of TCP segments that belong to no connection: ACK, RST, FIN, segments with flags that no TCP
//! sends (null, XMAS), and SYN-ACKs that nobody asked for (reflection).
//!
//! **Sees**, per host, kind and ten seconds, segments of conversations in which the other side sent
//! nothing but resets and this side no SYN. **Threshold**: 500, and at least four of five segments of that
//! kind to that host. A conversation that goes on (sequence or acknowledgement numbers advance) is a
//! connection that began before the recording, or is seen one way: it does not count.
//!
//! **Silent on** busy servers, captures that begin in the middle or see one direction, restarts (the
//! resets answer something), and scans (as many ports as segments, of fewer than 100 sources; port-scan looks
//! at those).

use std::net::IpAddr;

use crate::analyzer::tcp::{ACK, FIN, RST, SYN};
use crate::bounded::Top;
use crate::guarder::conversation::ahead;
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::effect;
use crate::guarder::evidence::{Distinct, Draft};
use crate::guarder::watch::{Tally, Watch};
use crate::view::detect::Finding;

const WINDOW_NS: u64 = 10_000_000_000;
const STRAYS: u64 = 500;
const HOSTS: usize = 1_024;
/// So many sources do not scan together; middleboxes that were asked in this host's name do answer so (Bock et al.
/// 2021, Weaponizing Middleboxes for TCP Reflected Amplification).
const MANY: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kind {
    SynAck,
    Ack,
    Rst,
    Fin,
    Odd,
}

impl Kind {
    fn of(flags: u16) -> Option<Self> {
        match flags & (SYN | ACK | RST | FIN) {
            SYN => None,
            flags if flags == SYN | ACK => Some(Self::SynAck),
            flags if flags & (SYN | FIN) == SYN | FIN || flags & (SYN | RST) == SYN | RST => {
                Some(Self::Odd)
            }
            flags if flags & RST != 0 => Some(Self::Rst),
            flags if flags & FIN != 0 => Some(Self::Fin),
            ACK => Some(Self::Ack),
            _ => Some(Self::Odd),
        }
    }

    fn id(self) -> &'static str {
        match self {
            Self::SynAck => "syn-ack-reflection",
            Self::Ack => "ack-flood",
            Self::Rst => "rst-flood",
            Self::Fin => "fin-flood",
            Self::Odd => "tcp-flag-flood",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::SynAck => "SYN-ACKs that it had not asked for",
            Self::Ack => "ACKs of no connection",
            Self::Rst => "resets of no connection",
            Self::Fin => "FINs of no connection",
            Self::Odd => "segments with flags that no TCP sends",
        }
    }
}

#[derive(Debug)]
struct Strays {
    stray: u64,
    /// Of those, conversations that went on.
    went_on: u64,
    known: u64,
    sources: Distinct<IpAddr>,
    ports: Distinct<u16>,
    top: Top<IpAddr>,
}

impl Tally for Strays {
    fn new() -> Self {
        Self {
            stray: 0,
            went_on: 0,
            known: 0,
            sources: Distinct::new(1_024),
            ports: Distinct::new(1_024),
            top: Top::new(32),
        }
    }

    fn is_attack(&self) -> bool {
        let stray = self.stray.saturating_sub(self.went_on);
        let scan = self.ports.len() as u64 * 4 > self.stray && self.sources.len() < MANY;
        stray >= STRAYS && stray >= self.known.saturating_mul(4) && !scan
    }

    fn merge(&mut self, later: Self) {
        self.stray += later.stray;
        self.went_on += later.went_on;
        self.known += later.known;
        self.sources.merge(later.sources);
        self.ports.merge(later.ports);
        for (source, n) in later.top.most(8) {
            self.top.add(source, n);
        }
    }
}

#[derive(Debug)]
pub(super) struct StrayFlood {
    hosts: Watch<(IpAddr, Kind), Strays>,
}

impl Default for StrayFlood {
    fn default() -> Self {
        Self { hosts: Watch::new(HOSTS, WINDOW_NS) }
    }
}

impl Detector for StrayFlood {
    fn about(&self) -> About {
        About {
            id: "tcp-stray-flood",
            sees: "500 or more ACKs, resets, FINs, odd flags or unasked SYN-ACKs of no connection at \
                   one host within ten seconds; silent on busy servers, captures from the middle or \
                   of one direction, restarts and scans.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let (Some(tcp), Some(tuple)) = (packet.headers.tcp(), packet.headers.tuple()) else {
            return;
        };
        let Some(kind) = Kind::of(tcp.flags).filter(|_| !tuple.dst.is_loopback()) else { return };
        let mut went_on = false;
        let stray = packet.flows.get(&tuple).is_none_or(|found| {
            let (side, peer) = found.sides(&tuple);
            let next = side.next.map_or(0, |next| ahead(tcp.seq, next));
            let acked = side.ack.map_or(0, |ack| ahead(tcp.ack, ack));
            // Retransmission and new data both move along.
            let moves = packet.headers.payload_len > 0 && next.unsigned_abs() < 1 << 20
                || (1..1 << 20).contains(&acked);
            went_on = kind != Kind::SynAck && side.next.is_some() && moves;
            // Resets alone (`next` unknown) are answers to strays.
            let connected = side.syn && kind != Kind::SynAck || peer.next.is_some();
            !connected && !went_on
        });
        self.hosts.of((tuple.dst, kind), packet.at).add(packet, |strays| {
            if stray {
                strays.stray += 1;
                strays.sources.add(tuple.src);
                strays.ports.add(tuple.dport);
                strays.top.add(tuple.src, 1);
            } else {
                strays.known += 1;
                strays.went_on += u64::from(went_on);
            }
        });
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let found = self.hosts.finish();
        found
            .into_iter()
            .map(|((host, kind), watched)| {
                let strays = &watched.attack;
                let mut actors: Vec<String> = strays
                    .top
                    .most(5)
                    .into_iter()
                    .filter(|(_, n)| n * 20 >= strays.stray)
                    .map(|(source, n)| {
                        if kind == Kind::SynAck {
                            format!("{source} (a reflector that is used; at least {n})")
                        } else {
                            format!("{source} (at least {n}; unproven: may be forged)")
                        }
                    })
                    .collect();
                if actors.is_empty() {
                    actors.push(format!("{} addresses with few each", strays.sources.count()));
                }
                Draft {
                    id: kind.id(),
                    severity: "high",
                    doubt: None,
                    title: format!("{host} got {} {}.", strays.stray, kind.words()),
                    evidence: vec![
                        format!("{} segments in the worst ten seconds.", watched.peak),
                        format!(
                            "From {} addresses, to {} ports.",
                            strays.sources.count(),
                            strays.ports.count()
                        ),
                        format!("{} segments of the kind belonged to connections.", strays.known),
                    ],
                    effect: effect::counters(
                        host,
                        &[
                            ("TcpOutRsts", "resets sent, in all"),
                            ("TcpExtTCPChallengeACK", "challenge ACKs"),
                            ("TcpExtTCPACKSkippedChallenge", "challenge ACKs withheld"),
                        ],
                        context,
                    ),
                    advice: "Drop what has no connection before the stack answers it (nft: ct state \
                             invalid drop) and limit it per source at the border.",
                    actors,
                    targets: vec![host.to_string()],
                    seen: &watched.evidence,
                    references: if kind == Kind::SynAck {
                        &["RFC 4987", "MITRE ATT&CK T1498.002"]
                    } else {
                        &["MITRE ATT&CK T1498.001", "RFC 9293 section 3.10.7", "CWE-400"]
                    },
                }
                .finding(context)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::Scene;
    use crate::sample;

    /// `n` segments of one kind, each from another address.
    fn flood(flags: u16, n: u32) -> Vec<String> {
        let mut scene = Scene::of(StrayFlood::default());
        for i in 0..n {
            let source =
                format!("{}:{}", std::net::Ipv4Addr::from(0x0b00_0000 + i), 1024 + i % 999);
            scene.headers(u64::from(i) * 5, &sample::tcp(&source, "10.0.0.2:80", flags, i, 7, 0));
        }
        scene.ids()
    }

    #[test]
    fn each_kind_has_its_name_and_threshold() {
        for (flags, id) in [
            (ACK, "ack-flood"),
            (RST, "rst-flood"),
            (FIN | ACK, "fin-flood"),
            (0, "tcp-flag-flood"),
            (SYN | ACK, "syn-ack-reflection"),
        ] {
            assert_eq!(flood(flags, 500), [id]);
            assert!(flood(flags, 499).is_empty(), "{id}");
        }
        assert!(flood(SYN, 1000).is_empty(), "SYNs are the SYN flood's");
    }

    #[test]
    fn connections_begun_before_or_seen_one_way_are_left_alone() {
        let mut scene = Scene::of(StrayFlood::default());
        for i in 0..3000_u32 {
            // Sixty connections, of which the recording sees one direction from the middle.
            let source = format!("192.0.2.1:{}", 2000 + i % 60);
            let data = sample::tcp(&source, "10.0.0.2:80", ACK, 5_000 + i / 60 * 100, 7, 100);
            scene.headers(u64::from(i), &data);
        }
        for port in 1..=1000 {
            let probe = sample::tcp("192.0.2.66:4000", &format!("10.0.0.2:{port}"), FIN, 1, 0, 0);
            scene.headers(3000 + port, &probe);
        }
        assert!(scene.ids().is_empty());
    }
}
