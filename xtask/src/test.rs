//! `cargo xtask test`: everything that says whether the tree is good, after installing what it needs.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::command::{self, Running};
use crate::interrupt;
use crate::setup::{self, Purpose};

/// What a test that could not run prints (`tests/netns/mod.rs`).
const SKIPPED: &str = "SKIPPED (live) ";

/// What cargo test said that is worth repeating at the end.
#[derive(Default)]
struct Tally {
    skipped: Vec<String>,
    /// Cargo's own result lines.
    results: Vec<String>,
}

pub(crate) fn run(args: &[String]) -> Result<()> {
    interrupt::install()?;
    let strict = std::env::var_os("PSC_REQUIRE_LIVE").is_some_and(|value| value == "1");
    let root = crate::root()?;
    let setup = setup::ensure(Purpose::Test)?;
    if !setup.missing.is_empty() && strict {
        bail!("PSC_REQUIRE_LIVE=1, but {} is missing", setup.missing.join(", "));
    }
    if setup::is_root() {
        mount_kernel_views();
    }
    let (tested, linted): (&[&str], &[&str]) = if setup.can_build_live() {
        (&["--workspace"], &["--workspace", "--all-features"])
    } else {
        println!("Testing without recording: the packages above are needed to build it.");
        let offline = &["--no-default-features", "--workspace", "--exclude", "psc-bpf"];
        (offline, offline)
    };

    component(&root, "fmt", &["--all", "--check"], strict)?;
    let lint = [linted, &["--all-targets", "--locked", "--", "-D", "warnings"]].concat();
    component(&root, "clippy", &lint, strict)?;

    // Everything that needs no kernel first: a broken decoder should not wait for namespaces.
    let mut tally = Tally::default();
    let mut failed = Vec::new();
    for part in [&["--lib", "--bins"][..], &["--test", "*"], &["--doc"]] {
        let ok = tests(&root, tested, part, args, &mut tally)?;
        if !ok {
            failed.push(part.join(" "));
        }
    }
    if setup::is_root() && setup.can_build_live() {
        println!("\n== cargo xtask attacks --quick");
        let psc = crate::target(&root).join("debug/psc").display().to_string();
        let quick = ["--quick".to_owned(), "--psc".to_owned(), psc];
        if let Err(error) = crate::attacks::run(&quick) {
            println!("{error:#}");
            failed.push("cargo xtask attacks --quick".to_owned());
        }
    }
    println!("\nskipped: {}", tally.skipped.len());
    for line in &tally.skipped {
        println!("  {line}");
    }
    for line in &tally.results {
        println!("{line}");
    }
    if strict && !tally.skipped.is_empty() {
        bail!("PSC_REQUIRE_LIVE=1, and {} tests were skipped", tally.skipped.len());
    }
    if !failed.is_empty() {
        bail!("tests failed (cargo test {}); see above", failed.join("; cargo test "));
    }
    Ok(())
}

fn cargo(root: &Path) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.current_dir(root);
    command
}

/// Runs `cargo fmt` or `cargo clippy`, which a minimal Rust installation lacks.
fn component(root: &Path, name: &str, args: &[&str], strict: bool) -> Result<()> {
    if command::output(cargo(root).args([name, "--version"])).is_err() {
        if strict {
            bail!("cargo {name} is not installed: rustup component add rustfmt clippy");
        }
        println!("cargo {name} is not installed, so not run: rustup component add rustfmt clippy");
        return Ok(());
    }
    println!("\n== cargo {name}");
    command::run(cargo(root).arg(name).args(args))
}

/// One `cargo test`; its output is passed on as it comes. Whether it succeeded.
fn tests(
    root: &Path,
    all: &[&str],
    part: &[&str],
    args: &[String],
    tally: &mut Tally,
) -> Result<bool> {
    println!("\n== cargo test {}", part.join(" "));
    let started = Instant::now();
    let mut command = cargo(root);
    command.args(["test", "--locked", "--no-fail-fast"]).args(all).args(part);
    // Shown output is how a passing test says that it was skipped.
    command.arg("--").arg("--show-output").args(args);
    let mut running = Running::start(command.stdout(Stdio::piped()))?;
    let stdout = running.stdout().context("the tests' output was not piped")?;
    let mut out = std::io::stdout().lock();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if let Some(what) = line.trim_start().strip_prefix(SKIPPED) {
            tally.skipped.push(what.to_owned());
        }
        if line.starts_with("test result:") {
            tally.results.push(line.clone().into_owned());
        }
        writeln!(out, "{line}")?;
    }
    let status = running.wait()?;
    interrupt::check()?;
    writeln!(out, "({:.0} s)", started.elapsed().as_secs_f64())?;
    Ok(status.success())
}

/// Containers and small virtual machines often lack these mounts; recording itself needs neither, the
/// tests look at both.
fn mount_kernel_views() {
    for (kind, at) in [("bpf", "/sys/fs/bpf"), ("tracefs", "/sys/kernel/tracing")] {
        let mounted = std::fs::read_to_string("/proc/mounts")
            .is_ok_and(|table| table.lines().any(|line| line.split(' ').nth(1) == Some(at)));
        if mounted || !Path::new(at).is_dir() {
            continue;
        }
        let done = command::output(command::tool("mount").args(["-t", kind, kind, at]));
        if let Err(error) = done {
            println!("{at} is not mounted and could not be: {error:#}");
        }
    }
}
