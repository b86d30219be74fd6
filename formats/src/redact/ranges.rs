//! Special-purpose ranges (the registries of RFC 6890, multicast by RFC 5771 and RFC 4291): what is
//! in one is mapped within it, and nothing else is mapped into it.

use std::net::{Ipv4Addr, Ipv6Addr};

/// (first address, prefix length, how many leading bits stay).
type Range4 = ([u8; 4], u32, u32);
type Range6 = ([u16; 8], u32, u32);

/// Addresses of these keep their prefix; of the last group they stay as they are, since each means
/// one thing everywhere (loopback, all hosts, well-known groups).
#[rustfmt::skip]
const V4: [Range4; 22] = [
    ([0, 0, 0, 0], 8, 8),
    ([10, 0, 0, 0], 8, 8),
    ([100, 64, 0, 0], 10, 10),
    ([169, 254, 0, 0], 16, 16),
    ([172, 16, 0, 0], 12, 12),
    ([192, 0, 0, 0], 24, 24),
    ([192, 0, 2, 0], 24, 24),
    ([192, 31, 196, 0], 24, 24),
    ([192, 52, 193, 0], 24, 24),
    ([192, 88, 99, 0], 24, 24),
    ([192, 168, 0, 0], 16, 16),
    ([192, 175, 48, 0], 24, 24),
    ([198, 18, 0, 0], 15, 15),
    ([198, 51, 100, 0], 24, 24),
    ([203, 0, 113, 0], 24, 24),
    ([224, 0, 0, 0], 4, 8),
    ([240, 0, 0, 0], 4, 4),
    ([0, 0, 0, 0], 32, 32),
    ([127, 0, 0, 0], 8, 32),
    ([224, 0, 0, 0], 23, 32),
    ([239, 255, 255, 250], 32, 32),
    ([255, 255, 255, 255], 32, 32),
];

#[rustfmt::skip]
const V6: [Range6; 14] = [
    ([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, 48),
    ([0x100, 0, 0, 0, 0, 0, 0, 0], 64, 64),
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, 32),
    ([0x2001, 2, 0, 0, 0, 0, 0, 0], 48, 48),
    ([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28, 28),
    ([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28, 28),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, 32),
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, 16),
    ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, 8),
    ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, 64),
    ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, 16),
    // Solicited-node groups: 24 bits of an address.
    ([0xff02, 0, 0, 0, 0, 1, 0xff00, 0], 104, 104),
    ([0, 0, 0, 0, 0, 0, 0, 0], 128, 128),
    ([0, 0, 0, 0, 0, 0, 0, 1], 128, 128),
];

/// IPv4-mapped addresses and the well-known NAT64 prefix: an IPv4 address in 32 bits.
const EMBEDDING: [[u16; 8]; 2] = [[0, 0, 0, 0, 0, 0xffff, 0, 0], [0x64, 0xff9b, 0, 0, 0, 0, 0, 0]];

/// Leading bits of an address that stay as they are.
///
/// A bit is turned or not by what stands before it. It is never turned where a special range and
/// what is outside of it part ways, so both stay on their side.
pub(super) fn kept_v4(address: Ipv4Addr) -> u32 {
    let bits = u32::from(address);
    let kept = V4.iter().map(|&(range, len, inside)| {
        let common = (bits ^ u32::from_be_bytes(range)).leading_zeros();
        if common >= len { inside } else { common + 1 }
    });
    kept.max().unwrap_or(0)
}

/// As [`kept_v4`].
pub(super) fn kept_v6(address: Ipv6Addr) -> u32 {
    let bits = u128::from(address);
    let segments = address.segments();
    // A permanent group (RFC 4291, 2.7: its T flag is 0) is named in a registry.
    if segments[0] >> 8 == 0xff && segments[0] & 0x10 == 0 && !is_solicited(&segments) {
        return 128;
    }
    let common = |range: &[u16; 8]| (bits ^ u128::from(Ipv6Addr::from(*range))).leading_zeros();
    let kept = V6.iter().map(|(range, len, inside)| {
        let common = common(range);
        if common >= *len { *inside } else { common + 1 }
    });
    let parting = EMBEDDING.iter().map(|range| (common(range) + 1).min(96));
    kept.chain(parting).max().unwrap_or(0)
}

fn is_solicited(segments: &[u16; 8]) -> bool {
    segments[..6] == [0xff02, 0, 0, 0, 0, 1] && segments[6] >> 8 == 0xff
}

/// Whether the last 32 bits are an IPv4 address.
pub(super) fn embeds_v4(address: Ipv6Addr) -> bool {
    EMBEDDING.iter().any(|range| address.segments()[..6] == range[..6])
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::mapping::Mapping;
    use super::*;

    #[test]
    fn special_ranges_are_mapped_within_themselves_and_nothing_into_them() {
        let mut mapping = Mapping::new(&[9; 32], false);
        // Address, how many leading bits must stay; 0 is any.
        let cases = [
            ("10.1.2.3", 8),
            ("172.31.255.1", 12),
            ("192.168.1.1", 16),
            ("169.254.7.7", 16),
            ("100.127.0.1", 10),
            ("198.18.0.1", 15),
            ("127.0.0.1", 32),
            ("0.0.0.0", 32),
            ("255.255.255.255", 32),
            ("224.0.0.251", 32),
            ("239.255.255.250", 32),
            ("239.1.2.3", 8),
            ("::1", 128),
            ("fe80::1:2:3:4", 64),
            ("fd12:3456::1", 8),
            ("ff02::fb", 128),
            ("ff02::1:3", 128),
            ("ff02::1:ff12:3456", 104),
            ("2001:db8::1", 32),
            ("::ffff:192.168.1.1", 112),
        ];
        for (text, bits) in cases {
            let address: IpAddr = text.parse().unwrap();
            let mapped = mapping.address(address);
            let same = match (address, mapped) {
                (IpAddr::V4(a), IpAddr::V4(b)) => (u32::from(a) ^ u32::from(b)).leading_zeros(),
                (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a) ^ u128::from(b)).leading_zeros(),
                _ => panic!("{text} changed its family"),
            };
            assert!(same >= bits, "{text} became {mapped}");
            let whole = if address.is_ipv4() { 32 } else { 128 };
            assert_eq!(address == mapped, bits == whole, "{text} became {mapped}");
        }
        for bits in (0..20_000u32).map(|n| n.wrapping_mul(0x9e37_79b9)) {
            let address = Ipv4Addr::from(bits);
            let IpAddr::V4(mapped) = mapping.address(address.into()) else { panic!("family") };
            for (range, len, _) in V4 {
                let inside =
                    |a: Ipv4Addr| (u32::from(a) ^ u32::from_be_bytes(range)).leading_zeros() >= len;
                assert_eq!(inside(address), inside(mapped), "{address} became {mapped}");
            }
        }
    }
}
