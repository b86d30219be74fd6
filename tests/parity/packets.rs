//! Frames of every kind that rules tell apart, whole, cut and spoiled. Values come from small pools, so
//! that rules made from the same pools hit.

use super::Random;

pub(crate) const PORTS: [u16; 8] = [0, 22, 53, 79, 80, 81, 443, 40_000];
pub(crate) const LAST: [u8; 6] = [1, 2, 3, 8, 9, 254];

pub(crate) fn v4_bytes(address: [u8; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&address);
    bytes
}

fn v4(random: &mut Random) -> [u8; 4] {
    let net = random.of(&[[10, 0, 0], [10, 0, 1], [192, 0, 2], [224, 0, 0]]);
    [net[0], net[1], net[2], random.of(&LAST)]
}

fn v6(random: &mut Random) -> [u8; 16] {
    let mut address = [0; 16];
    address[..2].copy_from_slice(&random.of(&[[0xfd, 0], [0xfe, 0x80], [0x20, 0x01]]));
    address[7] = random.of(&[0, 1]);
    address[15] = random.of(&LAST);
    address
}

fn port(random: &mut Random) -> [u8; 2] {
    random.of(&PORTS).to_be_bytes()
}

fn tcp(random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(port(random));
    out.extend(port(random));
    out.extend((random.below(4) as u32).to_be_bytes());
    out.extend((random.below(4) as u32).to_be_bytes());
    let options: Vec<u8> = match random.below(6) {
        0 => vec![2, 4, 5, 180, 1, 3, 3, 7],
        1 => vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
        2 => vec![2, 4, 2, 0, 4, 2, 0, 0],
        3 => (0..4 * random.below(10)).map(|_| random.of(&[0, 1, 2, 3, 4, 5, 8, 10, 30])).collect(),
        _ => Vec::new(),
    };
    let header = 20 + options.len();
    let offset = if random.one_in(20) { random.below(16) as u8 } else { (header / 4) as u8 };
    let flags = random.of(&[0_u8, 1, 2, 4, 0x10, 0x12, 0x18, 0x29, 0x3f, 0xc2]);
    out.extend([offset << 4 | random.below(2) as u8, flags]);
    out.extend(random.of(&[0_u16, 1024, 64_240]).to_be_bytes());
    out.extend([0, 0, 0, 0]);
    out.extend(options);
    out.extend(vec![b'x'; random.below(12) as usize]);
    out
}

fn udp(random: &mut Random) -> Vec<u8> {
    let payload = random.below(30) as usize;
    let mut out = Vec::new();
    out.extend(port(random));
    out.extend(port(random));
    let len = if random.one_in(8) { random.of(&[0, 7, 8, 9000]) } else { 8 + payload as u16 };
    out.extend(len.to_be_bytes());
    out.extend([0, 0]);
    out.extend(vec![b'y'; payload]);
    out
}

fn transport(random: &mut Random, protocol: u8, depth: u32) -> Vec<u8> {
    match protocol {
        6 => tcp(random),
        17 | 136 => udp(random),
        132 | 33 => {
            let mut out = [port(random), port(random)].concat();
            out.extend([0, 0, 0, 0, 5, 0, 0, 0, 1, 2, 3, 4]);
            out
        }
        1 | 58 => icmp(random, protocol == 58, depth),
        // Tunnels: rules are about the outer packet, here as there.
        4 | 94 if depth < 1 => ipv4(random, depth + 1),
        41 if depth < 1 => ipv6(random, depth + 1),
        47 if depth < 1 => [vec![0, 0, 8, 0], ipv4(random, depth + 1)].concat(),
        50 => [&[0, 0, 0, 9, 0, 0, 0, 1][..], &[0x5c; 24]].concat(),
        _ => vec![0xaa; random.below(20) as usize],
    }
}

fn icmp(random: &mut Random, six: bool, depth: u32) -> Vec<u8> {
    let kind = if six {
        random.of(&[1, 2, 3, 4, 128, 129, 135, 137])
    } else {
        random.of(&[0, 3, 4, 5, 8, 11, 12])
    };
    let mut out = vec![kind, random.of(&[0, 1, 4]), 0, 0];
    out.extend([0, random.of(&[0, 5]), 5, random.of(&[0, 6])]);
    if kind == 137 {
        out.extend([0; 32]);
        if random.one_in(2) {
            out.extend([1, 1, 0, 0, 0, 0, 0, 0]);
        }
        out.extend([random.of(&[4, 4, 4, 0, 2]), random.of(&[1, 2, 0]), 0, 0, 0, 0, 0, 0]);
    }
    if depth < 1 {
        let mut quoted = if six { ipv6(random, depth + 1) } else { ipv4(random, depth + 1) };
        quoted.truncate(random.of(&[8, 19, 20, 28, 39, 40, 48, 64, 200]));
        out.extend(quoted);
    }
    out
}

fn ipv4(random: &mut Random, depth: u32) -> Vec<u8> {
    let protocol = random.of(&[6, 6, 6, 6, 17, 17, 17, 1, 132, 33, 136, 47, 4, 41, 50, 94]);
    let payload = transport(random, protocol, depth);
    let options = 4 * random.of(&[0, 0, 0, 1, 10]);
    let header = 20 + options;
    let total = header + payload.len();
    let total = if random.one_in(15) { random.of(&[0, 10, 20, 9000]) } else { total as u16 };
    let first =
        if random.one_in(30) { random.of(&[0x44, 0x55, 0x65]) } else { 0x40 | (header / 4) as u8 };
    let fragment = random.of(&[0_u16, 0, 0, 0x4000, 0x2000, 0x2001, 1, 0x1fff, 0x8000]);
    let mut out = vec![first, random.of(&[0, 0xb8, 3])];
    out.extend(total.to_be_bytes());
    out.extend([0, random.of(&[0, 7])]);
    out.extend(fragment.to_be_bytes());
    out.extend([random.of(&[1, 5, 63, 64, 255]), protocol, 0, random.of(&[0, 9])]);
    out.extend(v4(random));
    out.extend(v4(random));
    out.extend(vec![1; options]);
    out.extend(payload);
    out
}

fn ipv6(random: &mut Random, depth: u32) -> Vec<u8> {
    let protocol = random.of(&[6, 6, 17, 58, 58, 132, 59, 4, 41, 50]);
    let mut payload = transport(random, protocol, depth);
    let mut next = protocol;
    let headers = random.of(&[0, 0, 0, 1, 2, 3, 17]);
    for _ in 0..headers {
        let kind = random.of(&[0, 43, 44, 51, 60, 60, 135]);
        let mut header = vec![next, 0, 0, 0, 0, 0, 0, 0];
        match kind {
            44 => {
                let offset = random.of(&[0_u16, 0, 1, 8, 9, 0xfff8]);
                header[2..4].copy_from_slice(&offset.to_be_bytes());
            }
            51 => {
                header[1] = random.of(&[1, 4]);
                header.resize((header[1] as usize + 2) * 4, 0);
            }
            _ => {
                header[1] = random.of(&[0, 0, 0, 1, 3]);
                header.resize((header[1] as usize + 1) * 8, 0);
            }
        }
        header.extend(payload);
        payload = header;
        next = kind;
    }
    let len = if random.one_in(15) { random.of(&[0, 4, 9000]) } else { payload.len() as u16 };
    let version = if random.one_in(30) { 0x40 } else { 0x60 };
    let mut out = vec![version, random.of(&[0, 0x10]), 0, random.of(&[0, 9])];
    out.extend(len.to_be_bytes());
    out.extend([next, random.of(&[1, 64, 255])]);
    out.extend(v6(random));
    out.extend(v6(random));
    out.extend(payload);
    out
}

fn arp(random: &mut Random, sender: [u8; 6]) -> Vec<u8> {
    let mut out = vec![0, 1, 8, 0, 6, 4, 0, random.of(&[1, 2, 3])];
    if random.one_in(10) {
        out[5] = 16;
    }
    out.extend(if random.one_in(2) { sender } else { [2, 0, 0, 0, 0, 9] });
    out.extend(v4(random));
    out.extend([0; 6]);
    out.extend(v4(random));
    out
}

/// A frame with something behind its Ethernet header: the kernel tests no other.
pub(crate) fn random(random: &mut Random) -> Vec<u8> {
    let source = [2, 0, 0, 0, 0, random.of(&LAST)];
    let mut out = vec![2, 0, 0, 0, 0, random.of(&LAST)];
    out.extend(source);
    for _ in 0..random.of(&[0, 0, 0, 0, 1, 2, 3, 9]) {
        out.extend(random.of(&[[0x81, 0], [0x88, 0xa8], [0x91, 0]]));
        out.extend([random.of(&[0, 0x20]), random.of(&[0, 5, 6])]);
    }
    let (kind, payload): (u16, Vec<u8>) = match random.below(12) {
        0..=5 => (0x0800, ipv4(random, 0)),
        6..=8 => (0x86dd, ipv6(random, 0)),
        9 => (0x0806, arp(random, source)),
        10 => {
            // 802.3 with SNAP.
            let inner = ipv4(random, 0);
            let mut out = vec![0xaa, 0xaa, 3, 0, 0, random.of(&[0, 0xf8, 1])];
            out.extend([8, 0]);
            out.extend(inner);
            (out.len() as u16, out)
        }
        _ => match random.below(6) {
            // MPLS and PPPoE, with IPv4 in them that is none of the rules' business.
            0 => (0x8847, [vec![0, 0, 0x11, 64], ipv4(random, 0)].concat()),
            1 => (0x8864, [vec![0x11, 0, 0, 1, 0, 40, 0, 0x21], ipv4(random, 0)].concat()),
            _ => (random.of(&[0x88cc, 0x0805, 0x05ff, 3]), vec![0; random.below(40) as usize]),
        },
    };
    out.extend(kind.to_be_bytes());
    out.extend(payload);
    out.resize(out.len().max(15), 0);
    match random.below(10) {
        // Cut somewhere.
        0 | 1 => out.truncate(15 + random.below(out.len() as u64 - 14) as usize),
        // Padded, as Ethernet pads.
        2 => out.resize(out.len().max(60), 0),
        // Longer than is looked at.
        3 => out.resize(out.len() + 300, 0x55),
        // Spoiled.
        4 => {
            let at = random.below(out.len() as u64) as usize;
            out[at] ^= 1 << random.below(8);
        }
        _ => {}
    }
    out
}
