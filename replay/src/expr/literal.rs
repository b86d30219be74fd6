//! Words to literals of the type that their field has.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use super::ast::Literal;
use super::fields::Type;

/// The literal that `word` means for a field of this type whose greatest value is `max`; else what
/// is wrong.
pub(super) fn parse(word: &str, kind: Type, max: u64) -> Result<Literal, String> {
    let wrong = || format!("{} is expected, not {word}", kind.literal());
    match kind {
        Type::Number => {
            let number = number(word).ok_or_else(wrong)?;
            if number > max {
                return Err(format!("{number} is never reached: the greatest value is {max}"));
            }
            Ok(Literal::Number(number))
        }
        Type::Bool => match word {
            "1" | "true" | "True" | "TRUE" => Ok(Literal::Number(1)),
            "0" | "false" | "False" | "FALSE" => Ok(Literal::Number(0)),
            _ => Err(wrong()),
        },
        Type::Duration => duration(word).map(Literal::Number).ok_or_else(wrong),
        Type::V4 => {
            v4(word).map(Literal::V4).ok_or_else(|| other_family(word).unwrap_or_else(wrong))
        }
        Type::V6 => {
            v6(word).map(Literal::V6).ok_or_else(|| other_family(word).unwrap_or_else(wrong))
        }
        Type::Mac => mac(word).map(Literal::Mac).ok_or_else(wrong),
        Type::Text => Ok(Literal::Text(word.to_owned())),
        Type::Bytes | Type::Protocol => Err(wrong()),
    }
}

/// Whether a range from one literal to another means something.
pub(super) fn check_range(from: &Literal, to: &Literal) -> Result<(), &'static str> {
    let ascends = match (from, to) {
        (Literal::Number(from), Literal::Number(to)) => from <= to,
        (Literal::V4(_), Literal::V4(_)) | (Literal::V6(_), Literal::V6(_)) => {
            let ends = from.address().zip(to.address());
            let (from, to) = ends.ok_or("the ends of a range are single addresses")?;
            from <= to
        }
        _ => return Err("only numbers, durations and addresses have ranges"),
    };
    if ascends { Ok(()) } else { Err("this range ends before it starts") }
}

fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
            u64::from_str_radix(hex, 16).ok()
        }
        Some(_) => None,
        // `parse` takes a sign; the lexer never gives one.
        None => word.parse().ok(),
    }
}

/// `5ms`, `1.5s`, `200us`, `40ns`, `2m`, in nanoseconds, exactly.
fn duration(word: &str) -> Option<u64> {
    let digits = word.find(|c: char| c.is_ascii_alphabetic())?;
    let (value, unit) = word.split_at(digits);
    let unit: u64 = match unit {
        "ns" => 1,
        "us" => 1000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let mut ns = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    let mut place = unit;
    for digit in fraction.bytes() {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        if !place.is_multiple_of(10) {
            return None;
        }
        place /= 10;
        ns = ns.checked_add(digit * place)?;
    }
    Some(ns)
}

fn v4(word: &str) -> Option<Ipv4Net> {
    match word.split_once('/') {
        // 10.1.2.3/8 means the network that it is in, as in Wireshark.
        Some(_) => word.parse::<Ipv4Net>().ok().map(|net| net.trunc()),
        None => word.parse::<Ipv4Addr>().ok().map(Ipv4Net::from),
    }
}

fn v6(word: &str) -> Option<Ipv6Net> {
    match word.split_once('/') {
        Some(_) => word.parse::<Ipv6Net>().ok().map(|net| net.trunc()),
        None => word.parse::<Ipv6Addr>().ok().map(Ipv6Net::from),
    }
}

fn other_family(word: &str) -> Option<String> {
    if v4(word).is_some() {
        return Some(format!("{word} is an IPv4 address; the ip. fields have those"));
    }
    v6(word).map(|_| format!("{word} is an IPv6 address; the ipv6. fields have those"))
}

pub(crate) fn mac(word: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = word.split(':');
    for byte in &mut mac {
        let part = parts.next()?;
        let hex = matches!(part.len(), 1 | 2) && part.bytes().all(|b| b.is_ascii_hexdigit());
        *byte = u8::from_str_radix(part, 16).ok().filter(|_| hex)?;
    }
    parts.next().is_none().then_some(mac)
}
