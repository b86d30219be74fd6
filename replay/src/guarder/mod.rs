//! The guarder: detectors over packets and stack events.

mod arp;
mod detect;
mod handshake;
mod port_scan;
mod syn_flood;

pub use detect::Detectors;
