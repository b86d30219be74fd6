//! The only header decoder: link to transport, over bytes that may be cut or hostile.

mod decode;
mod fingerprint;
mod quoted;
mod summary;
#[cfg(test)]
mod tests;

pub use decode::decode;
pub use fingerprint::fingerprint;
pub use summary::summary;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::flow::FiveTuple;

/// Headers of one packet, as far as the bytes go. Decoding never fails: what is not there is
/// absent, what is wrong is in [`Headers::malformed`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// Ethernet addresses, when the link has them.
    pub ethernet: Option<Ethernet>,
    /// VLAN ids, outermost first; 802.1Q and 802.1ad alike. A third tag and more are stepped over.
    pub vlans: [Option<u16>; 2],
    /// EtherType after VLAN tags; 0 when unknown.
    pub ether_type: u16,
    /// Network header.
    pub network: Network,
    /// Transport header; of the first fragment only.
    pub transport: Transport,
    /// Offset of the network header in the stored bytes.
    pub network_offset: u16,
    /// Offset of the transport header in the stored bytes; 0 when there is none.
    pub transport_offset: u16,
    /// Offset of the transport payload in the stored bytes (may be at or past the end).
    pub payload_offset: u16,
    /// Transport payload bytes on the wire, by the IP length field (and UDP's, when it says less),
    /// never more than the wire length. Where the IP length field is 0, as it is on the host for
    /// BIG TCP and some offloads, the wire length counts. When the transport header is not
    /// decoded, everything after the network header.
    pub payload_len: u32,
    /// First thing that was wrong, if any. Cut by the snap length is not wrong.
    pub malformed: Option<Malformed>,
    /// The bytes ended before the headers did (snap length).
    pub cut: bool,
}

/// Ethernet addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Destination.
    pub dst: [u8; 6],
    /// Source.
    pub src: [u8; 6],
}

/// A link-layer address, shown as `02:00:00:00:00:01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, octet) in self.0.iter().enumerate() {
            write!(f, "{}{octet:02x}", if i == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

/// Network header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Not decoded or not there.
    #[default]
    None,
    /// ARP for IPv4 over Ethernet.
    Arp(Arp),
    /// IPv4.
    V4(Ipv4),
    /// IPv6.
    V6(Ipv6),
}

/// ARP for IPv4 over Ethernet (RFC 826).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// 1 request, 2 reply.
    pub opcode: u16,
    /// Sender hardware address.
    pub sender_mac: [u8; 6],
    /// Sender protocol address.
    pub sender: Ipv4Addr,
    /// Target hardware address.
    pub target_mac: [u8; 6],
    /// Target protocol address.
    pub target: Ipv4Addr,
}

/// IPv4 (RFC 791).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Source.
    pub src: Ipv4Addr,
    /// Destination.
    pub dst: Ipv4Addr,
    /// Protocol number.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Total length field, bytes.
    pub total_len: u16,
    /// Identification.
    pub id: u16,
    /// Don't-fragment bit.
    pub dont_fragment: bool,
    /// More-fragments bit.
    pub more_fragments: bool,
    /// Fragment offset, bytes.
    pub fragment_offset: u16,
    /// Header length with options, bytes.
    pub header_len: u8,
    /// Header checksum field.
    pub checksum: u16,
}

/// IPv6 (RFC 8200), with what its extension headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6 {
    /// Source.
    pub src: Ipv6Addr,
    /// Destination.
    pub dst: Ipv6Addr,
    /// Upper-layer protocol, after extension headers.
    pub protocol: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Traffic class.
    pub traffic_class: u8,
    /// Flow label.
    pub flow_label: u32,
    /// Payload length field, bytes.
    pub payload_len: u16,
    /// Fragment header: (identification, offset in bytes, more fragments).
    pub fragment: Option<(u32, u16, bool)>,
}

/// Transport header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// Not decoded, not there, or a later fragment.
    #[default]
    None,
    /// TCP.
    Tcp(Tcp),
    /// UDP.
    Udp(Udp),
    /// ICMP or ICMPv6; [`Network`] says which.
    Icmp(Icmp),
    /// Source and destination port of SCTP, DCCP or UDP-Lite; also of TCP and UDP when the bytes
    /// end after the ports.
    Ports(u16, u16),
}

/// TCP (RFC 9293).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags: CWR 0x80, ECE, URG, ACK 0x10, PSH, RST 0x04, SYN 0x02, FIN 0x01; NS is 0x100.
    pub flags: u16,
    /// Window field, unscaled.
    pub window: u16,
    /// Header length with options, bytes.
    pub header_len: u8,
    /// Checksum field.
    pub checksum: u16,
    /// Options that analysis needs.
    pub options: TcpOptions,
}

/// TCP options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// Maximum segment size.
    pub mss: Option<u16>,
    /// Window scale shift.
    pub window_scale: Option<u8>,
    /// SACK permitted.
    pub sack_permitted: bool,
    /// SACK blocks (left, right), as many as there are.
    pub sack: [Option<(u32, u32)>; 4],
    /// Timestamp value and echo.
    pub timestamp: Option<(u32, u32)>,
}

/// UDP (RFC 768).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Length field, bytes.
    pub len: u16,
    /// Checksum field.
    pub checksum: u16,
}

/// ICMP (RFC 792) or ICMPv6 (RFC 4443).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Type.
    pub icmp_type: u8,
    /// Code.
    pub code: u8,
    /// Checksum field.
    pub checksum: u16,
    /// Bytes 4 to 7: identifier and sequence, next-hop MTU, gateway...
    pub rest: u32,
    /// The packet quoted by an error, as far as it goes.
    pub quoted: Option<Quoted>,
}

/// A packet quoted inside an ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Flow of the quoted packet; ports 0 when not quoted.
    pub tuple: FiveTuple,
    /// IPv4 identification, 0 for IPv6.
    pub ip_id: u16,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TCP sequence number, when quoted.
    pub tcp_seq: Option<u32>,
    /// ICMP echo identifier and sequence, when quoted.
    pub echo: Option<(u16, u16)>,
    /// UDP checksum or length as traceroute variants use them, when quoted: (length, checksum).
    pub udp: Option<(u16, u16)>,
}

/// What was wrong with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Malformed {
    /// Link header shorter than its type needs though the wire length says so too.
    Link,
    /// ARP lengths or types that are not IPv4 over Ethernet.
    Arp,
    /// Version, header length or total length of IPv4.
    Ipv4,
    /// Version, payload length or extension chain of IPv6.
    Ipv6,
    /// Data offset or options of TCP.
    Tcp,
    /// Length of UDP.
    Udp,
    /// ICMP shorter than its header.
    Icmp,
}

impl Headers {
    /// Source and destination address.
    pub fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        match self.network {
            Network::V4(ip) => Some((ip.src.into(), ip.dst.into())),
            Network::V6(ip) => Some((ip.src.into(), ip.dst.into())),
            Network::Arp(_) | Network::None => None,
        }
    }

    /// IP protocol after extension headers.
    pub fn protocol(&self) -> Option<u8> {
        match self.network {
            Network::V4(ip) => Some(ip.protocol),
            Network::V6(ip) => Some(ip.protocol),
            Network::Arp(_) | Network::None => None,
        }
    }

    /// Whether it is a fragment of a datagram (an atomic one, RFC 6946, too).
    pub fn is_fragment(&self) -> bool {
        match self.network {
            Network::V4(ip) => ip.more_fragments || ip.fragment_offset != 0,
            Network::V6(ip) => ip.fragment.is_some(),
            Network::Arp(_) | Network::None => false,
        }
    }

    /// TTL or hop limit.
    pub fn ttl(&self) -> Option<u8> {
        match self.network {
            Network::V4(ip) => Some(ip.ttl),
            Network::V6(ip) => Some(ip.hop_limit),
            Network::Arp(_) | Network::None => None,
        }
    }

    /// Directed 5-tuple. ICMP echo uses the identifier as both ports' place holder: none; ports are 0.
    pub fn tuple(&self) -> Option<FiveTuple> {
        let (src, dst) = self.addresses()?;
        let (sport, dport) = match self.transport {
            Transport::Tcp(t) => (t.sport, t.dport),
            Transport::Udp(u) => (u.sport, u.dport),
            Transport::Ports(s, d) => (s, d),
            Transport::Icmp(_) | Transport::None => (0, 0),
        };
        Some(FiveTuple { protocol: self.protocol()?, src, sport, dst, dport })
    }

    /// TCP header, if this is TCP.
    pub fn tcp(&self) -> Option<&Tcp> {
        match &self.transport {
            Transport::Tcp(tcp) => Some(tcp),
            _ => None,
        }
    }
}
