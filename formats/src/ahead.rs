//! Reading on while what was read is worked on.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use crate::{Batch, EventSource, Manifest, Progress, SourceError};

/// Batches read ahead at most: what bounds memory.
const BATCHES: usize = 4;

type Filled = Result<(Batch, Progress), SourceError>;

/// A source that another thread reads ahead of its user. The batches are those of the source.
pub(crate) struct Ahead {
    manifest: Manifest,
    filled: Receiver<Filled>,
    /// Batches to be used again.
    spent: Sender<Batch>,
    ended: bool,
}

impl Ahead {
    /// Starts reading.
    pub(crate) fn new(source: Box<dyn EventSource + Send>) -> Result<Self, SourceError> {
        let manifest = source.manifest().clone();
        let (send, filled) = sync_channel(BATCHES);
        let (spent, back) = channel();
        std::thread::Builder::new()
            .name("reader".to_owned())
            .spawn(move || read(source, &send, &back))
            .map_err(|error| SourceError::io("cannot start a thread to read with", error))?;
        Ok(Self { manifest, filled, spent, ended: false })
    }
}

fn read(
    mut source: Box<dyn EventSource + Send>,
    send: &SyncSender<Filled>,
    back: &Receiver<Batch>,
) {
    loop {
        let mut batch = back.try_recv().unwrap_or_default();
        batch.clear();
        let filled = source.fill(&mut batch);
        let over = !matches!(filled, Ok(Progress::More | Progress::Idle));
        // Nobody listens any more when the user was dropped.
        if send.send(filled.map(|progress| (batch, progress))).is_err() || over {
            return;
        }
    }
}

impl EventSource for Ahead {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn fill(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        if self.ended {
            return Ok(Progress::End);
        }
        let filled = self
            .filled
            .recv()
            .unwrap_or_else(|_| Err(SourceError::data("reading stopped: its thread is gone")));
        self.ended = !matches!(filled, Ok((_, Progress::More | Progress::Idle)));
        let (read, progress) = filled?;
        // The reader may be done and gone; then nobody needs the old one.
        let _ = self.spent.send(std::mem::replace(batch, read));
        Ok(progress)
    }
}
