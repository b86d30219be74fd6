//! What the engine's pass shows while it is under way.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use psc_formats::{FiveTuple, Ns};
use psc_replay::engine::{ClosedJourney, JourneyId, Observer, Outcome, Pass, Sighting, World};
use psc_replay::guarder::Detectors;
use psc_replay::guarder::rules::Handshakes;
use psc_replay::view::detect::Finding;

/// Flows counted apart at most; a flood of others is counted together.
const FLOWS: usize = 16_384;
/// Detectors look at spans of packet time, (length, when the first begins after the first packet): a second,
/// so that floods and fast scans are told of within one, and six seconds, each half over the next, for what
/// takes longer. A finding comes at most a span after what it is about.
const SPANS: [(u64, u64); 3] =
    [(1_000_000_000, 0), (6_000_000_000, 0), (6_000_000_000, 3_000_000_000)];
/// What goes on is told of again after this long: a rule that blocked for a while has to hear of it.
const AGAIN: u64 = 60_000_000_000;
/// Findings remembered as told.
const TOLD: usize = 65_536;

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
    /// A set of detectors for each of [`SPANS`], with the time that its span began at.
    spans: [(Detectors, Option<u64>); SPANS.len()],
    /// Journeys that have not closed, with the fingerprint of the packet counted last: the kernel may use an
    /// skb again without a probe that sees it.
    open: HashMap<JourneyId, u32>,
    /// What was told of, and when: a scan that goes on is one finding.
    told: HashMap<String, u64>,
}

impl Watch {
    pub(super) fn new(board: Shared) -> Self {
        Self {
            board,
            handshakes: Handshakes::default(),
            spans: SPANS.map(|_| (Detectors::new(), None)),
            open: HashMap::new(),
            told: HashMap::new(),
        }
    }

    fn detect(&mut self, world: World<'_>, now: u64) {
        for ((detectors, start), (length, after)) in self.spans.iter_mut().zip(SPANS) {
            let begin = *start.get_or_insert(now + after);
            if now < begin + length {
                continue;
            }
            *start = Some(now);
            let done = std::mem::take(detectors);
            let pass = Pass { tables: world.tables.clone(), ..Pass::default() };
            for finding in done.finish(world.manifest, &pass).findings {
                if is_news(&mut self.told, &finding, now) {
                    self.board.lock().findings.push(finding);
                }
            }
        }
    }
}

/// Whether this has not been told of lately. The same by the same is one finding, whatever it has come to
/// since; where several did it, or nobody who has a name, by whom it was done to.
fn is_news(told: &mut HashMap<String, u64>, finding: &Finding, now: u64) -> bool {
    let one = matches!(finding.actors.as_slice(), [actor] if actor.contains(['.', ':']));
    let who = if one { &finding.actors } else { &finding.targets };
    let names = who.iter().filter_map(|name| name.split([' ', ',', '(']).next());
    let key = names.fold(finding.id.clone(), |key, name| key + " " + name);
    if told.len() >= TOLD && !told.contains_key(&key) {
        told.retain(|_, at| now < *at + AGAIN);
        if told.len() >= TOLD {
            return false;
        }
    }
    let last = told.get(&key).copied();
    let news = last.is_none_or(|at| now >= at + AGAIN);
    if news {
        told.insert(key, now);
    }
    news
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

    fn caught_up(&mut self, world: World<'_>, to: Ns) {
        self.detect(world, to.0);
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

#[cfg(test)]
mod tests {
    use psc_formats::{Batch, EventSource, Manifest, Progress, SourceError};
    use psc_replay::engine::{self, Selection};

    use super::*;

    /// A capture as it would be seen live, and then nothing happens for some seconds.
    struct Quiet {
        capture: Box<dyn EventSource>,
        last: u64,
        /// Seconds of silence and findings told by then.
        silent: Vec<(u64, usize)>,
        board: Shared,
    }

    impl EventSource for Quiet {
        fn manifest(&self) -> &Manifest {
            self.capture.manifest()
        }

        fn fill(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
            if self.capture.fill(batch)? == Progress::More || !batch.events.is_empty() {
                self.last = batch.events.last().map_or(self.last, |event| event.at.0);
                return Ok(Progress::More);
            }
            self.silent.push((self.silent.len() as u64, self.board.lock().findings.len()));
            if self.silent.len() > 8 {
                return Ok(Progress::End);
            }
            batch.complete_to = Some(Ns(self.last + self.silent.len() as u64 * 1_000_000_000));
            Ok(Progress::Idle)
        }
    }

    #[test]
    fn a_scan_is_told_of_within_a_second_though_nothing_follows() {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/captures/scan.pcap");
        let capture = psc_formats::open(&path).expect("opens");
        let board = Shared::default();
        let mut source = Quiet { capture, last: 0, silent: Vec::new(), board: board.clone() };
        let mut watch = Watch::new(board.clone());
        engine::run(&mut source, &Selection::default(), &mut [&mut watch]).expect("a pass");
        let ids: Vec<String> = board.lock().findings.iter().map(|f| f.id.clone()).collect();
        assert_eq!(ids, ["port-scan"], "the spans of six seconds tell nothing twice");
        // Looked at before each second of silence: none after none, one after one, and no more.
        let told: Vec<usize> = source.silent.iter().map(|(_, findings)| *findings).collect();
        assert_eq!(told, [0, 1, 1, 1, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn a_finding_is_news_once_a_minute_whatever_it_has_come_to() {
        const SECOND: u64 = 1_000_000_000;
        let finding = |id: &str, actors: &[&str], targets: &[&str]| {
            let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect();
            Finding {
                id: id.to_owned(),
                actors: words(actors),
                targets: words(targets),
                ..Finding::default()
            }
        };
        #[rustfmt::skip]
        let steps = [
            ("a scan",                 0, finding("port-scan", &["10.0.0.9 (20 ports)"], &["10.0.0.2"]),             true),
            ("has gone on",            1, finding("port-scan", &["10.0.0.9 (90 ports)"], &["10.0.0.2", "10.0.0.3"]), false),
            ("another's",              1, finding("port-scan", &["10.0.0.8 (20 ports)"], &["10.0.0.2"]),             true),
            ("another kind",           2, finding("syn-flood", &["10.0.0.9"],            &["10.0.0.2:80"]),          true),
            ("a flood from many",      3, finding("udp-flood", &["1.1.1.1", "2.2.2.2"],  &["10.0.0.2"]),             true),
            ("from others",            4, finding("udp-flood", &["3.3.3.3", "4.4.4.4"],  &["10.0.0.2"]),             false),
            ("from nobody with a name", 4, finding("syn-flood", &["84 addresses with few each"], &["10.0.0.2:81"]), true),
            ("more of them",           5, finding("syn-flood", &["99 addresses with few each"], &["10.0.0.2:81"]),  false),
            ("to another",             5, finding("udp-flood", &["3.3.3.3", "4.4.4.4"],  &["10.0.0.7"]),             true),
            ("still going on",        59, finding("port-scan", &["10.0.0.9 (99 ports)"], &["10.0.0.2"]),             false),
            ("a minute later",        60, finding("port-scan", &["10.0.0.9 (99 ports)"], &["10.0.0.2"]),             true),
            ("told again just now",   61, finding("port-scan", &["10.0.0.9 (99 ports)"], &["10.0.0.2"]),             false),
        ];
        let mut told = HashMap::new();
        for (name, at, finding, expected) in steps {
            assert_eq!(is_news(&mut told, &finding, at * SECOND), expected, "{name}");
        }
    }
}
