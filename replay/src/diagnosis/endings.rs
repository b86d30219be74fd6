//! How connections suffer and end: closed windows, resets, timeouts, ports that ran out.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use psc_formats::manifest::Layer;

use super::case::{Case, counted, service};
use super::rule::{Find, Found, Rule, Sure};
use super::seen::{Kind, RESENT_STUCK, Refusal, Reset, Times};

/// The reset that answers a segment leaves before the segment is freed, by no more than this.
const ANSWER_NS: u64 = 1_000_000;

/// A window closed for so long in all is no flow control at work, but a reader that does not read.
const CLOSED_NS: u64 = 200_000_000;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "ports-exhausted",
        layer: Layer::Transport,
        severity: "high",
        looks_at: "sockets that go from CLOSE to SYN_SENT and back at once without a packet, TIME_WAIT, ip_local_port_range; \
                   UDP sockets on every port of that range at once",
        cause: "connect() or a first send finds no free local port (EADDRNOTAVAIL, EAGAIN)",
        silent_on: "connections given up after their SYN was sent, churn with ports to spare",
        references: &[
            "ip(7) ip_local_port_range",
            "net/ipv4/inet_hashtables.c __inet_hash_connect",
        ],
        find: Find::Own(ports_exhausted),
    },
    Rule {
        id: "zero-window",
        layer: Layer::Socket,
        severity: "medium",
        looks_at: "advertised windows of zero, how long they stay, window probes",
        cause: "the receiving application does not read: its window stays closed",
        silent_on: "windows that close for less than 200 ms",
        references: &["RFC 9293 section 3.8.6.1", "tcp(7) tcp_rmem"],
        find: Find::Own(zero_window),
    },
    Rule {
        id: "keepalive-timeout",
        layer: Layer::Transport,
        severity: "medium",
        looks_at: "resets sent for TCP_KEEPALIVE_TIMEOUT, ETIMEDOUT, TcpExtTCPKeepAlive",
        cause: "the peer of an idle connection stopped answering keep-alives",
        silent_on: "keep-alives that are answered",
        references: &["RFC 1122 section 4.2.3.6", "tcp(7) tcp_keepalive_time"],
        find: Find::Own(keepalive),
    },
    Rule {
        id: "large-packets-lost",
        layer: Layer::Network,
        severity: "high",
        looks_at: "full-sized segments sent in vain in a connection whose small ones are acknowledged, without ICMP errors or drops",
        cause: "large packets get lost on the path: an MTU black hole beyond what was recorded",
        silent_on: "connections that acknowledged a segment as large, and those that lose everything",
        references: &[
            "RFC 2923",
            "RFC 4821",
            "Documentation/networking/ip-sysctl.rst tcp_mtu_probing",
        ],
        find: Find::Own(large_lost),
    },
    Rule {
        id: "connection-timeout",
        layer: Layer::Transport,
        severity: "high",
        looks_at: "ETIMEDOUT of established connections, resets sent for TCP_RETRANSMIT_TIMEOUT or TCP_STATE, segments sent in vain",
        cause: "the peer of an established connection vanished: data is sent again without an answer",
        silent_on: "connections whose data gets through after some loss",
        references: &["RFC 9293 section 3.8.3", "tcp(7) tcp_retries2, TCP_USER_TIMEOUT"],
        find: Find::Own(stalled),
    },
    Rule {
        id: "half-open",
        layer: Layer::Transport,
        severity: "medium",
        looks_at: "segments of a connection that their receiver does not know, answered with RST, without a close before",
        cause: "one end lost the connection (restart, takeover, expired NAT) and the other goes on using it",
        silent_on: "segments that cross a close or a reset",
        references: &["RFC 9293 section 3.5.1"],
        find: Find::Own(half_open),
    },
    Rule {
        id: "reset-unread-data",
        layer: Layer::Socket,
        severity: "medium",
        looks_at: "resets sent by the serving end for TCP_ABORT_ON_CLOSE or TCP_ABORT_ON_DATA, TcpExtTCPAbortOnClose",
        cause: "the serving application closes without reading what it was sent: its client is reset",
        silent_on: "health checks and clients that reset, closes after everything was read",
        references: &["RFC 2525 section 2.17", "net/ipv4/tcp.c __tcp_close"],
        find: Find::Own(unread),
    },
    Rule {
        id: "time-wait-overflow",
        layer: Layer::Transport,
        severity: "low",
        looks_at: "TcpExtTCPTimeWaitOverflow",
        cause: "more connections in TIME_WAIT than tcp_max_tw_buckets: they were ended early",
        silent_on: "churn below the limit",
        references: &["Documentation/networking/ip-sysctl.rst tcp_max_tw_buckets"],
        find: Find::Own(time_wait),
    },
];

pub(super) fn reset_reason<'a>(case: &Case<'a>, reset: &Reset) -> &'a str {
    let name = case.manifest.reset_reasons.get(&reset.reason).map_or("", String::as_str);
    name.trim_start_matches("SK_RST_REASON_")
}

fn ports_exhausted(case: &mut Case<'_>) -> Vec<Found> {
    let mut rows: BTreeMap<(IpAddr, SocketAddr), Times> = BTreeMap::new();
    for (refusal, times) in case.seen.sockets.refusals() {
        if let Refusal::NoPort(src, dst, port) = refusal {
            rows.entry((*src, SocketAddr::new(*dst, *port))).or_default().merge(times);
        }
    }
    let datagrams = datagram_ports(case);
    rows.into_iter()
        .map(|((src, server), times)| {
            let space = case.owner(src);
            let name = space.map_or("?".to_owned(), |space| space.name.clone());
            let mut evidence = vec![format!(
                "{} went from CLOSE to SYN_SENT and back at once; no packet left.",
                counted(times.count, "socket")
            )];
            if let Some(space) = space {
                for name in ["net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_tw_reuse"] {
                    if let Some(value) = space.sysctl(name).filter(|value| !value.is_empty()) {
                        evidence.push(format!("{name} is {value}."));
                    }
                }
                evidence.extend(space.tell(&["TcpExtTW"]));
            }
            Found {
                title: format!(
                    "No local port was free for {} from {src} to {server} (namespace {name}).",
                    counted(times.count, "connection")
                ),
                evidence,
                advice: "Widen net.ipv4.ip_local_port_range, use more source or destination addresses, keep connections \
                         open, or set net.ipv4.tcp_tw_reuse=1; `ss -tan state time-wait | wc -l` shows who holds the ports."
                    .to_owned(),
                targets: vec![format!("namespace {name}"), format!("tcp {server}")],
                times,
                sure: Sure::High,
                ..Found::default()
            }
        })
        .chain(datagrams)
        .collect()
}

/// Namespaces in which UDP sockets held every local port at some moment. A send that finds none fails
/// before any event, so that the sockets are all there is to see.
fn datagram_ports(case: &Case<'_>) -> Vec<Found> {
    const UDP: u8 = 17;
    let mut all = Vec::new();
    for space in &case.spaces {
        let range = space.sysctl("net.ipv4.ip_local_port_range").and_then(|text| {
            let mut ends = text.split_ascii_whitespace().map(|end| end.parse::<u16>().ok());
            Some((ends.next()??, ends.next()??))
        });
        let Some((low, high)) = range.filter(|(low, high)| low <= high) else { continue };
        let mut held: BTreeMap<u64, std::collections::BTreeSet<u16>> = BTreeMap::new();
        for fact in case.tables.sockets.values().chain(&case.tables.socket_snapshots) {
            if let Some((_, port)) = fact.local
                && (fact.netns, fact.protocol) == (space.netns, UDP)
                && (low..=high).contains(&port)
            {
                held.entry(fact.at).or_default().insert(port);
            }
        }
        let size = usize::from(high - low) + 1;
        let Some((&at, _)) = held.iter().find(|(_, ports)| ports.len() == size) else { continue };
        all.push(Found {
            title: format!(
                "UDP sockets of namespace {} hold all {size} local ports: no further one finds a port.",
                space.name
            ),
            evidence: vec![format!("net.ipv4.ip_local_port_range is {low} {high}; a snapshot has a socket on each.")],
            effect: "not observable: a send that finds no port fails (EAGAIN) without an event or a counter.".to_owned(),
            advice: "Widen net.ipv4.ip_local_port_range, close sockets (`ss -uanp`), or send from one bound socket.".to_owned(),
            targets: vec![format!("namespace {}", space.name), "udp".to_owned()],
            times: Times { count: size as u64, first: at, last: at, ..Times::default() },
            sure: Sure::Medium("the ports were taken; a refused send was not seen".to_owned()),
            ..Found::default()
        });
    }
    all
}

fn zero_window(case: &mut Case<'_>) -> Vec<Found> {
    let mut all = Vec::new();
    for connection in case.connections() {
        for (index, side) in connection.sides.iter().enumerate() {
            let closed = side.closed_for(connection.times.last);
            if closed < CLOSED_NS || !connection.established {
                continue;
            }
            let reader = if index == 0 { connection.tuple } else { connection.tuple.reversed() };
            let place = case.owner(reader.src).map(|space| format!("namespace {}", space.name));
            let owner = case
                .tables
                .sockets
                .values()
                .filter(|socket| {
                    socket.local == Some((reader.src, reader.sport))
                        && socket.remote == Some((reader.dst, reader.dport))
                        && socket.pid != 0
                })
                .map(|socket| format!("{}[{}]", socket.comm, socket.pid))
                .min();
            let who = owner.clone().unwrap_or_else(|| "The application".to_owned());
            all.push((reader, Found {
                title: format!(
                    "{who} at {} does not read: its receive window stayed closed for {} ms.",
                    SocketAddr::new(reader.src, reader.sport),
                    closed / 1_000_000
                ),
                evidence: vec![format!(
                    "{} closed its window {}, {} ms in all, in {}.",
                    SocketAddr::new(reader.src, reader.sport),
                    counted(u64::from(side.closures), "time"),
                    closed / 1_000_000,
                    connection.tuple
                )],
                effect: "confirmed: the sender had to wait for the window.".to_owned(),
                advice: "Why does the application not read (`ss -tnp` Recv-Q, a blocked thread)? A larger buffer \
                         (net.ipv4.tcp_rmem) only helps against bursts."
                    .to_owned(),
                targets: [service(6, reader.src, reader.sport)].into_iter().chain(place).chain(owner).collect(),
                times: Times { count: u64::from(side.closures), ..connection.times.clone() },
                ..Found::default()
            }));
        }
    }
    all.into_iter()
        .map(|(flow, found)| {
            case.explain_flow(flow);
            found
        })
        .collect()
}

fn keepalive(case: &mut Case<'_>) -> Vec<Found> {
    let mut all = Vec::new();
    for (reset, times) in case.seen.sockets.resets() {
        if !reset_reason(case, reset).contains("KEEPALIVE_TIMEOUT")
            || case.is_explained(reset.tuple)
        {
            continue;
        }
        let mut evidence =
            vec![format!("The kernel reset {} for {}.", reset.tuple, reset_reason(case, reset))];
        if let Some(space) = case.owner(reset.tuple.src) {
            evidence.extend(space.tell(&["TcpExtTCPKeepAlive", "TcpExtTCPAbortOnTimeout"]));
        }
        all.push((reset.tuple, Found {
            title: format!(
                "{} stopped answering keep-alives of {}: the connection was ended.",
                SocketAddr::new(reset.tuple.dst, reset.tuple.dport),
                SocketAddr::new(reset.tuple.src, reset.tuple.sport)
            ),
            evidence,
            advice: "Is the peer up, and does the path (NAT, firewall) still know the connection? Shorten \
                     TCP_KEEPIDLE below the idle timeout of what is in between."
                .to_owned(),
            targets: vec![service(6, reset.tuple.dst, reset.tuple.dport)],
            times: times.clone(),
            ..Found::default()
        }));
    }
    all.into_iter()
        .map(|(flow, found)| {
            case.explain_flow(flow);
            found
        })
        .collect()
}

/// Longer than any path must take (RFC 879): only the size can be what is wrong with them.
const LONG: u32 = 536;

fn large_lost(case: &mut Case<'_>) -> Vec<Found> {
    let mut all = Vec::new();
    for connection in case.connections() {
        if !connection.established || connection.drops > 0 || case.is_explained(connection.tuple) {
            continue;
        }
        for from in 0..2 {
            let side = &connection.sides[from];
            let Some(stuck) = side.stuck else { continue };
            // Something small came through after the large one was first lost, or the peer is just gone.
            let alive = connection.sides[1 - from].last > stuck.first;
            if stuck.sent < RESENT_STUCK
                || stuck.len <= LONG
                || connection.sides[1 - from].closures > 0
                || side.longest_acked >= stuck.len
                || !alive
            {
                continue;
            }
            let tuple = if from == 0 { connection.tuple } else { connection.tuple.reversed() };
            all.push((connection.tuple, Found {
                title: format!("Large packets of {tuple} get lost while small ones pass: an MTU black hole on the path."),
                evidence: vec![
                    format!("{} bytes were sent {} times in vain.", stuck.len, stuck.sent),
                    format!("The longest payload that was acknowledged has {} bytes.", side.longest_acked),
                    "No ICMP error about it came by, and no kernel in the recording dropped it.".to_owned(),
                ],
                effect: "not confirmed: large packets get lost where this recording cannot see.".to_owned(),
                advice: "`tracepath` and `ping -M do -s 1472` find the size that passes; let ICMP fragmentation-needed \
                         through, lower the MTU, clamp the MSS, or set net.ipv4.tcp_mtu_probing=1."
                    .to_owned(),
                targets: vec![tuple.to_string()],
                times: Times { count: u64::from(stuck.sent), ..connection.times.clone() },
                sure: Sure::Medium("only the sizes of what was acknowledged say so".to_owned()),
                ..Found::default()
            }));
        }
    }
    all.into_iter()
        .map(|(flow, found)| {
            case.explain_flow(flow);
            found
        })
        .collect()
}

fn stalled(case: &mut Case<'_>) -> Vec<Found> {
    const ETIMEDOUT: u32 = 110;
    const SENT_IN_VAIN: u32 = 4;
    let mut all = Vec::new();
    for connection in case.connections() {
        if !connection.established || case.is_explained(connection.tuple) {
            continue;
        }
        let stuck = (0..2).find(|&side| {
            connection.sides[side]
                .stuck
                .is_some_and(|stuck| stuck.sent >= SENT_IN_VAIN && stuck.len > 0)
                && connection.sides[1 - side].closures == 0
        });
        if connection.error != ETIMEDOUT && stuck.is_none() {
            continue;
        }
        let sender = if stuck == Some(1) { connection.tuple.reversed() } else { connection.tuple };
        let mut evidence = Vec::new();
        if connection.error == ETIMEDOUT {
            evidence.push(format!("The socket reported ETIMEDOUT ({}).", connection.tuple));
        }
        if let Some(stuck) = stuck.and_then(|side| connection.sides[side].stuck) {
            evidence.push(format!(
                "{} bytes were sent {} times within {} ms without an acknowledgement.",
                stuck.len,
                stuck.sent,
                (stuck.last - stuck.first) / 1_000_000
            ));
        }
        all.push((connection.tuple, Found {
            title: format!(
                "{} no longer answers {}: data is sent again in vain.",
                SocketAddr::new(sender.dst, sender.dport),
                SocketAddr::new(sender.src, sender.sport)
            ),
            evidence,
            effect: "not observable: where its answers are lost is outside of this recording.".to_owned(),
            advice: "Record at the other end too; look for a filter or NAT that forgot the connection, a peer that is \
                     down, a cable."
                .to_owned(),
            targets: vec![service(6, sender.dst, sender.dport)],
            times: connection.times.clone(),
            sure: Sure::Medium("the place of the loss was not seen".to_owned()),
            ..Found::default()
        }));
    }
    all.into_iter()
        .map(|(flow, found)| {
            case.explain_flow(flow);
            found
        })
        .collect()
}

fn half_open(case: &mut Case<'_>) -> Vec<Found> {
    let drops =
        case.take(|case, drop| case.reason(drop) == "NO_SOCKET" && drop.kind == Kind::Segment);
    let mut all = Vec::new();
    for group in case.by_place(&drops) {
        let mut flows = Vec::new();
        for drop in &group {
            for (flow, count) in drop.flows.most(usize::MAX) {
                let Some(connection) = case.seen.connections.get(flow) else { continue };
                let closing = connection.sides.iter().any(|side| side.fin);
                // The answer to the unknown segment is a reset too: only one before it counts.
                let reset_before = connection
                    .sides
                    .iter()
                    .filter_map(|side| side.reset)
                    .any(|at| at + ANSWER_NS < drop.times.first);
                let refused = connection.whole && connection.refused();
                // Its own end reset it, for a reason of its own; what was under way then is no news.
                let ended_here = case.seen.sockets.resets().into_iter().any(|(reset, _)| {
                    let reason = reset_reason(case, reset);
                    reset.tuple.canonical() == flow.canonical()
                        && ["ABORT", "DISCONNECT", "TIMEOUT", "CLOSE"]
                            .iter()
                            .any(|w| reason.contains(w))
                });
                if !(closing || reset_before || refused || ended_here) {
                    flows.push((flow, count));
                }
            }
        }
        let Some((flow, _)) = flows.first().copied() else { continue };
        let count: u64 = flows.iter().map(|(_, count)| count).sum();
        let mut found = case.found(&group);
        found.times.count = count;
        found.title = case.fill(
            &format!(
                "{} knows nothing of a connection that {} goes on using: {} answered with RST at {{place}}.",
                SocketAddr::new(flow.dst, flow.dport),
                SocketAddr::new(flow.src, flow.sport),
                super::case::counted_were(count, "segment")
            ),
            &group,
        );
        found.advice = "Did the peer restart, or a takeover or NAT timeout lose its state? Keep-alives find dead \
                        connections sooner; clients have to reconnect."
            .into();
        all.push(found);
    }
    all
}

fn unread(case: &mut Case<'_>) -> Vec<Found> {
    let mut rows: BTreeMap<(IpAddr, u16, String), (Times, Vec<String>)> = BTreeMap::new();
    for (reset, times) in case.seen.sockets.resets() {
        let reason = reset_reason(case, reset);
        if !reason.contains("ABORT_ON_CLOSE") {
            continue;
        }
        let Some(connection) = case.seen.connections.get(reset.tuple) else { continue };
        let serves =
            (reset.tuple.src, reset.tuple.sport) == (connection.tuple.dst, connection.tuple.dport);
        if !serves || case.is_explained(connection.tuple) {
            continue;
        }
        let row = rows
            .entry((connection.tuple.dst, connection.tuple.dport, reason.to_owned()))
            .or_default();
        row.0.merge(&Times { journeys: connection.times.journeys.clone(), ..times.clone() });
        if row.1.len() < 3 {
            row.1.push(format!(
                "{}: reset after {} bytes from the client.",
                connection.tuple, connection.sides[0].bytes
            ));
        }
    }
    let mut all = Vec::new();
    for ((address, port, reason), (times, mut evidence)) in rows {
        evidence.insert(
            0,
            format!("tcp_send_reset with reason {reason}: {}.", counted(times.count, "connection")),
        );
        if let Some(space) = case.owner(address) {
            evidence.extend(space.tell(&["TcpExtTCPAbortOnClose"]));
        }
        all.push(Found {
            title: format!(
                "The server at {} closed {} without reading what was sent: its clients were reset.",
                SocketAddr::new(address, port),
                counted(times.count, "connection")
            ),
            evidence,
            advice: "Read until the end of the request before close(), or shutdown(SHUT_WR) and drain; look at the \
                     server's errors at that time."
                .to_owned(),
            targets: vec![service(6, address, port)],
            times,
            ..Found::default()
        });
    }
    all
}

fn time_wait(case: &mut Case<'_>) -> Vec<Found> {
    let mut all = Vec::new();
    for space in &case.spaces {
        let rose = space.rise("TcpExtTCPTimeWaitOverflow");
        if rose == 0 {
            continue;
        }
        let mut evidence = space.tell(&["TcpExtTCPTimeWaitOverflow"]);
        if let Some(value) = space.sysctl("net.ipv4.tcp_max_tw_buckets") {
            evidence.push(format!("net.ipv4.tcp_max_tw_buckets is {value}."));
        }
        all.push(Found {
            title: format!("{} in namespace {} ended early: the table of TIME_WAIT was full.", counted(rose, "connection"), space.name),
            evidence,
            effect: "confirmed: the kernel counted them.".to_owned(),
            advice: "Raise net.ipv4.tcp_max_tw_buckets, or keep connections open instead of making new ones.".to_owned(),
            targets: vec![format!("namespace {}", space.name)],
            times: Times { count: rose, ..Times::default() },
            ..Found::default()
        });
    }
    all
}
