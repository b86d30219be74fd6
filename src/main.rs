//! The `psc` binary: parse, resolve, dispatch, exit code. No analysis happens here.

mod baseline;
mod cli;
mod diagnose;
mod diff;
mod evidence;
mod expect;
mod explain;
mod export;
mod guard;
mod import;
mod inspect;
#[cfg(all(feature = "live", target_os = "linux"))]
mod live;
mod llm;
mod locate;
mod merge;
mod output;
#[cfg(all(feature = "probe", unix))]
mod probe;
#[cfg(all(feature = "live", target_os = "linux"))]
mod record;
mod redact;
mod replay;
mod select;
mod source;
mod split;
mod suggest;
mod window;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use cli::{Cli, GuardVerb, Verb};
use output::Console;

/// How a verb ended, when it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing to report: exit status 0.
    Clean,
    /// Findings, or a check that did not pass: exit status 1.
    Findings,
}

const EXIT_FINDINGS: u8 = 1;
const EXIT_ERROR: u8 = 2;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match dispatch(cli) {
        Ok(Verdict::Clean) => ExitCode::SUCCESS,
        Ok(Verdict::Findings) => ExitCode::from(EXIT_FINDINGS),
        // The reader of our output has seen enough: `psc trace F | head` is no failure.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{error:#}")),
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<Verdict> {
    let console = Console::new(&cli.global);
    if let Some(threads) = cli.global.threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(usize::from(threads))
            .build_global()
            .with_context(|| format!("cannot start {threads} threads; lower --threads"))?;
    }
    if let Some(limit) = cli.global.batch_events {
        source::limit_batches(limit);
    }
    match cli.verb {
        Verb::Completions(args) => {
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "psc", &mut script);
            output::write_stdout(&script)?;
            Ok(Verdict::Clean)
        }
        Verb::Man(args) => {
            if let Some(dir) = args.dir {
                clap_mangen::generate_to(Cli::command(), &dir).with_context(|| {
                    format!("cannot write manual pages to {}; does it exist?", dir.display())
                })?;
            } else {
                let mut page = Vec::new();
                clap_mangen::Man::new(Cli::command()).render(&mut page)?;
                output::write_stdout(&page)?;
            }
            Ok(Verdict::Clean)
        }
        Verb::Record(args) => record(&args, console),
        Verb::Live(args) => live(&args, console),
        Verb::Import(args) => import::run(&args, console),
        Verb::Export(args) => export::run(&args, console),
        Verb::Info(args) => inspect::info(&args, console),
        Verb::Verify(args) => evidence::verify(&args),
        Verb::Keygen(args) => evidence::keygen(&args, console),
        Verb::Sign(args) => evidence::sign(&args),
        Verb::Recover(args) => inspect::recover(&args),
        Verb::Slice(args) => inspect::slice(&args, console),
        Verb::Merge(args) => merge::run(&args, console),
        Verb::Redact(args) => redact::run(&args, console),
        Verb::Analyze(args) => replay::analyze(&args, console),
        Verb::Locate(args) => locate::run(&args, console),
        Verb::Trace(args) => replay::trace(&args, console),
        Verb::Diagnose(args) => diagnose::run(&args, console),
        Verb::Test(args) => expect::run(&args, console),
        Verb::Diff(args) => diff::run(&args, console),
        Verb::Report(args) => replay::report(&args, console),
        Verb::Guard(args) => match args.verb {
            GuardVerb::Detect(args) => replay::detect(&args, console),
            GuardVerb::Check(args) => guard::check(&args, console),
            GuardVerb::Replay(args) => guard::replay(&args, console),
            GuardVerb::Fields => guard::fields(),
            GuardVerb::Explain(args) => explain::run(&args, console),
            GuardVerb::Suggest(args) => suggest::run(&args, console),
            GuardVerb::Baseline(args) => baseline::run(&args, console),
        },
    }
}

#[cfg(all(feature = "live", target_os = "linux"))]
fn record(args: &cli::RecordArgs, console: Console) -> anyhow::Result<Verdict> {
    record::run(args, console)
}

#[cfg(not(all(feature = "live", target_os = "linux")))]
fn record(_: &cli::RecordArgs, _: Console) -> anyhow::Result<Verdict> {
    anyhow::bail!(
        "this build cannot record: it was made without the `live` feature, which needs Linux, clang \
         and libelf; on the host to record, run `cargo build --release` and use that psc"
    )
}

#[cfg(all(feature = "live", target_os = "linux"))]
fn live(args: &cli::LiveArgs, console: Console) -> anyhow::Result<Verdict> {
    live::run(args, console)
}

#[cfg(not(all(feature = "live", target_os = "linux")))]
fn live(_: &cli::LiveArgs, _: Console) -> anyhow::Result<Verdict> {
    anyhow::bail!(
        "this build cannot watch a kernel: it was made without the `live` feature, which needs Linux, clang \
         and libelf; on the host to watch, run `cargo build --release` and use that psc"
    )
}

/// Whether some cause of `error` is a pipe that nobody reads any more.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// One line on stderr, exit status 2. A closed stderr is not worth another failure.
fn fail(what: &str) -> ExitCode {
    let line = what.split_whitespace().collect::<Vec<_>>().join(" ");
    let _ = writeln!(io::stderr(), "psc: {}", output::printable(&line));
    ExitCode::from(EXIT_ERROR)
}

/// Help and version as asked for; anything else as one line like every other error.
fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(EXIT_ERROR)
        }
        _ => {
            let text = error.to_string();
            // clap writes the message, then tips, then usage: the last is what --help is for.
            let message = text.split("\n\nUsage:").next().unwrap_or(&text);
            let message = message.split("\n\nFor more information").next().unwrap_or(message);
            let message = message.strip_prefix("error: ").unwrap_or(message);
            let parts: Vec<&str> =
                message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            fail(&format!("{}; see `psc {}--help`", parts.join("; "), verb_given()))
        }
    }
}

/// The verb on the command line with a space after it, empty when there is none.
fn verb_given() -> String {
    let cli = Cli::command();
    let known = |word: &String| cli.find_subcommand(word).is_some();
    std::env::args_os()
        .filter_map(|word| word.into_string().ok())
        .skip(1)
        .find(known)
        .map_or(String::new(), |verb| verb + " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
