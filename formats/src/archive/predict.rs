//! What an event of the frame is expected to be, from the events before it in the same frame.
//!
//! Writer and reader run this same code over the same events, so that what the expectation gets
//! right takes no room. Nothing outlives a frame: each one decodes alone.

use crate::{Event, EventKind, Gso};

/// Slots of the tables below, a power of two. Collisions cost room in the file, never exactness.
const SLOTS: usize = 4096;

/// How a number of an event is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Mode {
    /// It is 0.
    Zero = 0,
    /// It is what was predicted.
    Predicted = 1,
    /// skb: the one that followed the CPU's last skb when that was last left. Content and socket:
    /// the last that was not 0. Packet: it is whole.
    Follows = 2,
    /// It is the next one of its column.
    Stored = 3,
}

impl Mode {
    fn from_bits(bits: u16) -> Self {
        match bits & 3 {
            0 => Self::Zero,
            1 => Self::Predicted,
            2 => Self::Follows,
            _ => Self::Stored,
        }
    }
}

/// How the numbers of an event that are not in its shape are found: two bits each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Modes {
    pub(super) skb: Mode,
    pub(super) content: Mode,
    pub(super) sock: Mode,
    pub(super) gso: Mode,
    pub(super) len: Mode,
    /// `Zero`: none. `Follows`: there is one and it is whole. `Stored`: there is one, cut.
    pub(super) packet: Mode,
    /// `Predicted`: no gap. `Stored`: a gap.
    pub(super) seq: Mode,
}

impl Modes {
    pub(super) fn to_bits(self) -> u16 {
        self.skb as u16
            | (self.content as u16) << 2
            | (self.sock as u16) << 4
            | (self.gso as u16) << 6
            | (self.len as u16) << 8
            | (self.packet as u16) << 10
            | (self.seq as u16) << 12
    }

    pub(super) fn from_bits(bits: u16) -> Self {
        Self {
            skb: Mode::from_bits(bits),
            content: Mode::from_bits(bits >> 2),
            sock: Mode::from_bits(bits >> 4),
            gso: Mode::from_bits(bits >> 6),
            len: Mode::from_bits(bits >> 8),
            packet: Mode::from_bits(bits >> 10),
            seq: Mode::from_bits(bits >> 12),
        }
    }
}

/// What an event is predicted from: the event before with the same skb, else the one before on the
/// same CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) skb: u32,
    pub(super) content: u32,
    pub(super) sock: u32,
    pub(super) len: u32,
    pub(super) gso: Gso,
    /// Probes that do not read a packet or have no socket come between those that do.
    pub(super) last_content: u32,
    pub(super) last_sock: u32,
}

impl Base {
    /// What comes after `event`, which was itself predicted from this.
    pub(super) fn after(&self, event: &Event) -> Self {
        let unless_zero = |value: u32, last: u32| if value == 0 { last } else { value };
        Self {
            skb: event.skb.0,
            content: event.content,
            sock: event.sock.0,
            len: event.len,
            gso: event.gso,
            last_content: unless_zero(event.content, self.last_content),
            last_sock: unless_zero(event.sock.0, self.last_sock),
        }
    }
}

/// State of one CPU's stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cpu {
    /// Time of the last event.
    pub(super) at: u64,
    /// `seq` that the next event has without a gap.
    pub(super) seq: u64,
    /// The last event.
    last: Base,
    /// The last event that had an skb.
    skb: u32,
}

impl Cpu {
    pub(super) fn starting(at: u64, seq: u64) -> Self {
        Self { at, seq, ..Self::default() }
    }

    /// skb of this CPU's last event that had one.
    pub(super) fn skb(&self) -> u32 {
        self.skb
    }
}

/// Expectations of one frame.
pub(super) struct Predictor {
    /// By skb: the last event that had it.
    seen: Box<[Base]>,
    /// By skb: the one that followed it on its CPU.
    next: Box<[u32]>,
}

impl Predictor {
    pub(super) fn new() -> Self {
        Self {
            seen: vec![Base::default(); SLOTS].into_boxed_slice(),
            next: vec![0; SLOTS].into_boxed_slice(),
        }
    }

    pub(super) fn reset(&mut self) {
        self.seen.fill(Base::default());
        self.next.fill(0);
    }

    /// The skb that followed the last one of `cpu`; 0 when none has.
    pub(super) fn follower(&self, cpu: &Cpu) -> u32 {
        self.next[cpu.skb as usize % SLOTS]
    }

    /// What an event with `skb` on `cpu` is predicted from, and whether that had the same skb.
    pub(super) fn base(&self, cpu: &Cpu, skb: u32) -> (Base, bool) {
        let seen = self.seen[skb as usize % SLOTS];
        if skb != 0 && seen.skb == skb { (seen, true) } else { (cpu.last, false) }
    }

    /// Takes the event that was at hand into account.
    pub(super) fn learn(&mut self, cpu: &mut Cpu, at: u64, seq: u64, base: Base) {
        cpu.at = at;
        cpu.seq = seq.wrapping_add(1);
        cpu.last = base;
        if base.skb != 0 {
            self.seen[base.skb as usize % SLOTS] = base;
            if base.skb != cpu.skb {
                self.next[cpu.skb as usize % SLOTS] = base.skb;
                cpu.skb = base.skb;
            }
        }
    }
}

/// What of an event repeats: most streams have few of these, so an event stores its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub(super) probe: u16,
    pub(super) device: u16,
    pub(super) iif: u32,
    pub(super) stack: u32,
    pub(super) task: u32,
    pub(super) modes: u16,
    pub(super) link: u16,
    pub(super) tag: u8,
    pub(super) evidence: u8,
    pub(super) context: u8,
    pub(super) len: i8,
}

/// A signed difference as an unsigned number that is small when it is near 0.
pub(super) fn zigzag(value: u64) -> u64 {
    (value << 1) ^ ((value as i64 >> 63) as u64)
}

/// The reverse of [`zigzag`].
pub(super) fn unzigzag(value: u64) -> u64 {
    (value >> 1) ^ (value & 1).wrapping_neg()
}

/// Most integers of any kind that this format can carry.
pub(super) const MAX_ARGS: usize = 32;

/// Integers of a kind, without allocating.
pub(super) fn args_of(kind: &EventKind, scratch: &mut Vec<u64>) {
    scratch.clear();
    kind.write_args(scratch);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zigzag_keeps_every_difference_and_makes_small_ones_small() {
        for value in [0, 1, u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) - 1] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
        assert_eq!(zigzag(u64::MAX), 1);
    }

    #[test]
    fn modes_survive_their_bits() {
        for bits in 0..1 << 14 {
            assert_eq!(Modes::from_bits(bits).to_bits(), bits);
        }
    }
}
