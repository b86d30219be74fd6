//! Hosts made of network namespaces, for tests that need real packets. Needs root; everything made
//! is removed on drop, also when a test panics.
#![allow(dead_code, missing_docs, unreachable_pub)]

pub mod dump;
pub mod raw;
pub mod recording;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Whether live tests can run here: root and a kernel with BTF. When they cannot, prints a line that the test
/// command counts, or fails under `PSC_REQUIRE_LIVE=1`.
pub fn live(test: &str) -> bool {
    let root = unsafe { libc::geteuid() } == 0;
    let btf = std::path::Path::new("/sys/kernel/btf/vmlinux").exists();
    if root && btf && cfg!(feature = "live") {
        return true;
    }
    let why = format!("root: {root}, BTF: {btf}, feature live: {}", cfg!(feature = "live"));
    assert!(
        std::env::var_os("PSC_REQUIRE_LIVE").is_none_or(|v| v != "1"),
        "{test} needs a live kernel and PSC_REQUIRE_LIVE=1 is set ({why})"
    );
    println!("SKIPPED (live) {test}: {why}");
    false
}

/// Runs a command to its end and returns its standard output; panics with its error output.
pub fn sh(program: &str, args: &[&str]) -> String {
    let out = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|e| panic!("{program} does not start: {e}"));
    assert!(
        out.status.success(),
        "{program} {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A name no other test run has.
pub fn unique(what: &str) -> String {
    format!("psc-t-{}-{}-{what}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// One network namespace.
pub struct Host {
    pub name: String,
}

impl Host {
    /// A new namespace with loopback up.
    pub fn new(what: &str) -> Self {
        let host = Self { name: unique(what) };
        sh("ip", &["netns", "add", &host.name]);
        host.ip(&["link", "set", "lo", "up"]);
        host
    }

    /// `ip -n NAME ...`.
    pub fn ip(&self, args: &[&str]) -> String {
        let mut all = vec!["-n", &self.name];
        all.extend(args);
        sh("ip", &all)
    }

    /// Runs a command inside and returns its standard output.
    pub fn sh(&self, args: &[&str]) -> String {
        let mut all = vec!["netns", "exec", &self.name];
        all.extend(args);
        sh("ip", &all)
    }

    /// A command to be run inside.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs `work` on a thread of its own inside the namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let ns = File::open(format!("/run/netns/{}", self.name)).expect("namespace file");
        std::thread::scope(|scope| {
            scope
                .spawn(move || {
                    // SAFETY: a plain system call on an open descriptor.
                    let rc = unsafe { libc::setns(ns.as_raw_fd(), libc::CLONE_NEWNET) };
                    assert_eq!(rc, 0, "setns: {}", std::io::Error::last_os_error());
                    work()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Writes a sysctl such as `net.ipv4.conf.all.rp_filter`.
    pub fn sysctl(&self, key: &str, value: &str) {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        self.run(|| std::fs::write(&path, value).unwrap_or_else(|e| panic!("{path}: {e}")));
    }

    /// SNMP and netstat counters, named as `nstat` names them.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        self.run(|| {
            let mut all = BTreeMap::new();
            for file in ["/proc/thread-self/net/snmp", "/proc/thread-self/net/netstat"] {
                let text = std::fs::read_to_string(file).expect(file);
                let mut lines = text.lines();
                while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
                    let group = names.split(':').next().unwrap_or_default();
                    for (name, value) in
                        names.split_whitespace().zip(values.split_whitespace()).skip(1)
                    {
                        if let Ok(value) = value.parse() {
                            all.insert(format!("{group}{name}"), value);
                        }
                    }
                }
            }
            let text = std::fs::read_to_string("/proc/thread-self/net/snmp6").expect("snmp6");
            for line in text.lines() {
                let mut words = line.split_whitespace();
                if let (Some(name), Some(Ok(value))) = (words.next(), words.next().map(str::parse))
                {
                    all.insert(name.to_owned(), value);
                }
            }
            all
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Joins two hosts by a veth pair: `(host, interface, addresses)` on each side.
pub fn join(a: (&Host, &str, &[&str]), b: (&Host, &str, &[&str])) {
    #[rustfmt::skip]
    sh("ip", &["link", "add", a.1, "netns", &a.0.name, "type", "veth", "peer", "name", b.1, "netns", &b.0.name]);
    for (host, dev, addresses) in [a, b] {
        for address in addresses {
            let mut args = vec!["addr", "add", address, "dev", dev];
            if address.contains(':') {
                args.push("nodad");
            }
            host.ip(&args);
        }
        host.ip(&["link", "set", dev, "up"]);
    }
}

/// Two hosts on one wire: client 10.77.0.1 / fd77::1 on `c0`, server 10.77.0.2 / fd77::2 on `s0`.
pub struct Pair {
    pub client: Host,
    pub server: Host,
}

impl Pair {
    pub fn new() -> Self {
        let pair = Self { client: Host::new("c"), server: Host::new("s") };
        join(
            (&pair.client, "c0", &["10.77.0.1/24", "fd77::1/64"]),
            (&pair.server, "s0", &["10.77.0.2/24", "fd77::2/64"]),
        );
        pair
    }
}

/// Increase of a counter.
pub fn delta(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>, name: &str) -> u64 {
    after.get(name).copied().unwrap_or(0) - before.get(name).copied().unwrap_or(0)
}
