//! A port scan of which only the refusals are in view: a capture of what one host sends, or of one way of an
//! asymmetric path.
//!
//! **Sees** resets that acknowledge a SYN of nothing else (sequence number 0, RFC 9293 section 3.10.7.1) from 30 or
//! more ports of one host to one client within five minutes, when nothing of the client is in view.
//!
//! **Silent on** backscatter (few ports, many clients), a service that is down (one port), and where the client's own
//! packets are in view, which are judged as attempts.

use std::net::IpAddr;

use crate::analyzer::tcp::{ACK, RST};
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Distinct, Draft, listed};
use crate::guarder::watch::{Tally, Watch};
use crate::view::detect::Finding;

const WINDOW_NS: u64 = 300_000_000_000;
const PORTS: usize = 30;
const PAIRS: usize = 2_048;

#[derive(Debug)]
struct Refusals(Distinct<u16>);

impl Tally for Refusals {
    fn new() -> Self {
        Self(Distinct::new(1_024))
    }
    fn is_attack(&self) -> bool {
        self.0.len() >= PORTS
    }
    fn merge(&mut self, later: Self) {
        self.0.merge(later.0);
    }
}

#[derive(Debug)]
pub(super) struct Refused {
    pairs: Watch<(IpAddr, IpAddr), Refusals>,
}

impl Default for Refused {
    fn default() -> Self {
        Self { pairs: Watch::new(PAIRS, WINDOW_NS) }
    }
}

impl Detector for Refused {
    fn about(&self) -> About {
        About {
            id: "refused-scan",
            sees: "a host refusing connections to 30 or more of its ports to a client that is out of view; \
                   silent on backscatter, a service that is down and clients in view.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let (Some(tcp), Some(tuple)) = (packet.headers.tcp(), packet.headers.tuple()) else {
            return;
        };
        if tcp.flags & 0x3f == RST | ACK && tcp.seq == 0 && !packet.flows.sends(tuple.dst) {
            self.pairs.of((tuple.dst, tuple.src), packet.at).add(packet, |refusals| {
                refusals.0.add(tcp.sport);
            });
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let found = self.pairs.finish();
        found
            .into_iter()
            .map(|((client, host), watched)| {
                let ports = &watched.attack.0;
                Draft {
                    id: "port-scan",
                    severity: "medium",
                    doubt: Some("medium: what the client sends is not in view"),
                    title: format!("{host} refused {client} at {} ports.", ports.count()),
                    evidence: vec![format!(
                        "Refused: {}.",
                        listed(ports.iter().map(ToString::to_string), 20)
                    )],
                    effect: "not observable: what was open did not refuse.".to_owned(),
                    advice: "Limit what is reachable from there.",
                    actors: vec![format!("{client} (unproven: it may be somebody in its name)")],
                    targets: vec![host.to_string()],
                    seen: &watched.evidence,
                    references: &["MITRE ATT&CK T1046", "RFC 9293 section 3.10.7.1"],
                }
                .finding(context)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::Scene;
    use crate::sample;

    #[test]
    fn refusals_of_many_ports_to_one_client_are_a_scan() {
        for (name, ports, clients, in_view, found) in [
            ("a scan", 30, 1, false, 1),
            ("fewer", 29, 1, false, 0),
            ("a service that is down", 1, 1, false, 0),
            ("backscatter", 2, 60, false, 0),
            ("in view", 30, 1, true, 0),
        ] {
            let mut scene = Scene::of(Refused::default());
            for n in 0..60_u32 {
                let (a, b) = (
                    format!("10.0.0.2:{}", 1 + n % ports),
                    format!("192.0.2.{}:4000", 1 + n % clients),
                );
                if in_view {
                    scene.headers(u64::from(n), &sample::tcp(&b, &a, 2, 5, 0, 0));
                }
                scene.headers(u64::from(n), &sample::tcp(&a, &b, RST | ACK, 0, 6, 0));
            }
            assert_eq!(scene.ids().len(), found, "{name}");
        }
    }
}
