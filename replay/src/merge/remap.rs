//! Ids of several recordings side by side: every id of one is moved to where no other has any.

use std::collections::BTreeMap;

use psc_formats::event::{ArgValue, DeviceId, SkbAddr, SockId, StackId, SymbolId};
use psc_formats::fact::LossFact;
use psc_formats::{Batch, Context, Event, EventKind, Fact, Ns, ProbeId, Stack};
use rustc_hash::FxHashMap;

/// The highest ids of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// CPUs, from 0.
    pub cpus: u16,
    /// Probes.
    pub probes: u16,
    /// Devices.
    pub devices: u16,
    /// Symbols.
    pub symbols: u32,
    /// Stacks.
    pub stacks: u32,
    /// Sockets.
    pub sockets: u32,
    /// skb addresses.
    pub skbs: u32,
    /// Chains of rules.
    pub chains: u32,
}

impl Extent {
    /// Takes a batch in.
    pub fn cover(&mut self, batch: &Batch) {
        for event in &batch.events {
            self.cpus = self.cpus.max(event.cpu.saturating_add(1));
            self.probes = self.probes.max(event.probe.0.saturating_add(1));
            self.devices = self.devices.max(event.device.0);
            self.sockets = self.sockets.max(event.sock.0);
            self.stacks = self.stacks.max(event.stack.id.0);
            self.skbs = self.skbs.max(event.skb.0);
            if let Some(other) = other_skb(&event.kind) {
                self.skbs = self.skbs.max(other.0);
            }
        }
        for fact in &batch.facts {
            match fact {
                Fact::Device(f) => self.devices = self.devices.max(f.id),
                Fact::Symbol(f) => self.symbols = self.symbols.max(f.id),
                Fact::Stack(f) => self.stacks = self.stacks.max(f.id),
                Fact::Socket(f) => self.sockets = self.sockets.max(f.id),
                Fact::Chain(f) => self.chains = self.chains.max(f.id),
                Fact::Loss(f) => {
                    let cpus = f.written.len().max(f.ring_full.len());
                    self.cpus = self.cpus.max(u16::try_from(cpus).unwrap_or(u16::MAX));
                }
                _ => {}
            }
        }
    }

    /// Ids of another recording come after these.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            cpus: self.cpus.saturating_add(other.cpus),
            probes: self.probes.saturating_add(other.probes),
            devices: self.devices.saturating_add(other.devices),
            symbols: self.symbols.saturating_add(other.symbols),
            stacks: self.stacks.saturating_add(other.stacks),
            sockets: self.sockets.saturating_add(other.sockets),
            skbs: self.skbs.saturating_add(other.skbs),
            chains: self.chains.saturating_add(other.chains),
        }
    }
}

/// The skb that an event of one names beside its own.
fn other_skb(kind: &EventKind) -> Option<SkbAddr> {
    match kind {
        EventKind::Cloned { child }
        | EventKind::Copied { child }
        | EventKind::Segmented { child }
        | EventKind::Fragmented { child }
        | EventKind::Handed { child, .. } => Some(*child),
        EventKind::Merged { into } | EventKind::Reassembled { into } => Some(*into),
        _ => None,
    }
}

/// A packet that leaves this recording and comes in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joint {
    /// The skb that it is there, with the ids of the merged recording.
    pub skb: SkbAddr,
    /// When it comes, on the merged recording's clock, nanoseconds.
    pub arrival: u64,
    /// How much earlier it may have come, nanoseconds; `None` when nothing bounds that.
    pub earlier: Option<u64>,
    /// How much later.
    pub later: Option<u64>,
}

/// Moves one recording into its place beside others.
#[derive(Debug, Default)]
pub struct Remap {
    /// Number among the recordings, from 0.
    pub number: u8,
    /// Ids of those before.
    pub base: Extent,
    /// Nanoseconds to add.
    pub offset: i64,
    /// Host, to be named where two may share a name.
    pub host: String,
    /// Drop reasons whose number means something else here.
    pub reasons: BTreeMap<u32, u32>,
    /// Probe that says that a packet left for another recording.
    pub joints_probe: ProbeId,
    /// Packets that leave for another recording, by CPU and number of the event.
    pub joints: FxHashMap<(u16, u64), Joint>,
    /// Events put in so far on each CPU.
    pub added: FxHashMap<u16, u64>,
}

impl Remap {
    /// A time on the merged recording's clock.
    pub fn time(&self, at: u64) -> u64 {
        at.saturating_add_signed(self.offset)
    }

    /// An skb's id there.
    pub fn skb(&self, skb: SkbAddr) -> SkbAddr {
        if skb.0 == 0 { skb } else { SkbAddr(skb.0.saturating_add(self.base.skbs)) }
    }

    fn symbol(&self, symbol: u64) -> u64 {
        if symbol == 0 { 0 } else { symbol.saturating_add(u64::from(self.base.symbols)) }
    }

    /// Inode numbers of namespaces are alike on all hosts.
    fn netns(&self, netns: u32) -> u32 {
        if netns == 0 { 0 } else { netns ^ u32::from(self.number) << 24 }
    }

    /// Thread ids are at most 2^22 (`PID_MAX_LIMIT`).
    fn thread(&self, tid: u32) -> u32 {
        tid | u32::from(self.number) << 22
    }

    /// Moves a batch. Facts that only hold for one recording are left out; loss is the caller's to add up.
    pub fn batch(&mut self, batch: &mut Batch) {
        let facts = std::mem::take(&mut batch.facts);
        batch.facts = facts.into_iter().filter_map(|fact| self.fact(fact)).collect();
        let events = std::mem::take(&mut batch.events);
        for event in events {
            let joint = self.joints.get(&(event.cpu, event.seq)).copied();
            let added = self.added.entry(event.cpu).or_default();
            let shift = *added;
            *added += u64::from(joint.is_some());
            let mut event = self.event(event);
            event.seq = event.seq.wrapping_add(shift);
            batch.events.push(event);
            if let Some(joint) = joint {
                batch.events.push(Event {
                    seq: event.seq.wrapping_add(1),
                    probe: self.joints_probe,
                    packet: None,
                    stack: Stack::default(),
                    kind: EventKind::Handed {
                        child: joint.skb,
                        arrival: joint.arrival,
                        earlier: joint.earlier.unwrap_or(u64::MAX),
                        later: joint.later.unwrap_or(u64::MAX),
                    },
                    ..event
                });
            }
        }
        batch.complete_to = batch.complete_to.map(|at| Ns(self.time(at.0)));
    }

    fn event(&self, mut event: Event) -> Event {
        event.at = Ns(self.time(event.at.0));
        event.cpu = event.cpu.saturating_add(self.base.cpus);
        event.probe = ProbeId(event.probe.0.saturating_add(self.base.probes));
        event.skb = self.skb(event.skb);
        if event.sock.0 > 0 {
            event.sock = SockId(event.sock.0.saturating_add(self.base.sockets));
        }
        if event.device.0 > 0 {
            event.device = DeviceId(event.device.0.saturating_add(self.base.devices));
        }
        if event.stack.id.0 > 0 {
            event.stack.id = StackId(event.stack.id.0.saturating_add(self.base.stacks));
        }
        if let Context::Task(tid) = event.context {
            event.context = Context::Task(self.thread(tid));
        }
        event.kind = self.kind(event.kind);
        event
    }

    fn kind(&self, kind: EventKind) -> EventKind {
        let mut args = Vec::new();
        kind.write_args(&mut args);
        let mut at = 0;
        for (name, value) in kind.named_args() {
            match value {
                ArgValue::Tuple(_) => {
                    at += 5;
                    continue;
                }
                ArgValue::Symbol(SymbolId(_)) => args[at] = self.symbol(args[at]),
                ArgValue::Socket(_) if args[at] > 0 => {
                    args[at] = args[at].saturating_add(u64::from(self.base.sockets));
                }
                ArgValue::Skb(skb) => args[at] = u64::from(self.skb(skb).0),
                ArgValue::Number(_) if name == "reason" => {
                    let number = args[at] as u32;
                    args[at] = u64::from(self.reasons.get(&number).copied().unwrap_or(number));
                }
                ArgValue::Number(_) if matches!(name, "first" | "arrival") => {
                    args[at] = self.time(args[at]);
                }
                ArgValue::Socket(_) | ArgValue::Number(_) => {}
            }
            at += 1;
        }
        EventKind::from_args(kind.tag(), &args).unwrap_or(kind)
    }

    fn fact(&self, mut fact: Fact) -> Option<Fact> {
        match &mut fact {
            Fact::Device(f) => {
                f.id = f.id.saturating_add(self.base.devices);
                f.netns = self.netns(f.netns);
                f.netns_name = match (self.host.is_empty(), f.netns_name.is_empty()) {
                    (true, _) => f.netns_name.clone(),
                    (false, true) => self.host.clone(),
                    (false, false) => format!("{}/{}", self.host, f.netns_name),
                };
            }
            Fact::Symbol(f) => f.id = self.symbol(u64::from(f.id)) as u32,
            Fact::Stack(f) => {
                f.id = f.id.saturating_add(self.base.stacks);
                for frame in &mut f.frames {
                    *frame = self.symbol(u64::from(*frame)) as u32;
                }
            }
            Fact::Task(f) => f.tid = self.thread(f.tid),
            Fact::Socket(f) => {
                if f.id > 0 {
                    f.id = f.id.saturating_add(self.base.sockets);
                }
                f.netns = self.netns(f.netns);
                f.at = self.time(f.at);
            }
            Fact::Routes(f) => (f.netns, f.at) = (self.netns(f.netns), self.time(f.at)),
            Fact::Neighbours(f) => (f.netns, f.at) = (self.netns(f.netns), self.time(f.at)),
            Fact::Counters(f) => (f.netns, f.at) = (self.netns(f.netns), self.time(f.at)),
            Fact::Firewall(f) => (f.netns, f.at) = (self.netns(f.netns), self.time(f.at)),
            Fact::Sysctls(f) => f.netns = self.netns(f.netns),
            Fact::Chain(f) => f.id = f.id.saturating_add(self.base.chains),
            Fact::Probe(f) => {
                f.id = f.id.saturating_add(self.base.probes);
                f.at = self.time(f.at);
            }
            Fact::Notice(f) => {
                if !self.host.is_empty() {
                    f.text = format!("{}: {}", self.host, f.text);
                }
                if f.at > 0 {
                    f.at = self.time(f.at);
                }
            }
            Fact::RouteProbes(f) => {
                (f.netns, f.at) = (self.netns(f.netns), self.time(f.at));
                for probe in &mut f.probes {
                    probe.at = self.time(probe.at);
                }
            }
            // The offset to UTC is the first recording's; signatures are each one's own.
            Fact::Clock(_) if self.number > 0 => return None,
            Fact::Clock(f) => f.at = self.time(f.at),
            Fact::Sampling(f) => f.at = self.time(f.at),
            // What one host's rules did says nothing of the packets of the others.
            Fact::Rules(_)
            | Fact::Verdicts(_)
            | Fact::Loss(_)
            | Fact::End(_)
            | Fact::Checkpoint(_)
            | Fact::Unknown => return None,
        }
        Some(fact)
    }

    /// Adds this recording's loss to that of all.
    pub fn add_loss(&self, all: &mut LossFact, own: &LossFact) {
        let at = usize::from(self.base.cpus);
        let place = |all: &mut Vec<u64>, own: &[u64]| {
            if all.len() < at + own.len() {
                all.resize(at + own.len(), 0);
            }
            all[at..at + own.len()].copy_from_slice(own);
        };
        place(&mut all.written, &own.written);
        place(&mut all.ring_full, &own.ring_full);
        for (from, to) in [(&own.recursion, &mut all.recursion), (&own.by_probe, &mut all.by_probe)]
        {
            for (probe, count) in from {
                *to.entry(probe.clone()).or_default() += count;
            }
        }
        all.at = all.at.max(self.time(own.at));
        all.unreadable_packets += own.unreadable_packets;
        all.missed_stacks += own.missed_stacks;
        all.stacks_agreed += own.stacks_agreed;
        all.stacks_differed += own.stacks_differed;
        all.filtered += own.filtered;
        all.aggregated += own.aggregated;
        all.shed += own.shed;
        all.lost_returns += own.lost_returns;
        if let Some(dropped) = own.capture_dropped {
            *all.capture_dropped.get_or_insert(0) += dropped;
        }
    }
}
