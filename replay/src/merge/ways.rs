//! Which host had a packet after which.

use rustc_hash::FxHashMap;

use super::marks::{Key, Mark, Marks};

/// A packet that left one host and came to another, with nothing recorded between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Recording that it left.
    pub from: usize,
    /// Where it left.
    pub sent: Mark,
    /// Recording that it came to.
    pub to: usize,
    /// Where it came.
    pub received: Mark,
}

/// One sight of a packet at the edge of a host.
#[derive(Clone, Copy, Debug)]
struct Sight {
    ttl: u8,
    /// Of the hosts that saw it with this TTL: 0 only sent it, 1 received and sent it, 2 only received it. A
    /// host between shows its own bytes again only where it changed more than the TTL.
    part: u8,
    host: usize,
    sent: bool,
    mark: Option<Mark>,
}

/// What all hosts saw of one packet.
type Sights = Vec<Sight>;

/// The ways of all packets that several hosts know, in the order in which they left, on their own clocks.
///
/// What leaves a host with some TTL is next received by the one that sees the highest TTL not above it. Where more
/// than one host can be next, nothing is said.
pub(super) fn pairs(hosts: &[&Marks]) -> Vec<Pair> {
    let mut by_key: FxHashMap<Key, Sights> = FxHashMap::default();
    for (host, marks) in hosts.iter().enumerate() {
        for (sent, looks) in [(false, &marks.received), (true, &marks.sent)] {
            for (&(key, ttl), &mark) in looks {
                let sight = Sight { ttl, part: 0, host, sent, mark };
                by_key.entry(key).or_default().push(sight);
            }
        }
    }
    let mut pairs = Vec::new();
    for sights in by_key.values_mut().filter(|sights| sights.len() > 1) {
        way(sights, &mut pairs);
    }
    // No order of a hash map may be seen.
    pairs.sort_by_key(|pair| (pair.from, pair.to, pair.sent.at, pair.sent.cpu, pair.sent.seq));
    pairs
}

/// The way of one packet.
fn way(sights: &mut [Sight], pairs: &mut Vec<Pair>) {
    let level: Vec<(u8, usize, bool)> =
        sights.iter().map(|sight| (sight.ttl, sight.host, sight.sent)).collect();
    for sight in sights.iter_mut() {
        let other = level.contains(&(sight.ttl, sight.host, !sight.sent));
        sight.part = match (other, sight.sent) {
            (true, _) => 1,
            (false, true) => 0,
            (false, false) => 2,
        };
    }
    sights.sort_by_key(|sight| (std::cmp::Reverse(sight.ttl), sight.part, sight.host, sight.sent));
    // Two hosts that play the same part at one TTL: which of them comes first cannot be told.
    let alone = |sight: &Sight| {
        !sights.iter().any(|other| {
            other.ttl == sight.ttl && other.part == sight.part && other.host != sight.host
        })
    };
    for two in sights.windows(2) {
        let (from, to) = (&two[0], &two[1]);
        if !from.sent || to.sent || from.host == to.host || !alone(from) || !alone(to) {
            continue;
        }
        if let (Some(sent), Some(received)) = (from.mark, to.mark) {
            pairs.push(Pair { from: from.host, sent, to: to.host, received });
        }
    }
}

#[cfg(test)]
mod tests {
    use psc_formats::Ns;
    use psc_formats::event::SkbAddr;

    use super::*;

    /// `host` `ttl` `>` (sent) or `<` (received) or `=` (looks like another).
    fn told(text: &str) -> Vec<Sight> {
        text.split_whitespace()
            .map(|word| {
                let (host, rest) = word.split_at(1);
                let (ttl, how) = rest.split_at(rest.len() - 1);
                let host = (host.as_bytes()[0] - b'a') as usize;
                let mark = Mark { at: Ns(host as u64), cpu: 0, seq: 0, skb: SkbAddr(1) };
                Sight {
                    ttl: ttl.parse().unwrap(),
                    part: 0,
                    host,
                    sent: how == ">",
                    mark: (how != "=").then_some(mark),
                }
            })
            .collect()
    }

    #[test]
    fn a_packet_goes_to_the_next_host_that_saw_it() {
        #[rustfmt::skip]
        let cases = [
            ("one wire",                  "a64> b64<",                     "ab"),
            ("a router not recorded",     "a64> b63<",                     "ab"),
            ("a router that shows TTL",   "a64> b64< b63> c63<",           "ab bc"),
            ("one that does not",         "a64> b64< b64> c63<",           "ab bc"),
            ("two of them",               "d62< a64> c63< c63> b64< b64>", "ab bc cd"),
            ("a bridge keeps the TTL",    "a64> b64< b64> c64<",           "ab bc"),
            ("two bridges",               "a64> b64< b64> c64< c64> d64<", ""),
            ("sent to many",              "a64> b64< c64<",                ""),
            ("sent by nobody known",      "b64< b64> c63<",                "bc"),
            ("looks like another there",  "a64> b64=",                     ""),
            ("back to where it was",      "a64> a62<",                     ""),
        ];
        for (name, sights, expected) in cases {
            let mut pairs = Vec::new();
            way(&mut told(sights), &mut pairs);
            let letter = |host: usize| char::from(b'a' + host as u8);
            let words: Vec<String> = pairs
                .iter()
                .map(|pair| [letter(pair.from), letter(pair.to)].iter().collect())
                .collect();
            assert_eq!(words.join(" "), expected, "{name}");
        }
    }
}
