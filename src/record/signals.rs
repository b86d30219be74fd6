//! Signals: the first asks for a clean stop, the second stops at once, SIGUSR1 asks for the ring.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;

/// Shell convention for "ended by SIGINT".
const ABORTED: i32 = 128 + SIGINT;

/// What signals have asked for so far.
#[derive(Clone, Debug)]
pub(super) struct Signals {
    stop: Arc<AtomicBool>,
    dump: Arc<AtomicBool>,
}

impl Signals {
    /// Installs the handlers. SIGHUP stops cleanly too: the terminal or the ssh went away.
    pub(super) fn install() -> anyhow::Result<Self> {
        let signals =
            Self { stop: Arc::new(AtomicBool::new(false)), dump: Arc::new(AtomicBool::new(false)) };
        // Under nohup the terminal's end is no reason to stop.
        let hangup = if is_ignored(SIGHUP) { None } else { Some(SIGHUP) };
        for signal in [SIGINT, SIGTERM].into_iter().chain(hangup) {
            // Handlers run in this order: the first signal finds `stop` unset and sets it, the second
            // finds it set.
            flag::register_conditional_shutdown(signal, ABORTED, Arc::clone(&signals.stop))
                .and_then(|_| flag::register(signal, Arc::clone(&signals.stop)))
                .context("cannot handle signals")?;
        }
        flag::register(SIGUSR1, Arc::clone(&signals.dump)).context("cannot handle SIGUSR1")?;
        Ok(signals)
    }

    /// Without handlers, for tests.
    #[cfg(test)]
    pub(super) fn unsignalled() -> Self {
        Self { stop: Arc::default(), dump: Arc::default() }
    }

    /// What SIGUSR1 does.
    #[cfg(test)]
    pub(super) fn ask_for_dump(&self) {
        self.dump.store(true, Ordering::Relaxed);
    }

    /// Whether to stop.
    pub(super) fn stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether the ring was asked for since the last call.
    pub(super) fn take_dump(&self) -> bool {
        self.dump.swap(false, Ordering::Relaxed)
    }
}

/// Whether whoever started us had the signal ignored.
fn is_ignored(signal: i32) -> bool {
    // SAFETY: all zero is a valid `sigaction`; the kernel fills it, and nothing is changed.
    unsafe {
        let mut current: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut current) == 0
            && current.sa_sigaction == libc::SIG_IGN
    }
}
