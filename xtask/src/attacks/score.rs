//! What was found of what was done.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Result, bail};
use serde_json::Value;

use super::scenarios::Scenario;

/// Fixed before a run: at least nine attacks in ten found, nine findings in ten right, and no benign twin
/// with a finding above `low`.
const RECALL: f64 = 0.9;
const PRECISION: f64 = 0.9;

/// One scenario and what the detectors made of it.
pub(super) struct Row {
    name: &'static str,
    tool: &'static str,
    attack: bool,
    found: bool,
    /// Findings by id: (right, severity).
    findings: Vec<(String, bool, String)>,
    /// Packets of the recording up to the finding, and in all.
    packets: Option<(u64, u64)>,
    effect: String,
    seconds: f64,
}

/// Detects, and finds out how many packets it took when `halve` says so.
pub(super) fn row(psc: &Path, scenario: &Scenario, recording: &Path, halve: bool) -> Result<Row> {
    let view = super::detect(psc, recording, None)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut findings = Vec::new();
    let mut effect = String::new();
    for finding in view["findings"].as_array().into_iter().flatten() {
        let id = text(&finding["id"]);
        let expected = scenario.expected.contains(&id.as_str());
        if expected && effect.is_empty() {
            let said = text(&finding["effect"]);
            said.split(':').next().unwrap_or_default().clone_into(&mut effect);
        }
        let right = expected || scenario.also.contains(&id.as_str());
        findings.push((id, right, text(&finding["severity"])));
    }
    let found = findings.iter().any(|(id, ..)| scenario.expected.contains(&id.as_str()));
    let provenance = &view["provenance"];
    let all = provenance["packets"].as_u64().unwrap_or(0);
    let length = provenance["duration_ns"].as_u64().unwrap_or(0);
    let packets = if found && halve {
        first_sight(psc, scenario, recording, length)?.map(|n| (n, all))
    } else {
        None
    };
    Ok(Row {
        name: scenario.name,
        tool: scenario.tool,
        attack: !scenario.expected.is_empty(),
        found,
        findings,
        packets,
        effect,
        seconds: length as f64 / 1e9,
    })
}

/// How many packets the recording had when the finding was first there: by halving the time.
fn first_sight(
    psc: &Path,
    scenario: &Scenario,
    recording: &Path,
    length: u64,
) -> Result<Option<u64>> {
    let (mut without, mut with) = (0, length + 1);
    let mut packets = None;
    for _ in 0..14 {
        let middle = without + (with - without) / 2;
        let view = super::detect(psc, recording, Some(middle))?;
        let there = view["findings"].as_array().into_iter().flatten().any(|finding| {
            finding["id"].as_str().is_some_and(|id| scenario.expected.contains(&id))
        });
        if there {
            with = middle;
            packets = view["provenance"]["packets"].as_u64();
        } else {
            without = middle;
        }
    }
    Ok(packets)
}

impl Row {
    fn ids(&self) -> String {
        let mut ids: BTreeMap<&str, u32> = BTreeMap::new();
        for (id, ..) in &self.findings {
            *ids.entry(id).or_default() += 1;
        }
        let ids: Vec<String> = ids
            .into_iter()
            .map(|(id, n)| if n == 1 { id.to_owned() } else { format!("{id} ×{n}") })
            .collect();
        if ids.is_empty() { "none".to_owned() } else { ids.join(", ") }
    }

    fn verdict(&self) -> &'static str {
        let wrong = self.findings.iter().any(|(_, right, _)| !right);
        match (self.attack, self.found, wrong) {
            (true, true, false) => "found",
            (true, true, true) => "found, and more that is not so",
            (true, false, _) => "missed",
            (false, _, false) => "silent",
            (false, _, true) => "false finding",
        }
    }

    pub(super) fn line(&self) -> String {
        format!("{:<34} {:<32} {}", self.name, self.verdict(), self.ids())
    }
}

struct Sums {
    attacks: usize,
    found: usize,
    twins: usize,
    silent: usize,
    right: usize,
    wrong: usize,
    loud: usize,
    twin_findings: usize,
    twin_hours: f64,
}

fn sums(rows: &[Row]) -> Sums {
    let twins = || rows.iter().filter(|row| !row.attack);
    let findings = || rows.iter().flat_map(|row| &row.findings);
    Sums {
        attacks: rows.iter().filter(|row| row.attack).count(),
        found: rows.iter().filter(|row| row.found).count(),
        twins: twins().count(),
        silent: twins().filter(|row| row.findings.is_empty()).count(),
        right: findings().filter(|(_, right, _)| *right).count(),
        wrong: findings().filter(|(_, right, _)| !right).count(),
        loud: twins()
            .flat_map(|row| &row.findings)
            .filter(|(.., severity)| matches!(severity.as_str(), "medium" | "high"))
            .count(),
        twin_findings: twins().map(|row| row.findings.len()).sum(),
        twin_hours: twins().map(|row| row.seconds).sum::<f64>() / 3600.0,
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

/// The table as it is kept in the repository.
pub(super) fn table(rows: &[Row]) -> String {
    let sums = sums(rows);
    let mut out = String::from(
        "# Attacks made for real, and their benign twins\n\n\
         Printed by `cargo xtask attacks`: each line was made in network namespaces by the tool named, \
         recorded on the hosts of the link (captured at the victim where payload is looked at) and given to \
         `psc guard detect`. What must be found was fixed in `xtask/src/attacks/scenarios.rs` before the \
         run; packets to detection counts what the recording has up to the first prefix with the finding: \
         attack, background and benign, and a packet again at each device that it crosses.\n\n\
         Thresholds, fixed before: recall at least 0.9, precision of findings at least 0.9, no benign twin \
         with a finding above `low`.\n\n",
    );
    let _ = writeln!(
        out,
        "Recall {:.2} ({} of {} attacks), precision {:.2} ({} of {} findings), {} of {} benign twins \
         silent; {} findings in {:.0} s of benign twins, {:.1} an hour.\n",
        share(sums.found, sums.attacks),
        sums.found,
        sums.attacks,
        share(sums.right, sums.right + sums.wrong),
        sums.right,
        sums.right + sums.wrong,
        sums.silent,
        sums.twins,
        sums.twin_findings,
        sums.twin_hours * 3600.0,
        if sums.twin_hours > 0.0 { sums.twin_findings as f64 / sums.twin_hours } else { 0.0 },
    );
    out.push_str(
        "| scenario | made by | kind | verdict | findings | packets to detection | effect |\n",
    );
    out.push_str("|---|---|---|---|---|---|---|\n");
    for row in rows {
        let packets = row.packets.map_or_else(String::new, |(n, all)| format!("{n} of {all}"));
        let kind = if row.attack { "attack" } else { "benign" };
        let _ = writeln!(
            out,
            "| {} | {} | {kind} | {} | {} | {packets} | {} |",
            row.name,
            row.tool,
            row.verdict(),
            row.ids(),
            row.effect
        );
    }
    out
}

/// Fails where a threshold is missed.
pub(super) fn judge(rows: &[Row]) -> Result<()> {
    let sums = sums(rows);
    let recall = share(sums.found, sums.attacks);
    let precision = share(sums.right, sums.right + sums.wrong);
    if recall < RECALL || precision < PRECISION || sums.loud > 0 {
        bail!(
            "the thresholds fixed before were missed: recall {recall:.2}, precision {precision:.2}, {} \
             findings above low in benign twins",
            sums.loud
        );
    }
    Ok(())
}
