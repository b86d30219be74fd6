//! `--ring`: the last seconds in memory, written when asked for.
//!
//! Each second is an archive of its own, encoded as it would be on disk, so that a minute of a busy
//! host fits where its events would not. Whole seconds fall off the old end.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use psc_formats::archive::{Reader, Writer};
use psc_formats::fact::{EndFact, Fact, NoticeFact, Severity};
use psc_formats::{Batch, EventSource, Manifest, Progress};

use super::carry::Carry;
use super::progress::Tally;
use super::rotation::Files;
use super::signals::Signals;
use super::signing::Signing;
use super::store::{Sink, Store, append_to};

/// How much time is one piece.
const PIECE: Duration = Duration::from_secs(1);

/// What a fact costs in memory beside the archive, about, in bytes.
const FACT_COST: usize = 512;

/// One piece of the past.
struct Piece {
    began: Instant,
    archive: Arc<Vec<u8>>,
    /// Facts of this piece, for when it falls off.
    facts: Vec<Fact>,
}

impl Piece {
    fn cost(&self) -> u64 {
        (self.archive.len() + self.facts.len() * FACT_COST) as u64
    }
}

/// Bytes that a reader and the ring share.
struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Where the final dump goes.
pub(super) enum Final {
    /// Standard output; SIGUSR1 has no file to write then.
    Stdout,
    /// The file that was named, and numbered ones beside it on SIGUSR1.
    Files {
        /// Written at the end.
        last: Files,
        /// Written on SIGUSR1.
        asked: Files,
    },
}

/// Keeps the last part and writes it when asked.
pub(super) struct Ring {
    manifest: Manifest,
    keep: Duration,
    memory: u64,
    pieces: VecDeque<Piece>,
    current: Writer<Vec<u8>>,
    current_began: Instant,
    current_facts: Vec<Fact>,
    /// What was known before the oldest piece.
    before: Carry,
    /// Pieces that fell off for lack of memory, younger than asked for.
    crowded_out: u64,
    pub(super) signals: Signals,
    tally: Arc<Tally>,
    target: Final,
    signing: Signing,
    end: Option<EndFact>,
    written: Vec<PathBuf>,
}

impl Ring {
    pub(super) fn new(
        manifest: Manifest,
        keep: Duration,
        memory: u64,
        signals: Signals,
        tally: Arc<Tally>,
        target: Final,
        signing: Signing,
    ) -> anyhow::Result<Self> {
        let current = Writer::new(Vec::new(), &manifest)?;
        Ok(Self {
            manifest,
            keep,
            memory,
            pieces: VecDeque::new(),
            current,
            current_began: Instant::now(),
            current_facts: Vec::new(),
            before: Carry::default(),
            crowded_out: 0,
            signals,
            tally,
            target,
            signing,
            end: None,
            written: Vec::new(),
        })
    }

    /// Where it is: in memory, then in files.
    pub(super) fn place(&self) -> String {
        match (&self.target, self.written.as_slice()) {
            (Final::Stdout, _) => "standard output".to_owned(),
            (Final::Files { .. }, []) => "memory".to_owned(),
            (Final::Files { .. }, [path]) => path.display().to_string(),
            (Final::Files { .. }, [.., path]) => {
                format!("{} files up to {}", self.written.len(), path.display())
            }
        }
    }

    /// Whether memory held less than what was asked for.
    pub(super) fn was_crowded(&self) -> bool {
        self.crowded_out > 0
    }

    pub(super) fn close_piece(&mut self) -> anyhow::Result<()> {
        let next = Writer::new(Vec::new(), &self.manifest)?;
        let writer = std::mem::replace(&mut self.current, next);
        let mut archive = writer.finish(EndFact::default())?;
        archive.shrink_to_fit();
        self.pieces.push_back(Piece {
            began: std::mem::replace(&mut self.current_began, Instant::now()),
            archive: Arc::new(archive),
            facts: std::mem::take(&mut self.current_facts),
        });
        self.forget();
        Ok(())
    }

    /// Lets pieces fall off that are too old, or too many for the memory.
    fn forget(&mut self) {
        let mut cost: u64 = self.pieces.iter().map(Piece::cost).sum();
        while let Some(oldest) = self.pieces.front() {
            // A piece is needed as long as its end is inside the window.
            let end = self.pieces.get(1).map_or(self.current_began, |next| next.began);
            let old = end.elapsed() >= self.keep;
            let crowded = cost > self.memory;
            if !old && !crowded {
                break;
            }
            self.crowded_out += u64::from(!old);
            cost -= oldest.cost();
            if let Some(piece) = self.pieces.pop_front() {
                piece.facts.iter().for_each(|fact| self.before.learn(fact));
            }
        }
        self.tally.bytes.store(cost, Ordering::Relaxed);
    }

    /// Writes what is held, oldest first, and goes on holding it.
    fn dump(&mut self, sink: Sink, end: EndFact) -> anyhow::Result<()> {
        let loss_before = self.before.loss();
        let mut writer = Writer::new(sink, &self.manifest)?;
        self.signing.prepare(&mut writer);
        for fact in self.before.facts() {
            writer.append_fact(&fact)?;
        }
        if self.crowded_out > 0 {
            writer.append_fact(&Fact::Notice(NoticeFact {
                at: 0,
                severity: Severity::DataLoss,
                text: "the ring's memory was full: it begins later than asked for (raise --ring-memory)"
                    .to_owned(),
                count: self.crowded_out,
            }))?;
        }
        let mut batch = Batch::default();
        for piece in &self.pieces {
            let mut reader = Reader::from_bytes(Shared(Arc::clone(&piece.archive)), "the ring")
                .context("cannot read back what was held in memory")?;
            loop {
                batch.clear();
                let progress = reader.fill(&mut batch).context("cannot read back the ring")?;
                append_to(&mut writer, &mut batch, &loss_before)?;
                if progress == Progress::End {
                    break;
                }
            }
        }
        let (sink, statement) = writer.close(end)?;
        self.signing.keep(&statement)?;
        sink.sync()?;
        Ok(())
    }

    fn dump_to_file(&mut self, at_end: bool, end: EndFact) -> anyhow::Result<()> {
        let (sink, name) = match &mut self.target {
            Final::Stdout => (Sink::to_stdout(Arc::default())?, PathBuf::from("standard output")),
            Final::Files { last, asked } => {
                let (file, path) = if at_end { last.create()? } else { asked.create()? };
                self.written.push(path.clone());
                (Sink::to_file(file, Arc::default()), path)
            }
        };
        self.dump(sink, end).with_context(|| {
            format!("cannot write the ring to {}; is there space?", name.display())
        })
    }
}

impl Store for Ring {
    fn append(&mut self, batch: &mut Batch) -> anyhow::Result<()> {
        for fact in &batch.facts {
            match fact {
                Fact::End(end) => self.end = Some(end.clone()),
                other => self.current_facts.push(other.clone()),
            }
        }
        append_to(&mut self.current, batch, &psc_formats::fact::LossFact::default())?;
        self.tally.count(batch);
        Ok(())
    }

    fn tick(&mut self) -> anyhow::Result<()> {
        if self.current_began.elapsed() >= PIECE {
            self.close_piece()?;
        }
        if self.signals.take_dump() && matches!(self.target, Final::Files { .. }) {
            self.close_piece()?;
            let end = EndFact { reason: "asked for by SIGUSR1".to_owned(), ..EndFact::default() };
            self.dump_to_file(false, end)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        self.close_piece()?;
        let end = self.end.take().unwrap_or_default();
        self.dump_to_file(true, end)
    }
}
