//! The demo's mix: a little of everything a server sees, each thread one kind.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde_json::{Map, Value, json};

use super::serve::BODY;
use super::{Plan, port};
use crate::command;

/// Bulk data is sent in bursts of this, one per [`BURST_EVERY`]: 20 MB/s, enough for GSO and queues
/// to show, small enough to keep ten seconds of it in a few megabytes.
const BURST: usize = 4 << 20;
const BURST_EVERY: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(2);

/// One kind of traffic: what it is called, how often, and how to do it once (`Ok(n)`: n of them).
struct Kind {
    name: &'static str,
    unit: &'static str,
    every: Duration,
    step: Box<dyn FnMut() -> Result<u64> + Send>,
}

pub(super) fn run(plan: &Plan) -> Result<Value> {
    let mut names = vec!["bulk", "http", "echo", "refused", "unreachable", "filtered"];
    if plan.to6.is_some() {
        names.extend(["http6", "echo6"]);
    }
    let kinds = names.into_iter().map(|name| kind(plan, name)).collect::<Result<Vec<_>>>()?;
    let end = Instant::now() + plan.time;
    let mut threads: Vec<_> =
        kinds.into_iter().map(|kind| thread::spawn(move || repeat(kind, end))).collect();
    for (name, host) in
        [("pings over IPv4", Some(plan.to.clone())), ("pings over IPv6", plan.to6.clone())]
    {
        if let Some(host) = host {
            let time = plan.time;
            threads.push(thread::spawn(move || ping(name, &host, time)));
        }
    }
    let mut done = Map::new();
    for thread in threads {
        let (name, count) = thread.join().map_err(|_| anyhow!("a traffic thread panicked"))??;
        done.insert(name, count);
    }
    Ok(Value::Object(done))
}

/// Each kind a few times, one after the other, without pause.
pub(super) fn few(plan: &Plan) -> Result<Value> {
    let mut done = Map::new();
    for (name, count) in &plan.steps {
        let mut kind = kind(plan, name)?;
        let mut total = 0;
        for _ in 0..*count {
            total += (kind.step)().with_context(|| kind.name)?;
        }
        done.insert(kind.name.to_owned(), json!({ "count": total, "unit": kind.unit }));
    }
    Ok(Value::Object(done))
}

/// A kind by its short name.
fn kind(plan: &Plan, name: &str) -> Result<Kind> {
    let v4 = &plan.to;
    let v6 = || plan.to6.as_ref().with_context(|| format!("{name} needs --to6"));
    Ok(match name {
        "bulk" => bulk(at(v4, port::SINK)?)?,
        "http" => requests("HTTP requests over IPv4", at(v4, port::HTTP)?),
        "http6" => requests("HTTP requests over IPv6", at(v6()?, port::HTTP)?),
        "echo" => echoes("UDP echoes over IPv4", at(v4, port::ECHO)?)?,
        "echo6" => echoes("UDP echoes over IPv6", at(v6()?, port::ECHO)?)?,
        "refused" => refused("TCP connections refused", at(v4, port::CLOSED)?),
        "unreachable" => unreachable("UDP datagrams to a closed port", at(v4, port::CLOSED)?)?,
        "filtered" => unanswered("UDP datagrams that nftables drops", at(v4, port::FILTERED)?)?,
        "overflow" => unanswered("UDP datagrams to a full socket", at(v4, port::DEAF)?)?,
        "unaccepted" => unaccepted("TCP connections never accepted", at(v4, port::DEAF)?),
        other => anyhow::bail!("there is no traffic '{other}'"),
    })
}

fn at(host: &str, port: u16) -> Result<SocketAddr> {
    let ip: std::net::IpAddr = host.parse().with_context(|| format!("'{host}' is no address"))?;
    Ok((ip, port).into())
}

fn repeat(mut kind: Kind, end: Instant) -> Result<(String, Value)> {
    let mut count = 0;
    let mut next = Instant::now();
    while Instant::now() < end {
        count += (kind.step)().with_context(|| kind.name)?;
        // The step may take longer than `every`; then the next is at once, with no backlog.
        next = (next + kind.every).max(Instant::now());
        thread::sleep(next.min(end).saturating_duration_since(Instant::now()));
    }
    Ok((kind.name.to_owned(), json!({ "count": count, "unit": kind.unit })))
}

fn bulk(to: SocketAddr) -> Result<Kind> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).context("TCP bulk")?;
    let burst = vec![0x5a; BURST];
    let step = move || {
        stream.write_all(&burst)?;
        Ok(BURST as u64)
    };
    Ok(Kind { name: "TCP bulk over IPv4", unit: "bytes", every: BURST_EVERY, step: Box::new(step) })
}

/// Twenty requests on a connection, then a new one: handshakes and closes are traffic too.
fn requests(name: &'static str, to: SocketAddr) -> Kind {
    let mut open: Option<(TcpStream, u32)> = None;
    let step = move || {
        let (mut stream, used) = match open.take() {
            Some(open) => open,
            None => (connect(to)?, 0),
        };
        request(&mut stream)?;
        open = (used < 19).then_some((stream, used + 1));
        Ok(1)
    };
    Kind { name, unit: "requests", every: Duration::from_millis(10), step: Box::new(step) }
}

/// A connection for [`request`].
pub(super) fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// One HTTP request and its whole answer.
pub(super) fn request(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: server\r\n\r\n")?;
    let mut answer = [0; BODY + 256];
    let mut len = 0;
    loop {
        let read = stream.read(&mut answer[len..])?;
        if read == 0 {
            return Err(anyhow!("the server closed the connection inside an answer"));
        }
        len += read;
        let head = answer[..len].windows(4).position(|four| four == b"\r\n\r\n");
        if head.is_some_and(|head| len >= head + 4 + BODY) {
            return Ok(());
        }
    }
}

fn socket(to: SocketAddr) -> Result<UdpSocket> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(to)?;
    Ok(socket)
}

fn echoes(name: &'static str, to: SocketAddr) -> Result<Kind> {
    let socket = socket(to)?;
    let mut answer = [0; 256];
    let step = move || {
        socket.send(&[b'e'; 200])?;
        socket.recv(&mut answer)?;
        Ok(1)
    };
    Ok(Kind { name, unit: "round trips", every: Duration::from_millis(20), step: Box::new(step) })
}

fn refused(name: &'static str, to: SocketAddr) -> Kind {
    let step = move || match TcpStream::connect_timeout(&to, PATIENCE) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(1),
        Err(error) => Err(error.into()),
        Ok(_) => Err(anyhow!("somebody answers on the closed port {}", to.port())),
    };
    Kind { name, unit: "connections", every: Duration::from_millis(500), step: Box::new(step) }
}

/// Slower than the kernel's limit of ICMP errors to one host (one a second after a small burst), so
/// that each datagram gets its answer.
fn unreachable(name: &'static str, to: SocketAddr) -> Result<Kind> {
    let socket = socket(to)?;
    let step = move || {
        socket.send(b"nobody there")?;
        match socket.recv(&mut [0; 16]) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(1),
            Err(error) => Err(error.into()),
            Ok(_) => Err(anyhow!("somebody answers on the closed port {}", to.port())),
        }
    };
    Ok(Kind { name, unit: "datagrams", every: Duration::from_millis(1100), step: Box::new(step) })
}

fn unanswered(name: &'static str, to: SocketAddr) -> Result<Kind> {
    let socket = socket(to)?;
    let step = move || {
        socket.send(b"nobody will read this")?;
        Ok(1)
    };
    Ok(Kind { name, unit: "datagrams", every: Duration::from_millis(200), step: Box::new(step) })
}

/// Connections to a listener that accepts none: those beyond its queue time out. Counts attempts; the
/// ones that were established stay open until the end.
fn unaccepted(name: &'static str, to: SocketAddr) -> Kind {
    let mut open = Vec::new();
    let step = move || {
        match TcpStream::connect_timeout(&to, Duration::from_millis(200)) {
            Ok(stream) => open.push(stream),
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            Err(error) => return Err(error.into()),
        }
        Ok(1)
    };
    Kind { name, unit: "attempts", every: Duration::from_millis(500), step: Box::new(step) }
}

fn ping(name: &str, host: &str, time: Duration) -> Result<(String, Value)> {
    let count = (time.as_millis() / 250).max(1);
    let said = command::output(command::tool("ping").args([
        "-q",
        "-i",
        "0.2",
        "-c",
        &count.to_string(),
        host,
    ]))?;
    // "40 packets transmitted, 40 received, 0% packet loss, time 7999ms"
    let received = said
        .split(',')
        .find_map(|part| part.trim().strip_suffix(" received"))
        .and_then(|number| number.parse::<u64>().ok())
        .with_context(|| format!("ping did not say how many came back: {said}"))?;
    Ok((name.to_owned(), json!({ "count": received, "unit": "round trips" })))
}
