//! Rules: their files, what they compile to, and what they would have done.

mod checked;
mod compile;
mod evaluate;
mod fields;
mod file;
mod health;
mod lists;
mod literal;
mod problem;
mod proven;
mod replayed;
mod schema;
#[cfg(test)]
mod tests;
mod toml_text;

pub use compile::{Compiled, RuleSet, RuleSetError};
pub use evaluate::{Asked, By, Evaluator, Told, Way};
pub use fields::reference;
pub use file::{Condition, MAX_RULES, NeverBlock, NeverWhat, Rule, RuleFile};
pub use lists::{AddressList, parse_list};
pub use problem::RuleError;
pub use proven::Handshakes;
pub(super) use replayed::FLOWS;
pub use replayed::{ReplayOptions, RuleReplay};
pub use schema::schema;
