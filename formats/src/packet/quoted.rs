//! The packet quoted inside an ICMP error: what the error is about.

use std::net::Ipv4Addr;

use super::decode::{Walk, be16, be32, protocol, v6_addresses};
use super::{Ipv6, Quoted};
use crate::flow::FiveTuple;

/// The packet quoted at the start of `bytes`, as far as it goes.
pub(super) fn quoted_v4(bytes: &[u8]) -> Option<Quoted> {
    let b = bytes.first_chunk::<20>()?;
    let header_len = (b[0] & 0x0f) as usize * 4;
    if b[0] >> 4 != 4 || header_len < 20 {
        return None;
    }
    let tuple = FiveTuple {
        protocol: b[9],
        src: Ipv4Addr::new(b[12], b[13], b[14], b[15]).into(),
        sport: 0,
        dst: Ipv4Addr::new(b[16], b[17], b[18], b[19]).into(),
        dport: 0,
    };
    let fragment_offset = be16(b, 6) & 0x1fff;
    let rest = bytes.get(header_len..).filter(|_| fragment_offset == 0).unwrap_or(&[]);
    Some(quoted_transport(tuple, be16(b, 4), b[8], rest))
}

/// As [`quoted_v4`].
pub(super) fn quoted_v6(bytes: &[u8]) -> Option<Quoted> {
    let b = bytes.first_chunk::<40>()?;
    if b[0] >> 4 != 6 {
        return None;
    }
    let (src, dst) = v6_addresses(b);
    // The chain is walked by the same code as any other; what is wrong in a quotation is not held
    // against the packet that quotes it.
    let mut ip = Ipv6 {
        src,
        dst,
        protocol: b[6],
        hop_limit: b[7],
        traffic_class: 0,
        flow_label: 0,
        payload_len: 0,
        fragment: None,
    };
    let mut next = 40;
    let complete = Walk::new(bytes, bytes.len()).extensions(&mut ip, &mut next).is_some();
    let first = ip.fragment.is_none_or(|(_, offset, _)| offset == 0);
    let rest = bytes.get(next..).filter(|_| complete && first).unwrap_or(&[]);
    let tuple =
        FiveTuple { protocol: ip.protocol, src: src.into(), sport: 0, dst: dst.into(), dport: 0 };
    Some(quoted_transport(tuple, 0, b[7], rest))
}

fn quoted_transport(mut tuple: FiveTuple, ip_id: u16, ttl: u8, rest: &[u8]) -> Quoted {
    let has_ports = matches!(
        tuple.protocol,
        protocol::TCP | protocol::UDP | protocol::SCTP | protocol::DCCP | protocol::UDP_LITE
    );
    if let (true, Some(ports)) = (has_ports, rest.first_chunk::<4>()) {
        tuple.sport = be16(ports, 0);
        tuple.dport = be16(ports, 2);
    }
    let mut quoted = Quoted { tuple, ip_id, ttl, tcp_seq: None, echo: None, udp: None };
    if let Some(b) = rest.first_chunk::<8>() {
        match tuple.protocol {
            protocol::TCP => quoted.tcp_seq = Some(be32(b, 4)),
            protocol::UDP => quoted.udp = Some((be16(b, 4), be16(b, 6))),
            protocol::ICMP if matches!(b[0], 0 | 8) => quoted.echo = Some((be16(b, 4), be16(b, 6))),
            protocol::ICMPV6 if matches!(b[0], 128 | 129) => {
                quoted.echo = Some((be16(b, 4), be16(b, 6)));
            }
            _ => {}
        }
    }
    quoted
}
