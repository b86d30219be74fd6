//! The case before the rules: what was seen, beside the facts of each namespace.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use psc_formats::event::{DeviceId, SymbolId};
use psc_formats::fact::{DeviceFact, RoutesFact, SocketFact};
use psc_formats::flow::ProtocolName;
use psc_formats::manifest::Origin;
use psc_formats::{FiveTuple, Manifest, Tables};

use super::rule::{DropRule, Found, Sure};
use super::seen::{Connection, Drop, Hook, Kind, Seen, Times};
use crate::analyzer::{Deltas, netns_name};
use crate::view::Provenance;

/// `TCP_LISTEN` and `TCP_CLOSE` of `include/net/tcp_states.h`; unconnected UDP sockets are closed.
const LISTEN: u8 = 10;
const CLOSE: u8 = 7;

/// Flows and services named as evidence.
const SHOWN: usize = 3;

/// One network namespace (a capture is one without facts).
pub(super) struct Space<'a> {
    pub(super) netns: u32,
    pub(super) name: String,
    deltas: Deltas<'a>,
    sysctls: Option<&'a BTreeMap<String, String>>,
    pub(super) devices: Vec<&'a DeviceFact>,
    pub(super) routes: Option<&'a RoutesFact>,
}

impl Space<'_> {
    /// The rise of a counter over the recording, 0 when it was not read.
    pub(super) fn rise(&self, counter: &str) -> u64 {
        self.deltas.get(counter).unwrap_or(0)
    }

    /// The rise of a counter, when it was read at both ends.
    pub(super) fn counted(&self, counter: &str) -> Option<u64> {
        self.deltas.get(counter)
    }

    /// Counters that rose and whose name begins and ends so: (name, rise).
    pub(super) fn rises(&self, prefix: &str, suffix: &str) -> Vec<(String, u64)> {
        self.deltas.rises(prefix, suffix)
    }

    pub(super) fn sysctl(&self, name: &str) -> Option<&str> {
        self.sysctls?.get(name).map(String::as_str)
    }

    /// Whether an address is one of the namespace's own.
    pub(super) fn owns(&self, address: IpAddr) -> bool {
        self.devices.iter().any(|device| device_has(device, address))
    }

    /// Counters of devices that tell loss and rose, with their rises.
    pub(super) fn device_losses(&self) -> Vec<(String, u64)> {
        self.deltas.device_losses()
    }

    /// `rose by N in namespace X` for each of these counters that rose.
    pub(super) fn tell(&self, counters: &[&str]) -> Vec<String> {
        counters
            .iter()
            .map(|&counter| (counter, self.rise(counter)))
            .filter(|(_, rise)| *rise > 0)
            .map(|(counter, rise)| {
                format!(
                    "{counter} of namespace {} rose by {rise} (the kernel's own count).",
                    self.name
                )
            })
            .collect()
    }

    /// Routes that refuse a destination, and rules that are not the kernel's own, as evidence.
    pub(super) fn refusing(&self, to: IpAddr) -> Vec<String> {
        let Some(routes) = self.routes else { return Vec::new() };
        let of = |what: &str| format!("Namespace {} has {what}.", self.name);
        let refusing =
            routes.refusing.iter().filter(|route| covers(route.destination, route.prefix, to)).map(
                |route| {
                    let (kind, table) = (&route.kind, route.table);
                    of(&format!(
                        "the route {kind} {}/{} in table {table}",
                        route.destination, route.prefix
                    ))
                },
            );
        refusing.chain(routes.rules.iter().map(|rule| of(&format!("the rule {rule}")))).collect()
    }

    /// The route that a destination would take, by longest prefix.
    pub(super) fn route(&self, to: IpAddr) -> Option<&psc_formats::fact::Route> {
        let routes = &self.routes?.routes;
        routes
            .iter()
            .filter(|route| covers(route.destination, route.prefix, to))
            .max_by_key(|route| (route.prefix, std::cmp::Reverse(route.metric)))
    }
}

/// Whether a prefix holds an address.
pub(super) fn covers(network: IpAddr, prefix: u8, address: IpAddr) -> bool {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    };
    let ((a, width), (b, other)) = (bits(network), bits(address));
    width == other && (prefix == 0 || (a ^ b) >> (128 - u32::from(prefix.min(width))) == 0)
}

fn device_has(device: &DeviceFact, address: IpAddr) -> bool {
    device
        .addresses
        .iter()
        .any(|local| local.split('/').next().and_then(|ip| ip.parse().ok()) == Some(address))
}

/// Everything that rules may look at, and what earlier rules have explained.
pub(super) struct Case<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) tables: &'a Tables,
    pub(super) provenance: &'a Provenance,
    pub(super) seen: &'a Seen,
    pub(super) spaces: Vec<Space<'a>>,
    /// In the order of their first packets: sorted once, for a dozen rules.
    connections: Rc<[&'a Connection]>,
    drops: Vec<&'a Drop>,
    taken: Vec<bool>,
    flows: HashSet<FiveTuple>,
    hosts: HashSet<IpAddr>,
    servers: HashSet<(IpAddr, u16)>,
    troubled: HashSet<u32>,
    routerless: HashSet<u32>,
    accounted: HashSet<DeviceId>,
}

impl<'a> Case<'a> {
    pub(super) fn new(
        manifest: &'a Manifest,
        tables: &'a Tables,
        provenance: &'a Provenance,
        seen: &'a Seen,
    ) -> Self {
        let mut inodes: BTreeSet<u32> = tables.counters.iter().map(|fact| fact.netns).collect();
        inodes.extend(tables.devices.values().map(|fact| fact.netns));
        let spaces = inodes
            .into_iter()
            .map(|netns| {
                let mut devices: Vec<&DeviceFact> =
                    tables.devices.values().filter(|fact| fact.netns == netns).collect();
                devices.sort_by_key(|fact| fact.id);
                Space {
                    netns,
                    name: netns_name(tables, netns),
                    deltas: Deltas::of(tables, netns),
                    sysctls: tables
                        .sysctls
                        .iter()
                        .rev()
                        .find(|fact| fact.netns == netns)
                        .map(|fact| &fact.values),
                    devices,
                    routes: tables.routes.iter().rev().find(|fact| fact.netns == netns),
                }
            })
            .collect();
        let drops: Vec<&Drop> = seen.drops.rows().filter(|drop| drop.times.count > 0).collect();
        let taken = vec![false; drops.len()];
        Self {
            manifest,
            tables,
            provenance,
            seen,
            spaces,
            connections: seen.connections.all().into(),
            drops,
            taken,
            flows: HashSet::new(),
            hosts: HashSet::new(),
            servers: HashSet::new(),
            troubled: HashSet::new(),
            routerless: HashSet::new(),
            accounted: HashSet::new(),
        }
    }

    /// Every connection, in the order of their first packets.
    pub(super) fn connections(&self) -> impl Iterator<Item = &'a Connection> + use<'a> {
        let all = Rc::clone(&self.connections);
        (0..all.len()).map(move |index| all[index])
    }

    /// As [`Self::connections`], those that began less than `within` nanoseconds from `at`.
    pub(super) fn began_around(&self, at: u64, within: u64) -> &[&'a Connection] {
        let all = &self.connections;
        let from = all.partition_point(|c| c.times.first.saturating_add(within) <= at);
        let to = all.partition_point(|c| c.times.first < at.saturating_add(within));
        &all[from..to.max(from)]
    }

    /// Whether only packets are known, and nothing of the stack.
    pub(super) fn is_capture(&self) -> bool {
        self.manifest.origin == Origin::Capture
    }

    pub(super) fn space(&self, netns: u32) -> Option<&Space<'a>> {
        self.spaces.iter().find(|space| space.netns == netns)
    }

    /// The namespace that has this address.
    pub(super) fn owner(&self, address: IpAddr) -> Option<&Space<'a>> {
        self.spaces.iter().find(|space| space.owns(address))
    }

    pub(super) fn reason(&self, drop: &Drop) -> &'a str {
        self.manifest.drop_reasons.get(&drop.reason).map_or("", String::as_str)
    }

    pub(super) fn function(&self, drop: &Drop) -> &'a str {
        self.tables.function(drop.location)
    }

    /// The namespace of a drop: its device's, else its socket's, else that of the address that it
    /// was sent from.
    pub(super) fn netns_of(&self, drop: &Drop) -> u32 {
        if drop.netns != 0 {
            return drop.netns;
        }
        let socket = self.tables.sockets.get(&drop.sock).map(|socket| socket.netns);
        socket.filter(|netns| *netns != 0).unwrap_or_else(|| {
            let flow = drop.flows.most(1).into_iter().next();
            flow.and_then(|(flow, _)| self.owner(flow.src)).map_or(0, |space| space.netns)
        })
    }

    /// Drops not yet explained for which `wanted` holds; they count as explained from here on.
    pub(super) fn take(&mut self, wanted: impl Fn(&Self, &Drop) -> bool) -> Vec<&'a Drop> {
        let mut found = Vec::new();
        for index in 0..self.drops.len() {
            let drop = self.drops[index];
            if !self.taken[index] && wanted(self, drop) {
                self.taken[index] = true;
                found.push(drop);
            }
        }
        for drop in &found {
            self.explain_drop(drop);
        }
        found
    }

    /// As [`Self::take`], but leaves them for other rules.
    pub(super) fn look(&self, wanted: impl Fn(&Self, &Drop) -> bool) -> Vec<&'a Drop> {
        self.drops.iter().copied().filter(|drop| wanted(self, drop)).collect()
    }

    fn explain_drop(&mut self, drop: &Drop) {
        for (flow, _) in drop.flows.most(usize::MAX) {
            self.explain_flow(flow);
        }
    }

    /// What happens to this flow has a cause that was told.
    pub(super) fn explain_flow(&mut self, flow: FiveTuple) {
        self.flows.insert(flow.canonical());
        self.flows.insert(FiveTuple { sport: 0, ..flow }.canonical());
    }

    pub(super) fn explain_host(&mut self, host: IpAddr) {
        self.hosts.insert(host);
    }

    pub(super) fn explain_server(&mut self, address: IpAddr, port: u16) {
        self.servers.insert((address, port));
    }

    /// Traffic of a namespace suffers from what was told, without it being known which flows.
    pub(super) fn explain_space(&mut self, netns: u32) {
        self.troubled.insert(netns);
    }

    /// No IPv6 router is there, which explains what finds no IPv6 route.
    pub(super) fn explain_routerless(&mut self, netns: u32) {
        self.routerless.insert(netns);
    }

    pub(super) fn is_routerless(&self, netns: u32) -> bool {
        self.routerless.contains(&netns)
    }

    /// The loss that a device counts has been told.
    pub(super) fn account_device(&mut self, device: DeviceId) {
        self.accounted.insert(device);
    }

    pub(super) fn is_accounted(&self, device: DeviceId) -> bool {
        self.accounted.contains(&device)
    }

    pub(super) fn is_troubled(&self, netns: u32) -> bool {
        self.troubled.contains(&netns)
    }

    pub(super) fn is_host_explained(&self, host: IpAddr) -> bool {
        self.hosts.contains(&host)
    }

    pub(super) fn is_server_explained(&self, address: IpAddr, port: u16) -> bool {
        self.servers.contains(&(address, port))
    }

    /// The worst snapshot of each listener whose accept queue was full.
    pub(super) fn seen_full(&self) -> Vec<&'a SocketFact> {
        let mut worst = BTreeMap::new();
        let facts = self.tables.sockets.values().chain(&self.tables.socket_snapshots);
        for fact in facts {
            // The queue holds one more than the backlog before it overflows.
            if fact.protocol == 6
                && fact.state == LISTEN
                && fact.recv_queue >= fact.send_queue.max(1)
            {
                let slot: &mut &SocketFact = worst.entry((fact.netns, fact.local)).or_insert(fact);
                if (slot.recv_queue, fact.pid) < (fact.recv_queue, slot.pid) {
                    *slot = fact;
                }
            }
        }
        worst.into_values().collect()
    }

    /// Whether an earlier rule told why this flow suffers.
    pub(super) fn is_explained(&self, flow: FiveTuple) -> bool {
        self.flows.contains(&flow.canonical())
            || self.flows.contains(&FiveTuple { sport: 0, ..flow }.canonical())
            || [flow.src, flow.dst].iter().any(|host| self.hosts.contains(host))
            || self.servers.contains(&(flow.dst, flow.dport))
            || self.servers.contains(&(flow.src, flow.sport))
            || [flow.src, flow.dst]
                .iter()
                .filter_map(|host| self.owner(*host))
                .any(|space| self.troubled.contains(&space.netns))
    }

    /// Lower with recorder loss, or with a capture only.
    pub(super) fn confidence(&self, sure: &Sure) -> String {
        let (rank, why) = match sure {
            Sure::High => ("high", ""),
            Sure::Medium(why) => ("medium", why.as_str()),
            Sure::Low(why) => ("low", why.as_str()),
        };
        let loss = match self.provenance.completeness.lost {
            Some(0) => String::new(),
            Some(lost) => format!("the recorder lost {lost} events"),
            None if self.is_capture() => "the capture does not say what it lost".to_owned(),
            None => "what the recorder lost is not known".to_owned(),
        };
        let rank = if rank == "high" && !loss.is_empty() { "medium" } else { rank };
        let why: Vec<&str> = [why, &loss].into_iter().filter(|text| !text.is_empty()).collect();
        if why.is_empty() { rank.to_owned() } else { format!("{rank}: {}", why.join("; ")) }
    }

    /// `s0 in namespace web`, `namespace web`, or what is known of it.
    pub(super) fn place(&self, netns: u32, device: DeviceId) -> String {
        let name = self.space(netns).map_or("", |space| space.name.as_str());
        match (self.tables.devices.get(&device), name) {
            (Some(device), "") => device.name.clone(),
            (Some(device), name) => format!("{} in namespace {name}", device.name),
            (None, "") => "a place not recorded".to_owned(),
            (None, name) => format!("namespace {name}"),
        }
    }

    pub(super) fn device_name(&self, device: DeviceId) -> &'a str {
        self.tables.devices.get(&device).map_or("", |fact| fact.name.as_str())
    }

    /// Sockets of a namespace that wait for packets on a port: TCP listeners, unconnected UDP.
    pub(super) fn waiting(&self, netns: u32, protocol: u8, port: u16) -> Vec<&'a SocketFact> {
        let state = if protocol == 6 { LISTEN } else { CLOSE };
        let mut found: Vec<&SocketFact> = self
            .tables
            .sockets
            .values()
            .chain(&self.tables.socket_snapshots)
            .filter(|fact| {
                fact.netns == netns
                    && fact.protocol == protocol
                    && fact.state == state
                    && fact.remote.is_none()
                    && fact.local.is_some_and(|(_, local)| local == port)
            })
            .collect();
        found.sort_by_key(|fact| (fact.local, fact.pid, fact.at));
        found.dedup_by_key(|fact| fact.local);
        found
    }

    /// Fills `{packets}`, `{were}`, `{place}`, `{dev}`, `{netns}`, `{src}`, `{dst}`, `{service}`, `{function}`
    /// and `{reason}` from the most frequent of these drops.
    pub(super) fn fill(&self, template: &str, drops: &[&Drop]) -> String {
        let Some(first) = drops.iter().max_by_key(|drop| drop.times.count) else {
            return template.to_owned();
        };
        let count: u64 = drops.iter().fold(0, |sum, drop| sum.saturating_add(drop.times.count));
        let flow = first.flows.most(1).into_iter().next().map(|(flow, _)| flow);
        let address = |ip: Option<IpAddr>| ip.map_or("its source".to_owned(), |ip| ip.to_string());
        let service = flow.map_or("its destination".to_owned(), |flow| {
            service(flow.protocol, flow.dst, flow.dport)
        });
        let netns = self.netns_of(first);
        let dev = self.device_name(first.device);
        template
            .replace("{packets}", &counted(count, "packet"))
            .replace("{were}", were(count))
            .replace("{place}", &self.place(netns, first.device))
            .replace("{dev}", if dev.is_empty() { "DEVICE" } else { dev })
            .replace("{netns}", self.space(netns).map_or("?", |space| &space.name))
            .replace("{src}", &address(flow.map(|flow| flow.src)))
            .replace("{dst}", &address(flow.map(|flow| flow.dst)))
            .replace("{service}", &service)
            .replace("{function}", self.function(first))
            .replace("{reason}", self.reason(first))
    }

    /// How many packets for which reason where, and their flows.
    pub(super) fn tell_drops(&self, drops: &[&Drop]) -> Vec<String> {
        let mut told = Vec::new();
        let mut by_place: BTreeMap<(u32, SymbolId, Hook), u64> = BTreeMap::new();
        let mut flows: BTreeMap<FiveTuple, u64> = BTreeMap::new();
        for drop in drops {
            let key = (drop.reason, drop.location, drop.hook);
            *by_place.entry(key).or_default() += drop.times.count;
            for (flow, count) in drop.flows.most(SHOWN) {
                *flows.entry(flow).or_default() += count;
            }
        }
        for ((reason, location, hook), count) in by_place {
            let at = if hook == Hook::Unknown {
                String::new()
            } else {
                format!(", hook {}", hook.name())
            };
            told.push(format!(
                "{}: {} in {}{at}.",
                counted(count, "packet"),
                self.manifest.drop_reason(reason),
                self.tables.location(location),
            ));
        }
        let mut flows: Vec<(FiveTuple, u64)> = flows.into_iter().collect();
        flows.sort_by_key(|(flow, count)| (std::cmp::Reverse(*count), *flow));
        for (flow, count) in flows.into_iter().take(SHOWN) {
            told.push(format!("{flow}: {}.", counted(count, "packet")));
        }
        told
    }

    /// Runs a rule about drops alone: one finding for each device that they happened at.
    pub(super) fn drops_of(&mut self, rule: &DropRule) -> Vec<Found> {
        let drops = self.take(|case, drop| {
            let function = case.function(drop);
            drop.kind != Kind::Chatter
                && rule.reasons.contains(&case.reason(drop))
                && (rule.functions.is_empty()
                    || rule.functions.iter().any(|prefix| function.starts_with(prefix)))
                && (rule.kinds.is_empty()
                    || drop.kind == Kind::Counted
                    || rule.kinds.contains(&drop.kind))
        });
        let groups = self.by_place(&drops);
        groups
            .into_iter()
            .filter(|group| group.iter().map(|drop| drop.times.count).sum::<u64>() >= rule.least)
            .map(|group| {
                let mut found = self.found(&group);
                found.title = self.fill(rule.title, &group);
                found.advice = self.fill(rule.advice, &group);
                if let Some(space) = self.space(self.netns_of(group[0])) {
                    found.evidence.extend(space.tell(rule.counters));
                    for sysctl in rule.sysctls {
                        let name = self.fill(sysctl, &group);
                        if let Some(value) = space.sysctl(&name) {
                            found.evidence.push(format!("{name} is {value}."));
                        }
                    }
                }
                found
            })
            .collect()
    }

    /// Drops by namespace and device, in their order.
    pub(super) fn by_place(&self, drops: &[&'a Drop]) -> Vec<Vec<&'a Drop>> {
        let mut groups: BTreeMap<(u32, DeviceId), Vec<&Drop>> = BTreeMap::new();
        for drop in drops {
            groups.entry((self.netns_of(drop), drop.device)).or_default().push(drop);
        }
        groups.into_values().collect()
    }

    /// Evidence, times and targets of drops, without title and advice.
    pub(super) fn found(&self, drops: &[&Drop]) -> Found {
        let mut times = Times::default();
        let mut services: BTreeMap<(u8, IpAddr, u16), u64> = BTreeMap::new();
        for drop in drops {
            times.merge(&drop.times);
            for (key, count) in drop.services.most(SHOWN) {
                *services.entry(key).or_default() += count;
            }
        }
        let mut services: Vec<_> = services.into_iter().collect();
        services.sort_by_key(|(key, count)| (std::cmp::Reverse(*count), *key));
        let mut targets = Vec::new();
        if let Some(first) = drops.first() {
            targets.push(self.place(self.netns_of(first), first.device));
        }
        targets.extend(
            services
                .into_iter()
                .take(SHOWN)
                .map(|((p, address, port), _)| service(p, address, port)),
        );
        Found { evidence: self.tell_drops(drops), targets, times, ..Found::default() }
    }

    /// Whether a drop is of an address resolution packet, by what is known of it.
    pub(super) fn is_local(&self, netns: u32, address: IpAddr) -> bool {
        self.space(netns).is_some_and(|space| space.owns(address))
    }
}

/// `tcp 10.0.0.2:80`, `icmp 10.0.0.2`.
pub(super) fn service(protocol: u8, address: IpAddr, port: u16) -> String {
    let name = ProtocolName(protocol);
    if port == 0 {
        format!("{name} {address}")
    } else {
        format!("{name} {}", SocketAddr::new(address, port))
    }
}

/// `1 packet`, `3 packets`.
pub(super) fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The verb after [`counted`].
pub(super) fn were(count: u64) -> &'static str {
    if count == 1 { "was" } else { "were" }
}

/// `1 packet was`, `3 packets were`.
pub(super) fn counted_were(count: u64, what: &str) -> String {
    format!("{} {}", counted(count, what), were(count))
}

/// Link-layer address in the usual form.
pub(super) fn mac(octets: [u8; 6]) -> String {
    psc_formats::packet::Mac(octets).to_string()
}

/// The name of an errno that a network call can end with (`errno(3)`), positive.
pub(super) fn errno(number: u32) -> String {
    let name = match number {
        1 => "EPERM",
        11 => "EAGAIN",
        12 => "ENOMEM",
        13 => "EACCES",
        19 => "ENODEV",
        22 => "EINVAL",
        28 => "ENOSPC",
        32 => "EPIPE",
        90 => "EMSGSIZE",
        97 => "EAFNOSUPPORT",
        99 => "EADDRNOTAVAIL",
        100 => "ENETDOWN",
        101 => "ENETUNREACH",
        104 => "ECONNRESET",
        105 => "ENOBUFS",
        110 => "ETIMEDOUT",
        111 => "ECONNREFUSED",
        113 => "EHOSTUNREACH",
        _ => return format!("errno {number}"),
    };
    name.to_owned()
}
