//! Where results and messages go: standard output, a file, or standard error.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::{Color, Global};

/// How to talk to the person at the terminal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Console {
    color: Color,
    no_color: bool,
    /// Errors only.
    pub(crate) quiet: bool,
    /// Say more.
    pub(crate) verbose: bool,
    /// Progress may be drawn on stderr.
    pub(crate) progress: bool,
}

impl Console {
    /// Resolves the common options against the environment.
    pub(crate) fn new(global: &Global) -> Self {
        // https://no-color.org: present and not empty.
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            color: global.color,
            no_color,
            quiet: global.quiet,
            verbose: global.verbose,
            progress: !global.quiet && io::stderr().is_terminal(),
        }
    }

    /// Whether text that goes to `output` (`None` or `-`: standard output) is coloured.
    pub(crate) fn colored(self, output: Option<&Path>) -> bool {
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                !self.no_color && output.is_none_or(is_dash) && io::stdout().is_terminal()
            }
        }
    }

    /// One line on stderr unless `--quiet`.
    pub(crate) fn note(self, line: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "psc: {}", printable(line));
        }
    }

    /// One line on stderr with `--verbose`.
    pub(crate) fn detail(self, line: &str) {
        if self.verbose {
            self.note(line);
        }
    }

    /// A bar over `total` bytes, drawn only when stderr is a terminal and work is long.
    pub(crate) fn bar(self, what: &'static str, total: Option<u64>) -> ProgressBar {
        if !self.progress {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(8));
        let template = if total.is_some() {
            "{msg} [{bar:32}] {bytes}/{total_bytes} {bytes_per_sec} eta {eta}"
        } else {
            "{msg} {spinner} {elapsed}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what);
        bar
    }
}

/// How long work may take before a progress bar is worth drawing.
pub(crate) const BAR_AFTER: Duration = Duration::from_millis(400);

/// Whether `path` means standard input or output.
pub(crate) fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Text with control characters made visible: names and messages may come from packets, and a
/// terminal obeys escape sequences.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// Writes all of `bytes` to standard output.
pub(crate) fn write_stdout(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .context("cannot write to standard output; is the disk full?")
}

/// Writes a finished result to `output`, or to standard output for `None` and `-`.
///
/// A file appears whole or not at all: it is written beside its final name and renamed.
pub(crate) fn write_result(output: Option<&Path>, bytes: &[u8]) -> anyhow::Result<()> {
    let Some(path) = output.filter(|path| !is_dash(path)) else {
        return write_stdout(bytes);
    };
    let failed =
        || format!("cannot write {}; is there space, and may you write there?", path.display());
    // Devices and pipes are written to, not replaced.
    if fs::metadata(path).is_ok_and(|meta| !meta.is_file() && !meta.is_dir()) {
        let mut file = OpenOptions::new().write(true).open(path).with_context(failed)?;
        return file.write_all(bytes).with_context(failed);
    }
    let temporary = beside(path);
    let written = create_private(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(error) = written.and_then(|()| fs::rename(&temporary, path)) {
        let _ = fs::remove_file(&temporary);
        return Err(error).with_context(failed);
    }
    Ok(())
}

/// `dir/.name.PID.tmp` for `dir/name`.
fn beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

/// A new file, never through a symlink. Results hold addresses and traffic: for the owner only.
fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\n\u{9b}"), "a\\u{1b}[2Jb\\n\\u{9b}");
        assert_eq!(printable("Zürich"), "Zürich");
    }

    #[test]
    fn a_result_replaces_the_old_one_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.txt");
        write_result(Some(&path), b"one").unwrap();
        write_result(Some(&path), b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
        let missing = dir.path().join("no/out.txt");
        let error = format!("{:#}", write_result(Some(&missing), b"x").unwrap_err());
        assert!(error.contains("out.txt"), "{error}");
    }
}
