//! Stores against real archives: what was appended is what is read, whatever happened between.

use std::path::Path;

use psc_formats::archive::{self, Expected, Input, Reader, State};
use psc_formats::custody::{Acquisition, SecretKey, Statement};
use psc_formats::event::DeviceId;
use psc_formats::fact::DeviceFact;
use psc_formats::{Context, Event, EventKind, Gso, ProbeId, SkbAddr, SockId, Stack, Tables};

use super::*;
use crate::record::ring::{Final, Ring};
use crate::record::signals::Signals;

fn event(seq: u64) -> Event {
    Event {
        at: Ns(seq * 1_000),
        cpu: 0,
        seq,
        probe: ProbeId(0),
        skb: SkbAddr(1),
        sock: SockId(0),
        device: DeviceId(1),
        iif: 0,
        len: 60,
        gso: Gso::default(),
        stack: Stack::default(),
        context: Context::Unknown,
        packet: None,
        content: 0,
        kind: EventKind::Receive {},
    }
}

fn batch(seqs: std::ops::Range<u64>) -> Batch {
    Batch { events: seqs.map(event).collect(), ..Batch::default() }
}

fn device() -> Fact {
    Fact::Device(DeviceFact { id: 1, name: "eth0".to_owned(), ..DeviceFact::default() })
}

fn loss(lost: u64) -> Fact {
    Fact::Loss(LossFact { ring_full: vec![lost], ..LossFact::default() })
}

fn end(reason: &str) -> Fact {
    Fact::End(EndFact { reason: reason.to_owned(), ..EndFact::default() })
}

fn read(path: &Path) -> (Vec<u64>, Tables) {
    let mut reader = Reader::open(path).unwrap();
    let (mut seqs, mut tables, mut batch) = (Vec::new(), Tables::default(), Batch::default());
    loop {
        batch.clear();
        let progress = reader.fill(&mut batch).unwrap();
        batch.facts.iter().for_each(|fact| tables.apply(fact));
        seqs.extend(batch.events.iter().map(|event| event.seq));
        if progress == Progress::End {
            return (seqs, tables);
        }
    }
}

fn files(base: &Path, numbered: bool) -> Files {
    Files::new(base.to_owned(), numbered, None, false, None)
}

#[test]
fn every_rotated_file_can_be_read_alone() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("web.psc");
    // Full as soon as there is anything in it: each tick starts a new file.
    let rotation = Rotation { size: Some(1), ..Rotation::default() };
    let target = Target::Files(files(&base, true));
    let tally = Arc::new(Tally::default());
    let manifest = Manifest { acquisition: Some(Acquisition::default()), ..Manifest::default() };
    let key = SecretKey::from_seed([3; 32]);
    let signing = Signing {
        key: Some(key.clone()),
        statements: Some(dir.path().join("statements")),
        every: Duration::ZERO,
    };
    let mut stream =
        Stream::open(manifest, target, rotation, Arc::clone(&tally), signing.clone()).unwrap();
    for (number, lost) in [(0, 5), (1, 7)] {
        let mut batch = batch(number * 10..number * 10 + 10);
        if number == 0 {
            batch.facts.push(device());
        }
        batch.facts.push(loss(lost));
        stream.append(&mut batch).unwrap();
        assert_eq!(batch.events.len(), 10, "the batch is left as it was");
        stream.tick().unwrap();
    }
    stream.append(&mut Batch { facts: vec![end("signal")], ..Batch::default() }).unwrap();
    stream.finish().unwrap();
    let (first, tables) = read(&dir.path().join("web.0001.psc"));
    assert_eq!(first, (0..10).collect::<Vec<_>>());
    assert_eq!(tables.loss.unwrap().ring_full, [5]);
    assert_eq!(tables.end.unwrap().reason, "rotated");
    let (second, tables) = read(&dir.path().join("web.0002.psc"));
    assert_eq!(second, (10..20).collect::<Vec<_>>());
    assert_eq!(tables.device_name(DeviceId(1)), "eth0", "told again");
    assert_eq!(tables.loss.unwrap().ring_full, [2], "lost while this file was written");
    let (third, tables) = read(&dir.path().join("web.0003.psc"));
    assert_eq!((third, tables.end.unwrap().reason.as_str()), (vec![], "signal"));
    assert_eq!(tally.events.load(Ordering::Relaxed), 20);
    let text = std::fs::read_to_string(dir.path().join("statements")).unwrap();
    let statements = Statement::parse_all(&text).unwrap();
    let mut before = None;
    for name in ["web.0001.psc", "web.0002.psc", "web.0003.psc"] {
        let input = || Input::open(&dir.path().join(name)).unwrap();
        let info = archive::info(input()).unwrap();
        let previous = info.manifest.unwrap().acquisition.unwrap().previous;
        assert_eq!(previous.map(|previous| previous.hash), before, "{name} names the file before");
        before = Some(hex(&info.last_hash));
        let own = statements.iter().filter(|statement| statement.recording == info.recording);
        let expected = Expected { keys: vec![key.public()], statements: own.cloned().collect() };
        assert!(!expected.statements.is_empty(), "{name}: its end at least");
        let report = archive::verify_against(input(), &expected).unwrap();
        assert_eq!(report.state, State::Closed, "{name}: {:?}", report.problems);
    }
    assert_eq!(
        stream.place(),
        format!("3 files up to {}", dir.path().join("web.0003.psc").display())
    );
}

#[test]
fn what_was_flushed_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("a.psc");
    let target = Target::Files(files(&base, false));
    let mut stream = Stream::open(
        Manifest::default(),
        target,
        Rotation::default(),
        Arc::default(),
        Signing::default(),
    )
    .unwrap();
    stream.append(&mut batch(0..10)).unwrap();
    stream.flushed = stream.flushed.checked_sub(FLUSH_EVERY).unwrap();
    stream.tick().unwrap();
    stream.append(&mut batch(10..20)).unwrap();
    drop(stream);
    let (seqs, tables) = read(&base);
    assert_eq!(seqs, (0..10).collect::<Vec<_>>());
    assert_eq!(tables.end, None, "nobody closed it");
}

/// A ring whose pieces are closed by hand, so that the test needs no clock.
fn ring(base: &Path, memory: u64) -> Ring {
    let target = Final::Files { last: files(base, false), asked: files(base, true) };
    let (keep, signals) = (Duration::from_hours(1), Signals::unsignalled());
    let (manifest, signing) = (Manifest::default(), Signing::default());
    Ring::new(manifest, keep, memory, signals, Arc::default(), target, signing).unwrap()
}

#[test]
fn the_ring_writes_what_it_holds_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("last.psc");
    let mut ring = ring(&base, u64::MAX);
    let mut first = batch(0..10);
    first.facts.extend([device(), loss(3)]);
    ring.append(&mut first).unwrap();
    ring.close_piece().unwrap();
    ring.append(&mut batch(10..20)).unwrap();
    ring.signals.ask_for_dump();
    ring.tick().unwrap();
    let (seqs, tables) = read(&dir.path().join("last.0001.psc"));
    assert_eq!(seqs, (0..20).collect::<Vec<_>>(), "also the piece that was not closed yet");
    assert_eq!(tables.end.unwrap().reason, "asked for by SIGUSR1");
    ring.append(&mut batch(20..30)).unwrap();
    ring.append(&mut Batch { facts: vec![end("signal")], ..Batch::default() }).unwrap();
    ring.finish().unwrap();
    let (seqs, tables) = read(&base);
    assert_eq!(seqs, (0..30).collect::<Vec<_>>());
    assert_eq!(tables.loss.as_ref().unwrap().ring_full, [3]);
    assert!(tables.notices.is_empty(), "{:?}", tables.notices);
    assert_eq!(tables.end.unwrap().reason, "signal");
    assert!(!ring.was_crowded());
}

#[test]
fn a_full_ring_forgets_the_oldest_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("last.psc");
    let mut ring = ring(&base, 40_000);
    let mut first = batch(0..1);
    first.facts.extend([device(), loss(3)]);
    ring.append(&mut first).unwrap();
    ring.close_piece().unwrap();
    for number in 1..200 {
        ring.append(&mut batch(number..number + 1)).unwrap();
        ring.close_piece().unwrap();
    }
    assert!(ring.was_crowded());
    ring.finish().unwrap();
    let (seqs, tables) = read(&base);
    let oldest = seqs[0];
    assert!(oldest > 1 && seqs.len() > 2, "{seqs:?}");
    assert_eq!(seqs, (oldest..200).collect::<Vec<_>>(), "the rest has no hole");
    assert_eq!(tables.device_name(DeviceId(1)), "eth0", "known from before");
    assert!(tables.notices.iter().any(|notice| notice.text.contains("--ring-memory")));
}
