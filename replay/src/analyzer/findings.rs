//! Conclusions that need more than one row: what was lost, where, and what to look at.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use psc_formats::fact::SocketFact;
use psc_formats::packet::Headers;
use psc_formats::{Event, Tables};

use crate::bounded::Bounded;
use crate::view::Provenance;
use crate::view::analyze::{CounterRow, DropRow, ThreeLosses};
use crate::view::detect::Finding;

use super::counters::Deltas;
use super::tcp::{ACK, SYN};

const TCP: u8 = 6;

/// `TCP_LISTEN` of `include/net/tcp_states.h`.
const LISTEN: u8 = 10;

/// Half-open SYNs remembered, to see them again.
const SYNS: usize = 16_384;

/// Listeners named on the evidence of SYNs alone.
const SUSPECTS: usize = 5;

/// Listeners for which SYN retransmissions are kept.
const LISTENERS: usize = 4_096;

/// How often sockets are looked at while connections are being made.
const LOOK_NS: u64 = 100_000_000;

/// Retransmitted share of sent segments from which network loss is a finding: above it, the
/// throughput of loss-based congestion control falls off (Mathis et al., CCR 1997).
const RETRANSMIT_PER_MILLE: u64 = 10;

/// What a listener's clients went through.
#[derive(Clone, Copy, Debug, Default)]
struct Clients {
    resent: u64,
    first: u64,
    last: u64,
}

/// Watches SYNs, and draws conclusions at the end.
#[derive(Debug)]
pub(super) struct Findings {
    /// First SYN of (client, server, sequence number).
    syns: Bounded<(SocketAddr, SocketAddr, u32), ()>,
    clients: Bounded<SocketAddr, Clients>,
    snapshots: Snapshots,
}

/// The worst snapshot of each listener, since queues drain again.
#[derive(Debug, Default)]
struct Snapshots {
    seen: usize,
    /// When to look again: a socket with an id keeps only its latest fact.
    next: u64,
    full: BTreeMap<(u32, SocketAddr), SocketFact>,
}

impl Default for Findings {
    fn default() -> Self {
        Self {
            syns: Bounded::new(SYNS),
            clients: Bounded::new(LISTENERS),
            snapshots: Snapshots::default(),
        }
    }
}

impl Findings {
    /// One packet, told once.
    pub(super) fn packet(&mut self, tables: &Tables, event: &Event, headers: &Headers) {
        let (Some(tcp), Some((src, dst))) = (headers.tcp(), headers.addresses()) else { return };
        if tcp.flags & (SYN | ACK) != SYN {
            return;
        }
        let at = event.at.0;
        if at >= self.snapshots.next {
            self.snapshots.update(tables);
            self.snapshots.next = at.saturating_add(LOOK_NS);
        }
        let server = SocketAddr::new(dst, tcp.dport);
        let key = (SocketAddr::new(src, tcp.sport), server, tcp.seq);
        if self.syns.get_mut(&key).is_some() {
            let clients =
                self.clients.entry_or_forget(server, || Clients { resent: 0, first: at, last: at });
            clients.resent += 1;
            clients.last = at;
        } else {
            self.syns.entry_or_forget(key, || ());
        }
    }

    pub(super) fn finish(
        mut self,
        tables: &Tables,
        provenance: &Provenance,
        rows: &Rows<'_>,
    ) -> Vec<Finding> {
        self.snapshots.update(tables);
        let mut findings = Vec::new();
        for netns in tables.counters.iter().map(|fact| fact.netns).collect::<BTreeSet<_>>() {
            let deltas = Deltas::of(tables, netns);
            findings.extend(self.listen_overflow(tables, netns, &deltas, provenance));
            findings.extend(device_loss(tables, netns, &deltas, provenance));
        }
        findings.extend(full_buffers(rows.drops));
        findings.extend(network_loss(rows.loss, provenance));
        findings.extend(disagreement(rows.counters));
        crate::view::detect::sort(&mut findings);
        findings
    }

    /// A full accept queue drops SYNs (and final ACKs) with no `kfree_skb` at all, so the only
    /// witnesses are the counters, the socket, and clients that try again.
    fn listen_overflow(
        &self,
        tables: &Tables,
        netns: u32,
        deltas: &Deltas<'_>,
        provenance: &Provenance,
    ) -> Option<Finding> {
        let overflows = deltas.get("TcpExtListenOverflows").unwrap_or(0);
        if overflows == 0 {
            return None;
        }
        let drops = deltas.get("TcpExtListenDrops").unwrap_or(0);
        let place = super::netns_name(tables, netns);
        let mut evidence = vec![format!(
            "TcpExtListenOverflows rose by {overflows} and TcpExtListenDrops by {drops} in \
             namespace {place}."
        )];
        let full: Vec<&SocketFact> = self
            .snapshots
            .full
            .iter()
            .filter(|((of, _), _)| *of == netns)
            .map(|(_, fact)| fact)
            .collect();
        let mut targets = Vec::new();
        for socket in &full {
            let Some((addr, port)) = socket.local else { continue };
            let owner = if socket.pid == 0 {
                String::new()
            } else {
                format!(" of {}[{}]", socket.comm, socket.pid)
            };
            targets.push(format!("{}{owner}", SocketAddr::new(addr, port)));
            evidence.push(format!(
                "Listener {}{owner} had {} connections waiting with a backlog of {}.",
                SocketAddr::new(addr, port),
                socket.recv_queue,
                socket.send_queue
            ));
        }
        let (mut first, mut last, mut resent) = (u64::MAX, 0, 0);
        let mut tried: Vec<(u64, SocketAddr)> = Vec::new();
        for (server, clients) in self.clients.iter() {
            let named = full.is_empty()
                || full.iter().any(|s| s.local.is_some_and(|local| listens(local, *server)));
            if named && is_local(tables, netns, server.ip()) {
                tried.push((clients.resent, *server));
                resent += clients.resent;
                first = first.min(clients.first);
                last = last.max(clients.last);
            }
        }
        if full.is_empty() {
            evidence.push(
                "No socket snapshot caught a listener with a full queue; those named are the ones \
                 that left SYNs unanswered."
                    .to_owned(),
            );
            tried.sort_by_key(|(n, server)| (std::cmp::Reverse(*n), *server));
            let suspects = tried.iter().take(SUSPECTS);
            targets.extend(suspects.map(|(n, server)| {
                format!("{server} (likely: {} sent to it again)", counted(*n, "SYN"))
            }));
        }
        if resent > 0 {
            evidence.push(format!("Clients sent {resent} SYNs again because none was answered."));
        }
        Some(Finding {
            id: "listen-overflow".to_owned(),
            severity: "high".to_owned(),
            confidence: if full.is_empty() {
                "medium: the counter is certain, which listener is not".to_owned()
            } else {
                "high".to_owned()
            },
            title: format!(
                "A full accept queue dropped {} in namespace {place}; the kernel frees these \
                 without an event.",
                counted(overflows, "connection attempt")
            ),
            evidence,
            effect: format!("confirmed: the kernel counted {overflows} overflows."),
            advice: "Accept faster, or raise the backlog given to listen() and \
                     net.core.somaxconn; watch `ss -ltn` (Recv-Q above Send-Q)."
                .to_owned(),
            actors: Vec::new(),
            targets,
            first: if resent > 0 { first } else { provenance.first },
            last: if resent > 0 { last } else { provenance.last },
            packets: overflows,
            journeys: Vec::new(),
            references: vec!["listen(2)".to_owned(), "RFC 9293 section 3.10.7.2".to_owned()],
        })
    }
}

impl Snapshots {
    fn update(&mut self, tables: &Tables) {
        let new = tables.socket_snapshots.iter().skip(self.seen);
        for fact in new.chain(tables.sockets.values()) {
            let Some((addr, port)) = fact.local else { continue };
            // The queue holds one more than the backlog before it overflows.
            if fact.protocol != TCP
                || fact.state != LISTEN
                || fact.recv_queue < fact.send_queue.max(1)
            {
                continue;
            }
            let slot = self.full.entry((fact.netns, SocketAddr::new(addr, port)));
            let worst = slot.or_insert_with(|| fact.clone());
            if (worst.recv_queue, fact.pid) < (fact.recv_queue, worst.pid) {
                *worst = fact.clone();
            }
        }
        self.seen = tables.socket_snapshots.len();
    }
}

/// What the findings at the end draw on.
pub(super) struct Rows<'a> {
    pub(super) drops: &'a [DropRow],
    pub(super) counters: &'a [CounterRow],
    pub(super) loss: &'a ThreeLosses,
}

fn listens(local: (IpAddr, u16), server: SocketAddr) -> bool {
    local.1 == server.port() && (local.0.is_unspecified() || local.0 == server.ip())
}

/// Whether `addr` is an address of the namespace; true where no addresses are known.
fn is_local(tables: &Tables, netns: u32, addr: IpAddr) -> bool {
    let mut known = false;
    for device in tables.devices.values().filter(|device| device.netns == netns) {
        for local in &device.addresses {
            known = true;
            if local.split('/').next().and_then(|a| a.parse().ok()) == Some(addr) {
                return true;
            }
        }
    }
    !known
}

fn counted(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn device_loss(
    tables: &Tables,
    netns: u32,
    deltas: &Deltas<'_>,
    provenance: &Provenance,
) -> Option<Finding> {
    let losses = deltas.device_losses();
    if losses.is_empty() {
        return None;
    }
    let total: u64 = losses.iter().fold(0, |sum, (_, n)| sum.saturating_add(*n));
    Some(Finding {
        id: "device-loss".to_owned(),
        severity: "medium".to_owned(),
        confidence: "high".to_owned(),
        title: format!(
            "Devices or the backlog of namespace {} lost packets outside of what events show.",
            super::netns_name(tables, netns)
        ),
        evidence: losses.iter().map(|(name, n)| format!("{name} rose by {n}.")).collect(),
        effect: "confirmed: the counters are the kernel's own; one packet may count in several."
            .to_owned(),
        advice: "`ethtool -S DEVICE`, `ethtool -g DEVICE` (ring sizes), /proc/net/softnet_stat, \
                 net.core.netdev_max_backlog."
            .to_owned(),
        targets: losses.into_iter().map(|(name, _)| name).collect(),
        first: provenance.first,
        last: provenance.last,
        packets: total,
        ..Finding::default()
    })
}

fn full_buffers(drops: &[DropRow]) -> Option<Finding> {
    let rows: Vec<&DropRow> = drops
        .iter()
        .filter(|row| row.reason == "SOCKET_RCVBUFF" || row.reason == "SOCKET_BACKLOG")
        .collect();
    let packets: u64 = rows.iter().fold(0, |sum, row| sum.saturating_add(row.packets));
    let first = rows.iter().map(|row| row.first).min()?;
    Some(Finding {
        id: "socket-buffer-full".to_owned(),
        severity: "medium".to_owned(),
        confidence: "high".to_owned(),
        title: format!(
            "{} dropped because a socket's buffer was full.",
            if packets == 1 {
                "1 packet was".to_owned()
            } else {
                format!("{packets} packets were")
            }
        ),
        evidence: rows
            .iter()
            .map(|row| format!("{} of {} at {}.", row.packets, row.reason, row.location))
            .collect(),
        effect: "confirmed: the stack freed them with that reason.".to_owned(),
        advice: "Read faster; `ss -uamn` shows skmem and drops per socket; SO_RCVBUF and \
                 net.core.rmem_max bound the buffer."
            .to_owned(),
        targets: rows
            .iter()
            .flat_map(|row| row.flows.iter().map(|(flow, _)| flow.clone()))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .take(5)
            .collect(),
        first,
        last: rows.iter().map(|row| row.last).max().unwrap_or(first),
        packets,
        journeys: rows.iter().flat_map(|row| row.journeys.iter().copied()).take(5).collect(),
        ..Finding::default()
    })
}

fn network_loss(loss: &ThreeLosses, provenance: &Provenance) -> Option<Finding> {
    let (again, sent) = (loss.network_retransmitted, loss.network_sent);
    if again < 10 || again.saturating_mul(1000) < sent.saturating_mul(RETRANSMIT_PER_MILLE) {
        return None;
    }
    Some(Finding {
        id: "retransmissions".to_owned(),
        severity: "medium".to_owned(),
        confidence: match provenance.completeness.lost {
            Some(0) => "high".to_owned(),
            Some(lost) => format!("medium: the recorder lost {lost} events"),
            None => "medium: the capture does not say what it lost".to_owned(),
        },
        title: format!("{again} of {sent} TCP segments were sent again."),
        evidence: vec![format!(
            "{again} retransmissions against {sent} segments with data, SYN or FIN ({} per mille).",
            again.saturating_mul(1000) / sent.max(1)
        )],
        effect: "not confirmed: a retransmission shows that the sender waited in vain, not where \
                 the segment or its acknowledgement was lost."
            .to_owned(),
        advice: "Look at the connections with the most retransmissions, then at the drops above: \
                 what is not dropped here is lost in the network or at the peer."
            .to_owned(),
        first: provenance.first,
        last: provenance.last,
        packets: again,
        ..Finding::default()
    })
}

/// The recording contradicting the kernel is about the recording, so it is said, but last.
fn disagreement(counters: &[CounterRow]) -> Option<Finding> {
    let rows: Vec<&CounterRow> = counters
        .iter()
        .filter(|row| row.verdict.starts_with("differs") && !row.verdict.contains(';'))
        .collect();
    if rows.is_empty() {
        return None;
    }
    Some(Finding {
        id: "counter-disagreement".to_owned(),
        severity: "info".to_owned(),
        confidence: "high".to_owned(),
        title: format!(
            "{} of the kernel and the count from events differ without known loss.",
            counted(rows.len() as u64, "counter")
        ),
        evidence: rows
            .iter()
            .map(|row| {
                format!(
                    "{} in {}: kernel {}, events {}.",
                    row.name,
                    row.netns,
                    row.kernel,
                    row.events.unwrap_or(0)
                )
            })
            .collect(),
        effect: "not observable: this is about the recording, not the network.".to_owned(),
        advice: "Distrust counts of these kinds in this recording; `psc info` lists probes that \
                 failed."
            .to_owned(),
        ..Finding::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use psc_formats::EventKind;
    use psc_formats::Fact;
    use psc_formats::fact::{CountersFact, DeviceFact};

    fn tables(overflows: u64) -> Tables {
        let mut tables = Tables::default();
        tables.apply(&Fact::Device(DeviceFact {
            id: 1,
            netns: 10,
            netns_name: "server".to_owned(),
            addresses: vec!["10.0.0.2/24".to_owned()],
            ..DeviceFact::default()
        }));
        for (at, value) in [(0, 5), (9, 5 + overflows)] {
            let names = ["TcpExtListenOverflows", "TcpExtListenDrops"];
            tables.apply(&Fact::Counters(CountersFact {
                at,
                netns: 10,
                values: names.map(|name| (name.to_owned(), value)).into(),
            }));
        }
        tables
    }

    fn listener(recv_queue: u32) -> Fact {
        Fact::Socket(SocketFact {
            netns: 10,
            protocol: TCP,
            state: LISTEN,
            local: Some((sample::ip("0.0.0.0"), 80)),
            recv_queue,
            send_queue: 2,
            pid: 77,
            comm: "slowd".to_owned(),
            ..SocketFact::default()
        })
    }

    fn conclude(findings: Findings, tables: &Tables) -> Vec<Finding> {
        let loss = ThreeLosses::default();
        let rows = Rows { drops: &[], counters: &[], loss: &loss };
        findings.finish(tables, &Provenance::default(), &rows)
    }

    #[test]
    fn a_full_accept_queue_is_found_though_no_event_tells_it() {
        let mut findings = Findings::default();
        let syn = |port: u16, seq| {
            sample::tcp(&format!("10.0.0.1:{port}"), "10.0.0.2:80", SYN, seq, 0, 0)
        };
        for (at, headers) in [(1, syn(1, 10)), (2, syn(2, 20)), (3, syn(1, 10)), (7, syn(2, 20))] {
            let event = sample::event(at, EventKind::Receive {}).into();
            findings.packet(&Tables::default(), &event, &headers);
        }
        let mut tables = tables(4);
        tables.apply(&listener(3));
        tables.apply(&listener(0));
        let found = conclude(findings, &tables);
        assert_eq!(found.len(), 1);
        let finding = &found[0];
        assert_eq!((finding.id.as_str(), finding.packets), ("listen-overflow", 4));
        assert_eq!(finding.targets, ["0.0.0.0:80 of slowd[77]"]);
        assert_eq!((finding.first, finding.last), (3, 7));
        assert!(finding.title.contains("4 connection attempts"), "{}", finding.title);
        assert!(
            finding
                .evidence
                .iter()
                .any(|e| e.contains("3 connections waiting with a backlog of 2"))
        );
        assert!(finding.evidence.iter().any(|e| e.contains("2 SYNs again")));
        assert_eq!(finding.confidence, "high");
    }

    #[test]
    fn without_the_socket_the_listener_is_not_guessed() {
        let found = conclude(Findings::default(), &tables(4));
        assert!(found[0].targets.is_empty());
        let mut findings = Findings::default();
        for at in [1, 5] {
            let event = sample::event(at, EventKind::Receive {}).into();
            let syn = sample::tcp("10.0.0.1:9", "10.0.0.2:81", SYN, 10, 0, 0);
            findings.packet(&Tables::default(), &event, &syn);
        }
        let found = conclude(findings, &tables(4));
        assert_eq!(found[0].targets, ["10.0.0.2:81 (likely: 1 SYN sent to it again)"]);
        assert!(found[0].confidence.starts_with("medium"));
    }

    #[test]
    fn a_busy_listener_without_overflow_is_no_finding() {
        let mut tables = tables(0);
        tables.apply(&listener(2));
        assert!(conclude(Findings::default(), &tables).is_empty());
    }

    #[test]
    fn retransmissions_are_a_finding_from_one_percent() {
        for (again, sent, found) in [(9, 100, 0), (10, 1000, 1), (10, 1001, 0), (100, 5000, 1)] {
            let loss = ThreeLosses {
                network_retransmitted: again,
                network_sent: sent,
                ..ThreeLosses::default()
            };
            let rows = Rows { drops: &[], counters: &[], loss: &loss };
            let findings =
                Findings::default().finish(&Tables::default(), &Provenance::default(), &rows);
            assert_eq!(findings.len(), found, "{again} of {sent}");
        }
    }
}
