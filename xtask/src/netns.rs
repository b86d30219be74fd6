//! Two hosts on one machine: network namespaces joined by a veth pair, removed whatever happens.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;

/// Benchmarking range of RFC 2544: routed nowhere.
pub(crate) const CLIENT4: &str = "198.18.0.1";
/// See [`CLIENT4`].
pub(crate) const SERVER4: &str = "198.18.0.2";
/// Documentation range of RFC 3849.
pub(crate) const CLIENT6: &str = "2001:db8:18::1";
/// See [`CLIENT6`].
pub(crate) const SERVER6: &str = "2001:db8:18::2";

/// A network namespace that goes with this value.
pub(crate) struct Netns {
    name: String,
}

impl Netns {
    fn create(name: String) -> Result<Self> {
        command::output(command::tool("ip").args(["netns", "add", &name]))
            .context("cannot create a network namespace")?;
        let netns = Self { name };
        netns.ip(&["link", "set", "lo", "up"])?;
        Ok(netns)
    }

    /// Its name under `/run/netns`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A command that runs inside; `ip` replaces itself, so its pid is the program's.
    pub(crate) fn inside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = command::tool("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Our own traffic maker, inside.
    pub(crate) fn traffic(&self) -> Result<Command> {
        let own = std::env::current_exe().context("cannot find my own program file")?;
        let mut command = self.inside(own);
        command.arg("traffic");
        Ok(command)
    }

    fn ip(&self, args: &[&str]) -> Result<()> {
        command::output(command::tool("ip").args(["-n", &self.name]).args(args)).map(drop)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if let Err(error) = command::output(command::tool("ip").args(["netns", "del", &self.name]))
        {
            eprintln!("xtask: {error:#}; remove it with `ip netns del {}`", self.name);
        }
    }
}

/// Client and server, one link between them.
pub(crate) struct Pair {
    /// Starts connections.
    pub(crate) client: Netns,
    /// Answers them.
    pub(crate) server: Netns,
    /// Whether this kernel does IPv6.
    pub(crate) ipv6: bool,
}

impl Pair {
    /// Creates both, named after `purpose` and our pid, with addresses on `eth0` at each end.
    pub(crate) fn create(purpose: &str) -> Result<Self> {
        remove_orphans(purpose);
        let own = std::process::id();
        let client = Netns::create(format!("psc-{purpose}-{own}-client"))?;
        let server = Netns::create(format!("psc-{purpose}-{own}-server"))?;
        // Both ends are made inside, so the host never sees the devices.
        client.ip(&[
            "link",
            "add",
            "eth0",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            &server.name,
        ])?;
        let ipv6 = Path::new("/proc/net/if_inet6").exists();
        for (netns, v4, v6) in [(&client, CLIENT4, CLIENT6), (&server, SERVER4, SERVER6)] {
            netns.ip(&["addr", "add", &format!("{v4}/24"), "dev", "eth0"])?;
            if ipv6 {
                // Without `nodad` the address cannot be used for a second.
                netns.ip(&["addr", "add", &format!("{v6}/64"), "dev", "eth0", "nodad"])?;
            }
            netns.ip(&["link", "set", "eth0", "up"])?;
        }
        Ok(Self { client, server, ipv6 })
    }
}

/// Removes namespaces of earlier runs that were killed before they could.
fn remove_orphans(purpose: &str) {
    let Ok(list) = command::output(command::tool("ip").args(["netns", "list"])) else { return };
    for name in list.lines().filter_map(|line| line.split_whitespace().next()) {
        if orphaned(name, purpose, |pid| Path::new("/proc").join(pid).exists()) {
            command::output(command::tool("ip").args(["netns", "del", name])).ok();
        }
    }
}

fn orphaned(name: &str, purpose: &str, alive: impl Fn(&str) -> bool) -> bool {
    let Some(rest) = name.strip_prefix("psc-").and_then(|rest| rest.strip_prefix(purpose)) else {
        return false;
    };
    let mut parts = rest.strip_prefix('-').unwrap_or_default().split('-');
    let (pid, side) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let ours = !pid.is_empty()
        && pid.bytes().all(|byte| byte.is_ascii_digit())
        && matches!(side, "client" | "server");
    ours && parts.next().is_none() && !alive(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_namespaces_of_dead_runs_are_removed() {
        let alive = |pid: &str| pid == "7";
        assert!(orphaned("psc-demo-8-client", "demo", alive));
        for kept in
            ["psc-demo-7-client", "psc-bench-8-client", "psc-demo-8-router", "psc-demo-x-client"]
        {
            assert!(!orphaned(kept, "demo", alive), "{kept}");
        }
    }
}
