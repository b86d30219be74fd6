//! The topology: this host and others, routers by hop, then prefixes and countries of the peers.
//!
//! A router that several routes pass is one node, also where the routes come from recordings of different
//! hosts. Links are those that packets showed; what lies in between unseen is a dashed line with the
//! number of hops that did not answer, or that the TTL lets one estimate.

use std::collections::{BTreeMap, BTreeSet};

use psc_replay::view::locate::LocateView;

use super::Figure;
use super::canvas::{Canvas, Font, brief, px};
use crate::escape;
use crate::units;

const MARGIN: f64 = 20.0;
const TOP: f64 = 88.0;
/// Room for a node and its label.
const ROW: f64 = 34.0;
/// Least width of a column.
const COLUMN: f64 = 142.0;
/// Nodes in one column; the rest is one node that says how many.
const TALL: usize = 24;
/// Prefixes and countries shown.
const PREFIXES: usize = 24;
/// Routes drawn.
const ROUTES: usize = 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Host,
    Router,
    Target,
    /// Asked for, and never heard of.
    Silent,
    Prefix,
    Country,
    More,
}

#[derive(Debug)]
struct Node {
    kind: Kind,
    column: usize,
    label: String,
    about: String,
    /// Country and address that it can be found under on the page.
    link: Option<String>,
    bad: bool,
}

#[derive(Default)]
struct Net {
    nodes: BTreeMap<String, Node>,
    /// From, to: packets' keys that showed it, and hops hidden.
    links: BTreeMap<(String, String), Link>,
}

#[derive(Clone, Copy, Default)]
struct Link {
    flows: u64,
    hidden: u64,
    /// No packet showed it: hops estimated from TTLs.
    estimated: bool,
}

impl Net {
    /// The node, moved right when a later column asks for it.
    fn node(&mut self, id: &str, column: usize, make: impl FnOnce() -> Node) {
        let node = self.nodes.entry(id.to_owned()).or_insert_with(make);
        node.column = node.column.max(column);
    }

    fn link(&mut self, from: &str, to: &str, link: Link) {
        if from == to {
            return;
        }
        let known = self.links.entry((from.to_owned(), to.to_owned())).or_insert(link);
        known.flows = known.flows.max(link.flows);
        known.hidden = known.hidden.min(link.hidden);
        known.estimated &= link.estimated;
    }
}

fn host_id(view: &LocateView, source: &str, host: &str) -> String {
    // One recording is one host, whatever its addresses.
    let one = view.routes.iter().all(|route| route.host == host);
    if one { "host".to_owned() } else { format!("host {host} {source}") }
}

fn net(view: &LocateView) -> Net {
    let mut net = Net::default();
    for route in view.routes.iter().take(ROUTES) {
        let host = host_id(view, &route.source, &route.host);
        let name = if host == "host" { "this host".to_owned() } else { route.host.clone() };
        net.node(&host, 0, || Node {
            kind: Kind::Host,
            column: 0,
            about: format!("{name}, {}", route.source),
            label: name,
            link: None,
            bad: false,
        });
        for hop in &route.hops {
            for node in &hop.nodes {
                let target = node.address == route.target;
                let country = if node.country.is_empty() { &node.scope } else { &node.country };
                net.node(&node.address, usize::from(hop.ttl), || Node {
                    kind: if target { Kind::Target } else { Kind::Router },
                    column: usize::from(hop.ttl),
                    label: node.address.clone(),
                    about: format!(
                        "{}: {}, hop {}, {}{}",
                        node.address,
                        node.answer,
                        hop.ttl,
                        country,
                        node.rtt.map_or(String::new(), |rtt| format!(
                            ", RTT {}",
                            units::duration(rtt.p50)
                        ))
                    ),
                    link: Some(escape::anchor("route", &route.target)),
                    bad: !node.listed.is_empty() || route.looped.contains(&node.address),
                });
            }
        }
        for link in &route.links {
            let from = if link.ttl == 0 { &host } else { &link.from };
            let link_kind =
                Link { flows: link.flows, hidden: u64::from(link.hidden), estimated: false };
            net.link(from, &link.to, link_kind);
        }
    }
    silent(view, &mut net);
    prefixes(view, &mut net);
    net
}

/// Targets that never answered: behind the last that did, by ways that nobody saw.
fn silent(view: &LocateView, net: &mut Net) {
    let routes = view.routes.iter().take(ROUTES);
    for route in routes.filter(|route| route.reached.is_none()) {
        if net.nodes.get(&route.target).is_some_and(|node| node.kind != Kind::Silent) {
            continue;
        }
        let last = route.hops.iter().rev().find(|hop| !hop.nodes.is_empty());
        let column = last.map_or(0, |hop| usize::from(hop.ttl)) + 1;
        net.node(&route.target, column, || Node {
            kind: Kind::Silent,
            column,
            label: format!("{} (silent)", route.target),
            about: format!(
                "{}: target, silent: {} and no answer of its own",
                route.target,
                units::counted(route.sent, "probe", "probes")
            ),
            link: Some(escape::anchor("route", &route.target)),
            bad: false,
        });
        let unseen = Link { estimated: true, ..Link::default() };
        match last {
            Some(hop) => {
                for node in &hop.nodes {
                    net.link(&node.address, &route.target, unseen);
                }
            }
            None => net.link(&host_id(view, &route.source, &route.host), &route.target, unseen),
        }
    }
}

/// Peers without a route: by prefix and country, as many hops away as their TTLs let one estimate.
fn prefixes(view: &LocateView, net: &mut Net) {
    let routed: BTreeSet<&str> = view.routes.iter().map(|route| route.target.as_str()).collect();
    let last = net.nodes.values().map(|node| node.column).max().unwrap_or(0);
    let mut shown = 0;
    let mut more = (0u64, 0u64);
    for prefix in &view.prefixes {
        let peers = || view.peers.iter().filter(|peer| peer.prefix == prefix.prefix);
        if shown == PREFIXES {
            more = (more.0 + 1, more.1.saturating_add(prefix.bytes));
            continue;
        }
        shown += 1;
        let id = format!("prefix {}", prefix.prefix);
        net.node(&id, last + 1, || Node {
            kind: Kind::Prefix,
            column: last + 1,
            label: prefix.prefix.clone(),
            about: format!(
                "{}: {}, {}",
                prefix.prefix,
                units::counted(prefix.peers, "peer", "peers"),
                units::bytes(prefix.bytes)
            ),
            link: Some(escape::anchor("prefix", &prefix.prefix)),
            bad: peers().any(|peer| !peer.listed.is_empty()),
        });
        let mut through = false;
        for peer in peers().filter(|peer| routed.contains(peer.address.as_str())) {
            if net.nodes.contains_key(&peer.address) {
                net.link(&peer.address, &id, Link { flows: 1, ..Link::default() });
                through = true;
            }
        }
        if !through {
            net.node("host", 0, || Node {
                kind: Kind::Host,
                column: 0,
                label: "this host".to_owned(),
                about: "where the recording was made".to_owned(),
                link: None,
                bad: false,
            });
            let hops = prefix.hops.map_or(0, |(least, _)| u64::from(least));
            net.link("host", &id, Link { flows: 0, hidden: hops, estimated: true });
        }
        if !prefix.country.is_empty() {
            let country = format!("country {}", prefix.country);
            let row = view.countries.iter().find(|row| row.0 == prefix.country);
            net.node(&country, last + 2, || Node {
                kind: Kind::Country,
                column: last + 2,
                label: row.map_or(prefix.country.clone(), |row| row.1.clone()),
                about: row.map_or(String::new(), |row| {
                    format!(
                        "registered in {}: {}, {}",
                        row.1,
                        units::counted(row.2, "peer", "peers"),
                        units::bytes(row.3)
                    )
                }),
                link: Some(escape::anchor("country", &prefix.country)),
                bad: false,
            });
            net.link(&id, &country, Link { flows: 1, ..Link::default() });
        }
    }
    if more.0 > 0 {
        net.node("more", last + 1, || Node {
            kind: Kind::More,
            column: last + 1,
            label: units::counted(more.0, "more prefix", "more prefixes"),
            about: units::bytes(more.1),
            link: Some("peers".to_owned()),
            bad: false,
        });
        if net.nodes.contains_key("host") {
            net.link("host", "more", Link { estimated: true, ..Link::default() });
        }
    }
}

/// Where nodes are drawn.
struct Placed<'a> {
    at: BTreeMap<&'a str, (f64, f64)>,
    columns: Vec<usize>,
    /// Width of a column.
    wide: f64,
    tallest: usize,
    left_out: u64,
}

/// Where each node is drawn: columns by hop without empty ones, rows near those of what links to it.
fn placed(net: &Net) -> Placed<'_> {
    let used: BTreeSet<usize> = net.nodes.values().map(|node| node.column).collect();
    let columns: Vec<usize> = used.into_iter().collect();
    let wide = (940.0 / columns.len().max(1) as f64).clamp(COLUMN, 320.0);
    let mut at: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    let mut tallest = 0;
    let mut left_out = 0;
    for (index, column) in columns.iter().enumerate() {
        let x = MARGIN + 14.0 + index as f64 * wide;
        let mut here: Vec<(f64, &str)> = net
            .nodes
            .iter()
            .filter(|(_, node)| node.column == *column)
            .map(|(id, _)| {
                let before: Vec<f64> = net
                    .links
                    .keys()
                    .filter(|(_, to)| to == id)
                    .filter_map(|(from, _)| at.get(from.as_str()).map(|spot| spot.1))
                    .collect();
                let mean = before.iter().sum::<f64>() / before.len().max(1) as f64;
                (mean, id.as_str())
            })
            .collect();
        here.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(b.1)));
        left_out += here.len().saturating_sub(TALL) as u64;
        here.truncate(TALL);
        tallest = tallest.max(here.len());
        for (row, (_, id)) in here.iter().enumerate() {
            at.insert(id, (x, TOP + 18.0 + row as f64 * ROW));
        }
    }
    // Short columns stand in the middle of tall ones.
    for column in &columns {
        let here: Vec<&str> = net
            .nodes
            .iter()
            .filter(|(id, node)| node.column == *column && at.contains_key(id.as_str()))
            .map(|(id, _)| id.as_str())
            .collect();
        let down = (tallest - here.len()) as f64 * ROW / 2.0;
        for id in here {
            if let Some(spot) = at.get_mut(id) {
                spot.1 += down;
            }
        }
    }
    Placed { at, columns, wide, tallest, left_out }
}

fn column_title(net: &Net, column: usize) -> String {
    let kinds: BTreeSet<Kind> =
        net.nodes.values().filter(|node| node.column == column).map(|node| node.kind).collect();
    match kinds.first() {
        Some(Kind::Host) => "host".to_owned(),
        Some(Kind::Prefix | Kind::More) => "prefixes".to_owned(),
        Some(Kind::Country) => "registered in".to_owned(),
        _ => format!("hop {column}"),
    }
}

/// Nodes are links where `held` has a row for them.
pub(super) fn figure(view: &LocateView, held: &BTreeSet<&str>) -> Figure {
    let net = net(view);
    let Placed { at, columns, wide, tallest, left_out } = placed(&net);
    let width = (MARGIN * 2.0 + columns.len() as f64 * wide + 20.0).max(760.0);
    let inner = width - 2.0 * MARGIN;
    let mut canvas = Canvas::default();
    canvas.text(Font::Title, "f-ink", (MARGIN, 30.0), inner, "Topology");
    let mut about = format!(
        "{} seen hop by hop, the rest by prefix and registered country",
        units::counted(view.routes.len() as u64, "route", "routes")
    );
    if left_out > 0 {
        about = format!("{about} · {left_out} nodes left out");
    }
    canvas.text(Font::Plain, "f-faint", (MARGIN, 50.0), inner, &about);
    for (index, column) in columns.iter().enumerate() {
        let x = MARGIN + 4.0 + index as f64 * wide;
        let title = column_title(&net, *column);
        canvas.text(Font::Small, "f-faint f-b", (x, 76.0), wide - 10.0, &title);
    }
    for ((from, to), link) in &net.links {
        let (Some(a), Some(b)) = (at.get(from.as_str()), at.get(to.as_str())) else { continue };
        let registered = to.starts_with("country ");
        let class = match link {
            _ if registered => "f-e f-e-side",
            Link { estimated: true, .. } => "f-e f-e-side f-e-effect",
            Link { hidden: 1.., .. } => "f-e f-e-in f-e-lineage",
            Link { flows: 0, .. } => "f-e f-e-side",
            _ => "f-e f-e-in",
        };
        let (x1, x2) = (a.0 + 7.0, b.0 - 7.0);
        let middle = f64::midpoint(x1, x2);
        let words = match link {
            _ if registered => "registered there".to_owned(),
            Link { estimated: true, hidden: 0, .. } => "way not observed".to_owned(),
            Link { estimated: true, hidden, .. } => format!("about {hidden} hops (estimated)"),
            Link { hidden: hidden @ 1.., .. } => {
                units::counted(*hidden, "hop did not answer", "hops did not answer")
            }
            Link { flows: 0, .. } => "the only way in between, seen by different flows".to_owned(),
            Link { flows, .. } => units::counted(*flows, "flow", "flows"),
        };
        canvas.raw(format_args!(
            "<g><title>{}</title><path class=\"{class}\" stroke-width=\"{}\" d=\"M{} {}C{} {} {} {} {} {}\"/></g>",
            escape::markup(&words),
            px(1.4 + (link.flows.min(32) as f64).sqrt() * 0.3),
            px(x1), px(a.1), px(middle), px(a.1), px(middle), px(b.1), px(x2), px(b.1)
        ));
    }
    for (id, (x, y)) in &at {
        let Some(node) = net.nodes.get(*id) else { continue };
        let link = node.link.as_deref().filter(|link| held.contains(link));
        match link {
            Some(to) => {
                canvas.raw(format_args!("<a class=\"f-place\" href=\"#{}\">", escape::markup(to)));
            }
            None => canvas.raw(format_args!("<g>")),
        }
        let title = escape::markup(&brief(&node.about, 200));
        canvas.raw(format_args!("<title>{title}</title>"));
        let spot = (*x, *y);
        match node.kind {
            Kind::Host => canvas.rect("f-n", (x - 6.0, y - 6.0), (12.0, 12.0)),
            Kind::Router | Kind::Prefix if node.bad => canvas.drop_sign(spot, 6.5),
            Kind::Router => canvas.circle("f-n f-n-stack", spot, 5.0),
            Kind::Target => {
                canvas.circle("f-n f-n-stack", spot, 6.5);
                canvas.circle("f-n", spot, 3.0);
            }
            Kind::Silent => canvas.circle("f-n f-n-stack f-e-lineage", spot, 6.5),
            Kind::Prefix => canvas.rect("f-open", (x - 5.0, y - 4.0), (10.0, 8.0)),
            Kind::Country => canvas.circle("f-w-in", spot, 5.0),
            Kind::More => canvas.circle("f-open", spot, 3.5),
        }
        let label = middle_cut(Font::Small, &node.label, COLUMN - 16.0);
        canvas.text(Font::Small, "f-ink f-halo", (x - 8.0, y + 18.0), COLUMN - 14.0, &label);
        canvas.raw(format_args!("{}", if link.is_some() { "</a>" } else { "</g>" }));
    }
    let legend = TOP + tallest as f64 * ROW + 26.0;
    let lines: &[&str] = if net.nodes.is_empty() {
        &["Nothing to draw: no route and no peer's prefix is known."]
    } else {
        &[
            "line: packets of one flow passed both · dashed: hops between did not answer",
            "dotted: hops between were not observed, their number is estimated from TTLs",
            "square: host · ring: router · ring with a dot: target · dashed ring: target that never answered",
            "box: prefix · octagon: in a loop, or in your block list",
        ]
    };
    for (index, words) in lines.iter().enumerate() {
        let y = legend + 16.0 * index as f64;
        canvas.text(Font::Small, "f-faint", (MARGIN, y), inner, words);
    }
    Figure {
        width,
        height: legend + 2.0 + 16.0 * lines.len() as f64,
        title: "Topology".to_owned(),
        description: description(view, &net),
        body: canvas.body,
        interactive: !held.is_empty(),
    }
}

/// Long addresses keep both ends.
fn middle_cut(font: Font, text: &str, room: f64) -> String {
    if font.width(text) <= room {
        return text.to_owned();
    }
    let mut cells = text.chars().count();
    while cells > 4 {
        cells -= 1;
        let cut = escape::cut_middle(text, cells);
        if font.width(&cut) <= room {
            return cut.into_owned();
        }
    }
    text.to_owned()
}

fn description(view: &LocateView, net: &Net) -> String {
    let count = |kind| net.nodes.values().filter(|node| node.kind == kind).count() as u64;
    let routes: Vec<String> = view
        .routes
        .iter()
        .take(5)
        .map(|route| {
            let hops: Vec<String> = route
                .hops
                .iter()
                .map(|hop| match &hop.nodes[..] {
                    [] => "no answer".to_owned(),
                    nodes => {
                        let names: Vec<&str> =
                            nodes.iter().take(3).map(|node| node.address.as_str()).collect();
                        names.join(" or ")
                    }
                })
                .chain(route.reached.is_none().then(|| "target silent".to_owned()))
                .collect();
            format!("to {}: {}", brief(&route.target, 60), hops.join(", "))
        })
        .collect();
    format!(
        "{}, {}, {}. {}",
        units::counted(count(Kind::Router), "router", "routers"),
        units::counted(count(Kind::Target) + count(Kind::Silent), "target", "targets"),
        units::counted(count(Kind::Prefix), "prefix", "prefixes"),
        routes.join("; ")
    )
}
