//! Where events come from.

use crate::{Event, Fact, Manifest, PacketRef};

/// Events with the packet bytes and facts that belong to them. Reused between calls.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Events in the order the source had them: per CPU by `seq`, CPUs in any order.
    pub events: Vec<Event>,
    /// Packet bytes that [`Event::packet`] points into.
    pub bytes: Vec<u8>,
    /// Facts that the events of this batch may refer to, in order; apply them first.
    pub facts: Vec<Fact>,
    /// Every event with `at` below this has been delivered (in this batch or before); a sorter may
    /// release up to here. `None`: nothing is promised yet.
    pub complete_to: Option<crate::Ns>,
}

impl Batch {
    /// Empties the batch, keeping its memory.
    pub fn clear(&mut self) {
        self.events.clear();
        self.bytes.clear();
        self.facts.clear();
        self.complete_to = None;
    }

    /// The bytes of a packet; empty when the reference does not fit this batch.
    pub fn packet(&self, packet: PacketRef) -> &[u8] {
        let start = packet.offset as usize;
        start
            .checked_add(packet.caplen as usize)
            .and_then(|end| self.bytes.get(start..end))
            .unwrap_or(&[])
    }
}

/// What [`EventSource::fill`] says about what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more at once.
    More,
    /// Live but quiet: call again later.
    Idle,
    /// Nothing will come any more.
    End,
}

/// Where events come from: archive, capture, live ring buffer or test vector.
///
/// A trait and not an `Iterator`: batches reuse memory, and quiet differs from finished.
pub trait EventSource {
    /// Clock, reason names, and which probes attached or failed.
    fn manifest(&self) -> &Manifest;

    /// Appends the next events, bytes and facts to `batch`, which the caller has cleared.
    fn fill(&mut self, batch: &mut Batch) -> Result<Progress, SourceError>;

    /// (done, total) in bytes of the underlying file, for progress bars; `None` when unknown.
    fn position(&self) -> Option<(u64, u64)> {
        None
    }
}

impl<S: EventSource + ?Sized> EventSource for Box<S> {
    fn manifest(&self) -> &Manifest {
        (**self).manifest()
    }
    fn fill(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        (**self).fill(batch)
    }
    fn position(&self) -> Option<(u64, u64)> {
        (**self).position()
    }
}

/// A source that cannot go on. Damage that reading can step over is a [`Fact::Notice`] instead.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct SourceError {
    what: String,
    #[source]
    cause: Option<std::io::Error>,
}

impl SourceError {
    /// An error in the data itself: what is wrong, where, and what to do next.
    pub fn data(what: impl Into<String>) -> Self {
        Self { what: what.into(), cause: None }
    }

    /// An input or output error, with what was being done.
    pub fn io(doing: impl Into<String>, cause: std::io::Error) -> Self {
        Self { what: doing.into(), cause: Some(cause) }
    }
}
