//! Distributions of round trips in bounded memory.

use crate::view::locate::Spread;

/// Samples kept for percentiles; beyond, every other one goes and half as many are taken.
const SAMPLES: usize = 512;

/// Round trips to one peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples {
    count: u64,
    min: u64,
    max: u64,
    /// Every `stride`-th sample, in order.
    kept: Vec<u64>,
    stride: u64,
    /// Welford's running mean and sum of squared differences.
    mean: f64,
    squares: f64,
    /// RFC 3550's running estimate and the sample before.
    jitter: f64,
    last: u64,
}

impl Samples {
    pub(super) fn add(&mut self, ns: u64) {
        if self.count.is_multiple_of(self.stride.max(1)) {
            self.kept.push(ns);
            if self.kept.len() == SAMPLES {
                self.thin();
            }
        }
        self.sum_up(ns);
    }

    /// All but keeping it.
    fn sum_up(&mut self, ns: u64) {
        if self.count == 0 {
            (self.min, self.max) = (ns, ns);
        } else {
            self.min = self.min.min(ns);
            self.max = self.max.max(ns);
            // J += (|D| - J) / 16, with D the difference of two consecutive transit times.
            self.jitter += (ns.abs_diff(self.last) as f64 - self.jitter) / 16.0;
        }
        self.last = ns;
        self.count += 1;
        let delta = ns as f64 - self.mean;
        self.mean += delta / self.count as f64;
        self.squares += delta * (ns as f64 - self.mean);
    }

    fn thin(&mut self) {
        let mut index = 0;
        self.kept.retain(|_| {
            index += 1;
            index % 2 == 1
        });
        self.stride = self.stride.max(1) * 2;
    }

    /// Adds another peer's or namespace's samples: jitter is the greater, the rest is exact but for
    /// thinning.
    pub(super) fn merge(&mut self, other: &Self) {
        self.merge_kept(other, &other.kept);
    }

    /// As [`Self::merge`], with what `other` keeps beside it.
    fn merge_kept(&mut self, other: &Self, kept: &[u64]) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = Self { kept: kept.to_vec(), ..*other };
            return;
        }
        let (n, m) = (self.count as f64, other.count as f64);
        let delta = other.mean - self.mean;
        self.squares += other.squares + delta * delta * n * m / (n + m);
        self.mean += delta * m / (n + m);
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.jitter = self.jitter.max(other.jitter);
        self.kept.extend_from_slice(kept);
        while self.kept.len() >= SAMPLES {
            self.thin();
        }
    }

    /// The least; `None` without a sample.
    pub(super) fn least(&self) -> Option<u64> {
        (self.count > 0).then_some(self.min)
    }

    /// The distribution; `None` without a sample.
    pub(super) fn spread(&self) -> Option<Spread> {
        let mut kept = self.kept.clone();
        kept.sort_unstable();
        // Nearest rank: the least value that a share `percent` does not exceed.
        let at = |percent: usize| {
            let rank = (kept.len() * percent).div_ceil(100).max(1);
            kept.get(rank - 1).copied()
        };
        let several = self.count > 1;
        let variance = self.squares.max(0.0) / self.count.saturating_sub(1) as f64;
        Some(Spread {
            samples: self.count,
            min: self.min,
            p50: at(50)?,
            p90: at(90)?,
            p99: at(99)?,
            max: self.max,
            jitter_rfc3550: several.then(|| self.jitter.round() as u64),
            stddev: several.then(|| variance.sqrt().round() as u64),
        })
    }
}

/// Round trips of one flow: mostly no more than `N`, which are kept as they are.
#[derive(Clone, Debug)]
pub(super) struct Few<const N: usize> {
    len: u8,
    first: [u64; N],
    many: Option<Box<Samples>>,
}

impl<const N: usize> Default for Few<N> {
    fn default() -> Self {
        Self { len: 0, first: [0; N], many: None }
    }
}

impl<const N: usize> Few<N> {
    pub(super) fn add(&mut self, ns: u64) {
        if let Some(many) = &mut self.many {
            many.add(ns);
        } else if let Some(free) = self.first.get_mut(usize::from(self.len)) {
            *free = ns;
            self.len += 1;
        } else {
            let many = self.many.insert(Box::default());
            self.first.iter().chain([&ns]).for_each(|ns| many.add(*ns));
        }
    }

    /// Adds them to `all`, which is then the same as if they had been [`Samples`] from the first.
    pub(super) fn merge_into(&self, all: &mut Samples) {
        match &self.many {
            Some(many) => all.merge(many),
            None if self.len == 0 => {}
            None => {
                let first = &self.first[..usize::from(self.len)];
                let mut sum = Samples::default();
                for ns in first {
                    sum.sum_up(*ns);
                }
                all.merge_kept(&sum, first);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[u64]) -> Spread {
        let mut samples = Samples::default();
        for value in values {
            samples.add(*value);
        }
        samples.spread().expect("samples")
    }

    #[test]
    fn figures_are_those_of_their_formulas() {
        let one = of(&[7]);
        assert_eq!((one.samples, one.min, one.p50, one.p99, one.max), (1, 7, 7, 7, 7));
        assert_eq!((one.jitter_rfc3550, one.stddev), (None, None));
        // 1..=100: nearest ranks; sample variance of 1..=n is n(n+1)/12.
        let hundred = of(&(1..=100).map(|n| n * 1000).collect::<Vec<_>>());
        assert_eq!((hundred.p50, hundred.p90, hundred.p99), (50_000, 90_000, 99_000));
        assert_eq!(hundred.stddev, Some(29_011));
        // One step of 160: J = 160/16, then 15/16 of it for each equal sample.
        assert_eq!(of(&[0, 160]).jitter_rfc3550, Some(10));
        assert_eq!(of(&[0, 1600, 1600]).jitter_rfc3550, Some(94));
    }

    #[test]
    fn merged_halves_are_the_whole() {
        let values: Vec<u64> = (0..300).map(|n| (n * 7919) % 1000).collect();
        let (mut left, mut right) = (Samples::default(), Samples::default());
        for value in &values[..100] {
            left.add(*value);
        }
        for value in &values[100..] {
            right.add(*value);
        }
        left.merge(&right);
        let (merged, whole) = (left.spread().expect("some"), of(&values));
        assert_eq!(
            Spread { jitter_rfc3550: None, ..merged },
            Spread { jitter_rfc3550: None, ..whole },
        );
        assert_eq!(Samples::default().spread(), None);
    }

    #[test]
    fn few_samples_are_samples() {
        let values = [3, 900, 20, 41, 7, 65];
        for flows in [&[1_usize, 1, 1, 1, 1, 1][..], &[2, 4], &[6], &[3, 0, 3], &[1, 5]] {
            let (mut all, mut plain) = (Samples::default(), Samples::default());
            let mut rest = &values[..];
            for take in flows {
                let (mut few, mut one) = (Few::<2>::default(), Samples::default());
                let (now, later) = rest.split_at(*take);
                rest = later;
                for ns in now {
                    few.add(*ns);
                    one.add(*ns);
                }
                few.merge_into(&mut all);
                plain.merge(&one);
            }
            assert_eq!(format!("{all:?}"), format!("{plain:?}"), "{flows:?}");
        }
    }

    #[test]
    fn percentiles_survive_thinning() {
        let values: Vec<u64> = (0..100_001_u64).map(|n| (n * 7919) % 100_001).collect();
        let spread = of(&values);
        assert_eq!((spread.min, spread.max, spread.samples), (0, 100_000, 100_001));
        for (value, expected) in [(spread.p50, 50_000), (spread.p90, 90_000)] {
            assert!(value.abs_diff(expected) < 6_000, "{value} for {expected}");
        }
    }
}
