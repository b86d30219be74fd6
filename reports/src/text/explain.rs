//! An explanation in sentences, what they cite, and what was left out.

use std::fmt::{self, Write};

use psc_replay::view::explain::ExplainView;

use super::{Ink, Style, heading, preamble, wrap};
use crate::escape;
use crate::units;

/// Sentences with their citations, then the evidence cited.
pub fn explain(view: &ExplainView, style: Style, out: &mut impl Write) -> fmt::Result {
    preamble(&view.provenance, style, out)?;
    let by = escape::terminal(&view.by);
    heading(&format!("Explanation (by {by})"), style, out)?;
    if !view.fallback.is_empty() {
        let why = format!("  The model did not explain: {}.", escape::terminal(&view.fallback));
        let mut filled = String::new();
        wrap(&why, "    ", style, &mut filled)?;
        for line in filled.lines() {
            writeln!(out, "{}", style.paint(Ink::Warn, line))?;
        }
    }
    for sentence in &view.sentences {
        let cites = sentence.cites.iter().map(|id| escape::terminal(id).into_owned());
        let cites = cites.collect::<Vec<_>>().join(", ");
        wrap(&format!("  {} [{cites}]", escape::terminal(&sentence.text)), "    ", style, out)?;
    }
    heading("Evidence", style, out)?;
    for cited in &view.evidence {
        let journeys = cited.journeys.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        let journeys =
            if journeys.is_empty() { String::new() } else { format!(" (journeys {journeys})") };
        let id = escape::terminal(&cited.id);
        let text = escape::terminal(&cited.text);
        wrap(&format!("  {id:<6} {text}{journeys}"), "         ", style, out)?;
    }
    if !view.dropped.is_empty() {
        let n = units::counted(view.dropped.len() as u64, "sentence", "sentences");
        heading(&format!("Left out of the model's answer: {n}"), style, out)?;
        for dropped in &view.dropped {
            let (text, reason) =
                (escape::terminal(&dropped.text), escape::terminal(&dropped.reason));
            wrap(&format!("  \"{text}\": {reason}."), "    ", style, out)?;
        }
    }
    Ok(())
}
