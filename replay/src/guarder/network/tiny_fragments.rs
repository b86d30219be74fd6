//! Tiny fragments: a transport header split over fragments, so that filters which look at the first one
//! see no flags or ports (RFC 1858, RFC 3128).
//!
//! **Sees** first fragments of TCP shorter than its header of 20 bytes, TCP fragments that start inside
//! the header (offset 8), and fragments with more to come that carry fewer than 48 bytes: every link
//! carries 68 bytes (RFC 791), so no router cuts smaller. **Threshold**: one of the first two kinds, four
//! of the last.
//!
//! **Silent on** ordinary fragments, and on short last ones.

use std::net::IpAddr;

use super::fragments::fragment;
use crate::bounded::Bounded;
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Draft, Seen, counted};
use crate::view::detect::Finding;

const TCP: u8 = 6;
const TCP_HEADER: u32 = 20;
const SMALLEST: u32 = 48;
const SMALL_ONES: u64 = 4;
const PAIRS: usize = 4_096;

#[derive(Debug, Default)]
struct Pair {
    split: u64,
    small: u64,
    smallest: u32,
    seen: Seen,
}

#[derive(Debug)]
pub(super) struct TinyFragments {
    pairs: Bounded<(IpAddr, IpAddr), Pair>,
}

impl Default for TinyFragments {
    fn default() -> Self {
        Self { pairs: Bounded::new(PAIRS) }
    }
}

impl Detector for TinyFragments {
    fn about(&self) -> About {
        About {
            id: "tiny-fragments",
            sees: "TCP headers split over fragments, and fragments smaller than any link needs; \
                   silent on ordinary fragments and short last ones.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Some((piece, _)) = fragment(packet).filter(|_| !packet.damaged) else { return };
        let Some((src, dst)) = packet.headers.addresses() else { return };
        let tcp = packet.headers.protocol() == Some(TCP);
        let len = piece.end - piece.start;
        let split = tcp
            && (piece.start == 0 && piece.more && len < TCP_HEADER
                || (1..TCP_HEADER).contains(&piece.start));
        let small = piece.more && len < SMALLEST;
        if !split && !small {
            return;
        }
        let pair =
            self.pairs.entry_or_forget((src, dst), || Pair { smallest: len, ..Pair::default() });
        pair.split += u64::from(split);
        pair.small += u64::from(small);
        pair.smallest = pair.smallest.min(len);
        pair.seen.add(packet);
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let pairs = std::mem::replace(&mut self.pairs, Bounded::new(1));
        pairs
            .into_oldest_first()
            .into_iter()
            .filter(|(_, pair)| pair.split > 0 || pair.small >= SMALL_ONES)
            .map(|((src, dst), pair)| {
                Draft {
                    id: "tiny-fragments",
                    severity: "medium",
                    doubt: None,
                    title: format!("{src} sent {dst} fragments too small to come from a router."),
                    evidence: vec![
                        format!("{} split a TCP header.", counted(pair.split, "fragment")),
                        format!(
                            "{} with more to come carried fewer than {SMALLEST} bytes, the smallest \
                             {}.",
                            counted(pair.small, "fragment"),
                            pair.smallest
                        ),
                    ],
                    effect: "not observable: what a filter on the way made of them is not in view."
                        .to_owned(),
                    advice: "Let filters reassemble first (nf_defrag does) or drop first fragments \
                             without a whole transport header.",
                    actors: vec![format!("{src} (unproven: fragments prove no source)")],
                    targets: vec![dst.to_string()],
                    seen: &pair.seen,
                    references: &["RFC 1858", "RFC 3128", "RFC 791", "MITRE ATT&CK T1562.004"],
                }
                .finding(context)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, ip_with};

    #[test]
    fn split_headers_are_found_and_ordinary_fragments_are_not() {
        // (protocol, offset, more, length, how many, found)
        for (protocol, offset, more, len, n, found) in [
            (6, 0, true, 8, 1, 1),
            (6, 8, true, 400, 1, 1),
            (6, 0, true, 1480, 9, 0),
            (17, 0, true, 8, 3, 0),
            (17, 0, true, 8, 4, 1),
            (17, 1480, false, 3, 9, 0),
        ] {
            let mut scene = Scene::of(TinyFragments::default());
            for id in 0..n {
                let field = (offset / 8) | if more { 0x2000 } else { 0 };
                let frame = ip_with(
                    (A, B),
                    ("192.0.2.1", "10.0.0.2"),
                    protocol,
                    (64, id, field),
                    &vec![0; len],
                );
                scene.frame(u64::from(id), &frame);
            }
            assert_eq!(scene.ids().len(), found, "{protocol} {offset} {len} {n}");
        }
    }
}
