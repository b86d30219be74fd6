//! Drops and losses that no rule knows: said as they are, with what the kernel calls them.

use psc_formats::manifest::Layer;

use super::case::{Case, counted};
use super::rule::{Find, Found, Rule, Sure};
use super::seen::{Drop, Kind, Times};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "device-loss",
        layer: Layer::Driver,
        severity: "medium",
        looks_at: "drop, error and overrun counters of devices that no event explains",
        cause: "a device or driver lost packets outside of what events show",
        silent_on: "counters that events explain, devices that count what nobody asked for",
        references: &["ethtool(8)", "Documentation/networking/statistics.rst"],
        find: Find::Own(device_loss),
    },
    Rule {
        id: "unexplained-drop",
        layer: Layer::Network,
        severity: "low",
        looks_at: "drops for reasons that are neither of another rule nor harmless",
        cause: "the kernel discarded packets for the reason that it names",
        silent_on: "reasons that belong to normal operation (old acknowledgements, closing queues, unjoined link groups)",
        references: &["include/net/dropreason-core.h"],
        find: Find::Own(unexplained),
    },
];

/// Reasons of normal operation.
#[rustfmt::skip]
const HARMLESS: &[&str] = &[
    "TCP_OLD_ACK", "TCP_OLD_SEQUENCE", "TCP_OLD_DATA", "TCP_OFOMERGE", "TCP_CLOSE", "TCP_RESET", "TCP_RFC7323_PAWS_ACK",
    "TCP_ZEROWINDOW", "TCP_FASTOPEN", "TCP_FLAGS", "TCP_ABORT_ON_DATA", "UNHANDLED_PROTO", "QUEUE_PURGE", "SOCKET_CLOSE",
    "SOCKET_FILTER", "UNIX_DISCONNECT", "UNIX_SKIP_OOB", "OTHERHOST", "DUP_FRAG", "IPV6_NDISC_NS_OTHERHOST",
    "SKB_UCOPY_FAULT", "MAC_IEEE_MAC_CONTROL", "PACKET_SOCK_ERROR", "TAP_FILTER", "TAP_TXFILTER", "NO_SOCKET",
    "QDISC_CONGESTED", "IPV6DISABLED", "IP_INADDRERRORS",
    // A ping of a broadcast address, which hosts ignore by default (`icmp_rcv` of net/ipv4/icmp.c).
    "INVALID_PROTO",
];

/// Functions that discard without a reason as part of normal operation.
#[rustfmt::skip]
const HARMLESS_PLACES: &[&str] = &[
    "ip6_mc_input", "ip_mr_input", "tcp_rcv_state_process", "tcp_v4_rcv", "tcp_v6_rcv", "tcp_v4_do_rcv", "tcp_v6_do_rcv",
    "udp_destruct_common", "sk_stream_kill_queues", "skb_queue_purge", "inet_csk_destroy_sock", "packet_rcv", "tpacket_rcv",
    "raw_", "rawv6_", "ping_", "unix_", "netlink_", "arp_process", "arp_rcv", "ndisc_rcv", "icmp_rcv", "icmpv6_rcv", "igmp_rcv",
    "__udp4_lib_rcv", "__udp6_lib_rcv", "__udp4_lib_mcast_deliver", "__udp6_lib_mcast_deliver", "tcp_check_req", "tcp_data_queue", "tcp_drop", "inet_sock_destruct",
    "br_handle_frame", "br_stp_rcv", "llc_rcv", "tun_", "tap_", "skb_release", "sock_wfree", "__sk_destruct", "sk_destruct",
    "neigh_release", "neigh_destroy", "ip_mc_",
];

/// As far as nothing else was told: one packet may be chance.
const LEAST: u64 = 3;

fn is_harmless(case: &Case<'_>, drop: &Drop) -> bool {
    let reason = case.reason(drop);
    let function = case.function(drop);
    HARMLESS.contains(&reason)
        || matches!(drop.kind, Kind::Discovery | Kind::Chatter | Kind::Group | Kind::Reset)
        || reason == "NOT_SPECIFIED"
            && (function == "?"
                || HARMLESS_PLACES.iter().any(|prefix| function.starts_with(prefix)))
}

fn unexplained(case: &mut Case<'_>) -> Vec<Found> {
    let drops = case.take(|case, drop| {
        let told = drop.flows.most(1).iter().any(|(flow, _)| case.is_explained(*flow));
        !told && !is_harmless(case, drop) && !case.reason(drop).is_empty()
    });
    let mut all = Vec::new();
    for group in case.by_place(&drops) {
        let count: u64 = group.iter().map(|drop| drop.times.count).sum();
        if count < LEAST {
            continue;
        }
        let mut found = case.found(&group);
        found.title =
            case.fill("{packets} {were} dropped at {place} in {function} ({reason}).", &group);
        let meaning = crate::analyzer::meaning(case.reason(group[0]));
        found.advice = meaning.unwrap_or_else(|| {
            case.fill("Look up what {function} discards; `psc trace -f 'drop.reason == \"{reason}\"'` shows the packets.", &group)
        });
        if case.reason(group[0]) == "NOT_SPECIFIED" {
            found.sure = Sure::Low("the kernel gives no reason at this place".to_owned());
        }
        all.push(found);
    }
    all
}

/// Counters of what nobody asked for: frames of unknown protocols, of inactive slaves.
fn is_idle_counter(name: &str) -> bool {
    ["rx_nohandler", "rx_otherhost_dropped", "xdp_drops", "multicast"]
        .iter()
        .any(|what| name.ends_with(what))
}

fn device_loss(case: &mut Case<'_>) -> Vec<Found> {
    let mut all = Vec::new();
    for space in &case.spaces {
        if case.is_troubled(space.netns) {
            continue;
        }
        for device in &space.devices {
            let by_event: u64 = case
                .look(|_, drop| drop.device.0 == device.id)
                .iter()
                .map(|drop| drop.times.count)
                .sum();
            let losses: Vec<(String, u64)> = space
                .device_losses()
                .into_iter()
                .filter(|(name, _)| {
                    name.split('.').nth(1) == Some(device.name.as_str()) && !is_idle_counter(name)
                })
                .collect();
            let total: u64 = losses.iter().map(|(_, rise)| *rise).max().unwrap_or(0);
            let id = psc_formats::event::DeviceId(device.id);
            if total == 0 || total <= by_event || case.is_accounted(id) {
                continue;
            }
            all.push(Found {
                title: format!(
                    "{} in namespace {} lost {} outside of what events show.",
                    device.name,
                    space.name,
                    counted(total - by_event, "packet")
                ),
                evidence: losses.iter().map(|(name, rise)| format!("{name} rose by {rise}.")).collect(),
                effect: "confirmed: the counters are the kernel's own; one packet may count in several.".to_owned(),
                advice: format!("`ethtool -S {0}`, `ip -s -s link show {0}`: which counter rises, ring sizes (`ethtool -g {0}`).", device.name),
                targets: vec![format!("{} in namespace {}", device.name, space.name)],
                times: Times { count: total - by_event, ..Times::default() },
                ..Found::default()
            });
        }
    }
    all
}
