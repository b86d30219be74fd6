//! Parts and wholes: segments, merges, fragments.

use super::*;
use crate::engine::{Edge, Evidence};

/// An IPv4 packet: identification, fragment offset (bytes) and whether more follow, protocol, what follows the
/// header. Addresses 10.0.0.1 to 10.0.0.`to`.
fn ipv4(id: u16, offset: u16, more: bool, to: u8, protocol: u8, rest: &[u8]) -> &'static [u8] {
    let [high, low] = ((20 + rest.len()) as u16).to_be_bytes();
    let flags = (offset / 8) | if more { 0x2000 } else { 0 };
    let mut bytes = vec![0x45, 0, high, low];
    bytes.extend(id.to_be_bytes());
    bytes.extend(flags.to_be_bytes());
    bytes.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, to]);
    bytes.extend(rest);
    bytes.leak()
}

/// 100 bytes of TCP payload at `seq`.
fn tcp(seq: u32) -> &'static [u8] {
    let mut rest = vec![0, 80, 0x30, 0x39];
    rest.extend(seq.to_be_bytes());
    rest.extend([0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    rest.extend([7; 100]);
    ipv4(1, 0, false, 2, 6, &rest)
}

fn udp(id: u16, offset: u16, more: bool, to: u8) -> &'static [u8] {
    let first: &[u8] = &[0x30, 0x39, 0, 53, 1, 0x28, 0, 0];
    let mut rest = if offset == 0 { first.to_vec() } else { Vec::new() };
    rest.resize(96, 5);
    ipv4(id, offset, more, to, 17, &rest)
}

const PREPARE: u32 = 30;

#[test]
fn gro_merges_are_told_by_sequence() {
    let mut stretch = Stretch::new();
    let arrive = |skb, seq| Seen { skb, len: 140, packet: Some(tcp(seq)), iif: 1, ..SEEN };
    for (skb, seq) in [(1, 1000), (2, 1100), (3, 1200), (4, 1300)] {
        stretch.see(arrive(skb, seq), EventKind::GroReceive {});
    }
    // The first goes on with the payload of three; the fourth by itself.
    for (skb, len) in [(1, 340), (4, 140)] {
        stretch.see(Seen { skb, len, iif: 1, ..SEEN }, EventKind::Receive {});
    }
    let journeys = stretch.end();
    let expected = [vec![], vec![(Lineage::Merged, journeys[0].id)]];
    for (journey, expected) in journeys.iter().zip([0, 1, 1, 0].map(|index| &expected[index])) {
        assert_eq!(&joined(journey), expected, "{:?}", journey.id);
        let outcome =
            if expected.is_empty() { Outcome::EndNotObserved } else { Outcome::Delivered };
        assert_eq!(journey.outcome, outcome);
    }
}

#[test]
fn a_segment_on_an_old_address_is_no_later_step_of_what_was_there() {
    let mut stretch = Stretch::new();
    // Received, read without a probe: its address is free, and nobody was told.
    stretch.see(Seen { skb: 20, iif: 1, ..SEEN }, EventKind::Receive {});
    stretch.see(Seen { gso: 1448, ..SEEN }, EventKind::DeviceQueue {});
    stretch.see(Seen { gso: 1448, ..SEEN }, consume(0));
    for skb in [20, 21] {
        assert!(!stretch.see(Seen { skb, ..SEEN }, EventKind::TransmitStart {}).1);
        stretch.see(Seen { skb, ..SEEN }, EventKind::TransmitDone { rc: 0 });
    }
    // What this CPU sends next, past the queue, is nobody's segment.
    stretch.see(Seen { skb: 22, ..SEEN }, EventKind::DeviceQueue {});
    stretch.see(Seen { skb: 23, ..SEEN }, EventKind::TransmitStart {});
    let journeys = stretch.end();
    assert_eq!(kinds(&journeys[0]), ["Receive"]);
    let parent = (Lineage::Segment, journeys[1].id);
    assert_eq!([joined(&journeys[2]), joined(&journeys[3])], [[parent], [parent]]);
    assert!(joined(&journeys[5]).is_empty());
    assert_eq!(journeys[5].ambiguous, Some(Ambiguity::BirthNotObserved));
}

#[test]
fn fragments_are_joined_and_reassembled_into_the_last() {
    let mut stretch = Stretch::new();
    stretch.tables.apply(&Fact::Symbol(SymbolFact {
        id: PREPARE,
        name: "inet_frag_reasm_prepare".to_owned(),
        ..SymbolFact::default()
    }));
    let arrive = |skb, offset, more| Seen {
        skb,
        len: 116,
        packet: Some(udp(9, offset, more, 2)),
        iif: 1,
        content: u32::from(offset) + 1,
        ..SEEN
    };
    stretch.see(arrive(1, 0, true), EventKind::Receive {});
    stretch.see(arrive(2, 96, true), EventKind::Receive {});
    // Of another datagram.
    stretch.see(
        Seen { packet: Some(udp(8, 0, true, 2)), ..arrive(4, 0, true) },
        EventKind::Receive {},
    );
    stretch.see(arrive(3, 192, false), EventKind::Receive {});
    let freed = consume(PREPARE);
    stretch.see(Seen { len: 96, packet: None, ..arrive(1, 0, true) }, freed);
    // Sent on, translated, as fragments again: the last one's skb is the first now.
    let sent = |skb, offset, more| Seen {
        packet: Some(udp(9, offset, more, 3)),
        ..arrive(skb, offset, more)
    };
    stretch.see(sent(3, 0, true), EventKind::DeviceQueue {});
    stretch.see(sent(2, 96, true), EventKind::DeviceQueue {});
    stretch.see(sent(5, 192, false), EventKind::DeviceQueue {});
    let journeys = stretch.end();
    let ids: Vec<JourneyId> = journeys.iter().map(|journey| journey.id).collect();
    let of = |index: usize| joined(&journeys[index]);
    use Lineage::{Fragment, Reassembled};
    // By number: fragments 1, 2, the stranger, fragment 3, and the one cut anew.
    assert_eq!(of(0), [(Reassembled, ids[3])]);
    let second = [(Fragment, ids[0]), (Reassembled, ids[3]), (Fragment, ids[3])];
    assert_eq!(of(1), second);
    assert_eq!(of(2), []);
    assert_eq!(of(3), [(Fragment, ids[0])]);
    assert_eq!((of(4), journeys[4].ambiguous), (vec![(Fragment, ids[3])], None));
    assert_eq!(journeys[0].outcome, Outcome::Delivered);
}

#[test]
fn a_forwarded_packet_is_whole_to_its_fragments() {
    let mut stretch = Stretch::new();
    let whole = ipv4(9, 0, false, 2, 17, &[1; 192]);
    stretch.see(Seen { skb: 1, packet: Some(whole), iif: 1, ..SEEN }, EventKind::Receive {});
    for (skb, offset, more) in [(2, 0, true), (3, 96, false)] {
        let part = Seen { skb, packet: Some(udp(9, offset, more, 2)), iif: 1, ..SEEN };
        stretch.see(part, EventKind::DeviceQueue {});
    }
    stretch.see(Seen { skb: 1, iif: 1, ..SEEN }, consume(0));
    let journeys = stretch.end();
    for part in &journeys[1..] {
        assert_eq!(joined(part), [(Lineage::Fragment, journeys[0].id)]);
        assert_eq!(part.ambiguous, None);
    }
}

#[test]
fn one_identification_for_two_datagrams_is_ambiguous() {
    let mut stretch = Stretch::new();
    let arrive =
        |skb, offset, more| Seen { skb, packet: Some(udp(9, offset, more, 2)), iif: 1, ..SEEN };
    // The first never completes; the second begins with its identification.
    stretch.see(arrive(1, 0, true), EventKind::Receive {});
    stretch.see(arrive(2, 0, true), EventKind::Receive {});
    stretch.see(arrive(3, 96, false), EventKind::Receive {});
    let journeys = stretch.end();
    assert_eq!(journeys[1].ambiguous, Some(Ambiguity::SameIdentification));
    assert_eq!(joined(&journeys[2]), [(Lineage::Fragment, journeys[1].id)]);
}

#[test]
fn what_a_probe_saw_is_observed() {
    let mut stretch = Stretch::new();
    let gso = Seen { gso: 1448, ..SEEN };
    stretch.see(gso, EventKind::DeviceQueue {});
    stretch.see(gso, EventKind::Segmented { child: SkbAddr(20) });
    stretch.see(gso, consume(0));
    stretch.see(Seen { skb: 20, ..SEEN }, EventKind::TransmitStart {});
    stretch.see(Seen { skb: 21, iif: 1, ..SEEN }, EventKind::GroReceive {});
    stretch.see(Seen { skb: 22, iif: 1, ..SEEN }, EventKind::GroReceive {});
    stretch.see(Seen { skb: 22, iif: 1, ..SEEN }, EventKind::Merged { into: SkbAddr(21) });
    let journeys = stretch.end();
    let edge = |how, of: usize| Edge { how, of: journeys[of].id, evidence: Evidence::Observed };
    assert_eq!(journeys[1].lineage, [edge(Lineage::Segment, 0)]);
    assert_eq!(journeys[3].lineage, [edge(Lineage::Merged, 2)]);
}
