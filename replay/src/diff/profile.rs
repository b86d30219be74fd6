//! What one recording is compared by: how often each path is taken, how long each step takes, what
//! is dropped where.

use std::collections::BTreeSet;

use psc_formats::event::{DeviceId, SymbolId};
use psc_formats::manifest::{Layer, ProbeStatus};
use psc_formats::{EventKind, Manifest, ProbeId};
use rustc_hash::FxHashMap;

use super::batches::Batches;
use super::shares::Shares;
use crate::engine::{ClosedJourney, Observer, Outcome, Sighting, World};
use crate::tracer::functions::{FunctionId, Functions};
use crate::tracer::samples::Samples;

/// Steps timed at most; further kinds are not.
const MOST_STEPS: usize = 2048;

/// Steps of a path; what follows is the same for all that share the beginning.
const MOST_PATH: usize = 64;

/// Where a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct At {
    pub(super) probe: ProbeId,
    pub(super) function: FunctionId,
}

/// How a journey ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Ending {
    Delivered,
    Dropped(u32),
    NotObserved,
}

/// A drop's reason and function, and the layer of the probe that saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) reason: u32,
    pub(super) location: SymbolId,
    pub(super) probe: ProbeId,
}

/// A path: where its steps were and on which device, and how it ended.
pub(super) type Path = (Box<[(At, DeviceId)]>, Ending);

/// Times of one step.
#[derive(Debug, Default)]
pub(super) struct Times {
    pub(super) batches: Batches,
    pub(super) samples: Samples,
}

/// Probes that two recordings have in common, by name.
pub fn common_probes(base: &Manifest, new: &Manifest) -> BTreeSet<String> {
    let attached = |manifest: &Manifest| -> BTreeSet<String> {
        let attached = manifest.probes.iter().filter(|p| p.status == ProbeStatus::Attached);
        attached.map(|probe| probe.name.clone()).collect()
    };
    attached(base).intersection(&attached(new)).cloned().collect()
}

/// Observes a pass over one of the recordings.
#[derive(Debug)]
pub struct Profile {
    /// By probe id, whether the other recording has the probe, too.
    shared: Vec<bool>,
    pub(super) functions: Functions,
    pub(super) paths: Shares<Path>,
    pub(super) drops: Shares<Place>,
    pub(super) steps: FxHashMap<(At, At), Times>,
    pub(super) dropped: u64,
    /// Reused for each journey.
    path: Vec<(At, DeviceId)>,
}

impl Profile {
    /// A profile of the recording that `manifest` is of, as far as the probes in `common` tell.
    pub fn new(manifest: &Manifest, common: &BTreeSet<String>) -> Self {
        Self {
            shared: manifest.probes.iter().map(|probe| common.contains(&probe.name)).collect(),
            functions: Functions::default(),
            paths: Shares::default(),
            drops: Shares::default(),
            steps: FxHashMap::default(),
            dropped: 0,
            path: Vec::new(),
        }
    }

    fn is_shared(&self, probe: ProbeId) -> bool {
        self.shared.get(probe.0 as usize).copied().unwrap_or(false)
    }

    /// The layer of a step: its function's, else its probe's.
    pub(super) fn layer(&self, at: At, manifest: &Manifest) -> Layer {
        let of_probe = || manifest.probes.get(at.probe.0 as usize).map(|probe| probe.layer);
        self.functions.layer(at.function).or_else(of_probe).unwrap_or_default()
    }
}

impl Observer for Profile {
    fn sighting(&mut self, _: World<'_>, sighting: &Sighting<'_>) {
        let event = sighting.event;
        if let EventKind::Repeated { kind, count, reason, location, .. } = event.kind
            && kind == (EventKind::Free { reason, location }).tag()
            && self.is_shared(event.probe)
        {
            self.dropped += count;
            self.drops.add_counted(Place { reason, location, probe: event.probe }, count);
        }
    }

    fn closed(&mut self, world: World<'_>, journey: &ClosedJourney) {
        if journey.clone {
            return;
        }
        let mut path = std::mem::take(&mut self.path);
        path.clear();
        let mut before: Option<(u64, At)> = None;
        for step in &journey.steps {
            if !self.is_shared(step.probe) {
                continue;
            }
            let function = self.functions.of_step(step, world.manifest, world.tables);
            let at = At { probe: step.probe, function };
            if let Some((time, from)) = before {
                let known = self.steps.contains_key(&(from, at));
                if known || self.steps.len() < MOST_STEPS {
                    let times = self.steps.entry((from, at)).or_default();
                    let ns = step.at.0.saturating_sub(time);
                    times.batches.add(ns);
                    times.samples.add(ns);
                }
            }
            before = Some((step.at.0, at));
            if path.len() < MOST_PATH {
                path.push((at, step.device));
            }
        }
        let mut place = None;
        let ending = match journey.outcome {
            Outcome::Delivered => Ending::Delivered,
            Outcome::EndNotObserved => Ending::NotObserved,
            Outcome::Dropped { reason, location } => {
                self.dropped += 1;
                let freed = |step: &&psc_formats::Event| matches!(step.kind, EventKind::Free { reason: r, .. } if r == reason);
                let probe = journey.steps.iter().rev().find(freed).map(|step| step.probe);
                place = probe.map(|probe| Place { reason, location, probe });
                Ending::Dropped(reason)
            }
        };
        self.drops.add(place, journey.id.0);
        let kind = (!path.is_empty()).then(|| (path.as_slice().into(), ending));
        self.paths.add(kind, journey.id.0);
        self.path = path;
    }
}
