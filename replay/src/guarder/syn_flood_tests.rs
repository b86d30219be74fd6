//! Floods, and busy or broken servers that look like one at first sight.

use psc_formats::Fact;
use psc_formats::fact::CountersFact;

use super::*;
use crate::analyzer::tcp::{ACK, RST, SYN};
use crate::engine::Pass;
use crate::guarder::Detectors;
use crate::sample::{self, Feed};

const S: &str = "10.0.0.2:80";
const MS: u64 = 1_000_000;

fn client(n: u32) -> String {
    format!("{}:{}", std::net::Ipv4Addr::from(0x0b00_0000 + n % 1000), 1024 + n % 60_000)
}

/// What each client does `n` times, a millisecond apart.
fn run(
    feed: &mut Feed,
    n: u32,
    each: impl Fn(&mut Feed, &mut Detectors, u64, &str),
) -> Vec<Finding> {
    let mut detectors = Detectors::of(vec![Box::new(SynFlood::default())]);
    for index in 0..n {
        each(feed, &mut detectors, u64::from(index) * MS, &client(index));
    }
    let mut pass = Pass { tables: feed.tables.clone(), ..Pass::default() };
    pass.provenance.completeness.lost = Some(0);
    detectors.finish(&feed.manifest, &pass).findings
}

fn syn(feed: &mut Feed, detectors: &mut Detectors, at: u64, client: &str) {
    feed.frame(detectors, at, &sample::tcp(client, S, SYN, 100, 0, 0));
}

fn syn_ack(feed: &mut Feed, detectors: &mut Detectors, at: u64, client: &str) {
    feed.frame(detectors, at, &sample::tcp(S, client, SYN | ACK, 900, 101, 0));
}

fn ack(feed: &mut Feed, detectors: &mut Detectors, at: u64, client: &str) {
    feed.frame(detectors, at, &sample::tcp(client, S, ACK, 101, 901, 0));
}

#[test]
fn a_spoofed_flood_is_found_and_its_sources_are_called_unproven() {
    let mut feed = Feed::default();
    let found = run(&mut feed, 2000, |feed, detectors, at, client| {
        syn(feed, detectors, at, client);
        syn_ack(feed, detectors, at + 10, client);
    });
    assert_eq!(found.len(), 1);
    let finding = &found[0];
    assert_eq!((finding.id.as_str(), finding.severity.as_str()), ("syn-flood", "high"));
    assert_eq!((finding.packets, finding.confidence.as_str()), (2000, "high"));
    assert_eq!(finding.targets, [S]);
    assert_eq!((finding.first, finding.last), (0, 1999 * MS));
    assert!(finding.evidence.iter().any(|e| e.contains("from 1000 source addresses")));
    assert!(finding.evidence.iter().any(|e| e.contains("TTL 64")));
    assert_eq!(
        finding.actors,
        [
            "1000 addresses with few SYNs each (unproven: no handshake completed, so addresses may be \
          forged)"
        ]
    );
    assert!(finding.effect.starts_with("not observable"));
    assert_eq!(finding.journeys, [1, 3, 5, 7, 9]);
}

#[test]
fn its_effect_is_confirmed_by_the_counters_of_the_stack() {
    for (rise, expected) in [(40, "confirmed: 40 SYN cookies sent"), (0, "not confirmed")] {
        let mut feed = Feed::default();
        feed.manifest.origin = Origin::Kernel;
        for (at, value) in [(0, 2), (1, 2 + rise)] {
            feed.tables.apply(&Fact::Counters(CountersFact {
                at,
                netns: 10,
                values: [("TcpExtSyncookiesSent".to_owned(), value)].into(),
            }));
        }
        let found = run(&mut feed, 200, syn);
        assert!(found[0].effect.starts_with(expected), "{}", found[0].effect);
    }
}

#[test]
fn the_threshold_is_the_smallest_backlog() {
    for (syns, found) in [(127, 0), (128, 1)] {
        assert_eq!(run(&mut Feed::default(), syns, syn).len(), found, "{syns}");
    }
}

#[test]
fn spread_over_time_it_is_no_flood() {
    let mut feed = Feed::default();
    // Ten a second never reaches 128 in ten seconds.
    let found = run(&mut feed, 2000, |feed, detectors, at, client| {
        syn(feed, detectors, at * 100, client);
    });
    assert!(found.is_empty());
}

#[test]
fn a_busy_server_is_left_alone() {
    let found = run(&mut Feed::default(), 5000, |feed, detectors, at, client| {
        syn(feed, detectors, at, client);
        syn_ack(feed, detectors, at + 10, client);
        ack(feed, detectors, at + 20, client);
    });
    assert!(found.is_empty());
}

#[test]
fn a_busy_server_seen_one_way_is_left_alone() {
    let found = run(&mut Feed::default(), 5000, |feed, detectors, at, client| {
        syn(feed, detectors, at, client);
        ack(feed, detectors, at + 20, client);
    });
    assert!(found.is_empty());
}

#[test]
fn a_flood_is_found_beside_real_clients() {
    let found = run(&mut Feed::default(), 5000, |feed, detectors, at, client| {
        syn(feed, detectors, at, client);
        syn_ack(feed, detectors, at + 10, client);
        if at % (10 * MS) == 0 {
            ack(feed, detectors, at + 20, client);
        }
    });
    assert_eq!(found.len(), 1);
    assert!(found[0].title.contains("5000 SYNs") && found[0].title.contains("500 became"));
}

#[test]
fn a_server_that_is_down_is_left_alone() {
    let mut feed = Feed::default();
    let mut detectors = Detectors::of(vec![Box::new(SynFlood::default())]);
    for retry in [0, 1, 3, 7] {
        for n in 0..500 {
            syn(&mut feed, &mut detectors, (retry * 1000 + u64::from(n)) * MS, &client(n));
        }
    }
    assert!(detectors.finish(&feed.manifest, &Pass::default()).findings.is_empty());
}

#[test]
fn a_closed_port_is_left_alone() {
    let found = run(&mut Feed::default(), 500, |feed, detectors, at, client| {
        syn(feed, detectors, at, client);
        feed.frame(detectors, at + 10, &sample::tcp(S, client, RST | ACK, 0, 101, 0));
    });
    assert!(found.is_empty());
}

#[test]
fn a_single_sender_is_named_with_what_it_sent() {
    let found = run(&mut Feed::default(), 300, |feed, detectors, at, client| {
        let port = client.split(':').nth(1).expect("port");
        syn(feed, detectors, at, &format!("10.0.0.66:{port}"));
    });
    assert!(found[0].actors[0].starts_with("10.0.0.66 (at least 300 SYNs; unproven"));
}

#[test]
fn at_most_a_fifth_completes_in_a_flood() {
    // One in five completes: a flood. One in four: a busy server with lossy clients.
    for (every, found) in [(5, 1), (4, 0)] {
        let findings = run(&mut Feed::default(), 2000, |feed, detectors, at, client| {
            syn(feed, detectors, at, client);
            syn_ack(feed, detectors, at + 10, client);
            if (at / MS).is_multiple_of(every) {
                ack(feed, detectors, at + 20, client);
            }
        });
        assert_eq!(findings.len(), found, "one in {every}");
    }
}
