//! What speaks against a route. A score is the sum of named parts, and never shown without them.

use crate::view::locate::LocateView;
use crate::view::route::{RouteChange, RouteRisk, RouteRow};

/// A way this much longer than the great circle is a detour, if it is also this many kilometres longer:
/// cables follow coasts, so a factor of two says little.
const DETOUR: (u64, u64) = (2, 3_000);

/// Scores, worst first.
pub(super) fn assess(view: &LocateView) -> Vec<RouteRisk> {
    let mut risks: Vec<RouteRisk> = view.routes.iter().map(|route| one(route, view)).collect();
    risks.sort_by(|a, b| {
        b.score.cmp(&a.score).then_with(|| (&a.target, &a.source).cmp(&(&b.target, &b.source)))
    });
    risks
}

fn one(route: &RouteRow, view: &LocateView) -> RouteRisk {
    let mut parts: Vec<(String, u64, String)> = Vec::new();
    let mut part = |name: &str, points: u64, why: String| {
        parts.push((name.to_owned(), points, why));
    };
    let nodes = || route.hops.iter().flat_map(|hop| &hop.nodes);

    if !route.looped.is_empty() {
        part("loop", 40, format!("packets come back to {}", route.looped.join(", ")));
    } else if let Some(ttl) = route.silent_beyond {
        part("blackhole", 30, format!("nothing answers beyond hop {ttl}, nor does the target"));
    }
    let mut listed: Vec<&str> =
        nodes().map(|node| node.listed.as_str()).filter(|listed| !listed.is_empty()).collect();
    listed.sort_unstable();
    listed.dedup();
    if !listed.is_empty() {
        part("listed", 40, format!("routers are in the block list: {}", listed.join("; ")));
    }
    if let (Some(path), Some(direct)) = (route.path_km, route.direct_km)
        && path >= direct * DETOUR.0
        && path - direct >= DETOUR.1
    {
        let why = format!(
            "{path} km along the places of its routers, {direct} km direct (estimated: registered \
             places are no positions)"
        );
        part("detour", 15, why);
    }
    for contradiction in &view.contradictions {
        let here = contradiction.kind == "place"
            && (contradiction.address == route.target
                || nodes().any(|node| node.address == contradiction.address));
        if here {
            part("unexpectedly near", 10, contradiction.text.clone());
        }
    }
    if let (Some(from), Some(node)) = (&view.vantage, target(route))
        && let (Some(place), Some(rtt)) = (node.place, node.rtt)
    {
        let km = super::coordinates::great_circle_km(from.place, place);
        // Real ways take about twice the time of light along the great circle (Singla et al., "The
        // Internet at the Speed of Light", HotNets 2014, has a median of 3.2 with servers included).
        let expected_ns = (km * 10_000.0 * 3.2) as u64;
        if rtt.min > expected_ns * 2 + 60_000_000 {
            let why = format!(
                "the target answers after {} ms at least; {} km would take about {} ms",
                rtt.min / 1_000_000,
                km.round(),
                expected_ns / 1_000_000
            );
            part("unexpectedly far", 10, why);
        }
    }
    if route.notes.iter().any(|note| note.starts_with("the route changed while")) {
        part("unstable", 10, "the route changed while it was probed".to_owned());
    }
    let changed: Vec<&str> = view
        .changes
        .iter()
        .filter(|change| change.target == route.target && change.what != "rtt")
        .map(|change| change.text.as_str())
        .collect();
    if !changed.is_empty() {
        part("changed", 15, changed.join("; "));
    }
    let mut countries: Vec<String> = Vec::new();
    let mut networks: Vec<String> = Vec::new();
    for node in nodes() {
        let network = match (node.asn, node.address.parse()) {
            (Some(asn), _) => format!("AS{asn} {}", node.as_name).trim_end().to_owned(),
            (None, Ok(address)) if node.scope == super::place::GLOBAL => {
                super::prefixes::announced(address)
            }
            _ => continue,
        };
        if !networks.contains(&network) {
            networks.push(network);
        }
        if !node.country.is_empty() && !countries.contains(&node.country) {
            countries.push(node.country.clone());
        }
    }
    if countries.len() > 2 {
        let points = (countries.len() as u64 - 2) * 5;
        let why = format!("registered in {}", countries.join(", "));
        part("countries crossed", points.min(20), why);
    }
    RouteRisk {
        target: route.target.clone(),
        source: route.source.clone(),
        score: parts.iter().map(|part| part.1).sum::<u64>().min(100),
        parts,
        countries,
        networks,
    }
}

fn target(route: &RouteRow) -> Option<&crate::view::route::NodeRow> {
    let hop = route.hops.iter().find(|hop| Some(hop.ttl) == route.reached)?;
    hop.nodes.iter().find(|node| node.address == route.target)
}

/// What differs between an earlier view and this one, by route and by peer.
pub(super) fn changes(view: &LocateView, before: &LocateView) -> Vec<RouteChange> {
    let mut found = Vec::new();
    for route in &view.routes {
        let same = |other: &&RouteRow| {
            (&other.target, &other.protocol) == (&route.target, &route.protocol)
        };
        // By the same source where there is one: hosts have routes of their own.
        let earlier = before
            .routes
            .iter()
            .filter(same)
            .max_by_key(|other| (other.source == route.source, other.host == route.host));
        let Some(earlier) = earlier else { continue };
        route_changes(route, earlier, &mut found);
    }
    for peer in &view.peers {
        let Some(earlier) = before.peers.iter().find(|other| other.address == peer.address) else {
            continue;
        };
        let mut change = |what: &str, text: String| {
            found.push(RouteChange { target: peer.address.clone(), what: what.to_owned(), text });
        };
        if let (Some(now), Some(then)) = (peer.hops_estimate, earlier.hops_estimate)
            && now != then
        {
            change("hops", format!("{then} hops before, {now} now (estimated from TTLs)"));
        }
        if let (Some(now), Some(then)) = (least(peer), least(earlier))
            && now.abs_diff(then) > 5_000_000
            && (now > then * 3 / 2 || then > now * 3 / 2)
        {
            let ms = |ns: u64| ns as f64 / 1e6;
            change("rtt", format!("least RTT {:.1} ms before, {:.1} ms now", ms(then), ms(now)));
        }
    }
    found
}

fn least(peer: &crate::view::locate::PeerRow) -> Option<u64> {
    [peer.rtt_handshake, peer.rtt_data, peer.rtt_probe].iter().flatten().map(|s| s.min).min()
}

fn route_changes(route: &RouteRow, earlier: &RouteRow, found: &mut Vec<RouteChange>) {
    let mut change = |what: &str, text: String| {
        found.push(RouteChange { target: route.target.clone(), what: what.to_owned(), text });
    };
    if route.reached != earlier.reached {
        let words = |reached: Option<u8>| match reached {
            Some(ttl) => format!("reached at hop {ttl}"),
            None => "not reached".to_owned(),
        };
        let text = format!("{} before, {} now", words(earlier.reached), words(route.reached));
        change("reached", text);
    }
    for hop in &route.hops {
        let Some(then) = earlier.hops.iter().find(|other| other.ttl == hop.ttl) else { continue };
        let names = |hop: &crate::view::route::HopRow| -> Vec<String> {
            let mut names: Vec<String> =
                hop.nodes.iter().map(|node| node.address.clone()).collect();
            names.sort();
            names.dedup();
            names
        };
        let (now, before) = (names(hop), names(then));
        // Some of several alternatives is no change; silence is no other router.
        let shared = now.iter().any(|name| before.contains(name));
        if !shared && !now.is_empty() && !before.is_empty() {
            let text = format!(
                "hop {}: {} before, {} now",
                hop.ttl,
                before.join(" or "),
                now.join(" or ")
            );
            change("route", text);
        }
    }
}
