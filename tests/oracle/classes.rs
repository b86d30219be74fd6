//! Compares, and says why two opinions differ.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use psc_replay::analyzer::{TcpJudgement, TcpKind, TcpRule};
use psc_replay::view::analyze::FlowRow;
use psc_replay::view::tcp::TcpEnd;

use super::ours::Ours;
use super::tcptrace::Connection;
use super::tshark::Packet;
use super::{Difference, Tally, name};

/// Opinions of the same name and meaning on both sides.
const SAME: &[(TcpKind, &str)] = &[
    (TcpKind::DuplicateAck, "duplicate_ack"),
    (TcpKind::ZeroWindow, "zero_window"),
    (TcpKind::WindowProbe, "zero_window_probe"),
    (TcpKind::WindowProbeAck, "zero_window_probe_ack"),
    (TcpKind::WindowFull, "window_full"),
    (TcpKind::WindowUpdate, "window_update"),
    (TcpKind::KeepAlive, "keep_alive"),
    (TcpKind::KeepAliveAck, "keep_alive_ack"),
    (TcpKind::PreviousNotCaptured, "lost_segment"),
    (TcpKind::AckedUnseen, "ack_lost_segment"),
    (TcpKind::PortsReused, "reused_ports"),
];

fn order_of(notes: &[TcpJudgement]) -> (&'static str, Option<&TcpJudgement>) {
    for note in notes {
        let word = match note.kind {
            TcpKind::RetransmitFast => "fast",
            TcpKind::RetransmitSpurious => "spurious",
            TcpKind::OutOfOrder => "out of order",
            TcpKind::CapturedTwice => "captured twice",
            TcpKind::RetransmitTimeout | TcpKind::RetransmitTail | TcpKind::RetransmitUnclear => {
                "retransmission"
            }
            _ => continue,
        };
        return (word, Some(note));
    }
    ("new", None)
}

fn order_by_tshark(packet: &Packet) -> &'static str {
    let words = [
        ("fast_retransmission", "fast"),
        ("spurious_retransmission", "spurious"),
        ("out_of_order", "out of order"),
        ("retransmission", "retransmission"),
    ];
    words.iter().find(|(flag, _)| packet.has(flag)).map_or("new", |(_, word)| word)
}

/// Packet by packet.
pub(crate) fn packets(
    tally: &mut Tally,
    capture: &Path,
    ours: &Ours,
    theirs: &BTreeMap<u64, Packet>,
) {
    let none = (0, Vec::new());
    // Once the two have taken different packets for parts of a stream, what follows differs with it.
    let mut parted: BTreeSet<u64> = BTreeSet::new();
    let mut streams: BTreeMap<u64, u64> = BTreeMap::new();
    // Streams of which packets were captured twice: what follows repeats them for tshark.
    let mut doubled: BTreeSet<u64> = BTreeSet::new();
    for (&number, packet) in theirs {
        let (flow, notes) = ours.notes.get(&number).unwrap_or(&none);
        let odd = packet.nested || !ours.tcp.contains(&number) || ours.odd.contains(&number);
        if odd {
            parted.insert(packet.stream);
        }
        if *flow > 0 && *streams.entry(packet.stream).or_insert(*flow) != *flow {
            // One stream to tshark, two connections to psc.
            parted.insert(packet.stream);
        }
        let twice = notes.iter().any(|note| note.kind == TcpKind::CapturedTwice);
        if twice {
            doubled.insert(packet.stream);
        }
        let twice_before = doubled.contains(&packet.stream);
        let before = if ours.disordered {
            "packets not in order of time"
        } else if odd || parted.contains(&packet.stream) {
            "different packets"
        } else {
            ""
        };
        let differ = |tally: &mut Tally, what: &str, words: [&str; 2], class: &'static str| {
            let difference = Difference {
                tool: "tshark",
                what: what.to_owned(),
                ours: words[0].to_owned(),
                theirs: words[1].to_owned(),
                class: if before.is_empty() { class } else { before },
            };
            tally.differ(difference, || format!("{}:{number}", name(capture)));
        };
        let (mine, note) = order_of(notes);
        let other = order_by_tshark(packet);
        if mine == other {
            tally.agree("tshark", "order");
        } else {
            let mine = note.map_or(mine.to_owned(), |note| format!("{mine} ({:?})", note.rule));
            differ(tally, "order", [&mine, other], order_class(note, other, twice_before));
        }
        for &(kind, flag) in SAME {
            let (mine, other) = (notes.iter().any(|note| note.kind == kind), packet.has(flag));
            if mine == other {
                if mine {
                    tally.agree("tshark", flag);
                }
            } else {
                let word = |said: bool| if said { "yes" } else { "no" };
                let class = flag_class(kind, mine, twice_before);
                differ(tally, flag, [word(mine), word(other)], class);
            }
        }
    }
}

/// Why psc and tshark order a segment differently; empty when it is not known.
fn order_class(note: Option<&TcpJudgement>, other: &str, twice_before: bool) -> &'static str {
    use TcpRule as R;
    let Some(note) = note else {
        // Wireshark calls a segment that starts one below the next a retransmission only if short.
        return "";
    };
    match (note.kind, note.rule, other) {
        (TcpKind::CapturedTwice, ..) => "captured twice",
        _ if twice_before => "captured twice",
        (TcpKind::RetransmitFast, R::SackAbove, _) => "SACK asked for it",
        (TcpKind::RetransmitFast, R::PartialAck, _) => "partial ACK asked for it",
        (TcpKind::RetransmitFast, R::DuplicateAcks, _) => "duplicate ACKs asked for it",
        (TcpKind::OutOfOrder, R::OlderTimestamp | R::OlderIdentification, _) => {
            "sender's own order"
        }
        (TcpKind::OutOfOrder, R::SoonerThanRoundTrip, _) => "sooner than a round trip",
        (kind, R::NewerTimestamp | R::NewerIdentification, _) if kind.is_retransmission() => {
            "sender's own order"
        }
        (kind, _, "out of order") if kind.is_retransmission() => "bytes seen before",
        (kind, _, "fast") if kind.is_retransmission() => "fewer than three duplicate ACKs",
        _ => "",
    }
}

fn flag_class(kind: TcpKind, mine: bool, twice_before: bool) -> &'static str {
    match (kind, mine) {
        _ if twice_before => "captured twice",
        (TcpKind::AckedUnseen, false) => "hole filled later",
        (TcpKind::AckedUnseen, true) => "each ACK by itself",
        (TcpKind::WindowUpdate | TcpKind::DuplicateAck, false) => "no ACK before",
        _ => "",
    }
}

/// A figure of tcptrace, and ours.
struct Figure {
    column: &'static str,
    ours: fn(&FlowRow, &TcpEnd, usize) -> f64,
    /// How far apart still agrees: absolute, and relative to theirs.
    within: (f64, f64),
}

const FIGURES: &[Figure] = &[
    Figure {
        column: "total_packets",
        ours: |row, end, from| packets_of(row, from) + end.captured_twice as f64,
        within: (0.0, 0.0),
    },
    Figure { column: "resets_sent", ours: |_, end, _| end.resets as f64, within: (0.0, 0.0) },
    Figure { column: "pure_acks_sent", ours: |_, end, _| end.pure_acks as f64, within: (0.0, 0.0) },
    Figure {
        column: "actual_data_pkts",
        ours: |_, end, _| end.data_packets as f64,
        within: (0.0, 0.0),
    },
    Figure {
        column: "actual_data_bytes",
        ours: |_, end, _| end.data_bytes as f64,
        within: (0.0, 0.0),
    },
    Figure {
        column: "unique_bytes_sent",
        ours: |_, end, _| end.unique_bytes as f64,
        within: (0.0, 0.0),
    },
    Figure {
        column: "rexmt_data_pkts",
        ours: |_, end, _| end.resent_packets as f64,
        within: (0.0, 0.0),
    },
    Figure {
        column: "rexmt_data_bytes",
        ours: |_, end, _| end.resent_bytes as f64,
        within: (0.0, 0.0),
    },
    Figure {
        column: "outoforder_pkts",
        ours: |_, end, _| end.filled_packets as f64,
        within: (0.0, 0.0),
    },
    Figure {
        column: "zero_win_adv",
        ours: |_, end, _| end.zero_windows as f64,
        within: (0.0, 0.0),
    },
    Figure {
        column: "mss_requested",
        ours: |_, end, _| end.mss.map_or(0.0, f64::from),
        within: (0.0, 0.0),
    },
    Figure { column: "max_win_adv", ours: |_, end, _| end.max_window as f64, within: (0.0, 0.0) },
    Figure {
        column: "idletime_max",
        ours: |_, end, _| end.max_idle_ns as f64 / 1e6,
        within: (0.11, 0.0),
    },
    Figure { column: "RTT_samples", ours: |_, end, _| end.rtt.samples as f64, within: (0.0, 0.0) },
    Figure { column: "RTT_min", ours: |_, end, _| end.rtt.min as f64 / 1e6, within: (0.11, 0.0) },
    Figure { column: "RTT_max", ours: |_, end, _| end.rtt.max as f64 / 1e6, within: (0.11, 0.0) },
    Figure { column: "RTT_avg", ours: |_, end, _| end.rtt.mean as f64 / 1e6, within: (0.11, 0.01) },
    Figure {
        column: "ambiguous_acks",
        ours: |_, end, _| end.rtt_ambiguous as f64,
        within: (0.0, 0.0),
    },
    Figure {
        column: "throughput",
        ours: |row, end, _| end.unique_bytes as f64 * 1e9 / row.duration_ns.max(1) as f64,
        within: (1.0, 0.01),
    },
];

fn packets_of(row: &FlowRow, from: usize) -> f64 {
    [row.packets.0, row.packets.1][from] as f64
}

/// Connection by connection.
pub(crate) fn connections(tally: &mut Tally, capture: &Path, ours: &Ours, theirs: &[Connection]) {
    let mut waiting: BTreeMap<[String; 2], Vec<&FlowRow>> = BTreeMap::new();
    let key = |a: &str, b: &str| {
        let mut ends = [a.to_owned(), b.to_owned()];
        ends.sort();
        ends
    };
    for row in ours.flows.values().rev().filter(|row| row.tcp.is_some()) {
        waiting.entry(key(&row.originator, &row.responder)).or_default().push(row);
    }
    let mut numbers: BTreeMap<[String; 2], usize> = BTreeMap::new();
    for connection in theirs {
        let [a, b] = &connection.ends;
        *numbers.entry(key(a, b)).or_default() += 1;
    }
    for connection in theirs {
        let [a, b] = &connection.ends;
        let ends = key(a, b);
        let same = waiting.get(&ends).map_or(0, Vec::len);
        let Some(row) = waiting.get_mut(&ends).and_then(Vec::pop) else { continue };
        let Some(sheet) = &row.tcp else { continue };
        let split = same != numbers[&ends];
        let turned = *a != row.originator;
        for from in [0, 1] {
            let ends = [&sheet.originator, &sheet.responder];
            let (end, peer) = (ends[from], ends[1 - from]);
            for figure in FIGURES {
                let mine = (figure.ours)(row, end, from);
                let Some(other) =
                    connection.get(figure.column, if turned { 1 - from } else { from })
                else {
                    continue;
                };
                let slack = figure.within.0 + figure.within.1 * other.abs();
                if (mine - other).abs() <= slack {
                    if other > 0.0 {
                        tally.agree("tcptrace", figure.column);
                    }
                    continue;
                }
                let class = if split {
                    "connections cut differently"
                } else {
                    figure_class(figure.column, row, [end, peer], mine, other)
                };
                let difference = Difference {
                    tool: "tcptrace",
                    what: figure.column.to_owned(),
                    ours: if mine > other { "more" } else { "less" }.to_owned(),
                    theirs: String::new(),
                    class,
                };
                tally.differ(difference, || {
                    format!("{} {a} {b} from {from}: {mine} against {other}", name(capture))
                });
            }
        }
    }
}

fn figure_class(
    column: &str,
    row: &FlowRow,
    [end, peer]: [&TcpEnd; 2],
    mine: f64,
    other: f64,
) -> &'static str {
    let midstream = !row.tcp.as_ref().is_some_and(|tcp| tcp.history.starts_with('S'));
    match column {
        _ if end.captured_twice > 0 => "captured twice",
        "mss_requested" if other > 65_535.0 => "tcptrace prints it signed",
        "rexmt_data_pkts" | "rexmt_data_bytes" | "actual_data_pkts" | "actual_data_bytes"
            if mine < other && end.keep_alives + end.window_probes > 0 =>
        {
            "keep-alive or probe byte"
        }
        "rexmt_data_pkts" | "rexmt_data_bytes" if mine < other && end.retransmissions > 0 => {
            "SYN or FIN again"
        }
        "idletime_max" | "max_win_adv" if midstream => "beginning not captured",
        "max_win_adv" if mine > other && end.window_scale.is_some() => "window of the SYN",
        "RTT_samples" | "RTT_min" | "RTT_max" | "RTT_avg" if mine < other && peer.resets > 0 => {
            "a reset acknowledges nothing"
        }
        "actual_data_pkts" | "actual_data_bytes" | "unique_bytes_sent" | "rexmt_data_pkts"
        | "rexmt_data_bytes"
            if mine < other && end.resets > 0 =>
        {
            "text in a reset"
        }
        "actual_data_pkts" | "actual_data_bytes" | "unique_bytes_sent"
            if mine > other && mine > 65_535.0 =>
        {
            "BIG TCP"
        }
        "idletime_max" if row.packets.0.min(row.packets.1) < 2 => "one packet has no interval",
        "RTT_samples" | "RTT_min" | "RTT_max" | "RTT_avg" | "ambiguous_acks"
            if end.retransmissions + end.out_of_order + end.filled_packets > 0 =>
        {
            "what makes an ACK ambiguous"
        }
        _ => "",
    }
}
