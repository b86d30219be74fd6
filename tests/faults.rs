//! A campaign of faults: each made on purpose in network namespaces, recorded, and diagnosed. The
//! diagnosis has to name the cause and the place, and to say nothing about the healthy twin: the same
//! hosts and traffic without the fault.
//!
//! The table of results is `tests/faults/TABLE.md`; `UPDATE_FAULTS=1` rewrites it. One case alone:
//! `FAULT=zero-window cargo test --test faults -- --nocapture`; `FAULT_KEEP=DIR` keeps its recordings.
#![cfg(all(target_os = "linux", feature = "live"))]

#[path = "faults/cases.rs"]
mod cases;
mod netns;
#[path = "faults/traffic.rs"]
mod traffic;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;

use cases::{Case, Net, all};
use netns::live;
use netns::recording::{Recording, json};

/// Recordings at once: each attaches its own probes, which every packet of the machine then runs through.
const WORKERS: usize = 3;

/// One finding as far as the campaign looks at it.
struct Told {
    id: String,
    text: String,
}

/// What the diagnosis says of a case, or of its twin.
fn diagnosed(case: &Case, faulty: bool, dir: &Path) -> Vec<Told> {
    let net = Net::new(case.net);
    let path = dir.join(format!("{}-{faulty}.psc", case.name));
    net.settle();
    if faulty {
        (case.fault)(&net);
    }
    let spaces: Vec<String> =
        net.hosts().iter().flat_map(|host| ["--netns".to_owned(), host.name.clone()]).collect();
    let args: Vec<&str> = spaces.iter().map(String::as_str).collect();
    let recording = Recording::start(&path, &args);
    (case.traffic)(&net, faulty);
    std::thread::sleep(std::time::Duration::from_millis(200));
    let (ok, said) = recording.stop();
    assert!(ok, "{}: {said}", case.name);
    let view = json(&["diagnose"], &path, &[]);
    let findings = view["findings"].as_array().expect("findings");
    findings
        .iter()
        .map(|finding| {
            let id = finding["id"].as_str().unwrap_or_default().to_owned();
            // Names of namespaces differ from run to run: c, r and s are the hosts.
            let mut text = format!("{} {}", finding["title"], finding["targets"]);
            for host in net.hosts() {
                let role = host.name.rsplit('-').next().unwrap_or_default().to_owned();
                text = text.replace(&host.name, &role);
            }
            Told { id, text }
        })
        .collect()
}

/// What is wrong with the result of a case; empty when nothing is.
fn judge(case: &Case, faulty: &[Told], twin: &[Told]) -> String {
    let list = |told: &[Told]| {
        let all: Vec<String> = told.iter().map(|t| format!("{}: {}", t.id, t.text)).collect();
        all.join("\n      ")
    };
    let found = faulty.iter().find(|told| told.id == case.cause);
    let mut wrong = String::new();
    match found {
        None => {
            let _ = writeln!(wrong, "  no {} in:\n      {}", case.cause, list(faulty));
        }
        Some(told) => {
            for part in case.place {
                if !told.text.contains(part) {
                    let _ = writeln!(wrong, "  {part} is not in: {}", told.text);
                }
            }
        }
    }
    let strays: Vec<&str> = faulty
        .iter()
        .map(|told| told.id.as_str())
        .filter(|id| *id != case.cause && !case.also.contains(id))
        .collect();
    if !strays.is_empty() {
        let _ = writeln!(wrong, "  besides it {strays:?}:\n      {}", list(faulty));
    }
    if !twin.is_empty() {
        let _ = writeln!(wrong, "  the healthy twin has:\n      {}", list(twin));
    }
    wrong
}

#[test]
fn every_fault_is_named_and_no_twin_is() {
    if !live("fault campaign") {
        return;
    }
    assert!(all().count() >= 80, "{} cases", all().count());
    let only = std::env::var("FAULT").ok();
    let chosen =
        |case: &&Case| only.as_ref().is_none_or(|only| only.split(',').any(|o| o == case.name));
    let queue: Mutex<VecDeque<&Case>> = Mutex::new(all().filter(chosen).collect());
    let crowded = Mutex::new(Vec::new());
    let run = |case: &Case| {
        std::panic::catch_unwind(|| {
            let dir = tempfile::tempdir().expect("temporary directory");
            let kept = std::env::var_os("FAULT_KEEP").map(std::path::PathBuf::from);
            let dir = kept.as_deref().unwrap_or(dir.path());
            let faulty = diagnosed(case, true, dir);
            let twin = diagnosed(case, false, dir);
            judge(case, &faulty, &twin)
        })
        .unwrap_or_else(|_| "  it panicked\n".to_owned())
    };
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(case) = { queue.lock().expect("queue").pop_front() } {
                    let wrong = run(case);
                    // What a crowded run said is kept in the log: a race is mended by what it says.
                    println!("{:<26} {}", case.name, if wrong.is_empty() { "ok" } else { "again" });
                    print!("{wrong}");
                    if !wrong.is_empty() {
                        crowded.lock().expect("cases").push(case);
                    }
                }
            });
        }
    });
    // The faults' clocks are the kernel's: a neighbour is given up after three seconds, a connection
    // waits one for its second SYN. Where six hosts share two cores a case can come too late, which
    // says nothing of the diagnosis; alone, it has to hold.
    let mut faults = Vec::new();
    for case in crowded.into_inner().expect("cases") {
        let wrong = run(case);
        println!("{:<26} alone: {}", case.name, if wrong.is_empty() { "ok" } else { "WRONG" });
        if !wrong.is_empty() {
            faults.push(format!("{}:\n{wrong}", case.name));
        }
    }
    assert!(faults.is_empty(), "{} wrong:\n{}", faults.len(), faults.join("\n"));
}

/// The table in the repository is the one that is tested.
#[test]
fn the_table_is_up_to_date() {
    let mut table = String::from(
        "# The fault campaign\n\n\
         Each fault is made in network namespaces, recorded and diagnosed: `cargo test --test faults`. The diagnosis\n\
         names the cause and the place of every fault, and nothing in its healthy twin (the same hosts and traffic\n\
         without the fault). This file is written by `UPDATE_FAULTS=1 cargo test --test faults table`.\n\n\
         | Fault | Made by | Cause named | Place named | Healthy twin |\n|---|---|---|---|---|\n",
    );
    for case in all() {
        let place: Vec<String> = case.place.iter().map(|part| format!("`{part}`")).collect();
        let _ = writeln!(
            table,
            "| {} | {} | `{}` | {} | {} |",
            case.name,
            case.made_by,
            case.cause,
            place.join(", "),
            case.twin
        );
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/TABLE.md");
    if std::env::var_os("UPDATE_FAULTS").is_some() {
        std::fs::write(&path, &table).expect("the table can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == table,
        "tests/faults/TABLE.md is old: UPDATE_FAULTS=1 cargo test --test faults table"
    );
}

/// Every cause of the campaign is a rule of the catalogue.
#[test]
fn causes_are_rules() {
    let out = netns::recording::psc().args(["diagnose", "--rules", "--format", "json"]).output();
    let out = out.expect("psc").stdout;
    let view: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
    let rules = view["rules"].as_array().expect("rules");
    for case in all() {
        for id in std::iter::once(&case.cause).chain(case.also) {
            assert!(rules.iter().any(|rule| rule["id"] == *id), "{}: no rule {id}", case.name);
        }
    }
}
