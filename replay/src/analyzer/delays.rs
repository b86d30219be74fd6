//! What packets wait for beside queues: network softirqs, and a CPU for the task that a socket woke.
//!
//! Of softirqs the sums by CPU agree with `/proc/softirqs`, of tasks those by thread with the run delay of
//! `/proc/PID/schedstat`, less what a task waited after it had been preempted.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use psc_formats::manifest::ProbeStatus;
use psc_formats::{Context, Event, EventKind, Manifest, Tables};

use crate::view::analyze::{DelayRow, LayerLatency};

/// Threads and CPUs kept apart at most; what comes after is summed under one row.
const MOST: usize = 1024;

/// `waited` of a softirq whose raise was not seen.
const UNSEEN: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    ReceiveWait,
    ReceiveRun,
    TransmitWait,
    TransmitRun,
    Scheduling,
}

impl What {
    /// Which way the packets go that wait.
    fn direction(self) -> &'static str {
        match self {
            Self::TransmitWait | Self::TransmitRun => "egress",
            Self::ReceiveWait | Self::ReceiveRun | Self::Scheduling => "ingress",
        }
    }
}

/// What is measured: from, to, note, tracepoint that ends it.
#[rustfmt::skip]
const TEXTS: [(What, [&str; 4]); 5] = [
    (What::ReceiveWait, ["driver softirq_raise NET_RX", "driver softirq_entry NET_RX",
        "the wait for the softirq that takes up received packets", "softirq_exit"]),
    (What::ReceiveRun, ["driver softirq_entry NET_RX", "driver softirq_exit NET_RX",
        "one run of it, for all packets that it took up", "softirq_exit"]),
    (What::TransmitWait, ["driver softirq_raise NET_TX", "driver softirq_entry NET_TX",
        "the wait for the softirq that frees sent packets and restarts queues", "softirq_exit"]),
    (What::TransmitRun, ["driver softirq_entry NET_TX", "driver softirq_exit NET_TX",
        "one run of it", "softirq_exit"]),
    (What::Scheduling, ["socket sched_waking", "user sched_switch",
        "the wait for a CPU of a task that a socket with data woke", "sched_switch"]),
];

/// Whose: a CPU's or a thread's; `None` is over those for which there was no room.
type Whose = Option<u32>;

#[derive(Debug, Default)]
pub(super) struct Delays {
    rows: BTreeMap<(What, Whose), Times>,
}

#[derive(Debug, Default)]
struct Times {
    histogram: Option<Histogram<u64>>,
    total: u64,
}

impl Times {
    fn add(&mut self, ns: u64) {
        if self.histogram.is_none() {
            self.histogram = super::latency::histogram();
        }
        if let Some(histogram) = &mut self.histogram {
            // It grows as needed, and refuses nothing that fits an address space.
            let _ = histogram.record(ns);
        }
        self.total = self.total.saturating_add(ns);
    }
}

impl Delays {
    pub(super) fn sighting(&mut self, event: &Event) {
        match event.kind {
            EventKind::Softirq { vector, waited, ran } => {
                let (wait, run) = match vector {
                    2 => (What::TransmitWait, What::TransmitRun),
                    3 => (What::ReceiveWait, What::ReceiveRun),
                    _ => return,
                };
                let cpu = u32::from(event.cpu);
                if waited != UNSEEN {
                    self.add(wait, cpu, waited);
                }
                self.add(run, cpu, ran);
            }
            EventKind::Scheduled { waited } => {
                if let Context::Task(tid) = event.context {
                    self.add(What::Scheduling, tid, waited);
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, what: What, whose: u32, ns: u64) {
        let full = self.rows.len() >= MOST && !self.rows.contains_key(&(what, Some(whose)));
        let whose = if full { None } else { Some(whose) };
        self.rows.entry((what, whose)).or_default().add(ns);
    }

    /// Over all CPUs and tasks. Where these probes were not asked for, nothing is said of them.
    pub(super) fn latency(&self, manifest: &Manifest) -> Vec<LayerLatency> {
        let row = |(what, [from, to, note, probe]): &(What, [&str; 4])| {
            let mut over_all = super::latency::histogram()?;
            for ((of, _), times) in &self.rows {
                if let (true, Some(part)) = (of == what, &times.histogram) {
                    // Both grow as needed.
                    let _ = over_all.add(part);
                }
            }
            if !over_all.is_empty() {
                return Some(super::latency::row(what.direction(), from, to, note, &over_all));
            }
            let status = manifest.probes.iter().find(|p| p.name.ends_with(&format!(":{probe}")));
            let note = match &status?.status {
                ProbeStatus::Unwanted => return None,
                ProbeStatus::Attached => "none of these happened".to_owned(),
                ProbeStatus::Failed(_) => format!("{probe} was not attached"),
            };
            Some(LayerLatency {
                direction: what.direction().to_owned(),
                from: (*from).to_owned(),
                to: (*to).to_owned(),
                note,
                ..LayerLatency::default()
            })
        };
        TEXTS.iter().filter_map(row).collect()
    }

    /// By CPU and by process, most time first within each kind.
    pub(super) fn rows(&self, tables: &Tables) -> Vec<DelayRow> {
        let mut named: BTreeMap<(What, String), Times> = BTreeMap::new();
        for (&(what, whose), times) in &self.rows {
            let name = match (what, whose) {
                (_, None) => "others".to_owned(),
                (What::Scheduling, Some(tid)) => match tables.tasks.get(&tid) {
                    Some(task) => format!("{}[{}]", task.comm, task.pid),
                    None => format!("task[{tid}]"),
                },
                (_, Some(cpu)) => format!("CPU {cpu}"),
            };
            // Threads of one process are one row.
            let sum = named.entry((what, name)).or_default();
            sum.total = sum.total.saturating_add(times.total);
            match (&mut sum.histogram, &times.histogram) {
                (Some(sum), Some(part)) => drop(sum.add(part)),
                (none, part) => none.clone_from(part),
            }
        }
        let mut rows: Vec<(What, DelayRow)> = named
            .into_iter()
            .filter_map(|((what, of), times)| {
                let latency = super::latency::percentiles(times.histogram.as_ref()?);
                let delay = match what {
                    What::ReceiveWait => "NET_RX wait",
                    What::ReceiveRun => "NET_RX run",
                    What::TransmitWait => "NET_TX wait",
                    What::TransmitRun => "NET_TX run",
                    What::Scheduling => "scheduling",
                };
                let delay = delay.to_owned();
                Some((what, DelayRow { delay, of, latency, total_ns: times.total }))
            })
            .collect();
        rows.sort_by(|(a, x), (b, y)| (a, y.total_ns, &x.of).cmp(&(b, x.total_ns, &y.of)));
        rows.into_iter().map(|(_, row)| row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use psc_formats::Fact;
    use psc_formats::fact::TaskFact;
    use psc_formats::manifest::Probe;

    fn softirq(cpu: u16, vector: u8, waited: u64, ran: u64) -> Event {
        let mut event: Event = sample::event(0, EventKind::Softirq { vector, waited, ran }).into();
        event.cpu = cpu;
        event
    }

    fn scheduled(tid: u32, waited: u64) -> Event {
        let mut event: Event = sample::event(0, EventKind::Scheduled { waited }).into();
        event.context = Context::Task(tid);
        event
    }

    #[test]
    fn delays_are_summed_by_cpu_and_by_process() {
        let mut delays = Delays::default();
        for event in [
            softirq(0, 3, 500, 7_000),
            softirq(0, 3, 700, 1_000),
            // Raised before recording began: it ran, and its wait is unknown, not long.
            softirq(1, 3, UNSEEN, 100),
            softirq(1, 2, 40, 10),
            // A timer's softirq is none of the network's.
            softirq(1, 1, 9, 9),
            scheduled(11, 2_000),
            scheduled(12, 3_000),
            scheduled(99, 1),
        ] {
            delays.sighting(&event);
        }
        let mut tables = Tables::default();
        for tid in [11, 12] {
            let comm = "server".to_owned();
            tables.apply(&Fact::Task(TaskFact { tid, pid: 11, comm, ..TaskFact::default() }));
        }
        let rows: Vec<String> = delays
            .rows(&tables)
            .iter()
            .map(|row| {
                let (n, max) = (row.latency.count, row.latency.max);
                format!("{} of {}: {n}, {} in all, at most {max}", row.delay, row.of, row.total_ns)
            })
            .collect();
        assert_eq!(
            rows,
            [
                "NET_RX wait of CPU 0: 2, 1200 in all, at most 700",
                "NET_RX run of CPU 0: 2, 8000 in all, at most 7003",
                "NET_RX run of CPU 1: 1, 100 in all, at most 100",
                "NET_TX wait of CPU 1: 1, 40 in all, at most 40",
                "NET_TX run of CPU 1: 1, 10 in all, at most 10",
                "scheduling of server[11]: 2, 5000 in all, at most 3001",
                "scheduling of task[99]: 1, 1 in all, at most 1",
            ]
        );
        let over_all = delays.latency(&Manifest::default());
        let counts: Vec<(&str, u64)> =
            over_all.iter().map(|row| (row.direction.as_str(), row.latency.count)).collect();
        let (rx, tx) = ("ingress", "egress");
        assert_eq!(counts, [(rx, 2), (rx, 3), (tx, 1), (tx, 1), (rx, 3)]);
    }

    #[test]
    fn what_was_not_asked_for_has_no_row_and_what_failed_says_so() {
        let probe =
            |name: &str, status| Probe { name: name.to_owned(), status, ..Probe::default() };
        let of = |status: ProbeStatus| {
            let probes = vec![probe("irq:softirq_exit", status)];
            Delays::default().latency(&Manifest { probes, ..Manifest::default() })
        };
        assert!(of(ProbeStatus::Unwanted).is_empty());
        let failed = of(ProbeStatus::Failed("no".to_owned()));
        assert!(failed.len() == 4 && failed.iter().all(|row| row.note.contains("not attached")));
        assert!(of(ProbeStatus::Attached).iter().all(|row| row.note.contains("none of these")));
    }

    #[test]
    fn memory_is_bounded_and_nothing_is_lost_of_the_sums() {
        let mut delays = Delays::default();
        for tid in 1..=3_000 {
            delays.sighting(&scheduled(tid, 5));
        }
        let rows = delays.rows(&Tables::default());
        assert_eq!(rows.len(), MOST + 1);
        assert_eq!(rows.iter().map(|row| row.total_ns).sum::<u64>(), 15_000);
        assert_eq!(rows[0].of, "others");
    }
}
