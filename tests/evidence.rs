//! Evidence as a person handles it: keys, statements, verdicts and custody, through the command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn recording(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/recordings").join(name)
}

fn psc(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_psc"))
        .current_dir(dir)
        .args(args)
        .output()
        .expect("psc starts")
}

/// Exit status, standard output and standard error.
fn run(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let out = psc(dir, args);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (out.status.code().unwrap_or(-1), text(&out.stdout), text(&out.stderr))
}

fn clean(dir: &Path, args: &[&str]) -> String {
    let (status, out, err) = run(dir, args);
    assert_eq!(status, 0, "{args:?}: {out}{err}");
    out
}

#[test]
fn a_statement_kept_elsewhere_tells_a_recording_from_one_that_was_rewritten() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::copy(recording("closed.psc"), dir.join("a.psc")).unwrap();
    clean(dir, &["keygen", "-o", "one"]);
    clean(dir, &["keygen", "-o", "two"]);
    let (status, _, err) = run(dir, &["keygen", "-o", "one"]);
    assert!(status == 2 && err.contains("never replaced"), "{err}");
    clean(dir, &["sign", "a.psc", "--key", "one", "-o", "kept"]);
    clean(dir, &["sign", "kept", "--key", "two", "-o", "both"]);
    clean(
        dir,
        &["verify", "a.psc", "--checkpoint", "both", "--key", "one.pub", "--key", "two.pub"],
    );

    // Only one of them signed this statement.
    let (status, out, _) =
        run(dir, &["verify", "a.psc", "--checkpoint", "kept", "--key", "two.pub"]);
    assert!(status == 1 && out.contains("nothing in it is signed by"), "{out}");

    // Another recording, and one cut short, with the same statement.
    clean(dir, &["slice", "a.psc", "-t", "0s..", "-o", "b.psc"]);
    let (status, out, _) = run(dir, &["verify", "b.psc", "--checkpoint", "kept"]);
    assert!(status == 1 && out.contains("contradicting"), "{out}");
    let whole = fs::read(dir.join("a.psc")).unwrap();
    fs::write(dir.join("cut.psc"), &whole[..whole.len() / 2]).unwrap();
    let (_, out, _) = run(dir, &["verify", "cut.psc"]);
    assert!(out.contains("not closed"), "{out}");
    let (status, out, _) = run(dir, &["verify", "cut.psc", "--checkpoint", "kept"]);
    assert!(status == 1 && out.contains("cut off"), "{out}");

    // What is damaged is not signed.
    let mut damaged = whole;
    damaged[200] ^= 1;
    fs::write(dir.join("damaged.psc"), damaged).unwrap();
    let (status, _, err) = run(dir, &["sign", "damaged.psc", "--key", "one"]);
    assert!(status == 2 && err.contains("damaged"), "{err}");
}

#[test]
fn what_a_file_was_made_from_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::copy(recording("closed.psc"), dir.join("a.psc")).unwrap();
    fs::copy(recording("drops.psc"), dir.join("other.psc")).unwrap();
    clean(dir, &["slice", "a.psc", "-t", "0s..", "-o", "b.psc"]);
    clean(dir, &["slice", "b.psc", "-f", "tcp", "-o", "c.psc"]);
    let said = clean(dir, &["verify", "c.psc", "--parent", "b.psc", "--parent", "a.psc"]);
    assert_eq!(said.matches("made by psc").count(), 2, "{said}");
    let (status, out, _) = run(dir, &["verify", "c.psc", "--parent", "other.psc"]);
    assert!(status == 1 && out.contains("not made from other.psc"), "{out}");

    let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/captures/conversation.pcap");
    fs::copy(capture, dir.join("x.pcap")).unwrap();
    clean(dir, &["import", "x.pcap", "-o", "x.psc"]);
    clean(dir, &["verify", "x.psc", "--parent", "x.pcap"]);

    clean(dir, &["export", "c.psc", "-o", "c.pcapng", "--custody", "c.json"]);
    let log: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.join("c.json")).unwrap()).unwrap();
    let verbs: Vec<_> =
        log["custody"].as_array().unwrap().iter().map(|s| s["verb"].clone()).collect();
    assert_eq!(verbs, ["slice", "slice", "export"]);
    let hash = blake3::hash(&fs::read(dir.join("c.pcapng")).unwrap());
    assert_eq!(log["blake3"], hash.to_hex().as_str());
}
