//! What rows ask about a packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::packet::{Headers, Network, Transport};

/// How many values a key may take, and so how they are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// Up to 16 bits: looked up in a table of all values.
    Small(u8),
    /// 32 bits: looked up among the edges of intervals.
    Word,
    /// 48 bits: the same.
    Mac,
    /// 128 bits: the same.
    V6,
}

impl Width {
    /// Greatest value.
    pub fn max(self) -> u128 {
        match self {
            Self::Small(bits) => (1 << bits) - 1,
            Self::Word => u32::MAX.into(),
            Self::Mac => (1 << 48) - 1,
            Self::V6 => u128::MAX,
        }
    }
}

macro_rules! keys {
    ($( $(#[$doc:meta])* $name:ident $width:expr; )*) => {
        /// A value of a packet that a row can ask about; a packet has at most one of each. The
        /// numbers are those of `enum psc_key` in `guard.h`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Key { $( $(#[$doc])* $name, )* }

        impl Key {
            /// Every key, by number.
            pub const ALL: &'static [Self] = &[$( Self::$name ),*];

            /// How many values it may take.
            pub fn width(self) -> Width {
                match self { $( Self::$name => $width, )* }
            }
        }

        /// Number of keys.
        pub const KEYS: usize = Key::ALL.len();
    };
}

use Width::{Mac, Small, V6, Word};

keys! {
    /// Wire length, bytes.
    FrameLen Word;
    /// 1: the headers go on beyond the bytes looked at.
    Cut Small(1);
    /// 1: a header contradicts itself or the length.
    Malformed Small(1);
    /// Ethernet source.
    EthSrc Mac;
    /// Ethernet destination.
    EthDst Mac;
    /// EtherType after VLAN tags.
    EthType Small(16);
    /// Outermost VLAN id.
    Vlan0 Small(12);
    /// Second VLAN id.
    Vlan1 Small(12);
    /// ARP operation.
    ArpOpcode Small(16);
    /// ARP sender hardware address.
    ArpSenderMac Mac;
    /// ARP sender address.
    ArpSender Word;
    /// ARP target hardware address.
    ArpTargetMac Mac;
    /// ARP target address.
    ArpTarget Word;
    /// 1: the Ethernet source is not the ARP sender.
    ArpDiffers Small(1);
    /// IPv4 source.
    IpSrc Word;
    /// IPv4 destination.
    IpDst Word;
    /// IPv4 protocol.
    IpProto Small(8);
    /// Time to live.
    IpTtl Small(8);
    /// Total length field, bytes.
    IpLen Small(16);
    /// Header length, bytes.
    IpHdrLen Small(8);
    /// Identification.
    IpId Small(16);
    /// DSCP and ECN.
    IpTos Small(8);
    /// Flags and fragment offset as on the wire: 0x4000 DF, 0x2000 MF, offset in units of 8 bytes. The
    /// reserved bit is cleared.
    IpFragment Small(16);
    /// Header checksum field.
    IpChecksum Small(16);
    /// IPv6 source.
    V6Src V6;
    /// IPv6 destination.
    V6Dst V6;
    /// Upper-layer protocol.
    V6Next Small(8);
    /// Hop limit.
    V6HopLimit Small(8);
    /// Payload length field, bytes.
    V6PayloadLen Small(16);
    /// Flow label.
    V6Flow Word;
    /// Traffic class.
    V6TrafficClass Small(8);
    /// TCP source port.
    TcpSrcPort Small(16);
    /// TCP destination port.
    TcpDstPort Small(16);
    /// Sequence number.
    TcpSeq Word;
    /// Acknowledgement number of segments that have one.
    TcpAck Word;
    /// TCP payload, bytes.
    TcpLen Word;
    /// TCP header length, bytes.
    TcpHdrLen Small(8);
    /// Window field.
    TcpWindow Small(16);
    /// TCP checksum field.
    TcpChecksum Small(16);
    /// TCP flags, NS included.
    TcpFlags Small(9);
    /// Maximum segment size option.
    TcpMss Small(16);
    /// Window scale option.
    TcpWindowScale Small(8);
    /// UDP source port.
    UdpSrcPort Small(16);
    /// UDP destination port.
    UdpDstPort Small(16);
    /// UDP length field, bytes.
    UdpLen Small(16);
    /// UDP checksum field.
    UdpChecksum Small(16);
    /// SCTP source port.
    SctpSrcPort Small(16);
    /// SCTP destination port.
    SctpDstPort Small(16);
    /// ICMP type.
    IcmpType Small(8);
    /// ICMP code.
    IcmpCode Small(8);
    /// ICMP echo identifier.
    IcmpIdent Small(16);
    /// ICMP echo sequence number.
    IcmpSeq Small(16);
    /// ICMPv6 type.
    Icmp6Type Small(8);
    /// ICMPv6 code.
    Icmp6Code Small(8);
    /// Protocol of the packet that an ICMP error quotes.
    QuotedProto Small(8);
    /// Its IPv4 source.
    QuotedSrc Word;
    /// Its IPv4 destination.
    QuotedDst Word;
    /// Its IPv6 source.
    QuotedV6Src V6;
    /// Its IPv6 destination.
    QuotedV6Dst V6;
    /// Its source port, 0 when not quoted.
    QuotedSrcPort Small(16);
    /// Its destination port, 0 when not quoted.
    QuotedDstPort Small(16);
}

/// The values of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    values: [u128; KEYS],
    present: u64,
}

fn mac(address: [u8; 6]) -> u128 {
    address.iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

fn v4(address: Ipv4Addr) -> u128 {
    u32::from(address).into()
}

fn v6(address: Ipv6Addr) -> u128 {
    address.into()
}

impl Keys {
    /// The values in `headers` of a packet of `len` bytes on the wire.
    pub fn of(headers: &Headers, len: u32) -> Self {
        let mut keys = Self { values: [0; KEYS], present: 0 };
        keys.put(Key::FrameLen, len.into());
        keys.put(Key::Cut, headers.cut.into());
        if headers.malformed.is_some() {
            keys.put(Key::Malformed, 1);
        }
        if let Some(ethernet) = headers.ethernet {
            keys.put(Key::EthSrc, mac(ethernet.src));
            keys.put(Key::EthDst, mac(ethernet.dst));
        }
        if headers.ether_type != 0 {
            keys.put(Key::EthType, headers.ether_type.into());
        }
        for (key, tag) in [Key::Vlan0, Key::Vlan1].into_iter().zip(headers.vlans) {
            if let Some(id) = tag {
                keys.put(key, id.into());
            }
        }
        keys.network(headers);
        keys.transport(headers);
        keys
    }

    /// The value of `key`, when the packet has one.
    #[inline]
    pub fn get(&self, key: Key) -> Option<u128> {
        (self.present >> key as u8 & 1 == 1).then(|| self.values[key as usize])
    }

    fn put(&mut self, key: Key, value: u128) {
        self.values[key as usize] = value;
        self.present |= 1 << key as u8;
    }

    fn network(&mut self, headers: &Headers) {
        match headers.network {
            Network::None => {}
            Network::Arp(arp) => {
                self.put(Key::ArpOpcode, arp.opcode.into());
                self.put(Key::ArpSenderMac, mac(arp.sender_mac));
                self.put(Key::ArpSender, v4(arp.sender));
                self.put(Key::ArpTargetMac, mac(arp.target_mac));
                self.put(Key::ArpTarget, v4(arp.target));
                if let Some(ethernet) = headers.ethernet {
                    self.put(Key::ArpDiffers, (ethernet.src != arp.sender_mac).into());
                }
            }
            Network::V4(ip) => {
                self.put(Key::IpSrc, v4(ip.src));
                self.put(Key::IpDst, v4(ip.dst));
                self.put(Key::IpProto, ip.protocol.into());
                self.put(Key::IpTtl, ip.ttl.into());
                self.put(Key::IpLen, ip.total_len.into());
                self.put(Key::IpHdrLen, ip.header_len.into());
                self.put(Key::IpId, ip.id.into());
                self.put(Key::IpTos, ip.tos.into());
                let flags = u16::from(ip.dont_fragment) << 14 | u16::from(ip.more_fragments) << 13;
                self.put(Key::IpFragment, (flags | (ip.fragment_offset / 8)).into());
                self.put(Key::IpChecksum, ip.checksum.into());
            }
            Network::V6(ip) => {
                self.put(Key::V6Src, v6(ip.src));
                self.put(Key::V6Dst, v6(ip.dst));
                self.put(Key::V6Next, ip.protocol.into());
                self.put(Key::V6HopLimit, ip.hop_limit.into());
                self.put(Key::V6PayloadLen, ip.payload_len.into());
                self.put(Key::V6Flow, ip.flow_label.into());
                self.put(Key::V6TrafficClass, ip.traffic_class.into());
            }
        }
    }

    fn transport(&mut self, headers: &Headers) {
        match headers.transport {
            Transport::None => {}
            Transport::Tcp(tcp) => {
                self.put(Key::TcpSrcPort, tcp.sport.into());
                self.put(Key::TcpDstPort, tcp.dport.into());
                self.put(Key::TcpSeq, tcp.seq.into());
                if tcp.flags & 0x10 != 0 {
                    self.put(Key::TcpAck, tcp.ack.into());
                }
                self.put(Key::TcpLen, headers.payload_len.into());
                self.put(Key::TcpHdrLen, tcp.header_len.into());
                self.put(Key::TcpWindow, tcp.window.into());
                self.put(Key::TcpChecksum, tcp.checksum.into());
                self.put(Key::TcpFlags, tcp.flags.into());
                if let Some(mss) = tcp.options.mss {
                    self.put(Key::TcpMss, mss.into());
                }
                if let Some(scale) = tcp.options.window_scale {
                    self.put(Key::TcpWindowScale, scale.into());
                }
            }
            Transport::Udp(udp) => {
                self.put(Key::UdpSrcPort, udp.sport.into());
                self.put(Key::UdpDstPort, udp.dport.into());
                self.put(Key::UdpLen, udp.len.into());
                self.put(Key::UdpChecksum, udp.checksum.into());
            }
            Transport::Ports(sport, dport) => {
                if headers.protocol() == Some(132) {
                    self.put(Key::SctpSrcPort, sport.into());
                    self.put(Key::SctpDstPort, dport.into());
                }
            }
            Transport::Icmp(icmp) => {
                if matches!(headers.network, Network::V4(_)) {
                    self.put(Key::IcmpType, icmp.icmp_type.into());
                    self.put(Key::IcmpCode, icmp.code.into());
                    if matches!(icmp.icmp_type, 0 | 8) {
                        self.put(Key::IcmpIdent, (icmp.rest >> 16).into());
                        self.put(Key::IcmpSeq, (icmp.rest & 0xffff).into());
                    }
                } else {
                    self.put(Key::Icmp6Type, icmp.icmp_type.into());
                    self.put(Key::Icmp6Code, icmp.code.into());
                }
                if let Some(quoted) = icmp.quoted {
                    self.put(Key::QuotedProto, quoted.tuple.protocol.into());
                    self.put(Key::QuotedSrcPort, quoted.tuple.sport.into());
                    self.put(Key::QuotedDstPort, quoted.tuple.dport.into());
                    for (address, narrow, wide) in [
                        (quoted.tuple.src, Key::QuotedSrc, Key::QuotedV6Src),
                        (quoted.tuple.dst, Key::QuotedDst, Key::QuotedV6Dst),
                    ] {
                        match address {
                            IpAddr::V4(address) => self.put(narrow, v4(address)),
                            IpAddr::V6(address) => self.put(wide, v6(address)),
                        }
                    }
                }
            }
        }
    }
}
