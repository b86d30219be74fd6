//! `psc record`: the live source, teed into recordings.
//!
//! One thread empties the kernel's ring and watches for the end; another filters, encodes and
//! writes. Between them is a bounded channel ([`pipe`]), so that a slow disk costs counted loss and
//! never memory.

#![expect(clippy::disallowed_methods, reason = "recording happens in real time")]

mod acquisition;
mod carry;
mod child;
mod filter;
mod interfaces;
mod pipe;
mod privilege;
mod probing;
mod progress;
mod ring;
mod rotation;
mod signals;
mod signing;
mod ssh;
mod store;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use psc_bpf::{Exclude, LiveSource, Options};
use psc_formats::fact::{EndFact, NoticeFact, Severity};
use psc_formats::manifest::{Clock, ProbeStatus};
use psc_formats::{Batch, EventSource, Fact, Manifest, Progress};
use psc_replay::expr::{Expr, Scope};

use crate::Verdict;
use crate::cli::RecordArgs;
use crate::cli::record::{BytesPolicy, Profile, StackPolicy};
use crate::output::{Console, is_dash};
use child::{Invoker, Running};
use filter::Filtered;
use pipe::{Feed, Piped};
use privilege::{Privileges, Remaining};
use probing::Probing;
use progress::{Line, Tally};
use ring::{Final, Ring};
use rotation::{Files, Rotation};
use signals::Signals;
use signing::Signing;
use store::{Store, Stream, Target, Tee};

/// How often the loss so far is stored, and so what a killed recorder leaves untold.
const LOSS_EVERY: Duration = Duration::from_secs(1);

/// How long the last records may take to be finished by the CPUs that write them.
const LAST_EVENTS: Duration = Duration::from_secs(1);

/// Records until told to stop.
pub(crate) fn run(args: &RecordArgs, console: Console) -> anyhow::Result<Verdict> {
    let filter = args.filter.as_deref().map(crate::select::expression).transpose()?;
    // What a packet's end decides is not known while it passes.
    anyhow::ensure!(
        filter.as_ref().is_none_or(|expression| expression.scope() < Scope::Journey),
        "-f {}: this asks about whole journeys, which are not known while recording; record more, \
         and use it with `psc trace -f`",
        args.filter.as_deref().unwrap_or_default()
    );
    let to_stdout = args.output.as_deref().is_some_and(is_dash);
    anyhow::ensure!(
        !(to_stdout && std::io::stdout().is_terminal()),
        "standard output is a terminal; redirect it to a file or a pipe, or name a file with -o"
    );
    anyhow::ensure!(
        !(to_stdout && (args.rotate_size.is_some() || args.rotate_time.is_some())),
        "standard output cannot be rotated; name a file with -o"
    );
    let privileges = Privileges::of_this_process()?;
    privileges.require()?;
    if let Some(refusal) = privilege::kernel_refuses() {
        anyhow::bail!("cannot record: {refusal}");
    }
    interfaces::require(&args.interface)?;
    privilege::lift_locked_memory_limit();

    let signing = Signing {
        key: args.sign.as_deref().map(crate::evidence::secret_key).transpose()?,
        statements: args.checkpoints.clone(),
        every: args.checkpoint_every.0,
    };
    signing.check()?;
    let signals = Signals::install()?;
    let mut source = LiveSource::start(options(args, to_stdout)).context("cannot record")?;
    for probe in &source.manifest().probes {
        if let ProbeStatus::Failed(why) = &probe.status {
            console.detail(&format!("{} is not observed: {why}", probe.name));
        }
    }
    let mut shortcomings = privileges.shortcomings();
    shortcomings.extend(unprobed(source.manifest()));
    for shortcoming in &shortcomings {
        console.note(shortcoming);
    }

    let invoker = Invoker::behind_sudo();
    let tally = Arc::new(Tally::default());
    let mut manifest = source.manifest().clone();
    let clock = manifest.clock.clone();
    manifest.acquisition = Some(acquisition::now());
    let mut store = Destination::open(
        args,
        &manifest,
        to_stdout,
        &signals,
        &tally,
        invoker.as_ref(),
        &signing,
    )?;
    // What counters said before anything that is to be recorded.
    let mut early = notices(&shortcomings);
    early.extend(source.snapshot_facts());
    let mut command = match args.command.as_slice() {
        [] => None,
        line => match Running::start(line, invoker.as_ref(), to_stdout) {
            Ok(running) => Some(running),
            Err(error) => {
                store.discard();
                return Err(error);
            }
        },
    };
    let probing = Probing::start(&args.probing)?;
    privilege::drop_unneeded(Remaining {
        creates_files: store.creates_files(),
        stops_command: command.is_some() && invoker.is_some(),
    })
    .context("cannot give up privileges")?;

    console.note(&format!("recording to {}; stop with Ctrl-C", store.place()));
    let started = Instant::now();
    let (feed, piped) = pipe::channel(manifest);
    let writing = thread::Builder::new()
        .name("psc-write".to_owned())
        .spawn(move || {
            let written = write(piped, filter, &mut store);
            (written, store)
        })
        .context("cannot start the writing thread")?;

    let mut line = Line::new(console.progress);
    let drained = Drain {
        source: &mut source,
        feed: &feed,
        signals: &signals,
        tally: &tally,
        line: &mut line,
        deadline: args.duration.and_then(|span| started.checked_add(span.0)),
        facts_every: args.facts_interval.0,
        facts_at: Some(started),
        loss_at: started,
        early,
        probing,
        clock: clock.clone(),
    }
    .run(&mut command);
    drop(feed);
    let (written, store) =
        writing.join().map_err(|_| anyhow::anyhow!("the writing thread failed"))?;
    line.clear();
    // A full disk is why the channel closed: say that, not that it closed.
    written?;
    let reason = drained?;
    console.note(&progress::summary(&tally, &store.place(), started.elapsed(), &reason));
    if store.was_crowded() {
        console.note("the ring's memory was full before its time was up; raise --ring-memory");
    }
    Ok(Verdict::Clean)
}

/// That functions or netfilter links were asked for and this kernel has none, with the reason.
fn unprobed(manifest: &Manifest) -> Vec<String> {
    let mut said = Vec::new();
    for (what, tier) in [("no function of the stack", false), ("no netfilter hook", true)] {
        // Tracepoints are named with their subsystem; functions have none.
        let of_tier = |name: &str| match name.split_once(':') {
            Some((subsystem, _)) => tier && subsystem == "netfilter",
            None => !tier,
        };
        let probes = || manifest.probes.iter().filter(|probe| of_tier(&probe.name));
        let why = probes().find_map(|probe| match &probe.status {
            ProbeStatus::Failed(why) => Some(why),
            ProbeStatus::Attached | ProbeStatus::Unwanted => None,
        });
        let none = probes().all(|probe| probe.status != ProbeStatus::Attached);
        if let Some(why) = why.filter(|_| none) {
            said.push(format!("{what} can be probed on this kernel ({why}); recording without"));
        }
    }
    said
}

fn options(args: &RecordArgs, to_stdout: bool) -> Options {
    let exclude = to_stdout.then(ssh::connection).flatten().map(|tuple| Exclude {
        protocol: tuple.protocol,
        local: (tuple.src, tuple.sport),
        remote: (tuple.dst, tuple.dport),
    });
    Options {
        profile: match args.profile {
            Profile::Default => psc_bpf::Profile::Default,
            Profile::Full => psc_bpf::Profile::Full,
        },
        functions: args.functions,
        netfilter: args.netfilter_links,
        budget_ppm: args.budget.map(|share| share.0),
        stacks: match args.stacks {
            StackPolicy::Learn => psc_bpf::StackPolicy::Learn,
            StackPolicy::All => psc_bpf::StackPolicy::All,
            StackPolicy::Drops => psc_bpf::StackPolicy::Drops,
            StackPolicy::Off => psc_bpf::StackPolicy::Off,
        },
        bytes: match args.bytes {
            BytesPolicy::Once => psc_bpf::BytesMode::Once,
            BytesPolicy::Every => psc_bpf::BytesMode::Every,
        },
        snaplen: (args.snaplen > 0).then_some(args.snaplen),
        interfaces: args.interface.clone(),
        namespaces: args.netns.clone(),
        exclude: exclude.into_iter().collect(),
        ring_bytes: args.ring_mib.map(|mib| (mib as usize) << 20),
        command: command_line(),
        filter: args.filter.clone().unwrap_or_default(),
        ..Options::default()
    }
}

/// This process's command line, quoted where a shell would need it.
pub(crate) fn command_line() -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let words = std::env::args_os().map(|word| {
        let word = word.to_string_lossy();
        if !word.is_empty() && word.chars().all(plain) {
            word.into_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn notices(texts: &[String]) -> Vec<Fact> {
    texts
        .iter()
        .map(|text| {
            Fact::Notice(NoticeFact {
                at: 0,
                severity: Severity::Info,
                text: text.clone(),
                count: 1,
            })
        })
        .collect()
}

/// `psc-HOST-TIME.psc` in the current directory.
fn default_name(manifest: &Manifest) -> PathBuf {
    let host: String = manifest
        .host
        .name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' })
        .collect();
    let host = if host.is_empty() { "host" } else { &host };
    PathBuf::from(format!("psc-{host}-{}.psc", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ")))
}

/// The writing thread: everything that comes through the channel, filtered, into the store.
fn write(piped: Piped, filter: Option<Expr>, store: &mut Destination) -> anyhow::Result<()> {
    match filter {
        None => pump(Tee::new(piped, store.as_store())),
        Some(expression) => {
            let judge = filter::judge(expression);
            pump(Tee::new(Filtered::new(piped, judge), store.as_store()))
        }
    }
}

fn pump<S: EventSource>(mut tee: Tee<'_, S>) -> anyhow::Result<()> {
    let mut batch = Batch::default();
    loop {
        batch.clear();
        match tee.fill(&mut batch) {
            Ok(Progress::End) => return Ok(()),
            Ok(Progress::More | Progress::Idle) => {}
            Err(error) => return Err(tee.failed.take().unwrap_or_else(|| error.into())),
        }
    }
}

/// Where this recording goes.
enum Destination {
    Stream(Box<Stream>),
    Ring(Box<Ring>),
}

impl Destination {
    fn open(
        args: &RecordArgs,
        manifest: &Manifest,
        to_stdout: bool,
        signals: &Signals,
        tally: &Arc<Tally>,
        owner: Option<&Invoker>,
        signing: &Signing,
    ) -> anyhow::Result<Self> {
        let rotation = Rotation {
            size: args.rotate_size.map(|size| size.0),
            time: args.rotate_time.map(|span| span.0),
            keep: args.keep,
        };
        anyhow::ensure!(
            rotation.keep.is_none() || rotation.is_on(),
            "--keep says how many rotated files to keep; add --rotate-size or --rotate-time"
        );
        let base = args.output.clone().unwrap_or_else(|| default_name(manifest));
        let files =
            |numbered| Files::new(base.clone(), numbered, args.keep, args.force, owner.cloned());
        let (manifest, tally) = (manifest.clone(), Arc::clone(tally));
        if let Some(keep) = args.ring {
            let target = if to_stdout {
                Final::Stdout
            } else {
                refuse_existing(&base, args.force)?;
                Final::Files { last: files(false), asked: files(true) }
            };
            let (memory, signals) = (args.ring_memory.0, signals.clone());
            let ring =
                Ring::new(manifest, keep.0, memory, signals, tally, target, signing.clone())?;
            return Ok(Self::Ring(Box::new(ring)));
        }
        let target =
            if to_stdout { Target::Stdout } else { Target::Files(files(rotation.is_on())) };
        Ok(Self::Stream(Box::new(Stream::open(
            manifest,
            target,
            rotation,
            tally,
            signing.clone(),
        )?)))
    }

    fn as_store(&mut self) -> &mut dyn Store {
        match self {
            Self::Stream(stream) => &mut **stream,
            Self::Ring(ring) => &mut **ring,
        }
    }

    fn place(&self) -> String {
        match self {
            Self::Stream(stream) => stream.place(),
            Self::Ring(ring) => ring.place(),
        }
    }

    /// Removes what nothing was recorded into.
    fn discard(self) {
        match self {
            Self::Stream(stream) => stream.discard(),
            // It makes its files at the end.
            Self::Ring(_) => {}
        }
    }

    fn creates_files(&self) -> bool {
        match self {
            Self::Stream(stream) => stream.rotates(),
            Self::Ring(_) => true,
        }
    }

    fn was_crowded(&self) -> bool {
        matches!(self, Self::Ring(ring) if ring.was_crowded())
    }
}

/// The ring's file is made at the end: that it cannot be is better said at the start.
fn refuse_existing(path: &Path, replace: bool) -> anyhow::Result<()> {
    anyhow::ensure!(
        replace || path.symlink_metadata().is_err(),
        "{} is already there; choose another name or use --force",
        path.display()
    );
    Ok(())
}

/// Empties the kernel's rings into the channel until something ends the recording.
struct Drain<'a> {
    source: &'a mut LiveSource,
    feed: &'a Feed,
    signals: &'a Signals,
    tally: &'a Tally,
    line: &'a mut Line,
    deadline: Option<Instant>,
    facts_every: Duration,
    /// When the facts were last read.
    facts_at: Option<Instant>,
    /// When the loss was last stored.
    loss_at: Instant,
    /// Facts to go first.
    early: Vec<Fact>,
    /// The prober, while it is at work.
    probing: Option<Probing>,
    clock: Clock,
}

impl Drain<'_> {
    /// Returns why it ended.
    fn run(mut self, command: &mut Option<Running>) -> anyhow::Result<String> {
        let mut status = None;
        let mut failed = None;
        let reason = loop {
            match self.pass() {
                Ok(Passed::Busy) => {}
                Ok(Passed::Quiet) => thread::sleep(self.source.pause()),
                Ok(Passed::Ended) => break "the source ended".to_owned(),
                Ok(Passed::Unread) => break "the output was closed".to_owned(),
                Err(error) => {
                    failed = Some(error);
                    break "the source failed".to_owned();
                }
            }
            self.line.tick(self.tally);
            if self.signals.stop() {
                break "signal".to_owned();
            }
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                break "duration".to_owned();
            }
            // Probing alone is a recording's purpose: without another, it ends with it.
            let until_probed = self.deadline.is_none() && command.is_none();
            if until_probed && self.probing.as_mut().is_some_and(Probing::ended) {
                break "probing ended".to_owned();
            }
            if let Some(running) = command.as_mut() {
                status = running.ended()?;
                if let Some(status) = status {
                    break format!("{} exited with {status}", running.name());
                }
            }
        };
        if status.is_none() {
            status = command.take().and_then(Running::stop);
        }
        self.finish(&reason, status);
        match failed {
            Some(error) => Err(error),
            None => Ok(reason),
        }
    }

    fn pass(&mut self) -> anyhow::Result<Passed> {
        let mut batch = self.feed.batch();
        let progress = self.source.fill(&mut batch).context("cannot read the kernel's events")?;
        batch.facts.append(&mut self.early);
        if self.facts_at.is_none_or(|at| at.elapsed() >= self.facts_every) {
            batch.facts.extend(self.source.snapshot_facts());
            (self.facts_at, self.loss_at) = (Some(Instant::now()), Instant::now());
        } else if self.loss_at.elapsed() >= LOSS_EVERY {
            batch.facts.push(Fact::Loss(self.source.loss()));
            self.loss_at = Instant::now();
        }
        let empty = batch.events.is_empty() && batch.facts.is_empty();
        if !empty && self.feed.send(batch).is_err() {
            return Ok(Passed::Unread);
        }
        Ok(match progress {
            Progress::More => Passed::Busy,
            Progress::Idle => Passed::Quiet,
            Progress::End => Passed::Ended,
        })
    }

    /// The last facts, what was under way when the end came, and the end mark.
    ///
    /// The counters are read while the probes are still attached, as they are at the start: the
    /// events cover all of the time that the counters do.
    fn finish(&mut self, reason: &str, command_status: Option<i32>) {
        let facts = self.source.snapshot_facts();
        self.source.stop();
        let mut batch = self.feed.batch();
        batch.facts = facts;
        if let Some(probing) = self.probing.take() {
            // Without them the recording still has the packets.
            batch.facts.extend(probing.results(&self.clock).unwrap_or_default());
        }
        let mut last = 0;
        let deadline = Instant::now() + LAST_EVENTS;
        loop {
            // A failure here would only hide the reason for the end; the archive says what is there.
            let progress = self.source.fill(&mut batch).unwrap_or(Progress::End);
            last = batch.events.iter().map(|event| event.at.0).max().unwrap_or(0).max(last);
            match progress {
                Progress::More => {}
                // A record that an interrupted CPU has not finished writing.
                Progress::Idle if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(1));
                }
                Progress::Idle | Progress::End => break,
            }
            if self.feed.send(std::mem::replace(&mut batch, self.feed.batch())).is_err() {
                return;
            }
        }
        batch.facts.push(Fact::Loss(self.source.loss()));
        batch.facts.push(Fact::End(EndFact {
            at: last,
            reason: reason.to_owned(),
            command_status,
            ..EndFact::default()
        }));
        // When the writing thread is gone, it says itself why.
        let _ = self.feed.send(batch);
    }
}

/// What one pass over the rings gave.
enum Passed {
    Busy,
    Quiet,
    Ended,
    /// The writing thread is gone.
    Unread,
}
