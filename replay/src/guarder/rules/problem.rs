//! What is wrong with a rule file, and where.

use std::fmt;
use std::ops::Range;

/// One thing that is wrong: where, what, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct RuleError {
    /// File, when it is not the rule file itself.
    pub file: Option<String>,
    /// Line, from 1.
    pub line: usize,
    /// Column, in characters from 1.
    pub column: usize,
    /// What is wrong and what would be right.
    pub what: String,
    /// The line, and how much of it is wrong in characters, at least 1.
    excerpt: String,
    width: usize,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}, ")?;
        }
        write!(f, "line {}, column {}: {}", self.line, self.column, self.what)
    }
}

impl RuleError {
    /// An error about the bytes `at` of `text`.
    pub(super) fn new(text: &str, at: Range<usize>, what: impl Into<String>) -> Self {
        let start = floor(text, at.start);
        let end = floor(text, at.end.max(start));
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let line = text[..line_start].matches('\n').count() + 1;
        Self {
            file: None,
            line,
            column: text[line_start..start].chars().count() + 1,
            what: what.into(),
            // A line of a hostile file may be as long as the file.
            excerpt: text[line_start..line_end].chars().take(400).collect(),
            width: text[start..end.min(line_end).max(start)].chars().count().max(1),
        }
    }

    pub(super) fn in_file(mut self, file: &str) -> Self {
        self.file = Some(file.to_owned());
        self
    }

    /// The line with what is wrong underlined; two lines, no controls.
    pub fn underlined(&self) -> String {
        let line: String =
            self.excerpt.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let length = line.chars().count();
        let column = self.column.min(length + 1);
        let width = self.width.min(length + 2 - column);
        format!("{}\n{}{}", line.trim_end(), " ".repeat(column - 1), "^".repeat(width.max(1)))
    }
}

/// The last character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
