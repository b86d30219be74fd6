//! Whether a difference is more than the noise of sampling.
//!
//! Packets of one recording are no independent samples: they queue behind each other, arrive in bursts and
//! share a CPU's mood. So the unit is not the packet but the **batch** of consecutive ones (batch means,
//! Law and Kelton, *Simulation Modeling and Analysis*, section 9.5): variance is taken between the
//! batches of a recording, which burstiness widens as it should.

use statrs::function::beta::beta_reg;
use statrs::function::erf::erfc;

/// Batches of a recording below which nothing is said about times.
pub(super) const LEAST_BATCHES: usize = 8;

/// Mean and variance of the mean over batches.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    value: f64,
    /// Variance of `value`.
    variance: f64,
    batches: f64,
}

impl Mean {
    fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
        Self { value: mean, variance: squares / (n - 1.0) / n, batches: n }
    }
}

/// Two-sided probability of a Student t at least as large.
fn student(t: f64, freedom: f64) -> f64 {
    if !t.is_finite() {
        return if t.is_nan() { 1.0 } else { 0.0 };
    }
    beta_reg(freedom / 2.0, 0.5, freedom / (freedom + t * t))
}

/// Welch's test for the difference of two means (B. L. Welch, *Biometrika* 34, 1947, 28): the
/// probability of one at least as large were there none.
fn welch(a: Mean, b: Mean, difference: f64) -> f64 {
    let variance = a.variance + b.variance;
    if difference == 0.0 {
        return 1.0;
    }
    let p = if variance > 0.0 {
        let part = |m: Mean| m.variance.powi(2) / (m.batches - 1.0);
        student(difference / variance.sqrt(), variance.powi(2) / (part(a) + part(b)))
    } else {
        0.0
    };
    p.max(least(a.batches as u64, b.batches as u64))
}

/// The least probability that any ranking of this many batches has: each order is equally likely by
/// chance, and two of them separate the recordings fully.
fn least(a: u64, b: u64) -> f64 {
    2.0 * (1..=a.min(b)).map(|i| i as f64 / (a.max(b) + i) as f64).product::<f64>()
}

/// The probability by chance of a difference between the means of two lists of batches, at least as
/// large. `None` when there are too few.
pub(super) fn of_means(base: &[f64], new: &[f64]) -> Option<f64> {
    if base.len() < LEAST_BATCHES || new.len() < LEAST_BATCHES {
        return None;
    }
    let (a, b) = (Mean::of(base), Mean::of(new));
    Some(welch(a, b, b.value - a.value))
}

/// Brunner and Munzel's test (*Biometrical Journal* 42, 2000, 17) with batches as clusters
/// (Obuchowski, *Biometrics* 53, 1997, 567). `base` holds for each batch of the base the probability that
/// one of the new is larger, `new` the same for each batch of the new one. Returns the overall
/// probability (0.5: no difference) and how likely chance is.
pub(super) fn of_ranks(base: &[f64], new: &[f64]) -> Option<(f64, f64)> {
    if base.len() < LEAST_BATCHES || new.len() < LEAST_BATCHES {
        return None;
    }
    let (a, b) = (Mean::of(base), Mean::of(new));
    let superiority = f64::midpoint(a.value, b.value);
    Some((superiority, welch(a, b, superiority - 0.5)))
}

/// The probability that chance puts all of `count` among `there` of `there + here` packets and none
/// among the others, two-sided (Fisher's exact test with a zero).
pub(super) fn of_absence(count: u64, there: u64, here: u64) -> f64 {
    // Each further packet makes it less likely: a thousand are proof enough, and the bound is an upper one.
    let all = (0..count.min(1000))
        .map(|i| there.saturating_sub(i) as f64 / (there + here).saturating_sub(i).max(1) as f64);
    (2.0 * all.product::<f64>()).min(1.0)
}

/// The probability by chance of two shares differing as much: the score test of two proportions.
pub(super) fn of_shares(base: (u64, u64), new: (u64, u64)) -> f64 {
    let float = |(count, of): (u64, u64)| (count as f64, of as f64);
    let ((x, n), (y, m)) = (float(base), float(new));
    let pooled = (x + y) / (n + m);
    // The normal approximation needs some of each kind; with fewer, nothing is claimed.
    if (n.min(m) * pooled).min(n.min(m) * (1.0 - pooled)) < 5.0 && x.max(y) < 30.0 {
        return 1.0;
    }
    let deviation = (pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m)).sqrt();
    if deviation > 0.0 { erfc((x / n - y / m).abs() / deviation / 2.0_f64.sqrt()) } else { 1.0 }
}

/// Benjamini and Hochberg's adjustment (*J. Royal Statistical Society B* 57, 1995, 289), in place: calling
/// significant what is below a level then errs in at most that share of the calls.
pub(super) fn correct(chances: &mut [f64]) {
    let mut order: Vec<usize> = (0..chances.len()).collect();
    order.sort_by(|a, b| chances[*a].total_cmp(&chances[*b]).then(a.cmp(b)));
    let mut least = 1.0_f64;
    for (rank, &index) in order.iter().enumerate().rev() {
        least = least.min(chances[index] * chances.len() as f64 / (rank + 1) as f64);
        chances[index] = least;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 3e-3 * b.abs()
    }

    #[test]
    fn tests_agree_with_published_tables() {
        // Two-sided points of Student's t: 2.228 at 10 degrees, 2.704 at 40.
        assert!(close(student(2.228, 10.0), 0.05) && close(student(2.704, 40.0), 0.01));
        // Fisher's exact test, R: fisher.test(rbind(c(0,10),c(5,5)))$p.value is 0.03251.
        assert!(close(of_absence(5, 10, 10), 0.03251), "{}", of_absence(5, 10, 10));
        // R: prop.test(c(50,80), c(1000,1000), correct=FALSE)$p.value is 0.006507.
        assert!(close(of_shares((50, 1000), (80, 1000)), 0.006_507));
        // R: p.adjust(c(0.01,0.02,0.03,0.5), "BH").
        let mut chances = [0.5, 0.01, 0.03, 0.02];
        correct(&mut chances);
        assert_eq!(chances.map(|p| (p * 1000.0_f64).round() as u32), [500, 40, 40, 40]);
    }

    #[test]
    fn full_separation_is_no_stronger_than_its_orderings() {
        // 2 of the 12870 ways to order eight and eight batches separate them.
        let p = of_means(&[1.0; 8], &[2.0; 8]).unwrap();
        assert!(close(p, 2.0 / 12870.0), "{p}");
        assert_eq!(of_means(&[1.0; 7], &[2.0; 8]), None);
        assert!(of_means(&[1.0; 8], &[1.0; 8]).is_some_and(|p| p > 0.999));
    }
}
