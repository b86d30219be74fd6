//! Virtual routers taken over (HSRP, VRRP): a host that makes itself the gateway.
//!
//! **Sees**, per group, a speaker that had not been heard while others were (five announcements or more),
//! and that then announces itself master
//! - of VRRP with priority 255 without owning one of the group's addresses (RFC 9568 section 5.2.4: owners
//!   alone have it), or of HSRP with priority 255; or
//! - while the master before goes on announcing itself, three times in turn.
//!
//! **Silent on** failover and coming back: a standby is heard before (HSRP), takes over when the master is
//! silent (VRRP), and one of two stops.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use psc_formats::packet::Transport;

use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Draft, Seen, counted};
use crate::view::detect::Finding;

const HEARD: u64 = 5;
const TURNS: u64 = 3;
const GROUPS: usize = 1_024;
const SPEAKERS: usize = 16;
const VRRP: u8 = 112;
const HIGHEST: u8 = 255;

/// Protocol, group, address family.
type Group = (&'static str, u8, bool);

#[derive(Debug, Default)]
struct Routers {
    speakers: BTreeMap<IpAddr, u64>,
    master: Option<IpAddr>,
    newcomer: Option<(IpAddr, u8)>,
    seen: Seen,
    turns: u64,
    owner: bool,
    before: Option<IpAddr>,
}

/// An announcement: whether its sender is master, its priority, and whether it owns an address.
struct Said {
    group: Group,
    master: bool,
    priority: u8,
    owner: bool,
}

#[derive(Debug, Default)]
pub(super) struct VirtualRouter {
    groups: BTreeMap<Group, Routers>,
}

fn vrrp(bytes: &[u8], src: IpAddr) -> Option<Said> {
    let [version_type, group, priority, count, ..] = *bytes else { return None };
    // CARP has the same protocol number, and version 2 with another layout behind byte 3.
    if version_type & 0xf != 1 || !matches!(version_type >> 4, 2 | 3) || count == 0 {
        return None;
    }
    let mut owner = false;
    for n in 0..usize::from(count) {
        owner |= match src {
            IpAddr::V4(v4) => {
                let octets = bytes.get(8 + 4 * n..)?.first_chunk::<4>()?;
                v4 == Ipv4Addr::from(*octets)
            }
            IpAddr::V6(v6) => bytes.get(8 + 16 * n..)?.first_chunk::<16>()? == &v6.octets(),
        };
    }
    let group = ("VRRP", group, src.is_ipv4());
    // Priority 0: the master leaves (RFC 9568 section 6.4.3).
    Some(Said { group, master: priority > 0, priority, owner })
}

/// HSRP version 0 (RFC 2281 section 5.1), and the group state of version 2.
fn hsrp(bytes: &[u8], ipv4: bool) -> Option<Said> {
    let said = |group, active, priority| Said {
        group: ("HSRP", group, ipv4),
        master: active,
        priority,
        owner: false,
    };
    match *bytes {
        // Version, opcode (hello and coup), state, hello and hold time, priority, group.
        [0, 0 | 1, state, _, _, priority, group, ..] => Some(said(group, state == 16, priority)),
        // Type, length, version, opcode, state, IP version, group, identifier, priority.
        [1, 40, 2, 0 | 1, state, _, _, group, ..] => {
            let priority = u32::from_be_bytes(*bytes.get(14..)?.first_chunk::<4>()?);
            Some(said(group, state == 6, priority.min(255) as u8))
        }
        _ => None,
    }
}

impl Detector for VirtualRouter {
    fn about(&self) -> About {
        About {
            id: "fhrp-takeover",
            sees: "a host that makes itself master of an HSRP or VRRP group by the highest priority or \
                   beside a master that goes on; silent on failover and on routers that come back.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Some((src, dst)) = packet.headers.addresses().filter(|(_, dst)| dst.is_multicast())
        else {
            return;
        };
        let said = match packet.headers.transport {
            Transport::Udp(udp) if matches!(udp.dport, 1985 | 2029) => {
                hsrp(packet.payload(), dst.is_ipv4())
            }
            Transport::None if packet.headers.protocol() == Some(VRRP) => {
                vrrp(packet.payload(), src)
            }
            _ => return,
        };
        let Some(said) = said else { return };
        if self.groups.len() >= GROUPS && !self.groups.contains_key(&said.group) {
            return;
        }
        let group = self.groups.entry(said.group).or_default();
        let heard: u64 = group.speakers.values().sum();
        let stranger = !group.speakers.contains_key(&src);
        if stranger
            && heard >= HEARD
            && group.newcomer.is_none()
            && said.master
            && group.master.is_some()
        {
            group.newcomer = Some((src, said.priority));
            group.before = group.master;
            group.owner = said.owner;
        }
        if group.speakers.len() < SPEAKERS || !stranger {
            *group.speakers.entry(src).or_default() += 1;
        }
        if !said.master {
            if group.master == Some(src) {
                group.master = None;
            }
            return;
        }
        if let Some((newcomer, _)) = group.newcomer {
            if src == newcomer {
                group.seen.add(packet);
            }
            let turn = group.master.is_some_and(|master| master != src);
            group.turns += u64::from(turn && src == newcomer);
        }
        group.master = Some(src);
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let groups = std::mem::take(&mut self.groups);
        groups
            .into_iter()
            .filter_map(|((protocol, number, _), group)| {
                let (newcomer, priority) = group.newcomer?;
                let highest = priority == HIGHEST && !group.owner;
                if !highest && group.turns < TURNS {
                    return None;
                }
                let before = group.before.map(|ip| ip.to_string()).unwrap_or_default();
                let mut evidence = vec![format!(
                    "{} of it with priority {priority}; before, the master was {before}.",
                    counted(group.seen.packets, "announcement")
                )];
                if highest && protocol == "VRRP" {
                    evidence.push("Priority 255 is for the owner of the address, which it is not.".to_owned());
                }
                if group.turns > 1 {
                    evidence.push(format!("{before} went on announcing itself: {} times in turn.", group.turns));
                }
                let draft = Draft {
                    id: "fhrp-takeover",
                    severity: "high",
                    doubt: (group.turns < TURNS)
                        .then_some("medium: a router that is newly connected with that priority does the same"),
                    title: format!("{newcomer} makes itself master of {protocol} group {number}."),
                    evidence,
                    effect: "not observable: which way hosts then sent is not in these packets.".to_owned(),
                    advice: "Authenticate the group or filter its multicast on ports that lead to hosts.",
                    actors: vec![format!("{newcomer} (unproven: the source can be forged)")],
                    targets: vec![before],
                    seen: &group.seen,
                    references: &["RFC 9568", "RFC 2281", "MITRE ATT&CK T1557"],
                };
                Some(draft.finding(context))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, ip, udp};

    fn vrrp_of(src: &str, priority: u8, address: [u8; 4]) -> Vec<u8> {
        let body = [&[0x21, 7, priority, 1, 0, 1, 0, 0][..], &address].concat();
        ip((A, B), src, "224.0.0.18", 112, &body)
    }

    fn hsrp_of(src: &str, state: u8, priority: u8) -> Vec<u8> {
        let body = [0, 0, state, 3, 10, priority, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 254];
        ip((A, B), src, "224.0.0.2", 17, &udp(1985, 1985, &body))
    }

    fn run(frames: &[Vec<u8>]) -> usize {
        let mut scene = Scene::of(VirtualRouter::default());
        for (n, frame) in frames.iter().enumerate() {
            scene.frame(n as u64 * 1_000, frame);
        }
        scene.ids().len()
    }

    #[test]
    fn a_stranger_with_the_highest_priority_and_a_standby() {
        let old = vrrp_of("10.0.0.1", 150, [10, 0, 0, 254]);
        let with = |frames: Vec<Vec<u8>>| [vec![old.clone(); 5], frames].concat();
        assert_eq!(run(&with(vec![vrrp_of("10.0.0.66", 255, [10, 0, 0, 254])])), 1);
        assert_eq!(run(&with(vec![vrrp_of("10.0.0.254", 255, [10, 0, 0, 254])])), 0, "the owner");
        assert_eq!(run(&with(vec![vrrp_of("10.0.0.2", 100, [10, 0, 0, 254]); 9])), 0, "failover");
        let fight = [vrrp_of("10.0.0.66", 200, [10, 0, 0, 254]), old.clone()];
        assert_eq!(run(&with(vec![fight.clone(); 3].concat())), 1, "two masters");
        assert_eq!(run(&with(fight.to_vec())), 0, "one that has not noticed yet");
        let (active, standby) = (hsrp_of("10.0.0.1", 16, 110), hsrp_of("10.0.0.2", 8, 100));
        let mut failover = vec![[active, standby]; 5].concat();
        failover.extend(vec![hsrp_of("10.0.0.2", 16, 100); 9]);
        assert_eq!(run(&failover), 0);
        failover.push(hsrp_of("10.0.0.66", 16, 255));
        assert_eq!(run(&failover), 1);
    }

    #[test]
    fn damage_is_no_announcement() {
        let whole = [0x21, 7, 255, 1, 0, 1, 0, 0, 10, 0, 0, 254];
        for cut in 0..whole.len() {
            assert!(vrrp(&whole[..cut], crate::sample::ip("10.0.0.66")).is_none());
            let _ = hsrp(&whole[..cut], true);
        }
    }
}
