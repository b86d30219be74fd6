//! Recordings of hosts that change: namespaces that appear while recording, processes in containers.
#![cfg(all(target_os = "linux", feature = "live"))]
#![allow(clippy::disallowed_methods, reason = "recording happens in real time")]

mod netns;

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use netns::recording::{Recording, json};
use netns::{Host, Pair, live};
use psc_formats::archive::Reader;
use psc_formats::{Batch, EventSource, Progress, Tables};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// Facts at the end of a recording.
fn tables(path: &Path) -> Tables {
    let mut reader = Reader::open(path).expect("archive opens");
    let (mut tables, mut batch) = (Tables::default(), Batch::default());
    loop {
        batch.clear();
        let progress = reader.fill(&mut batch).expect("archive reads");
        batch.facts.iter().for_each(|fact| tables.apply(fact));
        if progress == Progress::End {
            return tables;
        }
    }
}

/// Sends `count` datagrams to a port of the server where nobody listens.
fn refused(client: &Host, count: u32) {
    client.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
        for _ in 0..count {
            socket.send_to(b"hello", (SERVER, 9)).expect("send");
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

#[test]
fn a_namespace_that_appears_while_recording_is_recorded_with_its_name() {
    if !live("a_namespace_that_appears_while_recording_is_recorded_with_its_name") {
        return;
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("late.psc");
    let recording = Recording::start(&path, &["--facts-interval", "500ms"]);
    let pair = Pair::new();
    // A device just brought up may drop the first packet, and what waits for ARP then waits a second.
    pair.client.sh(&["ping", "-c", "3", "-i", "0.2", "-w", "5", "-q", "10.77.0.2"]);
    refused(&pair.client, 4);
    std::thread::sleep(Duration::from_millis(800));
    let (ok, said) = recording.stop();
    assert!(ok, "{said}");

    let tables = tables(&path);
    for (host, device) in [(&pair.client, "c0"), (&pair.server, "s0")] {
        let known = tables
            .devices
            .values()
            .find(|fact| fact.netns_name == host.name && fact.name == device);
        let address = known.and_then(|fact| fact.addresses.first().cloned());
        assert!(address.is_some_and(|a| a.starts_with("10.77.0.")), "{}: {known:?}", host.name);
    }
    let drops = json(&["analyze"], &path, &["-f", "udp.dstport == 9"]);
    let row = drops["drops"]
        .as_array()
        .expect("rows")
        .iter()
        .find(|row| row["reason"] == "NO_SOCKET" && row["netns"] == pair.server.name.as_str());
    assert_eq!(row.map(|row| &row["packets"]), Some(&4.into()), "{:#}", drops["drops"]);
}

/// A control group as a container engine names it, removed at the end.
struct Container(PathBuf);

const ID: &str = "4f2c6d0e9a1b8c7d6e5f4a3b2c1d0e9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d";

impl Container {
    /// `None` on a host whose control groups cannot be written.
    fn new() -> Option<Self> {
        let root = fs::read_to_string("/proc/mounts").ok()?.lines().find_map(|line| {
            let mut words = line.split(' ');
            let (_, at, kind) = (words.next()?, words.next()?, words.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(at))
        })?;
        let path = root.join(format!("docker-{ID}.scope"));
        fs::create_dir(&path).ok()?;
        Some(Self(path))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_process_in_a_container_is_known_by_the_containers_id() {
    const NAME: &str = "a_process_in_a_container_is_known_by_the_containers_id";
    if !live(NAME) {
        return;
    }
    let Some(container) = Container::new() else {
        println!("SKIPPED (live) {NAME}: control groups (version 2) cannot be written here");
        return;
    };
    let pair = Pair::new();
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("container.psc");
    let recording = Recording::start(&path, &["--netns", &pair.client.name]);
    // The shell joins the group, then becomes the one who sends.
    let join = format!(
        "echo $$ > {}/cgroup.procs && exec ip netns exec {} ping -c 5 -i 0.1 -q {SERVER}",
        container.0.display(),
        pair.client.name
    );
    let status = Command::new("sh").args(["-c", &join]).stdout(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()));
    let (ok, said) = recording.stop();
    assert!(ok, "{said}");

    let tables = tables(&path);
    let pings: Vec<_> = tables.tasks.values().filter(|task| task.comm == "ping").collect();
    assert!(!pings.is_empty(), "{:?}", tables.tasks);
    for task in pings {
        assert_eq!(task.container, ID, "{task:?}");
        assert!(task.cgroup.contains("docker-"), "{task:?}");
    }
}

#[test]
fn one_side_of_a_veth_keeps_its_packets_apart() {
    if !live("one_side_of_a_veth_keeps_its_packets_apart") {
        return;
    }
    let pair = Pair::new();
    pair.client.sh(&["ping", "-c", "3", "-i", "0.2", "-w", "5", "-q", "10.77.0.2"]);
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("side.psc");
    let recording = Recording::start(&path, &["--netns", &pair.client.name]);
    // What the far side does with the skb is left out, so most ends are not seen and buffers are reused.
    refused(&pair.client, 60);
    std::thread::sleep(Duration::from_millis(200));
    let (ok, said) = recording.stop();
    assert!(ok, "{said}");

    let view = json(&["trace"], &path, &["--limit", "10000", "-f", "udp.dstport == 9"]);
    let journeys = view["exemplars"].as_array().expect("journeys");
    assert_eq!(journeys.len(), 60, "each datagram is a journey of its own");
    for journey in journeys {
        let probes = journey["steps"].as_array().expect("steps").iter().map(|step| &step["probe"]);
        let count = |name: &str| probes.clone().filter(|probe| *probe == name).count();
        assert_eq!(count("net:net_dev_queue"), 1, "{journey:#}");
        assert_eq!(
            count("net:net_dev_xmit"),
            1,
            "the driver's answer is of this side: {journey:#}"
        );
    }
}
