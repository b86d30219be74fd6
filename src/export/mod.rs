//! `psc export`: a recording in a format that other tools read.

mod endings;
mod jsonl;
mod pcapng;
mod perfetto;

use crate::Verdict;
use crate::cli::{ExportArgs, ExportFormat};
use crate::output::Console;

/// `psc export`.
pub(crate) fn run(args: &ExportArgs, console: Console) -> anyhow::Result<Verdict> {
    let verdict = match args.to {
        ExportFormat::Pcapng => pcapng::run(args, console),
        ExportFormat::Perfetto => perfetto::run(args, console),
        ExportFormat::Jsonl => jsonl::run(args, console),
    }?;
    if let Some(path) = &args.custody {
        crate::evidence::export_custody(args, path)?;
    }
    Ok(verdict)
}
