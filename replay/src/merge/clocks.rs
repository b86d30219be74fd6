//! How far the clocks of hosts are apart, by what each sent and the others received.
//!
//! A packet that left host i at `s` and came to host j at `r`, each on its own clock, says that j's offset less
//! i's is at least `s - r`. These are difference constraints: their longest paths are the tightest bounds (R.
//! Bellman, "On a routing problem", 1958; here by Floyd and Warshall, as hosts are few).

use psc_formats::Ns;

use super::marks::Marks;
use super::ways::{self, Pair};

/// How far another recording's clock is from the first one's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offset {
    /// Nanoseconds to add to the other recording's times.
    pub chosen: i64,
    /// No less than this, by packets that came to it, directly or by way of other hosts.
    pub lower: Option<i64>,
    /// No more than this, by packets that left it.
    pub upper: Option<i64>,
    /// What the two recordings say of their clocks, when both say something.
    pub stated: Option<i64>,
    /// Packets that came to it from another recording, and that left it for another.
    pub packets: (u64, u64),
}

impl Offset {
    /// The bounds exclude each other: a clock was stepped or drifted while recording, or packets were taken for
    /// each other.
    pub fn contradicts(&self) -> bool {
        matches!((self.lower, self.upper), (Some(lower), Some(upper)) if lower > upper)
    }

    /// How wrong `chosen` can be at most, nanoseconds; `None` when it is not bounded from both sides.
    pub fn uncertainty(&self) -> Option<u64> {
        let (lower, upper) = (self.lower?, self.upper?);
        Some(self.chosen.abs_diff(lower).max(self.chosen.abs_diff(upper)))
    }

    fn choose(&mut self) {
        self.chosen = within(self.lower, self.upper, self.stated);
    }
}

/// An offset between the bounds: what the clocks say where they allow it.
fn within(lower: Option<i64>, upper: Option<i64>, stated: Option<i64>) -> i64 {
    match (lower, upper, stated) {
        (Some(lower), Some(upper), Some(stated)) if (lower..=upper).contains(&stated) => stated,
        (Some(lower), Some(upper), _) => i64::midpoint(lower, upper),
        (Some(lower), None, stated) => stated.map_or(lower, |stated| stated.max(lower)),
        (None, Some(upper), stated) => stated.map_or(upper, |stated| stated.min(upper)),
        (None, None, stated) => stated.unwrap_or(0),
    }
}

/// Several recordings' clocks and the packets that they share.
#[derive(Clone, Debug, Default)]
pub struct Alignment {
    /// One for each recording; the first one's is nothing.
    pub offsets: Vec<Offset>,
    /// What left one and came to another.
    pub pairs: Vec<Pair>,
    bounds: Bounds,
}

impl Alignment {
    /// How much earlier and how much later than the chosen offsets say a packet that left `from` may have come
    /// to `to`, nanoseconds; `None` where nothing bounds it, or what does is contradicted.
    pub fn doubt(&self, from: usize, to: usize) -> (Option<u64>, Option<u64>) {
        let chosen = |host: usize| i128::from(self.offsets.get(host).map_or(0, |o| o.chosen));
        let apart = chosen(to) - chosen(from);
        let least = self.bounds.get(from, to);
        let most = self.bounds.get(to, from).map(|bound| -bound);
        if matches!((least, most), (Some(least), Some(most)) if least > most) {
            return (None, None);
        }
        let by = |distance: i128| u64::try_from(distance.max(0)).ok();
        (least.and_then(|least| by(apart - least)), most.and_then(|most| by(most - apart)))
    }
}

/// `get(i, j)`: the least that j's offset less i's can be.
#[derive(Clone, Debug, Default)]
struct Bounds {
    hosts: usize,
    least: Vec<Option<i128>>,
}

impl Bounds {
    fn new(hosts: usize) -> Self {
        Self { hosts, least: vec![None; hosts * hosts] }
    }

    fn get(&self, from: usize, to: usize) -> Option<i128> {
        self.least.get(from * self.hosts + to).copied().flatten()
    }

    fn raise(&mut self, from: usize, to: usize, least: i128) {
        if let Some(slot) = self.least.get_mut(from * self.hosts + to) {
            *slot = Some(slot.map_or(least, |known| known.max(least)));
        }
    }

    /// What follows from bounds by way of other hosts.
    fn close(&mut self) {
        for via in 0..self.hosts {
            for from in 0..self.hosts {
                for to in 0..self.hosts {
                    if from != to
                        && let (Some(there), Some(on)) = (self.get(from, via), self.get(via, to))
                    {
                        self.raise(from, to, there.saturating_add(on));
                    }
                }
            }
        }
    }
}

/// Finds the packets that left one recording and came to another, and how far the clocks are apart.
///
/// `stated` is, for each recording, what the clocks say their offset from the first one's is.
pub fn align(hosts: &[&Marks], stated: &[Option<i64>]) -> Alignment {
    let pairs = ways::pairs(hosts);
    let mut offsets = vec![Offset::default(); hosts.len()];
    let mut bounds = Bounds::new(hosts.len());
    let apart = |a: Ns, b: Ns| i128::from(a.0) - i128::from(b.0);
    for pair in &pairs {
        bounds.raise(pair.from, pair.to, apart(pair.sent.at, pair.received.at));
        offsets[pair.to].packets.0 += 1;
        offsets[pair.from].packets.1 += 1;
    }
    bounds.close();
    // Each choice narrows what the next can be, so bounds are followed again after each.
    let mut narrowed = bounds.clone();
    let short =
        |bound: i128| i64::try_from(bound).unwrap_or(if bound < 0 { i64::MIN } else { i64::MAX });
    for (host, offset) in offsets.iter_mut().enumerate().skip(1) {
        offset.stated = stated.get(host).copied().flatten();
        offset.lower = bounds.get(0, host).map(short);
        offset.upper = bounds.get(host, 0).map(|bound| short(-bound));
        offset.choose();
        if !offset.contradicts() {
            let lower = narrowed.get(0, host).map(short);
            let upper = narrowed.get(host, 0).map(|bound| short(-bound));
            offset.chosen = within(lower, upper, offset.stated);
        }
        let chosen = i128::from(offset.chosen);
        narrowed.raise(0, host, chosen);
        narrowed.raise(host, 0, -chosen);
        narrowed.close();
    }
    Alignment { offsets, pairs, bounds }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_what_the_clocks_say_where_causality_allows_it() {
        let cases = [
            (Some(10), Some(20), Some(15), 15),
            (Some(10), Some(20), Some(25), 15),
            (Some(10), Some(20), None, 15),
            (Some(10), None, Some(5), 10),
            (Some(10), None, Some(50), 50),
            (None, Some(20), Some(50), 20),
            (None, None, Some(7), 7),
            (None, None, None, 0),
        ];
        for (lower, upper, stated, chosen) in cases {
            let mut offset = Offset { lower, upper, stated, ..Offset::default() };
            offset.choose();
            assert_eq!(offset.chosen, chosen, "{offset:?}");
        }
        let wrong = Offset { lower: Some(2), upper: Some(1), ..Offset::default() };
        assert!(wrong.contradicts());
    }

    #[test]
    fn hosts_that_exchange_nothing_are_bounded_by_those_between() {
        // a - b - c in a line; b's clock is 100 behind, c's 1,000 ahead of a's.
        let mut bounds = Bounds::new(3);
        bounds.raise(0, 1, 95);
        bounds.raise(1, 0, -110);
        bounds.raise(1, 2, -1120);
        bounds.raise(2, 1, 1095);
        bounds.close();
        assert_eq!((bounds.get(0, 2), bounds.get(2, 0)), (Some(-1025), Some(985)));
        let offsets = [0, 100, -1000].map(|chosen| Offset { chosen, ..Offset::default() });
        let alignment = Alignment { offsets: offsets.to_vec(), pairs: Vec::new(), bounds };
        assert_eq!(alignment.doubt(0, 2), (Some(25), Some(15)));
        assert_eq!(alignment.doubt(1, 0), (Some(10), Some(5)));
        assert_eq!(alignment.doubt(2, 1), (Some(5), Some(20)));
    }
}
