//! What psc says of softirqs and of waits for a CPU against the kernel's own account of both.
#![cfg(all(target_os = "linux", feature = "live"))]
#![allow(missing_docs, clippy::disallowed_methods, reason = "tests")]

mod netns;

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use netns::recording::{Recording, json};
use netns::{Pair, live};
use serde_json::Value;

/// Runs of a softirq over all CPUs since boot.
fn softirqs(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/softirqs").expect("/proc/softirqs");
    let row = text.lines().find(|line| line.trim_start().starts_with(name)).expect("a row");
    row.split_whitespace().skip(1).map(|n| n.parse::<u64>().expect("a number")).sum()
}

fn rows<'a>(view: &'a Value, delay: &str) -> Vec<&'a Value> {
    let rows = view["delays"].as_array().expect("delays");
    rows.iter().filter(|row| row["delay"] == delay).collect()
}

#[test]
fn runs_of_the_receive_softirq_are_those_that_the_kernel_counts() {
    if !live("runs_of_the_receive_softirq_are_those_that_the_kernel_counts") {
        return;
    }
    let pair = Pair::new();
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("softirqs.psc");
    let outer = softirqs("NET_RX");
    let recording = Recording::start(&path, &["--profile", "full"]);
    let inner = softirqs("NET_RX");
    // Below 10 ms ping polls its socket, and each poll is an event: they would fill the rings.
    pair.client.sh(&["ping", "-q", "-i", "0.012", "-c", "500", "10.77.0.2"]);
    let least = softirqs("NET_RX") - inner;
    let (ok, said) = recording.stop();
    assert!(ok, "{said}");
    let most = softirqs("NET_RX") - outer;

    let view = json(&["analyze"], &path, &[]);
    assert_eq!(view["provenance"]["completeness"]["lost"], 0, "nothing was lost");
    let runs: u64 =
        rows(&view, "NET_RX run").iter().map(|row| row["latency"]["count"].as_u64().unwrap()).sum();
    assert!(least >= 500, "the echoes made softirqs: {least}");
    assert!(least <= runs && runs <= most, "psc says {runs}, the kernel {least} to {most}");
    // Each run but those under way at the start was raised in view, and none waits for ever.
    let waits = rows(&view, "NET_RX wait");
    let waited: u64 = waits.iter().map(|row| row["latency"]["count"].as_u64().unwrap()).sum();
    assert!(runs - waited <= 2 * waits.len() as u64, "{waited} waits of {runs} runs");
    let times = [rows(&view, "NET_RX run"), waits].concat();
    let total: u64 = times.iter().map(|row| row["total_ns"].as_u64().unwrap()).sum();
    let lasted = view["provenance"]["duration_ns"].as_u64().expect("nanoseconds");
    assert!(total < lasted * 2 * times.len() as u64, "{total} of {lasted}");
}

/// Nanoseconds that a thread of this process has waited for a CPU.
fn run_delay(tid: i32) -> u64 {
    let path = format!("/proc/self/task/{tid}/schedstat");
    let text = std::fs::read_to_string(path).expect("schedstat");
    text.split_whitespace().nth(1).expect("run delay").parse().expect("a number")
}

/// How often a thread of this process was taken off its CPU.
fn preemptions(tid: i32) -> u64 {
    let path = format!("/proc/self/task/{tid}/status");
    let text = std::fs::read_to_string(path).expect("status");
    let line = text.lines().find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"));
    line.expect("a count").trim().parse().expect("a number")
}

/// Puts the calling thread on one CPU.
fn pin(cpu: usize) {
    // SAFETY: an all-zero set is an empty one, and the set outlives the call.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &raw const set), 0, "affinity");
    }
}

#[test]
fn a_reader_beside_a_busy_process_waits_as_long_as_the_scheduler_says() {
    const TURNS: u32 = 60;
    if !live("a_reader_beside_a_busy_process_waits_as_long_as_the_scheduler_says") {
        return;
    }
    for needed in ["sys/kernel/tracing/events/sock/sk_data_ready", "proc/self/schedstat"] {
        if !std::path::Path::new("/").join(needed).exists() {
            return println!("this kernel has no {needed}");
        }
    }
    // Whether the reader has to wait is the scheduler's choice, which its own account tells; what psc says has to
    // agree each time.
    assert!((0..5).any(|_| reader_beside_a_busy_process(TURNS) > 1_000_000), "a busy CPU");
}

/// Wakes a reader so many times beside a busy thread; nanoseconds that it waited by the scheduler's account.
fn reader_beside_a_busy_process(turns: u32) -> u64 {
    let pair = Pair::new();
    let server = pair.server.run(|| UdpSocket::bind(("10.77.0.2", 7100)).expect("bind"));
    let client = pair.client.run(|| UdpSocket::bind("10.77.0.1:0").expect("bind"));
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("scheduling.psc");
    let (done, read) = (AtomicBool::new(false), AtomicU32::new(0));
    let waited = std::thread::scope(|scope| {
        let (give, tid) = std::sync::mpsc::channel();
        std::thread::Builder::new()
            .name("psc-reader".to_owned())
            .spawn_scoped(scope, || {
                pin(0);
                // SAFETY: a plain system call.
                let tid = unsafe { libc::gettid() };
                let give = give;
                give.send(tid).expect("the test waits");
                let mut bytes = [0; 64];
                while server.recv(&mut bytes).expect("read") > 1 {
                    read.fetch_add(1, Ordering::Release);
                }
            })
            .expect("a thread");
        let tid = tid.recv().expect("a thread id");
        let recording = Recording::start(&path, &["--profile", "full"]);
        scope.spawn(|| {
            pin(0);
            // A fair scheduler may let who slept go first; a real-time one makes the reader wait.
            // SAFETY: the parameters outlive the call.
            let rc = unsafe {
                let mut param: libc::sched_param = std::mem::zeroed();
                param.sched_priority = 1;
                libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param)
            };
            assert_eq!(rc, 0, "SCHED_FIFO: {}", std::io::Error::last_os_error());
            while !done.load(Ordering::Relaxed) {
                let begun = std::time::Instant::now();
                while begun.elapsed() < Duration::from_millis(4) {
                    std::hint::spin_loop();
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let before = (run_delay(tid), preemptions(tid));
        for turn in 0..turns {
            client.send_to(&[1; 32], "10.77.0.2:7100").expect("send");
            while read.load(Ordering::Acquire) <= turn {
                std::thread::sleep(Duration::from_millis(1));
            }
            // Not in step with the busy one.
            std::thread::sleep(Duration::from_millis(2 + u64::from(turn % 5)));
        }
        let waited = (run_delay(tid) - before.0, preemptions(tid) - before.1);
        done.store(true, Ordering::Relaxed);
        let (ok, said) = recording.stop();
        client.send_to(&[1], "10.77.0.2:7100").expect("send");
        assert!(ok, "{said}");
        waited
    });

    let view = json(&["analyze"], &path, &[]);
    let rows = rows(&view, "scheduling");
    let name = format!("psc-reader[{}]", std::process::id());
    let row = rows.iter().find(|row| row["of"] == name.as_str()).expect("the reader");
    let (said, times) =
        (row["total_ns"].as_u64().unwrap(), row["latency"]["count"].as_u64().unwrap());
    let (waited, preempted) = waited;
    println!(
        "psc says {said} ns in {times} waits, the scheduler {waited} with {preempted} preemptions"
    );
    assert!(times <= u64::from(turns) && times >= u64::from(turns) / 2, "{row:#}");
    // The scheduler's account begins a little later (the waking itself is not in it) and has what the reader
    // waited when it was preempted, each time for one turn of the busy one.
    let (said, account) = (said as f64, waited as f64);
    assert!(said <= account * 1.05 + f64::from(turns) * 50_000.0, "psc {said}, scheduler {waited}");
    let woken = account - preempted as f64 * 5_000_000.0;
    assert!(said >= woken * 0.7, "psc {said}, scheduler {waited}, {preempted} preemptions");
    waited
}
