//! Statements about a recording and whether they hold.

use std::fmt::{self, Write};

use psc_replay::view::check::CheckView;

use super::{Ink, Style, heading, preamble, wrap};
use crate::escape;
use crate::units;

/// Each statement with what was found, those that do not hold first.
pub fn check(view: &CheckView, style: Style, out: &mut impl Write) -> fmt::Result {
    preamble(&view.provenance, style, out)?;
    let all = view.checks.len() as u64;
    let title = if view.failed == 0 {
        let verb = if all == 1 { "holds" } else { "hold" };
        format!("{} {verb}", units::counted(all, "statement", "statements"))
    } else {
        let not = if view.failed == 1 { "does not hold" } else { "do not hold" };
        format!("{} of {} {not}", view.failed, units::counted(all, "statement", "statements"))
    };
    heading(&title, style, out)?;
    let (good, bad): (Vec<_>, Vec<_>) = view.checks.iter().partition(|check| check.holds);
    for check in bad.into_iter().chain(good) {
        let (mark, ink) = if check.holds { ("ok    ", Ink::Faint) } else { ("FAILED", Ink::Bad) };
        writeln!(out, "  {} {}", style.paint(ink, mark), escape::terminal(&check.name))?;
        if check.statement != check.name {
            wrap(
                &format!("         {}", escape::terminal(&check.statement)),
                "         ",
                style,
                out,
            )?;
        }
        wrap(&format!("         {}", escape::terminal(&check.found)), "         ", style, out)?;
        for line in &check.evidence {
            wrap(&format!("         - {}", escape::terminal(line)), "           ", style, out)?;
        }
    }
    Ok(())
}
