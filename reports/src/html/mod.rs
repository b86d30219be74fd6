//! The report: one page that opens from disk, asks no network for anything, and reads without
//! script.
//!
//! A content security policy allows nothing but this page's own style and script, by hash. Figures
//! are inline SVG; tables are rendered here and only sorted and filtered there. Every section has
//! a limit of rows and of bytes, and says what it left out.

mod cells;
mod choose;
mod coverage;
mod delays;
mod findings;
mod journeys;
mod paths;
mod places;
mod summary;
mod traffic;

use std::fmt::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use psc_replay::view::analyze::AnalyzeView;
use psc_replay::view::detect::{DetectView, Finding};
use psc_replay::view::locate::LocateView;
use psc_replay::view::trace::TraceView;
use sha2::{Digest as _, Sha256};

use self::cells::{Held, t};
use crate::svg;

const SCRIPT: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");

/// What the sections draw from.
struct Report<'a> {
    trace: &'a TraceView,
    analyze: &'a AnalyzeView,
    locate: &'a LocateView,
    detect: &'a DetectView,
    /// Findings of the analyzer and of the detectors, worst first.
    findings: Vec<&'a Finding>,
    /// Journeys that the page shows.
    held: Held,
    /// First event, nanoseconds: times on the page count from here.
    start: u64,
}

impl Report<'_> {
    fn rerun(&self, verb: &str) -> String {
        rerun(self.trace, verb)
    }
}

/// `psc VERB FILE`, for "rerun with".
fn rerun(trace: &TraceView, verb: &str) -> String {
    format!("psc {verb} {}", trace.provenance.source)
}

/// One section: its id, its name in the contents, and how many things are in it.
struct Section {
    id: &'static str,
    name: &'static str,
    number: Option<u64>,
    body: Markup,
}

/// `sha256-…` of a style or script, as a policy wants it.
fn source_hash(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text.as_bytes())))
}

/// Draws the whole page.
pub fn report(
    trace: &TraceView,
    analyze: &AnalyzeView,
    locate: &LocateView,
    detect: &DetectView,
    out: &mut impl Write,
) -> fmt::Result {
    // First, since the others link to the journeys that it has room for.
    let (journeys, held) = journeys::section(trace);
    let report = Report {
        trace,
        analyze,
        locate,
        detect,
        findings: findings::merged(analyze, detect),
        held,
        start: trace.provenance.first,
    };
    let peers = traffic::peers(&report);
    let places = places::section(&report, &peers.body);
    let mut sections = vec![
        findings::section(&report),
        traffic::drops(&report),
        paths::section(&report),
        journeys,
        traffic::latency(&report),
        traffic::volume(&report),
        traffic::flows(&report),
        peers,
        places,
        coverage::counters(&report),
        coverage::section(&report),
    ];
    if trace.provenance.origin == "capture" {
        // Who talked comes first where the stack is not seen.
        let seen = ["findings", "flows", "peers", "routes", "volume"];
        sections.sort_by_key(|section| {
            seen.iter().position(|id| *id == section.id).unwrap_or(seen.len())
        });
    }
    let style = format!("{STYLE}{}{}", svg::RULES, svg::PLACES_RULES);
    let policy = format!(
        "default-src 'none'; style-src {}; script-src {}; img-src data:; base-uri 'none'; \
         form-action 'none'",
        source_hash(&style),
        source_hash(SCRIPT)
    );
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width,initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (t(&trace.provenance.source)) " – psc report" }
                style { (PreEscaped(&style)) }
            }
            "\n"
            body data-source=(t(&trace.provenance.source)) {
                a.skip href="#main" { "Skip to the report" }
                div.page {
                    header.top {
                        span.name { "psc report" }
                        span.grow { (t(&trace.provenance.source)) }
                        button #theme.js-only type="button" { "Dark colours" }
                    }
                    nav.toc aria-label="Sections" {
                        ul {
                            li { a href="#summary" { "Summary" } }
                            @for section in &sections {
                                li {
                                    a href=(format!("#{}", section.id)) { (section.name) }
                                    @if let Some(number) = section.number {
                                        span.n { (crate::units::count(number)) }
                                    }
                                }
                            }
                        }
                    }
                    main #main tabindex="-1" {
                        p #range.range role="status" hidden {
                            span {} button type="button" { "Show all" }
                        }
                        p #status.js-only.skip role="status" {}
                        (summary::section(&report))
                        @for section in &sections {
                            "\n"
                            section id=(section.id) aria-labelledby=(format!("{}-title", section.id)) {
                                h2 id=(format!("{}-title", section.id)) { (section.name) }
                                (section.body)
                            }
                        }
                    }
                    "\n"
                    (coverage::footer(&report))
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    out.write_str(&page.into_string())?;
    out.write_char('\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_the_one_browsers_compute() {
        // The example of the CSP specification, level 3.
        assert_eq!(
            source_hash("alert('Hello, world.');"),
            "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"
        );
    }

    #[test]
    fn style_and_script_cannot_end_their_elements() {
        assert!(!SCRIPT.contains("</") && !STYLE.contains("</") && !svg::RULES.contains("</"));
        assert!(!SCRIPT.contains("innerHTML") && !SCRIPT.contains("fetch("));
    }
}
