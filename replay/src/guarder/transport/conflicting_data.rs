//! Data injection: two segments of one connection with the same sequence number and different bytes.
//!
//! **Sees** the first bytes of the last sixteen data segments of each direction, and a later segment that
//! starts where one of them did with other bytes. A TCP that sends data again sends the same (RFC 9293
//! section 3.8.1). Two such pairs are needed, or one whose parts came with TTLs that differ by two or
//! more.
//!
//! **Silent on** retransmissions, however cut; keep-alives (one byte, any value); Ethernet padding that a
//! broken length makes payload (all zero); and the same ports used again after a new SYN.
//!
//! Damage on the way (a wrong checksum on one of the two) makes a pair as well, but seldom two. Segments cut by the snap length
//! are compared as far as they go.

use std::collections::VecDeque;

use psc_formats::event::DeviceId;
use psc_formats::{FiveTuple, Manifest};

use crate::analyzer::tcp::SYN;
use crate::bounded::Bounded;
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Draft, Seen, counted};
use crate::view::detect::Finding;

const FLOWS: usize = 8_192;
const REMEMBERED: usize = 16;
const PREFIX: usize = 32;

#[derive(Clone, Copy, Debug)]
struct Segment {
    seq: u32,
    stored: u8,
    ttl: u8,
    prefix: [u8; PREFIX],
}

#[derive(Debug, Default)]
struct Flow {
    segments: VecDeque<Segment>,
    conflicts: Seen,
    pairs: u64,
    ttl_differs: Option<(u8, u8)>,
    example: Option<(u32, [u8; 8], [u8; 8])>,
}

#[derive(Debug)]
pub(super) struct ConflictingData {
    flows: Bounded<(DeviceId, FiveTuple), Flow>,
    kept: Vec<((DeviceId, FiveTuple), Flow)>,
}

impl Default for ConflictingData {
    fn default() -> Self {
        Self { flows: Bounded::new(FLOWS), kept: Vec::new() }
    }
}

impl Detector for ConflictingData {
    fn about(&self) -> About {
        About {
            id: "tcp-data-injection",
            sees: "two segments of one connection at one sequence number with different bytes; \
                   silent on retransmissions, keep-alives and ports used again.",
        }
    }

    fn blind(&self, manifest: &Manifest) -> String {
        super::super::detect::needs_payload(manifest)
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let (Some(tcp), Some(tuple)) = (packet.headers.tcp(), packet.headers.tuple()) else {
            return;
        };
        let key = (packet.device, tuple);
        if tcp.flags & SYN != 0 {
            if let Some(flow) = self.flows.get_mut(&key) {
                flow.segments.clear();
            }
            return;
        }
        let payload = packet.payload();
        if payload.len() < 2 {
            return;
        }
        let mut spill = Vec::new();
        let flow = self.flows.entry(key, Flow::default, &mut spill);
        let mut prefix = [0; PREFIX];
        let stored = payload.len().min(PREFIX);
        prefix[..stored].copy_from_slice(&payload[..stored]);
        let ttl = packet.headers.ttl().unwrap_or(0);
        let segment = Segment { seq: tcp.seq, stored: stored as u8, ttl, prefix };
        let before = flow.segments.iter().find(|other| other.seq == tcp.seq);
        if let Some(other) = before {
            let common = usize::from(other.stored).min(stored);
            let padding = |bytes: &[u8; PREFIX]| bytes[..common].iter().all(|byte| *byte == 0);
            let padded = padding(&other.prefix) || padding(&prefix);
            if other.prefix[..common] != prefix[..common] && !padded {
                flow.pairs += 1;
                if other.ttl.abs_diff(ttl) >= 2 {
                    flow.ttl_differs = Some((other.ttl, ttl));
                }
                let head = |bytes: &[u8; PREFIX]| {
                    let mut head = [0; 8];
                    head.copy_from_slice(&bytes[..8]);
                    head
                };
                flow.example.get_or_insert((tcp.seq, head(&other.prefix), head(&prefix)));
                flow.conflicts.add(packet);
            }
        } else {
            if flow.segments.len() == REMEMBERED {
                flow.segments.pop_front();
            }
            flow.segments.push_back(segment);
        }
        self.keep(spill);
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let flows = std::mem::replace(&mut self.flows, Bounded::new(1));
        self.keep(flows.into_oldest_first());
        std::mem::take(&mut self.kept)
            .iter()
            .map(|((_, tuple), flow)| finding(tuple, flow, context))
            .collect()
    }
}

impl ConflictingData {
    fn keep(&mut self, gone: Vec<((DeviceId, FiveTuple), Flow)>) {
        let room = FLOWS.saturating_sub(self.kept.len());
        self.kept.extend(
            gone.into_iter()
                .filter(|(_, flow)| flow.pairs > 1 || flow.ttl_differs.is_some())
                .take(room),
        );
    }
}

fn finding(tuple: &FiveTuple, flow: &Flow, context: &Context<'_>) -> Finding {
    let mut evidence =
        vec![format!("{} carried other bytes than one before it.", counted(flow.pairs, "segment"))];
    if let Some((seq, first, second)) = flow.example {
        evidence.push(format!(
            "At sequence number {seq}: first {}, then {} (hexadecimal).",
            hex(first),
            hex(second)
        ));
    }
    if let Some((first, second)) = flow.ttl_differs {
        evidence.push(format!("They came with TTL {first} and {second}."));
    }
    Draft {
        id: "tcp-data-injection",
        severity: "high",
        doubt: None,
        title: format!("{tuple} carried two versions of the same data."),
        evidence,
        effect: "not observable: which version the host took depends on which came first.".to_owned(),
        advice: "Use TLS; compare both versions (psc trace, the journeys named here) and look for who \
                 answers faster than the server.",
        actors: vec![format!("somebody in the name of {}", tuple.src)],
        targets: vec![tuple.dst.to_string()],
        seen: &flow.conflicts,
        references: &["RFC 9293 section 3.8.1", "MITRE ATT&CK T1557", "MITRE ATT&CK T1565.002", "CAPEC-594"],
    }
    .finding(context)
}

fn hex(bytes: [u8; 8]) -> String {
    format!("{:016x}", u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, ip_with, tcp};

    fn data(seq: u32, ttl: u8, bytes: &[u8]) -> Vec<u8> {
        let segment = tcp((80, 40_000), 0x18, seq, 1, &[], bytes);
        ip_with((A, B), ("10.0.0.2", "10.0.0.1"), 6, (ttl, 0, 0x4000), &segment)
    }

    #[test]
    fn other_bytes_at_one_place_are_found_and_the_same_again_is_not() {
        type Case = (&'static str, Vec<Vec<u8>>, Option<&'static str>);
        let real = data(1, 57, b"HTTP/1.1 200 OK");
        let cases: Vec<Case> = vec![
            ("once", vec![real.clone(), data(1, 57, b"HTTP/1.1 302 Fo")], None),
            ("padding", vec![data(1, 57, &[0; 6]), data(1, 64, b"HTTP/1")], None),
            (
                "twice",
                vec![real.clone(), data(1, 57, b"HTTP/1.1 302 Fo"), data(1, 57, b"HTTP/1.0")],
                Some("high"),
            ),
            ("and another TTL", vec![data(1, 64, b"HTTP/1.1 302 Fo"), real.clone()], Some("high")),
            ("again", vec![real.clone(), real.clone(), data(1, 57, b"HTTP/1.1 200")], None),
            ("a keep-alive", vec![real.clone(), data(1, 57, b"x")], None),
            ("elsewhere", vec![real, data(16, 57, b"other")], None),
        ];
        for (name, frames, confidence) in cases {
            let mut scene = Scene::of(ConflictingData::default());
            for (n, frame) in frames.iter().enumerate() {
                scene.frame(n as u64, frame);
            }
            let found = scene.findings();
            let said = found.first().map(|f| f.confidence.split(':').next().unwrap_or_default());
            assert_eq!(said, confidence, "{name}");
        }
    }
}
