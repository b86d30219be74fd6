//! Whether a segment below the highest sequence number was sent again, and why, or was overtaken.
//!
//! In order, the first that holds:
//!
//! 1. Its ACK had passed: spurious.
//! 2. Some of its bytes were captured before: it was sent again. Otherwise it fills a hole, and was
//!    overtaken if the kernel does not say otherwise and its timestamp or identification is older than
//!    that of what it fell behind, or, where they say nothing, if it came sooner than a round trip.
//! 3. What was sent again was sent again after a timeout, because of duplicate ACKs, SACK or a partial
//!    ACK, as a tail loss probe, or for a reason that does not show here.

use super::half::Half;
use super::seen::{Hole, Placed, before};
use super::verdict::{Kind, Rule};
use super::{Notes, Outcome, SYN, Segment};

/// A late segment that fills a hole younger than this is out of order when nothing told the RTT:
/// Wireshark's bound for the same question.
const REORDER_NS: u64 = 3_000_000;

/// The kernel tells a retransmission at most this long before the packet is seen.
const KERNEL_NS: u64 = 50_000_000;

/// Duplicate ACKs that trigger a fast retransmission (RFC 5681 section 3.2).
const DUPLICATES: u32 = 3;

type Reason = (Rule, [u64; 2]);

/// What a hole says about the segment that fills it.
enum Order {
    Overtaken(Reason),
    Later(Reason),
    Unknown,
}

impl Half {
    /// Judges a segment with numbers, after it was placed and before it is noted as sent.
    pub(super) fn judge(
        &mut self,
        peer: &Self,
        segment: &Segment<'_>,
        placed: &Placed,
        handshake: Option<u64>,
        notes: &mut impl Notes,
    ) -> Outcome {
        if placed.again == 0 && placed.filled == 0 {
            return Outcome::New;
        }
        let (at, seq) = (segment.at, segment.tcp.seq);
        let end = seq.wrapping_add(segment.space());
        if segment.payload > 0 && peer.top_ack.is_some_and(|ack| !before(ack, end)) {
            let ago = at.saturating_sub(peer.ack_rose_at);
            self.count(notes, segment.note(Kind::RetransmitSpurious, Rule::AckedBefore, [ago, 0]));
            return Outcome::Retransmitted;
        }
        let kernel = self.kernel_resends.take().map(|told| at.saturating_sub(told));
        let kernel = kernel.filter(|ago| *ago < KERNEL_NS);
        let mut later = None;
        if placed.again == 0
            && kernel.is_none()
            && let Some(hole) = &placed.hole
        {
            match self.order(peer, segment, hole, handshake) {
                Order::Overtaken((rule, args)) => {
                    self.count(notes, segment.note(Kind::OutOfOrder, rule, args));
                    return Outcome::OutOfOrder;
                }
                Order::Later(reason) => later = Some(reason),
                Order::Unknown => {}
            }
        }
        let last_sent = self.last_sent(seq).or(placed.hole.map(|hole| hole.at));
        let gap = last_sent.map(|sent| at.saturating_sub(sent));
        let (kind, (rule, args)) = match self.cause(peer, segment, gap, handshake) {
            (Kind::RetransmitUnclear, reason) => {
                let told = kernel.map(|ago| (Rule::Kernel, [ago, 0]));
                (Kind::RetransmitUnclear, told.or(later).unwrap_or(reason))
            }
            known => known,
        };
        if matches!(kind, Kind::RetransmitFast | Kind::RetransmitTimeout) {
            self.recovery = self.recovery.or(self.seen.next);
        }
        self.count(notes, segment.note(kind, rule, args));
        Outcome::Retransmitted
    }

    fn order(
        &self,
        peer: &Self,
        segment: &Segment<'_>,
        hole: &Hole,
        handshake: Option<u64>,
    ) -> Order {
        let mine = self.stamp(segment);
        if let (Some(mine), Some(behind)) = (mine.timestamp, hole.behind.timestamp)
            && mine != behind
        {
            let args = [u64::from(mine), u64::from(behind)];
            return if before(mine, behind) {
                Order::Overtaken((Rule::OlderTimestamp, args))
            } else {
                Order::Later((Rule::NewerTimestamp, args))
            };
        }
        if let (Some(mine), Some(behind)) = (mine.ip_id, hole.behind.ip_id) {
            let args = [u64::from(mine), u64::from(behind)];
            match mine.wrapping_sub(behind) as i16 {
                -64..=-1 => return Order::Overtaken((Rule::OlderIdentification, args)),
                1..=1024 => return Order::Later((Rule::NewerIdentification, args)),
                _ => {}
            }
        }
        // To be sent again for its loss, word of that must have gone round once.
        let age = segment.at.saturating_sub(hole.at);
        let trip = self.shortest(peer, handshake).map_or(REORDER_NS, |rtt| rtt - rtt / 5);
        if age < trip {
            return Order::Overtaken((Rule::SoonerThanRoundTrip, [age, trip]));
        }
        Order::Unknown
    }

    fn cause(
        &self,
        peer: &Self,
        segment: &Segment<'_>,
        gap: Option<u64>,
        handshake: Option<u64>,
    ) -> (Kind, Reason) {
        let (at, seq) = (segment.at, segment.tcp.seq);
        let end = seq.wrapping_add(segment.space());
        let timeout = self.timeout(handshake);
        let long = timeout - timeout / 10;
        let waited = gap.unwrap_or(0);
        if segment.has(SYN) {
            // Acknowledged SYNs are not remembered among what is under way.
            let waited = self.syn_at.map_or(waited, |sent| at.saturating_sub(sent));
            let kind =
                if waited >= long { Kind::RetransmitTimeout } else { Kind::RetransmitUnclear };
            return (kind, (Rule::ControlAgain, [waited, 0]));
        }
        let silent = at.saturating_sub(peer.ack_at.max(peer.sack_at));
        if waited >= long && silent >= long {
            return (Kind::RetransmitTimeout, (Rule::Timeout, [waited, timeout]));
        }
        if peer.ack == Some(seq) && peer.dup_acks >= DUPLICATES {
            let args = [u64::from(peer.dup_acks), 0];
            return (Kind::RetransmitFast, (Rule::DuplicateAcks, args));
        }
        if let Some((bytes, beyond)) = peer.sacked_above(seq, end) {
            return (Kind::RetransmitFast, (Rule::SackAbove, [bytes, beyond]));
        }
        if self.recovery.is_some() && peer.ack == Some(seq) {
            return (Kind::RetransmitFast, (Rule::PartialAck, [0, 0]));
        }
        if waited >= long {
            return (Kind::RetransmitTimeout, (Rule::Timeout, [waited, timeout]));
        }
        let highest = self.seen.next.is_some_and(|next| !before(end, next));
        let quiet = peer.dup_acks == 0 && self.recovery.is_none();
        let patient = self.smooth().or(handshake).is_some_and(|rtt| waited >= rtt + rtt / 2);
        let both_sack = self.sack_permitted && peer.sack_permitted;
        if highest && quiet && patient && both_sack {
            return (Kind::RetransmitTail, (Rule::TailProbe, [waited, timeout]));
        }
        (Kind::RetransmitUnclear, (Rule::TooSoon, [waited, timeout]))
    }
}
