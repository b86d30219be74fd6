//! Figures from views: as snapshots, as well-formed XML, and under hostile strings.

mod fixtures;

use psc_replay::view::analyze::Series;
use psc_replay::view::locate::{LocateView, PeerRow, Spread};
use psc_replay::view::trace::{GraphEdge, GraphNode, Journey, JourneyStep, PathGraph};
use psc_reports::svg;

fn figure(draw: impl Fn(&mut String) -> std::fmt::Result) -> String {
    let mut out = String::new();
    draw(&mut out).expect("a string takes everything");
    out
}

#[test]
fn figures_are_as_reviewed() {
    for (name, figure) in fixtures::figures() {
        insta::assert_snapshot!(name, figure);
    }
}

#[test]
fn figures_are_deterministic() {
    assert_eq!(fixtures::figures(), fixtures::figures());
}

/// Well-formed, named for who cannot see it, and with nothing that runs or loads.
fn check(name: &str, figure: &str) {
    let doc = roxmltree::Document::parse(figure).unwrap_or_else(|err| panic!("{name}: {err}"));
    let root = doc.root_element();
    assert_eq!(root.attribute("role"), Some("img"), "{name}");
    for tag in ["title", "desc"] {
        let text =
            root.children().find(|node| node.has_tag_name(("http://www.w3.org/2000/svg", tag)));
        assert!(text.is_some_and(|node| node.text().is_some()), "{name}: no {tag}");
    }
    for node in doc.descendants().filter(roxmltree::Node::is_element) {
        let tag = node.tag_name().name();
        let known = [
            "svg", "title", "desc", "style", "g", "rect", "text", "line", "path", "circle",
            "polygon", "polyline",
        ];
        assert!(known.contains(&tag), "{name}: <{tag}>");
        for attribute in node.attributes() {
            let attribute = attribute.name();
            assert!(!attribute.starts_with("on") && attribute != "href", "{name}: {attribute}");
        }
    }
    let style = doc.descendants().find(|node| node.tag_name().name() == "style").unwrap();
    let style = style.text().unwrap();
    assert!(style.contains("prefers-color-scheme:dark"), "{name}");
    assert!(!style.contains("url(") && !style.contains("@import"), "{name}");
}

#[test]
fn figures_are_well_formed_named_and_inert() {
    for (name, figure) in fixtures::figures() {
        check(name, &figure);
    }
}

/// Text must stay inside the figure: its room is estimated from above, so the estimate must fit.
#[test]
fn no_text_starts_outside() {
    for (name, figure) in fixtures::figures() {
        let doc = roxmltree::Document::parse(&figure).unwrap();
        let root = doc.root_element();
        let side = |name: &str| root.attribute(name).unwrap().parse::<f64>().unwrap();
        let (width, height) = (side("width"), side("height"));
        for text in doc.descendants().filter(|node| node.tag_name().name() == "text") {
            let at = |name: &str| text.attribute(name).unwrap().parse::<f64>().unwrap();
            assert!((0.0..width).contains(&at("x")), "{name}: {text:?}");
            assert!((0.0..height).contains(&at("y")), "{name}: {text:?}");
        }
    }
}

#[test]
fn hostile_strings_are_text() {
    let hostile = fixtures::HOSTILE;
    let step = || JourneyStep {
        layer: hostile.to_owned(),
        probe: hostile.to_owned(),
        stack: vec![hostile.to_owned()],
        device: hostile.to_owned(),
        netns: hostile.to_owned(),
        context: hostile.to_owned(),
        detail: hostile.to_owned(),
        headers: hostile.to_owned(),
        lineage: hostile.to_owned(),
        ..JourneyStep::default()
    };
    let journey = Journey {
        role: hostile.to_owned(),
        flow: hostile.to_owned(),
        summary: hostile.to_owned(),
        outcome: format!("dropped: {hostile}"),
        drop_location: hostile.to_owned(),
        ambiguous: hostile.to_owned(),
        steps: vec![step(), step()],
        ..Journey::default()
    };
    let node = |drops| GraphNode {
        layer: hostile.to_owned(),
        name: hostile.to_owned(),
        evidence: hostile.to_owned(),
        drops,
        drop_reasons: vec![(hostile.to_owned(), drops)],
        ..GraphNode::default()
    };
    let edge = GraphEdge { from: 0, to: 1, kind: hostile.to_owned(), ..GraphEdge::default() };
    let graph = PathGraph { nodes: vec![node(0), node(3)], edges: vec![edge] };
    let mut analyze = fixtures::analyze();
    for row in &mut analyze.latency {
        row.from = hostile.to_owned();
        row.to = hostile.to_owned();
        row.note = hostile.to_owned();
    }
    for row in &mut analyze.drops {
        row.reason = hostile.to_owned();
        row.location = hostile.to_owned();
        row.netns = hostile.to_owned();
    }
    let (_, _, places, _) = fixtures::spoiled(hostile);
    for (name, figure) in [
        ("map", figure(|out| svg::map(&places, out))),
        ("topology", figure(|out| svg::topology(&places, out))),
        ("hops", figure(|out| svg::hops(&places, out))),
        ("ladder", figure(|out| svg::ladder(&journey, out))),
        ("path graph", figure(|out| svg::path_graph(&graph, out))),
        ("latency", figure(|out| svg::latency(&analyze.latency, out))),
        ("drops", figure(|out| svg::drops(&analyze.drops, out))),
    ] {
        check(name, &figure);
        assert!(!figure.contains('\u{202e}') && !figure.contains('\x1b'), "{name}");
        assert!(figure.contains("&lt;script&gt;"), "{name}: the hostile string is not in it");
    }
}

#[test]
fn empty_and_extreme_views_are_figures_too() {
    check("empty ladder", &figure(|out| svg::ladder(&Journey::default(), out)));
    check("empty graph", &figure(|out| svg::path_graph(&PathGraph::default(), out)));
    check("empty series", &figure(|out| svg::series(&Series::default(), out)));
    check("empty latency", &figure(|out| svg::latency(&[], out)));
    check("empty drops", &figure(|out| svg::drops(&[], out)));

    let mut unheard = fixtures::locate();
    unheard.routes[0].reached = None;
    unheard.routes[0].hops.truncate(4);
    unheard.routes[0].links.truncate(5);
    let text = figure(|out| svg::topology(&unheard, out));
    check("topology with a silent target", &text);
    assert!(text.contains("203.0.113.1 (silent)"), "named");
    assert!(text.contains("target, silent: 48 probes and no answer of its own"), "told");
    assert!(text.contains("class=\"f-n f-n-stack f-e-lineage\""), "dashed");
    assert!(text.contains("way not observed"), "linked to the last that answered");

    let nowhere = LocateView::default();
    check("empty map", &figure(|out| svg::map(&nowhere, out)));
    check("empty topology", &figure(|out| svg::topology(&nowhere, out)));
    check("empty hops", &figure(|out| svg::hops(&nowhere, out)));
    let mut far = fixtures::locate();
    for peer in &mut far.peers {
        peer.bytes = (u64::MAX, u64::MAX);
        peer.place = Some((-90.0, -180.0));
    }
    for hop in &mut far.routes[0].hops {
        hop.ttl = 255;
        for node in &mut hop.nodes {
            node.rtt = node.rtt.map(|_| Spread { p90: u64::MAX, p50: 0, ..Spread::default() });
        }
    }
    check("extreme map", &figure(|out| svg::map(&far, out)));
    check("extreme topology", &figure(|out| svg::topology(&far, out)));
    check("extreme hops", &figure(|out| svg::hops(&far, out)));

    let mut analyze = fixtures::analyze();
    analyze.series.ingress = vec![u64::MAX; 5_000];
    analyze.series.bin_ns = u64::MAX / 5_000;
    for row in &mut analyze.latency {
        row.latency.count = 1;
        row.latency.min = 0;
        row.latency.max = u64::MAX;
        row.latency.p999 = u64::MAX;
        row.histogram = vec![(0, 1), (u64::MAX, u64::MAX)];
    }
    for row in &mut analyze.drops {
        row.packets = u64::MAX;
    }
    check("extreme series", &figure(|out| svg::series(&analyze.series, out)));
    check("extreme latency", &figure(|out| svg::latency(&analyze.latency, out)));
    check("extreme drops", &figure(|out| svg::drops(&analyze.drops, out)));
    let mut graph = fixtures::graph();
    graph.edges.push(GraphEdge { from: 7, to: 999, ..GraphEdge::default() });
    graph.nodes[0].events = u64::MAX;
    graph.edges[0].count = u64::MAX;
    check("dangling edge", &figure(|out| svg::path_graph(&graph, out)));
}

#[test]
fn a_long_journey_is_bounded_and_says_so() {
    let mut journey = fixtures::crossing();
    let step = journey.steps[3].clone();
    journey.steps.extend(std::iter::repeat_n(step, 10_000));
    let figure = figure(|out| svg::ladder(&journey, out));
    check("long ladder", &figure);
    assert!(figure.len() < 100_000, "{} bytes", figure.len());
    assert!(figure.contains("9,951 steps not drawn"));
}

/// Ten thousand peers all over the world: what cannot be told apart is one mark, and the map stays small.
#[test]
fn a_map_of_ten_thousand_peers_is_merged_and_small() {
    let mut view = fixtures::locate();
    view.peers = (0..10_000_u64)
        .map(|n| {
            let (north, east) = (
                (n * 7_919 % 14_000) as f64 / 100.0 - 60.0,
                (n * 104_729 % 36_000) as f64 / 100.0 - 180.0,
            );
            PeerRow {
                address: format!("203.0.{}.{}", n / 256, n % 256),
                country: "DE".to_owned(),
                country_name: format!("Place {n}"),
                bytes: (n * 100, n),
                place: Some((north, east)),
                place_from: "city database".to_owned(),
                rtt_data: (n % 3 > 0).then_some(Spread { min: n * 40_000, ..Spread::default() }),
                ..PeerRow::default()
            }
        })
        .collect();
    let map = figure(|out| svg::map(&view, out));
    check("crowded map", &map);
    assert!(map.len() < 2_000_000, "{} bytes", map.len());
    // Those drawn are merged: more peers than marks, and no two marks in one place.
    let marks = map.matches(" peers, ").count() + map.matches(": 1 peer, ").count();
    assert!((300..=910).contains(&marks), "{marks} marks");
    assert!(map.contains("10,000 of 10,131 peers have a place"), "peers are counted");
}
