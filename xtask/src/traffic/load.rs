//! Loads for measurements: as much as the machine carries, and what it took.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use super::mix::{connect, request};
use super::{Plan, port};

/// Payload that makes a 64-byte Ethernet frame (14 Ethernet, 20 IPv4, 8 UDP).
const FLOOD_PAYLOAD: usize = 22;
/// Datagrams given to the kernel with one system call.
const FLOOD_BATCH: usize = 64;

fn at(plan: &Plan, port: u16) -> Result<SocketAddrV4> {
    let ip: Ipv4Addr = plan.to.parse().with_context(|| format!("--to {} is no IPv4", plan.to))?;
    Ok(SocketAddrV4::new(ip, port))
}

/// One connection, written to without pause.
pub(super) fn bulk(plan: &Plan) -> Result<Value> {
    let mut stream = TcpStream::connect(at(plan, port::SINK)?).context("TCP bulk")?;
    let chunk = vec![0x5a; 128 << 10];
    let meter = Meter::start()?;
    let mut bytes = 0_u64;
    while meter.elapsed() < plan.time {
        stream.write_all(&chunk)?;
        bytes += chunk.len() as u64;
    }
    let (seconds, busy) = meter.stop()?;
    Ok(json!({ "seconds": seconds, "cpu_seconds": busy, "bytes": bytes }))
}

/// Closed loop: each connection sends its next request when the last was answered.
pub(super) fn requests(plan: &Plan) -> Result<Value> {
    let to = SocketAddr::from(at(plan, port::HTTP)?);
    let streams: Vec<TcpStream> =
        (0..plan.connections).map(|_| connect(to)).collect::<Result<_>>().context("HTTP")?;
    let meter = Meter::start()?;
    let end = Instant::now() + plan.time;
    let threads: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            thread::spawn(move || -> Result<Vec<u32>> {
                let mut took = Vec::with_capacity(1 << 20);
                let mut before = Instant::now();
                while before < end {
                    request(&mut stream)?;
                    let after = Instant::now();
                    took.push((after - before).as_nanos().min(u128::from(u32::MAX)) as u32);
                    before = after;
                }
                Ok(took)
            })
        })
        .collect();
    let mut took = Vec::new();
    for thread in threads {
        took.extend(thread.join().map_err(|_| anyhow!("a request thread panicked"))??);
    }
    let (seconds, busy) = meter.stop()?;
    took.sort_unstable();
    let quantile = |q: f64| took.get((took.len() as f64 * q) as usize).copied().unwrap_or(0);
    Ok(json!({
        "seconds": seconds,
        "cpu_seconds": busy,
        "requests": took.len(),
        "p50_ns": quantile(0.50),
        "p99_ns": quantile(0.99),
    }))
}

/// 64-byte frames as fast as one thread can hand them over.
pub(super) fn flood(plan: &Plan) -> Result<Value> {
    let to = at(plan, port::FLOOD)?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(to)?;
    let payload = [0x55_u8; FLOOD_PAYLOAD];
    let mut part =
        libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
    // SAFETY: a message header is plain data for which zero means "none".
    let mut batch: Vec<libc::mmsghdr> = vec![unsafe { std::mem::zeroed() }; FLOOD_BATCH];
    for message in &mut batch {
        message.msg_hdr.msg_iov = &raw mut part;
        message.msg_hdr.msg_iovlen = 1;
    }
    let carried_before = transmitted()?;
    let meter = Meter::start()?;
    let mut sent = 0_u64;
    while meter.elapsed() < plan.time {
        // SAFETY: `batch` holds FLOOD_BATCH headers that all point at `part`, which points at
        // `payload`; sendmmsg only reads both and all three outlive the call.
        let done = unsafe {
            libc::sendmmsg(socket.as_raw_fd(), batch.as_mut_ptr(), FLOOD_BATCH as u32, 0)
        };
        if let Ok(done) = u64::try_from(done) {
            sent += done;
            continue;
        }
        let error = std::io::Error::last_os_error();
        // A full device queue is what a flood is for.
        if error.raw_os_error() != Some(libc::ENOBUFS) {
            return Err(error).context("sendmmsg");
        }
    }
    let (seconds, busy) = meter.stop()?;
    let carried = transmitted()? - carried_before;
    Ok(json!({ "seconds": seconds, "cpu_seconds": busy, "sent": sent, "carried": carried }))
}

/// Packets that this namespace's `eth0` gave to its peer.
fn transmitted() -> Result<u64> {
    let table = std::fs::read_to_string("/proc/net/dev").context("/proc/net/dev")?;
    for line in table.lines() {
        if let Some(numbers) = line.trim().strip_prefix("eth0:") {
            let packets = numbers.split_whitespace().nth(9).and_then(|text| text.parse().ok());
            return packets.context("/proc/net/dev has no transmit count for eth0");
        }
    }
    bail!("this namespace has no eth0")
}

/// Wall time and the CPU time of the whole machine over it: softirqs, other processes and the
/// recorder included, since all of that is what recording costs.
pub(crate) struct Meter {
    from: Instant,
    idle: Duration,
    cpus: u32,
}

impl Meter {
    /// From now.
    pub(crate) fn start() -> Result<Self> {
        let cpus = std::thread::available_parallelism()?.get() as u32;
        let online = std::fs::read_to_string("/proc/stat")?
            .lines()
            .filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "))
            .count() as u32;
        Ok(Self { idle: idle()?, from: Instant::now(), cpus: online.max(cpus) })
    }

    /// CPUs online.
    pub(crate) fn cpus(&self) -> u32 {
        self.cpus
    }

    fn elapsed(&self) -> Duration {
        self.from.elapsed()
    }

    /// (wall seconds, busy CPU seconds).
    pub(crate) fn stop(&self) -> Result<(f64, f64)> {
        let idle = idle()?.saturating_sub(self.idle);
        let wall = self.elapsed();
        let busy = (wall * self.cpus).saturating_sub(idle);
        Ok((wall.as_secs_f64(), busy.as_secs_f64()))
    }
}

/// Time all CPUs were not ours: idle, waiting for a disk, or taken by the hypervisor. The kernel
/// accounts idle exactly, where it only samples what is busy.
fn idle() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let all = stat.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<u64> =
        all.split_whitespace().skip(1).filter_map(|text| text.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal …
    let [_, _, _, idle, wait, _, _, steal, ..] = ticks[..] else {
        bail!("/proc/stat has no idle time: {all}");
    };
    // SAFETY: sysconf(3) takes a number and returns one.
    let per_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100);
    Ok(Duration::from_nanos((idle + wait + steal) * 1_000_000_000 / per_second.max(1)))
}
