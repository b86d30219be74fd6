//! Routes through namespaces: what psc probes, and what it finds in the recording of other tools' runs, against
//! what Debian's traceroute and mtr say about the same network.

mod netns;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::process::Stdio;

use netns::recording::{Recording, json};
use netns::{Host, join, live};
use serde_json::Value;

/// A client, routers in a row and a server. Link `n` is 10.66.n.0/24 and fd66:n::/64: the end nearer to the
/// client is .1, the farther .2. Errors come from the router's end nearer to the client.
struct Chain {
    client: Host,
    routers: Vec<Host>,
    server: Host,
}

fn address(link: usize, end: usize) -> String {
    format!("10.66.{link}.{end}")
}

fn address6(link: usize, end: usize) -> String {
    format!("fd66:{link}::{end}")
}

/// Answers without limit, but where a test wants one.
fn talkative(host: &Host) {
    host.sysctl("net.ipv4.icmp_ratelimit", "0");
    host.sysctl("net.ipv6.icmp.ratelimit", "0");
    host.sysctl("net.ipv4.icmp_msgs_burst", "10000");
    host.sysctl("net.ipv4.icmp_msgs_per_sec", "100000");
}

fn router(name: &str) -> Host {
    let host = Host::new(name);
    host.sysctl("net.ipv4.ip_forward", "1");
    host.sysctl("net.ipv6.conf.all.forwarding", "1");
    talkative(&host);
    host
}

fn link(near: &Host, far: &Host, number: usize) {
    let ends =
        |end| [format!("{}/24", address(number, end)), format!("{}/64", address6(number, end))];
    let (a, b) = (ends(1), ends(2));
    let (up, down) = (format!("up{number}"), format!("dn{number}"));
    join((near, &up, &[&a[0], &a[1]]), (far, &down, &[&b[0], &b[1]]));
}

impl Chain {
    fn new(length: usize) -> Self {
        let chain = Self {
            client: Host::new("c"),
            routers: (1..=length).map(|n| router(&format!("r{n}"))).collect(),
            server: Host::new("s"),
        };
        talkative(&chain.server);
        let all: Vec<&Host> =
            [&chain.client].into_iter().chain(&chain.routers).chain([&chain.server]).collect();
        for (number, pair) in all.windows(2).enumerate() {
            link(pair[0], pair[1], number);
        }
        for (at, host) in all.iter().enumerate() {
            if at < length + 1 {
                host.ip(&["route", "add", "default", "via", &address(at, 2)]);
                host.ip(&["-6", "route", "add", "default", "via", &address6(at, 2)]);
            }
            if at > 1 {
                host.ip(&["route", "add", "10.66.0.0/24", "via", &address(at - 1, 1)]);
                host.ip(&["-6", "route", "add", "fd66:0::/64", "via", &address6(at - 1, 1)]);
            }
        }
        chain
    }

    fn target(&self, v6: bool) -> String {
        let last = self.routers.len();
        if v6 { address6(last, 2) } else { address(last, 2) }
    }

    /// Addresses by hop, up to the server.
    fn truth(&self, v6: bool) -> Vec<BTreeSet<IpAddr>> {
        let end = |link| if v6 { address6(link, 2) } else { address(link, 2) };
        (0..=self.routers.len())
            .map(|link| BTreeSet::from([end(link).parse().expect("address")]))
            .collect()
    }
}

/// Runs a tool to its end, whatever its exit status: an unreached target is a result.
fn out(host: &Host, words: &[&str]) -> String {
    let out = host.command(words[0]).args(&words[1..]).stderr(Stdio::piped()).output();
    let out = out.unwrap_or_else(|error| panic!("{}: {error}", words[0]));
    assert!(!out.stdout.is_empty(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// What traceroute prints: addresses by hop, and the times it gives, in milliseconds.
fn traceroute(host: &Host, words: &[&str]) -> BTreeMap<u8, (BTreeSet<IpAddr>, Vec<f64>)> {
    let mut all = vec!["traceroute", "-n", "-w", "0.7", "-N", "8"];
    all.extend(words);
    let text = out(host, &all);
    let mut hops = BTreeMap::new();
    for line in text.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(Ok(ttl)) = words.first().map(|word| word.parse::<u8>()) else { continue };
        let addresses = words[1..].iter().filter_map(|word| word.parse::<IpAddr>().ok()).collect();
        let times = words.windows(2).filter(|pair| pair[1] == "ms");
        let times = times.filter_map(|pair| pair[0].parse().ok()).collect();
        hops.insert(ttl, (addresses, times));
    }
    hops
}

/// What `mtr --report` prints: address (none when silent) and loss in percent by hop.
fn mtr(host: &Host, words: &[&str]) -> BTreeMap<u8, (Option<IpAddr>, f64)> {
    let mut all = vec!["mtr", "-n", "-r", "-c", "6", "-i", "0.2", "-G", "1"];
    all.extend(words);
    let text = out(host, &all);
    let mut hops = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(ttl) = words.first().and_then(|word| word.split(".|").next()?.parse::<u8>().ok())
        else {
            continue;
        };
        let loss = words.iter().find_map(|word| word.strip_suffix('%')?.parse::<f64>().ok());
        hops.insert(ttl, (words.get(1).and_then(|word| word.parse().ok()), loss.unwrap_or(100.0)));
    }
    hops
}

/// The route to `target` by `protocol` in a located recording.
fn route<'a>(view: &'a Value, target: &str, protocol: &str) -> &'a Value {
    let routes = view["routes"].as_array().expect("routes");
    let found =
        routes.iter().find(|route| route["target"] == *target && route["protocol"] == *protocol);
    found.unwrap_or_else(|| panic!("no {protocol} route to {target}: {:#}", view["routes"]))
}

fn nodes(hop: &Value) -> BTreeSet<IpAddr> {
    let nodes = hop["nodes"].as_array().expect("nodes").iter();
    nodes.map(|node| node["address"].as_str().expect("text").parse().expect("address")).collect()
}

/// Addresses by TTL.
fn hops(route: &Value) -> BTreeMap<u8, BTreeSet<IpAddr>> {
    let hops = route["hops"].as_array().expect("hops").iter();
    hops.map(|hop| (hop["ttl"].as_u64().expect("ttl") as u8, nodes(hop))).collect()
}

fn addresses(hops: &BTreeMap<u8, (BTreeSet<IpAddr>, Vec<f64>)>) -> BTreeMap<u8, BTreeSet<IpAddr>> {
    hops.iter().map(|(ttl, hop)| (*ttl, hop.0.clone())).collect()
}

fn numbered(truth: &[BTreeSet<IpAddr>]) -> BTreeMap<u8, BTreeSet<IpAddr>> {
    (1..).zip(truth.iter().cloned()).collect()
}

/// `psc locate --probe` from `host`, kept in `file`, as JSON.
fn probe(host: &Host, file: &Path, words: &[&str]) -> Value {
    let out = host
        .command(env!("CARGO_BIN_EXE_psc"))
        .args(["locate", "--probe"])
        .args(words)
        .args(["--rate", "1500", "--wait", "500ms", "--format", "json", "-q", "--save"])
        .arg(file)
        .output()
        .expect("psc");
    assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("JSON")
}

/// Twelve routers, both families, all kinds of probes: psc's own probing, traceroute and mtr agree, and the
/// recording of all of it says the same again.
#[test]
fn a_chain_of_twelve_is_the_same_to_everybody() {
    if !live("a_chain_of_twelve_is_the_same_to_everybody") {
        return;
    }
    let chain = Chain::new(12);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("chain.psc");
    let recording = Recording::start(&file, &["--netns", &chain.client.name]);
    let mut times = BTreeMap::new();
    for v6 in [false, true] {
        let (target, truth) = (chain.target(v6), numbered(&chain.truth(v6)));
        // Neighbours first: the time to find them is nobody's latency.
        out(&chain.client, &["ping", "-c", "2", "-i", "0.2", &target]);
        let tool = traceroute(&chain.client, &[&target]);
        assert_eq!(addresses(&tool), truth, "traceroute itself");
        times.insert(v6, tool);
        let icmp = traceroute(&chain.client, &["-I", &target]);
        assert_eq!(addresses(&icmp), truth, "traceroute -I itself");
        let tcp = traceroute(&chain.client, &["-T", "-p", "81", &target]);
        assert_eq!(addresses(&tcp), truth, "traceroute -T itself");
        let report = mtr(&chain.client, &[&target]);
        assert_eq!(report.len(), 13, "mtr itself: {report:?}");
        assert!(report.values().all(|hop| hop.1 == 0.0), "mtr itself: {report:?}");
    }
    let (fine, said) = recording.stop();
    assert!(fine, "{said}");

    let view = json(&["locate"], &file, &[]);
    for v6 in [false, true] {
        let (target, truth) = (chain.target(v6), numbered(&chain.truth(v6)));
        for protocol in ["udp", "icmp", "tcp"] {
            let route = route(&view, &target, protocol);
            assert_eq!(hops(route), truth, "recorded, {protocol} to {target}");
            assert_eq!(route["reached"], 13, "{protocol} to {target}");
            assert_eq!(route["evidence"], "recorded packets");
            assert_eq!(route["sent"], route["answered"], "nothing was lost: {route:#}");
        }
        // The tool's times contain ours: it counts from its own system call.
        for hop in route(&view, &target, "udp")["hops"].as_array().unwrap() {
            let ttl = hop["ttl"].as_u64().unwrap() as u8;
            let most = times[&v6][&ttl].1.iter().copied().fold(0.0, f64::max);
            let least = hop["nodes"][0]["rtt"]["min"].as_u64().unwrap() as f64 / 1e6;
            assert!(
                least > 0.0 && least <= most + 0.05,
                "hop {ttl}: {least} ms, traceroute {most}"
            );
        }
        for (protocol, kind) in [("icmp", "icmp"), ("udp", "udp"), ("tcp", "tcp")] {
            let file = dir.path().join(format!("{v6}-{kind}.psc"));
            let words = [target.as_str(), "--protocol", kind, "--rounds", "3", "--port", "81"];
            let probed = probe(&chain.client, &file, &words);
            let found = route(&probed, &target, protocol);
            assert_eq!(hops(found), truth, "probed, {protocol} to {target}");
            assert_eq!(found["evidence"], "probe results");
            assert_eq!(found["sent"], found["answered"], "{protocol}: {found:#}");
            // What was kept says the same on another day.
            let again = json(&["locate"], &file, &[]);
            assert_eq!(again["routes"], probed["routes"]);
        }
    }
}

/// Two equal ways, each of two routers: all four are found, and no link leads from one way to the other.
#[test]
fn equal_ways_are_found_and_not_smeared() {
    if !live("equal_ways_are_found_and_not_smeared") {
        return;
    }
    // client -0- fork -1- a1 -2- a2 -3- join -7- server, and fork -4- b1 -5- b2 -6- join.
    let names = ["fork", "a1", "a2", "b1", "b2", "join"];
    let [fork, a1, a2, b1, b2, joint] = names.map(router);
    let (client, server) = (Host::new("c"), Host::new("s"));
    talkative(&server);
    let links = [
        (&client, &fork),
        (&fork, &a1),
        (&a1, &a2),
        (&a2, &joint),
        (&fork, &b1),
        (&b1, &b2),
        (&b2, &joint),
        (&joint, &server),
    ];
    for (number, (near, far)) in links.into_iter().enumerate() {
        link(near, far, number);
    }
    let ip = |host: &Host, words: &str| {
        host.ip(&words.split(' ').collect::<Vec<_>>());
    };
    fork.sysctl("net.ipv4.fib_multipath_hash_policy", "1");
    fork.sysctl("net.ipv6.fib_multipath_hash_policy", "1");
    for (six, default, address) in [
        ("", "default", address as fn(usize, usize) -> String),
        ("-6 ", "default", address6 as fn(usize, usize) -> String),
    ] {
        let home = if six.is_empty() { "10.66.0.0/24" } else { "fd66:0::/64" };
        for (host, link) in [(&client, 0), (&a1, 2), (&a2, 3), (&b1, 5), (&b2, 6), (&joint, 7)] {
            ip(host, &format!("{six}route add {default} via {}", address(link, 2)));
        }
        ip(
            &fork,
            &format!(
                "{six}route add {default} nexthop via {} nexthop via {}",
                address(1, 2),
                address(4, 2)
            ),
        );
        for (host, link) in [(&a1, 1), (&a2, 2), (&b1, 4), (&b2, 5), (&joint, 3), (&server, 7)] {
            ip(host, &format!("{six}route add {home} via {}", address(link, 1)));
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let recorded = dir.path().join("equal.psc");
    let recording = Recording::start(&recorded, &["--netns", &client.name]);
    let mut views = Vec::new();
    for (name, strategy, target) in [
        ("p4", "paris", address(7, 2)),
        ("d4", "dublin", address(7, 2)),
        ("p6", "paris", address6(7, 2)),
    ] {
        let file = dir.path().join(format!("{name}.psc"));
        let words = [target.as_str(), "--strategy", strategy, "--rounds", "24"];
        views.push((target.clone(), probe(&client, &file, &words)));
    }
    let (fine, said) = recording.stop();
    assert!(fine, "{said}");
    // Replayed from the packets alone, it is the same network.
    let packets = json(&["locate"], &recorded, &[]);
    views.push((address(7, 2), packets.clone()));
    views.push((address6(7, 2), packets));
    for (target, view) in views {
        let end = |link| -> IpAddr {
            let text = if target.contains(':') { address6(link, 2) } else { address(link, 2) };
            text.parse().unwrap()
        };
        let found = route(&view, &target, "udp");
        let two = |a, b| BTreeSet::from([end(a), end(b)]);
        let one = |a| BTreeSet::from([end(a)]);
        // The joint router answers from the link towards the client by its own table: link 3.
        let joint_addresses = hops(found)[&4].clone();
        assert!(joint_addresses.is_subset(&two(3, 6)), "{found:#}");
        let mut seen = hops(found);
        seen.remove(&4);
        let expected = BTreeMap::from([(1, one(0)), (2, two(1, 4)), (3, two(2, 5)), (5, one(7))]);
        assert_eq!(seen, expected, "{found:#}");
        let links: BTreeSet<(IpAddr, IpAddr)> = found["links"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|link| link["ttl"] == 2)
            .map(|link| {
                let end = |name: &str| link[name].as_str().unwrap().parse().unwrap();
                (end("from"), end("to"))
            })
            .collect();
        assert_eq!(links, BTreeSet::from([(end(1), end(2)), (end(4), end(5))]), "{found:#}");
        assert!(found["flows"].as_u64().unwrap() >= 24, "{}", found["flows"]);
    }
}

/// A silent router, one that limits its ICMP, a loop, a blackhole, address translation, a narrow link: told as
/// what they are, with hops as traceroute and mtr see them.
#[test]
fn what_is_wrong_with_a_way_is_told() {
    if !live("what_is_wrong_with_a_way_is_told") {
        return;
    }
    let chain = Chain::new(5);
    let r = |n: usize| &chain.routers[n - 1];
    // The third router never answers, the second once a second after a burst.
    r(3).sh(&["nft", "add", "table", "ip", "quiet"]);
    r(3).sh(&[
        "nft",
        "add",
        "chain",
        "ip",
        "quiet",
        "o",
        "{ type filter hook output priority 0 ; }",
    ]);
    r(3).sh(&["nft", "add", "rule", "ip", "quiet", "o", "ip", "protocol", "icmp", "drop"]);
    r(2).sysctl("net.ipv4.icmp_ratelimit", "1000");
    // 10.99.1.0/24 goes round between the fourth and the fifth, 10.99.2.0/24 ends in the fourth.
    r(5).ip(&["route", "add", "10.99.1.0/24", "via", &address(4, 1)]);
    r(4).ip(&["route", "add", "blackhole", "10.99.2.0/24"]);
    // 10.99.3.1 is the server, behind translation in the fifth.
    r(5).sh(&["nft", "add", "table", "ip", "nat"]);
    r(5).sh(&[
        "nft",
        "add",
        "chain",
        "ip",
        "nat",
        "p",
        "{ type nat hook prerouting priority -100 ; }",
    ]);
    r(5).sh(&[
        "nft",
        "add",
        "rule",
        "ip",
        "nat",
        "p",
        "ip",
        "daddr",
        "10.99.3.1",
        "dnat",
        "to",
        &address(5, 2),
    ]);
    // The link between the fourth and the fifth is narrow.
    r(4).ip(&["link", "set", "up4", "mtu", "1300"]);
    r(5).ip(&["link", "set", "dn4", "mtu", "1300"]);

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wrong.psc");
    let recording = Recording::start(&file, &["--netns", &chain.client.name]);
    let target = chain.target(false);
    let through = traceroute(&chain.client, &[&target]);
    let report = mtr(&chain.client, &[&target]);
    let looped = traceroute(&chain.client, &["-m", "12", "10.99.1.1"]);
    let hole = traceroute(&chain.client, &["-m", "10", "10.99.2.1"]);
    let nat = traceroute(&chain.client, &["10.99.3.1"]);
    let _ = chain
        .client
        .command("ping")
        .args(["-c", "1", "-W", "1", "-M", "do", "-s", "1400", &target])
        .output();
    let (fine, said) = recording.stop();
    assert!(fine, "{said}");
    let view = json(&["locate"], &file, &[]);

    let shown = |target: &str, tool: &BTreeMap<u8, (BTreeSet<IpAddr>, Vec<f64>)>| {
        let found = route(&view, target, "udp");
        for (ttl, addresses) in hops(found) {
            // What one run missed of a router that limits itself, the other may have seen.
            let theirs = &tool[&ttl].0;
            assert!(theirs.is_subset(&addresses), "{target} hop {ttl}: {theirs:?} {found:#}");
        }
        found.clone()
    };
    let straight = shown(&target, &through);
    assert_eq!(straight["reached"], 6);
    assert!(hops(&straight)[&3].is_empty(), "{straight:#}");
    let notes = straight["notes"].to_string();
    assert!(notes.contains("hop 3 never answers"), "{notes}");

    // mtr's losses, by its own probes: silence where it says so, and the limit of the second router.
    let icmp = route(&view, &target, "icmp");
    for hop in icmp["hops"].as_array().unwrap() {
        let ttl = hop["ttl"].as_u64().unwrap() as u8;
        let (sent, answered) = (hop["sent"].as_f64().unwrap(), hop["answered"].as_f64().unwrap());
        // The ping of the same protocol has no TTL of a probe, so these are mtr's own counts. Probes of
        // mtr's last round that it did not wait for are the difference of one.
        let loss = 100.0 * (sent - answered) / sent;
        assert!((loss - report[&ttl].1).abs() <= 20.0, "hop {ttl}: {loss} {report:?}");
        assert_eq!(nodes(hop).into_iter().next(), report[&ttl].0, "hop {ttl}");
    }

    let round = shown("10.99.1.1", &looped);
    let names: BTreeSet<IpAddr> = round["looped"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n.as_str().unwrap().parse().unwrap())
        .collect();
    assert!(!names.is_empty() && round["reached"].is_null(), "{round:#}");
    let black = shown("10.99.2.1", &hole);
    // The fourth throws it away before it looks at the TTL, the third is silent anyway.
    let last = hole.iter().filter(|(_, hop)| !hop.0.is_empty()).map(|(ttl, _)| *ttl).max();
    assert_eq!(black["silent_beyond"].as_u64(), last.map(u64::from), "{black:#}");
    assert_eq!(black["sent"], 30, "every probe was recorded: {black:#}");
    let translated = shown("10.99.3.1", &nat);
    assert_eq!(translated["reached"], 6, "{translated:#}");

    let part = |target: &str| -> String {
        let risks = view["risks"].as_array().unwrap();
        let risk = risks.iter().find(|risk| risk["target"] == *target && risk["score"] != 0);
        risk.map_or(String::new(), |risk| risk["parts"][0][0].as_str().unwrap().to_owned())
    };
    assert_eq!((part("10.99.1.1").as_str(), part("10.99.2.1").as_str()), ("loop", "blackhole"));

    let mtu = view["path_mtus"].as_array().unwrap().iter().find(|row| row["mtu"] == 1300);
    let mtu = mtu.unwrap_or_else(|| panic!("{:#}", view["path_mtus"]));
    assert_eq!(
        (mtu["peer"].as_str(), mtu["label"].as_str()),
        (Some(target.as_str()), Some("measured"))
    );
    assert!(mtu["evidence"].as_str().unwrap().starts_with(&address(3, 2)), "{mtu}");

    // A limit that many probes meet: psc's own, twenty rounds at once.
    let file = dir.path().join("limit.psc");
    let probed = probe(&chain.client, &file, &[&target, "--rounds", "20"]);
    let found = route(&probed, &target, "udp");
    let hop = &found["hops"][1];
    assert!(hop["answered"].as_u64() < hop["sent"].as_u64(), "{found:#}");
    assert_eq!(found["hops"][3]["answered"], found["hops"][3]["sent"], "{found:#}");
    let notes = found["notes"].to_string();
    assert!(notes.contains("hop 2 left") && notes.contains("limits its ICMP"), "{notes}");
}

/// Probing while recording, thousands of targets by standard input, and two hosts' results as one.
#[test]
fn many_targets_and_several_hosts_are_one_topology() {
    if !live("many_targets_and_several_hosts_are_one_topology") {
        return;
    }
    let chain = Chain::new(2);
    // A thousand addresses live on the server.
    let server = &chain.server;
    server.ip(&["addr", "add", "10.98.0.1/32", "dev", "lo"]);
    server.ip(&["route", "add", "local", "10.98.0.0/16", "dev", "lo"]);
    let dir = tempfile::tempdir().unwrap();
    let lines: Vec<String> =
        (0..400).map(|n| format!("10.98.{}.{} # {n}", n / 200, n % 200 + 1)).collect();
    let list = lines.join("\n");
    let targets = dir.path().join("targets.txt");
    std::fs::write(&targets, format!("{list}\n; the end\n")).unwrap();
    let many = dir.path().join("many.psc");
    let out = chain
        .client
        .command(env!("CARGO_BIN_EXE_psc"))
        .args(["locate", "--probe", "-", "--rounds", "1", "--max-hops", "4", "--wait", "200ms"])
        .args(["--rate", "4000", "--limit", "3", "--save"])
        .arg(&many)
        .stdin(std::fs::File::open(&targets).unwrap())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let view = json(&["locate"], &many, &["--limit", "1000"]);
    assert_eq!(view["peers"].as_array().unwrap().len(), 400);
    assert_eq!(
        view["routes"].as_array().unwrap().len() as u64 + view["routes_omitted"].as_u64().unwrap(),
        400
    );
    for route in view["routes"].as_array().unwrap() {
        assert_eq!(route["reached"], 3, "{route:#}");
    }

    // Recorded while probed: the facts stand, the packets are there too.
    let one = dir.path().join("one.psc");
    let recorded = chain
        .client
        .command(env!("CARGO_BIN_EXE_psc"))
        .args([
            "record",
            "--probe",
            &chain.target(false),
            "--rounds",
            "2",
            "--wait",
            "300ms",
            "--netns",
        ])
        .arg(&chain.client.name)
        .arg("-o")
        .arg(&one)
        .output()
        .unwrap();
    assert!(recorded.status.success(), "{}", String::from_utf8_lossy(&recorded.stderr));
    let first = json(&["locate"], &one, &[]);
    let found = route(&first, &chain.target(false), "udp");
    assert_eq!(hops(found), numbered(&chain.truth(false)));
    assert_eq!(found["evidence"], "probe results");
    assert_eq!(first["routes"].as_array().unwrap().len(), 1, "{:#}", first["routes"]);

    // The first router probes too; both files are one network.
    server.ip(&["route", "add", "10.66.1.0/24", "via", &address(2, 1)]);
    let two = dir.path().join("two.psc");
    probe(&chain.routers[0], &two, &[&chain.target(false), "--rounds", "2"]);
    let both = json(&["locate"], &one, &[two.to_str().unwrap()]);
    let routes = both["routes"].as_array().unwrap();
    assert_eq!(routes.len(), 2, "{routes:#?}");
    let last = |route: &Value| nodes(route["hops"].as_array().unwrap().last().unwrap());
    assert_eq!(last(&routes[0]), last(&routes[1]));
}
