//! `-f EXPR` and `-t RANGE`, resolved.

use anyhow::Context;
use psc_replay::expr::Expr;

/// A checked expression, or an error that points at the column.
pub(crate) fn expression(text: &str) -> anyhow::Result<Expr> {
    Expr::parse(text).with_context(|| format!("-f {text}"))
}
