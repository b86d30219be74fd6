//! Attacks on the transport layer.

mod ack_storm;
mod amplification;
mod backscatter;
mod carpet;
mod conflicting_data;
mod exhaustion;
mod icmp_flood;
mod in_path_reset;
mod mss_sack;
mod off_path;
mod os_probe;
mod refused;
mod spread;
mod stray_flood;
mod sweep;
mod udp_flood;
mod udp_sweep;
mod winnuke;

use super::detect::Detector;

/// All detectors of this layer.
pub(super) fn detectors() -> Vec<Box<dyn Detector>> {
    vec![
        Box::new(stray_flood::StrayFlood::default()),
        Box::new(off_path::OffPath::default()),
        Box::new(in_path_reset::InPathReset::default()),
        Box::new(conflicting_data::ConflictingData::default()),
        Box::new(mss_sack::MssSack::default()),
        Box::new(exhaustion::Exhaustion::default()),
        Box::new(sweep::Sweep::default()),
        Box::new(udp_flood::UdpFlood::default()),
        Box::new(amplification::Amplification::default()),
        Box::new(icmp_flood::IcmpFlood::default()),
        Box::new(udp_sweep::UdpSweep::default()),
        Box::new(spread::Spread::default()),
        Box::new(backscatter::Backscatter::default()),
        Box::new(carpet::Carpet::default()),
        Box::new(refused::Refused::default()),
        Box::new(os_probe::OsProbe::default()),
        Box::new(ack_storm::AckStorm::default()),
        Box::new(winnuke::WinNuke::default()),
    ]
}
