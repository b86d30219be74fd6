//! Cut and damaged captures: everything readable is read, what is not is said.

use proptest::prelude::*;
use psc_formats::pcap::CaptureSource;

use crate::{Everything, all_captures, capture};

/// A capture cut anywhere still gives every packet that is whole, in order, and part of the one cut.
#[test]
fn cut_at_every_byte() {
    for name in
        ["ethernet.pcap", "ethernet-be-ns.pcap", "interfaces.pcapng", "interfaces-be.pcapng"]
    {
        let whole = capture(name);
        let all = Everything::of_bytes(&whole);
        let mut before = 0;
        for kept in 4..whole.len() {
            let cut = Everything::of_bytes(&whole[..kept]);
            let count = cut.events.len();
            assert!(
                count == before || count == before + 1,
                "{name} cut to {kept}: {count} packets"
            );
            before = count;
            let Some(last) = count.checked_sub(1) else { continue };
            assert!(cut.bytes[..last] == all.bytes[..last], "{name} cut to {kept}");
            assert_eq!(cut.events[last].at, all.events[last].at, "{name} cut to {kept}");
            assert!(all.bytes[last].starts_with(&cut.bytes[last]), "{name} cut to {kept}");
            let short = cut.bytes[last].len() < all.bytes[last].len();
            let said = cut.troubles().iter().any(|(text, _)| text.contains("ends inside"));
            assert!(!short || said, "{name} cut to {kept}: a short packet and no notice");
        }
        assert_eq!(before, all.events.len(), "{name}: the last byte completes the last packet");
    }
}

/// One damaged byte anywhere costs at most a few packets: reading goes on behind it. Damage to a
/// pcap file header or an interface's description is another matter: it changes what all packets
/// mean.
#[test]
fn every_byte_damaged() {
    for (name, header, lost) in [("ethernet.pcap", 24, 3), ("interfaces.pcapng", 500, 3)] {
        let whole = capture(name);
        let all = Everything::of_bytes(&whole);
        for at in 4..whole.len() {
            for flip in [0x01, 0x10, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] ^= flip;
                let Ok(mut source) = CaptureSource::new(Box::new(std::io::Cursor::new(damaged)))
                else {
                    continue;
                };
                let read = Everything::of(&mut source);
                if at < header {
                    continue;
                }
                let kept = all.bytes.iter().filter(|packet| read.bytes.contains(packet)).count();
                assert!(
                    kept + lost >= all.bytes.len(),
                    "{name} byte {at} ^ {flip:#x}: only {kept} of {} packets, {:?}",
                    all.bytes.len(),
                    read.troubles()
                );
            }
        }
    }
}

/// Sparse captures, set clocks and writers that do not know the wire length are odd, not damaged.
#[test]
fn odd_records_are_kept() {
    let header = &capture("ethernet.pcap")[..24];
    #[rustfmt::skip]
    let cases: [(&str, &[(u32, u32)]); 5] = [
        // seconds and wire length of each record
        ("a packet a month",       &[(1_000_000_000, 60), (1_002_600_000, 60), (1_005_200_000, 60), (1_007_800_000, 60)]),
        ("a packet in ten years",  &[(1_000_000_000, 60), (1_300_000_000, 60)]),
        ("clock set back",         &[(1_700_000_000, 60), (1_700_000_001, 60), (5, 60), (6, 60), (7, 60)]),
        ("wire length not known",  &[(1_700_000_000, 0), (1_700_000_001, 0), (1_700_000_002, 0)]),
        ("merged, not sorted",     &[(1_700_000_000, 60), (1_200_000_000, 60), (1_700_000_001, 60), (1_200_000_001, 60)]),
    ];
    for (name, records) in cases {
        let mut bytes = header.to_vec();
        for (seconds, len) in records {
            for word in [*seconds, 7, 60, *len] {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
            bytes.extend_from_slice(&[0xa5; 60]);
        }
        let all = Everything::of_bytes(&bytes);
        assert_eq!(all.events.len(), records.len(), "{name}: {:?}", all.troubles());
    }
}

#[test]
fn garbage_between_records_is_skipped_and_said() {
    for (name, boundary) in [("ethernet.pcap", 24), ("interfaces.pcapng", 0)] {
        let whole = capture(name);
        let all = Everything::of_bytes(&whole);
        // Behind the first packet, wherever that ends.
        let boundary = if boundary == 0 {
            (4..whole.len())
                .find(|kept| {
                    let cut = Everything::of_bytes(&whole[..*kept]);
                    cut.events.len() == 1 && !cut.troubles()[0].0.contains("ends inside")
                })
                .expect("a boundary")
        } else {
            boundary + 16 + all.bytes[0].len()
        };
        let mut damaged = whole[..boundary].to_vec();
        damaged.extend((0..1_000_u32).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes()));
        damaged.extend_from_slice(&whole[boundary..]);
        let read = Everything::of_bytes(&damaged);
        assert!(read.bytes == all.bytes, "{name}: {:?}", read.troubles());
        assert!(
            read.troubles().iter().any(|(text, _)| text.contains("were skipped")),
            "{name}: {:?}",
            read.troubles()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn arbitrary_bytes_never_panic(
        magic in proptest::sample::select(vec![
            0xa1b2_c3d4_u32, 0xa1b2_3c4d, 0xa1b2_cd34, 0x0a0d_0d0a, 0xd4c3_b2a1, 0x4d3c_b2a1,
        ]),
        rest in proptest::collection::vec(any::<u8>(), 0..2000),
    ) {
        let mut bytes = magic.to_le_bytes().to_vec();
        bytes.extend(rest);
        Everything::of_bytes(&bytes);
    }

    /// Real captures with many damaged bytes: lengths, counts and options that lie.
    #[test]
    fn heavy_damage_never_panics(
        which in any::<proptest::sample::Index>(),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..200),
    ) {
        let names = all_captures();
        let mut bytes = capture(&names[which.index(names.len())]);
        for (at, value) in damage {
            let at = 4 + at.index(bytes.len() - 4);
            bytes[at] = value;
        }
        Everything::of_bytes(&bytes);
    }
}
