//! How far a packet came, by the TTL it has left.

/// Initial TTLs in use: 64 (Linux, BSD, macOS), 128 (Windows), 255 (routers, Solaris), 32 (old
/// Windows). A received TTL is taken to have started from the next of them.
const INITIAL: [u8; 4] = [32, 64, 128, 255];

/// Routers passed, estimated: middleboxes may rewrite TTLs, and senders may choose others.
pub(super) fn estimate(ttl: u8) -> u8 {
    INITIAL.iter().find(|&&initial| initial >= ttl).map_or(0, |initial| initial - ttl)
}

/// Kilometres that a peer can be away at most: light in fibre goes about 200 km in a millisecond, so
/// a round trip of one millisecond reaches 100 km. Rounded up.
pub(super) fn distance_bound_km(rtt_ns: u64) -> u64 {
    rtt_ns.div_ceil(10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_are_counted_from_the_next_initial_ttl() {
        #[rustfmt::skip]
        let cases = [(64, 0), (63, 1), (52, 12), (33, 31), (32, 0), (31, 1), (65, 63), (128, 0),
                     (117, 11), (129, 126), (255, 0), (254, 1), (0, 32)];
        for (ttl, hops) in cases {
            assert_eq!(estimate(ttl), hops, "ttl {ttl}");
        }
    }

    #[test]
    fn a_millisecond_of_rtt_is_a_hundred_kilometres() {
        for (rtt_ns, km) in [(0, 0), (1, 1), (1_000_000, 100), (25_500_000, 2550)] {
            assert_eq!(distance_bound_km(rtt_ns), km);
        }
    }
}
