//! `psc live`: the replay engine on the running kernel, with rules tried out or enforced.

#![expect(clippy::disallowed_methods, reason = "watching happens in real time")]

mod board;
mod control;
mod interface;
mod never;
mod watched;

use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::Context;
use psc_bpf::{LiveSource, Options};
use psc_replay::engine::{self, Selection};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;

use crate::Verdict;
use crate::cli::LiveArgs;
use crate::output::Console;
use board::{Shared, Watch};
use control::Control;
use watched::{Archive, Watched};

/// What signals and the keyboard have asked for.
#[derive(Clone, Debug, Default)]
struct Asked {
    stop: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
    confirm: Arc<AtomicBool>,
}

impl Asked {
    fn install(confirms: bool) -> anyhow::Result<Self> {
        let asked = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // The second one ends psc at once; the kernel takes the rules out either way.
            flag::register_conditional_shutdown(signal, 130, Arc::clone(&asked.stop))
                .and_then(|_| flag::register(signal, Arc::clone(&asked.stop)))
                .context("cannot handle signals")?;
        }
        for (signal, to) in [(SIGHUP, &asked.reload), (SIGUSR1, &asked.confirm)] {
            flag::register(signal, Arc::clone(to)).context("cannot handle signals")?;
        }
        if confirms && std::io::stdin().is_terminal() {
            let confirm = Arc::clone(&asked.confirm);
            std::thread::spawn(move || {
                let mut line = String::new();
                while std::io::stdin().read_line(&mut line).is_ok_and(|read| read > 0) {
                    confirm.store(true, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
        Ok(asked)
    }
}

/// Watches until told to stop.
pub(crate) fn run(args: &LiveArgs, console: Console) -> anyhow::Result<Verdict> {
    interface::find(&args.interface)?;
    let asked = Asked::install(args.confirm_within.is_some())?;
    // Everything that can be wrong with the rules is said before anything is attached.
    let control = args.rules.clone().map(|path| Control::start(args, path, console)).transpose()?;
    let namespace =
        std::fs::metadata("/proc/thread-self/ns/net").context("no network namespace")?;
    let source = LiveSource::start(Options {
        interfaces: vec![args.interface.clone()],
        namespaces: vec![namespace.ino().to_string()],
        command: crate::record::command_line(),
        ..Options::default()
    })
    .context("cannot watch")?;
    let archive = args
        .output
        .as_deref()
        .map(|path| Archive::create(path, args.force, args.max_size.0, &source))
        .transpose()?;
    if let Some(control) = &control {
        control.beat()?;
    }
    match (&control, args.enforce) {
        (None, _) => console.note(&format!("watching {}; stop with Ctrl-C", args.interface)),
        (Some(_), false) => console.note(&format!(
            "watching {}, rules only count (dry-run); stop with Ctrl-C",
            args.interface
        )),
        (Some(_), true) => {
            console.note(&format!("enforcing on {}; stop with Ctrl-C", args.interface));
            if let Some(span) = &args.confirm_within {
                console.note(&format!(
                    "confirm within {:?} by Enter or `kill -USR1 {}`, or nothing is discarded any more",
                    span.0,
                    std::process::id()
                ));
            }
        }
    }
    let board = Shared::default();
    let mut watch = Watch::new(board.clone());
    let mut watched = Watched::new(source, control, archive, board, asked, args, console);
    let passed = engine::run(&mut watched, &Selection::default(), &mut [&mut watch]);
    let found = watched.finish()?;
    passed.context("cannot read the kernel's events")?;
    Ok(if found { Verdict::Findings } else { Verdict::Clean })
}

/// The clock of the events, nanoseconds.
fn monotonic() -> u64 {
    // SAFETY: writes to the given value only.
    let now = unsafe {
        let mut now: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now);
        now
    };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Whether so long has passed since `last`; if so, it is now.
fn is_due(last: &mut Instant, every: std::time::Duration) -> bool {
    let due = last.elapsed() >= every;
    if due {
        *last = Instant::now();
    }
    due
}
