//! A rule set as `psc guard check` shows it.

use psc_formats::guard::{Behaviour, Unit};

use super::{Compiled, Condition, Rule, RuleSet};
use crate::view::rules::{CheckedRule, RuleCheckView};

impl RuleSet {
    /// What each rule was understood as.
    pub fn check(&self, file: &str) -> RuleCheckView {
        let rules = self.file.rules.iter().zip(&self.compiled);
        RuleCheckView {
            file: file.to_owned(),
            rules: rules.map(|(rule, compiled)| checked(rule, compiled)).collect(),
            never_block: self.file.never_block.len(),
            fields: self.table.dims.len(),
            conjunctions: self.table.rows.len(),
            table_bytes: self.table.bytes(),
            enforceable: self.not_enforceable().is_empty(),
        }
    }
}

fn checked(rule: &Rule, compiled: &Compiled) -> CheckedRule {
    let (word, reason) = match compiled {
        Compiled::Exact(_) => ("exact", ""),
        Compiled::ReplayOnly(why) => ("replay-only", why.as_str()),
        Compiled::Finding => ("finding", ""),
    };
    CheckedRule {
        id: rule.id.clone(),
        line: rule.line,
        action: rule.behaviour.action.name().to_owned(),
        does: does(&rule.behaviour),
        condition: condition(&rule.condition),
        compiled: word.to_owned(),
        reason: reason.to_owned(),
    }
}

fn condition(condition: &Condition) -> String {
    match condition {
        Condition::Finding(id) => format!("whoever a finding {id} names"),
        Condition::Packets { expr, sources } => {
            let mut parts = Vec::new();
            parts.extend(expr.as_ref().map(ToString::to_string));
            parts.extend(
                sources
                    .as_ref()
                    .map(|list| format!("source in {} ({} entries)", list.name, list.entries)),
            );
            parts.join(", ")
        }
    }
}

/// Nanoseconds in the largest unit that divides them.
fn span(ns: u64) -> String {
    let units = [
        (86_400_000_000_000, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
    ];
    let (unit, name) =
        units.into_iter().find(|(unit, _)| ns.is_multiple_of(*unit)).unwrap_or((1, "ns"));
    format!("{}{name}", ns / unit)
}

/// What a rule does beside its action, in words.
fn does(behaviour: &Behaviour) -> String {
    let mut parts = Vec::new();
    let per = format!("per {}", behaviour.per.name());
    if behaviour.unproven {
        parts.push("only sources that completed no handshake".to_owned());
    }
    if let Some(distinct) = &behaviour.distinct {
        parts.push(format!(
            "above {} different values within {} {per}",
            distinct.over,
            span(distinct.within)
        ));
    }
    if let Some(rate) = &behaviour.rate {
        let unit = match rate.unit {
            Unit::Packets => "packets",
            Unit::Bytes => "bytes",
        };
        parts.push(format!(
            "above {} {unit} in {} {per}, {} at once",
            rate.amount,
            span(rate.every),
            rate.burst
        ));
    }
    if let Some(block) = behaviour.block {
        parts.push(format!("then blocks the {} for {}", behaviour.per.name(), span(block)));
    }
    if behaviour.egress {
        parts.push(if behaviour.ingress { "both directions" } else { "egress" }.to_owned());
    }
    parts.join(", ")
}
