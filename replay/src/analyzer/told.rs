//! What the connection table is told of a packet.

use psc_formats::event::SockId;
use psc_formats::packet::{Headers, Network, Tcp};
use psc_formats::{Context, Event, EventKind, FiveTuple};

use crate::engine::JourneyId;
use crate::first_sight::ip_bytes;

/// Identification and offset of a fragment.
pub(super) type Fragment = (u32, u16);

/// One packet: what its flow and its connection need to know of it, and no more, so that it can be
/// handed to another thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) at: u64,
    /// Directed; ports 0 in later fragments.
    pub(super) tuple: FiveTuple,
    pub(super) fragment: Option<Fragment>,
    pub(super) tcp: Option<Tcp>,
    /// Payload bytes.
    pub(super) payload: u32,
    /// IP bytes.
    pub(super) bytes: u64,
    /// Wire segments.
    pub(super) wire: u32,
    /// IPv4 identification; `None` where it says nothing (IPv6, zero).
    pub(super) ip_id: Option<u16>,
    /// Number of the packet in its file, from 1 as Wireshark numbers frames, or 0.
    pub(super) packet: u64,
    pub(super) journey: u64,
    /// Socket of the sender, where it was seen leaving.
    pub(super) sock: SockId,
    /// Thread that sent it; 0 unknown.
    pub(super) task: u32,
}

/// Identification and offset when this is a fragment.
pub(super) fn fragment(headers: &Headers) -> Option<Fragment> {
    let (id, offset, more) = match headers.network {
        Network::V4(ip) => (u32::from(ip.id), ip.fragment_offset, ip.more_fragments),
        Network::V6(ip) => ip.fragment?,
        Network::Arp(_) | Network::None => return None,
    };
    (offset > 0 || more).then_some((id, offset))
}

impl Told {
    /// `None` for what has no addresses.
    pub(super) fn of(event: &Event, headers: &Headers, journey: Option<JourneyId>) -> Option<Self> {
        let leaves = matches!(event.kind, EventKind::DeviceQueue {} | EventKind::TransmitStart {});
        Some(Self {
            at: event.at.0,
            tuple: headers.tuple()?,
            fragment: fragment(headers),
            tcp: headers.tcp().copied(),
            payload: headers.payload_len,
            bytes: ip_bytes(headers, event.len),
            wire: event.gso.segments(),
            ip_id: match headers.network {
                Network::V4(ip) if ip.id != 0 => Some(ip.id),
                _ => None,
            },
            packet: match event.kind {
                EventKind::Captured { .. } => event.seq + 1,
                _ => 0,
            },
            journey: journey.map_or(0, |id| id.0),
            sock: if leaves { event.sock } else { SockId(0) },
            task: match event.context {
                Context::Task(tid) if leaves => tid,
                _ => 0,
            },
        })
    }
}
