//! Random names below one domain, asked of a server that has to look each of them up (water torture,
//! pseudo-random subdomain attack).
//!
//! **Sees**, per server and registered domain, 500 or more answers "no such name" within ten seconds, each
//! for another name.
//!
//! **Silent on** a busy resolver, block lists asked by a mail server (fewer than 50 a second are not listed)
//! and the same wrong name asked over and over.

use std::net::IpAddr;

use psc_formats::Manifest;

use super::dns_tunnel::to_server;
use crate::dns;
use crate::guarder::detect::{About, Context, Detector, Packet, needs_payload};
use crate::guarder::evidence::{Distinct, Draft, hash};
use crate::guarder::watch::{Tally, Watch};
use crate::view::detect::Finding;

const WINDOW_NS: u64 = 10_000_000_000;
const NAMES: usize = 500;
const KEYS: usize = 1_024;
const NO_SUCH_NAME: u8 = 3;

#[derive(Debug)]
struct Unknown {
    names: Distinct<u64>,
    clients: Distinct<IpAddr>,
}

impl Tally for Unknown {
    fn new() -> Self {
        Self { names: Distinct::new(1_024), clients: Distinct::new(1_024) }
    }
    fn is_attack(&self) -> bool {
        self.names.len() >= NAMES
    }
    fn merge(&mut self, later: Self) {
        self.names.merge(later.names);
        self.clients.merge(later.clients);
    }
}

#[derive(Debug)]
pub(super) struct DnsFlood {
    domains: Watch<(IpAddr, String), Unknown>,
}

impl Default for DnsFlood {
    fn default() -> Self {
        Self { domains: Watch::new(KEYS, WINDOW_NS) }
    }
}

impl Detector for DnsFlood {
    fn about(&self) -> About {
        About {
            id: "dns-flood",
            sees: "500 or more different names below one domain within ten seconds that do not exist; \
                   silent on busy resolvers, block lists and one wrong name asked again and again.",
        }
    }

    fn blind(&self, manifest: &Manifest) -> String {
        needs_payload(manifest)
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        if to_server(packet) != Some(false) {
            return;
        }
        let Some((server, client)) = packet.headers.addresses() else { return };
        let Some(message) = packet.dns.filter(|m| m.response && m.rcode == NO_SUCH_NAME) else {
            return;
        };
        let (domain, below) = dns::split(&message.name);
        if below.is_empty() {
            return;
        }
        self.domains.of((server, domain.to_owned()), packet.at).add(packet, |unknown| {
            unknown.names.add(hash(below.as_bytes()));
            unknown.clients.add(client);
        });
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let found = self.domains.finish();
        found
            .into_iter()
            .map(|((server, domain), watched)| {
                let unknown = &watched.attack;
                Draft {
                    id: "dns-flood",
                    severity: "medium",
                    doubt: None,
                    title: format!(
                        "{server} was asked for {} names below {domain} that do not exist.",
                        unknown.names.count()
                    ),
                    evidence: vec![
                        format!("{} addresses asked.", unknown.clients.count()),
                        format!("{} such answers in the worst ten seconds.", watched.peak),
                    ],
                    effect: "confirmed: it answered each of them.".to_owned(),
                    advice: "Answer from cached proofs of absence (RFC 8198), limit answers per client and \
                             per domain.",
                    actors: unknown.clients.iter().take(5).map(|c| format!("{c} (unproven)")).collect(),
                    targets: vec![server.to_string(), domain.clone()],
                    seen: &watched.evidence,
                    references: &["RFC 8198", "RFC 9520", "MITRE ATT&CK T1499.003"],
                }
                .finding(context)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, ip, udp};

    #[test]
    fn names_that_do_not_exist_by_the_hundred() {
        for (n, different, rcode, found) in
            [(500_u32, true, 3, 1), (499, true, 3, 0), (2000, false, 3, 0), (2000, true, 0, 0)]
        {
            let mut scene = Scene::of(DnsFlood::default());
            for i in 0..n {
                let name = format!("r{}.victim.example", if different { i } else { 7 });
                let body = dns::message(1, 0x8180 | rcode, &name, 1, &[]);
                let frame = ip((A, B), "192.0.2.53", "10.0.0.9", 17, &udp(53, 4000, &body));
                scene.frame(u64::from(i) * 2, &frame);
            }
            assert_eq!(scene.ids().len(), found, "{n} {different} {rcode}");
        }
    }
}
