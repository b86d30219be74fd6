//! Running other programs: said before, explained when they fail, never left behind.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::interrupt;

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        let arg = arg.to_string_lossy();
        text.push(' ');
        if arg.is_empty() || arg.contains([' ', '\'', '"', '$', ';', '{']) {
            text.push('\'');
            text.push_str(&arg.replace('\'', r"'\''"));
            text.push('\'');
        } else {
            text.push_str(&arg);
        }
    }
    text
}

/// Runs with our own output; an error names the command and its status.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let mut running = Running::start(command)?;
    let status = running.wait()?;
    interrupt::check()?;
    if !status.success() {
        bail!("`{}` failed: {status}", running.name);
    }
    Ok(())
}

/// Runs and returns standard output; an error carries what the command said.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run `{}`", shown(command)))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        bail!("`{}` failed: {}: {}", shown(command), done.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Where a program is, looking also where Debian keeps root's tools.
pub(crate) fn find(program: impl AsRef<OsStr>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|folder| folder.join(program.as_ref()))
        .find(|candidate| candidate.is_file())
}

/// `program` by its found path, so that an ordinary user's `ip` is found in `/usr/sbin` too.
pub(crate) fn tool(program: &str) -> Command {
    Command::new(find(program).unwrap_or_else(|| PathBuf::from(program)))
}

/// A program that is stopped when this value goes.
pub(crate) struct Running {
    child: Child,
    name: String,
    reaped: bool,
}

impl Running {
    /// Starts it.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let name = shown(command);
        let child = command.spawn().with_context(|| format!("cannot run `{name}`"))?;
        Ok(Self { child, name, reaped: false })
    }

    /// Its standard output, if that was piped and not yet taken.
    pub(crate) fn stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Its standard error, if that was piped and not yet taken.
    pub(crate) fn stderr(&mut self) -> Option<std::process::ChildStderr> {
        self.child.stderr.take()
    }

    /// The status, if it has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait().with_context(|| format!("lost `{}`", self.name))?;
        self.reaped |= status.is_some();
        Ok(status)
    }

    /// Waits for its end; a signal to us is passed on to it.
    pub(crate) fn wait(&mut self) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if interrupt::requested() {
                self.stop(Duration::from_secs(5))?;
                interrupt::check()?;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks it to stop with SIGINT, and kills it when it has not within `patience`.
    pub(crate) fn stop(&mut self, patience: Duration) -> Result<ExitStatus> {
        if self.ended()?.is_none() {
            // SAFETY: kill(2) takes no pointers, and the child is not reaped, so the pid is its own.
            unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGINT) };
        }
        let end = Instant::now() + patience;
        while Instant::now() < end {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child.kill().ok();
        let status = self.child.wait().with_context(|| format!("lost `{}`", self.name))?;
        self.reaped = true;
        bail!("`{}` did not stop within {patience:?} of SIGINT: {status}", self.name);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

/// Lines of a pipe, read by a thread so that the writer never blocks on us.
pub(crate) struct Lines {
    receiver: mpsc::Receiver<String>,
    /// Every line so far.
    pub(crate) seen: Vec<String>,
}

impl Lines {
    /// Starts reading. `\r` ends a line too: progress lines use it.
    pub(crate) fn of(pipe: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(pipe);
            let mut line = Vec::new();
            while matches!(reader.read_until(b'\n', &mut line), Ok(read) if read > 0) {
                for part in String::from_utf8_lossy(&line).split(['\r', '\n']) {
                    if !part.is_empty() && sender.send(part.to_owned()).is_err() {
                        return;
                    }
                }
                line.clear();
            }
        });
        Self { receiver, seen: Vec::new() }
    }

    /// Waits for a line for which `wanted` holds; `None` when time or the pipe ends first.
    pub(crate) fn until(
        &mut self,
        patience: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Option<String>> {
        let end = Instant::now() + patience;
        loop {
            interrupt::check()?;
            let left = end.saturating_duration_since(Instant::now());
            match self.receiver.recv_timeout(left.min(Duration::from_millis(50))) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if wanted(&line) {
                        return Ok(Some(line));
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) if !left.is_zero() => {}
                Err(_) => return Ok(None),
            }
        }
    }

    /// Everything until the pipe closes.
    pub(crate) fn rest(mut self) -> Vec<String> {
        self.seen.extend(self.receiver.iter());
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_commands_can_be_pasted() {
        let mut command = Command::new("nft");
        command.arg("add rule").arg("it's").arg("plain");
        assert_eq!(shown(&command), r"nft 'add rule' 'it'\''s' plain");
    }

    #[test]
    fn a_program_dies_with_its_owner() {
        let running = Running::start(Command::new("sleep").arg("1000")).unwrap();
        let pid = running.child.id().cast_signed();
        drop(running);
        // SAFETY: signal 0 only asks whether the process exists.
        assert_eq!(unsafe { libc::kill(pid, 0) }, -1);
    }

    #[test]
    fn lines_end_at_carriage_returns_too() {
        let lines = Lines::of(&b"one\rtwo\nthree"[..]).rest();
        assert_eq!(lines, ["one", "two", "three"]);
    }
}
