//! Bounds: `<1ms`, `<= 0.1%`, `0`.

use std::fmt;

use hdrhistogram::Histogram;

/// A percentile of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Percentile {
    /// Median.
    P50,
    /// 90th.
    P90,
    /// 99th.
    P99,
    /// 99.9th.
    P999,
    /// Largest.
    Max,
}

impl Percentile {
    /// All, smallest first.
    pub const ALL: [Self; 5] = [Self::P50, Self::P90, Self::P99, Self::P999, Self::Max];

    /// As statements and gates have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
            Self::P999 => "p999",
            Self::Max => "max",
        }
    }

    pub(super) fn of(self, times: &Histogram<u64>) -> u64 {
        match self {
            Self::P50 => times.value_at_quantile(0.5),
            Self::P90 => times.value_at_quantile(0.9),
            Self::P99 => times.value_at_quantile(0.99),
            Self::P999 => times.value_at_quantile(0.999),
            Self::Max => times.max(),
        }
    }

    pub(super) fn in_view(self, latency: &crate::view::trace::Latency) -> u64 {
        match self {
            Self::P50 => latency.p50,
            Self::P90 => latency.p90,
            Self::P99 => latency.p99,
            Self::P999 => latency.p999,
            Self::Max => latency.max,
        }
    }
}

/// An upper bound, of nanoseconds or of a share in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The bound itself is still good.
    inclusive: bool,
    /// Nanoseconds, or millionths.
    value: u64,
    share: bool,
}

impl Bound {
    /// `<1ms`, `<= 250us`, `2s`.
    pub fn duration(text: &str) -> Result<Self, String> {
        let (inclusive, rest) = operator(text);
        let bad = || format!("`{text}` is no bound of a time: write <1ms, <=250us or <2s");
        let unit_at = rest.find(|c: char| c.is_alphabetic() || c == 'µ').ok_or_else(bad)?;
        let scale = match rest[unit_at..].trim() {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            _ => return Err(bad()),
        };
        let value = decimal(rest[..unit_at].trim(), scale).ok_or_else(bad)?;
        Ok(Self { inclusive, value, share: false })
    }

    /// `0`, `<0.1%`, `<=1%`.
    pub fn share(text: &str) -> Result<Self, String> {
        let (inclusive, rest) = operator(text);
        let bad = || format!("`{text}` is no bound of a share: write 0, <0.1% or <=1%");
        let value = match rest.strip_suffix('%') {
            Some(number) => decimal(number.trim(), 10_000).ok_or_else(bad)?,
            None if rest == "0" => 0,
            None => return Err(bad()),
        };
        Ok(Self { inclusive: inclusive || value == 0, value, share: true })
    }

    /// Whether so many nanoseconds are within it.
    pub fn holds(&self, value: u64) -> bool {
        if self.inclusive { value <= self.value } else { value < self.value }
    }

    /// Whether `part` of `all` is within it.
    pub fn holds_of(&self, part: u64, all: u64) -> bool {
        let (part, bound) =
            (u128::from(part) * 1_000_000, u128::from(self.value) * u128::from(all.max(1)));
        if self.inclusive { part <= bound } else { part < bound }
    }
}

/// An operator and the rest; none is "at most".
fn operator(text: &str) -> (bool, &str) {
    let text = text.trim();
    if let Some(rest) = text.strip_prefix("<=") {
        return (true, rest.trim());
    }
    match text.strip_prefix('<') {
        Some(rest) => (false, rest.trim()),
        None => (true, text),
    }
}

/// A decimal number times `scale`, exact.
pub(super) fn decimal(text: &str, scale: u64) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || whole.is_empty() || part.len() > 9 {
        return None;
    }
    let whole = u128::from(whole.parse::<u64>().ok()?) * u128::from(scale);
    let part = if part.is_empty() {
        0
    } else {
        u128::from(part.parse::<u64>().ok()?) * u128::from(scale) / 10_u128.pow(part.len() as u32)
    };
    u64::try_from(whole + part).ok()
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = if self.inclusive { "at most" } else { "below" };
        if self.share {
            let (whole, part) = (self.value / 10_000, self.value % 10_000);
            let text = format!("{whole}.{part:04}");
            return write!(f, "{operator} {} %", text.trim_end_matches('0').trim_end_matches('.'));
        }
        write!(f, "{operator} {}", shown(self.value))
    }
}

/// Nanoseconds with three digits and a unit.
pub(super) fn shown(ns: u64) -> String {
    let (unit, scale) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => ("µs", 1_000),
        1_000_000..1_000_000_000 => ("ms", 1_000_000),
        _ => ("s", 1_000_000_000),
    };
    let whole = ns / scale;
    match whole {
        0..10 => format!("{whole}.{:02} {unit}", ns % scale * 100 / scale),
        10..100 => format!("{whole}.{} {unit}", ns % scale * 10 / scale),
        _ => format!("{whole} {unit}"),
    }
}

/// Seconds with microseconds.
pub(super) fn seconds(ns: u64) -> String {
    format!("{}.{:06}", ns / 1_000_000_000, ns % 1_000_000_000 / 1_000)
}
