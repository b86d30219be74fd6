//! Queues: disciplines of devices, the backlog of each CPU, the softirq budget.

use std::collections::BTreeMap;

use psc_formats::manifest::Layer;

use super::case::{Case, counted};
use super::rule::{Find, Found, Rule, Sure};
use super::seen::Times;

/// Squeezes in more than one of so many packets: the budget is too small, not the burst too large. A
/// squeeze at the default budget stands for 300 packets or 2 ms of work.
const PACKETS_PER_SQUEEZE: u64 = 100;

/// Fewer squeezes are no finding.
const SQUEEZES: u64 = 20;

/// Marked or dropped by active queue management, of what was queued: its normal work below 5 %.
const CONGESTION_SHARE: u64 = 20;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "queue-drop",
        layer: Layer::Qdisc,
        severity: "medium",
        looks_at: "drop reasons QDISC_*, FQ_*, CAKE_FLOOD, DUALPI2_STEP_DROP, and the statistics of the queueing disciplines",
        cause: "a queueing discipline dropped packets: its limit or its rate is too small for what is sent",
        silent_on: "bursts that fit the queue; active queue management at under 5 %",
        references: &["tc(8)", "tc-tbf(8)", "tc-fq_codel(8)", "net/sched/sch_api.c"],
        find: Find::Own(queue_drop),
    },
    Rule {
        id: "backlog-full",
        layer: Layer::Link,
        severity: "high",
        looks_at: "drop reason CPU_BACKLOG, dropped of /proc/net/softnet_stat",
        cause: "the backlog of a CPU was full: more arrived than its softirq could take",
        silent_on: "bursts that fit the backlog",
        references: &["Documentation/networking/scaling.rst", "net/core/dev.c enqueue_to_backlog"],
        find: Find::Own(backlog),
    },
    Rule {
        id: "softirq-budget",
        layer: Layer::Driver,
        severity: "medium",
        looks_at: "time_squeeze of /proc/net/softnet_stat against packets processed",
        cause: "network softirqs stop for want of budget while packets wait",
        silent_on: "a squeeze now and then under load",
        references: &[
            "Documentation/admin-guide/sysctl/net.rst netdev_budget",
            "net/core/dev.c net_rx_action",
        ],
        find: Find::Own(squeeze),
    },
];

fn queue_drop(case: &mut Case<'_>) -> Vec<Found> {
    const REASONS: [&str; 9] = [
        "QDISC_DROP",
        "QDISC_OVERLIMIT",
        "QDISC_CONGESTED",
        "QDISC_BURST_DROP",
        "CAKE_FLOOD",
        "FQ_BAND_LIMIT",
        "FQ_HORIZON_LIMIT",
        "FQ_FLOW_LIMIT",
        "DUALPI2_STEP_DROP",
    ];
    let drops = case.take(|case, drop| REASONS.contains(&case.reason(drop)));
    case.by_place(&drops)
        .into_iter()
        .filter_map(|group| {
            let netns = case.netns_of(group[0]);
            let dev = case.device_name(group[0].device);
            let space = case.space(netns);
            let mut found = case.found(&group);
            let congestion = group.iter().all(|drop| case.reason(drop) == "QDISC_CONGESTED");
            let sent: u64 = space
                .map(|space| space.rises(&format!("qdisc.{dev}."), ".packets"))
                .into_iter()
                .flatten()
                .map(|(_, rise)| rise)
                .max()
                .unwrap_or(0);
            if congestion && found.times.count * CONGESTION_SHARE < sent {
                return None;
            }
            let mut kinds = Vec::new();
            if let Some(space) = space {
                for (name, rise) in space.rises(&format!("qdisc.{dev}."), ".drops") {
                    let kind = name.rsplit('.').nth(1).unwrap_or("").to_owned();
                    let handle = name.rsplit('.').nth(2).unwrap_or("").to_owned();
                    found.evidence.push(format!("The {kind} queue ({handle}) of {dev} counted {}.", counted(rise, "drop")));
                    if !kinds.contains(&kind) {
                        kinds.push(kind);
                    }
                }
                for (name, rise) in space.rises(&format!("qdisc.{dev}."), ".overlimits") {
                    let kind = name.rsplit('.').nth(1).unwrap_or("").to_owned();
                    found.evidence.push(format!("The {kind} queue of {dev} was over its limit {}.", counted(rise, "time")));
                }
                found.evidence.extend(space.tell(&["UdpSndbufErrors", "IpOutDiscards"]));
            }
            let kind = if kinds.is_empty() { "queueing discipline".to_owned() } else { format!("{} queue", kinds.join(" and ")) };
            found.title = case.fill(&format!("{{packets}} {{were}} dropped by the {kind} of {{place}} ({{reason}})."), &group);
            found.advice = case.fill(
                "`tc -s qdisc show dev {dev}`: raise its limit or rate (`tc qdisc change ...`, txqueuelen), or send less.",
                &group,
            );
            Some(found)
        })
        .collect()
}

fn backlog(case: &mut Case<'_>) -> Vec<Found> {
    let drops = case.take(|case, drop| case.reason(drop) == "CPU_BACKLOG");
    let mut all: Vec<Found> = Vec::new();
    let silent: BTreeMap<String, u64> =
        case.spaces.iter().flat_map(|space| space.rises("softnet.", ".dropped")).collect();
    let counted_by_kernel: u64 = silent.values().sum();
    if drops.is_empty() && counted_by_kernel == 0 {
        return all;
    }
    let mut found = if drops.is_empty() { Found::default() } else { case.found(&drops) };
    let total = counted_by_kernel.max(found.times.count);
    found.times.count = total;
    found.title = format!(
        "The backlog of a CPU was full: {} dropped before the stack.",
        counted(total, "packet")
    );
    found.evidence.extend(silent.iter().map(|(name, rise)| format!("{name} rose by {rise}.")));
    let limit = case.spaces.iter().find_map(|space| space.sysctl("net.core.netdev_max_backlog"));
    if let Some(limit) = limit {
        found.evidence.push(format!("net.core.netdev_max_backlog is {limit}."));
    }
    found.advice = "Raise net.core.netdev_max_backlog; spread the load (RPS: /sys/class/net/DEVICE/queues/rx-*/rps_cpus, \
                    interrupt affinity)."
        .into();
    if found.targets.is_empty() {
        found.targets = silent.into_keys().collect();
    }
    all.push(found);
    all
}

fn squeeze(case: &mut Case<'_>) -> Vec<Found> {
    let sum = |suffix: &str| -> u64 {
        case.spaces
            .iter()
            .flat_map(|space| space.rises("softnet.", suffix))
            .map(|(_, rise)| rise)
            .sum()
    };
    let (squeezes, processed) = (sum(".time_squeeze"), sum(".processed"));
    if squeezes < SQUEEZES || squeezes.saturating_mul(PACKETS_PER_SQUEEZE) < processed {
        return Vec::new();
    }
    let mut evidence =
        vec![format!("time_squeeze rose by {squeezes} while {processed} packets were processed.")];
    for name in ["net.core.netdev_budget", "net.core.netdev_budget_usecs", "net.core.dev_weight"] {
        if let Some(value) = case.spaces.iter().find_map(|space| space.sysctl(name)) {
            evidence.push(format!("{name} is {value}."));
        }
    }
    vec![Found {
        title: format!("Network softirqs ran out of budget {} with packets waiting.", counted(squeezes, "time")),
        evidence,
        effect: "confirmed: the kernel counted them.".to_owned(),
        advice: "Raise net.core.netdev_budget (default 300) and netdev_budget_usecs; spread interrupts and RPS over CPUs.".to_owned(),
        targets: vec!["softirq".to_owned()],
        times: Times { count: squeezes, ..Times::default() },
        sure: Sure::Medium("the counters are of the whole host".to_owned()),
        ..Found::default()
    }]
}
