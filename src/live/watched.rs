//! The live source with everything that is to be done while it runs: signals, rules, the recording, the
//! dashboard. The engine asks it for events and does not know.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use psc_bpf::LiveSource;
use psc_formats::archive::Writer;
use psc_formats::fact::{EndFact, NoticeFact, Severity};
use psc_formats::guard::Flow;
use psc_formats::{Batch, EventSource, Fact, Manifest, Progress, SourceError};
use psc_replay::view::live::LiveView;
use psc_reports::text;

use super::board::Shared;
use super::control::{Control, who};
use super::{Asked, is_due, monotonic};
use crate::cli::LiveArgs;
use crate::output::{self, Console};

/// How often proven sources, findings and signals are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How often the dashboard is drawn.
const DRAW: Duration = Duration::from_millis(500);
/// How often a line is written where there is no terminal, and verdicts are recorded.
const LINE: Duration = Duration::from_secs(1);
/// Lines kept of what happened.
const LOG: usize = 200;

/// Where everything goes that is seen, decided and done.
pub(super) struct Archive {
    writer: Option<Writer<File>>,
    max: u64,
}

impl Archive {
    pub(super) fn create(
        path: &Path,
        force: bool,
        max: u64,
        source: &LiveSource,
    ) -> anyhow::Result<Self> {
        // In its place from the start: what a killed psc has written stays.
        let file = output::create(path, force)?;
        let writer = Writer::new(file, source.manifest())
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { writer: Some(writer), max })
    }

    fn append(&mut self, batch: &Batch) -> Result<bool, SourceError> {
        let Some(writer) = &mut self.writer else { return Ok(false) };
        writer.append(batch).map_err(|error| SourceError::io("write the recording", error))?;
        if writer.written() > self.max {
            let full = Fact::Notice(NoticeFact {
                at: monotonic(),
                severity: Severity::DataLoss,
                text: "the recording reached its size and ends here; psc went on watching"
                    .to_owned(),
                count: 1,
            });
            writer
                .append_fact(&full)
                .map_err(|error| SourceError::io("write the recording", error))?;
            self.close("size")?;
            return Ok(true);
        }
        Ok(false)
    }

    fn close(&mut self, reason: &str) -> Result<(), SourceError> {
        if let Some(writer) = self.writer.take() {
            let end = EndFact { at: monotonic(), reason: reason.to_owned(), ..EndFact::default() };
            writer.finish(end).map_err(|error| SourceError::io("write the recording", error))?;
        }
        Ok(())
    }
}

/// The live source, watched over.
pub(super) struct Watched {
    source: LiveSource,
    control: Option<Control>,
    archive: Option<Archive>,
    board: Shared,
    asked: Asked,
    console: Console,
    view: LiveView,
    started: u64,
    deadline: Option<Instant>,
    stopping: bool,
    terminal: bool,
    looked: Instant,
    drawn: Instant,
    lined: Instant,
    facts: Vec<Fact>,
    found: bool,
    /// What failed, to be said at the end.
    failed: Option<anyhow::Error>,
}

impl Watched {
    pub(super) fn new(
        mut source: LiveSource,
        control: Option<Control>,
        archive: Option<Archive>,
        board: Shared,
        asked: Asked,
        args: &LiveArgs,
        console: Console,
    ) -> Self {
        let mut facts = source.snapshot_facts();
        let started = monotonic();
        facts.extend(control.as_ref().map(|control| Fact::Rules(control.fact(started))));
        let now = Instant::now();
        let view = LiveView {
            interface: args.interface.clone(),
            mode: "watching".to_owned(),
            ..LiveView::default()
        };
        Self {
            source,
            control,
            archive,
            board,
            asked,
            console,
            view,
            started,
            deadline: args.duration.and_then(|span| now.checked_add(span.0)),
            stopping: false,
            terminal: std::io::stdout().is_terminal() && !console.quiet,
            looked: now,
            drawn: now,
            lined: now,
            facts,
            found: false,
            failed: None,
        }
    }

    /// Something worth a line happened.
    fn say(&mut self, text: String) {
        let at = monotonic();
        self.facts.push(Fact::Notice(NoticeFact {
            at,
            severity: Severity::Info,
            text: text.clone(),
            count: 1,
        }));
        if !self.terminal {
            self.console.note(&text);
        }
        self.view.log.push((at - self.started, text));
        if self.view.log.len() > LOG {
            self.view.log.remove(0);
        }
    }

    /// Signals, proofs, findings, blocks.
    fn look(&mut self) -> anyhow::Result<()> {
        let stop = self.asked.stop.load(Ordering::Relaxed)
            || self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if stop && !self.stopping {
            self.stopping = true;
            // While the rules still stand, as at the start.
            let facts = self.source.snapshot_facts();
            self.facts.extend(facts);
            self.source.stop();
        }
        let (proven, findings) = {
            let mut board = self.board.lock();
            (std::mem::take(&mut board.proven), std::mem::take(&mut board.findings))
        };
        self.found |= !findings.is_empty();
        for finding in &findings {
            self.say(format!("{}: {}", finding.severity, finding.title));
        }
        let Some(mut control) = self.control.take() else { return Ok(()) };
        let done = self.look_at_rules(&mut control, &proven, &findings);
        self.control = Some(control);
        done
    }

    fn look_at_rules(
        &mut self,
        control: &mut Control,
        proven: &[psc_formats::FiveTuple],
        findings: &[psc_replay::view::detect::Finding],
    ) -> anyhow::Result<()> {
        control.beat()?;
        for tuple in proven {
            control.prove(&Flow::of_tuple(tuple))?;
        }
        for finding in findings {
            for text in control.finding(finding)? {
                self.say(text);
            }
        }
        if self.asked.reload.swap(false, Ordering::Relaxed) {
            match control.reload(self.console) {
                Ok(what) => {
                    self.say(format!("rules replaced: {what}"));
                    self.facts.push(Fact::Rules(control.fact(monotonic())));
                }
                Err(error) => self.say(format!("rules not replaced, the old ones stay: {error:#}")),
            }
        }
        if self.asked.confirm.swap(false, Ordering::Relaxed) && control.confirm() {
            self.say("confirmed: the rules stay".to_owned());
        }
        if let Some(what) = control.expire()? {
            self.say(what);
            self.facts.push(Fact::Rules(control.fact(monotonic())));
        }
        let now = monotonic();
        let (blocks, said) = control.blocks(now)?;
        for text in said {
            self.say(text);
        }
        self.view.blocks = blocks.len() as u64;
        self.view.blocked = blocks
            .iter()
            .rev()
            .take(10)
            .map(|block| {
                (
                    who(block),
                    control.rule_name(block.rule).to_owned(),
                    block.until.saturating_sub(now),
                )
            })
            .collect();
        Ok(())
    }

    /// Brings the view up to date.
    fn refresh(&mut self) -> anyhow::Result<()> {
        let now = monotonic();
        self.view.at = now - self.started;
        let loss = self.source.loss();
        self.view.lost = loss.ring_full.iter().sum();
        {
            let board = self.board.lock();
            self.view.packets = board.packets;
            self.view.bytes = board.bytes;
            self.view.drops = board.drops;
            self.view.flows = board.flows.len() as u64;
            let mut top: Vec<_> = board.flows.iter().collect();
            top.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
            self.view.top = top
                .into_iter()
                .take(8)
                .map(|(flow, (packets, bytes))| (flow.to_string(), *packets, *bytes))
                .collect();
            let mut reasons: Vec<_> = board.reasons.clone().into_iter().collect();
            reasons.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            reasons.truncate(6);
            self.view.reasons = reasons;
        }
        if let Some(control) = &self.control {
            let verdicts = control.verdicts(now)?;
            self.view.mode = control.mode();
            self.view.discarded = verdicts.discarded;
            self.view.rules = verdicts
                .rules
                .iter()
                .zip(control.actions())
                .filter(|(rule, _)| rule.matched > 0)
                .map(|(rule, action)| {
                    (rule.id.clone(), action.to_owned(), rule.matched, rule.discarded, rule.blocked)
                })
                .collect();
        }
        Ok(())
    }

    fn draw(&mut self) -> anyhow::Result<()> {
        self.refresh()?;
        let mut page = String::from("\x1b[H\x1b[2J");
        text::live(&self.view, 10, self.console.style(None), &mut page)
            .map_err(|_| anyhow::anyhow!("the dashboard could not be drawn"))?;
        std::io::stdout().lock().write_all(page.as_bytes())?;
        Ok(())
    }

    fn tick(&mut self) -> anyhow::Result<()> {
        if is_due(&mut self.looked, LOOK) || self.stopping {
            self.look()?;
        }
        if self.terminal && is_due(&mut self.drawn, DRAW) {
            self.draw()?;
        }
        if is_due(&mut self.lined, LINE) {
            if let Some(control) = &self.control {
                self.facts.push(Fact::Verdicts(control.verdicts(monotonic())?));
            }
            self.facts.push(Fact::Loss(self.source.loss()));
            if !self.terminal && !self.console.quiet {
                self.refresh()?;
                writeln!(std::io::stdout(), "{}", text::live_line(&self.view))?;
            }
        }
        Ok(())
    }

    /// The last words; whether something was found.
    pub(super) fn finish(mut self) -> anyhow::Result<bool> {
        if self.terminal {
            self.draw()?;
        } else if !self.console.quiet {
            self.refresh()?;
            writeln!(std::io::stdout(), "{}", text::live_line(&self.view))?;
        }
        if let Some(archive) = &mut self.archive {
            archive.close("signal").context("cannot finish the recording")?;
        }
        match self.failed.take() {
            Some(error) => Err(error),
            None => Ok(self.found),
        }
    }
}

impl EventSource for Watched {
    fn manifest(&self) -> &Manifest {
        self.source.manifest()
    }

    fn fill(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        let progress = self.source.fill(batch)?;
        if let Err(error) = self.tick() {
            // What cannot be done once is not done half: end, and say why.
            self.failed.get_or_insert(error);
            self.asked.stop.store(true, Ordering::Relaxed);
            if !std::mem::replace(&mut self.stopping, true) {
                self.source.stop();
            }
        }
        if progress == Progress::End
            && let Some(control) = &self.control
            && let Ok(verdicts) = control.verdicts(monotonic())
        {
            self.facts.push(Fact::Verdicts(verdicts));
        }
        batch.facts.append(&mut self.facts);
        if let Some(archive) = &mut self.archive
            && archive.append(batch)?
        {
            self.say("the recording has reached --max-size and is closed".to_owned());
        }
        if progress == Progress::Idle {
            std::thread::sleep(self.source.pause());
        }
        Ok(progress)
    }
}
