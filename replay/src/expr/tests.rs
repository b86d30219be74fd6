use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use proptest::prelude::*;
use psc_formats::event::{DeviceId, Gso, LinkType, PacketRef};
use psc_formats::packet::{self, Headers};
use psc_formats::{
    Context, Event, EventKind, Manifest, Ns, ProbeId, SkbAddr, SockId, Stack, Tables,
};

use super::ast::{Condition, Literal, Node, Range, Relation, Test};
use super::{Expr, FIELDS, Scope, Subject, Type};
use crate::engine::World;

/// Ethernet, IPv4, TCP SYN from 10.1.2.3:40000 to 192.0.2.1:80, TTL 64, four bytes `GET `.
fn syn() -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    bytes.extend([0x45, 0, 0, 44, 0x12, 0x34, 0x40, 0, 64, 6, 0, 0, 10, 1, 2, 3, 192, 0, 2, 1]);
    bytes.extend([0x9c, 0x40, 0, 80, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, 2, 0xfa, 0xf0, 0, 0, 0, 0]);
    bytes.extend(b"GET ");
    bytes
}

fn event(len: usize) -> Event {
    let packet =
        PacketRef { offset: 0, caplen: len as u32, len: len as u32, link: LinkType::ETHERNET };
    Event {
        at: Ns(1_500_000),
        cpu: 3,
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
        kind: EventKind::DeviceQueue {},
    }
}

fn holds(text: &str) -> bool {
    let expr = Expr::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let (manifest, tables) = (Manifest::default(), Tables::default());
    let world = World { manifest: &manifest, tables: &tables, start: Some(Ns(500_000)) };
    let bytes = syn();
    let headers: Headers = packet::decode(LinkType::ETHERNET, &bytes, bytes.len() as u32);
    let event = event(bytes.len());
    expr.matches(&Subject::event(world, &event, Some(&headers), &bytes))
}

#[test]
fn meaning_is_wiresharks() {
    #[rustfmt::skip]
    let cases = [
        ("ip", true), ("ipv6", false), ("tcp", true), ("udp", false), ("arp", false), ("eth", true),
        ("ip.src == 10.1.2.3", true), ("ip.src == 10.1.2.4", false),
        ("ip.src == 10.0.0.0/8", true), ("ip.src == 10.1.2.3/8", true), ("ip.dst == 10.0.0.0/8", false),
        ("ip.addr == 192.0.2.1", true), ("ip.addr == 10.1.2.3", true), ("ip.addr == 8.8.8.8", false),
        // Of several values, all must differ.
        ("ip.addr != 192.0.2.1", false), ("ip.addr != 8.8.8.8", true), ("tcp.port != 80", false),
        // What is not there compares false, whatever the operator.
        ("udp.port == 80", false), ("udp.port != 80", false), ("udp.port < 80", false),
        ("not udp.port == 80", true), ("ipv6.addr != ::1", false),
        ("tcp.port == 80", true), ("tcp.dstport == 0x50", true), ("tcp.srcport == 80", false),
        ("tcp.port in {22 80..90}", true), ("tcp.port in {22, 81..90}", false), ("tcp.port in {80}", true),
        ("ip.src in {10.1.2.0..10.1.2.255}", true), ("ip.src in {10.1.2.4..10.1.2.255 192.0.2.0/24}", false),
        ("tcp.flags.syn == 1", true), ("tcp.flags.syn == true and tcp.flags.ack == 0", true),
        ("tcp.flags & 0x12 == 2", true), ("tcp.flags & 0x10", false), ("tcp.flags & 2", true),
        ("tcp.flags.syn == 1 && !(tcp.flags.ack == 1)", true),
        ("ip.ttl < 64", false), ("ip.ttl <= 64", true), ("ip.ttl > 63", true), ("ip.ttl ge 64", true), ("ip.ttl lt 64", false),
        ("ip.flags.df == 1", true), ("ip.id == 0x1234", true), ("ip.len == 44", true), ("ip.proto == 6", true),
        ("tcp.seq == 7", true), ("tcp.ack == 0", false), ("tcp.len == 4", true), ("tcp.window_size_value == 64240", true),
        ("eth.src == 02:00:00:00:00:01", true), ("eth.addr == 2:0:0:0:0:2", true), ("eth.dst == 02:00:00:00:00:01", false),
        ("eth.type == 0x800", true), ("vlan.id == 5", false),
        ("tcp.payload contains \"GET\"", true), ("frame contains \"\\x47ET \"", true), ("frame contains \"POST\"", false),
        ("frame.len == 58", true), ("frame.time_relative == 1ms", true), ("frame.time_relative > 1.5ms", false),
        ("event.kind == DeviceQueue", true), ("event.kind contains \"Queue\"", true), ("event.kind in {Free Consume}", false),
        ("event.cpu == 3", true), ("event.context == \"softirq\"", true), ("device.name == eth0", false),
        ("drop.reason == NO_SOCKET", false), ("tcp or udp and arp", true), ("(tcp or udp) and arp", false),
        ("not not tcp", true), ("tcp and udp or ip and tcp", true),
    ];
    for (text, expected) in cases {
        assert_eq!(holds(text), expected, "{text}");
    }
}

#[test]
fn errors_point_at_the_place_and_say_what_is_right() {
    #[rustfmt::skip]
    let cases = [
        ("", 1, "an expression is expected, as tcp.port == 443"),
        ("tcp.prot == 80", 1, "there is no field tcp.prot; the nearest is tcp.port"),
        ("tcp and ip.sorce == 1.2.3.4", 9, "there is no field ip.sorce; the nearest is ip.src"),
        ("tcp.port == http", 13, "a number (443, 0x1bb) is expected, not http"),
        ("tcp.port == 65536", 13, "65536 is never reached: the greatest value is 65535"),
        ("tcp.port == \"80\"", 13, "tcp.port is a number: a number (443, 0x1bb) is expected, without quotes, not \"80\""),
        ("tcp.port = 80", 10, "equality is written =="),
        ("tcp.port ==", 12, "a number (443, 0x1bb) is expected here"),
        ("80 == tcp.port", 1, "the field comes first, as in tcp.port == 443"),
        ("ip.src == ::1", 11, "::1 is an IPv6 address; the ipv6. fields have those"),
        ("ipv6.src == 10.0.0.1", 13, "10.0.0.1 is an IPv4 address; the ip. fields have those"),
        ("ip.src == 10.0.0.0/33", 11, "an IPv4 address or prefix (10.0.0.1, 10.0.0.0/8) is expected, not 10.0.0.0/33"),
        ("ip.src < 10.0.0.1", 8, "ip.src is an IPv4 address, which is neither less nor more: use ==, != or in"),
        ("tcp == 1", 5, "tcp cannot be compared, it is a protocol"),
        ("tcp.flags.syn", 1, "say what tcp.flags.syn is to be: tcp.flags.syn == 1 or tcp.flags.syn == 0"),
        ("tcp.flags.syn & 1", 15, "`&` needs a number, tcp.flags.syn is a flag"),
        ("tcp.flags & 0", 13, "a mask of 0 never matches"),
        ("tcp.port in {}", 13, "an empty set never matches"),
        ("tcp.port in {90..80}", 14, "this range ends before it starts"),
        ("tcp.port in {80", 13, "this set has no closing `}`"),
        ("tcp.port in 80", 13, "`{` is expected to start a set, as in {80 443 8000..8999}"),
        ("ip.src in {10.0.0.0/8..11.0.0.0}", 12, "the ends of a range are single addresses"),
        ("event.kind in {a..b}", 16, "only numbers, durations and addresses have ranges"),
        ("(tcp", 5, "`)` is expected to close a bracket"),
        ("tcp)", 4, "this bracket closes nothing"),
        ("tcp udp", 5, "`and` or `or` is expected before this"),
        ("tcp and", 8, "a field is expected here, as tcp.port"),
        ("frame contains GET", 16, "a string in double quotes is expected after `contains`"),
        ("frame contains \"\"", 16, "everything contains the empty string"),
        ("frame contains \"a", 16, "this string has no closing quote"),
        ("frame contains \"a\\q\"", 18, r#"unknown escape; known are \" \\ \n \r \t and \xHH"#),
        ("frame contains \"\\xé\"", 17, r#"unknown escape; known are \" \\ \n \r \t and \xHH"#),
        ("event.kind == 'Free'", 15, r"\' has no meaning here; strings take double quotes"),
        ("event.kind matches \"x\"", 12, "there are no regular expressions; use contains or in"),
        ("journey.latency > 5", 19, "a duration with its unit (5ms, 1.5s) is expected, not 5"),
        ("ip.ttl == ü", 11, r"\u{fc} has no meaning here"),
        ("frame contains \"a\" and drop.reason == X", 1, "frame is not kept until drop.reason is known, so one expression cannot ask for both"),
    ];
    for (text, column, what) in cases {
        let error = Expr::parse(text).expect_err(text);
        assert_eq!(error.to_string(), format!("column {column}: {what}"), "{text}");
    }
    let error = Expr::parse("tcp.port == http").unwrap_err();
    assert_eq!(error.underlined(), "tcp.port == http\n            ^^^^");
}

#[test]
fn hostile_expressions_are_refused() {
    for text in ["(".repeat(9000), "not ".repeat(4000), "!".repeat(16 << 10), "(".repeat(1 << 20)] {
        Expr::parse(&text).expect_err("too deep");
    }
    let wide = format!("tcp{}", " or tcp".repeat(2000));
    assert!(Expr::parse(&wide).is_ok());
}

#[test]
fn scope_says_where_an_expression_can_be_decided() {
    let cases = [
        ("tcp.port == 80 and not arp", Scope::Headers),
        ("tcp.port == 80 and event.cpu == 1", Scope::Event),
        ("device.name == eth0 or drop.reason == NO_SOCKET", Scope::Journey),
    ];
    for (text, scope) in cases {
        assert_eq!(Expr::parse(text).unwrap().scope(), scope, "{text}");
    }
}

#[test]
fn the_table_is_sound() {
    for (i, field) in FIELDS.iter().enumerate() {
        assert!(FIELDS[..i].iter().all(|other| other.name != field.name), "{} twice", field.name);
        assert_eq!(
            field.max == 0,
            field.kind != Type::Number && field.kind != Type::Bool && field.kind != Type::Duration,
            "{}",
            field.name
        );
        assert!(!field.doc.is_empty());
    }
}

fn literal(kind: Type, max: u64) -> BoxedStrategy<Literal> {
    match kind {
        Type::Number | Type::Duration => (0..=max).prop_map(Literal::Number).boxed(),
        Type::Bool => (0..=1_u64).prop_map(Literal::Number).boxed(),
        Type::V4 => (any::<u32>(), 0..=32_u8)
            .prop_map(|(a, len)| Literal::V4(Ipv4Net::new(Ipv4Addr::from(a), len).unwrap().trunc()))
            .boxed(),
        Type::V6 => (any::<u128>(), 0..=128_u8)
            .prop_map(|(a, len)| Literal::V6(Ipv6Net::new(Ipv6Addr::from(a), len).unwrap().trunc()))
            .boxed(),
        Type::Mac => any::<[u8; 6]>().prop_map(Literal::Mac).boxed(),
        Type::Text | Type::Bytes | Type::Protocol => {
            any::<String>().prop_map(Literal::Text).boxed()
        }
    }
}

fn test() -> BoxedStrategy<Node> {
    let one = (0..FIELDS.len()).prop_flat_map(|index| {
        let field = &FIELDS[index];
        let relation = match field.kind {
            Type::Number | Type::Duration => prop::sample::select(
                &[
                    Relation::Eq,
                    Relation::Ne,
                    Relation::Lt,
                    Relation::Le,
                    Relation::Gt,
                    Relation::Ge,
                ][..],
            ),
            _ => prop::sample::select(&[Relation::Eq, Relation::Ne][..]),
        };
        let mask = match field.kind {
            Type::Number => proptest::option::of(1..=field.max).boxed(),
            _ => Just(None).boxed(),
        };
        let literal = literal(field.kind, field.max);
        let condition = match field.kind {
            Type::Protocol => Just(Condition::Present).boxed(),
            Type::Bytes => {
                prop::collection::vec(any::<u8>(), 1..9).prop_map(Condition::Contains).boxed()
            }
            Type::Bool => (relation, literal).prop_map(|(r, l)| Condition::Compare(r, l)).boxed(),
            kind => {
                let set =
                    prop::collection::vec((literal.clone(), literal.clone(), any::<bool>()), 1..4)
                        .prop_map(move |pairs| {
                            Condition::In(pairs.into_iter().map(|p| range(kind, p)).collect())
                        });
                prop_oneof![
                    Just(Condition::Present),
                    (relation, literal).prop_map(|(r, l)| Condition::Compare(r, l)),
                    set,
                ]
                .boxed()
            }
        };
        (mask, condition)
            .prop_map(move |(mask, condition)| Node::Test(Test { field, mask, condition }))
    });
    one.boxed()
}

fn range(kind: Type, (a, b, both): (Literal, Literal, bool)) -> Range {
    let to = match (&a, &b) {
        (Literal::Number(low), Literal::Number(high)) if both && low <= high => Some(b),
        (Literal::V4(_), Literal::V4(_)) | (Literal::V6(_), Literal::V6(_))
            if both && kind != Type::Mac =>
        {
            a.address().zip(b.address()).filter(|(a, b)| a <= b).map(|_| b)
        }
        _ => None,
    };
    Range { from: a, to }
}

fn node() -> impl Strategy<Value = Node> {
    test().prop_recursive(5, 40, 4, |inner| {
        let not_and = inner.clone().prop_filter("nested and", |n| !matches!(n, Node::And(_)));
        let not_or = inner.clone().prop_filter("nested or", |n| !matches!(n, Node::Or(_)));
        prop_oneof![
            prop::collection::vec(not_and, 2..5).prop_map(Node::And),
            prop::collection::vec(not_or, 2..5).prop_map(Node::Or),
            inner.prop_map(|n| Node::Not(Box::new(n))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn printed_expressions_parse_to_themselves(root in node()) {
        let expr = Expr { root };
        let text = expr.to_string();
        match Expr::parse(&text) {
            Ok(parsed) => prop_assert_eq!(parsed, expr),
            Err(error) => prop_assert!(
                error.to_string().contains("cannot ask for both"), "{}: {}", text, error
            ),
        }
    }

    #[test]
    fn any_text_parses_or_errs(text in "[a-z.=!&|(){} 0-9:/\"\\\\éx<>,]{0,60}") {
        if let Err(error) = Expr::parse(&text) {
            prop_assert!(error.column() <= text.chars().count() + 1);
        }
    }
}
