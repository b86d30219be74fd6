//! Name resolution, address assignment, router discovery, group membership.

use std::collections::BTreeMap;
use std::net::IpAddr;

use psc_formats::manifest::Layer;

use super::case::{Case, counted, mac};
use super::rule::{Find, Found, Rule};
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
        id: "dns-slow",
        layer: Layer::User,
        severity: "medium",
        looks_at: "the time from each DNS question to its answer",
        cause: "the name server takes long to answer: every connection by name waits for it",
        silent_on: "answers within half a second, one slow answer among many",
        references: &["RFC 1035", "resolv.conf(5) timeout"],
        find: Find::Own(dns_slow),
    },
    Rule {
        id: "dns-truncated",
        layer: Layer::User,
        severity: "medium",
        looks_at: "DNS answers with the TC bit, and whether the client then asks by TCP",
        cause: "answers do not fit a datagram, and asking by TCP does not work or is not tried",
        silent_on: "truncated answers after which the client is answered by TCP",
        references: &["RFC 7766", "RFC 6891"],
        find: Find::Own(dns_truncated),
    },
    Rule {
        id: "dns-no-such-name",
        layer: Layer::User,
        severity: "low",
        looks_at: "one name answered with NXDOMAIN again and again and never otherwise",
        cause: "the name that is asked for does not exist",
        silent_on: "search lists, where a shorter name is then found; reverse look-ups; a name asked once or twice",
        references: &["RFC 8020", "RFC 2308"],
        find: Find::Own(dns_missing),
    },
    Rule {
        id: "dhcp-no-answer",
        layer: Layer::User,
        severity: "high",
        looks_at: "DHCP DISCOVER and REQUEST without OFFER, ACK or NAK; NAK",
        cause: "no DHCP server answers, or it refuses",
        silent_on: "exchanges that end with ACK; captures that see of the client only what it sends to all",
        references: &["RFC 2131"],
        find: Find::Own(dhcp),
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

fn dns_slow(case: &mut Case<'_>) -> Vec<Found> {
    let mut all = Vec::new();
    for ((client, server), exchange) in case.seen.services.dns_exchanges() {
        let slow = &exchange.slow;
        if slow.count < SILENT || slow.count * 2 < exchange.answered {
            continue;
        }
        all.push(Found {
            title: format!(
                "The name server {server} took up to {} ms to answer {client}.",
                exchange.slowest_ns / 1_000_000
            ),
            evidence: vec![format!(
                "{} of {} came later than {} ms after the question.",
                slow.count,
                counted(exchange.answered, "answer"),
                super::seen::DNS_SLOW_NS / 1_000_000
            )],
            effect: "confirmed: question and answer were seen.".to_owned(),
            advice: format!(
                "At {server}: its load, its forwarders and what it waits for; a cache near {client}; `dig @{server} NAME` \
                 shows the query time."
            ),
            targets: vec![super::case::service(17, *server, 53)],
            times: slow.clone(),
            ..Found::default()
        });
    }
    all
}

fn dns_truncated(case: &mut Case<'_>) -> Vec<Found> {
    const DNS: u16 = 53;
    // Once for all pairs: a capture can have thousands of them beside as many connections.
    let mut asked_by_tcp: BTreeMap<(IpAddr, IpAddr), Vec<_>> = BTreeMap::new();
    for connection in case.connections().filter(|c| c.tuple.dport == DNS) {
        let pair = (connection.tuple.src, connection.tuple.dst);
        asked_by_tcp.entry(pair).or_default().push(connection);
    }
    let mut all = Vec::new();
    for (pair @ (client, server), exchange) in case.seen.services.dns_exchanges() {
        let cut = &exchange.truncated;
        let by_tcp = asked_by_tcp.get(pair).map_or(&[][..], Vec::as_slice);
        if cut.count < SILENT || by_tcp.iter().any(|c| c.established && c.sides[1].bytes > 0) {
            continue;
        }
        all.push(Found {
            title: format!(
                "{} of {server} to {client} did not fit a datagram, and {}.",
                counted(cut.count, "DNS answer"),
                if by_tcp.is_empty() { "nobody asked again by TCP" } else { "asking by TCP did not work" }
            ),
            evidence: vec![format!(
                "{} answered, {} with the TC bit; {} to TCP port 53.",
                counted(exchange.answered, "question"),
                cut.count,
                counted(by_tcp.len() as u64, "connection")
            )],
            effect: "confirmed: the answers say so.".to_owned(),
            advice: format!(
                "Let TCP port 53 through to {server}, use a resolver that asks again by TCP, or let both sides announce a \
                 larger datagram (EDNS, 1232 bytes)."
            ),
            targets: vec![super::case::service(17, *server, DNS)],
            times: cut.clone(),
            ..Found::default()
        });
    }
    all
}

fn dns_missing(case: &mut Case<'_>) -> Vec<Found> {
    const AGAIN: u64 = 3;
    let names = case.seen.names.all();
    let mut rows: std::collections::BTreeMap<(IpAddr, IpAddr), (Times, Vec<String>)> =
        BTreeMap::new();
    for ((client, server, name), seen) in &names {
        // What a search list makes of a name that is found is not asked for.
        let expanded = || {
            names.iter().any(|((who, _, other), row)| {
                who == client
                    && row.found > 0
                    && name.strip_prefix(other.as_str()).is_some_and(|rest| rest.starts_with('.'))
            })
        };
        if seen.missing.count < AGAIN
            || seen.found > 0
            || name.rsplit('.').next() == Some("arpa")
            || !name.contains('.')
            || expanded()
        {
            continue;
        }
        let row = rows.entry((*client, *server)).or_default();
        row.0.merge(&seen.missing);
        if row.1.len() < 5 {
            row.1.push(name.clone());
        }
    }
    rows.into_iter()
        .map(|((client, server), (times, names))| Found {
            title: format!(
                "The name {} that {client} asks {server} for does not exist ({}).",
                names[0],
                counted(times.count, "answer")
            ),
            evidence: names
                .iter()
                .map(|name| format!("{name}: NXDOMAIN each time, never found."))
                .collect(),
            effect: "confirmed: the answers say so.".to_owned(),
            advice: format!("Correct the name where {client} is configured, or add it to its zone; `dig @{server} {}`.", names[0]),
            targets: vec![names[0].clone(), super::case::service(17, server, 53)],
            times,
            ..Found::default()
        })
        .collect()
}

fn dhcp(case: &mut Case<'_>) -> Vec<Found> {
    let mut all = Vec::new();
    for (client, exchange) in case.seen.services.dhcp_exchanges() {
        let Exchange { asked, answered, refused, .. } = exchange;
        let seen = !case.is_capture() || case.seen.link.is_seen_whole(*client);
        let silent = *answered == 0 && asked.count >= SILENT && seen;
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
        if let Some(space) = case.space(case.netns_of(group[0])) {
            for name in ["net.ipv4.igmp_max_memberships", "net.ipv6.mld_max_msf"] {
                if let Some(value) = space.sysctl(name) {
                    found.evidence.push(format!("{name} is {value}."));
                }
            }
        }
        found.advice = case.fill(
            "`ip maddr show dev {dev}` in namespace {netns}: the receiver has to join {dst} on that interface \
             (IP_ADD_MEMBERSHIP with its address), or the sender's group is wrong.",
            &group,
        );
        all.push(found);
    }
    all
}
