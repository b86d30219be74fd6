//! `cargo xtask attacks`: attacks made for real by tools that nobody here wrote, in namespaces, each
//! beside a benign twin, and what the detectors make of them.
//!
//! One link (a bridge) with victim, attacker, neighbour and a gateway, behind which is a host outside. Each
//! scenario is recorded on the hosts of that link, detected, and scored against what was said before
//! (`scenarios.rs`). Truth is what was done and when: the recording begins with the scenario.

mod scenarios;
mod score;
mod written;

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command::{self, Running};
use crate::demo::{self, start_recorder};
use crate::netns::Netns;
use crate::setup::{self, Purpose};
use crate::{Options, interrupt};

use scenarios::{Host, SCENARIOS, Scenario};

/// Where the table is kept.
const TABLE: &str = "testdata/attacks.md";

pub(crate) fn run(args: &[String]) -> Result<()> {
    let (mut quick, mut write, mut only) = (false, false, None::<String>);
    let mut captures = false;
    let mut given = None::<PathBuf>;
    let mut options = Options::new(args);
    while let Some(name) = options.name() {
        match name {
            "--quick" => quick = true,
            "--write" => write = true,
            "--written" => captures = true,
            "--only" => only = Some(options.value(name)?),
            "--psc" => given = Some(options.value(name)?),
            other => {
                bail!(
                    "attacks has no option '{other}'; it has --quick, --written, --only NAME, \
                     --psc FILE and --write"
                )
            }
        }
    }
    interrupt::install()?;
    let root = crate::root()?;
    if captures {
        // Nothing is sent or recorded: no namespaces, no root.
        let psc = match given {
            Some(psc) => psc,
            None => demo::build(&root, false)?,
        };
        let python = scapy(&root)?;
        return written::run(&psc, &python, &root, only.as_deref().unwrap_or_default(), write);
    }
    let setup = setup::ensure(Purpose::Test)?;
    if !setup::is_root() || !setup.can_build_live() {
        bail!("attacks are made in network namespaces and recorded: that needs root and `live`");
    }
    let psc = match given {
        Some(psc) => psc,
        None => demo::build(&root, true)?,
    };
    let python = scapy(&root)?;
    let folder = crate::target(&root).join("attacks");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let mut net = Net::create(&root.join("xtask/src/attacks/inject.py"), &python, &folder)?;
    let wanted = |scenario: &&Scenario| {
        (!quick || scenario.quick)
            && only.as_deref().is_none_or(|part| scenario.name.contains(part))
    };
    let mut rows = Vec::new();
    for scenario in SCENARIOS.iter().filter(wanted) {
        let recording = folder.join("attack.psc");
        net.record(&psc, scenario, &recording).with_context(|| scenario.name)?;
        let row = score::row(&psc, scenario, &recording, !quick).with_context(|| scenario.name)?;
        println!("{}", row.line());
        rows.push(row);
    }
    let table = score::table(&rows);
    println!("\n{table}");
    if write {
        std::fs::write(root.join(TABLE), &table).with_context(|| TABLE.to_owned())?;
        println!("wrote {TABLE}");
    }
    score::judge(&rows)
}

/// scapy from PyPI, in a virtual environment beside what cargo builds.
fn scapy(root: &Path) -> Result<PathBuf> {
    let folder = crate::target(root).join("attacks-python");
    let python = folder.join("bin/python");
    let there = python.is_file()
        && command::output(Command::new(&python).args(["-c", "import scapy.all"])).is_ok();
    if !there {
        command::output(command::tool("python3").args(["-m", "venv"]).arg(&folder))?;
        let pip =
            ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "scapy==2.6.1"];
        command::output(Command::new(&python).args(pip))
            .context("cannot install scapy from PyPI")?;
    }
    Ok(python)
}

/// The campaign's network.
struct Net {
    victim: Netns,
    attacker: Netns,
    neighbour: Netns,
    gateway: Netns,
    outside: Netns,
    _wire: Netns,
    inject: String,
    port: String,
    _server: Running,
}

impl Net {
    fn create(script: &Path, python: &Path, folder: &Path) -> Result<Self> {
        let host = |name: &str| Netns::create(format!("psc-attacks-{name}"));
        let wire = host("wire")?;
        wire.ip(&["link", "add", "br0", "type", "bridge"])?;
        wire.ip(&["link", "set", "br0", "up"])?;
        let hosts = [
            ("victim", "10.80.0.2/24"),
            ("attacker", "10.80.0.66/24"),
            ("neighbour", "10.80.0.3/24"),
            ("gateway", "10.80.0.1/24"),
        ];
        let mut made = Vec::new();
        for (n, (name, address)) in hosts.into_iter().enumerate() {
            let netns = host(name)?;
            let port = format!("p{n}");
            #[rustfmt::skip]
            wire.ip(&["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", netns.name()])?;
            wire.ip(&["link", "set", &port, "master", "br0", "up"])?;
            netns.ip(&["addr", "add", address, "dev", "eth0", "brd", "+"])?;
            netns.ip(&["link", "set", "eth0", "up"])?;
            made.push(netns);
        }
        let [victim, attacker, neighbour, gateway] =
            <[Netns; 4]>::try_from(made).map_err(|_| anyhow::anyhow!("four hosts were made"))?;
        let outside = host("outside")?;
        #[rustfmt::skip]
        gateway.ip(&["link", "add", "eth1", "type", "veth", "peer", "name", "eth0", "netns", outside.name()])?;
        gateway.ip(&["addr", "add", "198.51.100.1/24", "dev", "eth1"])?;
        gateway.ip(&["link", "set", "eth1", "up"])?;
        outside.ip(&["addr", "add", "198.51.100.9/24", "dev", "eth0"])?;
        outside.ip(&["link", "set", "eth0", "up"])?;
        let forward = "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=1";
        command::output(gateway.inside("sh").args(["-ec", forward]))?;
        for netns in [&victim, &attacker, &neighbour] {
            netns.ip(&["route", "add", "default", "via", "10.80.0.1"])?;
            let broadcast = "sysctl -qw net.ipv4.icmp_echo_ignore_broadcasts=0";
            command::output(netns.inside("sh").args(["-ec", broadcast]))?;
        }
        outside.ip(&["route", "add", "default", "via", "198.51.100.1"])?;
        // Answers to invented addresses and what must reach nobody end here.
        gateway.ip(&["route", "add", "blackhole", "default"])?;
        gateway.ip(&["route", "add", "203.0.113.0/24", "via", "10.80.0.3"])?;
        let inject = format!("'{}' '{}'", python.display(), script.display());
        let mut server = victim.inside("sh");
        server.args(["-ec", &format!("exec {inject} idle_listener")]).stdout(Stdio::piped());
        let mut server = Running::start(&mut server)?;
        demo::ready(&mut server)?;
        let port = folder.join("port").display().to_string();
        Ok(Self {
            victim,
            attacker,
            neighbour,
            gateway,
            outside,
            _wire: wire,
            inject,
            port,
            _server: server,
        })
    }

    fn shell(&self, host: Host, line: &str) -> Command {
        let netns = match host {
            Host::Victim => &self.victim,
            Host::Attacker => &self.attacker,
            Host::Neighbour => &self.neighbour,
            Host::Gateway => &self.gateway,
            Host::Outside => &self.outside,
        };
        let line = line
            .replace("inject ", &format!("{} ", self.inject))
            .replace("$PORT", &self.port)
            .replace("$V", "10.80.0.2")
            .replace("$G", "10.80.0.1")
            .replace("$O", "198.51.100.9")
            .replace("$N", "10.80.0.3");
        let mut command = netns.inside("sh");
        command.args(["-ec", &line]).stdin(Stdio::null());
        command
    }

    /// Everybody knows everybody, as on a link that has been up for a while.
    fn settle(&self) -> Result<()> {
        for host in [Host::Attacker, Host::Neighbour, Host::Victim] {
            let line = "for h in $V $G $N $O; do ping -q -c 1 -W 1 $h >/dev/null || true; done";
            command::output(&mut self.shell(host, line))?;
        }
        Ok(())
    }

    fn record(&mut self, psc: &Path, scenario: &Scenario, recording: &Path) -> Result<()> {
        self.settle()?;
        let mut recorder = Command::new(psc);
        // Whole packets: what is said above TCP and UDP counts, too.
        recorder.arg0("psc").args(["record", "--force", "-s", "0"]);
        // All hosts, since a packet's bytes are taken where it is seen first; who is recorded says nothing
        // about who did what.
        for netns in [&self.victim, &self.attacker, &self.neighbour, &self.gateway] {
            recorder.args(["--netns", netns.name()]);
        }
        let mut recorder = if scenario.captured {
            let mut tcpdump = self.victim.inside("tcpdump");
            tcpdump.args(["-i", "eth0", "-U", "--immediate-mode", "-Z", "root", "-w"]);
            let running = Running::start(tcpdump.arg(recording).stderr(Stdio::null()))?;
            interrupt::sleep(Duration::from_millis(800))?;
            running
        } else {
            start_recorder(recorder.arg("-o").arg(recording))?.0
        };
        let mut background = None;
        if let Some((host, line)) = scenario.background {
            let mut command = self.shell(host, &format!("exec {line}"));
            if line.contains('>') || line.contains(';') {
                command = self.shell(host, line);
            }
            command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null());
            background = Some(command.spawn().context("the background traffic does not start")?);
            // What it does first is not what is looked at; a connection has to be there to be attacked.
            interrupt::sleep(Duration::from_millis(2500))?;
        }
        let mut done = Ok(());
        for (host, line) in scenario.lines {
            done = command::output(&mut self.shell(*host, line)).map(drop);
            if done.is_err() {
                break;
            }
        }
        interrupt::sleep(Duration::from_millis(700))?;
        if let Some(mut child) = background {
            // SAFETY: the process group of a child that has not been waited for.
            unsafe { libc::kill(-(child.id() as i32), libc::SIGTERM) };
            child.wait()?;
        }
        let status = recorder.stop(Duration::from_secs(30))?;
        done?;
        if !status.success() {
            bail!("the recorder ended with {status}");
        }
        Ok(())
    }
}

/// `psc guard detect` of a recording, up to a time when one is given.
fn detect(psc: &Path, recording: &Path, until_ns: Option<u64>) -> Result<Value> {
    let mut command = Command::new(psc);
    command.args(["--quiet", "guard", "detect", "--format", "json"]).arg(recording);
    if let Some(until) = until_ns {
        command.arg("-t").arg(format!("..{until}ns"));
    }
    let out = command.output().context("psc does not start")?;
    if !matches!(out.status.code(), Some(0 | 1)) {
        bail!("psc guard detect: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    serde_json::from_slice(&out.stdout).context("psc guard detect printed no JSON")
}
