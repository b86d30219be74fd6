//! Expectations: statements in the expression language about a whole recording, and whether they hold.
//!
//! A statement that nothing in the recording speaks to does not hold: a gate that passes because the
//! traffic never came is worse than none. What may be absent is said so (`allow_none`).

mod bound;
mod gate;
mod statement;
#[cfg(test)]
mod tests;

pub use bound::{Bound, Percentile};
pub use gate::{Gate, check as check_gates};
pub use statement::{Expectations, Statement};

use hdrhistogram::Histogram;
use psc_formats::Ns;
use psc_formats::packet::Headers;
use rustc_hash::FxHashMap;

use crate::engine::{ClosedJourney, JourneyId, Observer, Pass, Sighting, World};
use crate::expr::{Expr, Scope, Subject};
use crate::view::check::{Check, CheckView};
use crate::view::detect::Finding;

/// Journeys given as evidence.
const SHOWN: usize = 5;
/// Statements in one file.
const MOST: usize = 256;

/// A statement, checked.
#[derive(Debug)]
enum Kind {
    Never(Expr),
    Always {
        selects: Option<Expr>,
        wants: Expr,
    },
    Some {
        what: Expr,
        at_least: u64,
        at_most: Option<u64>,
    },
    Time {
        selects: Option<Expr>,
        from: Option<Expr>,
        to: Option<Expr>,
        bounds: Vec<(Percentile, Bound)>,
    },
    Finding {
        id: String,
        wanted: bool,
    },
    Loss(Bound),
    Closed(bool),
}

/// Checks statements during a pass.
pub struct Expectant {
    rows: Vec<Row>,
    /// What held so far at the sightings of open journeys: two bits a statement.
    open: FxHashMap<JourneyId, Vec<u8>>,
}

struct Row {
    name: String,
    words: String,
    line: u64,
    allow_none: bool,
    kind: Kind,
    /// Packets (or events without one) that the statement is about, and those that go against it.
    about: u64,
    against: u64,
    journeys: Vec<u64>,
    evidence: Vec<String>,
    times: Option<Histogram<u64>>,
    /// The slowest: (time, journey).
    slowest: Vec<(u64, u64)>,
}

/// What is wrong with a statement, and in which.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("statement {number}{name}: {what}")]
pub struct StatementError {
    /// Number from 1.
    pub number: usize,
    name: String,
    /// What is wrong and what would be right.
    pub what: String,
}

impl Expectant {
    /// Takes statements. `lines` has the line of each in the file, from 1.
    pub fn new(file: &Expectations, lines: &[u64]) -> Result<Self, StatementError> {
        let fail = |number: usize, name: &str, what: String| StatementError {
            number,
            name: if name.is_empty() { String::new() } else { format!(" ({name})") },
            what,
        };
        if file.expect.is_empty() {
            let what = "there is none: a file of expectations has at least one [[expect]]";
            return Err(fail(1, "", what.to_owned()));
        }
        if file.expect.len() > MOST {
            return Err(fail(MOST + 1, "", format!("a file has at most {MOST}")));
        }
        let mut rows = Vec::new();
        for (index, statement) in file.expect.iter().enumerate() {
            let (kind, words) =
                statement.checked().map_err(|what| fail(index + 1, &statement.name, what))?;
            let name = if statement.name.is_empty() {
                format!("expectation {}", index + 1)
            } else {
                statement.name.clone()
            };
            let timed = matches!(kind, Kind::Time { .. });
            let times = if timed { Histogram::new(3).ok() } else { None };
            rows.push(Row {
                name,
                words,
                line: lines.get(index).copied().unwrap_or(0),
                allow_none: statement.allow_none,
                kind,
                about: 0,
                against: 0,
                journeys: Vec::new(),
                evidence: Vec::new(),
                times,
                slowest: Vec::new(),
            });
        }
        Ok(Self { rows, open: FxHashMap::default() })
    }

    /// Whether a statement asks for findings, so that detectors must run.
    pub fn asks_for_findings(&self) -> bool {
        self.rows.iter().any(|row| matches!(row.kind, Kind::Finding { .. }))
    }

    /// What became of the statements.
    pub fn finish(self, statements: &str, pass: &Pass, findings: &[Finding]) -> CheckView {
        let checks: Vec<Check> =
            self.rows.into_iter().map(|row| row.finish(pass, findings)).collect();
        CheckView {
            provenance: pass.provenance.clone(),
            base: String::new(),
            statements: statements.to_owned(),
            failed: checks.iter().filter(|check| !check.holds).count() as u64,
            checks,
        }
    }
}

impl Row {
    /// The expressions that are asked of whole packets, in order.
    fn asked(&self) -> [Option<&Expr>; 2] {
        match &self.kind {
            Kind::Never(what) | Kind::Some { what, .. } => [Some(what), None],
            Kind::Always { selects, wants } => [selects.as_ref(), Some(wants)],
            Kind::Time { selects, .. } => [selects.as_ref(), None],
            Kind::Finding { .. } | Kind::Loss(_) | Kind::Closed(_) => [None, None],
        }
    }

    fn cite(&mut self, journey: u64, text: String) {
        if self.evidence.len() < SHOWN {
            self.evidence.push(text);
            if journey > 0 {
                self.journeys.push(journey);
            }
        }
    }

    /// A packet is over: `held` says which of the expressions asked held at some step.
    fn closed(&mut self, world: World<'_>, journey: &ClosedJourney, held: [bool; 2]) {
        let id = journey.id.0;
        match &self.kind {
            Kind::Never(_) => {
                self.about += 1;
                if held[0] {
                    self.against += 1;
                    self.cite(id, told(world, journey));
                }
            }
            Kind::Always { selects, .. } => {
                if selects.is_none() || held[0] {
                    self.about += 1;
                    if !held[1] {
                        self.against += 1;
                        self.cite(id, told(world, journey));
                    }
                }
            }
            Kind::Some { .. } => {
                if held[0] {
                    self.about += 1;
                    self.cite(id, told(world, journey));
                }
            }
            Kind::Time { selects, from, to, .. } => {
                if (selects.is_none() || held[0])
                    && let Some(time) = elapsed(world, journey, from.as_ref(), to.as_ref())
                {
                    self.about += 1;
                    if let Some(times) = &mut self.times {
                        // It grows as needed, and refuses nothing that fits an address space.
                        let _ = times.record(time);
                    }
                    self.slowest.push((time, id));
                    if self.slowest.len() >= 2 * SHOWN {
                        self.keep_slowest();
                    }
                }
            }
            Kind::Finding { .. } | Kind::Loss(_) | Kind::Closed(_) => {}
        }
    }

    fn keep_slowest(&mut self) {
        self.slowest.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        self.slowest.truncate(SHOWN);
    }

    fn finish(mut self, pass: &Pass, findings: &[Finding]) -> Check {
        let (holds, found) = match &self.kind {
            Kind::Never(_) => {
                let clean = self.against == 0;
                // An empty recording says nothing about what never happens.
                (
                    clean && (self.about > 0 || self.allow_none),
                    format!("{} of {} packets and events", self.against, self.about),
                )
            }
            Kind::Always { .. } => (
                self.against == 0 && (self.about > 0 || self.allow_none),
                format!("{} of {} packets do not", self.against, self.about),
            ),
            Kind::Some { at_least, at_most, .. } => {
                let enough =
                    self.about >= *at_least && at_most.is_none_or(|most| self.about <= most);
                if enough {
                    (self.evidence, self.journeys) = (Vec::new(), Vec::new());
                }
                (enough, format!("{} packets", self.about))
            }
            Kind::Time { .. } => self.timed(),
            Kind::Finding { id, wanted } => {
                let named = |finding: &&Finding| id == "any" || finding.id == *id;
                let hits: Vec<&Finding> = findings.iter().filter(named).collect();
                let holds = hits.is_empty() != *wanted;
                if !holds {
                    let shown = hits.iter().take(SHOWN);
                    self.evidence = shown
                        .map(|hit| format!("[{}] {}: {}", hit.severity, hit.id, hit.title))
                        .collect();
                    self.journeys = hits
                        .iter()
                        .flat_map(|hit| hit.journeys.iter().copied())
                        .take(SHOWN)
                        .collect();
                }
                (holds, format!("{} findings", hits.len()))
            }
            Kind::Loss(bound) => {
                let complete = &pass.provenance.completeness;
                match complete.lost {
                    None => (false, "what the recorder lost is unknown".to_owned()),
                    Some(lost) => {
                        let all = lost + pass.provenance.events;
                        (bound.holds_of(lost, all), format!("{lost} of {all} events lost"))
                    }
                }
            }
            Kind::Closed(wanted) => {
                let closed = pass.provenance.completeness.closed;
                let found = if closed { "it has its end" } else { "it has no end" };
                (closed == *wanted, found.to_owned())
            }
        };
        let nothing = self.about == 0
            && !matches!(
                self.kind,
                Kind::Finding { .. } | Kind::Loss(_) | Kind::Closed(_) | Kind::Some { .. }
            );
        let found = match (nothing, holds) {
            (true, false) => format!(
                "nothing in the recording is about this, so it shows nothing (allow_none = true if that \
                 is meant); {found}"
            ),
            (true, true) => format!("nothing in the recording is about this; {found}"),
            (false, _) => found,
        };
        if holds {
            (self.evidence, self.journeys) = (Vec::new(), Vec::new());
        }
        Check {
            name: self.name,
            statement: self.words,
            line: self.line,
            holds,
            found,
            evidence: self.evidence,
            journeys: self.journeys,
        }
    }

    fn timed(&mut self) -> (bool, String) {
        self.keep_slowest();
        let Kind::Time { bounds, .. } = &self.kind else { return (false, String::new()) };
        let Some(times) = self.times.as_ref().filter(|times| !times.is_empty()) else {
            return (self.allow_none, "no packet took this way".to_owned());
        };
        let mut holds = true;
        let mut said = Vec::new();
        for (percentile, bound) in bounds {
            let value = percentile.of(times);
            holds &= bound.holds(value);
            said.push(format!("{} {}", percentile.name(), bound::shown(value)));
        }
        if !holds {
            for (time, journey) in &self.slowest {
                self.evidence.push(format!("journey {journey} took {}", bound::shown(*time)));
                self.journeys.push(*journey);
            }
        }
        (holds, format!("{} of {} packets", said.join(", "), self.about))
    }
}

/// A packet as evidence: which, when, what became of it.
fn told(world: World<'_>, journey: &ClosedJourney) -> String {
    use crate::engine::Outcome;
    let at = journey.steps.first().map_or(0, |step| step.at.0);
    let since = at.saturating_sub(world.start.unwrap_or(Ns(at)).0);
    let flow = journey.flow.map_or("a packet".to_owned(), |flow| flow.to_string());
    let outcome = match journey.outcome {
        Outcome::Delivered => "delivered".to_owned(),
        Outcome::EndNotObserved => "end not observed".to_owned(),
        Outcome::Dropped { reason, location } => format!(
            "dropped: {} at {}",
            world.manifest.drop_reason(reason),
            world.tables.location(location)
        ),
    };
    format!("journey {}: {flow} at {} s, {outcome}", journey.id.0, bound::seconds(since))
}

/// Time between the first step that `from` holds at and the first after it that `to` holds at.
fn elapsed(
    world: World<'_>,
    journey: &ClosedJourney,
    from: Option<&Expr>,
    to: Option<&Expr>,
) -> Option<u64> {
    if from.is_none() && to.is_none() {
        return (journey.steps.len() > 1).then(|| journey.duration());
    }
    let mut start = None;
    let mut last = None;
    let mut found = None;
    each_step(journey, |step, headers| {
        let subject = Subject::closed(world, journey, step, headers);
        match start {
            None => {
                if from.is_none_or(|from| from.matches(&subject)) {
                    start = Some(step.at.0);
                }
            }
            Some(_) if found.is_none() => {
                last = Some(step.at.0);
                if to.is_some_and(|to| to.matches(&subject)) {
                    found = Some(step.at.0);
                }
            }
            Some(_) => {}
        }
    });
    let end = if to.is_some() { found? } else { last? };
    Some(end.saturating_sub(start?))
}

/// Every step with the headers as they were then.
fn each_step(
    journey: &ClosedJourney,
    mut visit: impl FnMut(&psc_formats::Event, Option<&Headers>),
) {
    let mut states = journey.headers.iter().peekable();
    let mut headers = None;
    for (step, index) in journey.steps.iter().zip(0_u32..) {
        while let Some((_, state)) = states.next_if(|(from, _)| *from <= index) {
            headers = Some(state);
        }
        visit(step, headers);
    }
}

impl Observer for Expectant {
    fn sighting(&mut self, world: World<'_>, sighting: &Sighting<'_>) {
        let subject = Subject::sighting(world, sighting);
        let rows = self.rows.len();
        for (index, row) in self.rows.iter_mut().enumerate() {
            let held = row.asked().map(|expr| {
                let expr = expr.filter(|expr| expr.scope() < Scope::Journey);
                expr.is_some_and(|expr| expr.matches(&subject))
            });
            if held == [false; 2] {
                continue;
            }
            if let Some(journey) = sighting.journey {
                let open = self.open.entry(journey).or_insert_with(|| vec![0; rows]);
                open[index] |= u8::from(held[0]) | u8::from(held[1]) << 1;
            } else if matches!(row.kind, Kind::Never(_) | Kind::Some { .. }) {
                // An event that concerns no packet.
                row.about += 1;
                row.against += 1;
                let start = world.start.map_or(0, |start| start.0);
                let since = bound::seconds(sighting.event.at.0.saturating_sub(start));
                row.cite(0, format!("{} at {since} s", sighting.event.kind.name()));
            }
        }
    }

    fn closed(&mut self, world: World<'_>, journey: &ClosedJourney) {
        let seen = self.open.remove(&journey.id);
        if journey.clone {
            return;
        }
        for (index, row) in self.rows.iter_mut().enumerate() {
            let early = seen.as_ref().map_or(0, |held| held[index]);
            let mut held = [early & 1 != 0, early & 2 != 0];
            for (slot, expr) in row.asked().into_iter().enumerate() {
                let Some(expr) = expr.filter(|expr| expr.scope() == Scope::Journey) else {
                    continue;
                };
                each_step(journey, |step, headers| {
                    held[slot] =
                        held[slot] || expr.matches(&Subject::closed(world, journey, step, headers));
                });
            }
            row.closed(world, journey, held);
        }
    }
}
