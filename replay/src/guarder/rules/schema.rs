//! The JSON schema of rule files, for editors (taplo, Even Better TOML).

/// The schema, as a JSON document.
pub fn schema() -> &'static str {
    include_str!("../../../../rules/rules.schema.json")
}
