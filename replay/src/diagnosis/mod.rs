//! Diagnosis: an expert system over events, counters and facts.
//!
//! Rules are data, one table for each family of causes. Each says what it looks at, what is then the
//! cause, what to change, and on what healthy look-alike it is silent. Causes come before symptoms:
//! what a cause explains (a flow, a host, a service) is no finding of a later rule, so that one fault
//! is one finding.

mod addresses;
mod answers;
mod buffers;
mod case;
mod closing;
mod devices;
mod endings;
mod filtering;
mod listeners;
mod neighbours;
mod pace;
mod queueing;
mod routers;
mod routing;
mod rule;
mod rulesets;
mod seen;
mod services;
mod sizes;
mod symptoms;
mod transport;
mod unexplained;
mod waits;

use psc_formats::Manifest;

use self::case::Case;
use self::rule::Rule;
use self::seen::Seen;
use crate::engine::{ClosedJourney, Observer, Pass, Sighting, World};
use crate::view::detect::Finding;
use crate::view::diagnose::{DiagnoseView, RuleRow};

/// Every family, causes before symptoms.
const FAMILIES: &[(&str, &[Rule])] = &[
    ("sizes", sizes::RULES),
    ("filtering", filtering::RULES),
    ("devices", devices::RULES),
    ("addresses", addresses::RULES),
    ("routers", routers::RULES),
    ("routing", routing::RULES),
    ("neighbours", neighbours::RULES),
    ("transport", transport::RULES),
    ("answers", answers::RULES),
    ("listeners", listeners::RULES),
    ("queueing", queueing::RULES),
    ("waits", waits::RULES),
    ("buffers", buffers::RULES),
    ("closing", closing::RULES),
    ("endings", endings::RULES),
    ("services", services::RULES),
    ("pace", pace::RULES),
    ("silence", answers::SYMPTOMS),
    ("symptoms", symptoms::RULES),
    ("unexplained", unexplained::RULES),
];

/// Observes a pass and tells causes.
#[derive(Debug, Default)]
pub struct Diagnosis {
    seen: Seen,
}

impl Diagnosis {
    /// One that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the pass that it observed suffers from.
    pub fn finish(self, manifest: &Manifest, pass: &Pass) -> DiagnoseView {
        DiagnoseView {
            provenance: pass.provenance.clone(),
            findings: self.findings(manifest, pass),
            rules: catalogue(),
        }
    }

    /// The findings alone, worst first.
    pub(crate) fn findings(&self, manifest: &Manifest, pass: &Pass) -> Vec<Finding> {
        let mut case = Case::new(manifest, &pass.tables, &pass.provenance, &self.seen);
        let mut findings: Vec<Finding> =
            rules().flat_map(|(_, rule)| rule.run(&mut case)).collect();
        crate::view::detect::sort(&mut findings);
        findings
    }
}

fn rules() -> impl Iterator<Item = (&'static str, &'static Rule)> {
    FAMILIES.iter().flat_map(|(family, rules)| rules.iter().map(move |rule| (*family, rule)))
}

/// Every rule: what it looks at, which cause it tells, on what it is silent.
pub fn catalogue() -> Vec<RuleRow> {
    rules()
        .map(|(family, rule)| RuleRow {
            id: rule.id.to_owned(),
            family: family.to_owned(),
            layer: rule.layer.name().to_owned(),
            severity: rule.severity.to_owned(),
            looks_at: rule.looks_at.to_owned(),
            cause: rule.cause.to_owned(),
            silent_on: rule.silent_on.to_owned(),
            references: rule.references.iter().map(|&reference| reference.to_owned()).collect(),
        })
        .collect()
}

impl Observer for Diagnosis {
    fn sighting(&mut self, world: World<'_>, sighting: &Sighting<'_>) {
        self.seen.sighting(world, sighting);
    }

    fn closed(&mut self, world: World<'_>, journey: &ClosedJourney) {
        self.seen.closed(world, journey);
    }
}

#[cfg(test)]
#[path = "diagnosis_tests.rs"]
mod tests;
