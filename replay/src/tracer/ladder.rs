//! One journey, told step by step.

use psc_formats::Event;
use psc_formats::event::SymbolId;
use psc_formats::manifest::Layer;
use psc_formats::packet::{self, Headers};

use super::functions::Functions;
use super::words;
use crate::engine::{ClosedJourney, Outcome, World};
use crate::view::trace::{Journey, JourneyStep};

/// Steps shown of one journey; a packet has some dozen.
const MAX_STEPS: usize = 256;

/// The journey in words.
pub(super) fn tell(
    journey: &ClosedJourney,
    role: &str,
    functions: &mut Functions,
    world: World<'_>,
) -> Journey {
    let first = journey.steps.first();
    // Before its headers are made, an skb is shorter than the packet.
    let seen = journey.tier_one().next().or(first);
    let headers = journey.headers.first().map(|(_, headers)| headers);
    Journey {
        id: journey.id.0,
        role: role.to_owned(),
        first: first.map_or(0, |step| step.at.0),
        duration_ns: journey.duration(),
        flow: journey.flow.map_or_else(String::new, |flow| flow.to_string()),
        summary: headers.map_or_else(String::new, packet::summary),
        len: seen.map_or(0, wire_len),
        segments: seen.map_or(1, |step| step.gso.segments()),
        outcome: words::outcome(journey.outcome, world),
        drop_location: match journey.outcome {
            Outcome::Dropped { location, .. } => world.tables.location(location),
            Outcome::Delivered | Outcome::EndNotObserved => String::new(),
        },
        ambiguous: journey.ambiguous.map_or("", words::ambiguity).to_owned(),
        steps: steps(journey, functions, world),
        passages: super::story::passages(journey, world),
    }
}

/// Bytes on the wire as this event saw the packet.
pub(super) fn wire_len(step: &Event) -> u32 {
    step.packet.map_or(step.len, |packet| packet.len)
}

fn steps(journey: &ClosedJourney, functions: &mut Functions, world: World<'_>) -> Vec<JourneyStep> {
    let mut states = journey.headers.iter().peekable();
    let mut headers: Option<&Headers> = None;
    let mut before = journey.steps.first().map_or(0, |step| step.at.0);
    let mut rows = Vec::with_capacity(journey.steps.len().min(MAX_STEPS));
    for (step, index) in journey.steps.iter().zip(0_u32..).take(MAX_STEPS) {
        let mut changed = String::new();
        while let Some((_, now)) = states.next_if(|(from, _)| *from <= index) {
            if let Some(old) = headers {
                changed = words::change(old, now);
            }
            headers = Some(now);
        }
        let lineage = journey.lineage.iter().filter(|_| index == 0);
        let lineage: Vec<String> =
            lineage.map(|edge| words::lineage(edge.how, edge.of.0)).collect();
        rows.push(JourneyStep {
            headers: changed,
            lineage: lineage.join(", "),
            ..self::step(step, before, functions, world)
        });
        before = step.at.0;
    }
    rows
}

fn step(step: &Event, before: u64, functions: &mut Functions, world: World<'_>) -> JourneyStep {
    let tables = world.tables;
    let probe = world.manifest.probes.get(step.probe.0 as usize);
    let function = functions.of_step(step, world.manifest, tables);
    let layer = functions.layer(function).or(probe.map(|probe| probe.layer));
    let device = tables.devices.get(&step.device);
    let frames = tables.stacks.get(&step.stack.id).map(|stack| stack.frames.as_slice());
    JourneyStep {
        at: step.at.0,
        delta_ns: step.at.0.saturating_sub(before),
        cpu: step.cpu,
        layer: layer.map_or("", Layer::name).to_owned(),
        probe: probe.map_or_else(|| step.kind.name().to_owned(), |probe| probe.name.clone()),
        function: functions.name(function).to_owned(),
        stack: frames
            .unwrap_or_default()
            .iter()
            .map(|&frame| tables.function(SymbolId(frame)).to_owned())
            .collect(),
        stack_evidence: words::evidence(step.stack.evidence).to_owned(),
        device: device.map_or_else(String::new, |device| device.name.clone()),
        netns: device.map_or_else(String::new, |device| match device.netns_name.as_str() {
            "" if device.netns == 0 => String::new(),
            "" => device.netns.to_string(),
            name => name.to_owned(),
        }),
        context: words::context(step.context, world),
        detail: words::detail(step, world),
        headers: String::new(),
        lineage: String::new(),
    }
}
