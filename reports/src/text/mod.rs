//! Views as terminal text.
//!
//! The first line is how complete the recording is. Columns align; the widest flexible columns
//! give way to the terminal's width and show it by `…`. Times are offsets from the first event,
//! so that they can be typed back as `-t`.

mod analyze;
mod breakdown;
mod check;
mod delays;
mod detect;
mod diagnose;
mod diff;
mod explain;
mod info;
mod live;
mod locate;
mod routes;
mod rules;
mod suggest;
mod table;
mod tcp;
mod trace;

use std::fmt::{self, Write};

use psc_replay::view::Provenance;

pub use analyze::analyze;
pub use breakdown::breakdown;
pub use check::check;
pub use detect::detect;
pub use diagnose::{diagnose, rules};
pub use diff::diff;
pub use explain::explain;
pub use info::info;
pub use live::{live, live_line};
pub use locate::locate;
pub use rules::{rule_check, rule_replay};
pub use suggest::suggest;
pub use tcp::connection;
pub use trace::trace;

use crate::escape;
use crate::units;

/// How text is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// ANSI colours, as emphasis only: the words say the same.
    pub color: bool,
    /// Columns of the terminal; 0 when the output is no terminal and nothing is to be cut.
    pub width: usize,
}

impl Style {
    /// Columns to fill.
    fn columns(self) -> usize {
        if self.width == 0 { usize::MAX } else { self.width.max(40) }
    }

    fn paint(self, ink: Ink, text: &str) -> Painted<'_> {
        Painted { ink: self.color.then_some(ink), text }
    }
}

/// Emphasis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ink {
    /// Headings.
    Strong,
    /// What matters less.
    Faint,
    /// Drops, high severity, data loss.
    Bad,
    /// Medium severity, ambiguity.
    Warn,
}

struct Painted<'a> {
    ink: Option<Ink>,
    text: &'a str,
}

impl fmt::Display for Painted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = match self.ink {
            None => return f.write_str(self.text),
            Some(Ink::Strong) => "1",
            Some(Ink::Faint) => "2",
            Some(Ink::Bad) => "1;31",
            Some(Ink::Warn) => "33",
        };
        write!(f, "\x1b[{code}m{}\x1b[0m", self.text)
    }
}

/// Completeness, then what this is, then notices.
fn preamble(view: &Provenance, style: Style, out: &mut impl Write) -> fmt::Result {
    let completeness = &view.completeness;
    let line = if completeness.line.is_empty() {
        "completeness not recorded".to_owned()
    } else {
        escape::terminal(&completeness.line).into_owned()
    };
    let ink = if completeness.lost == Some(0) { Ink::Strong } else { Ink::Warn };
    writeln!(out, "{}", style.paint(ink, &line))?;

    let mut what = vec![escape::terminal(&view.source).into_owned()];
    let host = escape::terminal(&view.host);
    match (view.origin.as_str(), host.is_empty()) {
        ("kernel", false) => what.push(format!("kernel recording of {host}")),
        (origin, true) => what.push(escape::terminal(origin).into_owned()),
        (origin, false) => what.push(format!("{} of {host}", escape::terminal(origin))),
    }
    if !view.start_utc.is_empty() {
        what.push(format!("from {}", escape::terminal(&view.start_utc)));
    }
    what.push(format!("{} long", units::duration(view.duration_ns)));
    what.push(units::counted(view.events, "event", "events"));
    what.push(units::counted(view.packets, "packet with bytes", "packets with bytes"));
    what.retain(|part| !part.is_empty());
    wrap(&what.join(", "), "", style, out)?;
    if !view.selection.is_empty() {
        let selection = format!("selection: {}", escape::terminal(&view.selection));
        wrap(&selection, "", style, out)?;
    }
    probes(view, style, out)?;
    for notice in &view.notices {
        let text = escape::terminal(&notice.text);
        let severity = escape::terminal(&notice.severity);
        let times = if notice.count > 1 {
            format!(" ({} times)", units::count(notice.count))
        } else {
            String::new()
        };
        let ink = if notice.severity == "info" { Ink::Faint } else { Ink::Warn };
        write!(out, "{}: ", style.paint(ink, &severity))?;
        let rest = format!("{text}{times}");
        wrap_after(&rest, escape::cells(&severity) + 2, "    ", style, out)?;
    }
    Ok(())
}

/// What the recording could not see; silent when there is nothing to say.
fn probes(view: &Provenance, style: Style, out: &mut impl Write) -> fmt::Result {
    let completeness = &view.completeness;
    let failed = completeness.probes_failed.len();
    if completeness.probes_wanted > 0 && completeness.probes_attached < completeness.probes_wanted {
        let mut line = format!(
            "probes: {} of {} attached",
            completeness.probes_attached, completeness.probes_wanted
        );
        if failed > 0 {
            let names: Vec<_> = completeness
                .probes_failed
                .iter()
                .take(4)
                .map(|(name, why)| {
                    format!("{} ({})", escape::terminal(name), escape::terminal(why))
                })
                .collect();
            write!(line, "; not {}", names.join(", "))?;
            if failed > names.len() {
                write!(line, " and {} more (psc info)", failed - names.len())?;
            }
        }
        wrap(&line, "    ", style, out)?;
    }
    Ok(())
}

/// A section's heading, after an empty line.
fn heading(title: &str, style: Style, out: &mut impl Write) -> fmt::Result {
    writeln!(out, "\n{}", style.paint(Ink::Strong, title))
}

/// What a limit left out, and how to see it; silent when nothing.
fn omitted(number: u64, what: &str, how: &str, style: Style, out: &mut impl Write) -> fmt::Result {
    if number == 0 {
        return Ok(());
    }
    let line = format!("  {} {what} omitted; {how}", units::count(number));
    writeln!(out, "{}", style.paint(Ink::Faint, &line))
}

/// Words of `text` filled into lines; lines after the first start with `indent`.
fn wrap(text: &str, indent: &str, style: Style, out: &mut impl Write) -> fmt::Result {
    wrap_after(text, 0, indent, style, out)
}

/// As [`wrap`], when `used` cells of the first line are written already.
fn wrap_after(
    text: &str,
    mut used: usize,
    indent: &str,
    style: Style,
    out: &mut impl Write,
) -> fmt::Result {
    let width = style.columns();
    let indent_cells = escape::cells(indent);
    let mut fresh = true;
    for word in unbroken(text) {
        let cells = escape::cells(word);
        if !fresh && used + 1 + cells > width && used > indent_cells {
            write!(out, "\n{indent}")?;
            used = indent_cells;
            fresh = true;
        }
        if !fresh {
            out.write_char(' ')?;
            used += 1;
        }
        out.write_str(word)?;
        used += cells;
        fresh = false;
    }
    out.write_char('\n')
}

/// Words of `text`, a number together with the unit after it.
fn unbroken(text: &str) -> Vec<&str> {
    const UNITS: [&str; 15] = [
        "ns", "µs", "ms", "s", "min", "h", "B", "kB", "MB", "GB", "TB", "%", "km", "packets",
        "events",
    ];
    let mut words: Vec<&str> = Vec::new();
    let mut at = 0;
    for word in text.split(' ') {
        let end = at + word.len();
        let unit = UNITS.contains(&word.trim_end_matches([',', ';', '.', ')', ':']));
        match words.last_mut() {
            Some(last) if unit && last.ends_with(|ch: char| ch.is_ascii_digit()) => {
                *last = &text[at - 1 - last.len()..end];
            }
            _ => words.push(word),
        }
        at = end + 1;
    }
    words
}

/// `text` escaped, or a dash that stands for "not known".
fn or_dash(text: &str) -> String {
    if text.is_empty() { "–".to_owned() } else { escape::terminal(text).into_owned() }
}
