//! Whole-program golden cases: recordings replayed to expected text, JSON and SVG, byte for byte.
//!
//! Every folder of `tests/golden` is a case: `case.toml` names a recording under `testdata` and the
//! runs, and the expected outputs stand beside it. Each run is made several ways that must not matter:
//! one thread; several, in another locale and time zone; one-event batches.
//!
//! `UPDATE_GOLDEN=1 cargo test --test golden` rewrites the expected files; read the diff.
#![allow(missing_docs, reason = "tests")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::Deserialize;

/// `case.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// Path below `testdata`.
    recording: PathBuf,
    run: Vec<Run>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    /// Verb and options; the recording is put after the verb.
    args: Vec<String>,
    /// File beside `case.toml` that standard output must equal. Without it, only the ways of running
    /// are compared with each other.
    expect: Option<String>,
    /// Exit status.
    #[serde(default)]
    exit: i32,
}

/// A way of running that must not change a byte.
struct Way {
    name: &'static str,
    args: &'static [&'static str],
    env: &'static [(&'static str, &'static str)],
}

const WAYS: &[Way] = &[
    Way { name: "one thread", args: &["--threads", "1"], env: &[("TZ", "UTC"), ("LC_ALL", "C")] },
    Way {
        name: "five threads, Turkish, Kathmandu",
        args: &["--threads", "5"],
        env: &[("TZ", "Asia/Kathmandu"), ("LC_ALL", "tr_TR.UTF-8"), ("LANG", "tr_TR.UTF-8")],
    },
    Way {
        name: "one-event batches",
        args: &["--batch-events", "1"],
        env: &[("TZ", "UTC"), ("LC_ALL", "C")],
    },
];

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn psc(recording: &Path, run: &Run, way: &Way) -> Output {
    let (verbs, options) = verb(&run.args);
    Command::new(env!("CARGO_BIN_EXE_psc"))
        .args(verbs)
        .arg(recording)
        .args(options)
        .args(["--quiet", "--color", "never"])
        .args(way.args)
        .envs(way.env.iter().copied())
        .env_remove("NO_COLOR")
        .output()
        .expect("psc starts")
}

/// The verb (one word or two, `guard detect`) and its options.
fn verb(args: &[String]) -> (&[String], &[String]) {
    let words = args.iter().take_while(|arg| !arg.starts_with('-')).count();
    args.split_at(words)
}

/// The first line that differs, with its number, from both.
fn difference(expected: &[u8], got: &[u8]) -> String {
    let (expected, got) = (String::from_utf8_lossy(expected), String::from_utf8_lossy(got));
    let (mut left, mut right) = (expected.lines(), got.lines());
    for number in 1.. {
        match (left.next(), right.next()) {
            (None, None) => break,
            (a, b) if a == b => {}
            (a, b) => {
                let shown = |line: Option<&str>| -> String {
                    line.map_or("(ends)".to_owned(), |line| line.chars().take(400).collect())
                };
                return format!(
                    "line {number}\n      expected: {}\n      got:      {}",
                    shown(a),
                    shown(b)
                );
            }
        }
    }
    "only line ends differ".to_owned()
}

#[test]
fn recordings_replay_to_the_expected_bytes() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1");
    let ci = std::env::var_os("CI").is_some()
        || std::env::var_os("PSC_REQUIRE_LIVE").is_some_and(|value| value == "1");
    assert!(!(update && ci), "UPDATE_GOLDEN rewrites what CI is to compare with");

    let mut folders: Vec<PathBuf> = fs::read_dir(top().join("tests/golden"))
        .expect("tests/golden")
        .map(|entry| entry.expect("readable entry").path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    assert!(!folders.is_empty(), "tests/golden has no case");

    let mut failures = String::new();
    for folder in folders {
        let path = folder.join("case.toml");
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let case: Case =
            toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        for run in &case.run {
            if let Err(failure) = check(&folder, &case, run, update) {
                let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
                writeln!(failures, "  {name}: psc {}: {failure}", run.args.join(" "))
                    .expect("a string takes everything");
            }
        }
    }
    assert!(
        failures.is_empty(),
        "golden cases differ:\n{failures}\nIf the change is meant: \
         UPDATE_GOLDEN=1 cargo test --test golden && git diff tests/golden"
    );
}

fn check(folder: &Path, case: &Case, run: &Run, update: bool) -> Result<(), String> {
    let recording = top().join("testdata").join(&case.recording);
    let mut first: Option<Vec<u8>> = None;
    for way in WAYS {
        let output = psc(&recording, run, way);
        if output.status.code() != Some(run.exit) {
            return Err(format!(
                "{}: {}, expected exit status {}: {}",
                way.name,
                output.status,
                run.exit,
                String::from_utf8_lossy(&output.stderr).trim()
            ));
        }
        match &first {
            None => first = Some(output.stdout),
            Some(first) if *first != output.stdout => {
                let difference = difference(first, &output.stdout);
                return Err(format!("{} differs from {}: {difference}", way.name, WAYS[0].name));
            }
            Some(_) => {}
        }
    }
    let got = first.unwrap_or_default();
    if got.is_empty() {
        return Err("it printed nothing".to_owned());
    }
    let Some(expect) = &run.expect else { return Ok(()) };
    let path = folder.join(expect);
    if update {
        return fs::write(&path, &got).map_err(|e| format!("{}: {e}", path.display()));
    }
    let expected = fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    if expected != got {
        return Err(format!("{expect}, {}", difference(&expected, &got)));
    }
    Ok(())
}

/// Every expected file belongs to a run, so that none is left behind unread.
#[test]
fn no_expected_file_is_left_over() {
    let mut left = Vec::new();
    for folder in fs::read_dir(top().join("tests/golden")).expect("tests/golden") {
        let folder = folder.expect("readable entry").path();
        let Ok(text) = fs::read_to_string(folder.join("case.toml")) else { continue };
        let case: Case = toml::from_str(&text).expect("case.toml");
        for file in fs::read_dir(&folder).expect("case folder") {
            let name = file.expect("readable entry").file_name().to_string_lossy().into_owned();
            let named = case.run.iter().any(|run| run.expect.as_deref() == Some(name.as_str()));
            if name != "case.toml" && !named {
                left.push(folder.join(name).display().to_string());
            }
        }
    }
    assert!(left.is_empty(), "no run expects these: {left:?}");
}
