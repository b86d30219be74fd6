//! Route probes and their answers: traceroute, mtr, Trippy and kin, seen as packets.
//!
//! A packet that is sent with so small a TTL that it may expire on its way is a candidate. What comes
//! back about it (time exceeded, unreachable, an echo reply, a TCP answer) is matched by what the
//! answer quotes: ports, identification, checksum or length, echo identifier and sequence. Routers
//! choose among equal ways by a flow's key, so packets are kept apart by key: classic traceroute
//! changes it with each probe, Paris and Dublin keep it for a run.

use std::collections::BTreeMap;
use std::net::IpAddr;

use psc_formats::FiveTuple;
use psc_formats::fact::RouteProbesFact;
use psc_formats::packet::{Headers, Icmp, Network, Quoted, Transport};

use super::spread::Samples;
use super::{hops, place};
use crate::analyzer::tcp::{ACK, RST, SYN};
use crate::bounded::Bounded;
use crate::engine::JourneyId;
use crate::first_sight::Direction;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// Probes that may still be answered, by what quotations can name.
const PENDING: usize = 16_384;
/// Probes of one key under way at once.
const ALIKE: usize = 64;
/// Routes kept.
const RUNS: usize = 4_096;
/// Flow keys of one route whose hops are told apart.
const KEYS: usize = 256;
/// Answering addresses kept at one TTL.
const NODES: usize = 64;

/// Largest initial TTL of a candidate where packets are seen to be born. Hosts start with 64 and more.
const BORN: u8 = 63;
/// Largest in a capture that may have been made anywhere on the way: traceroute and mtr stop at 30.
const CAPTURED: u8 = 32;

/// What chooses among equal ways: ports, or identifier and checksum of an echo.
pub(super) type FlowKey = (u16, u16);

/// A route: namespace, source, target, protocol (ICMPv6 counts as ICMP), and whether it comes from
/// stored results.
pub(super) type RunKey = (u32, IpAddr, IpAddr, u8, bool);

/// What kind of answer came. In the order of what is told of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Answer {
    /// A router let it expire.
    Expired,
    /// Echo reply.
    Echo,
    /// Nobody listens there: the usual answer of the target to UDP.
    Port,
    /// SYN-ACK or RST, or a datagram.
    Transport,
    /// Refused on the way or at the target, with the code.
    Unreachable(u8),
}

impl Answer {
    /// In the words of traceroute's flags and RFC 792.
    pub(super) fn words(self, v6: bool) -> &'static str {
        match self {
            Self::Expired => "time exceeded",
            Self::Echo => "echo reply",
            Self::Port => "port unreachable",
            Self::Transport => "answer of the service",
            Self::Unreachable(code) => {
                super::icmp_error(v6, if v6 { 1 } else { 3 }, code).unwrap_or("unreachable")
            }
        }
    }
}

#[derive(Clone, Debug)]
struct Pending {
    at: u64,
    left: u64,
    journey: Option<JourneyId>,
    ttl: u8,
    ip_id: u16,
    /// UDP: (length, checksum).
    udp: Option<(u16, u16)>,
    tcp_seq: Option<u32>,
    key: FlowKey,
    run: RunKey,
}

/// One address at one TTL.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) answers: u64,
    pub(super) rtt: Samples,
    /// TTL that its last answer had left.
    pub(super) ttl_left: Option<u8>,
    pub(super) mpls: Vec<String>,
    pub(super) translated: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Hop {
    pub(super) sent: u64,
    pub(super) nodes: BTreeMap<(IpAddr, Answer), Node>,
}

/// All that is known of one route.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) hops: BTreeMap<u8, Hop>,
    /// By flow key, which address answered last at each TTL, and whether that ever changed.
    pub(super) flows: BTreeMap<FlowKey, BTreeMap<u8, (IpAddr, Answer, bool)>>,
    /// A time-exceeded answer came.
    pub(super) expired: bool,
}

impl Run {
    fn sent(&mut self, at: u64, ttl: u8) {
        if self.hops.is_empty() {
            self.first = at;
        }
        self.last = self.last.max(at);
        self.hops.entry(ttl).or_default().sent += 1;
    }

    fn answered(&mut self, at: u64, ttl: u8, key: FlowKey, seen: &Seen) {
        self.last = self.last.max(at);
        self.expired |= seen.answer == Answer::Expired;
        let hop = self.hops.entry(ttl).or_default();
        let node_key = (seen.from, seen.answer);
        if hop.nodes.len() < NODES || hop.nodes.contains_key(&node_key) {
            let node = hop.nodes.entry(node_key).or_default();
            node.answers += 1;
            node.rtt.add(seen.rtt_ns);
            node.ttl_left = seen.ttl_left.or(node.ttl_left);
            node.translated |= seen.translated;
            for label in &seen.mpls {
                if node.mpls.len() < 8 && !node.mpls.contains(label) {
                    node.mpls.push(label.clone());
                }
            }
        }
        if self.flows.len() < KEYS || self.flows.contains_key(&key) {
            let ways = self.flows.entry(key).or_default();
            let changed =
                ways.get(&ttl).is_some_and(|(from, _, changed)| *changed || *from != seen.from);
            ways.insert(ttl, (seen.from, seen.answer, changed));
        }
    }

    /// Whether these were route probes and not just packets with a small TTL.
    fn is_route(&self) -> bool {
        let sent = || self.hops.iter().filter(|(_, hop)| hop.sent > 0).map(|(ttl, _)| *ttl);
        self.expired || (sent().next().is_some_and(|ttl| ttl <= 2) && sent().count() >= 3)
    }
}

/// An answer, matched.
struct Seen {
    from: IpAddr,
    answer: Answer,
    rtt_ns: u64,
    ttl_left: Option<u8>,
    mpls: Vec<String>,
    translated: bool,
}

/// Watches candidates and answers.
#[derive(Debug)]
pub(super) struct Probes {
    pending: Bounded<(u32, FiveTuple), Vec<Pending>>,
    runs: Bounded<RunKey, Run>,
}

impl Default for Probes {
    fn default() -> Self {
        Self { pending: Bounded::new(PENDING), runs: Bounded::new(RUNS) }
    }
}

/// The tuple by which an answer can name the packet: echo identifier and sequence stand for ports.
fn name(headers: &Headers) -> Option<FiveTuple> {
    let mut tuple = headers.tuple()?;
    if let Transport::Icmp(icmp) = &headers.transport {
        let v6 = matches!(headers.network, Network::V6(_));
        if icmp.icmp_type != if v6 { 128 } else { 8 } {
            return None;
        }
        tuple.sport = (icmp.rest >> 16) as u16;
        tuple.dport = icmp.rest as u16;
    }
    Some(tuple)
}

fn quoted_name(quoted: &Quoted) -> FiveTuple {
    let mut tuple = quoted.tuple;
    if let Some((id, seq)) = quoted.echo {
        (tuple.sport, tuple.dport) = (id, seq);
    }
    tuple
}

fn flow_key(headers: &Headers) -> FlowKey {
    match &headers.transport {
        Transport::Icmp(icmp) => ((icmp.rest >> 16) as u16, icmp.checksum),
        Transport::Tcp(tcp) => (tcp.sport, tcp.dport),
        Transport::Udp(udp) => (udp.sport, udp.dport),
        Transport::Ports(sport, dport) => (*sport, *dport),
        Transport::None => (0, 0),
    }
}

fn ip_id(headers: &Headers) -> u16 {
    match headers.network {
        Network::V4(ip) => ip.id,
        Network::V6(_) | Network::Arp(_) | Network::None => 0,
    }
}

/// ICMP and ICMPv6 as one.
fn protocol(number: u8) -> u8 {
    if number == ICMPV6 { ICMP } else { number }
}

impl Probes {
    /// One sighting. `born`: the packet is seen where it was made, for the first time.
    pub(super) fn sighting(
        &mut self,
        (netns, direction): (u32, Direction),
        at: u64,
        journey: Option<JourneyId>,
        born: bool,
        headers: &Headers,
    ) {
        if direction != Direction::Ingress {
            self.leaves((netns, direction), at, journey, born, headers);
        }
        if direction != Direction::Egress && self.pending.len() > 0 {
            self.comes(netns, at, headers);
        }
    }

    fn leaves(
        &mut self,
        (netns, direction): (u32, Direction),
        at: u64,
        journey: Option<JourneyId>,
        born: bool,
        headers: &Headers,
    ) {
        let Some(ttl) = headers.ttl() else { return };
        let most = if direction == Direction::Unknown { CAPTURED } else { BORN };
        if ttl > most || ttl == 0 {
            return;
        }
        let Some(protocol_number) = headers.protocol() else { return };
        if !matches!(protocol_number, ICMP | ICMPV6 | TCP | UDP) {
            return;
        }
        let (Some(tuple), Some((src, dst))) = (name(headers), headers.addresses()) else { return };
        if !place::crosses_routers(src) || !place::crosses_routers(dst) {
            return;
        }
        let run = (netns, src, dst, protocol(protocol_number), false);
        let pending = Pending {
            at,
            left: at,
            journey,
            ttl,
            ip_id: ip_id(headers),
            udp: match &headers.transport {
                Transport::Udp(udp) => Some((udp.len, udp.checksum)),
                _ => None,
            },
            tcp_seq: headers.tcp().map(|tcp| tcp.seq),
            key: flow_key(headers),
            run,
        };
        let slot = (netns, tuple);
        if !born {
            // Another sight of one on its way out.
            if let Some(known) = self.pending.get_mut(&slot)
                && let Some(same) = known.iter_mut().find(|one| one.journey == journey)
                && journey.is_some()
            {
                same.left = at;
            }
            return;
        }
        let alike = self.pending.entry_or_forget(slot, Vec::new);
        // Queued twice, as on a bridge's port.
        let again = alike.iter_mut().find(|one| {
            journey.is_some()
                && (one.journey, one.ttl, one.ip_id, one.udp, one.tcp_seq)
                    == (journey, ttl, pending.ip_id, pending.udp, pending.tcp_seq)
        });
        if let Some(again) = again {
            again.left = at;
            return;
        }
        // A router's own capture has the packet twice, the second time with one hop less to go.
        let forwarded = alike.last().is_some_and(|last| {
            last.ttl == ttl + 1
                && journey.is_none()
                && (last.ip_id, last.udp, last.tcp_seq)
                    == (pending.ip_id, pending.udp, pending.tcp_seq)
                && at.saturating_sub(last.at) < 1_000_000
        });
        if forwarded {
            return;
        }
        if alike.len() == ALIKE {
            alike.remove(0);
        }
        alike.push(pending);
        self.runs.entry_or_forget(run, Run::default).sent(at, ttl);
    }

    fn comes(&mut self, netns: u32, at: u64, headers: &Headers) {
        let Some((src, _)) = headers.addresses() else { return };
        let v6 = matches!(headers.network, Network::V6(_));
        match &headers.transport {
            Transport::Icmp(icmp) => {
                if let Some(quoted) = &icmp.quoted {
                    let Some(answer) = error(v6, icmp) else { return };
                    let slot = (netns, quoted_name(quoted));
                    self.matched(slot, |one| quote_score(one, quoted), at, src, answer, headers);
                } else if icmp.icmp_type == if v6 { 129 } else { 0 } {
                    let Some(mut tuple) = headers.tuple().map(FiveTuple::reversed) else { return };
                    (tuple.sport, tuple.dport) = ((icmp.rest >> 16) as u16, icmp.rest as u16);
                    self.matched((netns, tuple), |_| Some(0), at, src, Answer::Echo, headers);
                }
            }
            Transport::Tcp(tcp) => {
                // Only what answers a SYN; established traffic passes by.
                let answers = tcp.flags & RST != 0 || tcp.flags & (SYN | ACK) == SYN | ACK;
                let Some(tuple) = headers.tuple().filter(|_| answers) else { return };
                let acked = tcp.ack;
                let score = |one: &Pending| {
                    let next = one.tcp_seq.map(|seq| seq.wrapping_add(1));
                    (next == Some(acked)).then_some(0)
                };
                let slot = (netns, tuple.reversed());
                self.matched(slot, score, at, src, Answer::Transport, headers);
            }
            Transport::Udp(_) => {
                let Some(tuple) = headers.tuple() else { return };
                let slot = (netns, tuple.reversed());
                self.matched(slot, |_| Some(0), at, src, Answer::Transport, headers);
            }
            Transport::Ports(..) | Transport::None => {}
        }
    }

    /// Takes the probe that an answer is about out of those under way: the one with the best score, the
    /// earliest of equals.
    fn matched(
        &mut self,
        slot: (u32, FiveTuple),
        score: impl Fn(&Pending) -> Option<u32>,
        at: u64,
        from: IpAddr,
        answer: Answer,
        headers: &Headers,
    ) {
        let Some(alike) = self.pending.get_mut(&slot) else { return };
        let best = alike
            .iter()
            .enumerate()
            .filter_map(|(index, one)| Some((score(one)?, index)))
            .max_by_key(|(score, index)| (*score, std::cmp::Reverse(*index)));
        let Some((_, index)) = best else { return };
        let probe = alike.remove(index);
        if alike.is_empty() {
            self.pending.remove(&slot);
        }
        let seen = Seen {
            from,
            answer,
            rtt_ns: at.saturating_sub(probe.left),
            ttl_left: headers.ttl(),
            mpls: Vec::new(),
            translated: false,
        };
        let run = self.runs.entry_or_forget(probe.run, Run::default);
        run.answered(at, probe.ttl, probe.key, &seen);
    }

    /// Results that a prober stored; they stand instead of the packets of the same route.
    pub(super) fn stored(&mut self, fact: &RouteProbesFact) {
        let (Some(src), Some(dst)) = (fact.source, fact.target) else { return };
        self.runs.remove(&(fact.netns, src, dst, protocol(fact.protocol), false));
        let key = (fact.netns, src, dst, protocol(fact.protocol), true);
        let run = self.runs.entry_or_forget(key, Run::default);
        for probe in &fact.probes {
            run.sent(probe.at, probe.ttl);
            let Some(answer) = &probe.answer else { continue };
            let v6 = dst.is_ipv6();
            let kind = match answer.kind.as_str() {
                "time-exceeded" => Answer::Expired,
                "echo-reply" => Answer::Echo,
                "unreachable" if answer.code == if v6 { 4 } else { 3 } => Answer::Port,
                "unreachable" => Answer::Unreachable(answer.code),
                _ => Answer::Transport,
            };
            let seen = Seen {
                from: answer.from,
                answer: kind,
                rtt_ns: answer.rtt_ns,
                ttl_left: None,
                mpls: answer
                    .mpls
                    .iter()
                    .take(8)
                    .map(|(label, exp, ttl)| format!("label {label} exp {exp} ttl {ttl}"))
                    .collect(),
                translated: answer.translated,
            };
            run.answered(probe.at.saturating_add(answer.rtt_ns), probe.ttl, probe.flow, &seen);
        }
    }

    /// Whether a packet to this tuple is a candidate under way: errors about it are no surprise.
    pub(super) fn awaits(&self, netns: u32, quoted: &Quoted) -> bool {
        self.pending.get(&(netns, quoted_name(quoted))).is_some()
    }

    /// Routes, by key, and how many were forgotten.
    pub(super) fn finish(self) -> (BTreeMap<RunKey, Run>, u64) {
        let forgotten = self.runs.evicted();
        // What a prober says of itself is a route, however short, and when nobody answered.
        let runs = self.runs.into_oldest_first().into_iter();
        let runs = runs.filter(|((.., stored), run)| *stored || run.is_route()).collect();
        (runs, forgotten)
    }
}

/// How well a quotation fits a probe with the same name; `None` when it contradicts it.
fn quote_score(one: &Pending, quoted: &Quoted) -> Option<u32> {
    if let (Some(sent), Some(said)) = (one.tcp_seq, quoted.tcp_seq)
        && sent != said
    {
        return None;
    }
    let mut score = 0;
    // Identification 0 says nothing: Linux sends it with DF set.
    if one.ip_id != 0 && quoted.ip_id != 0 {
        score += if one.ip_id == quoted.ip_id { 4 } else { 0 };
    }
    if let (Some(sent), Some(said)) = (one.udp, quoted.udp) {
        // A checksum may be completed after it was recorded, a length never.
        score += if sent.1 == said.1 { 2 } else { 0 };
        score += u32::from(sent.0 == said.0);
    }
    Some(score)
}

fn error(v6: bool, icmp: &Icmp) -> Option<Answer> {
    Some(match (v6, icmp.icmp_type, icmp.code) {
        (false, 11, 0) | (true, 3, 0) => Answer::Expired,
        (false, 3, 3) | (true, 1, 4) => Answer::Port,
        (false, 3, code) | (true, 1, code) => Answer::Unreachable(code),
        _ => return None,
    })
}

/// Hops that an answer passed on its way back, estimated.
pub(super) fn back_hops(node: &Node) -> Option<u8> {
    // Counted like hops there: the first router, whose answer has lost nothing, is one hop away.
    node.ttl_left.map(|ttl| hops::estimate(ttl).saturating_add(1))
}
