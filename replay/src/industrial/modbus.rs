//! Modbus/TCP (MODBUS Messaging on TCP/IP Implementation Guide V1.0b, Application Protocol V1.1b3).

use super::{Effect, Message, Role, Step, be16};

/// Transaction, protocol, length and unit.
const HEADER: usize = 7;

/// Length field: unit and function at least, a 253-byte unit of data at most.
const LENGTHS: std::ops::RangeInclusive<u16> = 2..=254;

/// What controllers of Schneider agree on at most, with the session's byte and both codes.
const UMAS_LONGEST: u16 = 1_028;

fn function(code: u8) -> (&'static str, Effect) {
    match code {
        1 => ("read coils", Effect::Read),
        2 => ("read discrete inputs", Effect::Read),
        3 => ("read holding registers", Effect::Read),
        4 => ("read input registers", Effect::Read),
        5 => ("write single coil", Effect::Write),
        6 => ("write single register", Effect::Write),
        7 => ("read exception status", Effect::Read),
        8 => ("diagnostics", Effect::Upkeep),
        11 => ("get event counter", Effect::Read),
        12 => ("get event log", Effect::Read),
        15 => ("write multiple coils", Effect::Write),
        16 => ("write multiple registers", Effect::Write),
        17 => ("report server id", Effect::Upkeep),
        20 => ("read file record", Effect::Read),
        21 => ("write file record", Effect::Write),
        22 => ("mask write register", Effect::Write),
        23 => ("read and write registers", Effect::Write),
        24 => ("read queue", Effect::Read),
        43 => ("encapsulated transport", Effect::Upkeep),
        // Schneider's UMAS has its own functions inside, see `umas`.
        90 => ("UMAS", Effect::Upkeep),
        // Programming of Schneider (126) and GE, Honeywell and others (125).
        125 | 126 => ("vendor programming", Effect::Control),
        // User-defined by the specification, section 5.
        65..=72 | 100..=110 => ("user-defined", Effect::Read),
        _ => ("undefined", Effect::Illegal),
    }
}

/// What follows function 90 and the session's byte, as published analyses of the protocol name it.
fn umas(code: u8) -> (&'static str, Effect) {
    match code {
        0x10 | 0x11 => ("UMAS reservation", Effect::Upkeep),
        0x23 | 0x25 | 0x29 | 0x71 => ("UMAS write", Effect::Write),
        0x30..=0x32 => ("UMAS upload", Effect::Read),
        0x33..=0x36 => ("UMAS download", Effect::Control),
        0x40 => ("UMAS start", Effect::Control),
        0x41 => ("UMAS stop", Effect::Control),
        _ => ("UMAS", Effect::Upkeep),
    }
}

pub(super) fn parse(role: Role, bytes: &[u8]) -> Step {
    let Some(header) = bytes.first_chunk::<HEADER>() else {
        return match be16(bytes, 2) {
            Some(protocol) if protocol != 0 => Step::Wrong,
            _ => Step::More,
        };
    };
    let len = u16::from_be_bytes([header[4], header[5]]);
    // UMAS has longer units.
    let umas_follows = bytes.get(HEADER) == Some(&90) && (2..=UMAS_LONGEST).contains(&len);
    if header[2..4] != [0, 0] || !(LENGTHS.contains(&len) || umas_follows) {
        return Step::Wrong;
    }
    let whole = 6 + usize::from(len);
    let Some(frame) = bytes.get(..whole) else { return Step::More };
    let code = frame[HEADER];
    let (mut name, mut effect) = function(code & 0x7f);
    if code == 90
        && role == Role::Request
        && let Some(inner) = frame.get(HEADER + 2)
    {
        (name, effect) = umas(*inner);
    }
    let mut message = Message {
        role,
        function: u16::from(code & 0x7f),
        name,
        effect,
        unit: u32::from(header[6]),
        address: None,
        refused: None,
    };
    if code & 0x80 != 0 {
        message.refused = frame.get(HEADER + 1).map(|exception| u16::from(*exception));
        if role == Role::Request {
            // A client that answers with an exception is none.
            (name, effect) = ("undefined", Effect::Illegal);
        }
    } else if role == Role::Request {
        let one = matches!(code, 5 | 6 | 22);
        let many = matches!(code, 1..=4 | 15 | 16);
        let at = if code == 23 { HEADER + 5 } else { HEADER + 1 };
        message.address = match (be16(frame, at), be16(frame, at + 2)) {
            (Some(first), _) if one => Some((u32::from(first), 1)),
            (Some(first), Some(count)) if many || code == 23 => {
                Some((u32::from(first), u32::from(count)))
            }
            _ => None,
        };
        // Restart communications, and listen-only mode: the server falls silent.
        if code == 8 && matches!(be16(frame, HEADER + 1), Some(1 | 4)) {
            (name, effect) = ("restart or silence", Effect::Control);
        }
    }
    (message.name, message.effect) = (name, effect);
    Step::Frame(whole, vec![message])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(pdu: &[u8]) -> Vec<u8> {
        [&[0, 1, 0, 0, 0, pdu.len() as u8 + 1, 17][..], pdu].concat()
    }

    #[test]
    fn requests_answers_and_exceptions() {
        type Case<'a> = (&'a [u8], Role, u16, Effect, Option<(u32, u32)>, Option<u16>);
        let cases: [Case<'_>; 6] = [
            (&[3, 0, 107, 0, 3], Role::Request, 3, Effect::Read, Some((107, 3)), None),
            (&[3, 2, 1, 2], Role::Response, 3, Effect::Read, None, None),
            (&[6, 0, 1, 0, 3], Role::Request, 6, Effect::Write, Some((1, 1)), None),
            (&[0x83, 2], Role::Response, 3, Effect::Read, None, Some(2)),
            (&[8, 0, 4, 0, 0], Role::Request, 8, Effect::Control, None, None),
            (&[99, 0], Role::Request, 99, Effect::Illegal, None, None),
        ];
        for (pdu, role, function, effect, address, refused) in cases {
            let bytes = frame(pdu);
            let Step::Frame(len, messages) = parse(role, &bytes) else { panic!("{pdu:?}") };
            let found = messages[0];
            assert_eq!(len, bytes.len());
            assert_eq!(
                (found.function, found.effect, found.address, found.refused, found.unit),
                (function, effect, address, refused, 17),
                "{pdu:?}"
            );
        }
    }

    #[test]
    fn cut_frames_wait_and_others_are_wrong() {
        let whole = frame(&[3, 0, 107, 0, 3]);
        for cut in 0..whole.len() {
            assert_eq!(parse(Role::Request, &whole[..cut]), Step::More, "{cut}");
        }
        assert_eq!(parse(Role::Request, b"GET / HTTP/1.1\r\n"), Step::Wrong);
        assert_eq!(parse(Role::Request, &[0, 1, 0, 0, 1, 0, 17, 3]), Step::Wrong, "256 bytes");
    }
}
