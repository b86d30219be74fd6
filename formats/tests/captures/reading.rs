//! What a capture says beside its packets, and telling formats apart.

use std::io::Write as _;
use std::path::Path;

use psc_formats::event::LinkType;
use psc_formats::fact::Severity;
use psc_formats::manifest::{ClockKind, Origin};
use psc_formats::{EventKind, EventSource, Fact, Progress, open};

use crate::{Everything, capture, captures};

#[test]
fn both_byte_orders_and_units_are_the_same_capture() {
    let reference = Everything::of_bytes(&capture("ethernet-ns.pcap"));
    let micro = |all: &Everything| all.events.iter().map(|e| e.at.0 / 1000).collect::<Vec<_>>();
    for name in ["ethernet.pcap", "ethernet-be.pcap", "ethernet-be-ns.pcap", "kuznetzov.pcap"] {
        let all = Everything::of_bytes(&capture(name));
        assert!(all.bytes == reference.bytes, "{name}");
        assert_eq!(micro(&all), micro(&reference), "{name}");
        assert_eq!(all.troubles(), [], "{name}");
    }
    assert_eq!(reference.events[3].at.0, 1_767_225_603_003_000_008);
}

#[test]
fn interfaces_have_names_addresses_and_times_of_their_own() {
    for name in ["interfaces.pcapng", "interfaces-be.pcapng"] {
        let all = Everything::of_bytes(&capture(name));
        let devices = all.devices();
        let names: Vec<&str> = devices.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["eth0", "tun0", "any", "ifindex 2", "ifindex 3", "ifindex 4"]);
        assert_eq!(devices[0].addresses, ["10.0.0.1/24", "fd00::1/64"]);
        assert_eq!(devices[0].mac, "02:00:00:00:00:01");
        assert_eq!(devices[1].link_type, Some(LinkType::RAW.0));
        assert_eq!(devices[4].ifindex, 3, "the cooked header names the interface");
        // Nanoseconds; 2^-20 s from an offset; microseconds.
        assert_eq!(all.events[2].at.0, 1_767_225_600_000_002_002);
        assert_eq!(all.events[27].at.0, 1_767_225_601_000_000_953);
        assert_eq!(all.events[48].at.0, 1_767_225_660_000_000_000);
        let dropped: Vec<_> = all
            .facts
            .iter()
            .filter_map(|f| if let Fact::Loss(loss) = f { loss.capture_dropped } else { None })
            .collect();
        assert_eq!(dropped.last(), Some(&11), "7 + 2 and 0 + 2 by the interface statistics");
    }
}

#[test]
fn direction_comes_from_flags_and_cooked_headers() {
    let directions = |name: &str| -> Vec<u8> {
        let all = Everything::of_bytes(&capture(name));
        let kinds = all.events.iter().map(|event| &event.kind);
        kinds
            .map(|kind| match kind {
                EventKind::Captured { direction } => *direction,
                other => panic!("{other:?}"),
            })
            .collect()
    };
    assert_eq!(directions("interfaces.pcapng")[..4], [1, 2, 1, 2]);
    assert_eq!(directions("sll.pcap")[..4], [1, 2, 1, 2]);
    assert_eq!(directions("sll2.pcap")[..4], [1, 2, 1, 2]);
    assert_eq!(directions("raw.pcap")[..2], [0, 0]);
}

#[test]
fn an_interface_described_again_is_the_same_device() {
    let all = Everything::of_bytes(&capture("sections.pcapng"));
    assert_eq!(all.devices().len(), 6);
    assert_eq!(all.events.len(), 108);
    assert_eq!(all.events[0].device, all.events[54].device);
}

#[test]
fn remarks_are_counted() {
    let all = Everything::of_bytes(&capture("interfaces.pcapng"));
    assert_eq!(
        all.troubles(),
        [
            ("packet comments in the capture were not taken over".to_owned(), 27),
            (
                "a packet has no time (simple packet block); given that of the one before it"
                    .to_owned(),
                1
            ),
            ("the capture says: made by hand".to_owned(), 1),
            ("captured by make.py on Linux 6.18".to_owned(), 1),
        ]
    );
    assert!(all.notices().iter().all(|notice| notice.severity < Severity::Error));
    assert!(matches!(all.facts.last(), Some(Fact::End(_))));
}

#[test]
fn the_manifest_says_capture() {
    let source = open(&captures().join("raw.pcap")).expect("opens");
    let manifest = source.manifest();
    assert_eq!((manifest.origin, manifest.clock.kind), (Origin::Capture, ClockKind::Realtime));
    assert_eq!(manifest.probes.len(), 1);
    assert_eq!(manifest.probes[0].name, "capture");
}

#[test]
fn compressed_captures_open_the_same() {
    let plain = capture("interfaces.pcapng");
    let expected = Everything::of_bytes(&plain).bytes;
    let folder = tempfile::tempdir().expect("folder");
    let zst = folder.path().join("a");
    std::fs::write(&zst, zstd::encode_all(&plain[..], 3).expect("compresses")).expect("writes");
    let gz = folder.path().join("b");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&plain).expect("compresses");
    let packed = encoder.finish().expect("compresses");
    std::fs::write(&gz, &packed).expect("writes");
    for path in [&zst, &gz] {
        let mut source = open(path).expect("opens");
        let size = std::fs::metadata(path).expect("size").len();
        assert!(Everything::of(&mut *source).bytes == expected);
        assert_eq!(source.position(), Some((size, size)));
    }
    // What was compressed before the damage is still read, and the damage said.
    let cut = folder.path().join("c");
    std::fs::write(&cut, &packed[..packed.len() - 20]).expect("writes");
    let all = Everything::of(&mut *open(&cut).expect("opens"));
    assert!(!all.bytes.is_empty() && expected.starts_with(&all.bytes[..all.bytes.len() - 1]));
    assert!(all.troubles().iter().any(|(text, _)| text.contains("cannot be read beyond byte")));
}

/// A source is the same in one batch or many.
#[test]
fn a_pipe_gives_packets_as_they_come() {
    /// Gives one byte a read.
    struct Dribble(std::io::Cursor<Vec<u8>>);
    impl std::io::Read for Dribble {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(&mut buffer[..1])
        }
    }
    let bytes = capture("interfaces.pcapng");
    let whole = Everything::of_bytes(&bytes);
    let input = Box::new(Dribble(std::io::Cursor::new(bytes)));
    let mut source = psc_formats::pcap::CaptureSource::new(input).expect("starts");
    let mut batch = psc_formats::Batch::default();
    assert_eq!(source.fill(&mut batch).expect("fills"), Progress::More);
    assert!(batch.events.len() < 2, "held back: {}", batch.events.len());
    let rest = Everything::of(&mut source);
    assert!(whole.bytes[batch.events.len()..] == rest.bytes);
    assert_eq!(whole.troubles(), rest.troubles());
}

#[test]
fn what_cannot_be_opened_is_said_in_one_line() {
    let folder = tempfile::tempdir().expect("folder");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("writes");
        path
    };
    let message = |path: &Path| match open(path) {
        Ok(_) => panic!("{} opens", path.display()),
        Err(error) => error.to_string(),
    };
    let elf = message(&file("x.bin", b"\x7fELF\x02\x01\x01"));
    assert!(
        elf.contains("x.bin: not a psc archive, pcap or pcapng (starts with 7f 45 4c 46)"),
        "{elf}"
    );
    assert!(message(&file("empty.pcap", b"")).contains("empty"));
    assert!(message(folder.path()).contains("is a directory"));
    assert!(message(&folder.path().join("none")).contains("cannot open"));
    let packed = zstd::encode_all(&b"no capture at all"[..], 3).expect("compresses");
    assert!(message(&file("a.zst", &packed)).contains("inside the compression, not a psc archive"));
    assert!(!elf.contains('\n'));
}
