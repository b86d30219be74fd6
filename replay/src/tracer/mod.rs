//! The tracer: the path of each packet, the shapes that paths have, and the graph they make.

mod effects;
mod exemplars;
pub(crate) mod functions;
mod graph;
mod kin;
mod ladder;
pub(crate) mod samples;
mod story;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeMap;
use std::rc::Rc;

use psc_formats::event::DeviceId;
use psc_formats::manifest::Layer;
use psc_formats::{Event, EventKind, Manifest, ProbeId, Tables};
use rustc_hash::FxHashMap;

use crate::engine::{ClosedJourney, Observer, Outcome, Pass, Sighting, World};
use crate::view::trace::{JourneyTotals, PathRow, PathStep, TraceView};
use effects::Effects;
use exemplars::Exemplars;
use functions::{FunctionId, Functions};
use graph::{Graph, Place, Spot};
use kin::Kin;
use samples::Samples;
use story::Stories;

/// Shapes counted at most; journeys of further ones are counted together.
const MAX_SHAPES: usize = 4096;

/// Steps of a shape; what follows is the same for all that share the beginning.
const MAX_SHAPE_STEPS: usize = 64;

/// Shapes whose example is called typical.
const TYPICAL: usize = 5;

/// How much to show.
#[derive(Clone, Copy, Debug)]
pub struct TraceOptions {
    /// Shapes shown, most frequent first.
    pub paths: usize,
    /// Journeys told in time order, beside the slowest, the dropped and the examples of shapes.
    pub journeys: usize,
    /// Told are the journeys of a story: all in time order, none for being slow or dropped.
    pub in_order: bool,
}

impl Default for TraceOptions {
    fn default() -> Self {
        Self { paths: 100, journeys: 200, in_order: false }
    }
}

/// One step of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ShapeStep {
    probe: ProbeId,
    function: FunctionId,
    device: DeviceId,
}

/// A journey's shape without times, and how it ended: two journeys with one shape were treated alike.
type Shape = (Box<[ShapeStep]>, Ending);

/// How a journey ended, without the place (its last step says that).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Ending {
    Delivered,
    Dropped(u32),
    NotObserved,
}

#[derive(Debug)]
struct Path {
    journeys: u64,
    bytes: u64,
    samples: Samples,
    example: Rc<ClosedJourney>,
    outcome: Outcome,
}

/// Observes a pass and makes a [`TraceView`] of it.
#[derive(Debug, Default)]
pub struct Tracer {
    options: TraceOptions,
    totals: JourneyTotals,
    ambiguity: BTreeMap<&'static str, u64>,
    functions: Functions,
    paths: FxHashMap<Shape, Path>,
    /// Journeys whose shape is not in `paths` because that was full.
    unshaped: u64,
    graph: Graph,
    exemplars: Exemplars,
    stories: Stories,
    effects: Effects,
    kin: Kin,
    /// Reused for each journey.
    shape: Vec<ShapeStep>,
}

impl Tracer {
    /// A tracer that shows as much as `options` say.
    pub fn new(options: TraceOptions) -> Self {
        Self { options, exemplars: Exemplars::new(options.journeys), ..Self::default() }
    }

    /// The view of the pass that it observed.
    pub fn finish(mut self, manifest: &Manifest, pass: &Pass) -> TraceView {
        let world = World { manifest, tables: &pass.tables, start: None };
        self.graph.effects = std::mem::take(&mut self.effects.edges);
        self.graph.kin = std::mem::take(&mut self.kin.edges);
        let graph = self.graph.view(&mut self.functions, manifest, &pass.tables);
        let (effects, effects_omitted) = std::mem::take(&mut self.effects).finish();
        let mut paths: Vec<(PathRow, Rc<ClosedJourney>)> =
            self.paths.iter().map(|((steps, _), path)| self.path_row(steps, path, world)).collect();
        paths.sort_by(|(a, _), (b, _)| b.journeys.cmp(&a.journeys).then_with(|| a.id.cmp(&b.id)));
        let hidden = paths.split_off(paths.len().min(self.options.paths));
        let examples: Vec<_> = paths.iter().map(|(_, example)| Rc::clone(example)).collect();
        let (typical, others) = examples.split_at(examples.len().min(TYPICAL));
        let told = if self.options.in_order {
            self.exemplars.in_order()
        } else {
            self.exemplars.roles(typical, others)
        };
        let mut totals = self.totals;
        totals.ambiguity =
            self.ambiguity.iter().map(|(why, count)| ((*why).to_owned(), *count)).collect();
        totals.ambiguity.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let packets_told = told.iter().filter(|(_, journey)| !journey.clone).count() as u64;
        TraceView {
            provenance: pass.provenance.clone(),
            paths_omitted: hidden.len() as u64,
            path_journeys_omitted: self.unshaped
                + hidden.iter().map(|(row, _)| row.journeys).sum::<u64>(),
            paths: paths.into_iter().map(|(row, _)| row).collect(),
            graph,
            omitted: totals.total.saturating_sub(packets_told),
            exemplars: told
                .iter()
                .map(|(role, journey)| ladder::tell(journey, role, &mut self.functions, world))
                .collect(),
            stories: self.stories.of(told.iter().map(|(_, journey)| journey.id.0)),
            journeys: totals,
            effects,
            effects_omitted,
        }
    }

    fn path_row(
        &self,
        steps: &[ShapeStep],
        path: &Path,
        world: World<'_>,
    ) -> (PathRow, Rc<ClosedJourney>) {
        let outcome = words::outcome(path.outcome, world);
        let steps: Vec<PathStep> = steps
            .iter()
            .map(|step| PathStep {
                layer: self.layer(step.probe, step.function, world.manifest).name().to_owned(),
                probe: world.manifest.probe_name(step.probe).to_owned(),
                function: self.functions.name(step.function).to_owned(),
                device: match step.device {
                    DeviceId(0) => String::new(),
                    id => world.tables.device_name(id).to_owned(),
                },
            })
            .collect();
        let row = PathRow {
            id: signature(&steps, &outcome),
            steps,
            journeys: path.journeys,
            bytes: path.bytes,
            outcome,
            latency: path.samples.latency(),
            example: path.example.id.0,
        };
        (row, Rc::clone(&path.example))
    }

    /// The function's layer, else the probe's.
    fn layer(&self, probe: ProbeId, function: FunctionId, manifest: &Manifest) -> Layer {
        self.functions.layer(function).unwrap_or_else(|| {
            manifest.probes.get(probe.0 as usize).map_or(Layer::default(), |probe| probe.layer)
        })
    }

    fn place(&mut self, step: &Event, manifest: &Manifest, tables: &Tables) -> Spot {
        let function = self.functions.of_step(step, manifest, tables);
        let place = match function {
            FunctionId(0) => Place::Probe(step.probe),
            known => Place::Function(known),
        };
        (self.layer(step.probe, function, manifest), place)
    }

    fn count(&mut self, journey: &ClosedJourney) {
        let totals = &mut self.totals;
        totals.total += 1;
        match journey.outcome {
            Outcome::Delivered => totals.delivered += 1,
            Outcome::Dropped { .. } => totals.dropped += 1,
            Outcome::EndNotObserved => totals.end_not_observed += 1,
        }
        if let Some(why) = journey.ambiguous {
            totals.ambiguous += 1;
            *self.ambiguity.entry(words::ambiguity(why)).or_default() += 1;
        }
    }
}

/// Names the place of an event: the function that it happened in, else the probe that saw it.
#[derive(Debug, Default)]
pub struct Places(Functions);

impl Places {
    /// Layer and name; the name is empty when neither is known.
    pub fn of<'a>(&'a mut self, event: &Event, world: World<'a>) -> (Layer, &'a str) {
        let function = self.0.of_step(event, world.manifest, world.tables);
        let probe = world.manifest.probes.get(event.probe.0 as usize);
        let layer = self.0.layer(function).or(probe.map(|probe| probe.layer)).unwrap_or_default();
        match (self.0.name(function), probe) {
            ("", Some(probe)) => (layer, &probe.name),
            (name, _) => (layer, name),
        }
    }
}

/// Nanoseconds from the first step to the last that is not the deferred free of what a reader has had already
/// (`skb_attempt_defer_free`): that comes when the CPU that made the skb next has time.
fn under_way(journey: &ClosedJourney, tables: &Tables) -> u64 {
    let deferred = |step: &&Event| match step.kind {
        EventKind::Consume { location } => {
            let function = tables.function(location);
            function.starts_with("skb_defer_free") || function.starts_with("skb_attempt_defer")
        }
        _ => matches!(step.kind, EventKind::FunctionReturn { .. }),
    };
    let last = journey.steps.iter().rev().find(|step| !deferred(step));
    match (journey.steps.first(), last) {
        (Some(first), Some(last)) => last.at.0.saturating_sub(first.at.0),
        _ => 0,
    }
}

/// Whether an event says where the packet is.
fn tells_place(kind: &EventKind) -> bool {
    !kind.is_deeper_tier()
        || matches!(kind, EventKind::FunctionEntry { .. } | EventKind::NetfilterHook { .. })
}

/// FNV-1a over the words of a shape, so that an id means the same in every recording.
fn signature(steps: &[PathStep], outcome: &str) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |text: &str| {
        for byte in text.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for step in steps {
        for word in [&step.layer, &step.probe, &step.function, &step.device] {
            add(word);
        }
    }
    add(outcome);
    format!("{hash:016x}")
}

impl Observer for Tracer {
    fn sighting(&mut self, world: World<'_>, sighting: &Sighting<'_>) {
        if Effects::concern(sighting) {
            let place = self.place(sighting.event, world.manifest, world.tables);
            self.effects.see(sighting, place);
        }
        // A function's event may have to wait for its journey; then the journey has it in the end.
        let without = sighting.journey.is_none() && !sighting.event.kind.is_deeper_tier();
        self.totals.events_without_skb += u64::from(without);
    }

    fn closed(&mut self, world: World<'_>, journey: &ClosedJourney) {
        let World { manifest, tables, .. } = world;
        self.stories.see(journey);
        if !journey.clone {
            self.count(journey);
        }
        let dropped = match journey.outcome {
            Outcome::Dropped { reason, .. } => Some(reason),
            Outcome::Delivered | Outcome::EndNotObserved => None,
        };
        let mut shape = std::mem::take(&mut self.shape);
        shape.clear();
        let mut before: Option<(u64, Spot)> = None;
        let (mut first, mut received) = (None, None);
        for step in &journey.steps {
            // A return is no move of the packet, and a new skb no place.
            if !tells_place(&step.kind) {
                continue;
            }
            let at = self.place(step, manifest, tables);
            let ends = matches!(step.kind, EventKind::Free { .. });
            self.graph.step(at, step.len, step.stack, dropped.filter(|_| ends));
            if let Some((time, from)) = before {
                self.graph.edge(from, at, step.at.0.saturating_sub(time));
            }
            before = Some((step.at.0, at));
            first.get_or_insert(at);
            if matches!(step.kind, EventKind::Receive {}) {
                received.get_or_insert(at);
            }
            if shape.len() < MAX_SHAPE_STEPS {
                let function = match at.1 {
                    Place::Function(id) => id,
                    Place::Probe(_) => FunctionId(0),
                };
                shape.push(ShapeStep { probe: step.probe, function, device: step.device });
            }
        }
        if let (Some(first), Some((_, last))) = (first, before) {
            self.kin.see(journey, first, last, received);
        }
        if journey.clone {
            // A listener's clone is told with its original's, and is no path of a packet.
            self.exemplars.see(journey, 0, false);
            self.shape = shape;
            return;
        }
        let ending = match journey.outcome {
            Outcome::Delivered => Ending::Delivered,
            Outcome::Dropped { reason, .. } => Ending::Dropped(reason),
            Outcome::EndNotObserved => Ending::NotObserved,
        };
        let key: Shape = (shape.as_slice().into(), ending);
        self.shape = shape;
        let full = self.paths.len() >= MAX_SHAPES;
        let known = self.paths.contains_key(&key);
        let took = under_way(journey, tables);
        let kept = self.exemplars.see(journey, took, !known && !full);
        if !known && full {
            self.unshaped += 1;
            return;
        }
        let path = match (self.paths.get_mut(&key), kept) {
            (Some(path), _) => path,
            (None, Some(example)) => self.paths.entry(key).or_insert(Path {
                journeys: 0,
                bytes: 0,
                samples: Samples::default(),
                example,
                outcome: journey.outcome,
            }),
            (None, None) => return,
        };
        path.journeys += 1;
        path.bytes += journey.tier_one().next().map_or(0, |step| u64::from(ladder::wire_len(step)));
        path.samples.add(journey.duration());
    }
}
