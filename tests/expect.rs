//! `psc test` and `psc diff --gate` as a pipeline runs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn recording(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/recordings").join(name)
}

/// Exit status, standard output and standard error.
fn run(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_psc")).current_dir(dir).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (out.status.code().unwrap_or(-1), text(&out.stdout), text(&out.stderr))
}

#[test]
fn each_kind_of_statement_holds_where_it_should_and_fails_where_it_should() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for name in ["closed.psc", "drops.psc", "scan.psc", "conversation.psc"] {
        fs::copy(recording(name), dir.join(name)).unwrap();
    }
    #[rustfmt::skip]
    let cases: [(&str, &str, bool, &str); 18] = [
        ("closed.psc", "never = 'drop.reason and not drop.reason in {\"NO_SOCKET\"}'", true, "0 of"),
        ("drops.psc", "never = 'drop.reason and not drop.reason in {\"NO_SOCKET\"}'", false, "dropped: "),
        ("closed.psc", "where = 'tcp.flags.syn == 1 and not tcp.flags.ack == 1'\nalways = 'step.function == \"tcp_v4_rcv\"'", true, "0 of"),
        ("closed.psc", "where = 'tcp.flags.syn == 1'\nalways = 'step.function == \"nobody\"'", false, "packets do not"),
        ("closed.psc", "where = 'udp.port == 1'\nalways = 'udp'", false, "nothing in the recording"),
        ("closed.psc", "where = 'udp.port == 1'\nalways = 'udp'\nallow_none = true", true, "nothing in the recording"),
        ("closed.psc", "some = 'tcp.flags.reset == 1'", true, "packets"),
        ("closed.psc", "some = 'tcp.flags.reset == 1'\nat_least = 200", false, "packets"),
        ("closed.psc", "some = 'tcp'\nat_most = 1", false, "packets"),
        ("closed.psc", "p99 = '<1s'", true, "p99"),
        ("closed.psc", "p99 = '<1ns'", false, "took"),
        ("closed.psc", "from = 'event.kind == \"DeviceQueue\"'\nto = 'event.kind == \"BacklogQueue\"'\nmax = '<1ms'\np50 = '<=900us'", true, "p50"),
        ("scan.psc", "finding = 'port-scan'", true, "findings"),
        ("scan.psc", "no_finding = 'any'", false, "port-scan"),
        ("conversation.psc", "no_finding = 'any'", true, "0 findings"),
        ("closed.psc", "loss = '0'", true, "0 of"),
        ("closed.psc", "closed = true", true, "its end"),
        ("closed.psc", "closed = false", false, "its end"),
    ];
    for (file, statement, holds, expected) in cases {
        fs::write(dir.join("e.toml"), format!("[[expect]]\nname = 'it'\n{statement}\n")).unwrap();
        let (status, out, err) = run(dir, &["test", file, "--expect", "e.toml"]);
        assert_eq!(status, i32::from(!holds), "{file} {statement}: {out}{err}");
        assert!(out.contains(expected), "{file} {statement}: {out}");
    }
}

#[test]
fn a_time_is_what_the_trace_of_its_packets_says() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::copy(recording("conversation.psc"), dir.join("a.psc")).unwrap();
    let trace = run(dir, &["trace", "a.psc", "--limit", "100000", "--format", "json"]).1;
    let view: serde_json::Value = serde_json::from_str(&trace).unwrap();
    let journeys = view["exemplars"].as_array().unwrap().iter();
    let longest = journeys.map(|journey| journey["duration_ns"].as_u64().unwrap()).max().unwrap();
    assert!(
        longest > 100_000,
        "{longest}: long enough to need more than a histogram's first bucket"
    );
    for (bound, holds) in [(longest + longest / 500, true), (longest - longest / 500, false)] {
        let statement = format!("[[expect]]\nname = 'it'\nmax = '<{bound}ns'\n");
        fs::write(dir.join("e.toml"), statement).unwrap();
        let (status, out, err) = run(dir, &["test", "a.psc", "--expect", "e.toml"]);
        assert_eq!(status, i32::from(!holds), "{longest} against {bound}: {out}{err}");
    }
}

#[test]
fn a_pipeline_gets_its_files_and_its_exit_status() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::copy(recording("closed.psc"), dir.join("a.psc")).unwrap();
    let text =
        "# what holds\n[[expect]]\nname = 'good'\nclosed = true\n\n[[expect]]\nnever = 'tcp'\n";
    fs::write(dir.join("e.toml"), text).unwrap();
    let args = [
        "test", "a.psc", "--expect", "e.toml", "--junit", "j.xml", "--sarif", "s.json", "--github",
    ];
    let (status, out, _) = run(dir, &args);
    assert_eq!(status, 1);
    assert!(out.contains("::error file=e.toml,line=6,title=a.psc%3A expectation 2::"), "{out}");
    let xml = fs::read_to_string(dir.join("j.xml")).unwrap();
    assert!(xml.contains("tests=\"2\" failures=\"1\""), "{xml}");
    let sarif: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.join("s.json")).unwrap()).unwrap();
    assert_eq!(sarif["runs"][0]["results"].as_array().unwrap().len(), 1);

    for (text, expected) in [
        ("[[expect]]\nnever = 'tcp.prot'", "line 1:"),
        ("[[expect]]\nnevr = 'tcp'", "unknown field"),
        ("x", "e.toml: line 1:"),
        ("", "at least one [[expect]]"),
    ] {
        fs::write(dir.join("e.toml"), text).unwrap();
        let (status, _, err) = run(dir, &["test", "a.psc", "--expect", "e.toml"]);
        assert!(status == 2 && err.contains(expected) && err.lines().count() == 1, "{text}: {err}");
    }
}

#[test]
fn gates_decide_a_diff() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::copy(recording("closed.psc"), dir.join("a.psc")).unwrap();
    fs::copy(recording("drops.psc"), dir.join("b.psc")).unwrap();
    for (base, new, gate, holds) in [
        ("a.psc", "a.psc", "drops<=base", true),
        ("a.psc", "a.psc", "new_drops==0", true),
        ("a.psc", "b.psc", "drops<=base", false),
        ("b.psc", "a.psc", "drops<=base", true),
        ("b.psc", "b.psc", "changes==0", true),
    ] {
        let (status, out, err) = run(dir, &["diff", base, new, "--gate", gate, "--junit", "j.xml"]);
        assert_eq!(status, i32::from(!holds), "{base} {new} {gate}: {out}{err}");
        let xml = fs::read_to_string(dir.join("j.xml")).unwrap();
        assert_eq!(xml.contains("<failure"), !holds);
    }
    let (status, _, err) = run(dir, &["diff", "a.psc", "b.psc", "--gate", "p98<1ms"]);
    assert!(status == 2 && err.contains("no metric `p98`"), "{err}");
    let (status, _, _) = run(dir, &["diff", "a.psc", "b.psc"]);
    assert_eq!(status, 0, "without a gate a difference is no failure");
}
