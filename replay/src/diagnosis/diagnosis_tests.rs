use psc_formats::event::{DeviceId, SymbolId};
use psc_formats::fact::{CountersFact, DeviceFact, SocketFact, SymbolFact};
use psc_formats::manifest::Origin;
use psc_formats::packet::Headers;
use psc_formats::{EventKind, Fact};

use super::*;
use crate::engine::Outcome;
use crate::sample::{self, Feed};

#[test]
fn every_rule_is_told_apart_and_says_everything() {
    let all = catalogue();
    assert!(all.len() >= 49, "{} rules", all.len());
    let mut ids: Vec<&str> = all.iter().map(|rule| rule.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all.len(), "an id is used twice");
    for rule in &all {
        let texts = [&rule.looks_at, &rule.cause, &rule.silent_on];
        assert!(texts.iter().all(|text| text.len() > 8), "{}: {texts:?}", rule.id);
        assert!(["high", "medium", "low"].contains(&rule.severity.as_str()), "{}", rule.id);
        assert!(!rule.references.is_empty(), "{} has no reference", rule.id);
    }
}

const SYN: u16 = 0x02;
const SYN_ACK: u16 = 0x12;
const ACK: u16 = 0x10;

/// One namespace with 10.0.0.2, whose counters rose by these.
fn feed(rises: &[(&str, u64)]) -> Feed {
    let mut feed = Feed::default();
    feed.manifest.origin = Origin::Kernel;
    feed.manifest.drop_reasons.insert(3, "NO_SOCKET".to_owned());
    feed.tables.apply(&Fact::Device(DeviceFact {
        id: 1,
        netns: 10,
        netns_name: "server".to_owned(),
        name: "eth0".to_owned(),
        addresses: vec!["10.0.0.2/24".to_owned()],
        ..DeviceFact::default()
    }));
    feed.tables.apply(&Fact::Symbol(SymbolFact {
        id: 7,
        name: "tcp_v4_rcv".to_owned(),
        ..SymbolFact::default()
    }));
    for (at, share) in [(0, 0), (u64::MAX, 1)] {
        feed.tables.apply(&Fact::Counters(CountersFact {
            at,
            netns: 10,
            values: rises
                .iter()
                .map(|(name, rise)| ((*name).to_owned(), 5 + rise * share))
                .collect(),
        }));
    }
    feed
}

fn listener(recv_queue: u32) -> Fact {
    Fact::Socket(SocketFact {
        netns: 10,
        protocol: 6,
        state: 10,
        local: Some((sample::ip("0.0.0.0"), 80)),
        recv_queue,
        send_queue: 2,
        pid: 77,
        comm: "slowd".to_owned(),
        ..SocketFact::default()
    })
}

fn conclude(diagnosis: &Diagnosis, feed: &Feed, last: u64) -> Vec<Finding> {
    let mut pass = Pass { tables: feed.tables.clone(), ..Pass::default() };
    pass.provenance.last = last;
    pass.provenance.completeness.lost = Some(0);
    diagnosis.findings(&feed.manifest, &pass)
}

fn ids(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.id.as_str()).collect()
}

/// A packet that arrives; dropped for NO_SOCKET when so.
fn arrives(feed: &mut Feed, diagnosis: &mut Diagnosis, at: u64, headers: &Headers, dropped: bool) {
    let event = sample::event(at, EventKind::Receive {}).device(1).len(60);
    let id = feed.step(diagnosis, event.clone(), headers, true);
    let location = SymbolId(7);
    let mut steps = vec![event.into()];
    if dropped {
        let free = EventKind::Free { reason: 3, location };
        steps.push(sample::event(at + 9, free).device(1).len(60).into());
    }
    let mut journey = sample::journey(id, steps);
    journey.headers.push((0, *headers));
    if dropped {
        journey.outcome = Outcome::Dropped { reason: 3, location };
    }
    feed.close(diagnosis, &journey);
    assert_eq!(journey.steps[0].device, DeviceId(1));
}

fn syn(port: u16, seq: u32) -> Headers {
    sample::tcp(&format!("10.0.0.1:{port}"), "10.0.0.2:80", SYN, seq, 0, 0)
}

#[test]
fn a_full_accept_queue_is_found_though_no_event_tells_it() {
    let rises = [("TcpExtListenOverflows", 4), ("TcpExtListenDrops", 4)];
    for (queue, confidence, target) in [
        (Some(3), "high", "0.0.0.0:80 of slowd[77]"),
        (None, "medium", "10.0.0.2:80 (likely: 2 SYNs sent to it again)"),
    ] {
        let (mut feed, mut diagnosis) = (feed(&rises), Diagnosis::new());
        for (at, port) in [(1, 1), (2, 2), (3, 1), (7, 2)] {
            arrives(&mut feed, &mut diagnosis, at, &syn(port, u32::from(port) * 10), false);
        }
        if let Some(queue) = queue {
            feed.tables.apply(&listener(queue));
        }
        let found = conclude(&diagnosis, &feed, 2_000_000_000);
        assert_eq!(ids(&found), ["listen-overflow"], "SYNs left unanswered have their cause");
        assert_eq!((found[0].packets, found[0].targets[0].as_str()), (4, target));
        assert!(found[0].confidence.starts_with(confidence), "{}", found[0].confidence);
    }
}

#[test]
fn silence_has_a_cause_or_is_told_as_silence() {
    let (mut feed, mut diagnosis) = (feed(&[("TcpExtListenOverflows", 0)]), Diagnosis::new());
    feed.tables.apply(&listener(2));
    for at in [1, 1_000_000_000] {
        arrives(&mut feed, &mut diagnosis, at, &syn(9, 10), false);
    }
    assert_eq!(ids(&conclude(&diagnosis, &feed, 1_000_000_000)), ["syn-unanswered"]);
    let answer = sample::tcp("10.0.0.2:80", "10.0.0.1:9", SYN_ACK, 50, 11, 0);
    arrives(&mut feed, &mut diagnosis, 1_100_000_000, &answer, false);
    assert!(conclude(&diagnosis, &feed, 2_000_000_000).is_empty(), "answered at the second try");
}

#[test]
fn nobody_listening_is_a_finding_but_scans_and_second_choices_are_none() {
    #[rustfmt::skip]
    let cases: [(&str, Vec<u16>, bool, &[&str]); 3] = [
        ("one port",        vec![81],              false, &["no-listener"]),
        ("a scan",          (100..120).collect(),  false, &[]),
        ("a second choice", vec![80],              true,  &[]),
    ];
    for (name, ports, elsewhere, expected) in cases {
        let (mut feed, mut diagnosis) = (feed(&[]), Diagnosis::new());
        for (n, port) in ports.into_iter().enumerate() {
            let to = format!("10.0.0.2:{port}");
            let syn = sample::tcp("10.0.0.1:4000", &to, SYN, 1, 0, 0);
            arrives(&mut feed, &mut diagnosis, 10 + n as u64, &syn, true);
        }
        if elsewhere {
            for (at, src, dst, flags) in [
                (60, "10.0.0.1:4001", "10.0.0.3:80", SYN),
                (61, "10.0.0.3:80", "10.0.0.1:4001", SYN_ACK),
                (62, "10.0.0.1:4001", "10.0.0.3:80", ACK),
            ] {
                let headers = sample::tcp(src, dst, flags, 5, 6, 0);
                arrives(&mut feed, &mut diagnosis, at, &headers, false);
            }
        }
        assert_eq!(ids(&conclude(&diagnosis, &feed, 100)), expected, "{name}");
    }
}

#[test]
fn a_sender_that_is_told_nothing_of_its_second_syn_ack_is_no_half_open_connection() {
    let (mut feed, mut diagnosis) = (feed(&[]), Diagnosis::new());
    let stray = sample::tcp("10.0.0.9:80", "10.0.0.2:4000", SYN_ACK, 1, 2, 0);
    arrives(&mut feed, &mut diagnosis, 5, &stray, true);
    assert!(conclude(&diagnosis, &feed, 100).is_empty(), "the answer to a SYN scan");
    let data = sample::tcp("10.0.0.9:81", "10.0.0.2:4001", ACK, 1, 2, 30);
    arrives(&mut feed, &mut diagnosis, 6, &data, true);
    assert_eq!(ids(&conclude(&diagnosis, &feed, 100)), ["half-open"]);
}

/// Causes that need the whole host, or a table of thousands, to be made live: a drop, and the counters
/// with it. Without the counter that tells them, or without the drop, they are something else.
#[test]
fn causes_of_the_whole_host_are_told_by_drop_and_counter() {
    /// Name, drop reason, function, rises, found.
    type Row = (
        &'static str,
        &'static str,
        &'static str,
        &'static [(&'static str, u64)],
        &'static [&'static str],
    );
    #[rustfmt::skip]
    let cases: &[Row] = &[
        ("conntrack full",    "NETFILTER_DROP",  "nf_hook_slow",      &[("conntrack.drop", 2)],            &["conntrack-full"]),
        ("a rule, no full table", "NETFILTER_DROP", "nf_hook_slow",   &[("conntrack.drop", 0)],            &["firewall-drop"]),
        ("a rule beside a full table", "NETFILTER_DROP", "nft_do_chain", &[("conntrack.drop", 2)],         &["firewall-drop"]),
        ("neighbour table",   "NEIGH_CREATEFAIL", "neigh_xmit",       &[],                                 &["neighbour-table-full"]),
        ("backlog",           "CPU_BACKLOG",     "enqueue_to_backlog", &[("softnet.0.dropped", 2)],        &["backlog-full"]),
        ("backlog unseen",    "",                "",                  &[("softnet.0.dropped", 2)],         &["backlog-full"]),
        ("memory",            "PROTO_MEM",       "__udp_enqueue_schedule_skb", &[("UdpMemErrors", 2)],     &["protocol-memory"]),
        ("orphans",           "",                "",                  &[("TcpExtTCPAbortOnMemory", 3)],    &["protocol-memory"]),
        ("squeezed",          "",                "",                  &[("softnet.0.time_squeeze", 50), ("softnet.0.processed", 4_000)], &["softirq-budget"]),
        ("squeezed at times", "",                "",                  &[("softnet.0.time_squeeze", 50), ("softnet.0.processed", 900_000)], &[]),
        ("PAWS",              "TCP_RFC7323_PAWS", "tcp_validate_incoming", &[("TcpExtPAWSEstab", 2)],      &["old-timestamp"]),
        ("an old ACK",        "TCP_RFC7323_PAWS_ACK", "tcp_validate_incoming", &[("TcpExtPAWSOldAck", 2)], &[]),
        ("nothing",           "",                "",                  &[("conntrack.drop", 0)],            &[]),
    ];
    for (name, reason, function, rises, expected) in cases {
        let (mut feed, mut diagnosis) = (feed(rises), Diagnosis::new());
        feed.manifest.drop_reasons.insert(9, (*reason).to_owned());
        feed.tables.apply(&Fact::Symbol(SymbolFact {
            id: 8,
            name: (*function).to_owned(),
            ..SymbolFact::default()
        }));
        if !reason.is_empty() {
            for at in 1..=3 {
                let headers = sample::tcp("10.0.0.1:9", "10.0.0.2:80", ACK, at as u32, 1, 4);
                let event = sample::event(at, EventKind::Receive {}).device(1).len(60);
                let id = feed.step(&mut diagnosis, event.clone(), &headers, true);
                let (reason, location) = (9, SymbolId(8));
                let free = sample::event(at + 9, EventKind::Free { reason, location });
                let steps = vec![event.into(), free.device(1).len(60).into()];
                let mut journey = sample::journey(id, steps);
                journey.headers.push((0, headers));
                journey.outcome = Outcome::Dropped { reason, location };
                feed.close(&mut diagnosis, &journey);
            }
        }
        let found = conclude(&diagnosis, &feed, 2_000_000_000);
        assert_eq!(ids(&found), *expected, "{name}");
    }
}
