//! Three hosts, each recorded alone: a packet's way through a router that translates its address is one journey.
#![cfg(all(target_os = "linux", feature = "live"))]

mod netns;

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use netns::recording::{Recording, json, psc};
use netns::{Host, join, live};
use serde_json::Value;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 2);

/// Client, router with source NAT, server.
fn line() -> [Host; 3] {
    let [client, router, server] = ["mc", "mr", "ms"].map(Host::new);
    join((&client, "c0", &["10.1.0.2/24"]), (&router, "r0", &["10.1.0.1/24"]));
    join((&router, "r1", &["10.2.0.1/24"]), (&server, "s0", &["10.2.0.2/24"]));
    client.ip(&["route", "add", "default", "via", "10.1.0.1"]);
    router.sysctl("net.ipv4.ip_forward", "1");
    router.sh(&[
        "nft",
        "add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; }; \
         add rule ip nat post oifname r1 masquerade",
    ]);
    [client, router, server]
}

/// One exchange of numbered datagrams; gives how many came back.
fn exchange(client: &Host, server: &Host) -> u64 {
    let here = server.run(|| UdpSocket::bind((SERVER, 5000)).expect("bind"));
    let wait = Some(Duration::from_secs(5));
    here.set_read_timeout(wait).expect("timeout");
    let there = client.run(|| UdpSocket::bind("0.0.0.0:0").expect("bind"));
    there.set_read_timeout(wait).expect("timeout");
    let mut back = 0;
    for number in 0..8_u8 {
        let mut room = [0; 8];
        there.send_to(&[number; 5], (SERVER, 5000)).expect("send");
        let (len, from) = here.recv_from(&mut room).expect("comes");
        here.send_to(&room[..len], from).expect("answer");
        back += u64::from(there.recv_from(&mut room).is_ok());
    }
    back
}

/// The ways between hosts that a journey tells: from, to, and (least, by the clocks, most) in nanoseconds.
fn transits(journey: &Value) -> Vec<(String, String, [u64; 3])> {
    let passages = journey["passages"].as_array().expect("passages");
    let host = passages.iter().filter(|passage| passage["kind"] == "host");
    host.map(|passage| {
        let [from, to] = ["from", "to"].map(|end| passage[end].as_str().unwrap().to_owned());
        let transit = &passage["transit"];
        let times = ["least_ns", "took_ns", "most_ns"];
        (from, to, times.map(|name| transit[name].as_u64().expect("bounded both ways")))
    })
    .collect()
}

#[test]
fn one_packet_on_three_hosts_is_one_ladder_through_nat() {
    if !live("one_packet_on_three_hosts_is_one_ladder_through_nat") {
        return;
    }
    let [client, router, server] = line();
    client.sh(&["ping", "-c", "3", "-i", "0.2", "-w", "5", "-q", "10.2.0.2"]);
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = |name: &str| dir.path().join(format!("{name}.psc"));
    let hosts = [("client", &client), ("router", &router), ("server", &server)];
    let recordings =
        hosts.map(|(name, host)| Recording::start(&path(name), &["--netns", &host.name]));
    let came_back = exchange(&client, &server);
    for recording in recordings {
        let (ok, said) = recording.stop();
        assert!(ok && said.contains("no event lost"), "{said}");
    }
    let merged = path("merged");
    let mut merge = psc();
    merge.arg("merge").args(hosts.map(|(name, _)| path(name))).arg("-o").arg(&merged);
    let out = merge.args(["--format", "json"]).output().expect("psc merge");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let said: Value = serde_json::from_slice(&out.stdout).expect("json");
    // One kernel, one clock: the truth is 0, and no bound may exclude it.
    for row in said["recordings"].as_array().expect("rows").iter().skip(1) {
        let bound = |name: &str| row[name].as_i64().unwrap_or_else(|| panic!("{name}: {row}"));
        assert!(bound("lower_ns") <= 0 && 0 <= bound("upper_ns"), "{row}");
    }
    let names: Vec<_> =
        said["recordings"].as_array().unwrap().iter().map(|row| row["host"].clone()).collect();
    assert_eq!(names, ["client", "router", "server"], "one host name, three files");

    assert_eq!(came_back, 8);
    let view = json(&["trace"], &merged, &["--limit", "1000", "-f", "udp.dstport == 5000"]);
    let there = view["exemplars"].as_array().expect("journeys");
    assert_eq!(there.len(), 8, "one journey a datagram");
    for journey in there {
        check(journey, &["c0 (client/", "r0 (router/", "r1 (router/", "s0 (server/"]);
        let nat = journey["passages"].as_array().unwrap().iter();
        let nat: Vec<_> = nat.filter(|passage| passage["kind"] == "source NAT").collect();
        assert!(
            nat.len() == 1 && nat[0]["to"].as_str().unwrap().starts_with("10.2.0.1:"),
            "{nat:?}"
        );
    }
    let view = json(&["trace"], &merged, &["--limit", "1000", "-f", "udp.srcport == 5000"]);
    let back = view["exemplars"].as_array().expect("journeys");
    assert_eq!(back.len(), 8);
    for journey in back {
        check(journey, &["s0 (server/", "r1 (router/", "r0 (router/", "c0 (client/"]);
    }
    text(&merged);
}

/// Two ways between hosts, through these devices, each possible.
fn check(journey: &Value, devices: &[&str; 4]) {
    let transits = transits(journey);
    assert_eq!(transits.len(), 2, "{journey:#}");
    for ((from, to, [least, took, most]), ends) in transits.iter().zip(devices.chunks(2)) {
        assert!(from.starts_with(ends[0]) && to.starts_with(ends[1]), "{from} > {to}");
        assert!(least <= took && took <= most, "{least} {took} {most}");
    }
    // By one clock, the time between the last transmit and the arrival is the true one.
    let steps = journey["steps"].as_array().expect("steps");
    assert!(steps.is_sorted_by_key(|step| step["at"].as_u64()));
    assert_eq!(journey["ambiguous"], "");
}

fn text(merged: &Path) {
    let filter = ["-f", "udp.dstport == 5000"];
    let out = psc().arg("trace").arg(merged).args(filter).output().expect("psc trace");
    let page = String::from_utf8(out.stdout).expect("text");
    assert!(page.contains("by the merged clocks") && page.contains("for certain"), "{page}");
}
