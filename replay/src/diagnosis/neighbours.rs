//! Next hops that do not answer, or whose table is full.

use std::collections::BTreeMap;
use std::net::IpAddr;

use psc_formats::manifest::Layer;

use super::case::{Case, counted};
use super::rule::{DropRule, Find, Found, Rule, Sure};
use super::seen::{Ask, Drop};

/// Requests that the kernel sends before it gives up (`mcast_solicit` of `net/ipv4/arp.c`).
const TRIES: u64 = 3;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "neighbour-ignores",
        layer: Layer::Link,
        severity: "high",
        looks_at: "ARP requests that reached the host that has the address and were not answered, its arp_ignore and flags",
        cause: "the host has the address and does not answer ARP for it",
        silent_on: "hosts that answer, requests for others",
        references: &[
            "Documentation/networking/ip-sysctl.rst arp_ignore",
            "net/ipv4/arp.c arp_process",
        ],
        find: Find::Own(|case| unanswered(case, true)),
    },
    Rule {
        id: "neighbour-unresolved",
        layer: Layer::Link,
        severity: "high",
        looks_at: "drop reason NEIGH_FAILED, ARP requests or neighbour solicitations without an answer",
        cause: "the next hop does not answer address resolution",
        silent_on: "neighbours that answer at the first or second try, duplicate address probes",
        references: &["RFC 826", "RFC 4861 section 7.2", "net/core/neighbour.c neigh_invalidate"],
        find: Find::Own(|case| unanswered(case, false)),
    },
    Rule {
        id: "neighbour-table-full",
        layer: Layer::Link,
        severity: "high",
        looks_at: "drop reason NEIGH_CREATEFAIL",
        cause: "no neighbour entry could be made: the table is full",
        silent_on: "tables below gc_thresh3",
        references: &["arp(7) gc_thresh3", "net/core/neighbour.c neigh_alloc"],
        find: Find::Drops(DropRule {
            reasons: &["NEIGH_CREATEFAIL"],
            title: "{packets} to {dst} {were} dropped at {place}: no neighbour entry could be made.",
            advice: "`ip -s neigh`; raise net.ipv4.neigh.default.gc_thresh3 (net.ipv6 alike), or route instead of bridging so many hosts.",
            sysctls: &["net.ipv4.neigh.default.gc_thresh3"],
            ..DropRule::PLAIN
        }),
    },
    Rule {
        id: "neighbour-queue-full",
        layer: Layer::Link,
        severity: "medium",
        looks_at: "drop reasons NEIGH_QUEUEFULL, NEIGH_DEAD, NEIGH_HH_FILLFAIL",
        cause: "more packets waited for the next hop's address than may, or its entry was being removed",
        silent_on: "short waits for an address",
        references: &[
            "Documentation/networking/ip-sysctl.rst unres_qlen_bytes",
            "net/core/neighbour.c",
        ],
        find: Find::Drops(DropRule {
            reasons: &["NEIGH_QUEUEFULL", "NEIGH_DEAD", "NEIGH_HH_FILLFAIL"],
            title: "{packets} to {dst} {were} dropped at {place} while they waited for its link-layer address ({reason}).",
            advice: "`ip neigh show {dst}`: why does it answer late? net.ipv4.neigh.{dev}.unres_qlen_bytes holds more.",
            ..DropRule::PLAIN
        }),
    },
];

fn is_failure(case: &Case<'_>, drop: &Drop) -> bool {
    // Before 6.1 for IPv4, and to this day for some paths of IPv6, the function tells it alone.
    matches!(case.reason(drop), "NEIGH_FAILED" | "NOT_SPECIFIED")
        && (case.reason(drop) == "NEIGH_FAILED"
            || ["neigh_invalidate", "arp_error_report", "ndisc_error_report", "__neigh_event_send"]
                .iter()
                .any(|name| case.function(drop).starts_with(name)))
}

/// Addresses asked for in vain.
fn in_vain<'a>(case: &Case<'a>) -> Vec<(IpAddr, &'a Ask)> {
    case.seen
        .link
        .asks()
        .into_iter()
        .filter(|(_, ask)| {
            let probing = ask.by.is_some_and(|by| by.is_unspecified());
            let seen = !case.is_capture() || case.seen.link.is_seen_whole(ask.prober);
            seen && !probing && (ask.unanswered >= TRIES || ask.failed && ask.unanswered > 0)
        })
        .map(|(ip, ask)| (*ip, ask))
        .collect()
}

fn unanswered(case: &mut Case<'_>, ignoring: bool) -> Vec<Found> {
    let mut all = Vec::new();
    let asks: BTreeMap<IpAddr, &Ask> = in_vain(case).into_iter().collect();
    let forged = forged(case, &asks);
    for (&target, ask) in &asks {
        if case.is_host_explained(target) || forged.contains(&target) {
            continue;
        }
        let owner = case.owner(target).map(|space| space.netns);
        // The address is on the host that asks: somebody else's fault.
        let holder = owner.filter(|netns| {
            let at = |device| case.tables.devices.get(device).map(|fact| fact.netns);
            at(&ask.device) != Some(*netns)
                && (ask.reached.iter().any(|device| at(device) == Some(*netns))
                    || case.is_capture())
        });
        if holder.is_some() != ignoring {
            continue;
        }
        let drops = case.take(|case, drop| {
            is_failure(case, drop)
                && drop
                    .flows
                    .most(usize::MAX)
                    .iter()
                    .any(|(flow, _)| leads_to(case, drop, flow.dst, target))
        });
        let mut found = if drops.is_empty() { Found::default() } else { case.found(&drops) };
        let asker = case.tables.devices.get(&ask.device).map_or(0, |device| device.netns);
        let place = case.place(asker, ask.device);
        let what = if target.is_ipv6() { "neighbour solicitation" } else { "ARP request" };
        found.evidence.push(format!(
            "{} for {target} at {place}, {}.",
            counted(ask.times.count, what),
            if ask.answers == 0 { "none answered" } else { "the last ones not answered" }
        ));
        if let Some(by) = ask.by {
            found.evidence.push(format!("{by} asked."));
        }
        let waiting: u64 = drops.iter().map(|drop| drop.times.count).sum();
        if waiting > 0 {
            found
                .evidence
                .push(format!("{} that waited for it were dropped.", counted(waiting, "packet")));
        }
        if let Some(netns) = holder {
            holder_facts(case, netns, target, &mut found);
            let name = case.space(netns).map_or("?", |space| &space.name).to_owned();
            found.title = format!("Namespace {name} has {target} and does not answer for it.");
            let strict = strict_at(case, netns, ask);
            found.advice = format!(
                "In namespace {name}: net.ipv4.conf.*.arp_ignore and arp_filter, `ip link set DEVICE arp on`, \
                 a filter before ARP (tc, XDP, nft arp family)."
            );
            if let Some((device, way)) = strict {
                found.title = format!(
                    "Namespace {name} has {target} and does not answer for it: the reverse-path filter of {device} refuses the asker."
                );
                found.evidence.push(format!(
                    "rp_filter of {device} is 1, and the way back leads out of {way}."
                ));
                found.advice = format!(
                    "In namespace {name}: `sysctl -w net.ipv4.conf.{device}.rp_filter=2` (loose; the larger of `all` and the \
                     device counts), or a route back by way of {device}."
                );
            }
            found.targets.insert(0, format!("namespace {name}"));
        } else {
            if let Some(name) = owner.and_then(|netns| case.space(netns)).map(|space| &space.name) {
                found
                    .evidence
                    .push(format!("Namespace {name} has {target}; the requests did not reach it."));
            }
            let reached: Vec<String> = ask
                .reached
                .iter()
                .filter_map(|device| {
                    let netns = case.tables.devices.get(device)?.netns;
                    (netns != asker).then(|| case.place(netns, *device))
                })
                .collect();
            if !reached.is_empty() {
                found.evidence.push(format!("The requests came as far as {}.", reached.join(", ")));
            }
            found.title = format!("Nobody answers for {target} at {place}.");
            found.advice = format!(
                "Is {target} up, on this link and in this VLAN? `ip neigh show {target}`, `arping {target}`; \
                 otherwise correct the route or the address."
            );
            found.targets.insert(0, place);
        }
        found.targets.push(target.to_string());
        found.times.merge(&ask.times);
        if drops.is_empty() && !ask.failed {
            let why =
                "requests were seen and no answer; the answer may take another way".to_owned();
            found.sure = Sure::Medium(why);
        }
        for drop in &drops {
            for (flow, _) in drop.flows.most(usize::MAX) {
                case.explain_host(flow.dst);
            }
        }
        case.explain_host(target);
        // Everything that goes by way of it.
        let routed: Vec<IpAddr> = case
            .connections()
            .flat_map(|connection| {
                let (a, b) = (connection.tuple.src, connection.tuple.dst);
                // Who is spoken to from there, whoever began.
                let far = |ours, other| case.is_local(asker, ours).then_some(other);
                [Some(b), far(b, a)]
            })
            .flatten()
            .filter(|to| {
                case.space(asker)
                    .and_then(|space| space.route(*to))
                    .is_some_and(|route| route.gateway == Some(target))
            })
            .collect();
        for to in routed {
            case.explain_host(to);
        }
        all.push(found);
    }
    if !ignoring {
        all.extend(without_requests(case));
        all = together(all);
    }
    all
}

/// So many addresses asked for in vain from one place are one finding: a sweep, or a net that is not there.
const MANY: usize = 4;

fn together(all: Vec<Found>) -> Vec<Found> {
    let mut places: BTreeMap<Option<String>, Vec<Found>> = BTreeMap::new();
    for found in all {
        places.entry(found.targets.first().cloned()).or_default().push(found);
    }
    let mut out = Vec::new();
    for (place, group) in places {
        if group.len() < MANY {
            out.extend(group);
            continue;
        }
        let names: Vec<String> =
            group.iter().filter_map(|found| found.targets.last().cloned()).collect();
        let mut one = Found {
            title: format!(
                "Nobody answers for {} addresses at {}: {}, ...",
                names.len(),
                place.clone().unwrap_or_default(),
                names[..3].join(", ")
            ),
            advice: "Who sends to so many absent hosts (a scan, a sweep of a monitor), or which net is missing on this \
                     link: `ip neigh show`, `ip route`."
                .to_owned(),
            targets: place.into_iter().chain(names.into_iter().take(16)).collect(),
            sure: group[0].sure.clone(),
            ..Found::default()
        };
        for found in group {
            one.times.merge(&found.times);
            one.evidence.extend(found.evidence.into_iter().take(2));
        }
        one.evidence.truncate(12);
        out.push(one);
    }
    out
}

/// Sources of connection attempts that never complete, where the answers to several wait for an address:
/// they are forged, and whoever is flooded by them is told by another rule.
fn forged(case: &Case<'_>, asks: &BTreeMap<IpAddr, &Ask>) -> std::collections::BTreeSet<IpAddr> {
    let mut begun: BTreeMap<IpAddr, bool> = BTreeMap::new();
    for connection in case.connections() {
        if connection.syns > 0 && asks.contains_key(&connection.tuple.src) {
            *begun.entry(connection.tuple.src).or_default() |= connection.established;
        }
    }
    let forged: std::collections::BTreeSet<IpAddr> =
        begun.into_iter().filter(|(_, completes)| !completes).map(|(ip, _)| ip).collect();
    let owned = forged.iter().any(|ip| case.owner(*ip).is_some());
    if forged.len() >= MANY && !owned { forged } else { std::collections::BTreeSet::new() }
}

/// A device at which the requests arrived, whose reverse-path filter refuses the asker, and the device that the
/// way back leads out of.
fn strict_at(case: &Case<'_>, netns: u32, ask: &Ask) -> Option<(String, String)> {
    let (space, by) = (case.space(netns)?, ask.by?);
    let way = space.route(by)?.device.clone();
    let here = space.devices.iter().filter(|device| {
        ask.reached.contains(&psc_formats::event::DeviceId(device.id)) && device.name != way
    });
    let strict = |name: &str| space.sysctl(&format!("net.ipv4.conf.{name}.rp_filter")) == Some("1");
    here.map(|device| device.name.clone())
        .find(|name| strict(name) || strict("all"))
        .map(|name| (name, way))
}

/// Whether a packet to `to` waits for the address of `target`.
fn leads_to(case: &Case<'_>, drop: &Drop, to: IpAddr, target: IpAddr) -> bool {
    to == target
        || case
            .space(case.netns_of(drop))
            .and_then(|space| space.route(to))
            .is_some_and(|route| route.gateway == Some(target))
}

/// Failures whose requests were not seen.
fn without_requests(case: &mut Case<'_>) -> Vec<Found> {
    let drops = case.take(|case, drop| is_failure(case, drop));
    let mut all = Vec::new();
    for group in case.by_place(&drops) {
        let told = group.iter().all(|drop| {
            drop.flows.most(usize::MAX).iter().all(|(flow, _)| case.is_host_explained(flow.dst))
        });
        for drop in &group {
            for (flow, _) in drop.flows.most(usize::MAX) {
                case.explain_host(flow.dst);
            }
        }
        if told && group.iter().all(|drop| !drop.flows.most(1).is_empty()) {
            continue;
        }
        let mut found = case.found(&group);
        found.title = case.fill(
            "The next hop to {dst} does not answer at {place}: {packets} {were} dropped.",
            &group,
        );
        found.advice = case.fill(
            "`ip neigh show dev {dev}` (FAILED); is the next hop up and on this link?",
            &group,
        );
        all.push(found);
    }
    all
}

fn holder_facts(case: &Case<'_>, netns: u32, target: IpAddr, found: &mut Found) {
    let Some(space) = case.space(netns) else { return };
    let Some(device) = space.devices.iter().find(|device| {
        device.addresses.iter().any(|a| a.split('/').next() == Some(&target.to_string()))
    }) else {
        return;
    };
    found
        .evidence
        .push(format!("{target} is an address of {} in namespace {}.", device.name, space.name));
    if device.no_arp == Some(true) {
        found.evidence.push(format!("{} has ARP turned off.", device.name));
    }
    for (key, name) in [
        ("all", "arp_ignore"),
        (device.name.as_str(), "arp_ignore"),
        ("all", "arp_filter"),
        (device.name.as_str(), "arp_filter"),
    ] {
        let sysctl = format!("net.ipv4.conf.{key}.{name}");
        if let Some(value) = space.sysctl(&sysctl)
            && value != "0"
        {
            found.evidence.push(format!("{sysctl} is {value}."));
        }
    }
}
