//! Datagrams in a socket's queue: from `sk_data_ready` to the `recvmsg` that took them.
//!
//! UDP copies a linear datagram to its reader without a tracepoint, and since 6.18 frees it without one
//! (`skb_attempt_defer_free`). Both ends of its wait are seen all the same, by the socket: `sk_data_ready` runs
//! on the CPU that has just received the datagram, and `recvmsg` takes datagrams in the order in which they
//! were queued. The two events become steps of the datagram's journey.
//!
//! Where two CPUs queue at once, the order of their `sk_data_ready` may not be that of the queue (they run after its
//! lock is released; since 6.18 one CPU may even queue and tell for another). Such datagrams are known to be
//! queued, and to be read when one of them is; which read was whose is not told.
//!
//! What was queued before the recording began is not known, so the first waits of such a socket can come out
//! too short; a read of more bytes than the datagram has shows it, and starts the socket's queue anew.

use std::collections::VecDeque;

use psc_formats::packet::{Headers, Transport};
use psc_formats::{Event, EventKind, Ns, SockId, Tables};
use rustc_hash::FxHashMap;

use super::Journeys;
use super::generation::{End, Stage};
use crate::engine::JourneyId;

/// Datagrams waiting in all queues at most, and queues; beyond, all are forgotten.
const MAX_WAITING: usize = 1 << 18;

/// How long a datagram may be on its way from `netif_receive_skb` to its socket's queue, nanoseconds. Longer ones
/// went elsewhere without an event.
const ON_ITS_WAY: u64 = 5_000_000;

/// Datagrams on their way to a queue per CPU at most.
const MAX_ON_ITS_WAY: usize = 16;

/// UDP and UDP-Lite.
const DATAGRAMS: [u8; 2] = [17, 136];

/// What a CPU received and has queued nowhere yet.
#[derive(Clone, Copy, Debug)]
struct Received {
    slot: u32,
    id: JourneyId,
    at: Ns,
    /// It may be what was read before it was told of.
    doubtful: bool,
}

#[derive(Clone, Copy, Debug)]
struct Queued {
    what: Received,
    /// The CPU that received it.
    cpu: usize,
    at: Ns,
    /// No other CPU can have queued before it what is told after it.
    in_order: bool,
}

/// A socket's queue.
#[derive(Debug, Default)]
struct Queue {
    /// Oldest first; `None` for a datagram that is not known.
    told: VecDeque<Option<Queued>>,
    /// Datagrams that were read before they were told of: the reader of another CPU was faster.
    read_early: u32,
}

impl Queue {
    /// Nothing is known of it that an empty one would not say.
    fn is_idle(&self) -> bool {
        self.told.is_empty() && self.read_early == 0
    }
}

/// Datagrams that wait for their readers.
#[derive(Debug, Default)]
pub(super) struct SocketQueues {
    /// Per CPU, the latest last.
    received: Vec<VecDeque<Received>>,
    waiting: FxHashMap<SockId, Queue>,
    count: usize,
}

impl SocketQueues {
    /// Events of `cpu` are missing, and with them what was queued or read on it.
    pub(super) fn forget(&mut self, cpu: u16) {
        if let Some(received) = self.received.get_mut(cpu as usize) {
            received.clear();
        }
        self.waiting.clear();
        self.count = 0;
    }

    /// A socket's queue, new when it is not known; within the bounds.
    fn queue(&mut self, sock: SockId) -> &mut Queue {
        if self.count >= MAX_WAITING || self.waiting.len() >= MAX_WAITING {
            self.waiting.clear();
            self.count = 0;
        }
        self.waiting.entry(sock).or_default()
    }

    /// Queues a datagram; false when it was read already.
    fn push(&mut self, sock: SockId, mut queued: Option<Queued>) -> bool {
        let queue = self.queue(sock);
        if queue.read_early > 0 {
            queue.read_early -= 1;
            return false;
        }
        if let Some(queued) = &mut queued {
            let others = queue.told.iter_mut().rev().flatten();
            for other in others.take_while(|other| other.at >= queued.what.at) {
                if other.cpu != queued.cpu {
                    other.in_order = false;
                    queued.in_order = false;
                }
            }
        }
        queue.told.push_back(queued);
        self.count += 1;
        true
    }

    fn oldest(&self, sock: SockId) -> Option<Queued> {
        self.waiting.get(&sock)?.told.front().copied().flatten()
    }

    /// Takes the oldest; `overtaken` says that one may have been queued that nobody was told of yet.
    fn pop(&mut self, sock: SockId, overtaken: bool) -> Option<Queued> {
        let told = self.waiting.get_mut(&sock).and_then(|queue| queue.told.pop_front());
        let Some(queued) = told else {
            if overtaken {
                self.queue(sock).read_early += 1;
            }
            return None;
        };
        self.count -= 1;
        if self.waiting.get(&sock).is_some_and(Queue::is_idle) {
            self.waiting.remove(&sock);
        }
        queued
    }

    fn start_anew(&mut self, sock: SockId) {
        self.count -= self.waiting.remove(&sock).map_or(0, |queue| queue.told.len());
    }

    fn discard(&mut self, sock: SockId, id: JourneyId) {
        let Some(queue) = self.waiting.get_mut(&sock) else { return };
        let is = |queued: &Option<Queued>| queued.is_some_and(|queued| queued.what.id == id);
        if let Some(at) = queue.told.iter().position(is) {
            queue.told.remove(at);
            self.count -= 1;
        }
    }
}

impl Journeys {
    /// Notes that the stack got a datagram on this CPU.
    pub(super) fn note_received(&mut self, slot: u32, event: &Event) {
        if !goes_to(self.slab.get(slot).last_headers(), None) {
            return;
        }
        let cpu = event.cpu as usize;
        let received = &mut self.queues.received;
        if received.len() <= cpu {
            received.resize_with(cpu + 1, VecDeque::new);
        }
        let received = &mut received[cpu];
        if received.len() >= MAX_ON_ITS_WAY {
            received.pop_front();
        }
        let id = self.slab.get(slot).id;
        received.push_back(Received { slot, id, at: event.at, doubtful: false });
    }

    /// The generation that a socket was told of, or that its reader took.
    pub(super) fn in_socket(&mut self, event: &Event, tables: &Tables) -> Option<u32> {
        let socket = tables.sockets.get(&event.sock)?;
        if !DATAGRAMS.contains(&socket.protocol) {
            return None;
        }
        let port = socket.local.map(|(_, port)| port);
        match event.kind {
            EventKind::DataReady {} => self.queued(event, port),
            EventKind::SockReceive { rc } => self.read(event, port, u32::try_from(rc).ok()?),
            _ => None,
        }
    }

    fn queued(&mut self, event: &Event, port: Option<u16>) -> Option<u32> {
        let (cpu, at) = (event.cpu as usize, event.at);
        // What was told of and is not known is another CPU's; it still takes its place in the queue.
        let last = self.queues.received.get(cpu).and_then(|received| received.back()).copied();
        let what = last.filter(|received| self.can_go(*received, port));
        if what.is_some() {
            self.queues.received[cpu].pop_back();
        }
        let queued = what.map(|what| Queued { what, cpu, at, in_order: !what.doubtful });
        let waits = self.queues.push(event.sock, queued);
        let slot = what?.slot;
        let generation = self.slab.get_mut(slot);
        generation.queued_in = event.sock;
        generation.copied |= !waits;
        Some(slot)
    }

    fn read(&mut self, event: &Event, port: Option<u16>, bytes: u32) -> Option<u32> {
        // What another CPU received before this was told of may have been queued before it, and read now.
        let before = self.queues.oldest(event.sock).map_or(event.at, |told| told.at);
        let mut overtaken = false;
        let since = before.0.saturating_sub(ON_ITS_WAY);
        for cpu in 0..self.queues.received.len() {
            for at in 0..self.queues.received[cpu].len() {
                let other = self.queues.received[cpu][at];
                if (since..=before.0).contains(&other.at.0) && self.can_go(other, port) {
                    overtaken = true;
                    self.queues.received[cpu][at].doubtful = true;
                }
            }
        }
        let queued = self.queues.pop(event.sock, overtaken)?;
        let slot = queued.what.slot;
        if !self.slab.holds(slot, queued.what.id) {
            return None;
        }
        let headers = self.slab.get(slot).last_headers();
        if headers.is_some_and(|h| !h.is_fragment() && bytes > h.payload_len) {
            self.queues.start_anew(event.sock);
            return None;
        }
        if overtaken || !queued.in_order {
            self.slab.get_mut(slot).copied = true;
            return None;
        }
        Some(slot)
    }

    /// Whether a socket bound to `port` may still get what was received.
    fn can_go(&self, received: Received, port: Option<u16>) -> bool {
        if !self.slab.holds(received.slot, received.id) {
            return false;
        }
        let generation = self.slab.get(received.slot);
        matches!(generation.stage, Stage::Received(_))
            && generation.end.is_none()
            && goes_to(generation.last_headers(), port)
    }

    /// A generation that was discarded is not read any more.
    pub(super) fn leave_socket(&mut self, slot: u32) {
        let generation = self.slab.get(slot);
        if generation.queued_in != SockId(0) && !matches!(generation.end, Some(End::Consumed)) {
            self.queues.discard(generation.queued_in, generation.id);
        }
    }
}

/// Whether a socket bound to `port` can get the packet: a datagram to that port, or the last fragment of one,
/// whose skb carries the whole on.
fn goes_to(headers: Option<&Headers>, port: Option<u16>) -> bool {
    let Some(headers) = headers else { return false };
    match headers.transport {
        Transport::Udp(udp) => port.is_none_or(|port| port == udp.dport),
        _ => headers.protocol().is_some_and(|p| DATAGRAMS.contains(&p)) && headers.is_fragment(),
    }
}
