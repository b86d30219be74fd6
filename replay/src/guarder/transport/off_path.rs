//! Off-path attacks on a TCP connection: resets, SYNs and data by somebody who has to guess sequence
//! numbers, and the probing for challenge ACKs that lets him stop guessing (CVE-2016-5696).
//!
//! **Sees** connections with both sides in view, and segments in them that the side they claim to come
//! from cannot have sent: resets at a sequence number that is neither the next one nor in flight, SYNs in
//! the middle, data 4 MiB or more away, acknowledgements of data that was never sent.
//! - **off-path-reset**: three or more such resets or SYNs at different numbers: RFC 5961 makes a host
//!   send one exact reset;
//! - **off-path-injection**: three or more segments of such data, or of data with such acknowledgements;
//! - **challenge-ack-probing**: 50 or more within one second in one connection, inside the window: each
//!   draws a challenge ACK, and Linux before 4.7 shared 100 a second among all connections.
//!
//! **Silent on** a host that resets at the exact number, however often; a client that comes back after a
//! crash (one SYN); loss, reordering and retransmission; connections begun before the recording.

use std::collections::BTreeMap;
use std::net::IpAddr;

use psc_formats::{EventKind, FiveTuple};

use crate::analyzer::tcp::{ACK, RST, SYN};
use crate::bounded::Bounded;
use crate::engine::{Sighting, World};
use crate::guarder::conversation::{FAR, ahead};
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::effect;
use crate::guarder::evidence::{Distinct, Draft, Seen, counted};
use crate::view::detect::Finding;

const GUESSES: usize = 3;
const PROBES: u64 = 50;
const SECOND_NS: u64 = 1_000_000_000;
const FLOWS: usize = 4_096;

/// Guesses in one direction of a connection.
#[derive(Debug)]
struct Guesses {
    resets: Distinct<u32>,
    syns: Distinct<u32>,
    data: Distinct<u32>,
    acks: Distinct<u32>,
    seen: Seen,
    in_window: u64,
    second: u64,
    in_second: u64,
    most_in_second: u64,
    /// The last guess of data, and of an acknowledgement.
    last_data: Option<u32>,
    last_ack: Option<u32>,
    /// Segments of the connection after a guess.
    went_on: u64,
}

#[derive(Debug)]
pub(super) struct OffPath {
    flows: Bounded<FiveTuple, Guesses>,
    /// Connections that the stack took a reset for, local end first.
    reset: BTreeMap<FiveTuple, u64>,
}

impl Default for OffPath {
    fn default() -> Self {
        Self { flows: Bounded::new(FLOWS), reset: BTreeMap::new() }
    }
}

#[derive(Clone, Copy)]
enum Guess {
    Reset,
    Syn,
    Data,
    Ack,
}

/// What kind of guess a segment is, and whether it hit the window.
fn guess(packet: &Packet<'_>, tuple: &FiveTuple) -> Option<(Guess, bool)> {
    let tcp = packet.headers.tcp()?;
    let found = packet.flows.get(tuple)?;
    let (side, peer) = found.sides(tuple);
    let (next, peer_next) = (side.next?, peer.next?);
    let received = peer.ack.unwrap_or(next);
    let window = (peer.window.max(65_535) as i32).min(1 << 30);
    let in_window = (0..=window).contains(&ahead(tcp.seq, received));
    if tcp.flags & RST != 0 {
        // A reset that answers a segment takes the number that it acknowledged, which is one that was
        // sent before; others take the next one, or 0.
        let sent = (-(FAR as i32)..=0).contains(&ahead(tcp.seq, next));
        let taken = sent || peer.ack == Some(tcp.seq) || tcp.seq == 0;
        return (!taken).then_some((Guess::Reset, in_window));
    }
    if side.fin || peer.fin {
        return None;
    }
    if tcp.flags & (SYN | ACK) == SYN {
        return (side.syn && ahead(tcp.seq, next).unsigned_abs() > 1)
            .then_some((Guess::Syn, in_window));
    }
    if tcp.flags & SYN != 0 {
        return None;
    }
    if packet.headers.payload_len > 0 && ahead(tcp.seq, next).unsigned_abs() > FAR {
        return Some((Guess::Data, false));
    }
    let acked_ahead = ahead(tcp.ack, peer_next);
    (tcp.flags & ACK != 0 && acked_ahead.unsigned_abs() > FAR).then_some((Guess::Ack, in_window))
}

impl Detector for OffPath {
    fn about(&self) -> About {
        About {
            id: "off-path-tcp",
            sees: "resets, SYNs and data at guessed numbers in connections in view, and probing for \
                   challenge ACKs; silent on exact resets, a client that comes back, loss and \
                   retransmission.",
        }
    }

    fn sighting(&mut self, _world: World<'_>, sighting: &Sighting<'_>) {
        if let EventKind::ReceiveReset { tuple } = sighting.event.kind
            && self.reset.len() < FLOWS
        {
            self.reset.insert(tuple, sighting.event.at.0);
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        if packet.headers.tcp().is_none() {
            return;
        }
        let Some(tuple) = packet.headers.tuple() else { return };
        self.confirmed(packet, &tuple);
        let Some((guess, in_window)) = guess(packet, &tuple) else {
            if let Some(guesses) = self.flows.get_mut(&tuple)
                && packet.headers.tcp().is_some_and(|tcp| tcp.flags & (RST | SYN) == 0)
            {
                guesses.went_on += 1;
            }
            return;
        };
        let seq = packet.headers.tcp().map_or(0, |tcp| tcp.seq);
        let guesses = self.flows.entry_or_forget(tuple, || Guesses {
            resets: Distinct::new(256),
            syns: Distinct::new(256),
            data: Distinct::new(256),
            acks: Distinct::new(256),
            seen: Seen::default(),
            in_window: 0,
            second: packet.at,
            in_second: 0,
            most_in_second: 0,
            last_data: None,
            last_ack: None,
            went_on: 0,
        });
        match guess {
            Guess::Reset => guesses.resets.add(seq),
            Guess::Syn => guesses.syns.add(seq),
            Guess::Data => {
                guesses.last_data = Some(seq);
                guesses.data.add(seq)
            }
            Guess::Ack => {
                let ack = packet.headers.tcp().map_or(0, |tcp| tcp.ack);
                guesses.last_ack = Some(ack);
                guesses.acks.add(ack)
            }
        };
        guesses.seen.add(packet);
        guesses.in_window += u64::from(in_window);
        guesses.went_on = 0;
        if packet.at.saturating_sub(guesses.second) >= SECOND_NS {
            guesses.second = packet.at;
            guesses.in_second = 0;
        }
        guesses.in_second += 1;
        guesses.most_in_second = guesses.most_in_second.max(guesses.in_second);
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let flows = std::mem::replace(&mut self.flows, Bounded::new(1));
        let mut findings = Vec::new();
        for (tuple, guesses) in flows.into_oldest_first() {
            let probing = guesses.most_in_second >= PROBES
                && guesses.in_window * 5 >= guesses.seen.packets * 4;
            let taken =
                self.reset.get(&tuple.reversed()).is_some_and(|at| *at >= guesses.seen.first());
            let (id, what) = if probing {
                ("challenge-ack-probing", "segments inside the window that draw challenge ACKs")
            } else if guesses.resets.len() + guesses.syns.len() >= GUESSES {
                ("off-path-reset", "resets or SYNs at guessed sequence numbers")
            } else if guesses.data.len().max(guesses.acks.len()) >= GUESSES {
                ("off-path-injection", "data at guessed sequence or acknowledgement numbers")
            } else {
                continue;
            };
            findings.push(finding(&tuple, &guesses, (id, what), taken, context));
        }
        findings
    }
}

impl OffPath {
    /// The other side took data at a guessed number, or sends at one that was acknowledged: it was no
    /// guess, but the recording misses what lies between.
    fn confirmed(&mut self, packet: &Packet<'_>, tuple: &FiveTuple) {
        let Some(tcp) = packet.headers.tcp().filter(|tcp| tcp.flags & (RST | SYN) == 0) else {
            return;
        };
        let Some(guesses) = self.flows.get_mut(&tuple.reversed()) else { return };
        let near = |guess: Option<u32>, number: u32| {
            guess.is_some_and(|guess| ahead(number, guess).unsigned_abs() <= FAR)
        };
        if near(guesses.last_data, tcp.ack) || near(guesses.last_ack, tcp.seq) {
            guesses.data = Distinct::new(256);
            guesses.acks = Distinct::new(256);
        }
    }
}

fn finding(
    tuple: &FiveTuple,
    guesses: &Guesses,
    (id, what): (&str, &str),
    taken: bool,
    context: &Context<'_>,
) -> Finding {
    let challenge: &[(&str, &str)] = &[
        ("TcpExtTCPChallengeACK", "challenge ACKs sent"),
        ("TcpExtTCPSYNChallenge", "challenge ACKs for SYNs"),
        ("TcpExtTCPACKSkippedChallenge", "challenge ACKs withheld"),
    ];
    let effect = if taken {
        "confirmed: the stack took a reset and ended the connection.".to_owned()
    } else if context.has_stack() {
        let drawn = effect::counters(tuple.dst, challenge, context);
        match drawn.strip_prefix("confirmed: ") {
            Some(rises) => format!("not confirmed: the connection was not reset; {rises}"),
            None => drawn,
        }
    } else if guesses.went_on > 0 {
        format!("not confirmed: {} of its sender followed.", counted(guesses.went_on, "segment"))
    } else {
        "not observable: nothing of its sender followed in this capture.".to_owned()
    };
    let target: IpAddr = tuple.dst;
    Draft {
        id,
        severity: "high",
        doubt: None,
        title: format!(
            "{} in {tuple} that its sender cannot have sent: {what}.",
            counted(guesses.seen.packets, "segment")
        ),
        evidence: vec![
            format!(
                "Different numbers: {} of resets, {} of SYNs, {} of data, {} acknowledged.",
                guesses.resets.count(),
                guesses.syns.count(),
                guesses.data.count(),
                guesses.acks.count()
            ),
            format!(
                "{} hit the window; {} in the busiest second.",
                guesses.in_window, guesses.most_in_second
            ),
        ],
        effect,
        advice: "Run a kernel with RFC 5961 (Linux 3.6) and per-socket limits (4.7); TLS keeps what \
                 is injected from being read; between routers TCP-AO (RFC 5925).",
        actors: vec![format!("somebody in the name of {} who does not see the connection", tuple.src)],
        targets: vec![target.to_string()],
        seen: &guesses.seen,
        references: &["RFC 5961", "CVE-2004-0230", "CVE-2016-5696", "MITRE ATT&CK T1565.002"],
    }
    .finding(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::Scene;
    use crate::sample;

    const C: &str = "10.0.0.1:40000";
    const S: &str = "10.0.0.2:80";

    /// An open connection: the client at 101, the server at 1001.
    fn open() -> Scene {
        let mut scene = Scene::of(OffPath::default());
        scene.headers(0, &sample::tcp(C, S, SYN, 100, 0, 0));
        scene.headers(1, &sample::tcp(S, C, SYN | ACK, 900, 101, 0));
        scene.headers(2, &sample::tcp(C, S, ACK, 101, 901, 0));
        scene.headers(3, &sample::tcp(S, C, ACK, 901, 101, 100));
        scene.headers(4, &sample::tcp(C, S, ACK, 101, 1001, 0));
        scene
    }

    #[test]
    fn guesses_are_found_by_what_they_try() {
        type Made = fn(u32) -> psc_formats::packet::Headers;
        let cases: [(&str, Made, u32, &[&str]); 8] = [
            ("resets", |i| sample::tcp(C, S, RST, 50_000 * (i + 1), 0, 0), 3, &["off-path-reset"]),
            ("two resets", |i| sample::tcp(C, S, RST, 50_000 * (i + 1), 0, 0), 2, &[]),
            ("the same reset again", |_| sample::tcp(C, S, RST, 50_000, 0, 0), 9, &[]),
            ("exact resets", |_| sample::tcp(C, S, RST, 101, 0, 0), 9, &[]),
            (
                "data",
                |i| sample::tcp(C, S, ACK, 500_000_000 * (i + 1), 1001, 9),
                3,
                &["off-path-injection"],
            ),
            ("SYNs", |i| sample::tcp(C, S, SYN, 90_000 * (i + 1), 0, 0), 3, &["off-path-reset"]),
            ("one SYN", |_| sample::tcp(C, S, SYN, 90_000, 0, 0), 1, &[]),
            (
                "a hundred in the window",
                |i| sample::tcp(C, S, RST, 102 + i, 0, 0),
                100,
                &["challenge-ack-probing"],
            ),
        ];
        for (name, make, n, expected) in cases {
            let mut scene = open();
            for i in 0..n {
                scene.headers(100 + u64::from(i) * 5, &make(i));
            }
            assert_eq!(scene.ids(), expected, "{name}");
        }
    }

    #[test]
    fn ordinary_loss_is_left_alone() {
        let mut scene = open();
        for i in 0..200_u32 {
            let at = 10 + u64::from(i);
            scene.headers(at, &sample::tcp(S, C, ACK, 1001 + i * 1000, 101, 1000));
            if i % 7 == 0 {
                scene.headers(at, &sample::tcp(S, C, ACK, 1001 + i * 900, 101, 1000));
            }
            scene.headers(at, &sample::tcp(C, S, ACK, 101, 1001 + i * 800, 0));
        }
        assert!(scene.ids().is_empty());
    }
}
