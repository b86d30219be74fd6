//! Redaction: a recording without what identifies people and machines, in which everything else is
//! as it was.
//!
//! Addresses are mapped so that prefixes stay shared (ipcrypt, the prefix-preserving mode of
//! `draft-denis-ipcrypt`), link-layer addresses and names one to one, under a key that is not in the
//! recording; payload is emptied. Lengths, times, order and everything that verdicts, journeys and
//! statistics are made from stay.

mod checksum;
mod dns;
mod facts;
mod mapping;
mod neighbours;
mod packet;
mod ranges;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::{Batch, EventKind, Fact, FiveTuple, Manifest};

use mapping::Mapping;
use packet::Rewriter;

/// How to redact.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The first three bytes of link-layer addresses, which name the vendor, stay.
    pub keep_vendor: bool,
    /// Payloads that stay, or their first bytes.
    pub payloads: Payloads,
}

/// Payloads that stay: by protocol and port.
#[derive(Clone, Debug, Default)]
pub struct Payloads(pub Vec<KeptPayload>);

/// A payload that stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptPayload {
    /// IP protocol number: 6 or 17.
    pub protocol: u8,
    /// Port at either end.
    pub port: u16,
    /// How many bytes of it from the start; `None` is all.
    pub bytes: Option<u32>,
}

impl Payloads {
    /// Bytes to keep of a payload between these ports; `None` when it is not one to be kept.
    fn kept(&self, protocol: u8, ports: (u16, u16)) -> Option<usize> {
        let row = self
            .0
            .iter()
            .find(|row| row.protocol == protocol && (row.port == ports.0 || row.port == ports.1))?;
        Some(row.bytes.map_or(usize::MAX, |bytes| bytes as usize))
    }
}

/// What was replaced and removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Packets rewritten.
    pub packets: u64,
    /// Addresses replaced, in packets, events and facts.
    pub addresses: u64,
    /// Link-layer addresses replaced.
    pub macs: u64,
    /// Labels of DNS names and texts replaced.
    pub dns_labels: u64,
    /// Names of hosts, namespaces, processes, users and groups replaced; DHCP options emptied.
    pub names: u64,
    /// Bytes emptied: payload, padding, options.
    pub payload_bytes: u64,
    /// Payload bytes emptied by transport protocol and lower port.
    pub by_protocol: BTreeMap<(&'static str, u16), u64>,
    /// Payloads kept because that was asked for.
    pub payloads_kept: u64,
    /// Checksums corrected.
    pub checksums: u64,
    /// Facts that were left out: signatures of the recording that it was, of which none is right any
    /// more.
    pub signatures: u64,
}

/// Redacts a recording, batch by batch.
pub struct Redactor {
    mapping: Mapping,
    rewriter: Rewriter,
    options: Options,
    /// What was done so far.
    pub changes: Changes,
}

impl Redactor {
    /// A redactor with this key: the same key gives the same mapping, in any recording.
    pub fn new(key: &[u8; 32], options: Options) -> Self {
        Self {
            mapping: Mapping::new(key, options.keep_vendor),
            rewriter: Rewriter::default(),
            options,
            changes: Changes::default(),
        }
    }

    /// Redacts the manifest.
    #[must_use]
    pub fn manifest(&mut self, manifest: &Manifest) -> Manifest {
        facts::manifest(manifest, &mut self.mapping, &mut self.changes)
    }

    /// Redacts a batch in place.
    pub fn batch(&mut self, batch: &mut Batch) {
        let mut kept = Vec::with_capacity(batch.facts.len());
        for mut fact in batch.facts.drain(..) {
            if facts::fact(&mut fact, &mut self.mapping, &mut self.changes) {
                kept.push(fact);
            }
        }
        batch.facts = kept;
        for event in &mut batch.events {
            event.content = self.mapping.fingerprint(event.content);
            event.kind = self.kind(event.kind);
            if let Some(packet) = event.packet {
                let start = packet.offset as usize;
                let end = start.saturating_add(packet.caplen as usize);
                if let Some(bytes) = batch.bytes.get_mut(start..end) {
                    self.rewriter.rewrite(
                        packet.link,
                        bytes,
                        packet.len,
                        &mut self.mapping,
                        &self.options.payloads,
                        &mut self.changes,
                    );
                }
            }
        }
    }

    /// The address that stands for another.
    pub fn address(&mut self, address: IpAddr) -> IpAddr {
        self.mapping.address(address)
    }

    /// A text with every address and link-layer address in it replaced.
    pub fn text(&mut self, text: &str) -> String {
        facts::text(text, &mut self.mapping, &mut self.changes)
    }

    /// The name that stands for another of its kind: `host`, `process`, `namespace`...
    pub fn name(&self, kind: &str, name: &str) -> String {
        self.mapping.name(kind, name)
    }

    /// An event's own addresses: those of its 5-tuple, and link-layer addresses.
    fn kind(&mut self, kind: EventKind) -> EventKind {
        let mut mac = |mac: u64| {
            self.changes.macs += 1;
            let mut octets = [0; 6];
            octets.copy_from_slice(&mac.to_be_bytes()[2..]);
            let mapped = self.mapping.mac(octets);
            mapped.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte))
        };
        let kind = match kind {
            EventKind::Neighbour { address, mac: link, old, new } => {
                EventKind::Neighbour { address, mac: mac(link), old, new }
            }
            EventKind::BridgeLearn { mac: link, vlan } => {
                EventKind::BridgeLearn { mac: mac(link), vlan }
            }
            other => other,
        };
        if !EventKind::leads_with_tuple(kind.tag()) {
            return kind;
        }
        let mut args = Vec::new();
        kind.write_args(&mut args);
        let mut words = [0; 5];
        words.copy_from_slice(&args[..5]);
        let Some(tuple) = FiveTuple::from_words(words) else { return kind };
        let tuple = FiveTuple {
            src: self.mapping.address(tuple.src),
            dst: self.mapping.address(tuple.dst),
            ..tuple
        };
        self.changes.addresses += 2;
        args[..5].copy_from_slice(&tuple.to_words());
        EventKind::from_args(kind.tag(), &args).unwrap_or(kind)
    }
}

/// Whether a fact may stay: see [`Redactor::batch`].
pub(crate) type Stays = bool;

/// Facts that are about nobody.
fn is_about_nobody(fact: &Fact) -> bool {
    matches!(
        fact,
        Fact::Symbol(_)
            | Fact::Stack(_)
            | Fact::Loss(_)
            | Fact::Probe(_)
            | Fact::Clock(_)
            | Fact::Sampling(_)
    )
}
