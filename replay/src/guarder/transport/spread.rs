//! What is seen at one host only when all sources are taken together: a scan by many, and a SYN flood over
//! all ports.
//!
//! **Sees**, per host, TCP connections begun in vain (refused, or not answered):
//! - **scan by many**: within five minutes, 50 or more ports tried by 10 or more sources of which none tried
//!   15 (those are scans of their own), in all at most four attempts a port;
//! - **flood**: within ten seconds, 1,000 or more by 100 or more sources to 100 or more ports.
//!
//! **Silent on** the background noise of the Internet (a few a minute), a service that is down (one port),
//! and file sharing (one port, many peers).

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::bounded::Bounded;
use crate::guarder::attempt::{Change, Turn};
use crate::guarder::detect::{About, Context, Detector};
use crate::guarder::evidence::{Distinct, Draft, Seen, listed};
use crate::view::detect::Finding;

const SCAN_NS: u64 = 300_000_000_000;
const SCAN_PORTS: usize = 50;
const SCAN_SOURCES: usize = 10;
/// As many as make a scan of one source.
const ALONE: usize = 15;
const FLOOD_NS: u64 = 10_000_000_000;
const FLOOD: u64 = 1_000;
const FLOOD_SPREAD: usize = 100;
const HOSTS: usize = 2_048;
const REMEMBERED: usize = 1_024;

#[derive(Debug)]
struct Vain {
    start: u64,
    attempts: u64,
    ports: Distinct<u16>,
    sources: BTreeMap<IpAddr, usize>,
    by_source: Distinct<(IpAddr, u16)>,
    seen: Seen,
}

impl Vain {
    fn new(start: u64) -> Self {
        Self {
            start,
            attempts: 0,
            ports: Distinct::new(REMEMBERED),
            sources: BTreeMap::new(),
            by_source: Distinct::new(4 * REMEMBERED),
            seen: Seen::default(),
        }
    }

    fn add(&mut self, change: &Change) {
        let (source, port) = (change.client.ip(), change.server.port());
        self.attempts += 1;
        self.ports.add(port);
        if self.by_source.add((source, port))
            && (self.sources.len() < REMEMBERED || self.sources.contains_key(&source))
        {
            *self.sources.entry(source).or_default() += 1;
        }
        self.seen.at(change.at, change.journey);
    }

    fn is_scan(&self) -> bool {
        self.ports.len() >= SCAN_PORTS
            && self.sources.len() >= SCAN_SOURCES
            && self.sources.values().all(|ports| *ports < ALONE)
            && self.attempts <= self.ports.len() as u64 * 4
    }

    fn is_flood(&self) -> bool {
        self.attempts >= FLOOD
            && self.ports.len() >= FLOOD_SPREAD
            && self.sources.len() >= FLOOD_SPREAD
    }
}

#[derive(Debug)]
struct Host {
    scan: Vain,
    flood: Vain,
    /// The worst ten seconds that were a flood.
    worst: Option<Vain>,
}

#[derive(Debug)]
pub(super) struct Spread {
    hosts: Bounded<IpAddr, Host>,
}

impl Default for Spread {
    fn default() -> Self {
        Self { hosts: Bounded::new(HOSTS) }
    }
}

impl Host {
    fn settle(&mut self, next: u64) {
        let flood = std::mem::replace(&mut self.flood, Vain::new(next));
        if flood.is_flood()
            && self.worst.as_ref().is_none_or(|worst| worst.attempts < flood.attempts)
        {
            self.worst = Some(flood);
        }
    }
}

impl Detector for Spread {
    fn about(&self) -> About {
        About {
            id: "spread",
            sees: "50 or more ports of a host tried in vain by ten or more sources together, and 1,000 \
                   or more connections begun in vain over 100 or more ports within ten seconds; silent on \
                   background noise, a service that is down and file sharing.",
        }
    }

    fn attempt(&mut self, change: &Change) {
        if change.protocol != 6 || !matches!(change.turn, Turn::Refused | Turn::Unanswered) {
            return;
        }
        let at = change.at;
        let fresh = || Host { scan: Vain::new(at), flood: Vain::new(at), worst: None };
        let host = self.hosts.entry_or_forget(change.server.ip(), fresh);
        if at.saturating_sub(host.scan.start) > SCAN_NS && !host.scan.is_scan() {
            host.scan = Vain::new(at);
        }
        if at.saturating_sub(host.flood.start) > FLOOD_NS {
            host.settle(at);
        }
        host.scan.add(change);
        host.flood.add(change);
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let hosts = std::mem::replace(&mut self.hosts, Bounded::new(1)).into_oldest_first();
        let mut findings = Vec::new();
        for (host, mut seen) in hosts {
            seen.settle(0);
            if let Some(flood) = &seen.worst {
                findings.push(conclude(host, flood, true, context));
            } else if seen.scan.is_scan() {
                findings.push(conclude(host, &seen.scan, false, context));
            }
        }
        findings
    }
}

fn conclude(host: IpAddr, vain: &Vain, flood: bool, context: &Context<'_>) -> Finding {
    let title = if flood {
        format!(
            "{host} got {} SYNs over {} ports within ten seconds.",
            vain.attempts,
            vain.ports.count()
        )
    } else {
        format!(
            "{} ports of {host} were tried in vain by {} sources together.",
            vain.ports.count(),
            vain.sources.len()
        )
    };
    let most = vain.sources.values().max().copied().unwrap_or(0);
    Draft {
        id: if flood { "syn-flood" } else { "port-scan" },
        severity: if flood { "high" } else { "medium" },
        doubt: if flood { None } else { Some("medium: no source alone tried as many ports as a scan does") },
        title,
        evidence: vec![
            format!("{} attempts by {} sources, at most {most} ports each.", vain.attempts, vain.sources.len()),
            format!("Ports: {}.", listed(vain.ports.iter().map(ToString::to_string), 20)),
        ],
        effect: "not observable: what they learned together is not in view.".to_owned(),
        advice: "Limit new connections to the host as a whole, and drop rather than refuse at the border.",
        actors: vain.sources.keys().take(5).map(|ip| format!("{ip} (unproven: may be forged)")).collect(),
        targets: vec![host.to_string()],
        seen: &vain.seen,
        references: if flood {
            &["RFC 4987", "CVE-1999-0116", "MITRE ATT&CK T1498.001"]
        } else {
            &["MITRE ATT&CK T1046", "MITRE ATT&CK T1595.001"]
        },
    }
    .finding(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyzer::tcp::{ACK, RST, SYN};
    use crate::guarder::scene::Scene;
    use crate::sample;

    /// So many attempts over so many sources and ports, all refused.
    fn run(attempts: u32, sources: u32, ports: u32, gap_ms: u64) -> Vec<String> {
        let mut scene = Scene::of(Spread::default());
        for i in 0..attempts {
            let from =
                format!("192.0.{}.{}:{}", i % sources / 250, i % sources % 250 + 1, 10_000 + i);
            let to = format!("10.0.0.2:{}", 1 + i % ports);
            let at = u64::from(i) * gap_ms;
            scene.headers(at, &sample::tcp(&from, &to, SYN, 1, 0, 0));
            scene.headers(at, &sample::tcp(&to, &from, RST | ACK, 0, 2, 0));
        }
        scene.ids()
    }

    #[test]
    fn many_together_are_a_scan_or_a_flood() {
        assert_eq!(run(100, 20, 100, 1_000), ["port-scan"]);
        assert!(run(100, 9, 100, 1_000).iter().all(|id| id != "port-scan"), "too few sources");
        assert!(run(300, 10, 300, 500).is_empty(), "each of them alone is a scan");
        assert!(run(49, 20, 49, 1_000).is_empty(), "too few ports");
        assert!(run(1_000, 200, 1, 100).is_empty(), "a service that is down");
        assert!(run(400, 200, 50, 100).is_empty(), "a few ports of a host that is down");
        assert_eq!(run(2_000, 200, 2_000, 5), ["syn-flood"]);
        assert!(
            run(2_000, 200, 90, 5).is_empty(),
            "few ports: the flood of one listener is told elsewhere"
        );
    }
}
