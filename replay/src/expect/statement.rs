//! Statements as people write them, and what is wrong with them.

use serde::Deserialize;

use super::Kind;
use super::bound::{Bound, Percentile};
use crate::expr::Expr;

/// A file of expectations, as TOML has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectations {
    /// The statements.
    #[serde(default)]
    pub expect: Vec<Statement>,
}

/// One `[[expect]]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// What reports call it.
    #[serde(default)]
    pub name: String,
    /// No packet or event for which this holds.
    pub never: Option<String>,
    /// Every packet that `where` selects has, at some step, what this asks.
    pub always: Option<String>,
    /// Packets for which this holds, as many as `at_least` and `at_most` say.
    pub some: Option<String>,
    /// See `some`; 1 unless given.
    pub at_least: Option<u64>,
    /// See `some`.
    pub at_most: Option<u64>,
    /// Packets that `always` or a time is about; all when not given.
    #[serde(rename = "where")]
    pub selects: Option<String>,
    /// Where a time starts; the packet's first step when not given.
    pub from: Option<String>,
    /// Where it ends; the packet's last step when not given.
    pub to: Option<String>,
    /// Bounds of that time's percentiles: `<1ms`, `<= 250us`.
    pub p50: Option<String>,
    /// See `p50`.
    pub p90: Option<String>,
    /// See `p50`.
    pub p99: Option<String>,
    /// See `p50`.
    pub p999: Option<String>,
    /// See `p50`.
    pub max: Option<String>,
    /// A finding of `psc guard detect` or `psc analyze` that must appear, by id.
    pub finding: Option<String>,
    /// A finding that must not appear; `any` for all.
    pub no_finding: Option<String>,
    /// Bound of the events that the recorder lost, of all: `0`, `<0.1%`. Unknown loss does not hold.
    pub loss: Option<String>,
    /// The recording was closed in good order.
    pub closed: Option<bool>,
    /// The statement holds when there is nothing that it is about.
    #[serde(default)]
    pub allow_none: bool,
}

impl Statement {
    /// The statement with its words, or what is wrong with it.
    pub(super) fn checked(&self) -> Result<(Kind, String), String> {
        let kinds = [
            ("never", self.never.is_some()),
            ("always", self.always.is_some()),
            ("some", self.some.is_some()),
            ("p50, p90, p99, p999 or max", self.bounds().any(|(_, bound)| bound.is_some())),
            ("finding", self.finding.is_some()),
            ("no_finding", self.no_finding.is_some()),
            ("loss", self.loss.is_some()),
            ("closed", self.closed.is_some()),
        ];
        let given: Vec<&str> = kinds.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
        let [kind] = given[..] else {
            let all: Vec<&str> = kinds.iter().map(|(name, _)| *name).collect();
            let what = if given.is_empty() { "none".to_owned() } else { given.join(" and ") };
            return Err(format!("it says {what}; give one of {}", all.join(", ")));
        };
        self.allowed(kind)?;
        let selected = |words: &str| match &self.selects {
            Some(selects) => format!("{words} of packets with `{selects}`"),
            None => words.to_owned(),
        };
        Ok(match kind {
            "never" => {
                let text = self.never.as_deref().unwrap_or_default();
                (Kind::Never(expression("never", text)?), format!("never `{text}`"))
            }
            "always" => {
                let text = self.always.as_deref().unwrap_or_default();
                let selects = optional("where", self.selects.as_deref())?;
                let whose = self.selects.as_ref().map_or("every packet".to_owned(), |selects| {
                    format!("every packet with `{selects}`")
                });
                let wants = expression("always", text)?;
                (Kind::Always { selects, wants }, format!("{whose} has `{text}`"))
            }
            "some" => {
                let text = self.some.as_deref().unwrap_or_default();
                let what = expression("some", text)?;
                let at_most = self.at_most;
                let at_least = self.at_least.unwrap_or(u64::from(at_most.is_none()));
                let many = match at_most {
                    Some(at_most) => format!("{at_least} to {at_most} packets"),
                    None => format!("at least {at_least} packets"),
                };
                (Kind::Some { what, at_least, at_most }, format!("{many} with `{text}`"))
            }
            "finding" => {
                let id = self.finding.clone().unwrap_or_default();
                let words = format!("finding {id}");
                (Kind::Finding { id, wanted: true }, words)
            }
            "no_finding" => {
                let id = self.no_finding.clone().unwrap_or_default();
                let words = format!("no finding {id}");
                (Kind::Finding { id, wanted: false }, words)
            }
            "loss" => {
                let text = self.loss.as_deref().unwrap_or_default();
                let bound = Bound::share(text).map_err(|what| format!("loss: {what}"))?;
                (Kind::Loss(bound), format!("recorder's loss {bound}"))
            }
            "closed" => {
                let wanted = self.closed.unwrap_or_default();
                (Kind::Closed(wanted), format!("closed in good order: {wanted}"))
            }
            _ => {
                let mut bounds = Vec::new();
                for (percentile, text) in self.bounds() {
                    let Some(text) = text else { continue };
                    let bound = Bound::duration(text)
                        .map_err(|what| format!("{}: {what}", percentile.name()))?;
                    bounds.push((percentile, bound));
                }
                let said: Vec<String> = bounds
                    .iter()
                    .map(|(percentile, bound)| format!("{} {bound}", percentile.name()))
                    .collect();
                let ends = match (&self.from, &self.to) {
                    (None, None) => "time from first to last step".to_owned(),
                    (from, to) => format!(
                        "time from {} to {}",
                        from.as_ref()
                            .map_or("the first step".to_owned(), |text| format!("`{text}`")),
                        to.as_ref().map_or("the last step".to_owned(), |text| format!("`{text}`")),
                    ),
                };
                let words = format!("{} {}", selected(&ends), said.join(", "));
                let kind = Kind::Time {
                    selects: optional("where", self.selects.as_deref())?,
                    from: step("from", self.from.as_deref())?,
                    to: step("to", self.to.as_deref())?,
                    bounds,
                };
                (kind, words)
            }
        })
    }

    fn bounds(&self) -> impl Iterator<Item = (Percentile, Option<&str>)> {
        let texts = [&self.p50, &self.p90, &self.p99, &self.p999, &self.max];
        Percentile::ALL.into_iter().zip(texts).map(|(p, text)| (p, text.as_deref()))
    }

    /// Fields that mean nothing beside `kind` are mistakes that would go unnoticed.
    fn allowed(&self, kind: &str) -> Result<(), String> {
        let timed = kind.starts_with("p50");
        let extra = [
            ("where", self.selects.is_some() && !(timed || kind == "always")),
            ("from", self.from.is_some() && !timed),
            ("to", self.to.is_some() && !timed),
            ("at_least", self.at_least.is_some() && kind != "some"),
            ("at_most", self.at_most.is_some() && kind != "some"),
        ];
        match extra.iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(format!("`{name}` means nothing beside `{kind}`")),
            None => Ok(()),
        }
    }
}

fn expression(field: &str, text: &str) -> Result<Expr, String> {
    Expr::parse(text).map_err(|error| format!("{field} = `{text}`: {error}"))
}

fn optional(field: &str, text: Option<&str>) -> Result<Option<Expr>, String> {
    text.map(|text| expression(field, text)).transpose()
}

/// An expression about single steps of a journey.
fn step(field: &str, text: Option<&str>) -> Result<Option<Expr>, String> {
    let expr = optional(field, text)?;
    // A closed journey has no packet bytes any more.
    if expr.as_ref().is_some_and(asks_for_bytes) {
        return Err(format!("{field}: packet bytes are not known of single steps"));
    }
    Ok(expr)
}

fn asks_for_bytes(expr: &Expr) -> bool {
    expr.to_string().contains("payload")
}
