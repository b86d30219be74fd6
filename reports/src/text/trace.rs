//! Journeys, paths and the path graph.

use std::cmp::Reverse;
use std::fmt::{self, Write};

use psc_replay::view::trace::{Journey, JourneyStep, PathGraph, PathRow, PathStep, TraceView};

use super::table::{Table, number, short, words};
use super::{Ink, Style, heading, omitted, or_dash, preamble, wrap};
use crate::escape;
use crate::units;

/// Paths drawn; the rest is counted.
const PATHS: usize = 20;
/// Edges drawn; the rest is counted.
const EDGES: usize = 24;
/// Effects told; the rest is counted.
const EFFECTS: usize = 12;
/// Stories told; the rest is counted.
const STORIES: usize = 4;
/// Joints of one story told; the rest is counted.
const STORY_EDGES: usize = 24;
/// Crossings, translations and the like of one journey told.
const PASSAGES: usize = 16;

/// Paths with their latency, the busiest steps, and journeys as ladders.
pub fn trace(view: &TraceView, style: Style, out: &mut impl Write) -> fmt::Result {
    preamble(&view.provenance, style, out)?;
    totals(view, style, out)?;
    paths(view, style, out)?;
    drops(&view.graph, style, out)?;
    edges(&view.graph, style, out)?;
    effects(view, style, out)?;
    stories(view, style, out)?;
    let start = view.provenance.first;
    for journey in &view.exemplars {
        ladder(journey, start, style, out)?;
    }
    inferred(view, style, out)?;
    if view.omitted > 0 {
        writeln!(out)?;
    }
    let how = "select with -f EXPR or -t A..B, or raise the limit";
    omitted(view.omitted, "journeys", how, style, out)
}

fn totals(view: &TraceView, style: Style, out: &mut impl Write) -> fmt::Result {
    let totals = &view.journeys;
    heading("Journeys", style, out)?;
    let mut line = format!(
        "  {}: {} delivered, {} dropped, {} end not observed",
        units::counted(totals.total, "journey", "journeys"),
        units::count(totals.delivered),
        units::count(totals.dropped),
        units::count(totals.end_not_observed),
    );
    if totals.ambiguous > 0 {
        let why: Vec<_> = totals
            .ambiguity
            .iter()
            .map(|(why, times)| format!("{} {}", units::count(*times), escape::terminal(why)))
            .collect();
        write!(line, "; {} of them ambiguous", units::count(totals.ambiguous))?;
        if !why.is_empty() {
            write!(line, " ({})", why.join(", "))?;
        }
    }
    wrap(&line, "    ", style, out)?;
    if totals.events_without_skb > 0 {
        let events = units::counted(totals.events_without_skb, "event", "events");
        writeln!(out, "  {events} without a packet (socket, neighbour, NAPI)")?;
    }
    Ok(())
}

/// `layer:function`, the probe when the function is unknown; the layer once while it stays.
fn path_words(steps: &[PathStep]) -> String {
    let mut line = String::new();
    let mut before: Option<(&str, &str)> = None;
    for step in steps {
        let device = step.device.as_str();
        if !line.is_empty() {
            line.push_str(" > ");
        }
        if before.is_none_or(|(layer, _)| layer != step.layer) {
            line.push_str(&escape::terminal(&step.layer));
            line.push(':');
        }
        line.push_str(&escape::terminal(units::probe_name(&step.probe)));
        if !step.function.is_empty() && step.function != step.probe {
            line.push('(');
            line.push_str(&escape::terminal(&step.function));
            line.push(')');
        }
        if !device.is_empty() && before.is_none_or(|(_, last)| last != device) {
            line.push('@');
            line.push_str(&escape::terminal(device));
        }
        let device = if device.is_empty() { before.map_or("", |(_, last)| last) } else { device };
        before = Some((&step.layer, device));
    }
    line
}

fn latency_or(count: u64, ns: u64) -> String {
    if count == 0 { "–".to_owned() } else { units::duration(ns) }
}

fn paths(view: &TraceView, style: Style, out: &mut impl Write) -> fmt::Result {
    let rows: &[PathRow] = &view.paths;
    if rows.is_empty() {
        return Ok(());
    }
    let total = (rows.len() as u64).saturating_add(view.paths_omitted);
    let title = format!("Paths ({}, most journeys first)", units::count(total));
    heading(&title, style, out)?;
    for (index, row) in rows.iter().take(PATHS).enumerate() {
        let latency = &row.latency;
        let mut line = format!(
            "  {:>3}  {:>9} journeys  {:>8}  {}",
            index + 1,
            units::count(row.journeys),
            units::bytes(row.bytes),
            escape::terminal(&row.outcome),
        );
        if latency.count > 0 {
            write!(
                line,
                "  p50 {}, p99 {}, max {}",
                units::duration(latency.p50),
                units::duration(latency.p99),
                units::duration(latency.max)
            )?;
        }
        write!(line, "  e.g. journey {}", row.example)?;
        let bad = row.outcome.starts_with("dropped");
        if bad {
            writeln!(out, "{}", style.paint(Ink::Bad, &line))?;
        } else {
            writeln!(out, "{line}")?;
        }
        let indent = "        ";
        wrap(&format!("{indent}{}", path_words(&row.steps)), "          ", style, out)?;
    }
    let cut = rows.get(PATHS..).unwrap_or_default();
    let rest = (cut.len() as u64).saturating_add(view.paths_omitted);
    let journeys =
        cut.iter().fold(view.path_journeys_omitted, |sum, row| sum.saturating_add(row.journeys));
    let what = format!("rarer paths of {}", units::counted(journeys, "journey", "journeys"));
    omitted(rest, &what, "--format json has more", style, out)
}

/// Where journeys ended in a drop.
fn drops(graph: &PathGraph, style: Style, out: &mut impl Write) -> fmt::Result {
    let mut nodes: Vec<_> = graph.nodes.iter().filter(|node| node.drops > 0).collect();
    if nodes.is_empty() {
        return Ok(());
    }
    nodes.sort_by_key(|node| (Reverse(node.drops), &node.layer, &node.name));
    heading("Drops by place", style, out)?;
    let mut table = Table::new(vec![
        number("journeys"),
        short("layer"),
        words("function", 20),
        words("reasons", 16),
    ]);
    for node in nodes {
        let reasons: Vec<_> = node
            .drop_reasons
            .iter()
            .map(|(reason, times)| format!("{} {}", escape::terminal(reason), units::count(*times)))
            .collect();
        table.painted(
            Some(Ink::Bad),
            vec![
                units::count(node.drops),
                or_dash(&node.layer),
                or_dash(&node.name),
                reasons.join(", "),
            ],
        );
    }
    table.write(style, out)
}

fn edges(graph: &PathGraph, style: Style, out: &mut impl Write) -> fmt::Result {
    let mut edges: Vec<_> = graph.edges.iter().collect();
    if edges.is_empty() {
        return Ok(());
    }
    edges.sort_by_key(|edge| (Reverse(edge.count), edge.from, edge.to, &edge.kind));
    let title = format!(
        "Path graph ({}, {}; busiest steps first)",
        units::counted(graph.nodes.len() as u64, "node", "nodes"),
        units::counted(graph.edges.len() as u64, "edge", "edges"),
    );
    heading(&title, style, out)?;
    let mut table = Table::new(vec![
        number("steps"),
        words("from", 16),
        words("to", 16),
        number("p50"),
        number("p99"),
        number("max"),
        short("kind"),
    ]);
    let name = |index: usize| {
        graph.nodes.get(index).map_or_else(
            || "?".to_owned(),
            |node| format!("{}:{}", escape::terminal(&node.layer), escape::terminal(&node.name)),
        )
    };
    for edge in edges.iter().take(EDGES) {
        let latency = &edge.latency;
        let kind = if edge.kind == "step" { String::new() } else { or_dash(&edge.kind) };
        table.row(vec![
            units::count(edge.count),
            name(edge.from),
            name(edge.to),
            latency_or(latency.count, latency.p50),
            latency_or(latency.count, latency.p99),
            latency_or(latency.count, latency.max),
            kind,
        ]);
    }
    table.write(style, out)?;
    let rest = edges.len().saturating_sub(EDGES) as u64;
    omitted(rest, "rarer edges", "--format json has all", style, out)
}

/// What ICMP messages did to other flows' sockets and routes.
fn effects(view: &TraceView, style: Style, out: &mut impl Write) -> fmt::Result {
    if view.effects.is_empty() {
        return Ok(());
    }
    heading("Effects of one protocol's packets on another", style, out)?;
    for effect in view.effects.iter().take(EFFECTS) {
        let evidence = if effect.evidence == "observed" { "observed" } else { "by content" };
        let mut line = format!(
            "  at {}, {}: journey {}: {} ({evidence})",
            units::offset(effect.at, view.provenance.first),
            escape::terminal(&effect.kind),
            effect.cause,
            escape::terminal(&effect.words),
        );
        if let Some(journey) = effect.journey {
            write!(line, "; see journey {journey}")?;
        }
        wrap(&line, "    ", style, out)?;
    }
    let more = view.effects.len().saturating_sub(EFFECTS) as u64 + view.effects_omitted;
    omitted(more, "further effects", "--format json has more", style, out)
}

/// Which journeys are one story, and how.
fn stories(view: &TraceView, style: Style, out: &mut impl Write) -> fmt::Result {
    for story in view.stories.iter().take(STORIES) {
        let title = format!(
            "Story of {}",
            units::counted(story.journeys.len() as u64, "journey", "journeys")
        );
        heading(&title, style, out)?;
        for edge in story.edges.iter().take(STORY_EDGES) {
            let how = match edge.evidence.as_str() {
                "observed" => "observed",
                _ => "by content",
            };
            let line =
                format!("  journey {}: {} ({how})", edge.journey, escape::terminal(&edge.words));
            wrap(&line, "    ", style, out)?;
        }
        let more = story.edges.len().saturating_sub(STORY_EDGES) as u64 + story.omitted;
        omitted(more, "further joints", "--format json has all", style, out)?;
    }
    let more = view.stories.len().saturating_sub(STORIES) as u64;
    omitted(more, "further stories", "-j N shows the one of journey N", style, out)
}

/// The function that a step happened in, marked `~` when it was learned and not seen here and
/// `!` when the stack taken here differed from the learned one.
fn function(step: &JourneyStep) -> String {
    let innermost = match (step.function.as_str(), step.stack.first()) {
        ("", None) => return String::new(),
        ("", Some(innermost)) => innermost,
        (function, _) => function,
    };
    let mark = match step.stack_evidence.as_str() {
        "inferred" => "~",
        "contradicted" => "!",
        _ => "",
    };
    // The offset is for finding the line of code; JSON has it.
    let name = innermost.split_once("+0x").map_or(innermost, |(name, _)| name);
    format!("{mark}{}", escape::terminal(name))
}

/// Device with its namespace.
fn place(step: &JourneyStep) -> String {
    match (step.device.as_str(), step.netns.as_str()) {
        ("", "") => String::new(),
        (device, "") => escape::terminal(device).into_owned(),
        ("", netns) => format!("({})", escape::terminal(netns)),
        (device, netns) => format!("{} ({})", escape::terminal(device), escape::terminal(netns)),
    }
}

/// One journey: a header of two lines, then a row for each step.
fn ladder(journey: &Journey, start: u64, style: Style, out: &mut impl Write) -> fmt::Result {
    let mut title = format!("Journey {}", journey.id);
    if !journey.role.is_empty() {
        write!(title, " ({})", escape::terminal(&journey.role))?;
    }
    heading(&title, style, out)?;
    let mut what = vec![escape::terminal(&journey.flow), escape::terminal(&journey.summary)];
    what.retain(|part| !part.is_empty());
    let mut line = format!("  {}", what.join(": "));
    if what.is_empty() {
        line += "no packet bytes recorded";
    }
    write!(line, ", {}", units::bytes(u64::from(journey.len)))?;
    if journey.segments > 1 {
        write!(line, " in {} wire segments", units::count(u64::from(journey.segments)))?;
    }
    wrap(&line, "    ", style, out)?;
    let mut end = format!(
        "  at {}, {} long, {}",
        units::offset(journey.first, start),
        units::duration(journey.duration_ns),
        or_dash(&journey.outcome),
    );
    if !journey.drop_location.is_empty() {
        write!(end, " at {}", escape::terminal(&journey.drop_location))?;
    }
    let ink = if journey.outcome.starts_with("dropped") { Ink::Bad } else { Ink::Faint };
    writeln!(out, "{}", style.paint(ink, &end))?;
    if !journey.ambiguous.is_empty() {
        let line = format!("  ambiguous: {}", escape::terminal(&journey.ambiguous));
        writeln!(out, "{}", style.paint(Ink::Warn, &line))?;
    }
    for passage in journey.passages.iter().take(PASSAGES) {
        let (kind, from, to) = (&passage.kind, &passage.from, &passage.to);
        let mut line = format!(
            "  {:<15} {} > {}",
            escape::terminal(kind),
            escape::terminal(from),
            escape::terminal(to)
        );
        if let Some(transit) = &passage.transit {
            write!(line, ", {}", units::transit(transit))?;
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    let more = journey.passages.len().saturating_sub(PASSAGES) as u64;
    omitted(more, "further passages", "--format json has all", style, out)?;
    let (unit, write) = units::column(journey.duration_ns);
    let mut table = Table::new(vec![
        number(if unit == "µs" { "time, µs" } else { "time, ms" }),
        number("delta"),
        short("layer"),
        words("probe", 20),
        words("function", 16),
        words("device", 10),
        words("context", 9).optional(),
        words("detail", 10),
    ])
    .indent(4);
    // On a terminal details get a line of their own: as a column they would be cut to nothing.
    let own_line = style.width > 0;
    for (index, step) in journey.steps.iter().enumerate() {
        let mut detail = vec![escape::terminal(&step.detail).into_owned()];
        if !step.headers.is_empty() {
            detail.push(format!("now {}", escape::terminal(&step.headers)));
        }
        detail.push(escape::terminal(&step.lineage).into_owned());
        detail.retain(|part| !part.is_empty());
        let delta =
            if index == 0 { String::new() } else { format!("+{}", units::duration(step.delta_ns)) };
        let last = index + 1 == journey.steps.len();
        let dropped = last && journey.outcome.starts_with("dropped");
        table.painted(
            dropped.then_some(Ink::Bad),
            vec![
                write(step.at.saturating_sub(journey.first)),
                delta,
                or_dash(&step.layer),
                or_dash(&step.probe),
                function(step),
                place(step),
                escape::terminal(&step.context).into_owned(),
                if own_line { String::new() } else { detail.join("; ") },
            ],
        );
        if own_line {
            table.note(detail.join("; "));
        }
    }
    table.write(style, out)
}

/// What `~` means, once, and how often such a stack was right when it was checked.
fn inferred(view: &TraceView, style: Style, out: &mut impl Write) -> fmt::Result {
    let steps = view.exemplars.iter().flat_map(|journey| &journey.steps);
    let marked =
        |step: &JourneyStep| matches!(step.stack_evidence.as_str(), "inferred" | "contradicted");
    if !steps.into_iter().any(marked) {
        return Ok(());
    }
    let right = units::stacks_right(&view.provenance.completeness.stacks);
    let line = format!(
        "~ function learned from other events of the same path key, not taken at this event; ! taken here, and it \
         differs from the learned one; {right}"
    );
    let mut filled = String::new();
    wrap(&line, "  ", style, &mut filled)?;
    writeln!(out)?;
    for line in filled.lines() {
        writeln!(out, "{}", style.paint(Ink::Faint, line))?;
    }
    Ok(())
}
