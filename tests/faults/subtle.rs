//! Faults that lose nothing, that lose it where nobody looks, or that wait: each with its healthy twin.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, Shutdown, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use super::net::Kind::{Bridged, Routed, Wire};
use super::net::{CLIENT, FAR, Net, SERVER, nft};
use super::scenes::{none, three_far_requests, three_requests};
use super::{Case, HERE, SERVER6, SOON, SYN, raw};
use crate::traffic::{answering, ask, ask_within, echo, listener, option, send, web};

#[rustfmt::skip]
pub const CASES: &[Case] = &[
    Case {
        name: "small-receive-buffer", made_by: "tcp_rmem of 4096 bytes on the server, a transfer of 1 MB", cause: "window-limited",
        place: &["10.77.0.2:80", "namespace s"], also: &[], twin: "the default", net: Wire,
        fault: |net| net.s.sysctl("net.ipv4.tcp_rmem", "4096 4096 4096"),
        traffic: |net, _| upload(net, 1_000_000),
    },
    Case {
        name: "small-send-buffer", made_by: "tcp_wmem of 4096 bytes on the client, a transfer of 1 MB", cause: "send-buffer-small",
        place: &["10.77.0.2:80", "namespace c"], also: &[], twin: "the default", net: Wire,
        fault: |net| net.c.sysctl("net.ipv4.tcp_wmem", "4096 4096 4096"),
        traffic: |net, _| upload(net, 1_000_000),
    },
    Case {
        name: "delayed-ack", made_by: "requests written in two pieces without TCP_NODELAY", cause: "delayed-ack-stall",
        place: &["clients of 10.77.0.2:80", "namespace s"], also: &[], twin: "with TCP_NODELAY", net: Wire, fault: none,
        traffic: in_two_pieces,
    },
    Case {
        name: "slow-application", made_by: "a server that takes 300 ms to answer", cause: "slow-application",
        place: &["10.77.0.2:80", "namespace s"], also: &[], twin: "one that answers at once", net: Wire, fault: none,
        traffic: |net, faulty| thinking(net, Duration::from_millis(if faulty { 300 } else { 1 })),
    },
    Case {
        name: "router-unreachable", made_by: "ip route add unreachable on the router", cause: "route-refuses",
        place: &["An unreachable", "r0", "namespace r", "10.78.0.2"], also: &[], twin: "no such route", net: Routed,
        fault: |net| drop(net.r().ip(&["route", "add", "unreachable", "10.78.0.2/32"])),
        traffic: three_far_requests,
    },
    Case {
        name: "router-rule-prohibits", made_by: "ip rule add from the client prohibit on the router", cause: "route-refuses",
        place: &["A prohibit", "r0", "namespace r", "10.78.0.2"], also: &[], twin: "no such rule", net: Routed,
        fault: |net| drop(net.r().ip(&["rule", "add", "from", "10.77.0.1", "prohibit"])),
        traffic: three_far_requests,
    },
    Case {
        name: "router-table-blackhole", made_by: "ip rule add from the client's network to a table with a blackhole", cause: "route-refuses",
        place: &["A blackhole", "r0", "namespace r", "10.78.0.2"], also: &[], twin: "no such rule", net: Routed,
        fault: |net| {
            net.r().ip(&["rule", "add", "from", "10.77.0.0/24", "table", "100"]);
            net.r().ip(&["route", "add", "blackhole", "default", "table", "100"]);
        },
        traffic: three_far_requests,
    },
    Case {
        name: "forged-reset", made_by: "a reset in the server's name, sent by the router", cause: "foreign-reset",
        place: &["r0", "namespace r", "10.78.0.2:80"], also: &[], twin: "nobody interferes", net: Routed, fault: none,
        traffic: interrupted,
    },
    Case {
        name: "reset-without-answer", made_by: "a server that closes with SO_LINGER of 0 instead of answering", cause: "abortive-close",
        place: &["10.77.0.2:80", "namespace s"], also: &[], twin: "one that answers and closes", net: Wire, fault: none,
        traffic: hasty,
    },
    Case {
        name: "no-syn-cookies", made_by: "tcp_syncookies=0, tcp_max_syn_backlog=8 and 40 SYNs that never complete", cause: "syn-queue-full",
        place: &["10.77.0.2:80", "namespace s"], also: &[], twin: "connections that complete", net: Wire,
        fault: |net| {
            net.s.sysctl("net.ipv4.tcp_syncookies", "0");
            net.s.sysctl("net.ipv4.tcp_max_syn_backlog", "8");
        },
        traffic: |net, faulty| {
            let _server = answering(listener(&net.s, (SERVER, 80), 64));
            if faulty {
                net.inject(40, |n| {
                    let from = std::net::Ipv4Addr::new(10, 77, 0, 100 + n as u8);
                    raw::ipv4(from, SERVER, 6, 64, n, &raw::tcp((from, 4000, SERVER, 80), 1, SYN, b"", 0))
                });
            } else {
                ask_within(&net.c, (SERVER, 80).into(), 4, 10, Duration::from_millis(100));
            }
        },
    },
    Case {
        name: "udp-ports-exhausted", made_by: "ip_local_port_range of four ports and sockets on each", cause: "ports-exhausted",
        place: &["UDP sockets of namespace c"], also: &[], twin: "the default range", net: Wire,
        fault: |net| net.c.sysctl("net.ipv4.ip_local_port_range", "40000 40003"),
        traffic: |net, _| {
            let _server = echo(&net.s, (HERE, 9));
            net.c.run(|| {
                let sockets: Vec<_> = (0..4).filter_map(|_| UdpSocket::bind((HERE, 0)).ok()).collect();
                for socket in &sockets {
                    drop(socket.send_to(b"x", (SERVER, 9)));
                }
                // The recorder looks at sockets at its end.
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_secs(2));
                    drop(sockets);
                });
            });
        },
    },
    Case {
        name: "dns-slow", made_by: "a name server that takes 600 ms", cause: "dns-slow",
        place: &["10.77.0.2", "10.77.0.1"], also: &[], twin: "one that takes none", net: Wire, fault: none,
        traffic: |net, faulty| names(net, 2, 0, 0, Duration::from_millis(if faulty { 600 } else { 0 })),
    },
    Case {
        name: "dns-truncated", made_by: "answers with the TC bit and a client that does not ask by TCP", cause: "dns-truncated",
        place: &["10.77.0.2", "nobody asked again"], also: &[], twin: "whole answers", net: Wire, fault: none,
        traffic: |net, faulty| names(net, 3, if faulty { 2 } else { 0 }, 0, Duration::ZERO),
    },
    Case {
        name: "dns-no-such-name", made_by: "one name asked for again and again that does not exist", cause: "dns-no-such-name",
        place: &["www.example", "10.77.0.2"], also: &[], twin: "one that exists", net: Wire, fault: none,
        traffic: |net, faulty| names(net, 4, 0, if faulty { 3 } else { 0 }, Duration::ZERO),
    },
    Case {
        name: "mtu-below-ipv6", made_by: "an MTU of 1200 on the server's interface", cause: "ipv6-disabled",
        place: &["s0", "namespace s", "1200"], also: &[], twin: "1500", net: Wire,
        fault: |net| drop(net.s.ip(&["link", "set", "s0", "mtu", "1200"])),
        traffic: |net, _| { let _server = web(&net.s, (Ipv6Addr::UNSPECIFIED, 80)); ask(&net.c, (SERVER6, 80), 2, 100); },
    },
    Case {
        name: "link-flaps", made_by: "the other end of the wire down for a moment", cause: "link-down",
        place: &["c0", "namespace c", "s0"], also: &[], twin: "up all the time", net: Wire, fault: none,
        traffic: |net, faulty| {
            let _server = web(&net.s, (HERE, 80));
            ask(&net.c, (SERVER, 80), 1, 100);
            if faulty {
                // Known whatever happens: what waits for an address would arrive when all is over.
                let mac = net.s.sh(&["cat", "/sys/class/net/s0/address"]);
                net.c.ip(&["neigh", "replace", "10.77.0.2", "lladdr", mac.trim(), "dev", "c0", "nud", "permanent"]);
                net.s.ip(&["link", "set", "s0", "down"]);
            }
            ask_within(&net.c, (SERVER, 80).into(), 2, 100, Duration::from_millis(200));
            if faulty {
                net.s.ip(&["link", "set", "s0", "up"]);
            }
        },
    },
    Case {
        name: "bridge-down", made_by: "ip link set br0 down between the two", cause: "bridge-port-blocked",
        place: &["p0", "namespace r", "bridge br0 is down"], also: &[], twin: "up", net: Bridged,
        fault: |net| drop(net.r().ip(&["link", "set", "br0", "down"])),
        traffic: three_requests,
    },
    Case {
        name: "bridge-isolated", made_by: "both ports of the bridge isolated", cause: "bridge-no-way",
        place: &["p0", "namespace r"], also: &[], twin: "not isolated", net: Bridged,
        fault: |net| {
            for port in ["p0", "p1"] {
                net.r().ip(&["link", "set", port, "type", "bridge_slave", "isolated", "on"]);
            }
        },
        traffic: three_requests,
    },
    Case {
        name: "bridge-filter", made_by: "nft bridge table, forward hook: ip protocol tcp drop", cause: "firewall-drop",
        place: &["hook bridge", "namespace r", "by rule 2 of bridge t c"], also: &[], twin: "no rule", net: Bridged,
        fault: |net| nft(net.r(), "add table bridge t; add chain bridge t c { type filter hook forward priority 0; }; add rule bridge t c ip protocol tcp drop"),
        traffic: three_requests,
    },
    Case {
        name: "firewall-rules", made_by: "nft prerouting hook: a rule that counts and drops, one that drops something else, one that never matched", cause: "firewall-drop",
        place: &["hook prerouting", "namespace r", "by rule 4 of inet t c"], also: &[], twin: "no rules", net: Routed,
        fault: |net| nft(net.r(), "add table inet t; add chain inet t c { type filter hook prerouting priority -300; }; add rule inet t c tcp dport 443 drop; add rule inet t c tcp dport 80 ip saddr 10.9.9.9 counter drop; add rule inet t c tcp dport 80 counter drop"),
        traffic: three_far_requests,
    },
    Case {
        name: "firewall-ingress", made_by: "nft netdev table, ingress of the server's interface: tcp drop", cause: "firewall-drop",
        place: &["hook ingress", "namespace s", "by rule 2 of netdev t c"], also: &[], twin: "no rule", net: Wire,
        fault: |net| nft(&net.s, "add table netdev t; add chain netdev t c { type filter hook ingress device s0 priority 0; }; add rule netdev t c ip protocol tcp counter drop"),
        traffic: three_requests,
    },
    Case {
        name: "firewall-answers", made_by: "nft input hook of the client: tcp sport 80 drop", cause: "firewall-drop",
        place: &["hook input", "namespace c", "answers of tcp 10.77.0.2:80"], also: &[], twin: "no rule", net: Wire,
        fault: |net| nft(&net.c, "add table inet t; add chain inet t c { type filter hook input priority 0; }; add rule inet t c tcp sport 80 drop"),
        traffic: |net, _| { let _server = web(&net.s, (HERE, 80)); ask(&net.c, (SERVER, 80), 2, 100); },
    },
    Case {
        name: "socket-filter", made_by: "SO_ATTACH_FILTER that accepts nothing", cause: "socket-filter",
        place: &["udp 10.77.0.2:9", "s0", "namespace s"], also: &[], twin: "no filter", net: Wire, fault: none,
        traffic: deaf,
    },
    Case {
        name: "old-timestamps", made_by: "segments whose timestamps are older than those before (PAWS)", cause: "old-timestamp",
        place: &["10.77.0.2:80", "s0", "namespace s"], also: &[], twin: "a connection without them", net: Wire, fault: none,
        traffic: replayed,
    },
    Case {
        name: "arp-reverse-path", made_by: "rp_filter=1 and a way back to the asker that leads elsewhere", cause: "neighbour-ignores",
        place: &["namespace s", "10.77.0.2", "reverse-path filter of s0"], also: &[], twin: "rp_filter=0", net: Wire,
        fault: |net| {
            for name in ["all", "s0"] {
                net.s.sysctl(&format!("net.ipv4.conf.{name}.rp_filter"), "1");
            }
            net.s.ip(&["link", "add", "q0", "type", "veth", "peer", "name", "q1"]);
            net.s.ip(&["link", "set", "q0", "up"]);
            net.s.ip(&["route", "add", "10.77.0.1/32", "dev", "q0"]);
        },
        traffic: |net, faulty| {
            // The server's own entry as well: probing it would tell the client who the server is.
            net.s.ip(&["neigh", "flush", "dev", "s0"]);
            net.c.ip(&["neigh", "flush", "dev", "c0"]);
            let _server = echo(&net.s, (HERE, 9));
            send(&net.c, (SERVER, 9), 2, 50, SOON);
            std::thread::sleep(Duration::from_millis(if faulty { 4500 } else { 100 }));
        },
    },
];

/// One transfer to a server that reads until its end.
fn upload(net: &Net, bytes: usize) {
    let listener = listener(&net.s, (SERVER, 80), 16);
    let reader = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        let mut buffer = vec![0; 1 << 16];
        while stream.read(&mut buffer).is_ok_and(|len| len > 0) {}
    });
    net.c.run(|| {
        let mut stream = TcpStream::connect((SERVER, 80)).expect("connect");
        stream.write_all(&vec![0; bytes]).expect("write");
        stream.shutdown(Shutdown::Write).expect("shutdown");
        let _ = stream.read(&mut [0; 8]);
    });
    reader.join().expect("reader");
}

/// Requests of a header and a body, answered when both are there.
fn in_two_pieces(net: &Net, faulty: bool) {
    let listener = listener(&net.s, (SERVER, 80), 16);
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        let mut request = [0; 200];
        while stream.read_exact(&mut request).is_ok() && stream.write_all(b"ok").is_ok() {}
    });
    net.c.run(|| {
        let mut stream = TcpStream::connect((SERVER, 80)).expect("connect");
        stream.set_nodelay(!faulty).expect("nodelay");
        for _ in 0..16 {
            for piece in [[b'h'; 100], [b'b'; 100]] {
                stream.write_all(&piece).expect("write");
            }
            stream.read_exact(&mut [0; 2]).expect("answer");
        }
    });
    server.join().expect("server");
}

/// Three requests to a server that thinks.
fn thinking(net: &Net, about: Duration) {
    let listener = listener(&net.s, (SERVER, 80), 16);
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        while stream.read(&mut [0; 64]).is_ok_and(|len| len > 0) {
            std::thread::sleep(about);
            if stream.write_all(b"ok").is_err() {
                break;
            }
        }
    });
    net.c.run(|| {
        let mut stream = TcpStream::connect((SERVER, 80)).expect("connect");
        for _ in 0..3 {
            stream.write_all(b"hello").expect("write");
            stream.read_exact(&mut [0; 2]).expect("answer");
        }
    });
    server.join().expect("server");
}

/// What a connected socket will send next, what it expects, and its clock (tcp(7) TCP_REPAIR and
/// TCP_TIMESTAMP).
fn inside(stream: &TcpStream) -> (u32, u32, u32) {
    const REPAIR: i32 = 19;
    const QUEUE: i32 = 20;
    const QUEUE_SEQ: i32 = 21;
    const TIMESTAMP: i32 = 24;
    let fd = stream.as_raw_fd();
    let get = |name: i32| {
        let (mut value, mut len) = (0_u32, 4_u32);
        // SAFETY: an option of the size it says, on an open socket.
        let rc = unsafe {
            libc::getsockopt(fd, libc::IPPROTO_TCP, name, (&raw mut value).cast(), &raw mut len)
        };
        assert_eq!(rc, 0, "getsockopt {name}: {}", std::io::Error::last_os_error());
        value
    };
    let clock = get(TIMESTAMP);
    option(fd, libc::IPPROTO_TCP, REPAIR, 1);
    option(fd, libc::IPPROTO_TCP, QUEUE, 2);
    let next = get(QUEUE_SEQ);
    option(fd, libc::IPPROTO_TCP, QUEUE, 1);
    let expected = get(QUEUE_SEQ);
    // -1: out of repair without a window probe.
    option(fd, libc::IPPROTO_TCP, REPAIR, -1);
    (next, expected, clock)
}

/// A connection, in the middle of which the router sends a reset in the server's name.
fn interrupted(net: &Net, faulty: bool) {
    const RST: u8 = 4;
    let _server = web(&net.s, (HERE, 80));
    let mut stream = net.c.run(|| TcpStream::connect((FAR, 80)).expect("connect"));
    stream.set_read_timeout(Some(Duration::from_millis(300))).expect("timeout");
    stream.write_all(b"hello").expect("write");
    stream.read_exact(&mut [0; 2]).expect("answer");
    if faulty {
        let (_, expected, _) = inside(&stream);
        let port = stream.local_addr().expect("address").port();
        let to = net.c.run(|| raw::mac("c0"));
        let forged = raw::tcp((FAR, 80, CLIENT, port), expected, RST, b"", 0);
        net.r().run(|| raw::send_ipv4("r0", to, &raw::ipv4(FAR, CLIENT, 6, 33, 1, &forged)));
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = stream.write_all(b"more");
    let _ = stream.read(&mut [0; 2]);
}

/// A server that closes each connection as soon as it was asked, with a reset or after an answer.
fn hasty(net: &Net, faulty: bool) {
    let listener = listener(&net.s, (SERVER, 80), 16);
    net.c.run(|| {
        for _ in 0..3 {
            let mut stream = TcpStream::connect((SERVER, 80)).expect("connect");
            let (mut server, _) = listener.accept().expect("accept");
            stream.write_all(b"hello").expect("write");
            server.read_exact(&mut [0; 5]).expect("request");
            if faulty {
                let linger = libc::linger { l_onoff: 1, l_linger: 0 };
                // SAFETY: an option of the size it says, on an open socket.
                unsafe {
                    libc::setsockopt(
                        server.as_raw_fd(),
                        libc::SOL_SOCKET,
                        libc::SO_LINGER,
                        (&raw const linger).cast(),
                        size_of::<libc::linger>() as u32,
                    )
                };
            } else {
                server.write_all(b"ok").expect("answer");
            }
            drop(server);
            let _ = stream.read(&mut [0; 8]);
        }
    });
}

/// `count` questions for one name, each answered with these flags and this code after a while.
fn names(net: &Net, count: u8, flags: u8, code: u8, after: Duration) {
    let server = net.s.run(|| UdpSocket::bind((SERVER, 53)).expect("bind"));
    let client = net.c.run(|| UdpSocket::bind((CLIENT, 0)).expect("bind"));
    client.set_read_timeout(Some(Duration::from_secs(2))).expect("timeout");
    for id in 0..count {
        let mut packet = vec![0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        packet.extend(b"\x03www\x07example\x00\x00\x01\x00\x01");
        client.send_to(&packet, (SERVER, 53)).expect("question");
        let mut buffer = [0; 512];
        let (len, from) = server.recv_from(&mut buffer).expect("question");
        std::thread::sleep(after);
        buffer[2] |= 0x80 | flags;
        buffer[3] = code;
        server.send_to(&buffer[..len], from).expect("answer");
        client.recv(&mut buffer).expect("answer");
    }
}

/// A reader with a filter that accepts nothing (`BPF_RET | BPF_K`, 0), or without.
fn deaf(net: &Net, faulty: bool) {
    let reader = net.s.run(|| UdpSocket::bind((SERVER, 9)).expect("bind"));
    if faulty {
        let mut nothing = [libc::sock_filter { code: 6, jt: 0, jf: 0, k: 0 }];
        let program = libc::sock_fprog { len: 1, filter: nothing.as_mut_ptr() };
        // SAFETY: a program of the length it says, copied by the call.
        let rc = unsafe {
            libc::setsockopt(
                reader.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                size_of::<libc::sock_fprog>() as u32,
            )
        };
        assert_eq!(rc, 0, "SO_ATTACH_FILTER: {}", std::io::Error::last_os_error());
    }
    send(&net.c, (SERVER, 9), 5, 50, SOON);
}

/// A connection with segments from before its time in between.
fn replayed(net: &Net, faulty: bool) {
    let _server = web(&net.s, (HERE, 80));
    let mut stream = net.c.run(|| TcpStream::connect((SERVER, 80)).expect("connect"));
    stream.set_read_timeout(Some(Duration::from_millis(300))).expect("timeout");
    stream.write_all(b"hello").expect("write");
    stream.read_exact(&mut [0; 2]).expect("answer");
    if faulty {
        let (next, expected, clock) = inside(&stream);
        let port = stream.local_addr().expect("address").port();
        net.inject(4, |n| {
            let ends = (CLIENT, port, SERVER, 80);
            let old = raw::stamped(ends, (next, expected), clock.wrapping_sub(100_000), b"old");
            raw::ipv4(CLIENT, SERVER, 6, 64, n, &old)
        });
        std::thread::sleep(Duration::from_millis(50));
    }
    stream.write_all(b"more").expect("write");
    let _ = stream.read(&mut [0; 2]);
}
