//! Network namespaces: which there are, and doing something inside one.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustc_hash::FxHashMap;

use super::tasks;

/// A network namespace that something leads to.
#[derive(Clone, Debug)]
pub(crate) struct Namespace {
    pub(crate) inode: u32,
    /// Name of `ip netns`, or a container id; empty when neither.
    pub(crate) name: String,
    /// Opened only while it is used: an open descriptor would keep the namespace alive.
    path: PathBuf,
}

const OWN: &str = "/proc/self/ns/net";

fn inode(path: &Path) -> Option<u32> {
    Some(fs::metadata(path).ok()?.ino() as u32)
}

/// Every namespace that a process lives in or a name is kept for, by inode.
pub(crate) fn list() -> Vec<Namespace> {
    let mut found: FxHashMap<u32, Namespace> = FxHashMap::default();
    if let Some(own) = inode(Path::new(OWN)) {
        found.insert(own, Namespace { inode: own, name: String::new(), path: OWN.into() });
    }
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let path = entry.path();
        if let Some(inode) = inode(&path) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let space =
                found.entry(inode).or_insert(Namespace { inode, name: String::new(), path });
            if space.name.is_empty() {
                space.name = name;
            }
        }
    }
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let path = entry.path().join("ns/net");
        let Some(inode) = inode(&path) else { continue };
        found.entry(inode).or_insert_with(|| {
            let (_, container) = tasks::cgroup(pid);
            Namespace { inode, name: container, path }
        });
    }
    let mut all: Vec<_> = found.into_values().collect();
    all.sort_by_key(|space| space.inode);
    all
}

/// The namespace a user names: `ip netns` name, path, or inode.
pub(crate) fn resolve(name: &str) -> Option<u32> {
    if let Ok(number) = name.parse::<u32>() {
        return Some(number);
    }
    if name.contains('/') {
        return inode(Path::new(name));
    }
    inode(&Path::new("/run/netns").join(name))
}

impl Namespace {
    /// Whether this process lives in it.
    pub(crate) fn is_own(&self) -> bool {
        self.path == Path::new(OWN)
    }

    /// Runs `work` on a thread inside the namespace.
    ///
    /// Threads have their own namespace; `work` must use `/proc/thread-self`, not `/proc/self`.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let enter = || {
            let file = File::open(&self.path)?;
            // The process that led here may have gone and its number been given to another.
            if file.metadata()?.ino() as u32 != self.inode {
                return Err(io::Error::from(io::ErrorKind::NotFound));
            }
            // SAFETY: an open descriptor; affects this thread alone, which ends here.
            if unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(work())
        };
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("psc-netns".to_owned())
                .spawn_scoped(scope, enter)?
                .join()
                .map_err(|_| io::Error::other("the thread inside the namespace panicked"))?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_namespace_is_listed_and_found_by_path_and_inode() {
        let own = list().into_iter().find(Namespace::is_own).expect("own namespace");
        assert_eq!(resolve(OWN), Some(own.inode));
        assert_eq!(resolve(&own.inode.to_string()), Some(own.inode));
        assert_eq!(resolve("no-such-namespace-psc"), None);
    }
}
