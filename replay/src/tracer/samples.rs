//! Durations of one path or edge.

use hdrhistogram::Histogram;

use crate::view::trace::Latency;

/// Samples kept as they are before a histogram is worth its memory.
const FEW: usize = 64;

/// Durations: exact while they are few, then a histogram with three significant digits. There are
/// thousands of paths and most of them are rare.
#[derive(Debug)]
pub(crate) enum Samples {
    Few(Vec<u64>),
    Many(Box<Histogram<u64>>),
}

impl Default for Samples {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Samples {
    pub(crate) fn add(&mut self, ns: u64) {
        match self {
            Self::Few(samples) if samples.len() < FEW => samples.push(ns),
            Self::Few(samples) => match Histogram::new(3) {
                Ok(mut histogram) => {
                    for sample in samples.drain(..).chain([ns]) {
                        // Grows as needed; every u64 fits.
                        let _ = histogram.record(sample);
                    }
                    *self = Self::Many(Box::new(histogram));
                }
                // Three digits are always allowed; were they not, more samples would be kept.
                Err(_) => samples.push(ns),
            },
            Self::Many(histogram) => drop(histogram.record(ns)),
        }
    }

    /// Adds all of `other`.
    pub(crate) fn append(&mut self, other: Self) {
        match (&mut *self, other) {
            (_, Self::Few(samples)) => samples.into_iter().for_each(|ns| self.add(ns)),
            (Self::Many(mine), Self::Many(theirs)) => drop(mine.add(&*theirs)),
            (Self::Few(mine), Self::Many(mut theirs)) => {
                for ns in mine.drain(..) {
                    let _ = theirs.record(ns);
                }
                *self = Self::Many(theirs);
            }
        }
    }

    /// The percentiles: nearest rank, so each is a duration that was measured (to three digits).
    pub(crate) fn latency(&self) -> Latency {
        match self {
            Self::Few(samples) => {
                let mut sorted = samples.clone();
                sorted.sort_unstable();
                let (Some(&min), Some(&max)) = (sorted.first(), sorted.last()) else {
                    return Latency::default();
                };
                let rank = |per_mille: usize| {
                    sorted[(sorted.len() * per_mille).div_ceil(1000).clamp(1, sorted.len()) - 1]
                };
                Latency {
                    count: sorted.len() as u64,
                    min,
                    p50: rank(500),
                    p90: rank(900),
                    p99: rank(990),
                    p999: rank(999),
                    max,
                }
            }
            Self::Many(histogram) => Latency {
                count: histogram.len(),
                min: histogram.min(),
                p50: histogram.value_at_quantile(0.5),
                p90: histogram.value_at_quantile(0.9),
                p99: histogram.value_at_quantile(0.99),
                p999: histogram.value_at_quantile(0.999),
                max: histogram.max(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_agree_to_three_digits() {
        let mut few = Samples::default();
        assert_eq!(few.latency(), Latency::default());
        for ns in (1..=FEW as u64).rev() {
            few.add(ns * 1000);
        }
        let exact = few.latency();
        assert_eq!((exact.min, exact.p50, exact.p99, exact.max), (1000, 32_000, 64_000, 64_000));
        // The same samples again make a histogram of it, with the same percentiles.
        for ns in 1..=FEW as u64 {
            few.add(ns * 1000);
        }
        let counted = few.latency();
        assert!(matches!(few, Samples::Many(_)));
        assert_eq!(counted.count, 2 * FEW as u64);
        for (a, b) in [(exact.p50, counted.p50), (exact.p90, counted.p90), (exact.max, counted.max)]
        {
            assert!(a.abs_diff(b) * 1000 <= a, "{a} {b}");
        }
    }
}
