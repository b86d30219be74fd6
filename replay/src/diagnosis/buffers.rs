//! Memory of sockets and protocols that ran out.

use psc_formats::manifest::Layer;

use super::case::{Case, counted};
use super::rule::{Find, Found, Rule, Sure};
use super::seen::{Kind, Times};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "protocol-memory",
        layer: Layer::Transport,
        severity: "high",
        looks_at: "drop reason PROTO_MEM, UdpMemErrors, TcpExtTCPAbortOnMemory, TcpExtTCPMemoryPressures",
        cause: "the memory limit of TCP or UDP was reached",
        silent_on: "sockets within tcp_mem and udp_mem",
        references: &[
            "tcp(7) tcp_mem",
            "udp(7) udp_mem",
            "net/core/sock.c __sk_mem_raise_allocated",
        ],
        find: Find::Own(protocol_memory),
    },
    Rule {
        id: "socket-buffer-full",
        layer: Layer::Socket,
        severity: "medium",
        looks_at: "drop reason SOCKET_RCVBUFF, RcvbufErrors counters",
        cause: "a socket's receive buffer was full: the application reads too slowly, or the buffer is too small",
        silent_on: "bursts that fit the buffer",
        references: &["socket(7) SO_RCVBUF", "udp(7)", "net/ipv4/udp.c __udp_enqueue_schedule_skb"],
        find: Find::Own(receive_buffer),
    },
    Rule {
        id: "tcp-receive-memory",
        layer: Layer::Transport,
        severity: "medium",
        looks_at: "drop reasons TCP_OFO_QUEUE_PRUNE, TCP_OFO_DROP, TCP_ZEROWINDOW, SOCKET_BACKLOG; pruning counters",
        cause: "a TCP socket had no room for what came",
        silent_on: "windows that close before the buffer is full",
        references: &["tcp(7) tcp_rmem", "net/ipv4/tcp_input.c tcp_prune_queue"],
        find: Find::Own(tcp_receive),
    },
    Rule {
        id: "send-buffer-full",
        layer: Layer::Socket,
        severity: "medium",
        looks_at: "SndbufErrors counters and sends that end in ENOBUFS, without drops of a queue that explain them",
        cause: "a socket's send buffer is too small for what is sent at once",
        silent_on: "senders that wait for room; queues that drop (told as such)",
        references: &["socket(7) SO_SNDBUF", "net/ipv4/udp.c udp_sendmsg"],
        find: Find::Own(send_buffer),
    },
];

fn protocol_memory(case: &mut Case<'_>) -> Vec<Found> {
    let drops = case.take(|case, drop| case.reason(drop) == "PROTO_MEM");
    let mut all: Vec<Found> = case
        .by_place(&drops)
        .into_iter()
        .map(|group| {
            let mut found = case.found(&group);
            found.title = case.fill("{packets} for {service} {were} dropped at {place}: the protocol's memory limit was reached.", &group);
            if let Some(space) = case.space(case.netns_of(group[0])) {
                found.evidence.extend(space.tell(&["UdpMemErrors", "Udp6MemErrors", "TcpExtTCPMemoryPressures", "TcpExtTCPRcvQDrop"]));
                for name in ["net.ipv4.tcp_mem", "net.ipv4.udp_mem"] {
                    if let Some(value) = space.sysctl(name) {
                        found.evidence.push(format!("{name} is {value} (pages)."));
                    }
                }
            }
            found.advice = "`cat /proc/net/sockstat` against net.ipv4.tcp_mem and net.ipv4.udp_mem (pages): read \
                            faster, fewer sockets, or raise the limit."
                .into();
            found
        })
        .collect();
    for space in &case.spaces {
        let counters =
            ["TcpExtTCPAbortOnMemory", "TcpExtTCPMemoryPressures", "UdpMemErrors", "Udp6MemErrors"];
        let rose: u64 = counters.iter().map(|name| space.rise(name)).sum();
        let told = all.iter().any(|found| found.targets.iter().any(|t| t.contains(&space.name)));
        if rose > 0 && !told {
            let evidence = space
                .tell(&counters)
                .into_iter()
                .chain(
                    ["net.ipv4.tcp_mem", "net.ipv4.udp_mem", "net.ipv4.tcp_max_orphans"]
                        .iter()
                        .filter_map(|name| Some(format!("{name} is {}.", space.sysctl(name)?))),
                )
                .collect();
            all.push(Found {
                title: format!("TCP or UDP of namespace {} ran out of memory {}.", space.name, counted(rose, "time")),
                evidence,
                effect: "confirmed: the kernel counted them.".to_owned(),
                advice: "`cat /proc/net/sockstat` against net.ipv4.tcp_mem and udp_mem; orphaned connections against \
                         net.ipv4.tcp_max_orphans."
                    .to_owned(),
                targets: vec![format!("namespace {}", space.name)],
                times: Times { count: rose, ..Times::default() },
                ..Found::default()
            });
        }
    }
    if !all.is_empty() {
        case.take(|case, drop| case.reason(drop) == "SOCKET_RCVBUFF" && drop.kind == Kind::Counted);
    }
    all
}

fn receive_buffer(case: &mut Case<'_>) -> Vec<Found> {
    let drops = case.take(|case, drop| {
        case.reason(drop) == "SOCKET_RCVBUFF"
            && !case.function(drop).starts_with("packet")
            && !case.function(drop).starts_with("tpacket")
    });
    let mut all: Vec<Found> = case
        .by_place(&drops)
        .into_iter()
        .map(|group| {
            let mut found = case.found(&group);
            found.title = case.fill("{packets} for {service} {were} dropped at {place} because the socket's buffer was full.", &group);
            let socket = group[0].flows.most(1).into_iter().next().and_then(|(flow, _)| {
                case.waiting(case.netns_of(group[0]), flow.protocol, flow.dport).into_iter().next()
            });
            if let Some(socket) = socket.filter(|socket| socket.pid != 0) {
                found.evidence.push(format!("{}[{}] owns the socket.", socket.comm, socket.pid));
            }
            if let Some(space) = case.space(case.netns_of(group[0])) {
                found.evidence.extend(space.tell(&["UdpRcvbufErrors", "Udp6RcvbufErrors", "TcpExtTCPRcvQDrop"]));
            }
            found.effect = "confirmed: the stack freed them with that reason.".into();
            found.advice = "Read faster; `ss -uamn` shows skmem and drops per socket; SO_RCVBUF and net.core.rmem_max \
                            bound the buffer."
                .into();
            found
        })
        .collect();
    for space in &case.spaces {
        let counters = ["UdpRcvbufErrors", "Udp6RcvbufErrors"];
        let rose: u64 = counters.iter().map(|name| space.rise(name)).sum();
        let told = all.iter().any(|found| found.targets.iter().any(|t| t.contains(&space.name)));
        if rose > 0 && !told && space.rise("UdpMemErrors") + space.rise("Udp6MemErrors") < rose {
            all.push(Found {
                title: format!(
                    "{} of UDP sockets in namespace {} dropped because a buffer was full.",
                    counted(rose, "datagram"),
                    space.name
                ),
                evidence: space.tell(&counters),
                effect: "confirmed: the kernel counted them.".to_owned(),
                advice:
                    "`ss -uamn` shows skmem and drops per socket; read faster or raise SO_RCVBUF."
                        .to_owned(),
                targets: vec![format!("namespace {}", space.name)],
                times: Times { count: rose, ..Times::default() },
                ..Found::default()
            });
        }
    }
    all
}

fn tcp_receive(case: &mut Case<'_>) -> Vec<Found> {
    let drops = case.take(|case, drop| {
        matches!(case.reason(drop), "TCP_OFO_QUEUE_PRUNE" | "TCP_OFO_DROP" | "SOCKET_BACKLOG")
            || case.reason(drop) == "TCP_ZEROWINDOW" && drop.times.count >= 3
    });
    case.by_place(&drops)
        .into_iter()
        .map(|group| {
            let mut found = case.found(&group);
            found.title = case.fill("{packets} from {src} to {service} {were} dropped at {place}: the socket had no room ({reason}).", &group);
            if let Some(space) = case.space(case.netns_of(group[0])) {
                found.evidence.extend(space.tell(&[
                    "TcpExtTCPBacklogDrop", "TcpExtPruneCalled", "TcpExtRcvPruned", "TcpExtOfoPruned", "TcpExtTCPOFODrop",
                    "TcpExtTCPZeroWindowDrop", "TcpExtTCPRcvQDrop",
                ]));
                if let Some(value) = space.sysctl("net.ipv4.tcp_rmem") {
                    found.evidence.push(format!("net.ipv4.tcp_rmem is {value}."));
                }
            }
            found.advice = "Read faster; raise net.ipv4.tcp_rmem (the third value) and do not set SO_RCVBUF; `ss -tmn` shows \
                            skmem."
                .into();
            found
        })
        .collect()
}

/// One in so many at most may fall between the reading of counters and the events.
const EDGE: u64 = 4;

fn send_buffer(case: &mut Case<'_>) -> Vec<Found> {
    // A queue that drops makes sendto() fail too: that is the queue's finding.
    let queue =
        case.look(|_, drop| matches!(drop.kind, Kind::Datagram | Kind::Reply | Kind::Counted));
    let mut all = Vec::new();
    for space in &case.spaces {
        let counters = ["UdpSndbufErrors", "Udp6SndbufErrors"];
        let rose: u64 = counters.iter().map(|name| space.rise(name)).sum();
        let by_queue: u64 = queue
            .iter()
            .filter(|drop| case.netns_of(drop) == space.netns)
            .map(|drop| drop.times.count)
            .sum();
        // The counters are read a moment before the first event and after the last.
        let rest = rose.saturating_sub(by_queue);
        if rest > by_queue / EDGE && !case.is_troubled(space.netns) {
            all.push(Found {
                title: format!("{} failed in namespace {}: the socket's send buffer was full.", counted(rose - by_queue, "UDP send"), space.name),
                evidence: space.tell(&counters),
                effect: "confirmed: the kernel counted them.".to_owned(),
                advice: "Raise SO_SNDBUF (net.core.wmem_max bounds it), send less at once, or wait for the socket to be writable.".to_owned(),
                targets: vec![format!("namespace {}", space.name)],
                times: Times { count: rose - by_queue, ..Times::default() },
                sure: Sure::Medium("sends that a device refused count there too".to_owned()),
                ..Found::default()
            });
        }
    }
    if all.is_empty() && queue.is_empty() {
        all = super::sizes::send_errors(case, 105);
    }
    all
}
