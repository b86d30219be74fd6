//! ICMP errors as they came by, and the TTLs that a path was tried with.

use std::net::IpAddr;

use psc_formats::packet::{Headers, Network, Transport};
use psc_formats::{Event, FiveTuple};

use super::{KEYS, Times};
use crate::bounded::Bounded;
use crate::engine::{ClosedJourney, JourneyId, Outcome};

/// An ICMP error message, of either version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::diagnosis) struct IcmpError {
    pub(in crate::diagnosis) v6: bool,
    pub(in crate::diagnosis) kind: u8,
    pub(in crate::diagnosis) code: u8,
    /// Who sent it.
    pub(in crate::diagnosis) sender: IpAddr,
    /// The flow it is about; the source port is left out so that attempts add up.
    pub(in crate::diagnosis) about: FiveTuple,
}

impl IcmpError {
    /// Fragmentation needed, or packet too big.
    pub(in crate::diagnosis) fn too_big(&self) -> bool {
        matches!((self.v6, self.kind, self.code), (false, 3, 4) | (true, 2, _))
    }
}

/// Packets from one host to another, by the TTLs with which they set out.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::diagnosis) struct Trail {
    /// Bit n: TTL n was seen, up to 63.
    ttls: u64,
}

impl Trail {
    /// Whether these are a traceroute's probes: TTLs one after another from a low one.
    pub(in crate::diagnosis) fn is_traceroute(self) -> bool {
        (self.ttls & self.ttls >> 1).count_ones() >= 1 && self.ttls & 0xffff != 0
    }
}

/// ICMP errors and trails.
#[derive(Debug)]
pub(in crate::diagnosis) struct Errors {
    seen: Bounded<IcmpError, Times>,
    /// Errors that were dropped on their way.
    lost: Bounded<IcmpError, Times>,
    trails: Bounded<(IpAddr, IpAddr), Trail>,
}

impl Default for Errors {
    fn default() -> Self {
        Self { seen: Bounded::new(KEYS), lost: Bounded::new(KEYS), trails: Bounded::new(KEYS) }
    }
}

/// The error that a packet is, if it is one.
fn error(headers: &Headers) -> Option<IcmpError> {
    let Transport::Icmp(icmp) = headers.transport else { return None };
    let v6 = matches!(headers.network, Network::V6(_));
    let is_error = if v6 { icmp.icmp_type < 128 } else { matches!(icmp.icmp_type, 3 | 11 | 12) };
    if !is_error {
        return None;
    }
    let about = FiveTuple { sport: 0, ..icmp.quoted?.tuple };
    let (sender, _) = headers.addresses()?;
    Some(IcmpError { v6, kind: icmp.icmp_type, code: icmp.code, sender, about })
}

impl Errors {
    pub(super) fn packet(&mut self, event: &Event, headers: &Headers, journey: Option<JourneyId>) {
        if let Some(error) = error(headers) {
            self.seen.entry_or_forget(error, Times::default).add(
                event.at.0,
                1,
                journey.map(|id| id.0),
            );
        } else if let (Some(ends), Some(ttl @ 1..=63)) = (headers.addresses(), headers.ttl())
            && ttl < 40
        {
            self.trails.entry_or_forget(ends, Trail::default).ttls |= 1 << ttl;
        }
    }

    pub(super) fn journey(&mut self, journey: &ClosedJourney) {
        if matches!(journey.outcome, Outcome::Dropped { .. })
            && let Some((_, headers)) = journey.headers.last()
            && let Some(error) = error(headers)
        {
            let at = journey.steps.last().map_or(0, |step| step.at.0);
            self.lost.entry_or_forget(error, Times::default).add(at, 1, Some(journey.id.0));
        }
    }

    pub(in crate::diagnosis) fn all(&self) -> Vec<(&IcmpError, &Times)> {
        super::sorted(&self.seen)
    }

    pub(in crate::diagnosis) fn lost(&self) -> Vec<(&IcmpError, &Times)> {
        super::sorted(&self.lost)
    }

    pub(in crate::diagnosis) fn is_traceroute(&self, src: IpAddr, dst: IpAddr) -> bool {
        self.trails.get(&(src, dst)).is_some_and(|trail| trail.is_traceroute())
    }
}
