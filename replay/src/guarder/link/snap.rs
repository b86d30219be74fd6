//! What link-layer protocols are carried in: VLAN tags, 802.2 LLC and SNAP.

use crate::guarder::detect::Packet;

/// Which protocol a frame carries, and its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carried<'a> {
    /// An EtherType.
    Type(u16, &'a [u8]),
    /// 802.2 with these service access points.
    Llc(u8, u8, &'a [u8]),
    /// SNAP with an organization's own protocol number.
    Snap([u8; 3], u16, &'a [u8]),
}

/// Tags with their tag protocol identifier, and what is behind them.
pub(super) fn read<'a>(packet: &Packet<'a>) -> Option<(Vec<(u16, u16)>, Carried<'a>)> {
    packet.headers.ethernet?;
    let bytes = packet.bytes;
    let be16 = |at: usize| Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk::<2>()?));
    let (mut at, mut tags) = (12, Vec::new());
    loop {
        let kind = be16(at)?;
        if matches!(kind, 0x8100 | 0x88a8 | 0x9100) && tags.len() < 4 {
            tags.push((kind, be16(at + 2)? & 0x0fff));
            at += 4;
            continue;
        }
        let rest = bytes.get(at + 2..)?;
        if kind >= 0x0600 {
            return Some((tags, Carried::Type(kind, rest)));
        }
        let rest = &rest[..rest.len().min(usize::from(kind))];
        let carried = match *rest {
            [0xaa, 0xaa, 3, a, b, c, hi, lo, ..] => {
                Carried::Snap([a, b, c], u16::from_be_bytes([hi, lo]), &rest[8..])
            }
            [dsap, ssap, _, ..] => Carried::Llc(dsap, ssap, &rest[3..]),
            _ => return None,
        };
        return Some((tags, carried));
    }
}

pub(super) const CISCO: [u8; 3] = [0, 0, 0x0c];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::conversation::Conversations;
    use crate::guarder::scene::{A, B, ether};
    use psc_formats::event::LinkType;
    use psc_formats::packet::decode;

    #[test]
    fn tags_and_sublayers_are_stepped_over() {
        let flows = Conversations::default();
        let stp = ether(A, B, 4, &[0x42, 0x42, 3, 9]);
        let dtp = ether(A, B, 10, &[0xaa, 0xaa, 3, 0, 0, 0x0c, 0x20, 4, 1, 2]);
        let tagged = ether(A, B, 0x8100, &[0, 1, 0x81, 0, 0, 20, 8, 0, 0x45]);
        for (bytes, tags, expected) in [
            (&stp, vec![], Carried::Llc(0x42, 0x42, &[9])),
            (&dtp, vec![], Carried::Snap(CISCO, 0x2004, &[1, 2])),
            (&tagged, vec![(0x8100, 1), (0x8100, 20)], Carried::Type(0x0800, &[0x45])),
        ] {
            let headers = decode(LinkType::ETHERNET, bytes, bytes.len() as u32);
            for cut in 0..=bytes.len() {
                let mut packet = Packet::of(0, &headers, &flows);
                packet.bytes = &bytes[..cut];
                let found = read(&packet);
                if cut == bytes.len() {
                    assert_eq!(found, Some((tags.clone(), expected)));
                }
            }
        }
    }
}
