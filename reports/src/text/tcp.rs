//! One connection in detail.

use std::fmt::{self, Write};

use psc_replay::view::Provenance;
use psc_replay::view::analyze::FlowRow;
use psc_replay::view::tcp::{TcpEnd, TcpSheet};

use super::table::{Table, number, short, words};
use super::{Ink, Style, heading, omitted, or_dash, preamble};
use crate::{escape, units};

/// A connection: who, how it went, what each end sent, and each judgement with its rule.
pub fn connection(
    provenance: &Provenance,
    flow: &FlowRow,
    style: Style,
    out: &mut impl Write,
) -> fmt::Result {
    preamble(provenance, style, out)?;
    let title = format!(
        "Connection {}: {} {} > {}",
        flow.id,
        escape::terminal(&flow.protocol),
        escape::terminal(&flow.originator),
        escape::terminal(&flow.responder)
    );
    heading(&title, style, out)?;
    let mut line = |name: &str, value: String| {
        if value.is_empty() { Ok(()) } else { writeln!(out, "  {name:<10} {value}") }
    };
    let first = units::offset(flow.first, provenance.first);
    line("began", format!("{first}, lasted {}", units::duration(flow.duration_ns)))?;
    line(
        "packets",
        format!("{} ->, {} <-", units::count(flow.packets.0), units::count(flow.packets.1)),
    )?;
    line("bytes", format!("{} ->, {} <-", units::bytes(flow.bytes.0), units::bytes(flow.bytes.1)))?;
    line("drops", if flow.drops > 0 { units::count(flow.drops) } else { String::new() })?;
    line("process", escape::terminal(&flow.process).into_owned())?;
    let Some(sheet) = &flow.tcp else { return Ok(()) };
    let state = escape::terminal(&flow.state);
    let mut ended = format!("{} ({state}, {})", sheet.ended, escape::terminal(&sheet.history));
    if let Some(packet) = sheet.reset_by_packet {
        let what = if sheet.notes.iter().any(|note| note.journey == Some(packet)) {
            "journey"
        } else {
            "packet"
        };
        let _ = write!(ended, ", reset in {what} {packet}");
    }
    line("ended", ended)?;
    line("handshake", handshake(flow, sheet))?;
    ends(sheet, style, out)?;
    notes(provenance, sheet, style, out)
}

fn handshake(flow: &FlowRow, sheet: &TcpSheet) -> String {
    let part = |ns: Option<u64>| ns.map_or_else(|| "?".to_owned(), units::duration);
    match (flow.handshake_rtt_ns, sheet.rtt_to_responder_ns, sheet.rtt_to_originator_ns) {
        (None, None, None) => {
            "round trip not measured: a part is missing or was sent twice".to_owned()
        }
        (whole, there, back) => format!(
            "round trip {}: {} from here to the responder, {} to the originator",
            part(whole),
            part(there),
            part(back)
        ),
    }
}

/// A figure of both ends, left out when it is nothing on both.
type Figure = (&'static str, fn(&TcpEnd) -> String);

fn counted(value: u64) -> String {
    if value == 0 { String::new() } else { units::count(value) }
}

fn rtt(end: &TcpEnd, pick: fn(&TcpEnd) -> u64) -> String {
    if end.rtt.samples == 0 { String::new() } else { units::duration(pick(end)) }
}

#[rustfmt::skip]
const FIGURES: &[Figure] = &[
    ("data packets",                   |e| counted(e.data_packets)),
    ("data bytes, each once",          |e| if e.unique_bytes == 0 { String::new() } else { units::bytes(e.unique_bytes) }),
    ("throughput",                     |e| e.throughput.map(|rate| units::bit_rate(rate, 1_000_000_000)).unwrap_or_default()),
    ("retransmissions",                |e| counted(e.retransmissions)),
    ("  after a timeout",              |e| counted(e.retransmissions_timeout)),
    ("  fast (duplicate ACKs, SACK)",  |e| counted(e.retransmissions_fast)),
    ("  tail loss probes",             |e| counted(e.retransmissions_tail)),
    ("  spurious (ACK had passed)",    |e| counted(e.retransmissions_spurious)),
    ("  for no reason seen here",      |e| counted(e.retransmissions_unclear)),
    ("bytes seen again",               |e| if e.resent_bytes == 0 { String::new() } else { units::bytes(e.resent_bytes) }),
    ("told the peer it got it twice",  |e| counted(e.dsacks)),
    ("out of order",                   |e| counted(e.out_of_order)),
    ("captured twice",                 |e| counted(e.captured_twice)),
    ("pure ACKs",                      |e| counted(e.pure_acks)),
    ("duplicate ACKs",                 |e| counted(e.duplicate_acks)),
    ("ACKs with SACK",                 |e| counted(e.sacks)),
    ("window 0",                       |e| counted(e.zero_windows)),
    ("  closed for",                   |e| if e.zero_window_ns == 0 { String::new() } else { units::duration(e.zero_window_ns) }),
    ("window probes",                  |e| counted(e.window_probes)),
    ("filled the peer's window",       |e| counted(e.window_full)),
    ("keep-alives",                    |e| counted(e.keep_alives)),
    ("resets",                         |e| counted(e.resets)),
    ("holes in the capture",           |e| counted(e.not_captured)),
    ("bytes never seen",               |e| if e.missing_bytes == 0 { String::new() } else { units::bytes(e.missing_bytes) }),
    ("most in flight",                 |e| if e.max_in_flight == 0 { String::new() } else { units::bytes(e.max_in_flight) }),
    ("largest window",                 |e| if e.max_window == 0 { String::new() } else { units::bytes(e.max_window) }),
    ("longest silence",                |e| if e.max_idle_ns == 0 { String::new() } else { units::duration(e.max_idle_ns) }),
    ("MSS",                            |e| e.mss.map(|mss| mss.to_string()).unwrap_or_default()),
    ("round trips of its data",        |e| counted(e.rtt.samples)),
    ("  min",                          |e| rtt(e, |e| e.rtt.min)),
    ("  median",                       |e| rtt(e, |e| e.rtt.p50)),
    ("  p99",                          |e| rtt(e, |e| e.rtt.p99)),
    ("  max",                          |e| rtt(e, |e| e.rtt.max)),
    ("  ambiguous, left out",          |e| counted(e.rtt_ambiguous)),
];

fn ends(sheet: &TcpSheet, style: Style, out: &mut impl Write) -> fmt::Result {
    heading("What each end sent", style, out)?;
    let mut table = Table::new(vec![short(""), number("originator"), number("responder")]);
    for (name, figure) in FIGURES {
        let (left, right) = (figure(&sheet.originator), figure(&sheet.responder));
        if left.is_empty() && right.is_empty() {
            continue;
        }
        let cell = |text: String| if text.is_empty() { "–".to_owned() } else { text };
        table.row(vec![(*name).to_owned(), cell(left), cell(right)]);
    }
    table.write(style, out)
}

fn notes(
    provenance: &Provenance,
    sheet: &TcpSheet,
    style: Style,
    out: &mut impl Write,
) -> fmt::Result {
    if sheet.notes.is_empty() {
        return heading("Nothing to remark about any segment", style, out);
    }
    heading("Judgements, each with its rule", style, out)?;
    let captured = sheet.notes.iter().any(|note| note.packet.is_some());
    let mut table = Table::new(vec![
        number("at"),
        number(if captured { "packet" } else { "journey" }),
        short("from"),
        number("seq"),
        number("bytes"),
        short("what"),
        words("because", 20),
    ]);
    for note in &sheet.notes {
        let number = note.packet.or(note.journey).map(|number| number.to_string());
        let resent = note.kind.contains("retransmission") || note.kind.contains("probe");
        table.painted(
            resent.then_some(Ink::Warn),
            vec![
                units::offset(note.at, provenance.first),
                number.unwrap_or_default(),
                or_dash(&note.from),
                note.seq.to_string(),
                units::count(u64::from(note.len)),
                or_dash(&note.kind),
                or_dash(&note.reason),
            ],
        );
    }
    table.write(style, out)?;
    omitted(
        sheet.notes_omitted,
        "judgements",
        "ask for this connection alone with --flow",
        style,
        out,
    )
}
