//! `cargo xtask golden`: records what `tests/golden` replays, on the kernel of this machine.
//!
//! Small recordings of one subject each, with a capture of the server's interface beside some: the same
//! packets seen without the stack.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command::{self, Running};
use crate::demo::{self, ready, start_recorder};
use crate::interrupt;
use crate::netns::{self, Netns, Pair};
use crate::setup::{self, Purpose};

/// A recording of one subject.
struct Scenario {
    name: &'static str,
    /// What answers: `serve` or `deaf`.
    server: &'static str,
    /// Done before recording starts.
    prepare: &'static [Step],
    /// What is recorded.
    traffic: &'static [Step],
    /// Whether the server's interface is captured too.
    capture: bool,
}

/// A shell line on one host; `$4` and `$6` are the server's addresses, `traffic` is our own maker.
#[derive(Clone, Copy)]
enum Step {
    Client(&'static str),
    Server(&'static str),
}

use Step::{Client, Server};

/// The smallest table: addresses are RFC 2544's and RFC 5737's.
const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "conversation",
        server: "serve",
        prepare: &[],
        traffic: &[
            Client("ping -q -c 3 -i 0.05 $4"),
            Client("ping -q -c 3 -i 0.05 $6"),
            Client("traffic few --to6 $6 --do http=5 --do http6=5 --do echo=3 --do echo6=3"),
        ],
        capture: true,
    },
    Scenario {
        name: "bulk",
        server: "serve",
        prepare: &[],
        traffic: &[Client("traffic few --do bulk=1")],
        capture: false,
    },
    Scenario {
        name: "closed",
        server: "serve",
        prepare: &[],
        traffic: &[Client("traffic few --do refused=3 --do unreachable=2")],
        capture: false,
    },
    Scenario {
        name: "drops",
        server: "deaf",
        prepare: &[
            Server("sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.eth0.rp_filter=1"),
            Server("sysctl -qw net.ipv4.ip_forward=1"),
            Server("ip route add 198.51.100.0/24 dev eth0"),
            Client("ip route add 198.51.100.0/24 via $4"),
        ],
        traffic: &[
            Client("traffic few --do filtered=3 --do overflow=20"),
            // Time to live: it would have to be forwarded and may not.
            Client("ping -q -c 2 -i 0.05 -W 1 -t 1 198.51.100.9 || true"),
            // Reverse path: nothing says that this source is behind eth0.
            Client("hping3 -q -c 2 -i u20000 --udp -p 9002 -a 203.0.113.9 $4 2>/dev/null || true"),
            Client("hping3 -q -c 2 -i u20000 -S -p 9002 --badcksum $4 2>/dev/null || true"),
        ],
        capture: false,
    },
    Scenario {
        name: "accept-queue",
        server: "deaf",
        prepare: &[],
        traffic: &[Client("traffic few --do unaccepted=5")],
        capture: false,
    },
    Scenario {
        name: "scan",
        server: "serve",
        prepare: &[],
        traffic: &[Client("nmap -sS -Pn -n -p 1-100,8080 --max-retries 0 $4 >/dev/null")],
        capture: true,
    },
    Scenario {
        name: "syn-flood",
        server: "serve",
        // Answers to invented sources go back to where they came from.
        prepare: &[
            Server("ip route add default via 198.18.0.1"),
            Client("ip route add blackhole default metric 9"),
        ],
        traffic: &[Client(
            "hping3 -q -c 600 -i u1000 -S -p 8080 --rand-source $4 >/dev/null 2>&1 || true",
        )],
        capture: false,
    },
    Scenario {
        name: "arp-conflict",
        server: "serve",
        prepare: &[],
        traffic: &[
            Client("ping -q -c 1 $4"),
            Server(
                "nping -q --arp --arp-type ARP-reply --arp-sender-ip $4 --arp-sender-mac \
                 02:00:5e:00:53:01 --arp-target-ip 198.18.0.1 -c 3 --rate 20 198.18.0.1 >/dev/null",
            ),
        ],
        capture: true,
    },
];

pub(crate) fn run(args: &[String]) -> Result<()> {
    let known = || SCENARIOS.iter().map(|scenario| scenario.name).chain(["demo"]);
    if let Some(name) = args.iter().find(|name| !known().any(|known| known == name.as_str())) {
        let all: Vec<_> = known().collect();
        bail!("golden has no recording '{name}'; it has {}", all.join(", "));
    }
    interrupt::install()?;
    let root = crate::root()?;
    let setup = setup::ensure(Purpose::Test)?;
    if !setup::is_root() || !setup.can_build_live() {
        bail!("golden records, so it needs root and what recording is built with");
    }
    let psc = demo::build(&root, true)?;
    for folder in ["recordings", "captures"] {
        std::fs::create_dir_all(root.join("testdata").join(folder))?;
    }
    let wanted = |name: &str| args.is_empty() || args.iter().any(|arg| arg == name);
    for scenario in SCENARIOS.iter().filter(|scenario| wanted(scenario.name)) {
        record(&root, &psc, scenario).with_context(|| scenario.name)?;
    }
    if wanted("demo") {
        let recording = root.join(demo::SHIPPED);
        demo::record(&psc, &recording, Duration::from_secs(10)).context("demo")?;
        println!("{}", size(&recording)?);
    }
    println!("\nNow look at what changes: UPDATE_GOLDEN=1 cargo test --test golden && git diff");
    Ok(())
}

fn record(root: &Path, psc: &Path, scenario: &Scenario) -> Result<()> {
    let pair = Pair::create("golden")?;
    demo::forbid(&pair)?;
    let mut server = pair.server.traffic()?;
    let mut server = Running::start(server.arg(scenario.server).stdout(Stdio::piped()))?;
    ready(&mut server)?;
    // New addresses announce themselves for seconds, which is nobody's subject here.
    let six = |step: &Step| matches!(step, Client(line) | Server(line) if line.contains("$6"));
    if pair.ipv6 && !scenario.traffic.iter().any(six) {
        for step in [Client, Server] {
            take(&pair, step("sysctl -qw net.ipv6.conf.all.disable_ipv6=1"))?;
        }
    }
    for step in scenario.prepare {
        take(&pair, *step)?;
    }
    // Neighbours are found before, so that they are not what every recording starts with.
    if scenario.name != "arp-conflict" {
        command::output(pair.client.inside("ping").args(["-q", "-c", "1", netns::SERVER4]))?;
    }

    let testdata = root.join("testdata");
    let recording = testdata.join(format!("recordings/{}.psc", scenario.name));
    let mut command = recorder(psc, &pair);
    // A path of this machine has no place in a recording that is handed out.
    command.current_dir(&testdata).arg(format!("recordings/{}.psc", scenario.name));
    let (mut recorder, messages) = start_recorder(&mut command)?;

    let capture = testdata.join(format!("captures/{}.pcap", scenario.name));
    let mut capturing = None;
    if scenario.capture {
        let mut tcpdump = pair.server.inside("tcpdump");
        tcpdump.args(["-i", "eth0", "-U", "--immediate-mode", "-Z", "root", "-w"]).arg(&capture);
        capturing = Some(Running::start(tcpdump.stderr(Stdio::null()))?);
        interrupt::sleep(Duration::from_millis(500))?;
    }
    for step in scenario.traffic {
        take(&pair, *step)?;
    }
    interrupt::sleep(Duration::from_millis(300))?;
    if let Some(mut tcpdump) = capturing {
        tcpdump.stop(Duration::from_secs(5))?;
        println!("{}", size(&capture)?);
    }
    let status = recorder.stop(Duration::from_secs(20))?;
    let messages = messages.rest();
    if !status.success() {
        bail!("psc record ({status}): {}", messages.join("\n"));
    }
    println!("{}", size(&recording)?);
    Ok(())
}

/// `psc record` of both hosts, called as users call it; the output is still to be added.
pub(crate) fn recorder(psc: &Path, pair: &Pair) -> Command {
    let mut command = Command::new(psc);
    command.arg0("psc").args(["record", "--force", "--netns", pair.client.name()]);
    command.args(["--netns", pair.server.name(), "--output"]);
    command
}

fn take(pair: &Pair, step: Step) -> Result<()> {
    let (netns, line): (&Netns, _) = match step {
        Client(line) => (&pair.client, line),
        Server(line) => (&pair.server, line),
    };
    let own = std::env::current_exe().context("cannot find my own program file")?;
    let line = line
        .replace("$4", netns::SERVER4)
        .replace("$6", netns::SERVER6)
        .replace("traffic few", &format!("'{}' traffic few", own.display()));
    command::output(netns.inside("sh").args(["-ec", &line])).map(drop)
}

fn size(path: &Path) -> Result<String> {
    let bytes = std::fs::metadata(path).with_context(|| path.display().to_string())?.len();
    Ok(format!("  {:<60} {bytes:>9} bytes", path.display()))
}
