//! Whole packets: nothing that identifies stays, everything else does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;
use crate::event::LinkType;
use crate::packet::{Network, Transport, decode};

const MAC_A: [u8; 6] = [2, 0xab, 0xcd, 0, 0, 1];
const MAC_B: [u8; 6] = [2, 0xab, 0xcd, 0, 0, 2];
const A: [u8; 4] = [81, 2, 69, 142];
const B: [u8; 4] = [93, 184, 216, 34];

fn redacted(link: LinkType, bytes: &[u8], payloads: Payloads) -> (Vec<u8>, Redactor) {
    let options = Options { payloads, ..Options::default() };
    let mut redactor = Redactor::new(&[5; 32], options);
    let mut out = bytes.to_vec();
    let Redactor { mapping, rewriter, options, changes } = &mut redactor;
    rewriter.rewrite(link, &mut out, bytes.len() as u32, mapping, &options.payloads, changes);
    (out, redactor)
}

/// One's-complement sum of 16-bit words: 0xffff when a checksum in it is right.
fn sum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Whether the checksums of an IPv4 or IPv6 packet without options are right: (header, transport).
/// Not by the code under test.
fn valid(packet: &[u8]) -> (bool, bool) {
    let (header, protocol, addresses) = match packet[0] >> 4 {
        4 => (20, packet[9], &packet[12..20]),
        _ => (40, packet[6], &packet[8..40]),
    };
    let upper = &packet[header..];
    let len = (upper.len() as u32).to_be_bytes();
    let pseudo: [&[u8]; 3] = match protocol {
        1 | 2 => [&[], &[], &[]],
        _ => [addresses, &len, &[0, 0, 0, protocol][..]],
    };
    let ip = header == 40 || sum(&[&packet[..20]]) == 0xffff;
    (ip, sum(&[pseudo[0], pseudo[1], pseudo[2], upper]) == 0xffff)
}

fn tcp(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    PacketBuilder::ipv4(A, B, 60)
        .tcp(40_000, 80, 1000, 500)
        .options(&[etherparse::TcpOptionElement::MaximumSegmentSize(1460)])
        .unwrap()
        .write(&mut out, payload)
        .unwrap();
    out
}

#[test]
fn a_segment_loses_its_payload_and_addresses_and_nothing_else() {
    let packet = tcp(b"GET /secret HTTP/1.1\r\nCookie: token=abc\r\n\r\n");
    let (out, mut redactor) = redacted(LinkType::RAW, &packet, Payloads::default());
    assert_eq!(out.len(), packet.len());
    assert_eq!(valid(&out), (true, true));
    let (before, after) = (
        decode(LinkType::RAW, &packet, packet.len() as u32),
        decode(LinkType::RAW, &out, out.len() as u32),
    );
    let (mut tcp_before, tcp_after) = (*before.tcp().unwrap(), *after.tcp().unwrap());
    tcp_before.checksum = tcp_after.checksum;
    assert_eq!(tcp_before, tcp_after);
    let (src, dst) = after.addresses().unwrap();
    assert_eq!(src, redactor.address(A.into()));
    assert_eq!(dst, redactor.address(B.into()));
    assert_ne!((src, dst), (IpAddr::from(A), IpAddr::from(B)));
    assert!(out[usize::from(after.payload_offset)..].iter().all(|byte| *byte == 0));
    // Kept on request, all or its start.
    for (bytes, expected) in [(None, 43), (Some(4), 4)] {
        let kept = Payloads(vec![KeptPayload { protocol: 6, port: 80, bytes }]);
        let (out, _) = redacted(LinkType::RAW, &packet, kept);
        let payload = &out[usize::from(after.payload_offset)..];
        assert_eq!(payload[..expected], packet[packet.len() - 43..][..expected]);
        assert!(payload[expected..].iter().all(|byte| *byte == 0));
        assert_eq!(valid(&out), (true, true));
    }
}

#[test]
fn a_quoted_packet_is_rewritten_as_the_packet_itself() {
    let packet = tcp(b"hello");
    let mut error = Vec::new();
    PacketBuilder::ipv4(B, A, 60)
        .icmpv4(etherparse::Icmpv4Type::DestinationUnreachable(
            etherparse::icmpv4::DestUnreachableHeader::Port,
        ))
        .write(&mut error, &packet)
        .unwrap();
    let (itself, _) = redacted(LinkType::RAW, &packet, Payloads::default());
    let (error, _) = redacted(LinkType::RAW, &error, Payloads::default());
    assert_eq!(valid(&error), (true, true));
    assert_eq!(error[28..], itself[..]);
}

#[test]
fn neighbours_and_names_are_mapped_where_they_stand() {
    // ARP.
    let mut arp = [&[0xff; 6], &MAC_A[..], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
    arp.extend([&MAC_A[..], &A, &[0; 6], &B].concat());
    let (out, mut redactor) = redacted(LinkType::ETHERNET, &arp, Payloads::default());
    let Network::Arp(header) = decode(LinkType::ETHERNET, &out, 42).network else { panic!("ARP") };
    assert_eq!(IpAddr::from(header.sender), redactor.address(A.into()));
    assert_eq!(header.sender_mac, redactor.mapping.mac(MAC_A));
    assert_ne!(header.sender_mac, MAC_A);
    assert_eq!((header.target_mac, &out[..6]), ([0; 6], &[0xff; 6][..]));

    // Neighbour solicitation with a source address option.
    let (src, target) =
        (Ipv6Addr::new(0x2a00, 1, 2, 3, 0, 0, 0, 1), Ipv6Addr::new(0x2a00, 1, 2, 3, 0, 0, 0, 2));
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 2);
    let body = [&target.octets()[..], &[1, 1], &MAC_B].concat();
    let mut packet = Vec::new();
    PacketBuilder::ipv6(src.octets(), group.octets(), 255)
        .icmpv6_raw(135, 0, [0; 4])
        .write(&mut packet, &body)
        .unwrap();
    let (out, mut redactor) = redacted(LinkType::RAW, &packet, Payloads::default());
    assert_eq!(valid(&out), (true, true));
    assert_eq!(
        out[48..64],
        match redactor.address(target.into()) {
            IpAddr::V6(v6) => v6.octets(),
            IpAddr::V4(_) => panic!("family"),
        }
    );
    assert_eq!(out[66..72], redactor.mapping.mac(MAC_B));

    // A DNS answer: question, pointer, address.
    let mut dns = vec![0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    dns.extend(b"\x08payroll7\x07example\x03com\0\0\x01\0\x01");
    dns.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    dns.extend(B);
    let mut packet = Vec::new();
    PacketBuilder::ipv4(A, B, 60).udp(53, 5000).write(&mut packet, &dns).unwrap();
    let (out, mut redactor) = redacted(LinkType::RAW, &packet, Payloads::default());
    assert_eq!(valid(&out), (true, true));
    let message = &out[28..];
    assert_eq!(message[..12], dns[..12]);
    assert_eq!((message[12], message[21], message[29]), (8, 7, 3), "lengths of labels");
    assert!(!message.windows(7).any(|w| w == b"payroll" || w == b"example"));
    let answer: [u8; 4] = message[message.len() - 4..].try_into().unwrap();
    assert_eq!(IpAddr::from(answer), redactor.address(B.into()));
    assert_eq!(redactor.changes.dns_labels, 3);
}

#[test]
fn a_group_has_the_link_address_that_its_address_makes() {
    for group in [Ipv4Addr::new(239, 1, 2, 3), Ipv4Addr::new(224, 0, 0, 251)] {
        let octets = group.octets();
        let dst = [1, 0, 0x5e, octets[1] & 0x7f, octets[2], octets[3]];
        let mut packet = Vec::new();
        PacketBuilder::ethernet2(MAC_A, dst)
            .ipv4(A, octets, 1)
            .udp(9, 9)
            .write(&mut packet, b"x")
            .unwrap();
        let (out, _) = redacted(LinkType::ETHERNET, &packet, Payloads::default());
        let after = decode(LinkType::ETHERNET, &out, out.len() as u32);
        let Network::V4(ip) = after.network else { panic!("IPv4") };
        let o = ip.dst.octets();
        assert_eq!(after.ethernet.unwrap().dst, [1, 0, 0x5e, o[1] & 0x7f, o[2], o[3]]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn checksums_are_right_after_exactly_where_they_were_right_before(
        v6 in any::<bool>(), kind in 0u8..3, payload in prop::collection::vec(any::<u8>(), 0..60),
        src in any::<[u8; 16]>(), dst in any::<[u8; 16]>(), wrong in prop::option::of(any::<prop::sample::Index>()),
        ports in any::<(u16, u16)>(),
    ) {
        let builder = if v6 {
            PacketBuilder::ipv6(src, dst, 9)
        } else {
            PacketBuilder::ipv4(src[..4].try_into().unwrap(), dst[..4].try_into().unwrap(), 9)
        };
        let mut packet = Vec::new();
        match kind {
            0 => builder.tcp(ports.0, ports.1, 7, 8).write(&mut packet, &payload).unwrap(),
            1 => builder.udp(ports.0, ports.1).write(&mut packet, &payload).unwrap(),
            _ if v6 => builder.icmpv6_echo_request(1, 2).write(&mut packet, &payload).unwrap(),
            _ => builder.icmpv4_echo_request(1, 2).write(&mut packet, &payload).unwrap(),
        }
        if let Some(at) = wrong {
            // Not the fields that say where everything is.
            let from = if v6 { 8 } else { 12 };
            let at = from + at.index(packet.len() - from);
            packet[at] ^= 0x55;
        }
        let is_sound = |packet: &[u8]| {
            let headers = decode(LinkType::RAW, packet, packet.len() as u32);
            headers.malformed.is_none() && !matches!(headers.transport, Transport::Udp(udp)
                if usize::from(udp.len) != packet.len() - if v6 { 40 } else { 20 } || udp.checksum == 0)
        };
        prop_assume!(is_sound(&packet));
        let (out, _) = redacted(LinkType::RAW, &packet, Payloads::default());
        prop_assert_eq!(valid(&packet), valid(&out));
    }

    #[test]
    fn anything_at_all_is_redacted_without_a_panic(
        link in prop::sample::select(vec![0u16, 1, 12, 101, 108, 113, 228, 229, 276, 999]),
        start in prop::sample::select(vec![vec![], vec![0x45, 0, 0, 60], vec![0x60, 0, 0, 0, 0, 40]]),
        bytes in prop::collection::vec(any::<u8>(), 0..120), len in any::<u32>(),
    ) {
        let bytes = [start, bytes].concat();
        let mut redactor = Redactor::new(&[5; 32], Options::default());
        let mut out = bytes.clone();
        let Redactor { mapping, rewriter, options, changes } = &mut redactor;
        rewriter.rewrite(LinkType(link), &mut out, len, mapping, &options.payloads, changes);
        prop_assert_eq!(out.len(), bytes.len());
    }
}

#[test]
fn text_loses_addresses_and_keeps_words() {
    let mut redactor = Redactor::new(&[5; 32], Options::default());
    let v4 = redactor.address("81.2.69.142".parse().unwrap()).to_string();
    let v6 = redactor.address("2a00:1::2".parse().unwrap()).to_string();
    let mac = crate::packet::Mac(redactor.mapping.mac(MAC_A)).to_string();
    for (text, expected) in [
        ("ip.src == 81.2.69.142 and tcp", format!("ip.src == {v4} and tcp")),
        ("81.2.69.142/24", format!("{v4}/24")),
        ("from 81.2.69.142:443.", format!("from {v4}:443.")),
        ("to [2a00:1::2]:53", format!("to [{v6}]:53")),
        ("is at 02:ab:cd:00:00:01, twice", format!("is at {mac}, twice")),
        ("added 12:34 face cafe 1.2.3", "added 12:34 face cafe 1.2.3".to_owned()),
        ("Zürich", "Zürich".to_owned()),
    ] {
        assert_eq!(redactor.text(text), expected);
    }
}

#[test]
fn texts_say_nothing_of_hosts_and_rules_nothing_of_persons() {
    let mut redactor = Redactor::new(&[5; 32], Options::default());
    let mut manifest = Manifest::default();
    manifest.host.name = "alice-pc + db.example + on".to_owned();
    manifest.blind_spots = vec!["db.example: sees alice-pc, not alice-pc2".to_owned()];
    let manifest = redactor.manifest(&manifest);
    let [alice, db] = ["alice-pc", "db.example"].map(|name| redactor.name("host", name));
    assert!(manifest.host.name.starts_with(&format!("{alice} + {db} + host-")));
    assert_eq!(manifest.blind_spots, [format!("{db}: sees {alice}, not alice-pc2")]);
    let device = |netns_name: &str| {
        Fact::Device(crate::fact::DeviceFact {
            netns_name: netns_name.to_owned(),
            ..Default::default()
        })
    };
    let notice = |text: &str| {
        Fact::Notice(crate::fact::NoticeFact {
            at: 0,
            severity: crate::fact::Severity::Info,
            text: text.to_owned(),
            count: 1,
        })
    };
    let rules = r#"# for Carol's laptop
[[rule]]
id = "block-carol"   # really
match = "ip.src == 81.2.69.142 and dns.qry.name == \"carol.example\""
match = 'socket.process == "carolbot" and tcp.dstport == 22'
action = "drop"
note = """she said "no"
twice"""
references = ["Carol", 'her mail # 7']
rate = "10/s"
id = "unfinished carol"#;
    let text = rules.to_owned();
    let rules = Fact::Rules(crate::fact::RulesFact { text, ..Default::default() });
    let facts = vec![
        device("alice-pc/carol"),
        device("db.example"),
        notice("carol of alice-pc went"),
        rules,
    ];
    let mut batch = Batch { facts, ..Batch::default() };
    redactor.batch(&mut batch);
    let carol = redactor.name("namespace", "carol");
    let said: Vec<String> = batch
        .facts
        .iter()
        .map(|fact| match fact {
            Fact::Device(fact) => fact.netns_name.clone(),
            Fact::Notice(fact) => fact.text.clone(),
            Fact::Rules(fact) => fact.text.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(said[..3], [format!("{alice}/{carol}"), db, format!("{carol} of {alice} went")]);
    let text = &said[3];
    for gone in ["arol", "81.2.69.142", "said", "twice", "mail", "really"] {
        assert!(!text.contains(gone), "{gone} in {text}");
    }
    let id = redactor.name("rule", "block-carol");
    for kept in ["[[rule]]", "action = \"drop\"", "tcp.dstport == 22", "rate = \"10/s\"", &id] {
        assert!(text.contains(kept), "{kept} not in {text}");
    }
}
