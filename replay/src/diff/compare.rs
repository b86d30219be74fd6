//! From two profiles to the view.

use std::collections::{BTreeMap, BTreeSet};

use psc_formats::Manifest;
use psc_formats::event::DeviceId;
use psc_formats::manifest::ProbeStatus;

use super::batches::{Counts, whole};
use super::profile::{At, Ending, Times};
use super::shares::{Batching, Share};
use super::significance as chance;
use super::{Options, Side, common_probes};
use crate::view::diff::{
    DiffCommon, DiffJourneys, DiffMethod, DiffView, DropChange, PathChange, StepChange, StepEnd,
};
use crate::view::trace::PathStep;

/// Moves of a percentile below this are not called one, nanoseconds: reading the clock takes as long.
const LEAST_MOVE: u64 = 100;

/// Compares two recordings.
pub fn compare(base: Side, new: Side, options: &Options) -> DiffView {
    let common = common(&base, &new);
    let mut view = DiffView {
        base: base.pass.provenance.clone(),
        new: new.pass.provenance.clone(),
        journeys: DiffJourneys {
            base: base.profile.paths.total(),
            new: new.profile.paths.total(),
            base_dropped: base.profile.dropped,
            new_dropped: new.profile.dropped,
        },
        ..DiffView::default()
    };
    let (a, b) = (Named::of(base, &common), Named::of(new, &common));
    let mut drops = drops(&a, &b);
    let mut paths = paths(&a, &b);
    let mut steps = steps(a.steps, b.steps, &mut view, options);

    // One correction over all lists: each row is a chance to be wrong.
    let every = drops.iter().map(|(_, p)| *p).chain(paths.iter().map(|(_, p)| *p));
    let mut chances: Vec<f64> = every.chain(steps.iter().map(|(_, p)| *p)).collect();
    chance::correct(&mut chances);
    let mut corrected = chances.iter().copied();
    let level = options.false_discovery;
    for ((row, _), p) in drops.iter_mut().zip(corrected.by_ref()) {
        (row.chance, row.significant) = (round(p), p < level);
    }
    for ((row, _), p) in paths.iter_mut().zip(corrected.by_ref()) {
        (row.chance, row.significant) = (round(p), p < level);
    }
    steps.iter_mut().zip(corrected.by_ref()).for_each(|((row, _), p)| row.chance = p);

    // What both have is a change only beyond chance; what only one has is told, with its chance.
    let told = |change: &str, significant| significant || !matches!(change, "more" | "fewer");
    let compared = (drops.len(), paths.len(), steps.len());
    drops.retain(|(row, _)| told(&row.change, row.significant));
    paths.retain(|(row, _)| told(&row.change, row.significant));
    steps.retain(|(row, _)| row.chance < level && !row.change.is_empty());
    view.drops_same = (compared.0 - drops.len()) as u64;
    view.paths_same = (compared.1 - paths.len()) as u64;
    // Two comparisons a step, of which at most one is told.
    view.steps_same = (compared.2 / 2 - steps.len()) as u64;
    view.significant = (drops.iter().filter(|(row, _)| row.significant).count()
        + paths.iter().filter(|(row, _)| row.significant).count()
        + steps.len()) as u64;

    view.drops = drops.into_iter().map(|(row, _)| row).collect();
    view.drops.sort_by(|x, y| {
        let order = (y.significant, y.base.max(y.new)).cmp(&(x.significant, x.base.max(x.new)));
        order.then_with(|| (&x.reason, &x.function).cmp(&(&y.reason, &y.function)))
    });
    view.paths = paths.into_iter().map(|(row, _)| row).collect();
    view.paths.sort_by(|x, y| {
        let order = (y.significant, y.base.max(y.new)).cmp(&(x.significant, x.base.max(x.new)));
        order.then_with(|| (&x.steps, &x.outcome).cmp(&(&y.steps, &y.outcome)))
    });
    view.paths_omitted = cut(&mut view.paths, options.limit);
    view.steps =
        steps.into_iter().map(|(row, _)| StepChange { chance: round(row.chance), ..row }).collect();
    view.steps.sort_by(|x, y| {
        // What was lost or won altogether: a rare step that moved far matters less.
        let weight =
            |row: &StepChange| u128::from(row.shift_ns.unsigned_abs()) * u128::from(row.new.count);
        weight(y).cmp(&weight(x)).then_with(|| (&x.from, &x.to).cmp(&(&y.from, &y.to)))
    });
    view.steps_omitted = cut(&mut view.steps, options.limit);
    view.common = common;
    view.method = method(options, chances.len());
    view
}

fn cut<T>(rows: &mut Vec<T>, limit: usize) -> u64 {
    let over = rows.len().saturating_sub(limit);
    rows.truncate(limit);
    over as u64
}

/// Four significant digits: what is beyond is not the same on every processor.
fn round(p: f64) -> f64 {
    format!("{p:.3e}").parse().unwrap_or(p)
}

fn method(options: &Options, comparisons: usize) -> DiffMethod {
    DiffMethod {
        false_discovery: options.false_discovery,
        threshold: options.threshold,
        comparisons: comparisons as u64,
        tests: [
            "Times: Brunner-Munzel rank test between batches of consecutive packets (Brunner and \
             Munzel 2000; batches as clusters, Obuchowski 1997); the 99th percentile by Welch's test of \
             the share of each batch above the base's.",
            "Counts: for what only one recording has, Fisher's exact test; else the larger of the score \
             test of two proportions and Welch's test between batches.",
            "All of them corrected together for their number (Benjamini and Hochberg 1995).",
            "This knows the noise within the two recordings, not what differs between any two runs: \
             compare two recordings of one setup to see that.",
        ]
        .map(str::to_owned)
        .to_vec(),
    }
}

fn common(base: &Side, new: &Side) -> DiffCommon {
    let shared = common_probes(&base.manifest, &new.manifest);
    let only = |manifest: &Manifest| -> Vec<String> {
        let attached = manifest.probes.iter().filter(|p| p.status == ProbeStatus::Attached);
        let names = attached.map(|probe| probe.name.clone());
        names.filter(|name| !shared.contains(name)).collect::<BTreeSet<_>>().into_iter().collect()
    };
    let names = |side: &Side| -> BTreeSet<String> {
        side.pass.tables.devices.values().map(|device| device.name.clone()).collect()
    };
    let stacks = |side: &Side| {
        let share = side.pass.provenance.completeness.stacks;
        share.observed + share.confirmed + share.contradicted + share.inferred > 0
    };
    let mut notes = Vec::new();
    for (which, side) in [("base", base), ("new", new)] {
        if side.pass.provenance.completeness.lost.is_some_and(|lost| lost > 0) {
            notes.push(format!(
                "The {which} recording lost events: a path may seem to end early for that."
            ));
        }
        if side.profile.paths.uncounted > 0 {
            notes.push(format!("The {which} recording has more kinds of path than are kept."));
        }
    }
    let (kernel, other) = (&base.manifest.host.kernel, &new.manifest.host.kernel);
    if kernel != other {
        notes.push(format!("Kernels differ: {kernel} and {other}; functions may only be renamed."));
    }
    if base.manifest.filter != new.manifest.filter {
        notes.push("The two were recorded with different filters.".to_owned());
    }
    if !stacks(base) || !stacks(new) {
        notes.push("One has no kernel stacks: functions are not compared.".to_owned());
    }
    // Loopback is everywhere and tells nothing.
    let both = names(base).intersection(&names(new)).any(|name| name != "lo");
    let lo_only = names(base).iter().chain(&names(new)).all(|name| name == "lo");
    let devices = both || lo_only;
    if !devices {
        notes.push("The two share no device name: devices are not compared.".to_owned());
    }
    DiffCommon {
        probes: shared.len() as u64,
        only_base: only(&base.manifest),
        only_new: only(&new.manifest),
        functions: stacks(base) && stacks(new),
        devices,
        notes,
    }
}

/// A path in words.
type PathName = (Vec<PathStep>, String);
/// Reason, layer, function.
type DropName = (String, String, String);

/// A profile by names, which mean the same in both recordings.
struct Named {
    paths: BTreeMap<PathName, Share>,
    path_total: u64,
    path_batching: Batching,
    drops: BTreeMap<DropName, Share>,
    drop_total: u64,
    drop_batching: Batching,
    steps: BTreeMap<(StepEnd, StepEnd), Times>,
}

impl Named {
    fn of(side: Side, common: &DiffCommon) -> Self {
        let Side { manifest, pass, mut profile } = side;
        let tables = &pass.tables;
        let (paths, drops) =
            (std::mem::take(&mut profile.paths), std::mem::take(&mut profile.drops));
        let timed = std::mem::take(&mut profile.steps);
        let end = |at: At| StepEnd {
            layer: if common.functions {
                profile.layer(at, &manifest)
            } else {
                manifest.probes.get(at.probe.0 as usize).map(|p| p.layer).unwrap_or_default()
            }
            .name()
            .to_owned(),
            probe: manifest.probe_name(at.probe).to_owned(),
            function: if common.functions {
                profile.functions.name(at.function).to_owned()
            } else {
                String::new()
            },
        };
        let device = |id: DeviceId| match id {
            DeviceId(0) => String::new(),
            id if common.devices => tables.device_name(id).to_owned(),
            _ => String::new(),
        };
        let mut named = Self {
            paths: BTreeMap::new(),
            path_total: paths.total(),
            path_batching: paths.batching(),
            drops: BTreeMap::new(),
            drop_total: drops.total(),
            drop_batching: drops.batching(),
            steps: BTreeMap::new(),
        };
        for ((path, ending), share) in paths.into_kinds() {
            let steps = path.iter().map(|&(at, on)| {
                let StepEnd { layer, probe, function } = end(at);
                PathStep { layer, probe, function, device: device(on) }
            });
            let outcome = match ending {
                Ending::Delivered => "delivered".to_owned(),
                Ending::Dropped(reason) => format!("dropped: {}", manifest.drop_reason(reason)),
                Ending::NotObserved => "end not observed".to_owned(),
            };
            named.paths.entry((steps.collect(), outcome)).or_default().append(share);
        }
        for (place, share) in drops.into_kinds() {
            let name = tables.function(place.location);
            let function = name.split('.').next().unwrap_or(name).to_owned();
            let layer = crate::layers::of_function(&function)
                .or_else(|| manifest.probes.get(place.probe.0 as usize).map(|probe| probe.layer))
                .unwrap_or_default();
            let key = (manifest.drop_reason(place.reason), layer.name().to_owned(), function);
            named.drops.entry(key).or_default().append(share);
        }
        // In the order of names, so that what becomes one does so alike in every run.
        let mut timed: Vec<_> =
            timed.into_iter().map(|((from, to), times)| (from, to, times)).collect();
        timed.sort_by_key(|(from, to, _)| (from.probe, from.function, to.probe, to.function));
        for (from, to, times) in timed {
            let known = named.steps.entry((end(from), end(to))).or_default();
            known.batches.append(times.batches);
            known.samples.append(times.samples);
        }
        named
    }
}

/// A kind's count in both recordings.
struct Counted<'a> {
    base: Option<&'a Share>,
    new: Option<&'a Share>,
}

impl Counted<'_> {
    fn counts(&self) -> (u64, u64) {
        let count = |share: Option<&Share>| share.map_or(0, |share| share.count);
        (count(self.base), count(self.new))
    }

    /// The change, how likely chance is, and the example that shows it.
    fn change(
        &self,
        of: (u64, u64),
        batching: (Batching, Batching),
        [gone, new]: [&str; 2],
    ) -> (String, f64, Option<u64>) {
        let (before, after) = self.counts();
        let more = u128::from(after) * u128::from(of.0) > u128::from(before) * u128::from(of.1);
        let (word, p) = match (before, after) {
            (0, _) => (new, chance::of_absence(after, of.1, of.0)),
            (_, 0) => (gone, chance::of_absence(before, of.0, of.1)),
            _ => {
                let packets = chance::of_shares((before, of.0), (after, of.1));
                let (base, new) = (batching.0.of(self.base), batching.1.of(self.new));
                let batches = chance::of_means(&base, &new).unwrap_or(1.0);
                (if more { "more" } else { "fewer" }, packets.max(batches))
            }
        };
        let example = if more { self.new } else { self.base };
        (word.to_owned(), p, example.and_then(|share| share.example))
    }
}

fn drops(before: &Named, after: &Named) -> Vec<(DropChange, f64)> {
    let names: BTreeSet<&DropName> = before.drops.keys().chain(after.drops.keys()).collect();
    let totals = (before.drop_total, after.drop_total);
    let batching = (before.drop_batching, after.drop_batching);
    names
        .into_iter()
        .map(|name| {
            let counted = Counted { base: before.drops.get(name), new: after.drops.get(name) };
            let (change, p, example) = counted.change(totals, batching, ["gone", "new"]);
            let (reason, layer, function) = name.clone();
            let (base, new) = counted.counts();
            let row = DropChange {
                change,
                reason,
                layer,
                function,
                base,
                new,
                example,
                ..DropChange::default()
            };
            (row, p)
        })
        .collect()
}

fn paths(before: &Named, after: &Named) -> Vec<(PathChange, f64)> {
    let names: BTreeSet<&PathName> = before.paths.keys().chain(after.paths.keys()).collect();
    let totals = (before.path_total, after.path_total);
    let batching = (before.path_batching, after.path_batching);
    names
        .into_iter()
        .map(|name| {
            let counted = Counted { base: before.paths.get(name), new: after.paths.get(name) };
            let (change, p, example) = counted.change(totals, batching, ["vanished", "appeared"]);
            let (steps, outcome) = name.clone();
            let ((base, new), example) = (counted.counts(), example.unwrap_or(0));
            let row =
                PathChange { change, steps, outcome, base, new, example, ..PathChange::default() };
            (row, p)
        })
        .collect()
}

/// Steps that both have often enough, each with the test of its median and that of its tail: two
/// comparisons, of which the one that moved is told.
fn steps(
    mut a: BTreeMap<(StepEnd, StepEnd), Times>,
    b: BTreeMap<(StepEnd, StepEnd), Times>,
    view: &mut DiffView,
    options: &Options,
) -> Vec<(StepChange, f64)> {
    let mut rows = Vec::new();
    for ((from, to), new) in b {
        let Some(base) = a.remove(&(from.clone(), to.clone())) else { continue };
        let (before, after) = (base.samples.latency(), new.samples.latency());
        let (base, new) = (base.batches.finish(), new.batches.finish());
        let (whole_base, whole_new) = (whole(&base), whole(&new));
        let in_base: Vec<f64> = base.iter().map(|batch| batch.exceeded_by(&whole_new)).collect();
        let in_new: Vec<f64> = new.iter().map(|batch| whole_base.exceeded_by(batch)).collect();
        let Some((superiority, p)) = chance::of_ranks(&in_base, &in_new) else {
            view.steps_untold += 1;
            continue;
        };
        let limit = whole_base.bucket_at(0.99);
        let above = |batches: &[Counts]| -> Vec<f64> {
            batches.iter().map(|batch| batch.share_above(limit)).collect()
        };
        let tail = chance::of_means(&above(&base), &above(&new)).unwrap_or(1.0);
        let moved = |was: u64, is: u64| {
            let by = was.abs_diff(is);
            by >= LEAST_MOVE && by as f64 >= was as f64 * options.threshold
        };
        let row = StepChange {
            from,
            to,
            base: before,
            new: after,
            superiority: round(superiority),
            ..StepChange::default()
        };
        let shift = |was: u64, is: u64| (i128::from(is) - i128::from(was)) as i64;
        let median =
            moved(before.p50, after.p50) && (after.p50 > before.p50) == (superiority > 0.5);
        let by_median = StepChange {
            change: match (median, after.p50 > before.p50) {
                (false, _) => "",
                (true, true) => "slower",
                (true, false) => "faster",
            }
            .to_owned(),
            shift_ns: shift(before.p50, after.p50),
            ..row.clone()
        };
        // A median that moved takes the tail with it: told once.
        let told = median && p < options.false_discovery;
        let by_tail = StepChange {
            change: match (moved(before.p99, after.p99) && !told, after.p99 > before.p99) {
                (false, _) => "",
                (true, true) => "slower tail",
                (true, false) => "faster tail",
            }
            .to_owned(),
            shift_ns: shift(before.p99, after.p99),
            ..row
        };
        rows.push((by_median, p));
        rows.push((by_tail, tail));
    }
    rows
}
