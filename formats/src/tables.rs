//! Facts by id, as they accumulate.

use rustc_hash::FxHashMap;

use crate::event::{DeviceId, SockId, StackId, SymbolId};
use crate::fact::{
    ChainFact, CountersFact, DeviceFact, EndFact, Fact, FirewallFact, LossFact, NeighboursFact,
    NoticeFact, RouteProbesFact, RoutesFact, RulesFact, SamplingFact, SocketFact, StackFact,
    SymbolFact, SysctlsFact, TaskFact, VerdictsFact,
};

/// The facts of a recording so far, by id. Sources emit facts; every consumer applies them here.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Devices by id.
    pub devices: FxHashMap<DeviceId, DeviceFact>,
    /// Devices as they were before they went up, went down, or won or lost carrier, in order.
    pub device_changes: Vec<DeviceFact>,
    /// Symbols by id.
    pub symbols: FxHashMap<SymbolId, SymbolFact>,
    /// Stacks by id.
    pub stacks: FxHashMap<StackId, StackFact>,
    /// Tasks by thread id.
    pub tasks: FxHashMap<u32, TaskFact>,
    /// Sockets by id, the latest fact of each.
    pub sockets: FxHashMap<SockId, SocketFact>,
    /// Socket snapshots without an id (listeners and idle sockets), in order.
    pub socket_snapshots: Vec<SocketFact>,
    /// Counters, in order: the first and last of a namespace bound the recording.
    pub counters: Vec<CountersFact>,
    /// Sysctls per namespace, in order.
    pub sysctls: Vec<SysctlsFact>,
    /// Routes, in order.
    pub routes: Vec<RoutesFact>,
    /// Neighbours, in order.
    pub neighbours: Vec<NeighboursFact>,
    /// The latest loss; `None` when the source cannot know.
    pub loss: Option<LossFact>,
    /// Notices, in order.
    pub notices: Vec<NoticeFact>,
    /// Chains of firewall rules by number.
    pub chains: FxHashMap<u32, ChainFact>,
    /// Packet filters, in order.
    pub firewalls: Vec<FirewallFact>,
    /// How much was recorded from when on, in order; empty when all was.
    pub sampling: Vec<SamplingFact>,
    /// Rules that were in the kernel, in order.
    pub rules: Vec<RulesFact>,
    /// The latest of what they had done.
    pub verdicts: Option<VerdictsFact>,
    /// Set when the recording was closed in good order.
    pub end: Option<EndFact>,
    /// Results of route probing, in order.
    pub route_probes: Vec<RouteProbesFact>,
}

impl Tables {
    /// Takes one fact in.
    pub fn apply(&mut self, fact: &Fact) {
        match fact {
            Fact::Device(f) => {
                let before = self.devices.insert(DeviceId(f.id), f.clone());
                self.device_changes
                    .extend(before.filter(|old| (old.up, old.carrier) != (f.up, f.carrier)));
            }
            Fact::Symbol(f) => drop(self.symbols.insert(SymbolId(f.id), f.clone())),
            Fact::Stack(f) => drop(self.stacks.insert(StackId(f.id), f.clone())),
            Fact::Task(f) => drop(self.tasks.insert(f.tid, f.clone())),
            Fact::Socket(f) if f.id == 0 => self.socket_snapshots.push(f.clone()),
            Fact::Socket(f) => drop(self.sockets.insert(SockId(f.id), f.clone())),
            Fact::Routes(f) => self.routes.push(f.clone()),
            Fact::Neighbours(f) => self.neighbours.push(f.clone()),
            Fact::Counters(f) => self.counters.push(f.clone()),
            Fact::Sysctls(f) => self.sysctls.push(f.clone()),
            Fact::Loss(f) => self.loss = Some(f.clone()),
            Fact::Notice(f) => self.notices.push(f.clone()),
            Fact::Firewall(f) => self.firewalls.push(f.clone()),
            Fact::Chain(f) => drop(self.chains.insert(f.id, f.clone())),
            Fact::Sampling(f) => self.sampling.push(f.clone()),
            Fact::Rules(f) => self.rules.push(f.clone()),
            Fact::Verdicts(f) => self.verdicts = Some(f.clone()),
            Fact::End(f) => self.end = Some(f.clone()),
            Fact::RouteProbes(f) => self.route_probes.push(f.clone()),
            Fact::Probe(_) | Fact::Clock(_) | Fact::Checkpoint(_) | Fact::Unknown => {}
        }
    }

    /// `tcp_v4_rcv+0x12`, `tcp_v4_rcv+0x12 [module]`, or `?`.
    pub fn location(&self, id: SymbolId) -> String {
        match self.symbols.get(&id) {
            None => "?".to_owned(),
            Some(s) if s.module.is_empty() => format!("{}+{:#x}", s.name, s.offset),
            Some(s) => format!("{}+{:#x} [{}]", s.name, s.offset, s.module),
        }
    }

    /// The function's name alone, or `?`.
    pub fn function(&self, id: SymbolId) -> &str {
        self.symbols.get(&id).map_or("?", |s| &s.name)
    }

    /// What an event of a flow at this time stands for: itself and the flows that were left out beside it
    /// (`record --budget`); 1 when all were recorded.
    pub fn weight_at(&self, at: crate::Ns) -> u32 {
        let before = self.sampling.iter().take_while(|fact| fact.at <= at.0);
        before.last().map_or(1, |fact| fact.weight.max(1))
    }

    /// The device's name, or `?`.
    pub fn device_name(&self, id: DeviceId) -> &str {
        self.devices.get(&id).map_or("?", |d| &d.name)
    }
}
