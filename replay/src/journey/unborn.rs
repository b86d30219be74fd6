//! Generations that start in the middle, and generations that come from another one: clones, copies,
//! segments.

use psc_formats::packet::Headers;
use psc_formats::{Event, EventKind, Tables};

use super::generation::Stage;
use super::twins::Twin;
use super::{Journeys, clones};
use crate::engine::{Ambiguity, Evidence, Lineage};

impl Journeys {
    /// Opens a generation whose birth was not seen.
    pub(super) fn open_unborn(
        &mut self,
        event: &Event,
        identity: u64,
        headers: Option<&Headers>,
        tables: &Tables,
    ) -> Option<(u32, bool)> {
        let ends = matches!(event.kind, EventKind::Free { .. } | EventKind::Consume { .. });
        // Sockets of other families free skbs, too; without content it is no packet.
        if ends && event.content == 0 && headers.is_none() {
            return None;
        }
        let slot = self.open(event);
        self.slab.get_mut(slot).undecided = true;
        let opens = self.decide(slot, event, identity, headers, tables);
        Some((slot, opens))
    }

    /// Decides what a generation without a birth is: a clone, a segment, or a packet; whether it
    /// counts as opened here. A reader's copy shows its bytes only when it is freed, so that may
    /// have to wait.
    pub(super) fn decide(
        &mut self,
        slot: u32,
        event: &Event,
        identity: u64,
        headers: Option<&Headers>,
        tables: &Tables,
    ) -> bool {
        let id = self.slab.get(slot).id;
        let read = self.slab.get(slot).read || clones::is_read(event, tables);
        let ends = matches!(event.kind, EventKind::Free { .. } | EventKind::Consume { .. });
        let copies = matches!(event.kind, EventKind::CopyToUser { .. });
        let twin = if identity == 0 { None } else { self.twins.get(identity) };
        let twin = twin.filter(|_| {
            copies || self.slab.get(slot).copied || clones::can_be_clone(event, tables)
        });
        if let Some(twin) = twin {
            if read && self.slab.holds(twin.slot, twin.id) {
                let original = self.slab.get_mut(twin.slot);
                original.clone_read = true;
                original.waiting = false;
                self.close_if_over(twin.slot);
            }
            self.slab.get_mut(slot).join(Lineage::Clone, twin.id, Evidence::Content);
        }
        let generation = self.slab.get_mut(slot);
        if twin.is_some() || clones::only_clones(event, tables) {
            generation.is_clone = true;
            generation.undecided = false;
            return true;
        }
        if copies && headers.is_none() {
            generation.read = read;
            return false;
        }
        generation.undecided = false;
        if let Some(parent) = self.segmented_by(event, headers) {
            let generation = self.slab.get_mut(slot);
            generation.join(Lineage::Segment, parent, Evidence::Content);
            generation.is_part = true;
            return true;
        }
        // What waits in a socket's queue and was not seen to come is a raw socket's clone, or is older
        // than the recording; either way this is not where a packet was lost.
        if matches!(event.kind, EventKind::Free { reason, .. } if self.queue_purge == Some(reason))
        {
            let generation = self.slab.get_mut(slot);
            generation.is_clone = true;
            generation.ambiguous = Some(Ambiguity::BirthNotObserved);
            return true;
        }
        let before = self.slab.get(slot);
        let first = before.steps.len() == before.function_steps as usize;
        let made_here = ends && event.iif == 0 && first;
        if !(made_here && matches!(event.kind, EventKind::Free { .. })) {
            self.slab.get_mut(slot).ambiguous = Some(Ambiguity::BirthNotObserved);
        }
        if identity != 0 {
            self.twins.insert(self.now, identity, Twin { id, slot });
        }
        true
    }

    /// Joins the generation just opened by `event` to the one that a veth peer with XDP copied.
    pub(super) fn join_copy(&mut self, slot: u32, event: &Event, identity: u64, tables: &Tables) {
        if !matches!(event.kind, EventKind::GroReceive {} | EventKind::Receive {}) {
            return;
        }
        let Some(twin) = self.twins.get(identity) else { return };
        if !self.slab.holds(twin.slot, twin.id) || self.slab.get(twin.slot).copy_found {
            return;
        }
        let (Stage::Transmitted(from) | Stage::Transmitting(from)) = self.slab.get(twin.slot).stage
        else {
            return;
        };
        if clones::are_peers(from, event.device, tables) {
            self.slab.get_mut(twin.slot).copy_found = true;
            let generation = self.slab.get_mut(slot);
            generation.join(Lineage::Copy, twin.id, Evidence::Content);
            generation.is_part = true;
        }
    }
}
