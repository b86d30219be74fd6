//! `--to jsonl`: one JSON object a line and event, in time order.
//!
//! Version 1 of a line. Always there: `schema`, `at` (nanoseconds on the recording's clock), `epoch_ns`
//! (nanoseconds since the Unix epoch, as text: it exceeds what JSON numbers keep exactly), `cpu`,
//! `seq`, `probe`, `event`, `len`. There where known: `journey`, `skb`, `socket`, `device`, `netns`,
//! `gso_size`, `segments`, `pid` or `context`, `stack` (function names, innermost first) with
//! `stack_evidence`, `args` (the event's own fields by name), `packet`. Fields may be added; one that
//! goes or changes its meaning raises `schema`.

use std::io::{self, BufWriter, Write};

use anyhow::Context as _;
use psc_formats::event::{ArgValue, DeviceId, SockId, StackEvidence, StackId};
use psc_formats::packet::{Headers, Network, summary};
use psc_formats::{Context, EventKind};
use psc_replay::engine::{Observer, Sighting, World};
use psc_reports::units::counted;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use crate::Verdict;
use crate::cli::ExportArgs;
use crate::output::{Console, NewFile};
use crate::source::replay;

/// Version of a line.
const SCHEMA: u32 = 1;

pub(super) fn run(args: &ExportArgs, console: Console) -> anyhow::Result<Verdict> {
    let output = NewFile::create(&args.output, args.force)?;
    let mut lines = Lines { out: BufWriter::new(output), count: 0, failed: None };
    replay(&args.input, &args.select, console, &mut [&mut lines])?;
    let failed = || format!("cannot write {}; is there space?", args.output.display());
    if let Some(error) = lines.failed {
        return Err(error).with_context(failed);
    }
    let output = lines.out.into_inner().map_err(io::IntoInnerError::into_error);
    output.with_context(failed)?.keep()?;
    console.note(&format!(
        "{}: {}",
        args.output.display(),
        counted(lines.count, "event", "events")
    ));
    Ok(Verdict::Clean)
}

struct Lines<W: Write> {
    out: W,
    count: u64,
    failed: Option<io::Error>,
}

impl<W: Write> Observer for Lines<W> {
    fn sighting(&mut self, world: World<'_>, sighting: &Sighting<'_>) {
        if self.failed.is_some() {
            return;
        }
        self.count += 1;
        let written = serde_json::to_writer(&mut self.out, &Line { world, sighting })
            .map_err(io::Error::from)
            .and_then(|()| self.out.write_all(b"\n"));
        self.failed = written.err();
    }
}

/// One event as one object.
struct Line<'a> {
    world: World<'a>,
    sighting: &'a Sighting<'a>,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (event, World { manifest, tables, .. }) = (self.sighting.event, self.world);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("schema", &SCHEMA)?;
        map.serialize_entry("at", &event.at.0)?;
        map.serialize_entry("epoch_ns", &manifest.epoch_ns(event.at).to_string())?;
        map.serialize_entry("cpu", &event.cpu)?;
        map.serialize_entry("seq", &event.seq)?;
        map.serialize_entry("probe", manifest.probe_name(event.probe))?;
        map.serialize_entry("event", event.kind.name())?;
        map.serialize_entry("len", &event.len)?;
        if let Some(journey) = self.sighting.journey {
            map.serialize_entry("journey", &journey.0)?;
        }
        if event.skb.0 != 0 {
            map.serialize_entry("skb", &event.skb.0)?;
        }
        if event.sock != SockId(0) {
            map.serialize_entry("socket", &event.sock.0)?;
        }
        if event.device != DeviceId(0) {
            map.serialize_entry("device", tables.device_name(event.device))?;
            if let Some(device) = tables.devices.get(&event.device)
                && device.netns != 0
            {
                map.serialize_entry("netns", &device.netns)?;
            }
        }
        if event.gso.size != 0 {
            map.serialize_entry("gso_size", &event.gso.size)?;
            map.serialize_entry("segments", &event.gso.segments())?;
        }
        match event.context {
            Context::Unknown => {}
            Context::Task(tid) => map.serialize_entry("tid", &tid)?,
            Context::Softirq => map.serialize_entry("context", "softirq")?,
            Context::Hardirq => map.serialize_entry("context", "hardirq")?,
        }
        if event.stack.id != StackId(0) {
            let frames = tables.stacks.get(&event.stack.id).map_or(&[][..], |s| &s.frames);
            let functions: Vec<&str> = frames
                .iter()
                .map(|frame| tables.function(psc_formats::event::SymbolId(*frame)))
                .collect();
            map.serialize_entry("stack", &functions)?;
            map.serialize_entry("stack_evidence", evidence(event.stack.evidence))?;
        }
        let args = Args { world: self.world, kind: &event.kind };
        map.serialize_entry("args", &args)?;
        if let Some(packet) = event.packet {
            let headers = self.sighting.headers.filter(|_| self.sighting.fresh);
            let shown = Shown { caplen: packet.caplen, len: packet.len, headers };
            map.serialize_entry("packet", &shown)?;
        }
        map.end()
    }
}

fn evidence(evidence: StackEvidence) -> &'static str {
    match evidence {
        StackEvidence::None => "none",
        StackEvidence::Observed => "observed",
        StackEvidence::Confirmed => "confirmed",
        StackEvidence::Contradicted => "contradicted",
        StackEvidence::Inferred => "inferred",
    }
}

/// The fields of an event's kind by name, numbers of things by their name.
struct Args<'a> {
    world: World<'a>,
    kind: &'a EventKind,
}

impl Serialize for Args<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.kind.named_args() {
            match value {
                ArgValue::Number(number) => match i64::try_from(number) {
                    Ok(number) => map.serialize_entry(name, &number)?,
                    Err(_) => map.serialize_entry(name, &(number as u64))?,
                },
                ArgValue::Symbol(id) => {
                    map.serialize_entry(name, &self.world.tables.location(id))?;
                }
                ArgValue::Skb(addr) => map.serialize_entry(name, &addr.0)?,
                ArgValue::Socket(id) => map.serialize_entry(name, &id.0)?,
                ArgValue::Tuple(tuple) => map.serialize_entry(name, &tuple.to_string())?,
            }
        }
        if let EventKind::Free { reason, .. } = self.kind {
            map.serialize_entry("reason_name", &self.world.manifest.drop_reason(*reason))?;
        }
        map.end()
    }
}

/// What is known of an event's packet.
struct Shown<'a> {
    caplen: u32,
    len: u32,
    headers: Option<&'a Headers>,
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("caplen", &self.caplen)?;
        map.serialize_entry("len", &self.len)?;
        let Some(headers) = self.headers else { return map.end() };
        map.serialize_entry("summary", &summary(headers))?;
        if let Some(tuple) = headers.tuple() {
            map.serialize_entry("src", &tuple.src)?;
            map.serialize_entry("dst", &tuple.dst)?;
            map.serialize_entry("protocol", &tuple.protocol)?;
            if tuple.sport != 0 || tuple.dport != 0 {
                map.serialize_entry("sport", &tuple.sport)?;
                map.serialize_entry("dport", &tuple.dport)?;
            }
        }
        if let Network::Arp(arp) = headers.network {
            map.serialize_entry("src", &arp.sender)?;
            map.serialize_entry("dst", &arp.target)?;
        }
        if let Some(ttl) = headers.ttl() {
            map.serialize_entry("ttl", &ttl)?;
        }
        map.serialize_entry("payload_len", &headers.payload_len)?;
        if let Some(part) = headers.malformed {
            map.serialize_entry("malformed", part.name())?;
        }
        map.end()
    }
}
