//! Records of function probes and netfilter links.

use psc_formats::fact::{ChainFact, Fact};
use psc_formats::function::{Argument, Meaning};
use psc_formats::{EventKind, SkbAddr};

use super::Decoder;
use crate::attach::FIRST_FUNCTION;
use crate::functions::FUNCTIONS;
use crate::ids;
use crate::tier2;
use crate::wire::{ChainRecord, Record, kind};

impl Decoder {
    /// What a record of a function probe or netfilter link tells.
    pub(super) fn function_kind(&mut self, record: &Record) -> Option<EventKind> {
        let [first, second] = record.arg;
        if record.head.kind == kind::HOOK {
            return Some(EventKind::NetfilterHook {
                family: first as u8,
                hook: (first >> 8) as u8,
                priority: second as u32 as i32,
            });
        }
        if record.head.kind == kind::LINEAGE {
            let other = SkbAddr(self.skbs.get(first).0);
            return tier2::lineage_kind(record.head.probe, other);
        }
        let row = usize::from(record.head.probe.checked_sub(FIRST_FUNCTION)?);
        let function = FUNCTIONS.get(row)?;
        if record.head.kind == kind::RETURN {
            let meaning = self.meanings.get(row).copied().unwrap_or_default();
            return Some(EventKind::FunctionReturn {
                meaning: meaning as u8,
                value: value(meaning, first),
                elapsed: record.at.saturating_sub(second),
            });
        }
        let argument = function.argument.0;
        let value = match argument {
            Argument::Chain => {
                let id = self.chains.get(&first).map_or(0, |(id, _)| *id);
                u64::from(id) | second << 32
            }
            Argument::None => 0,
            _ => first,
        };
        let returns = u8::from(record.head.kind == kind::CALL);
        Some(EventKind::FunctionEntry { returns, argument: argument as u8, value })
    }

    /// A chain met for the first time, or another one at the address of one that is gone.
    pub(super) fn chain(&mut self, record: &ChainRecord, facts: &mut Vec<Fact>) {
        if self.chains.len() >= ids::LIMIT {
            self.chains.clear();
        }
        let known = self.chains.get(&record.address).map(|(_, known)| known);
        // Each CPU names the chains it meets.
        if known.is_some_and(|known| (known.table, known.chain) == (record.table, record.chain)) {
            return;
        }
        self.last_chain += 1;
        self.chains.insert(record.address, (self.last_chain, *record));
        let text = |bytes: &[u8]| {
            let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
            String::from_utf8_lossy(&bytes[..end]).into_owned()
        };
        let nft = record.head.payload == 1;
        facts.push(Fact::Chain(ChainFact {
            id: self.last_chain,
            kind: if nft { "nft" } else { "iptables" }.to_owned(),
            table: text(&record.table),
            chain: text(&record.chain),
        }));
    }
}

/// A register as the value that the function's type makes of it.
fn value(meaning: Meaning, register: u64) -> i64 {
    match meaning {
        Meaning::Nothing => 0,
        Meaning::Truth => i64::from(register as u8 != 0),
        // Whether there is one; the address stays here.
        Meaning::Pointer => i64::from(register != 0 && register < u64::MAX - 4094),
        Meaning::DropReason => i64::from(register as u32),
        _ => i64::from(register as u32 as i32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_become_values_of_the_functions_own_width() {
        #[rustfmt::skip]
        let cases = [
            (Meaning::Errno,      0xffff_ffff,           -1),
            (Meaning::Errno,      0xdead_beef_0000_0000, 0),
            (Meaning::Truth,      0xff00,                0),
            (Meaning::Truth,      0xff01,                1),
            (Meaning::Pointer,    0xffff_8880_0000_1000, 1),
            (Meaning::Pointer,    u64::MAX - 11,         0),
            (Meaning::DropReason, 0x1_0003_0000,         0x3_0000),
            (Meaning::Nothing,    77,                    0),
        ];
        for (meaning, register, is) in cases {
            assert_eq!(value(meaning, register), is, "{meaning:?} {register:#x}");
        }
    }
}
