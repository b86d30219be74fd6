//! The path graph: which functions packets went through, how often, and where they ended.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use std::fmt::Write as _;

use psc_replay::view::trace::{GraphEdge, GraphNode, PathGraph};

use super::Figure;
use super::canvas::{Canvas, Font, brief, px};
use super::layout::{bands, layer_rank};
use crate::{escape, units};

/// Nodes drawn: those with drops, then those with most events.
const NODES: usize = 60;
const WIDTH: f64 = 1_180.0;
const MARGIN: f64 = 20.0;
/// Room for a band's name.
const NAMES: f64 = 92.0;
const PER_ROW: usize = 4;
const ROW: f64 = 78.0;
const BAND_PAD: f64 = 10.0;
const TOP: f64 = 66.0;
const LARGEST: f64 = 14.0;

#[derive(Clone, Copy)]
struct Spot {
    x: f64,
    y: f64,
    radius: f64,
}

fn radius(events: u64, most: u64) -> f64 {
    let share = (events as f64 + 1.0).ln() / (most as f64 + 1.0).ln().max(1.0);
    4.0 + (LARGEST - 4.0) * share.min(1.0)
}

/// At most `limit` nodes, those with drops first, then those with most events; in the graph's
/// order.
pub(super) fn ranked(graph: &PathGraph, limit: usize) -> Vec<usize> {
    let mut keep: Vec<usize> = (0..graph.nodes.len()).collect();
    keep.sort_by_key(|index| {
        let node = &graph.nodes[*index];
        (node.drops == 0, Reverse(node.events), *index)
    });
    keep.truncate(limit);
    keep.sort_unstable();
    keep
}

pub(super) fn figure(graph: &PathGraph, interactive: bool) -> Figure {
    let keep = ranked(graph, NODES);
    let hidden = graph.nodes.len() - keep.len();
    let most = keep.iter().map(|index| graph.nodes[*index].events).max().unwrap_or(0);
    let bands = bands(graph, &keep, PER_ROW);
    let cell = (WIDTH - 2.0 * MARGIN - NAMES) / PER_ROW as f64;
    let mut canvas = Canvas::default();
    let inner = WIDTH - 2.0 * MARGIN;
    canvas.text(Font::Title, "f-ink", (MARGIN, 30.0), inner, "Path graph");
    let mut about = format!(
        "{} in {}, {} of steps; the wire is below, the application above",
        units::counted(graph.nodes.len() as u64, "function or probe", "functions and probes"),
        units::counted(bands.len() as u64, "layer", "layers"),
        units::counted(graph.edges.len() as u64, "kind", "kinds"),
    );
    if hidden > 0 {
        let _ = write!(about, ". {hidden} with fewest events not drawn");
    }
    canvas.text(Font::Plain, "f-faint", (MARGIN, 50.0), inner, &about);

    let mut spots: BTreeMap<usize, Spot> = BTreeMap::new();
    let mut halos: BTreeMap<usize, &str> = BTreeMap::new();
    let mut y = TOP;
    for (index, band) in bands.iter().enumerate() {
        let height = band.rows.len() as f64 * ROW + 2.0 * BAND_PAD;
        let class = if index % 2 == 0 { "f-band" } else { "f-band-alt" };
        canvas.rect(class, (MARGIN, y), (inner, height));
        let middle = y + height / 2.0 + 4.0;
        canvas.text(Font::Plain, "f-ink f-b", (MARGIN + 12.0, middle), NAMES - 16.0, band.layer);
        for (row, nodes) in band.rows.iter().enumerate() {
            // Centred, and rows of a band shifted against each other, so that edges pass between.
            let used = nodes.len() as f64 * cell;
            let free = PER_ROW as f64 * cell - used;
            let shift = if row % 2 == 1 { (cell * 0.25).min(free / 2.0) } else { 0.0 };
            let start = MARGIN + NAMES + free / 2.0 + shift;
            for (place, node) in nodes.iter().enumerate() {
                let spot = Spot {
                    x: start + place as f64 * cell + LARGEST + 8.0,
                    y: y + BAND_PAD + (row as f64 + 0.5) * ROW + 4.0,
                    radius: radius(graph.nodes[*node].events, most),
                };
                spots.insert(*node, spot);
                halos.insert(*node, if index % 2 == 0 { "f-halo-band" } else { "f-halo" });
            }
        }
        y += height;
    }
    edges(&mut canvas, graph, &spots);
    for (index, spot) in &spots {
        let shown = Shown { index: *index, spot: *spot, cell, halo: halos[index], interactive };
        node(&mut canvas, &graph.nodes[*index], &shown);
    }
    let height = legend(&mut canvas, y + 30.0) + 18.0;

    let drops: u64 = graph.nodes.iter().map(|node| node.drops).sum();
    let busiest = keep.iter().map(|index| &graph.nodes[*index]).max_by_key(|node| node.events);
    let description = format!(
        "Functions of the network stack by layer and the steps packets took between them. {}. {}.",
        busiest.map_or_else(
            || "No node".to_owned(),
            |node| format!(
                "Busiest is {} {} with {}",
                brief(&node.layer, 20),
                brief(&node.name, 80),
                units::counted(node.events, "event", "events")
            )
        ),
        units::counted(drops, "journey ended in a drop", "journeys ended in a drop"),
    );
    let title = "Path graph".to_owned();
    Figure { width: WIDTH, height, title, description, body: canvas.body, interactive }
}

/// Which way a step goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
    Side,
}

fn way(graph: &PathGraph, edge: &GraphEdge) -> Way {
    let rank = |index: usize| layer_rank(&graph.nodes[index].layer);
    match rank(edge.to).cmp(&rank(edge.from)) {
        std::cmp::Ordering::Greater => Way::Up,
        std::cmp::Ordering::Less => Way::Down,
        std::cmp::Ordering::Equal => Way::Side,
    }
}

fn edges(canvas: &mut Canvas, graph: &PathGraph, spots: &BTreeMap<usize, Spot>) {
    let most = graph.edges.iter().map(|edge| edge.count).max().unwrap_or(1).max(1);
    // Busy edges first, so that rare ones are drawn over them and stay visible.
    let mut order: Vec<&GraphEdge> = graph.edges.iter().collect();
    order.sort_by_key(|edge| (Reverse(edge.count), edge.from, edge.to, &edge.kind));
    for edge in order {
        let (Some(from), Some(to)) = (spots.get(&edge.from), spots.get(&edge.to)) else {
            continue;
        };
        if edge.from == edge.to {
            continue;
        }
        let way = way(graph, edge);
        let thick = 1.0 + 6.0 * (edge.count as f64 / most as f64).sqrt();
        let colour = match way {
            Way::Up => "f-e-in",
            Way::Down => "f-e-out",
            Way::Side => "f-e-side",
        };
        let dash = match edge.kind.as_str() {
            "lineage" => " f-e-lineage",
            "effect" => " f-e-effect",
            "call" => " f-e-call",
            _ => "",
        };
        // Known from stacks only: hollow, like the marks of such functions.
        let hollow = if edge.kind == "call" { " f-hollow" } else { "" };
        let end = curve(*from, *to, way, thick);
        let mut tip = format!(
            "{} {} to {} {}: {}",
            brief(&graph.nodes[edge.from].layer, 20),
            brief(&graph.nodes[edge.from].name, 80),
            brief(&graph.nodes[edge.to].layer, 20),
            brief(&graph.nodes[edge.to].name, 80),
            units::counted(edge.count, "step", "steps"),
        );
        if edge.kind != "step" && !edge.kind.is_empty() {
            let _ = write!(tip, " ({})", brief(&edge.kind, 20));
        }
        if edge.latency.count > 0 {
            let _ = write!(
                tip,
                ", p50 {}, p99 {}, max {}",
                units::duration(edge.latency.p50),
                units::duration(edge.latency.p99),
                units::duration(edge.latency.max)
            );
        }
        let fill = match way {
            Way::Up => "f-in",
            Way::Down => "f-out",
            Way::Side => "f-faint",
        };
        canvas.raw(format_args!(
            "<g class=\"f-edge\" data-from=\"{}\" data-to=\"{}\"><title>{}</title>\
             <path class=\"f-e {colour}{dash}\" stroke-width=\"{}\" \
             d=\"{}\"/><path class=\"{fill}{hollow}\" d=\"{}\"/></g>",
            edge.from,
            edge.to,
            escape::markup(&tip),
            px(thick),
            end.path,
            end.head
        ));
    }
}

struct Curve {
    path: String,
    /// The arrow's head.
    head: String,
}

/// A curve that leaves and arrives vertically. Up goes to the left of the marks and down to the
/// right, so that both directions between two nodes stay apart.
fn curve(from: Spot, to: Spot, way: Way, thick: f64) -> Curve {
    let arrow = 5.0 + thick * 0.7;
    let half = 3.0 + thick * 0.5;
    let level = (from.y - to.y).abs() < 1.0;
    if level {
        // An arc over the row.
        let rise = 14.0 + ((from.x - to.x).abs() * 0.05).min(14.0);
        let side = if to.x > from.x { 1.0 } else { -1.0 };
        let (x1, y1) = (from.x + side * from.radius * 0.5, from.y - from.radius);
        let (x2, y2) = (to.x - side * to.radius * 0.5, to.y - to.radius - arrow);
        let path = format!(
            "M{} {}C{} {} {} {} {} {}",
            px(x1),
            px(y1),
            px(x1),
            px(y1 - rise),
            px(x2),
            px(y2 - rise),
            px(x2),
            px(y2)
        );
        return Curve { path, head: arrowhead(x2, y2, half, arrow) };
    }
    let up = to.y < from.y;
    let shift = match way {
        Way::Up => -4.0,
        Way::Down => 4.0,
        Way::Side => 0.0,
    };
    let sign = if up { -1.0 } else { 1.0 };
    let (x1, y1) = (from.x + shift, from.y + sign * from.radius * 0.8);
    let (x2, y2) = (to.x + shift, to.y - sign * (to.radius + arrow));
    let bend = ((y2 - y1).abs() * 0.5).max(18.0) * sign;
    let path = format!(
        "M{} {}C{} {} {} {} {} {}",
        px(x1),
        px(y1),
        px(x1),
        px(y1 + bend),
        px(x2),
        px(y2 - bend),
        px(x2),
        px(y2)
    );
    Curve { path, head: arrowhead(x2, y2, half, arrow * sign) }
}

/// A triangle with its base at (`x`, `y`) and its tip `length` below, above when negative.
fn arrowhead(x: f64, y: f64, half: f64, length: f64) -> String {
    format!("M{} {}L{} {}L{} {}Z", px(x - half), px(y), px(x + half), px(y), px(x), px(y + length))
}

/// How a node is shown.
struct Shown<'a> {
    index: usize,
    spot: Spot,
    /// Width of its cell.
    cell: f64,
    /// Class that keeps edges off its words.
    halo: &'a str,
    interactive: bool,
}

fn node(canvas: &mut Canvas, node: &GraphNode, shown: &Shown<'_>) {
    let Shown { index, spot, cell, halo, interactive } = *shown;
    let mut tip = format!(
        "{} {}: {}, {}, {}",
        brief(&node.layer, 20),
        brief(&node.name, 120),
        units::counted(node.events, "event", "events"),
        units::bytes(node.bytes),
        brief(&node.evidence, 40),
    );
    for (reason, times) in node.drop_reasons.iter().take(8) {
        let _ = write!(tip, "; dropped {} {}", units::count(*times), brief(reason, 60));
    }
    let tip = escape::markup(&tip);
    if interactive {
        canvas.raw(format_args!(
            "<a href=\"#node-{index}\" class=\"f-link\" data-node=\"{index}\" \
             aria-label=\"{tip}\">"
        ));
    } else {
        canvas.raw(format_args!("<g>"));
    }
    canvas.raw(format_args!("<title>{tip}</title>"));
    if interactive {
        // The whole cell is the target, not only the mark.
        let (x, y) = (spot.x - LARGEST - 4.0, spot.y - 22.0);
        canvas.rect("f-hit", (x, y), (cell - 6.0, 44.0));
    }
    if node.drops > 0 {
        canvas.drop_sign((spot.x, spot.y), spot.radius.max(8.0));
    } else if matches!(node.evidence.as_str(), "observed" | "effect" | "") {
        canvas.circle("f-n", (spot.x, spot.y), spot.radius);
    } else {
        canvas.circle("f-n f-n-stack", (spot.x, spot.y), spot.radius);
    }
    let x = spot.x + LARGEST + 5.0;
    let room = cell - 2.0 * LARGEST - 18.0;
    let lines = if node.drops > 0 { 3.0 } else { 2.0 };
    let y = spot.y + 4.0 - (lines - 1.0) * 6.5;
    canvas.text(Font::Mono, &format!("f-ink {halo}"), (x, y), room, &node.name);
    let events = if node.events == 0 {
        "in stacks only".to_owned()
    } else {
        units::counted(node.events, "event", "events")
    };
    canvas.text(Font::Small, &format!("f-faint {halo}"), (x, y + 13.0), room, &events);
    if node.drops > 0 {
        let reason = node.drop_reasons.first().map_or("", |(reason, _)| reason.as_str());
        let line = format!("{} dropped {reason}", units::count(node.drops));
        canvas.text(Font::Small, &format!("f-bad {halo}"), (x, y + 26.0), room, &line);
    }
    canvas.raw(format_args!("{}", if interactive { "</a>" } else { "</g>" }));
}

fn legend(canvas: &mut Canvas, y: f64) -> f64 {
    let mut x = MARGIN + 10.0;
    let mut item = |canvas: &mut Canvas, words: &str, lead: f64| {
        let at = x + lead;
        canvas.text(Font::Small, "f-faint", (at, y), 260.0, words);
        x = at + Font::Small.width(words) + 14.0;
        x
    };
    canvas.circle("f-n", (MARGIN + 10.0, y - 4.0), 5.0);
    let next = item(canvas, "observed", 12.0);
    canvas.circle("f-n f-n-stack", (next + 6.0, y - 4.0), 5.0);
    let next = item(canvas, "from stacks", 18.0);
    canvas.drop_sign((next + 8.0, y - 4.0), 7.0);
    let next = item(canvas, "drops here", 20.0);
    canvas
        .raw(format_args!("<path class=\"f-in\" d=\"{}\"/>", arrowhead(next + 6.0, y, 5.0, -9.0)));
    let next = item(canvas, "towards the application", 16.0);
    let head = arrowhead(next + 6.0, y - 9.0, 5.0, 9.0);
    canvas.raw(format_args!("<path class=\"f-out\" d=\"{head}\"/>"));
    let next = item(canvas, "towards the wire", 16.0);
    let hollow = arrowhead(next + 6.0, y - 9.0, 5.0, 9.0);
    canvas.raw(format_args!("<path class=\"f-faint f-hollow\" d=\"{hollow}\"/>"));
    let next = item(canvas, "call, from stacks", 16.0);
    canvas.line("f-e f-e-side f-e-lineage", (next, y - 4.0), (next + 28.0, y - 4.0));
    let next = item(canvas, "clone, cut, merge", 34.0);
    canvas.line("f-e f-e-side f-e-effect", (next, y - 4.0), (next + 28.0, y - 4.0));
    item(canvas, "effect on another", 34.0);
    let note =
        "size of a mark: logarithm of its events · width of an arrow: square root of its steps";
    canvas.text(Font::Small, "f-faint", (MARGIN + 4.0, y + 20.0), WIDTH, note);
    y + 20.0
}
