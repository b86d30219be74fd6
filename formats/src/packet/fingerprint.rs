//! Telling whether two sightings of one skb address can be the same packet.

use super::{Network, Transport, decode};
use crate::event::LinkType;

/// Fingerprint of what stays the same while one packet travels one host's stack, from the bytes of
/// its network header on (120 suffice for any packet without IPv6 extension headers); 0 when they
/// are neither IPv4, IPv6 nor ARP.
///
/// Made of: IP version, protocol after extension headers, IPv4 identification or IPv6 fragment
/// identification, fragment offset; then for TCP the sequence number, for ICMP the type and, in an
/// echo, the sequence number; for ARP its operation and addresses. Left out, since the stack
/// rewrites it on the way: addresses, ports and the ICMP echo identifier (NAT), TTL and hop limit
/// (forwarding), TOS and flow label (mangling, ECN), every checksum (offload), every length and
/// the more-fragments bit (GRO, GSO, defragmentation).
///
/// So equal fingerprints do not prove one packet (all of a host's UDP over IPv6 look alike), while
/// different ones prove two.
/// The exceptions known are `nf_conntrack` helpers that shift TCP sequence numbers and tunnels,
/// where the outer header is another packet.
///
/// The recorder's BPF side hashes the same fields by a cheaper function of its own into
/// [`crate::Event::content`], so that value compares for equality within one recording only, never
/// with the result of this function.
pub fn fingerprint(network_header_bytes: &[u8]) -> u32 {
    let len = network_header_bytes.len() as u32;
    let arp = network_header_bytes.first_chunk() == Some(&[0, 1, 8, 0]);
    let headers = if arp {
        // The decoder starts at a link header; ARP is all there is to read behind this one.
        let mut frame = [0; 42];
        let stored = len.min(28) as usize;
        frame[12..14].copy_from_slice(&[8, 6]);
        frame[14..14 + stored].copy_from_slice(&network_header_bytes[..stored]);
        decode(LinkType::ETHERNET, &frame[..14 + stored], 42)
    } else {
        // A cut packet is not a wrong one here: the wire length is not known.
        decode(LinkType::RAW, network_header_bytes, len.max(u32::from(u16::MAX)))
    };
    let mut hash = Fnv::default();
    match headers.network {
        Network::None => return 0,
        Network::Arp(arp) => {
            hash.word(1);
            hash.word(u32::from(arp.opcode));
            hash.word(u32::from(arp.sender));
            hash.word(u32::from(arp.target));
        }
        Network::V4(ip) => {
            hash.word(4 << 8 | u32::from(ip.protocol));
            hash.word(u32::from(ip.id));
            hash.word(u32::from(ip.fragment_offset));
        }
        Network::V6(ip) => {
            let (id, offset, _) = ip.fragment.unwrap_or_default();
            hash.word(6 << 8 | u32::from(ip.protocol));
            hash.word(id);
            hash.word(u32::from(offset));
        }
    }
    match headers.transport {
        Transport::Tcp(tcp) => hash.word(tcp.seq),
        Transport::Icmp(icmp) => {
            hash.word(u32::from(icmp.icmp_type));
            if matches!(icmp.icmp_type, 0 | 8 | 128 | 129) {
                hash.word(icmp.rest & 0xffff);
            }
        }
        Transport::Udp(_) | Transport::Ports(..) | Transport::None => {}
    }
    // 0 says "not read".
    hash.0.max(1)
}

/// FNV-1a, fixed so that fingerprints mean the same in every build.
struct Fnv(u32);

impl Default for Fnv {
    fn default() -> Self {
        Self(0x811c_9dc5)
    }
}

impl Fnv {
    fn word(&mut self, word: u32) {
        for byte in word.to_le_bytes() {
            self.0 = (self.0 ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
    }
}
