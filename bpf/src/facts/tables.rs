//! Links, addresses, routes and neighbours of the namespace that the thread is in, by rtnetlink.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use psc_formats::fact::{DeviceFact, Neighbour, RefusingRoute, Route};
use rustc_hash::FxHashMap;

use super::netlink::{Netlink, attributes, text, u32_at, u64_at};

/// What rtnetlink says of one namespace.
#[derive(Default)]
pub(super) struct LinkTables {
    pub(super) devices: Vec<DeviceFact>,
    pub(super) routes: Vec<Route>,
    pub(super) refusing: Vec<RefusingRoute>,
    pub(super) rules: Vec<String>,
    pub(super) neighbours: Vec<Neighbour>,
    /// `dev.NAME.rx_packets` and kin.
    pub(super) counters: BTreeMap<String, u64>,
}

/// `struct rtnl_link_stats64`, in order.
const LINK_STATISTICS: &[&str] = &[
    "rx_packets",
    "tx_packets",
    "rx_bytes",
    "tx_bytes",
    "rx_errors",
    "tx_errors",
    "rx_dropped",
    "tx_dropped",
    "multicast",
    "collisions",
    "rx_length_errors",
    "rx_over_errors",
    "rx_crc_errors",
    "rx_frame_errors",
    "rx_fifo_errors",
    "rx_missed_errors",
    "tx_aborted_errors",
    "tx_carrier_errors",
    "tx_fifo_errors",
    "tx_heartbeat_errors",
    "tx_window_errors",
    "rx_compressed",
    "tx_compressed",
    "rx_nohandler",
    "rx_otherhost_dropped",
];

/// Links with addresses and counters; routes and neighbours when `all`.
pub(super) fn read(all: bool) -> io::Result<LinkTables> {
    let mut netlink = Netlink::open(libc::NETLINK_ROUTE)?;
    let mut tables = LinkTables::default();
    netlink.dump(libc::RTM_GETLINK, &[0; 16], |body| link(body, &mut tables))?;
    let mut by_index: FxHashMap<u32, usize> = FxHashMap::default();
    for (at, device) in tables.devices.iter().enumerate() {
        by_index.insert(device.ifindex, at);
    }
    let devices = &mut tables.devices;
    netlink.dump(libc::RTM_GETADDR, &[0; 8], |body| {
        if let Some((index, text)) = device_address(body)
            && let Some(device) = by_index.get(&index).and_then(|&at| devices.get_mut(at))
        {
            device.addresses.push(text);
        }
    })?;
    if !all {
        return Ok(tables);
    }
    let name = |index: u32| {
        by_index
            .get(&index)
            .and_then(|&at| tables.devices.get(at))
            .map_or_else(|| format!("if{index}"), |device| device.name.clone())
    };
    let routes = &mut tables.routes;
    let refusing = &mut tables.refusing;
    netlink.dump(libc::RTM_GETROUTE, &[0; 12], |body| {
        route(body, &name, routes);
        refusing.extend(refusal(body));
    })?;
    let rules = &mut tables.rules;
    // A kernel without policy routing has no such table.
    let _ = netlink.dump(libc::RTM_GETRULE, &[0; 12], |body| rules.extend(rule(body)));
    let neighbours = &mut tables.neighbours;
    netlink.dump(libc::RTM_GETNEIGH, &[0; 12], |body| {
        neighbours.extend(neighbour(body, &name));
    })?;
    Ok(tables)
}

fn mac(bytes: &[u8]) -> String {
    let parts: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    parts.join(":")
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(four).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|sixteen| Ipv6Addr::from(sixteen).into())
}

/// `struct ifinfomsg`: family, pad, type (16 bits), index, flags, change.
fn link(body: &[u8], tables: &mut LinkTables) {
    const ADDRESS: u16 = 1;
    const NAME: u16 = 3;
    const MTU: u16 = 4;
    const LINK: u16 = 5;
    const LINK_INFO: u16 = 18;
    const STATISTICS: u16 = 23;
    const INFO_KIND: u16 = 1;
    /// `IFF_LOWER_UP` of `include/uapi/linux/if.h`.
    const LOWER_UP: i32 = 1 << 16;
    let (Some(kind), Some(index)) = (u32_at(body, 0), u32_at(body, 4)) else { return };
    let mut device = DeviceFact {
        ifindex: index,
        arphrd: u16::from_ne_bytes(kind.to_ne_bytes()[2..].try_into().unwrap_or_default()),
        ..DeviceFact::default()
    };
    if let Some(flags) = u32_at(body, 8) {
        let set = |flag: i32| Some(flags & flag as u32 != 0);
        device.up = set(libc::IFF_UP);
        device.carrier = set(LOWER_UP);
        device.no_arp = set(libc::IFF_NOARP);
    }
    let mut statistics: &[u8] = &[];
    for (attribute, value) in attributes(body, 16) {
        match attribute {
            ADDRESS => device.mac = mac(value),
            NAME => device.name = text(value),
            MTU => device.mtu = u32_at(value, 0).unwrap_or(0),
            LINK => device.peer_ifindex = u32_at(value, 0).unwrap_or(0),
            STATISTICS => statistics = value,
            LINK_INFO => {
                for (nested, value) in attributes(value, 0) {
                    if nested == INFO_KIND {
                        device.kind = text(value);
                    }
                }
            }
            _ => {}
        }
    }
    if device.arphrd == libc::ARPHRD_LOOPBACK && device.kind.is_empty() {
        "loopback".clone_into(&mut device.kind);
    }
    // Other kinds have the device they are stacked on there.
    if device.kind != "veth" {
        device.peer_ifindex = 0;
    }
    for (at, name) in LINK_STATISTICS.iter().enumerate() {
        if let Some(value) = u64_at(statistics, at * 8) {
            tables.counters.insert(format!("dev.{}.{name}", device.name), value);
        }
    }
    tables.devices.push(device);
}

/// `struct ifaddrmsg`: family, prefix length, flags, scope, index.
fn device_address(body: &[u8]) -> Option<(u32, String)> {
    const ADDRESS: u16 = 1;
    const LOCAL: u16 = 2;
    let prefix = *body.get(1)?;
    let index = u32_at(body, 4)?;
    let mut found = None;
    for (attribute, value) in attributes(body, 8) {
        // On point-to-point links ADDRESS is the other end's.
        if attribute == LOCAL || (attribute == ADDRESS && found.is_none()) {
            found = address(value).or(found);
        }
    }
    Some((index, format!("{}/{prefix}", found?)))
}

/// `struct rtmsg`: family, destination and source prefix, tos, table, protocol, scope, type, flags.
fn route(body: &[u8], name: &impl Fn(u32) -> String, routes: &mut Vec<Route>) {
    const DESTINATION: u16 = 1;
    const OUT: u16 = 4;
    const GATEWAY: u16 = 5;
    const PRIORITY: u16 = 6;
    const MULTIPATH: u16 = 9;
    const VIA: u16 = 18;
    const UNICAST: u8 = 1;
    let &[family, prefix, _, _, table, _, _, kind, ..] = body else { return };
    if kind != UNICAST || table == libc::RT_TABLE_LOCAL {
        return;
    }
    let unspecified = match i32::from(family) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return,
    };
    let via = |value: &[u8]| address(value.get(2..)?);
    let mut base =
        Route { destination: unspecified, prefix, gateway: None, device: String::new(), metric: 0 };
    let mut hops: Vec<(Option<IpAddr>, u32)> = Vec::new();
    for (attribute, value) in attributes(body, 12) {
        match attribute {
            DESTINATION => base.destination = address(value).unwrap_or(unspecified),
            GATEWAY => base.gateway = address(value),
            VIA => base.gateway = via(value),
            PRIORITY => base.metric = u32_at(value, 0).unwrap_or(0),
            OUT => base.device = name(u32_at(value, 0).unwrap_or(0)),
            // `struct rtnexthop`: length (16 bits), flags, hops, index; then attributes.
            MULTIPATH => {
                let mut rest = value;
                while let Some(word) = u32_at(rest, 0) {
                    let len = usize::from(word.to_ne_bytes()[0])
                        | usize::from(word.to_ne_bytes()[1]) << 8;
                    let (Some(hop), Some(index)) = (rest.get(8..len), u32_at(rest, 4)) else {
                        break;
                    };
                    let gateway = attributes(hop, 0).find_map(|(kind, value)| match kind {
                        GATEWAY => address(value),
                        VIA => via(value),
                        _ => None,
                    });
                    hops.push((gateway, index));
                    rest = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
                }
            }
            _ => {}
        }
    }
    if hops.is_empty() {
        routes.push(base);
        return;
    }
    for (gateway, index) in hops {
        routes.push(Route { gateway, device: name(index), ..base.clone() });
    }
}

/// A route that refuses, of the same message; the kernel's own of last resort are none.
fn refusal(body: &[u8]) -> Option<RefusingRoute> {
    const DESTINATION: u16 = 1;
    const OUT: u16 = 4;
    const PRIORITY: u16 = 6;
    const TABLE: u16 = 15;
    const KINDS: &[(u8, &str)] = &[(6, "blackhole"), (7, "unreachable"), (8, "prohibit")];
    let &[family, prefix, _, _, table, _, _, kind, ..] = body else { return None };
    let &(_, kind) = KINDS.iter().find(|(number, _)| *number == kind)?;
    let mut found = RefusingRoute {
        kind: kind.to_owned(),
        destination: match i32::from(family) {
            libc::AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            libc::AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => return None,
        },
        prefix,
        table: table.into(),
    };
    let (mut out, mut priority) = (0, 0);
    for (attribute, value) in attributes(body, 12) {
        match attribute {
            DESTINATION => found.destination = address(value)?,
            TABLE => found.table = u32_at(value, 0)?,
            OUT => out = u32_at(value, 0)?,
            PRIORITY => priority = u32_at(value, 0)?,
            _ => {}
        }
    }
    // `ip6_null_entry` and its kind: on loopback, at the lowest priority there is.
    let of_kernel = out == 1 && priority == u32::MAX && prefix == 0;
    (!of_kernel).then_some(found)
}

/// `struct fib_rule_hdr`: family, destination and source length, tos, table, two reserved, action, flags.
/// `None` for the kernel's own rules: local, main and default, for all.
fn rule(body: &[u8]) -> Option<String> {
    const DESTINATION: u16 = 1;
    const SOURCE: u16 = 2;
    const INPUT: u16 = 3;
    const PRIORITY: u16 = 6;
    const MARK: u16 = 10;
    const TABLE: u16 = 15;
    const OUTPUT: u16 = 17;
    const ACTIONS: &[(u8, &str)] =
        &[(2, "goto"), (3, "nop"), (6, "blackhole"), (7, "unreachable"), (8, "prohibit")];
    let &[family, to_len, from_len, _, table, _, _, action, ..] = body else { return None };
    if !matches!(i32::from(family), libc::AF_INET | libc::AF_INET6) {
        return None;
    }
    let (mut priority, mut table) = (0, u32::from(table));
    let (mut from, mut more) = ("all".to_owned(), Vec::new());
    for (attribute, value) in attributes(body, 12) {
        match attribute {
            PRIORITY => priority = u32_at(value, 0)?,
            TABLE => table = u32_at(value, 0)?,
            SOURCE => from = format!("{}/{from_len}", address(value)?),
            DESTINATION => more.push(format!("to {}/{to_len}", address(value)?)),
            MARK => more.push(format!("fwmark {:#x}", u32_at(value, 0)?)),
            INPUT => more.push(format!("iif {}", text(value))),
            OUTPUT => more.push(format!("oif {}", text(value))),
            _ => {}
        }
    }
    let own = matches!((priority, table), (0, 255) | (32_766, 254) | (32_767, 253));
    if own && from == "all" && more.is_empty() {
        return None;
    }
    let what = ACTIONS.iter().find(|(number, _)| *number == action);
    let what = what.map_or_else(|| format!("lookup {table}"), |(_, name)| (*name).to_owned());
    more.push(what);
    Some(format!("{priority}: from {from} {}", more.join(" ")))
}

/// `struct ndmsg`: family, pad, pad, index, state (16 bits), flags, type.
fn neighbour(body: &[u8], name: &impl Fn(u32) -> String) -> Option<Neighbour> {
    const DESTINATION: u16 = 1;
    const LINK_ADDRESS: u16 = 2;
    const STATES: &[(u16, &str)] = &[
        (0x01, "INCOMPLETE"),
        (0x02, "REACHABLE"),
        (0x04, "STALE"),
        (0x08, "DELAY"),
        (0x10, "PROBE"),
        (0x20, "FAILED"),
        (0x80, "PERMANENT"),
    ];
    let index = u32_at(body, 4)?;
    let bits = u16::from_ne_bytes(body.get(8..10)?.try_into().ok()?);
    // NOARP entries are made for loopback and multicast, they say nothing.
    let &(_, state) = STATES.iter().find(|(bit, _)| bits & bit != 0)?;
    let (mut found, mut link) = (None, String::new());
    for (attribute, value) in attributes(body, 12) {
        match attribute {
            DESTINATION => found = address(value),
            LINK_ADDRESS => link = mac(value),
            _ => {}
        }
    }
    Some(Neighbour { address: found?, mac: link, device: name(index), state: state.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_there_with_its_address() {
        let tables = read(true).expect("rtnetlink needs no privilege");
        let lo = tables.devices.iter().find(|d| d.name == "lo").expect("lo");
        assert_eq!((lo.arphrd, lo.kind.as_str()), (772, "loopback"));
        assert!(tables.counters.contains_key("dev.lo.rx_packets"));
    }

    #[test]
    fn refusing_routes_and_rules_are_read_and_the_kernels_own_are_not() {
        let message = |head: [u8; 12], attributes: &[(u16, &[u8])]| {
            let mut body = head.to_vec();
            for (kind, value) in attributes {
                body.extend_from_slice(&((4 + value.len()) as u16).to_ne_bytes());
                body.extend_from_slice(&kind.to_ne_bytes());
                body.extend_from_slice(value);
                body.resize(body.len().next_multiple_of(4), 0);
            }
            body
        };
        let route = |kind| [2, 24, 0, 0, 254, 0, 0, kind, 0, 0, 0, 0];
        let blackhole = refusal(&message(route(6), &[(1, &[10, 9, 0, 0])])).expect("blackhole");
        assert_eq!(
            (blackhole.kind.as_str(), blackhole.prefix, blackhole.table),
            ("blackhole", 24, 254)
        );
        assert!(refusal(&message(route(1), &[(1, &[10, 9, 0, 0])])).is_none(), "unicast");
        let last = [10, 0, 0, 0, 254, 0, 0, 7, 0, 0, 0, 0];
        let of_kernel = message(last, &[(4, &1_u32.to_ne_bytes()), (6, &u32::MAX.to_ne_bytes())]);
        assert!(refusal(&of_kernel).is_none(), "of last resort");

        let head = |action| [2, 0, 24, 0, 100, 0, 0, action, 0, 0, 0, 0];
        let from = message(head(1), &[(6, &9_u32.to_ne_bytes()), (2, &[10, 77, 0, 0])]);
        assert_eq!(rule(&from).as_deref(), Some("9: from 10.77.0.0/24 lookup 100"));
        let refuses = message(head(8), &[(6, &9_u32.to_ne_bytes()), (3, b"r0\0")]);
        assert_eq!(rule(&refuses).as_deref(), Some("9: from all iif r0 prohibit"));
        let main = [2, 0, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(rule(&message(main, &[(6, &32_766_u32.to_ne_bytes())])), None);
    }

    #[test]
    fn hostile_messages_are_left_out() {
        let name = |_: u32| String::new();
        let mut tables = LinkTables::default();
        for len in 0..40 {
            let body = vec![0xff_u8; len];
            link(&body, &mut tables);
            route(&body, &name, &mut tables.routes);
            let _ = (neighbour(&body, &name), device_address(&body));
            let _ = (refusal(&body), rule(&body));
        }
        assert!(tables.routes.is_empty());
    }
}
