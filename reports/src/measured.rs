//! What was measured told apart from what could not be, so that eleven rows of nothing are one line.

use psc_replay::view::analyze::LayerLatency;

/// Rows with samples, and for each reason why others have none, their pairs of points in words.
pub(crate) fn split(rows: &[LayerLatency]) -> (Vec<&LayerLatency>, Vec<(&str, Vec<String>)>) {
    let mut without: Vec<(&str, Vec<String>)> = Vec::new();
    for row in rows.iter().filter(|row| row.latency.count == 0) {
        let pair = format!("{} to {}", row.from, row.to);
        match without.iter_mut().find(|(reason, _)| *reason == row.note) {
            Some((_, pairs)) => pairs.push(pair),
            None => without.push((&row.note, vec![pair])),
        }
    }
    (rows.iter().filter(|row| row.latency.count > 0).collect(), without)
}

/// One sentence for a reason: names its pairs, unless it is the only one and nothing was measured.
pub(crate) fn sentence(reason: &str, pairs: &[String], alone: bool) -> String {
    let reason = reason.strip_prefix("unavailable: ").unwrap_or(reason);
    if alone {
        return format!("Unavailable: {reason}.");
    }
    format!("Unavailable, since {reason}: {}.", pairs.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_samples_are_told_by_reason() {
        let row = |from: &str, count, note: &str| LayerLatency {
            from: from.to_owned(),
            to: "x".to_owned(),
            note: note.to_owned(),
            latency: psc_replay::view::trace::Latency { count, ..Default::default() },
            ..LayerLatency::default()
        };
        let rows = [
            row("a", 0, "no probe"),
            row("b", 2, ""),
            row("c", 0, "no packet"),
            row("d", 0, "no probe"),
        ];
        let (measured, without) = split(&rows);
        assert_eq!(measured.len(), 1);
        assert_eq!(without[0], ("no probe", vec!["a to x".to_owned(), "d to x".to_owned()]));
        assert_eq!(
            sentence(without[0].0, &without[0].1, false),
            "Unavailable, since no probe: a to x; d to x."
        );
        assert_eq!(sentence("unavailable: no probe", &[], true), "Unavailable: no probe.");
    }
}
