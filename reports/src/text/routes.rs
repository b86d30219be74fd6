//! Routes hop by hop, and what speaks against them.

use std::fmt::{self, Write};

use psc_replay::view::locate::LocateView;
use psc_replay::view::route::{HopRow, NodeRow, RouteRow};

use super::table::{Table, address, number, short, words};
use super::{Ink, Style, heading, omitted, or_dash, wrap};
use crate::escape;
use crate::units;

/// Rows of path MTUs that are no router's word: JSON has all.
const MTU_ROWS: usize = 12;

/// Contradictions, routes, risks, changes and path MTUs; nothing for what there is none of.
pub(super) fn sections(view: &LocateView, style: Style, out: &mut impl Write) -> fmt::Result {
    contradictions(view, style, out)?;
    for route in &view.routes {
        one(route, style, out)?;
    }
    omitted(view.routes_omitted, "routes", "select with -f EXPR", style, out)?;
    risks(view, style, out)?;
    changes(view, style, out)?;
    mtus(view, style, out)
}

fn contradictions(view: &LocateView, style: Style, out: &mut impl Write) -> fmt::Result {
    if view.contradictions.is_empty() {
        return Ok(());
    }
    heading("Places that round trips rule out (bounded: 100 km per ms)", style, out)?;
    for row in &view.contradictions {
        wrap(
            &format!("  {}: {}", escape::terminal(&row.kind), escape::terminal(&row.text)),
            "    ",
            style,
            out,
        )?;
    }
    Ok(())
}

fn one(route: &RouteRow, style: Style, out: &mut impl Write) -> fmt::Result {
    let reached = match (route.reached, route.silent_beyond) {
        (Some(ttl), _) => format!("reached at hop {ttl}"),
        (None, Some(ttl)) => format!("not reached, silent beyond hop {ttl}"),
        (None, None) => "not reached".to_owned(),
    };
    let host = if route.host.is_empty() { String::new() } else { format!(" ({})", route.host) };
    let title = format!(
        "Route to {} by {} from {}{}: {reached}; {} of {} answered, {}, from {}",
        escape::terminal(&route.target),
        route.protocol,
        escape::terminal(&route.source),
        escape::terminal(&host),
        units::count(route.answered),
        units::counted(route.sent, "probe", "probes"),
        units::counted(route.flows, "flow", "flows"),
        route.evidence
    );
    heading(&title, style, out)?;
    let mut table = Table::new(vec![
        number("hop"),
        address("address", 21),
        short("registered").optional(),
        number("lost"),
        number("RTT min"),
        number("median"),
        number("p90").optional(),
        number("jitter").optional(),
        number("stddev").optional(),
        number("back est.").optional(),
        words("answer", 8),
    ]);
    for hop in &route.hops {
        if hop.nodes.is_empty() {
            let mut cells = vec![hop.ttl.to_string(), "*".to_owned(), String::new(), lost(hop)];
            cells.resize(10, String::new());
            cells.push("no answer".to_owned());
            table.painted(Some(Ink::Faint), cells);
        }
        for (index, node) in hop.nodes.iter().enumerate() {
            table.row(row(hop, node, index == 0));
            let about = about(node);
            if !about.is_empty() {
                table.note(escape::terminal(&about).into_owned());
            }
        }
    }
    table.write(style, out)?;
    if !route.looped.is_empty() {
        let line = format!("  loop: packets come back to {}", route.looped.join(", "));
        wrap(&escape::terminal(&line), "    ", style, out)?;
    }
    for note in &route.notes {
        wrap(&format!("  {}", escape::terminal(note)), "    ", style, out)?;
    }
    Ok(())
}

fn lost(hop: &HopRow) -> String {
    match hop.sent.saturating_sub(hop.answered) {
        0 => "0 %".to_owned(),
        lost => units::percent(lost, hop.sent),
    }
}

fn row(hop: &HopRow, node: &NodeRow, first: bool) -> Vec<String> {
    let country = if node.country.is_empty() { &node.scope } else { &node.country };
    let mut cells = vec![
        // Alternatives stand under the first, as further answers at the same TTL.
        if first { hop.ttl.to_string() } else { String::new() },
        or_dash(&node.address),
        or_dash(country),
        if first { lost(hop) } else { String::new() },
    ];
    match node.rtt {
        Some(rtt) => {
            cells.extend([rtt.min, rtt.p50, rtt.p90].map(units::duration));
            let several = [rtt.jitter_rfc3550, rtt.stddev];
            cells.extend(several.map(|ns| ns.map(units::duration).unwrap_or_default()));
        }
        None => cells.resize(9, String::new()),
    }
    cells.push(node.back_hops.map(|hops| hops.to_string()).unwrap_or_default());
    cells.push(or_dash(&node.answer));
    cells
}

fn about(node: &NodeRow) -> String {
    let mut parts = Vec::new();
    if let Some(asn) = node.asn {
        parts.push(format!("AS{asn} {}", node.as_name).trim_end().to_owned());
    }
    if !node.listed.is_empty() {
        parts.push(format!("listed: {}", node.listed));
    }
    if !node.mpls.is_empty() {
        parts.push(format!("MPLS {}", node.mpls.join(", ")));
    }
    if node.translated {
        parts.push("quoted probe was changed on its way".to_owned());
    }
    parts.join("; ")
}

fn risks(view: &LocateView, style: Style, out: &mut impl Write) -> fmt::Result {
    if view.risks.is_empty() {
        return Ok(());
    }
    heading("What speaks against these routes (a score is the sum of its parts)", style, out)?;
    for risk in &view.risks {
        let line = format!(
            "  {} from {}: {}",
            escape::terminal(&risk.target),
            escape::terminal(&risk.source),
            if risk.parts.is_empty() { "nothing found".to_owned() } else { risk.score.to_string() }
        );
        writeln!(out, "{line}")?;
        for (name, points, why) in &risk.parts {
            let line = format!("    {points:>3} {name}: {}", escape::terminal(why));
            wrap(&line, "        ", style, out)?;
        }
        for (name, list) in [("countries", &risk.countries), ("networks", &risk.networks)] {
            if !list.is_empty() {
                let line = format!("        {name}: {}", escape::terminal(&list.join(", ")));
                wrap(&line, "          ", style, out)?;
            }
        }
    }
    Ok(())
}

fn changes(view: &LocateView, style: Style, out: &mut impl Write) -> fmt::Result {
    if view.baseline.is_empty() {
        return Ok(());
    }
    heading(&format!("Changed since {}", escape::terminal(&view.baseline)), style, out)?;
    if view.changes.is_empty() {
        writeln!(out, "  nothing that both recordings show")?;
    }
    for change in &view.changes {
        let line = format!(
            "  {} {}: {}",
            escape::terminal(&change.target),
            change.what,
            escape::terminal(&change.text)
        );
        wrap(&line, "    ", style, out)?;
    }
    Ok(())
}

fn mtus(view: &LocateView, style: Style, out: &mut impl Write) -> fmt::Result {
    let said = |label: &str| label == "measured";
    // That some packet arrived, or that a host has an Ethernet, says little: it is in the JSON.
    let telling = |mtu, bound: &str| bound != "at least" && mtu < 1_500;
    let rows: Vec<_> = view.path_mtus.iter().filter(|row| telling(row.mtu, &row.bound)).collect();
    if rows.is_empty() {
        return Ok(());
    }
    heading("Path MTU", style, out)?;
    let mut table = Table::new(vec![
        address("to or from", 15),
        short("is"),
        number("bytes"),
        short("known by"),
        words("packets", 16),
        number("times"),
    ]);
    let mut bounded = 0;
    let mut left = 0;
    for row in rows {
        bounded += usize::from(!said(&row.label));
        if !said(&row.label) && bounded > MTU_ROWS {
            left += 1;
            continue;
        }
        table.row(vec![
            or_dash(&row.peer),
            row.bound.clone(),
            units::count(row.mtu),
            row.label.clone(),
            or_dash(&row.evidence),
            units::count(row.times),
        ]);
    }
    table.write(style, out)?;
    omitted(left, "bounds", "--format json has all", style, out)
}
