//! Names that were asked for by DNS, and whether they exist.

use std::net::IpAddr;

use psc_formats::Event;
use psc_formats::packet::{Headers, Transport};

use super::{KEYS, Times};
use crate::bounded::Bounded;
use crate::dns;
use crate::engine::JourneyId;

const DNS: u16 = 53;

/// Longest name in presentation form that is kept (RFC 1035 section 2.3.4).
const LONGEST: usize = 253;

/// One name as one client asked for it.
#[derive(Clone, Debug, Default)]
pub(in crate::diagnosis) struct Name {
    /// Answers that say it does not exist.
    pub(in crate::diagnosis) missing: Times,
    /// Answers without an error.
    pub(in crate::diagnosis) found: u64,
}

/// (client, server, name in lower case).
pub(in crate::diagnosis) type Key = (IpAddr, IpAddr, String);

/// Names by who asked whom.
#[derive(Debug)]
pub(in crate::diagnosis) struct Names {
    seen: Bounded<Key, Name>,
}

impl Default for Names {
    fn default() -> Self {
        Self { seen: Bounded::new(KEYS) }
    }
}

/// The first question's name: labels of letters, digits and the like; `None` for anything else, and for a name
/// that points elsewhere.
fn question(payload: &[u8]) -> Option<String> {
    const AT: usize = 12;
    let mut name = String::new();
    let after = dns::labels(payload, AT, |label| {
        if !name.is_empty() {
            name.push('.');
        }
        for &octet in label {
            let plain = octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
            name.push(char::from(plain.then_some(octet.to_ascii_lowercase())?));
        }
        (name.len() <= LONGEST).then_some(())
    })?;
    // On the wire, a name takes the length of its first label and the empty last one more.
    (!name.is_empty() && after == AT + name.len() + 2).then_some(name)
}

impl Names {
    pub(super) fn packet(
        &mut self,
        event: &Event,
        headers: &Headers,
        bytes: &[u8],
        journey: Option<JourneyId>,
    ) {
        const NO_ERROR: u8 = 0;
        const NO_SUCH_NAME: u8 = 3;
        let Transport::Udp(udp) = headers.transport else { return };
        let Some((src, dst)) = headers.addresses() else { return };
        let Some(payload) = bytes.get(usize::from(headers.payload_offset)..) else { return };
        let &[_, _, first, second, ..] = payload else { return };
        if udp.sport != DNS || first & 0x80 == 0 {
            return;
        }
        let code = second & 0x0f;
        if !matches!(code, NO_ERROR | NO_SUCH_NAME) {
            return;
        }
        let Some(name) = question(payload) else { return };
        let row = self.seen.entry_or_forget((dst, src, name), Name::default);
        if code == NO_ERROR {
            row.found += 1;
        } else {
            row.missing.add(event.at.0, 1, journey.map(|id| id.0));
        }
    }

    pub(in crate::diagnosis) fn all(&self) -> Vec<(&Key, &Name)> {
        super::sorted(&self.seen)
    }
}

#[cfg(test)]
mod tests {
    use super::question;

    #[test]
    fn questions_are_read_and_the_rest_is_left() {
        let with = |labels: &[u8]| [&[0; 12], labels, &[0, 1, 0, 1]].concat();
        let cases: &[(&str, Vec<u8>, Option<&str>)] = &[
            ("plain", with(b"\x03wWw\x07example\x00"), Some("www.example")),
            ("the root", with(b"\x00"), None),
            ("a pointer", with(b"\xc0\x0c"), None),
            ("a pointer to a name", with(b"\xc0\x10\0\0\x03www\x00"), None),
            ("a length that is none", with(&[&[0x80; 1][..], &[b'a'; 128], &[0]].concat()), None),
            ("cut", b"\0\0\0\0\0\0\0\0\0\0\0\0\x03ww".to_vec(), None),
            ("a control character", with(b"\x03w\x1bw\x00"), None),
            ("too long", with(&[&[63; 64][..]; 5].concat()), None),
        ];
        for (name, payload, expected) in cases {
            assert_eq!(question(payload).as_deref(), *expected, "{name}");
        }
    }
}
