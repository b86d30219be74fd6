//! Datagrams in a socket's queue: from `sk_data_ready` to the `recvmsg` that took them.
//!
//! UDP copies a linear datagram to its reader without a tracepoint, and since 6.18 frees it without one
//! (`skb_attempt_defer_free`). Both ends of its wait are seen all the same, by the socket: `sk_data_ready` runs
//! on the CPU that has just received the datagram, and `recvmsg` takes datagrams in the order in which they
//! were queued. The two events become steps of the datagram's journey.
//!
//! What was queued before the recording began is not known, so the first waits of such a socket can come out
//! too short; a read of more bytes than the datagram has shows it, and starts the socket's queue anew.

use std::collections::VecDeque;

use psc_formats::packet::{Headers, Network, Transport};
use psc_formats::{Event, EventKind, SockId, Tables};
use rustc_hash::FxHashMap;

use super::Journeys;
use super::generation::{End, Stage};
use crate::engine::JourneyId;

/// Datagrams waiting in all queues at most; beyond, all are forgotten.
const MAX_WAITING: usize = 1 << 18;

/// UDP and UDP-Lite.
const DATAGRAMS: [u8; 2] = [17, 136];

#[derive(Clone, Copy, Debug)]
struct Queued {
    slot: u32,
    id: JourneyId,
}

/// Datagrams that wait for their readers.
#[derive(Debug, Default)]
pub(super) struct SocketQueues {
    /// Per CPU, what it received last and has queued nowhere yet.
    received: Vec<Option<Queued>>,
    /// Per socket, oldest first; `None` for a datagram that is not known.
    waiting: FxHashMap<SockId, VecDeque<Option<Queued>>>,
    count: usize,
}

impl SocketQueues {
    /// Events of `cpu` are missing, and with them what was queued or read on it.
    pub(super) fn forget(&mut self, cpu: u16) {
        if let Some(received) = self.received.get_mut(cpu as usize) {
            *received = None;
        }
        self.waiting.clear();
        self.count = 0;
    }

    fn push(&mut self, sock: SockId, queued: Option<Queued>) {
        if self.count >= MAX_WAITING {
            self.waiting.clear();
            self.count = 0;
        }
        self.waiting.entry(sock).or_default().push_back(queued);
        self.count += 1;
    }

    fn pop(&mut self, sock: SockId) -> Option<Queued> {
        let queue = self.waiting.get_mut(&sock)?;
        let queued = queue.pop_front();
        self.count -= usize::from(queued.is_some());
        if queue.is_empty() {
            self.waiting.remove(&sock);
        }
        queued.flatten()
    }

    fn start_anew(&mut self, sock: SockId) {
        self.count -= self.waiting.remove(&sock).map_or(0, |queue| queue.len());
    }

    fn discard(&mut self, sock: SockId, id: JourneyId) {
        if let Some(queue) = self.waiting.get_mut(&sock)
            && let Some(at) = queue.iter().position(|queued| queued.is_some_and(|q| q.id == id))
        {
            queue.remove(at);
            self.count -= 1;
        }
    }
}

impl Journeys {
    /// Notes that the stack got a packet on this CPU.
    pub(super) fn note_received(&mut self, slot: u32, event: &Event) {
        let cpu = event.cpu as usize;
        let received = &mut self.queues.received;
        if received.len() <= cpu {
            received.resize(cpu + 1, None);
        }
        received[cpu] = Some(Queued { slot, id: self.slab.get(slot).id });
    }

    /// The generation that a socket was told of, or that its reader took.
    pub(super) fn in_socket(&mut self, event: &Event, tables: &Tables) -> Option<u32> {
        let socket = tables.sockets.get(&event.sock)?;
        if !DATAGRAMS.contains(&socket.protocol) {
            return None;
        }
        let queued = match event.kind {
            EventKind::DataReady {} => {
                let received = self.queues.received.get_mut(event.cpu as usize);
                let queued = received.and_then(Option::take).filter(|queued| {
                    self.slab.holds(queued.slot, queued.id) && {
                        let generation = self.slab.get(queued.slot);
                        matches!(generation.stage, Stage::Received(_))
                            && generation.end.is_none()
                            && goes_to(
                                generation.last_headers(),
                                socket.local.map(|(_, port)| port),
                            )
                    }
                });
                self.queues.push(event.sock, queued);
                if let Some(queued) = queued {
                    self.slab.get_mut(queued.slot).queued_in = event.sock;
                }
                queued?
            }
            EventKind::SockReceive { rc } => {
                let bytes = u32::try_from(rc).ok()?;
                let queued = self.queues.pop(event.sock)?;
                if !self.slab.holds(queued.slot, queued.id) {
                    return None;
                }
                let headers = self.slab.get(queued.slot).last_headers();
                if headers.is_some_and(|h| is_whole(h) && bytes > h.payload_len) {
                    self.queues.start_anew(event.sock);
                    return None;
                }
                queued
            }
            _ => return None,
        };
        Some(queued.slot)
    }

    /// A generation that was discarded is not read any more.
    pub(super) fn leave_socket(&mut self, slot: u32) {
        let generation = self.slab.get(slot);
        if generation.queued_in != SockId(0) && !matches!(generation.end, Some(End::Consumed)) {
            self.queues.discard(generation.queued_in, generation.id);
        }
    }
}

fn is_whole(headers: &Headers) -> bool {
    match headers.network {
        Network::V4(ip) => !ip.more_fragments && ip.fragment_offset == 0,
        Network::V6(ip) => ip.fragment.is_none(),
        Network::Arp(_) | Network::None => false,
    }
}

/// Whether a socket bound to `port` can get the packet: a datagram to that port, or the last fragment of one,
/// whose skb carries the whole on.
fn goes_to(headers: Option<&Headers>, port: Option<u16>) -> bool {
    let Some(headers) = headers else { return false };
    match headers.transport {
        Transport::Udp(udp) => port.is_none_or(|port| port == udp.dport),
        _ => headers.protocol().is_some_and(|p| DATAGRAMS.contains(&p)) && !is_whole(headers),
    }
}
