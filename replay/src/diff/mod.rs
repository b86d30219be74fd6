//! Two recordings compared: paths, times of steps, drops.
//!
//! Only what both can have seen is compared: steps at probes that one of them lacks are left out before
//! paths are formed, functions and devices are left out where one of them has none to compare.
//! What counts as a change is in [`significance`].

mod batches;
mod compare;
mod profile;
mod shares;
mod significance;
#[cfg(test)]
mod tests;

use psc_formats::Manifest;

use crate::engine::Pass;

pub use compare::compare;
pub use profile::{Profile, common_probes};

/// What is called a change, and how much is shown.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Smallest relative move of a step's median or 99th percentile that is called one: 0.1 is a tenth.
    pub threshold: f64,
    /// Expected share of false ones among the changes called significant.
    pub false_discovery: f64,
    /// Paths and steps shown of each list.
    pub limit: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { threshold: 0.1, false_discovery: 0.01, limit: 30 }
    }
}

/// One of the two recordings after its pass.
#[derive(Debug)]
pub struct Side {
    /// How it was made.
    pub manifest: Manifest,
    /// What the pass found out.
    pub pass: Pass,
    /// What it is compared by.
    pub profile: Profile,
}
