//! Rules to rows: exactly, or not at all.
//!
//! A condition is a formula over sets of values of single keys. What a packet lacks is a value of its
//! own, so `not` is a complement and pushes down to the tests; what remains of `and` and `or` is
//! written as a disjunction of conjunctions, the rows.

use std::collections::BTreeMap;

use psc_formats::guard::{Key, Row, RuleTable, TableError, ValueSet, Width};

pub(super) use super::fields::single_key;
use super::fields::{Lowered, lower};
use super::{Condition, Rule, RuleFile};
use crate::expr::ast::{Condition as Asked, Literal, Node, Range, Relation, Test};

/// Conjunctions of one rule at most.
const MAX_ROWS: usize = 256;
/// Conjunctions of all rules at most.
const MAX_ALL_ROWS: usize = 65_536;

/// What a rule compiled to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiled {
    /// The kernel can decide it, exactly as replay does; with so many rows.
    Exact(usize),
    /// The kernel cannot, and why.
    ReplayOnly(String),
    /// psc watches for the finding, and the kernel discards whom it names.
    Finding,
}

/// A rule file, ready to be asked.
#[derive(Clone, Debug)]
pub struct RuleSet {
    /// The rules.
    pub file: RuleFile,
    /// What became of each.
    pub compiled: Vec<Compiled>,
    /// All exact rules.
    pub table: RuleTable,
}

/// Why a rule file does not compile.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RuleSetError {
    /// Too many rows.
    #[error(
        "the rules come to {0} conjunctions, and {MAX_ALL_ROWS} is the most; write alternatives of one field as a set, as in tcp.dstport in {{80 443}}"
    )]
    Rows(usize),
    /// The table is too large.
    #[error(transparent)]
    Table(#[from] TableError),
}

impl RuleSet {
    /// Compiles all rules.
    pub fn new(file: RuleFile) -> Result<Self, RuleSetError> {
        let mut rows = Vec::new();
        let mut compiled = Vec::with_capacity(file.rules.len());
        for (rule, number) in file.rules.iter().zip(0..) {
            compiled.push(match compile(rule) {
                Ok(None) => Compiled::Finding,
                Ok(Some(tests)) => {
                    let count = tests.len();
                    rows.extend(
                        tests
                            .into_iter()
                            .map(|tests| Row { rule: number, tests: tests.into_iter().collect() }),
                    );
                    Compiled::Exact(count)
                }
                Err(why) => Compiled::ReplayOnly(why),
            });
        }
        if rows.len() > MAX_ALL_ROWS {
            return Err(RuleSetError::Rows(rows.len()));
        }
        let table = RuleTable::new(&rows)?;
        Ok(Self { file, compiled, table })
    }

    /// Why it cannot be enforced as a whole: each rule that the kernel cannot decide. A rule left out
    /// would change what the others do.
    pub fn not_enforceable(&self) -> Vec<(&Rule, &str)> {
        let rules = self.file.rules.iter().zip(&self.compiled);
        rules
            .filter_map(|(rule, compiled)| match compiled {
                Compiled::ReplayOnly(why) => Some((rule, why.as_str())),
                Compiled::Exact(_) | Compiled::Finding => None,
            })
            .collect()
    }
}

type Tests = BTreeMap<Key, ValueSet>;

fn compile(rule: &Rule) -> Result<Option<Vec<Tests>>, String> {
    let Condition::Packets { expr, sources } = &rule.condition else { return Ok(None) };
    let mut parts = Vec::new();
    if let Some(expr) = expr {
        parts.push(formula(expr.root(), false)?);
    }
    if let Some(list) = sources {
        parts.push(Formula::Or(vec![
            Formula::One(Key::IpSrc, list.v4.clone()),
            Formula::One(Key::V6Src, list.v6.clone()),
        ]));
    }
    rows(&Formula::And(parts)).map(Some)
}

/// A condition without `not`.
enum Formula {
    One(Key, ValueSet),
    And(Vec<Formula>),
    Or(Vec<Formula>),
}

fn formula(node: &Node, negated: bool) -> Result<Formula, String> {
    let all = |nodes: &[Node]| -> Result<Vec<Formula>, String> {
        nodes.iter().map(|node| formula(node, negated)).collect()
    };
    Ok(match (node, negated) {
        (Node::Not(inner), _) => formula(inner, !negated)?,
        (Node::And(nodes), false) | (Node::Or(nodes), true) => Formula::And(all(nodes)?),
        (Node::Or(nodes), false) | (Node::And(nodes), true) => Formula::Or(all(nodes)?),
        (Node::Test(test), _) => one(test, negated)?,
    })
}

fn one(test: &Test, negated: bool) -> Result<Formula, String> {
    let lowered = lower(test.field)?;
    let (keys, derive): (&[Key], fn(u64) -> u64) = match &lowered {
        Lowered::Plain(keys) => (keys, |value| value),
        Lowered::Derived(key, derive) => (std::slice::from_ref(key), *derive),
        Lowered::Present(key) => {
            return Ok(single(*key, ValueSet::any(key.width().max()), negated));
        }
    };
    let derived = matches!(lowered, Lowered::Derived(..));
    // Of several values, all must differ and there must be one.
    let differs = matches!(&test.condition, Asked::Compare(Relation::Ne, _)) && keys.len() > 1;
    let mut parts = Vec::new();
    for &key in keys {
        let mut accepted = values(test, key, derived.then_some(derive))?;
        if differs {
            let max = key.width().max();
            accepted = accepted.or(&ValueSet::any(max).complement(max));
        }
        parts.push(single(key, accepted, negated));
    }
    if differs {
        let first = keys[0];
        parts.push(single(first, ValueSet::any(first.width().max()), negated));
    }
    // Otherwise one of several values is enough.
    Ok(if differs == negated { Formula::Or(parts) } else { Formula::And(parts) })
}

fn single(key: Key, accepted: ValueSet, negated: bool) -> Formula {
    let accepted = if negated { accepted.complement(key.width().max()) } else { accepted };
    Formula::One(key, accepted)
}

/// The values of `key` for which the test holds.
fn values(test: &Test, key: Key, derive: Option<fn(u64) -> u64>) -> Result<ValueSet, String> {
    let max = key.width().max();
    if derive.is_some() || test.mask.is_some() {
        let Width::Small(_) = key.width() else {
            return Err(format!(
                "{} has too many values to be masked in the kernel",
                test.field.name
            ));
        };
        let mut ranges: Vec<(u128, u128)> = Vec::new();
        for raw in 0..=max as u64 {
            let value = derive.map_or(raw, |derive| derive(raw));
            let masked = test.mask.map_or(value, |mask| value & mask);
            let holds = match &test.condition {
                Asked::Present => test.mask.is_none() || masked != 0,
                asked => accepted(asked, u64::MAX.into())?.contains(Some(masked.into())),
            };
            if holds {
                match ranges.last_mut() {
                    Some(last) if last.1 + 1 == u128::from(raw) => last.1 = raw.into(),
                    _ => ranges.push((raw.into(), raw.into())),
                }
            }
        }
        return Ok(ValueSet::new(ranges));
    }
    if test.condition == Asked::Present {
        return Ok(ValueSet::any(max));
    }
    accepted(&test.condition, max)
}

/// The values up to `max` that a condition accepts.
fn accepted(condition: &Asked, max: u128) -> Result<ValueSet, String> {
    let clipped = |from: u128, to: u128| (from, to.min(max));
    Ok(match condition {
        Asked::Present => ValueSet::any(max),
        Asked::Compare(relation, literal) => {
            let (from, to) = ends(literal)?;
            let equal = ValueSet::new(vec![clipped(from, to)]);
            match relation {
                Relation::Eq => equal,
                Relation::Ne => {
                    let all = ValueSet::any(max);
                    all.and(&equal.complement(max))
                }
                Relation::Lt => ValueSet::new(
                    from.checked_sub(1).map(|to| clipped(0, to)).into_iter().collect(),
                ),
                Relation::Le => ValueSet::new(vec![clipped(0, to)]),
                Relation::Gt => {
                    ValueSet::new(to.checked_add(1).map(|from| (from, max)).into_iter().collect())
                }
                Relation::Ge => ValueSet::new(vec![(from, max)]),
            }
        }
        Asked::In(ranges) => {
            let mut all = Vec::with_capacity(ranges.len());
            for Range { from, to } in ranges {
                let first = ends(from)?;
                let last = to.as_ref().map_or(Ok(first), ends)?;
                all.push(clipped(first.0, last.1));
            }
            ValueSet::new(all)
        }
        Asked::Contains(_) => return Err("contains is not searched for in the kernel".to_owned()),
    })
}

/// First and last value that a literal means.
fn ends(literal: &Literal) -> Result<(u128, u128), String> {
    Ok(match literal {
        Literal::Number(number) => (u128::from(*number), u128::from(*number)),
        Literal::V4(net) => (u32::from(net.network()).into(), u32::from(net.broadcast()).into()),
        Literal::V6(net) => (net.network().into(), net.broadcast().into()),
        Literal::Mac(mac) => {
            let value = mac.iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte));
            (value, value)
        }
        Literal::Text(_) => return Err("names are not compared in the kernel".to_owned()),
    })
}

/// The formula as a disjunction of conjunctions.
fn rows(formula: &Formula) -> Result<Vec<Tests>, String> {
    let too_many = |count: usize| {
        Err(format!(
            "it comes to {count} alternatives or more, and {MAX_ROWS} is the most for one rule; write \
             alternatives of one field as a set, as in tcp.dstport in {{80 443}}"
        ))
    };
    match formula {
        Formula::One(_, accepted) if accepted.is_empty() => Ok(Vec::new()),
        Formula::One(key, accepted) if accepted.is_everything(key.width().max()) => {
            Ok(vec![Tests::new()])
        }
        Formula::One(key, accepted) => Ok(vec![Tests::from([(*key, accepted.clone())])]),
        Formula::Or(parts) => {
            let mut all: Vec<Tests> = Vec::new();
            // Alternatives of one key are one set.
            let mut united: BTreeMap<Key, ValueSet> = BTreeMap::new();
            for part in parts {
                if let Formula::One(key, accepted) = part {
                    let known = united.entry(*key).or_insert_with(|| ValueSet::new(Vec::new()));
                    *known = known.or(accepted);
                } else {
                    all.extend(rows(part)?);
                }
                if all.len() > MAX_ROWS {
                    return too_many(all.len());
                }
            }
            for (key, accepted) in united {
                all.extend(rows(&Formula::One(key, accepted))?);
            }
            if all.iter().any(Tests::is_empty) {
                return Ok(vec![Tests::new()]);
            }
            unite(&mut all);
            if all.len() > MAX_ROWS { too_many(all.len()) } else { Ok(all) }
        }
        Formula::And(parts) => {
            let mut all = vec![Tests::new()];
            for part in parts {
                let other = rows(part)?;
                let count = all.len() * other.len();
                if count > 16 * MAX_ROWS {
                    return too_many(count);
                }
                let mut both = Vec::with_capacity(count);
                for left in &all {
                    both.extend(other.iter().filter_map(|right| conjoin(left, right)));
                }
                unite(&mut both);
                if both.len() > MAX_ROWS {
                    return too_many(both.len());
                }
                all = both;
            }
            Ok(all)
        }
    }
}

/// Both at once; `None` when no packet can be.
fn conjoin(left: &Tests, right: &Tests) -> Option<Tests> {
    let mut both = left.clone();
    for (key, accepted) in right {
        let joined = match both.get(key) {
            Some(known) => known.and(accepted),
            None => accepted.clone(),
        };
        if joined.is_empty() {
            return None;
        }
        both.insert(*key, joined);
    }
    Some(both)
}

/// Joins rows that differ in the values of one key only.
fn unite(rows: &mut Vec<Tests>) {
    let mut at = 0;
    while at < rows.len() {
        let mut other = at + 1;
        while other < rows.len() {
            match joined(&rows[at], &rows[other]) {
                Some(row) => {
                    rows[at] = row;
                    rows.swap_remove(other);
                }
                None => other += 1,
            }
        }
        at += 1;
    }
}

fn joined(left: &Tests, right: &Tests) -> Option<Tests> {
    if left.len() != right.len() || !left.keys().eq(right.keys()) {
        return None;
    }
    let mut different = left.iter().zip(right).filter(|((_, a), (_, b))| a != b);
    let first = different.next();
    if different.next().is_some() {
        return None;
    }
    let mut row = left.clone();
    if let Some(((key, a), (_, b))) = first {
        let both = a.or(b);
        if both.is_everything(key.width().max()) {
            row.remove(key);
        } else {
            row.insert(*key, both);
        }
    }
    Some(row)
}
