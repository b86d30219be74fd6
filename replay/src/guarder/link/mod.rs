//! Attacks on one link.

mod arp_scan;
mod arp_unasked;
mod dhcp;
mod dhcp6;
mod discovery_flood;
mod mac_flood;
mod ndp_flood;
mod ndp_scan;
mod ndp_spoofing;
mod rogue_ra;
mod snap;
mod spanning_tree;
mod vlan_hopping;

use psc_formats::event::DeviceId;

use super::detect::{Detector, Packet};

type Mac = [u8; 6];

/// One link as a recording can tell them apart: the device, and the outermost VLAN.
type Link = (DeviceId, Option<u16>);

fn link_of(packet: &Packet<'_>) -> Link {
    (packet.device, packet.headers.vlans[0])
}

fn mac_text(mac: Mac) -> String {
    psc_formats::packet::Mac(mac).to_string()
}

/// All detectors of this layer.
pub(super) fn detectors() -> Vec<Box<dyn Detector>> {
    vec![
        Box::new(arp_unasked::ArpUnasked::default()),
        Box::new(arp_scan::ArpScan::default()),
        Box::new(mac_flood::MacFlood::default()),
        Box::new(dhcp::Dhcp::default()),
        Box::new(dhcp6::Dhcp6::default()),
        Box::new(rogue_ra::RogueRa::default()),
        Box::new(ndp_spoofing::NdpSpoofing::default()),
        Box::new(ndp_scan::NdpScan::default()),
        Box::new(ndp_flood::NdpFlood::default()),
        Box::new(vlan_hopping::VlanHopping::default()),
        Box::new(spanning_tree::SpanningTree::default()),
        Box::new(discovery_flood::DiscoveryFlood::default()),
    ]
}
