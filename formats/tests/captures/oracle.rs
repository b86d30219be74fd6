//! tshark's opinion of the same bytes, field by field.

use std::path::Path;
use std::process::Command;

use psc_formats::packet::{Headers, Mac, Network, Transport, decode};
use psc_formats::{Event, open};

use crate::{Everything, all_captures, captures};

/// Runs tshark; `None`, said aloud, where there is none.
pub(crate) fn tshark(test: &str, args: &[&str], file: &Path) -> Option<(String, String)> {
    let output = match Command::new("tshark").args(args).arg("-r").arg(file).output() {
        Ok(output) => output,
        Err(error) => {
            assert!(
                std::env::var_os("PSC_REQUIRE_LIVE").is_none_or(|value| value != "1"),
                "{test} needs tshark: {error}"
            );
            println!("SKIPPED (live) {test}: no tshark ({error})");
            return None;
        }
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("tshark prints UTF-8");
    let complaints: String = text(output.stderr)
        .lines()
        .filter(|line| !line.starts_with("Running as user"))
        .collect::<Vec<_>>()
        .join("\n");
    Some((text(output.stdout), complaints))
}

/// tshark's names for what [`row`] shows, in the same order.
const FIELDS: [&str; 36] = [
    "frame.time_epoch",
    "frame.len",
    "frame.cap_len",
    "eth.src",
    "eth.dst",
    "vlan.id",
    "ieee8021ad.id",
    "arp.opcode",
    "arp.src.hw_mac",
    "arp.src.proto_ipv4",
    "arp.dst.proto_ipv4",
    "ip.src",
    "ip.dst",
    "ip.proto",
    "ip.id",
    "ip.ttl",
    "ip.frag_offset",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.hlim",
    "ipv6.plen",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.seq_raw",
    "tcp.ack_raw",
    "tcp.flags",
    "tcp.window_size_value",
    "tcp.len",
    "tcp.options.mss_val",
    "tcp.options.wscale.shift",
    "tcp.options.timestamp.tsval",
    "tcp.options.sack_le",
    "udp.srcport",
    "udp.length",
    "icmp.type",
    "icmpv6.type",
];

/// What we say, in tshark's words.
fn row(event: &Event, bytes: &[u8]) -> Vec<String> {
    let packet = event.packet.expect("packet");
    let h = headers(event, bytes);
    assert_eq!(h.malformed, None, "{h:?}");
    let mut row: Vec<String> = Vec::new();
    let mut put = |value: Option<String>| row.push(value.unwrap_or_default());
    put(Some(format!("{}.{:09}", event.at.0 / 1_000_000_000, event.at.0 % 1_000_000_000)));
    put(Some(packet.len.to_string()));
    put(Some(packet.caplen.to_string()));
    put(h.ethernet.map(|e| Mac(e.src).to_string()));
    put(h.ethernet.map(|e| Mac(e.dst).to_string()));
    let vlans: Vec<String> = h.vlans.iter().flatten().map(ToString::to_string).collect();
    // An 802.1ad tag is the outer one of two, and another field to tshark.
    let (outer, inner) = if vlans.len() > 1 { vlans.split_at(1) } else { (&[][..], &vlans[..]) };
    put(Some(inner.join(",")));
    put(Some(outer.join(",")));
    let arp = if let Network::Arp(arp) = h.network { Some(arp) } else { None };
    put(arp.map(|a| a.opcode.to_string()));
    put(arp.map(|a| Mac(a.sender_mac).to_string()));
    put(arp.map(|a| a.sender.to_string()));
    put(arp.map(|a| a.target.to_string()));
    let v4 = if let Network::V4(ip) = h.network { Some(ip) } else { None };
    put(v4.map(|ip| ip.src.to_string()));
    put(v4.map(|ip| ip.dst.to_string()));
    put(v4.map(|ip| ip.protocol.to_string()));
    put(v4.map(|ip| format!("{:#06x}", ip.id)));
    put(v4.map(|ip| ip.ttl.to_string()));
    put(v4.map(|ip| ip.fragment_offset.to_string()));
    let v6 = if let Network::V6(ip) = h.network { Some(ip) } else { None };
    put(v6.map(|ip| ip.src.to_string()));
    put(v6.map(|ip| ip.dst.to_string()));
    put(v6.map(|ip| ip.hop_limit.to_string()));
    put(v6.map(|ip| ip.payload_len.to_string()));
    let tcp = h.tcp().copied();
    // Of a header that is cut, the ports are left.
    let ports = |protocol: u8| {
        let tuple = h.tuple().filter(|t| t.protocol == protocol && h.transport != Transport::None);
        tuple.map(|t| (t.sport.to_string(), t.dport.to_string()))
    };
    put(ports(6).map(|(source, _)| source));
    put(ports(6).map(|(_, destination)| destination));
    put(tcp.map(|t| t.seq.to_string()));
    put(tcp.map(|t| t.ack.to_string()));
    put(tcp.map(|t| format!("{:#06x}", t.flags)));
    put(tcp.map(|t| t.window.to_string()));
    put(tcp.map(|_| h.payload_len.to_string()));
    put(tcp.and_then(|t| t.options.mss).map(|mss| mss.to_string()));
    put(tcp.and_then(|t| t.options.window_scale).map(|shift| shift.to_string()));
    put(tcp.and_then(|t| t.options.timestamp).map(|(value, _)| value.to_string()));
    let sacks = tcp.map(|t| t.options.sack).unwrap_or_default();
    let lefts: Vec<String> = sacks.iter().flatten().map(|(left, _)| left.to_string()).collect();
    put(Some(lefts.join(",")));
    let udp = if let Transport::Udp(udp) = h.transport { Some(udp) } else { None };
    put(ports(17).map(|(source, _)| source));
    put(udp.map(|u| u.len.to_string()));
    let icmp = if let Transport::Icmp(icmp) = h.transport { Some(icmp) } else { None };
    put(icmp.filter(|_| v4.is_some()).map(|i| i.icmp_type.to_string()));
    put(icmp.filter(|_| v6.is_some()).map(|i| i.icmp_type.to_string()));
    row
}

/// Whether tshark decodes a packet inside this one and lists its fields too.
fn carries_another(row: &[String]) -> bool {
    let of = |name: &str| {
        let at = FIELDS.iter().position(|field| *field == name).expect("field");
        row[at].as_str()
    };
    of("ip.proto") == "47"
        || matches!(of("icmp.type"), "3" | "5" | "11" | "12")
        || of("icmpv6.type") == "2"
}

fn headers(event: &Event, bytes: &[u8]) -> Headers {
    let packet = event.packet.expect("packet");
    decode(packet.link, bytes, packet.len)
}

fn in_bytes(eights: &str) -> String {
    eights.parse::<u32>().map(|n| (n * 8).to_string()).unwrap_or_default()
}

#[test]
fn tshark_agrees_on_every_packet() {
    let mut packets = 0;
    for name in all_captures() {
        let path = captures().join(&name);
        let mut args = vec!["-n", "-T", "fields", "-E", "separator=/t", "-E", "occurrence=a"];
        // Absolute numbers, and a fragment's bytes where they are.
        args.extend(["-o", "tcp.relative_sequence_numbers:FALSE", "-o", "ip.defragment:FALSE"]);
        args.extend(["-o", "ipv6.defragment:FALSE"]);
        args.extend(FIELDS.iter().flat_map(|field| ["-e", field]));
        let Some((theirs, complaints)) = tshark("tshark_agrees_on_every_packet", &args, &path)
        else {
            return;
        };
        assert_eq!(complaints, "", "{name}");
        let ours = Everything::of(&mut *open(&path).expect("opens"));
        let theirs: Vec<&str> = theirs.lines().collect();
        assert_eq!(theirs.len(), ours.events.len(), "{name}");
        for (number, (theirs, (event, bytes))) in
            theirs.iter().zip(ours.events.iter().zip(&ours.bytes)).enumerate()
        {
            let ours = row(event, bytes);
            let theirs: Vec<&str> = theirs.split('\t').collect();
            for ((field, ours_value), theirs) in FIELDS.iter().zip(&ours).zip(theirs) {
                let first = theirs.split(',').next().unwrap_or_default();
                let same = theirs == ours_value
                    || (carries_another(&ours) && (first == ours_value || ours_value.is_empty()))
                    // tshark shows what there is of a cut header.
                    || (ours_value.is_empty() && headers(event, bytes).cut)
                    // Some versions show units of 8 bytes.
                    || (*field == "ip.frag_offset" && in_bytes(theirs) == *ours_value)
                    // tshark gives a simple packet block no time.
                    || (*field == "frame.time_epoch" && theirs.is_empty());
                assert!(
                    same,
                    "{name} packet {}: {field} is {theirs:?} to tshark and {ours_value:?} to us",
                    number + 1
                );
            }
            packets += 1;
        }
    }
    assert!(packets > 400, "only {packets} packets compared");
}
