//! Checked expressions, and how they are written.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use super::fields::{Field, Type};

/// A checked expression. `And` and `Or` hold two or more, none of them of the same kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Test(Test),
}

/// One condition on one field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Test {
    pub(crate) field: &'static Field,
    /// Applied to each value first: `tcp.flags & 0x12 == 2`.
    pub(crate) mask: Option<u64>,
    pub(crate) condition: Condition,
}

/// What a test asks of a field's values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Condition {
    /// There is a value (and with a mask, one that has a bit of it).
    Present,
    /// Some value relates so to the literal; for [`Relation::Ne`], there are values and all differ.
    Compare(Relation, Literal),
    /// Some value is in one of the ranges.
    In(Vec<Range>),
    /// Some value contains these bytes.
    Contains(Vec<u8>),
}

/// How a value relates to a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// Both ends included.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Range {
    pub(crate) from: Literal,
    /// `None` is `from` alone.
    pub(crate) to: Option<Literal>,
}

/// A literal of its field's type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    /// Numbers, durations in nanoseconds, and 0 or 1 for booleans.
    Number(u64),
    V4(Ipv4Net),
    V6(Ipv6Net),
    Mac([u8; 6]),
    Text(String),
}

impl Relation {
    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
        }
    }
}

impl Node {
    /// Calls `see` for every test.
    pub(crate) fn tests(&self, see: &mut dyn FnMut(&Test)) {
        match self {
            Self::And(nodes) | Self::Or(nodes) => nodes.iter().for_each(|node| node.tests(see)),
            Self::Not(node) => node.tests(see),
            Self::Test(test) => see(test),
        }
    }
}

/// The expression in its own language, parsed again to the same expression.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, nodes: &[Self], word: &str| {
            for (i, node) in nodes.iter().enumerate() {
                if i > 0 {
                    write!(f, " {word} ")?;
                }
                // `and` binds tighter than `or`, so only an `or` inside needs brackets; the other
                // way round they are written for the reader.
                match node {
                    Self::And(_) | Self::Or(_) => write!(f, "({node})")?,
                    Self::Not(_) | Self::Test(_) => write!(f, "{node}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::And(nodes) => joined(f, nodes, "and"),
            Self::Or(nodes) => joined(f, nodes, "or"),
            Self::Not(node) => match &**node {
                Self::And(_) | Self::Or(_) => write!(f, "not ({node})"),
                Self::Not(_) | Self::Test(_) => write!(f, "not {node}"),
            },
            Self::Test(test) => write!(f, "{test}"),
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let literal = |literal: &Literal| Written(literal.clone(), self.field.kind).to_string();
        f.write_str(self.field.name)?;
        if let Some(mask) = self.mask {
            write!(f, " & {mask:#x}")?;
        }
        match &self.condition {
            Condition::Present => Ok(()),
            Condition::Compare(relation, with) => {
                write!(f, " {} {}", relation.sign(), literal(with))
            }
            Condition::In(ranges) => {
                f.write_str(" in {")?;
                for (i, range) in ranges.iter().enumerate() {
                    let space = if i > 0 { " " } else { "" };
                    write!(f, "{space}{}", literal(&range.from))?;
                    if let Some(to) = &range.to {
                        write!(f, "..{}", literal(to))?;
                    }
                }
                f.write_str("}")
            }
            Condition::Contains(bytes) => write!(f, " contains {}", Quoted(bytes)),
        }
    }
}

/// A literal the way its field writes it.
struct Written(Literal, Type);

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0, self.1) {
            (Literal::Number(ns), Type::Duration) => {
                let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1000, "us"), (1, "ns")];
                let (unit, name) =
                    units.into_iter().find(|(unit, _)| ns % unit == 0).unwrap_or((1, "ns"));
                write!(f, "{}{name}", ns / unit)
            }
            (Literal::Number(number), _) => write!(f, "{number}"),
            (Literal::V4(net), _) if net.prefix_len() == 32 => write!(f, "{}", net.addr()),
            (Literal::V4(net), _) => write!(f, "{net}"),
            (Literal::V6(net), _) if net.prefix_len() == 128 => write!(f, "{}", net.addr()),
            (Literal::V6(net), _) => write!(f, "{net}"),
            (Literal::Mac(mac), _) => {
                for (i, byte) in mac.iter().enumerate() {
                    write!(f, "{}{byte:02x}", if i > 0 { ":" } else { "" })?;
                }
                Ok(())
            }
            (Literal::Text(text), _) => write!(f, "{}", Quoted(text.as_bytes())),
        }
    }
}

/// Bytes as a string literal.
struct Quoted<'a>(&'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '"' => f.write_str("\\\"")?,
                    '\\' => f.write_str("\\\\")?,
                    '\n' => f.write_str("\\n")?,
                    '\r' => f.write_str("\\r")?,
                    '\t' => f.write_str("\\t")?,
                    c if c.is_control() => {
                        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                            write!(f, "\\x{byte:02x}")?;
                        }
                    }
                    c => write!(f, "{c}")?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        f.write_str("\"")
    }
}

impl Literal {
    /// A single address, for the ends of a range.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        match self {
            Self::V4(net) if net.prefix_len() == 32 => Some(Ipv4Addr::into(net.addr())),
            Self::V6(net) if net.prefix_len() == 128 => Some(Ipv6Addr::into(net.addr())),
            _ => None,
        }
    }
}
