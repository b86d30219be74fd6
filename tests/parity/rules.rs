//! Random rule files over the pools of `packets`.

use std::fmt::Write;

use super::Random;
use super::packets::{LAST, PORTS};

fn address(random: &mut Random) -> String {
    let net = random.of(&["10.0.0", "10.0.1", "192.0.2", "224.0.0"]);
    let last = random.of(&LAST);
    match random.below(3) {
        0 => format!("{net}.{last}"),
        1 => format!("{net}.{last}/{}", random.of(&[0, 8, 24, 29, 31])),
        _ => format!("{net}.0/24"),
    }
}

fn address6(random: &mut Random) -> String {
    let net = random.of(&["fd00:0:0:0", "fe80:0:0:1", "2001:0:0:1"]);
    format!("{net}::{:x}/{}", random.of(&LAST), random.of(&[0, 16, 64, 127, 128]))
}

fn number(random: &mut Random, field: &str, pool: &[u64]) -> String {
    let value = random.of(pool);
    let other = random.of(pool);
    match random.below(8) {
        0 => format!("{field} != {value}"),
        1 => format!("{field} < {value}"),
        2 => format!("{field} >= {value}"),
        3 => {
            format!("{field} in {{{} {}..{}}}", random.of(pool), value.min(other), value.max(other))
        }
        4 => format!("{field} in {{{value} {other}}}"),
        _ => format!("{field} == {value}"),
    }
}

fn test(random: &mut Random) -> String {
    let ports: Vec<u64> = PORTS.iter().map(|port| u64::from(*port)).collect();
    #[rustfmt::skip]
    let numbers: &[(&str, &[u64])] = &[
        ("ip.ttl", &[1, 5, 6, 63, 64, 255]), ("ip.proto", &[1, 6, 17, 132]), ("ip.len", &[0, 20, 40, 60, 9000]),
        ("ip.hdr_len", &[20, 24, 60]), ("ip.id", &[0, 7]), ("ip.dsfield.dscp", &[0, 46]), ("ip.dsfield.ecn", &[0, 3]),
        ("ip.flags.df", &[0, 1]), ("ip.flags.mf", &[0, 1]), ("ip.frag_offset", &[0, 8, 65528]), ("ip.checksum", &[0, 9]),
        ("ipv6.nxt", &[0, 6, 17, 58, 59]), ("ipv6.hlim", &[1, 64, 255]), ("ipv6.plen", &[0, 4, 24, 9000]),
        ("ipv6.flow", &[0, 9]), ("ipv6.tclass", &[0, 1, 16]),
        ("tcp.seq", &[0, 1, 3]), ("tcp.ack", &[0, 1, 3]), ("tcp.len", &[0, 1, 11]), ("tcp.hdr_len", &[0, 20, 28, 32]),
        ("tcp.window_size_value", &[0, 1024, 64_240]), ("tcp.flags", &[0, 2, 0x10, 0x12, 0x102]),
        ("tcp.flags.syn", &[0, 1]), ("tcp.flags.ack", &[0, 1]), ("tcp.flags.rst", &[0, 1]), ("tcp.flags.cwr", &[0, 1]),
        ("tcp.options.mss_val", &[512, 1460]), ("tcp.options.wscale.shift", &[7]),
        ("udp.length", &[0, 7, 8, 20, 9000]), ("udp.checksum", &[0]),
        ("icmp.type", &[0, 3, 5, 8, 11]), ("icmp.code", &[0, 1, 4]), ("icmp.ident", &[0, 5]), ("icmp.seq", &[1280, 1286]),
        ("icmpv6.type", &[1, 2, 128, 137]), ("icmpv6.code", &[0, 4]), ("icmp.quoted.proto", &[1, 6, 17, 58]),
        ("arp.opcode", &[1, 2, 3]), ("arp.sender_differs", &[0, 1]), ("vlan.id", &[0, 5, 6]), ("eth.type", &[0x800, 0x806, 0x86dd, 0x805]),
        ("frame.len", &[54, 60, 64, 100, 300]), ("frame.headers_cut", &[0, 1]),
    ];
    match random.below(16) {
        0 => {
            let field = random.of(&[
                "ip.src",
                "ip.dst",
                "ip.addr",
                "arp.src.proto_ipv4",
                "arp.dst.proto_ipv4",
                "icmp.quoted.ip.src",
                "icmp.quoted.ip.dst",
            ]);
            format!("{field} {} {}", random.of(&["==", "==", "!="]), address(random))
        }
        1 => format!("ip.src in {{{} {}}}", address(random), address(random)),
        2 => {
            let field = random.of(&[
                "ipv6.src",
                "ipv6.dst",
                "ipv6.addr",
                "icmp.quoted.ipv6.src",
                "icmp.quoted.ipv6.dst",
            ]);
            format!("{field} {} {}", random.of(&["==", "==", "!="]), address6(random))
        }
        3 => {
            let field = random.of(&["eth.src", "eth.dst", "eth.addr", "arp.src.hw_mac"]);
            format!("{field} {} 02:00:00:00:00:{:02x}", random.of(&["==", "!="]), random.of(&LAST))
        }
        4 => random
            .of(&[
                "eth",
                "vlan",
                "arp",
                "ip",
                "ipv6",
                "tcp",
                "udp",
                "sctp",
                "icmp",
                "icmpv6",
                "icmp.quoted",
                "malformed",
            ])
            .to_owned(),
        5 => format!(
            "tcp.flags & {:#x} == {:#x}",
            random.of(&[0x17, 0x3f, 3]),
            random.of(&[0, 2, 3, 0x10])
        ),
        6..=9 => {
            let field = random.of(&[
                "tcp.srcport",
                "tcp.dstport",
                "tcp.port",
                "udp.srcport",
                "udp.dstport",
                "udp.port",
                "sctp.port",
                "icmp.quoted.srcport",
                "icmp.quoted.dstport",
            ]);
            number(random, field, &ports)
        }
        _ => {
            let (field, pool) = random.of(numbers);
            if field.contains("flags.") || field.contains("differs") || field.contains("cut") {
                return format!("{field} {} {}", random.of(&["==", "!="]), random.of(pool));
            }
            number(random, field, pool)
        }
    }
}

fn expression(random: &mut Random, depth: u32) -> String {
    if depth == 0 || random.one_in(3) {
        return test(random);
    }
    match random.below(5) {
        0 => format!("not ({})", expression(random, depth - 1)),
        1 => format!("({} or {})", expression(random, depth - 1), expression(random, depth - 1)),
        _ => format!("({} and {})", expression(random, depth - 1), expression(random, depth - 1)),
    }
}

/// Keys in use that one table takes are limited, so expressions draw on few fields at a time.
fn few(random: &mut Random, pool: &[String]) -> String {
    match random.below(3) {
        0 => random.of(pool),
        1 => format!("{} and {}", random.of(pool), random.of(pool)),
        _ => format!("{} and not ({})", random.of(pool), random.of(pool)),
    }
}

/// A file of `count` rules without state: what they do depends on no clock.
pub(crate) fn stateless(random: &mut Random, count: u64) -> String {
    let pool: Vec<String> = (0..10).map(|_| expression(random, 0)).collect();
    let mut text = String::new();
    for number in 0..count {
        let (condition, action) =
            (few(random, &pool), random.of(&["count", "count", "pass", "drop"]));
        let _ = writeln!(
            text,
            "[[rule]]\nid = \"r{number}\"\nmatch = '{condition}'\naction = \"{action}\""
        );
    }
    text
}

/// A rule file of `count` rules.
pub(crate) fn random(random: &mut Random, count: u64) -> String {
    let mut pool: Vec<String> = Vec::new();
    // At most 24 keys, of which one test brings up to two; thresholds bring none to the table.
    for _ in 0..8 {
        pool.push(expression(random, 0));
    }
    pool.extend((0..2).map(|_| format!("({})", expression(random, 1))));
    let mut text = String::new();
    for number in 0..count {
        let condition = few(random, &pool);
        let _ = writeln!(text, "[[rule]]\nid = \"r{number}\"\nmatch = '{condition}'");
        // Many narrow rules: what decides must be rare enough that later rules are reached.
        let action = match random.below(8) {
            0 | 1 => "pass",
            2 => "count",
            3 => "log",
            4 => "limit",
            _ => "drop",
        };
        let _ = writeln!(text, "action = \"{action}\"");
        if action == "limit" {
            let _ = writeln!(text, "rate = \"{}\"", random.of(&["2/s", "30/m", "1kB/s"]));
            let _ = writeln!(text, "burst = {}", random.of(&["1", "3"]).to_owned());
            text =
                text.replace("rate = \"1kB/s\"\nburst = 1", "rate = \"1kB/s\"\nburst = \"200 B\"");
            text =
                text.replace("rate = \"1kB/s\"\nburst = 3", "rate = \"1kB/s\"\nburst = \"1 kB\"");
        }
        let threshold = matches!(action, "drop" | "log" | "count") && random.one_in(5);
        if threshold {
            let field = random.of(&["tcp.dstport", "udp.dstport", "ip.dst", "ipv6.src", "tcp.seq"]);
            let over = random.of(&[1, 2, 4]);
            let _ = writeln!(
                text,
                "distinct = {{ field = \"{field}\", over = {over}, within = \"2s\" }}"
            );
        }
        let block = matches!(action, "drop" | "limit") && random.one_in(4);
        if block {
            let _ = writeln!(text, "block-for = \"{}\"", random.of(&["100ms", "5s"]));
            let _ = writeln!(text, "per = \"{}\"", random.of(&["source", "pair", "flow"]));
        } else if action == "limit" || threshold {
            let _ = writeln!(
                text,
                "per = \"{}\"",
                random.of(&["all", "source", "destination", "pair", "flow"])
            );
        }
        if random.one_in(4) {
            let _ = writeln!(text, "direction = \"{}\"", random.of(&["egress", "both"]));
        }
        if random.one_in(10) {
            text.push_str("unproven = true\n");
        }
        if random.one_in(12) {
            text.push_str("sources = \"list.txt\"\n");
        }
    }
    text
}

/// Rules that each decide about some of the random packets; the mutants break them one by one.
pub(crate) const BROAD: &str = r#"
[[rule]]
id = "pass-ssh"
match = "tcp.dstport == 22"
action = "pass"

[[rule]]
id = "ttl"
match = "ip.ttl < 6 and ip.src == 10.0.0.0/29"
action = "drop"

[[rule]]
id = "web"
match = "tcp.dstport in {80 443} and ip.ttl > 60"
action = "drop"

[[rule]]
id = "scan"
match = "tcp and ip.dst == 192.0.2.0/24"
distinct = { field = "tcp.dstport", over = 2, within = "60s" }
per = "all"
action = "drop"

[[rule]]
id = "udp"
match = "udp.srcport in {53 79..81}"
action = "limit"
rate = "5/m"
burst = 2
per = "all"

[[rule]]
id = "mac"
match = "eth.src == 02:00:00:00:00:09 and eth.type == 0x86dd"
action = "drop"

[[rule]]
id = "six"
match = "ipv6.src == fd00:0:0:1::8/127"
action = "drop"

[[rule]]
id = "length"
match = "frame.len > 300"
action = "count"

[[rule]]
id = "rest"
match = "ip.src == 192.0.2.0/24 or icmp.type == 3"
action = "drop"
"#;
