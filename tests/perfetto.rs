//! `psc export --to perfetto`, read back by a decoder of its own: protocol buffers' wire format, and the field
//! numbers of Perfetto's published schema (`protos/perfetto/trace/trace_packet.proto`).
#![allow(missing_docs, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// One field: number, varint or fixed value, bytes of a message or string.
struct Field<'a> {
    number: u64,
    value: u64,
    bytes: &'a [u8],
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().expect("a varint ends");
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return value;
        }
    }
    panic!("a varint has at most ten bytes");
}

fn fields(mut bytes: &[u8]) -> Vec<Field<'_>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let (mut value, mut content) = (0, &[][..]);
        match key & 7 {
            0 => value = varint(&mut bytes),
            1 => {
                let (fixed, rest) = bytes.split_at(8);
                value = u64::from_le_bytes(fixed.try_into().unwrap());
                bytes = rest;
            }
            2 => {
                let len = varint(&mut bytes) as usize;
                (content, bytes) = bytes.split_at(len);
            }
            wire => panic!("wire type {wire} is not used"),
        }
        fields.push(Field { number: key >> 3, value, bytes: content });
    }
    fields
}

fn one<'a>(fields: &'a [Field<'a>], number: u64) -> Option<&'a Field<'a>> {
    fields.iter().find(|field| field.number == number)
}

fn text(field: Option<&Field<'_>>) -> String {
    field.map_or_else(String::new, |field| String::from_utf8(field.bytes.to_vec()).expect("UTF-8"))
}

fn psc(args: &[&str], recording: &Path) -> Vec<u8> {
    let (verb, options) = args.split_first().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_psc"));
    let out = command.arg(verb).arg(recording).args(options).arg("--quiet").output().expect("psc");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

#[test]
fn every_event_and_journey_is_on_its_track() {
    let recording =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/recordings/conversation.psc");
    let trace = psc(&["export", "--to", "perfetto", "-o", "-"], &recording);
    let lines = psc(&["export", "--to", "jsonl", "-o", "-"], &recording);
    let events = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    let view: serde_json::Value =
        serde_json::from_slice(&psc(&["trace", "--format", "json"], &recording)).unwrap();

    let mut tracks: BTreeMap<u64, (String, u64)> = BTreeMap::new();
    let mut names = BTreeSet::new();
    // By track: (time, place in the file, type).
    let mut on: BTreeMap<u64, Vec<(u64, usize, u64)>> = BTreeMap::new();
    let mut journeys = BTreeSet::new();
    for (place, packet) in fields(&trace).iter().enumerate() {
        assert_eq!(packet.number, 1, "a trace is packets");
        let packet = fields(packet.bytes);
        if let Some(track) = one(&packet, 60) {
            let track = fields(track.bytes);
            let parent = one(&track, 5).map_or(0, |field| field.value);
            assert!(parent == 0 || tracks.contains_key(&parent), "a parent comes first");
            let known =
                tracks.insert(one(&track, 1).unwrap().value, (text(one(&track, 2)), parent));
            assert_eq!(known, None, "a track is described once");
        }
        if let Some(interned) = one(&packet, 12) {
            for name in fields(interned.bytes).iter().filter(|field| field.number == 2) {
                names.insert(one(&fields(name.bytes), 1).unwrap().value);
            }
        }
        let Some(event) = one(&packet, 11) else { continue };
        let event = fields(event.bytes);
        let track = one(&event, 11).unwrap().value;
        assert!(tracks.contains_key(&track), "a track is described before its events");
        if let Some(name) = one(&event, 10) {
            assert!(names.contains(&name.value), "a name is told before it is used");
        }
        let kind = one(&event, 9).unwrap().value;
        let at = one(&packet, 8).unwrap().value;
        on.entry(track).or_default().push((at, place, kind));
        if text(one(&event, 22)) == "journey" {
            journeys.insert(one(&event, 47).unwrap().value);
        }
    }
    let group = |track: u64| tracks[&tracks[&track].1].0.as_str();
    let mut on_cpus = 0;
    for (track, events) in &mut on {
        // Perfetto sorts by time and keeps the file's order among equals.
        events.sort_unstable();
        let mut depth = 0_i64;
        for (.., kind) in events.iter() {
            depth += match kind {
                1 => 1,
                2 => -1,
                _ => 0,
            };
            assert!((0..=2).contains(&depth), "slices of {:?} nest", tracks[track].0);
        }
        assert_eq!(depth, 0, "slices of {:?} end", tracks[track].0);
        if group(*track) == "CPUs" {
            on_cpus += events.len();
        }
    }
    assert_eq!(on_cpus, events, "each event is on its CPU's track once");
    let total = view["journeys"]["total"].as_u64().unwrap();
    let told: BTreeSet<u64> =
        view["exemplars"].as_array().unwrap().iter().map(|j| j["id"].as_u64().unwrap()).collect();
    assert!(journeys.len() as u64 >= total && journeys.is_superset(&told), "{}", journeys.len());
    let flow = view["exemplars"][0]["flow"].as_str().unwrap();
    assert!(tracks.values().any(|(name, parent)| name == flow && tracks[parent].0 == "Flows"));
}
