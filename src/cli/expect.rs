//! Options of `psc test`, and where checks are written for continuous integration.

use std::path::PathBuf;

use clap::Args;

use super::{Select, TextFormat};

/// `psc test`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  psc test run.psc --expect expect.toml
  psc test run.psc --expect expect.toml --junit psc.xml --sarif psc.sarif --github

A file of expectations:
  [[expect]]
  name = \"no drop but closed ports\"
  never = 'drop.reason and not drop.reason in {\"NO_SOCKET\"}'

  [[expect]]
  name = \"SYNs reach TCP\"
  where = 'tcp.flags.syn == 1 and not tcp.flags.ack == 1 and tcp.dstport == 443'
  always = 'step.function == \"tcp_v4_rcv\"'

  [[expect]]
  name = \"fast from the device to TCP\"
  from = 'event.kind == \"Receive\"'
  to = 'step.function == \"tcp_v4_rcv\"'
  p99 = \"<1ms\"

  [[expect]]
  no_finding = \"any\"

  [[expect]]
  loss = \"<0.1%\"

Also: some = EXPR with at_least and at_most, finding = ID, closed = true, allow_none = true. A statement \
that nothing in the recording is about does not hold, unless it says allow_none.

Exit status: 0 all hold, 1 some do not, 2 error.")]
pub(crate) struct TestArgs {
    /// Recording or capture to check, `-` for standard input
    pub(crate) input: PathBuf,
    /// File of expectations, TOML
    #[arg(short, long, value_name = "FILE")]
    pub(crate) expect: PathBuf,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: TextFormat,
    /// File to write instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) results: Results,
    #[command(flatten)]
    pub(crate) select: Select,
}

/// Where checks go beside the terminal.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "For continuous integration")]
pub(crate) struct Results {
    /// Write JUnit XML to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// Write SARIF 2.1.0 to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) sarif: Option<PathBuf>,
    /// Print annotations for GitHub Actions to standard output
    #[arg(long)]
    pub(crate) github: bool,
}
