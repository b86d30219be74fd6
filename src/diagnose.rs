//! `psc diagnose`: one pass, the causes, their rendering.

use psc_replay::diagnosis::{self, Diagnosis};
use psc_replay::view::diagnose::DiagnoseView;
use psc_reports::text;

use crate::Verdict;
use crate::cli::DiagnoseArgs;
use crate::output::Console;
use crate::replay::print;
use crate::source::replay;

/// `psc diagnose`.
pub(crate) fn run(args: &DiagnoseArgs, console: Console) -> anyhow::Result<Verdict> {
    let output = args.output.as_deref();
    let Some(input) = &args.input else {
        let view = DiagnoseView { rules: diagnosis::catalogue(), ..DiagnoseView::default() };
        print(console, args.format, output, "diagnose", &view, |view, style, out| {
            text::rules(&view.rules, style, out)
        })?;
        return Ok(Verdict::Clean);
    };
    let mut diagnosis = Diagnosis::new();
    let replayed = replay(input, &args.select, console, &mut [&mut diagnosis])?;
    let view = diagnosis.finish(&replayed.manifest, &replayed.pass);
    print(console, args.format, output, "diagnose", &view, text::diagnose)?;
    Ok(if view.findings.is_empty() { Verdict::Clean } else { Verdict::Findings })
}
