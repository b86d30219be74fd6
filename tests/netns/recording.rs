//! A recording made by the psc binary while a test makes traffic.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::disallowed_methods)]

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// `psc record` under way. It is ready when it has said so on standard error.
pub struct Recording {
    child: Child,
    stderr: Option<std::thread::JoinHandle<String>>,
    pub path: PathBuf,
}

/// The psc binary under test.
pub fn psc() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_psc"));
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

impl Recording {
    /// Starts `psc record -o PATH ARGS` and waits until its probes are attached.
    pub fn start(path: &Path, args: &[&str]) -> Self {
        let mut child = psc()
            .args(["record", "-o"])
            .arg(path)
            .args(args)
            .stderr(Stdio::piped())
            .spawn()
            .expect("psc starts");
        let stderr = child.stderr.take().expect("piped");
        let (ready, is_ready) = std::sync::mpsc::channel();
        let stderr = std::thread::spawn(move || {
            let mut stderr = BufReader::new(stderr);
            let mut all = String::new();
            let mut line = String::new();
            while stderr.read_line(&mut line).is_ok_and(|n| n > 0) {
                all.push_str(&line);
                if line.contains("recording") {
                    let _ = ready.send(());
                }
                line.clear();
            }
            let _ = stderr.read_to_string(&mut all);
            all
        });
        let recording = Self { child, stderr: Some(stderr), path: path.to_owned() };
        let ready = is_ready.recv_timeout(Duration::from_mins(2));
        assert!(ready.is_ok(), "psc record did not get ready: {}", recording.stop().1);
        recording
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ctrl-C, then waits; returns success and what it said.
    pub fn stop(mut self) -> (bool, String) {
        // SAFETY: a signal to a child that has not been waited for.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGINT) };
        self.wait()
    }

    fn wait(&mut self) -> (bool, String) {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                break status;
            }
            if began.elapsed() > Duration::from_mins(2) {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let said = self.stderr.take().map(|t| t.join().unwrap_or_default()).unwrap_or_default();
        (status.success(), said)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if self.stderr.is_some() {
            let _ = self.child.kill();
            let _ = self.wait();
        }
    }
}

/// `psc VERB PATH ARGS --format json`, parsed; panics with its error output unless it exits with 0 or 1.
pub fn json(verb: &[&str], path: &Path, args: &[&str]) -> serde_json::Value {
    let out =
        psc().args(verb).arg(path).args(args).args(["--format", "json"]).output().expect("psc");
    assert!(
        matches!(out.status.code(), Some(0 | 1)),
        "psc {verb:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    serde_json::from_slice(&out.stdout).expect("JSON")
}
