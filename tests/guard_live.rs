//! Rules on real packets between two namespaces: what is enforced is what the evaluator says, nothing is
//! left behind, rules are swapped, blocks need a proof.
#![allow(missing_docs, clippy::disallowed_methods, reason = "tests")]
#![cfg(all(feature = "live", target_os = "linux"))]

mod netns;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use netns::{Host, Pair, live, raw, recording::json};

/// `psc live` on the server's interface.
struct Live {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Live {
    fn start(host: &Host, args: &[&str]) -> Self {
        let mut command = host.command(env!("CARGO_BIN_EXE_psc"));
        command.args(["live", "-i", "s0"]).args(args).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("psc starts");
        let (tell, lines) = channel();
        let both: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("piped")),
            Box::new(child.stderr.take().expect("piped")),
        ];
        for stream in both {
            let tell = tell.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = tell.send(line);
                }
            });
        }
        let mut live = Self { child, lines, said: Vec::new() };
        live.wait_for("stop with Ctrl-C");
        live
    }

    /// Waits for a line that contains `text`.
    fn wait_for(&mut self, text: &str) -> String {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => {
                    panic!("psc never said {text:?} ({error}):\n{}", self.said.join("\n"))
                }
            }
        }
    }

    fn signal(&self, signal: i32) {
        // SAFETY: a signal to a child that has not been waited for.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    fn stop(mut self) -> String {
        self.signal(libc::SIGINT);
        let _ = self.child.wait();
        self.said.extend(self.lines.try_iter());
        self.said.join("\n")
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn rules(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("rules.toml");
    std::fs::write(&path, text).expect("written");
    path
}

/// Datagrams from the client to `port`, and how many arrive at a socket of the server.
fn datagrams(pair: &Pair, port: u16, count: usize) -> usize {
    let socket = pair.server.run(|| UdpSocket::bind(("10.77.0.2", port)).expect("bind"));
    socket.set_read_timeout(Some(Duration::from_millis(300))).expect("timeout");
    pair.client.run(|| {
        let from = UdpSocket::bind("10.77.0.1:0").expect("bind");
        for _ in 0..count {
            from.send_to(b"0123456789", ("10.77.0.2", port)).expect("sent");
            std::thread::sleep(Duration::from_micros(200));
        }
    });
    let mut bytes = [0; 64];
    let mut arrived = 0;
    while socket.recv(&mut bytes).is_ok() {
        arrived += 1;
    }
    arrived
}

/// Programs attached to the server's interface, as the kernel lists them.
fn attached(host: &Host) -> String {
    let link = host.ip(&["-d", "link", "show", "dev", "s0"]);
    let xdp = link.contains("prog/xdp") || link.contains(" xdp ");
    format!("xdp: {xdp}")
}

const TEN: &str = r#"
[[rule]]
id = "closed"
match = "udp.dstport == 5001"
action = "drop"

[[rule]]
id = "few"
match = "udp.dstport == 5002"
action = "limit"
rate = "1/m"
burst = 7
"#;

#[test]
fn what_is_discarded_is_what_the_rules_say_and_only_while_psc_lives() {
    if !live("enforcement") {
        return;
    }
    for attach in ["tc", "xdp"] {
        let pair = Pair::new();
        let folder = tempfile::tempdir().expect("folder");
        let path = rules(folder.path(), TEN);
        let path = path.to_str().expect("UTF-8");
        let archive = folder.path().join("live.psc");

        let dry = Live::start(&pair.server, &["--rules", path, "--attach", attach]);
        assert_eq!(datagrams(&pair, 5001, 20), 20, "{attach}: a dry-run discards nothing");
        drop(dry);

        let mut args = vec!["--rules", path, "--enforce", "--attach", attach, "-o"];
        args.push(archive.to_str().expect("UTF-8"));
        let enforcing = Live::start(&pair.server, &args);
        assert_eq!(datagrams(&pair, 5001, 40), 0, "{attach}: closed");
        assert_eq!(datagrams(&pair, 5002, 40), 7, "{attach}: the burst and no more");
        assert_eq!(datagrams(&pair, 5003, 40), 40, "{attach}: nothing else");
        std::thread::sleep(Duration::from_millis(1300));
        let said = enforcing.stop();
        assert!(said.contains("73 by rules"), "{attach}: 40 and 33\n{said}");

        let view = json(&["guard", "replay"], &archive, &["--rules", path, "-i", "s0"]);
        let rows = view["recorded"].as_array().expect("rows");
        let row = |id: &str| rows.iter().find(|row| row["id"] == id).expect(id).clone();
        for (id, discarded) in [("closed", 40), ("few", 33)] {
            let row = row(id);
            assert_eq!(row["recorded"], discarded, "{attach}: {row}");
            if attach == "tc" {
                assert_eq!(row["replayed"], discarded, "what was recorded says the same: {row}");
                assert_eq!(row["why"], "");
            } else {
                assert!(row["why"].as_str().is_some_and(|why| why.contains("XDP")), "{row}");
            }
        }
        assert_eq!(datagrams(&pair, 5001, 20), 20, "{attach}: nothing stays behind");
    }
}

#[test]
fn a_killed_psc_leaves_nothing_attached() {
    if !live("kill -9") {
        return;
    }
    for attach in ["tc", "xdp"] {
        let pair = Pair::new();
        let folder = tempfile::tempdir().expect("folder");
        let path = rules(folder.path(), TEN);
        let before = attached(&pair.server);
        let enforcing = Live::start(
            &pair.server,
            &["--rules", path.to_str().expect("UTF-8"), "--enforce", "--attach", attach],
        );
        assert_eq!(datagrams(&pair, 5001, 20), 0);
        enforcing.signal(libc::SIGKILL);
        drop(enforcing);
        // The kernel takes programs out after a grace period.
        let until = Instant::now() + Duration::from_secs(5);
        while datagrams(&pair, 5001, 5) < 5 {
            assert!(Instant::now() < until, "{attach}: still discarded after kill -9");
        }
        assert_eq!(attached(&pair.server), before, "{attach}");
        assert_eq!(datagrams(&pair, 5001, 20), 20);
    }
}

#[test]
fn rules_are_swapped_between_packets_and_taken_back_unless_confirmed() {
    if !live("reload") {
        return;
    }
    let pair = Pair::new();
    let folder = tempfile::tempdir().expect("folder");
    let path = rules(folder.path(), TEN);
    let path = path.to_str().expect("UTF-8");
    let mut live =
        Live::start(&pair.server, &["--rules", path, "--enforce", "--confirm-within", "8s"]);
    assert_eq!(datagrams(&pair, 5001, 10), 0);
    live.signal(libc::SIGUSR1);
    live.wait_for("confirmed: the rules stay");

    // A hostile file changes nothing but a message.
    rules(folder.path(), "[[rule]]\nid = \"x\"\nmatch = \"tcp.prot == 1\"\naction = \"drop\"\n");
    live.signal(libc::SIGHUP);
    live.wait_for("there is no field tcp.prot; the nearest is tcp.port");
    assert_eq!(datagrams(&pair, 5001, 10), 0, "the old rules stay");

    rules(folder.path(), &TEN.replace("5001", "5004"));
    live.signal(libc::SIGHUP);
    live.wait_for("rules replaced");
    assert_eq!(datagrams(&pair, 5001, 10), 10);
    assert_eq!(datagrams(&pair, 5004, 10), 0);
    live.wait_for("the rules from before are back");
    assert_eq!(datagrams(&pair, 5004, 10), 10);
    assert_eq!(datagrams(&pair, 5001, 10), 0);
    live.stop();
}

#[test]
fn a_source_is_blocked_only_when_it_has_proven_itself_and_the_block_ends() {
    if !live("blocks") {
        return;
    }
    let pair = Pair::new();
    let folder = tempfile::tempdir().expect("folder");
    let path = rules(
        folder.path(),
        r#"
[[rule]]
id = "scan"
match = "tcp.flags & 0x17 == 2"
distinct = { field = "tcp.dstport", over = 5, within = "2s" }
action = "drop"
block-for = "2s"
"#,
    );
    let mut live =
        Live::start(&pair.server, &["--rules", path.to_str().expect("UTF-8"), "--enforce"]);
    let hello = greet(&pair);
    let scan = || {
        pair.client.run(|| {
            for port in 1000..1020_u16 {
                let address = std::net::SocketAddr::from(([10, 77, 0, 2], port));
                let _ = TcpStream::connect_timeout(&address, Duration::from_millis(20));
            }
        });
    };
    // Unproven: each packet over the threshold is dropped, nobody is blocked.
    scan();
    assert_eq!(datagrams(&pair, 5009, 10), 10, "an unproven source is not blocked");
    // Another source, which proves itself by talking to the server.
    pair.client.ip(&["addr", "add", "10.77.0.9/24", "dev", "c0"]);
    pair.client.ip(&["addr", "del", "10.77.0.1/24", "dev", "c0"]);
    // With its first address an interface may lose the others of the same net.
    pair.client.ip(&["addr", "replace", "10.77.0.9/24", "dev", "c0"]);
    assert!(hello(3000), "a benign connection");
    std::thread::sleep(Duration::from_millis(400));
    scan();
    let line = live.wait_for("rule scan blocks 10.77.0.9");
    assert!(line.contains("after the first packet that counted"), "{line}");
    assert!(!hello(400), "blocked");
    std::thread::sleep(Duration::from_millis(2500));
    assert!(hello(3000), "the block has ended");
    assert!(!live.said.iter().any(|line| line.contains("blocks 10.77.0.1 ")), "{:?}", live.said);
    live.stop();
}

/// Before TCX a filter stays behind a killed psc; a second later it passes everything.
#[test]
fn a_filter_that_outlives_psc_passes_everything() {
    if !live("heartbeat") {
        return;
    }
    let pair = Pair::new();
    let folder = tempfile::tempdir().expect("folder");
    let path = rules(folder.path(), TEN);
    let path = path.to_str().expect("UTF-8");
    let args = ["--rules", path, "--enforce", "--attach", "tc-filter"];
    let filters = || pair.server.sh(&["tc", "filter", "show", "dev", "s0", "ingress"]);
    let enforcing = Live::start(&pair.server, &args);
    assert_eq!(datagrams(&pair, 5001, 20), 0);
    assert!(filters().contains("guard_ingress"), "{}", filters());
    enforcing.signal(libc::SIGKILL);
    drop(enforcing);
    assert!(filters().contains("guard_ingress"), "it stays: {}", filters());
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(datagrams(&pair, 5001, 20), 20, "and passes everything");
    // A psc that ends in good order takes it away, also what another one left.
    let enforcing = Live::start(&pair.server, &args);
    assert_eq!(datagrams(&pair, 5001, 20), 0);
    enforcing.stop();
    assert!(!filters().contains("guard_ingress"), "{}", filters());
    assert_eq!(datagrams(&pair, 5001, 20), 20);
}

/// A server that greets whoever connects, and whether it greets the client within so many milliseconds.
fn greet(pair: &Pair) -> impl Fn(u64) -> bool + '_ {
    let listener = pair.server.run(|| TcpListener::bind("10.77.0.2:80").expect("bind"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = (&stream).write_all(b"hello");
        }
    });
    move |within: u64| -> bool {
        pair.client.run(|| {
            let address = "10.77.0.2:80".parse().expect("address");
            let stream = TcpStream::connect_timeout(&address, Duration::from_millis(within));
            let mut bytes = [0; 5];
            stream.is_ok_and(|mut stream| {
                let _ = stream.set_read_timeout(Some(Duration::from_millis(within)));
                stream.read_exact(&mut bytes).is_ok()
            })
        })
    }
}

#[test]
fn a_finding_becomes_a_block_by_rule() {
    if !live("findings") {
        return;
    }
    let pair = Pair::new();
    let folder = tempfile::tempdir().expect("folder");
    let path = rules(
        folder.path(),
        "[[rule]]\nid = \"scanners\"\nfinding = \"port-scan\"\naction = \"drop\"\nblock-for = \"1m\"\n",
    );
    let mut live =
        Live::start(&pair.server, &["--rules", path.to_str().expect("UTF-8"), "--enforce"]);
    let hello = greet(&pair);
    assert!(hello(3000), "benign");
    pair.client.run(|| {
        for port in 2000..2100_u16 {
            let address = std::net::SocketAddr::from(([10, 77, 0, 2], port));
            let _ = TcpStream::connect_timeout(&address, Duration::from_millis(20));
        }
    });
    live.wait_for("rule scanners blocks 10.77.0.1");
    assert!(!hello(400), "blocked");
    live.stop();
}

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// Runs `good` while packets come in from addresses that their sender has not, some thousand a second.
fn under<T: Send>(
    pair: &Pair,
    packet: impl Fn(u32) -> Vec<u8> + Sync,
    good: impl FnOnce() -> T + Send,
) -> T {
    let (stop, sent) = (AtomicBool::new(false), std::sync::atomic::AtomicU32::new(0));
    let mac = pair.server.run(|| raw::mac("s0"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pair.client.run(|| {
                let wire = raw::Wire::new("c0", mac);
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..20 {
                        wire.send(&packet(sent.fetch_add(1, Ordering::Relaxed)));
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        });
        // What it fills is full when the others come.
        while sent.load(Ordering::Relaxed) < 1000 {
            std::thread::sleep(Duration::from_millis(10));
        }
        let result = good();
        stop.store(true, Ordering::Relaxed);
        result
    })
}

fn forged(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + number % 100_000)
}

const SYN_RULE: &str = r#"
[[rule]]
id = "syns-of-strangers"
match = "tcp.flags & 0x17 == 2"
unproven = true
action = "limit"
rate = "2/s"
burst = 10
per = "destination"
"#;

#[test]
fn clients_are_served_while_a_syn_flood_comes_in() {
    if !live("SYN flood") {
        return;
    }
    let pair = Pair::new();
    // A listener with room for 128 that neither sends cookies nor knows its clients of old.
    for (key, value) in
        [("tcp_syncookies", "0"), ("tcp_no_metrics_save", "1"), ("tcp_max_syn_backlog", "128")]
    {
        pair.server.sysctl(&format!("net.ipv4.{key}"), value);
    }
    pair.server.ip(&["route", "add", "198.18.0.0/15", "via", "10.77.0.1"]);
    let syn = |number| {
        let ends = (forged(number), 1024 + (number % 60_000) as u16, SERVER, 80);
        raw::ipv4(ends.0, SERVER, 6, 64, number as u16, &raw::tcp(ends, number, 2, b"", 0))
    };
    let hello = greet(&pair);
    let folder = tempfile::tempdir().expect("folder");
    let path = rules(folder.path(), SYN_RULE);
    let args = ["--rules", path.to_str().expect("UTF-8"), "--enforce"];
    let mut live = Live::start(&pair.server, &args);
    assert!(hello(3000), "a client that proves itself");
    std::thread::sleep(Duration::from_millis(400));
    let served = under(&pair, syn, || (0..200).filter(|_| hello(3000)).count());
    live.wait_for("high: ");
    let said = live.stop();
    assert_eq!(served, 200, "with rules every client is served\n{said}");
    assert!(said.lines().any(|line| line.contains("SYN")), "and the flood is told of\n{said}");

    let served = under(&pair, syn, || (0..10).filter(|_| hello(300)).count());
    assert!(served <= 3, "without rules hardly any is, else the flood proves nothing: {served}");
}

#[test]
fn datagrams_are_answered_while_a_udp_flood_comes_in() {
    if !live("UDP flood") {
        return;
    }
    let pair = Pair::new();
    let folder = tempfile::tempdir().expect("folder");
    let path = rules(
        folder.path(),
        "[[rule]]\nid = \"one-source\"\nmatch = \"udp.dstport == 5300\"\naction = \"limit\"\nrate = \"300/s\"\n\
         burst = 100\nper = \"source\"\n",
    );
    let socket = pair.server.run(|| UdpSocket::bind((SERVER, 5300)).expect("bind"));
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        // A thousand answers a second and not more: what is over that waits, then is lost.
        while let Ok((len, from)) = socket.recv_from(&mut bytes) {
            std::thread::sleep(Duration::from_millis(1));
            let _ = socket.send_to(&bytes[..len], from);
        }
    });
    let one = Ipv4Addr::new(198, 18, 0, 9);
    let datagram = |number: u32| {
        let udp = raw::udp((one, 4000, SERVER, 5300), &[7; 32]);
        raw::ipv4(one, SERVER, 17, 64, number as u16, &udp)
    };
    let ask = || {
        pair.client.run(|| {
            let from = UdpSocket::bind("10.77.0.1:0").expect("bind");
            from.set_read_timeout(Some(Duration::from_millis(500))).expect("timeout");
            let asked = (0..100_u32).filter(|number| {
                from.send_to(&number.to_be_bytes(), (SERVER, 5300)).expect("sent");
                let mut answer = [0; 8];
                from.recv(&mut answer).is_ok_and(|len| answer[..len] == number.to_be_bytes())
            });
            asked.count()
        })
    };
    let live = Live::start(&pair.server, &["--rules", path.to_str().expect("UTF-8"), "--enforce"]);
    let answered = under(&pair, datagram, ask);
    let said = live.stop();
    assert_eq!(answered, 100, "with rules every question is answered\n{said}");
    let answered = under(&pair, datagram, || {
        pair.client.run(|| {
            let from = UdpSocket::bind("10.77.0.1:0").expect("bind");
            from.set_read_timeout(Some(Duration::from_millis(50))).expect("timeout");
            (0..40_u32)
                .filter(|number| {
                    from.send_to(&number.to_be_bytes(), (SERVER, 5300)).expect("sent");
                    from.recv(&mut [0; 8]).is_ok()
                })
                .count()
        })
    });
    assert!(
        answered < 30,
        "without rules the socket is full, else the flood proves nothing: {answered}"
    );
}
