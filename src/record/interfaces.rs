//! Which interfaces there are, so that a mistyped one is an error before anything is attached.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;

/// An error that lists what there is, unless every name of `wanted` exists in some namespace.
pub(super) fn require(wanted: &[String]) -> anyhow::Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let existing = everywhere();
    let missing: Vec<&str> =
        wanted.iter().map(String::as_str).filter(|name| !existing.contains(*name)).collect();
    let list: Vec<&str> = existing.iter().map(String::as_str).collect();
    anyhow::ensure!(
        missing.is_empty(),
        "no interface named {} in any network namespace; there are {}",
        missing.join(", "),
        list.join(", ")
    );
    Ok(())
}

/// Names of all interfaces in all namespaces that can be entered.
fn everywhere() -> BTreeSet<String> {
    let mut names = here();
    for path in namespaces().into_values() {
        let Ok(namespace) = File::open(&path) else { continue };
        // A thread of its own: it never comes back to this namespace.
        let found = thread::spawn(move || {
            // SAFETY: a system call on an open descriptor; it changes this thread only.
            let entered = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } == 0;
            if entered { here() } else { BTreeSet::new() }
        });
        names.extend(found.join().unwrap_or_default());
    }
    names
}

/// A path to each namespace that a name or a process holds open, by inode.
fn namespaces() -> BTreeMap<u64, PathBuf> {
    let entries = |directory| fs::read_dir(directory).into_iter().flatten().flatten();
    let named = entries("/run/netns").map(|entry| entry.path());
    let held = entries("/proc")
        .filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit))
        .map(|entry| entry.path().join("ns/net"));
    named.chain(held).filter_map(|path| Some((fs::metadata(&path).ok()?.ino(), path))).collect()
}

/// Names of the interfaces in this thread's namespace.
fn here() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    // SAFETY: returns null or an array that ends with a null name, freed once below.
    unsafe {
        let first = libc::if_nameindex();
        let mut entry = first;
        while !entry.is_null() && !(*entry).if_name.is_null() {
            names.insert(CStr::from_ptr((*entry).if_name).to_string_lossy().into_owned());
            entry = entry.add(1);
        }
        if !first.is_null() {
            libc::if_freenameindex(first);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_interface_is_answered_with_those_there_are() {
        assert!(require(&["lo".to_owned()]).is_ok());
        let error = require(&["lo".to_owned(), "no-such0".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("no-such0 ") && error.contains("there are"), "{error}");
        assert!(error.contains("lo"), "{error}");
    }
}
