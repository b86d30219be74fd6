//! Where results and messages go: standard output, a file, or standard error.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use psc_formats::archive;

use psc_reports::text::Style;

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

    /// How text that goes to `output` (`None` or `-`: standard output) is drawn.
    pub(crate) fn style(self, output: Option<&Path>) -> Style {
        let terminal = output.is_none_or(is_dash) && io::stdout().is_terminal();
        let color = match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => !self.no_color && terminal,
        };
        // Into a pipe or a file nothing is cut, so that the same recording gives the same bytes.
        let width = if terminal { terminal_size::terminal_size() } else { None };
        Style { color, width: width.map_or(0, |(width, _)| usize::from(width.0)) }
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
pub(crate) fn write_result(output: Option<&Path>, bytes: &[u8]) -> anyhow::Result<()> {
    let Some(path) = output.filter(|path| !is_dash(path)) else {
        return write_stdout(bytes);
    };
    let mut file = NewFile::create(path, true)?;
    file.write_all(bytes).with_context(|| cannot_write(path))?;
    file.keep()
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}; is there space, and may you write there?", path.display())
}

/// Creates a file for its owner only (results hold addresses and traffic), never through a symlink: a
/// link planted in a shared directory must not make root write elsewhere. A device or a pipe is
/// written to as it is.
pub(crate) fn create(path: &Path, replace: bool) -> anyhow::Result<File> {
    if is_special(path) {
        let opened = OpenOptions::new().write(true).open(path);
        return opened.with_context(|| format!("cannot write to {}", path.display()));
    }
    if replace {
        match fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot replace {}", path.display()));
            }
        }
    }
    match archive::create_file(path) {
        Err(_) if fs::symlink_metadata(path).is_ok() => Err(anyhow::anyhow!(
            "{} is already there; choose another name or use --force",
            path.display()
        )),
        created => created.with_context(|| format!("nothing was written to {}", path.display())),
    }
}

fn is_special(path: &Path) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|meta| !(meta.is_file() || meta.is_dir() || meta.is_symlink()))
}

/// A file that appears whole or not at all: it is written beside its final name and renamed.
/// Standard output, devices and pipes take what comes.
pub(crate) struct NewFile {
    file: File,
    /// (now, at last); `None` when there is nothing to rename.
    rename: Option<(PathBuf, PathBuf)>,
}

impl NewFile {
    /// Begins a file; `-` is standard output. Without `replace`, an existing one is an error now and
    /// not when the work is done.
    pub(crate) fn create(path: &Path, replace: bool) -> anyhow::Result<Self> {
        if is_dash(path) {
            let opened = stdout_file().context("cannot write to standard output")?;
            return Ok(Self { file: opened, rename: None });
        }
        if is_special(path) {
            return Ok(Self { file: create(path, replace)?, rename: None });
        }
        anyhow::ensure!(
            replace || fs::symlink_metadata(path).is_err(),
            "{} is already there; choose another name or use --force",
            path.display()
        );
        let temporary = beside(path);
        let file = archive::create_file(&temporary).with_context(|| cannot_write(path))?;
        Ok(Self { file, rename: Some((temporary, path.to_owned())) })
    }

    /// Gives the file its name.
    pub(crate) fn keep(mut self) -> anyhow::Result<()> {
        let Some((temporary, path)) = self.rename.take() else { return Ok(()) };
        let kept = self.file.sync_all().and_then(|()| fs::rename(&temporary, &path));
        if kept.is_err() {
            self.rename = Some((temporary, path.clone()));
        }
        kept.with_context(|| cannot_write(&path))
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some((temporary, _)) = &self.rename {
            let _ = fs::remove_file(temporary);
        }
    }
}

/// `dir/.name.PID.tmp` for `dir/name`.
fn beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

/// Standard output without Rust's buffer, which would cut lines out of binary data.
pub(crate) fn stdout_file() -> io::Result<File> {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;
        Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
    }
    #[cfg(windows)]
    {
        use std::os::windows::io::AsHandle;
        Ok(File::from(io::stdout().as_handle().try_clone_to_owned()?))
    }
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

    #[test]
    fn files_are_private_and_never_replaced_unasked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.psc");
        let file = create(&path, false).unwrap();
        let error = format!("{:#}", create(&path, false).unwrap_err());
        assert!(error.contains("--force") && error.contains("a.psc"), "{error}");
        assert!(NewFile::create(&path, false).is_err());
        assert!(create(&path, true).is_ok());
        #[cfg(unix)]
        {
            use std::os::unix::fs::{PermissionsExt, symlink};
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            // A symlink that somebody put there is not followed, with or without --force.
            let (link, target) = (dir.path().join("link.psc"), dir.path().join("target"));
            fs::write(&target, "precious").unwrap();
            symlink(&target, &link).unwrap();
            assert!(create(&link, false).is_err());
            create(&link, true).unwrap();
            assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        }
        drop(file);
    }
}
