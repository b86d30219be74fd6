//! Who has talked to whom so far, and where both sides stand: what a forger who is not on the path
//! cannot know.

use std::net::IpAddr;

use psc_formats::FiveTuple;
use psc_formats::packet::{Headers, Transport};

use crate::analyzer::tcp::{ACK, FIN, RST, SYN};
use crate::bounded::Bounded;

/// Conversations remembered at once; a flood of new ones forgets the oldest.
const CONVERSATIONS: usize = 65_536;

/// A segment this far from the highest one sent (4 MiB) does not simply follow it.
pub(super) const FAR: u32 = 1 << 22;

/// Hosts remembered as senders.
const SENDERS: usize = 65_536;

/// What one side has sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Side {
    pub(super) packets: u64,
    /// Transport payload bytes.
    pub(super) bytes: u64,
    pub(super) last: u64,
    /// One past the highest sequence number sent.
    pub(super) next: Option<u32>,
    /// Highest acknowledgement sent.
    pub(super) ack: Option<u32>,
    /// Largest window offered, scaled where the handshake was seen.
    pub(super) window: u32,
    shift: u8,
    /// End of a segment far from the others.
    jumped: Option<u32>,
    pub(super) syn: bool,
    pub(super) fin: bool,
    /// Somebody reset in this side's name.
    reset: bool,
    /// TTL or hop limit of the last packet that was not a reset.
    pub(super) ttl: u8,
    /// Packets in a row with that TTL.
    pub(super) same_ttl: u64,
    /// Link-layer address that its last frame went to.
    pub(super) to_mac: Option<[u8; 6]>,
    /// Largest IP packet, bytes.
    pub(super) largest: u32,
    pub(super) mss: Option<u16>,
}

/// Both sides, in the order of [`FiveTuple::canonical`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Conversation {
    sides: [Side; 2],
}

impl Conversation {
    /// The side that sends packets with `tuple`, and the other.
    pub(super) fn sides(&self, tuple: &FiveTuple) -> (&Side, &Side) {
        let [a, b] = &self.sides;
        if tuple.canonical() == *tuple { (a, b) } else { (b, a) }
    }
}

#[derive(Debug)]
pub(super) struct Conversations {
    known: Bounded<FiveTuple, Conversation>,
    /// When a host was first seen to send a protocol.
    senders: Bounded<(IpAddr, u8), u64>,
    start: Option<u64>,
}

impl Default for Conversations {
    fn default() -> Self {
        Self { known: Bounded::new(CONVERSATIONS), senders: Bounded::new(SENDERS), start: None }
    }
}

/// `a - b` on the circle of sequence numbers.
pub(super) fn ahead(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b) as i32
}

impl Conversations {
    pub(super) fn get(&self, tuple: &FiveTuple) -> Option<&Conversation> {
        self.known.get(&tuple.canonical())
    }

    /// The side that sends with `tuple`, if it has sent anything.
    pub(super) fn sent(&self, tuple: &FiveTuple) -> Option<&Side> {
        self.get(tuple).map(|found| found.sides(tuple).0).filter(|side| side.packets > 0)
    }

    /// Whether what `host` sends of a protocol is in view, and has been for at least `ns` before `at`:
    /// only then is "it never sent this" worth anything.
    pub(super) fn in_view(&self, host: IpAddr, protocol: u8, at: u64, ns: u64) -> bool {
        self.senders.get(&(host, protocol)).is_some_and(|first| at.saturating_sub(*first) >= ns)
    }

    /// Whether anything that `host` sends is in view.
    pub(super) fn sends(&self, host: IpAddr) -> bool {
        [1, 6, 17, 58].into_iter().any(|protocol| self.senders.get(&(host, protocol)).is_some())
    }

    /// Nanoseconds of recording before `at`.
    pub(super) fn age(&self, at: u64) -> u64 {
        self.start.map_or(0, |start| at.saturating_sub(start))
    }

    /// Whether nothing was forgotten.
    pub(super) fn complete(&self) -> bool {
        self.known.evicted() == 0
    }

    /// `size` is that of one IP packet on the wire, bytes.
    pub(super) fn packet(&mut self, headers: &Headers, at: u64, size: u32) {
        self.start.get_or_insert(at);
        let Some(tuple) = headers.tuple() else { return };
        self.senders.entry_or_forget((tuple.src, tuple.protocol), || at);
        let canonical = tuple.canonical();
        let found =
            self.known.entry_or_forget(canonical, || Conversation { sides: Default::default() });
        let (from, to) = if canonical == tuple { (0, 1) } else { (1, 0) };
        if let Some(tcp) = headers.tcp()
            && tcp.flags & (SYN | ACK | RST) == SYN
            && found.sides[from].next.is_some_and(|next| ahead(tcp.seq, next).unsigned_abs() > 1)
            && (found.sides.iter().any(|side| side.fin || side.reset)
                || found.sides[to].packets == 0)
        {
            // The tuple is used again.
            *found = Conversation { sides: Default::default() };
        }
        found.sides[from].packet(headers, at, size);
    }
}

impl Side {
    fn packet(&mut self, headers: &Headers, at: u64, size: u32) {
        self.packets += 1;
        self.bytes += u64::from(headers.payload_len);
        self.last = at;
        self.largest = self.largest.max(size);
        if let Some(ethernet) = headers.ethernet {
            self.to_mac = Some(ethernet.dst);
        }
        let Transport::Tcp(tcp) = &headers.transport else {
            self.seen_ttl(headers);
            return;
        };
        if tcp.flags & RST != 0 {
            // A reset may be anybody's: it moves nothing here.
            self.reset = true;
            return;
        }
        self.seen_ttl(headers);
        let end = tcp
            .seq
            .wrapping_add(headers.payload_len)
            .wrapping_add(u32::from(tcp.flags & SYN != 0))
            .wrapping_add(u32::from(tcp.flags & FIN != 0));
        if tcp.flags & SYN != 0 {
            self.syn = true;
            self.next = Some(end);
            self.shift = tcp.options.window_scale.unwrap_or(0).min(14);
            self.mss = tcp.options.mss;
            self.window = self.window.max(u32::from(tcp.window));
        } else {
            let jump = self.next.map_or(1, |next| ahead(end, next));
            let far = jump.unsigned_abs() > FAR;
            // One segment far from the others may be forged; a second that goes on from it is not.
            if jump > 0 && !far || far && self.jumped == Some(tcp.seq) {
                self.next = Some(end);
                self.jumped = None;
            } else if far {
                self.jumped = Some(end);
            }
            self.window = self.window.max(u32::from(tcp.window) << self.shift);
        }
        self.fin |= tcp.flags & FIN != 0;
        if tcp.flags & ACK != 0 && self.ack.is_none_or(|ack| ahead(tcp.ack, ack) > 0) {
            self.ack = Some(tcp.ack);
        }
    }

    fn seen_ttl(&mut self, headers: &Headers) {
        let ttl = headers.ttl().unwrap_or(0);
        if self.ttl == ttl {
            self.same_ttl += 1;
        } else {
            self.ttl = ttl;
            self.same_ttl = 1;
        }
    }
}
