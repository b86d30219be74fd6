//! Addresses that are disabled, taken twice, or used where they may not be.

use psc_formats::manifest::Layer;

use super::case::{Case, counted, mac};
use super::rule::{DropRule, Find, Found, Rule};
use super::seen::{Connection, Kind};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "ipv6-disabled",
        layer: Layer::Network,
        severity: "high",
        looks_at: "drop reason IPV6DISABLED, drops without a reason in ip6_rcv_core at a device whose MTU is below 1280, with \
                   net.ipv6.conf.*.disable_ipv6",
        cause: "IPv6 is disabled on the device that packets come to, by sysctl or by an MTU too small for it",
        silent_on: "multicast chatter to hosts without IPv6",
        references: &[
            "net/ipv6/ip6_input.c ip6_rcv_core",
            "Documentation/networking/ip-sysctl.rst disable_ipv6",
            "RFC 8200 section 5",
        ],
        find: Find::Own(ipv6_disabled),
    },
    Rule {
        id: "duplicate-address",
        layer: Layer::Link,
        severity: "high",
        looks_at: "two link-layer addresses that claim one network address by turns, answered duplicate address \
                   detection, foreign packets with our own source address",
        cause: "two hosts use the same address",
        silent_on: "a takeover, which changes the claimant once; proxies on another link",
        references: &["RFC 5227", "RFC 4862 section 5.4"],
        find: Find::Own(duplicate_address),
    },
    Rule {
        id: "martian-source",
        layer: Layer::Network,
        severity: "medium",
        looks_at: "drop reasons IP_LOCAL_SOURCE, IP_INVALID_SOURCE, IP_LOCALNET, IP_INVALID_DEST",
        cause: "packets carry a source or destination address that may not come this way",
        silent_on: "forwarded traffic with proper addresses",
        references: &["RFC 1812 section 5.3.7", "net/ipv4/fib_frontend.c fib_validate_source"],
        find: Find::Drops(DropRule {
            reasons: &["IP_LOCAL_SOURCE", "IP_INVALID_SOURCE", "IP_LOCALNET", "IP_INVALID_DEST"],
            title: "{packets} from {src} to {dst} {were} dropped at {place} as martians ({reason}).",
            advice: "Find the sender of {src}: a spoofed or wrongly configured source; \
                     net.ipv4.conf.{dev}.log_martians=1 logs the frames; accept_local and route_localnet allow what is meant.",
            sysctls: &["net.ipv4.conf.{dev}.accept_local", "net.ipv4.conf.{dev}.route_localnet"],
            ..DropRule::PLAIN
        }),
    },
    Rule {
        id: "address-gone",
        layer: Layer::Network,
        severity: "high",
        looks_at: "drop reason IP_INADDRERRORS for an address that a device of the namespace has, or from which the namespace \
                   answered before",
        cause: "packets come for an address that was removed from this host, or whose local route is missing",
        silent_on: "addresses that were never this host's, which are to be forwarded",
        references: &["ip-address(8)", "ip-route(8) table local", "net/ipv4/route.c ip_error"],
        find: Find::Own(address_gone),
    },
    Rule {
        id: "wrong-mac",
        layer: Layer::Link,
        severity: "high",
        looks_at: "drop reason OTHERHOST for an IP address that is this host's own",
        cause: "the sender's neighbour entry has another link-layer address than this host's",
        silent_on: "frames for other hosts on a flooded or promiscuous port",
        references: &["ip-neighbour(8)", "net/ipv4/ip_input.c ip_rcv_core"],
        find: Find::Own(wrong_mac),
    },
    Rule {
        id: "unicast-in-multicast",
        layer: Layer::Network,
        severity: "medium",
        looks_at: "drop reason UNICAST_IN_L2_MULTICAST",
        cause: "unicast IP packets come in broadcast or multicast frames",
        silent_on: "proper broadcasts",
        references: &[
            "RFC 1122 section 3.3.6",
            "Documentation/networking/ip-sysctl.rst drop_unicast_in_l2_multicast",
        ],
        find: Find::Drops(DropRule {
            reasons: &["UNICAST_IN_L2_MULTICAST"],
            title: "{packets} from {src} {were} dropped at {place}: unicast IP in a multicast frame.",
            advice: "The sender's neighbour entry for {dst}; net.ipv4.conf.{dev}.drop_unicast_in_l2_multicast.",
            ..DropRule::PLAIN
        }),
    },
    Rule {
        id: "own-mac",
        layer: Layer::Link,
        severity: "medium",
        looks_at: "drop reasons LOCAL_MAC and MAC_INVALID_SOURCE",
        cause: "frames come back with the device's own or an invalid link-layer source: a loop or a duplicated MAC",
        silent_on: "bridges without loops",
        references: &["net/bridge/br_input.c", "drivers/net/vxlan/vxlan_core.c"],
        find: Find::Drops(DropRule {
            reasons: &["LOCAL_MAC", "MAC_INVALID_SOURCE"],
            title: "{packets} {were} dropped at {place} for their source MAC address ({reason}).",
            advice: "Look for a loop (`bridge fdb show`, STP) or two devices with one MAC address (`ip link`).",
            ..DropRule::PLAIN
        }),
    },
];

/// Whether the answers of a connection first came by in this namespace, so that it had their address.
pub(super) fn spoke_in(case: &Case<'_>, netns: u32, connection: &Connection) -> bool {
    let side = &connection.sides[1];
    netns != 0
        && side.packets > 0
        && case.tables.devices.get(&side.first_at).is_some_and(|fact| fact.netns == netns)
}

fn address_gone(case: &mut Case<'_>) -> Vec<Found> {
    let had = |case: &Case<'_>, netns: u32, address| {
        case.connections().any(|c| c.tuple.dst == address && spoke_in(case, netns, c))
    };
    let drops = case.take(|case, drop| {
        let netns = case.netns_of(drop);
        let flow = drop.flows.most(1).into_iter().next().map(|(flow, _)| flow);
        case.reason(drop) == "IP_INADDRERRORS"
            && flow.is_some_and(|flow| {
                case.is_local(netns, flow.dst)
                    || case.owner(flow.dst).is_none() && had(case, netns, flow.dst)
            })
    });
    let mut all = Vec::new();
    for group in case.by_place(&drops) {
        let netns = case.netns_of(group[0]);
        let Some((flow, _)) = group[0].flows.most(1).into_iter().next() else { continue };
        let mut found = case.found(&group);
        let here = case.is_local(netns, flow.dst);
        found.title = case.fill(
            if here {
                "{packets} to {dst} {were} dropped at {place}: the address is this host's, and its local route is missing."
            } else {
                "{packets} to {dst} {were} dropped at {place}: the address was this host's and was removed."
            },
            &group,
        );
        found.evidence.push(if here {
            format!(
                "{} is an address of the namespace; the lookup did not end in table local.",
                flow.dst
            )
        } else {
            format!(
                "{} answered from here earlier in the recording, and no device has it at the end.",
                flow.dst
            )
        });
        found.advice = case.fill(
            if here {
                "`ip route show table local` in namespace {netns}; `ip route add local {dst} dev {dev} table local`, or remove the \
                 address and add it again; `ip rule` has to begin with table local."
            } else {
                "`ip addr add {dst}/PREFIX dev {dev}` in namespace {netns} if it is to keep the address (a lease that ran out, a \
                 failover, a script that flushed it); else tell its clients."
            },
            &group,
        );
        case.explain_host(flow.dst);
        all.push(found);
    }
    all
}

fn ipv6_disabled(case: &mut Case<'_>) -> Vec<Found> {
    // A device without room for the smallest IPv6 packet loses its IPv6 (`addrconf_notify`).
    let small = |case: &Case<'_>, device| {
        case.tables.devices.get(&device).map(|fact| fact.mtu).filter(|mtu| (1..1280).contains(mtu))
    };
    let drops = case.take(|case, drop| {
        case.reason(drop) == "IPV6DISABLED"
            || case.reason(drop) == "NOT_SPECIFIED"
                && case.function(drop).starts_with("ip6_rcv_core")
                && small(case, drop.device).is_some()
    });
    let mut all = Vec::new();
    for group in case.by_place(&drops) {
        // Somebody looked for a host here, or sent to it; reports and solicitations of routers are chatter.
        let wanted = group.iter().any(|drop| {
            drop.flows.most(8).iter().any(|(flow, _)| {
                !super::seen::is_group(flow.dst)
                    || is_solicited_node(flow.dst) && !flow.src.is_unspecified()
            })
        });
        if !wanted {
            continue;
        }
        let mut found = case.found(&group);
        found.title =
            case.fill("{packets} {were} dropped at {place}: IPv6 is disabled there.", &group);
        let dev = case.device_name(group[0].device);
        if let Some(space) = case.space(case.netns_of(group[0])) {
            for name in [
                format!("net.ipv6.conf.{dev}.disable_ipv6"),
                "net.ipv6.conf.all.disable_ipv6".to_owned(),
            ] {
                if let Some(value) = space.sysctl(&name) {
                    found.evidence.push(format!("{name} is {value}."));
                }
            }
        }
        found.advice = case.fill(
            "`sysctl -w net.ipv6.conf.{dev}.disable_ipv6=0` in namespace {netns}, and give it its address again.",
            &group,
        );
        if let Some(mtu) = small(case, group[0].device) {
            found.title = case.fill(
                &format!("{{packets}} {{were}} dropped at {{place}}: its MTU of {mtu} is too small for IPv6, which is off there."),
                &group,
            );
            found.evidence.push(format!("IPv6 needs an MTU of 1280; that of {dev} is {mtu}."));
            found.advice = case.fill("`ip link set {dev} mtu 1280` or more in namespace {netns}, and give it its address again.", &group);
        }
        let asked: Vec<_> = case
            .seen
            .link
            .asks()
            .into_iter()
            .filter(|(ip, ask)| ip.is_ipv6() && ask.unanswered > 0)
            .map(|(ip, _)| *ip)
            .collect();
        for host in asked {
            case.explain_host(host);
        }
        all.push(found);
    }
    all
}

/// `ff02::1:ff00:0/104` (RFC 4291 section 2.7.1).
fn is_solicited_node(address: std::net::IpAddr) -> bool {
    let prefix = std::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0).into();
    super::case::covers(prefix, 104, address)
}

fn duplicate_address(case: &mut Case<'_>) -> Vec<Found> {
    let mut all = Vec::new();
    for (address, claims) in case.seen.link.claims() {
        let ask = case.seen.link.ask_for(*address);
        let probed = ask.and_then(|ask| ask.probe_answered);
        if claims.changes < 2 && probed.is_none() {
            continue;
        }
        // A claim of its own once, among many of another, is a damaged frame or an attempt (`psc guard detect`).
        let again = claims.macs.iter().filter(|(_, count, ..)| *count > 1).count();
        let owners = case.spaces.iter().filter(|space| space.owns(*address)).count();
        if again < 2 && owners < 2 && probed.is_none() {
            continue;
        }
        // One host that answers on several of its devices (arp_filter 0, bonds) is no conflict.
        let at: std::collections::BTreeSet<u32> = claims
            .macs
            .iter()
            .map(|(octets, ..)| {
                let text = mac(*octets);
                let device = case.tables.devices.values().find(|device| device.mac == text);
                device.map_or(0, |device| device.netns)
            })
            .collect();
        if at.len() == 1 && !at.contains(&0) && claims.macs.len() > 1 {
            continue;
        }
        let names: Vec<String> = claims.macs.iter().map(|(octets, ..)| mac(*octets)).collect();
        let mut evidence: Vec<String> = claims
            .macs
            .iter()
            .map(|(octets, count, ..)| {
                format!("{} claimed {address} {}.", mac(*octets), counted(*count, "time"))
            })
            .collect();
        if let Some(octets) = probed {
            evidence
                .push(format!("{} answered a duplicate address probe for {address}.", mac(octets)));
        }
        let local: Vec<String> = case
            .spaces
            .iter()
            .filter(|space| space.owns(*address))
            .map(|space| format!("Namespace {} has {address}.", space.name))
            .collect();
        evidence.extend(local);
        all.push((*address, Found {
            title: format!("Two hosts use the address {address}: {}.", names.join(" and ")),
            evidence,
            effect: if claims.changes >= 2 {
                "confirmed: the claims alternate, so neighbours change their minds.".to_owned()
            } else {
                "confirmed: the new address was refused by its owner.".to_owned()
            },
            advice: format!(
                "Take {address} off one of them (`ip addr del`); `arping -D` ({}) finds the other.",
                if address.is_ipv6() { "for IPv6: `ip -6 addr show dadfailed`" } else { "RFC 5227" }
            ),
            actors: names,
            targets: vec![address.to_string()],
            times: claims.times.clone(),
            ..Found::default()
        }));
    }
    // Another host with our address: its packets come to us as martians.
    let drops = case.take(|case, drop| {
        case.reason(drop) == "IP_LOCAL_SOURCE"
            && drop.kind != Kind::Counted
            && drop.flows.most(1).iter().any(|(flow, _)| {
                let owners = case.spaces.iter().filter(|space| space.owns(flow.src)).count();
                owners > 1 && case.is_local(case.netns_of(drop), flow.src)
            })
    });
    for group in case.by_place(&drops) {
        let mut found = case.found(&group);
        found.title = case.fill(
            "{src} is an address of two hosts: {packets} from the other {were} dropped at {place}.",
            &group,
        );
        let address = group[0].flows.most(1).first().map(|(flow, _)| flow.src);
        let owners = case
            .spaces
            .iter()
            .filter(|space| address.is_some_and(|address| space.owns(address)))
            .map(|space| format!("Namespace {} has it.", space.name));
        found.evidence.extend(owners);
        found.advice = case.fill("Take {src} off one of them (`ip addr del`).", &group);
        all.extend(address.map(|address| (address, found)));
    }
    all.sort_by_key(|(address, _)| *address);
    all.dedup_by_key(|(address, _)| *address);
    all.into_iter()
        .map(|(address, found)| {
            case.explain_host(address);
            found
        })
        .collect()
}

fn wrong_mac(case: &mut Case<'_>) -> Vec<Found> {
    let drops = case.take(|case, drop| {
        case.reason(drop) == "OTHERHOST"
            && drop
                .flows
                .most(1)
                .iter()
                .any(|(flow, _)| case.is_local(case.netns_of(drop), flow.dst))
    });
    case.by_place(&drops)
        .into_iter()
        .map(|group| {
            let mut found = case.found(&group);
            found.title = case.fill(
                "{packets} for {dst}, which is here, {were} dropped at {place}: they were sent to another MAC address.",
                &group,
            );
            let own = case.tables.devices.get(&group[0].device).map(|device| device.mac.clone());
            if let Some(own) = own {
                found.evidence.push(format!("The device's own MAC address is {own}."));
            }
            if let Some(ethernet) = group[0].sample.and_then(|headers| headers.ethernet) {
                found.evidence.push(format!("The frame was for {}.", mac(ethernet.dst)));
            }
            found.advice = case.fill(
                "At the sender: `ip neigh show {dst}`; a static entry or a forged ARP reply: `ip neigh del {dst} dev DEVICE`.",
                &group,
            );
            found
        })
        .collect()
}
