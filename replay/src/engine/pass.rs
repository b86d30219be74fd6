//! The loop of a pass, and which journeys it shows.

use psc_formats::packet::{self, Headers};
use psc_formats::{
    Batch, Event, EventKind, EventSource, Manifest, Ns, Progress, SourceError, Tables,
};

use super::provenance::Tally;
use super::{ClosedJourney, JourneyId, Observer, Outcome, Pass, Selection, Sighting, SkbId, World};
use crate::expr::{Expr, Scope, Subject};
use crate::journey::Journeys;
use crate::order::Sorter;

/// Which journeys to show.
pub(super) enum Choice {
    /// All.
    All,
    /// Those for which the expression has held so far.
    Online(Expr, JourneySet),
    /// Those that an earlier pass over the same events chose; the expression still decides about
    /// events without a journey.
    Chosen(Chosen),
}

/// The result of a choosing pass.
pub(super) struct Chosen {
    filter: Expr,
    journeys: JourneySet,
}

impl Choice {
    pub(super) fn of(selection: &Selection) -> Self {
        match &selection.filter {
            None => Self::All,
            Some(filter) => Self::Online(filter.clone(), JourneySet::default()),
        }
    }

    fn shows(&mut self, world: World<'_>, sighting: &Sighting<'_>) -> bool {
        match self {
            Self::All => true,
            Self::Online(filter, journeys) => match sighting.journey {
                Some(id) if journeys.contains(id) => true,
                Some(_) if waits(filter) => false,
                journey => {
                    let holds = filter.matches(&Subject::sighting(world, sighting));
                    if let Some(id) = journey.filter(|_| holds) {
                        journeys.insert(id);
                    }
                    holds
                }
            },
            Self::Chosen(chosen) => match sighting.journey {
                Some(id) => chosen.journeys.contains(id),
                None => chosen.filter.matches(&Subject::sighting(world, sighting)),
            },
        }
    }

    fn shows_closed(&self, world: World<'_>, journey: &ClosedJourney) -> bool {
        match self {
            Self::All => true,
            Self::Online(filter, journeys) => {
                journeys.contains(journey.id)
                    || waits(filter) && holds_closed(filter, world, journey)
            }
            Self::Chosen(chosen) => chosen.journeys.contains(journey.id),
        }
    }
}

/// Whether an expression is decided when a journey closes, not at its sightings.
fn waits(filter: &Expr) -> bool {
    filter.scope() == Scope::Journey
}

/// Whether an expression that waits for the journey's end holds at one of its steps.
fn holds_closed(filter: &Expr, world: World<'_>, journey: &ClosedJourney) -> bool {
    let mut states = journey.headers.iter().peekable();
    let mut headers = None;
    journey.steps.iter().zip(0_u32..).any(|(step, index)| {
        while let Some((_, state)) = states.next_if(|(from, _)| *from <= index) {
            headers = Some(state);
        }
        filter.matches(&Subject::closed(world, journey, step, headers))
    })
}

/// Journeys by number, one bit each.
#[derive(Debug, Default)]
pub(super) struct JourneySet {
    words: Vec<u64>,
}

impl JourneySet {
    pub(super) fn insert(&mut self, id: JourneyId) {
        let word = (id.0 / 64) as usize;
        if self.words.len() <= word {
            // Numbers are dense, so the set grows with the journeys seen.
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (id.0 % 64);
    }

    pub(super) fn contains(&self, id: JourneyId) -> bool {
        self.words.get((id.0 / 64) as usize).is_some_and(|word| word >> (id.0 % 64) & 1 == 1)
    }
}

/// Finds the journeys for which the selection's filter holds at some event.
pub(super) fn choose(
    source: &mut dyn EventSource,
    filter: &Expr,
    selection: &Selection,
) -> Result<Chosen, SourceError> {
    struct Chooser {
        chosen: Chosen,
        waits: bool,
        /// Pairs of joined journeys, when whole stories are wanted.
        joined: Option<Vec<(u64, u64)>>,
    }
    impl Observer for Chooser {
        fn sighting(&mut self, world: World<'_>, sighting: &Sighting<'_>) {
            if let Some(id) = sighting.journey
                && !self.waits
                && !self.chosen.journeys.contains(id)
                && self.chosen.filter.matches(&Subject::sighting(world, sighting))
            {
                self.chosen.journeys.insert(id);
            }
        }
        fn closed(&mut self, world: World<'_>, journey: &ClosedJourney) {
            if self.waits && holds_closed(&self.chosen.filter, world, journey) {
                self.chosen.journeys.insert(journey.id);
            }
            if let Some(joined) = &mut self.joined {
                joined.extend(journey.lineage.iter().map(|edge| (journey.id.0, edge.of.0)));
            }
        }
    }
    let chosen = Chosen { filter: filter.clone(), journeys: JourneySet::default() };
    let joined = selection.joined.then(Vec::new);
    let mut chooser = Chooser { chosen, waits: waits(filter), joined };
    let range = Selection { filter: None, ..selection.clone() };
    run(source, &range, Choice::All, &mut [&mut chooser])?;
    let mut chosen = chooser.chosen;
    // Who is joined to a chosen one is chosen; edges mostly lead back, so a few rounds reach all.
    let mut joined = chooser.joined.unwrap_or_default();
    loop {
        let before = joined.len();
        joined.retain(|&(one, other)| {
            let (a, b) = (JourneyId(one), JourneyId(other));
            let (has_a, has_b) = (chosen.journeys.contains(a), chosen.journeys.contains(b));
            if has_a || has_b {
                chosen.journeys.insert(a);
                chosen.journeys.insert(b);
            }
            !(has_a || has_b)
        });
        if joined.len() == before {
            return Ok(chosen);
        }
    }
}

/// Everything of a pass but its source.
struct Loop<'a, 'b> {
    manifest: &'a Manifest,
    selection: &'a Selection,
    choice: Choice,
    observers: &'a mut [&'b mut dyn Observer],
    tables: Tables,
    journeys: Journeys,
    /// Journeys with a sighting in the time range, when there is one.
    in_range: Option<JourneySet>,
    start: Option<Ns>,
    tally: Tally,
    /// The journey of the last captured frame, kept for its memory.
    frame: ClosedJourney,
}

/// Runs one pass.
pub(super) fn run(
    source: &mut dyn EventSource,
    selection: &Selection,
    choice: Choice,
    observers: &mut [&mut dyn Observer],
) -> Result<Pass, SourceError> {
    let manifest = source.manifest().clone();
    let ranged = selection.from.is_some() || selection.to.is_some();
    let mut pass = Loop {
        manifest: &manifest,
        selection,
        choice,
        observers,
        tables: Tables::default(),
        journeys: Journeys::new(&manifest),
        in_range: ranged.then(JourneySet::default),
        start: None,
        tally: Tally::default(),
        frame: whole_frame(),
    };
    let mut sorter = Sorter::default();
    let mut batch = Batch::default();
    loop {
        batch.clear();
        let progress = source.fill(&mut batch)?;
        for fact in &batch.facts {
            pass.tables.apply(fact);
        }
        let complete_to = batch.complete_to;
        sorter.add(&mut batch);
        if progress == Progress::End {
            sorter.end();
        }
        pass.drain(&mut sorter);
        if let (Progress::Idle, Some(to)) = (progress, complete_to) {
            let world = World { manifest: &manifest, tables: &pass.tables, start: pass.start };
            for observer in pass.observers.iter_mut() {
                observer.caught_up(world, to);
            }
        }
        if progress == Progress::End {
            break;
        }
    }
    pass.journeys.end();
    pass.tell_closed();
    let provenance = pass.tally.provenance(
        &manifest,
        &pass.tables,
        selection,
        sorter.counts(),
        pass.journeys.counts(),
    );
    let missing_by_cpu = sorter.missing_by_cpu().clone();
    Ok(Pass { tables: pass.tables, provenance, missing_by_cpu })
}

impl Loop<'_, '_> {
    fn drain(&mut self, sorter: &mut Sorter) {
        while let Some((event, turn)) = sorter.pop() {
            let bytes = sorter.bytes(&event, &turn);
            let decoded = event.packet.map(|at| packet::decode(at.link, bytes, at.len));
            self.event(event, turn.gap != 0, decoded.as_ref(), bytes);
            sorter.done(turn);
        }
    }

    fn event(
        &mut self,
        event: psc_formats::Event,
        gap: bool,
        decoded: Option<&Headers>,
        bytes: &[u8],
    ) {
        self.start.get_or_insert(event.at);
        let within = self.selection.contains(event.at);
        self.tally.event(&event, within);
        if let EventKind::Captured { .. } = event.kind {
            self.captured(&event, gap, decoded, bytes);
            return;
        }
        match self.journeys.admit(event, gap, decoded, bytes, &self.tables) {
            Err(event) => {
                self.tell_closed();
                if within {
                    let sighting = Sighting {
                        event: &event,
                        bytes,
                        headers: decoded,
                        fresh: decoded.is_some(),
                        journey: None,
                        opens: false,
                    };
                    let world =
                        World { manifest: self.manifest, tables: &self.tables, start: self.start };
                    show(&mut self.choice, self.observers, world, &sighting);
                }
            }
            Ok(placed) => {
                self.tell_closed();
                if within {
                    let mut opens = placed.opens && placed.packet;
                    if let Some(in_range) = &mut self.in_range {
                        // The first sighting that is shown opens, wherever the range starts.
                        opens = placed.packet && !in_range.contains(placed.id);
                        in_range.insert(placed.id);
                    }
                    if let (Some(event), last) = self.journeys.last_step(placed) {
                        let sighting = Sighting {
                            event,
                            bytes,
                            headers: decoded.or(last),
                            fresh: decoded.is_some(),
                            journey: Some(placed.id),
                            opens,
                        };
                        let tables = &self.tables;
                        let world = World { manifest: self.manifest, tables, start: self.start };
                        show(&mut self.choice, self.observers, world, &sighting);
                    }
                }
                self.journeys.settle(placed);
                self.tell_closed();
            }
        }
    }

    /// A captured frame: its journey opens and closes with it.
    fn captured(&mut self, event: &Event, gap: bool, decoded: Option<&Headers>, bytes: &[u8]) {
        let id = self.journeys.frame(event, gap);
        self.tell_closed();
        if !self.selection.contains(event.at) {
            return;
        }
        let world = World { manifest: self.manifest, tables: &self.tables, start: self.start };
        let sighting = Sighting {
            event,
            bytes,
            headers: decoded,
            fresh: decoded.is_some(),
            journey: Some(id),
            opens: true,
        };
        show(&mut self.choice, self.observers, world, &sighting);
        let frame = &mut self.frame;
        frame.id = id;
        frame.skb = SkbId { addr: event.skb, generation: 0 };
        frame.steps.clear();
        frame.steps.push(*event);
        frame.headers.clear();
        frame.headers.extend(decoded.map(|headers| (0, *headers)));
        frame.flow = decoded.and_then(Headers::tuple);
        if self.choice.shows_closed(world, frame) {
            for observer in self.observers.iter_mut() {
                observer.closed(world, frame);
            }
        }
    }

    fn tell_closed(&mut self) {
        let Self { manifest, choice, observers, tables, journeys, in_range, start, .. } = self;
        let world = World { manifest, tables, start: *start };
        while journeys.take_closed(|journey| {
            let shown = in_range.as_ref().is_none_or(|set| set.contains(journey.id));
            if shown && choice.shows_closed(world, journey) {
                for observer in observers.iter_mut() {
                    observer.closed(world, journey);
                }
            }
        }) {}
    }
}

/// A journey of one captured frame, still without it.
fn whole_frame() -> ClosedJourney {
    ClosedJourney {
        id: JourneyId(0),
        skb: SkbId::default(),
        steps: Vec::with_capacity(1),
        headers: Vec::with_capacity(1),
        flow: None,
        outcome: Outcome::EndNotObserved,
        ambiguous: None,
        lineage: Vec::new(),
        clone: false,
    }
}

fn show(
    choice: &mut Choice,
    observers: &mut [&mut dyn Observer],
    world: World<'_>,
    sighting: &Sighting<'_>,
) {
    if choice.shows(world, sighting) {
        for observer in observers {
            observer.sighting(world, sighting);
        }
    }
}

impl Selection {
    /// Whether a time is in the range.
    pub(super) fn contains(&self, at: Ns) -> bool {
        self.from.is_none_or(|from| at >= from) && self.to.is_none_or(|to| at < to)
    }
}
