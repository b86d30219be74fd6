//! Fragment attacks: overlaps (teardrop, evasion), datagrams longer than IP allows (ping of death), and
//! floods of fragments that never make a whole.
//!
//! **Sees** IPv4 and IPv6 fragments and joins them by addresses, protocol and identification.
//! - **Overlap**: two fragments of one datagram cover the same bytes and are not the same fragment. RFC
//!   5722 forbids it in IPv6; in IPv4 no sender does it.
//! - **Oversized**: an end past 65,535 bytes.
//! - **Flood**: 256 datagrams begun within ten seconds at one host, of which at most a fifth became
//!   whole: Linux keeps 4 MiB of fragments (`ipfrag_high_thresh`), which that many 64 KiB datagrams fill.
//!
//! **Silent on** repeated fragments (the same bytes again), reordering, identifications used again after
//! the 30 seconds that Linux keeps fragments (`ipfrag_time`), and fragmented bulk that arrives whole.

use std::net::IpAddr;

use psc_formats::event::DeviceId;
use psc_formats::packet::Network;

use crate::bounded::Bounded;
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::effect;
use crate::guarder::evidence::{Distinct, Draft, Seen, counted, listed};
use crate::guarder::watch::{Tally, Watch};
use crate::view::detect::Finding;

const KEEP_NS: u64 = 30_000_000_000;
const DATAGRAMS: usize = 8_192;
/// A 64 KiB datagram in fragments of the smallest legal MTU has more; their overlap is not looked for.
const PIECES: usize = 64;
const FLOOD_NS: u64 = 10_000_000_000;
const BEGUN: u64 = 256;
const HOSTS: usize = 1_024;
const PAIRS: usize = 4_096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    device: DeviceId,
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    id: u32,
}

/// One fragment: bytes `[start, end)` of the datagram, and a digest of those stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) more: bool,
    digest: u64,
}

#[derive(Debug)]
struct Datagram {
    first: u64,
    pieces: Vec<Fragment>,
}

impl Datagram {
    fn is_whole(&self) -> bool {
        let Some(end) = self.pieces.iter().find(|piece| !piece.more).map(|piece| piece.end) else {
            return false;
        };
        let mut reached = 0;
        let mut sorted: Vec<_> = self.pieces.iter().map(|piece| (piece.start, piece.end)).collect();
        sorted.sort_unstable();
        for (start, piece_end) in sorted {
            if start > reached {
                return false;
            }
            reached = reached.max(piece_end);
        }
        reached >= end
    }
}

#[derive(Debug)]
struct Flood {
    begun: u64,
    whole: u64,
    sources: Distinct<IpAddr>,
}

impl Tally for Flood {
    fn new() -> Self {
        Self { begun: 0, whole: 0, sources: Distinct::new(1024) }
    }
    fn is_attack(&self) -> bool {
        self.begun >= BEGUN && self.whole * 5 <= self.begun
    }
    fn merge(&mut self, later: Self) {
        self.begun += later.begun;
        self.whole += later.whole;
        self.sources.merge(later.sources);
    }
}

#[derive(Debug, Default)]
struct Overlaps {
    seen: Seen,
    examples: Vec<String>,
    oversized: Seen,
    longest: u32,
}

#[derive(Debug)]
pub(super) struct Fragments {
    datagrams: Bounded<Key, Datagram>,
    pairs: Bounded<(IpAddr, IpAddr), Overlaps>,
    floods: Watch<IpAddr, Flood>,
}

impl Default for Fragments {
    fn default() -> Self {
        Self {
            datagrams: Bounded::new(DATAGRAMS),
            pairs: Bounded::new(PAIRS),
            floods: Watch::new(HOSTS, FLOOD_NS),
        }
    }
}

/// The fragment that this packet is, and the identification; `None` for a whole datagram.
pub(super) fn fragment(packet: &Packet<'_>) -> Option<(Fragment, u32)> {
    let headers = packet.headers;
    let (start, more, id, len, at) = match headers.network {
        Network::V4(ip) if ip.more_fragments || ip.fragment_offset != 0 => {
            let len = u32::from(ip.total_len).checked_sub(u32::from(ip.header_len))?;
            let at = headers.network_offset + u16::from(ip.header_len);
            (ip.fragment_offset, ip.more_fragments, u32::from(ip.id), len, at)
        }
        Network::V6(ip) => {
            let (id, offset, more) = ip.fragment?;
            if !more && offset == 0 {
                return None; // an atomic fragment (RFC 6946)
            }
            let at = if headers.transport_offset != 0 {
                headers.transport_offset
            } else {
                headers.payload_offset
            };
            let end = u32::from(headers.network_offset) + 40 + u32::from(ip.payload_len);
            (offset, more, id, end.checked_sub(u32::from(at))?, at)
        }
        Network::V4(_) | Network::Arp(_) | Network::None => return None,
    };
    let start = u32::from(start);
    let stored = packet.bytes.get(usize::from(at)..).unwrap_or(&[]);
    let stored = &stored[..stored.len().min(len as usize)];
    // FNV-1a: only to tell the same bytes again from others, against nobody's will.
    let digest = stored.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Some((Fragment { start, end: start + len, more, digest }, id))
}

impl Detector for Fragments {
    fn about(&self) -> About {
        About {
            id: "fragment-attack",
            sees: "fragments that overlap, reach past 65,535 bytes, or never make a whole by the \
                   hundred; silent on repeated and reordered fragments and on bulk that arrives whole.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Some((piece, id)) = fragment(packet).filter(|_| !packet.damaged) else { return };
        let (Some((src, dst)), Some(protocol)) =
            (packet.headers.addresses(), packet.headers.protocol())
        else {
            return;
        };
        if piece.end + 20 > 65_535 + u32::from(src.is_ipv6()) * 20 {
            let pair = self.pairs.entry_or_forget((src, dst), Overlaps::default);
            pair.oversized.add(packet);
            pair.longest = pair.longest.max(piece.end);
        }
        let key = Key { device: packet.device, src, dst, protocol, id };
        let mut begun = false;
        let datagram = self.datagrams.entry_or_forget(key, || {
            begun = true;
            Datagram { first: packet.at, pieces: Vec::new() }
        });
        if packet.at.saturating_sub(datagram.first) > KEEP_NS {
            *datagram = Datagram { first: packet.at, pieces: Vec::new() };
            begun = true;
        }
        let again = datagram.pieces.contains(&piece);
        let over = datagram
            .pieces
            .iter()
            .find(|other| other.start < piece.end && piece.start < other.end && **other != piece)
            .copied();
        if !again && datagram.pieces.len() < PIECES {
            datagram.pieces.push(piece);
        }
        let whole = over.is_none() && datagram.is_whole();
        if whole {
            self.datagrams.remove(&key);
        }
        self.floods.of(dst, packet.at).add(packet, |flood| {
            flood.begun += u64::from(begun);
            flood.whole += u64::from(whole);
            flood.sources.add(src);
        });
        if let Some(other) = over {
            let pair = self.pairs.entry_or_forget((src, dst), Overlaps::default);
            pair.seen.add(packet);
            if pair.examples.len() < 3 {
                pair.examples.push(format!(
                    "identification {id}: bytes {}..{} and {}..{}",
                    other.start, other.end, piece.start, piece.end
                ));
            }
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let mut findings = Vec::new();
        let pairs = std::mem::replace(&mut self.pairs, Bounded::new(1));
        for ((src, dst), pair) in pairs.into_oldest_first() {
            if pair.seen.packets > 0 {
                findings.push(overlap(src, dst, &pair, context));
            }
            if pair.oversized.packets > 0 {
                findings.push(oversized(src, dst, &pair, context));
            }
        }
        for (host, watched) in self.floods.finish() {
            let flood = &watched.attack;
            findings.push(
                Draft {
                    id: "fragment-flood",
                    severity: "high",
                    doubt: None,
                    title: format!(
                        "{} datagrams were begun at {host} and {} became whole.",
                        flood.begun, flood.whole
                    ),
                    evidence: vec![
                        format!("{} fragments in the worst ten seconds.", watched.peak),
                        format!("They came from {} source addresses.", flood.sources.count()),
                    ],
                    effect: effect::counters(host, &REASSEMBLY, context),
                    advice: "Lower net.ipv4.ipfrag_time and ipfrag_high_thresh (Linux 4.17 and later \
                             bound the work); drop fragments at the border where nothing needs them.",
                    actors: sources(&flood.sources),
                    targets: vec![host.to_string()],
                    seen: &watched.evidence,
                    references: &["CVE-2018-5391", "RFC 4963", "RFC 8900", "MITRE ATT&CK T1498.001"],
                }
                .finding(context),
            );
        }
        findings
    }
}

const REASSEMBLY: [(&str, &str); 4] = [
    ("IpReasmFails", "reassemblies failed"),
    ("Ip6ReasmFails", "IPv6 reassemblies failed"),
    ("IpReasmTimeout", "reassemblies timed out"),
    ("IpExtReasmOverlaps", "overlaps refused"),
];

fn sources(sources: &Distinct<IpAddr>) -> Vec<String> {
    vec![format!(
        "{} (unproven: fragments carry no proof of their source)",
        listed(sources.iter().map(ToString::to_string), 5)
    )]
}

fn overlap(src: IpAddr, dst: IpAddr, pair: &Overlaps, context: &Context<'_>) -> Finding {
    Draft {
        id: "fragment-overlap",
        severity: "high",
        doubt: None,
        title: format!("{src} sent {dst} fragments that cover the same bytes differently."),
        evidence: vec![
            counted(pair.seen.packets, "overlapping fragment") + ".",
            format!("For example {}.", pair.examples.join("; ")),
        ],
        effect: effect::counters(dst, &REASSEMBLY, context),
        advice: "Drop them: Linux does, in IPv6 by RFC 5722 and in IPv4 since 4.20; what looks into \
                 packets on the way must reassemble as the host does.",
        actors: vec![format!("{src} (unproven: fragments carry no proof of their source)")],
        targets: vec![dst.to_string()],
        seen: &pair.seen,
        references: &["RFC 1858", "RFC 5722", "CVE-1999-0015", "CVE-2018-5391"],
    }
    .finding(context)
}

fn oversized(src: IpAddr, dst: IpAddr, pair: &Overlaps, context: &Context<'_>) -> Finding {
    Draft {
        id: "oversized-datagram",
        severity: "high",
        doubt: None,
        title: format!("{src} sent {dst} a fragment that ends at byte {}.", pair.longest),
        evidence: vec![
            "An IP datagram has at most 65,535 bytes, so no host sends this; ping of death does."
                .to_owned(),
        ],
        effect: effect::counters(dst, &REASSEMBLY, context),
        advice: "Nothing to do on a system of this century; drop it at the border for those behind.",
        actors: vec![format!("{src} (unproven: fragments carry no proof of their source)")],
        targets: vec![dst.to_string()],
        seen: &pair.oversized,
        references: &["CVE-1999-0128", "RFC 791", "CAPEC-153"],
    }
    .finding(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, ip_with};

    const MORE: u16 = 0x2000;

    fn piece(id: u16, offset: u16, more: bool, bytes: &[u8]) -> Vec<u8> {
        let field = (offset / 8) | if more { MORE } else { 0 };
        ip_with((A, B), ("192.0.2.1", "10.0.0.2"), 17, (64, id, field), bytes)
    }

    #[test]
    fn overlaps_and_oversized_are_found_and_repeats_are_not() {
        type Case = (&'static str, Vec<Vec<u8>>, &'static [&'static str]);
        let cases: Vec<Case> = vec![
            (
                "teardrop",
                vec![piece(1, 0, true, &[0; 40]), piece(1, 24, false, &[1; 8])],
                &["fragment-overlap"],
            ),
            (
                "the same place, other bytes",
                vec![piece(1, 8, true, &[0; 40]), piece(1, 8, true, &[1; 40])],
                &["fragment-overlap"],
            ),
            (
                "repeated and reordered",
                vec![
                    piece(1, 40, false, &[1; 8]),
                    piece(1, 40, false, &[1; 8]),
                    piece(1, 0, true, &[0; 40]),
                    piece(1, 0, true, &[0; 40]),
                ],
                &[],
            ),
            (
                "the next datagram with that identification",
                vec![
                    piece(1, 0, true, &[0; 40]),
                    piece(1, 40, false, &[1; 8]),
                    piece(1, 0, true, &[0; 32]),
                    piece(1, 32, false, &[1; 8]),
                ],
                &[],
            ),
            ("ping of death", vec![piece(1, 65_528, false, &[0; 100])], &["oversized-datagram"]),
        ];
        for (name, frames, expected) in cases {
            let mut scene = Scene::of(Fragments::default());
            for (n, frame) in frames.iter().enumerate() {
                scene.frame(n as u64, frame);
            }
            assert_eq!(scene.ids(), expected, "{name}");
        }
    }

    #[test]
    fn datagrams_that_never_become_whole_are_a_flood() {
        for (n, whole, found) in [(256, false, 1), (255, false, 0), (1000, true, 0)] {
            let mut scene = Scene::of(Fragments::default());
            for id in 0..n {
                scene.frame(u64::from(id), &piece(id, 0, true, &[0; 64]));
                if whole {
                    scene.frame(u64::from(id), &piece(id, 64, false, &[0; 9]));
                }
            }
            assert_eq!(scene.ids().len(), found, "{n}");
        }
    }
}
