//! `cargo xtask faults`: what recording promises when something goes wrong, and what it did, measured here.
//!
//! Everything happens in namespaces, folders and a control group of its own. The clock of the machine is not
//! stepped: that would hurt others.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command::{self, Running};
use crate::demo::ready;
use crate::interrupt;
use crate::netns::{self, Pair};
use crate::setup::{self, Purpose};

/// What was found of one fault.
struct Row {
    fault: &'static str,
    promised: &'static str,
    measured: String,
    held: bool,
}

struct Bench {
    psc: PathBuf,
    folder: PathBuf,
    pair: Pair,
}

/// Seconds of traffic in most rows.
const SECONDS: u32 = 4;

pub(crate) fn run(args: &[String]) -> Result<()> {
    let write = match args {
        [] => false,
        [only] if only == "--write" => true,
        _ => bail!("faults has one option, --write, which keeps the table in docs/faults.md"),
    };
    interrupt::install()?;
    let root = crate::root()?;
    setup::ensure(Purpose::Demo)?;
    if !setup::is_root() {
        bail!("faults records, so it needs root");
    }
    let psc = crate::demo::build(&root, true)?;
    let folder = crate::target(&root).join("faults");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let pair = Pair::create("faults")?;
    let mut server = pair.server.traffic()?;
    let mut server = Running::start(server.arg("serve").stdout(Stdio::piped()))?;
    ready(&mut server)?;
    let bench = Bench { psc, folder, pair };
    let parts: [fn(&Bench) -> Result<Row>; 11] = [
        killed,
        disk_full,
        slow_disk,
        stopped,
        overflow,
        interface_removed,
        namespace_removed,
        clock,
        two_recorders,
        descriptors,
        memory_limit,
    ];
    let mut text = String::from("| fault | promised | measured | held |\n|---|---|---|---|\n");
    let mut broken = 0;
    println!("{text}");
    for part in parts {
        let row = part(&bench)?;
        broken += u32::from(!row.held);
        let held = if row.held { "yes" } else { "NO" };
        let line = format!("| {} | {} | {} | {held} |", row.fault, row.promised, row.measured);
        println!("{line}");
        writeln!(text, "{line}")?;
        interrupt::check()?;
    }
    server.stop(Duration::from_secs(2))?;
    if write {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cpus = thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let page = format!(
            "# Faults while recording\n\nWhat recording promises when something goes wrong, and what it did: \
             `cargo xtask faults` on Linux {}, {cpus} CPUs, under a flood of small UDP packets over veth unless the \
             row says otherwise.\n\n{text}",
            kernel.trim()
        );
        std::fs::write(root.join("docs/faults.md"), page)?;
    }
    if broken > 0 {
        bail!("{broken} promises were not kept");
    }
    Ok(())
}

impl Bench {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// `psc record` of both namespaces.
    fn recorder(&self, extra: &[&str], output: &Path) -> Command {
        let mut command = Command::new(&self.psc);
        command.args(["record", "--netns", self.pair.client.name()]);
        command.args(["--netns", self.pair.server.name(), "--force"]).args(extra);
        command.arg("--output").arg(output);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        command
    }

    fn flood(&self) -> Result<Child> {
        let mut client = self.pair.client.traffic()?;
        client.args(["flood", "--to", netns::SERVER4, "--seconds", &SECONDS.to_string()]);
        client.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("cannot start traffic")
    }

    /// What `psc verify` and `psc info` say.
    fn read(&self, path: &Path) -> Result<Said> {
        let json = |verb: &str| -> Result<Value> {
            let mut command = Command::new(&self.psc);
            let out = command.args([verb, "--format", "json"]).arg(path).output()?;
            serde_json::from_slice(&out.stdout)
                .with_context(|| String::from_utf8_lossy(&out.stderr).into_owned())
        };
        let (verify, info) = (json("verify")?, json("info")?);
        let complete = &info["provenance"]["completeness"];
        Ok(Said {
            state: verify["state"].as_str().unwrap_or_default().to_owned(),
            problems: verify["problem_count"].as_u64().unwrap_or(u64::MAX),
            events: verify["events"].as_u64().unwrap_or_default(),
            last: info["provenance"]["last"].as_u64().unwrap_or_default(),
            first: info["provenance"]["first"].as_u64().unwrap_or_default(),
            lost: complete["ring_full"].as_u64(),
            gaps: complete["sequence_gaps"].as_u64().unwrap_or_default(),
        })
    }
}

/// What a recording is and holds.
struct Said {
    state: String,
    problems: u64,
    events: u64,
    first: u64,
    last: u64,
    /// Lost by a full ring, by the kernel's count.
    lost: Option<u64>,
    /// Missing sequence numbers.
    gaps: u64,
}

impl Said {
    /// Every lost event is counted: by the kernel, and as a gap in the events themselves.
    fn loss(&self) -> (bool, String) {
        let lost = self.lost.unwrap_or_default();
        let held = self.lost.is_some() && self.gaps <= lost;
        (
            held,
            format!(
                "{} events kept, {lost} lost and counted, {} of them seen as gaps",
                self.events, self.gaps
            ),
        )
    }
}

/// Starts a recorder and waits until it records.
fn start(command: &mut Command) -> Result<Child> {
    let mut child = command.spawn().context("cannot start psc")?;
    let mut said = child.stderr.take().context("standard error was not piped")?;
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(b"Ctrl-C\n") {
        if said.read(&mut byte)? == 0 {
            let status = child.wait()?;
            bail!("psc record ended ({status}): {}", String::from_utf8_lossy(&seen));
        }
        seen.push(byte[0]);
    }
    // What else it says is read, so that it never waits for us.
    thread::spawn(move || {
        let mut rest = Vec::new();
        let _ = said.read_to_end(&mut rest);
    });
    Ok(child)
}

fn signal(child: &Child, signal: i32) {
    // SAFETY: kill has no memory effects; the pid is that of a child not yet waited for.
    unsafe { libc::kill(child.id() as i32, signal) };
}

fn stop(mut child: Child) -> Result<i32> {
    signal(&child, libc::SIGTERM);
    Ok(child.wait()?.code().unwrap_or(-1))
}

fn monotonic() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is valid for writing.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn killed(bench: &Bench) -> Result<Row> {
    let path = bench.file("killed.psc");
    let mut recorder = start(&mut bench.recorder(&[], &path))?;
    let mut flood = bench.flood()?;
    thread::sleep(Duration::from_millis(2500));
    signal(&recorder, libc::SIGKILL);
    let at = monotonic();
    recorder.wait()?;
    flood.wait()?;
    let said = bench.read(&path)?;
    let missed = at.saturating_sub(said.last) / 1_000_000;
    Ok(Row {
        fault: "kill -9",
        promised: "every finished block is readable; at most about a second is not there",
        measured: format!(
            "{}, {} events, the last {missed} ms before the kill",
            said.state, said.events
        ),
        held: said.state == "unclosed" && said.problems == 0 && said.events > 0 && missed < 2500,
    })
}

fn disk_full(bench: &Bench) -> Result<Row> {
    let disk = bench.file("disk");
    std::fs::create_dir_all(&disk)?;
    command::output(
        command::tool("mount").args(["-t", "tmpfs", "-o", "size=1m", "psc-faults"]).arg(&disk),
    )?;
    let path = disk.join("full.psc");
    let done = (|| {
        let mut recorder = start(&mut bench.recorder(&[], &path))?;
        let mut flood = bench.flood()?;
        let status = recorder.wait()?.code();
        flood.wait()?;
        Ok::<_, anyhow::Error>((status, bench.read(&path)?))
    })();
    command::output(command::tool("umount").arg(&disk))?;
    let (status, said) = done?;
    Ok(Row {
        fault: "disk full",
        promised: "recording ends with an error that says so; what was written is readable",
        measured: format!(
            "exit status {}, {}, {} events",
            status.unwrap_or(-1),
            said.state,
            said.events
        ),
        held: status == Some(2)
            && said.state == "unclosed"
            && said.problems == 0
            && said.events > 0,
    })
}

/// The most memory that a process has had, KiB.
fn peak(child: &Child) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

fn slow_disk(bench: &Bench) -> Result<Row> {
    let path = bench.file("slow.psc");
    let mut command = bench.recorder(&[], Path::new("-"));
    let mut recorder = start(command.stdout(Stdio::piped()))?;
    let mut from = recorder.stdout.take().context("standard output was not piped")?;
    let mut to = File::create(&path)?;
    let slow_until = Instant::now() + Duration::from_secs(u64::from(SECONDS));
    let copy = thread::spawn(move || -> std::io::Result<()> {
        let mut piece = vec![0; 16 << 10];
        loop {
            let read = from.read(&mut piece)?;
            if read == 0 {
                return Ok(());
            }
            to.write_all(&piece[..read])?;
            if Instant::now() < slow_until {
                thread::sleep(Duration::from_millis(100));
            }
        }
    });
    let before = peak(&recorder);
    let mut flood = bench.flood()?;
    flood.wait()?;
    let after = peak(&recorder);
    signal(&recorder, libc::SIGTERM);
    recorder.wait()?;
    copy.join().map_err(|_| anyhow::anyhow!("the copying thread failed"))??;
    let said = bench.read(&path)?;
    let (counted, loss) = said.loss();
    let grown = after.saturating_sub(before) >> 10;
    Ok(Row {
        fault: "slow disk (160 kB/s)",
        promised: "bounded memory; what cannot be written is lost in the rings and counted",
        measured: format!("{loss}; memory grew by {grown} MiB, {}", said.state),
        held: counted && said.state == "closed" && grown < 512,
    })
}

fn paused(bench: &Bench, name: &str, extra: &[&str]) -> Result<Said> {
    let path = bench.file(name);
    let recorder = start(&mut bench.recorder(extra, &path))?;
    let mut flood = bench.flood()?;
    thread::sleep(Duration::from_millis(500));
    signal(&recorder, libc::SIGSTOP);
    thread::sleep(Duration::from_millis(2500));
    signal(&recorder, libc::SIGCONT);
    flood.wait()?;
    thread::sleep(Duration::from_millis(500));
    stop(recorder)?;
    bench.read(&path)
}

fn stopped(bench: &Bench) -> Result<Row> {
    let said = paused(bench, "stopped.psc", &[])?;
    let (counted, loss) = said.loss();
    Ok(Row {
        fault: "SIGSTOP for 2.5 s",
        promised: "recording goes on after; every event lost meanwhile is counted",
        measured: format!("{loss}, {}", said.state),
        held: counted && said.state == "closed",
    })
}

fn overflow(bench: &Bench) -> Result<Row> {
    let said = paused(bench, "overflow.psc", &["--ring-mib", "1"])?;
    let (counted, loss) = said.loss();
    let lost = said.lost.unwrap_or_default();
    Ok(Row {
        fault: "rings of 1 MiB, not emptied for 2.5 s: more than ten times what they hold",
        promised: "every lost event is counted, and nothing else is wrong",
        measured: format!("{loss}, {}", said.state),
        held: counted && said.state == "closed" && said.problems == 0 && lost > 0,
    })
}

fn ip(args: &[&str]) -> Result<String> {
    command::output(command::tool("ip").args(args))
}

fn interface_removed(bench: &Bench) -> Result<Row> {
    let path = bench.file("interface.psc");
    let client = bench.pair.client.name();
    ip(&["-n", client, "link", "add", "gone0", "type", "veth", "peer", "name", "gone1"])?;
    let recorder = start(&mut bench.recorder(&[], &path))?;
    let mut flood = bench.flood()?;
    thread::sleep(Duration::from_millis(500));
    ip(&["-n", client, "link", "del", "gone0"])?;
    flood.wait()?;
    let status = stop(recorder)?;
    let said = bench.read(&path)?;
    Ok(Row {
        fault: "interface removed",
        promised: "recording goes on and is closed in good order",
        measured: format!("exit status {status}, {}, {} events", said.state, said.events),
        held: status == 0 && said.state == "closed" && said.events > 0,
    })
}

fn namespace_removed(bench: &Bench) -> Result<Row> {
    let path = bench.file("namespace.psc");
    let extra = "psc-faults-extra";
    let _ = ip(&["netns", "del", extra]);
    ip(&["netns", "add", extra])?;
    let recorder = start(&mut bench.recorder(&["--netns", extra], &path));
    let removed = ip(&["netns", "del", extra]);
    let recorder = recorder?;
    removed?;
    let mut flood = bench.flood()?;
    flood.wait()?;
    let status = stop(recorder)?;
    let said = bench.read(&path)?;
    Ok(Row {
        fault: "recorded namespace removed",
        promised: "recording of the others goes on and is closed in good order",
        measured: format!("exit status {status}, {}, {} events", said.state, said.events),
        held: status == 0 && said.state == "closed" && said.events > 0,
    })
}

fn clock(bench: &Bench) -> Result<Row> {
    let path = bench.file("clock.psc");
    let before = monotonic();
    let recorder = start(&mut bench.recorder(&["--facts-interval", "1s"], &path))?;
    let mut flood = bench.flood()?;
    flood.wait()?;
    stop(recorder)?;
    let after = monotonic();
    let said = bench.read(&path)?;
    let inside = said.first >= before && said.last <= after;
    Ok(Row {
        fault: "clock stepped (not done to this machine)",
        promised: "no event moves: times are CLOCK_MONOTONIC, which no step changes; the offset to UTC is read again",
        measured: format!(
            "first and last event between two readings of CLOCK_MONOTONIC around the recording: {inside}"
        ),
        held: inside,
    })
}

fn two_recorders(bench: &Bench) -> Result<Row> {
    let paths = [bench.file("one.psc"), bench.file("two.psc")];
    let mut recorders = Vec::new();
    for path in &paths {
        recorders.push(start(&mut bench.recorder(&[], path))?);
    }
    let mut client = bench.pair.client.traffic()?;
    client.args(["mix", "--to", netns::SERVER4, "--seconds", "2"]);
    client.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    let mut statuses = Vec::new();
    for recorder in recorders {
        statuses.push(stop(recorder)?);
    }
    let said = [bench.read(&paths[0])?, bench.read(&paths[1])?];
    let closed = said.iter().all(|said| said.state == "closed");
    let lost: u64 = said.iter().filter_map(|said| said.lost).sum();
    Ok(Row {
        fault: "two recorders at once",
        promised: "both record everything",
        measured: format!(
            "{} and {} events, {lost} lost, exit status {} and {}",
            said[0].events, said[1].events, statuses[0], statuses[1]
        ),
        held: closed && lost == 0 && said.iter().all(|said| said.events > 0),
    })
}

fn descriptors(bench: &Bench) -> Result<Row> {
    let (mut refused, mut recorded, mut wrong) = (0, 0, Vec::new());
    for limit in [6, 8, 12, 16, 24, 32, 48, 64, 96, 128] {
        let path = bench.file(&format!("files-{limit}.psc"));
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={limit}")).arg(&bench.psc);
        command.args([
            "record",
            "--netns",
            bench.pair.client.name(),
            "--for",
            "500ms",
            "--force",
            "--output",
        ]);
        let out = command.arg(&path).stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&out.stderr);
        match out.status.code() {
            Some(0) if bench.read(&path)?.state == "closed" => recorded += 1,
            Some(2) if said.lines().filter(|line| line.starts_with("psc: ")).count() >= 1 => {
                refused += 1;
            }
            // The loader of programs could not even start it.
            Some(127) => refused += 1,
            other => wrong.push(format!("{limit}: {other:?} {}", said.trim())),
        }
    }
    Ok(Row {
        fault: "out of file descriptors (limits of 6 to 128)",
        promised: "an error that says so, or a recording",
        measured: if wrong.is_empty() {
            format!("{refused} refused in words, {recorded} recorded")
        } else {
            wrong.join("; ").replace('\n', " ").replace('|', "/")
        },
        held: wrong.is_empty(),
    })
}

fn memory_limit(bench: &Bench) -> Result<Row> {
    let promised = "it stays below, or is killed and leaves a file that is readable and not closed";
    let fault = "memory limit of a control group (96 MiB)";
    // Control groups of version 2 and of version 1: the folder, the limit, the most that was used. Where none is
    // mounted, a folder of plain files would limit nothing.
    let versions = [
        ("/sys/fs/cgroup/psc-faults", "memory.max", "memory.peak"),
        ("/sys/fs/cgroup/memory/psc-faults", "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
    ];
    let mut ready = Err(std::io::Error::from(std::io::ErrorKind::NotFound));
    for (group, limit, peak) in versions {
        let group = Path::new(group);
        ready = std::fs::create_dir(group)
            .and_then(|()| std::fs::metadata(group.join(peak)))
            .and_then(|_| std::fs::write(group.join(limit), "96M"))
            .map(|()| (group, peak));
        if ready.is_ok() {
            break;
        }
        let _ = std::fs::remove_dir(group);
    }
    let (group, peak) = match ready {
        Ok(ready) => ready,
        Err(error) => {
            let measured = format!("not measured: no control group with memory here ({error})");
            return Ok(Row { fault, promised, measured, held: true });
        }
    };
    let path = bench.file("memory.psc");
    let mut recorder = start(&mut bench.recorder(&["--ring-mib", "4"], &path))?;
    std::fs::write(group.join("cgroup.procs"), recorder.id().to_string())?;
    let mut flood = bench.flood()?;
    flood.wait()?;
    signal(&recorder, libc::SIGTERM);
    let status = recorder.wait()?;
    let most = std::fs::read_to_string(group.join(peak)).unwrap_or_default();
    let _ = std::fs::remove_dir(group);
    let said = bench.read(&path)?;
    let ended =
        if status.success() { "it ended in good order".to_owned() } else { status.to_string() };
    let most = most
        .trim()
        .parse::<u64>()
        .map_or(String::new(), |bytes| format!(", at most {} MiB", bytes >> 20));
    Ok(Row {
        fault,
        promised,
        measured: format!("{ended}{most}; {}, {} events", said.state, said.events),
        held: said.problems == 0 && said.events > 0,
    })
}
