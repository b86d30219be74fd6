//! Time that only function probes can tell: between layers where no tracepoint is, and inside functions.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use psc_formats::{Event, EventKind, Manifest, ProbeId};

use crate::engine::ClosedJourney;
use crate::view::analyze::LayerLatency;

/// Functions timed at most; a kernel has some hundred, a made-up archive may claim any number.
const MOST: usize = 512;

/// Where a packet is, as far as functions tell it. The order is that of each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Receive,
    NetworkIn,
    TransportIn,
    TransportOut,
    NetworkOut,
    Queue,
}

/// A way between two marks: direction, from, to, note.
struct Way {
    from: Mark,
    to: Mark,
    words: [&'static str; 4],
}

#[rustfmt::skip]
const WAYS: [Way; 4] = [
    Way { from: Mark::Receive, to: Mark::NetworkIn,
        words: ["ingress", "link netif_receive_skb", "network ip_rcv, ipv6_rcv", "taps, TC ingress and VLAN before IP"] },
    Way { from: Mark::NetworkIn, to: Mark::TransportIn,
        words: ["ingress", "network ip_rcv, ipv6_rcv", "transport tcp_v4_rcv, __udp4_lib_rcv, icmp_rcv and kin", "prerouting, routing and input hooks"] },
    Way { from: Mark::TransportOut, to: Mark::NetworkOut,
        words: ["egress", "transport udp_send_skb, __ip_queue_xmit and kin", "network __ip_local_out, __ip6_local_out", "making the IP header"] },
    Way { from: Mark::NetworkOut, to: Mark::Queue,
        words: ["egress", "network __ip_local_out, __ip6_local_out", "link net_dev_queue", "output and postrouting hooks, neighbour and TC egress; a wait for the neighbour's address is in it"] },
];

/// What an event marks; `None` for one on no way.
fn mark(event: &Event, manifest: &Manifest) -> Option<Mark> {
    Some(match event.kind {
        EventKind::Receive {} => Mark::Receive,
        EventKind::DeviceQueue {} => Mark::Queue,
        EventKind::FunctionEntry { .. } => match manifest.probe_name(event.probe) {
            "ip_rcv" | "ipv6_rcv" => Mark::NetworkIn,
            "tcp_v4_rcv" | "tcp_v6_rcv" | "__udp4_lib_rcv" | "__udp6_lib_rcv" | "icmp_rcv"
            | "icmpv6_rcv" => Mark::TransportIn,
            "udp_send_skb"
            | "udp_v6_send_skb"
            | "__ip_queue_xmit"
            | "ip6_xmit"
            | "ip_build_and_send_pkt" => Mark::TransportOut,
            "__ip_local_out" | "__ip6_local_out" => Mark::NetworkOut,
            _ => return None,
        },
        _ => return None,
    })
}

/// Times from function probes; empty where a recording has none.
#[derive(Debug, Default)]
pub(super) struct Calls {
    ways: [Option<Histogram<u64>>; WAYS.len()],
    inside: BTreeMap<ProbeId, Histogram<u64>>,
    unlisted: u64,
}

fn record(slot: &mut Option<Histogram<u64>>, ns: u64) {
    // Three digits is a valid precision, and such a histogram grows to any value.
    if slot.is_none() {
        *slot = super::latency::histogram();
    }
    if let Some(histogram) = slot {
        let _ = histogram.record(ns);
    }
}

impl Calls {
    /// Takes the times of one journey.
    pub(super) fn journey(&mut self, journey: &ClosedJourney, manifest: &Manifest) {
        let mut since: [Option<u64>; WAYS.len()] = [None; WAYS.len()];
        for event in &journey.steps {
            if let EventKind::FunctionReturn { elapsed, .. } = event.kind {
                self.returned(event.probe, elapsed);
                continue;
            }
            let Some(mark) = mark(event, manifest) else { continue };
            for (index, way) in WAYS.iter().enumerate() {
                if way.to == mark
                    && let Some(start) = since[index].take()
                {
                    record(&mut self.ways[index], event.at.0.saturating_sub(start));
                }
                if way.from == mark {
                    since[index] = Some(event.at.0);
                } else if mark == Mark::Receive {
                    // On from one device to the next: what was open before leads nowhere.
                    since[index] = None;
                }
            }
        }
    }

    fn returned(&mut self, probe: ProbeId, elapsed: u64) {
        if self.inside.len() >= MOST && !self.inside.contains_key(&probe) {
            self.unlisted += 1;
            return;
        }
        let mut slot = self.inside.remove(&probe);
        record(&mut slot, elapsed);
        if let Some(histogram) = slot {
            self.inside.insert(probe, histogram);
        }
    }

    /// Rows for the ways, then for each function, most total time first; none where nothing was timed.
    pub(super) fn rows(&self, manifest: &Manifest) -> Vec<LayerLatency> {
        let ways = WAYS.iter().zip(&self.ways).filter_map(|(way, histogram)| {
            let [direction, from, to, note] = way.words;
            histogram.as_ref().map(|h| super::latency::row(direction, from, to, note, h))
        });
        let mut inside: Vec<(u128, &ProbeId, &Histogram<u64>)> = self
            .inside
            .iter()
            .map(|(probe, times)| {
                let total = times.iter_recorded().map(|step| {
                    u128::from(step.value_iterated_to()) * u128::from(step.count_at_value())
                });
                (total.sum(), probe, times)
            })
            .collect();
        inside.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        let inside = inside.into_iter().map(|(_, &probe, histogram)| {
            let layer =
                manifest.probes.get(usize::from(probe.0)).map(|p| p.layer).unwrap_or_default();
            let from = format!("{} {}", layer.name(), manifest.probe_name(probe));
            super::latency::row(
                "call",
                &from,
                "its return",
                "time inside, with all that it calls",
                histogram,
            )
        });
        ways.chain(inside).collect()
    }

    /// How often the way from the socket to the queue was seen at all.
    pub(super) fn has_send(&self) -> bool {
        self.ways[2].is_some() || self.ways[3].is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use psc_formats::manifest::{Layer, Probe};

    fn manifest() -> Manifest {
        let names = [
            "net:net_dev_queue",
            "__ip_queue_xmit",
            "__ip_local_out",
            "nf_hook_slow",
            "ip_rcv",
            "tcp_v4_rcv",
        ];
        let probe = |name: &&str| Probe {
            name: (*name).to_owned(),
            layer: Layer::Network,
            ..Probe::default()
        };
        Manifest { probes: names.iter().map(probe).collect(), ..Manifest::default() }
    }

    fn entry(at: u64, probe: u16) -> Event {
        let kind = EventKind::FunctionEntry { returns: 1, argument: 0, value: 0 };
        sample::event(at, kind).probe(probe).into()
    }

    fn returned(at: u64, probe: u16, elapsed: u64) -> Event {
        let kind = EventKind::FunctionReturn { meaning: 2, value: 1, elapsed };
        sample::event(at, kind).probe(probe).into()
    }

    #[test]
    fn ways_and_calls_are_timed_where_functions_were_probed() {
        let sent = sample::journey(
            1,
            vec![
                entry(1_000, 1),
                entry(1_300, 2),
                entry(1_350, 3),
                returned(1_950, 3, 600),
                sample::event(2_300, EventKind::DeviceQueue {}).into(),
                // On the other side, after a crossing.
                sample::event(5_000, EventKind::Receive {}).device(2).into(),
                entry(5_100, 4),
                entry(5_400, 5),
            ],
        );
        let mut calls = Calls::default();
        calls.journey(&sent, &manifest());
        let rows = calls.rows(&manifest());
        let told: Vec<_> =
            rows.iter().map(|r| (r.direction.as_str(), r.latency.max, r.latency.count)).collect();
        let expected = [
            ("ingress", 100, 1),
            ("ingress", 300, 1),
            ("egress", 300, 1),
            ("egress", 1_000, 1),
            ("call", 600, 1),
        ];
        assert_eq!(told, expected);
        assert_eq!(rows[4].from, "network nf_hook_slow");
    }

    #[test]
    fn a_packet_that_was_forwarded_has_no_time_from_its_arrival_to_a_socket() {
        let mut calls = Calls::default();
        let steps = vec![
            sample::event(10, EventKind::Receive {}).device(1).into(),
            entry(20, 4),
            sample::event(30, EventKind::DeviceQueue {}).device(2).into(),
            sample::event(90, EventKind::Receive {}).device(3).into(),
            entry(95, 5),
        ];
        calls.journey(&sample::journey(1, steps), &manifest());
        let rows = calls.rows(&manifest());
        assert_eq!(rows.len(), 1, "only link to network: {rows:?}");
    }

    #[test]
    fn without_functions_there_are_no_rows() {
        let mut calls = Calls::default();
        let steps = vec![sample::event(10, EventKind::Receive {}).into()];
        calls.journey(&sample::journey(1, steps), &manifest());
        assert!(calls.rows(&manifest()).is_empty());
    }
}
