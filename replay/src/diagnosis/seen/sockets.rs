//! What sockets and devices told: errors, resets, refused calls, busy drivers, XDP.

use std::net::IpAddr;

use psc_formats::event::{DeviceId, SockId};
use psc_formats::{Context, Event, EventKind, FiveTuple};

use super::{KEYS, Times};
use crate::bounded::Bounded;

/// `TCP_*` of `include/net/tcp_states.h`.
const SYN_SENT: u8 = 2;
const CLOSE: u8 = 7;

/// `NETDEV_TX_BUSY` of `include/linux/netdevice.h`.
const TX_BUSY: i32 = 0x10;

/// A connect() that fails on its own takes no longer than this.
const AT_ONCE_NS: u64 = 20_000_000;

/// Resets sent for one reason from one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::diagnosis) struct Reset {
    /// `enum sk_rst_reason` of the recorded kernel; 0 where it has none.
    pub(in crate::diagnosis) reason: u32,
    /// Local end first.
    pub(in crate::diagnosis) tuple: FiveTuple,
}

/// A call that the kernel refused on the spot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::diagnosis) enum Refusal {
    /// connect() to (address, port) found no local port.
    NoPort(IpAddr, IpAddr, u16),
    /// send() ended with this negative errno; socket 0 unknown.
    Send(i32, u32, u32),
    /// The route says no, with this negative errno: (destination, table).
    Route(i32, IpAddr, u32, u32),
}

/// Socket and device events.
#[derive(Debug)]
pub(in crate::diagnosis) struct Sockets {
    /// Sockets in SYN_SENT: since when, to whom, and whether a packet left.
    connecting: Bounded<SockId, (u64, FiveTuple, bool)>,
    /// The last full tuple of each socket: errors come when its ports are gone.
    tuples: Bounded<SockId, FiveTuple>,
    refusals: Bounded<Refusal, Times>,
    resets: Bounded<Reset, Times>,
    busy: Bounded<DeviceId, Times>,
    timeouts: Bounded<DeviceId, Times>,
    /// XDP exceptions by action.
    exceptions: Bounded<(DeviceId, u32), Times>,
    /// Failed XDP redirects by negative errno.
    redirects: Bounded<(DeviceId, i32), Times>,
}

impl Default for Sockets {
    fn default() -> Self {
        Self {
            connecting: Bounded::new(KEYS),
            tuples: Bounded::new(16_384),
            refusals: Bounded::new(KEYS),
            resets: Bounded::new(KEYS),
            busy: Bounded::new(KEYS),
            timeouts: Bounded::new(KEYS),
            exceptions: Bounded::new(KEYS),
            redirects: Bounded::new(KEYS),
        }
    }
}

impl Sockets {
    pub(super) fn event(&mut self, event: &Event) {
        let at = event.at.0;
        let mut full = |tuple: FiveTuple| {
            if event.sock.0 == 0 {
                return tuple;
            }
            if tuple.sport != 0 && tuple.dport != 0 {
                *self.tuples.entry_or_forget(event.sock, || tuple) = tuple;
                return tuple;
            }
            self.tuples.get(&event.sock).copied().unwrap_or(tuple)
        };
        match event.kind {
            EventKind::SockState { tuple, old: CLOSE, new: SYN_SENT } => {
                // An id may come again for another socket.
                self.tuples.remove(&event.sock);
                *self.connecting.entry_or_forget(event.sock, || (at, tuple, false)) =
                    (at, tuple, false);
            }
            EventKind::SockState { old: SYN_SENT, new, tuple } => {
                full(tuple);
                let Some((since, tuple, sent)) = self.connecting.remove(&event.sock) else {
                    return;
                };
                let by_caller = matches!(event.context, Context::Task(_));
                if new == CLOSE && by_caller && !sent && at.saturating_sub(since) < AT_ONCE_NS {
                    let refusal = Refusal::NoPort(tuple.src, tuple.dst, tuple.dport);
                    self.refusals.entry_or_forget(refusal, Times::default).add(at, 1, None);
                }
            }
            EventKind::SockState { tuple, .. }
            | EventKind::SockSeen { tuple, .. }
            | EventKind::SockError { tuple, error: 1.. } => {
                full(tuple);
                self.sent(event);
            }
            EventKind::SendReset { tuple, reason } => {
                let reset = Reset { reason, tuple: full(tuple) };
                self.resets.entry_or_forget(reset, Times::default).add(at, 1, None);
            }
            EventKind::SockSend { rc: rc @ ..0 } => {
                let task = if let Context::Task(tid) = event.context { tid } else { 0 };
                let refusal = Refusal::Send(rc, event.sock.0, task);
                self.refusals.entry_or_forget(refusal, Times::default).add(at, 1, None);
            }
            EventKind::RouteLookup { tuple, table, rc: rc @ ..0, .. } => {
                let task = if let Context::Task(tid) = event.context { tid } else { 0 };
                let refusal = Refusal::Route(rc, tuple.dst, table, task);
                self.refusals.entry_or_forget(refusal, Times::default).add(at, 1, None);
            }
            EventKind::TransmitDone { rc: TX_BUSY } => {
                self.busy.entry_or_forget(event.device, Times::default).add(at, 1, None);
            }
            EventKind::TransmitTimeout { .. } => {
                self.timeouts.entry_or_forget(event.device, Times::default).add(at, 1, None);
            }
            EventKind::XdpException { action } => {
                self.exceptions
                    .entry_or_forget((event.device, action), Times::default)
                    .add(at, 1, None);
            }
            EventKind::XdpRedirect { rc: rc @ ..0, .. } => {
                self.redirects.entry_or_forget((event.device, rc), Times::default).add(at, 1, None);
            }
            _ => self.sent(event),
        }
    }

    /// A packet of a connecting socket: the call itself went well.
    fn sent(&mut self, event: &Event) {
        if event.sock.0 != 0
            && let Some(connecting) = self.connecting.get_mut(&event.sock)
        {
            connecting.2 = true;
        }
    }

    pub(in crate::diagnosis) fn refusals(&self) -> Vec<(&Refusal, &Times)> {
        super::sorted(&self.refusals)
    }

    pub(in crate::diagnosis) fn resets(&self) -> Vec<(&Reset, &Times)> {
        super::sorted(&self.resets)
    }

    pub(in crate::diagnosis) fn busy(&self) -> Vec<(&DeviceId, &Times)> {
        super::sorted(&self.busy)
    }

    pub(in crate::diagnosis) fn watchdogs(&self) -> Vec<(&DeviceId, &Times)> {
        super::sorted(&self.timeouts)
    }

    pub(in crate::diagnosis) fn exceptions(&self) -> Vec<(&(DeviceId, u32), &Times)> {
        super::sorted(&self.exceptions)
    }

    pub(in crate::diagnosis) fn redirects(&self) -> Vec<(&(DeviceId, i32), &Times)> {
        super::sorted(&self.redirects)
    }
}
