//! Counting each packet once, however many probes and devices saw it.

use psc_formats::EventKind;
use psc_formats::packet::{Headers, Network};
use rustc_hash::FxHashSet;

use crate::engine::{ClosedJourney, JourneyId, Sighting};

/// Which way a packet was going where it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Direction {
    Ingress,
    Egress,
    /// A capture that does not say.
    Unknown,
}

impl Direction {
    /// The direction that an event of this kind tells; `None` for kinds at which a packet is not
    /// on its way between a device and the stack.
    pub(crate) fn of(kind: &EventKind) -> Option<Self> {
        Some(match kind {
            EventKind::Captured { direction: 1 }
            | EventKind::GroReceive {}
            | EventKind::BacklogQueue {}
            | EventKind::Receive {} => Self::Ingress,
            EventKind::Captured { direction: 2 }
            | EventKind::DeviceQueue {}
            | EventKind::QdiscEnqueue { .. }
            | EventKind::QdiscDequeue { .. }
            | EventKind::TransmitStart {} => Self::Egress,
            EventKind::Captured { .. } => Self::Unknown,
            _ => return None,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::Unknown => "unknown",
        }
    }
}

/// Picks, of all sightings of a journey, the first on its way that shows headers.
///
/// A journey that only ever shows up at a socket (the raw-socket clone that each ping makes) is
/// therefore no packet of its own; one that was dropped before any device is handed back by
/// [`FirstSight::never_counted`].
#[derive(Debug, Default)]
pub(crate) struct FirstSight {
    /// Open journeys not yet counted; journeys close, so this is as bounded as they are.
    waiting: FxHashSet<JourneyId>,
}

impl FirstSight {
    /// The packet's headers and direction, when this sighting is the one to count.
    pub(crate) fn packet<'a>(
        &mut self,
        sighting: &Sighting<'a>,
    ) -> Option<(&'a Headers, Direction)> {
        let seen = Direction::of(&sighting.event.kind)
            .and_then(|direction| Some((sighting.headers?, direction)));
        match sighting.journey {
            None => seen.filter(|_| matches!(sighting.event.kind, EventKind::Captured { .. })),
            Some(_) if sighting.opens && seen.is_some() => seen,
            Some(journey) if sighting.opens => {
                self.waiting.insert(journey);
                None
            }
            Some(journey) => seen.filter(|_| self.waiting.remove(&journey)),
        }
    }

    /// Forgets a closed journey; true when none of its sightings had been counted.
    pub(crate) fn never_counted(&mut self, journey: &ClosedJourney) -> bool {
        !self.waiting.is_empty() && self.waiting.remove(&journey.id)
    }
}

/// IP bytes of the packet: the length its header claims, else (a segment too large for the length
/// field, RFC 2675) what the event says.
pub(crate) fn ip_bytes(headers: &Headers, len: u32) -> u64 {
    match headers.network {
        Network::V4(ip) if ip.total_len > 0 => u64::from(ip.total_len),
        Network::V6(ip) if ip.payload_len > 0 => 40 + u64::from(ip.payload_len),
        _ => u64::from(len),
    }
}
