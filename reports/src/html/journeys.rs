//! Single journeys, as ladders and as tables of their steps.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};
use psc_replay::view::trace::{Journey, StoryEdge, TraceView};

use super::cells::{Cell, Grid, Held, Row, figure, left_out, mono, num, span, t, words};
use super::{Section, rerun};
use crate::{svg, units};

/// Journeys held by the page.
const SHOWN: usize = 150;
/// Journeys drawn open of each role: more of one kind look alike.
const OPEN: usize = 2;
/// Steps in a journey's table.
const STEPS: usize = 64;
/// Crossings, translations and joints told of one journey.
const JOINTS: usize = 12;
/// Bytes after which no further journey is added.
const BYTES: usize = 3_000_000;

/// The section, and which journeys it has room for.
pub(super) fn section(trace: &TraceView) -> (Section, Held) {
    let start = trace.provenance.first;
    let mut open = Vec::new();
    let mut closed = String::new();
    // Joints link to journeys that the page may hold; those that the byte limit leaves out are few.
    let shown = Held(trace.exemplars.iter().take(SHOWN).map(|journey| journey.id).collect());
    let mut held = BTreeSet::new();
    let mut roles: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, journey) in trace.exemplars.iter().take(SHOWN).enumerate() {
        if closed.len() > BYTES {
            break;
        }
        // Twice the same number would make an address ambiguous.
        if !held.insert(journey.id) {
            continue;
        }
        let alike = roles.entry(journey.role.as_str()).or_insert(0usize);
        *alike += 1;
        if *alike <= OPEN && (!journey.role.is_empty() || index < 2) {
            open.push(drawn(trace, &shown, journey, start));
        } else {
            closed.push_str(&folded(trace, &shown, journey, start).into_string());
        }
    }
    let more = (trace.exemplars.len() - held.len()) as u64;
    let more = more.saturating_add(trace.omitted);
    let body = html! {
        p {
            (units::counted(trace.journeys.total, "journey", "journeys"))
            "; here are those to look at first: the slowest, the dropped, and typical ones. "
            span.faint {
                "A journey is one packet's way through the stack, step by step. Times count from \
                 its first step."
            }
        }
        @if trace.exemplars.is_empty() { p { "No journey was recorded." } }
        @for journey in &open { (journey) }
        @if !closed.is_empty() {
            h3 { "More journeys" }
            div.list { (maud::PreEscaped(&closed)) }
        }
        (left_out(more, "journeys", &format!("{} -f EXPR", rerun(trace, "trace"))))
    };
    let number = Some(trace.journeys.total);
    (Section { id: "journeys", name: "Journeys", number, body }, Held(held))
}

/// Id of the element that `#journey=N` leads to.
fn anchor(journey: &Journey) -> String {
    format!("journey={}", journey.id)
}

fn times(journey: &Journey, start: u64) -> String {
    let last = journey.first.saturating_add(journey.duration_ns);
    let (from, to) = span(journey.first, last, start);
    format!("{from} {to}")
}

fn headline(journey: &Journey, start: u64) -> Markup {
    html! {
        "Journey " (journey.id)
        @if !journey.role.is_empty() { ", " (t(&journey.role)) }
        ": " (units::duration(journey.duration_ns)) ", "
        @if journey.outcome.starts_with("dropped") { span.bad { (t(&journey.outcome)) } }
        @else { (t(&journey.outcome)) }
        " " span.faint { "at " (units::offset(journey.first, start)) }
    }
}

/// What happened to it on its way, and what it is joined to.
fn story(trace: &TraceView, held: &Held, journey: &Journey) -> Markup {
    let joints: Vec<&StoryEdge> = trace
        .stories
        .iter()
        .filter(|story| story.journeys.contains(&journey.id))
        .flat_map(|story| &story.edges)
        .filter(|edge| edge.journey == journey.id || edge.of == journey.id)
        .collect();
    let more = joints.len().saturating_sub(JOINTS) + journey.passages.len().saturating_sub(JOINTS);
    html! {
        @if !joints.is_empty() || !journey.passages.is_empty() {
            dl.facts {
                @for passage in journey.passages.iter().take(JOINTS) {
                    dt { (t(&passage.kind)) }
                    dd {
                        span.mono { (t(&passage.from)) " › " (t(&passage.to)) }
                        @if let Some(transit) = &passage.transit { ", " (units::transit(transit)) }
                    }
                }
                @for edge in joints.iter().take(JOINTS) {
                    dt { (t(&edge.kind)) }
                    dd {
                        @if edge.journey == journey.id {
                            "this journey: " (t(&edge.words)) " " (held.link(edge.of))
                        } @else {
                            "journey " (held.link(edge.journey)) ": " (t(&edge.words))
                        }
                        " " span.faint {
                            @if edge.evidence == "observed" { "(observed)" } @else { "(by content)" }
                        }
                    }
                }
            }
            (left_out(more as u64, "joints", &format!("{} -j {}", rerun(trace, "trace"), journey.id)))
        }
    }
}

fn drawn(trace: &TraceView, held: &Held, journey: &Journey, start: u64) -> Markup {
    let label = format!("Ladder of journey {}", journey.id);
    html! {
        article.journey id=(anchor(journey)) data-t=(times(journey, start)) {
            h3 { (headline(journey, start)) }
            (story(trace, held, journey))
            (figure(&svg::ladder_figure(journey), &label))
            details {
                summary { "Steps of journey " (journey.id) " as a table" }
                (steps(trace, journey))
            }
        }
        "\n"
    }
}

/// The id is inside, so that browsers open the fold by themselves when the address leads there.
fn folded(trace: &TraceView, held: &Held, journey: &Journey, start: u64) -> Markup {
    let label = format!("Ladder of journey {}", journey.id);
    html! {
        details data-t=(times(journey, start)) {
            summary {
                (headline(journey, start))
                @if !journey.flow.is_empty() { " " span.mono.faint { (t(&journey.flow)) } }
            }
            div.inside id=(anchor(journey)) {
                (story(trace, held, journey))
                (figure(&svg::ladder_figure(journey), &label))
                details { summary { "Steps as a table" } (steps(trace, journey)) }
            }
        }
        "\n"
    }
}

fn steps(trace: &TraceView, journey: &Journey) -> Markup {
    let (unit, write) = units::column(journey.duration_ns);
    let rows = journey.steps.iter().map(|step| {
        let since = step.at.saturating_sub(journey.first);
        let stack: Vec<&str> = step.stack.iter().take(16).map(String::as_str).collect();
        let evidence = step.stack_evidence.as_str();
        let mut detail = vec![step.detail.as_str(), step.lineage.as_str()];
        detail.retain(|part| !part.is_empty());
        Row::plain(vec![
            Cell::sorted(html! { (write(since)) }, since),
            Cell::duration(step.delta_ns),
            Cell::text(&step.layer),
            Cell::text(&step.probe),
            Cell::markup(html! {
                @if stack.is_empty() { span.faint { "–" } }
                @else {
                    (t(&stack.join(" < ")))
                    @if !evidence.is_empty() { " " span.faint { "(" (t(evidence)) ")" } }
                }
            }),
            Cell::text(&step.device),
            Cell::text(&step.netns),
            Cell::text(&step.context),
            Cell::markup(html! {
                (t(&detail.join("; ")))
                @if !step.headers.is_empty() { div { "now " (t(&step.headers)) } }
            }),
        ])
    });
    let columns = [
        num(if unit == "µs" { "Time, µs" } else { "Time, ms" }),
        num("Step"),
        mono("Layer"),
        mono("Probe"),
        words("Kernel stack, innermost first"),
        mono("Device"),
        mono("Namespace"),
        mono("Context"),
        words("Detail"),
    ];
    let id = format!("steps-{}", journey.id);
    let caption = format!("Steps of journey {}", journey.id);
    let json = rerun(trace, "trace --format json");
    let grid = Grid {
        id: &id,
        caption: &caption,
        columns: &columns,
        rows: STEPS,
        bytes: 60_000,
        rerun: &json,
    };
    html! {
        @if !journey.ambiguous.is_empty() {
            p { span.tag.medium { "ambiguous" } (t(&journey.ambiguous)) }
        }
        (grid.draw(rows, 0))
    }
}
