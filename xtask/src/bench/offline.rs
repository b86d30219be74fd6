//! Offline speed against other tools and against what this machine can do at most with the same bytes.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use psc_formats::event::LinkType;
use psc_formats::packet::{self, Network, Transport};
use psc_formats::{Batch, Progress};

use super::stats::median;

/// Packets of the capture that is made.
const PACKETS: usize = 1_000_000;

/// Runs of each program but tshark, which takes long and varies little.
const ROUNDS: usize = 5;

/// Seconds from one copy of the packets to the next.
const COPY_SECONDS: u64 = 700;

/// One frame: nanoseconds since the first of its file, wire length, bytes.
type Packet = (u64, u32, Vec<u8>);

/// Makes `count` packets from those of the captures below a folder, for [`measure`]: in a process of its
/// own, since a child's peak memory counts from its parent's.
pub(super) fn make(from: &Path, count: usize, to: &Path) -> Result<()> {
    write(&gather(from)?, count, to)
}

/// Seconds that this machine needs at least, one a line: to read the recording, to decompress it, to
/// touch each header of the capture.
pub(super) fn limit(recording: &Path, capture: &Path) -> Result<String> {
    let rates = [rate_read(recording)?, rate_unpack(recording)?, rate_touch(capture)?];
    Ok(rates.map(|seconds| format!("{seconds}\n")).concat())
}

/// Rates psc, tcptrace and tshark on copies of the packets of the captures below `from`.
pub(super) fn measure(psc: &Path, from: &Path, folder: &Path) -> Result<String> {
    let myself = std::env::current_exe()?;
    let inside = |args: &[&str]| {
        let mut command = Command::new(&myself);
        command.arg("bench-inside").args(args);
        command
    };
    let [capture, quarter, recording] =
        ["offline.pcap", "offline-quarter.pcap", "offline.psc"].map(|name| folder.join(name));
    for (file, count) in [(&capture, PACKETS), (&quarter, PACKETS / 4)] {
        run(inside(&["make", &count.to_string()]).arg(from).arg(file))?;
    }
    let mut import = Command::new(psc);
    run(import.args(["import", "--quiet", "--force"]).arg(&capture).arg("-o").arg(&recording))?;

    let analyze = |file: &Path, threads: &str| {
        let mut command = Command::new(psc);
        command.args(["analyze", "--quiet", "--threads", threads]).arg(file);
        command
    };
    let [imported, report] = ["imported.psc", "report.html"]
        .map(|name| folder.join(name).to_string_lossy().into_owned());
    let verb = |verb: &str, options: &[&str]| {
        let mut command = Command::new(psc);
        command.args([verb, "--quiet", "--threads", "1"]).arg(&capture).args(options);
        command
    };
    let mut tcptrace = Command::new("tcptrace");
    tcptrace.args(["-lrW", "-n"]).arg(&capture);
    let mut tshark = Command::new("tshark");
    tshark.args(["-n", "-q", "-z", "conv,tcp", "-r"]).arg(&capture);
    let mut runs = [
        ("psc analyze, capture, 1 thread", analyze(&capture, "1")),
        ("psc analyze, capture, 2 threads", analyze(&capture, "2")),
        ("psc analyze, recording, 1 thread", analyze(&recording, "1")),
        ("psc analyze, recording, 2 threads", analyze(&recording, "2")),
        ("tcptrace -lrW", tcptrace),
        ("tshark -q -z conv,tcp", tshark),
        ("psc trace, capture, 1 thread", verb("trace", &[])),
        ("psc locate, capture, 1 thread", verb("locate", &[])),
        ("psc import, capture, 1 thread", verb("import", &["--force", "-o", &imported])),
        ("psc report, capture, 1 thread", verb("report", &["-o", &report])),
    ];
    let mut took: Vec<Vec<Took>> = vec![Vec::new(); runs.len()];
    let mut limits = [const { Vec::new() }; 3];
    for round in 0..ROUNDS {
        for (index, (name, command)) in runs.iter_mut().enumerate() {
            if name.starts_with("tshark") && round > 0 {
                continue;
            }
            took[index].push(run(command).with_context(|| (*name).to_owned())?);
        }
        let said = crate::command::output(inside(&["limit"]).arg(&recording).arg(&capture))?;
        for (limit, seconds) in limits.iter_mut().zip(said.lines()) {
            limit.push(seconds.parse()?);
        }
    }
    let small = run(&mut analyze(&quarter, "1"))?.peak;
    let middle = |index: usize, pick: fn(&Took) -> f64| {
        median(&took[index].iter().map(pick).collect::<Vec<f64>>())
    };
    let (wall, cpu) = (|index| middle(index, |t| t.wall), |index| middle(index, |t| t.cpu));
    let [read, unpacked, touched] = limits.map(|seconds| median(&seconds));

    let mut text = format!(
        "## Offline, {PACKETS} packets\n\nMedian of {ROUNDS} runs, interleaved; files in the page \
         cache. Ratios with one thread are of CPU time, which other work on the machine disturbs less; \
         those with two are of wall time.\n\n\
         | program | wall s | CPU s | million packets/CPU s | peak MB |\n|---|---:|---:|---:|---:|\n"
    );
    for (index, (name, _)) in runs.iter().enumerate() {
        let peak = middle(index, |t| t.peak as f64) / 1024.0;
        writeln!(
            text,
            "| {name} | {:.3} | {:.3} | {:.2} | {peak:.0} |",
            wall(index),
            cpu(index),
            PACKETS as f64 / cpu(index) / 1e6
        )?;
    }
    text.push_str("\n| comparison | times |\n|---|---:|\n");
    for (what, ratio) in [
        ("tcptrace over psc, capture, 1 thread", cpu(4) / cpu(0)),
        ("tcptrace over psc, capture, 2 threads", wall(4) / wall(1)),
        ("tshark over psc, capture, 1 thread", cpu(5) / cpu(0)),
        ("tshark over psc, capture, 2 threads", wall(5) / wall(1)),
        ("1 thread over 2, capture", wall(0) / wall(1)),
        ("1 thread over 2, recording", wall(2) / wall(3)),
        ("machine's limit over psc, recording, 1 thread", (read + unpacked + touched) / cpu(2)),
        ("machine's limit over psc, recording, 2 threads", (read + unpacked + touched) / wall(3)),
        ("machine's limit over psc, capture, 1 thread", (read + touched) / cpu(0)),
    ] {
        writeln!(text, "| {what} | {ratio:.2} |")?;
    }
    writeln!(
        text,
        "\nThe machine's limit, one thread: {read:.3} s to read the recording, {unpacked:.3} s to \
         decompress it (zstd), {touched:.3} s to touch each header and look its flow up.\n\n\
         Memory, capture: {} MB at a quarter of the packets and connections, {:.0} MB at all. The \
         recording is mapped, so its peak counts pages of the file.",
        small / 1024,
        middle(0, |t| t.peak as f64) / 1024.0
    )?;
    let opened = open_in_browser(Path::new(&report), folder)?;
    let size = std::fs::metadata(&report).with_context(|| report.clone())?.len();
    writeln!(text, "\nThe report of {PACKETS} packets has {:.2} MB; {opened}", size as f64 / 1e6)?;
    for file in [capture, quarter, recording, imported.into(), report.into()] {
        std::fs::remove_file(&file).with_context(|| file.display().to_string())?;
    }
    Ok(text)
}

/// Whole Ethernet frames of TCP and UDP over IPv4, by time, of every capture below a folder.
fn gather(folder: &Path) -> Result<Vec<Packet>> {
    let mut packets = Vec::new();
    for file in captures(folder)? {
        let Ok(mut source) = psc_formats::open(&file) else { continue };
        let (mut batch, mut first) = (Batch::default(), None);
        loop {
            batch.clear();
            let Ok(progress) = source.fill(&mut batch) else { break };
            for event in &batch.events {
                let Some(at) = event.packet.filter(|at| at.link == LinkType::ETHERNET) else {
                    continue;
                };
                let bytes = batch.packet(at);
                let headers = packet::decode(at.link, bytes, at.len);
                let plain = matches!(headers.network, Network::V4(ip) if !ip.more_fragments && ip.fragment_offset == 0)
                    && matches!(headers.transport, Transport::Tcp(_) | Transport::Udp(_))
                    && headers.malformed.is_none()
                    && headers.vlans[0].is_none();
                let since = event.at.0.saturating_sub(*first.get_or_insert(event.at.0));
                if plain && at.caplen == at.len && since < (COPY_SECONDS - 1) * 1_000_000_000 {
                    packets.push((since, at.len, bytes.to_vec()));
                }
            }
            if progress == Progress::End {
                break;
            }
        }
    }
    ensure!(!packets.is_empty(), "{} has no TCP or UDP over IPv4 to copy", folder.display());
    packets.sort_by_key(|(at, ..)| *at);
    Ok(packets)
}

fn captures(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(captures(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Writes copies of the packets until there are `count`, each copy later and with other addresses.
fn write(packets: &[Packet], count: usize, path: &Path) -> Result<()> {
    let file = std::fs::File::create(path).with_context(|| path.display().to_string())?;
    let mut out = BufWriter::new(file);
    let header: [u32; 6] = [0xa1b2_3c4d, 0x0004_0002, 0, 0, 262_144, 1];
    header.iter().try_for_each(|word| out.write_all(&word.to_le_bytes()))?;
    for (index, copy) in (0..count).zip(packets.iter().cycle()) {
        let turn = (index / packets.len()) as u64;
        let (at, len, bytes) = copy;
        let seconds = 1_700_000_000 + turn * COPY_SECONDS + at / 1_000_000_000;
        let record = [seconds as u32, (at % 1_000_000_000) as u32, bytes.len() as u32, *len];
        record.iter().try_for_each(|word| out.write_all(&word.to_le_bytes()))?;
        let mut bytes = bytes.clone();
        // The middle octets of both addresses, so that each copy has connections of its own.
        for (place, part) in [(27, turn), (28, turn >> 8), (31, turn), (32, turn >> 8)] {
            bytes[place] ^= part as u8;
        }
        out.write_all(&bytes)?;
    }
    out.flush().with_context(|| path.display().to_string())
}

/// What a run took.
#[derive(Clone, Copy)]
struct Took {
    /// Seconds by the clock.
    wall: f64,
    /// Seconds of all its threads, user and system.
    cpu: f64,
    /// Peak memory, KiB.
    peak: u64,
}

/// Runs a program to its end.
fn run(command: &mut Command) -> Result<Took> {
    let before = Instant::now();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| command.get_program().to_string_lossy().into_owned())?;
    let (mut status, mut usage) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: `status` and `usage` are ours for the call, and the child is waited for here only.
    let usage = unsafe {
        let waited = libc::wait4(child.id() as libc::pid_t, &raw mut status, 0, usage.as_mut_ptr());
        ensure!(waited > 0, "wait4: {}", std::io::Error::last_os_error());
        usage.assume_init()
    };
    let wall = before.elapsed().as_secs_f64();
    if !libc::WIFEXITED(status) || libc::WEXITSTATUS(status) > 1 {
        bail!("{} failed", command.get_program().to_string_lossy());
    }
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    let cpu = seconds(usage.ru_utime) + seconds(usage.ru_stime);
    Ok(Took { wall, cpu, peak: usage.ru_maxrss as u64 })
}

/// How long Chromium takes from its start to the page with its scripts run, and to an empty page.
fn open_in_browser(page: &Path, folder: &Path) -> Result<String> {
    let profile = folder.join("browser");
    let page = std::fs::canonicalize(page).with_context(|| page.display().to_string())?;
    let mut times = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        let addresses = [format!("file://{}", page.display()), "about:blank".to_owned()];
        for (address, times) in addresses.iter().zip(&mut times) {
            let mut chromium = Command::new("chromium");
            chromium.args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]);
            chromium.args(["--disable-background-networking", "--disable-component-update"]);
            chromium.args(["--disable-sync", "--dump-dom"]).arg(address);
            chromium.arg(format!("--user-data-dir={}", profile.display()));
            match run(&mut chromium) {
                Ok(took) => times.push(took.wall),
                Err(error) => return Ok(format!("not opened: {error}.")),
            }
        }
    }
    let _ = std::fs::remove_dir_all(&profile);
    let [whole, empty] = times.map(|times| median(&times));
    Ok(format!(
        "Chromium has it open, scripts run, after {whole:.2} s, an empty page after {empty:.2} s."
    ))
}

/// Seconds to read a file.
fn rate_read(path: &Path) -> Result<f64> {
    let mut file = std::fs::File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    let before = Instant::now();
    while file.read(&mut buffer)? > 0 {}
    Ok(before.elapsed().as_secs_f64())
}

/// Seconds to decompress a recording, which is a zstd stream, from memory.
fn rate_unpack(path: &Path) -> Result<f64> {
    let bytes = std::fs::read(path)?;
    let before = Instant::now();
    let mut decoder = zstd::stream::read::Decoder::with_buffer(&bytes[..])?;
    let mut buffer = vec![0; 1 << 20];
    while decoder.read(&mut buffer)? > 0 {}
    Ok(before.elapsed().as_secs_f64())
}

/// Seconds to walk the records of a capture in memory, read each address and port, and count its flow.
fn rate_touch(path: &Path) -> Result<f64> {
    let bytes = std::fs::read(path)?;
    let mut flows: HashMap<(u64, u32), u64> = HashMap::new();
    let before = Instant::now();
    let mut at = 24;
    while let Some(record) = bytes.get(at..at + 16) {
        let len = u32::from_le_bytes([record[8], record[9], record[10], record[11]]) as usize;
        if let Some(frame) = bytes.get(at + 16..at + 16 + len)
            && let (Some(addresses), Some(ports)) = (
                frame.get(26..34).and_then(<[u8]>::first_chunk),
                frame.get(34..38).and_then(<[u8]>::first_chunk),
            )
        {
            *flows
                .entry((u64::from_le_bytes(*addresses), u32::from_le_bytes(*ports)))
                .or_default() += 1;
        }
        at += 16 + len;
    }
    ensure!(!flows.is_empty(), "no flow");
    Ok(before.elapsed().as_secs_f64())
}
