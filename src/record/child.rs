//! The command of `psc record -- CMD`: run as the person who asked, not as root.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

/// How long the command may take to end after SIGTERM before it is left alone.
const GRACE: Duration = Duration::from_secs(5);

/// The person who typed the command, when that is not who we run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Invoker {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Invoker {
    /// From `SUDO_UID` and `SUDO_GID`, believed only when we are root: then they cannot raise
    /// anybody's privilege.
    pub(super) fn behind_sudo() -> Option<Self> {
        // SAFETY: has no arguments and cannot fail.
        if unsafe { libc::geteuid() } != 0 {
            return None;
        }
        let number = |name| std::env::var(name).ok()?.parse().ok();
        let invoker = Self { uid: number("SUDO_UID")?, gid: number("SUDO_GID")? };
        (invoker.uid != 0).then_some(invoker)
    }
}

/// A running command.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    name: String,
}

impl Running {
    /// Starts the command. With `stdout_taken`, its standard output goes to standard error, since
    /// the recording itself goes to standard output.
    pub(super) fn start(
        line: &[String],
        invoker: Option<&Invoker>,
        stdout_taken: bool,
    ) -> anyhow::Result<Self> {
        let (program, args) = line.split_first().context("no command after --")?;
        let mut command = Command::new(program);
        command.args(args);
        if stdout_taken {
            let stderr = io::stderr().as_fd().try_clone_to_owned()?;
            command.stdout(Stdio::from(stderr));
        }
        if let Some(invoker) = invoker {
            become_user(&mut command, invoker)?;
        }
        let child = command.spawn().with_context(|| {
            format!("cannot run `{program}`; nothing was recorded; is it installed and in PATH?")
        })?;
        Ok(Self { child, name: program.clone() })
    }

    /// Its exit status, once it has ended.
    pub(super) fn ended(&mut self) -> anyhow::Result<Option<i32>> {
        let status =
            self.child.try_wait().with_context(|| format!("cannot wait for {}", self.name))?;
        Ok(status.map(shell_status))
    }

    /// Asks it to end and waits a little; `None` when it goes on.
    pub(super) fn stop(mut self) -> Option<i32> {
        // SAFETY: the child has not been waited for, so its id still means it.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(shell_status(status));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// Name of the program.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// As a shell shows it: the exit code, or 128 and the signal.
fn shell_status(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

/// User, group, all supplementary groups and the environment of `invoker`; with the user id go all
/// capabilities.
fn become_user(command: &mut Command, invoker: &Invoker) -> anyhow::Result<()> {
    let account = Account::of(invoker.uid).with_context(|| {
        format!("SUDO_UID is {}, and no such user exists; unset it to run as root", invoker.uid)
    })?;
    command.env("HOME", &account.home).env("USER", &account.name).env("LOGNAME", &account.name);
    for name in ["SUDO_UID", "SUDO_GID", "SUDO_USER", "SUDO_COMMAND"] {
        command.env_remove(name);
    }
    let groups = account.groups(invoker.gid);
    let (uid, gid) = (invoker.uid, invoker.gid);
    // SAFETY: runs between fork and exec and makes system calls only; `groups` was made before.
    unsafe {
        command.pre_exec(move || {
            if libc::setgroups(groups.len(), groups.as_ptr()) != 0
                || libc::setresgid(gid, gid, gid) != 0
                || libc::setresuid(uid, uid, uid) != 0
            {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    Ok(())
}

/// An entry of the user database.
struct Account {
    name: String,
    home: String,
}

impl Account {
    fn of(uid: u32) -> Option<Self> {
        let mut buffer = vec![0_u8; 16 * 1024];
        // SAFETY: all zero is a valid `passwd` (null pointers); it is filled or not used.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: every pointer is to a live local, and the length is the buffer's.
        let rc = unsafe {
            libc::getpwuid_r(
                uid,
                &raw mut entry,
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                &raw mut found,
            )
        };
        if rc != 0 || found.is_null() {
            return None;
        }
        // SAFETY: on success these point to NUL-terminated strings inside `buffer`.
        let (name, home) = unsafe { (CStr::from_ptr(entry.pw_name), CStr::from_ptr(entry.pw_dir)) };
        Some(Self {
            name: name.to_string_lossy().into_owned(),
            home: home.to_string_lossy().into_owned(),
        })
    }

    /// Supplementary groups, at least `gid` itself.
    fn groups(&self, gid: u32) -> Vec<libc::gid_t> {
        const MOST: usize = 4096;
        let Ok(name) = CString::new(self.name.as_str()) else { return vec![gid] };
        let mut groups = vec![gid; MOST];
        let mut count = MOST as libc::c_int;
        // SAFETY: `groups` has room for `count` ids, and the name ends in NUL.
        let rc =
            unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count) };
        if rc < 0 {
            return vec![gid];
        }
        groups.truncate(usize::try_from(count).unwrap_or(0).max(1));
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finish(mut running: Running) -> i32 {
        loop {
            if let Some(status) = running.ended().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn line(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn status_is_what_a_shell_would_show() {
        let run =
            |script| finish(Running::start(&line(&["sh", "-c", script]), None, true).unwrap());
        assert_eq!(run("exit 7"), 7);
        assert_eq!(run("kill -9 $$"), 128 + 9);
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = Running::start(&line(&["/no/such/program"]), None, false).unwrap_err();
        assert!(format!("{error:#}").contains("/no/such/program"));
    }

    #[test]
    fn a_command_that_goes_on_is_asked_to_end() {
        let running = Running::start(&line(&["sleep", "60"]), None, true).unwrap();
        assert_eq!(running.stop(), Some(128 + libc::SIGTERM));
    }

    #[test]
    fn the_invoker_loses_every_privilege() {
        // SAFETY: has no arguments and cannot fail.
        if unsafe { libc::geteuid() } != 0 {
            return; // Only root can become somebody else; the unprivileged run has nothing to lose.
        }
        // `nobody` and its group exist on every Linux system.
        let invoker = Invoker { uid: 65534, gid: 65534 };
        let script = r#"test "$(id -u):$(id -g):$(id -G)" = 65534:65534:65534 &&
            grep -q 'CapEff:.0*$' /proc/self/status && test "$USER" = nobody"#;
        let running = Running::start(&line(&["sh", "-c", script]), Some(&invoker), true).unwrap();
        assert_eq!(finish(running), 0);
    }
}
