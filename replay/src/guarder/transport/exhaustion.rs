//! Connection exhaustion (slowloris and kin): connections that are opened and kept while asking nothing,
//! or asking ever so slowly, until the server has none left.
//!
//! **Sees** connections that were completed, and after ten seconds have had no byte from the server while
//! the client sent nothing, sent in two or more bursts a second or more apart, or began an HTTP request
//! whose headers have no end; or whose client has kept its window below 256 bytes that long (slow read).
//! **Threshold**: 50 such at once from one address to one port, or 150 from all: 150 is the number of
//! workers that Apache has served with for two decades (`MaxRequestWorkers`, mpm_prefork 2.2).
//!
//! **Silent on** keep-alive pools and NAT offices (they were answered), long polling (one whole request,
//! then silence), servers that speak first, and a server that hangs (its clients have asked).
//!
//! A recording of fewer than ten seconds cannot show it.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use psc_formats::FiveTuple;

use crate::analyzer::tcp::{ACK, FIN, RST, SYN};
use crate::bounded::Bounded;
use crate::guarder::attempt::{Change, Turn};
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::effect;
use crate::guarder::evidence::{Draft, Seen};
use crate::view::detect::Finding;

const SLOW_NS: u64 = 10_000_000_000;
const BURST_NS: u64 = 1_000_000_000;
const FROM_ONE: usize = 50;
const FROM_ALL: usize = 150;
const TINY_WINDOW: u16 = 256;
const CONNECTIONS: usize = 65_536;
const SERVERS: usize = 1_024;
/// A connection is judged again this often while it stays open.
const ROUNDS: u8 = 30;

#[derive(Debug)]
struct Connection {
    journey: Option<crate::engine::JourneyId>,
    client_bytes: u64,
    server_bytes: u64,
    bursts: u32,
    last_data: u64,
    unfinished: bool,
    tiny_since: Option<u64>,
    slow: bool,
    rounds: u8,
}

#[derive(Debug, Default)]
struct Server {
    /// Slow connections open now, by client.
    slow: BTreeMap<IpAddr, usize>,
    total: usize,
    /// The most at once, and how they were spread then.
    peak: usize,
    peak_by: Vec<(IpAddr, usize)>,
    silent: u64,
    trickling: u64,
    unread: u64,
    seen: Seen,
}

#[derive(Debug)]
pub(super) struct Exhaustion {
    /// By tuple, client first.
    open: Bounded<FiveTuple, Connection>,
    deadlines: VecDeque<(u64, FiveTuple)>,
    servers: BTreeMap<SocketAddr, Server>,
}

impl Default for Exhaustion {
    fn default() -> Self {
        Self {
            open: Bounded::new(CONNECTIONS),
            deadlines: VecDeque::new(),
            servers: BTreeMap::new(),
        }
    }
}

impl Detector for Exhaustion {
    fn about(&self) -> About {
        About {
            id: "connection-exhaustion",
            sees: "50 connections of one address, or 150 of all, kept open at one port for ten \
                   seconds while asking nothing or in drips; silent on keep-alive pools, NAT offices, \
                   long polling and servers that speak first.",
        }
    }

    fn attempt(&mut self, change: &Change) {
        if change.protocol != 6 || change.turn != Turn::Completed {
            return;
        }
        let tuple = FiveTuple {
            protocol: 6,
            src: change.client.ip(),
            sport: change.client.port(),
            dst: change.server.ip(),
            dport: change.server.port(),
        };
        let mut spill = Vec::new();
        let fresh = Connection {
            journey: change.journey,
            client_bytes: 0,
            server_bytes: 0,
            bursts: 0,
            last_data: 0,
            unfinished: false,
            tiny_since: None,
            slow: false,
            rounds: 0,
        };
        self.open.remove(&tuple);
        self.open.entry(tuple, || fresh, &mut spill);
        for (tuple, connection) in spill {
            self.ended(&tuple, &connection);
        }
        if self.deadlines.len() < CONNECTIONS {
            self.deadlines.push_back((change.at + SLOW_NS, tuple));
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        self.judge_until(packet.at);
        let (Some(tcp), Some(tuple)) = (packet.headers.tcp(), packet.headers.tuple()) else {
            return;
        };
        if tcp.flags & (RST | FIN) != 0 {
            for key in [tuple, tuple.reversed()] {
                if let Some(connection) = self.open.remove(&key) {
                    self.ended(&key, &connection);
                }
            }
            return;
        }
        let bytes = u64::from(packet.headers.payload_len);
        if let Some(connection) = self.open.get_mut(&tuple) {
            if tcp.flags & (SYN | ACK) == ACK {
                if tcp.window < TINY_WINDOW {
                    connection.tiny_since.get_or_insert(packet.at);
                } else {
                    connection.tiny_since = None;
                }
            }
            if bytes > 0 {
                let apart = packet.at.saturating_sub(connection.last_data) >= BURST_NS;
                connection.bursts += u32::from(connection.client_bytes == 0 || apart);
                let payload = packet.payload();
                if connection.client_bytes == 0 {
                    connection.unfinished = is_request(payload);
                }
                // The end of the headers is looked for at the end of a segment, where clients put it.
                connection.unfinished &= !payload.ends_with(b"\r\n\r\n") && !has_end(payload);
                connection.last_data = packet.at;
                connection.client_bytes += bytes;
            }
        } else if bytes > 0
            && let key = tuple.reversed()
            && let Some(connection) = self.open.get_mut(&key)
        {
            connection.server_bytes += bytes;
            if connection.slow && connection.tiny_since.is_none() {
                connection.slow = false;
                let server = SocketAddr::new(key.dst, key.dport);
                self.release(server, key.src);
            }
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        std::mem::take(&mut self.servers)
            .into_iter()
            .filter(|(_, server)| server.peak > 0)
            .map(|(address, server)| finding(address, &server, context))
            .collect()
    }
}

fn is_request(payload: &[u8]) -> bool {
    [&b"GET "[..], b"POST ", b"HEAD ", b"PUT ", b"OPTIONS ", b"DELETE "]
        .iter()
        .any(|method| payload.starts_with(method))
}

fn has_end(payload: &[u8]) -> bool {
    payload.windows(4).any(|window| window == b"\r\n\r\n")
}

impl Exhaustion {
    fn judge_until(&mut self, now: u64) {
        while let Some((at, tuple)) = self.deadlines.front().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.pop_front();
            let Some(connection) = self.open.get_mut(&tuple) else { continue };
            connection.rounds += 1;
            if connection.rounds < ROUNDS {
                self.deadlines.push_back((at + SLOW_NS, tuple));
            }
            if connection.slow {
                continue;
            }
            let unread =
                connection.tiny_since.is_some_and(|since| at.saturating_sub(since) >= SLOW_NS);
            let silent = connection.server_bytes == 0 && connection.client_bytes == 0;
            let trickling = connection.server_bytes == 0
                && connection.client_bytes > 0
                && (connection.bursts >= 2 || connection.unfinished);
            if !(unread || silent || trickling) {
                continue;
            }
            connection.slow = true;
            let address = SocketAddr::new(tuple.dst, tuple.dport);
            if self.servers.len() >= SERVERS && !self.servers.contains_key(&address) {
                continue;
            }
            let journey = connection.journey;
            let server = self.servers.entry(address).or_default();
            *server.slow.entry(tuple.src).or_default() += 1;
            server.total += 1;
            server.silent += u64::from(silent);
            server.trickling += u64::from(trickling);
            server.unread += u64::from(unread);
            server.seen.at(at, journey);
            let from_one = server.slow[&tuple.src] >= FROM_ONE;
            if (from_one || server.total >= FROM_ALL) && server.total > server.peak {
                server.peak = server.total;
                let mut by: Vec<_> = server.slow.iter().map(|(ip, n)| (*ip, *n)).collect();
                by.sort_by_key(|(ip, n)| (std::cmp::Reverse(*n), *ip));
                by.truncate(5);
                server.peak_by = by;
            }
        }
    }

    fn ended(&mut self, tuple: &FiveTuple, connection: &Connection) {
        if connection.slow {
            self.release(SocketAddr::new(tuple.dst, tuple.dport), tuple.src);
        }
    }

    fn release(&mut self, address: SocketAddr, client: IpAddr) {
        let Some(server) = self.servers.get_mut(&address) else { return };
        server.total = server.total.saturating_sub(1);
        if let Some(n) = server.slow.get_mut(&client) {
            *n -= 1;
            if *n == 0 {
                server.slow.remove(&client);
            }
        }
    }
}

fn finding(address: SocketAddr, server: &Server, context: &Context<'_>) -> Finding {
    Draft {
        id: "connection-exhaustion",
        severity: "high",
        doubt: None,
        title: format!("{} connections to {address} were kept open and asked nothing.", server.peak),
        evidence: vec![format!(
            "{} times one was silent for ten seconds, {} times it asked in drips or never ended its \
             request, {} times it did not read its answer.",
            server.silent, server.trickling, server.unread
        )],
        effect: effect::counters(
            address.ip(),
            &[
                ("TcpExtListenOverflows", "accept queue overflows"),
                ("TcpExtListenDrops", "connections dropped by listeners"),
            ],
            context,
        ),
        advice: "Limit connections per address and the time for a request's headers (nginx: limit_conn, \
                 client_header_timeout; Apache: mod_reqtimeout).",
        actors: server
            .peak_by
            .iter()
            .map(|(ip, n)| format!("{ip} ({n} at once; proven by completed handshakes)"))
            .collect(),
        targets: vec![address.to_string()],
        seen: &server.seen,
        references: &["MITRE ATT&CK T1499.002", "CWE-400", "CVE-2007-6750"],
    }
    .finding(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, ip, tcp};

    const C: &str = "192.0.2.1";
    const S: &str = "10.0.0.2";

    /// `n` connections; what each client says when, and whether the server answers.
    fn run(n: u16, says: &[(u64, &[u8])], answers: bool) -> usize {
        let mut scene = Scene::of(Exhaustion::default());
        for i in 0..n {
            let port = 20_000 + i;
            let at = u64::from(i);
            scene.frame(at, &ip((A, B), C, S, 6, &tcp((port, 80), 2, 1, 0, &[], &[])));
            scene.frame(at, &ip((B, A), S, C, 6, &tcp((80, port), 0x12, 9, 2, &[], &[])));
            scene.frame(at, &ip((A, B), C, S, 6, &tcp((port, 80), 0x10, 2, 10, &[], &[])));
        }
        for (after, bytes) in says {
            for i in 0..n {
                let at = 1000 + after + u64::from(i) / 10;
                let port = 20_000 + i;
                scene.frame(at, &ip((A, B), C, S, 6, &tcp((port, 80), 0x18, 2, 10, &[], bytes)));
                if answers {
                    let answer = tcp((80, port), 0x18, 10, 2, &[], b"HTTP/1.1 200");
                    scene.frame(at, &ip((B, A), S, C, 6, &answer));
                }
            }
        }
        scene.frame(20_000, &ip((A, B), "192.0.2.9", S, 17, &[0; 8]));
        scene.ids().len()
    }

    #[test]
    fn connections_that_ask_nothing_are_found_and_clients_that_ask_are_not() {
        let whole: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let part: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n";
        assert_eq!(run(50, &[], false), 1, "silent");
        assert_eq!(run(49, &[], false), 0);
        assert_eq!(run(60, &[(0, part)], false), 1, "a request without an end");
        assert_eq!(run(60, &[(0, b"X"), (4000, b"a: b\r\n")], false), 1, "drips");
        assert_eq!(run(60, &[(0, whole)], true), 0, "a NAT office");
        assert_eq!(run(60, &[(0, whole)], false), 0, "long polling, or a server that hangs");
    }
}
