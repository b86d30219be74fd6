//! How small and how fast the archive is, on made-up streams with the entropy of real ones.
//!
//!     cargo run --release -p psc-formats --example archive_speed
//!
//! Prints bytes an event, and events a second on one core: written (columns, zstd, hashes) and
//! decoded (hashes, zstd, columns). Times between events are random in the ranges that recordings
//! of these loads show, since they are most of what cannot be compressed.

use std::error::Error;
use std::time::Instant;

use psc_formats::archive::{FrameKind, Input, Reader, Writer, info};
use psc_formats::event::{DeviceId, LinkType, StackEvidence};
use psc_formats::fact::EndFact;
use psc_formats::{
    Batch, Context, Event, EventKind, EventSource, FiveTuple, Gso, Manifest, Ns, PacketRef,
    ProbeId, Progress, SkbAddr, SockId, Stack, StackId,
};

const EVENTS: usize = 2_000_000;
const REPEATS: usize = 5;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    println!(
        "{:<24} {:>9} {:>12} {:>12} {:>12} {:>11} {:>11}",
        "stream", "events", "B/event", "with packets", "pcap zstd -3", "written M/s", "decoded M/s"
    );
    for (name, make) in STREAMS {
        let batches = make(EVENTS);
        one.install(|| row(name, &batches))?;
    }
    Ok(())
}

type Make = fn(usize) -> Vec<Batch>;

const STREAMS: [(&str, Make); 3] =
    [("UDP flood, 2 CPUs", flood), ("TCP bulk, 2 CPUs", bulk), ("requests, 500 flows", requests)];

fn row(name: &str, batches: &[Batch]) -> Result<(), Failure> {
    let events: usize = batches.iter().map(|batch| batch.events.len()).sum();
    let write = || -> std::io::Result<Vec<u8>> {
        let mut writer = Writer::new(Vec::new(), &Manifest::default())?;
        for batch in batches {
            writer.append(batch)?;
        }
        writer.finish(EndFact::default())
    };
    let (archive, written) = best(events, write)?;
    let (seen, decoded) = best(events, || {
        let mut reader = Reader::from_bytes(archive.clone(), "made")?;
        let (mut batch, mut seen) = (Batch::default(), 0);
        loop {
            batch.clear();
            let progress = reader.fill(&mut batch)?;
            seen += batch.events.len();
            if progress == Progress::End {
                return Ok::<_, psc_formats::SourceError>(seen);
            }
        }
    })?;
    assert_eq!(seen, events);
    let said = info(Input::bytes(archive, "made"))?;
    let per_event = said.bytes_per_event(&[FrameKind::Events]).unwrap_or(0.0);
    let with_packets =
        said.bytes_per_event(&[FrameKind::Events, FrameKind::Packets]).unwrap_or(0.0);
    println!(
        "{name:<24} {events:>9} {per_event:>12.2} {with_packets:>12.2} {:>12.2} {written:>11.1} {decoded:>11.1}",
        pcap_size(batches)? as f64 / events as f64,
    );
    println!(
        "{:<24} packet frames {} B, the same packets as pcap at zstd -3 {} B",
        "",
        said.count(FrameKind::Packets).stored,
        pcap_size(batches)?
    );
    Ok(())
}

/// The result, and million events a second of the fastest run.
#[allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn best<T, E>(events: usize, mut work: impl FnMut() -> Result<T, E>) -> Result<(T, f64), E> {
    let mut most = 0.0f64;
    let mut out = work()?;
    for _ in 0..REPEATS {
        let before = Instant::now();
        out = work()?;
        most = most.max(events as f64 / before.elapsed().as_secs_f64() / 1e6);
    }
    Ok((out, most))
}

/// Bytes of the same packets as a pcap file compressed with `zstd -3`.
fn pcap_size(batches: &[Batch]) -> std::io::Result<usize> {
    let mut pcap = vec![0; 24];
    for batch in batches {
        for event in &batch.events {
            let Some(packet) = event.packet else { continue };
            let (seconds, nanos) = (event.at.0 / 1_000_000_000, event.at.0 % 1_000_000_000);
            for word in [seconds as u32, nanos as u32, packet.caplen, packet.len] {
                pcap.extend_from_slice(&word.to_le_bytes());
            }
            pcap.extend_from_slice(batch.packet(packet));
        }
    }
    Ok(zstd::bulk::compress(&pcap, 3)?.len())
}

/// A small generator of numbers that look random: the streams must be the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Times between events are skewed: mostly near the least, sometimes far above.
    fn time(&mut self, least: u64, spread: u64) -> u64 {
        let a = self.roll() % spread;
        let b = self.roll() % spread;
        least + a.min(b)
    }
}

/// Two CPUs' streams in the making, put into one in the order of time as a ring buffer does.
struct Stage {
    dice: Dice,
    batch: Batch,
    batches: Vec<Batch>,
    now: [u64; 2],
    seq: [u64; 2],
    total: usize,
}

impl Stage {
    fn new(seed: u64) -> Self {
        Self {
            dice: Dice(seed),
            batch: Batch::default(),
            batches: Vec::new(),
            now: [1_000_000_000_000, 1_000_000_000_300],
            seq: [0, 0],
            total: 0,
        }
    }

    fn event(&mut self, cpu: usize, mut event: Event, packet: Option<&[u8]>) {
        event.at = Ns(self.now[cpu]);
        event.cpu = cpu as u16;
        event.seq = self.seq[cpu];
        self.seq[cpu] += 1;
        event.packet = packet.map(|bytes| {
            let offset = self.batch.bytes.len() as u32;
            let caplen = bytes.len().min(128);
            self.batch.bytes.extend_from_slice(&bytes[..caplen]);
            let link = LinkType::ETHERNET;
            PacketRef { offset, caplen: caplen as u32, len: bytes.len() as u32, link }
        });
        self.batch.events.push(event);
        self.total += 1;
        if self.batch.events.len() >= 4096 {
            let mut batch = std::mem::take(&mut self.batch);
            batch.events.sort_by_key(|event| event.at);
            self.batches.push(batch);
        }
    }

    fn finish(mut self) -> Vec<Batch> {
        self.batch.events.sort_by_key(|event| event.at);
        self.batches.push(self.batch);
        self.batches
    }
}

fn blank(probe: u16, kind: EventKind) -> Event {
    Event {
        at: Ns(0),
        cpu: 0,
        seq: 0,
        probe: ProbeId(probe),
        skb: SkbAddr(0),
        sock: SockId(0),
        device: DeviceId(0),
        iif: 0,
        len: 0,
        gso: Gso::default(),
        stack: Stack { id: StackId(u32::from(probe) + 1), evidence: StackEvidence::Inferred },
        context: Context::Softirq,
        packet: None,
        content: 0,
        kind,
    }
}

/// Ethernet, IPv4 and a transport header with its own numbers, then payload.
fn packet(protocol: u8, flow: u16, id: u16, sequence: u32, len: usize) -> Vec<u8> {
    let mut out = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
    out.extend((len as u16 - 14).to_be_bytes());
    out.extend(id.to_be_bytes());
    out.extend([0x40, 0, 64, protocol]);
    let sum = u32::from(id).wrapping_mul(0x9e37) as u16;
    out.extend(sum.to_be_bytes());
    out.extend([10, 0, 0, 1, 10, 0, (flow >> 8) as u8, flow as u8]);
    out.extend(flow.wrapping_add(32768).to_be_bytes());
    out.extend(443u16.to_be_bytes());
    if protocol == 6 {
        out.extend(sequence.to_be_bytes());
        out.extend(sequence.wrapping_mul(3).to_be_bytes());
        out.extend([0x80, 0x10, 1, 245]);
        out.extend(sum.rotate_left(5).to_be_bytes());
        out.extend([0, 0, 1, 1, 8, 10]);
        out.extend((sequence / 40_000).to_be_bytes());
        out.extend((sequence / 41_000).to_be_bytes());
    } else {
        out.extend((len as u16 - 34).to_be_bytes());
        out.extend(sum.rotate_left(3).to_be_bytes());
    }
    out.resize(len, 0x61);
    out
}

/// Small UDP packets over veth: sent on CPU 0, where the softirq takes them up in bursts; CPU 1
/// does the same for a second sender. Seven events a packet.
fn flood(events: usize) -> Vec<Batch> {
    let mut stage = Stage::new(1);
    let mut id = 0u16;
    let mut reused = [(1..=256).collect::<Vec<u32>>(), (257..=512).collect::<Vec<u32>>()];
    while stage.total < events {
        for (cpu, reused) in reused.iter_mut().enumerate() {
            let burst = 1 + (stage.dice.roll() % 64) as usize;
            let mut sent = Vec::with_capacity(burst);
            for _ in 0..burst {
                let skb = reused.pop().unwrap_or(600);
                id = id.wrapping_add(1);
                let content = stage.dice.roll() as u32;
                sent.push((skb, content));
                let bytes = packet(17, cpu as u16, id, 0, 106);
                let base = Event {
                    skb: SkbAddr(skb),
                    sock: SockId(1 + cpu as u32),
                    device: DeviceId(1),
                    len: 106,
                    content,
                    context: Context::Task(4000 + cpu as u32),
                    ..blank(0, EventKind::DeviceQueue {})
                };
                stage.now[cpu] += stage.dice.time(500, 400);
                stage.event(cpu, base, Some(&bytes));
                stage.now[cpu] += stage.dice.time(120, 80);
                stage.event(
                    cpu,
                    Event { probe: ProbeId(1), kind: EventKind::TransmitStart {}, ..base },
                    None,
                );
                stage.now[cpu] += stage.dice.time(150, 90);
                let queued = Event { probe: ProbeId(2), device: DeviceId(2), len: 92, ..base };
                stage.event(cpu, Event { kind: EventKind::BacklogQueue {}, ..queued }, None);
                stage.now[cpu] += stage.dice.time(100, 70);
                let done =
                    Event { probe: ProbeId(3), kind: EventKind::TransmitDone { rc: 0 }, ..base };
                stage.event(cpu, done, None);
            }
            for (skb, content) in sent {
                let base = Event {
                    skb: SkbAddr(skb),
                    device: DeviceId(2),
                    iif: 3,
                    len: 92,
                    content,
                    ..blank(4, EventKind::Receive {})
                };
                stage.now[cpu] += stage.dice.time(180, 120);
                stage.event(cpu, base, None);
                stage.now[cpu] += stage.dice.time(400, 200);
                let sock = SockId(7);
                let ready = Event {
                    probe: ProbeId(5),
                    sock,
                    len: 64,
                    kind: EventKind::DataReady {},
                    ..base
                };
                stage.event(cpu, ready, None);
                stage.now[cpu] += stage.dice.time(90, 60);
                let location = psc_formats::event::SymbolId(12);
                let kind = EventKind::Consume { location };
                stage.event(cpu, Event { probe: ProbeId(6), sock, len: 64, kind, ..base }, None);
                reused.push(skb);
            }
        }
    }
    stage.finish()
}

/// One TCP connection at full speed: big segmented skbs on CPU 0, acknowledgements on CPU 1.
fn bulk(events: usize) -> Vec<Batch> {
    let mut stage = Stage::new(2);
    let (mut sequence, mut skb) = (1u32, 0u32);
    let tuple = FiveTuple {
        protocol: 6,
        src: [10, 0, 0, 1].into(),
        sport: 50000,
        dst: [10, 0, 0, 2].into(),
        dport: 443,
    };
    while stage.total < events {
        skb = skb % 900 + 1;
        let segs = if stage.dice.roll().is_multiple_of(8) {
            (stage.dice.roll() % 44 + 2) as u16
        } else {
            45
        };
        let len = u32::from(segs) * 1448 + 66;
        let gso = Gso { size: 1448, segs, kind: 1 };
        let content = stage.dice.roll() as u32;
        sequence = sequence.wrapping_add(len);
        let bytes = packet(6, 1, skb as u16, sequence, 128);
        let data = Event {
            skb: SkbAddr(skb),
            sock: SockId(1),
            device: DeviceId(1),
            len,
            gso,
            content,
            ..blank(0, EventKind::DeviceQueue {})
        };
        let cpu = 0;
        stage.now[cpu] += stage.dice.time(2000, 20_000);
        stage.event(cpu, data, Some(&bytes));
        for (probe, kind) in [
            (1, EventKind::QdiscEnqueue { handle: 0x8001_0000 }),
            (2, EventKind::QdiscDequeue { handle: 0x8001_0000, packets: 1 }),
            (3, EventKind::TransmitStart {}),
            (4, EventKind::TransmitDone { rc: 0 }),
        ] {
            stage.now[cpu] += stage.dice.time(120, 150);
            stage.event(cpu, Event { probe: ProbeId(probe), kind, ..data }, None);
        }
        let ack = Event {
            skb: SkbAddr(1000 + skb),
            sock: SockId(0),
            device: DeviceId(1),
            iif: 2,
            len: 52,
            content: stage.dice.roll() as u32,
            ..blank(5, EventKind::GroReceive {})
        };
        let bytes = packet(6, 1, skb as u16, sequence.wrapping_mul(7), 66);
        let cpu = 1;
        stage.now[cpu] = stage.now[cpu].max(stage.now[0]) + stage.dice.time(300, 2500);
        stage.event(cpu, ack, Some(&bytes));
        stage.now[cpu] += stage.dice.time(200, 200);
        stage.event(cpu, Event { probe: ProbeId(6), kind: EventKind::Receive {}, ..ack }, None);
        stage.now[cpu] += stage.dice.time(400, 300);
        let kind = EventKind::TcpProbe {
            tuple,
            cwnd: 300 + (sequence >> 24),
            ssthresh: 0x7fff_ffff,
            srtt_us: 40 + (stage.dice.roll() % 16) as u32,
            rwnd: 3_000_000 + (stage.dice.roll() % 64) as u32 * 1024,
        };
        stage.event(cpu, Event { probe: ProbeId(7), sock: SockId(1), len: 32, kind, ..ack }, None);
        stage.now[cpu] += stage.dice.time(200, 200);
        let location = psc_formats::event::SymbolId(3);
        let kind = EventKind::Consume { location };
        stage.event(cpu, Event { probe: ProbeId(8), sock: SockId(1), len: 32, kind, ..ack }, None);
    }
    stage.finish()
}

/// Short requests on many connections, spread over both CPUs.
fn requests(events: usize) -> Vec<Batch> {
    let mut stage = Stage::new(3);
    let mut skb = 0u32;
    let mut sequences = vec![1u32; 500];
    while stage.total < events {
        let cpu = (stage.dice.roll() % 2) as usize;
        let flow = (stage.dice.roll() % 500) as usize;
        skb = skb % 3000 + 1;
        let len = 200 + (stage.dice.roll() % 300) as u32;
        sequences[flow] = sequences[flow].wrapping_add(len);
        let bytes = packet(6, flow as u16, skb as u16, sequences[flow], len as usize);
        let base = Event {
            skb: SkbAddr(skb),
            device: DeviceId(1),
            iif: 2,
            len: len - 14,
            content: stage.dice.roll() as u32,
            ..blank(0, EventKind::GroReceive {})
        };
        let sock = SockId(1 + flow as u32);
        stage.now[cpu] += stage.dice.time(3000, 60_000);
        stage.event(cpu, base, Some(&bytes));
        stage.now[cpu] += stage.dice.time(200, 300);
        stage.event(cpu, Event { probe: ProbeId(1), kind: EventKind::Receive {}, ..base }, None);
        stage.now[cpu] += stage.dice.time(800, 700);
        let ready = Event { sock, len: len - 66, probe: ProbeId(2), ..base };
        stage.event(cpu, Event { kind: EventKind::DataReady {}, ..ready }, None);
        stage.now[cpu] += stage.dice.time(2000, 9000);
        let user = Event {
            context: Context::Task(900 + cpu as u32),
            sock,
            ..blank(3, EventKind::DataReady {})
        };
        let kind = EventKind::SockReceive { rc: (len - 66) as i32 };
        stage.event(cpu, Event { kind, ..user }, None);
        stage.now[cpu] += stage.dice.time(5000, 9000);
        let kind = EventKind::SockSend { rc: 800 };
        stage.event(cpu, Event { probe: ProbeId(4), kind, ..user }, None);
    }
    stage.finish()
}
