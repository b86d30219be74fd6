use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    IpFragOffset, IpNumber, Ipv6FragmentHeader, Ipv6RawExtHeader, PacketBuilder, TcpOptionElement,
};
use proptest::prelude::*;

use super::*;
use crate::event::LinkType;

const LINKS: [LinkType; 10] = [
    LinkType::NULL,
    LinkType::ETHERNET,
    LinkType::RAW,
    LinkType::LOOP,
    LinkType::LINUX_SLL,
    LinkType::IPV4,
    LinkType::IPV6,
    LinkType::LINUX_SLL2,
    LinkType(12),
    LinkType(147),
];

const MACS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
const V4: ([u8; 4], [u8; 4]) = ([10, 0, 0, 1], [10, 0, 0, 2]);
const V6: ([u8; 16], [u8; 16]) = (
    [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
);

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let nibble = |digit: u8| (digit as char).to_digit(16).expect("hex digit") as u8;
    digits.chunks(2).map(|pair| nibble(pair[0]) << 4 | nibble(pair[1])).collect()
}

fn whole(link: LinkType, bytes: &[u8]) -> Headers {
    decode(link, bytes, bytes.len() as u32)
}

macro_rules! packet {
    ($builder:expr, $payload:expr) => {{
        let builder = $builder;
        let mut out = Vec::new();
        builder.write(&mut out, $payload).expect("packet fits");
        out
    }};
}

fn tcp_packet() -> Vec<u8> {
    packet!(
        PacketBuilder::ethernet2(MACS.0, MACS.1)
            .ipv4(V4.0, V4.1, 61)
            .tcp(40000, 443, 0x0102_0304, 64240)
            .ack(0x0506_0708)
            .psh()
            .options(&[
                TcpOptionElement::Timestamp(7, 9),
                TcpOptionElement::SelectiveAcknowledgement((1, 2), [Some((3, 4)), None, None]),
            ])
            .expect("options fit"),
        b"hello"
    )
}

fn samples() -> Vec<(&'static str, LinkType, Vec<u8>)> {
    let eth = || PacketBuilder::ethernet2(MACS.0, MACS.1);
    let syn_options = [
        TcpOptionElement::MaximumSegmentSize(1460),
        TcpOptionElement::SelectiveAcknowledgementPermitted,
        TcpOptionElement::Timestamp(7, 0),
        TcpOptionElement::Noop,
        TcpOptionElement::WindowScale(7),
    ];
    let mut udp6 = packet!(eth().ipv6(V6.0, V6.1, 64).udp(53, 5353), b"0123456789ab");
    let mut sll = hex("0004 0001 0006 020000000002 0000 0800");
    sll.extend_from_slice(&udp4()[14..]);
    let mut sll2 = hex("86dd 0000 00000003 0001 04 06 020000000001 0000");
    sll2.extend_from_slice(&udp6[14..]);
    let mut null = hex("02000000");
    null.extend_from_slice(&udp4()[14..]);
    let mut bsd_loop = hex("00000018");
    bsd_loop.extend_from_slice(&udp6[14..]);
    let mut snap = hex("020000000002 020000000001 0030 aaaa03 000000 0800");
    snap.extend_from_slice(&udp4()[14..]);
    udp6.drain(..14);
    let mut icmp_quoting = hex("45000038 00000000 40010000 0a000002 0a000001 03030000 00000000");
    icmp_quoting.extend_from_slice(&udp4()[14..42]);
    vec![
        ("tcp with timestamps and sack", LinkType::ETHERNET, tcp_packet()),
        (
            "syn",
            LinkType::ETHERNET,
            packet!(
                eth()
                    .ipv4(V4.0, V4.1, 64)
                    .tcp(1, 2, 123, 64240)
                    .syn()
                    .options(&syn_options)
                    .expect("fits"),
                b""
            ),
        ),
        (
            "vlan",
            LinkType::ETHERNET,
            packet!(
                eth()
                    .single_vlan(etherparse::VlanId::try_new(5).expect("vlan"))
                    .ipv4(V4.0, V4.1, 64)
                    .udp(1, 2),
                b"x"
            ),
        ),
        (
            "qinq",
            LinkType::ETHERNET,
            packet!(
                eth()
                    .double_vlan(
                        etherparse::VlanId::try_new(100).expect("vlan"),
                        etherparse::VlanId::try_new(4094).expect("vlan"),
                    )
                    .ipv6(V6.0, V6.1, 64)
                    .udp(1, 2),
                b"x"
            ),
        ),
        ("arp", LinkType::ETHERNET, arp_request()),
        ("udp over ipv6", LinkType::RAW, udp6.clone()),
        ("udp over ipv6, own link type", LinkType::IPV6, udp6),
        ("udp over ipv4", LinkType::IPV4, udp4()[14..].to_vec()),
        ("cooked", LinkType::LINUX_SLL, sll),
        ("cooked v2", LinkType::LINUX_SLL2, sll2),
        ("null", LinkType::NULL, null),
        ("loop", LinkType::LOOP, bsd_loop),
        ("snap", LinkType::ETHERNET, snap),
        ("icmp quoting udp", LinkType::RAW, icmp_quoting),
        (
            "echo",
            LinkType::ETHERNET,
            packet!(eth().ipv4(V4.0, V4.1, 64).icmpv4_echo_request(3, 1), b""),
        ),
        (
            "echo v6",
            LinkType::ETHERNET,
            packet!(eth().ipv6(V6.0, V6.1, 64).icmpv6_echo_reply(3, 1), b""),
        ),
        ("ipv6 extensions", LinkType::IPV6, v6_with_extensions(0)),
        ("ipv6 later fragment", LinkType::IPV6, v6_with_extensions(185)),
        (
            "sctp",
            LinkType::IPV4,
            hex("45000020 00010000 40840000 0a000001 0a000002 0b590b5a 00000001 00000000"),
        ),
    ]
}

fn udp4() -> Vec<u8> {
    packet!(
        PacketBuilder::ethernet2(MACS.0, MACS.1).ipv4(V4.0, V4.1, 64).udp(53, 5353),
        b"0123456789ab"
    )
}

fn arp_request() -> Vec<u8> {
    hex(
        "ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000002",
    )
}

/// Hop-by-hop, then fragment (`offset` in units of 8 bytes), then UDP.
fn v6_with_extensions(offset: u16) -> Vec<u8> {
    let hop = Ipv6RawExtHeader::new_raw(IpNumber::IPV6_FRAGMENTATION_HEADER, &[1, 4, 0, 0, 0, 0]);
    let fragment = Ipv6FragmentHeader::new(
        IpNumber::UDP,
        IpFragOffset::try_new(offset).expect("13 bits"),
        true,
        0xdead_beef,
    );
    let mut out = hex("60012345 0020 00 40");
    out.extend_from_slice(&V6.0);
    out.extend_from_slice(&V6.1);
    hop.expect("8 bytes").write(&mut out).expect("written");
    fragment.write(&mut out).expect("written");
    out.extend_from_slice(&hex("0035 0036 0578 0000 0102030405060708"));
    out
}

#[test]
fn tcp_fields() {
    let h = whole(LinkType::ETHERNET, &tcp_packet());
    assert_eq!(h.ethernet, Some(Ethernet { dst: MACS.1, src: MACS.0 }));
    assert_eq!((h.ether_type, h.network_offset, h.transport_offset), (0x0800, 14, 34));
    let Network::V4(ip) = h.network else { panic!("{:?}", h.network) };
    assert_eq!((ip.ttl, ip.protocol, ip.header_len, ip.dont_fragment), (61, 6, 20, true));
    let tcp = h.tcp().expect("tcp");
    assert_eq!((tcp.sport, tcp.dport, tcp.window), (40000, 443, 64240));
    assert_eq!((tcp.seq, tcp.ack, tcp.flags), (0x0102_0304, 0x0506_0708, 0x18));
    assert_eq!(tcp.options.timestamp, Some((7, 9)));
    assert_eq!(tcp.options.sack, [Some((1, 2)), Some((3, 4)), None, None]);
    assert_eq!(h.payload_len, 5);
    assert_eq!(&tcp_packet()[h.payload_offset as usize..], b"hello");
}

/// One line per packet: what was decoded, in words.
#[test]
fn summaries() {
    let lines: Vec<String> = samples()
        .iter()
        .map(|(name, link, bytes)| format!("{name}: {}", summary(&whole(*link, bytes))))
        .collect();
    assert_eq!(
        lines,
        [
            "tcp with timestamps and sack: TCP PSH ACK seq 16909060 ack 84281096 win 64240 5 bytes sack 1-2,3-4",
            "syn: TCP SYN seq 123 win 64240",
            "vlan: UDP 1 bytes",
            "qinq: UDP 1 bytes",
            "arp: ARP who-has 10.0.0.2 tell 10.0.0.1",
            "udp over ipv6: UDP 12 bytes",
            "udp over ipv6, own link type: UDP 12 bytes",
            "udp over ipv4: UDP 12 bytes",
            "cooked: UDP 12 bytes",
            "cooked v2: UDP 12 bytes",
            "null: UDP 12 bytes",
            "loop: UDP 12 bytes",
            "snap: UDP 12 bytes",
            "icmp quoting udp: ICMP port unreachable about udp 10.0.0.1:53 > 10.0.0.2:5353",
            "echo: ICMP echo request id 3 seq 1",
            "echo v6: ICMPv6 echo reply id 3 seq 1",
            "ipv6 extensions: UDP 8 bytes fragment id 3735928559 offset 0",
            "ipv6 later fragment: UDP 16 bytes fragment id 3735928559 offset 1480",
            "sctp: SCTP 0 bytes",
        ]
    );
}

#[test]
fn vlan_ids_outermost_first() {
    let by_name = |wanted: &str| {
        let found = samples().into_iter().find(|(name, ..)| *name == wanted);
        found.map(|(_, link, bytes)| whole(link, &bytes)).expect("sample")
    };
    assert_eq!(by_name("vlan").vlans, [Some(5), None]);
    assert_eq!(by_name("qinq").vlans, [Some(100), Some(4094)]);
    assert_eq!(by_name("qinq").ether_type, 0x86dd);
}

#[test]
fn syn_options() {
    let (_, link, bytes) = samples().swap_remove(1);
    let options = whole(link, &bytes).tcp().expect("tcp").options;
    assert_eq!((options.mss, options.window_scale), (Some(1460), Some(7)));
    assert!(options.sack_permitted);
    assert_eq!(options.timestamp, Some((7, 0)));
}

#[test]
fn icmp_quotes_what_it_is_about() {
    let unreachable = |inner: &str| {
        let mut bytes = hex("45000000 00000000 40010000 0a000009 0a000001 0b000000 00000000");
        bytes.extend(hex(inner));
        bytes[3] = bytes.len() as u8;
        match whole(LinkType::RAW, &bytes).transport {
            Transport::Icmp(icmp) => icmp.quoted,
            other => panic!("{other:?}"),
        }
    };
    let tcp = unreachable("45000028 abcd4000 01060000 0a000001 0a000002 9c4001bb 01020304");
    let tcp = tcp.expect("quoted");
    assert_eq!((tcp.ip_id, tcp.ttl, tcp.tcp_seq), (0xabcd, 1, Some(0x0102_0304)));
    assert_eq!(tcp.tuple.to_string(), "tcp 10.0.0.1:40000 > 10.0.0.2:443");
    let echo = unreachable("45000028 00010000 01010000 0a000001 0a000002 08000000 00030001");
    assert_eq!(echo.expect("quoted").echo, Some((3, 1)));
    let fragment = unreachable("45000028 00010010 01110000 0a000001 0a000002 00350036 00080000");
    let fragment = fragment.expect("quoted");
    assert_eq!((fragment.tuple.sport, fragment.udp), (0, None), "a later fragment has no ports");
    assert_eq!(unreachable("45000028"), None);
    assert_eq!(unreachable("65000028 00010010 01110000 0a000001 0a000002"), None);
}

#[test]
fn icmpv6_redirect_quotes_from_its_option() {
    let mut inner = packet!(PacketBuilder::ipv6(V6.0, V6.1, 3).udp(7, 9), b"");
    let mut body = hex("8900 0000 00000000");
    body.extend_from_slice(&[0; 32]);
    body.extend(hex("0201 020000000001 0407 000000000000"));
    body.append(&mut inner);
    let mut bytes = hex("60000000 0000 3a ff");
    bytes[5] = body.len() as u8;
    bytes.extend_from_slice(&V6.1);
    bytes.extend_from_slice(&V6.0);
    bytes.append(&mut body);
    let Transport::Icmp(icmp) = whole(LinkType::IPV6, &bytes).transport else { panic!("icmp") };
    assert_eq!(icmp.quoted.expect("quoted").tuple.to_string(), "udp [fd00::1]:7 > [fd00::2]:9");
}

/// What is wrong is named, and decoding goes on as far as it makes sense.
#[test]
fn malformed_parts_are_named() {
    let cases = [
        ("ihl 4", LinkType::IPV4, "44000014 00000000 40110000 0a000001 0a000002", Malformed::Ipv4),
        (
            "version 5",
            LinkType::IPV4,
            "55000014 00000000 40110000 0a000001 0a000002",
            Malformed::Ipv4,
        ),
        (
            "total below ihl",
            LinkType::IPV4,
            "45000013 00000000 40ff0000 0a000001 0a000002",
            Malformed::Ipv4,
        ),
        (
            "total above wire",
            LinkType::IPV4,
            "45000015 00000000 40ff0000 0a000001 0a000002",
            Malformed::Ipv4,
        ),
        ("raw version 0", LinkType::RAW, "00000000", Malformed::Link),
        ("short ethernet", LinkType::ETHERNET, "0000", Malformed::Link),
        (
            "udp length 7",
            LinkType::IPV4,
            "4500001c 00000000 40110000 0a000001 0a000002 00010002 00070000",
            Malformed::Udp,
        ),
        (
            "udp length above ip",
            LinkType::IPV4,
            "4500001c 00000000 40110000 0a000001 0a000002 00010002 00090000",
            Malformed::Udp,
        ),
        (
            "udp cut by ip",
            LinkType::IPV4,
            "4500001a 00000000 40110000 0a000001 0a000002 00010002 0008",
            Malformed::Udp,
        ),
        (
            "tcp offset 4",
            LinkType::IPV4,
            "45000028 00000000 40060000 0a000001 0a000002 00010002 00000000 00000000 40020000 00000000",
            Malformed::Tcp,
        ),
        (
            "tcp offset past ip",
            LinkType::IPV4,
            "45000028 00000000 40060000 0a000001 0a000002 00010002 00000000 00000000 60020000 00000000",
            Malformed::Tcp,
        ),
        (
            "tcp option length 1",
            LinkType::IPV4,
            "4500002c 00000000 40060000 0a000001 0a000002 00010002 00000000 00000000 60020000 00000000 02010000",
            Malformed::Tcp,
        ),
        (
            "tcp option past header",
            LinkType::IPV4,
            "4500002c 00000000 40060000 0a000001 0a000002 00010002 00000000 00000000 60020000 00000000 1e050000",
            Malformed::Tcp,
        ),
        (
            "icmp of 4 bytes",
            LinkType::IPV4,
            "45000018 00000000 40010000 0a000001 0a000002 08000000",
            Malformed::Icmp,
        ),
        (
            "arp for token ring",
            LinkType::ETHERNET,
            "ffffffffffff 020000000001 0806 0006 0800 06 04 0001",
            Malformed::Arp,
        ),
        (
            "802.3 longer than frame",
            LinkType::ETHERNET,
            "ffffffffffff 020000000001 0100 424203",
            Malformed::Link,
        ),
    ];
    for (name, link, bytes, expected) in cases {
        let decoded = whole(link, &hex(bytes));
        assert_eq!(decoded.malformed, Some(expected), "{name}: {decoded:?}");
        assert!(!decoded.cut, "{name}");
    }
}

#[test]
fn extension_chain_has_an_end() {
    let mut bytes = hex("60000000 0000 3c 40");
    bytes.extend_from_slice(&[0; 32]);
    for _ in 0..1000 {
        bytes.extend(hex("3c00 000000000000"));
    }
    assert_eq!(whole(LinkType::IPV6, &bytes).malformed, Some(Malformed::Ipv6));
}

/// The kernel writes IP length 0 for packets above 64 KiB (BIG TCP); the wire length counts then.
#[test]
fn zero_ip_length_falls_back_to_wire_length() {
    let mut v4 = tcp_packet();
    v4[16..18].copy_from_slice(&[0, 0]);
    let h = decode(LinkType::ETHERNET, &v4, 200_000);
    assert_eq!((h.malformed, h.payload_len), (None, 200_000 - u32::from(h.payload_offset)));
    let mut v6 = packet!(PacketBuilder::ipv6(V6.0, V6.1, 3).tcp(7, 9, 1, 1), b"");
    v6[4..6].copy_from_slice(&[0, 0]);
    assert_eq!(decode(LinkType::IPV6, &v6, 200_000).payload_len, 200_000 - 60);
}

#[test]
fn ethernet_padding_is_not_payload() {
    let mut bytes = packet!(
        PacketBuilder::ethernet2(MACS.0, MACS.1).ipv4(V4.0, V4.1, 64).tcp(1, 2, 3, 4).ack(1),
        b""
    );
    bytes.resize(60, 0);
    let h = whole(LinkType::ETHERNET, &bytes);
    assert_eq!((h.payload_len, h.malformed), (0, None));
}

/// A snap length is no fault of the packet: no prefix of a sound packet is malformed, what is
/// decoded from it agrees with the whole, and it says that it was cut.
#[test]
fn cut_is_not_malformed() {
    for (name, link, bytes) in samples() {
        let full = whole(link, &bytes);
        assert_eq!((full.malformed, full.cut), (None, false), "{name}: {full:?}");
        for kept in 0..bytes.len() {
            let h = decode(link, &bytes[..kept], bytes.len() as u32);
            assert_eq!(h.malformed, None, "{name} cut to {kept}");
            if h.network != Network::None {
                assert_eq!(h.addresses(), full.addresses(), "{name} cut to {kept}");
            }
            match (h.transport, full.transport) {
                (Transport::None, _) => {}
                (Transport::Tcp(cut), Transport::Tcp(full)) => assert_eq!(cut.seq, full.seq),
                _ => assert_eq!(
                    h.tuple().map(|t| (t.sport, t.dport)),
                    full.tuple().map(|t| (t.sport, t.dport)),
                    "{name} cut to {kept}"
                ),
            }
            if kept < full.transport_offset as usize {
                assert!(h.cut, "{name} cut to {kept}: {h:?}");
            }
        }
    }
}

#[test]
fn fingerprint_survives_nat_and_forwarding() {
    let rebuilt = |src: [u8; 4], ttl: u8, sport: u16, seq: u32, payload: &[u8]| {
        let packet =
            packet!(PacketBuilder::ipv4(src, V4.1, ttl).tcp(sport, 443, seq, 9).ack(1), payload);
        fingerprint(&packet)
    };
    let original = rebuilt(V4.0, 64, 40000, 100, b"abc");
    assert_ne!(original, 0);
    assert_eq!(original, rebuilt([192, 0, 2, 1], 63, 1024, 100, b"abcdef"), "NAT, TTL, GRO");
    assert_ne!(original, rebuilt(V4.0, 64, 40000, 101, b"abc"), "another segment");
    assert_eq!(fingerprint(&[]), 0);
    assert_ne!(fingerprint(&arp_request()[14..]), 0);
    let whole = tcp_packet();
    assert_eq!(fingerprint(&whole[14..]), fingerprint(&whole[14..54]), "snap length");
}

fn any_link() -> impl Strategy<Value = LinkType> {
    prop_oneof![proptest::sample::select(&LINKS[..]), any::<u16>().prop_map(LinkType)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4096) })]

    #[test]
    fn arbitrary_bytes_never_panic(
        link in any_link(),
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        len in prop_oneof![0..400_u32, any::<u32>()],
    ) {
        let h = decode(link, &bytes, len);
        prop_assert!(h.payload_len as usize <= bytes.len().max(len as usize));
        let line = summary(&h);
        prop_assert!(line.chars().all(|c| c.is_ascii() && !c.is_ascii_control()), "{line}");
        fingerprint(&bytes);
    }

    /// Sound packets with a few bytes changed get deeper than noise does.
    #[test]
    fn damaged_packets_never_panic(
        sample in 0..19_usize,
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        keep in any::<proptest::sample::Index>(),
        len in 0..400_u32,
    ) {
        let (_, link, mut bytes) = samples().swap_remove(sample);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(keep.index(bytes.len() + 1));
        let h = decode(link, &bytes, len);
        prop_assert!(h.payload_len as usize <= bytes.len().max(len as usize));
        summary(&h);
    }

    /// A second opinion: whatever etherparse accepts strictly, this decodes to the same values.
    #[test]
    fn agrees_with_etherparse(
        sample in 0..19_usize,
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let (_, link, mut bytes) = samples().swap_remove(sample);
        if link != LinkType::ETHERNET {
            return Ok(());
        }
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let Ok(other) = etherparse::SlicedPacket::from_ethernet(&bytes) else { return Ok(()) };
        let ours = whole(link, &bytes);
        let Some(addresses) = other.net.as_ref().and_then(|net| match net {
            etherparse::NetSlice::Ipv4(ip) => Some((
                IpAddr::from(ip.header().source_addr()),
                IpAddr::from(ip.header().destination_addr()),
            )),
            etherparse::NetSlice::Ipv6(ip) => Some((
                IpAddr::from(ip.header().source_addr()),
                IpAddr::from(ip.header().destination_addr()),
            )),
            etherparse::NetSlice::Arp(_) => None,
        }) else { return Ok(()) };
        prop_assert_eq!(ours.addresses(), Some(addresses));
        match other.transport {
            Some(etherparse::TransportSlice::Tcp(tcp)) => {
                let t = ours.tcp().copied();
                prop_assert_eq!(
                    t.map(|t| (t.sport, t.dport, t.seq, t.ack, t.window, t.header_len)),
                    Some((
                        tcp.source_port(),
                        tcp.destination_port(),
                        tcp.sequence_number(),
                        tcp.acknowledgment_number(),
                        tcp.window_size(),
                        tcp.data_offset() * 4,
                    ))
                );
            }
            Some(etherparse::TransportSlice::Udp(udp)) => {
                let Transport::Udp(u) = ours.transport else { panic!("{ours:?}") };
                prop_assert_eq!(
                    (u.sport, u.dport, u.len, u.checksum),
                    (udp.source_port(), udp.destination_port(), udp.length(), udp.checksum())
                );
            }
            Some(_) | None => {}
        }
    }
}

#[test]
fn addresses_of_cooked_v6() {
    let (_, link, bytes) = samples().swap_remove(9);
    let h = whole(link, &bytes);
    let (src, dst) = h.addresses().expect("addresses");
    assert_eq!((src, dst), (Ipv6Addr::from(V6.0).into(), Ipv6Addr::from(V6.1).into()));
    let (_, link, bytes) = samples().swap_remove(8);
    let (src, _) = whole(link, &bytes).addresses().expect("addresses");
    assert_eq!(src, IpAddr::from(Ipv4Addr::from(V4.0)));
}
