//! The path graph and what is behind each of its nodes; paths.

use std::cmp::Reverse;

use maud::{Markup, html};
use psc_replay::view::trace::{Effect, GraphEdge, GraphNode, Journey, PathGraph, PathRow};

use super::cells::{Cell, Grid, Row, figure, left_out, mono, num, t, text, words};
use super::{Report, Section};
use crate::{svg, units};

/// Nodes with a card; more than the figure draws, by the same ranking.
const NODES: usize = 200;
/// Effects told; the rest is counted.
const EFFECTS: usize = 24;
/// Of those, not folded away: more of one kind look alike.
const OPEN_EFFECTS: usize = 4;
/// Neighbours on a card, each way.
const NEIGHBOURS: usize = 6;

pub(super) fn section(report: &Report<'_>) -> Section {
    let graph = &report.trace.graph;
    let cards = svg::ranked_nodes(graph, NODES);
    let omitted = (graph.nodes.len() - cards.len()) as u64;
    let body = html! {
        p {
            "Where packets went, summed over all journeys. "
            span.js-only { "Choose a layer, a function, a flow or a drop reason to see the packets behind it." }
        }
        @if graph.nodes.is_empty() {
            p { "No function or probe was seen." }
        } @else {
            (super::choose::bar(report))
            (figure(&svg::path_graph_figure(graph), "Path graph"))
            (super::choose::journeys(report))
            div #node-panel.panel.js-only aria-live="polite" hidden {}
            details {
                summary {
                    (units::counted(graph.nodes.len() as u64, "function or probe", "functions and probes"))
                }
                div.list.inside {
                    @for index in &cards {
                        details {
                            summary { (node_title(&graph.nodes[*index])) }
                            div.inside id=(format!("node-{index}")) { (card(report, *index)) }
                        }
                    }
                    (left_out(omitted, "functions", &report.rerun("trace --format json")))
                }
            }
            details {
                summary { (units::counted(graph.edges.len() as u64, "kind of step", "kinds of step")) " with their times" }
                (edges(report, graph))
            }
        }
        (effects(report))
        h3 { "Paths" }
        (paths(report))
    };
    let number = Some(graph.nodes.len() as u64);
    Section { id: "path-graph", name: "Path graph", number, body }
}

fn node_title(node: &GraphNode) -> Markup {
    html! {
        code { (t(&node.name)) } " " span.faint { (t(&node.layer)) ", "
            (units::counted(node.events, "event", "events")) }
        @if node.drops > 0 {
            ", " span.bad { (units::counted(node.drops, "journey dropped", "journeys dropped")) }
        }
    }
}

/// `function` of `function+0x12`.
fn function(frame: &str) -> &str {
    frame.split_once("+0x").map_or(frame, |(name, _)| name)
}

/// Whether a journey went through a node: one of its steps was there, or for a function known from stacks
/// only, the stack of one.
pub(super) fn passes(journey: &Journey, node: &GraphNode) -> bool {
    let from_stacks = node.evidence == "stack";
    journey.steps.iter().any(|step| {
        let place = if step.function.is_empty() { &step.probe } else { &step.function };
        step.layer == node.layer && *place == node.name
            || from_stacks && step.stack.iter().any(|frame| function(frame) == node.name)
    })
}

/// What ICMP messages did to other flows' sockets and routes.
fn effects(report: &Report<'_>) -> Markup {
    let effects = &report.trace.effects;
    let (first, rest) = effects.split_at(effects.len().min(OPEN_EFFECTS));
    let rest = &rest[..rest.len().min(EFFECTS - OPEN_EFFECTS)];
    let more = effects.len().saturating_sub(EFFECTS) as u64 + report.trace.effects_omitted;
    html! {
        @if !effects.is_empty() {
            h3 { "Effects of one protocol's packets on another" }
            ul.first { @for effect in first { (told(report, effect)) } }
            @if !rest.is_empty() {
                details {
                    summary { (units::counted(rest.len() as u64, "more effect", "more effects")) }
                    ul.first { @for effect in rest { (told(report, effect)) } }
                }
            }
            (left_out(more, "effects", &report.rerun("trace --format json")))
        }
    }
}

fn told(report: &Report<'_>, effect: &Effect) -> Markup {
    html! {
        li {
            strong { (t(&effect.kind)) } ", journey " (report.held.link(effect.cause)) ": "
            (t(&effect.words))
            @if let Some(journey) = effect.journey {
                "; see journey " (report.held.link(journey))
            }
            " " span.faint {
                "at " (units::offset(effect.at, report.start)) ", "
                @if effect.evidence == "observed" { "observed" } @else { "by content" }
            }
        }
    }
}

fn card(report: &Report<'_>, index: usize) -> Markup {
    let graph = &report.trace.graph;
    let node = &graph.nodes[index];
    let around = |of: &dyn Fn(&GraphEdge) -> (usize, usize)| {
        let mut edges: Vec<(&GraphEdge, usize)> = graph
            .edges
            .iter()
            .filter_map(|edge| {
                let (mine, other) = of(edge);
                (mine == index && other < graph.nodes.len()).then_some((edge, other))
            })
            .collect();
        edges.sort_by_key(|(edge, other)| (Reverse(edge.count), *other));
        edges.truncate(NEIGHBOURS);
        edges
    };
    let from = around(&|edge| (edge.to, edge.from));
    let to = around(&|edge| (edge.from, edge.to));
    let journeys: Vec<u64> = report
        .trace
        .exemplars
        .iter()
        .filter(|journey| report.held.0.contains(&journey.id) && passes(journey, node))
        .map(|journey| journey.id)
        .take(8)
        .collect();
    let drops: Vec<usize> = (0..report.analyze.drops.len())
        .filter(|row| function(&report.analyze.drops[*row].location) == node.name)
        .take(4)
        .collect();
    html! {
        dl.facts {
            dt { "Known by" } dd { (t(&node.evidence)) }
            dt { "Seen" }
            dd { (units::counted(node.events, "event", "events")) ", " (units::bytes(node.bytes)) }
            @if node.drops > 0 {
                dt { "Drops" }
                dd {
                    @for (reason, times) in node.drop_reasons.iter().take(8) {
                        div { (units::count(*times)) " " (t(reason)) }
                    }
                    @for row in &drops {
                        div { a href=(format!("#drop-{}", row + 1)) {
                            "drops at " (t(&report.analyze.drops[*row].location))
                        } }
                    }
                }
            }
            (neighbours("Came from", graph, &from))
            (neighbours("Went to", graph, &to))
            dt { "Journeys" }
            dd {
                @if journeys.is_empty() { span.faint { "none of those on this page" } }
                @else { (report.held.links(&journeys)) }
            }
        }
    }
}

fn neighbours(name: &str, graph: &PathGraph, edges: &[(&GraphEdge, usize)]) -> Markup {
    html! {
        @if !edges.is_empty() {
            dt { (name) }
            dd {
                @for (edge, other) in edges {
                    div {
                        code { (t(&graph.nodes[*other].name)) } " "
                        span.faint {
                            (units::counted(edge.count, "time", "times"))
                            @if edge.latency.count > 0 {
                                ", p50 " (units::duration(edge.latency.p50))
                                ", p99 " (units::duration(edge.latency.p99))
                            }
                            @if edge.kind != "step" && !edge.kind.is_empty() { ", " (t(&edge.kind)) }
                        }
                    }
                }
            }
        }
    }
}

fn edges(report: &Report<'_>, graph: &PathGraph) -> Markup {
    let mut order: Vec<&GraphEdge> = graph.edges.iter().collect();
    order.sort_by_key(|edge| (Reverse(edge.count), edge.from, edge.to));
    let name = |index: usize| graph.nodes.get(index).map_or("?", |node| node.name.as_str());
    let layer = |index: usize| graph.nodes.get(index).map_or("?", |node| node.layer.as_str());
    let rows = order.into_iter().map(|edge| {
        let latency = &edge.latency;
        let known = |ns| (latency.count > 0).then_some(ns);
        Row::plain(vec![
            Cell::text(name(edge.from)),
            Cell::text(name(edge.to)),
            Cell::text(&format!("{} to {}", layer(edge.from), layer(edge.to))),
            Cell::count(edge.count),
            Cell::maybe_duration(known(latency.p50)),
            Cell::maybe_duration(known(latency.p90)),
            Cell::maybe_duration(known(latency.p99)),
            Cell::maybe_duration(known(latency.max)),
            Cell::text(&edge.kind),
        ])
    });
    Grid {
        id: "edges",
        caption: "Steps between functions and probes, most frequent first",
        columns: &[
            mono("From"),
            mono("To"),
            text("Layers"),
            num("Steps"),
            num("p50"),
            num("p90"),
            num("p99"),
            num("Max"),
            text("Kind"),
        ],
        rows: 300,
        bytes: 400_000,
        rerun: &report.rerun("trace --format json"),
    }
    .draw(rows, 0)
}

fn path_steps(path: &PathRow) -> Markup {
    let shown = path.steps.iter().take(24);
    let rest = path.steps.len().saturating_sub(24);
    html! {
        div.steps {
            @for (index, step) in shown.enumerate() {
                @if index > 0 { span.sep { " › " } }
                @if index == 0 || path.steps[index - 1].layer != step.layer {
                    span.layer { (t(&step.layer)) " " }
                }
                code title=[(!step.function.is_empty()).then(|| t(&step.function).into_string())] {
                    (t(units::probe_name(&step.probe)))
                }
            }
            @if rest > 0 { span.faint { " and " (rest) " more" } }
        }
    }
}

fn paths(report: &Report<'_>) -> Markup {
    if report.trace.paths.is_empty() {
        return html! { p { "No path was recorded." } };
    }
    let rows = report.trace.paths.iter().map(|path| {
        let latency = &path.latency;
        let known = |ns| (latency.count > 0).then_some(ns);
        Row::plain(vec![
            Cell::markup(path_steps(path)),
            Cell::markup(if path.outcome.starts_with("dropped") {
                html! { span.bad { (t(&path.outcome)) } }
            } else {
                t(&path.outcome)
            }),
            Cell::count(path.journeys),
            Cell::bytes(path.bytes),
            Cell::maybe_duration(known(latency.p50)),
            Cell::maybe_duration(known(latency.p99)),
            Cell::maybe_duration(known(latency.max)),
            Cell::sorted(report.held.link(path.example), path.example),
        ])
    });
    Grid {
        id: "paths",
        caption: "Distinct ways through the stack, most journeys first",
        columns: &[
            words("Path"),
            text("Outcome"),
            num("Journeys"),
            num("Bytes"),
            num("p50"),
            num("p99"),
            num("Max"),
            num("Example"),
        ],
        rows: 100,
        bytes: 600_000,
        rerun: &report.rerun("trace"),
    }
    .draw(rows, report.trace.paths_omitted)
}
