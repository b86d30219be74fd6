//! Devices that are down, busy, or of different sizes at their two ends.

use psc_formats::event::DeviceId;
use psc_formats::fact::DeviceFact;
use psc_formats::manifest::Layer;

use super::case::{Case, counted};
use super::rule::{DropRule, Find, Found, Rule, Sure};
use super::seen::{Drop, Kind, Times};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "link-down",
        layer: Layer::Link,
        severity: "high",
        looks_at: "devices that are down or without carrier while packets for them are dropped or find no route",
        cause: "an interface is down, or its peer is",
        silent_on: "unused interfaces that are down",
        references: &["ip-link(8)", "net/sched/sch_generic.c noop_qdisc"],
        find: Find::Own(link_down),
    },
    Rule {
        id: "device-not-ready",
        layer: Layer::Link,
        severity: "high",
        looks_at: "drop reason DEV_READY",
        cause: "a device was not ready to take packets",
        silent_on: "devices that are up",
        references: &["net/core/dev.c", "drivers/net/tun.c"],
        find: Find::Drops(DropRule {
            reasons: &["DEV_READY"],
            title: "{packets} {were} dropped because {place} was down or not ready.",
            advice: "`ip link show {dev}`; `ip link set {dev} up`, and the reader of a tun or tap device.",
            ..DropRule::PLAIN
        }),
    },
    Rule {
        id: "mtu-mismatch",
        layer: Layer::Link,
        severity: "high",
        looks_at: "frames dropped between two devices because they are longer than the receiver's MTU",
        cause: "the two ends of a link have different MTUs",
        silent_on: "links whose ends agree, whatever their size",
        references: &["net/core/dev.c is_skb_forwardable", "ip-link(8) mtu"],
        find: Find::Own(mtu_mismatch),
    },
    Rule {
        id: "driver-busy",
        layer: Layer::Driver,
        severity: "medium",
        looks_at: "net_dev_xmit with NETDEV_TX_BUSY, drop reason FULL_RING, the transmit watchdog",
        cause: "a driver cannot take packets as fast as they are sent, or is stuck",
        silent_on: "drivers that stop their queue in time",
        references: &[
            "Documentation/networking/driver.rst",
            "net/sched/sch_generic.c dev_watchdog",
        ],
        find: Find::Own(driver_busy),
    },
    Rule {
        id: "bridge-port-blocked",
        layer: Layer::Link,
        severity: "high",
        looks_at: "drop reason BRIDGE_INGRESS_STP_STATE",
        cause: "a bridge port is not forwarding",
        silent_on: "ports in forwarding state",
        references: &["bridge(8)", "net/bridge/br_input.c"],
        find: Find::Own(port_blocked),
    },
    Rule {
        id: "bridge-no-way",
        layer: Layer::Link,
        severity: "high",
        looks_at: "drop reason NO_TX_TARGET and drops in br_handle_frame_finish, br_forward and br_flood",
        cause: "a bridge has no port to send the frames to: the port is down, isolated, filtered by VLAN, or not of the bridge",
        silent_on: "frames that the bridge forwards or floods, chatter of discovery",
        references: &[
            "bridge(8)",
            "net/bridge/br_input.c br_handle_frame_finish",
            "net/bridge/br_forward.c",
        ],
        find: Find::Own(bridge),
    },
];

fn port_blocked(case: &mut Case<'_>) -> Vec<Found> {
    let drops = case.take(|case, drop| case.reason(drop) == "BRIDGE_INGRESS_STP_STATE");
    let mut all = Vec::new();
    let mut told = std::collections::BTreeSet::new();
    for group in case.by_place(&drops) {
        for drop in &group {
            let asked = drop.sample.and_then(|headers| match headers.network {
                psc_formats::packet::Network::Arp(arp) => Some(arp.target.into()),
                _ => None,
            });
            for host in
                asked.into_iter().chain(drop.flows.most(usize::MAX).iter().map(|(f, _)| f.dst))
            {
                case.explain_host(host);
            }
        }
        let mut found = case.found(&group);
        found.title = case.fill(
            "{packets} {were} dropped at bridge port {place}: it is not in forwarding state.",
            &group,
        );
        found.advice = case.fill(
            "`bridge -d link show dev {dev}`; wait for or turn off STP (`ip link set BRIDGE type bridge \
             stp_state 0`), or `bridge link set dev {dev} state 3`.",
            &group,
        );
        // Ports of a bridge that is down are disabled.
        let netns = case.netns_of(group[0]);
        let down = case.space(netns).and_then(|space| {
            let mut bridges = space.devices.iter().filter(|device| device.kind == "bridge");
            bridges.find(|bridge| bridge.up == Some(false)).map(|bridge| bridge.name.clone())
        });
        if let Some(bridge) = down {
            found.title = case.fill(
                &format!("{{packets}} {{were}} dropped at bridge port {{place}}: the bridge {bridge} is down."),
                &group,
            );
            found.evidence.push(format!("{bridge} was read as administratively down."));
            found.advice = format!("`ip link set {bridge} up`.");
            // Every port says the same.
            if !told.insert((netns, bridge)) {
                continue;
            }
        }
        all.push(found);
    }
    all
}

fn bridge(case: &mut Case<'_>) -> Vec<Found> {
    let drops = case.take(|case, drop| {
        let function = case.function(drop);
        let refused = [
            "br_handle_frame",
            "br_forward",
            "br_flood",
            "br_allowed",
            "__br_forward",
            "br_dev_queue",
        ];
        !matches!(drop.kind, Kind::Chatter | Kind::Group)
            && (drop.kind != Kind::Discovery || drop.times.count >= 3)
            && matches!(case.reason(drop), "NO_TX_TARGET" | "NOT_SPECIFIED")
            && refused.iter().any(|name| function.starts_with(name))
    });
    case.by_place(&drops)
        .into_iter()
        .filter(|group| group.iter().any(|drop| !matches!(drop.kind, Kind::Other | Kind::Counted)))
        .map(|group| {
            let mut found = case.found(&group);
            found.title = case.fill(
                "{packets} that came to bridge port {place} {were} dropped: the bridge has no port to send them to.",
                &group,
            );
            found.advice = "`bridge -d link`, `bridge vlan` and `bridge fdb show`: is the port of the destination up \
                            and a member, not isolated, in the same VLAN?"
                .into();
            for drop in &group {
                for (flow, _) in drop.flows.most(usize::MAX) {
                    case.explain_host(flow.dst);
                }
            }
            found
        })
        .collect()
}

fn is_down(device: &DeviceFact) -> bool {
    device.up == Some(false) || device.carrier == Some(false)
}

/// A device that somebody meant to use: it has addresses, or it is loopback.
fn is_meant(device: &DeviceFact) -> bool {
    !device.addresses.is_empty() || device.kind == "loopback"
}

fn link_down(case: &mut Case<'_>) -> Vec<Found> {
    let mut all = Vec::new();
    let mut down: Vec<DeviceFact> = Vec::new();
    for change in &case.tables.device_changes {
        if is_down(change) {
            down.push(change.clone());
        }
    }
    for space in &case.spaces {
        down.extend(space.devices.iter().filter(|d| is_down(d)).map(|d| (*d).clone()));
    }
    down.sort_by_key(|device| device.id);
    down.dedup_by_key(|device| device.id);
    for device in down {
        let id = DeviceId(device.id);
        let drops = case.take(|case, drop| {
            drop.device == id && matches!(case.reason(drop), "QDISC_DROP" | "DEV_READY")
        });
        // Reports of group membership are sent whether anybody listens or not.
        let meant: Vec<&Drop> = drops
            .iter()
            .copied()
            .filter(|drop| {
                drop.flows.most(1).iter().all(|(flow, _)| !super::seen::is_group(flow.dst))
            })
            .collect();
        let Some(space) = case.space(device.netns) else { continue };
        let no_route = space.rise("IpOutNoRoutes") + space.rise("Ip6OutNoRoutes");
        let asked: Vec<std::net::IpAddr> = case
            .seen
            .link
            .asks()
            .into_iter()
            .filter(|(_, ask)| ask.device == id && ask.answers == 0)
            .map(|(ip, _)| *ip)
            .collect();
        let unroutable = no_route > 0 && is_meant(&device);
        if meant.is_empty() && !unroutable && asked.is_empty() {
            continue;
        }
        let how =
            if device.up == Some(false) { "down" } else { "without carrier (its peer is down)" };
        let place = case.place(device.netns, id);
        let mut found = if meant.is_empty() { Found::default() } else { case.found(&meant) };
        found.title = format!("{place} is {how}.");
        if !meant.is_empty() {
            found.evidence.insert(
                0,
                format!(
                    "{} dropped there.",
                    super::case::counted_were(found.times.count, "packet")
                ),
            );
        } else if no_route > 0 {
            found.times.count = no_route;
        }
        found.evidence.extend(space.tell(&["IpOutNoRoutes", "Ip6OutNoRoutes"]));
        found.evidence.push(format!(
            "The interface was read as {}.",
            match (device.up, device.carrier) {
                (Some(false), _) => "administratively down",
                _ => "up without carrier",
            }
        ));
        if meant.is_empty() && asked.is_empty() {
            found.sure = Sure::Medium(
                "the packets that found no route may have been for elsewhere".to_owned(),
            );
        }
        found.advice = if device.up == Some(false) {
            format!("`ip link set {} up`.", device.name)
        } else {
            format!(
                "Bring up the other end of {} (`ip link show {}` names the peer).",
                device.name, device.name
            )
        };
        if found.targets.is_empty() {
            found.targets.push(place);
        }
        let netns = device.netns;
        for host in asked {
            case.explain_host(host);
        }
        case.explain_space(netns);
        all.push(found);
    }
    all.extend(peer_gone(case));
    all
}

/// A packet that a veth device could not hand to its peer.
fn is_handover(case: &Case<'_>, drop: &Drop) -> bool {
    let function = case.function(drop);
    case.reason(drop) == "NOT_SPECIFIED"
        && ["veth_xmit", "__dev_forward_skb", "dev_forward_skb", "veth_forward_skb"]
            .iter()
            .any(|name| function.starts_with(name))
}

fn peer<'a>(case: &Case<'a>, mine: &DeviceFact) -> Option<&'a DeviceFact> {
    case.tables.devices.values().find(|peer| {
        peer.id != mine.id
            && peer.kind == "veth"
            && peer.ifindex == mine.peer_ifindex
            && peer.peer_ifindex == mine.ifindex
    })
}

/// The longest frame that the two ends take: their MTU, link header and a VLAN tag
/// (`is_skb_forwardable` of net/core/dev.c).
fn longest_taken(case: &Case<'_>, drop: &Drop) -> Option<u32> {
    let mine = case.tables.devices.get(&drop.device)?;
    let least = peer(case, mine).map_or(mine.mtu, |peer| peer.mtu.min(mine.mtu));
    Some(least + 18)
}

/// Frames that were not too long and yet not taken, and those of a device without carrier, which drops in
/// place of its queue (`noop_qdisc`): the other end was down for a while, and is up again.
fn peer_gone(case: &mut Case<'_>) -> Vec<Found> {
    let drops = case.take(|case, drop| {
        let fits = longest_taken(case, drop).is_some_and(|most| drop.longest <= most);
        let refused = is_handover(case, drop) && fits;
        let inactive = case.reason(drop) == "QDISC_DROP"
            && case.tables.devices.get(&drop.device).is_some_and(|device| {
                let of = format!("qdisc.{}.", device.name);
                device.kind == "veth"
                    && case
                        .space(device.netns)
                        .is_some_and(|space| space.rises(&of, ".drops").is_empty())
            });
        drop.kind != Kind::Counted && (refused || inactive)
    });
    let mut all = Vec::new();
    for group in case.by_place(&drops) {
        let meant = group.iter().any(|drop| {
            drop.flows.most(1).iter().any(|(flow, _)| !super::seen::is_group(flow.dst))
                // Somebody there asks for a neighbour, to send to it.
                || drop.sample.is_some_and(|headers| {
                    matches!(headers.network, psc_formats::packet::Network::Arp(_))
                })
                // Dropped before its bytes were read: a socket's own packet is no chatter.
                || case.tables.sockets.get(&drop.sock).is_some_and(|socket| socket.remote.is_some())
        });
        if !meant {
            continue;
        }
        let mut found = case.found(&group);
        let peer = case.tables.devices.get(&group[0].device).and_then(|mine| peer(case, mine));
        let other = peer.map_or("its peer".to_owned(), |peer| {
            // Its routes went with it: what could not be sent there meanwhile is no riddle.
            case.explain_space(peer.netns);
            case.place(peer.netns, DeviceId(peer.id))
        });
        found.title = case.fill(
            &format!("{{packets}} {{were}} dropped at {{place}}: {other} did not take them, it was down for a while."),
            &group,
        );
        found.advice =
            format!("Why did {other} go down (`ip monitor link`, the log of who manages it)?");
        found.targets.push(other);
        found.sure =
            Sure::Medium("the state of the other end at that moment was not read".to_owned());
        for drop in &group {
            case.account_device(drop.device);
        }
        all.push(found);
    }
    all
}

fn mtu_mismatch(case: &mut Case<'_>) -> Vec<Found> {
    let drops = case.take(is_handover);
    let mut all = Vec::new();
    for group in case.by_place(&drops) {
        let longest = group.iter().map(|drop| drop.longest).max().unwrap_or(0);
        let Some(mine) = case.tables.devices.get(&group[0].device) else { continue };
        let peer = peer(case, mine);
        let mut found = case.found(&group);
        let (least, other) = match peer {
            Some(peer) => (peer.mtu.min(mine.mtu), case.place(peer.netns, DeviceId(peer.id))),
            None => (mine.mtu, "its peer".to_owned()),
        };
        found.title = case.fill(
            &format!(
                "{{packets}} of up to {longest} bytes {{were}} dropped between {{place}} and {other}: longer \
                 than the receiver takes (MTU {least})."
            ),
            &group,
        );
        found.evidence.push(format!("{} has an MTU of {}.", mine.name, mine.mtu));
        if let Some(peer) = peer {
            found.evidence.push(format!("{other} has an MTU of {}.", peer.mtu));
        }
        found.advice = format!("Give both ends one MTU: `ip link set {} mtu {least}`.", mine.name);
        if peer.is_none_or(|peer| peer.mtu == mine.mtu) {
            found.sure =
                Sure::Medium("the MTUs read do not differ, or one was not read".to_owned());
        }
        for device in peer.into_iter().chain([mine]) {
            case.account_device(DeviceId(device.id));
        }
        all.push(found);
    }
    all
}

fn driver_busy(case: &mut Case<'_>) -> Vec<Found> {
    let drops = case.take(|case, drop| case.reason(drop) == "FULL_RING");
    let mut all: Vec<Found> = case
        .by_place(&drops)
        .into_iter()
        .map(|group| {
            let mut found = case.found(&group);
            found.title = case.fill("{packets} {were} dropped because the ring of {place} was full.", &group);
            found.advice = case.fill(
                "The reader of {dev} (a VM, a tun program, NAPI of the veth peer) is too slow: more queues, \
                 a longer ring (`ethtool -G`, txqueuelen), or pace the sender.",
                &group,
            );
            found
        })
        .collect();
    let busy = case.seen.sockets.busy().into_iter().map(|(device, times)| (device, times, false));
    let stuck =
        case.seen.sockets.watchdogs().into_iter().map(|(device, times)| (device, times, true));
    for (device, times, watchdog) in busy.chain(stuck) {
        // A few are how lock-less drivers work; the qdisc sends again.
        if !watchdog && times.count < 10 {
            continue;
        }
        let netns = case.tables.devices.get(device).map_or(0, |fact| fact.netns);
        let place = case.place(netns, *device);
        let what =
            if watchdog { "the transmit watchdog fired" } else { "the driver answered busy" };
        all.push(Found {
            title: format!("At {place} {what} {}.", counted(times.count, "time")),
            evidence: vec![format!("{what}: {}.", counted(times.count, "event"))],
            advice:
                "`ethtool -S` and `dmesg`; interrupts of the queue, ring size (`ethtool -G`), BQL."
                    .to_owned(),
            targets: vec![place],
            times: Times::clone(times),
            ..Found::default()
        });
    }
    all
}
