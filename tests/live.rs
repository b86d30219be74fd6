//! `psc record` on this kernel: what is stored is what happened, and every way to end leaves a file
//! that can be read. Needs root; see `netns::live` for what happens without.
#![cfg(all(target_os = "linux", feature = "live"))]
#![allow(clippy::disallowed_methods, reason = "recording happens in real time")]

mod netns;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use netns::recording::{Recording, json, psc};
use netns::{Host, Pair, delta, live};
use psc_formats::archive::Reader;
use psc_formats::{Batch, EventSource, Progress, Tables};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// Events, and facts at the end.
fn read(path: &Path) -> (Vec<psc_formats::Event>, Tables) {
    let mut reader = Reader::open(path).expect("archive opens");
    let (mut events, mut tables, mut batch) = (Vec::new(), Tables::default(), Batch::default());
    loop {
        batch.clear();
        let progress = reader.fill(&mut batch).expect("archive reads");
        batch.facts.iter().for_each(|fact| tables.apply(fact));
        events.append(&mut batch.events);
        if progress == Progress::End {
            return (events, tables);
        }
    }
}

/// `psc verify`'s exit status and state.
fn verify(path: &Path) -> (Option<i32>, String) {
    let out = psc().arg("verify").arg(path).args(["--format", "json"]).output().expect("psc");
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    (out.status.code(), report["state"].as_str().unwrap_or_default().to_owned())
}

/// Two hosts that know each other's link-layer address: a packet that waits for one is copied for
/// the neighbour's sake, and the copy is a journey too.
fn wired() -> Pair {
    let pair = Pair::new();
    pair.client.sh(&["ping", "-c", "1", "-q", "10.77.0.2"]);
    pair
}

fn within(pair: &Pair) -> [&str; 4] {
    ["--netns", &pair.client.name, "--netns", &pair.server.name]
}

/// `count` UDP datagrams from client to a bound socket on `port`.
fn udp(pair: &Pair, port: u16, count: u32) {
    let server = pair.server.run(|| UdpSocket::bind((SERVER, port)).expect("bind"));
    pair.client.run(|| {
        let socket = UdpSocket::bind((CLIENT, 0)).expect("bind");
        for number in 0..count {
            socket.send_to(&number.to_be_bytes(), (SERVER, port)).expect("send");
        }
    });
    server.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
    for _ in 0..count {
        server.recv(&mut [0; 8]).expect("every datagram arrives");
    }
}

/// One connection: ten bytes each way and an orderly end.
fn tcp(pair: &Pair, port: u16) {
    let listener = pair.server.run(|| TcpListener::bind((SERVER, port)).expect("bind"));
    let serve = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        let mut bytes = [0; 10];
        stream.read_exact(&mut bytes).expect("read");
        stream.write_all(&bytes).expect("write");
    });
    pair.client.run(|| {
        let mut stream = TcpStream::connect((SERVER, port)).expect("connect");
        stream.write_all(b"0123456789").expect("write");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("read");
        assert_eq!(bytes, b"0123456789");
    });
    serve.join().expect("server");
}

/// A flood of datagrams to nobody until dropped.
struct Flood(std::process::Child);

impl Flood {
    fn new(host: &Host) -> Self {
        let script = "exec 3>/dev/udp/10.77.0.2/9; while :; do echo flooooood >&3; done";
        let child = host
            .command("bash")
            .args(["-c", script])
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("bash starts");
        Self(child)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn journeys(path: &Path, filter: &str) -> u64 {
    json(&["trace"], path, &["-f", filter])["journeys"]["total"].as_u64().expect("a number")
}

#[test]
fn what_is_stored_is_what_the_kernel_counted() {
    if !live("what_is_stored_is_what_the_kernel_counted") {
        return;
    }
    let (dir, pair) = (tempfile::tempdir().unwrap(), wired());
    let before = pair.server.counters();
    let recording = Recording::start(&dir.path().join("a.psc"), &within(&pair));
    pair.client.sh(&["ping", "-c", "5", "-i", "0.05", "-q", "10.77.0.2"]);
    udp(&pair, 7001, 20);
    for port in 7002..7005 {
        tcp(&pair, port);
    }
    let path = recording.path.clone();
    let (clean, said) = recording.stop();
    let after = pair.server.counters();
    assert!(clean, "{said}");
    assert!(said.contains("no event lost") && said.contains("signal"), "{said}");
    assert_eq!(verify(&path), (Some(0), "closed".to_owned()));
    #[rustfmt::skip]
    let cases = [
        ("icmp.type == 8 and ip.dst == 10.77.0.2",                                 "IcmpInEchos"),
        ("udp.dstport == 7001",                                                    "UdpInDatagrams"),
        ("ip.dst == 10.77.0.2 and tcp.flags.syn == 1 and tcp.flags.ack == 0",      "TcpPassiveOpens"),
        ("ip.dst == 10.77.0.2 and tcp",                                            "TcpInSegs"),
    ];
    for (filter, counter) in cases {
        let counted = delta(&before, &after, counter);
        assert!(counted > 0, "{counter}");
        assert_eq!(journeys(&path, filter), counted, "{filter} against {counter}");
    }
    let (events, tables) = read(&path);
    assert!(events.iter().any(|event| event.packet.is_some()));
    assert!(tables.devices.values().any(|device| device.name == "s0"));
    assert!(tables.counters.len() >= 4, "two namespaces, start and end");
    assert_eq!(tables.end.unwrap().reason, "signal");
}

#[test]
fn a_killed_recorder_leaves_what_it_had_flushed() {
    if !live("a_killed_recorder_leaves_what_it_had_flushed") {
        return;
    }
    let (dir, pair) = (tempfile::tempdir().unwrap(), wired());
    let recording = Recording::start(&dir.path().join("a.psc"), &within(&pair));
    udp(&pair, 7001, 20);
    std::thread::sleep(Duration::from_millis(1_500));
    let path = recording.path.clone();
    // SAFETY: a signal to a child that has not been waited for.
    unsafe { libc::kill(recording.pid() as i32, libc::SIGKILL) };
    drop(recording);
    assert_eq!(verify(&path), (Some(1), "unclosed".to_owned()));
    assert_eq!(journeys(&path, "udp.dstport == 7001"), 20, "all were flushed a second ago");
    let whole = dir.path().join("b.psc");
    let out = psc().arg("recover").arg(&path).arg("-o").arg(&whole).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(verify(&whole), (Some(0), "closed".to_owned()));
    assert_eq!(journeys(&whole, "udp.dstport == 7001"), 20);
}

/// A small file system, gone on drop.
struct Small(PathBuf);

impl Small {
    fn mount(path: &Path, size: &str) -> Self {
        fs::create_dir(path).expect("directory");
        let at = path.to_str().expect("UTF-8");
        netns::sh("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "psc-t", at]);
        Self(path.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_ends_the_recording_and_keeps_it() {
    if !live("a_full_disk_ends_the_recording_and_keeps_it") {
        return;
    }
    let (dir, pair) = (tempfile::tempdir().unwrap(), wired());
    let small = Small::mount(&dir.path().join("small"), "256k");
    let path = small.0.join("a.psc");
    let flood = Flood::new(&pair.client);
    let out = psc()
        .args(["record", "-s", "0", "--stacks", "off", "--for", "60s"])
        .args(within(&pair))
        .arg("-o")
        .arg(&path)
        .output()
        .unwrap();
    drop(flood);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("disk full") && said.contains("a.psc"), "{said}");
    let (status, state) = verify(&path);
    assert_eq!((status, state.as_str()), (Some(1), "unclosed"));
    assert!(!read(&path).0.is_empty(), "what was recorded until then is there");
}

#[test]
fn the_command_ends_the_recording_and_its_status_is_kept() {
    if !live("the_command_ends_the_recording_and_its_status_is_kept") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.psc");
    let out = psc()
        .args(["record", "-o", path.to_str().unwrap(), "--"])
        .args(["sh", "-c", "ping -c 2 -i 0.05 -q 127.0.0.1; exit 3"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    assert!(said.contains("exited with 3"), "{said}");
    let (events, tables) = read(&path);
    assert!(!events.is_empty());
    assert_eq!(tables.end.unwrap().command_status, Some(3));
}

#[test]
fn under_sudo_command_and_file_are_the_callers() {
    if !live("under_sudo_command_and_file_are_the_callers") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.psc");
    let out = psc()
        .env("SUDO_UID", "65534")
        .env("SUDO_GID", "65534")
        .args(["record", "-o", path.to_str().unwrap(), "--"])
        .args(["sh", "-c", "id -u; id -G; grep CapEff /proc/self/status"])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let lines = String::from_utf8_lossy(&out.stdout);
    assert_eq!(lines, "65534\n65534\nCapEff:\t0000000000000000\n");
    let meta = path.metadata().unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o777), (65534, 65534, 0o600));
}

#[test]
fn privileges_are_given_up_once_the_probes_are_attached() {
    if !live("privileges_are_given_up_once_the_probes_are_attached") {
        return;
    }
    const CAP_SETUID: u64 = 1 << 7;
    const CAP_SYS_MODULE: u64 = 1 << 16;
    const CAP_SYS_RAWIO: u64 = 1 << 17;
    let dir = tempfile::tempdir().unwrap();
    let recording = Recording::start(&dir.path().join("a.psc"), &[]);
    for task in fs::read_dir(format!("/proc/{}/task", recording.pid())).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
        let effective = u64::from_str_radix(hex.trim(), 16).unwrap();
        assert_eq!(effective & (CAP_SETUID | CAP_SYS_MODULE | CAP_SYS_RAWIO), 0, "{hex}");
    }
    let (clean, said) = recording.stop();
    assert!(clean, "{said}");
}

#[test]
fn a_recording_goes_through_a_pipe() {
    if !live("a_recording_goes_through_a_pipe") {
        return;
    }
    let mut record = psc()
        .args(["record", "-q", "-o", "-", "--", "ping", "-c", "3", "-i", "0.05", "127.0.0.1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let info = psc()
        .args(["info", "-", "--format", "json"])
        .stdin(record.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(record.wait().unwrap().success());
    assert!(info.status.success(), "{}", String::from_utf8_lossy(&info.stderr));
    let view: serde_json::Value = serde_json::from_slice(&info.stdout).unwrap();
    assert!(view["provenance"]["events"].as_u64().unwrap() > 0, "and ping's output is not in it");
    assert_eq!(view["provenance"]["completeness"]["closed"], true);
}

#[test]
fn a_pipe_that_nobody_reads_ends_the_recording() {
    if !live("a_pipe_that_nobody_reads_ends_the_recording") {
        return;
    }
    let mut record = psc()
        .args(["record", "-q", "-o", "-", "--for", "60s"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    record.stdout.take().unwrap().read_exact(&mut [0; 16]).unwrap();
    let began = Instant::now();
    assert_eq!(record.wait().unwrap().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[test]
fn the_connection_that_carries_the_recording_is_left_out() {
    if !live("the_connection_that_carries_the_recording_is_left_out") {
        return;
    }
    let (dir, pair) = (tempfile::tempdir().unwrap(), wired());
    let listener = pair.server.run(|| TcpListener::bind((SERVER, 22)).unwrap());
    let mut client = pair.client.run(|| TcpStream::connect((SERVER, 22)).unwrap());
    let (mut server, _) = listener.accept().unwrap();
    let path = dir.path().join("a.psc");
    let ssh = format!("10.77.0.1 {} 10.77.0.2 22", client.local_addr().unwrap().port());
    let mut record = psc()
        .env("SSH_CONNECTION", ssh)
        .args(["record", "-o", "-"])
        .args(within(&pair))
        .stdout(fs::File::create(&path).unwrap())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 64];
    // The first line says that the probes are attached.
    let _ = record.stderr.as_mut().unwrap().read(&mut said).unwrap();
    for _ in 0..10 {
        server.write_all(b"carried").unwrap();
        client.read_exact(&mut [0; 7]).unwrap();
    }
    udp(&pair, 7001, 3);
    // SAFETY: a signal to a child that has not been waited for.
    unsafe { libc::kill(record.id() as i32, libc::SIGINT) };
    assert!(record.wait().unwrap().success());
    assert_eq!(journeys(&path, "tcp.port == 22"), 0);
    assert_eq!(journeys(&path, "udp.dstport == 7001"), 3);
}

#[test]
fn rotated_files_are_whole_and_old_ones_go() {
    if !live("rotated_files_are_whole_and_old_ones_go") {
        return;
    }
    let (dir, pair) = (tempfile::tempdir().unwrap(), wired());
    let mut args = within(&pair).to_vec();
    args.extend(["--rotate-time", "500ms", "--keep", "2"]);
    let recording = Recording::start(&dir.path().join("a.psc"), &args);
    for port in 0..5 {
        udp(&pair, 7001 + port, 10);
        std::thread::sleep(Duration::from_millis(400));
    }
    let (clean, said) = recording.stop();
    assert!(clean, "{said}");
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 2, "{files:?}");
    for file in &files {
        assert_eq!(verify(file), (Some(0), "closed".to_owned()), "{}", file.display());
        let (events, tables) = read(file);
        for event in events.iter().filter(|event| event.device.0 != 0) {
            assert_ne!(tables.device_name(event.device), "?", "{}", file.display());
        }
    }
}

#[test]
fn the_ring_is_written_on_request_and_at_the_end() {
    if !live("the_ring_is_written_on_request_and_at_the_end") {
        return;
    }
    let (dir, pair) = (tempfile::tempdir().unwrap(), wired());
    let mut args = within(&pair).to_vec();
    args.extend(["--ring", "60s"]);
    let recording = Recording::start(&dir.path().join("last.psc"), &args);
    udp(&pair, 7001, 10);
    std::thread::sleep(Duration::from_millis(300));
    let (asked, last) = (dir.path().join("last.0001.psc"), recording.path.clone());
    assert!(!last.exists() && !asked.exists(), "nothing is written unasked");
    // SAFETY: a signal to a child that has not been waited for.
    unsafe { libc::kill(recording.pid() as i32, libc::SIGUSR1) };
    let deadline = Instant::now() + Duration::from_secs(10);
    while verify_quietly(&asked) != Some(0) {
        assert!(Instant::now() < deadline, "SIGUSR1 wrote nothing");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(journeys(&asked, "udp.dstport == 7001"), 10);
    udp(&pair, 7002, 5);
    let (clean, said) = recording.stop();
    assert!(clean, "{said}");
    assert_eq!(verify(&last), (Some(0), "closed".to_owned()));
    assert_eq!(journeys(&last, "udp.dstport == 7001"), 10, "the window still reaches back");
    assert_eq!(journeys(&last, "udp.dstport == 7002"), 5);
}

fn verify_quietly(path: &Path) -> Option<i32> {
    let mut command = psc();
    command.arg("verify").arg(path).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().unwrap().code()
}

#[test]
fn a_filter_stores_what_matches_and_calls_the_rest_filtered() {
    if !live("a_filter_stores_what_matches_and_calls_the_rest_filtered") {
        return;
    }
    let (dir, pair) = (tempfile::tempdir().unwrap(), wired());
    let mut args = within(&pair).to_vec();
    args.extend(["-f", "udp.port == 7001"]);
    let recording = Recording::start(&dir.path().join("a.psc"), &args);
    udp(&pair, 7001, 10);
    udp(&pair, 7002, 10);
    tcp(&pair, 7003);
    let path = recording.path.clone();
    let (clean, said) = recording.stop();
    assert!(clean, "{said}");
    assert!(said.contains("left out by filter") && said.contains("no event lost"), "{said}");
    assert_eq!(journeys(&path, "udp.port == 7001"), 10);
    assert_eq!(journeys(&path, "udp.port == 7002 or tcp"), 0);
    let view = json(&["info"], &path, &[]);
    let completeness = &view["provenance"]["completeness"];
    assert_eq!(completeness["sequence_gaps"], 0, "{completeness}");
    assert!(completeness["filtered"].as_u64().unwrap() > 0, "{completeness}");
}

#[test]
fn an_interface_that_goes_away_is_no_end() {
    if !live("an_interface_that_goes_away_is_no_end") {
        return;
    }
    let (dir, pair) = (tempfile::tempdir().unwrap(), wired());
    let mut args = within(&pair).to_vec();
    args.extend(["-i", "c0", "-i", "s0"]);
    let recording = Recording::start(&dir.path().join("a.psc"), &args);
    udp(&pair, 7001, 5);
    pair.client.ip(&["link", "del", "c0"]);
    std::thread::sleep(Duration::from_millis(300));
    let path = recording.path.clone();
    let (clean, said) = recording.stop();
    assert!(clean, "{said}");
    assert_eq!(verify(&path), (Some(0), "closed".to_owned()));
    assert_eq!(journeys(&path, "udp.dstport == 7001"), 5);
}

#[test]
fn mistakes_are_named_before_anything_is_attached() {
    if !live("mistakes_are_named_before_anything_is_attached") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let taken = dir.path().join("taken.psc");
    fs::write(&taken, "precious").unwrap();
    let taken = taken.to_str().unwrap();
    let missing = dir.path().join("no/such/dir/a.psc");
    let fresh = dir.path().join("fresh.psc");
    let fresh = fresh.to_str().unwrap();
    #[rustfmt::skip]
    let cases: [(&[&str], &[&str]); 7] = [
        (&["-o", taken, "--for", "1s"],                                &["taken.psc", "--force"]),
        (&["-o", missing.to_str().unwrap(), "--for", "1s"],            &["no/such/dir"]),
        (&["-o", fresh, "-i", "psc-t-none0", "--for", "1s"],           &["psc-t-none0", "there are", "lo"]),
        (&["-o", fresh, "--netns", "psc-t-nowhere", "--for", "1s"],    &["psc-t-nowhere"]),
        (&["-o", fresh, "--", "/no/such/program"],                     &["/no/such/program"]),
        (&["-o", fresh, "-f", "tcp.prot == 1", "--for", "1s"],         &["column 1", "tcp.port"]),
        (&["-o", fresh, "-f", "drop.reason == \"NO_SOCKET\""],         &["psc trace -f"]),
    ];
    for (args, words) in cases {
        let out = psc().arg("record").args(args).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{args:?} does not say {word:?}: {said}");
        }
        assert!(!Path::new(fresh).exists(), "{args:?} left a file");
    }
    assert_eq!(fs::read_to_string(taken).unwrap(), "precious");
    assert!(!Path::new(fresh).exists());
}

#[test]
fn without_privilege_the_missing_capabilities_are_named() {
    if !live("without_privilege_the_missing_capabilities_are_named") {
        return;
    }
    let out = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .args([env!("CARGO_BIN_EXE_psc"), "record", "--for", "1s"])
        .current_dir("/")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    if said.contains("Permission denied") && !said.contains("psc:") {
        // The build directory is not readable to others; then nothing can be said.
        println!("SKIPPED (live) without_privilege: the psc binary is not readable to others");
        return;
    }
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("CAP_BPF") && said.contains("CAP_PERFMON"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
