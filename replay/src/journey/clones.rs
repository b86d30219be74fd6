//! What tells a clone from a packet that was dropped before any probe saw it born.

use std::hash::{Hash, Hasher};

use psc_formats::event::{DeviceId, SymbolId};
use psc_formats::packet::Headers;
use psc_formats::{Event, EventKind, Tables};
use rustc_hash::FxHasher;

/// Payload bytes that make a packet's identity, beside its addresses and fingerprint.
const PAYLOAD: usize = 64;

/// Functions that free clones, never a packet of their own: packet sockets, raw sockets and their
/// readers, and the neighbour code that keeps the packet queued while it looks at a clone. What they
/// free is one listener's.
const CLONES_ONLY: [&str; 19] = [
    "__neigh_event_send",
    "dev_queue_xmit_nit",
    "neigh_probe",
    "neigh_timer_handler",
    "packet_rcv",
    "packet_rcv_spkt",
    "packet_rcv_fanout",
    "packet_recvmsg",
    "tpacket_rcv",
    "raw_rcv",
    "raw_rcv_skb",
    "raw_v4_input",
    "raw_local_deliver",
    "raw_recvmsg",
    "rawv6_rcv",
    "rawv6_rcv_skb",
    "rawv6_recvmsg",
    "raw6_local_deliver",
    "ipv6_raw_deliver",
];

/// Frames of a stack, innermost first, among which the function that frees is.
const FREEING_FRAMES: usize = 4;

/// Functions through which the reader of a packet socket takes its copy: it only watches, so its
/// reading delivers nothing.
const WATCHERS: [&str; 2] = ["packet_recvmsg", "tpacket_rcv"];

/// Device kinds whose receive side gets an skb that another device received before: tunnels.
const TUNNELS: [&str; 14] = [
    "ipip",
    "sit",
    "gre",
    "gretap",
    "erspan",
    "ip6gre",
    "ip6gretap",
    "ip6erspan",
    "ip6tnl",
    "vti",
    "vti6",
    "vxlan",
    "geneve",
    "xfrm",
];

/// Device kinds that are made of other devices and receive their packets.
const UPPER: [&str; 8] = ["bridge", "bond", "team", "vlan", "macvlan", "macvtap", "ipvlan", "vrf"];

/// Whether a packet with these headers, once received, can go on in the same skb as another one:
/// IPIP, IPv6 in IP, GRE, ESP and AH by unwrapping, a fragment by reassembly.
pub(super) fn may_be_unwrapped(headers: &Headers) -> bool {
    headers.is_fragment() || matches!(headers.protocol(), Some(4 | 41 | 47 | 50 | 51))
}

/// What a clone has in common with its original: fingerprint, flow and the start of the payload.
/// 0 when the fingerprint was not read. The fingerprint alone will not do, since all of a host's UDP
/// over IPv6 has the same.
pub(super) fn identity(content: u32, headers: Option<&Headers>, bytes: &[u8]) -> u64 {
    if content == 0 {
        return 0;
    }
    let mut hasher = FxHasher::default();
    content.hash(&mut hasher);
    if let Some(headers) = headers {
        headers.tuple().hash(&mut hasher);
        headers.payload_len.hash(&mut hasher);
        let payload = bytes.get(headers.payload_offset as usize..).unwrap_or(&[]);
        payload[..payload.len().min(PAYLOAD)].hash(&mut hasher);
    }
    hasher.finish().max(1)
}

/// Whether an skb without a birth, of which `event` shows the bytes, can be a clone of a packet that
/// looks the same.
pub(super) fn can_be_clone(event: &Event, tables: &Tables) -> bool {
    match event.kind {
        // A packet made here and discarded before it was queued looks like this, too; only the place
        // of its free tells.
        EventKind::Free { .. } | EventKind::Consume { .. } => {
            event.iif != 0 || only_clones(event, tables)
        }
        // Only receivers copy to user, and a forwarded packet without a birth is a flooded clone.
        _ => true,
    }
}

/// A function's name without what the compiler appends to its clones: `.constprop.0`, `.isra.0`,
/// `.part.0`.
pub(super) fn base_name(function: &str) -> &str {
    function.split('.').next().unwrap_or(function)
}

/// Whether only clones are freed where `event` was.
pub(super) fn only_clones(event: &Event, tables: &Tables) -> bool {
    let (EventKind::Free { location, .. } | EventKind::Consume { location }) = event.kind else {
        return false;
    };
    let is = |id: SymbolId| CLONES_ONLY.contains(&base_name(tables.function(id)));
    // Kernels before 6.3 do not say where a packet was consumed; the stack does.
    is(location)
        || location == SymbolId(0)
            && tables.stacks.get(&event.stack.id).is_some_and(|stack| {
                stack.frames.iter().take(FREEING_FRAMES).any(|&frame| is(SymbolId(frame)))
            })
}

/// Whether `event` gives its packet to a reader that it was meant for.
pub(super) fn is_read(event: &Event, tables: &Tables) -> bool {
    let watched = || {
        tables.stacks.get(&event.stack.id).is_some_and(|stack| {
            stack
                .frames
                .iter()
                .any(|&frame| WATCHERS.contains(&base_name(tables.function(SymbolId(frame)))))
        })
    };
    matches!(event.kind, EventKind::CopyToUser { .. }) && !watched()
}

/// Whether a packet sent on `from` arrives on `to`.
pub(super) fn are_peers(from: DeviceId, to: DeviceId, tables: &Tables) -> bool {
    let (Some(from), Some(to)) = (tables.devices.get(&from), tables.devices.get(&to)) else {
        return false;
    };
    from.kind == "veth"
        && to.kind == "veth"
        && from.id != to.id
        && from.peer_ifindex == to.ifindex
        && to.peer_ifindex == from.ifindex
}

/// Whether what was sent on `from` can be received on `to` without passing a backlog or GRO.
pub(super) fn returns(from: DeviceId, to: DeviceId, tables: &Tables) -> bool {
    // An ifb hands back what was redirected to it, on the device where it had come in.
    tables.devices.get(&from).is_some_and(|device| device.kind == "ifb")
        || are_peers(from, to, tables)
}

/// Whether `device` is above others and receives what they received.
pub(super) fn is_upper(device: DeviceId, tables: &Tables) -> bool {
    is_tunnel(device, tables)
        || tables.devices.get(&device).is_some_and(|d| UPPER.contains(&d.kind.as_str()))
}

/// Whether `device` receives what another device received before.
pub(super) fn is_tunnel(device: DeviceId, tables: &Tables) -> bool {
    tables.devices.get(&device).is_some_and(|d| TUNNELS.contains(&d.kind.as_str()))
}
