//! Two hosts recorded separately, one clock off by a known amount: merged, the offset is found within its own
//! bounds, and what one sent is joined with what the other received.

use std::fs;
use std::path::Path;
use std::process::Command;

use psc_formats::archive::{RecordingId, Writer};
use psc_formats::event::DeviceId;
use psc_formats::fact::{EndFact, LossFact};
use psc_formats::open::open;
use psc_formats::{Batch, EventKind, EventSource, Fact, Ns, Progress};
use serde_json::Value;

/// Nanoseconds that the second host's clock is ahead by.
const AHEAD: i64 = 5_123_456_789;

fn psc(dir: &Path, args: &[&str]) -> Vec<u8> {
    let out = Command::new(env!("CARGO_BIN_EXE_psc")).current_dir(dir).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(matches!(out.status.code(), Some(0 | 1)), "{args:?}: {said}");
    out.stdout
}

/// Everything of a recording.
fn all(path: &Path) -> (psc_formats::Manifest, Batch) {
    let mut source = open(path).unwrap();
    let (mut all, mut batch) = (Batch::default(), Batch::default());
    loop {
        batch.clear();
        let progress = source.fill(&mut batch).unwrap();
        let shift = all.bytes.len() as u32;
        for mut event in batch.events.drain(..) {
            if let Some(packet) = &mut event.packet {
                packet.offset += shift;
            }
            all.events.push(event);
        }
        all.bytes.append(&mut batch.bytes);
        all.facts.append(&mut batch.facts);
        if progress == Progress::End {
            return (source.manifest().clone(), all);
        }
    }
}

/// What one of the two hosts (namespaces) of a recording would have recorded alone.
fn one_host(path: &Path, netns: &str, ahead: i64, to: &Path) -> usize {
    let (mut manifest, whole) = all(path);
    let devices: Vec<DeviceId> = whole
        .facts
        .iter()
        .filter_map(|fact| match fact {
            Fact::Device(device) if device.netns_name.ends_with(netns) => Some(DeviceId(device.id)),
            _ => None,
        })
        .collect();
    let moved = |at: u64| at.saturating_add_signed(ahead);
    let mut own = Batch { bytes: whole.bytes, ..Batch::default() };
    for fact in whole.facts {
        match fact {
            Fact::End(_) | Fact::Loss(_) | Fact::Clock(_) => {}
            Fact::Device(device) if !device.netns_name.ends_with(netns) => {}
            other => own.facts.push(other),
        }
    }
    own.facts.push(Fact::Loss(LossFact {
        written: vec![1],
        ring_full: vec![0],
        ..LossFact::default()
    }));
    let mut seqs = std::collections::BTreeMap::new();
    // The recorder takes a packet's bytes once, on either host; two recorders take them twice.
    let mut bytes = std::collections::BTreeMap::new();
    let mut told = std::collections::BTreeSet::new();
    for mut event in whole.events {
        if let Some(packet) = event.packet {
            bytes.insert(event.skb, packet);
        }
        if !devices.contains(&event.device) {
            told.remove(&event.skb);
            continue;
        }
        if told.insert(event.skb) && event.skb.0 > 0 && event.packet.is_none() {
            event.packet = bytes.get(&event.skb).copied();
        }
        let seq = seqs.entry(event.cpu).or_insert(0);
        event.seq = *seq;
        *seq += 1;
        event.at = Ns(moved(event.at.0));
        own.events.push(event);
    }
    let events = own.events.len();
    netns.clone_into(&mut manifest.host.name);
    // Neither clock knows UTC: only causality can tell.
    manifest.clock = psc_formats::manifest::Clock {
        kind: psc_formats::manifest::ClockKind::Monotonic,
        ..Default::default()
    };
    let id = RecordingId::derived(&[netns.as_bytes()]);
    let mut writer = Writer::derived(fs::File::create(to).unwrap(), &manifest, id, &[]).unwrap();
    writer.append(&own).unwrap();
    writer.finish(EndFact::default()).unwrap();
    events
}

#[test]
fn the_offset_is_found_within_its_bounds_and_packets_are_joined() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let both = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/recordings/conversation.psc");
    let client = one_host(&both, "client", 0, &dir.join("client.psc"));
    let server = one_host(&both, "server", AHEAD, &dir.join("server.psc"));
    assert!(client > 20 && server > 20, "{client} {server}");

    let said = psc(dir, &["merge", "client.psc", "server.psc", "-o", "m.psc", "--format", "json"]);
    let said: Value = serde_json::from_slice(&said).unwrap();
    let row = &said["recordings"][1];
    let number = |name: &str| row[name].as_i64().unwrap_or_else(|| panic!("{name}: {row}"));
    assert!(number("lower_ns") <= -AHEAD && -AHEAD <= number("upper_ns"), "{row}");
    assert!(
        (number("offset_ns") + AHEAD).unsigned_abs() <= number("uncertainty_ns") as u64,
        "{row}"
    );
    assert!(number("uncertainty_ns") < 10_000_000, "tight: {row}");
    assert!(number("packets_there") > 2 && number("packets_back") > 2, "{row}");
    assert_eq!(row["contradicts"], false);

    // One recording, whole and in order, made from both.
    let told = psc(dir, &["verify", "m.psc", "--parent", "client.psc", "--parent", "server.psc"]);
    assert!(String::from_utf8(told).unwrap().contains("closed"));
    let (manifest, merged) = all(&dir.join("m.psc"));
    let joints: Vec<_> = merged
        .events
        .iter()
        .filter_map(|event| match event.kind {
            EventKind::Handed { child, arrival, .. } => Some((Ns(arrival), child)),
            _ => None,
        })
        .collect();
    assert_eq!(merged.events.len(), client + server + joints.len());
    assert_eq!(joints.len() as i64, number("joined"));
    for (at, child) in &joints {
        let first = merged.events.iter().filter(|event| event.skb == *child && event.at == *at);
        assert_eq!(first.count(), 1, "what left came nowhere");
    }
    // Each of them is one journey where the two recordings had one each.
    let journeys = |path: &str| {
        let view: Value =
            serde_json::from_slice(&psc(dir, &["trace", path, "--format", "json"])).unwrap();
        view["journeys"]["total"].as_u64().unwrap()
    };
    let apart = journeys("client.psc") + journeys("server.psc");
    assert_eq!(journeys("m.psc"), apart - joints.len() as u64);
    assert_eq!(manifest.host.name, "client + server");
    let info: Value =
        serde_json::from_slice(&psc(dir, &["info", "m.psc", "--format", "json"])).unwrap();
    assert_eq!(info["provenance"]["origin"], "merge");
    assert_eq!(
        info["provenance"]["completeness"]["sequence_gaps"], 0,
        "ids and numbers stay whole"
    );
    let notices = info["provenance"]["notices"].to_string();
    assert!(notices.contains("by causality between"), "{notices}");

    // The other way round the offset is the opposite.
    let said = psc(dir, &["merge", "server.psc", "client.psc", "-o", "n.psc", "--format", "json"]);
    let said: Value = serde_json::from_slice(&said).unwrap();
    let back = said["recordings"][1]["offset_ns"].as_i64().unwrap();
    assert!((back - AHEAD).unsigned_abs() <= number("uncertainty_ns") as u64 + 1, "{back}");
}
