//! Packets too large for their path, and fragments that do not come together.

use std::collections::BTreeMap;

use psc_formats::FiveTuple;
use psc_formats::manifest::Layer;

use super::case::{Case, counted, errno};
use super::rule::{DropRule, Find, Found, Rule, Sure};
use super::seen::{Kind, RESENT_STUCK, Refusal, Times};

/// Longer than any path must take (RFC 879): only the size can be what is wrong with them.
const LONG: u32 = 536;

/// Too-big packets of one flow over this time: the sender did not learn.
const UNTAUGHT_NS: u64 = 150_000_000;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "mtu-black-hole",
        layer: Layer::Network,
        severity: "high",
        looks_at: "full-sized segments sent again and again while small ones pass, packets too big for the next hop, \
                   and what became of the ICMP errors about them",
        cause: "packets are too big for the path and the sender does not learn of it",
        silent_on: "path MTU discovery that works: one error, then smaller packets",
        references: &[
            "RFC 1191",
            "RFC 2923",
            "RFC 4821",
            "Documentation/networking/ip-sysctl.rst tcp_mtu_probing",
        ],
        find: Find::Own(black_hole),
    },
    Rule {
        id: "message-too-long",
        layer: Layer::Network,
        severity: "medium",
        looks_at: "sends that end in EMSGSIZE",
        cause: "an application sends datagrams larger than the path takes and forbids fragments",
        silent_on: "datagrams that fit, or may be fragmented",
        references: &["ip(7) IP_MTU_DISCOVER", "udp(7) EMSGSIZE"],
        find: Find::Own(|case| send_errors(case, 90)),
    },
    Rule {
        id: "reassembly-timeout",
        layer: Layer::Network,
        severity: "medium",
        looks_at: "drop reason FRAG_REASM_TIMEOUT, ReasmTimeout counters, ICMP time exceeded code 1",
        cause: "fragments did not all arrive in time",
        silent_on: "fragmented datagrams that arrive whole",
        references: &[
            "RFC 791 section 3.2",
            "RFC 8900",
            "Documentation/networking/ip-sysctl.rst ipfrag_time",
        ],
        find: Find::Own(reassembly),
    },
    Rule {
        id: "reassembly-memory",
        layer: Layer::Network,
        severity: "medium",
        looks_at: "ReasmFails without timeouts, drop reason FRAG_TOO_FAR, drops in ip_defrag",
        cause: "fragments were discarded for want of reassembly memory or for too large a distance",
        silent_on: "fragmented datagrams that arrive whole",
        references: &[
            "Documentation/networking/ip-sysctl.rst ipfrag_high_thresh",
            "net/ipv4/ip_fragment.c",
        ],
        find: Find::Own(reassembly_memory),
    },
    Rule {
        id: "segmentation-failed",
        layer: Layer::Link,
        severity: "medium",
        looks_at: "drop reasons SKB_GSO_SEG and SKB_CSUM",
        cause: "a packet could not be cut into segments or given its checksum for the device",
        silent_on: "segmentation that works",
        references: &["Documentation/networking/segmentation-offloads.rst", "net/core/gso.c"],
        find: Find::Drops(DropRule {
            reasons: &["SKB_GSO_SEG", "SKB_CSUM"],
            title: "{packets} {were} dropped at {place}: segmentation or checksumming for the device failed.",
            advice: "`ethtool -k {dev}`; turn off gso, tso or tx-checksumming there and report the driver.",
            ..DropRule::PLAIN
        }),
    },
];

fn black_hole(case: &mut Case<'_>) -> Vec<Found> {
    let mut all = Vec::new();
    let mut flows: BTreeMap<FiveTuple, (Vec<String>, Times)> = BTreeMap::new();
    for connection in case.connections() {
        for from in 0..2 {
            let side = &connection.sides[from];
            let Some(stuck) = side.stuck else { continue };
            if !connection.established
                || stuck.sent < RESENT_STUCK
                || stuck.len <= LONG
                || connection.sides[1 - from].closures > 0
                || side.longest_acked >= stuck.len
            {
                continue;
            }
            let tuple = if from == 0 { connection.tuple } else { connection.tuple.reversed() };
            let times = Times {
                count: u64::from(stuck.sent),
                first: stuck.first,
                last: stuck.last,
                journeys: connection.times.journeys.clone(),
            };
            let text = format!(
                "{tuple}: {} bytes sent {} times in vain, while the connection was made and small packets pass.",
                stuck.len, stuck.sent
            );
            flows.insert(tuple, (vec![text], times));
        }
    }
    let too_big = case.look(|case, drop| case.reason(drop) == "PKT_TOO_BIG");
    let untaught = |drop: &super::seen::Drop| {
        drop.times.count >= 2 && drop.times.last - drop.times.first >= UNTAUGHT_NS
    };
    let errors: Vec<_> = case.seen.errors.all().into_iter().filter(|(e, _)| e.too_big()).collect();
    let lost: Vec<_> = case.seen.errors.lost().into_iter().filter(|(e, _)| e.too_big()).collect();
    for drop in &too_big {
        for (flow, count) in drop.flows.most(8) {
            let hit = flows.contains_key(&flow);
            if !hit && !untaught(drop) {
                continue;
            }
            let place = case.place(case.netns_of(drop), drop.device);
            let mtu = case.tables.devices.get(&drop.device).map(|device| device.mtu);
            let row = flows.entry(flow).or_insert_with(|| (Vec::new(), drop.times.clone()));
            row.0.push(format!(
                "{} of it, up to {} bytes, too big for the way on from {place}{}.",
                counted(count, "packet"),
                drop.longest,
                mtu.map_or(String::new(), |mtu| format!(" (it came in by a device of MTU {mtu})"))
            ));
        }
    }
    for (flow, (mut evidence, times)) in flows {
        let about = |error: &super::seen::IcmpError| {
            (error.about.src, error.about.dst, error.about.dport)
                == (flow.src, flow.dst, flow.dport)
        };
        let sent: u64 = errors.iter().filter(|(e, _)| about(e)).map(|(_, t)| t.count).sum();
        let eaten: u64 = lost.iter().filter(|(e, _)| about(e)).map(|(_, t)| t.count).sum();
        let size_known = !too_big.is_empty() || sent + eaten > 0;
        if !size_known {
            continue;
        }
        if eaten > 0 {
            evidence.push(format!(
                "{} that said so dropped on the way back.",
                counted(eaten, "ICMP error")
            ));
        } else if sent > 0 {
            evidence.push(format!("{} said so and changed nothing.", counted(sent, "ICMP error")));
        } else {
            evidence.push("No ICMP error about it came by.".to_owned());
        }
        let places: Vec<String> = too_big
            .iter()
            .filter(|drop| drop.flows.most(usize::MAX).iter().any(|(of, _)| *of == flow))
            .map(|drop| case.place(case.netns_of(drop), drop.device))
            .collect();
        all.push((flow, Found {
            title: format!("Large packets of {flow} vanish and their sender does not learn why: an MTU black hole."),
            evidence,
            effect: "confirmed: packets were too big and the sender kept their size.".to_owned(),
            advice: "Let ICMP fragmentation-needed (IPv4 type 3 code 4, IPv6 type 2) through, give the path one MTU, \
                     clamp the MSS (`tcp option maxseg size set rt mtu`), or set net.ipv4.tcp_mtu_probing=1."
                .to_owned(),
            targets: places.into_iter().chain([flow.to_string()]).collect(),
            times,
            ..Found::default()
        }));
    }
    // Found or not, these drops are path MTU discovery.
    case.take(|case, drop| case.reason(drop) == "PKT_TOO_BIG");
    if !all.is_empty() {
        // The filter that eats the errors is part of this cause.
        case.take(|case, drop| {
            case.reason(drop) == "NETFILTER_DROP"
                && drop.kind == Kind::Message
                && drop.sample.is_some_and(|headers| match headers.transport {
                    psc_formats::packet::Transport::Icmp(icmp) => {
                        matches!((icmp.icmp_type, icmp.code), (3, 4) | (2, 0))
                    }
                    _ => false,
                })
        });
    }
    all.into_iter()
        .map(|(flow, found)| {
            case.explain_flow(flow);
            found
        })
        .collect()
}

/// Sends that ended in one errno, by process.
pub(super) fn send_errors(case: &mut Case<'_>, wanted: u32) -> Vec<Found> {
    let mut rows: BTreeMap<(u32, String), (Times, Option<String>)> = BTreeMap::new();
    for (refusal, times) in case.seen.sockets.refusals() {
        let Refusal::Send(rc, sock, task) = refusal else { continue };
        if rc.unsigned_abs() != wanted {
            continue;
        }
        let socket = case.tables.sockets.get(&psc_formats::SockId(*sock));
        let netns = socket.map_or(0, |socket| socket.netns);
        let process = case
            .tables
            .tasks
            .get(task)
            .map_or("a process".to_owned(), |task| format!("{}[{}]", task.comm, task.pid));
        let to = socket.and_then(|socket| socket.remote).map(|(ip, port)| {
            super::case::service(socket.map_or(17, |socket| socket.protocol), ip, port)
        });
        let row = rows.entry((netns, process)).or_insert_with(|| (Times::default(), to));
        row.0.merge(times);
    }
    rows.into_iter()
        .map(|((netns, process), (times, to))| {
            let place = case.space(netns).map_or("namespace not recorded".to_owned(), |space| {
                format!("namespace {}", space.name)
            });
            let whom = to.clone().map_or(String::new(), |to| format!(" to {to}"));
            Found {
                title: format!("{} of {process}{whom} in {place} failed with {}.", counted(times.count, "send"), errno(wanted)),
                evidence: vec![format!("sock_send_length returned -{wanted} ({}): {}.", errno(wanted), counted(times.count, "time"))],
                advice: match wanted {
                    90 => "Send smaller datagrams (`ip route get DESTINATION` shows a cached MTU), or allow fragments \
                           (IP_MTU_DISCOVER = IP_PMTUDISC_WANT)."
                        .to_owned(),
                    _ => "`ss -aumn` and `ss -atmn` show the socket's memory; SO_SNDBUF, net.core.wmem_max.".to_owned(),
                },
                targets: [place].into_iter().chain(to).collect(),
                times,
                ..Found::default()
            }
        })
        .collect()
}

fn reassembly(case: &mut Case<'_>) -> Vec<Found> {
    let drops = case.take(|case, drop| case.reason(drop) == "FRAG_REASM_TIMEOUT");
    let mut all: Vec<Found> = case
        .by_place(&drops)
        .into_iter()
        .map(|group| {
            let mut found = case.found(&group);
            found.title = case.fill(
                "Fragments from {src} to {dst} did not all arrive at {place} in time.",
                &group,
            );
            if let Some(space) = case.space(case.netns_of(group[0])) {
                found.evidence.extend(space.tell(&[
                    "IpReasmTimeout",
                    "IpReasmFails",
                    "Ip6ReasmTimeout",
                    "Ip6ReasmFails",
                ]));
                if let Some(value) = space.sysctl("net.ipv4.ipfrag_time") {
                    found.evidence.push(format!("net.ipv4.ipfrag_time is {value} s."));
                }
            }
            found.advice = advice(case);
            found
        })
        .collect();
    for space in &case.spaces {
        let rose = space.rise("IpReasmTimeout") + space.rise("Ip6ReasmTimeout");
        if rose > 0
            && !all.iter().any(|found| found.targets.iter().any(|t| t.contains(&space.name)))
        {
            all.push(Found {
                title: format!(
                    "Fragments for namespace {} did not all arrive in time.",
                    space.name
                ),
                evidence: space.tell(&[
                    "IpReasmTimeout",
                    "IpReasmFails",
                    "Ip6ReasmTimeout",
                    "Ip6ReasmFails",
                ]),
                effect: "confirmed: the kernel counted them.".to_owned(),
                advice: advice(case),
                targets: vec![format!("namespace {}", space.name)],
                times: Times { count: rose, ..Times::default() },
                ..Found::default()
            });
        }
    }
    all
}

fn advice(case: &Case<'_>) -> String {
    let filtered = !case
        .look(|case, drop| drop.kind == Kind::Fragment && case.reason(drop) == "NETFILTER_DROP")
        .is_empty();
    if filtered {
        "A filter drops the later fragments, which have no ports: match on addresses, or track connections first.".to_owned()
    } else {
        "Find where fragments get lost (`nstat IpReasm*`, filters on the path that drop what has no ports), or send \
         datagrams that need none."
            .to_owned()
    }
}

fn reassembly_memory(case: &mut Case<'_>) -> Vec<Found> {
    let drops = case.take(|case, drop| {
        case.reason(drop) == "FRAG_TOO_FAR"
            || case.reason(drop) == "NOT_SPECIFIED"
                && [
                    "ip_defrag",
                    "ip_frag_queue",
                    "inet_frag",
                    "ipv6_frag_rcv",
                    "nf_ct_frag6",
                    "ip6_frag_queue",
                ]
                .iter()
                .any(|name| case.function(drop).starts_with(name))
    });
    let mut all: Vec<Found> = case
        .by_place(&drops)
        .into_iter()
        .map(|group| {
            let mut found = case.found(&group);
            found.title = case.fill("{packets} (fragments from {src}) {were} discarded at {place} before reassembly.", &group);
            if let Some(space) = case.space(case.netns_of(group[0])) {
                found.evidence.extend(space.tell(&["IpReasmFails", "Ip6ReasmFails"]));
                for name in ["net.ipv4.ipfrag_high_thresh", "net.ipv4.ipfrag_max_dist", "net.ipv6.ip6frag_high_thresh"] {
                    if let Some(value) = space.sysctl(name) {
                        found.evidence.push(format!("{name} is {value}."));
                    }
                }
            }
            found.advice = "Raise net.ipv4.ipfrag_high_thresh (net.ipv6.ip6frag_high_thresh) and ipfrag_max_dist, or \
                            send datagrams that need no fragments."
                .into();
            found
        })
        .collect();
    for space in &case.spaces {
        let fails = space.rise("IpReasmFails") + space.rise("Ip6ReasmFails");
        let timeouts = space.rise("IpReasmTimeout") + space.rise("Ip6ReasmTimeout");
        let told = all.iter().any(|found| found.targets.iter().any(|t| t.contains(&space.name)));
        if fails > timeouts && !told {
            all.push(Found {
                title: format!(
                    "Namespace {} discarded fragments for want of reassembly memory ({}).",
                    space.name,
                    counted(fails - timeouts, "time")
                ),
                evidence: space.tell(&[
                    "IpReasmFails",
                    "IpReasmTimeout",
                    "Ip6ReasmFails",
                    "Ip6ReasmTimeout",
                ]),
                effect: "confirmed: the kernel counted them.".to_owned(),
                advice: "Raise net.ipv4.ipfrag_high_thresh (net.ipv6.ip6frag_high_thresh)."
                    .to_owned(),
                targets: vec![format!("namespace {}", space.name)],
                times: Times { count: fails - timeouts, ..Times::default() },
                sure: Sure::Medium("other failures of reassembly count there too".to_owned()),
                ..Found::default()
            });
        }
    }
    all
}
