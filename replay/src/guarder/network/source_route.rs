//! Source routing: packets that say themselves which way they go, and which way answers come back.
//!
//! **Sees** IPv4 packets with a loose or strict source route (RFC 791; RFC 7126 section 4.3: drop them) and
//! IPv6 packets with a routing header of type 0 (deprecated by RFC 5095).
//!
//! **Silent on** record route, timestamps and router alert, and on routing headers of other types (mobile
//! IPv6, segment routing).

use std::net::IpAddr;

use psc_formats::packet::Network;

use crate::bounded::Bounded;
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Draft, Seen, counted};
use crate::view::detect::Finding;

const PAIRS: usize = 4_096;

#[derive(Debug)]
pub(super) struct SourceRoute {
    pairs: Bounded<(IpAddr, IpAddr, &'static str), Seen>,
}

impl Default for SourceRoute {
    fn default() -> Self {
        Self { pairs: Bounded::new(PAIRS) }
    }
}

/// Which source route an IPv4 header has.
fn option(mut options: &[u8]) -> Option<&'static str> {
    loop {
        match *options {
            [0, ..] | [] => return None,
            [1, ref rest @ ..] => options = rest,
            [131, len, _, ..] if len >= 7 => return Some("loose source route"),
            [137, len, _, ..] if len >= 7 => return Some("strict source route"),
            [_, len, ..] if len >= 2 => options = options.get(usize::from(len)..)?,
            _ => return None,
        }
    }
}

fn kind(packet: &Packet<'_>) -> Option<&'static str> {
    let header = packet.bytes.get(usize::from(packet.headers.network_offset)..)?;
    match packet.headers.network {
        Network::V4(ip) if ip.header_len > 20 => {
            option(header.get(20..usize::from(ip.header_len))?)
        }
        // Routing header right behind the fixed one, type 0, with addresses left to visit.
        Network::V6(_) => {
            let routed =
                header.get(6) == Some(&43) && header.get(42) == Some(&0) && *header.get(43)? > 0;
            routed.then_some("routing header of type 0")
        }
        Network::V4(_) | Network::Arp(_) | Network::None => None,
    }
}

impl Detector for SourceRoute {
    fn about(&self) -> About {
        About {
            id: "source-route",
            sees: "packets that say themselves which way they go (IPv4 source routes, IPv6 routing header \
                   type 0); silent on record route, router alert, mobile IPv6 and segment routing.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Some(kind) = kind(packet).filter(|_| !packet.damaged) else { return };
        let Some((src, dst)) = packet.headers.addresses() else { return };
        self.pairs.entry_or_forget((src, dst, kind), Seen::default).add(packet);
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let pairs = std::mem::replace(&mut self.pairs, Bounded::new(1)).into_oldest_first();
        pairs
            .into_iter()
            .map(|((src, dst, kind), seen)| {
                Draft {
                    id: "source-route",
                    severity: "low",
                    doubt: None,
                    title: format!("{src} sent {dst} {} with a {kind}.", counted(seen.packets, "packet")),
                    evidence: vec![
                        "Nobody uses them today but to come around filters or to get answers to a forged \
                         address."
                            .to_owned(),
                    ],
                    effect: "not observable: which way they went is not in view.".to_owned(),
                    advice: "Drop them at the border (RFC 7126 section 4.3); \
                             net.ipv4.conf.all.accept_source_route=0.",
                    actors: vec![format!("{src} (unproven: the source can be forged)")],
                    targets: vec![dst.to_string()],
                    seen: &seen,
                    references: &["RFC 791", "RFC 5095", "RFC 7126 section 4.3", "CVE-1999-0510"],
                }
                .finding(context)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_routes_are_told_from_other_options() {
        let route = [1, 131, 7, 4, 192, 0, 2, 1];
        assert_eq!(option(&route), Some("loose source route"));
        assert_eq!(
            option(&[148, 4, 0, 0, 137, 7, 4, 192, 0, 2, 1, 0]),
            Some("strict source route")
        );
        for harmless in [
            &[7, 7, 4, 0, 0, 0, 0, 0][..],
            &[148, 4, 0, 0],
            &[0, 131, 7, 4],
            &[131, 3, 4, 0],
            &[9, 0],
        ] {
            assert_eq!(option(harmless), None, "{harmless:?}");
        }
    }
}
