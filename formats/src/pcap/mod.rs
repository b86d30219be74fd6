//! Captures: reading pcap and pcapng as an [`EventSource`], writing pcapng.
//!
//! The walkers are our own and not the `pcap-file` crate's: that one stops at the first damaged
//! block, at an option that is not UTF-8 and at a packet above 8 MB, and ignores `if_tsresol`; a
//! forensic reader gives all that can still be read, and says what it skipped.

mod classic;
mod interfaces;
mod ng;
mod trouble;
mod window;
mod write;

use std::collections::VecDeque;
use std::io::Read;

use crate::event::{Context, DeviceId, Gso, LinkType, SkbAddr, SockId, Stack};
use crate::fact::{EndFact, Fact, LossFact};
use crate::manifest::{Clock, ClockKind, Layer, Manifest, Origin, Probe, ProbeId, ProbeStatus};
use crate::source::{Batch, EventSource, Progress, SourceError};
use crate::{Event, EventKind, Ns, PacketRef};
use interfaces::Interfaces;
use trouble::{Trouble, Troubles};
use window::Window;

pub use write::{Direction, Interface, InterfaceId, MAX_CAPLEN, Packet, Section, Writer};

/// Largest record or block believed, bytes. libpcap writes at most 256 KiB a packet, a BIG TCP packet
/// of the kernel is below 1 MiB, and an archive takes items up to this.
pub const MAX_BLOCK: usize = 32 << 20;

/// How many packets late a packet may be and still be put in order. Capturing several interfaces or
/// CPUs at once swaps neighbours.
const DISORDER: usize = 4096;

/// A batch is handed over when it has this many packet bytes.
const BATCH_BYTES: usize = 1 << 20;

/// A batch is handed over when it has this many packets.
const BATCH_EVENTS: usize = 8192;

/// What the first bytes of a file say it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flavour {
    Classic(classic::Format),
    Ng,
}

/// Tells pcap and pcapng apart by their first bytes; `None` when it is neither.
fn sniff(start: &[u8]) -> Option<Flavour> {
    let magic = *start.first_chunk::<4>()?;
    if magic == ng::SECTION_HEADER.to_le_bytes() {
        return Some(Flavour::Ng);
    }
    classic::Format::from_magic(magic).map(Flavour::Classic)
}

/// Whether a file that starts with `start` is a capture; 4 bytes are enough to tell.
pub fn is_capture(start: &[u8]) -> bool {
    sniff(start).is_some()
}

/// A capture as a source of one [`EventKind::Captured`] event a packet.
///
/// Packets carry no skb, so each is a journey of its own. Times are nanoseconds since the Unix
/// epoch. What is damaged or cut is stepped over and counted in notices that come with the last
/// batch.
pub struct CaptureSource {
    manifest: Manifest,
    window: Window,
    walker: Walker,
    common: Common,
    state: State,
}

enum Walker {
    Classic(classic::Walker),
    Ng(ng::Walker),
}

#[derive(PartialEq)]
enum State {
    Reading,
    Finished,
}

/// What both walkers give their packets to.
struct Common {
    interfaces: Interfaces,
    troubles: Troubles,
    packets: u64,
    last: Ns,
    order: Order,
    /// Packets that the capturing program said it dropped, once it said anything.
    dropped: Option<u64>,
}

/// What a walker found at the window's position.
enum Step {
    /// Something was taken; there may be more.
    Taken,
    /// Nothing more will come.
    End,
}

impl CaptureSource {
    /// Reads a capture from `input`; an error when it does not start like one.
    pub fn new(input: Box<dyn Read + Send>) -> Result<Self, SourceError> {
        let mut window = Window::new(input);
        let start = window.peek(24);
        let Some(flavour) = sniff(start) else {
            return Err(match window.take_damage() {
                Some(error) => SourceError::io("cannot read the capture", error),
                None => SourceError::data("neither a pcap nor a pcapng capture"),
            });
        };
        let mut common = Common {
            interfaces: Interfaces::default(),
            troubles: Troubles::default(),
            packets: 0,
            last: Ns(0),
            order: Order::default(),
            dropped: None,
        };
        let walker = match flavour {
            Flavour::Classic(format) => {
                Walker::Classic(classic::Walker::new(format, &mut window, &mut common))
            }
            Flavour::Ng => Walker::Ng(ng::Walker::default()),
        };
        Ok(Self { manifest: manifest(), window, walker, common, state: State::Reading })
    }
}

fn manifest() -> Manifest {
    Manifest {
        origin: Origin::Capture,
        psc_version: env!("CARGO_PKG_VERSION").to_owned(),
        clock: Clock { kind: ClockKind::Realtime, ..Clock::default() },
        probes: vec![Probe {
            name: "capture".to_owned(),
            method: "capture".to_owned(),
            layer: Layer::Link,
            status: ProbeStatus::Attached,
        }],
        ..Manifest::default()
    }
}

impl EventSource for CaptureSource {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn fill(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        if self.state == State::Finished {
            return Ok(Progress::End);
        }
        // One read a batch: packets that came down a pipe are not held back for more.
        self.window.peek(1);
        let dropped_before = self.common.dropped;
        loop {
            let step = match &mut self.walker {
                Walker::Classic(walker) => walker.step(&mut self.window, &mut self.common, batch),
                Walker::Ng(walker) => walker.step(&mut self.window, &mut self.common, batch),
            };
            if let Step::End = step {
                self.state = State::Finished;
                break;
            }
            let full = batch.bytes.len() >= BATCH_BYTES || batch.events.len() >= BATCH_EVENTS;
            if full || self.window.ready().len() < 64 {
                break;
            }
        }
        self.common.interfaces.drain_facts(&mut batch.facts);
        let at = self.common.last.0;
        if self.common.dropped != dropped_before {
            let capture_dropped = self.common.dropped;
            batch.facts.push(Fact::Loss(LossFact { at, capture_dropped, ..LossFact::default() }));
        }
        if self.state == State::Reading {
            batch.complete_to = self.common.order.complete_to();
            return Ok(Progress::More);
        }
        if let Some(error) = self.window.take_damage() {
            self.common.troubles.unreadable(self.window.offset(), &error);
        }
        self.common.troubles.late(self.common.order.late);
        self.common.troubles.drain_facts(&mut batch.facts);
        let reason = "end of capture".to_owned();
        batch.facts.push(Fact::End(EndFact { at, reason, ..EndFact::default() }));
        Ok(Progress::End)
    }
}

/// One packet as a walker found it.
struct Found<'a> {
    at: Ns,
    link: LinkType,
    device: DeviceId,
    /// As in [`EventKind::Captured`].
    direction: u8,
    len: u32,
    bytes: &'a [u8],
}

impl Common {
    fn packet(&mut self, found: &Found<'_>, batch: &mut Batch) {
        let Found { at, link, device, direction, len, bytes } = *found;
        let packet = PacketRef {
            offset: batch.bytes.len() as u32,
            caplen: bytes.len() as u32,
            len: len.max(bytes.len() as u32),
            link,
        };
        batch.bytes.extend_from_slice(bytes);
        batch.events.push(Event {
            at,
            cpu: 0,
            seq: self.packets,
            probe: ProbeId(0),
            skb: SkbAddr(0),
            sock: SockId(0),
            device,
            iif: 0,
            len: packet.len,
            gso: Gso::default(),
            stack: Stack::default(),
            context: Context::Unknown,
            packet: Some(packet),
            content: 0,
            kind: EventKind::Captured { direction },
        });
        self.packets += 1;
        self.last = at;
        self.order.note(at);
    }

    fn trouble(&mut self, trouble: Trouble, offset: u64) {
        self.troubles.note(trouble, offset);
    }
}

/// The registered number of a link type: some systems wrote their own `DLT_RAW` into files.
fn link_type(number: u16) -> LinkType {
    match number {
        12 | 14 => LinkType::RAW,
        other => LinkType(other),
    }
}

/// Direction in [`EventKind::Captured`] from a cooked header's packet type: 4 is
/// `PACKET_OUTGOING`, the others are ways of being received.
fn cooked_direction(link: LinkType, bytes: &[u8]) -> u8 {
    let kind = match link {
        LinkType::LINUX_SLL => bytes.get(1),
        LinkType::LINUX_SLL2 => bytes.get(10),
        _ => None,
    };
    match kind {
        Some(0..=3) => 1,
        Some(4) => 2,
        Some(_) | None => 0,
    }
}

/// Up to which time all packets have been seen, if none is more than [`DISORDER`] packets late.
#[derive(Default)]
struct Order {
    /// Candidates for the smallest time of the last [`DISORDER`] packets: (number, time), both
    /// increasing.
    window: VecDeque<(u64, Ns)>,
    packets: u64,
    promised: Ns,
    /// Packets later than promised.
    late: u64,
}

impl Order {
    #[inline]
    fn note(&mut self, at: Ns) {
        while self.window.back().is_some_and(|(_, other)| *other >= at) {
            self.window.pop_back();
        }
        self.window.push_back((self.packets, at));
        if self.window[0].0 + DISORDER as u64 <= self.packets {
            self.window.pop_front();
        }
        self.packets += 1;
        if self.packets >= DISORDER as u64 {
            self.promised = self.promised.max(self.window[0].1);
        }
        self.late += u64::from(at < self.promised);
    }

    fn complete_to(&self) -> Option<Ns> {
        (self.promised > Ns(0)).then_some(self.promised)
    }
}
