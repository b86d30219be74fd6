//! `cargo xtask fuzz --stable` and `cargo xtask corpus`: hostile input for as long, and from wherever, one likes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{Options, command};

/// Address space that reading any capture must do with.
const MEMORY: u64 = 4 << 30;
/// Seconds after which reading a capture counts as never ending.
const PATIENCE: u64 = 120;

/// The fuzz targets in release, for a time each.
pub(crate) fn fuzz(args: &[String]) -> Result<()> {
    let (mut seconds, mut target, mut seed) = (60u64, String::new(), 0u64);
    let mut options = Options::new(args);
    while let Some(name) = options.name() {
        match name {
            "--seconds" => seconds = options.value(name)?,
            "--target" => target = options.value(name)?,
            "--seed" => seed = options.value(name)?,
            other => bail!(
                "fuzz has no option '{other}'; it has --seconds N, --target NAME and --seed N"
            ),
        }
    }
    let root = crate::root()?;
    let mut command = cargo(&root);
    command.args([
        "test",
        "--release",
        "--locked",
        "--package",
        "psc",
        "--test",
        "fuzz",
        "--",
        "--nocapture",
    ]);
    command.env("PSC_FUZZ_SECONDS", seconds.to_string()).env("PSC_FUZZ_TARGET", target);
    if seed > 0 {
        command.env("PSC_FUZZ_SEED", seed.to_string());
    }
    command::run(&mut command)
}

fn cargo(root: &Path) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root);
    command
}

/// What became of one capture under one verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Read,
    Refused,
    Panicked,
    Killed,
    Endless,
}

impl Outcome {
    const ALL: [Self; 5] = [Self::Read, Self::Refused, Self::Panicked, Self::Killed, Self::Endless];

    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Refused => "refused in words",
            Self::Panicked => "panicked",
            Self::Killed => "out of memory or killed",
            Self::Endless => "did not end",
        }
    }
}

/// Every capture below a folder through every verb that reads, with bounded memory and time.
pub(crate) fn corpus(args: &[String]) -> Result<()> {
    let [folder] = args else { bail!("corpus takes one folder: cargo xtask corpus DIR") };
    let root = crate::root()?;
    let mut build = cargo(&root);
    build.args(["build", "--release", "--locked", "--package", "psc"]);
    command::run(&mut build)?;
    let psc = crate::target(&root).join("release/psc");
    let mut captures = Vec::new();
    walk(Path::new(folder), &mut captures)?;
    captures.sort();
    if captures.is_empty() {
        bail!("{folder} has no capture (*.pcap, *.pcapng, *.cap, *.trace, *.dmp)");
    }
    let scratch = crate::target(&root).join("corpus");
    std::fs::create_dir_all(&scratch)?;
    std::fs::write(scratch.join("key"), "42".repeat(32))?;
    let verbs: [&[&str]; 5] =
        [&["info"], &["analyze"], &["trace"], &["guard", "detect"], &["redact"]];
    println!(
        "{} captures, {} verbs, {} GiB, {PATIENCE} s\n",
        captures.len(),
        verbs.len(),
        MEMORY >> 30
    );
    let mut table: BTreeMap<(usize, Outcome), u64> = BTreeMap::new();
    let mut slowest: Vec<(Duration, String)> = Vec::new();
    let mut bad = Vec::new();
    for path in &captures {
        for (row, verb) in verbs.iter().enumerate() {
            let mut command = Command::new("prlimit");
            command.arg(format!("--as={MEMORY}"));
            command.args(["timeout", &PATIENCE.to_string()]).arg(&psc).args(*verb).arg(path);
            if verb[0] == "redact" {
                command.arg("--output").arg(scratch.join("out.psc"));
                command.arg("--key").arg(scratch.join("key")).arg("--force");
            }
            let started = Instant::now();
            let out = command.stdin(Stdio::null()).output().context("prlimit (util-linux)")?;
            let outcome = match out.status.code() {
                Some(0 | 1) => Outcome::Read,
                Some(2) => Outcome::Refused,
                Some(101) => Outcome::Panicked,
                Some(124) => Outcome::Endless,
                _ => Outcome::Killed,
            };
            *table.entry((row, outcome)).or_default() += 1;
            let what = format!("{} {}", verb.join(" "), path.display());
            if outcome > Outcome::Refused {
                let said = String::from_utf8_lossy(&out.stderr)
                    .lines()
                    .take(2)
                    .collect::<Vec<_>>()
                    .join(" ");
                bad.push(format!("{}: {what}: {said}", outcome.name()));
            }
            slowest.push((started.elapsed(), what));
            slowest.sort_by_key(|row| std::cmp::Reverse(row.0));
            slowest.truncate(5);
        }
    }
    println!("| verb | {} |", Outcome::ALL.map(Outcome::name).join(" | "));
    println!("|---|{}", "---|".repeat(Outcome::ALL.len()));
    for (row, verb) in verbs.iter().enumerate() {
        let counts = Outcome::ALL
            .map(|outcome| table.get(&(row, outcome)).copied().unwrap_or(0).to_string())
            .join(" | ");
        println!("| {} | {counts} |", verb.join(" "));
    }
    println!("\nslowest:");
    for (time, what) in &slowest {
        println!("  {:.2} s  {what}", time.as_secs_f64());
    }
    for line in &bad {
        println!("{line}");
    }
    if !bad.is_empty() {
        bail!("{} captures were not read in good order", bad.len());
    }
    Ok(())
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, found)?;
            continue;
        }
        let kind = path.extension().and_then(|ext| ext.to_str()).unwrap_or_default();
        if ["pcap", "pcapng", "cap", "trace", "dmp", "ntar"].contains(&kind) {
            found.push(path);
        }
    }
    Ok(())
}
