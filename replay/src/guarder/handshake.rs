//! TCP handshakes from first SYN to their end, for the detectors that judge them.

use std::collections::VecDeque;
use std::net::SocketAddr;

use psc_formats::FiveTuple;
use psc_formats::packet::Transport;

use crate::analyzer::tcp::{ACK, RST, SYN};
use crate::bounded::Bounded;

use super::detect::Packet;
use crate::engine::JourneyId;

/// A SYN with no answer for this long was not answered: the initial RTO of one second (RFC 6298), and
/// the two that follow it.
const ANSWER_NS: u64 = 3_000_000_000;

/// A SYN sent again sooner than this was not sent by a TCP that follows RFC 6298.
const RETRY_NS: u64 = 900_000_000;

/// Handshakes watched at once, in a flood tens of thousands a second.
const HANDSHAKES: usize = 131_072;

/// What happened to a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// A new SYN.
    Opened,
    /// The same SYN again, as a real client does that gets no answer.
    Retried,
    /// A SYN-ACK came.
    Answered,
    /// The client acknowledged it: it is where it says it is.
    Completed,
    /// The server answered with a reset, or a router or host with ICMP unreachable.
    Refused,
    /// The client reset it.
    Aborted,
    /// Nothing came for [`ANSWER_NS`].
    Unanswered,
}

/// One step of one handshake.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) turn: Turn,
    pub(super) at: u64,
    pub(super) client: SocketAddr,
    pub(super) server: SocketAddr,
    /// TTL of the first SYN where it was seen.
    pub(super) ttl: u8,
    /// Journey of the first SYN.
    pub(super) journey: Option<JourneyId>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    at: u64,
    seq: u32,
    server_seq: Option<u32>,
    ttl: u8,
    journey: Option<JourneyId>,
    /// Judged: kept only to know it again.
    settled: bool,
}

#[derive(Debug)]
pub(super) struct Handshakes {
    /// By tuple, client first.
    open: Bounded<FiveTuple, Open>,
    /// (when opened, which), in order.
    deadlines: VecDeque<(u64, FiveTuple)>,
    now: u64,
}

impl Default for Handshakes {
    fn default() -> Self {
        Self { open: Bounded::new(HANDSHAKES), deadlines: VecDeque::new(), now: 0 }
    }
}

impl Handshakes {
    pub(super) fn packet(&mut self, packet: &Packet<'_>, changes: &mut Vec<Change>) {
        self.now = self.now.max(packet.at);
        self.expire(self.now.saturating_sub(ANSWER_NS), changes);
        let headers = packet.headers;
        if let Transport::Icmp(icmp) = &headers.transport {
            let unreachable = match headers.addresses() {
                Some((src, _)) if src.is_ipv4() => icmp.icmp_type == 3 && icmp.code != 4,
                _ => icmp.icmp_type == 1,
            };
            if let Some(quoted) = icmp.quoted.filter(|_| unreachable) {
                self.end(quoted.tuple, Turn::Refused, packet.at, changes);
            }
            return;
        }
        let (Some(tcp), Some(tuple)) = (headers.tcp(), headers.tuple()) else { return };
        match tcp.flags & (SYN | ACK | RST) {
            SYN => {
                let ttl = headers.ttl().unwrap_or(0);
                self.syn(tuple, tcp.seq, ttl, packet, changes);
            }
            flags if flags == SYN | ACK => {
                let tuple = tuple.reversed();
                if let Some(open) = self.open.get_mut(&tuple)
                    && tcp.ack == open.seq.wrapping_add(1)
                    && open.server_seq.replace(tcp.seq).is_none()
                {
                    changes.push(open.change(Turn::Answered, packet.at, tuple));
                }
            }
            ACK => {
                let Some(open) = self.open.get(&tuple) else { return };
                // Only who saw the SYN-ACK knows its number. Where the SYN-ACK was not seen (one-way
                // capture, loss), a client that goes on is believed.
                let proves = open
                    .server_seq
                    .is_none_or(|seq| matches!(tcp.ack.wrapping_sub(seq), 1..0x4000_0000));
                if proves {
                    self.end(tuple, Turn::Completed, packet.at, changes);
                }
            }
            flags if flags & RST != 0 => {
                if self.open.get(&tuple).is_some() {
                    self.end(tuple, Turn::Aborted, packet.at, changes);
                } else {
                    self.end(tuple.reversed(), Turn::Refused, packet.at, changes);
                }
            }
            _ => {}
        }
    }

    fn syn(
        &mut self,
        tuple: FiveTuple,
        seq: u32,
        ttl: u8,
        packet: &Packet<'_>,
        changes: &mut Vec<Change>,
    ) {
        let at = packet.at;
        if let Some(open) = self.open.get_mut(&tuple)
            && open.seq == seq
        {
            if at.saturating_sub(open.at) >= RETRY_NS {
                changes.push(open.change(Turn::Retried, at, tuple));
            }
            return;
        }
        let open = Open { at, seq, server_seq: None, ttl, journey: packet.journey, settled: false };
        *self.open.entry_or_forget(tuple, || open) = open;
        changes.push(open.change(Turn::Opened, at, tuple));
        self.deadlines.push_back((at, tuple));
        if self.deadlines.len() > HANDSHAKES {
            // Too many to wait for: the oldest goes unjudged rather than misjudged.
            self.deadlines.pop_front();
        }
    }

    fn end(&mut self, tuple: FiveTuple, turn: Turn, at: u64, changes: &mut Vec<Change>) {
        if let Some(open) = self.open.remove(&tuple)
            && !(open.settled && turn == Turn::Refused)
        {
            changes.push(open.change(turn, at, tuple));
        }
    }

    /// Judges SYNs from before `limit` that had no answer.
    fn expire(&mut self, limit: u64, changes: &mut Vec<Change>) {
        while let Some(&(at, tuple)) = self.deadlines.front()
            && at < limit
        {
            self.deadlines.pop_front();
            // `get` and not `get_mut`: waiting is no use.
            let waits = self
                .open
                .get(&tuple)
                .is_some_and(|open| open.at == at && open.server_seq.is_none() && !open.settled);
            if waits && let Some(open) = self.open.get_mut(&tuple) {
                open.settled = true;
                changes.push(open.change(Turn::Unanswered, at.saturating_add(ANSWER_NS), tuple));
            }
        }
    }

    /// The recording is over: what waited for at least one RTO had no answer.
    pub(super) fn finish(&mut self, changes: &mut Vec<Change>) {
        self.expire(self.now.saturating_sub(RETRY_NS), changes);
    }
}

impl Open {
    fn change(&self, turn: Turn, at: u64, tuple: FiveTuple) -> Change {
        Change {
            turn,
            at,
            client: SocketAddr::new(tuple.src, tuple.sport),
            server: SocketAddr::new(tuple.dst, tuple.dport),
            ttl: self.ttl,
            journey: self.journey,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use psc_formats::packet::{Headers, Icmp, Quoted};

    const C: &str = "10.0.0.1:40000";
    const S: &str = "10.0.0.2:80";
    const SECOND: u64 = 1_000_000_000;

    fn turns(packets: &[(u64, Headers)]) -> Vec<Turn> {
        let mut handshakes = Handshakes::default();
        let mut changes = Vec::new();
        for (at, headers) in packets {
            handshakes.packet(&Packet { at: *at, journey: None, headers }, &mut changes);
        }
        handshakes.finish(&mut changes);
        changes.iter().map(|change| change.turn).collect()
    }

    #[test]
    fn each_end_of_a_handshake_has_its_turn() {
        use Turn::{Aborted, Answered, Completed, Opened, Refused, Retried, Unanswered};
        let syn = sample::tcp(C, S, SYN, 100, 0, 0);
        let syn_ack = sample::tcp(S, C, SYN | ACK, 900, 101, 0);
        let ack = sample::tcp(C, S, ACK, 101, 901, 0);
        let wrong_ack = sample::tcp(C, S, ACK, 101, 77, 0);
        let reset = sample::tcp(S, C, RST | ACK, 0, 101, 0);
        let give_up = sample::tcp(C, S, RST, 101, 0, 0);
        let later = sample::udp("10.0.0.3:1", "10.0.0.4:2", 0);
        let quoted = Quoted {
            tuple: syn.tuple().expect("tuple"),
            ip_id: 0,
            ttl: 1,
            tcp_seq: None,
            echo: None,
            udp: None,
        };
        let icmp = Icmp { icmp_type: 3, code: 13, checksum: 0, rest: 0, quoted: Some(quoted) };
        let unreachable = sample::icmp("10.0.0.9", "10.0.0.1", icmp);
        type Case = (&'static str, Vec<(u64, Headers)>, Vec<Turn>);
        let cases: Vec<Case> = vec![
            (
                "completed",
                vec![(0, syn), (1, syn_ack), (2, ack)],
                vec![Opened, Answered, Completed],
            ),
            ("seen one way", vec![(0, syn), (2, ack)], vec![Opened, Completed]),
            (
                "blind acknowledgement",
                vec![(0, syn), (1, syn_ack), (2, wrong_ack)],
                vec![Opened, Answered],
            ),
            ("refused", vec![(0, syn), (1, reset)], vec![Opened, Refused]),
            ("unreachable", vec![(0, syn), (1, unreachable)], vec![Opened, Refused]),
            (
                "half-open scan",
                vec![(0, syn), (1, syn_ack), (2, give_up)],
                vec![Opened, Answered, Aborted],
            ),
            ("unanswered", vec![(0, syn), (4 * SECOND, later)], vec![Opened, Unanswered]),
            ("unanswered at the end", vec![(0, syn), (SECOND, later)], vec![Opened, Unanswered]),
            ("too early to say", vec![(0, syn), (SECOND / 2, later)], vec![Opened]),
            (
                "tried again",
                vec![(0, syn), (SECOND, syn), (3 * SECOND, syn), (7 * SECOND, syn)],
                vec![Opened, Retried, Retried, Unanswered, Retried],
            ),
            ("too fast for a retry", vec![(0, syn), (SECOND / 10, syn)], vec![Opened]),
        ];
        for (name, packets, expected) in cases {
            assert_eq!(turns(&packets), expected, "{name}");
        }
    }

    #[test]
    fn a_flood_of_syns_stays_bounded() {
        let mut handshakes = Handshakes::default();
        let mut changes = Vec::new();
        for n in 0..400_000_u32 {
            let src = format!("{}:9", std::net::Ipv4Addr::from(0x0b00_0000 + n));
            let headers = sample::tcp(&src, S, SYN, 1, 0, 0);
            handshakes.packet(
                &Packet { at: u64::from(n), journey: None, headers: &headers },
                &mut changes,
            );
            changes.clear();
        }
        assert!(handshakes.open.len() <= HANDSHAKES);
        assert!(handshakes.deadlines.len() <= HANDSHAKES);
    }
}
