//! Volume over time in bins that widen as the recording grows.

use psc_formats::{Event, EventKind};

use crate::engine::{ClosedJourney, Lineage};
use crate::first_sight::Direction;
use crate::view::analyze;

/// At most this many bins are kept; then neighbours are joined.
const BINS: usize = 600;

/// Narrowest bin, nanoseconds.
const NARROWEST: u64 = 1_000_000;

#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    ingress: u64,
    egress: u64,
    unknown: u64,
    bytes: u64,
    drops: u64,
}

/// A packet counts as ingress where the stack first received it and as egress where the stack first
/// sent it; one that crosses a veth is both, and its bytes count once.
#[derive(Debug)]
pub(super) struct Series {
    start: Option<u64>,
    width: u64,
    /// Widths go 1, 2, 10, 20, 100... so that axes read well.
    doubles: bool,
    bins: Vec<Bin>,
}

impl Default for Series {
    fn default() -> Self {
        Self { start: None, width: NARROWEST, doubles: true, bins: Vec::new() }
    }
}

impl Series {
    /// Every event passes here in time order, so the first one sets the start.
    pub(super) fn begin(&mut self, at: u64) {
        self.start.get_or_insert(at);
    }

    pub(super) fn captured(&mut self, event: &Event) {
        let Some(direction) = Direction::of(&event.kind) else { return };
        let bin = self.bin(event.at.0);
        *bin.of(direction) += 1;
        bin.bytes += u64::from(event.len);
    }

    pub(super) fn journey(&mut self, journey: &ClosedJourney) {
        if journey.clone {
            return;
        }
        let segment = journey.lineage.iter().any(|edge| edge.how == Lineage::Segment);
        let first = |direction: Direction| {
            journey.steps.iter().find(|event| {
                !matches!(event.kind, EventKind::Captured { .. })
                    && Direction::of(&event.kind) == Some(direction)
                    // Segments were one skb when that was queued, and counted there.
                    && !(segment && direction == Direction::Egress)
            })
        };
        let passages = [Direction::Ingress, Direction::Egress].map(|d| (d, first(d)));
        for (direction, event) in passages {
            if let Some(event) = event {
                *self.bin(event.at.0).of(direction) += 1;
            }
        }
        let earliest = passages.iter().filter_map(|(_, e)| *e).min_by_key(|e| e.at);
        // The bytes of a segment or copy are those of what it was made from.
        if let Some(event) = earliest
            && !journey.is_cut_or_copied()
        {
            self.bin(event.at.0).bytes += u64::from(event.len);
        }
    }

    pub(super) fn drops(&mut self, at: u64, count: u64) {
        let bin = self.bin(at);
        bin.drops = bin.drops.saturating_add(count);
    }

    fn bin(&mut self, at: u64) -> &mut Bin {
        let offset = at.saturating_sub(*self.start.get_or_insert(at));
        while offset / self.width >= BINS as u64 {
            let factor = if self.doubles { 2 } else { 5 };
            self.doubles = !self.doubles;
            self.width = self.width.saturating_mul(factor);
            self.bins = self
                .bins
                .chunks(factor as usize)
                .map(|chunk| chunk.iter().fold(Bin::default(), Bin::plus))
                .collect();
        }
        let index = (offset / self.width) as usize;
        if self.bins.len() <= index {
            self.bins.resize(index + 1, Bin::default());
        }
        &mut self.bins[index]
    }

    pub(super) fn view(&self) -> analyze::Series {
        let column = |pick: fn(&Bin) -> u64| self.bins.iter().map(pick).collect();
        analyze::Series {
            start: self.start.unwrap_or(0),
            bin_ns: self.width,
            ingress: column(|b| b.ingress),
            egress: column(|b| b.egress),
            unknown: column(|b| b.unknown),
            bytes: column(|b| b.bytes),
            drops: column(|b| b.drops),
        }
    }
}

impl Bin {
    fn of(&mut self, direction: Direction) -> &mut u64 {
        match direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
            Direction::Unknown => &mut self.unknown,
        }
    }

    fn plus(self, other: &Self) -> Self {
        Self {
            ingress: self.ingress + other.ingress,
            egress: self.egress + other.egress,
            unknown: self.unknown + other.unknown,
            bytes: self.bytes + other.bytes,
            drops: self.drops.saturating_add(other.drops),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn widening_loses_nothing_and_widths_read_well() {
        for (span_ns, width_ns) in [
            (599_000_000_u64, 1_000_000_u64),
            (600_000_000, 2_000_000),
            (3_600_000_000_000, 10_000_000_000),
            (u64::MAX / 2, 20_000_000_000_000_000),
        ] {
            let mut series = Series::default();
            let packets = 1000;
            for n in 0..=packets {
                let at = 5 + span_ns / packets * n;
                let at = if n == packets { 5 + span_ns } else { at };
                series.begin(at);
                series.captured(
                    &sample::event(at, EventKind::Captured { direction: (n % 3) as u8 })
                        .len(10)
                        .into(),
                );
            }
            let view = series.view();
            assert_eq!((view.start, view.bin_ns), (5, width_ns), "{span_ns}");
            let sum = |v: &[u64]| v.iter().sum::<u64>();
            assert_eq!(sum(&view.ingress) + sum(&view.egress) + sum(&view.unknown), packets + 1);
            assert_eq!(sum(&view.ingress), 334, "1, 4, ... 1000");
            assert_eq!(sum(&view.bytes), 10 * (packets + 1));
            assert!(view.bytes.len() <= BINS);
        }
    }

    #[test]
    fn a_veth_crossing_is_both_directions_and_its_bytes_once() {
        let mut series = Series::default();
        series.begin(0);
        let steps = [
            sample::event(0, EventKind::DeviceQueue {}).device(1).len(100),
            sample::event(1, EventKind::TransmitStart {}).device(1).len(100),
            sample::event(7_000_000, EventKind::Receive {}).device(2).len(86),
        ];
        series.journey(&sample::journey(1, steps.map(Into::into).to_vec()));
        let view = series.view();
        assert_eq!(view.egress, [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(view.ingress, [0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(view.bytes.iter().sum::<u64>(), 100);
    }
}
