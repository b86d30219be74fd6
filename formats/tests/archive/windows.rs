//! Windows and slices read what they need and lose nothing that explains it.

use psc_formats::archive::{FRAME_EVENTS, FrameKind, Input, Reader, State, info, slice, verify};
use psc_formats::{Batch, Event, Fact, Ns};

use crate::made::{Read, archive, batches, facts, plain, read, with_packet};

/// A hundred frames of ten events and a fact, on two CPUs; every third event has a packet.
fn long() -> (Vec<Event>, Vec<u8>) {
    let events: Vec<Event> = (0..1000u64)
        .map(|at| {
            let event = if at % 3 == 0 { with_packet(at, at / 2, 9) } else { plain(at, at / 2) };
            Event { cpu: (at % 2) as u16, ..event }
        })
        .collect();
    let mut batches: Vec<Batch> = batches(&events, 10);
    for (row, batch) in batches.iter_mut().enumerate() {
        batch.facts = facts(row as u32, 1);
        batch.complete_to = Some(Ns(row as u64 * 10));
    }
    (events, archive("long", &batches, true))
}

fn window(bytes: Vec<u8>, from: u64, to: u64) -> (Read, u64) {
    let mut reader = Reader::from_bytes(bytes, "test").unwrap().window(Ns(from)..Ns(to));
    let got = read(&mut reader);
    (got, reader.frames_decoded())
}

/// Bytes of the index, which is the last thing in the file.
fn without_index(bytes: &[u8]) -> Vec<u8> {
    let said = info(Input::bytes(bytes.to_vec(), "test")).unwrap();
    bytes[..bytes.len() - said.index_bytes as usize].to_vec()
}

#[test]
fn a_window_decodes_only_the_frames_that_reach_into_it() {
    let (_, bytes) = long();
    let all = read(&mut Reader::from_bytes(bytes.clone(), "t").unwrap());
    for bytes in [bytes.clone(), without_index(&bytes)] {
        let (got, decoded) = window(bytes, 305, 322);
        assert_eq!(got.times(), (305..322).collect::<Vec<_>>());
        assert_eq!(got.facts, all.facts, "all facts are kept");
        // Manifest, a hundred facts frames, the end, and three events frames.
        assert_eq!(decoded, 1 + 100 + 1 + 3);
    }
    let (none, _) = window(bytes.clone(), 5000, 6000);
    assert!(none.events.is_empty() && none.notices().is_empty());
    let (same, _) = window(bytes, 0, u64::MAX);
    assert_eq!(same.events, all.events);
}

#[test]
fn an_index_that_lies_about_offsets_is_not_believed() {
    let (_, bytes) = long();
    let said = info(Input::bytes(bytes.clone(), "t")).unwrap();
    let index_at = bytes.len() - said.index_bytes as usize;
    for at in (index_at..bytes.len()).step_by(7) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x10;
        let (got, _) = window(bytes, 305, 322);
        assert_eq!(got.times(), (305..322).collect::<Vec<_>>(), "byte {at}");
    }
}

#[test]
fn an_index_that_hides_a_frame_is_not_believed() {
    // Its hash is right, as anyone can make it: 48 bytes an entry, 56 of trailer.
    let (_, bytes) = long();
    let body = without_index(&bytes);
    let index = &bytes[body.len()..];
    let events_frame_in_window = index[8..]
        .chunks_exact(48)
        .position(|entry| entry[46] == FrameKind::Events as u8 && entry[8..10] == [44, 1])
        .unwrap();
    let mut entries = index[8..index.len() - 56].to_vec();
    entries.drain(events_frame_in_window * 48..(events_frame_in_window + 1) * 48);
    let mut hashed = entries.clone();
    hashed.extend((entries.len() as u64 / 48).to_le_bytes());
    hashed.extend((body.len() as u64).to_le_bytes());
    let mut lying = body;
    lying.extend(&index[..4]);
    lying.extend((hashed.len() as u32 + 40).to_le_bytes());
    lying.extend(&hashed);
    lying.extend(blake3::hash(&hashed).as_bytes());
    lying.extend(b"psc-idx\n");
    let (got, _) = window(lying.clone(), 295, 322);
    assert_eq!(got.times(), (295..322).collect::<Vec<_>>());
    let report = verify(Input::bytes(lying, "t")).unwrap();
    assert_eq!(report.state, State::Damaged);
}

#[test]
fn frames_left_out_in_the_middle_of_a_slice_do_not_look_like_loss() {
    let times = [0, 1, 100, 101, 2, 3];
    let events: Vec<Event> = times.iter().zip(0..).map(|(at, seq)| plain(*at, seq)).collect();
    let bytes = archive("mixed", &batches(&events, 2), true);
    let input = Input::bytes(bytes, "t");
    let (_, sliced) = slice(input, Ns(0)..Ns(50), "", |_, _| true, Vec::new()).unwrap();
    let got = read(&mut Reader::from_bytes(sliced, "s").unwrap());
    let seqs: Vec<u64> = got.events.iter().map(|(event, _)| event.seq).collect();
    assert_eq!((got.times(), seqs), (vec![0, 1, 2, 3], vec![0, 1, 2, 3]));
}

#[test]
fn a_slice_keeps_what_was_asked_for_and_all_that_explains_it() {
    let (events, bytes) = long();
    let all = read(&mut Reader::from_bytes(bytes.clone(), "t").unwrap());
    let mut asked = 0;
    let (report, sliced) = slice(
        Input::bytes(bytes.clone(), "t"),
        Ns(100)..Ns(200),
        "with a packet",
        |event, packet| {
            asked += 1;
            assert_eq!(packet.len(), if event.packet.is_some() { 9 } else { 0 });
            event.packet.is_some()
        },
        Vec::new(),
    )
    .unwrap();
    assert_eq!((report.kept, asked), (33, 100));
    let checked = verify(Input::bytes(sliced.clone(), "s")).unwrap();
    assert_eq!((checked.state, checked.events, checked.packets), (State::Closed, 33, 33));
    let mut reader = Reader::from_bytes(sliced, "s").unwrap();
    let parent = reader.parents()[0];
    let original = verify(Input::bytes(bytes, "t")).unwrap();
    assert_eq!(Some(parent.recording), original.recording);
    assert_eq!(parent.hash, original.last_hash);
    let got = read(&mut reader);
    let kept: Vec<u64> = events
        .iter()
        .filter(|e| e.packet.is_some())
        .map(|e| e.at.0)
        .filter(|at| (100..200).contains(at))
        .collect();
    assert_eq!(got.times(), kept);
    let explained = |facts: &[Fact]| -> Vec<Fact> {
        facts.iter().filter(|fact| !matches!(fact, Fact::Notice(_))).cloned().collect()
    };
    assert_eq!(explained(&got.facts), explained(&all.facts));
    assert!(got.notices()[0].contains("33 events matching with a packet"), "{:?}", got.notices());
    for ((event, bytes), (sliced, same)) in
        all.events.iter().filter(|(e, _)| kept.contains(&e.at.0)).zip(&got.events)
    {
        assert_eq!((Event { seq: 0, ..*event }, bytes), (Event { seq: 0, ..*sliced }, same));
    }
}

#[test]
fn leaving_events_out_does_not_look_like_losing_them_and_losing_them_still_does() {
    // Two events were lost on CPU 1 between the times 500 and 600.
    let (events, _) = long();
    let lossy: Vec<Event> = events
        .iter()
        .map(|event| {
            let lost = if event.cpu == 1 && event.at.0 > 550 { 2 } else { 0 };
            Event { seq: event.seq + lost, ..*event }
        })
        .collect();
    let bytes = archive("lossy", &batches(&lossy, 10), true);
    let gaps = |range: std::ops::Range<u64>, keep: fn(&Event) -> bool| -> Vec<u64> {
        let input = Input::bytes(bytes.clone(), "t");
        let times = Ns(range.start)..Ns(range.end);
        let (_, sliced) = slice(input, times, "", |event, _| keep(event), Vec::new()).unwrap();
        let got = read(&mut Reader::from_bytes(sliced, "s").unwrap());
        [0, 1]
            .map(|cpu| {
                let seqs = got.events.iter().filter(|(e, _)| e.cpu == cpu).map(|(e, _)| e.seq);
                let (mut next, mut gaps) = (0, 0);
                for seq in seqs {
                    gaps += seq - next;
                    next = seq + 1;
                }
                gaps
            })
            .to_vec()
    };
    assert_eq!(gaps(0..1000, |_| true), [0, 2]);
    assert_eq!(gaps(0..1000, |event| event.at.0 % 5 == 1), [0, 2]);
    assert_eq!(gaps(300..700, |_| true), [0, 2]);
    assert_eq!(gaps(600..700, |_| true), [0, 0]);
    assert_eq!(gaps(0..500, |event| event.at.0 > 77), [0, 0]);
}

#[test]
fn the_same_slice_is_the_same_file() {
    let (_, bytes) = long();
    let cut = |label: &str| {
        let input = Input::bytes(bytes.clone(), "t");
        slice(input, Ns(0)..Ns(50), label, |_, _| true, Vec::new()).unwrap().1
    };
    assert_eq!(cut("a"), cut("a"));
    assert_ne!(cut("a"), cut("b"));
    let streamed = Input::stream(std::io::Cursor::new(bytes.clone()), "pipe");
    let (report, _) = slice(streamed, Ns(0)..Ns(50), "a", |_, _| true, Vec::new()).unwrap();
    assert_eq!(report.kept, 50);
}

#[test]
fn info_counts_without_decoding() {
    let (_, bytes) = long();
    let said = info(Input::bytes(bytes.clone(), "t")).unwrap();
    assert_eq!(said.events(), 1000);
    assert_eq!(said.count(FrameKind::Events).frames, 100);
    assert_eq!(said.count(FrameKind::Packets).rows, 334);
    assert_eq!(said.count(FrameKind::Facts).rows, 100);
    assert_eq!(said.times, Some((Ns(0), Ns(999))));
    assert_eq!(said.end.as_ref().map(|end| end.reason.as_str()), Some("test"));
    assert_eq!(said.manifest, Some(crate::made::manifest()));
    assert_eq!((said.file_bytes, said.lost_bytes), (bytes.len() as u64, 0));
    let frames: u64 = FrameKind::ALL.iter().map(|kind| said.count(*kind).stored).sum();
    assert_eq!(frames + said.index_bytes, said.file_bytes);
    let cut = info(Input::bytes(bytes[..bytes.len() / 2].to_vec(), "t")).unwrap();
    assert!(cut.lost_bytes > 0 && cut.end.is_none());
    let streamed = Input::stream(std::io::Cursor::new(bytes), "pipe");
    assert_eq!(info(streamed).unwrap(), said);
}

#[test]
fn frames_hold_no_more_than_they_should() {
    let events: Vec<Event> = (0..FRAME_EVENTS as u64 * 2 + 5).map(|at| plain(at, at)).collect();
    let bytes = archive("full", &batches(&events, 100_000), false);
    let said = info(Input::bytes(bytes, "t")).unwrap();
    assert_eq!(said.count(FrameKind::Events).frames, 3);
}
