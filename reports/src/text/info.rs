//! What is in a file.

use std::fmt::{self, Write};

use psc_replay::view::info::InfoView;

use super::table::{Table, number, short, words};
use super::{Ink, Style, heading, or_dash, preamble, wrap};
use crate::escape;
use crate::units;

/// File, recording, completeness, probes, kinds, devices and frames.
pub fn info(view: &InfoView, style: Style, out: &mut impl Write) -> fmt::Result {
    preamble(&view.provenance, style, out)?;
    file(view, style, out)?;
    completeness(view, style, out)?;
    if !view.probes.is_empty() {
        heading("Probes", style, out)?;
        let mut table = Table::new(vec![
            number("events"),
            words("probe", 20),
            words("method", 8),
            words("status", 12),
        ]);
        for (name, method, status, events) in &view.probes {
            let failed = status.starts_with("failed");
            table.painted(
                failed.then_some(Ink::Warn),
                vec![units::count(*events), or_dash(name), or_dash(method), or_dash(status)],
            );
        }
        table.write(style, out)?;
    }
    if !view.kinds.is_empty() {
        heading("Events by kind", style, out)?;
        let mut table = Table::new(vec![number("events"), words("kind", 12)]);
        for (kind, events) in &view.kinds {
            table.row(vec![units::count(*events), or_dash(kind)]);
        }
        table.write(style, out)?;
    }
    if !view.devices.is_empty() {
        heading("Devices", style, out)?;
        let mut table = Table::new(vec![
            words("namespace", 8),
            words("name", 15),
            words("kind", 8),
            words("addresses", 30),
        ]);
        for (netns, name, kind, addresses) in &view.devices {
            table.row(vec![
                or_dash(netns),
                or_dash(name),
                or_dash(kind),
                escape::terminal(addresses).into_owned(),
            ]);
        }
        table.write(style, out)?;
    }
    if !view.frames.is_empty() {
        heading("Frames", style, out)?;
        let mut table = Table::new(vec![
            short("kind"),
            number("frames"),
            number("stored"),
            number("raw"),
            number("ratio"),
        ]);
        for (kind, frames, stored, raw) in &view.frames {
            let ratio = if *stored == 0 {
                "–".to_owned()
            } else {
                let tenths = u128::from(*raw) * 10 / u128::from(*stored);
                format!("{}.{}", tenths / 10, tenths % 10)
            };
            table.row(vec![
                or_dash(kind),
                units::count(*frames),
                units::bytes(*stored),
                units::bytes(*raw),
                ratio,
            ]);
        }
        table.write(style, out)?;
    }
    Ok(())
}

fn file(view: &InfoView, style: Style, out: &mut impl Write) -> fmt::Result {
    heading("File", style, out)?;
    let mut line = format!("  {}", units::bytes(view.file_bytes));
    if let Some((all, events, packets)) = view.bytes_per_event {
        write!(
            line,
            "; {all:.2} bytes stored per event: {events:.2} for events, {packets:.2} for packets, \
             the rest facts, stacks and index"
        )?;
    }
    wrap(&line, "    ", style, out)?;
    let provenance = &view.provenance;
    for (name, value) in
        [("recorded by", &provenance.command), ("with psc", &provenance.psc_version)]
    {
        if !value.is_empty() {
            wrap(&format!("  {name} {}", escape::terminal(value)), "    ", style, out)?;
        }
    }
    for line in &view.custody {
        wrap(&format!("  {}", escape::terminal(line)), "    ", style, out)?;
    }
    if !view.acquisition.is_empty() {
        heading("Acquisition", style, out)?;
        for (name, value) in &view.acquisition {
            let line = format!("  {:<20} {}", escape::terminal(name), escape::terminal(value));
            wrap(&line, "                       ", style, out)?;
        }
    }
    Ok(())
}

fn completeness(view: &InfoView, style: Style, out: &mut impl Write) -> fmt::Result {
    let known = |value: Option<u64>| value.map_or_else(|| "unknown".to_owned(), units::count);
    let what = &view.provenance.completeness;
    heading(
        "Completeness (of the recorder; kernel drops and network loss are not in it)",
        style,
        out,
    )?;
    let stacks = &what.stacks;
    let checked = stacks.confirmed.saturating_add(stacks.contradicted);
    let right = units::stacks_right(stacks);
    let rows = [
        ("events lost", known(what.lost)),
        ("  by a full ring", known(what.ring_full)),
        ("  by recursion", known(what.recursion)),
        ("sequence gaps", units::count(what.sequence_gaps)),
        ("left out by filter", units::count(what.filtered)),
        ("counted, not stored", units::count(what.aggregated)),
        ("end mark", if what.closed { "yes".to_owned() } else { "no: unclosed".to_owned() }),
        ("probes attached", format!("{} of {}", what.probes_attached, what.probes_wanted)),
        (
            "stacks",
            format!(
                "{} observed, {} without, {} inferred{}",
                units::count(stacks.observed.saturating_add(checked)),
                units::count(stacks.none),
                units::count(stacks.inferred),
                if stacks.inferred == 0 { String::new() } else { format!("; {right}") },
            ),
        ),
    ];
    for (name, value) in rows {
        wrap(&format!("  {name:<20} {value}"), "                       ", style, out)?;
    }
    for (probe, why) in &what.probes_failed {
        let line = format!("  probe {}: {}", escape::terminal(probe), escape::terminal(why));
        wrap(&line, "    ", style, out)?;
    }
    for spot in &what.blind_spots {
        wrap(&format!("  blind spot: {}", escape::terminal(spot)), "    ", style, out)?;
    }
    Ok(())
}
