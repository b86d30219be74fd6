//! Routes out of made-up probe runs. A scenario is one line: what each TTL's probes met.

use psc_formats::Tables;
use psc_formats::packet::{Headers, Icmp, Network, Quoted, Transport};

use super::*;
use crate::engine::Pass;
use crate::locator::Locator;
use crate::sample::{self, Feed};
use crate::view::locate::LocateView;

const SOURCE: &str = "10.0.0.1";
const TARGET: &str = "10.9.9.9";
const MS: u64 = 1_000_000;

/// How a prober chooses ports.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    /// Another destination port with each probe.
    Classic,
    /// One flow key a round, told apart by identification.
    Paris,
}

fn with_id(mut headers: Headers, id: u16, ttl: u8) -> Headers {
    if let Network::V4(ip) = &mut headers.network {
        ip.id = id;
        ip.ttl = ttl;
    }
    headers
}

fn error(from: &str, icmp_type: u8, code: u8, about: &Headers, ttl_left: u8) -> Headers {
    let Network::V4(ip) = about.network else { panic!("IPv4") };
    let udp = match about.transport {
        Transport::Udp(udp) => Some((udp.len, udp.checksum)),
        _ => None,
    };
    let tuple = about.tuple().expect("tuple");
    let quoted = Quoted { tuple, ip_id: ip.id, ttl: 1, tcp_seq: None, echo: None, udp };
    let icmp = Icmp { icmp_type, code, checksum: 0, rest: 0, quoted: Some(quoted) };
    sample::with_ttl(sample::icmp(from, SOURCE, icmp), ttl_left)
}

/// Plays rounds. Each is a list of what its TTLs meet, from 1: a router `rN` (10.1.0.N), `*` for
/// nothing, `T` for the target, `!` for an administrative refusal by the target's last router.
fn play(style: Style, rounds: &[&str]) -> LocateView {
    let (mut feed, mut locator) = (Feed::default(), Locator::default());
    let (mut at, mut id, mut port) = (0, 100, 33_434);
    for (round, way) in rounds.iter().enumerate() {
        for (ttl, meets) in (1..).zip(way.split_whitespace()) {
            id += 1;
            port += 1;
            let dport = if style == Style::Classic { port } else { 40_000 + round as u16 };
            let probe = sample::udp(&format!("{SOURCE}:5000"), &format!("{TARGET}:{dport}"), 12);
            let probe = with_id(probe, id, ttl);
            feed.frame(&mut locator, at, &probe);
            let answer = match meets {
                "*" => None,
                "T" => Some(error(TARGET, 3, 3, &probe, 64 - ttl + 1)),
                "!" => Some(error("10.1.0.200", 3, 13, &probe, 64 - ttl + 1)),
                router => {
                    let from = format!("10.1.0.{}", &router[1..]);
                    Some(error(&from, 11, 0, &probe, 64 - ttl + 1))
                }
            };
            if let Some(answer) = answer {
                feed.frame(&mut locator, at + u64::from(ttl) * MS, &answer);
            }
            at += 50 * MS;
        }
    }
    let pass = Pass { tables: Tables::default(), ..Pass::default() };
    locator.finish(&feed.manifest, &pass)
}

fn only(view: &LocateView) -> &RouteRow {
    assert_eq!(view.routes.len(), 1, "{:?}", view.routes);
    &view.routes[0]
}

/// `1:r1 2:r2|r3 3:* ...` of the hops, with `T` for the target.
fn shape(route: &RouteRow) -> String {
    let short = |address: &str| {
        if address == TARGET { "T".to_owned() } else { address.replace("10.1.0.", "r") }
    };
    let hops: Vec<String> = route
        .hops
        .iter()
        .map(|hop| {
            let mut nodes: Vec<String> =
                hop.nodes.iter().map(|node| short(&node.address)).collect();
            nodes.sort();
            let nodes = if nodes.is_empty() { "*".to_owned() } else { nodes.join("|") };
            format!("{}:{nodes}", hop.ttl)
        })
        .collect();
    hops.join(" ")
}

/// `S-r1 r1-r2`, with the number of hidden hops after a `+`.
fn link_shape(route: &RouteRow) -> String {
    let short = |address: &str| match address {
        SOURCE => "S".to_owned(),
        TARGET => "T".to_owned(),
        other => other.replace("10.1.0.", "r"),
    };
    let links: Vec<String> = route
        .links
        .iter()
        .map(|link| {
            let hidden = if link.hidden > 0 { format!("+{}", link.hidden) } else { String::new() };
            format!("{}-{}{hidden}", short(&link.from), short(&link.to))
        })
        .collect();
    links.join(" ")
}

#[test]
fn runs_become_routes() {
    use Style::{Classic, Paris};
    #[rustfmt::skip]
    let cases: [(&str, Style, &[&str], &str, &str); 8] = [
        ("classic, three rounds", Classic, &["r1 r2 T", "r1 r2 T", "r1 r2 T"],
         "1:r1 2:r2 3:T", "S-r1 r1-r2 r2-T"),
        ("beyond the target nothing is shown", Classic, &["r1 T T T T"],
         "1:r1 2:T", "S-r1 r1-T"),
        ("a silent router is a hidden hop", Classic, &["r1 * r3 T"],
         "1:r1 2:* 3:r3 4:T", "S-r1 r1-r3+1 r3-T"),
        ("equal ways keep to their own links", Paris, &["r1 r2 r4 T", "r1 r3 r5 T", "r1 r2 r4 T"],
         "1:r1 2:r2|r3 3:r4|r5 4:T", "S-r1 r1-r2 r1-r3 r2-r4 r3-r5 r4-T r5-T"),
        ("equal ways seen by classic probes: links that no flow showed are not made up", Classic,
         &["r1 r2 r4 T", "r1 r3 r5 T"],
         "1:r1 2:r2|r3 3:r4|r5 4:T", "S-r1 r1-r2 r1-r3 r4-T r5-T"),
        ("not reached", Classic, &["r1 r2 * * * * * *"],
         "1:r1 2:r2 3:* 4:* 5:*", "S-r1 r1-r2"),
        ("refused", Paris, &["r1 !"], "1:r1 2:r200", "S-r1 r1-r200"),
        ("one silent way among two", Paris, &["r1 r2 r4 T", "r1 * r5 T"],
         "1:r1 2:r2 3:r4|r5 4:T", "S-r1 r1-r2 r2-r4 r4-T r5-T"),
    ];
    for (name, style, rounds, hops, links) in cases {
        let view = play(style, rounds);
        let route = only(&view);
        assert_eq!(shape(route), hops, "{name}");
        assert_eq!(link_shape(route), links, "{name}");
    }
}

#[test]
fn round_trips_loss_and_reach_are_counted() {
    let view = play(Style::Classic, &["r1 r2 T", "r1 * T", "r1 r2 T"]);
    let route = only(&view);
    assert_eq!((route.sent, route.answered, route.reached), (9, 8, Some(3)));
    assert_eq!((route.hops[1].sent, route.hops[1].answered), (3, 2));
    let rtt = route.hops[1].nodes[0].rtt.expect("measured");
    assert_eq!((rtt.min, rtt.max, rtt.samples, rtt.stddev), (2 * MS, 2 * MS, 2, Some(0)));
    assert_eq!(route.hops[2].nodes[0].answer, "port unreachable");
    assert_eq!(route.protocol, "udp");
    assert_eq!(route.notes.len(), 1, "{:?}", route.notes);
    assert!(route.notes[0].starts_with("hop 2 left 1 of 3 probes unanswered, later hops fewer"));
    let peer = view.peers.iter().find(|peer| peer.address == TARGET).expect("the target");
    assert_eq!(peer.rtt_probe.map(|rtt| rtt.min), Some(3 * MS));
}

#[test]
fn loops_and_blackholes_are_told() {
    type Case<'a> = (&'a str, &'a [&'a str], &'a [&'a str], Option<u8>, &'a str);
    #[rustfmt::skip]
    let cases: [Case<'_>; 5] = [
        ("loop", &["r1 r2 r3 r2 r3 r2 r3"], &["10.1.0.2", "10.1.0.3"], None, "loop"),
        ("one that answers on and on", &["r1 r2 r2 r2"], &["10.1.0.2"], None, "loop"),
        ("blackhole", &["r1 r2 * * * *"], &[], Some(2), "blackhole"),
        ("all well", &["r1 r2 T"], &[], None, ""),
        ("two in a row is no loop", &["r1 r2 r2 T"], &[], None, ""),
    ];
    for (name, rounds, looped, silent, risk) in cases {
        let view = play(Style::Classic, rounds);
        let route = only(&view);
        assert_eq!(route.looped, looped, "{name}");
        assert_eq!(route.silent_beyond, silent, "{name}");
        let parts: Vec<&str> = view.risks[0].parts.iter().map(|part| part.0.as_str()).collect();
        assert_eq!(parts.join(" "), risk, "{name}");
        let sum: u64 = view.risks[0].parts.iter().map(|part| part.1).sum();
        assert_eq!(view.risks[0].score, sum, "{name}: a score is the sum of its parts");
    }
}

#[test]
fn a_flow_that_meets_others_later_has_a_changed_route() {
    let mut rounds = vec!["r1 r2 T"];
    // The same key again: rounds of Paris runs have one each, so play one key twice.
    rounds.push("r1 r3 T");
    let view = play(Style::Paris, &rounds);
    assert!(only(&view).notes.is_empty(), "two keys are two ways: {:?}", only(&view).notes);

    let key = |round: u16| (5000, 40_000 + round);
    let mut run = Run::default();
    let address = |n: u8| IpAddr::from([10, 1, 0, n]);
    let ways = run.flows.entry(key(0)).or_default();
    ways.insert(1, (address(1), Answer::Expired, false));
    ways.insert(2, (address(2), Answer::Expired, true));
    let mut row = RouteRow::default();
    notes(&run, &mut row, 9);
    assert_eq!(row.notes.len(), 1);
    assert!(row.notes[0].contains("changed while it was probed"), "{:?}", row.notes);
}

/// Ordinary packets with a small TTL, answered or not, are no route.
#[test]
fn small_ttls_alone_are_no_route() {
    let (mut feed, mut locator) = (Feed::default(), Locator::default());
    for n in 0..20_u16 {
        let packet = sample::udp("10.0.0.1:5000", "10.0.0.2:6000", 10);
        feed.frame(&mut locator, u64::from(n), &with_id(packet, n, 5));
    }
    let view = locator.finish(&feed.manifest, &Pass::default());
    assert!(view.routes.is_empty());
}

#[test]
fn a_changed_route_is_told_against_a_baseline() {
    let before = play(Style::Classic, &["r1 r2 T", "r1 r2 T"]);
    let mut same = play(Style::Classic, &["r1 r2 T"]);
    crate::locator::compare(&mut same, &before, "before.psc");
    assert!(same.changes.is_empty(), "{:?}", same.changes);
    let mut other = play(Style::Classic, &["r1 r7 r8 T"]);
    crate::locator::compare(&mut other, &before, "before.psc");
    let told: Vec<(&str, &str)> =
        other.changes.iter().map(|change| (change.what.as_str(), change.text.as_str())).collect();
    assert_eq!(
        told,
        [
            ("reached", "reached at hop 3 before, reached at hop 4 now"),
            ("route", "hop 2: 10.1.0.2 before, 10.1.0.7 now"),
            ("route", "hop 3: 10.9.9.9 before, 10.1.0.8 now"),
            ("hops", "2 hops before, 3 now (estimated from TTLs)"),
        ]
    );
    assert_eq!(other.risks[0].parts[0].0, "changed");
    // Silence is no other router.
    let mut quiet = play(Style::Classic, &["r1 * T"]);
    crate::locator::compare(&mut quiet, &before, "before.psc");
    assert!(quiet.changes.is_empty(), "{:?}", quiet.changes);
}

#[test]
fn recordings_of_two_hosts_are_one_topology() {
    let (mut a, mut b) = (play(Style::Classic, &["r1 r2 T"]), play(Style::Classic, &["r5 r2 T"]));
    a.provenance.source = "a.psc".to_owned();
    b.provenance.source = "b.psc".to_owned();
    let merged = crate::locator::merge(vec![a, b], 100);
    assert_eq!(merged.routes.len(), 2);
    let hosts: Vec<&str> = merged.routes.iter().map(|route| route.host.as_str()).collect();
    assert_eq!(hosts, ["a.psc", "b.psc"]);
    assert_eq!(merged.provenance.source, "a.psc, b.psc");
    let target = merged.peers.iter().find(|peer| peer.address == TARGET).expect("the target");
    assert_eq!(target.packets, (2, 6));
}
