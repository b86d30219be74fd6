//! A system asked for by segments that no TCP sends (`nmap -O`): its answers to them tell which one it is.
//!
//! **Sees** two or more kinds of these from one source to one host within a minute: a segment without flags but with
//! options, SYN with FIN, PSH and URG, FIN with PSH and URG and options, and a SYN whose time stamp is all ones (the
//! probes of nmap's reference guide, chapter 8).
//!
//! **Silent on** floods (more than 64 such segments), scans with such flags (which carry no options), and real
//! connections.

use std::net::IpAddr;

use crate::analyzer::tcp::{ACK, FIN, RST, SYN};
use crate::bounded::Bounded;
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Draft, Seen, counted};
use crate::view::detect::Finding;

const WINDOW_NS: u64 = 60_000_000_000;
const KINDS: u32 = 2;
const MOST: u64 = 64;
const PAIRS: usize = 2_048;
const PSH_URG: u16 = 0x08 | 0x20;

#[derive(Debug, Default)]
struct Probes {
    start: u64,
    kinds: u8,
    seen: Seen,
}

#[derive(Debug)]
pub(super) struct OsProbe {
    pairs: Bounded<(IpAddr, IpAddr), Probes>,
}

impl Default for OsProbe {
    fn default() -> Self {
        Self { pairs: Bounded::new(PAIRS) }
    }
}

/// Which of the four, as a bit.
fn kind(flags: u16, options: &[u8]) -> Option<u8> {
    match flags & (SYN | ACK | FIN | RST | PSH_URG) {
        _ if options.is_empty() => None,
        0 => Some(1),
        odd if odd == SYN | FIN | PSH_URG => Some(2),
        odd if odd == FIN | PSH_URG => Some(4),
        SYN => {
            // Kind 8, ten bytes, the sender's clock.
            let stamp = [8, 10, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
            options.windows(stamp.len()).any(|part| part == stamp).then_some(8)
        }
        _ => None,
    }
}

impl Detector for OsProbe {
    fn about(&self) -> About {
        About {
            id: "os-probing",
            sees: "two or more kinds of segments that no TCP sends, with options, from one source to one host \
                   within a minute; silent on floods, scans and connections.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let (Some(tcp), Some((src, dst))) = (packet.headers.tcp(), packet.headers.addresses())
        else {
            return;
        };
        let header = usize::from(packet.headers.transport_offset) + 20;
        let options = packet.bytes.get(header..usize::from(packet.headers.payload_offset));
        let Some(kind) = kind(tcp.flags, options.unwrap_or(&[])) else { return };
        let probes = self.pairs.entry_or_forget((src, dst), Probes::default);
        let found = probes.kinds.count_ones() >= KINDS;
        if !found && packet.at.saturating_sub(probes.start) > WINDOW_NS {
            *probes = Probes { start: packet.at, ..Probes::default() };
        }
        probes.kinds |= kind;
        probes.seen.add(packet);
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let pairs = std::mem::replace(&mut self.pairs, Bounded::new(1)).into_oldest_first();
        pairs
            .into_iter()
            .filter(|(_, probes)| probes.kinds.count_ones() >= KINDS && probes.seen.packets <= MOST)
            .map(|((source, host), probes)| {
                Draft {
                    id: "os-probing",
                    severity: "low",
                    doubt: None,
                    title: format!(
                        "{source} asked {host} for its system by segments that no TCP sends."
                    ),
                    evidence: vec![format!(
                        "{} of {} kinds.",
                        counted(probes.seen.packets, "segment"),
                        probes.kinds.count_ones()
                    )],
                    effect: "not observable: what the answers told is with the one who asked."
                        .to_owned(),
                    advice: "Drop segments with such flags at the border.",
                    actors: vec![format!(
                        "{source} (unproven: the source of single packets can be forged)"
                    )],
                    targets: vec![host.to_string()],
                    seen: &probes.seen,
                    references: &[
                        "MITRE ATT&CK T1082",
                        "nmap reference guide, TCP/IP fingerprinting methods",
                    ],
                }
                .finding(context)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, ip, tcp};

    #[test]
    fn odd_segments_of_two_kinds_ask_for_the_system() {
        let plain: &[u8] = &[2, 4, 1, 9, 1, 1, 4, 2];
        let ones: &[u8] = &[1, 1, 8, 10, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        for (name, sent, found) in [
            ("nmap", vec![(0_u8, plain), (0x2b, plain)], 1),
            ("its first probes and one more", vec![(2, ones), (0x29, plain)], 1),
            ("one kind", vec![(0x29, plain); 10], 0),
            ("scans", vec![(0, &[][..]), (0x29, &[])], 0),
            ("connections", vec![(2, plain), (0x10, ones)], 0),
            ("a flood", [(0, plain), (0x2b, plain)].repeat(40), 0),
        ] {
            let mut scene = Scene::of(OsProbe::default());
            for (n, (flags, options)) in sent.iter().enumerate() {
                let segment = tcp((4_000, 22), *flags, 1, 0, options, &[]);
                scene.frame(n as u64, &ip((A, B), "192.0.2.1", "10.0.0.2", 6, &segment));
            }
            assert_eq!(scene.ids().len(), found, "{name}");
        }
    }
}
