//! Packets that find no way: missing, refusing or looping routes, forwarding off, reverse path.

use std::collections::BTreeMap;
use std::net::IpAddr;

use psc_formats::manifest::Layer;

use super::case::{Case, counted, errno};
use super::rule::{DropRule, Find, Found, Rule, Sure};
use super::seen::{Kind, Refusal, Times};

/// `RT_TABLE_MAIN` of `include/uapi/linux/rtnetlink.h`.
const MAIN: u32 = 254;

/// A packet received so often within one recording goes round in circles.
const LOOP: u32 = 8;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "reverse-path-filter",
        layer: Layer::Network,
        severity: "high",
        looks_at: "drop reason IP_RPFILTER, TcpExtIPReversePathFilter",
        cause: "the reverse-path filter: the way back to the source does not lead out of the device it came in by",
        silent_on: "symmetric routes, and asymmetric ones with rp_filter 0 or 2",
        references: &["RFC 3704", "Documentation/networking/ip-sysctl.rst rp_filter"],
        find: Find::Drops(DropRule {
            reasons: &["IP_RPFILTER"],
            title: "{packets} from {src} {were} dropped at {place} by the reverse-path filter: the way back to {src} does \
                    not lead out of {dev}.",
            advice: "Add the route back (`ip route get {src}` in namespace {netns} shows where it leads), or \
                     `sysctl -w net.ipv4.conf.{dev}.rp_filter=2` (loose; the larger of `all` and the device counts).",
            counters: &["TcpExtIPReversePathFilter"],
            sysctls: &["net.ipv4.conf.all.rp_filter", "net.ipv4.conf.{dev}.rp_filter"],
            ..DropRule::PLAIN
        }),
    },
    Rule {
        id: "forwarding-off",
        layer: Layer::Network,
        severity: "high",
        looks_at: "drop reason IP_INADDRERRORS for destinations elsewhere, with the forwarding sysctl",
        cause: "packets come to be forwarded and forwarding is off",
        silent_on: "routers that forward, hosts that get only their own packets",
        references: &[
            "Documentation/networking/ip-sysctl.rst ip_forward",
            "net/ipv4/route.c ip_error",
            "net/ipv6/ip6_output.c ip6_forward",
        ],
        find: Find::Own(forwarding_off),
    },
    Rule {
        id: "routing-loop",
        layer: Layer::Network,
        severity: "high",
        looks_at: "packets whose TTL runs out after they were received again and again within the recording",
        cause: "routes send packets in a circle until their TTL runs out",
        silent_on: "traceroute, which sends TTLs that are meant to run out",
        references: &["RFC 1812 section 5.3.1", "net/ipv4/ip_forward.c"],
        find: Find::Own(|case| ttl(case, true)),
    },
    Rule {
        id: "ttl-expired",
        layer: Layer::Network,
        severity: "medium",
        looks_at: "packets whose TTL or hop limit ran out, without the steps of a traceroute",
        cause: "packets set out with too small a TTL, or loop beyond what was recorded",
        silent_on: "traceroute and mtr",
        references: &[
            "RFC 1812 section 5.3.1",
            "Documentation/networking/ip-sysctl.rst ip_default_ttl",
        ],
        find: Find::Own(|case| ttl(case, false)),
    },
    Rule {
        id: "route-refuses",
        layer: Layer::Network,
        severity: "high",
        looks_at: "route lookups that end in EACCES, EINVAL or EHOSTUNREACH, packets discarded in ip_error and the ICMP error \
                   that goes with each: prohibit, blackhole and unreachable routes or rules",
        cause: "a prohibit, blackhole or unreachable route (or rule) refuses the destination",
        silent_on: "destinations with a usable route",
        references: &["ip-route(8)", "net/ipv4/fib_semantics.c fib_props"],
        find: Find::Own(route_refuses),
    },
    Rule {
        id: "no-return-route",
        layer: Layer::Network,
        severity: "high",
        looks_at: "SYNs that stay unanswered in a namespace whose IpOutNoRoutes and ListenDrops rise, and its routes",
        cause: "requests arrive, but there is no route back to their source",
        silent_on: "sources that a route covers",
        references: &["ip-route(8)", "net/ipv4/inet_connection_sock.c inet_csk_route_req"],
        find: Find::Own(no_return_route),
    },
    Rule {
        id: "no-route",
        layer: Layer::Network,
        severity: "high",
        looks_at: "drop reasons IP_INNOROUTES and IP_OUTNOROUTES, the NoRoutes counters, lookups that find nothing",
        cause: "there is no route to the destination",
        silent_on: "destinations that a route covers",
        references: &["ip-route(8)", "RFC 1812 section 5.2.7.1"],
        find: Find::Own(no_route),
    },
];

fn forwarding_off(case: &mut Case<'_>) -> Vec<Found> {
    let drops = case.take(|case, drop| {
        case.reason(drop) == "IP_INADDRERRORS"
            && drop
                .flows
                .most(1)
                .iter()
                .all(|(flow, _)| !case.is_local(case.netns_of(drop), flow.dst))
    });
    case.by_place(&drops)
        .into_iter()
        .map(|group| {
            let mut found = case.found(&group);
            let v6 = group[0].flows.most(1).iter().any(|(flow, _)| flow.dst.is_ipv6());
            let dev = case.device_name(group[0].device);
            let names = if v6 {
                vec!["net.ipv6.conf.all.forwarding".to_owned(), format!("net.ipv6.conf.{dev}.forwarding")]
            } else {
                vec!["net.ipv4.ip_forward".to_owned(), format!("net.ipv4.conf.{dev}.forwarding")]
            };
            let mut off = false;
            if let Some(space) = case.space(case.netns_of(group[0])) {
                for name in &names {
                    if let Some(value) = space.sysctl(name) {
                        off |= value == "0";
                        found.evidence.push(format!("{name} is {value}."));
                    }
                }
            }
            found.title = case.fill(
                "{packets} to be forwarded to {dst} {were} dropped at {place}: forwarding is off there.",
                &group,
            );
            found.advice = case.fill(
                &format!(
                    "`sysctl -w {}=1` in namespace {{netns}} if it is meant to be a router; else correct the \
                     sender's route.",
                    names[0]
                ),
                &group,
            );
            if !off {
                found.sure = Sure::Medium("the sysctl was not read as 0".to_owned());
            }
            found
        })
        .collect()
}

fn ttl(case: &mut Case<'_>, looping: bool) -> Vec<Found> {
    let drops = case.take(|case, drop| {
        let function = case.function(drop);
        let ran_out = case.reason(drop) == "IP_INHDR"
            && (function.starts_with("ip_forward") || function.starts_with("ip6_forward"))
            || case.reason(drop) == "NOT_SPECIFIED" && function.starts_with("ip6_forward");
        let traced = drop
            .flows
            .most(1)
            .iter()
            .all(|(flow, _)| case.seen.errors.is_traceroute(flow.src, flow.dst));
        ran_out && (!looping || drop.hops >= LOOP && !traced)
    });
    case.by_place(&drops)
        .into_iter()
        .filter_map(|group| {
            let flow = group[0].flows.most(1).into_iter().next().map(|(flow, _)| flow);
            let traced =
                flow.is_some_and(|flow| case.seen.errors.is_traceroute(flow.src, flow.dst));
            if !looping && traced {
                return None;
            }
            let mut found = case.found(&group);
            if looping {
                let hops = group.iter().map(|drop| drop.hops).max().unwrap_or(0);
                found.title = case.fill(
                    "Packets to {dst} go round in a circle until their TTL runs out: {packets} {were} dropped at {place}.",
                    &group,
                );
                found.evidence.push(format!("One packet was received {hops} times before its TTL ran out."));
                found.advice = case.fill(
                    "`ip route get {dst}` on each router of the circle: one of them has to send it elsewhere, \
                     or a blackhole route for the unused part of the prefix.",
                    &group,
                );
            } else {
                found.title = case.fill("The TTL of {packets} to {dst} ran out at {place}.", &group);
                if let Some(ttl) = group[0].sample.and_then(|headers| headers.ttl()) {
                    found.evidence.push(format!("It arrived there with TTL {ttl}."));
                }
                let sender = flow.and_then(|flow| case.owner(flow.src));
                if let Some(value) = sender.and_then(|space| space.sysctl("net.ipv4.ip_default_ttl")) {
                    found.evidence.push(format!("The sender's net.ipv4.ip_default_ttl is {value}."));
                }
                found.advice = case.fill(
                    "At {src}: net.ipv4.ip_default_ttl (or IP_TTL of the application, net.ipv6.conf.*.hop_limit); \
                     otherwise a loop beyond this host: `traceroute {dst}`.",
                    &group,
                );
            }
            Some(found)
        })
        .collect()
}

/// The kinds of route that refuse, by the errno that a lookup ends with.
fn refusing(rc: i32) -> Option<&'static str> {
    Some(match -rc {
        13 => "prohibit",
        22 => "blackhole",
        113 => "unreachable",
        _ => return None,
    })
}

fn route_refuses(case: &mut Case<'_>) -> Vec<Found> {
    let mut rows: BTreeMap<(IpAddr, i32), (Times, u32)> = BTreeMap::new();
    for (refusal, times) in case.seen.sockets.refusals() {
        if let Refusal::Route(rc, to, table, _) = refusal
            && refusing(*rc).is_some()
        {
            let row = rows.entry((*to, *rc)).or_insert_with(|| (Times::default(), *table));
            row.0.merge(times);
        }
    }
    let mut all = in_transit(case);
    for ((to, rc), (times, table)) in rows {
        let Some(kind) = refusing(rc) else { continue };
        case.explain_host(to);
        let drops = case.take(|case, drop| {
            matches!(
                case.reason(drop),
                "IP_INNOROUTES" | "IP_OUTNOROUTES" | "NOT_SPECIFIED" | "IP_INADDRERRORS"
            ) && drop.flows.most(8).iter().any(|(flow, _)| flow.dst == to)
        });
        let mut found = if drops.is_empty() { Found::default() } else { case.found(&drops) };
        found.title = format!(
            "{} {kind} route refuses {to} ({}).",
            if kind == "unreachable" { "An" } else { "A" },
            counted(times.count, "lookup")
        );
        found.evidence.push(format!(
            "Lookups for {to} in table {table} ended in {}: {}.",
            errno(rc.unsigned_abs()),
            counted(times.count, "time")
        ));
        found.advice = format!(
            "`ip route show table all type {kind}` and `ip rule`; `ip route del {kind} PREFIX` if it is not meant."
        );
        found.targets.push(to.to_string());
        if found.times.count == 0 {
            found.times = times;
        }
        all.push(found);
    }
    all
}

/// Packets on their way that a route or a rule of a router refuses. Each kind answers in its own way
/// (`ip_error` of net/ipv4/route.c, `ip6_pkt_drop` of net/ipv6/route.c); a black hole does not answer.
fn in_transit(case: &mut Case<'_>) -> Vec<Found> {
    const DISCARD: [&str; 4] = ["ip_error", "ip6_pkt_prohibit", "ip6_pkt_discard", "dst_discard"];
    let drops = case.take(|case, drop| {
        let function = case.function(drop);
        case.reason(drop) == "NOT_SPECIFIED"
            && DISCARD.iter().any(|name| function.starts_with(name))
            && !matches!(drop.kind, Kind::Group | Kind::Chatter | Kind::Discovery)
    });
    let mut all = Vec::new();
    for group in case.by_place(&drops) {
        let netns = case.netns_of(group[0]);
        let flows: Vec<_> = group.iter().flat_map(|drop| drop.flows.most(usize::MAX)).collect();
        let answer = case.seen.errors.all().into_iter().find(|(error, _)| {
            case.is_local(netns, error.sender)
                && flows.iter().any(|(flow, _)| {
                    (flow.src, flow.dst, flow.dport)
                        == (error.about.src, error.about.dst, error.about.dport)
                })
        });
        let kind = match answer.map(|(error, _)| (error.v6, error.kind, error.code)) {
            Some((false, 3, 9 | 10 | 13) | (true, 1, 1)) => "prohibit",
            Some((false, 3, 0 | 1) | (true, 1, 0 | 3)) => "unreachable",
            Some(_) => continue,
            None => "blackhole",
        };
        let mut found = case.found(&group);
        let article = if kind == "unreachable" { "An" } else { "A" };
        found.title = case.fill(
            &format!("{article} {kind} route or rule at {{place}} refuses {{packets}} from {{src}} to {{dst}}."),
            &group,
        );
        found.evidence.push(match answer {
            Some((error, times)) => format!(
                "{} answered with {} of type {} code {}.",
                error.sender,
                counted(times.count, "ICMP error"),
                error.kind,
                error.code
            ),
            None => "No ICMP error answered: only a blackhole route stays silent there.".to_owned(),
        });
        if let Some(space) = case.space(netns) {
            let hits = flows.iter().flat_map(|(flow, _)| space.refusing(flow.dst));
            let lines: std::collections::BTreeSet<String> = hits.collect();
            found.evidence.extend(lines.into_iter().take(3));
        }
        found.advice = case.fill(
            &format!(
                "In namespace {{netns}}: `ip route show table all type {kind}` and `ip rule`; \
                 `ip route get {{dst}} from {{src}} iif {{dev}}` shows which one answers."
            ),
            &group,
        );
        found.targets.extend(flows.first().map(|(flow, _)| flow.dst.to_string()));
        let named = found
            .evidence
            .iter()
            .any(|line| line.contains(&format!(" {kind} ")) && line.starts_with("Namespace"));
        if answer.is_none() && !named {
            found.sure = Sure::Medium("its silence alone tells its kind".to_owned());
        }
        for (flow, _) in flows {
            case.explain_flow(flow);
            case.explain_host(flow.dst);
        }
        all.push(found);
    }
    all
}

fn no_return_route(case: &mut Case<'_>) -> Vec<Found> {
    let mut all = Vec::new();
    let mut found_for: Vec<(u32, IpAddr, Times, IpAddr, u16)> = Vec::new();
    for space in &case.spaces {
        let v4 = space.rise("IpOutNoRoutes") > 0;
        let v6 = space.rise("Ip6OutNoRoutes") > 0;
        if !v4 && !v6 || space.routes.is_none() {
            continue;
        }
        for connection in case.connections() {
            let tuple = connection.tuple;
            let wanted = if tuple.src.is_ipv6() { v6 } else { v4 };
            if wanted
                && connection.syns > 0
                && !connection.syn_ack
                && connection.drops == 0
                && space.owns(tuple.dst)
                && !space.owns(tuple.src)
                && (space.route(tuple.src).is_none() || !space.refusing(tuple.src).is_empty())
            {
                found_for.push((
                    space.netns,
                    tuple.src,
                    connection.times.clone(),
                    tuple.dst,
                    tuple.dport,
                ));
            }
        }
    }
    let mut rows: BTreeMap<(u32, IpAddr), (Times, IpAddr, u16)> = BTreeMap::new();
    for (netns, src, times, dst, port) in found_for {
        let row = rows.entry((netns, src)).or_insert_with(|| (Times::default(), dst, port));
        row.0.merge(&times);
    }
    for ((netns, src), (times, dst, port)) in rows {
        let Some(space) = case.space(netns) else { continue };
        let name = space.name.clone();
        let mut evidence = vec![format!(
            "{} from {src} to {} arrived and stayed unanswered; no packet of them was dropped.",
            counted(times.count, "SYN"),
            super::case::service(6, dst, port),
        )];
        let refusing = space.refusing(src);
        if refusing.is_empty() {
            evidence.push(format!("No route of namespace {name} covers {src}."));
        }
        let advice = if refusing.is_empty() {
            format!(
                "`ip route add {src} via GATEWAY dev DEVICE` (or a default route) in namespace {name}."
            )
        } else {
            format!(
                "In namespace {name}: `ip rule` and `ip route get {src}`: one of the rules or routes named above refuses it."
            )
        };
        evidence.extend(refusing);
        evidence.extend(space.tell(&["IpOutNoRoutes", "Ip6OutNoRoutes", "TcpExtListenDrops"]));
        all.push(Found {
            title: format!(
                "Namespace {name} has no route back to {src}: its requests stay unanswered."
            ),
            evidence,
            effect:
                "confirmed: the kernel counted replies without a route; no event exists for these."
                    .to_owned(),
            advice,
            targets: vec![format!("namespace {name}"), src.to_string()],
            times,
            ..Found::default()
        });
        case.explain_host(src);
    }
    all
}

/// Routing rules that are not the kernel's own, as evidence: one of them may have refused.
fn rules_of(space: &super::case::Space<'_>) -> Vec<String> {
    let rules = space.routes.map(|routes| routes.rules.as_slice()).unwrap_or_default();
    rules
        .iter()
        .take(3)
        .map(|rule| format!("Namespace {} has the rule {rule}.", space.name))
        .collect()
}

fn no_route(case: &mut Case<'_>) -> Vec<Found> {
    let drops = case.take(|case, drop| {
        matches!(case.reason(drop), "IP_INNOROUTES" | "IP_OUTNOROUTES")
            && !matches!(drop.kind, Kind::Discovery | Kind::Chatter)
    });
    let mut all: Vec<Found> = Vec::new();
    for group in case.by_place(&drops) {
        let mut found = case.found(&group);
        found.title = case
            .fill("{packets} to {dst} {were} dropped at {place}: there is no route to it.", &group);
        found.advice = case.fill(
            "`ip route get {dst} from {src} iif {dev}` in namespace {netns}; add the route, or correct who sends it here.",
            &group,
        );
        if let Some(space) = case.space(case.netns_of(group[0])) {
            found.evidence.extend(space.tell(&[
                "IpExtInNoRoutes",
                "Ip6InNoRoutes",
                "IpOutNoRoutes",
                "Ip6OutNoRoutes",
            ]));
        }
        for drop in &group {
            for (flow, _) in drop.flows.most(usize::MAX) {
                case.explain_host(flow.dst);
            }
        }
        all.push(found);
    }
    // What cannot even be sent leaves only a counter, and the lookups that found nothing.
    let looked: Vec<(IpAddr, Times)> = case
        .seen
        .sockets
        .refusals()
        .into_iter()
        .filter_map(|(refusal, times)| match refusal {
            Refusal::Route(-11, to, MAIN, _) => Some((*to, times.clone())),
            _ => None,
        })
        .collect();
    let mut silent = Vec::new();
    for space in &case.spaces {
        let v6 = if case.is_routerless(space.netns) { 0 } else { space.rise("Ip6OutNoRoutes") };
        let rose = space.rise("IpOutNoRoutes") + v6;
        if rose == 0 || case.is_troubled(space.netns) {
            continue;
        }
        let told = all.iter().any(|found| found.targets.iter().any(|t| t.contains(&space.name)));
        // Requests without a way back were told by another rule.
        let replies = case.connections().any(|connection| {
            (space.owns(connection.tuple.dst)
                || super::addresses::spoke_in(case, space.netns, connection))
                && case.is_explained(connection.tuple)
        });
        if told || replies {
            continue;
        }
        let to: Vec<IpAddr> = looked
            .iter()
            .map(|(to, _)| *to)
            .filter(|to| space.route(*to).is_none() && !space.owns(*to))
            .collect();
        let names: Vec<String> = to.iter().take(3).map(IpAddr::to_string).collect();
        let whom = if names.is_empty() { "a destination".to_owned() } else { names.join(", ") };
        let mut times = Times { count: rose, ..Times::default() };
        for (_, seen) in looked.iter().filter(|(address, _)| to.contains(address)) {
            (times.first, times.last) = (seen.first, seen.last);
        }
        silent.push((to, Found {
            title: format!("Namespace {} has no route to {whom}: {} refused.", space.name, super::case::counted_were(rose, "send")),
            evidence: space
                .tell(&["IpOutNoRoutes", "Ip6OutNoRoutes"])
                .into_iter()
                .chain(rules_of(space))
                .collect(),
            effect: "confirmed: the kernel counted them; callers got ENETUNREACH.".to_owned(),
            advice: format!(
                "`ip route get {}` in namespace {}; add a route (`ip route add default via GATEWAY`).",
                names.first().map_or("DESTINATION", String::as_str),
                space.name
            ),
            targets: std::iter::once(format!("namespace {}", space.name)).chain(names.iter().cloned()).collect(),
            sure: if names.is_empty() {
                Sure::Medium("the counter is certain, which destination is not".to_owned())
            } else {
                Sure::High
            },
            times,
            ..Found::default()
        }));
    }
    for (to, found) in silent {
        for host in to {
            case.explain_host(host);
        }
        all.push(found);
    }
    all
}
