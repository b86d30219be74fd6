//! `psc record -f`: leaves out, before storage, what the expression does not ask for.
//!
//! A packet is judged where its bytes are seen; its skb is then followed by address, so that later
//! events without bytes share its fate until it is freed or judged again. Events of sockets are judged
//! by the socket's tuple. Events of neither are kept. See `psc record --help` for the user's words.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::IpAddr;

use psc_formats::event::LinkType;
use psc_formats::packet::Headers;
use psc_formats::{
    Batch, Event, EventKind, EventSource, Fact, FiveTuple, Manifest, Progress, SkbAddr, SockId,
    SourceError, Tables,
};
use psc_replay::engine::World;
use psc_replay::expr::{Expr, Subject};

/// What is asked of an event: what is known beside it, it itself, its packet's headers, its packet's
/// bytes.
pub(super) type Judge = Box<dyn Fn(World<'_>, &Event, Option<&Headers>, &[u8]) -> bool + Send>;

/// The question that `expression` asks of an event.
pub(super) fn judge(expression: Expr) -> Judge {
    Box::new(move |world, event, headers, bytes| {
        expression.matches(&Subject::event(world, event, headers, bytes))
    })
}

/// A source without what the judge refuses.
pub(super) struct Filtered<S> {
    source: S,
    chooser: Chooser,
}

impl<S: EventSource> Filtered<S> {
    pub(super) fn new(source: S, judge: Judge) -> Self {
        Self { source, chooser: Chooser::new(judge) }
    }
}

impl<S: EventSource> EventSource for Filtered<S> {
    fn manifest(&self) -> &Manifest {
        self.source.manifest()
    }

    fn fill(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        let progress = self.source.fill(batch)?;
        self.chooser.choose(self.source.manifest(), batch);
        Ok(progress)
    }
}

/// Remembered keys are bounded: at most twice this many of each kind, the least recently used first
/// to go. Forgetting a key drops later events of a matching packet, so this is generous.
const REMEMBERED: usize = 1 << 17;

/// A set that forgets: two generations, the older one replaced when the younger is full.
struct Recent<K> {
    young: HashSet<K>,
    old: HashSet<K>,
}

impl<K: Eq + Hash + Copy> Recent<K> {
    fn new() -> Self {
        Self { young: HashSet::new(), old: HashSet::new() }
    }

    fn insert(&mut self, key: K) {
        if self.young.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key);
    }

    fn remove(&mut self, key: K) {
        self.young.remove(&key);
        self.old.remove(&key);
    }

    /// Whether it is remembered; asking keeps it so.
    fn touch(&mut self, key: K) -> bool {
        if self.young.contains(&key) {
            return true;
        }
        if self.old.remove(&key) {
            self.insert(key);
            return true;
        }
        false
    }
}

struct Chooser {
    judge: Judge,
    /// Devices, tasks and sockets, for expressions that name them.
    tables: Tables,
    /// skbs whose bytes matched.
    skbs: Recent<SkbAddr>,
    /// Connections of which a packet matched.
    tuples: Recent<FiveTuple>,
    /// Sockets that an event with a matching tuple, or a matching packet, named.
    socks: Recent<SockId>,
    /// Events left out so far, per CPU: the stored sequence closes over them, so that a gap in a
    /// recording always means events that were lost.
    left_out: HashMap<u16, u64>,
}

impl Chooser {
    fn new(judge: Judge) -> Self {
        Self {
            judge,
            tables: Tables::default(),
            skbs: Recent::new(),
            tuples: Recent::new(),
            socks: Recent::new(),
            left_out: HashMap::new(),
        }
    }

    /// Facts that an expression can name. Sockets and tasks without end would fill memory: when
    /// there are too many, all are forgotten, and the next description of one is used again.
    fn learn(&mut self, fact: &Fact) {
        match fact {
            Fact::Socket(socket) if socket.id == 0 => {}
            Fact::Device(_) | Fact::Symbol(_) | Fact::Socket(_) | Fact::Task(_) => {
                self.tables.apply(fact);
            }
            Fact::Stack(_)
            | Fact::Routes(_)
            | Fact::Neighbours(_)
            | Fact::Counters(_)
            | Fact::Sysctls(_)
            | Fact::Loss(_)
            | Fact::Probe(_)
            | Fact::Clock(_)
            | Fact::Notice(_)
            | Fact::Chain(_)
            | Fact::Firewall(_)
            | Fact::Sampling(_)
            | Fact::Checkpoint(_)
            | Fact::Rules(_)
            | Fact::Verdicts(_)
            | Fact::End(_)
            | Fact::RouteProbes(_)
            | Fact::Unknown => {}
        }
        if self.tables.sockets.len() > REMEMBERED {
            self.tables.sockets.clear();
        }
        if self.tables.tasks.len() > REMEMBERED {
            self.tables.tasks.clear();
        }
    }

    fn choose(&mut self, manifest: &Manifest, batch: &mut Batch) {
        for fact in &batch.facts {
            self.learn(fact);
        }
        let mut events = std::mem::take(&mut batch.events);
        events.retain_mut(|event| {
            let bytes = event.packet.map_or(&[][..], |packet| batch.packet(packet));
            let keep = self.keeps(manifest, event, bytes);
            let left_out = self.left_out.entry(event.cpu).or_default();
            if keep {
                event.seq = event.seq.saturating_sub(*left_out);
            } else {
                *left_out += 1;
            }
            keep
        });
        batch.events = events;
        let left_out: u64 = self.left_out.values().sum();
        for fact in &mut batch.facts {
            if let Fact::Loss(loss) = fact {
                loss.filtered += left_out;
            }
        }
    }

    fn keeps(&mut self, manifest: &Manifest, event: &Event, bytes: &[u8]) -> bool {
        let keep = self.wanted(manifest, event, bytes);
        if matches!(event.kind, EventKind::Free { .. } | EventKind::Consume { .. }) {
            self.skbs.remove(event.skb);
        }
        keep
    }

    fn wanted(&mut self, manifest: &Manifest, event: &Event, bytes: &[u8]) -> bool {
        if let Some(packet) = event.packet {
            let headers = psc_formats::packet::decode(packet.link, bytes, packet.len);
            let world = self.world(manifest);
            let matched = (self.judge)(world, event, Some(&headers), bytes);
            if event.skb.0 != 0 {
                if matched {
                    self.skbs.insert(event.skb);
                } else {
                    self.skbs.remove(event.skb);
                }
            }
            if matched {
                if let Some(tuple) = headers.tuple() {
                    self.tuples.insert(tuple.canonical());
                }
                if event.sock.0 != 0 {
                    self.socks.insert(event.sock);
                }
            }
            return matched;
        }
        if event.skb.0 != 0 && self.skbs.touch(event.skb) {
            return true;
        }
        if let Some(tuple) = event.kind.tuple() {
            let matched = self.tuples.touch(tuple.canonical())
                || self.tuple_matches(manifest, event, tuple)
                || self.tuple_matches(manifest, event, tuple.reversed());
            if matched && event.sock.0 != 0 {
                self.socks.insert(event.sock);
            }
            return matched;
        }
        if event.skb.0 != 0 {
            return false;
        }
        if event.sock.0 != 0 {
            return self.socks.touch(event.sock);
        }
        true
    }

    /// What is known beside an event. Times are as the clock has them: nothing has a start here.
    fn world<'a>(&'a self, manifest: &'a Manifest) -> World<'a> {
        World { manifest, tables: &self.tables, start: None }
    }

    fn tuple_matches(&self, manifest: &Manifest, event: &Event, tuple: FiveTuple) -> bool {
        let bytes = packet_of(tuple);
        let headers = psc_formats::packet::decode(LinkType::RAW, &bytes, bytes.len() as u32);
        let world = self.world(manifest);
        (self.judge)(world, event, Some(&headers), &bytes)
    }
}

/// The emptiest packet that goes from one end of a tuple to the other.
fn packet_of(tuple: FiveTuple) -> Vec<u8> {
    const TCP: u8 = 6;
    const TTL: u8 = 64;
    // Both begin with the ports; TCP's fifth 32-bit word begins with its header length in words.
    let mut transport = [tuple.sport.to_be_bytes(), tuple.dport.to_be_bytes()].concat();
    if tuple.protocol == TCP {
        transport.extend([0, 0, 0, 0, 0, 0, 0, 0, 5 << 4, 0, 0, 0, 0, 0, 0, 0]);
    } else {
        transport.extend([0, 8, 0, 0]);
    }
    let len = transport.len() as u8;
    let mut bytes = match (tuple.src, tuple.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut bytes = vec![0x45, 0, 0, 20 + len, 0, 0, 0, 0, TTL, tuple.protocol, 0, 0];
            bytes.extend(src.octets());
            bytes.extend(dst.octets());
            bytes
        }
        (src, dst) => {
            let mut bytes = vec![0x60, 0, 0, 0, 0, len, tuple.protocol, TTL];
            for address in [src, dst] {
                bytes.extend(match address {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                    IpAddr::V6(v6) => v6.octets(),
                });
            }
            bytes
        }
    };
    bytes.extend(transport);
    bytes
}

#[cfg(test)]
mod tests {
    use psc_formats::event::SymbolId;
    use psc_formats::fact::LossFact;
    use psc_formats::{Context, Gso, Ns, PacketRef, ProbeId, Stack};

    use super::*;

    /// An IPv4 UDP packet from 10.0.0.1:1000 to 10.0.0.2:`dport`.
    fn udp(dport: u16) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        bytes.extend([0x03, 0xe8]);
        bytes.extend(dport.to_be_bytes());
        bytes.extend([0, 8, 0, 0]);
        bytes
    }

    fn event(seq: u64, skb: u32, sock: u32, kind: EventKind) -> Event {
        Event {
            at: Ns(seq),
            cpu: 0,
            seq,
            probe: ProbeId(0),
            skb: SkbAddr(skb),
            sock: SockId(sock),
            device: psc_formats::event::DeviceId(0),
            iif: 0,
            len: 28,
            gso: Gso::default(),
            stack: Stack::default(),
            context: Context::Unknown,
            packet: None,
            content: 0,
            kind,
        }
    }

    fn with_bytes(batch: &mut Batch, mut event: Event, bytes: &[u8]) {
        event.packet = Some(PacketRef {
            offset: batch.bytes.len() as u32,
            caplen: bytes.len() as u32,
            len: bytes.len() as u32,
            link: LinkType::RAW,
        });
        batch.bytes.extend_from_slice(bytes);
        batch.events.push(event);
    }

    fn port_53() -> Chooser {
        Chooser::new(Box::new(|_, _, headers, _| {
            headers
                .and_then(Headers::tuple)
                .is_some_and(|tuple| tuple.sport == 53 || tuple.dport == 53)
        }))
    }

    fn kept(batch: &Batch) -> Vec<(u64, u32, &'static str)> {
        batch.events.iter().map(|e| (e.seq, e.skb.0, e.kind.name())).collect()
    }

    fn tuple(dport: u16) -> FiveTuple {
        FiveTuple {
            protocol: 17,
            src: [10, 0, 0, 1].into(),
            sport: 1000,
            dst: [10, 0, 0, 2].into(),
            dport,
        }
    }

    #[test]
    fn an_skb_is_followed_from_its_bytes_to_its_free() {
        let mut batch = Batch::default();
        let free = || EventKind::Free { reason: 2, location: SymbolId::default() };
        with_bytes(&mut batch, event(0, 1, 0, EventKind::Receive {}), &udp(53));
        with_bytes(&mut batch, event(1, 2, 0, EventKind::Receive {}), &udp(80));
        batch.events.push(event(2, 1, 0, EventKind::DeviceQueue {}));
        batch.events.push(event(3, 2, 0, EventKind::DeviceQueue {}));
        batch.events.push(event(4, 1, 0, free()));
        // The address is used again by a packet whose bytes were not taken.
        batch.events.push(event(5, 1, 0, EventKind::Receive {}));
        port_53().choose(&Manifest::default(), &mut batch);
        assert_eq!(kept(&batch), [(0, 1, "Receive"), (1, 1, "DeviceQueue"), (2, 1, "Free")]);
    }

    #[test]
    fn bytes_that_no_longer_match_end_the_following() {
        let mut batch = Batch::default();
        with_bytes(&mut batch, event(0, 1, 0, EventKind::Receive {}), &udp(53));
        with_bytes(&mut batch, event(1, 1, 0, EventKind::Receive {}), &udp(80));
        batch.events.push(event(2, 1, 0, EventKind::DeviceQueue {}));
        port_53().choose(&Manifest::default(), &mut batch);
        assert_eq!(kept(&batch), [(0, 1, "Receive")]);
    }

    #[test]
    fn sockets_are_judged_by_tuple_in_both_directions() {
        let mut batch = Batch::default();
        let seen = |tuple| EventKind::SockSeen { tuple, state: 1 };
        batch.events.push(event(0, 0, 7, seen(tuple(53))));
        batch.events.push(event(1, 0, 8, seen(tuple(80))));
        batch.events.push(event(2, 0, 9, seen(tuple(53).reversed())));
        for (seq, sock) in [(3, 7), (4, 8), (5, 9)] {
            batch.events.push(event(seq, 0, sock, EventKind::DataReady {}));
        }
        batch.events.push(event(6, 0, 0, EventKind::NapiPoll { work: 1, budget: 64 }));
        port_53().choose(&Manifest::default(), &mut batch);
        let socks: Vec<u32> = batch.events.iter().map(|e| e.sock.0).collect();
        assert_eq!(socks, [7, 9, 7, 9, 0]);
    }

    #[test]
    fn a_gap_still_means_loss_and_what_was_left_out_is_counted() {
        let mut chooser = port_53();
        let mut batch = Batch::default();
        for seq in [0, 1, 2, 5, 6] {
            // 3 and 4 were lost; 1 and 6 do not match.
            let port = if seq == 1 || seq == 6 { 80 } else { 53 };
            with_bytes(
                &mut batch,
                event(seq, seq as u32 + 1, 0, EventKind::Receive {}),
                &udp(port),
            );
        }
        batch.facts.push(Fact::Loss(LossFact { filtered: 10, ..LossFact::default() }));
        chooser.choose(&Manifest::default(), &mut batch);
        let seqs: Vec<u64> = batch.events.iter().map(|e| e.seq).collect();
        assert_eq!(seqs, [0, 1, 4], "one gap of two");
        let Fact::Loss(loss) = &batch.facts[0] else { panic!("loss fact stays") };
        assert_eq!(loss.filtered, 12);
    }

    #[test]
    fn a_tuple_makes_a_packet_that_decodes_to_it() {
        let v6 = |last| std::net::IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, last]);
        for protocol in [6, 17] {
            let v6 = FiveTuple { protocol, src: v6(1), dst: v6(2), ..tuple(443) };
            for tuple in [FiveTuple { protocol, ..tuple(443) }, v6] {
                let bytes = packet_of(tuple);
                let len = bytes.len() as u32;
                let headers = psc_formats::packet::decode(LinkType::RAW, &bytes, len);
                assert_eq!(headers.tuple(), Some(tuple));
                assert_eq!(headers.malformed, None, "{tuple}");
            }
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut recent = Recent::new();
        for key in 0..5 * REMEMBERED {
            recent.insert(key);
            recent.touch(0);
        }
        assert!(recent.young.len() + recent.old.len() <= 2 * REMEMBERED);
        assert!(recent.touch(0), "what is asked for stays");
        assert!(!recent.touch(1), "what is not goes");
    }
}
