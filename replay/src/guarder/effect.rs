//! Whether the stack's own counters show what an attack did.

use std::net::IpAddr;

use super::detect::Context;

/// Rises of counters in the namespaces of `host`: (name as nstat prints it, what its rise says).
pub(super) fn counters(host: IpAddr, names: &[(&str, &str)], context: &Context<'_>) -> String {
    if !context.has_stack() {
        return "not observable: a capture has no counters of the stack.".to_owned();
    }
    let mut read = false;
    let mut rises = Vec::new();
    for netns in context.namespaces_of(host) {
        let deltas = crate::analyzer::Deltas::of(context.tables, netns);
        for (name, says) in names {
            let delta = deltas.get(name);
            read |= delta.is_some();
            if let Some(delta) = delta.filter(|delta| *delta > 0) {
                rises.push(format!("{delta} {says} ({name})"));
            }
        }
    }
    let words: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
    match (rises.is_empty(), read) {
        (false, _) => format!("confirmed: {}.", rises.join(", ")),
        (true, true) => format!("not confirmed: none of {} rose.", words.join(", ")),
        (true, false) => "not observable: the counters were not read twice.".to_owned(),
    }
}
