//! Packets made by hand and sent on an interface, for what no socket would send.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::net::Ipv4Addr;

/// Internet checksum (RFC 1071).
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let bytes: Vec<u8> = parts.concat();
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|c| u32::from(c[0]) << 8 | u32::from(c.get(1).copied().unwrap_or(0)))
        .sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An IPv4 packet with a right header checksum.
pub fn ipv4(
    src: Ipv4Addr,
    dst: Ipv4Addr,
    protocol: u8,
    ttl: u8,
    id: u16,
    payload: &[u8],
) -> Vec<u8> {
    let len = (20 + payload.len()) as u16;
    let mut h = vec![0x45, 0, 0, 0, 0, 0, 0, 0, ttl, protocol, 0, 0];
    h[2..4].copy_from_slice(&len.to_be_bytes());
    h[4..6].copy_from_slice(&id.to_be_bytes());
    h.extend(src.octets());
    h.extend(dst.octets());
    let sum = checksum(&[&h]);
    h[10..12].copy_from_slice(&sum.to_be_bytes());
    h.extend(payload);
    h
}

/// A TCP segment whose checksum is right, plus `wrong`.
pub fn tcp(
    ends: (Ipv4Addr, u16, Ipv4Addr, u16),
    seq: u32,
    flags: u8,
    payload: &[u8],
    wrong: u16,
) -> Vec<u8> {
    let (src, sport, dst, dport) = ends;
    let mut t = Vec::new();
    t.extend(sport.to_be_bytes());
    t.extend(dport.to_be_bytes());
    t.extend(seq.to_be_bytes());
    t.extend([0; 4]);
    t.extend([5 << 4, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    t.extend(payload);
    seal(src, dst, 6, &mut t, 16, wrong);
    t
}

/// A TCP segment with PSH and ACK, its sequence and acknowledgement numbers, and a timestamp (RFC 7323).
pub fn stamped(
    ends: (Ipv4Addr, u16, Ipv4Addr, u16),
    (seq, ack): (u32, u32),
    clock: u32,
    payload: &[u8],
) -> Vec<u8> {
    let (src, sport, dst, dport) = ends;
    let mut t = Vec::new();
    t.extend(sport.to_be_bytes());
    t.extend(dport.to_be_bytes());
    t.extend(seq.to_be_bytes());
    t.extend(ack.to_be_bytes());
    t.extend([8 << 4, 0x18, 0xfa, 0xf0, 0, 0, 0, 0]);
    t.extend([1, 1, 8, 10]);
    t.extend(clock.to_be_bytes());
    t.extend([0; 4]);
    t.extend(payload);
    seal(src, dst, 6, &mut t, 16, 0);
    t
}

/// A UDP datagram with a right checksum.
pub fn udp(ends: (Ipv4Addr, u16, Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let (src, sport, dst, dport) = ends;
    let mut u = Vec::new();
    u.extend(sport.to_be_bytes());
    u.extend(dport.to_be_bytes());
    u.extend(((8 + payload.len()) as u16).to_be_bytes());
    u.extend([0; 2]);
    u.extend(payload);
    seal(src, dst, 17, &mut u, 6, 0);
    u
}

fn seal(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, segment: &mut [u8], at: usize, wrong: u16) {
    let len = (segment.len() as u16).to_be_bytes();
    let sum = checksum(&[&src.octets(), &dst.octets(), &[0, protocol], &len, segment]);
    segment[at..at + 2].copy_from_slice(&sum.wrapping_add(wrong).to_be_bytes());
}

/// A packet socket on a device, to one link-layer address.
pub struct Wire {
    socket: std::os::fd::OwnedFd,
    to: libc::sockaddr_ll,
}

impl Wire {
    /// Out of `device` to link-layer address `to`, in the calling thread's namespace.
    pub fn new(device: &str, to: [u8; 6]) -> Self {
        use std::os::fd::FromRawFd;
        let name = std::ffi::CString::new(device).expect("device name");
        // SAFETY: plain calls with a name that ends; the descriptor is new and has no other owner; zeros are
        // an address.
        unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0);
            assert!(fd >= 0, "packet socket: {}", std::io::Error::last_os_error());
            let mut addr: libc::sockaddr_ll = std::mem::zeroed();
            addr.sll_family = libc::AF_PACKET as u16;
            addr.sll_protocol = 0x0800u16.to_be();
            addr.sll_ifindex = libc::if_nametoindex(name.as_ptr()) as i32;
            addr.sll_halen = 6;
            addr.sll_addr[..6].copy_from_slice(&to);
            Self { socket: std::os::fd::OwnedFd::from_raw_fd(fd), to: addr }
        }
    }

    /// Sends an IPv4 packet as it is.
    pub fn send(&self, packet: &[u8]) {
        use std::os::fd::AsRawFd;
        // SAFETY: a plain call on an open descriptor, with an address of its own size.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const self.to).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        assert_eq!(sent, packet.len() as isize, "sendto: {}", std::io::Error::last_os_error());
    }
}

/// Sends an IPv4 packet as it is, out of `device` to link-layer address `to`, in the calling
/// thread's namespace.
pub fn send_ipv4(device: &str, to: [u8; 6], packet: &[u8]) {
    Wire::new(device, to).send(packet);
}

/// The link-layer address of an interface in the calling thread's namespace.
pub fn mac(device: &str) -> [u8; 6] {
    let text = std::process::Command::new("ip")
        .args(["-o", "link", "show", "dev", device])
        .output()
        .expect("ip link");
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    let text = text.split("link/ether ").nth(1).expect("ether").split(' ').next().expect("mac");
    let mut mac = [0; 6];
    for (byte, hex) in mac.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(hex, 16).expect("hex");
    }
    mac
}
