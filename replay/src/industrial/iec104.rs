//! IEC 60870-5-104: telecontrol messages over TCP.

use super::{Effect, Message, Role, Step, le16};

fn type_id(code: u8) -> (&'static str, Effect) {
    match code {
        1..=21 | 30..=40 => ("monitored values", Effect::Read),
        45 | 58 => ("single command", Effect::Write),
        46 | 59 => ("double command", Effect::Write),
        47 | 60 => ("step command", Effect::Write),
        48..=50 | 61..=63 => ("set-point command", Effect::Write),
        51 | 64 => ("bitstring command", Effect::Write),
        70 => ("end of initialization", Effect::Upkeep),
        100 => ("general interrogation", Effect::Read),
        101 => ("counter interrogation", Effect::Read),
        102 => ("read command", Effect::Read),
        103 => ("clock synchronization", Effect::Write),
        104 | 107 => ("test command", Effect::Upkeep),
        105 => ("reset process", Effect::Control),
        106 => ("delay acquisition", Effect::Upkeep),
        110..=113 => ("parameter", Effect::Control),
        120..=127 => ("file transfer", Effect::Control),
        _ => ("undefined", Effect::Illegal),
    }
}

/// U-frames are told from types of data by this bit.
pub(super) const UNNUMBERED: u16 = 0x100;

pub(super) fn parse(bytes: &[u8]) -> Step {
    if bytes.first().is_some_and(|start| *start != 0x68) {
        return Step::Wrong;
    }
    let Some(&len) = bytes.get(1) else { return Step::More };
    if !(4..=253).contains(&len) {
        return Step::Wrong;
    }
    let whole = 2 + usize::from(len);
    let Some(frame) = bytes.get(..whole) else { return Step::More };
    let control = frame[2];
    if control & 1 == 0 {
        return Step::Frame(whole, asdu(&frame[6..]).into_iter().collect());
    }
    if control & 3 == 1 {
        return Step::Frame(whole, Vec::new());
    }
    let (name, effect) = match control & 0xfc {
        0x04 | 0x08 => ("start data transfer", Effect::Upkeep),
        // Stopping it stops what the control centre sees.
        0x10 => ("stop data transfer", Effect::Control),
        0x20 => ("stop data transfer confirmed", Effect::Upkeep),
        0x40 | 0x80 => ("test frame", Effect::Upkeep),
        _ => ("undefined", Effect::Illegal),
    };
    let confirms = matches!(control & 0xfc, 0x08 | 0x20 | 0x80);
    let message = Message {
        role: if confirms { Role::Response } else { Role::Request },
        function: UNNUMBERED | u16::from(control & 0xfc),
        name,
        effect,
        unit: 0,
        address: None,
        refused: None,
    };
    Step::Frame(whole, vec![message])
}

fn asdu(data: &[u8]) -> Option<Message> {
    let [code, structure, cause, _, ..] = *data else { return None };
    let (name, effect) = type_id(code);
    let unit = u32::from(le16(data, 4)?);
    let object =
        data.get(6..9).map(|o| u32::from(o[0]) | u32::from(o[1]) << 8 | u32::from(o[2]) << 16);
    // Activation and deactivation ask; confirmation, termination and data answer.
    let asks = matches!(cause & 0x3f, 5 | 6 | 8 | 13);
    let negative = cause & 0x40 != 0 || matches!(cause & 0x3f, 44..=47);
    Some(Message {
        role: if asks { Role::Request } else { Role::Response },
        function: u16::from(code),
        name,
        effect,
        unit,
        address: object.map(|first| (first, u32::from(structure & 0x7f).max(1))),
        refused: negative.then_some(u16::from(cause & 0x3f)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(control: u8, asdu: &[u8]) -> Vec<u8> {
        [&[0x68, 4 + asdu.len() as u8, control, 0, 0, 0][..], asdu].concat()
    }

    #[test]
    fn commands_answers_and_link_frames() {
        let command = frame(0, &[45, 1, 6, 0, 3, 0, 0x10, 0x27, 0, 1]);
        let Step::Frame(len, messages) = parse(&command) else { panic!("no frame") };
        let found = messages[0];
        assert_eq!(len, command.len());
        assert_eq!((found.function, found.effect, found.role), (45, Effect::Write, Role::Request));
        assert_eq!((found.unit, found.address), (3, Some((10_000, 1))));
        for cut in 0..command.len() {
            assert_eq!(parse(&command[..cut]), Step::More, "{cut}");
        }
        let refused = frame(0, &[45, 1, 0x47, 0, 3, 0, 0x10, 0x27, 0, 1]);
        let Step::Frame(_, messages) = parse(&refused) else { panic!("no frame") };
        assert_eq!((messages[0].role, messages[0].refused), (Role::Response, Some(7)));
        let Step::Frame(_, messages) = parse(&frame(0x13, &[])) else { panic!("no frame") };
        assert_eq!(messages[0].effect, Effect::Control);
        assert_eq!(parse(&[0x68, 3]), Step::Wrong);
        assert_eq!(parse(b"GET"), Step::Wrong);
    }
}
