//! Segments that software GSO cuts, told by what their CPU did just before.
//!
//! `validate_xmit_skb` cuts a GSO skb, consumes it and sends the segments at once on the same CPU. A segment
//! has no birth: its first event is the driver's start, at an address that is free or whose last
//! generation has never been queued again.

use std::collections::VecDeque;

use psc_formats::packet::Headers;
use psc_formats::{Event, EventKind, FiveTuple, Ns};

use super::Journeys;
use super::generation::Stage;
use crate::engine::JourneyId;

/// GSO skbs of one CPU whose segments are expected; a qdisc hands over at most this many at once
/// (`dev_tx_weight`).
const MAX_CUT: usize = 64;

/// How long after its parent was seen a segment may start, nanoseconds of event time: it is sent by the
/// same call.
const WINDOW: u64 = 100_000_000;

/// A GSO skb whose segments are expected on a CPU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    id: JourneyId,
    flow: Option<FiveTuple>,
    /// TCP sequence number of its first byte, and its payload bytes.
    bytes: Option<(u32, u32)>,
    /// Segments still to come; `u32::MAX` when the skb does not say how many.
    left: u32,
    at: Ns,
}

impl Cut {
    /// Whether a packet with these headers can be one of its segments.
    fn has(&self, headers: Option<&Headers>) -> bool {
        let Some(headers) = headers else { return true };
        let within = match (self.bytes, headers.tcp()) {
            (Some((first, payload)), Some(tcp)) => tcp.seq.wrapping_sub(first) < payload.max(1),
            _ => true,
        };
        within && (self.flow.is_none() || headers.tuple() == self.flow)
    }
}

/// What each CPU is cutting.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    by_cpu: Vec<VecDeque<Cut>>,
}

impl Cuts {
    fn of(&mut self, cpu: u16) -> &mut VecDeque<Cut> {
        let cpu = cpu as usize;
        if self.by_cpu.len() <= cpu {
            self.by_cpu.resize_with(cpu + 1, VecDeque::new);
        }
        &mut self.by_cpu[cpu]
    }

    /// Forgets what `cpu` was cutting.
    pub(super) fn forget(&mut self, cpu: u16) {
        if let Some(cuts) = self.by_cpu.get_mut(cpu as usize) {
            cuts.clear();
        }
    }

    /// Whether a segment may start on `cpu` now.
    pub(super) fn expects(&self, cpu: u16, now: Ns) -> bool {
        let cuts = self.by_cpu.get(cpu as usize);
        cuts.is_some_and(|cuts| cuts.iter().any(|cut| now.0.saturating_sub(cut.at.0) <= WINDOW))
    }
}

impl Journeys {
    /// Notes what an event says about segments to come.
    pub(super) fn note_cut(&mut self, slot: u32, event: &Event) {
        let generation = self.slab.get(slot);
        let id = generation.id;
        match event.kind {
            // Each is handed to the driver before the next is taken from the queue.
            EventKind::DeviceQueue {} | EventKind::QdiscDequeue { .. } => {
                let whole = event.gso.size == 0;
                self.cuts.forget(event.cpu);
                if whole {
                    return;
                }
            }
            // One of several that a queue handed over at once.
            EventKind::Consume { .. } => {
                let known = |cut: &Cut| cut.id == id;
                let queued = generation.stage == Stage::Queued && event.gso.size != 0;
                if !queued || self.cuts.of(event.cpu).iter().any(known) {
                    return;
                }
            }
            // The driver cuts it by itself.
            EventKind::TransmitStart {} => {
                if let Some(cuts) = self.cuts.by_cpu.get_mut(event.cpu as usize) {
                    cuts.retain(|cut| cut.id != id);
                }
                return;
            }
            _ => return,
        }
        let generation = self.slab.get(slot);
        let headers = generation.last_headers();
        let payload = headers.and_then(|headers| {
            // More than 64 KiB has no length in its header (BIG TCP).
            let payload = if headers.payload_len > 0 { headers.payload_len } else { event.len };
            Some((headers.tcp()?.seq, payload))
        });
        let cut = Cut {
            id,
            flow: headers.and_then(Headers::tuple),
            bytes: payload,
            left: match event.gso.segs {
                0 => u32::MAX,
                segments => u32::from(segments),
            },
            at: event.at,
        };
        let cuts = self.cuts.of(event.cpu);
        cuts.push_back(cut);
        if cuts.len() > MAX_CUT {
            cuts.pop_front();
        }
    }

    /// Whether `event` starts a segment although its address has a generation: nobody has queued that
    /// since it was received or sent, and this CPU is cutting a GSO skb.
    pub(super) fn starts_segment(&self, event: &Event, current: u32) -> bool {
        let generation = self.slab.get(current);
        let idle = matches!(
            generation.stage,
            Stage::Received(_) | Stage::Transmitted(_) | Stage::Arriving | Stage::New
        );
        let steps = generation.steps.len() as u32 > generation.function_steps;
        matches!(event.kind, EventKind::TransmitStart {})
            && idle
            && steps
            && self.cuts.expects(event.cpu, event.at)
    }

    /// The GSO skb that this CPU is sending, when `event` starts one of its segments.
    pub(super) fn segmented_by(
        &mut self,
        event: &Event,
        headers: Option<&Headers>,
    ) -> Option<JourneyId> {
        if !matches!(event.kind, EventKind::TransmitStart {}) {
            return None;
        }
        let cuts = self.cuts.by_cpu.get_mut(event.cpu as usize)?;
        cuts.retain(|cut| event.at.0.saturating_sub(cut.at.0) <= WINDOW);
        let at = cuts.iter().position(|cut| cut.has(headers))?;
        let cut = &mut cuts[at];
        let id = cut.id;
        cut.left = cut.left.saturating_sub(u32::from(cut.left != u32::MAX));
        if cut.left == 0 {
            cuts.remove(at);
        }
        Some(id)
    }
}
