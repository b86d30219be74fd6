//! `psc guard check`, `replay` and `fields`: rule files read, checked and tried out.

use std::fs;
use std::path::Path;

use anyhow::Context;
use psc_replay::guarder::rules::{self, ReplayOptions, RuleFile, RuleReplay, RuleSet};
use psc_reports::text;

use crate::Verdict;
use crate::cli::{CheckArgs, RuleReplayArgs};
use crate::output::{Console, write_stdout};
use crate::replay::print;
use crate::source;

/// Bytes of a list of addresses at most.
const MAX_LIST: u64 = 256 << 20;

/// `psc guard check`.
pub(crate) fn check(args: &CheckArgs, console: Console) -> anyhow::Result<Verdict> {
    let Some(path) = args.rules.as_deref().filter(|_| !args.schema) else {
        write_stdout(rules::schema().as_bytes())?;
        return Ok(Verdict::Clean);
    };
    let view = load(path, console)?.check(&source::name(path));
    print(console, args.format, None, "rule-check", &view, text::rule_check)?;
    Ok(Verdict::Clean)
}

/// `psc guard replay`.
pub(crate) fn replay(args: &RuleReplayArgs, console: Console) -> anyhow::Result<Verdict> {
    let set = load(&args.rules, console)?;
    let options = ReplayOptions { device: args.interface.clone() };
    let mut replayed = RuleReplay::new(set, options);
    let pass = source::replay(&args.input, &args.select, console, &mut [&mut replayed])?.pass;
    let view = replayed.finish(&source::name(&args.rules), &pass);
    if let (Some(interface), 0) = (&args.interface, view.asked) {
        console.note(&format!("no packet was seen at an interface named {interface}"));
    }
    let output = args.output.as_deref();
    print(console, args.format, output, "rule-replay", &view, text::rule_replay)?;
    Ok(if view.healthy_packets == 0 { Verdict::Clean } else { Verdict::Findings })
}

/// `psc guard fields`.
pub(crate) fn fields() -> anyhow::Result<Verdict> {
    write_stdout(rules::reference().as_bytes())?;
    Ok(Verdict::Clean)
}

/// Reads, checks and compiles a rule file with the lists that it names.
pub(crate) fn load(path: &Path, console: Console) -> anyhow::Result<RuleSet> {
    let name = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut list = |list: &str| -> Result<String, String> {
        let path = folder.join(list);
        let shown = path.display();
        // A device or a pipe would never end.
        let meta = fs::metadata(&path).map_err(|error| format!("cannot read {shown}: {error}"))?;
        if !meta.is_file() || meta.len() > MAX_LIST {
            return Err(format!("{shown} is no file of at most 256 MiB"));
        }
        fs::read_to_string(&path).map_err(|error| format!("cannot read {shown}: {error}"))
    };
    let file = RuleFile::parse(&text, &mut list).map_err(|error| {
        if !console.quiet {
            for line in error.underlined().lines() {
                console.note(line);
            }
        }
        anyhow::anyhow!("{name}, {error}")
    })?;
    RuleSet::new(file).with_context(|| format!("{name}"))
}
