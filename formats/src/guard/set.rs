//! Sets of values of one key.

/// Which values of a key a row accepts, and whether it accepts packets without one.
///
/// Ranges include both ends, are sorted, and neither overlap nor touch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ValueSet {
    ranges: Vec<(u128, u128)>,
    absent: bool,
}

impl ValueSet {
    /// The values in `ranges`, given in any order; packets without a value are out.
    pub fn new(mut ranges: Vec<(u128, u128)>) -> Self {
        ranges.retain(|(from, to)| from <= to);
        ranges.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (from, to) in ranges {
            match merged.last_mut() {
                Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        Self { ranges: merged, absent: false }
    }

    /// Every value up to `max`.
    pub fn any(max: u128) -> Self {
        Self { ranges: vec![(0, max)], absent: false }
    }

    /// The ranges.
    pub fn ranges(&self) -> &[(u128, u128)] {
        &self.ranges
    }

    /// Whether packets without a value are in.
    pub fn absent(&self) -> bool {
        self.absent
    }

    /// Nothing is in.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty() && !self.absent
    }

    /// Everything is in, of a key whose greatest value is `max`.
    pub fn is_everything(&self, max: u128) -> bool {
        self.absent && self.ranges == [(0, max)]
    }

    /// Whether this value (or the lack of one) is in.
    pub fn contains(&self, value: Option<u128>) -> bool {
        let Some(value) = value else { return self.absent };
        let after = self.ranges.partition_point(|(from, _)| *from <= value);
        after > 0 && self.ranges[after - 1].1 >= value
    }

    /// Everything else.
    #[must_use]
    pub fn complement(&self, max: u128) -> Self {
        let mut ranges = Vec::with_capacity(self.ranges.len() + 1);
        let mut next = Some(0);
        for &(from, to) in &self.ranges {
            if let Some(start) = next.filter(|start| *start < from) {
                ranges.push((start, from - 1));
            }
            next = to.checked_add(1).filter(|after| *after <= max);
        }
        if let Some(start) = next {
            ranges.push((start, max));
        }
        Self { ranges, absent: !self.absent }
    }

    /// What is in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let (mut left, mut right) = (self.ranges.iter().peekable(), other.ranges.iter().peekable());
        let mut ranges = Vec::new();
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            let (from, to) = (a.0.max(b.0), a.1.min(b.1));
            if from <= to {
                ranges.push((from, to));
            }
            if a.1 <= b.1 {
                left.next();
            } else {
                right.next();
            }
        }
        Self { ranges, absent: self.absent && other.absent }
    }

    /// What is in either.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        let mut both = Self::new([&self.ranges[..], &other.ranges[..]].concat());
        both.absent = self.absent || other.absent;
        both
    }
}
