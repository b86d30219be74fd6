//! The guarder: detectors over packets and stack events.

mod arp;
mod attempt;
mod detect;
mod port_scan;
mod syn_flood;

pub use detect::Detectors;
