//! Findings, and the detectors that looked for them.

use maud::{Markup, html};
use psc_replay::view::analyze::AnalyzeView;
use psc_replay::view::detect::{DetectView, Finding};

use super::cells::{Cell, Grid, Row, fact, left_out, prose, span, t, text, words};
use super::{Report, Section};
use crate::units;

/// Findings shown.
const SHOWN: usize = 100;

fn rank(severity: &str) -> usize {
    ["high", "medium", "low", "info"].iter().position(|known| *known == severity).unwrap_or(4)
}

/// Findings of both views, worst first, then by time and id; one that both tell is told once.
pub(super) fn merged<'a>(analyze: &'a AnalyzeView, detect: &'a DetectView) -> Vec<&'a Finding> {
    let told = |finding: &&Finding| !analyze.findings.contains(finding);
    let mut all: Vec<&Finding> = analyze.findings.iter().collect();
    all.extend(detect.findings.iter().filter(told));
    all.sort_by(|a, b| {
        (rank(&a.severity), a.first, &a.id, &a.title).cmp(&(
            rank(&b.severity),
            b.first,
            &b.id,
            &b.title,
        ))
    });
    all
}

pub(super) fn section(report: &Report<'_>) -> Section {
    let detectors = &report.detect.detectors;
    let rows = detectors.iter().map(|(id, sees, blind)| {
        Row::plain(vec![Cell::text(id), Cell::text(sees), Cell::text(blind)])
    });
    let grid = Grid {
        id: "detectors",
        caption: "What each detector sees, and what this recording kept from it",
        columns: &[text("Detector"), words("Sees"), words("Could not see here")],
        rows: 200,
        bytes: 200_000,
        rerun: &report.rerun("guard detect"),
    };
    let omitted = report.findings.len().saturating_sub(SHOWN) as u64;
    let body = html! {
        @if report.findings.is_empty() {
            p {
                "No finding."
                @if report.trace.provenance.events > 0 {
                    " " span.faint { "The detectors below looked for what they say, in what this recording has." }
                }
            }
        }
        @for (index, finding) in report.findings.iter().take(SHOWN).enumerate() {
            (one(report, finding, index + 1))
        }
        (left_out(omitted, "findings", &report.rerun("guard detect")))
        @if !detectors.is_empty() {
            details {
                summary { (units::counted(detectors.len() as u64, "detector", "detectors")) " ran" }
                (grid.draw(rows, 0))
            }
        }
    };
    let number = Some(report.findings.len() as u64);
    Section { id: "findings", name: "Findings", number, body }
}

/// A link that narrows the page to a span of time.
pub(super) fn when(first: u64, last: u64, start: u64) -> Markup {
    let (from, to) = span(first, last, start);
    let seconds = |us: u64| format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    html! {
        a href=(format!("#t={}..{}", seconds(from), seconds(to + 1))) {
            (units::offset(first, start))
            @if units::offset(first, start) != units::offset(last, start) {
                " to " (units::offset(last, start))
            }
        }
    }
}

fn list(items: &[String]) -> String {
    items.iter().take(8).map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn one(report: &Report<'_>, finding: &Finding, number: usize) -> Markup {
    let (from, to) = span(finding.first, finding.last, report.start);
    let class = match finding.severity.as_str() {
        "high" => "tag high",
        "medium" => "tag medium",
        _ => "tag",
    };
    html! {
        article.finding id=(format!("finding-{number}")) data-t=(format!("{from} {to}"))
            aria-labelledby=(format!("finding-{number}-title")) {
            h3 id=(format!("finding-{number}-title")) {
                span class=(class) { (t(&finding.severity)) } (t(&finding.title))
            }
            dl.facts {
                dt { "Detector" } dd { code { (t(&finding.id)) } }
                (fact("Confidence", &finding.confidence))
                @if finding.last != 0 {
                    dt { "When" }
                    dd {
                        (when(finding.first, finding.last, report.start)) ", "
                        (units::counted(finding.packets, "packet", "packets"))
                    }
                }
                (fact("By", &list(&finding.actors)))
                (fact("To", &list(&finding.targets)))
                @if !finding.evidence.is_empty() {
                    dt { "Evidence" }
                    dd {
                        @for sentence in finding.evidence.iter().take(12) {
                            div { (prose(sentence)) }
                        }
                    }
                }
                (fact("Effect", &finding.effect))
                (fact("Next", &finding.advice))
                @if !finding.journeys.is_empty() {
                    dt { "Journeys" } dd { (report.held.links(&finding.journeys)) }
                }
                (fact("References", &list(&finding.references)))
            }
        }
        "\n"
    }
}
