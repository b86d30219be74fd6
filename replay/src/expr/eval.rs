//! Whether an expression holds.

use std::net::IpAddr;

use super::ast::{Condition, Literal, Node, Range, Relation, Test};
use super::fields::Value;
use super::subject::Subject;

/// Whether `node` holds for `subject`.
pub(super) fn holds(node: &Node, subject: &Subject<'_>) -> bool {
    match node {
        Node::And(nodes) => nodes.iter().all(|node| holds(node, subject)),
        Node::Or(nodes) => nodes.iter().any(|node| holds(node, subject)),
        Node::Not(node) => !holds(node, subject),
        Node::Test(test) => test_holds(test, subject),
    }
}

fn test_holds(test: &Test, subject: &Subject<'_>) -> bool {
    let any = |condition: &dyn Fn(&Value<'_>) -> bool| {
        test.field.any(subject, &mut |value| match (test.mask, value) {
            (Some(mask), Value::Number(number)) => condition(&Value::Number(number & mask)),
            (_, value) => condition(&value),
        })
    };
    match &test.condition {
        Condition::Present if test.mask.is_some() => {
            any(&|value| matches!(value, Value::Number(number) if *number != 0))
        }
        Condition::Present => any(&|_| true),
        // All of several values must differ, and there must be one.
        Condition::Compare(Relation::Ne, literal) => {
            any(&|_| true) && !any(&|value| relates(value, Relation::Eq, literal))
        }
        Condition::Compare(relation, literal) => any(&|value| relates(value, *relation, literal)),
        Condition::In(ranges) => any(&|value| ranges.iter().any(|range| within(value, range))),
        Condition::Contains(bytes) => any(&|value| match value {
            Value::Text(text) => contains(text.as_bytes(), bytes),
            Value::Bytes(value) => contains(value, bytes),
            Value::Number(_) | Value::Address(_) | Value::Mac(_) => false,
        }),
    }
}

fn relates(value: &Value<'_>, relation: Relation, literal: &Literal) -> bool {
    match (value, literal) {
        (Value::Number(value), Literal::Number(literal)) => match relation {
            Relation::Eq => value == literal,
            Relation::Ne => value != literal,
            Relation::Lt => value < literal,
            Relation::Le => value <= literal,
            Relation::Gt => value > literal,
            Relation::Ge => value >= literal,
        },
        // The parser allows equality only; a prefix equals the addresses in it.
        (Value::Address(IpAddr::V4(value)), Literal::V4(net)) => net.contains(value),
        (Value::Address(IpAddr::V6(value)), Literal::V6(net)) => net.contains(value),
        (Value::Mac(value), Literal::Mac(literal)) => value == literal,
        (Value::Text(value), Literal::Text(literal)) => value == literal,
        _ => false,
    }
}

fn within(value: &Value<'_>, range: &Range) -> bool {
    let Some(to) = &range.to else { return relates(value, Relation::Eq, &range.from) };
    match value {
        Value::Address(address) => {
            let ends = range.from.address().zip(to.address());
            ends.is_some_and(|(from, to)| {
                from.is_ipv4() == address.is_ipv4() && (from..=to).contains(address)
            })
        }
        value => relates(value, Relation::Ge, &range.from) && relates(value, Relation::Le, to),
    }
}

fn contains(value: &[u8], part: &[u8]) -> bool {
    value.windows(part.len().max(1)).any(|window| window == part)
}
