//! Walking the headers. Hand-written rather than built on a parser crate because every step has to
//! tell "the capture was cut here" from "the packet is wrong here", and because it runs for each
//! packet of every pass; the tests hold it against etherparse and tshark.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::quoted::{quoted_v4, quoted_v6};
use super::{
    Arp, Ethernet, Headers, Icmp, Ipv4, Ipv6, Malformed, Network, Tcp, TcpOptions, Transport, Udp,
};
use crate::event::LinkType;

/// Tags stepped over before a frame is called malformed; real networks use two.
const MAX_VLANS: usize = 8;

/// IPv6 extension headers followed before a packet is called malformed. RFC 8200 sets no limit;
/// each is at most 2,048 bytes, so this also keeps every offset within 16 bits.
const MAX_EXTENSIONS: usize = 16;

mod ether_type {
    pub(super) const IPV4: u16 = 0x0800;
    pub(super) const ARP: u16 = 0x0806;
    pub(super) const VLAN: u16 = 0x8100;
    pub(super) const IPV6: u16 = 0x86dd;
    pub(super) const QINQ: u16 = 0x88a8;
    /// QinQ before 802.1ad, still set by some switches.
    pub(super) const QINQ_OLD: u16 = 0x9100;
    /// Below this the field is an 802.3 length.
    pub(super) const SMALLEST: u16 = 0x0600;
}

pub(super) mod protocol {
    pub(in crate::packet) const HOP_BY_HOP: u8 = 0;
    pub(in crate::packet) const ICMP: u8 = 1;
    pub(in crate::packet) const TCP: u8 = 6;
    pub(in crate::packet) const UDP: u8 = 17;
    pub(in crate::packet) const DCCP: u8 = 33;
    pub(in crate::packet) const ROUTING: u8 = 43;
    pub(in crate::packet) const FRAGMENT: u8 = 44;
    pub(in crate::packet) const AUTHENTICATION: u8 = 51;
    pub(in crate::packet) const ICMPV6: u8 = 58;
    pub(in crate::packet) const DESTINATION: u8 = 60;
    pub(in crate::packet) const SCTP: u8 = 132;
    pub(in crate::packet) const MOBILITY: u8 = 135;
    pub(in crate::packet) const UDP_LITE: u8 = 136;
    pub(in crate::packet) const HIP: u8 = 139;
    pub(in crate::packet) const SHIM6: u8 = 140;
}

/// Decodes the headers of `bytes`, whose first byte belongs to `link`; `len` is the wire length
/// from the same start.
///
/// Never fails and never allocates. An unknown link type gives [`Headers::default`].
pub fn decode(link: LinkType, bytes: &[u8], len: u32) -> Headers {
    // A length below the stored bytes is a broken writer: the bytes are there.
    let mut walk = Walk::new(bytes, bytes.len().max(len as usize));
    // `None` only says that the walk stopped early; `out` has what it found and why.
    let _ = walk.link(link);
    walk.out
}

/// Where the walk is allowed to read, and what it has found.
pub(super) struct Walk<'a> {
    bytes: &'a [u8],
    /// End of the innermost length-delimited thing entered so far, as an offset into the packet on
    /// the wire: may be past `bytes` (cut), or before its end (Ethernet padding).
    end: usize,
    out: Headers,
}

pub(super) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl<'a> Walk<'a> {
    pub(super) fn new(bytes: &'a [u8], end: usize) -> Self {
        Self { bytes, end, out: Headers::default() }
    }

    /// `N` bytes at `at`; otherwise notes why they are not there.
    #[inline]
    fn take<const N: usize>(&mut self, at: usize, part: Malformed) -> Option<&'a [u8; N]> {
        let found = self.rest(at).first_chunk();
        if found.is_none() {
            self.short(at + N, part);
        }
        found
    }

    /// The stored bytes from `at` to the end of what may be read.
    #[inline]
    fn rest(&self, at: usize) -> &'a [u8] {
        self.bytes.get(at..self.end.min(self.bytes.len())).unwrap_or(&[])
    }

    /// Bytes up to `needed` are not stored: the snap length's doing if the wire had them.
    #[cold]
    fn short(&mut self, needed: usize, part: Malformed) {
        if needed <= self.end {
            self.out.cut = true;
        } else {
            self.wrong(part);
        }
    }

    #[cold]
    fn wrong(&mut self, part: Malformed) {
        self.out.malformed.get_or_insert(part);
    }

    fn link(&mut self, link: LinkType) -> Option<()> {
        match link {
            LinkType::ETHERNET => {
                let header = self.take::<14>(0, Malformed::Link)?;
                let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *header;
                self.out.ethernet =
                    Some(Ethernet { dst: [d0, d1, d2, d3, d4, d5], src: [s0, s1, s2, s3, s4, s5] });
                self.ether_payload(u16::from_be_bytes([t0, t1]), 14)
            }
            LinkType::LINUX_SLL => {
                let header = self.take::<16>(0, Malformed::Link)?;
                self.cooked_payload(be16(header, 14), 16)
            }
            LinkType::LINUX_SLL2 => {
                let header = self.take::<20>(0, Malformed::Link)?;
                self.cooked_payload(be16(header, 0), 20)
            }
            LinkType::NULL | LinkType::LOOP => {
                let header = self.take::<4>(0, Malformed::Link)?;
                // NULL is in the byte order of the capturing host, which the bytes do not name;
                // address families are small, so the non-zero half tells.
                let family = match u32::from_be_bytes(*header) {
                    swapped if swapped > 0xffff => swapped.swap_bytes(),
                    family => family,
                };
                match family {
                    2 => self.network(ether_type::IPV4, 4),
                    // AF_INET6 of Linux, NetBSD and OpenBSD, FreeBSD, macOS.
                    10 | 24 | 28 | 30 => self.network(ether_type::IPV6, 4),
                    _ => None,
                }
            }
            // 12 and 14 are DLT_RAW as some systems wrote it into files.
            LinkType::RAW | LinkType(12 | 14) => self.by_version(0),
            LinkType::IPV4 => self.network(ether_type::IPV4, 0),
            LinkType::IPV6 => self.network(ether_type::IPV6, 0),
            _ => None,
        }
    }

    /// Network header chosen by its version nibble.
    fn by_version(&mut self, at: usize) -> Option<()> {
        let [first] = *self.take::<1>(at, Malformed::Link)?;
        match first >> 4 {
            4 => self.network(ether_type::IPV4, at),
            6 => self.network(ether_type::IPV6, at),
            _ => {
                self.wrong(Malformed::Link);
                None
            }
        }
    }

    /// After a cooked header: `ETH_P_802_2` and its kin are small numbers, not lengths.
    fn cooked_payload(&mut self, kind: u16, at: usize) -> Option<()> {
        const ETH_P_802_2: u16 = 4;
        match kind {
            ETH_P_802_2 => self.llc(at),
            kind if kind < ether_type::SMALLEST => None,
            kind => self.ether_payload(kind, at),
        }
    }

    /// VLAN tags, then what they carry.
    fn ether_payload(&mut self, mut kind: u16, mut at: usize) -> Option<()> {
        let mut tags = 0;
        while matches!(kind, ether_type::VLAN | ether_type::QINQ | ether_type::QINQ_OLD) {
            if tags == MAX_VLANS {
                self.wrong(Malformed::Link);
                return None;
            }
            let tag = self.take::<4>(at, Malformed::Link)?;
            if let Some(slot) = self.out.vlans.get_mut(tags) {
                *slot = Some(be16(tag, 0) & 0x0fff);
            }
            tags += 1;
            kind = be16(tag, 2);
            at += 4;
        }
        if kind >= ether_type::SMALLEST {
            return self.network(kind, at);
        }
        // 802.3: the field is the length of what follows, padding excluded.
        let length = kind as usize;
        if at + length > self.end {
            self.wrong(Malformed::Link);
        } else {
            self.end = at + length;
        }
        self.llc(at)
    }

    /// 802.2 LLC; only SNAP carries protocols decoded here.
    fn llc(&mut self, at: usize) -> Option<()> {
        let header = self.take::<3>(at, Malformed::Link)?;
        if *header != [0xaa, 0xaa, 0x03] {
            return None;
        }
        let snap = self.take::<5>(at + 3, Malformed::Link)?;
        match [snap[0], snap[1], snap[2]] {
            // RFC 1042, and 802.1H bridge tunnel encapsulation.
            [0, 0, 0 | 0xf8] => self.network(be16(snap, 3), at + 8),
            _ => None,
        }
    }

    fn network(&mut self, kind: u16, at: usize) -> Option<()> {
        self.out.ether_type = kind;
        self.out.network_offset = at as u16;
        self.out.payload_offset = at as u16;
        match kind {
            ether_type::IPV4 => self.ipv4(at),
            ether_type::IPV6 => self.ipv6(at),
            ether_type::ARP => self.arp(at),
            _ => None,
        }
    }

    fn arp(&mut self, at: usize) -> Option<()> {
        let fixed = self.take::<8>(at, Malformed::Arp)?;
        // Hardware Ethernet, protocol IPv4, lengths 6 and 4.
        if fixed[..6] != [0, 1, 8, 0, 6, 4] {
            self.wrong(Malformed::Arp);
            return None;
        }
        let b = self.take::<28>(at, Malformed::Arp)?;
        self.out.network = Network::Arp(Arp {
            opcode: be16(b, 6),
            sender_mac: [b[8], b[9], b[10], b[11], b[12], b[13]],
            sender: Ipv4Addr::new(b[14], b[15], b[16], b[17]),
            target_mac: [b[18], b[19], b[20], b[21], b[22], b[23]],
            target: Ipv4Addr::new(b[24], b[25], b[26], b[27]),
        });
        self.out.payload_offset = (at + 28) as u16;
        Some(())
    }

    fn ipv4(&mut self, at: usize) -> Option<()> {
        let b = self.take::<20>(at, Malformed::Ipv4)?;
        let header_len = (b[0] & 0x0f) * 4;
        if b[0] >> 4 != 4 || header_len < 20 {
            self.wrong(Malformed::Ipv4);
            return None;
        }
        let fragment = be16(b, 6);
        let ip = Ipv4 {
            src: Ipv4Addr::new(b[12], b[13], b[14], b[15]),
            dst: Ipv4Addr::new(b[16], b[17], b[18], b[19]),
            protocol: b[9],
            ttl: b[8],
            tos: b[1],
            total_len: be16(b, 2),
            id: be16(b, 4),
            dont_fragment: fragment & 0x4000 != 0,
            more_fragments: fragment & 0x2000 != 0,
            fragment_offset: (fragment & 0x1fff) * 8,
            header_len,
            checksum: be16(b, 10),
        };
        self.out.network = Network::V4(ip);

        let total = ip.total_len as usize;
        if total != 0 {
            if total < header_len as usize || at + total > self.end {
                self.wrong(Malformed::Ipv4);
            } else {
                self.end = at + total;
            }
        }
        let transport = at + header_len as usize;
        self.carried(transport);
        if transport > self.end.min(self.bytes.len()) {
            self.short(transport, Malformed::Ipv4);
            return None;
        }
        if ip.fragment_offset != 0 {
            return None;
        }
        match ip.protocol {
            protocol::ICMP => self.icmp(transport, Family::V4),
            other => self.transport(other, transport, ip.more_fragments),
        }
    }

    fn ipv6(&mut self, at: usize) -> Option<()> {
        let b = self.take::<40>(at, Malformed::Ipv6)?;
        if b[0] >> 4 != 6 {
            self.wrong(Malformed::Ipv6);
            return None;
        }
        let word = be32(b, 0);
        let (src, dst) = v6_addresses(b);
        let mut ip = Ipv6 {
            src,
            dst,
            protocol: b[6],
            hop_limit: b[7],
            traffic_class: (word >> 20) as u8,
            flow_label: word & 0x000f_ffff,
            payload_len: be16(b, 4),
            fragment: None,
        };
        let mut next = at + 40;
        let payload = ip.payload_len as usize;
        if payload != 0 {
            if next + payload > self.end {
                self.wrong(Malformed::Ipv6);
            } else {
                self.end = next + payload;
            }
        }
        let complete = self.extensions(&mut ip, &mut next);
        self.out.network = Network::V6(ip);
        self.carried(next);
        complete?;
        match ip.fragment {
            Some((_, offset, _)) if offset != 0 => None,
            fragment => match ip.protocol {
                protocol::ICMPV6 => self.icmp(next, Family::V6),
                other => self.transport(other, next, fragment.is_some_and(|(_, _, more)| more)),
            },
        }
    }

    /// Follows the extension chain from `ip.protocol` at `next`, updating both; `None` when the
    /// chain was not followed to its end.
    pub(super) fn extensions(&mut self, ip: &mut Ipv6, next: &mut usize) -> Option<()> {
        for _ in 0..MAX_EXTENSIONS {
            let length = match ip.protocol {
                protocol::HOP_BY_HOP
                | protocol::ROUTING
                | protocol::DESTINATION
                | protocol::MOBILITY
                | protocol::HIP
                | protocol::SHIM6 => {
                    let header = self.take::<8>(*next, Malformed::Ipv6)?;
                    ip.protocol = header[0];
                    (header[1] as usize + 1) * 8
                }
                protocol::AUTHENTICATION => {
                    let header = self.take::<8>(*next, Malformed::Ipv6)?;
                    ip.protocol = header[0];
                    (header[1] as usize + 2) * 4
                }
                protocol::FRAGMENT => {
                    let header = self.take::<8>(*next, Malformed::Ipv6)?;
                    ip.protocol = header[0];
                    let field = be16(header, 2);
                    // A second fragment header is against RFC 8200; the first one decides.
                    if ip.fragment.is_none() {
                        ip.fragment = Some((be32(header, 4), field & 0xfff8, field & 1 != 0));
                    }
                    if ip.fragment.is_some_and(|(_, offset, _)| offset != 0) {
                        *next += 8;
                        return Some(());
                    }
                    8
                }
                _ => return Some(()),
            };
            *next += length;
            if *next > self.end {
                self.wrong(Malformed::Ipv6);
                return None;
            }
        }
        self.wrong(Malformed::Ipv6);
        None
    }

    /// Everything from `at` is the network header's payload, until a transport header says more.
    #[inline]
    fn carried(&mut self, at: usize) {
        self.payload(at, self.end.saturating_sub(at));
    }

    #[inline]
    fn payload(&mut self, at: usize, len: usize) {
        self.out.payload_offset = at as u16;
        self.out.payload_len = len as u32;
    }

    fn transport(&mut self, protocol: u8, at: usize, fragmented: bool) -> Option<()> {
        match protocol {
            protocol::TCP => self.tcp(at),
            protocol::UDP => self.udp(at, fragmented),
            protocol::SCTP => self.ports(at, Some(12)),
            protocol::UDP_LITE => self.ports(at, Some(8)),
            protocol::DCCP => {
                let offset = self.rest(at).get(4).map(|words| *words as usize * 4);
                self.ports(at, offset.filter(|offset| *offset >= 12))
            }
            _ => None,
        }
    }

    /// Only the ports; `header_len` moves the payload behind the rest of the header.
    fn ports(&mut self, at: usize, header_len: Option<usize>) -> Option<()> {
        let b = self.rest(at).first_chunk::<4>();
        let Some(b) = b else {
            self.out.cut |= at + 4 <= self.end;
            return None;
        };
        self.out.transport = Transport::Ports(be16(b, 0), be16(b, 2));
        self.out.transport_offset = at as u16;
        if let Some(header_len) = header_len {
            self.carried(at + header_len);
        }
        Some(())
    }

    fn tcp(&mut self, at: usize) -> Option<()> {
        let Some(b) = self.take::<20>(at, Malformed::Tcp) else {
            return self.ports(at, None);
        };
        let header_len = (b[12] >> 4) * 4;
        let mut tcp = Tcp {
            sport: be16(b, 0),
            dport: be16(b, 2),
            seq: be32(b, 4),
            ack: be32(b, 8),
            flags: u16::from(b[12] & 1) << 8 | u16::from(b[13]),
            window: be16(b, 14),
            header_len,
            checksum: be16(b, 16),
            options: TcpOptions::default(),
        };
        let payload = at + header_len as usize;
        if header_len < 20 || payload > self.end {
            self.wrong(Malformed::Tcp);
            self.carried(at + 20);
        } else {
            self.carried(payload);
            if header_len > 20 {
                let stored = self.rest(at + 20);
                let whole = header_len as usize - 20;
                self.options(stored.get(..whole).unwrap_or(stored), whole, &mut tcp.options);
            }
        }
        self.out.transport = Transport::Tcp(tcp);
        self.out.transport_offset = at as u16;
        Some(())
    }

    /// Options in `stored`, of which the packet had `whole` bytes.
    fn options(&mut self, stored: &[u8], whole: usize, options: &mut TcpOptions) {
        // By far the most common: NOP NOP timestamps.
        if let &[1, 1, 8, 10, a, b, c, d, e, f, g, h] = stored {
            options.timestamp =
                Some((u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])));
            return;
        }
        let mut at = 0;
        while at < whole {
            let Some(&kind) = stored.get(at) else {
                self.out.cut = true;
                return;
            };
            match kind {
                0 => return,
                1 => {
                    at += 1;
                    continue;
                }
                _ => {}
            }
            let length = match stored.get(at + 1) {
                Some(&length) => length as usize,
                None if at + 1 < whole => {
                    self.out.cut = true;
                    return;
                }
                None => 0,
            };
            if length < 2 || at + length > whole {
                self.wrong(Malformed::Tcp);
                return;
            }
            let Some(value) = stored.get(at + 2..at + length) else {
                self.out.cut = true;
                return;
            };
            match (kind, value.len()) {
                (2, 2) => options.mss = Some(be16(value, 0)),
                (3, 1) => options.window_scale = Some(value[0]),
                (4, 0) => options.sack_permitted = true,
                (5, 8 | 16 | 24 | 32) => {
                    for (slot, block) in options.sack.iter_mut().zip(value.chunks_exact(8)) {
                        *slot = Some((be32(block, 0), be32(block, 4)));
                    }
                }
                (8, 8) => options.timestamp = Some((be32(value, 0), be32(value, 4))),
                (2..=5 | 8, _) => {
                    self.wrong(Malformed::Tcp);
                    return;
                }
                _ => {}
            }
            at += length;
        }
    }

    fn udp(&mut self, at: usize, fragmented: bool) -> Option<()> {
        let Some(b) = self.take::<8>(at, Malformed::Udp) else {
            return self.ports(at, None);
        };
        let udp =
            Udp { sport: be16(b, 0), dport: be16(b, 2), len: be16(b, 4), checksum: be16(b, 6) };
        self.out.transport = Transport::Udp(udp);
        self.out.transport_offset = at as u16;
        let available = self.end - at;
        let claimed = udp.len as usize;
        // 0 is a jumbogram (RFC 2675) or an offload; a first fragment carries less than it claims.
        let len = if claimed == 0 || (fragmented && claimed > available) {
            available
        } else if claimed < 8 || claimed > available {
            self.wrong(Malformed::Udp);
            available
        } else {
            claimed
        };
        self.payload(at + 8, len - 8);
        Some(())
    }

    fn icmp(&mut self, at: usize, family: Family) -> Option<()> {
        let b = self.take::<8>(at, Malformed::Icmp)?;
        let (icmp_type, body) = (b[0], at + 8);
        let quoted_at = match (family, icmp_type) {
            // Destination unreachable, source quench, redirect, time exceeded, parameter problem.
            (Family::V4, 3 | 4 | 5 | 11 | 12) | (Family::V6, 1..=4) => Some(body),
            (Family::V6, 137) => self.redirected_header(body),
            _ => None,
        };
        let quoted = quoted_at.and_then(|start| match family {
            Family::V4 => quoted_v4(self.rest(start)),
            Family::V6 => quoted_v6(self.rest(start)),
        });
        self.out.transport = Transport::Icmp(Icmp {
            icmp_type,
            code: b[1],
            checksum: be16(b, 2),
            rest: be32(b, 4),
            quoted,
        });
        self.out.transport_offset = at as u16;
        self.carried(body);
        Some(())
    }

    /// Start of the packet quoted by an ICMPv6 redirect: behind target and destination, inside the
    /// redirected-header option (RFC 4861, 4.6.3).
    fn redirected_header(&self, body: usize) -> Option<usize> {
        let mut at = body + 32;
        loop {
            let option = self.rest(at).first_chunk::<2>()?;
            match *option {
                [4, _] => return Some(at + 8),
                [_, 0] => return None,
                [_, eights] => at += eights as usize * 8,
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

pub(super) fn v6_addresses(b: &[u8; 40]) -> (Ipv6Addr, Ipv6Addr) {
    let address = |at: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&b[at..at + 16]);
        Ipv6Addr::from(octets)
    };
    (address(8), address(24))
}
