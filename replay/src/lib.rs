//! Replay: from any event source to journeys and views. No I/O, no printing, no clock.

pub mod analyzer;
mod bounded;
pub mod census;
pub mod diagnosis;
pub mod diff;
mod dns;
pub mod engine;
pub mod expect;
pub mod expr;
mod first_sight;
pub mod guarder;
pub mod industrial;
pub mod journey;
pub mod layers;
pub mod locator;
pub mod merge;
pub mod order;
#[cfg(test)]
mod sample;
pub mod tracer;
pub mod view;
