//! What recording costs the traffic: no probes, the same probes with empty programs, recording.
//!
//! Each round runs the three conditions one after the other, in an order that rotates by round; only
//! runs of one round are compared. Cost is busy CPU time of the whole machine, recorder included.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::stats::{Ratio, median, ratio};
use super::{Plan, size};
use crate::command::{self, Lines, Running};
use crate::demo::{ready, start_recorder};
use crate::interrupt;
use crate::netns::Pair;

/// What is attached while the load runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probes {
    None,
    Empty,
    Recording,
}

const CONDITIONS: [Probes; 3] = [Probes::None, Probes::Empty, Probes::Recording];

impl Probes {
    fn name(self) -> &'static str {
        match self {
            Self::None => "no probes",
            Self::Empty => "empty programs",
            Self::Recording => "recording",
        }
    }
}

/// A load and the numbers taken from it.
struct Load {
    name: &'static str,
    /// Traffic verb and what else it is told.
    verb: &'static str,
    /// CPUs the traffic may use; `None` is all.
    cpus: Option<&'static str>,
    measures: &'static [Measure],
}

/// A number of a run.
struct Measure {
    name: &'static str,
    of: fn(&Value) -> Option<f64>,
}

fn number(run: &Value, key: &str) -> Option<f64> {
    run[key].as_f64()
}

fn over(run: &Value, above: &str, below: &str) -> Option<f64> {
    Some(number(run, above)? / number(run, below)?)
}

const FLOOD: &[Measure] = &[
    Measure { name: "packets carried/s", of: |run| over(run, "carried", "seconds") },
    Measure {
        name: "CPU ns per packet",
        of: |run| Some(1e9 * over(run, "cpu_seconds", "carried")?),
    },
];

const LOADS: &[Load] = &[
    Load {
        name: "TCP bulk, one connection",
        verb: "bulk",
        cpus: None,
        measures: &[
            Measure {
                name: "CPU s per GB",
                of: |run| Some(1e9 * over(run, "cpu_seconds", "bytes")?),
            },
            Measure { name: "GB/s carried", of: |run| Some(1e-9 * over(run, "bytes", "seconds")?) },
        ],
    },
    Load {
        name: "HTTP request/response, 8 connections",
        verb: "requests",
        cpus: None,
        measures: &[
            Measure {
                name: "CPU us per request",
                of: |run| Some(1e6 * over(run, "cpu_seconds", "requests")?),
            },
            Measure { name: "requests/s", of: |run| over(run, "requests", "seconds") },
            Measure { name: "p99 us", of: |run| Some(1e-3 * number(run, "p99_ns")?) },
        ],
    },
    Load {
        name: "flood of 64-byte UDP frames, all CPUs busy",
        verb: "flood",
        cpus: None,
        measures: FLOOD,
    },
    Load {
        name: "flood of 64-byte UDP frames on CPU 0, the others free for the reader",
        verb: "flood",
        cpus: Some("0"),
        measures: FLOOD,
    },
];

pub(super) fn measure(plan: &Plan) -> Result<String> {
    let raw_path = plan.folder.join("raw.jsonl");
    let mut raw = std::fs::File::create(&raw_path)
        .with_context(|| format!("cannot write {}", raw_path.display()))?;
    let pair = Pair::create("bench")?;
    let mut text = format!(
        "## Cost of recording\n\n{} rounds of {} s; median of each condition, then the mean ratio of \
         paired runs with its 95 % interval.\n",
        plan.rounds, plan.seconds
    );
    for load in LOADS {
        let mut runs: [Vec<Value>; 3] = Default::default();
        for round in 0..plan.rounds {
            for turn in 0..CONDITIONS.len() {
                let which = (round as usize + turn) % CONDITIONS.len();
                // Drawn over itself; what is measured goes to standard output.
                eprint!(
                    "\r\x1b[K{}: round {}/{} {}",
                    load.name,
                    round + 1,
                    plan.rounds,
                    CONDITIONS[which].name()
                );
                let run = once(plan, &pair, load, CONDITIONS[which])
                    .with_context(|| format!("{}, {}", load.name, CONDITIONS[which].name()))?;
                writeln!(
                    raw,
                    "{}",
                    json!({ "load": load.name, "round": round, "probes": CONDITIONS[which].name(), "run": run })
                )?;
                runs[which].push(run);
            }
        }
        eprintln!();
        table(&mut text, load, &runs)?;
    }
    Ok(text)
}

/// One run of a load under a condition.
fn once(plan: &Plan, pair: &Pair, load: &Load, probes: Probes) -> Result<Value> {
    let pinned = |command: Command| -> Command {
        let Some(cpus) = load.cpus else { return command };
        let mut pinned = command::tool("taskset");
        pinned.args(["-c", cpus]).arg(command.get_program()).args(command.get_args());
        pinned
    };
    let mut server = pair.server.traffic()?;
    server.arg("serve");
    let mut server = Running::start(pinned(server).stdout(Stdio::piped()))?;
    ready(&mut server)?;
    let recording = plan.folder.join("cost.psc");
    let mut recorder = None;
    if probes != Probes::None {
        let mut command = if probes == Probes::Empty {
            plan.inside("empty")
        } else {
            let mut command = Command::new(&plan.psc);
            command.args(["record", "--force", "--output"]).arg(&recording);
            command
        };
        recorder = Some(start_recorder(&mut command)?);
    }
    interrupt::sleep(Duration::from_millis(200))?;
    let mut client = pair.client.traffic()?;
    client.args([load.verb, "--to", crate::netns::SERVER4, "--seconds", &plan.seconds.to_string()]);
    let mut client = Running::start(pinned(client).stdout(Stdio::piped()))?;
    let said = Lines::of(client.stdout().context("the client's output was not piped")?);
    let status = client.wait()?;
    let said = said.rest();
    let mut run: Value = said
        .last()
        .filter(|_| status.success())
        .and_then(|line| serde_json::from_str(line).ok())
        .with_context(|| format!("the load failed ({status}): {}", said.join("\n")))?;
    if let Some((mut recorder, messages)) = recorder {
        let status = recorder.stop(Duration::from_secs(30))?;
        let messages = messages.rest();
        anyhow::ensure!(status.success(), "psc record ({status}): {}", messages.join("\n"));
        if probes == Probes::Recording {
            let info = size::info(plan, &recording)?;
            run["events"] = info["provenance"]["events"].clone();
            run["lost"] = info["provenance"]["completeness"]["lost"].clone();
            run["aggregated"] = info["provenance"]["completeness"]["aggregated"].clone();
            run["file_bytes"] = info["file_bytes"].clone();
        }
    }
    Ok(run)
}

fn table(text: &mut String, load: &Load, runs: &[Vec<Value>; 3]) -> Result<()> {
    writeln!(text, "\n### {}\n", load.name)?;
    writeln!(
        text,
        "| measure | no probes | empty programs | recording | recording / empty | recording / none | empty / none |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|")?;
    for measure in load.measures {
        let values: Vec<Vec<f64>> =
            runs.iter().map(|runs| runs.iter().filter_map(measure.of).collect()).collect();
        let shown =
            |ratio: Option<Ratio>| ratio.map_or("not comparable".to_owned(), |r| r.to_string());
        writeln!(
            text,
            "| {} | {:.3} | {:.3} | {:.3} | {} | {} | {} |",
            measure.name,
            median(&values[0]),
            median(&values[1]),
            median(&values[2]),
            shown(ratio(&values[2], &values[1])),
            shown(ratio(&values[2], &values[0])),
            shown(ratio(&values[1], &values[0])),
        )?;
    }
    let total = |key: &str| runs[2].iter().filter_map(|run| run[key].as_u64()).sum::<u64>();
    let unknown = runs[2].iter().filter(|run| run["lost"].is_null()).count();
    writeln!(
        text,
        "\nRecorded over all rounds: {} events stored, {} counted without being stored, {} lost and \
         counted as lost{}.",
        total("events"),
        total("aggregated"),
        total("lost"),
        if unknown > 0 {
            format!(" ({unknown} runs do not know their loss)")
        } else {
            String::new()
        },
    )?;
    Ok(())
}
