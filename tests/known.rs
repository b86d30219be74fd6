//! What is known beforehand appears in what psc says: delays of a slow reader and of a shaper at their
//! step, and the kernel's own count of retransmissions on a wire that loses packets.
#![cfg(all(target_os = "linux", feature = "live"))]
#![allow(missing_docs, clippy::disallowed_methods, reason = "tests")]

mod netns;
mod oracle;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use netns::dump::Dump;
use netns::recording::{Recording, json};
use netns::{Pair, delta, live};
use serde_json::Value;

/// The latency row between two points.
fn row<'a>(view: &'a Value, from: &str, to: &str) -> &'a Value {
    let rows = view["latency"].as_array().expect("latency");
    rows.iter()
        .find(|row| row["from"] == from && row["to"] == to)
        .unwrap_or_else(|| panic!("no row from {from} to {to}"))
}

fn nanoseconds(row: &Value, what: &str) -> f64 {
    row["latency"][what].as_f64().expect("a number of nanoseconds")
}

/// A connection through the pair, both ends in this process. A recording sees all namespaces, so each
/// test has a port of its own.
fn connected(pair: &Pair, port: u16) -> (TcpStream, TcpStream) {
    let server = (Ipv4Addr::new(10, 77, 0, 2), port);
    let listener = pair.server.run(|| TcpListener::bind(server).expect("bind"));
    let client = pair.client.run(|| TcpStream::connect(server).expect("connect"));
    client.set_nodelay(true).expect("nodelay");
    (client, listener.accept().expect("accept").0)
}

#[test]
fn a_sleeping_reader_is_the_time_from_the_link_to_the_user() {
    if !live("a_sleeping_reader_is_the_time_from_the_link_to_the_user") {
        return;
    }
    let folder = tempfile::tempdir().expect("temporary folder");
    for ms in [1, 10, 50] {
        let pair = Pair::new();
        let (mut client, mut server) = connected(&pair, 7000);
        let path = folder.path().join(format!("reader-{ms}.psc"));
        let recording = Recording::start(&path, &[]);
        // Between what was certainly not yet waited and what was certainly waited.
        let mut bounds = Vec::new();
        for _ in 0..15 {
            let before = Instant::now();
            client.write_all(&[7; 100]).expect("write");
            let written = Instant::now();
            std::thread::sleep(Duration::from_millis(ms));
            let least = written.elapsed();
            server.read_exact(&mut [0; 100]).expect("read");
            bounds.push((least, before.elapsed()));
        }
        let (ok, said) = recording.stop();
        assert!(ok, "{said}");
        bounds.sort();
        let least = bounds[bounds.len() / 2].0.as_nanos() as f64;
        bounds.sort_by_key(|bound| bound.1);
        let most = bounds[bounds.len() / 2].1.as_nanos() as f64;

        let view = json(&["analyze"], &path, &["-f", "tcp.dstport == 7000"]);
        let row = row(&view, "link netif_receive_skb", "user skb_copy_datagram_iovec");
        assert_eq!(row["latency"]["count"], 15, "{ms} ms");
        let median = nanoseconds(row, "p50");
        assert!(
            least * 0.95 <= median && median <= most * 1.05,
            "{ms} ms: psc says {median} ns, the reader slept between {least} and {most}"
        );
    }
}

#[test]
fn a_datagrams_wait_for_its_reader_is_the_time_in_the_sockets_queue() {
    if !live("a_datagrams_wait_for_its_reader_is_the_time_in_the_sockets_queue") {
        return;
    }
    if !std::path::Path::new("/sys/kernel/tracing/events/sock/sk_data_ready").exists() {
        return println!("this kernel has no sk_data_ready");
    }
    let folder = tempfile::tempdir().expect("temporary folder");
    let pair = Pair::new();
    let server = pair.server.run(|| UdpSocket::bind(("10.77.0.2", 7003)).expect("bind"));
    let client = pair.client.run(|| UdpSocket::bind("10.77.0.1:0").expect("bind"));
    let path = folder.path().join("datagrams.psc");
    let recording = Recording::start(&path, &[]);
    let mut bounds = Vec::new();
    // Bursts of three: the second and third wait behind the first, and are told apart by their length.
    for _ in 0..5 {
        let before = Instant::now();
        for len in [100, 200, 300] {
            client.send_to(&vec![7; len], ("10.77.0.2", 7003)).expect("send");
        }
        let sent = Instant::now();
        std::thread::sleep(Duration::from_millis(20));
        for len in [100, 200, 300] {
            assert_eq!(server.recv(&mut [0; 1000]).expect("read"), len);
        }
        bounds.push((sent, before));
        let least = sent.elapsed();
        assert!(least >= Duration::from_millis(20));
        bounds.last_mut().expect("just put").0 = sent;
    }
    let (ok, said) = recording.stop();
    assert!(ok, "{said}");
    let most = bounds.iter().map(|(_, before)| before.elapsed()).max().expect("five bursts");
    let view = json(&["analyze"], &path, &["-f", "udp.dstport == 7003"]);
    let row = row(&view, "socket sk_data_ready", "user sock_recv_length");
    assert_eq!(row["latency"]["count"], 15);
    let (least, most) = (20e6, most.as_nanos() as f64);
    for what in ["p50", "max"] {
        let waited = nanoseconds(row, what);
        assert!(least * 0.95 <= waited && waited <= most, "{what}: {waited} ns");
    }
    let journeys = json(&["trace"], &path, &["-f", "udp.dstport == 7003"]);
    assert_eq!(journeys["journeys"]["delivered"], 15, "{}", journeys["journeys"]);
}

#[test]
fn a_shapers_queue_is_the_wait_in_the_qdisc() {
    if !live("a_shapers_queue_is_the_wait_in_the_qdisc") {
        return;
    }
    const RATE: f64 = 2_000_000.0 / 8.0;
    const BURST: f64 = 1540.0;
    const PACKETS: u32 = 11;
    /// Payload, UDP, IPv4 and Ethernet headers: what the shaper counts.
    const LEN: f64 = 972.0 + 8.0 + 20.0 + 14.0;
    let pair = Pair::new();
    pair.client.sh(&[
        "tc", "qdisc", "add", "dev", "c0", "root", "tbf", "rate", "2mbit", "burst", "1540",
        "latency", "2s",
    ]);
    // Neighbours are known before, so that nothing else takes from the bucket.
    pair.client.sh(&["ping", "-c", "1", "-W", "2", "10.77.0.2"]);
    let _sink = pair.server.run(|| UdpSocket::bind("10.77.0.2:7001").expect("bind"));
    let socket = pair.client.run(|| UdpSocket::bind("10.77.0.1:0").expect("bind"));
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("shaper.psc");
    let recording = Recording::start(&path, &[]);
    std::thread::sleep(Duration::from_millis(100));
    for _ in 0..PACKETS {
        socket.send_to(&[1; 972], "10.77.0.2:7001").expect("send");
    }
    std::thread::sleep(Duration::from_millis(200));
    let (ok, said) = recording.stop();
    assert!(ok, "{said}");

    // The first goes at once on what the bucket holds; the last waits for what the others take.
    let last = (f64::from(PACKETS) * LEN - BURST) / RATE * 1e9;
    let view = json(&["analyze"], &path, &["-f", "udp.dstport == 7001"]);
    let row = row(&view, "link net_dev_queue", "driver net_dev_start_xmit");
    assert_eq!(row["latency"]["count"], PACKETS);
    let most = nanoseconds(row, "max");
    assert!((most - last).abs() <= last * 0.05, "psc says {most} ns, the shaper makes {last}");
}

/// Sends `bytes` from the client to the server.
fn transfer(pair: &Pair, bytes: usize) {
    let (mut client, mut server) = connected(pair, 7002);
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut seen = 0;
            let mut buffer = vec![0; 1 << 16];
            while let Ok(read @ 1..) = server.read(&mut buffer) {
                seen += read;
            }
            seen
        });
        client.write_all(&vec![5; bytes]).expect("write");
        drop(client);
        assert_eq!(reader.join().expect("reader"), bytes);
    });
}

#[test]
fn retransmissions_on_a_lossy_wire_are_those_that_the_kernel_counts() {
    if !live("retransmissions_on_a_lossy_wire_are_those_that_the_kernel_counts") {
        return;
    }
    let pair = Pair::new();
    // One frame on the wire is one segment, so that packets and segments are the same number.
    pair.client.sh(&["ethtool", "-K", "c0", "tso", "off", "gso", "off"]);
    // Only data is lost, so that the handshake is not.
    pair.server.sh(&[
        "nft",
        "add table ip lossy; add chain ip lossy in { type filter hook input priority 0; }; \
         add rule ip lossy in tcp dport 7002 meta length > 200 numgen random mod 100 < 3 drop",
    ]);
    let folder = tempfile::tempdir().expect("temporary folder");
    let capture = folder.path().join("lossy.pcap");
    let dump = Dump::start(&pair.client, "c0", (128, "tcp"), &capture);
    let before = pair.client.counters();
    transfer(&pair, 3 << 20);
    std::thread::sleep(Duration::from_millis(300));
    let resent = delta(&before, &pair.client.counters(), "TcpRetransSegs");
    drop(dump);

    let view = json(&["analyze"], &capture, &[]);
    let flow = &view["flows"][0];
    let sent = &flow["tcp"]["originator"];
    assert!(resent > 10, "a lossy wire: {resent}");
    assert_eq!(sent["retransmissions"], resent, "{sent:#}");
    assert_eq!(sent["unique_bytes"], 3 << 20);
    assert_eq!(flow["tcp"]["responder"]["retransmissions"], 0);
    let fast = sent["retransmissions_fast"].as_u64().expect("a number");
    assert!(fast * 2 > resent, "SACK asks for most of them: {sent:#}");

    let mut tally = oracle::Tally::default();
    tally.compare(&capture).expect("readable");
    assert!(tally.agreed() > 1000, "{}", tally.report());
    assert_eq!(tally.unexplained(), 0, "{}", tally.report());
}
