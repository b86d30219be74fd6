//! Events, batches and archives made for tests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use psc_formats::archive::{Reader, RecordingId, Writer};
use psc_formats::event::{DeviceId, LinkType, StackEvidence};
use psc_formats::fact::{EndFact, SocketFact, SymbolFact};
use psc_formats::manifest::Probe;
use psc_formats::{
    Batch, Context, Event, EventKind, EventSource, Fact, FiveTuple, Gso, Manifest, Ns, PacketRef,
    ProbeId, Progress, SkbAddr, SockId, Stack, StackId,
};

/// Every kind that this version has.
pub(crate) fn tags() -> impl Iterator<Item = u8> {
    (0..=u8::MAX).filter(|tag| EventKind::arity(*tag).is_some())
}

/// A kind from integers of any value, each brought into its field's range.
pub(crate) fn kind_from(tag: u8, tuple: FiveTuple, raw: &[u64]) -> EventKind {
    let arity = EventKind::arity(tag).expect("a known kind");
    let mut args = vec![0; arity];
    let from = if EventKind::leads_with_tuple(tag) {
        args[..5].copy_from_slice(&tuple.to_words());
        5
    } else {
        0
    };
    for at in from..arity {
        let raw = raw[at % raw.len()].rotate_left(at as u32);
        let fits = [
            raw,
            i64::from(raw as i32) as u64,
            u64::from(raw as u32),
            u64::from(raw as u16),
            u64::from(raw as u8),
            0,
        ];
        for value in fits {
            args[at] = value;
            if EventKind::from_args(tag, &args).is_some() {
                break;
            }
        }
    }
    EventKind::from_args(tag, &args).expect("each integer was brought into range")
}

prop_compose! {
    fn any_address()(v6 in any::<bool>(), bits in any::<u128>()) -> IpAddr {
        if v6 { Ipv6Addr::from(bits).into() } else { Ipv4Addr::from(bits as u32).into() }
    }
}

prop_compose! {
    fn any_tuple()(
        protocol in any::<u8>(),
        src in any_address(),
        sport in any::<u16>(),
        dst in any_address(),
        dport in any::<u16>(),
    ) -> FiveTuple {
        FiveTuple { protocol, src, sport, dst, dport }
    }
}

/// Numbers that are often small and often the same, as those of real streams are, and sometimes
/// anything.
fn number(usual: u64) -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..usual, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

prop_compose! {
    /// Any event at all. Its packet has bytes `byte` repeated.
    pub(crate) fn any_event()(
        (at, cpu, seq, skb) in (number(100_000), number(3), number(20), number(8)),
        (probe, sock, device, iif) in (number(4), number(3), number(3), number(3)),
        (len, content, gso) in (number(200), number(5), number(3)),
        (stack, evidence, context, task) in (number(4), 0u8..5, 0u8..4, number(2)),
        (has_packet, caplen, cut, link) in (any::<bool>(), 0u32..40, number(2), number(2)),
        (tag, tuple, raw) in (
            prop::sample::select(tags().collect::<Vec<_>>()),
            any_tuple(),
            prop::collection::vec(number(5), 1..6),
        ),
    ) -> Event {
        Event {
            at: Ns(at),
            cpu: cpu as u16,
            seq,
            probe: ProbeId(probe as u16),
            skb: SkbAddr(skb as u32),
            sock: SockId(sock as u32),
            device: DeviceId(device as u16),
            iif: iif as u32,
            len: len as u32,
            gso: Gso { size: gso as u16, segs: (gso >> 3) as u16, kind: (gso >> 7) as u32 },
            stack: Stack {
                id: StackId(stack as u32),
                evidence: StackEvidence::from_u8(evidence).expect("in range"),
            },
            context: match context {
                0 => Context::Unknown,
                1 => Context::Task(task as u32),
                2 => Context::Softirq,
                _ => Context::Hardirq,
            },
            packet: has_packet.then(|| PacketRef {
                offset: 0,
                caplen,
                len: caplen.saturating_add(cut as u32),
                link: LinkType(link as u16),
            }),
            content: content as u32,
            kind: kind_from(tag, tuple, &raw),
        }
    }
}

/// Batches of these events, `size` each, with packet bytes that tell packets apart.
pub(crate) fn batches(events: &[Event], size: usize) -> Vec<Batch> {
    let mut packet = 0u32;
    events
        .chunks(size.max(1))
        .map(|events| {
            let mut batch = Batch::default();
            for event in events {
                let mut event = *event;
                if let Some(packet_ref) = &mut event.packet {
                    packet = packet.wrapping_add(1);
                    packet_ref.offset = batch.bytes.len() as u32;
                    let bytes = packet.to_le_bytes();
                    let bytes = bytes.iter().cycle().take(packet_ref.caplen as usize);
                    batch.bytes.extend(bytes);
                }
                batch.events.push(event);
            }
            batch
        })
        .collect()
}

/// A manifest that is not the default one.
pub(crate) fn manifest() -> Manifest {
    Manifest {
        psc_version: "test".to_owned(),
        probes: vec![Probe { name: "skb:kfree_skb".to_owned(), ..Probe::default() }],
        ..Manifest::default()
    }
}

/// Facts of several kinds.
pub(crate) fn facts(from: u32, count: u32) -> Vec<Fact> {
    (from..from + count)
        .map(|id| match id % 2 {
            0 => Fact::Symbol(SymbolFact { id, name: format!("f{id}"), ..SymbolFact::default() }),
            _ => Fact::Socket(SocketFact { id, at: u64::from(id), ..SocketFact::default() }),
        })
        .collect()
}

/// A recording id that every run gives.
pub(crate) fn id(name: &str) -> RecordingId {
    RecordingId::derived(&[name.as_bytes()])
}

/// An archive of these batches, each in a frame of its own when `flush`.
pub(crate) fn archive(name: &str, batches: &[Batch], flush: bool) -> Vec<u8> {
    let mut writer = Writer::derived(Vec::new(), &manifest(), id(name), &[]).unwrap();
    for batch in batches {
        writer.append(batch).unwrap();
        if flush {
            writer.flush_frame().unwrap();
        }
    }
    writer.finish(EndFact { at: 9, reason: "test".to_owned(), ..EndFact::default() }).unwrap()
}

/// An event with everything that a test does not care about left out.
pub(crate) fn plain(at: u64, seq: u64) -> Event {
    Event {
        at: Ns(at),
        cpu: 0,
        seq,
        probe: ProbeId(0),
        skb: SkbAddr(1),
        sock: SockId(0),
        device: DeviceId(1),
        iif: 1,
        len: 60,
        gso: Gso::default(),
        stack: Stack::default(),
        context: Context::Softirq,
        packet: None,
        content: 7,
        kind: EventKind::Receive {},
    }
}

/// An event with a packet of `caplen` bytes.
pub(crate) fn with_packet(at: u64, seq: u64, caplen: u32) -> Event {
    let packet = PacketRef { offset: 0, caplen, len: caplen + 3, link: LinkType::ETHERNET };
    Event { packet: Some(packet), ..plain(at, seq) }
}

/// Everything a source gives, events with their packet bytes in place of offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) events: Vec<(Event, Vec<u8>)>,
    pub(crate) facts: Vec<Fact>,
    pub(crate) complete_to: Option<Ns>,
}

impl Read {
    /// Texts of the notices.
    pub(crate) fn notices<'a>(&'a self) -> Vec<&'a str> {
        let text = |fact: &'a Fact| match fact {
            Fact::Notice(notice) => Some(notice.text.as_str()),
            _ => None,
        };
        self.facts.iter().filter_map(text).collect()
    }

    /// Times of the events.
    pub(crate) fn times(&self) -> Vec<u64> {
        self.events.iter().map(|(event, _)| event.at.0).collect()
    }
}

/// Reads a source to its end.
pub(crate) fn read(source: &mut impl EventSource) -> Read {
    let mut out = Read::default();
    let mut batch = Batch::default();
    loop {
        batch.clear();
        let progress = source.fill(&mut batch).unwrap();
        out.take(&batch);
        match progress {
            Progress::More => {}
            Progress::Idle => panic!("an archive is never idle"),
            Progress::End => return out,
        }
    }
}

impl Read {
    /// Takes a batch in.
    pub(crate) fn take(&mut self, batch: &Batch) {
        for event in &batch.events {
            let bytes = event.packet.map_or(&[][..], |packet| batch.packet(packet)).to_vec();
            let mut event = *event;
            if let Some(packet) = &mut event.packet {
                packet.offset = 0;
            }
            self.events.push((event, bytes));
        }
        self.facts.extend_from_slice(&batch.facts);
        self.complete_to = batch.complete_to.or(self.complete_to);
    }
}

/// Reads an archive at hand to its end.
pub(crate) fn read_bytes(bytes: Vec<u8>) -> Read {
    read(&mut Reader::from_bytes(bytes, "test").unwrap())
}
