//! Backscatter: what a host that is flooded elsewhere answers to addresses that never asked (Moore,
//! Voelker, Savage: Inferring Internet Denial-of-Service Activity, 2001).
//!
//! **Sees** SYN-ACKs from one port of a host to 100 or more addresses within a minute, none of which had
//! asked, and to which nothing else is ever said.
//!
//! **Silent on** what a server says in a capture of one direction (it goes on to say more), and on late or
//! repeated SYN-ACKs.

use std::net::{IpAddr, SocketAddr};

use psc_formats::FiveTuple;

use crate::analyzer::tcp::{ACK, RST, SYN};
use crate::bounded::Bounded;
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Distinct, Draft};
use crate::guarder::watch::{Tally, Watch};
use crate::view::detect::Finding;

const WINDOW_NS: u64 = 60_000_000_000;
const ADDRESSES: usize = 100;
const SERVERS: usize = 1_024;
const ANSWERS: usize = 65_536;

#[derive(Debug)]
struct Answers {
    to: Distinct<IpAddr>,
    /// Said more, or were answered.
    lived: Distinct<IpAddr>,
}

impl Tally for Answers {
    fn new() -> Self {
        Self { to: Distinct::new(4_096), lived: Distinct::new(4_096) }
    }
    fn is_attack(&self) -> bool {
        self.to.len() >= ADDRESSES && self.lived.len() * 10 <= self.to.len()
    }
    fn merge(&mut self, later: Self) {
        self.to.merge(later.to);
        self.lived.merge(later.lived);
    }
}

#[derive(Debug)]
pub(super) struct Backscatter {
    servers: Watch<SocketAddr, Answers>,
    /// Unasked SYN-ACKs, by their tuple.
    open: Bounded<FiveTuple, ()>,
}

impl Default for Backscatter {
    fn default() -> Self {
        Self { servers: Watch::new(SERVERS, WINDOW_NS), open: Bounded::new(ANSWERS) }
    }
}

impl Detector for Backscatter {
    fn about(&self) -> About {
        About {
            id: "backscatter",
            sees: "SYN-ACKs of one server to 100 or more addresses that never asked; silent on captures of \
                   one direction, where it goes on to say more.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let (Some(tcp), Some(tuple)) = (packet.headers.tcp(), packet.headers.tuple()) else {
            return;
        };
        let server = SocketAddr::new(tuple.src, tuple.sport);
        if tcp.flags & (SYN | ACK | RST) == SYN | ACK {
            if packet.flows.get(&tuple).is_none() {
                self.open.entry_or_forget(tuple, || ());
                self.servers.of(server, packet.at).add(packet, |answers| {
                    answers.to.add(tuple.dst);
                });
            }
        } else if self.open.get(&tuple).is_some() {
            if tcp.flags & RST == 0
                && let Some(watched) = self.servers.known(&server)
            {
                watched.note(|answers| {
                    answers.lived.add(tuple.dst);
                });
            }
        } else if tcp.flags & RST == 0 && self.open.get(&tuple.reversed()).is_some() {
            let server = SocketAddr::new(tuple.dst, tuple.dport);
            if let Some(watched) = self.servers.known(&server) {
                watched.note(|answers| {
                    answers.lived.add(tuple.src);
                });
            }
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let found = self.servers.finish();
        found
            .into_iter()
            // At one host, this is reflection, which another detector tells.
            .map(|(server, watched)| {
                let answers = &watched.attack;
                Draft {
                    id: "backscatter",
                    severity: "low",
                    doubt: Some("medium: where only what this server says is in view, short connections look the same"),
                    title: format!("{server} answers {} addresses that never asked.", answers.to.count()),
                    evidence: vec![
                        format!("{} SYN-ACKs in the worst minute, none followed by anything.", watched.peak),
                        "Somebody floods it with SYNs in the name of these addresses.".to_owned(),
                    ],
                    effect: "confirmed: it answered each of them.".to_owned(),
                    advice: "Nothing is wrong here; the flooded server can answer with SYN cookies.",
                    actors: vec!["somebody who forges these addresses".to_owned()],
                    targets: vec![server.to_string()],
                    seen: &watched.evidence,
                    references: &["RFC 4987", "MITRE ATT&CK T1498.001"],
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
    fn answers_to_nobody_by_the_hundred() {
        for (n, asked, goes_on, found) in [
            (100_u32, false, false, 1),
            (99, false, false, 0),
            (300, true, false, 0),
            (300, false, true, 0),
        ] {
            let mut scene = Scene::of(Backscatter::default());
            for i in 0..n {
                let client = format!("10.0.{}.{}:{}", i / 250, i % 250 + 1, 20_000 + i);
                let at = u64::from(i) * 10;
                if asked {
                    scene.headers(at, &sample::tcp(&client, "192.0.2.80:80", SYN, 1, 0, 0));
                }
                scene.headers(at, &sample::tcp("192.0.2.80:80", &client, SYN | ACK, 9, 2, 0));
                if goes_on {
                    scene.headers(at, &sample::tcp("192.0.2.80:80", &client, ACK, 10, 2, 500));
                }
            }
            assert_eq!(scene.ids().len(), found, "{n} {asked} {goes_on}");
        }
    }
}
