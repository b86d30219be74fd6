//! Causes, and the rules that look for them.

use std::fmt::{self, Write};

use psc_replay::view::diagnose::{DiagnoseView, RuleRow};

use super::table::{Table, short, words};
use super::{Style, detect, heading, or_dash, preamble};
use crate::escape;
use crate::units;

/// Each cause with its evidence and what to change.
pub fn diagnose(view: &DiagnoseView, style: Style, out: &mut impl Write) -> fmt::Result {
    preamble(&view.provenance, style, out)?;
    let number = view.findings.len() as u64;
    let looked = units::counted(view.rules.len() as u64, "rule", "rules");
    if number == 0 {
        heading(&format!("Nothing found ({looked} looked)"), style, out)?;
    } else {
        let title = format!("{} ({looked} looked)", units::counted(number, "cause", "causes"));
        heading(&title, style, out)?;
    }
    detect::findings(&view.findings, view.provenance.first, style, out)
}

/// The rules as a table, in the order in which they look.
pub fn rules(rules: &[RuleRow], style: Style, out: &mut impl Write) -> fmt::Result {
    heading(&units::counted(rules.len() as u64, "rule", "rules"), style, out)?;
    let mut table = Table::new(vec![
        short("rule"),
        short("layer"),
        words("looks at", 24),
        words("cause", 24),
        words("silent on", 18),
    ]);
    for rule in rules {
        table.row(vec![
            or_dash(&rule.id),
            or_dash(&rule.layer),
            escape::terminal(&rule.looks_at).into_owned(),
            escape::terminal(&rule.cause).into_owned(),
            escape::terminal(&rule.silent_on).into_owned(),
        ]);
    }
    table.write(style, out)
}
