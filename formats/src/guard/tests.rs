use proptest::prelude::*;

use super::*;
use crate::event::LinkType;
use crate::packet;

/// An Ethernet, IPv4, TCP SYN.
fn syn(src: [u8; 4], dport: u16) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    bytes.extend([0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0]);
    bytes.extend(src);
    bytes.extend([192, 0, 2, 1, 0x9c, 0x40]);
    bytes.extend(dport.to_be_bytes());
    bytes.extend([0, 0, 0, 7, 0, 0, 0, 0, 0x50, 2, 0xfa, 0xf0, 0, 0, 0, 0]);
    bytes
}

fn keys(bytes: &[u8]) -> Keys {
    let len = bytes.len() as u32;
    Keys::of(&packet::decode(LinkType::ETHERNET, bytes, len), len)
}

fn matching(table: &RuleTable, keys: &Keys) -> Vec<u32> {
    let mut rules = Vec::new();
    table.matches(keys, &mut |rule| {
        rules.push(rule);
        true
    });
    rules
}

fn value_set(max: u128) -> impl Strategy<Value = ValueSet> {
    let range = (0..=max, 0..=max).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let near = prop_oneof![range, (0..=max).prop_map(|a| (a, a)), Just((0, max)), Just((max, max))];
    (prop::collection::vec(near, 0..5), any::<bool>()).prop_map(move |(ranges, flip)| {
        let set = ValueSet::new(ranges);
        if flip { set.complement(max) } else { set }
    })
}

fn row() -> impl Strategy<Value = Vec<(Key, ValueSet)>> {
    let chosen = [
        Key::EthSrc,
        Key::IpSrc,
        Key::IpTtl,
        Key::V6Src,
        Key::TcpDstPort,
        Key::TcpFlags,
        Key::UdpDstPort,
        Key::Malformed,
    ];
    let test = prop::sample::select(chosen.to_vec())
        .prop_flat_map(|key| value_set(key.width().max()).prop_map(move |set| (key, set)));
    prop::collection::btree_map(0..8_u8, test, 0..4).prop_map(|tests| {
        let mut tests: Vec<(Key, ValueSet)> = tests.into_values().collect();
        tests.sort_by_key(|(key, _)| *key);
        tests.dedup_by_key(|(key, _)| *key);
        tests
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// The table says what asking each row would.
    #[test]
    fn a_table_matches_what_its_rows_match(
        rows in prop::collection::vec(row(), 0..200),
        packets in prop::collection::vec((any::<[u8; 4]>(), any::<u16>(), any::<bool>()), 1..20),
    ) {
        let rows: Vec<Row> =
            rows.into_iter().zip(0..).map(|(tests, rule)| Row { rule, tests }).collect();
        let table = RuleTable::new(&rows).expect("fits");
        for (src, port, cut) in packets {
            let bytes = syn(src, port);
            let keys = keys(if cut { &bytes[..30] } else { &bytes });
            let expected: Vec<u32> = rows
                .iter()
                .filter(|row| row.tests.iter().all(|(key, set)| set.contains(keys.get(*key))))
                .map(|row| row.rule)
                .collect();
            prop_assert_eq!(matching(&table, &keys), expected);
        }
    }

    #[test]
    fn sets_are_sets(a in value_set(1000), b in value_set(1000), value in proptest::option::of(0..=1000_u128)) {
        prop_assert_eq!(a.complement(1000).contains(value), !a.contains(value));
        prop_assert_eq!(a.and(&b).contains(value), a.contains(value) && b.contains(value));
        prop_assert_eq!(a.or(&b).contains(value), a.contains(value) || b.contains(value));
        prop_assert_eq!(a.complement(1000).complement(1000), a);
    }
}

/// More edges than are searched without looking at the upper half first, at both ends of the range.
#[test]
fn long_address_lists_are_found_to_the_address() {
    let mut ranges: Vec<(u128, u128)> = (0..5000).map(|n| (n * 800_003, n * 800_003)).collect();
    ranges.push((u32::MAX.into(), u32::MAX.into()));
    let listed = ValueSet::new(ranges);
    let table = RuleTable::new(&[Row { rule: 7, tests: vec![(Key::IpSrc, listed.clone())] }])
        .expect("fits");
    assert!(table.dims[0].starts.is_some());
    let mut hits = 0;
    for n in (0..5000_u64).flat_map(|n| [n * 800_003, n * 800_003 + 1, (n * 800_003).max(1) - 1]) {
        let address = (n as u32).to_be_bytes();
        let expected = listed.contains(Some(n.into()));
        hits += u32::from(expected);
        assert_eq!(!matching(&table, &keys(&syn(address, 80))).is_empty(), expected, "{address:?}");
    }
    assert_eq!(hits, 5001, "each address, and 0 twice");
    assert_eq!(matching(&table, &keys(&syn([255; 4], 80))), [7]);
    assert!(matching(&table, &keys(&syn([255, 255, 255, 254], 80))).is_empty());
}

#[test]
fn a_table_with_nothing_to_look_up_matches_everything() {
    let table = RuleTable::new(&[Row { rule: 3, tests: vec![] }]).expect("fits");
    assert_eq!(matching(&table, &keys(&syn([10, 0, 0, 1], 80))), [3]);
    let none = RuleTable::new(&[]).expect("fits");
    assert!(matching(&none, &keys(&syn([10, 0, 0, 1], 80))).is_empty());
}

#[test]
fn a_rate_lets_the_burst_and_then_the_rate_through() {
    let rate = Rate { unit: Unit::Packets, amount: 10, every: 1_000_000_000, burst: 5 };
    let mut full_at = 0;
    let start = 1_000_000_000;
    let passed = (0..20).filter(|_| !rate.is_over(&mut full_at, start, 60)).count();
    assert_eq!(passed, 5, "the burst");
    // Two seconds later the bucket has filled to its burst, no further.
    let passed = (0..20).filter(|_| !rate.is_over(&mut full_at, start + 2_000_000_000, 60)).count();
    assert_eq!(passed, 5);
    // From then on one packet each 100 ms.
    let passed = (1..=1000)
        .filter(|n| !rate.is_over(&mut full_at, start + 2_000_000_000 + n * 1_000_000, 60))
        .count();
    assert_eq!(passed, 10);
    let bytes = Rate { unit: Unit::Bytes, amount: 1000, every: 1_000_000_000, burst: 1500 };
    let mut full_at = 0;
    let verdicts: Vec<bool> =
        [1000, 500, 1].into_iter().map(|len| bytes.is_over(&mut full_at, start, len)).collect();
    assert_eq!(verdicts, [false, false, true]);
}

#[test]
fn distinct_values_are_never_counted_twice_and_a_window_ends() {
    let distinct = Distinct { key: Key::TcpDstPort, over: 10, within: 1_000_000_000 };
    let mut cells = Cells::new(0);
    for _ in 0..100 {
        for port in 0..10 {
            assert!(!cells.is_over(&distinct, 5, port), "ten ports are not over ten");
        }
    }
    assert!((10..40).any(|port| cells.is_over(&distinct, 6, port)));
    assert!(!cells.is_over(&distinct, 1_000_000_000, 99), "a new window");
}
