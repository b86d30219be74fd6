//! Wire records to events: the only decoder of what crosses from the kernel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use psc_formats::event::{DeviceId, EventKind, LinkType};
use psc_formats::fact::{Fact, NoticeFact, Severity, SocketFact, TaskFact};
use psc_formats::{
    Batch, Context, Event, FiveTuple, Gso, Ns, PacketRef, ProbeId, SkbAddr, SockId, Stack,
};
use rustc_hash::FxHashMap;

use crate::attach::{PROBES, Shape};
use crate::facts::Devices;
use crate::facts::tasks;
use crate::ids::{self, Dense};
use crate::stacks::Stacks;
use crate::wire::{self, Head, Record, StackRecord, TaskRecord, Tuple, context, kind, payload};

/// A socket met before: ports tell when its address has been given to another.
struct KnownSock {
    id: u32,
    sport: u16,
    dport: u16,
}

/// Turns records into events, keeping the ids that stand for addresses.
pub(crate) struct Decoder {
    pub(crate) stacks: Stacks,
    pub(crate) devices: Devices,
    skbs: Dense<u64>,
    socks: FxHashMap<u64, KnownSock>,
    last_sock: u32,
    /// Full sequence of each CPU; records carry the low half.
    sequences: Vec<u64>,
    /// Records that made no sense; never expected.
    pub(crate) malformed: u64,
    bytes: bool,
}

impl Decoder {
    pub(crate) fn new(stacks: Stacks, devices: Devices, cpus: usize, bytes: bool) -> Self {
        Self {
            stacks,
            devices,
            skbs: Dense::new(ids::LIMIT),
            socks: FxHashMap::default(),
            last_sock: 0,
            sequences: vec![0; cpus],
            malformed: 0,
            bytes,
        }
    }

    /// Decodes one record of `cpu` into `batch`.
    pub(crate) fn decode(&mut self, cpu: usize, bytes: &[u8], batch: &mut Batch) {
        let done = match wire::read::<Head>(bytes).map(|head| head.kind) {
            Some(kind::EVENT | kind::SOCK_SEEN | kind::REPEATED) => self.event(cpu, bytes, batch),
            Some(kind::STACK) => wire::read::<StackRecord>(bytes)
                .map(|record| self.stacks.take(cpu, &record, &mut batch.facts)),
            Some(kind::TASK) => wire::read::<TaskRecord>(bytes)
                .map(|record| batch.facts.push(Fact::Task(task(&record)))),
            _ => None,
        };
        if done.is_none() {
            self.malformed += 1;
        }
        if std::mem::take(&mut self.skbs.forgotten) > 0 {
            batch.facts.push(Fact::Notice(NoticeFact {
                severity: Severity::Info,
                text: "the table of skb addresses was full and was emptied: packets under way then continue under new ids"
                    .to_owned(),
                count: 1,
                ..NoticeFact::default()
            }));
        }
    }

    fn event(&mut self, cpu: usize, bytes: &[u8], batch: &mut Batch) -> Option<()> {
        let record: Record = wire::read(bytes)?;
        let spec = PROBES.get(usize::from(record.head.probe))?;
        let rest = &bytes[size_of::<Record>()..];
        let tuple = match record.head.payload {
            payload::TUPLE => Some(wire::read::<Tuple>(rest)?),
            _ => None,
        };
        let sock = self.sock(&record, tuple.as_ref());
        let kind = match record.head.kind {
            kind::SOCK_SEEN => {
                let tuple = tuple?;
                batch.facts.push(Fact::Socket(socket_fact(sock, &record, &tuple)));
                EventKind::SockSeen { tuple: five_tuple(&tuple), state: tuple.state }
            }
            _ => self.kind(spec.shape, &record, tuple.as_ref(), &mut batch.facts)?,
        };
        if let (EventKind::SockState { .. }, Some(tuple)) = (&kind, &tuple) {
            batch.facts.push(Fact::Socket(socket_fact(sock, &record, tuple)));
        }
        let packet = (record.head.payload == payload::BYTES && self.bytes && record.caplen > 0)
            .then(|| {
                let stored = rest.get(..record.caplen as usize)?;
                let offset = u32::try_from(batch.bytes.len()).ok()?;
                batch.bytes.extend_from_slice(stored);
                Some(PacketRef {
                    offset,
                    caplen: record.caplen,
                    len: record.pktlen.max(record.caplen),
                    link: LinkType(record.link),
                })
            })
            .flatten();
        let device = match record.ifindex {
            0 => DeviceId(0),
            index => self.devices.id(record.netns, index, &mut batch.facts),
        };
        let skb = match record.skb {
            0 => SkbAddr(0),
            address => SkbAddr(self.skbs.get(address).0),
        };
        let stack = if record.head.kind == kind::EVENT {
            self.stacks.of(cpu, &record)
        } else {
            Stack::default()
        };
        let sequence = self.sequences.get_mut(cpu)?;
        // Wraps every 4 thousand million; nesting makes small steps back.
        *sequence = sequence.wrapping_add_signed(i64::from(
            record.head.token.wrapping_sub(*sequence as u32).cast_signed(),
        ));
        batch.events.push(Event {
            at: Ns(record.at),
            cpu: cpu as u16,
            seq: *sequence,
            probe: ProbeId(u16::from(record.head.probe)),
            skb,
            sock: SockId(sock),
            device,
            iif: record.iif,
            len: record.len,
            gso: Gso { size: record.gso_size, segs: record.gso_segs, kind: record.gso_kind },
            stack,
            context: match record.context {
                context::UNKNOWN => Context::Unknown,
                context::HARDIRQ => Context::Hardirq,
                context::SOFTIRQ => Context::Softirq,
                tid => Context::Task(tid),
            },
            packet,
            content: record.content,
            kind,
        });
        if spec.shape == Shape::SockDestroy && record.head.kind == kind::EVENT {
            self.socks.remove(&record.sock);
        }
        Some(())
    }

    /// The socket's id; a new one when the address now belongs to another socket.
    fn sock(&mut self, record: &Record, tuple: Option<&Tuple>) -> u32 {
        if record.sock == 0 {
            return 0;
        }
        if self.socks.len() >= ids::LIMIT {
            self.socks.clear();
        }
        let last = &mut self.last_sock;
        let mut new_id = || {
            *last = last.checked_add(1).unwrap_or(1);
            *last
        };
        let known = self.socks.entry(record.sock).or_insert_with(|| KnownSock {
            id: new_id(),
            sport: 0,
            dport: 0,
        });
        if let Some(t) = tuple {
            let moved = |old: u16, new: u16| old != 0 && new != 0 && old != new;
            if moved(known.sport, t.sport) || (t.protocol == 6 && moved(known.dport, t.dport)) {
                known.id = new_id();
            }
            (known.sport, known.dport) = (t.sport, t.dport);
        }
        known.id
    }

    fn kind(
        &mut self,
        shape: Shape,
        record: &Record,
        tuple: Option<&Tuple>,
        facts: &mut Vec<Fact>,
    ) -> Option<EventKind> {
        let [first, second] = record.arg;
        let low = |word: u64| word as u32;
        let high = |word: u64| (word >> 32) as u32;
        let signed = |word: u64| word as u32 as i32;
        let flow = || tuple.map(five_tuple);
        Some(match shape {
            Shape::GroReceive => EventKind::GroReceive {},
            Shape::BacklogQueue => EventKind::BacklogQueue {},
            Shape::Receive => EventKind::Receive {},
            Shape::DeviceQueue => EventKind::DeviceQueue {},
            Shape::QdiscEnqueue => EventKind::QdiscEnqueue { handle: low(first) },
            Shape::QdiscDequeue => {
                EventKind::QdiscDequeue { handle: low(first), packets: high(first) }
            }
            Shape::TransmitStart => EventKind::TransmitStart {},
            Shape::TransmitDone => EventKind::TransmitDone { rc: signed(first) },
            Shape::Free => EventKind::Free {
                reason: low(first),
                location: self.stacks.symbols.frame(second, facts).id,
            },
            Shape::Consume => {
                EventKind::Consume { location: self.stacks.symbols.frame(second, facts).id }
            }
            Shape::CopyToUser => EventKind::CopyToUser { bytes: low(first) },
            Shape::Retransmit => EventKind::Retransmit { tuple: flow()?, state: tuple?.state },
            Shape::RetransmitSynAck => EventKind::RetransmitSynAck { tuple: flow()? },
            Shape::SendReset => EventKind::SendReset { tuple: flow()?, reason: low(first) },
            Shape::ReceiveReset => EventKind::ReceiveReset { tuple: flow()? },
            Shape::SockState => {
                EventKind::SockState { tuple: flow()?, old: first as u8, new: high(first) as u8 }
            }
            Shape::SockDestroy => EventKind::SockDestroy { tuple: flow()? },
            Shape::SockError => EventKind::SockError { tuple: flow()?, error: low(first) },
            Shape::ReceiveQueueFull => {
                EventKind::ReceiveQueueFull { used: low(first), limit: high(first) }
            }
            Shape::UdpQueueFail => EventKind::UdpQueueFail { rc: signed(first) },
            Shape::BufferLimit => {
                EventKind::BufferLimit { allocated: first, direction: second as u8 }
            }
            Shape::BadChecksum => EventKind::BadChecksum {},
            Shape::IcmpSend => {
                EventKind::IcmpSend { icmp_type: first as u8, code: high(first) as u8 }
            }
            Shape::Neighbour => EventKind::Neighbour {
                address: flow()?,
                mac: first,
                old: second as u8,
                new: high(second) as u8,
            },
            Shape::RouteLookup => EventKind::RouteLookup {
                tuple: flow()?,
                table: low(first),
                oif: high(first),
                rc: signed(second),
            },
            Shape::NapiPoll => EventKind::NapiPoll { work: low(first), budget: high(first) },
            Shape::XdpException => EventKind::XdpException { action: low(first) },
            Shape::XdpRedirect => EventKind::XdpRedirect { rc: signed(first), to: high(first) },
            Shape::TcpProbe => EventKind::TcpProbe {
                tuple: flow()?,
                cwnd: low(first),
                ssthresh: high(first),
                srtt_us: low(second),
                rwnd: high(second),
            },
            Shape::CongestionState => {
                EventKind::CongestionState { tuple: flow()?, state: first as u8 }
            }
            Shape::DataReady => EventKind::DataReady {},
            Shape::SockReceive => EventKind::SockReceive { rc: signed(first) },
            Shape::SockSend => EventKind::SockSend { rc: signed(first) },
            Shape::TransmitTimeout => EventKind::TransmitTimeout { queue: low(first) },
            Shape::BridgeLearn => EventKind::BridgeLearn { mac: first, vlan: second as u16 },
            Shape::ReceiveReturn => EventKind::ReceiveReturn { rc: signed(first) },
        })
    }
}

fn task(record: &TaskRecord) -> TaskFact {
    let (cgroup, container) = tasks::cgroup(record.head.token);
    TaskFact {
        tid: record.head.token,
        pid: record.pid,
        comm: tasks::comm(&record.comm),
        cgroup,
        container,
    }
}

fn address(bytes: [u8; 16], family: u8) -> IpAddr {
    if family == 4 {
        Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into()
    } else {
        // A v4 connection of a v6 socket is a v4 connection.
        Ipv6Addr::from(bytes).to_canonical()
    }
}

fn five_tuple(t: &Tuple) -> FiveTuple {
    let (src, dst) = (address(t.src, t.family), address(t.dst, t.family));
    // A v6 socket bound to nothing and connected to a mapped address: `::` is 0.0.0.0 there.
    let beside = |one: IpAddr, other: IpAddr| {
        if other.is_ipv4() && one == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        } else {
            one
        }
    };
    let (src, dst) = (beside(src, dst), beside(dst, src));
    FiveTuple { protocol: t.protocol, src, sport: t.sport, dst, dport: t.dport }
}

fn socket_fact(id: u32, record: &Record, t: &Tuple) -> SocketFact {
    let flow = five_tuple(t);
    let end = |address: IpAddr, port: u16| {
        (port != 0 || !address.is_unspecified()).then_some((address, port))
    };
    SocketFact {
        id,
        netns: record.netns,
        protocol: t.protocol,
        local: end(flow.src, flow.sport),
        remote: end(flow.dst, flow.dport),
        state: t.state,
        at: record.at,
        ..SocketFact::default()
    }
}
