//! DNP3 (IEEE 1815): link frames with a CRC on each block, transport segments, application fragments. The
//! function is in the first segment of a fragment, so later ones are stepped over.

use super::{Effect, Message, Role, Step, le16};

/// Start bytes, length, control, destination, source, CRC.
const HEADER: usize = 10;
const BLOCK: usize = 16;

fn function(code: u8) -> (&'static str, Effect) {
    match code {
        0 => ("confirm", Effect::Upkeep),
        1 => ("read", Effect::Read),
        2 => ("write", Effect::Write),
        3 => ("select", Effect::Write),
        4 => ("operate", Effect::Write),
        5 => ("direct operate", Effect::Write),
        6 => ("direct operate without answer", Effect::Write),
        7..=10 => ("freeze", Effect::Upkeep),
        11 | 12 => ("freeze at a time", Effect::Upkeep),
        13 => ("cold restart", Effect::Control),
        14 => ("warm restart", Effect::Control),
        15 => ("initialize data", Effect::Control),
        16 => ("initialize application", Effect::Control),
        17 => ("start application", Effect::Control),
        18 => ("stop application", Effect::Control),
        19 => ("save configuration", Effect::Control),
        20 => ("enable unsolicited", Effect::Upkeep),
        21 => ("disable unsolicited", Effect::Control),
        22 => ("assign class", Effect::Upkeep),
        23 => ("measure delay", Effect::Upkeep),
        24 => ("record time", Effect::Upkeep),
        25 => ("open file", Effect::Read),
        26 => ("close file", Effect::Upkeep),
        27 => ("delete file", Effect::Control),
        28 => ("get file information", Effect::Read),
        29 => ("authenticate file", Effect::Upkeep),
        30 => ("abort file", Effect::Upkeep),
        31 => ("activate configuration", Effect::Control),
        32 | 33 => ("authentication", Effect::Upkeep),
        129 => ("response", Effect::Read),
        130 => ("unsolicited response", Effect::Read),
        131 => ("authentication response", Effect::Upkeep),
        _ => ("undefined", Effect::Illegal),
    }
}

/// CRC-16/DNP: reflected 0x3D65, inverted.
fn crc(bytes: &[u8]) -> u16 {
    let mut crc = 0_u16;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xa6bc } else { crc >> 1 };
        }
    }
    !crc
}

pub(super) fn parse(bytes: &[u8]) -> Step {
    let start = [0x05, 0x64];
    let seen = bytes.len().min(2);
    if bytes[..seen] != start[..seen] {
        return Step::Wrong;
    }
    let Some(header) = bytes.first_chunk::<HEADER>() else { return Step::More };
    if header[2] < 5 || u16::from_le_bytes([header[8], header[9]]) != crc(&header[..8]) {
        return Step::Wrong;
    }
    let data = usize::from(header[2]) - 5;
    let whole = HEADER + data + 2 * data.div_ceil(BLOCK);
    let Some(frame) = bytes.get(..whole) else { return Step::More };
    let mut user = Vec::with_capacity(data);
    for block in frame[HEADER..].chunks(BLOCK + 2) {
        let (content, check) = block.split_at(block.len().saturating_sub(2));
        if le16(check, 0) != Some(crc(content)) {
            return Step::Wrong;
        }
        user.extend_from_slice(content);
    }
    let destination = u32::from(u16::from_le_bytes([header[4], header[5]]));
    let source = u32::from(u16::from_le_bytes([header[6], header[7]]));
    // Transport byte with the first-segment bit, application control, function.
    let messages = match user.as_slice() {
        [transport, _, code, ..] if transport & 0x40 != 0 => {
            let (name, effect) = function(*code);
            let answer = matches!(code, 129..=131);
            // Internal indications: function, object or parameter not supported.
            let refused = user.get(4).filter(|_| answer).map(|iin| u16::from(iin & 0x07));
            vec![Message {
                role: if answer { Role::Response } else { Role::Request },
                function: u16::from(*code),
                name,
                effect,
                unit: if answer { source } else { destination },
                address: None,
                refused: refused.filter(|bits| *bits != 0),
            }]
        }
        _ => Vec::new(),
    };
    Step::Frame(whole, messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn frame(user: &[u8]) -> Vec<u8> {
        let mut out = vec![0x05, 0x64, 5 + user.len() as u8, 0xc4, 10, 0, 1, 0];
        out.extend(crc(&out).to_le_bytes());
        for block in user.chunks(BLOCK) {
            out.extend(block);
            out.extend(crc(block).to_le_bytes());
        }
        out
    }

    #[test]
    fn the_crc_is_dnp3s() {
        // Check value of CRC-16/DNP in the catalogue of parametrised CRC algorithms.
        assert_eq!(crc(b"123456789"), 0xea82);
    }

    #[test]
    fn frames_are_read_and_damage_is_wrong() {
        let restart = frame(&[0xc0, 0xc0, 13]);
        let Step::Frame(len, messages) = parse(&restart) else { panic!("no frame") };
        assert_eq!((len, messages[0].function, messages[0].unit), (restart.len(), 13, 10));
        assert_eq!(messages[0].effect, Effect::Control);
        let long = frame(&[&[0xc0, 0xc0, 1][..], &[0; 40]].concat());
        for cut in 0..long.len() {
            assert_eq!(parse(&long[..cut]), Step::More, "{cut}");
        }
        for at in [8, 10, 30] {
            let mut broken = long.clone();
            broken[at] ^= 1;
            assert_eq!(parse(&broken), Step::Wrong, "{at}");
        }
    }

    #[test]
    fn an_answer_that_says_no_is_a_refusal() {
        let Step::Frame(_, messages) = parse(&frame(&[0xc0, 0xc0, 129, 0, 1])) else { panic!() };
        assert_eq!((messages[0].refused, messages[0].unit), (Some(1), 1));
    }
}
