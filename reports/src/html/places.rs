//! Map, topology and routes.

use std::collections::BTreeSet;

use maud::{Markup, html};
use psc_replay::view::locate::PeerRow;
use psc_replay::view::route::RouteRow;

use super::cells::{Cell, Grid, Row, figure, mono, num, percent, t, text, whole, words};
use super::{Report, Section};
use crate::{escape, svg};

/// The place of a peer in words; its city where a database has one, and what makes it no place.
pub(super) fn named(peer: &PeerRow, country: &str) -> String {
    let place =
        if peer.city.is_empty() { country.to_owned() } else { format!("{}, {country}", peer.city) };
    let mut parts: Vec<String> = vec![place];
    if let Some(asn) = peer.asn {
        parts.push(format!("AS{asn}"));
    }
    if !peer.anycast.is_empty() {
        parts.push(format!("anycast ({})", peer.anycast));
    }
    if !peer.listed.is_empty() {
        parts.push(format!("listed: {}", peer.listed));
    }
    parts.retain(|part| !part.is_empty());
    parts.join("; ")
}

pub(super) fn prefixes(report: &Report<'_>) -> Markup {
    let mut ids = Ids::default();
    let rows = report.locate.prefixes.iter().map(|row| {
        let hops = match row.hops {
            Some((least, most)) if least == most => least.to_string(),
            Some((least, most)) => format!("{least} to {most}"),
            None => String::new(),
        };
        let cells = vec![
            Cell::text(&row.prefix),
            Cell::text(&row.country),
            Cell::count(row.peers),
            Cell::bytes(row.bytes),
            Cell::text(&hops),
            Cell::maybe_duration(row.rtt.map(|rtt| rtt.min)),
            Cell::maybe_duration(row.rtt.map(|rtt| rtt.p50)),
            Cell::maybe_duration(row.rtt.map(|rtt| rtt.p90)),
            Cell::maybe_duration(row.rtt.and_then(|rtt| rtt.jitter_rfc3550)),
        ];
        Row { id: ids.fresh(escape::anchor("prefix", &row.prefix)), span: None, cells }
    });
    let grid = Grid {
        id: "prefixes",
        caption: "Peers by prefix (/24, /48): hops estimated, round trips measured",
        columns: &[
            mono("Prefix"),
            text("Code"),
            num("Peers"),
            num("Bytes"),
            text("Hops"),
            num("RTT min"),
            num("Median"),
            num("p90"),
            num("Jitter"),
        ],
        rows: 200,
        bytes: 100_000,
        rerun: &report.rerun("locate"),
    };
    html! {
        @if !report.locate.prefixes.is_empty() {
            details { summary { "By prefix" } (grid.draw(rows, 0)) }
        }
    }
}

/// Ids given so far: a second row of the same name has none.
#[derive(Default)]
pub(super) struct Ids(BTreeSet<String>);

impl Ids {
    pub(super) fn fresh(&mut self, id: String) -> Option<String> {
        self.0.insert(id.clone()).then_some(id)
    }
}

/// Ids of the rows in markup drawn so far: what figures may link to.
fn held(markup: &str) -> BTreeSet<&str> {
    markup.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

pub(super) fn section(report: &Report<'_>, peers: &Markup) -> Section {
    let view = report.locate;
    let routes = routes(report);
    let mut rows = held(&peers.0);
    rows.extend(held(&routes.0));
    let total = (view.routes.len() as u64).saturating_add(view.routes_omitted);
    let body = html! {
        p.faint {
            "Places are where address blocks are registered, unless your own database says more. \
             Hops are shown only where a packet showed them. Marks lead to their rows."
        }
        @if view.peers.iter().any(|peer| peer.place.is_some()) {
            (figure(&svg::map_figure(view, &rows), "World map of peers"))
        } @else {
            // An empty map says less than its absence.
            p { "No peer's place is known: their addresses are private, reserved or not registered." }
        }
        (contradictions(report))
        (figure(&svg::topology_figure(view, &rows), "Topology of hosts, routers, prefixes and countries"))
        @if view.routes.is_empty() {
            p.faint {
                "No route probes (traceroute, mtr, psc locate --probe) were sent while recording: \
                 nothing is known of single hops."
            }
        } @else {
            (figure(&svg::hops_figure(view), "Latency by hop"))
            (routes)
            (risks(report))
        }
        (changes(report))
        (mtus(report))
        @for source in &view.sources { p.note { (whole(source)) } }
    };
    Section { id: "routes", name: "Map and routes", number: Some(total), body }
}

fn contradictions(report: &Report<'_>) -> Markup {
    html! {
        @if !report.locate.contradictions.is_empty() {
            h3 { "Places that round trips rule out" }
            ul {
                @for row in &report.locate.contradictions {
                    li { span.tag { (t(&row.kind)) } (t(&row.text)) "." }
                }
            }
        }
    }
}

/// Share of the probes that were lost.
fn loss(sent: u64, answered: u64) -> Cell {
    let lost = sent.saturating_sub(answered);
    let share = if lost == 0 { t("0 %") } else { percent(lost, sent) };
    Cell::sorted(share, lost * 1000 / sent.max(1))
}

fn hop_rows(route: &RouteRow, first: Option<String>, start: u64) -> impl Iterator<Item = Row> + '_ {
    let span = super::cells::span(route.first, route.last, start);
    route.hops.iter().enumerate().flat_map(move |(number, hop)| {
        let id = first.clone().filter(|_| number == 0);
        let lost = loss(hop.sent, hop.answered);
        let silent = hop.nodes.is_empty().then(|| {
            vec![
                Cell::text(&route.target),
                Cell::text(&route.host),
                Cell::text(&route.protocol),
                Cell::count(u64::from(hop.ttl)),
                Cell::text("no answer"),
            ]
        });
        let nodes: Vec<Vec<Cell>> = match silent {
            Some(mut cells) => {
                cells.push(Cell::text(""));
                cells.push(lost);
                cells.extend((0..4).map(|_| Cell::text("")));
                cells.push(Cell::text(""));
                vec![cells]
            }
            None => hop
                .nodes
                .iter()
                .map(|node| {
                    let country = if node.country.is_empty() { &node.scope } else { &node.country };
                    let mut about = vec![node.answer.clone()];
                    about.extend(node.asn.map(|asn| format!("AS{asn} {}", node.as_name)));
                    about.extend(node.mpls.iter().cloned());
                    if !node.listed.is_empty() {
                        about.push(format!("listed: {}", node.listed));
                    }
                    vec![
                        Cell::text(&route.target),
                        Cell::text(&route.host),
                        Cell::text(&route.protocol),
                        Cell::count(u64::from(hop.ttl)),
                        Cell::text(&node.address),
                        Cell::text(country),
                        loss(hop.sent, hop.answered),
                        Cell::maybe_duration(node.rtt.map(|rtt| rtt.min)),
                        Cell::maybe_duration(node.rtt.map(|rtt| rtt.p50)),
                        Cell::maybe_duration(node.rtt.map(|rtt| rtt.p90)),
                        Cell::maybe_duration(node.rtt.and_then(|rtt| rtt.jitter_rfc3550)),
                        Cell::text(&about.join("; ")),
                    ]
                })
                .collect(),
        };
        let mut id = id;
        nodes.into_iter().map(move |cells| Row { id: id.take(), span: Some(span), cells })
    })
}

fn routes(report: &Report<'_>) -> Markup {
    let view = report.locate;
    let mut ids = Ids::default();
    let rows: Vec<Row> = view
        .routes
        .iter()
        .flat_map(|route| {
            let id = ids.fresh(escape::anchor("route", &route.target));
            hop_rows(route, id, report.start).collect::<Vec<_>>()
        })
        .collect();
    let grid = Grid {
        id: "hop-table",
        caption: "Hops that route probes showed. Loss and round trips: measured. Country: registered",
        columns: &[
            mono("Target"),
            text("Host"),
            text("By"),
            num("Hop"),
            mono("Address"),
            text("Registered"),
            num("Lost"),
            num("RTT min"),
            num("Median"),
            num("p90"),
            num("Jitter"),
            words("Answer"),
        ],
        rows: 600,
        bytes: 400_000,
        rerun: &report.rerun("locate"),
    };
    html! {
        h3 { "Routes" }
        (grid.draw(rows.into_iter(), 0))
        @for route in view.routes.iter().filter(|route| !route.notes.is_empty() || !route.looped.is_empty()).take(50) {
            p.note {
                "To " code { (t(&route.target)) } ": "
                @if !route.looped.is_empty() { "loop: packets come back to " (t(&route.looped.join(", "))) ". " }
                (t(&route.notes.join(". ")))
            }
        }
    }
}

fn risks(report: &Report<'_>) -> Markup {
    let rows = report.locate.risks.iter().map(|risk| {
        Row::plain(vec![
            Cell::text(&risk.target),
            Cell::text(&risk.source),
            Cell::count(risk.score),
            Cell::markup(html! {
                @if risk.parts.is_empty() { span.faint { "nothing found" } }
                @for (name, points, why) in &risk.parts {
                    div { (points) " " strong { (t(name)) } ": " (t(why)) }
                }
            }),
            Cell::text(&risk.countries.join(", ")),
            Cell::text(&risk.networks.join(", ")),
        ])
    });
    let grid = Grid {
        id: "risks",
        caption: "What speaks against these routes: a score is the sum of its parts",
        columns: &[
            mono("Target"),
            mono("From"),
            num("Score"),
            words("Parts"),
            text("Countries"),
            words("Networks"),
        ],
        rows: 200,
        bytes: 200_000,
        rerun: &report.rerun("locate"),
    };
    html! { @if !report.locate.risks.is_empty() { h3 { "Risk" } (grid.draw(rows, 0)) } }
}

fn changes(report: &Report<'_>) -> Markup {
    let view = report.locate;
    html! {
        @if !view.baseline.is_empty() {
            h3 { "Changed since " (t(&view.baseline)) }
            @if view.changes.is_empty() { p { "Nothing that both recordings show." } }
            ul {
                @for change in view.changes.iter().take(200) {
                    li { code { (t(&change.target)) } " " (t(&change.what)) ": " (t(&change.text)) }
                }
            }
        }
    }
}

fn mtus(report: &Report<'_>) -> Markup {
    let rows = report.locate.path_mtus.iter().map(|row| {
        Row::plain(vec![
            Cell::text(&row.peer),
            Cell::text(&row.bound),
            Cell::count(row.mtu),
            Cell::text(&row.label),
            Cell::text(&row.evidence),
            Cell::count(row.times),
        ])
    });
    let grid = Grid {
        id: "path-mtu",
        caption: "What packets say about the MTU of the way to and from a peer",
        columns: &[
            mono("Peer"),
            text("Is"),
            num("Bytes"),
            text("Known by"),
            words("Packets"),
            num("Times"),
        ],
        rows: 200,
        bytes: 100_000,
        rerun: &report.rerun("locate"),
    };
    html! {
        @if !report.locate.path_mtus.is_empty() {
            details { summary { "Path MTU" } (grid.draw(rows, 0)) }
        }
    }
}
