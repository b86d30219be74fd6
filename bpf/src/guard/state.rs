//! What the programs have counted and remember.

use std::net::IpAddr;

use libbpf_rs::{MapCore, MapFlags, MapHandle, Object};
use psc_formats::guard::{EVERY_RULE, Flow, Per, StateKey};

use super::wire::{WireBlock, WireCounters, WireKey, WireNever, WireTold, WireTotals};
use super::{Guard, GuardError};
use crate::kernel;
use crate::wire::{bytes_of, read};

/// Handles of the maps that are read while the programs run.
pub(super) struct State {
    maps: Vec<(&'static str, MapHandle)>,
    rules: usize,
}

const READ: [&str; 6] = ["counters", "totals", "blocks", "proven", "nevers", "clocks"];

impl State {
    pub(super) fn new(object: &Object, rules: usize) -> Result<Self, GuardError> {
        let mut maps = Vec::new();
        for name in READ {
            let Some(map) = object.maps().find(|map| map.name() == name) else { continue };
            let handle = MapHandle::try_from(&map)
                .map_err(|error| GuardError::new(format!("open {name}"), &error))?;
            maps.push((name, handle));
        }
        Ok(Self { maps, rules })
    }

    pub(super) fn map(&self, name: &str) -> Result<&MapHandle, GuardError> {
        let found = self.maps.iter().find(|(known, _)| *known == name);
        found.map(|(_, map)| map).ok_or_else(|| GuardError {
            doing: format!("find {name}"),
            cause: "there is no such map".to_owned(),
        })
    }
}

/// What one rule has done since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that it acted on, blocked ones included.
    pub matched: u64,
    /// Bytes of these.
    pub matched_bytes: u64,
    /// Discarded by the rule (in a dry-run: would have been).
    pub discarded: u64,
    /// Discarded by its blocks.
    pub blocked: u64,
    /// Bytes of both.
    pub discarded_bytes: u64,
    /// Blocks made.
    pub blocks: u64,
    /// Blocks not made because the source had not proven itself.
    pub unproven: u64,
    /// First packet, `CLOCK_MONOTONIC` nanoseconds; 0 when unknown (rules without state keep no time).
    pub first: u64,
    /// Last packet.
    pub last: u64,
}

/// What all rules together have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets.
    pub asked: u64,
    /// Bytes.
    pub asked_bytes: u64,
    /// Packets discarded (in a dry-run: would have been).
    pub discarded: u64,
    /// Bytes discarded.
    pub discarded_bytes: u64,
    /// Packets that a never-block entry kept.
    pub never: u64,
    /// Packets whose headers went on beyond the bytes looked at.
    pub cut: u64,
    /// Packets that passed because state could not be kept or changed in time.
    pub no_state: u64,
}

/// A block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Who.
    pub key: StateKey,
    /// End, `CLOCK_MONOTONIC` nanoseconds.
    pub until: u64,
    /// Beginning.
    pub made: u64,
    /// First packet that counted towards it; 0 when unknown.
    pub first: u64,
    /// The rule.
    pub rule: u32,
}

/// Verdict of one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Discarded.
    pub discard: bool,
    /// By a block.
    pub by_block: bool,
    /// The rule that decided or blocked.
    pub rule: Option<u32>,
    /// The first rules that counted, logged or alerted.
    pub noted: Vec<u32>,
    /// A block began.
    pub blocks: bool,
    /// A block would have begun, had its source been proven.
    pub unproven: bool,
}

impl Told {
    pub(super) fn of(wire: &WireTold) -> Self {
        let noted = (wire.noted as usize).min(wire.notes.len());
        Self {
            discard: wire.discard != 0,
            by_block: wire.by == 2,
            rule: (wire.by != 0).then_some(wire.rule),
            noted: wire.notes[..noted].to_vec(),
            blocks: wire.blocks != 0,
            unproven: wire.unproven != 0,
        }
    }

    pub(super) fn unknown() -> WireTold {
        WireTold { discard: 0, by: 0, rule: 0, noted: 0, blocks: 0, unproven: 0, notes: [0; 16] }
    }
}

/// Somebody who is never discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Never {
    /// An address behind a hardware address, on the interface that is guarded.
    Neighbour {
        /// Address.
        address: IpAddr,
        /// Hardware address.
        mac: [u8; 6],
    },
    /// A connection, both ways.
    Connection {
        /// IP protocol.
        protocol: u8,
        /// One end.
        local: (IpAddr, u16),
        /// The other.
        remote: (IpAddr, u16),
    },
}

fn octets(address: IpAddr) -> (u8, [u8; 16]) {
    let mut bytes = [0; 16];
    match address {
        IpAddr::V4(v4) => {
            bytes[..4].copy_from_slice(&v4.octets());
            (4, bytes)
        }
        IpAddr::V6(v6) => (6, v6.octets()),
    }
}

impl Never {
    pub(super) fn keys(&self) -> Vec<WireNever> {
        let empty = WireNever {
            kind: 0,
            family: 0,
            protocol: 0,
            pad: 0,
            sport: 0,
            dport: 0,
            src: [0; 16],
            dst: [0; 16],
            mac: [0; 6],
            pad2: [0; 2],
        };
        match *self {
            Self::Neighbour { address, mac } => {
                let (family, src) = octets(address);
                vec![WireNever { kind: 1, family, src, mac, ..empty }]
            }
            Self::Connection { protocol, local, remote } => {
                let one = |from: (IpAddr, u16), to: (IpAddr, u16)| {
                    let ((family, src), (_, dst)) = (octets(from.0), octets(to.0));
                    let (sport, dport) = (from.1.to_be(), to.1.to_be());
                    WireNever { kind: 2, family, protocol, sport, dport, src, dst, ..empty }
                };
                vec![one(local, remote), one(remote, local)]
            }
        }
    }
}

impl Guard {
    /// Counters of each rule, summed over CPUs.
    pub fn counters(&self) -> Result<Vec<Counters>, GuardError> {
        let map = self.state.map("counters")?;
        let mut all = Vec::with_capacity(self.state.rules);
        for number in 0..self.state.rules as u32 {
            let values = map
                .lookup_percpu(&number.to_ne_bytes(), MapFlags::ANY)
                .map_err(|error| GuardError::new("read the counters", &error))?;
            let mut sum = Counters::default();
            for cpu in values.iter().flatten().filter_map(|bytes| read::<WireCounters>(bytes)) {
                sum.matched += cpu.matched;
                sum.matched_bytes += cpu.matched_bytes;
                sum.discarded += cpu.discarded;
                sum.blocked += cpu.blocked;
                sum.discarded_bytes += cpu.discarded_bytes;
                sum.blocks += cpu.blocks;
                sum.unproven += cpu.unproven;
                if cpu.first != 0 && (sum.first == 0 || cpu.first < sum.first) {
                    sum.first = cpu.first;
                }
                sum.last = sum.last.max(cpu.last);
            }
            all.push(sum);
        }
        Ok(all)
    }

    /// Counters of all rules together.
    pub fn totals(&self) -> Result<Totals, GuardError> {
        let values = self
            .state
            .map("totals")?
            .lookup_percpu(&0_u32.to_ne_bytes(), MapFlags::ANY)
            .map_err(|error| GuardError::new("read the totals", &error))?;
        let mut sum = Totals::default();
        for cpu in values.iter().flatten().filter_map(|bytes| read::<WireTotals>(bytes)) {
            sum.asked += cpu.asked;
            sum.asked_bytes += cpu.asked_bytes;
            sum.discarded += cpu.discarded;
            sum.discarded_bytes += cpu.discarded_bytes;
            sum.never += cpu.never;
            sum.cut += cpu.cut;
            sum.no_state += cpu.no_state;
        }
        Ok(sum)
    }

    /// Blocks that have not been swept, in no particular order.
    pub fn blocks(&self) -> Result<Vec<Block>, GuardError> {
        let map = self.state.map("blocks")?;
        let mut all = Vec::new();
        for key in map.keys() {
            let Ok(Some(value)) = map.lookup(&key, MapFlags::ANY) else { continue };
            let (Some(key), Some(block)) = (read::<WireKey>(&key), read::<WireBlock>(&value))
            else {
                continue;
            };
            all.push(Block {
                key: key.key(),
                until: block.until,
                made: block.made,
                first: block.first,
                rule: block.rule,
            });
        }
        Ok(all)
    }

    /// Blocks somebody from now on, on behalf of a rule about findings.
    pub fn block(&self, rule: u32, per: Per, flow: &Flow, span: u64) -> Result<(), GuardError> {
        let made = kernel::now();
        let value = WireBlock { until: made.saturating_add(span), made, first: 0, rule, pad: 0 };
        let key = WireKey::of(&StateKey::new(EVERY_RULE, per, flow));
        self.put("blocks", bytes_of(&key), bytes_of(&value))
    }

    /// Puts a block as it is: to hand one on to other rules.
    pub fn put_block(&self, block: &Block) -> Result<(), GuardError> {
        let value = WireBlock {
            until: block.until,
            made: block.made,
            first: block.first,
            rule: block.rule,
            pad: 0,
        };
        self.put("blocks", bytes_of(&WireKey::of(&block.key)), bytes_of(&value))
    }

    /// Ends a block.
    pub fn unblock(&self, key: &StateKey) -> Result<(), GuardError> {
        // It may have been pushed out already.
        let _ = self.state.map("blocks")?.delete(bytes_of(&WireKey::of(key)));
        Ok(())
    }

    /// The source of `flow` completed a handshake.
    pub fn prove(&self, flow: &Flow) -> Result<(), GuardError> {
        let key = WireKey::of(&StateKey::new(EVERY_RULE, Per::Source, flow));
        self.put("proven", bytes_of(&key), &kernel::now().to_ne_bytes())
    }

    /// Whether the source of `flow` completed a handshake.
    pub fn is_proven(&self, flow: &Flow) -> Result<bool, GuardError> {
        let key = WireKey::of(&StateKey::new(EVERY_RULE, Per::Source, flow));
        let found = self.state.map("proven")?.lookup(bytes_of(&key), MapFlags::ANY);
        Ok(found.map_err(|error| GuardError::new("read proven", &error))?.is_some())
    }

    fn put(&self, name: &str, key: &[u8], value: &[u8]) -> Result<(), GuardError> {
        self.state
            .map(name)?
            .update(key, value, MapFlags::ANY)
            .map_err(|error| GuardError::new(format!("write to {name}"), &error))
    }
}
