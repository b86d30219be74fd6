//! Two recordings compared.

use std::fmt::{self, Write};

use psc_replay::view::diff::{DiffView, DropChange, PathChange, StepChange, StepEnd};
use psc_replay::view::{Completeness, Provenance};

use super::table::{Table, number, short, words};
use super::{Ink, Style, heading, omitted, or_dash, wrap};
use crate::escape;
use crate::units;

/// What changed, beyond chance first, and how that was decided.
pub fn diff(view: &DiffView, style: Style, out: &mut impl Write) -> fmt::Result {
    for (name, side) in [("base", &view.base), ("new ", &view.new)] {
        recording(name, side, style, out)?;
    }
    let common = &view.common;
    let mut compared =
        format!("compared over {}", units::counted(common.probes, "probe", "probes"));
    for (which, names) in [("base", &common.only_base), ("new", &common.only_new)] {
        if !names.is_empty() {
            let list: Vec<_> = names.iter().take(6).map(|name| escape::terminal(name)).collect();
            let more = names.len() - list.len();
            write!(compared, "; left out, since only {which} has it: {}", list.join(", "))?;
            if more > 0 {
                write!(compared, " and {more} more")?;
            }
        }
    }
    wrap(&compared, "    ", style, out)?;
    for note in &common.notes {
        wrap(&format!("note: {}", escape::terminal(note)), "    ", style, out)?;
    }
    let title = match view.significant {
        0 => "No change beyond chance".to_owned(),
        changes => format!("{} beyond chance", units::counted(changes, "change", "changes")),
    };
    heading(&title, style, out)?;
    let journeys = &view.journeys;
    let line = format!(
        "  journeys {} to {}, dropped {} to {} ({} to {})",
        units::count(journeys.base),
        units::count(journeys.new),
        units::count(journeys.base_dropped),
        units::count(journeys.new_dropped),
        units::percent(journeys.base_dropped, journeys.base.max(journeys.base_dropped)),
        units::percent(journeys.new_dropped, journeys.new.max(journeys.new_dropped)),
    );
    wrap(&line, "    ", style, out)?;
    drops(view, style, out)?;
    paths(view, style, out)?;
    steps(view, style, out)?;
    heading("How this was decided", style, out)?;
    let method = &view.method;
    let line = format!(
        "  {}, of those called beyond chance at most {:.2} % are expected to be wrong; a step moved when its \
         median or 99th percentile did by {:.0} % or more.",
        units::counted(method.comparisons, "comparison", "comparisons"),
        method.false_discovery * 100.0,
        method.threshold * 100.0,
    );
    wrap(&line, "    ", style, out)?;
    for test in &method.tests {
        wrap(&format!("  {}", escape::terminal(test)), "    ", style, out)?;
    }
    Ok(())
}

fn recording(name: &str, side: &Provenance, style: Style, out: &mut impl Write) -> fmt::Result {
    let Completeness { line, lost, .. } = &side.completeness;
    let complete =
        if line.is_empty() { "completeness not recorded".into() } else { escape::terminal(line) };
    let ink = if *lost == Some(0) { Ink::Strong } else { Ink::Warn };
    write!(out, "{name}  {}; ", style.paint(ink, &complete))?;
    let mut what = escape::terminal(&side.source).into_owned();
    if !side.host.is_empty() {
        write!(what, ", {}", escape::terminal(&side.host))?;
    }
    write!(
        what,
        ", {} long, {}",
        units::duration(side.duration_ns),
        units::counted(side.events, "event", "events")
    )?;
    let used = escape::cells(name) + 4 + escape::cells(&complete);
    super::wrap_after(&what, used, "      ", style, out)?;
    if !side.selection.is_empty() {
        let line = format!("      selection: {}", escape::terminal(&side.selection));
        wrap(&line, "      ", style, out)?;
    }
    Ok(())
}

/// `1 in 20,000`, `less than 1 in a million`, `may be chance`.
fn chance(p: f64, significant: bool) -> String {
    if !significant {
        return "may be chance".to_owned();
    }
    if p < 1e-6 {
        return "< 1 in a million".to_owned();
    }
    format!("1 in {}", units::count((1.0 / p).round() as u64))
}

fn ink(change: &str, significant: bool) -> Option<Ink> {
    match change {
        _ if !significant => Some(Ink::Faint),
        "new" | "more" | "slower" | "slower tail" => Some(Ink::Bad),
        "appeared" | "vanished" => Some(Ink::Warn),
        _ => None,
    }
}

fn drops(view: &DiffView, style: Style, out: &mut impl Write) -> fmt::Result {
    heading("Drops", style, out)?;
    if view.drops.is_empty() {
        let none = match view.drops_same {
            0 => "  none in either recording".to_owned(),
            same => format!("  {} as frequent as before", units::counted(same, "kind", "kinds")),
        };
        return writeln!(out, "{none}");
    }
    let mut table = Table::new(vec![
        short("change"),
        words("reason", 14),
        short("layer"),
        words("function", 16),
        number("base"),
        number("new"),
        short("by chance"),
        number("example").optional(),
    ]);
    for row in &view.drops {
        let DropChange { change, reason, layer, function, base, new, significant, .. } = row;
        table.painted(
            ink(change, *significant),
            vec![
                or_dash(change),
                or_dash(reason),
                or_dash(layer),
                or_dash(function),
                units::count(*base),
                units::count(*new),
                chance(row.chance, *significant),
                row.example.map_or_else(String::new, |id| example(id, change)),
            ],
        );
    }
    table.write(style, out)?;
    same(view.drops_same, "other kind of drop is", "other kinds of drop are", style, out)
}

/// The journey to look at, and of which recording.
fn example(id: u64, change: &str) -> String {
    let of = match change {
        "gone" | "vanished" | "fewer" => "base",
        _ => "new",
    };
    format!("{of} -j {id}")
}

fn same(number: u64, one: &str, many: &str, style: Style, out: &mut impl Write) -> fmt::Result {
    if number == 0 {
        return Ok(());
    }
    let line = format!("  {} as frequent as before", units::counted(number, one, many));
    writeln!(out, "{}", style.paint(Ink::Faint, &line))
}

fn paths(view: &DiffView, style: Style, out: &mut impl Write) -> fmt::Result {
    heading("Paths", style, out)?;
    if view.paths.is_empty() && view.paths_same == 0 {
        return writeln!(out, "  none in either recording");
    }
    let mut table = Table::new(vec![
        short("change"),
        number("base"),
        number("new"),
        short("by chance"),
        words("outcome", 12),
        number("example").optional(),
    ]);
    for row in &view.paths {
        let PathChange { change, base, new, significant, outcome, .. } = row;
        table.painted(
            ink(change, *significant),
            vec![
                or_dash(change),
                units::count(*base),
                units::count(*new),
                chance(row.chance, *significant),
                or_dash(outcome),
                example(row.example, change),
            ],
        );
        table.note(path(row));
    }
    table.write(style, out)?;
    omitted(view.paths_omitted, "changed paths", "raise --limit", style, out)?;
    let (one, many) = if view.paths.is_empty() {
        ("path is", "paths are")
    } else {
        ("other path is", "other paths are")
    };
    same(view.paths_same, one, many, style, out)
}

/// The steps of a path in words; the device where it changes.
fn path(row: &PathChange) -> String {
    let mut words = String::new();
    let mut device = "";
    for (index, step) in row.steps.iter().enumerate() {
        if index > 0 {
            words.push_str(" > ");
        }
        words.push_str(&escape::terminal(units::probe_name(&step.probe)));
        if !step.function.is_empty() {
            words.push('(');
            words.push_str(&escape::terminal(&step.function));
            words.push(')');
        }
        if step.device != device && !step.device.is_empty() {
            device = &step.device;
            words.push_str(" on ");
            words.push_str(&escape::terminal(device));
        }
    }
    words
}

fn steps(view: &DiffView, style: Style, out: &mut impl Write) -> fmt::Result {
    heading("Times of steps", style, out)?;
    if view.steps.is_empty() {
        let line = match view.steps_same {
            0 => "  no step was taken often enough in both recordings to compare".to_owned(),
            same => format!("  none of {} moved", units::counted(same, "step", "steps")),
        };
        writeln!(out, "{line}")?;
    } else {
        let mut table = Table::new(vec![
            short("change"),
            number("p50 base"),
            number("new"),
            number("p99 base"),
            number("new"),
            number("steps base").optional(),
            number("new").optional(),
            short("by chance"),
        ]);
        for row in &view.steps {
            let StepChange { change, base, new, .. } = row;
            table.painted(
                ink(change, true),
                vec![
                    or_dash(change),
                    units::duration(base.p50),
                    units::duration(new.p50),
                    units::duration(base.p99),
                    units::duration(new.p99),
                    units::count(base.count),
                    units::count(new.count),
                    chance(row.chance, true),
                ],
            );
            table.note(format!("from {} to {}", end(&row.from), end(&row.to)));
        }
        table.write(style, out)?;
        omitted(view.steps_omitted, "moved steps", "raise --limit", style, out)?;
        let did = units::counted(view.steps_same, "other step", "other steps");
        writeln!(out, "{}", style.paint(Ink::Faint, &format!("  {did} did not move")))?;
    }
    if view.steps_untold > 0 {
        let line = format!(
            "  {} taken too rarely in one of the recordings to tell",
            units::counted(view.steps_untold, "step", "steps")
        );
        writeln!(out, "{}", style.paint(Ink::Faint, &line))?;
    }
    Ok(())
}

/// `link net:netif_rx (netif_rx_internal)`.
fn end(end: &StepEnd) -> String {
    let mut words = format!("{} {}", escape::terminal(&end.layer), escape::terminal(&end.probe));
    if !end.function.is_empty() {
        words.push_str(" (");
        words.push_str(&escape::terminal(&end.function));
        words.push(')');
    }
    words
}
