//! Paired comparison of interleaved runs.

/// A ratio of two conditions with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ratio {
    pub(super) mean: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom.
#[rustfmt::skip]
const T95: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// Geometric mean of `over[i] / under[i]` and its interval, from the logarithms of the pairs: runs of
/// one round share what the machine was doing, so they are compared with each other only.
///
/// `None` for fewer than two pairs or a value that is not positive.
pub(super) fn ratio(over: &[f64], under: &[f64]) -> Option<Ratio> {
    let pairs = over.len();
    let positive = |values: &[f64]| values.iter().all(|value| *value > 0.0);
    if pairs < 2 || pairs != under.len() || !positive(over) || !positive(under) {
        return None;
    }
    let logs: Vec<f64> = over.iter().zip(under).map(|(a, b)| (a / b).ln()).collect();
    let n = pairs as f64;
    let mean = logs.iter().sum::<f64>() / n;
    let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let t = T95.get(pairs - 2).copied().unwrap_or(1.96);
    let half = t * (variance / n).sqrt();
    Some(Ratio { mean: mean.exp(), low: (mean - half).exp(), high: (mean + half).exp() })
}

/// Middle value.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} [{:.3}, {:.3}]", self.mean, self.low, self.high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_common_to_a_round_does_not_widen_the_interval() {
        let under = [1.0, 2.0, 4.0, 8.0];
        let over = under.map(|value| value * 1.5);
        let ratio = ratio(&over, &under).unwrap();
        assert!((ratio.mean - 1.5).abs() < 1e-9);
        assert!((ratio.high - ratio.low).abs() < 1e-9);
    }

    #[test]
    fn the_interval_is_students() {
        // Logs 0 and 0.2: mean 0.1, deviation 0.1414, standard error 0.1, t(1) = 12.706.
        let ratio = ratio(&[1.0, 0.2_f64.exp()], &[1.0, 1.0]).unwrap();
        assert!((ratio.mean.ln() - 0.1).abs() < 1e-9);
        assert!((ratio.high.ln() - (0.1 + 1.2706)).abs() < 1e-6);
        assert!((ratio.low.ln() - (0.1 - 1.2706)).abs() < 1e-6);
    }

    #[test]
    fn what_cannot_be_compared_is_not() {
        assert_eq!(ratio(&[1.0], &[1.0]), None);
        assert_eq!(ratio(&[1.0, 0.0], &[1.0, 1.0]), None);
        assert_eq!(ratio(&[1.0, 1.0], &[1.0]), None);
    }

    #[test]
    fn medians() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }
}
