//! Rule files kept in a recording: what a person wrote for persons goes, what the rules do stays.

use super::Changes;
use super::facts::text;
use super::mapping::Mapping;

/// Keys whose value is prose.
const PROSE: [&str; 4] = ["note", "references", "description", "title"];

/// The file with comments, notes and references left out, ids and quoted names of expressions replaced, and
/// addresses replaced everywhere.
///
/// By its letters, not as TOML: what is no TOML must not stay either.
pub(super) fn file(toml: &str, mapping: &mut Mapping, changes: &mut Changes) -> String {
    let mut out = String::with_capacity(toml.len());
    let (mut key, mut word) = (String::new(), String::new());
    let mut rest = toml;
    while let Some(first) = rest.chars().next() {
        match first {
            '#' => {
                let end = rest.find('\n').unwrap_or(rest.len());
                changes.names += 1;
                rest = &rest[end..];
                continue;
            }
            '"' | '\'' => {
                let (quote, inside, after) = string(rest);
                let inside = value(&key, inside, mapping, changes);
                out.push_str(quote);
                out.push_str(&inside);
                out.push_str(quote);
                rest = after;
                continue;
            }
            '=' => key = std::mem::take(&mut word),
            c if c.is_alphanumeric() || c == '_' || c == '-' => word.push(c),
            '\n' | '[' | ']' | ',' | '{' | '}' => word.clear(),
            _ => {}
        }
        out.push(first);
        rest = &rest[first.len_utf8()..];
    }
    text(&out, mapping, changes)
}

/// Quote, content and what follows a string that `rest` begins with; one that does not end goes to the end.
fn string(rest: &str) -> (&str, &str, &str) {
    let three = rest.get(..3).filter(|quote| matches!(*quote, "\"\"\"" | "'''"));
    let quote = three.unwrap_or(&rest[..1]);
    let body = &rest[quote.len()..];
    let mut at = 0;
    while at < body.len() {
        let here = &body[at..];
        if let Some(after) = here.strip_prefix(quote) {
            return (quote, &body[..at], after);
        }
        let escaped = quote.starts_with('"') && here.starts_with('\\');
        let mut chars = here.chars();
        at += chars.next().map_or(1, char::len_utf8);
        at += if escaped { chars.next().map_or(0, char::len_utf8) } else { 0 };
    }
    (quote, body, "")
}

fn value(key: &str, value: &str, mapping: &mut Mapping, changes: &mut Changes) -> String {
    if value.is_empty() {
        return String::new();
    }
    if PROSE.contains(&key) {
        changes.names += 1;
        return String::new();
    }
    if key == "id" {
        changes.names += 1;
        return mapping.name("rule", value);
    }
    // An expression: names in it are quoted, inside a basic string with a backslash before.
    let mut out = String::with_capacity(value.len());
    for (index, part) in value.split('"').enumerate() {
        if index > 0 {
            out.push('"');
        }
        let (name, slash) = part.strip_suffix('\\').map_or((part, ""), |name| (name, "\\"));
        if index % 2 == 1 && !name.is_empty() {
            changes.names += 1;
            out.push_str(&mapping.name("name", name));
        } else {
            out.push_str(name);
        }
        out.push_str(slash);
    }
    out
}
