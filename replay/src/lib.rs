//! Replay: from any event source to journeys and views. No I/O, no printing, no clock.

pub mod engine;
pub mod expr;
pub mod journey;
pub mod order;
pub mod view;
