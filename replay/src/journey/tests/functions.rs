//! Function probes: they join journeys and decide nothing.

use super::*;

fn entry(returns: u8) -> EventKind {
    EventKind::FunctionEntry { returns, argument: 0, value: 0 }
}

fn returned(elapsed: u64) -> EventKind {
    EventKind::FunctionReturn { meaning: 1, value: 0, elapsed }
}

#[test]
fn what_leads_to_a_birth_belongs_to_it_and_not_to_the_last_packet_of_the_address() {
    let mut stretch = Stretch::new();
    let sender = Seen { device: 0, sock: 4, ..SEEN };
    // The packet before was sent, and its free has no tracepoint.
    stretch.see(SEEN, EventKind::DeviceQueue {});
    stretch.see(SEEN, EventKind::TransmitStart {});
    stretch.see(SEEN, EventKind::TransmitDone { rc: 0 });
    assert_eq!(stretch.see(sender, entry(1)), (None, false));
    stretch.see(sender, entry(1));
    stretch.see(sender, returned(10));
    let (second, opens) = stretch.see(SEEN, EventKind::DeviceQueue {});
    assert!(opens);
    // The outer function, entered three events before, returns.
    assert_eq!(stretch.see(sender, returned(40)).0, second);
    let journeys = stretch.end();
    assert_eq!(kinds(&journeys[0]), ["DeviceQueue", "TransmitStart", "TransmitDone"]);
    let second =
        ["FunctionEntry", "FunctionEntry", "FunctionReturn", "DeviceQueue", "FunctionReturn"];
    assert_eq!(kinds(&journeys[1]), second);
    assert_eq!(journeys[1].duration(), 30, "returning is no step of the packet");
}

#[test]
fn a_function_that_freed_its_packet_returns_into_the_right_journey() {
    let mut stretch = Stretch::new();
    let received = Seen { iif: 1, ..SEEN };
    stretch.see(received, EventKind::Receive {});
    stretch.see(received, entry(1));
    stretch.see(received, free(NETFILTER_DROP, NF_HOOK_SLOW));
    // Another CPU gets the address before the function returns here.
    let other = Seen { cpu: 1, ..received };
    let (reborn, _) = stretch.see(other, EventKind::Receive {});
    let (dropped, _) = stretch.see(received, returned(30));
    assert_ne!(dropped, reborn);
    assert_eq!(stretch.closed.len(), 1, "over when the last call has returned");
    let journeys = stretch.end();
    assert_eq!(kinds(&journeys[0]), ["Receive", "FunctionEntry", "Free", "FunctionReturn"]);
    assert!(matches!(journeys[0].outcome, Outcome::Dropped { .. }));
    assert_eq!(kinds(&journeys[1]), ["Receive"]);
}

#[test]
fn a_return_that_was_lost_holds_nothing() {
    let mut stretch = Stretch::new();
    let received = Seen { iif: 1, ..SEEN };
    stretch.see(received, EventKind::Receive {});
    stretch.see(received, entry(1));
    stretch.see(received, consume(0));
    assert!(stretch.closed.is_empty());
    stretch.see(Seen { skb: 9, gap: true, ..received }, EventKind::Receive {});
    assert_eq!(stretch.closed.len(), 1);
    // It comes after all: nobody's.
    assert_eq!(stretch.see(received, returned(30)), (None, false));
    assert_eq!(stretch.journeys.counts().functions_unplaced, 1);
}

#[test]
fn function_probes_decide_nothing() {
    // The same packets with and without functions between: the same journeys, step for step.
    let story = |functions: bool| {
        let mut stretch = Stretch::new();
        let called = |stretch: &mut Stretch, seen: Seen| {
            if functions {
                stretch.at -= 5;
                stretch.see(seen, entry(1));
                stretch.at -= 9;
                stretch.see(seen, returned(1));
                stretch.at -= 7;
            }
        };
        for round in 0..3 {
            let sender = Seen { content: 100 + round, sock: 4, ..SEEN };
            called(&mut stretch, Seen { device: 0, content: 0, ..sender });
            stretch.see(sender, EventKind::DeviceQueue {});
            stretch.see(sender, EventKind::TransmitStart {});
            let peer = Seen { device: VETH_B, iif: 2, ..sender };
            called(&mut stretch, Seen { content: 0, ..peer });
            stretch.see(peer, EventKind::BacklogQueue {});
            stretch.see(sender, EventKind::TransmitDone { rc: 0 });
            stretch.see(peer, EventKind::Receive {});
            called(&mut stretch, Seen { content: 0, ..peer });
            if round == 1 {
                stretch.see(peer, free(NETFILTER_DROP, NF_HOOK_SLOW));
                called(&mut stretch, Seen { content: 0, ..peer });
            }
        }
        stretch.end()
    };
    let (with, without) = (story(true), story(false));
    assert!(with.iter().map(|journey| journey.steps.len()).sum::<usize>() > 24);
    let told = |journeys: &[ClosedJourney]| {
        let told = journeys.iter().map(|journey| {
            let steps: Vec<EventKind> = journey.tier_one().map(|step| step.kind).collect();
            (journey.id, journey.skb, journey.outcome, journey.ambiguous, steps)
        });
        told.collect::<Vec<_>>()
    };
    assert_eq!(told(&with), told(&without));
}
