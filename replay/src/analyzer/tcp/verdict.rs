//! What a segment is to its connection, and the rule that says so.

use crate::view::tcp::TcpNote;

macro_rules! kinds {
    ($( $(#[$doc:meta])* $name:ident = $text:literal ),* $(,)?) => {
        /// What a segment is, beside new data or its acknowledgement. One segment may be several.
        ///
        /// Where tshark has a word for it (`tcp.analysis.*`), this is the same word with the same
        /// meaning, except that a segment below the highest sequence number is judged by more evidence;
        /// `testdata/tcp-oracle.md` lists where the two differ and why.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Kind { $( $(#[$doc])* $name ),* }

        impl Kind {
            /// All, in the order of their numbers.
            pub const ALL: &[Self] = &[ $( Self::$name ),* ];

            /// Lower-case name, as reports show it.
            pub fn name(self) -> &'static str {
                match self { $( Self::$name => $text ),* }
            }
        }
    };
}

kinds! {
    /// Sent again after at least the retransmission timeout.
    RetransmitTimeout = "retransmission after timeout",
    /// Sent again because duplicate ACKs or SACK said that it was missing.
    RetransmitFast = "fast retransmission",
    /// The last segment sent again to provoke an ACK (tail loss probe, RFC 8985 section 7).
    RetransmitTail = "tail loss probe",
    /// Sent again although its acknowledgement had passed here.
    RetransmitSpurious = "spurious retransmission",
    /// Sent again, and nothing seen here says why so soon.
    RetransmitUnclear = "retransmission",
    /// Overtaken on the way, not sent again.
    OutOfOrder = "out of order",
    /// The very same packet, captured twice.
    CapturedTwice = "captured twice",
    /// Acknowledges the same byte again, without data and with the same window (RFC 5681).
    DuplicateAck = "duplicate ack",
    /// The receive window is closed.
    ZeroWindow = "zero window",
    /// One byte into a closed window.
    WindowProbe = "zero window probe",
    /// The answer to a probe: still closed.
    WindowProbeAck = "zero window probe ack",
    /// Fills the peer's receive window to the last byte.
    WindowFull = "window full",
    /// Nothing new but the window.
    WindowUpdate = "window update",
    /// One byte or none just before what was sent (RFC 9293 section 3.8.4).
    KeepAlive = "keep-alive",
    /// The answer to a keep-alive.
    KeepAliveAck = "keep-alive ack",
    /// Bytes before it were not captured when it came.
    PreviousNotCaptured = "previous segment not captured",
    /// Acknowledges bytes that were never captured.
    AckedUnseen = "acked segment not captured",
    /// RST.
    Reset = "reset",
    /// The receiver told that it got a segment twice (DSACK, RFC 2883).
    ReceivedTwice = "receiver got it twice (DSACK)",
    /// Opens a new connection on the ports of an earlier one.
    PortsReused = "ports reused",
}

/// How many kinds there are.
pub(crate) const KINDS: usize = Kind::ALL.len();

impl Kind {
    /// One of the five kinds of retransmission.
    pub fn is_retransmission(self) -> bool {
        (self as u8) <= Self::RetransmitUnclear as u8
    }
}

/// Why a segment was judged so. `Note::args` are the numbers in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Gap since it was last sent (ns), retransmission timeout estimated from RTT samples (ns).
    Timeout,
    /// A SYN, SYN-ACK or FIN again: gap (ns).
    ControlAgain,
    /// Duplicate ACKs for exactly this byte.
    DuplicateAcks,
    /// Bytes above it were selectively acknowledged, up to the argument beyond it.
    SackAbove,
    /// The ACK moved within a recovery but not past it (NewReno, RFC 6582).
    PartialAck,
    /// Highest segment, no duplicate ACK, sooner than a timeout: gap (ns), timeout (ns).
    TailProbe,
    /// Acknowledged before: how long before (ns).
    AckedBefore,
    /// Gap (ns), timeout (ns).
    TooSoon,
    /// The kernel said so (`tcp_retransmit_skb`): how long before (ns).
    Kernel,
    /// Timestamp option older than that of the segment that overtook it.
    OlderTimestamp,
    /// Timestamp option newer than that of the segment after the hole: it was sent later.
    NewerTimestamp,
    /// IPv4 identification below that of the segment that overtook it.
    OlderIdentification,
    /// IPv4 identification above that of the segment after the hole.
    NewerIdentification,
    /// Filled a hole of this age (ns), less than a round trip (ns).
    SoonerThanRoundTrip,
    /// Same identification and header within this time (ns).
    SameIdentification,
    /// Repeats an ACK while data is under way: which repetition.
    RepeatsAck,
    /// Repeats an ACK with nothing under way: which repetition.
    RepeatsIdle,
    /// Window 0 announced.
    WindowClosed,
    /// One byte at the edge of a closed window.
    IntoClosedWindow,
    /// Repeats ACK and window 0 after a probe.
    AnswersProbe,
    /// Ends exactly at the edge of the window of this many bytes.
    AtWindowEdge,
    /// New window (bytes), same sequence and ACK.
    WindowOnly,
    /// Sequence one below the next, this many bytes (0 or 1).
    BelowNext,
    /// Repeats the ACK after a keep-alive.
    AnswersKeepAlive,
    /// Bytes missing before it.
    Hole,
    /// Bytes acknowledged beyond what was captured.
    BeyondSeen,
    /// Answers a SYN.
    Refuses,
    /// Cuts an open connection with this many bytes not acknowledged.
    Aborts,
    /// After the sender had closed.
    AfterClose,
    /// The first SACK block lies below the ACK or within the second.
    Dsack,
    /// A SYN with another initial sequence number.
    NewInitial,
}

/// One judgement about one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// What.
    pub kind: Kind,
    /// Why.
    pub rule: Rule,
    /// Numbers of the rule.
    pub args: [u64; 2],
    /// 0 sent by the originator, 1 by the responder.
    pub from: u8,
    /// When, nanoseconds.
    pub at: u64,
    /// Number of the packet in its file, from 1; 0 when the source does not count packets.
    pub packet: u64,
    /// Journey; 0 for captures.
    pub journey: u64,
    /// Sequence number and payload length of the segment.
    pub seq: u32,
    /// See `seq`.
    pub len: u32,
}

/// Milliseconds with three digits, or seconds when long.
fn time(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("{}.{:03} us", ns / 1000, ns % 1000),
        1_000_000..1_000_000_000 => format!("{}.{:03} ms", ns / 1_000_000, ns / 1000 % 1000),
        _ => format!("{}.{:03} s", ns / 1_000_000_000, ns / 1_000_000 % 1000),
    }
}

impl Note {
    /// The rule with its numbers, one clause.
    pub fn reason(&self) -> String {
        let [a, b] = self.args;
        match self.rule {
            Rule::Timeout => format!("last sent {} before, timeout about {}", time(a), time(b)),
            Rule::ControlAgain => format!("the same SYN or FIN {} before", time(a)),
            Rule::DuplicateAcks => format!("{a} duplicate ACKs asked for this byte"),
            Rule::SackAbove => format!("SACK reported {a} bytes above it, up to {b} beyond it"),
            Rule::PartialAck => "the ACK stopped here within a recovery".to_owned(),
            Rule::TailProbe => format!(
                "highest segment, no duplicate ACK, last sent {} before, timeout about {}",
                time(a),
                time(b)
            ),
            Rule::AckedBefore => format!("its ACK had passed {} before", time(a)),
            Rule::TooSoon => format!(
                "last sent {} before, sooner than a timeout of about {}, and no duplicate ACK was \
                 seen",
                time(a),
                time(b)
            ),
            Rule::Kernel => format!("the kernel said so {} before (tcp_retransmit_skb)", time(a)),
            Rule::OlderTimestamp => {
                format!("TCP timestamp {a} is older than {b} of what overtook it")
            }
            Rule::NewerTimestamp => format!("TCP timestamp {a} is newer than {b} after the hole"),
            Rule::OlderIdentification => {
                format!("IPv4 identification {a} is before {b} of what overtook it")
            }
            Rule::NewerIdentification => {
                format!("IPv4 identification {a} is after {b} behind the hole")
            }
            Rule::SoonerThanRoundTrip => {
                format!("fills a hole {} old, sooner than a round trip of {}", time(a), time(b))
            }
            Rule::SameIdentification => {
                format!("same IPv4 identification and header {} before", time(a))
            }
            Rule::RepeatsAck => format!("repetition {a} of this ACK with data under way"),
            Rule::RepeatsIdle => format!("repetition {a} of this ACK with nothing under way"),
            Rule::WindowClosed => "announces window 0".to_owned(),
            Rule::IntoClosedWindow => "one byte at the edge of a closed window".to_owned(),
            Rule::AnswersProbe => "repeats ACK and window 0 after a probe".to_owned(),
            Rule::AtWindowEdge => format!("ends at the edge of the window of {a} bytes"),
            Rule::WindowOnly => format!("window {b} after {a}, nothing else new"),
            Rule::BelowNext => format!("{a} bytes, one below the next sequence number"),
            Rule::AnswersKeepAlive => "repeats the ACK after a keep-alive".to_owned(),
            Rule::Hole => format!("{a} bytes before it were not seen"),
            Rule::BeyondSeen => format!("{a} bytes acknowledged that were not seen"),
            Rule::Refuses => "answers a SYN".to_owned(),
            Rule::Aborts => {
                format!("cuts an open connection, {a} bytes of the peer not acknowledged")
            }
            Rule::AfterClose => "after its sender had closed".to_owned(),
            Rule::Dsack => format!("SACK block of {a} bytes that were already acknowledged"),
            Rule::NewInitial => "SYN with another initial sequence number".to_owned(),
        }
    }

    pub(crate) fn view(&self) -> TcpNote {
        TcpNote {
            at: self.at,
            packet: (self.packet > 0).then_some(self.packet),
            journey: (self.journey > 0).then_some(self.journey),
            from: if self.from == 0 { "originator" } else { "responder" }.to_owned(),
            seq: self.seq,
            len: self.len,
            kind: self.kind.name().to_owned(),
            reason: self.reason(),
        }
    }
}
