//! One line about a packet, for ladders and tables.

use std::fmt::Write as _;

use super::{Arp, Headers, Icmp, Mac, Malformed, Network, Quoted, Tcp, Transport};
use crate::flow::ProtocolName;

/// One line: `TCP SYN seq 123 win 64240`, `UDP 12 bytes`, `ARP who-has 10.0.0.2 tell 10.0.0.1`.
///
/// Numbers, addresses and fixed words only: nothing that a sender chose as text, so it is safe in
/// any output.
pub fn summary(headers: &Headers) -> String {
    let mut line = String::new();
    // Writing to a string cannot fail.
    let _ = write(headers, &mut line);
    line
}

fn write(headers: &Headers, out: &mut String) -> std::fmt::Result {
    match (&headers.network, &headers.transport) {
        (Network::Arp(arp), _) => write_arp(arp, out)?,
        (_, Transport::Tcp(tcp)) => write_tcp(tcp, headers.payload_len, out)?,
        (_, Transport::Udp(_)) => write!(out, "UDP {} bytes", headers.payload_len)?,
        (network, Transport::Icmp(icmp)) => {
            write_icmp(icmp, matches!(network, Network::V6(_)), out)?;
        }
        (network, Transport::Ports(..) | Transport::None) => {
            write_network(network, headers, out)?;
        }
    }
    match headers.network {
        Network::V4(ip) if ip.fragment_offset != 0 || ip.more_fragments => {
            write_fragment(u32::from(ip.id), ip.fragment_offset, ip.more_fragments, out)?;
        }
        Network::V6(ip) => {
            if let Some((id, offset, more)) = ip.fragment {
                write_fragment(id, offset, more, out)?;
            }
        }
        Network::V4(_) | Network::Arp(_) | Network::None => {}
    }
    if let Some(part) = headers.malformed {
        write!(out, " [malformed {}]", part.name())?;
    }
    if headers.cut {
        out.push_str(" [cut]");
    }
    Ok(())
}

fn write_network(network: &Network, headers: &Headers, out: &mut String) -> std::fmt::Result {
    let protocol = match network {
        Network::V4(ip) => ip.protocol,
        Network::V6(ip) => ip.protocol,
        Network::Arp(_) | Network::None => {
            return match (headers.ether_type, headers.ethernet) {
                (0, None) => write!(out, "undecoded frame"),
                (0, Some(_)) => write!(out, "802.3 frame"),
                (kind, _) => write!(out, "{} frame", EtherTypeName(kind)),
            };
        }
    };
    let name = ProtocolName(protocol).to_string().to_uppercase();
    write!(out, "{name} {} bytes", headers.payload_len)
}

fn write_fragment(id: u32, offset: u16, more: bool, out: &mut String) -> std::fmt::Result {
    write!(out, " fragment id {id} offset {offset}{}", if more { "" } else { " last" })
}

fn write_tcp(tcp: &Tcp, payload_len: u32, out: &mut String) -> std::fmt::Result {
    // In the order an engineer says them: what opens or ends the connection first.
    const NAMES: [(u16, &str); 9] = [
        (0x002, "SYN"),
        (0x001, "FIN"),
        (0x004, "RST"),
        (0x008, "PSH"),
        (0x010, "ACK"),
        (0x020, "URG"),
        (0x040, "ECE"),
        (0x080, "CWR"),
        (0x100, "NS"),
    ];
    out.push_str("TCP");
    for (bit, name) in NAMES {
        if tcp.flags & bit != 0 {
            write!(out, " {name}")?;
        }
    }
    if tcp.flags == 0 {
        out.push_str(" no flags");
    }
    write!(out, " seq {}", tcp.seq)?;
    if tcp.flags & 0x010 != 0 {
        write!(out, " ack {}", tcp.ack)?;
    }
    write!(out, " win {}", tcp.window)?;
    if payload_len > 0 {
        write!(out, " {payload_len} bytes")?;
    }
    let sacks = tcp.options.sack.iter().flatten();
    for (i, (left, right)) in sacks.enumerate() {
        write!(out, "{}{left}-{right}", if i == 0 { " sack " } else { "," })?;
    }
    Ok(())
}

fn write_arp(arp: &Arp, out: &mut String) -> std::fmt::Result {
    match arp.opcode {
        1 if arp.sender == arp.target => write!(out, "ARP announcement of {}", arp.sender)?,
        1 if arp.sender.is_unspecified() => write!(out, "ARP probe for {}", arp.target)?,
        1 => write!(out, "ARP who-has {} tell {}", arp.target, arp.sender)?,
        2 => write!(out, "ARP {} is-at {}", arp.sender, Mac(arp.sender_mac))?,
        other => write!(out, "ARP operation {other} {} to {}", arp.sender, arp.target)?,
    }
    Ok(())
}

fn write_icmp(icmp: &Icmp, v6: bool, out: &mut String) -> std::fmt::Result {
    let name = if v6 { "ICMPv6" } else { "ICMP" };
    let (id, seq) = (icmp.rest >> 16, icmp.rest & 0xffff);
    match (v6, icmp.icmp_type, icmp.code) {
        (false, 8, _) | (true, 128, _) => write!(out, "{name} echo request id {id} seq {seq}")?,
        (false, 0, _) | (true, 129, _) => write!(out, "{name} echo reply id {id} seq {seq}")?,
        (false, 3, 4) => write!(out, "{name} fragmentation needed mtu {seq}")?,
        (true, 2, _) => write!(out, "{name} packet too big mtu {}", icmp.rest)?,
        (false, 5, _) => {
            write!(out, "{name} redirect to {}", std::net::Ipv4Addr::from(icmp.rest))?;
        }
        (v6, kind, code) => match icmp_text(v6, kind, code) {
            Some(text) => write!(out, "{name} {text}")?,
            None => write!(out, "{name} type {kind} code {code}")?,
        },
    }
    if let Some(Quoted { tuple, .. }) = icmp.quoted {
        write!(out, " about {tuple}")?;
    }
    Ok(())
}

/// IANA's names, shortened, of the messages a host meets.
fn icmp_text(v6: bool, kind: u8, code: u8) -> Option<&'static str> {
    Some(if v6 {
        match (kind, code) {
            (1, 0) => "no route to destination",
            (1, 1) => "administratively prohibited",
            (1, 2) => "beyond scope of source address",
            (1, 3) => "address unreachable",
            (1, 4) => "port unreachable",
            (1, 5) => "source address failed policy",
            (1, 6) => "reject route to destination",
            (1, _) => "destination unreachable",
            (3, 0) => "hop limit exceeded",
            (3, 1) => "reassembly time exceeded",
            (4, _) => "parameter problem",
            (130, _) => "multicast listener query",
            (131 | 143, _) => "multicast listener report",
            (132, _) => "multicast listener done",
            (133, _) => "router solicitation",
            (134, _) => "router advertisement",
            (135, _) => "neighbour solicitation",
            (136, _) => "neighbour advertisement",
            (137, _) => "redirect",
            _ => return None,
        }
    } else {
        match (kind, code) {
            (3, 0) => "net unreachable",
            (3, 1) => "host unreachable",
            (3, 2) => "protocol unreachable",
            (3, 3) => "port unreachable",
            (3, 9 | 10 | 13) => "administratively prohibited",
            (3, _) => "destination unreachable",
            (4, _) => "source quench",
            (9, _) => "router advertisement",
            (10, _) => "router solicitation",
            (11, 0) => "TTL exceeded",
            (11, 1) => "reassembly time exceeded",
            (12, _) => "parameter problem",
            (13, _) => "timestamp request",
            (14, _) => "timestamp reply",
            _ => return None,
        }
    })
}

impl Malformed {
    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Arp => "arp",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }
}

/// An EtherType by the name engineers use, where psc knows it.
struct EtherTypeName(u16);

impl std::fmt::Display for EtherTypeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            0x0800 => "IPv4",
            0x0806 => "ARP",
            0x86dd => "IPv6",
            0x8035 => "RARP",
            0x8809 => "slow protocols",
            0x8847 | 0x8848 => "MPLS",
            0x8863 | 0x8864 => "PPPoE",
            0x888e => "EAPOL",
            0x88cc => "LLDP",
            0x88e5 => "MACsec",
            0x88f7 => "PTP",
            other => return write!(f, "EtherType {other:#06x}"),
        })
    }
}
