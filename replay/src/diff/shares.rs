//! Counts of kinds of journeys, as whole and by batches of consecutive journeys.

use std::hash::Hash;

use rustc_hash::FxHashMap;

/// Batches kept at most; then pairs become one, twice as long.
const MOST: usize = 32;

/// Kinds counted at most; journeys of further ones are only counted as journeys.
const MOST_KINDS: usize = 1 << 14;

/// One kind's count.
#[derive(Clone, Debug, Default)]
pub(super) struct Share {
    pub(super) count: u64,
    /// The first of the kind.
    pub(super) example: Option<u64>,
    batches: Vec<u64>,
}

impl Share {
    /// Adds a kind that is one with this when two recordings are compared.
    pub(super) fn append(&mut self, other: Self) {
        self.count += other.count;
        self.example = self.example.into_iter().chain(other.example).min();
        if self.batches.len() < other.batches.len() {
            self.batches.resize(other.batches.len(), 0);
        }
        self.batches.iter_mut().zip(other.batches).for_each(|(mine, theirs)| *mine += theirs);
    }
}

/// Counts of kinds.
#[derive(Debug)]
pub(super) struct Shares<K> {
    kinds: FxHashMap<K, Share>,
    total: u64,
    /// Journeys of a full batch, as a power of two.
    size: u32,
    /// Journeys whose kind was one too many.
    pub(super) uncounted: u64,
}

impl<K> Default for Shares<K> {
    fn default() -> Self {
        Self { kinds: FxHashMap::default(), total: 0, size: 0, uncounted: 0 }
    }
}

impl<K: Hash + Eq> Shares<K> {
    /// One journey of a kind, or of none.
    pub(super) fn add(&mut self, kind: Option<K>, example: u64) {
        let mut batch = (self.total >> self.size) as usize;
        if batch == MOST {
            for share in self.kinds.values_mut() {
                share.batches = share.batches.chunks(2).map(|pair| pair.iter().sum()).collect();
            }
            self.size += 1;
            batch /= 2;
        }
        self.total += 1;
        let Some(kind) = kind else { return };
        if let Some(share) = self.share(kind) {
            share.count += 1;
            // Journeys close out of order; the earliest is the example, whatever closed first.
            share.example = share.example.into_iter().chain([example]).min();
            if share.batches.len() <= batch {
                share.batches.resize(batch + 1, 0);
            }
            share.batches[batch] += 1;
        }
    }

    /// Journeys of a kind that were counted elsewhere and have no order.
    pub(super) fn add_counted(&mut self, kind: K, count: u64) {
        self.total = self.total.saturating_add(count);
        if let Some(share) = self.share(kind) {
            share.count += count;
        }
    }

    fn share(&mut self, kind: K) -> Option<&mut Share> {
        if self.kinds.len() >= MOST_KINDS && !self.kinds.contains_key(&kind) {
            self.uncounted += 1;
            return None;
        }
        Some(self.kinds.entry(kind).or_default())
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Kinds in no particular order.
    pub(super) fn into_kinds(self) -> impl Iterator<Item = (K, Share)> {
        self.kinds.into_iter()
    }

    /// The shape of the batches, for [`Batching::of`].
    pub(super) fn batching(&self) -> Batching {
        Batching { total: self.total, size: self.size }
    }
}

/// How journeys were cut into batches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batching {
    total: u64,
    size: u32,
}

impl Batching {
    /// A kind's share of each whole batch.
    pub(super) fn of(self, share: Option<&Share>) -> Vec<f64> {
        let whole = (self.total >> self.size) as usize;
        let count = |batch: usize| share.and_then(|share| share.batches.get(batch)).copied();
        let size = (1_u64 << self.size) as f64;
        (0..whole).map(|batch| count(batch).unwrap_or(0) as f64 / size).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_batches_survive_their_doubling() {
        let mut shares = Shares::default();
        for number in 0..1000_u64 {
            shares.add((number >= 500).then_some("late"), number);
        }
        let batching = shares.batching();
        let kinds: Vec<_> = shares.into_kinds().collect();
        let batches = batching.of(Some(&kinds[0].1));
        assert_eq!((kinds[0].1.count, kinds[0].1.example), (500, Some(500)));
        assert_eq!((batches.len(), batches[0], *batches.last().unwrap()), (31, 0.0, 1.0));
        assert!((batches.iter().sum::<f64>() - 15.375).abs() < 1e-9, "{batches:?}");
    }
}
