//! From events to journeys: generation-stamped identity, exact at any interleaving.
//!
//! An skb's address is reused, so a journey belongs to one *generation* of an address.
//!
//! - A generation **opens** at a birth: `DeviceQueue` of a packet made here (`skb_iif` 0),
//!   `BacklogQueue`, `GroReceive`, or `Receive` when the address is not known or its generation
//!   cannot be received again: already received on that device and not sent since, read, or
//!   received on a device that is not above another one. None of these is a birth while this CPU
//!   is inside an unfinished transmit of the same skb (veth, loopback, stacked devices), nor on
//!   the far side of the veth that the generation was sent into, nor on a tunnel device that gets
//!   what another device received.
//! - It **closes** when a free is seen, when its address is born again, when its content is
//!   contradicted, or [`IDLE`] after its last event (event time, never the clock). A generation freed inside a
//!   transmit stays until that transmit is finished: the driver's answer is its last step.
//! - An event whose address has no generation opens one that is [`Ambiguity::BirthNotObserved`],
//!   unless it is a clone (same content as a recent packet, see `clones`), a segment of the GSO
//!   skb this CPU is sending, or a packet made here and discarded before it was queued.
//! - UDP's way into a socket's queue and out of it is told of the socket, not of the skb; `sockets` finds the
//!   datagram.
//! - Different fingerprints prove two packets. At anything but a birth that is a birth missed:
//!   [`Ambiguity::ContentContradicts`].
//! - Lost events of a CPU make what happened on it doubtful: [`Ambiguity::LossWhileOpen`], unless
//!   the content says that it is still the same packet.
//!
//! `Retransmit` names the socket's original, which never travels, so it belongs to no journey.
//!
//! Function probes and netfilter links never decide any of this (see `functions`): without them, the
//! journeys are the same.
//!
//! Memory is bounded by what is in flight: open generations by [`MAX_OPEN`] and [`MAX_STEPS_HELD`]
//! (beyond, the quietest is closed and counted), remembered content by `twins`, plus eight bytes for
//! each address ever seen (the kernel's, so as many as skbs ever existed at once).

mod clones;
mod datagrams;
mod functions;
mod generation;
mod handed;
mod merges;
mod place;
mod segments;
mod sockets;
#[cfg(test)]
mod tests;
mod told;
mod transmit;
mod twins;
mod unborn;

use std::collections::VecDeque;

use psc_formats::event::SymbolId;
use psc_formats::packet::{Headers, Transport};
use psc_formats::{Event, EventKind, Manifest, Ns, SkbAddr, Tables};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::engine::{Ambiguity, ClosedJourney, JourneyId, Outcome, SkbId};
use datagrams::Datagrams;
use functions::Functions;
use generation::{End, Generation, NONE, Slab, Stage};
use handed::Handed;
use merges::Merges;
use segments::Cuts;
use sockets::SocketQueues;
use told::Tellings;
use transmit::{Transmit, Transmits};
use twins::Twins;

/// A generation without events for this long (event time, nanoseconds) is closed.
pub const IDLE: u64 = 60_000_000_000;

/// Generations open at most.
pub const MAX_OPEN: usize = 1 << 20;

/// Steps held in open generations at most.
pub const MAX_STEPS_HELD: usize = 1 << 22;

/// Steps of one journey at most; what follows opens another.
const MAX_STEPS: usize = 4096;

/// How long a discarded echo reply waits for the raw socket that got a clone of it.
const CLONE_READ_WINDOW: u64 = 1_000_000_000;

/// Discarded echo replies waiting at most.
const MAX_WAITING: usize = 1 << 14;

/// What came of the events that could not be placed or kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JourneyCounts {
    /// Journeys opened.
    pub opened: u64,
    /// Driver answers whose transmit was not seen.
    pub unattributed: u64,
    /// Generations closed because too many were open.
    pub evicted: u64,
    /// Events of function probes whose packet no other probe saw, or was told already.
    pub functions_unplaced: u64,
}

/// Where an event went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    slot: u32,
    /// The journey.
    pub(crate) id: JourneyId,
    /// It opened the journey.
    pub(crate) opens: bool,
    /// The journey is a packet of its own: no clone, copy or segment of another.
    pub(crate) packet: bool,
}

#[derive(Clone, Copy, Debug)]
struct Address {
    /// Generation that the next birth gets.
    next: u32,
    /// Slot of the open generation, or [`NONE`].
    slot: u32,
}

/// Joins ordered events to journeys.
#[derive(Debug)]
pub struct Journeys {
    addresses: FxHashMap<SkbAddr, Address>,
    slab: Slab,
    transmits: Transmits,
    twins: Twins,
    cuts: Cuts,
    merges: Merges,
    datagrams: Datagrams,
    told: Tellings,
    queues: SocketQueues,
    handed: Handed,
    /// Per CPU, the time of the first event after lost ones.
    gaps: Vec<Ns>,
    waiting: VecDeque<(Ns, u32, JourneyId)>,
    /// Closed and not yet told.
    closed: VecDeque<u32>,
    finished: Vec<Transmit>,
    functions: Functions,
    /// Numbers of the reasons that are no drop.
    harmless: FxHashSet<u32>,
    no_socket: Option<u32>,
    queue_purge: Option<u32>,
    not_specified: Option<u32>,
    /// Kernels before 6.3 free ICMPv6 as though it had failed when it was handled (`icmpv6_rcv`: "assume failure").
    assumes_failure: bool,
    steps_held: usize,
    now: Ns,
    last_id: u64,
    counts: JourneyCounts,
}

impl Journeys {
    /// Journeys of a recording made as `manifest` says.
    pub fn new(manifest: &Manifest) -> Self {
        let named = |names: &'static [&str]| {
            manifest.drop_reasons.iter().filter_map(move |(number, name)| {
                let name = name.trim_start_matches("SKB_").trim_start_matches("DROP_REASON_");
                names.contains(&name).then_some(*number)
            })
        };
        // 0 is SKB_NOT_DROPPED_YET on every kernel that has reasons, whether or not it is named.
        let harmless = named(&["NOT_DROPPED_YET", "CONSUMED"]).chain([0]).collect();
        Self {
            addresses: FxHashMap::default(),
            slab: Slab::default(),
            transmits: Transmits::default(),
            twins: Twins::default(),
            cuts: Cuts::default(),
            merges: Merges::default(),
            datagrams: Datagrams::default(),
            told: Tellings::default(),
            queues: SocketQueues::default(),
            handed: Handed::default(),
            gaps: Vec::new(),
            waiting: VecDeque::new(),
            closed: VecDeque::new(),
            finished: Vec::new(),
            functions: Functions::default(),
            harmless,
            no_socket: named(&["NO_SOCKET"]).next(),
            queue_purge: named(&["QUEUE_PURGE"]).next(),
            not_specified: named(&["NOT_SPECIFIED"]).next(),
            assumes_failure: named(&["IPV6_NDISC_BAD_CODE"]).next().is_none(),
            steps_held: 0,
            now: Ns(0),
            last_id: 0,
            counts: JourneyCounts::default(),
        }
    }

    /// Counts so far.
    pub fn counts(&self) -> JourneyCounts {
        self.counts
    }

    /// Finds or opens the journey of an event and makes the event its last step. `gap` says that
    /// events of its CPU are missing immediately before it; `headers` and `bytes` are what it
    /// carries. On `Err`, the event belongs to no journey.
    ///
    /// Journeys that this closes can be taken with [`Self::take_closed`] at once; the one it
    /// joins, if it ended, after [`Self::settle`].
    #[allow(clippy::result_large_err, reason = "the event goes back to whoever moved it in")]
    pub(crate) fn admit(
        &mut self,
        event: Event,
        gap: bool,
        headers: Option<&Headers>,
        bytes: &[u8],
        tables: &Tables,
    ) -> Result<Placed, Event> {
        self.now = self.now.max(event.at);
        self.expire();
        if gap {
            self.lost_before(&event);
        }
        if event.kind.is_deeper_tier() {
            self.note_told(&event);
            self.note_handed(&event);
            return self.admit_function(event);
        }
        let Some((slot, opens)) = self.place(&event, headers, bytes, tables) else {
            return Err(event);
        };
        self.take_prelude(slot, opens, &event);
        self.note_cut(slot, &event);
        self.track(slot, &event, tables);
        let generation = self.slab.get_mut(slot);
        generation.last_at = event.at;
        generation.last_cpu = event.cpu;
        let first = generation.steps.len() == generation.function_steps as usize;
        if let Some(headers) = headers
            && generation.last_headers() != Some(headers)
        {
            generation.headers.push((generation.steps.len() as u32, *headers));
            generation.flow = generation.flow.or_else(|| headers.tuple());
            self.note_fragment(slot, first, &event, headers);
        }
        self.note_kin(slot, &event, tables);
        let generation = self.slab.get_mut(slot);
        generation.steps.push(event);
        let (id, packet) = (generation.id, !generation.is_clone && !generation.is_part);
        let opens = opens && generation.part == 0;
        self.steps_held += 1;
        self.slab.touch(slot);
        Ok(Placed { slot, id, opens, packet })
    }

    /// Numbers the journey of a captured frame, which is whole with its one event: a capture has no
    /// frees, and its packets have no address, or a made-up one.
    pub(crate) fn frame(&mut self, event: &Event, gap: bool) -> JourneyId {
        self.now = self.now.max(event.at);
        self.expire();
        if gap {
            self.lost_before(event);
        }
        self.last_id += 1;
        self.counts.opened += 1;
        JourneyId(self.last_id)
    }

    /// The event just admitted, and the headers last known of its journey.
    pub(crate) fn last_step(&self, placed: Placed) -> (Option<&Event>, Option<&Headers>) {
        let generation = self.slab.get(placed.slot);
        (generation.steps.last(), generation.last_headers())
    }

    /// Closes the journey just admitted to, if its end has been seen.
    pub(crate) fn settle(&mut self, placed: Placed) {
        if self.slab.holds(placed.slot, placed.id) {
            self.close_if_over(placed.slot);
        }
    }

    /// Hands the oldest closed journey to `tell`; false when there is none.
    pub(crate) fn take_closed(&mut self, tell: impl FnOnce(&ClosedJourney)) -> bool {
        if let Some(whole) = self.handed.take_ready() {
            self.steps_held -= whole.steps.len();
            tell(&whole);
            return true;
        }
        let Some(slot) = self.closed.pop_front() else { return false };
        let outcome = outcome(self.slab.get(slot));
        let generation = self.slab.get_mut(slot);
        let part = generation.part;
        let closed = ClosedJourney {
            id: generation.id,
            skb: generation.skb,
            steps: std::mem::take(&mut generation.steps),
            headers: std::mem::take(&mut generation.headers),
            flow: generation.flow,
            outcome,
            ambiguous: generation.ambiguous,
            lineage: std::mem::take(&mut generation.lineage),
            clone: generation.is_clone,
        };
        if self.handed.holds(closed.id) {
            self.steps_held += closed.steps.len();
            self.handed.keep(part, closed);
            self.slab.free(slot);
            return true;
        }
        tell(&closed);
        let generation = self.slab.get_mut(slot);
        generation.steps = closed.steps;
        generation.headers = closed.headers;
        generation.lineage = closed.lineage;
        self.slab.free(slot);
        true
    }

    /// Closes everything that is open, oldest journey first.
    pub(crate) fn end(&mut self) {
        let mut open: Vec<(JourneyId, u32)> =
            self.slab.open_slots().map(|slot| (self.slab.get(slot).id, slot)).collect();
        open.sort_unstable();
        for (_, slot) in open {
            self.close(slot);
        }
        self.handed.expire(Ns(u64::MAX));
    }

    /// Takes back a transmit's hold on its generation; `keep` is closed by `settle`, not here.
    fn forget(&mut self, transmit: Transmit, keep: Option<u32>) {
        if self.slab.holds(transmit.slot, transmit.id) {
            let generation = self.slab.get_mut(transmit.slot);
            generation.transmits = generation.transmits.saturating_sub(1);
            if keep != Some(transmit.slot) {
                self.close_if_over(transmit.slot);
            }
        }
    }

    /// What an event does to its generation.
    fn track(&mut self, slot: u32, event: &Event, tables: &Tables) {
        let id = self.slab.get(slot).id;
        match event.kind {
            EventKind::GroReceive {} | EventKind::BacklogQueue {} => {
                self.slab.get_mut(slot).stage = Stage::Arriving;
            }
            EventKind::Receive {} => {
                self.slab.get_mut(slot).stage = Stage::Received(event.device);
            }
            EventKind::DeviceQueue {} | EventKind::QdiscDequeue { .. } => {
                let generation = self.slab.get_mut(slot);
                if generation.end.is_none() {
                    generation.stage = Stage::Queued;
                    // A datagram that is cut again goes out in the skbs that it came in.
                    generation.goes_on = false;
                }
            }
            EventKind::TransmitStart {} => {
                let generation = self.slab.get_mut(slot);
                generation.stage = Stage::Transmitting(event.device);
                generation.transmits += 1;
                let transmit = Transmit { skb: event.skb, slot, id };
                if let Some(forgotten) = self.transmits.start(event.cpu, transmit) {
                    self.forget(forgotten, Some(slot));
                }
            }
            EventKind::TransmitDone { rc } => {
                let generation = self.slab.get_mut(slot);
                if let Stage::Transmitting(device) = generation.stage {
                    // NETDEV_TX_BUSY (0x10) and above: the driver did not take it.
                    let taken = (0..0x10).contains(&rc);
                    generation.stage =
                        if taken { Stage::Transmitted(device) } else { Stage::Queued };
                }
            }
            EventKind::CopyToUser { .. } | EventKind::SockReceive { .. } => {
                self.slab.get_mut(slot).copied = true;
            }
            EventKind::Consume { .. } => self.ended(slot, End::Consumed),
            EventKind::Free { reason, .. } if self.harmless.contains(&reason) => {
                self.ended(slot, End::Consumed);
            }
            EventKind::Free { reason, location }
                if self.is_spent(slot, reason, location, tables) =>
            {
                self.ended(slot, End::Consumed);
            }
            EventKind::Free { reason, location } => {
                self.ended(slot, End::Freed { reason, location });
                self.wait_for_clone(slot, reason);
            }
            _ => {}
        }
    }

    /// What an event says about how its generation belongs to others.
    fn note_kin(&mut self, slot: u32, event: &Event, tables: &Tables) {
        match event.kind {
            EventKind::GroReceive {} => self.note_gro(slot, event),
            EventKind::Receive {} => {
                self.note_merged(slot, event);
                self.note_received(slot, event);
            }
            _ => {}
        }
        self.note_reassembly(slot, event, tables);
    }

    /// Whether a free discards what had nothing left to deliver. A TCP segment without payload, after the
    /// state machine took it in: so end the last ACK of every orderly close (`tcp_rcv_state_process` ends in
    /// `tcp_drop_reason` with no reason) and a FIN that a closing socket still has in its queue. And a
    /// message that ICMPv6 knows, where the kernel has only one end for all of them.
    fn is_spent(&self, slot: u32, reason: u32, location: SymbolId, tables: &Tables) -> bool {
        let Some(headers) = self.slab.get(slot).last_headers() else { return false };
        let unsaid_at = |function: &str| {
            Some(reason) == self.not_specified
                && clones::base_name(tables.function(location)) == function
        };
        match &headers.transport {
            Transport::Tcp(_) if headers.payload_len == 0 => {
                Some(reason) == self.queue_purge || unsaid_at("tcp_rcv_state_process")
            }
            // Errors, echo requests, MLD, and neighbour discovery with its redirects.
            Transport::Icmp(icmp) if headers.protocol() == Some(58) => {
                let known = matches!(icmp.icmp_type, 1..=4 | 128 | 130..=137 | 143);
                known && self.assumes_failure && unsaid_at("icmpv6_rcv")
            }
            _ => false,
        }
    }

    fn ended(&mut self, slot: u32, end: End) {
        let generation = self.slab.get_mut(slot);
        generation.end = Some(end);
        let addr = generation.skb.addr;
        self.leave_socket(slot);
        if let Some(address) = self.addresses.get_mut(&addr)
            && address.slot == slot
        {
            address.slot = NONE;
        }
    }

    /// An echo reply goes to raw sockets as clones and is itself freed with `NO_SOCKET` when no ping
    /// socket waits for it. Whether that was a drop is known when a clone is read, or is not.
    fn wait_for_clone(&mut self, slot: u32, reason: u32) {
        let generation = self.slab.get_mut(slot);
        let icmp = generation.last_headers().and_then(Headers::protocol);
        if Some(reason) != self.no_socket || !matches!(icmp, Some(1 | 58)) {
            return;
        }
        if generation.is_clone || generation.clone_read {
            return;
        }
        generation.waiting = true;
        self.waiting.push_back((self.now, slot, generation.id));
        if self.waiting.len() > MAX_WAITING {
            self.stop_waiting();
        }
    }

    fn stop_waiting(&mut self) {
        if let Some((_, slot, id)) = self.waiting.pop_front()
            && self.slab.holds(slot, id)
        {
            self.slab.get_mut(slot).waiting = false;
            self.close_if_over(slot);
        }
    }

    /// Closes what event time or the bounds say is over.
    fn expire(&mut self) {
        while let Some(&(since, ..)) = self.waiting.front()
            && since.0.saturating_add(CLONE_READ_WINDOW) < self.now.0
        {
            self.stop_waiting();
        }
        self.handed.expire(self.now);
        while let Some(slot) = self.slab.oldest() {
            let idle = self.slab.get(slot).last_at.0.saturating_add(IDLE) < self.now.0;
            let live = self.slab.live() + self.handed.len();
            let crowded = live > MAX_OPEN || self.steps_held > MAX_STEPS_HELD;
            if !idle && !crowded {
                break;
            }
            self.counts.evicted += u64::from(!idle);
            self.close(slot);
        }
    }

    /// Events of this CPU are missing before `event`: what it was doing is not known any more.
    fn lost_before(&mut self, event: &Event) {
        let cpu = event.cpu as usize;
        if self.gaps.len() <= cpu {
            self.gaps.resize(cpu + 1, Ns(0));
        }
        self.gaps[cpu] = event.at;
        let mut finished = std::mem::take(&mut self.finished);
        self.transmits.forget(event.cpu, &mut finished);
        for transmit in finished.drain(..) {
            self.forget(transmit, None);
        }
        self.finished = finished;
        self.cuts.forget(event.cpu);
        self.queues.forget(event.cpu);
        self.forget_calls(Some(event.cpu));
    }

    fn open(&mut self, event: &Event) -> u32 {
        let slot = self.slab.open();
        let handed = self.handed.arrives(event);
        if handed.is_none() {
            self.last_id += 1;
            self.counts.opened += 1;
        }
        let generation = self.slab.get_mut(slot);
        (generation.id, generation.part) = handed.unwrap_or((JourneyId(self.last_id), 0));
        generation.skb = SkbId { addr: event.skb, generation: 0 };
        generation.content = event.content;
        generation.last_at = event.at;
        generation.last_cpu = event.cpu;
        let address = self.addresses.entry(event.skb).or_insert(Address { next: 0, slot: NONE });
        generation.skb.generation = address.next;
        address.next = address.next.wrapping_add(1);
        address.slot = slot;
        self.take_told(slot, event);
        slot
    }

    fn close_if_over(&mut self, slot: u32) {
        let generation = self.slab.get(slot);
        let inside = generation.transmits > 0 || generation.calls > 0;
        if generation.end.is_some() && !inside && !generation.waiting {
            self.close(slot);
        }
    }

    fn close(&mut self, slot: u32) {
        let addr = self.slab.get(slot).skb.addr;
        if let Some(address) = self.addresses.get_mut(&addr)
            && address.slot == slot
        {
            address.slot = NONE;
        }
        let generation = self.slab.get_mut(slot);
        if generation.closing {
            return;
        }
        self.steps_held -= generation.steps.len();
        let gap = self.gaps.get(generation.last_cpu as usize).copied().unwrap_or_default();
        if generation.end.is_none() && gap > generation.last_at {
            generation.ambiguous.get_or_insert(Ambiguity::LossWhileOpen);
        }
        self.slab.close(slot);
        self.closed.push_back(slot);
    }
}

/// How a generation ended, from what was seen of it.
fn outcome(generation: &Generation) -> Outcome {
    match generation.end {
        Some(End::Freed { reason, location })
            if !generation.copied && !generation.clone_read && !generation.is_clone =>
        {
            Outcome::Dropped { reason, location }
        }
        Some(_) => Outcome::Delivered,
        None if generation.copied || generation.goes_on => Outcome::Delivered,
        None => match generation.stage {
            Stage::Transmitted(_) => Outcome::Delivered,
            _ => Outcome::EndNotObserved,
        },
    }
}
