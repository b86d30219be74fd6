//! Checksums, corrected by what changed below them (RFC 1624): right where they were right, wrong
//! by the same amount where they were wrong, also in packets of which only a part was kept.

/// A one's-complement checksum and what it covers.
#[derive(Clone, Debug)]
pub(super) struct Sum {
    /// First byte covered.
    pub(super) start: usize,
    /// End of what is covered: only what is stored counts.
    pub(super) end: usize,
    /// Where its two bytes are.
    pub(super) at: usize,
    /// What changed in the pseudo-header: sum of the new 16-bit words minus that of the old.
    pub(super) pseudo: i64,
    /// 0 says "none", as in UDP.
    pub(super) optional: bool,
}

/// What words of 16 bits changed by, from `start` on.
fn change(old: &[u8], new: &[u8]) -> i64 {
    let mut change = 0;
    for (at, (old, new)) in old.iter().zip(new).enumerate() {
        if old != new {
            let weight = if at % 2 == 0 { 256 } else { 1 };
            change += (i64::from(*new) - i64::from(*old)) * weight;
        }
    }
    change
}

/// What a pseudo-header changed by.
pub(super) fn pseudo(old: &[u8], new: &[u8]) -> i64 {
    change(old, new)
}

impl Sum {
    /// Corrects the checksum in `new`.
    pub(super) fn correct(&self, old: &[u8], new: &mut [u8]) -> bool {
        let end = self.end.min(new.len());
        let Some(stored) = new.get(self.at..self.at + 2).filter(|_| self.at + 2 <= end) else {
            return false;
        };
        let was = u16::from_be_bytes([stored[0], stored[1]]);
        if self.optional && was == 0 {
            return false;
        }
        let change = change(&old[self.start..end], &new[self.start..end]) + self.pseudo;
        // Arithmetic of one's complement is that modulo 65,535.
        let turned = change.rem_euclid(65_535);
        if turned == 0 {
            return false;
        }
        let sum = (i64::from(!was) + turned).rem_euclid(65_535) as u16;
        let mut now = !sum;
        if self.optional && now == 0 {
            now = 0xffff;
        }
        new[self.at..self.at + 2].copy_from_slice(&now.to_be_bytes());
        true
    }
}

/// Zeros in place of bytes, but for two that keep their sum: for a fragment, whose checksum is in
/// another packet.
pub(super) fn empty_neutrally(bytes: &mut [u8]) {
    let sum = bytes
        .iter()
        .enumerate()
        .map(|(at, byte)| u64::from(*byte) << if at % 2 == 0 { 8 } else { 0 });
    let mut sum: u64 = sum.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    bytes.fill(0);
    match bytes {
        [first, second, ..] => [*first, *second] = (sum as u16).to_be_bytes(),
        [only] => *only = (sum >> 8) as u8,
        [] => {}
    }
}

/// CRC-32C (RFC 9260, appendix A) as SCTP stores it: its field, at 8, counts as zeros.
pub(super) fn sctp(packet: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for (at, byte) in packet.iter().enumerate() {
        crc ^= u32::from(if (8..12).contains(&at) { 0 } else { *byte });
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The Internet checksum as RFC 1071 has it: 0 when `bytes` with their checksum are right.
    fn internet(bytes: &[u8]) -> u16 {
        let mut sum: u32 = bytes
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)))
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    proptest! {
        #[test]
        fn a_checksum_is_right_after_exactly_when_it_was_before(
            old in prop::collection::vec(any::<u8>(), 4..60),
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..9),
            right in any::<bool>(),
        ) {
            let mut old = old;
            if right {
                old[2..4].fill(0);
                let sum = internet(&old);
                old[2..4].copy_from_slice(&sum.to_be_bytes());
            }
            let mut new = old.clone();
            for (at, byte) in edits {
                let at = at.index(new.len());
                if !(2..4).contains(&at) {
                    new[at] = byte;
                }
            }
            let sum = Sum { start: 0, end: new.len(), at: 2, pseudo: 0, optional: false };
            sum.correct(&old, &mut new);
            // All zeros and all ones are both nothing.
            let good = |bytes: &[u8]| internet(bytes) == 0 || bytes.iter().all(|byte| *byte == 0);
            prop_assert_eq!(good(&old), good(&new));
        }

        #[test]
        fn a_fragment_keeps_its_sum(bytes in prop::collection::vec(any::<u8>(), 2..80)) {
            let mut emptied = bytes.clone();
            empty_neutrally(&mut emptied);
            prop_assert!(emptied[2..].iter().all(|byte| *byte == 0));
            prop_assert_eq!(internet(&bytes) % 0xffff, internet(&emptied) % 0xffff);
        }
    }

    #[test]
    fn crc32c_of_nothing_but_its_field_and_of_the_check_string() {
        // The usual check value of "123456789" is 0xe3069283; its ninth byte is in the field here.
        let mut crc = u32::MAX;
        for byte in b"123456789" {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            }
        }
        assert_eq!(!crc, 0xe306_9283);
        assert_eq!(sctp(b"12345678"), !{
            let mut crc = u32::MAX;
            for byte in b"12345678" {
                crc ^= u32::from(*byte);
                for _ in 0..8 {
                    crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
                }
            }
            crc
        });
    }
}
