//! What is known of a TCP connection beyond its packets and bytes.

use serde::Serialize;

/// One TCP connection in detail.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TcpSheet {
    /// Zeek's `history`: one letter an event, upper case from the originator.
    pub history: String,
    /// How it ended, in words: `closed by both`, `reset by the responder`, `open`...
    pub ended: String,
    /// Packet that reset it, else journey; `None` when nothing did or it has no number.
    pub reset_by_packet: Option<u64>,
    /// SYN to SYN-ACK as seen here: the round trip from here to the responder, nanoseconds.
    pub rtt_to_responder_ns: Option<u64>,
    /// SYN-ACK to ACK as seen here: the round trip from here to the originator, nanoseconds.
    pub rtt_to_originator_ns: Option<u64>,
    /// What the originator sent.
    pub originator: TcpEnd,
    /// What the responder sent.
    pub responder: TcpEnd,
    /// Judgements about single segments, in order: the first few of each kind.
    pub notes: Vec<TcpNote>,
    /// Judgements not listed.
    pub notes_omitted: u64,
}

/// What one end of a TCP connection sent. Counts are of packets as captured; a GSO skb is one packet
/// of several wire segments.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TcpEnd {
    /// Segments with payload.
    pub data_packets: u64,
    /// Payload bytes, each as often as it was sent.
    pub data_bytes: u64,
    /// Payload bytes that had not been seen before.
    pub unique_bytes: u64,
    /// Payload bytes that had been seen before, in retransmissions.
    pub resent_bytes: u64,
    /// Packets with payload that had been seen before: what was lost of them was lost beyond the point
    /// of capture.
    pub resent_packets: u64,
    /// Packets whose payload fills holes and had not been seen: overtaken, or lost before the point
    /// of capture and sent again.
    pub filled_packets: u64,
    /// Packets with payload, SYN or FIN that were sent again: the sum of the five kinds below.
    pub retransmissions: u64,
    /// After a retransmission timeout (RFC 6298).
    pub retransmissions_timeout: u64,
    /// After duplicate ACKs or SACK (RFC 5681, RFC 6675).
    pub retransmissions_fast: u64,
    /// Tail loss probes (RFC 8985).
    pub retransmissions_tail: u64,
    /// Sent again though the acknowledgement had passed here.
    pub retransmissions_spurious: u64,
    /// Sent again, and nothing seen here says why so soon.
    pub retransmissions_unclear: u64,
    /// Segments that the receiver said it got twice (DSACK, RFC 2883): retransmissions by the other
    /// end that were not needed.
    pub dsacks: u64,
    /// Packets overtaken on the way.
    pub out_of_order: u64,
    /// Packets captured twice, counted nowhere else.
    pub captured_twice: u64,
    /// Pure ACKs: no payload, no SYN, FIN or RST.
    pub pure_acks: u64,
    /// Packets with SACK blocks.
    pub sacks: u64,
    /// Duplicate ACKs.
    pub duplicate_acks: u64,
    /// Announcements of window 0.
    pub zero_windows: u64,
    /// Time for which its receive window was closed, nanoseconds, as far as it opened again.
    pub zero_window_ns: u64,
    /// Probes of the peer's closed window.
    pub window_probes: u64,
    /// Times it filled the peer's window.
    pub window_full: u64,
    /// Pure window updates.
    pub window_updates: u64,
    /// Keep-alives.
    pub keep_alives: u64,
    /// Resets.
    pub resets: u64,
    /// Holes in what was captured: segments not seen when a later one came.
    pub not_captured: u64,
    /// Payload bytes that never were seen though later bytes or their ACK were.
    pub missing_bytes: u64,
    /// Bytes sent and not acknowledged, at most.
    pub max_in_flight: u64,
    /// Largest receive window announced, bytes, with its scale where the handshake told it.
    pub max_window: u64,
    /// Smallest receive window announced after the handshake, bytes.
    pub min_window: Option<u64>,
    /// Maximum segment size from its SYN.
    pub mss: Option<u16>,
    /// Window scale shift from its SYN.
    pub window_scale: Option<u8>,
    /// Longest time between two of its packets, nanoseconds.
    pub max_idle_ns: u64,
    /// Unique payload bytes by the time from its first to its last payload, bytes a second; `None` for
    /// fewer than two payload packets.
    pub throughput: Option<u64>,
    /// Round trip from its data to the ACK as seen here.
    pub rtt: TcpRtt,
    /// ACKs of data that had been sent more than once: no round trip can be told (Karn's rule).
    pub rtt_ambiguous: u64,
}

/// Round trips from data to its ACK. Where packets were recorded at both ends, the ACK counts when it
/// reached the sender of the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct TcpRtt {
    /// Samples.
    pub samples: u64,
    /// Smallest, nanoseconds.
    pub min: u64,
    /// Mean, nanoseconds.
    pub mean: u64,
    /// Median, nanoseconds, within 2 %.
    pub p50: u64,
    /// 99th percentile, nanoseconds, within 2 %.
    pub p99: u64,
    /// Largest, nanoseconds.
    pub max: u64,
    /// Standard deviation, nanoseconds.
    pub deviation: u64,
}

/// A judgement about one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TcpNote {
    /// When, nanoseconds.
    pub at: u64,
    /// Number of the packet in the capture, from 1, as Wireshark numbers frames; `None` in a recording.
    pub packet: Option<u64>,
    /// Journey in a recording; `None` in a capture.
    pub journey: Option<u64>,
    /// Who sent it: `originator` or `responder`.
    pub from: String,
    /// Sequence number.
    pub seq: u32,
    /// Payload bytes.
    pub len: u32,
    /// What it is: `fast retransmission`, `out of order`, `zero window`...
    pub kind: String,
    /// The rule that says so, with its numbers.
    pub reason: String,
}
