//! How each journey went, known only when it has closed, for comments on packets that have to be
//! written in time order before that: a first pass collects, a second one writes.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use psc_formats::ProbeId;
use psc_formats::event::DeviceId;
use psc_replay::engine::{
    Ambiguity, ClosedJourney, Edge, JourneyId, Lineage, Observer, Outcome, World,
};
use psc_reports::units::duration;

/// Steps of a path that a comment lists.
const MOST_STEPS: usize = 24;

/// Different stories kept. Journeys are many, their stories few; a recording with more than this is
/// made to exhaust memory, and the rest of its journeys are told without their path.
const MOST_STORIES: usize = 1 << 16;

/// What is the same for many journeys.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Story {
    outcome: Outcome,
    ambiguous: Option<Ambiguity>,
    path: Vec<(ProbeId, DeviceId)>,
}

/// How one journey is joined to another, before `journey N`.
pub(super) fn joined(how: Lineage) -> &'static str {
    match how {
        Lineage::Clone => "clone of",
        Lineage::Copy => "copy of",
        Lineage::Segment => "segment of",
        Lineage::Merged => "merged into",
        Lineage::Fragment => "fragment of the datagram of",
        Lineage::Reassembled => "reassembled into",
    }
}

/// How each journey went, in twelve bytes a journey.
#[derive(Default)]
pub(super) struct Endings {
    known: HashMap<Story, u32>,
    texts: Vec<String>,
    /// Story by journey number, plus one; 0 is not closed.
    stories: Vec<u32>,
    /// Nanoseconds from first to last step, by journey number.
    durations: Vec<u64>,
    /// Listeners' clones: no packets of their own.
    clones: HashSet<JourneyId>,
    /// Journeys joined to others, which are few.
    lineage: HashMap<JourneyId, Edge>,
}

impl Endings {
    /// `journey 17: dropped NO_SOCKET in __udp4_lib_rcv+0x1c after 12.3 µs; path: ...`; empty for a
    /// journey that did not close.
    pub(super) fn comment(&self, id: JourneyId) -> String {
        let at = id.0 as usize;
        let story = self.stories.get(at).copied().unwrap_or(0);
        let Some(text) = (story as usize).checked_sub(1).and_then(|at| self.texts.get(at)) else {
            return String::new();
        };
        let mut comment =
            format!("journey {} {text}; {} in view", id.0, duration(self.durations[at]));
        if let Some(edge) = self.lineage.get(&id) {
            let how = joined(edge.how);
            let _ = write!(comment, "; {how} journey {}", edge.of.0);
        }
        comment
    }

    /// Whether this journey is a listener's clone of another, to be left out where packets are counted.
    pub(super) fn is_clone(&self, id: JourneyId) -> bool {
        self.clones.contains(&id)
    }

    fn story(&mut self, world: World<'_>, mut story: Story) -> u32 {
        if self.texts.len() >= MOST_STORIES && !self.known.contains_key(&story) {
            story.path.clear();
        }
        if let Some(known) = self.known.get(&story) {
            return *known;
        }
        if self.texts.len() >= 2 * MOST_STORIES {
            return 0;
        }
        self.texts.push(tell(world, &story));
        let number = self.texts.len() as u32;
        self.known.insert(story, number);
        number
    }
}

impl Observer for Endings {
    fn closed(&mut self, world: World<'_>, journey: &ClosedJourney) {
        if journey.clone {
            self.clones.insert(journey.id);
            return;
        }
        let story = Story {
            outcome: journey.outcome,
            ambiguous: journey.ambiguous,
            path: journey.steps.iter().map(|step| (step.probe, step.device)).collect(),
        };
        let story = self.story(world, story);
        let at = journey.id.0 as usize;
        if self.stories.len() <= at {
            // Numbers are dense, so this grows with the journeys seen.
            self.stories.resize(at + 1, 0);
            self.durations.resize(at + 1, 0);
        }
        self.stories[at] = story;
        self.durations[at] = journey.duration();
        if let Some(first) = journey.lineage.first() {
            self.lineage.insert(journey.id, *first);
        }
    }
}

fn tell(world: World<'_>, story: &Story) -> String {
    let mut text = match story.outcome {
        Outcome::Delivered => "delivered".to_owned(),
        Outcome::Dropped { reason, location } => format!(
            "dropped: {} in {}",
            world.manifest.drop_reason(reason),
            world.tables.location(location)
        ),
        Outcome::EndNotObserved => "end not observed".to_owned(),
    };
    if let Some(why) = story.ambiguous {
        let why = match why {
            Ambiguity::ContentContradicts => "its content contradicts its address",
            Ambiguity::BirthNotObserved => "its first event is not a birth",
            Ambiguity::SameIdentification => "another datagram has its identification",
            Ambiguity::LossWhileOpen => "events were lost meanwhile",
        };
        let _ = write!(text, "; identity ambiguous: {why}");
    }
    let mut device = None;
    for (at, (probe, on)) in story.path.iter().take(MOST_STEPS).enumerate() {
        text.push_str(if at == 0 { "; path: " } else { " > " });
        text.push_str(world.manifest.probe_name(*probe));
        // A device is named where it changes.
        if device.replace(*on) != Some(*on) && *on != DeviceId(0) {
            let _ = write!(text, " on {}", world.tables.device_name(*on));
        }
    }
    if story.path.len() > MOST_STEPS {
        let _ = write!(text, " > {} more", story.path.len() - MOST_STEPS);
    }
    text
}
