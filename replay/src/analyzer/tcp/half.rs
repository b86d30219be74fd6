//! One direction of a TCP connection: what its end sent, and what it said of the other direction.

use std::collections::VecDeque;

use super::rtt::Spread;
use super::seen::{Placed, Seen, Stamp, before};
use super::verdict::{KINDS, Kind, Note, Rule};
use super::{ACK, DUPLICATE_NS, FIN, Notes, Outcome, RST, SYN, Segment};
use crate::view::tcp::TcpEnd;

/// Segments remembered until they are acknowledged; with more, the oldest gives no round trip.
const OUT: usize = 1024;

/// Round trips waiting for their ACK to arrive.
const PENDING: usize = 256;

/// Smallest retransmission timeout assumed, nanoseconds: Linux's `TCP_RTO_MIN`.
const RTO_MIN: u64 = 200_000_000;

/// Numbers sent and not yet acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Out {
    start: u32,
    end: u32,
    /// First and latest time it was sent.
    at: u64,
    last_at: u64,
    /// Sent more than once (Karn).
    again: bool,
    /// Stands for several wire segments, so an ACK may stop inside.
    several: bool,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    journey: u64,
    sent_at: u64,
    acked_at: u64,
}

/// What the last segment was, as far as its answer depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sign {
    #[default]
    None,
    KeepAlive,
    Probe,
}

/// To know a packet again: (IPv4 identification, seq, ack, payload, flags, when).
type Last = (u16, u32, u32, u32, u16, u64);

#[derive(Clone, Debug, Default)]
pub(super) struct Half {
    /// Initial sequence number, when the SYN was seen.
    pub(super) initial: Option<u32>,
    /// When its SYN was last sent.
    pub(super) syn_at: Option<u64>,
    /// Window scale of the SYN.
    pub(super) scale: Option<u8>,
    pub(super) mss: Option<u16>,
    pub(super) sack_permitted: bool,
    pub(super) seen: Seen,
    pub(super) counts: [u32; KINDS],
    out: VecDeque<Out>,
    pending: VecDeque<Pending>,
    /// Last ACK it sent, the highest, and when that last rose and was last sent.
    pub(super) ack: Option<u32>,
    pub(super) top_ack: Option<u32>,
    pub(super) ack_rose_at: u64,
    pub(super) ack_at: u64,
    /// Window field of its last segment, and whether it is scaled (all but the SYN's are).
    window: Option<(u16, bool)>,
    /// Repetitions of `ack`; those while data was under way.
    repeats: u32,
    pub(super) dup_acks: u32,
    /// SACK blocks of its last ACK that had some, the highest edge, and when.
    sacks: [Option<(u32, u32)>; 4],
    pub(super) sack_top: Option<u32>,
    pub(super) sack_at: u64,
    sign: Sign,
    last: Option<Last>,
    /// Identification of its last packet; how many in a row went up by little.
    last_id: Option<u16>,
    rising_ids: u8,
    /// End of the recovery that a retransmission began.
    pub(super) recovery: Option<u32>,
    pub(super) kernel_resends: Option<u64>,
    /// Smoothed round trip and its variation (RFC 6298), nanoseconds.
    smooth: Option<(u64, u64)>,
    spread: Spread,
    ambiguous: u64,
    packets: u64,
    last_at: u64,
    max_idle: u64,
    first_data_at: Option<u64>,
    last_data_at: u64,
    data_packets: u64,
    data_bytes: u64,
    unique_bytes: u64,
    resent_bytes: u64,
    resent_packets: u64,
    filled_packets: u64,
    pure_acks: u64,
    sack_packets: u64,
    max_in_flight: u32,
    max_window: u64,
    min_window: Option<u64>,
    closed_since: Option<u64>,
    closed_ns: u64,
}

impl Half {
    pub(super) fn count(&mut self, notes: &mut impl Notes, note: Note) {
        let count = &mut self.counts[note.kind as usize];
        *count = count.saturating_add(1);
        notes.note(note);
    }

    /// How long ago the very same packet passed, if it did a moment ago.
    pub(super) fn seen_just_now(&mut self, segment: &Segment<'_>) -> Option<u64> {
        let id = segment.ip_id?;
        let tcp = segment.tcp;
        let this = (id, tcp.seq, tcp.ack, segment.payload, tcp.flags, segment.at);
        let last = self.last.replace(this)?;
        let ago = segment.at.saturating_sub(last.5);
        let same =
            (last.0, last.1, last.2, last.3, last.4) == (this.0, this.1, this.2, this.3, this.4);
        (same && ago < DUPLICATE_NS).then_some(ago)
    }

    /// Counts what every segment has.
    pub(super) fn pass(&mut self, segment: &Segment<'_>) {
        if self.packets > 0 {
            self.max_idle = self.max_idle.max(segment.at.saturating_sub(self.last_at));
        }
        self.packets += 1;
        self.last_at = segment.at;
        if segment.payload == 0 && segment.tcp.flags & (SYN | FIN | RST | ACK) == ACK {
            self.pure_acks += 1;
        }
        self.sack_packets += u64::from(segment.tcp.options.sack[0].is_some());
        if let Some(id) = segment.ip_id {
            let step = self.last_id.replace(id).map(|last| id.wrapping_sub(last));
            self.rising_ids = match step {
                Some(1..=64) => self.rising_ids.saturating_add(1),
                // An overtaken packet is below the last; it does not end the series.
                Some(65..=0xffbf) | None => 0,
                Some(_) => self.rising_ids,
            };
        }
    }

    /// The window that it last announced, bytes; `None` before it did.
    fn window(&self, peer: &Self) -> Option<u64> {
        let (field, scaled) = self.window?;
        let shift = match (self.scale, peer.scale) {
            (Some(shift), Some(_)) if scaled => shift.min(14),
            // Without the peer's SYN the scale is what this end said; without any, unscaled.
            (Some(shift), None) if scaled && peer.initial.is_none() => shift.min(14),
            _ => 0,
        };
        Some(u64::from(field) << shift)
    }

    /// Numbers sent and not acknowledged by `peer_ack`.
    pub(super) fn in_flight(&self, peer_ack: Option<u32>) -> u32 {
        match (self.seen.next, peer_ack) {
            (Some(next), Some(ack)) if before(ack, next) => next.wrapping_sub(ack),
            _ => 0,
        }
    }

    /// Judges what a segment says by its flags, window and numbers alone. True when its payload is
    /// only there to be answered (probe, keep-alive) and takes no place.
    pub(super) fn signs(
        &mut self,
        peer: &Self,
        segment: &Segment<'_>,
        notes: &mut impl Notes,
    ) -> bool {
        let (tcp, len) = (segment.tcp, segment.payload);
        let next = self.seen.next;
        let in_order = next == Some(tcp.seq);
        if len == 1 && in_order && peer.window.is_some_and(|(field, _)| field == 0) {
            self.sign = Sign::Probe;
            self.count(notes, segment.note(Kind::WindowProbe, Rule::IntoClosedWindow, [0, 0]));
            return true;
        }
        self.sign = Sign::None;
        if let Some(next) = next
            && before(next, tcp.seq)
            && !segment.has(RST)
        {
            let gap = u64::from(tcp.seq.wrapping_sub(next));
            self.count(notes, segment.note(Kind::PreviousNotCaptured, Rule::Hole, [gap, 0]));
        }
        if segment.has(SYN | FIN | RST) {
            return false;
        }
        if tcp.window == 0 {
            self.count(notes, segment.note(Kind::ZeroWindow, Rule::WindowClosed, [0, 0]));
        }
        if len <= 1 && next == Some(tcp.seq.wrapping_add(1)) {
            self.sign = Sign::KeepAlive;
            let args = [u64::from(len), 0];
            self.count(notes, segment.note(Kind::KeepAlive, Rule::BelowNext, args));
            return true;
        }
        if len > 0 {
            if peer.initial.is_some()
                && let (Some(ack), Some(window)) = (peer.ack, peer.window(self))
                && tcp.seq.wrapping_add(len) == ack.wrapping_add(window as u32)
            {
                self.count(notes, segment.note(Kind::WindowFull, Rule::AtWindowEdge, [window, 0]));
            }
            return false;
        }
        if in_order && segment.has(ACK) {
            self.repeated(peer, segment, notes);
        }
        false
    }

    /// Judges a segment without payload, in order.
    fn repeated(&mut self, peer: &Self, segment: &Segment<'_>, notes: &mut impl Notes) {
        let tcp = segment.tcp;
        let (Some(ack), Some((window, _))) = (self.ack, self.window) else { return };
        let same_window = window == tcp.window;
        let answers_probe = peer.sign == Sign::Probe
            && tcp.window == 0
            && same_window
            && (tcp.ack == ack || tcp.ack == ack.wrapping_add(1));
        if answers_probe {
            self.count(notes, segment.note(Kind::WindowProbeAck, Rule::AnswersProbe, [0, 0]));
        } else if tcp.ack != ack || tcp.window == 0 {
        } else if !same_window {
            let args = [u64::from(window), u64::from(tcp.window)];
            self.count(notes, segment.note(Kind::WindowUpdate, Rule::WindowOnly, args));
        } else if peer.sign == Sign::KeepAlive {
            self.count(notes, segment.note(Kind::KeepAliveAck, Rule::AnswersKeepAlive, [0, 0]));
        } else {
            self.repeats += 1;
            let waiting = peer.in_flight(Some(ack)) > 0;
            self.dup_acks += u32::from(waiting);
            let rule = if waiting { Rule::RepeatsAck } else { Rule::RepeatsIdle };
            let args = [u64::from(self.repeats), 0];
            self.count(notes, segment.note(Kind::DuplicateAck, rule, args));
        }
    }

    /// Finds the place of its numbers.
    pub(super) fn place(&mut self, segment: &Segment<'_>) -> Placed {
        let stamp = self.stamp(segment);
        self.seen.take(segment.at, segment.tcp.seq, segment.space(), stamp)
    }

    pub(super) fn stamp(&self, segment: &Segment<'_>) -> Stamp {
        Stamp {
            timestamp: segment.tcp.options.timestamp.map(|(value, _)| value),
            ip_id: segment.ip_id.filter(|_| self.rising_ids >= 3),
        }
    }

    /// Notes a segment with numbers as sent.
    pub(super) fn sent(
        &mut self,
        peer: &Self,
        segment: &Segment<'_>,
        placed: &Placed,
        outcome: Outcome,
    ) {
        let (start, at) = (segment.tcp.seq, segment.at);
        let end = start.wrapping_add(segment.space());
        let again = outcome == Outcome::Retransmitted;
        if again {
            let overlapping = |out: &&mut Out| before(out.start, end) && before(start, out.end);
            for out in self.out.iter_mut().filter(overlapping) {
                (out.again, out.last_at) = (true, at);
            }
        }
        if placed.filled > 0 || placed.beyond > 0 {
            if self.out.len() == OUT {
                self.out.pop_front();
            }
            let several = segment.wire > 1;
            let out = Out { start, end, at, last_at: at, again, several };
            let later = self.out.iter().rev().take_while(|other| before(end, other.end)).count();
            self.out.insert(self.out.len() - later, out);
        }
        self.max_in_flight = self.max_in_flight.max(self.in_flight(peer.top_ack));
        if segment.payload > 0 {
            let bytes = u64::from(segment.payload);
            let resent = u64::from(placed.again).min(bytes);
            self.data_packets += 1;
            self.data_bytes += bytes;
            self.resent_bytes += resent;
            self.resent_packets += u64::from(resent > 0);
            self.filled_packets += u64::from(resent == 0 && placed.filled > 0);
            self.unique_bytes += bytes - resent;
            self.first_data_at.get_or_insert(at);
            self.last_data_at = at;
        }
    }

    /// When the first of these numbers was last sent, if that is still known.
    pub(super) fn last_sent(&self, seq: u32) -> Option<u64> {
        let out = self.out.iter().find(|out| before(seq, out.end))?;
        (!before(seq, out.start)).then_some(out.last_at)
    }

    /// Takes the ACK, the SACK blocks and the window. True when it acknowledges what was not seen.
    pub(super) fn acknowledges(
        &mut self,
        peer: &mut Self,
        segment: &Segment<'_>,
        notes: &mut impl Notes,
    ) -> bool {
        if segment.has(RST) {
            return false;
        }
        let (tcp, at) = (segment.tcp, segment.at);
        let ack = tcp.ack;
        if self.ack != Some(ack) {
            (self.repeats, self.dup_acks) = (0, 0);
        }
        let mut unseen = 0;
        if self.top_ack.is_none_or(|top| before(top, ack)) {
            unseen = peer.seen.acked_over(ack);
            if let Some(next) = peer.seen.next
                && before(next, ack)
            {
                let from = self.top_ack.filter(|top| before(next, *top)).unwrap_or(next);
                if peer.sign == Sign::Probe && ack == next.wrapping_add(1) {
                    // The receiver took the probe's byte.
                    peer.seen.skip_to(ack);
                } else {
                    unseen = unseen.saturating_add(ack.wrapping_sub(from));
                }
            }
        }
        if unseen > 0 {
            let args = [u64::from(unseen), 0];
            self.count(notes, segment.note(Kind::AckedUnseen, Rule::BeyondSeen, args));
        }
        peer.acked(ack, segment);
        self.sacks(segment, notes);
        if self.top_ack.is_none_or(|top| before(top, ack)) {
            self.top_ack = Some(ack);
            self.ack_rose_at = at;
            if peer.recovery.is_some_and(|end| !before(ack, end)) {
                peer.recovery = None;
            }
        }
        self.ack = Some(ack);
        self.ack_at = at;
        unseen > 0
    }

    /// Takes the window that a segment announces.
    pub(super) fn announces(&mut self, peer: &Self, segment: &Segment<'_>) {
        if segment.has(RST) {
            return;
        }
        let at = segment.at;
        self.window = Some((segment.tcp.window, !segment.has(SYN)));
        let window = self.window(peer).unwrap_or(0);
        self.max_window = self.max_window.max(window);
        if !segment.has(SYN) {
            self.min_window = Some(self.min_window.map_or(window, |least| least.min(window)));
        }
        match (window, self.closed_since) {
            (0, None) => self.closed_since = Some(at),
            (1.., Some(since)) => {
                self.closed_ns += at.saturating_sub(since);
                self.closed_since = None;
            }
            _ => {}
        }
    }

    /// What it sent is acknowledged up to `ack`: round trips.
    fn acked(&mut self, ack: u32, segment: &Segment<'_>) {
        // When the latest of what was acknowledged with it and came before it was last sent: an ACK that
        // waited for that says nothing about what was sent earlier.
        let mut held_until = 0;
        while let Some(out) = self.out.front_mut() {
            if before(out.start, ack) && before(ack, out.end) {
                // Inside a segment: a round trip only if several went on the wire as one.
                out.start = ack;
                if out.several {
                    let (sent_at, again) = (out.at, out.again);
                    self.sample(sent_at, again || held_until > sent_at, segment);
                }
                return;
            }
            if before(ack, out.end) {
                return;
            }
            let out = *out;
            self.out.pop_front();
            if out.end == ack {
                self.sample(out.at, out.again || held_until > out.at, segment);
            }
            held_until = held_until.max(out.last_at);
        }
    }

    fn sample(&mut self, sent_at: u64, ambiguous: bool, segment: &Segment<'_>) {
        if ambiguous {
            self.ambiguous += 1;
            return;
        }
        let rtt = segment.at.saturating_sub(sent_at);
        self.smooth = Some(match self.smooth {
            None => (rtt, rtt / 2),
            Some((smooth, var)) => {
                let var = (3 * (var / 4)).saturating_add(smooth.abs_diff(rtt) / 4);
                ((7 * (smooth / 8)).saturating_add(rtt / 8), var)
            }
        });
        // A captured packet does not arrive anywhere else.
        if segment.packet > 0 || segment.journey == 0 {
            self.spread.add(rtt);
            return;
        }
        if self.pending.len() == PENDING
            && let Some(oldest) = self.pending.pop_front()
        {
            self.spread.add(oldest.acked_at.saturating_sub(oldest.sent_at));
        }
        let pending = Pending { journey: segment.journey, sent_at, acked_at: segment.at };
        self.pending.push_back(pending);
    }

    pub(super) fn arrived(&mut self, journey: u64, at: u64) {
        if let Some(pending) = self.pending.iter_mut().rev().find(|p| p.journey == journey) {
            pending.acked_at = at;
        }
    }

    fn sacks(&mut self, segment: &Segment<'_>, notes: &mut impl Notes) {
        let blocks = segment.tcp.options.sack;
        let Some((left, right)) = blocks[0] else { return };
        let ack = segment.tcp.ack;
        // RFC 2883: a first block below the ACK, or inside the second block, is a duplicate.
        let inside = |(l, r): (u32, u32)| !before(left, l) && !before(r, right);
        let duplicate = !before(ack, right) || blocks[1].is_some_and(inside);
        if duplicate {
            let bytes = u64::from(right.wrapping_sub(left));
            self.count(notes, segment.note(Kind::ReceivedTwice, Rule::Dsack, [bytes, 0]));
        }
        self.sacks = blocks;
        self.sack_at = segment.at;
        for (_, edge) in blocks.iter().flatten() {
            if before(ack, *edge) && self.sack_top.is_none_or(|top| before(top, *edge)) {
                self.sack_top = Some(*edge);
            }
        }
    }

    /// Bytes selectively acknowledged above `end`, and how far they reach beyond it; `None` when there
    /// are none, or the numbers from `seq` were themselves acknowledged so.
    pub(super) fn sacked_above(&self, seq: u32, end: u32) -> Option<(u64, u64)> {
        let blocks = || self.sacks.iter().flatten();
        let itself = blocks().any(|(l, r)| !before(seq, *l) && !before(*r, end));
        let top = self.sack_top.filter(|top| before(end, *top) && !itself)?;
        let above = blocks().filter(|(l, _)| !before(*l, end));
        let bytes = above.map(|(l, r)| u64::from(r.wrapping_sub(*l))).sum();
        Some((bytes, u64::from(top.wrapping_sub(end))))
    }

    /// Estimated retransmission timeout (RFC 6298, with Linux's floor of 200 ms), nanoseconds.
    pub(super) fn timeout(&self, handshake: Option<u64>) -> u64 {
        // What was measured from here is only the part of the way beyond.
        match (self.smooth, handshake) {
            (Some((smooth, var)), whole) => {
                smooth.max(whole.unwrap_or(0)).saturating_add(RTO_MIN.max(var.saturating_mul(4)))
            }
            (None, Some(rtt)) => rtt.saturating_add(RTO_MIN.max(rtt.saturating_mul(2))),
            (None, None) => RTO_MIN,
        }
    }

    /// The shortest whole round trip known, nanoseconds: that of the handshake, or from here to one end
    /// and back and to the other end and back.
    pub(super) fn shortest(&self, peer: &Self, handshake: Option<u64>) -> Option<u64> {
        let both = self.spread.min().zip(peer.spread.min()).map(|(a, b)| a.saturating_add(b));
        match (both, handshake) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    pub(super) fn smooth(&self) -> Option<u64> {
        self.smooth.map(|(smooth, _)| smooth)
    }

    pub(super) fn all_rtt(&self) -> Spread {
        let mut spread = self.spread.clone();
        for pending in &self.pending {
            spread.add(pending.acked_at.saturating_sub(pending.sent_at));
        }
        spread
    }

    pub(super) fn settle(&mut self) {
        self.spread = self.all_rtt();
        self.pending = VecDeque::new();
        self.out = VecDeque::new();
    }

    pub(super) fn view(&self, peer: &Self) -> TcpEnd {
        let count = |kind: Kind| u64::from(self.counts[kind as usize]);
        let active = self.last_data_at.saturating_sub(self.first_data_at.unwrap_or(0));
        let rate = u128::from(self.unique_bytes) * 1_000_000_000 / u128::from(active.max(1));
        let unseen = match (self.seen.next, peer.top_ack) {
            (Some(next), Some(ack)) if before(next, ack) => u64::from(ack.wrapping_sub(next)),
            _ => 0,
        };
        TcpEnd {
            data_packets: self.data_packets,
            data_bytes: self.data_bytes,
            unique_bytes: self.unique_bytes,
            resent_bytes: self.resent_bytes,
            resent_packets: self.resent_packets,
            filled_packets: self.filled_packets,
            retransmissions: Kind::ALL
                .iter()
                .filter(|kind| kind.is_retransmission())
                .map(|kind| count(*kind))
                .sum(),
            retransmissions_timeout: count(Kind::RetransmitTimeout),
            retransmissions_fast: count(Kind::RetransmitFast),
            retransmissions_tail: count(Kind::RetransmitTail),
            retransmissions_spurious: count(Kind::RetransmitSpurious),
            retransmissions_unclear: count(Kind::RetransmitUnclear),
            dsacks: count(Kind::ReceivedTwice),
            out_of_order: count(Kind::OutOfOrder),
            captured_twice: count(Kind::CapturedTwice),
            pure_acks: self.pure_acks,
            sacks: self.sack_packets,
            duplicate_acks: count(Kind::DuplicateAck),
            zero_windows: count(Kind::ZeroWindow),
            zero_window_ns: self.closed_ns,
            window_probes: count(Kind::WindowProbe),
            window_full: count(Kind::WindowFull),
            window_updates: count(Kind::WindowUpdate),
            keep_alives: count(Kind::KeepAlive),
            resets: count(Kind::Reset),
            not_captured: count(Kind::PreviousNotCaptured),
            missing_bytes: self.seen.missing() + unseen,
            max_in_flight: u64::from(self.max_in_flight),
            max_window: self.max_window,
            min_window: self.min_window,
            mss: self.mss,
            window_scale: self.scale,
            max_idle_ns: self.max_idle,
            throughput: (self.data_packets > 1 && active > 0)
                .then(|| u64::try_from(rate).unwrap_or(u64::MAX)),
            rtt: self.all_rtt().view(),
            rtt_ambiguous: self.ambiguous,
        }
    }
}
