//! The command line: clap types only. What an option means is resolved where it is used.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) mod diagnose;
pub(crate) mod diff;
pub(crate) mod evidence;
pub(crate) mod expect;
pub(crate) mod explain;
pub(crate) mod live;
pub(crate) mod locate;
pub(crate) mod probe;
pub(crate) mod record;
pub(crate) mod values;

pub(crate) use diagnose::DiagnoseArgs;
pub(crate) use diff::DiffArgs;
use evidence::{KeygenArgs, MergeArgs, RedactArgs, SignArgs, VerifyArgs};
pub(crate) use live::LiveArgs;
pub(crate) use locate::{LocateArgs, PlacesArgs};
pub(crate) use record::RecordArgs;
pub(crate) use values::TimeRange;

/// A flight recorder for the Linux network stack.
///
/// `psc record` captures on the server what the kernel did to every packet, with the packets, into
/// one compressed file. Everything else reads that file (or a pcap or pcapng capture) anywhere,
/// without root and without network.
#[derive(Debug, Parser)]
#[command(name = "psc", version, max_term_width = 100, after_help = OVERVIEW)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

const OVERVIEW: &str = "\
Examples:
  psc record --for 10s -o web.psc          record everything for ten seconds (root)
  psc record -o curl.psc -- curl -s http://10.0.0.2/   record while a command runs
  psc report web.psc -o web.html           one HTML file to read anywhere
  psc trace web.psc -f 'tcp.port == 443'   the path of each matching packet
  psc diagnose web.psc                     what is wrong, why, and what to change
  psc analyze web.psc -t 2s..3s            volume, latency and drops of one second

Exit status: 0 clean, 1 findings or a failed check, 2 error.";

/// Options that every verb has.
#[derive(Debug, Args)]
#[command(next_help_heading = "Common options")]
pub(crate) struct Global {
    /// Colour the text output; `auto` colours terminals unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
    /// Worker threads for decompression; results are the same for any number [default: all CPUs]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Give the engine at most this many events at once; results are the same for any number
    #[arg(long, global = true, value_name = "N", hide = true, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) batch_events: Option<u16>,
    /// Say less on stderr: no progress, no summary, errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more on stderr
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// When the output is a terminal and NO_COLOR is not set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Record what the kernel does to packets (needs root)
    Record(Box<RecordArgs>),
    /// Watch the running kernel, and try out or enforce rules (needs root)
    Live(Box<LiveArgs>),
    /// Turn a pcap or pcapng capture into a recording
    Import(ImportArgs),
    /// Turn a recording into a format that other tools read
    Export(ExportArgs),
    /// Show what a recording is and how complete it is, without analysing it
    Info(InfoArgs),
    /// Check every frame of a recording: hashes, order, end, signatures, what it was made from
    Verify(VerifyArgs),
    /// Make a key to sign recordings with
    Keygen(KeygenArgs),
    /// State what a recording is, signed, to be kept elsewhere; or countersign such a statement
    Sign(SignArgs),
    /// Write what can still be read of a damaged recording into a new one
    Recover(RecoverArgs),
    /// Write part of a recording into a new one
    Slice(SliceArgs),
    /// Write a recording without addresses, names and payload, in which all else is as it was
    Redact(RedactArgs),
    /// Put recordings of several hosts on one time line
    Merge(MergeArgs),
    /// Show the path of each packet through the stack, and the path graph
    Trace(TraceArgs),
    /// Show volume, latency by layer, drops with reason and place, and flows
    Analyze(AnalyzeArgs),
    /// Name the causes of what goes wrong, with evidence and what to change
    Diagnose(DiagnoseArgs),
    /// Show peers and routes: where, how far, how many hops; on a map; probe routes when asked
    Locate(Box<LocateArgs>),
    /// Compare two recordings: new drops, changed paths, steps whose time moved
    Diff(DiffArgs),
    /// Hold a recording against a file of expectations, for pipelines
    Test(Box<expect::TestArgs>),
    /// Write one self-contained HTML report
    Report(ReportArgs),
    /// Look for attacks and misconfigurations
    Guard(GuardArgs),
    /// Print a shell completion script
    Completions(CompletionsArgs),
    /// Print the manual page (roff), or write one page per verb into a directory
    Man(ManArgs),
}

/// Which part of the input to look at.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Selection")]
pub(crate) struct Select {
    /// Keep only packets for which this expression holds at some event
    #[arg(short, long, value_name = "EXPR")]
    pub(crate) filter: Option<String>,
    /// Keep only events in this range: `1.5s..3s` from the start, or RFC 3339 times
    ///
    /// FROM is included, TO is not; either may be left out. A duration (1.5s, 200ms, 2m, 1h30m) counts
    /// from the first event, a time such as 2026-03-01T12:00:00Z is absolute.
    #[arg(short, long, value_name = "FROM..TO")]
    pub(crate) time: Option<TimeRange>,
    /// With a filter, also the journeys that those it keeps are joined to.
    #[arg(skip)]
    pub(crate) joined: bool,
}

/// `psc import`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  psc import trace.pcapng -o trace.psc
  tcpdump -w - -c 100 | psc import - -o trace.psc

pcap and pcapng, also compressed (.gz, .zst), told apart by content. Damaged packets are skipped, \
counted and noted in the recording.")]
pub(crate) struct ImportArgs {
    /// Capture to read, `-` for standard input
    pub(crate) input: PathBuf,
    /// Recording to write
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Replace the output if it exists
    #[arg(long)]
    pub(crate) force: bool,
}

/// `psc export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  psc export web.psc --to pcapng -o web.pcapng
  psc export web.psc --to pcapng -o - | tshark -r -
  psc export web.psc --to jsonl -o - | jq .event
  psc export web.psc --to perfetto -t 2s..3s -o web.pftrace   # open at https://ui.perfetto.dev

pcapng carries the drop reason and the path of each packet as a packet comment.")]
pub(crate) struct ExportArgs {
    /// Recording or capture to read, `-` for standard input
    pub(crate) input: PathBuf,
    /// Format to write
    #[arg(long, value_name = "FORMAT", default_value = "pcapng")]
    pub(crate) to: ExportFormat,
    /// File to write, `-` for standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Replace the output if it exists
    #[arg(long)]
    pub(crate) force: bool,
    /// Write to this file what was exported from what, with the hashes of both
    #[arg(long, value_name = "FILE")]
    pub(crate) custody: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) select: Select,
}

/// What `psc export` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// pcapng with interfaces, comments and nanoseconds
    Pcapng,
    /// One JSON object a line and event
    Jsonl,
    /// A trace for the Perfetto UI: one track a flow and one a CPU
    Perfetto,
}

/// Text or JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TextFormat {
    /// For people
    Text,
    /// For programs: one JSON document, described in reports/schema
    Json,
}

/// Text, JSON or a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ViewFormat {
    /// For people
    Text,
    /// For programs: one JSON document, described in reports/schema
    Json,
    /// The verb's figure as a standalone SVG
    Svg,
}

/// `psc info`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  psc info web.psc
  psc info web.psc --format json
  ssh host psc record --for 5s -o - | psc info -")]
pub(crate) struct InfoArgs {
    /// Recording or capture to read, `-` for standard input
    pub(crate) input: PathBuf,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: TextFormat,
    /// File to write instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// `psc recover`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  psc recover damaged.psc -o readable.psc

Every frame that still matches its hash is kept; what was skipped is named here and noted in the \
new recording.")]
pub(crate) struct RecoverArgs {
    /// Damaged or unclosed recording
    pub(crate) input: PathBuf,
    /// Recording to write
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Replace the output if it exists
    #[arg(long)]
    pub(crate) force: bool,
    /// Output format of the summary
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: TextFormat,
}

/// `psc slice`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  psc slice web.psc -t 10s..12s -o window.psc
  psc slice web.psc -f 'ip.addr == 10.0.0.2' -o peer.psc")]
pub(crate) struct SliceArgs {
    /// Recording or capture to read, `-` for standard input
    pub(crate) input: PathBuf,
    /// Recording to write
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Replace the output if it exists
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) select: Select,
}

/// `psc trace`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  psc trace web.psc                        paths, and the packets to look at first
  psc trace web.psc --journey 17           one packet, step by step
  psc trace web.psc -f 'drop.reason == \"NO_SOCKET\"'
  psc trace web.psc --format svg -o graph.svg")]
pub(crate) struct TraceArgs {
    /// Recording or capture to read, `-` for standard input
    pub(crate) input: PathBuf,
    /// Show this journey, by its number
    #[arg(short, long, value_name = "N")]
    pub(crate) journey: Option<u64>,
    /// Journeys to show in full; the rest is counted
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) limit: usize,
    /// Distinct paths to show, most travelled first; the rest is counted
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub(crate) paths: usize,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: ViewFormat,
    /// Figure for `--format svg`
    #[arg(long, value_name = "FIGURE", default_value = "graph")]
    pub(crate) figure: TraceFigure,
    /// File to write instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) select: Select,
}

/// Figures of `psc trace`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TraceFigure {
    /// The aggregated path graph
    Graph,
    /// The ladder of one journey (`--journey`, else the first offered)
    Ladder,
}

/// `psc analyze`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  psc analyze web.psc
  psc analyze web.psc -f 'tcp.port == 80' -t 1s..2s
  psc analyze web.psc --by process         who talks most
  psc analyze web.psc --flow 3             one connection: retransmissions with their reason, RTT
  psc analyze web.psc --format json | jq '.drops'")]
pub(crate) struct AnalyzeArgs {
    /// Recording or capture to read, `-` for standard input
    pub(crate) input: PathBuf,
    /// Flows to show; the rest is counted
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) limit: usize,
    /// Show totals by this key instead, most bytes first
    #[arg(long, value_name = "KEY", conflicts_with = "flow")]
    pub(crate) by: Option<BreakdownKey>,
    /// Show this connection alone, by its number, with every judgement about its TCP segments
    #[arg(long, value_name = "N")]
    pub(crate) flow: Option<u64>,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: ViewFormat,
    /// Figure for `--format svg`
    #[arg(long, value_name = "FIGURE", default_value = "drops")]
    pub(crate) figure: AnalyzeFigure,
    /// File to write instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) select: Select,
}

/// Keys of `psc analyze --by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BreakdownKey {
    /// Connection, originator first
    Flow,
    /// Network device
    Interface,
    /// Process that owns a socket
    Process,
    /// cgroup, or container
    Cgroup,
    /// Network namespace
    Netns,
    /// Reason of kernel drops
    DropReason,
    /// Address, of either end
    Peer,
    /// Port of the responder
    Port,
}

impl BreakdownKey {
    /// As the view calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Flow => "flow",
            Self::Interface => "interface",
            Self::Process => "process",
            Self::Cgroup => "cgroup",
            Self::Netns => "netns",
            Self::DropReason => "drop-reason",
            Self::Peer => "peer",
            Self::Port => "port",
        }
    }
}

/// Figures of `psc analyze`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AnalyzeFigure {
    /// Drops by reason and place
    Drops,
    /// Packets, bytes and drops over time
    Volume,
    /// Latency by layer
    Latency,
}

/// `psc report`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  psc report web.psc -o web.html
  psc report web.psc -f 'ip.addr == 10.0.0.2' -o peer.html

The file needs no network and no script to be read.")]
pub(crate) struct ReportArgs {
    /// Recording or capture to read, `-` for standard input
    pub(crate) input: PathBuf,
    /// HTML file to write, `-` for standard output
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    pub(crate) output: PathBuf,
    /// Journeys to show in full; the rest is counted
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) limit: usize,
    #[command(flatten)]
    pub(crate) select: Select,
    #[command(flatten)]
    pub(crate) places: PlacesArgs,
}

/// `psc guard`.
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct GuardArgs {
    #[command(subcommand)]
    pub(crate) verb: GuardVerb,
}

/// What the guarder does.
#[derive(Debug, Subcommand)]
pub(crate) enum GuardVerb {
    /// Run the detectors over a recording; exit status 1 when something was found
    Detect(DetectArgs),
    /// Check a rule file: errors with line and column, or what each rule was understood as
    Check(CheckArgs),
    /// Show what rules would have done to a recording, and to whom: nothing is touched
    Replay(RuleReplayArgs),
    /// Print the reference of all fields that expressions and rules use
    Fields,
    /// Say what the detectors found in sentences that cite their evidence
    Explain(explain::ExplainArgs),
    /// Propose rules for what the detectors found, and show what they would have touched
    Suggest(explain::SuggestArgs),
    /// Learn who asks which controller for what, for `detect --baseline`
    Baseline(explain::BaselineArgs),
}

/// `psc guard detect`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  psc guard detect web.psc
  psc guard detect web.psc --format json | jq '.findings[].title'
  psc guard detect plant.psc --baseline plant.toml

Exit status: 0 nothing found, 1 findings, 2 error.")]
pub(crate) struct DetectArgs {
    /// Recording or capture to read, `-` for standard input
    pub(crate) input: PathBuf,
    /// What is ordinary in industrial traffic, from `psc guard baseline`
    #[arg(long, value_name = "FILE")]
    pub(crate) baseline: Option<PathBuf>,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: TextFormat,
    /// File to write instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) select: Select,
}

/// `psc guard check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  psc guard check rules.toml
  psc guard check rules.toml --format json | jq '.rules[].compiled'
  psc guard check --schema > rules.schema.json     for an editor that knows TOML

Exit status: 0 no errors, 2 an error.")]
pub(crate) struct CheckArgs {
    /// Rule file to check
    #[arg(required_unless_present = "schema")]
    pub(crate) rules: Option<PathBuf>,
    /// Print the JSON schema of rule files, for editors
    #[arg(long, conflicts_with = "rules")]
    pub(crate) schema: bool,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: TextFormat,
}

/// `psc guard replay`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  psc guard replay web.psc --rules rules.toml
  psc guard replay web.psc --rules rules.toml -i eth0
  psc guard replay web.psc --rules rules.toml --format json | jq '.healthy_packets'

Exit status: 0 no healthy flow would have been hurt, 1 some would have been, 2 error.")]
pub(crate) struct RuleReplayArgs {
    /// Recording or capture to read, `-` for standard input
    pub(crate) input: PathBuf,
    /// Rule file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) rules: PathBuf,
    /// Ask the rules at this interface only
    #[arg(short, long, value_name = "NAME")]
    pub(crate) interface: Option<String>,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: TextFormat,
    /// File to write instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) select: Select,
}

/// `psc completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  psc completions bash > /etc/bash_completion.d/psc
  psc completions zsh > ~/.zfunc/_psc")]
pub(crate) struct CompletionsArgs {
    /// Shell to write for
    pub(crate) shell: clap_complete::Shell,
}

/// `psc man`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  psc man | man -l -
  psc man --dir /usr/share/man/man1")]
pub(crate) struct ManArgs {
    /// Write psc.1 and one page per verb into this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}
