//! VLAN hopping: a host that reaches into other VLANs by a second tag, or by negotiating a trunk.
//!
//! **Sees**
//! - frames with two 802.1Q tags from a station that gets none back, and that also sends frames without
//!   any tag from the same IP address, or whose outer tag is VLAN 1, the native VLAN that switches strip by
//!   default;
//! - DTP (Cisco's trunk negotiation) from a station that sends IP or ARP as hosts do.
//!
//! **Silent on** provider bridging (802.1ad tags, or double tags both ways) and on the DTP of switches,
//! which have no address of that port.

use std::net::IpAddr;

use psc_formats::event::DeviceId;
use psc_formats::packet::Network;

use super::snap::{CISCO, Carried, read};
use super::{Link, Mac, mac_text};
use crate::bounded::Bounded;
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Draft, Seen, counted};
use crate::view::detect::Finding;

const STATIONS: usize = 8_192;
const NATIVE: u16 = 1;

#[derive(Debug, Default)]
struct Station {
    double: Seen,
    inner: Option<(u16, u16)>,
    /// IP source of those, and of its frames without a tag.
    speaks: [Option<IpAddr>; 2],
    /// Double-tagged frames to it.
    back: u64,
    /// Frames of its own with fewer tags, IP or ARP.
    plain: u64,
    trunk: Seen,
}

#[derive(Debug)]
pub(super) struct VlanHopping {
    stations: Bounded<(DeviceId, Mac), Station>,
    /// Who says something to whom behind two tags.
    pairs: Bounded<(IpAddr, IpAddr), Mac>,
}

impl Default for VlanHopping {
    fn default() -> Self {
        Self { stations: Bounded::new(STATIONS), pairs: Bounded::new(STATIONS) }
    }
}

impl Detector for VlanHopping {
    fn about(&self) -> About {
        About {
            id: "vlan-hopping",
            sees: "double-tagged frames of a station that gets none back, and trunk negotiation by a \
                   host; silent on provider bridging and on switches.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Some(frame) = packet.headers.ethernet.filter(|frame| frame.src != [0; 6]) else {
            return;
        };
        let link: Link = super::link_of(packet);
        let host = !matches!(packet.headers.network, Network::None);
        let tagged = packet.headers.vlans[1].is_some();
        if !host && !tagged && packet.headers.ether_type >= 0x0600 {
            return;
        }
        let read = if tagged || !host { read(packet) } else { None };
        let source = packet.headers.addresses().map(|(src, _)| src);
        let station = self.stations.entry_or_forget((link.0, frame.src), Station::default);
        match read {
            Some((_, Carried::Snap(CISCO, 0x2004, _))) => station.trunk.add(packet),
            Some((tags, _))
                if tags.len() >= 2 && tags[..2].iter().all(|(kind, _)| *kind == 0x8100) =>
            {
                station.double.add(packet);
                station.inner.get_or_insert((tags[0].1, tags[1].1));
                station.speaks[0] = source.or(station.speaks[0]);
                let (to, answers) = match packet.headers.addresses() {
                    Some((src, dst)) => {
                        self.pairs.entry_or_forget((src, dst), || frame.src);
                        (frame.dst, self.pairs.get(&(dst, src)).copied())
                    }
                    None => (frame.dst, None),
                };
                if answers.is_some() {
                    station.back += 1;
                }
                for other in [Some(to), answers].into_iter().flatten().filter(|mac| mac[0] & 1 == 0)
                {
                    let other = (link.0, other);
                    self.stations.entry_or_forget(other, Station::default).back += 1;
                }
            }
            _ if host && packet.headers.vlans[0].is_none() => {
                station.plain += 1;
                station.speaks[1] = source.or(station.speaks[1]);
            }
            _ => {}
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let stations = std::mem::replace(&mut self.stations, Bounded::new(1)).into_oldest_first();
        let mut findings = Vec::new();
        for ((_, mac), station) in stations {
            let text = mac_text(mac);
            if let Some((outer, inner)) = station.inner
                && station.back == 0
                && (outer == NATIVE
                    || station.speaks[0].is_some() && station.speaks[0] == station.speaks[1])
            {
                let evidence = vec![
                    format!("{}, none came back.", counted(station.double.packets, "frame")),
                    format!("It also sent {} without a tag.", counted(station.plain, "frame")),
                ];
                let title =
                    format!("{text} sends frames into VLAN {inner} behind a tag of VLAN {outer}.");
                let doubt = (station.plain == 0)
                    .then_some("medium: nothing else of this station is in view");
                findings.push(finding(title, evidence, doubt, &text, &station.double, context));
            }
            if station.trunk.packets > 0 && station.plain > 0 {
                let evidence = vec![
                    format!("{} of DTP.", counted(station.trunk.packets, "frame")),
                    format!(
                        "It sends IP and ARP as hosts do ({}).",
                        counted(station.plain, "frame")
                    ),
                ];
                let title = format!("{text}, a host, negotiates a trunk.");
                let doubt = Some("medium: a switch that is managed on this port sends both");
                findings.push(finding(title, evidence, doubt, &text, &station.trunk, context));
            }
        }
        findings
    }
}

fn finding(
    title: String,
    evidence: Vec<String>,
    doubt: Option<&str>,
    station: &str,
    seen: &Seen,
    context: &Context<'_>,
) -> Finding {
    Draft {
        id: "vlan-hopping",
        severity: "high",
        doubt,
        title,
        evidence,
        effect: "not observable: what the switch did with them is not in view.".to_owned(),
        advice: "Make it an access port (switchport mode access, nonegotiate), and use no host VLAN as the \
                 native one of trunks.",
        actors: vec![format!("{station} (a link-layer address can be forged)")],
        targets: vec![],
        seen,
        references: &["IEEE 802.1Q", "CAPEC-654", "MITRE ATT&CK T1599"],
    }
    .finding(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, ether, ip, udp};

    #[test]
    fn a_second_tag_one_way_is_hopping_and_both_ways_is_a_provider() {
        let inner = ip((A, B), "10.0.0.9", "10.20.0.5", 17, &udp(1, 2, &[]));
        let tagged = |from, to, outer: [u8; 2], vlan: u8| {
            let tags = [&[0, vlan, 0x81, 0, 0, 20, 8, 0][..], &inner[14..]].concat();
            ether(from, to, u16::from_be_bytes(outer), &tags)
        };
        for (name, frames, found) in [
            ("native VLAN", vec![tagged(A, B, [0x81, 0], 1)], 1),
            ("another VLAN", vec![tagged(A, B, [0x81, 0], 7)], 0),
            ("also plain", vec![inner.clone(), tagged(A, B, [0x81, 0], 7)], 1),
            ("both ways", vec![tagged(A, B, [0x81, 0], 1), tagged(B, A, [0x81, 0], 1)], 0),
            ("provider", vec![inner.clone(), tagged(A, B, [0x88, 0xa8], 7)], 0),
        ] {
            let mut scene = Scene::of(VlanHopping::default());
            for (n, frame) in frames.iter().enumerate() {
                scene.frame(n as u64, frame);
            }
            assert_eq!(scene.ids().len(), found, "{name}");
        }
    }

    #[test]
    fn a_host_that_speaks_dtp_and_a_switch_that_does() {
        let dtp = ether(
            A,
            [1, 0, 0x0c, 0xcc, 0xcc, 0xcc],
            10,
            &[0xaa, 0xaa, 3, 0, 0, 0x0c, 0x20, 4, 1, 0],
        );
        let plain = ip((A, B), "10.0.0.9", "10.0.0.5", 17, &udp(1, 2, &[]));
        for (frames, found) in [(vec![&dtp, &plain], 1), (vec![&dtp, &dtp], 0)] {
            let mut scene = Scene::of(VlanHopping::default());
            for (n, frame) in frames.into_iter().enumerate() {
                scene.frame(n as u64, frame);
            }
            assert_eq!(scene.ids().len(), found);
        }
    }
}
