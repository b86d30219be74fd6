//! What hostile input is given to: one function for each thing that reads it. Used by the libFuzzer targets
//! beside this file and, on stable Rust, by `tests/fuzz.rs`.
//!
//! A target must not panic, must end, and must not take memory that its input does not warrant.

use std::hint::black_box;
use std::io::Cursor;

use psc_formats::archive::{self, Input};
use psc_formats::custody::{PublicKey, SecretKey, Statement};
use psc_formats::event::{DeviceId, LinkType};
use psc_formats::guard::{Flow, Keys};
use psc_formats::manifest::Probe;
use psc_formats::redact::{Options, Redactor};
use psc_formats::{
    Batch, Context, Event, EventKind, EventSource, Gso, Manifest, Ns, PacketRef, ProbeId, Progress,
    SkbAddr, SockId, SourceError, Stack, open,
};
use psc_replay::analyzer::Analyzer;
use psc_replay::engine::{self, Selection};
use psc_replay::expect::{Expectant, Expectations, Gate};
use psc_replay::expr::Expr;
use psc_replay::guarder::explain::{self, Addresses, Document};
use psc_replay::guarder::rules::{Asked, Evaluator, RuleFile, RuleSet, Way};
use psc_replay::guarder::{Detectors, answer as llm};
use psc_replay::locator::Locator;
use psc_replay::tracer::{TraceOptions, Tracer};
use psc_replay::view::detect::{DetectView, Finding};

/// Name and function.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// All of them.
pub(crate) const TARGETS: [Target; 8] = [
    ("archive", archive_reader),
    ("capture", capture_reader),
    ("packet", packet_decoder),
    ("replay", replay),
    ("expression", expression),
    ("statements", statements),
    ("rules", rules),
    ("answer", answer),
];

/// The archive reader, and everything that walks frames.
pub(crate) fn archive_reader(data: &[u8]) {
    let input = || Input::bytes(data.to_vec(), "fuzz");
    if let Ok(mut reader) = archive::Reader::from_bytes(data.to_vec(), "fuzz") {
        drain(&mut reader);
    }
    let _ = black_box(archive::verify(input()));
    let _ = black_box(archive::info(input()));
    let _ = black_box(archive::recover(input(), Vec::new()));
    let _ = archive::slice(input(), Ns(10)..Ns(1 << 40), "", |_, _| true, Vec::new());
    // As a stream, of which nothing is known but what has come.
    if let Ok(mut reader) = archive::Reader::from_stream(Cursor::new(data.to_vec()), "fuzz") {
        drain(&mut reader);
    }
}

/// Whatever a file may be: pcap, pcapng, an archive, compressed.
pub(crate) fn capture_reader(data: &[u8]) {
    if let Ok(mut source) = open::from_stream(Box::new(Cursor::new(data.to_vec())), "fuzz") {
        drain(&mut *source);
    }
}

fn drain(source: &mut dyn EventSource) {
    let mut batch = Batch::default();
    loop {
        batch.clear();
        match source.fill(&mut batch) {
            Ok(Progress::End) | Err(_) => return,
            Ok(Progress::More | Progress::Idle) => {
                black_box(&batch);
            }
        }
    }
}

/// The link type and wire length that the first bytes stand for, and the rest.
fn packet(data: &[u8]) -> Option<(LinkType, u32, &[u8])> {
    let (head, bytes) = data.split_at_checked(3)?;
    let links = [0, 1, 12, 101, 108, 113, 228, 229, 276, 147];
    let link = LinkType(links[usize::from(head[0]) % links.len()]);
    let extra = u32::from(u16::from_le_bytes([head[1], head[2]]));
    Some((link, bytes.len() as u32 + extra, bytes))
}

/// The packet decoder, its summary and fingerprint, and redaction.
pub(crate) fn packet_decoder(data: &[u8]) {
    let Some((link, len, bytes)) = packet(data) else { return };
    let headers = psc_formats::packet::decode(link, bytes, len);
    black_box(psc_formats::packet::summary(&headers));
    black_box(psc_formats::packet::fingerprint(bytes));
    let mut batch = Batch { bytes: bytes.to_vec(), ..Batch::default() };
    batch.events.push(captured(0, link, 0, bytes.len(), len));
    Redactor::new(&[1; 32], Options::default()).batch(&mut batch);
    assert_eq!(batch.bytes.len(), bytes.len(), "redaction keeps lengths");
    let after = psc_formats::packet::decode(link, &batch.bytes, len);
    assert_eq!(headers.transport_offset, after.transport_offset, "redaction keeps structure");
}

fn captured(number: u64, link: LinkType, offset: usize, caplen: usize, len: u32) -> Event {
    Event {
        at: Ns(1_000_000 + number * 1_000),
        cpu: 0,
        seq: number,
        probe: ProbeId(0),
        skb: SkbAddr(0),
        sock: SockId(0),
        device: DeviceId(0),
        iif: 0,
        len,
        gso: Gso::default(),
        stack: Stack::default(),
        context: Context::Unknown,
        packet: Some(PacketRef { offset: offset as u32, caplen: caplen as u32, len, link }),
        content: 0,
        kind: EventKind::Captured { direction: 0 },
    }
}

/// Packets one after the other, each with a length before it.
struct Packets {
    manifest: Manifest,
    batch: Option<Batch>,
}

impl EventSource for Packets {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn fill(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        if let Some(all) = self.batch.take() {
            *batch = all;
        }
        Ok(Progress::End)
    }
}

/// Every detector, every dissector, every view: whole conversations of hostile packets.
pub(crate) fn replay(data: &[u8]) {
    let mut batch = Batch::default();
    let mut rest = data;
    while let Some((head, after)) = rest.split_at_checked(2) {
        let len = usize::from(u16::from_le_bytes([head[0], head[1]])).min(after.len());
        let (bytes, after) = after.split_at(len);
        rest = after;
        let number = batch.events.len() as u64;
        let offset = batch.bytes.len();
        batch.bytes.extend_from_slice(bytes);
        batch.events.push(captured(number, LinkType::ETHERNET, offset, len, len as u32));
    }
    batch.complete_to = Some(Ns(u64::MAX));
    let manifest = Manifest { probes: vec![Probe::default()], ..Manifest::default() };
    let mut source = Packets { manifest: manifest.clone(), batch: Some(batch) };
    let mut tracer = Tracer::new(TraceOptions::default());
    let (mut analyzer, mut locator) = (Analyzer::default(), Locator::default());
    let mut detectors = Detectors::new();
    let pass = engine::run(
        &mut source,
        &Selection::default(),
        &mut [&mut tracer, &mut analyzer, &mut locator, &mut detectors],
    )
    .expect("packets at hand cannot fail to be read");
    black_box(tracer.finish(&manifest, &pass));
    black_box(analyzer.finish(&manifest, &pass));
    black_box(locator.finish(&manifest, &pass));
    black_box(detectors.finish(&manifest, &pass));
}

/// The expression parser: what it takes, it takes again as it shows it.
pub(crate) fn expression(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Expr::parse(&text) {
        Ok(expr) => {
            let shown = expr.to_string();
            let again = Expr::parse(&shown).expect("what is shown can be typed");
            assert_eq!(again.to_string(), shown);
        }
        Err(error) => {
            black_box(error.underlined());
        }
    }
}

/// Files that people write: expectations, gates, keys, statements.
pub(crate) fn statements(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(file) = toml::from_str::<Expectations>(&text) {
        let _ = black_box(Expectant::new(&file, &[]).err());
    }
    for line in text.lines() {
        let _ = black_box(line.parse::<Gate>());
    }
    if let Ok(statements) = Statement::parse_all(&text) {
        let shown: Vec<String> = statements.iter().map(ToString::to_string).collect();
        let again = Statement::parse_all(&shown.join("\n")).expect("what is shown can be read");
        assert_eq!(again, statements);
    }
    let _ = black_box(SecretKey::from_pem(&text).is_ok());
    let _ = black_box(PublicKey::from_text(&text).is_ok());
}

/// A TCP segment with options, an ICMPv6 error, an ARP request.
const FRAMES: [&[u8]; 3] = [
    b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\0\x45\0\0\x30\0\x01\x40\0\x40\x06\0\0\x0a\0\0\x01\x0a\0\0\x02\
      \x9c\x40\0\x50\0\0\0\x01\0\0\0\0\x70\x02\xfa\xf0\0\0\0\0\x02\x04\x05\xb4\x01\x03\x03\x07",
    b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x86\xdd\x60\0\0\0\0\x08\x3a\x40\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\
      \xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02\x02\0\0\0\0\0\x05\0",
    b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x08\x06\0\x01\x08\0\x06\x04\0\x01\x02\0\0\0\0\x01\x0a\0\0\x01\
      \0\0\0\0\0\0\x0a\0\0\x02",
];

/// Rule files with a list: what compiles decides about packets, twice alike.
pub(crate) fn rules(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut list = |name: &str| match name {
        "none" => Err("there is no such list".to_owned()),
        // The end of the file doubles as a list: hostile, too.
        _ => Ok(text.chars().rev().take(200).collect::<String>() + "\n10.0.0.0/29\nfd00::/64\n"),
    };
    let file = match RuleFile::parse(&text, &mut list) {
        Ok(file) => file,
        Err(error) => {
            black_box(error.underlined());
            black_box(error.to_string());
            return;
        }
    };
    let set = match RuleSet::new(file) {
        Ok(set) => set,
        Err(error) => {
            black_box(error.to_string());
            return;
        }
    };
    black_box(set.check("fuzz"));
    let decide = || {
        let mut evaluator = Evaluator::new(set.clone());
        let mut all = Vec::new();
        for (n, frame) in FRAMES.iter().cycle().take(9).enumerate() {
            let len = frame.len() as u32;
            let headers = psc_formats::packet::decode(LinkType::ETHERNET, frame, len);
            let (keys, flow) = (Keys::of(&headers, len), Flow::of(&headers));
            let way = [Way::Ingress, Way::Egress, Way::Unknown][n / 3];
            evaluator.prove(&flow);
            all.push(evaluator.ask(
                &Asked { at: n as u64 * 300_000_000, way, keys: &keys, flow: &flow, len },
                None,
            ));
        }
        all
    };
    assert_eq!(decide(), decide(), "the same packets, the same verdicts");
}

/// What a server for a model sends: as a document, as events, as the model's own words.
pub(crate) fn answer(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let finding = Finding {
        id: "port-scan".to_owned(),
        title: "10.0.0.9 tried 98 ports of 10.0.0.2 in vain.".to_owned(),
        evidence: vec!["98 of 100 attempts failed.".to_owned()],
        actors: vec!["10.0.0.9".to_owned()],
        targets: vec!["10.0.0.2".to_owned()],
        ..Finding::default()
    };
    let view = DetectView { findings: vec![finding], ..DetectView::default() };
    let document = Document::of(&view, Addresses::Labels);
    let words = [llm::from_document(&text), llm::from_stream(&text), Some(text.into_owned())];
    for words in words.into_iter().flatten() {
        let Ok(explained) = explain::by_model(&view, &document, &words, "fuzz".to_owned()) else {
            continue;
        };
        for sentence in &explained.sentences {
            assert!(!sentence.cites.is_empty(), "a sentence cites");
            for cite in &sentence.cites {
                assert!(explained.evidence.iter().any(|known| known.id == *cite), "what there is");
            }
            assert!(!sentence.text.chars().any(char::is_control), "{:?}", sentence.text);
            assert!(!sentence.text.contains("://"), "no link gets through");
        }
    }
}
