//! The dashboard of `psc live`.

use std::fmt::{self, Write};

use psc_replay::view::live::LiveView;

use super::table::{Table, address, number, short};
use super::{Ink, Style, heading};
use crate::escape;
use crate::units;

/// A screen: what is seen, what rules do, who is blocked, what happened last. `lines` is how much of the log
/// is shown.
pub fn live(view: &LiveView, lines: usize, style: Style, out: &mut impl Write) -> fmt::Result {
    let title = format!("{}, {}", view.interface, view.mode);
    writeln!(out, "{}", style.paint(Ink::Strong, &escape::terminal(&title)))?;
    writeln!(out, "{}", live_line(view))?;
    if !view.top.is_empty() {
        heading("Flows", style, out)?;
        let mut table = Table::new(vec![address("flow", 30), number("packets"), number("bytes")]);
        for (flow, packets, bytes) in &view.top {
            table.row(vec![
                escape::terminal(flow).into_owned(),
                units::count(*packets),
                units::bytes(*bytes),
            ]);
        }
        table.write(style, out)?;
    }
    if !view.reasons.is_empty() {
        heading("Drops by the kernel", style, out)?;
        let mut table = Table::new(vec![short("reason"), number("packets")]);
        for (reason, packets) in &view.reasons {
            table.row(vec![escape::terminal(reason).into_owned(), units::count(*packets)]);
        }
        table.write(style, out)?;
    }
    if !view.rules.is_empty() {
        heading("Rules", style, out)?;
        let mut table = Table::new(vec![
            short("rule"),
            short("action"),
            number("matched"),
            number("dropped"),
            number("blocked"),
        ]);
        for (id, action, matched, discarded, blocked) in &view.rules {
            table.row(vec![
                escape::terminal(id).into_owned(),
                action.clone(),
                units::count(*matched),
                units::count(*discarded),
                units::count(*blocked),
            ]);
        }
        table.write(style, out)?;
    }
    if !view.blocked.is_empty() {
        heading("Blocked", style, out)?;
        let mut table = Table::new(vec![address("who", 20), short("rule"), number("ends in")]);
        for (who, rule, left) in &view.blocked {
            table.row(vec![
                escape::terminal(who).into_owned(),
                escape::terminal(rule).into_owned(),
                units::duration(*left),
            ]);
        }
        table.write(style, out)?;
    }
    if !view.log.is_empty() {
        heading("Log", style, out)?;
        for (at, text) in view.log.iter().rev().take(lines).rev() {
            writeln!(out, "  {:>8}  {}", units::offset(*at, 0), escape::terminal(text))?;
        }
    }
    Ok(())
}

/// The same in one line, for what is no terminal.
pub fn live_line(view: &LiveView) -> String {
    format!(
        "{}: {} packets, {}, {} flows, {} dropped by the kernel, {} by rules, {} blocked, {} events lost",
        units::offset(view.at, 0),
        units::count(view.packets),
        units::bytes(view.bytes),
        units::count(view.flows),
        units::count(view.drops),
        units::count(view.discarded),
        units::count(view.blocks),
        units::count(view.lost),
    )
}
