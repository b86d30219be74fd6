//! One TCP connection as seen from outside: end states, retransmissions, handshake.
//!
//! States and the code they make are Zeek's, so that `conn_state` means what readers of its
//! `conn.log` know (`scripts/base/protocols/conn/main.zeek`, `src/analyzer/protocol/tcp`).

use psc_formats::packet::Tcp;

pub(crate) const FIN: u16 = 0x01;
pub(crate) const SYN: u16 = 0x02;
pub(crate) const RST: u16 = 0x04;
pub(crate) const ACK: u16 = 0x10;

/// A late segment that fills a hole younger than this is out of order, not a retransmission, when
/// no handshake told the RTT: Wireshark's bound for the same question.
const REORDER_NS: u64 = 3_000_000;

/// The same packet seen twice (capture on `any`, a mirror port) comes within this.
const DUPLICATE_NS: u64 = 1_000_000;

/// Holes remembered per direction; more and the oldest counts as lost for good.
const HOLES: usize = 8;

/// State of one end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    #[default]
    Inactive,
    SynSent,
    SynAckSent,
    /// Sends, but its SYN was not seen.
    Partial,
    Established,
    Closed,
    Reset,
}

/// What a segment is to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// New data, or nothing but an acknowledgement.
    New,
    /// Bytes that had been sent before.
    Retransmitted,
    /// Fills a hole too soon to have been sent again.
    OutOfOrder,
    /// Keep-alive: one byte or none, just before what was sent.
    KeepAlive,
    /// The very same packet seen again.
    Duplicate,
}

/// Sequence space of one direction.
#[derive(Clone, Debug, Default)]
struct Sent {
    /// Initial sequence number, when the SYN was seen.
    initial: Option<u32>,
    /// One past the highest byte seen.
    next: Option<u32>,
    /// Bytes not seen though later ones were: (from, to, when noticed).
    holes: Vec<(u32, u32, u64)>,
    /// The last segment, to know it again: (IPv4 id, seq, ack, len, flags, when).
    last: Option<(u16, u32, u32, u32, u16, u64)>,
    /// Any payload seen.
    payload: bool,
}

/// One TCP connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct TcpConnection {
    /// Originator, responder.
    ends: [End; 2],
    sent: [Sent; 2],
    syn_at: Option<u64>,
    /// The SYN or the SYN-ACK came more than once: which one was answered is unknown (Karn).
    handshake_ambiguous: bool,
    handshake_rtt: Option<u64>,
    /// Window scale and the like are not kept: nothing here needs them.
    established_at: Option<u64>,
}

fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

impl TcpConnection {
    /// Whether a SYN without ACK from `from` (0 originator) starts another connection on the same
    /// ports: its initial sequence number is not the one known.
    pub(crate) fn is_new_connection(&self, from: usize, seq: u32) -> bool {
        match self.sent[from].initial {
            Some(initial) => initial != seq,
            // A crossing SYN of a simultaneous open.
            None => !(from == 1 && self.ends == [End::SynSent, End::Inactive]),
        }
    }

    /// Takes one segment in. `from` is 0 for the originator; `ip_id` is the IPv4 identification,
    /// `None` where it says nothing (IPv6, zero).
    pub(crate) fn segment(
        &mut self,
        at: u64,
        from: usize,
        tcp: &Tcp,
        payload_len: u32,
        ip_id: Option<u16>,
    ) -> Segment {
        let syn = tcp.flags & SYN != 0;
        let fin = tcp.flags & FIN != 0;
        let rst = tcp.flags & RST != 0;
        let len = payload_len.saturating_add(u32::from(syn)).saturating_add(u32::from(fin));

        let sent = &mut self.sent[from];
        if let Some(id) = ip_id {
            let this = (id, tcp.seq, tcp.ack, len, tcp.flags, at);
            let last = sent.last.replace(this);
            if last.is_some_and(|l| {
                (l.0, l.1, l.2, l.3, l.4) == (id, tcp.seq, tcp.ack, len, tcp.flags)
                    && at.saturating_sub(l.5) < DUPLICATE_NS
            }) {
                return Segment::Duplicate;
            }
        }
        sent.payload |= payload_len > 0 && !syn;

        let rtt = self.handshake_rtt.unwrap_or(REORDER_NS);
        let verdict = if rst || len == 0 {
            Segment::New
        } else {
            sent.place(at, tcp.seq, len, syn || fin, rtt)
        };
        self.handshake(at, from, tcp, verdict);
        self.advance(from, tcp.flags);
        verdict
    }

    fn handshake(&mut self, at: u64, from: usize, tcp: &Tcp, verdict: Segment) {
        let flags = tcp.flags & (SYN | ACK | RST);
        if flags & SYN != 0 && flags & RST == 0 {
            if verdict == Segment::Retransmitted {
                self.handshake_ambiguous = true;
            }
            self.sent[from].initial = Some(tcp.seq);
            if from == 0 && flags == SYN && self.syn_at.is_none() {
                self.syn_at = Some(at);
            }
        } else if flags == ACK && from == 0 && self.established_at.is_none() {
            let answers = self.sent[1].initial.is_some_and(|isn| tcp.ack == isn.wrapping_add(1));
            if answers {
                self.established_at = Some(at);
                if !self.handshake_ambiguous {
                    self.handshake_rtt = self.syn_at.map(|syn| at.saturating_sub(syn));
                }
            }
        }
    }

    fn advance(&mut self, from: usize, flags: u16) {
        let [syn, ack, fin, rst] = [SYN, ACK, FIN, RST].map(|bit| flags & bit != 0);
        let peer = 1 - from;
        if rst {
            // A reset after both ends had closed changes nothing that either end cares about.
            if self.ends != [End::Closed; 2] {
                self.ends[from] = End::Reset;
            }
            return;
        }
        self.ends[from] = match self.ends[from] {
            End::Inactive if syn && from == 0 && ack => End::SynAckSent,
            End::Inactive if syn && from == 0 => End::SynSent,
            End::Inactive if syn => {
                if matches!(self.ends[peer], End::SynSent | End::SynAckSent) {
                    self.ends[peer] = End::Established;
                }
                End::Established
            }
            End::Inactive if !fin => End::Partial,
            // The final ACK of a handshake whose SYN-ACK was not seen, and data after it.
            End::SynSent | End::SynAckSent if !syn && !fin && ack => {
                if self.ends[peer] == End::Partial || self.ends[peer] == End::Established {
                    End::Established
                } else {
                    self.ends[from]
                }
            }
            known => known,
        };
        if fin && self.ends[from] != End::Reset {
            self.ends[from] = End::Closed;
        }
    }

    /// Zeek's `conn_state`.
    pub(crate) fn conn_state(&self) -> &'static str {
        let [orig, resp] = self.ends;
        let inactive = |end| matches!(end, End::Inactive | End::Partial);
        let no_data = !self.sent[0].payload && !self.sent[1].payload;
        match (orig, resp) {
            (End::SynSent | End::SynAckSent, End::Reset) => "REJ",
            (End::Reset, End::Reset) if no_data => "REJ",
            (_, End::Reset) if inactive(orig) => "RSTRH",
            (_, End::Reset) => "RSTR",
            (End::Reset, _) if inactive(resp) => "RSTOS0",
            (End::Reset, _) => "RSTO",
            (End::Closed, End::Closed) => "SF",
            (End::Closed, _) if inactive(resp) => "SH",
            (End::Closed, _) => "S2",
            (_, End::Closed) if inactive(orig) => "SHR",
            (_, End::Closed) => "S3",
            (End::SynSent, End::Inactive) => "S0",
            (End::Established, End::Established) => "S1",
            _ => "OTH",
        }
    }

    /// Time from the SYN to the ACK of the SYN-ACK: one whole round trip wherever on the path it
    /// is watched. `None` when a part is missing or was sent twice.
    pub(crate) fn handshake_rtt(&self) -> Option<u64> {
        self.handshake_rtt
    }
}

impl Sent {
    /// Places `len` sequence numbers from `seq`; `control` when SYN or FIN is among them.
    fn place(&mut self, at: u64, seq: u32, len: u32, control: bool, rtt: u64) -> Segment {
        let end = seq.wrapping_add(len);
        let Some(next) = self.next else {
            self.next = Some(end);
            return Segment::New;
        };
        if !before(seq, next) {
            if seq != next {
                if self.holes.len() == HOLES {
                    self.holes.remove(0);
                }
                self.holes.push((next, seq, at));
            }
            self.next = Some(end);
            return Segment::New;
        }
        if len == 1 && !control && seq == next.wrapping_sub(1) {
            return Segment::KeepAlive;
        }
        if before(next, end) {
            self.next = Some(end);
        }
        let hole =
            self.holes.iter().position(|&(from, to, _)| !before(seq, from) && !before(to, end));
        let Some(index) = hole else { return Segment::Retransmitted };
        let (from, to, noticed) = self.holes.remove(index);
        if from != seq {
            self.holes.push((from, seq, noticed));
        }
        if end != to && self.holes.len() < HOLES {
            self.holes.push((end, to, noticed));
        }
        if at.saturating_sub(noticed) < rtt { Segment::OutOfOrder } else { Segment::Retransmitted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `o` and `r` say who sends; then flags; then `+n` payload bytes. Sequence numbers follow.
    fn play(script: &str) -> TcpConnection {
        let mut connection = TcpConnection::default();
        let mut seq = [100_u32, 900];
        for (index, word) in script.split_whitespace().enumerate() {
            let (who, rest) = word.split_at(1);
            let from = usize::from(who == "r");
            let (flags, payload) = rest.split_once('+').unwrap_or((rest, "0"));
            let payload: u32 = payload.parse().expect("payload");
            let bits = flags.chars().fold(0, |bits, c| {
                bits | match c {
                    'S' => SYN,
                    'A' => ACK,
                    'F' => FIN,
                    'R' => RST,
                    other => panic!("flag {other}"),
                }
            });
            let tcp = segment(bits, seq[from], seq[1 - from]);
            connection.segment(index as u64 * 1_000_000, from, &tcp, payload, None);
            seq[from] += payload + u32::from(bits & (SYN | FIN) != 0);
        }
        connection
    }

    fn segment(flags: u16, seq: u32, ack: u32) -> Tcp {
        Tcp {
            sport: 1,
            dport: 2,
            seq,
            ack: if flags & ACK != 0 { ack } else { 0 },
            flags,
            window: 1000,
            header_len: 20,
            checksum: 0,
            options: psc_formats::packet::TcpOptions::default(),
        }
    }

    #[test]
    fn conn_state_is_zeeks() {
        #[rustfmt::skip]
        let cases = [
            ("S0",     "oS"),
            ("S0",     "oS oS oS"),
            ("S1",     "oS rSA oA"),
            ("S1",     "oS rSA oA oA+10 rA+20 oA"),
            ("SF",     "oS rSA oA oA+10 rA+20 oFA rFA oA"),
            ("SF",     "oS rSA oA rFA oFA rA"),
            ("SF",     "oS rSA oA oFA rFA oA oR"),
            ("REJ",    "oS rRA"),
            ("S2",     "oS rSA oA oFA rA"),
            ("S3",     "oS rSA oA rFA oA"),
            ("RSTO",   "oS rSA oR"),
            ("RSTO",   "oS rSA oA oA+10 oRA"),
            ("RSTR",   "oS rSA oA oA+10 rRA"),
            ("RSTOS0", "oS oR"),
            ("RSTRH",  "rSA rR"),
            ("SH",     "oS oF"),
            ("SHR",    "rSA rFA"),
            ("OTH",    "oA+10 rA+5"),
            ("OTH",    "rSA"),
        ];
        for (state, script) in cases {
            assert_eq!(play(script).conn_state(), state, "{script}");
        }
    }

    #[test]
    fn the_handshake_rtt_is_syn_to_ack_unless_something_was_sent_twice() {
        assert_eq!(play("oS rSA oA").handshake_rtt(), Some(2_000_000));
        assert_eq!(play("oS rSA oA+5").handshake_rtt(), Some(2_000_000));
        assert_eq!(play("oS rSA").handshake_rtt(), None);
        assert_eq!(play("rSA oA").handshake_rtt(), None);
        let mut twice = TcpConnection::default();
        twice.segment(0, 0, &segment(SYN, 10, 0), 0, None);
        twice.segment(1_000_000_000, 0, &segment(SYN, 10, 0), 0, None);
        twice.segment(1_000_500_000, 1, &segment(SYN | ACK, 70, 11), 0, None);
        twice.segment(1_000_600_000, 0, &segment(ACK, 11, 71), 0, None);
        assert_eq!(twice.handshake_rtt(), None);
    }

    #[test]
    fn each_segment_has_its_verdict() {
        use Segment::{Duplicate, KeepAlive, New, OutOfOrder, Retransmitted};
        #[rustfmt::skip]
        let cases = [
            // ms   seq   len  id        verdict
            (0,     100,  10,  Some(1), New),
            (1,     110,  10,  Some(2), New),
            (2,     110,  10,  Some(3), Retransmitted),
            (2,     110,  10,  Some(3), Duplicate),     // same identification at once: seen twice
            (5,     140,  10,  Some(4), New),           // leaves a hole 120..140
            (6,     120,  10,  Some(5), OutOfOrder),    // fills it within the reorder bound
            (90,    130,  10,  Some(6), Retransmitted), // fills it far too late for reordering
            (91,    149,   1,  Some(7), KeepAlive),
            (92,    145,  20,  Some(8), Retransmitted), // overlaps and goes on
            (93,    165,   5,  Some(9), New),
            (94,    165,   0,  Some(10), New),          // a pure acknowledgement
        ];
        let mut connection = TcpConnection::default();
        for (ms, seq, len, id, verdict) in cases {
            let got = connection.segment(ms * 1_000_000, 0, &segment(ACK, seq, 1), len, id);
            assert_eq!(got, verdict, "{ms} ms, seq {seq}, len {len}");
        }
    }

    #[test]
    fn sequence_numbers_wrap() {
        let mut connection = TcpConnection::default();
        let start = u32::MAX - 4;
        for (seq, verdict) in [
            (start, Segment::New),
            (start.wrapping_add(10), Segment::New),
            (start, Segment::Retransmitted),
            (start.wrapping_add(20), Segment::New),
        ] {
            assert_eq!(connection.segment(0, 0, &segment(ACK, seq, 1), 10, None), verdict);
        }
    }

    #[test]
    fn a_syn_with_another_number_is_another_connection() {
        let connection = play("oS rSA oA oFA rFA");
        assert!(!connection.is_new_connection(0, 100));
        assert!(connection.is_new_connection(0, 77));
        assert!(connection.is_new_connection(1, 77));
        assert!(!play("oS").is_new_connection(1, 77), "simultaneous open");
        assert!(play("oA+5").is_new_connection(0, 100), "midstream traffic before it");
    }
}
