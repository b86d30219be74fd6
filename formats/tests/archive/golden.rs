//! Archives of every released version read for ever.

use std::path::Path;

use psc_formats::archive::{Input, Reader, State, Writer, verify};
use psc_formats::event::{DeviceId, LinkType, StackEvidence};
use psc_formats::fact::{
    CountersFact, DeviceFact, EndFact, LossFact, NoticeFact, Severity, StackFact, SymbolFact,
};
use psc_formats::{
    Batch, Context, Event, Fact, FiveTuple, Gso, Ns, PacketRef, ProbeId, SkbAddr, SockId, Stack,
    StackId,
};

use crate::made::{Read, id, kind_from, manifest, read};

/// Kinds that version 1 has.
const KINDS: u64 = 39;

/// What the first golden archive holds: every kind, every context and evidence, several CPUs, gaps
/// in `seq`, times that go back, packets whole and cut, GSO, IPv4 and IPv6.
fn v1() -> Vec<Batch> {
    (0..12u64)
        .map(|round| {
            let mut batch = Batch { facts: v1_facts(round), ..Batch::default() };
            for tag in 0..KINDS {
                let number = round * KINDS + tag;
                let tuple = if round.is_multiple_of(2) {
                    [10, 0, 0, round, 10, 0, 1, tag].map(|byte| byte as u8)
                } else {
                    [192, 168, 0, 1, 192, 168, 0, 2]
                };
                let (a, b) = tuple.split_at(4);
                let v4 = |bytes: &[u8]| [bytes[0], bytes[1], bytes[2], bytes[3]];
                let (src, dst) = if round.is_multiple_of(3) {
                    let v6 = |last: u16| [0x2001, 0xdb8, 0, 0, 0, 0, 0, last];
                    (v6(1).into(), v6(tag as u16).into())
                } else {
                    (v4(a).into(), v4(b).into())
                };
                let tuple =
                    FiveTuple { protocol: 6, src, sport: 40_000 + round as u16, dst, dport: 443 };
                let packet = number.is_multiple_of(7).then(|| {
                    let caplen = 20 + (number % 5) as u32;
                    let offset = batch.bytes.len() as u32;
                    batch.bytes.extend((0..caplen).map(|at| (u64::from(at) * number) as u8));
                    let cut = if number.is_multiple_of(2) { 0 } else { 1000 };
                    PacketRef {
                        offset,
                        caplen,
                        len: caplen + cut,
                        link: LinkType(1 + (round % 2) as u16),
                    }
                });
                let far = if number % 50 == 49 { 5_000_000 } else { 0 };
                let back = if number % 31 == 30 { 40 } else { 0 };
                batch.events.push(Event {
                    at: Ns(1_000_000 + number * 170 + far - back),
                    cpu: (number % 3) as u16 * 7,
                    seq: number / 3 + if number > 200 { 4 } else { 0 },
                    probe: ProbeId(tag as u16),
                    skb: SkbAddr((number / 5 % 40) as u32),
                    sock: SockId((number / 9 % 4) as u32),
                    device: DeviceId((tag % 3) as u16),
                    iif: (tag % 2) as u32,
                    len: 60 + (number % 4) as u32 * 14,
                    gso: Gso {
                        size: if tag == 4 { 1448 } else { 0 },
                        segs: if tag == 4 { 45 } else { 0 },
                        kind: u32::from(tag == 4),
                    },
                    stack: Stack {
                        id: StackId((tag % 6) as u32),
                        evidence: StackEvidence::from_u8((tag % 5) as u8).unwrap(),
                    },
                    context: match tag % 4 {
                        0 => Context::Unknown,
                        1 => Context::Task(4000 + round as u32),
                        2 => Context::Softirq,
                        _ => Context::Hardirq,
                    },
                    packet,
                    content: (number / 5).wrapping_mul(0x9e37_79b9) as u32,
                    kind: kind_from(tag as u8, tuple, &[number, round, 1 << 20, u64::MAX - tag]),
                });
            }
            batch.complete_to = Some(Ns(1_000_000 + round * KINDS * 170));
            batch
        })
        .collect()
}

fn v1_facts(round: u64) -> Vec<Fact> {
    let n = round as u32;
    match round {
        0 => vec![
            Fact::Device(DeviceFact { id: 1, name: "eth0".to_owned(), ..DeviceFact::default() }),
            Fact::Symbol(SymbolFact { id: 1, name: "ip_rcv".to_owned(), ..SymbolFact::default() }),
            Fact::Stack(StackFact { id: 1, ..StackFact::default() }),
        ],
        5 => vec![Fact::Counters(CountersFact { at: 5, netns: 1, ..CountersFact::default() })],
        _ => vec![
            Fact::Loss(LossFact { at: round, written: vec![round, 1, 2], ..LossFact::default() }),
            Fact::Notice(NoticeFact {
                at: round,
                severity: Severity::Info,
                text: format!("round {n}"),
                count: 1,
            }),
        ],
    }
}

fn v1_end() -> EndFact {
    EndFact {
        at: 9_000_000,
        reason: "duration".to_owned(),
        command_status: Some(0),
        ..EndFact::default()
    }
}

/// Makes the archive where it is missing. One that is there is never written again: it is what that
/// version wrote.
fn make(path: &Path) {
    let mut writer = Writer::derived(Vec::new(), &manifest(), id("golden v1"), &[]).unwrap();
    for (row, batch) in v1().iter().enumerate() {
        writer.append(batch).unwrap();
        if row % 4 == 3 {
            writer.flush_frame().unwrap();
        }
    }
    std::fs::write(path, writer.finish(v1_end()).unwrap()).unwrap();
}

#[test]
fn an_archive_of_version_1_reads_as_it_was_written() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/archives/v1.psc");
    if !path.exists() && std::env::var_os("UPDATE_GOLDEN").is_some() {
        make(&path);
    }
    let report = verify(Input::open(&path).unwrap()).unwrap();
    assert_eq!((report.state, report.index), (State::Closed, true), "{:?}", report.problems);
    let mut reader = Reader::open(&path).unwrap();
    assert_eq!(reader.recording(), id("golden v1"));
    let got = read(&mut reader);
    let mut want = Read::default();
    for batch in &v1() {
        want.take(batch);
    }
    want.facts.push(Fact::End(v1_end()));
    assert_eq!(got.events.len(), 12 * KINDS as usize);
    for (got, want) in got.events.iter().zip(&want.events) {
        assert_eq!(got, want);
    }
    assert_eq!(got, want);
}
