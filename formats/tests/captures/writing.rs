//! pcapng out: what we write, we and tshark read.

use psc_formats::event::LinkType;
use psc_formats::pcap::{Direction, Interface, MAX_CAPLEN, Packet, Section, Writer};
use psc_formats::{EventKind, Fact, open};

use crate::oracle::tshark;
use crate::{Everything, all_captures, captures};

fn section() -> Section {
    Section {
        hardware: "x86_64".to_owned(),
        os: "Linux 6.18".to_owned(),
        application: "psc".to_owned(),
        comment: String::new(),
    }
}

/// Every capture of testdata, written again packet by packet.
#[test]
fn tshark_opens_what_is_written_without_a_word() {
    let folder = tempfile::tempdir().expect("folder");
    for name in all_captures() {
        let all = Everything::of(&mut *open(&captures().join(&name)).expect("opens"));
        let mut writer = Writer::new(Vec::new(), &section()).expect("writes");
        let mut ids = std::collections::BTreeMap::new();
        for (event, bytes) in all.events.iter().zip(&all.bytes) {
            let packet = event.packet.expect("packet");
            let interface = *ids.entry((event.device.0, packet.link.0)).or_insert_with(|| {
                let interface = Interface {
                    name: format!("if{}", event.device.0),
                    description: "netns blue".to_owned(),
                    mac: Some([2, 0, 0, 0, 0, 1]),
                    snaplen: None,
                };
                writer.interface(&interface, packet.link).expect("writes")
            });
            let EventKind::Captured { direction } = event.kind else { panic!("captured") };
            writer
                .packet(&Packet {
                    interface,
                    epoch_ns: event.at.0,
                    direction: Direction::from_captured(direction),
                    bytes,
                    len: packet.len,
                    comment: "dropped: NO_SOCKET in __udp4_lib_rcv\npath: ä → b",
                })
                .expect("writes");
        }
        let first = *ids.values().next().expect("an interface");
        writer.statistics(first, all.events[0].at.0, 42, "recorder loss").expect("writes");
        let bytes = writer.finish().expect("flushes");

        let again = Everything::of_bytes(&bytes);
        assert!(again.bytes == all.bytes, "{name}");
        let essence = |all: &Everything| {
            let one = |e: &psc_formats::Event| (e.at, e.len, e.kind, e.packet.map(|p| p.link));
            all.events.iter().map(one).collect::<Vec<_>>()
        };
        assert_eq!(essence(&again), essence(&all), "{name}");
        let lost = again.facts.iter().find_map(|fact| match fact {
            Fact::Loss(loss) => loss.capture_dropped,
            _ => None,
        });
        assert_eq!(lost, Some(42));

        let path = folder.path().join(format!("{name}.pcapng"));
        std::fs::write(&path, &bytes).expect("writes");
        let args = ["-T", "fields", "-e", "frame.comment", "-e", "_ws.malformed"];
        let Some((rows, complaints)) =
            tshark("tshark_opens_what_is_written_without_a_word", &args, &path)
        else {
            return;
        };
        assert_eq!(complaints, "", "{name}");
        assert_eq!(rows.lines().count(), all.events.len(), "{name}");
        let first = rows.lines().next().expect("a row");
        assert!(first.starts_with("dropped: NO_SOCKET in __udp4_lib_rcv"), "{first}");
    }
}

#[test]
fn giants_are_cut_to_what_wireshark_reads() {
    let folder = tempfile::tempdir().expect("folder");
    let mut writer = Writer::new(Vec::new(), &section()).expect("writes");
    let interface = writer.interface(&Interface::default(), LinkType::RAW).expect("writes");
    let bytes = vec![0x45; MAX_CAPLEN + 1];
    let comment = "é".repeat(40_000);
    let len = bytes.len() as u32;
    let direction = Direction::Unknown;
    let packet =
        Packet { interface, epoch_ns: 1, direction, bytes: &bytes, len, comment: &comment };
    writer.packet(&packet).expect("writes");
    let file = writer.finish().expect("flushes");
    let again = Everything::of_bytes(&file);
    assert_eq!((again.bytes[0].len(), again.events[0].len), (MAX_CAPLEN, len));
    let path = folder.path().join("giant.pcapng");
    std::fs::write(&path, &file).expect("writes");
    let args = ["-T", "fields", "-e", "frame.cap_len"];
    if let Some((rows, complaints)) = tshark("giants_are_cut_to_what_wireshark_reads", &args, &path)
    {
        assert_eq!((rows.trim(), complaints.as_str()), ("262144", ""));
    }
}
