//! WinNuke (CVE-1999-0153): urgent data to the NetBIOS session service, which has none.
//!
//! **Sees** segments with data and the urgent flag to port 139. **Silent on** urgent data elsewhere (telnet
//! and FTP use it to interrupt).

use std::net::SocketAddr;

use crate::bounded::Bounded;
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Draft, Seen, counted};
use crate::view::detect::Finding;

const URGENT_ACK: u16 = 0x30;
const URGENT_PUSH_ACK: u16 = 0x38;
const NETBIOS: u16 = 139;
const PAIRS: usize = 4_096;

#[derive(Debug)]
pub(super) struct WinNuke {
    pairs: Bounded<(std::net::IpAddr, SocketAddr), Seen>,
}

impl Default for WinNuke {
    fn default() -> Self {
        Self { pairs: Bounded::new(PAIRS) }
    }
}

impl Detector for WinNuke {
    fn about(&self) -> About {
        About {
            id: "winnuke",
            sees: "urgent data to the NetBIOS session service, which has none; silent on urgent data \
                   elsewhere.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let (Some(tcp), Some(tuple)) = (packet.headers.tcp(), packet.headers.tuple()) else {
            return;
        };
        // Random flags without data are a flood or a scan.
        let urgent = matches!(tcp.flags & 0x3f, URGENT_ACK | URGENT_PUSH_ACK);
        if urgent && tcp.dport == NETBIOS && packet.headers.payload_len > 0 {
            let key = (tuple.src, SocketAddr::new(tuple.dst, tuple.dport));
            self.pairs.entry_or_forget(key, Seen::default).add(packet);
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let pairs = std::mem::replace(&mut self.pairs, Bounded::new(1)).into_oldest_first();
        pairs
            .into_iter()
            .map(|((src, server), seen)| {
                Draft {
                    id: "winnuke",
                    severity: "medium",
                    doubt: None,
                    title: format!("{src} sent urgent data to {server}."),
                    evidence: vec![format!(
                        "{} with the urgent flag; NetBIOS sessions have no urgent data.",
                        counted(seen.packets, "segment")
                    )],
                    effect: "not observable: whether the host went down shows in what it sends later.".to_owned(),
                    advice: "Keep port 139 closed at the border; only systems of the nineties fall to it.",
                    actors: vec![src.to_string()],
                    targets: vec![server.to_string()],
                    seen: &seen,
                    references: &["CVE-1999-0153", "RFC 1002 section 4.3", "RFC 6093"],
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
    fn urgent_data_to_netbios_and_elsewhere() {
        for (port, flags, data, found) in [
            (139, 0x38, &b"Bye"[..], 1),
            (23, 0x38, b"Bye", 0),
            (139, 0x18, b"Bye", 0),
            (139, 0x30, b"", 0),
        ] {
            let mut scene = Scene::of(WinNuke::default());
            let segment = tcp((4000, port), flags, 1, 1, &[], data);
            scene.frame(0, &ip((A, B), "192.0.2.1", "10.0.0.2", 6, &segment));
            assert_eq!(scene.ids().len(), found, "{port} {flags:#x}");
        }
    }
}
