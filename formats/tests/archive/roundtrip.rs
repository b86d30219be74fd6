//! What is written comes back.

use std::io::Write;

use proptest::prelude::*;
use psc_formats::archive::{FRAME_EVENTS, Reader, Writer, create_file, is_archive};
use psc_formats::fact::{EndFact, Fact, RoutesFact};
use psc_formats::{Batch, Event, EventKind, EventSource, Ns};

use crate::made::{
    Read, any_event, archive, batches, facts, kind_from, manifest, plain, read, read_bytes, tags,
    with_packet,
};

fn expected(batches: &[Batch]) -> Read {
    let mut out = Read::default();
    for batch in batches {
        out.take(batch);
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 300 }))]

    #[test]
    fn any_events_come_back_as_they_were(
        events in prop::collection::vec(any_event(), 0..80),
        size in 1usize..80,
        flush in any::<bool>(),
    ) {
        let batches = batches(&events, size);
        let bytes = archive("any", &batches, flush);
        prop_assert!(is_archive(&bytes));
        let got = read_bytes(bytes);
        prop_assert_eq!(&got.events, &expected(&batches).events);
        prop_assert!(got.notices().is_empty(), "{:?}", got.notices());
    }

    #[test]
    fn batch_boundaries_leave_no_trace(
        events in prop::collection::vec(any_event(), 1..60),
        size in 1usize..20,
    ) {
        let whole = archive("same", &batches(&events, usize::MAX), false);
        let parts = archive("same", &batches(&events, size), false);
        prop_assert_eq!(whole, parts);
    }
}

#[test]
fn every_kind_comes_back_with_extreme_values() {
    let tuple = psc_formats::FiveTuple::from_words([u64::MAX, u64::MAX, 1, 0, 1 << 40]).unwrap();
    let events: Vec<Event> = tags()
        .flat_map(|tag| {
            [0, 1, u64::MAX, 1 << 63, 0x8000_0000].map(|raw| kind_from(tag, tuple, &[raw]))
        })
        .enumerate()
        .map(|(row, kind)| Event { kind, ..plain(row as u64, row as u64) })
        .collect();
    assert!(events.len() > 150);
    let got = read_bytes(archive("kinds", &batches(&events, 7), false));
    let kinds: Vec<EventKind> = got.events.iter().map(|(event, _)| event.kind).collect();
    assert_eq!(kinds, events.iter().map(|event| event.kind).collect::<Vec<_>>());
}

#[test]
fn facts_come_before_the_events_they_were_given_with() {
    let mut writer = Writer::new(Vec::new(), &manifest()).unwrap();
    for round in 0..5u32 {
        let mut batch = batches(&[plain(u64::from(round), u64::from(round))], 1).remove(0);
        batch.facts = facts(round * 10, 3);
        batch.complete_to = Some(Ns(u64::from(round)));
        writer.append(&batch).unwrap();
        writer.flush_frame().unwrap();
    }
    let end = EndFact {
        at: 5,
        reason: "signal".to_owned(),
        command_status: Some(3),
        ..EndFact::default()
    };
    let bytes = writer.finish(end.clone()).unwrap();

    let mut reader = Reader::from_bytes(bytes, "test").unwrap();
    assert_eq!(reader.manifest(), &manifest());
    let (mut batch, mut got) = (Batch::default(), Read::default());
    while got.events.len() < 5 {
        batch.clear();
        reader.fill(&mut batch).unwrap();
        got.take(&batch);
        for event in &batch.events {
            let fact = facts(event.at.0 as u32 * 10, 1).remove(0);
            assert!(got.facts.contains(&fact), "facts of batch {} are late", event.at.0);
            assert!(batch.complete_to.is_none_or(|to| to <= event.at), "promised too much");
        }
    }
    let rest = read(&mut reader);
    assert_eq!(rest.facts, [Fact::End(end)]);
}

#[test]
fn a_watermark_says_nothing_of_the_batch_that_is_only_half_written() {
    // The second batch fills a frame: that frame must not promise what the batch's end does.
    let first = Batch { events: vec![plain(0, 0)], complete_to: Some(Ns(1)), ..Batch::default() };
    let events = (1..FRAME_EVENTS as u64 + 10).map(|at| plain(at, at)).collect();
    let second = Batch { events, complete_to: Some(Ns(1 << 40)), ..Batch::default() };
    let bytes = archive("half", &[first, second], false);
    let mut reader = Reader::from_bytes(bytes, "test").unwrap();
    let mut promises = Vec::new();
    let mut batch = Batch::default();
    loop {
        batch.clear();
        let progress = reader.fill(&mut batch).unwrap();
        if !batch.events.is_empty() {
            promises.push(batch.complete_to);
        }
        if progress == psc_formats::Progress::End {
            break;
        }
    }
    assert_eq!(promises, [Some(Ns(1)), Some(Ns(1 << 40))]);
}

#[test]
fn a_fact_that_is_too_large_is_left_out_and_said_so() {
    let route = psc_formats::fact::Route {
        destination: [10, 0, 0, 0].into(),
        prefix: 8,
        gateway: None,
        device: "d".repeat(33 << 20),
        metric: 0,
    };
    let large =
        Fact::Routes(RoutesFact { at: 3, netns: 1, routes: vec![route], ..RoutesFact::default() });
    let batch = Batch { facts: vec![large], ..Batch::default() };
    let got = read_bytes(archive("large", &[batch], false));
    assert_eq!(got.notices().len(), 1);
    assert!(got.notices()[0].contains("routes fact of"), "{:?}", got.notices());
}

#[test]
fn a_packet_outside_its_batch_is_refused() {
    let mut batch = batches(&[with_packet(1, 0, 10)], 1).remove(0);
    batch.bytes.truncate(9);
    let mut writer = Writer::new(Vec::new(), &manifest()).unwrap();
    let error = writer.append(&batch).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn one_thread_and_four_read_the_same_from_a_file_and_from_a_pipe() {
    let events: Vec<Event> =
        (0..3 * FRAME_EVENTS as u64).map(|at| with_packet(at, at, at as u32 % 8)).collect();
    let batches = batches(&events, 1000);
    let bytes = archive("threads", &batches, false);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.psc");
    create_file(&path).unwrap().write_all(&bytes).unwrap();
    let want = expected(&batches).events;
    for threads in [1, 4] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let file = read(&mut Reader::open(&path).unwrap());
            let stream = std::fs::File::open(&path).unwrap();
            let pipe = read(&mut Reader::from_stream(stream, "pipe").unwrap());
            assert_eq!(file, pipe, "{threads} threads");
            assert_eq!(file.events, want, "{threads} threads");
        });
    }
}

#[test]
fn events_read_into_a_batch_that_is_not_empty_keep_their_packets() {
    let batches = batches(&[with_packet(1, 0, 10), with_packet(2, 1, 20)], 1);
    let mut reader = Reader::from_bytes(archive("append", &batches, true), "test").unwrap();
    let mut batch = Batch::default();
    while reader.fill(&mut batch).unwrap() == psc_formats::Progress::More {}
    let mut got = Read::default();
    got.take(&batch);
    assert_eq!(got.events, expected(&batches).events);
}

#[cfg(unix)]
#[test]
fn a_new_archive_is_private_and_never_through_a_symlink() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.psc");
    let file = create_file(&path).unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let error = create_file(&path).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    let link = dir.path().join("link.psc");
    std::os::unix::fs::symlink(dir.path().join("victim"), &link).unwrap();
    assert!(create_file(&link).is_err());
    assert!(!dir.path().join("victim").exists());
}

#[test]
fn what_is_no_archive_is_said_to_be_none() {
    for bytes in [&b""[..], b"\xd4\xc3\xb2\xa1 a pcap", &[0; 5000]] {
        let Err(error) = Reader::from_bytes(bytes.to_vec(), "x.psc") else {
            panic!("{bytes:?} was taken for an archive");
        };
        assert!(error.to_string().contains("not a psc archive"), "{error}");
    }
}
