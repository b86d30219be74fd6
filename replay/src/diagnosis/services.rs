//! Name resolution, address assignment, router discovery, group membership.

use std::net::IpAddr;

use psc_formats::manifest::Layer;

use super::case::{Case, counted, mac};
use super::rule::{Find, Found, Rule, Sure};
use super::seen::{Exchange, Kind, Times, is_group};

/// Questions without an answer from which a server is said to be silent.
const SILENT: u64 = 2;

/// Times that a group was sent to before it is a finding that nobody joined.
const GROUP: u64 = 3;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "dns-failure",
        layer: Layer::User,
        severity: "medium",
        looks_at: "DNS answers with SERVFAIL or REFUSED",
        cause: "the name server answers that it cannot or will not resolve",
        silent_on: "NXDOMAIN and empty answers",
        references: &["RFC 1035 section 4.1.1", "RFC 8914"],
        find: Find::Own(dns_failure),
    },
    Rule {
        id: "dns-no-answer",
        layer: Layer::User,
        severity: "high",
        looks_at: "DNS questions without an answer that no other cause explains",
        cause: "the name server does not answer",
        silent_on: "a lost question that is answered when asked again",
        references: &["RFC 1035", "resolv.conf(5)"],
        find: Find::Own(dns_silent),
    },
    Rule {
        id: "dhcp-no-answer",
        layer: Layer::User,
        severity: "high",
        looks_at: "DHCP DISCOVER and REQUEST without OFFER, ACK or NAK; NAK",
        cause: "no DHCP server answers, or it refuses",
        silent_on: "exchanges that end with ACK",
        references: &["RFC 2131"],
        find: Find::Own(dhcp),
    },
    Rule {
        id: "no-router",
        layer: Layer::Network,
        severity: "medium",
        looks_at: "router solicitations without an advertisement in a namespace that has no IPv6 route for what it sends",
        cause: "no IPv6 router advertises itself on the link",
        silent_on: "links without IPv6 routers on which nobody misses one",
        references: &["RFC 4861 section 6.3.7", "Documentation/networking/ip-sysctl.rst accept_ra"],
        find: Find::Own(no_router),
    },
    Rule {
        id: "group-not-joined",
        layer: Layer::Network,
        severity: "low",
        looks_at: "multicast packets discarded in ip_rcv_finish or by UDP, delivered nowhere",
        cause: "nobody on the receiving host joined the multicast group",
        silent_on: "groups of the link itself (224.0.0.0/24, ff02::), mDNS, SSDP and the like",
        references: &["RFC 1112", "ip(7) IP_ADD_MEMBERSHIP", "ip-maddress(8)"],
        find: Find::Own(group_not_joined),
    },
];

fn dns_failure(case: &mut Case<'_>) -> Vec<Found> {
    let mut all = Vec::new();
    for ((client, server), exchange) in case.seen.services.dns_exchanges() {
        for (times, what) in [(&exchange.failed, "SERVFAIL"), (&exchange.refused, "REFUSED")] {
            if times.count == 0 {
                continue;
            }
            all.push(Found {
                title: format!("The name server {server} answered {client} with {what} {}.", counted(times.count, "time")),
                evidence: vec![format!(
                    "{} asked, {} answered, {} of these {what}.",
                    counted(exchange.asked.count, "question"),
                    exchange.answered,
                    times.count
                )],
                effect: "confirmed: the answers say so.".to_owned(),
                advice: if what == "SERVFAIL" {
                    format!("At {server}: its forwarders, DNSSEC validation, reachability of the zone's servers (`dig +cd`).")
                } else {
                    format!("At {server}: who may ask (allow-query, allow-recursion); or use another resolver for {client}.")
                },
                targets: vec![super::case::service(17, *server, 53)],
                times: times.clone(),
                ..Found::default()
            });
        }
    }
    all
}

fn dns_silent(case: &mut Case<'_>) -> Vec<Found> {
    let mut all = Vec::new();
    for ((client, server), exchange) in case.seen.services.dns_exchanges() {
        let flow = psc_formats::FiveTuple {
            protocol: 17,
            src: *client,
            sport: 0,
            dst: *server,
            dport: 53,
        };
        let open = exchange.unanswered();
        if open < SILENT
            || is_group(*server)
            || open * 2 < exchange.answered
            || case.is_explained(flow)
        {
            continue;
        }
        all.push(Found {
            title: format!("The name server {server} did not answer {} of {client}.", counted(open, "question")),
            evidence: vec![format!(
                "{} sent, {} answered, and no drop or error explains it.",
                counted(exchange.asked.count, "question"),
                exchange.answered
            )],
            effect: "not observable: what became of the questions beyond this recording.".to_owned(),
            advice: format!("`dig @{server} .` from {client}; is the service up (`ss -lunp 'sport = :53'`), is UDP 53 open on the path?"),
            targets: vec![super::case::service(17, *server, 53)],
            times: exchange.asked.clone(),
            ..Found::default()
        });
    }
    all
}

fn dhcp(case: &mut Case<'_>) -> Vec<Found> {
    let mut all = Vec::new();
    for (client, exchange) in case.seen.services.dhcp_exchanges() {
        let Exchange { asked, answered, refused, .. } = exchange;
        let silent = *answered == 0 && asked.count >= SILENT;
        if !silent && refused.count == 0 {
            continue;
        }
        all.push(Found {
            title: if silent {
                format!("No DHCP server answered {} ({}).", mac(*client), counted(asked.count, "request"))
            } else {
                format!("A DHCP server refused {} with NAK {}.", mac(*client), counted(refused.count, "time"))
            },
            evidence: vec![format!("{} sent, {answered} answered.", counted(asked.count, "request"))],
            effect: "confirmed: the exchange is seen whole.".to_owned(),
            advice: "Is a server or relay on this link (VLAN), and has its pool free addresses? A NAK: the client asks for \
                     an address of another network."
                .to_owned(),
            targets: vec![mac(*client)],
            times: if silent { asked.clone() } else { refused.clone() },
            ..Found::default()
        });
    }
    all
}

fn no_router(case: &mut Case<'_>) -> Vec<Found> {
    let mut all = Vec::new();
    for (device, routers) in case.seen.link.routers() {
        let Some(fact) = case.tables.devices.get(device) else { continue };
        let Some(space) = case.space(fact.netns) else { continue };
        let missed = space.rise("Ip6OutNoRoutes");
        let global = fact
            .addresses
            .iter()
            .any(|address| address.contains(':') && !address.starts_with("fe80"));
        if routers.advertisements > 0 || routers.solicitations.count == 0 || missed == 0 || global {
            continue;
        }
        all.push(Found {
            title: format!("No IPv6 router answers at {}: {} unanswered.", case.place(fact.netns, *device), counted(routers.solicitations.count, "router solicitation")),
            evidence: space.tell(&["Ip6OutNoRoutes"]),
            advice: "Start a router advertisement daemon on the router (radvd), or give the host its address and route by \
                     hand; net.ipv6.conf.*.accept_ra has to be 1 (2 with forwarding)."
                .to_owned(),
            targets: vec![case.place(fact.netns, *device)],
            times: routers.solicitations.clone(),
            sure: Sure::Medium("what was sent may have been for elsewhere".to_owned()),
            ..Found::default()
        });
    }
    all
}

/// Groups that hosts send to whether anybody listens or not.
fn is_chatter(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(v4) => {
            let octets = v4.octets();
            v4.is_broadcast()
                || octets[..3] == [224, 0, 0]
                || octets == [239, 255, 255, 250]
                || octets[..2] == [239, 255] && octets[2] == 255
        }
        // Scope of the interface or the link (RFC 4291 section 2.7).
        IpAddr::V6(v6) => v6.octets()[1] & 0x0f <= 2,
    }
}

fn group_not_joined(case: &mut Case<'_>) -> Vec<Found> {
    let drops = case.take(|case, drop| {
        let function = case.function(drop);
        let refuses = ["ip_rcv_finish", "ip_mr_input", "ip6_mc_input", "__udp4_lib", "__udp6_lib"];
        drop.kind == Kind::Group
            && refuses.iter().any(|name| function.starts_with(name))
            && matches!(case.reason(drop), "NOT_SPECIFIED" | "NO_SOCKET" | "IP_INNOROUTES")
    });
    let mut all = Vec::new();
    for group in case.by_place(&drops) {
        let mut times = Times::default();
        for drop in &group {
            let meant = drop
                .flows
                .most(1)
                .iter()
                .any(|(flow, _)| is_group(flow.dst) && !is_chatter(flow.dst));
            if meant {
                times.merge(&drop.times);
            }
        }
        if times.count < GROUP {
            continue;
        }
        let mut found = case.found(&group);
        found.times = times;
        found.title = case.fill(
            "{packets} for the group {dst} {were} discarded at {place}: nobody there joined it.",
            &group,
        );
        found.advice = case.fill(
            "`ip maddr show dev {dev}` in namespace {netns}: the receiver has to join {dst} on that interface \
             (IP_ADD_MEMBERSHIP with its address), or the sender's group is wrong.",
            &group,
        );
        all.push(found);
    }
    all
}
