//! How long packets wait in a device's queue, and how small the segments of a stream are cut.

use psc_formats::event::DeviceId;
use psc_formats::packet::Headers;
use psc_formats::{Event, EventKind, FiveTuple};

use super::{KEYS, Times};
use crate::bounded::{Bounded, Top};
use crate::engine::ClosedJourney;

/// A packet that waits longer stands in a queue that is too long for its rate: twenty times what CoDel aims
/// at (RFC 8289 section 4.4), and what a person notices.
pub(in crate::diagnosis) const LONG_NS: u64 = 100_000_000;

/// Flows remembered of one queue.
const FLOWS: usize = 64;

/// Packets that waited long at one device.
#[derive(Clone, Debug)]
pub(in crate::diagnosis) struct Wait {
    pub(in crate::diagnosis) times: Times,
    /// The longest wait, nanoseconds.
    pub(in crate::diagnosis) longest: u64,
    pub(in crate::diagnosis) flows: Top<FiveTuple>,
}

/// Waits by device, and the sizes of segments.
#[derive(Debug)]
pub(in crate::diagnosis) struct Waits {
    long: Bounded<DeviceId, Wait>,
    /// Largest segments that a sender's stack cut for each direction of a connection, bytes, and how many.
    cut: Bounded<FiveTuple, (u16, u64)>,
}

impl Default for Waits {
    fn default() -> Self {
        Self { long: Bounded::new(KEYS), cut: Bounded::new(KEYS) }
    }
}

impl Waits {
    /// A packet on its way, told once: the size that it is to be cut to.
    pub(super) fn packet(&mut self, event: &Event, headers: &Headers) {
        if event.gso.size > 0
            && event.gso.segs > 1
            && let Some(tuple) = headers.tuple()
        {
            let cut = self.cut.entry_or_forget(tuple, || (0, 0));
            cut.0 = cut.0.max(event.gso.size);
            cut.1 += u64::from(event.gso.segs);
        }
    }

    pub(super) fn journey(&mut self, journey: &ClosedJourney) {
        let mut queued: Option<(DeviceId, u64)> = None;
        for step in &journey.steps {
            match (&step.kind, queued) {
                (EventKind::DeviceQueue {}, _) => queued = Some((step.device, step.at.0)),
                (EventKind::TransmitStart {}, Some((device, since))) if device == step.device => {
                    queued = None;
                    let waited = step.at.0.saturating_sub(since);
                    if waited < LONG_NS {
                        continue;
                    }
                    let wait = self.long.entry_or_forget(device, || Wait {
                        times: Times::default(),
                        longest: 0,
                        flows: Top::new(FLOWS),
                    });
                    wait.times.add(step.at.0, 1, Some(journey.id.0));
                    wait.longest = wait.longest.max(waited);
                    let tuple = journey.headers.first().and_then(|(_, headers)| headers.tuple());
                    if let Some(tuple) = tuple.or(journey.flow) {
                        wait.flows.add(tuple, 1);
                    }
                }
                _ => {}
            }
        }
    }

    pub(in crate::diagnosis) fn long(&self) -> Vec<(&DeviceId, &Wait)> {
        super::sorted(&self.long)
    }

    /// The largest segment that was cut for packets of this direction, bytes, and how many were.
    pub(in crate::diagnosis) fn cut(&self, tuple: FiveTuple) -> Option<(u16, u64)> {
        self.cut.get(&tuple).copied()
    }
}
