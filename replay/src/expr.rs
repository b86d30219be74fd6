//! The expression language.

use crate::engine::{ClosedJourney, Sighting, World};

/// A checked expression.
#[derive(Clone, Debug)]
pub enum Expr {}

impl std::fmt::Display for Expr {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {}
    }
}

impl Expr {
    /// Whether it holds.
    pub fn matches(&self, _: &Subject<'_>) -> bool {
        match *self {}
    }
}

/// What an expression is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    world: World<'a>,
}

impl<'a> Subject<'a> {
    /// One sighting.
    pub fn sighting(world: World<'a>, _: &Sighting<'a>) -> Self {
        Self { world }
    }
    /// A journey that closed.
    pub fn closed(world: World<'a>, _: &'a ClosedJourney) -> Self {
        Self { world }
    }
}
