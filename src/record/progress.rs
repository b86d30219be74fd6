//! What the person at the terminal sees while recording, and the last word.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use psc_formats::Batch;
use psc_formats::fact::{Fact, LossFact};

/// How often the line is drawn.
const EVERY: Duration = Duration::from_secs(1);

/// Counts shared by the thread that drains the kernel and the one that writes.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Events stored.
    pub(super) events: AtomicU64,
    /// Packets stored with bytes.
    pub(super) packets: AtomicU64,
    /// Events lost by the recorder so far.
    pub(super) lost: AtomicU64,
    /// Events left out by the filter.
    pub(super) filtered: AtomicU64,
    /// Events of flows left out to keep within the budget.
    pub(super) shed: AtomicU64,
    /// Events counted instead of stored.
    pub(super) aggregated: AtomicU64,
    /// Bytes written, over all files.
    pub(super) bytes: AtomicU64,
}

impl Tally {
    /// Counts a batch that is about to be stored.
    pub(super) fn count(&self, batch: &Batch) {
        let packets = batch.events.iter().filter(|event| event.packet.is_some()).count();
        self.events.fetch_add(batch.events.len() as u64, Ordering::Relaxed);
        self.packets.fetch_add(packets as u64, Ordering::Relaxed);
        for fact in &batch.facts {
            if let Fact::Loss(loss) = fact {
                self.lost.store(lost(loss), Ordering::Relaxed);
                self.filtered.store(loss.filtered, Ordering::Relaxed);
                self.shed.store(loss.shed, Ordering::Relaxed);
                self.aggregated.store(loss.aggregated, Ordering::Relaxed);
            }
        }
    }
}

/// Events that the recorder wanted and does not have.
pub(super) fn lost(loss: &LossFact) -> u64 {
    loss.ring_full.iter().sum::<u64>() + loss.recursion.values().sum::<u64>()
}

/// One line on stderr, drawn over each second.
pub(super) struct Line {
    shown: bool,
    started: Instant,
    last: Instant,
    last_events: u64,
    drawn: bool,
}

impl Line {
    /// Draws when `shown`; counts time in any case.
    pub(super) fn new(shown: bool) -> Self {
        let now = Instant::now();
        Self { shown, started: now, last: now, last_events: 0, drawn: false }
    }

    /// Draws the line if a second has passed.
    pub(super) fn tick(&mut self, tally: &Tally) {
        let since = self.last.elapsed();
        if !self.shown || since < EVERY {
            return;
        }
        let events = tally.events.load(Ordering::Relaxed);
        let rate = (events - self.last_events) as f64 / since.as_secs_f64();
        let line = format!(
            "{:>6.0?}  {} events  {}/s  lost {}  {}",
            Duration::from_secs(self.started.elapsed().as_secs()),
            psc_reports::units::count(events),
            psc_reports::units::count(rate.round() as u64),
            psc_reports::units::count(tally.lost.load(Ordering::Relaxed)),
            psc_reports::units::bytes(tally.bytes.load(Ordering::Relaxed)),
        );
        let _ = write!(io::stderr(), "\r\x1b[K{line}");
        let _ = io::stderr().flush();
        (self.last, self.last_events, self.drawn) = (Instant::now(), events, true);
    }

    /// Takes the line away, so that messages start at the left.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// The last word: what was recorded, what was lost, how large it is.
pub(super) fn summary(tally: &Tally, place: &str, took: Duration, reason: &str) -> String {
    use psc_reports::units::{bytes, count, percent};
    let events = tally.events.load(Ordering::Relaxed);
    let lost = tally.lost.load(Ordering::Relaxed);
    let filtered = tally.filtered.load(Ordering::Relaxed);
    let aggregated = tally.aggregated.load(Ordering::Relaxed);
    let size = tally.bytes.load(Ordering::Relaxed);
    let mut parts = vec![match lost {
        0 => "no event lost".to_owned(),
        lost => format!("lost {} events ({})", count(lost), percent(lost, events + lost)),
    }];
    if filtered > 0 {
        parts.push(format!("{} left out by filter", count(filtered)));
    }
    let shed = tally.shed.load(Ordering::Relaxed);
    if shed > 0 {
        parts.push(format!("{} left out to keep within the budget", count(shed)));
    }
    if aggregated > 0 {
        parts.push(format!("{} counted only", count(aggregated)));
    }
    parts.push(bytes(size));
    if events > 0 {
        parts.push(format!("{:.1} bytes/event", size as f64 / events as f64));
    }
    format!(
        "{place}: {} events, {} packets in {:.1} s ({reason}); {}",
        count(events),
        count(tally.packets.load(Ordering::Relaxed)),
        took.as_secs_f64(),
        parts.join(", "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_what_was_lost_and_left_out() {
        let tally = Tally::default();
        tally.events.store(900, Ordering::Relaxed);
        tally.bytes.store(9_000, Ordering::Relaxed);
        let took = Duration::from_millis(1_500);
        let line = summary(&tally, "a.psc", took, "signal");
        assert!(line.contains("no event lost") && line.contains("10.0 bytes/event"), "{line}");
        tally.lost.store(100, Ordering::Relaxed);
        tally.filtered.store(5, Ordering::Relaxed);
        let line = summary(&tally, "a.psc", took, "signal");
        assert!(line.contains("lost 100 events (10"), "{line}");
        assert!(line.contains("5 left out by filter"), "{line}");
    }
}
