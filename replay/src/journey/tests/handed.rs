//! One packet on several hosts, in a merge of their recordings.

use super::*;

/// On the next host, another CPU and device; its recorder took the bytes again.
const THERE: Seen =
    Seen { cpu: 9, skb: 70, device: VETH_A, iif: 2, packet: Some(DATAGRAM), ..SEEN };

const HERE: Seen = Seen { packet: Some(DATAGRAM), ..SEEN };

/// Sends `HERE`, handed to skb 70 `after` nanoseconds later. Times of `see` are ten apart.
fn sent(stretch: &mut Stretch, after: u64) -> JourneyId {
    let (id, opens) = stretch.see(HERE, EventKind::DeviceQueue {});
    assert!(opens);
    let here = Seen { packet: None, ..HERE };
    stretch.see(here, EventKind::TransmitStart {});
    let arrival = stretch.at + 10 + after;
    let child = SkbAddr(THERE.skb);
    stretch.see(here, EventKind::Handed { child, arrival, earlier: 1, later: u64::MAX });
    id.unwrap()
}

#[test]
fn a_packet_on_two_hosts_is_one_journey_in_time_order() {
    let mut stretch = Stretch::new();
    let id = sent(&mut stretch, 10);
    let (came, opens) = stretch.see(THERE, EventKind::BacklogQueue {});
    assert_eq!((came, opens), (Some(id), false), "no second packet");
    stretch.see(Seen { packet: None, ..HERE }, EventKind::TransmitDone { rc: 0 });
    let there = Seen { packet: None, ..THERE };
    stretch.see(there, EventKind::Receive {});
    // The card here is done with it long after it was received there.
    stretch.see(Seen { packet: None, ..HERE }, consume(0));
    stretch.see(there, free(NETFILTER_DROP, NF_HOOK_SLOW));
    assert_eq!(stretch.closed.len(), 1, "told once all parts have closed");
    assert_eq!(stretch.journeys.counts().opened, 1);
    let journeys = stretch.end();
    let [journey] = &journeys[..] else { panic!("{journeys:?}") };
    assert_eq!(
        kinds(journey),
        [
            "DeviceQueue",
            "TransmitStart",
            "Handed",
            "BacklogQueue",
            "TransmitDone",
            "Receive",
            "Consume",
            "Free"
        ]
    );
    assert!(journey.steps.is_sorted_by_key(|step| step.at));
    assert_eq!(journey.headers.len(), 1, "the same headers are no news");
    let dropped = Outcome::Dropped { reason: NETFILTER_DROP, location: SymbolId(NF_HOOK_SLOW) };
    assert_eq!(journey.outcome, dropped, "what became of it at the last host");
    assert_eq!(journey.skb.addr, SkbAddr(HERE.skb));
}

#[test]
fn only_the_very_event_that_was_told_of_goes_on() {
    #[rustfmt::skip]
    let cases = [
        // when it was said to come, and how many journeys that makes
        ("at that time",          10, 1),
        ("another came before",   20, 2),
        ("it did not come",        0, 2),
    ];
    for (name, after, expected) in cases {
        let mut stretch = Stretch::new();
        sent(&mut stretch, after);
        stretch.see(THERE, EventKind::BacklogQueue {});
        stretch.see(Seen { skb: 5, ..SEEN }, EventKind::DeviceQueue {});
        let journeys = stretch.end();
        assert_eq!(journeys.len(), expected + 1, "{name}");
        let steps: usize = journeys.iter().map(|journey| journey.steps.len()).sum();
        assert_eq!(steps, 5, "{name}: nothing is lost");
    }
}

#[test]
fn a_packet_goes_over_many_hosts_and_comes_back_to_one() {
    let mut stretch = Stretch::new();
    let id = sent(&mut stretch, 10);
    for hop in 0..10_u32 {
        let there = Seen { skb: 70 + hop, cpu: 9 + hop as u16 % 3, ..THERE };
        let (came, opens) = stretch.see(there, EventKind::BacklogQueue {});
        assert_eq!((came, opens), (Some(id), false), "{hop}");
        let there = Seen { packet: None, ..there };
        stretch.see(there, EventKind::Receive {});
        stretch.see(there, EventKind::TransmitStart {});
        let (child, arrival) = (SkbAddr(71 + hop), stretch.at + 20);
        stretch.see(there, EventKind::Handed { child, arrival, earlier: 0, later: 0 });
    }
    let journeys = stretch.end();
    assert_eq!(journeys.len(), 1);
    assert_eq!(journeys[0].steps.len(), 3 + 10 * 4);
    assert_eq!(journeys[0].outcome, Outcome::EndNotObserved, "in transit");
}
