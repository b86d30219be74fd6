//! The connection table: originator first, each packet once.

use psc_formats::event::SockId;
use psc_formats::fact::{SocketFact, TaskFact};
use psc_formats::flow::ProtocolName;
use psc_formats::{Event, EventKind, FiveTuple, Tables};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use crate::bounded::Bounded;
use crate::engine::JourneyId;
use crate::view::analyze::FlowRow;
use crate::view::tcp::TcpSheet;

use super::notes::{Keeper, Kept};
use super::tcp::{self, ACK, FIN, Kind, Notes, Rule, SYN, Segment, TcpConnection};
use super::told::{Fragment, Told};

/// Connections open at once; beyond, the longest idle ones are closed early and counted.
const OPEN: usize = 65_536;

/// Connections closed and kept for the report; beyond, those with the fewest bytes go.
const CLOSED: usize = 32_768;

/// First fragments remembered, to give later ones their ports.
const FRAGMENTS: usize = 4_096;

const TCP: u8 = 6;

#[derive(Debug)]
struct Connection {
    id: u64,
    /// Originator first.
    tuple: FiveTuple,
    first: u64,
    last: u64,
    packets: [u64; 2],
    bytes: [u64; 2],
    drops: u64,
    /// Retransmissions told by the kernel, by sender.
    kernel_retransmits: [u64; 2],
    /// Retransmissions found in the sequence numbers, by sender.
    seen_retransmits: [u64; 2],
    tcp: Option<Box<TcpConnection>>,
    notes: Kept,
    /// Socket of the originator and of the responder, where they are on this host.
    socks: [SockId; 2],
    /// Thread that sent for the originator, for the responder; 0 unknown.
    tasks: [u32; 2],
}

/// A connection for the sums by one key or another.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) id: u64,
    /// Originator first.
    pub(super) tuple: FiveTuple,
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) drops: u64,
    pub(super) retransmits: u64,
    /// `comm[pid]` of both ends, as far as facts say.
    pub(super) processes: [Option<String>; 2],
    /// cgroups of both ends.
    pub(super) cgroups: [Option<String>; 2],
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct FragmentKey {
    src: IpAddr,
    dst: IpAddr,
    id: u32,
    protocol: u8,
}

#[derive(Debug)]
pub(crate) struct Flows {
    open: Bounded<FiveTuple, Connection>,
    closed: Vec<Connection>,
    /// Connections forgotten altogether.
    forgotten: u64,
    fragments: Bounded<FragmentKey, (u16, u16)>,
    next_id: u64,
    duplicates: u64,
    retransmit_segments: u64,
    seen_retransmits: u64,
    data_segments: u64,
    keeper: Keeper,
}

impl Default for Flows {
    fn default() -> Self {
        Self {
            open: Bounded::new(OPEN),
            closed: Vec::new(),
            forgotten: 0,
            fragments: Bounded::new(FRAGMENTS),
            next_id: 1,
            duplicates: 0,
            retransmit_segments: 0,
            seen_retransmits: 0,
            data_segments: 0,
            keeper: Keeper::default(),
        }
    }
}

impl Flows {
    /// Keeps every judgement about the segments of one connection, or of all.
    pub(super) fn keeping(keeper: Keeper) -> Self {
        Self { keeper, ..Self::default() }
    }

    /// One packet, told once.
    pub(super) fn packet(&mut self, told: &Told) {
        let Told { at, .. } = *told;
        let tuple = self.tuple(told.tuple, told.fragment);
        let key = tuple.canonical();
        let mut reused = false;
        if let Some(tcp) = &told.tcp
            && tcp.flags & (SYN | ACK) == SYN
            && self.open.get(&key).is_some_and(|known| {
                let from = known.from(tuple);
                known.tcp.as_ref().is_some_and(|c| c.is_new_connection(from, tcp.seq))
            })
            && let Some(old) = self.open.remove(&key)
        {
            self.retire(old);
            reused = true;
        }
        let answer = told.tcp.is_some_and(|tcp| tcp.flags & (SYN | ACK) == SYN | ACK);
        let originator = if answer { tuple.reversed() } else { tuple };
        self.make_room(&key);
        let next_id = &mut self.next_id;
        let connection = self.open.entry_or_forget(key, || {
            *next_id += 1;
            Connection::new(*next_id - 1, originator, at)
        });
        let from = connection.from(tuple);
        let mut outcome = tcp::Outcome::New;
        if let (Some(header), Some(state)) = (&told.tcp, connection.tcp.as_mut()) {
            let segment = Segment {
                at,
                from,
                tcp: header,
                payload: told.payload,
                wire: told.wire,
                ip_id: told.ip_id,
                packet: told.packet,
                journey: told.journey,
            };
            let mut notes = self.keeper.of(connection.id, &mut connection.notes);
            if reused {
                notes.note(segment.note(Kind::PortsReused, Rule::NewInitial, [0; 2]));
            }
            outcome = state.segment(&segment, &mut notes);
        }
        if outcome == tcp::Outcome::Duplicate {
            self.duplicates += 1;
            return;
        }
        connection.last = connection.last.max(at);
        connection.packets[from] += 1;
        connection.bytes[from] += told.bytes;
        if told.sock.0 != 0 {
            connection.socks[from] = told.sock;
            if told.task != 0 {
                connection.tasks[from] = told.task;
            }
        }
        let carries = told.tcp.is_some_and(|tcp| told.payload > 0 || tcp.flags & (SYN | FIN) != 0);
        if carries {
            let segments = u64::from(told.wire);
            self.data_segments += segments;
            if outcome == tcp::Outcome::Retransmitted {
                connection.seen_retransmits[from] += segments;
                self.seen_retransmits += segments;
            }
        }
    }

    /// A packet counted before came in by a device: what it acknowledges was under way until now.
    pub(super) fn arrived(&mut self, at: u64, tuple: FiveTuple, journey: JourneyId) {
        if let Some(connection) = self.open.get_mut(&tuple.canonical()) {
            let from = connection.from(tuple);
            if let Some(tcp) = &mut connection.tcp {
                tcp.arrived(from, journey.0, at);
            }
        }
    }

    /// Whether [`Self::socket_event`] takes events of this kind.
    pub(super) fn heeds(kind: &EventKind) -> bool {
        matches!(
            kind,
            EventKind::Retransmit { .. }
                | EventKind::RetransmitSynAck { .. }
                | EventKind::SockState { .. }
                | EventKind::SockSeen { .. }
                | EventKind::TcpProbe { .. }
        )
    }

    /// Socket events: who owns which end, and what the kernel sent again.
    pub(super) fn socket_event(&mut self, event: &Event) {
        let (tuple, resent) = match event.kind {
            EventKind::Retransmit { tuple, .. } => (tuple, u64::from(event.gso.segments())),
            EventKind::RetransmitSynAck { tuple } => (tuple, 1),
            EventKind::SockState { tuple, .. }
            | EventKind::SockSeen { tuple, .. }
            | EventKind::TcpProbe { tuple, .. } => (tuple, 0),
            _ => return,
        };
        self.retransmit_segments += resent;
        if let Some(connection) = self.open.get_mut(&tuple.canonical()) {
            // The tuple has the local end first, which is the one that sends again.
            let end = connection.from(tuple);
            connection.kernel_retransmits[end] += resent;
            if resent > 0
                && let Some(tcp) = &mut connection.tcp
            {
                tcp.kernel_resends(end, event.at.0);
            }
            if event.sock.0 != 0 {
                connection.socks[end] = event.sock;
            }
        }
    }

    /// A packet of this flow was dropped.
    pub(super) fn dropped(&mut self, tuple: FiveTuple, fragment: Option<Fragment>) {
        let tuple = self.tuple(tuple, fragment);
        if let Some(connection) = self.open.get_mut(&tuple.canonical()) {
            connection.drops += 1;
        }
    }

    /// The directed tuple, with the ports of the first fragment for later ones.
    fn tuple(&mut self, mut tuple: FiveTuple, fragment: Option<Fragment>) -> FiveTuple {
        let Some((id, offset)) = fragment else { return tuple };
        let key = FragmentKey { src: tuple.src, dst: tuple.dst, id, protocol: tuple.protocol };
        if offset == 0 {
            *self.fragments.entry_or_forget(key, || (0, 0)) = (tuple.sport, tuple.dport);
        } else if let Some(&(sport, dport)) = self.fragments.get(&key) {
            (tuple.sport, tuple.dport) = (sport, dport);
        }
        tuple
    }

    /// Closes the longest idle connections early when a new one would be one too many.
    fn make_room(&mut self, key: &FiveTuple) {
        if self.open.is_full() && self.open.get(key).is_none() {
            for (_, old) in self.open.make_room() {
                self.retire(old);
            }
        }
    }

    fn retire(&mut self, mut connection: Connection) {
        if let Some(tcp) = &mut connection.tcp {
            tcp.settle();
        }
        self.closed.push(connection);
        if self.closed.len() >= 2 * CLOSED {
            self.closed.select_nth_unstable_by(CLOSED, Connection::most_bytes_first);
            self.forgotten += (self.closed.len() - CLOSED) as u64;
            self.closed.truncate(CLOSED);
        }
    }

    /// Connections closed before their time because too many were open.
    pub(super) fn evicted(&self) -> u64 {
        self.open.evicted()
    }

    /// Packets that were seen twice and counted once.
    pub(super) fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// (retransmitted, sent) TCP segments with data, SYN or FIN. The kernel's own word where it was
    /// recorded, else what the sequence numbers say.
    pub(super) fn network_loss(&self) -> (u64, u64) {
        let judged: u64 = self.all().map(Connection::retransmits).sum();
        let most = judged.max(self.seen_retransmits).max(self.retransmit_segments);
        (most, self.data_segments)
    }

    fn all(&self) -> impl Iterator<Item = &Connection> {
        self.closed.iter().chain(self.open.values())
    }

    /// What was noted of all connections, when that was asked for.
    pub(super) fn take_notes(&mut self) -> Vec<(u64, tcp::Note)> {
        self.keeper.take_all()
    }

    /// Tells every connection still known, in no particular order: for sums only.
    pub(super) fn talks(&self, tables: &Tables, mut tell: impl FnMut(&Talk)) {
        let owners = Owners::new(tables);
        for connection in self.all() {
            tell(&connection.talk(&owners));
        }
    }

    /// Rows, most bytes first, and how many were left out.
    pub(super) fn rows(&self, tables: &Tables, limit: usize) -> (Vec<FlowRow>, u64) {
        let mut all: Vec<&Connection> = self.all().collect();
        let omitted = all.len().saturating_sub(limit) as u64 + self.forgotten;
        if (1..all.len()).contains(&limit) {
            all.select_nth_unstable_by(limit - 1, |a, b| Connection::most_bytes_first(a, b));
        }
        all.truncate(limit);
        all.sort_unstable_by(|a, b| Connection::most_bytes_first(a, b));
        let owners = Owners::new(tables);
        (all.iter().take(limit).map(|c| c.row(&owners)).collect(), omitted)
    }
}

impl Connection {
    fn new(id: u64, tuple: FiveTuple, at: u64) -> Self {
        Self {
            id,
            tuple,
            first: at,
            last: at,
            packets: [0; 2],
            bytes: [0; 2],
            drops: 0,
            kernel_retransmits: [0; 2],
            seen_retransmits: [0; 2],
            tcp: (tuple.protocol == TCP).then(Box::default),
            notes: Kept::default(),
            socks: [SockId(0); 2],
            tasks: [0; 2],
        }
    }

    /// 0 when `tuple` goes from the originator, 1 when it comes from the responder.
    fn from(&self, tuple: FiveTuple) -> usize {
        usize::from(tuple != self.tuple)
    }

    /// Each end by the better witness: the kernel for a local sender, sequence numbers for others.
    fn retransmits(&self) -> u64 {
        self.kernel_retransmits
            .iter()
            .zip(self.seen_retransmits)
            .map(|(&kernel, seen)| if kernel > 0 { kernel } else { seen })
            .sum()
    }

    fn most_bytes_first(a: &Self, b: &Self) -> std::cmp::Ordering {
        let bytes = |c: &Self| c.bytes[0].saturating_add(c.bytes[1]);
        bytes(b).cmp(&bytes(a)).then(a.id.cmp(&b.id))
    }

    fn talk(&self, owners: &Owners<'_>) -> Talk {
        let tuples = [self.tuple, self.tuple.reversed()];
        let facts = [0, 1].map(|end| (self.socks[end], self.tasks[end], tuples[end]));
        Talk {
            id: self.id,
            tuple: self.tuple,
            packets: self.packets[0] + self.packets[1],
            bytes: self.bytes[0] + self.bytes[1],
            drops: self.drops,
            retransmits: self.retransmits(),
            processes: facts.map(|(sock, task, tuple)| owners.of(sock, task, tuple)),
            cgroups: facts.map(|(sock, task, tuple)| owners.cgroup(sock, task, tuple)),
        }
    }

    fn row(&self, owners: &Owners<'_>) -> FlowRow {
        let end = |addr: IpAddr, port: u16| {
            if port == 0 { addr.to_string() } else { SocketAddr::new(addr, port).to_string() }
        };
        let process = [
            owners.of(self.socks[0], self.tasks[0], self.tuple),
            owners.of(self.socks[1], self.tasks[1], self.tuple.reversed()),
        ];
        FlowRow {
            id: self.id,
            protocol: ProtocolName(self.tuple.protocol).to_string(),
            originator: end(self.tuple.src, self.tuple.sport),
            responder: end(self.tuple.dst, self.tuple.dport),
            first: self.first,
            duration_ns: self.last - self.first,
            packets: self.packets.into(),
            bytes: self.bytes.into(),
            drops: self.drops,
            retransmits: self.retransmits(),
            handshake_rtt_ns: self.tcp.as_ref().and_then(|tcp| tcp.handshake_rtt()),
            state: self.tcp.as_ref().map_or("", |tcp| tcp.conn_state()).to_owned(),
            tcp: self.tcp.as_ref().map(|tcp| {
                let (notes, notes_omitted) = self.notes.view();
                TcpSheet { notes, notes_omitted, ..tcp.sheet() }
            }),
            process: match process {
                [Some(a), Some(b)] if a != b => format!("{a} > {b}"),
                [Some(a), _] => a,
                [None, Some(b)] => b,
                [None, None] => String::new(),
            },
        }
    }
}

/// (protocol, local, remote) of a socket.
type SocketKey = (u8, (IpAddr, u16), Option<(IpAddr, u16)>);

/// Who owns a socket, by id or by its ends.
struct Owners<'a> {
    tables: &'a Tables,
    by_ends: HashMap<SocketKey, &'a SocketFact>,
    /// A thread of each process: the main one, or the one with the lowest id.
    by_pid: BTreeMap<u32, &'a TaskFact>,
}

impl<'a> Owners<'a> {
    fn new(tables: &'a Tables) -> Self {
        // By id first, so that with two facts on one socket the later id wins whatever the hash.
        let known: BTreeMap<u32, &SocketFact> =
            tables.sockets.iter().map(|(id, fact)| (id.0, fact)).collect();
        let by_ends = tables
            .socket_snapshots
            .iter()
            .chain(known.into_values())
            .filter(|fact| fact.pid != 0 || !fact.comm.is_empty())
            .filter_map(|fact| Some(((fact.protocol, fact.local?, fact.remote), fact)))
            .collect();
        let mut tasks: Vec<&TaskFact> = tables.tasks.values().collect();
        tasks.sort_by_key(|task| (task.tid != task.pid, task.tid));
        let by_pid = tasks.iter().rev().map(|task| (task.pid, *task)).collect();
        Self { tables, by_ends, by_pid }
    }

    /// The socket at the local end of `tuple` (its source), when its owner is known.
    fn socket(&self, sock: SockId, tuple: FiveTuple) -> Option<&'a SocketFact> {
        if self.tables.sockets.is_empty() && self.by_ends.is_empty() {
            return None;
        }
        let local = (tuple.src, tuple.sport);
        let remote = Some((tuple.dst, tuple.dport));
        let named = self.tables.sockets.get(&sock).filter(|fact| fact.pid != 0);
        named.or_else(|| self.by_ends.get(&(tuple.protocol, local, remote)).copied())
    }

    /// `comm[pid]` of the local end of `tuple` (its source).
    fn of(&self, sock: SockId, task: u32, tuple: FiveTuple) -> Option<String> {
        if let Some(fact) = self.socket(sock, tuple) {
            return Some(format!("{}[{}]", fact.comm, fact.pid));
        }
        let task = self.tables.tasks.get(&task).filter(|_| task != 0)?;
        Some(format!("{}[{}]", task.comm, task.pid))
    }

    /// cgroup of the local end of `tuple`, or its container.
    fn cgroup(&self, sock: SockId, task: u32, tuple: FiveTuple) -> Option<String> {
        let owner = self.socket(sock, tuple).map(|fact| fact.pid);
        let task = self
            .tables
            .tasks
            .get(&task)
            .filter(|fact| task != 0 && owner.is_none_or(|pid| pid == fact.pid))
            .or_else(|| self.by_pid.get(&owner?).copied())?;
        let name = if task.container.is_empty() { &task.cgroup } else { &task.container };
        (!name.is_empty()).then(|| name.clone())
    }
}

#[cfg(test)]
#[path = "flows_tests.rs"]
mod tests;
