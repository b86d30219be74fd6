//! Active route probing with trippy-core: the only code of psc, beside clients that are named
//! in a configuration, that talks to a network. It runs when `--probe` is given and never else.
//!
//! Results are facts in an archive. What they mean is the locator's business, which cannot tell whether
//! they were made just now.
//!
//! trippy-core traces one target on one thread. Many targets are many tracers, and the rate holds by
//! construction: a tracer sends at most `max_hops` packets in a round, and a round lasts as long as
//! that number of packets may take at the tracer's share of the rate.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufWriter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::panic;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use psc_formats::Fact;
use psc_formats::archive::Writer;
use psc_formats::fact::{DeviceFact, EndFact, LossFact, RouteAnswer, RouteProbe, RouteProbesFact};
use psc_formats::manifest::{Clock, ClockKind, Host, Manifest, Origin};
use trippy_core::{
    Builder, Extension, IcmpExtensionParseMode, IcmpPacketType, MultipathStrategy, PortDirection,
    ProbeComplete, ProbeStatus, Protocol, Round,
};

use crate::cli::probe::{ProbeArgs, ProbeProtocol, ProbeStrategy};
use crate::output::{Console, NewFile, printable};

/// Tracers at once: each has up to three sockets, and one more for each TCP probe under way.
const TRACERS: u32 = 64;
/// Targets read from standard input at most.
const TARGETS: usize = 1_000_000;
/// First destination port of UDP probes and first source port of TCP ones, as traceroute has it.
const FIRST_PORT: u16 = 33_434;
/// Sequence numbers that one tracer may use before it starts over.
const SEQUENCES: u16 = 400;
/// How often a signal is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// Shell convention for "ended by SIGINT".
const ABORTED: i32 = 128 + signal_hook::consts::SIGINT;

/// Probes every target and writes the results to `path`.
pub(crate) fn run(
    args: &ProbeArgs,
    path: &Path,
    replace: bool,
    console: Console,
) -> anyhow::Result<()> {
    let targets = targets(&args.probe, console)?;
    let plan = Plan::new(args, targets.len());
    let output = NewFile::create(path, replace)?;
    let failed = || format!("cannot write {}; is there space?", path.display());
    let mut writer = Writer::new(BufWriter::new(output), &manifest(args)).with_context(failed)?;
    let bar = bar(console, targets.len() as u64);
    let mut sources = BTreeSet::new();
    let (mut answered, mut measured) = (0, 0_u64);
    let stop = on_signal()?;
    let trouble = plan.run(&targets, &stop, |fact| {
        bar.inc(1);
        measured += 1;
        answered += u64::from(fact.probes.iter().any(|probe| probe.answer.is_some()));
        // The sender's own address is no peer of its.
        if let Some(source) = fact.source
            && sources.insert(source)
        {
            let length = if source.is_ipv4() { 32 } else { 128 };
            writer.append_fact(&Fact::Device(DeviceFact {
                id: sources.len() as u16,
                netns: fact.netns,
                addresses: vec![format!("{source}/{length}")],
                ..DeviceFact::default()
            }))?;
        }
        writer.append_fact(&Fact::RouteProbes(fact))
    })?;
    bar.finish_and_clear();
    for (target, error) in trouble.iter().take(10) {
        console.note(&format!("{target}: {error}"));
    }
    if trouble.len() > 10 {
        console.note(&format!("{} more targets failed", trouble.len() - 10));
    }
    if trouble.len() == targets.len()
        && let Some((_, error)) = trouble.into_iter().next()
    {
        bail!("no target could be probed: {error}");
    }
    // Every probe sent is in the file: there is no recorder that could lose one.
    let loss = LossFact { capture_dropped: Some(0), ..LossFact::default() };
    writer.append_fact(&Fact::Loss(loss)).with_context(failed)?;
    let stopped = stop.load(Ordering::Relaxed) && measured < targets.len() as u64;
    let reason = if stopped { "stopped while probing" } else { "probed" }.to_owned();
    let end = EndFact { reason, ..EndFact::default() };
    let output = writer.finish(end).with_context(failed)?;
    output.into_inner().map_err(io::IntoInnerError::into_error).with_context(failed)?.keep()?;
    let all = targets.len() as u64;
    let targets = psc_reports::units::counted(all, "target", "targets");
    console.note(&if stopped {
        format!("stopped: probed {measured} of {targets}, {answered} with an answer; that is kept")
    } else {
        format!("probed {targets}, {answered} with an answer")
    });
    Ok(())
}

/// What the first SIGINT or SIGTERM sets; the second ends the process.
fn on_signal() -> anyhow::Result<Arc<AtomicBool>> {
    use signal_hook::{consts, flag};
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [consts::SIGINT, consts::SIGTERM] {
        // In this order: the first signal finds it unset.
        flag::register_conditional_shutdown(signal, ABORTED, Arc::clone(&stop))
            .and_then(|_| flag::register(signal, Arc::clone(&stop)))
            .context("cannot handle signals")?;
    }
    Ok(stop)
}

fn manifest(args: &ProbeArgs) -> Manifest {
    let words: Vec<String> = args.probe.iter().take(20).map(|word| printable(word)).collect();
    Manifest {
        origin: Origin::Capture,
        psc_version: env!("CARGO_PKG_VERSION").to_owned(),
        command: format!("psc locate --probe {}", words.join(" ")),
        clock: Clock { kind: ClockKind::Realtime, ..Clock::default() },
        host: Host { name: host_name(), ..Host::default() },
        ..Manifest::default()
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

fn bar(console: Console, targets: u64) -> ProgressBar {
    if !console.progress {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(targets), ProgressDrawTarget::stderr_with_hz(8));
    let template = "probing [{bar:32}] {pos}/{len} targets eta {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

/// Addresses of all targets, each once, in the order given.
fn targets(words: &[String], console: Console) -> anyhow::Result<Vec<IpAddr>> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    let mut add = |address: IpAddr| {
        if seen.insert(address) {
            all.push(address);
        }
    };
    for word in words {
        if word != "-" {
            add(resolve(word)?);
            continue;
        }
        for line in io::stdin().lock().lines().take(TARGETS) {
            let line = line.context("cannot read targets from standard input")?;
            let word = line.split(['#', ';']).next().unwrap_or_default().trim();
            if word.is_empty() {
                continue;
            }
            // One bad name among thousands is no reason to stop.
            match resolve(word) {
                Ok(address) => add(address),
                Err(error) => console.note(&format!("{error:#}")),
            }
        }
    }
    anyhow::ensure!(!all.is_empty(), "no target to probe; give addresses or names, one a line");
    Ok(all)
}

fn resolve(word: &str) -> anyhow::Result<IpAddr> {
    if let Ok(address) = word.parse() {
        return Ok(address);
    }
    let found = (word, 0).to_socket_addrs();
    let address = found.ok().and_then(|mut addresses| addresses.next());
    address
        .map(|address| address.ip())
        .ok_or_else(|| anyhow!("{} is no address and no name that resolves", printable(word)))
}

/// The address that packets to `target` are sent from.
fn source(target: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match target {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Connecting a datagram socket sends nothing: it asks the routing table.
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(SocketAddr::new(target, 33_434))?;
    Ok(socket.local_addr()?.ip())
}

/// How all of it is sent.
#[derive(Clone, Copy, Debug)]
struct Plan {
    protocol: ProbeProtocol,
    strategy: ProbeStrategy,
    port: u16,
    rounds: u16,
    max_hops: u8,
    tracers: u32,
    /// Least and most that a round takes.
    round: (Duration, Duration),
}

impl Plan {
    fn new(args: &ProbeArgs, targets: usize) -> Self {
        let hops = f64::from(args.max_hops);
        let rate = f64::from(args.rate);
        // As many as the rate feeds with a round each in the time that answers may take.
        let fed = (rate * args.wait.0.as_secs_f64() / hops).floor();
        let most = TRACERS.min(u32::try_from(targets).unwrap_or(TRACERS)).max(1);
        let tracers = (fed as u32).clamp(1, most);
        let least = Duration::from_secs_f64(hops * f64::from(tracers) / rate);
        Self {
            protocol: args.protocol,
            strategy: args.strategy,
            port: args.port,
            rounds: args.rounds,
            max_hops: args.max_hops,
            tracers,
            round: (least, least.max(args.wait.0)),
        }
    }

    /// Traces all targets, hands results on as they come, and returns what failed. Once `stop` is set, what the
    /// tracers at work have so far is handed on and they are left to themselves: a round cannot be cut short.
    fn run(
        self,
        targets: &[IpAddr],
        stop: &Arc<AtomicBool>,
        mut done: impl FnMut(RouteProbesFact) -> io::Result<()>,
    ) -> anyhow::Result<Vec<(IpAddr, anyhow::Error)>> {
        let work = Arc::new(Work {
            targets: targets.to_vec(),
            next: AtomicUsize::new(0),
            so_far: (0..self.tracers).map(|_| Mutex::default()).collect(),
        });
        let (results, incoming) = mpsc::sync_channel(64);
        for slot in 0..self.tracers {
            let (work, results, stop) = (Arc::clone(&work), results.clone(), Arc::clone(stop));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let at = work.next.fetch_add(1, Ordering::Relaxed);
                    let Some(target) = work.targets.get(at) else { break };
                    let so_far = &work.so_far[slot as usize];
                    // A fault inside trippy-core costs its target's last rounds and nobody else's.
                    let trace = || self.trace(*target, slot as u16, so_far);
                    let result = panic::catch_unwind(panic::AssertUnwindSafe(trace))
                        .unwrap_or_else(|_| Err(anyhow!("the prober failed inside (trippy-core)")));
                    // Taken: it was handed on when probing was stopped.
                    let taken = so_far.lock().unwrap_or_else(PoisonError::into_inner).take();
                    let result = match (result, taken) {
                        (Ok(()), Some(fact)) => Ok(fact),
                        (Ok(()), None) => break,
                        (Err(_), Some(fact)) if !fact.probes.is_empty() => Ok(fact),
                        (Err(error), _) => Err(error),
                    };
                    // A closed channel: the file could not be written, nobody wants more.
                    if results.send((*target, result)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(results);
        let mut trouble = Vec::new();
        let failed = "cannot write the results; is there space?";
        let mut take = |(target, result): (IpAddr, anyhow::Result<RouteProbesFact>)| {
            match result {
                Ok(fact) => done(fact).context(failed)?,
                Err(error) => trouble.push((target, error)),
            }
            anyhow::Ok(())
        };
        loop {
            match incoming.recv_timeout(LOOK) {
                Ok(result) => take(result)?,
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) if !stop.load(Ordering::Relaxed) => {}
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let parts = work.so_far.iter().filter_map(|so_far| {
                        so_far.lock().unwrap_or_else(PoisonError::into_inner).take()
                    });
                    for fact in parts.filter(|fact| !fact.probes.is_empty()) {
                        take((fact.target.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), Ok(fact)))?;
                    }
                    while let Ok(result) = incoming.try_recv() {
                        take(result)?;
                    }
                    break;
                }
            }
        }
        Ok(trouble)
    }

    /// Traces one target into `so_far`, round by round. `slot` keeps tracers that run at the same time apart.
    fn trace(
        self,
        target: IpAddr,
        slot: u16,
        so_far: &Mutex<Option<RouteProbesFact>>,
    ) -> anyhow::Result<()> {
        let source = source(target)
            .map_err(|error| anyhow!("no route there ({error}); look at `ip route`"))?;
        let id = TRACE_ID.fetch_add(1, Ordering::Relaxed) as u16 | 1;
        let first = FIRST_PORT + (slot % TRACERS as u16) * SEQUENCES;
        let (protocol, ports) = match (self.protocol, self.strategy) {
            (ProbeProtocol::Icmp, _) => (Protocol::Icmp, PortDirection::None),
            (ProbeProtocol::Tcp, _) => (Protocol::Tcp, PortDirection::new_fixed_dest(self.port)),
            (ProbeProtocol::Udp, _) => {
                (Protocol::Udp, PortDirection::new_fixed_src(first - SEQUENCES))
            }
        };
        let strategy = match (self.protocol, self.strategy) {
            (ProbeProtocol::Udp, ProbeStrategy::Paris) => MultipathStrategy::Paris,
            (ProbeProtocol::Udp, ProbeStrategy::Dublin) => MultipathStrategy::Dublin,
            _ => MultipathStrategy::Classic,
        };
        let fact = RouteProbesFact {
            at: 0,
            netns: netns(),
            host: host_name(),
            source: Some(source),
            target: Some(target),
            protocol: match (self.protocol, target) {
                (ProbeProtocol::Icmp, IpAddr::V4(_)) => 1,
                (ProbeProtocol::Icmp, IpAddr::V6(_)) => 58,
                (ProbeProtocol::Udp, _) => 17,
                (ProbeProtocol::Tcp, _) => 6,
            },
            strategy: match strategy {
                MultipathStrategy::Classic => "classic",
                MultipathStrategy::Paris => "paris",
                MultipathStrategy::Dublin => "dublin",
            }
            .to_owned(),
            tool: concat!("psc ", env!("CARGO_PKG_VERSION"), ", trippy-core 0.13").to_owned(),
            probes: Vec::new(),
        };
        *so_far.lock().unwrap_or_else(PoisonError::into_inner) = Some(fact);
        let tracer = Builder::new(target)
            .source_addr(Some(source))
            .protocol(protocol)
            .port_direction(ports)
            .multipath_strategy(strategy)
            .trace_identifier(id)
            .initial_sequence(first)
            .icmp_extension_parse_mode(IcmpExtensionParseMode::Enabled)
            .max_rounds(Some(usize::from(self.rounds)))
            .max_ttl(self.max_hops)
            .max_inflight(self.max_hops)
            .min_round_duration(self.round.0)
            .max_round_duration(self.round.1)
            .build()
            .map_err(|error| anyhow!("{error}"))?;
        tracer
            .run_with(|result| {
                let mut so_far = so_far.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(fact) = so_far.as_mut() {
                    take(result, &mut fact.probes);
                    fact.at = fact.probes.iter().map(|probe| probe.at).min().unwrap_or(0);
                }
            })
            .map_err(|error| anyhow!("{}", explain(&error.to_string())))
    }
}

/// What tracers share.
struct Work {
    targets: Vec<IpAddr>,
    next: AtomicUsize,
    /// Of each tracer, what its target has shown so far.
    so_far: Vec<Mutex<Option<RouteProbesFact>>>,
}

/// Distinguishes echo requests of tracers, and of this process from others'.
static TRACE_ID: AtomicU64 = AtomicU64::new(0);

/// Starts identifiers somewhere of this process's own.
pub(crate) fn seed() {
    TRACE_ID.store(u64::from(std::process::id()) << 1, Ordering::Relaxed);
}

fn netns() -> u32 {
    File::open("/proc/self/ns/net")
        .and_then(|file| file.metadata())
        .map_or(0, |meta| meta.ino() as u32)
}

/// What went wrong, with what to do about the most common cause.
fn explain(error: &str) -> String {
    let lower = error.to_lowercase();
    if lower.contains("permitted") || lower.contains("permission") || lower.contains("privilege") {
        return format!(
            "{error}; probing opens raw sockets: run it as root, or `setcap cap_net_raw+ep` on psc"
        );
    }
    error.to_owned()
}

/// A round's probes, those not sent left out.
fn take(round: &Round<'_>, probes: &mut Vec<RouteProbe>) {
    for status in round.probes {
        match status {
            ProbeStatus::NotSent | ProbeStatus::Skipped | ProbeStatus::Failed(_) => {}
            ProbeStatus::Awaited(probe) => probes.push(RouteProbe {
                at: epoch_ns(probe.sent),
                ttl: probe.ttl.0,
                flow: flow(
                    probe.src_port.0,
                    probe.dest_port.0,
                    probe.identifier.0,
                    probe.sequence.0,
                ),
                answer: None,
            }),
            ProbeStatus::Complete(probe) => probes.push(RouteProbe {
                at: epoch_ns(probe.sent),
                ttl: probe.ttl.0,
                flow: flow(
                    probe.src_port.0,
                    probe.dest_port.0,
                    probe.identifier.0,
                    probe.sequence.0,
                ),
                answer: Some(answer(probe)),
            }),
        }
    }
}

/// Ports where there are any, else the identifier and sequence of an echo.
fn flow(sport: u16, dport: u16, id: u16, sequence: u16) -> (u16, u16) {
    if sport == 0 && dport == 0 { (id, sequence) } else { (sport, dport) }
}

fn answer(probe: &ProbeComplete) -> RouteAnswer {
    let (kind, code) = match probe.icmp_packet_type {
        IcmpPacketType::TimeExceeded(code) => ("time-exceeded", code.0),
        IcmpPacketType::EchoReply(code) => ("echo-reply", code.0),
        IcmpPacketType::Unreachable(code) => ("unreachable", code.0),
        IcmpPacketType::NotApplicable => ("reply", 0),
    };
    let extensions = probe.extensions.as_ref().map(|list| &list.extensions[..]).unwrap_or_default();
    let mpls = extensions.iter().flat_map(|extension| match extension {
        Extension::Mpls(stack) => &stack.members[..],
        Extension::Unknown(_) => &[],
    });
    let translated = match (&probe.expected_udp_checksum, &probe.actual_udp_checksum) {
        (Some(sent), Some(quoted)) => sent != quoted,
        _ => false,
    };
    RouteAnswer {
        from: probe.host,
        rtt_ns: probe
            .received
            .duration_since(probe.sent)
            .map_or(0, |rtt| u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX)),
        kind: kind.to_owned(),
        code,
        mpls: mpls.map(|label| (label.label, label.exp, label.ttl)).collect(),
        translated,
    }
}

fn epoch_ns(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::values::Span;

    /// Whatever is asked for, the packets that may be sent in a second stay within the rate.
    #[test]
    fn the_rate_holds_by_construction() {
        for targets in [1, 10, 5_000] {
            for rate in [1, 10, 100, 1_000, 100_000] {
                for max_hops in [1, 16, 30, 64] {
                    for wait in [Duration::from_millis(100), Duration::from_secs(3)] {
                        let args =
                            ProbeArgs { rate, max_hops, wait: Span(wait), ..ProbeArgs::default() };
                        let plan = Plan::new(&args, targets);
                        let sent = f64::from(plan.tracers) * f64::from(max_hops)
                            / plan.round.0.as_secs_f64();
                        assert!(sent <= f64::from(rate) * 1.001, "{targets} {args:?}: {plan:?}");
                        assert!(plan.tracers as usize <= targets.max(1), "{plan:?}");
                        assert!(plan.tracers <= TRACERS && plan.round.1 >= wait, "{plan:?}");
                    }
                }
            }
        }
    }

    /// Ports of tracers that run at the same time do not meet, and stay below trippy-core's limit.
    #[test]
    fn tracers_keep_to_their_own_ports() {
        let last = u32::from(FIRST_PORT) + (TRACERS - 1) * u32::from(SEQUENCES);
        assert!(last + 512 < 65_535, "{last}");
    }
}
