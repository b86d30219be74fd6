//! `cargo xtask bench`: what psc costs and how fast it is, on this machine, with the raw numbers.
//!
//! Three parts: the cost of recording (paired and interleaved, so that a machine that drifts does not
//! favour one condition), bytes on disk, and events per second. A part that cannot run here says why.

mod cost;
mod machine;
mod size;
mod stats;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::{self, Purpose};
use crate::{Options, command, interrupt};

/// How much to measure.
struct Plan {
    /// `psc`, built as users get it.
    psc: PathBuf,
    /// Where recordings and raw numbers go.
    folder: PathBuf,
    /// Rounds of every comparison.
    rounds: u32,
    /// Seconds of each run in a round.
    seconds: f64,
}

pub(crate) fn run(args: &[String]) -> Result<()> {
    let (mut rounds, mut seconds, mut only) = (10, 3.0, String::new());
    let mut options = Options::new(args);
    while let Some(name) = options.name() {
        match name {
            "--rounds" => rounds = options.value(name)?,
            "--seconds" => seconds = options.value(name)?,
            "--only" => only = options.value(name)?,
            other => bail!(
                "bench has no option '{other}'; it has --rounds N, --seconds N and \
                 --only cost|size"
            ),
        }
    }
    if rounds < 3 {
        bail!("--rounds {rounds}: a confidence interval needs at least 3");
    }
    if !["", "cost", "size"].contains(&only.as_str()) {
        bail!("--only {only}: give cost or size");
    }
    interrupt::install()?;
    let root = crate::root()?;
    setup::ensure(Purpose::Demo)?;
    if !setup::is_root() {
        bail!("bench records, so it needs root");
    }
    build(&root)?;
    let target = crate::target(&root);
    let folder = target.join("bench");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let plan = Plan { psc: target.join("release/psc"), folder, rounds, seconds };

    let mut text = machine::describe(&root)?;
    let wanted = |part: &str| only.is_empty() || only == part;
    println!("{text}");
    if wanted("cost") {
        say(&mut text, &cost::measure(&plan)?)?;
    }
    if wanted("size") {
        say(&mut text, &size::measure(&plan)?)?;
    }
    let table = plan.folder.join("bench.md");
    std::fs::write(&table, text).with_context(|| format!("cannot write {}", table.display()))?;
    println!("Written to {}, raw numbers beside it.", table.display());
    Ok(())
}

fn say(text: &mut String, part: &str) -> Result<()> {
    println!("{part}");
    writeln!(text, "\n{part}")?;
    Ok(())
}

fn build(root: &Path) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root).args(["build", "--release", "--locked"]);
    command.args(["--package", "psc", "--package", "xtask"]);
    command::run(&mut command)
}
