//! Facts that give events meaning later: devices, addresses, routes, neighbours, sockets, sysctls
//! and counters of every network namespace.

mod counters;
mod devices;
mod ethtool;
pub(crate) mod namespaces;
mod netlink;
mod nftables;
mod qdiscs;
mod sockets;
mod sysctls;
mod tables;
pub(crate) mod tasks;

use std::collections::BTreeMap;
use std::net::IpAddr;

use psc_formats::Fact;
use psc_formats::fact::{
    CountersFact, FirewallFact, NeighboursFact, NoticeFact, RoutesFact, Severity, SysctlsFact,
};
use rustc_hash::FxHashMap;

pub(crate) use devices::Devices;

use crate::kernel;
use namespaces::Namespace;

/// Sockets of one namespace that each snapshot tells of; of more, only those that wait.
const SOCKETS: usize = 2048;

/// What names a socket: namespace, protocol, local and remote end.
pub(crate) type SocketKey = (u32, u8, Option<(IpAddr, u16)>, Option<(IpAddr, u16)>);

/// Everything read inside one namespace.
struct Reading {
    at: u64,
    tables: tables::LinkTables,
    counters: BTreeMap<String, u64>,
    sysctls: BTreeMap<String, String>,
    firewall: FirewallFact,
    sockets: Vec<sockets::Found>,
}

impl Reading {
    /// Of the namespace that the thread is in.
    fn take(host: bool) -> std::io::Result<Self> {
        let mut counters = BTreeMap::new();
        // Counters first and together: they are compared with events by time.
        let at = kernel::now();
        counters::read(host, &mut counters);
        let mut tables = tables::read(true)?;
        counters.append(&mut tables.counters);
        for device in &tables.devices {
            ethtool::read(device, &mut counters);
        }
        qdiscs::read(&tables.devices, &mut counters);
        let firewall = nftables::read(&mut counters);
        let (sysctls, sockets) = (sysctls::read(), sockets::read());
        Ok(Self { at, tables, counters, sysctls, firewall, sockets })
    }

    /// `host`: with what is the whole host's and readable only from here.
    fn of(space: &Namespace, host: bool) -> std::io::Result<Self> {
        let mut reading =
            if space.is_own() { Self::take(host) } else { space.inside(|| Self::take(host))? }?;
        if host {
            reading.sysctls.extend(sysctls::read_host());
        }
        Ok(reading)
    }
}

/// Reads what changes slowly, per namespace, and tells what is new.
#[derive(Default)]
pub(crate) struct Snapshots {
    /// Only these namespaces; empty is all.
    pub(crate) only: Vec<u32>,
    routes: FxHashMap<u32, RoutesFact>,
    neighbours: FxHashMap<u32, NeighboursFact>,
    sysctls: FxHashMap<u32, SysctlsFact>,
    firewalls: FxHashMap<u32, FirewallFact>,
    refused: FxHashMap<u32, String>,
}

impl Snapshots {
    /// Reads every namespace. `known` gives the id of a socket that events have named.
    pub(crate) fn take(
        &mut self,
        devices: &mut Devices,
        known: impl Fn(&SocketKey) -> Option<u32>,
    ) -> Vec<Fact> {
        let mut facts = Vec::new();
        let owners = sockets::owners();
        let spaces: Vec<Namespace> = namespaces::list()
            .into_iter()
            .filter(|space| self.only.is_empty() || self.only.contains(&space.inode))
            .collect();
        // CPUs belong to no namespace: their counters go with our own, or with the first of these.
        let host = spaces.iter().position(Namespace::is_own).unwrap_or(0);
        for (index, space) in spaces.iter().enumerate() {
            match Reading::of(space, index == host) {
                Ok(reading) => {
                    self.tell(space, reading, devices, &owners, &known, &mut facts);
                }
                // It went away between listing and entering.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => {
                    let text = format!(
                        "facts of network namespace {} could not be read ({e}); entering it needs CAP_SYS_ADMIN",
                        space.inode
                    );
                    if self.refused.insert(space.inode, text.clone()).is_none() {
                        facts.push(notice(text, 1));
                    }
                }
            }
        }
        devices.tell_all(&mut facts);
        facts
    }

    fn tell(
        &mut self,
        space: &Namespace,
        reading: Reading,
        devices: &mut Devices,
        owners: &FxHashMap<u32, (u32, String)>,
        known: &impl Fn(&SocketKey) -> Option<u32>,
        facts: &mut Vec<Fact>,
    ) {
        let (netns, at) = (space.inode, reading.at);
        devices.update(netns, &space.name, reading.tables.devices);
        // Times differ each time: compare what was read, not when.
        let routes = RoutesFact {
            at: 0,
            netns,
            routes: reading.tables.routes,
            refusing: reading.tables.refusing,
            rules: reading.tables.rules,
        };
        if self.routes.get(&netns) != Some(&routes) {
            facts.push(Fact::Routes(RoutesFact { at, ..routes.clone() }));
            self.routes.insert(netns, routes);
        }
        let neighbours = NeighboursFact { at: 0, netns, neighbours: reading.tables.neighbours };
        if self.neighbours.get(&netns) != Some(&neighbours) {
            facts.push(Fact::Neighbours(NeighboursFact { at, ..neighbours.clone() }));
            self.neighbours.insert(netns, neighbours);
        }
        let sysctls = SysctlsFact { netns, values: reading.sysctls };
        if self.sysctls.get(&netns) != Some(&sysctls) {
            facts.push(Fact::Sysctls(sysctls.clone()));
            self.sysctls.insert(netns, sysctls);
        }
        let firewall = FirewallFact { netns, ..reading.firewall };
        let before = self.firewalls.get(&netns);
        // Nothing to tell of a namespace without rules, unless it had some.
        if before.is_some_and(|before| *before != firewall)
            || before.is_none() && !firewall.chains.is_empty()
        {
            facts.push(Fact::Firewall(FirewallFact { at, ..firewall.clone() }));
            self.firewalls.insert(netns, firewall);
        }
        facts.push(Fact::Counters(CountersFact { at, netns, values: reading.counters }));

        let many = reading.sockets.len() > SOCKETS;
        let mut left_out = 0;
        for sockets::Found { mut fact, inode } in reading.sockets {
            const LISTEN: u8 = 10;
            let waits = fact.state == LISTEN || fact.recv_queue > 0 || fact.send_queue > 0;
            if many && !waits {
                left_out += 1;
                continue;
            }
            (fact.netns, fact.at) = (netns, at);
            fact.id = known(&(netns, fact.protocol, fact.local, fact.remote)).unwrap_or(0);
            if let Some((pid, comm)) = owners.get(&inode) {
                fact.pid = *pid;
                fact.comm.clone_from(comm);
            }
            facts.push(Fact::Socket(fact));
        }
        if left_out > 0 {
            facts.push(notice(
                format!("idle sockets of network namespace {netns} were left out of a snapshot"),
                left_out,
            ));
        }
    }
}

/// Something worth knowing, now.
pub(crate) fn notice(text: String, count: u64) -> Fact {
    Fact::Notice(NoticeFact { at: kernel::now(), severity: Severity::Info, text, count })
}
