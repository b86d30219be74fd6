//! BACnet/IP (ASHRAE 135, annex J): one message a datagram.

use super::{Effect, Message, Role, Step, be16};

fn confirmed(code: u8) -> (&'static str, Effect) {
    match code {
        0 => ("acknowledge alarm", Effect::Write),
        1 | 2 | 31 => ("event notification", Effect::Read),
        3 | 4 | 29 => ("get alarms", Effect::Read),
        5 | 28 | 30 => ("subscribe", Effect::Read),
        6 => ("read file", Effect::Read),
        7 => ("write file", Effect::Control),
        8 | 9 => ("change list", Effect::Write),
        10 => ("create object", Effect::Control),
        11 => ("delete object", Effect::Control),
        12 => ("read property", Effect::Read),
        13 | 14 => ("read properties", Effect::Read),
        15 => ("write property", Effect::Write),
        16 => ("write properties", Effect::Write),
        17 => ("device communication control", Effect::Control),
        18 => ("private transfer", Effect::Upkeep),
        19 => ("text message", Effect::Upkeep),
        20 => ("reinitialize device", Effect::Control),
        21..=23 => ("virtual terminal", Effect::Control),
        24 | 25 => ("authenticate", Effect::Upkeep),
        26 => ("read range", Effect::Read),
        27 => ("life safety operation", Effect::Control),
        32..=34 => ("audit", Effect::Read),
        _ => ("undefined", Effect::Illegal),
    }
}

/// Unconfirmed services are told from confirmed ones by this bit.
pub(super) const UNCONFIRMED: u16 = 0x100;

fn unconfirmed(code: u8) -> (&'static str, Effect) {
    match code {
        0 => ("I am", Effect::Upkeep),
        1 => ("I have", Effect::Upkeep),
        2 | 3 | 11 => ("notification", Effect::Read),
        4 => ("private transfer", Effect::Upkeep),
        5 => ("text message", Effect::Upkeep),
        6 | 9 => ("time synchronization", Effect::Write),
        7 => ("who has", Effect::Upkeep),
        8 => ("who is", Effect::Upkeep),
        10 => ("write group", Effect::Write),
        12..=14 => ("audit and discovery", Effect::Upkeep),
        _ => ("undefined", Effect::Illegal),
    }
}

pub(super) fn parse(bytes: &[u8]) -> Step {
    if bytes.first().is_some_and(|kind| *kind != 0x81) {
        return Step::Wrong;
    }
    let Some(len) = be16(bytes, 2) else { return Step::More };
    let len = usize::from(len);
    let Some(frame) = bytes.get(..len).filter(|frame| frame.len() >= 4) else {
        return if len < 4 { Step::Wrong } else { Step::More };
    };
    let npdu = match frame[1] {
        // Original unicast and broadcast, distributed broadcast.
        0x09..=0x0b => frame.get(4..),
        // Forwarded: the original sender comes first.
        0x04 => frame.get(10..),
        // Tables and results of broadcast management.
        0x00..=0x0c => return Step::Frame(len, Vec::new()),
        _ => return Step::Wrong,
    };
    match npdu.map(apdu) {
        Some(Some(message)) => Step::Frame(len, vec![message]),
        Some(None) => Step::Frame(len, Vec::new()),
        None => Step::Wrong,
    }
}

/// A datagram whose length field is not its length: what is in it all the same.
pub(super) fn despite_length(bytes: &[u8]) -> Vec<Message> {
    let Ok(len) = u16::try_from(bytes.len()) else { return Vec::new() };
    let mut corrected = bytes.to_vec();
    let Some(field) = corrected.get_mut(2..4).filter(|_| bytes.first() == Some(&0x81)) else {
        return Vec::new();
    };
    field.copy_from_slice(&len.to_be_bytes());
    match parse(&corrected) {
        Step::Frame(_, messages) => messages,
        Step::More | Step::Wrong => Vec::new(),
    }
}

fn apdu(npdu: &[u8]) -> Option<Message> {
    let [1, control, ..] = *npdu else { return None };
    if control & 0x80 != 0 {
        return None; // a message of the network layer
    }
    let mut at = 2;
    if control & 0x20 != 0 {
        at += 3 + usize::from(*npdu.get(at + 2)?);
    }
    if control & 0x08 != 0 {
        at += 3 + usize::from(*npdu.get(at + 2)?);
    }
    at += usize::from(control & 0x20 != 0); // hop count
    let apdu = npdu.get(at..)?;
    let flags = *apdu.first()?;
    let made = |role, function, (name, effect), refused| {
        Some(Message { role, function, name, effect, unit: 0, address: None, refused })
    };
    match flags >> 4 {
        0 => {
            let choice = *apdu.get(if flags & 0x08 != 0 { 5 } else { 3 })?;
            made(Role::Request, u16::from(choice), confirmed(choice), None)
        }
        1 => {
            let choice = *apdu.get(1)?;
            made(Role::Request, UNCONFIRMED | u16::from(choice), unconfirmed(choice), None)
        }
        2 | 3 => {
            let segmented = flags >> 4 == 3 && flags & 0x08 != 0;
            let choice = *apdu.get(if segmented { 4 } else { 2 })?;
            made(Role::Response, u16::from(choice), confirmed(choice), None)
        }
        5 => {
            let choice = *apdu.get(2)?;
            made(Role::Response, u16::from(choice), confirmed(choice), Some(u16::from(flags)))
        }
        // A reject or abort names a reason and no service.
        6 | 7 => {
            let reason = u16::from(*apdu.get(2)?);
            made(Role::Response, 0xff, ("refused", Effect::Upkeep), Some(reason))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(npdu: &[u8]) -> Vec<u8> {
        let len = (4 + npdu.len()) as u16;
        [&[0x81, 0x0a][..], &len.to_be_bytes(), npdu].concat()
    }

    #[test]
    fn services_behind_every_header() {
        for (npdu, function, effect) in [
            (&[1, 4, 0, 5, 1, 12, 0x0c][..], 12, Effect::Read),
            (&[1, 4, 0, 5, 1, 20], 20, Effect::Control),
            (&[1, 0x20, 0xff, 0xff, 0, 0xff, 0x10, 8], UNCONFIRMED | 8, Effect::Upkeep),
            (&[1, 0x28, 0, 1, 1, 7, 0, 2, 1, 9, 0xff, 0, 5, 1, 15], 15, Effect::Write),
            (&[1, 0, 0x20, 1, 15], 15, Effect::Write),
            (&[1, 0, 0x60, 1, 9], 0xff, Effect::Upkeep),
        ] {
            let bytes = frame(npdu);
            let Step::Frame(len, messages) = parse(&bytes) else { panic!("{npdu:?}") };
            assert_eq!(len, bytes.len());
            assert_eq!((messages[0].function, messages[0].effect), (function, effect), "{npdu:?}");
            for cut in 0..bytes.len() {
                let _ = parse(&bytes[..cut]);
            }
        }
        assert_eq!(parse(&[0x81, 0x0a, 0, 3]), Step::Wrong);
        assert_eq!(parse(b"GET"), Step::Wrong);
    }
}
