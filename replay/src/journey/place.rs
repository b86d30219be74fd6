//! Which generation an event belongs to.

use psc_formats::event::DeviceId;
use psc_formats::packet::Headers;
use psc_formats::{Event, EventKind, Ns, SkbAddr, Tables};

use super::generation::{NONE, Stage};
use super::twins::Twin;
use super::{Journeys, MAX_STEPS, clones};
use crate::engine::Ambiguity;

impl Journeys {
    /// The generation that `event` belongs to, and whether the event opened it.
    pub(super) fn place(
        &mut self,
        event: &Event,
        headers: Option<&Headers>,
        bytes: &[u8],
        tables: &Tables,
    ) -> Option<(u32, bool)> {
        if let EventKind::DataReady {} | EventKind::SockReceive { .. } = event.kind {
            return self.in_socket(event, tables).map(|slot| (slot, false));
        }
        if event.skb == SkbAddr(0) {
            return None;
        }
        let current = self.current(event.skb);
        if let EventKind::TransmitDone { .. } = event.kind {
            return self.answered(event, current).map(|slot| (slot, false));
        }
        if let EventKind::Retransmit { .. } | EventKind::RetransmitFailed { .. } = event.kind {
            return None;
        }
        let nested = self.nested(event);
        let identity = || clones::identity(event.content, headers, bytes);

        if nested.is_none() && self.is_birth(event, current, tables) {
            let identity = identity();
            if let Some(old) = current {
                self.close(old);
            }
            let slot = self.open(event);
            if identity != 0 {
                self.join_copy(slot, event, identity, tables);
                let id = self.slab.get(slot).id;
                self.twins.insert(self.now, identity, Twin { id, slot });
            }
            return Some((slot, true));
        }
        if nested.is_none()
            && let Some(old) = current
            && self.starts_segment(event, old)
        {
            self.close(old);
            return self.open_unborn(event, identity(), headers, tables);
        }
        if let Some(slot) = nested.or(current) {
            let generation = self.slab.get(slot);
            let full = generation.steps.len() - generation.function_steps as usize >= MAX_STEPS;
            if !full && (self.rewrites(slot, event, nested.is_some()) || self.fits(slot, event)) {
                let opens = self.slab.get(slot).undecided
                    && self.decide(slot, event, identity(), headers, tables);
                return Some((slot, opens));
            }
            self.close(slot);
            let (slot, opens) = self.open_unborn(event, identity(), headers, tables)?;
            let generation = self.slab.get_mut(slot);
            if !full && generation.ambiguous == Some(Ambiguity::BirthNotObserved) {
                generation.ambiguous = Some(Ambiguity::ContentContradicts);
            }
            return Some((slot, opens && !full));
        }
        self.open_unborn(event, identity(), headers, tables)
    }

    /// The open generation of an address.
    pub(super) fn current(&self, skb: SkbAddr) -> Option<u32> {
        self.addresses.get(&skb).map(|address| address.slot).filter(|&slot| slot != NONE)
    }

    /// The generation that this CPU is inside a transmit of, if it is `event`'s skb and not freed.
    pub(super) fn nested(&self, event: &Event) -> Option<u32> {
        self.transmits
            .of(event.cpu)
            .find(|transmit| transmit.skb == event.skb)
            .filter(|transmit| self.slab.holds(transmit.slot, transmit.id))
            .map(|transmit| transmit.slot)
            .filter(|&slot| self.slab.get(slot).end.is_none())
    }

    /// Whether `event`, not inside a transmit of its skb, is the first of a new packet.
    pub(super) fn is_birth(&self, event: &Event, current: Option<u32>, tables: &Tables) -> bool {
        let stage = current.map(|slot| self.slab.get(slot).stage);
        match event.kind {
            EventKind::DeviceQueue {} => {
                event.iif == 0
                    || current.is_some_and(|slot| self.cannot_be_sent(slot, event, tables))
            }
            EventKind::BacklogQueue {} | EventKind::GroReceive {} => match stage {
                Some(Stage::Transmitted(from)) => !clones::are_peers(from, event.device, tables),
                Some(Stage::Received(_)) => !clones::is_tunnel(event.device, tables),
                _ => true,
            },
            EventKind::Receive {} => {
                current.is_none_or(|slot| !self.receives_again(slot, event, tables))
            }
            _ => false,
        }
    }

    /// Whether the packet in `slot`, once received, cannot be what is queued to a device now: it was read, or it
    /// is in another namespace, which only a device that receives it again would take it out of.
    fn cannot_be_sent(&self, slot: u32, event: &Event, tables: &Tables) -> bool {
        let generation = self.slab.get(slot);
        let Stage::Received(device) = generation.stage else { return false };
        let namespace = |device| tables.devices.get(&device).map_or(0, |device| device.netns);
        let (from, to) = (namespace(device), namespace(event.device));
        generation.copied || from != 0 && to != 0 && from != to
    }

    /// Whether a `Receive` of the skb in `slot` can be of the packet that it was.
    pub(super) fn receives_again(&self, slot: u32, event: &Event, tables: &Tables) -> bool {
        let generation = self.slab.get(slot);
        let through = match generation.stage {
            // Merged by GRO into another, which the stack got instead.
            Stage::Arriving if generation.goes_on => return false,
            Stage::New | Stage::Arriving | Stage::Queued | Stage::Transmitting(_) => return true,
            // Once read, or received on that device, it is not received there again.
            Stage::Received(_) if generation.copied => return false,
            Stage::Received(device) if device == event.device && device != DeviceId(0) => {
                return false;
            }
            Stage::Received(_) => clones::is_upper(event.device, tables),
            Stage::Transmitted(from) => clones::returns(from, event.device, tables),
        };
        // Anything can be redirected anywhere; then it still looks the same.
        through || event.content != 0 && event.content == generation.content
    }

    /// Whether the stack may have made another packet of this skb at `event`, which then is the same
    /// generation whatever its content: a tunnel device sending or receiving it, decryption, or the
    /// last fragment's skb that carries the whole datagram on. Takes the new content over.
    pub(super) fn rewrites(&mut self, slot: u32, event: &Event, nested: bool) -> bool {
        let generation = self.slab.get_mut(slot);
        let arrives = matches!(event.kind, EventKind::BacklogQueue {} | EventKind::GroReceive {});
        let opened = || {
            matches!(generation.stage, Stage::Received(_))
                && generation.last_headers().is_some_and(clones::may_be_unwrapped)
        };
        let rewrites = nested || arrives || opened();
        if rewrites && event.content != 0 {
            generation.content = event.content;
        }
        rewrites
    }

    /// Whether `event` can belong to the generation in `slot`; marks what is doubtful.
    pub(super) fn fits(&mut self, slot: u32, event: &Event) -> bool {
        let gap_after = |cpu: u16, at: Ns| self.gaps.get(cpu as usize).is_some_and(|gap| *gap > at);
        let generation = self.slab.get(slot);
        let known = event.content != 0 && generation.content != 0;
        if known && event.content != generation.content {
            return false;
        }
        // `skb_iif` is set when a packet is received and stays. A free without one, of an skb that was
        // received, is of a packet made here that never reached a probe.
        let made_here = matches!(event.kind, EventKind::Free { .. }) && event.iif == 0;
        if made_here && !known && matches!(generation.stage, Stage::Received(_)) {
            return false;
        }
        let lost = !known
            && (gap_after(event.cpu, generation.last_at)
                || gap_after(generation.last_cpu, generation.last_at));
        let generation = self.slab.get_mut(slot);
        if generation.content == 0 {
            generation.content = event.content;
        }
        if lost {
            generation.ambiguous.get_or_insert(Ambiguity::LossWhileOpen);
        }
        true
    }

    /// The generation that a driver's answer is about.
    pub(super) fn answered(&mut self, event: &Event, current: Option<u32>) -> Option<u32> {
        let mut finished = std::mem::take(&mut self.finished);
        self.transmits.finish(event.cpu, event.skb, &mut finished);
        let found = finished
            .first()
            .filter(|transmit| self.slab.holds(transmit.slot, transmit.id))
            .map(|transmit| transmit.slot);
        for transmit in finished.drain(..) {
            self.forget(transmit, found);
        }
        self.finished = finished;
        // After lost events the CPU's transmits are forgotten; the generation still tells.
        let found = found.or_else(|| {
            current.filter(|&slot| {
                let generation = self.slab.get(slot);
                matches!(generation.stage, Stage::Transmitting(_))
                    && generation.last_cpu == event.cpu
            })
        });
        self.counts.unattributed += u64::from(found.is_none());
        found
    }
}
