//! Sysctls that decide what the stack does with packets.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Whole directories of `/proc/sys/net`, without their subdirectories.
const DIRECTORIES: &[&str] = &["core", "ipv4", "ipv6", "mptcp", "netfilter", "bridge"];
/// Directories with one subdirectory per interface, and what is read of each.
const PER_INTERFACE: &[(&str, &[&str])] = &[
    (
        "ipv4/conf",
        &[
            "accept_local",
            "accept_redirects",
            "accept_source_route",
            "arp_announce",
            "arp_filter",
            "arp_ignore",
            "forwarding",
            "log_martians",
            "rp_filter",
            "send_redirects",
        ],
    ),
    (
        "ipv6/conf",
        &["accept_ra", "accept_redirects", "accept_source_route", "disable_ipv6", "forwarding"],
    ),
    ("ipv4/neigh", &["gc_stale_time", "unres_qlen"]),
];
/// Secrets: a recording must not carry the key of syncookies or of TCP Fast Open.
const SECRET: &[&str] = &["tcp_fastopen_key", "stable_secret"];
const LONGEST: usize = 256;

/// Reads the sysctls of the namespace that the thread is in.
pub(super) fn read() -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let root = Path::new("/proc/sys/net");
    for directory in DIRECTORIES {
        for entry in fs::read_dir(root.join(directory)).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_file())
                && let Some(name) = entry.file_name().to_str()
            {
                keep(root, &format!("{directory}/{name}"), &mut values);
            }
        }
    }
    for (directory, names) in PER_INTERFACE {
        for entry in fs::read_dir(root.join(directory)).into_iter().flatten().flatten() {
            if let Some(interface) = entry.file_name().to_str() {
                for name in *names {
                    keep(root, &format!("{directory}/{interface}/{name}"), &mut values);
                }
            }
        }
    }
    values
}

/// Sysctls of CPUs and queues that only the initial namespace has.
pub(super) fn read_host() -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let root = Path::new("/proc/sys/net");
    for name in [
        "netdev_max_backlog",
        "netdev_budget",
        "netdev_budget_usecs",
        "dev_weight",
        "rmem_max",
        "wmem_max",
    ] {
        keep(root, &format!("core/{name}"), &mut values);
    }
    values
}

fn keep(root: &Path, relative: &str, values: &mut BTreeMap<String, String>) {
    if SECRET.iter().any(|secret| relative.ends_with(secret)) {
        return;
    }
    let Ok(text) = fs::read_to_string(root.join(relative)) else { return };
    let value = text.trim();
    if value.len() <= LONGEST {
        // As sysctl(8) prints: a dot in an interface's name becomes a slash.
        let name: String = relative
            .chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                other => other,
            })
            .collect();
        values.insert(format!("net.{name}"), value.replace('\t', " "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_names_are_there_and_secrets_are_not() {
        let values = read();
        assert!(values.contains_key("net.ipv4.ip_forward"));
        assert!(values.contains_key("net.ipv4.conf.all.rp_filter"));
        assert!(!values.keys().any(|name| name.ends_with("fastopen_key")));
    }
}
