//! Round-trip samples of one connection in little memory.

use crate::view::tcp::TcpRtt;

/// Buckets to each doubling: values within 1/32.
const STEPS: u32 = 32;

/// Counts by bucket, few buckets at a time; merges by addition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spread {
    /// (bucket, count), ascending.
    buckets: Vec<(u16, u32)>,
    samples: u64,
    sum: u128,
    /// Sum of squares of microseconds, so that it fits.
    squares: u128,
    min: u64,
    max: u64,
}

fn bucket(ns: u64) -> u16 {
    let octave = ns.max(u64::from(STEPS)).ilog2();
    let step = (ns >> (octave - STEPS.ilog2())) as u32 & (STEPS - 1);
    if ns < u64::from(STEPS) { ns as u16 } else { (octave * STEPS + step) as u16 }
}

/// Middle of a bucket.
fn middle(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    let steps = u64::from(STEPS);
    if bucket < steps {
        return bucket;
    }
    let shift = bucket / steps - u64::from(STEPS.ilog2());
    let low = (steps + bucket % steps) << shift;
    low + ((1_u64 << shift) >> 1)
}

impl Spread {
    pub(crate) fn add(&mut self, ns: u64) {
        let key = bucket(ns);
        match self.buckets.binary_search_by_key(&key, |(bucket, _)| *bucket) {
            Ok(at) => self.buckets[at].1 = self.buckets[at].1.saturating_add(1),
            Err(at) => self.buckets.insert(at, (key, 1)),
        }
        self.min = if self.samples == 0 { ns } else { self.min.min(ns) };
        self.max = self.max.max(ns);
        self.samples += 1;
        self.sum += u128::from(ns);
        self.squares += u128::from(ns) * u128::from(ns);
    }

    /// Smallest sample; `None` without samples.
    pub(crate) fn min(&self) -> Option<u64> {
        (self.samples > 0).then_some(self.min)
    }

    /// (bucket middle, count), ascending.
    fn values(&self) -> impl Iterator<Item = (u64, u32)> {
        self.buckets
            .iter()
            .map(|&(bucket, count)| (middle(bucket).clamp(self.min, self.max), count))
    }

    fn quantile(&self, per_mille: u64) -> u64 {
        let rank = (self.samples * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (value, count) in self.values() {
            seen += u64::from(count);
            if seen >= rank {
                return value;
            }
        }
        self.max
    }

    pub(crate) fn view(&self) -> TcpRtt {
        if self.samples == 0 {
            return TcpRtt::default();
        }
        let count = u128::from(self.samples);
        let mean = self.sum / count;
        let variance = (self.squares / count).saturating_sub(mean * mean);
        TcpRtt {
            samples: self.samples,
            min: self.min,
            mean: mean as u64,
            p50: self.quantile(500),
            p99: self.quantile(990),
            max: self.max,
            deviation: variance.isqrt() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middles_are_within_a_sixty_fourth() {
        for ns in [0, 1, 31, 32, 33, 63, 64, 1000, 1_000_000, 123_456_789, u64::MAX / 3] {
            let got = middle(bucket(ns));
            assert!(got.abs_diff(ns) <= ns / 60 + 1, "{ns} becomes {got}");
        }
    }

    #[test]
    fn figures_are_those_of_sorted_samples() {
        let mut spread = Spread::default();
        let mut samples: Vec<u64> = (1..=1000).map(|n| (n * 7919) % 100_003 * 1000).collect();
        for &ns in &samples {
            spread.add(ns);
        }
        samples.sort_unstable();
        let view = spread.view();
        assert_eq!((view.samples, view.min, view.max), (1000, samples[0], samples[999]));
        let mean = samples.iter().sum::<u64>() / 1000;
        assert_eq!(view.mean, mean);
        let variance =
            samples.iter().map(|&ns| (ns.abs_diff(mean) as f64).powi(2)).sum::<f64>() / 1000.0;
        assert!((view.deviation as f64 - variance.sqrt()).abs() < 2.0);
        for (got, want) in [(view.p50, samples[499]), (view.p99, samples[989])] {
            assert!(got.abs_diff(want) * 50 <= want, "{got} against {want}");
        }
    }
}
