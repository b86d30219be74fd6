//! The command line as a person meets it: help, one clear line for every mistake, exit status.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const VERBS: [&[&str]; 22] = [
    &["record"],
    &["import"],
    &["export"],
    &["info"],
    &["verify"],
    &["keygen"],
    &["sign"],
    &["recover"],
    &["slice"],
    &["redact"],
    &["merge"],
    &["test"],
    &["trace"],
    &["analyze"],
    &["locate"],
    &["report"],
    &["guard", "detect"],
    &["guard", "explain"],
    &["guard", "suggest"],
    &["guard", "baseline"],
    &["completions"],
    &["man"],
];

/// Verbs that read a recording and write to standard output.
const READERS: [&[&str]; 5] =
    [&["info"], &["trace"], &["analyze"], &["locate"], &["guard", "detect"]];

fn psc() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_psc"));
    command.env_remove("NO_COLOR").stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    psc().args(args).output().expect("psc starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("output is UTF-8")
}

/// Asserts exit status 2, nothing on standard output, and one line on standard error that begins with
/// `psc: ` and has all of `words`.
fn assert_error(args: &[&str], words: &[&str]) {
    let out = run(args);
    let stderr = text(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{args:?}: {stderr}");
    assert!(out.stdout.is_empty(), "{args:?} wrote {}", text(&out.stdout));
    assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    assert!(stderr.starts_with("psc: "), "{args:?}: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "{args:?} does not say {word:?}: {stderr}");
    }
}

/// A little-endian microsecond pcap of `packets` UDP datagrams over raw IPv4, one a millisecond.
fn pcap(dir: &Path, packets: u32) -> PathBuf {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 101] {
        bytes.extend(word.to_le_bytes());
    }
    for number in 0..packets {
        #[rustfmt::skip]
        let packet = [
            0x45, 0, 0, 28, number.to_be_bytes()[2], number.to_be_bytes()[3], 0, 0, 64, 17, 0, 0,
            10, 0, 0, 1, 10, 0, 0, 2, 0x03, 0xe8, 0, 53, 0, 8, 0, 0,
        ];
        let (seconds, micros) = (1_700_000_000 + number / 1_000, number % 1_000 * 1_000);
        for word in [seconds, micros, packet.len() as u32, packet.len() as u32] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(packet);
    }
    let path = dir.join("udp.pcap");
    fs::write(&path, bytes).expect("temporary file");
    path
}

#[test]
fn every_verb_has_help_with_examples() {
    for verb in VERBS {
        for flag in ["-h", "--help"] {
            let mut args = verb.to_vec();
            args.push(flag);
            let out = run(&args);
            assert!(out.status.success(), "{args:?}");
            let help = text(&out.stdout);
            assert!(help.contains("Usage: psc"), "{args:?}");
            assert!(help.contains("Examples:"), "{args:?}");
            assert!(out.stderr.is_empty(), "{args:?}");
        }
    }
}

#[test]
fn no_help_line_is_wider_than_a_page() {
    for verb in VERBS {
        let mut args = verb.to_vec();
        args.push("--help");
        for line in text(&run(&args).stdout).lines() {
            assert!(line.chars().count() <= 110, "{args:?}: {line}");
        }
    }
}

#[test]
fn mistakes_on_the_command_line_are_one_line() {
    assert_error(&["trace", "x.psc", "-t", "3s"], &["3s", "FROM..TO", "psc trace --help"]);
    assert_error(&["trace", "x.psc", "-t", "3s..1s"], &["before"]);
    assert_error(&["analyze", "x.psc", "--fromat", "json"], &["--format"]);
    assert_error(&["analyze", "x.psc", "--format", "yaml"], &["yaml", "json"]);
    assert_error(&["analyse", "x.psc"], &["analyze"]);
    assert_error(&["trace"], &["INPUT"]);
    assert_error(&["record", "--for", "ten"], &["ten", "10s"]);
    assert_error(&["record", "--for", "1s", "--", "true"], &["cannot be used with"]);
    assert_error(&["record", "--ring", "9s", "--rotate-size", "1MiB"], &["cannot be used with"]);
}

#[test]
fn a_missing_file_is_named() {
    for verb in READERS.into_iter().chain([&["verify"][..]]) {
        let mut args = verb.to_vec();
        args.push("/no/such/file.psc");
        assert_error(&args, &["/no/such/file.psc", "No such file"]);
    }
    assert_error(&["recover", "/no/such.psc", "-o", "/no/out.psc"], &["/no/such.psc"]);
    assert_error(&["slice", "/no/such.psc", "-o", "/no/out.psc"], &["/no/such.psc"]);
    assert_error(&["report", "/no/such.psc", "-o", "/no/out.html"], &["/no/such.psc"]);
    assert_error(&["import", "/no/such.pcap", "-o", "/no/out.psc"], &["/no/such.pcap"]);
}

#[test]
fn what_is_no_recording_is_called_so() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty");
    let noise = dir.path().join("noise");
    fs::write(&empty, "").unwrap();
    fs::write(&noise, "this is no capture, it is a text of more than thirty-two bytes\n").unwrap();
    for file in [&empty, &noise, &dir.path().to_path_buf()] {
        let file = file.to_str().unwrap();
        for verb in READERS.into_iter().chain([&["verify"][..]]) {
            let mut args = verb.to_vec();
            args.push(file);
            assert_error(&args, &[file]);
        }
    }
}

#[test]
fn a_bad_expression_points_at_its_column() {
    let dir = tempfile::tempdir().unwrap();
    let capture = pcap(dir.path(), 1);
    let capture = capture.to_str().unwrap();
    for verb in [&["trace"][..], &["analyze"], &["locate"], &["guard", "detect"]] {
        let mut args = verb.to_vec();
        args.extend([capture, "-f", "tcp.prot == 80"]);
        assert_error(&args, &["tcp.port", "column 1"]);
    }
}

#[test]
fn captures_are_read_from_files_and_pipes_alike() {
    let dir = tempfile::tempdir().unwrap();
    let capture = pcap(dir.path(), 20);
    for verb in READERS {
        let file = psc().args(verb).arg(&capture).output().unwrap();
        assert!(file.status.success(), "{verb:?}: {}", text(&file.stderr));
        let pipe =
            psc().args(verb).arg("-").stdin(fs::File::open(&capture).unwrap()).output().unwrap();
        assert!(pipe.status.success(), "{verb:?}: {}", text(&pipe.stderr));
        assert!(!pipe.stdout.is_empty());
    }
}

#[test]
fn json_is_json_and_svg_is_svg() {
    let dir = tempfile::tempdir().unwrap();
    let capture = pcap(dir.path(), 20);
    let capture = capture.to_str().unwrap();
    for verb in READERS {
        let mut args = verb.to_vec();
        args.extend([capture, "--format", "json"]);
        let out = run(&args);
        assert!(out.status.success(), "{verb:?}: {}", text(&out.stderr));
        let document: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        assert!(document["schema"].is_u64(), "{verb:?}");
    }
    for verb in ["trace", "analyze"] {
        let out = run(&[verb, capture, "--format", "svg"]);
        assert!(out.status.success(), "{verb}: {}", text(&out.stderr));
        assert!(text(&out.stdout).starts_with("<svg") || text(&out.stdout).starts_with("<?xml"));
    }
}

#[test]
fn a_time_range_counts_from_the_first_event() {
    let dir = tempfile::tempdir().unwrap();
    let capture = pcap(dir.path(), 20);
    let events = |range: &str| {
        let out = run(&["trace", capture.to_str().unwrap(), "-t", range, "--format", "json"]);
        assert!(out.status.success(), "{range}: {}", text(&out.stderr));
        let document: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        document["journeys"]["total"].as_u64().unwrap()
    };
    assert_eq!(events("0s..5ms"), 5, "TO is not included");
    assert_eq!(events("5ms.."), 15, "FROM is included");
    assert_eq!(events("2023-11-14T22:13:20Z..2023-11-14T22:13:20.010Z"), 10);
}

#[test]
fn thread_count_and_color_do_not_change_piped_output() {
    let dir = tempfile::tempdir().unwrap();
    let capture = pcap(dir.path(), 2_000);
    let capture = capture.to_str().unwrap();
    for verb in READERS {
        let with = |threads: &str| {
            let mut args = verb.to_vec();
            args.extend([capture, "--threads", threads]);
            run(&args).stdout
        };
        assert_eq!(with("1"), with("4"), "{verb:?}");
        assert!(!with("1").contains(&0x1b), "{verb:?}: no escape sequences into a pipe");
    }
}

#[test]
fn import_then_info_verify_slice_recover() {
    let dir = tempfile::tempdir().unwrap();
    let capture = pcap(dir.path(), 20);
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (a, b, c) = (path("a.psc"), path("b.psc"), path("c.psc"));
    let ok = |args: &[&str]| {
        let out = run(args);
        assert_eq!(out.status.code(), Some(0), "{args:?}: {}", text(&out.stderr));
        out
    };
    ok(&["import", capture.to_str().unwrap(), "-o", &a]);
    assert_error(&["import", capture.to_str().unwrap(), "-o", &a], &[&a, "--force"]);
    ok(&["verify", &a]);
    ok(&["slice", &a, "-t", "5ms..10ms", "-o", &b]);
    let out = ok(&["info", &b, "--format", "json"]);
    let info: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(info["provenance"]["events"], 5);

    // Cut in the middle: verify says so with status 1, recover keeps what can be read.
    let whole = fs::read(&a).unwrap();
    fs::write(&b, &whole[..whole.len() - 40]).unwrap();
    assert_eq!(run(&["verify", &b]).status.code(), Some(1));
    ok(&["recover", &b, "-o", &c]);
    assert_eq!(ok(&["info", &c, "--format", "json"]).status.code(), Some(0));
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    // Enough output to fill a pipe that nobody reads.
    let capture = pcap(dir.path(), 20_000);
    let mut child = psc()
        .args(["trace", capture.to_str().unwrap(), "--format", "json", "--limit", "20000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 1];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert!(out.stderr.is_empty(), "{}", text(&out.stderr));
}

#[test]
fn a_full_device_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let capture = pcap(dir.path(), 5);
    if !Path::new("/dev/full").exists() {
        return; // Only Linux has it.
    }
    assert_error(
        &["trace", capture.to_str().unwrap(), "-o", "/dev/full"],
        &["/dev/full", "No space left"],
    );
    let mut child = psc()
        .args(["completions", "bash"])
        .stdout(fs::OpenOptions::new().write(true).open("/dev/full").unwrap())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2));
}

#[test]
fn completions_and_manual_pages_cover_every_verb() {
    let script = run(&["completions", "bash"]);
    assert!(script.status.success());
    let manual = run(&["man"]);
    assert!(text(&manual.stdout).contains(".TH psc 1"));
    let dir = tempfile::tempdir().unwrap();
    assert!(run(&["man", "--dir", dir.path().to_str().unwrap()]).status.success());
    for verb in VERBS {
        assert!(text(&script.stdout).contains(verb[0]), "{verb:?}");
        let page = dir.path().join(format!("psc-{}.1", verb.join("-")));
        assert!(page.exists(), "{}", page.display());
    }
}

#[test]
fn report_is_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let capture = pcap(dir.path(), 20);
    let page = dir.path().join("out.html");
    let out = run(&["report", capture.to_str().unwrap(), "-o", page.to_str().unwrap()]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.to_ascii_lowercase().starts_with("<!doctype html"));
    let out = run(&["report", capture.to_str().unwrap(), "-o", "-"]);
    assert_eq!(text(&out.stdout), html, "standard output gets the same page");
}

#[cfg(not(feature = "live"))]
#[test]
fn a_build_without_live_says_that_it_cannot_record() {
    assert_error(&["record", "-o", "x.psc"], &["cannot record", "live", "cargo build"]);
}

/// Standard error closed and standard output closed: still no panic.
#[test]
fn closed_streams_do_not_panic() {
    let mut child = psc()
        .args(["trace", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"no capture").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2));
}
