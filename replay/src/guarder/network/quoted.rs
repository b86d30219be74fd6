//! Whether the packet that an ICMP error quotes was ever sent: the test that RFC 5927 section 4.1 asks
//! of a TCP and that the kernel makes with its sockets, made with the packets in view.

use std::net::IpAddr;

use psc_formats::packet::Quoted;

use crate::guarder::conversation::ahead;
use crate::guarder::detect::Packet;

/// Errors come back within a round trip; what a host sent before it came into view is not known.
const IN_VIEW_NS: u64 = 1_000_000_000;

/// A quoted sequence number this far behind what was acknowledged was not in flight: the largest
/// window without scaling.
const STALE: i32 = 65_535;

/// What can be said of a quoted packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its sender is not in view, or was not for long enough.
    CannotSay,
    /// Such a packet was sent.
    Plausible,
    /// Its sender sends this protocol in view, but never to that peer and port.
    NoSuchFlow,
    /// Its sender is in view, but nothing it sends of this protocol.
    NoSuchProtocol,
    /// The flow is there, and this sequence number was never sent on it.
    NeverSent,
    /// Acknowledged long ago.
    Stale,
}

impl Verdict {
    pub(super) fn is_forged(self) -> bool {
        matches!(self, Self::NoSuchFlow | Self::NeverSent | Self::Stale)
    }
}

pub(super) fn judge(packet: &Packet<'_>, quoted: &Quoted) -> Verdict {
    let tuple = quoted.tuple;
    let cut = tuple.sport == 0 && tuple.dport == 0 && matches!(tuple.protocol, 6 | 17 | 132);
    if cut || !packet.flows.complete() {
        return Verdict::CannotSay;
    }
    let flows = packet.flows;
    let Some(found) = flows.get(&tuple).filter(|found| found.sides(&tuple).0.packets > 0) else {
        return if flows.in_view(tuple.src, tuple.protocol, packet.at, IN_VIEW_NS) {
            Verdict::NoSuchFlow
        } else if flows.sends(tuple.src) && flows.age(packet.at) >= IN_VIEW_NS {
            Verdict::NoSuchProtocol
        } else {
            Verdict::CannotSay
        };
    };
    let (side, peer) = found.sides(&tuple);
    let (Some(seq), Some(next)) = (quoted.tcp_seq, side.next) else { return Verdict::Plausible };
    if ahead(seq, next) > 0 {
        return Verdict::NeverSent;
    }
    // A resent SYN or first segment may be quoted late; only what is far behind is stale.
    let window = STALE.max(peer.window.min(1 << 30) as i32);
    match peer.ack {
        Some(acked) if ahead(acked, seq) > window => Verdict::Stale,
        _ => Verdict::Plausible,
    }
}

/// Length that the quoted IP header claims, and whether its don't-fragment bit is set (always so in
/// IPv6).
pub(super) fn quoted_header(packet: &Packet<'_>, host: IpAddr) -> Option<(u32, bool)> {
    let quote = packet.payload();
    let field = |at: usize| u16::from_be_bytes([quote[at], quote[at + 1]]);
    if host.is_ipv4() {
        (quote.len() >= 20).then(|| (u32::from(field(2)), field(6) & 0x4000 != 0))
    } else {
        (quote.len() >= 40).then(|| (u32::from(field(4)) + 40, true))
    }
}
