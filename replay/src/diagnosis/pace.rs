//! Why a connection is slow although nothing is lost: windows, buffers, held-back data, the application.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use psc_formats::FiveTuple;
use psc_formats::manifest::Layer;

use super::case::{Case, Space, counted, service};
use super::rule::{Find, Found, Rule, Sure};
use super::seen::{Connection, SLOW_NS, Times};

/// A window that is used up so often, and by so large a share of the segments, sets the pace.
const FILLED: u64 = 20;
const FILLED_SHARE: u64 = 10;

/// Below this a window holds a connection back on any network (ten segments, the initial window of RFC 6928).
const SMALL_WINDOW: u32 = 16_384;

/// The largest window without scaling (RFC 7323 section 2).
const UNSCALED: u32 = 65_535;

/// Fewer bytes are a conversation, not a transfer.
const TRANSFER: u64 = 256 << 10;

/// A send buffer whose limit is below this holds transfers back (the default limit is 4 MiB).
const SMALL_SEND: u64 = 64 << 10;

/// Data held back for a delayed acknowledgement this often is a pattern.
const HELD: u32 = 5;
/// And so large a share of what is sent.
const HELD_SHARE: u64 = 10;

/// Slow answers from which a server is said to be slow.
const SLOW: u32 = 3;

/// What an answer takes must be this many times the path's round trip for the application to be the reason.
const PATH: u64 = 10;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "window-limited",
        layer: Layer::Transport,
        severity: "medium",
        looks_at: "segments that use up the receiver's window, its largest size, window scaling in both SYNs, tcp_rmem",
        cause: "the receiver's window is too small for the path: the sender waits for room",
        silent_on: "windows that grow with the transfer, readers that do not read (told as such)",
        references: &["RFC 7323 section 2", "tcp(7) tcp_rmem, tcp_window_scaling"],
        find: Find::Own(window_limited),
    },
    Rule {
        id: "send-buffer-small",
        layer: Layer::Transport,
        severity: "medium",
        looks_at: "bytes under way at most against the window granted, tcp_wmem of the sending namespace",
        cause: "the sender's buffer limit keeps it from using the window it was granted",
        silent_on: "the default limits, senders that have nothing to send",
        references: &["tcp(7) tcp_wmem", "net/ipv4/tcp.c tcp_sendmsg_locked"],
        find: Find::Own(send_buffer),
    },
    Rule {
        id: "delayed-ack-stall",
        layer: Layer::Transport,
        severity: "medium",
        looks_at: "small segments that leave within 3 ms of an acknowledgement that came alone and 30 to 500 ms late",
        cause: "Nagle's algorithm holds small writes until the other end's delayed acknowledgement comes",
        silent_on: "requests written at once, TCP_NODELAY, acknowledgements that travel with an answer",
        references: &["RFC 1122 sections 4.2.3.2 and 4.2.3.4", "tcp(7) TCP_NODELAY, TCP_QUICKACK"],
        find: Find::Own(delayed_ack),
    },
    Rule {
        id: "slow-application",
        layer: Layer::User,
        severity: "low",
        looks_at: "the time from the last of a request to the first of its answer, against the round trip of the handshake",
        cause: "the application takes its time: the network answered at once",
        silent_on: "captures (a proxy may answer the handshake), answers within 200 ms, slow paths, data that nobody asked for, connections with another cause",
        references: &["RFC 2681 (the round trip that it is held against)"],
        find: Find::Own(slow_application),
    },
];

/// Connections that were made and whose trouble nobody has explained.
fn open<'a>(case: &Case<'a>) -> Vec<&'a Connection> {
    let all = case.connections();
    all.filter(|connection| connection.established && !case.is_explained(connection.tuple))
        .collect()
}

/// The last of the three values of `tcp_rmem` and `tcp_wmem`: the most that a buffer grows to, bytes.
fn limit(space: &Space<'_>, name: &str) -> Option<u64> {
    space.sysctl(name)?.split_ascii_whitespace().last()?.parse().ok()
}

fn end(connection: &Connection, side: usize) -> SocketAddr {
    let tuple = connection.tuple;
    if side == 0 {
        SocketAddr::new(tuple.src, tuple.sport)
    } else {
        SocketAddr::new(tuple.dst, tuple.dport)
    }
}

fn place(case: &Case<'_>, end: SocketAddr) -> Option<String> {
    case.owner(end.ip()).map(|space| format!("namespace {}", space.name))
}

fn window_limited(case: &mut Case<'_>) -> Vec<Found> {
    let mut rows: BTreeMap<(SocketAddr, bool), (Vec<FiveTuple>, Found)> = BTreeMap::new();
    for connection in open(case) {
        for side in 0..2 {
            let (filled, data) = connection.pace.filled(side);
            let window = connection.pace.window(side);
            let unscaled = connection.pace.unscaled();
            let small = window <= SMALL_WINDOW || unscaled.is_some() && window <= UNSCALED;
            if !connection.pace.is_known()
                || !small
                || filled < FILLED
                || filled * FILLED_SHARE < data
                || connection.sides[side].bytes < TRANSFER
                || connection.resent(side) * 20 > data
            {
                continue;
            }
            let (sender, reader) = (end(connection, side), end(connection, 1 - side));
            // A service is one row, a client is not: its ports change.
            let service = if side == 0 { reader } else { sender };
            let refuses = unscaled.filter(|_| window > SMALL_WINDOW);
            let (flows, found) = rows.entry((service, refuses.is_some())).or_insert_with(|| {
                let mut evidence = vec![format!(
                    "{}: {filled} of {data} segments used up the window; the largest was {window} bytes.",
                    connection.tuple
                )];
                if let Some(side) = unscaled {
                    evidence.push(format!("The SYN of {} offers no window scaling.", end(connection, side)));
                }
                for (of, names) in [
                    (reader, &["net.ipv4.tcp_rmem", "net.core.rmem_max"][..]),
                    (unscaled.map_or(reader, |side| end(connection, side)), &["net.ipv4.tcp_window_scaling"][..]),
                ] {
                    let space = case.owner(of.ip());
                    for name in names {
                        if let Some(value) = space.and_then(|space| space.sysctl(name)) {
                            evidence.push(format!("{name} of {of} is {value}."));
                        }
                    }
                }
                let found = Found {
                    title: match refuses {
                        Some(side) => format!(
                            "{sender} has to wait for the window of {reader}: without window scaling, which {} does not \
                             offer, it is {window} bytes at most.",
                            end(connection, side)
                        ),
                        None => format!(
                            "{sender} has to wait for the window of {reader}, which is never larger than {window} bytes."
                        ),
                    },
                    evidence,
                    effect: "confirmed: the sender used up what it was granted again and again.".to_owned(),
                    advice: match refuses {
                        Some(side) => format!("`sysctl -w net.ipv4.tcp_window_scaling=1` at {}, or what strips the option on the way.", end(connection, side)),
                        None => format!("At {reader}: raise net.ipv4.tcp_rmem (the third value), and do not set SO_RCVBUF; `ss -tmi` shows rcv_space."),
                    },
                    targets: [Some(super::case::service(6, reader.ip(), reader.port())), place(case, reader)].into_iter().flatten().collect(),
                    ..Found::default()
                };
                (Vec::new(), found)
            });
            flows.push(connection.tuple);
            found.times.merge(&Times { count: filled, ..connection.times.clone() });
        }
    }
    told(case, rows.into_values().collect())
}

/// Findings, whose connections are explained from here on.
fn told(case: &mut Case<'_>, rows: Vec<(Vec<FiveTuple>, Found)>) -> Vec<Found> {
    let mut all = Vec::new();
    for (flows, found) in rows {
        for flow in flows {
            case.explain_flow(flow);
        }
        all.push(found);
    }
    all
}

fn send_buffer(case: &mut Case<'_>) -> Vec<Found> {
    // One namespace, one limit.
    let mut rows: BTreeMap<u32, (Vec<FiveTuple>, Found)> = BTreeMap::new();
    for connection in open(case) {
        for side in 0..2 {
            let (sender, reader) = (end(connection, side), end(connection, 1 - side));
            let Some(space) = case.owner(sender.ip()) else { continue };
            let Some(most) = limit(space, "net.ipv4.tcp_wmem").filter(|most| *most < SMALL_SEND)
            else {
                continue;
            };
            let (flight, window) = (connection.pace.flight(side), connection.pace.window(side));
            if connection.sides[side].bytes < TRANSFER || window < flight.saturating_mul(2) {
                continue;
            }
            let row = rows.entry(space.netns).or_insert_with(|| (Vec::new(), Found {
                title: format!(
                    "{sender} never had more than {flight} bytes under way to {reader}: its send buffer is limited to {most} bytes."
                ),
                evidence: vec![
                    format!("{}: {} bytes sent; {reader} granted up to {window} bytes.", connection.tuple, connection.sides[side].bytes),
                    format!("net.ipv4.tcp_wmem of namespace {} is {}.", space.name, space.sysctl("net.ipv4.tcp_wmem").unwrap_or_default()),
                ],
                effect: "confirmed: less was under way than was granted; the limit fits.".to_owned(),
                advice: format!("In namespace {}: raise net.ipv4.tcp_wmem (the third value; 4 MiB is the default), and do not set SO_SNDBUF.", space.name),
                targets: vec![service(6, sender.ip(), sender.port()), format!("namespace {}", space.name)],
                times: connection.times.clone(),
                sure: Sure::Medium("an application that writes little at a time looks alike".to_owned()),
                ..Found::default()
            }));
            row.0.push(connection.tuple);
        }
    }
    told(case, rows.into_values().collect())
}

fn delayed_ack(case: &mut Case<'_>) -> Vec<Found> {
    #[derive(Default)]
    struct Held {
        segments: u64,
        ns: u64,
        times: Times,
        example: String,
        flows: Vec<FiveTuple>,
    }
    let mut rows: BTreeMap<(SocketAddr, bool), Held> = BTreeMap::new();
    for connection in open(case) {
        for side in 0..2 {
            let (held, ns) = connection.pace.held(side);
            let (_, data) = connection.pace.filled(side);
            if held < HELD || u64::from(held) * HELD_SHARE < data {
                continue;
            }
            let example = format!(
                "{}: {} of {} waited {} ms in all for an acknowledgement that came alone.",
                connection.tuple,
                counted(u64::from(held), "segment"),
                end(connection, side),
                ns / 1_000_000
            );
            let service = SocketAddr::new(connection.tuple.dst, connection.tuple.dport);
            let row = rows
                .entry((service, side == 0))
                .or_insert_with(|| Held { example, ..Held::default() });
            row.segments += u64::from(held);
            row.ns += ns;
            row.times.merge(&connection.times);
            row.flows.push(connection.tuple);
        }
    }
    let found = rows
        .into_iter()
        .map(|((server, by_client), Held { segments: held, ns, times, example, flows })| {
            let (who, whom) = if by_client { ("clients of", "server") } else { ("the server", "clients") };
            (flows, Found {
                title: format!(
                    "Small writes of {who} {server} wait for the delayed acknowledgement of the {whom}: {} held back {} ms each.",
                    counted(held, "segment"),
                    ns / held.max(1) / 1_000_000
                ),
                evidence: vec![example, "Each left within 3 ms of that acknowledgement: Nagle's algorithm let it go.".to_owned()],
                effect: "confirmed: the waits end with the acknowledgement.".to_owned(),
                advice: "Write a message with one call (writev, MSG_MORE), or set TCP_NODELAY at the sender; TCP_QUICKACK at the receiver.".to_owned(),
                targets: [Some(service(6, server.ip(), server.port())), place(case, server)].into_iter().flatten().collect(),
                times: Times { count: held, ..times },
                ..Found::default()
            })
        })
        .collect();
    told(case, found)
}

fn slow_application(case: &mut Case<'_>) -> Vec<Found> {
    // In a capture the handshake may have been answered by a proxy on the way.
    if case.is_capture() {
        return Vec::new();
    }
    #[derive(Default)]
    struct Server {
        answers: u64,
        slow: u64,
        thought_ns: u64,
        slowest_ns: u64,
        path_ns: u64,
        times: Times,
        flows: Vec<FiveTuple>,
    }
    let mut servers: BTreeMap<SocketAddr, Server> = BTreeMap::new();
    for connection in open(case) {
        let pace = &connection.pace;
        let Some(path_ns) = pace.handshake_ns else { continue };
        let lossy = (0..2).any(|side| connection.resent(side) > 0);
        let closed = connection.sides.iter().any(|side| side.closures > 0);
        if pace.answers == 0 || lossy || closed || connection.drops > 0 {
            continue;
        }
        let row = servers.entry(connection.server()).or_default();
        row.answers += u64::from(pace.answers);
        row.slow += u64::from(pace.slow);
        row.thought_ns += pace.thought_ns;
        row.slowest_ns = row.slowest_ns.max(pace.slowest_ns);
        row.path_ns = row.path_ns.max(path_ns);
        row.times.merge(&connection.times);
        row.flows.push(connection.tuple);
    }
    let mut all = Vec::new();
    for (server, row) in servers {
        let mean = row.thought_ns / row.answers.max(1);
        if row.slow < u64::from(SLOW)
            || row.slow * 2 < row.answers
            || mean < SLOW_NS
            || row.path_ns.saturating_mul(PATH) > mean
        {
            continue;
        }
        all.push((row.flows, Found {
            title: format!("The application at {server} takes {} ms to answer, the path {}.", mean / 1_000_000, short(row.path_ns)),
            evidence: vec![
                format!(
                    "{} of {} took at least {} ms, the slowest {} ms; requests were not lost and not sent again.",
                    row.slow,
                    counted(row.answers, "answer"),
                    SLOW_NS / 1_000_000,
                    row.slowest_ns / 1_000_000
                ),
                format!("A handshake took {} at most: the host answers at once, its application does not.", short(row.path_ns)),
            ],
            effect: "confirmed: the time passed between request and answer; whether it is meant (a long poll) only the application knows.".to_owned(),
            advice: "Look at the application: what it waits for (a database, a lock, a name server), its threads and its CPU; not at the network.".to_owned(),
            targets: [Some(service(6, server.ip(), server.port())), place(case, server)].into_iter().flatten().collect(),
            times: Times { count: row.slow, ..row.times },
            sure: Sure::Medium("a server that is meant to wait looks alike".to_owned()),
            ..Found::default()
        }));
    }
    told(case, all)
}

/// A time of some milliseconds or less, with the digits that matter.
fn short(ns: u64) -> String {
    if ns >= 10_000_000 {
        format!("{} ms", ns / 1_000_000)
    } else {
        format!("{}.{} ms", ns / 1_000_000, ns / 100_000 % 10)
    }
}
