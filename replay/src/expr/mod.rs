//! The one expression language: filters for captures and recordings, conditions of rules and
//! expectations.
//!
//! Field names are Wireshark's where it has them, ours where it has none; [`FIELDS`] is the list.
//! Meaning is Wireshark's, too: a comparison with a field that the packet does not have is false, a
//! field with several values (`ip.addr`, `tcp.port`) matches when one of them does, and `!=` when it
//! has values and all of them differ. A name alone asks whether the field is there.
//!
//! ```
//! use psc_replay::expr::Expr;
//! let expr = Expr::parse("ip.src == 10.0.0.0/8 and tcp.flags.syn == 1 and not tcp.flags.ack == 1");
//! assert!(expr.is_ok());
//! let error = Expr::parse("tcp.prot == 80").unwrap_err();
//! assert_eq!(error.to_string(), "column 1: there is no field tcp.prot; the nearest is tcp.port");
//! ```

pub(crate) mod ast;
mod eval;
mod fields;
mod lex;
mod literal;
mod parse;
mod subject;
#[cfg(test)]
mod tests;

pub use fields::{FIELDS, Field, Scope, Type};
pub(crate) use fields::{distance, nearest as nearest_field};
pub(crate) use literal::mac as parse_mac;
pub use subject::Subject;

use std::fmt;
use std::str::FromStr;

/// A checked expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    root: ast::Node,
}

impl Expr {
    /// Parses and checks an expression.
    pub fn parse(text: &str) -> Result<Self, ExprError> {
        parse::parse(text).map(|root| Self { root })
    }

    /// Its tree, for compiling.
    pub(crate) fn root(&self) -> &ast::Node {
        &self.root
    }

    /// Whether it holds.
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        eval::holds(&self.root, subject)
    }

    /// The most that its fields need to be known: what [`Scope`] it can be decided at.
    pub fn scope(&self) -> Scope {
        let mut scope = Scope::Headers;
        self.root.tests(&mut |test| scope = scope.max(test.field.scope));
        scope
    }

    /// Whether packet headers alone decide it.
    pub fn uses_only_headers(&self) -> bool {
        self.scope() == Scope::Headers
    }
}

impl FromStr for Expr {
    type Err = ExprError;
    fn from_str(text: &str) -> Result<Self, ExprError> {
        Self::parse(text)
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.root)
    }
}

/// What is wrong with an expression, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {what}")]
pub struct ExprError {
    /// What is wrong and what would be right.
    what: String,
    /// Where it starts, in characters from 1.
    column: usize,
    /// How many characters it covers, at least 1.
    width: usize,
    /// The expression.
    text: String,
}

impl ExprError {
    /// An error about the bytes `start..end` of `text`.
    fn new(text: &str, start: usize, end: usize, what: String) -> Self {
        let column = text[..start].chars().count() + 1;
        let width = text[start..end].chars().count().max(1);
        Self { what, column, width, text: text.to_owned() }
    }

    /// What is wrong and what would be right.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// How many characters are wrong, at least 1.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Column of what is wrong, in characters from 1.
    pub fn column(&self) -> usize {
        self.column
    }

    /// The expression with what is wrong underlined; two lines, for a terminal.
    pub fn underlined(&self) -> String {
        // One line and no controls, whatever was given.
        let line: String =
            self.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        format!("{line}\n{}{}", " ".repeat(self.column - 1), "^".repeat(self.width))
    }
}
