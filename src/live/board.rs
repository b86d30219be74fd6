//! What the engine's pass shows while it is under way.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use psc_formats::{FiveTuple, Ns};
use psc_replay::engine::{ClosedJourney, JourneyId, Observer, Outcome, Pass, Sighting, World};
use psc_replay::guarder::Detectors;
use psc_replay::guarder::rules::Handshakes;
use psc_replay::view::detect::Finding;

/// Flows counted apart at most; a flood of others is counted together.
const FLOWS: usize = 16_384;
/// Detectors look at spans of this much packet time, each half over the next: a finding comes at most
/// this long after what it is about.
const SPAN: u64 = 6_000_000_000;

/// What the dashboard and the rules are told.
#[derive(Debug, Default)]
pub(super) struct Board {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) drops: u64,
    pub(super) flows: BTreeMap<FiveTuple, (u64, u64)>,
    /// Packets of flows that there was no room for.
    pub(super) others: u64,
    pub(super) reasons: BTreeMap<String, u64>,
    /// Sources that have completed a handshake since the last look.
    pub(super) proven: Vec<FiveTuple>,
    /// Findings since the last look.
    pub(super) findings: Vec<Finding>,
}

/// The board, shared between the observer that fills it and the source that looks.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared(Arc<Mutex<Board>>);

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Board> {
        // Nobody panics while holding it; if somebody did, what is there is still counts.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Fills a board.
#[derive(Debug)]
pub(super) struct Watch {
    board: Shared,
    handshakes: Handshakes,
    /// Two sets of detectors, started half a span apart, with the time of their first packet.
    spans: [(Detectors, Option<u64>); 2],
    /// Journeys that have not closed, with the fingerprint of the packet counted last: the kernel may use an
    /// skb again without a probe that sees it.
    open: HashMap<JourneyId, u32>,
    /// Titles told of already: a scan that goes on is one finding.
    told: HashSet<String>,
}

impl Watch {
    pub(super) fn new(board: Shared) -> Self {
        Self {
            board,
            handshakes: Handshakes::default(),
            spans: [(Detectors::new(), None), (Detectors::new(), None)],
            open: HashMap::new(),
            told: HashSet::new(),
        }
    }

    fn detect(&mut self, world: World<'_>, now: u64) {
        for (index, (detectors, start)) in self.spans.iter_mut().enumerate() {
            let begin = *start.get_or_insert(now + index as u64 * SPAN / 2);
            if now < begin + SPAN {
                continue;
            }
            *start = Some(now);
            let done = std::mem::take(detectors);
            let pass = Pass { tables: world.tables.clone(), ..Pass::default() };
            for finding in done.finish(world.manifest, &pass).findings {
                // The same from the same, whatever its counts.
                let name = format!("{} {:?} {:?}", finding.id, finding.actors, finding.targets);
                if self.told.len() < 65_536 && self.told.insert(name) {
                    self.board.lock().findings.push(finding);
                }
            }
        }
    }
}

impl Observer for Watch {
    fn sighting(&mut self, world: World<'_>, sighting: &Sighting<'_>) {
        let Ns(now) = sighting.event.at;
        self.detect(world, now);
        for (detectors, _) in &mut self.spans {
            detectors.sighting(world, sighting);
        }
        let (Some(headers), Some(journey)) = (sighting.headers, sighting.journey) else { return };
        let proven = if sighting.fresh { self.handshakes.packet(headers) } else { None };
        let mut board = self.board.lock();
        board.proven.extend(proven.map(|(_, tuple)| tuple));
        // A packet counts where its headers are first seen.
        let content = sighting.event.content;
        match self.open.get_mut(&journey) {
            Some(last) if content == 0 || *last == content => return,
            Some(last) if *last == 0 => {
                *last = content;
                return;
            }
            Some(last) => *last = content,
            None => {
                self.open.insert(journey, content);
            }
        }
        board.packets += 1;
        board.bytes += u64::from(sighting.event.len);
        if let Some(tuple) = headers.tuple() {
            let known = board.flows.len() < FLOWS || board.flows.contains_key(&tuple.canonical());
            if known {
                let (packets, bytes) = board.flows.entry(tuple.canonical()).or_default();
                *packets += 1;
                *bytes += u64::from(sighting.event.len);
            } else {
                board.others += 1;
            }
        }
    }

    fn closed(&mut self, world: World<'_>, journey: &ClosedJourney) {
        self.open.remove(&journey.id);
        for (detectors, _) in &mut self.spans {
            detectors.closed(world, journey);
        }
        if let Outcome::Dropped { reason, .. } = journey.outcome
            && !journey.clone
        {
            let mut board = self.board.lock();
            board.drops += 1;
            *board.reasons.entry(world.manifest.drop_reason(reason)).or_default() += 1;
        }
    }
}

/// The address that an actor of a finding begins with.
pub(super) fn address(actor: &str) -> Option<IpAddr> {
    actor.split([' ', ',', '(']).next()?.parse().ok()
}
