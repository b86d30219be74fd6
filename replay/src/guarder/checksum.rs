//! Which packets no host would take, by the checksum of the IPv4 header.

use psc_formats::packet::{Headers, Network};

/// Wrong ones before they can be the capture's doing.
const ENOUGH: u64 = 50;

/// Counts checksums: where a quarter or more is wrong, addresses were rewritten after the capture (as public
/// archives do to make them anonymous) and the checksum says nothing.
#[derive(Debug, Default)]
pub(super) struct Checksums {
    right: u64,
    wrong: u64,
    /// Wrong, and of a header that does not fit its packet.
    nonsense: u64,
}

/// Whether the sum over a whole stored header is right (RFC 1071); `None` where it cannot be told: not IPv4,
/// cut, or left to the device (0).
fn right(headers: &Headers, bytes: &[u8]) -> Option<bool> {
    let Network::V4(ip) = headers.network else { return None };
    let header = bytes.get(usize::from(headers.network_offset)..)?;
    let header = header.get(..usize::from(ip.header_len).max(20))?;
    if header[10..12] == [0, 0] {
        return None;
    }
    let words =
        header.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    Some((folded & 0xffff) + (folded >> 16) == 0xffff)
}

impl Checksums {
    /// Takes a packet in; whether it is damaged as far as the packets before it tell.
    pub(super) fn damaged(&mut self, headers: &Headers, bytes: &[u8]) -> bool {
        match right(headers, bytes) {
            None => false,
            Some(true) => {
                self.right += 1;
                false
            }
            // Rewritten headers fit their packets all the same: these are random bytes.
            Some(false) if headers.malformed.is_some() => {
                self.nonsense += 1;
                true
            }
            Some(false) => {
                self.wrong += 1;
                self.wrong < ENOUGH
                    || self.wrong < self.right / 3
                    || self.nonsense >= self.wrong / 4
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use psc_formats::event::LinkType;
    use psc_formats::packet;

    use crate::guarder::scene::{A, B, ip, udp};

    /// RFC 1071's example of a header, in a frame; `sum` stands where the checksum is.
    fn damaged(checksums: &mut Checksums, sum: u16) -> bool {
        let mut frame = ip((A, B), "10.0.0.1", "10.0.0.2", 17, &udp(1, 2, b"x"));
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        let headers = packet::decode(LinkType::ETHERNET, &frame, frame.len() as u32);
        checksums.damaged(&headers, &frame)
    }

    #[test]
    fn wrong_is_damaged_unless_many_are() {
        // 4500 001d 0000 4000 4011 + 0a00 0001 0a00 0002, folded and inverted.
        const RIGHT: u16 = 0x26ce;
        let mut few = Checksums::default();
        for sum in [RIGHT, 0] {
            assert!(!damaged(&mut few, sum), "{sum:#x}");
        }
        assert!(damaged(&mut few, RIGHT + 1));
        let mut rewritten = Checksums::default();
        let told: Vec<bool> = (0..60).map(|_| damaged(&mut rewritten, 0x1234)).collect();
        assert!(told[48] && !told[49] && !told[59], "a capture whose addresses were rewritten");
    }
}
