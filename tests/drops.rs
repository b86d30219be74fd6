//! Packets that the kernel drops, made on purpose: a recording names the reason and the function,
//! and its counts are the kernel's own counters of that namespace over the same time.
//!
//! Run with `--nocapture` for the table of cases.
#![cfg(all(target_os = "linux", feature = "live"))]

mod netns;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd};
use std::time::Duration;

use netns::recording::{Recording, json};
use netns::{Host, Pair, delta, live, raw};
use serde_json::Value;

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Of a documentation range (RFC 5737): nobody here has it.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// Where the kernel itself counts a case.
enum Counter {
    /// A name of SNMP or netstat.
    Snmp(&'static str),
    /// The counter of the nftables rule.
    Nft,
}

struct Case {
    name: &'static str,
    /// `skb_drop_reason`; the same on every kernel that has the reason, 6.1 included.
    reason: &'static str,
    /// Function that frees, any of these: it differs by kernel and by inlining.
    functions: &'static [&'static str],
    counter: Counter,
    /// Packets sent.
    count: u64,
    prepare: fn(&Pair),
    send: fn(&Pair, u64),
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case {
        name: "SYN to a closed port", reason: "NO_SOCKET", functions: &["tcp_v4_rcv"],
        counter: Counter::Snmp("TcpOutRsts"), count: 3, prepare: |_| (),
        send: |pair, n| pair.client.run(|| for _ in 0..n {
            TcpStream::connect((SERVER, 81)).expect_err("refused");
        }),
    },
    Case {
        name: "UDP with no socket", reason: "NO_SOCKET", functions: &["__udp4_lib_rcv", "udp_rcv"],
        counter: Counter::Snmp("UdpNoPorts"), count: 5, prepare: |_| (),
        send: |pair, n| pair.client.run(|| for _ in 0..n {
            UdpSocket::bind((CLIENT, 0)).expect("bind").send_to(b"hello", (SERVER, 9)).expect("send");
        }),
    },
    Case {
        name: "bad TCP checksum", reason: "TCP_CSUM", functions: &["tcp_v4_rcv"],
        counter: Counter::Snmp("TcpInCsumErrors"), count: 4, prepare: |_| (),
        send: |pair, n| each_raw(pair, n, |_| {
            let segment = raw::tcp((CLIENT, 4000, SERVER, 80), 1, 2, b"", 1);
            raw::ipv4(CLIENT, SERVER, 6, 64, 7, &segment)
        }),
    },
    Case {
        name: "dropped by nftables", reason: "NETFILTER_DROP", functions: &["nft_do_chain", "nf_hook_slow", "nft_do_chain_inet"],
        counter: Counter::Nft, count: 6,
        prepare: |pair| drop(pair.server.sh(&["nft",
            "add table inet psc; add chain inet psc in { type filter hook input priority 0; }; \
             add rule inet psc in udp dport 7 counter drop"])),
        send: |pair, n| pair.client.run(|| for _ in 0..n {
            UdpSocket::bind((CLIENT, 0)).expect("bind").send_to(b"hello", (SERVER, 7)).expect("send");
        }),
    },
    Case {
        name: "reverse-path filter", reason: "IP_RPFILTER", functions: &["ip_rcv_finish_core", "ip_rcv_finish"],
        counter: Counter::Snmp("TcpExtIPReversePathFilter"), count: 3,
        prepare: |pair| for dev in ["all", "s0"] {
            pair.server.sysctl(&format!("net.ipv4.conf.{dev}.rp_filter"), "1");
        },
        send: |pair, n| each_raw(pair, n, |_| {
            let datagram = raw::udp((ELSEWHERE, 4000, SERVER, 80), b"x");
            raw::ipv4(ELSEWHERE, SERVER, 17, 64, 7, &datagram)
        }),
    },
    Case {
        name: "TTL ran out", reason: "IP_INHDR", functions: &["ip_forward"],
        counter: Counter::Snmp("IpInHdrErrors"), count: 2,
        prepare: |pair| {
            pair.server.sysctl("net.ipv4.ip_forward", "1");
            pair.server.ip(&["route", "add", "default", "via", "10.77.0.1"]);
        },
        send: |pair, n| each_raw(pair, n, |_| {
            let datagram = raw::udp((CLIENT, 4000, ELSEWHERE, 80), b"x");
            raw::ipv4(CLIENT, ELSEWHERE, 17, 1, 7, &datagram)
        }),
    },
];

fn each_raw(pair: &Pair, n: u64, packet: impl Fn(u64) -> Vec<u8> + Send + Sync) {
    let to = pair.server.run(|| raw::mac("s0"));
    pair.client.run(|| (0..n).for_each(|i| raw::send_ipv4("c0", to, &packet(i))));
}

/// Records what happens in the server's namespace during `work` and returns the analysis.
fn analysed(pair: &Pair, work: impl FnOnce()) -> Value {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("case.psc");
    // Neighbours first, so that ARP is not part of the case.
    pair.client.sh(&["ping", "-c1", "-q", "10.77.0.2"]);
    let recording = Recording::start(&path, &["--netns", &pair.server.name]);
    work();
    std::thread::sleep(Duration::from_millis(300));
    let (ok, said) = recording.stop();
    assert!(ok, "{said}");
    let view = json(&["analyze"], &path, &[]);
    let lost = &view["provenance"]["completeness"]["lost"];
    assert_eq!(lost, 0, "nothing may be lost in so little traffic: {said}");
    view
}

/// (packets, first location) of drops of this reason.
fn dropped(view: &Value, reason: &str) -> (u64, Vec<String>) {
    let rows = view["drops"].as_array().expect("drops");
    let rows = rows.iter().filter(|row| row["reason"] == reason);
    rows.fold((0, Vec::new()), |(packets, mut places), row| {
        places.push(row["location"].as_str().unwrap_or_default().to_owned());
        (packets + row["packets"].as_u64().unwrap_or(0), places)
    })
}

fn nft_packets(host: &Host) -> u64 {
    let text = host.sh(&["nft", "list", "ruleset"]);
    let after = text.split("counter packets ").nth(1).expect("a counter");
    after.split(' ').next().expect("number").parse().expect("number")
}

#[test]
fn every_drop_has_its_reason_its_function_and_the_kernels_count() {
    if !live("drops") {
        return;
    }
    println!(
        "{:<24} {:<16} {:<32} {:>6} {:>6}  counter",
        "case", "reason", "where", "psc", "kernel"
    );
    for case in CASES {
        let pair = Pair::new();
        (case.prepare)(&pair);
        let before = pair.server.counters();
        let view = analysed(&pair, || (case.send)(&pair, case.count));
        let (name, kernel) = match case.counter {
            Counter::Snmp(name) => (name, delta(&before, &pair.server.counters(), name)),
            Counter::Nft => ("nftables rule counter", nft_packets(&pair.server)),
        };
        let (packets, places) = dropped(&view, case.reason);
        println!(
            "{:<24} {:<16} {:<32} {packets:>6} {kernel:>6}  {name}",
            case.name,
            case.reason,
            places.join(" ")
        );
        assert_eq!(kernel, case.count, "{}: the kernel counts what was sent", case.name);
        assert_eq!(
            packets, kernel,
            "{}: psc counts what the kernel counts: {}",
            case.name, view["drops"]
        );
        for place in &places {
            // The compiler's clones (`.constprop.0`, `.isra.0`, `.part.0`) are the same function.
            let function = place.split(['+', '.']).next().unwrap_or_default();
            assert!(case.functions.contains(&function), "{}: dropped in {place}", case.name);
        }
    }
}

/// How many fit a socket buffer is the kernel's business: the counter is the truth.
#[test]
fn a_full_socket_buffer_is_named_and_counted() {
    if !live("socket buffer") {
        return;
    }
    let pair = Pair::new();
    let before = pair.server.counters();
    let view = analysed(&pair, || {
        let reader = pair.server.run(|| UdpSocket::bind((SERVER, 99)).expect("bind"));
        let small: i32 = 1;
        // SAFETY: an option of the size it says, on an open socket.
        unsafe {
            libc::setsockopt(
                reader.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVBUF,
                (&raw const small).cast(),
                4,
            );
        }
        pair.client.run(|| {
            let sender = UdpSocket::bind((CLIENT, 0)).expect("bind");
            for _ in 0..20 {
                sender.send_to(&[0; 500], (SERVER, 99)).expect("send");
            }
        });
        std::thread::sleep(Duration::from_millis(100));
    });
    let kernel = delta(&before, &pair.server.counters(), "UdpRcvbufErrors");
    let (packets, places) = dropped(&view, "SOCKET_RCVBUFF");
    println!("full socket buffer: psc {packets}, UdpRcvbufErrors {kernel}, at {places:?}");
    assert!(kernel > 0, "the buffer must overflow for this test to mean anything");
    // 6.1 says PROTO_MEM or SOCKET_RCVBUFF by which limit was hit; both are this case.
    assert_eq!(packets, kernel, "{}", view["drops"]);
    assert!(
        places.iter().all(|p| p.starts_with("udp_queue_rcv") || p.starts_with("__udp_")),
        "{places:?}"
    );
}

/// An accepted connection and healthy pings are no drops, although a ping frees a raw-socket clone
/// with NO_SOCKET on its way.
#[test]
fn healthy_traffic_has_no_drop() {
    if !live("healthy") {
        return;
    }
    let pair = Pair::new();
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("healthy.psc");
    pair.client.sh(&["ping", "-c1", "-q", "10.77.0.2"]);
    let recording =
        Recording::start(&path, &["--netns", &pair.server.name, "--netns", &pair.client.name]);
    let listener = pair.server.run(|| TcpListener::bind((SERVER, 80)).expect("bind"));
    for _ in 0..5 {
        use std::io::{Read, Write};
        let mut client = pair.client.run(|| TcpStream::connect((SERVER, 80)).expect("connect"));
        let (mut server, _) = listener.accept().expect("accept");
        client.write_all(b"ping").expect("write");
        client.shutdown(std::net::Shutdown::Write).expect("shutdown");
        let mut all = Vec::new();
        server.read_to_end(&mut all).expect("read");
        server.write_all(&all).expect("write");
        drop(server);
        client.read_to_end(&mut all).expect("read");
    }
    pair.client.sh(&["ping", "-c10", "-i0.02", "-q", "10.77.0.2"]);
    pair.client.sh(&["ping", "-c10", "-i0.02", "-q", "fd77::2"]);
    let (ok, said) = recording.stop();
    assert!(ok, "{said}");
    let view = json(&["analyze"], &path, &[]);
    let drops: Vec<&Value> = view["drops"]
        .as_array()
        .expect("drops")
        .iter()
        // Multicast that nobody joined (MLD reports of new interfaces) is discarded, truly.
        .filter(|row| !row["location"].as_str().unwrap_or_default().starts_with("ip6_mc_input"))
        .collect();
    assert!(drops.is_empty(), "{drops:#?}");
    let flows = view["flows"].as_array().expect("flows");
    let tcp = flows.iter().filter(|flow| flow["protocol"] == "tcp").count();
    assert_eq!(tcp, 5, "five connections: {flows:#?}");
}

/// SYNs lost to a full accept queue leave no `kfree_skb`: counters and the listener tell.
#[test]
fn syns_lost_to_a_full_accept_queue_are_reported() {
    if !live("accept queue") {
        return;
    }
    let pair = Pair::new();
    let before = pair.server.counters();
    let mut listener = None;
    let view = analysed(&pair, || {
        listener = Some(pair.server.run(|| listen((SERVER, 8080).into(), 1)));
        pair.client.run(|| {
            let held: Vec<_> = (0..4)
                .map(|_| {
                    TcpStream::connect_timeout(&(SERVER, 8080).into(), Duration::from_millis(300))
                })
                .collect();
            assert!(held.iter().any(Result::is_err), "the queue must overflow");
        });
    });
    drop(listener);
    let kernel = delta(&before, &pair.server.counters(), "TcpExtListenOverflows");
    assert!(kernel > 0, "the queue must overflow for this test to mean anything");
    let findings = view["findings"].as_array().expect("findings");
    let finding = findings.iter().find(|f| f["id"] == "listen-overflow");
    let finding = finding.unwrap_or_else(|| panic!("no listen-overflow in {findings:#?}"));
    let text = finding.to_string();
    assert!(text.contains("10.77.0.2:8080"), "names the listener: {text}");
    assert!(text.contains(&kernel.to_string()), "says how many ({kernel}): {text}");
}

/// A listener with a backlog of its own; `TcpListener` has no such option.
fn listen(at: SocketAddr, backlog: i32) -> TcpListener {
    let SocketAddr::V4(at) = at else { unreachable!("tests listen on IPv4") };
    // SAFETY: a new descriptor, an initialised address of the size it says; ownership passes on.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        let mut addr: libc::sockaddr_in = std::mem::zeroed();
        addr.sin_family = libc::AF_INET as u16;
        addr.sin_port = at.port().to_be();
        addr.sin_addr.s_addr = u32::from(*at.ip()).to_be();
        let len = size_of::<libc::sockaddr_in>() as u32;
        assert_eq!(libc::bind(fd, (&raw const addr).cast(), len), 0, "bind");
        assert_eq!(libc::listen(fd, backlog), 0, "listen");
        TcpListener::from_raw_fd(fd)
    }
}
