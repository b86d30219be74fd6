//! The kernel's own counters against counts from events: agreement shows that the recording saw
//! what the kernel saw, disagreement is a self-diagnosis.

use std::collections::{BTreeMap, BTreeSet};

use psc_formats::event::{DeviceId, SockId, SymbolId};
use psc_formats::fact::CountersFact;
use psc_formats::{Event, EventKind, Manifest, Tables};

use crate::engine::{ClosedJourney, Outcome, World};
use crate::view::analyze::CounterRow;
use crate::view::{NoticeRow, Provenance};

/// What is counted from events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tally {
    /// Retransmitted segments, SYN-ACKs among them.
    Retransmits,
    ResetsSent,
    ActiveOpens,
    PassiveOpens,
    /// `icmp_send` of one type.
    IcmpSent(u8),
    /// Drops of one reason (index into [`DROPS`]).
    Dropped(usize),
}

/// Drops that have a counter: (counter, reasons, prefixes of the functions that drop, IP version
/// or 0 for both).
///
/// UDP over IPv6 has its own counters; TCP's are shared. `IpInHdrErrors` also counts what fails the
/// header checksum and what runs out of TTL.
#[rustfmt::skip]
const DROPS: &[(&str, &[&str], &[&str], u8)] = &[
    ("UdpNoPorts",                &["NO_SOCKET"],           &["udp", "__udp4"],                  4),
    ("Udp6NoPorts",               &["NO_SOCKET"],           &["udp", "__udp6"],                  6),
    ("UdpRcvbufErrors",           &["SOCKET_RCVBUFF"],      &["udp", "__udp"],                   4),
    ("Udp6RcvbufErrors",          &["SOCKET_RCVBUFF"],      &["udp", "__udp"],                   6),
    ("UdpInCsumErrors",           &["UDP_CSUM"],            &["udp", "__udp"],                   4),
    ("Udp6InCsumErrors",          &["UDP_CSUM"],            &["udp", "__udp"],                   6),
    ("TcpInCsumErrors",           &["TCP_CSUM"],            &[],                                 0),
    ("IcmpInCsumErrors",          &["ICMP_CSUM"],           &[],                                 4),
    ("IpInHdrErrors",             &["IP_INHDR", "IP_CSUM"], &[],                                 4),
    ("IpExtInCsumErrors",         &["IP_CSUM"],             &[],                                 4),
    ("IpInUnknownProtos",         &["IP_NOPROTO"],          &[],                                 4),
    ("IpOutNoRoutes",             &["IP_OUTNOROUTES"],      &[],                                 4),
    ("IpExtInNoRoutes",           &["IP_INNOROUTES"],       &[],                                 4),
    ("TcpExtIPReversePathFilter", &["IP_RPFILTER"],         &[],                                 4),
    ("TcpExtTCPBacklogDrop",      &["SOCKET_BACKLOG"],      &["tcp"],                            0),
    ("TcpExtTCPOFODrop",          &["TCP_OFO_DROP"],        &[],                                 0),
    ("TcpExtTCPZeroWindowDrop",   &["TCP_ZEROWINDOW"],      &[],                                 0),
    ("TcpExtTCPMinTTLDrop",       &["TCP_MINTTL"],          &[],                                 0),
    ("IpReasmFails",              &["FRAG_REASM_TIMEOUT"],  &[],                                 4),
];

/// Counters of socket and ICMP events, and the tracepoint that tells them.
#[rustfmt::skip]
const EVENTS: &[(&str, Tally, &str)] = &[
    ("TcpRetransSegs",      Tally::Retransmits,  "tcp_retransmit_skb"),
    ("TcpOutRsts",          Tally::ResetsSent,   "tcp_send_reset"),
    ("TcpActiveOpens",      Tally::ActiveOpens,  "inet_sock_set_state"),
    ("TcpPassiveOpens",     Tally::PassiveOpens, "inet_sock_set_state"),
    ("IcmpOutDestUnreachs", Tally::IcmpSent(3),  "icmp_send"),
    ("IcmpOutTimeExcds",    Tally::IcmpSent(11), "icmp_send"),
    ("IcmpOutRedirects",    Tally::IcmpSent(5),  "icmp_send"),
    ("IcmpOutParmProbs",    Tally::IcmpSent(12), "icmp_send"),
];

/// Counters worth showing though no event corresponds: each rise is something lost or refused.
const SILENT: &[&str] = &[
    "TcpExtListenOverflows",
    "TcpExtListenDrops",
    "TcpExtTCPReqQFullDoCookies",
    "TcpExtTCPReqQFullDrop",
    "TcpExtSyncookiesSent",
    "TcpExtSyncookiesFailed",
    "TcpExtPruneCalled",
    "TcpExtRcvPruned",
    "TcpExtOfoPruned",
    "TcpExtTCPRcvQDrop",
    "TcpExtTCPTimeouts",
    "TcpExtTCPAbortOnMemory",
    "TcpExtTCPMemoryPressures",
    "TcpExtTCPChallengeACK",
    "TcpExtPAWSEstab",
    "TcpInErrs",
    "TcpAttemptFails",
    "IpInDiscards",
    "IpOutDiscards",
    "IpInAddrErrors",
    "IpFragFails",
    "Ip6InHdrErrors",
    "Ip6InNoRoutes",
    "Ip6OutNoRoutes",
    "Ip6InDiscards",
    "Ip6OutDiscards",
    "UdpMemErrors",
    "UdpSndbufErrors",
    "Icmp6OutDestUnreachs",
];

/// Count of one tally in one namespace, cut at the kernel's own readings so that both sides speak of
/// the same time.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// Between the first reading and the latest known.
    inside: u64,
    /// After the latest reading known; moves inside when a later one comes.
    tail: u64,
    /// Readings known when `tail` was started.
    readings: usize,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    counts: BTreeMap<(Option<u32>, Tally), Count>,
    /// Times of the readings of each namespace, and how many facts were looked at for them.
    readings: BTreeMap<u32, Vec<u64>>,
    facts_seen: usize,
}

impl Counters {
    pub(super) fn sighting(&mut self, world: World<'_>, event: &Event) {
        let (tally, count) = match event.kind {
            EventKind::Retransmit { .. } => (Tally::Retransmits, u64::from(event.gso.segments())),
            EventKind::RetransmitFailed { rc, .. } if !UNCOUNTED.contains(&rc) => {
                (Tally::Retransmits, u64::from(event.gso.segments()))
            }
            EventKind::RetransmitSynAck { .. } => (Tally::Retransmits, 1),
            EventKind::SendReset { .. } => (Tally::ResetsSent, 1),
            EventKind::SockState { old: CLOSE, new: SYN_SENT, .. } => (Tally::ActiveOpens, 1),
            EventKind::SockState { old: SYN_RECV, new: ESTABLISHED, .. } => {
                (Tally::PassiveOpens, 1)
            }
            EventKind::IcmpSend { icmp_type, .. } => (Tally::IcmpSent(icmp_type), 1),
            EventKind::Repeated { kind, count, reason, location, .. } => {
                if kind == (EventKind::Free { reason: 0, location: SymbolId(0) }).tag() {
                    // A counted free has no packet to tell the IP version: its function must.
                    self.drop(world, event.at.0, event.device, (reason, location, None), count);
                }
                return;
            }
            _ => return,
        };
        let netns = netns_of(world.tables, event.device, event.sock);
        self.add(world.tables, netns, tally, event.at.0, count);
    }

    pub(super) fn journey(&mut self, world: World<'_>, journey: &ClosedJourney) {
        let Outcome::Dropped { reason, location } = journey.outcome else { return };
        let at = journey.tier_one().next_back().map_or(0, |event| event.at.0);
        let version = journey
            .headers
            .last()
            .and_then(|(_, headers)| headers.addresses())
            .map(|(src, _)| if src.is_ipv4() { 4 } else { 6 });
        let device = super::drops::place(&journey.steps);
        self.drop(world, at, device, (reason, location, version), 1);
    }

    fn drop(
        &mut self,
        world: World<'_>,
        at: u64,
        device: DeviceId,
        (reason, location, version): (u32, SymbolId, Option<u8>),
        count: u64,
    ) {
        let Some(reason) = world.manifest.drop_reasons.get(&reason) else { return };
        let function = world.tables.function(location);
        let version = version.unwrap_or(if function.contains('6') { 6 } else { 4 });
        for (index, (_, reasons, functions, of_version)) in DROPS.iter().enumerate() {
            let matches = reasons.contains(&reason.as_str())
                && (*of_version == 0 || *of_version == version)
                && (functions.is_empty() || functions.iter().any(|f| function.starts_with(f)));
            if matches {
                let netns = netns_of(world.tables, device, SockId(0));
                self.add(world.tables, netns, Tally::Dropped(index), at, count);
            }
        }
    }

    fn add(&mut self, tables: &Tables, netns: Option<u32>, tally: Tally, at: u64, count: u64) {
        for fact in tables.counters.iter().skip(self.facts_seen) {
            self.readings.entry(fact.netns).or_default().push(fact.at);
        }
        self.facts_seen = tables.counters.len();
        // One namespace read means that the recording is of that one.
        let only = || (self.readings.len() == 1).then(|| self.readings.keys().next().copied());
        let netns = netns.or_else(|| only().flatten());
        // Without a namespace the readings of any one will do: they are taken together.
        let readings = match netns {
            Some(netns) => self.readings.get(&netns),
            None => self.readings.values().next(),
        };
        let known = readings.map_or(0, |times| times.partition_point(|&time| time <= at));
        let slot = self.counts.entry((netns, tally)).or_default();
        if known > slot.readings {
            slot.inside += slot.tail;
            slot.tail = 0;
            slot.readings = known;
        }
        if known == 0 {
            // Before the first reading: the kernel's difference does not hold it either.
        } else if known < slot.readings {
            slot.inside = slot.inside.saturating_add(count);
        } else {
            slot.tail = slot.tail.saturating_add(count);
        }
    }

    /// Count of `tally` in `netns` between the first and the last of `readings` readings.
    fn count(&self, netns: Option<u32>, tally: Tally, readings: usize) -> u64 {
        let slot = self.counts.get(&(netns, tally)).copied().unwrap_or_default();
        slot.inside + if slot.readings < readings { slot.tail } else { 0 }
    }

    pub(super) fn rows(
        &self,
        manifest: &Manifest,
        tables: &Tables,
        provenance: &Provenance,
    ) -> Vec<CounterRow> {
        let judge = Judge::new(manifest, provenance);
        let mut rows = Vec::new();
        for netns in tables.counters.iter().map(|fact| fact.netns).collect::<BTreeSet<_>>() {
            let deltas = Deltas::of(tables, netns);
            let name = super::netns_name(tables, netns);
            for (counter, tally, source) in mapped() {
                let Some(kernel) = deltas.get(counter) else { continue };
                let events = self.count(Some(netns), tally, deltas.readings);
                let stray = self.count(None, tally, deltas.readings);
                if kernel == 0 && events == 0 {
                    continue;
                }
                let seen = source.is_none_or(|tracepoint| attached(manifest, tracepoint))
                    && source.is_some() | reasons_known(manifest, tally);
                rows.push(judge.row(&name, counter, kernel, seen.then_some(events), stray));
            }
            for counter in deltas.silent() {
                rows.push(judge.row(&name, &counter, deltas.get(&counter).unwrap_or(0), None, 0));
            }
        }
        rows.sort_by(|a, b| (&a.netns, &a.name).cmp(&(&b.netns, &b.name)));
        rows
    }
}

/// Errors with which `__tcp_retransmit_skb` gives up before it counts: EAGAIN, ENOMEM, EBUSY, EINVAL,
/// EHOSTUNREACH.
const UNCOUNTED: [i32; 5] = [-11, -12, -16, -22, -113];

const ESTABLISHED: u8 = 1;
const SYN_SENT: u8 = 2;
const SYN_RECV: u8 = 3;
const CLOSE: u8 = 7;

/// Every counter with its tally, and the tracepoint it comes from (`None` for drops).
fn mapped() -> impl Iterator<Item = (&'static str, Tally, Option<&'static str>)> {
    let drops = DROPS.iter().enumerate().map(|(i, (name, ..))| (*name, Tally::Dropped(i), None));
    EVENTS.iter().map(|&(name, tally, source)| (name, tally, Some(source))).chain(drops)
}

/// Whether this kernel names all reasons of a drop tally.
fn reasons_known(manifest: &Manifest, tally: Tally) -> bool {
    let Tally::Dropped(index) = tally else { return false };
    DROPS[index].1.iter().all(|reason| manifest.drop_reasons.values().any(|name| name == reason))
}

fn attached(manifest: &Manifest, tracepoint: &str) -> bool {
    manifest.probes.iter().any(|probe| {
        probe.name.rsplit(':').next() == Some(tracepoint)
            && probe.status == psc_formats::manifest::ProbeStatus::Attached
    })
}

/// The namespace of an event, by its device, else by its socket.
fn netns_of(tables: &Tables, device: DeviceId, sock: SockId) -> Option<u32> {
    let by_device = tables.devices.get(&device).map(|d| d.netns);
    by_device.or_else(|| tables.sockets.get(&sock).map(|s| s.netns)).filter(|netns| *netns != 0)
}

/// How much the counters of one namespace rose between the first and last reading.
pub(crate) struct Deltas<'a> {
    first: Option<&'a CountersFact>,
    last: Option<&'a CountersFact>,
    readings: usize,
}

impl<'a> Deltas<'a> {
    pub(crate) fn of(tables: &'a Tables, netns: u32) -> Self {
        let mut mine = tables.counters.iter().filter(|fact| fact.netns == netns);
        let readings = mine.clone().count();
        Self { first: mine.next(), last: mine.next_back(), readings }
    }

    /// The rise of `counter`; `None` with fewer than two readings, or where it was not read.
    pub(crate) fn get(&self, counter: &str) -> Option<u64> {
        let last = *self.last?.values.get(counter)?;
        // A counter that appears later (a module loaded meanwhile) started from nothing.
        let first = self.first?.values.get(counter).copied().unwrap_or(0);
        Some(last.saturating_sub(first))
    }

    /// Counters that rose and whose names begin and end so, with their rises.
    pub(crate) fn rises(&self, prefix: &str, suffix: &str) -> Vec<(String, u64)> {
        let Some(last) = self.last else { return Vec::new() };
        last.values
            .range(prefix.to_owned()..)
            .map(|(name, _)| name)
            .take_while(|name| name.starts_with(prefix))
            .filter(|name| name.ends_with(suffix))
            .filter_map(|name| Some((name.clone(), self.get(name)?)))
            .filter(|(_, rise)| *rise > 0)
            .collect()
    }

    /// Counters that rose, that tell a loss, and that no event corresponds to.
    fn silent(&self) -> Vec<String> {
        let Some(last) = self.last else { return Vec::new() };
        last.values
            .keys()
            .filter(|name| SILENT.contains(&name.as_str()) || is_device_loss(name))
            .filter(|name| self.get(name).is_some_and(|delta| delta > 0))
            .cloned()
            .collect()
    }

    /// Rises of counters of devices and of the backlog that tell packets lost before or after the
    /// stack, by name.
    pub(crate) fn device_losses(&self) -> Vec<(String, u64)> {
        self.silent()
            .into_iter()
            .filter(|name| is_device_loss(name))
            .filter_map(|name| self.get(&name).map(|delta| (name, delta)))
            .collect()
    }
}

/// `dev.eth0.rx_dropped`, `ethtool.eth0.rx_missed_errors`, `softnet.0.dropped`...
fn is_device_loss(name: &str) -> bool {
    let Some((group, rest)) = name.split_once('.') else { return false };
    let what = rest.rsplit('.').next().unwrap_or(rest);
    let loses = ["drop", "miss", "error", "fifo", "overrun", "discard", "no_buf", "alloc_fail"];
    match group {
        "softnet" => what == "dropped",
        "dev" | "ethtool" => loses.iter().any(|word| what.contains(word)),
        _ => false,
    }
}

/// The recording contradicting the kernel is about the recording, and said with what is known of it.
pub(super) fn disagreement(rows: &[CounterRow]) -> Option<NoticeRow> {
    let names: Vec<&str> = rows
        .iter()
        .filter(|row| row.verdict.starts_with("differs") && !row.verdict.contains(';'))
        .map(|row| row.name.as_str())
        .collect();
    let first = names.first()?;
    Some(NoticeRow {
        severity: "info".to_owned(),
        text: format!(
            "counters of the kernel and counts from events differ without known loss, first {first}: \
             distrust counts of these kinds"
        ),
        count: names.len() as u64,
    })
}

/// Judges with the recorder's own loss in mind.
struct Judge {
    lost: Option<u64>,
    partial: Option<&'static str>,
}

impl Judge {
    fn new(manifest: &Manifest, provenance: &Provenance) -> Self {
        let partial = if !provenance.selection.is_empty() {
            Some("only a selection of the recording is shown")
        } else if !manifest.filter.is_empty() || provenance.completeness.filtered > 0 {
            Some("the recording left packets out by filter")
        } else {
            None
        };
        Self { lost: provenance.completeness.lost, partial }
    }

    fn row(
        &self,
        netns: &str,
        name: &str,
        kernel: u64,
        events: Option<u64>,
        stray: u64,
    ) -> CounterRow {
        let verdict = match events {
            None => "no event for it".to_owned(),
            Some(events) if events == kernel => "agrees".to_owned(),
            Some(events) => {
                let gap = kernel.abs_diff(events);
                let why = if let Some(partial) = self.partial {
                    format!("; not comparable: {partial}")
                } else if events < kernel && gap <= stray {
                    format!("; {stray} events do not say their namespace, which may explain it")
                } else if events < kernel && self.lost.is_some_and(|lost| lost > 0) {
                    format!("; {} events were lost, which may explain it", self.lost.unwrap_or(0))
                } else {
                    String::new()
                };
                format!("differs by {gap}{why}")
            }
        };
        CounterRow { netns: netns.to_owned(), name: name.to_owned(), kernel, events, verdict }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use psc_formats::Fact;
    use psc_formats::fact::SymbolFact;
    use psc_formats::manifest::{Probe, ProbeStatus};

    fn reading(at: u64, netns: u32, values: &[(&str, u64)]) -> Fact {
        Fact::Counters(CountersFact {
            at,
            netns,
            values: values.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect(),
        })
    }

    fn manifest() -> Manifest {
        let mut manifest = Manifest::default();
        manifest.drop_reasons.insert(3, "NO_SOCKET".to_owned());
        manifest.probes.push(Probe {
            name: "tcp:tcp_retransmit_skb".to_owned(),
            status: ProbeStatus::Attached,
            ..Probe::default()
        });
        manifest
    }

    fn retransmit(at: u64, segments: u16) -> Event {
        let tuple = sample::tcp("10.0.0.1:1", "10.0.0.2:2", 0, 0, 0, 0).tuple().expect("tuple");
        sample::event(at, EventKind::Retransmit { tuple, state: 1 })
            .device(1)
            .segments(segments)
            .into()
    }

    fn rows(
        counters: &Counters,
        tables: &Tables,
        lost: u64,
    ) -> Vec<(String, u64, Option<u64>, String)> {
        let mut provenance = Provenance::default();
        provenance.completeness.lost = Some(lost);
        counters
            .rows(&manifest(), tables, &provenance)
            .into_iter()
            .map(|r| (r.name, r.kernel, r.events, r.verdict))
            .collect()
    }

    #[test]
    fn only_events_between_the_readings_are_compared() {
        let manifest = manifest();
        let mut tables = sample::devices(&[(1, "eth0", 10)]);
        let mut counters = Counters::default();
        let mut see = |tables: &Tables, at, segments| {
            counters.sighting(
                World { manifest: &manifest, tables, start: None },
                &retransmit(at, segments),
            );
        };
        see(&tables, 50, 7);
        tables.apply(&reading(100, 10, &[("TcpRetransSegs", 1000)]));
        see(&tables, 110, 3);
        see(&tables, 190, 1);
        tables.apply(&reading(200, 10, &[("TcpRetransSegs", 1004)]));
        see(&tables, 210, 2);
        tables.apply(&reading(300, 10, &[("TcpRetransSegs", 1006)]));
        see(&tables, 310, 9);
        let expected = ("TcpRetransSegs".to_owned(), 6, Some(6), "agrees".to_owned());
        assert_eq!(rows(&counters, &tables, 0), [expected]);
    }

    #[test]
    fn a_retransmission_that_waited_in_the_host_was_not_counted() {
        let manifest = manifest();
        let mut tables = sample::devices(&[(1, "eth0", 10)]);
        tables.apply(&reading(0, 10, &[("TcpRetransSegs", 0)]));
        let mut counters = Counters::default();
        let tuple = sample::tcp("10.0.0.1:1", "10.0.0.2:2", 0, 0, 0, 0).tuple().expect("tuple");
        // EBUSY comes before the kernel counts, ENOBUFS after.
        for rc in [-16, -105] {
            let failed = EventKind::RetransmitFailed { tuple, state: 1, rc };
            let event = sample::event(5, failed).device(1).segments(2).into();
            counters.sighting(World { manifest: &manifest, tables: &tables, start: None }, &event);
        }
        tables.apply(&reading(9, 10, &[("TcpRetransSegs", 2)]));
        let expected = ("TcpRetransSegs".to_owned(), 2, Some(2), "agrees".to_owned());
        assert_eq!(rows(&counters, &tables, 0), [expected]);
    }

    #[test]
    fn verdicts_have_the_recorders_loss_in_mind() {
        let manifest = manifest();
        let mut tables = sample::devices(&[(1, "eth0", 10)]);
        tables.apply(&reading(0, 10, &[("TcpRetransSegs", 0), ("TcpExtListenDrops", 4)]));
        let mut counters = Counters::default();
        counters.sighting(
            World { manifest: &manifest, tables: &tables, start: None },
            &retransmit(5, 1),
        );
        tables.apply(&reading(9, 10, &[("TcpRetransSegs", 5), ("TcpExtListenDrops", 6)]));
        let verdict = |lost| rows(&counters, &tables, lost).remove(1).3;
        assert_eq!(verdict(0), "differs by 4");
        assert_eq!(verdict(12), "differs by 4; 12 events were lost, which may explain it");
        let silent = ("TcpExtListenDrops".to_owned(), 2, None, "no event for it".to_owned());
        assert_eq!(rows(&counters, &tables, 0)[0], silent);
    }

    #[test]
    fn udp_over_each_ip_version_has_its_own_counter() {
        let manifest = manifest();
        let mut tables = sample::devices(&[(1, "eth0", 10)]);
        for (id, name) in [(7, "__udp4_lib_rcv"), (8, "__udp6_lib_rcv"), (9, "tcp_v4_rcv")] {
            tables.apply(&Fact::Symbol(SymbolFact {
                id,
                name: name.to_owned(),
                ..SymbolFact::default()
            }));
        }
        let names = ["UdpNoPorts", "Udp6NoPorts"];
        tables.apply(&reading(0, 10, &names.map(|n| (n, 0))));
        let mut counters = Counters::default();
        let world = World { manifest: &manifest, tables: &tables, start: None };
        for (location, count) in [(7, 1), (8, 10), (9, 100)] {
            let location = SymbolId(location);
            let free = EventKind::Free { reason: 3, location };
            let mut journey = sample::journey(1, vec![sample::event(5, free).device(1).into()]);
            journey.outcome = Outcome::Dropped { reason: 3, location };
            counters.journey(world, &journey);
            let kind =
                EventKind::Repeated { kind: 9, count, bytes: 0, reason: 3, location, first: 5 };
            counters.sighting(world, &sample::event(6, kind).device(1).into());
        }
        tables.apply(&reading(9, 10, &[("UdpNoPorts", 2), ("Udp6NoPorts", 11)]));
        let rows = rows(&counters, &tables, 0);
        assert_eq!(rows.len(), 2);
        assert!(rows.iter().all(|(_, kernel, events, _)| Some(*kernel) == *events), "{rows:?}");
    }

    #[test]
    fn losses_of_devices_are_told_apart_from_traffic() {
        for (name, loss) in [
            ("dev.eth0.rx_dropped", true),
            ("dev.eth0.rx_packets", false),
            ("ethtool.eth0.rx_queue_0_drops", true),
            ("softnet.3.dropped", true),
            ("softnet.3.processed", false),
            ("TcpInErrs", false),
        ] {
            assert_eq!(is_device_loss(name), loss, "{name}");
        }
    }
}
