//! Learned stacks: what each path's key stands for, and whether samples agree.

use psc_formats::event::{Stack, StackEvidence, StackId};
use psc_formats::fact::{Fact, StackFact};
use rustc_hash::FxHashMap;

use crate::maps::SharedArray;
use crate::symbols::{Role, Symbols};
use crate::wire::{FRAMES, LEVELS, PATHS, Record, StackRecord, how};

/// Stacks kept to recognise; beyond, numbering goes on and a stack may get a second id.
const STACK_LIMIT: usize = 1 << 18;
/// Agreeing samples in a row after which a path that disagreed is sampled less again.
const CALM: u8 = 64;
/// Highest sampling level: one in four.
const TOP_LEVEL: u8 = 2;

/// What is learned on one CPU. Per CPU, because only a ring's order says what was learned when.
struct Learned {
    /// By slot: generation and stack.
    slots: Vec<(u16, StackId)>,
    /// By slot: events inferred since it was last checked.
    unchecked: Vec<u32>,
    /// Samples whose event has not come yet.
    samples: FxHashMap<u32, Stack>,
}

/// All learned stacks.
pub(crate) struct Stacks {
    pub(crate) symbols: Symbols,
    ids: FxHashMap<Box<[u32]>, StackId>,
    last: u32,
    cpus: Vec<Learned>,
    levels: SharedArray<u8>,
    calm: Vec<u8>,
    /// Events that the samples which agreed, and those which differed, stand for: paths that differ
    /// are sampled more, so counting samples would say worse than it is.
    pub(crate) represented: [u64; 2],
    /// Events whose learned stack is not known, because the record that had it was lost.
    pub(crate) unresolved: u64,
}

impl Stacks {
    pub(crate) fn new(symbols: Symbols, cpus: usize, levels: SharedArray<u8>) -> Self {
        let learned = || Learned {
            slots: vec![(0, StackId(0)); PATHS],
            unchecked: vec![0; PATHS],
            samples: FxHashMap::default(),
        };
        Self {
            symbols,
            ids: FxHashMap::default(),
            last: 0,
            cpus: (0..cpus).map(|_| learned()).collect(),
            levels,
            calm: vec![0; LEVELS],
            represented: [0; 2],
            unresolved: 0,
        }
    }

    /// Takes in a stack record of one CPU.
    pub(crate) fn take(&mut self, cpu: usize, record: &StackRecord, facts: &mut Vec<Fact>) {
        let frames = usize::from(record.frames).min(FRAMES);
        let id = self.normalise(&record.address[..frames], facts);
        let Some(learned) = self.cpus.get_mut(cpu) else { return };
        let (slot, generation) = ((record.path >> 16) as usize, record.path as u16);
        let Some(entry) = learned.slots.get_mut(slot) else { return };
        if record.head.token == 0 {
            *entry = (generation, id);
            learned.unchecked[slot] = 0;
            return;
        }
        let level = usize::from(record.level);
        // A check tells of the events inferred since the one before.
        let stands_for = 1 + u64::from(std::mem::take(&mut learned.unchecked[slot]));
        let evidence = if record.path == 0 || entry.0 != generation {
            StackEvidence::Observed
        } else if entry.1 == id {
            Self::agreed(&self.levels, &mut self.calm, level);
            self.represented[0] += stands_for;
            StackEvidence::Confirmed
        } else {
            // The latest is the better guess: what shares a key comes in runs.
            entry.1 = id;
            self.represented[1] += stands_for;
            if level < LEVELS {
                self.levels.set(level, TOP_LEVEL);
                self.calm[level] = 0;
            }
            StackEvidence::Contradicted
        };
        // Samples whose event was lost would pile up.
        if learned.samples.len() > 4096 {
            learned.samples.clear();
        }
        learned.samples.insert(record.head.token, Stack { id, evidence });
    }

    fn agreed(levels: &SharedArray<u8>, calm: &mut [u8], level: usize) {
        if level >= LEVELS || levels.get(level) == 0 {
            return;
        }
        calm[level] += 1;
        if calm[level] >= CALM {
            calm[level] = 0;
            levels.set(level, levels.get(level) - 1);
        }
    }

    /// The stack of an event.
    pub(crate) fn of(&mut self, cpu: usize, record: &Record) -> Stack {
        let Some(learned) = self.cpus.get_mut(cpu) else { return Stack::default() };
        let evidence = match record.head.stack {
            how::LEARNED => StackEvidence::Observed,
            how::INFERRED => StackEvidence::Inferred,
            how::SAMPLED => return learned.samples.remove(&record.path).unwrap_or_default(),
            _ => return Stack::default(),
        };
        let slot = (record.path >> 16) as usize;
        match learned.slots.get(slot) {
            Some(&(generation, id)) if generation == record.path as u16 && id.0 != 0 => {
                learned.unchecked[slot] = learned.unchecked[slot]
                    .saturating_add(u32::from(evidence == StackEvidence::Inferred));
                Stack { id, evidence }
            }
            _ => {
                self.unresolved += 1;
                Stack::default()
            }
        }
    }

    /// Dense id of the path's own part of a stack: without the way to the program at the inner
    /// end, and without whoever was interrupted at the outer.
    fn normalise(&mut self, addresses: &[u64], facts: &mut Vec<Fact>) -> StackId {
        let mut path = Vec::with_capacity(addresses.len());
        for &address in addresses {
            let frame = self.symbols.frame(address, facts);
            match frame.role {
                Role::Tracing => path.clear(),
                Role::Entry => break,
                Role::Path => path.push(frame.id.0),
            }
        }
        if let Some(&id) = self.ids.get(path.as_slice()) {
            return id;
        }
        if self.ids.len() >= STACK_LIMIT {
            self.ids.clear();
        }
        self.last += 1;
        facts.push(Fact::Stack(StackFact { id: self.last, frames: path.clone() }));
        self.ids.insert(path.into_boxed_slice(), StackId(self.last));
        StackId(self.last)
    }
}
