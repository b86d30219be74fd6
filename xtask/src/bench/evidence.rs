//! What evidence costs: verifying against reading, and a window out of a large archive.

use std::fmt::Write as _;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use psc_formats::archive::{self, Input, Reader, Writer};
use psc_formats::fact::EndFact;
use psc_formats::{Batch, EventSource, Ns, Progress};

use super::stats::median;

/// Size of the archive that a window is taken out of.
const LARGE: u64 = 1 << 30;
/// The window.
const WINDOW_NS: u64 = 10_000_000_000;
const REPEATS: usize = 5;

/// A table for one recording, repeated until it is large.
pub(super) fn measure(recording: &Path, folder: &Path) -> Result<String> {
    let large = folder.join("large.psc");
    let (bytes, first, last) = enlarge(recording, &large)?;
    let read = timed(|| {
        let mut reader = Reader::open(&large)?;
        let mut batch = Batch::default();
        loop {
            batch.clear();
            if reader.fill(&mut batch)? == Progress::End {
                return Ok(());
            }
        }
    })?;
    let verified = timed(|| {
        let report = archive::verify(Input::open(&large)?)?;
        anyhow::ensure!(
            report.state == archive::State::Closed,
            "verify: {:?}",
            report.problems.first()
        );
        Ok(())
    })?;
    let middle = first + (last - first) / 2;
    let window = Ns(middle)..Ns(middle + WINDOW_NS);
    let mut kept = (0, 0);
    let sliced = timed(|| {
        let file = BufWriter::new(File::create(folder.join("window.psc"))?);
        let input = Input::open(&large)?;
        let (report, _) = archive::slice(input, window.clone(), "", |_, _| true, file)?;
        kept = (report.kept, report.seen);
        Ok(())
    })?;
    let of = std::fs::metadata(folder.join("window.psc"))?.len();
    std::fs::remove_file(&large)?;
    let threads = rayon::current_num_threads();
    let mut text = format!(
        "## Evidence\n\nAn archive of {} MiB over {} s, {threads} threads, file in the page cache; median of \
         {REPEATS}.\n\n| what | seconds | MiB/s stored |\n|---|---|---|\n",
        bytes >> 20,
        (last - first) / 1_000_000_000
    );
    for (what, seconds) in [("read", read), ("verify", verified)] {
        writeln!(text, "| {what} | {seconds:.2} | {:.0} |", (bytes >> 20) as f64 / seconds)?;
    }
    writeln!(text, "| slice of 10 s | {sliced:.2} | |")?;
    writeln!(
        text,
        "\nVerify runs at {:.0} % of the speed of reading. The slice kept {} of {} events in the frames that it \
         touched, {} MiB.",
        read / verified * 100.0,
        kept.0,
        kept.1,
        of >> 20
    )?;
    Ok(text)
}

fn timed(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    work()?;
    let mut took = Vec::new();
    for _ in 0..REPEATS {
        let started = Instant::now();
        work()?;
        took.push(started.elapsed().max(Duration::from_nanos(1)).as_secs_f64());
    }
    Ok(median(&took))
}

/// The recording again and again, each time later, until the file is large. Its size, first and last time.
fn enlarge(recording: &Path, to: &Path) -> Result<(u64, u64, u64)> {
    let mut reader = Reader::open(recording)?;
    let manifest = reader.manifest().clone();
    let mut batches = Vec::new();
    loop {
        let mut batch = Batch::default();
        let progress = reader.fill(&mut batch)?;
        batches.push(batch);
        if progress == Progress::End {
            break;
        }
    }
    let times = || batches.iter().flat_map(|batch| &batch.events).map(|event| event.at.0);
    let first = times().min().context("the recording has no event")?;
    let span = times().max().unwrap_or(first) - first + 1_000_000;
    let mut writer = Writer::new(BufWriter::new(File::create(to)?), &manifest)?;
    let (mut round, mut last) = (0u64, first);
    while writer.written() < LARGE {
        for batch in &batches {
            let mut batch = batch.clone();
            if round > 0 {
                batch.facts.clear();
            }
            for event in &mut batch.events {
                event.at = Ns(event.at.0 + round * span);
                last = last.max(event.at.0);
            }
            batch.complete_to = batch.complete_to.map(|at| Ns(at.0 + round * span));
            writer.append(&batch)?;
        }
        round += 1;
    }
    let bytes = writer.written();
    writer.finish(EndFact::default())?;
    Ok((bytes, first, last))
}
