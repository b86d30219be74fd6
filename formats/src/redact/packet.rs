//! One packet: addresses, link-layer addresses and payload replaced in place, lengths kept, checksums
//! corrected by what changed.

use super::checksum::{Sum, empty_neutrally, pseudo, sctp};
use super::mapping::Mapping;
use super::neighbours::{dhcp, igmp, mac, mld2, options, v4, v6};
use super::{Changes, Payloads, dns};
use crate::event::LinkType;
use crate::packet::{Headers, Ipv4, Ipv6, Network, Transport, decode};

/// Packets inside packets that are followed; what is deeper is emptied.
const DEPTH: u8 = 4;

mod protocol {
    pub(super) const ICMP: u8 = 1;
    pub(super) const IGMP: u8 = 2;
    pub(super) const IPIP: u8 = 4;
    pub(super) const TCP: u8 = 6;
    pub(super) const UDP: u8 = 17;
    pub(super) const IPV6: u8 = 41;
    pub(super) const GRE: u8 = 47;
    pub(super) const ICMPV6: u8 = 58;
    pub(super) const SCTP: u8 = 132;
    pub(super) const UDP_LITE: u8 = 136;
}

/// Replaces what is in packets, keeping its memory between them.
#[derive(Default)]
pub(super) struct Rewriter {
    old: Vec<u8>,
    sums: Vec<Sum>,
}

/// The rewriting of one packet.
struct Rewrite<'a> {
    new: &'a mut [u8],
    sums: &'a mut Vec<Sum>,
    /// SCTP packets whose CRC was right, as ranges.
    crcs: Vec<(usize, usize)>,
    mapping: &'a mut Mapping,
    payloads: &'a Payloads,
    changes: &'a mut Changes,
}

impl Rewriter {
    /// Rewrites a packet whose first byte belongs to `link`; `len` is its wire length.
    pub(super) fn rewrite(
        &mut self,
        link: LinkType,
        bytes: &mut [u8],
        len: u32,
        mapping: &mut Mapping,
        payloads: &Payloads,
        changes: &mut Changes,
    ) {
        self.old.clear();
        self.old.extend_from_slice(bytes);
        self.sums.clear();
        changes.packets += 1;
        let end = bytes.len();
        let mut rewrite = Rewrite {
            new: bytes,
            sums: &mut self.sums,
            crcs: Vec::new(),
            mapping,
            payloads,
            changes,
        };
        rewrite.link(link, 0, end, len, DEPTH);
        let crcs = std::mem::take(&mut rewrite.crcs);
        // Inner ones first: the outer ones cover them.
        for sum in self.sums.iter().rev() {
            changes.checksums += u64::from(sum.correct(&self.old, bytes));
        }
        for (start, end) in crcs {
            let crc = sctp(&bytes[start..end]);
            bytes[start + 8..start + 12].copy_from_slice(&crc.to_le_bytes());
        }
    }
}

impl Rewrite<'_> {
    /// Empties bytes that nothing is known of.
    fn empty(&mut self, from: usize, to: usize) {
        let to = to.min(self.new.len());
        if from < to {
            self.changes.payload_bytes += (to - from) as u64;
            self.new[from..to].fill(0);
        }
    }

    fn link(&mut self, link: LinkType, start: usize, end: usize, len: u32, depth: u8) {
        let headers = decode(link, &self.new[start..end], len);
        let bytes = &mut self.new[start..end];
        // Where the link header ends, known even when nothing after it is.
        let header = match link {
            LinkType::ETHERNET => {
                mac(bytes, 0, self.mapping, self.changes);
                mac(bytes, 6, self.mapping, self.changes);
                14
            }
            LinkType::LINUX_SLL | LinkType::LINUX_SLL2 => {
                let (len_at, address) = if link == LinkType::LINUX_SLL { (5, 6) } else { (11, 12) };
                let stop = (address + 8).min(bytes.len());
                if bytes.get(len_at) == Some(&6) {
                    mac(&mut bytes[..stop], address, self.mapping, self.changes);
                } else if address < stop {
                    bytes[address..stop].fill(0);
                }
                if link == LinkType::LINUX_SLL { 16 } else { 20 }
            }
            LinkType::NULL | LinkType::LOOP => 4,
            LinkType::RAW | LinkType::IPV4 | LinkType::IPV6 | LinkType(12 | 14) => 0,
            // Nothing is known of these.
            LinkType(_) => return self.empty(start, end),
        };
        let network = start + usize::from(headers.network_offset);
        if headers.network == Network::None {
            // Tags are stepped over by the decoder where it knows the type.
            let from = if headers.ether_type == 0 { start + header } else { network };
            return self.empty(from.max(start + header), end);
        }
        self.network(&headers, network, start, end, len, depth);
        if link == LinkType::ETHERNET {
            self.group_address(&headers, start, network);
        }
    }

    /// The link-layer address of a group is made from the group's (RFC 1112, RFC 2464).
    fn group_address(&mut self, headers: &Headers, start: usize, network: usize) {
        let group = match (headers.ethernet.map(|ethernet| ethernet.dst), headers.network) {
            (Some([0x33, 0x33, ..]), Network::V6(ip)) if ip.dst.is_multicast() => {
                let at = network + 36;
                let bytes = &self.new[at..at + 4];
                [0x33, 0x33, bytes[0], bytes[1], bytes[2], bytes[3]]
            }
            (Some([1, 0, 0x5e, ..]), Network::V4(ip)) if ip.dst.is_multicast() => {
                let at = network + 16;
                let bytes = &self.new[at..at + 4];
                [1, 0, 0x5e, bytes[1] & 0x7f, bytes[2], bytes[3]]
            }
            _ => return,
        };
        self.new[start..start + 6].copy_from_slice(&group);
    }

    fn network(
        &mut self,
        headers: &Headers,
        at: usize,
        start: usize,
        end: usize,
        len: u32,
        depth: u8,
    ) {
        match headers.network {
            Network::Arp(_) => {
                let bytes = &mut self.new[..end];
                mac(bytes, at + 8, self.mapping, self.changes);
                v4(bytes, at + 14, self.mapping, self.changes);
                mac(bytes, at + 18, self.mapping, self.changes);
                v4(bytes, at + 24, self.mapping, self.changes);
                self.empty(at + 28, end);
            }
            Network::V4(ip) => self.v4(headers, ip, at, start, end, depth),
            Network::V6(ip) => self.v6(headers, ip, at, start, end, depth),
            Network::None => self.empty(at, end),
        }
        let _ = len;
    }

    fn v4(&mut self, headers: &Headers, ip: Ipv4, at: usize, start: usize, end: usize, depth: u8) {
        let header_end = (at + usize::from(ip.header_len)).min(end);
        let total = usize::from(ip.total_len);
        let stop =
            if total == 0 { end } else { (at + total).clamp(header_end, end.max(header_end)) };
        let old = [ip.src.octets(), ip.dst.octets()].concat();
        v4(&mut self.new[..end], at + 12, self.mapping, self.changes);
        v4(&mut self.new[..end], at + 16, self.mapping, self.changes);
        let change = pseudo(&old, &self.new[at + 12..at + 20]);
        self.v4_options(at + 20, header_end);
        self.sums.push(Sum { start: at, end: header_end, at: at + 10, pseudo: 0, optional: false });
        // Behind the packet is padding, which may be anything.
        self.empty(stop, end);
        let fragment = ip.more_fragments || ip.fragment_offset > 0;
        if ip.fragment_offset > 0 {
            self.changes.payload_bytes += (stop - header_end) as u64;
            return empty_neutrally(&mut self.new[header_end..stop]);
        }
        let part = Part { at: header_end, stop, protocol: ip.protocol, change, fragment, depth };
        self.transport(headers, part, start);
    }

    fn v4_options(&mut self, mut at: usize, end: usize) {
        while at < end {
            let len = match self.new[at] {
                0 => return self.empty(at + 1, end),
                1 => {
                    at += 1;
                    continue;
                }
                _ => self.new.get(at + 1).map_or(0, |len| usize::from(*len)),
            };
            if len < 2 || at + len > end {
                return self.empty(at, end);
            }
            match self.new[at] {
                // Record route, loose and strict source route.
                7 | 131 | 137 => {
                    let mut place = at + 3;
                    while place + 4 <= at + len {
                        v4(&mut self.new[..at + len], place, self.mapping, self.changes);
                        place += 4;
                    }
                }
                // Router alert.
                148 => {}
                _ => self.empty(at + 2, at + len),
            }
            at += len;
        }
    }

    fn v6(&mut self, headers: &Headers, ip: Ipv6, at: usize, start: usize, end: usize, depth: u8) {
        let length = usize::from(ip.payload_len);
        let stop = if length == 0 { end } else { (at + 40 + length).min(end) };
        let old = [ip.src.octets(), ip.dst.octets()].concat();
        v6(&mut self.new[..end], at + 8, self.mapping, self.changes);
        v6(&mut self.new[..end], at + 24, self.mapping, self.changes);
        let mut change = pseudo(&old, &self.new[at + 8..at + 40]);
        let Some((next, upper)) = self.extensions(at, stop, &old, &mut change) else {
            return self.empty(stop, end);
        };
        self.empty(stop, end);
        let (_, offset, more) = ip.fragment.unwrap_or_default();
        if offset > 0 {
            self.changes.payload_bytes += (stop - next) as u64;
            return empty_neutrally(&mut self.new[next..stop]);
        }
        let part = Part { at: next, stop, protocol: upper, change, fragment: more, depth };
        self.transport(headers, part, start);
    }

    /// Replaces what extension headers say (RFC 8200, 4); where they end and what comes after.
    /// `None` when they do not end: all of it is empty then.
    fn extensions(
        &mut self,
        at: usize,
        stop: usize,
        addresses: &[u8],
        change: &mut i64,
    ) -> Option<(usize, u8)> {
        let mut kind = self.new[at + 6];
        let mut next = at + 40;
        for _ in 0..16 {
            let len = match kind {
                0 | 43 | 60 | 135 | 139 | 140 => {
                    let Some(len) = self.new[..stop].get(next + 1) else {
                        self.empty(next, stop);
                        return None;
                    };
                    (usize::from(*len) + 1) * 8
                }
                44 => 8,
                51 => {
                    let Some(len) = self.new[..stop].get(next + 1) else {
                        self.empty(next, stop);
                        return None;
                    };
                    (usize::from(*len) + 2) * 4
                }
                _ => return Some((next.min(stop), kind)),
            };
            let end = (next + len).min(stop);
            match kind {
                44 => {}
                43 => self.routing(next, end, &addresses[16..], change, at),
                // Options, authentication data, host identities.
                _ => {
                    let keep = if kind == 51 { 12 } else { 2 };
                    self.v6_options(kind, next, (next + keep).min(end), end);
                }
            }
            if next + len > stop {
                return None;
            }
            kind = self.new[next];
            next += len;
        }
        self.empty(next, stop);
        None
    }

    /// Keeps padding, router alerts and jumbo lengths; other options are emptied.
    fn v6_options(&mut self, kind: u8, next: usize, mut at: usize, end: usize) {
        if !matches!(kind, 0 | 60) {
            return self.empty(at.max(next + 2), end);
        }
        while at < end {
            if self.new[at] == 0 {
                at += 1;
                continue;
            }
            let Some(len) = self.new[..end].get(at + 1).map(|len| usize::from(*len)) else {
                return;
            };
            let stop = (at + 2 + len).min(end);
            if !matches!(self.new[at], 1 | 5 | 0xc2) {
                self.empty(at + 2, stop);
            }
            at += 2 + len;
        }
    }

    /// Addresses of a routing header. The pseudo-header has the last one, not the one in the IPv6
    /// header, as long as segments are left.
    fn routing(&mut self, next: usize, end: usize, dst: &[u8], change: &mut i64, ip: usize) {
        let (kind, left) = match self.new[..end].get(next + 2..next + 4) {
            Some(bytes) => (bytes[0], bytes[1]),
            None => return self.empty(next + 2, end),
        };
        if !matches!(kind, 0 | 2 | 4) {
            return self.empty(next + 4, end);
        }
        let count = (end.saturating_sub(next + 8)) / 16;
        let last = if kind == 4 { 0 } else { count.saturating_sub(1) };
        let mut place = next + 8;
        for row in 0..count {
            let before = self.new[place..place + 16].to_vec();
            v6(&mut self.new[..end], place, self.mapping, self.changes);
            if row == last && left > 0 {
                *change -= pseudo(dst, &self.new[ip + 24..ip + 40]);
                *change += pseudo(&before, &self.new[place..place + 16]);
            }
            place += 16;
        }
        self.empty(place, end);
    }

    fn transport(&mut self, headers: &Headers, part: Part, start: usize) {
        let Part { at, stop, protocol: kind, change, fragment, depth } = part;
        if at >= stop {
            return;
        }
        let decoded = start + usize::from(headers.transport_offset) == at;
        let sum = |field: usize, pseudo: i64, optional: bool| Sum {
            start: at,
            end: stop,
            at: at + field,
            pseudo,
            optional,
        };
        match kind {
            protocol::TCP => {
                self.sums.push(sum(16, change, false));
                let header = match headers.transport {
                    Transport::Tcp(tcp) if decoded => usize::from(tcp.header_len),
                    _ => 20,
                };
                let header_end = (at + header).min(stop);
                self.tcp_options((at + 20).min(header_end), header_end);
                let ports = self.ports(at);
                self.payload(protocol::TCP, ports, header_end, stop, depth);
            }
            protocol::UDP | protocol::UDP_LITE => {
                let mut sum = sum(6, change, kind == protocol::UDP);
                let length = self.new[..stop].get(at + 4..at + 6);
                let length = length.map_or(0, |b| usize::from(u16::from_be_bytes([b[0], b[1]])));
                let covered = (at + length).min(stop);
                if length >= 8 && !fragment {
                    sum.end = covered;
                }
                self.sums.push(sum);
                if kind == protocol::UDP && length >= 8 && !fragment {
                    self.empty(covered, stop);
                }
                let end = if kind == protocol::UDP && length >= 8 { covered } else { stop };
                let ports = self.ports(at);
                self.payload(protocol::UDP, ports, (at + 8).min(end), end, depth);
            }
            protocol::ICMP => {
                self.sums.push(sum(2, 0, false));
                self.icmp(at, stop, depth);
            }
            protocol::ICMPV6 => {
                self.sums.push(sum(2, change, false));
                self.icmp6(at, stop, depth);
            }
            protocol::IGMP => {
                self.sums.push(sum(2, 0, false));
                igmp(&mut self.new[at..stop], self.mapping, self.changes);
            }
            protocol::IPIP | protocol::IPV6 => self.inner(LinkType::RAW, at, stop, depth),
            protocol::GRE => self.gre(at, stop, depth),
            protocol::SCTP => {
                let whole = stop - at >= 12
                    && sctp(&self.new[at..stop]).to_le_bytes() == self.new[at + 8..at + 12];
                self.empty((at + 12).min(stop), stop);
                if whole {
                    self.crcs.push((at, stop));
                }
            }
            _ => self.empty(at, stop),
        }
    }

    fn ports(&self, at: usize) -> (u16, u16) {
        match self.new.get(at..at + 4) {
            Some(b) => (u16::from_be_bytes([b[0], b[1]]), u16::from_be_bytes([b[2], b[3]])),
            None => (0, 0),
        }
    }

    /// Keeps the options that every analysis needs; signatures, cookies and addresses of others go.
    fn tcp_options(&mut self, mut at: usize, end: usize) {
        while at < end {
            let len = match self.new[at] {
                0 => return self.empty(at + 1, end),
                1 => {
                    at += 1;
                    continue;
                }
                _ => self.new[..end].get(at + 1).map_or(0, |len| usize::from(*len)),
            };
            if len < 2 {
                return self.empty(at, end);
            }
            let stop = (at + len).min(end);
            if !matches!(self.new[at], 2..=5 | 8) {
                self.empty(at + 2, stop);
            }
            at += len;
        }
    }

    fn payload(&mut self, kind: u8, ports: (u16, u16), at: usize, stop: usize, depth: u8) {
        if at >= stop {
            return;
        }
        let either = |port: u16| ports.0 == port || ports.1 == port;
        if let Some(kept) = self.payloads.kept(kind, ports) {
            self.changes.payloads_kept += 1;
            return self.empty(at.saturating_add(kept), stop);
        }
        if kind == protocol::UDP {
            if either(53) || either(5353) || either(5355) {
                return dns::scrub(&mut self.new[at..stop], self.mapping, self.changes);
            }
            if either(67) || either(68) {
                return dhcp(&mut self.new[at..stop], self.mapping, self.changes);
            }
            if ports.1 == 4789 && stop - at > 8 {
                return self.inner(LinkType::ETHERNET, at + 8, stop, depth);
            }
        }
        let name = match kind {
            protocol::TCP => "tcp",
            _ => "udp",
        };
        let port = if ports.0 < ports.1 { ports.0 } else { ports.1 };
        *self.changes.by_protocol.entry((name, port)).or_default() += (stop - at) as u64;
        self.empty(at, stop);
    }

    /// A packet inside this one.
    fn inner(&mut self, link: LinkType, at: usize, stop: usize, depth: u8) {
        if depth == 0 || at >= stop {
            return self.empty(at, stop);
        }
        self.link(link, at, stop, u32::from(u16::MAX), depth - 1);
    }

    fn gre(&mut self, at: usize, stop: usize, depth: u8) {
        let Some(head) = self.new[..stop].get(at..at + 4) else { return self.empty(at, stop) };
        let (flags, kind) = (head[0], u16::from_be_bytes([head[2], head[3]]));
        // Checksum, key and sequence number (RFC 2784, RFC 2890), four bytes each.
        let fields = [0x80, 0x20, 0x10].iter().filter(|bit| flags & **bit != 0).count();
        if flags & 0x80 != 0 {
            self.sums.push(Sum { start: at, end: stop, at: at + 4, pseudo: 0, optional: false });
        }
        let next = (at + 4 + fields * 4).min(stop);
        match kind {
            0x0800 | 0x86dd => self.inner(LinkType::RAW, next, stop, depth),
            0x6558 => self.inner(LinkType::ETHERNET, next, stop, depth),
            _ => self.empty(next, stop),
        }
    }

    fn icmp(&mut self, at: usize, stop: usize, depth: u8) {
        let body = (at + 8).min(stop);
        match self.new[at] {
            3 | 4 | 11 | 12 => self.inner(LinkType::IPV4, body, stop, depth),
            5 => {
                if at + 4 < stop {
                    v4(&mut self.new[..stop], at + 4, self.mapping, self.changes);
                }
                self.inner(LinkType::IPV4, body, stop, depth);
            }
            // Router advertisement (RFC 1256): address and preference.
            9 => {
                let mut place = body;
                while place < stop {
                    v4(&mut self.new[..stop], place, self.mapping, self.changes);
                    place += 8;
                }
            }
            // Time stamps and masks.
            13 | 14 | 17 | 18 => {}
            _ => self.empty(body, stop),
        }
    }

    fn icmp6(&mut self, at: usize, stop: usize, depth: u8) {
        let body = (at + 8).min(stop);
        let kind = self.new[at];
        let (addresses, opts) = match kind {
            1..=4 => return self.inner(LinkType::IPV6, body, stop, depth),
            133 => (0, 8),
            134 => (0, 16),
            135 | 136 => (1, 24),
            137 => (2, 40),
            130..=132 => {
                let bytes = &mut self.new[..stop];
                let mut place = body;
                while place + 16 <= stop {
                    v6(bytes, place, self.mapping, self.changes);
                    place += if place == body && kind == 130 { 20 } else { 16 };
                }
                return;
            }
            143 => return mld2(&mut self.new[at..stop], self.mapping, self.changes),
            _ => return self.empty(body, stop),
        };
        for row in 0..addresses {
            if body + row * 16 < stop {
                v6(&mut self.new[..stop], body + row * 16, self.mapping, self.changes);
            }
        }
        let from = (at + opts).min(stop);
        if let Some(quoted) = options(&mut self.new[from..stop], 0, self.mapping, self.changes) {
            self.inner(LinkType::IPV6, from + quoted.start, from + quoted.end, depth);
        }
    }
}

/// Something an IP header carries.
#[derive(Clone, Copy)]
struct Part {
    at: usize,
    stop: usize,
    protocol: u8,
    /// What the pseudo-header changed by.
    change: i64,
    /// More fragments follow.
    fragment: bool,
    depth: u8,
}
