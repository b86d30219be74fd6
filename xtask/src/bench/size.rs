//! Bytes on disk per event, with and without what comes with events.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Plan;
use crate::command::{self, Running};
use crate::demo::{ready, start_recorder};
use crate::interrupt;
use crate::netns::{self, Pair};

/// A load whose recording is weighed here and read for the rates of `speed`.
#[derive(Clone, Copy)]
pub(super) struct Load {
    pub(super) verb: &'static str,
    name: &'static str,
    seconds: u32,
}

/// The three: everything a little, many small transactions, as many events as there can be.
pub(super) const LOADS: [Load; 3] = [
    Load { verb: "mix", name: "mix", seconds: 10 },
    Load { verb: "requests", name: "HTTP", seconds: 3 },
    Load { verb: "flood", name: "flood", seconds: 3 },
];

/// What `psc info` says of a recording.
pub(super) fn info(plan: &Plan, recording: &Path) -> Result<Value> {
    let said =
        command::output(Command::new(&plan.psc).args(["info", "--format", "json"]).arg(recording))?;
    serde_json::from_str(&said).context("psc info --format json")
}

/// Recordings of three loads, by parts.
pub(super) fn measure(plan: &Plan) -> Result<String> {
    let pair = Pair::create("bench")?;
    crate::demo::forbid(&pair)?;
    let mut text = "## Bytes on disk\n\nStored (compressed) bytes per event.\n\n\
        | load | events | all | events alone | with stacks and facts, no packets | packet bytes | file |\n\
        |---|---|---|---|---|---|---|\n"
        .to_owned();
    for load in LOADS {
        let recording = plan.recording(load.verb);
        record(plan, &pair, load, &recording)?;
        row(&mut text, load.name, &info(plan, &recording)?)?;
    }
    Ok(text)
}

fn record(plan: &Plan, pair: &Pair, load: Load, recording: &Path) -> Result<()> {
    let mut server = pair.server.traffic()?;
    let mut server = Running::start(server.arg("serve").stdout(Stdio::piped()))?;
    ready(&mut server)?;
    let mut command = Command::new(&plan.psc);
    command.args(["record", "--force", "--output"]).arg(recording);
    let (mut recorder, messages) = start_recorder(&mut command)?;
    let mut client = pair.client.traffic()?;
    client.args([load.verb, "--to", netns::SERVER4, "--seconds", &load.seconds.to_string()]);
    if pair.ipv6 && load.verb == "mix" {
        client.args(["--to6", netns::SERVER6]);
    }
    command::run(client.stdout(Stdio::null()))?;
    interrupt::sleep(Duration::from_millis(300))?;
    let status = recorder.stop(Duration::from_secs(30))?;
    let messages = messages.rest();
    if !status.success() {
        bail!("psc record ({status}): {}", messages.join("\n"));
    }
    Ok(())
}

/// One line of the table, from the frames that `psc info` counts by kind.
fn row(text: &mut String, name: &str, info: &Value) -> Result<()> {
    let events = info["provenance"]["events"].as_f64().context("psc info has no event count")?;
    let file = info["file_bytes"].as_f64().context("psc info has no file size")?;
    let parts = &info["bytes_per_event"];
    let (Some(alone), Some(packets)) = (parts[1].as_f64(), parts[2].as_f64()) else {
        bail!("psc info has no bytes per event");
    };
    let all = file / events;
    writeln!(
        text,
        "| {name} | {events} | {all:.2} | {alone:.2} | {:.2} | {packets:.2} | {file} |",
        all - packets
    )?;
    Ok(())
}
