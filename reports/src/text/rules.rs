//! Rules: checked, and replayed.

use std::fmt::{self, Write};

use psc_replay::view::rules::{RuleCheckView, RuleOutcome, RuleReplayView};

use super::table::{Table, number, short, words};
use super::{Ink, Style, heading, or_dash, preamble, wrap};
use crate::escape;
use crate::units;

/// Each rule as psc understood it, and whether the kernel can decide it.
pub fn rule_check(view: &RuleCheckView, style: Style, out: &mut impl Write) -> fmt::Result {
    let file = escape::terminal(&view.file);
    let rules = units::counted(view.rules.len() as u64, "rule", "rules");
    writeln!(out, "{file}: {rules}, no errors")?;
    let mut table = Table::new(vec![
        number("line"),
        short("rule"),
        short("action"),
        short("kernel"),
        words("condition", 30),
    ]);
    for rule in &view.rules {
        let kernel = match rule.compiled.as_str() {
            "exact" => "exact",
            "finding" => "by psc live",
            _ => "no",
        };
        table.row(vec![
            rule.line.to_string(),
            escape::terminal(&rule.id).into_owned(),
            rule.action.clone(),
            kernel.to_owned(),
            escape::terminal(&rule.condition).into_owned(),
        ]);
        let mut notes = Vec::new();
        if !rule.does.is_empty() {
            notes.push(rule.does.clone());
        }
        if !rule.reason.is_empty() {
            notes.push(format!("replay only: {}", rule.reason));
        }
        if !notes.is_empty() {
            table.note(escape::terminal(&notes.join("; ")).into_owned());
        }
    }
    if !view.rules.is_empty() {
        table.write(style, out)?;
    }
    writeln!(out)?;
    let enforce = if view.enforceable {
        "`psc live --enforce` takes this file as it is."
    } else {
        "`psc live --enforce` refuses this file: the kernel cannot decide the rules marked no, and leaving \
         them out would change what the others do."
    };
    wrap(
        &format!(
            "For each packet {} looked up, {} compared as bits, {} of tables. {enforce}",
            units::counted(view.fields as u64, "header field is", "header fields are"),
            units::counted(view.conjunctions as u64, "conjunction", "conjunctions"),
            units::bytes(view.table_bytes),
        ),
        "",
        style,
        out,
    )
}

/// What each rule would have done, and to which healthy flows.
pub fn rule_replay(view: &RuleReplayView, style: Style, out: &mut impl Write) -> fmt::Result {
    preamble(&view.provenance, style, out)?;
    heading("Rules replayed: nothing was touched", style, out)?;
    let discarded = format!(
        "{} of {} would have been discarded ({}).",
        units::count(view.discarded),
        units::counted(view.asked, "packet", "packets"),
        units::bytes(view.discarded_bytes)
    );
    let collateral = if view.healthy_packets == 0 {
        "None of them belonged to a flow that was healthy.".to_owned()
    } else {
        format!(
            "{} belonged to {} that {} healthy: collateral damage.",
            units::counted(view.healthy_packets, "of them", "of them"),
            units::counted(view.healthy_flows_hit, "flow", "flows"),
            if view.healthy_flows_hit == 1 { "was" } else { "were" }
        )
    };
    wrap(&format!("  {discarded} {collateral}"), "  ", style, out)?;
    for (count, what) in [
        (
            view.direction_unknown,
            "went a way that the capture does not say: rules of both directions looked at them",
        ),
        (
            view.headers_cut,
            "have headers that were not recorded whole: the kernel might decide otherwise (record with a larger -s)",
        ),
        (view.flows_forgotten, "belong to flows too many to keep apart: their health is not known"),
    ] {
        if count > 0 {
            let line = format!("  {} {what}.", units::counted(count, "packet", "packets"));
            wrap(&line, "  ", style, out)?;
        }
    }
    let mut table = Table::new(vec![
        short("rule"),
        short("action"),
        number("matched"),
        number("dropped"),
        number("blocked"),
        number("flows"),
        number("healthy"),
        number("collateral"),
    ]);
    for rule in &view.rules {
        table.row(vec![
            escape::terminal(&rule.id).into_owned(),
            rule.action.clone(),
            units::count(rule.matched),
            units::count(rule.discarded),
            units::count(rule.blocked),
            units::count(rule.flows),
            units::count(rule.healthy_flows),
            units::count(rule.healthy_packets),
        ]);
        if !rule.replay_only.is_empty() {
            let why = format!("the kernel cannot enforce this: {}", rule.replay_only);
            table.note(escape::terminal(&why).into_owned());
        }
    }
    writeln!(out)?;
    table.write(style, out)?;
    if !view.recorded.is_empty() {
        heading("Recorded and replayed", style, out)?;
        let mut table = Table::new(vec![
            short("rule"),
            number("discarded then"),
            number("now"),
            words("why they differ", 30),
        ]);
        for row in &view.recorded {
            table.row(vec![
                escape::terminal(&row.id).into_owned(),
                units::count(row.recorded),
                units::count(row.replayed),
                or_dash(&row.why),
            ]);
        }
        table.write(style, out)?;
    }
    for rule in view.rules.iter().filter(|rule| rule.discarded + rule.blocked > 0) {
        writeln!(out)?;
        one(rule, view.provenance.first, style, out)?;
    }
    Ok(())
}

fn one(rule: &RuleOutcome, start: u64, style: Style, out: &mut impl Write) -> fmt::Result {
    let ink = if rule.healthy_packets > 0 { Ink::Bad } else { Ink::Strong };
    writeln!(out, "  {}", style.paint(ink, &escape::terminal(&rule.id)))?;
    if let (Some(first), Some(last)) = (rule.first, rule.last) {
        let (from, to) = (units::offset(first, start), units::offset(last, start));
        writeln!(out, "    acted from {from} to {to}")?;
    }
    if rule.blocks > 0 || rule.blocked > 0 {
        let blocks = units::counted(rule.blocks, "block", "blocks");
        writeln!(
            out,
            "    {blocks} would have discarded {}",
            units::counted(rule.blocked, "packet", "packets")
        )?;
    }
    if rule.unproven > 0 {
        let line = format!(
            "    {} asked for a block of a source that completed no handshake: discarded alone, since anybody can \
             pretend to be that source",
            units::counted(rule.unproven, "packet", "packets")
        );
        wrap(&line, "    ", style, out)?;
    }
    if !rule.sources.is_empty() {
        let sources: Vec<String> = rule
            .sources
            .iter()
            .map(|(address, packets)| {
                format!("{} ({})", escape::terminal(address), units::count(*packets))
            })
            .collect();
        wrap(&format!("    most from {}", sources.join(", ")), "    ", style, out)?;
    }
    for flow in &rule.examples {
        let line = format!(
            "    hurts {}: {} of {} packets ({})",
            or_dash(&flow.flow),
            units::count(flow.packets),
            units::count(flow.of),
            flow.why
        );
        wrap(&line, "    ", style, out)?;
    }
    Ok(())
}
