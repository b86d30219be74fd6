//! Scans, and clients that look like one at first sight.

use psc_formats::packet::{Icmp, Quoted};

use super::*;
use crate::engine::Pass;
use crate::guarder::Detectors;
use crate::sample::{self, Feed};

const SCANNER: &str = "10.0.0.9";
const HOST: &str = "10.0.0.2";
const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

struct Scene {
    feed: Feed,
    detectors: Detectors,
    at: u64,
    port: u16,
}

impl Scene {
    fn new() -> Self {
        let detectors = Detectors::of(vec![Box::new(PortScan::default())]);
        Self { feed: Feed::default(), detectors, at: 0, port: 40_000 }
    }

    fn frame(&mut self, headers: &psc_formats::packet::Headers) {
        self.at += MS;
        self.feed.frame(&mut self.detectors, self.at, headers);
    }

    /// A connection attempt from a new source port; returns the source.
    fn syn(&mut self, source: &str, server: &str) -> String {
        self.port += 1;
        let source = format!("{source}:{}", self.port);
        self.frame(&sample::tcp(&source, server, SYN, 100, 0, 0));
        source
    }

    fn refused(&mut self, source: &str, server: &str) {
        let source = self.syn(source, server);
        self.frame(&sample::tcp(server, &source, RST | ACK, 0, 101, 0));
    }

    fn connected(&mut self, source: &str, server: &str) {
        let source = self.syn(source, server);
        self.frame(&sample::tcp(server, &source, SYN | ACK, 900, 101, 0));
        self.frame(&sample::tcp(&source, server, ACK, 101, 901, 0));
    }

    fn unreachable(&mut self, source: &str, server: &str) {
        let sent = sample::udp(&format!("{source}:5000"), server, 1);
        self.frame(&sent);
        let tuple = sent.tuple().expect("tuple");
        let quoted = Quoted { tuple, ip_id: 0, ttl: 1, tcp_seq: None, echo: None, udp: None };
        let icmp = Icmp { icmp_type: 3, code: 3, checksum: 0, rest: 0, quoted: Some(quoted) };
        self.frame(&sample::icmp(server.split(':').next().expect("host"), source, icmp));
    }

    fn wait(&mut self, ns: u64) {
        self.at += ns;
        self.frame(&sample::udp("10.9.9.9:1", "10.9.9.8:2", 1));
    }

    fn findings(mut self) -> Vec<Finding> {
        self.wait(4 * SECOND);
        let mut pass = Pass { tables: self.feed.tables.clone(), ..Pass::default() };
        pass.provenance.completeness.lost = Some(0);
        self.detectors.finish(&self.feed.manifest, &pass).findings
    }
}

#[test]
fn a_syn_scan_of_one_host_is_found_with_what_it_learned() {
    let mut scene = Scene::new();
    for port in 1..=100 {
        if port == 22 || port == 80 {
            let server = format!("{HOST}:{port}");
            let source = scene.syn(SCANNER, &server);
            scene.frame(&sample::tcp(&server, &source, SYN | ACK, 900, 101, 0));
            scene.frame(&sample::tcp(&source, &server, RST, 101, 0, 0));
        } else {
            scene.refused(SCANNER, &format!("{HOST}:{port}"));
        }
    }
    let found = scene.findings();
    assert_eq!(found.len(), 1);
    let finding = &found[0];
    assert_eq!(finding.title, "10.0.0.9 tried 98 ports of 10.0.0.2 in vain.");
    assert!(finding.evidence[0].starts_with("98 of 100 attempts failed: 98 refused"));
    assert!(finding.evidence.iter().any(|e| e == "Found open: tcp/22, tcp/80."));
    assert_eq!((finding.severity.as_str(), finding.confidence.as_str()), ("medium", "high"));
    assert!(finding.actors[0].contains("may be forged"), "half-open scans prove no address");
    assert_eq!(finding.targets, [HOST]);
    assert_eq!((finding.packets, finding.journeys.len()), (100, 5));
}

#[test]
fn thresholds_are_exact() {
    for (ports, found) in [(14, 0), (15, 1)] {
        let mut scene = Scene::new();
        for port in 1..=ports {
            scene.refused(SCANNER, &format!("{HOST}:{port}"));
        }
        assert_eq!(scene.findings().len(), found, "{ports} ports");
    }
    for (hosts, found) in [(24, 0), (25, 1)] {
        let mut scene = Scene::new();
        for host in 1..=hosts {
            scene.refused(SCANNER, &format!("10.1.0.{host}:445"));
        }
        assert_eq!(scene.findings().len(), found, "{hosts} hosts");
    }
}

#[test]
fn filtered_ports_make_a_scan_of_lower_confidence() {
    let mut scene = Scene::new();
    for port in 1..=40 {
        scene.syn(SCANNER, &format!("{HOST}:{port}"));
    }
    let found = scene.findings();
    assert_eq!(found.len(), 1);
    assert!(found[0].confidence.starts_with("medium: nearly all"));
    assert!(found[0].evidence[0].contains("40 unanswered"));
}

#[test]
fn honest_traffic_to_the_same_host_does_not_hide_a_scan() {
    let mut scene = Scene::new();
    for _ in 0..500 {
        scene.connected(SCANNER, &format!("{HOST}:443"));
    }
    for port in 1..=20 {
        scene.refused(SCANNER, &format!("{HOST}:{port}"));
    }
    assert_eq!(scene.findings().len(), 1);
}

#[test]
fn a_connect_scan_proves_its_source() {
    let mut scene = Scene::new();
    for port in 1..=20 {
        scene.refused(SCANNER, &format!("{HOST}:{port}"));
    }
    scene.connected(SCANNER, &format!("{HOST}:22"));
    assert!(scene.findings()[0].actors[0].contains("proven by 1 completed"));
}

#[test]
fn udp_and_stealth_scans_are_found() {
    let mut scene = Scene::new();
    for port in 1..=20 {
        scene.unreachable(SCANNER, &format!("{HOST}:{port}"));
    }
    assert_eq!(scene.findings().len(), 1);
    for flags in [0, FIN, FIN | PSH_URG] {
        let mut scene = Scene::new();
        for port in 1..=20 {
            let probe =
                sample::tcp(&format!("{SCANNER}:7"), &format!("{HOST}:{port}"), flags, 1, 0, 0);
            scene.frame(&probe);
        }
        let found = scene.findings();
        assert_eq!(found.len(), 1, "flags {flags:#x}");
        assert!(found[0].evidence[0].contains("20 segments that no TCP sends"));
    }
}

#[test]
fn a_udp_scan_is_found_though_icmp_is_rate_limited() {
    for (refused, found) in [(6, 1), (0, 0)] {
        let mut scene = Scene::new();
        for port in 1..=60 {
            let server = format!("{HOST}:{port}");
            if port <= refused {
                scene.unreachable(SCANNER, &server);
            } else {
                scene.frame(&sample::udp(&format!("{SCANNER}:5000"), &server, 1));
            }
        }
        let findings = scene.findings();
        assert_eq!(findings.len(), found, "{refused} refused");
        if let Some(finding) = findings.first() {
            assert!(
                finding.evidence[0]
                    .starts_with("60 of 60 attempts failed: 6 refused, 54 unanswered")
            );
        }
    }
}

#[test]
fn a_slow_server_whose_answers_come_late_is_left_alone() {
    let mut scene = Scene::new();
    for n in 0..60 {
        let client = format!("10.0.0.1:{}", 50_000 + n);
        scene.frame(&sample::udp(&client, "10.0.0.53:53", 30));
        let late = sample::udp("10.0.0.53:53", &client, 90);
        scene.frame(&late);
        let tuple = late.tuple().expect("tuple");
        let quoted = Quoted { tuple, ip_id: 0, ttl: 1, tcp_seq: None, echo: None, udp: None };
        let icmp = Icmp { icmp_type: 3, code: 3, checksum: 0, rest: 0, quoted: Some(quoted) };
        scene.frame(&sample::icmp("10.0.0.1", "10.0.0.53", icmp));
    }
    assert!(scene.findings().is_empty());
}

#[test]
fn the_stack_confirms_what_it_answered() {
    let mut scene = Scene::new();
    scene.feed.manifest.origin = Origin::Kernel;
    for port in 1..=20 {
        scene.refused(SCANNER, &format!("{HOST}:{port}"));
        let tuple = sample::tcp(&format!("{HOST}:{port}"), &format!("{SCANNER}:7"), RST, 0, 0, 0)
            .tuple()
            .expect("tuple");
        let reset = sample::event(scene.at, EventKind::SendReset { tuple, reason: 0 });
        scene.feed.bare(&mut scene.detectors, reset);
    }
    assert!(
        scene.findings()[0].effect.starts_with("confirmed: the stack answered it with 20 resets")
    );
}

#[test]
fn slower_than_the_window_it_is_not_seen() {
    let mut scene = Scene::new();
    for port in 1..=60 {
        scene.refused(SCANNER, &format!("{HOST}:{port}"));
        scene.wait(600 * SECOND);
    }
    assert!(scene.findings().is_empty());
}

#[test]
fn benign_twins_are_left_alone() {
    let mut busy_client = Scene::new();
    let mut nat_office = Scene::new();
    let mut health_checks = Scene::new();
    let mut dead_service = Scene::new();
    let mut traceroute = Scene::new();
    for n in 0..200_u16 {
        busy_client.connected("10.0.0.1", "10.0.0.2:80");
        // Many users behind one address: now and then a host is gone.
        let host = format!("10.{}.{}.1:443", 2 + n / 100, n % 100);
        if n % 7 == 0 {
            nat_office.refused("192.0.2.1", &host);
        } else {
            nat_office.connected("192.0.2.1", &host);
        }
        health_checks.connected("10.0.0.5", &format!("10.4.0.{}:8080", n % 40));
        dead_service.refused("10.0.0.1", "10.0.0.2:5432");
        traceroute.unreachable("10.0.0.1", &format!("10.0.0.2:{}", 33434 + n % 100));
    }
    for (name, scene) in [
        ("busy client", busy_client),
        ("NAT office", nat_office),
        ("health checks", health_checks),
        ("dead service", dead_service),
        ("UDP traceroute", traceroute),
    ] {
        assert!(scene.findings().is_empty(), "{name}");
    }
}

#[test]
fn backscatter_of_a_flood_elsewhere_is_no_scan() {
    let mut scene = Scene::new();
    for n in 1..=200 {
        scene.frame(&sample::tcp(
            &format!("10.5.0.{n}:80"),
            &format!("{HOST}:{n}"),
            SYN | ACK,
            1,
            2,
            0,
        ));
        scene.frame(&sample::tcp(&format!("10.5.0.{n}:80"), &format!("{HOST}:{n}"), RST, 1, 2, 0));
    }
    assert!(scene.findings().is_empty());
}

#[test]
fn a_scan_of_one_port_in_four_minutes_is_found_within_two_hours() {
    // (ports, closed ones among every ten, found)
    for (ports, closed, found) in [(20, 10, 1), (14, 10, 0), (20, 5, 0)] {
        let mut scene = Scene::new();
        for port in 1..=ports {
            scene.wait(240 * SECOND);
            let server = format!("{HOST}:{port}");
            if port % 10 < closed {
                scene.refused(SCANNER, &server);
            } else {
                scene.connected(SCANNER, &server);
            }
        }
        let findings = scene.findings();
        assert_eq!(findings.len(), found, "{ports} ports, {closed} of ten closed");
        assert!(findings.iter().all(|f| f.evidence.iter().any(|e| e.starts_with("Kind: slow"))));
    }
}
