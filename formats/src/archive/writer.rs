//! Writing: append-only, one pass, to anything that takes bytes.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use super::encode::Encoder;
use super::frame::{
    FLAG_PACKETS, FrameKind, Hash, Header, MAX_COUNT, MAX_RAW, RecordingId, SCHEMA,
};
use super::index;
use super::payload::{FactRows, LEVEL, Packer, Parent};
use super::v1::{ManifestV1, PacketsV1};
use crate::custody::{SecretKey, Statement, StatementState, hex};
use crate::fact::{CheckpointFact, EndFact, NoticeFact, Severity};
use crate::{Batch, Fact, Manifest};

/// Events that fill a frame: some 200 KiB stored, a few milliseconds to decode.
pub const FRAME_EVENTS: usize = 1 << 15;
/// Packet bytes that fill a frame. zstd finds what packets share within this much.
const FRAME_PACKETS: usize = 4 << 20;
/// Bytes of fact documents that fill a frame.
const FRAME_FACTS: usize = 1 << 20;
/// Longest document of one fact, and most bytes of one packet.
const MAX_ITEM: usize = MAX_RAW as usize / 2;

/// Numbers, chains and writes frames, and remembers them for the index.
pub(super) struct FrameWriter<W> {
    out: W,
    recording: RecordingId,
    number: u64,
    previous: Hash,
    index: index::Builder,
    buffer: Vec<u8>,
}

/// What a frame's header says beside what [`FrameWriter`] knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Labels {
    pub(super) schema: u16,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) count: u32,
    /// Earliest and latest event.
    pub(super) times: Option<(u64, u64)>,
    pub(super) watermark: u64,
    pub(super) raw: u32,
}

impl Labels {
    /// Those of a frame that is copied.
    pub(super) fn of(header: &Header) -> Self {
        Self {
            schema: header.schema,
            kind: header.kind,
            flags: header.flags,
            count: header.count,
            times: (header.first <= header.last).then_some((header.first, header.last)),
            watermark: header.watermark,
            raw: header.raw,
        }
    }

    pub(super) fn new(kind: FrameKind, count: usize, raw: u32) -> Self {
        let count = count as u32;
        Self { schema: SCHEMA, kind: kind as u8, flags: 0, count, times: None, watermark: 0, raw }
    }
}

impl<W: Write> FrameWriter<W> {
    pub(super) fn new(out: W, recording: RecordingId) -> Self {
        Self {
            out,
            recording,
            number: 0,
            previous: [0; 32],
            index: index::Builder::default(),
            buffer: Vec::new(),
        }
    }

    /// Queues a frame; [`Self::commit`] writes what is queued in one go.
    pub(super) fn put(&mut self, labels: Labels, payload: &[u8]) {
        let (first, last) = labels.times.unwrap_or((u64::MAX, 0));
        let mut header = Header {
            schema: labels.schema,
            kind: labels.kind,
            flags: labels.flags,
            count: labels.count,
            number: self.number,
            recording: self.recording,
            first,
            last,
            watermark: labels.watermark,
            stored: payload.len() as u32,
            raw: labels.raw,
            previous: self.previous,
            hash: [0; 32],
        };
        let sealed = header.seal(payload);
        self.buffer.extend_from_slice(&sealed);
        self.buffer.extend_from_slice(payload);
        self.index.add(&header);
        self.number += 1;
        self.previous = header.hash;
    }

    pub(super) fn commit(&mut self) -> io::Result<()> {
        // One write for frames that belong together, so that a kill between them is unlikely; a
        // reader copes with any cut.
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        self.out.flush()
    }

    /// Queues the index.
    pub(super) fn put_index(&mut self) {
        self.index.finish(&mut self.buffer);
    }
}

/// Writes a recording.
///
/// Frames are written when they are full, when [`Self::flush_frame`] says so, and at the end;
/// nothing that was written is touched again, so a pipe will do. A process that dies loses the
/// unfinished frame only.
///
/// After an error the archive ends wherever the output does: [`super::recover`] keeps what was
/// complete. A writer that is dropped without [`Self::finish`] leaves an unclosed archive without
/// what was still pending.
pub struct Writer<W: Write> {
    frames: FrameWriter<W>,
    packer: Packer,
    events: Encoder,
    packets: PacketsV1,
    packet_count: usize,
    facts: FactRows,
    /// What the source promised with the last batch that was taken whole.
    watermark: u64,
    json: Vec<u8>,
    /// Latest event so far.
    last: u64,
    key: Option<SecretKey>,
    /// Frames there were when the last checkpoint was made.
    checked: u64,
}

impl Writer<File> {
    /// A writer to a new file: see [`create_file`].
    pub fn create(path: &Path, manifest: &Manifest) -> io::Result<Self> {
        Self::new(create_file(path)?, manifest)
    }
}

impl<W: Write> Writer<W> {
    /// A writer with an id of its own. The manifest is written at once.
    pub fn new(out: W, manifest: &Manifest) -> io::Result<Self> {
        Self::derived(out, manifest, RecordingId::random(), &[])
    }

    /// A writer for what is made from other recordings or files. For output that is a function of
    /// the input alone, take the id from [`RecordingId::derived`].
    pub fn derived(
        out: W,
        manifest: &Manifest,
        recording: RecordingId,
        parents: &[Parent],
    ) -> io::Result<Self> {
        let json = serde_json::to_vec(manifest)?;
        Self::with_manifest_json(out, json, recording, parents)
    }

    pub(super) fn with_manifest_json(
        out: W,
        json: Vec<u8>,
        recording: RecordingId,
        parents: &[Parent],
    ) -> io::Result<Self> {
        let mut this = Self {
            frames: FrameWriter::new(out, recording),
            packer: Packer::new(LEVEL)?,
            events: Encoder::new(),
            packets: PacketsV1::default(),
            packet_count: 0,
            facts: FactRows::default(),
            watermark: 0,
            json: Vec::new(),
            last: 0,
            key: None,
            checked: 0,
        };
        let parents = parents.iter().flat_map(|parent| parent.to_bytes()).collect();
        let (stored, raw) = this.packer.pack(&ManifestV1 { json, parents })?;
        this.frames.put(Labels::new(FrameKind::Manifest, 1, raw), stored);
        this.frames.commit()?;
        Ok(this)
    }

    /// Takes a batch: its facts first, then its events with their packets.
    pub fn append(&mut self, batch: &Batch) -> io::Result<()> {
        for fact in &batch.facts {
            self.append_fact(fact)?;
        }
        for (row, event) in batch.events.iter().enumerate() {
            let packet = match event.packet {
                None => &[][..],
                Some(packet) => {
                    let bytes = batch.packet(packet);
                    if bytes.len() != packet.caplen as usize || bytes.len() > MAX_ITEM {
                        return Err(io::Error::new(
                            io::ErrorKind::InvalidInput,
                            format!(
                                "event {row} of a batch has a packet of {} bytes at {}, which is \
                                 outside the batch's {} bytes or above the limit of {MAX_ITEM}",
                                packet.caplen,
                                packet.offset,
                                batch.bytes.len()
                            ),
                        ));
                    }
                    bytes
                }
            };
            let full = self.packets.bytes.len() + packet.len() > FRAME_PACKETS;
            if self.events.len() >= FRAME_EVENTS || (full && self.packet_count > 0) {
                self.put_pending()?;
                self.frames.commit()?;
            }
            if event.packet.is_some() {
                self.packets.bytes.extend_from_slice(packet);
                self.packet_count += 1;
            }
            self.last = self.last.max(event.at.0);
            self.events.push(event);
        }
        if let Some(complete_to) = batch.complete_to {
            self.watermark = self.watermark.max(complete_to.0);
        }
        Ok(())
    }

    /// Takes one fact.
    pub fn append_fact(&mut self, fact: &Fact) -> io::Result<()> {
        let mut json = std::mem::take(&mut self.json);
        json.clear();
        serde_json::to_writer(&mut json, fact)?;
        if json.len() > MAX_ITEM {
            // Better a recording that says what it lacks than none.
            let notice = Fact::Notice(NoticeFact {
                at: fact.at().map_or(0, |at| at.0),
                severity: Severity::DataLoss,
                text: format!(
                    "a {} fact of {} bytes was left out: the archive takes {MAX_ITEM}",
                    fact.name(),
                    json.len()
                ),
                count: 1,
            });
            json.clear();
            serde_json::to_writer(&mut json, &notice)?;
            self.push_fact(&notice, &json)?;
        } else {
            self.push_fact(fact, &json)?;
        }
        self.json = json;
        Ok(())
    }

    fn push_fact(&mut self, fact: &Fact, json: &[u8]) -> io::Result<()> {
        let (facts, bytes) = self.facts.size();
        if facts >= MAX_COUNT as usize || (facts > 0 && bytes + json.len() > FRAME_FACTS) {
            // Facts may go before events that came earlier, never after events that came later.
            self.put_facts(FrameKind::Facts)?;
            self.frames.commit()?;
        }
        self.facts.push(fact, json);
        Ok(())
    }

    /// Writes what is pending as frames of their own. Call on a timer: what is not yet in a frame is
    /// lost when the process dies. Does nothing when nothing is pending.
    pub fn flush_frame(&mut self) -> io::Result<()> {
        self.put_pending()?;
        self.frames.commit()
    }

    /// Signs with this key from here on: at each [`Self::checkpoint`], and the end.
    pub fn sign_with(&mut self, key: SecretKey) {
        self.key = Some(key);
    }

    /// Writes what is pending and, with a key, a signed checkpoint over all of it into the
    /// recording. Gives the statement, to be kept elsewhere; `None` when nothing came since the
    /// last.
    pub fn checkpoint(&mut self) -> io::Result<Option<Statement>> {
        self.flush_frame()?;
        if self.frames.number == self.checked {
            return Ok(None);
        }
        let statement = self.statement(StatementState::Open);
        if let Some(fact) = checkpoint_fact(&statement) {
            self.append_fact(&Fact::Checkpoint(fact))?;
            self.flush_frame()?;
        }
        self.checked = self.frames.number;
        Ok(Some(statement))
    }

    /// About the last frame written.
    fn statement(&self, state: StatementState) -> Statement {
        let mut statement = Statement {
            recording: self.frames.recording,
            frame: self.frames.number.saturating_sub(1),
            hash: self.frames.previous,
            at: self.last,
            state,
            signatures: Vec::new(),
        };
        if let Some(key) = &self.key {
            statement.sign(key);
        }
        statement
    }

    /// Writes what is pending, the end fact and the index, and gives the output back.
    pub fn finish(self, end: EndFact) -> io::Result<W> {
        Ok(self.close(end)?.0)
    }

    /// As [`Self::finish`], and gives the statement about the whole recording, signed with a key.
    pub fn close(mut self, mut end: EndFact) -> io::Result<(W, Statement)> {
        self.put_pending()?;
        if self.key.is_some() {
            end.seal = None;
            let text = serde_json::to_string(&Fact::End(end.clone()))?;
            end.seal = checkpoint_fact(&self.statement(StatementState::Ending(text)));
        }
        self.append_fact(&Fact::End(end))?;
        self.put_facts(FrameKind::End)?;
        let statement = self.statement(StatementState::Closed);
        self.frames.put_index();
        self.frames.commit()?;
        Ok((self.frames.out, statement))
    }

    /// The recording's id.
    pub fn recording(&self) -> RecordingId {
        self.frames.recording
    }

    /// Bytes handed to the output so far.
    pub fn written(&self) -> u64 {
        self.frames.index.offset()
    }

    /// Hash of the last frame written: what a signed checkpoint kept elsewhere would hold.
    pub fn last_hash(&self) -> Hash {
        self.frames.previous
    }

    /// The output, for what only its owner can do with it (`fsync`).
    pub fn get_ref(&self) -> &W {
        &self.frames.out
    }

    /// Copies a frame of another recording as it is, ahead of what is pending: right for facts, and
    /// for anything when nothing is.
    pub(super) fn copy_frame(&mut self, labels: Labels, stored: &[u8]) -> io::Result<()> {
        self.frames.put(labels, stored);
        self.frames.commit()
    }

    /// As [`Self::finish`], with the end frame of another recording.
    pub(super) fn finish_with(mut self, labels: Labels, stored: &[u8]) -> io::Result<W> {
        self.put_pending()?;
        self.frames.put(labels, stored);
        self.frames.put_index();
        self.frames.commit()?;
        Ok(self.frames.out)
    }

    fn put_pending(&mut self) -> io::Result<()> {
        self.put_facts(FrameKind::Facts)?;
        let (events, times) = (self.events.len(), self.events.times());
        if events == 0 {
            return Ok(());
        }
        let mut flags = 0;
        if self.packet_count > 0 {
            let (stored, raw) = self.packer.pack(&self.packets)?;
            let labels = Labels::new(FrameKind::Packets, self.packet_count, raw);
            self.frames.put(Labels { times, ..labels }, stored);
            flags = FLAG_PACKETS;
            self.packets.bytes.clear();
            self.packet_count = 0;
        }
        let (stored, raw) = self.packer.pack(&self.events.finish())?;
        let labels = Labels::new(FrameKind::Events, events, raw);
        self.frames.put(Labels { flags, times, watermark: self.watermark, ..labels }, stored);
        Ok(())
    }

    fn put_facts(&mut self, kind: FrameKind) -> io::Result<()> {
        if self.facts.is_empty() {
            return Ok(());
        }
        let (count, _) = self.facts.size();
        let (stored, raw) = self.packer.pack(&self.facts.take())?;
        self.frames.put(Labels::new(kind, count, raw), stored);
        Ok(())
    }
}

/// A statement as it stands inside the recording; `None` when nobody signed it.
fn checkpoint_fact(statement: &Statement) -> Option<CheckpointFact> {
    let signed = statement.signatures.first()?;
    Some(CheckpointFact {
        at: statement.at,
        recording: statement.recording.to_string(),
        frame: statement.frame,
        hash: hex(&statement.hash),
        key: signed.key.to_string(),
        signature: hex(&signed.signature),
    })
}

/// Creates a file that only this user can read, and that was not there before.
///
/// An archive holds packet contents, so its mode is 0600 whatever the umask says. The path is never
/// followed through a symlink in its last place nor truncated: creation is exclusive (`O_CREAT |
/// O_EXCL`), which POSIX defines to fail on any existing name, a dangling symlink too. So a link
/// planted in a shared directory cannot make root write elsewhere. Modes exist on Unix only; on other
/// systems the file gets the directory's default.
pub fn create_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AlreadyExists => {
                "it is already there; choose another name or remove it first"
            }
            io::ErrorKind::NotFound => "its directory does not exist",
            io::ErrorKind::PermissionDenied => "this user may not write to its directory",
            _ => return io::Error::new(error.kind(), format!("{}: {error}", path.display())),
        };
        io::Error::new(error.kind(), format!("cannot create {}: {hint}", path.display()))
    })
}
