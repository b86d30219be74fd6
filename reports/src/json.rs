//! Views as JSON documents, described by `reports/schema/*.schema.json`.

use psc_replay::view::SCHEMA;
use serde::Serialize;

use crate::escape;

#[derive(Serialize)]
struct Document<'a, T> {
    /// Version of the document: see [`SCHEMA`].
    schema: u32,
    /// Which view: `trace`, `analyze`, `locate`, `detect`, `info`.
    kind: &'a str,
    #[serde(flatten)]
    view: &'a T,
}

/// One JSON document with a final newline: the fields of `view` after `"schema"` and `"kind"`.
///
/// Characters that a terminal would obey (C1 controls, bidirectional overrides and kin) are
/// written as `\uXXXX`: the same strings to a parser, and harmless to `cat`.
///
/// # Panics
/// When `view` does not serialise to a map with string keys; every view does.
pub fn json<T: Serialize>(kind: &str, view: &T) -> String {
    let document = Document { schema: SCHEMA, kind, view };
    let mut text = serde_json::to_string_pretty(&document).expect("a view is a map");
    text.push('\n');
    escape::json_document(&text)
}
