//! The guarder: detectors over packets and stack events, and rules.

pub mod answer;
mod arp;
mod attempt;
mod checksum;
mod conversation;
mod detect;
mod effect;
mod evidence;
pub mod explain;
mod industrial;
mod link;
mod network;
mod port_scan;
pub mod rules;
#[cfg(test)]
mod scene;
mod service;
pub mod suggest;
mod syn_flood;
mod transport;
mod watch;

pub use detect::Detectors;
pub(crate) use detect::payload;
pub(crate) use evidence::Seen;
