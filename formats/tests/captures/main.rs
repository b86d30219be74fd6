//! Captures as a whole: what is read from testdata/captures against tshark, damage, and writing.
#![allow(missing_docs, reason = "tests")]

mod damage;
mod oracle;
mod reading;
mod writing;

use std::io::Cursor;
use std::path::PathBuf;

use psc_formats::fact::{DeviceFact, NoticeFact};
use psc_formats::pcap::CaptureSource;
use psc_formats::{Batch, Event, EventSource, Fact, PacketRef, Progress};

/// All that a capture gave.
#[derive(Default)]
struct Everything {
    events: Vec<Event>,
    bytes: Vec<Vec<u8>>,
    facts: Vec<Fact>,
}

impl Everything {
    fn of(source: &mut dyn EventSource) -> Self {
        let mut all = Self::default();
        let mut batch = Batch::default();
        // A source that never ends fails the test instead of hanging it.
        for _ in 0..100_000 {
            batch.clear();
            let progress = source.fill(&mut batch).expect("a capture that started can be read");
            for event in batch.events.drain(..) {
                let packet: PacketRef = event.packet.expect("a capture's event has a packet");
                let start = packet.offset as usize;
                let bytes = &batch.bytes[start..start + packet.caplen as usize];
                all.bytes.push(bytes.to_vec());
                all.events.push(event);
            }
            all.facts.append(&mut batch.facts);
            if progress == Progress::End {
                return all;
            }
        }
        panic!("no end of capture");
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        let input = Box::new(Cursor::new(bytes.to_vec()));
        Self::of(&mut CaptureSource::new(input).expect("starts like a capture"))
    }

    fn notices(&self) -> Vec<&NoticeFact> {
        self.facts
            .iter()
            .filter_map(|fact| if let Fact::Notice(notice) = fact { Some(notice) } else { None })
            .collect()
    }

    fn devices(&self) -> Vec<&DeviceFact> {
        self.facts
            .iter()
            .filter_map(|fact| if let Fact::Device(device) = fact { Some(device) } else { None })
            .collect()
    }

    /// (text without the offset, count) of each notice.
    fn troubles(&self) -> Vec<(String, u64)> {
        let plain = |text: &str| text.split(" (first at").next().unwrap_or_default().to_owned();
        self.notices().iter().map(|notice| (plain(&notice.text), notice.count)).collect()
    }
}

fn captures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/captures")
}

fn capture(name: &str) -> Vec<u8> {
    let path = captures().join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn all_captures() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(captures())
        .expect("testdata/captures")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"))
        .filter(|name| name.contains(".pcap"))
        .collect();
    names.sort();
    assert!(names.len() >= 16, "captures are missing: {names:?}");
    names
}
