//! A made-up kernel: packets with known numbers go through it on several CPUs at once, and what its
//! probes would see comes out, with the truth about every event.
//!
//! It does what makes identity hard in the real one: an address is reused at once, mostly without a
//! free that any probe sees; a driver's answer comes after the skb was freed and born again elsewhere;
//! a veth crossing keeps the skb; a stacked device queues inside a transmit; a queue runs on
//! another CPU than the one that filled it.

use std::collections::VecDeque;

use psc_formats::event::{DeviceId, Gso, SymbolId};
use psc_formats::fact::{DeviceFact, Fact};
use psc_formats::manifest::Origin;
use psc_formats::{
    Batch, Context, Event, EventKind, EventSource, Manifest, Ns, ProbeId, Progress, SkbAddr,
    SockId, SourceError, Stack,
};

pub(crate) const NO_SOCKET: u32 = 3;

/// How a packet's journey must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    Delivered,
    Dropped,
    EndNotObserved,
}

/// What one packet still has to do on one CPU before another section of it can start.
#[derive(Clone, Debug, Default)]
struct Section {
    ops: VecDeque<Op>,
    /// Runs on this CPU; else on any.
    cpu: Option<u16>,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    See(What, u16, u32),
    /// What is left of the packet may go on elsewhere while this section finishes.
    Unlock,
    /// The memory goes back without a probe seeing it.
    Silent,
    /// The headers become another packet's (a tunnel).
    Rewrap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Gro,
    Backlog,
    Receive,
    Queue,
    Enqueue,
    Dequeue,
    Start,
    Done(i32),
    Free,
    Consume,
    Copy,
    Probe,
}

struct Packet {
    number: u32,
    addr: u32,
    content: u32,
    sections: VecDeque<Section>,
    /// Sections of it that run now.
    running: u32,
}

struct Running {
    packet: usize,
    section: Section,
}

/// xorshift*, so that every run is the same.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize) % sides
    }
}

/// Everything that happened.
pub(crate) struct Story {
    pub(crate) events: Vec<Event>,
    /// Packet number of each event, by its position in `events`.
    pub(crate) packet_of: Vec<u32>,
    /// How each packet's journey must end, by number.
    pub(crate) ends: Vec<Truth>,
}

const CPUS: u16 = 6;
const ETH0: u16 = 1;
const ETH1: u16 = 2;
const VETH_A: u16 = 3;
const VETH_B: u16 = 4;
const LO: u16 = 5;
const TUN: u16 = 6;
const DUMMY: u16 = 7;

/// Sends `packets` packets through, `interleaved` of them at any time.
pub(crate) fn tell(packets: u32, interleaved: usize, seed: u64) -> Story {
    Kernel::new(seed).run(packets, interleaved)
}

struct Kernel {
    dice: Dice,
    free: Vec<u32>,
    last_addr: u32,
    now: u64,
    seq: [u64; CPUS as usize],
    cpus: Vec<Option<Running>>,
    live: Vec<Packet>,
    story: Story,
}

impl Kernel {
    fn new(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed),
            free: Vec::new(),
            last_addr: 0,
            now: 1_000,
            seq: [0; CPUS as usize],
            cpus: (0..CPUS).map(|_| None).collect(),
            live: Vec::new(),
            story: Story { events: Vec::new(), packet_of: Vec::new(), ends: Vec::new() },
        }
    }

    fn run(mut self, packets: u32, interleaved: usize) -> Story {
        let mut made = 0;
        loop {
            while made < packets && self.live.len() < interleaved {
                let packet = self.script(made);
                self.live.push(packet);
                made += 1;
            }
            if self.live.is_empty() {
                return self.story;
            }
            let cpu = self.dice.roll(CPUS as usize);
            if self.cpus[cpu].is_none() {
                self.dispatch(cpu as u16);
            }
            if self.cpus[cpu].is_some() {
                self.advance(cpu as u16);
            }
        }
    }

    /// Gives an idle CPU a section of some packet.
    fn dispatch(&mut self, cpu: u16) {
        for _ in 0..8 {
            let index = self.dice.roll(self.live.len());
            let packet = &mut self.live[index];
            let fits = |s: &Section| s.cpu.is_none_or(|wanted| wanted == cpu);
            if packet.running == 0
                && packet.sections.front().is_some_and(fits)
                && let Some(section) = packet.sections.pop_front()
            {
                packet.running += 1;
                self.cpus[cpu as usize] = Some(Running { packet: index, section });
                return;
            }
        }
    }

    fn advance(&mut self, cpu: u16) {
        let Some(mut running) = self.cpus[cpu as usize].take() else { return };
        let index = running.packet;
        match running.section.ops.pop_front() {
            Some(Op::See(what, device, iif)) => {
                self.see(index, cpu, what, device, iif);
                if matches!(what, What::Free | What::Consume) {
                    self.give_back(index);
                }
                self.cpus[cpu as usize] = Some(running);
            }
            Some(Op::Unlock) => {
                self.live[index].running -= 1;
                // Kept so that the packet is not forgotten before this section ends.
                running.section.cpu = Some(u16::MAX);
                self.live[index]
                    .sections
                    .push_back(Section { ops: VecDeque::new(), cpu: Some(u16::MAX) });
                self.cpus[cpu as usize] = Some(running);
            }
            Some(Op::Silent) => {
                self.give_back(index);
                self.cpus[cpu as usize] = Some(running);
            }
            Some(Op::Rewrap) => {
                self.live[index].content = self.live[index].content.wrapping_mul(2_654_435_761) | 1;
                self.cpus[cpu as usize] = Some(running);
            }
            None => {
                let packet = &mut self.live[index];
                if running.section.cpu == Some(u16::MAX) {
                    let at = packet.sections.iter().position(|s| s.cpu == Some(u16::MAX));
                    packet.sections.remove(at.expect("the mark that unlocking left"));
                } else {
                    packet.running -= 1;
                }
                self.retire(index);
            }
        }
    }

    /// Forgets a packet that is through.
    fn retire(&mut self, index: usize) {
        if self.live[index].running > 0 || !self.live[index].sections.is_empty() {
            return;
        }
        let last = self.live.len() - 1;
        self.live.swap_remove(index);
        for running in self.cpus.iter_mut().flatten() {
            if running.packet == last {
                running.packet = index;
            }
        }
    }

    fn give_back(&mut self, index: usize) {
        // The slab gives the address that came back last, to whoever asks first.
        self.free.push(self.live[index].addr);
    }

    /// Addresses are taken when the packet is first seen, not when it is thought of.
    fn address(&mut self, index: usize) -> u32 {
        if self.live[index].addr == 0 {
            self.live[index].addr = self.free.pop().unwrap_or_else(|| {
                self.last_addr += 1;
                self.last_addr
            });
        }
        self.live[index].addr
    }

    fn see(&mut self, index: usize, cpu: u16, what: What, device: u16, iif: u32) {
        let addr = self.address(index);
        // What happens on one CPU because of another's doing is later than that.
        self.now += 1 + self.dice.roll(40) as u64;
        let content = match what {
            // The skb may be gone: only its address was read.
            What::Done(_) => 0,
            _ => self.live[index].content,
        };
        // The probe is before `skb_iif` is set.
        let iif = if what == What::Receive { 0 } else { iif };
        let seq = self.seq[cpu as usize];
        self.seq[cpu as usize] += 1;
        let kind = match what {
            What::Gro => EventKind::GroReceive {},
            What::Backlog => EventKind::BacklogQueue {},
            What::Receive => EventKind::Receive {},
            What::Queue => EventKind::DeviceQueue {},
            What::Enqueue => EventKind::QdiscEnqueue { handle: 1 << 16 },
            What::Dequeue => EventKind::QdiscDequeue { handle: 1 << 16, packets: 1 },
            What::Start => EventKind::TransmitStart {},
            What::Done(rc) => EventKind::TransmitDone { rc },
            What::Free => EventKind::Free { reason: NO_SOCKET, location: SymbolId(1) },
            What::Consume => EventKind::Consume { location: SymbolId(2) },
            What::Copy => EventKind::CopyToUser { bytes: 100 },
            What::Probe => EventKind::BadChecksum {},
        };
        self.story.packet_of.push(self.live[index].number);
        self.story.events.push(Event {
            at: Ns(self.now),
            cpu,
            seq,
            probe: ProbeId(u16::from(kind.tag())),
            skb: SkbAddr(addr),
            sock: SockId(0),
            device: DeviceId(device),
            iif,
            len: 100,
            gso: Gso::default(),
            stack: Stack::default(),
            context: Context::Softirq,
            packet: None,
            content,
            kind,
        });
    }

    /// What one packet will do.
    fn script(&mut self, number: u32) -> Packet {
        use What::{
            Backlog, Consume, Copy, Dequeue, Done, Enqueue, Free, Gro, Probe, Queue, Receive, Start,
        };
        let see = |what, device: u16| Op::See(what, device, 0);
        let from = |what, device: u16, iif: u16| Op::See(what, device, u32::from(iif));
        // A third tells nothing by its content, a third looks like all others, a third is unique.
        let mut content = match self.dice.roll(3) {
            0 => 0,
            1 => 77,
            _ => number.wrapping_mul(2_654_435_761) | 1,
        };
        let mut sections: Vec<Vec<Op>> = Vec::new();
        let mut received_on = ETH0;
        let kind = self.dice.roll(9);
        let mut truth = match kind {
            // Received from a NIC by GRO, perhaps steered to another CPU.
            0 | 1 => {
                sections.push(vec![see(Gro, ETH0)]);
                sections.push(vec![from(Receive, ETH0, ETH0)]);
                None
            }
            // Received by a driver without GRO.
            2 => {
                // One that looks like the packet before on its address might be that, redirected.
                if content == 77 {
                    content = 0;
                }
                received_on = if self.dice.roll(2) == 0 { ETH0 } else { ETH1 };
                sections.push(vec![
                    from(Receive, received_on, received_on),
                    from(Probe, received_on, received_on),
                ]);
                None
            }
            // Sent to a NIC through a queue that another CPU may run; freed by its interrupt, perhaps
            // before the driver's answer is seen.
            3 | 4 => {
                sections.push(vec![see(Queue, ETH0), see(Enqueue, ETH0)]);
                if self.dice.roll(3) == 0 {
                    sections.push(vec![see(Dequeue, ETH0), see(Start, ETH0), see(Done(16), ETH0)]);
                }
                sections.push(vec![
                    see(Dequeue, ETH0),
                    see(Start, ETH0),
                    Op::Unlock,
                    see(Done(0), ETH0),
                ]);
                sections.push(vec![see(Consume, ETH0)]);
                Some(Truth::Delivered)
            }
            // Across a veth, then perhaps forwarded across another.
            5 => {
                sections.push(vec![
                    see(Queue, VETH_A),
                    see(Start, VETH_A),
                    see(Backlog, VETH_B),
                    Op::Unlock,
                    see(Done(0), VETH_A),
                ]);
                sections.push(vec![from(Receive, VETH_B, VETH_B)]);
                received_on = VETH_B;
                if self.dice.roll(2) == 0 {
                    sections.push(vec![
                        from(Queue, VETH_A, VETH_B),
                        from(Start, VETH_A, VETH_B),
                        from(Backlog, VETH_B, 0),
                        Op::Unlock,
                        see(Done(0), VETH_A),
                    ]);
                    sections.push(vec![from(Receive, VETH_B, VETH_B)]);
                }
                None
            }
            // Loopback.
            6 => {
                sections.push(vec![
                    see(Queue, LO),
                    see(Start, LO),
                    see(Backlog, LO),
                    see(Done(0), LO),
                    from(Receive, LO, LO),
                ]);
                received_on = LO;
                None
            }
            // A tunnel: queued again, wrapped, inside its own transmit. The headers must be readable
            // for this to be one packet, and are.
            7 => {
                content = number.wrapping_mul(2_654_435_761) | 1;
                sections.push(vec![
                    see(Queue, TUN),
                    see(Start, TUN),
                    Op::Rewrap,
                    see(Queue, ETH0),
                    see(Start, ETH0),
                    Op::Unlock,
                    see(Done(0), ETH0),
                    see(Done(0), TUN),
                ]);
                sections.push(vec![see(Consume, ETH0)]);
                Some(Truth::Delivered)
            }
            // Made here and discarded before it was queued; or swallowed by a dummy device inside its
            // transmit.
            _ if self.dice.roll(2) == 0 => {
                content = number.wrapping_mul(2_654_435_761) | 1;
                sections.push(vec![see(Free, 0)]);
                Some(Truth::Dropped)
            }
            _ => {
                sections.push(vec![
                    see(Queue, DUMMY),
                    see(Start, DUMMY),
                    see(Consume, DUMMY),
                    see(Done(0), DUMMY),
                ]);
                Some(Truth::Delivered)
            }
        };
        if truth.is_none() {
            // Received. How does it end?
            let end = match self.dice.roll(6) {
                0 => (vec![from(Free, received_on, received_on)], Truth::Dropped),
                1 => (vec![from(Consume, received_on, received_on)], Truth::Delivered),
                2 => (vec![from(Copy, received_on, received_on), Op::Silent], Truth::Delivered),
                3 => (
                    vec![
                        from(Copy, received_on, received_on),
                        from(Copy, received_on, received_on),
                        from(Consume, received_on, received_on),
                    ],
                    Truth::Delivered,
                ),
                _ => (vec![Op::Silent], Truth::EndNotObserved),
            };
            sections.push(end.0);
            truth = Some(end.1);
        }
        self.story.ends.push(truth.expect("every branch says how it ends"));
        Packet {
            number,
            addr: 0,
            content,
            sections: sections
                .into_iter()
                .map(|ops| Section { ops: ops.into(), cpu: None })
                .collect(),
            running: 0,
        }
    }
}

/// The story as a source, in batches of some size.
pub(crate) struct Source<'a> {
    manifest: Manifest,
    events: &'a [Event],
    batch: usize,
    facts: Vec<Fact>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(story: &'a Story, batch: usize) -> Self {
        let mut manifest = Manifest { origin: Origin::Kernel, ..Manifest::default() };
        manifest.drop_reasons.insert(NO_SOCKET, "NO_SOCKET".to_owned());
        let device = |id: u16, name: &str, kind: &str, peer: u16| {
            Fact::Device(DeviceFact {
                id,
                ifindex: u32::from(id),
                name: name.to_owned(),
                kind: kind.to_owned(),
                peer_ifindex: u32::from(peer),
                ..DeviceFact::default()
            })
        };
        let facts = vec![
            device(ETH0, "eth0", "", 0),
            device(ETH1, "eth1", "", 0),
            device(VETH_A, "veth-a", "veth", VETH_B),
            device(VETH_B, "veth-b", "veth", VETH_A),
            device(LO, "lo", "loopback", 0),
            device(TUN, "tun0", "ipip", 0),
            device(DUMMY, "dummy0", "dummy", 0),
        ];
        Self { manifest, events: &story.events, batch, facts }
    }
}

impl EventSource for Source<'_> {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn fill(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        batch.facts.append(&mut self.facts);
        let (now, rest) = self.events.split_at(self.batch.min(self.events.len()));
        batch.events.extend_from_slice(now);
        // Made in time order, so the next event's time is the promise.
        batch.complete_to = rest.first().map(|event| event.at);
        self.events = rest;
        Ok(if rest.is_empty() { Progress::End } else { Progress::More })
    }
}
