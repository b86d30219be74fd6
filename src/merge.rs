//! `psc merge`: recordings of several hosts as one, on the first one's clock.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use anyhow::Context;
use psc_formats::archive::{self, Input, Parent, RecordingId, Writer};
use psc_formats::custody::Step;
use psc_formats::fact::{EndFact, LossFact, NoticeFact, Severity};
use psc_formats::manifest::{ClockKind, Layer, Origin, Probe, ProbeStatus};
use psc_formats::open::open;
use psc_formats::{Batch, EventSource, Fact, Manifest, ProbeId, Progress};
use psc_replay::merge::{Alignment, Extent, Joint, Marks, Offset, Remap, align};
use psc_reports::units::counted;

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
    name_apart(&mut parts, &args.inputs);
    let stated: Vec<Option<i64>> =
        parts.iter().map(|part| stated(&parts[0].manifest, &part.manifest)).collect();
    let marks: Vec<&Marks> = parts.iter().map(|part| &part.marks).collect();
    let clocks = align(&marks, &stated);
    write(args, &parts, &clocks, console)?;
    let page = match args.format {
        TextFormat::Text => text(args, &parts, &clocks),
        TextFormat::Json => json(args, &parts, &clocks),
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
    Ok(Part { label, manifest, extent, loss, closed, marks, parent })
}

/// Gives each part a name of its own: the host's, or where several share that, the file's, or a number.
fn name_apart(parts: &mut [Part], inputs: &[PathBuf]) {
    let shared =
        |parts: &[Part], label: &str| parts.iter().filter(|part| part.label == label).count() > 1;
    let own: Vec<bool> = parts.iter().map(|part| !shared(parts, &part.label)).collect();
    for ((part, input), own) in parts.iter_mut().zip(inputs).zip(own) {
        let stem = input.file_stem().filter(|stem| !stem.is_empty());
        if let Some(stem) = stem.filter(|_| !own) {
            part.label = stem.to_string_lossy().into_owned();
        }
    }
    for index in 1..parts.len() {
        let base = parts[index].label.clone();
        let mut number = 1;
        while parts[..index].iter().any(|before| before.label == parts[index].label) {
            number += 1;
            parts[index].label = format!("{base}#{number}");
        }
    }
}

fn write(
    args: &MergeArgs,
    parts: &[Part],
    clocks: &Alignment,
    console: Console,
) -> anyhow::Result<()> {
    let (mut manifest, mut remaps) = combined(parts, clocks);
    let total: u16 = remaps.last().map_or(0, |last| last.joints_probe.0);
    debug_assert_eq!(usize::from(total) + 1, manifest.probes.len());
    join(clocks, &mut remaps);

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
    for (part, offset) in parts.iter().zip(&clocks.offsets).skip(1) {
        let notice = NoticeFact {
            at: 0,
            severity: if offset.contradicts() { Severity::Error } else { Severity::Info },
            text: aligned(offset, &part.label, &parts[0].label),
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
fn combined(parts: &[Part], clocks: &Alignment) -> (Manifest, Vec<Remap>) {
    let labels: Vec<&str> = parts.iter().map(|part| part.label.as_str()).collect();
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
    for (number, (part, offset)) in parts.iter().zip(&clocks.offsets).enumerate() {
        let label = &part.label;
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
            offset: offset.chosen,
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
fn join(clocks: &Alignment, remaps: &mut [Remap]) {
    for pair in &clocks.pairs {
        let (earlier, later) = clocks.doubt(pair.from, pair.to);
        let skb = remaps[pair.to].skb(pair.received.skb);
        let arrival = remaps[pair.to].time(pair.received.at.0);
        // Where the clocks contradict each other, a packet may seem to come before it was sent: no journey.
        if arrival >= remaps[pair.from].time(pair.sent.at.0) {
            let joint = Joint { skb, arrival, earlier, later };
            remaps[pair.from].joints.insert((pair.sent.cpu, pair.sent.seq), joint);
        }
    }
}

fn shown(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let ns = ns.unsigned_abs();
    format!("{sign}{}.{:09} s", ns / 1_000_000_000, ns % 1_000_000_000)
}

/// How two clocks were brought together, in a sentence.
fn aligned(offset: &Offset, label: &str, first: &str) -> String {
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
        (None, None) => "not bounded: no packet of its own was seen by another".to_owned(),
    };
    let stated = offset.stated.map_or("clocks that say nothing of UTC".to_owned(), |stated| {
        format!("{} by the clocks themselves", shown(stated))
    });
    format!(
        "clock of {label}: {} added to be on that of {first}; {bounds} ({} came to it from others, {back} left it for \
         others); {stated}",
        shown(offset.chosen),
        counted(there, "packet", "packets"),
    )
}

/// Packets from one recording to another, by both.
fn ways(clocks: &Alignment) -> BTreeMap<(usize, usize), u64> {
    let mut ways = BTreeMap::new();
    for pair in &clocks.pairs {
        *ways.entry((pair.from, pair.to)).or_default() += 1;
    }
    ways
}

fn text(args: &MergeArgs, parts: &[Part], clocks: &Alignment) -> String {
    let first = &parts[0].label;
    let mut page = format!(
        "{}: {} on the clock of {}\n",
        printable(&name(&args.output)),
        counted(parts.len() as u64, "recording", "recordings"),
        printable(first)
    );
    for (part, offset) in parts.iter().zip(&clocks.offsets).skip(1) {
        let _ = writeln!(page, "  {}", printable(&aligned(offset, &part.label, first)));
    }
    let ways = ways(clocks);
    for (&(from, to), &packets) in &ways {
        let [from, to] = [from, to].map(|part| printable(&parts[part].label));
        let packets = counted(packets, "packet", "packets");
        let _ = writeln!(page, "  {packets} left {from} and came to {to}");
    }
    if ways.is_empty() {
        page += "  no packet is in two of them: did the hosts speak to each other, and were both recorded then?\n";
    }
    page
}

fn json(args: &MergeArgs, parts: &[Part], clocks: &Alignment) -> String {
    let rows: Vec<_> = parts
        .iter()
        .zip(&clocks.offsets)
        .enumerate()
        .map(|(number, (part, offset))| {
            let joined =
                clocks.pairs.iter().filter(|pair| pair.from == number || pair.to == number);
            serde_json::json!({
                "host": part.label,
                "recording": part.parent.recording.to_string(),
                "offset_ns": offset.chosen,
                "lower_ns": offset.lower,
                "upper_ns": offset.upper,
                "stated_ns": offset.stated,
                "uncertainty_ns": offset.uncertainty(),
                "contradicts": offset.contradicts(),
                "packets_there": offset.packets.0,
                "packets_back": offset.packets.1,
                "joined": joined.count(),
            })
        })
        .collect();
    let ways: Vec<_> = ways(clocks)
        .into_iter()
        .map(|((from, to), packets)| {
            let (earlier, later) = clocks.doubt(from, to);
            serde_json::json!({
                "from": parts[from].label,
                "to": parts[to].label,
                "packets": packets,
                "earlier_ns": earlier,
                "later_ns": later,
            })
        })
        .collect();
    document(&serde_json::json!({
        "schema": 1,
        "kind": "merge",
        "output": name(&args.output),
        "recordings": rows,
        "ways": ways,
    }))
}
