//! Waits for softirqs and for a CPU.

use std::fmt::{self, Write};

use psc_replay::view::analyze::DelayRow;

use super::table::{Table, number, short, words};
use super::{Style, heading, or_dash};
use crate::units;

/// One row for each CPU and process; nothing when there is none.
pub(super) fn delays(rows: &[DelayRow], style: Style, out: &mut impl Write) -> fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    heading("Softirqs and scheduling", style, out)?;
    let mut table = Table::new(vec![
        short("delay"),
        words("of", 12),
        number("times"),
        number("p50"),
        number("p90").optional(),
        number("p99"),
        number("max"),
        number("in all"),
    ]);
    for row in rows {
        let latency = &row.latency;
        table.row(vec![
            or_dash(&row.delay),
            or_dash(&row.of),
            units::count(latency.count),
            units::duration(latency.p50),
            units::duration(latency.p90),
            units::duration(latency.p99),
            units::duration(latency.max),
            units::duration(row.total_ns),
        ]);
    }
    table.write(style, out)
}
