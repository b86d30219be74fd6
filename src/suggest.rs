//! `psc guard suggest`: rules for what was found, held against the same recording.

use psc_replay::guarder::Detectors;
use psc_replay::guarder::suggest::Suggester;
use psc_reports::text;
use tempfile::NamedTempFile;

use crate::Verdict;
use crate::cli::explain::SuggestArgs;
use crate::output::Console;
use crate::replay::print;
use crate::source::{hold, name, replay};

/// `psc guard suggest`.
pub(crate) fn run(args: &SuggestArgs, console: Console) -> anyhow::Result<Verdict> {
    // Read twice: once to find, once to hold the rules against it.
    let held = hold(&args.input)?;
    let path = held.as_ref().map_or(args.input.as_path(), NamedTempFile::path);
    let mut detectors = Detectors::new();
    let replayed = replay(path, &args.select, console, &mut [&mut detectors])?;
    let detected = detectors.finish(&replayed.manifest, &replayed.pass);
    let mut suggester = Suggester::new(&detected);
    let mut pass = replay(path, &args.select, console, &mut [&mut suggester])?.pass;
    pass.provenance.source = name(&args.input);
    let findings = !detected.findings.is_empty();
    let view = suggester.finish(&pass);
    print(console, args.format, args.output.as_deref(), "suggest", &view, text::suggest)?;
    Ok(if findings { Verdict::Findings } else { Verdict::Clean })
}
