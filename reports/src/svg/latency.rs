//! Latency between layers: distribution and percentiles on one logarithmic axis.

use std::fmt::Write as _;

use psc_replay::view::analyze::LayerLatency;

use super::Figure;
use super::canvas::{Canvas, Font, brief, px};
use crate::units;

/// Rows drawn; the rest is counted.
const ROWS: usize = 24;
const WIDTH: f64 = 1_000.0;
const MARGIN: f64 = 20.0;
const LABELS: f64 = 330.0;
const ROW: f64 = 62.0;
/// Highest bar of a distribution.
const HILL: f64 = 30.0;
const TOP: f64 = 92.0;

/// Powers of ten from just below the smallest to just above the largest value.
struct Axis {
    low: u32,
    high: u32,
}

impl Axis {
    fn of(rows: &[&LayerLatency]) -> Option<Self> {
        let known = rows.iter().filter(|row| row.latency.count > 0);
        let low = known.clone().map(|row| row.latency.min).min()?.max(1).ilog10();
        let max = known.map(|row| row.latency.max).max()?.max(1);
        let high = if max == 10u64.pow(max.ilog10()) { max.ilog10() } else { max.ilog10() + 1 };
        Some(Self { low, high: high.max(low + 1) })
    }

    fn x(&self, ns: u64) -> f64 {
        let (start, end) = (MARGIN + LABELS, WIDTH - MARGIN - 28.0);
        let share =
            ((ns.max(1) as f64).log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        start + share.clamp(0.0, 1.0) * (end - start)
    }
}

pub(super) fn figure(rows: &[LayerLatency]) -> Figure {
    let shown: Vec<&LayerLatency> = rows.iter().take(ROWS).collect();
    let axis = Axis::of(&shown);
    let mut canvas = Canvas::default();
    let inner = WIDTH - 2.0 * MARGIN;
    canvas.text(Font::Title, "f-ink", (MARGIN, 30.0), inner, "Latency between layers");
    let about = "hills: how many samples took how long · marks: median, 90th and 99th percentile, \
                 maximum · logarithmic axis";
    canvas.text(Font::Plain, "f-faint", (MARGIN, 50.0), inner, about);
    let bottom = TOP + shown.len() as f64 * ROW;
    if let Some(axis) = &axis {
        for power in axis.low..=axis.high {
            let x = axis.x(10u64.saturating_pow(power));
            canvas.line("f-rule", (x, TOP - 8.0), (x, bottom));
            let label = decade(power);
            canvas.text(Font::Small, "f-faint f-mid", (x, TOP - 14.0), 70.0, &label);
        }
    }
    let mut told = Vec::new();
    for (index, row) in shown.iter().enumerate() {
        let y = TOP + index as f64 * ROW;
        canvas.text(Font::Small, "f-faint", (MARGIN, y + 14.0), LABELS - 14.0, &row.direction);
        canvas.text(Font::Mono, "f-ink", (MARGIN, y + 29.0), LABELS - 14.0, &row.from);
        let to = format!("to {}", row.to);
        canvas.text(Font::Mono, "f-ink", (MARGIN, y + 44.0), LABELS - 14.0, &to);
        match &axis {
            Some(axis) if row.latency.count > 0 => {
                distribution(&mut canvas, axis, row, y);
                told.push(format!(
                    "{} to {}: median {}, p99 {}",
                    brief(&row.from, 60),
                    brief(&row.to, 60),
                    units::duration(row.latency.p50),
                    units::duration(row.latency.p99)
                ));
            }
            _ => {
                let line = units::unavailable(&row.note);
                let at = (MARGIN + LABELS, y + 32.0);
                canvas.text(Font::Plain, "f-faint f-halo", at, inner - LABELS, &line);
            }
        }
        canvas.line("f-rule", (MARGIN, y + ROW - 4.0), (WIDTH - MARGIN, y + ROW - 4.0));
    }
    let mut height = bottom + 12.0;
    if rows.len() > ROWS {
        let rest = format!("{} more rows not drawn", rows.len() - ROWS);
        canvas.text(Font::Small, "f-faint", (MARGIN, bottom + 14.0), inner, &rest);
        height += 18.0;
    }
    if rows.is_empty() {
        canvas.text(Font::Plain, "f-faint", (MARGIN, TOP), inner, "no pair of layers was observed");
    }
    Figure {
        width: WIDTH,
        height,
        title: "Latency between layers".to_owned(),
        description: format!("{}.", told.join("; ")),
        body: canvas.body,
        interactive: false,
    }
}

/// `10 µs` for 4: the axis counts nanoseconds.
fn decade(power: u32) -> String {
    let number = 10u64.pow(power % 3);
    match power / 3 {
        0 => format!("{number} ns"),
        1 => format!("{number} µs"),
        2 => format!("{number} ms"),
        _ => format!("{} s", 10u64.saturating_pow(power - 9)),
    }
}

fn distribution(canvas: &mut Canvas, axis: &Axis, row: &LayerLatency, y: f64) {
    let base = y + 4.0 + HILL;
    // Buckets of the recording are many and fine: drawn as columns 4 px wide.
    let (start, end) = (axis.x(10u64.pow(axis.low)), axis.x(10u64.saturating_pow(axis.high)));
    let mut columns = vec![0u64; ((end - start) / 4.0) as usize + 1];
    for (bound, count) in &row.histogram {
        let column = ((axis.x(*bound) - start) / 4.0) as usize;
        if let Some(slot) = columns.get_mut(column) {
            *slot = slot.saturating_add(*count);
        }
    }
    let most = columns.iter().copied().max().unwrap_or(0).max(1);
    let mut path = String::new();
    for (index, count) in columns.iter().enumerate().filter(|(_, count)| **count > 0) {
        // A square root, so that the slow tail is seen beside a million fast ones.
        let high = ((*count as f64 / most as f64).sqrt() * HILL).max(1.0);
        let x = start + index as f64 * 4.0;
        let _ = write!(path, "M{} {}v{}h3.4v{}z", px(x), px(base), px(-high), px(high));
    }
    if !path.is_empty() {
        canvas.raw(format_args!("<path class=\"f-bar-solid\" d=\"{path}\"/>"));
    }
    canvas.line("f-mark", (axis.x(row.latency.min), base), (axis.x(row.latency.max), base));
    let marks = [
        ("p50", row.latency.p50),
        ("p90", row.latency.p90),
        ("p99", row.latency.p99),
        ("max", row.latency.max),
    ];
    // Labels from the left; one that would touch the label before it is left out, its mark is not.
    let mut free = f64::MIN;
    for (name, ns) in marks {
        let x = axis.x(ns);
        canvas.line("f-mark", (x, base - 5.0), (x, base + 5.0));
        let label = format!("{name} {}", units::duration(ns));
        let half = Font::Small.width(&label) / 2.0;
        let middle = x.clamp(MARGIN + LABELS + half - 20.0, WIDTH - MARGIN - half);
        if middle - half >= free {
            let at = (middle, base + 18.0);
            canvas.text(Font::Small, "f-ink f-mid f-halo", at, 2.0 * half + 1.0, &label);
            free = middle + half + 4.0;
        }
    }
}
