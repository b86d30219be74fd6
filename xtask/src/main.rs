//! Developer commands: everything that sets up, tries out, tests or measures the tree.
//!
//! `cargo xtask demo` and `cargo xtask test` do all their own set-up on a fresh Debian machine that
//! has git and Rust. Nothing here is part of the product: `psc` is run as its users run it.

// This crate measures; the clock ban is for what replays.
#![allow(clippy::disallowed_methods)]

mod attacks;
mod bench;
mod command;
mod demo;
mod faults;
mod golden;
mod hostile;
mod interrupt;
mod kernels;
mod libfuzzer;
mod netns;
mod oracle;
mod setup;
mod test;
mod traffic;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

const USAGE: &str = "\
usage: cargo xtask <command>

  demo [--seconds N] [--shipped]   record real traffic between two network namespaces, replay it,
                                   write report.html (--shipped: use the recording in testdata)
  test [ARGS…]                     install what the tests need, then fmt, clippy and all tests;
                                   ARGS go to every `cargo test`. PSC_REQUIRE_LIVE=1 turns a
                                   skipped live test into a failure
  attacks [--quick] [--written] [--only NAME] [--psc FILE] [--write]
                                   attacks by nmap, hping3, dsniff and scapy in namespaces beside benign
                                   twins: what the detectors find of them (testdata/attacks.md);
                                   --written: the same of captures that scapy writes
  bench [--rounds N] [--seconds N] [--only PART] [--captures DIR]
                                   what recording costs, bytes on disk, events per second, offline
                                   speed against tcptrace and tshark (on copies of DIR's packets)
  oracle [DIR]                     compare psc's view of TCP with tshark's and tcptrace's on every
                                   capture below DIR [default: testdata/captures]
  golden [NAME…]                   record testdata/recordings (and captures) anew; then look at
                                   what changes with UPDATE_GOLDEN=1 cargo test --test golden
  faults [--write]                 disk full, kill -9, a full ring and others while recording: promised and
                                   measured (--write: into docs/faults.md)
  fuzz [--seconds N] [--target NAME] [--seed N] [--stable]
                                   the fuzz targets under libFuzzer, a minute each (--stable: with the
                                   mutator of the test suite, in release)
  corpus DIR                       every capture below DIR through every reading verb, with bounded
                                   memory and time
  kernels [6.1 6.12] [TEST…]       the capture tests on Debian's stock kernels, under emulation
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.split_first() {
        Some((verb, rest)) => match verb.as_str() {
            "attacks" => attacks::run(rest),
            "demo" => demo::run(rest),
            "test" => test::run(rest),
            "bench" => bench::run(rest),
            "oracle" => oracle::run(rest),
            "golden" => golden::run(rest),
            "faults" => faults::run(rest),
            "fuzz" => libfuzzer::run(rest),
            "corpus" => hostile::corpus(rest),
            "kernels" => kernels::run(rest),
            #[cfg(feature = "measure")]
            "bench-inside" => bench::run_inside(rest),
            // Run by the other verbs inside a namespace.
            "traffic" => traffic::run(rest),
            "help" | "--help" | "-h" => {
                print!("{USAGE}");
                Ok(())
            }
            other => Err(anyhow::anyhow!("there is no command '{other}'\n\n{USAGE}")),
        },
        None => Err(anyhow::anyhow!("which command?\n\n{USAGE}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The top of the tree.
fn root() -> Result<PathBuf> {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = own.parent().context("xtask stands at the top of a file system")?;
    if !root.join("Cargo.lock").is_file() {
        bail!(
            "{} is not the psc tree any more; run `cargo xtask` inside a checkout",
            root.display()
        );
    }
    Ok(root.to_owned())
}

/// The value after `--name`, parsed; an unknown option is an error that names it.
struct Options<'a> {
    args: std::slice::Iter<'a, String>,
}

impl<'a> Options<'a> {
    fn new(args: &'a [String]) -> Self {
        Self { args: args.iter() }
    }

    /// The next option's name.
    fn name(&mut self) -> Option<&'a str> {
        self.args.next().map(String::as_str)
    }

    /// The value of the option just read.
    fn value<T>(&mut self, name: &str) -> Result<T>
    where
        T: std::str::FromStr,
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        let text = self.args.next().with_context(|| format!("{name} needs a value"))?;
        text.parse().with_context(|| format!("{name} {text}"))
    }
}

/// Where cargo builds.
fn target(root: &std::path::Path) -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root.join(folder),
        None => root.join("target"),
    }
}
