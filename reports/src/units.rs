//! Quantities in words: one way to write each, the same in every report.

use psc_replay::view::StackShare;
use psc_replay::view::trace::Transit;

/// Integer division that rounds half up.
fn divide(value: u64, by: u64) -> u64 {
    let (whole, rest) = (value / by, value % by);
    whole + u64::from(rest >= by - by / 2 && rest > 0)
}

/// `value / unit` with three significant digits; `None` when that rounds to 1000 or more, so that
/// the caller takes the next unit (999.96 µs is 1.00 ms).
fn scaled(value: u64, unit: u64) -> Option<String> {
    for (decimals, scale, below) in [(2, 100, 1_000), (1, 10, 1_000), (0, 1, 1_000)] {
        let step = (unit / scale).max(1);
        let number = divide(value, step);
        if number < below {
            return Some(match decimals {
                0 => number.to_string(),
                _ => format!("{}.{:0decimals$}", number / scale, number % scale),
            });
        }
    }
    None
}

/// A duration given in nanoseconds: `812 ns`, `12.3 µs`, `1.20 ms`, `4.05 s`, `2 min 03 s`,
/// `1 h 02 min`.
pub fn duration(ns: u64) -> String {
    if ns < 1_000 {
        return format!("{ns} ns");
    }
    for (unit, name) in [(1_000, "µs"), (1_000_000, "ms")] {
        if let Some(number) = scaled(ns, unit) {
            return format!("{number} {name}");
        }
    }
    if ns < 59_950_000_000 {
        // Below a minute three digits are enough: 59.9 s.
        return format!("{} s", scaled(ns, 1_000_000_000).unwrap_or_default());
    }
    let seconds = divide(ns, 1_000_000_000);
    if seconds < 3_600 {
        return format!("{} min {:02} s", seconds / 60, seconds % 60);
    }
    let minutes = divide(seconds, 60);
    format!("{} h {:02} min", count(minutes / 60), minutes % 60)
}

/// Time since the start of the recording, in seconds with microseconds, so that columns of it
/// align and can be typed back as `-t`.
pub fn offset(at: u64, start: u64) -> String {
    let (sign, ns) = if at < start { ("-", start - at) } else { ("", at - start) };
    let us = divide(ns, 1_000);
    format!("{sign}{}.{:06} s", us / 1_000_000, us % 1_000_000)
}

/// A unit in which every time up to `longest` nanoseconds can be written exactly enough to tell
/// neighbours apart: the unit's name, for a column's title, and a writer of times in it.
pub fn column(longest: u64) -> (&'static str, fn(u64) -> String) {
    fn thousandths(value: u64) -> String {
        format!("{}.{:03}", count(value / 1_000), value % 1_000)
    }
    if longest < 1_000_000_000 {
        ("µs", thousandths)
    } else {
        ("ms", |ns| thousandths(divide(ns, 1_000)))
    }
}

/// What stands where a quantity is not known: `unavailable: WHY`, whether or not the view's own
/// words start so.
pub(crate) fn unavailable(why: &str) -> String {
    match why {
        "" => "unavailable".to_owned(),
        _ if why.starts_with("unavailable") => why.to_owned(),
        _ => format!("unavailable: {why}"),
    }
}

/// A tracepoint without its subsystem, `net_dev_queue` of `net:net_dev_queue`, for figures and
/// paths, where the layer beside it says as much.
pub(crate) fn probe_name(probe: &str) -> &str {
    probe.rsplit_once(':').map_or(probe, |(_, name)| name)
}

/// Half of the Earth's greatest circle, kilometres: nothing is farther away.
const FARTHEST_KM: u64 = 20_038;

/// How far away something is at most: `7,114 km`; `anywhere` where the bound says nothing.
pub fn distance_bound(km: u64) -> String {
    if km >= FARTHEST_KM { "anywhere".to_owned() } else { format!("{} km", count(km)) }
}

/// Bytes, in powers of 1000: `74 B`, `1.50 kB`, `3.40 MB`.
pub fn bytes(value: u64) -> String {
    if value < 1_000 {
        return format!("{value} B");
    }
    let units = [
        (1_000, "kB"),
        (1_000_000, "MB"),
        (1_000_000_000, "GB"),
        (1_000_000_000_000, "TB"),
        (1_000_000_000_000_000, "PB"),
    ];
    for (unit, name) in units {
        if let Some(number) = scaled(value, unit) {
            return format!("{number} {name}");
        }
    }
    format!("{} PB", count(value / 1_000_000_000_000_000))
}

/// A whole number with thousands separated: `45,000`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number with its noun: `1 drop`, `12 drops`.
pub fn counted(value: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(value), if value == 1 { one } else { many })
}

/// A packet's time from host to host: what the merged clocks say, and what is certain.
pub fn transit(transit: &Transit) -> String {
    let took = duration(transit.took_ns);
    match (transit.least_ns, transit.most_ns) {
        (least, Some(most)) if least == most => format!("in {took}"),
        (0, None) => format!("in {took} by the merged clocks; no packet back bounds that"),
        (least, None) => {
            format!("in {took} by the merged clocks; {} or more for certain", duration(least))
        }
        (0, Some(most)) => {
            format!("in {took} by the merged clocks; {} or less for certain", duration(most))
        }
        (least, Some(most)) => format!(
            "in {took} by the merged clocks; {} to {} for certain",
            duration(least),
            duration(most)
        ),
    }
}

/// How often an inferred stack is right, as far as checks tell: `none was checked` where none was.
///
/// Paths whose checks differ are checked more often, so the plain share of checks that agreed says
/// worse than it is; the weighted one is shown where the recording has it.
pub fn stacks_right(stacks: &StackShare) -> String {
    let checked = stacks.confirmed.saturating_add(stacks.contradicted);
    let weight = stacks.weight_agreed.saturating_add(stacks.weight_differed);
    if checked == 0 {
        "none was checked".to_owned()
    } else if weight == 0 {
        format!(
            "{} of {} agreed (paths that differ are checked more often)",
            percent(stacks.confirmed, checked),
            counted(checked, "check", "checks")
        )
    } else {
        format!(
            "about {} of them right (estimated from {})",
            percent(stacks.weight_agreed, weight),
            counted(checked, "check", "checks")
        )
    }
}

/// `part` of `whole` in percent: `0.27 %`; `<0.01 %` rather than a zero that is none, and
/// `>99.99 %` rather than a whole that is not; `–` of nothing.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    let hundredths = u128::from(part) * 1_000_000 / u128::from(whole);
    let hundredths = (hundredths + 50) / 100;
    match hundredths {
        0 if part > 0 => "<0.01 %".to_owned(),
        10_000.. if part < whole => ">99.99 %".to_owned(),
        _ if hundredths % 100 == 0 => format!("{} %", hundredths / 100),
        // Three digits, but never so few that a part rounds up to the whole.
        0..1_000 | 9_950..10_000 => format!("{}.{:02} %", hundredths / 100, hundredths % 100),
        _ => format!("{}.{} %", (hundredths + 5) / 100, (hundredths + 5) % 100 / 10),
    }
}

/// Bytes over a time as bits per second: `1.20 Gbit/s`; `–` over no time.
pub fn bit_rate(bytes: u64, ns: u64) -> String {
    if ns == 0 {
        return "–".to_owned();
    }
    let bits = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(ns);
    let bits = u64::try_from(bits).unwrap_or(u64::MAX);
    if bits < 1_000 {
        return format!("{bits} bit/s");
    }
    for (unit, name) in [
        (1_000, "kbit/s"),
        (1_000_000, "Mbit/s"),
        (1_000_000_000, "Gbit/s"),
        (1_000_000_000_000, "Tbit/s"),
    ] {
        if let Some(number) = scaled(bits, unit) {
            return format!("{number} {name}");
        }
    }
    format!("{} Tbit/s", count(bits / 1_000_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let cases = [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (1_234, "1.23 µs"),
            (9_995, "10.0 µs"),
            (12_345, "12.3 µs"),
            (123_456, "123 µs"),
            (999_499, "999 µs"),
            (999_960, "1.00 ms"),
            (1_200_000, "1.20 ms"),
            (4_050_000_000, "4.05 s"),
            (59_949_999_999, "59.9 s"),
            (59_960_000_000, "1 min 00 s"),
            (123_400_000_000, "2 min 03 s"),
            (3_599_600_000_000, "1 h 00 min"),
            (u64::MAX, "5,124,095 h 35 min"),
        ];
        for (ns, words) in cases {
            assert_eq!(duration(ns), words, "{ns}");
        }
    }

    #[test]
    fn sizes_counts_shares_rates() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_500), "1.50 kB");
        assert_eq!(bytes(3_400_000), "3.40 MB");
        assert_eq!(bytes(999_999), "1.00 MB");
        assert_eq!(bytes(u64::MAX), "18,446 PB");
        assert_eq!(count(0), "0");
        assert_eq!(count(45_000), "45,000");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(percent(120, 45_000), "0.27 %");
        assert_eq!(percent(1, 1_000_000), "<0.01 %");
        assert_eq!(percent(999_999, 1_000_000), ">99.99 %");
        assert_eq!(percent(0, 5), "0 %");
        assert_eq!(percent(5, 5), "100 %");
        assert_eq!(percent(0, 0), "–");
        assert_eq!(percent(1, 3), "33.3 %");
        assert_eq!(distance_bound(7_114), "7,114 km");
        assert_eq!(distance_bound(123_853), "anywhere");
        assert_eq!(percent(u64::MAX, u64::MAX), "100 %");
        assert_eq!(bit_rate(1_250_000_000, 1_000_000_000), "10.0 Gbit/s");
        assert_eq!(bit_rate(1, 0), "–");
        assert_eq!(bit_rate(u64::MAX, 1), "18,446,744 Tbit/s");
        assert_eq!(offset(1_500_000_400, 1_000_000_000), "0.500000 s");
        assert_eq!(offset(1, 1_001), "-0.000001 s");
        let (unit, write) = column(1_204_740);
        assert_eq!((unit, write(1_156_592).as_str()), ("µs", "1,156.592"));
        let (unit, write) = column(2_000_000_000);
        assert_eq!((unit, write(1_156_592).as_str()), ("ms", "1.157"));
    }
}
