//! The verbs that look at recordings as files: info, recover, slice.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::Context;
use psc_formats::archive::{self, FrameKind, Input, Problem, Writer};
use psc_formats::custody::Acquisition;
use psc_formats::fact::EndFact;
use psc_formats::open::open;
use psc_formats::{Batch, EventSource, Ns, Progress};
use psc_replay::census::{Census, Selected};
use psc_reports::units::{bytes, count, counted};
use tempfile::NamedTempFile;

use crate::Verdict;
use crate::cli::{InfoArgs, RecoverArgs, Select, SliceArgs, TextFormat};
use crate::evidence::custody_line;
use crate::output::{Console, NewFile, printable, write_stdout};
use crate::replay::print;
use crate::source::{hold, name, replay};
use crate::window::Rewound;

/// `psc info`.
pub(crate) fn info(args: &InfoArgs, console: Console) -> anyhow::Result<Verdict> {
    // Read twice: for what is in it, and for how it is stored.
    let held = hold(&args.input)?;
    let path = held.as_ref().map_or(args.input.as_path(), NamedTempFile::path);
    let mut census = Census::default();
    let mut replayed = replay(path, &Select::default(), console, &mut [&mut census])?;
    replayed.pass.provenance.source = name(&args.input);
    let mut view = census.finish(&replayed.manifest, &replayed.pass);
    view.acquisition = replayed.manifest.acquisition.as_ref().map(acquired).unwrap_or_default();
    view.custody = replayed.manifest.custody.iter().map(custody_line).collect();
    view.file_bytes = path.metadata().map_or(0, |meta| meta.len());
    if is_archive(path)? {
        let stored = archive::info(Input::open(path)?)?;
        view.frames = stored
            .frames
            .iter()
            .map(|(kind, of)| (kind.name().to_owned(), of.frames, of.stored, of.raw))
            .collect();
        let all: Vec<FrameKind> = stored.frames.keys().copied().collect();
        view.bytes_per_event = stored
            .bytes_per_event(&all)
            .zip(stored.bytes_per_event(&[FrameKind::Events]))
            .zip(stored.bytes_per_event(&[FrameKind::Packets]))
            .map(|((all, events), packets)| (all, events, packets));
    }
    let output = args.output.as_deref();
    print(console, args.format, output, "info", &view, psc_reports::text::info)?;
    Ok(Verdict::Clean)
}

/// The acquisition record as rows; what could not be read is left out.
fn acquired(record: &Acquisition) -> Vec<(String, String)> {
    let started = record.started_epoch_ns.parse::<i128>().ok();
    let started = started.and_then(|ns| jiff::Timestamp::from_nanosecond(ns).ok());
    let synchronised = record.clock_synchronised.map(|yes| {
        let error = record
            .clock_max_error_us
            .map_or(String::new(), |us| format!(", at most {us} µs off by the kernel's account"));
        if yes { format!("synchronised{error}") } else { format!("not synchronised{error}") }
    });
    let clock = [Some(record.clock_source.clone()).filter(|s| !s.is_empty()), synchronised];
    let rows = [
        ("user", record.user.clone()),
        ("started", started.map(|at| at.to_string()).unwrap_or_default()),
        ("kernel build", record.kernel_version.clone()),
        ("boot", record.boot_id.clone()),
        ("clock", clock.into_iter().flatten().collect::<Vec<_>>().join(", ")),
        ("program BLAKE3", record.program_blake3.clone()),
        ("file before", record.previous.as_ref().map(|p| p.recording.clone()).unwrap_or_default()),
    ];
    let known = rows.into_iter().filter(|(_, value)| !value.is_empty());
    known.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// `psc recover`.
pub(crate) fn recover(args: &RecoverArgs) -> anyhow::Result<Verdict> {
    let input = archived(&args.input)?;
    let output = NewFile::create(&args.output, args.force)?;
    let (report, output) = archive::recover(input, output)?;
    output.keep()?;
    let to = args.output.display().to_string();
    let page = match args.format {
        TextFormat::Text => {
            let mut page = format!(
                "{}: kept {} with {} in {}\n",
                printable(&name(&args.input)),
                counted(report.frames, "frame", "frames"),
                counted(report.events, "event", "events"),
                printable(&to),
            );
            if report.unfinished > 0 {
                let _ =
                    writeln!(page, "unfinished last frame left out: {}", bytes(report.unfinished));
            }
            if !report.closed {
                page.push_str("it had no end mark: the recorder was killed, or its end is lost\n");
            }
            list(&report.problems, report.problem_count, &mut page);
            page
        }
        TextFormat::Json => document(&serde_json::json!({
            "schema": 1,
            "kind": "recover",
            "source": name(&args.input),
            "output": to,
            "frames": report.frames,
            "events": report.events,
            "closed": report.closed,
            "unfinished_bytes": report.unfinished,
            "problems": texts(&report.problems),
            "problem_count": report.problem_count,
        })),
    };
    write_stdout(page.as_bytes())?;
    Ok(Verdict::Clean)
}

/// `psc slice`.
pub(crate) fn slice(args: &SliceArgs, console: Console) -> anyhow::Result<Verdict> {
    let held = hold(&args.input)?;
    let path = held.as_ref().map_or(args.input.as_path(), NamedTempFile::path);
    // A capture, or a compressed recording: sliced as a recording is.
    let made = if is_archive(path)? { None } else { Some(imported(path)?) };
    let path = made.as_ref().map_or(path, NamedTempFile::path);

    let (from, to) = match &args.select.time {
        Some(range) => Rewound::new(open(path)?).resolve(range)?,
        None => (None, None),
    };
    let selected = if args.select.filter.is_some() {
        let mut selected = Selected::default();
        replay(path, &args.select, console, &mut [&mut selected])?;
        Some(selected)
    } else {
        None
    };
    let output = NewFile::create(&args.output, args.force)?;
    let label = args.select.filter.clone().unwrap_or_default();
    let range = from.unwrap_or(Ns(0))..to.unwrap_or(Ns(u64::MAX));
    let keep = |event: &psc_formats::Event, _: &[u8]| {
        selected.as_ref().is_none_or(|selected| selected.contains(event))
    };
    let (report, output) = archive::slice(Input::open(path)?, range, &label, keep, output)?;
    output.keep()?;
    console.note(&format!(
        "{}: kept {} of {} events in reach",
        args.output.display(),
        count(report.kept),
        count(report.seen)
    ));
    for problem in &report.problems {
        console.note(&format!("{}: {problem}", name(&args.input)));
    }
    Ok(Verdict::Clean)
}

/// An archive to be read as it is stored; anything else is an error that says what it is.
pub(crate) fn archived(path: &Path) -> anyhow::Result<Input> {
    let input = Input::open(path)?;
    if path.metadata().is_ok_and(|meta| meta.is_file()) && !is_archive(path)? {
        // The start may be what is damaged: only what no frame can be found in is refused.
        if open(path).is_err() {
            anyhow::bail!(
                "{} is no recording; psc verify and psc recover read what `psc record` wrote",
                path.display()
            );
        }
    }
    Ok(input)
}

/// Whether the file starts as an archive does.
pub(crate) fn is_archive(path: &Path) -> anyhow::Result<bool> {
    let mut head = Vec::new();
    let opened = File::open(path).and_then(|file| file.take(16).read_to_end(&mut head));
    opened.with_context(|| format!("cannot open {}", path.display()))?;
    Ok(archive::is_archive(&head))
}

/// A recording made of whatever `path` is.
fn imported(path: &Path) -> anyhow::Result<NamedTempFile> {
    let mut source = open(path)?;
    let file = NamedTempFile::new().context("cannot create a temporary file")?;
    let full = || {
        format!("cannot hold {}; is there space in {}?", name(path), std::env::temp_dir().display())
    };
    let mut writer = Writer::new(file, source.manifest()).with_context(full)?;
    let mut batch = Batch::default();
    loop {
        batch.clear();
        let progress = source.fill(&mut batch)?;
        writer.append(&batch).with_context(full)?;
        if progress == Progress::End {
            return writer.finish(EndFact::default()).with_context(full);
        }
    }
}

pub(crate) fn list(problems: &[Problem], total: u64, page: &mut String) {
    for problem in problems {
        let _ = writeln!(page, "  {}", printable(&problem.to_string()));
    }
    let unlisted = total.saturating_sub(problems.len() as u64);
    if unlisted > 0 {
        let _ = writeln!(page, "  and {} more", count(unlisted));
    }
}

pub(crate) fn texts(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

pub(crate) fn document(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

/// BLAKE3 of a file.
pub(crate) fn content_hash(path: &Path) -> anyhow::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    io::copy(&mut file, &mut hasher).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(*hasher.finalize().as_bytes())
}
