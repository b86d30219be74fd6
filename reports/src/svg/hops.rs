//! Latency by hop: one panel a route, the range of each router's round trips over its TTL.

use psc_replay::view::locate::LocateView;
use psc_replay::view::route::{NodeRow, RouteRow};

use super::Figure;
use super::canvas::{Canvas, Font, brief, px};
use crate::escape;
use crate::units;

const WIDTH: f64 = 1_000.0;
const MARGIN: f64 = 20.0;
const TOP: f64 = 62.0;
/// Panels drawn.
const PANELS: usize = 8;
const PANEL: f64 = 190.0;
const LEFT: f64 = 84.0;
/// Height of the area that values are drawn in.
const PLOT: f64 = 104.0;

pub(super) fn figure(view: &LocateView) -> Figure {
    let mut canvas = Canvas::default();
    let inner = WIDTH - 2.0 * MARGIN;
    let shown = view.routes.len().min(PANELS);
    canvas.text(Font::Title, "f-ink", (MARGIN, 30.0), inner, "Latency by hop");
    let mut about =
        "round trips measured from probe to answer · bar: least to 90th percentile · dot: \
                     median · cross: no answer"
            .to_owned();
    let more = view.routes.len() - shown;
    if more > 0 {
        about =
            format!("{about} · {} more not drawn", units::counted(more as u64, "route", "routes"));
    }
    canvas.text(Font::Plain, "f-faint", (MARGIN, 50.0), inner, &about);
    let mut described = Vec::new();
    for (index, route) in view.routes.iter().take(shown).enumerate() {
        panel(&mut canvas, route, TOP + index as f64 * PANEL);
        described.push(words(route));
    }
    if shown == 0 {
        let none = "No route probes were seen: nothing is known of single hops.";
        canvas.text(Font::Plain, "f-faint", (MARGIN, TOP + 20.0), inner, none);
        described.push(none.to_owned());
    }
    Figure {
        width: WIDTH,
        height: TOP + shown.max(1) as f64 * if shown == 0 { 40.0 } else { PANEL },
        title: "Latency by hop".to_owned(),
        description: described.join(" "),
        body: canvas.body,
        interactive: false,
    }
}

fn title(route: &RouteRow) -> String {
    let reached = match (route.reached, route.silent_beyond) {
        (Some(ttl), _) => format!("reached at hop {ttl}"),
        (None, Some(ttl)) => format!("not reached, silent beyond hop {ttl}"),
        (None, None) => "not reached".to_owned(),
    };
    let host = if route.host.is_empty() { &route.source } else { &route.host };
    format!(
        "{} to {} by {}, {reached}, {}",
        brief(host, 40),
        brief(&route.target, 50),
        route.protocol,
        units::counted(route.sent, "probe", "probes")
    )
}

fn words(route: &RouteRow) -> String {
    let hops: Vec<String> = route
        .hops
        .iter()
        .map(|hop| match hop.nodes.first().and_then(|node| node.rtt) {
            Some(rtt) => format!("hop {} {}", hop.ttl, units::duration(rtt.p50)),
            None => format!("hop {} no answer", hop.ttl),
        })
        .collect();
    format!("{}: {}.", title(route), hops.join(", "))
}

/// A round value at or above `most`: 1, 2 or 5 times a power of ten.
fn nice(most: u64) -> u64 {
    let mut step = 1u64;
    loop {
        for factor in [1, 2, 5] {
            let value = step.saturating_mul(factor);
            if value >= most {
                return value;
            }
        }
        step = step.saturating_mul(10);
    }
}

fn panel(canvas: &mut Canvas, route: &RouteRow, top: f64) {
    let inner = WIDTH - 2.0 * MARGIN;
    canvas.text(Font::Plain, "f-ink f-b", (MARGIN, top + 16.0), inner, &title(route));
    let nodes = || route.hops.iter().flat_map(|hop| &hop.nodes);
    let most = nodes().filter_map(|node| node.rtt).map(|rtt| rtt.p90).max().unwrap_or(0);
    let most = nice(most.max(1_000));
    let base = top + 34.0 + PLOT;
    let y = |ns: u64| base - PLOT * (ns as f64 / most as f64).min(1.0);
    for part in 0..=2 {
        let value = most / 2 * part;
        canvas.line("f-rule", (LEFT, y(value)), (WIDTH - MARGIN, y(value)));
        let label = if value == 0 { "0".to_owned() } else { units::duration(value) };
        canvas.text(
            Font::Small,
            "f-faint f-end",
            (LEFT - 8.0, y(value) + 4.0),
            LEFT - 10.0,
            &label,
        );
    }
    let count = route.hops.len().max(1) as f64;
    let step = ((WIDTH - MARGIN - LEFT) / count).min(110.0);
    let mut line: Vec<(f64, f64)> = Vec::new();
    for (index, hop) in route.hops.iter().enumerate() {
        let x = LEFT + (index as f64 + 0.5) * step;
        canvas.text(Font::Small, "f-faint f-mid", (x, base + 16.0), step, &hop.ttl.to_string());
        if hop.answered == 0 {
            let (a, b) = (px(x - 4.0), px(x + 4.0));
            canvas.raw(format_args!(
                "<g><title>hop {}: no answer to {}</title><path class=\"f-mark\" d=\"M{a} {}L{b} {}M{b} {}L{a} {}\"/></g>",
                hop.ttl,
                units::counted(hop.sent, "probe", "probes"),
                px(base - 8.0), px(base), px(base - 8.0), px(base)
            ));
            continue;
        }
        let spread = (step / 3.0).min(14.0);
        let many = hop.nodes.len().min(4);
        for (n, node) in hop.nodes.iter().take(4).enumerate() {
            let offset = (n as f64 - (many - 1) as f64 / 2.0) * spread;
            mark(canvas, node, hop.ttl, x + offset, &y);
        }
        if let Some(rtt) = hop.nodes.first().and_then(|node| node.rtt) {
            let offset = -((many - 1) as f64) / 2.0 * spread;
            line.push((x + offset, y(rtt.p50)));
        }
        let lost = hop.sent.saturating_sub(hop.answered);
        if lost > 0 {
            let text = format!("{} lost", units::percent(lost, hop.sent));
            canvas.text(Font::Small, "f-bad f-mid", (x, base + 29.0), step, &text);
        } else if many > 1 {
            let text = format!("{} ways", hop.nodes.len());
            canvas.text(Font::Small, "f-faint f-mid", (x, base + 29.0), step, &text);
        }
    }
    let points: Vec<String> = line.iter().map(|(x, y)| format!("{},{}", px(*x), px(*y))).collect();
    canvas.raw(format_args!(
        "<polyline class=\"f-e f-e-side\" fill=\"none\" points=\"{}\"/>",
        points.join(" ")
    ));
}

fn mark(canvas: &mut Canvas, node: &NodeRow, ttl: u8, x: f64, y: &impl Fn(u64) -> f64) {
    let Some(rtt) = node.rtt else { return };
    let title = format!(
        "hop {ttl}: {} ({}), {} to {} to {}, {}",
        brief(&node.address, 50),
        node.answer,
        units::duration(rtt.min),
        units::duration(rtt.p50),
        units::duration(rtt.p90),
        units::counted(rtt.samples, "answer", "answers")
    );
    canvas.raw(format_args!("<g><title>{}</title>", escape::markup(&title)));
    let height = (y(rtt.min) - y(rtt.p90)).max(2.0);
    canvas.rect("f-bar", (x - 4.0, y(rtt.p90)), (8.0, height));
    canvas.circle("f-bar-solid", (x, y(rtt.p50)), 3.2);
    canvas.raw(format_args!("</g>"));
}
