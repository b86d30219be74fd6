//! Attacks on services, and services used to carry what they are not for.

mod beaconing;
mod brute_force;
mod dns_flood;
mod dns_poisoning;
mod dns_tunnel;
mod heartbleed;
mod http_flood;
mod icmp_tunnel;
mod mismatch;
mod name_poisoning;
mod refusals;
mod snmp_guess;
mod web;

use super::detect::Detector;

/// All detectors of services.
pub(super) fn detectors() -> Vec<Box<dyn Detector>> {
    vec![
        Box::new(brute_force::BruteForce::default()),
        Box::new(http_flood::HttpFlood::default()),
        Box::new(heartbleed::Heartbleed::default()),
        Box::new(dns_tunnel::DnsTunnel::default()),
        Box::new(dns_flood::DnsFlood::default()),
        Box::new(dns_poisoning::DnsPoisoning::default()),
        Box::new(name_poisoning::NamePoisoning::default()),
        Box::new(icmp_tunnel::IcmpTunnel::default()),
        Box::new(mismatch::Mismatch::default()),
        Box::new(web::Web::default()),
        Box::new(snmp_guess::SnmpGuess::default()),
        Box::new(beaconing::Beaconing::default()),
    ]
}
