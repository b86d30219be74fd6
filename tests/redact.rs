//! A redacted recording says what the recording says: for every golden recording, each view is the same
//! when the addresses and names of one are replaced by what stands for them in the other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use psc_formats::open::open;
use psc_formats::packet::Transport;
use psc_formats::redact::{Options, Redactor};
use psc_formats::{Batch, EventSource, Fact, Progress};
use serde_json::Value;

const KEY: [u8; 32] = [0x42; 32];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn psc(dir: &Path, args: &[&str]) -> Vec<u8> {
    let out = Command::new(env!("CARGO_BIN_EXE_psc")).current_dir(dir).args(args).output();
    let out = out.expect("psc starts");
    let status = out.status.code();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(matches!(status, Some(0 | 1)), "{args:?}: {said}");
    out.stdout
}

/// All recordings and captures of the tree.
fn recordings() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["testdata/recordings", "testdata/captures", "testdata/archives"] {
        for entry in fs::read_dir(root().join(folder)).expect("testdata") {
            let path = entry.expect("entry").path();
            let kind = path.extension().and_then(|ext| ext.to_str()).unwrap_or_default();
            if ["psc", "pcap", "pcapng"].contains(&kind) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Names that stand for others, by what they stand for, longest first.
fn names(path: &Path, redactor: &Redactor) -> Vec<(String, String)> {
    let mut names = Vec::new();
    let mut add = |kind: &str, name: &str| {
        if !name.is_empty() {
            names.push((name.to_owned(), redactor.name(kind, name)));
        }
    };
    let mut source = open(path).expect("a recording");
    add("host", &source.manifest().host.name);
    let mut batch = Batch::default();
    loop {
        batch.clear();
        let progress = source.fill(&mut batch).expect("readable");
        for fact in &batch.facts {
            match fact {
                Fact::Device(device) => add("namespace", &device.netns_name),
                Fact::Task(task) => {
                    add("process", &task.comm);
                    add("cgroup", &task.cgroup);
                    add("container", &task.container);
                }
                Fact::Socket(socket) => add("process", &socket.comm),
                Fact::Firewall(firewall) => {
                    for chain in &firewall.chains {
                        add("chain", &chain.table);
                    }
                }
                _ => {}
            }
        }
        if progress == Progress::End {
            break;
        }
    }
    names.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.cmp(b)));
    names.dedup();
    names
}

/// Replaces a name where it stands alone: `eth0@web`, `curl[12]`.
fn replace_word(text: &str, name: &str, mapped: &str) -> String {
    let inside = |c: char| c.is_alphanumeric() || "_-.:".contains(c);
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(name) {
        let after = &rest[at + name.len()..];
        let before = out.chars().chain(rest[..at].chars()).next_back();
        let ends = after.strip_prefix(['.', ':']).unwrap_or(after);
        let alone = !before.is_some_and(inside) && !ends.starts_with(inside);
        out.push_str(&rest[..at]);
        out.push_str(if alone { mapped } else { name });
        rest = after;
    }
    out + rest
}

/// What does not depend on where things are: addresses and names replaced, lists in an order of
/// their own, places, texts of commands and the custody log left out.
fn normal(value: Value, redactor: &mut Option<&mut Redactor>, names: &[(String, String)]) -> Value {
    match value {
        Value::String(text) => {
            let mut text = text;
            if let Some(redactor) = redactor {
                for (name, mapped) in names {
                    text = replace_word(&text, name, mapped);
                }
                text = redactor.text(&text);
            }
            Value::String(text)
        }
        Value::Array(rows) => {
            let mut rows: Vec<Value> =
                rows.into_iter().map(|row| normal(row, redactor, names)).collect();
            rows.sort_by_key(ToString::to_string);
            Value::Array(rows)
        }
        Value::Object(fields) => {
            let gone =
                ["command", "custody", "acquisition", "source", "country", "place", "references"];
            let own = ["detectors", "advice", "meaning", "blind_spots"];
            let mut out = serde_json::Map::new();
            for (name, value) in fields {
                if gone.contains(&name.as_str()) {
                    continue;
                }
                // psc's own words, in which `ping` is a word and a namespace is a name.
                let value = if own.contains(&name.as_str()) {
                    let named: Vec<_> = names
                        .iter()
                        .filter(|(_, to)| to.starts_with("namespace"))
                        .cloned()
                        .collect();
                    normal(value, redactor, &named)
                } else {
                    normal(value, redactor, names)
                };
                out.insert(name, value);
            }
            Value::Object(out)
        }
        other => other,
    }
}

/// Where two documents differ, the first few places.
fn differences(path: &str, a: &Value, b: &Value, out: &mut Vec<String>) {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            for (name, value) in x {
                let other = y.get(name).unwrap_or(&Value::Null);
                differences(&format!("{path}.{name}"), value, other, out);
            }
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            for (row, (one, other)) in x.iter().zip(y).enumerate() {
                differences(&format!("{path}[{row}]"), one, other, out);
            }
        }
        _ if a != b => out.push(format!("{path}: {a} / {b}")),
        _ => {}
    }
}

#[test]
fn every_view_of_a_redacted_recording_is_that_of_the_recording() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("key"), "42".repeat(32)).unwrap();
    for path in recordings() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let from = dir.join(name);
        fs::copy(&path, &from).unwrap();
        let report = psc(dir, &["redact", name, "-o", "out.psc", "--key", "key", "--force"]);
        assert!(String::from_utf8(report).unwrap().contains("addresses replaced"));
        psc(dir, &["verify", "out.psc"]);
        let mut redactor = Redactor::new(&KEY, Options::default());
        let names = names(&path, &redactor);
        let views: [&[&str]; 4] = [
            &["analyze", "--limit", "100000"],
            &["trace", "--limit", "100000", "--paths", "100000"],
            &["guard", "detect"],
            &["info"],
        ];
        for view in views {
            let show = |file: &str| -> Value {
                let args = [view, &["--format", "json", file]].concat();
                serde_json::from_slice(&psc(dir, &args)).expect("JSON")
            };
            let before = normal(show(name), &mut Some(&mut redactor), &names);
            let after = normal(show("out.psc"), &mut None, &[]);
            let mut found = Vec::new();
            differences("", &before, &after, &mut found);
            // How it is stored differs: payload compresses better.
            let stored = [".file_bytes", ".frames", ".bytes_per_event"];
            found.retain(|line| !stored.iter().any(|part| line.starts_with(part)));
            // The first few of many, in the order of addresses, are others.
            found.retain(|line| !line.contains(" more.\""));
            found.retain(|line| !(line.starts_with(".drops[") && line.contains("][0]: ")));
            let some = found.iter().take(12).cloned().collect::<Vec<_>>().join("\n  ");
            assert!(found.is_empty(), "{name} {view:?}: {} differ\n  {some}", found.len());
        }
    }
}

#[test]
fn what_was_secret_is_not_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("key"), "42".repeat(32)).unwrap();
    fs::copy(root().join("testdata/recordings/demo.psc"), dir.join("a.psc")).unwrap();
    psc(dir, &["redact", "a.psc", "-o", "b.psc", "--key", "key"]);
    let redactor = Redactor::new(&KEY, Options::default());
    let mut names = names(&dir.join("a.psc"), &redactor);
    names.retain(|(name, _)| name.len() > 3);
    // Everything that the file holds, as text: events, facts, packets in hexadecimal.
    let mut raw = Vec::new();
    let bytes = fs::read(dir.join("b.psc")).unwrap();
    std::io::copy(&mut zstd::Decoder::new(&bytes[..]).unwrap(), &mut raw).unwrap();
    for (name, _) in names {
        // Whole, as JSON has it: `ping` is in the names of kernel functions too.
        let name = format!("\"{name}\"");
        let found = raw.windows(name.len()).any(|window| window == name.as_bytes());
        assert!(!found, "{name} is still there");
    }
    let mut source = open(&dir.join("a.psc")).unwrap();
    let mut batch = Batch::default();
    let mut secrets = 0;
    loop {
        batch.clear();
        let progress = source.fill(&mut batch).unwrap();
        for event in &batch.events {
            let Some(packet) = event.packet else { continue };
            let bytes = batch.packet(packet);
            let headers = psc_formats::packet::decode(packet.link, bytes, packet.len);
            let payload = bytes.get(usize::from(headers.payload_offset)..).unwrap_or(&[]);
            let distinct = payload.iter().collect::<std::collections::BTreeSet<_>>().len();
            let carries = matches!(headers.transport, Transport::Tcp(_) | Transport::Udp(_));
            if carries && payload.len() >= 16 && distinct >= 8 && payload[..16] != [0; 16] {
                secrets += 1;
                assert!(
                    !raw.windows(16).any(|window| window == &payload[..16]),
                    "payload is there"
                );
            }
        }
        if progress == Progress::End {
            break;
        }
    }
    assert!(secrets > 0, "the recording has payload to lose");
}

#[test]
fn a_bad_key_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("zeros"), "00".repeat(32)).unwrap();
    fs::write(dir.path().join("short"), "abc").unwrap();
    let input = root().join("testdata/recordings/closed.psc");
    for key in ["zeros", "short", "missing"] {
        let out = Command::new(env!("CARGO_BIN_EXE_psc"))
            .current_dir(dir.path())
            .args(["redact", input.to_str().unwrap(), "-o", "x.psc", "--key", key])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{key}: {said}");
        assert!(key == "missing" || said.contains("psc keygen --redaction"), "{key}: {said}");
        assert!(!dir.path().join("x.psc").exists());
    }
}
