//! What a connection waits for: the receiver's window, a held-back acknowledgement, the application.

use psc_formats::packet::{Headers, Tcp};

/// A delayed acknowledgement takes no less and no more (`TCP_DELACK_MIN` and `TCP_DELACK_MAX` of
/// `include/net/tcp.h` are 40 and 200 ms; RFC 1122 allows 500), with some room for clocks.
const DELAYED_NS: std::ops::Range<u64> = 30_000_000..500_000_000;

/// What was held back for an acknowledgement leaves with it.
const RELEASED_NS: u64 = 3_000_000;

/// An answer that takes longer is slow for a person (Nielsen 1993: a tenth of a second feels instant).
pub(in crate::diagnosis) const SLOW_NS: u64 = 200_000_000;

const FIN: u16 = 0x01;
const SYN: u16 = 0x02;
const RST: u16 = 0x04;

/// One direction: what its sender did with what the other end granted.
#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    /// Window scale of its SYN; `None` when it offered none.
    scale: Option<u8>,
    /// Highest sequence number that its sender may use: acknowledgement and window of the other end.
    edge: Option<u32>,
    /// Highest sequence number sent, and acknowledged.
    next: Option<u32>,
    acked: Option<u32>,
    /// Largest window granted to it, bytes.
    window: u32,
    /// Segments that used the window up.
    filled: u64,
    /// Segments with data.
    data: u64,
    /// Most bytes under way at once.
    flight: u32,
    /// A lone small segment: when it left and where it ends.
    lone: Option<(u64, u32)>,
    /// Its acknowledgement came late and without data: when, and how long it took.
    late: Option<(u64, u64)>,
    /// What an acknowledgement takes without being held back: the handshake's share of it.
    path_ns: Option<u64>,
    /// Data that left with such an acknowledgement: how often, and the time lost.
    held: u32,
    held_ns: u64,
}

/// The pace of one connection, by side as its table has them.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::diagnosis) struct Pace {
    flows: [Flow; 2],
    /// Both SYNs were seen: the scale of windows is known.
    syns: [bool; 2],
    /// When the originator's SYN came by, and how long the answer took.
    syn_at: Option<u64>,
    pub(in crate::diagnosis) handshake_ns: Option<u64>,
    /// When the answer came by, until it is acknowledged.
    answered_at: Option<u64>,
    /// The originator's data that waits for an answer: when the last of it came by.
    asked: Option<u64>,
    /// Answers to it.
    pub(in crate::diagnosis) answers: u32,
    /// Those that took at least [`SLOW_NS`].
    pub(in crate::diagnosis) slow: u32,
    pub(in crate::diagnosis) slowest_ns: u64,
    pub(in crate::diagnosis) thought_ns: u64,
}

fn after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

impl Pace {
    /// A packet of side `from`.
    pub(super) fn packet(&mut self, from: usize, at: u64, headers: &Headers, tcp: &Tcp) {
        let (flags, len) = (tcp.flags, headers.payload_len);
        if flags & RST != 0 {
            return;
        }
        if flags & SYN != 0 {
            self.flows[from].scale = tcp.options.window_scale;
            self.flows[from].next = Some(tcp.seq.wrapping_add(1));
            self.syns[from] = true;
            if from == 1 {
                self.flows[0].acked = Some(tcp.ack);
            }
            if from == 0 {
                self.syn_at = Some(at);
            } else if let Some(sent) = self.syn_at {
                let took = *self.handshake_ns.get_or_insert(at.saturating_sub(sent));
                self.flows[0].path_ns.get_or_insert(took);
                self.answered_at = Some(at);
            }
            return;
        }
        self.acknowledges(from, at, len, tcp);
        if len == 0 {
            return;
        }
        self.sends(from, at, len, tcp);
        if from == 0 {
            self.asked = (flags & FIN == 0).then_some(at);
        } else if let Some(asked) = self.asked.take() {
            let took = at.saturating_sub(asked);
            self.answers += 1;
            self.slow += u32::from(took >= SLOW_NS);
            self.slowest_ns = self.slowest_ns.max(took);
            self.thought_ns = self.thought_ns.saturating_add(took);
        }
    }

    fn acknowledges(&mut self, from: usize, at: u64, len: u32, tcp: &Tcp) {
        let scales = [self.flows[0].scale, self.flows[1].scale];
        // Both ends have to offer it (RFC 7323 section 2.2).
        let shift = match scales {
            [Some(_), Some(_)] => u32::from(scales[from].unwrap_or(0).min(14)),
            _ => 0,
        };
        let window = u32::from(tcp.window) << shift;
        if from == 0
            && let Some(answered) = self.answered_at.take()
        {
            self.flows[1].path_ns.get_or_insert(at.saturating_sub(answered));
        }
        let other = &mut self.flows[1 - from];
        other.window = other.window.max(window);
        let edge = tcp.ack.wrapping_add(window);
        if other.edge.is_none_or(|known| after(edge, known)) {
            other.edge = Some(edge);
        }
        if other.acked.is_none_or(|known| after(tcp.ack, known)) {
            other.acked = Some(tcp.ack);
        }
        match other.lone {
            Some((left, end)) if !after(end, tcp.ack) => {
                let took = at.saturating_sub(left);
                let held = took.saturating_sub(other.path_ns.unwrap_or(0));
                other.late = (len == 0 && DELAYED_NS.contains(&held)).then_some((at, took));
                other.lone = None;
            }
            _ => {}
        }
    }

    fn sends(&mut self, from: usize, at: u64, len: u32, tcp: &Tcp) {
        let flow = &mut self.flows[from];
        let end = tcp.seq.wrapping_add(len);
        let fresh = flow.next.is_none_or(|next| after(end, next));
        flow.data += 1;
        if let Some((came, took)) = flow.late.take()
            && fresh
            && at.saturating_sub(came) < RELEASED_NS
        {
            flow.held += 1;
            flow.held_ns = flow.held_ns.saturating_add(took);
        }
        if !fresh {
            return;
        }
        // Nothing else is under way: Nagle's algorithm holds what follows (RFC 1122 section 4.2.3.4).
        let alone = flow.acked.is_some_and(|acked| acked == tcp.seq);
        flow.lone = alone.then_some((at, end));
        flow.next = Some(end);
        if let Some(acked) = flow.acked {
            flow.flight = flow.flight.max(end.wrapping_sub(acked));
        }
        // Less room than for another such segment.
        if let Some(edge) = flow.edge {
            flow.filled += u64::from(after(end.wrapping_add(len.min(1460)), edge));
        }
    }

    /// Whether both SYNs were seen, so that windows are known in bytes.
    pub(in crate::diagnosis) fn is_known(&self) -> bool {
        self.syns == [true, true]
    }

    /// Which side offered no window scale, of those seen.
    pub(in crate::diagnosis) fn unscaled(&self) -> Option<usize> {
        (0..2).find(|&side| self.syns[side] && self.flows[side].scale.is_none())
    }

    /// Largest window granted to a side, bytes.
    pub(in crate::diagnosis) fn window(&self, side: usize) -> u32 {
        self.flows[side].window
    }

    /// Segments of a side that used its window up, of all with data.
    pub(in crate::diagnosis) fn filled(&self, side: usize) -> (u64, u64) {
        (self.flows[side].filled, self.flows[side].data)
    }

    /// Most bytes of a side under way at once.
    pub(in crate::diagnosis) fn flight(&self, side: usize) -> u32 {
        self.flows[side].flight
    }

    /// How often data of a side waited for a delayed acknowledgement, and for how long in all.
    pub(in crate::diagnosis) fn held(&self, side: usize) -> (u32, u64) {
        (self.flows[side].held, self.flows[side].held_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use psc_formats::packet::{TcpOptions, Transport};

    const MS: u64 = 1_000_000;

    /// (milliseconds, side, sequence, acknowledgement, payload, window)
    type Packet = (u64, usize, u32, u32, u32, u16);

    fn run(packets: &[Packet], scale: Option<u8>) -> Pace {
        run_over(1, packets, scale)
    }

    /// Over a path that takes so many milliseconds there and back.
    fn run_over(path: u64, packets: &[Packet], scale: Option<u8>) -> Pace {
        let mut pace = Pace::default();
        let mut one = |at: u64, from: usize, seq, ack, len, window, flags| {
            let options = TcpOptions { window_scale: scale, ..TcpOptions::default() };
            let options = if flags & SYN != 0 { options } else { TcpOptions::default() };
            let (sport, dport, header_len, checksum) = (1, 2, 20, 0);
            let tcp = Tcp { sport, dport, seq, ack, flags, window, header_len, checksum, options };
            let headers =
                Headers { transport: Transport::Tcp(tcp), payload_len: len, ..Headers::default() };
            pace.packet(from, at * MS, &headers, &tcp);
        };
        one(0, 0, 0, 0, 0, 65535, SYN);
        one(path, 1, 0, 1, 0, 65535, SYN | 0x10);
        for &(at, from, seq, ack, len, window) in packets {
            one(at, from, seq, ack, len, window, 0x10);
        }
        pace
    }

    #[test]
    fn held_filled_and_slow_are_told_apart() {
        #[rustfmt::skip]
        let cases: &[(&str, &[Packet], u32, u64, u32)] = &[
            // name, packets, held, filled, slow
            ("header, late ACK, body with it", &[(2, 0, 1, 1, 100, 500), (42, 1, 1, 101, 0, 500), (42, 0, 101, 1, 100, 500)], 1, 0, 0),
            ("a late ACK, data much later", &[(2, 0, 1, 1, 100, 500), (42, 1, 1, 101, 0, 500), (90, 0, 101, 1, 100, 500)], 0, 0, 0),
            ("an answer instead of an ACK", &[(2, 0, 1, 1, 100, 500), (42, 1, 1, 101, 9, 500), (42, 0, 101, 10, 100, 500)], 0, 0, 0),
            ("a prompt ACK", &[(2, 0, 1, 1, 100, 500), (3, 1, 1, 101, 0, 500), (3, 0, 101, 1, 100, 500)], 0, 0, 0),
            ("a window used up", &[(2, 1, 1, 1, 0, 100), (3, 0, 1, 1, 6000, 500), (4, 0, 6001, 1, 6700, 500)], 0, 1, 0),
            ("an answer after 300 ms", &[(2, 0, 1, 1, 9, 500), (3, 1, 1, 10, 0, 500), (302, 1, 1, 10, 5, 500)], 0, 0, 1),
            ("data that nobody asked for", &[(302, 1, 1, 1, 5, 500)], 0, 0, 0),
        ];
        for (name, packets, held, filled, slow) in cases {
            let pace = run(packets, Some(7));
            assert_eq!(pace.held(0).0, *held, "{name}: held");
            assert_eq!(pace.filled(0).0, *filled, "{name}: filled");
            assert_eq!(pace.slow, *slow, "{name}: slow");
        }
    }

    #[test]
    fn what_the_path_takes_is_no_delay_of_the_acknowledgement() {
        let packets =
            [(100, 0, 1, 1, 100, 500), (150, 1, 1, 101, 0, 500), (150, 0, 101, 1, 100, 500)];
        for (path, held) in [(1, 1), (15, 1), (45, 0)] {
            assert_eq!(run_over(path, &packets, Some(7)).held(0).0, held, "{path} ms");
        }
    }

    #[test]
    fn windows_are_scaled_when_both_offered_it() {
        let packets = [(2, 1, 1, 1, 0, 100)];
        assert_eq!(run(&packets, Some(7)).window(0), 12_800);
        let plain = run(&packets, None);
        assert_eq!((plain.window(0), plain.unscaled()), (100, Some(0)));
    }
}
