//! Time between two points of the stack, from the steps of each journey.

use hdrhistogram::Histogram;
use psc_formats::event::{DeviceId, SkbAddr};
use psc_formats::manifest::{Origin, ProbeStatus};
use psc_formats::{Event, EventKind, Manifest};

use super::calls::Calls;
use crate::engine::{ClosedJourney, Outcome};
use crate::view::analyze::LayerLatency;
use crate::view::trace::Latency;

/// What is measured. The order is that of the report: receive side from the wire up, transmit side
/// from the socket down, then what spans both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Span {
    GroToReceive,
    BacklogToReceive,
    ReceiveToTransport,
    ReceiveToSocket,
    SocketQueue,
    ReceiveToUser,
    ReceiveToConsume,
    ReceiveToDrop,
    SocketToQueue,
    QueueToDriver,
    QdiscWait,
    Driver,
    Crossing,
    Hosts,
}

struct Text {
    span: Span,
    direction: &'static str,
    from: &'static str,
    to: &'static str,
    /// What the time includes; empty when plain.
    note: &'static str,
    /// Tracepoints that both ends need, any one of each group.
    needs: &'static [&'static [&'static str]],
}

#[rustfmt::skip]
const SPANS: &[Text] = &[
    Text { span: Span::GroToReceive, direction: "ingress", from: "driver napi_gro_receive_entry", to: "link netif_receive_skb",
        note: "includes the wait for packets to merge with", needs: &[&["napi_gro_receive_entry", "napi_gro_frags_entry"], &["netif_receive_skb"]] },
    Text { span: Span::BacklogToReceive, direction: "ingress", from: "link netif_rx", to: "link netif_receive_skb",
        note: "the wait in the per-CPU backlog", needs: &[&["netif_rx"], &["netif_receive_skb"]] },
    Text { span: Span::ReceiveToTransport, direction: "ingress", from: "link netif_receive_skb", to: "transport tcp_probe",
        note: "segments of established TCP connections only", needs: &[&["netif_receive_skb"], &["tcp_probe"]] },
    Text { span: Span::ReceiveToSocket, direction: "ingress", from: "link netif_receive_skb", to: "socket sk_data_ready",
        note: "UDP: the way through IP to the socket's queue", needs: &[&["netif_receive_skb"], &["sk_data_ready"]] },
    Text { span: Span::SocketQueue, direction: "ingress", from: "socket sk_data_ready", to: "user sock_recv_length",
        note: "UDP: the wait in the socket's queue for the application to read", needs: &[&["sk_data_ready"], &["sock_recv_length"]] },
    Text { span: Span::ReceiveToUser, direction: "ingress", from: "link netif_receive_skb", to: "user skb_copy_datagram_iovec",
        note: "includes the wait for the application to read; UDP may not pass this probe", needs: &[&["netif_receive_skb"], &["skb_copy_datagram_iovec"]] },
    Text { span: Span::ReceiveToConsume, direction: "ingress", from: "link netif_receive_skb", to: "socket consume_skb",
        note: "includes the wait for the application; UDP frees in batches, up to milliseconds after delivery", needs: &[&["netif_receive_skb"], &["consume_skb"]] },
    Text { span: Span::ReceiveToDrop, direction: "ingress", from: "link netif_receive_skb", to: "kfree_skb",
        note: "dropped packets only", needs: &[&["netif_receive_skb"], &["kfree_skb"]] },
    Text { span: Span::SocketToQueue, direction: "egress", from: "socket sendmsg", to: "link net_dev_queue",
        note: "", needs: &[] },
    Text { span: Span::QueueToDriver, direction: "egress", from: "link net_dev_queue", to: "driver net_dev_start_xmit",
        note: "includes the queueing discipline", needs: &[&["net_dev_queue"], &["net_dev_start_xmit"]] },
    Text { span: Span::QdiscWait, direction: "egress", from: "qdisc qdisc_enqueue", to: "qdisc qdisc_dequeue",
        note: "the first packet of each bulk dequeue", needs: &[&["qdisc_enqueue"], &["qdisc_dequeue"]] },
    Text { span: Span::Driver, direction: "egress", from: "driver net_dev_start_xmit", to: "driver net_dev_xmit",
        note: "time inside the driver; on veth it includes handing over to the peer", needs: &[&["net_dev_start_xmit"], &["net_dev_xmit"]] },
    Text { span: Span::Crossing, direction: "egress", from: "driver net_dev_start_xmit", to: "link netif_receive_skb of another device",
        note: "from one namespace or device to the next on this host", needs: &[&["net_dev_start_xmit"], &["netif_receive_skb"]] },
    Text { span: Span::Hosts, direction: "egress", from: "driver net_dev_start_xmit", to: "first sight on the next host",
        note: "by merged clocks, so as wrong as those may be: see what the merge said of them", needs: &[&["psc:merge"]] },
];

/// Histograms with three significant digits: they merge without the raw samples.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    histograms: [Option<Histogram<u64>>; SPANS.len()],
    calls: Calls,
}

impl Latencies {
    fn record(&mut self, span: Span, from: u64, to: u64) {
        let slot = &mut self.histograms[span as usize];
        if slot.is_none() {
            // Three digits is a valid precision, so this cannot fail; and if it did, the row would
            // say "unavailable" rather than lie.
            *slot = histogram();
        }
        if let Some(histogram) = slot {
            // Grows as needed; it refuses nothing that fits an address space.
            let _ = histogram.record(to.saturating_sub(from));
        }
    }

    /// Takes the spans of one journey. Each pairing needs both ends on the same device, and the
    /// nearest earlier start: a packet sent through a VLAN device is queued twice.
    pub(super) fn journey(&mut self, journey: &ClosedJourney, manifest: &Manifest) {
        self.calls.journey(journey, manifest);
        let mut open = Open::default();
        // On each host that it was handed to, a packet is another skb, and what waits there is of that host.
        let mut hosts: Vec<(SkbAddr, Open)> = Vec::new();
        for event in &journey.steps {
            if let EventKind::Handed { child, arrival, .. } = event.kind {
                self.record(Span::Hosts, event.at.0, arrival);
                hosts.push((child, Open::default()));
            }
            if let Some((_, there)) = hosts.iter_mut().rev().find(|(skb, _)| *skb == event.skb) {
                self.step(there, event, journey.outcome);
            } else {
                self.step(&mut open, event, journey.outcome);
            }
        }
    }

    fn step(&mut self, open: &mut Open, event: &Event, outcome: Outcome) {
        let at = event.at.0;
        let here = event.device;
        match event.kind {
            EventKind::GroReceive {} => open.gro = Some(at),
            EventKind::BacklogQueue {} => open.backlog = Some(at),
            EventKind::Receive {} => {
                if let Some(start) = open.gro.take() {
                    self.record(Span::GroToReceive, start, at);
                }
                if let Some(start) = open.backlog.take() {
                    self.record(Span::BacklogToReceive, start, at);
                }
                if let Some((start, device)) = open.crossing.take()
                    && device != here
                {
                    self.record(Span::Crossing, start, at);
                }
                open.received = Some(at);
            }
            EventKind::TcpProbe { .. } => self.since_receive(open, Span::ReceiveToTransport, at),
            EventKind::CopyToUser { .. } => {
                if !open.read {
                    self.since_receive(open, Span::ReceiveToUser, at);
                }
                open.read = true;
            }
            EventKind::DataReady {} => {
                self.since_receive(open, Span::ReceiveToSocket, at);
                open.in_socket = Some(at);
            }
            EventKind::SockReceive { .. } => {
                if let Some(start) = open.in_socket.take() {
                    self.record(Span::SocketQueue, start, at);
                }
            }
            EventKind::Consume { .. } => {
                self.since_receive(open, Span::ReceiveToConsume, at);
                open.received = None;
            }
            EventKind::Free { .. } => {
                if matches!(outcome, Outcome::Dropped { .. }) {
                    self.since_receive(open, Span::ReceiveToDrop, at);
                }
                open.received = None;
            }
            EventKind::DeviceQueue {} => {
                // What is sent on was not received for this host.
                open.received = None;
                open.queued = Some((at, here));
            }
            EventKind::QdiscEnqueue { .. } => open.enqueued = Some((at, here)),
            EventKind::QdiscDequeue { .. } => {
                if let Some((start, _)) = open.enqueued.take_if(|(_, device)| *device == here) {
                    self.record(Span::QdiscWait, start, at);
                }
            }
            EventKind::TransmitStart {} => {
                if let Some((start, _)) = open.queued.take_if(|(_, device)| *device == here) {
                    self.record(Span::QueueToDriver, start, at);
                }
                open.driver = Some((at, here));
                open.crossing = Some((at, here));
            }
            EventKind::TransmitDone { .. } => {
                if let Some((start, _)) = open.driver.take_if(|(_, device)| *device == here) {
                    self.record(Span::Driver, start, at);
                }
            }
            _ => {}
        }
    }

    fn since_receive(&mut self, open: &Open, span: Span, at: u64) {
        if let Some(start) = open.received {
            self.record(span, start, at);
        }
    }

    pub(super) fn rows(&self, manifest: &Manifest) -> Vec<LayerLatency> {
        SPANS
            .iter()
            .zip(&self.histograms)
            .map(|(text, histogram)| {
                let latency = histogram.as_ref().map(percentiles).unwrap_or_default();
                LayerLatency {
                    direction: text.direction.to_owned(),
                    from: text.from.to_owned(),
                    to: text.to.to_owned(),
                    note: if latency.count == 0 {
                        unavailable(text, manifest)
                    } else {
                        text.note.to_owned()
                    },
                    latency,
                    histogram: histogram.as_ref().map(buckets).unwrap_or_default(),
                    recorded: histogram.as_ref().map(recorded).unwrap_or_default(),
                }
            })
            // Only where recordings were merged is there a way between hosts.
            .filter(|row| row.latency.count > 0 || row.to != SPANS[Span::Hosts as usize].to)
            // What function probes time of the way to the queue is told by their own rows.
            .filter(|row| {
                !(self.calls.has_send() && row.from == SPANS[Span::SocketToQueue as usize].from)
            })
            .chain(self.calls.rows(manifest))
            .collect()
    }
}

/// Starts waiting for their ends.
#[derive(Default)]
struct Open {
    gro: Option<u64>,
    backlog: Option<u64>,
    received: Option<u64>,
    in_socket: Option<u64>,
    read: bool,
    queued: Option<(u64, DeviceId)>,
    enqueued: Option<(u64, DeviceId)>,
    driver: Option<(u64, DeviceId)>,
    crossing: Option<(u64, DeviceId)>,
}

fn unavailable(text: &Text, manifest: &Manifest) -> String {
    if manifest.origin == Origin::Capture {
        return "a capture has packets but no stack events".to_owned();
    }
    if text.span == Span::SocketToQueue {
        return "transmit has no IP or TCP tracepoint, so these probes time the queue \
                to the driver only"
            .to_owned();
    }
    for group in text.needs {
        let attached = manifest.probes.iter().any(|probe| {
            probe.status == ProbeStatus::Attached
                && group.contains(&probe.name.rsplit(':').next().unwrap_or(&probe.name))
        });
        if !attached {
            return format!("{} was not attached", group.join(" or "));
        }
    }
    "no packet passed both probes".to_owned()
}

pub(super) fn histogram() -> Option<Histogram<u64>> {
    Histogram::new(3).ok()
}

/// A row of times that were measured.
pub(super) fn row(
    direction: &str,
    from: &str,
    to: &str,
    note: &str,
    times: &Histogram<u64>,
) -> LayerLatency {
    LayerLatency {
        direction: direction.to_owned(),
        from: from.to_owned(),
        to: to.to_owned(),
        note: note.to_owned(),
        latency: percentiles(times),
        histogram: buckets(times),
        recorded: recorded(times),
    }
}

pub(super) fn percentiles(histogram: &Histogram<u64>) -> Latency {
    Latency {
        count: histogram.len(),
        min: histogram.min(),
        p50: histogram.value_at_quantile(0.5),
        p90: histogram.value_at_quantile(0.9),
        p99: histogram.value_at_quantile(0.99),
        p999: histogram.value_at_quantile(0.999),
        max: histogram.max(),
    }
}

/// Every value that the histogram tells apart, with its count.
fn recorded(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    histogram
        .iter_recorded()
        .map(|step| (step.value_iterated_to(), step.count_since_last_iteration()))
        .collect()
}

/// Percentiles over several recordings, from what [`LayerLatency::recorded`] keeps of each: the same as
/// if all samples had been taken at once.
pub fn merged<'a>(parts: impl IntoIterator<Item = &'a [(u64, u64)]>) -> Latency {
    let Ok(mut whole) = Histogram::<u64>::new(3) else { return Latency::default() };
    for &(value, count) in parts.into_iter().flatten() {
        // It grows as needed, and refuses nothing that fits an address space.
        let _ = whole.record_n(value, count);
    }
    if whole.is_empty() { Latency::default() } else { percentiles(&whole) }
}

/// Four buckets to each doubling, from 64 ns: fine enough to draw, few enough to ship.
fn buckets(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    let mut rows: Vec<(u64, u64)> = Vec::new();
    for step in histogram.iter_recorded() {
        let value = step.value_iterated_to();
        let bound = bucket_bound(value);
        match rows.last_mut() {
            Some((last, count)) if *last == bound => *count += step.count_since_last_iteration(),
            _ => rows.push((bound, step.count_since_last_iteration())),
        }
    }
    rows
}

fn bucket_bound(value: u64) -> u64 {
    if value <= 64 {
        return 64;
    }
    let octave = 1_u64 << (value - 1).ilog2();
    let quarter = octave / 4;
    let steps = (value - octave).div_ceil(quarter).max(1);
    octave.saturating_add(steps.saturating_mul(quarter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use psc_formats::event::SymbolId;

    fn row(rows: &[LayerLatency], span: Span) -> &LayerLatency {
        &rows[span as usize]
    }

    #[test]
    fn the_table_is_in_the_order_of_the_spans() {
        for (index, text) in SPANS.iter().enumerate() {
            assert_eq!(text.span as usize, index);
        }
    }

    #[test]
    fn a_veth_crossing_gives_each_span_its_own_time() {
        let mut latencies = Latencies::default();
        let steps = [
            sample::event(1_000, EventKind::DeviceQueue {}).device(1),
            sample::event(1_100, EventKind::QdiscEnqueue { handle: 1 }).device(1),
            sample::event(1_500, EventKind::QdiscDequeue { handle: 1, packets: 1 }).device(1),
            sample::event(1_700, EventKind::TransmitStart {}).device(1),
            sample::event(1_750, EventKind::BacklogQueue {}).device(2),
            sample::event(1_780, EventKind::TransmitDone { rc: 0 }).device(1),
            sample::event(2_750, EventKind::Receive {}).device(2),
            sample::event(9_750, EventKind::CopyToUser { bytes: 10 }).device(2),
            sample::event(9_900, EventKind::CopyToUser { bytes: 10 }).device(2),
            sample::event(10_750, EventKind::Consume { location: SymbolId(0) }).device(2),
        ];
        latencies
            .journey(&sample::journey(1, steps.map(Into::into).to_vec()), &Manifest::default());
        let rows = latencies.rows(&Manifest { origin: Origin::Kernel, ..Manifest::default() });
        for (span, expected) in [
            (Span::QueueToDriver, 700),
            (Span::QdiscWait, 400),
            (Span::Driver, 80),
            (Span::Crossing, 1_050),
            (Span::BacklogToReceive, 1_000),
            (Span::ReceiveToUser, 7_000),
            (Span::ReceiveToConsume, 8_000),
        ] {
            let latency = row(&rows, span).latency;
            assert_eq!((latency.count, latency.min), (1, expected), "{span:?}");
        }
        for span in [Span::GroToReceive, Span::SocketToQueue, Span::ReceiveToDrop] {
            assert_eq!(row(&rows, span).latency.count, 0, "{span:?}");
            assert!(!row(&rows, span).note.is_empty(), "{span:?}");
        }
    }

    #[test]
    fn percentiles_agree_with_sorted_samples_to_three_digits() {
        let mut latencies = Latencies::default();
        let mut samples: Vec<u64> = (0..10_000_u64).map(|n| (n * 7919) % 1_000_003 + 500).collect();
        for &sample in &samples {
            latencies.record(Span::QdiscWait, 1_000, 1_000 + sample);
        }
        samples.sort_unstable();
        let rows = latencies.rows(&Manifest::default());
        let latency = row(&rows, Span::QdiscWait).latency;
        let exact = |q: f64| samples[((samples.len() as f64 * q).ceil() as usize) - 1];
        for (got, want) in [
            (latency.p50, exact(0.5)),
            (latency.p90, exact(0.9)),
            (latency.p99, exact(0.99)),
            (latency.p999, exact(0.999)),
        ] {
            assert!(got.abs_diff(want) * 1000 <= want, "{got} against {want}");
        }
        assert_eq!(latency.count, 10_000);
        let drawn: u64 = row(&rows, Span::QdiscWait).histogram.iter().map(|(_, n)| n).sum();
        assert_eq!(drawn, 10_000);
    }

    #[test]
    fn parts_merge_to_the_percentiles_of_the_whole() {
        let mut whole = Latencies::default();
        let mut parts: [Latencies; 3] = Default::default();
        for n in 0..20_000_u64 {
            let sample = (n * 7919) % 1_000_003 * (n % 97 + 1);
            whole.record(Span::Driver, 0, sample);
            parts[(n % 3) as usize].record(Span::Driver, 0, sample);
        }
        let manifest = Manifest::default();
        let rows = parts.map(|part| row(&part.rows(&manifest), Span::Driver).recorded.clone());
        let merged = merged(rows.iter().map(Vec::as_slice));
        assert_eq!(merged, row(&whole.rows(&manifest), Span::Driver).latency);
        assert_eq!(super::merged([]), Latency::default());
    }

    #[test]
    fn a_forwarded_packet_was_not_received_for_this_host() {
        let mut latencies = Latencies::default();
        let steps = [
            sample::event(10, EventKind::Receive {}).device(1),
            sample::event(20, EventKind::DeviceQueue {}).device(2),
            sample::event(30, EventKind::TransmitStart {}).device(2),
            sample::event(900, EventKind::Consume { location: SymbolId(0) }).device(2),
        ];
        latencies
            .journey(&sample::journey(1, steps.map(Into::into).to_vec()), &Manifest::default());
        let rows = latencies.rows(&Manifest::default());
        assert_eq!(row(&rows, Span::ReceiveToConsume).latency.count, 0);
    }

    #[test]
    fn bucket_bounds_hold_their_values() {
        for value in [1, 64, 65, 79, 80, 81, 127, 128, 129, 1000, 123_456_789, u64::MAX / 2] {
            let bound = bucket_bound(value);
            assert!(bound >= value, "{value} in {bound}");
            assert!(value <= 64 || bound - value <= value / 4 + 1, "{value} in {bound}");
        }
    }
}
