//! `psc record --probe`: route probes sent while recording.
//!
//! They are sent by another psc, started before privileges are given up, and the recording sees their packets
//! like anybody's. What only a prober knows (MPLS labels, changed probes) comes as facts at the end.

use std::process::{Child, Command, Stdio};

use anyhow::Context;
use psc_formats::Fact;
use psc_formats::archive::Reader;
use psc_formats::manifest::{Clock, ClockKind};
use psc_formats::{Batch, EventSource, Progress};
use tempfile::TempDir;

use crate::cli::probe::ProbeArgs;

/// A prober at work.
pub(super) struct Probing {
    child: Child,
    folder: TempDir,
}

impl Probing {
    /// Starts probing; `None` when none was asked for.
    pub(super) fn start(args: &ProbeArgs) -> anyhow::Result<Option<Self>> {
        if args.probe.is_empty() {
            return Ok(None);
        }
        anyhow::ensure!(
            cfg!(feature = "probe"),
            "this build cannot probe: it was made without the `probe` feature"
        );
        let folder = TempDir::new().context("cannot make a temporary folder for the prober")?;
        let own = std::env::current_exe().context("cannot find psc itself to start the prober")?;
        let child = Command::new(own)
            .args(command(args))
            .arg("--save")
            .arg(folder.path().join("probes.psc"))
            .stdin(if args.probe.iter().any(|word| word == "-") {
                Stdio::inherit()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start the prober")?;
        Ok(Some(Self { child, folder }))
    }

    /// Whether it has finished.
    pub(super) fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Its results on the recording's clock. One that is still at work is asked to stop and to keep
    /// what it has.
    pub(super) fn results(mut self, clock: &Clock) -> anyhow::Result<Vec<Fact>> {
        if !self.ended() {
            // SAFETY: a plain system call on a child that has not been waited for.
            unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGINT) };
        }
        let _ = self.child.wait();
        let path = self.folder.path().join("probes.psc");
        if !path.exists() {
            return Ok(Vec::new());
        }
        let mut reader = Reader::open(&path).context("cannot read the prober's results")?;
        let mut facts = Vec::new();
        let mut batch = Batch::default();
        loop {
            batch.clear();
            let progress = reader.fill(&mut batch).context("cannot read the prober's results")?;
            facts.extend(batch.facts.drain(..).filter_map(|fact| on(clock, fact)));
            if progress == Progress::End {
                return Ok(facts);
            }
        }
    }
}

/// The prober's fact with its times on the recording's clock; `None` for facts about its own file.
fn on(clock: &Clock, fact: Fact) -> Option<Fact> {
    let Fact::RouteProbes(mut fact) = fact else { return None };
    let offset = match clock.kind {
        ClockKind::Monotonic => clock.realtime_offset_ns,
        ClockKind::Realtime => 0,
    };
    let shift = |at: u64| at.saturating_add_signed(offset.saturating_neg());
    fact.at = shift(fact.at);
    for probe in &mut fact.probes {
        probe.at = shift(probe.at);
    }
    Some(Fact::RouteProbes(fact))
}

/// The prober's command line.
fn command(args: &ProbeArgs) -> Vec<String> {
    use clap::ValueEnum;
    let name = |value: Option<clap::builder::PossibleValue>| {
        value.map(|value| value.get_name().to_owned()).unwrap_or_default()
    };
    let mut words: Vec<String> = vec!["-q".to_owned(), "locate".to_owned(), "--probe".to_owned()];
    words.extend(args.probe.iter().cloned());
    let options = [
        ("--protocol", name(args.protocol.to_possible_value())),
        ("--strategy", name(args.strategy.to_possible_value())),
        ("--port", args.port.to_string()),
        ("--rounds", args.rounds.to_string()),
        ("--max-hops", args.max_hops.to_string()),
        ("--rate", args.rate.to_string()),
        ("--wait", format!("{}ns", args.wait.0.as_nanos())),
    ];
    for (option, value) in options {
        words.push(option.to_owned());
        words.push(value);
    }
    words
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use psc_formats::fact::{RouteProbe, RouteProbesFact};

    use super::*;
    use crate::cli::probe::{ProbeProtocol, ProbeStrategy};
    use crate::cli::values::Span;
    use crate::cli::{Cli, Verb};

    /// What the prober is told is what the recorder was told.
    #[test]
    fn the_command_line_survives_the_way_to_the_prober() {
        let args = ProbeArgs {
            probe: vec!["192.0.2.1".to_owned(), "2001:db8::1".to_owned()],
            protocol: ProbeProtocol::Tcp,
            strategy: ProbeStrategy::Dublin,
            port: 8080,
            rounds: 7,
            max_hops: 12,
            rate: 250,
            wait: Span(std::time::Duration::from_millis(1_500)),
        };
        let words = std::iter::once("psc".to_owned()).chain(command(&args));
        let parsed = Cli::try_parse_from(words).expect("parses");
        let Verb::Locate(locate) = parsed.verb else { panic!("locate") };
        assert_eq!(format!("{:?}", locate.probing), format!("{args:?}"));
    }

    #[test]
    fn times_are_moved_to_the_recordings_clock() {
        let clock =
            Clock { kind: ClockKind::Monotonic, realtime_offset_ns: 1_000, ..Clock::default() };
        let probes = vec![RouteProbe { at: 1_500, ..RouteProbe::default() }];
        let fact = RouteProbesFact { at: 1_500, probes, ..RouteProbesFact::default() };
        let Some(Fact::RouteProbes(moved)) = on(&clock, Fact::RouteProbes(fact)) else {
            panic!("kept")
        };
        assert_eq!((moved.at, moved.probes[0].at), (500, 500));
        assert!(on(&clock, Fact::Unknown).is_none());
    }
}
