//! Parts are joined to their own wholes, however many are under way at once: datagrams in fragments, bursts
//! that GRO merges, big skbs that GSO cuts. Addresses are reused at once, mostly without a free that a probe sees.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use psc_formats::event::{DeviceId, Gso, LinkType, SockId, Stack, SymbolId};
use psc_formats::fact::{Fact, SymbolFact};
use psc_formats::manifest::Origin;
use psc_formats::{
    Batch, Context, Event, EventKind, EventSource, Manifest, Ns, PacketRef, ProbeId, Progress,
    SkbAddr, SourceError,
};
use psc_replay::engine::{self, ClosedJourney, JourneyId, Lineage, Observer, Selection, World};

const PREPARE: u32 = 1;
const CPUS: u16 = 4;

/// What one skb does next, at once on one CPU.
type Section = Vec<(usize, EventKind, Bytes, Gso)>;
/// Packet bytes of an event, and `skb->len`.
type Bytes = (Option<Vec<u8>>, u32);

struct Item {
    sections: VecDeque<Section>,
    /// Address of each of its skbs; 0 until first seen.
    skbs: Vec<u32>,
    cpu: u16,
    device: u16,
    number: u32,
}

/// xorshift*.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize) % sides
    }
}

fn ipv4(number: u32, id: u16, offset: u16, more: bool, protocol: u8, rest: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = number.to_be_bytes();
    let mut bytes = vec![0x45, 0];
    bytes.extend((20 + rest.len() as u16).to_be_bytes());
    bytes.extend(id.to_be_bytes());
    bytes.extend(((offset / 8) | if more { 0x2000 } else { 0 }).to_be_bytes());
    bytes.extend([64, protocol, 0, 0, 10, a, b, c, 10, 255, 0, 1]);
    bytes.extend(rest);
    bytes
}

/// 100 bytes of TCP payload.
fn tcp(number: u32, seq: u32) -> Vec<u8> {
    let mut rest = vec![0, 80, 0x30, 0x39];
    rest.extend(seq.to_be_bytes());
    rest.extend([0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    rest.extend([7; 100]);
    ipv4(number, 1, 0, false, 6, &rest)
}

/// What a section is made of, by kind of item. All items of one kind look alike but for their addresses: few
/// identifications, few sequence numbers.
fn script(dice: &mut Dice) -> (Vec<Section>, usize) {
    let plain = Gso::default();
    let number = 0;
    let with = |bytes: Vec<u8>| {
        let len = bytes.len() as u32;
        (Some(bytes), len)
    };
    match dice.roll(3) {
        // Three fragments; the first is freed when the last carries all on.
        0 => {
            let id = dice.roll(3) as u16;
            let part = |offset: u16| with(ipv4(number, id, offset, offset < 192, 17, &[5; 96]));
            let mut sections: Vec<Section> = (0..3)
                .map(|n| vec![(n, EventKind::Receive {}, part(96 * n as u16), plain)])
                .collect();
            let freed = EventKind::Consume { location: SymbolId(PREPARE) };
            sections.push(vec![(0, freed, (None, 96), plain)]);
            (sections, 3)
        }
        // Four of one flow; the first goes on with the bytes of all.
        1 => {
            let seq = 1000 * dice.roll(3) as u32;
            let mut sections: Vec<Section> = (0..4)
                .map(|n| {
                    vec![(
                        n,
                        EventKind::GroReceive {},
                        with(tcp(number, seq + 100 * n as u32)),
                        plain,
                    )]
                })
                .collect();
            let merged = Gso { size: 100, segs: 4, kind: 1 };
            sections.push(vec![(0, EventKind::Receive {}, (None, 440), merged)]);
            (sections, 4)
        }
        // Queued as one, cut and sent at once.
        _ => {
            let gso = Gso { size: 100, segs: 3, kind: 1 };
            let mut section: Section =
                vec![(0, EventKind::DeviceQueue {}, with(tcp(number, 5000)), gso)];
            section.push((0, EventKind::Consume { location: SymbolId(2) }, (None, 140), gso));
            for n in 1..4 {
                section.push((n, EventKind::TransmitStart {}, (None, 140), plain));
                section.push((n, EventKind::TransmitDone { rc: 0 }, (None, 0), plain));
            }
            (vec![section], 4)
        }
    }
}

struct Story {
    events: VecDeque<(Event, Option<Vec<u8>>)>,
    /// Item of each event, by CPU and sequence number.
    item_of: BTreeMap<(u16, u64), u32>,
    skbs: BTreeMap<u32, usize>,
}

fn tell(items: u32, interleaved: usize, seed: u64) -> Story {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut story =
        Story { events: VecDeque::new(), item_of: BTreeMap::new(), skbs: BTreeMap::new() };
    let (mut live, mut free, mut last, mut made, mut now) = (Vec::<Item>::new(), vec![], 0, 0, 0);
    let mut seqs = [0_u64; CPUS as usize];
    loop {
        while live.len() < interleaved && made < items {
            let (sections, skbs) = script(&mut dice);
            let cpu = dice.roll(CPUS as usize) as u16;
            let device = 1 + dice.roll(2) as u16;
            story.skbs.insert(made, skbs);
            live.push(Item {
                sections: sections.into(),
                skbs: vec![0; skbs],
                cpu,
                device,
                number: made,
            });
            made += 1;
        }
        if live.is_empty() {
            return story;
        }
        let index = dice.roll(live.len());
        let item = &mut live[index];
        for (skb, kind, (bytes, len), gso) in item.sections.pop_front().unwrap_or_default() {
            now += 1 + dice.roll(20) as u64;
            if item.skbs[skb] == 0 {
                item.skbs[skb] = free.pop().unwrap_or_else(|| {
                    last += 1;
                    last
                });
            }
            // `skb_iif` is set after these probes on the way in, and never on the way out.
            let outside = !matches!(kind, EventKind::Consume { .. });
            let bytes = bytes.map(|mut bytes| {
                let [_, a, b, c] = item.number.to_be_bytes();
                bytes[13..16].copy_from_slice(&[a, b, c]);
                bytes
            });
            let seq = seqs[item.cpu as usize];
            seqs[item.cpu as usize] += 1;
            story.item_of.insert((item.cpu, seq), item.number);
            let event = Event {
                at: Ns(now),
                cpu: item.cpu,
                seq,
                probe: ProbeId(0),
                skb: SkbAddr(item.skbs[skb]),
                sock: SockId(0),
                device: DeviceId(item.device),
                iif: u32::from(!outside),
                len,
                gso,
                stack: Stack::default(),
                context: Context::Softirq,
                packet: None,
                content: 0,
                kind,
            };
            story.events.push_back((event, bytes));
        }
        if item.sections.is_empty() {
            // The addresses go back, and nobody is told.
            free.append(&mut live.swap_remove(index).skbs);
        }
    }
}

struct Source {
    manifest: Manifest,
    events: VecDeque<(Event, Option<Vec<u8>>)>,
    facts: Vec<Fact>,
}

impl EventSource for Source {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn fill(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        batch.facts.append(&mut self.facts);
        for (mut event, bytes) in self.events.drain(..self.events.len().min(4096)) {
            event.packet = bytes.map(|bytes| {
                let offset = batch.bytes.len() as u32;
                let len = bytes.len() as u32;
                batch.bytes.extend(bytes);
                PacketRef { offset, caplen: len, len, link: LinkType::IPV4 }
            });
            batch.events.push(event);
        }
        batch.complete_to = self.events.front().map(|(event, _)| event.at);
        Ok(if self.events.is_empty() { Progress::End } else { Progress::More })
    }
}

#[derive(Default)]
struct Said {
    closed: Vec<ClosedJourney>,
}

impl Observer for Said {
    fn closed(&mut self, _: World<'_>, journey: &ClosedJourney) {
        self.closed.push(journey.clone());
    }
}

#[test]
fn parts_are_joined_to_their_own_whole_at_any_interleaving() {
    for (interleaved, items) in [(1, 500), (64, 5_000), (1_024, 8_000), (65_536, 70_000)] {
        let story = tell(items, interleaved, 7);
        let facts = vec![Fact::Symbol(SymbolFact {
            id: PREPARE,
            name: "inet_frag_reasm_prepare".to_owned(),
            ..SymbolFact::default()
        })];
        let manifest = Manifest { origin: Origin::Kernel, ..Manifest::default() };
        let mut source = Source { manifest, events: story.events, facts };
        let mut said = Said::default();
        engine::run(&mut source, &Selection::default(), &mut [&mut said]).expect("a sound source");

        let mut item_of: BTreeMap<JourneyId, u32> = BTreeMap::new();
        let mut journeys_of: BTreeMap<u32, BTreeSet<JourneyId>> = BTreeMap::new();
        for journey in &said.closed {
            let items: BTreeSet<u32> =
                journey.steps.iter().map(|s| story.item_of[&(s.cpu, s.seq)]).collect();
            assert_eq!(items.len(), 1, "{interleaved}: {journey:?} is of {items:?}");
            item_of.insert(journey.id, *items.first().unwrap());
            journeys_of.entry(*items.first().unwrap()).or_default().insert(journey.id);
        }
        let mut joints: BTreeMap<u32, BTreeSet<JourneyId>> = BTreeMap::new();
        for journey in &said.closed {
            for edge in &journey.lineage {
                assert_eq!(item_of[&journey.id], item_of[&edge.of], "{interleaved}: {journey:?}");
                assert!(matches!(
                    edge.how,
                    Lineage::Fragment | Lineage::Reassembled | Lineage::Merged | Lineage::Segment
                ));
                joints.entry(item_of[&edge.of]).or_default().extend([journey.id, edge.of]);
            }
        }
        for (item, skbs) in &story.skbs {
            let journeys = &journeys_of[item];
            assert_eq!(journeys.len(), *skbs, "{interleaved}: item {item} has one journey an skb");
            assert_eq!(joints.get(item), Some(journeys), "{interleaved}: item {item} is one story");
        }
    }
}
