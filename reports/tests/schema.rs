//! The JSON schemas in `reports/schema`: written from the view types' own source, so that each
//! field's documentation is in them, and checked against documents that psc really prints.
//!
//! After a change to a view, `UPDATE_SCHEMA=1 cargo test -p psc-reports --test schema` rewrites
//! them. When the difference shows a field that went or changed its type, raise
//! `psc_replay::view::SCHEMA` in the same change.

mod fixtures;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use psc_replay::view::SCHEMA;
use serde_json::{Map, Value, json};

const VIEWS: [(&str, &str); 12] = [
    ("trace", "TraceView"),
    ("analyze", "AnalyzeView"),
    ("locate", "LocateView"),
    ("detect", "DetectView"),
    ("diagnose", "DiagnoseView"),
    ("info", "InfoView"),
    ("test", "CheckView"),
    ("diff", "DiffView"),
    ("rule-check", "RuleCheckView"),
    ("rule-replay", "RuleReplayView"),
    ("explain", "ExplainView"),
    ("suggest", "SuggestView"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// One field of a view: name, type as written, documentation.
struct Field {
    name: String,
    kind: String,
    doc: String,
}

struct Struct {
    doc: String,
    fields: Vec<Field>,
}

/// The public structs of the view modules. Only what rustfmt leaves of plain structs is
/// understood, which is all that a view may be.
fn structs() -> BTreeMap<String, Struct> {
    let mut found = BTreeMap::new();
    let dir = root().join("../replay/src/view");
    let mut files: Vec<_> =
        std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut doc = String::new();
        let mut open: Option<(String, Struct)> = None;
        for line in text.lines().map(str::trim) {
            if let Some(words) = line.strip_prefix("///") {
                if !doc.is_empty() {
                    doc.push(' ');
                }
                doc.push_str(words.trim());
            } else if let Some(name) =
                line.strip_prefix("pub struct ").and_then(|rest| rest.strip_suffix(" {"))
            {
                let doc = std::mem::take(&mut doc);
                open = Some((name.to_owned(), Struct { doc, fields: Vec::new() }));
            } else if line == "}" {
                found.extend(open.take());
                doc.clear();
            } else if let (Some((name, kind)), Some((_, open))) =
                (line.strip_prefix("pub ").and_then(|rest| rest.split_once(": ")), open.as_mut())
            {
                open.fields.push(Field {
                    name: name.to_owned(),
                    kind: kind.trim_end_matches(',').to_owned(),
                    doc: std::mem::take(&mut doc),
                });
            } else if !line.starts_with("#[") {
                doc.clear();
            }
        }
    }
    found
}

/// Parts of `a, b` at the outermost level.
fn split(list: &str) -> Vec<&str> {
    let (mut depth, mut from, mut parts) = (0, 0, Vec::new());
    for (at, ch) in list.char_indices() {
        match ch {
            '(' | '<' => depth += 1,
            ')' | '>' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(list[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(list[from..].trim());
    parts
}

/// The schema of a type, noting the structs it refers to.
fn schema_of(kind: &str, refers: &mut Vec<String>) -> Value {
    let inner = |prefix: &str| kind.strip_prefix(prefix).and_then(|rest| rest.strip_suffix('>'));
    if let Some(inner) = inner("Option<") {
        return json!({"anyOf": [schema_of(inner, refers), {"type": "null"}]});
    }
    if let Some(inner) = inner("Vec<") {
        return json!({"type": "array", "items": schema_of(inner, refers)});
    }
    if let Some(list) = kind.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        let parts: Vec<Value> = split(list).iter().map(|part| schema_of(part, refers)).collect();
        let number = parts.len();
        return json!({"type": "array", "prefixItems": parts, "items": false, "minItems": number});
    }
    match kind {
        "String" => json!({"type": "string"}),
        "bool" => json!({"type": "boolean"}),
        "f64" => json!({"type": "number"}),
        "u8" | "u16" | "u32" | "u64" | "usize" => json!({"type": "integer", "minimum": 0}),
        "i32" | "i64" => json!({"type": "integer"}),
        _ => {
            let name = kind.rsplit("::").next().unwrap_or(kind).to_owned();
            let reference = format!("#/$defs/{name}");
            refers.push(name);
            json!({"$ref": reference})
        }
    }
}

fn object(structs: &BTreeMap<String, Struct>, name: &str, refers: &mut Vec<String>) -> Value {
    let found = structs.get(name).unwrap_or_else(|| panic!("no struct {name} in replay/src/view"));
    let mut properties = Map::new();
    for field in &found.fields {
        let mut schema = schema_of(&field.kind, refers);
        schema["description"] = Value::from(field.doc.clone());
        properties.insert(field.name.clone(), schema);
    }
    let required: Vec<&str> = found.fields.iter().map(|field| field.name.as_str()).collect();
    json!({
        "description": found.doc,
        "type": "object",
        "properties": properties,
        "required": required,
    })
}

fn document(structs: &BTreeMap<String, Struct>, kind: &str, view: &str) -> Value {
    let mut wanted = Vec::new();
    let mut root = object(structs, view, &mut wanted);
    let mut defs = BTreeMap::new();
    while let Some(name) = wanted.pop() {
        if let Entry::Vacant(slot) = defs.entry(name) {
            let schema = object(structs, slot.key(), &mut wanted);
            slot.insert(schema);
        }
    }
    let mut properties = Map::new();
    properties.insert(
        "schema".to_owned(),
        json!({"const": SCHEMA, "description": "Version of this document."}),
    );
    properties
        .insert("kind".to_owned(), json!({"const": kind, "description": "Which view this is."}));
    properties.append(root["properties"].as_object_mut().unwrap());
    let mut required = vec![Value::from("schema"), Value::from("kind")];
    required.append(root["required"].as_array_mut().unwrap());
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("psc {kind} view, schema {SCHEMA}"),
        "description": format!(
            "{} Times are whole nanoseconds and may exceed 2^53: read them as 64-bit integers. \
             Later versions of the same schema number may add fields.",
            root["description"].as_str().unwrap()
        ),
        "type": "object",
        "properties": properties,
        "required": required,
        "$defs": defs,
    })
}

/// What `value` has that `schema` does not allow, by path. Knows the words used above, and says
/// so when it meets another.
fn faults(value: &Value, schema: &Value, root: &Value, at: &str, out: &mut Vec<String>) {
    let Some(schema) = schema.as_object() else {
        if schema == &Value::Bool(false) {
            out.push(format!("{at}: not allowed"));
        }
        return;
    };
    for (word, want) in schema {
        match word.as_str() {
            "description" | "title" | "$schema" | "$defs" | "required" | "prefixItems" => {}
            "const" => {
                if value != want {
                    out.push(format!("{at}: {value} is not {want}"));
                }
            }
            "type" => {
                let fits = match want.as_str().unwrap() {
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "number" => value.is_number(),
                    "integer" => value.is_u64() || value.is_i64(),
                    "null" => value.is_null(),
                    "array" => value.is_array(),
                    "object" => value.is_object(),
                    other => panic!("type {other}"),
                };
                if !fits {
                    out.push(format!("{at}: {value} is no {want}"));
                }
            }
            "minimum" => {
                if value.as_i64().is_some_and(|value| value < want.as_i64().unwrap()) {
                    out.push(format!("{at}: {value} is below {want}"));
                }
            }
            "minItems" => {
                if value.as_array().is_some_and(|list| (list.len() as u64) < want.as_u64().unwrap())
                {
                    out.push(format!("{at}: fewer than {want} items"));
                }
            }
            "items" => {
                let heads = schema.get("prefixItems").and_then(Value::as_array);
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    let head = heads.and_then(|heads| heads.get(index));
                    faults(item, head.unwrap_or(want), root, &format!("{at}[{index}]"), out);
                }
            }
            "properties" => {
                let want = want.as_object().unwrap();
                for (name, item) in value.as_object().into_iter().flatten() {
                    match want.get(name) {
                        Some(schema) => faults(item, schema, root, &format!("{at}.{name}"), out),
                        None => out.push(format!("{at}.{name}: not in the schema")),
                    }
                }
                for name in schema["required"].as_array().unwrap() {
                    if value.get(name.as_str().unwrap()).is_none() {
                        out.push(format!("{at}.{name}: missing"));
                    }
                }
            }
            "anyOf" => {
                let fits = want.as_array().unwrap().iter().any(|schema| {
                    let mut inner = Vec::new();
                    faults(value, schema, root, at, &mut inner);
                    inner.is_empty()
                });
                if !fits {
                    out.push(format!("{at}: {value} fits none of {want}"));
                }
            }
            "$ref" => {
                let name = want.as_str().unwrap().trim_start_matches("#/$defs/");
                faults(value, &root["$defs"][name], root, at, out);
            }
            other => panic!("the validator does not know {other}"),
        }
    }
}

fn committed(kind: &str) -> Value {
    let path = root().join(format!("schema/{kind}.schema.json"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|err| panic!("{}: {err}; run with UPDATE_SCHEMA=1", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn printed(kind: &str) -> Value {
    let text = match kind {
        "trace" => psc_reports::json(kind, &fixtures::trace()),
        "analyze" => psc_reports::json(kind, &fixtures::analyze()),
        "locate" => psc_reports::json(kind, &fixtures::locate()),
        "detect" => psc_reports::json(kind, &fixtures::detect()),
        "diagnose" => psc_reports::json(kind, &fixtures::diagnose()),
        "test" => psc_reports::json(kind, &fixtures::checks()),
        "info" => psc_reports::json(kind, &fixtures::info()),
        "diff" => psc_reports::json(kind, &fixtures::diff()),
        "rule-check" => psc_reports::json(kind, &fixtures::rule_check()),
        "rule-replay" => psc_reports::json(kind, &fixtures::rule_replay()),
        "explain" => psc_reports::json(kind, &fixtures::explain()),
        "suggest" => psc_reports::json(kind, &fixtures::suggest()),
        _ => unreachable!("{kind}"),
    };
    serde_json::from_str(&text).unwrap()
}

#[test]
fn schemas_are_those_of_the_views() {
    let structs = structs();
    for (kind, view) in VIEWS {
        let path = root().join(format!("schema/{kind}.schema.json"));
        let mut text = serde_json::to_string_pretty(&document(&structs, kind, view)).unwrap();
        text.push('\n');
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(&path, text).unwrap();
        } else if std::fs::read_to_string(&path).unwrap_or_default() != text {
            panic!(
                "reports/schema/{kind}.schema.json is not the schema of {view}; run \
                 UPDATE_SCHEMA=1 cargo test -p psc-reports --test schema, and raise SCHEMA when a \
                 field went or changed its type"
            );
        }
    }
}

#[test]
fn printed_documents_are_valid() {
    for (kind, _) in VIEWS {
        let schema = committed(kind);
        let mut found = Vec::new();
        faults(&printed(kind), &schema, &schema, kind, &mut found);
        assert!(found.is_empty(), "{found:#?}");
    }
}

/// The validator can fail: every kind of fault is found in a document that has just that fault.
#[test]
fn invalid_documents_are_refused() {
    type Break = fn(&mut Value);
    let cases: [(&str, Break); 6] = [
        ("wrong version", |doc| doc["schema"] = json!(SCHEMA + 1)),
        ("missing field", |doc| drop(doc.as_object_mut().unwrap().remove("paths"))),
        ("unknown field", |doc| doc["surprise"] = json!(1)),
        ("wrong type deep inside", |doc| doc["graph"]["nodes"][0]["events"] = json!("many")),
        ("negative time", |doc| doc["exemplars"][0]["first"] = json!(-1)),
        ("short tuple", |doc| doc["journeys"]["ambiguity"][0] = json!(["only a word"])),
    ];
    let schema = committed("trace");
    for (name, break_it) in cases {
        let mut doc = printed("trace");
        break_it(&mut doc);
        let mut found = Vec::new();
        faults(&doc, &schema, &schema, "trace", &mut found);
        assert_eq!(found.len(), 1, "{name}: {found:#?}");
    }
}
