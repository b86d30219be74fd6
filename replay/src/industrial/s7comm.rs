//! S7comm: TPKT (RFC 1006), COTP (ISO 8073), and Siemens' own layer above, as Wireshark's
//! `packet-s7comm.c` describes it. S7comm-plus is recognised and not looked into.

use super::{Effect, Message, Role, Step, be16};

const TPKT: usize = 4;

fn job(code: u8) -> (&'static str, Effect) {
    match code {
        0x00 => ("CPU services", Effect::Read),
        0x04 => ("read variable", Effect::Read),
        0x05 => ("write variable", Effect::Write),
        0x1a => ("request download", Effect::Control),
        0x1b => ("download block", Effect::Control),
        0x1c => ("download ended", Effect::Control),
        0x1d => ("start upload", Effect::Read),
        0x1e => ("upload", Effect::Read),
        0x1f => ("end upload", Effect::Read),
        0x28 => ("program invocation (start, delete, activate)", Effect::Control),
        0x29 => ("stop", Effect::Control),
        0xf0 => ("set up communication", Effect::Upkeep),
        _ => ("undefined", Effect::Illegal),
    }
}

/// Function groups of user data.
fn user_data(group: u8, subfunction: u8) -> (&'static str, Effect) {
    match group {
        0 => ("mode transition", Effect::Upkeep),
        1 => ("programmer commands", Effect::Read),
        2 => ("cyclic data", Effect::Read),
        3 => ("block functions", Effect::Read),
        4 => ("CPU functions", Effect::Read),
        5 => ("security", Effect::Control),
        6 => ("programmable block functions", Effect::Read),
        // 1 reads the clock, 2 and 3 set it.
        7 if matches!(subfunction, 2 | 3) => ("set clock", Effect::Write),
        7 => ("time functions", Effect::Read),
        _ => ("other user data", Effect::Upkeep),
    }
}

pub(super) fn parse(bytes: &[u8]) -> Step {
    if bytes.first().is_some_and(|version| *version != 3) {
        return Step::Wrong;
    }
    let Some(len) = be16(bytes, 2) else { return Step::More };
    let len = usize::from(len);
    // TPKT, and a COTP header of two bytes at least.
    if len < TPKT + 3 || bytes[1] != 0 {
        return Step::Wrong;
    }
    let Some(frame) = bytes.get(..len) else { return Step::More };
    let cotp = usize::from(frame[TPKT]) + 1;
    let kind = frame[TPKT + 1] & 0xf0;
    let Some(s7) = frame.get(TPKT + cotp..).filter(|_| kind == 0xf0) else {
        // Connection set-up and release, or a COTP header that lies about its length.
        return if TPKT + cotp > len { Step::Wrong } else { Step::Frame(len, Vec::new()) };
    };
    Step::Frame(len, message(s7).into_iter().collect())
}

fn message(s7: &[u8]) -> Option<Message> {
    let header = s7.first_chunk::<10>()?;
    if header[0] != 0x32 {
        return None;
    }
    let kind = header[1];
    let has_error = matches!(kind, 2 | 3);
    let parameters = s7.get(if has_error { 12 } else { 10 }..)?;
    let (role, function, name, effect) = match kind {
        1 | 3 => {
            let code = *parameters.first()?;
            let (name, effect) = job(code);
            let role = if kind == 1 { Role::Request } else { Role::Response };
            (role, u16::from(code), name, effect)
        }
        7 => {
            // 00 01 12, length, method, type and group, subfunction.
            let [_, _, _, _, _, kind_group, subfunction, ..] = *parameters else { return None };
            let (name, effect) = user_data(kind_group & 0x0f, subfunction);
            let role = if kind_group >> 4 == 8 { Role::Response } else { Role::Request };
            (role, 0x100 | u16::from(kind_group & 0x0f), name, effect)
        }
        // An acknowledgement without data names no function.
        2 => return None,
        _ => (Role::Request, u16::from(kind), "undefined", Effect::Illegal),
    };
    let refused = if has_error { be16(s7, 10).filter(|error| *error != 0) } else { None };
    // The first variable's data block or area address: specification 12 0a 10, then size, count, block,
    // area, address in bits.
    let address = match parameters {
        [4 | 5, _, 0x12, 0x0a, 0x10, _, c0, c1, b0, b1, _, ..] if kind == 1 => {
            let block = u32::from(u16::from_be_bytes([*b0, *b1]));
            Some((block, u32::from(u16::from_be_bytes([*c0, *c1]))))
        }
        _ => None,
    };
    Some(Message { role, function, name, effect, unit: 0, address, refused })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, parameters: &[u8]) -> Vec<u8> {
        let mut s7 = vec![0x32, kind, 0, 0, 0, 1];
        s7.extend((parameters.len() as u16).to_be_bytes());
        s7.extend([0, 0]);
        if matches!(kind, 2 | 3) {
            s7.extend([0, 0]);
        }
        s7.extend(parameters);
        let len = (TPKT + 3 + s7.len()) as u16;
        [&[3, 0][..], &len.to_be_bytes(), &[2, 0xf0, 0x80], &s7].concat()
    }

    #[test]
    fn jobs_answers_and_user_data() {
        for (kind, parameters, function, effect) in [
            (1, &[0x29, 0, 0, 0][..], 0x29, Effect::Control),
            (1, &[0x05, 1, 0x12, 0x0a, 0x10, 2, 0, 1, 0, 7, 0x84, 0, 0, 0], 5, Effect::Write),
            (3, &[0x04, 1], 4, Effect::Read),
            (1, &[0x77], 0x77, Effect::Illegal),
            (7, &[0, 1, 0x12, 4, 0x11, 0x47, 2, 0], 0x107, Effect::Write),
        ] {
            let bytes = frame(kind, parameters);
            let Step::Frame(len, messages) = parse(&bytes) else { panic!("{parameters:?}") };
            assert_eq!(len, bytes.len());
            assert_eq!((messages[0].function, messages[0].effect), (function, effect));
            for cut in 0..bytes.len() {
                assert_ne!(parse(&bytes[..cut]), Step::Wrong, "{cut}");
            }
        }
        assert_eq!(parse(b"GET /"), Step::Wrong);
        assert_eq!(parse(&[3, 0, 0, 4]), Step::Wrong);
    }
}
