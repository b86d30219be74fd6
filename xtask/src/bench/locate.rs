//! What locating costs beside reading, and how long a map of ten thousand peers takes.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use psc_formats::open::open;
use psc_replay::engine::{self, Observer, Selection};
use psc_replay::locator::{Here, Locator, Options};
use psc_reports::svg;

use super::stats::median;

const PACKETS: u32 = 1_000_000;
const PEERS: u32 = 10_000;
/// Runs of each, taken in turns.
const REPEATS: usize = 5;

/// A table; `folder` takes the capture.
pub(super) fn measure(folder: &Path) -> Result<String> {
    let capture = folder.join("million.pcap");
    make(&capture).with_context(|| format!("cannot write {}", capture.display()))?;
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let [mut reading, mut locating, mut placing, mut drawing] = [const { Vec::new() }; 4];
    let mut bytes = 0;
    for _ in 0..REPEATS {
        reading.push(one.install(|| pass(&capture, &mut []))?.0);
        let mut locator = Locator::new(options()?);
        let (seconds, manifest, passed) =
            one.install(|| pass(&capture, &mut [&mut locator as &mut dyn Observer]))?;
        let began = Instant::now();
        let view = locator.finish(&manifest, &passed);
        placing.push(began.elapsed().as_secs_f64());
        locating.push(seconds);
        let began = Instant::now();
        let mut map = String::new();
        svg::map(&view, &mut map)?;
        drawing.push(began.elapsed().as_secs_f64());
        bytes = map.len();
    }
    let [read, located, placed, drawn] = [reading, locating, placing, drawing].map(|s| median(&s));
    let mut text = format!(
        "## Locating\n\nA capture of {PACKETS} packets to and from {PEERS} peers, one core, median of \
         {REPEATS}. Following is what flows cost while reading; placing comes after: countries, distances, \
         rows.\n\n| reading | reading and following | placing | following, share of reading | placing, share of \
         reading | map of {PEERS} peers |\n|---|---|---|---|---|---|\n"
    );
    writeln!(
        text,
        "| {read:.3} s | {located:.3} s | {placed:.3} s | {:.1} % | {:.1} % | {:.1} ms, {} kB |",
        (located - read) / read * 100.0,
        placed / read * 100.0,
        drawn * 1e3,
        bytes / 1000
    )?;
    Ok(text)
}

fn options() -> Result<Options> {
    let here = Here::parse("DE").map_err(|error| anyhow::anyhow!(error))?;
    Ok(Options { peers: PEERS as usize + 1, here: Some(here), ..Options::default() })
}

fn pass(
    capture: &Path,
    observers: &mut [&mut dyn Observer],
) -> Result<(f64, psc_formats::Manifest, engine::Pass)> {
    let began = Instant::now();
    let mut source = open(capture)?;
    let manifest = source.manifest().clone();
    let passed = engine::run(source.as_mut(), &Selection::default(), observers)?;
    Ok((began.elapsed().as_secs_f64(), manifest, passed))
}

/// TCP conversations of one server with peers all over the address space: a handshake, then data both ways.
fn make(path: &Path) -> std::io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 101] {
        out.write_all(&word.to_le_bytes())?;
    }
    for n in 0..PACKETS {
        // Bursts of eight to one peer, as traffic comes.
        let burst = n / 8;
        let peer = burst.wrapping_mul(7_919) % PEERS;
        let address = 0x0b00_0000_u32.wrapping_add(peer.wrapping_mul(377_579));
        let server = 0x0a00_0001_u32;
        let step = n % 8;
        let (flags, payload, outward) = match step {
            0 => (0x02, 0, false),
            1 => (0x12, 0, true),
            3 | 5 => (0x18, 400, false),
            4 | 6 => (0x18, 1_200, true),
            _ => (0x10, 0, false),
        };
        let (src, dst) = if outward { (server, address) } else { (address, server) };
        let port = 20_000 + (burst / PEERS % 40_000) as u16;
        let (sport, dport) = if outward { (443, port) } else { (port, 443) };
        let seq = 1_000 + step * 2_000;
        let mut ip = vec![0x45, 0];
        ip.extend((40 + payload as u16).to_be_bytes());
        ip.extend((n as u16).to_be_bytes());
        ip.extend([0x40, 0, if outward { 64 } else { 40 + (peer % 20) as u8 }, 6, 0, 0]);
        ip.extend(src.to_be_bytes());
        ip.extend(dst.to_be_bytes());
        ip.extend(sport.to_be_bytes());
        ip.extend(dport.to_be_bytes());
        ip.extend(u32::to_be_bytes(seq));
        ip.extend(u32::to_be_bytes(if step == 1 { 1_001 } else { seq.wrapping_sub(999) }));
        ip.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        let at = u64::from(n) * 20;
        let caught = ip.len() as u32;
        for word in [(at / 1_000_000) as u32, (at % 1_000_000) as u32, caught, caught + payload] {
            out.write_all(&word.to_le_bytes())?;
        }
        out.write_all(&ip)?;
    }
    out.flush()
}
