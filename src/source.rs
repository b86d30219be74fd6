//! Opening what a verb reads, and running the engine over it: a file, or standard input; once, or
//! twice when a filter asks about whole journeys.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use anyhow::Context;
use indicatif::ProgressBar;
use psc_formats::open::open;
use psc_formats::{Batch, EventSource, Manifest, Progress, SourceError};
use psc_replay::engine::{self, Observer, Pass, Selection};
use tempfile::NamedTempFile;

use crate::cli::Select;
use crate::output::{BAR_AFTER, Console, is_dash};
use crate::select;
use crate::split::Split;
use crate::window::Rewound;

/// What a pass over a recording gave.
pub(crate) struct Replayed {
    /// How the recording was made.
    pub(crate) manifest: Manifest,
    /// What the pass found out.
    pub(crate) pass: Pass,
}

/// Events that [`replay`] gives the engine at once; no limit when not set.
static BATCH_LIMIT: OnceLock<usize> = OnceLock::new();

/// Gives the engine at most this many events at once from here on: for tests, since no result may
/// depend on it.
pub(crate) fn limit_batches(limit: u16) {
    BATCH_LIMIT.get_or_init(|| usize::from(limit));
}

/// Runs one pass over `input`, as far as `selected`, for `observers`.
pub(crate) fn replay(
    input: &Path,
    selected: &Select,
    console: Console,
    observers: &mut [&mut dyn Observer],
) -> anyhow::Result<Replayed> {
    let filter = selected.filter.as_deref().map(select::expression).transpose()?;
    // With a filter, a first pass finds the journeys that a second one shows whole.
    let held = if filter.is_some() { hold(input)? } else { None };
    let path = held.as_ref().map_or(input, NamedTempFile::path);

    let mut source = Rewound::new(open(path)?);
    let manifest = source.manifest().clone();
    let (from, to) = match &selected.time {
        Some(range) => source.resolve(range)?,
        None => (None, None),
    };
    let selection = Selection { filter, from, to, joined: selected.joined };
    let bar = console.bar("reading", source.position().map(|(_, total)| total));
    let mut first = Some(source);
    let mut reopen = || -> Result<Box<dyn EventSource>, SourceError> {
        let source: Box<dyn EventSource> = match first.take() {
            Some(source) => Box::new(source),
            None => open(path)?,
        };
        let source = match BATCH_LIMIT.get() {
            Some(&limit) => Box::new(Split::new(source, limit)),
            None => source,
        };
        Ok(Box::new(Watched { source, bar: bar.clone() }))
    };
    let passed = engine::run_file(&mut reopen, &selection, observers);
    bar.finish_and_clear();
    let mut pass = passed.with_context(|| format!("cannot read {}", name(input)))?;
    pass.provenance.source = name(input);
    console.detail(&format!(
        "read {}: {} events, {} with packet bytes",
        pass.provenance.source, pass.provenance.events, pass.provenance.packets
    ));
    Ok(Replayed { manifest, pass })
}

/// A copy of `input` to be read twice, when it cannot be opened again as it is.
pub(crate) fn hold(input: &Path) -> anyhow::Result<Option<NamedTempFile>> {
    let mut from: Box<dyn io::Read> = if is_dash(input) {
        Box::new(io::stdin())
    } else if input.metadata().is_ok_and(|meta| !meta.is_file() && !meta.is_dir()) {
        let opened = File::open(input);
        Box::new(opened.with_context(|| format!("cannot open {}", input.display()))?)
    } else {
        return Ok(None);
    };
    let mut file = NamedTempFile::new().context("cannot create a temporary file")?;
    io::copy(&mut from, &mut file).with_context(|| {
        format!(
            "cannot hold {} to read it twice; is there space in {}?",
            name(input),
            std::env::temp_dir().display()
        )
    })?;
    Ok(Some(file))
}

/// What reports call the input: the file's name without directories.
pub(crate) fn name(input: &Path) -> String {
    if is_dash(input) {
        return "standard input".to_owned();
    }
    input.file_name().unwrap_or(input.as_os_str()).to_string_lossy().into_owned()
}

/// A source whose position moves a progress bar, once it has been at work long enough to wait for.
struct Watched {
    source: Box<dyn EventSource>,
    bar: ProgressBar,
}

impl EventSource for Watched {
    fn manifest(&self) -> &Manifest {
        self.source.manifest()
    }

    fn fill(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        let progress = self.source.fill(batch)?;
        if !self.bar.is_hidden() && self.bar.elapsed() >= BAR_AFTER {
            match self.source.position() {
                Some((done, _)) => self.bar.set_position(done),
                None => self.bar.tick(),
            }
        }
        Ok(progress)
    }

    fn position(&self) -> Option<(u64, u64)> {
        self.source.position()
    }
}
