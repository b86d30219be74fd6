//! The rule programs in the kernel against the evaluator: random rules, random packets, every capture of
//! testdata. `BPF_PROG_TEST_RUN` runs the program on a frame and nothing else.
#![allow(missing_docs, unreachable_pub, clippy::similar_names, reason = "tests")]
#![cfg(all(feature = "live", target_os = "linux"))]

#[path = "../netns/mod.rs"]
mod netns;
mod packets;
mod rules;
mod wire;

use std::path::Path;

use psc_bpf::guard::{Guard, GuardOptions, GuardRules, Point};
use psc_formats::event::LinkType;
use psc_formats::guard::{Behaviour, Flow, Keys, WINDOW};
use psc_formats::packet;
use psc_formats::{Batch, Progress};
use psc_replay::guarder::rules::{Asked, By, Evaluator, RuleFile, RuleSet, Told, Way};

/// A generator whose numbers are the same on every machine (xorshift64*).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        (self.number() >> 16) % limit.max(1)
    }

    pub fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize].clone()
    }

    pub fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

fn compile(text: &str) -> RuleSet {
    let file = RuleFile::parse(text, &mut |_| Ok("10.0.0.0/29\n192.0.2.1\nfd00::/64\n".to_owned()))
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
    RuleSet::new(file).expect("compiles")
}

fn behaviours(set: &RuleSet) -> Vec<Behaviour> {
    set.file.rules.iter().map(|rule| rule.behaviour).collect()
}

fn load(set: &RuleSet, behaviours: &[Behaviour]) -> Guard {
    let rules = GuardRules { table: &set.table, behaviours, never: false };
    let options = GuardOptions { enforce: true, test: true, ..GuardOptions::default() };
    Guard::load(&rules, options, None).expect("loads")
}

const POINTS: [Point; 3] = [Point::XdpNative, Point::TcIngress, Point::TcEgress];

/// What the evaluator says about a frame.
fn expected(evaluator: &mut Evaluator, point: Point, frame: &[u8], now: u64) -> Told {
    let len = frame.len() as u32;
    let seen = &frame[..frame.len().min(WINDOW)];
    let headers = packet::decode(LinkType::ETHERNET, seen, len);
    let keys = Keys::of(&headers, len);
    let flow = Flow::of(&headers);
    let way = if point == Point::TcEgress { Way::Egress } else { Way::Ingress };
    evaluator.ask(&Asked { at: now, way, keys: &keys, flow: &flow, len }, None)
}

/// Differences between kernel and evaluator over frames, up to `enough`.
fn differences(
    guard: &mut Guard,
    evaluator: &mut Evaluator,
    point: Point,
    frames: &[Vec<u8>],
    enough: usize,
) -> Vec<String> {
    let mut found = Vec::new();
    let mut now = 1_000_000_000_000;
    for (index, frame) in frames.iter().enumerate() {
        // Bursts and pauses, for what has state.
        now += [0, 1, 1_000_000, 300_000_000, 1_500_000_000][index * 7 % 5];
        // The kernel runs no TC program on an IP header cut short (XDP it does).
        let least = match frame[12..14] {
            [0x08, 0x00] => 34,
            [0x86, 0xdd] => 54,
            _ => 15,
        };
        if point != Point::XdpNative && frame.len() < least {
            continue;
        }
        let told = expected(evaluator, point, frame, now);
        let got = guard.test(point, frame, now).expect("runs");
        let rule = match told.by {
            By::Nothing => None,
            By::Rule(rule) | By::Block(rule) => Some(rule),
        };
        let same = got.discard == told.discard
            && got.rule == rule
            && got.by_block == matches!(told.by, By::Block(_))
            && got.noted == told.noted[..told.noted.len().min(16)]
            && (got.blocks, got.unproven) == (told.blocks, told.unproven);
        if !same {
            found
                .push(format!("{point:?} {frame:02x?}\n  evaluator {told:?}\n  kernel    {got:?}"));
            if found.len() >= enough {
                break;
            }
        }
    }
    found
}

#[test]
fn random_rules_decide_alike_in_the_kernel_and_here() {
    if !netns::live("parity") {
        return;
    }
    let (mut discarded, mut asked) = (0_u64, 0_u64);
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let count = random.of(&[1, 3, 10, 40, 150]);
        let text = rules::random(&mut random, count);
        let set = compile(&text);
        let behaviours = behaviours(&set);
        let mut guard = load(&set, &behaviours);
        let frames: Vec<Vec<u8>> = (0..150).map(|_| packets::random(&mut random)).collect();
        for point in POINTS {
            let mut evaluator = Evaluator::new(set.clone());
            // Some sources have proven themselves, so that blocks begin.
            for last in [3, 9] {
                let flow =
                    Flow { family: 4, src: packets::v4_bytes([10, 0, 0, last]), ..Flow::default() };
                evaluator.prove(&flow);
                guard.prove(&flow).expect("written");
            }
            let found = differences(&mut guard, &mut evaluator, point, &frames, 1);
            assert!(found.is_empty(), "seed {seed}\n{}\n{text}", found.join("\n"));
            // State of one point is none of the next one's.
            guard = load(&set, &behaviours);
        }
        let mut evaluator = Evaluator::new(set);
        asked += frames.len() as u64;
        discarded += frames
            .iter()
            .filter(|frame| expected(&mut evaluator, Point::XdpNative, frame, 0).discard)
            .count() as u64;
    }
    // Rules that hit nothing, or everything, would agree in their sleep.
    assert!(discarded * 20 > asked && discarded * 10 < asked * 9, "{discarded} of {asked}");
}

#[test]
fn every_capture_of_testdata_is_decided_alike() {
    if !netns::live("parity") {
        return;
    }
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let starter = std::fs::read_to_string(top.join("rules/starter.toml")).expect("starter rules");
    let random = rules::random(&mut Random::new(77), 60);
    let mut files = 0;
    let mut frames: Vec<Vec<u8>> = Vec::new();
    for folder in ["testdata/captures", "testdata/recordings"] {
        let mut paths: Vec<_> = std::fs::read_dir(top.join(folder))
            .expect(folder)
            .map(|entry| entry.expect("entry").path())
            .filter(|path| {
                path.extension().is_some_and(|e| ["pcap", "pcapng", "psc"].iter().any(|w| e == *w))
            })
            .collect();
        paths.sort();
        for path in paths {
            files += 1;
            let mut source = psc_formats::open(&path).expect("opens");
            let mut batch = Batch::default();
            let first = frames.len();
            while frames.len() < first + 400 {
                batch.clear();
                let progress = source.fill(&mut batch).expect("reads");
                for event in &batch.events {
                    let Some(at) = event.packet else { continue };
                    let bytes = &batch.bytes[at.offset as usize..][..at.caplen as usize];
                    if at.link == LinkType::ETHERNET && (15..3000).contains(&bytes.len()) {
                        frames.push(bytes.to_vec());
                    }
                }
                if progress == Progress::End {
                    break;
                }
            }
            frames.truncate(first + 400);
        }
    }
    assert!(files > 20 && frames.len() > 500, "{files} files, {} frames", frames.len());
    for text in [&starter, &random] {
        let set = compile(text);
        let behaviours = behaviours(&set);
        for point in POINTS {
            let mut guard = load(&set, &behaviours);
            let mut evaluator = Evaluator::new(set.clone());
            let found = differences(&mut guard, &mut evaluator, point, &frames, 3);
            assert!(found.is_empty(), "{}\n{text}", found.join("\n"));
        }
    }
}

/// The comparison can fail: the kernel is given tables and behaviours that are wrong in one place each,
/// and every one of them is noticed.
#[test]
fn wrong_tables_are_noticed() {
    if !netns::live("parity") {
        return;
    }
    let text = rules::BROAD;
    let set = compile(text);
    let right = behaviours(&set);
    let mut random = Random::new(5);
    let frames: Vec<Vec<u8>> = (0..4000).map(|_| packets::random(&mut random)).collect();
    type Break = fn(&mut RuleSet, &mut Vec<Behaviour>);
    #[rustfmt::skip]
    let mutants: &[(&str, Break)] = &[
        ("an IPv4 edge one higher",        |set, _| { let d = dim(set, psc_formats::guard::Key::IpSrc); set.table.edges32[d.table as usize + 1] += 1 }),
        ("another IPv4 edge",             |set, _| { let d = dim(set, psc_formats::guard::Key::IpSrc); set.table.edges32[d.table as usize] += 2 }),
        ("a hardware address edge",        |set, _| set.table.edges64[0] += 1),
        ("an IPv6 edge, lower half",       |set, _| { let d = dim(set, psc_formats::guard::Key::V6Src); set.table.edges64[d.table as usize + 1] ^= 1 }),
        ("a search one step short",        |set, _| for d in &mut set.table.dims { d.steps = d.steps.saturating_sub(1); }),
        ("packets without a TCP port",     |set, _| { let d = index(set, psc_formats::guard::Key::TcpDstPort); let other = set.table.small[set.table.dims[d].table as usize + 80]; set.table.dims[d].absent = other; }),
        ("one port's vector",              |set, _| { let d = dim(set, psc_formats::guard::Key::TcpDstPort); set.table.small[d.table as usize + 80] = set.table.small[d.table as usize + 81]; }),
        ("a dimension forgotten",          |set, _| { let d = index(set, psc_formats::guard::Key::IpTtl); set.table.dims.remove(d); }),
        ("two rows swapped",               |set, _| set.table.rows.swap(0, 1)),
        ("the order reversed",             |set, _| set.table.rows.reverse()),
        ("the summaries emptied",          |set, _| { let d = set.table.dims[0]; let at = set.table.small.get(d.table as usize).map_or(d.absent, |v| *v) as usize; set.table.vectors[at] = 0; set.table.vectors[d.absent as usize] = 0; }),
        ("drop for pass",                  |_, all| all[0].action = psc_formats::guard::Action::Drop),
        ("a rule for the other way",       |_, all| { all[1].ingress = false; all[1].egress = true; }),
        ("a burst one larger",             |_, all| for b in all { if let Some(rate) = &mut b.rate { rate.burst += 1; } }),
        ("a rate twice as high",           |_, all| for b in all { if let Some(rate) = &mut b.rate { rate.amount *= 2; } }),
        ("a threshold one higher",         |_, all| for b in all { if let Some(distinct) = &mut b.distinct { distinct.over += 1; } }),
        ("state per flow, not together", |_, all| for b in all { if b.distinct.is_some() { b.per = psc_formats::guard::Per::Flow; } }),
    ];
    let mut evaluator = Evaluator::new(set.clone());
    let mut guard = load(&set, &right);
    let found = differences(&mut guard, &mut evaluator, Point::XdpNative, &frames, 1);
    assert!(found.is_empty(), "{}", found.join("\n"));
    let mut missed = Vec::new();
    for (name, break_it) in mutants {
        let (mut wrong, mut wrong_behaviours) = (set.clone(), right.clone());
        break_it(&mut wrong, &mut wrong_behaviours);
        let mut guard = load(&wrong, &wrong_behaviours);
        let mut evaluator = Evaluator::new(set.clone());
        if differences(&mut guard, &mut evaluator, Point::XdpNative, &frames, 1).is_empty() {
            missed.push(*name);
        }
    }
    assert!(missed.is_empty(), "nobody noticed: {missed:?}");
}

fn index(set: &RuleSet, key: psc_formats::guard::Key) -> usize {
    set.table.dims.iter().position(|dim| dim.key == key).expect("in use")
}

fn dim(set: &RuleSet, key: psc_formats::guard::Key) -> psc_formats::guard::Dim {
    set.table.dims[index(set, key)]
}
