//! The report as a browser shows it: headless Chromium, no network, with and without script.
#![allow(clippy::disallowed_methods, reason = "the browser is a program of its own")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A page of a golden recording, in a folder of its own.
fn page(dir: &Path, recording: &str) -> PathBuf {
    let path = dir.join("report.html");
    let recording = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(recording);
    let out = Command::new(env!("CARGO_BIN_EXE_psc"))
        .args(["report", "-q", "-o"])
        .arg(&path)
        .arg(recording)
        .output()
        .expect("psc starts");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    path
}

/// What Chromium makes of a page: the document after its scripts ran, and what it said on the console.
struct Seen {
    document: String,
    console: String,
}

/// `None`, said and counted, on a machine without Chromium.
fn browse(test: &str, page: &Path, arguments: &[&str]) -> Option<Seen> {
    let profile = tempfile::tempdir().expect("temporary directory");
    let out = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--disable-quic", "--host-resolver-rules=MAP * ~NOTFOUND"])
        .args(["--enable-logging=stderr", "--virtual-time-budget=3000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(arguments)
        .arg(format!("file://{}", page.display()))
        .output();
    let out = match out {
        Ok(out) => out,
        Err(error) => {
            let strict = std::env::var_os("PSC_REQUIRE_LIVE").is_some_and(|value| value == "1");
            assert!(!strict, "{test} needs chromium and PSC_REQUIRE_LIVE=1 is set: {error}");
            println!("SKIPPED (live) {test}: chromium does not start: {error}");
            return None;
        }
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let console = text(&out.stderr)
        .lines()
        .filter(|line| line.contains("CONSOLE"))
        .collect::<Vec<_>>()
        .join("\n");
    Some(Seen { document: text(&out.stdout), console })
}

/// The script marks the root before it does anything else.
fn ran(seen: &Seen) -> bool {
    let root = seen.document.split("<html").nth(1).and_then(|rest| rest.split('>').next());
    root.is_some_and(|attributes| attributes.contains("class=\"js\""))
}

#[test]
fn the_page_runs_without_a_word_on_the_console() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let page = page(dir.path(), "recordings/conversation.psc");
    let Some(seen) = browse("the_page_runs_without_a_word_on_the_console", &page, &[]) else {
        return;
    };
    assert_eq!(seen.console, "", "errors, or something its own policy forbids");
    assert!(seen.document.contains("id=\"summary\""));
    assert!(ran(&seen), "the script did not run");
}

#[test]
fn the_page_reads_without_script() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let page = page(dir.path(), "recordings/drops.psc");
    // The browser reads the document out by script of its own, so the page's alone is turned off.
    let text = fs::read_to_string(&page).expect("page");
    let at = text.find("script-src ").expect("a policy") + "script-src ".len();
    let end = at + text[at..].find(';').expect("its end");
    fs::write(&page, format!("{}'none'{}", &text[..at], &text[end..])).expect("page is written");
    let Some(seen) = browse("the_page_reads_without_script", &page, &[]) else { return };
    for words in ["SOCKET_RCVBUFF", "nft_do_chain", "IP_RPFILTER", "<svg", "</html>"] {
        assert!(seen.document.contains(words), "{words} is not on the page");
    }
    assert!(!ran(&seen), "the script ran");
}

/// Wider than the window, a page scrolls sideways as a whole: tables and figures must do so alone.
#[test]
fn the_page_fits_narrow_and_wide_windows() {
    const MEASURE: &str = "<script>document.documentElement.dataset.wide = \
        document.documentElement.scrollWidth - window.innerWidth;</script></body>";
    let dir = tempfile::tempdir().expect("temporary directory");
    let page = page(dir.path(), "recordings/demo.psc");
    let text = fs::read_to_string(&page).expect("page");
    // The page's own policy would forbid the measuring script, as it should.
    let at = text.find("<meta http-equiv=\"Content-Security-Policy\"").expect("a policy");
    let end = at + text[at..].find('>').expect("its end") + 1;
    let open = format!("{}{}", &text[..at], &text[end..]).replace("</body>", MEASURE);
    fs::write(&page, open).expect("page is written");
    for width in [500, 800, 1280, 1920] {
        let size = format!("--window-size={width},900");
        let Some(seen) = browse("the_page_fits_narrow_and_wide_windows", &page, &[&size]) else {
            return;
        };
        let wide =
            seen.document.split("data-wide=\"").nth(1).and_then(|rest| rest.split('"').next());
        let wide: i64 = wide.and_then(|text| text.parse().ok()).expect("the measure");
        assert!(wide <= 0, "at {width} pixels the page is {wide} too wide");
    }
}
