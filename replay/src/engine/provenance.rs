//! What a pass learns about the recording itself: span, completeness, notices.

use std::fmt::Write as _;

use psc_formats::event::StackEvidence;
use psc_formats::fact::{LossFact, SamplingFact, Severity};
use psc_formats::manifest::{Origin, ProbeStatus};
use psc_formats::{Event, Manifest, Ns, Tables};

use super::Selection;
use crate::journey::JourneyCounts;
use crate::order::OrderCounts;
use crate::view::{Completeness, NoticeRow, Provenance, StackShare};

/// Counts over the events of a pass.
#[derive(Debug, Default)]
pub(super) struct Tally {
    span: Option<(Ns, Ns)>,
    events: u64,
    packets: u64,
    /// In the recording, whatever the time range.
    recorded: u64,
    stacks: StackShare,
}

impl Tally {
    /// Counts one event; `within` the time range or not.
    pub(super) fn event(&mut self, event: &Event, within: bool) {
        self.recorded += 1;
        if !within {
            return;
        }
        let (first, last) = self.span.unwrap_or((event.at, event.at));
        self.span = Some((first.min(event.at), last.max(event.at)));
        self.events += 1;
        self.packets += u64::from(event.packet.is_some());
        let share = match event.stack.evidence {
            StackEvidence::Observed => &mut self.stacks.observed,
            StackEvidence::Confirmed => &mut self.stacks.confirmed,
            StackEvidence::Contradicted => &mut self.stacks.contradicted,
            StackEvidence::Inferred => &mut self.stacks.inferred,
            StackEvidence::None => &mut self.stacks.none,
        };
        *share += 1;
    }

    /// The provenance of what was read. The caller adds the file's name.
    pub(super) fn provenance(
        &self,
        manifest: &Manifest,
        tables: &Tables,
        selection: &Selection,
        order: OrderCounts,
        journeys: JourneyCounts,
    ) -> Provenance {
        let (first, last) = self.span.unwrap_or_default();
        let host = &manifest.host;
        let host: Vec<&str> = [&*host.name, &*host.kernel, &*host.arch]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect();
        Provenance {
            source: String::new(),
            origin: match manifest.origin {
                Origin::Kernel => "kernel",
                Origin::Capture => "capture",
                Origin::Merge => "merge",
            }
            .to_owned(),
            host: host.join(" "),
            command: manifest.command.clone(),
            psc_version: manifest.psc_version.clone(),
            first: first.0,
            last: last.0,
            start_utc: self.span.map_or_else(String::new, |_| utc(manifest.epoch_ns(first))),
            duration_ns: last.0 - first.0,
            events: self.events,
            packets: self.packets,
            completeness: self.completeness(manifest, tables, order),
            notices: notices(tables, order, journeys),
            selection: selection.words(first),
        }
    }

    fn completeness(
        &self,
        manifest: &Manifest,
        tables: &Tables,
        order: OrderCounts,
    ) -> Completeness {
        let wanted = manifest.probes.iter().filter(|p| p.status != ProbeStatus::Unwanted);
        let failed: Vec<(String, String)> = manifest
            .probes
            .iter()
            .filter_map(|probe| match &probe.status {
                ProbeStatus::Failed(why) => Some((probe.name.clone(), why.clone())),
                ProbeStatus::Attached | ProbeStatus::Unwanted => None,
            })
            .collect();
        let wanted = wanted.count();
        let loss = tables.loss.as_ref();
        let kernel = manifest.origin != Origin::Capture;
        let ring_full = loss.filter(|_| kernel).map(|l| total(&l.ring_full));
        let recursion = loss
            .filter(|_| kernel)
            .map(|l| total(&l.recursion.values().copied().collect::<Vec<_>>()));
        let lost = if kernel {
            // An unclosed recording may have lost more than its last count says; the gaps show it.
            ring_full
                .zip(recursion)
                .map(|(full, skipped)| full.max(order.missing).saturating_add(skipped))
        } else {
            loss.and_then(|l| l.capture_dropped)
        };
        let closed = tables.end.is_some();
        Completeness {
            line: line(self.recorded, lost, order.missing, kernel, closed, &failed, wanted),
            lost,
            ring_full,
            recursion,
            sequence_gaps: order.missing,
            filtered: loss.map_or(0, |l: &LossFact| l.filtered),
            aggregated: loss.map_or(0, |l: &LossFact| l.aggregated),
            closed,
            probes_attached: wanted - failed.len(),
            probes_wanted: wanted,
            probes_failed: failed,
            blind_spots: manifest.blind_spots.clone(),
            stacks: StackShare {
                weight_agreed: loss.map_or(0, |l| l.stacks_agreed),
                weight_differed: loss.map_or(0, |l| l.stacks_differed),
                ..self.stacks
            },
        }
    }
}

/// The first line of every report.
fn line(
    kept: u64,
    lost: Option<u64>,
    missing: u64,
    kernel: bool,
    closed: bool,
    failed: &[(String, String)],
    wanted: usize,
) -> String {
    let what = if kernel { "events" } else { "packets" };
    let mut line = match lost {
        Some(0) => format!("complete: no {} lost", what.trim_end_matches('s')),
        Some(lost) => {
            let all = kept.saturating_add(lost);
            // All is at least one, since lost is.
            let percent = lost as f64 * 100.0 / all as f64;
            let digits = if percent < 0.01 { 4 } else { 2 };
            format!("lost {} of {} {what} ({percent:.digits$} %)", grouped(lost), grouped(all))
        }
        None if kernel && missing > 0 => format!(
            "loss unknown: the recording has no loss counters; {} events are missing from its sequences",
            grouped(missing)
        ),
        None if kernel => "loss unknown: the recording has no loss counters".to_owned(),
        None => "loss unknown: the capture does not say".to_owned(),
    };
    if kernel && !closed {
        line.push_str("; not closed in good order, what came after the last event is not known");
    }
    if !failed.is_empty() {
        // Writing to a string cannot fail.
        let _ = write!(line, "; {} of {wanted} probes did not attach", failed.len());
    }
    line
}

/// What the load governor left out, in words; totals are of what was kept.
fn sampled(sampling: &[SamplingFact]) -> Vec<String> {
    let mut words = Vec::new();
    let Some(last) = sampling.last() else { return words };
    let most = sampling.iter().map(|fact| fact.weight).max().unwrap_or(1);
    let load = sampling.iter().map(|fact| fact.load_ppm).max().unwrap_or(0);
    let percent = f64::from(load) / 10_000.0;
    if most > 1 {
        words.push(format!(
            "flows were left out to keep within the budget ({percent:.1} % of the machine was taken at most): \
             one in {most} was kept at the least, by a hash of its ends, one in {} at the end; counts are of what \
             was kept, and its weights are in the recording",
            last.weight
        ));
    }
    let off: Vec<&str> =
        sampling.iter().flat_map(|fact| &fact.probes_off).map(String::as_str).collect();
    if !off.is_empty() {
        words.push(format!(
            "{} optional probes were detached to keep within the budget; what they would have seen after is \
             not observed",
            off.len()
        ));
    }
    words
}

fn notices(tables: &Tables, order: OrderCounts, journeys: JourneyCounts) -> Vec<NoticeRow> {
    let mut rows: Vec<(Severity, String, u64)> = Vec::new();
    let mut add = |severity: Severity, text: &str, count: u64| match rows
        .iter_mut()
        .find(|row| row.0 == severity && row.1 == text)
    {
        Some(row) => row.2 = row.2.saturating_add(count),
        None => rows.push((severity, text.to_owned(), count)),
    };
    // Damage names its place, so texts differ; a hostile file must not make millions of rows.
    const MAX_ROWS: usize = 256;
    for notice in tables.notices.iter().take(MAX_ROWS) {
        add(notice.severity, &notice.text, notice.count.max(1));
    }
    if let Some(more) = tables.notices.len().checked_sub(MAX_ROWS).filter(|more| *more > 0) {
        add(Severity::Info, "further notices are not listed", more as u64);
    }
    for text in sampled(&tables.sampling) {
        add(Severity::Info, &text, 1);
    }
    let own = [
        (
            order.late,
            "events came after the source had said that their time was over: shown, but out of order",
        ),
        (order.disordered, "events had a sequence number that their CPU had given before"),
        (
            order.forced,
            "events were ordered without the source's promise that nothing older would come",
        ),
        (
            journeys.unattributed,
            "driver answers (net_dev_xmit) whose transmit was not seen belong to no journey",
        ),
        (
            tables.loss.as_ref().map_or(0, |loss| loss.lost_returns),
            "calls of probed functions were not seen to return: they have no time and no result",
        ),
        (
            journeys.functions_unplaced,
            "events of function probes belong to no journey: no other probe saw their packet, or it was over",
        ),
        (journeys.evicted, "journeys were closed early because too many were open at once"),
    ];
    for (count, text) in own {
        if count > 0 {
            add(Severity::Info, text, count);
        }
    }
    rows.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    rows.into_iter()
        .map(|(severity, text, count)| NoticeRow {
            severity: match severity {
                Severity::Info => "info",
                Severity::DataLoss => "data-loss",
                Severity::Error => "error",
            }
            .to_owned(),
            text,
            count,
        })
        .collect()
}

impl Selection {
    /// The selection in words; times count from the first event shown.
    fn words(&self, first: Ns) -> String {
        let mut words = Vec::new();
        if let Some(filter) = &self.filter {
            words.push(format!("filter {filter}"));
        }
        if self.from.is_some() || self.to.is_some() {
            let _ = first;
            let end = |at: Option<Ns>| at.map_or_else(String::new, |at| seconds(at.0));
            words.push(format!("time {}..{}", end(self.from), end(self.to)));
        }
        words.join(", ")
    }
}

fn seconds(ns: u64) -> String {
    format!("{}.{:09}s", ns / 1_000_000_000, ns % 1_000_000_000)
}

fn total(counts: &[u64]) -> u64 {
    counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
}

/// `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// RFC 3339 in UTC with nanoseconds; empty when the year has no four digits.
fn utc(epoch_ns: i128) -> String {
    jiff::Timestamp::from_nanosecond(epoch_ns)
        .map_or_else(|_| String::new(), |at| format!("{at:.9}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_complete() {
        let failed = [("skb:kfree_skb".to_owned(), "EPERM".to_owned())];
        #[rustfmt::skip]
        let cases = [
            // kept lost missing kernel closed failed -> line
            (line(10, Some(0), 0, true, true, &[], 9), "complete: no event lost"),
            (line(44_880, Some(120), 0, true, true, &[], 9), "lost 120 of 45,000 events (0.27 %)"),
            (line(10, None, 0, false, false, &[], 0), "loss unknown: the capture does not say"),
            (line(10, Some(0), 0, false, false, &[], 0), "complete: no packet lost"),
            (line(10, Some(0), 0, true, false, &[], 9),
             "complete: no event lost; not closed in good order, what came after the last event is not known"),
            (line(10, Some(0), 0, true, true, &failed, 9), "complete: no event lost; 1 of 9 probes did not attach"),
            (line(1 << 20, Some(1), 0, true, true, &[], 9), "lost 1 of 1,048,577 events (0.0001 %)"),
        ];
        for (line, expected) in cases {
            assert_eq!(line, expected);
        }
    }

    #[test]
    fn times_are_utc_with_nanoseconds() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(utc(1_772_366_400_123_456_789), "2026-03-01T12:00:00.123456789Z");
        assert_eq!(utc(i128::from(u64::MAX) * 64), "");
    }
}
