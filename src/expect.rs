//! `psc test`: a pass over a recording, held against a file of expectations.

use std::path::Path;

use psc_replay::analyzer::Analyzer;
use psc_replay::engine::Observer;
use psc_replay::expect::{Expectant, Expectations};
use psc_replay::guarder::Detectors;
use psc_replay::view::check::CheckView;
use psc_reports::{ci, text};

use crate::Verdict;
use crate::cli::expect::{Results, TestArgs};
use crate::evidence::text_of;
use crate::output::{Console, write_result, write_stdout};
use crate::replay::print;
use crate::source::replay;

/// `psc test`.
pub(crate) fn run(args: &TestArgs, console: Console) -> anyhow::Result<Verdict> {
    let mut expectant = read(&args.expect)?;
    let asks = expectant.asks_for_findings();
    let (mut detectors, mut analyzer) = (Detectors::new(), Analyzer::default());
    let mut observers: Vec<&mut dyn Observer> = vec![&mut expectant];
    if asks {
        observers.push(&mut detectors);
        observers.push(&mut analyzer);
    }
    let replayed = replay(&args.input, &args.select, console, &mut observers)?;
    let mut findings = Vec::new();
    if asks {
        findings = detectors.finish(&replayed.manifest, &replayed.pass).findings;
        findings.extend(analyzer.finish(&replayed.manifest, &replayed.pass).findings);
    }
    let file = args.expect.to_string_lossy();
    let view = expectant.finish(&file, &replayed.pass, &findings);
    print(console, args.format, args.output.as_deref(), "test", &view, text::check)?;
    publish(&args.results, &view)
}

/// Writes the results for continuous integration; what the verdict is.
pub(crate) fn publish(results: &Results, view: &CheckView) -> anyhow::Result<Verdict> {
    if let Some(path) = &results.junit {
        write_result(Some(path), ci::junit(view).as_bytes())?;
    }
    if let Some(path) = &results.sarif {
        write_result(Some(path), ci::sarif(view).as_bytes())?;
    }
    if results.github {
        write_stdout(ci::github(view).as_bytes())?;
    }
    Ok(if view.failed == 0 { Verdict::Clean } else { Verdict::Findings })
}

/// Reads a file of expectations.
fn read(path: &Path) -> anyhow::Result<Expectant> {
    let text = text_of(path, "expectations")?;
    let file: Expectations = toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(String::new(), |span| {
            format!(" line {}:", text[..span.start.min(text.len())].lines().count().max(1))
        });
        anyhow::anyhow!("{}:{line} {}", path.display(), error.message())
    })?;
    // Where each statement begins, for annotations.
    let lines: Vec<u64> = (1..)
        .zip(text.lines())
        .filter(|(_, line)| line.trim_start().starts_with("[[expect]]"))
        .map(|(number, _)| number)
        .collect();
    Expectant::new(&file, &lines).map_err(|error| {
        let line =
            lines.get(error.number - 1).map_or(String::new(), |line| format!(" line {line}:"));
        anyhow::anyhow!("{}:{line} {error}", path.display())
    })
}
