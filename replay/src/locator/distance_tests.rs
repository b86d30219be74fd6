//! Well-known addresses with the truth about them, and what is made of it.

use super::*;
use crate::sample::ip;

/// (address, what it is, country it is registered in, whether it answers from many places, a round trip in
/// milliseconds that a host in Frankfurt would see). Truth: the holders' own pages, RIR records.
#[rustfmt::skip]
const KNOWN: &[(&str, &str, &str, bool, f64)] = &[
    ("193.0.6.139",     "www.ripe.net, Amsterdam",          "NL", false, 8.0),
    ("192.0.43.10",     "IANA, Los Angeles",                "US", false, 145.0),
    ("128.112.136.61",  "Princeton University",             "US", false, 95.0),
    ("18.7.22.83",      "MIT, Cambridge",                   "US", false, 92.0),
    ("129.132.19.216",  "ETH Zurich",                       "CH", false, 9.0),
    ("130.89.148.77",   "University of Twente",             "NL", false, 12.0),
    ("131.188.12.211",  "FAU Erlangen",                     "DE", false, 6.0),
    ("133.11.0.1",      "University of Tokyo",              "JP", false, 240.0),
    ("203.178.141.194", "WIDE Project, Tokyo",              "JP", false, 245.0),
    ("202.12.29.194",   "APNIC, Brisbane",                  "AU", false, 290.0),
    ("200.160.2.3",     "NIC.br, Sao Paulo",                "BR", false, 205.0),
    ("196.216.2.6",     "AFRINIC, registered by its office","ZA", false, 190.0),
    ("41.231.21.44",    "Tunisia",                          "TN", false, 45.0),
    ("147.229.2.90",    "Brno University of Technology",    "CZ", false, 14.0),
    ("2001:67c:2e8:22::c100:68b", "www.ripe.net, Amsterdam", "NL", false, 8.0),
    ("2001:dc0:2001:11::194",     "APNIC, Brisbane",        "AU", false, 290.0),
    ("1.1.1.1",         "Cloudflare resolver",              "AU", true,  1.0),
    ("8.8.8.8",         "Google Public DNS",                "US", true,  1.2),
    ("9.9.9.9",         "Quad9",                            "US", true,  2.0),
    ("193.0.14.129",    "root server K",                    "NL", true,  1.5),
    ("202.12.27.33",    "root server M",                    "JP", true,  7.0),
    ("2001:dc3::35",    "root server M",                    "JP", true,  7.0),
    ("2001:4860:4860::8888", "Google Public DNS",           "US", true,  1.2),
    ("104.16.132.229",  "Cloudflare",                       "US", true,  1.1),
];

const FRANKFURT: Here = Here::Point(50.1, 8.7);

fn ns(ms: f64) -> u64 {
    (ms * 1e6) as u64
}

fn judge(here: Option<&Here>, rows: &[(&str, f64)]) -> Vec<(String, String)> {
    let gazetteer = Gazetteer::default();
    let entries: Vec<Entry> = rows.iter().map(|(a, _)| gazetteer.look_up(ip(a))).collect();
    let claims: Vec<Claim<'_>> = rows
        .iter()
        .zip(&entries)
        .map(|((address, ms), entry)| Claim { address: ip(address), rtt_ns: ns(*ms), entry })
        .collect();
    let from = From::new(here, &Tables::default(), &gazetteer);
    contradictions(from.as_ref(), &claims).into_iter().map(|c| (c.address, c.kind)).collect()
}

/// All are placed in the country they are registered in; all that answer from many places are known to,
/// and none else is.
#[test]
fn well_known_addresses_are_placed() {
    let gazetteer = Gazetteer::default();
    let (mut placed, mut anycast) = (0, 0);
    for (address, what, country, many, _) in KNOWN {
        let entry = gazetteer.look_up(ip(address));
        assert_eq!(entry.country, *country, "{what}");
        placed += 1;
        anycast += u32::from(entry.anycast.is_empty() != *many);
        assert_eq!(entry.drawn().is_some(), !many, "{what}");
    }
    assert_eq!((placed, anycast), (KNOWN.len() as u32, KNOWN.len() as u32));
}

/// With the round trips that a host in Frankfurt sees, the true places stand, and what is registered far
/// away but answers from near is flagged: all of it, and as anycast.
#[test]
fn only_what_answers_from_elsewhere_is_flagged() {
    let rows: Vec<(&str, f64)> = KNOWN.iter().map(|row| (row.0, row.4)).collect();
    let flagged = judge(Some(&FRANKFURT), &rows);
    let far = |country: &str| ["AU", "US", "JP"].contains(&country);
    let expected: Vec<(String, String)> = KNOWN
        .iter()
        .filter(|row| row.3 && far(row.2))
        .map(|row| (ip(row.0).to_string(), "anycast".to_owned()))
        .collect();
    assert_eq!(flagged, expected);
    assert_eq!(
        expected.len(),
        7,
        "root server K is registered near Frankfurt: it contradicts nothing"
    );
}

/// The same addresses with a round trip that their place does not allow are flagged, every one that is far
/// enough for the vantage to tell.
#[test]
fn a_false_place_is_flagged_from_each_side() {
    let rows: Vec<(&str, f64)> =
        KNOWN.iter().filter(|row| !row.3).map(|row| (row.0, 0.9)).collect();
    let flagged: BTreeSet<String> =
        judge(Some(&FRANKFURT), &rows).into_iter().map(|(address, _)| address).collect();
    for (address, what, country, ..) in KNOWN.iter().filter(|row| !row.3) {
        let expected = *country != "DE";
        assert_eq!(flagged.contains(&ip(address).to_string()), expected, "{what}");
    }
}

#[test]
fn without_a_vantage_two_claims_can_contradict_each_other() {
    let honest: Vec<(&str, f64)> =
        KNOWN.iter().filter(|row| !row.3).map(|row| (row.0, row.4)).collect();
    assert_eq!(judge(None, &honest), []);
    // Tokyo and Brisbane cannot both be 10 ms from one host, wherever that is.
    let pair = judge(None, &[("133.11.0.1", 10.0), ("202.12.29.194", 10.0), ("10.0.0.1", 0.1)]);
    assert_eq!(pair, [("202.12.29.194".to_owned(), "pair".to_owned())]);
    // Anycast contradicts nobody: its place is no claim.
    assert_eq!(judge(None, &[("133.11.0.1", 10.0), ("1.1.1.1", 1.0)]), []);
}

#[test]
fn a_vantage_is_given_or_taken_from_own_addresses() {
    let gazetteer = Gazetteer::default();
    let mut tables = Tables::default();
    assert!(From::new(None, &tables, &gazetteer).is_none());
    let device = |addresses: &[&str]| {
        psc_formats::Fact::Device(psc_formats::fact::DeviceFact {
            id: 1,
            addresses: addresses.iter().map(|a| (*a).to_owned()).collect(),
            ..Default::default()
        })
    };
    tables.apply(&device(&["10.0.0.1/24", "131.188.12.211/24"]));
    let from = From::new(None, &tables, &gazetteer).expect("a global address");
    assert_eq!(from.shown.how, "registered country of 131.188.12.211");
    assert_eq!(from.shown.name, "Germany");
    let given = From::new(Some(&Here::Country("JP".to_owned())), &tables, &gazetteer);
    assert_eq!(given.expect("given").shown.name, "Japan");
}
