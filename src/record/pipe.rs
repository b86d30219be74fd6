//! Between the thread that empties the kernel's ring and the one that writes: a bounded channel of
//! batches. When writing falls behind, the channel fills, then the kernel's ring fills, and what is
//! lost is counted there; memory does not grow.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use psc_formats::{Batch, EventSource, Manifest, Progress, SourceError};

/// Batches that may wait. A batch is what one pass over the ring gave, at most some MiB.
const DEPTH: usize = 16;

/// How long the reading end waits before it says that it is quiet.
const QUIET: Duration = Duration::from_millis(100);

/// Memory that an empty batch may keep when it is reused; a larger one is given back.
const KEPT_BYTES: usize = 8 << 20;

/// The end that is fed.
pub(super) struct Feed {
    full: SyncSender<Batch>,
    empty: Receiver<Batch>,
}

/// The end that is read: a source.
pub(super) struct Piped {
    manifest: Manifest,
    full: Receiver<Batch>,
    empty: SyncSender<Batch>,
}

/// Nobody reads the other end any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Closed;

/// A channel of batches that were made as `manifest` says.
pub(super) fn channel(manifest: Manifest) -> (Feed, Piped) {
    let (full, full_end) = sync_channel(DEPTH);
    let (empty_end, empty) = sync_channel(DEPTH);
    (Feed { full, empty }, Piped { manifest, full: full_end, empty: empty_end })
}

impl Feed {
    /// A cleared batch, with the memory of one that has been written when there is one.
    pub(super) fn batch(&self) -> Batch {
        self.empty.try_recv().unwrap_or_default()
    }

    /// Hands a batch over; waits while the channel is full.
    pub(super) fn send(&self, batch: Batch) -> Result<(), Closed> {
        self.full.send(batch).map_err(|_| Closed)
    }
}

impl EventSource for Piped {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn fill(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        match self.full.recv_timeout(QUIET) {
            Ok(filled) => {
                let mut spent = std::mem::replace(batch, filled);
                spent.clear();
                if spent.bytes.capacity() <= KEPT_BYTES {
                    match self.empty.try_send(spent) {
                        Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
                    }
                }
                Ok(Progress::More)
            }
            Err(RecvTimeoutError::Timeout) => Ok(Progress::Idle),
            Err(RecvTimeoutError::Disconnected) => Ok(Progress::End),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_arrive_in_order_and_then_the_end() {
        let (feed, mut piped) = channel(Manifest::default());
        for length in 1..4 {
            let mut batch = feed.batch();
            batch.bytes.resize(length, 0);
            feed.send(batch).unwrap();
        }
        let mut batch = Batch::default();
        for length in 1..4 {
            assert_eq!(piped.fill(&mut batch).unwrap(), Progress::More);
            assert_eq!(batch.bytes.len(), length);
        }
        assert!(feed.batch().bytes.is_empty(), "a reused batch is clean");
        batch.clear();
        assert_eq!(piped.fill(&mut batch).unwrap(), Progress::Idle);
        drop(feed);
        assert_eq!(piped.fill(&mut batch).unwrap(), Progress::End);
    }

    #[test]
    fn a_reader_that_is_gone_is_noticed() {
        let (feed, piped) = channel(Manifest::default());
        drop(piped);
        assert_eq!(feed.send(Batch::default()), Err(Closed));
    }
}
