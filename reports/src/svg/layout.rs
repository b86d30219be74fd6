//! Where the nodes of a layered graph go: bands by layer, order within a band by neighbours.

use std::collections::BTreeMap;

use psc_replay::view::trace::PathGraph;

/// Layers from the wire up.
const LAYERS: [&str; 7] = ["driver", "qdisc", "link", "network", "transport", "socket", "user"];

/// Height of a layer above the wire; layers without a known place come on top.
pub(super) fn layer_rank(layer: &str) -> usize {
    LAYERS.iter().position(|known| *known == layer).unwrap_or(LAYERS.len())
}

/// A band: one layer's nodes, in rows from the top.
pub(super) struct Band<'a> {
    pub(super) layer: &'a str,
    pub(super) rows: Vec<Vec<usize>>,
}

/// Bands from the top (user) to the wire, of the nodes in `keep` (indices into the graph), at most
/// `per_row` in a row.
///
/// Order within a band is the usual barycentre heuristic: each node moves to the mean position of
/// its neighbours in other bands, a few sweeps down and up, ties by index. It is a heuristic: few
/// crossings, not the fewest.
pub(super) fn bands<'a>(graph: &'a PathGraph, keep: &[usize], per_row: usize) -> Vec<Band<'a>> {
    let mut by_layer: BTreeMap<(usize, &str), Vec<usize>> = BTreeMap::new();
    for index in keep {
        let layer = graph.nodes[*index].layer.as_str();
        by_layer.entry((layer_rank(layer), layer)).or_default().push(*index);
    }
    let mut order: Vec<(&str, Vec<usize>)> =
        by_layer.into_iter().rev().map(|((_, layer), nodes)| (layer, nodes)).collect();

    let mut neighbours: Vec<Vec<usize>> = vec![Vec::new(); graph.nodes.len()];
    for edge in &graph.edges {
        if edge.from != edge.to && edge.from.max(edge.to) < graph.nodes.len() {
            neighbours[edge.from].push(edge.to);
            neighbours[edge.to].push(edge.from);
        }
    }
    // Position across the figure in 0..1, for bands of different sizes to compare.
    let mut place: Vec<Option<f64>> = vec![None; graph.nodes.len()];
    for sweep in 0..6 {
        for step in 0..order.len() {
            let band = if sweep % 2 == 0 { step } else { order.len() - 1 - step };
            let nodes = &mut order[band].1;
            if sweep > 0 {
                let mut keyed: Vec<(f64, usize)> = nodes
                    .iter()
                    .map(|node| {
                        let own = place[*node].unwrap_or(0.5);
                        let around: Vec<f64> =
                            neighbours[*node].iter().filter_map(|other| place[*other]).collect();
                        let mean = if around.is_empty() {
                            own
                        } else {
                            around.iter().sum::<f64>() / around.len() as f64
                        };
                        (mean, *node)
                    })
                    .collect();
                keyed.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                *nodes = keyed.into_iter().map(|(_, node)| node).collect();
            }
            let count = nodes.len() as f64;
            for (index, node) in nodes.iter().enumerate() {
                place[*node] = Some((index as f64 + 0.5) / count);
            }
        }
    }
    order
        .into_iter()
        .map(|(layer, nodes)| {
            let rows = nodes.len().div_ceil(per_row.max(1)).max(1);
            // Neighbours in order share a column, rather than a row, so that a band in several
            // rows keeps its order from left to right.
            let mut split: Vec<Vec<usize>> = vec![Vec::new(); rows];
            for (index, node) in nodes.into_iter().enumerate() {
                split[index % rows].push(node);
            }
            Band { layer, rows: split }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use psc_replay::view::trace::{GraphEdge, GraphNode};

    use super::*;

    fn graph(nodes: &[(&str, &str)], edges: &[(usize, usize)]) -> PathGraph {
        PathGraph {
            nodes: nodes
                .iter()
                .map(|(layer, name)| GraphNode {
                    layer: (*layer).to_owned(),
                    name: (*name).to_owned(),
                    ..GraphNode::default()
                })
                .collect(),
            edges: edges
                .iter()
                .map(|(from, to)| GraphEdge { from: *from, to: *to, ..GraphEdge::default() })
                .collect(),
        }
    }

    #[test]
    fn user_is_on_top_and_the_wire_below() {
        let graph = graph(&[("driver", "a"), ("odd", "b"), ("user", "c"), ("link", "d")], &[]);
        let layers: Vec<_> =
            bands(&graph, &[0, 1, 2, 3], 5).into_iter().map(|band| band.layer).collect();
        assert_eq!(layers, ["odd", "user", "link", "driver"]);
    }

    #[test]
    fn two_crossing_edges_are_uncrossed() {
        let nodes = [("link", "a"), ("link", "b"), ("driver", "c"), ("driver", "d")];
        let graph = graph(&nodes, &[(0, 3), (1, 2)]);
        let bands = bands(&graph, &[0, 1, 2, 3], 5);
        let left = |band: usize| bands[band].rows[0][0];
        assert!(matches!((left(0), left(1)), (0, 3) | (1, 2)));
    }

    #[test]
    fn every_node_is_placed_once_whatever_the_edges_say() {
        let graph = graph(&[("link", "a"); 13], &[(0, 99), (5, 5), (1, 2)]);
        let keep: Vec<usize> = (0..13).collect();
        let bands = bands(&graph, &keep, 4);
        let mut seen: Vec<usize> = bands[0].rows.iter().flatten().copied().collect();
        seen.sort_unstable();
        assert_eq!(seen, keep);
        assert!(bands[0].rows.iter().all(|row| row.len() <= 4));
    }
}
