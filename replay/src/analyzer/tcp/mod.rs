//! One TCP connection as seen from outside: end states, round trips, and what each segment is.
//!
//! Definitions follow Wireshark's `tcp.analysis` fields where they define a term (User's Guide, "TCP
//! Analysis"), the RFCs where those do, and Zeek for end states. They part where Wireshark guesses by
//! time alone: a segment below the highest sequence number is called out of order or a retransmission
//! by what was captured before, SACK, timestamps, identifications and the kernel's word, in `judge`.

mod half;
mod judge;
mod rtt;
mod seen;
mod state;
mod verdict;

pub use verdict::{Kind, Note, Rule};

use psc_formats::packet::Tcp;

use crate::view::tcp::{TcpEnd, TcpSheet};
use half::Half;
use state::{States, Step};

pub(crate) const FIN: u16 = 0x01;
pub(crate) const SYN: u16 = 0x02;
pub(crate) const RST: u16 = 0x04;
pub(crate) const ACK: u16 = 0x10;

/// The same packet seen twice (capture on `any`, a mirror port) comes within this.
const DUPLICATE_NS: u64 = 1_000_000;

/// Takes notes as they are made.
pub(crate) trait Notes {
    fn note(&mut self, note: Note);
}

/// One segment, its packet told once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment<'a> {
    pub(crate) at: u64,
    /// 0 originator, 1 responder.
    pub(crate) from: usize,
    pub(crate) tcp: &'a Tcp,
    /// Payload bytes.
    pub(crate) payload: u32,
    /// Wire segments that it stands for.
    pub(crate) wire: u32,
    /// IPv4 identification; `None` where it says nothing (IPv6, zero).
    pub(crate) ip_id: Option<u16>,
    /// Number of the packet in its file, from 1, or 0.
    pub(crate) packet: u64,
    /// Journey, or 0.
    pub(crate) journey: u64,
}

impl Segment<'_> {
    fn has(&self, bits: u16) -> bool {
        self.tcp.flags & bits != 0
    }

    /// Sequence numbers that it takes.
    fn space(&self) -> u32 {
        let controls = u32::from(self.has(SYN)) + u32::from(self.has(FIN));
        self.payload.saturating_add(controls)
    }

    /// A judgement about it.
    pub(crate) fn note(&self, kind: Kind, rule: Rule, args: [u64; 2]) -> Note {
        Note {
            kind,
            rule,
            args,
            from: self.from as u8,
            at: self.at,
            packet: self.packet,
            journey: self.journey,
            seq: self.tcp.seq,
            len: self.payload,
        }
    }
}

/// What a segment was, for the counts of its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// New data, or nothing but an acknowledgement.
    New,
    /// Sent before.
    Retransmitted,
    /// Overtaken.
    OutOfOrder,
    /// The very same packet seen again: counts nowhere.
    Duplicate,
}

/// One TCP connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct TcpConnection {
    states: States,
    /// Originator, responder.
    halves: [Half; 2],
    syn_at: Option<u64>,
    syn_ack_at: Option<u64>,
    /// The SYN, the SYN-ACK came more than once: which one was answered is unknown (Karn).
    again: [bool; 2],
    established_at: Option<u64>,
    handshake_rtt: Option<u64>,
    rtt_to_responder: Option<u64>,
    rtt_to_originator: Option<u64>,
    reset_by: Option<u64>,
}

impl TcpConnection {
    /// Whether a SYN without ACK from `from` (0 originator) starts another connection on the same
    /// ports: its initial sequence number is not the one known.
    pub(crate) fn is_new_connection(&self, from: usize, seq: u32) -> bool {
        if let Some(initial) = self.halves[from].initial {
            return initial != seq;
        }
        // A crossing SYN of a simultaneous open, or one that its SYN-ACK overtook.
        let crossing = from == 1 && self.states.awaits_crossing_syn();
        let peer = &self.halves[1 - from];
        let overtaken = peer.initial.is_some() && peer.ack == Some(seq.wrapping_add(1));
        !crossing && !overtaken
    }

    /// Takes one segment in and tells `notes` what it is.
    pub(crate) fn segment(&mut self, segment: &Segment<'_>, notes: &mut impl Notes) -> Outcome {
        if let Some(ago) = self.halves[segment.from].seen_just_now(segment) {
            let half = &mut self.halves[segment.from];
            half.count(
                notes,
                segment.note(Kind::CapturedTwice, Rule::SameIdentification, [ago, 0]),
            );
            return Outcome::Duplicate;
        }
        let known_rtt = self.handshake_rtt;
        let opening = self.states.is_opening(1 - segment.from);
        let [a, b] = &mut self.halves;
        let (own, peer) = if segment.from == 0 { (a, b) } else { (b, a) };
        own.pass(segment);
        if segment.has(RST) {
            let (rule, open) = if opening {
                (Rule::Refuses, 0)
            } else if self.states.is_closed(segment.from) {
                (Rule::AfterClose, 0)
            } else {
                (Rule::Aborts, peer.in_flight(own.ack))
            };
            own.count(notes, segment.note(Kind::Reset, rule, [u64::from(open), 0]));
        }
        let closes_window = segment.tcp.window == 0 && !segment.has(SYN | FIN | RST);
        let takes_no_place = own.signs(peer, segment, notes) || segment.has(RST);
        let mut outcome = Outcome::New;
        let mut again = false;
        if !takes_no_place {
            let placed = own.place(segment);
            if segment.space() > 0 {
                again = placed.again > 0 && segment.payload > 0;
                outcome = own.judge(peer, segment, &placed, known_rtt, notes);
                own.sent(peer, segment, &placed, outcome);
            }
        }
        let gap = segment.has(ACK) && own.acknowledges(peer, segment, notes);
        own.announces(peer, segment);
        self.handshake(segment, outcome);
        if segment.has(RST) && self.states.reset_by.is_none() {
            self.reset_by = Some(if segment.packet > 0 { segment.packet } else { segment.journey });
        }
        self.states.step(Step {
            from: segment.from,
            flags: segment.tcp.flags,
            seq: segment.tcp.seq,
            payload: segment.payload,
            again,
            closes_window,
            gap,
        });
        outcome
    }

    fn handshake(&mut self, segment: &Segment<'_>, outcome: Outcome) {
        let Segment { at, from, tcp, .. } = *segment;
        let flags = tcp.flags & (SYN | ACK | RST);
        if flags & SYN != 0 && flags & RST == 0 {
            let half = &mut self.halves[from];
            self.again[from] |= outcome == Outcome::Retransmitted;
            half.initial = Some(tcp.seq);
            half.syn_at = Some(at);
            half.scale = tcp.options.window_scale;
            half.mss = tcp.options.mss;
            half.sack_permitted = tcp.options.sack_permitted;
            if from == 0 && flags == SYN && self.syn_at.is_none() {
                self.syn_at = Some(at);
            } else if from == 1 && flags == SYN | ACK && self.syn_ack_at.is_none() {
                self.syn_ack_at = Some(at);
                if !self.again[0] {
                    self.rtt_to_responder = self.syn_at.map(|syn| at.saturating_sub(syn));
                }
            }
        } else if flags == ACK && from == 0 && self.established_at.is_none() {
            let answers = self.halves[1].initial.is_some_and(|isn| tcp.ack == isn.wrapping_add(1));
            if answers {
                self.established_at = Some(at);
                if !self.again[1] {
                    self.rtt_to_originator = self.syn_ack_at.map(|sent| at.saturating_sub(sent));
                    if !self.again[0] {
                        self.handshake_rtt = self.syn_at.map(|syn| at.saturating_sub(syn));
                    }
                }
            }
        }
    }

    /// The packet of `journey`, sent by `from`, came in by a device at `at`: where it was seen leaving
    /// before, the round trip of what it acknowledges ends here.
    pub(crate) fn arrived(&mut self, from: usize, journey: u64, at: u64) {
        self.halves[1 - from].arrived(journey, at);
    }

    /// The kernel says that `from` sends again what it is about to send.
    pub(crate) fn kernel_resends(&mut self, from: usize, at: u64) {
        self.halves[from].kernel_resends = Some(at);
    }

    /// Zeek's `conn_state`.
    pub(crate) fn conn_state(&self) -> &'static str {
        self.states.conn_state()
    }

    /// Time from the SYN to the ACK of the SYN-ACK: one whole round trip wherever on the path it
    /// is watched. `None` when a part is missing or was sent twice.
    pub(crate) fn handshake_rtt(&self) -> Option<u64> {
        self.handshake_rtt
    }

    /// What a report shows; the notes are the caller's.
    pub(crate) fn sheet(&self) -> TcpSheet {
        let [originator, responder]: [TcpEnd; 2] =
            [0, 1].map(|end| self.halves[end].view(&self.halves[1 - end]));
        TcpSheet {
            history: self.states.history().to_owned(),
            ended: self.states.ended().to_owned(),
            reset_by_packet: self.reset_by.filter(|number| *number > 0),
            rtt_to_responder_ns: self.rtt_to_responder,
            rtt_to_originator_ns: self.rtt_to_originator,
            originator,
            responder,
            notes: Vec::new(),
            notes_omitted: 0,
        }
    }

    /// Gives back what only further segments would need.
    pub(crate) fn settle(&mut self) {
        self.halves.iter_mut().for_each(Half::settle);
    }
}

#[cfg(test)]
mod tests;
