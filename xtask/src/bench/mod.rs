//! `cargo xtask bench`: what psc costs and how fast it is, on this machine, with the raw numbers.
//!
//! Its parts: the cost of recording (paired and interleaved, so that a machine that drifts does not
//! favour one condition), bytes on disk, events per second, what locating adds to reading, what
//! rules cost a packet, what verifying and slicing cost beside reading, and
//! offline speed against tcptrace, tshark and the machine's limit. A part that cannot run here says why.

mod cost;
#[cfg(feature = "measure")]
mod empty;
#[cfg(feature = "measure")]
mod evidence;
#[cfg(feature = "measure")]
mod locate;
mod machine;
#[cfg(feature = "measure")]
mod offline;
#[cfg(feature = "measure")]
mod rules;
mod size;
#[cfg(feature = "measure")]
mod speed;
mod stats;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::{self, Purpose};
use crate::{Options, command, interrupt};

/// What `--only` takes.
const PARTS: [&str; 7] = ["cost", "size", "speed", "locate", "rules", "evidence", "offline"];

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

impl Plan {
    /// Ourselves in the release build: a debug build would measure the wrong program.
    fn inside(&self, what: &str) -> Command {
        let mut own = Command::new(self.psc.with_file_name("xtask"));
        own.args(["bench-inside", what]);
        own
    }

    /// Where the recording of a load of [`size::LOADS`] is.
    fn recording(&self, verb: &str) -> PathBuf {
        self.folder.join(format!("{verb}.psc"))
    }
}

pub(crate) fn run(args: &[String]) -> Result<()> {
    let (mut rounds, mut seconds, mut only) = (10, 3.0, String::new());
    let mut captures = None;
    let mut options = Options::new(args);
    while let Some(name) = options.name() {
        match name {
            "--rounds" => rounds = options.value(name)?,
            "--seconds" => seconds = options.value(name)?,
            "--only" => only = options.value(name)?,
            "--captures" => captures = Some(options.value::<PathBuf>(name)?),
            other => bail!(
                "bench has no option '{other}'; it has --rounds N, --seconds N, --captures DIR and \
                 --only {}",
                PARTS.join("|")
            ),
        }
    }
    if rounds < 3 {
        bail!("--rounds {rounds}: a confidence interval needs at least 3");
    }
    if !only.is_empty() && !PARTS.contains(&only.as_str()) {
        bail!("--only {only}: give one of {}", PARTS.join(", "));
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
    if wanted("speed") {
        let mut own = plan.inside("speed");
        own.args(size::LOADS.map(|load| plan.recording(load.verb)));
        say(&mut text, &command::output(&mut own)?)?;
    }
    if wanted("locate") {
        let mut own = plan.inside("locate");
        own.arg(&plan.folder);
        say(&mut text, &command::output(&mut own)?)?;
    }
    if wanted("rules") {
        say(&mut text, &command::output(&mut plan.inside("rules"))?)?;
    }
    if wanted("evidence") {
        let own = root.join("testdata/recordings/demo.psc");
        let mut inside = plan.inside("evidence");
        say(&mut text, &command::output(inside.arg(own).arg(&plan.folder))?)?;
    }
    if wanted("offline") {
        let mut own = plan.inside("offline");
        own.arg(captures.unwrap_or_else(|| root.join("testdata/captures")));
        own.arg(&plan.psc).arg(&plan.folder);
        say(&mut text, &command::output(&mut own)?)?;
    }
    let table = plan.folder.join("bench.md");
    std::fs::write(&table, text).with_context(|| format!("cannot write {}", table.display()))?;
    println!("Written to {}, raw numbers beside it.", table.display());
    Ok(())
}

/// What [`run`] does in a process of its own, built in release: `speed RECORDING…` rates them in
/// process, `empty` holds empty programs at the probes until SIGINT.
#[cfg(feature = "measure")]
pub(crate) fn run_inside(args: &[String]) -> Result<()> {
    match args.split_first() {
        Some((what, [])) if what == "empty" => empty::hold(),
        Some((what, [])) if what == "rules" => {
            print!("{}", rules::measure()?);
            Ok(())
        }
        Some((what, [recording, folder])) if what == "evidence" => {
            print!("{}", evidence::measure(Path::new(recording), Path::new(folder))?);
            Ok(())
        }
        Some((what, recordings)) if what == "speed" => {
            let recordings: Vec<PathBuf> = recordings.iter().map(PathBuf::from).collect();
            print!("{}", speed::measure(&recordings)?);
            Ok(())
        }
        Some((what, [folder])) if what == "locate" => {
            print!("{}", locate::measure(Path::new(folder))?);
            Ok(())
        }
        Some((what, [from, psc, folder])) if what == "offline" => {
            let [from, psc, folder] = [from, psc, folder].map(Path::new);
            print!("{}", offline::measure(psc, from, folder)?);
            Ok(())
        }
        Some((what, [count, from, to])) if what == "make" => {
            offline::make(Path::new(from), count.parse()?, Path::new(to))
        }
        Some((what, [recording, capture])) if what == "limit" => {
            print!("{}", offline::limit(Path::new(recording), Path::new(capture))?);
            Ok(())
        }
        _ => bail!(
            "bench-inside speed RECORDING… | locate FOLDER | evidence RECORDING FOLDER | \
             offline CAPTURES PSC FOLDER | empty | rules"
        ),
    }
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
    command.args(["--package", "psc", "--package", "xtask", "--features", "xtask/measure"]);
    command::run(&mut command)
}
