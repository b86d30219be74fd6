//! Volume, latency, drops, loss, flows, counters.

use std::fmt::{self, Write};

use psc_replay::view::analyze::{AnalyzeView, LayerLatency, Series, ThreeLosses};

use super::table::{Table, address, number, short, words};
use super::{Ink, Style, detect, heading, omitted, or_dash, preamble, wrap};
use crate::escape;
use crate::measured;
use crate::units;

/// Findings first, then drops, the three losses, latency, volume, flows, counters and CPUs.
pub fn analyze(view: &AnalyzeView, style: Style, out: &mut impl Write) -> fmt::Result {
    preamble(&view.provenance, style, out)?;
    if !view.findings.is_empty() {
        let number = view.findings.len() as u64;
        heading(&units::counted(number, "finding", "findings"), style, out)?;
        detect::findings(&view.findings, view.provenance.first, style, out)?;
    }
    drops(view, style, out)?;
    losses(view, style, out)?;
    latency(&view.latency, style, out)?;
    super::delays::delays(&view.delays, style, out)?;
    volume(view, style, out)?;
    flows(view, style, out)?;
    rest(view, style, out)
}

fn drops(view: &AnalyzeView, style: Style, out: &mut impl Write) -> fmt::Result {
    if view.drops.is_empty() {
        let line = if of_capture(view) {
            "Drops by the kernel: unknown, a capture does not tell"
        } else {
            "No drop was observed"
        };
        return heading(line, style, out);
    }
    heading("Drops by the kernel, most packets first", style, out)?;
    let mut table = Table::new(vec![
        number("packets"),
        number("bytes"),
        words("reason", 16),
        short("layer"),
        words("at", 24),
        words("device", 6),
        short("first .. last").optional(),
        words("journeys", 8).optional(),
    ]);
    let start = view.provenance.first;
    for row in &view.drops {
        let place = match (row.device.as_str(), row.netns.as_str()) {
            (device, "") => escape::terminal(device).into_owned(),
            (device, netns) => {
                format!("{} ({})", escape::terminal(device), escape::terminal(netns))
            }
        };
        let journeys: Vec<_> = row.journeys.iter().map(u64::to_string).collect();
        table.painted(
            Some(Ink::Bad),
            vec![
                units::count(row.packets),
                units::bytes(row.bytes),
                or_dash(&row.reason),
                or_dash(&row.layer),
                or_dash(&row.location),
                place,
                format!(
                    "{} .. {}",
                    units::offset(row.first, start),
                    units::offset(row.last, start)
                ),
                journeys.join(" "),
            ],
        );
    }
    table.write(style, out)?;
    let mut told: Vec<&str> = Vec::new();
    for row in &view.drops {
        if row.meaning.is_empty() || told.contains(&row.reason.as_str()) {
            continue;
        }
        told.push(&row.reason);
        let line =
            format!("  {}: {}", escape::terminal(&row.reason), escape::terminal(&row.meaning));
        wrap(&line, "    ", style, out)?;
    }
    Ok(())
}

/// Whether these are packets alone, of which no kernel said what became.
fn of_capture(view: &AnalyzeView) -> bool {
    view.provenance.origin == "capture"
}

fn losses(view: &AnalyzeView, style: Style, out: &mut impl Write) -> fmt::Result {
    let loss: &ThreeLosses = &view.loss;
    heading("Three losses, never added up", style, out)?;
    writeln!(
        out,
        "  network   {} of {} TCP data segments retransmitted ({})",
        units::count(loss.network_retransmitted),
        units::count(loss.network_sent),
        units::percent(loss.network_retransmitted, loss.network_sent),
    )?;
    if of_capture(view) {
        writeln!(out, "  kernel    unknown: a capture does not tell")?;
    } else {
        writeln!(
            out,
            "  kernel    {} of {} journeys dropped ({})",
            units::count(loss.kernel_dropped),
            units::count(loss.kernel_journeys),
            units::percent(loss.kernel_dropped, loss.kernel_journeys),
        )?;
    }
    match loss.recorder_lost {
        Some(lost) => writeln!(
            out,
            "  recorder  {} of {} events lost ({})",
            units::count(lost),
            units::count(lost.saturating_add(loss.recorder_kept)),
            units::percent(lost, lost.saturating_add(loss.recorder_kept)),
        ),
        None => writeln!(out, "  recorder  unknown: the source does not say"),
    }
}

fn latency(rows: &[LayerLatency], style: Style, out: &mut impl Write) -> fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    heading("Latency between layers", style, out)?;
    let (measured, without) = measured::split(rows);
    let mut table = Table::new(vec![
        short("direction"),
        words("from", 20),
        words("to", 20),
        number("samples"),
        number("min").optional(),
        number("p50"),
        number("p90").optional(),
        number("p99"),
        number("p99.9").optional(),
        number("max"),
        words("note", 14),
    ]);
    for row in &measured {
        let latency = &row.latency;
        let cell = units::duration;
        let note = escape::terminal(&row.note).into_owned();
        table.row(vec![
            or_dash(&row.direction),
            or_dash(&row.from),
            or_dash(&row.to),
            units::count(latency.count),
            cell(latency.min),
            cell(latency.p50),
            cell(latency.p90),
            cell(latency.p99),
            cell(latency.p999),
            cell(latency.max),
            if style.width == 0 { note.clone() } else { String::new() },
        ]);
        if style.width > 0 {
            table.note(note);
        }
    }
    if !measured.is_empty() {
        table.write(style, out)?;
    }
    let alone = measured.is_empty() && without.len() == 1;
    for (reason, pairs) in &without {
        let line = measured::sentence(reason, pairs, alone);
        wrap(&format!("  {}", escape::terminal(&line)), "    ", style, out)?;
    }
    Ok(())
}

/// A bar for each bin, eighths high; bins are merged to fit `columns`.
fn sparkline(values: &[u64], columns: usize) -> (String, u64) {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let each = values.len().div_ceil(columns.max(1)).max(1);
    let merged: Vec<u64> = values
        .chunks(each)
        .map(|bins| bins.iter().fold(0, |sum: u64, bin| sum.saturating_add(*bin)))
        .collect();
    let most = merged.iter().copied().max().unwrap_or(0);
    let line = merged
        .iter()
        .map(|value| {
            // A bin with anything in it is never blank.
            let eighths = (u128::from(*value) * 8).div_ceil(u128::from(most.max(1)));
            BARS[usize::try_from(eighths).unwrap_or(8).min(8)]
        })
        .collect();
    (line, most)
}

fn series(series: &Series, style: Style, out: &mut impl Write) -> fmt::Result {
    let rows = [
        ("ingress", &series.ingress, "packets"),
        ("egress", &series.egress, "packets"),
        ("unknown", &series.unknown, "packets"),
        ("drops", &series.drops, "drops"),
    ];
    let columns =
        if style.width == 0 { 60 } else { style.columns().saturating_sub(36).clamp(10, 80) };
    let bins = rows.iter().map(|(_, values, _)| values.len()).max().unwrap_or(0);
    if bins < 2 || series.bin_ns == 0 {
        return Ok(());
    }
    let bin = series.bin_ns.saturating_mul(bins.div_ceil(columns) as u64);
    for (name, values, what) in rows {
        if values.iter().all(|value| *value == 0) {
            continue;
        }
        let (line, most) = sparkline(values, columns);
        writeln!(out, "  {name:<8} {line}  up to {} {what}", units::count(most))?;
    }
    writeln!(out, "  {:<8} in each {}", "", units::duration(bin))
}

fn volume(view: &AnalyzeView, style: Style, out: &mut impl Write) -> fmt::Result {
    if view.volume.is_empty() {
        return Ok(());
    }
    heading("Volume by layer", style, out)?;
    let mut table = Table::new(vec![
        short("layer"),
        short("direction"),
        words("device", 6),
        number("skbs"),
        number("wire segments"),
        number("bytes"),
        number("rate"),
    ]);
    for row in &view.volume {
        let device = if row.device.is_empty() { "all".to_owned() } else { or_dash(&row.device) };
        table.row(vec![
            or_dash(&row.layer),
            or_dash(&row.direction),
            device,
            units::count(row.skbs),
            units::count(row.segments),
            units::bytes(row.bytes),
            units::bit_rate(row.bytes, view.provenance.duration_ns),
        ]);
    }
    table.write(style, out)?;
    series(&view.series, style, out)
}

fn flows(view: &AnalyzeView, style: Style, out: &mut impl Write) -> fmt::Result {
    if view.flows.is_empty() {
        return Ok(());
    }
    let total = (view.flows.len() as u64).saturating_add(view.flows_omitted);
    let title = format!("{}, most bytes first", units::counted(total, "connection", "connections"));
    heading(&title, style, out)?;
    let mut table = Table::new(vec![
        number("#"),
        short("proto"),
        address("originator", 21),
        address("responder", 18),
        number("pkts ->"),
        number("<-"),
        number("bytes ->"),
        number("<-"),
        number("drops").optional(),
        number("retr").optional(),
        number("RTT").optional(),
        number("lasted").optional(),
        short("state").optional(),
        words("process", 8).optional(),
    ]);
    let nonzero = |value: u64| if value == 0 { String::new() } else { units::count(value) };
    for flow in &view.flows {
        table.painted(
            (flow.drops > 0).then_some(Ink::Warn),
            vec![
                flow.id.to_string(),
                or_dash(&flow.protocol),
                or_dash(&flow.originator),
                or_dash(&flow.responder),
                units::count(flow.packets.0),
                units::count(flow.packets.1),
                units::bytes(flow.bytes.0),
                units::bytes(flow.bytes.1),
                nonzero(flow.drops),
                nonzero(flow.retransmits),
                flow.handshake_rtt_ns.map(units::duration).unwrap_or_default(),
                units::duration(flow.duration_ns),
                escape::terminal(&flow.state).into_owned(),
                escape::terminal(&flow.process).into_owned(),
            ],
        );
    }
    table.write(style, out)?;
    omitted(view.flows_omitted, "connections", "raise the limit or select with -f EXPR", style, out)
}

fn rest(view: &AnalyzeView, style: Style, out: &mut impl Write) -> fmt::Result {
    if !view.interactions.is_empty() {
        heading("Steps between layers", style, out)?;
        let mut table =
            Table::new(vec![short("from"), short("to"), number("steps"), number("per second")]);
        for row in &view.interactions {
            table.row(vec![
                or_dash(&row.from),
                or_dash(&row.to),
                units::count(row.count),
                format!("{:.1}", row.per_second),
            ]);
        }
        table.write(style, out)?;
    }
    if !view.counters.is_empty() {
        heading("Kernel counters against events", style, out)?;
        let mut table = Table::new(vec![
            words("namespace", 8),
            words("counter", 16),
            number("kernel"),
            number("events"),
            words("verdict", 12),
        ]);
        for row in &view.counters {
            let differs = row.verdict.starts_with("differs");
            table.painted(
                differs.then_some(Ink::Warn),
                vec![
                    or_dash(&row.netns),
                    or_dash(&row.name),
                    units::count(row.kernel),
                    row.events.map_or_else(|| "–".to_owned(), units::count),
                    or_dash(&row.verdict),
                ],
            );
        }
        table.write(style, out)?;
    }
    if !view.cpus.is_empty() && !of_capture(view) {
        heading("CPUs", style, out)?;
        let mut table = Table::new(vec![number("cpu"), number("events"), number("missing")]);
        for row in &view.cpus {
            table.row(vec![row.cpu.to_string(), units::count(row.events), units::count(row.gaps)]);
        }
        table.write(style, out)?;
    }
    Ok(())
}
