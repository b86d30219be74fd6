//! The analyzer as a whole, over hand-made journeys.

use psc_formats::event::SymbolId;
use psc_formats::manifest::Probe;
use psc_formats::packet::Headers;

use super::*;
use crate::engine::Outcome;
use crate::sample::{self, Feed, Made};

/// Probes of a kernel recording, in id order, one to a layer.
fn manifest() -> Manifest {
    let mut manifest = Manifest { origin: Origin::Kernel, ..Manifest::default() };
    manifest.drop_reasons.insert(3, "NO_SOCKET".to_owned());
    for (name, layer) in [
        ("net:net_dev_queue", Layer::Link),
        ("net:net_dev_start_xmit", Layer::Driver),
        ("net:netif_receive_skb", Layer::Link),
        ("skb:kfree_skb", Layer::Transport),
    ] {
        manifest.probes.push(Probe { name: name.to_owned(), layer, ..Probe::default() });
    }
    manifest
}

/// A datagram across a veth that finds no socket.
fn datagram(feed: &mut Feed, analyzer: &mut Analyzer, at: u64, headers: &Headers) {
    let location = SymbolId(1);
    let made = [
        sample::event(at, EventKind::DeviceQueue {}).device(1).probe(0).len(60),
        sample::event(at + 10, EventKind::TransmitStart {}).device(1).probe(1).len(60),
        sample::event(at + 20, EventKind::Receive {}).device(2).probe(2).len(46),
        sample::event(at + 30, EventKind::Free { reason: 3, location }).probe(3).len(26),
    ];
    let mut id = 0;
    for (index, step) in made.iter().enumerate() {
        id = feed.step(analyzer, step.clone(), headers, index == 0);
    }
    let mut journey = sample::journey(id, made.map(|Made(event)| event).to_vec());
    journey.headers = vec![(0, *headers)];
    journey.flow = headers.tuple();
    journey.outcome = Outcome::Dropped { reason: 3, location };
    feed.close(analyzer, &journey);
}

#[test]
fn every_part_counts_the_same_packets_once() {
    let mut feed = Feed { manifest: manifest(), ..Feed::default() };
    feed.tables = sample::devices(&[(1, "a", 10), (2, "b", 20)]);
    let mut analyzer = Analyzer::default();
    let headers = sample::udp("10.0.0.1:5000", "10.0.0.2:53", 18);
    for n in 0..50 {
        datagram(&mut feed, &mut analyzer, n * 1000, &headers);
    }
    let mut pass = Pass { tables: feed.tables.clone(), ..Pass::default() };
    pass.provenance.duration_ns = 500_000_000;
    pass.provenance.completeness.lost = Some(0);
    let view = analyzer.finish(&feed.manifest, &pass);

    assert_eq!(view.flows.len(), 1);
    assert_eq!((view.flows[0].packets, view.flows[0].bytes), ((50, 0), (50 * 46, 0)));
    assert_eq!((view.flows[0].drops, view.drops[0].packets), (50, 50));
    assert_eq!(view.drops[0].netns, "20");
    assert_eq!((view.loss.kernel_dropped, view.loss.kernel_journeys), (50, 50));
    assert_eq!((view.loss.network_retransmitted, view.loss.network_sent), (0, 0));
    for row in &view.volume {
        assert_eq!(row.skbs, 50, "{} {} {}", row.layer, row.direction, row.device);
    }
    assert_eq!(view.series.drops.iter().sum::<u64>(), 50);
    assert_eq!(view.series.ingress.iter().sum::<u64>(), 50);
    assert_eq!(view.series.egress.iter().sum::<u64>(), 50);
    let steps: Vec<_> = view
        .interactions
        .iter()
        .map(|i| (i.from.as_str(), i.to.as_str(), i.count, i.per_second))
        .collect();
    assert_eq!(
        steps,
        [
            ("driver", "link", 50, 100.0),
            ("link", "driver", 50, 100.0),
            ("link", "transport", 50, 100.0)
        ]
    );
}

#[test]
fn what_a_capture_cannot_know_is_not_zero() {
    let mut feed = Feed::default();
    let mut analyzer = Analyzer::default();
    for n in 0..10 {
        feed.frame(&mut analyzer, n, &sample::udp("10.0.0.1:5000", "10.0.0.2:53", 18));
    }
    let view = analyzer.finish(&feed.manifest, &Pass::default());
    assert_eq!(view.loss.recorder_lost, None);
    assert!(view.latency.iter().all(|row| row.latency.count == 0));
    assert!(view.latency.iter().all(|row| row.note.starts_with("a capture")));
    assert!(view.counters.is_empty());
    assert_eq!(view.volume.iter().map(|row| row.direction.as_str()).next(), Some("unknown"));
}

#[test]
fn a_raw_socket_clone_is_no_packet_and_no_drop() {
    let mut feed = Feed { manifest: manifest(), ..Feed::default() };
    feed.tables = sample::devices(&[(1, "a", 10)]);
    let mut analyzer = Analyzer::default();
    let headers = sample::udp("10.0.0.1:1", "10.0.0.2:2", 8);
    let free = EventKind::Free { reason: 3, location: SymbolId(1) };
    // The engine never opens a packet at a clone.
    feed.step(&mut analyzer, sample::event(5, free).device(1), &headers, false);
    let mut clone = sample::journey(9, vec![sample::event(5, free).device(1).into()]);
    clone.headers = vec![(0, headers)];
    clone.clone = true;
    feed.close(&mut analyzer, &clone);
    let view = analyzer.finish(&feed.manifest, &Pass::default());
    assert!(view.flows.is_empty() && view.drops.is_empty() && view.volume.is_empty());
    assert_eq!(view.loss.kernel_journeys, 0);
}
