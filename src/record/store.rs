//! Where recorded batches go: one file after the other, or standard output.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use psc_formats::archive::Writer;
use psc_formats::custody::{ParentFile, hex};
use psc_formats::fact::{EndFact, LossFact};
use psc_formats::{Batch, EventSource, Fact, Manifest, Ns, Progress, SourceError};

use super::carry::{Carry, loss_since};
use super::progress::Tally;
use super::rotation::{Files, Rotation};
use super::signing::Signing;
use crate::output::stdout_file;

/// What a killed recorder may lose: events younger than this.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// Takes batches as they are recorded.
pub(super) trait Store {
    /// Takes a batch and leaves it as it was. An end fact is kept for [`Store::finish`].
    fn append(&mut self, batch: &mut Batch) -> anyhow::Result<()>;
    /// Called several times a second, also while nothing happens.
    fn tick(&mut self) -> anyhow::Result<()>;
    /// Closes what is open.
    fn finish(&mut self) -> anyhow::Result<()>;
}

/// A source that stores all it gives out.
pub(super) struct Tee<'a, S> {
    source: S,
    store: &'a mut dyn Store,
    /// What went wrong in the store: [`SourceError`] cannot carry it whole.
    pub(super) failed: Option<anyhow::Error>,
}

impl<'a, S: EventSource> Tee<'a, S> {
    pub(super) fn new(source: S, store: &'a mut dyn Store) -> Self {
        Self { source, store, failed: None }
    }
}

impl<S: EventSource> EventSource for Tee<'_, S> {
    fn manifest(&self) -> &Manifest {
        self.source.manifest()
    }

    fn fill(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        let progress = self.source.fill(batch)?;
        let stored = self.store.append(batch).and_then(|()| match progress {
            Progress::End => self.store.finish(),
            Progress::More | Progress::Idle => self.store.tick(),
        });
        stored.map_err(|error| {
            let text = format!("{error:#}");
            self.failed = Some(error);
            SourceError::data(text)
        })?;
        Ok(progress)
    }
}

/// An output that is counted. After an error it ends in the middle of a frame, which readers step
/// over: cutting it would pull the file from under whoever is reading it.
pub(super) struct Sink {
    file: File,
    /// A file on a disk, and not a pipe or a device.
    durable: bool,
    tally: Arc<Tally>,
}

impl Sink {
    /// A file that was just created.
    pub(super) fn to_file(file: File, tally: Arc<Tally>) -> Self {
        let durable = file.metadata().is_ok_and(|meta| meta.is_file());
        Self { file, durable, tally }
    }

    /// Standard output.
    pub(super) fn to_stdout(tally: Arc<Tally>) -> io::Result<Self> {
        Ok(Self::to_file(stdout_file()?, tally))
    }

    /// Waits until a file is on its disk: recordings are made of hosts that are about to fall over.
    pub(super) fn sync(&self) -> io::Result<()> {
        if self.durable { self.file.sync_data() } else { Ok(()) }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.tally.bytes.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where a [`Stream`] writes.
pub(super) enum Target {
    /// Standard output.
    Stdout,
    /// Files, one after the other.
    Files(Files),
}

/// Stores as the events come.
pub(super) struct Stream {
    manifest: Manifest,
    target: Target,
    rotation: Rotation,
    tally: Arc<Tally>,
    writer: Option<Writer<Sink>>,
    path: PathBuf,
    opened: Instant,
    flushed: Instant,
    carry: Carry,
    /// Loss when this file began.
    loss_before: LossFact,
    last: Ns,
    end: Option<EndFact>,
    files: u32,
    signing: Signing,
    /// When the last checkpoint was made.
    checked: Instant,
}

impl Stream {
    /// Opens the first file and writes the manifest into it.
    pub(super) fn open(
        manifest: Manifest,
        target: Target,
        rotation: Rotation,
        tally: Arc<Tally>,
        signing: Signing,
    ) -> anyhow::Result<Self> {
        let now = Instant::now();
        let mut stream = Self {
            manifest,
            target,
            rotation,
            tally,
            writer: None,
            path: PathBuf::from("standard output"),
            opened: now,
            flushed: now,
            carry: Carry::default(),
            loss_before: LossFact::default(),
            last: Ns(0),
            end: None,
            files: 0,
            signing,
            checked: now,
        };
        stream.start_file()?;
        Ok(stream)
    }

    /// The last file's name, and how many there were.
    pub(super) fn place(&self) -> String {
        match self.files {
            0 | 1 => self.path.display().to_string(),
            files => format!("{files} files up to {}", self.path.display()),
        }
    }

    /// Removes the file that was just created.
    pub(super) fn discard(self) {
        if matches!(self.target, Target::Files(_))
            && self.path.symlink_metadata().is_ok_and(|meta| meta.is_file())
        {
            let _ = std::fs::remove_file(&self.path);
        }
    }

    /// Whether more files may come.
    pub(super) fn rotates(&self) -> bool {
        self.rotation.is_on()
    }

    fn start_file(&mut self) -> anyhow::Result<()> {
        let tally = Arc::clone(&self.tally);
        let sink = match &mut self.target {
            Target::Stdout => Sink::to_stdout(tally)?,
            Target::Files(files) => {
                let (file, path) = files.create()?;
                self.path = path;
                Sink::to_file(file, tally)
            }
        };
        self.files += 1;
        (self.opened, self.flushed) = (Instant::now(), Instant::now());
        self.loss_before = self.carry.loss();
        let facts = self.carry.facts();
        let writer = Writer::new(sink, &self.manifest).map_err(|error| self.failed(error))?;
        let writer = self.writer.insert(writer);
        self.signing.prepare(writer);
        let written = facts.iter().try_for_each(|fact| writer.append_fact(fact));
        written.map_err(|error| self.failed(error))
    }

    fn end_file(&mut self, end: EndFact) -> anyhow::Result<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let (sink, statement) = writer.close(end).map_err(|error| self.failed(error))?;
        self.signing.keep(&statement).map_err(|error| self.failed(error))?;
        if let Some(acquisition) = &mut self.manifest.acquisition {
            acquisition.previous = Some(ParentFile {
                recording: statement.recording.to_string(),
                hash: hex(&statement.hash),
            });
        }
        sink.sync().map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> anyhow::Error {
        let place = self.path.display();
        let what = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => format!(
                "recording stopped, disk full: {place} keeps what was recorded until then; \
                 free space, or bound it with --rotate-size and --keep"
            ),
            io::ErrorKind::FileTooLarge => format!(
                "recording stopped, file too large: {place} keeps what was recorded until then; \
                 use --rotate-size"
            ),
            _ => format!("recording stopped: cannot write to {place}; what was written is kept"),
        };
        anyhow::Error::new(error).context(what)
    }
}

impl Store for Stream {
    fn append(&mut self, batch: &mut Batch) -> anyhow::Result<()> {
        for fact in &batch.facts {
            self.carry.learn(fact);
            if let Fact::End(end) = fact {
                self.end = Some(end.clone());
            }
        }
        let Some(writer) = self.writer.as_mut() else { return Ok(()) };
        let written = append_to(writer, batch, &self.loss_before);
        written.map_err(|error| self.failed(error))?;
        self.last = batch
            .events
            .iter()
            .map(|event| event.at)
            .max()
            .max(Some(self.last))
            .unwrap_or_default();
        self.tally.count(batch);
        Ok(())
    }

    fn tick(&mut self) -> anyhow::Result<()> {
        let Some(writer) = self.writer.as_mut() else { return Ok(()) };
        let mut flushed = Ok(());
        if self.flushed.elapsed() >= FLUSH_EVERY {
            flushed = writer.flush_frame();
            self.flushed = Instant::now();
        }
        if flushed.is_ok() && self.signing.due(self.checked) {
            flushed = self.signing.checkpoint(writer);
            self.checked = Instant::now();
        }
        let full = self.rotation.due(writer.written(), self.opened.elapsed());
        flushed.map_err(|error| self.failed(error))?;
        if full {
            let end =
                EndFact { at: self.last.0, reason: "rotated".to_owned(), ..EndFact::default() };
            self.end_file(end)?;
            self.start_file()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        let end = self.end.take().unwrap_or_default();
        self.end_file(end)
    }
}

/// Appends a batch without its end fact, and with its loss counted from `loss_before`.
pub(super) fn append_to<W: Write>(
    writer: &mut Writer<W>,
    batch: &mut Batch,
    loss_before: &LossFact,
) -> io::Result<()> {
    for fact in &batch.facts {
        match fact {
            Fact::End(_) => {}
            Fact::Loss(loss) => {
                writer.append_fact(&Fact::Loss(loss_since(loss_before, loss)))?;
            }
            other => writer.append_fact(other)?,
        }
    }
    let facts = std::mem::take(&mut batch.facts);
    let written = writer.append(batch);
    batch.facts = facts;
    written
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
