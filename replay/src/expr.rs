//! The expression language.

/// A checked expression.
#[derive(Clone, Debug)]
pub struct Expr;
