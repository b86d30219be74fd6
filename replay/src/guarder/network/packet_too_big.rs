//! Forged fragmentation-needed (ICMP) and packet-too-big (ICMPv6) messages: an attacker who is not on
//! the path lowers a path MTU, to slow a connection, to force fragments, or to move a TCP onto shared
//! IP identifications.
//!
//! **Sees** each such message and the packet that it quotes. Signs: the quoted flow was never seen
//! though what its sender sends is in view; the quoted TCP sequence number was never sent, or was
//! acknowledged long ago (RFC 5927 section 7); the quoted packet fits the MTU announced, or had not set
//! don't-fragment; the MTU is below 552 (Linux' `min_pmtu`) or, in IPv6, below 1280 (RFC 8201 section 4).
//!
//! **Silent on** a router's genuine message: a packet that was just sent, too long, with DF set.
//!
//! Cannot tell a forger on the path, who quotes what it has seen.

use std::collections::BTreeSet;
use std::net::IpAddr;

use psc_formats::packet::{Network, Transport};

use super::quoted::{Verdict, judge, quoted_header};
use crate::bounded::Bounded;
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Distinct, Draft, Seen, counted, listed};
use crate::view::detect::Finding;

const MIN_V4: u32 = 552;
const MIN_V6: u32 = 1280;
const PATHS: usize = 8_192;

/// Packets of the victim looked at for the effect.
const AFTER: u64 = 1_000;

/// Messages to one host about one peer.
#[derive(Debug)]
struct Path {
    seen: Seen,
    senders: Distinct<IpAddr>,
    signs: BTreeSet<&'static str>,
    verdicts: Vec<Verdict>,
    mtu: u32,
    /// Largest packet of the host to that peer before, and since.
    before: u32,
    after: u32,
    packets_after: u64,
}

#[derive(Debug)]
pub(super) struct PacketTooBig {
    paths: Bounded<(IpAddr, IpAddr), Path>,
}

impl Default for PacketTooBig {
    fn default() -> Self {
        Self { paths: Bounded::new(PATHS) }
    }
}

impl Detector for PacketTooBig {
    fn about(&self) -> About {
        About {
            id: "forged-packet-too-big",
            sees: "ICMP fragmentation-needed and ICMPv6 packet-too-big about packets that were \
                   never sent, that fit, or with an MTU that no path has; silent on a router's \
                   genuine message.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Some((src, dst)) = packet.headers.addresses() else { return };
        if let Some(path) = self.paths.get_mut(&(src, dst))
            && path.packets_after < AFTER
        {
            path.after = path.after.max(packet.ip_size());
            path.packets_after += 1;
        }
        let Transport::Icmp(icmp) = packet.headers.transport else { return };
        let mtu = match (packet.headers.network, icmp.icmp_type, icmp.code) {
            (Network::V4(_), 3, 4) => icmp.rest & 0xffff,
            (Network::V6(_), 2, _) => icmp.rest,
            _ => return,
        };
        let Some(quoted) = icmp.quoted else { return };
        let verdict = judge(packet, &quoted);
        let mut signs = Vec::new();
        match verdict {
            Verdict::NoSuchFlow => signs.push("it quotes a flow that its sender never had"),
            Verdict::NoSuchProtocol => {
                signs.push("it quotes a protocol of which its sender sent nothing in view");
            }
            Verdict::NeverSent => signs.push("it quotes a sequence number that was never sent"),
            Verdict::Stale => signs.push("it quotes data acknowledged long ago"),
            Verdict::CannotSay | Verdict::Plausible => {}
        }
        if let Some((len, df)) = quoted_header(packet, src) {
            if mtu != 0 && len <= mtu {
                signs.push("the packet that it quotes fits the MTU that it announces");
            }
            if !df {
                signs.push("the packet that it quotes allowed fragmentation");
            }
        }
        // Routers older than RFC 1191 leave the field 0.
        if (src.is_ipv4() && mtu != 0 && mtu < MIN_V4) || (src.is_ipv6() && mtu < MIN_V6) {
            signs.push("no path has an MTU that small");
        }
        if signs.is_empty() {
            return;
        }
        let host = quoted.tuple.src;
        let peer = quoted.tuple.dst;
        let before = packet.flows.sent(&quoted.tuple).map_or(0, |side| side.largest);
        let path = self.paths.entry_or_forget((host, peer), || Path {
            seen: Seen::default(),
            senders: Distinct::new(64),
            signs: BTreeSet::new(),
            verdicts: Vec::new(),
            mtu,
            before,
            after: 0,
            packets_after: 0,
        });
        path.seen.add(packet);
        path.senders.add(src);
        path.signs.extend(signs);
        path.mtu = path.mtu.min(mtu);
        if !path.verdicts.contains(&verdict) {
            path.verdicts.push(verdict);
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let paths = std::mem::replace(&mut self.paths, Bounded::new(1));
        paths
            .into_oldest_first()
            .into_iter()
            .map(|((host, peer), path)| finding(host, peer, &path, context))
            .collect()
    }
}

fn finding(host: IpAddr, peer: IpAddr, path: &Path, context: &Context<'_>) -> Finding {
    let proven = path.verdicts.iter().any(|verdict| verdict.is_forged()) || path.signs.len() >= 2;
    let mtu = path.mtu;
    let effect = if path.packets_after == 0 {
        "not observable: no packet of this host to that peer followed.".to_owned()
    } else if path.before > mtu && path.after <= mtu && path.packets_after >= 3 {
        format!(
            "confirmed: its packets to {peer} reached {} bytes before and {} after.",
            path.before, path.after
        )
    } else if path.after > mtu {
        format!("not confirmed: packets of {} bytes to {peer} followed.", path.after)
    } else {
        format!("not confirmed: none of its packets to {peer} had been larger than {mtu} bytes.")
    };
    Draft {
        id: "forged-packet-too-big",
        severity: if proven { "high" } else { "medium" },
        doubt: (!proven).then_some("medium: one sign alone can be an odd router"),
        title: format!(
            "{host} was told to send no more than {mtu} bytes to {peer}, by a message that no router \
             on the path would send."
        ),
        evidence: vec![
            format!("{} with signs of forgery.", counted(path.seen.packets, "message")),
            format!("Signs: {}.", path.signs.iter().copied().collect::<Vec<_>>().join("; ")),
        ],
        effect,
        advice: "Look at `ip route get PEER` for a lowered mtu; net.ipv4.tcp_mtu_probing=1 lets TCP \
                 find the MTU itself, then ICMP type 3 code 4 from strangers can be limited.",
        actors: vec![format!(
            "{} (unproven: the source of ICMP can be forged)",
            listed(path.senders.iter().map(ToString::to_string), 5)
        )],
        targets: vec![host.to_string()],
        seen: &path.seen,
        references: &["RFC 5927 section 7", "RFC 1191", "RFC 8201", "CVE-2004-1060"],
    }
    .finding(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, icmp, ip, ip_with, tcp, v4};
    use crate::sample;

    const HOST: &str = "10.0.0.2";
    const PEER: &str = "192.0.2.9";

    fn told(mtu: u32, quote: &[u8]) -> Vec<u8> {
        ip((B, A), "192.0.2.1", HOST, 1, &icmp(3, 4, mtu, quote))
    }

    /// The host's packet as a router would quote it.
    fn sent(seq: u32, len: usize, fragment: u16) -> Vec<u8> {
        let segment = tcp((80, 40_000), 0x10, seq, 1, &[], &vec![0; len]);
        v4(sample::v4(HOST), sample::v4(PEER), 6, (64, 1, fragment), &segment)
    }

    #[test]
    fn forged_messages_and_the_genuine_one() {
        let cases = [
            ("genuine", told(1400, &sent(1000, 1460, 0x4000)), None),
            ("never sent", told(1400, &sent(9_000_000, 1460, 0x4000)), Some("high")),
            ("it fits", told(1400, &sent(1000, 100, 0x4000)), Some("medium")),
            ("no DF", told(1400, &sent(1000, 1460, 0)), Some("medium")),
            ("absurd", told(68, &sent(1000, 1460, 0x4000)), Some("medium")),
            ("absurd and fits", told(296, &sent(1000, 100, 0x4000)), Some("high")),
            ("before RFC 1191", told(0, &sent(1000, 1460, 0x4000)), None),
        ];
        for (name, message, severity) in cases {
            let mut scene = Scene::of(PacketTooBig::default());
            for i in 0..4 {
                let data = tcp((80, 40_000), 0x10, 1000 + 1460 * i, 1, &[], &[0; 1460]);
                scene.frame(u64::from(i), &ip((A, B), HOST, PEER, 6, &data));
                let ack = tcp((40_000, 80), 0x10, 1, 1000 + 1460 * i, &[], &[]);
                scene.frame(u64::from(i), &ip((B, A), PEER, HOST, 6, &ack));
            }
            scene.frame(1500, &message);
            for i in 0..4 {
                let data = tcp((80, 40_000), 0x10, 6840 + 20 * i, 1, &[], &[0; 20]);
                scene.frame(1600 + u64::from(i), &ip((A, B), HOST, PEER, 6, &data));
            }
            let found = scene.findings();
            assert_eq!(found.first().map(|f| f.severity.as_str()), severity, "{name}: {found:?}");
            if name == "never sent" {
                assert!(
                    found[0].effect.starts_with("confirmed: its packets"),
                    "{}",
                    found[0].effect
                );
            }
        }
    }

    #[test]
    fn about_a_flow_that_never_was() {
        let mut scene = Scene::of(PacketTooBig::default());
        for i in 0..20 {
            let ack = tcp((80, 50_000), 0x10, 5, 1, &[], &[]);
            scene.frame(i * 100, &ip_with((A, B), (HOST, "192.0.2.77"), 6, (64, 0, 0x4000), &ack));
        }
        scene.frame(2000, &told(1300, &sent(1, 1460, 0x4000)));
        assert_eq!(scene.findings()[0].confidence, "high");
    }
}
