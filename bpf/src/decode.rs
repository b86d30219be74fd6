//! Wire records to events: the only decoder of what crosses from the kernel.

mod functions;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use psc_formats::event::{DeviceId, EventKind, LinkType, SymbolId};
use psc_formats::fact::{Fact, NoticeFact, Severity, SocketFact, TaskFact};
use psc_formats::function::Meaning;
use psc_formats::{
    Batch, Context, Event, FiveTuple, Gso, Ns, PacketRef, ProbeId, SkbAddr, SockId, Stack,
};
use rustc_hash::FxHashMap;

use crate::attach::{FREE, PROBES, Shape};
use crate::facts::{Devices, SocketKey, tasks};
use crate::ids::{self, Dense};
use crate::stacks::Stacks;
use crate::wire::{
    self, AGGREGATES, Aggregate, ChainRecord, Head, Record, StackRecord, TaskRecord, Tuple,
    context, kind, payload,
};

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
    /// Sockets that events have named, so that snapshots can name them too.
    named: FxHashMap<SocketKey, u32>,
    /// Full sequence of each CPU; records carry the low half.
    sequences: Vec<u64>,
    /// What has been told of each aggregate, by entry and epoch: (count, bytes).
    reported: FxHashMap<(u32, u32), (u64, u64)>,
    /// No event may be older than what the source has promised to be complete.
    pub(crate) promised: u64,
    /// Records that made no sense; never expected.
    pub(crate) malformed: u64,
    /// What the return value of each function means.
    pub(crate) meanings: Vec<Meaning>,
    chains: FxHashMap<u64, (u32, ChainRecord)>,
    last_chain: u32,
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
            named: FxHashMap::default(),
            sequences: vec![0; cpus],
            reported: FxHashMap::default(),
            promised: 0,
            malformed: 0,
            meanings: Vec::new(),
            chains: FxHashMap::default(),
            last_chain: 0,
            bytes,
        }
    }

    /// Decodes one record of `cpu` into `batch`.
    pub(crate) fn decode(&mut self, cpu: usize, bytes: &[u8], batch: &mut Batch) {
        let done = match wire::read::<Head>(bytes).map(|head| head.kind) {
            Some(
                kind::EVENT
                | kind::SOCK_SEEN
                | kind::ENTRY
                | kind::CALL
                | kind::RETURN
                | kind::LINEAGE
                | kind::HOOK,
            ) => self.event(cpu, bytes, batch),
            Some(kind::CHAIN) => {
                wire::read::<ChainRecord>(bytes).map(|record| self.chain(&record, &mut batch.facts))
            }
            Some(kind::REPEATED) => {
                wire::read::<Record>(bytes).map(|record| self.retired(&record, batch))
            }
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
        let record = wire::read_record(bytes)?;
        let rest = bytes.get(size_of::<Record>()..).unwrap_or(&[]);
        let tuple = match record.head.payload {
            payload::TUPLE => Some(wire::read::<Tuple>(rest)?),
            _ => None,
        };
        let (sock, new_sock) = self.sock(&record, tuple.as_ref());
        let kind = match record.head.kind {
            kind::SOCK_SEEN => {
                let tuple = tuple?;
                EventKind::SockSeen { tuple: five_tuple(&tuple), state: tuple.state }
            }
            kind::EVENT => {
                let spec = PROBES.get(usize::from(record.head.probe))?;
                self.kind(spec.shape, &record, tuple.as_ref(), &mut batch.facts)?
            }
            _ => self.function_kind(&record)?,
        };
        let tells =
            new_sock || matches!(kind, EventKind::SockSeen { .. } | EventKind::SockState { .. });
        if let (true, Some(tuple)) = (tells && sock != 0, &tuple) {
            self.tell_socket(socket_fact(sock, &record, tuple), &mut batch.facts);
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
        if matches!(kind, EventKind::SockDestroy { .. }) {
            self.socks.remove(&record.sock);
        }
        Some(())
    }

    /// The id of a socket that events have named.
    pub(crate) fn known_socket(&self, key: &SocketKey) -> Option<u32> {
        self.named.get(key).copied()
    }

    fn tell_socket(&mut self, fact: SocketFact, facts: &mut Vec<Fact>) {
        if self.named.len() >= ids::LIMIT {
            self.named.clear();
        }
        self.named.insert((fact.netns, fact.protocol, fact.local, fact.remote), fact.id);
        facts.push(Fact::Socket(fact));
    }

    /// The socket's id, a new one when the address now belongs to another socket; and whether it
    /// is new.
    fn sock(&mut self, record: &Record, tuple: Option<&Tuple>) -> (u32, bool) {
        if record.sock == 0 {
            return (0, false);
        }
        if self.socks.len() >= ids::LIMIT {
            self.socks.clear();
        }
        let before = self.last_sock;
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
        let id = known.id;
        (id, *last != before)
    }

    /// An aggregate that gave way to another; its fields are where `retire()` in aggregate.h puts
    /// them.
    fn retired(&mut self, record: &Record, batch: &mut Batch) {
        let entry = Aggregate {
            location: record.arg[1],
            reason: record.context,
            netns: record.netns,
            ifindex: record.ifindex,
            epoch: record.path,
            window: 0,
            in_window: 0,
            count: record.skb,
            bytes: record.sock,
            first: record.arg[0],
            last: record.at,
        };
        self.repeated(record.content, &entry, batch);
        self.reported.remove(&(record.content, record.path));
    }

    /// Tells how far an aggregate has grown since it was last told.
    pub(crate) fn repeated(&mut self, index: u32, entry: &Aggregate, batch: &mut Batch) {
        if self.reported.len() > 1 << 16 {
            self.reported.clear();
        }
        let told = self.reported.entry((index, entry.epoch)).or_default();
        let (count, bytes) =
            (entry.count - told.0.min(entry.count), entry.bytes.saturating_sub(told.1));
        if count == 0 {
            return;
        }
        let before = *told != (0, 0);
        *told = (entry.count, entry.bytes);
        let cpu = index as usize / AGGREGATES;
        let device = match entry.ifindex {
            0 => DeviceId(0),
            index => self.devices.id(entry.netns, index, &mut batch.facts),
        };
        let at = entry.last.max(self.promised);
        batch.events.push(Event {
            at: Ns(at),
            cpu: cpu as u16,
            // It takes no place of its own in the stream.
            seq: self.sequences.get(cpu).copied().unwrap_or(0),
            probe: ProbeId(FREE),
            skb: SkbAddr(0),
            sock: SockId(0),
            device,
            iif: 0,
            len: 0,
            gso: Gso::default(),
            stack: Stack::default(),
            context: Context::Unknown,
            packet: None,
            content: 0,
            kind: EventKind::Repeated {
                kind: EventKind::Free { reason: 0, location: SymbolId(0) }.tag(),
                count,
                bytes,
                reason: entry.reason,
                location: self.stacks.symbols.frame(entry.location, &mut batch.facts).id,
                // Of a part, all that is known is that it came after the part before.
                first: if before { self.promised.min(at) } else { entry.first.min(at) },
            },
        });
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
            Shape::Retransmit => match signed(first) {
                0 => EventKind::Retransmit { tuple: flow()?, state: tuple?.state },
                rc => EventKind::RetransmitFailed { tuple: flow()?, state: tuple?.state, rc },
            },
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
            Shape::Softirq => {
                EventKind::Softirq { vector: second as u8, waited: first, ran: second >> 8 }
            }
            Shape::Scheduled => EventKind::Scheduled { waited: first },
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
    // Sockets of other protocols keep the protocol number where the port is.
    let ports = matches!(t.protocol, 6 | 17 | 33 | 132 | 136);
    let port = |port: u16| if ports { port } else { 0 };
    FiveTuple { protocol: t.protocol, src, sport: port(t.sport), dst, dport: port(t.dport) }
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
