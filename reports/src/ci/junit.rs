//! JUnit XML, as Jenkins, GitLab, Azure and GitHub actions take it. There is no standard; this is valid by
//! both schemas that are checked against: that of Jenkins' xUnit plugin (junit-10.xsd) and that of Ant's reports
//! (JUnit.xsd of Windy Road), which wants the properties and outputs even where there are none.

use std::fmt::Write as _;

use psc_replay::view::check::CheckView;

use super::told;

/// One test suite, one test case a statement.
pub fn junit(view: &CheckView) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let (all, failed) = (view.checks.len(), view.failed);
    let suite = attribute(&view.provenance.source);
    let host = view.provenance.host.split(' ').next().filter(|name| !name.is_empty());
    let _ = write!(
        out,
        "<testsuites>\n  <testsuite name=\"{suite}\" package=\"psc\" id=\"0\" hostname=\"{}\"{} tests=\"{all}\" \
         failures=\"{failed}\" errors=\"0\" skipped=\"0\" time=\"0\">\n    <properties>\n",
        attribute(host.unwrap_or("localhost")),
        seconds(&view.provenance.start_utc)
            .map_or_else(String::new, |at| format!(" timestamp=\"{}\"", attribute(at))),
    );
    for (name, value) in [("recording", &view.provenance.completeness.line), ("base", &view.base)] {
        if !value.is_empty() {
            let _ =
                writeln!(out, "      <property name=\"{name}\" value=\"{}\"/>", attribute(value));
        }
    }
    out.push_str("    </properties>\n");
    for check in &view.checks {
        let _ = write!(
            out,
            "    <testcase name=\"{}\" classname=\"psc.{suite}\" time=\"0\"",
            attribute(&check.name)
        );
        if check.holds {
            out.push_str("/>\n");
            continue;
        }
        let _ = write!(
            out,
            ">\n      <failure message=\"{}\" type=\"expectation\">{}</failure>\n    </testcase>\n",
            attribute(&check.found),
            text(&told(check).join("\n"))
        );
    }
    out.push_str("    <system-out/>\n    <system-err/>\n  </testsuite>\n</testsuites>\n");
    out
}

/// `2026-11-25T01:41:29` of an RFC 3339 time: Ant's schema takes neither fractions nor a zone. Nothing where the
/// recording's clock does not say.
fn seconds(utc: &str) -> Option<&str> {
    utc.get(..19).filter(|at| at.as_bytes()[10] == b'T')
}

/// Text for between tags. Characters that XML 1.0 has no way to write become U+FFFD.
fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\n' | '\t' => out.push(c),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn attribute(value: &str) -> String {
    text(value).replace('"', "&quot;").replace(['\n', '\t'], " ")
}
