//! `-t FROM..TO` against a recording: where the first event is, and what the range means then.

use std::collections::VecDeque;

use anyhow::Context;
use psc_formats::{Batch, EventSource, Manifest, Ns, Progress, SourceError};

use crate::cli::TimeRange;
use crate::cli::values::TimePoint;

/// Events looked at to find the first one when the source promises no order: more than any
/// reordering that captures show, and few enough to hold.
const MOST_EVENTS: usize = 1 << 16;

/// A source of which the beginning has been read already, to be given out first.
pub(crate) struct Rewound {
    source: Box<dyn EventSource>,
    head: VecDeque<Batch>,
    ended: bool,
}

impl Rewound {
    /// A source of which nothing has been read.
    pub(crate) fn new(source: Box<dyn EventSource>) -> Self {
        Self { source, head: VecDeque::new(), ended: false }
    }

    /// Time of the first event, `None` when there is none. Reads until no earlier one can come.
    ///
    /// The result does not depend on how the source cuts its batches: it is the least time of all
    /// events, or of the first [`MOST_EVENTS`] when the source promises nothing.
    fn first(&mut self) -> Result<Option<Ns>, SourceError> {
        let mut first: Option<Ns> = None;
        let mut seen = 0;
        while !self.ended && seen < MOST_EVENTS {
            let mut batch = Batch::default();
            self.ended = self.source.fill(&mut batch)? == Progress::End;
            let room = MOST_EVENTS - seen;
            let least = batch.events.iter().take(room).map(|event| event.at).min();
            first = first.into_iter().chain(least).min();
            seen += batch.events.len();
            let settled = matches!((batch.complete_to, first), (Some(to), Some(at)) if at < to);
            self.head.push_back(batch);
            if settled {
                break;
            }
        }
        Ok(first)
    }

    /// What the range means in this source: `[from, to)` on its clock.
    pub(crate) fn resolve(
        &mut self,
        range: &TimeRange,
    ) -> anyhow::Result<(Option<Ns>, Option<Ns>)> {
        let relative = |point: Option<TimePoint>| matches!(point, Some(TimePoint::SinceStart(_)));
        let start = if relative(range.from) || relative(range.to) {
            self.first().context("cannot find the first event for -t")?.unwrap_or_default()
        } else {
            Ns(0)
        };
        let manifest = self.source.manifest();
        Ok((
            range.from.map(|point| on_clock(point, start, manifest)),
            range.to.map(|point| on_clock(point, start, manifest)),
        ))
    }
}

fn on_clock(point: TimePoint, start: Ns, manifest: &Manifest) -> Ns {
    match point {
        TimePoint::SinceStart(ns) => Ns(start.0.saturating_add(ns)),
        TimePoint::Epoch(ns) => {
            let ns = ns.saturating_sub(i128::from(manifest.clock.realtime_offset_ns));
            Ns(u64::try_from(ns.max(0)).unwrap_or(u64::MAX))
        }
    }
}

impl EventSource for Rewound {
    fn manifest(&self) -> &Manifest {
        self.source.manifest()
    }

    fn fill(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        if let Some(head) = self.head.pop_front() {
            *batch = head;
            let done = self.ended && self.head.is_empty();
            return Ok(if done { Progress::End } else { Progress::More });
        }
        if self.ended {
            return Ok(Progress::End);
        }
        self.source.fill(batch)
    }

    fn position(&self) -> Option<(u64, u64)> {
        self.source.position()
    }
}

#[cfg(test)]
mod tests {
    use psc_formats::manifest::Clock;
    use psc_formats::{Context, Event, EventKind, Gso, ProbeId, SkbAddr, SockId, Stack};

    use super::*;

    /// Gives its events out `step` at a time.
    struct Listed {
        manifest: Manifest,
        events: Vec<Event>,
        step: usize,
        promise: bool,
    }

    impl EventSource for Listed {
        fn manifest(&self) -> &Manifest {
            &self.manifest
        }
        fn fill(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
            let step = self.step.min(self.events.len());
            batch.events.extend(self.events.drain(..step));
            if self.promise {
                batch.complete_to = self.events.iter().map(|event| event.at).min();
            }
            Ok(if self.events.is_empty() { Progress::End } else { Progress::More })
        }
    }

    fn event(at: u64) -> Event {
        Event {
            at: Ns(at),
            cpu: 0,
            seq: 0,
            probe: ProbeId(0),
            skb: SkbAddr(0),
            sock: SockId(0),
            device: psc_formats::event::DeviceId(0),
            iif: 0,
            len: 0,
            gso: Gso::default(),
            stack: Stack::default(),
            context: Context::Unknown,
            packet: None,
            content: 0,
            kind: EventKind::Receive {},
        }
    }

    #[test]
    fn relative_ranges_count_from_the_earliest_event_at_any_batch_size() {
        let range: TimeRange = "1us..2us".parse().unwrap();
        for step in 1..=6 {
            for promise in [false, true] {
                let events = [5_300, 5_100, 5_000, 5_200, 7_000].map(event).to_vec();
                let source = Listed { manifest: Manifest::default(), events, step, promise };
                let mut source = Rewound::new(Box::new(source));
                let resolved = source.resolve(&range).unwrap();
                assert_eq!(resolved, (Some(Ns(6_000)), Some(Ns(7_000))), "{step} {promise}");
                let mut seen = Vec::new();
                loop {
                    let mut batch = Batch::default();
                    let progress = source.fill(&mut batch).unwrap();
                    seen.extend(batch.events.iter().map(|event| event.at.0));
                    if progress == Progress::End {
                        break;
                    }
                }
                assert_eq!(seen, [5_300, 5_100, 5_000, 5_200, 7_000], "nothing is lost or moved");
            }
        }
    }

    #[test]
    fn absolute_times_are_moved_to_the_recordings_clock() {
        let manifest = Manifest {
            clock: Clock { realtime_offset_ns: 1_000_000_000, ..Clock::default() },
            ..Manifest::default()
        };
        let range: TimeRange = "1970-01-01T00:00:00Z..1970-01-01T00:00:03Z".parse().unwrap();
        let source = Listed { manifest, events: Vec::new(), step: 1, promise: false };
        let resolved = Rewound::new(Box::new(source)).resolve(&range).unwrap();
        assert_eq!(resolved, (Some(Ns(0)), Some(Ns(2_000_000_000))));
    }
}
