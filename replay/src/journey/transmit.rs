//! Unfinished transmits of each CPU.
//!
//! `net_dev_xmit` fires after the driver returned. By then the skb may have been freed and its
//! address born again on another CPU, so the answer belongs to what `net_dev_start_xmit` named on
//! this CPU, and never to what the address means now.

use psc_formats::SkbAddr;

use crate::engine::JourneyId;

/// Transmits nested on one CPU. The kernel allows ten (`XMIT_RECURSION_LIMIT` is 8, plus the stack
/// of devices); more is a recording that lost the answers.
const MAX_DEPTH: usize = 32;

/// One unfinished transmit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transmit {
    pub(super) skb: SkbAddr,
    pub(super) slot: u32,
    pub(super) id: JourneyId,
}

/// Unfinished transmits by CPU, innermost last.
#[derive(Debug, Default)]
pub(super) struct Transmits {
    by_cpu: Vec<Vec<Transmit>>,
}

impl Transmits {
    /// Unfinished transmits of `cpu`, innermost first.
    pub(super) fn of(&self, cpu: u16) -> impl Iterator<Item = &Transmit> {
        self.by_cpu.get(cpu as usize).into_iter().flat_map(|stack| stack.iter().rev())
    }

    /// Starts one. Returns the one that had to be forgotten because too many are unfinished.
    pub(super) fn start(&mut self, cpu: u16, transmit: Transmit) -> Option<Transmit> {
        let cpu = cpu as usize;
        if self.by_cpu.len() <= cpu {
            self.by_cpu.resize_with(cpu + 1, Vec::new);
        }
        let stack = &mut self.by_cpu[cpu];
        let forgotten = (stack.len() >= MAX_DEPTH).then(|| stack.remove(0));
        stack.push(transmit);
        forgotten
    }

    /// Finishes the innermost transmit of `skb` on `cpu`, appending it and then those inside it
    /// (whose answers were lost) to `finished`.
    pub(super) fn finish(&mut self, cpu: u16, skb: SkbAddr, finished: &mut Vec<Transmit>) {
        let Some(stack) = self.by_cpu.get_mut(cpu as usize) else { return };
        if let Some(at) = stack.iter().rposition(|transmit| transmit.skb == skb) {
            finished.extend(stack.drain(at..));
        }
    }

    /// Forgets all of `cpu`: after lost events its stack cannot be trusted.
    pub(super) fn forget(&mut self, cpu: u16, finished: &mut Vec<Transmit>) {
        if let Some(stack) = self.by_cpu.get_mut(cpu as usize) {
            finished.append(stack);
        }
    }
}
