//! Reading: frames in order, decoded ahead in parallel, as an [`EventSource`].

use std::collections::VecDeque;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use super::chain::{Chain, Place};
use super::data::Input;
use super::decode::{Decoded, decode};
use super::frame::{FLAG_PACKETS, FrameKind, Header, RecordingId, SCHEMA};
use super::payload::{self, Parent, access, unpack};
use super::problem::{Fault, Problem};
use super::v1::{ArchivedEventsV1, ArchivedPacketsV1};
use super::walk::{Frame, Item, Walker};
use super::{index, problem::ProblemKind};
use crate::fact::{NoticeFact, Severity};
use crate::{Batch, Event, EventSource, Fact, Manifest, Ns, Progress, SourceError};

/// Decompressed bytes that may be on their way at once: with hostile frames, what bounds memory.
const AHEAD_BYTES: u64 = 256 << 20;

/// Used-up batches whose buffers are kept for the next frames.
const SPARE: usize = 16;

/// Largest buffer of packet bytes kept so.
const SPARE_BYTES: usize = 8 << 20;

/// Reads an archive.
pub struct Reader {
    walker: Walker,
    chain: Chain,
    manifest: Manifest,
    parents: Vec<Parent>,
    window: Option<Range<u64>>,
    /// A packets frame whose events have not come yet.
    packets: Option<Frame>,
    ahead: VecDeque<Pending>,
    ahead_bytes: u64,
    /// Buffers of batches that were used up, to decode into again.
    spare: Vec<Chunk>,
    /// Every event before this was handed out.
    complete_to: u64,
    closed: bool,
    ended: bool,
    /// Frames whose payload was decompressed.
    decoded: u64,
    /// Facts found while opening.
    early: Vec<Fact>,
}

/// A frame being decoded.
struct Pending {
    raw: u64,
    watermark: u64,
    content: Content,
}

enum Content {
    Ready(Box<Chunk>),
    Coming(Receiver<Chunk>),
}

/// What one frame gave.
#[derive(Default)]
struct Chunk {
    events: Vec<Event>,
    bytes: Vec<u8>,
    facts: Vec<Fact>,
}

impl Reader {
    /// Opens a file; a pipe or another stream by its path works too.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        Self::new(Input::open(path)?)
    }

    /// Reads a stream. `name` is what messages call it.
    pub fn from_stream(
        stream: impl Read + Send + 'static,
        name: &str,
    ) -> Result<Self, SourceError> {
        Self::new(Input::stream(stream, name))
    }

    /// Reads bytes at hand.
    pub fn from_bytes(
        bytes: impl AsRef<[u8]> + Send + Sync + 'static,
        name: &str,
    ) -> Result<Self, SourceError> {
        Self::new(Input::bytes(bytes, name))
    }

    /// Reads an archive up to its manifest.
    pub fn new(input: Input) -> Result<Self, SourceError> {
        let mut this = Self {
            walker: Walker::new(input.data),
            chain: Chain::default(),
            manifest: Manifest::default(),
            parents: Vec::new(),
            window: None,
            packets: None,
            ahead: VecDeque::new(),
            ahead_bytes: 0,
            spare: Vec::new(),
            complete_to: 0,
            closed: false,
            ended: false,
            decoded: 0,
            early: Vec::new(),
        };
        this.read_manifest(&input.name)?;
        Ok(this)
    }

    /// Finds the manifest, or the first frame when the manifest is lost.
    fn read_manifest(&mut self, name: &str) -> Result<(), SourceError> {
        loop {
            match self.walker.next(|_| true)? {
                None => {
                    let empty = self.walker.offset() == 0;
                    let what = if empty { "is empty" } else { "has no readable frame" };
                    return Err(SourceError::data(format!(
                        "{name} {what}: it is not a psc archive, or nothing of it is left"
                    )));
                }
                Some(Item::Damage(problem, _)) => self.early.push(problem.notice()),
                Some(Item::Index { .. }) => {}
                Some(Item::Unfinished { len, .. }) => {
                    return Err(SourceError::data(format!(
                        "{name} ends inside its first frame after {len} bytes: nothing in it can \
                         be read"
                    )));
                }
                Some(Item::Frame(frame)) => {
                    let kind = frame.header.frame_kind();
                    if kind != Some(FrameKind::Manifest) {
                        self.early.push(notice(
                            Severity::Error,
                            "the manifest is lost: clock, probe names and drop-reason names are \
                             unknown"
                                .to_owned(),
                            1,
                        ));
                        self.accept(frame);
                        return Ok(());
                    }
                    if frame.header.schema > SCHEMA {
                        return Err(self.later(name, &frame)?);
                    }
                    let mut problems = Vec::new();
                    self.chain.follow(frame.offset, &frame.header, &mut problems);
                    self.early.extend(problems.iter().map(Problem::notice));
                    self.decoded += 1;
                    let read = payload::manifest(&frame.header, frame.stored()).and_then(
                        |(json, parents)| {
                            let manifest = serde_json::from_slice(&json).map_err(|error| {
                                Fault::Payload(format!("the manifest's JSON: {error}"))
                            })?;
                            Ok((manifest, parents))
                        },
                    );
                    match read {
                        Ok((manifest, parents)) => {
                            self.manifest = manifest;
                            self.parents = parents;
                        }
                        Err(fault) => self.early.push(
                            Problem::unreadable(frame.offset, &frame.header, &fault).notice(),
                        ),
                    }
                    return Ok(());
                }
            }
        }
    }

    /// The error for an archive of a later version, with what its headers still tell.
    fn later(&mut self, name: &str, first: &Frame) -> Result<SourceError, SourceError> {
        let (mut frames, mut events, mut packets, mut facts) = (1u64, 0u64, 0u64, 0u64);
        while let Some(item) = self.walker.next(|_| false)? {
            if let Item::Frame(frame) = item {
                frames += 1;
                let count = u64::from(frame.header.count);
                match frame.header.frame_kind() {
                    Some(FrameKind::Events) => events += count,
                    Some(FrameKind::Packets) => packets += count,
                    Some(FrameKind::Facts) => facts += count,
                    Some(FrameKind::Manifest | FrameKind::End) | None => {}
                }
            }
        }
        Ok(SourceError::data(format!(
            "{name} was written by a later psc (archive schema {}, and this psc reads up to \
             {SCHEMA}); its headers show {frames} frames with {events} events, {packets} packets \
             and {facts} facts, which a newer psc can read",
            first.header.schema
        )))
    }

    /// Narrows reading to events in a range of times. Only frames that may have such events are
    /// read, beside all facts. Call before the first [`EventSource::fill`].
    #[must_use]
    pub fn window(mut self, range: Range<Ns>) -> Self {
        let (start, end) = (range.start.0, range.end.0);
        self.window = Some(start..end);
        self.chain.expect_gaps();
        plan_window(&mut self.walker, &(start..end));
        self
    }

    /// The recording's id.
    pub fn recording(&self) -> RecordingId {
        self.chain.recording().unwrap_or_default()
    }

    /// What the recording was made from.
    pub fn parents(&self) -> &[Parent] {
        &self.parents
    }

    /// Frames decompressed so far.
    pub fn frames_decoded(&self) -> u64 {
        self.decoded
    }

    /// Starts decoding until enough is on its way.
    fn read_ahead(&mut self) -> Result<(), SourceError> {
        let threads = rayon::current_num_threads();
        // A stream may be live: what has come is handed on before more is waited for.
        let most = if self.walker.whole().is_none() || threads == 1 { 1 } else { threads * 2 };
        while !self.ended
            && self.ahead.len() < most
            && (self.ahead.is_empty() || self.ahead_bytes < AHEAD_BYTES)
        {
            let window = self.window.clone();
            match self.walker.next(|header| wanted(window.as_ref(), header))? {
                None => self.end(None),
                Some(Item::Unfinished { offset, len }) => self.end(Some((offset, len))),
                Some(Item::Damage(problem, header)) => {
                    let problem = self.chain.damaged(problem, header.as_ref());
                    if problem.kind != ProblemKind::Index {
                        self.say(problem.notice());
                    }
                }
                Some(Item::Frame(frame)) if frame.stored.is_some() => self.accept(frame),
                // A damaged index costs the reader nothing; `verify` names it.
                Some(Item::Index { .. } | Item::Frame(_)) => {}
            }
        }
        Ok(())
    }

    fn end(&mut self, unfinished: Option<(u64, u64)>) {
        self.ended = true;
        if let Some((offset, len)) = unfinished
            && !self.closed
        {
            self.say(notice(
                Severity::DataLoss,
                format!(
                    "the last {len} bytes, from byte {offset}, are a frame that was not finished"
                ),
                1,
            ));
        }
        if !self.closed && self.window.is_none() {
            self.say(notice(
                Severity::DataLoss,
                "the recording is unclosed: the recorder was killed, is still running or could \
                 not write; what it had not yet written is not here"
                    .to_owned(),
                1,
            ));
        }
    }

    fn say(&mut self, fact: Fact) {
        let chunk = Chunk { facts: vec![fact], ..Chunk::default() };
        self.ahead.push_back(Pending {
            raw: 0,
            watermark: 0,
            content: Content::Ready(Box::new(chunk)),
        });
    }

    /// Puts a sound frame in its place and starts decoding it.
    fn accept(&mut self, frame: Frame) {
        let mut problems = Vec::new();
        let place = self.chain.follow(frame.offset, &frame.header, &mut problems);
        for problem in &problems {
            self.say(problem.notice());
        }
        if place == Place::Ignore {
            return;
        }
        let header = frame.header;
        let packets = self.packets.take();
        let Some(kind) = header.frame_kind().filter(|_| header.schema <= SCHEMA) else {
            self.say(Problem::later(frame.offset, &header).notice());
            return;
        };
        match kind {
            FrameKind::Manifest => {
                let text =
                    format!("frame {} is a second manifest; the first counts", header.number);
                let problem =
                    Problem::new(ProblemKind::Unreadable, frame.offset, Some(header.number), text);
                self.say(problem.notice());
            }
            FrameKind::Packets => self.packets = Some(frame),
            FrameKind::Facts | FrameKind::End => {
                self.closed |= kind == FrameKind::End;
                self.start_decoding(header, move || facts(&frame));
            }
            FrameKind::Events => {
                let packets = packets.filter(|packets| {
                    header.flags & FLAG_PACKETS != 0
                        && packets.header.number.checked_add(1) == Some(header.number)
                });
                let window = self.window.clone();
                let room = self.spare.pop().unwrap_or_default();
                self.start_decoding(header, move || events(&frame, packets.as_ref(), window, room));
            }
        }
    }

    fn start_decoding(&mut self, header: Header, work: impl FnOnce() -> Chunk + Send + 'static) {
        self.decoded += 1;
        let raw = u64::from(header.raw);
        self.ahead_bytes += raw;
        let content = if rayon::current_num_threads() == 1 {
            Content::Ready(Box::new(work()))
        } else {
            let (send, receive) = channel();
            // The receiver is gone when the reader was dropped: nobody wants the result then.
            rayon::spawn(move || drop(send.send(work())));
            Content::Coming(receive)
        };
        self.ahead.push_back(Pending { raw, watermark: header.watermark, content });
    }
}

impl EventSource for Reader {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn fill(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        batch.facts.append(&mut self.early);
        self.read_ahead()?;
        if let Some(pending) = self.ahead.pop_front() {
            self.ahead_bytes -= pending.raw;
            let chunk = match pending.content {
                Content::Ready(chunk) => *chunk,
                Content::Coming(receiver) => wait(&receiver)?,
            };
            self.complete_to = self.complete_to.max(pending.watermark);
            if !chunk.events.is_empty() && batch.events.is_empty() && batch.bytes.is_empty() {
                let events = std::mem::take(&mut batch.events);
                let bytes = std::mem::take(&mut batch.bytes);
                if self.spare.len() < SPARE && bytes.capacity() <= SPARE_BYTES {
                    self.spare.push(Chunk { events, bytes, facts: Vec::new() });
                }
            }
            chunk.append_to(batch);
        }
        if self.complete_to > 0 {
            batch.complete_to = Some(Ns(self.complete_to));
        }
        let more = !self.ended || !self.ahead.is_empty();
        Ok(if more { Progress::More } else { Progress::End })
    }

    fn position(&self) -> Option<(u64, u64)> {
        self.walker.position()
    }
}

impl Chunk {
    fn append_to(mut self, batch: &mut Batch) {
        batch.facts.append(&mut self.facts);
        let shift = batch.bytes.len();
        if shift > 0 {
            for packet in self.events.iter_mut().filter_map(|event| event.packet.as_mut()) {
                packet.offset = packet.offset.saturating_add(shift as u32);
            }
        }
        if batch.bytes.is_empty() {
            batch.bytes = self.bytes;
        } else {
            batch.bytes.append(&mut self.bytes);
        }
        if batch.events.is_empty() {
            batch.events = self.events;
        } else {
            batch.events.append(&mut self.events);
        }
    }
}

/// Whether a frame is needed for the events of a window.
pub(super) fn wanted(window: Option<&Range<u64>>, header: &Header) -> bool {
    match window {
        Some(window) if is_timed(header.kind) => header.overlaps(window.start, window.end),
        _ => true,
    }
}

/// Makes a walker visit only what a window needs, when there is an index to tell.
pub(super) fn plan_window(walker: &mut Walker, window: &Range<u64>) {
    let Some(entries) = walker.whole().and_then(index::read) else { return };
    let here = walker.offset();
    let needed = |entry: &index::Entry| {
        entry.offset >= here && (!is_timed(entry.kind) || entry.overlaps(window.start, window.end))
    };
    walker.visit(entries.into_iter().filter(needed).collect());
}

/// Frames that a window may leave out. A packets frame has the times of its events frame, so both
/// are left out or neither.
fn is_timed(kind: u8) -> bool {
    kind == FrameKind::Events as u8 || kind == FrameKind::Packets as u8
}

pub(super) fn notice(severity: Severity, text: String, count: u64) -> Fact {
    Fact::Notice(NoticeFact { at: 0, severity, text, count })
}

/// Waits for a chunk. On a thread of the pool, decoding goes on here meanwhile: that thread may be
/// the only one.
fn wait(receiver: &Receiver<Chunk>) -> Result<Chunk, SourceError> {
    let lost = || SourceError::data("decoding stopped: the thread pool is gone");
    if rayon::current_thread_index().is_none() {
        return receiver.recv().map_err(|_| lost());
    }
    loop {
        match receiver.try_recv() {
            Ok(chunk) => return Ok(chunk),
            Err(TryRecvError::Disconnected) => return Err(lost()),
            Err(TryRecvError::Empty) => {
                if rayon::yield_now() != Some(rayon::Yield::Executed) {
                    std::thread::yield_now();
                }
            }
        }
    }
}

/// Decodes a facts or end frame.
fn facts(frame: &Frame) -> Chunk {
    let facts = match payload::facts(&frame.header, frame.stored()) {
        Ok((mut facts, unreadable)) => {
            if unreadable > 0 {
                facts.push(notice(
                    Severity::DataLoss,
                    format!(
                        "frame {} has facts that this psc cannot read: written by a later psc, or \
                         not by psc",
                        frame.header.number
                    ),
                    unreadable,
                ));
            }
            facts
        }
        Err(fault) => vec![Problem::unreadable(frame.offset, &frame.header, &fault).notice()],
    };
    Chunk { facts, ..Chunk::default() }
}

/// Decodes an events frame with its packets.
fn events(
    frame: &Frame,
    packets: Option<&Frame>,
    window: Option<Range<u64>>,
    mut chunk: Chunk,
) -> Chunk {
    let mut room = std::mem::take(&mut chunk.bytes);
    room.clear();
    chunk.events.clear();
    let bytes = packets.and_then(|packets| match packet_bytes_into(packets, &mut room) {
        Ok(()) => Some(room),
        Err(fault) => {
            chunk.facts.push(Problem::unreadable(packets.offset, &packets.header, &fault).notice());
            None
        }
    });
    let lacking = bytes.is_none() && frame.header.flags & FLAG_PACKETS != 0;
    match decode_events(frame, bytes.as_ref().map(Vec::len), &mut chunk.events) {
        Err(fault) => {
            chunk.facts.push(Problem::unreadable(frame.offset, &frame.header, &fault).notice());
            return chunk;
        }
        Ok(decoded) => {
            if decoded.unknown_kinds > 0 {
                chunk.facts.push(notice(
                    Severity::DataLoss,
                    "events of kinds that only a later psc knows were left out".to_owned(),
                    decoded.unknown_kinds,
                ));
            }
            if lacking && decoded.lost_packets > 0 {
                chunk.facts.push(notice(
                    Severity::Error,
                    format!(
                        "the packet bytes of frame {} are lost; its events are here",
                        frame.header.number
                    ),
                    decoded.lost_packets,
                ));
            }
        }
    }
    chunk.bytes = bytes.unwrap_or_default();
    if let Some(window) = window {
        chunk.events.retain(|event| window.contains(&event.at.0));
    }
    chunk
}

/// Appends the events of a frame; see [`decode`].
pub(super) fn decode_events(
    frame: &Frame,
    packets: Option<usize>,
    out: &mut Vec<Event>,
) -> Result<Decoded, Fault> {
    let count = frame.header.count as usize;
    // Without the flag there are no packet bytes to be had: events with packets lost theirs when
    // the archive was recovered from damage.
    let packets = if frame.header.flags & FLAG_PACKETS == 0 { None } else { packets };
    unpack(&frame.header, frame.stored(), |raw| {
        let payload = access::<ArchivedEventsV1>(raw)?;
        decode(payload, count, packets, out).map_err(Fault::Payload)
    })
}

/// The bytes of a packets frame.
pub(super) fn packet_bytes(frame: &Frame) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    packet_bytes_into(frame, &mut bytes).map(|()| bytes)
}

/// Appends the bytes of a packets frame.
fn packet_bytes_into(frame: &Frame, out: &mut Vec<u8>) -> Result<(), Fault> {
    unpack(&frame.header, frame.stored(), |raw| {
        out.extend_from_slice(&access::<ArchivedPacketsV1>(raw)?.bytes);
        Ok(())
    })
}
