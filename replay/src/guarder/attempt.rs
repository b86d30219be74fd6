//! Attempts to reach somebody, from the first packet to what came of it: TCP handshakes, and the first
//! datagram of each UDP exchange.

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

/// At the end of a recording there is no more to wait for: most round trips on the Internet take less
/// than this.
const FINAL_NS: u64 = 300_000_000;

/// Attempts watched at once, in a flood tens of thousands a second.
const ATTEMPTS: usize = 131_072;

/// What happened to an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// A new SYN, or the first datagram between two ends.
    Opened,
    /// The same SYN again, as a real client does that gets no answer.
    Retried,
    /// A SYN-ACK or a datagram came back.
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

/// One step of one attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) turn: Turn,
    pub(super) at: u64,
    /// TCP or UDP.
    pub(super) protocol: u8,
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
    /// Of the SYN; 0 for UDP.
    seq: u32,
    /// Of the SYN-ACK; 0 for an answered datagram.
    server_seq: Option<u32>,
    ttl: u8,
    journey: Option<JourneyId>,
    /// Judged: kept only to know it again.
    settled: bool,
}

#[derive(Debug)]
pub(super) struct Attempts {
    /// By tuple, client first.
    open: Bounded<FiveTuple, Open>,
    /// (when opened, which), in order.
    deadlines: VecDeque<(u64, FiveTuple)>,
    now: u64,
}

impl Default for Attempts {
    fn default() -> Self {
        Self { open: Bounded::new(ATTEMPTS), deadlines: VecDeque::new(), now: 0 }
    }
}

impl Attempts {
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
                self.unreachable(quoted.tuple, packet.at, changes);
            }
            return;
        }
        let Some(tuple) = headers.tuple() else { return };
        if matches!(headers.transport, Transport::Udp(_)) {
            self.datagram(tuple, packet, changes);
        }
        let Some(tcp) = headers.tcp() else { return };
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
        self.opened(tuple, open, changes);
    }

    /// The first datagram between two ends is an attempt, the first one back its answer. Both are
    /// remembered after, so that a late answer to a closed port is no attempt of the answerer.
    fn datagram(&mut self, tuple: FiveTuple, packet: &Packet<'_>, changes: &mut Vec<Change>) {
        let at = packet.at;
        if self.open.get_mut(&tuple).is_some() {
            return;
        }
        if let Some(open) = self.open.get_mut(&tuple.reversed()) {
            if open.server_seq.replace(0).is_none() {
                changes.push(open.change(Turn::Answered, at, tuple.reversed()));
            }
            return;
        }
        let ttl = packet.headers.ttl().unwrap_or(0);
        let open =
            Open { at, seq: 0, server_seq: None, ttl, journey: packet.journey, settled: false };
        self.opened(tuple, open, changes);
    }

    fn opened(&mut self, tuple: FiveTuple, open: Open, changes: &mut Vec<Change>) {
        let at = open.at;
        *self.open.entry_or_forget(tuple, || open) = open;
        changes.push(open.change(Turn::Opened, at, tuple));
        self.deadlines.push_back((at, tuple));
        if self.deadlines.len() > ATTEMPTS {
            // Too many to wait for: the oldest goes unjudged rather than misjudged.
            self.deadlines.pop_front();
        }
    }

    /// An ICMP error about an attempt that nobody had answered. The exchange stays known: later
    /// datagrams of it are no new attempt.
    fn unreachable(&mut self, tuple: FiveTuple, at: u64, changes: &mut Vec<Change>) {
        if let Some(open) = self.open.get_mut(&tuple)
            && open.server_seq.is_none()
            && !open.settled
        {
            open.settled = true;
            changes.push(open.change(Turn::Refused, at, tuple));
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

    /// The recording is over: what waited for longer than most round trips had no answer.
    pub(super) fn finish(&mut self, changes: &mut Vec<Change>) {
        self.expire(self.now.saturating_sub(FINAL_NS), changes);
    }
}

impl Open {
    fn change(&self, turn: Turn, at: u64, tuple: FiveTuple) -> Change {
        Change {
            turn,
            at,
            protocol: tuple.protocol,
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
        let flows = crate::guarder::conversation::Conversations::default();
        let mut handshakes = Attempts::default();
        let mut changes = Vec::new();
        for (at, headers) in packets {
            handshakes.packet(&Packet::of(*at, headers, &flows), &mut changes);
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
        let later = sample::tcp("10.0.0.3:1", "10.0.0.4:2", ACK, 1, 1, 0);
        let ask = sample::udp("10.0.0.1:5000", "10.0.0.2:53", 20);
        let tell = sample::udp("10.0.0.2:53", "10.0.0.1:5000", 90);
        let about = |packet: &Headers, code| {
            let tuple = packet.tuple().expect("tuple");
            let quoted = Quoted { tuple, ip_id: 0, ttl: 1, tcp_seq: None, echo: None, udp: None };
            let icmp = Icmp { icmp_type: 3, code, checksum: 0, rest: 0, quoted: Some(quoted) };
            sample::icmp("10.0.0.9", "10.0.0.1", icmp)
        };
        let unreachable = about(&syn, 13);
        let (no_port, late) = (about(&ask, 3), about(&tell, 3));
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
            ("too early to say", vec![(0, syn), (SECOND / 4, later)], vec![Opened]),
            (
                "tried again",
                vec![(0, syn), (SECOND, syn), (3 * SECOND, syn), (7 * SECOND, syn)],
                vec![Opened, Retried, Retried, Unanswered, Retried],
            ),
            ("too fast for a retry", vec![(0, syn), (SECOND / 10, syn)], vec![Opened]),
            (
                "a datagram answered",
                vec![(0, ask), (1, tell), (2, ask), (3, tell)],
                vec![Opened, Answered],
            ),
            ("a datagram refused", vec![(0, ask), (1, no_port), (2, ask)], vec![Opened, Refused]),
            ("an answer refused", vec![(0, ask), (1, tell), (2, late)], vec![Opened, Answered]),
            ("a datagram unanswered", vec![(0, ask), (4 * SECOND, ask)], vec![Opened, Unanswered]),
        ];
        for (name, packets, expected) in cases {
            assert_eq!(turns(&packets), expected, "{name}");
        }
    }

    #[test]
    fn a_flood_of_syns_stays_bounded() {
        let flows = crate::guarder::conversation::Conversations::default();
        let mut handshakes = Attempts::default();
        let mut changes = Vec::new();
        for n in 0..400_000_u32 {
            let src = format!("{}:9", std::net::Ipv4Addr::from(0x0b00_0000 + n));
            let headers = sample::tcp(&src, S, SYN, 1, 0, 0);
            handshakes.packet(&Packet::of(u64::from(n), &headers, &flows), &mut changes);
            changes.clear();
        }
        assert!(handshakes.open.len() <= ATTEMPTS);
        assert!(handshakes.deadlines.len() <= ATTEMPTS);
    }
}
