//! Events per second on one core, in this process: written, decoded, turned into journeys.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use psc_formats::archive::{Reader, Writer};
use psc_formats::fact::EndFact;
use psc_formats::{Batch, EventSource, Manifest, Progress};
use psc_replay::engine::{self, Selection};

use super::stats::median;

/// Each rate is measured this often; the table has the median and the range.
const REPEATS: usize = 7;

/// A table of rates for each recording.
pub(super) fn measure(recordings: &[PathBuf]) -> Result<String> {
    let mut text = format!(
        "## Events per second, one core\n\nMedian of {REPEATS} (least to most), million events a \
         second; file in the page cache.\n\n\
         | recording | events | written | decoded | decoded and joined into journeys |\n\
         |---|---|---|---|---|\n"
    );
    // One worker: the rate per core is what is asked.
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    for path in recordings {
        let row = one.install(|| row(path)).with_context(|| path.display().to_string())?;
        writeln!(text, "{row}")?;
    }
    Ok(text)
}

fn row(path: &Path) -> Result<String> {
    let (manifest, batches) = load(path)?;
    let events: usize = batches.iter().map(|batch| batch.events.len()).sum();
    let written = rate(events, || {
        let mut writer = Writer::new(std::io::sink(), &manifest)?;
        for batch in &batches {
            writer.append(batch)?;
        }
        writer.finish(EndFact::default())?;
        Ok(())
    })?;
    let decoded = rate(events, || {
        let mut reader = Reader::open(path)?;
        let mut batch = Batch::default();
        let mut seen = 0;
        loop {
            batch.clear();
            let progress = reader.fill(&mut batch)?;
            seen += batch.events.len();
            if progress == Progress::End {
                break;
            }
        }
        anyhow::ensure!(seen == events, "decoded {seen} of {events} events");
        Ok(())
    })?;
    let joined = rate(events, || {
        let mut reader = Reader::open(path)?;
        engine::run(&mut reader, &Selection::default(), &mut [])?;
        Ok(())
    })?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(format!("| {name} | {events} | {written} | {decoded} | {joined} |"))
}

fn load(path: &Path) -> Result<(Manifest, Vec<Batch>)> {
    let mut reader = Reader::open(path)?;
    let manifest = reader.manifest().clone();
    let mut batches = Vec::new();
    loop {
        let mut batch = Batch::default();
        let progress = reader.fill(&mut batch)?;
        batches.push(batch);
        if progress == Progress::End {
            return Ok((manifest, batches));
        }
    }
}

/// `median (least to most)` in million events a second.
fn rate(events: usize, mut work: impl FnMut() -> Result<()>) -> Result<String> {
    work()?;
    let mut rates = Vec::with_capacity(REPEATS);
    for _ in 0..REPEATS {
        let before = Instant::now();
        work()?;
        rates.push(events as f64 / before.elapsed().as_secs_f64() / 1e6);
    }
    let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let most = rates.iter().copied().fold(0.0, f64::max);
    Ok(format!("{:.2} ({least:.2} to {most:.2})", median(&rates)))
}
