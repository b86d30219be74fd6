//! What a rule does with the packets that its condition selects, and the state that this needs.
//!
//! The arithmetic here is done again in `guard.bpf.c`, to the bit.

use std::net::IpAddr;

use super::Key;
use crate::flow::FiveTuple;
use crate::packet::Headers;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Action {
    /// Accepted; no later rule is asked.
    Pass = 0,
    /// Counted; later rules are asked.
    Count = 1,
    /// Counted and noted; later rules are asked.
    Log = 2,
    /// Counted and told of; later rules are asked.
    Alert = 3,
    /// Discarded.
    Drop = 4,
    /// Discarded, being over the rate.
    Limit = 5,
}

impl Action {
    /// Whether it ends the walk through the rules.
    pub fn decides(self) -> bool {
        matches!(self, Self::Pass | Self::Drop | Self::Limit)
    }

    /// Whether it discards.
    pub fn discards(self) -> bool {
        matches!(self, Self::Drop | Self::Limit)
    }

    /// As rule files spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Count => "count",
            Self::Log => "log",
            Self::Alert => "alert",
            Self::Drop => "drop",
            Self::Limit => "limit",
        }
    }
}

/// Whose packets are counted together, and who is blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Per {
    /// All packets that match.
    All = 0,
    /// The source address; of IPv6 its /64, which one host has all of.
    Source = 1,
    /// The destination address, whole.
    Destination = 2,
    /// Source and destination address, whole.
    Pair = 3,
    /// Addresses, ports and protocol.
    Flow = 4,
}

impl Per {
    /// As rule files spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Source => "source",
            Self::Destination => "destination",
            Self::Pair => "pair",
            Self::Flow => "flow",
        }
    }
}

/// What a rate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Packets: skbs at TC, frames at XDP.
    Packets,
    /// Bytes on the wire.
    Bytes,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// What is counted.
    pub unit: Unit,
    /// Tokens that come back in each `every`; never 0.
    pub amount: u64,
    /// Nanoseconds; at most an hour.
    pub every: u64,
    /// Tokens that the bucket holds; never 0.
    pub burst: u64,
}

impl Rate {
    /// Takes a packet of `len` bytes at `now`; whether there were not enough tokens for it.
    ///
    /// The bucket is kept as the time at which it would be full again (the virtual scheduling of
    /// ITU-T I.371), which is one number and needs no timer.
    pub fn is_over(&self, full_at: &mut u64, now: u64, len: u32) -> bool {
        let units = match self.unit {
            Unit::Packets => 1,
            Unit::Bytes => u64::from(len),
        };
        let after = (*full_at).max(now).saturating_add(units * self.every / self.amount);
        if after - now > self.depth() {
            return true;
        }
        *full_at = after;
        false
    }

    /// Time that an empty bucket takes to fill, nanoseconds.
    pub fn depth(&self) -> u64 {
        (u128::from(self.burst) * u128::from(self.every) / u128::from(self.amount))
            .min(u128::from(u64::MAX / 4)) as u64
    }
}

/// A threshold on how many different values of a key were seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Distinct {
    /// Whose values are counted.
    pub key: Key,
    /// Reached by more than so many.
    pub over: u32,
    /// Counting begins with a first packet and starts again this much later, nanoseconds.
    pub within: u64,
}

/// Cells that values are hashed to. Two values that share a cell count as one, so a count is never
/// more than the truth.
pub const CELLS: usize = 1024;

/// The cell of a value.
pub fn cell(value: u128) -> usize {
    // The finaliser of SplitMix64 (Steele, Lea and Flood 2014) over both halves.
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let high = mix((value >> 64) as u64);
    (mix((value as u64).wrapping_add(high)) >> 54) as usize
}

/// Values seen since `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cells {
    start: u64,
    count: u32,
    bits: [u64; CELLS / 64],
}

impl Cells {
    /// None seen, from `now` on.
    pub fn new(now: u64) -> Self {
        Self { start: now, count: 0, bits: [0; CELLS / 64] }
    }

    /// Adds a value; whether the threshold is passed.
    pub fn is_over(&mut self, distinct: &Distinct, now: u64, value: u128) -> bool {
        if now.saturating_sub(self.start) >= distinct.within {
            *self = Self::new(now);
        }
        let cell = cell(value);
        let (word, bit) = (&mut self.bits[cell / 64], 1 << (cell % 64));
        if *word & bit == 0 {
            *word |= bit;
            self.count += 1;
        }
        self.count > distinct.over
    }
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Behaviour {
    /// What becomes of a packet.
    pub action: Action,
    /// Looks at packets that come in.
    pub ingress: bool,
    /// Looks at packets that go out.
    pub egress: bool,
    /// Whose packets are counted together, and who is blocked.
    pub per: Per,
    /// Matches only what is over this rate.
    pub rate: Option<Rate>,
    /// Matches only above this threshold.
    pub distinct: Option<Distinct>,
    /// Looks only at packets of sources that have not completed a handshake.
    pub unproven: bool,
    /// Blocks whoever is discarded, when proven, for so many nanoseconds.
    pub block: Option<u64>,
}

/// The addresses and ports that state is kept by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// 4, 6, or 0 for packets without addresses, which share one key.
    pub family: u8,
    /// IP protocol.
    pub protocol: u8,
    /// Source port or 0.
    pub sport: u16,
    /// Destination port or 0.
    pub dport: u16,
    /// Source; an IPv4 address in the first four bytes.
    pub src: [u8; 16],
    /// Destination.
    pub dst: [u8; 16],
}

impl Flow {
    /// Of a packet.
    pub fn of(headers: &Headers) -> Self {
        headers.tuple().map_or_else(Self::default, |tuple| Self::of_tuple(&tuple))
    }

    /// Of a 5-tuple.
    pub fn of_tuple(tuple: &FiveTuple) -> Self {
        let bytes = |address: IpAddr| {
            let mut bytes = [0; 16];
            match address {
                IpAddr::V4(v4) => bytes[..4].copy_from_slice(&v4.octets()),
                IpAddr::V6(v6) => bytes = v6.octets(),
            }
            bytes
        };
        Self {
            family: if tuple.src.is_ipv4() { 4 } else { 6 },
            protocol: tuple.protocol,
            sport: tuple.sport,
            dport: tuple.dport,
            src: bytes(tuple.src),
            dst: bytes(tuple.dst),
        }
    }
}

/// What state is kept by: `struct psc_state_key` of `guard.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StateKey {
    /// The rule; [`EVERY_RULE`] for blocks.
    pub rule: u32,
    /// Which of the rest is meant.
    pub per: u8,
    /// As in [`Flow`].
    pub family: u8,
    /// As in [`Flow`].
    pub protocol: u8,
    /// As in [`Flow`].
    pub sport: u16,
    /// As in [`Flow`].
    pub dport: u16,
    /// As in [`Flow`].
    pub src: [u8; 16],
    /// As in [`Flow`].
    pub dst: [u8; 16],
}

/// [`StateKey::rule`] of blocks.
pub const EVERY_RULE: u32 = u32::MAX;

impl StateKey {
    /// The key of a packet's flow for one rule.
    pub fn new(rule: u32, per: Per, flow: &Flow) -> Self {
        let mut key = Self {
            rule,
            per: per as u8,
            family: 0,
            protocol: 0,
            sport: 0,
            dport: 0,
            src: [0; 16],
            dst: [0; 16],
        };
        if per == Per::All {
            return key;
        }
        key.family = flow.family;
        if per != Per::Destination {
            key.src = flow.src;
        }
        if per != Per::Source {
            key.dst = flow.dst;
        }
        if per == Per::Source && flow.family == 6 {
            key.src[8..].fill(0);
        }
        if per == Per::Flow {
            (key.protocol, key.sport, key.dport) = (flow.protocol, flow.sport, flow.dport);
        }
        key
    }
}
