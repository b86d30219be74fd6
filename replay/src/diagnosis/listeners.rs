//! Nobody there to take it: no listener, one on another address, one whose queue is full.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use psc_formats::fact::SocketFact;
use psc_formats::manifest::Layer;

use super::case::{Case, counted, service};
use super::rule::{Find, Found, Rule, Sure};
use super::seen::{Connection, Kind, Times};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// So many ports of one host tried by one peer are a scan, not a service that is missing.
const SCAN: usize = 8;

/// So many connections to one service that never complete are more than accidents.
const HALF_OPEN: u64 = 4;

/// A client that gets through elsewhere within this time only tried its first choice.
const SECOND_CHOICE_NS: u64 = 3_000_000_000;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "wrong-bind-address",
        layer: Layer::Socket,
        severity: "high",
        looks_at: "SYNs and datagrams dropped with NO_SOCKET while a socket of the namespace waits on that port at another address",
        cause: "the service is bound to another address than the one it is asked at",
        silent_on: "services asked at the address they are bound to",
        references: &["bind(2)", "ip(7)"],
        find: Find::Own(|case| nobody(case, true)),
    },
    Rule {
        id: "no-listener",
        layer: Layer::Socket,
        severity: "high",
        looks_at: "SYN, no listener, RST; datagram, no socket, ICMP port unreachable",
        cause: "nothing listens on the port",
        silent_on: "answers that come after their client is gone, traceroute, port scans, a first choice refused before a second \
                    works (RFC 8305)",
        references: &[
            "RFC 9293 section 3.10.7.1",
            "RFC 1122 section 4.1.3.1",
            "net/ipv4/tcp_ipv4.c tcp_v4_rcv",
        ],
        find: Find::Own(|case| nobody(case, false)),
    },
    Rule {
        id: "listen-overflow",
        layer: Layer::Socket,
        severity: "high",
        looks_at: "TcpExtListenOverflows, the fullest snapshot of each listener, SYNs sent again; drop reason TCP_LISTEN_OVERFLOW",
        cause: "an accept queue is full: SYNs and final ACKs are dropped without an event",
        silent_on: "busy listeners whose queue has room",
        references: &[
            "listen(2)",
            "RFC 9293 section 3.10.7.2",
            "net/ipv4/tcp_ipv4.c tcp_v4_syn_recv_sock",
        ],
        find: Find::Own(listen_overflow),
    },
    Rule {
        id: "syn-queue-full",
        layer: Layer::Transport,
        severity: "high",
        looks_at: "TcpExtTCPReqQFullDoCookies, TcpExtTCPReqQFullDrop, TcpExtSyncookiesFailed; without SYN cookies \
                   TcpExtListenDrops beyond the overflows of the accept queue",
        cause: "more half-open connections than the listener's queue holds: SYN cookies or drops",
        silent_on: "connections that complete as they come",
        references: &[
            "RFC 4987",
            "Documentation/networking/ip-sysctl.rst tcp_max_syn_backlog, tcp_syncookies",
        ],
        find: Find::Own(syn_queue),
    },
];

fn nobody(case: &mut Case<'_>, elsewhere: bool) -> Vec<Found> {
    let mut rows = BTreeMap::new();
    let mut ports: BTreeMap<(IpAddr, IpAddr), BTreeSet<u16>> = BTreeMap::new();
    let drops = case.look(|case, drop| {
        case.reason(drop) == "NO_SOCKET"
            && matches!(drop.kind, Kind::Syn | Kind::Datagram | Kind::Segment)
    });
    let mut attempts: Vec<(u32, psc_formats::FiveTuple, u64, Times)> = Vec::new();
    for drop in &drops {
        if drop.kind == Kind::Segment {
            continue;
        }
        for (flow, count) in drop.flows.most(usize::MAX) {
            attempts.push((case.netns_of(drop), flow, count, drop.times.clone()));
        }
    }
    if case.is_capture() {
        for connection in case.connections().filter(|c| c.refused()) {
            attempts.push((
                0,
                connection.tuple,
                u64::from(connection.syns),
                connection.times.clone(),
            ));
        }
        for (error, times) in case.seen.errors.all() {
            if matches!((error.v6, error.kind, error.code), (false, 3, 3) | (true, 1, 4))
                && error.about.protocol == UDP
                && error.sender == error.about.dst
                && !super::symptoms::answered_by(case, error.about)
            {
                attempts.push((0, error.about, times.count, times.clone()));
            }
        }
    }
    for (_, flow, ..) in &attempts {
        ports.entry((flow.src, flow.dst)).or_default().insert(flow.dport);
    }
    for (netns, flow, count, times) in attempts {
        let scanned = ports.get(&(flow.src, flow.dst)).is_some_and(|ports| ports.len() >= SCAN);
        let traced = flow.protocol == UDP
            && ((33434..33600).contains(&flow.dport)
                || case.seen.errors.is_traceroute(flow.src, flow.dst));
        if scanned
            || traced
            || super::seen::is_group(flow.dst)
            || second_choice(case, flow, times.last)
        {
            continue;
        }
        let row: &mut (Times, BTreeSet<IpAddr>) =
            rows.entry((netns, flow.protocol, flow.dst, flow.dport)).or_default();
        row.0.merge(&Times { count, ..times });
        row.1.insert(flow.src);
    }
    let mut all = Vec::new();
    // Both protocols may miss a listener on one port.
    let mut told = Vec::new();
    for ((netns, protocol, address, port), (times, clients)) in rows {
        let others = others(case, netns, protocol, address, port);
        if others.is_empty() == elsewhere || case.is_server_explained(address, port) {
            continue;
        }
        let what = service(protocol, address, port);
        let name =
            case.space(netns).map(|space| space.name.clone()).filter(|name| !name.is_empty());
        let place = name.as_ref().map_or(String::new(), |name| format!(" in namespace {name}"));
        let tries = if protocol == TCP { "connection attempt" } else { "datagram" };
        let mut found = Found {
            evidence: vec![format!(
                "{} {} {}.",
                counted(times.count, tries),
                if protocol == TCP {
                    "for it answered with RST,"
                } else {
                    "for it discarded without a socket,"
                },
                format_args!("from {}", list(&clients)),
            )],
            targets: vec![what.clone()],
            ..Found::default()
        };
        if let Some(space) = case.space(netns) {
            let counters: &[&str] =
                if protocol == TCP { &["TcpOutRsts"] } else { &["UdpNoPorts", "Udp6NoPorts"] };
            found.evidence.extend(space.tell(counters));
        }
        if elsewhere {
            for socket in &others {
                found.evidence.push(format!("{} waits at {}.", owner(socket), local(socket)));
            }
            let first = others.first().map_or(String::new(), |socket| local(socket));
            found.title =
                format!("{what} is asked for{place}, and the service is bound to {first}.");
            found.advice = format!(
                "Bind the service to {address} or to the unspecified address (0.0.0.0, ::), or ask for it at {first}."
            );
        } else {
            found.title = format!(
                "Nothing listens on {what}{place}: {} refused.",
                super::case::counted_were(times.count, tries)
            );
            found.advice = format!(
                "`ss -ln{} 'sport = :{port}'`{place}: start the service there, or correct the port or address asked for.",
                if protocol == TCP { "t" } else { "u" }
            );
            if case.is_capture() {
                found.effect =
                    "not observable: a capture shows the refusal, not who refused.".into();
                found.sure = Sure::Medium("a firewall may refuse in the same way".to_owned());
            }
        }
        found.times = times;
        told.push((address, port));
        all.push(found);
    }
    for (address, port) in told {
        case.explain_server(address, port);
    }
    if !elsewhere {
        // Refused or not, what nobody waits for has been judged.
        case.take(|case, drop| {
            case.reason(drop) == "NO_SOCKET" && !matches!(drop.kind, Kind::Segment)
        });
    }
    all
}

/// Sockets that wait on the port at another address of the same or of both families.
fn others<'a>(
    case: &Case<'a>,
    netns: u32,
    protocol: u8,
    address: IpAddr,
    port: u16,
) -> Vec<&'a SocketFact> {
    case.waiting(netns, protocol, port)
        .into_iter()
        .filter(|socket| {
            socket.local.is_some_and(|(ip, _)| {
                ip != address && !(ip.is_unspecified() && ip.is_ipv4() == address.is_ipv4())
            })
        })
        .collect()
}

/// Whether the client got through to the same port elsewhere soon after.
fn second_choice(case: &Case<'_>, refused: psc_formats::FiveTuple, at: u64) -> bool {
    refused.protocol == TCP
        && case.began_around(at, SECOND_CHOICE_NS).iter().any(|other| {
            other.established
                && other.tuple.dport == refused.dport
                && other.tuple.dst != refused.dst
                && (other.tuple.src == refused.src
                    || other.tuple.src.is_ipv4() != refused.src.is_ipv4())
        })
}

fn list(clients: &BTreeSet<IpAddr>) -> String {
    let mut names: Vec<String> = clients.iter().take(3).map(IpAddr::to_string).collect();
    if clients.len() > 3 {
        names.push(format!("{} more", clients.len() - 3));
    }
    names.join(", ")
}

fn owner(socket: &SocketFact) -> String {
    if socket.pid == 0 { "A socket".to_owned() } else { format!("{}[{}]", socket.comm, socket.pid) }
}

fn local(socket: &SocketFact) -> String {
    socket.local.map_or("?".to_owned(), |(ip, port)| SocketAddr::new(ip, port).to_string())
}

/// Listeners named on the evidence of SYNs alone.
const SUSPECTS: usize = 5;

fn listen_overflow(case: &mut Case<'_>) -> Vec<Found> {
    let drops = case.take(|case, drop| case.reason(drop) == "TCP_LISTEN_OVERFLOW");
    let mut all = Vec::new();
    let mut explained = Vec::new();
    for space in &case.spaces {
        let counted_by_kernel = space.rise("TcpExtListenOverflows");
        let by_event: u64 = drops
            .iter()
            .filter(|drop| case.netns_of(drop) == space.netns)
            .map(|drop| drop.times.count)
            .sum();
        let overflows = counted_by_kernel.max(by_event);
        if overflows == 0 {
            continue;
        }
        let name = &space.name;
        let mut evidence = space.tell(&["TcpExtListenOverflows", "TcpExtListenDrops"]);
        let full: Vec<&SocketFact> =
            case.seen_full().into_iter().filter(|socket| socket.netns == space.netns).collect();
        let mut targets = Vec::new();
        for socket in &full {
            targets.push(if socket.pid == 0 {
                local(socket)
            } else {
                format!("{} of {}", local(socket), owner(socket))
            });
            evidence.push(format!(
                "Listener {} of {} had {} connections waiting with a backlog of {}.",
                local(socket),
                owner(socket),
                socket.recv_queue,
                socket.send_queue
            ));
        }
        // SYNs that were sent again or never answered.
        let mut tried: BTreeMap<SocketAddr, (u64, u64, Times)> = BTreeMap::new();
        for connection in case.connections() {
            let server = connection.server();
            let named = full.is_empty()
                || full.iter().any(|socket| {
                    socket.local.is_some_and(|(ip, port)| {
                        port == server.port() && (ip.is_unspecified() || ip == server.ip())
                    })
                });
            let here = space.owns(server.ip()) || space.devices.is_empty();
            let waits = connection.syns > 1 || connection.syns == 1 && !connection.syn_ack;
            if waits && named && here {
                let row = tried.entry(server).or_default();
                row.0 += u64::from(connection.syns - 1);
                row.1 += u64::from(!connection.syn_ack);
                row.2.merge(&connection.times);
            }
        }
        let mut times = Times::default();
        let resent: u64 = tried.values().map(|(count, ..)| count).sum();
        for (.., seen) in tried.values() {
            times.merge(seen);
        }
        times.count = overflows;
        let mut suspects: Vec<(SocketAddr, u64, u64)> = tried
            .iter()
            .map(|(server, (resent, unanswered, _))| (*server, *resent, *unanswered))
            .collect();
        suspects.sort_by_key(|(server, resent, unanswered)| {
            (std::cmp::Reverse((*resent, *unanswered)), *server)
        });
        if full.is_empty() {
            evidence.push(
                "No socket snapshot caught a listener with a full queue; those named are the ones that left SYNs \
                 unanswered."
                    .to_owned(),
            );
            let likely = suspects.iter().filter(|(_, resent, unanswered)| resent + unanswered > 0);
            targets.extend(likely.take(SUSPECTS).map(|(server, resent, unanswered)| {
                if *resent > 0 {
                    format!("{server} (likely: {} sent to it again)", counted(*resent, "SYN"))
                } else {
                    format!("{server} (likely: {} to it unanswered)", counted(*unanswered, "SYN"))
                }
            }));
        }
        // One service alone was asked: no other listener can have had the full queue.
        let asked: BTreeSet<SocketAddr> = case
            .connections()
            .filter(|connection| connection.syns > 0 && space.owns(connection.tuple.dst))
            .map(Connection::server)
            .collect();
        if let (true, 1, Some(server)) = (targets.is_empty(), asked.len(), asked.first()) {
            targets.push(format!("tcp {server} (no other service was asked)"));
        }
        targets.push(format!("namespace {name}"));
        if resent > 0 {
            evidence.push(format!(
                "Clients sent {} again because none was answered.",
                counted(resent, "SYN")
            ));
        }
        explained.extend(suspects.iter().map(|(server, ..)| (server.ip(), server.port())));
        all.push(Found {
            title: format!(
                "A full accept queue dropped {} in namespace {name}; the kernel frees these without an event.",
                counted(overflows, "connection attempt")
            ),
            evidence,
            effect: format!("confirmed: the kernel counted {overflows} overflows."),
            advice: "Accept faster, or raise the backlog given to listen() and net.core.somaxconn; watch `ss -ltn` \
                     (Recv-Q above Send-Q)."
                .to_owned(),
            targets,
            times,
            sure: if full.is_empty() {
                Sure::Medium("the counter is certain, which listener is not".to_owned())
            } else {
                Sure::High
            },
            ..Found::default()
        });
    }
    for (address, port) in explained {
        case.explain_server(address, port);
    }
    all
}

fn syn_queue(case: &mut Case<'_>) -> Vec<Found> {
    let mut all = Vec::new();
    let mut explained = Vec::new();
    for space in &case.spaces {
        let counters = ["TcpExtTCPReqQFullDoCookies", "TcpExtTCPReqQFullDrop"];
        let counted_full: u64 = counters.iter().map(|name| space.rise(name)).sum();
        let mut evidence = space.tell(&counters);
        let mut half: BTreeMap<SocketAddr, (u64, Times)> = BTreeMap::new();
        for connection in case.connections() {
            if connection.syns > 0 && !connection.established && space.owns(connection.tuple.dst) {
                let row = half.entry(connection.server()).or_default();
                row.0 += 1;
                row.1.merge(&connection.times);
            }
        }
        // Without cookies the last quarter of the queue is kept for proven peers, and what it refuses
        // counts as a listen drop alone (`tcp_conn_request` of net/ipv4/tcp_input.c).
        let refused = if space.sysctl("net.ipv4.tcp_syncookies") == Some("0")
            && half.values().any(|(count, _)| *count >= HALF_OPEN)
        {
            space.rise("TcpExtListenDrops").saturating_sub(space.rise("TcpExtListenOverflows"))
        } else {
            0
        };
        let rose = counted_full.max(refused);
        if rose == 0 {
            continue;
        }
        evidence.extend(space.tell(&["TcpExtListenDrops"]));
        evidence.extend(space.tell(&[
            "TcpExtSyncookiesSent",
            "TcpExtSyncookiesRecv",
            "TcpExtSyncookiesFailed",
        ]));
        for name in
            ["net.ipv4.tcp_max_syn_backlog", "net.ipv4.tcp_syncookies", "net.core.somaxconn"]
        {
            if let Some(value) = space.sysctl(name) {
                evidence.push(format!("{name} is {value}."));
            }
        }
        let mut worst: Vec<_> = half.into_iter().collect();
        worst.sort_by_key(|(server, (count, _))| (std::cmp::Reverse(*count), *server));
        let mut times = Times::default();
        for (server, (count, seen)) in worst.iter().take(1) {
            evidence
                .push(format!("{} to {server} stayed half open.", counted(*count, "connection")));
            times = seen.clone();
            explained.push((server.ip(), server.port()));
        }
        times.count = rose;
        all.push(Found {
            title: format!(
                "The SYN queue of a listener in namespace {} overflowed {}.",
                space.name,
                counted(rose, "time")
            ),
            evidence,
            effect: "confirmed: the kernel counted them.".to_owned(),
            advice: "Half-open connections that never complete are a SYN flood (`psc guard detect`) or a lost way back; \
                     for real load raise net.ipv4.tcp_max_syn_backlog and the listen() backlog, keep tcp_syncookies=1."
                .to_owned(),
            targets: worst
                .iter()
                .take(1)
                .map(|(server, _)| format!("tcp {server}"))
                .chain([format!("namespace {}", space.name)])
                .collect(),
            times,
            sure: Sure::High,
            ..Found::default()
        });
    }
    for (address, port) in explained {
        case.explain_server(address, port);
    }
    all
}
