//! What the stack does to identity, one trick a test. `tests/interleavings.rs` does them all at once.

mod functions;
mod handed;
mod kin;
mod sockets;

use psc_formats::event::{Context, DeviceId, Gso, LinkType, PacketRef, StackId, SymbolId};
use psc_formats::fact::{DeviceFact, Fact, StackFact, SymbolFact};
use psc_formats::packet::{self, Headers};
use psc_formats::{Event, EventKind, Manifest, Ns, ProbeId, SkbAddr, SockId, Stack, Tables};

use super::{CLONE_READ_WINDOW, IDLE, Journeys};
use crate::engine::{Ambiguity, ClosedJourney, JourneyId, Lineage, Outcome, SkbId};

const NO_SOCKET: u32 = 3;
const NETFILTER_DROP: u32 = 8;
const QUEUE_PURGE: u32 = 9;
const NOT_SPECIFIED: u32 = 2;

const ETH0: u16 = 1;
const VETH_A: u16 = 2;
const VETH_B: u16 = 3;
const TUN: u16 = 4;

const PING_RCV: u32 = 1;
const NF_HOOK_SLOW: u32 = 2;
const RAW_RECVMSG: u32 = 3;
const PACKET_RECVMSG: u32 = 4;
const XMIT_NIT: u32 = 5;
const KILL_QUEUES: u32 = 6;
const ICMPV6_RCV: u32 = 7;

const WATCHING: StackId = StackId(1);

/// A stretch of what probes see.
struct Stretch {
    tables: Tables,
    journeys: Journeys,
    closed: Vec<ClosedJourney>,
    at: u64,
    seq: u64,
}

/// One event with what most tests leave as it is.
#[derive(Clone, Copy)]
struct Seen {
    cpu: u16,
    skb: u32,
    device: u16,
    iif: u32,
    sock: u32,
    content: u32,
    packet: Option<&'static [u8]>,
    stack: StackId,
    gso: u16,
    len: u32,
    gap: bool,
}

const SEEN: Seen = Seen {
    cpu: 0,
    skb: 7,
    device: ETH0,
    iif: 0,
    sock: 0,
    content: 0,
    packet: None,
    stack: StackId(0),
    gso: 0,
    len: 100,
    gap: false,
};

/// An echo reply, eight bytes of payload.
const REPLY: &[u8] = &[
    0x45, 0, 0, 36, 0, 9, 0, 0, 64, 1, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1, // IPv4
    0, 0, 0, 0, 0, 1, 0, 5, 1, 2, 3, 4, 5, 6, 7, 8,
];

/// A FIN without data.
const FIN: &[u8] = &[
    0x45, 0, 0, 40, 0, 9, 0, 0, 64, 6, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1, // IPv4
    0, 80, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x11, 1, 0, 0, 0, 0, 0,
];

/// UDP, eight bytes of payload.
const DATAGRAM: &[u8] = &[
    0x45, 0, 0, 36, 0, 9, 0, 0, 64, 17, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1, // IPv4
    0, 80, 1, 0, 0, 16, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8,
];

impl Stretch {
    fn new() -> Self {
        Self::with_reasons(&[])
    }

    /// On a kernel with more drop reasons.
    fn with_reasons(more: &[(u32, &str)]) -> Self {
        let mut manifest = Manifest::default();
        manifest
            .drop_reasons
            .extend(more.iter().map(|(number, name)| (*number, (*name).to_owned())));
        let names = [
            (NO_SOCKET, "NO_SOCKET"),
            (NETFILTER_DROP, "NETFILTER_DROP"),
            (QUEUE_PURGE, "QUEUE_PURGE"),
            (NOT_SPECIFIED, "NOT_SPECIFIED"),
        ];
        manifest.drop_reasons.extend(names.map(|(number, name)| (number, name.to_owned())));
        let mut tables = Tables::default();
        let symbols = [
            (PING_RCV, "ping_rcv"),
            (NF_HOOK_SLOW, "nf_hook_slow"),
            (RAW_RECVMSG, "raw_recvmsg"),
            (PACKET_RECVMSG, "packet_recvmsg.isra.0"),
            (XMIT_NIT, "dev_queue_xmit_nit"),
            (KILL_QUEUES, "sk_stream_kill_queues"),
            (ICMPV6_RCV, "icmpv6_rcv"),
        ];
        for (id, name) in symbols {
            let name = name.to_owned();
            tables.apply(&Fact::Symbol(SymbolFact { id, name, ..SymbolFact::default() }));
        }
        tables.apply(&Fact::Stack(StackFact { id: WATCHING.0, frames: vec![PACKET_RECVMSG] }));
        let devices =
            [(ETH0, "", 0), (VETH_A, "veth", VETH_B), (VETH_B, "veth", VETH_A), (TUN, "ipip", 0)];
        for (id, kind, peer) in devices {
            tables.apply(&Fact::Device(DeviceFact {
                id,
                ifindex: u32::from(id),
                kind: kind.to_owned(),
                peer_ifindex: u32::from(peer),
                ..DeviceFact::default()
            }));
        }
        Self { tables, journeys: Journeys::new(&manifest), closed: Vec::new(), at: 1_000, seq: 0 }
    }

    /// One event; its journey, and whether it counts as a packet's first.
    fn see(&mut self, seen: Seen, kind: EventKind) -> (Option<JourneyId>, bool) {
        self.at += 10;
        self.seq += 1;
        let headers: Option<Headers> =
            seen.packet.map(|bytes| packet::decode(LinkType::RAW, bytes, bytes.len() as u32));
        let event = Event {
            at: Ns(self.at),
            cpu: seen.cpu,
            seq: self.seq,
            probe: ProbeId(0),
            skb: SkbAddr(seen.skb),
            sock: SockId(seen.sock),
            device: DeviceId(seen.device),
            iif: seen.iif,
            len: seen.len,
            gso: Gso { size: seen.gso, segs: 2, kind: 1 },
            stack: Stack { id: seen.stack, ..Stack::default() },
            context: Context::Unknown,
            packet: seen.packet.map(|bytes| PacketRef {
                offset: 0,
                caplen: bytes.len() as u32,
                len: bytes.len() as u32,
                link: LinkType::RAW,
            }),
            content: seen.content,
            kind,
        };
        let bytes = seen.packet.unwrap_or_default();
        let placed =
            self.journeys.admit(event, seen.gap, headers.as_ref(), bytes, &self.tables).ok();
        self.collect();
        if let Some(placed) = placed {
            self.journeys.settle(placed);
            self.collect();
        }
        (placed.map(|placed| placed.id), placed.is_some_and(|p| p.opens && p.packet))
    }

    fn collect(&mut self) {
        while self.journeys.take_closed(|journey| self.closed.push(journey.clone())) {}
    }

    /// Ends the recording; the journeys in the order of their numbers.
    fn end(mut self) -> Vec<ClosedJourney> {
        self.journeys.end();
        self.collect();
        self.closed.sort_by_key(|journey| journey.id);
        self.closed
    }
}

fn free(reason: u32, location: u32) -> EventKind {
    EventKind::Free { reason, location: SymbolId(location) }
}

fn consume(location: u32) -> EventKind {
    EventKind::Consume { location: SymbolId(location) }
}

fn kinds(journey: &ClosedJourney) -> Vec<&'static str> {
    journey.steps.iter().map(|step| step.kind.name()).collect()
}

#[test]
fn an_address_born_again_inside_the_transmit_that_freed_it() {
    // A tunnel that cannot send discards the packet and answers with an ICMP error at once, from
    // the same CPU, in the skb that has just come back.
    let mut stretch = Stretch::new();
    let tun = Seen { device: TUN, ..SEEN };
    stretch.see(tun, EventKind::DeviceQueue {});
    stretch.see(tun, EventKind::TransmitStart {});
    stretch.see(tun, free(NETFILTER_DROP, NF_HOOK_SLOW));
    let (error, opens) = stretch.see(SEEN, EventKind::DeviceQueue {});
    assert!(opens);
    stretch.see(SEEN, EventKind::TransmitStart {});
    stretch.see(SEEN, EventKind::TransmitDone { rc: 0 });
    stretch.see(tun, EventKind::TransmitDone { rc: 1 });
    let journeys = stretch.end();
    assert_eq!(journeys.len(), 2);
    assert_eq!(kinds(&journeys[0]), ["DeviceQueue", "TransmitStart", "Free", "TransmitDone"]);
    assert_eq!(kinds(&journeys[1]), ["DeviceQueue", "TransmitStart", "TransmitDone"]);
    assert_eq!(Some(journeys[1].id), error);
    assert_eq!(journeys[1].skb, SkbId { addr: SkbAddr(7), generation: 1 });
    assert_eq!(journeys[1].outcome, Outcome::Delivered);
}

fn joined(journey: &ClosedJourney) -> Vec<(Lineage, JourneyId)> {
    journey.lineage.iter().map(|edge| (edge.how, edge.of)).collect()
}

/// An echo reply freed with `NO_SOCKET`, and perhaps its clone.
fn ping(clone: impl FnOnce(&mut Stretch)) -> Vec<ClosedJourney> {
    let mut stretch = Stretch::new();
    let reply = Seen { content: 5, packet: Some(REPLY), iif: 1, ..SEEN };
    stretch.see(reply, EventKind::GroReceive {});
    stretch.see(Seen { packet: None, ..reply }, EventKind::Receive {});
    stretch.see(Seen { packet: None, ..reply }, free(NO_SOCKET, PING_RCV));
    clone(&mut stretch);
    stretch.end()
}

#[test]
fn a_healthy_ping_is_no_drop() {
    let clone = Seen { skb: 8, device: 0, content: 5, ..SEEN };
    let dropped = Outcome::Dropped { reason: NO_SOCKET, location: SymbolId(PING_RCV) };

    // The raw socket's clone shows its bytes only when it is freed.
    let read = ping(|stretch| {
        assert!(!stretch.see(clone, EventKind::CopyToUser { bytes: 84 }).1);
        let freed = Seen { packet: Some(REPLY), iif: 1, ..clone };
        assert!(!stretch.see(freed, consume(RAW_RECVMSG)).1);
    });
    assert_eq!(read[0].outcome, Outcome::Delivered);
    assert!(read[1].clone && read[1].ambiguous.is_none());
    assert_eq!(joined(&read[1]), [(Lineage::Clone, read[0].id)]);

    // Nobody reads, or only after a time in which a reader would have.
    assert_eq!(ping(|_| {})[0].outcome, dropped);
    let late = ping(|stretch| {
        stretch.at += CLONE_READ_WINDOW + 1_000;
        stretch.see(Seen { packet: Some(REPLY), ..clone }, EventKind::CopyToUser { bytes: 84 });
    });
    assert_eq!(late[0].outcome, dropped);

    // A sniffer's clone delivers nothing.
    let sniffed = ping(|stretch| {
        let watched = Seen { packet: Some(REPLY), stack: WATCHING, ..clone };
        stretch.see(watched, EventKind::CopyToUser { bytes: 84 });
    });
    assert_eq!(sniffed[0].outcome, dropped);
    assert!(sniffed[1].clone);
}

#[test]
fn a_reader_without_a_known_original_counts_as_a_packet_once() {
    let mut stretch = Stretch::new();
    let copy = Seen { content: 5, ..SEEN };
    assert!(!stretch.see(copy, EventKind::CopyToUser { bytes: 84 }).1);
    assert!(stretch.see(Seen { packet: Some(DATAGRAM), iif: 1, ..copy }, consume(0)).1);
    let journeys = stretch.end();
    assert_eq!(journeys[0].ambiguous, Some(Ambiguity::BirthNotObserved));
    assert_eq!(journeys[0].outcome, Outcome::Delivered);
}

#[test]
fn a_packet_discarded_before_it_was_queued_is_a_drop() {
    let mut stretch = Stretch::new();
    // One like it was sent before, so that content alone would call it a clone.
    let sent = Seen { skb: 1, content: 5, packet: Some(DATAGRAM), ..SEEN };
    stretch.see(sent, EventKind::DeviceQueue {});
    let made = Seen { content: 5, packet: Some(DATAGRAM), ..SEEN };
    assert!(stretch.see(made, free(NETFILTER_DROP, NF_HOOK_SLOW)).1);
    // What is no packet (a netlink message) has neither content nor bytes.
    assert_eq!(stretch.see(Seen { skb: 9, ..SEEN }, free(NETFILTER_DROP, 0)).0, None);
    let journeys = stretch.end();
    let location = SymbolId(NF_HOOK_SLOW);
    assert_eq!(journeys[1].outcome, Outcome::Dropped { reason: NETFILTER_DROP, location });
    assert_eq!((journeys[1].ambiguous, journeys[1].clone, journeys.len()), (None, false, 2));
}

#[test]
fn a_sniffers_clone_on_an_old_address_is_a_clone() {
    let mut stretch = Stretch::new();
    // Received, and freed by TCP without a probe.
    stretch.see(Seen { content: 4, ..SEEN }, EventKind::Receive {});
    stretch.see(
        Seen { skb: 1, content: 5, packet: Some(DATAGRAM), ..SEEN },
        EventKind::DeviceQueue {},
    );
    let clone = Seen { content: 5, packet: Some(DATAGRAM), ..SEEN };
    assert!(!stretch.see(clone, consume(XMIT_NIT)).1);
    let journeys = stretch.end();
    assert_eq!(journeys[0].outcome, Outcome::EndNotObserved);
    assert_eq!(joined(&journeys[2]), [(Lineage::Clone, journeys[1].id)]);
    assert_eq!((journeys[2].clone, journeys[2].ambiguous), (true, None));
}

#[test]
fn a_fin_purged_with_its_socket_was_taken_in() {
    for (packet, dropped) in [(FIN, false), (DATAGRAM, true)] {
        let mut stretch = Stretch::new();
        stretch.see(Seen { packet: Some(packet), ..SEEN }, EventKind::GroReceive {});
        stretch.see(Seen { iif: 1, ..SEEN }, free(QUEUE_PURGE, KILL_QUEUES));
        let outcome = stretch.end()[0].outcome;
        assert_eq!(matches!(outcome, Outcome::Dropped { .. }), dropped, "{outcome:?}");
    }
}

/// Before 6.3 all that `icmpv6_rcv` handles ends as though it had failed; since then a reason means one.
#[test]
fn icmpv6_that_an_old_kernel_handled_is_no_drop() {
    const OLD: &[(u32, &str)] = &[];
    const NEW: &[(u32, &str)] = &[(80, "IPV6_NDISC_BAD_CODE")];
    let cases = [
        (OLD, 128, NOT_SPECIFIED, ICMPV6_RCV, false),
        (OLD, 135, NOT_SPECIFIED, ICMPV6_RCV, false),
        (OLD, 200, NOT_SPECIFIED, ICMPV6_RCV, true),
        (OLD, 128, NETFILTER_DROP, ICMPV6_RCV, true),
        (OLD, 128, NOT_SPECIFIED, NF_HOOK_SLOW, true),
        (NEW, 128, NOT_SPECIFIED, ICMPV6_RCV, true),
        (NEW, 135, NOT_SPECIFIED, ICMPV6_RCV, true),
    ];
    for (kernel, kind, reason, location, dropped) in cases {
        let mut packet = vec![0x60, 0, 0, 0, 0, 8, 58, 255];
        packet.extend([0xfd; 32]);
        packet.extend([kind, 0, 0, 0, 0, 1, 0, 5]);
        let mut stretch = Stretch::with_reasons(kernel);
        stretch.see(Seen { packet: Some(packet.leak()), ..SEEN }, EventKind::GroReceive {});
        stretch.see(Seen { iif: 1, ..SEEN }, free(reason, location));
        let outcome = stretch.end()[0].outcome;
        let is_drop = matches!(outcome, Outcome::Dropped { .. });
        assert_eq!(
            is_drop, dropped,
            "type {kind}, {reason} at {location} of {kernel:?}: {outcome:?}"
        );
    }
}

#[test]
fn loss_is_marked_where_content_does_not_settle_it() {
    for (content, expected) in [(0, Some(Ambiguity::LossWhileOpen)), (5, None)] {
        let mut stretch = Stretch::new();
        let seen = Seen { content, iif: 1, ..SEEN };
        stretch.see(seen, EventKind::GroReceive {});
        stretch.see(Seen { skb: 99, gap: true, ..SEEN }, EventKind::GroReceive {});
        stretch.see(seen, EventKind::Receive {});
        stretch.see(seen, consume(0));
        assert_eq!(stretch.end()[0].ambiguous, expected);
    }
}

#[test]
fn lost_answers_do_not_swallow_births() {
    let mut stretch = Stretch::new();
    stretch.see(SEEN, EventKind::DeviceQueue {});
    stretch.see(SEEN, EventKind::TransmitStart {});
    // The answer, the free and more are lost; then the address comes again.
    let (_, opens) = stretch.see(Seen { gap: true, ..SEEN }, EventKind::GroReceive {});
    assert!(opens);
    let journeys = stretch.end();
    assert_eq!(journeys[0].ambiguous, Some(Ambiguity::LossWhileOpen));
    assert_eq!(journeys.len(), 2);
}

#[test]
fn quiet_generations_close_by_event_time() {
    let mut stretch = Stretch::new();
    stretch.see(SEEN, EventKind::GroReceive {});
    stretch.at += IDLE + 1;
    stretch.see(Seen { skb: 8, ..SEEN }, EventKind::GroReceive {});
    assert_eq!(stretch.closed.len(), 1);
    assert_eq!(stretch.closed[0].outcome, Outcome::EndNotObserved);
}

#[test]
fn a_veth_with_gro_keeps_the_skb_and_one_with_xdp_copies_it() {
    let a = Seen { device: VETH_A, content: 5, packet: Some(DATAGRAM), ..SEEN };
    let b = Seen { device: VETH_B, packet: None, ..a };
    let sent = |stretch: &mut Stretch| {
        stretch.see(a, EventKind::DeviceQueue {});
        stretch.see(Seen { packet: None, ..a }, EventKind::TransmitStart {});
        stretch.see(Seen { packet: None, content: 0, ..a }, EventKind::TransmitDone { rc: 0 });
    };
    let mut stretch = Stretch::new();
    sent(&mut stretch);
    assert!(!stretch.see(b, EventKind::GroReceive {}).1);
    assert_eq!(stretch.end().len(), 1);

    let mut stretch = Stretch::new();
    sent(&mut stretch);
    let copy = Seen { skb: 8, packet: Some(DATAGRAM), ..b };
    assert!(!stretch.see(copy, EventKind::GroReceive {}).1);
    let journeys = stretch.end();
    assert_eq!(joined(&journeys[1]), [(Lineage::Copy, journeys[0].id)]);
    assert!(!journeys[1].clone);
}

#[test]
fn segments_belong_to_the_skb_they_were_cut_from() {
    let mut stretch = Stretch::new();
    stretch.see(Seen { gso: 1448, ..SEEN }, EventKind::DeviceQueue {});
    for skb in [20, 21] {
        let segment = Seen { skb, ..SEEN };
        assert!(!stretch.see(segment, EventKind::TransmitStart {}).1);
        stretch.see(segment, EventKind::TransmitDone { rc: 0 });
    }
    stretch.see(SEEN, consume(0));
    let journeys = stretch.end();
    assert_eq!(journeys.len(), 3);
    assert_eq!(joined(&journeys[2]), [(Lineage::Segment, JourneyId(1))]);
    assert!(journeys.iter().all(|journey| journey.outcome == Outcome::Delivered));
}

#[test]
fn retransmits_name_the_sockets_original() {
    let mut stretch = Stretch::new();
    stretch.see(SEEN, EventKind::DeviceQueue {});
    let headers = packet::decode(LinkType::IPV4, FIN, 40);
    let tuple = headers.tuple().expect("TCP");
    assert_eq!(stretch.see(SEEN, EventKind::Retransmit { tuple, state: 1 }).0, None);
}
