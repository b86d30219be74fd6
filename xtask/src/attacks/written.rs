//! `cargo xtask attacks --written`: captures that scapy writes, of attacks and of what looks like them, each
//! with its truth beside it, and what the detectors say of them.
//!
//! These were written from the attacks' descriptions before the detectors were run on them; what the first
//! run said is kept (`written/first.json`) and shown, so that later improvement is not taken for foresight.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command;

const TABLE: &str = "testdata/attacks-written.md";
const FIRST: &str = "xtask/src/attacks/written/first.json";

struct Case {
    name: String,
    expect: Vec<String>,
    also: Vec<String>,
    attacker: Option<String>,
    victim: Option<String>,
    file: String,
    round: u64,
}

/// What came of a case.
struct Row {
    attack: bool,
    verdict: &'static str,
    findings: String,
    /// Whether attacker and victim are named, where the truth says who they are.
    who: &'static str,
    right: usize,
    wrong: usize,
}

pub(super) fn run(psc: &Path, python: &Path, root: &Path, only: &str, write: bool) -> Result<()> {
    let folder = crate::target(root).join("attacks-written");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let script = root.join("xtask/src/attacks/written/main.py");
    let mut make = Command::new(python);
    make.env("PYTHONDONTWRITEBYTECODE", "1").arg(script).arg(&folder).arg(only);
    command::output(&mut make).context("cannot write the captures")?;
    let truth = std::fs::read(folder.join("truth.json")).context("truth.json")?;
    let truth: Value = serde_json::from_slice(&truth).context("truth.json")?;
    let first = std::fs::read(root.join(FIRST)).with_context(|| FIRST.to_owned())?;
    let first: BTreeMap<String, String> = serde_json::from_slice(&first).context(FIRST)?;
    let mut rows = Vec::new();
    for case in truth.as_array().into_iter().flatten().map(Case::read) {
        let view = super::detect(psc, &folder.join(&case.file), None)
            .with_context(|| case.name.clone())?;
        let row = judge(&case, &view);
        println!("{:<62} {:<24} {}", case.name, row.verdict, row.findings);
        rows.push((case, row));
    }
    let table = table(&rows, &first);
    println!("\n{}", table.lines().take(14).collect::<Vec<_>>().join("\n"));
    if write {
        std::fs::write(root.join(TABLE), &table).with_context(|| TABLE.to_owned())?;
        println!("wrote {TABLE}");
    }
    let loud = rows.iter().filter(|(case, row)| case.expect.is_empty() && row.wrong > 0).count();
    if loud > 0 {
        bail!("{loud} captures of ordinary traffic have findings");
    }
    Ok(())
}

impl Case {
    fn read(value: &Value) -> Self {
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        let list = |key: &str| {
            let items = value[key].as_array().into_iter().flatten();
            items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
        };
        Self {
            name: text("name").unwrap_or_default(),
            expect: list("expect"),
            also: list("also"),
            attacker: text("attacker"),
            victim: text("victim"),
            file: text("file").unwrap_or_default(),
            round: value["round"].as_u64().unwrap_or(1),
        }
    }
}

fn judge(case: &Case, view: &Value) -> Row {
    let findings: Vec<&Value> = view["findings"].as_array().into_iter().flatten().collect();
    let id = |finding: &Value| finding["id"].as_str().unwrap_or_default().to_owned();
    let hits: Vec<&&Value> = findings.iter().filter(|f| case.expect.contains(&id(f))).collect();
    let right =
        findings.iter().filter(|f| case.expect.contains(&id(f)) || case.also.contains(&id(f)));
    let right = right.count();
    let names = |who: &Option<String>, key: &str| {
        who.as_ref().is_none_or(|who| {
            // A link-layer address of a host stands for it.
            let mac = mac(who);
            let said = hits.iter().flat_map(|f| f[key].as_array().into_iter().flatten());
            said.filter_map(Value::as_str).any(|text| {
                text.contains(who) || mac.as_ref().is_some_and(|mac| text.contains(mac.as_str()))
            })
        })
    };
    let mut ids: BTreeMap<String, usize> = BTreeMap::new();
    for finding in &findings {
        *ids.entry(id(finding)).or_default() += 1;
    }
    let ids: Vec<String> =
        ids.into_iter().map(|(id, n)| if n == 1 { id } else { format!("{id} ×{n}") }).collect();
    let attack = !case.expect.is_empty();
    Row {
        attack,
        verdict: match (attack, hits.is_empty(), right < findings.len()) {
            (true, false, false) => "found",
            (true, false, true) => "found, and more that is not so",
            (true, true, _) => "missed",
            (false, _, false) => "silent",
            (false, _, true) => "false finding",
        },
        findings: if ids.is_empty() { "none".to_owned() } else { ids.join(", ") },
        who: match (
            hits.is_empty(),
            names(&case.attacker, "actors"),
            names(&case.victim, "targets"),
        ) {
            (true, ..) => "",
            (_, true, true) => "yes",
            (_, false, true) => "not the attacker",
            (_, true, false) => "not the victim",
            (_, false, false) => "neither",
        },
        right,
        wrong: findings.len() - right,
    }
}

/// Link-layer address of a host of the written link, as wire.py has it.
fn mac(ip: &str) -> Option<String> {
    let ip: std::net::Ipv4Addr = ip.parse().ok()?;
    let [a, b, c, d] = ip.octets();
    Some(format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}"))
}

fn table(rows: &[(Case, Row)], first: &BTreeMap<String, String>) -> String {
    let mut out = String::from(
        "# Attacks written to captures, and what looks like them\n\n\
         Printed by `cargo xtask attacks --written`: each capture was written with scapy from the attack's \
         description (`xtask/src/attacks/written`), with its truth, before the detectors had been run on it. \
         *First* is what the first run said; the detectors were then improved, so only *first* says how they \
         do on what nobody had seen. Captures of a round were written after those of the rounds before had been learned \
         from. Seven entries of round 1 were corrected afterwards, with what the first run said kept: \
         three captures (a host that scanned itself, twice; an OSPF router without its identifier), one that \
         lacked the host's own traffic (DTP), and three truths that left out a finding that is so. Of round 3, two truths got another name \
         (carpet-bombing) and two a second finding that is so.\n\n",
    );
    for round in 1..=3 {
        let of = |attack: bool| {
            rows.iter().filter(move |(case, row)| case.round == round && row.attack == attack)
        };
        let now = |attack: bool, verdict: &str| {
            of(attack).filter(|(_, row)| row.verdict.starts_with(verdict)).count()
        };
        let then = |attack: bool, verdict: &str| {
            of(attack)
                .filter(|(case, _)| first.get(&case.name).is_some_and(|v| v.starts_with(verdict)))
                .count()
        };
        let all = (of(true).count(), of(false).count());
        if all.0 + all.1 == 0 {
            continue;
        }
        let _ = writeln!(
            out,
            "Round {round}: first {} of {} attacks found and {} of {} twins silent; now {} and {}.",
            then(true, "found"),
            all.0,
            then(false, "silent"),
            all.1,
            now(true, "found"),
            now(false, "silent"),
        );
    }
    let right: usize = rows.iter().map(|(_, row)| row.right).sum();
    let wrong: usize = rows.iter().map(|(_, row)| row.wrong).sum();
    let _ = writeln!(out, "Of all findings now, {right} are so and {wrong} are not.\n");
    out.push_str(
        "| capture | round | kind | first | now | findings | attacker and victim named |\n",
    );
    out.push_str("|---|---|---|---|---|---|---|\n");
    for (case, row) in rows {
        let kind = if row.attack { "attack" } else { "benign" };
        let before = first.get(&case.name).map_or("", String::as_str);
        let _ = writeln!(
            out,
            "| {} | {} | {kind} | {before} | {} | {} | {} |",
            case.name, case.round, row.verdict, row.findings, row.who
        );
    }
    out
}
