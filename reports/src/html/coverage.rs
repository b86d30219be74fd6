//! How far the report can be trusted: counters, losses, probes, blind spots, and where it is from.

use maud::{Markup, html};

use super::cells::{Cell, Grid, Row, fact, mono, num, percent, t, text, words};
use super::{Report, Section};
use crate::units;

pub(super) fn counters(report: &Report<'_>) -> Section {
    let analyze = report.analyze;
    let loss = &analyze.loss;
    let rerun = report.rerun("analyze --format json");
    let rows = analyze.counters.iter().map(|row| {
        let verdict = if row.verdict.starts_with("differs") {
            html! { span.bad { (t(&row.verdict)) } }
        } else {
            t(&row.verdict)
        };
        Row::plain(vec![
            Cell::text(&row.name),
            Cell::text(&row.netns),
            Cell::count(row.kernel),
            row.events.map_or_else(|| Cell::text(""), Cell::count),
            Cell::markup(verdict),
        ])
    });
    let grid = Grid {
        id: "counter-table",
        caption: "The kernel's own counters over the recording, against what the events say",
        columns: &[
            mono("Counter"),
            mono("Namespace"),
            num("Kernel"),
            num("Events"),
            words("Verdict"),
        ],
        rows: 300,
        bytes: 300_000,
        rerun: &rerun,
    };
    let cpus = analyze.cpus.iter().map(|row| {
        Row::plain(vec![
            Cell::count(u64::from(row.cpu)),
            Cell::count(row.events),
            Cell::rare(row.gaps),
        ])
    });
    let cpu_grid = Grid {
        id: "cpus",
        caption: "Events by CPU; missing ones were lost by the recorder",
        columns: &[num("CPU"), num("Events"), num("Missing")],
        rows: 512,
        bytes: 100_000,
        rerun: &rerun,
    };
    let all = loss.recorder_lost.map(|lost| lost.saturating_add(loss.recorder_kept));
    let body = html! {
        h3 { "Three losses, never added up" }
        dl.facts {
            dt { "Network" }
            dd {
                (units::count(loss.network_retransmitted)) " of "
                (units::counted(loss.network_sent, "TCP data segment", "TCP data segments"))
                " retransmitted (" (percent(loss.network_retransmitted, loss.network_sent)) ")"
            }
            dt { "Kernel" }
            dd {
                (units::count(loss.kernel_dropped)) " of "
                (units::counted(loss.kernel_journeys, "journey", "journeys")) " dropped ("
                (percent(loss.kernel_dropped, loss.kernel_journeys)) ")"
            }
            dt { "Recorder" }
            dd {
                @if let (Some(lost), Some(all)) = (loss.recorder_lost, all) {
                    (units::count(lost)) " of " (units::counted(all, "event", "events"))
                    " lost (" (percent(lost, all)) ")"
                } @else { "unknown: the source does not say" }
            }
        }
        @if analyze.counters.is_empty() {
            p.faint { "No kernel counters were recorded." }
        } @else { (grid.draw(rows, 0)) }
        @if !analyze.cpus.is_empty() {
            details { summary { "Events by CPU" } (cpu_grid.draw(cpus, 0)) }
        }
    };
    Section { id: "counters", name: "Counters", number: None, body }
}

/// Completeness in numbers; then probes, blind spots and notices.
pub(super) fn section(report: &Report<'_>) -> Section {
    let provenance = &report.trace.provenance;
    let what = &provenance.completeness;
    let stacks = &what.stacks;
    let checked = stacks.confirmed.saturating_add(stacks.contradicted);
    let known = |value: Option<u64>| value.map_or_else(|| "unknown".to_owned(), units::count);
    let totals = &report.trace.journeys;
    let rerun = report.rerun("info");
    let failed = what
        .probes_failed
        .iter()
        .map(|(name, why)| Row::plain(vec![Cell::text(name), Cell::text(why)]));
    let grid = Grid {
        id: "failed-probes",
        caption: "Probes that did not attach. Not observed is not the same as not traversed",
        columns: &[mono("Probe"), words("Why")],
        rows: 200,
        bytes: 100_000,
        rerun: &rerun,
    };
    let notices = provenance.notices.iter().map(|notice| {
        Row::plain(vec![
            Cell::text(&notice.severity),
            Cell::text(&notice.text),
            Cell::count(notice.count),
        ])
    });
    let notice_grid = Grid {
        id: "notices",
        caption: "Notices",
        columns: &[text("Severity"), words("What"), num("Times")],
        rows: 200,
        bytes: 200_000,
        rerun: &rerun,
    };
    let body = html! {
        dl.facts {
            (fact("Completeness", &what.line))
            (fact("Events lost", &format!(
                "{} ({} by a full ring, {} by recursion); gaps in sequence numbers: {}",
                known(what.lost), known(what.ring_full), known(what.recursion),
                units::count(what.sequence_gaps)
            )))
            (fact("Left out on purpose", &format!(
                "{} by filter; {} counted instead of stored",
                units::counted(what.filtered, "event", "events"), units::count(what.aggregated)
            )))
            (fact("End mark", if what.closed { "yes" } else { "no: cut off, or still running" }))
            (fact("Probes", &format!(
                "{} of {} attached", what.probes_attached, what.probes_wanted
            )))
            (fact("Stacks", &format!(
                "{} observed, {} without, {} inferred from learned ones; {}",
                units::count(stacks.observed.saturating_add(checked)),
                units::count(stacks.none),
                units::count(stacks.inferred),
                units::stacks_right(stacks),
            )))
            @if totals.ambiguous > 0 {
                dt { "Ambiguous journeys" }
                dd {
                    (units::count(totals.ambiguous))
                    @for (why, times) in totals.ambiguity.iter().take(12) {
                        div.faint { (units::count(*times)) ": " (t(why)) }
                    }
                }
            }
        }
        h3 { "Blind spots" }
        @if what.blind_spots.is_empty() {
            p.faint { "None known, which is not the same as none." }
        } @else {
            ul { @for spot in what.blind_spots.iter().take(50) { li { (t(spot)) } } }
        }
        @if !what.probes_failed.is_empty() { (grid.draw(failed, 0)) }
        @if !provenance.notices.is_empty() { (notice_grid.draw(notices, 0)) }
    };
    Section { id: "coverage", name: "Coverage", number: None, body }
}

/// Where the report is from.
pub(super) fn footer(report: &Report<'_>) -> Markup {
    let provenance = &report.trace.provenance;
    html! {
        footer.foot {
            dl {
                (fact("Recording", &provenance.source))
                (fact("Kind", &provenance.origin))
                (fact("Host", &provenance.host))
                (fact("Recorded by", &provenance.command))
                (fact("with psc", &provenance.psc_version))
                (fact("Selection", &provenance.selection))
                (fact("Report by psc", env!("CARGO_PKG_VERSION")))
            }
            p {
                "Times count from the first event, "
                @if provenance.start_utc.is_empty() { "whose time of day was not recorded" }
                @else { (t(&provenance.start_utc)) }
                ". This page loads nothing: it holds all it shows. The same recording and options \
                 give the same page, byte for byte."
            }
        }
    }
}
