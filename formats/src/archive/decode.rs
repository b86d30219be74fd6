//! Columns to events.

use super::columns::Columns;
use super::predict::{Cpu, MAX_ARGS, Mode, Modes, Predictor, unzigzag};
use super::v1::{ArchivedEventsV1, Column};
use crate::event::{DeviceId, LinkType, StackEvidence};
use crate::{
    Context, Event, EventKind, Gso, Ns, PacketRef, ProbeId, SkbAddr, SockId, Stack, StackId,
};

/// What a frame had that its events cannot show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Decoded {
    /// Events of kinds that this version does not know, left out.
    pub(super) unknown_kinds: u64,
    /// Packets whose bytes are not in the archive any more.
    pub(super) lost_packets: u64,
}

/// Appends the events of a frame. `packets` is the length of its packet bytes, `None` when they
/// are lost; offsets count from their start.
pub(super) fn decode(
    payload: &ArchivedEventsV1,
    count: usize,
    packets: Option<usize>,
    out: &mut Vec<Event>,
) -> Result<Decoded, String> {
    let start = out.len();
    let result = Decoder::new(payload, count).and_then(|decoder| decoder.run(packets, out));
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// A shape, ready to be copied: only what its modes say is then filled in.
struct Template {
    event: Event,
    modes: Modes,
    len: i8,
    /// Row of `kinds` when the kind has integers or is unknown.
    kind: Option<usize>,
}

/// Integers of the events of one kind.
struct Kind {
    tag: u8,
    known: bool,
    /// Integers of one event: those in the file, then zeros for those that a later version added.
    stride: usize,
    /// `stride` integers for each event, in order.
    rows: Vec<u64>,
    next: usize,
}

struct Decoder<'a> {
    payload: &'a ArchivedEventsV1,
    templates: Vec<Template>,
    kinds: Vec<Kind>,
    cpu_of: Vec<u64>,
    shape_of: Vec<u64>,
    at_low: Vec<u64>,
    at_high: Vec<u64>,
    columns: [Rows; Column::COUNT],
}

/// A column being consumed. It is as long as the shapes say it must be, so it cannot run out.
#[derive(Default)]
struct Rows {
    values: Vec<u64>,
    next: usize,
}

impl Rows {
    #[inline]
    fn take(&mut self) -> Result<u64, String> {
        let value =
            self.values.get(self.next).copied().ok_or_else(|| "a column ran out".to_owned());
        self.next += 1;
        value
    }
}

#[inline]
fn narrow<T: TryFrom<u64>>(value: u64) -> Result<T, String> {
    T::try_from(value).map_err(|_| format!("{value} is out of range"))
}

impl<'a> Decoder<'a> {
    fn new(payload: &'a ArchivedEventsV1, count: usize) -> Result<Self, String> {
        let mut columns = Columns::new(payload)?;
        let mut read = |rows: usize| -> Result<Vec<u64>, String> {
            let mut out = Vec::new();
            columns.next(rows)?.read(&mut out)?;
            Ok(out)
        };
        let cpu_of = read(count)?;
        let shape_of = read(count)?;
        let at_low = read(count)?;
        let at_high = read(count)?;

        let tags = payload.tags.as_slice();
        let shapes = payload.shape_tag.len();
        let mut uses = vec![0usize; shapes];
        for shape in &shape_of {
            *usize::try_from(*shape)
                .ok()
                .and_then(|shape| uses.get_mut(shape))
                .ok_or_else(|| format!("shape {shape} is not one of the {shapes}"))? += 1;
        }
        let far = at_high.iter().filter(|&&high| high == 0xff).count();
        let mut rows = [0usize; Column::COUNT];
        rows[Column::AtFar as usize] = far;
        let mut kind_rows = vec![0usize; tags.len()];
        let templates = templates(payload)?;
        for (template, uses) in templates.iter().zip(&uses) {
            let mut stored = |mode: Mode, columns: &[Column]| {
                if mode == Mode::Stored {
                    for column in columns {
                        rows[*column as usize] += uses;
                    }
                }
            };
            stored(template.0.modes.seq, &[Column::Seq]);
            stored(template.0.modes.skb, &[Column::Skb]);
            stored(template.0.modes.content, &[Column::Content]);
            stored(template.0.modes.sock, &[Column::Sock]);
            stored(template.0.modes.len, &[Column::Len]);
            stored(template.0.modes.gso, &[Column::GsoSize, Column::GsoSegs, Column::GsoKind]);
            stored(template.0.modes.packet, &[Column::Caplen]);
            if template.0.modes.packet != Mode::Zero {
                rows[Column::PacketLen as usize] += uses;
            }
            kind_rows[template.1] += uses;
        }
        let mut values: [Rows; Column::COUNT] = std::array::from_fn(|_| Rows::default());
        for column in Column::AtFar as usize..Column::COUNT {
            values[column].values = read(rows[column])?;
        }

        let tuples = payload.tuples.as_slice();
        let mut kinds = Vec::with_capacity(tags.len());
        for (row, &tag) in tags.iter().enumerate() {
            let (Some(&args), Some(&tuple)) =
                (payload.tag_args.get(row), payload.tag_tuple.get(row))
            else {
                return Err("the table of kinds is uneven".to_owned());
            };
            let args = usize::from(args);
            let arity = EventKind::arity(tag);
            let stride = args.max(arity.unwrap_or(0));
            if args > MAX_ARGS || (tuple != 0 && args < 5) {
                return Err(format!("kind {tag} has {args} integers"));
            }
            let mut rows = vec![0u64; stride * kind_rows[row]];
            let mut at = 0;
            if tuple != 0 {
                for (into, index) in rows.chunks_exact_mut(stride).zip(read(kind_rows[row])?) {
                    let words = usize::try_from(index)
                        .ok()
                        .and_then(|index| index.checked_mul(5))
                        .and_then(|index| tuples.get(index..index + 5))
                        .ok_or_else(|| format!("5-tuple {index} is not there"))?;
                    for (into, word) in into.iter_mut().zip(words) {
                        *into = word.to_native();
                    }
                }
                at = 5;
            }
            for at in at..args {
                for (into, value) in rows.chunks_exact_mut(stride).zip(read(kind_rows[row])?) {
                    into[at] = value;
                }
            }
            kinds.push(Kind { tag, known: arity.is_some(), stride, rows, next: 0 });
        }
        columns.finish()?;
        let templates = templates
            .into_iter()
            .map(|(mut template, kind)| {
                if kinds[kind].known
                    && kinds[kind].stride == 0
                    && let Some(kind) = EventKind::from_args(kinds[kind].tag, &[])
                {
                    template.event.kind = kind;
                } else {
                    template.kind = Some(kind);
                }
                template
            })
            .collect();
        Ok(Self { payload, templates, kinds, cpu_of, shape_of, at_low, at_high, columns: values })
    }

    fn run(mut self, packets: Option<usize>, out: &mut Vec<Event>) -> Result<Decoded, String> {
        let mut cpus = cpus(self.payload)?;
        let mut predictor = Predictor::new();
        let mut decoded = Decoded::default();
        let mut offset = 0u64;
        out.reserve(self.shape_of.len());
        let mut columns = self.columns;
        let mut take = |column: Column| columns[column as usize].take();
        let times = self.at_low.iter().zip(&self.at_high);
        for ((shape, cpu), (low, high)) in self.shape_of.iter().zip(&self.cpu_of).zip(times) {
            let template = &self.templates[*shape as usize];
            let modes = template.modes;
            let (number, cpu) = usize::try_from(*cpu)
                .ok()
                .and_then(|row| cpus.get_mut(row))
                .ok_or_else(|| format!("CPU row {cpu} is not there"))?;
            let mut event = template.event;
            event.cpu = *number;
            let passed =
                if *high == 0xff { unzigzag(take(Column::AtFar)?) } else { low | high << 8 };
            event.at = Ns(cpu.at.wrapping_add(passed));
            event.seq = match modes.seq {
                Mode::Stored => cpu.seq.wrapping_add(unzigzag(take(Column::Seq)?)),
                Mode::Zero | Mode::Predicted | Mode::Follows => cpu.seq,
            };
            event.skb = SkbAddr(match modes.skb {
                Mode::Zero => 0,
                Mode::Predicted => cpu.skb(),
                Mode::Follows => predictor.follower(cpu),
                Mode::Stored => narrow(take(Column::Skb)?)?,
            });
            let (base, _) = predictor.base(cpu, event.skb.0);
            event.content = match modes.content {
                Mode::Zero => 0,
                Mode::Predicted => base.content,
                Mode::Follows => base.last_content,
                Mode::Stored => narrow(take(Column::Content)?)?,
            };
            event.sock = SockId(match modes.sock {
                Mode::Zero => 0,
                Mode::Predicted => base.sock,
                Mode::Follows => base.last_sock,
                Mode::Stored => narrow(take(Column::Sock)?)?,
            });
            event.gso = match modes.gso {
                Mode::Zero => Gso::default(),
                Mode::Predicted | Mode::Follows => base.gso,
                Mode::Stored => Gso {
                    size: narrow(take(Column::GsoSize)?)?,
                    segs: narrow(take(Column::GsoSegs)?)?,
                    kind: narrow(take(Column::GsoKind)?)?,
                },
            };
            event.len = match modes.len {
                Mode::Zero => 0,
                Mode::Predicted | Mode::Follows => {
                    base.len.wrapping_add_signed(i32::from(template.len))
                }
                Mode::Stored => narrow(take(Column::Len)?)?,
            };
            if let Some(packet) = &mut event.packet {
                let len = u64::from(event.len).wrapping_add(unzigzag(take(Column::PacketLen)?));
                packet.len = narrow(len)?;
                packet.caplen = match modes.packet {
                    Mode::Stored => narrow(take(Column::Caplen)?)?,
                    Mode::Zero | Mode::Predicted | Mode::Follows => packet.len,
                };
                packet.offset = narrow(offset)?;
                offset += u64::from(packet.caplen);
                if packets.is_none() {
                    decoded.lost_packets += 1;
                    event.packet = None;
                }
            }
            predictor.learn(cpu, event.at.0, event.seq, base.after(&event));
            if let Some(kind) = template.kind {
                let kind = &mut self.kinds[kind];
                if !kind.known {
                    decoded.unknown_kinds += 1;
                    continue;
                }
                let args = kind.rows.get(kind.next..kind.next + kind.stride).unwrap_or(&[]);
                kind.next += kind.stride;
                event.kind = EventKind::from_args(kind.tag, args)
                    .ok_or_else(|| format!("kind {} has impossible values", kind.tag))?;
            }
            out.push(event);
        }
        match packets {
            Some(len) if len as u64 != offset => {
                Err(format!("its packets take {offset} bytes and {len} are there"))
            }
            _ => Ok(decoded),
        }
    }
}

/// The shapes, each with its row in the table of kinds.
fn templates(payload: &ArchivedEventsV1) -> Result<Vec<(Template, usize)>, String> {
    let shapes = payload.shape_tag.len();
    let even = [
        payload.shape_probe.len(),
        payload.shape_device.len(),
        payload.shape_iif.len(),
        payload.shape_stack.len(),
        payload.shape_evidence.len(),
        payload.shape_context.len(),
        payload.shape_task.len(),
        payload.shape_link.len(),
        payload.shape_modes.len(),
        payload.shape_len.len(),
    ]
    .iter()
    .all(|&len| len == shapes);
    if !even {
        return Err("the table of shapes is uneven".to_owned());
    }
    let mut row_of_tag = [None; 256];
    for (row, &tag) in payload.tags.iter().enumerate() {
        if row_of_tag[usize::from(tag)].replace(row).is_some() {
            return Err(format!("kind {tag} is there twice"));
        }
    }
    (0..shapes)
        .map(|row| {
            let modes = Modes::from_bits(payload.shape_modes[row].to_native());
            let tag = payload.shape_tag[row];
            let kind = row_of_tag[usize::from(tag)]
                .ok_or_else(|| format!("kind {tag} is not in the table of kinds"))?;
            let packet = (modes.packet != Mode::Zero).then(|| PacketRef {
                offset: 0,
                caplen: 0,
                len: 0,
                link: LinkType(payload.shape_link[row].to_native()),
            });
            let evidence = payload.shape_evidence[row];
            let event = Event {
                at: Ns(0),
                cpu: 0,
                seq: 0,
                probe: ProbeId(payload.shape_probe[row].to_native()),
                skb: SkbAddr(0),
                sock: SockId(0),
                device: DeviceId(payload.shape_device[row].to_native()),
                iif: payload.shape_iif[row].to_native(),
                len: 0,
                gso: Gso::default(),
                stack: Stack {
                    id: StackId(payload.shape_stack[row].to_native()),
                    evidence: StackEvidence::from_u8(evidence)
                        .ok_or_else(|| format!("unknown stack evidence {evidence}"))?,
                },
                context: match payload.shape_context[row] {
                    0 => Context::Unknown,
                    1 => Context::Task(payload.shape_task[row].to_native()),
                    2 => Context::Softirq,
                    3 => Context::Hardirq,
                    other => return Err(format!("unknown context {other}")),
                },
                packet,
                content: 0,
                kind: EventKind::GroReceive {},
            };
            let len = payload.shape_len[row] as i8;
            Ok((Template { event, modes, len, kind: None }, kind))
        })
        .collect()
}

/// CPU numbers and where their streams start.
fn cpus(payload: &ArchivedEventsV1) -> Result<Vec<(u16, Cpu)>, String> {
    let (at, seq) = (payload.cpu_at.as_slice(), payload.cpu_seq.as_slice());
    if at.len() != payload.cpus.len() || seq.len() != payload.cpus.len() {
        return Err("the table of CPUs is uneven".to_owned());
    }
    let starts = at.iter().zip(seq).map(|(at, seq)| Cpu::starting(at.to_native(), seq.to_native()));
    Ok(payload.cpus.iter().map(|cpu| cpu.to_native()).zip(starts).collect())
}

#[cfg(test)]
mod tests {
    use rkyv::rancor::Error;

    use super::*;
    use crate::archive::encode::Encoder;
    use crate::archive::v1::EventsV1;

    fn event(seq: u64, kind: EventKind) -> Event {
        let packet = PacketRef { offset: 0, caplen: 2, len: 9, link: LinkType::ETHERNET };
        Event {
            at: Ns(seq * 100),
            cpu: 3,
            seq,
            probe: ProbeId(1),
            skb: SkbAddr(4),
            sock: SockId(5),
            device: DeviceId(6),
            iif: 7,
            len: 8,
            gso: Gso { size: 9, segs: 10, kind: 11 },
            stack: Stack { id: StackId(12), evidence: StackEvidence::Inferred },
            context: Context::Task(13),
            packet: Some(packet),
            content: 14,
            kind,
        }
    }

    fn payload() -> EventsV1 {
        let mut encoder = Encoder::new();
        encoder.push(&event(0, EventKind::QdiscEnqueue { handle: 77 }));
        encoder.push(&event(1, EventKind::TransmitStart {}));
        encoder.finish()
    }

    fn read(payload: &EventsV1, packets: Option<usize>) -> Result<(Vec<Event>, Decoded), String> {
        let bytes = rkyv::to_bytes::<Error>(payload).unwrap();
        let archived = rkyv::access::<ArchivedEventsV1, Error>(&bytes).unwrap();
        let mut out = Vec::new();
        decode(archived, 2, packets, &mut out).map(|decoded| (out, decoded))
    }

    #[test]
    fn a_probe_that_reads_no_headers_does_not_make_the_next_one_store_them_again() {
        let mut encoder = Encoder::new();
        for (seq, content) in [14, 0, 14, 0, 0, 14].into_iter().enumerate() {
            let sock = SockId(if content == 0 { 0 } else { 5 });
            let kind = EventKind::TransmitStart {};
            encoder.push(&Event { sock, content, ..event(seq as u64, kind) });
        }
        let payload = encoder.finish();
        assert_eq!(payload.column_rows[Column::Content as usize], 1);
        assert_eq!(payload.column_rows[Column::Sock as usize], 1);
    }

    fn retag(payload: &mut EventsV1, from: u8, to: u8) {
        for tag in payload.tags.iter_mut().chain(&mut payload.shape_tag) {
            if *tag == from {
                *tag = to;
            }
        }
    }

    #[test]
    fn a_kind_of_a_later_version_is_left_out_and_counted() {
        let mut payload = payload();
        retag(&mut payload, 5, 250);
        let (events, decoded) = read(&payload, Some(4)).unwrap();
        assert_eq!(decoded, Decoded { unknown_kinds: 1, lost_packets: 0 });
        let mut want = event(1, EventKind::TransmitStart {});
        // Its packet is behind that of the event that was left out.
        want.packet.as_mut().unwrap().offset = 2;
        assert_eq!(events, [want]);
    }

    #[test]
    fn integers_that_a_later_version_adds_to_a_kind_are_ignored_and_those_it_misses_are_0() {
        // The enqueue's one integer under a kind that has none, and under one that has two.
        let mut more = payload();
        retag(&mut more, 5, 8);
        retag(&mut more, 7, 1);
        retag(&mut more, 8, 2);
        assert_eq!(read(&more, Some(4)).unwrap().0[0].kind, EventKind::BacklogQueue {});
        let mut fewer = payload();
        retag(&mut fewer, 5, 6);
        let kind = EventKind::QdiscDequeue { handle: 77, packets: 0 };
        assert_eq!(read(&fewer, Some(4)).unwrap().0[0].kind, kind);
    }

    #[test]
    fn packets_that_are_not_these_events_are_refused_and_lost_ones_are_counted() {
        let error = read(&payload(), Some(3)).unwrap_err();
        assert!(error.contains("take 4 bytes and 3 are there"), "{error}");
        let (events, decoded) = read(&payload(), None).unwrap();
        assert_eq!(decoded.lost_packets, 2);
        assert!(events.iter().all(|event| event.packet.is_none()));
    }

    #[test]
    fn a_payload_that_contradicts_itself_is_refused() {
        type Lie = (&'static str, fn(&mut EventsV1));
        let lies: [Lie; 9] = [
            ("rows", |p| p.column_rows[0] = 3),
            ("coding", |p| p.column_coding[1] = 9),
            ("width", |p| p.column_width[1] = 9),
            ("missing", |p| p.column_base.truncate(3)),
            ("data", |p| p.data.truncate(1)),
            ("more data", |p| p.data.push(0)),
            ("shape", |p| p.shape_iif.truncate(0)),
            ("context", |p| p.shape_context[0] = 9),
            ("twice", |p| p.tags[1] = p.tags[0]),
        ];
        for (name, lie) in lies {
            let mut payload = payload();
            lie(&mut payload);
            assert!(read(&payload, Some(4)).is_err(), "{name}");
        }
    }
}
