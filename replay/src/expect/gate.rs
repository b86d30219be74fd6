//! Gates: bounds on how a recording may differ from another, `p99<+10%`, `drops<=base`.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use super::bound::{Percentile, decimal, shown};
use crate::view::check::{Check, CheckView};
use crate::view::diff::{DiffView, StepChange};

/// What a gate bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Metric {
    /// The time of every step.
    Step(Percentile),
    /// Journeys dropped.
    Drops,
    /// Journeys dropped of all.
    DropRate,
    /// Kinds of drop (reason, function) that the base has not, beyond chance.
    NewDrops,
    /// Paths that the base has not, beyond chance.
    NewPaths,
    /// Journeys.
    Journeys,
    /// All changes beyond chance.
    Changes,
}

const METRICS: [(&str, Metric); 11] = [
    ("p50", Metric::Step(Percentile::P50)),
    ("p90", Metric::Step(Percentile::P90)),
    ("p99", Metric::Step(Percentile::P99)),
    ("p999", Metric::Step(Percentile::P999)),
    ("max", Metric::Step(Percentile::Max)),
    ("drops", Metric::Drops),
    ("drop_rate", Metric::DropRate),
    ("new_drops", Metric::NewDrops),
    ("new_paths", Metric::NewPaths),
    ("journeys", Metric::Journeys),
    ("changes", Metric::Changes),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Below,
    AtMost,
    AtLeast,
    Above,
    Equal,
}

const OPERATORS: [(&str, Operator); 5] = [
    ("<=", Operator::AtMost),
    (">=", Operator::AtLeast),
    ("==", Operator::Equal),
    ("<", Operator::Below),
    (">", Operator::Above),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    /// The base's value and so many millionths of it more (or less).
    Base(i64),
    /// A number, or nanoseconds.
    Absolute(u64),
}

/// One gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    metric: Metric,
    operator: Operator,
    limit: Limit,
    text: String,
}

impl Gate {
    /// Smallest relative move that it must be told about; `None` when it is not about steps.
    pub fn threshold(&self) -> Option<f64> {
        match (self.metric, self.limit) {
            (Metric::Step(_), Limit::Base(millionths)) => {
                Some((millionths.unsigned_abs() as f64 / 1e6).min(1.0))
            }
            (Metric::Step(_), Limit::Absolute(_)) => Some(0.0),
            _ => None,
        }
    }

    fn holds(&self, base: f64, new: f64) -> bool {
        let limit = match self.limit {
            Limit::Base(millionths) => base * (1.0 + millionths as f64 / 1e6),
            Limit::Absolute(value) => value as f64,
        };
        match self.operator {
            Operator::Below => new < limit,
            // Nothing more than nothing is no regression.
            Operator::AtMost => new <= limit,
            Operator::AtLeast => new >= limit,
            Operator::Above => new > limit,
            Operator::Equal => (new - limit).abs() < f64::EPSILON,
        }
    }
}

impl FromStr for Gate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names: Vec<&str> = METRICS.iter().map(|(name, _)| *name).collect();
        let bad = |what: &str| {
            format!(
                "`{text}` is no gate: {what}; write METRIC OPERATOR BOUND such as p99<+10%, p99<1ms, \
                 drops<=base or new_drops==0, with METRIC one of {}",
                names.join(", ")
            )
        };
        let at = text.find(['<', '>', '=']).ok_or_else(|| bad("it has no operator"))?;
        let (name, rest) = text.split_at(at);
        let metric = METRICS.iter().find(|(known, _)| *known == name.trim());
        let metric = metric.ok_or_else(|| bad(&format!("there is no metric `{}`", name.trim())))?.1;
        let (sign, operator) = OPERATORS
            .iter()
            .find(|(sign, _)| rest.starts_with(sign))
            .ok_or_else(|| bad("it has no operator"))?;
        let bound = rest[sign.len()..].trim();
        let percent = |text: &str| decimal(text.strip_suffix('%')?.trim(), 10_000);
        let limit = if bound == "base" {
            Limit::Base(0)
        } else if let Some(more) = bound.strip_prefix("base").unwrap_or(bound).strip_prefix('+') {
            let more = percent(more).ok_or_else(|| bad("after + comes a percentage"))?;
            Limit::Base(i64::try_from(more).map_err(|_| bad("that is too much"))?)
        } else if let Some(less) = bound.strip_prefix("base").unwrap_or(bound).strip_prefix('-') {
            let less = percent(less).ok_or_else(|| bad("after - comes a percentage"))?;
            Limit::Base(-i64::try_from(less).map_err(|_| bad("that is too much"))?)
        } else if let Metric::Step(_) = metric {
            let at = bound.find(|c: char| c.is_alphabetic() || c == 'µ');
            let at = at.ok_or_else(|| bad("a time has a unit"))?;
            let scale = match &bound[at..] {
                "ns" => 1,
                "us" | "µs" => 1_000,
                "ms" => 1_000_000,
                "s" => 1_000_000_000,
                _ => return Err(bad("its unit is none of ns, us, ms, s")),
            };
            Limit::Absolute(
                decimal(bound[..at].trim(), scale).ok_or_else(|| bad("its bound is no number"))?,
            )
        } else {
            Limit::Absolute(bound.parse().map_err(|_| bad("its bound is no number"))?)
        };
        if metric == Metric::DropRate && matches!(limit, Limit::Absolute(1..)) {
            return Err(bad("a drop rate is compared with base or with 0"));
        }
        Ok(Self { metric, operator: *operator, limit, text: text.trim().to_owned() })
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Checks gates against a difference. Steps that moved no further than chance moves them do not count:
/// the difference must have been made with a threshold no higher than [`Gate::threshold`].
pub fn check(gates: &[Gate], diff: &DiffView) -> CheckView {
    let checks: Vec<Check> = gates.iter().map(|gate| one(gate, diff)).collect();
    CheckView {
        provenance: diff.new.clone(),
        base: diff.base.source.clone(),
        statements: "--gate".to_owned(),
        failed: checks.iter().filter(|check| !check.holds).count() as u64,
        checks,
    }
}

fn one(gate: &Gate, diff: &DiffView) -> Check {
    let journeys = &diff.journeys;
    let mut evidence = Vec::new();
    let mut cited = Vec::new();
    let counted = |base: u64, new: u64| {
        (gate.holds(base as f64, new as f64), format!("{base} before, {new} now"))
    };
    let (holds, found) = match gate.metric {
        Metric::Step(percentile) => steps(gate, percentile, diff, &mut evidence),
        Metric::Drops | Metric::DropRate => {
            for row in diff.drops.iter().filter(|row| row.new > row.base).take(5) {
                evidence.push(format!(
                    "{} in {}: {} before, {} now",
                    row.reason, row.function, row.base, row.new
                ));
                cited.extend(row.example);
            }
            let (base, new) = (journeys.base_dropped, journeys.new_dropped);
            if gate.metric == Metric::Drops {
                counted(base, new)
            } else {
                let rate = |part: u64, all: u64| part as f64 / all.max(1) as f64;
                (
                    gate.holds(rate(base, journeys.base), rate(new, journeys.new)),
                    format!("{base} of {} before, {new} of {} now", journeys.base, journeys.new),
                )
            }
        }
        Metric::NewDrops => {
            let new = diff.drops.iter().filter(|row| row.change == "new");
            let (rows, rare): (Vec<_>, Vec<_>) = new.partition(|row| row.significant);
            for row in rows.iter().take(5) {
                evidence.push(format!("{} in {}: {} journeys", row.reason, row.function, row.new));
                cited.extend(row.example);
            }
            beyond_chance(counted(0, rows.len() as u64), rare.len())
        }
        Metric::NewPaths => {
            let new = diff.paths.iter().filter(|row| row.change == "appeared");
            let (rows, rare): (Vec<_>, Vec<_>) = new.partition(|row| row.significant);
            for row in rows.iter().take(5) {
                let last = row.steps.last().map_or("", |step| step.probe.as_str());
                evidence.push(format!(
                    "a path that ends at {last}, {}: {} journeys",
                    row.outcome, row.new
                ));
                cited.push(row.example);
            }
            beyond_chance(counted(0, rows.len() as u64), rare.len())
        }
        Metric::Journeys => counted(journeys.base, journeys.new),
        Metric::Changes => counted(0, diff.significant),
    };
    if holds {
        evidence.clear();
        cited.clear();
    }
    Check {
        name: gate.text.clone(),
        statement: gate.text.clone(),
        line: 0,
        holds,
        found,
        evidence,
        journeys: cited,
    }
}

/// Says what the base has not either and was not counted: a gate that holds must not seem to have seen nothing.
fn beyond_chance((holds, mut found): (bool, String), rare: usize) -> (bool, String) {
    if rare > 0 {
        let _ = write!(
            found,
            " beyond chance; {rare} more that the base has not, each too few to tell from chance"
        );
    }
    (holds, found)
}

fn steps(
    gate: &Gate,
    percentile: Percentile,
    diff: &DiffView,
    evidence: &mut Vec<String>,
) -> (bool, String) {
    let value = |step: &StepChange| (percentile.in_view(&step.base), percentile.in_view(&step.new));
    let against: Vec<&StepChange> = diff
        .steps
        .iter()
        .filter(|step| {
            let (base, new) = value(step);
            !gate.holds(base as f64, new as f64)
        })
        .collect();
    for step in against.iter().take(5) {
        let (base, new) = value(step);
        evidence.push(format!(
            "{} to {}: {} {} before, {} now",
            step.from.probe,
            step.to.probe,
            percentile.name(),
            shown(base),
            shown(new)
        ));
    }
    let compared = diff.steps.len() as u64 + diff.steps_same;
    if compared == 0 {
        return (
            false,
            "the two have no step in common that is frequent enough to compare".to_owned(),
        );
    }
    (
        against.is_empty(),
        format!("{} of {compared} steps moved beyond it and beyond chance", against.len()),
    )
}
