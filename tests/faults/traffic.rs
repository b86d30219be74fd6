//! Traffic of the campaign: small clients and servers of std and libc, each in its namespace.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{FromRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::netns::Host;

/// A server on a thread of its own that ends with it.
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn serve(mut work: impl FnMut() + Send + 'static) -> Server {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let thread = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            work();
        }
    });
    Server { stop, thread: Some(thread) }
}

/// Reads what each connection sends, answers `ok` to each piece, closes at its end.
pub fn web(host: &Host, at: (impl Into<IpAddr>, u16)) -> Server {
    let at = SocketAddr::new(at.0.into(), at.1);
    answering(host.run(|| TcpListener::bind(at).expect("bind")))
}

/// Does that on a listener made before. One that nobody accepts from resets its connections as it closes.
pub fn answering(listener: TcpListener) -> Server {
    listener.set_nonblocking(true).expect("nonblocking");
    let mut open: Vec<TcpStream> = Vec::new();
    serve(move || {
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true).expect("nonblocking");
            open.push(stream);
        }
        open.retain_mut(|stream| {
            let mut buffer = vec![0; 65536];
            match stream.read(&mut buffer) {
                Ok(0) => false,
                Ok(_) => stream.write_all(b"ok").is_ok(),
                Err(e) => e.kind() == std::io::ErrorKind::WouldBlock,
            }
        });
        std::thread::sleep(Duration::from_millis(2));
    })
}

/// Sends each datagram back.
pub fn echo(host: &Host, at: (impl Into<IpAddr>, u16)) -> Server {
    let at = SocketAddr::new(at.0.into(), at.1);
    let socket = host.run(|| UdpSocket::bind(at).expect("bind"));
    socket.set_read_timeout(Some(Duration::from_millis(5))).expect("timeout");
    serve(move || {
        let mut buffer = vec![0; 65536];
        if let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..len], from);
        }
    })
}

/// Answers each DNS question with this response code.
pub fn dns(host: &Host, at: (Ipv4Addr, u16), rcode: u8) -> Server {
    let socket = host.run(|| UdpSocket::bind(at).expect("bind"));
    socket.set_read_timeout(Some(Duration::from_millis(5))).expect("timeout");
    serve(move || {
        let mut buffer = [0; 512];
        if let Ok((len, from)) = socket.recv_from(&mut buffer)
            && len > 4
        {
            buffer[2] |= 0x80;
            buffer[3] = buffer[3] & 0xf0 | rcode;
            let _ = socket.send_to(&buffer[..len], from);
        }
    })
}

/// A listener with a backlog of its own; nobody accepts unless the caller does.
pub fn listener(host: &Host, at: (Ipv4Addr, u16), backlog: i32) -> TcpListener {
    host.run(|| {
        // SAFETY: a new descriptor, an initialised address of the size it says; ownership passes on.
        unsafe {
            let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
            option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1);
            let mut addr: libc::sockaddr_in = std::mem::zeroed();
            addr.sin_family = libc::AF_INET as u16;
            addr.sin_port = at.1.to_be();
            addr.sin_addr.s_addr = u32::from(at.0).to_be();
            let len = size_of::<libc::sockaddr_in>() as u32;
            assert_eq!(libc::bind(fd, (&raw const addr).cast(), len), 0, "bind");
            assert_eq!(libc::listen(fd, backlog), 0, "listen");
            TcpListener::from_raw_fd(fd)
        }
    })
}

pub fn option(fd: RawFd, level: i32, name: i32, value: i32) {
    // SAFETY: an option of the size it says, on an open socket.
    unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), 4) };
}

/// `count` requests of `len` bytes, each on a connection of its own; what fails is the case's business.
pub fn ask(host: &Host, to: (impl Into<IpAddr>, u16), count: usize, len: usize) {
    let to = SocketAddr::new(to.0.into(), to.1);
    ask_within(host, to, count, len, Duration::from_millis(700));
}

pub fn ask_within(host: &Host, to: SocketAddr, count: usize, len: usize, patience: Duration) {
    host.run(|| {
        for _ in 0..count {
            let Ok(mut stream) = TcpStream::connect_timeout(&to, patience) else { continue };
            let _ = stream.set_read_timeout(Some(patience));
            let _ = stream.set_write_timeout(Some(patience));
            if stream.write_all(&vec![b'x'; len]).is_ok() {
                let mut answer = [0; 64];
                let _ = stream.read(&mut answer);
            }
        }
    });
}

/// `count` datagrams of `len` bytes from one socket, `pause` apart; then takes the answers.
pub fn send(host: &Host, to: (impl Into<IpAddr>, u16), count: usize, len: usize, pause: Duration) {
    let to = SocketAddr::new(to.0.into(), to.1);
    host.run(|| {
        let any: IpAddr = if to.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            std::net::Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((any, 0)).expect("bind");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("timeout");
        for _ in 0..count {
            let _ = socket.send_to(&vec![b'x'; len], to);
            std::thread::sleep(pause);
        }
        let mut buffer = vec![0; 65536];
        while socket.recv(&mut buffer).is_ok() {}
    });
}

/// `count` DNS questions, each asked once.
pub fn resolve(host: &Host, server: Ipv4Addr, count: u16) {
    host.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bind");
        socket.set_read_timeout(Some(Duration::from_millis(150))).expect("timeout");
        for id in 0..count {
            let mut question = vec![0, id as u8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            question.extend(b"\x03www\x07example\x00\x00\x01\x00\x01");
            let _ = socket.send_to(&question, (server, 53));
            let mut answer = [0; 512];
            let _ = socket.recv(&mut answer);
        }
    });
}
