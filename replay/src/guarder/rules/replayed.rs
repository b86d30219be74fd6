//! What a rule set would have done in a recording, and to whom: nothing is touched.

use std::collections::{HashMap, HashSet};

use psc_formats::FiveTuple;
use psc_formats::event::DeviceId;
use psc_formats::guard::{Flow, Keys, WINDOW};
use psc_formats::packet::{self, Headers, Transport};

use super::health::Health;
use super::{Asked, By, Compiled, Evaluator, Handshakes, RuleSet, Told, Way};
use crate::bounded::{Bounded, Top};
use crate::engine::{ClosedJourney, JourneyId, Observer, Pass, Sighting, World};
use crate::expr::Subject;
use crate::first_sight::Direction;
use crate::view::rules::{Collateral, RecordedVerdict, RuleOutcome, RuleReplayView};

/// Flows kept apart at most, unless told otherwise.
pub(in crate::guarder) const FLOWS: usize = 262_144;
/// Packets of one journey that are told apart.
const PACKETS_OF_A_JOURNEY: usize = 16;

/// What to replay.
#[derive(Clone, Debug, Default)]
pub struct ReplayOptions {
    /// Only packets at this device; all when `None`.
    pub device: Option<String>,
}

/// Observes a pass and asks the rules about each packet, once where it comes in and once where it
/// goes out.
#[derive(Debug)]
pub struct RuleReplay {
    options: ReplayOptions,
    evaluator: Evaluator,
    handshakes: Handshakes,
    /// What was asked about in each open journey: which way, and the packet's fingerprint, since the kernel
    /// may use an skb again without a probe that sees it.
    asked: HashMap<JourneyId, Vec<(Way, u32)>>,
    totals: RuleReplayView,
    outcomes: Vec<Outcome>,
    flows: Bounded<FiveTuple, Health>,
    /// Flows kept apart at most.
    most: usize,
    /// Discarded packets by rule and canonical flow.
    hurt: HashMap<(u32, FiveTuple), u64>,
    /// Packets that [`Self::hurt`] had no room for.
    forgotten: u64,
}

#[derive(Clone, Debug)]
struct Outcome {
    seen: RuleOutcome,
    sources: Top<std::net::IpAddr>,
}

impl RuleReplay {
    /// Nothing seen.
    pub fn new(set: RuleSet, options: ReplayOptions) -> Self {
        Self::of_flows(set, options, FLOWS)
    }

    /// Nothing seen; `most` flows are kept apart.
    pub(in crate::guarder) fn of_flows(set: RuleSet, options: ReplayOptions, most: usize) -> Self {
        let outcomes = set
            .file
            .rules
            .iter()
            .zip(&set.compiled)
            .map(|(rule, compiled)| Outcome {
                seen: RuleOutcome {
                    id: rule.id.clone(),
                    action: rule.behaviour.action.name().to_owned(),
                    replay_only: match compiled {
                        Compiled::ReplayOnly(why) => why.clone(),
                        Compiled::Exact(_) | Compiled::Finding => String::new(),
                    },
                    ..RuleOutcome::default()
                },
                sources: Top::new(64),
            })
            .collect();
        Self {
            options,
            evaluator: Evaluator::new(set),
            handshakes: Handshakes::default(),
            asked: HashMap::new(),
            totals: RuleReplayView::default(),
            outcomes,
            flows: Bounded::new(most),
            most,
            hurt: HashMap::new(),
            forgotten: 0,
        }
    }

    /// What the rules would have done in the pass.
    pub fn finish(self, file: &str, pass: &Pass) -> RuleReplayView {
        let mut view = self.totals;
        view.provenance = pass.provenance.clone();
        file.clone_into(&mut view.file);
        view.flows_forgotten = self.flows.evicted() + self.forgotten;
        let mut hit: HashSet<FiveTuple> = HashSet::new();
        let mut by_rule: Vec<Vec<(FiveTuple, u64)>> = vec![Vec::new(); self.outcomes.len()];
        for ((rule, tuple), packets) in self.hurt {
            by_rule[rule as usize].push((tuple, packets));
        }
        for (outcome, mut flows) in self.outcomes.into_iter().zip(by_rule) {
            let mut seen = outcome.seen;
            flows.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            seen.flows = flows.len() as u64;
            for (tuple, packets) in flows {
                let Some(health) = self.flows.get(&tuple) else { continue };
                let Some(why) = health.why(tuple.protocol) else { continue };
                seen.healthy_flows += 1;
                seen.healthy_packets += packets;
                view.healthy_packets += packets;
                hit.insert(tuple);
                if seen.examples.len() < 5 {
                    seen.examples.push(Collateral {
                        flow: tuple.to_string(),
                        packets,
                        of: health.total(),
                        why: why.to_owned(),
                    });
                }
            }
            seen.sources = outcome
                .sources
                .most(5)
                .into_iter()
                .map(|(address, packets)| (address.to_string(), packets))
                .collect();
            view.rules.push(seen);
        }
        view.healthy_flows_hit = hit.len() as u64;
        view.recorded = recorded(pass, &view.rules);
        view
    }

    /// Which way a sighting's packet goes, when rules are to be asked here, and whether they are for the
    /// first time.
    fn way(&mut self, world: World<'_>, sighting: &Sighting<'_>) -> Option<(Way, bool)> {
        let way = match Direction::of(&sighting.event.kind)? {
            Direction::Ingress => Way::Ingress,
            Direction::Egress => Way::Egress,
            Direction::Unknown => Way::Unknown,
        };
        if let Some(wanted) = &self.options.device {
            let device = device_name(world, sighting.event.device);
            if device != Some(wanted.as_str()) {
                return None;
            }
        }
        let content = sighting.event.content;
        let asked = self.asked.entry(sighting.journey?).or_default();
        // A fingerprint of 0 was not read: it may be any packet, so it is the one known.
        let same = |(known_way, known): &&mut (Way, u32)| {
            *known_way == way && (*known == content || *known == 0 || content == 0)
        };
        if let Some((_, known)) = asked.iter_mut().find(same) {
            *known = (*known).max(content);
            return None;
        }
        let first = asked.iter().all(|(_, other)| *other != content && *other != 0 && content != 0);
        if asked.len() == PACKETS_OF_A_JOURNEY {
            asked.remove(0);
        }
        asked.push((way, content));
        Some((way, first))
    }

    fn note(&mut self, asked: &Asked<'_>, headers: &Headers, told: &Told) {
        let bytes = u64::from(asked.len);
        for rule in &told.noted {
            self.outcomes[*rule as usize].matched(asked.at, bytes);
        }
        let (rule, blocked) = match told.by {
            By::Nothing => return,
            By::Rule(rule) => (rule, false),
            By::Block(rule) => (rule, true),
        };
        let outcome = &mut self.outcomes[rule as usize];
        outcome.matched(asked.at, bytes);
        outcome.seen.blocks += u64::from(told.blocks);
        outcome.seen.unproven += u64::from(told.unproven);
        if !told.discard {
            return;
        }
        outcome.seen.blocked += u64::from(blocked);
        outcome.seen.discarded += u64::from(!blocked);
        outcome.seen.discarded_bytes += bytes;
        self.totals.discarded += 1;
        self.totals.discarded_bytes += bytes;
        if let Some(tuple) = headers.tuple() {
            outcome.sources.add(tuple.src, 1);
            let key = (rule, tuple.canonical());
            if self.hurt.len() < self.most || self.hurt.contains_key(&key) {
                *self.hurt.entry(key).or_default() += 1;
            } else {
                self.forgotten += 1;
            }
        }
    }
}

impl Outcome {
    fn matched(&mut self, at: u64, bytes: u64) {
        self.seen.matched += 1;
        self.seen.matched_bytes += bytes;
        self.seen.first.get_or_insert(at);
        self.seen.last = Some(at);
    }
}

/// What the kernel did beside what replay comes to.
fn recorded(pass: &Pass, replayed: &[RuleOutcome]) -> Vec<RecordedVerdict> {
    let Some(verdicts) = &pass.tables.verdicts else { return Vec::new() };
    let xdp = pass.tables.rules.iter().any(|rules| rules.points.iter().any(|p| p.contains("XDP")));
    let lost = pass.provenance.completeness.lost.unwrap_or(0);
    let aggregated = pass.provenance.completeness.aggregated;
    let mut rows = Vec::new();
    for rule in &verdicts.rules {
        let recorded = rule.discarded + rule.blocked;
        let same = replayed.iter().find(|outcome| outcome.id == rule.id);
        let again = same.map_or(0, |outcome| outcome.discarded + outcome.blocked);
        if recorded == 0 && again == 0 {
            continue;
        }
        let why = if recorded == again {
            String::new()
        } else if same.is_none() {
            "this rule is not in the file replayed".to_owned()
        } else if xdp && again < recorded {
            "what XDP discards has no skb, so it is not in the recording".to_owned()
        } else if lost > 0 {
            format!("the recorder lost {lost} events")
        } else if aggregated > 0 {
            format!("{aggregated} drops were counted instead of recorded")
        } else if verdicts.no_state > 0 {
            format!("{} packets passed because state could not be kept", verdicts.no_state)
        } else if verdicts.never > 0 {
            format!("{} packets were kept by never-block entries", verdicts.never)
        } else {
            "the rules were attached before the recording began, or changed during it, or a source was \
             proven a moment later in the kernel"
                .to_owned()
        };
        rows.push(RecordedVerdict { id: rule.id.clone(), recorded, replayed: again, why });
    }
    rows
}

fn device_name(world: World<'_>, device: DeviceId) -> Option<&str> {
    world.tables.devices.get(&device).map(|fact| fact.name.as_str())
}

impl Observer for RuleReplay {
    fn sighting(&mut self, world: World<'_>, sighting: &Sighting<'_>) {
        let Some(headers) = sighting.headers else { return };
        let Some((way, first)) = self.way(world, sighting) else { return };
        let event = sighting.event;
        let (stored, len) = match event.packet {
            Some(packet) if sighting.fresh => (sighting.bytes.len(), packet.len),
            _ => (usize::MAX, event.len),
        };
        // The kernel looks no further than this.
        let narrowed = match event.packet {
            Some(packet) if sighting.fresh && stored > WINDOW => {
                Some(packet::decode(packet.link, &sighting.bytes[..WINDOW], packet.len))
            }
            _ => None,
        };
        let looked_at = narrowed.as_ref().unwrap_or(headers);
        let keys = Keys::of(looked_at, len);
        let flow = Flow::of(looked_at);
        self.totals.asked += 1;
        self.totals.direction_unknown += u64::from(way == Way::Unknown);
        let short = stored < WINDOW.min(len as usize);
        self.totals.headers_cut += u64::from(looked_at.cut && short);

        let asked = Asked { at: event.at.0, way, keys: &keys, flow: &flow, len };
        let subject = Subject::event(world, event, Some(headers), sighting.bytes);
        let told = self.evaluator.ask(&asked, Some(&subject));
        self.note(&asked, headers, &told);
        if let Some((_, tuple)) = self.handshakes.packet(headers) {
            self.evaluator.prove(&Flow::of_tuple(&tuple));
        }
        // A packet counts once for its flow, however often it was asked about.
        if !first {
            return;
        }
        if let Some(tuple) = headers.tuple() {
            let canonical = tuple.canonical();
            self.flows
                .entry_or_forget(canonical, Health::default)
                .packet(&tuple, &canonical, headers);
        }
        if let Transport::Icmp(icmp) = headers.transport
            && let Some(quoted) = icmp.quoted
            && let Some(health) = self.flows.get_mut(&quoted.tuple.canonical())
        {
            health.refused();
        }
    }

    fn closed(&mut self, _world: World<'_>, journey: &ClosedJourney) {
        self.asked.remove(&journey.id);
    }
}
