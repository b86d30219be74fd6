use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use psc_formats::event::{DeviceId, Gso, LinkType, PacketRef};
use psc_formats::guard::Keys;
use psc_formats::{
    Context, Event, EventKind, Manifest, Ns, ProbeId, SkbAddr, SockId, Stack, Tables, packet,
};

use super::*;
use crate::engine::World;
use crate::expr::{Expr, FIELDS, Subject, Type};

fn parse(text: &str) -> Result<RuleFile, RuleError> {
    RuleFile::parse(text, &mut |name| match name {
        "bad.txt" => Ok("192.0.2.0/24\n2001:db8::/32\n".to_owned()),
        name => Err(format!("cannot read {name}")),
    })
}

fn set(text: &str) -> RuleSet {
    let file = parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    RuleSet::new(file).expect("compiles")
}

#[test]
fn errors_point_at_line_and_column_and_say_what_is_right() {
    let r = |rest: &str| format!("[[rule]]\nid = \"a\"\n{rest}");
    #[rustfmt::skip]
    let cases: &[(String, usize, usize, &str)] = &[
        ("x = 1".into(), 1, 1, "there is no key `x` here; the nearest is `rule`"),
        ("[[rules]]\n".into(), 1, 3, "there is no key `rules` here; the nearest is `rule`"),
        ("rule = 3".into(), 1, 8, "a list of rules, each under [[rule]], is expected, not an integer"),
        ("[[rule]]\nmatch = \"tcp\"\n".into(), 1, 1, "this rule has no id: id = \"name\""),
        (r("acton = \"drop\"\n"), 3, 1, "there is no key `acton` here; the nearest is `action`"),
        (r("match = \"tcp.prot == 80\"\naction = \"drop\"\n"), 3, 10, "there is no field tcp.prot; the nearest is tcp.port"),
        (r("match = \"tcp and ip.ttl < 300\"\naction = \"drop\"\n"), 3, 27, "300 is never reached: the greatest value is 255"),
        (r("match = '''\ntcp and\n  udp.dstport == x'''\naction = \"drop\"\n"), 5, 18, "a number (443, 0x1bb) is expected, not x"),
        (r("match = \"frame contains \\\"\\\" \"\naction = \"drop\"\n"), 3, 9, "column 16: everything contains the empty string"),
        (r("match = 5\naction = \"drop\"\n"), 3, 9, "an expression in quotes, as match = \"tcp.dstport == 22\", is expected, not an integer"),
        (r("match = \"tcp\"\n"), 1, 1, "this rule has no action: action = \"count\" changes nothing and counts"),
        (r("match = \"tcp\"\naction = \"dorp\"\n"), 4, 10, "`action` is one of pass, count, log, alert, drop, limit; the nearest is `drop`"),
        (r("match = \"tcp\"\naction = \"limit\"\n"), 4, 1, "`limit` needs a rate: rate = \"100/s\""),
        (r("match = \"tcp\"\naction = \"drop\"\nrate = \"1/s\"\n"), 4, 1, "with a rate, the action is `limit`: what is over it is dropped"),
        (r("match = \"tcp\"\naction = \"limit\"\nrate = \"fast\"\n"), 5, 8, "`fast` is no rate: write 100/s, 5/m, 1000/h for packets, 500 kB/s or 2 MiB/s for bytes"),
        (r("match = \"tcp\"\naction = \"count\"\nblock-for = \"1h\"\n"), 5, 1, "only `drop` and `limit` block"),
        (r("match = \"tcp\"\naction = \"drop\"\nblock-for = \"1.5h\"\n"), 5, 13, "`1.5h` is no duration: write 30s, 10m or 1h30m, up to 365d"),
        (r("match = \"tcp\"\naction = \"drop\"\nblock-for = \"1h\"\nper = \"all\"\n"), 6, 1, "`block-for` blocks a source, a pair or a flow"),
        (r("match = \"tcp\"\naction = \"drop\"\ndistinct = { field = \"tcp.port\", over = 3, within = \"1s\" }\n"), 5, 22, "tcp.port has several values; count one of them, as tcp.dstport or ip.src"),
        (r("match = \"tcp\"\naction = \"drop\"\ndistinct = { field = \"tcp.dstport\", over = 0, within = \"1s\" }\n"), 5, 44, "`over` is from 1 to 400"),
        (r("action = \"drop\"\n"), 1, 1, "this rule says not what it is about: give `match`, `sources` or `finding`"),
        (r("sources = \"none.txt\"\naction = \"drop\"\n"), 3, 11, "cannot read none.txt"),
        (r("finding = \"port-scan\"\naction = \"drop\"\n"), 4, 1, "a finding comes after its packets: say for how long to drop, block-for = \"10m\""),
        (r("match = \"tcp\"\naction = \"drop\"\n[[rule]]\nid = \"a\"\nmatch = \"udp\"\naction = \"drop\"\n"), 6, 6, "there is already a rule `a`"),
        ("[[never-block]]\naddress = \"10.0.0.1\"\n".into(), 1, 1, "an entry is bound to interface, mac and address, or to a connection: an address alone anybody can pretend to have"),
        ("[[never-block]]\nconnection = \"tcp 10.0.0.1 10.0.0.2:1\"\n".into(), 2, 14, "a connection is written \"tcp 192.0.2.1:22 198.51.100.7:50000\", IPv6 as [::1]:22"),
    ];
    for (text, line, column, what) in cases {
        let error = parse(text).expect_err(text);
        assert_eq!(
            (error.line, error.column, error.what.as_str()),
            (*line, *column, *what),
            "{text}"
        );
    }
    let error = parse("[[rule]]\nid = ").expect_err("cut");
    assert!(error.what.starts_with("this is not TOML: "), "{error}");
    let error = parse(&cases[5].0).expect_err("underlined");
    assert_eq!(error.underlined(), "match = \"tcp.prot == 80\"\n         ^^^^^^^^");
}

#[test]
fn what_the_kernel_cannot_decide_is_said_with_the_reason() {
    #[rustfmt::skip]
    let cases = [
        ("tcp.dstport in {80 443}",                                Some(1), ""),
        ("tcp.dstport == 80 or tcp.dstport == 443",                Some(1), ""),
        ("tcp.port == 80",                                         Some(2), ""),
        ("not tcp.port == 80",                                     Some(1), ""),
        ("tcp.port != 80",                                         Some(1), ""),
        ("ip.ttl < 5 and ip.ttl > 7",                              Some(0), ""),
        ("tcp.flags & 3 == 3 or tcp.flags & 6 == 6",               Some(1), ""),
        ("frame.len > 100",                                        Some(1), ""),
        ("tcp or not tcp",                                         Some(1), ""),
        ("tcp.payload contains \"GET\"",                           None, "tcp.payload: payload bytes are not searched in the kernel"),
        ("drop.reason == NO_SOCKET",                               None, "drop.reason is known when a packet's journey has ended"),
        ("event.cpu == 1",                                         None, "event.cpu belongs to an event of the recording, not to a packet on the wire"),
        ("tcp.seq & 1 == 1",                                       None, "tcp.seq has too many values to be masked in the kernel"),
    ];
    for (expr, rows, reason) in cases {
        let text = format!("[[rule]]\nid = 'a'\nmatch = '{expr}'\naction = 'drop'\n");
        let set = set(&text);
        match (&set.compiled[0], rows) {
            (Compiled::Exact(count), Some(rows)) => assert_eq!(*count, rows, "{expr}"),
            (Compiled::ReplayOnly(why), None) => assert_eq!(why, reason, "{expr}"),
            (compiled, _) => panic!("{expr}: {compiled:?}"),
        }
        assert_eq!(set.not_enforceable().is_empty(), rows.is_some(), "{expr}");
    }
    // 2^9 alternatives that do not join.
    let pairs: Vec<String> = (0..9)
        .map(|n| format!("(ip.ttl == {n} or udp.srcport == {n} or tcp.srcport == {n})"))
        .collect();
    let text =
        format!("[[rule]]\nid = 'a'\nmatch = 'not ({})'\naction = 'drop'\n", pairs.join(" or "));
    assert!(matches!(set(&text).compiled[0], Compiled::Exact(_)), "an `and` of single keys");
    let wide: Vec<String> =
        (0..300).map(|n| format!("(tcp.srcport == {n} and tcp.dstport == {n})")).collect();
    let text = format!("[[rule]]\nid = 'a'\nmatch = '{}'\naction = 'drop'\n", wide.join(" or "));
    let Compiled::ReplayOnly(why) = &set(&text).compiled[0] else { panic!("too wide") };
    assert!(why.contains("256 is the most for one rule"), "{why}");
}

fn v4_packet(protocol: u8, rest: &[u8], ttl: u8, src: [u8; 4], fragment: u16) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0];
    bytes.extend((20 + rest.len() as u16).to_be_bytes());
    bytes.extend([0x12, 0x34]);
    bytes.extend(fragment.to_be_bytes());
    bytes.extend([ttl, protocol, 0, 0]);
    bytes.extend(src);
    bytes.extend([192, 0, 2, 1]);
    bytes.extend(rest);
    bytes
}

fn tcp(sport: u16, dport: u16, flags: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(sport.to_be_bytes());
    bytes.extend(dport.to_be_bytes());
    bytes.extend([0, 0, 0, 7, 0, 0, 0, 9, 0x50, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    bytes
}

fn sample_packets() -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for (flags, port) in [(2, 80), (0x10, 443), (0x12, 22), (0, 7), (0x29, 65_535)] {
        packets.push(v4_packet(6, &tcp(40_000, port, flags), 64, [10, 1, 2, 3], 0x4000));
    }
    packets.push(v4_packet(6, &tcp(80, 40_000, 0x18), 1, [192, 0, 2, 77], 0));
    packets.push(v4_packet(17, &[0, 53, 0, 53, 0, 8, 0, 0], 255, [8, 8, 8, 8], 0x2000));
    packets.push(v4_packet(17, &[0, 53, 0, 53, 0, 8, 0, 0], 255, [8, 8, 8, 8], 0x2005));
    packets.push(v4_packet(1, &[8, 0, 0, 0, 0, 5, 0, 6], 3, [10, 0, 0, 9], 0));
    let quoted = v4_packet(6, &tcp(1, 2, 2), 9, [10, 0, 0, 7], 0);
    packets.push(v4_packet(
        1,
        &[&[3, 4, 0, 0, 0, 0, 5, 0][..], &quoted[14..]].concat(),
        3,
        [10, 0, 0, 9],
        0,
    ));
    packets.push(vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x81, 0, 0, 5, 8, 0, 0x45]);
    let mut arp = vec![0xff; 6];
    arp.extend([2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 9, 10, 0, 0, 1]);
    arp.extend([0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
    packets.push(arp);
    let mut v6 = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, 0x60, 0, 0, 1, 0, 20, 6, 64];
    v6.extend(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).octets());
    v6.extend(Ipv6Addr::LOCALHOST.octets());
    v6.extend(tcp(5, 80, 2));
    packets.push(v6);
    packets
}

fn event(len: usize) -> Event {
    let packet =
        PacketRef { offset: 0, caplen: len as u32, len: len as u32, link: LinkType::ETHERNET };
    Event {
        at: Ns(0),
        cpu: 0,
        seq: 0,
        probe: ProbeId(0),
        skb: SkbAddr(1),
        sock: SockId(0),
        device: DeviceId(0),
        iif: 0,
        len: len as u32,
        gso: Gso::default(),
        stack: Stack::default(),
        context: Context::Softirq,
        packet: Some(packet),
        content: 0,
        kind: EventKind::Receive {},
    }
}

/// Tests on fields that the kernel has, near the values that the sample packets have.
fn expression() -> impl Strategy<Value = String> {
    let fields: Vec<&'static crate::expr::Field> =
        FIELDS.iter().filter(|field| fields::lower(field).is_ok()).collect();
    let near = prop::sample::select(vec![
        0_u64, 1, 2, 3, 4, 5, 6, 7, 8, 9, 17, 18, 20, 22, 40, 53, 54, 64, 80, 255, 443, 1280,
        0x800, 40_000,
    ]);
    let test = (prop::sample::select(fields), near.clone(), near, 0..6_u8, any::<bool>()).prop_map(
        |(field, a, b, how, mask)| {
            let name = field.name;
            let (a, b) = (a.min(field.max), b.min(field.max));
            match field.kind {
                Type::Protocol => name.to_owned(),
                Type::Bool => format!("{name} == {}", a & 1),
                Type::Number => {
                    let small = field.max <= 0xffff;
                    let masked =
                        if mask && small { format!(" & {:#x}", b.max(1)) } else { String::new() };
                    let sign = ["==", "!=", "<", "<=", ">", ">="][how as usize];
                    if how == 5 && !mask {
                        format!("{name} in {{{} {}..{}}}", b, a.min(b), a.max(b))
                    } else {
                        format!("{name}{masked} {sign} {a}")
                    }
                }
                Type::V4 => {
                    let address = [
                        Ipv4Addr::new(10, 1, 2, 3),
                        Ipv4Addr::new(192, 0, 2, 1),
                        Ipv4Addr::new(8, 8, 8, 8),
                        Ipv4Addr::new(10, 0, 0, 9),
                        Ipv4Addr::new(10, 0, 0, 1),
                        Ipv4Addr::new(10, 0, 0, 7),
                    ][how as usize];
                    let sign = if mask { "==" } else { "!=" };
                    format!("{name} {sign} {address}/{}", 32 - (a % 33))
                }
                Type::V6 => {
                    let address = if mask { "2001:db8::1" } else { "::1" };
                    let sign = if how & 1 == 0 { "==" } else { "!=" };
                    format!("{name} {sign} {address}/{}", 128 - (a % 129))
                }
                Type::Mac => {
                    format!("{name} {} 02:00:00:00:00:0{}", if mask { "==" } else { "!=" }, how)
                }
                Type::Duration | Type::Text | Type::Bytes => "tcp".to_owned(),
            }
        },
    );
    test.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4)
                .prop_map(|all| format!("({})", all.join(" and "))),
            prop::collection::vec(inner.clone(), 2..4)
                .prop_map(|all| format!("({})", all.join(" or "))),
            inner.prop_map(|one| format!("not ({one})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    /// What a rule compiles to holds for a packet exactly when its expression does.
    #[test]
    fn compiled_rules_mean_what_their_expressions_mean(text in expression()) {
        let expr = Expr::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let rule = format!("[[rule]]\nid = 'a'\nmatch = '{text}'\naction = 'drop'\n");
        let set = set(&rule);
        if !matches!(set.compiled[0], Compiled::Exact(_)) {
            return Ok(());
        }
        let (manifest, tables) = (Manifest::default(), Tables::default());
        let world = World { manifest: &manifest, tables: &tables, start: None };
        for bytes in sample_packets() {
            for end in [bytes.len(), bytes.len().min(30)] {
                let bytes = &bytes[..end];
                let len = bytes.len() as u32;
                let headers = packet::decode(LinkType::ETHERNET, bytes, len);
                let event = event(bytes.len());
                let expected = expr.matches(&Subject::event(world, &event, Some(&headers), bytes));
                let mut got = false;
                set.table.matches(&Keys::of(&headers, len), &mut |_| {
                    got = true;
                    false
                });
                prop_assert_eq!(got, expected, "{} on {:02x?}", text, bytes);
            }
        }
    }

    /// A hostile file is an error or a rule set, never a panic, and points into itself.
    #[test]
    fn any_rule_file_parses_or_errs(text in "(\\[\\[rule\\]\\]\n)?([a-z-]{1,9} ?= ?(\"[^\"\n]{0,20}\"|[0-9]{1,25}|'.{0,9}'|\\{.{0,9}\\}|\\[.{0,9}\\])\n){0,6}.{0,20}") {
        if let Err(error) = parse(&text) {
            prop_assert!(error.line <= text.matches('\n').count() + 1);
            let _ = error.underlined();
        }
    }

    /// A good file with bytes changed, cut or doubled.
    #[test]
    fn a_damaged_rule_file_parses_or_errs(at in 0..4000_usize, len in 0..40_usize, put in ".{0,6}") {
        let good = include_str!("../../../../rules/starter.toml");
        let mut text = good.to_owned();
        let floor = |mut n: usize| { n = n.min(good.len()); while !good.is_char_boundary(n) { n -= 1; } n };
        text.replace_range(floor(at)..floor(at + len), &put);
        match parse(&text) {
            Ok(file) => { let _ = RuleSet::new(file); }
            Err(error) => { let _ = error.underlined(); }
        }
    }
}

#[test]
fn the_starter_rules_are_all_exact() {
    let set = set(include_str!("../../../../rules/starter.toml"));
    assert!(set.not_enforceable().is_empty(), "{:?}", set.compiled);
    for rule in &set.file.rules {
        assert!(
            !rule.references.is_empty() || !rule.note.is_empty() || rule.id == "ping",
            "{}",
            rule.id
        );
    }
}

/// Verdicts of a list of packets under rules; 'd' discarded, 'b' blocked, '.' passed.
fn verdicts(rules: &str, packets: &[(u64, Vec<u8>)], proven: &[[u8; 4]]) -> String {
    let mut evaluator = Evaluator::new(set(rules));
    for address in proven {
        let bytes = v4_packet(6, &tcp(1, 2, 0x10), 64, *address, 0);
        let headers = packet::decode(LinkType::ETHERNET, &bytes, bytes.len() as u32);
        evaluator.prove(&psc_formats::guard::Flow::of(&headers));
    }
    packets
        .iter()
        .map(|(at, bytes)| {
            let len = bytes.len() as u32;
            let headers = packet::decode(LinkType::ETHERNET, bytes, len);
            let keys = Keys::of(&headers, len);
            let flow = psc_formats::guard::Flow::of(&headers);
            let asked = Asked { at: *at, way: Way::Ingress, keys: &keys, flow: &flow, len };
            match evaluator.ask(&asked, None) {
                Told { discard: true, by: By::Block(_), .. } => 'b',
                Told { discard: true, .. } => 'd',
                _ => '.',
            }
        })
        .collect()
}

#[test]
fn the_first_rule_that_decides_wins_and_state_is_kept_per_key() {
    const MS: u64 = 1_000_000;
    let syn = |src: [u8; 4], port: u16| v4_packet(6, &tcp(40_000, port, 2), 64, src, 0);
    let a = [10, 0, 0, 1];
    let b = [10, 0, 0, 2];
    let rule = |id: &str, rest: &str| format!("[[rule]]\nid = '{id}'\n{rest}\n");
    let pass22 = rule("ssh", "match = 'tcp.dstport == 22'\naction = 'pass'");
    let drop = rule("drop", "match = 'tcp'\naction = 'drop'");
    let count = rule("count", "match = 'tcp'\naction = 'count'");
    let egress = rule("egress", "match = 'tcp'\naction = 'drop'\ndirection = 'egress'");
    let limit = rule("limit", "match = 'tcp'\naction = 'limit'\nrate = '10/s'\nburst = 2");
    let scan = rule(
        "scan",
        "match = 'tcp'\naction = 'drop'\ndistinct = { field = 'tcp.dstport', over = 2, within = '1s' }\nblock-for = '1s'",
    );
    let strangers = rule("strangers", "match = 'tcp'\naction = 'drop'\nunproven = true");
    let list = rule("list", "sources = 'bad.txt'\naction = 'drop'");
    let ports = |src: [u8; 4]| -> Vec<(u64, Vec<u8>)> {
        vec![
            (0, syn(src, 1)),
            (MS, syn(src, 2)),
            (2 * MS, syn(src, 3)),
            (3 * MS, syn(src, 1)),
            (1500 * MS, syn(src, 1)),
        ]
    };
    let twice = |port| vec![(0, syn(a, port)), (MS, syn(b, port))];
    let burst: Vec<(u64, Vec<u8>)> = vec![
        (0, syn(a, 1)),
        (0, syn(a, 1)),
        (0, syn(a, 1)),
        (0, syn(b, 1)),
        (100 * MS, syn(a, 1)),
        (101 * MS, syn(a, 1)),
    ];
    #[rustfmt::skip]
    let cases = [
        ("empty passes",                 String::new(),           twice(80),   &[][..], ".."),
        ("alone drops",                  drop.clone(),            twice(80),   &[],     "dd"),
        ("earlier pass shields",         pass22.clone() + &drop,  twice(22),   &[],     ".."),
        ("later pass is too late",       drop.clone() + &pass22,  twice(22),   &[],     "dd"),
        ("count goes on",                count + &drop,           twice(80),   &[],     "dd"),
        ("egress is another way",        egress,                  twice(80),   &[],     ".."),
        ("rate per source",              limit,                   burst,       &[],     "..d..d"),
        ("threshold, spoofable source",  scan.clone(),            ports(a),    &[],     "..dd."),
        ("threshold, proven source",     scan.clone(),            ports(a),    &[a],    "..db."),
        ("another one proven",           scan,                    ports(a),    &[b],    "..dd."),
        ("strangers only",               strangers,               twice(80),   &[a],    ".d"),
        ("a list of sources",            list,                    vec![(0, syn([192, 0, 2, 200], 1)), (1, syn(a, 1))], &[], "d."),
    ];
    for (name, rules, packets, proven, expected) in cases {
        assert_eq!(verdicts(&rules, &packets, proven), expected, "{name}");
    }
}

#[test]
fn only_the_third_step_of_a_handshake_proves_an_address() {
    let segment = |from: u8, to: u8, flags: u8, seq: u32, ack: u32| {
        let mut tcp =
            tcp(if from == 1 { 40_000 } else { 80 }, if from == 1 { 80 } else { 40_000 }, flags);
        tcp[4..8].copy_from_slice(&seq.to_be_bytes());
        tcp[8..12].copy_from_slice(&ack.to_be_bytes());
        let mut bytes = v4_packet(6, &tcp, 64, [10, 0, 0, from], 0);
        bytes[30..34].copy_from_slice(&[10, 0, 0, to]);
        packet::decode(LinkType::ETHERNET, &bytes, bytes.len() as u32)
    };
    let (syn, synack) = (segment(1, 2, 2, 7, 0), segment(2, 1, 0x12, 1000, 8));
    let good = segment(1, 2, 0x10, 8, 1001);
    let guessed = segment(1, 2, 0x10, 8, 999);
    let reset = segment(1, 2, 4, 8, 0);
    let cases = [
        ("a handshake", vec![&syn, &synack, &good], true),
        ("no answer was sent", vec![&syn, &good], false),
        ("a guess", vec![&syn, &synack, &guessed], false),
        ("an ACK out of nothing", vec![&good], false),
        ("reset in between", vec![&syn, &synack, &reset, &good], false),
    ];
    for (name, packets, expected) in cases {
        let mut handshakes = Handshakes::default();
        let proven: Vec<_> = packets.iter().filter_map(|h| handshakes.packet(h)).collect();
        assert_eq!(proven.len(), usize::from(expected), "{name}");
        assert!(proven.iter().all(|(address, _)| address.to_string() == "10.0.0.1"), "{name}");
    }
}

/// `UPDATE_GOLDEN=1 cargo test -p psc-replay reference` rewrites the page.
#[test]
fn the_reference_page_is_fresh() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../rules/FIELDS.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|v| v == "1") {
        std::fs::write(path, reference()).expect("written");
    }
    let page = std::fs::read_to_string(path).expect("rules/FIELDS.md");
    assert!(
        page == reference(),
        "rules/FIELDS.md is stale: UPDATE_GOLDEN=1 cargo test -p psc-replay reference"
    );
    for field in FIELDS {
        assert!(page.contains(&format!("| `{}` |", field.name)), "{}", field.name);
    }
}
