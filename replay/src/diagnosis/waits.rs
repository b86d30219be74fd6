//! What costs time and loses nothing: standing queues, marks of congestion, segments cut small, ends that stay open.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use psc_formats::FiveTuple;
use psc_formats::manifest::Layer;

use super::case::{Case, counted, service};
use super::rule::{Find, Found, Rule};
use super::seen::{LONG_NS, Times};

/// So many packets that waited long are a standing queue, and no single burst.
const STANDING: u64 = 10;

/// Acknowledgements that echo congestion: so many, and one in so many of all, before it is worth a word.
const ECHOES: u64 = 10;
const ECHO_SHARE: u64 = 5;

/// Below what every IPv4 host takes (RFC 9293 section 3.7.1), a segment is cut small on purpose or by mistake.
const SMALL: u16 = 536;

/// So many small segments make a stream of them.
const CUT: u64 = 50;

/// A peer that closed and waits so long for the other end to do the same.
const LINGER_NS: u64 = 1_000_000_000;

/// So many connections of one service left so are a leak, and no connection that is used in one direction.
const LEFT_OPEN: u64 = 3;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "queue-delay",
        layer: Layer::Qdisc,
        severity: "medium",
        looks_at: "the time from net_dev_queue to net_dev_start_xmit of each packet, by device",
        cause: "packets wait in a queue that is too long for its rate (bufferbloat)",
        silent_on: "waits below 100 ms, a burst of fewer than 10 packets",
        references: &["RFC 8289", "RFC 7567", "tc-tbf(8)"],
        find: Find::Own(standing_queue),
    },
    Rule {
        id: "ecn-congestion",
        layer: Layer::Network,
        severity: "low",
        looks_at: "acknowledgements with ECE against all acknowledgements of a connection",
        cause: "something on the path marks packets as having met congestion, and their sender slows down",
        silent_on: "paths that mark less than a fifth, connections without ECN",
        references: &["RFC 3168 section 6.1"],
        find: Find::Own(marked),
    },
    Rule {
        id: "small-segments",
        layer: Layer::Transport,
        severity: "medium",
        looks_at: "the size that the sender's stack cuts a stream to, against the MSS in both SYNs",
        cause: "segments are cut far below the path's MTU: an MSS clamped too low",
        silent_on: "applications that write little, links with a small MTU",
        references: &["RFC 9293 section 3.7.1", "RFC 6691"],
        find: Find::Own(small),
    },
    Rule {
        id: "close-wait",
        layer: Layer::Socket,
        severity: "medium",
        looks_at: "FINs of one end that the other acknowledges and does not follow with its own for a second and more",
        cause: "an application does not close connections that its peers have closed: they stay in CLOSE_WAIT",
        silent_on: "ends that close in their turn, or still send",
        references: &["RFC 9293 section 3.6", "ss(8) state close-wait"],
        find: Find::Own(left_open),
    },
];

fn standing_queue(case: &mut Case<'_>) -> Vec<Found> {
    let mut all = Vec::new();
    for (device, wait) in case.seen.waits.long() {
        if wait.times.count < STANDING {
            continue;
        }
        let netns = case.tables.devices.get(device).map_or(0, |fact| fact.netns);
        let place = case.place(netns, *device);
        let dev = case.device_name(*device);
        let flows = wait.flows.most(usize::MAX);
        // The queue that drops as well has been told.
        if flows.iter().all(|(flow, _)| case.is_explained(*flow)) && !flows.is_empty() {
            continue;
        }
        let mut evidence = vec![format!(
            "{} waited {} ms and more between net_dev_queue and net_dev_start_xmit, at most {} ms.",
            counted(wait.times.count, "packet"),
            LONG_NS / 1_000_000,
            wait.longest / 1_000_000
        )];
        let mut kinds = Vec::new();
        if let Some(space) = case.space(netns) {
            for (name, rise) in space.rises(&format!("qdisc.{dev}."), ".overlimits") {
                let kind = name.rsplit('.').nth(1).unwrap_or("").to_owned();
                evidence.push(format!(
                    "The {kind} queue of {dev} was over its rate {}.",
                    counted(rise, "time")
                ));
                kinds.push(kind);
            }
        }
        for (flow, count) in flows.iter().take(3) {
            evidence.push(format!("{flow}: {}.", counted(*count, "packet")));
        }
        let kind = kinds.first().map_or(String::new(), |kind| format!(" {kind}"));
        for (flow, _) in &flows {
            case.explain_flow(*flow);
        }
        all.push(Found {
            title: format!(
                "Packets stand in the{kind} queue of {place} for up to {} ms: {} waited 100 ms and more.",
                wait.longest / 1_000_000,
                counted(wait.times.count, "packet")
            ),
            evidence,
            advice: format!(
                "`tc -s qdisc show dev {dev}`: a lower limit or a queue that keeps itself short (fq_codel, cake, a small tbf \
                 latency); a higher rate if the link has it. Timers that fire meanwhile send again what was only late."
            ),
            targets: std::iter::once(place)
                .chain(flows.iter().take(3).map(|(flow, _)| service(flow.protocol, flow.dst, flow.dport)))
                .collect(),
            times: wait.times.clone(),
            ..Found::default()
        });
    }
    all
}

fn marked(case: &mut Case<'_>) -> Vec<Found> {
    let mut rows: BTreeMap<SocketAddr, (Times, u64, u64, FiveTuple)> = BTreeMap::new();
    for connection in case.connections() {
        for side in &connection.sides {
            if side.echoes < ECHOES || side.echoes * ECHO_SHARE < side.packets {
                continue;
            }
            let row = rows
                .entry(connection.server())
                .or_insert_with(|| (Times::default(), 0, 0, connection.tuple));
            row.0.merge(&connection.times);
            row.1 += side.echoes;
            row.2 += side.packets;
        }
    }
    rows.into_iter()
        .map(|(server, (times, echoes, of, tuple))| {
            let what = service(6, server.ip(), server.port());
            Found {
                title: format!("The path marks packets of {what} as congested: {echoes} of {of} acknowledgements say so."),
                evidence: vec![format!("{tuple}: {echoes} packets with ECE.")],
                effect: "not confirmed: the sender halves its window at each such round trip (RFC 3168); who marks is not seen.".to_owned(),
                advice: "`tc -s qdisc` on each router of the path (marks of codel, red, fq): a link that is full, a threshold \
                         that is too low, or a filter that rewrites the ECN bits."
                    .to_owned(),
                targets: vec![what, tuple.to_string()],
                times: Times { count: echoes, ..times },
                ..Found::default()
            }
        })
        .collect()
}

fn small(case: &mut Case<'_>) -> Vec<Found> {
    let mut rows: BTreeMap<SocketAddr, (Times, u16, u64, u16)> = BTreeMap::new();
    for connection in case.connections() {
        let said = connection.sides.iter().filter_map(|side| side.mss).min();
        for tuple in [connection.tuple, connection.tuple.reversed()] {
            let (Some((size, count)), Some(said)) = (case.seen.waits.cut(tuple), said) else {
                continue;
            };
            // As first seen, before anybody on the path could change it.
            if size >= SMALL || count < CUT || u32::from(size) * 2 > u32::from(said) {
                continue;
            }
            let row = rows.entry(connection.server()).or_insert((Times::default(), size, 0, said));
            row.0.merge(&connection.times);
            row.1 = row.1.min(size);
            row.2 += count;
        }
    }
    rows.into_iter()
        .map(|(server, (times, size, count, said))| {
            let what = service(6, server.ip(), server.port());
            Found {
                title: format!("Data of {what} is cut into segments of {size} bytes where both ends offered {said}."),
                evidence: vec![format!("{} of at most {size} bytes; the SYNs set out with an MSS of {said} and more.", counted(count, "segment"))],
                effect: "confirmed: the sender's stack cuts to that size.".to_owned(),
                advice: "Something on the path lowers the MSS (`nft list ruleset | grep maxseg`, iptables TCPMSS): clamp to the \
                         path's MTU (`tcp option maxseg size set rt mtu`), no lower. Else a route with a small `mtu` or `advmss`."
                    .to_owned(),
                targets: vec![what],
                times: Times { count, ..times },
                ..Found::default()
            }
        })
        .collect()
}

fn left_open(case: &mut Case<'_>) -> Vec<Found> {
    // A connection that nobody uses ends the events; counters are read when the recording ends.
    let read = case.tables.counters.iter().map(|fact| fact.at).max().unwrap_or(0);
    let end = case.provenance.last.max(read);
    let mut rows: BTreeMap<(SocketAddr, usize), (Times, u64, FiveTuple)> = BTreeMap::new();
    for connection in case.connections() {
        let reset = connection.sides.iter().any(|side| side.reset.is_some());
        if reset || case.is_explained(connection.tuple) {
            continue;
        }
        for index in 0..2 {
            let (closed, other) = (&connection.sides[index], &connection.sides[1 - index]);
            let Some(at) = closed.fin_at else { continue };
            let waited = end.saturating_sub(at);
            let answered = other.last >= at;
            if waited < LINGER_NS || other.fin || other.data_last > at || !answered {
                continue;
            }
            let row = rows
                .entry((connection.server(), 1 - index))
                .or_insert_with(|| (Times::default(), 0, connection.tuple));
            row.0.merge(&Times { count: 1, ..connection.times.clone() });
            row.1 = row.1.max(waited);
        }
    }
    rows.into_iter()
        .filter(|(_, (times, ..))| times.count >= LEFT_OPEN)
        .map(|((server, side), (times, longest, tuple))| {
            let what = service(6, server.ip(), server.port());
            let (who, host) = if side == 1 { ("The service", tuple.dst) } else { ("A client", tuple.src) };
            let place = case.owner(host).map(|space| format!("namespace {}", space.name));
            Found {
                title: format!(
                    "{who} {} {what} does not close {} that the other end has closed.",
                    if side == 1 { "at" } else { "of" },
                    counted(times.count, "connection")
                ),
                evidence: vec![
                    format!("The other end's FIN was acknowledged and not followed for up to {} ms, until the end of the recording.", longest / 1_000_000),
                    format!("{tuple} is one of them."),
                ],
                effect: "inferred: the sockets stay in CLOSE_WAIT, each with a descriptor.".to_owned(),
                advice: "`ss -tnp state close-wait`: the application has to close() when read() returns 0; each leaks a file \
                         descriptor until accept() fails with EMFILE."
                    .to_owned(),
                targets: std::iter::once(what).chain(place).collect(),
                times,
                ..Found::default()
            }
        })
        .collect()
}
