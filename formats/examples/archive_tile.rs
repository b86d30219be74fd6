//! A long recording made of a short one, for measuring what size costs.
//!
//!     cargo run --release -p psc-formats --example archive_tile -- demo.psc 92 long.psc
//!
//! The recording is written so many times, one after the other in time. Ephemeral ports and sequence
//! numbers of packets differ each time, so that flows are new; everything else (stacks, symbols, delays,
//! drops) is as recorded, which made-up streams never are.

use std::error::Error;
use std::path::PathBuf;

use psc_formats::archive::{Reader, Writer};
use psc_formats::event::LinkType;
use psc_formats::fact::{EndFact, Fact};
use psc_formats::packet::{Transport, decode};
use psc_formats::{Batch, Event, EventSource, Ns, Progress};

type Failure = Box<dyn Error + Send + Sync>;

/// Ports from here on are a client's.
const EPHEMERAL: u16 = 32_768;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [from, times, to] = args.as_slice() else {
        return Err("archive_tile RECORDING TIMES OUTPUT".into());
    };
    let (from, to, times) = (PathBuf::from(from), PathBuf::from(to), times.parse::<u64>()?);
    let (mut batches, mut first, mut last) = (Vec::new(), u64::MAX, 0);
    let mut seqs: Vec<u64> = Vec::new();
    let mut reader = Reader::open(&from)?;
    let manifest = reader.manifest().clone();
    loop {
        let mut batch = Batch::default();
        let progress = reader.fill(&mut batch)?;
        for event in &batch.events {
            (first, last) = (first.min(event.at.0), last.max(event.at.0));
            let cpu = usize::from(event.cpu);
            seqs.resize(seqs.len().max(cpu + 1), 0);
            seqs[cpu] = seqs[cpu].max(event.seq + 1);
        }
        batches.push(batch);
        if progress == Progress::End {
            break;
        }
    }
    let length = last.saturating_sub(first) + 1_000_000;
    let mut writer = Writer::create(&to, &manifest)?;
    for time in 0..times {
        for batch in &batches {
            let mut tile = batch.clone();
            if time > 0 {
                // What was true at the end still is; the counters of one recording do not add up to many.
                tile.facts.clear();
            }
            tile.facts.retain(|fact| !matches!(fact, Fact::End(_) | Fact::Counters(_)));
            tile.complete_to = batch.complete_to.map(|at| Ns(at.0 + time * length));
            for event in &mut tile.events {
                event.at = Ns(event.at.0 + time * length);
                event.seq += time * seqs[usize::from(event.cpu)];
                renew(event, &mut tile.bytes, time);
            }
            writer.append(&tile)?;
        }
    }
    writer.finish(EndFact { at: last + (times - 1) * length, ..EndFact::default() })?;
    Ok(())
}

/// Another client port and other sequence numbers for this time.
fn renew(event: &mut Event, bytes: &mut [u8], time: u64) {
    if event.content != 0 {
        event.content = (event.content ^ (time as u32).wrapping_mul(0x9e37_79b9)).max(1);
    }
    let Some(packet) = event.packet else { return };
    let (from, len) = (packet.offset as usize, packet.caplen as usize);
    let stored = &mut bytes[from..from + len];
    if packet.link != LinkType::ETHERNET && packet.link != LinkType::RAW {
        return;
    }
    let headers = decode(packet.link, stored, packet.len);
    let transport = usize::from(headers.transport_offset);
    let ports = matches!(headers.transport, Transport::Tcp(_) | Transport::Udp(_));
    if !ports || transport + 12 > len {
        return;
    }
    for at in [transport, transport + 2] {
        let port = u16::from_be_bytes([stored[at], stored[at + 1]]);
        if port >= EPHEMERAL {
            let moved = EPHEMERAL
                + (port - EPHEMERAL).wrapping_add((time as u16).wrapping_mul(331)) % EPHEMERAL;
            stored[at..at + 2].copy_from_slice(&moved.to_be_bytes());
        }
    }
    if matches!(headers.transport, Transport::Tcp(_)) {
        for at in [transport + 4, transport + 8] {
            let number: [u8; 4] = [stored[at], stored[at + 1], stored[at + 2], stored[at + 3]];
            let moved = u32::from_be_bytes(number).wrapping_add((time as u32) << 20);
            stored[at..at + 4].copy_from_slice(&moved.to_be_bytes());
        }
    }
}
