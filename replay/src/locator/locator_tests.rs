//! The locator over hand-made packets.

use psc_formats::Fact;
use psc_formats::fact::DeviceFact;
use psc_formats::packet::Quoted;

use super::*;
use crate::analyzer::tcp::{ACK, SYN};
use crate::sample::{self, Feed};
use crate::view::locate::PeerRow;

const MS: u64 = 1_000_000;

fn finish(locator: Locator, feed: &Feed) -> LocateView {
    let pass = Pass { tables: feed.tables.clone(), ..Pass::default() };
    locator.finish(&feed.manifest, &pass)
}

fn row<'a>(view: &'a LocateView, address: &str) -> &'a PeerRow {
    view.peers.iter().find(|peer| peer.address == address).expect(address)
}

#[test]
fn a_capture_without_addresses_has_both_ends_as_peers() {
    let (mut feed, mut locator) = (Feed::default(), Locator::default());
    let client = "10.0.0.1:40000";
    let server = "8.8.8.8:443";
    let ttl = sample::with_ttl;
    for (at, headers) in [
        (0, ttl(sample::tcp(client, server, SYN, 1, 0, 0), 64)),
        (20 * MS, ttl(sample::tcp(server, client, SYN | ACK, 9, 2, 0), 117)),
        (20 * MS + 5000, ttl(sample::tcp(client, server, ACK, 2, 10, 0), 64)),
        (41 * MS, ttl(sample::tcp(server, client, ACK, 10, 2, 60), 117)),
        (42 * MS, ttl(sample::tcp(server, client, ACK, 70, 2, 60), 116)),
    ] {
        feed.frame(&mut locator, at, &headers);
    }
    let view = finish(locator, &feed);
    assert_eq!(view.peers.len(), 2);
    let peer = row(&view, "8.8.8.8");
    assert_eq!((peer.scope.as_str(), peer.country.as_str()), ("global", "US"));
    assert_eq!(peer.country_name, "United States");
    assert_eq!(peer.packets, (3, 2));
    assert_eq!(peer.bytes, (40 + 100 + 100, 80));
    assert_eq!(peer.ttls, [(117, 2), (116, 1)]);
    assert_eq!(peer.hops_estimate, Some(11));
    assert_eq!(peer.rtt, Some((20 * MS, 20 * MS, 1)));
    assert_eq!(peer.distance_bound_km, Some(2000));
    let labels: Vec<_> = peer.labels.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(
        labels,
        [
            ("country", "registered"),
            ("hops", "estimated"),
            ("rtt", "measured from the capture point"),
            ("distance", "bounded")
        ]
    );
    let own = row(&view, "10.0.0.1");
    assert_eq!((own.scope.as_str(), own.country.as_str()), ("private", ""));
    assert_eq!(own.rtt, Some((5000, 5000, 1)), "the capture was made beside the client");
    assert_eq!(view.countries, [("US".to_owned(), "United States".to_owned(), 1, 320)]);
}

fn device(id: u16, netns: u32, address: &str) -> Fact {
    Fact::Device(DeviceFact {
        id,
        netns,
        addresses: vec![format!("{address}/24")],
        ..DeviceFact::default()
    })
}

#[test]
fn own_addresses_are_no_peers() {
    let (mut feed, mut locator) = (Feed::default(), Locator::default());
    feed.tables.apply(&device(1, 0, "10.0.0.1"));
    feed.frame(&mut locator, 0, &sample::udp("10.0.0.1:5000", "9.9.9.9:53", 10));
    feed.frame(&mut locator, 1, &sample::udp("9.9.9.9:53", "10.0.0.1:5000", 50));
    let view = finish(locator, &feed);
    assert_eq!(view.peers.len(), 1);
    assert_eq!(row(&view, "9.9.9.9").packets, (1, 1));
}

#[test]
fn across_a_veth_each_namespace_is_the_others_peer() {
    let (mut feed, mut locator) = (Feed::default(), Locator::default());
    feed.tables.apply(&device(1, 10, "10.0.0.1"));
    feed.tables.apply(&device(2, 20, "10.0.0.2"));
    feed.manifest.origin = Origin::Kernel;
    let headers = sample::udp("10.0.0.1:5000", "10.0.0.2:53", 10);
    let steps = [
        sample::event(0, EventKind::DeviceQueue {}).device(1).len(52),
        sample::event(1, EventKind::TransmitStart {}).device(1).len(52),
        sample::event(2, EventKind::BacklogQueue {}).device(2).len(38),
        sample::event(3, EventKind::Receive {}).device(2).len(38),
    ];
    let mut journey = sample::journey(1, steps.map(Into::into).to_vec());
    journey.headers = vec![(0, headers)];
    feed.close(&mut locator, &journey);
    let view = finish(locator, &feed);
    assert_eq!(row(&view, "10.0.0.2").packets, (0, 1));
    assert_eq!(row(&view, "10.0.0.1").packets, (1, 0));
    assert_eq!(row(&view, "10.0.0.1").bytes, (38, 0));
    assert_eq!(row(&view, "10.0.0.2").hops_estimate, None, "nothing was received from it");
}

#[test]
fn routers_are_those_that_quote_packets_on_their_way_elsewhere() {
    let (mut feed, mut locator) = (Feed::default(), Locator::default());
    let probe = sample::with_ttl(sample::udp("10.0.0.1:5000", "9.9.9.9:33434", 10), 3);
    feed.frame(&mut locator, 0, &probe);
    let error = |from: &str, icmp_type, code, tuple| {
        let quoted = Quoted { tuple, ip_id: 0, ttl: 1, tcp_seq: None, echo: None, udp: None };
        sample::icmp(
            from,
            "10.0.0.1",
            Icmp { icmp_type, code, checksum: 0, rest: 0, quoted: Some(quoted) },
        )
    };
    let sent = probe.tuple().expect("tuple");
    let never = sample::udp("10.0.0.1:1", "9.9.9.9:2", 1).tuple().expect("tuple");
    feed.frame(&mut locator, 1, &error("192.0.2.1", 11, 0, sent));
    feed.frame(&mut locator, 2, &error("192.0.2.1", 11, 0, sent));
    feed.frame(&mut locator, 3, &error("192.0.2.9", 3, 4, never));
    feed.frame(&mut locator, 4, &error("9.9.9.9", 3, 3, sent));
    let view = finish(locator, &feed);
    let routers: Vec<_> =
        view.routers.iter().map(|(a, w, n)| (a.as_str(), w.as_str(), *n)).collect();
    assert_eq!(
        routers,
        [
            ("192.0.2.1", "time exceeded", 2),
            (
                "192.0.2.9",
                "fragmentation needed, about a packet not seen in this recording (it may be forged)",
                1
            )
        ]
    );
}

#[test]
fn the_limit_is_said() {
    let (mut feed, mut locator) =
        (Feed::default(), Locator::new(Options { peers: 3, ..Options::default() }));
    for n in 1..=10 {
        feed.frame(&mut locator, n, &sample::udp(&format!("10.0.0.{n}:1"), "10.1.0.1:2", n as u32));
    }
    let view = finish(locator, &feed);
    assert_eq!((view.peers.len(), view.omitted), (3, 8));
    assert_eq!(view.peers[0].address, "10.1.0.1");
    assert_eq!(view.peers[1].address, "10.0.0.10");
}
