//! DNS messages (RFC 1035): names and addresses replaced in place, lengths and structure kept.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Changes;
use super::mapping::Mapping;

/// Most questions and records looked at in one message: more than any fits.
const MOST: usize = 4096;

const A: u16 = 1;
const NS: u16 = 2;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const PTR: u16 = 12;
const MX: u16 = 15;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const DNAME: u16 = 39;
const OPT: u16 = 41;

/// Replaces what a message says of names and addresses. Whatever cannot be read is emptied.
pub(super) fn scrub(message: &mut [u8], mapping: &mut Mapping, changes: &mut Changes) {
    let mut at = message.len().min(12);
    let read = walk(message, &mut at, mapping, changes);
    if read.is_none() {
        // Behind what could be read may be anything.
        message[at..].fill(0);
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// `None` when it does not add up; `at` is then the end of what was understood.
fn walk(
    message: &mut [u8],
    at: &mut usize,
    mapping: &mut Mapping,
    changes: &mut Changes,
) -> Option<()> {
    let counts = [4, 6, 8, 10].map(|at| be16(message, at).map_or(0, usize::from));
    let mut left = MOST;
    for _ in 0..counts[0] {
        left = left.checked_sub(1)?;
        let next = name(message, *at, mapping, changes)?;
        message.get(next..next + 4)?;
        *at = next + 4;
    }
    for _ in 0..counts[1] + counts[2] + counts[3] {
        left = left.checked_sub(1)?;
        let next = name(message, *at, mapping, changes)?;
        let kind = be16(message, next)?;
        let len = usize::from(be16(message, next + 8)?);
        let data = next + 10;
        *at = data;
        if message.len() < data + len {
            return None;
        }
        record(message, kind, data, data + len, mapping, changes);
        *at = data + len;
    }
    // Nothing is known of what comes after the last record.
    message[*at..].fill(0);
    Some(())
}

/// Replaces the labels of the name at `at`; where it ends. What a pointer leads to is replaced where
/// it stands.
fn name(
    message: &mut [u8],
    mut at: usize,
    mapping: &Mapping,
    changes: &mut Changes,
) -> Option<usize> {
    let mut labels = 0;
    loop {
        let len = *message.get(at)?;
        match len {
            0 => break,
            1..=63 => {
                let end = at + 1 + usize::from(len);
                mapping.letters(message.get_mut(at + 1..end)?);
                labels += 1;
                at = end;
            }
            192.. => {
                message.get(at + 1)?;
                changes.dns_labels += labels;
                return Some(at + 2);
            }
            _ => return None,
        }
    }
    changes.dns_labels += labels;
    Some(at + 1)
}

fn record(
    message: &mut [u8],
    kind: u16,
    start: usize,
    end: usize,
    mapping: &mut Mapping,
    changes: &mut Changes,
) {
    // Offset of each name in the data, and what comes after the names is kept or not.
    let (skip, names, keep_rest) = match kind {
        A if end - start == 4 => {
            let data = &mut message[start..end];
            let address = Ipv4Addr::new(data[0], data[1], data[2], data[3]);
            if let IpAddr::V4(mapped) = mapping.address(address.into()) {
                data.copy_from_slice(&mapped.octets());
            }
            changes.addresses += 1;
            return;
        }
        AAAA if end - start == 16 => {
            let mut octets = [0; 16];
            octets.copy_from_slice(&message[start..end]);
            if let IpAddr::V6(mapped) = mapping.address(Ipv6Addr::from(octets).into()) {
                message[start..end].copy_from_slice(&mapped.octets());
            }
            changes.addresses += 1;
            return;
        }
        NS | CNAME | PTR | DNAME => (0, 1, false),
        MX => (2, 1, false),
        SRV => (6, 1, false),
        SOA => (0, 2, true),
        TXT => {
            // Strings with a length before each: their entropy is what detectors look at.
            let mut at = start;
            while at < end {
                let stop = (at + 1 + usize::from(message[at])).min(end);
                mapping.letters(&mut message[at + 1..stop]);
                at = stop;
            }
            changes.dns_labels += 1;
            return;
        }
        // Extended errors, cookies and client subnets: sizes and flags are in the record's head.
        OPT => {
            let mut at = start;
            while at + 4 <= end {
                let len = usize::from(u16::from_be_bytes([message[at + 2], message[at + 3]]));
                let stop = (at + 4 + len).min(end);
                message[at + 4..stop].fill(0);
                at = stop;
            }
            return;
        }
        _ => {
            message[start..end].fill(0);
            return;
        }
    };
    let mut at = start + skip;
    for _ in 0..names {
        let Some(next) = name(&mut message[..end], at, mapping, changes) else {
            message[at.min(end)..end].fill(0);
            return;
        };
        at = next;
    }
    if !keep_rest {
        message[at.min(end)..end].fill(0);
    }
}
