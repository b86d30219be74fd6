//! Slicing: some of the events of a recording, with everything that explains them.

use std::io::{self, Write};
use std::ops::Range;

use rustc_hash::FxHashMap;

use super::chain::{Chain, Place};
use super::data::Input;
use super::frame::{FLAG_PACKETS, FrameKind, RecordingId, SCHEMA};
use super::payload::{self, Parent};
use super::problem::{Fault, Problem};
use super::reader::{decode_events, notice, packet_bytes, plan_window, wanted};
use super::walk::{Frame, Item, Walker};
use super::writer::{Labels, Writer};
use crate::custody::Step;
use crate::fact::{EndFact, Severity};
use crate::{Batch, Event, Ns, SourceError};

/// What [`slice`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceReport {
    /// The recording that was read.
    pub source: RecordingId,
    /// The one that was written.
    pub recording: RecordingId,
    /// Events looked at: those of the frames that reach into the range.
    pub seen: u64,
    /// Events kept.
    pub kept: u64,
    /// What was wrong with the input; each is a notice in the slice.
    pub problems: Vec<Problem>,
}

/// Writes the events of `range` that `keep` says yes to, with their packets, the manifest and all
/// facts, to a new recording that names `input` as its parent.
///
/// `keep` gets each event and the bytes of its packet, which are empty when it has none. `label` says
/// in the slice what was kept, and tells slices of one recording apart: the same input, range and
/// label must mean the same `keep`.
///
/// [`Event::seq`] is renumbered: an event that was left out here must not look like one that the
/// recorder lost, and one that the recorder lost must still look so.
pub fn slice<W: Write>(
    input: Input,
    range: Range<Ns>,
    label: &str,
    keep: impl FnMut(&Event, &[u8]) -> bool,
    output: W,
) -> Result<(SliceReport, W), SourceError> {
    let name = input.name.clone();
    let mut walker = Walker::new(input.data);
    let times = range.start.0..range.end.0;

    let (first, manifest) = first_frame(&mut walker, &name)?;
    let source = first.header.recording;
    let hash = walker.last_hash()?.unwrap_or(first.header.hash);
    let parent = Parent { recording: source, hash };
    let recording = RecordingId::derived(&[
        b"slice",
        &source.0,
        &parent.hash,
        &times.start.to_le_bytes(),
        &times.end.to_le_bytes(),
        label.as_bytes(),
    ]);
    let (json, mut parents) = manifest;
    parents.push(parent);
    let end = if times.end == u64::MAX { String::new() } else { times.end.to_string() };
    let what = if label.is_empty() { String::new() } else { format!(" -f {label}") };
    let step = Step::new("slice", format!("{}..{end} ns{what}", times.start), vec![parent.file()]);

    plan_window(&mut walker, &times);
    let writing = |error: io::Error| SourceError::io(format!("writing a slice of {name}"), error);
    let json = payload::with_step(&json, &step).map_err(writing)?;
    let writer = Writer::with_manifest_json(output, json, recording, &parents).map_err(writing)?;
    let mut slicer = Slicer {
        writer,
        keep,
        times: times.clone(),
        chain: Chain::default(),
        cpus: FxHashMap::default(),
        stretch: 0,
        next: first.header.number.saturating_add(1),
        packets: None,
        batch: Batch::default(),
        end: None,
        watermark: 0,
        report: SliceReport { source, recording, seen: 0, kept: 0, problems: Vec::new() },
    };
    slicer.chain.expect_gaps();
    slicer.chain.follow(first.offset, &first.header, &mut slicer.report.problems);
    let window = Some(times);
    while let Some(item) = walker.next(|header| wanted(window.as_ref(), header))? {
        slicer.take(item).map_err(writing)?;
    }
    slicer.finish(label).map_err(writing)
}

type ManifestText = (Vec<u8>, Vec<Parent>);

/// The manifest frame: a slice of a recording without one would explain nothing.
fn first_frame(walker: &mut Walker, name: &str) -> Result<(Frame, ManifestText), SourceError> {
    if let Some(Item::Frame(frame)) = walker.next(|_| true)?
        && frame.header.frame_kind() == Some(FrameKind::Manifest)
        && frame.header.schema <= SCHEMA
        && let Ok(manifest) = payload::manifest(&frame.header, frame.stored())
    {
        return Ok((frame, manifest));
    }
    Err(SourceError::data(format!(
        "{name} does not start with a manifest that this psc can read; verify says what is wrong, \
         recover keeps what is left"
    )))
}

struct Slicer<W: Write, K> {
    writer: Writer<W>,
    keep: K,
    times: Range<u64>,
    chain: Chain,
    cpus: FxHashMap<u16, Stream>,
    /// Counts the stretches of frames between which frames were left out unread.
    stretch: u64,
    /// Number of the frame that comes next when none is left out.
    next: u64,
    packets: Option<Frame>,
    batch: Batch,
    end: Option<Frame>,
    watermark: u64,
    report: SliceReport,
}

/// How a CPU's `seq` is renumbered.
#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    /// Events left out so far.
    removed: u64,
    /// `seq` that comes next without a gap.
    next: u64,
    stretch: u64,
}

impl<W: Write, K: FnMut(&Event, &[u8]) -> bool> Slicer<W, K> {
    fn take(&mut self, item: Item) -> io::Result<()> {
        match item {
            Item::Frame(frame) if frame.stored.is_some() => self.frame(frame),
            Item::Damage(problem, _) => self.problem(problem),
            // What was not finished is only ever after the events of a slice that knows its end.
            Item::Frame(_) | Item::Index { .. } | Item::Unfinished { .. } => Ok(()),
        }
    }

    fn problem(&mut self, problem: Problem) -> io::Result<()> {
        self.writer.append_fact(&problem.notice())?;
        self.report.problems.push(problem);
        Ok(())
    }

    fn frame(&mut self, frame: Frame) -> io::Result<()> {
        let header = frame.header;
        let mut problems = Vec::new();
        let place = self.chain.follow(frame.offset, &header, &mut problems);
        for problem in problems {
            self.problem(problem)?;
        }
        if place == Place::Ignore {
            return Ok(());
        }
        if header.number != self.next {
            self.stretch += 1;
        }
        self.next = header.number.saturating_add(1);
        let packets = self.packets.take();
        match header.frame_kind() {
            Some(FrameKind::Events) if header.schema <= SCHEMA => {
                if let Err(fault) = self.events(&frame, packets.as_ref())? {
                    self.problem(Problem::unreadable(frame.offset, &header, &fault))?;
                }
                Ok(())
            }
            Some(FrameKind::Packets) if header.schema <= SCHEMA => {
                self.packets = Some(frame);
                Ok(())
            }
            Some(FrameKind::End) => {
                self.end = Some(frame);
                Ok(())
            }
            Some(FrameKind::Facts) => self.writer.copy_frame(Labels::of(&header), frame.stored()),
            Some(FrameKind::Manifest | FrameKind::Events | FrameKind::Packets) | None => {
                self.problem(Problem::later(frame.offset, &header))
            }
        }
    }

    fn events(&mut self, frame: &Frame, packets: Option<&Frame>) -> io::Result<Result<(), Fault>> {
        let theirs = packets.filter(|packets| {
            frame.header.flags & FLAG_PACKETS != 0
                && packets.header.number.checked_add(1) == Some(frame.header.number)
        });
        self.batch.clear();
        if let Some(packets) = theirs {
            match packet_bytes(packets) {
                Ok(bytes) => self.batch.bytes = bytes,
                Err(fault) => {
                    self.problem(Problem::unreadable(packets.offset, &packets.header, &fault))?;
                }
            }
        }
        let bytes = theirs.map(|_| self.batch.bytes.len());
        match decode_events(frame, bytes, &mut self.batch.events) {
            Err(fault) => return Ok(Err(fault)),
            Ok(decoded) if decoded.unknown_kinds > 0 => {
                self.writer.append_fact(&notice(
                    Severity::DataLoss,
                    "events of kinds that only a later psc knows were left out".to_owned(),
                    decoded.unknown_kinds,
                ))?;
            }
            Ok(_) => {}
        }
        let mut events = std::mem::take(&mut self.batch.events);
        events.retain_mut(|event| {
            let bytes = event.packet.map_or(&[][..], |packet| self.batch.packet(packet));
            let kept = self.times.contains(&event.at.0) && (self.keep)(event, bytes);
            let stream = self.cpus.entry(event.cpu).or_insert(Stream {
                removed: event.seq,
                next: event.seq,
                stretch: self.stretch,
            });
            if stream.stretch != self.stretch {
                stream.removed = stream.removed.wrapping_add(event.seq.wrapping_sub(stream.next));
                stream.stretch = self.stretch;
            }
            stream.next = event.seq.wrapping_add(1);
            if kept {
                event.seq = event.seq.wrapping_sub(stream.removed);
            } else {
                stream.removed = stream.removed.wrapping_add(1);
            }
            kept
        });
        self.report.seen += u64::from(frame.header.count);
        self.report.kept += events.len() as u64;
        self.batch.events = events;
        self.watermark = self.watermark.max(frame.header.watermark);
        self.batch.complete_to = (self.watermark > 0).then_some(Ns(self.watermark));
        self.writer.append(&self.batch)?;
        Ok(Ok(()))
    }

    fn finish(mut self, label: &str) -> io::Result<(SliceReport, W)> {
        let what = if label.is_empty() { String::new() } else { format!(" matching {label}") };
        self.writer.append_fact(&notice(
            Severity::Info,
            format!(
                "a slice of recording {}: {} events{what} of the {} in frames that reach into \
                 {}..{} ns",
                self.report.source,
                self.report.kept,
                self.report.seen,
                self.times.start,
                self.times.end
            ),
            1,
        ))?;
        self.writer.flush_frame()?;
        let output = if let Some(end) = self.end {
            self.writer.finish_with(Labels::of(&end.header), end.stored())?
        } else {
            let reason = "slice of an unclosed recording".to_owned();
            self.writer.finish(EndFact { reason, ..EndFact::default() })?
        };
        Ok((self.report, output))
    }
}
