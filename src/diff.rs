//! `psc diff`: a pass over each of two recordings, the difference, its rendering.

use std::path::Path;

use psc_formats::open::open;
use psc_replay::diff::{self, Options, Profile, Side};
use psc_replay::expect::{Gate, check_gates};
use psc_replay::view::check::CheckView;
use psc_replay::view::diff::DiffView;
use psc_reports::text;

use crate::Verdict;
use crate::cli::{DiffArgs, TextFormat};
use crate::expect::publish;
use crate::output::{Console, is_dash};
use crate::replay::print;
use crate::source::replay;

/// `psc diff`.
pub(crate) fn run(args: &DiffArgs, console: Console) -> anyhow::Result<Verdict> {
    let view = view(args, console)?;
    print(console, args.format, args.output.as_deref(), "diff", &view, text::diff)?;
    if args.gate.is_empty() {
        return Ok(Verdict::Clean);
    }
    publish(&args.results, &gated(args, &view, console)?)
}

/// The gates checked; in text, after the difference that they are about.
fn gated(args: &DiffArgs, view: &DiffView, console: Console) -> anyhow::Result<CheckView> {
    let checked = check_gates(&args.gate, view);
    // One JSON document at a time: there the exit status and the files say it.
    if args.format == TextFormat::Text {
        let output = args.output.as_deref().filter(|path| is_dash(path));
        if args.output.is_none() || output.is_some() {
            print(console, args.format, output, "gate", &checked, text::check)?;
        }
    }
    Ok(checked)
}

/// The difference.
pub(crate) fn view(args: &DiffArgs, console: Console) -> anyhow::Result<DiffView> {
    for input in [&args.base, &args.new] {
        anyhow::ensure!(
            !is_dash(input),
            "`psc diff` reads each recording twice, which standard input does not allow; write it to a \
             file first"
        );
    }
    let manifest = |input: &Path| anyhow::Ok(open(input)?.manifest().clone());
    let common = diff::common_probes(&manifest(&args.base)?, &manifest(&args.new)?);
    let side = |input: &Path| {
        let mut profile = Profile::new(&manifest(input)?, &common);
        let replayed = replay(input, &args.select, console, &mut [&mut profile])?;
        anyhow::Ok(Side { manifest: replayed.manifest, pass: replayed.pass, profile })
    };
    // A gate must be told of every move that it bounds.
    let threshold = args.gate.iter().filter_map(Gate::threshold).fold(args.threshold.0, f64::min);
    let limit = if args.gate.is_empty() { args.limit } else { usize::MAX };
    let options = Options { threshold, limit, ..Options::default() };
    Ok(diff::compare(side(&args.base)?, side(&args.new)?, &options))
}
