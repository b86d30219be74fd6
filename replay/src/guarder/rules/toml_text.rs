//! TOML with the place of each value, for errors that point.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::RuleError;
use crate::expr::distance;

/// A value, where it is, and the text it is from.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    pub(super) text: &'a str,
    value: &'a DeValue<'a>,
    start: usize,
    end: usize,
}

/// A table whose keys are known.
pub(super) struct Table<'a> {
    text: &'a str,
    entries: &'a DeTable<'a>,
    /// Where the table is, for what is missing from it.
    at: Range<usize>,
}

fn a(kind: &str) -> String {
    match kind {
        "array" | "integer" => format!("an {kind}"),
        "datetime" => "a date".to_owned(),
        kind => format!("a {kind}"),
    }
}

impl<'a> Node<'a> {
    pub(super) fn error(&self, what: impl Into<String>) -> RuleError {
        RuleError::new(self.text, self.start..self.end, what)
    }

    fn wrong(&self, wanted: &str) -> RuleError {
        self.error(format!("{wanted} is expected, not {}", a(self.value.type_str())))
    }

    pub(super) fn string(&self, wanted: &str) -> Result<&'a str, RuleError> {
        self.value.as_str().ok_or_else(|| self.wrong(wanted))
    }

    pub(super) fn integer(&self, wanted: &str) -> Result<u64, RuleError> {
        let DeValue::Integer(number) = self.value else { return Err(self.wrong(wanted)) };
        u64::from_str_radix(number.as_str(), number.radix())
            .map_err(|_| self.error(format!("{wanted} is expected, from 0 to {}", u64::MAX)))
    }

    pub(super) fn boolean(&self, wanted: &str) -> Result<bool, RuleError> {
        self.value.as_bool().ok_or_else(|| self.wrong(wanted))
    }

    pub(super) fn is_integer(&self) -> bool {
        self.value.is_integer()
    }

    pub(super) fn array(
        &self,
        wanted: &str,
    ) -> Result<impl Iterator<Item = Node<'a>> + use<'a>, RuleError> {
        let items = self.value.as_array().ok_or_else(|| self.wrong(wanted))?;
        let text = self.text;
        Ok(items.iter().map(move |item| Node {
            text,
            value: item.get_ref(),
            start: item.span().start,
            end: item.span().end,
        }))
    }

    /// A table that may have `known` keys only.
    pub(super) fn table(&self, wanted: &str, known: &[&str]) -> Result<Table<'a>, RuleError> {
        let table = self.value.as_table().ok_or_else(|| self.wrong(wanted))?;
        Table::new(self.text, table, self.start..self.end, known)
    }

    /// The error at the characters `column` (from 1) and on of a string value.
    pub(super) fn inside(&self, column: usize, width: usize, what: &str) -> RuleError {
        let raw = &self.text[self.start..self.end];
        let quotes = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|q| raw.starts_with(q));
        let decoded = self.value.as_str().unwrap_or_default();
        let inner = quotes.and_then(|quotes| {
            let inner = raw.get(quotes.len()..raw.len().checked_sub(quotes.len())?)?;
            // A newline right after three quotes does not count.
            let skip = match quotes.len() {
                3 if inner.starts_with("\r\n") => 2,
                3 if inner.starts_with('\n') => 1,
                _ => 0,
            };
            // With escapes in it, columns do not map: point at all of it.
            (&inner[skip..] == decoded).then_some(self.start + quotes.len() + skip)
        });
        let Some(inner) = inner else { return self.error(format!("column {column}: {what}")) };
        let byte = |chars: usize| {
            decoded.char_indices().nth(chars).map_or(decoded.len(), |(byte, _)| byte)
        };
        let at = inner + byte(column - 1)..inner + byte(column - 1 + width);
        RuleError::new(self.text, at, what)
    }
}

impl<'a> Table<'a> {
    pub(super) fn new(
        text: &'a str,
        table: &'a DeTable<'a>,
        at: Range<usize>,
        known: &[&str],
    ) -> Result<Self, RuleError> {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                let what = format!(
                    "there is no key `{}` here; the nearest is `{}`",
                    name.escape_debug(),
                    nearest(name, known)
                );
                return Err(RuleError::new(text, key.span(), what));
            }
        }
        Ok(Self { text, entries: table, at })
    }

    pub(super) fn get(&self, key: &str) -> Option<Node<'a>> {
        let value = self.entries.get(key)?;
        let span = value.span();
        Some(Node { text: self.text, value: value.get_ref(), start: span.start, end: span.end })
    }

    pub(super) fn missing(&self, what: impl Into<String>) -> RuleError {
        // The header of a table, not all of it.
        let end = self.text[self.at.start..].find('\n').map_or(self.at.end, |n| self.at.start + n);
        RuleError::new(self.text, self.at.start..end.min(self.at.end), what)
    }

    /// An error about a key rather than its value.
    pub(super) fn key_error(&self, key: &str, what: impl Into<String>) -> RuleError {
        let span = self.entries.get_key_value(key).map_or(self.at.clone(), |(key, _)| key.span());
        RuleError::new(self.text, span, what)
    }

    /// Line of the table's start, from 1.
    pub(super) fn line(&self) -> usize {
        RuleError::new(self.text, self.at.clone(), "").line
    }
}

/// Of `known`, the name that takes the fewest changes to become.
pub(super) fn nearest<'n>(name: &str, known: &[&'n str]) -> &'n str {
    let name: Vec<char> = name.chars().take(64).collect();
    known.iter().copied().min_by_key(|known| distance(&name, known)).unwrap_or_default()
}
