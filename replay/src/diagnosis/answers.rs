//! Answers that come from another address than was asked, and questions that stay without one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use psc_formats::FiveTuple;
use psc_formats::manifest::Layer;

use super::case::{Case, counted, service};
use super::rule::{Find, Found, Rule, Sure};
use super::seen::{Kind, Times, answering};

const UDP: u8 = 17;

/// So many questions in vain are no single loss.
const SILENT: u64 = 3;

pub(super) const RULES: &[Rule] = &[Rule {
    id: "answer-from-elsewhere",
    layer: Layer::Network,
    severity: "high",
    looks_at: "datagrams and SYN-ACKs that no socket takes, for ports from which another address was asked for the same service",
    cause: "the answers come from another address than was asked: a server with several addresses that does not answer from \
            the one it was asked at, or address translation that only one direction passes",
    silent_on: "answers from the address that was asked, sockets that take answers from anywhere",
    references: &[
        "RFC 1122 section 4.1.3.5",
        "ip(7) IP_PKTINFO",
        "RFC 4787 section 6 (hairpinning)",
    ],
    find: Find::Own(elsewhere),
}];

/// Runs behind the causes that explain silence.
pub(super) const SYMPTOMS: &[Rule] = &[Rule {
    id: "udp-no-answer",
    layer: Layer::User,
    severity: "medium",
    looks_at: "datagrams to ports whose protocols answer every question (NTP, SNMP, RADIUS, STUN, SIP, QUIC, ...), none answered",
    cause: "the service does not answer: it hangs, refuses this client without a word, or something on the way discards",
    silent_on: "services that answer at times, one-way protocols such as syslog, silence that another cause explains",
    references: &["RFC 5905 section 8", "RFC 3416", "RFC 2865"],
    find: Find::Own(silent),
}];

/// (who was asked, who answered, port, protocol)
type Pair = (IpAddr, IpAddr, u16, u8);

fn elsewhere(case: &mut Case<'_>) -> Vec<Found> {
    let mut rows: BTreeMap<Pair, (Times, IpAddr, u32)> = BTreeMap::new();
    let mut explained: Vec<FiveTuple> = Vec::new();
    let refused = case.look(|case, drop| {
        case.reason(drop) == "NO_SOCKET" && matches!(drop.kind, Kind::Datagram | Kind::Reply)
    });
    for drop in refused {
        for (flow, count) in drop.flows.most(usize::MAX) {
            if flow.protocol != UDP {
                continue;
            }
            if let Some(asked) = case.seen.datagrams.meant_for(flow) {
                let row = rows
                    .entry((asked, flow.src, flow.sport, UDP))
                    .or_insert_with(|| (Times::default(), flow.dst, case.netns_of(drop)));
                row.0.merge(&Times { count, ..drop.times.clone() });
                explained.extend([flow, FiveTuple { src: asked, ..flow }]);
            }
        }
    }
    // A SYN without an answer, and an answer without a SYN that its receiver resets.
    let mut open: BTreeMap<(IpAddr, u16, u16), IpAddr> = BTreeMap::new();
    for connection in case.connections().filter(|c| c.syns > 0 && !c.syn_ack) {
        let tuple = connection.tuple;
        open.insert((tuple.src, tuple.sport, tuple.dport), tuple.dst);
    }
    for connection in case.connections() {
        let tuple = connection.tuple;
        let stray =
            connection.syns == 0 && connection.syn_ack && connection.sides[0].reset.is_some();
        if let (true, Some(&asked)) = (stray, open.get(&(tuple.src, tuple.sport, tuple.dport)))
            && asked != tuple.dst
        {
            let row = rows
                .entry((asked, tuple.dst, tuple.dport, tuple.protocol))
                .or_insert_with(|| (Times::default(), tuple.src, 0));
            row.0.merge(&Times { count: 1, ..connection.times.clone() });
            explained.extend([tuple, FiveTuple { dst: asked, ..tuple }]);
        }
    }
    for flow in explained {
        case.explain_flow(flow);
        // The client's own port, at which nothing seems to listen.
        case.explain_server(flow.dst, flow.dport);
    }
    rows.into_iter()
        .map(|((asked, answered, port, protocol), (times, client, netns))| {
            case.explain_server(asked, port);
            let what = service(protocol, asked, port);
            let mut evidence = vec![format!(
                "{client} asked {what}; {} came from {} and no socket took {}.",
                counted(times.count, "answer"),
                SocketAddr::new(answered, port),
                if times.count == 1 { "it" } else { "them" }
            )];
            let server = case.owner(answered).map(|space| (space.netns, space.name.clone()));
            let same = case.owner(asked).map(|space| space.netns);
            let both = server.as_ref().filter(|(netns, _)| same == Some(*netns));
            let advice = if let Some((_, name)) = both {
                evidence.push(format!("Namespace {name} has both addresses."));
                format!(
                    "Bind the service of namespace {name} to {asked}, or let it answer from the address it was asked at \
                     (IP_PKTINFO, IPV6_RECVPKTINFO); a route with `src {asked}` helps one client."
                )
            } else {
                format!(
                    "Address translation turned {asked} into {answered}, and the answers take a way around it: masquerade \
                     what comes from the same network (hairpin), or route the answers back through the translator."
                )
            };
            let place = case.space(netns).map(|space| format!("namespace {}", space.name));
            Found {
                title: format!("{answered} answers what {what} was asked: {client} takes no answer from there."),
                evidence,
                advice,
                actors: vec![answered.to_string()],
                targets: place.into_iter().chain([what, answered.to_string(), client.to_string()]).collect(),
                times,
                ..Found::default()
            }
        })
        .collect()
}

fn silent(case: &mut Case<'_>) -> Vec<Found> {
    let mut all = Vec::new();
    let exchanges = case.seen.datagrams.asked();
    let heard: BTreeSet<IpAddr> = exchanges
        .iter()
        .filter(|(_, asked)| asked.answers > 0)
        .map(|((client, ..), _)| *client)
        .collect();
    for ((client, server, port), asked) in exchanges {
        // A capture may hold one direction only: what others answered shows both.
        if case.is_capture() && !heard.contains(client) {
            continue;
        }
        let about = FiveTuple { protocol: UDP, src: *client, sport: 0, dst: *server, dport: *port };
        if asked.answers > 0 || asked.times.count < SILENT || case.is_explained(about) {
            continue;
        }
        let name = answering(*port).unwrap_or("its");
        let what = service(UDP, *server, *port);
        let owner = case.owner(*server);
        let mut evidence = vec![format!(
            "{} from {client}, none answered.",
            counted(asked.times.count, "datagram")
        )];
        if let Some(space) = owner {
            for socket in case.waiting(space.netns, UDP, *port) {
                let who = if socket.pid == 0 {
                    "A socket".to_owned()
                } else {
                    format!("{}[{}]", socket.comm, socket.pid)
                };
                evidence.push(format!(
                    "{who} holds the port; {} bytes wait in it unread.",
                    socket.recv_queue
                ));
            }
        }
        all.push(Found {
            title: format!("{what} ({name}) answers none of {} of {client}.", counted(asked.times.count, "datagram")),
            evidence,
            effect: "not observable: why it is silent is the application's.".to_owned(),
            advice: format!("Is the application at {what} alive (`ss -uanp 'sport = :{port}'`), and does it know {client}? Its log says; record there too if the datagrams do not arrive."),
            targets: std::iter::once(what.clone())
                .chain(owner.map(|space| format!("namespace {}", space.name)))
                .chain([client.to_string()])
                .collect(),
            times: asked.times.clone(),
            sure: Sure::Medium("the silence is certain, its cause is not".to_owned()),
            ..Found::default()
        });
    }
    all
}
