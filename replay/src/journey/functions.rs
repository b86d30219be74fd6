//! Events of function probes and netfilter links: they join journeys and never make or change one.
//!
//! What an event of tier 1 means is decided as if these were not there, so that a recording with functions,
//! without its functions, is the recording that tier 1 makes. An entry joins the generation that its address
//! has. Where there is none, or where the sending half of the stack starts over with an address whose last
//! packet was not seen to end, it waits in a *prelude* for the event of tier 1 that will say whose it is: all that
//! happens to a packet between the socket and the device's queue comes before its birth.
//!
//! A return belongs to the packet that the function was entered with, whatever its address means by then: a
//! generation stays until the calls it was given to have returned.

use std::collections::VecDeque;

use psc_formats::{Event, EventKind, Ns, ProbeId, SkbAddr};
use rustc_hash::{FxHashMap, FxHashSet};

use super::generation::Stage;
use super::{IDLE, Journeys, Placed};
use crate::engine::JourneyId;

/// Calls that have not returned, at most; beyond, all are forgotten.
const MAX_CALLS: usize = 1 << 17;

/// Events waiting for their packet's birth, at most.
const MAX_WAITING: usize = 1 << 18;

/// Events of functions in one journey, at most.
const MAX_STEPS: u32 = 4096;

/// A call: the probe, when it was entered, and with which skb.
type Call = (ProbeId, Ns, SkbAddr);

#[derive(Debug)]
struct Inside {
    slot: u32,
    id: JourneyId,
    cpu: u16,
}

/// Calls under way, and events that wait for a birth.
#[derive(Debug, Default)]
pub(super) struct Functions {
    calls: FxHashMap<Call, Inside>,
    preludes: FxHashMap<SkbAddr, Vec<Event>>,
    /// Preludes by age; one that was taken is stale here.
    ages: VecDeque<(Ns, SkbAddr)>,
    waiting: usize,
}

fn expects_return(event: &Event) -> bool {
    matches!(event.kind, EventKind::FunctionEntry { returns: 1.., .. })
}

/// When the function that an event tells the return of was entered.
fn entered(event: &Event) -> Option<u64> {
    match event.kind {
        EventKind::FunctionReturn { elapsed, .. } => Some(event.at.0.saturating_sub(elapsed)),
        _ => None,
    }
}

impl Journeys {
    /// Places an event of a function probe or netfilter link.
    #[allow(clippy::result_large_err, reason = "the event goes back to whoever moved it in")]
    pub(super) fn admit_function(&mut self, event: Event) -> Result<Placed, Event> {
        self.expire_preludes();
        if event.skb == SkbAddr(0) {
            return Err(event);
        }
        if let Some(entered) = entered(&event) {
            return self.returned(event, Ns(entered));
        }
        let waits = self.functions.preludes.contains_key(&event.skb);
        let current = self.nested(&event).or_else(|| self.current(event.skb));
        match current {
            Some(slot) if !waits && !self.starts_over(slot, &event) => {
                let inside = expects_return(&event);
                Ok(self.add_function(slot, event, inside))
            }
            _ => {
                self.wait(event);
                Err(event)
            }
        }
    }

    /// Whether a packet that is being made has the address of one whose end was not seen.
    fn starts_over(&self, slot: u32, event: &Event) -> bool {
        let over = match self.slab.get(slot).stage {
            Stage::Transmitted(_) | Stage::Received(_) => true,
            Stage::New | Stage::Arriving | Stage::Queued | Stage::Transmitting(_) => false,
        };
        let sends = event.iif == 0 && event.device.0 == 0 && event.sock.0 != 0;
        over && sends && self.nested(event).is_none()
    }

    /// Makes the event the last step; `inside` says that the packet stays in the function it names.
    fn add_function(&mut self, slot: u32, event: Event, inside: bool) -> Placed {
        let generation = self.slab.get_mut(slot);
        let id = generation.id;
        if generation.function_steps >= MAX_STEPS {
            self.counts.functions_unplaced += 1;
            return Placed { slot, id, opens: false, packet: false };
        }
        generation.function_steps += 1;
        generation.steps.push(event);
        generation.last_at = generation.last_at.max(event.at);
        let packet = !generation.is_clone && !generation.is_part;
        self.steps_held += 1;
        self.slab.touch(slot);
        if inside {
            if self.functions.calls.len() >= MAX_CALLS {
                self.forget_calls(None);
            }
            self.slab.get_mut(slot).calls += 1;
            let call = (event.probe, event.at, event.skb);
            self.functions.calls.insert(call, Inside { slot, id, cpu: event.cpu });
        }
        Placed { slot, id, opens: false, packet }
    }

    #[allow(clippy::result_large_err, reason = "the event goes back to whoever moved it in")]
    fn returned(&mut self, event: Event, entered: Ns) -> Result<Placed, Event> {
        let call = (event.probe, entered, event.skb);
        if let Some(inside) = self.functions.calls.remove(&call)
            && self.slab.holds(inside.slot, inside.id)
        {
            let generation = self.slab.get_mut(inside.slot);
            generation.calls = generation.calls.saturating_sub(1);
            return Ok(self.add_function(inside.slot, event, false));
        }
        let entry = |step: &Event| step.probe == event.probe && step.at == entered;
        if self.functions.preludes.get(&event.skb).is_some_and(|prelude| prelude.iter().any(entry))
        {
            self.wait(event);
        } else {
            self.counts.functions_unplaced += 1;
        }
        Err(event)
    }

    fn wait(&mut self, event: Event) {
        let functions = &mut self.functions;
        if functions.waiting >= MAX_WAITING {
            self.counts.functions_unplaced += 1;
            return;
        }
        let prelude = functions.preludes.entry(event.skb).or_default();
        if prelude.is_empty() {
            functions.ages.push_back((event.at, event.skb));
        }
        prelude.push(event);
        functions.waiting += 1;
    }

    /// Gives what waited for the address of `event` to the generation that it was placed in. What led to a
    /// birth on the receiving side, where the skb has just been filled, is not known to belong to it.
    pub(super) fn take_prelude(&mut self, slot: u32, opens: bool, event: &Event) {
        if self.functions.preludes.is_empty() {
            return;
        }
        let Some(prelude) = self.functions.preludes.remove(&event.skb) else { return };
        self.functions.waiting -= prelude.len();
        let arrives = matches!(
            event.kind,
            EventKind::GroReceive {} | EventKind::BacklogQueue {} | EventKind::Receive {}
        );
        if opens && arrives {
            self.counts.functions_unplaced += prelude.len() as u64;
            return;
        }
        // Calls that both started and ended while it waited are over.
        let over: FxHashSet<(ProbeId, u64)> =
            prelude.iter().filter_map(|step| Some((step.probe, entered(step)?))).collect();
        for step in prelude {
            let inside = expects_return(&step) && !over.contains(&(step.probe, step.at.0));
            self.add_function(slot, step, inside);
        }
    }

    fn expire_preludes(&mut self) {
        while let Some(&(since, skb)) = self.functions.ages.front()
            && since.0.saturating_add(IDLE) < self.now.0
        {
            self.functions.ages.pop_front();
            let functions = &mut self.functions;
            if functions.preludes.get(&skb).is_some_and(|prelude| prelude[0].at == since)
                && let Some(prelude) = functions.preludes.remove(&skb)
            {
                functions.waiting -= prelude.len();
                self.counts.functions_unplaced += prelude.len() as u64;
            }
        }
    }

    /// Lets go of calls whose return cannot be trusted to come: those entered on a CPU that lost events, or all.
    pub(super) fn forget_calls(&mut self, cpu: Option<u16>) {
        if self.functions.calls.is_empty() {
            return;
        }
        let mut let_go = Vec::new();
        self.functions.calls.retain(|_, inside| {
            let keep = cpu.is_some_and(|cpu| cpu != inside.cpu);
            if !keep {
                let_go.push((inside.slot, inside.id));
            }
            keep
        });
        // The map's order must not decide in which order journeys close.
        let_go.sort_unstable_by_key(|(_, id)| *id);
        for (slot, id) in let_go {
            if self.slab.holds(slot, id) {
                let generation = self.slab.get_mut(slot);
                generation.calls = generation.calls.saturating_sub(1);
                self.close_if_over(slot);
            }
        }
    }
}
