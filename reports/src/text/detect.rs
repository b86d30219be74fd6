//! Findings and the detectors that ran.

use std::fmt::{self, Write};

use psc_replay::view::detect::{DetectView, Finding};

use super::table::{Table, short, words};
use super::{Ink, Style, heading, or_dash, preamble, wrap};
use crate::escape;
use crate::units;

/// Findings with their evidence, then what each detector saw and could not see.
pub fn detect(view: &DetectView, style: Style, out: &mut impl Write) -> fmt::Result {
    preamble(&view.provenance, style, out)?;
    let number = view.findings.len() as u64;
    let ran = units::counted(view.detectors.len() as u64, "detector", "detectors");
    if number == 0 {
        heading(&format!("No findings ({ran} ran)"), style, out)?;
    } else {
        let title = format!("{} ({ran} ran)", units::counted(number, "finding", "findings"));
        heading(&title, style, out)?;
    }
    findings(&view.findings, view.provenance.first, style, out)?;
    if !view.detectors.is_empty() {
        heading("Detectors", style, out)?;
        let mut table =
            Table::new(vec![short("detector"), words("sees", 24), words("could not see here", 18)]);
        for (id, sees, blind) in &view.detectors {
            table.row(vec![
                or_dash(id),
                escape::terminal(sees).into_owned(),
                escape::terminal(blind).into_owned(),
            ]);
        }
        table.write(style, out)?;
    }
    Ok(())
}

/// Each finding as a paragraph: also used by the analyzer's text.
pub(super) fn findings(
    findings: &[Finding],
    start: u64,
    style: Style,
    out: &mut impl Write,
) -> fmt::Result {
    for (index, finding) in findings.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        one(finding, start, style, out)?;
    }
    Ok(())
}

fn one(finding: &Finding, start: u64, style: Style, out: &mut impl Write) -> fmt::Result {
    let ink = match finding.severity.as_str() {
        "high" => Ink::Bad,
        "medium" => Ink::Warn,
        _ => Ink::Strong,
    };
    let title = format!(
        "  [{}] {}: {}",
        escape::terminal(&finding.severity),
        escape::terminal(&finding.id),
        escape::terminal(&finding.title),
    );
    let mut filled = String::new();
    wrap(&title, "      ", style, &mut filled)?;
    for line in filled.lines() {
        writeln!(out, "{}", style.paint(ink, line))?;
    }
    let list = |items: &[String]| {
        items.iter().map(|item| escape::terminal(item).into_owned()).collect::<Vec<_>>().join(", ")
    };
    let when = if finding.last == 0 {
        String::new()
    } else {
        format!(
            "{} to {}, {}",
            units::offset(finding.first, start),
            units::offset(finding.last, start),
            units::counted(finding.packets, "packet", "packets"),
        )
    };
    let journeys: Vec<_> = finding.journeys.iter().map(u64::to_string).collect();
    let mut facts = vec![
        ("confidence", escape::terminal(&finding.confidence).into_owned()),
        ("when", when),
        ("by", list(&finding.actors)),
        ("to", list(&finding.targets)),
    ];
    for sentence in &finding.evidence {
        facts.push(("evidence", escape::terminal(sentence).into_owned()));
    }
    facts.push(("effect", escape::terminal(&finding.effect).into_owned()));
    facts.push(("next", escape::terminal(&finding.advice).into_owned()));
    facts.push(("journeys", journeys.join(", ")));
    facts.push(("see", list(&finding.references)));
    for (name, words) in facts {
        if !words.is_empty() {
            wrap(&format!("      {name:<11}{words}"), "                 ", style, out)?;
        }
    }
    Ok(())
}
