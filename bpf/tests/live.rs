//! Records real traffic in namespaces of its own and compares with the kernel's own counters.
#![cfg(target_os = "linux")]

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;

use psc_bpf::{LiveSource, Options, Profile};
use psc_formats::event::EventKind;
use psc_formats::manifest::ProbeStatus;
use psc_formats::{Batch, Context, EventSource as _, Progress, Tables};

/// Skips, unless the environment says that it must run.
fn skip(why: &str) {
    assert!(std::env::var_os("PSC_REQUIRE_LIVE").is_none(), "PSC_REQUIRE_LIVE is set, but {why}");
    eprintln!("skipped: {why}");
}

fn ip(arguments: &str) -> bool {
    Command::new("ip").args(arguments.split(' ')).status().is_ok_and(|status| status.success())
}

/// One namespace with loopback up, removed on drop.
struct Space(String);

impl Space {
    fn new() -> Option<Self> {
        let space = Self(format!("pscbt{}", std::process::id()));
        (ip(&format!("netns add {}", space.0)) && ip(&format!("-n {} link set lo up", space.0)))
            .then_some(space)
    }

    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        use std::os::fd::AsRawFd as _;
        let path = format!("/run/netns/{}", self.0);
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let file = std::fs::File::open(path).expect("namespace");
                // SAFETY: an open descriptor; affects this thread alone, which ends here.
                let rc = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
                assert_eq!(rc, 0, "setns: {}", std::io::Error::last_os_error());
                work()
            });
            thread.join().expect("thread inside the namespace")
        })
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        ip(&format!("netns del {}", self.0));
    }
}

fn drain(source: &mut LiveSource, tables: &mut Tables) -> Vec<psc_formats::Event> {
    let (mut batch, mut events) = (Batch::default(), Vec::new());
    loop {
        batch.clear();
        let progress = source.fill(&mut batch).expect("fill");
        batch.facts.iter().for_each(|fact| tables.apply(fact));
        events.append(&mut batch.events);
        match progress {
            Progress::More => {}
            Progress::Idle => std::thread::sleep(source.pause()),
            Progress::End => return events,
        }
    }
}

/// What `sent` datagrams to a port that nobody has become.
fn record_refused(
    options: Options,
    space: &Space,
    sent: u64,
) -> Option<(LiveSource, Tables, Vec<psc_formats::Event>)> {
    let mut source = match LiveSource::start(options) {
        Ok(source) => source,
        Err(e) => {
            skip(&e.to_string());
            return None;
        }
    };
    let mut tables = Tables::default();
    source.snapshot_facts().iter().for_each(|fact| tables.apply(fact));
    space.inside(|| {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        for number in 0..sent {
            socket.send_to(&number.to_be_bytes(), (Ipv4Addr::LOCALHOST, 9)).expect("send");
        }
    });
    source.snapshot_facts().iter().for_each(|fact| tables.apply(fact));
    source.stop();
    let events = drain(&mut source, &mut tables);
    Some((source, tables, events))
}

fn no_ports(tables: &Tables) -> u64 {
    let of = |fact: &psc_formats::fact::CountersFact| fact.values.get("UdpNoPorts").copied();
    let netns = tables.devices.values().find(|d| d.netns_name.starts_with("pscbt"));
    let netns = netns.expect("the namespace's loopback").netns;
    let mut values = tables.counters.iter().filter(|fact| fact.netns == netns).filter_map(of);
    let first = values.next().expect("a snapshot at start");
    values.next_back().expect("a snapshot at end") - first
}

#[test]
fn every_refused_datagram_is_one_drop_and_so_says_the_kernel() {
    const SENT: u64 = 3000;
    let Some(space) = Space::new() else { return skip("no namespace could be made") };
    for aggregate_over in [0, 100] {
        let options = Options {
            namespaces: vec![space.0.clone()],
            aggregate_over,
            profile: Profile::Default,
            ..Options::default()
        };
        let Some((source, tables, events)) = record_refused(options, &space, SENT) else { return };
        let loss = source.loss();
        assert_eq!(loss.ring_full.iter().sum::<u64>(), 0, "{loss:?}");

        let mut drops = 0;
        let mut counted = 0;
        let mut numbers = Vec::new();
        for event in &events {
            match event.kind {
                EventKind::Free { reason, location }
                    if source.manifest().drop_reason(reason) == "NO_SOCKET" =>
                {
                    drops += 1;
                    assert_eq!(event.context, Context::Softirq);
                    assert!(tables.location(location).contains("rcv"), "{event:?}");
                }
                EventKind::Repeated { count, .. } => counted += count,
                EventKind::DeviceQueue {} => numbers.push(event.content),
                _ => {}
            }
        }
        assert_eq!(no_ports(&tables), SENT, "the kernel's own count");
        assert_eq!(drops + counted, SENT, "stored {drops}, counted {counted}");
        assert_eq!(loss.aggregated, counted);
        assert_eq!(counted > 0, aggregate_over > 0, "stored {drops}, counted {counted}");
        // Payloads differ, so contents do: the fingerprint tells datagrams apart.
        numbers.sort_unstable();
        numbers.dedup();
        assert!(numbers.len() as u64 >= SENT - 5, "{} contents", numbers.len());

        // Numbers of a CPU leave no gap where nothing was lost.
        let cpus = events.iter().map(|event| event.cpu).max().unwrap_or(0);
        for cpu in 0..=cpus {
            let mut seen: Vec<u64> = events
                .iter()
                .filter(|event| {
                    event.cpu == cpu && !matches!(event.kind, EventKind::Repeated { .. })
                })
                .map(|event| event.seq)
                .collect();
            assert!(seen.is_sorted(), "cpu {cpu} is in order");
            seen.dedup();
            assert_eq!(seen.len() as u64, loss.written[usize::from(cpu)], "cpu {cpu}");
        }
    }
}

#[test]
fn the_full_profile_attaches_what_this_kernel_has() {
    let options = Options { profile: Profile::Full, ..Options::default() };
    let mut source = match LiveSource::start(options) {
        Ok(source) => source,
        Err(e) => return skip(&e.to_string()),
    };
    source.stop();
    for probe in &source.manifest().probes {
        match &probe.status {
            ProbeStatus::Attached => {}
            // Absent tracepoints are no fault; programs that do not load are.
            ProbeStatus::Failed(why) => assert!(!why.starts_with("load"), "{}: {why}", probe.name),
            // Function probes and netfilter links are asked for by themselves.
            ProbeStatus::Unwanted => {
                assert_ne!(probe.method, "tp_btf", "{}: the full profile wants all", probe.name);
            }
        }
    }
    assert!(!source.manifest().drop_reasons.is_empty());
}
