//! Damage is stepped over, named, and costs nothing but itself.

use std::io::Write;

use psc_formats::archive::frame::{HEADER_LEN, Header, MAGIC};
use psc_formats::archive::{
    Input, ProblemKind, Reader, RecordingId, State, VerifyReport, Writer, recover, verify,
};
use psc_formats::fact::EndFact;
use psc_formats::{Batch, Event, Fact};

use crate::made::{
    Read, archive, batches, facts, id, manifest, plain, read, read_bytes, with_packet,
};

/// Six frames and an index: manifest, facts, packets, events, events, end.
fn small() -> Vec<u8> {
    let mut batches = batches(&[with_packet(10, 0, 6), plain(11, 1), plain(20, 2)], 2);
    batches[0].facts = facts(1, 1);
    archive("small", &batches, true)
}

/// Offsets at which frames start, and at which the index does.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let mut starts = vec![0];
    while bytes[starts[starts.len() - 1]..].starts_with(&MAGIC) {
        let at = starts[starts.len() - 1];
        let stored = u32::from_le_bytes(bytes[at + 72..at + 76].try_into().unwrap());
        starts.push(at + HEADER_LEN + stored as usize);
    }
    starts
}

/// The frames as pieces, the index left out.
fn pieces(bytes: &[u8]) -> Vec<Vec<u8>> {
    frames(bytes).windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec()).collect()
}

fn check(bytes: Vec<u8>) -> VerifyReport {
    verify(Input::bytes(bytes, "test")).unwrap()
}

/// A frame with its header changed and hashes made right again, as only an attacker or a later
/// version would write it.
fn resealed(frame: &[u8], edit: impl FnOnce(&mut Header, &mut Vec<u8>)) -> Vec<u8> {
    let u64_at = |at: usize| u64::from_le_bytes(frame[at..at + 8].try_into().unwrap());
    let u32_at = |at: usize| u32::from_le_bytes(frame[at..at + 4].try_into().unwrap());
    let mut header = Header {
        schema: u16::from_le_bytes([frame[16], frame[17]]),
        kind: frame[18],
        flags: frame[19],
        count: u32_at(20),
        number: u64_at(24),
        recording: RecordingId(frame[32..48].try_into().unwrap()),
        first: u64_at(48),
        last: u64_at(56),
        watermark: u64_at(64),
        stored: u32_at(72),
        raw: u32_at(76),
        previous: frame[80..112].try_into().unwrap(),
        hash: [0; 32],
    };
    let mut payload = frame[HEADER_LEN..].to_vec();
    edit(&mut header, &mut payload);
    let mut out = header.seal(&payload).to_vec();
    out.extend_from_slice(&payload);
    out
}

fn kinds(report: &VerifyReport) -> Vec<(ProblemKind, Option<u64>)> {
    let named = |problem: &psc_formats::archive::Problem| {
        (problem.kind, problem.frames.as_ref().map(|frames| frames.start))
    };
    report.problems.iter().map(named).collect()
}

#[test]
fn resealing_without_a_change_changes_nothing() {
    for piece in pieces(&small()) {
        assert_eq!(resealed(&piece, |_, _| {}), piece);
    }
}

#[test]
fn an_archive_is_a_zstd_stream() {
    let mut raw = Vec::new();
    let bytes = small();
    std::io::copy(&mut zstd::Decoder::new(&bytes[..]).unwrap(), &mut raw).unwrap();
    assert!(raw.windows(10).any(|window| window == b"psc_versio"));
}

#[test]
fn an_undamaged_archive_is_closed() {
    let report = check(small());
    assert_eq!((report.state, report.index, report.frames), (State::Closed, true, 6));
    assert_eq!((report.events, report.packets, report.facts), (3, 1, 2));
    assert_eq!(report.problems, []);
}

#[test]
fn cut_at_every_byte_every_complete_frame_is_read() {
    let bytes = small();
    let starts = frames(&bytes);
    let whole = read_bytes(bytes.clone());
    for cut in 0..bytes.len() {
        let part = bytes[..cut].to_vec();
        let complete = starts.iter().filter(|start| **start <= cut).count() - 1;
        if complete == 0 {
            assert!(Reader::from_bytes(part.clone(), "cut").is_err(), "cut at {cut}");
            assert!(verify(Input::bytes(part.clone(), "cut")).is_err(), "cut at {cut}");
            assert!(recover(Input::bytes(part, "cut"), Vec::new()).is_err(), "cut at {cut}");
            continue;
        }
        let events = [0, 0, 0, 0, 2, 3, 3][complete];
        let got = read_bytes(part.clone());
        assert_eq!(got.events[..], whole.events[..events], "cut at {cut}");
        assert_eq!(got.notices().is_empty(), complete == 6, "cut at {cut}: {:?}", got.notices());
        let stream =
            read(&mut Reader::from_stream(std::io::Cursor::new(part.clone()), "s").unwrap());
        assert_eq!(stream, got, "cut at {cut}");

        let report = check(part.clone());
        assert_eq!(report.frames as usize, complete, "cut at {cut}");
        if complete < 6 {
            // What a killed recorder leaves is never called damaged.
            assert_eq!((report.state, &report.problems[..]), (State::Unclosed, &[][..]), "{cut}");
            assert_eq!(report.unfinished as usize, cut - starts[complete], "cut at {cut}");
        } else if cut == starts[6] {
            assert_eq!((report.state, report.index), (State::Closed, false));
        } else {
            assert_eq!(kinds(&report), [(ProblemKind::Index, None)], "cut at {cut}");
        }

        let (said, recovered) = recover(Input::bytes(part, "cut"), Vec::new()).unwrap();
        assert_eq!((said.frames as usize, said.events as usize), (complete, events));
        let report = check(recovered.clone());
        assert_eq!((report.state, report.index), (State::Closed, true), "cut at {cut}");
        let again = read_bytes(recovered);
        assert_eq!(again.events, got.events, "cut at {cut}");
    }
}

#[test]
fn with_any_bit_flipped_every_other_frame_is_read_and_the_damage_is_named() {
    let bytes = small();
    let starts = frames(&bytes);
    let whole = read_bytes(bytes.clone());
    // Events that are lost with each frame; without its packets an event loses only them.
    let lost: [&[u64]; 6] = [&[], &[], &[], &[10, 11], &[20], &[]];
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let hit = starts.iter().filter(|start| **start <= bit / 8).count() - 1;

        let report = check(flipped.clone());
        assert_eq!(report.state, State::Damaged, "bit {bit}");
        let first = &report.problems[0];
        if hit == 6 {
            assert!(report.problems.iter().all(|p| p.kind == ProblemKind::Index), "bit {bit}");
        } else {
            assert_eq!(first.kind, ProblemKind::Damaged, "bit {bit}: {:?}", report.problems);
            assert_eq!(first.offset as usize, starts[hit], "bit {bit}");
        }
        assert_eq!(report.frames, if hit == 6 { 6 } else { 5 }, "bit {bit}");

        let got = read_bytes(flipped.clone());
        let times: Vec<u64> =
            [10, 11, 20].into_iter().filter(|at| hit == 6 || !lost[hit].contains(at)).collect();
        assert_eq!(got.times(), times, "bit {bit}");
        assert_eq!(got.notices().is_empty(), hit == 6, "bit {bit}");
        if hit != 2 {
            assert!(got.events.iter().all(|event| whole.events.contains(event)), "bit {bit}");
        }

        let (said, recovered) = recover(Input::bytes(flipped, "flipped"), Vec::new()).unwrap();
        assert_eq!(said.frames, report.frames, "bit {bit}");
        assert_eq!(check(recovered.clone()).state, State::Closed, "bit {bit}");
        let again = read_bytes(recovered);
        assert_eq!(again.events, got.events, "bit {bit}");
        assert_eq!(again.notices().is_empty(), hit == 6, "bit {bit}");
    }
}

/// Name, archive, the first problem with its frame, times of the events that are read.
type Case = (&'static str, Vec<u8>, (ProblemKind, u64), Vec<u64>);

#[test]
fn missing_reordered_duplicated_and_foreign_frames_are_named() {
    let whole = pieces(&small());
    let other = pieces(&archive("other", &batches(&[plain(99, 0)], 1), true));
    let arranged = |order: &[usize]| order.iter().flat_map(|&at| whole[at].clone()).collect();
    let foreign: Vec<u8> =
        whole[..4].iter().chain(&other[1..2]).chain(&whole[4..]).flatten().copied().collect();
    let all = vec![10, 11, 20];
    #[rustfmt::skip]
    let cases: [Case; 7] = [
        ("one missing",  arranged(&[0, 1, 2, 3, 5]),          (ProblemKind::Missing, 4),    vec![10, 11]),
        ("two missing",  arranged(&[0, 1, 4, 5]),             (ProblemKind::Missing, 2),    vec![20]),
        ("no manifest",  arranged(&[1, 2, 3, 4, 5]),          (ProblemKind::Missing, 0),    all.clone()),
        ("swapped",      arranged(&[0, 1, 2, 4, 3, 5]),       (ProblemKind::Reordered, 3),  vec![20, 10, 11]),
        ("duplicated",   arranged(&[0, 1, 2, 3, 3, 4, 5]),    (ProblemKind::Duplicated, 3), all.clone()),
        ("foreign",      foreign,                             (ProblemKind::Foreign, 1),    all.clone()),
        ("after end",    arranged(&[0, 1, 2, 3, 5, 4]),       (ProblemKind::Reordered, 4),  all.clone()),
    ];
    for (name, bytes, problem, times) in cases {
        let report = check(bytes.clone());
        assert_eq!(report.state, State::Damaged, "{name}");
        let first = kinds(&report)[0];
        assert_eq!(first, (problem.0, Some(problem.1)), "{name}: {:?}", report.problems);
        let got = read_bytes(bytes.clone());
        assert_eq!(got.times(), times, "{name}");
        assert!(!got.notices().is_empty(), "{name}");
        let (_, recovered) = recover(Input::bytes(bytes, name), Vec::new()).unwrap();
        assert_eq!(check(recovered.clone()).state, State::Closed, "{name}");
        let mut sorted = times;
        sorted.sort_unstable();
        assert_eq!(read_bytes(recovered).times(), sorted, "{name}");
    }
}

#[test]
fn a_frame_replaced_by_one_with_a_right_hash_is_named() {
    let mut whole = pieces(&small());
    whole[4] = resealed(&whole[4], |header, _| header.watermark += 1);
    let report = check(whole.concat());
    assert_eq!(kinds(&report), [(ProblemKind::Replaced, Some(5))]);
}

#[test]
fn bytes_between_frames_are_named_and_stepped_over() {
    let whole = pieces(&small());
    for junk in [&b"x"[..], &MAGIC, &[0; 4096], &whole[3][..200], b"\x5c\x2a\x4d\x18\x04\0\0\0abcd"]
    {
        let bytes: Vec<u8> = whole[..3]
            .iter()
            .flatten()
            .chain(junk)
            .chain(whole[3..].iter().flatten())
            .copied()
            .collect();
        assert_eq!(check(bytes.clone()).state, State::Damaged, "{junk:?}");
        let got = read_bytes(bytes);
        assert_eq!(got.times(), [10, 11, 20], "{junk:?}");
    }
}

#[test]
fn an_archive_inside_a_damaged_packet_is_not_taken_for_the_recording() {
    // A capture of an archive being copied: its frames are packet bytes. zstd stores what it cannot
    // compress as it is, so they are found there whole.
    let inner = small();
    let mut batch = Batch { bytes: inner.clone(), ..Batch::default() };
    let mut event = with_packet(5, 0, inner.len() as u32);
    event.packet.as_mut().unwrap().len = inner.len() as u32;
    batch.events.push(event);
    let mut whole = pieces(&archive("outer", &[batch], true));
    whole[1] = resealed(&whole[1], |header, payload| {
        *payload = uncompressed(&zstd::decode_all(&payload[..]).unwrap());
        header.stored = payload.len() as u32;
    });
    assert!(whole[1].windows(inner.len()).any(|window| window == inner));
    whole[1][HEADER_LEN + 3] ^= 1;
    let bytes = whole.concat();
    let got = read_bytes(bytes.clone());
    assert_eq!(got.times(), [5]);
    let report = check(bytes);
    assert_eq!(kinds(&report)[0], (ProblemKind::Damaged, Some(1)));
    assert!(report.problems.iter().all(|problem| problem.kind != ProblemKind::Foreign));
}

/// A zstd frame of raw blocks (RFC 8878, 3.1.1).
fn uncompressed(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    out.extend((bytes.len() as u32).to_le_bytes());
    let blocks = bytes.chunks(100_000).count();
    for (at, block) in bytes.chunks(100_000).enumerate() {
        let head = (block.len() as u32) << 3 | u32::from(at + 1 == blocks);
        out.extend(&head.to_le_bytes()[..3]);
        out.extend(block);
    }
    out
}

#[test]
fn sizes_that_lie_cost_no_memory() {
    let whole = pieces(&small());
    let cases: [(&str, Vec<u8>); 4] = [
        ("raw too large", resealed(&whole[3], |header, _| header.raw = u32::MAX)),
        ("raw within the cap", resealed(&whole[3], |header, _| header.raw = 64 << 20)),
        ("count too large", resealed(&whole[3], |header, _| header.count = u32::MAX)),
        (
            "bomb",
            resealed(&whole[3], |header, payload| {
                // 512 MiB of zeros in 16 KiB, where the header says 100 bytes.
                let mut zstd = zstd::Encoder::new(Vec::new(), 1).unwrap();
                for _ in 0..512 {
                    zstd.write_all(&vec![0; 1 << 20]).unwrap();
                }
                *payload = zstd.finish().unwrap();
                header.stored = payload.len() as u32;
                header.raw = 100;
            }),
        ),
    ];
    for (name, frame) in cases {
        let mut bytes = whole[..3].concat();
        bytes.extend(frame);
        bytes.extend(whole[4..].concat());
        let got = read_bytes(bytes.clone());
        assert_eq!(got.times(), [20], "{name}");
        assert_eq!(check(bytes).state, State::Damaged, "{name}");
    }
}

#[test]
fn payloads_that_lie_never_panic() {
    // Hashes that are right prove nothing about who made them: each byte of each payload is made
    // wrong in several ways behind a right hash.
    let whole = pieces(&small());
    let mut unread = 0;
    for (number, piece) in whole.iter().enumerate() {
        let raw = zstd::decode_all(&piece[HEADER_LEN..]).unwrap();
        for at in 0..raw.len() {
            for value in [0, 0xff, raw[at] ^ 1, raw[at] ^ 0x80, raw[at].wrapping_add(1)] {
                let mut raw = raw.clone();
                raw[at] = value;
                let frame = resealed(piece, |header, payload| {
                    *payload = zstd::bulk::compress(&raw, 1).unwrap();
                    header.stored = payload.len() as u32;
                });
                let mut bytes = whole[..number].concat();
                bytes.extend(frame);
                bytes.extend(whole[number + 1..].concat());
                let mut reader = Reader::from_bytes(bytes, "hostile").unwrap();
                unread += u64::from(!read(&mut reader).notices().is_empty());
            }
        }
    }
    assert!(unread > 1000, "only {unread} of them were noticed");
}

#[test]
fn a_file_of_forged_headers_ends() {
    // Every header is sound and claims the rest of the file; no hash is right.
    let whole = pieces(&small());
    let mut bytes = whole[0].clone();
    for number in 1..2000 {
        let forged = resealed(&whole[1], |header, payload| {
            header.number = number;
            header.stored = 390_000 - number as u32 * HEADER_LEN as u32;
            payload.clear();
        });
        bytes.extend(&forged[..HEADER_LEN]);
    }
    bytes.resize(400_000, 7);
    let got = read_bytes(bytes.clone());
    assert!(got.events.is_empty() && !got.notices().is_empty());
    assert_eq!(check(bytes).state, State::Damaged);
}

#[test]
fn an_archive_of_a_later_version_says_what_can_be_read() {
    let whole = pieces(&small());
    let later = |piece: &Vec<u8>| resealed(piece, |header, _| header.schema = 2);
    let all: Vec<u8> = whole.iter().flat_map(later).collect();
    let Err(error) = Reader::from_bytes(all, "new.psc") else { panic!("read schema 2") };
    let said = error.to_string();
    assert!(said.contains("later psc (archive schema 2"), "{said}");
    assert!(said.contains("3 events, 1 packets and 1 facts"), "{said}");

    // Only the last events are of a later version: the rest is read.
    let mut some = whole.clone();
    some[4] = later(&some[4]);
    let got = read_bytes(some.concat());
    assert_eq!(got.times(), [10, 11]);
    assert!(got.notices()[0].contains("a newer psc can read it"), "{:?}", got.notices());
    // What this version cannot read, recovering keeps.
    let (said, _) = recover(Input::bytes(some.concat(), "some"), Vec::new()).unwrap();
    assert_eq!(said.frames, 6);
}

#[test]
fn a_fact_of_a_later_version_is_kept_by_recovering() {
    let whole = pieces(&small());
    let raw = zstd::decode_all(&whole[1][HEADER_LEN..]).unwrap();
    let raw = String::from_utf8_lossy(&raw).contains("\"fact\":\"socket\"");
    assert!(raw, "facts are JSON text in the payload");
}

#[test]
fn a_writer_that_dies_loses_only_what_was_not_flushed() {
    let mut out = Vec::new();
    let mut writer = Writer::derived(&mut out, &manifest(), id("dies"), &[]).unwrap();
    let batches = batches(&[plain(1, 0), plain(2, 1), plain(3, 2)], 1);
    writer.append(&batches[0]).unwrap();
    writer.append(&batches[1]).unwrap();
    writer.flush_frame().unwrap();
    writer.append(&batches[2]).unwrap();
    drop(writer);
    assert_eq!(read_bytes(out).times(), [1, 2]);
}

/// Fails after so many bytes, as a full disk does.
struct Full(Vec<u8>, usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let room = self.1 - self.0.len();
        if room == 0 {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        let taken = room.min(bytes.len());
        self.0.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_leaves_every_finished_frame() {
    let events: Vec<Event> = (0..100).map(|at| plain(at, at)).collect();
    let whole = archive("full", &batches(&events, 10), true);
    for room in (800..whole.len()).step_by(97) {
        let mut full = Full(Vec::new(), room);
        let written = (|| {
            let mut writer = Writer::derived(&mut full, &manifest(), id("full"), &[])?;
            for batch in batches(&events, 10) {
                writer.append(&batch)?;
                writer.flush_frame()?;
            }
            writer.finish(EndFact::default()).map(drop)
        })();
        assert_eq!(written.err().map(|e| e.kind()), Some(std::io::ErrorKind::StorageFull));
        let got: Read = read_bytes(full.0);
        assert_eq!(got.times(), (0..got.events.len() as u64).collect::<Vec<_>>());
        assert_eq!(got.events.len() % 10, 0);
    }
}

#[test]
fn notices_of_damage_survive_recovering() {
    let mut bytes = small();
    let at = frames(&bytes)[3] + HEADER_LEN + 5;
    bytes[at] ^= 4;
    let (said, recovered) = recover(Input::bytes(bytes.clone(), "x"), Vec::new()).unwrap();
    assert_eq!(said.problems.len(), 1);
    let got = read_bytes(recovered.clone());
    assert!(got.notices()[0].contains("(frame 3) are damaged"), "{:?}", got.notices());
    assert!(got.facts.iter().any(|fact| matches!(fact, Fact::End(end) if end.reason == "test")));
    let again = recover(Input::bytes(bytes, "y"), Vec::new()).unwrap().1;
    assert_eq!(again, recovered, "recovering is a function of its input");
    let parents = Reader::from_bytes(recovered, "r").unwrap().parents().to_vec();
    assert_eq!(parents.iter().map(|p| p.recording).collect::<Vec<_>>(), [id("small")]);
}

#[test]
fn packets_are_not_given_to_the_events_of_another_frame() {
    // Two frames of events with packets of the same size: the first one's events and the second
    // one's packets are gone.
    let made = batches(&[with_packet(1, 0, 6), with_packet(2, 1, 6)], 1);
    let whole = pieces(&archive("two", &made, true));
    let bytes = [0, 1, 4, 5].map(|at| whole[at].clone()).concat();
    let got = read_bytes(bytes.clone());
    assert_eq!(got.times(), [2]);
    assert_eq!(got.events[0].0.packet, None);
    assert!(got.notices().iter().any(|text| text.contains("packet bytes of frame 4 are lost")));
    let (_, recovered) = recover(Input::bytes(bytes, "two"), Vec::new()).unwrap();
    assert_eq!(check(recovered.clone()).state, State::Closed);
    assert_eq!(read_bytes(recovered).events, got.events);
}
