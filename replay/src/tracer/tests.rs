use psc_formats::event::{DeviceId, StackEvidence, StackId, SymbolId};
use psc_formats::fact::{DeviceFact, Fact, StackFact, SymbolFact};
use psc_formats::manifest::{Layer, Probe};
use psc_formats::{Event, EventKind, Manifest, Stack, Tables};

use super::{TraceOptions, Tracer};
use crate::engine::{ClosedJourney, Edge, Evidence, Lineage, Observer, Outcome, Pass, World};
use crate::sample;
use crate::view::trace::{GraphEdge, TraceView};

const NO_SOCKET: u32 = 3;
const RECEIVE: u16 = 0;
const FREE: u16 = 1;

/// Symbols by number, from 1.
const SYMBOLS: [&str; 6] = [
    "sk_skb_reason_drop",
    "tcp_v4_rcv",
    "ip_rcv",
    "__netif_receive_skb_core.constprop.0",
    "net_rx_action",
    "udp_rcv",
];

fn setting() -> (Manifest, Tables) {
    let mut manifest = Manifest::default();
    manifest.drop_reasons.insert(NO_SOCKET, "NO_SOCKET".to_owned());
    for (name, layer) in [("net:netif_receive_skb", Layer::Link), ("skb:kfree_skb", Layer::Network)]
    {
        manifest.probes.push(Probe { name: name.to_owned(), layer, ..Probe::default() });
    }
    let mut tables = Tables::default();
    for (id, name) in (1..).zip(SYMBOLS) {
        let name = name.to_owned();
        tables.apply(&Fact::Symbol(SymbolFact { id, name, offset: 4, ..SymbolFact::default() }));
    }
    // Innermost first.
    for (id, frames) in [(1, vec![4, 5]), (2, vec![1, 2, 3, 4, 5])] {
        tables.apply(&Fact::Stack(StackFact { id, frames }));
    }
    let name = "eth0".to_owned();
    tables.apply(&Fact::Device(DeviceFact { id: 1, name, ..DeviceFact::default() }));
    (manifest, tables)
}

fn received(at: u64) -> Event {
    let mut event: Event = sample::event(at, EventKind::Receive {}).probe(RECEIVE).len(60).into();
    event.device = DeviceId(1);
    event.stack = Stack { id: StackId(1), evidence: StackEvidence::Observed };
    event
}

fn freed(at: u64) -> Event {
    let location = SymbolId(2);
    let kind = EventKind::Free { reason: NO_SOCKET, location };
    let mut event: Event = sample::event(at, kind).probe(FREE).len(40).into();
    event.stack = Stack { id: StackId(2), evidence: StackEvidence::Inferred };
    event
}

fn dropped(id: u64, at: u64, took: u64) -> ClosedJourney {
    let mut journey = sample::journey(id, vec![received(at), freed(at + took)]);
    journey.outcome = Outcome::Dropped { reason: NO_SOCKET, location: SymbolId(2) };
    journey
}

fn trace(options: TraceOptions, journeys: &[ClosedJourney]) -> TraceView {
    let (manifest, tables) = setting();
    let mut tracer = Tracer::new(options);
    for journey in journeys {
        tracer.closed(World { manifest: &manifest, tables: &tables, start: None }, journey);
    }
    tracer.finish(&manifest, &Pass { tables, ..Pass::default() })
}

#[test]
fn a_step_is_named_by_the_function_that_tells_where_it_was() {
    let view = trace(TraceOptions::default(), &[dropped(1, 100, 50)]);
    let steps: Vec<_> =
        view.paths[0].steps.iter().map(|s| (&*s.layer, &*s.function, &*s.device)).collect();
    // Not sk_skb_reason_drop, which frees for everyone; not the compiler's suffix.
    assert_eq!(
        steps,
        [("link", "__netif_receive_skb_core", "eth0"), ("transport", "tcp_v4_rcv", "")]
    );
    let told = &view.exemplars[0].steps[1];
    assert_eq!((&*told.function, &*told.layer), ("tcp_v4_rcv", "transport"));
    assert_eq!(told.stack[0], "sk_skb_reason_drop");
    assert_eq!(told.detail, "reason NO_SOCKET at tcp_v4_rcv+0x4");
    assert_eq!((told.delta_ns, &*told.stack_evidence), (50, "inferred"));
    assert_eq!(view.exemplars[0].drop_location, "tcp_v4_rcv+0x4");
}

#[test]
fn the_graph_has_steps_with_times_and_calls_without() {
    let view = trace(TraceOptions::default(), &[dropped(1, 100, 50), dropped(2, 200, 70)]);
    let node = |edge: &GraphEdge, end: usize| {
        let node = &view.graph.nodes[if end == 0 { edge.from } else { edge.to }];
        format!("{}:{}", node.layer, node.name)
    };
    let edges: Vec<_> = view
        .graph
        .edges
        .iter()
        .map(|e| (node(e, 0), node(e, 1), e.count, e.latency.max, &*e.kind))
        .collect();
    let edge =
        |from: &str, to: &str, count, max, kind| (from.to_owned(), to.to_owned(), count, max, kind);
    let link = "link:__netif_receive_skb_core";
    assert_eq!(
        edges,
        [
            edge("driver:net_rx_action", link, 4, 0, "call"),
            edge(link, "network:ip_rcv", 2, 0, "call"),
            edge(link, "transport:tcp_v4_rcv", 2, 70, "step"),
            edge("network:ip_rcv", "transport:tcp_v4_rcv", 2, 0, "call"),
        ]
    );
    let evidence: Vec<_> =
        view.graph.nodes.iter().map(|n| (&*n.name, &*n.evidence, n.drops)).collect();
    assert_eq!(
        evidence,
        [
            ("net_rx_action", "stack", 0),
            ("__netif_receive_skb_core", "observed", 0),
            ("ip_rcv", "stack", 0),
            ("tcp_v4_rcv", "inferred", 2),
        ]
    );
}

#[test]
fn clones_are_told_but_are_no_packets() {
    let mut clone = sample::journey(2, vec![freed(300)]);
    clone.clone = true;
    clone.lineage.push(Edge {
        how: Lineage::Clone,
        of: sample::journey(1, Vec::new()).id,
        evidence: Evidence::Content,
    });
    let view = trace(TraceOptions::default(), &[dropped(1, 100, 50), clone]);
    assert_eq!((view.journeys.total, view.journeys.dropped, view.paths.len()), (1, 1, 1));
    assert_eq!(view.exemplars[1].steps[0].lineage, "clone of journey 1");
    assert_eq!(view.omitted, 0);
}

#[test]
fn limits_say_what_they_left_out() {
    let options = TraceOptions { paths: 1, journeys: 2, in_order: false };
    let mut journeys: Vec<_> = (1..=20).map(|id| dropped(id, id * 1000, 100 - id)).collect();
    journeys.push(sample::journey(21, vec![received(90_000)]));
    let view = trace(options, &journeys);
    assert_eq!((view.paths.len(), view.paths_omitted, view.path_journeys_omitted), (1, 1, 1));
    let roles: Vec<_> = view.exemplars.iter().map(|j| (&*j.role, j.id)).collect();
    // The five slowest hold the earliest, too, and the drop's own examples.
    let slowest = ["slowest"; 5];
    assert_eq!(roles, slowest.into_iter().zip(1..).collect::<Vec<_>>());
    assert_eq!(view.omitted, 16);
    // Closing in another order changes only the example of the shape: the first to close.
    journeys.reverse();
    let reversed = trace(options, &journeys);
    assert_eq!(reversed.exemplars.iter().map(|j| j.id).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 20]);
}
