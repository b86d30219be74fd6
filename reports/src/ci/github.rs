//! Workflow commands of GitHub Actions: a line of standard output becomes an annotation.

use std::fmt::Write as _;

use psc_replay::view::check::CheckView;

use super::told;

/// `::error …` for each statement that does not hold, and one `::notice` when all do.
pub fn github(view: &CheckView) -> String {
    let mut out = String::new();
    for check in view.checks.iter().filter(|check| !check.holds) {
        let place = if check.line > 0 {
            format!("file={},line={},", property(&view.statements), check.line)
        } else {
            String::new()
        };
        let _ = writeln!(
            out,
            "::error {place}title={}::{}",
            property(&format!("{}: {}", view.provenance.source, check.name)),
            data(&told(check).join("\n"))
        );
    }
    if view.failed == 0 {
        let all = view.checks.len();
        let _ = writeln!(
            out,
            "::notice title={}::all {all} statements hold",
            property(&view.provenance.source)
        );
    }
    out
}

/// Escapes as the runner undoes them (actions/toolkit, command.ts): a packet must not be able to write a
/// command of its own.
fn data(text: &str) -> String {
    let text: String =
        text.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect();
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
