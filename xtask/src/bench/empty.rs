//! The same probes with programs that return at once: what attaching costs before anything is done.

use std::time::Duration;

use anyhow::Result;
use psc_bpf::{LiveSource, Options};

use crate::interrupt;

/// Holds empty programs at the default probes until a signal comes.
pub(super) fn hold() -> Result<()> {
    interrupt::install()?;
    let source = LiveSource::start(Options { empty: true, ..Options::default() })?;
    // What `psc record` says when its probes are attached.
    eprintln!("not recording: empty programs at the probes");
    while !interrupt::requested() {
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(source);
    Ok(())
}
