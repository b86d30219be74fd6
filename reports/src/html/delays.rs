//! Waits for softirqs and for a CPU.

use maud::{Markup, html};

use super::Report;
use super::cells::{Cell, Grid, Row, mono, num, text};

/// One row for each CPU and process; nothing when there is none.
pub(super) fn table(report: &Report<'_>) -> Markup {
    let rows = report.analyze.delays.iter().map(|row| {
        let latency = &row.latency;
        Row::plain(vec![
            Cell::text(&row.delay),
            Cell::text(&row.of),
            Cell::count(latency.count),
            Cell::duration(latency.p50),
            Cell::duration(latency.p90),
            Cell::duration(latency.p99),
            Cell::duration(latency.max),
            Cell::duration(row.total_ns),
        ])
    });
    let rerun = report.rerun("analyze --format json");
    let grid = Grid {
        id: "delay-table",
        caption: "Softirqs by CPU, and the wait for a CPU by process that a socket woke",
        columns: &[
            text("Delay"),
            mono("Of"),
            num("Times"),
            num("p50"),
            num("p90"),
            num("p99"),
            num("Max"),
            num("In all"),
        ],
        rows: 200,
        bytes: 100_000,
        rerun: &rerun,
    };
    html! {
        @if !report.analyze.delays.is_empty() { (grid.draw(rows, 0)) }
    }
}
