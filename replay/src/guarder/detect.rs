//! Runs all detectors over one pass.

use std::net::IpAddr;

use psc_formats::Tables;
use psc_formats::event::DeviceId;
use psc_formats::manifest::Origin;
use psc_formats::packet::{Headers, Network, Transport};
use psc_formats::{EventKind, Manifest};

use crate::bounded::Bounded;
use crate::dns;
use crate::engine::{ClosedJourney, JourneyId, Observer, Pass, Sighting, World};
use crate::first_sight::{Direction, FirstSight};
use crate::industrial::Baseline;
use crate::view::Provenance;
use crate::view::detect::{DetectView, Finding};

use super::attempt::{Attempts, Change};
use super::checksum::Checksums;
use super::conversation::Conversations;
use super::{arp, industrial, link, network, port_scan, service, syn_flood, transport};

/// What a detector is.
#[derive(Clone, Copy, Debug)]
pub(super) struct About {
    /// `arp-spoofing`.
    pub(super) id: &'static str,
    /// What it sees, and what it must leave alone, in one sentence each.
    pub(super) sees: &'static str,
}

/// One packet, told once however many probes saw it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    pub(super) at: u64,
    pub(super) journey: Option<JourneyId>,
    pub(super) headers: &'a Headers,
    /// What was stored of it, from the link header on; empty when this sighting has no bytes.
    pub(super) bytes: &'a [u8],
    /// Payload bytes of one wire segment of a GSO skb; 0 when it is one packet.
    pub(super) gso_size: u16,
    pub(super) device: DeviceId,
    pub(super) direction: Direction,
    /// Its IPv4 header checksum is wrong, in a recording in which they are right otherwise: every host and
    /// router discards it (RFC 1122 section 3.2.1.2), and what its header says was said by nobody.
    pub(super) damaged: bool,
    /// What it says, on the ports of DNS, multicast DNS, LLMNR and NetBIOS names.
    pub(super) dns: Option<&'a dns::Message>,
    /// Conversations before this packet.
    pub(super) flows: &'a Conversations,
}

impl<'a> Packet<'a> {
    /// Stored bytes behind the transport header (behind the fixed eight of ICMP).
    pub(super) fn payload(&self) -> &'a [u8] {
        payload(self.headers, self.bytes)
    }

    /// Bytes of one IP packet on the wire.
    pub(super) fn ip_size(&self) -> u32 {
        let whole = crate::first_sight::ip_bytes(self.headers, 0) as u32;
        let segments = self.headers.payload_len.checked_div(u32::from(self.gso_size)).unwrap_or(0);
        if segments > 1 {
            whole.saturating_sub(self.headers.payload_len) + u32::from(self.gso_size)
        } else {
            whole
        }
    }

    /// Whether it crossed a link that other hosts are on: an Ethernet frame with addresses.
    pub(super) fn on_a_wire(&self) -> bool {
        self.headers.ethernet.is_some_and(|frame| frame.src != [0; 6])
    }

    #[cfg(test)]
    pub(super) fn of(at: u64, headers: &'a Headers, flows: &'a Conversations) -> Self {
        Self {
            at,
            journey: None,
            headers,
            bytes: &[],
            gso_size: 0,
            device: DeviceId(0),
            direction: Direction::Unknown,
            damaged: false,
            dns: None,
            flows,
        }
    }
}

/// What a detector that reads payload cannot see: recordings keep headers unless told otherwise.
pub(super) fn needs_payload(manifest: &Manifest) -> String {
    match (manifest.origin, manifest.snaplen) {
        (Origin::Capture, _) => "what the capture's snap length cut off".to_owned(),
        (Origin::Kernel | Origin::Merge, None) => String::new(),
        (Origin::Kernel | Origin::Merge, _) => {
            "payload that was not recorded: psc record keeps headers unless -s 0 says whole packets"
                .to_owned()
        }
    }
}

/// See [`Packet::payload`].
pub(crate) fn payload<'a>(headers: &Headers, bytes: &'a [u8]) -> &'a [u8] {
    let rest = bytes.get(usize::from(headers.payload_offset)..).unwrap_or(&[]);
    &rest[..rest.len().min(headers.payload_len as usize)]
}

/// What a detector may draw on when it concludes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) tables: &'a Tables,
    pub(super) provenance: &'a Provenance,
}

/// A small state machine over packets and stack events, in packet time and bounded memory.
pub(super) trait Detector: std::fmt::Debug + Send {
    fn about(&self) -> About;

    /// Every sighting, in time order.
    fn sighting(&mut self, world: World<'_>, sighting: &Sighting<'_>) {
        let _ = (world, sighting);
    }

    /// Every packet, once.
    fn packet(&mut self, packet: &Packet<'_>) {
        let _ = packet;
    }

    /// Every step of every attempt to reach somebody.
    fn attempt(&mut self, change: &Change) {
        let _ = change;
    }

    /// What it cannot see in this recording; empty when nothing.
    fn blind(&self, manifest: &Manifest) -> String {
        match manifest.origin {
            Origin::Capture => {
                "a capture has no stack events, so effects are judged by what is on \
                                the wire only"
                    .to_owned()
            }
            Origin::Kernel | Origin::Merge => String::new(),
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding>;
}

/// Both ends of a link may have been recorded: what was seen at several devices is told once, by the one
/// that saw most.
fn told_once(findings: &mut Vec<Finding>) {
    let mut kept: Vec<(Finding, u64)> = Vec::new();
    for finding in findings.drain(..) {
        match kept.iter_mut().find(|(k, _)| k.id == finding.id && k.title == finding.title) {
            Some((other, times)) => {
                *times += 1;
                if finding.packets > other.packets {
                    *other = finding;
                }
            }
            None => kept.push((finding, 1)),
        }
    }
    findings.extend(kept.into_iter().map(|(mut finding, times)| {
        if times > 1 {
            finding.evidence.push(format!("{times} recorded devices or places saw it."));
        }
        finding
    }));
}

/// Journeys whose last packet is remembered, to tell a next one that reuses the skb.
const COUNTED: usize = 16_384;

/// What sets one packet apart from the next and is not rewritten on the way: neither NAT nor routers nor
/// segmentation offloads change it.
fn signature(headers: &Headers) -> Option<u64> {
    let network = match headers.network {
        Network::Arp(arp) => [arp.sender.to_bits(), arp.target.to_bits(), u32::from(arp.opcode)],
        Network::V4(ip) => {
            [u32::from(ip.id), u32::from(ip.fragment_offset), u32::from(ip.protocol)]
        }
        Network::V6(ip) => {
            let (id, offset, _) = ip.fragment.unwrap_or_default();
            [id, u32::from(offset), u32::from(ip.protocol)]
        }
        Network::None => return None,
    };
    let transport = match headers.transport {
        Transport::Tcp(tcp) => [tcp.seq, tcp.ack, u32::from(tcp.flags)],
        Transport::Udp(udp) => [u32::from(udp.len), 0, 0],
        Transport::Icmp(icmp) => [icmp.rest, u32::from(icmp.icmp_type), u32::from(icmp.code)],
        Transport::Ports(..) | Transport::None => [0; 3],
    };
    // FNV-1a over words.
    let words = network.into_iter().chain(transport);
    Some(words.fold(0xcbf2_9ce4_8422_2325, |hash, word| {
        (hash ^ u64::from(word)).wrapping_mul(0x0100_0000_01b3)
    }))
}

/// Observes a pass and says what looks like an attack, and how sure that is.
#[derive(Debug)]
pub struct Detectors {
    once: FirstSight,
    /// What was counted last of a journey, for packets that [`signature`] tells apart.
    counted: Bounded<JourneyId, u64>,
    flows: Conversations,
    attempts: Attempts,
    checksums: Checksums,
    changes: Vec<Change>,
    running: Vec<Box<dyn Detector>>,
}

impl Default for Detectors {
    fn default() -> Self {
        Self::new()
    }
}

impl Detectors {
    /// All detectors, having seen nothing.
    pub fn new() -> Self {
        Self::against(None)
    }

    /// All detectors; industrial traffic is held against `baseline` where there is one.
    pub fn against(baseline: Option<Baseline>) -> Self {
        let mut all: Vec<Box<dyn Detector>> = vec![Box::new(arp::Arp::default())];
        all.extend(link::detectors());
        all.extend(network::detectors());
        all.push(Box::new(port_scan::PortScan::default()));
        all.push(Box::new(syn_flood::SynFlood::default()));
        all.extend(transport::detectors());
        all.extend(service::detectors());
        all.push(Box::new(industrial::Industrial::against(baseline)));
        Self::of(all)
    }

    pub(super) fn of(running: Vec<Box<dyn Detector>>) -> Self {
        Self {
            once: FirstSight::default(),
            counted: Bounded::new(COUNTED),
            flows: Conversations::default(),
            attempts: Attempts::default(),
            checksums: Checksums::default(),
            changes: Vec::new(),
            running,
        }
    }

    /// What the pass that it observed shows.
    pub fn finish(mut self, manifest: &Manifest, pass: &Pass) -> DetectView {
        self.attempts.finish(&mut self.changes);
        self.tell_changes();
        let context = Context { manifest, tables: &pass.tables, provenance: &pass.provenance };
        let mut findings = Vec::new();
        let mut ran = Vec::new();
        for detector in &mut self.running {
            let about = detector.about();
            ran.push((about.id.to_owned(), about.sees.to_owned(), detector.blind(manifest)));
            findings.extend(detector.finish(&context));
        }
        crate::view::detect::sort(&mut findings);
        told_once(&mut findings);
        DetectView { provenance: pass.provenance.clone(), findings, detectors: ran }
    }

    /// The packet that this sighting is the one to count of.
    ///
    /// Frees without a tracepoint let one journey run on through packets that reuse its skb: where a
    /// packet's own bytes tell it from the last one, it is counted for itself.
    fn packet_of<'a>(&mut self, sighting: &Sighting<'a>) -> Option<(&'a Headers, Direction)> {
        let first = self.once.packet(sighting);
        if matches!(sighting.event.kind, EventKind::Captured { .. }) {
            return first;
        }
        let seen = first.or_else(|| {
            let direction = Direction::of(&sighting.event.kind).filter(|_| sighting.fresh)?;
            Some((sighting.headers?, direction))
        })?;
        let (Some(journey), Some(signature)) = (sighting.journey, signature(seen.0)) else {
            return first;
        };
        let last = self.counted.get_mut(&journey).copied();
        if first.is_none() && (last.is_none() || last == Some(signature)) {
            return None;
        }
        *self.counted.entry_or_forget(journey, || signature) = signature;
        Some(seen)
    }

    fn tell_changes(&mut self) {
        for change in self.changes.drain(..) {
            for detector in &mut self.running {
                detector.attempt(&change);
            }
        }
    }
}

impl Observer for Detectors {
    fn sighting(&mut self, world: World<'_>, sighting: &Sighting<'_>) {
        for detector in &mut self.running {
            detector.sighting(world, sighting);
        }
        let Some((headers, direction)) = self.packet_of(sighting) else { return };
        let event = sighting.event;
        let dns = dns::of(headers, payload(headers, sighting.bytes));
        let packet = Packet {
            at: event.at.0,
            journey: sighting.journey,
            headers,
            bytes: sighting.bytes,
            gso_size: event.gso.size,
            device: event.device,
            direction,
            damaged: self.checksums.damaged(headers, sighting.bytes),
            dns: dns.as_ref(),
            flows: &self.flows,
        };
        self.attempts.packet(&packet, &mut self.changes);
        for change in self.changes.drain(..) {
            for detector in &mut self.running {
                detector.attempt(&change);
            }
        }
        for detector in &mut self.running {
            detector.packet(&packet);
        }
        let size = packet.ip_size();
        self.flows.packet(headers, event.at.0, size);
    }

    fn closed(&mut self, _world: World<'_>, journey: &ClosedJourney) {
        self.once.never_counted(journey);
    }
}

impl Context<'_> {
    /// `high`, or less with the reason: `doubt` of the detector's own, or the recording's loss.
    pub(super) fn confidence(&self, doubt: Option<&str>) -> String {
        if let Some(doubt) = doubt {
            return doubt.to_owned();
        }
        if !self.provenance.selection.is_empty() {
            return "medium: only a selection of the recording was looked at".to_owned();
        }
        let kept = self.provenance.events;
        match self.provenance.completeness.lost {
            Some(0) => "high".to_owned(),
            // Above one percent, what is missing may be what would have cleared it.
            Some(lost) if lost.saturating_mul(100) > kept => {
                format!("low: the recorder lost {lost} events and kept {kept}")
            }
            Some(lost) => format!("medium: the recorder lost {lost} events and kept {kept}"),
            None => "medium: the recording does not say what it lost".to_owned(),
        }
    }

    /// Whether stack events could have confirmed an effect.
    pub(super) fn has_stack(&self) -> bool {
        self.manifest.origin != Origin::Capture
    }

    /// Namespaces that have `address`; all that were read when none is known to have it.
    pub(super) fn namespaces_of(&self, address: IpAddr) -> Vec<u32> {
        let text = address.to_string();
        let has = |local: &String| local.split('/').next() == Some(text.as_str());
        let devices = self.tables.devices.values();
        let mut owners: Vec<u32> =
            devices.filter(|d| d.addresses.iter().any(has)).map(|d| d.netns).collect();
        if owners.is_empty() {
            owners = self.tables.counters.iter().map(|fact| fact.netns).collect();
        }
        owners.sort_unstable();
        owners.dedup();
        owners
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Feed;

    #[test]
    fn confidence_falls_with_the_recorders_loss() {
        let feed = Feed::default();
        for (lost, kept, selection, expected) in [
            (Some(0), 100, "", "high"),
            (Some(1), 100, "", "medium"),
            (Some(2), 100, "", "low"),
            (None, 100, "", "medium"),
            (Some(0), 100, "tcp", "medium"),
        ] {
            let mut provenance = Provenance { events: kept, ..Provenance::default() };
            provenance.completeness.lost = lost;
            provenance.selection = selection.to_owned();
            let context =
                Context { manifest: &feed.manifest, tables: &feed.tables, provenance: &provenance };
            let confidence = context.confidence(None);
            assert_eq!(confidence.split(':').next(), Some(expected), "{lost:?} of {kept}");
        }
    }

    #[test]
    fn every_detector_says_what_it_sees_even_when_it_finds_nothing() {
        let view = Detectors::new().finish(&Manifest::default(), &Pass::default());
        assert!(view.findings.is_empty());
        let mut ids: Vec<&str> = view.detectors.iter().map(|(id, ..)| id.as_str()).collect();
        for (id, sees, blind) in &view.detectors {
            assert!(sees.contains("silent on"), "{id} must name what it leaves alone");
            assert!(!blind.is_empty(), "{id}: a capture shows less than a recording");
        }
        ids.sort_unstable();
        let all = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), all, "an id names one detector");
    }
}
