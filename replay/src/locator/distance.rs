//! Claims about places held against the speed of light.
//!
//! A round trip of r milliseconds reaches 100 r kilometres at most (light in fibre). With a known
//! vantage, a claim farther away than that is wrong. Without one, two claims still are when they lie
//! farther apart than both round trips together allow: one of the two, at least, is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use psc_formats::Tables;

use super::coordinates::{self, Place};
use super::gazetteer::{Entry, Gazetteer, Here, Point};
use super::{countries, hops, peers};
use crate::view::locate::Vantage;
use crate::view::route::Contradiction;

/// Contradicting pairs shown.
const PAIRS: usize = 20;

/// Where the recording was made, as far as that bounds distances.
#[derive(Clone, Debug)]
pub(super) struct From {
    at: Where,
    pub(super) shown: Vantage,
}

#[derive(Clone, Debug)]
enum Where {
    Point(Point),
    Country(String),
}

impl From {
    /// What the user said, else what the host's own global addresses claim.
    pub(super) fn new(
        given: Option<&Here>,
        tables: &Tables,
        gazetteer: &Gazetteer,
    ) -> Option<Self> {
        let named = |code: &str, how: String| {
            let shown = Vantage {
                place: coordinates::label(code)?,
                name: countries::name(code).unwrap_or(code).to_owned(),
                how,
                within_km: coordinates::radius_km(code)?,
            };
            Some(Self { at: Where::Country(code.to_owned()), shown })
        };
        match given {
            Some(Here::Point(north, east)) => {
                let place = (*north, *east);
                let shown = Vantage {
                    place,
                    name: format!("{north}, {east}"),
                    how: "given".to_owned(),
                    within_km: 0,
                };
                return Some(Self { at: Where::Point(Point { place, within_km: 0 }), shown });
            }
            Some(Here::Country(code)) => return named(code, "given".to_owned()),
            None => {}
        }
        let own: BTreeSet<IpAddr> =
            peers::local_addresses(tables).into_values().flatten().collect();
        for address in own {
            let entry = gazetteer.look_up(address);
            if !entry.anycast.is_empty() {
                continue;
            }
            if let Some(point) = entry.point {
                let shown = Vantage {
                    place: point.place,
                    name: if entry.city.is_empty() { entry.country_name } else { entry.city },
                    how: format!("city database, by {address}"),
                    within_km: point.within_km,
                };
                return Some(Self { at: Where::Point(point), shown });
            }
            if entry.scope == super::place::GLOBAL
                && let Some(from) =
                    named(&entry.country, format!("registered country of {address}"))
            {
                return Some(from);
            }
        }
        None
    }

    pub(super) fn place(&self) -> Place {
        self.shown.place
    }

    /// Kilometres to what an entry claims, at least.
    pub(super) fn least_km(&self, entry: &Entry) -> Option<f64> {
        match (&self.at, entry.point) {
            (Where::Point(here), Some(there)) => Some(between(*here, there)),
            (Where::Point(here), None) => Some(
                (coordinates::least_km(here.place, &entry.country)? - here.within_km as f64)
                    .max(0.0),
            ),
            (Where::Country(code), Some(there)) => {
                Some((coordinates::least_km(there.place, code)? - there.within_km as f64).max(0.0))
            }
            (Where::Country(code), None) => coordinates::least_between_km(code, &entry.country),
        }
    }
}

fn between(a: Point, b: Point) -> f64 {
    let km = coordinates::great_circle_km(a.place, b.place) * 0.994;
    (km - (a.within_km + b.within_km) as f64).max(0.0)
}

fn apart(a: &Entry, b: &Entry) -> Option<f64> {
    match (a.point, b.point) {
        (Some(a), Some(b)) => Some(between(a, b)),
        (Some(point), None) => Some(
            (coordinates::least_km(point.place, &b.country)? - point.within_km as f64).max(0.0),
        ),
        (None, Some(_)) => apart(b, a),
        (None, None) => coordinates::least_between_km(&a.country, &b.country),
    }
}

/// An address with a least round trip and a claim.
pub(super) struct Claim<'a> {
    pub(super) address: IpAddr,
    pub(super) rtt_ns: u64,
    pub(super) entry: &'a Entry,
}

/// Claims that cannot be true.
pub(super) fn contradictions(from: Option<&From>, claims: &[Claim<'_>]) -> Vec<Contradiction> {
    match from {
        Some(from) => claims.iter().filter_map(|claim| against_vantage(from, claim)).collect(),
        None => pairs(claims),
    }
}

fn against_vantage(from: &From, claim: &Claim<'_>) -> Option<Contradiction> {
    let bound_km = hops::distance_bound_km(claim.rtt_ns);
    let claimed_km = from.least_km(claim.entry)? as u64;
    if claimed_km <= bound_km {
        return None;
    }
    let words = claim.entry.claim();
    let anycast = claim.entry.anycast;
    let conclusion = if anycast.is_empty() {
        if from.shown.how == "given" {
            "it is not there, or something nearer answered for it".to_owned()
        } else {
            format!("it is not there, or this host is not in {}", from.shown.name)
        }
    } else {
        format!("expected, since {anycast} answers from many places")
    };
    Some(Contradiction {
        address: claim.address.to_string(),
        kind: if anycast.is_empty() { "place" } else { "anycast" }.to_owned(),
        text: format!(
            "{} is {words}, at least {claimed_km} km away, but answered from within {bound_km} km: \
             {conclusion}",
            claim.address
        ),
        claim: words,
        claimed_km,
        bound_km,
    })
}

/// The nearest answer of each claim, held against each other's.
fn pairs(claims: &[Claim<'_>]) -> Vec<Contradiction> {
    let mut nearest: BTreeMap<String, &Claim<'_>> = BTreeMap::new();
    for claim in claims.iter().filter(|claim| claim.entry.anycast.is_empty()) {
        let words = claim.entry.claim();
        if words.is_empty() {
            continue;
        }
        let slot = nearest.entry(words).or_insert(claim);
        if (claim.rtt_ns, claim.address) < (slot.rtt_ns, slot.address) {
            *slot = claim;
        }
    }
    let mut by_rtt: Vec<(&String, &&Claim<'_>)> = nearest.iter().collect();
    by_rtt.sort_by_key(|(_, claim)| (claim.rtt_ns, claim.address));
    // What is far contradicts nothing: the nearest few hundred are all that can.
    by_rtt.truncate(400);
    let mut found = Vec::new();
    for (index, (words, a)) in by_rtt.iter().enumerate() {
        for (other_words, b) in &by_rtt[index + 1..] {
            let bound_km = hops::distance_bound_km(a.rtt_ns.saturating_add(b.rtt_ns));
            let Some(km) = apart(a.entry, b.entry) else { continue };
            if km as u64 <= bound_km {
                continue;
            }
            found.push(Contradiction {
                address: b.address.to_string(),
                kind: "pair".to_owned(),
                claim: (*other_words).clone(),
                claimed_km: km as u64,
                bound_km,
                text: format!(
                    "{} is {words} and {} is {other_words}, at least {} km apart, but both answered \
                     from within {bound_km} km together: one of them is elsewhere",
                    a.address, b.address, km as u64
                ),
            });
        }
    }
    found.sort_by(|a, b| {
        let excess = |c: &Contradiction| c.claimed_km - c.bound_km;
        excess(b).cmp(&excess(a)).then_with(|| a.text.cmp(&b.text))
    });
    found.truncate(PAIRS);
    found
}

#[cfg(test)]
#[path = "distance_tests.rs"]
mod tests;
