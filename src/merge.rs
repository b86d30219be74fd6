//! `psc merge`: recordings of several hosts as one, on the first one's clock.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufWriter};
use std::path::Path;

use anyhow::Context;
use psc_formats::archive::{self, Input, Parent, RecordingId, Writer};
use psc_formats::custody::Step;
use psc_formats::fact::{EndFact, LossFact, NoticeFact, Severity};
use psc_formats::manifest::{ClockKind, Layer, Origin, Probe, ProbeStatus};
use psc_formats::open::open;
use psc_formats::{Batch, EventSource, Fact, Manifest, ProbeId, Progress};
use psc_replay::merge::{Extent, Joint, Marks, Offset, Pair, Remap, align};
use psc_reports::units::{count, counted};

use crate::Verdict;
use crate::cli::evidence::MergeArgs;
use crate::cli::{Select, TextFormat};
use crate::inspect::{document, is_archive};
use crate::output::{Console, NewFile, is_dash, printable, write_stdout};
use crate::source::{name, replay};

/// Recordings merged at once: their number has to fit beside thread ids and namespace numbers.
const MOST: usize = 8;

/// One recording to be merged.
struct Part {
    label: String,
    manifest: Manifest,
    extent: Extent,
    loss: Option<LossFact>,
    closed: bool,
    marks: Marks,
    parent: Parent,
    offset: Offset,
    pairs: Vec<Pair>,
}

/// `psc merge`.
pub(crate) fn run(args: &MergeArgs, console: Console) -> anyhow::Result<Verdict> {
    anyhow::ensure!(
        (2..=MOST).contains(&args.inputs.len()),
        "psc merge takes 2 to {MOST} recordings, and {} were given",
        args.inputs.len()
    );
    let mut parts = Vec::new();
    for input in &args.inputs {
        parts.push(survey(input, console)?);
    }
    let (first, others) = parts.split_first_mut().context("there is a first recording")?;
    for other in others.iter_mut() {
        let stated = stated(&first.manifest, &other.manifest);
        (other.offset, other.pairs) = align(&first.marks, &other.marks, stated);
    }
    write(args, &parts, console)?;
    let page = match args.format {
        TextFormat::Text => text(args, &parts),
        TextFormat::Json => json(args, &parts),
    };
    if !is_dash(&args.output) {
        write_stdout(page.as_bytes())?;
    }
    Ok(Verdict::Clean)
}

/// What the clocks themselves say: the other's offset to UTC less the first one's.
fn stated(first: &Manifest, other: &Manifest) -> Option<i64> {
    let known = |manifest: &Manifest| {
        manifest.clock.kind == ClockKind::Realtime || manifest.clock.realtime_offset_ns != 0
    };
    (known(first) && known(other))
        .then(|| other.clock.realtime_offset_ns.wrapping_sub(first.clock.realtime_offset_ns))
}

/// Reads a recording for what merging must know before: how many ids it has, which packets.
fn survey(input: &Path, console: Console) -> anyhow::Result<Part> {
    anyhow::ensure!(!is_dash(input), "psc merge reads each recording twice: name files");
    anyhow::ensure!(
        is_archive(input)?,
        "{} is no recording; `psc import` makes one of a capture",
        input.display()
    );
    let mut source = open(input)?;
    let manifest = source.manifest().clone();
    let mut extent = Extent {
        probes: u16::try_from(manifest.probes.len()).unwrap_or(u16::MAX),
        ..Extent::default()
    };
    let (mut loss, mut closed) = (None, false);
    let mut batch = Batch::default();
    loop {
        batch.clear();
        let progress =
            source.fill(&mut batch).with_context(|| format!("cannot read {}", name(input)))?;
        extent.cover(&batch);
        for fact in &batch.facts {
            match fact {
                Fact::Loss(fact) => loss = Some(fact.clone()),
                Fact::End(_) => closed = true,
                _ => {}
            }
        }
        if progress == Progress::End {
            break;
        }
    }
    let mut marks = Marks::default();
    replay(input, &Select::default(), console, &mut [&mut marks])?;
    let info = archive::info(Input::open(input)?)?;
    let parent = Parent { recording: info.recording, hash: info.last_hash };
    let label =
        if manifest.host.name.is_empty() { name(input) } else { manifest.host.name.clone() };
    Ok(Part {
        label,
        manifest,
        extent,
        loss,
        closed,
        marks,
        parent,
        offset: Offset::default(),
        pairs: Vec::new(),
    })
}

/// Names of the parts, each its own.
fn labels(parts: &[Part]) -> Vec<String> {
    let mut labels: Vec<String> = Vec::new();
    for part in parts {
        let same =
            labels.iter().filter(|label| label.split('#').next() == Some(&part.label)).count();
        labels.push(if same == 0 {
            part.label.clone()
        } else {
            format!("{}#{}", part.label, same + 1)
        });
    }
    labels
}

fn write(args: &MergeArgs, parts: &[Part], console: Console) -> anyhow::Result<()> {
    let labels = labels(parts);
    let (mut manifest, mut remaps) = combined(parts, &labels);
    let total: u16 = remaps.last().map_or(0, |last| last.joints_probe.0);
    debug_assert_eq!(usize::from(total) + 1, manifest.probes.len());
    join(parts, &mut remaps);

    let parents: Vec<Parent> = parts.iter().map(|part| part.parent).collect();
    let files = parents.iter().map(|parent| parent.file()).collect();
    manifest.custody = parts.iter().flat_map(|part| part.manifest.custody.clone()).collect();
    manifest.custody.push(Step::new("merge", "", files));
    let hashes: Vec<&[u8]> = parents.iter().map(|parent| &parent.hash[..]).collect();
    let recording = RecordingId::derived(&[&[b"merge" as &[u8]], &hashes[..]].concat());

    let output = NewFile::create(&args.output, args.force)?;
    let failed = || format!("cannot write {}; is there space?", args.output.display());
    let mut writer = Writer::derived(BufWriter::new(output), &manifest, recording, &parents)
        .with_context(failed)?;
    for (part, label) in parts.iter().zip(&labels).skip(1) {
        let notice = NoticeFact {
            at: 0,
            severity: if part.offset.contradicts() { Severity::Error } else { Severity::Info },
            text: aligned(part, label, &labels[0]),
            count: 1,
        };
        writer.append_fact(&Fact::Notice(notice)).with_context(failed)?;
    }
    let bar = console.bar("merging", None);
    let mut sources = Vec::new();
    for input in &args.inputs {
        sources.push((open(input)?, 0_u64, false));
    }
    let mut batch = Batch::default();
    // The one that is furthest behind goes on, so that what a sorter has to hold stays small.
    while let Some(index) = sources
        .iter()
        .enumerate()
        .filter(|(_, (_, _, ended))| !ended)
        .min_by_key(|(index, (_, complete_to, _))| (*complete_to, *index))
        .map(|(index, _)| index)
    {
        batch.clear();
        let (source, complete_to, ended) = &mut sources[index];
        *ended = source.fill(&mut batch)? == Progress::End;
        remaps[index].batch(&mut batch);
        *complete_to = batch.complete_to.map_or(*complete_to, |at| at.0.max(*complete_to));
        if *ended {
            *complete_to = u64::MAX;
        }
        // Complete is what all have reached.
        let reached = sources.iter().map(|(_, complete_to, _)| *complete_to).min().unwrap_or(0);
        batch.complete_to = (reached > 0 && reached < u64::MAX).then_some(psc_formats::Ns(reached));
        writer.append(&batch).with_context(failed)?;
        bar.tick();
    }
    bar.finish_and_clear();
    // Where one does not know what it lost, all together do not.
    if parts.iter().all(|part| part.loss.is_some()) {
        let mut loss = LossFact::default();
        for (part, remap) in parts.iter().zip(&remaps) {
            if let Some(own) = &part.loss {
                remap.add_loss(&mut loss, own);
            }
        }
        writer.append_fact(&Fact::Loss(loss)).with_context(failed)?;
    }
    let reason = if parts.iter().all(|part| part.closed) {
        "merged"
    } else {
        "merge of recordings of which one is unclosed"
    };
    let end = EndFact { reason: reason.to_owned(), ..EndFact::default() };
    let output = writer.finish(end).with_context(failed)?;
    output.into_inner().map_err(io::IntoInnerError::into_error).with_context(failed)?.keep()
}

/// One manifest of all, and where each part's ids go.
fn combined(parts: &[Part], labels: &[String]) -> (Manifest, Vec<Remap>) {
    let first = &parts[0].manifest;
    let mut manifest = Manifest {
        origin: Origin::Merge,
        psc_version: env!("CARGO_PKG_VERSION").to_owned(),
        command: "psc merge".to_owned(),
        clock: first.clock.clone(),
        host: first.host.clone(),
        drop_reasons: first.drop_reasons.clone(),
        reset_reasons: first.reset_reasons.clone(),
        snaplen: parts.iter().filter_map(|part| part.manifest.snaplen).min(),
        stacks: first.stacks.clone(),
        ..Manifest::default()
    };
    manifest.host.name = labels.join(" + ");
    let mut base = Extent::default();
    let mut remaps = Vec::new();
    for (number, (part, label)) in parts.iter().zip(labels).enumerate() {
        let mut reasons = BTreeMap::new();
        for (reason, known_as) in &part.manifest.drop_reasons {
            if manifest.drop_reasons.get(reason) == Some(known_as) {
                continue;
            }
            let same = manifest.drop_reasons.iter().find(|(_, name)| *name == known_as);
            let same = same.map(|(reason, _)| *reason);
            let to = same.unwrap_or_else(|| {
                // Above what any kernel has.
                let free = manifest.drop_reasons.keys().next_back().map_or(0, |last| last + 1);
                let free = free.max(1 << 20);
                manifest.drop_reasons.insert(free, known_as.clone());
                free
            });
            reasons.insert(*reason, to);
        }
        remaps.push(Remap {
            number: number as u8,
            base,
            offset: part.offset.chosen,
            host: label.clone(),
            reasons,
            ..Remap::default()
        });
        base = base.and(part.extent);
        manifest.probes.extend(part.manifest.probes.iter().cloned());
        manifest.probes.resize(usize::from(base.probes), Probe::default());
        let spots = part.manifest.blind_spots.iter().map(|spot| format!("{label}: {spot}"));
        manifest.blind_spots.extend(spots);
    }
    let joints = ProbeId(base.probes);
    manifest.probes.push(Probe {
        name: "psc:merge".to_owned(),
        method: "merge".to_owned(),
        layer: Layer::Driver,
        status: ProbeStatus::Attached,
    });
    for remap in &mut remaps {
        remap.joints_probe = joints;
    }
    (manifest, remaps)
}

/// Says at each packet that left for another recording which skb it is there.
fn join(parts: &[Part], remaps: &mut [Remap]) {
    for (number, part) in parts.iter().enumerate().skip(1) {
        for pair in &part.pairs {
            let (from, to) = if pair.forward { (0, number) } else { (number, 0) };
            let skb = remaps[to].skb(pair.received.skb);
            remaps[from].joints.insert((pair.sent.cpu, pair.sent.seq), Joint { skb });
        }
    }
}

fn shown(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let ns = ns.unsigned_abs();
    format!("{sign}{}.{:09} s", ns / 1_000_000_000, ns % 1_000_000_000)
}

/// How two clocks were brought together, in a sentence.
fn aligned(part: &Part, label: &str, first: &str) -> String {
    let offset = &part.offset;
    let (there, back) = offset.packets;
    let bounds = match (offset.lower, offset.upper) {
        _ if offset.contradicts() => format!(
            "by causality at least {} and at most {}, which cannot be: a clock was stepped or drifted, or packets \
             were taken for each other",
            shown(offset.lower.unwrap_or_default()),
            shown(offset.upper.unwrap_or_default())
        ),
        (Some(lower), Some(upper)) => {
            format!("by causality between {} and {}", shown(lower), shown(upper))
        }
        (Some(lower), None) => {
            format!("by causality at least {}, from above unbounded", shown(lower))
        }
        (None, Some(upper)) => {
            format!("by causality at most {}, from below unbounded", shown(upper))
        }
        (None, None) => "not bounded: no packet was seen by both".to_owned(),
    };
    let stated = offset.stated.map_or("clocks that say nothing of UTC".to_owned(), |stated| {
        format!("{} by the clocks themselves", shown(stated))
    });
    format!(
        "clock of {label}: {} added to be on that of {first}; {bounds} ({there} packets there, {back} back); {stated}",
        shown(offset.chosen)
    )
}

fn text(args: &MergeArgs, parts: &[Part]) -> String {
    let labels = labels(parts);
    let mut page = format!(
        "{}: {} on the clock of {}\n",
        printable(&name(&args.output)),
        counted(parts.len() as u64, "recording", "recordings"),
        printable(&labels[0])
    );
    for (part, label) in parts.iter().zip(&labels).skip(1) {
        let _ = writeln!(page, "  {}", printable(&aligned(part, label, &labels[0])));
        let joined = count(part.pairs.len() as u64);
        let _ = writeln!(page, "  {joined} packets joined with those of {}", printable(label));
    }
    page
}

fn json(args: &MergeArgs, parts: &[Part]) -> String {
    let labels = labels(parts);
    let rows: Vec<_> = parts
        .iter()
        .zip(&labels)
        .map(|(part, label)| {
            let offset = &part.offset;
            serde_json::json!({
                "host": label,
                "recording": part.parent.recording.to_string(),
                "offset_ns": offset.chosen,
                "lower_ns": offset.lower,
                "upper_ns": offset.upper,
                "stated_ns": offset.stated,
                "uncertainty_ns": offset.uncertainty(),
                "contradicts": offset.contradicts(),
                "packets_there": offset.packets.0,
                "packets_back": offset.packets.1,
                "joined": part.pairs.len(),
            })
        })
        .collect();
    document(&serde_json::json!({
        "schema": 1,
        "kind": "merge",
        "output": name(&args.output),
        "recordings": rows,
    }))
}
