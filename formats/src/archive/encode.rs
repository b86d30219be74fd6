//! Events to columns.

use rustc_hash::FxHashMap;

use super::columns;
use super::predict::{Cpu, Mode, Modes, Predictor, Shape, args_of, zigzag};
use super::v1::{Column, EventsV1};
use crate::{Context, Event, EventKind, Gso};

/// Takes events one by one and gives the payload of an events frame.
pub(super) struct Encoder {
    predictor: Predictor,
    cpus: Vec<Cpu>,
    cpu_rows: FxHashMap<u16, usize>,
    /// CPU of the last event and its row, since CPUs come in runs.
    cpu: Option<(u16, usize)>,
    shapes: FxHashMap<Shape, u32>,
    shape_rows: Vec<Shape>,
    /// By shape: the one that came after it, a guess that saves most look-ups.
    shape_next: Vec<u32>,
    shape: u32,
    values: [Vec<u64>; Column::COUNT],
    at_low: Vec<u8>,
    at_high: Vec<u8>,
    kinds: Vec<Option<KindColumns>>,
    tuples: FxHashMap<[u64; 5], u32>,
    args: Vec<u64>,
    distinct: FxHashMap<u64, u64>,
    payload: EventsV1,
    /// Earliest and latest time of the events taken.
    times: Option<(u64, u64)>,
}

/// Integers of the events of one kind, a column each.
struct KindColumns {
    tuple: bool,
    columns: Vec<Vec<u64>>,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self {
            predictor: Predictor::new(),
            cpus: Vec::new(),
            cpu_rows: FxHashMap::default(),
            cpu: None,
            shapes: FxHashMap::default(),
            shape_rows: Vec::new(),
            shape_next: Vec::new(),
            shape: 0,
            values: std::array::from_fn(|_| Vec::new()),
            at_low: Vec::new(),
            at_high: Vec::new(),
            kinds: (0..=u8::MAX).map(|_| None).collect(),
            tuples: FxHashMap::default(),
            args: Vec::new(),
            distinct: FxHashMap::default(),
            payload: EventsV1::default(),
            times: None,
        }
    }

    /// Events taken.
    pub(super) fn len(&self) -> usize {
        self.at_low.len()
    }

    /// Earliest and latest time of the events taken.
    pub(super) fn times(&self) -> Option<(u64, u64)> {
        self.times
    }

    /// Takes one event. Its packet bytes are the caller's business.
    pub(super) fn push(&mut self, event: &Event) {
        let at = event.at.0;
        let (first, last) = self.times.unwrap_or((at, at));
        self.times = Some((first.min(at), last.max(at)));

        let row = self.cpu_row(event);
        self.put(Column::Cpu, row as u64);
        let cpu = self.cpus[row];

        let passed = at.wrapping_sub(cpu.at);
        if passed < 0xff00 {
            self.at_low.push(passed as u8);
            self.at_high.push((passed >> 8) as u8);
        } else {
            self.at_low.push(0);
            self.at_high.push(0xff);
            self.put(Column::AtFar, zigzag(passed));
        }

        let gap = event.seq.wrapping_sub(cpu.seq);
        let seq = if gap == 0 {
            Mode::Predicted
        } else {
            self.put(Column::Seq, zigzag(gap));
            Mode::Stored
        };

        let skb = if event.skb.0 == 0 {
            Mode::Zero
        } else if event.skb.0 == cpu.skb() {
            Mode::Predicted
        } else if event.skb.0 == self.predictor.follower(&cpu) {
            Mode::Follows
        } else {
            self.put(Column::Skb, u64::from(event.skb.0));
            Mode::Stored
        };

        let (base, same_skb) = self.predictor.base(&cpu, event.skb.0);
        let content = self.number(Column::Content, event.content, base.content, base.last_content);
        let sock = self.number(Column::Sock, event.sock.0, base.sock, base.last_sock);
        let gso = if event.gso == Gso::default() {
            Mode::Zero
        } else if event.gso == base.gso {
            Mode::Predicted
        } else {
            self.put(Column::GsoSize, u64::from(event.gso.size));
            self.put(Column::GsoSegs, u64::from(event.gso.segs));
            self.put(Column::GsoKind, u64::from(event.gso.kind));
            Mode::Stored
        };
        // Headers pushed and pulled change the length of one skb by a few fixed amounts; the
        // lengths of different skbs differ by anything, which would only make shapes of noise.
        let grown = i64::from(event.len) - i64::from(base.len);
        let (len, grown) = match i8::try_from(grown) {
            _ if event.len == 0 => (Mode::Zero, 0),
            Ok(grown) if same_skb || grown == 0 => (Mode::Predicted, grown),
            _ => {
                self.put(Column::Len, u64::from(event.len));
                (Mode::Stored, 0)
            }
        };
        let (packet, link) = match event.packet {
            None => (Mode::Zero, 0),
            Some(packet) => {
                let beyond = u64::from(packet.len).wrapping_sub(u64::from(event.len));
                self.put(Column::PacketLen, zigzag(beyond));
                let mode = if packet.caplen == packet.len {
                    Mode::Follows
                } else {
                    self.put(Column::Caplen, u64::from(packet.caplen));
                    Mode::Stored
                };
                (mode, packet.link.0)
            }
        };

        let (context, task) = match event.context {
            Context::Unknown => (0, 0),
            Context::Task(tid) => (1, tid),
            Context::Softirq => (2, 0),
            Context::Hardirq => (3, 0),
        };
        let shape = Shape {
            probe: event.probe.0,
            device: event.device.0,
            iif: event.iif,
            stack: event.stack.id.0,
            task,
            modes: Modes { skb, content, sock, gso, len, packet, seq }.to_bits(),
            link,
            tag: event.kind.tag(),
            evidence: event.stack.evidence as u8,
            context,
            len: grown,
        };
        let shape = self.shape_row(shape);
        self.put(Column::Shape, u64::from(shape));
        self.put_kind(&event.kind);
        self.predictor.learn(&mut self.cpus[row], at, event.seq, base.after(event));
    }

    fn put(&mut self, column: Column, value: u64) {
        self.values[column as usize].push(value);
    }

    fn number(&mut self, column: Column, value: u32, predicted: u32, last: u32) -> Mode {
        if value == 0 {
            Mode::Zero
        } else if value == predicted {
            Mode::Predicted
        } else if value == last {
            Mode::Follows
        } else {
            self.put(column, u64::from(value));
            Mode::Stored
        }
    }

    fn cpu_row(&mut self, event: &Event) -> usize {
        if let Some((cpu, row)) = self.cpu
            && cpu == event.cpu
        {
            return row;
        }
        let row = *self.cpu_rows.entry(event.cpu).or_insert_with(|| {
            self.cpus.push(Cpu::starting(event.at.0, event.seq));
            self.payload.cpus.push(event.cpu);
            self.payload.cpu_at.push(event.at.0);
            self.payload.cpu_seq.push(event.seq);
            self.cpus.len() - 1
        });
        self.cpu = Some((event.cpu, row));
        row
    }

    fn shape_row(&mut self, shape: Shape) -> u32 {
        let guess = self.shape_next.get(self.shape as usize).copied().unwrap_or(0);
        let row = if self.shape_rows.get(guess as usize) == Some(&shape) {
            guess
        } else {
            let next = self.shape_rows.len() as u32;
            let row = *self.shapes.entry(shape).or_insert(next);
            if row == next {
                self.shape_rows.push(shape);
                self.shape_next.push(row);
            }
            self.shape_next[self.shape as usize] = row;
            row
        };
        self.shape = row;
        row
    }

    fn put_kind(&mut self, kind: &EventKind) {
        args_of(kind, &mut self.args);
        let columns = self.kinds[usize::from(kind.tag())].get_or_insert_with(|| {
            let tuple = EventKind::leads_with_tuple(kind.tag());
            let columns = self.args.len() - if tuple { 4 } else { 0 };
            KindColumns { tuple, columns: vec![Vec::new(); columns] }
        });
        let mut rest = self.args.as_slice();
        let mut into = columns.columns.iter_mut();
        if columns.tuple
            && let Some((words, tail)) = rest.split_first_chunk::<5>()
            && let Some(first) = into.next()
        {
            let next = self.tuples.len() as u32;
            let row = *self.tuples.entry(*words).or_insert_with(|| {
                self.payload.tuples.extend_from_slice(words);
                next
            });
            first.push(u64::from(row));
            rest = tail;
        }
        for (column, value) in into.zip(rest) {
            column.push(*value);
        }
    }

    /// The payload of the events taken; the encoder is then as new.
    pub(super) fn finish(&mut self) -> EventsV1 {
        let mut out = std::mem::take(&mut self.payload);
        for shape in self.shape_rows.drain(..) {
            out.shape_probe.push(shape.probe);
            out.shape_tag.push(shape.tag);
            out.shape_device.push(shape.device);
            out.shape_iif.push(shape.iif);
            out.shape_stack.push(shape.stack);
            out.shape_evidence.push(shape.evidence);
            out.shape_context.push(shape.context);
            out.shape_task.push(shape.task);
            out.shape_link.push(shape.link);
            out.shape_modes.push(shape.modes);
            out.shape_len.push(shape.len as u8);
        }
        for column in 0..Column::COUNT {
            if column == Column::AtLow as usize {
                columns::put_bytes(&mut out, &self.at_low);
            } else if column == Column::AtHigh as usize {
                columns::put_bytes(&mut out, &self.at_high);
            } else {
                columns::put(&mut out, &self.values[column], &mut self.distinct);
            }
            self.values[column].clear();
        }
        self.at_low.clear();
        self.at_high.clear();
        for (tag, kind) in self.kinds.iter_mut().enumerate() {
            let Some(kind) = kind.take() else { continue };
            out.tags.push(tag as u8);
            out.tag_args.push(kind.columns.len() as u8 + if kind.tuple { 4 } else { 0 });
            out.tag_tuple.push(u8::from(kind.tuple));
            for values in &kind.columns {
                columns::put(&mut out, values, &mut self.distinct);
            }
        }
        self.predictor.reset();
        self.cpus.clear();
        self.cpu_rows.clear();
        self.cpu = None;
        self.shapes.clear();
        self.shape_next.clear();
        self.shape = 0;
        self.tuples.clear();
        self.times = None;
        out
    }
}
