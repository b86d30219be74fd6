//! Hostile input on stable Rust: the fuzz targets in this process, with a mutator of our own that does the same
//! in every run. Without coverage it finds less than libFuzzer does for its time, and needs no nightly.
//!
//! A bounded number of inputs here; `cargo xtask fuzz --stable` goes on for as long as it is told to.

#![expect(clippy::disallowed_methods, reason = "how long it ran is part of what it says")]

#[path = "../fuzz/targets.rs"]
mod targets;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use targets::TARGETS;

/// Inputs for each target in the bounded run.
const INPUTS: u32 = 1_500;
/// The most memory that one input of some KiB may take at once: an archive may ask for a frame of 64 MiB, and a
/// reader, with its threads, for a few of them.
const MOST_MEMORY: usize = 512 << 20;
/// Longest input made.
const LONGEST: usize = 64 << 10;

/// Counts what is allocated, for all targets run here.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator as it came; only numbers are kept beside.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(now, Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 16) as usize % bound.max(1)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(root().join(folder))
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    found.sort();
    found
}

/// Rules of every kind.
const RULES: [&str; 3] = [
    "never-block = [\"10.0.0.1\"]\n[[rule]]\nid = \"a\"\nmatch = 'tcp.flags & 0x17 == 2 and ip.src == 10.0.0.0/8'\n\
     distinct = { field = \"tcp.dstport\", over = 5, within = \"2s\" }\naction = \"drop\"\nblock-for = \"1m\"\nper = \"pair\"\n",
    "[[rule]]\nid = \"b\"\nsources = \"list.txt\"\nmatch = 'not (udp.dstport in {53 67..68}) or ipv6.src != fd00::/64'\n\
     action = \"limit\"\nrate = \"1kB/s\"\nburst = \"2 kB\"\nper = \"source\"\ndirection = \"both\"\nunproven = true\n",
    "[[rule]]\nid = \"c\"\nfinding = \"port-scan\"\naction = \"drop\"\nblock-for = \"10m\"\n\
     [[rule]]\nid = \"d\"\nmatch = 'modbus.func_code in {5 6} and journey.latency > 1ms'\naction = \"alert\"\nnote = \"n\"\n",
];

/// What servers of models send: a document, events, the words themselves.
const ANSWERS: [&str; 4] = [
    r#"{"choices":[{"message":{"content":"{\"sentences\":[{\"text\":\"98 of 100 failed.\",\"cites\":[\"F1\",\"F1.e1\"]}]}"}}]}"#,
    "data: {\"choices\":[{\"delta\":{\"content\":\"{}\"}}]}\n\n: keep-alive\ndata: [DONE]\n",
    r#"{"sentences":[{"text":"It tried 98 ports of host-2.","cites":["F1"]},{"text":"See http://x/","cites":["F1","F9"]}]}"#,
    "```json\n{\"sentences\":[{\"text\":\"Nothing \u{202e} was lost.\",\"cites\":[\"R\"]}]}\n```",
];

/// Well-formed input for a target, to be broken.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let read = |paths: Vec<PathBuf>| -> Vec<Vec<u8>> {
        let small = paths.into_iter().filter_map(|path| fs::read(path).ok());
        small.filter(|bytes| bytes.len() <= LONGEST).collect()
    };
    match target {
        "archive" => [read(files("testdata/archives")), read(files("testdata/recordings"))].concat(),
        "capture" => read(files("testdata/captures")),
        "packet" => {
            let packets = captured().into_iter().map(|packet| [&[1, 0, 0][..], &packet].concat());
            packets.collect()
        }
        "replay" => {
            let packets = captured();
            let groups = packets.chunks(8).map(|group| {
                let framed = group.iter().map(|packet| {
                    [&(packet.len() as u16).to_le_bytes()[..], packet].concat()
                });
                framed.collect::<Vec<_>>().concat()
            });
            groups.collect()
        }
        "expression" => [
            "ip.src == 10.0.0.0/8 and tcp.flags.syn == 1 and not tcp.flags.ack == 1",
            "drop.reason in {\"NO_SOCKET\" \"TCP_CSUM\"} or journey.latency > 1.5ms",
            "eth.src == 02:00:00:00:00:01 && ip.ttl <= 0x40 || ipv6.dst == fe80::/10",
            "tcp.payload contains \"GET /\" xor (udp)",
        ]
        .map(|text| text.as_bytes().to_vec())
        .to_vec(),
        "statements" => vec![
            b"[[expect]]\nname = \"a\"\nnever = 'drop.reason'\n[[expect]]\np99 = \"<1ms\"\nwhere = 'tcp'\n".to_vec(),
            b"p99<+10%\ndrops<=base\nnew_drops==0\np50<=1.5us\n".to_vec(),
            format!("psc checkpoint 1\nrecording {0}\nframe 7\nhash {0}{0}\nat 12\nstate open\n", "ab".repeat(16))
                .into_bytes(),
            b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n".to_vec(),
        ],
        "rules" => [
            read(vec![root().join("rules/starter.toml")]),
            RULES.map(|text| text.as_bytes().to_vec()).to_vec(),
        ]
        .concat(),
        "answer" => ANSWERS.map(|text| text.as_bytes().to_vec()).to_vec(),
        other => panic!("no seeds for {other}"),
    }
}

/// Packets of the captures in testdata, Ethernet only.
fn captured() -> Vec<Vec<u8>> {
    use psc_formats::event::LinkType;
    use psc_formats::{Batch, EventSource, Progress};
    let mut packets = Vec::new();
    for path in files("testdata/captures") {
        let Ok(mut source) = psc_formats::open(&path) else { continue };
        let mut batch = Batch::default();
        loop {
            batch.clear();
            let Ok(progress) = source.fill(&mut batch) else { break };
            for event in &batch.events {
                if let Some(packet) =
                    event.packet.filter(|packet| packet.link == LinkType::ETHERNET)
                {
                    packets.push(batch.packet(packet).to_vec());
                }
            }
            if progress == Progress::End {
                break;
            }
        }
    }
    packets.truncate(400);
    packets
}

/// Breaks an input, a few times over.
fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut out = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(5) {
        let at = random.below(out.len());
        let len = 1 + random.below(16);
        let end = (at + len).min(out.len());
        match random.below(9) {
            0 if !out.is_empty() => out[at] ^= 1 << random.below(8),
            1 if !out.is_empty() => out[at] = random.next() as u8,
            // Numbers at the edge of every width.
            2 => {
                let edges = [
                    0,
                    1,
                    0x7f,
                    0x80,
                    0xff,
                    0x7fff,
                    0xffff,
                    0x7fff_ffff,
                    u64::from(u32::MAX),
                    u64::MAX,
                ];
                let bytes = edges[random.below(edges.len())].to_le_bytes();
                let width = [1, 2, 4, 8][random.below(4)];
                for (slot, byte) in out[at..].iter_mut().zip(&bytes[..width]) {
                    *slot = *byte;
                }
            }
            3 => out.truncate(at),
            4 => drop(out.drain(at..end)),
            5 => {
                let piece = out[at..end].to_vec();
                out.splice(at..at, piece);
            }
            6 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                let piece = other[from..(from + len * 8).min(other.len())].to_vec();
                out.splice(at..at, piece);
            }
            7 => {
                let other = random.below(out.len());
                if at < out.len() && other < out.len() {
                    out.swap(at, other);
                }
            }
            _ => out.extend((0..len).map(|_| random.next() as u8)),
        }
        out.truncate(LONGEST);
    }
    out
}

/// Runs one input; what went wrong.
fn run(name: &str, target: fn(&[u8]), input: &[u8]) -> Option<String> {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        return Some(format!("{name} panicked: {}", text.unwrap_or_default()));
    }
    let taken = PEAK.load(Relaxed).saturating_sub(before);
    (taken > MOST_MEMORY).then(|| format!("{name} took {taken} bytes for {}", input.len()))
}

/// `TARGET-what-it-was`, of one target.
fn regressions(name: &str) -> Vec<PathBuf> {
    let mut found = files("fuzz/regressions");
    found.retain(|path| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        file.starts_with(&format!("{name}-"))
    });
    found
}

/// Where libFuzzer begins: `cargo xtask fuzz` names a folder in `PSC_FUZZ_CORPUS`.
#[test]
fn the_seeds_are_written() {
    let spare = tempfile::tempdir().expect("temporary folder");
    let corpus = std::env::var_os("PSC_FUZZ_CORPUS").map(PathBuf::from);
    let corpus = corpus.as_deref().unwrap_or(spare.path());
    for (name, _) in TARGETS {
        let folder = corpus.join(name);
        fs::create_dir_all(&folder).expect("a folder");
        let kept = regressions(name).into_iter().map(|path| fs::read(path).expect("readable"));
        for seed in seeds(name).into_iter().chain(kept) {
            let hash = blake3::hash(&seed).to_hex();
            fs::write(folder.join(format!("seed-{}", &hash[..16])), seed).expect("writable");
        }
        assert!(fs::read_dir(&folder).expect("a folder").next().is_some(), "{name} has no seeds");
    }
}

#[test]
fn hostile_input_neither_panics_nor_takes_memory_without_bound() {
    let seconds: Option<u64> =
        std::env::var("PSC_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let only = std::env::var("PSC_FUZZ_TARGET").unwrap_or_default();
    // Another seed looks elsewhere; the default looks at the same in every run.
    let seed = std::env::var("PSC_FUZZ_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut wrong = BTreeMap::new();
    println!(
        "{:<12} {:>10} {:>8} {:>12} {:>10}",
        "target", "inputs", "failed", "most memory", "seconds"
    );
    for (name, target) in TARGETS {
        if !only.is_empty() && only != name {
            continue;
        }
        let (mut inputs, mut failed, mut peak) = (0u32, 0, 0);
        let started = Instant::now();
        let mut feed = |input: &[u8]| {
            inputs += 1;
            if let Some(what) = run(name, target, input) {
                failed += 1;
                wrong.entry(what).or_insert_with(|| input.to_vec());
            }
            peak = peak.max(PEAK.load(Relaxed).saturating_sub(NOW.load(Relaxed)));
        };
        for path in regressions(name) {
            feed(&fs::read(&path).expect("readable"));
        }
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} has no seeds");
        for seed in &seeds {
            feed(seed);
        }
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed);
        let mut left = INPUTS;
        loop {
            match seconds {
                Some(seconds) if started.elapsed() >= Duration::from_secs(seconds) => break,
                None if left == 0 => break,
                _ => left = left.saturating_sub(1),
            }
            feed(&mutate(&mut random, &seeds));
        }
        println!(
            "{name:<12} {inputs:>10} {failed:>8} {:>8} KiB {:>10.1}",
            peak >> 10,
            started.elapsed().as_secs_f64()
        );
    }
    for (what, input) in &wrong {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let hash = blake3::hash(input).to_hex();
        let path =
            folder.join(format!("{}-{}", what.split(' ').next().unwrap_or("x"), &hash[..12]));
        fs::write(&path, input).expect("writable");
        println!("{what}\n  input kept in {}", path.display());
    }
    assert!(wrong.is_empty(), "{} kinds of failure, above", wrong.len());
}
