//! Probing that is stopped keeps what it measured.
#![cfg(all(target_os = "linux", feature = "live", feature = "probe"))]
#![allow(clippy::disallowed_methods, reason = "a signal is sent while probes are on their way")]

mod netns;

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use netns::recording::{json, psc};
use netns::{Pair, live};

#[test]
fn ctrl_c_keeps_what_was_measured() {
    if !live("ctrl_c_keeps_what_was_measured") {
        return;
    }
    let pair = Pair::new();
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("some.psc");
    // One that answers at once, then many that nobody has.
    let list: Vec<String> = (2..200).map(|n| format!("10.77.0.{n}")).collect();
    let mut child = pair
        .client
        .command(env!("CARGO_BIN_EXE_psc"))
        .args(["locate", "--probe", "-", "--protocol", "icmp", "--rounds", "30", "--wait", "300ms"])
        .args(["--max-hops", "3", "--rate", "60", "--save"])
        .arg(&file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("psc starts");
    child.stdin.take().expect("piped").write_all(list.join("\n").as_bytes()).expect("targets");
    std::thread::sleep(Duration::from_secs(4));
    // SAFETY: a plain system call on a child that has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id().cast_signed(), libc::SIGINT) }, 0);
    let out = child.wait_with_output().expect("psc ends");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    assert!(said.contains("stopped: probed ") && said.contains(" of 198 targets"), "{said}");
    let view = json(&["locate"], &file, &["--limit", "1000"]);
    let routes = view["routes"].as_array().expect("routes");
    assert!((1..198).contains(&routes.len()), "{}", routes.len());
    let answers = |route: &serde_json::Value| {
        let hops = route["hops"].as_array().expect("hops").iter();
        hops.map(|hop| hop["answered"].as_u64().expect("a count")).sum::<u64>()
    };
    assert!(routes.iter().any(|route| answers(route) > 0), "{routes:#?}");
    let told = psc().args(["verify"]).arg(&file).output().expect("psc verify");
    assert!(told.status.success(), "whole: {}", String::from_utf8_lossy(&told.stdout));
}
