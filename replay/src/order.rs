//! Time order from per-CPU order, in memory bounded by what a source has not yet completed.
//!
//! A source delivers each CPU's events in `seq` order and CPUs in any order; it promises with
//! [`Batch::complete_to`] what will not come any more. The sorter holds the rest. Each CPU is a run
//! that is nearly always sorted by time already, so the runs are merged; an event that is older than
//! the end of its run (a probe in an interrupt reads its clock between another probe's clock and its
//! sequence number) goes to one heap of misfits that is merged as another run. The order that comes
//! out is by `(at, cpu, seq)` and does not depend on how events were cut into batches.
//!
//! A number that is missing from a CPU's sequence is a lost event only if it does not come a little
//! later: a probe that was interrupted between taking its number and writing its record comes after
//! the interrupt's. So the event behind a hole waits [`HOLE_WAIT`] longer.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use psc_formats::{Batch, Event, Ns};

/// Events held without a promise before the oldest are let go all the same. A source that stays
/// below this never has its order disturbed.
const MAX_HELD: usize = 1 << 20;

/// Packet bytes held before the oldest events are let go all the same.
const MAX_HELD_BYTES: usize = 256 << 20;

/// How much time must be complete after an event behind a hole in its CPU's sequence before the hole
/// is a loss, nanoseconds. An interrupt with all its softirq work takes less.
const HOLE_WAIT: u64 = 100_000_000;

/// Order of events: time, then CPU, then position on the CPU.
type Key = (Ns, u16, u64);

fn key(event: &Event) -> Key {
    (event.at, event.cpu, event.seq)
}

/// What belongs to an event that has had its turn.
#[derive(Debug)]
#[must_use = "hand it back with `done`, else the bytes of its batch stay"]
pub struct Turn {
    /// Events of this CPU missing immediately before this one.
    pub gap: u64,
    chunk: u32,
}

/// One event waiting for its turn.
#[derive(Debug)]
struct Held {
    event: Event,
    chunk: u32,
    /// First of the numbers missing before it when it came; its own when none was.
    hole: u64,
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        key(&self.event) == key(&other.event)
    }
}
impl Eq for Held {}
impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        key(&self.event).cmp(&key(&other.event))
    }
}

/// The bytes of one batch, kept until its last event is done.
#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    users: u32,
}

/// One CPU's events in arrival order, ascending by key.
#[derive(Debug)]
struct Run {
    held: VecDeque<Held>,
    next_seq: Option<u64>,
    /// Numbers that have not come, `from..to`, before events that still wait.
    holes: BTreeMap<u64, u64>,
}

impl Run {
    /// Takes a number that came after a greater one; false when it was not missing.
    fn fill(&mut self, seq: u64) -> bool {
        let Some((&from, &to)) = self.holes.range(..=seq).next_back().filter(|(_, to)| **to > seq)
        else {
            return false;
        };
        self.holes.remove(&from);
        if from < seq {
            self.holes.insert(from, seq);
        }
        if seq + 1 < to {
            self.holes.insert(seq + 1, to);
        }
        true
    }

    /// Forgets the holes in `from..to` and says how many numbers they miss.
    fn settle(&mut self, from: u64, to: u64) -> u64 {
        let mut missing: u64 = 0;
        while let Some((&start, &end)) = self.holes.range(from..to).next() {
            self.holes.remove(&start);
            missing = missing.saturating_add(end - start);
        }
        missing
    }
}

/// What the order of arrival says about the recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrderCounts {
    /// Events that are missing from the per-CPU sequences.
    pub missing: u64,
    /// Events that came after the source had promised that nothing that old would: delivered at
    /// once, after younger ones.
    pub late: u64,
    /// Events with a sequence number that their CPU had given before, or had been counted missing.
    pub disordered: u64,
    /// Events let go without a promise because too much was held.
    pub forced: u64,
}

/// Merges batches to time order.
#[derive(Debug, Default)]
pub struct Sorter {
    runs: Vec<Run>,
    missing_by_cpu: BTreeMap<u16, u64>,
    /// Index into `runs` plus one, by CPU.
    run_of_cpu: Vec<u32>,
    /// The first key of every run that has one.
    heads: BinaryHeap<Reverse<(Key, u32)>>,
    misfits: BinaryHeap<Reverse<Held>>,
    chunks: Vec<Chunk>,
    free_chunks: Vec<u32>,
    held: usize,
    held_bytes: usize,
    /// Everything below this was promised to be complete.
    promised: Ns,
    ended: bool,
    counts: OrderCounts,
}

impl Sorter {
    /// Takes the events and the bytes out of a batch, leaving it empty buffers to reuse.
    pub fn add(&mut self, batch: &mut Batch) {
        let chunk = self.free_chunks.pop().unwrap_or_else(|| {
            self.chunks.push(Chunk::default());
            (self.chunks.len() - 1) as u32
        });
        std::mem::swap(&mut self.chunks[chunk as usize].bytes, &mut batch.bytes);
        self.held_bytes += self.chunks[chunk as usize].bytes.len();
        // The batch itself is a user, so that the chunk outlives this loop.
        self.chunks[chunk as usize].users = 1;
        for event in batch.events.drain(..) {
            self.chunks[chunk as usize].users += 1;
            self.push(event, chunk);
        }
        self.release(chunk);
        if let Some(to) = batch.complete_to {
            self.promised = self.promised.max(to);
        }
    }

    /// Says that nothing will come any more: everything held is ready.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Counts so far.
    pub fn counts(&self) -> OrderCounts {
        self.counts
    }

    /// The next event in order, if it is sure to be the next. Hand it back with [`Self::done`].
    pub fn pop(&mut self) -> Option<(Event, Turn)> {
        let head = self.heads.peek().map(|Reverse((key, run))| (*key, *run));
        let misfit = self.misfits.peek().map(|Reverse(held)| key(&held.event));
        let from_run = match (head, misfit) {
            (None, None) => return None,
            (Some((head, run)), misfit) if misfit.is_none_or(|misfit| head <= misfit) => Some(run),
            _ => None,
        };
        let first = match from_run {
            Some(run) => self.runs[run as usize].held.front(),
            None => self.misfits.peek().map(|Reverse(held)| held),
        }?;
        let Ns(at) = first.event.at;
        let wait = if first.hole == first.event.seq { 0 } else { HOLE_WAIT };
        if at.saturating_add(wait) >= self.promised.0 && !self.ended {
            if self.held <= MAX_HELD && self.held_bytes <= MAX_HELD_BYTES {
                return None;
            }
            // What comes now and is older is late.
            self.counts.forced += u64::from(at >= self.promised.0);
            self.promised = self.promised.max(Ns(at));
        }
        self.held -= 1;
        let held = match from_run {
            None => self.misfits.pop().map(|Reverse(held)| held),
            Some(run) => {
                let run = &mut self.runs[run as usize];
                let held = run.held.pop_front();
                let mut top = self.heads.peek_mut()?;
                match run.held.front() {
                    Some(next) => top.0.0 = key(&next.event),
                    None => drop(std::collections::binary_heap::PeekMut::pop(top)),
                }
                held
            }
        }?;
        let mut gap = 0;
        if held.hole != held.event.seq {
            let run = self.run_of_cpu[held.event.cpu as usize] as usize - 1;
            gap = self.runs[run].settle(held.hole, held.event.seq);
            self.counts.missing = self.counts.missing.saturating_add(gap);
            if gap > 0 {
                *self.missing_by_cpu.entry(held.event.cpu).or_insert(0) += gap;
            }
        }
        Some((held.event, Turn { gap, chunk: held.chunk }))
    }

    /// Events missing so far, by CPU; only CPUs that miss some.
    pub fn missing_by_cpu(&self) -> &BTreeMap<u16, u64> {
        &self.missing_by_cpu
    }

    /// The packet bytes of an event; empty when it carries none or they do not fit its batch.
    pub fn bytes(&self, event: &Event, turn: &Turn) -> &[u8] {
        let Some(packet) = event.packet else { return &[] };
        let start = packet.offset as usize;
        start
            .checked_add(packet.caplen as usize)
            .and_then(|end| self.chunks[turn.chunk as usize].bytes.get(start..end))
            .unwrap_or(&[])
    }

    /// Gives up an event's bytes.
    #[allow(clippy::needless_pass_by_value, reason = "a turn ends once")]
    pub fn done(&mut self, turn: Turn) {
        self.release(turn.chunk);
    }

    fn release(&mut self, chunk: u32) {
        let slot = &mut self.chunks[chunk as usize];
        slot.users -= 1;
        if slot.users == 0 {
            self.held_bytes -= slot.bytes.len();
            slot.bytes.clear();
            self.free_chunks.push(chunk);
        }
    }

    fn push(&mut self, event: Event, chunk: u32) {
        let cpu = event.cpu as usize;
        if self.run_of_cpu.len() <= cpu {
            self.run_of_cpu.resize(cpu + 1, 0);
        }
        let run_index = match self.run_of_cpu[cpu] {
            0 => {
                self.runs.push(Run {
                    held: VecDeque::new(),
                    next_seq: None,
                    holes: BTreeMap::new(),
                });
                self.run_of_cpu[cpu] = self.runs.len() as u32;
                self.runs.len() - 1
            }
            index => index as usize - 1,
        };
        let run = &mut self.runs[run_index];
        let mut hole = event.seq;
        // A slice or a ring of the last seconds starts anywhere, so the first event sets the start.
        let expected = run.next_seq;
        match expected {
            Some(next) if event.seq > next => {
                hole = next;
                run.holes.insert(next, event.seq);
            }
            Some(next) if event.seq < next && !run.fill(event.seq) => {
                self.counts.disordered += 1;
            }
            _ => {}
        }
        run.next_seq = Some(run.next_seq.unwrap_or(0).max(event.seq.saturating_add(1)));
        self.counts.late += u64::from(event.at < self.promised);
        self.held += 1;

        let key = key(&event);
        let held = Held { event, chunk, hole };
        match run.held.back() {
            Some(last) if key < self::key(&last.event) => self.misfits.push(Reverse(held)),
            Some(_) => run.held.push_back(held),
            None => {
                run.held.push_back(held);
                self.heads.push(Reverse((key, run_index as u32)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use psc_formats::event::{Gso, LinkType, PacketRef};
    use psc_formats::{Context, EventKind, ProbeId, SkbAddr, SockId, Stack};

    use super::*;

    fn event(at: u64, cpu: u16, seq: u64) -> Event {
        Event {
            at: Ns(at),
            cpu,
            seq,
            probe: ProbeId(0),
            skb: SkbAddr(1),
            sock: SockId(0),
            device: psc_formats::event::DeviceId(0),
            iif: 0,
            len: 0,
            gso: Gso::default(),
            stack: Stack::default(),
            context: Context::Unknown,
            packet: None,
            content: 0,
            kind: EventKind::Receive {},
        }
    }

    fn drain(sorter: &mut Sorter, out: &mut Vec<(Key, u64, Vec<u8>)>) {
        while let Some((event, turn)) = sorter.pop() {
            out.push((key(&event), turn.gap, sorter.bytes(&event, &turn).to_vec()));
            sorter.done(turn);
        }
    }

    /// Feeds `events` in batches of `size`, each promising what its successor's events allow.
    fn sorted(events: &[Event], size: usize) -> (Vec<(Key, u64, Vec<u8>)>, OrderCounts) {
        let mut sorter = Sorter::default();
        let mut out = Vec::new();
        for (index, cut) in events.chunks(size).enumerate() {
            let rest = &events[(index * size + cut.len()).min(events.len())..];
            let mut batch =
                Batch { complete_to: rest.iter().map(|e| e.at).min(), ..Batch::default() };
            for event in cut {
                let mut event = *event;
                let bytes = [event.seq as u8, event.cpu as u8];
                event.packet = Some(PacketRef {
                    offset: batch.bytes.len() as u32,
                    caplen: 2,
                    len: 2,
                    link: LinkType::RAW,
                });
                batch.bytes.extend_from_slice(&bytes);
                batch.events.push(event);
            }
            sorter.add(&mut batch);
            drain(&mut sorter, &mut out);
        }
        sorter.end();
        drain(&mut sorter, &mut out);
        assert_eq!((sorter.held, sorter.held_bytes), (0, 0));
        (out, sorter.counts())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

        #[test]
        fn order_does_not_depend_on_batches(
            raw in proptest::collection::vec((0..60_u64, 0..5_u16, 1..3_u64), 0..200),
            size in 1..60_usize,
        ) {
            let mut next = [0; 5];
            let events: Vec<Event> = raw
                .iter()
                .map(|&(at, cpu, step)| {
                    next[cpu as usize] += step;
                    event(at, cpu, next[cpu as usize])
                })
                .collect();
            let (out, counts) = sorted(&events, size);
            let mut expected: Vec<Key> = events.iter().map(key).collect();
            expected.sort_unstable();
            prop_assert_eq!(out.iter().map(|o| o.0).collect::<Vec<_>>(), expected);
            prop_assert!(out.iter().all(|(key, _, bytes)| bytes[..] == [key.2 as u8, key.1 as u8]));
            prop_assert_eq!(&out, &sorted(&events, events.len().max(1)).0);
            let gaps: u64 = out.iter().map(|o| o.1).sum();
            prop_assert_eq!(gaps, counts.missing);
            prop_assert_eq!(counts.late, 0);
        }
    }

    #[test]
    fn gaps_are_counted_where_they_are() {
        let events = [event(1, 0, 7), event(2, 0, 8), event(3, 1, 0), event(4, 0, 11)];
        let (out, counts) = sorted(&events, 2);
        assert_eq!(out.iter().map(|o| o.1).collect::<Vec<_>>(), [0, 0, 0, 2]);
        assert_eq!(counts, OrderCounts { missing: 2, ..OrderCounts::default() });
    }

    #[test]
    fn a_number_that_comes_late_is_not_lost() {
        // Number 1 was taken, then an interrupt wrote 2 and 3 before 1 could be written.
        let events =
            [event(1, 0, 0), event(3, 0, 2), event(4, 0, 3), event(5, 0, 1), event(6, 0, 4)];
        for size in 1..=events.len() {
            let (out, counts) = sorted(&events, size);
            assert_eq!(out.iter().map(|o| o.0.2).collect::<Vec<_>>(), [0, 2, 3, 1, 4]);
            assert!(out.iter().all(|o| o.1 == 0), "batches of {size}: {out:?}");
            assert_eq!(counts, OrderCounts::default());
        }
    }

    #[test]
    fn numbers_given_twice_are_counted() {
        let events = [event(1, 0, 0), event(2, 0, 1), event(3, 0, 1)];
        assert_eq!(sorted(&events, 1).1, OrderCounts { disordered: 1, ..OrderCounts::default() });
    }

    #[test]
    fn a_broken_promise_is_counted_and_delivered() {
        let mut sorter = Sorter::default();
        let mut out = Vec::new();
        let mut first =
            Batch { events: vec![event(10, 0, 0)], complete_to: Some(Ns(20)), ..Batch::default() };
        sorter.add(&mut first);
        drain(&mut sorter, &mut out);
        sorter.add(&mut Batch { events: vec![event(5, 1, 0)], ..Batch::default() });
        drain(&mut sorter, &mut out);
        assert_eq!(out.iter().map(|o| o.0.0.0).collect::<Vec<_>>(), [10, 5]);
        assert_eq!(sorter.counts().late, 1);
    }

    #[test]
    fn memory_is_bounded_without_promises() {
        let mut sorter = Sorter::default();
        let mut out = 0;
        for seq in 0..(MAX_HELD as u64 + 1000) {
            sorter.add(&mut Batch { events: vec![event(seq, 0, seq)], ..Batch::default() });
            while let Some((_, turn)) = sorter.pop() {
                sorter.done(turn);
                out += 1;
            }
        }
        assert_eq!(out, 1000);
        assert_eq!(sorter.counts().forced, 1000);
    }
}
