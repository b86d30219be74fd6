//! Volume over time, drawn with plotters: packets, bits, drops, one panel each.

use plotters::coord::Shift;
use plotters::prelude::*;
use psc_replay::view::analyze::Series;

use super::Figure;
use super::canvas::{Canvas, Font};
use crate::units;

const WIDTH: u32 = 1_000;
const MARGIN: f64 = 20.0;
/// Room above the panels for title and key.
const TOP: u32 = 84;
/// Most points drawn of a series; neighbouring bins are added up to get there.
const POINTS: usize = 400;

// Exactly the colours that the figure's style sheet maps to light and dark.
const FAINT: RGBColor = RGBColor(0x56, 0x62, 0x73);
const RULE: RGBColor = RGBColor(0xd5, 0xdb, 0xe3);
const AXIS: RGBColor = RGBColor(0x87, 0x93, 0xa3);
const IN: RGBColor = RGBColor(0x0b, 0x6e, 0x8f);
const OUT: RGBColor = RGBColor(0x8a, 0x53, 0x00);
const DROP: RGBColor = RGBColor(0xb3, 0x26, 0x1e);

/// A series in merged bins.
struct Bins {
    values: Vec<f64>,
    /// Width, seconds.
    width: f64,
}

fn bins(values: &[u64], bin_ns: u64) -> Bins {
    let each = values.len().div_ceil(POINTS).max(1);
    Bins {
        values: values
            .chunks(each)
            .map(|chunk| chunk.iter().map(|value| *value as f64).sum())
            .collect(),
        width: bin_ns as f64 * each as f64 / 1e9,
    }
}

impl Bins {
    /// Corners of a step line: a bin's value holds from its start to its end.
    fn steps(&self, per_second: f64) -> Vec<(f64, f64)> {
        let corners = self.values.iter().enumerate().flat_map(|(index, value)| {
            let start = index as f64 * self.width;
            let rate = value * per_second;
            [(start, rate), (start + self.width, rate)]
        });
        corners.collect()
    }
}

/// One panel: what it shows and its lines.
struct Panel {
    name: &'static str,
    height: u32,
    lines: Vec<Line>,
    /// Writes a value of the axis.
    label: fn(f64) -> String,
}

struct Line {
    points: Vec<(f64, f64)>,
    colour: RGBColor,
    dash: Option<(u32, u32)>,
    filled: bool,
}

fn whole(value: f64) -> String {
    units::count(value.round() as u64)
}

fn bits(value: f64) -> String {
    units::bit_rate((value / 8.0).round() as u64, 1_000_000_000)
}

/// Zero has no unit; the rest is as long as it is.
fn seconds_label(value: f64) -> String {
    match (value * 1e9).round() as u64 {
        0 => "0".to_owned(),
        ns => units::duration(ns),
    }
}

fn panels(series: &Series) -> Vec<Panel> {
    let line = |values: &[u64], factor: f64, colour, dash, filled| {
        let bins = bins(values, series.bin_ns);
        let per_second = if bins.width > 0.0 { factor / bins.width } else { 0.0 };
        Line { points: bins.steps(per_second), colour, dash, filled }
    };
    let any = |values: &[u64]| values.iter().any(|value| *value > 0);
    let mut packets = Vec::new();
    for (values, colour, dash) in [
        (&series.ingress, IN, None),
        (&series.egress, OUT, Some((7, 3))),
        (&series.unknown, FAINT, Some((2, 3))),
    ] {
        if any(values) {
            packets.push(line(values, 1.0, colour, dash, false));
        }
    }
    let mut panels = Vec::new();
    if !packets.is_empty() {
        panels.push(Panel { name: "packets a second", height: 210, lines: packets, label: whole });
    }
    if any(&series.bytes) {
        let lines = vec![line(&series.bytes, 8.0, FAINT, None, true)];
        panels.push(Panel { name: "bits a second", height: 130, lines, label: bits });
    }
    if any(&series.drops) {
        let lines = vec![line(&series.drops, 1.0, DROP, None, true)];
        panels.push(Panel { name: "drops a second", height: 110, lines, label: whole });
    }
    panels
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn draw(
    area: &Area<'_>,
    panel: &Panel,
    seconds: f64,
    last: bool,
) -> Result<(), Box<dyn std::error::Error>> {
    let most = panel.lines.iter().flat_map(|line| &line.points).map(|point| point.1);
    let most = most.fold(0.0f64, f64::max).max(1.0) * 1.08;
    let mut chart = ChartBuilder::on(area)
        .margin_left(8)
        .margin_right(36)
        .margin_top(22)
        .x_label_area_size(if last { 30 } else { 8 })
        .y_label_area_size(84)
        .build_cartesian_2d(0.0..seconds, 0.0..most)?;
    let font = ("sans-serif", 12).into_font().color(&FAINT);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RULE)
        .axis_style(AXIS)
        .label_style(font.clone())
        .y_labels(4)
        .x_labels(if last { 10 } else { 0 })
        .y_label_formatter(&|value| (panel.label)(*value))
        .x_label_formatter(&|value| seconds_label(*value))
        .draw()?;
    for line in &panel.lines {
        let points = line.points.iter().copied();
        let style = line.colour.stroke_width(2);
        match line.dash {
            _ if line.filled => {
                let area = AreaSeries::new(points, 0.0, line.colour.mix(0.3));
                chart.draw_series(area.border_style(line.colour.stroke_width(1)))?;
            }
            Some((on, off)) => {
                chart.draw_series(DashedLineSeries::new(points, on, off, style))?;
            }
            None => {
                chart.draw_series(LineSeries::new(points, style))?;
            }
        }
    }
    area.draw_text(panel.name, &font, (92, 4))?;
    Ok(())
}

/// The panels as markup, without the outer element, which would fix colours and hide the title.
fn plot(panels: &[Panel], height: u32, seconds: f64) -> Result<String, Box<dyn std::error::Error>> {
    let mut markup = String::new();
    {
        let root = SVGBackend::with_string(&mut markup, (WIDTH, height)).into_drawing_area();
        let mut rest = root.clone();
        for (index, panel) in panels.iter().enumerate() {
            let last = index + 1 == panels.len();
            let (area, below) = rest.split_vertically(panel.height + if last { 24 } else { 0 });
            draw(&area, panel, seconds, last)?;
            rest = below;
        }
        root.present()?;
    }
    let start = markup.find("<svg").and_then(|at| Some(at + markup[at..].find('>')? + 1));
    let end = markup.rfind("</svg>");
    Ok(match (start, end) {
        (Some(start), Some(end)) if start <= end => markup[start..end].to_owned(),
        _ => String::new(),
    })
}

pub(super) fn figure(series: &Series) -> Figure {
    let panels = panels(series);
    let inner = f64::from(WIDTH) - 2.0 * MARGIN;
    let longest = [&series.ingress, &series.egress, &series.unknown, &series.bytes, &series.drops]
        .into_iter()
        .map(Vec::len)
        .max()
        .unwrap_or(0);
    let seconds = (longest as f64 * series.bin_ns as f64 / 1e9).max(1e-9);
    let height = panels.iter().map(|panel| panel.height).sum::<u32>() + 24;
    let mut canvas = Canvas::default();
    canvas.text(Font::Title, "f-ink", (MARGIN, 30.0), inner, "Volume over time");
    let drawn = if panels.is_empty() { Ok(String::new()) } else { plot(&panels, height, seconds) };
    let about = match (&drawn, panels.is_empty()) {
        (_, true) => "no packet was recorded".to_owned(),
        // The backend writes to memory: it has no way to fail that a caller could cause.
        (Err(err), _) => format!("could not be drawn: {err}"),
        (Ok(_), _) => format!(
            "skbs, not wire segments · in bins of {}",
            units::duration(series.bin_ns.saturating_mul(longest.div_ceil(POINTS).max(1) as u64))
        ),
    };
    canvas.text(Font::Plain, "f-faint", (MARGIN, 50.0), inner, &about);
    let mut x = MARGIN;
    for (name, class, shown) in [
        ("ingress", "f-e-in", &series.ingress),
        ("egress", "f-e-out f-e-lineage", &series.egress),
        ("direction unknown", "f-e-side f-e-effect", &series.unknown),
    ] {
        if shown.iter().any(|value| *value > 0) {
            let y = f64::from(TOP) - 14.0;
            canvas.raw(format_args!("<g stroke-width=\"2\">"));
            canvas.line(class, (x, y), (x + 26.0, y));
            canvas.raw(format_args!("</g>"));
            canvas.text(Font::Small, "f-faint", (x + 32.0, y + 4.0), 150.0, name);
            x += 32.0 + Font::Small.width(name) + 22.0;
        }
    }
    let inside = drawn.unwrap_or_default();
    canvas.raw(format_args!("<g class=\"f-plot\" transform=\"translate(0 {TOP})\">{inside}</g>"));
    let sum = |values: &[u64]| values.iter().fold(0u64, |sum, value| sum.saturating_add(*value));
    let description = format!(
        "{} ingress, {} egress, {} of unknown direction, {} over {}.",
        units::counted(sum(&series.ingress), "packet", "packets"),
        units::counted(sum(&series.egress), "packet", "packets"),
        units::count(sum(&series.unknown)),
        units::counted(sum(&series.drops), "drop", "drops"),
        units::duration((seconds * 1e9) as u64),
    );
    Figure {
        width: f64::from(WIDTH),
        height: f64::from(TOP + height),
        title: "Volume over time".to_owned(),
        description,
        body: canvas.body,
        interactive: false,
    }
}
