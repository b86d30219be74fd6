//! Faults that end in silence or in slowness: nothing is dropped where one looks, each with its healthy twin.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use super::net::Kind::{Routed, Wire};
use super::net::{FAR, Net, SERVER, nft};
use super::scenes::{none, three_requests};
use super::{Case, HERE};
use crate::traffic::{ask, ask_within, echo, listener, web};

/// A second address of the server.
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 22);

#[rustfmt::skip]
pub const CASES: &[Case] = &[
    Case {
        name: "answer-from-elsewhere", made_by: "a UDP server on 0.0.0.0 that is asked at its second address and answers from its first", cause: "answer-from-elsewhere",
        place: &["10.77.0.2 answers what udp 10.77.0.22:9 was asked", "namespace c"], also: &[], twin: "bound to the second address", net: Wire,
        fault: none, traffic: second_address,
    },
    Case {
        name: "service-silent", made_by: "an NTP port that is bound and never answers", cause: "udp-no-answer",
        place: &["udp 10.77.0.2:123", "NTP", "namespace s"], also: &[], twin: "one that answers", net: Wire, fault: none, traffic: ntp,
    },
    Case {
        name: "bufferbloat", made_by: "tbf of 4 Mbit/s with a megabyte of buffer, a transfer of 300 kB", cause: "queue-delay",
        place: &["tbf", "c0", "namespace c", "tcp 10.77.0.2:80"], also: &[], twin: "no qdisc", net: Wire,
        fault: |net| drop(net.c.sh(&["tc", "qdisc", "add", "dev", "c0", "root", "tbf", "rate", "4mbit", "burst", "4k", "limit", "1000000"])),
        traffic: |net, _| upload(net, SERVER, 300_000),
    },
    Case {
        name: "connections-left-open", made_by: "a server that does not close what its clients have closed", cause: "close-wait",
        place: &["tcp 10.77.0.2:80", "6 connections", "namespace s"], also: &[], twin: "one that closes", net: Wire, fault: none, traffic: leaking,
    },
    Case {
        name: "mss-clamped", made_by: "nft forward hook on the router: maxseg size set 100", cause: "small-segments",
        place: &["tcp 10.78.0.2:80", "88 bytes"], also: &[], twin: "no rule", net: Routed,
        fault: |net| nft(net.r(), "add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c tcp flags syn tcp option maxseg size set 100"),
        traffic: |net, _| upload(net, FAR, 200_000),
    },
    Case {
        name: "all-marked", made_by: "tcp_ecn=1 and a router that marks every packet as congested", cause: "ecn-congestion",
        place: &["tcp 10.78.0.2:80"], also: &[], twin: "one that does not", net: Routed,
        fault: |net| nft(net.r(), "add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c tcp dport 80 ip ecn != not-ect ip ecn set ce"),
        traffic: |net, _| {
            for host in [&net.c, &net.s] {
                host.sysctl("net.ipv4.tcp_ecn", "1");
            }
            upload(net, FAR, 300_000);
        },
    },
    Case {
        name: "address-removed", made_by: "ip addr del of the server's address while a connection uses it", cause: "address-gone",
        place: &["10.77.0.2", "s0 in namespace s", "was removed"], also: &[], twin: "it stays", net: Wire, fault: none,
        traffic: |net, faulty| {
            let _server = web(&net.s, (HERE, 80));
            let mut stream = net.c.run(|| TcpStream::connect((SERVER, 80)).expect("connect"));
            stream.set_read_timeout(Some(Duration::from_millis(900))).expect("timeout");
            stream.write_all(b"hello").expect("write");
            stream.read_exact(&mut [0; 2]).expect("answer");
            if faulty {
                net.s.ip(&["addr", "del", "10.77.0.2/24", "dev", "s0"]);
            }
            stream.write_all(b"more").expect("write");
            let _ = stream.read(&mut [0; 2]);
        },
    },
    Case {
        name: "local-route-missing", made_by: "ip route del local of the server's own address", cause: "address-gone",
        place: &["10.77.0.2", "s0 in namespace s", "local route is missing"], also: &[], twin: "with it", net: Wire,
        fault: |net| drop(net.s.ip(&["route", "del", "local", "10.77.0.2", "dev", "s0", "table", "local"])),
        traffic: three_requests,
    },
    Case {
        name: "return-rule", made_by: "ip rule add to the client blackhole on the server", cause: "no-return-route",
        place: &["namespace s", "10.77.0.1"], also: &[], twin: "no such rule", net: Wire,
        fault: |net| drop(net.s.ip(&["rule", "add", "to", "10.77.0.1", "blackhole"])),
        traffic: three_requests,
    },
    Case {
        name: "dnat-dead-host", made_by: "dnat on the router to an address that nobody has", cause: "neighbour-unresolved",
        place: &["10.78.0.9", "r1 in namespace r"], also: &[], twin: "dnat to the server", net: Routed, fault: none, traffic: translated,
    },
    Case {
        name: "broadcast-ping", made_by: "pings of the broadcast address, which hosts ignore, before a closed port: only that is a fault", cause: "no-listener",
        place: &["tcp 10.77.0.2:80"], also: &["echo-unanswered"], twin: "pings of the server", net: Wire, fault: none,
        traffic: |net, faulty| {
            let to = if faulty { "10.77.0.255" } else { "10.77.0.2" };
            let _ = net.c.command("ping").args(["-b", "-c4", "-i0.1", "-W1", "-q", to]).output();
            if faulty {
                ask(&net.c, (SERVER, 80), 2, 10);
            }
        },
    },
];

/// A connected socket that asks the server's second address five times.
fn second_address(net: &Net, faulty: bool) {
    net.s.ip(&["addr", "add", "10.77.0.22/24", "dev", "s0"]);
    let _server = echo(&net.s, (if faulty { HERE } else { SECOND }, 9));
    net.c.run(|| {
        let socket = UdpSocket::bind((HERE, 0)).expect("bind");
        socket.connect((SECOND, 9)).expect("connect");
        let patience = Duration::from_millis(if faulty { 100 } else { 2000 });
        socket.set_read_timeout(Some(patience)).expect("timeout");
        for _ in 0..5 {
            // What came back to no socket makes the next call fail.
            let _ = socket.send(b"hello");
            let _ = socket.recv(&mut [0; 64]);
        }
    });
}

/// Five client questions of NTP (RFC 5905 section 7.3: version 4, mode 3).
fn ntp(net: &Net, faulty: bool) {
    let silent = faulty.then(|| net.s.run(|| UdpSocket::bind((SERVER, 123)).expect("bind")));
    let server = (!faulty).then(|| echo(&net.s, (SERVER, 123)));
    net.c.run(|| {
        let socket = UdpSocket::bind((HERE, 0)).expect("bind");
        let patience = Duration::from_millis(if faulty { 150 } else { 2000 });
        socket.set_read_timeout(Some(patience)).expect("timeout");
        for _ in 0..5 {
            let mut question = [0; 48];
            question[0] = 0x23;
            socket.send_to(&question, (SERVER, 123)).expect("question");
            let _ = socket.recv(&mut [0; 64]);
        }
    });
    drop((silent, server));
}

/// Six connections that the client closes, and the server with it or not.
fn leaking(net: &Net, faulty: bool) {
    let listener = listener(&net.s, (SERVER, 80), 16);
    let mut kept = Vec::new();
    net.c.run(|| {
        for _ in 0..6 {
            let mut stream = TcpStream::connect((SERVER, 80)).expect("connect");
            let (mut server, _) = listener.accept().expect("accept");
            stream.write_all(b"hello").expect("write");
            server.read_exact(&mut [0; 5]).expect("request");
            server.write_all(b"ok").expect("answer");
            stream.read_exact(&mut [0; 2]).expect("answer");
            drop(stream);
            server.read_exact(&mut [0; 1]).expect_err("the end");
            if faulty {
                kept.push(server);
            }
        }
    });
    std::thread::sleep(Duration::from_millis(1300));
    // Open until the recording has ended.
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(10));
        drop(kept);
    });
}

/// The router's address leads to the server, or to nobody.
fn translated(net: &Net, faulty: bool) {
    let to = if faulty { "10.78.0.9" } else { "10.78.0.2" };
    nft(
        net.r(),
        &format!(
            "add table ip t; add chain ip t c {{ type nat hook prerouting priority -100; }}; add rule ip t c ip daddr 10.77.0.254 tcp dport 80 dnat to {to}"
        ),
    );
    let _server = web(&net.s, (HERE, 80));
    let router = SocketAddr::from(([10, 77, 0, 254], 80));
    ask_within(&net.c, router, 1, 100, Duration::from_millis(4500));
}

/// One transfer to a server that reads until its end.
fn upload(net: &Net, to: Ipv4Addr, bytes: usize) {
    let listener = listener(&net.s, (to, 80), 16);
    let reader = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        let mut buffer = vec![0; 1 << 16];
        while stream.read(&mut buffer).is_ok_and(|len| len > 0) {}
    });
    net.c.run(|| {
        let mut stream = TcpStream::connect((to, 80)).expect("connect");
        stream.write_all(&vec![0; bytes]).expect("write");
        stream.shutdown(Shutdown::Write).expect("shutdown");
        let _ = stream.read(&mut [0; 8]);
    });
    reader.join().expect("reader");
}
