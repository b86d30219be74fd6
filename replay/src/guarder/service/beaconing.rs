//! Regular contact: a host that opens a connection to the same place outside again and again, at one pace
//! and with much the same to say, as implants ask for orders.
//!
//! **Sees** 12 or more new TCP connections of one host to one address and port that is not private, whose
//! distances scatter by less than a fifth around their median of two seconds or more, and which send much
//! the same number of bytes (a quarter more or less) and fewer than 8 KiB each.
//!
//! Jitter of 20 % is what C2 frameworks are commonly run with; distances, sizes and their scatter are what
//! RITA scores. **Silent on** inner addresses, mail and name services, one long connection, and browsing.
//! Software that looks for updates does the same: it is told as information.

use std::net::{IpAddr, SocketAddr};

use psc_formats::FiveTuple;

use crate::bounded::Bounded;
use crate::guarder::attempt::{Change, Turn};
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Draft, Seen};
use crate::view::detect::Finding;

const TIMES: usize = 12;
const REMEMBERED: usize = 128;
const SHORTEST_NS: u64 = 2_000_000_000;
const LARGEST: u64 = 8_192;
const PAIRS: usize = 8_192;
const CONNECTIONS: usize = 16_384;
/// Mail is looked for by the minute, names and time are asked for, and machines deploy over SSH.
const ORDINARY: [u16; 10] = [22, 25, 53, 110, 123, 143, 465, 587, 993, 995];

#[derive(Debug, Default)]
struct Contact {
    times: Vec<u64>,
    sizes: Vec<u64>,
    seen: Seen,
}

#[derive(Debug)]
pub(super) struct Beaconing {
    pairs: Bounded<(IpAddr, SocketAddr), Contact>,
    /// Bytes sent by the client of open connections.
    open: Bounded<FiveTuple, u64>,
}

impl Default for Beaconing {
    fn default() -> Self {
        Self { pairs: Bounded::new(PAIRS), open: Bounded::new(CONNECTIONS) }
    }
}

fn is_outside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || shared)
        }
        IpAddr::V6(v6) => v6.segments()[0] & 0xe000 == 0x2000,
    }
}

/// Median, and the median distance from it.
fn spread(mut values: Vec<u64>) -> (u64, u64) {
    if values.is_empty() {
        return (0, 0);
    }
    values.sort_unstable();
    let median = values[values.len() / 2];
    let mut away: Vec<u64> = values.iter().map(|value| value.abs_diff(median)).collect();
    away.sort_unstable();
    // Nine in ten are at most so far away.
    (median, away[(away.len() * 9 / 10).min(away.len() - 1)])
}

impl Detector for Beaconing {
    fn about(&self) -> About {
        About {
            id: "beaconing",
            sees: "12 or more connections of one host to one place outside at one pace and with much the \
                   same to say; silent on inner addresses, mail, names, long connections and browsing.",
        }
    }

    fn attempt(&mut self, change: &Change) {
        if change.protocol != 6
            || change.turn != Turn::Completed
            || !is_outside(change.server.ip())
            || ORDINARY.contains(&change.server.port())
        {
            return;
        }
        let contact =
            self.pairs.entry_or_forget((change.client.ip(), change.server), Contact::default);
        if contact.times.len() < REMEMBERED {
            contact.times.push(change.at);
        }
        contact.seen.at(change.at, change.journey);
        let tuple = FiveTuple {
            protocol: 6,
            src: change.client.ip(),
            sport: change.client.port(),
            dst: change.server.ip(),
            dport: change.server.port(),
        };
        self.close(tuple);
        self.open.entry_or_forget(tuple, || 0);
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let (Some(tcp), Some(tuple)) = (packet.headers.tcp(), packet.headers.tuple()) else {
            return;
        };
        if let Some(bytes) = self.open.get_mut(&tuple) {
            *bytes += u64::from(packet.headers.payload_len);
        }
        if tcp.flags & (crate::analyzer::tcp::FIN | crate::analyzer::tcp::RST) != 0 {
            self.close(tuple);
            self.close(tuple.reversed());
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let pairs = std::mem::replace(&mut self.pairs, Bounded::new(1)).into_oldest_first();
        pairs
            .into_iter()
            .filter_map(|((client, server), contact)| conclude(client, server, contact, context))
            .collect()
    }
}

impl Beaconing {
    fn close(&mut self, tuple: FiveTuple) {
        let Some(bytes) = self.open.remove(&tuple) else { return };
        let server = SocketAddr::new(tuple.dst, tuple.dport);
        if let Some(contact) = self.pairs.get_mut(&(tuple.src, server))
            && contact.sizes.len() < REMEMBERED
        {
            contact.sizes.push(bytes);
        }
    }
}

fn conclude(
    client: IpAddr,
    server: SocketAddr,
    contact: Contact,
    context: &Context<'_>,
) -> Option<Finding> {
    if contact.times.len() < TIMES || contact.sizes.len() * 4 < contact.times.len() * 3 {
        return None;
    }
    let gaps: Vec<u64> =
        contact.times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
    let (gap, away) = spread(gaps);
    let (size, size_away) = spread(contact.sizes);
    let regular = gap >= SHORTEST_NS && away * 5 <= gap;
    if !regular || size == 0 || size > LARGEST || size_away * 4 > size {
        return None;
    }
    let draft = Draft {
        id: "beaconing",
        severity: "info",
        doubt: Some("low: software that looks for updates or reports its state does the same"),
        title: format!("{client} calls {server} every {:.1} s.", gap as f64 / 1e9),
        evidence: vec![
            format!(
                "{} connections; nine in ten distances are within {:.1} s of that.",
                contact.times.len(),
                away as f64 / 1e9
            ),
            format!("It sends {size} bytes each time, {size_away} more or less."),
        ],
        effect: "not observable: what it was told is not known.".to_owned(),
        advice: "Find out which program does it and whose address that is.",
        actors: vec![client.to_string()],
        targets: vec![server.to_string()],
        seen: &contact.seen,
        references: &["MITRE ATT&CK T1071", "MITRE ATT&CK T1573"],
    };
    Some(draft.finding(context))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, ip, tcp};

    /// Connections at these distances, each sending so many bytes.
    fn run(server: &str, port: u16, calls: impl Iterator<Item = (u64, usize)>) -> usize {
        let mut scene = Scene::of(Beaconing::default());
        let (client, mut at) = ("10.0.0.9", 0);
        for (n, (gap, size)) in calls.enumerate() {
            at += gap;
            let local = 20_000 + n as u16;
            scene.frame(at, &ip((A, B), client, server, 6, &tcp((local, port), 2, 1, 0, &[], &[])));
            scene.frame(
                at,
                &ip((B, A), server, client, 6, &tcp((port, local), 0x12, 9, 2, &[], &[])),
            );
            scene.frame(
                at,
                &ip((A, B), client, server, 6, &tcp((local, port), 0x10, 2, 10, &[], &[])),
            );
            let ask = tcp((local, port), 0x18, 2, 10, &[], &vec![7; size]);
            scene.frame(at + 1, &ip((A, B), client, server, 6, &ask));
            let fin = tcp((local, port), 0x11, 2 + size as u32, 10, &[], &[]);
            scene.frame(at + 2, &ip((A, B), client, server, 6, &fin));
        }
        scene.ids().len()
    }

    #[test]
    fn one_pace_and_one_size_make_a_beacon() {
        let every = |n: u64, jitter: u64| (0..n).map(move |i| (60_000 + (i % 3) * jitter, 180));
        assert_eq!(run("198.51.100.7", 443, every(12, 5_000)), 1);
        assert_eq!(run("198.51.100.7", 443, every(11, 5_000)), 0, "too few");
        assert_eq!(run("198.51.100.7", 443, every(40, 20_000)), 0, "no pace");
        assert_eq!(run("10.0.0.7", 443, every(40, 0)), 0, "inside");
        assert_eq!(run("198.51.100.7", 993, every(40, 0)), 0, "mail");
        let sizes = (0..40).map(|i| (60_000, 100 + i as usize * 50));
        assert_eq!(run("198.51.100.7", 443, sizes), 0, "other things to say each time");
    }
}
