//! Signing while recording: checkpoints inside the recording, and statements outside of it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use psc_formats::archive::Writer;
use psc_formats::custody::{SecretKey, Statement};

/// Signs a recording, and writes statements about it to a file of its own.
#[derive(Clone, Debug, Default)]
pub(super) struct Signing {
    pub(super) key: Option<SecretKey>,
    /// Where statements are appended, to be carried off the host.
    pub(super) statements: Option<PathBuf>,
    pub(super) every: Duration,
}

impl Signing {
    /// Says now, and not after hours, that the statements cannot be written.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        match &self.statements {
            None => Ok(()),
            Some(path) => appending(path)
                .map(drop)
                .with_context(|| format!("cannot write statements to {}", path.display())),
        }
    }

    /// Readies a writer.
    pub(super) fn prepare<W: Write>(&self, writer: &mut Writer<W>) {
        if let Some(key) = &self.key {
            writer.sign_with(key.clone());
        }
    }

    /// Whether a checkpoint is due that long after the last.
    pub(super) fn due(&self, last: Instant) -> bool {
        (self.key.is_some() || self.statements.is_some()) && last.elapsed() >= self.every
    }

    /// Makes a checkpoint.
    pub(super) fn checkpoint<W: Write>(&self, writer: &mut Writer<W>) -> io::Result<()> {
        match writer.checkpoint()? {
            Some(statement) => self.keep(&statement),
            None => Ok(()),
        }
    }

    /// Appends a statement to the file of statements.
    pub(super) fn keep(&self, statement: &Statement) -> io::Result<()> {
        let Some(path) = &self.statements else { return Ok(()) };
        // One write, so that another recorder's statement does not land inside.
        appending(path)?.write_all(format!("{statement}\n").as_bytes())
    }
}

fn appending(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    {
        use std::os::unix::fs::OpenOptionsExt;
        // Never through a link that somebody planted.
        options.mode(0o644).custom_flags(libc::O_NOFOLLOW);
    }
    options.open(path)
}
