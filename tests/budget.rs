//! `psc record --budget`: under a budget that cannot be kept, whole flows are left out, by weights that make
//! totals whole again, and nothing is lost.
#![cfg(all(target_os = "linux", feature = "live"))]
#![allow(clippy::disallowed_methods, reason = "recording happens in real time")]

mod netns;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netns::recording::Recording;
use netns::{Pair, live};
use psc_formats::fact::SamplingFact;
use psc_formats::{Batch, EventKind, Ns, Progress, Tables, packet};

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const FLOWS: u16 = 256;
const FIRST_PORT: u16 = 20_000;
const ECHO: u16 = 4300;
const ROUND: Duration = Duration::from_millis(100);

/// Each flow sends the number of each round and gets it back, for `time`; how many rounds that was.
fn rounds(pair: &Pair, time: Duration) -> u32 {
    let server = pair.server.run(|| UdpSocket::bind((SERVER, ECHO)).expect("bind"));
    server.set_read_timeout(Some(Duration::from_millis(100))).expect("timeout");
    let clients: Vec<UdpSocket> = pair.client.run(|| {
        let bind = |n| UdpSocket::bind((CLIENT, FIRST_PORT + n)).expect("bind");
        (0..FLOWS).map(bind).collect()
    });
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut bytes = [0; 16];
            while !over.load(Ordering::Relaxed) {
                if let Ok((len, from)) = server.recv_from(&mut bytes) {
                    server.send_to(&bytes[..len], from).expect("echo");
                }
            }
        });
        let began = Instant::now();
        let mut round = 0_u32;
        while began.elapsed() < time {
            for client in &clients {
                client.send_to(&round.to_be_bytes(), (SERVER, ECHO)).expect("send");
            }
            round += 1;
            std::thread::sleep(ROUND);
        }
        over.store(true, Ordering::Relaxed);
        round
    })
}

/// A datagram on its way to a device: when, the flow by the client's port, towards the server?, the round.
struct Seen {
    at: Ns,
    port: u16,
    asks: bool,
    round: u32,
}

#[test]
fn whole_flows_go_and_their_weights_stay() {
    if !live("whole_flows_go_and_their_weights_stay") {
        return;
    }
    let pair = Pair::new();
    pair.client.sh(&["ping", "-q", "-c", "1", "10.77.0.2"]);
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("budget.psc");
    let namespaces = ["--netns", &pair.client.name, "--netns", &pair.server.name];
    // Nobody can record for that little: every second the weight grows.
    let mut args = vec!["--budget", "0.0001%", "--stacks", "off"];
    args.extend(namespaces);
    let recording = Recording::start(&path, &args);
    let sent = rounds(&pair, Duration::from_millis(5500));
    let (ok, said) = recording.stop();
    assert!(ok, "{said}");
    assert!(said.contains("left out to keep within the budget"), "{said}");

    let mut source = psc_formats::open(&path).expect("opens");
    let (mut batch, mut tables, mut seen) = (Batch::default(), Tables::default(), Vec::new());
    loop {
        batch.clear();
        let progress = source.fill(&mut batch).expect("reads");
        batch.facts.iter().for_each(|fact| tables.apply(fact));
        for event in &batch.events {
            let (EventKind::DeviceQueue {}, Some(at)) = (&event.kind, event.packet) else {
                continue;
            };
            let bytes = batch.packet(at);
            let Some(flow) = packet::decode(at.link, bytes, at.len).tuple() else { continue };
            let port = flow.sport.min(flow.dport);
            if port != ECHO {
                continue;
            }
            let number = bytes.last_chunk::<4>().expect("the payload");
            seen.push(Seen {
                at: event.at,
                port: flow.sport.max(flow.dport),
                asks: flow.dport == ECHO,
                round: u32::from_be_bytes(*number),
            });
        }
        if progress == Progress::End {
            break;
        }
    }
    let loss = tables.loss.as_ref().expect("counted");
    assert_eq!(loss.ring_full.iter().sum::<u64>(), 0, "left out is not lost");
    assert!(loss.shed > 0);
    let weights: Vec<&SamplingFact> = tables.sampling.iter().collect();
    println!("weights: {:?}", weights.iter().map(|fact| fact.weight).collect::<Vec<_>>());
    assert!(weights.len() >= 2, "a second each: {weights:?}");
    assert!(weights.windows(2).all(|pair| pair[0].weight < pair[1].weight));
    assert!(weights.iter().all(|fact| fact.load_ppm > 1));

    // Between two changes, each flow is there whole, both ways, or not at all; and the higher weight keeps
    // some of those that the lower one kept.
    let mut bounds: Vec<u64> = weights.iter().map(|fact| fact.at).collect();
    bounds.insert(0, 0);
    bounds.push(u64::MAX);
    let margin = 3 * ROUND.as_nanos() as u64;
    let mut kept_before: Option<BTreeSet<u16>> = None;
    let mut estimated = 0;
    for (index, bound) in bounds.windows(2).enumerate() {
        let weight = index.checked_sub(1).map_or(1, |at| weights[at].weight);
        let inside = |s: &&Seen| {
            s.at.0 >= bound[0].saturating_add(margin) && s.at.0 < bound[1].saturating_sub(margin)
        };
        let mut flows: BTreeMap<(u16, bool), BTreeSet<u32>> = BTreeMap::new();
        for s in seen.iter().filter(inside) {
            flows.entry((s.port, s.asks)).or_default().insert(s.round);
        }
        let kept: BTreeSet<u16> = flows.keys().map(|(port, _)| *port).collect();
        for port in &kept {
            let ways = [true, false].map(|asks| flows.get(&(*port, asks)).map_or(0, BTreeSet::len));
            assert!(ways[0].abs_diff(ways[1]) <= 2, "port {port} at weight {weight}: {ways:?}");
            let rounds = &flows[&(*port, true)];
            let (first, last) = (rounds.first().expect("one"), rounds.last().expect("one"));
            assert_eq!(rounds.len() as u32, last - first + 1, "port {port} at weight {weight}");
        }
        println!("weight {weight}: {} of {FLOWS} flows", kept.len());
        if let Some(before) = &kept_before {
            assert!(kept.is_subset(before), "weight {weight} keeps what a lower one left out");
        }
        // With few flows chance decides; the hash is fixed, so it decides alike each time.
        if weight <= 8 && !kept.is_empty() {
            let all = kept.len() as u32 * weight;
            assert!(all.abs_diff(u32::from(FLOWS)) < u32::from(FLOWS) / 3, "{all} at {weight}");
            kept_before = Some(kept);
        }
    }
    for s in seen.iter().filter(|s| s.asks && tables.weight_at(s.at) <= 8) {
        estimated += u64::from(tables.weight_at(s.at));
    }
    println!("{sent} rounds sent, {estimated} datagrams estimated while the weight was 8 or less");
    let by_then = seen.iter().filter(|s| tables.weight_at(s.at) <= 8).map(|s| s.round).max();
    let truth = u64::from(by_then.expect("some") + 1) * u64::from(FLOWS);
    assert!(estimated.abs_diff(truth) < truth / 4, "estimated {estimated}, sent {truth}");
}
