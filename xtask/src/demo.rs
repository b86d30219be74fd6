//! `cargo xtask demo`: from a fresh checkout to a report of real traffic, with one command.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command::{self, Lines, Running};
use crate::golden;
use crate::netns::{self, Pair};
use crate::setup::{self, Purpose};
use crate::traffic::port;
use crate::{Options, interrupt};

/// What a machine that may not record replays instead.
pub(crate) const SHIPPED: &str = "testdata/recordings/demo.psc";

pub(crate) fn run(args: &[String]) -> Result<()> {
    let mut seconds = 10.0_f64;
    let mut shipped = false;
    let mut options = Options::new(args);
    while let Some(name) = options.name() {
        match name {
            "--seconds" => seconds = options.value(name)?,
            "--shipped" => shipped = true,
            other => bail!("demo has no option '{other}'; it has --seconds N and --shipped"),
        }
    }
    if !(1.0..=3600.0).contains(&seconds) {
        bail!("--seconds {seconds}: give 1 to 3600");
    }
    interrupt::install()?;
    let root = crate::root()?;
    let setup = setup::ensure(Purpose::Demo)?;
    let psc = build(&root, setup.can_build_live())?;

    let recording = if shipped {
        shipped_recording(&root, "asked for with --shipped")?
    } else if let Err(reason) = may_record(setup.can_build_live(), &setup.missing) {
        shipped_recording(&root, &reason)?
    } else {
        let recording = root.join("demo.psc");
        let done = record(&psc, &recording, Duration::from_secs_f64(seconds));
        interrupt::check()?;
        match done {
            Ok(()) => recording,
            Err(error) => {
                eprintln!("\nRecording here did not work: {error:#}\n");
                shipped_recording(&root, "this machine did not let us record, see above")?
            }
        }
    };
    replay(&psc, &root, &recording)
}

/// Builds `psc` as users get it and returns its path.
pub(crate) fn build(root: &Path, live: bool) -> Result<PathBuf> {
    println!("Building psc ({}) …", if live { "release" } else { "release, without recording" });
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root).args(["build", "--release", "--locked", "--package", "psc"]);
    if !live {
        command.arg("--no-default-features");
    }
    command::run(&mut command)?;
    let psc = crate::target(root).join("release/psc");
    if !psc.is_file() {
        bail!(
            "cargo built no {}; is build.target-dir set in a cargo configuration?",
            psc.display()
        );
    }
    Ok(psc)
}

/// Why this machine cannot record, when that is known without trying.
fn may_record(live: bool, missing: &[&str]) -> Result<(), String> {
    if !cfg!(target_os = "linux") {
        return Err("recording needs Linux".to_owned());
    }
    if !live {
        return Err("psc was built without recording, for lack of the packages above".to_owned());
    }
    if !setup::is_root() {
        return Err(
            "recording needs root; run `sudo -E env \"PATH=$PATH\" cargo xtask demo`".to_owned()
        );
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Err("this kernel has no BTF (/sys/kernel/btf/vmlinux)".to_owned());
    }
    if !missing.is_empty() {
        return Err(format!("{} could not be installed", missing.join(", ")));
    }
    Ok(())
}

fn shipped_recording(root: &Path, reason: &str) -> Result<PathBuf> {
    println!("\nNot recording: {reason}.");
    let recording = root.join(SHIPPED);
    if !recording.is_file() {
        bail!(
            "the shipped recording {SHIPPED} is missing; restore it with `git checkout {SHIPPED}`"
        );
    }
    println!("Using the shipped recording {SHIPPED}, made by this command on another machine.");
    Ok(recording)
}

/// Records the mix across two namespaces.
pub(crate) fn record(psc: &Path, recording: &Path, time: Duration) -> Result<()> {
    let pair = Pair::create("demo")?;
    forbid(&pair)?;
    println!(
        "\nTwo hosts: network namespaces {} ({}) and {} ({}), joined by a veth pair.",
        pair.client.name(),
        netns::CLIENT4,
        pair.server.name(),
        netns::SERVER4,
    );
    let mut server = pair.server.traffic()?;
    let mut server = Running::start(server.arg("serve").stdout(Stdio::piped()))?;
    ready(&mut server)?;

    let mut command = golden::recorder(psc, &pair);
    // The file is named from its own folder: no path of this machine in what is handed out.
    command.current_dir(recording.parent().unwrap_or(Path::new(".")));
    command.arg(recording.file_name().context("the recording has no name")?);
    println!("Recording: {}", command::shown(&command));
    let (mut recorder, mut said) = start_recorder(&mut command)?;

    let mut client = pair.client.traffic()?;
    client.args(["mix", "--to", netns::SERVER4, "--seconds", &time.as_secs_f64().to_string()]);
    if pair.ipv6 {
        client.args(["--to6", netns::SERVER6]);
    }
    let mut client = Running::start(client.stdout(Stdio::piped()))?;
    let sent = Lines::of(client.stdout().context("the client's output was not piped")?);
    let status = loop {
        if let Some(status) = client.ended()? {
            break status;
        }
        if let Some(ended) = recorder.ended()? {
            said.until(Duration::from_millis(200), |_| false)?;
            bail!("psc record ended early ({ended}): {}", said.seen.join("\n"));
        }
        interrupt::sleep(Duration::from_millis(50))?;
    };
    if !status.success() {
        bail!("the traffic did not work: {status}");
    }
    // Deferred frees come milliseconds after the last packet.
    interrupt::sleep(Duration::from_millis(300))?;
    let status = recorder.stop(Duration::from_secs(20))?;
    let said = said.rest();
    if !status.success() {
        bail!("psc record failed ({status}): {}", said.join("\n"));
    }
    if let Some(last) = said.last() {
        println!("{last}");
    }
    summary(&sent.rest())
}

/// The server's firewall: one port whose datagrams are dropped.
pub(crate) fn forbid(pair: &Pair) -> Result<()> {
    let nft = command::find("nft").context("nft is not installed (package nftables)")?;
    let rules = format!(
        "add table inet demo; add chain inet demo input {{ type filter hook input priority 0; }}; \
         add rule inet demo input udp dport {} counter drop",
        port::FILTERED
    );
    command::output(pair.server.inside(nft).arg(rules)).map(drop)
}

/// Waits for the server's ports.
pub(crate) fn ready(server: &mut Running) -> Result<()> {
    let stdout = server.stdout().context("the server's output was not piped")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    if line.trim() != "ready" {
        bail!("the traffic server did not start");
    }
    Ok(())
}

/// Starts `psc record` and waits until its probes are attached.
pub(crate) fn start_recorder(command: &mut Command) -> Result<(Running, Lines)> {
    let mut recorder = Running::start(command.stdin(Stdio::null()).stderr(Stdio::piped()))?;
    let stderr = recorder.stderr().context("the recorder's messages were not piped")?;
    let mut said = Lines::of(stderr);
    let attached = said.until(Duration::from_secs(30), |line| line.contains("recording"))?;
    if attached.is_none() {
        if recorder.ended()?.is_none() {
            recorder.stop(Duration::from_secs(5)).ok();
        }
        bail!("psc record did not start: {}", said.rest().join("\n"));
    }
    Ok((recorder, said))
}

/// What the client says it did.
fn summary(lines: &[String]) -> Result<()> {
    let line = lines.last().context("the traffic client said nothing")?;
    let done: Value = serde_json::from_str(line).context("the traffic client's summary")?;
    println!("\nTraffic, as its maker counted it:");
    for (name, what) in done.as_object().into_iter().flatten() {
        let count = what["count"].as_u64().unwrap_or(0);
        let unit = what["unit"].as_str().unwrap_or("");
        println!("  {name:<36} {count:>11} {unit}");
    }
    Ok(())
}

/// Replays the recording in the terminal and writes the report.
fn replay(psc: &Path, root: &Path, recording: &Path) -> Result<()> {
    let report = root.join("report.html");
    let here = |path: &Path| match path.strip_prefix(root) {
        Ok(inside) => inside.display().to_string(),
        Err(_) => path.display().to_string(),
    };
    println!();
    command::run(Command::new(psc).current_dir(root).args(["analyze", &here(recording)]))?;
    command::run(Command::new(psc).current_dir(root).args([
        "report",
        &here(recording),
        "--output",
        &here(&report),
    ]))?;
    let (psc, recording) = (here(psc), here(recording));
    println!(
        "\nWrote {report}: open it in a browser; it needs no network.\n\nNext:\n  \
         {psc} trace {recording}                  the path of each packet\n  \
         {psc} trace {recording} -f 'drop.reason == \"NETFILTER_DROP\"'\n  \
         {psc} guard detect {recording}           attacks and misconfigurations\n  \
         {psc} export {recording} -o demo.pcapng  for Wireshark\n  \
         sudo {psc} record --for 10s -o mine.psc  record this machine's own traffic",
        report = here(&report),
    );
    Ok(())
}
