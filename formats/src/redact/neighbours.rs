//! What hosts tell their neighbours about addresses: DHCP (RFC 2131), neighbour discovery
//! (RFC 4861), multicast membership (RFC 2236, 3376, 2710, 3810). Replaced in place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Changes;
use super::mapping::Mapping;

/// Replaces the IPv4 address at `at`, when it is there.
pub(super) fn v4(bytes: &mut [u8], at: usize, mapping: &mut Mapping, changes: &mut Changes) {
    let Some(octets) = bytes.get_mut(at..at + 4) else {
        // Cut in the middle of an address: what is left of it goes.
        if let Some(rest) = bytes.get_mut(at..) {
            rest.fill(0);
        }
        return;
    };
    let address = Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]);
    if let IpAddr::V4(mapped) = mapping.address(address.into()) {
        octets.copy_from_slice(&mapped.octets());
    }
    changes.addresses += 1;
}

/// Replaces the IPv6 address at `at`, when it is there.
pub(super) fn v6(bytes: &mut [u8], at: usize, mapping: &mut Mapping, changes: &mut Changes) {
    v6_prefix(bytes, at, 128, mapping, changes);
}

/// Replaces an IPv6 prefix: bits behind it stay as they were, for most are 0.
fn v6_prefix(bytes: &mut [u8], at: usize, len: u32, mapping: &mut Mapping, changes: &mut Changes) {
    let Some(place) = bytes.get_mut(at..at + 16) else {
        if let Some(rest) = bytes.get_mut(at..) {
            rest.fill(0);
        }
        return;
    };
    let mut octets = [0; 16];
    octets.copy_from_slice(place);
    let address = Ipv6Addr::from(octets);
    if let IpAddr::V6(mapped) = mapping.address(address.into()) {
        let mask = u128::MAX.checked_shl(128 - len.min(128)).unwrap_or(0);
        let kept = u128::from(mapped) & mask;
        place.copy_from_slice(&kept.to_be_bytes());
    }
    changes.addresses += 1;
}

/// Replaces the link-layer address at `at`, when it is there.
pub(super) fn mac(bytes: &mut [u8], at: usize, mapping: &Mapping, changes: &mut Changes) {
    let Some(place) = bytes.get_mut(at..at + 6) else {
        if let Some(rest) = bytes.get_mut(at..) {
            rest.fill(0);
        }
        return;
    };
    let mut octets = [0; 6];
    octets.copy_from_slice(place);
    place.copy_from_slice(&mapping.mac(octets));
    changes.macs += 1;
}

fn empty(bytes: &mut [u8], from: usize, to: usize) {
    let to = to.min(bytes.len());
    if from < to {
        bytes[from..to].fill(0);
    }
}

/// A DHCP message, from its `op` field on.
pub(super) fn dhcp(bytes: &mut [u8], mapping: &mut Mapping, changes: &mut Changes) {
    for at in [12, 16, 20, 24] {
        if at < bytes.len() {
            v4(bytes, at, mapping, changes);
        }
    }
    let ethernet = bytes.get(1..3) == Some(&[1, 6]);
    if ethernet && bytes.len() > 28 {
        mac(bytes, 28, mapping, changes);
        empty(bytes, 34, 44);
    } else {
        empty(bytes, 28, 44);
    }
    // Server name and boot file.
    empty(bytes, 44, 236);
    let mut at = 240;
    while let Some(&code) = bytes.get(at) {
        match code {
            0 => {
                at += 1;
                continue;
            }
            255 => {
                let rest = at + 1;
                empty(bytes, rest, usize::MAX);
                return;
            }
            _ => {}
        }
        let Some(&len) = bytes.get(at + 1) else { return };
        let (start, stop) = (at + 2, (at + 2 + usize::from(len)).min(bytes.len()));
        match code {
            // Addresses: routers, time, name servers, broadcast, requested, server, and others.
            2..=11 | 28 | 41..=45 | 48 | 49 | 50 | 54 | 65 | 68..=76 | 150 => {
                let mut place = start;
                while place < stop {
                    v4(&mut bytes[..stop], place, mapping, changes);
                    place += 4;
                }
            }
            // Mask, MTU, forwarding, lease and renewal times, type, parameters asked for, size.
            1 | 19 | 23 | 26 | 51 | 52 | 53 | 55 | 57 | 58 | 59 => {}
            // Hardware type and address of the client.
            61 if len == 7 && bytes.get(start) == Some(&1) => {
                mac(&mut bytes[..stop], start + 1, mapping, changes);
            }
            _ => {
                // Names, identifiers, vendor data.
                bytes[start.min(stop)..stop].fill(0);
                changes.names += 1;
            }
        }
        at = start + usize::from(len);
    }
}

/// Options of neighbour discovery from `at` on; where a redirect quotes a packet, its range.
pub(super) fn options(
    bytes: &mut [u8],
    mut at: usize,
    mapping: &mut Mapping,
    changes: &mut Changes,
) -> Option<std::ops::Range<usize>> {
    let mut quoted = None;
    while let Some(&kind) = bytes.get(at) {
        let len = bytes.get(at + 1).map_or(0, |len| usize::from(*len) * 8);
        if len == 0 {
            empty(bytes, at, usize::MAX);
            return quoted;
        }
        let stop = (at + len).min(bytes.len());
        match kind {
            1 | 2 if len == 8 => mac(&mut bytes[..stop], at + 2, mapping, changes),
            3 if len == 32 => {
                let bits = bytes.get(at + 2).map_or(128, |bits| u32::from(*bits));
                v6_prefix(&mut bytes[..stop], at + 16, bits, mapping, changes);
            }
            4 => {
                if at + 8 < stop {
                    quoted = Some(at + 8..stop);
                }
            }
            // MTU, nonce.
            5 | 14 => {}
            // Recursive name servers (RFC 8106).
            25 => {
                let mut place = at + 8;
                while place < stop {
                    v6(&mut bytes[..stop], place, mapping, changes);
                    place += 16;
                }
            }
            _ => empty(bytes, at + 2, stop),
        }
        at += len;
    }
    quoted
}

/// IGMP, from its type on.
pub(super) fn igmp(bytes: &mut [u8], mapping: &mut Mapping, changes: &mut Changes) {
    if bytes.first() != Some(&0x22) {
        if bytes.len() > 4 {
            v4(bytes, 4, mapping, changes);
        }
        let mut at = 12;
        while bytes.first() == Some(&0x11) && at < bytes.len() {
            v4(bytes, at, mapping, changes);
            at += 4;
        }
        if bytes.first() != Some(&0x11) {
            empty(bytes, 8, usize::MAX);
        }
        return;
    }
    let mut at = 8;
    while at + 8 <= bytes.len() {
        let aux = usize::from(bytes[at + 1]) * 4;
        let sources = usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
        for row in 0..=sources {
            if at + 4 + row * 4 >= bytes.len() {
                return;
            }
            v4(bytes, at + 4 + row * 4, mapping, changes);
        }
        let end = at + 8 + sources * 4;
        empty(bytes, end, end + aux);
        at = end + aux;
    }
    empty(bytes, at, usize::MAX);
}

/// Multicast listener reports of version 2, from the ICMPv6 type on.
pub(super) fn mld2(bytes: &mut [u8], mapping: &mut Mapping, changes: &mut Changes) {
    let mut at = 8;
    while at + 20 <= bytes.len() {
        let aux = usize::from(bytes[at + 1]) * 4;
        let sources = usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
        for row in 0..=sources {
            if at + 4 + row * 16 >= bytes.len() {
                return;
            }
            v6(bytes, at + 4 + row * 16, mapping, changes);
        }
        let end = at + 20 + sources * 16;
        empty(bytes, end, end + aux);
        at = end + aux;
    }
    empty(bytes, at, usize::MAX);
}
