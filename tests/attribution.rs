//! Every event whose packet can be known belongs to the right journey.
//!
//! Each packet carries its own number: a datagram in its payload, a segment in its sequence number. The recording takes bytes at every event
//! (`--bytes every`), so the number is known at each event that has bytes, independently of how
//! journeys are made; replay must put exactly the events of one number together.
#![cfg(all(target_os = "linux", feature = "live"))]

mod netns;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;

use netns::recording::Recording;
use netns::{Pair, live};
use psc_formats::packet::Transport;
use psc_formats::{EventKind, SkbAddr};
use psc_replay::engine::{JourneyId, Observer, Selection, Sighting, World, run};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Starts each payload, so that other packets are told apart.
const MAGIC: u64 = 0x7073_6373_6571_0000;
/// Bytes of each datagram's payload.
const PAYLOAD: usize = 24;

/// What carried a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    /// The nth datagram.
    Datagram(u64),
    /// The segment of this connection whose payload starts at this sequence number.
    Segment { port: u16, seq: u32 },
}

/// Reads each event's number and checks the journeys against it.
#[derive(Default)]
struct Check {
    label_of: BTreeMap<JourneyId, Label>,
    journeys_of: BTreeMap<Label, BTreeSet<JourneyId>>,
    /// Unfinished transmissions per CPU: `TransmitDone` must join the journey of its start.
    sending: BTreeMap<u16, Vec<(SkbAddr, Option<JourneyId>)>>,
    labelled: u64,
    transmits: u64,
    /// Per read from a socket, in order, the number of the datagram that psc says was read.
    reads: Vec<Option<Label>>,
    wrong: Vec<String>,
}

impl Check {
    fn wrong(&mut self, text: String) {
        self.wrong.push(text);
    }
}

impl Observer for Check {
    fn sighting(&mut self, _: World<'_>, sighting: &Sighting<'_>) {
        let event = sighting.event;
        match event.kind {
            EventKind::TransmitStart {} => {
                self.sending.entry(event.cpu).or_default().push((event.skb, sighting.journey));
            }
            EventKind::TransmitDone { .. } => {
                let stack = self.sending.entry(event.cpu).or_default();
                if let Some(at) = stack.iter().rposition(|(skb, _)| *skb == event.skb) {
                    let (_, started) = stack.remove(at);
                    self.transmits += 1;
                    if started != sighting.journey {
                        self.wrong(format!(
                            "{:?}: transmit done joins {:?}, started in {started:?}",
                            event.at, sighting.journey
                        ));
                    }
                }
            }
            EventKind::SockReceive { rc } if rc == PAYLOAD as i32 => {
                let label = sighting.journey.and_then(|id| self.label_of.get(&id).copied());
                self.reads.push(label);
            }
            _ => {}
        }
        let Some(label) = label(sighting) else { return };
        self.labelled += 1;
        let Some(journey) = sighting.journey else {
            return self.wrong(format!("{label:?} at {:?} has no journey", event.at));
        };
        let known = *self.label_of.entry(journey).or_insert(label);
        if known != label {
            self.wrong(format!(
                "{journey:?} has {known:?} and, at {:?} {}, {label:?}",
                event.at,
                event.kind.name()
            ));
        }
        self.journeys_of.entry(label).or_default().insert(journey);
    }
}

fn label(sighting: &Sighting<'_>) -> Option<Label> {
    if !sighting.fresh {
        return None;
    }
    let headers = sighting.headers?;
    match headers.transport {
        Transport::Udp(_) => {
            let payload = sighting.bytes.get(headers.payload_offset as usize..)?;
            let word =
                |at: usize| Some(u64::from_be_bytes(payload.get(at..at + 8)?.try_into().ok()?));
            (word(0)? == MAGIC).then_some(Label::Datagram(word(8)?))
        }
        // A segment's number is the sequence number that its sender gave it.
        Transport::Tcp(tcp) if tcp.dport == 5000 && headers.payload_len > 0 => {
            Some(Label::Segment { port: tcp.sport, seq: tcp.seq })
        }
        _ => None,
    }
}

fn check(path: &Path) -> (Check, psc_replay::view::Provenance) {
    let mut source = psc_formats::archive::Reader::open(path).expect("archive");
    let mut check = Check::default();
    let pass = run(&mut source, &Selection::default(), &mut [&mut check]).expect("replay");
    let first: Vec<_> = check.wrong.iter().take(10).collect();
    assert!(check.wrong.is_empty(), "{} wrong, first: {first:#?}", check.wrong.len());
    (check, pass.provenance)
}

fn record(pair: &Pair, path: &Path, work: impl FnOnce()) {
    #[rustfmt::skip]
    let args = ["--netns", &pair.server.name, "--netns", &pair.client.name, "--bytes", "every", "--ring-mib", "64"];
    // Neighbours first: resolving one consumes a clone of the packet that waits for it.
    pair.client.sh(&["ping", "-c1", "-q", "10.77.0.2"]);
    let recording = Recording::start(path, &args);
    work();
    let (ok, said) = recording.stop();
    assert!(ok, "{said}");
}

#[test]
fn thousands_of_interleaved_flows_each_keep_their_packets() {
    const PACKETS: u64 = 20_000;
    const SOCKETS: usize = 2_000;
    if !live("attribution of datagrams") {
        return;
    }
    let pair = Pair::new();
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("udp.psc");
    // One reader that reads, one port that nobody has: delivered and dropped packets alike.
    let reader = pair.server.run(|| UdpSocket::bind((SERVER, 5000)).expect("bind"));
    let reading = reader.try_clone().expect("clone");
    reading.set_read_timeout(Some(std::time::Duration::from_millis(500))).expect("timeout");
    let mut read = Vec::new();
    record(&pair, &path, || {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut buffer = [0; 2048];
                while reading.recv(&mut buffer).is_ok() {
                    let number = u64::from_be_bytes(buffer[8..16].try_into().expect("a number"));
                    read.push(Label::Datagram(number));
                }
            });
            // Two senders, so that both CPUs interleave.
            for half in 0..2 {
                let client = &pair.client;
                scope.spawn(move || {
                    client.run(|| {
                        let sockets: Vec<_> = (0..SOCKETS / 2)
                            .map(|_| UdpSocket::bind("10.77.0.1:0").expect("bind"))
                            .collect();
                        for n in (half..PACKETS).step_by(2) {
                            let mut payload = [0; PAYLOAD];
                            payload[..8].copy_from_slice(&MAGIC.to_be_bytes());
                            payload[8..16].copy_from_slice(&n.to_be_bytes());
                            let port = if n % 10 < 2 { 5001 } else { 5000 };
                            let socket = &sockets[n as usize / 2 % sockets.len()];
                            // A refusal that came back for the last datagram is told here: go on.
                            let _ = socket.send_to(&payload, (SERVER, port));
                        }
                    });
                });
            }
        });
    });
    let (check, provenance) = check(&path);
    let split: Vec<_> =
        check.journeys_of.iter().filter(|(_, journeys)| journeys.len() > 1).take(5).collect();
    println!(
        "datagrams {}, labelled events {}, transmits {}; {}",
        check.journeys_of.len(),
        check.labelled,
        check.transmits,
        provenance.completeness.line
    );
    // A refused send_to sends nothing, so a few numbers may be absent; none may be split.
    assert!(check.journeys_of.len() as u64 > PACKETS * 8 / 10, "{}", check.journeys_of.len());
    assert!(check.labelled > 2 * PACKETS, "bytes at several events of each packet");
    assert!(split.is_empty(), "split between journeys: {split:?}");
    // Kernels that count a read tell who read which datagram: all of them, in the reader's own order.
    if check.reads.is_empty() {
        return println!("this kernel has no sock_recv_length");
    }
    let unknown = check.reads.iter().filter(|label| label.is_none()).count();
    println!("reads {}, of them of no known datagram {unknown}", check.reads.len());
    assert_eq!(check.reads.len(), read.len(), "each read is an event");
    let differ = |(told, read): (&Option<Label>, &Label)| told.is_some_and(|told| told != *read);
    let differing = check.reads.iter().zip(&read).filter(|&pair| differ(pair)).count();
    assert_eq!(differing, 0, "reads said to be of another datagram");
    // Where both CPUs queue at once, which read was whose is not told.
    assert!(unknown * 2 <= read.len(), "{unknown} of {} reads unknown", read.len());
}

#[test]
fn bulk_segments_keep_their_journeys_though_their_frees_are_unseen() {
    const BYTES: usize = 16 << 20;
    if !live("attribution of segments") {
        return;
    }
    let pair = Pair::new();
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("tcp.psc");
    let listener = pair.server.run(|| TcpListener::bind((SERVER, 5000)).expect("bind"));
    record(&pair, &path, || {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..4 {
                    let (mut stream, _) = listener.accept().expect("accept");
                    scope.spawn(move || {
                        let mut sink = vec![0; 1 << 16];
                        while stream.read(&mut sink).is_ok_and(|n| n > 0) {}
                    });
                }
            });
            for _ in 0..4 {
                let client = &pair.client;
                scope.spawn(move || {
                    let mut stream =
                        client.run(|| TcpStream::connect((SERVER, 5000)).expect("connect"));
                    let block = vec![7; 1 << 16];
                    for _ in 0..BYTES / block.len() {
                        stream.write_all(&block).expect("write");
                    }
                });
            }
        });
    });
    let (check, provenance) = check(&path);
    println!(
        "segments {}, labelled events {}, transmits {}; {}",
        check.journeys_of.len(),
        check.labelled,
        check.transmits,
        provenance.completeness.line
    );
    assert!(check.journeys_of.len() > 4 * BYTES / 65536, "{}", check.journeys_of.len());
    assert!(check.labelled as usize > 2 * check.journeys_of.len());
}
