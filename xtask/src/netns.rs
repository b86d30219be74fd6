//! Two hosts on one machine: network namespaces joined by a veth pair, removed whatever happens.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

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
    /// Makes one; a left-over of a killed run by that name goes first.
    pub(crate) fn create(name: String) -> Result<Self> {
        if Path::new("/run/netns").join(&name).exists() {
            command::output(command::tool("ip").args(["netns", "del", &name]))?;
        }
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

    /// `ip -n NAME ARGS`.
    pub(crate) fn ip(&self, args: &[&str]) -> Result<()> {
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
    _lock: File,
}

impl Pair {
    /// Creates both, named after `purpose`, with addresses on `eth0` at each end.
    pub(crate) fn create(purpose: &str) -> Result<Self> {
        let lock = lock(purpose)?;
        let [client, server] = ["client", "server"].map(|side| format!("psc-{purpose}-{side}"));
        for left in [&client, &server].map(|name| Path::new("/run/netns").join(name)) {
            // The lock is ours, so the run that made this was killed before it could remove it.
            if let Some(name) = left.file_name().filter(|_| left.exists()) {
                command::output(command::tool("ip").args(["netns", "del"]).arg(name))?;
            }
        }
        let client = Netns::create(client)?;
        let server = Netns::create(server)?;
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
        Ok(Self { client, server, ipv6, _lock: lock })
    }
}

/// One run of a purpose at a time, so that the names of its hosts can be plain. The kernel lets go of the
/// lock with the process, however that ends.
fn lock(purpose: &str) -> Result<File> {
    let path = std::env::temp_dir().join(format!("psc-xtask-{purpose}.lock"));
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("another `cargo xtask {purpose}` is running; wait for it to end")
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purpose_has_one_run_at_a_time() {
        let first = lock("selftest").expect("nobody else tests this");
        assert!(lock("selftest").is_err());
        drop(first);
        assert!(lock("selftest").is_ok());
    }
}
