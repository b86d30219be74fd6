//! The analyzer: volume, latency, drops, connections, counters, and what follows from them.
//!
//! Rules of counting: each packet counts once per layer however many probes and devices saw it;
//! skbs and wire segments are told apart; what these probes cannot see is "unavailable" with the
//! reason, never 0; network loss, kernel drops and recorder loss are never added up.

mod breakdown;
mod calls;
mod counters;
mod delays;
mod drops;
mod flows;
mod lane;
mod latency;
mod notes;
mod reasons;
mod series;
pub(crate) mod tcp;
mod tcp_watch;
mod told;
mod volume;

pub use self::breakdown::KEYS as BREAKDOWNS;
pub(crate) use self::counters::Deltas;
pub(crate) use self::drops::place as place_of;
pub use self::latency::merged as merged_latency;
pub(crate) use self::reasons::meaning;
pub use self::tcp::{Kind as TcpKind, Note as TcpJudgement, Rule as TcpRule};
pub use self::tcp_watch::TcpWatch;

use std::collections::BTreeMap;

use psc_formats::event::DeviceId;
use psc_formats::manifest::{Layer, Origin};
use psc_formats::{Event, EventKind, Manifest, Tables};

use crate::diagnosis::Diagnosis;
use crate::engine::{ClosedJourney, Observer, Pass, Sighting, World};
use crate::first_sight::FirstSight;
use crate::view::NoticeRow;
use crate::view::analyze::{AnalyzeView, CpuRow, Interaction, ThreeLosses};

/// What to show.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Connections shown at most; the rest are counted as left out.
    pub flows: usize,
    /// The connection of which every judgement about a segment is kept, by its number.
    pub flow: Option<u64>,
    /// Rows of each breakdown at most; the rest are counted as left out.
    pub rows: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { flows: 1000, flow: None, rows: 20 }
    }
}

/// Observes a pass and sums it up.
#[derive(Debug, Default)]
pub struct Analyzer {
    options: Options,
    once: FirstSight,
    volume: volume::Volume,
    series: series::Series,
    latencies: latency::Latencies,
    delays: delays::Delays,
    drops: drops::Drops,
    flows: lane::Lane,
    counters: counters::Counters,
    diagnosis: Diagnosis,
    /// Steps from one layer to another.
    interactions: BTreeMap<(Layer, Layer), u64>,
    /// Events by CPU.
    cpus: Vec<u64>,
}

impl Analyzer {
    /// An analyzer that has seen nothing.
    pub fn new(options: Options) -> Self {
        let flows = flows::Flows::keeping(notes::Keeper::whole(options.flow));
        Self { options, flows: lane::Lane::new(flows), ..Self::default() }
    }

    /// The sum of the pass that it observed.
    pub fn finish(mut self, manifest: &Manifest, pass: &Pass) -> AnalyzeView {
        let tables = &pass.tables;
        self.drops.settle();
        let flows = std::mem::take(&mut self.flows).finish();
        let (retransmitted, sent) = flows.network_loss();
        let (dropped, journeys) = self.drops.totals();
        let mut provenance = pass.provenance.clone();
        let loss = ThreeLosses {
            network_retransmitted: retransmitted,
            network_sent: sent,
            kernel_dropped: dropped,
            // A capture cannot know what its kernel dropped.
            kernel_journeys: if manifest.origin == Origin::Capture { 0 } else { journeys },
            recorder_lost: provenance.completeness.lost,
            recorder_kept: provenance.events,
        };
        provenance.notices.extend(self.notices(&flows));
        let drops = self.drops.rows(manifest, tables);
        let counters = self.counters.rows(manifest, tables, &provenance);
        let volume = self.volume.rows(tables);
        let known = breakdown::Known { tables, flows: &flows, volume: &volume, drops: &drops };
        let (diagnosis, Options { rows, flows: shown, .. }) = (&self.diagnosis, self.options);
        let (findings, (breakdowns, (rows, flows_omitted))) = rayon::join(
            || diagnosis.findings(manifest, pass),
            || (breakdown::all(&known, rows), flows.rows(tables, shown)),
        );
        provenance.notices.extend(counters::disagreement(&counters));
        provenance.notices.sort_by(|a, b| {
            (severity_rank(&a.severity), &a.text).cmp(&(severity_rank(&b.severity), &b.text))
        });
        let mut latency = self.latencies.rows(manifest);
        latency.extend(self.delays.latency(manifest));
        AnalyzeView {
            volume,
            breakdowns,
            series: self.series.view(),
            latency,
            delays: self.delays.rows(tables),
            interactions: interactions(&self.interactions, provenance.duration_ns),
            cpus: self
                .cpus
                .iter()
                .zip(0_u16..)
                .filter(|(events, _)| **events > 0)
                .map(|(&events, cpu)| {
                    let gaps = pass.missing_by_cpu.get(&cpu).copied().unwrap_or(0);
                    CpuRow { cpu, events, gaps }
                })
                .collect(),
            drops,
            loss,
            flows: rows,
            flows_omitted,
            counters,
            findings,
            provenance,
        }
    }

    /// What the analyzer itself could not keep or had to leave out.
    fn notices(&self, flows: &flows::Flows) -> Vec<NoticeRow> {
        let notice = |severity: &str, text: &str, count: u64| {
            (count > 0).then(|| NoticeRow {
                severity: severity.to_owned(),
                text: text.to_owned(),
                count,
            })
        };
        [
            notice(
                "data-loss",
                "connections were closed early because too many were open at once; later packets \
                 of theirs count as new connections",
                flows.evicted(),
            ),
            notice(
                "info",
                "packets were captured twice (same IPv4 identification and TCP header at once) and \
                 count once",
                flows.duplicates(),
            ),
            notice(
                "data-loss",
                "drops are in no row because there were too many distinct reasons and places",
                self.drops.unlisted(),
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl Observer for Analyzer {
    fn sighting(&mut self, world: World<'_>, sighting: &Sighting<'_>) {
        self.diagnosis.sighting(world, sighting);
        let event = sighting.event;
        self.series.begin(event.at.0);
        let cpu = usize::from(event.cpu);
        if self.cpus.len() <= cpu {
            self.cpus.resize(cpu + 1, 0);
        }
        self.cpus[cpu] += 1;
        match event.kind {
            EventKind::Captured { .. } => {
                self.volume.captured(event);
                self.series.captured(event);
            }
            EventKind::Repeated { .. } => {
                self.drops.repeated(event);
                self.volume.without_journey(event);
                if let EventKind::Repeated { kind, count, .. } = event.kind
                    && kind == EventKind::tag(&FREE)
                {
                    self.series.drops(event.at.0, count);
                }
            }
            EventKind::Softirq { .. } | EventKind::Scheduled { .. } => self.delays.sighting(event),
            EventKind::SockSend { .. } => self.volume.without_journey(event),
            _ => self.flows.socket_event(event),
        }
        self.counters.sighting(world, event);
        if let Some((headers, _)) = self.once.packet(sighting) {
            self.flows.packet(event, headers, sighting.journey);
        } else if let (EventKind::Receive {}, Some(journey), Some(headers)) =
            (event.kind, sighting.journey, sighting.headers)
        {
            self.flows.arrived(event.at.0, headers, journey);
        }
    }

    fn closed(&mut self, world: World<'_>, journey: &ClosedJourney) {
        if matches!(journey.steps[..], [Event { kind: EventKind::Captured { .. }, .. }]) {
            // A frame told all when it was seen.
            return;
        }
        self.diagnosis.closed(world, journey);
        let uncounted = self.once.never_counted(journey);
        // A listener's clone went nowhere as a packet.
        if !journey.clone {
            self.volume.journey(journey);
            self.latencies.journey(journey, world.manifest);
        }
        self.series.journey(journey);
        self.drops.journey(journey);
        self.flows.journey(journey, uncounted);
        self.counters.journey(world, journey);
        if matches!(journey.outcome, crate::engine::Outcome::Dropped { .. })
            && let Some(last) = journey.tier_one().next_back()
        {
            self.series.drops(last.at.0, 1);
        }
        // Returning from a function is no way from layer to layer.
        let moves =
            |step: &&psc_formats::Event| !matches!(step.kind, EventKind::FunctionReturn { .. });
        let steps = || journey.steps.iter().filter(moves);
        for pair in steps().zip(steps().skip(1)) {
            let layer = |id: psc_formats::ProbeId| {
                world.manifest.probes.get(id.0 as usize).map(|probe| probe.layer)
            };
            if let (Some(from), Some(to)) = (layer(pair.0.probe), layer(pair.1.probe))
                && from != to
            {
                *self.interactions.entry((from, to)).or_default() += 1;
            }
        }
    }
}

const FREE: EventKind = EventKind::Free { reason: 0, location: psc_formats::event::SymbolId(0) };

fn severity_rank(severity: &str) -> u8 {
    match severity {
        "error" => 0,
        "data-loss" => 1,
        _ => 2,
    }
}

fn interactions(steps: &BTreeMap<(Layer, Layer), u64>, duration_ns: u64) -> Vec<Interaction> {
    steps
        .iter()
        .map(|(&(from, to), &count)| Interaction {
            from: from.name().to_owned(),
            to: to.name().to_owned(),
            count,
            per_second: if duration_ns == 0 {
                0.0
            } else {
                count as f64 * 1e9 / duration_ns as f64
            },
        })
        .collect()
}

/// The namespace's name, else its inode, else nothing (captures).
pub(crate) fn netns_name(tables: &Tables, netns: u32) -> String {
    let named = tables
        .devices
        .values()
        .filter(|device| device.netns == netns && !device.netns_name.is_empty())
        .map(|device| &device.netns_name)
        .min();
    match (named, netns) {
        (Some(name), _) => name.clone(),
        (None, 0) => String::new(),
        (None, inode) => inode.to_string(),
    }
}

fn netns_of_device(tables: &Tables, id: DeviceId) -> Option<String> {
    tables.devices.get(&id).map(|device| netns_name(tables, device.netns))
}

#[cfg(test)]
#[path = "analyzer_tests.rs"]
mod tests;
