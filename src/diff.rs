//! `psc diff`: a pass over each of two recordings, the difference, its rendering.

use std::path::Path;

use psc_formats::open::open;
use psc_replay::diff::{self, Options, Profile, Side};
use psc_replay::view::diff::DiffView;
use psc_reports::text;

use crate::Verdict;
use crate::cli::DiffArgs;
use crate::output::{Console, is_dash};
use crate::replay::print;
use crate::source::replay;

/// `psc diff`.
pub(crate) fn run(args: &DiffArgs, console: Console) -> anyhow::Result<Verdict> {
    let view = view(args, console)?;
    print(console, args.format, args.output.as_deref(), "diff", &view, text::diff)?;
    Ok(Verdict::Clean)
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
    let options = Options { threshold: args.threshold.0, limit: args.limit, ..Options::default() };
    Ok(diff::compare(side(&args.base)?, side(&args.new)?, &options))
}
