//! `psc guard baseline`: what is ordinary between clients and controllers, to a file and back.

use std::path::Path;

use anyhow::Context;
use psc_replay::industrial::{Baseline, Learner};

use crate::Verdict;
use crate::cli::explain::BaselineArgs;
use crate::output::{Console, write_result};
use crate::source::{name, replay};

/// Larger is no baseline: 4,096 pairs with all that each may hold.
const LARGEST: u64 = 64 << 20;

/// `psc guard baseline`.
pub(crate) fn run(args: &BaselineArgs, console: Console) -> anyhow::Result<Verdict> {
    let mut learner = Learner::default();
    replay(&args.input, &args.select, console, &mut [&mut learner])?;
    let baseline = learner.finish();
    let mut page = format!(
        "# What is ordinary in {}: who asks which controller for what. Read it before you trust it.\n\
         # `functions` has ranges of addresses, first and last; none allows all.\n\n",
        name(&args.input)
    );
    page.push_str(&toml::to_string(&baseline).context("cannot write the baseline as TOML")?);
    write_result(args.output.as_deref(), page.as_bytes())?;
    console.note(&format!("{} pairs of client and controller", baseline.pair.len()));
    Ok(Verdict::Clean)
}

/// Reads a baseline file.
pub(crate) fn read(path: &Path) -> anyhow::Result<Baseline> {
    let shown = path.display();
    let len = std::fs::metadata(path).with_context(|| format!("cannot open {shown}"))?.len();
    anyhow::ensure!(len <= LARGEST, "{shown} is {len} bytes; a baseline has at most {LARGEST}");
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    toml::from_str(&text).map_err(|error| {
        // The parser's message shows the line; one line of it says what is wrong.
        let at = error.span().map_or(0, |span| text[..span.start].lines().count().max(1));
        anyhow::anyhow!("{shown} line {at} is no baseline: {}", error.message())
    })
}
