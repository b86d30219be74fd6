//! Several recordings on one time line.
//!
//! Clocks of hosts differ. What two recordings have in common is packets: one that both saw was received after it
//! was sent, so each bounds how far the clocks can be apart, from one side; answers bound it from the other. The
//! bounds are kept and shown, and where the clocks themselves say something that lies between, that is taken.

mod marks;
mod remap;

pub use marks::{Mark, Marks};
pub use remap::{Extent, Joint, Remap};

use psc_formats::Ns;

/// How far another recording's clock is from the first one's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offset {
    /// Nanoseconds to add to the other recording's times.
    pub chosen: i64,
    /// No less than this, by packets sent by the first host and received by the other.
    pub lower: Option<i64>,
    /// No more than this, by packets the other way.
    pub upper: Option<i64>,
    /// What the two recordings say of their clocks, when both say something.
    pub stated: Option<i64>,
    /// Packets found in both, from the first and to the first.
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
        let middle = |a: i64, b: i64| i64::midpoint(a, b);
        self.chosen = match (self.lower, self.upper, self.stated) {
            (Some(lower), Some(upper), Some(stated)) if (lower..=upper).contains(&stated) => stated,
            (Some(lower), Some(upper), _) => middle(lower, upper),
            (Some(lower), None, stated) => stated.map_or(lower, |stated| stated.max(lower)),
            (None, Some(upper), stated) => stated.map_or(upper, |stated| stated.min(upper)),
            (None, None, stated) => stated.unwrap_or(0),
        };
    }
}

/// A packet that two recordings saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Where it left.
    pub sent: Mark,
    /// Where it came.
    pub received: Mark,
    /// The first recording sent it.
    pub forward: bool,
}

/// Finds the packets that both saw, in the order in which they were sent, and how far the clocks are apart.
pub fn align(first: &Marks, other: &Marks, stated: Option<i64>) -> (Offset, Vec<Pair>) {
    let mut offset = Offset { stated, ..Offset::default() };
    let mut pairs = Vec::new();
    let apart = |a: Ns, b: Ns| a.0.wrapping_sub(b.0) as i64;
    for (sent, received) in first.common(other) {
        let bound = apart(sent.at, received.at);
        offset.lower = Some(offset.lower.map_or(bound, |lower| lower.max(bound)));
        offset.packets.0 += 1;
        pairs.push(Pair { sent, received, forward: true });
    }
    for (sent, received) in other.common(first) {
        let bound = apart(received.at, sent.at);
        offset.upper = Some(offset.upper.map_or(bound, |upper| upper.min(bound)));
        offset.packets.1 += 1;
        pairs.push(Pair { sent, received, forward: false });
    }
    offset.choose();
    pairs.sort_by_key(|pair| (pair.forward, pair.sent.at, pair.sent.cpu, pair.sent.seq));
    (offset, pairs)
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
}
