//! What is left when no cause was seen: silence, loss, errors from elsewhere.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use psc_formats::FiveTuple;
use psc_formats::manifest::Layer;

use super::case::{Case, counted, service};
use super::rule::{Find, Found, Rule, Sure};
use super::seen::{IcmpError, Times};

/// Retransmitted share of sent segments from which loss is a finding: above it, the throughput of
/// loss-based congestion control falls off (Mathis et al., CCR 1997).
const RETRANSMIT_PER_MILLE: u64 = 10;

/// Fewer ICMP errors held back are no finding: whoever asks once more learns.
const HELD_BACK: u64 = 10;

/// Fewer retransmissions are no finding.
const RETRANSMITS: u64 = 10;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "icmp-rate-limited",
        layer: Layer::Network,
        severity: "low",
        looks_at: "IcmpOutRateLimitHost, IcmpOutRateLimitGlobal and their IPv6 kin",
        cause: "ICMP errors were held back by the rate limit: senders do not learn why packets fail",
        silent_on: "ICMP errors below the limit",
        references: &[
            "Documentation/networking/ip-sysctl.rst icmp_ratelimit, icmp_msgs_per_sec",
            "RFC 1812 section 4.3.2.8",
        ],
        find: Find::Own(rate_limited),
    },
    Rule {
        id: "icmp-unreachable",
        layer: Layer::Network,
        severity: "medium",
        looks_at: "ICMP unreachable and time exceeded messages about flows that no local cause explains",
        cause: "a router or host on the path refuses the packets, and says why",
        silent_on: "path MTU discovery, traceroute, answers to clients that are gone",
        references: &["RFC 792", "RFC 1812 section 5.2.7", "RFC 4443 section 3"],
        find: Find::Own(unreachable),
    },
    Rule {
        id: "syn-unanswered",
        layer: Layer::Transport,
        severity: "high",
        looks_at: "SYNs sent again without an answer, and no drop, error or counter that explains them",
        cause: "the server or something on the path discards connection attempts in silence",
        silent_on: "attempts answered at the second try, scans, attempts that another cause explains",
        references: &["RFC 9293 section 3.5", "tcp(7) tcp_syn_retries"],
        find: Find::Own(syn_unanswered),
    },
    Rule {
        id: "echo-unanswered",
        layer: Layer::Network,
        severity: "medium",
        looks_at: "ICMP echo requests without replies that no other cause explains, icmp_echo_ignore_all",
        cause: "a host does not answer ping: it is told not to, it is down, or something on the way discards",
        silent_on: "pings that are answered, one lost among many, traceroute",
        references: &[
            "RFC 1122 section 3.2.2.6",
            "Documentation/networking/ip-sysctl.rst icmp_echo_ignore_all",
        ],
        find: Find::Own(echo_unanswered),
    },
    Rule {
        id: "retransmissions",
        layer: Layer::Transport,
        severity: "medium",
        looks_at: "retransmitted segments against segments sent, drops of their connections, DSACK and timeout counters",
        cause: "segments are lost on the path",
        silent_on: "loss below 1 %, connection attempts, connections whose trouble has another cause",
        references: &["RFC 6298", "RFC 8985"],
        find: Find::Own(retransmissions),
    },
];

fn rate_limited(case: &mut Case<'_>) -> Vec<Found> {
    let counters = ["IcmpOutRateLimitHost", "IcmpOutRateLimitGlobal", "Icmp6OutRateLimitHost"];
    let mut all = Vec::new();
    for space in &case.spaces {
        let rose: u64 = counters.iter().map(|name| space.rise(name)).sum();
        if rose < HELD_BACK {
            continue;
        }
        let mut evidence = space.tell(&counters);
        for name in [
            "net.ipv4.icmp_ratelimit",
            "net.ipv4.icmp_ratemask",
            "net.ipv4.icmp_msgs_per_sec",
            "net.ipv6.icmp.ratelimit",
        ] {
            if let Some(value) = space.sysctl(name) {
                evidence.push(format!("{name} is {value}."));
            }
        }
        all.push(Found {
            title: format!("Namespace {} held back {} for its rate limit.", space.name, counted(rose, "ICMP error")),
            evidence,
            effect: "confirmed: the kernel counted them.".to_owned(),
            advice: "First mend what causes the errors; net.ipv4.icmp_ratelimit (ms between messages to one host) and \
                     icmp_msgs_per_sec bound them."
                .to_owned(),
            targets: vec![format!("namespace {}", space.name)],
            times: Times { count: rose, ..Times::default() },
            ..Found::default()
        });
    }
    all
}

/// Whether the flow that an error is about is the answer to a question seen before.
pub(super) fn answered_by(case: &Case<'_>, about: FiveTuple) -> bool {
    case.seen.drops.began_at_other_end(about)
}

fn words(error: &IcmpError) -> Option<&'static str> {
    Some(match (error.v6, error.kind, error.code) {
        (false, 3, 0) | (true, 1, 0) => "no route to the network",
        (false, 3, 1) | (true, 1, 3) => "the host does not answer there",
        (false, 3, 2) => "no handler for the protocol",
        (false, 3, 3) | (true, 1, 4) => "nothing listens on the port",
        (false, 3, 9 | 10 | 13) | (true, 1, 1) => "prohibited by administration (a filter)",
        (false, 3, _) | (true, 1, _) => "unreachable",
        (false, 11, 0) | (true, 3, 0) => "the TTL ran out",
        (false, 11, 1) | (true, 3, 1) => "fragments did not all arrive",
        (false, 12, _) | (true, 4, _) => "a header field is wrong",
        _ => return None,
    })
}

/// Whether a translator says of its own address that the host does not answer: the one behind it does not, and
/// that neighbour has been told.
fn translated(case: &Case<'_>, error: &IcmpError) -> bool {
    let at = |device| case.tables.devices.get(device).map(|fact| fact.netns);
    matches!((error.v6, error.kind, error.code), (false, 3, 1) | (true, 1, 3))
        && case.owner(error.sender).is_some_and(|space| {
            space.owns(error.about.dst)
                && case.seen.link.asks().iter().any(|(host, ask)| {
                    at(&ask.device) == Some(space.netns) && case.is_host_explained(**host)
                })
        })
}

fn unreachable(case: &mut Case<'_>) -> Vec<Found> {
    let mut rows: BTreeMap<_, Times> = BTreeMap::new();
    for (error, times) in case.seen.errors.all() {
        let about = error.about;
        if error.too_big()
            || words(error).is_none()
            || case.is_explained(about)
            || case.seen.errors.is_traceroute(about.src, about.dst)
            || about.protocol == 17 && (33434..33600).contains(&about.dport)
            || answered_by(case, about)
            // A host that tells itself.
            || error.sender == about.src
            || translated(case, error)
        {
            continue;
        }
        let key = (
            error.sender,
            error.v6,
            error.kind,
            error.code,
            about.protocol,
            about.dst,
            about.dport,
        );
        rows.entry(key).or_default().merge(times);
    }
    rows.into_iter()
        .map(|((sender, v6, kind, code, protocol, dst, dport), times)| {
            let about = FiveTuple { protocol, src: sender, sport: 0, dst, dport };
            let why = words(&IcmpError { v6, kind, code, sender, about }).unwrap_or("unreachable");
            let what = service(protocol, dst, dport);
            case.explain_host(dst);
            Found {
                title: format!("{sender} says of {what}: {why}."),
                evidence: vec![format!(
                    "{} of type {kind} code {code} from {sender}.",
                    counted(times.count, if v6 { "ICMPv6 error" } else { "ICMP error" })
                )],
                effect: "not observable: the cause is at the sender of the errors.".to_owned(),
                advice: format!("Look at {sender}: its routes, filters and neighbours for {dst} (`traceroute {dst}`)."),
                actors: vec![sender.to_string()],
                targets: vec![what],
                times,
                sure: Sure::Medium("ICMP errors can be forged; what they quote was sent".to_owned()),
            }
        })
        .collect()
}

fn syn_unanswered(case: &mut Case<'_>) -> Vec<Found> {
    const SCAN: usize = 8;
    let mut rows: BTreeMap<SocketAddr, (Times, u64)> = BTreeMap::new();
    let mut clients: BTreeMap<IpAddr, std::collections::BTreeSet<SocketAddr>> = BTreeMap::new();
    let mut ports: BTreeMap<IpAddr, std::collections::BTreeSet<u16>> = BTreeMap::new();
    for connection in case.connections() {
        let answered = connection.syn_ack || connection.sides[1].packets > 0;
        if connection.syns == 0 || answered {
            continue;
        }
        ports.entry(connection.tuple.dst).or_default().insert(connection.tuple.dport);
        // One SYN alone may be in flight, or its answer may be the next packet.
        let waited = case.provenance.last.saturating_sub(connection.times.first) > 400_000_000;
        let gave_up = connection.syns > 1 || waited && connection.sides[0].packets == 1;
        if !gave_up || case.is_explained(connection.tuple) || connection.drops > 0 {
            continue;
        }
        clients.entry(connection.tuple.src).or_default().insert(connection.server());
        let row = rows.entry(connection.server()).or_default();
        row.0.merge(&connection.times);
        row.1 += 1;
    }
    let mut through: BTreeMap<SocketAddr, u64> = BTreeMap::new();
    for connection in case.connections().filter(|connection| connection.syn_ack) {
        if rows.contains_key(&connection.server()) {
            *through.entry(connection.server()).or_default() += 1;
        }
    }
    let mut all = Vec::new();
    // One client that tries many hosts in vain is one finding: it is cut off, or its list is old.
    for (client, servers) in clients.into_iter().filter(|(_, servers)| servers.len() >= SCAN) {
        let (mut times, mut attempts) = (Times::default(), 0);
        for server in &servers {
            if let Some((seen, count)) = rows.remove(server) {
                times.merge(&seen);
                attempts += count;
            }
        }
        let names: Vec<String> = servers.iter().take(3).map(SocketAddr::to_string).collect();
        all.push(Found {
            title: format!(
                "{} services do not answer {} of {client}: {}, ...",
                servers.len(),
                counted(attempts, "connection attempt"),
                names.join(", ")
            ),
            evidence: vec![format!("{} of SYNs without SYN-ACK, RST or ICMP error.", counted(attempts, "attempt"))],
            effect: "not observable: who discards them is outside of what was seen.".to_owned(),
            advice: format!(
                "Is {client} cut off (a filter on its way out, a route), or are its peers gone (an old list, a sweep)? \
                 `psc guard detect` knows scans."
            ),
            targets: std::iter::once(client.to_string()).chain(names).collect(),
            times,
            sure: Sure::Medium("the silence is certain, its cause is not".to_owned()),
            ..Found::default()
        });
    }
    for (server, (times, attempts)) in rows {
        if ports.get(&server.ip()).is_some_and(|ports| ports.len() >= SCAN) {
            continue;
        }
        // Others get through: a loss here and there is the network's.
        if through.get(&server).is_some_and(|through| *through >= attempts * 4) {
            continue;
        }
        let arrived = case.owner(server.ip()).map(|space| space.name.clone());
        let mut evidence = vec![format!(
            "{} ({} in all) to {server} without SYN-ACK, RST or ICMP error.",
            counted(attempts, "attempt"),
            counted(times.count, "SYN")
        )];
        if let Some(name) = &arrived {
            evidence.push(format!(
                "{server} is an address of namespace {name}: what was sent there left no drop."
            ));
        }
        all.push(Found {
            title: format!("{server} does not answer {}.", counted(attempts, "connection attempt")),
            evidence,
            effect: "not observable: who discards them is outside of what was seen.".to_owned(),
            advice: format!(
                "Record at the server too. A filter that drops (`nft list ruleset`), a wrong address or route, or a \
                 server that is down: `traceroute -T -p {} {}`.",
                server.port(),
                server.ip()
            ),
            targets: vec![service(6, server.ip(), server.port())],
            times,
            sure: Sure::Medium("the silence is certain, its cause is not".to_owned()),
            ..Found::default()
        });
    }
    all
}

fn retransmissions(case: &mut Case<'_>) -> Vec<Found> {
    let (mut again, mut sent) = (0_u64, 0_u64);
    let mut times = Times::default();
    let mut worst: Vec<(u64, FiveTuple)> = Vec::new();
    let mut dropped_here = 0;
    for connection in case.connections() {
        if !connection.established {
            continue;
        }
        for side in 0..2 {
            sent += connection.sides[side].segments;
        }
        let resent: u64 = (0..2).map(|side| connection.resent(side)).sum();
        if resent == 0 || case.is_explained(connection.tuple) {
            continue;
        }
        again += resent;
        dropped_here += connection.drops;
        times.merge(&connection.times);
        worst.push((resent, connection.tuple));
    }
    if again < RETRANSMITS || again.saturating_mul(1000) < sent.saturating_mul(RETRANSMIT_PER_MILLE)
    {
        return Vec::new();
    }
    worst.sort_by_key(|(count, tuple)| (std::cmp::Reverse(*count), *tuple));
    let mut evidence = vec![format!(
        "{again} retransmissions against {sent} segments with data, SYN or FIN ({} per mille).",
        again.saturating_mul(1000) / sent.max(1)
    )];
    for (count, tuple) in worst.iter().take(3) {
        evidence.push(format!("{tuple}: {}.", counted(*count, "retransmission")));
    }
    for space in &case.spaces {
        evidence.extend(space.tell(&[
            "TcpExtTCPTimeouts",
            "TcpExtTCPLossProbes",
            "TcpExtTCPFastRetrans",
            "TcpExtTCPSlowStartRetrans",
            "TcpExtTCPSpuriousRTOs",
            "TcpExtTCPDSACKRecv",
            "TcpExtTCPSACKReorder",
        ]));
    }
    evidence.push(if dropped_here > 0 {
        format!(
            "{} of these connections dropped by kernels in the recording.",
            super::case::counted_were(dropped_here, "packet")
        )
    } else {
        "No kernel in the recording dropped packets of these connections: the loss is elsewhere."
            .to_owned()
    });
    times.count = again;
    vec![Found {
        title: format!("{again} of {sent} TCP segments were sent again."),
        evidence,
        effect: "not confirmed: a retransmission shows that the sender waited in vain, not where the segment or its \
                 acknowledgement was lost."
            .to_owned(),
        advice: "Look at the connections with the most retransmissions, then at the drops: what is not dropped here is \
                 lost in the network or at the peer."
            .to_owned(),
        targets: worst.iter().take(3).map(|(_, tuple)| tuple.to_string()).collect(),
        times,
        ..Found::default()
    }]
}

fn echo_unanswered(case: &mut Case<'_>) -> Vec<Found> {
    const LEAST: u64 = 3;
    let mut all = Vec::new();
    for ((from, to), exchange) in case.seen.services.echoes() {
        let about = FiveTuple {
            protocol: if to.is_ipv6() { 58 } else { 1 },
            src: *from,
            sport: 0,
            dst: *to,
            dport: 0,
        };
        let open = exchange.unanswered();
        if open < LEAST
            || open * 2 < exchange.asked.count
            || super::seen::is_group(*to)
            || case.is_explained(about)
            || case.seen.errors.is_traceroute(*from, *to)
        {
            continue;
        }
        let mut evidence = vec![format!(
            "{} from {from}, {} answered.",
            counted(exchange.asked.count, "echo request"),
            exchange.answered
        )];
        let mut told_not_to = false;
        let owner = case.owner(*to);
        for name in ["net.ipv4.icmp_echo_ignore_all", "net.ipv6.icmp.echo_ignore_all"] {
            if let Some("1") = owner.and_then(|space| space.sysctl(name)) {
                evidence.push(format!("{name} is 1 at {to}."));
                told_not_to = true;
            }
        }
        let place = owner.map(|space| format!("namespace {}", space.name));
        all.push(Found {
            title: format!(
                "{to} does not answer {} of {from}{}.",
                counted(open, "ping"),
                if told_not_to { ": it is told to ignore them" } else { "" }
            ),
            evidence,
            effect: if told_not_to {
                "confirmed: the sysctl says so.".to_owned()
            } else {
                "not observable: who discards them is outside of what was seen.".to_owned()
            },
            advice: if told_not_to {
                "`sysctl -w net.ipv4.icmp_echo_ignore_all=0` (net.ipv6.icmp.echo_ignore_all) if it is to answer.".to_owned()
            } else {
                format!("Record at {to} too; is it up, does a filter drop ICMP (`traceroute -I {to}`)?")
            },
            targets: [to.to_string()].into_iter().chain(place).collect(),
            times: exchange.asked.clone(),
            sure: if told_not_to {
                Sure::High
            } else {
                Sure::Medium("the silence is certain, its cause is not".to_owned())
            },
            ..Found::default()
        });
    }
    all
}
