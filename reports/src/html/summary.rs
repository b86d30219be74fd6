//! The first screen: what happened, how sure, what to look at first.

use maud::{Markup, html};
use psc_replay::view::StackShare;

use super::Report;
use super::cells::{percent, prose, t};
use crate::units;
use crate::units::probe_name;

/// How sure a reader may be.
enum Sure {
    Whole,
    Lossy,
    Unknown,
    Unclosed,
}

fn sure(report: &Report<'_>) -> Sure {
    let what = &report.trace.provenance.completeness;
    match what.lost {
        None => Sure::Unknown,
        Some(0) if what.closed => Sure::Whole,
        Some(0) => Sure::Unclosed,
        Some(_) => Sure::Lossy,
    }
}

pub(super) fn section(report: &Report<'_>) -> Markup {
    let provenance = &report.trace.provenance;
    html! {
        section #summary aria-labelledby="summary-title" {
            h1 #summary-title { (t(&provenance.source)) }
            p.faint {
                @if !provenance.host.is_empty() { (t(&provenance.host)) ", " }
                @if provenance.start_utc.is_empty() { "start not recorded" }
                @else { time datetime=(t(&provenance.start_utc).into_string()) { (t(&at(&provenance.start_utc))) } }
                ", " (units::duration(provenance.duration_ns))
                @if !provenance.selection.is_empty() { "; only " (t(&provenance.selection)) }
            }
            h2.kicker { "What happened" }
            div.lede { (happened(report)) }
            (tally(report))
            h2.kicker { "How sure" }
            (confidence(report))
            h2.kicker { "What to look at first" }
            (first(report))
        }
    }
}

/// `2026-11-25 01:41:29.749 UTC`: as long as a reader needs it; the element has it in full.
fn at(utc: &str) -> String {
    match (utc.get(..10), utc.get(11..23)) {
        (Some(day), Some(time)) => format!("{day} {time} UTC"),
        _ => utc.to_owned(),
    }
}

fn is_capture(report: &Report<'_>) -> bool {
    report.trace.provenance.origin == "capture"
}

/// `3 findings (1 high, 2 info)`.
fn findings_words(report: &Report<'_>) -> String {
    let all = units::counted(report.findings.len() as u64, "finding", "findings");
    let by: Vec<String> = ["high", "medium", "low", "info"]
        .into_iter()
        .filter_map(|severity| {
            let number =
                report.findings.iter().filter(|finding| finding.severity == severity).count();
            (number > 0).then(|| format!("{number} {severity}"))
        })
        .collect();
    if by.is_empty() { all } else { format!("{all} ({})", by.join(", ")) }
}

/// What there is to say when no drop is known.
pub(super) fn no_drop(report: &Report<'_>) -> &'static str {
    if is_capture(report) {
        "Whether the kernel dropped packets is unknown: a capture does not tell."
    } else {
        "No drop by the kernel was observed."
    }
}

fn happened(report: &Report<'_>) -> Markup {
    let provenance = &report.trace.provenance;
    let totals = &report.trace.journeys;
    let dropped = super::traffic::dropped_packets(report);
    let loss = &report.analyze.loss;
    if provenance.events == 0 {
        return html! {
            p { strong { "Nothing was recorded" } ": there is no packet and no event in it"
                @if !provenance.selection.is_empty() { " that is " (t(&provenance.selection)) }
                "." }
        };
    }
    let (one, many, how) = if is_capture(report) {
        ("packet", "packets", "captured")
    } else {
        ("packet journey", "packet journeys", "recorded")
    };
    html! {
        p {
            @if provenance.duration_ns > 0 {
                "In " (units::duration(provenance.duration_ns)) ", "
            }
            strong { (units::counted(totals.total, one, many)) }
            @if !is_capture(report) { " through the stack" }
            " " @if totals.total == 1 { "was " } @else { "were " } (how)
            @if let Some(peer) = report.locate.peers.first() {
                ", to and from " (units::counted(peers(report), "peer", "peers"))
                @if peers(report) > 1 { " (most bytes: " code { (t(&peer.address)) } ")" }
            }
            // What became of them, only the stack knows.
            @if is_capture(report) { "." } @else {
                ": "
                (units::count(totals.delivered)) " delivered, "
                (units::count(totals.dropped)) " dropped, "
                (units::count(totals.end_not_observed)) " whose "
                a href="#coverage" { "end was not observed" } "."
            }
        }
        p {
            @if let Some(top) = report.analyze.drops.first() {
                "The kernel dropped "
                strong { (units::counted(dropped, "packet", "packets")) }
                @if report.analyze.drops.len() > 1 { ", most of one kind for " } @else { " for " }
                strong { (t(&top.reason)) }
                @if !top.location.is_empty() { " at " code { (t(&top.location)) } }
                @if report.analyze.drops.len() > 1 {
                    " (" (units::count(top.packets)) ", " (percent(top.packets, dropped)) ")"
                }
                "."
            } @else {
                (no_drop(report))
            }
            @if loss.network_sent > 0 {
                " Of " (units::counted(loss.network_sent, "TCP data segment", "TCP data segments"))
                " sent, " (units::count(loss.network_retransmitted)) " "
                @if loss.network_retransmitted == 1 { "was" } @else { "were" }
                " retransmitted ("
                (percent(loss.network_retransmitted, loss.network_sent)) ")."
            }
        }
        p {
            @if report.findings.is_empty() {
                "No finding: "
                (units::counted(report.detect.detectors.len() as u64, "detector", "detectors"))
                " ran."
            } @else {
                a href="#findings" { (findings_words(report)) }
                @if let Some(worst) = report.findings.first() {
                    ". The first: " (t(worst.title.trim_end_matches('.')))
                }
                "."
            }
        }
    }
}

fn peers(report: &Report<'_>) -> u64 {
    (report.locate.peers.len() as u64).saturating_add(report.locate.omitted)
}

fn tally(report: &Report<'_>) -> Markup {
    let flows = (report.analyze.flows.len() as u64).saturating_add(report.analyze.flows_omitted);
    // A capture has one event a packet, and what the kernel dropped is not in it.
    let (kernel, packets) =
        if is_capture(report) { (None, "packets") } else { (Some(()), "packets with bytes") };
    let numbers = [
        (kernel.map(|()| "events"), report.trace.provenance.events),
        (Some(packets), report.trace.provenance.packets),
        (kernel.map(|()| "journeys"), report.trace.journeys.total),
        (kernel.map(|()| "packets dropped"), super::traffic::dropped_packets(report)),
        (Some("connections"), flows),
        (Some("peers"), peers(report)),
        (Some("findings"), report.findings.len() as u64),
    ];
    html! {
        @if report.trace.provenance.events > 0 {
            dl.tally {
                @for (name, number) in numbers.iter().filter_map(|(name, n)| Some(((*name)?, n))) {
                    div { dt { (name) } dd { (units::count(*number)) } }
                }
            }
        }
    }
}

fn confidence(report: &Report<'_>) -> Markup {
    let what = &report.trace.provenance.completeness;
    let totals = &report.trace.journeys;
    let (class, word) = match sure(report) {
        Sure::Whole => ("sure whole", "Complete"),
        Sure::Lossy => ("sure lossy", "Incomplete recording"),
        Sure::Unknown => ("sure", "Completeness unknown"),
        Sure::Unclosed => ("sure", "No end mark: the recording was cut off or is still running"),
    };
    // The view's own words may start with the verdict.
    let line = match what.line.as_str() {
        "" => "completeness not recorded",
        line => ["complete: ", "loss unknown: "]
            .iter()
            .find_map(|said| line.strip_prefix(said))
            .unwrap_or(line),
    };
    html! {
        div class=(class) {
            p { strong { (word) } ": " (t(line)) "." }
            @if what.probes_wanted > 0 && !is_capture(report) {
                p {
                    (what.probes_attached) " of " (what.probes_wanted) " probes attached; "
                    a href="#coverage" {
                        (units::counted(what.blind_spots.len() as u64, "blind spot", "blind spots"))
                    }
                    " of this host known."
                }
            }
            @if totals.ambiguous > 0 {
                p {
                    (units::counted(totals.ambiguous, "journey is", "journeys are"))
                    " ambiguous ("
                    (percent(totals.ambiguous, totals.total)) "): "
                    "marked, never guessed."
                }
            }
            @if what.stacks.inferred > 0 {
                p { (inferred(&what.stacks)) }
            }
            p.note {
                "Loss of the recorder is not a drop by the kernel, and neither is loss in the \
                 network: the three are never added up."
            }
        }
    }
}

/// How far the function names may be trusted: most are learned from other events' stacks.
fn inferred(stacks: &StackShare) -> Markup {
    html! {
        "Kernel functions of " (units::counted(stacks.inferred, "event", "events"))
        " are inferred from stacks learned at others (marked ~)"
        ": " (t(&units::stacks_right(stacks))) "."
    }
}

/// Top finding, top drop, slowest journey, data loss: at most four links.
fn first(report: &Report<'_>) -> Markup {
    let slowest = report
        .trace
        .exemplars
        .iter()
        .filter(|journey| report.held.0.contains(&journey.id))
        .find(|journey| journey.role == "slowest");
    let lossy = matches!(sure(report), Sure::Lossy);
    let nothing =
        report.findings.is_empty() && report.analyze.drops.is_empty() && slowest.is_none();
    html! {
        @if nothing && !lossy {
            p {
                "Nothing stands out. "
                @if is_capture(report) {
                    a href="#flows" { "Connections" } " and " a href="#peers" { "peers" }
                    " show what was captured."
                } @else {
                    "The " a href="#path-graph" { "path graph" } " shows what was recorded."
                }
            }
        } @else {
            ol.first {
                @if let Some(worst) = report.findings.first() {
                    li { a href="#finding-1" { (t(&worst.title)) }
                        " " span.faint { "(" (t(&worst.severity)) " finding)" } }
                }
                @if let Some(top) = report.analyze.drops.first() {
                    li {
                        a href="#drop-1" {
                            (units::counted(top.packets, "packet", "packets"))
                            " dropped: " (t(&top.reason))
                            @if !top.location.is_empty() { " at " (t(&top.location)) }
                        }
                        @if !top.meaning.is_empty() { " " span.faint { "– " (prose(&top.meaning)) } }
                    }
                }
                @if let Some(journey) = slowest {
                    li {
                        a href=(format!("#journey={}", journey.id)) {
                            "The slowest journey, " (units::duration(journey.duration_ns))
                        }
                        @if !journey.flow.is_empty() { " " span.faint { "– " (t(&journey.flow)) } }
                        (slow_step(journey))
                    }
                }
                @if lossy {
                    li { a href="#coverage" { "What the recorder lost" }
                        " " span.faint { "– conclusions near it are weaker" } }
                }
            }
        }
    }
}

/// Where the slowest journey spent most of its time, when one step took at least half of it.
fn slow_step(journey: &psc_replay::view::trace::Journey) -> Markup {
    // Giving its memory back after it was read is a step, and none of its time.
    let end = journey.first.saturating_add(journey.duration_ns);
    let worst = (1..journey.steps.len())
        .filter(|index| journey.steps[*index].at <= end)
        .max_by_key(|index| journey.steps[*index].delta_ns);
    let Some(worst) = worst.filter(|index| {
        journey.steps[*index].delta_ns.saturating_mul(2) >= journey.duration_ns.max(1)
    }) else {
        return html! {};
    };
    let (before, after) = (&journey.steps[worst - 1], &journey.steps[worst]);
    html! {
        span.faint {
            ", " (units::duration(after.delta_ns)) " of it between "
            (t(probe_name(&before.probe))) " and " (t(probe_name(&after.probe)))
        }
    }
}
