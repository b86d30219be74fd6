//! The world map: who is where, how much goes there, how long it takes.
//!
//! What cannot be told apart is one mark: peers of one place, and places nearer to each other than a mark is
//! wide. So ten thousand peers are a few hundred marks.

use std::collections::{BTreeMap, BTreeSet};

use psc_replay::view::locate::{LocateView, PeerRow};
use psc_replay::view::route::RouteRow;

use super::Figure;
use super::canvas::{Canvas, Font, brief, px};
use super::globe::Frame;
use crate::escape;
use crate::units;

const WIDTH: f64 = 1_000.0;
const MARGIN: f64 = 20.0;
const TOP: f64 = 66.0;
/// Places nearer than this are one mark, pixels.
const CELL: f64 = 7.0;
/// Marks drawn, most bytes first.
const MARKS: usize = 900;
/// Of these, with an arc.
const ARCS: usize = 300;
/// Routes drawn through their routers.
const ROUTES: usize = 40;
/// Names written beside marks, most bytes first, where there is room.
const NAMES: usize = 14;

/// Latency classes: up to how many nanoseconds, class of the stroke, what it says.
const CLASSES: [(u64, &str, &str); 4] = [
    (20_000_000, "ok", "under 20 ms"),
    (80_000_000, "in", "20 to 80 ms"),
    (200_000_000, "out", "80 to 200 ms"),
    (u64::MAX, "bad", "200 ms and more"),
];

/// Peers that are drawn as one.
#[derive(Default)]
struct Mark {
    at: (f64, f64),
    place: (f64, f64),
    name: String,
    country: String,
    peers: u64,
    bytes: u64,
    least: Option<u64>,
}

fn least(peer: &PeerRow) -> Option<u64> {
    let all = [peer.rtt_handshake, peer.rtt_data, peer.rtt_probe];
    all.iter().flatten().map(|spread| spread.min).min()
}

fn class(least: Option<u64>) -> Option<usize> {
    least.map(|ns| CLASSES.iter().position(|class| ns < class.0).unwrap_or(CLASSES.len() - 1))
}

fn marks(view: &LocateView, frame: Frame) -> Vec<Mark> {
    let mut cells: BTreeMap<(i64, i64), Mark> = BTreeMap::new();
    for peer in &view.peers {
        let Some(place) = peer.place else { continue };
        let at = frame.project(place);
        let cell = ((at.0 / CELL).round() as i64, (at.1 / CELL).round() as i64);
        let mark = cells.entry(cell).or_default();
        if mark.peers == 0 {
            // Peers come with most bytes first: the first names the mark.
            let city = if peer.city.is_empty() { &peer.country_name } else { &peer.city };
            mark.name.clone_from(city);
            mark.country.clone_from(&peer.country);
            (mark.at, mark.place) = (at, place);
        }
        mark.peers += 1;
        mark.bytes = mark.bytes.saturating_add(peer.bytes.0).saturating_add(peer.bytes.1);
        mark.least = match (mark.least, least(peer)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    let mut marks: Vec<Mark> = cells.into_values().collect();
    marks.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    marks.truncate(MARKS);
    marks
}

/// Width of a line for a share of the traffic: a tenth of the bytes is half as wide.
fn weight(bytes: u64, most: u64) -> f64 {
    let share = bytes as f64 / most.max(1) as f64;
    1.0 + 4.5 * share.powf(0.3)
}

/// The mark's shape says the latency class, too: circle, square, diamond, triangle; open when not measured.
fn shape(canvas: &mut Canvas, mark: &Mark, radius: f64) {
    let (x, y) = mark.at;
    let class = class(mark.least);
    let colour = class.map_or("f-w-none", |class| match CLASSES[class].1 {
        "ok" => "f-w-ok",
        "in" => "f-w-in",
        "out" => "f-w-out",
        _ => "f-w-bad",
    });
    let path = |corners: &[(f64, f64)]| {
        let points: Vec<String> =
            corners.iter().map(|(dx, dy)| format!("{} {}", px(x + dx), px(y + dy))).collect();
        format!("M{}Z", points.join("L"))
    };
    let r = radius;
    match class {
        None | Some(0) => canvas.circle(colour, mark.at, r),
        Some(1) => {
            let h = r * 0.88;
            canvas.rect(colour, (x - h, y - h), (2.0 * h, 2.0 * h));
        }
        Some(2) => {
            let d = r * 1.22;
            let d = path(&[(0.0, -d), (d, 0.0), (0.0, d), (-d, 0.0)]);
            canvas.raw(format_args!("<path class=\"{colour}\" d=\"{d}\"/>"));
        }
        Some(_) => {
            let d = path(&[(0.0, -r * 1.25), (r * 1.2, r * 0.85), (-r * 1.2, r * 0.85)]);
            canvas.raw(format_args!("<path class=\"{colour}\" d=\"{d}\"/>"));
        }
    }
}

fn about(mark: &Mark) -> String {
    let rtt = mark.least.map_or("RTT not measured".to_owned(), |ns| {
        format!("least RTT {} (measured)", units::duration(ns))
    });
    format!(
        "{}: {}, {}, {rtt}",
        brief(&mark.name, 60),
        units::counted(mark.peers, "peer", "peers"),
        units::bytes(mark.bytes)
    )
}

/// Marks are links where `held` has a row for their country.
pub(super) fn figure(view: &LocateView, held: &BTreeSet<&str>) -> Figure {
    let frame = Frame::new(MARGIN, TOP, WIDTH - 2.0 * MARGIN);
    let marks = marks(view, frame);
    let mut canvas = Canvas::default();
    let inner = WIDTH - 2.0 * MARGIN;
    canvas.text(Font::Title, "f-ink", (MARGIN, 30.0), inner, "Where packets go");
    canvas.text(Font::Plain, "f-faint", (MARGIN, 50.0), inner, &subtitle(view));
    canvas.raw(format_args!("<path class=\"f-sea\" d=\"{}\"/>", frame.outline()));
    canvas.raw(format_args!("<path class=\"f-land\" d=\"{}\"/>", frame.land()));

    let most = marks.first().map_or(1, |mark| mark.bytes);
    if let Some(vantage) = &view.vantage {
        canvas.raw(format_args!("<g class=\"f-arcs\">"));
        // Least traffic first, so that most lies on top.
        for mark in marks.iter().take(ARCS).rev() {
            let path = frame.great_circle(vantage.place, mark.place);
            let class = class(mark.least).map_or("f-a-none", |class| match CLASSES[class].1 {
                "ok" => "f-a-ok",
                "in" => "f-a-in",
                "out" => "f-a-out",
                _ => "f-a-bad",
            });
            let width = px(weight(mark.bytes, most));
            canvas.raw(format_args!(
                "<path class=\"{class}\" stroke-width=\"{width}\" d=\"{path}\"/>"
            ));
        }
        canvas.raw(format_args!("</g>"));
    }
    routes(&mut canvas, view, frame);
    for mark in marks.iter().rev() {
        let title = escape::markup(&about(mark));
        let anchor = escape::anchor("country", &mark.country);
        let link = held.contains(anchor.as_str());
        if link {
            canvas.raw(format_args!("<a class=\"f-place\" href=\"#{anchor}\">"));
        } else {
            canvas.raw(format_args!("<g>"));
        }
        canvas.raw(format_args!("<title>{title}</title>"));
        shape(&mut canvas, mark, 2.4 + weight(mark.bytes, most) * 0.55);
        canvas.raw(format_args!("{}", if link { "</a>" } else { "</g>" }));
    }
    if let Some(vantage) = &view.vantage {
        let (x, y) = frame.project(vantage.place);
        canvas.raw(format_args!(
            "<g><title>this host: {} ({})</title>",
            escape::markup(&vantage.name),
            escape::markup(&vantage.how)
        ));
        canvas.circle("f-here", (x, y), 6.5);
        canvas.circle("f-here-dot", (x, y), 2.4);
        canvas.raw(format_args!("</g>"));
    }
    names(&mut canvas, view, &marks, frame);
    let bottom = TOP + frame.height();
    let height = legend(&mut canvas, view, bottom + 22.0);
    Figure {
        width: WIDTH,
        height,
        title: "Where packets go".to_owned(),
        description: description(view, &marks),
        body: canvas.body,
        interactive: !held.is_empty(),
    }
}

/// Routes through the places of their routers: whole where hops follow each other, dashed across those
/// without a place.
fn routes(canvas: &mut Canvas, view: &LocateView, frame: Frame) {
    for route in view.routes.iter().take(ROUTES) {
        let mut before = view.vantage.as_ref().map(|vantage| (0, vantage.place));
        for (ttl, place) in places(route) {
            if let Some((last, from)) = before
                && from != place
            {
                let dash = if ttl - last > 1 { " f-e-lineage" } else { "" };
                let path = frame.great_circle(from, place);
                canvas.raw(format_args!("<path class=\"f-route{dash}\" d=\"{path}\"/>"));
            }
            before = Some((ttl, place));
        }
    }
}

/// TTLs with one known place.
fn places(route: &RouteRow) -> impl Iterator<Item = (u8, (f64, f64))> {
    route.hops.iter().filter_map(|hop| {
        let mut places: Vec<_> = hop.nodes.iter().filter_map(|node| node.place).collect();
        places.dedup();
        match places[..] {
            [place] => Some((hop.ttl, place)),
            _ => None,
        }
    })
}

/// Names of the marks with most traffic, where they cover nothing.
fn names(canvas: &mut Canvas, view: &LocateView, marks: &[Mark], frame: Frame) {
    let mut taken: Vec<(f64, f64, f64, f64)> = Vec::new();
    if let Some(vantage) = &view.vantage {
        let (x, y) = frame.project(vantage.place);
        taken.push((x - 9.0, y - 9.0, x + 9.0, y + 9.0));
    }
    for mark in marks.iter().take(40) {
        let (x, y) = mark.at;
        taken.push((x - 5.0, y - 5.0, x + 5.0, y + 5.0));
    }
    let mut written = 0;
    for mark in marks {
        let text = Font::Small.fit(&mark.name, 120.0);
        if text.is_empty() {
            continue;
        }
        let width = Font::Small.width(&text);
        let (x, y) = mark.at;
        let spots = [
            (x + 9.0, y + 4.0),
            (x - 9.0 - width, y + 4.0),
            (x - width / 2.0, y - 9.0),
            (x - width / 2.0, y + 18.0),
        ];
        let spot = spots.into_iter().find(|(left, base)| {
            let mine = (left - 2.0, base - 10.0, left + width + 2.0, base + 3.0);
            let free = taken.iter().all(|other| {
                mine.2 < other.0 || mine.0 > other.2 || mine.3 < other.1 || mine.1 > other.3
            });
            free && mine.0 > MARGIN && mine.2 < WIDTH - MARGIN
        });
        let Some((left, base)) = spot else { continue };
        taken.push((left - 2.0, base - 10.0, left + width + 2.0, base + 3.0));
        canvas.text(Font::Small, "f-ink f-halo", (left, base), 121.0, &text);
        written += 1;
        if written == NAMES {
            break;
        }
    }
}

fn subtitle(view: &LocateView) -> String {
    let placed = view.peers.iter().filter(|peer| peer.place.is_some()).count() as u64;
    let all = (view.peers.len() as u64).saturating_add(view.omitted);
    let from = match &view.vantage {
        Some(vantage) => format!("seen from {} ({})", vantage.name, vantage.how),
        None => {
            "where the recording was made is not known: give it with --here to draw arcs".to_owned()
        }
    };
    let what = if view.peers.iter().any(|peer| peer.place_from == "city database") {
        "places by the city database, else registered countries"
    } else {
        "places are registered countries, not positions"
    };
    format!(
        "{} of {} have a place · {what} · {from}",
        units::count(placed),
        units::counted(all, "peer", "peers")
    )
}

fn legend(canvas: &mut Canvas, view: &LocateView, top: f64) -> f64 {
    let mut x = MARGIN;
    canvas.text(Font::Small, "f-faint", (x, top), 60.0, "least RTT");
    x += 62.0;
    for (index, (_, _, words)) in CLASSES.iter().enumerate() {
        let mark = Mark {
            at: (x + 6.0, top - 4.0),
            least: Some(CLASSES[index].0.min(300_000_000) - 1),
            ..Mark::default()
        };
        shape(canvas, &mark, 4.5);
        canvas.text(Font::Small, "f-ink", (x + 16.0, top), 130.0, words);
        x += 26.0 + Font::Small.width(words);
    }
    let mark = Mark { at: (x + 6.0, top - 4.0), ..Mark::default() };
    shape(canvas, &mark, 4.5);
    canvas.text(Font::Small, "f-ink", (x + 16.0, top), 130.0, "not measured");
    x += 26.0 + Font::Small.width("not measured");
    canvas.raw(format_args!("<g class=\"f-arcs\">"));
    canvas.raw(format_args!(
        "<path class=\"f-a-none\" stroke-width=\"2\" d=\"M{} {}h34\"/></g>",
        px(x + 2.0),
        px(top - 4.0)
    ));
    x += 44.0;
    canvas.text(Font::Small, "f-faint", (x, top), WIDTH - x - MARGIN, "width and size: traffic");
    let inner = WIDTH - 2.0 * MARGIN;
    let mut y = top + 20.0;
    let left_out = nowhere(view);
    if !left_out.is_empty() {
        let line = format!("Not on the map: {left_out}.");
        canvas.text(Font::Small, "f-faint", (MARGIN, y), inner, &line);
        y += 17.0;
    }
    let line = "Outlines: Natural Earth (public domain), by world-atlas. Great circles are the shortest \
                ways, not cables.";
    canvas.text(Font::Small, "f-faint", (MARGIN, y), inner, line);
    y + 14.0
}

/// `3 private, 2 anycast (Cloudflare resolver, ...), 1 registered nowhere`.
fn nowhere(view: &LocateView) -> String {
    let mut by: BTreeMap<String, u64> = BTreeMap::new();
    for peer in view.peers.iter().filter(|peer| peer.place.is_none()) {
        let why = if !peer.anycast.is_empty() {
            format!("anycast ({})", peer.anycast)
        } else if peer.scope == "global" {
            "without a registered country".to_owned()
        } else {
            peer.scope.clone()
        };
        *by.entry(why).or_default() += 1;
    }
    let mut by: Vec<(String, u64)> = by.into_iter().collect();
    by.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let parts: Vec<String> =
        by.iter().map(|(why, peers)| format!("{} {why}", units::count(*peers))).collect();
    parts.join(", ")
}

fn description(view: &LocateView, marks: &[Mark]) -> String {
    let first: Vec<String> = marks.iter().take(8).map(about).collect();
    let more = marks.len().saturating_sub(8);
    let more = if more > 0 { format!("; and {more} more places") } else { String::new() };
    format!("{}. {}{more}.", subtitle(view), first.join("; "))
}
