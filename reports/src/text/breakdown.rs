//! Totals by one key.

use std::fmt::{self, Write};

use psc_replay::view::Provenance;
use psc_replay::view::analyze::Breakdown;

use super::table::{Table, address, number};
use super::{Ink, Style, heading, omitted, or_dash, preamble};
use crate::units;

/// One row a value, most bytes first.
pub fn breakdown(
    provenance: &Provenance,
    table: &Breakdown,
    style: Style,
    out: &mut impl Write,
) -> fmt::Result {
    preamble(provenance, style, out)?;
    let total = (table.rows.len() as u64).saturating_add(table.omitted);
    heading(&format!("By {}, most bytes first ({})", table.by, units::count(total)), style, out)?;
    let title = match table.by.as_str() {
        "flow" => "flow",
        "interface" => "interface",
        "process" => "process",
        "cgroup" => "cgroup",
        "netns" => "namespace",
        "drop-reason" => "drop reason",
        "peer" => "peer",
        _ => "port",
    };
    let mut drawn = Table::new(vec![
        address(title, 16),
        number("packets"),
        number("bytes"),
        number("rate"),
        number("drops").optional(),
        number("retr").optional(),
        number("connections").optional(),
    ]);
    let nonzero = |value: u64| if value == 0 { String::new() } else { units::count(value) };
    for row in &table.rows {
        drawn.painted(
            (row.drops > 0).then_some(Ink::Warn),
            vec![
                or_dash(&row.name),
                units::count(row.packets),
                units::bytes(row.bytes),
                units::bit_rate(row.bytes, provenance.duration_ns),
                nonzero(row.drops),
                nonzero(row.retransmits),
                nonzero(row.connections),
            ],
        );
    }
    drawn.write(style, out)?;
    omitted(table.omitted, "rows", "raise --limit", style, out)
}
