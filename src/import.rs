//! `psc import`: a pcap or pcapng capture as a recording.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use anyhow::Context;
use psc_formats::archive::{RecordingId, Writer, is_archive};
use psc_formats::custody::{ParentFile, Step, hex};
use psc_formats::fact::EndFact;
use psc_formats::manifest::Origin;
use psc_formats::open::open;
use psc_formats::{Batch, Fact, Progress};
use psc_reports::units::counted;
use tempfile::NamedTempFile;

use crate::Verdict;
use crate::cli::ImportArgs;
use crate::inspect::content_hash;
use crate::output::{Console, NewFile};
use crate::source::{hold, name};

/// `psc import`.
pub(crate) fn run(args: &ImportArgs, console: Console) -> anyhow::Result<Verdict> {
    let held = hold(&args.input)?;
    let path = held.as_ref().map_or(args.input.as_path(), NamedTempFile::path);
    let mut source = open(path)?;
    anyhow::ensure!(
        source.manifest().origin == Origin::Capture && !starts_like_an_archive(path)?,
        "{} is a recording already; use it as it is, or `psc slice` for a part of it",
        name(&args.input)
    );
    let output = NewFile::create(&args.output, args.force)?;
    // Not the path: the same capture makes the same recording wherever it lies.
    let mut manifest = source.manifest().clone();
    manifest.command = format!("psc import {}", name(&args.input));
    let content = content_hash(path)?;
    let recording = RecordingId::derived(&[&content, manifest.command.as_bytes()]);
    let capture = ParentFile { recording: String::new(), hash: hex(&content) };
    manifest.custody.push(Step::new("import", "", vec![capture]));
    let failed = || format!("cannot write {}; is there space?", args.output.display());
    let mut writer =
        Writer::derived(BufWriter::new(output), &manifest, recording, &[]).with_context(failed)?;

    let bar = console.bar("importing", source.position().map(|(_, total)| total));
    let mut batch = Batch::default();
    let mut packets = 0;
    let mut skipped = Vec::new();
    let mut end = EndFact { reason: "end of capture".to_owned(), ..EndFact::default() };
    loop {
        batch.clear();
        let progress = source.fill(&mut batch)?;
        packets += batch.events.len() as u64;
        // The writer puts the end where it belongs, last.
        batch.facts.retain(|fact| match fact {
            Fact::End(fact) => {
                end = fact.clone();
                false
            }
            Fact::Notice(notice) => {
                skipped.push(notice.clone());
                true
            }
            _ => true,
        });
        writer.append(&batch).with_context(failed)?;
        if let Some((done, _)) = source.position() {
            bar.set_position(done);
        }
        if progress == Progress::End {
            break;
        }
    }
    bar.finish_and_clear();
    let output = writer.finish(end).with_context(failed)?;
    output.into_inner().map_err(io::IntoInnerError::into_error).with_context(failed)?.keep()?;
    for notice in &skipped {
        console.note(&format!("{}: {} ({})", name(&args.input), notice.text, notice.count));
    }
    console.note(&format!("{}: {}", args.output.display(), counted(packets, "packet", "packets")));
    Ok(Verdict::Clean)
}

fn starts_like_an_archive(path: &Path) -> anyhow::Result<bool> {
    let mut head = Vec::new();
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    io::copy(&mut io::Read::take(file, 16), &mut head)?;
    Ok(is_archive(&head))
}
