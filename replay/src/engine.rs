//! One pass over a source: order, decode, join into journeys, tell the observers.

mod pass;
mod provenance;

use psc_formats::packet::Headers;
use psc_formats::{Event, EventSource, FiveTuple, Manifest, Ns, SkbAddr, SourceError, Tables};

/// An skb that survives address reuse: address plus generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SkbId {
    /// Opaque address.
    pub addr: SkbAddr,
    /// How often this address had been born before, from 0.
    pub generation: u32,
}

/// Number of a journey in the order of first events, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JourneyId(pub u64);

/// What is known beside the events, at this point of the pass.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// How the recording was made.
    pub manifest: &'a Manifest,
    /// Facts so far. Sources may hand facts on early, so how many there are at one event depends on
    /// how the events were cut into batches: look up by id only, and draw what changes over time
    /// (sockets, counters, routes) from [`Pass::tables`] at the end.
    pub tables: &'a Tables,
    /// Time of the first event; `None` before it.
    pub start: Option<Ns>,
}

/// One event in time order with all that replay knows about it so far.
#[derive(Clone, Copy, Debug)]
pub struct Sighting<'a> {
    /// The event.
    pub event: &'a Event,
    /// Its packet bytes; empty when it carries none.
    pub bytes: &'a [u8],
    /// Headers decoded from `bytes`, else the last ones known of its journey.
    pub headers: Option<&'a Headers>,
    /// Whether `headers` come from this very event.
    pub fresh: bool,
    /// The journey, for events with an skb.
    pub journey: Option<JourneyId>,
    /// First sighting of its journey: count packets here to count each once.
    pub opens: bool,
}

/// How a journey ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// Consumed, copied to a reader, or handed to a device whose far side is out of view.
    Delivered,
    /// Its last reference was discarded undelivered.
    Dropped {
        /// `enum skb_drop_reason` of the recorded kernel.
        reason: u32,
        /// Caller.
        location: psc_formats::event::SymbolId,
    },
    /// No probe saw its end (most TCP frees have no tracepoint), or the recording ended first.
    EndNotObserved,
}

/// Why a journey's identity could not be settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ambiguity {
    /// Bytes or fingerprint contradicted what was known: a birth had been missed.
    ContentContradicts,
    /// Its first event was not a birth (recording started, or a birth was lost).
    BirthNotObserved,
    /// Events of this CPU were lost while it was open.
    LossWhileOpen,
    /// A fragment of a datagram, while another with the same addresses and identification was incomplete
    /// (RFC 4963): which of the two it belongs to cannot be known.
    SameIdentification,
}

/// A journey that will get no more events.
#[derive(Clone, Debug)]
pub struct ClosedJourney {
    /// Its number.
    pub id: JourneyId,
    /// The skb it opened with.
    pub skb: SkbId,
    /// Its events in time order.
    pub steps: Vec<Event>,
    /// Header states: (index of the step that showed them, headers); the first is the journey's.
    pub headers: Vec<(u32, Headers)>,
    /// Flow at the start, when bytes were seen.
    pub flow: Option<FiveTuple>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it is ambiguous, when it is.
    pub ambiguous: Option<Ambiguity>,
    /// Journeys it is joined to.
    pub lineage: Vec<Edge>,
    /// It is a listener's clone of the journey that `lineage` names: no packet of its own, so it is
    /// never a drop and totals leave it out.
    pub clone: bool,
}

impl ClosedJourney {
    /// Last step minus first, nanoseconds. That a function returned is no step of the packet: by then it may
    /// be elsewhere, or gone. Once it was read, when its memory is given back is not its time any more: the
    /// kernel may put that off for milliseconds (`skb_attempt_defer_free`).
    pub fn duration(&self) -> u64 {
        use psc_formats::EventKind as Kind;
        let moves = |step: &&Event| !matches!(step.kind, Kind::FunctionReturn { .. });
        let mut backwards = self.steps.iter().rev().filter(moves);
        let (Some(first), Some(last)) = (self.steps.iter().find(moves), backwards.next()) else {
            return 0;
        };
        let read = backwards.next().filter(|before| {
            matches!(before.kind, Kind::CopyToUser { .. } | Kind::SockReceive { .. })
                && matches!(last.kind, Kind::Consume { .. })
        });
        read.unwrap_or(last).at.0.saturating_sub(first.at.0)
    }

    /// Whether its bytes are those of a journey that it was cut or copied from, which has been counted.
    pub fn is_cut_or_copied(&self) -> bool {
        self.lineage.iter().any(|edge| matches!(edge.how, Lineage::Segment | Lineage::Copy))
    }

    /// The steps that tier 1 alone would have seen: without function probes and netfilter links.
    pub fn tier_one(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.steps.iter().filter(|step| !step.kind.is_deeper_tier())
    }
}

/// How two skbs belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lineage {
    /// Clone of it.
    Clone,
    /// Copy of it (a veth peer with XDP copies).
    Copy,
    /// Segment that software GSO cut from it.
    Segment,
    /// Merged into it by GRO: it goes on as part of that.
    Merged,
    /// Fragment of the datagram that it is, or is the first fragment of.
    Fragment,
    /// Put together again with it, which carries the datagram on.
    Reassembled,
}

/// How it is known that two skbs belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Evidence {
    /// By what the packets say (identification, sequence numbers, payload) and what their CPU was doing.
    Content,
    /// A probe saw the kernel do it.
    Observed,
}

/// A journey that another one is joined to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Edge {
    /// How.
    pub how: Lineage,
    /// To which.
    pub of: JourneyId,
    /// How that is known.
    pub evidence: Evidence,
}

/// Sees every sighting in time order and every journey as it closes.
pub trait Observer {
    /// One event in time order.
    fn sighting(&mut self, world: World<'_>, sighting: &Sighting<'_>) {
        let _ = (world, sighting);
    }

    /// A journey closed. Journeys close in an order that depends only on the events.
    fn closed(&mut self, world: World<'_>, journey: &ClosedJourney) {
        let _ = (world, journey);
    }

    /// Everything before `to` has been told, and the source has no more for now. For who waits while nothing
    /// happens: when it comes depends on batches, so no report may rest on it.
    fn caught_up(&mut self, world: World<'_>, to: Ns) {
        let _ = (world, to);
    }
}

/// What to look at.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only journeys (and events without one) for which this holds at some event.
    pub filter: Option<crate::expr::Expr>,
    /// Only events in `[from, to)`.
    pub from: Option<Ns>,
    /// See `from`.
    pub to: Option<Ns>,
    /// With a filter, also the journeys that those it selects are joined to, and so on: whole stories.
    /// Only [`run_file`] can do that.
    pub joined: bool,
}

/// What a pass found out about the recording itself.
#[derive(Clone, Debug, Default)]
pub struct Pass {
    /// Facts at the end.
    pub tables: Tables,
    /// What every report says first.
    pub provenance: crate::view::Provenance,
    /// Events missing from the sequence of each CPU; only CPUs that miss some.
    pub missing_by_cpu: std::collections::BTreeMap<u16, u64>,
}

/// Runs one pass over `source`.
///
/// Journeys are always made from all events; the selection decides what observers see of them.
/// A time range shows the sightings in it, and the journeys that have one in it whole. A filter
/// shows journeys for which it holds at some event: in one pass, which is all that a live source
/// allows, a journey's sightings before the first such event cannot be shown any more, while
/// [`Observer::closed`] gets it whole. [`run_file`] has no such limit.
pub fn run(
    source: &mut dyn EventSource,
    selection: &Selection,
    observers: &mut [&mut dyn Observer],
) -> Result<Pass, SourceError> {
    pass::run(source, selection, pass::Choice::of(selection), observers)
}

/// Runs over a source that can be opened again: with a filter, a first pass finds the journeys that
/// it selects, and a second shows them from their first event on.
pub fn run_file(
    open: &mut dyn FnMut() -> Result<Box<dyn EventSource>, SourceError>,
    selection: &Selection,
    observers: &mut [&mut dyn Observer],
) -> Result<Pass, SourceError> {
    let Some(filter) = &selection.filter else {
        return run(open()?.as_mut(), selection, observers);
    };
    let chosen = pass::choose(open()?.as_mut(), filter, selection)?;
    pass::run(open()?.as_mut(), selection, pass::Choice::Chosen(chosen), observers)
}
