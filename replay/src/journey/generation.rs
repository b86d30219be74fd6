//! Generations in flight: a slab with reused buffers, linked by when each was last seen.

use psc_formats::event::DeviceId;
use psc_formats::packet::Headers;
use psc_formats::{Event, FiveTuple, Ns, SockId};

use super::datagrams;
use crate::engine::{Ambiguity, Edge, Evidence, JourneyId, Lineage, SkbId};

/// No slot.
pub(super) const NONE: u32 = u32::MAX;

/// Journeys that one is joined to at most.
const MAX_EDGES: usize = 64;

/// How far a generation has come, as far as that decides what the next event can mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing that matters yet.
    #[default]
    New,
    /// In GRO or on a backlog.
    Arriving,
    /// `netif_receive_skb` ran for it on this device, and it has not been sent since.
    Received(DeviceId),
    /// Handed to a device's queue.
    Queued,
    /// With the driver of this device.
    Transmitting(DeviceId),
    /// The driver of this device took it.
    Transmitted(DeviceId),
}

/// How a generation was seen to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// `consume_skb`, or `kfree_skb` with a reason that says the same.
    Consumed,
    /// `kfree_skb` with a reason to drop.
    Freed { reason: u32, location: psc_formats::event::SymbolId },
}

/// One generation of an skb address.
#[derive(Debug, Default)]
pub(super) struct Generation {
    pub(super) id: JourneyId,
    pub(super) skb: SkbId,
    pub(super) steps: Vec<Event>,
    pub(super) headers: Vec<(u32, Headers)>,
    pub(super) flow: Option<FiveTuple>,
    pub(super) content: u32,
    pub(super) ambiguous: Option<Ambiguity>,
    pub(super) lineage: Vec<Edge>,
    pub(super) stage: Stage,
    pub(super) end: Option<End>,
    /// Its bytes reached a reader.
    pub(super) copied: bool,
    /// A clone of it reached the reader of a raw socket.
    pub(super) clone_read: bool,
    /// It joined another journey as a clone: it is no packet of its own.
    pub(super) is_clone: bool,
    /// Opened without a birth, and still to be told whether it is a clone.
    pub(super) undecided: bool,
    /// It was copied to a reader that is no mere watcher, while undecided.
    pub(super) read: bool,
    /// Cut or copied from another: counted there.
    pub(super) is_part: bool,
    /// Its place among the hosts that its journey leads over, from 0.
    pub(super) part: u32,
    /// It goes on as part of another skb, whether or not its own end is seen.
    pub(super) goes_on: bool,
    /// The datagram that it was last seen to be a fragment of.
    pub(super) datagram: Option<datagrams::Key>,
    /// The socket that it was queued in, 0 for none.
    pub(super) queued_in: SockId,
    /// A copy of it has been found already.
    pub(super) copy_found: bool,
    /// Unfinished transmits that name it.
    pub(super) transmits: u32,
    /// Calls of probed functions that have not returned.
    pub(super) calls: u32,
    /// Steps that are of function probes.
    pub(super) function_steps: u32,
    /// Kept after its end, until a clone could have been read.
    pub(super) waiting: bool,
    /// Closed, to be told and then cleared: gets no more events.
    pub(super) closing: bool,
    pub(super) last_at: Ns,
    pub(super) last_cpu: u16,
    older: u32,
    newer: u32,
}

impl Generation {
    /// The last headers known.
    pub(super) fn last_headers(&self) -> Option<&Headers> {
        self.headers.last().map(|(_, headers)| headers)
    }

    /// Joins it to another, once for each kind.
    pub(super) fn join(&mut self, how: Lineage, of: JourneyId, evidence: Evidence) {
        if of == self.id {
            return;
        }
        let known = self.lineage.iter_mut().find(|edge| edge.how == how && edge.of == of);
        if let Some(known) = known {
            known.evidence = known.evidence.max(evidence);
        } else if self.lineage.len() < MAX_EDGES {
            self.lineage.push(Edge { how, of, evidence });
        }
    }

    fn clear(&mut self) {
        let mut steps = std::mem::take(&mut self.steps);
        let mut headers = std::mem::take(&mut self.headers);
        let mut lineage = std::mem::take(&mut self.lineage);
        steps.clear();
        headers.clear();
        lineage.clear();
        // One long journey must not keep its memory for ever.
        steps.shrink_to(64);
        headers.shrink_to(16);
        *self = Self { steps, headers, lineage, ..Self::default() };
    }
}

/// Generations by slot. Slots are reused, and so are the buffers in them.
#[derive(Debug)]
pub(super) struct Slab {
    slots: Vec<Generation>,
    free: Vec<u32>,
    oldest: u32,
    newest: u32,
    live: usize,
}

impl Default for Slab {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), oldest: NONE, newest: NONE, live: 0 }
    }
}

impl Slab {
    pub(super) fn get(&self, slot: u32) -> &Generation {
        &self.slots[slot as usize]
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> &mut Generation {
        &mut self.slots[slot as usize]
    }

    /// Whether `slot` still is journey `id`, and open to events.
    pub(super) fn holds(&self, slot: u32, id: JourneyId) -> bool {
        self.slots
            .get(slot as usize)
            .is_some_and(|generation| generation.id == id && !generation.closing)
    }

    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// The slot that has been quiet for longest.
    pub(super) fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// Slots that are open, quietest first.
    pub(super) fn open_slots(&self) -> impl Iterator<Item = u32> + '_ {
        let mut next = self.oldest;
        std::iter::from_fn(move || {
            let slot = (next != NONE).then_some(next)?;
            next = self.slots[slot as usize].newer;
            Some(slot)
        })
    }

    /// A cleared slot, linked as the newest.
    pub(super) fn open(&mut self) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Generation::default());
            (self.slots.len() - 1) as u32
        });
        self.live += 1;
        self.link(slot);
        slot
    }

    /// Moves a slot to the newest end.
    pub(super) fn touch(&mut self, slot: u32) {
        if self.newest != slot {
            self.unlink(slot);
            self.link(slot);
        }
    }

    /// Takes a slot out of the live ones; its content stays until [`Self::free`].
    pub(super) fn close(&mut self, slot: u32) {
        self.unlink(slot);
        self.slots[slot as usize].closing = true;
        self.live -= 1;
    }

    /// Clears a closed slot for reuse.
    pub(super) fn free(&mut self, slot: u32) {
        self.slots[slot as usize].clear();
        self.free.push(slot);
    }

    fn link(&mut self, slot: u32) {
        let newest = self.newest;
        let generation = &mut self.slots[slot as usize];
        generation.older = newest;
        generation.newer = NONE;
        match newest {
            NONE => self.oldest = slot,
            newest => self.slots[newest as usize].newer = slot,
        }
        self.newest = slot;
    }

    fn unlink(&mut self, slot: u32) {
        let (older, newer) = {
            let generation = &self.slots[slot as usize];
            (generation.older, generation.newer)
        };
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
    }
}
