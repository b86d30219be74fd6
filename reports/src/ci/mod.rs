//! Checks as continuous integration systems read them: JUnit XML, SARIF, GitHub annotations.

mod github;
mod junit;
mod sarif;

pub use github::github;
pub use junit::junit;
pub use sarif::sarif;

use psc_replay::view::check::Check;

/// What was found and the evidence, as lines.
fn told(check: &Check) -> Vec<String> {
    let mut lines = vec![format!("{}: {}", check.statement, check.found)];
    lines.extend(check.evidence.iter().cloned());
    lines
}
