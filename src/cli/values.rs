//! Values with units as people type them: durations, sizes, time ranges.

use std::str::FromStr;
use std::time::Duration;

/// A duration: `10s`, `1.5s`, `200ms`, `2m`, `1h30m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

const UNITS_NS: [(&str, u64); 6] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is no duration: write 10s, 1.5s, 200ms, 2m or 1h30m");
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(bad());
        }
        let mut total = 0_u64;
        while !rest.is_empty() {
            let number_end =
                rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
            let (number, after) = rest.split_at(number_end);
            let after = after.trim_start();
            let unit_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let (unit, next) = after.split_at(unit_end);
            let scale = UNITS_NS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?.1;
            let part = decimal(number, scale).ok_or_else(bad)?;
            total = total.checked_add(part).ok_or_else(bad)?;
            rest = next.trim_start();
        }
        Ok(Self(Duration::from_nanos(total)))
    }
}

/// `number` times `scale` in integers, exact: floats would round times.
fn decimal(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || fraction.len() > 18 {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut value = u128::from(whole) * u128::from(scale);
    if !fraction.is_empty() {
        let digits: u64 = fraction.parse().ok()?;
        value += u128::from(digits) * u128::from(scale) / 10_u128.pow(fraction.len() as u32);
    }
    u64::try_from(value).ok()
}

/// A share: `2%`, `0.5%`. In millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share(pub(crate) u32);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is no share of the machine: write 2% or 0.5%, up to 100%");
        let number = text.trim().strip_suffix('%').ok_or_else(bad)?;
        let ppm = decimal(number.trim_end(), 10_000).ok_or_else(bad)?;
        match u32::try_from(ppm) {
            Ok(ppm @ 1..=1_000_000) => Ok(Self(ppm)),
            _ => Err(bad()),
        }
    }
}

/// A size in bytes: `4096`, `512KiB`, `256MiB`, `1GiB`, `1GB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

const UNITS_BYTES: [(&str, u64); 11] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kib", 1 << 10),
    ("kb", 1_000),
    ("m", 1 << 20),
    ("mib", 1 << 20),
    ("mb", 1_000_000),
    ("g", 1 << 30),
    ("gib", 1 << 30),
    ("gb", 1_000_000_000),
];

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is no size: write 4096, 512KiB, 256MiB or 1GiB");
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let unit = unit.trim().to_ascii_lowercase();
        let scale = UNITS_BYTES.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?.1;
        match decimal(number, scale) {
            None | Some(0) => Err(bad()),
            Some(bytes) => Ok(Self(bytes)),
        }
    }
}

/// `FROM..TO`, either end open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TimeRange {
    /// First time included.
    pub(crate) from: Option<TimePoint>,
    /// First time not included any more.
    pub(crate) to: Option<TimePoint>,
    /// As typed.
    pub(crate) text: String,
}

/// One end of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimePoint {
    /// Nanoseconds after the first event.
    SinceStart(u64),
    /// Nanoseconds since the Unix epoch.
    Epoch(i128),
}

impl FromStr for TimeRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = text.split_once("..").ok_or_else(|| {
            format!("`{text}` is no time range: write FROM..TO, such as 1.5s..3s, 2s.. or ..500ms")
        })?;
        let range =
            Self { from: time_point(from)?, to: time_point(to)?, text: text.trim().to_owned() };
        let reversed = match (range.from, range.to) {
            (Some(TimePoint::SinceStart(a)), Some(TimePoint::SinceStart(b))) => a >= b,
            (Some(TimePoint::Epoch(a)), Some(TimePoint::Epoch(b))) => a >= b,
            _ => false,
        };
        if reversed {
            return Err(format!("`{text}` is empty: FROM must be before TO"));
        }
        Ok(range)
    }
}

fn time_point(text: &str) -> Result<Option<TimePoint>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    if let Ok(Span(span)) = text.parse::<Span>() {
        return Ok(Some(TimePoint::SinceStart(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))));
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(Some(TimePoint::Epoch(time.as_nanosecond())));
    }
    Err(format!("`{text}` is no time: write 1.5s (after the first event) or 2026-03-01T12:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percent_of_the_machine() {
        #[rustfmt::skip]
        let cases = [
            ("2%", Some(20_000)), ("0.5 %", Some(5_000)), ("100%", Some(1_000_000)),
            ("2", None), ("0%", None), ("101%", None), ("-1%", None), ("%", None), ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Share>().ok().map(|share| share.0), expected, "{text}");
        }
    }

    #[test]
    fn durations_are_exact() {
        #[rustfmt::skip]
        let cases = [
            ("10s", Some(10_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            ("0.000000001s", Some(1)),
            ("1h30m", Some(5_400_000_000_000)),
            ("200ms", Some(200_000_000)),
            (".5s", Some(500_000_000)),
            ("", None),
            ("10", None),
            ("s", None),
            ("1..2s", None),
            ("-1s", None),
            ("99999999999h", None),
            ("1.5 s", Some(1_500_000_000)),
            ("1 h 30 m", Some(5_400_000_000_000)),
        ];
        for (text, expected) in cases {
            assert_eq!(
                text.parse::<Span>().ok().map(|span| span.0.as_nanos()),
                expected,
                "{text:?}"
            );
        }
    }

    #[test]
    fn sizes_take_binary_and_decimal_units() {
        #[rustfmt::skip]
        let cases = [
            ("4096", Some(4096)),
            ("1.5KiB", Some(1536)),
            ("1GB", Some(1_000_000_000)),
            ("1 GiB", Some(1 << 30)),
            ("0", None),
            ("1XB", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Bytes>().ok().map(|b| b.0), expected, "{text:?}");
        }
    }

    #[test]
    fn ranges_may_be_open_relative_or_absolute() {
        let range: TimeRange = "1.5s..".parse().unwrap();
        assert_eq!(range.from, Some(TimePoint::SinceStart(1_500_000_000)));
        assert_eq!(range.to, None);
        let range: TimeRange = "1970-01-01T00:00:01Z..1970-01-01T00:00:02.5Z".parse().unwrap();
        assert_eq!(range.from, Some(TimePoint::Epoch(1_000_000_000)));
        assert_eq!(range.to, Some(TimePoint::Epoch(2_500_000_000)));
        for bad in ["", "1s", "3s..1s", "1s..1s", "x..y", "yesterday.."] {
            assert!(bad.parse::<TimeRange>().is_err(), "{bad:?}");
        }
    }
}
