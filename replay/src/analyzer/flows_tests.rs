//! Connections from hand-made packets, against numbers counted by hand.

use psc_formats::Fact;
use psc_formats::event::SymbolId;

use psc_formats::Context;
use psc_formats::packet::{Headers, Network};

use super::super::lane::Lane;
use super::super::tcp::{FIN, RST};
use super::*;
use crate::engine::Outcome;
use crate::sample;

const C: &str = "10.0.0.1:40000";
const S: &str = "10.0.0.2:80";
const MS: u64 = 1_000_000;

fn capture(flows: &mut Flows, at: u64, headers: &Headers) {
    let event = sample::event(at, EventKind::Captured { direction: 0 }).into();
    flows.packet(&Told::of(&event, headers, None).expect("addresses"));
}

fn rows(flows: &Flows) -> Vec<FlowRow> {
    flows.rows(&Tables::default(), 1000).0
}

/// A fetch of 3,000 bytes in which one segment is sent twice.
fn fetch(flows: &mut Flows, start: u64) {
    let script = [
        (0, sample::tcp(C, S, SYN, 100, 0, 0)),
        (4, sample::tcp(S, C, SYN | ACK, 500, 101, 0)),
        (10, sample::tcp(C, S, ACK, 101, 501, 0)),
        (11, sample::tcp(C, S, ACK, 101, 501, 200)),
        (15, sample::tcp(S, C, ACK, 501, 301, 1000)),
        (16, sample::tcp(S, C, ACK, 1501, 301, 1000)),
        (17, sample::tcp(S, C, ACK, 2501, 301, 1000)),
        (240, sample::tcp(S, C, ACK, 1501, 301, 1000)),
        (250, sample::tcp(C, S, ACK | FIN, 301, 3501, 0)),
        (254, sample::tcp(S, C, ACK | FIN, 3501, 302, 0)),
        (260, sample::tcp(C, S, ACK, 302, 3502, 0)),
    ];
    for (ms, headers) in script {
        capture(flows, start + ms * MS, &headers);
    }
}

#[test]
fn a_connection_is_counted_by_hand() {
    let mut flows = Flows::default();
    fetch(&mut flows, 7 * MS);
    assert_eq!(flows.network_loss(), (1, 9), "SYN, SYN-ACK, 5 data and 2 FIN; one of them again");
    let rows = rows(&flows);
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!((row.originator.as_str(), row.responder.as_str()), (C, S));
    assert_eq!((row.protocol.as_str(), row.state.as_str()), ("tcp", "SF"));
    assert_eq!(row.packets, (5, 6));
    assert_eq!(row.bytes, (5 * 40 + 200, 6 * 40 + 4000));
    assert_eq!(row.retransmits, 1);
    assert_eq!(row.handshake_rtt_ns, Some(10 * MS));
    assert_eq!((row.first, row.duration_ns), (7 * MS, 260 * MS));
}

#[test]
fn the_syn_sender_is_the_originator_even_when_first_seen_later() {
    let mut flows = Flows::default();
    capture(&mut flows, 0, &sample::tcp(S, C, SYN | ACK, 500, 101, 0));
    capture(&mut flows, MS, &sample::tcp(C, S, ACK, 101, 501, 0));
    let rows = rows(&flows);
    assert_eq!(rows[0].originator, C);
    assert_eq!(rows[0].handshake_rtt_ns, None);
}

#[test]
fn ports_used_again_make_two_connections() {
    let mut flows = Flows::default();
    fetch(&mut flows, 0);
    capture(&mut flows, 900 * MS, &sample::tcp(C, S, SYN, 7777, 0, 0));
    capture(&mut flows, 901 * MS, &sample::tcp(S, C, RST | ACK, 0, 7778, 0));
    let rows = rows(&flows);
    assert_eq!(
        rows.iter().map(|r| (r.id, r.state.as_str())).collect::<Vec<_>>(),
        [(1, "SF"), (2, "REJ")]
    );
}

#[test]
fn the_kernel_is_believed_about_its_own_retransmissions() {
    let mut flows = Flows::default();
    fetch(&mut flows, 0);
    let tuple = sample::tcp(S, C, ACK, 0, 0, 0).tuple().expect("tuple");
    let again = EventKind::Retransmit { tuple, state: 1 };
    flows.socket_event(&sample::event(300 * MS, again).segments(3).into());
    assert_eq!(flows.network_loss().0, 3);
    assert_eq!(rows(&flows)[0].retransmits, 3);
}

#[test]
fn a_frame_seen_twice_counts_once() {
    let mut flows = Flows::default();
    let mut data = sample::tcp(C, S, ACK, 1, 1, 100);
    if let Network::V4(ip) = &mut data.network {
        ip.id = 77;
    }
    capture(&mut flows, 1000, &data);
    capture(&mut flows, 1400, &data);
    assert_eq!(flows.duplicates(), 1);
    let rows = rows(&flows);
    assert_eq!((rows[0].packets, rows[0].retransmits), ((1, 0), 0));
}

#[test]
fn later_fragments_belong_to_the_flow_of_the_first() {
    let mut flows = Flows::default();
    let fragment = |offset, more| {
        let mut headers = sample::udp("10.0.0.1:5000", "10.0.0.2:53", 1000);
        if let Network::V4(ip) = &mut headers.network {
            (ip.id, ip.fragment_offset, ip.more_fragments) = (9, offset, more);
        }
        if offset > 0 {
            headers.transport = psc_formats::packet::Transport::None;
        }
        headers
    };
    capture(&mut flows, 0, &fragment(0, true));
    capture(&mut flows, 1, &fragment(1008, false));
    let rows = rows(&flows);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].packets, (2, 0));
}

#[test]
fn drops_are_counted_and_a_packet_dropped_before_any_device_is_still_one() {
    let syn = sample::tcp(C, S, SYN, 1, 0, 0);
    let free = EventKind::Free { reason: 12, location: SymbolId(1) };
    let mut journey = sample::journey(1, vec![sample::event(5, free).len(40).into()]);
    journey.headers = vec![(0, syn)];
    journey.outcome = Outcome::Dropped { reason: 12, location: SymbolId(1) };
    let mut lane = Lane::Here(Box::default());
    lane.journey(&journey, true);
    let rows = rows(&lane.finish());
    assert_eq!((rows[0].packets, rows[0].drops, rows[0].state.as_str()), ((1, 0), 1, "S0"));
}

#[test]
fn both_owners_are_named_where_facts_know_them() {
    let mut flows = Flows::default();
    let mut syn = sample::event(0, EventKind::DeviceQueue {}).sock(4);
    syn.0.context = Context::Task(31);
    let syn = Told::of(&syn.into(), &sample::tcp(C, S, SYN, 1, 0, 0), None);
    flows.packet(&syn.expect("addresses"));
    let mut tables = Tables::default();
    tables.apply(&Fact::Task(TaskFact {
        tid: 31,
        pid: 30,
        comm: "curl".to_owned(),
        ..TaskFact::default()
    }));
    tables.apply(&Fact::Socket(SocketFact {
        protocol: 6,
        local: Some((sample::ip("10.0.0.2"), 80)),
        remote: Some((sample::ip("10.0.0.1"), 40000)),
        pid: 99,
        comm: "nginx".to_owned(),
        ..SocketFact::default()
    }));
    assert_eq!(flows.rows(&tables, 10).0[0].process, "curl[30] > nginx[99]");
}

#[test]
fn a_flood_of_connections_stays_bounded_and_says_so() {
    let mut flows = Flows::default();
    let total = (OPEN + 2 * CLOSED + 50_000) as u32;
    for n in 0..total {
        let src = format!("{}:1000", std::net::Ipv4Addr::from(0x0b00_0000 + n));
        capture(&mut flows, u64::from(n), &sample::tcp(&src, S, SYN, 1, 0, 0));
    }
    assert!(flows.open.len() <= OPEN && flows.closed.len() <= 2 * CLOSED);
    assert!(flows.evicted() > 0);
    let (rows, omitted) = flows.rows(&Tables::default(), 100);
    assert_eq!(rows.len() as u64 + omitted, u64::from(total));
}
