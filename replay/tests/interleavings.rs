//! Every event goes to its own packet's journey, however many packets are interleaved and however
//! events are cut into batches. (A tracer that flushes the oldest series when its buffer is full
//! splits 16,781 series into 60,322 at 256 interleaved packets.)

mod kernel;

use std::collections::HashMap;

use kernel::{Source, Story, Truth};
use psc_replay::engine::{
    self, ClosedJourney, JourneyId, Observer, Outcome, Selection, Sighting, World,
};

/// What a pass said: the journey of each event, and how each journey ended.
#[derive(Debug, Default, PartialEq)]
struct Said {
    journeys: HashMap<(u16, u64), JourneyId>,
    opened: u64,
    closed: Vec<(JourneyId, Outcome, bool, usize)>,
}

impl Observer for Said {
    fn sighting(&mut self, _: World<'_>, sighting: &Sighting<'_>) {
        let event = sighting.event;
        let id = sighting.journey.unwrap_or_else(|| panic!("no journey for {event:?}"));
        assert_eq!(self.journeys.insert((event.cpu, event.seq), id), None, "seen twice");
        self.opened += u64::from(sighting.opens);
    }

    fn closed(&mut self, _: World<'_>, journey: &ClosedJourney) {
        let ambiguous = journey.ambiguous.is_some();
        self.closed.push((journey.id, journey.outcome, ambiguous, journey.steps.len()));
    }
}

fn replay(story: &Story, batch: usize) -> Said {
    let mut said = Said::default();
    let mut source = Source::new(story, batch);
    engine::run(&mut source, &Selection::default(), &mut [&mut said]).expect("a sound source");
    said
}

/// Checks every event and every end against the truth; returns how many journeys are ambiguous.
fn check(story: &Story, said: &Said) -> usize {
    let packets = story.ends.len();
    let mut journey_of = vec![None; packets];
    let mut packet_of: HashMap<JourneyId, u32> = HashMap::new();
    let mut wrong = 0;
    for (event, &packet) in story.events.iter().zip(&story.packet_of) {
        let journey = said.journeys[&(event.cpu, event.seq)];
        let known = *journey_of[packet as usize].get_or_insert(journey);
        let owner = *packet_of.entry(journey).or_insert(packet);
        let right = known == journey && owner == packet;
        if !right && wrong < 3 {
            println!(
                "packet {packet} in {journey:?} of packet {owner}, had {known:?}; its address saw:"
            );
            let same =
                story.events.iter().zip(&story.packet_of).filter(|(e, _)| e.skb == event.skb);
            for (e, p) in same.filter(|(e, _)| e.at.0.abs_diff(event.at.0) < 40_000) {
                let journey = said.journeys[&(e.cpu, e.seq)];
                println!(
                    "{:>9} cpu {} dev {} iif {} content {:x} {:?} packet {p} {journey:?}",
                    e.at.0, e.cpu, e.device.0, e.iif, e.content, e.kind
                );
            }
        }
        wrong += usize::from(!right);
    }
    assert_eq!(wrong, 0, "events in the wrong journey, of {}", story.events.len());
    assert_eq!(packet_of.len(), packets);
    assert_eq!(said.opened, packets as u64, "each packet counts once");
    assert_eq!(said.closed.len(), packets);
    assert_eq!(said.closed.iter().map(|c| c.3).sum::<usize>(), story.events.len());
    for (id, outcome, ..) in &said.closed {
        let packet = packet_of[id];
        let truth = match outcome {
            Outcome::Delivered => Truth::Delivered,
            Outcome::Dropped { .. } => Truth::Dropped,
            Outcome::EndNotObserved => Truth::EndNotObserved,
        };
        assert_eq!(truth, story.ends[packet as usize], "packet {packet}, {id:?}");
    }
    said.closed.iter().filter(|c| c.2).count()
}

#[test]
fn every_event_goes_to_its_packet_at_any_interleaving() {
    for (interleaved, packets) in
        [(1, 2_000), (64, 20_000), (256, 20_000), (1_024, 20_000), (65_536, 90_000)]
    {
        for seed in 1..=3 {
            let story = kernel::tell(packets, interleaved, seed);
            let ambiguous = check(&story, &replay(&story, 4096));
            // Only packets whose birth has no probe, where content had to tell.
            assert!(ambiguous < packets as usize / 5, "{ambiguous} of {packets} are ambiguous");
            if interleaved > 1_024 {
                break;
            }
        }
    }
}

#[test]
fn batches_do_not_matter() {
    let story = kernel::tell(3_000, 300, 9);
    let whole = replay(&story, usize::MAX);
    check(&story, &whole);
    for batch in [1, 2, 63, 1000] {
        assert_eq!(replay(&story, batch), whole, "batches of {batch}");
    }
}
