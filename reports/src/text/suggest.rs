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
        if !suggestion.replay_only.is_empty() {
            let why = escape::terminal(&suggestion.replay_only);
            wrap(&format!("  The kernel cannot enforce it: {why}"), "    ", style, out)?;
        }
        let replayed = format!(
            "  Replayed here, it was about {} of {} packets and would have discarded {}. {}",
            suggestion.matched,
            suggestion.of,
            suggestion.discarded,
            escape::terminal(&suggestion.verdict)
        );
        wrap(&replayed, "    ", style, out)?;
        for (flow, lost, of) in &suggestion.hurt {
            writeln!(out, "      {} would have lost {lost} of {of}", escape::terminal(flow))?;
        }
    }
    if !view.suggestions.is_empty() {
        let next = "Nothing has been applied. Keep what you want in a file, try all of it together with psc guard \
                    replay, then with psc live (which only counts until --enforce says otherwise).";
        writeln!(out)?;
        wrap(next, "", style, out)?;
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
