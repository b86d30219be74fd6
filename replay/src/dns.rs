//! DNS messages as far as detectors and diagnoses look at them (RFC 1035): the first question, and the addresses
//! answered. LLMNR (RFC 4795) and NetBIOS names (RFC 1002) have the same shape.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use psc_formats::packet::{Headers, Transport};

/// A name has at most 127 labels; a pointer chain that is longer is no name.
const LABELS: usize = 127;
/// Answers looked at.
const ANSWERS: usize = 64;

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) id: u16,
    pub(crate) response: bool,
    /// 3 is "no such name".
    pub(crate) rcode: u8,
    /// Of the first question, or of the first answer where there is none; lower case.
    pub(crate) name: String,
    pub(crate) kind: u16,
    /// Addresses in the answers.
    pub(crate) addresses: Vec<IpAddr>,
    /// Bytes of answer data.
    pub(crate) answered_bytes: u64,
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk::<2>()?))
}

/// Walks the labels of the name at `at`; where what follows the name begins. `None` when the name is damaged,
/// or `each` will not have a label.
pub(crate) fn labels(
    bytes: &[u8],
    mut at: usize,
    mut each: impl FnMut(&[u8]) -> Option<()>,
) -> Option<usize> {
    let mut after = None;
    // The labels, and the empty one that ends them.
    for _ in 0..=LABELS {
        let len = *bytes.get(at)?;
        match len {
            0 => return Some(after.unwrap_or(at + 1)),
            1..=63 => {
                each(bytes.get(at + 1..at + 1 + usize::from(len))?)?;
                at += 1 + usize::from(len);
            }
            0xc0.. => {
                after.get_or_insert(at + 2);
                at = usize::from(be16(bytes, at)? & 0x3fff);
            }
            _ => return None,
        }
    }
    None
}

/// The name at `at` in lower case, and where what follows it begins.
fn name(bytes: &[u8], at: usize) -> Option<(String, usize)> {
    let mut out = String::new();
    let after = labels(bytes, at, |label| {
        if !out.is_empty() {
            out.push('.');
        }
        out.extend(label.iter().map(|byte| {
            if byte.is_ascii_graphic() { char::from(byte.to_ascii_lowercase()) } else { '?' }
        }));
        Some(())
    })?;
    Some((out, after))
}

/// The message of a packet on a port of DNS, multicast DNS, LLMNR or NetBIOS names; over TCP one message a
/// segment, behind two bytes of length (RFC 1035 section 4.2.2).
pub(crate) fn of(headers: &Headers, payload: &[u8]) -> Option<Message> {
    let speaks = |port: u16| matches!(port, 53 | 137 | 5353 | 5355);
    match headers.transport {
        Transport::Udp(udp) if speaks(udp.sport) || speaks(udp.dport) => read(payload),
        Transport::Tcp(tcp) if tcp.sport == 53 || tcp.dport == 53 => read(payload.get(2..)?),
        _ => None,
    }
}

/// A message cut by the snap length gives what was stored of it.
pub(crate) fn read(bytes: &[u8]) -> Option<Message> {
    let flags = be16(bytes, 2)?;
    let (questions, answers) = (be16(bytes, 4)?, be16(bytes, 6)?);
    // Standard queries only; more than one question is asked by nobody.
    if flags & 0x7800 != 0 || questions > 1 || be16(bytes, 10)? > 64 {
        return None;
    }
    let mut out = Message {
        id: be16(bytes, 0)?,
        response: flags & 0x8000 != 0,
        rcode: (flags & 0xf) as u8,
        ..Message::default()
    };
    let mut at = 12;
    if questions == 1 {
        let (asked, after) = name(bytes, at)?;
        (out.name, out.kind, at) = (asked, be16(bytes, after)?, after + 4);
    }
    for n in 0..usize::from(answers).min(ANSWERS) {
        let Some((owner, after)) = name(bytes, at) else { break };
        let (Some(kind), Some(len)) = (be16(bytes, after), be16(bytes, after + 8)) else { break };
        if n == 0 && questions == 0 {
            (out.name, out.kind) = (owner, kind);
        }
        out.answered_bytes += u64::from(len);
        let data = bytes.get(after + 10..after + 10 + usize::from(len));
        match (kind, data) {
            (1, Some(data)) => {
                if let Ok(octets) = <[u8; 4]>::try_from(data) {
                    out.addresses.push(Ipv4Addr::from(octets).into());
                }
            }
            (28, Some(data)) => {
                if let Ok(octets) = <[u8; 16]>::try_from(data) {
                    out.addresses.push(Ipv6Addr::from(octets).into());
                }
            }
            // NetBIOS: flags, then the address (RFC 1002 section 4.2.13).
            (32, Some(&[_, _, a, b, c, d])) => {
                out.addresses.push(Ipv4Addr::new(a, b, c, d).into());
            }
            _ => {}
        }
        at = after + 10 + usize::from(len);
    }
    Some(out)
}

/// What is registered, as far as a name tells without the list of public suffixes, and what stands left
/// of it: `a.b.example.co.uk` is `example.co.uk` and `a.b`.
pub(crate) fn split(name: &str) -> (&str, &str) {
    let starts: Vec<usize> =
        std::iter::once(0).chain(name.match_indices('.').map(|(at, _)| at + 1)).collect();
    let label = |n: usize| &name[starts[n]..];
    let n = starts.len();
    let second_is_short = n >= 3 && label(n - 2).len() - label(n - 1).len() <= 4;
    let keep = if second_is_short && label(n - 1).len() == 2 { 3 } else { 2 };
    if n <= keep {
        return (name, "");
    }
    let at = starts[n - keep];
    (&name[at..], &name[..at - 1])
}

#[cfg(test)]
pub(crate) fn message(
    id: u16,
    flags: u16,
    asked: &str,
    kind: u16,
    answers: &[(u16, &[u8])],
) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [id, flags, 1, answers.len() as u16, 0, 0] {
        out.extend(word.to_be_bytes());
    }
    for label in asked.split('.') {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.push(0);
    out.extend(kind.to_be_bytes());
    out.extend([0, 1]);
    for (kind, data) in answers {
        out.extend([0xc0, 12]);
        out.extend(kind.to_be_bytes());
        out.extend([0, 1, 0, 0, 0, 60]);
        out.extend((data.len() as u16).to_be_bytes());
        out.extend(*data);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_and_damage_is_not() {
        let whole = message(7, 0x8180, "WWW.Example.com", 1, &[(1, &[192, 0, 2, 1]), (16, b"abc")]);
        let read_whole = read(&whole).expect("message");
        assert_eq!((read_whole.id, read_whole.response, read_whole.kind), (7, true, 1));
        assert_eq!(read_whole.name, "www.example.com");
        assert_eq!(read_whole.addresses, [crate::sample::ip("192.0.2.1")]);
        assert_eq!(read_whole.answered_bytes, 7);
        for cut in 0..whole.len() {
            let _ = read(&whole[..cut]);
        }
        let mut loops = whole[..12].to_vec();
        loops.extend([0xc0, 12, 0, 1, 0, 1]);
        assert_eq!(read(&loops), None, "a name that points to itself");
    }

    #[test]
    fn what_is_registered_is_told_from_what_is_below() {
        for (name, parent, sub) in [
            ("a.b.example.com", "example.com", "a.b"),
            ("a.example.co.uk", "example.co.uk", "a"),
            ("example.com", "example.com", ""),
            ("com", "com", ""),
            ("", "", ""),
            ("x.t.co", "t.co", "x"),
        ] {
            let (found, below) = split(name);
            // Short second-level names are taken for suffixes: one label more is kept, none less.
            assert!(found.ends_with(parent), "{name}: {found}");
            assert!(sub.starts_with(below), "{name}: {below}");
        }
    }
}
