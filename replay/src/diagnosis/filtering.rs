//! Packets that a filter refused: netfilter, connection tracking, XDP, tc, sockets, policies.

use std::collections::BTreeMap;

use psc_formats::manifest::Layer;

use super::case::{Case, counted, service, were};
use super::rule::{DropRule, Find, Found, Rule, Sure};
use super::seen::{Drop, Hook, Kind, Times};

const NETFILTER: &str = "NETFILTER_DROP";

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "nat-exhausted",
        layer: Layer::Network,
        severity: "high",
        looks_at: "packets dropped by nf_hook_slow while conntrack.insert_failed rises",
        cause: "NAT found no free port or address for new connections",
        silent_on: "NAT with ports to spare",
        references: &[
            "net/netfilter/nf_nat_core.c",
            "nft(8) NAT STATEMENTS",
            "RFC 4787 section 4.2",
        ],
        find: Find::Own(nat_exhausted),
    },
    Rule {
        id: "conntrack-full",
        layer: Layer::Network,
        severity: "high",
        looks_at: "packets dropped by nf_hook_slow while conntrack.drop rises",
        cause: "the connection tracking table was full",
        silent_on: "a table with room, whatever the churn",
        references: &[
            "net/netfilter/nf_conntrack_core.c",
            "Documentation/networking/nf_conntrack-sysctl.rst",
        ],
        find: Find::Own(conntrack_full),
    },
    Rule {
        id: "conntrack-invalid",
        layer: Layer::Network,
        severity: "medium",
        looks_at: "netfilter drops of TCP segments while conntrack.invalid rises",
        cause: "a rule drops what connection tracking calls invalid: one direction is routed past it, or its state was lost",
        silent_on: "connections that conntrack sees from their SYN, in both directions",
        references: &["net/netfilter/nf_conntrack_proto_tcp.c", "nft(8) CONNTRACK EXPRESSIONS"],
        find: Find::Own(conntrack_invalid),
    },
    Rule {
        id: "firewall-reject",
        layer: Layer::Network,
        severity: "medium",
        looks_at: "netfilter drops answered by an ICMP error or a reset that no socket sent",
        cause: "a netfilter rule rejects the packets",
        silent_on: "rules that match and accept, limits not reached",
        references: &["nft(8) REJECT STATEMENT", "net/netfilter/nft_reject_inet.c"],
        find: Find::Own(|case| firewall(case, true)),
    },
    Rule {
        id: "firewall-drop",
        layer: Layer::Network,
        severity: "medium",
        looks_at: "netfilter drops without an answer, and the hook that the kernel stack names",
        cause: "a netfilter rule or policy drops the packets",
        silent_on: "rules that match and accept, limits not reached",
        references: &["nft(8)", "net/netfilter/nf_tables_core.c"],
        find: Find::Own(|case| firewall(case, false)),
    },
    Rule {
        id: "xdp-drop",
        layer: Layer::Driver,
        severity: "medium",
        looks_at: "drop reason XDP, and the xdp_drops counters of drivers (native XDP drops before any event)",
        cause: "an XDP program drops the packets",
        silent_on: "XDP programs that pass",
        references: &["drivers/net/veth.c", "net/core/dev.c do_xdp_generic"],
        find: Find::Own(xdp_drop),
    },
    Rule {
        id: "xdp-exception",
        layer: Layer::Driver,
        severity: "high",
        looks_at: "xdp_exception: XDP_ABORTED, unknown actions and failed transmits",
        cause: "an XDP program aborted or its verdict could not be carried out",
        silent_on: "XDP programs that pass, drop or redirect well",
        references: &["include/trace/events/xdp.h", "bpf(2)"],
        find: Find::Own(xdp_exception),
    },
    Rule {
        id: "xdp-redirect-failed",
        layer: Layer::Driver,
        severity: "high",
        looks_at: "xdp_redirect_err and its errno",
        cause: "an XDP program redirects to where it cannot",
        silent_on: "redirects that go through",
        references: &["net/core/filter.c xdp_do_redirect", "include/trace/events/xdp.h"],
        find: Find::Own(xdp_redirect),
    },
    Rule {
        id: "tc-drop",
        layer: Layer::Qdisc,
        severity: "medium",
        looks_at: "drop reasons TC_INGRESS, TC_EGRESS, TC_CHAIN_NOTFOUND, TC_RECLASSIFY_LOOP",
        cause: "a tc filter or BPF program drops the packets",
        silent_on: "tc programs that pass",
        references: &["tc-bpf(8)", "net/core/dev.c sch_handle_ingress"],
        find: Find::Drops(DropRule {
            reasons: &[
                "TC_INGRESS",
                "TC_EGRESS",
                "TC_CHAIN_NOTFOUND",
                "TC_RECLASSIFY_LOOP",
                "TC_COOKIE_ERROR",
            ],
            title: "{packets} {were} dropped at {place} by a tc filter or BPF program ({reason}).",
            advice: "`tc -s filter show dev {dev} ingress` and `egress`, `bpftool net`: change or detach the \
                     program (`tc qdisc del dev {dev} clsact`).",
            ..DropRule::PLAIN
        }),
    },
    Rule {
        id: "socket-filter",
        layer: Layer::Socket,
        severity: "medium",
        looks_at: "drop reason SOCKET_FILTER outside of packet sockets",
        cause: "a filter attached to the socket or its cgroup refuses the packets",
        silent_on: "capture filters of packet sockets, which see clones",
        references: &["socket(7) SO_ATTACH_FILTER", "net/core/filter.c sk_filter_trim_cap"],
        find: Find::Drops(DropRule {
            reasons: &["SOCKET_FILTER"],
            kinds: &[Kind::Syn, Kind::Segment, Kind::Datagram, Kind::Reply, Kind::Fragment],
            title: "{packets} for {service} {were} refused at {place} by a filter attached to the socket or its cgroup.",
            advice: "`ss -b` shows filters of sockets, `bpftool cgroup tree` those of cgroups (cgroup_skb/ingress).",
            ..DropRule::PLAIN
        }),
    },
    Rule {
        id: "cgroup-egress",
        layer: Layer::Network,
        severity: "medium",
        looks_at: "drop reason BPF_CGROUP_EGRESS",
        cause: "a cgroup BPF program refuses to let the packets out",
        silent_on: "cgroup programs that pass",
        references: &["kernel/bpf/cgroup.c", "bpftool-cgroup(8)"],
        find: Find::Drops(DropRule {
            reasons: &["BPF_CGROUP_EGRESS"],
            title: "{packets} to {service} {were} refused on the way out by a cgroup BPF program.",
            advice: "`bpftool cgroup tree` names the program and its cgroup.",
            ..DropRule::PLAIN
        }),
    },
    Rule {
        id: "ipsec-policy",
        layer: Layer::Network,
        severity: "high",
        looks_at: "drop reason XFRM_POLICY",
        cause: "an IPsec policy refuses the packets: no state fits, or they came in clear",
        silent_on: "traffic that its policy allows",
        references: &["ip-xfrm(8)", "RFC 4301 section 5"],
        find: Find::Drops(DropRule {
            reasons: &["XFRM_POLICY"],
            title: "{packets} to {service} {were} refused at {place} by an IPsec policy.",
            advice: "`ip xfrm policy` and `ip -s xfrm state` in namespace {netns}; /proc/net/xfrm_stat says which check failed.",
            ..DropRule::PLAIN
        }),
    },
    Rule {
        id: "security-module",
        layer: Layer::Socket,
        severity: "medium",
        looks_at: "drop reason SECURITY_HOOK",
        cause: "a security module refuses the packets",
        silent_on: "allowed traffic",
        references: &["security/security.c security_sock_rcv_skb"],
        find: Find::Drops(DropRule {
            reasons: &["SECURITY_HOOK"],
            title: "{packets} for {service} {were} refused at {place} by a security module.",
            advice: "The audit log (`ausearch -m avc`), labels of the packets and the socket, BPF LSM programs (`bpftool prog`).",
            ..DropRule::PLAIN
        }),
    },
];

fn is_hook_drop(case: &Case<'_>, drop: &Drop) -> bool {
    case.reason(drop) == NETFILTER && case.function(drop).starts_with("nf_hook_slow")
}

/// Namespaces in which a conntrack counter rose, and by how much.
fn conntrack(case: &Case<'_>, counter: &str) -> Vec<(u32, u64)> {
    case.spaces
        .iter()
        .map(|space| (space.netns, space.rise(&format!("conntrack.{counter}"))))
        .filter(|(_, rise)| *rise > 0)
        .collect()
}

fn nat_exhausted(case: &mut Case<'_>) -> Vec<Found> {
    let mut all = Vec::new();
    for (netns, failed) in conntrack(case, "insert_failed") {
        let drops =
            case.take(|case, drop| is_hook_drop(case, drop) && case.netns_of(drop) == netns);
        if drops.is_empty() {
            continue;
        }
        let mut found = case.found(&drops);
        let name = case.space(netns).map_or(String::new(), |space| space.name.clone());
        found.title = format!(
            "NAT in namespace {name} had no free source port: {} of new connections dropped.",
            counted(found.times.count, "packet")
        );
        found
            .evidence
            .push(format!("conntrack.insert_failed of namespace {name} rose by {failed}."));
        found.advice = "Widen the port range or add addresses to the `snat`/`masquerade` rule \
                        (`nft list ruleset`), shorten net.netfilter.nf_conntrack_tcp_timeout_*; \
                        `conntrack -S` shows insert_failed."
            .into();
        if drops.iter().all(|drop| drop.hook != Hook::Postrouting) {
            found.sure = Sure::Medium("the hook is not the one of source NAT".to_owned());
        }
        all.push(found);
    }
    all
}

fn conntrack_full(case: &mut Case<'_>) -> Vec<Found> {
    let mut all = Vec::new();
    for (netns, dropped) in conntrack(case, "drop") {
        let drops =
            case.take(|case, drop| is_hook_drop(case, drop) && case.netns_of(drop) == netns);
        if drops.is_empty() {
            continue;
        }
        let mut found = case.found(&drops);
        let Some(space) = case.space(netns) else { continue };
        found.title = format!(
            "The connection tracking table of namespace {} was full: {} {} dropped.",
            space.name,
            counted(found.times.count, "packet"),
            were(found.times.count)
        );
        found
            .evidence
            .push(format!("conntrack.drop of namespace {} rose by {dropped}.", space.name));
        for name in ["net.netfilter.nf_conntrack_count", "net.netfilter.nf_conntrack_max"] {
            if let Some(value) = space.sysctl(name) {
                found.evidence.push(format!("{name} is {value}."));
            }
        }
        found.advice = "Raise net.netfilter.nf_conntrack_max (and nf_conntrack_buckets), shorten \
                        nf_conntrack_*_timeout_*, or exempt traffic with a `notrack` rule."
            .into();
        all.push(found);
    }
    all
}

fn conntrack_invalid(case: &mut Case<'_>) -> Vec<Found> {
    let mut all = Vec::new();
    for (netns, invalid) in conntrack(case, "invalid") {
        let drops = case.take(|case, drop| {
            case.reason(drop) == NETFILTER
                && case.netns_of(drop) == netns
                && matches!(drop.kind, Kind::Segment | Kind::Reset)
        });
        if drops.is_empty() {
            continue;
        }
        let mut found = case.found(&drops);
        let name = case.space(netns).map_or(String::new(), |space| space.name.clone());
        found.title = case.fill(
            "{packets} of TCP connections that conntrack calls invalid {were} dropped by netfilter at {place}.",
            &drops,
        );
        found.evidence.push(format!("conntrack.invalid of namespace {name} rose by {invalid}."));
        found.advice =
            "Let both directions pass this host (asymmetric routing), keep conntrack's state \
                        across restarts, or set net.netfilter.nf_conntrack_tcp_be_liberal=1; \
                        net.netfilter.nf_conntrack_log_invalid=6 logs why."
                .into();
        found.sure = Sure::Medium("another rule may have dropped them".to_owned());
        all.push(found);
    }
    all
}

/// Whether something answered a dropped packet in the name of its destination.
fn rejected(case: &Case<'_>, drop: &Drop) -> bool {
    let flows = drop.flows.most(usize::MAX);
    flows.iter().any(|(flow, _)| {
        let refused = case
            .seen
            .connections
            .get(*flow)
            .is_some_and(|connection| drop.kind == Kind::Syn && connection.refused());
        let unreachable = case.seen.errors.all().into_iter().any(|(error, _)| {
            matches!((error.v6, error.kind), (false, 3) | (true, 1))
                && (error.about.src, error.about.dst, error.about.dport)
                    == (flow.src, flow.dst, flow.dport)
        });
        // A reset in the name of the socket, which the socket did not send.
        let cut = drop.kind == Kind::Segment
            && case.seen.connections.get(*flow).is_some_and(|connection| {
                connection.sides[usize::from(flow.src == connection.tuple.src)].reset.is_some()
            })
            && case.seen.sockets.resets().iter().all(|(reset, _)| reset.tuple != flow.reversed());
        refused || unreachable || cut
    })
}

fn firewall(case: &mut Case<'_>, wanted: bool) -> Vec<Found> {
    let drops = case.take(|case, drop| {
        case.reason(drop) == NETFILTER
            && drop.kind != Kind::Chatter
            && (!wanted || rejected(case, drop))
    });
    let mut groups: BTreeMap<(u32, Hook, bool), Vec<&Drop>> = BTreeMap::new();
    for drop in drops {
        let discovery = drop.kind == Kind::Discovery;
        groups.entry((case.netns_of(drop), drop.hook, discovery)).or_default().push(drop);
    }
    let mut all = Vec::new();
    for ((netns, hook, discovery), drops) in groups {
        let mut found = case.found(&drops);
        let name = case.space(netns).map_or("?", |space| &space.name).to_owned();
        let family = if matches!(hook, Hook::ArpInput | Hook::ArpOutput) { "arp " } else { "" };
        let count = if discovery {
            format!(
                "{} of address resolution {}",
                counted(found.times.count, "packet"),
                were(found.times.count)
            )
        } else {
            format!("{} {}", counted(found.times.count, "packet"), were(found.times.count))
        };
        let what = if wanted { "rejected" } else { "dropped" };
        let hook_text = if hook == Hook::Unknown {
            "a netfilter hook".to_owned()
        } else {
            format!("the netfilter hook {family}{}", hook.name())
        };
        // Answers are known by who gave them.
        let answers = !discovery && drops.iter().all(|drop| drop.kind == Kind::Reply);
        let services = match drops[0].flows.most(1).first() {
            _ if discovery => String::new(),
            Some((flow, _)) if answers => {
                format!(" (answers of {})", service(flow.protocol, flow.src, flow.sport))
            }
            _ => " ({service})".to_owned(),
        };
        let culprit = super::rulesets::culprit(case, netns, hook, &drops);
        let by = culprit
            .as_ref()
            .filter(|culprit| !culprit.name.is_empty())
            .map_or(String::new(), |culprit| format!(" by {}", culprit.name));
        found.title = case.fill(
            &format!("{count} {what} at {hook_text} of namespace {name}{by}{services}."),
            &drops,
        );
        found.evidence.extend(culprit.into_iter().flat_map(|culprit| culprit.evidence));
        found.advice = format!(
            "`ip netns exec {name} nft -a list ruleset` (or iptables-save -c): the rule or policy at that \
             hook; `nft add rule ... meta nftrace set 1` with `nft monitor trace` names it."
        );
        if hook == Hook::Unknown {
            found.sure = Sure::Medium("without a kernel stack the hook is not known".to_owned());
        }
        if discovery {
            // Address resolution that a filter ate: the hosts asked for are not to blame.
            for drop in &drops {
                let asked = drop.sample.and_then(|headers| match headers.network {
                    psc_formats::packet::Network::Arp(arp) => Some(arp.target.into()),
                    _ => None,
                });
                for host in asked.into_iter().chain(drop.flows.most(8).iter().map(|(f, _)| f.dst)) {
                    case.explain_host(host);
                }
            }
        }
        all.push(found);
    }
    all
}

fn xdp_drop(case: &mut Case<'_>) -> Vec<Found> {
    let drops = case.take(|case, drop| case.reason(drop) == "XDP");
    let mut all: Vec<Found> = case
        .by_place(&drops)
        .into_iter()
        .map(|group| {
            let mut found = case.found(&group);
            found.title = case.fill("{packets} {were} dropped at {place} by an XDP program (generic mode).", &group);
            found.advice = case.fill(
                "`ip -d link show {dev}` and `bpftool net` name the program; `ip link set {dev} xdp off` detaches it.",
                &group,
            );
            found
        })
        .collect();
    let mut silent = Vec::new();
    for space in &case.spaces {
        let mut devices: BTreeMap<String, (u64, Vec<String>)> = BTreeMap::new();
        for (name, rise) in space.rises("ethtool.", "xdp_drops") {
            let Some(device) = name.split('.').nth(1) else { continue };
            let slot = devices.entry(device.to_owned()).or_default();
            slot.0 += rise;
            slot.1.push(format!("{name} rose by {rise}."));
        }
        for (device, (count, evidence)) in devices {
            silent.push((space.netns, Found {
                title: format!(
                    "An XDP program at {device} in namespace {} dropped {} before the stack saw them.",
                    space.name,
                    counted(count, "packet")
                ),
                evidence,
                effect: "confirmed: the driver counted them; no event exists for these.".to_owned(),
                advice: format!(
                    "`ip -d link show {device}` and `bpftool net` name the program; \
                     `ip link set {device} xdp off` detaches it."
                ),
                targets: vec![format!("{device} in namespace {}", space.name)],
                times: Times { count, ..Times::default() },
                ..Found::default()
            }));
        }
    }
    for (netns, found) in silent {
        case.explain_space(netns);
        all.push(found);
    }
    all
}

fn xdp_exception(case: &mut Case<'_>) -> Vec<Found> {
    const ACTIONS: [&str; 5] = ["XDP_ABORTED", "XDP_DROP", "XDP_PASS", "XDP_TX", "XDP_REDIRECT"];
    let mut all = Vec::new();
    for ((device, action), times) in case.seen.sockets.exceptions() {
        let netns = case.tables.devices.get(device).map_or(0, |fact| fact.netns);
        let name = ACTIONS
            .get(*action as usize)
            .map_or_else(|| format!("the unknown action {action}"), |&action| action.to_owned());
        let place = case.place(netns, *device);
        all.push(Found {
            title: format!(
                "An XDP program at {place} ended in {name} for {} that were then dropped.",
                counted(times.count, "packet")
            ),
            evidence: vec![format!(
                "xdp_exception with {name}: {}.",
                counted(times.count, "event")
            )],
            advice:
                "`bpftool prog tracelog` and the program's return values: aborted programs fault, \
                     XDP_TX and XDP_REDIRECT need room and a peer that takes frames."
                    .to_owned(),
            targets: vec![place],
            times: times.clone(),
            ..Found::default()
        });
        case.explain_space(netns);
    }
    all
}

fn xdp_redirect(case: &mut Case<'_>) -> Vec<Found> {
    let mut all = Vec::new();
    for ((device, rc), times) in case.seen.sockets.redirects() {
        let netns = case.tables.devices.get(device).map_or(0, |fact| fact.netns);
        let place = case.place(netns, *device);
        let errno = super::case::errno(rc.unsigned_abs());
        all.push(Found {
            title: format!(
                "An XDP program at {place} failed to redirect {} ({errno}); they were dropped.",
                counted(times.count, "packet")
            ),
            evidence: vec![format!("xdp_redirect_err with {errno}: {}.", counted(times.count, "event"))],
            advice: "Is the target in the devmap, up, able to take frames (veth needs an XDP program or \
                     NAPI on the peer), and its MTU large enough?"
                .to_owned(),
            targets: vec![place],
            times: times.clone(),
            ..Found::default()
        });
        case.explain_space(netns);
    }
    all
}
