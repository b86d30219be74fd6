//! EtherNet/IP encapsulation and the CIP services in it (CIP Networks Library volumes 1 and 2).

use super::{Effect, Message, Role, Step, le16};

const HEADER: usize = 24;

/// What an encapsulated frame may carry; larger is no frame.
const LONGEST: usize = 65_511;

fn command(code: u16) -> Option<&'static str> {
    Some(match code {
        0x00 => "NOP",
        0x04 => "list services",
        0x63 => "list identity",
        0x64 => "list interfaces",
        0x65 => "register session",
        0x66 => "unregister session",
        0x6f => "send request or reply",
        0x70 => "send unit data",
        0x72 => "indicate status",
        0x73 => "cancel",
        _ => return None,
    })
}

/// A CIP service; some codes mean something else at the connection manager (class 6).
fn service(code: u8, class: Option<u32>) -> (&'static str, Effect) {
    match (code, class) {
        (0x4e, Some(6)) => ("forward close", Effect::Upkeep),
        (0x52, Some(6)) => ("unconnected send", Effect::Upkeep),
        (0x54, Some(6)) => ("forward open", Effect::Upkeep),
        (0x5b, Some(6)) => ("large forward open", Effect::Upkeep),
        (0x5a, Some(6)) => ("get connection owner", Effect::Upkeep),
        (0x01, _) => ("get all attributes", Effect::Read),
        (0x02, _) => ("set all attributes", Effect::Write),
        (0x03, _) => ("get attribute list", Effect::Read),
        (0x04, _) => ("set attribute list", Effect::Write),
        (0x05, _) => ("reset", Effect::Control),
        (0x06, _) => ("start", Effect::Control),
        (0x07, _) => ("stop", Effect::Control),
        (0x08, _) => ("create", Effect::Control),
        (0x09, _) => ("delete", Effect::Control),
        (0x0a, _) => ("multiple services", Effect::Upkeep),
        (0x0d, _) => ("apply attributes", Effect::Control),
        (0x0e, _) => ("get attribute", Effect::Read),
        (0x10, _) => ("set attribute", Effect::Write),
        (0x11, _) => ("find next object", Effect::Read),
        (0x15, _) => ("restore", Effect::Control),
        (0x16, _) => ("save", Effect::Control),
        (0x17, _) => ("no operation", Effect::Upkeep),
        (0x18, _) => ("get member", Effect::Read),
        (0x19, _) => ("set member", Effect::Write),
        (0x1a, _) => ("insert member", Effect::Write),
        (0x1b, _) => ("remove member", Effect::Write),
        // Services of a class: of controllers mostly tags (Logix 5000 data access).
        (0x4b, _) => ("execute PCCC", Effect::Write),
        (0x4c, _) => ("read tag", Effect::Read),
        (0x4d, _) => ("write tag", Effect::Write),
        (0x4e, _) => ("read, modify and write tag", Effect::Write),
        (0x52, _) => ("read tag in fragments", Effect::Read),
        (0x53, _) => ("write tag in fragments", Effect::Write),
        (0x55, _) => ("list tags", Effect::Read),
        (0x32..=0x63, _) => ("service of the class", Effect::Read),
        _ => ("undefined", Effect::Illegal),
    }
}

pub(super) fn parse(bytes: &[u8]) -> Step {
    let Some(code) = le16(bytes, 0) else { return Step::More };
    let Some(name) = command(code) else { return Step::Wrong };
    let Some(header) = bytes.first_chunk::<HEADER>() else { return Step::More };
    let len = usize::from(u16::from_le_bytes([header[2], header[3]]));
    let options = u32::from_le_bytes([header[20], header[21], header[22], header[23]]);
    if len > LONGEST || options != 0 {
        return Step::Wrong;
    }
    let Some(frame) = bytes.get(..HEADER + len) else { return Step::More };
    let status = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    let mut messages = vec![Message {
        role: Role::Request,
        function: code,
        name,
        effect: Effect::Upkeep,
        unit: 0,
        address: None,
        refused: (status != 0).then_some(status as u16),
    }];
    if matches!(code, 0x6f | 0x70) {
        messages.extend(items(&frame[HEADER..]));
    }
    Step::Frame(HEADER + len, messages)
}

/// CIP messages in the items of the common packet format.
fn items(data: &[u8]) -> Vec<Message> {
    let mut out = Vec::new();
    // What is damaged ends the walk; what was read before stands.
    let _ = walk(data, &mut out);
    out
}

fn walk(data: &[u8], out: &mut Vec<Message>) -> Option<()> {
    let count = le16(data, 6)?;
    let mut rest = data.get(8..)?;
    for _ in 0..count.min(8) {
        let (kind, len) = (le16(rest, 0)?, usize::from(le16(rest, 2)?));
        let item = rest.get(4..4 + len)?;
        // A connected item starts with a sequence count.
        let cip_bytes = match kind {
            0xb2 => Some(item),
            0xb1 => Some(item.get(2..)?),
            _ => None,
        };
        if let Some(bytes) = cip_bytes {
            let message = cip(bytes)?;
            out.push(message);
            if message.function == CIP | u16::from(MULTIPLE) {
                let _ = several(bytes, out);
            }
            return Some(());
        }
        rest = &rest[4 + len..];
    }
    None
}

const MULTIPLE: u8 = 0x0a;
/// Services looked at in one message; a frame has room for more, no client sends them.
const SEVERAL: usize = 256;

/// The services inside of a multiple service packet or its answer (volume 1, appendix A): how many, where
/// each begins, and they.
fn several(data: &[u8], out: &mut Vec<Message>) -> Option<()> {
    let answer = *data.first()? & 0x80 != 0;
    let words = usize::from(*data.get(if answer { 3 } else { 1 })?);
    let body = data.get(if answer { 4 } else { 2 } + words * 2..)?;
    let count = usize::from(le16(body, 0)?).min(SEVERAL);
    for n in 0..count {
        let from = usize::from(le16(body, 2 + 2 * n)?);
        let inner = body.get(from..)?;
        let inner = if answer { cip(inner) } else { cip_plain(inner) };
        out.extend(inner);
    }
    Some(())
}

/// Functions of CIP are told from encapsulation commands by this bit.
pub(super) const CIP: u16 = 0x100;

fn cip(data: &[u8]) -> Option<Message> {
    let code = *data.first()?;
    if code & 0x80 != 0 {
        let (name, effect) = service(code & 0x7f, None);
        let status = u16::from(*data.get(2)?);
        return Some(Message {
            role: Role::Response,
            function: CIP | u16::from(code & 0x7f),
            name,
            // What an answer's code means depends on the class asked, which it does not repeat.
            effect: if effect == Effect::Illegal { Effect::Upkeep } else { effect },
            unit: 0,
            address: None,
            refused: (status != 0).then_some(status),
        });
    }
    let words = usize::from(*data.get(1)?);
    let path = data.get(2..2 + words * 2)?;
    let class = class(path);
    if (code, class) == (0x52, Some(6)) {
        // Priority, ticks, length, then the message to be passed on.
        let body = data.get(2 + words * 2..)?;
        let len = usize::from(le16(body, 2)?);
        if let Some(inner) = body.get(4..4 + len).and_then(cip_plain) {
            return Some(inner);
        }
    }
    cip_plain(data)
}

fn cip_plain(data: &[u8]) -> Option<Message> {
    let code = *data.first()?;
    let words = usize::from(*data.get(1)?);
    let path = data.get(2..2 + words * 2)?;
    let class = class(path);
    let (name, effect) = service(code & 0x7f, class);
    Some(Message {
        role: Role::Request,
        function: CIP | u16::from(code & 0x7f),
        name,
        effect,
        unit: 0,
        address: class.map(|class| (class, 1)),
        refused: None,
    })
}

/// Class of a path's first logical segment.
fn class(path: &[u8]) -> Option<u32> {
    match *path {
        [0x20, class, ..] => Some(u32::from(class)),
        [0x21, _, low, high, ..] => Some(u32::from(u16::from_le_bytes([low, high]))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(code: u16, data: &[u8]) -> Vec<u8> {
        let mut out = code.to_le_bytes().to_vec();
        out.extend((data.len() as u16).to_le_bytes());
        out.resize(HEADER, 0);
        out.extend(data);
        out
    }

    fn request(cip: &[u8]) -> Vec<u8> {
        let mut data = vec![0; 6];
        data.extend([2, 0, 0, 0, 0, 0, 0xb2, 0]);
        data.extend((cip.len() as u16).to_le_bytes());
        data.extend(cip);
        frame(0x6f, &data)
    }

    #[test]
    fn services_and_their_effects() {
        for (cip, function, effect) in [
            (&[0x07, 2, 0x20, 0x64, 0x24, 1][..], 0x107, Effect::Control),
            (&[0x0e, 2, 0x20, 1, 0x24, 1], 0x10e, Effect::Read),
            (&[0x4d, 2, 0x91, 2, b'a', b'b'], 0x14d, Effect::Write),
            (&[0x54, 2, 0x20, 6, 0x24, 1], 0x154, Effect::Upkeep),
            (
                &[0x52, 2, 0x20, 6, 0x24, 1, 5, 9, 6, 0, 0x05, 2, 0x20, 1, 0x24, 1],
                0x105,
                Effect::Control,
            ),
        ] {
            let bytes = request(cip);
            let Step::Frame(len, messages) = parse(&bytes) else { panic!("{cip:?}") };
            assert_eq!(len, bytes.len());
            assert_eq!((messages[1].function, messages[1].effect), (function, effect), "{cip:?}");
            for cut in 0..bytes.len() {
                assert_eq!(parse(&bytes[..cut]), Step::More, "{cut}");
            }
        }
        assert_eq!(parse(b"GET /"), Step::Wrong);
    }

    #[test]
    fn services_inside_of_one_are_told_each() {
        let ask = [
            0x0a, 2, 0x20, 2, 0x24, 1, 2, 0, 6, 0, 12, 0, 0x03, 2, 0x20, 1, 0x24, 1, 0x05, 2, 0x20,
            1, 0x24, 1,
        ];
        let tell = [0x8a, 0, 0, 0, 2, 0, 6, 0, 10, 0, 0x83, 0, 0, 0, 0x85, 0, 8, 0];
        for (cip, functions, refused) in [
            (&ask[..], [0x10a, 0x103, 0x105], [None, None, None]),
            (&tell, [0x10a, 0x103, 0x105], [None, None, Some(8)]),
        ] {
            let bytes = request(cip);
            let Step::Frame(_, messages) = parse(&bytes) else { panic!("{cip:?}") };
            assert_eq!(messages[1..].iter().map(|m| m.function).collect::<Vec<_>>(), functions);
            assert_eq!(messages[1..].iter().map(|m| m.refused).collect::<Vec<_>>(), refused);
            for len in 0..cip.len() {
                let _ = parse(&request(&cip[..len]));
            }
        }
    }
}
