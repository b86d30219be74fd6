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
        for signal in [SIGINT, SIGTERM, SIGHUP] {
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
