//! What the hosts of the cases do.
#![allow(missing_docs, unreachable_pub)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use super::net::{CLIENT, FAR, Net, SERVER};
use super::{HERE, SOON};
use crate::traffic::{answering, ask, ask_within, echo, listener, option, send, web};

pub fn none(_: &Net) {}

/// A web server that is asked three times.
pub fn three_requests(net: &Net, _: bool) {
    let _server = web(&net.s, (HERE, 80));
    ask(&net.c, (SERVER, 80), 3, 100);
}

pub fn three_far_requests(net: &Net, _: bool) {
    let _server = web(&net.s, (HERE, 80));
    ask(&net.c, (FAR, 80), 3, 100);
}

pub fn ten_datagrams(net: &Net, _: bool) {
    let _server = echo(&net.s, (HERE, 9));
    send(&net.c, (SERVER, 9), 10, 100, SOON);
}

/// Holds connections without accepting or reading.
pub fn held(net: &Net, backlog: i32) {
    let _listener = listener(&net.s, (SERVER, 80), backlog);
    net.c.run(|| {
        let wait = Duration::from_millis(300);
        let open: Vec<_> =
            (0..5).map(|_| TcpStream::connect_timeout(&(SERVER, 80).into(), wait)).collect();
        std::thread::sleep(Duration::from_millis(100));
        drop(open);
    });
}

/// Sends for half a second to a server that reads, or does not.
pub fn bulk(net: &Net, reads: bool) {
    let listener = listener(&net.s, (SERVER, 80), 16);
    net.c.run(|| {
        let mut stream = TcpStream::connect((SERVER, 80)).expect("connect");
        let (mut server, _) = listener.accept().expect("accept");
        stream.set_nonblocking(true).expect("nonblocking");
        server.set_nonblocking(true).expect("nonblocking");
        let mut buffer = vec![0; 65536];
        // What is read fits into any window: a reader that comes late has not closed it.
        let piece = vec![0; if reads { 8192 } else { 65536 }];
        for _ in 0..60 {
            while stream.write(&piece).is_ok() {
                if reads {
                    break;
                }
            }
            std::thread::sleep(Duration::from_millis(10));
            while reads && server.read(&mut buffer).is_ok_and(|len| len > 0) {}
        }
        while server.read(&mut buffer).is_ok_and(|len| len > 0) {}
    });
}

/// A server that closes each connection, after reading or without.
pub fn closing(net: &Net, unread: bool) {
    let listener = listener(&net.s, (SERVER, 80), 16);
    net.c.run(|| {
        for _ in 0..3 {
            let mut stream = TcpStream::connect((SERVER, 80)).expect("connect");
            let (mut server, _) = listener.accept().expect("accept");
            stream.write_all(b"hello").expect("write");
            std::thread::sleep(Duration::from_millis(30));
            if !unread {
                let _ = server.read(&mut [0; 64]);
            }
            drop(server);
            let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
            let _ = stream.read(&mut [0; 64]);
        }
    });
}

/// UDP to a reader that does not read, with a buffer that is small or is not.
pub fn unread_datagrams(net: &Net, small: bool) {
    let reader = net.s.run(|| UdpSocket::bind((SERVER, 9)).expect("bind"));
    if small {
        option(reader.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, 1);
    }
    send(&net.c, (SERVER, 9), 20, 500, SOON);
}

/// A datagram with the don't-fragment bit.
pub fn unfragmented(net: &Net, len: usize) {
    let _server = echo(&net.s, (HERE, 9));
    net.c.run(|| {
        let socket = UdpSocket::bind((CLIENT, 0)).expect("bind");
        option(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO);
        for _ in 0..3 {
            let _ = socket.send_to(&vec![0; len], (SERVER, 9));
            std::thread::sleep(SOON);
        }
    });
}

/// Ten datagrams to a group that a socket on the server joined, or did not.
pub fn group(net: &Net, joined: bool) {
    let of = Ipv4Addr::new(239, 1, 2, 3);
    let reader = net.s.run(|| {
        let socket = UdpSocket::bind((HERE, 5000)).expect("bind");
        if joined {
            socket.join_multicast_v4(&of, &SERVER).expect("join");
        }
        socket
    });
    net.c.ip(&["route", "add", "239.0.0.0/8", "dev", "c0"]);
    std::thread::sleep(Duration::from_millis(50));
    send(&net.c, (of, 5000), 10, 50, SOON);
    drop(reader);
}

/// TCP-MD5 on the listener for the client's address (`struct tcp_md5sig`).
pub fn signed(net: &Net, required: bool) {
    let listener = listener(&net.s, (SERVER, 80), 16);
    if required {
        let mut key = vec![0_u8; 216];
        key[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        key[4..8].copy_from_slice(&CLIENT.octets());
        key[130..132].copy_from_slice(&3_u16.to_ne_bytes());
        key[136..139].copy_from_slice(b"key");
        const TCP_MD5SIG: i32 = 14;
        // SAFETY: a structure of the size it says, on an open socket.
        let rc = unsafe {
            libc::setsockopt(
                listener.as_raw_fd(),
                libc::IPPROTO_TCP,
                TCP_MD5SIG,
                key.as_ptr().cast(),
                216,
            )
        };
        assert_eq!(rc, 0, "TCP_MD5SIG: {}", std::io::Error::last_os_error());
    }
    let _server = answering(listener);
    ask_within(&net.c, (SERVER, 80).into(), 2, 10, Duration::from_millis(300));
}

/// A listener that takes nearest neighbours only (GTSM).
pub fn near_only(net: &Net, strict: bool) {
    let listener = listener(&net.s, (SERVER, 80), 16);
    if strict {
        const IP_MINTTL: i32 = 21;
        option(listener.as_raw_fd(), libc::IPPROTO_IP, IP_MINTTL, 255);
    }
    let _server = answering(listener);
    ask_within(&net.c, (SERVER, 80).into(), 2, 10, Duration::from_millis(300));
}

/// DISCOVERs to the broadcast address, answered or not (RFC 2131 figure 1).
pub fn dhcp(net: &Net, answered: bool) {
    net.c.ip(&["route", "add", "255.255.255.255", "dev", "c0"]);
    let server = net.s.run(|| UdpSocket::bind((HERE, 67)).expect("bind"));
    server.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
    let client = net.c.run(|| UdpSocket::bind((HERE, 68)).expect("bind"));
    client.set_broadcast(true).expect("broadcast");
    let patience = Duration::from_millis(if answered { 5000 } else { 100 });
    client.set_read_timeout(Some(patience)).expect("timeout");
    if !answered {
        drop(server);
        discover(&client);
        return;
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut packet = [0; 600];
            for _ in 0..ASKED {
                let Ok((len, _)) = server.recv_from(&mut packet) else { return };
                packet[0] = 2;
                let _ = server.send_to(&packet[..len], (CLIENT, 68));
            }
        });
        discover(&client);
    });
}

/// DISCOVERs of a case.
const ASKED: u8 = 3;

fn discover(client: &UdpSocket) {
    for id in 1..=ASKED {
        let mut packet = vec![0_u8; 244];
        packet[..4].copy_from_slice(&[1, 1, 6, 0]);
        packet[4..8].copy_from_slice(&[0, 0, 0, id]);
        packet[28..34].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        packet[236..243].copy_from_slice(&[0x63, 0x82, 0x53, 0x63, 53, 1, 1]);
        packet[243] = 255;
        let _ = client.send_to(&packet, (Ipv4Addr::BROADCAST, 67));
        let _ = client.recv(&mut [0; 600]);
    }
}
