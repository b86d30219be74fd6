//! Which file is written next, and which old one goes.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::fchown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use super::child::Invoker;
use crate::output::create;

/// When to start a new file, and how many to keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rotation {
    /// At this many bytes.
    pub(super) size: Option<u64>,
    /// After this time.
    pub(super) time: Option<Duration>,
    /// How many files to keep; `None` keeps all.
    pub(super) keep: Option<u32>,
}

impl Rotation {
    /// Whether there is more than one file.
    pub(super) fn is_on(&self) -> bool {
        self.size.is_some() || self.time.is_some()
    }

    /// Whether a file of this size and age is full.
    pub(super) fn due(&self, bytes: u64, age: Duration) -> bool {
        self.size.is_some_and(|size| bytes >= size) || self.time.is_some_and(|time| age >= time)
    }
}

/// The files of one recording, one after the other.
#[derive(Debug)]
pub(super) struct Files {
    base: PathBuf,
    numbered: bool,
    keep: Option<u32>,
    replace: bool,
    owner: Option<Invoker>,
    next: u32,
    written: VecDeque<PathBuf>,
}

impl Files {
    /// Files named after `base`: itself, or numbered `name.0001.psc` from the first free number on,
    /// so that a restarted recorder continues beside what it finds.
    pub(super) fn new(
        base: PathBuf,
        numbered: bool,
        keep: Option<u32>,
        replace: bool,
        owner: Option<Invoker>,
    ) -> Self {
        let next = if numbered { highest(&base).saturating_add(1) } else { 1 };
        Self { base, numbered, keep, replace, owner, next, written: VecDeque::new() }
    }

    /// Creates the next file, and removes the oldest of ours when there are now too many.
    pub(super) fn create(&mut self) -> anyhow::Result<(File, PathBuf)> {
        let path = if self.numbered { numbered(&self.base, self.next) } else { self.base.clone() };
        let file = create(&path, self.replace)?;
        if let Some(owner) = &self.owner {
            // What sudo recorded is for the person who asked.
            fchown(&file, Some(owner.uid), Some(owner.gid))
                .with_context(|| format!("cannot give {} to user {}", path.display(), owner.uid))?;
        }
        self.next = self.next.saturating_add(1);
        self.written.push_back(path.clone());
        while self.keep.is_some_and(|keep| self.written.len() > keep as usize) {
            let Some(oldest) = self.written.pop_front() else { break };
            // Somebody may have moved it away to keep it: then there is nothing to remove.
            match fs::remove_file(&oldest) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(error).with_context(|| {
                        format!(
                            "cannot remove {} for --keep; check the directory",
                            oldest.display()
                        )
                    });
                }
            }
        }
        Ok((file, path))
    }
}

/// `web.0007.psc` for `web.psc` and 7; more digits when they are needed.
fn numbered(base: &Path, number: u32) -> PathBuf {
    let mut name = base.file_stem().unwrap_or_default().to_os_string();
    name.push(format!(".{number:04}"));
    if let Some(extension) = base.extension() {
        name.push(".");
        name.push(extension);
    }
    base.with_file_name(name)
}

/// The highest number that a file named after `base` has, 0 when there is none.
fn highest(base: &Path) -> u32 {
    let directory = match base.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let (Some(stem), Ok(entries)) =
        (base.file_stem().and_then(|stem| stem.to_str()), fs::read_dir(directory))
    else {
        return 0;
    };
    let extension = base.extension().and_then(|e| e.to_str()).map(|e| format!(".{e}"));
    entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let rest = name.strip_prefix(stem)?.strip_prefix('.')?;
            rest.strip_suffix(extension.as_deref().unwrap_or(""))?.parse().ok()
        })
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_oldest_file_goes_and_a_restart_continues() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("other.0001.psc"), "not ours").unwrap();
        let base = dir.path().join("web.psc");
        let mut files = Files::new(base.clone(), true, Some(2), false, None);
        for _ in 0..4 {
            files.create().unwrap();
        }
        assert_eq!(names(dir.path()), ["other.0001.psc", "web.0003.psc", "web.0004.psc"]);
        let (_, path) = Files::new(base, true, Some(2), false, None).create().unwrap();
        assert!(path.ends_with("web.0005.psc"), "{}", path.display());
        assert_eq!(names(dir.path()).len(), 4, "files of an earlier run are not ours to remove");
    }

    #[test]
    fn a_file_is_full_by_size_or_age() {
        let rotation = Rotation { size: Some(100), time: Some(Duration::from_secs(9)), keep: None };
        assert!(!rotation.due(99, Duration::from_secs(8)));
        assert!(rotation.due(100, Duration::ZERO));
        assert!(rotation.due(0, Duration::from_secs(9)));
        assert!(!Rotation::default().due(u64::MAX, Duration::MAX));
    }
}
