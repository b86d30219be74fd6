//! ARP spoofing and address conflicts: two link-layer addresses claiming one IPv4 address.
//!
//! **Sees**, per device (one link): claims (sender addresses of ARP requests and replies, except probes
//! with sender 0.0.0.0, RFC 5227), and IPv4 packets from a claimed address. A conflict is:
//! - ownership going back and forth three times within a minute, or
//! - two addresses answering the same request, or
//! - another address claiming one of this host's own, or
//! - a claim against an owner that goes on sending, or
//! - five or more unasked replies to somebody else, against an owner known before.
//!
//! **Thresholds**: RFC 5227 section 2.4 lets a host defend once in ten seconds, so two defences and
//! their causes fit in a minute; spoofing tools repeat every one to ten seconds (arpspoof 2, ettercap
//! 10), since caches forget.
//!
//! **Silent on**: failover announced by gratuitous ARP where the old owner falls silent, and its return
//! (two changes); VRRP, CARP and HSRP virtual addresses; an address given to another host after
//! silence (DHCP); proxy ARP (one address for many IPs).
//!
//! An attacker that uses a virtual router's MAC address is not told from the router.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use psc_formats::event::DeviceId;
use psc_formats::manifest::Origin;
use psc_formats::packet::{Arp as ArpPacket, Headers, Network};
use psc_formats::{EventKind, Manifest, Tables};

use crate::bounded::Bounded;
use crate::engine::{JourneyId, Sighting, World};
use crate::first_sight::Direction;
use crate::view::detect::Finding;

use super::detect::{About, Context, Detector};
use super::evidence::{Exemplars, counted};

type Mac = [u8; 6];

/// Claimed addresses watched at once.
const ADDRESSES: usize = 16_384;

/// Owners remembered per address.
const OWNERS: usize = 4;

/// Changes of ownership within this are counted together.
const CHANGES_NS: u64 = 60_000_000_000;
const CHANGES: usize = 3;

/// A reply this long after a request for its address was asked for.
const ASKED_NS: u64 = 5_000_000_000;

/// Two replies to one request come within this.
const RACE_NS: u64 = 1_000_000_000;

/// Packets of a displaced owner may have been under way this long.
const UNDER_WAY_NS: u64 = 1_000_000_000;

/// Unasked, directed replies from which a silent owner is no excuse any more.
const UNASKED: u64 = 5;

/// Unasked replies from which a claim against a live owner is spoofing.
const INSISTENT: u64 = 3;

/// `NUD_REACHABLE`, `STALE`, `DELAY`, `PROBE` and `PERMANENT` of `include/net/neighbour.h`: states in
/// which the address is used.
const NUD_USED: u8 = 0x02 | 0x04 | 0x08 | 0x10 | 0x80;

#[derive(Clone, Copy, Debug)]
struct Owner {
    mac: Mac,
    first: u64,
    /// Last claim.
    claimed: u64,
    claims: u64,
    /// Replies that nobody asked for and that were not gratuitous.
    unasked: u64,
    /// Claims in frames from yet another link-layer address.
    foreign_frames: u64,
    /// Sent IPv4 as this address after somebody else had claimed it.
    alive_after: Option<u64>,
}

/// What is known of one IPv4 address on one link.
#[derive(Debug, Default)]
struct Address {
    owners: Vec<Owner>,
    /// The last to claim.
    current: Option<Mac>,
    changes: VecDeque<u64>,
    changed: u64,
    asked: Option<u64>,
    /// The last reply to a request: (when asked, who answered, when).
    answer: Option<(u64, Mac, u64)>,
    /// Signs of a conflict, worst count of each.
    flips: usize,
    races: u64,
    against_own: u64,
    first: Option<u64>,
    last: u64,
    packets: u64,
    exemplars: Exemplars,
    counted: Option<JourneyId>,
}

/// A change of the kernel's neighbour table: (link-layer address, when).
type Learned = (Mac, u64);

#[derive(Debug)]
pub(super) struct Arp {
    addresses: Bounded<(DeviceId, Ipv4Addr), Address>,
    learned: Bounded<Ipv4Addr, VecDeque<Learned>>,
    /// Addresses in conflict: only while there are any are IPv4 packets looked at.
    contested: bool,
}

impl Default for Arp {
    fn default() -> Self {
        Self {
            addresses: Bounded::new(ADDRESSES),
            learned: Bounded::new(ADDRESSES),
            contested: false,
        }
    }
}

impl Detector for Arp {
    fn about(&self) -> About {
        About {
            id: "arp-spoofing",
            sees: "two link-layer addresses claiming one IPv4 address on one link, by ARP and by who \
                   goes on sending; silent on failover, virtual routers (VRRP, CARP, HSRP), DHCP \
                   reassignment and proxy ARP.",
        }
    }

    fn blind(&self, manifest: &Manifest) -> String {
        match manifest.origin {
            Origin::Capture => {
                "a capture has no neighbour events, so whether a victim believed it \
                                cannot be confirmed"
                    .to_owned()
            }
            Origin::Kernel | Origin::Merge => String::new(),
        }
    }

    fn sighting(&mut self, world: World<'_>, sighting: &Sighting<'_>) {
        let event = sighting.event;
        if let EventKind::Neighbour { address, mac, new, .. } = event.kind
            && let IpAddr::V4(ip) = address.src
            && mac != 0
            && new & NUD_USED != 0
        {
            let learned = self.learned.entry_or_forget(ip, VecDeque::new);
            if learned.len() == 64 {
                learned.pop_front();
            }
            let [_, _, mac @ ..] = mac.to_be_bytes();
            learned.push_back((mac, event.at.0));
            return;
        }
        // One probe per device and direction, so that a claim counts once on its link.
        let own = match event.kind {
            EventKind::Captured { .. } | EventKind::Receive {} => false,
            EventKind::DeviceQueue {} => true,
            _ => return,
        };
        let Some(headers) = sighting.headers else { return };
        let at = event.at.0;
        match headers.network {
            Network::Arp(arp) => {
                self.arp(event.device, at, sighting.journey, headers, &arp);
                if !own && Direction::of(&event.kind) != Some(Direction::Egress) {
                    self.against_own(world.tables, event.device, at, &arp);
                }
            }
            Network::V4(ip) if self.contested => {
                if let Some(ethernet) = headers.ethernet {
                    self.alive(event.device, at, ip.src, ethernet.src);
                }
            }
            Network::V4(_) | Network::V6(_) | Network::None => {}
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let addresses = std::mem::replace(&mut self.addresses, Bounded::new(1));
        // One conflict on a link is seen by each of its devices that are recorded: the first to see it
        // tells it.
        let mut by_conflict: BTreeMap<Vec<String>, (Finding, usize)> = BTreeMap::new();
        for ((device, ip), address) in addresses.into_oldest_first() {
            let Some(finding) = self.finding(device, ip, &address, context) else { continue };
            let key = finding.actors.iter().chain(&finding.targets).cloned().collect();
            match by_conflict.entry(key) {
                Entry::Vacant(slot) => drop(slot.insert((finding, 1))),
                Entry::Occupied(mut slot) => {
                    let (told, devices) = slot.get_mut();
                    *devices += 1;
                    if (finding.first, &finding.evidence) < (told.first, &told.evidence) {
                        *told = finding;
                    }
                }
            }
        }
        by_conflict
            .into_values()
            .map(|(mut finding, devices)| {
                if devices > 1 {
                    finding.evidence.push(format!("{devices} recorded devices saw it."));
                }
                finding
            })
            .collect()
    }
}

/// Virtual router addresses: they move between hosts by design. VRRP and CARP for IPv4 and IPv6
/// (RFC 9568 section 7.3), HSRP versions 1 and 2, GLBP.
fn is_virtual(mac: Mac) -> bool {
    matches!(
        mac,
        [0x00, 0x00, 0x5e, 0x00, 0x01 | 0x02, _]
            | [0x00, 0x00, 0x0c, 0x07, 0xac, _]
            | [0x00, 0x00, 0x0c, 0x9f, 0xf0..=0xff, _]
            | [0x00, 0x07, 0xb4, ..]
    )
}

/// Whether a host can have this link-layer address: neither zero nor a group.
fn is_host(mac: Mac) -> bool {
    mac != [0; 6] && mac[0] & 1 == 0
}

impl Arp {
    fn arp(
        &mut self,
        device: DeviceId,
        at: u64,
        journey: Option<JourneyId>,
        headers: &Headers,
        arp: &ArpPacket,
    ) {
        // Asking for an address makes the next reply for it an answer. A gratuitous request asks
        // nobody.
        if arp.opcode == 1 && arp.target != arp.sender && !arp.target.is_unspecified() {
            let target = self.addresses.entry_or_forget((device, arp.target), Address::default);
            target.asked = Some(at);
        }
        if arp.sender.is_unspecified() || !is_host(arp.sender_mac) || is_virtual(arp.sender_mac) {
            return;
        }
        let foreign = headers
            .ethernet
            .is_some_and(|frame| frame.src != arp.sender_mac && !is_virtual(frame.src));
        let address = self.addresses.entry_or_forget((device, arp.sender), Address::default);
        address.claim(at, journey, arp, foreign);
        self.contested |= address.owners.len() > 1;
    }

    /// Another host claims an address of this one.
    fn against_own(&mut self, tables: &Tables, device: DeviceId, at: u64, arp: &ArpPacket) {
        let Some(here) = tables.devices.get(&device) else { return };
        let claimed = arp.sender.to_string();
        let own = |text: &String| text.split('/').next() == Some(claimed.as_str());
        if !here.addresses.iter().any(own) || is_virtual(arp.sender_mac) {
            return;
        }
        // Another device of this host on the same link answers for it (ARP flux): no stranger.
        let text = mac_text(arp.sender_mac);
        let ours = tables
            .devices
            .values()
            .any(|d| d.netns == here.netns && d.mac.eq_ignore_ascii_case(&text));
        if !ours && let Some(address) = self.addresses.get_mut(&(device, arp.sender)) {
            address.against_own += 1;
            address.sign(at);
        }
    }

    fn alive(&mut self, device: DeviceId, at: u64, ip: Ipv4Addr, mac: Mac) {
        let Some(address) = self.addresses.get_mut(&(device, ip)) else { return };
        let displaced = address.current.is_some_and(|current| current != mac)
            && at.saturating_sub(address.changed) >= UNDER_WAY_NS;
        if displaced && let Some(owner) = address.owners.iter_mut().find(|o| o.mac == mac) {
            owner.alive_after = Some(at);
            address.last = address.last.max(at);
        }
    }
}

impl Address {
    fn claim(&mut self, at: u64, journey: Option<JourneyId>, arp: &ArpPacket, foreign: bool) {
        let mac = arp.sender_mac;
        let reply = arp.opcode == 2;
        let asked = self.asked.filter(|asked| at.saturating_sub(*asked) <= ASKED_NS);
        let gratuitous = arp.sender == arp.target;
        if journey.is_none() || self.counted != journey {
            self.packets += 1;
            self.counted = journey;
        }
        let owner = self.owner(mac, at);
        owner.claimed = at;
        owner.claims += 1;
        owner.unasked += u64::from(reply && asked.is_none() && !gratuitous);
        owner.foreign_frames += u64::from(foreign);

        if let Some(asked) = asked.filter(|_| reply) {
            if let Some((of, who, when)) = self.answer
                && of == asked
                && who != mac
                && at.saturating_sub(when) <= RACE_NS
            {
                self.races += 1;
                self.sign(at);
            }
            self.answer = Some((asked, mac, at));
        }
        if self.current.is_some_and(|current| current != mac) {
            self.changes.push_back(at);
            self.changed = at;
            while self.changes.front().is_some_and(|t| at.saturating_sub(*t) > CHANGES_NS) {
                self.changes.pop_front();
            }
            // Far more than any threshold; an endless flip-flop must not grow.
            if self.changes.len() > 64 {
                self.changes.pop_front();
            }
            self.flips = self.flips.max(self.changes.len());
            self.sign(at);
        }
        if self.owners.len() > 1 {
            self.last = self.last.max(at);
            self.exemplars.add(journey);
        }
        self.current = Some(mac);
    }

    fn owner(&mut self, mac: Mac, at: u64) -> &mut Owner {
        let index = self.owners.iter().position(|owner| owner.mac == mac).unwrap_or_else(|| {
            if self.owners.len() == OWNERS {
                // The first owner stays: it is the one that others displace.
                let oldest = (1..OWNERS).min_by_key(|&i| self.owners[i].claimed).unwrap_or(1);
                self.owners.remove(oldest);
            }
            self.owners.push(Owner {
                mac,
                first: at,
                claimed: at,
                claims: 0,
                unasked: 0,
                foreign_frames: 0,
                alive_after: None,
            });
            self.owners.len() - 1
        });
        &mut self.owners[index]
    }

    fn sign(&mut self, at: u64) {
        self.first.get_or_insert(at);
        self.last = self.last.max(at);
    }
}

fn mac_text(mac: Mac) -> String {
    psc_formats::packet::Mac(mac).to_string()
}

/// Why an address is in conflict, in one sentence each; empty when it is not.
fn signs(address: &Address, suspect: &Owner, owner: &Owner) -> Vec<String> {
    let mut signs = Vec::new();
    if address.flips >= CHANGES {
        signs.push(format!(
            "Ownership went back and forth {} times within a minute.",
            address.flips
        ));
    }
    if address.races > 0 {
        signs.push(format!("{} answered by both.", counted(address.races, "request")));
    }
    if address.against_own > 0 {
        signs.push(format!(
            "{} for an address of this host itself.",
            counted(address.against_own, "claim")
        ));
    }
    if suspect.unasked >= INSISTENT && owner.alive_after.is_some() {
        signs.push(format!(
            "{} went on sending as this address after {} had claimed it.",
            mac_text(owner.mac),
            mac_text(suspect.mac)
        ));
    }
    if suspect.unasked >= UNASKED {
        signs.push(format!(
            "{} sent {} replies that nobody had asked for.",
            mac_text(suspect.mac),
            suspect.unasked
        ));
    }
    signs
}

impl Arp {
    fn finding(
        &self,
        device: DeviceId,
        ip: Ipv4Addr,
        address: &Address,
        context: &Context<'_>,
    ) -> Option<Finding> {
        // Whoever was known first is taken for the owner, unless it is the one that insists.
        let first = address.owners.first()?;
        let second = address.owners.iter().skip(1).max_by_key(|o| (o.unasked, o.claims))?;
        let (owner, suspect) =
            if first.unasked > second.unasked { (second, first) } else { (first, second) };
        let mut evidence = signs(address, suspect, owner);
        if evidence.is_empty() {
            return None;
        }
        let spoofing = suspect.unasked >= INSISTENT || suspect.foreign_frames > 0;
        for claimant in &address.owners {
            evidence.push(format!(
                "{} made {} to {ip}, {} of them replies that nobody had asked for.",
                mac_text(claimant.mac),
                counted(claimant.claims, "claim"),
                claimant.unasked
            ));
        }
        if suspect.foreign_frames > 0 {
            evidence.push(format!(
                "{} of its claims came in frames from yet another link-layer address.",
                suspect.foreign_frames
            ));
        }
        let gateway = context
            .tables
            .routes
            .iter()
            .flat_map(|fact| &fact.routes)
            .any(|route| route.gateway == Some(ip.into()));
        if gateway {
            evidence.push(format!("{ip} is a gateway of this host."));
        }
        let only_unasked = address.flips < CHANGES
            && address.races == 0
            && address.against_own == 0
            && owner.alive_after.is_none();
        let doubt = if only_unasked {
            Some("medium: the owner before stayed silent, as in a failover without gratuitous ARP")
        } else if !spoofing {
            Some(
                "medium: two hosts with one address, or one host answering on two interfaces (ARP \
                 flux), look the same",
            )
        } else {
            None
        };
        let link = context.tables.devices.get(&device).map_or("", |d| d.name.as_str());
        let id = if spoofing { "arp-spoofing" } else { "arp-conflict" };
        Some(Finding {
            id: id.to_owned(),
            severity: if spoofing || gateway { "high" } else { "medium" }.to_owned(),
            confidence: context.confidence(doubt),
            title: if spoofing {
                format!(
                    "{} claims {ip}, which belongs to {}.",
                    mac_text(suspect.mac),
                    mac_text(owner.mac)
                )
            } else {
                format!("{} and {} both claim {ip}.", mac_text(owner.mac), mac_text(suspect.mac))
            },
            evidence,
            effect: self.effect(ip, suspect, context),
            advice: format!(
                "`ip neigh show {ip}`; find the switch port of {}; pin the entry with `ip neigh \
                 replace {ip} lladdr {} nud permanent dev {}`, and enable dynamic ARP inspection.",
                mac_text(suspect.mac),
                mac_text(owner.mac),
                if link.is_empty() { "DEVICE" } else { link }
            ),
            actors: vec![format!(
                "{} (link-layer addresses can be forged; a switch port cannot)",
                mac_text(suspect.mac)
            )],
            targets: vec![format!("{ip} ({})", mac_text(owner.mac))],
            first: address.first.unwrap_or(suspect.first),
            last: address.last,
            packets: address.packets,
            journeys: address.exemplars.list(),
            references: ["RFC 826", "RFC 5227", "MITRE ATT&CK T1557.002"]
                .map(str::to_owned)
                .to_vec(),
        })
    }

    fn effect(&self, ip: Ipv4Addr, suspect: &Owner, context: &Context<'_>) -> String {
        if !context.has_stack() {
            return "not observable: a capture has no neighbour table.".to_owned();
        }
        let text = mac_text(suspect.mac);
        let believed = self
            .learned
            .get(&ip)
            .and_then(|learned| {
                learned.iter().find(|(mac, at)| *mac == suspect.mac && *at >= suspect.first)
            })
            .map(|(_, at)| *at);
        if let Some(at) = believed {
            let since = at.saturating_sub(context.provenance.first) / 1000;
            return format!(
                "confirmed: the neighbour entry of {ip} became {text}, {}.{:06} s into the recording.",
                since / 1_000_000,
                since % 1_000_000
            );
        }
        let listed = context.tables.neighbours.iter().any(|fact| {
            fact.at >= suspect.first
                && fact
                    .neighbours
                    .iter()
                    .any(|n| n.address == IpAddr::V4(ip) && n.mac.eq_ignore_ascii_case(&text))
        });
        if listed {
            format!("confirmed: the neighbour table listed {ip} at {text}.")
        } else {
            format!("not confirmed: no neighbour entry of {ip} was seen to become {text}.")
        }
    }
}

#[cfg(test)]
#[path = "arp_tests.rs"]
mod tests;
