//! `cargo xtask fuzz`: the fuzz targets under libFuzzer, with the address sanitizer and overflow checks.
//!
//! Sanitizers are not stable Rust yet: a nightly toolchain is taken where there is one, else the stable compiler is
//! told to allow what nightly would.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command::{self, Lines, Running};
use crate::{Options, hostile, interrupt, setup};

/// MiB that a target may take in all, the sanitizer's own share included.
const MEMORY: u32 = 2_048;
/// MiB that it may ask for at once: an archive may have frames of 64 MiB.
const AT_ONCE: u32 = 512;
/// Seconds that one input may take.
const PATIENCE: u32 = 20;
/// Longest input made, bytes.
const LONGEST: u32 = 64 << 10;

/// What libFuzzer said of one target.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    executions: u64,
    /// Edges of the program that some input reached.
    edges: u64,
    /// Inputs that reach something no other does.
    corpus: u64,
    /// MiB.
    peak: u64,
    /// What went wrong, in the sanitizer's or libFuzzer's words.
    wrong: Option<String>,
    /// The input that did it.
    input: Option<String>,
}

/// Every target for some time, then a table; an error when anything was found.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if let Some(at) = args.iter().position(|arg| arg == "--stable") {
        let mut rest = args.to_vec();
        rest.remove(at);
        return hostile::fuzz(&rest);
    }
    let (mut seconds, mut only, mut seed) = (60u64, String::new(), 1u32);
    let mut options = Options::new(args);
    while let Some(name) = options.name() {
        match name {
            "--seconds" => seconds = options.value(name)?,
            "--target" => only = options.value(name)?,
            "--seed" => seed = options.value(name)?,
            other => bail!(
                "fuzz has no option '{other}'; it has --seconds N, --target NAME, --seed N and --stable"
            ),
        }
    }
    let root = crate::root()?;
    let targets: Vec<String> =
        targets(&root)?.into_iter().filter(|name| only.is_empty() || *name == only).collect();
    if targets.is_empty() {
        bail!("there is no target '{only}'; there are {}", self::targets(&root)?.join(", "));
    }
    let missing = setup::ensure(setup::Purpose::Fuzz)?.missing;
    if !missing.is_empty() {
        bail!("without {} libFuzzer cannot be built", missing.join(", "));
    }
    if !quiet(Command::new("cargo").args(["fuzz", "--version"])) {
        println!("Installing cargo-fuzz");
        command::run(Command::new("cargo").args(["install", "--quiet", "--locked", "cargo-fuzz"]))?;
    }
    // The versions that are shipped; cargo adds libFuzzer's own.
    std::fs::copy(root.join("Cargo.lock"), root.join("fuzz/Cargo.lock"))
        .context("cannot write fuzz/Cargo.lock")?;
    write_seeds(&root)?;
    let nightly = quiet(Command::new("rustup").args(["run", "nightly", "rustc", "--version"]));
    let mut table = Vec::new();
    for target in &targets {
        command::run(cargo_fuzz(&root, nightly).args(["build", target]))?;
    }
    for target in targets {
        println!("{target}: {seconds} s");
        table.push((one(cargo_fuzz(&root, nightly), &target, seconds, seed)?, target));
    }
    print!("\n{}", shown(&table));
    let found = table.iter().filter(|(told, _)| told.wrong.is_some()).count();
    if found > 0 {
        bail!(
            "{found} of {} targets failed, above; after the fix the input goes to fuzz/regressions/TARGET-WHAT",
            table.len()
        );
    }
    Ok(())
}

/// Names of all targets.
fn targets(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("fuzz/fuzz_targets");
    let entries = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

fn quiet(command: &mut Command) -> bool {
    let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    silent.status().is_ok_and(|status| status.success())
}

fn cargo_fuzz(root: &Path, nightly: bool) -> Command {
    let mut command = if nightly {
        let mut command = Command::new("rustup");
        command.args(["run", "nightly", "cargo"]);
        command
    } else {
        let mut command = Command::new("cargo");
        command.env("RUSTC_BOOTSTRAP", "1");
        command
    };
    // Ours name the toolchain that runs this.
    for name in ["CARGO", "RUSTC", "RUSTDOC"] {
        command.env_remove(name);
    }
    if nightly {
        command.env_remove("RUSTUP_TOOLCHAIN");
    }
    command.arg("fuzz").current_dir(root);
    command
}

/// Puts well-formed input, and what once broke a target, where libFuzzer begins.
fn write_seeds(root: &Path) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root).env("PSC_FUZZ_CORPUS", root.join("fuzz/corpus"));
    command.args(["test", "--quiet", "--locked", "--package", "psc", "--test", "fuzz", "--"]);
    command.args(["--exact", "the_seeds_are_written"]);
    command::run(&mut command)
}

fn one(mut command: Command, target: &str, seconds: u64, seed: u32) -> Result<Told> {
    command.args(["run", target, "--", "-print_final_stats=1"]);
    command.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={LONGEST}"));
    command.arg(format!("-rss_limit_mb={MEMORY}")).arg(format!("-malloc_limit_mb={AT_ONCE}"));
    command.arg(format!("-timeout={PATIENCE}")).arg(format!("-seed={seed}"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut running = Running::start(&mut command)?;
    let lines = Lines::of(running.stderr().context("stderr was piped")?);
    let status = running.wait()?;
    interrupt::check()?;
    let lines = lines.rest();
    let mut told = told(&lines);
    if !status.success() {
        for line in lines.iter().filter(|line| !line.starts_with('#')).take(60) {
            println!("  {line}");
        }
        told.wrong.get_or_insert_with(|| status.to_string());
    }
    Ok(told)
}

/// The numbers in libFuzzer's lines (<https://llvm.org/docs/LibFuzzer.html#output>).
fn told(lines: &[String]) -> Told {
    let mut told = Told::default();
    for line in lines {
        let mut words = line.split_whitespace();
        if let Some(number) = line.strip_prefix('#') {
            let run = number.split(|c: char| !c.is_ascii_digit()).next();
            let run = run.and_then(|run| run.parse().ok()).unwrap_or(0);
            told.executions = told.executions.max(run);
            while let Some(word) = words.next() {
                match word {
                    "cov:" => told.edges = first_number(words.next()),
                    "corp:" => told.corpus = first_number(words.next()),
                    "rss:" => told.peak = told.peak.max(first_number(words.next())),
                    _ => {}
                }
            }
        } else if line.starts_with("stat::number_of_executed_units:") {
            told.executions = first_number(words.nth(1));
        } else if line.starts_with("stat::peak_rss_mb:") {
            told.peak = first_number(words.nth(1));
        } else if line.contains("panicked at") || line.contains("ERROR: ") {
            told.wrong.get_or_insert_with(|| line.trim().to_owned());
        } else if let Some((_, path)) = line.split_once("Test unit written to ") {
            told.input = Some(path.trim().to_owned());
        }
    }
    told
}

/// `12345` of `12345/67Kb` and of `89Mb`; 0 where there is none.
fn first_number(word: Option<&str>) -> u64 {
    let digits: String =
        word.unwrap_or_default().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

fn shown(table: &[(Told, String)]) -> String {
    use std::fmt::Write as _;
    let mut page = format!(
        "{:<12} {:>12} {:>8} {:>8} {:>9}  found\n",
        "target", "executions", "edges", "corpus", "peak"
    );
    let mut findings: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for (told, name) in table {
        let found = if told.wrong.is_some() { "1" } else { "nothing" };
        let _ = writeln!(
            page,
            "{name:<12} {:>12} {:>8} {:>8} {:>5} MiB  {found}",
            told.executions, told.edges, told.corpus, told.peak
        );
        if let Some(wrong) = &told.wrong {
            findings.insert(name, (wrong, told.input.as_deref().unwrap_or("no input kept")));
        }
    }
    let all: u64 = table.iter().map(|(told, _)| told.executions).sum();
    let edges: u64 = table.iter().map(|(told, _)| told.edges).sum();
    let _ = writeln!(page, "{:<12} {all:>12} {edges:>8}", "all");
    for (name, (wrong, input)) in findings {
        let _ = writeln!(page, "\n{name}: {wrong}\n  {input}");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_says_is_read() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let good = "INFO: seed corpus: files: 9\n\
                    #10\tINITED cov: 120 ft: 130 corp: 9/1Kb exec/s: 0 rss: 60Mb\n\
                    #4096\tREDUCE cov: 210 ft: 400 corp: 31/9Kb lim: 4096 exec/s: 2048 rss: 71Mb L: 1/9\n\
                    #5000\tDONE   cov: 211 ft: 401 corp: 32/9Kb lim: 4096 exec/s: 2000 rss: 75Mb\n\
                    stat::number_of_executed_units: 5001\n\
                    stat::peak_rss_mb:              81\n";
        let expected =
            Told { executions: 5001, edges: 211, corpus: 32, peak: 81, ..Told::default() };
        assert_eq!(told(&lines(good)), expected);
        let bad = "#7\tNEW    cov: 5 ft: 5 corp: 2/2b exec/s: 0 rss: 40Mb\n\
                   thread '<unnamed>' panicked at formats/src/x.rs:1:2:\n\
                   ==1== ERROR: libFuzzer: deadly signal\n\
                   artifact_prefix='a/'; Test unit written to a/crash-1\n";
        let told = told(&lines(bad));
        assert_eq!((told.executions, told.edges), (7, 5));
        assert!(told.wrong.is_some_and(|wrong| wrong.contains("x.rs:1:2")));
        assert_eq!(told.input.as_deref(), Some("a/crash-1"));
    }
}
