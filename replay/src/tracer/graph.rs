//! The path graph: functions of the stack, and the steps and calls between them.

use std::collections::BTreeMap;

use psc_formats::event::{StackEvidence, StackId};
use psc_formats::manifest::Layer;
use psc_formats::{Manifest, ProbeId, Tables};
use rustc_hash::FxHashMap;

use super::functions::{FunctionId, Functions};
use super::samples::Samples;
use crate::view::trace::{GraphEdge, GraphNode, Latency, PathGraph};

/// Edges kept at most. The kernel has some hundred; a made-up archive may claim any number.
const MAX_EDGES: usize = 4096;

/// Drop reasons kept at most for one node.
const MAX_REASONS: usize = 256;

/// What a step is at: its function where one is known, else its probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Place {
    Function(FunctionId),
    Probe(ProbeId),
}

/// A node: the layer, and what is there.
pub(super) type Spot = (Layer, Place);

#[derive(Debug, Default)]
struct Node {
    events: u64,
    bytes: u64,
    observed: bool,
    drops: BTreeMap<u32, u64>,
}

/// A node's key.
type At = Spot;

#[derive(Debug, Default)]
struct Edge {
    count: u64,
    samples: Samples,
}

/// Collects the graph.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: FxHashMap<At, Node>,
    edges: FxHashMap<(At, At), Edge>,
    stacks: FxHashMap<StackId, u64>,
    /// What one protocol's packets did to another, by place: from, to, times.
    pub(super) effects: BTreeMap<(Spot, Spot), u64>,
    /// From one skb to another that it became part of or was made into: from, to, times.
    pub(super) kin: BTreeMap<(Spot, Spot), u64>,
    /// Steps that are not in `edges` because it was full.
    pub(super) omitted: u64,
}

impl Graph {
    /// One step of a journey.
    pub(super) fn step(
        &mut self,
        at: Spot,
        bytes: u32,
        stack: psc_formats::Stack,
        drop: Option<u32>,
    ) {
        let node = self.nodes.entry(at).or_default();
        node.events += 1;
        node.bytes += u64::from(bytes);
        // A probe is always observed; a function is when its stack was taken.
        node.observed |=
            matches!(at.1, Place::Probe(_)) || stack.evidence != StackEvidence::Inferred;
        if let Some(reason) = drop
            && (node.drops.len() < MAX_REASONS || node.drops.contains_key(&reason))
        {
            *node.drops.entry(reason).or_default() += 1;
        }
        if stack.id != StackId(0) {
            *self.stacks.entry(stack.id).or_default() += 1;
        }
    }

    /// The way from one step to the next.
    pub(super) fn edge(&mut self, from: Spot, to: Spot, ns: u64) {
        if self.edges.len() >= MAX_EDGES && !self.edges.contains_key(&(from, to)) {
            self.omitted += 1;
            return;
        }
        let edge = self.edges.entry((from, to)).or_default();
        edge.count += 1;
        edge.samples.add(ns);
    }

    /// The view: step nodes and edges, then the calls through which stacks came to them.
    pub(super) fn view(
        &self,
        functions: &mut Functions,
        manifest: &Manifest,
        tables: &Tables,
    ) -> PathGraph {
        let mut nodes: BTreeMap<(Layer, String), GraphNode> = BTreeMap::new();
        let named = |functions: &Functions, place: Place| match place {
            Place::Function(id) => functions.name(id).to_owned(),
            Place::Probe(id) => manifest.probe_name(id).to_owned(),
        };
        for (&(layer, place), node) in &self.nodes {
            let name = named(functions, place);
            let row = nodes.entry((layer, name.clone())).or_insert_with(|| GraphNode {
                layer: layer.name().to_owned(),
                name,
                evidence: if node.observed { "observed" } else { "inferred" }.to_owned(),
                ..GraphNode::default()
            });
            row.events += node.events;
            row.bytes += node.bytes;
            row.drops += node.drops.values().sum::<u64>();
            row.drop_reasons.extend(
                node.drops.iter().map(|(&reason, &count)| (manifest.drop_reason(reason), count)),
            );
            row.drop_reasons.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        }
        let mut edges: BTreeMap<(Name, Name), (u64, Latency, &str)> = BTreeMap::new();
        for (&(from, to), edge) in &self.edges {
            let ends = ((from.0, named(functions, from.1)), (to.0, named(functions, to.1)));
            edges.insert(ends, (edge.count, edge.samples.latency(), "step"));
        }
        for (from, to, count) in self.calls(functions, tables) {
            for end in [&from, &to] {
                nodes.entry(end.clone()).or_insert_with(|| GraphNode {
                    layer: end.0.name().to_owned(),
                    name: end.1.clone(),
                    evidence: "stack".to_owned(),
                    ..GraphNode::default()
                });
            }
            let node = nodes.get_mut(&from).filter(|node| node.evidence == "stack");
            if let Some(node) = node {
                node.events += count;
            }
            // Where a step goes the same way, its times say more.
            let edge = edges.entry((from, to)).or_insert((0, Latency::default(), "call"));
            if edge.2 == "call" {
                edge.0 += count;
            }
        }
        let mut joints: BTreeMap<(Name, Name, &str), u64> = BTreeMap::new();
        for (edges, kind) in [(&self.effects, "effect"), (&self.kin, "lineage")] {
            for (&(from, to), count) in edges {
                let [from, to] = [from, to].map(|end| (end.0, named(functions, end.1)));
                *joints.entry((from, to, kind)).or_default() += count;
            }
        }
        for ((from, to, _), count) in &joints {
            // A socket's error is at no packet: its node exists for the effect alone.
            for end in [from, to] {
                let node = nodes.entry(end.clone()).or_insert_with(|| GraphNode {
                    layer: end.0.name().to_owned(),
                    name: end.1.clone(),
                    evidence: "effect".to_owned(),
                    ..GraphNode::default()
                });
                if node.evidence == "effect" {
                    node.events += count;
                }
            }
        }
        let index: BTreeMap<Name, usize> = nodes.keys().cloned().zip(0..).collect();
        let edge = |from: &Name, to: &Name, count, latency, kind: &str| GraphEdge {
            from: index[from],
            to: index[to],
            count,
            latency,
            kind: kind.to_owned(),
        };
        let steps = edges
            .iter()
            .map(|((from, to), (count, latency, kind))| edge(from, to, *count, *latency, kind));
        let joints = joints
            .iter()
            .map(|((from, to, kind), count)| edge(from, to, *count, Latency::default(), kind));
        let mut edges: Vec<GraphEdge> = steps.chain(joints).collect();
        edges.sort_by(|a, b| (a.from, a.to, &a.kind).cmp(&(b.from, b.to, &b.kind)));
        PathGraph { nodes: nodes.into_values().collect(), edges }
    }

    /// How often stacks went from entering one layer to entering the next.
    fn calls(&self, functions: &mut Functions, tables: &Tables) -> Vec<(Name, Name, u64)> {
        let mut calls: BTreeMap<(FunctionId, FunctionId), u64> = BTreeMap::new();
        // By id, so that functions met here first are numbered alike in every run.
        let stacks: BTreeMap<u32, u64> = self.stacks.iter().map(|(id, n)| (id.0, *n)).collect();
        for (id, count) in stacks {
            let entries = functions.entries(StackId(id), tables);
            for pair in entries.windows(2) {
                if pair[0] != pair[1] && calls.len() < MAX_EDGES {
                    *calls.entry((pair[0], pair[1])).or_default() += count;
                }
            }
        }
        let name = |id: FunctionId| {
            (functions.layer(id).unwrap_or_default(), functions.name(id).to_owned())
        };
        calls.into_iter().map(|((from, to), count)| (name(from), name(to), count)).collect()
    }
}

type Name = (Layer, String);
