//! SARIF 2.1.0 (OASIS), as GitHub code scanning and editors take it: one rule a statement, one result for
//! each that does not hold.

use psc_replay::view::check::CheckView;
use serde_json::json;

use super::told;

/// A log with one run.
pub fn sarif(view: &CheckView) -> String {
    let rules: Vec<_> = view
        .checks
        .iter()
        .enumerate()
        .map(|(index, check)| {
            json!({
                "id": id(index),
                "name": check.name,
                "shortDescription": {"text": check.name},
                "fullDescription": {"text": check.statement},
                "defaultConfiguration": {"level": "error"},
            })
        })
        .collect();
    let failed = view.checks.iter().enumerate().filter(|(_, check)| !check.holds);
    let results: Vec<_> = failed
        .map(|(index, check)| {
            // A gate of the command line stands in no file: the recording is where to look.
            let place = if check.line > 0 {
                json!({
                    "artifactLocation": {"uri": uri(&view.statements)},
                    "region": {"startLine": check.line},
                })
            } else {
                json!({"artifactLocation": {"uri": uri(&view.provenance.source)}})
            };
            json!({
                "ruleId": id(index),
                "ruleIndex": index,
                "level": "error",
                "message": {"text": told(check).join("\n")},
                "locations": [{"physicalLocation": place}],
                "partialFingerprints": {"statement/v1": format!("{}: {}", check.name, check.statement)},
                "properties": {"journeys": check.journeys, "recording": view.provenance.source},
            })
        })
        .collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "psc",
                "version": env!("CARGO_PKG_VERSION"),
                "informationUri": env!("CARGO_PKG_REPOSITORY"),
                "rules": rules,
            }},
            "results": results,
            "columnKind": "unicodeCodePoints",
        }],
    });
    let mut text = serde_json::to_string_pretty(&log).unwrap_or_default();
    text.push('\n');
    text
}

fn id(index: usize) -> String {
    format!("psc/{}", index + 1)
}

/// A relative URI of a path: what RFC 3986 does not let stand in one is escaped.
fn uri(path: &str) -> String {
    use std::fmt::Write as _;
    path.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}
