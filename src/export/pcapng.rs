//! `--to pcapng`: each packet once, in time order, and again where its headers changed, with what
//! became of it as a comment.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};

use anyhow::Context;
use psc_formats::event::{DeviceId, LinkType};
use psc_formats::manifest::Origin;
use psc_formats::open::open;
use psc_formats::packet::summary;
use psc_formats::pcap::{Direction, Interface, InterfaceId, Packet, Section, Writer};
use psc_formats::{Event, EventKind, Manifest};
use psc_replay::engine::{JourneyId, Observer, Pass, Sighting, World};
use psc_reports::units::counted;

use super::endings::Endings;
use crate::Verdict;
use crate::cli::ExportArgs;
use crate::output::{Console, NewFile};
use crate::source::{Replayed, hold, replay};

pub(super) fn run(args: &ExportArgs, console: Console) -> anyhow::Result<Verdict> {
    let held = hold(&args.input)?;
    let path = held.as_ref().map_or(args.input.as_path(), tempfile::NamedTempFile::path);
    let output = NewFile::create(&args.output, args.force)?;
    let manifest = open(path)?.manifest().clone();
    // Of a capture nothing is known but its packets.
    let mut endings = Endings::default();
    let mut completeness = String::new();
    if manifest.origin != Origin::Capture {
        let told = replay(path, &args.select, console, &mut [&mut endings])?;
        completeness = told.pass.provenance.completeness.line;
    }
    let failed = || format!("cannot write {}; is there space?", args.output.display());
    let writer = Writer::new(BufWriter::new(output), &section(&manifest, completeness))
        .with_context(failed)?;
    let mut export = Export {
        writer,
        endings: &endings,
        interfaces: BTreeMap::new(),
        written: Vec::new(),
        packets: 0,
        clones: 0,
        last: 0,
        failed: None,
    };
    let Replayed { pass, .. } = replay(path, &args.select, console, &mut [&mut export])?;
    let (packets, clones) = (export.packets, export.clones);
    let output = export.finish(&pass).with_context(failed)?.into_inner();
    output.map_err(io::IntoInnerError::into_error).with_context(failed)?.keep()?;
    console.note(&format!("{}: {}", args.output.display(), counted(packets, "packet", "packets")));
    if clones > 0 {
        let clones = counted(clones, "listener's clone", "listeners' clones");
        console.note(&format!("{clones} left out: the same packets, handed to a packet socket"));
    }
    Ok(Verdict::Clean)
}

fn section(manifest: &Manifest, completeness: String) -> Section {
    let host = &manifest.host;
    let os = if host.kernel.is_empty() { String::new() } else { format!("Linux {}", host.kernel) };
    let application = format!("psc {}", env!("CARGO_PKG_VERSION"));
    Section { hardware: host.arch.clone(), os, application, comment: completeness }
}

struct Export<'a, W: Write> {
    writer: Writer<W>,
    endings: &'a Endings,
    /// Interfaces described so far. A device whose packets start at two layers is two interfaces:
    /// pcapng ties the link type to the interface.
    interfaces: BTreeMap<(DeviceId, u16), InterfaceId>,
    /// Journeys with a packet written, one bit each.
    written: Vec<u64>,
    packets: u64,
    /// Packets left out because a listener's clone carried them.
    clones: u64,
    /// Time of the last packet, nanoseconds since the Unix epoch.
    last: u64,
    failed: Option<io::Error>,
}

impl<W: Write> Observer for Export<'_, W> {
    fn sighting(&mut self, world: World<'_>, sighting: &Sighting<'_>) {
        if self.failed.is_none()
            && let Err(error) = self.packet(world, sighting)
        {
            self.failed = Some(error);
        }
    }
}

impl<W: Write> Export<'_, W> {
    fn packet(&mut self, world: World<'_>, sighting: &Sighting<'_>) -> io::Result<()> {
        let event = sighting.event;
        let Some(packet) = event.packet else { return Ok(()) };
        let mut comment = String::new();
        if let Some(id) = sighting.journey {
            if self.endings.is_clone(id) {
                self.clones += 1;
                return Ok(());
            }
            comment = self.endings.comment(id);
            if self.seen_before(id) {
                let now = sighting.headers.map(summary).unwrap_or_default();
                let probe = world.manifest.probe_name(event.probe);
                comment = format!("journey {} again, changed by {probe}: {now}", id.0);
            }
        }
        let interface = self.interface(world, event.device, packet.link)?;
        let epoch_ns = u64::try_from(world.manifest.epoch_ns(event.at).max(0)).unwrap_or(u64::MAX);
        self.last = self.last.max(epoch_ns);
        self.packets += 1;
        self.writer.packet(&Packet {
            interface,
            epoch_ns,
            direction: direction(event),
            bytes: sighting.bytes,
            len: packet.len,
            comment: &comment,
        })
    }

    /// Whether a packet of this journey was written; it is from now on.
    fn seen_before(&mut self, id: JourneyId) -> bool {
        let (word, bit) = ((id.0 / 64) as usize, 1_u64 << (id.0 % 64));
        if self.written.len() <= word {
            self.written.resize(word + 1, 0);
        }
        let before = self.written[word] & bit != 0;
        self.written[word] |= bit;
        before
    }

    fn interface(
        &mut self,
        world: World<'_>,
        device: DeviceId,
        link: LinkType,
    ) -> io::Result<InterfaceId> {
        if let Some(id) = self.interfaces.get(&(device, link.0)) {
            return Ok(*id);
        }
        let snaplen = world.manifest.snaplen;
        let interface = match world.tables.devices.get(&device) {
            None => Interface { name: "no device".to_owned(), snaplen, ..Interface::default() },
            Some(fact) => Interface {
                name: fact.name.clone(),
                description: match (fact.netns, fact.netns_name.as_str()) {
                    (0, _) => fact.kind.clone(),
                    (inode, "") => format!("netns {inode}"),
                    (_, name) => format!("netns {name}"),
                },
                mac: mac(&fact.mac),
                snaplen,
            },
        };
        let id = self.writer.interface(&interface, link)?;
        self.interfaces.insert((device, link.0), id);
        Ok(id)
    }

    /// What was lost, and the output.
    fn finish(mut self, pass: &Pass) -> io::Result<W> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let loss = pass.tables.loss.as_ref();
        // pcapng counts loss by interface; neither recorder nor capture knows it that finely.
        if let (Some(loss), Some(first)) = (loss, self.interfaces.values().next()) {
            let (dropped, what) = match loss.capture_dropped {
                Some(dropped) => (dropped, "packets dropped by the capturing program"),
                None => (loss.ring_full.iter().sum(), "events lost by the recorder"),
            };
            let comment = format!("{what}, on all interfaces together");
            self.writer.statistics(*first, self.last, dropped, &comment)?;
        }
        self.writer.finish()
    }
}

fn direction(event: &Event) -> Direction {
    match event.kind {
        EventKind::Captured { direction } => Direction::from_captured(direction),
        EventKind::GroReceive {} | EventKind::BacklogQueue {} | EventKind::Receive {} => {
            Direction::Inbound
        }
        EventKind::DeviceQueue {}
        | EventKind::QdiscEnqueue { .. }
        | EventKind::QdiscDequeue { .. }
        | EventKind::TransmitStart {}
        | EventKind::TransmitDone { .. } => Direction::Outbound,
        // Elsewhere in the stack a packet is on neither side of a device.
        _ => Direction::Unknown,
    }
}

/// `02:00:00:00:00:01` as bytes.
fn mac(text: &str) -> Option<[u8; 6]> {
    let mut octets = text.split(':').map(|octet| u8::from_str_radix(octet, 16).ok());
    let mut mac = [0; 6];
    for slot in &mut mac {
        *slot = octets.next()??;
    }
    octets.next().is_none().then_some(mac)
}
