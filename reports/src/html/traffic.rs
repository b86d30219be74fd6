//! Drops, latency, volume, connections and peers.

use maud::{Markup, html};
use psc_replay::view::analyze::DropRow;

use super::cells::{Cell, Grid, Row, figure, mono, num, prose, span, t, text, whole, words};
use super::findings::when;
use super::{Report, Section, places};
use crate::{escape, measured, svg, units};

/// Packets dropped by the kernel, those only counted included.
pub(super) fn dropped_packets(report: &Report<'_>) -> u64 {
    report.analyze.drops.iter().fold(0, |sum, row| sum.saturating_add(row.packets))
}

fn place(device: &str, netns: &str) -> String {
    match (device, netns) {
        (device, "") => device.to_owned(),
        // Some names say it already: `eth0@web`.
        (device, netns) if device.strip_suffix(netns).is_some_and(|it| it.ends_with('@')) => {
            device.to_owned()
        }
        ("", netns) => format!("({netns})"),
        (device, netns) => format!("{device} ({netns})"),
    }
}

fn drop_row(report: &Report<'_>, row: &DropRow, number: usize) -> Row {
    Row {
        id: Some(format!("drop-{number}")),
        span: Some(span(row.first, row.last, report.start)),
        cells: vec![
            Cell::markup(html! {
                (t(&row.reason))
                div.faint { (t(&row.layer)) }
            }),
            Cell::markup(html! {
                code { (t(&row.location)) }
                @if !row.meaning.is_empty() { div.faint { (prose(&row.meaning)) } }
            }),
            Cell::text(&place(&row.device, &row.netns)),
            Cell::count(row.packets),
            Cell::bytes(row.bytes),
            Cell::sorted(when(row.first, row.last, report.start), row.first),
            Cell::markup(report.held.links(&row.journeys)),
            Cell::markup(html! {
                @for (flow, packets) in row.flows.iter().take(5) {
                    div.nowrap { code { (t(flow)) } " " span.faint { (units::count(*packets)) } }
                }
            }),
        ],
    }
}

pub(super) fn drops(report: &Report<'_>) -> Section {
    let drops = &report.analyze.drops;
    let rows = drops.iter().enumerate().map(|(index, row)| drop_row(report, row, index + 1));
    let rerun = report.rerun("analyze");
    let grid = Grid {
        id: "drop-table",
        caption: "Drops by reason and place, most packets first",
        columns: &[
            mono("Reason"),
            words("At"),
            mono("Device"),
            num("Packets"),
            num("Bytes"),
            num("First to last"),
            text("Journeys"),
            text("Most from"),
        ],
        rows: 200,
        bytes: 400_000,
        rerun: &rerun,
    };
    let body = html! {
        @if drops.is_empty() {
            p { (super::summary::no_drop(report)) }
        } @else {
            p.faint {
                "A drop is a packet whose last reference was discarded undelivered. Losses that \
                 leave no drop event, such as an overflowing accept queue, are under Findings."
            }
            (figure(&svg::drops_figure(drops), "Drops by reason and place"))
            (grid.draw(rows, 0))
        }
    };
    // Unknown is not none.
    let known = report.trace.provenance.origin != "capture";
    let number = known.then(|| dropped_packets(report));
    Section { id: "drops", name: "Drops", number, body }
}

pub(super) fn latency(report: &Report<'_>) -> Section {
    let rows = &report.analyze.latency;
    let (measured, without) = measured::split(rows);
    let alone = measured.is_empty() && without.len() == 1;
    let table = measured.iter().map(|row| {
        let latency = &row.latency;
        Row::plain(vec![
            Cell::text(&row.direction),
            Cell::text(&row.from),
            Cell::markup(html! {
                code { (t(&row.to)) }
                @if !row.note.is_empty() { div.faint { (t(&row.note)) } }
            }),
            Cell::count(latency.count),
            Cell::maybe_duration(Some(latency.min)),
            Cell::maybe_duration(Some(latency.p50)),
            Cell::maybe_duration(Some(latency.p90)),
            Cell::maybe_duration(Some(latency.p99)),
            Cell::maybe_duration(Some(latency.p999)),
            Cell::maybe_duration(Some(latency.max)),
        ])
    });
    let rerun = report.rerun("analyze --format json");
    let grid = Grid {
        id: "latency-table",
        caption: "Percentiles of the time between two points of the stack",
        columns: &[
            text("Direction"),
            mono("From"),
            words("To"),
            num("Samples"),
            num("Min"),
            num("p50"),
            num("p90"),
            num("p99"),
            num("p99.9"),
            num("Max"),
        ],
        rows: 100,
        bytes: 200_000,
        rerun: &rerun,
    };
    let body = html! {
        @if rows.is_empty() { p { "No pair of layers was observed." } }
        @else if measured.is_empty() {}
        @else {
            (figure(&svg::latency_figure(rows), "Latency between layers"))
            (grid.draw(table, 0))
        }
        @for (reason, pairs) in &without {
            p.faint { (t(&measured::sentence(reason, pairs, alone))) }
        }
        (super::delays::table(report))
    };
    Section { id: "latency", name: "Latency", number: None, body }
}

pub(super) fn volume(report: &Report<'_>) -> Section {
    let analyze = report.analyze;
    let duration = report.trace.provenance.duration_ns;
    let rerun = report.rerun("analyze --format json");
    let rows = analyze.volume.iter().map(|row| {
        let device = if row.device.is_empty() { "all" } else { row.device.as_str() };
        Row::plain(vec![
            Cell::text(&row.layer),
            Cell::text(&row.direction),
            Cell::text(device),
            Cell::count(row.skbs),
            Cell::count(row.segments),
            Cell::bytes(row.bytes),
            Cell::sorted(html! { (units::bit_rate(row.bytes, duration)) }, row.bytes),
        ])
    });
    let grid = Grid {
        id: "volume-table",
        caption: "Volume by layer. One skb may stand for many wire segments",
        columns: &[
            text("Layer"),
            text("Direction"),
            mono("Device"),
            num("skbs"),
            num("Wire segments"),
            num("Bytes"),
            num("Rate"),
        ],
        rows: 300,
        bytes: 200_000,
        rerun: &rerun,
    };
    let steps = analyze.interactions.iter().map(|row| {
        Row::plain(vec![
            Cell::text(&row.from),
            Cell::text(&row.to),
            Cell::count(row.count),
            Cell::sorted(html! { (format!("{:.1}", row.per_second)) }, row.count),
        ])
    });
    let interactions = Grid {
        id: "interactions",
        caption: "Steps between layers",
        columns: &[text("From"), text("To"), num("Steps"), num("Per second")],
        rows: 100,
        bytes: 100_000,
        rerun: &rerun,
    };
    let body = html! {
        (figure(&svg::series_figure(&analyze.series), "Volume over time"))
        @if !analyze.volume.is_empty() { (grid.draw(rows, 0)) }
        @if !analyze.interactions.is_empty() {
            details { summary { "How often packets crossed between layers" }
                (interactions.draw(steps, 0)) }
        }
    };
    Section { id: "volume", name: "Volume", number: None, body }
}

pub(super) fn flows(report: &Report<'_>) -> Section {
    let analyze = report.analyze;
    let total = (analyze.flows.len() as u64).saturating_add(analyze.flows_omitted);
    let rows = analyze.flows.iter().map(|flow| {
        let last = flow.first.saturating_add(flow.duration_ns);
        Row {
            id: Some(format!("flow={}", flow.id)),
            span: Some(span(flow.first, last, report.start)),
            cells: vec![
                Cell::sorted(
                    html! { a href=(format!("#flow={}", flow.id)) { (flow.id) } },
                    flow.id,
                ),
                Cell::text(&flow.protocol),
                Cell::text(&flow.originator),
                Cell::text(&flow.responder),
                Cell::count(flow.packets.0),
                Cell::count(flow.packets.1),
                Cell::bytes(flow.bytes.0),
                Cell::bytes(flow.bytes.1),
                Cell::rare(flow.drops),
                Cell::rare(flow.retransmits),
                Cell::maybe_duration(flow.handshake_rtt_ns),
                Cell::sorted(html! { (units::offset(flow.first, report.start)) }, flow.first),
                Cell::duration(flow.duration_ns),
                Cell::text(&flow.state),
                Cell::text(&flow.process),
            ],
        }
    });
    let rerun = format!("{} -f EXPR", report.rerun("analyze"));
    let grid = Grid {
        id: "flow-table",
        caption: "Most bytes first. → is from the originator, ← from the responder; RTT is of the handshake",
        columns: &[
            num("#"),
            text("Protocol"),
            mono("Originator"),
            mono("Responder"),
            num("Packets →"),
            num("←"),
            num("Bytes →"),
            num("←"),
            num("Drops"),
            num("Retransmits"),
            num("RTT"),
            num("Start"),
            num("Lasted"),
            text("State"),
            mono("Process"),
        ],
        rows: 1_000,
        bytes: 1_500_000,
        rerun: &rerun,
    };
    let body = html! {
        @if analyze.flows.is_empty() { p { "No connection was seen." } }
        @else { (grid.draw(rows, analyze.flows_omitted)) }
    };
    Section { id: "flows", name: "Connections", number: Some(total), body }
}

pub(super) fn peers(report: &Report<'_>) -> Section {
    let locate = report.locate;
    let total = (locate.peers.len() as u64).saturating_add(locate.omitted);
    let mut ids = places::Ids::default();
    let rows = locate.peers.iter().map(|peer| {
        let ttls: Vec<String> =
            peer.ttls.iter().take(4).map(|(ttl, times)| format!("{ttl} ({times})")).collect();
        let maybe = |value: Option<u64>, words: fn(u64) -> String| {
            value.map_or_else(
                || Cell::text(""),
                |value| Cell::sorted(html! { (words(value)) }, value),
            )
        };
        let country = if peer.country_name.is_empty() { &peer.country } else { &peer.country_name };
        let cells = vec![
            Cell::text(&peer.address),
            Cell::text(&peer.scope),
            Cell::text(&places::named(peer, country)),
            Cell::count(peer.packets.0),
            Cell::count(peer.packets.1),
            Cell::bytes(peer.bytes.0),
            Cell::bytes(peer.bytes.1),
            Cell::text(&ttls.join(", ")),
            maybe(peer.hops_estimate.map(u64::from), units::count),
            Cell::maybe_duration(peer.rtt.map(|(min, _, _)| min)),
            Cell::maybe_duration(peer.rtt.map(|(_, median, _)| median)),
            maybe(peer.distance_bound_km, units::distance_bound),
        ];
        Row { id: ids.fresh(escape::anchor("peer", &peer.address)), span: None, cells }
    });
    let rerun = format!("{} -f EXPR", report.rerun("locate"));
    let grid = Grid {
        id: "peer-table",
        caption: "Peers, most bytes first. Country: registered. TTL and RTT: measured. Hops: \
                  estimated from the TTL. Within: bound by the smallest RTT at 100 km per ms",
        columns: &[
            mono("Address"),
            text("Scope"),
            text("Registered in"),
            num("Packets from"),
            num("to"),
            num("Bytes from"),
            num("to"),
            mono("TTL (times)"),
            num("Hops"),
            num("RTT min"),
            num("Median"),
            num("Within"),
        ],
        rows: 500,
        bytes: 800_000,
        rerun: &rerun,
    };
    let body = html! {
        @if locate.peers.is_empty() { p { "No IP packet with bytes was recorded." } }
        @else { (grid.draw(rows, locate.omitted)) }
        (countries(report))
        (places::prefixes(report))
        (routers(report))
        @if !locate.attribution.is_empty() { p.note { (whole(&locate.attribution)) } }
    };
    Section { id: "peers", name: "Peers", number: Some(total), body }
}

fn countries(report: &Report<'_>) -> Markup {
    let mut ids = places::Ids::default();
    let rows = report.locate.countries.iter().map(|(code, name, peers, bytes)| {
        let cells =
            vec![Cell::text(code), Cell::text(name), Cell::count(*peers), Cell::bytes(*bytes)];
        Row { id: ids.fresh(escape::anchor("country", code)), span: None, cells }
    });
    let grid = Grid {
        id: "countries",
        caption: "Where address blocks are registered, which is not where hosts are",
        columns: &[text("Code"), text("Country"), num("Peers"), num("Bytes")],
        rows: 260,
        bytes: 100_000,
        rerun: &report.rerun("locate"),
    };
    html! {
        @if !report.locate.countries.is_empty() {
            details { summary { "By registered country" } (grid.draw(rows, 0)) }
        }
    }
}

fn routers(report: &Report<'_>) -> Markup {
    let rows = report.locate.routers.iter().map(|(address, what, times)| {
        Row::plain(vec![Cell::text(address), Cell::text(what), Cell::count(*times)])
    });
    let grid = Grid {
        id: "routers",
        caption: "Routers that sent ICMP errors",
        columns: &[mono("Address"), words("Said"), num("Times")],
        rows: 200,
        bytes: 100_000,
        rerun: &report.rerun("locate"),
    };
    html! {
        @if !report.locate.routers.is_empty() {
            details { summary { "Routers that sent ICMP errors" } (grid.draw(rows, 0)) }
        }
    }
}
