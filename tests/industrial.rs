//! Industrial messages counted by us and by tshark's dissectors, on the same captures: one made here with
//! every protocol, and any folder that `PSC_INDUSTRIAL_CAPTURES` names.
#![allow(missing_docs, reason = "tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use psc_formats::open::open;
use psc_replay::engine::{self, Selection};
use psc_replay::industrial::{Learner, Protocol};

/// (protocol, tshark's field, its display filter, mask of its values, bit that we mark the function with).
type Column = (Protocol, &'static str, &'static str, u64, u16);

const COLUMNS: [Column; 9] = [
    (Protocol::Modbus, "modbus.func_code", "mbtcp", 0x7f, 0),
    (Protocol::Dnp3, "dnp3.al.func", "dnp3.al.func", 0xff, 0),
    (Protocol::S7comm, "s7comm.param.func", "s7comm", 0xff, 0),
    (Protocol::Enip, "enip.command", "enip", 0xffff, 0),
    (Protocol::Enip, "cip.service", "cip", 0x7f, 0x100),
    (Protocol::Iec104, "iec60870_asdu.typeid", "iec60870_asdu", 0xff, 0),
    (Protocol::Iec104, "iec60870_104.utype", "iec60870_104.utype", 0xff, 0x100),
    (Protocol::Bacnet, "bacapp.confirmed_service", "bacapp", 0xff, 0),
    (Protocol::Bacnet, "bacapp.unconfirmed_service", "bacapp", 0xff, 0x100),
];

fn tshark(capture: &Path, column: &Column) -> Option<BTreeMap<u16, u64>> {
    let (_, field, filter, mask, marked) = *column;
    let out = Command::new("tshark")
        .args(["-n", "-r"])
        .arg(capture)
        .args([
            "-Y",
            filter,
            "-T",
            "fields",
            "-E",
            "occurrence=a",
            "-E",
            "aggregator=,",
            "-e",
            field,
        ])
        .output()
        .ok()?;
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let mut counts = BTreeMap::new();
    for value in String::from_utf8_lossy(&out.stdout).split([',', '\n']).filter(|v| !v.is_empty()) {
        let number = match value.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).expect(value),
            None => value.parse().expect(value),
        };
        // tshark leaves out the two bits that mark a U frame.
        let number = if field == "iec60870_104.utype" { number << 2 } else { number };
        *counts.entry((number & mask) as u16 | marked).or_insert(0) += 1;
    }
    Some(counts)
}

fn ours(capture: &Path) -> BTreeMap<(Protocol, u16), u64> {
    let mut learner = Learner::default();
    let mut source = open(capture).expect("capture");
    engine::run(source.as_mut(), &Selection::default(), &mut [&mut learner]).expect("pass");
    learner.counts().clone()
}

/// Compares; returns how many messages both counted.
fn compare(capture: &Path, exact: bool) -> u64 {
    let ours = ours(capture);
    let mut agreed = 0;
    for column in &COLUMNS {
        let Some(theirs) = tshark(capture, column) else { return 0 };
        let (protocol, field, _, _, marked) = *column;
        let mine: BTreeMap<u16, u64> = ours
            .iter()
            .filter(|((p, function), _)| *p == protocol && function & 0x100 == marked)
            .map(|((_, function), n)| (*function, *n))
            .collect();
        if mine == theirs {
            agreed += mine.values().sum::<u64>();
        } else {
            println!("{} {field}: ours {mine:?}, tshark {theirs:?}", capture.display());
            assert!(!exact, "{field} differs");
        }
    }
    agreed
}

/// A classic pcap of Ethernet frames.
struct Capture(Vec<u8>);

impl Capture {
    fn new() -> Self {
        let mut file = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
        file.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0]);
        Self(file)
    }

    fn ip(&mut self, from: u8, to: u8, protocol: u8, segment: &[u8]) {
        let len = (20 + segment.len()) as u16;
        let mut frame = vec![2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 8, 0, 0x45, 0];
        frame.extend(len.to_be_bytes());
        frame.extend([0, 1, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, from, 10, 0, 0, to]);
        frame.extend(segment);
        self.0.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        for _ in 0..2 {
            self.0.extend((frame.len() as u32).to_le_bytes());
        }
        self.0.extend(frame);
    }

    /// One direction of a TCP connection, cut into segments of `size` bytes.
    fn stream(&mut self, client: bool, port: u16, bytes: &[u8], size: usize) {
        let (from, to) = if client { (1, 2) } else { (2, 1) };
        let ports = if client { (40_000, port) } else { (port, 40_000) };
        for (n, part) in bytes.chunks(size).enumerate() {
            let mut segment: Vec<u8> = Vec::new();
            segment.extend(ports.0.to_be_bytes());
            segment.extend(ports.1.to_be_bytes());
            segment.extend((1 + (n * size) as u32).to_be_bytes());
            segment.extend([0, 0, 0, 1, 0x50, 0x18, 0xfa, 0xf0, 0, 0, 0, 0]);
            segment.extend(part);
            self.ip(from, to, 6, &segment);
        }
    }

    fn datagram(&mut self, client: bool, port: u16, bytes: &[u8]) {
        let (from, to) = if client { (1, 2) } else { (2, 1) };
        let mut segment: Vec<u8> = [port.to_be_bytes(), port.to_be_bytes()].concat();
        segment.extend(((8 + bytes.len()) as u16).to_be_bytes());
        segment.extend([0, 0]);
        segment.extend(bytes);
        self.ip(from, to, 17, &segment);
    }
}

fn crc(bytes: &[u8]) -> [u8; 2] {
    let mut crc = 0_u16;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xa6bc } else { crc >> 1 };
        }
    }
    (!crc).to_le_bytes()
}

/// Every protocol, several functions of each, streams cut at odd places.
fn made(folder: &Path) -> PathBuf {
    let mut capture = Capture::new();
    let modbus = |pdu: &[u8]| [&[0, 1, 0, 0, 0, pdu.len() as u8 + 1, 1][..], pdu].concat();
    let asked = [
        modbus(&[3, 0, 0, 0, 2]),
        modbus(&[6, 0, 1, 0, 9]),
        modbus(&[16, 0, 1, 0, 1, 2, 0, 0]),
        modbus(&[3, 0, 9, 0, 2]),
    ];
    capture.stream(true, 502, &asked.concat(), 1000);
    let dnp3 = |user: &[u8]| {
        let mut frame = vec![5, 0x64, 5 + user.len() as u8, 0xc4, 10, 0, 1, 0];
        frame.extend(crc(&frame));
        frame.extend(user);
        frame.extend(crc(user));
        frame
    };
    let restart = [dnp3(&[0xc0, 0xc0, 1, 60, 2, 6]), dnp3(&[0xc1, 0xc1, 13])].concat();
    capture.stream(true, 20_000, &restart, 1000);
    let s7 = |parameters: &[u8]| {
        let mut frame =
            vec![3, 0, 0, (17 + parameters.len()) as u8, 2, 0xf0, 0x80, 0x32, 1, 0, 0, 0, 1];
        frame.extend([0, parameters.len() as u8, 0, 0]);
        frame.extend(parameters);
        frame
    };
    let jobs = [s7(&[0xf0, 0, 0, 1, 0, 1, 1, 0xe0]), s7(&[0x29, 0, 0, 0, 0, 0, 1, b'P'])].concat();
    capture.stream(true, 102, &jobs, 1000);
    let enip = |command: u8, data: &[u8]| {
        let mut frame = vec![command, 0, data.len() as u8, 0, 1, 0, 0, 0];
        frame.resize(24, 0);
        frame.extend(data);
        frame
    };
    let stop = [0, 0, 0, 0, 5, 0, 2, 0, 0, 0, 0, 0, 0xb2, 0, 6, 0, 7, 2, 0x20, 0x64, 0x24, 1];
    let encapsulated = [enip(0x65, &[1, 0, 0, 0]), enip(0x6f, &stop)].concat();
    capture.stream(true, 44_818, &encapsulated, 1000);
    let asdu = |kind: u8| vec![0x68, 14, 0, 0, 0, 0, kind, 1, 6, 0, 3, 0, 1, 0, 0, 1];
    let telecontrol = [vec![0x68, 4, 7, 0, 0, 0], asdu(45), asdu(46)].concat();
    capture.stream(true, 2404, &telecontrol, 1000);
    capture.datagram(
        true,
        47_808,
        &[0x81, 0x0a, 0, 17, 1, 4, 0, 5, 1, 12, 0x0c, 0, 0, 0, 1, 0x19, 0x4d],
    );
    capture.datagram(true, 47_808, &[0x81, 0x0b, 0, 12, 1, 0x20, 0xff, 0xff, 0, 0xff, 0x10, 8]);
    let path = folder.join("industrial.pcap");
    std::fs::write(&path, capture.0).expect("capture");
    path
}

#[test]
fn tshark_counts_the_same_functions() {
    let folder = tempfile::tempdir().expect("folder");
    let path = made(folder.path());
    if Command::new("tshark").arg("--version").output().is_err() {
        println!("SKIPPED (live) industrial: tshark is not installed");
        return;
    }
    let agreed = compare(&path, true);
    assert!(agreed >= 14, "{agreed} messages");
    let Some(more) = std::env::var_os("PSC_INDUSTRIAL_CAPTURES") else { return };
    let mut all = 0;
    for entry in std::fs::read_dir(more).expect("folder") {
        let path = entry.expect("entry").path();
        if path.extension().is_some_and(|ext| ext == "pcap" || ext == "pcapng" || ext == "cap") {
            all += compare(&path, false);
        }
    }
    println!("{all} messages counted alike");
}
