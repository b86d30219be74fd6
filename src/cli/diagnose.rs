//! Arguments of `psc diagnose`.

use std::path::PathBuf;

use clap::Args;

use super::{Select, TextFormat};

/// `psc diagnose`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  psc diagnose web.psc
  psc diagnose web.psc -f 'tcp.port == 443'
  psc diagnose web.psc --format json | jq '.findings[] | {id, title, advice}'
  psc diagnose --rules

A finding names a cause, what it rests on, how sure it is and what to change. What a cause explains is no \
finding of its own, and a rule says on what healthy look-alike it is silent. Record on both ends, or at \
least where the trouble is felt: what left no trace cannot be told.

Exit status: 0 nothing found, 1 findings, 2 error.")]
pub(crate) struct DiagnoseArgs {
    /// Recording or capture to read, `-` for standard input
    #[arg(required_unless_present = "rules")]
    pub(crate) input: Option<PathBuf>,
    /// List the rules instead: what each looks at, the cause it tells, what it is silent on
    #[arg(long, conflicts_with = "input")]
    pub(crate) rules: bool,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: TextFormat,
    /// File to write instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) select: Select,
}
