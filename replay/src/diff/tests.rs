use psc_formats::event::SymbolId;
use psc_formats::fact::SymbolFact;
use psc_formats::manifest::{Layer, Probe, ProbeStatus};
use psc_formats::{Event, EventKind, Fact, Manifest};

use super::{Options, Profile, Side, common_probes, compare};
use crate::engine::{ClosedJourney, Observer, Outcome, Pass, World};
use crate::sample::{devices, event, journey};
use crate::view::diff::DiffView;

/// Which packets are dropped, by number.
type Drops = fn(u64) -> bool;

/// A step's times: a function of the packet's number and of random bits.
type Times = fn(u64, &mut u64) -> u64;

/// xorshift64*.
fn random(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

fn manifest(probes: &[&str]) -> Manifest {
    let probe = |name: &&str| Probe {
        name: (*name).to_owned(),
        layer: Layer::Link,
        status: ProbeStatus::Attached,
        ..Probe::default()
    };
    let mut manifest =
        Manifest { probes: probes.iter().map(probe).collect(), ..Manifest::default() };
    manifest.drop_reasons.insert(7, "NO_SOCKET".to_owned());
    manifest
}

/// A recording of `packets`: queued, sent after the time that `times` says, received 1 µs later;
/// those that `drops` names are then dropped.
fn recording(packets: u64, seed: u64, times: Times, drops: Drops) -> Vec<ClosedJourney> {
    let mut state = seed | 1;
    (0..packets)
        .map(|number| {
            let at = number * 1_000_000;
            let sent = at + times(number, &mut state);
            let mut steps: Vec<Event> = vec![
                event(at, EventKind::DeviceQueue {}).probe(0).device(1).into(),
                event(sent, EventKind::TransmitStart {}).probe(1).device(1).into(),
                event(sent + 1000, EventKind::Receive {}).probe(2).device(1).into(),
            ];
            let mut outcome = Outcome::Delivered;
            if drops(number) {
                let location = SymbolId(1);
                steps.push(
                    event(sent + 2000, EventKind::Free { reason: 7, location }).probe(3).into(),
                );
                outcome = Outcome::Dropped { reason: 7, location };
            }
            ClosedJourney { outcome, ..journey(number + 1, steps) }
        })
        .collect()
}

const PROBES: [&str; 4] = ["queue", "xmit", "receive", "free"];

fn diff_of(base: &[ClosedJourney], new: &[ClosedJourney], manifests: [&Manifest; 2]) -> DiffView {
    let common = common_probes(manifests[0], manifests[1]);
    let side = |journeys: &[ClosedJourney], manifest: &Manifest| {
        let mut tables = devices(&[(1, "eth0", 1)]);
        tables.apply(&Fact::Symbol(SymbolFact {
            id: 1,
            name: "tcp_v4_rcv.cold".to_owned(),
            ..SymbolFact::default()
        }));
        let mut profile = Profile::new(manifest, &common);
        for journey in journeys {
            profile.closed(World { manifest, tables: &tables, start: None }, journey);
        }
        Side { manifest: manifest.clone(), pass: Pass { tables, ..Pass::default() }, profile }
    };
    compare(side(base, manifests[0]), side(new, manifests[1]), &Options::default())
}

fn diff(base: &[ClosedJourney], new: &[ClosedJourney]) -> DiffView {
    let manifest = manifest(&PROBES);
    diff_of(base, new, [&manifest, &manifest])
}

fn even(_: u64, state: &mut u64) -> u64 {
    5_000 + random(state) % 4_000
}

/// Waits in bursts: sixty-four packets in a row share a delay, so they are no independent samples.
fn bursty(number: u64, state: &mut u64) -> u64 {
    let mut of_burst = (number / 64 + 1).wrapping_mul(*state | 1).wrapping_mul(0x9e37_79b9);
    // All packets of a burst draw the same: the state moves only with the burst.
    if number % 64 == 63 {
        random(state);
    }
    5_000 + random(&mut of_burst) % 40_000 + number % 7
}

fn never(_: u64) -> bool {
    false
}

#[test]
fn what_moved_is_told_and_nothing_else() {
    let base = recording(4_000, 1, even, never);
    #[rustfmt::skip]
    let cases: [(&str, Times, &[&str]); 5] = [
        ("the same",         even,                                                                &[]),
        ("a fifth slower",   |n, s| even(n, s) * 6 / 5,                                           &["slower"]),
        ("a third faster",   |n, s| even(n, s) * 2 / 3,                                           &["faster"]),
        ("below threshold",  |n, s| even(n, s) * 103 / 100,                                       &[]),
        ("one in fifty",     |n, s| even(n, s) + if n % 50 == 0 { 80_000 } else { 0 },            &["slower tail"]),
    ];
    for (name, times, expected) in cases {
        let view = diff(&base, &recording(4_000, 2, times, never));
        let changes: Vec<&str> = view.steps.iter().map(|step| step.change.as_str()).collect();
        assert_eq!(changes, expected, "{name}: {:?}", view.steps);
        assert!(view.drops.is_empty() && view.paths.is_empty(), "{name}");
        assert_eq!(view.steps_same + view.steps.len() as u64, 2, "{name}");
        assert_eq!(view.significant, expected.len() as u64, "{name}");
    }
}

#[test]
fn bursts_are_not_taken_for_a_change() {
    let calls = (0..60_u64).filter(|seed| {
        let base = recording(3_000, seed * 2 + 1, bursty, never);
        let new = recording(3_000, seed * 2 + 9_001, bursty, never);
        diff(&base, &new).significant > 0
    });
    // A test that takes packets for samples calls most of these; one in a hundred is allowed.
    let calls = calls.count();
    assert!(calls <= 3, "{calls} of 60 equal pairs are called different");
}

#[test]
fn drops_and_paths_that_are_new_gone_or_more() {
    #[rustfmt::skip]
    let cases: [(&str, Drops, Drops, &str, bool); 6] = [
        ("new",         never,           |n| n % 40 == 0,  "new",  true),
        ("one only",    never,           |n| n == 77,      "new",  false),
        ("a burst",     never,           |n| n / 30 == 9,  "new",  true),
        ("gone",        |n| n % 40 == 0, never,            "gone", true),
        ("more",        |n| n % 40 == 0, |n| n % 15 == 0,  "more", true),
        ("as before",   |n| n % 40 == 0, |n| n % 40 == 7,  "",     false),
    ];
    for (name, before, after, change, significant) in cases {
        let view = diff(&recording(3_000, 1, even, before), &recording(3_000, 2, even, after));
        let Some(row) = view.drops.first() else {
            assert_eq!((change, view.drops_same), ("", 1), "{name}");
            continue;
        };
        assert_eq!((row.change.as_str(), row.significant), (change, significant), "{name}");
        assert_eq!((row.reason.as_str(), row.function.as_str()), ("NO_SOCKET", "tcp_v4_rcv"));
        let dropped = |drops: Drops| (0..3_000).filter(|n| drops(*n)).count() as u64;
        assert_eq!((row.base, row.new), (dropped(before), dropped(after)), "{name}");
        let journeys = view.journeys;
        assert_eq!((journeys.base_dropped, journeys.new_dropped), (row.base, row.new));
        let more = if matches!(change, "gone") { before } else { after };
        assert_eq!(row.example, (0..3_000).find(|n| more(*n)).map(|n| n + 1), "{name}");
        let path = view.paths.iter().find(|path| path.outcome == "dropped: NO_SOCKET").unwrap();
        let word = match change {
            "new" => "appeared",
            "gone" => "vanished",
            other => other,
        };
        assert_eq!((path.change.as_str(), path.significant), (word, significant), "{name}");
    }
}

#[test]
fn only_what_both_can_see_is_compared() {
    let (all, fewer) = (manifest(&PROBES), manifest(&["queue", "gone", "receive", "free"]));
    let base = recording(2_000, 1, even, never);
    let new = recording(2_000, 2, even, never);
    let view = diff_of(&base, &new, [&all, &fewer]);
    assert_eq!(
        (view.common.only_base, view.common.only_new),
        (vec!["xmit".to_owned()], vec!["gone".to_owned()])
    );
    assert_eq!(
        (view.significant, view.paths.len(), view.paths_same),
        (0, 0, 1),
        "{:?}",
        view.paths
    );
    // From queue to receive is one step now.
    assert_eq!((view.steps.len(), view.steps_same), (0, 1));
}
