//! TCP connections as far as their faults go: what was tried, what stuck, who ended it.

use std::net::SocketAddr;

use psc_formats::packet::Headers;
use psc_formats::{Event, EventKind, FiveTuple};

use super::Times;
use super::pace::Pace;
use crate::bounded::Bounded;
use crate::engine::{ClosedJourney, JourneyId, Outcome, World};

/// Connections kept; of more, the longest idle are forgotten.
const OPEN: usize = 32_768;

/// Sent this often without the peer's acknowledgement moving: stuck.
pub(in crate::diagnosis) const RESENT_STUCK: u32 = 3;

const FIN: u16 = 0x01;
const SYN: u16 = 0x02;
const RST: u16 = 0x04;
const ACK: u16 = 0x10;
const ECE: u16 = 0x40;

/// One direction of a connection.
#[derive(Clone, Debug, Default)]
pub(in crate::diagnosis) struct Side {
    pub(in crate::diagnosis) packets: u64,
    /// When its last packet came by.
    pub(in crate::diagnosis) last: u64,
    /// Payload bytes, repeated ones too.
    pub(in crate::diagnosis) bytes: u64,
    /// Segments with data, SYN or FIN, as on the wire.
    pub(in crate::diagnosis) segments: u64,
    pub(in crate::diagnosis) fin: bool,
    /// When its first FIN came by.
    pub(in crate::diagnosis) fin_at: Option<u64>,
    /// When its last packet with data came by.
    pub(in crate::diagnosis) data_last: u64,
    /// Acknowledgements with ECE: its peer's packets met congestion.
    pub(in crate::diagnosis) echoes: u64,
    pub(in crate::diagnosis) reset: Option<u64>,
    /// Where its first packet was first seen.
    pub(in crate::diagnosis) first_at: psc_formats::event::DeviceId,
    /// Where its reset was first seen.
    pub(in crate::diagnosis) reset_at: psc_formats::event::DeviceId,
    /// Retransmissions told by the kernel.
    pub(in crate::diagnosis) resent_kernel: u64,
    /// Retransmissions seen in the sequence numbers.
    pub(in crate::diagnosis) resent_seen: u64,
    /// MSS of its SYN.
    pub(in crate::diagnosis) mss: Option<u16>,
    /// Highest sequence number after what it sent.
    next: Option<u32>,
    /// Highest acknowledgement that it sent.
    acked: Option<u32>,
    /// The oldest segment that it keeps sending: (sequence, payload bytes, times sent, first, last).
    pub(in crate::diagnosis) stuck: Option<Stuck>,
    /// Its receive window was closed: since when, how long in all, how often.
    closed_since: Option<u64>,
    pub(in crate::diagnosis) closed_ns: u64,
    pub(in crate::diagnosis) closures: u32,
    /// Longest payload acknowledged by the peer.
    pub(in crate::diagnosis) longest_acked: u32,
    longest_sent: Option<(u32, u32)>,
}

/// A segment sent again and again.
#[derive(Clone, Copy, Debug)]
pub(in crate::diagnosis) struct Stuck {
    seq: u32,
    pub(in crate::diagnosis) len: u32,
    pub(in crate::diagnosis) sent: u32,
    pub(in crate::diagnosis) first: u64,
    pub(in crate::diagnosis) last: u64,
}

/// One connection, originator first.
#[derive(Clone, Debug)]
pub(in crate::diagnosis) struct Connection {
    pub(in crate::diagnosis) tuple: FiveTuple,
    pub(in crate::diagnosis) times: Times,
    pub(in crate::diagnosis) syns: u32,
    pub(in crate::diagnosis) syn_last: u64,
    pub(in crate::diagnosis) syn_ack: bool,
    /// The originator acknowledged the SYN-ACK, or data flowed.
    pub(in crate::diagnosis) established: bool,
    /// Seen from its SYN.
    pub(in crate::diagnosis) whole: bool,
    /// From the originator, from the responder.
    pub(in crate::diagnosis) sides: [Side; 2],
    /// Packets of it that the kernel dropped.
    pub(in crate::diagnosis) drops: u64,
    /// Function and reason of the first such.
    pub(in crate::diagnosis) dropped: Option<(u32, psc_formats::event::SymbolId)>,
    /// A socket of it on this host reported this errno.
    pub(in crate::diagnosis) error: u32,
    /// What it waits for.
    pub(in crate::diagnosis) pace: Pace,
}

impl Connection {
    fn new(tuple: FiveTuple) -> Self {
        Self {
            tuple,
            times: Times::default(),
            syns: 0,
            syn_last: 0,
            syn_ack: false,
            established: false,
            whole: false,
            sides: Default::default(),
            drops: 0,
            dropped: None,
            error: 0,
            pace: Pace::default(),
        }
    }

    pub(in crate::diagnosis) fn server(&self) -> SocketAddr {
        SocketAddr::new(self.tuple.dst, self.tuple.dport)
    }

    /// It was refused: a reset and nothing else came back for its SYN.
    pub(in crate::diagnosis) fn refused(&self) -> bool {
        self.syns > 0 && !self.syn_ack && self.sides[1].reset.is_some()
    }

    /// Retransmissions of one side, by the better witness.
    pub(in crate::diagnosis) fn resent(&self, side: usize) -> u64 {
        let side = &self.sides[side];
        if side.resent_kernel > 0 { side.resent_kernel } else { side.resent_seen }
    }

    fn from(&self, tuple: FiveTuple) -> usize {
        usize::from(tuple != self.tuple)
    }
}

/// All connections.
#[derive(Debug)]
pub(in crate::diagnosis) struct Connections {
    open: Bounded<FiveTuple, Connection>,
    /// Socket to the tuple it had: errors come when the ports are gone.
    socks: Bounded<psc_formats::SockId, FiveTuple>,
}

impl Default for Connections {
    fn default() -> Self {
        Self { open: Bounded::new(OPEN), socks: Bounded::new(OPEN) }
    }
}

fn after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

impl Connections {
    pub(super) fn packet(&mut self, event: &Event, headers: &Headers, journey: Option<JourneyId>) {
        let (Some(tcp), Some(tuple)) = (headers.tcp(), headers.tuple()) else { return };
        let at = event.at.0;
        let flags = tcp.flags;
        let answer = flags & (SYN | ACK) == SYN | ACK;
        let originator = if answer { tuple.reversed() } else { tuple };
        let key = tuple.canonical();
        let is_syn = flags & (SYN | ACK) == SYN;
        if is_syn
            && self.open.get(&key).is_some_and(|old| {
                let next = old.sides[old.from(tuple)].next;
                next.is_some_and(|next| next != tcp.seq.wrapping_add(1)) && old.established
            })
        {
            // A new connection between the same ports: the old one keeps its verdicts elsewhere.
            self.open.remove(&key);
        }
        let connection = self.open.entry_or_forget(key, || Connection::new(originator));
        connection.times.add(at, 1, journey.map(|id| id.0));
        let from = connection.from(tuple);
        if is_syn {
            connection.syns += 1;
            connection.syn_last = at;
            connection.whole = true;
        }
        connection.syn_ack |= answer;
        connection.established |= connection.syn_ack && from == 0 && flags & (SYN | RST) == 0;
        connection.established |= !connection.whole && headers.payload_len > 0;
        let len = headers.payload_len;
        let span = len + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        connection.pace.packet(from, at, headers, tcp);
        let side = &mut connection.sides[from];
        if side.packets == 0 {
            side.first_at = event.device;
        }
        side.packets += 1;
        side.last = at;
        side.bytes += u64::from(len);
        if flags & SYN != 0 {
            side.mss = tcp.options.mss;
        }
        side.fin |= flags & FIN != 0;
        if flags & FIN != 0 {
            side.fin_at.get_or_insert(at);
        }
        if len > 0 {
            side.data_last = at;
        }
        side.echoes += u64::from(flags & (ECE | SYN) == ECE);
        if flags & RST != 0 {
            if side.reset.is_none() {
                side.reset_at = event.device;
            }
            side.reset.get_or_insert(at);
        } else if flags & SYN == 0 {
            side.window(tcp.window, at);
        }
        if span > 0 && flags & RST == 0 {
            side.segments += u64::from(event.gso.segments());
            let end = tcp.seq.wrapping_add(span);
            let again = side.next.is_some_and(|next| !after(end, next));
            side.resent_seen += u64::from(again);
            if side.next.is_none_or(|next| after(end, next)) {
                side.next = Some(end);
            }
            if len > 0 && side.longest_sent.is_none_or(|(_, longest)| len > longest) {
                side.longest_sent = Some((end, len));
            }
            match &mut side.stuck {
                Some(stuck) if stuck.seq == tcp.seq => {
                    stuck.sent += 1;
                    stuck.last = at;
                    stuck.len = stuck.len.max(len);
                }
                Some(_) => {}
                stuck => {
                    *stuck = Some(Stuck { seq: tcp.seq, len, sent: 1, first: at, last: at });
                }
            }
        }
        if flags & ACK != 0 {
            side.acked = Some(match side.acked {
                Some(known) if !after(tcp.ack, known) => known,
                _ => tcp.ack,
            });
            let other = &mut connection.sides[1 - from];
            if other.stuck.is_some_and(|stuck| after(tcp.ack, stuck.seq)) {
                other.stuck = None;
            }
            if let Some((end, longest)) = other.longest_sent
                && !after(end, tcp.ack)
            {
                other.longest_acked = other.longest_acked.max(longest);
            }
        }
    }

    pub(super) fn socket_event(&mut self, event: &Event) {
        let (tuple, count) = match event.kind {
            EventKind::Retransmit { tuple, .. } => (tuple, u64::from(event.gso.segments())),
            EventKind::SockState { tuple, .. }
            | EventKind::SockSeen { tuple, .. }
            | EventKind::SockError { tuple, .. } => (tuple, 0),
            _ => return,
        };
        let known = if tuple.sport != 0 && tuple.dport != 0 {
            *self.socks.entry_or_forget(event.sock, || tuple) = tuple;
            tuple
        } else if let Some(&known) = self.socks.get(&event.sock) {
            known
        } else {
            return;
        };
        let Some(connection) = self.open.get_mut(&known.canonical()) else { return };
        let from = connection.from(known);
        connection.sides[from].resent_kernel += count;
        if let EventKind::SockError { error: error @ 1.., .. } = event.kind {
            connection.error = error;
        }
    }

    pub(super) fn journey(&mut self, _: World<'_>, journey: &ClosedJourney) {
        let Outcome::Dropped { reason, location } = journey.outcome else { return };
        let Some(tuple) = journey.headers.first().and_then(|(_, headers)| headers.tuple()) else {
            return;
        };
        if let Some(connection) = self.open.get_mut(&tuple.canonical()) {
            connection.drops += 1;
            connection.dropped.get_or_insert((reason, location));
        }
    }

    /// Every connection, in the order of their first packets.
    pub(in crate::diagnosis) fn all(&self) -> Vec<&Connection> {
        let mut all: Vec<&Connection> = self.open.values().collect();
        all.sort_unstable_by_key(|connection| (connection.times.first, connection.tuple));
        all
    }

    pub(in crate::diagnosis) fn get(&self, tuple: FiveTuple) -> Option<&Connection> {
        self.open.get(&tuple.canonical())
    }
}

impl Side {
    /// Zero means closed whatever the scale.
    fn window(&mut self, window: u16, at: u64) {
        match (window, self.closed_since) {
            (0, None) => {
                self.closed_since = Some(at);
                self.closures += 1;
            }
            (0, Some(_)) | (_, None) => {}
            (_, Some(since)) => {
                self.closed_ns += at.saturating_sub(since);
                self.closed_since = None;
            }
        }
    }

    /// How long its window was closed, up to `end`.
    pub(in crate::diagnosis) fn closed_for(&self, end: u64) -> u64 {
        self.closed_ns + self.closed_since.map_or(0, |since| end.saturating_sub(since))
    }
}
