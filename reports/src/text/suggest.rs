//! Suggested rules, and what they would have touched.

use std::fmt::{self, Write};

use psc_replay::view::suggest::SuggestView;

use super::{Ink, Style, heading, preamble, wrap};
use crate::escape;

/// Each suggestion as a rule with its reason and collateral.
pub fn suggest(view: &SuggestView, style: Style, out: &mut impl Write) -> fmt::Result {
    preamble(&view.provenance, style, out)?;
    if view.suggestions.is_empty() {
        heading("No rule to suggest", style, out)?;
    }
    for suggestion in &view.suggestions {
        heading(&escape::terminal(&suggestion.finding), style, out)?;
        for line in suggestion.rule.lines() {
            writeln!(out, "    {}", style.paint(Ink::Strong, &escape::terminal(line)))?;
        }
        let action = escape::terminal(&suggestion.action);
        wrap(&format!("  {action}: {}.", escape::terminal(&suggestion.why)), "    ", style, out)?;
        let matched = format!(
            "  It matched {} of {} packets here. {}",
            suggestion.matched,
            suggestion.of,
            escape::terminal(&suggestion.verdict)
        );
        wrap(&matched, "    ", style, out)?;
    }
    if !view.without.is_empty() {
        heading("Findings without a rule", style, out)?;
        for (title, why) in &view.without {
            let (title, why) = (escape::terminal(title), escape::terminal(why));
            wrap(&format!("  {title} ({why})"), "    ", style, out)?;
        }
    }
    Ok(())
}
