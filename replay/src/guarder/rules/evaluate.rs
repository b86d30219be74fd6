//! The rules in userspace: what `guard.bpf.c` decides, packet by packet.

use psc_formats::guard::{Action, Behaviour, Cells, EVERY_RULE, Flow, Keys, Per, StateKey};

use super::{Compiled, Condition, RuleSet};
use crate::bounded::Bounded;
use crate::expr::Subject;

/// Token buckets, thresholds, blocks and proven addresses kept at most, each; as many as the kernel's
/// maps hold.
const STATES: usize = 65_536;

/// Which way a packet goes where a rule looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// Comes in.
    Ingress,
    /// Goes out.
    Egress,
    /// A capture that does not say: rules of either direction look.
    Unknown,
}

/// A packet that rules are asked about.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// When, nanoseconds.
    pub at: u64,
    /// Which way.
    pub way: Way,
    /// Its values.
    pub keys: &'a Keys,
    /// Its addresses and ports.
    pub flow: &'a Flow,
    /// Wire length, bytes.
    pub len: u32,
}

/// What decided about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum By {
    /// No rule: it passes.
    Nothing,
    /// This rule.
    Rule(u32),
    /// A block that this rule made.
    Block(u32),
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Discarded, else passed.
    pub discard: bool,
    /// What decided.
    pub by: By,
    /// Rules that counted, logged or alerted.
    pub noted: Vec<u32>,
    /// A block began with this packet.
    pub blocks: bool,
    /// A block would have begun, had its source been proven.
    pub unproven: bool,
}

/// Rules with their state.
#[derive(Debug)]
pub struct Evaluator {
    set: RuleSet,
    /// Rules that the table does not have, in order.
    replay_only: Vec<u32>,
    buckets: Bounded<StateKey, u64>,
    cells: Bounded<StateKey, Cells>,
    blocks: Bounded<StateKey, (u64, u32)>,
    proven: Bounded<StateKey, ()>,
    /// Which kinds of block rules make.
    blocking: Vec<Per>,
}

impl Evaluator {
    /// `set`, having seen nothing.
    pub fn new(set: RuleSet) -> Self {
        let replay_only = (0..)
            .zip(&set.compiled)
            .filter(|(_, compiled)| matches!(compiled, Compiled::ReplayOnly(_)))
            .map(|(number, _)| number)
            .collect();
        let mut blocking: Vec<Per> = set
            .file
            .rules
            .iter()
            .filter(|rule| rule.behaviour.block.is_some())
            .map(|rule| rule.behaviour.per)
            .collect();
        blocking.sort_by_key(|per| *per as u8);
        blocking.dedup();
        Self {
            set,
            replay_only,
            buckets: Bounded::new(STATES),
            cells: Bounded::new(STATES),
            blocks: Bounded::new(STATES),
            proven: Bounded::new(STATES),
            blocking,
        }
    }

    /// The rules.
    pub fn set(&self) -> &RuleSet {
        &self.set
    }

    /// The source of `flow` completed a handshake.
    pub fn prove(&mut self, flow: &Flow) {
        self.proven.entry_or_forget(StateKey::new(EVERY_RULE, Per::Source, flow), || ());
    }

    /// Blocks the source of `flow` until `until`, on behalf of a rule about findings.
    pub fn block(&mut self, rule: u32, flow: &Flow, until: u64) {
        let per = self.set.file.rules.get(rule as usize).map_or(Per::Source, |r| r.behaviour.per);
        *self.blocks.entry_or_forget(StateKey::new(EVERY_RULE, per, flow), || (0, 0)) =
            (until, rule);
    }

    /// Whether the source of `flow` is proven.
    pub fn is_proven(&self, flow: &Flow) -> bool {
        self.proven.get(&StateKey::new(EVERY_RULE, Per::Source, flow)).is_some()
    }

    /// Asks all rules about a packet. `subject` is for rules that the kernel could not decide.
    pub fn ask(&mut self, asked: &Asked<'_>, subject: Option<&Subject<'_>>) -> Told {
        let mut told = Told {
            discard: false,
            by: By::Nothing,
            noted: Vec::new(),
            blocks: false,
            unproven: false,
        };
        if asked.way != Way::Egress
            && let Some(rule) = self.blocked(asked)
        {
            return Told { discard: true, by: By::Block(rule), ..told };
        }
        let mut matching = Vec::new();
        let rules = &self.set.file.rules;
        self.set.table.matches(asked.keys, &mut |rule| {
            matching.push(rule);
            // Nothing after a rule that decides without state can matter.
            let behaviour = &rules[rule as usize].behaviour;
            !(behaviour.action.decides()
                && looks(behaviour, asked.way)
                && !behaviour.unproven
                && behaviour.rate.is_none()
                && behaviour.distinct.is_none())
        });
        if let Some(subject) = subject {
            let also: Vec<u32> = self
                .replay_only
                .iter()
                .copied()
                .filter(|rule| self.holds(*rule, subject))
                .collect();
            if !also.is_empty() {
                matching.extend(also);
                matching.sort_unstable();
            }
        }
        for rule in matching {
            let behaviour = self.set.file.rules[rule as usize].behaviour;
            if !looks(&behaviour, asked.way) || !self.is_too_much(rule, &behaviour, asked) {
                continue;
            }
            match behaviour.action {
                Action::Count | Action::Log | Action::Alert => told.noted.push(rule),
                Action::Pass => {
                    told.by = By::Rule(rule);
                    break;
                }
                Action::Drop | Action::Limit => {
                    (told.discard, told.by) = (true, By::Rule(rule));
                    if let Some(span) = behaviour.block {
                        told.blocks = self.is_proven(asked.flow);
                        told.unproven = !told.blocks;
                        if told.blocks {
                            self.block(rule, asked.flow, asked.at.saturating_add(span));
                        }
                    }
                    break;
                }
            }
        }
        told
    }

    fn holds(&self, rule: u32, subject: &Subject<'_>) -> bool {
        match &self.set.file.rules[rule as usize].condition {
            Condition::Packets { expr, sources } => {
                expr.as_ref().is_none_or(|expr| expr.matches(subject))
                    && sources.as_ref().is_none_or(|list| subject.source_in(&list.v4, &list.v6))
            }
            Condition::Finding(_) => false,
        }
    }

    fn blocked(&self, asked: &Asked<'_>) -> Option<u32> {
        self.blocking.iter().find_map(|per| {
            let (until, rule) = self.blocks.get(&StateKey::new(EVERY_RULE, *per, asked.flow))?;
            (*until > asked.at).then_some(*rule)
        })
    }

    /// Whether threshold and rate, where there are any, are passed.
    fn is_too_much(&mut self, rule: u32, behaviour: &Behaviour, asked: &Asked<'_>) -> bool {
        if behaviour.unproven && self.is_proven(asked.flow) {
            return false;
        }
        let key = StateKey::new(rule, behaviour.per, asked.flow);
        if let Some(distinct) = &behaviour.distinct {
            let Some(value) = asked.keys.get(distinct.key) else { return false };
            let cells = self.cells.entry_or_forget(key, || Cells::new(asked.at));
            if !cells.is_over(distinct, asked.at, value) {
                return false;
            }
        }
        match &behaviour.rate {
            Some(rate) => {
                let full_at = self.buckets.entry_or_forget(key, || 0);
                rate.is_over(full_at, asked.at, asked.len)
            }
            None => true,
        }
    }
}

fn looks(behaviour: &Behaviour, way: Way) -> bool {
    match way {
        Way::Ingress => behaviour.ingress,
        Way::Egress => behaviour.egress,
        Way::Unknown => true,
    }
}
