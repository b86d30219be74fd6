//! JUnit XML, as Jenkins, GitLab, Azure and GitHub actions take it. There is no standard; this is what
//! the schema of Jenkins' xUnit plugin (junit-10.xsd) and Ant's own have in common.

use std::fmt::Write as _;

use psc_replay::view::check::CheckView;

use super::told;

/// One test suite, one test case a statement.
pub fn junit(view: &CheckView) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let (all, failed) = (view.checks.len(), view.failed);
    let suite = attribute(&view.provenance.source);
    let _ = write!(
        out,
        "<testsuites>\n  <testsuite name=\"{suite}\" tests=\"{all}\" failures=\"{failed}\" errors=\"0\" \
         skipped=\"0\" time=\"0\">\n"
    );
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
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
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
