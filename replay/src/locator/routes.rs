//! Routes out of matched probes: hops, links that packets really took, loops, silence.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::coordinates::great_circle_km;
use super::distance::From;
use super::gazetteer::Gazetteer;
use super::probes::{Answer, Run, RunKey, back_hops};
use crate::view::route::{HopRow, LinkRow, NodeRow, RouteRow};

/// TTLs without an answer, after the last that has one, that are worth showing.
const SILENT: u8 = 3;

/// What answers at one TTL.
type Nodes = BTreeSet<IpAddr>;

/// One route as it is shown.
pub(super) fn row(
    key: &RunKey,
    run: &Run,
    host: String,
    gazetteer: &Gazetteer,
    from: Option<&From>,
) -> RouteRow {
    let &(_, source, target, protocol, stored) = key;
    let reached = reached(run, target);
    let last_answer = run.hops.iter().rev().find(|(_, hop)| !hop.nodes.is_empty());
    let last_answer = last_answer.map_or(0, |(ttl, _)| *ttl);
    let probed = run.hops.keys().next_back().copied().unwrap_or(0);
    let until = reached.unwrap_or_else(|| probed.min(last_answer.saturating_add(SILENT)));
    let hops: Vec<HopRow> =
        run.hops.range(..=until).map(|(ttl, hop)| hop_row(*ttl, hop, target, gazetteer)).collect();
    let counted = || run.hops.range(..=reached.unwrap_or(u8::MAX)).map(|(_, hop)| hop);
    let answers =
        |hop: &super::probes::Hop| hop.nodes.values().map(|node| node.answers).sum::<u64>();
    let mut row = RouteRow {
        source: source.to_string(),
        host,
        target: target.to_string(),
        protocol: match protocol {
            6 => "tcp",
            17 => "udp",
            _ => "icmp",
        }
        .to_owned(),
        evidence: if stored { "probe results" } else { "recorded packets" }.to_owned(),
        first: run.first,
        last: run.last,
        sent: counted().map(|hop| hop.sent).sum(),
        answered: counted().map(answers).sum(),
        flows: run.flows.len() as u64,
        reached,
        links: links(run, source, until),
        looped: looped(run, target, until),
        silent_beyond: (reached.is_none() && probed >= last_answer.saturating_add(SILENT))
            .then_some(last_answer),
        hops,
        ..RouteRow::default()
    };
    notes(run, &mut row, until);
    lengths(&mut row, from);
    row
}

/// The first TTL at which the target itself answered.
fn reached(run: &Run, target: IpAddr) -> Option<u8> {
    let answers = |hop: &super::probes::Hop| {
        hop.nodes.keys().any(|(from, answer)| {
            // Behind address translation the answer may come from elsewhere, but a port that nobody
            // listens on, an echo and a transport's answer come from where the packet ended.
            *from == target && *answer != Answer::Expired
                || matches!(answer, Answer::Echo | Answer::Port | Answer::Transport)
        })
    };
    run.hops.iter().find(|(_, hop)| answers(hop)).map(|(ttl, _)| *ttl)
}

fn hop_row(ttl: u8, hop: &super::probes::Hop, target: IpAddr, gazetteer: &Gazetteer) -> HopRow {
    let mut nodes: Vec<NodeRow> = hop
        .nodes
        .iter()
        .map(|((address, answer), node)| {
            let entry = gazetteer.look_up(*address);
            NodeRow {
                address: address.to_string(),
                answer: answer.words(target.is_ipv6()).to_owned(),
                answers: node.answers,
                rtt: node.rtt.spread(),
                scope: entry.scope.to_owned(),
                place: entry.drawn().map(|drawn| drawn.0),
                country: entry.country,
                asn: entry.asn,
                as_name: entry.as_name,
                listed: entry.listed,
                back_hops: back_hops(node),
                mpls: node.mpls.clone(),
                translated: node.translated,
            }
        })
        .collect();
    nodes.sort_by(|a, b| b.answers.cmp(&a.answers).then_with(|| a.address.cmp(&b.address)));
    let answered = nodes.iter().map(|node| node.answers).sum();
    HopRow { ttl, sent: hop.sent, answered, nodes }
}

fn addresses(run: &Run, ttl: u8) -> Nodes {
    run.hops
        .get(&ttl)
        .map(|hop| hop.nodes.keys().map(|(from, _)| *from).collect())
        .unwrap_or_default()
}

/// Links: those that one flow key showed both ends of; and where no key did, those between the only
/// routers known at their TTLs. Never the product of all routers of two TTLs.
fn links(run: &Run, source: IpAddr, until: u8) -> Vec<LinkRow> {
    let mut found: BTreeMap<(u8, IpAddr, IpAddr, u8), u64> = BTreeMap::new();
    for ways in run.flows.values() {
        // A key whose answers changed is a route that changed: which pairs belong is not known.
        let mut nearer: (u8, IpAddr) = (0, source);
        for (&ttl, &(at, _, changed)) in ways.range(1..=until) {
            if changed {
                break;
            }
            let hidden = ttl - nearer.0 - 1;
            *found.entry((nearer.0, nearer.1, at, hidden)).or_default() += 1;
            nearer = (ttl, at);
        }
    }
    // Classic traceroute shows one hop a key: what lies before it is then hidden by the key, not by
    // silence.
    let answering: Vec<u8> = (1..=until).filter(|ttl| !addresses(run, *ttl).is_empty()).collect();
    let before = |ttl: u8| answering.iter().rev().find(|other| **other < ttl).copied().unwrap_or(0);
    found.retain(|(ttl, _, _, hidden), _| before(ttl + hidden + 1) == *ttl);
    for &ttl in &answering {
        let earlier = before(ttl);
        let nearer = if earlier == 0 { Nodes::from([source]) } else { addresses(run, earlier) };
        let farther = addresses(run, ttl);
        let linked = found.keys().any(|(from, _, _, hidden)| from + hidden + 1 == ttl);
        // One on either side is enough: all ways go through it.
        if !linked && (nearer.len() == 1 || farther.len() == 1) {
            for near in &nearer {
                for far in &farther {
                    found.insert((earlier, *near, *far, ttl - earlier - 1), 0);
                }
            }
        }
    }
    found
        .into_iter()
        .map(|((ttl, from, to, hidden), flows)| LinkRow {
            ttl,
            from: from.to_string(),
            to: to.to_string(),
            flows,
            hidden,
        })
        .collect()
}

/// Routers that one flow came back to after another, or stayed at for three hops and more.
fn looped(run: &Run, target: IpAddr, until: u8) -> Vec<String> {
    let mut found = Nodes::new();
    let mut judge = |way: &[(u8, IpAddr)]| {
        for (index, (ttl, address)) in way.iter().enumerate() {
            if *address == target {
                continue;
            }
            let again = way[index + 1..].iter().filter(|(_, other)| other == address);
            // Two in a row happen where a router answers for the next one.
            let far = again.clone().any(|(other, _)| other - ttl > 1);
            let long = again.count() >= 2;
            if far || long {
                found.insert(*address);
            }
        }
    };
    for ways in run.flows.values() {
        let way: Vec<(u8, IpAddr)> = ways
            .range(1..=until)
            .filter(|(_, seen)| !seen.2)
            .map(|(ttl, seen)| (*ttl, seen.0))
            .collect();
        judge(&way);
    }
    let only: Vec<(u8, IpAddr)> = (1..=until)
        .filter_map(|ttl| {
            let nodes = addresses(run, ttl);
            Some((ttl, *nodes.first().filter(|_| nodes.len() == 1)?))
        })
        .collect();
    judge(&only);
    found.into_iter().map(|address| address.to_string()).collect()
}

fn notes(run: &Run, row: &mut RouteRow, until: u8) {
    let loss = |hop: &HopRow| hop.sent.saturating_sub(hop.answered);
    for (index, hop) in row.hops.iter().enumerate() {
        if hop.answered == 0 || loss(hop) == 0 {
            continue;
        }
        // Loss that later hops do not share is no loss of packets on the way.
        let least = row.hops[index + 1..]
            .iter()
            .filter(|later| later.answered > 0)
            .map(|later| loss(later) * 1000 / later.sent.max(1))
            .min();
        let here = loss(hop) * 1000 / hop.sent.max(1);
        if least.is_some_and(|least| least + 50 < here) {
            row.notes.push(format!(
                "hop {} left {} of {} probes unanswered, later hops fewer: it limits its ICMP, packets \
                 are not lost there",
                hop.ttl,
                loss(hop),
                hop.sent
            ));
        }
    }
    let silent: Vec<String> = row
        .hops
        .iter()
        .enumerate()
        .filter(|(index, hop)| {
            hop.answered == 0 && row.hops[index + 1..].iter().any(|later| later.answered > 0)
        })
        .map(|(_, hop)| hop.ttl.to_string())
        .collect();
    if !silent.is_empty() {
        let (hops, verb) = if silent.len() == 1 { ("hop", "answers") } else { ("hops", "answer") };
        row.notes.push(format!(
            "{hops} {} never {verb}, but what lies beyond does: silent, not broken",
            silent.join(", ")
        ));
    }
    let translated = row.hops.iter().flat_map(|hop| &hop.nodes).any(|node| node.translated);
    if translated {
        row.notes
            .push("quoted probes were not as sent: addresses are translated on the way".to_owned());
    }
    for pair in row.hops.windows(2) {
        let one = |hop: &HopRow| {
            hop.nodes.first().filter(|_| hop.nodes.len() == 1).map(|n| n.address.clone())
        };
        if let (Some(near), Some(far)) = (one(&pair[0]), one(&pair[1]))
            && near == far
            && !row.looped.contains(&near)
        {
            row.notes.push(format!(
                "{near} answers for hops {} and {}: it speaks for what is behind it (address \
                 translation or a proxy)",
                pair[0].ttl, pair[1].ttl
            ));
        }
    }
    let changed: BTreeSet<u8> = run
        .flows
        .values()
        .flat_map(|ways| ways.range(1..=until))
        .filter(|(_, seen)| seen.2)
        .map(|(ttl, _)| *ttl)
        .collect();
    if !changed.is_empty() {
        let ttls: Vec<String> = changed.iter().map(u8::to_string).collect();
        row.notes.push(format!(
            "the route changed while it was probed: one flow had different routers at hop {}",
            ttls.join(", ")
        ));
    }
    for hop in &row.hops {
        for node in &hop.nodes {
            if let Some(back) = node.back_hops
                && back.abs_diff(hop.ttl) >= 3
                && back < 33
            {
                row.notes.push(format!(
                    "hop {} ({}) is {} hops there, about {back} back: the ways differ (estimated from \
                     the TTL of its answers)",
                    hop.ttl, node.address, hop.ttl
                ));
            }
        }
    }
    row.notes.truncate(32);
}

/// Length of the way along claimed places, against the great circle between its ends.
fn lengths(row: &mut RouteRow, from: Option<&From>) {
    let mut way: Vec<(f64, f64)> = from.map(From::place).into_iter().collect();
    for hop in &row.hops {
        // Alternatives in different places have no one way through them.
        let mut places: Vec<(f64, f64)> = hop.nodes.iter().filter_map(|node| node.place).collect();
        places.dedup();
        if let [place] = places[..]
            && way.last() != Some(&place)
        {
            way.push(place);
        }
    }
    if let [first, .., last] = way[..] {
        let path: f64 = way.windows(2).map(|pair| great_circle_km(pair[0], pair[1])).sum();
        row.path_km = Some(path.round() as u64);
        row.direct_km = Some(great_circle_km(first, last).round() as u64);
    }
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
