//! Second opinions on TCP: tshark's `tcp.analysis` fields packet by packet, and tcptrace's figures
//! connection by connection. Every disagreement has a class in `classes`, explained in
//! `testdata/tcp-oracle.md`, or counts as unexplained.
//!
//! Used by `tests/tcp_oracle.rs`, which `cargo xtask oracle DIR` points at a folder.

mod classes;
mod ours;
mod tcptrace;
mod tshark;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

pub(crate) use ours::Ours;

/// Something that both sides say of a packet or a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Difference {
    /// `tshark` or `tcptrace`.
    pub(crate) tool: &'static str,
    /// What is compared: `order`, `duplicate ack`, `outoforder_pkts`...
    pub(crate) what: String,
    /// What psc says.
    pub(crate) ours: String,
    /// What the tool says.
    pub(crate) theirs: String,
    /// Why, in a few words that `testdata/tcp-oracle.md` explains; empty when nobody knows.
    pub(crate) class: &'static str,
}

/// How often two opinions agreed and differed.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Captures compared.
    pub(crate) files: u64,
    /// Captures that a tool could not read: (tool, how many).
    pub(crate) unreadable: BTreeMap<&'static str, u64>,
    /// Opinions by (tool, what): (agreed, differed).
    pub(crate) counts: BTreeMap<(&'static str, String), (u64, u64)>,
    /// Differences with a count and the first place.
    pub(crate) differences: BTreeMap<Difference, (u64, String)>,
}

impl Tally {
    fn agree(&mut self, tool: &'static str, what: &str) {
        self.counts.entry((tool, what.to_owned())).or_default().0 += 1;
    }

    fn differ(&mut self, difference: Difference, place: impl FnOnce() -> String) {
        let key = (difference.tool, difference.what.clone());
        self.counts.entry(key).or_default().1 += 1;
        self.differences.entry(difference).or_insert_with(|| (0, place())).0 += 1;
    }

    /// Compares one capture.
    pub(crate) fn compare(&mut self, capture: &Path) -> Result<(), String> {
        let ours = Ours::read(capture)?;
        self.files += 1;
        match tshark::read(capture) {
            Ok(theirs) => classes::packets(self, capture, &ours, &theirs),
            Err(_) => *self.unreadable.entry("tshark").or_default() += 1,
        }
        match tcptrace::read(capture) {
            Ok(theirs) => classes::connections(self, capture, &ours, &theirs),
            Err(_) => *self.unreadable.entry("tcptrace").or_default() += 1,
        }
        Ok(())
    }

    /// Opinions on which all agree.
    pub(crate) fn agreed(&self) -> u64 {
        self.counts.values().map(|(agreed, _)| agreed).sum()
    }

    /// Differences that no class explains.
    pub(crate) fn unexplained(&self) -> u64 {
        let open = self.differences.iter().filter(|(difference, _)| difference.class.is_empty());
        open.map(|(_, (count, _))| count).sum()
    }

    /// Two tables: agreement, and differences by class.
    pub(crate) fn report(&self) -> String {
        let mut text = format!("{} captures", self.files);
        for (tool, files) in &self.unreadable {
            let _ = write!(text, "; {tool} could not read {files}");
        }
        text.push_str("\n\n| tool | opinion | agree | differ |\n|---|---|---:|---:|\n");
        for ((tool, what), (agreed, differed)) in &self.counts {
            let _ = writeln!(text, "| {tool} | {what} | {agreed} | {differed} |");
        }
        text.push_str(
            "\n| tool | opinion | psc | tool | times | class | first |\n|---|---|---|---|---:|---|---|\n",
        );
        let mut rows: Vec<_> = self.differences.iter().collect();
        rows.sort_by_key(|(difference, (count, _))| {
            (difference.tool, !difference.class.is_empty(), std::cmp::Reverse(*count))
        });
        for (d, (count, place)) in rows {
            let class = if d.class.is_empty() { "**unexplained**" } else { d.class };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {count} | {class} | {place} |",
                d.tool, d.what, d.ours, d.theirs
            );
        }
        let _ = writeln!(text, "\n{} unexplained", self.unexplained());
        text
    }
}

/// Standard output of a tool; an error when it crashed.
fn output(command: &mut Command) -> Result<String, String> {
    let done = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", command.get_program().to_string_lossy()))?;
    if done.status.code().is_none() {
        return Err(format!("{}: {}", command.get_program().to_string_lossy(), done.status));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn name(capture: &Path) -> String {
    capture.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
