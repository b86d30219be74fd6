//! `--to perfetto`: a trace that <https://ui.perfetto.dev> and `trace_processor` open.
//!
//! Two groups of tracks. "CPUs" has one track a CPU: what each did to which packet, event by event.
//! "Flows" has one track a flow: each journey is a slice, its steps slices inside, a drop a mark. Journeys that
//! overlap are on tracks of the same name, which Perfetto shows as one, several rows deep. Arrows lead from a
//! journey to its events on the CPUs.

mod lanes;
mod proto;

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};

use anyhow::Context as _;
use prost::Message;
use psc_formats::manifest::ClockKind;
use psc_formats::packet::summary;
use psc_formats::{Context, EventKind, FiveTuple, Manifest, Ns};
use psc_replay::engine::{ClosedJourney, Observer, Outcome, Sighting, World};
use psc_replay::tracer::Places;
use psc_reports::units::counted;

use self::lanes::Lanes;
use self::proto::{
    Clock, ClockSnapshot, DebugAnnotation, EventName, InternedData, TracePacket, TrackDescriptor,
    TrackEvent,
};
use crate::Verdict;
use crate::cli::ExportArgs;
use crate::output::{Console, NewFile, printable};
use crate::source::replay;

/// One writer: one sequence of packets.
const SEQUENCE: u32 = 1;

/// Flows that get a track of their own; packets of further ones share one.
const MAX_FLOWS: usize = 1 << 16;

const CPUS: u64 = 1;
const FLOWS: u64 = 2;
/// Tracks of CPUs start here, by CPU number; those of flows after them.
const FIRST_CPU: u64 = 16;
const FIRST_FLOW: u64 = FIRST_CPU + (1 << 16);

pub(super) fn run(args: &ExportArgs, console: Console) -> anyhow::Result<Verdict> {
    let output = NewFile::create(&args.output, args.force)?;
    let mut trace = Trace::new(BufWriter::new(output));
    replay(&args.input, &args.select, console, &mut [&mut trace])?;
    let failed = || format!("cannot write {}; is there space?", args.output.display());
    if let Some(error) = trace.failed {
        return Err(error).with_context(failed);
    }
    let output = trace.out.into_inner().map_err(io::IntoInnerError::into_error);
    output.with_context(failed)?.keep()?;
    console.note(&format!(
        "{}: {} in {}; open it at https://ui.perfetto.dev",
        args.output.display(),
        counted(trace.journeys, "journey", "journeys"),
        counted(trace.lanes.flows() as u64, "flow", "flows"),
    ));
    Ok(Verdict::Clean)
}

struct Trace<W: Write> {
    out: W,
    started: bool,
    cpus: Vec<bool>,
    lanes: Lanes,
    places: Places,
    /// Interned names of functions and probes.
    names: HashMap<String, u64>,
    journeys: u64,
    buffer: Vec<u8>,
    failed: Option<io::Error>,
}

impl<W: Write> Trace<W> {
    fn new(out: W) -> Self {
        Self {
            out,
            started: false,
            cpus: Vec::new(),
            lanes: Lanes::new(MAX_FLOWS),
            places: Places::default(),
            names: HashMap::new(),
            journeys: 0,
            buffer: Vec::new(),
            failed: None,
        }
    }

    fn put(&mut self, packet: TracePacket) {
        if self.failed.is_some() {
            return;
        }
        let packet = TracePacket { trusted_packet_sequence_id: Some(SEQUENCE), ..packet };
        self.buffer.clear();
        // Field 1 of `Trace`, a message.
        self.buffer.push(0x0a);
        let written = match packet.encode_length_delimited(&mut self.buffer) {
            Ok(()) => self.out.write_all(&self.buffer),
            Err(error) => Err(io::Error::other(error)),
        };
        self.failed = written.err();
    }

    fn describe(&mut self, track: TrackDescriptor) {
        self.put(TracePacket { track_descriptor: Some(track), ..TracePacket::default() });
    }

    fn begin(&mut self, manifest: &Manifest, at: Ns) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let clock = |id, timestamp| Clock { clock_id: Some(id), timestamp: Some(timestamp) };
        let epoch = u64::try_from(manifest.epoch_ns(at).max(0)).unwrap_or(u64::MAX);
        // A capture's own clock is real time: it stands for all.
        let mut clocks = vec![clock(proto::BOOTTIME, at.0), clock(proto::REALTIME, epoch)];
        if manifest.clock.kind == ClockKind::Monotonic {
            clocks.push(clock(proto::MONOTONIC, at.0));
        }
        self.put(TracePacket {
            clock_snapshot: Some(ClockSnapshot { clocks }),
            sequence_flags: Some(proto::STATE_CLEARED),
            ..TracePacket::default()
        });
        for (uuid, name, rank) in [(CPUS, "CPUs", 0), (FLOWS, "Flows", 1)] {
            self.describe(TrackDescriptor {
                uuid: Some(uuid),
                name: Some(name.to_owned()),
                child_ordering: Some(proto::EXPLICIT),
                sibling_order_rank: Some(rank),
                ..TrackDescriptor::default()
            });
        }
    }

    /// The number of a name; told on its first use.
    fn name(&mut self, name: &str) -> u64 {
        if let Some(known) = self.names.get(name) {
            return *known;
        }
        let iid = self.names.len() as u64 + 1;
        self.names.insert(name.to_owned(), iid);
        let told = EventName { iid: Some(iid), name: Some(printable(name)) };
        self.put(TracePacket {
            interned_data: Some(InternedData { event_names: vec![told] }),
            sequence_flags: Some(proto::NEEDS_STATE),
            ..TracePacket::default()
        });
        iid
    }

    fn event(&mut self, at: Ns, track: u64, kind: i32, event: TrackEvent) {
        let interned = event.name_iid.is_some();
        let event = TrackEvent { kind: Some(kind), track_uuid: Some(track), ..event };
        self.put(TracePacket {
            timestamp: Some(at.0),
            track_event: Some(event),
            sequence_flags: interned.then_some(proto::NEEDS_STATE),
            ..TracePacket::default()
        });
    }

    fn cpu_track(&mut self, cpu: u16) -> u64 {
        let index = usize::from(cpu);
        if self.cpus.len() <= index {
            self.cpus.resize(index + 1, false);
        }
        let uuid = FIRST_CPU + u64::from(cpu);
        if !std::mem::replace(&mut self.cpus[index], true) {
            self.describe(TrackDescriptor {
                uuid: Some(uuid),
                name: Some(format!("CPU {cpu}")),
                parent_uuid: Some(CPUS),
                sibling_order_rank: Some(i32::from(cpu)),
                ..TrackDescriptor::default()
            });
        }
        uuid
    }

    /// A track of the flow on which nothing happens from `from` to `to`.
    fn flow_track(&mut self, flow: Option<FiveTuple>, from: Ns, to: Ns) -> u64 {
        let lane = self.lanes.place(flow, from.0, to.0);
        let uuid = FIRST_FLOW + lane.number;
        if lane.is_new {
            let name = match lane.flow {
                Some(flow) => flow.to_string(),
                None => "other packets".to_owned(),
            };
            self.describe(TrackDescriptor {
                uuid: Some(uuid),
                name: Some(name),
                parent_uuid: Some(FLOWS),
                sibling_order_rank: Some(i32::try_from(lane.rank).unwrap_or(i32::MAX)),
                ..TrackDescriptor::default()
            });
        }
        uuid
    }
}

fn text(name: &str, value: &str) -> DebugAnnotation {
    let (name, value) = (Some(name.to_owned()), Some(printable(value)));
    DebugAnnotation { name, string_value: value, uint_value: None }
}

fn number(name: &str, value: u64) -> DebugAnnotation {
    DebugAnnotation { name: Some(name.to_owned()), uint_value: Some(value), string_value: None }
}

/// What is the same on both kinds of track: where, on which device, for whom.
fn notes(event: &psc_formats::Event, layer: &str, world: World<'_>) -> Vec<DebugAnnotation> {
    let mut notes =
        vec![text("layer", layer), text("probe", world.manifest.probe_name(event.probe))];
    if let Some(device) = world.tables.devices.get(&event.device) {
        notes.push(text("device", &device.name));
        if !device.netns_name.is_empty() {
            notes.push(text("namespace", &device.netns_name));
        }
    }
    if let Context::Task(tid) = event.context
        && let Some(task) = world.tables.tasks.get(&tid)
    {
        notes.push(text("task", &format!("{}[{}]", task.comm, task.pid)));
    }
    notes
}

impl<W: Write> Observer for Trace<W> {
    fn sighting(&mut self, world: World<'_>, sighting: &Sighting<'_>) {
        let event = sighting.event;
        self.begin(world.manifest, event.at);
        let track = self.cpu_track(event.cpu);
        let (layer, name) = self.places.of(event, world);
        let name = if name.is_empty() { event.kind.name().to_owned() } else { name.to_owned() };
        let mut about = notes(event, layer.name(), world);
        about.push(number("bytes", event.len.into()));
        let mut flow_ids = Vec::new();
        if let Some(journey) = sighting.journey {
            about.push(number("journey", journey.0));
            flow_ids.push(journey.0);
        }
        if let EventKind::Free { reason, .. } = event.kind {
            about.push(text("reason", &world.manifest.drop_reason(reason)));
        }
        let name_iid = Some(self.name(&name));
        let event_at = event.at;
        self.event(
            event_at,
            track,
            proto::INSTANT,
            TrackEvent { name_iid, debug_annotations: about, flow_ids, ..TrackEvent::default() },
        );
    }

    fn closed(&mut self, world: World<'_>, journey: &ClosedJourney) {
        let (Some(first), Some(last)) = (journey.steps.first(), journey.steps.last()) else {
            return;
        };
        self.begin(world.manifest, first.at);
        self.journeys += 1;
        let track = self.flow_track(journey.flow, first.at, last.at);
        let headers = journey.headers.first().map(|(_, headers)| summary(headers));
        let what = headers.unwrap_or_else(|| "no bytes recorded".to_owned());
        let mut about = vec![number("journey", journey.id.0), number("bytes", first.len.into())];
        let outcome = match journey.outcome {
            Outcome::Delivered => "delivered".to_owned(),
            Outcome::Dropped { reason, location } => format!(
                "dropped: {} at {}",
                world.manifest.drop_reason(reason),
                world.tables.location(location)
            ),
            Outcome::EndNotObserved => "end not observed".to_owned(),
        };
        about.push(text("outcome", &outcome));
        for edge in &journey.lineage {
            about.push(number(super::endings::joined(edge.how), edge.of.0));
        }
        let whole = TrackEvent {
            name: Some(printable(&format!("{} {what}", journey.id.0))),
            categories: vec!["journey".to_owned()],
            debug_annotations: about,
            flow_ids: vec![journey.id.0],
            ..TrackEvent::default()
        };
        self.event(first.at, track, proto::SLICE_BEGIN, whole);
        for (index, step) in journey.steps.iter().enumerate() {
            let (layer, name) = self.places.of(step, world);
            let name = if name.is_empty() { step.kind.name().to_owned() } else { name.to_owned() };
            let name_iid = Some(self.name(&name));
            let about = notes(step, layer.name(), world);
            let named = TrackEvent { name_iid, debug_annotations: about, ..TrackEvent::default() };
            match journey.steps.get(index + 1) {
                Some(next) => {
                    // A function's return may be stored after what it led to: time goes on.
                    let until = next.at.max(step.at).min(last.at);
                    self.event(step.at.min(last.at), track, proto::SLICE_BEGIN, named);
                    self.event(until, track, proto::SLICE_END, TrackEvent::default());
                }
                None => self.event(step.at, track, proto::INSTANT, named),
            }
        }
        self.event(last.at, track, proto::SLICE_END, TrackEvent::default());
    }
}
