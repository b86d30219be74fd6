//! Durations of one step, as whole and in batches of consecutive ones.

/// Batches kept at most; then pairs become one, twice as long.
const MOST: usize = 32;

/// Bits of a duration that its bucket keeps: within 1/32.
const MANTISSA: u32 = 5;

/// Durations counted by bucket, by rising bucket.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts(Vec<(u16, u64)>);

impl Counts {
    fn add(&mut self, bucket: u16, count: u64) {
        match self.0.binary_search_by_key(&bucket, |(known, _)| *known) {
            Ok(at) => self.0[at].1 += count,
            Err(at) => self.0.insert(at, (bucket, count)),
        }
    }

    fn merge(&mut self, other: &Self) {
        for &(bucket, count) in &other.0 {
            self.add(bucket, count);
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// The bucket that the share `quantile` of the durations does not exceed.
    pub(super) fn bucket_at(&self, quantile: f64) -> u16 {
        let rank = (self.total() as f64 * quantile).ceil().max(1.0) as u64;
        let mut seen = 0;
        let reached = self.0.iter().find(|(_, count)| {
            seen += count;
            seen >= rank
        });
        reached.map_or(0, |(bucket, _)| *bucket)
    }

    /// Share of durations above `bucket`.
    pub(super) fn share_above(&self, bucket: u16) -> f64 {
        let above: u64 = self.0.iter().filter(|(b, _)| *b > bucket).map(|(_, n)| n).sum();
        above as f64 / self.total().max(1) as f64
    }

    /// Probability that one of `other` is longer than one of these, ties halved.
    pub(super) fn exceeded_by(&self, other: &Self) -> f64 {
        let (mut below, mut twice) = (0_u64, 0_u128);
        let mut mine = self.0.iter().peekable();
        for &(bucket, count) in &other.0 {
            while let Some((_, n)) = mine.next_if(|(b, _)| *b < bucket) {
                below += n;
            }
            let tied = mine.peek().filter(|(b, _)| *b == bucket).map_or(0, |(_, n)| *n);
            twice += u128::from(count) * u128::from(2 * below + tied);
        }
        let pairs = u128::from(self.total()) * u128::from(other.total());
        twice as f64 / (2 * pairs.max(1)) as f64
    }
}

/// The bucket of a duration: rising, exact below 64 ns.
fn bucket(ns: u64) -> u16 {
    let bits = 64 - ns.leading_zeros();
    let shift = bits.saturating_sub(MANTISSA + 1);
    (shift << MANTISSA) as u16 + (ns >> shift) as u16
}

/// Durations in the order of their journeys' ends, in batches of equal number.
#[derive(Clone, Debug, Default)]
pub(super) struct Batches {
    full: Vec<Counts>,
    open: Counts,
    in_open: u64,
    /// Durations of a full batch, as a power of two.
    size: u32,
}

impl Batches {
    pub(super) fn add(&mut self, ns: u64) {
        self.open.add(bucket(ns), 1);
        self.in_open += 1;
        if self.in_open < 1 << self.size {
            return;
        }
        self.in_open = 0;
        self.full.push(std::mem::take(&mut self.open));
        if self.full.len() == MOST {
            let mut pairs = std::mem::take(&mut self.full).into_iter();
            while let (Some(mut first), Some(second)) = (pairs.next(), pairs.next()) {
                first.merge(&second);
                self.full.push(first);
            }
            self.size += 1;
        }
    }

    /// Appends the batches of a step that is one with this when two recordings are compared.
    pub(super) fn append(&mut self, other: Self) {
        self.full.extend(other.full);
        self.open.merge(&other.open);
    }

    /// Batches; what has not filled one is part of the last.
    pub(super) fn finish(mut self) -> Vec<Counts> {
        match self.full.last_mut() {
            Some(last) => last.merge(&self.open),
            None if self.open.total() > 0 => self.full.push(self.open),
            None => {}
        }
        self.full
    }
}

/// All batches as one.
pub(super) fn whole(batches: &[Counts]) -> Counts {
    let mut all = Counts::default();
    for batch in batches {
        all.merge(batch);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_rise_and_are_narrow() {
        let mut last = (0, 0);
        for ns in (0..200_000).chain((18..64).map(|bit| 1 << bit)).chain([u64::MAX]) {
            let now = bucket(ns);
            assert!(now >= last.0, "{ns}");
            if now != last.0 {
                last = (now, ns);
            }
            assert!(ns - last.1 <= last.1 / 32, "{ns} shares a bucket with {}", last.1);
        }
    }

    #[test]
    fn batches_keep_every_duration_and_double_in_size() {
        let mut batches = Batches::default();
        for ns in 0..1000 {
            batches.add(ns);
        }
        let done = batches.finish();
        assert!((MOST / 2..MOST).contains(&done.len()), "{}", done.len());
        assert_eq!(whole(&done).total(), 1000);
        assert!(done.iter().all(|batch| batch.total() >= 32), "no batch is a remainder");
    }

    #[test]
    fn ranks_are_compared_pair_by_pair() {
        let counts = |list: &[u64]| {
            let mut counts = Counts::default();
            for ns in list {
                counts.add(bucket(*ns), 1);
            }
            counts
        };
        let (a, b) = (counts(&[1, 2, 3]), counts(&[2, 3, 9]));
        // Of nine pairs six are larger and two tie.
        let same = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(same(a.exceeded_by(&b), 7.0 / 9.0));
        assert!(same(b.exceeded_by(&a), 2.0 / 9.0));
        assert_eq!(b.bucket_at(0.5), bucket(3));
        assert!(same(b.share_above(bucket(2)), 2.0 / 3.0));
    }
}
