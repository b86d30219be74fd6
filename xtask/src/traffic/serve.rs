//! The answering side: a sink, a small HTTP server, a UDP echo and a UDP counter.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use anyhow::{Context, Result};

use super::port;

/// Body of every HTTP answer, bytes.
pub(super) const BODY: usize = 1024;

/// Serves until killed. Prints `ready` once every port is open.
pub(super) fn run() -> Result<()> {
    let sink = listen(port::SINK)?;
    let http = listen(port::HTTP)?;
    let echo = bind(port::ECHO)?;
    let flood = bind(port::FLOOD)?;
    println!("ready");
    std::io::stdout().flush()?;
    thread::spawn(move || each(&sink, drain));
    thread::spawn(move || each(&http, answer));
    thread::spawn(move || reflect(&echo));
    swallow(&flood);
    Ok(())
}

/// `[::]` takes IPv4 too; a kernel without IPv6 has only `0.0.0.0`.
fn anywhere(port: u16) -> [SocketAddr; 2] {
    [(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]
}

fn listen(port: u16) -> Result<TcpListener> {
    TcpListener::bind(&anywhere(port)[..]).with_context(|| format!("cannot listen on TCP {port}"))
}

fn bind(port: u16) -> Result<UdpSocket> {
    UdpSocket::bind(&anywhere(port)[..]).with_context(|| format!("cannot bind UDP {port}"))
}

fn each(listener: &TcpListener, serve: fn(TcpStream) -> std::io::Result<()>) {
    for stream in listener.incoming().flatten() {
        // A client that goes away is traffic, not an error of ours.
        thread::spawn(move || serve(stream).ok());
    }
}

fn drain(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

fn answer(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    let mut response = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n").into_bytes();
    response.resize(response.len() + BODY, b'.');
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        if line == "\r\n" {
            writer.write_all(&response)?;
        }
        line.clear();
    }
    Ok(())
}

fn reflect(socket: &UdpSocket) {
    let mut buffer = [0; 2048];
    loop {
        // An ICMP error of an earlier answer shows up here; the next datagram is still wanted.
        if let Ok((len, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..len], from).ok();
        }
    }
}

fn swallow(socket: &UdpSocket) {
    let mut buffer = [0; 2048];
    loop {
        socket.recv(&mut buffer).ok();
    }
}
