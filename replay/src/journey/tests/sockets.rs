//! Datagrams in a socket's queue.

use psc_formats::fact::SocketFact;

use super::*;

const SOCKET: u32 = 3;
/// Bytes of payload in [`DATAGRAM`].
const PAYLOAD: i32 = 8;

fn stretch(protocol: u8, port: u16) -> Stretch {
    let mut stretch = Stretch::new();
    let local = Some(([10, 0, 0, 1].into(), port));
    let fact = SocketFact { id: SOCKET, protocol, local, ..SocketFact::default() };
    stretch.tables.apply(&Fact::Socket(fact));
    stretch
}

fn arrives(stretch: &mut Stretch, skb: u32) {
    arrives_on(stretch, 0, skb);
}

fn arrives_on(stretch: &mut Stretch, cpu: u16, skb: u32) {
    let datagram = Seen { cpu, skb, packet: Some(DATAGRAM), iif: 1, ..SEEN };
    stretch.see(datagram, EventKind::BacklogQueue {});
    stretch.see(Seen { packet: None, ..datagram }, EventKind::Receive {});
}

fn socket(stretch: &mut Stretch, kind: EventKind) -> Option<JourneyId> {
    socket_on(stretch, 0, kind)
}

fn socket_on(stretch: &mut Stretch, cpu: u16, kind: EventKind) -> Option<JourneyId> {
    stretch.see(Seen { cpu, skb: 0, device: 0, sock: SOCKET, ..SEEN }, kind).0
}

#[test]
fn what_was_queued_first_is_read_first() {
    let mut stretch = stretch(17, 256);
    arrives(&mut stretch, 1);
    let first = socket(&mut stretch, EventKind::DataReady {});
    arrives(&mut stretch, 2);
    let second = socket(&mut stretch, EventKind::DataReady {});
    assert!(first.is_some() && second.is_some() && first != second);
    assert_eq!(socket(&mut stretch, EventKind::SockReceive { rc: PAYLOAD }), first);
    assert_eq!(socket(&mut stretch, EventKind::SockReceive { rc: -11 }), None, "nothing was taken");
    assert_eq!(socket(&mut stretch, EventKind::SockReceive { rc: PAYLOAD }), second);
    assert_eq!(socket(&mut stretch, EventKind::SockReceive { rc: PAYLOAD }), None);
    for journey in stretch.end() {
        assert_eq!(journey.outcome, Outcome::Delivered);
        assert_eq!(kinds(&journey), ["BacklogQueue", "Receive", "DataReady", "SockReceive"]);
    }
}

#[test]
fn what_was_read_takes_no_longer_until_it_is_freed() {
    let mut stretch = stretch(17, 256);
    arrives(&mut stretch, 1);
    socket(&mut stretch, EventKind::DataReady {});
    socket(&mut stretch, EventKind::SockReceive { rc: PAYLOAD });
    stretch.at += 5_000_000;
    stretch.see(Seen { skb: 1, iif: 1, ..SEEN }, consume(0));
    let journeys = stretch.end();
    assert_eq!((journeys[0].duration(), journeys[0].steps.len()), (30, 5));
}

#[test]
fn what_was_discarded_in_the_queue_is_not_read() {
    let mut stretch = stretch(17, 256);
    arrives(&mut stretch, 1);
    socket(&mut stretch, EventKind::DataReady {});
    arrives(&mut stretch, 2);
    let second = socket(&mut stretch, EventKind::DataReady {});
    stretch.see(Seen { skb: 1, iif: 1, ..SEEN }, free(NETFILTER_DROP, NF_HOOK_SLOW));
    assert_eq!(socket(&mut stretch, EventKind::SockReceive { rc: PAYLOAD }), second);
}

#[test]
fn nothing_is_read_that_cannot_be_known() {
    // Another port, another protocol, a read of more than the datagram has, lost events.
    let mut other = stretch(17, 255);
    arrives(&mut other, 1);
    assert_eq!(socket(&mut other, EventKind::DataReady {}), None);
    let mut stream = stretch(6, 256);
    arrives(&mut stream, 1);
    assert_eq!(socket(&mut stream, EventKind::DataReady {}), None);
    let mut more = stretch(17, 256);
    arrives(&mut more, 1);
    assert!(socket(&mut more, EventKind::DataReady {}).is_some());
    assert_eq!(socket(&mut more, EventKind::SockReceive { rc: PAYLOAD + 1 }), None);
    let mut lossy = stretch(17, 256);
    arrives(&mut lossy, 1);
    assert!(socket(&mut lossy, EventKind::DataReady {}).is_some());
    let read = Seen { skb: 0, device: 0, sock: SOCKET, gap: true, ..SEEN };
    assert_eq!(lossy.see(read, EventKind::SockReceive { rc: PAYLOAD }).0, None);
}

#[test]
fn which_was_read_is_not_told_where_two_cpus_queue_at_once() {
    const READ: EventKind = EventKind::SockReceive { rc: PAYLOAD };
    // Both received before either was told of; the second read is of whichever is left.
    let mut both = stretch(17, 256);
    arrives_on(&mut both, 0, 1);
    arrives_on(&mut both, 1, 2);
    assert!(socket_on(&mut both, 1, EventKind::DataReady {}).is_some());
    assert_eq!(socket_on(&mut both, 1, READ), None, "the other may have been first");
    assert!(socket_on(&mut both, 0, EventKind::DataReady {}).is_some());
    assert_eq!(socket_on(&mut both, 1, READ), None, "or was read just now");
    // Read before it is told of.
    let mut early = stretch(17, 256);
    arrives_on(&mut early, 0, 1);
    assert_eq!(socket_on(&mut early, 1, READ), None);
    assert!(socket_on(&mut early, 0, EventKind::DataReady {}).is_some());
    arrives_on(&mut early, 0, 2);
    let next = socket_on(&mut early, 0, EventKind::DataReady {});
    assert_eq!(socket_on(&mut early, 1, READ), next, "the next read is of the next");
    assert!(early.end().iter().all(|journey| journey.outcome == Outcome::Delivered));
    // Told of before the first is read.
    let mut late = stretch(17, 256);
    arrives_on(&mut late, 0, 1);
    arrives_on(&mut late, 1, 2);
    socket_on(&mut late, 1, EventKind::DataReady {});
    socket_on(&mut late, 0, EventKind::DataReady {});
    assert_eq!([socket(&mut late, READ), socket(&mut late, READ)], [None, None]);
    // One CPU queues for the other, too: what that is, is not known.
    let mut for_other = stretch(17, 256);
    arrives_on(&mut for_other, 0, 1);
    arrives_on(&mut for_other, 1, 2);
    assert!(socket_on(&mut for_other, 1, EventKind::DataReady {}).is_some());
    assert_eq!(socket_on(&mut for_other, 1, EventKind::DataReady {}), None);
    assert_eq!([socket(&mut for_other, READ), socket(&mut for_other, READ)], [None, None]);
    for stretch in [both, late] {
        for journey in stretch.end() {
            assert_eq!(journey.outcome, Outcome::Delivered);
            assert!(kinds(&journey).contains(&"DataReady"), "{:?}", kinds(&journey));
            assert!(!kinds(&journey).contains(&"SockReceive"));
        }
    }
}

#[test]
fn an_skb_that_was_read_is_sent_as_another_packet() {
    let mut stretch = stretch(17, 256);
    arrives(&mut stretch, 1);
    socket(&mut stretch, EventKind::DataReady {});
    let read = socket(&mut stretch, EventKind::SockReceive { rc: PAYLOAD });
    let forwarded = Seen { skb: 1, packet: Some(DATAGRAM), iif: 1, ..SEEN };
    let (sent, opens) = stretch.see(forwarded, EventKind::DeviceQueue {});
    assert!(opens && sent.is_some() && sent != read);
}

#[test]
fn an_skb_received_in_one_namespace_is_not_sent_from_another() {
    for (there, same) in [(1, true), (2, false)] {
        let mut stretch = stretch(17, 256);
        for (id, netns) in [(ETH0, 1), (VETH_A, there)] {
            let device = DeviceFact { id, ifindex: id.into(), netns, ..DeviceFact::default() };
            stretch.tables.apply(&Fact::Device(device));
        }
        let fragment = Seen { iif: 1, ..SEEN };
        let (received, _) = stretch.see(fragment, EventKind::Receive {});
        let (sent, _) = stretch.see(Seen { device: VETH_A, ..fragment }, EventKind::DeviceQueue {});
        assert_eq!(sent == received, same, "namespace {there}");
    }
}
