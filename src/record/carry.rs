//! What a new file must start with so that it can be read alone: facts that its events may refer to,
//! learned while an earlier file was written.

use std::collections::{BTreeMap, VecDeque};

use psc_formats::Fact;
use psc_formats::fact::{
    ChainFact, ClockFact, CountersFact, DeviceFact, FirewallFact, LossFact, NeighboursFact,
    ProbeFact, RoutesFact, SamplingFact, SocketFact, StackFact, SymbolFact, SysctlsFact, TaskFact,
};

/// Sockets and tasks come and go without end; these many of each are carried, the least recently
/// described going first. An event that refers to a forgotten one shows it as unknown.
const MOST_SOCKETS: usize = 1 << 16;
const MOST_TASKS: usize = 1 << 16;

/// The latest fact of everything that can be referred to.
#[derive(Clone, Debug, Default)]
pub(super) struct Carry {
    devices: BTreeMap<u16, DeviceFact>,
    symbols: BTreeMap<u32, SymbolFact>,
    stacks: BTreeMap<u32, StackFact>,
    tasks: Latest<TaskFact>,
    sockets: Latest<SocketFact>,
    routes: BTreeMap<u32, RoutesFact>,
    neighbours: BTreeMap<u32, NeighboursFact>,
    counters: BTreeMap<u32, CountersFact>,
    sysctls: BTreeMap<u32, SysctlsFact>,
    probes: BTreeMap<u16, ProbeFact>,
    chains: BTreeMap<u32, ChainFact>,
    firewalls: BTreeMap<u32, FirewallFact>,
    sampling: Option<SamplingFact>,
    clock: Option<ClockFact>,
    loss: Option<LossFact>,
}

impl Carry {
    /// Takes a fact in.
    pub(super) fn learn(&mut self, fact: &Fact) {
        match fact {
            Fact::Device(f) => drop(self.devices.insert(f.id, f.clone())),
            Fact::Symbol(f) => drop(self.symbols.insert(f.id, f.clone())),
            Fact::Stack(f) => drop(self.stacks.insert(f.id, f.clone())),
            Fact::Task(f) => self.tasks.insert(f.tid, f.clone(), MOST_TASKS),
            // A socket without an id is a snapshot: nothing refers to it.
            Fact::Socket(f) if f.id == 0 => {}
            Fact::Socket(f) => self.sockets.insert(f.id, f.clone(), MOST_SOCKETS),
            Fact::Routes(f) => drop(self.routes.insert(f.netns, f.clone())),
            Fact::Neighbours(f) => drop(self.neighbours.insert(f.netns, f.clone())),
            Fact::Counters(f) => drop(self.counters.insert(f.netns, f.clone())),
            Fact::Firewall(f) => drop(self.firewalls.insert(f.netns, f.clone())),
            Fact::Sysctls(f) => drop(self.sysctls.insert(f.netns, f.clone())),
            Fact::Probe(f) => drop(self.probes.insert(f.id, f.clone())),
            Fact::Clock(f) => self.clock = Some(f.clone()),
            Fact::Loss(f) => self.loss = Some(f.clone()),
            Fact::Chain(f) => drop(self.chains.insert(f.id, f.clone())),
            Fact::Sampling(f) => self.sampling = Some(f.clone()),
            Fact::Notice(_)
            | Fact::Checkpoint(_)
            | Fact::End(_)
            | Fact::RouteProbes(_)
            | Fact::Rules(_)
            | Fact::Verdicts(_)
            | Fact::Unknown => {}
        }
    }

    /// The facts to start a file with, in an order in which none refers to a later one.
    pub(super) fn facts(&self) -> Vec<Fact> {
        let mut facts = Vec::new();
        facts.extend(self.probes.values().cloned().map(Fact::Probe));
        facts.extend(self.clock.clone().map(Fact::Clock));
        facts.extend(self.sampling.clone().map(Fact::Sampling));
        facts.extend(self.chains.values().cloned().map(Fact::Chain));
        facts.extend(self.devices.values().cloned().map(Fact::Device));
        facts.extend(self.symbols.values().cloned().map(Fact::Symbol));
        facts.extend(self.stacks.values().cloned().map(Fact::Stack));
        facts.extend(self.tasks.values().cloned().map(Fact::Task));
        facts.extend(self.sockets.values().cloned().map(Fact::Socket));
        facts.extend(self.routes.values().cloned().map(Fact::Routes));
        facts.extend(self.neighbours.values().cloned().map(Fact::Neighbours));
        facts.extend(self.firewalls.values().cloned().map(Fact::Firewall));
        facts.extend(self.sysctls.values().cloned().map(Fact::Sysctls));
        facts.extend(self.counters.values().cloned().map(Fact::Counters));
        facts
    }

    /// Loss so far, since the recording started.
    pub(super) fn loss(&self) -> LossFact {
        self.loss.clone().unwrap_or_default()
    }
}

/// The latest values by key, up to a number.
#[derive(Clone, Debug)]
struct Latest<V> {
    values: BTreeMap<u32, (u64, V)>,
    /// (stamp, key) in the order of insertion; an entry whose stamp is not its value's is stale.
    order: VecDeque<(u64, u32)>,
    stamp: u64,
}

impl<V> Default for Latest<V> {
    fn default() -> Self {
        Self { values: BTreeMap::new(), order: VecDeque::new(), stamp: 0 }
    }
}

impl<V> Latest<V> {
    fn insert(&mut self, key: u32, value: V, most: usize) {
        self.stamp += 1;
        self.values.insert(key, (self.stamp, value));
        self.order.push_back((self.stamp, key));
        while self.values.len() > most || self.order.len() > 2 * most {
            let Some((stamp, key)) = self.order.pop_front() else { break };
            if self.values.get(&key).is_some_and(|(current, _)| *current == stamp) {
                self.values.remove(&key);
            }
        }
    }

    fn values(&self) -> impl Iterator<Item = &V> {
        self.values.values().map(|(_, value)| value)
    }
}

/// `loss` counted from `start` on, so that each file speaks of itself.
pub(super) fn loss_since(start: &LossFact, loss: &LossFact) -> LossFact {
    let per_cpu = |now: &[u64], then: &[u64]| {
        now.iter()
            .enumerate()
            .map(|(cpu, now)| now.saturating_sub(then.get(cpu).copied().unwrap_or(0)))
            .collect()
    };
    let by_name = |now: &BTreeMap<String, u64>, then: &BTreeMap<String, u64>| {
        now.iter()
            .map(|(name, now)| {
                (name.clone(), now.saturating_sub(then.get(name).copied().unwrap_or(0)))
            })
            .collect()
    };
    LossFact {
        at: loss.at,
        written: per_cpu(&loss.written, &start.written),
        ring_full: per_cpu(&loss.ring_full, &start.ring_full),
        recursion: by_name(&loss.recursion, &start.recursion),
        by_probe: by_name(&loss.by_probe, &start.by_probe),
        unreadable_packets: loss.unreadable_packets.saturating_sub(start.unreadable_packets),
        missed_stacks: loss.missed_stacks.saturating_sub(start.missed_stacks),
        stacks_agreed: loss.stacks_agreed.saturating_sub(start.stacks_agreed),
        stacks_differed: loss.stacks_differed.saturating_sub(start.stacks_differed),
        filtered: loss.filtered.saturating_sub(start.filtered),
        aggregated: loss.aggregated.saturating_sub(start.aggregated),
        shed: loss.shed.saturating_sub(start.shed),
        lost_returns: loss.lost_returns.saturating_sub(start.lost_returns),
        capture_dropped: loss
            .capture_dropped
            .map(|now| now.saturating_sub(start.capture_dropped.unwrap_or(0))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_fact_of_each_is_carried() {
        let mut carry = Carry::default();
        for name in ["eth0", "wan0"] {
            let device = DeviceFact { id: 1, name: name.to_owned(), ..DeviceFact::default() };
            carry.learn(&Fact::Device(device));
        }
        carry.learn(&Fact::Stack(StackFact { id: 1, frames: vec![1] }));
        carry.learn(&Fact::Symbol(SymbolFact { id: 1, ..SymbolFact::default() }));
        let facts = carry.facts();
        assert!(matches!(&facts[0], Fact::Device(device) if device.name == "wan0"));
        assert!(matches!(&facts[1], Fact::Symbol(_)), "symbols before stacks: {facts:?}");
        assert_eq!(facts.len(), 3);
    }

    #[test]
    fn sockets_that_come_and_go_do_not_fill_memory() {
        let mut latest = Latest::default();
        for key in 0..10_000 {
            latest.insert(key, key, 100);
            latest.insert(0, key, 100);
        }
        assert_eq!(latest.values().count(), 100);
        assert!(latest.order.len() <= 200);
        assert_eq!(latest.values().next(), Some(&9_999), "what is described again stays");
    }

    #[test]
    fn each_file_speaks_of_its_own_loss() {
        let start = LossFact { ring_full: vec![5, 7], filtered: 3, ..LossFact::default() };
        let now = LossFact { ring_full: vec![5, 9, 1], filtered: 10, ..LossFact::default() };
        let since = loss_since(&start, &now);
        assert_eq!(since.ring_full, [0, 2, 1]);
        assert_eq!(since.filtered, 7);
    }
}
