//! Attacks on the network layer.

mod forged_errors;
mod fragments;
mod ip_flood;
mod ipid;
mod land;
mod packet_too_big;
mod protocol_scan;
mod quoted;
mod redirect;
mod routing;
mod smurf;
mod source_route;
mod sources;
mod tiny_fragments;
mod ttl;
mod virtual_router;

use super::detect::Detector;

/// All detectors of this layer.
pub(super) fn detectors() -> Vec<Box<dyn Detector>> {
    vec![
        Box::new(redirect::Redirect::default()),
        Box::new(packet_too_big::PacketTooBig::default()),
        Box::new(forged_errors::ForgedErrors::default()),
        Box::new(fragments::Fragments::default()),
        Box::new(tiny_fragments::TinyFragments::default()),
        Box::new(sources::Sources::default()),
        Box::new(ttl::Ttl::default()),
        Box::new(land::Land::default()),
        Box::new(smurf::Smurf::default()),
        Box::new(ipid::Ipid::default()),
        Box::new(source_route::SourceRoute::default()),
        Box::new(ip_flood::IpFlood::default()),
        Box::new(protocol_scan::ProtocolScan::default()),
        Box::new(virtual_router::VirtualRouter::default()),
        Box::new(routing::Routing::default()),
    ]
}
