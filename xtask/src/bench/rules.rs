//! Nanoseconds per packet of the rule program at XDP: no rules to ten thousand, and address lists up to a
//! million, beside an empty program, in one run.
//!
//! `BPF_PROG_TEST_RUN` measures inside the kernel. *Same packet* repeats each of a few frames, as most
//! benchmarks do: everything it touches stays in cache. *Each another* runs frames with random addresses
//! and ports once each, which includes starting the clock: compare with the empty program of that column.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use psc_bpf::guard::{Guard, GuardOptions, GuardRules, Point};
use psc_replay::guarder::rules::{RuleFile, RuleSet};

use super::stats::median;

const ROUNDS: usize = 9;
/// Frames of each kind of run.
const HOT: usize = 16;
const REPEAT: u32 = 20_000;
const COLD: usize = 20_000;

/// xorshift64*: the same rules and packets everywhere.
struct Random(u64);

impl Random {
    fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.number() as usize % all.len()]
    }
}

/// A rule set and what the table calls it.
struct Subject {
    name: String,
    guard: Guard,
    table_bytes: u64,
}

/// A table of all of them.
pub(super) fn measure() -> Result<String> {
    let mut random = Random(0x5eed);
    let mut subjects = Vec::new();
    for count in [0, 1, 10, 100, 1000, 10_000] {
        let text = five_field_rules(&mut random, count);
        subjects.push(subject(format!("{count} rules of five fields"), &text, "")?);
    }
    let listed = "[[rule]]\nid = \"list\"\nsources = \"list\"\naction = \"drop\"\n";
    for count in [1000, 1_000_000] {
        let list = addresses(&mut random, count);
        subjects.push(subject(format!("block list of {count} addresses"), listed, &list)?);
    }
    for count in [1000, 10_000, 1_000_000] {
        let list = prefixes(&mut random, count);
        subjects.push(subject(format!("block list of {count} prefixes"), listed, &list)?);
    }
    let hot: Vec<Vec<u8>> = (0..HOT).map(|_| frame(&mut random)).collect();
    let cold: Vec<Vec<u8>> = (0..COLD).map(|_| frame(&mut random)).collect();

    // (hot, cold) of the empty program, then of each subject, by round.
    let mut figures: Vec<(Vec<f64>, Vec<f64>)> = vec![(Vec::new(), Vec::new()); subjects.len() + 1];
    for round in 0..ROUNDS {
        for turn in 0..figures.len() {
            let which = (round + turn) % figures.len();
            let (guard, point) = match which {
                0 => (&mut subjects[0].guard, None),
                which => (&mut subjects[which - 1].guard, Some(Point::XdpNative)),
            };
            let mut sum = 0.0;
            for frame in &hot {
                sum += guard.rate(point, frame, REPEAT)? as f64;
            }
            figures[which].0.push(sum / HOT as f64);
            let mut singles = Vec::with_capacity(COLD / ROUNDS);
            for frame in cold.iter().skip(round).step_by(ROUNDS) {
                singles.push(guard.rate(point, frame, 1)? as f64);
            }
            figures[which].1.push(median(&singles));
        }
    }
    let mut text = format!(
        "## Rules at XDP, ns per packet\n\nMedian of {ROUNDS} interleaved rounds (least to most). A \
         rule has source and destination prefix, a port, a TTL and a length; packets hit few of them.\n\n\
         | rules | same packet | each another | tables |\n|---|---|---|---|\n"
    );
    let names = std::iter::once(("an empty program".to_owned(), None))
        .chain(subjects.iter().map(|s| (s.name.clone(), Some(s.table_bytes))));
    for ((name, bytes), (hot, cold)) in names.zip(&figures) {
        let bytes = bytes.map_or("–".to_owned(), |bytes| format!("{:.1} MB", bytes as f64 / 1e6));
        writeln!(text, "| {name} | {} | {} | {bytes} |", range(hot), range(cold))?;
    }
    Ok(text)
}

fn range(figures: &[f64]) -> String {
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let most = figures.iter().copied().fold(0.0, f64::max);
    format!("{:.0} ({least:.0}–{most:.0})", median(figures))
}

fn subject(name: String, text: &str, list: &str) -> Result<Subject> {
    let file = RuleFile::parse(text, &mut |_| Ok(list.to_owned()))?;
    let set = RuleSet::new(file)?;
    let behaviours: Vec<_> = set.file.rules.iter().map(|rule| rule.behaviour).collect();
    let rules = GuardRules { table: &set.table, behaviours: &behaviours, never: false };
    let options = GuardOptions { enforce: true, ..GuardOptions::default() };
    let guard = Guard::load(&rules, options, None).with_context(|| name.clone())?;
    Ok(Subject { name, guard, table_bytes: set.table.bytes() })
}

/// Rules as a firewall has them: every one asks about five fields.
fn five_field_rules(random: &mut Random, count: usize) -> String {
    let mut text = String::new();
    for number in 0..count {
        let (src, dst) = (random.number() as u32, random.number() as u32);
        let bits = random.of(&[16, 20, 24, 28, 32]);
        let port = random.number() % 65_536;
        let ttl = random.of(&[16, 32, 64, 128]);
        let _ = writeln!(
            text,
            "[[rule]]\nid = \"r{number}\"\nmatch = \"ip.src == {}/{bits} and ip.dst == {}/24 and {}.dstport == {port} \
             and ip.ttl < {ttl} and ip.len < 1000\"\naction = \"drop\"",
            std::net::Ipv4Addr::from(src),
            std::net::Ipv4Addr::from(dst),
            random.of(&["tcp", "udp"]),
        );
    }
    text
}

fn addresses(random: &mut Random, count: usize) -> String {
    let mut text = String::new();
    for _ in 0..count {
        let _ = writeln!(text, "{}", std::net::Ipv4Addr::from(random.number() as u32));
    }
    text
}

fn prefixes(random: &mut Random, count: usize) -> String {
    let mut text = String::new();
    for _ in 0..count {
        let bits = random.of(&[20, 22, 24, 24, 24, 28, 30]);
        let _ = writeln!(text, "{}/{bits}", std::net::Ipv4Addr::from(random.number() as u32));
    }
    text
}

/// A TCP or UDP frame of 64 bytes from and to anybody.
fn frame(random: &mut Random) -> Vec<u8> {
    let mut out = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 50, 0, 1, 0x40, 0];
    out.extend([random.of(&[12, 60, 63, 120]), random.of(&[6, 17]), 0, 0]);
    out.extend((random.number() as u32).to_be_bytes());
    out.extend((random.number() as u32).to_be_bytes());
    out.extend((random.number() as u16).to_be_bytes());
    out.extend((random.number() as u16).to_be_bytes());
    out.extend([0, 30, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 0xfa, 0xf0, 0, 0, 0, 0]);
    out.resize(64, 0);
    out
}
