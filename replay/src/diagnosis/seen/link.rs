//! Address resolution: who asked for whom, who answered, who claims which address.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use psc_formats::event::DeviceId;
use psc_formats::packet::{Headers, Network, Transport};
use psc_formats::{Event, EventKind};

use super::{KEYS, Times};
use crate::bounded::Bounded;
use crate::engine::JourneyId;

/// `NUD_FAILED` of `include/uapi/linux/neighbour.h`.
const FAILED: u8 = 0x20;

/// Link-layer addresses remembered for one network address.
const MACS: usize = 4;

/// Requests for one address.
#[derive(Clone, Debug, Default)]
pub(in crate::diagnosis) struct Ask {
    pub(in crate::diagnosis) times: Times,
    /// Since the last answer.
    pub(in crate::diagnosis) unanswered: u64,
    pub(in crate::diagnosis) answers: u64,
    /// Who asked; the unspecified address probes for duplicates.
    pub(in crate::diagnosis) by: Option<IpAddr>,
    /// Where the first was seen.
    pub(in crate::diagnosis) device: DeviceId,
    /// The kernel gave up on it.
    pub(in crate::diagnosis) failed: bool,
    /// A duplicate address probe was answered.
    pub(in crate::diagnosis) probe_answered: Option<[u8; 6]>,
    /// Devices that received one.
    pub(in crate::diagnosis) reached: BTreeSet<DeviceId>,
    probing: bool,
    pub(in crate::diagnosis) prober: [u8; 6],
}

/// Link-layer addresses that claimed one network address.
#[derive(Clone, Debug, Default)]
pub(in crate::diagnosis) struct Claims {
    /// (address, claims, first, last), in order of the first claim.
    pub(in crate::diagnosis) macs: Vec<([u8; 6], u64, u64, u64)>,
    /// How often the claimant changed: a takeover changes it once, a conflict back and forth.
    pub(in crate::diagnosis) changes: u32,
    latest: Option<[u8; 6]>,
    pub(in crate::diagnosis) times: Times,
}

/// Router discovery on one device.
#[derive(Clone, Debug, Default)]
pub(in crate::diagnosis) struct Routers {
    pub(in crate::diagnosis) solicitations: Times,
    pub(in crate::diagnosis) advertisements: u64,
}

/// The link as seen.
#[derive(Debug)]
pub(in crate::diagnosis) struct Link {
    asks: Bounded<IpAddr, Ask>,
    claims: Bounded<IpAddr, Claims>,
    routers: Bounded<DeviceId, Routers>,
    /// Journeys of requests, and whom they ask for.
    asking: Bounded<u64, IpAddr>,
    /// Link-layer addresses with IP packets to or from one other.
    spoken: Bounded<[u8; 6], ()>,
    latest: [[u8; 6]; 2],
}

impl Default for Link {
    fn default() -> Self {
        Self {
            asks: Bounded::new(KEYS),
            claims: Bounded::new(KEYS),
            routers: Bounded::new(KEYS),
            asking: Bounded::new(KEYS),
            spoken: Bounded::new(KEYS),
            latest: [[0; 6]; 2],
        }
    }
}

impl Link {
    pub(super) fn packet(
        &mut self,
        event: &Event,
        headers: &Headers,
        bytes: &[u8],
        journey: Option<JourneyId>,
    ) {
        let at = event.at.0;
        let journey = journey.map(|id| id.0);
        self.speaks(headers);
        match headers.network {
            Network::Arp(arp) => {
                let (sender, target) = (IpAddr::from(arp.sender), IpAddr::from(arp.target));
                if !arp.sender.is_unspecified() {
                    self.claim(sender, arp.sender_mac, at, journey);
                }
                // An announcement asks for the sender's own address.
                if arp.opcode == 1 && sender != target {
                    self.ask(target, sender, arp.sender_mac, event.device, at, journey);
                } else if arp.opcode == 2 {
                    self.answer(sender, arp.sender_mac);
                }
            }
            Network::V6(ip) => {
                let Transport::Icmp(icmp) = headers.transport else { return };
                let source = headers.ethernet.map_or([0; 6], |ethernet| ethernet.src);
                let target = || {
                    let from = usize::from(headers.transport_offset) + 8;
                    let octets = bytes.get(from..from + 16)?;
                    Some(IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?)))
                };
                match icmp.icmp_type {
                    133 => self
                        .routers
                        .entry_or_forget(event.device, Routers::default)
                        .solicitations
                        .add(at, 1, journey),
                    134 => {
                        self.routers
                            .entry_or_forget(event.device, Routers::default)
                            .advertisements += 1;
                    }
                    135 => {
                        if let Some(target) = target() {
                            self.ask(target, ip.src.into(), source, event.device, at, journey);
                        }
                    }
                    136 => {
                        if let Some(target) = target() {
                            let mac = target_link_address(headers, bytes).unwrap_or(source);
                            self.claim(target, mac, at, journey);
                            self.answer(target, mac);
                        }
                    }
                    _ => {}
                }
            }
            Network::V4(_) | Network::None => {}
        }
    }

    fn speaks(&mut self, headers: &Headers) {
        let Some(ethernet) = headers.ethernet else { return };
        if matches!(headers.network, Network::Arp(_) | Network::None) {
            return;
        }
        let ends = [ethernet.src, ethernet.dst];
        if ethernet.dst[0] & 1 == 0 && ends != self.latest {
            self.latest = ends;
            for end in ends {
                self.spoken.entry_or_forget(end, || ());
            }
        }
    }

    /// Whether packets between this station and one other came by, or none between any: a capture made at
    /// another station sees only what this one sends to all, and never the answers.
    pub(in crate::diagnosis) fn is_seen_whole(&self, mac: [u8; 6]) -> bool {
        self.spoken.iter().next().is_none() || self.spoken.get(&mac).is_some()
    }

    fn ask(
        &mut self,
        target: IpAddr,
        by: IpAddr,
        mac: [u8; 6],
        device: DeviceId,
        at: u64,
        journey: Option<u64>,
    ) {
        let ask = self.asks.entry_or_forget(target, Ask::default);
        if ask.times.count == 0 {
            ask.device = device;
        }
        ask.times.add(at, 1, journey);
        if let Some(journey) = journey {
            self.asking.entry_or_forget(journey, || target);
        }
        ask.unanswered += 1;
        ask.by.get_or_insert(by);
        ask.probing = by.is_unspecified();
        ask.prober = mac;
    }

    /// A request arrived at a device.
    pub(super) fn arrived(&mut self, device: DeviceId, journey: u64) {
        const DEVICES: usize = 16;
        if let Some(target) = self.asking.get(&journey)
            && let Some(ask) = self.asks.get_mut(target)
            && ask.reached.len() < DEVICES
        {
            ask.reached.insert(device);
        }
    }

    fn answer(&mut self, address: IpAddr, mac: [u8; 6]) {
        if let Some(ask) = self.asks.get_mut(&address) {
            if ask.probing && ask.prober != mac {
                ask.probe_answered = Some(mac);
            }
            ask.unanswered = 0;
            ask.answers += 1;
        }
    }

    fn claim(&mut self, address: IpAddr, mac: [u8; 6], at: u64, journey: Option<u64>) {
        if mac == [0; 6] {
            return;
        }
        let claims = self.claims.entry_or_forget(address, Claims::default);
        claims.times.add(at, 1, journey);
        if claims.latest.is_some_and(|latest| latest != mac) {
            claims.changes += 1;
        }
        claims.latest = Some(mac);
        if let Some(known) = claims.macs.iter_mut().find(|(known, ..)| *known == mac) {
            known.1 += 1;
            known.3 = at;
        } else if claims.macs.len() < MACS {
            claims.macs.push((mac, 1, at, at));
        }
    }

    pub(super) fn neighbour(&mut self, event: &Event) {
        let EventKind::Neighbour { address, new, .. } = event.kind else { return };
        if new & FAILED != 0
            && let Some(ask) = self.asks.get_mut(&address.src)
        {
            ask.failed = true;
        }
    }

    pub(in crate::diagnosis) fn asks(&self) -> Vec<(&IpAddr, &Ask)> {
        super::sorted(&self.asks)
    }

    pub(in crate::diagnosis) fn ask_for(&self, address: IpAddr) -> Option<&Ask> {
        self.asks.get(&address)
    }

    pub(in crate::diagnosis) fn claims(&self) -> Vec<(&IpAddr, &Claims)> {
        super::sorted(&self.claims)
    }

    pub(in crate::diagnosis) fn routers(&self) -> Vec<(&DeviceId, &Routers)> {
        super::sorted(&self.routers)
    }
}

/// The target link-layer address option of a neighbour advertisement (RFC 4861 section 4.6.1).
fn target_link_address(headers: &Headers, bytes: &[u8]) -> Option<[u8; 6]> {
    let mut rest = bytes.get(usize::from(headers.transport_offset) + 24..)?;
    while let [kind, units, ..] = rest {
        let len = usize::from(*units) * 8;
        if *kind == 2 {
            return rest.get(2..8)?.try_into().ok();
        }
        rest = rest.get(len.max(8)..)?;
    }
    None
}
