//! Durations, rates and sizes as rule files write them.

use psc_formats::guard::{Rate, Unit};

/// Longest time that a rule may name: a year.
const LONGEST: u64 = 365 * 24 * 3_600_000_000_000;

const TIMES: [(&str, u64); 5] = [
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

const SIZES: [(&str, u64); 7] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// Digits, then what follows.
fn number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest.trim_start()))
}

/// Nanoseconds of `30s`, `10m`, `1h30m`.
pub(super) fn duration(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut total = 0_u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (value, after) = number(rest)?;
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let (_, scale) = TIMES.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(value.checked_mul(*scale)?)?;
        rest = next.trim_start();
    }
    (1..=LONGEST).contains(&total).then_some(total)
}

/// An amount: packets, or bytes when it has a unit of size.
pub(super) fn amount(text: &str) -> Option<(Unit, u64)> {
    let (value, unit) = number(text.trim())?;
    let unit = unit.trim_end();
    if unit.is_empty() || unit == "packets" {
        return Some((Unit::Packets, value));
    }
    let (_, scale) = SIZES.iter().find(|(name, _)| *name == unit)?;
    Some((Unit::Bytes, value.checked_mul(*scale)?))
}

/// `100/s`, `5 packets/m`, `2 MB/s`, with a bucket that holds what comes back in one period.
pub(super) fn rate(text: &str) -> Option<Rate> {
    let (left, per) = text.split_once('/')?;
    let (unit, amount) = amount(left)?;
    let every = TIMES[1..4].iter().find(|(name, _)| *name == per.trim())?.1;
    // A GSO packet of 64 KiB has to fit into a bucket of bytes.
    let burst = if unit == Unit::Bytes { amount.max(65_536) } else { amount };
    (1..=1 << 40).contains(&amount).then_some(Rate { unit, amount, every, burst })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_rates() {
        const S: u64 = 1_000_000_000;
        #[rustfmt::skip]
        let durations = [
            ("30s", Some(30 * S)), ("1h30m", Some(5400 * S)), ("10 m", Some(600 * S)), ("5ms", Some(5_000_000)),
            ("", None), ("10", None), ("0s", None), ("s", None), ("1.5s", None), ("1000d", None), ("-1s", None),
            ("99999999999999999999s", None),
        ];
        for (text, expected) in durations {
            assert_eq!(duration(text), expected, "{text}");
        }
        #[rustfmt::skip]
        let rates = [
            ("100/s", Some((Unit::Packets, 100, S, 100))), ("5 packets/m", Some((Unit::Packets, 5, 60 * S, 5))),
            ("2 MB/s", Some((Unit::Bytes, 2_000_000, S, 2_000_000))), ("1kB/s", Some((Unit::Bytes, 1000, S, 65_536))),
            ("0/s", None), ("100", None), ("100/d", None), ("/s", None), ("100 Mbit/s", None),
        ];
        for (text, expected) in rates {
            let rate = rate(text).map(|rate| (rate.unit, rate.amount, rate.every, rate.burst));
            assert_eq!(rate, expected, "{text}");
        }
    }
}
