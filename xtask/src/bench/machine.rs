//! What was measured on: numbers without it mean nothing.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::traffic::Meter;
use crate::{command, interrupt};

/// Processor, kernel, commit, and how busy the machine was before we started.
pub(super) fn describe(root: &Path) -> Result<String> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?;
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown processor", |(_, name)| name.trim());
    let kernel = command::output(Command::new("uname").args(["-sr"]))?;
    let rust = command::output(Command::new("rustc").arg("--version"))?;
    let git = |args: &[&str]| command::output(Command::new("git").current_dir(root).args(args));
    let commit = git(&["rev-parse", "--short", "HEAD"]).unwrap_or_else(|_| "unknown".to_owned());
    let changed = git(&["status", "--porcelain", "-uno"]).is_ok_and(|status| !status.is_empty());

    let meter = Meter::start()?;
    interrupt::sleep(Duration::from_secs(2))?;
    let cpus = meter.cpus();
    let (wall, busy) = meter.stop()?;
    let percent = 100.0 * busy / (wall * f64::from(cpus));
    let warning =
        if percent > 5.0 { " (too busy to measure well: stop what else runs)" } else { "" };
    Ok(format!(
        "# psc bench\n\n{model}, {cpus} CPUs, {}, {}, psc {}{}\nbusy before the start: \
         {percent:.1} %{warning}\n",
        kernel.trim(),
        rust.trim(),
        commit.trim(),
        if changed { " with local changes" } else { "" },
    ))
}
