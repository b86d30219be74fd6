//! HTTP floods (Hulk, GoldenEye, LOIC): one client that asks faster than anybody reads.
//!
//! **Sees**, per client and server, 900 or more requests within ten seconds of which nine in ten are for
//! the same page, or nine in ten for another each (to get past caches).
//!
//! **Silent on** crawlers (a few a second), and proxies and address translation, behind which many ask for
//! what is popular: some pages often, others once, and on what a host asks itself. A load test is a flood
//! that is meant.

use std::net::{IpAddr, SocketAddr};

use psc_formats::Manifest;

use crate::bounded::Top;
use crate::guarder::detect::{About, Context, Detector, Packet, needs_payload};
use crate::guarder::evidence::{Distinct, Draft, hash};
use crate::guarder::watch::{Tally, Watch};
use crate::view::detect::Finding;

const WINDOW_NS: u64 = 10_000_000_000;
const REQUESTS: u64 = 900;
const KEYS: usize = 2_048;

#[derive(Debug)]
struct Requests {
    asked: u64,
    pages: Distinct<u64>,
    top: Top<u64>,
    connections: Distinct<u16>,
}

impl Tally for Requests {
    fn new() -> Self {
        Self {
            asked: 0,
            pages: Distinct::new(2_048),
            top: Top::new(16),
            connections: Distinct::new(2_048),
        }
    }
    fn is_attack(&self) -> bool {
        let same = self.top.most(1).first().map_or(0, |(_, n)| *n);
        let different = self.pages.len() as u64;
        self.asked >= REQUESTS
            && (same * 10 >= self.asked * 9 || different * 10 >= self.asked.min(2_048) * 9)
    }
    fn merge(&mut self, later: Self) {
        self.asked += later.asked;
        self.pages.merge(later.pages);
        self.connections.merge(later.connections);
        for (page, n) in later.top.most(16) {
            self.top.add(page, n);
        }
    }
}

#[derive(Debug)]
pub(super) struct HttpFlood {
    pairs: Watch<(IpAddr, SocketAddr), Requests>,
}

impl Default for HttpFlood {
    fn default() -> Self {
        Self { pairs: Watch::new(KEYS, WINDOW_NS) }
    }
}

/// Method and target of a request.
fn page(payload: &[u8]) -> Option<&[u8]> {
    let begins = [&b"GET "[..], b"POST ", b"HEAD "].iter().any(|m| payload.starts_with(m));
    let line = payload.split(|byte| *byte == b'\r' || *byte == b'\n').next()?;
    (begins && line.windows(6).any(|part| part == b" HTTP/")).then_some(line)
}

impl Detector for HttpFlood {
    fn about(&self) -> About {
        About {
            id: "http-flood",
            sees: "900 or more HTTP requests of one client within ten seconds, nearly all for one page \
                   or all for different ones; silent on crawlers, proxies and address translation.",
        }
    }

    fn blind(&self, manifest: &Manifest) -> String {
        needs_payload(manifest)
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let (Some(_), Some(tuple)) = (packet.headers.tcp(), packet.headers.tuple()) else { return };
        let Some(page) = page(packet.payload()).filter(|_| !tuple.dst.is_loopback()) else {
            return;
        };
        let page = hash(page);
        let key = (tuple.src, SocketAddr::new(tuple.dst, tuple.dport));
        self.pairs.of(key, packet.at).add(packet, |requests| {
            requests.asked += 1;
            requests.pages.add(page);
            requests.top.add(page, 1);
            requests.connections.add(tuple.sport);
        });
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let found = self.pairs.finish();
        found
            .into_iter()
            .map(|((client, server), watched)| {
                let requests = &watched.attack;
                Draft {
                    id: "http-flood",
                    severity: "medium",
                    doubt: Some("medium: a load test looks the same"),
                    title: format!("{client} asked {server} for {} pages.", requests.asked),
                    evidence: vec![
                        format!("{} requests in the worst ten seconds.", watched.peak),
                        format!(
                            "{} different pages over {} connections.",
                            requests.pages.count(),
                            requests.connections.count()
                        ),
                    ],
                    effect: "not observable: how the server fared is not in its packets.".to_owned(),
                    advice: "Limit requests per address (nginx: limit_req), and cache what is the same.",
                    actors: vec![format!("{client} (proven by completed handshakes)")],
                    targets: vec![server.to_string()],
                    seen: &watched.evidence,
                    references: &["MITRE ATT&CK T1499.002", "CWE-770"],
                }
                .finding(context)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, ip, tcp};

    #[test]
    fn one_page_or_never_the_same_and_quickly() {
        for (name, n, different, gap_ms, found) in [
            ("random pages", 900_u32, 900, 10, 1),
            ("one page", 900, 1, 10, 1),
            ("too few", 899, 1, 10, 0),
            ("slower", 2_000, 2_000, 50, 0),
            ("what is popular", 600, 60, 10, 0),
        ] {
            let mut scene = Scene::of(HttpFlood::default());
            for i in 0..n {
                let line = format!("GET /?{} HTTP/1.1\r\nHost: a\r\n\r\n", i % different);
                let segment = tcp((20_000 + i as u16, 80), 0x18, 1, 1, &[], line.as_bytes());
                let frame = ip((A, B), "192.0.2.1", "10.0.0.2", 6, &segment);
                scene.frame(u64::from(i) * gap_ms, &frame);
            }
            assert_eq!(scene.ids().len(), found, "{name}");
        }
    }
}
