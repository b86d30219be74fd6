//! Choosing in the path graph: a layer, a function, a flow or a drop reason, and the packets behind it.
//!
//! Without script the journeys are a plain table; with it, choosing filters the table and lights the part of the
//! graph that those journeys went through.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use maud::{Markup, html};
use psc_replay::view::trace::{GraphNode, Journey};

use super::Report;
use super::cells::{left_out, t};
use super::paths::passes;
use crate::{svg, units};

/// Functions offered; as many as have a card.
const FUNCTIONS: usize = 200;
/// Flows offered, those of most journeys on the page first.
const FLOWS: usize = 60;
/// Drop reasons offered.
const REASONS: usize = 40;

/// One way to choose: what it is called, and its values with their number, words, and the expression that
/// selects all packets of the recording that have it.
struct Picker {
    id: &'static str,
    name: &'static str,
    any: &'static str,
    values: Vec<(String, String, String)>,
}

/// A string in an expression, if it can be one.
fn quoted(text: &str) -> Option<String> {
    let plain =
        !text.is_empty() && !text.contains(['"', '\\', '\'']) && !text.contains(char::is_control);
    plain.then(|| format!("\"{text}\""))
}

/// `ip.src == 10.0.0.1 and tcp.srcport == 5000 ...` of `tcp 10.0.0.1:5000 > 10.0.0.2:80`.
fn flow_expression(flow: &str) -> Option<String> {
    let (protocol, ends) = flow.split_once(' ')?;
    let (src, dst) = ends.split_once(" > ")?;
    let end = |text: &str, side: &str| -> Option<String> {
        let (address, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']')?;
                (address, port.strip_prefix(':'))
            }
            None => match text.rsplit_once(':') {
                Some((address, port)) if !address.contains(':') => (address, Some(port)),
                _ => (text, None),
            },
        };
        let address: std::net::IpAddr = address.parse().ok()?;
        let family = if address.is_ipv4() { "ip" } else { "ipv6" };
        let port = port.and_then(|port| port.parse::<u16>().ok());
        Some(match port.filter(|_| matches!(protocol, "tcp" | "udp")) {
            Some(port) => {
                format!("{family}.{side} == {address} and {protocol}.{side}port == {port}")
            }
            None => format!("{family}.{side} == {address}"),
        })
    };
    Some(format!("{} and {}", end(src, "src")?, end(dst, "dst")?))
}

fn pickers(report: &Report<'_>, journeys: &[&Journey]) -> Vec<Picker> {
    let graph = &report.trace.graph;
    let cards = svg::ranked_nodes(graph, FUNCTIONS);
    let mut layers: Vec<&str> = Vec::new();
    for node in &graph.nodes {
        if !layers.contains(&node.layer.as_str()) {
            layers.push(&node.layer);
        }
    }
    let layers = layers.into_iter().map(|layer| {
        let expression = quoted(layer).map(|layer| format!("probe.layer == {layer}"));
        (layer.to_owned(), layer.to_owned(), expression.unwrap_or_default())
    });
    let functions = cards.iter().map(|index| {
        let node = &graph.nodes[*index];
        let expression = quoted(&node.name).map(|name| {
            // A probe is named with its group, as `net:netif_rx`.
            let field = if name.contains(':') { "probe.name" } else { "step.function" };
            format!("{field} == {name}")
        });
        let words = format!("{} ({})", node.name, node.layer);
        (index.to_string(), words, expression.unwrap_or_default())
    });
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    for (reason, times) in graph.nodes.iter().flat_map(|node| &node.drop_reasons) {
        *reasons.entry(reason).or_default() += times;
    }
    let mut reasons: Vec<(&str, u64)> = reasons.into_iter().collect();
    reasons.sort_by_key(|(reason, times)| (Reverse(*times), *reason));
    let reasons = reasons.into_iter().take(REASONS).map(|(reason, times)| {
        let expression = quoted(reason).map(|reason| format!("drop.reason == {reason}"));
        let words = format!("{reason}, {}", units::counted(times, "packet", "packets"));
        (reason.to_owned(), words, expression.unwrap_or_default())
    });
    let flows = flows(journeys).into_iter().enumerate().map(|(number, flow)| {
        (number.to_string(), flow.to_owned(), flow_expression(flow).unwrap_or_default())
    });
    vec![
        Picker { id: "layer", name: "Layer", any: "any layer", values: layers.collect() },
        Picker { id: "node", name: "Function", any: "any function", values: functions.collect() },
        Picker { id: "flow", name: "Flow", any: "any flow", values: flows.collect() },
        Picker {
            id: "reason",
            name: "Drop reason",
            any: "dropped or not",
            values: reasons.collect(),
        },
    ]
}

/// Flows of the journeys, those of most first.
fn flows<'a>(journeys: &[&'a Journey]) -> Vec<&'a str> {
    let mut flows: BTreeMap<&str, u64> = BTreeMap::new();
    for journey in journeys.iter().filter(|journey| !journey.flow.is_empty()) {
        *flows.entry(&journey.flow).or_default() += 1;
    }
    let mut flows: Vec<(&str, u64)> = flows.into_iter().collect();
    flows.sort_by_key(|(flow, times)| (Reverse(*times), *flow));
    flows.into_iter().take(FLOWS).map(|(flow, _)| flow).collect()
}

/// `NO_SOCKET` of `dropped: NO_SOCKET`.
fn reason(journey: &Journey) -> &str {
    journey.outcome.strip_prefix("dropped: ").unwrap_or("")
}

/// The pickers.
pub(super) fn bar(report: &Report<'_>) -> Markup {
    let journeys = held(report);
    html! {
        div.tools.js-only #choose {
            @for picker in pickers(report, &journeys) {
                @if !picker.values.is_empty() {
                    label {
                        (picker.name) " "
                        select data-pick=(picker.id) autocomplete="off" {
                            option value="" { (picker.any) }
                            @for (value, words, expression) in &picker.values {
                                option value=(t(value)) data-expr=(t(expression)) { (t(words)) }
                            }
                        }
                    }
                }
            }
            button #unchoose type="button" hidden { "Choose nothing" }
        }
    }
}

fn held<'a>(report: &'a Report<'_>) -> Vec<&'a Journey> {
    let journeys = report.trace.exemplars.iter();
    journeys.filter(|journey| report.held.0.contains(&journey.id)).collect()
}

/// The journeys behind a choice.
pub(super) fn journeys(report: &Report<'_>) -> Markup {
    let graph = &report.trace.graph;
    let cards: Vec<(usize, &GraphNode)> = svg::ranked_nodes(graph, FUNCTIONS)
        .into_iter()
        .map(|index| (index, &graph.nodes[index]))
        .collect();
    let journeys = held(report);
    let flows = flows(&journeys);
    let more = report.trace.journeys.total.saturating_sub(journeys.len() as u64);
    html! {
        details #behind-fold {
            summary {
                span #behind-title {
                    (units::counted(journeys.len() as u64, "journey", "journeys")) " of this page"
                }
            }
            p #behind-all.note hidden { "All such packets of the recording: " code {} }
            div.scroll.tall role="region" aria-labelledby="behind-caption" tabindex="0" {
                table.sortable id="behind" {
                    caption id="behind-caption" { "Journeys that this page holds" }
                    thead { tr {
                        th.num scope="col" { "Journey" }
                        th scope="col" { "Outcome" }
                        th.num scope="col" { "Time" }
                        th.num scope="col" { "Start" }
                        th scope="col" { "Flow" }
                        th scope="col" { "Packet" }
                    } }
                    tbody {
                        @for journey in &journeys {
                            (row(report, journey, &cards, &flows))
                        }
                    }
                }
            }
            (left_out(more, "journeys", &format!("{} -f EXPR", report.rerun("trace"))))
        }
    }
}

fn row(
    report: &Report<'_>,
    journey: &Journey,
    cards: &[(usize, &GraphNode)],
    flows: &[&str],
) -> Markup {
    let nodes: Vec<String> = cards
        .iter()
        .filter(|(_, node)| passes(journey, node))
        .map(|(index, _)| index.to_string())
        .collect();
    let mut layers: Vec<&str> = Vec::new();
    for step in &journey.steps {
        if !layers.contains(&step.layer.as_str()) {
            layers.push(&step.layer);
        }
    }
    let flow = flows.iter().position(|flow| *flow == journey.flow);
    let flow = flow.map_or_else(String::new, |flow| flow.to_string());
    html! {
        tr data-layer=(t(&layers.join(" "))) data-node=(nodes.join(" ")) data-flow=(flow)
            data-reason=(t(reason(journey))) {
            td.num data-v=(journey.id) { (report.held.link(journey.id)) }
            td {
                @if journey.outcome.starts_with("dropped") { span.bad { (t(&journey.outcome)) } }
                @else { (t(&journey.outcome)) }
                @if !journey.role.is_empty() { " " span.faint { (t(&journey.role)) } }
            }
            td.num data-v=(journey.duration_ns) { (units::duration(journey.duration_ns)) }
            td.num data-v=(journey.first) { (units::offset(journey.first, report.start)) }
            td.mono { (t(&journey.flow)) }
            td.words { (t(&journey.summary)) }
        }
        "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_become_expressions() {
        #[rustfmt::skip]
        let cases = [
            ("tcp 10.0.0.1:5000 > 10.0.0.2:80", "ip.src == 10.0.0.1 and tcp.srcport == 5000 and ip.dst == 10.0.0.2 and tcp.dstport == 80"),
            ("udp [fd00::1]:53 > [fd00::2]:99", "ipv6.src == fd00::1 and udp.srcport == 53 and ipv6.dst == fd00::2 and udp.dstport == 99"),
            ("icmpv6 fe80::1 > ff02::2",        "ipv6.src == fe80::1 and ipv6.dst == ff02::2"),
            ("icmp 10.0.0.1 > 10.0.0.2",        "ip.src == 10.0.0.1 and ip.dst == 10.0.0.2"),
        ];
        for (flow, expected) in cases {
            assert_eq!(flow_expression(flow).as_deref(), Some(expected));
        }
        assert_eq!(flow_expression("<script>"), None);
    }
}
