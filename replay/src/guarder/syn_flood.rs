//! SYN flood: handshakes opened at a listener and never completed.
//!
//! **Sees**: per server address and port, in windows of ten seconds of packet time, SYNs against
//! completed handshakes. **Thresholds**: at least 128 SYNs in a window, since 128 is the smallest SYN
//! backlog Linux uses by default (`tcp_max_syn_backlog`, tcp(7)), so fewer half-open connections can
//! overflow no listener; and at most one handshake in five completed.
//!
//! **Silent on**: a busy server (its handshakes complete); a server that is down (its clients try
//! again after a second, as RFC 6298 says, which spoofed SYNs never do); a closed port (it answers
//! with resets); health checks that never reach the rate.
//!
//! An attacker who repeats each SYN like a real client is taken for an outage; the counters of the
//! stack still tell, in the analyzer's listen-overflow finding.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use psc_formats::Manifest;
use psc_formats::manifest::Origin;

use crate::bounded::{Bounded, Top};
use crate::view::detect::Finding;

use super::attempt::{Change, Turn};
use super::detect::{About, Context, Detector};
use super::evidence::Exemplars;

const WINDOW_NS: u64 = 10_000_000_000;
const SYNS: u64 = 128;

const TCP: u8 = 6;

/// A source is named as an actor from this share of the SYNs: one in twenty.
const NAMED_SHARE: u64 = 20;

/// Servers watched at once.
const TARGETS: usize = 4_096;

/// Distinct sources counted exactly up to here, then "more than".
const SOURCES: usize = 4_096;

/// Counters that a SYN flood moves: (name, what its rise says).
const EFFECTS: [(&str, &str); 5] = [
    ("TcpExtListenOverflows", "accept queue overflows"),
    ("TcpExtListenDrops", "SYNs dropped by listeners"),
    ("TcpExtTCPReqQFullDoCookies", "SYNs answered by SYN cookies because the queue was full"),
    ("TcpExtTCPReqQFullDrop", "SYNs dropped because the queue was full"),
    ("TcpExtSyncookiesSent", "SYN cookies sent"),
];

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    syns: u64,
    answered: u64,
    completed: u64,
    refused: u64,
    aborted: u64,
    retried: u64,
}

impl Counts {
    fn is_flood(&self) -> bool {
        let failed = self.syns.saturating_sub(self.completed);
        self.syns >= SYNS
            && self.completed.saturating_mul(5) <= self.syns
            && self.refused.saturating_mul(2) < self.syns
            && self.retried.saturating_mul(10) < failed.saturating_mul(3)
    }

    fn add(&mut self, other: &Self) {
        self.syns += other.syns;
        self.answered += other.answered;
        self.completed += other.completed;
        self.refused += other.refused;
        self.aborted += other.aborted;
        self.retried += other.retried;
    }
}

/// One server, in the window under way and in all windows that were floods.
#[derive(Debug)]
struct Target {
    start: u64,
    end: u64,
    window: Counts,
    floods: Counts,
    /// SYNs of the worst window.
    peak: u64,
    first: u64,
    last: u64,
    sources: HashSet<IpAddr>,
    more_sources: bool,
    top: Top<IpAddr>,
    ttls: BTreeMap<u8, u64>,
    exemplars: Exemplars,
}

impl Target {
    fn new(at: u64) -> Self {
        Self {
            start: at,
            end: at,
            window: Counts::default(),
            floods: Counts::default(),
            peak: 0,
            first: at,
            last: at,
            sources: HashSet::new(),
            more_sources: false,
            top: Top::new(64),
            ttls: BTreeMap::new(),
            exemplars: Exemplars::default(),
        }
    }

    /// Ends the window under way. What is known about sources is kept only from floods.
    fn settle(&mut self, next: u64) {
        if self.window.is_flood() {
            if self.floods.syns == 0 {
                self.first = self.start;
            }
            self.last = self.end;
            self.peak = self.peak.max(self.window.syns);
            self.floods.add(&self.window);
        } else if self.floods.syns == 0 {
            self.sources.clear();
            self.more_sources = false;
            self.top = Top::new(64);
            self.ttls.clear();
            self.exemplars = Exemplars::default();
        }
        self.window = Counts::default();
        self.start = next;
        self.end = next;
    }
}

#[derive(Debug)]
pub(super) struct SynFlood {
    targets: Bounded<SocketAddr, Target>,
    /// Targets that were floods and had to make room.
    floods: Vec<(SocketAddr, Target)>,
}

impl Default for SynFlood {
    fn default() -> Self {
        Self { targets: Bounded::new(TARGETS), floods: Vec::new() }
    }
}

impl Detector for SynFlood {
    fn about(&self) -> About {
        About {
            id: "syn-flood",
            sees: "TCP handshakes opened at a server and never completed: at least 128 SYNs in ten \
                   seconds of which at most a fifth complete; silent on busy servers, on servers \
                   that are down and on closed ports.",
        }
    }

    fn blind(&self, manifest: &Manifest) -> String {
        match manifest.origin {
            Origin::Capture => "a capture has no counters of the stack, so whether a listener \
                                overflowed cannot be confirmed"
                .to_owned(),
            Origin::Kernel | Origin::Merge => String::new(),
        }
    }

    fn attempt(&mut self, change: &Change) {
        if change.protocol != TCP {
            return;
        }
        let mut spill = Vec::new();
        let target = self.targets.entry(change.server, || Target::new(change.at), &mut spill);
        if change.turn == Turn::Opened {
            if change.at.saturating_sub(target.start) >= WINDOW_NS {
                target.settle(change.at);
            }
            target.window.syns += 1;
            target.end = change.at;
            let source = change.client.ip();
            if target.sources.len() < SOURCES {
                target.sources.insert(source);
            } else {
                target.more_sources |= !target.sources.contains(&source);
            }
            target.top.add(source, 1);
            *target.ttls.entry(change.ttl).or_default() += 1;
            target.exemplars.add(change.journey);
        }
        match change.turn {
            Turn::Opened | Turn::Unanswered => {}
            Turn::Retried => target.window.retried += 1,
            Turn::Answered => target.window.answered += 1,
            Turn::Completed => target.window.completed += 1,
            Turn::Refused => target.window.refused += 1,
            Turn::Aborted => target.window.aborted += 1,
        }
        self.keep(spill);
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let targets = std::mem::replace(&mut self.targets, Bounded::new(1));
        self.keep(targets.into_oldest_first());
        self.floods.iter().map(|(server, target)| finding(*server, target, context)).collect()
    }
}

impl SynFlood {
    fn keep(&mut self, gone: Vec<(SocketAddr, Target)>) {
        for (server, mut target) in gone {
            target.settle(0);
            if target.floods.syns > 0 && self.floods.len() < TARGETS {
                self.floods.push((server, target));
            }
        }
    }
}

fn finding(server: SocketAddr, target: &Target, context: &Context<'_>) -> Finding {
    let counts = &target.floods;
    let more = if target.more_sources { "more than " } else { "" };
    let sources = target.sources.len();
    let mut evidence = vec![
        format!(
            "{} SYNs in windows that were floods, {} in the worst ten seconds; {} handshakes \
             completed.",
            counts.syns, target.peak, counts.completed
        ),
        format!(
            "{} were answered, {} reset by the client, {} refused, {} SYNs sent again.",
            counts.answered, counts.aborted, counts.refused, counts.retried
        ),
        format!("They came from {more}{sources} source addresses."),
    ];
    let same_ttl = target.ttls.iter().max_by_key(|(ttl, n)| (**n, **ttl));
    if sources >= 16
        && let Some((ttl, n)) = same_ttl
        && n.saturating_mul(10) >= target.ttls.values().sum::<u64>().saturating_mul(9)
    {
        evidence.push(format!(
            "{n} of them came with TTL {ttl}: hosts in different places would differ, so the \
             addresses are likely forged by few senders."
        ));
    }
    Finding {
        id: "syn-flood".to_owned(),
        severity: "high".to_owned(),
        confidence: context.confidence(None),
        title: format!(
            "{} SYNs to {server} of which {} became connections.",
            counts.syns, counts.completed
        ),
        evidence,
        effect: super::effect::counters(server.ip(), &EFFECTS, context),
        advice: "Keep net.ipv4.tcp_syncookies at 1, raise net.ipv4.tcp_max_syn_backlog and \
                 net.core.somaxconn with the listener's backlog; limit SYNs per source rather than \
                 block addresses that may be forged."
            .to_owned(),
        actors: actors(target, more),
        targets: vec![server.to_string()],
        first: target.first,
        last: target.last,
        packets: counts.syns,
        journeys: target.exemplars.list(),
        references: ["RFC 4987", "RFC 9293 section 3.5", "MITRE ATT&CK T1499.001", "CWE-400"]
            .map(str::to_owned)
            .to_vec(),
    }
}

/// Sources with a share worth naming; in a flood from forged addresses there is none.
fn actors(target: &Target, more: &str) -> Vec<String> {
    let proof = if target.floods.completed == 0 {
        "unproven: no handshake completed, so addresses may be forged"
    } else {
        "unproven: the address of a SYN may be forged"
    };
    let mut actors: Vec<String> = target
        .top
        .most(5)
        .into_iter()
        .filter(|(_, n)| n.saturating_mul(NAMED_SHARE) >= target.floods.syns)
        .map(|(source, n)| format!("{source} (at least {n} SYNs; {proof})"))
        .collect();
    if actors.is_empty() {
        actors
            .push(format!("{more}{} addresses with few SYNs each ({proof})", target.sources.len()));
    }
    actors
}

#[cfg(test)]
#[path = "syn_flood_tests.rs"]
mod tests;
