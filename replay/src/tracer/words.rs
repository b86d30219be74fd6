//! Events and headers in words, for single journeys.

use std::fmt::Write as _;

use psc_formats::event::{Context, StackEvidence};
use psc_formats::function::{Argument, Meaning, family_name, hook_name};
use psc_formats::packet::{self, Headers};
use psc_formats::{Event, EventKind};

use crate::engine::{Ambiguity, Lineage, Outcome, World};

/// `delivered`, `dropped: NO_SOCKET`, `end not observed`.
pub(super) fn outcome(outcome: Outcome, world: World<'_>) -> String {
    match outcome {
        Outcome::Delivered => "delivered".to_owned(),
        Outcome::Dropped { reason, .. } => {
            format!("dropped: {}", world.manifest.drop_reason(reason))
        }
        Outcome::EndNotObserved => "end not observed".to_owned(),
    }
}

/// Why an identity could not be settled.
pub(super) fn ambiguity(ambiguity: Ambiguity) -> &'static str {
    match ambiguity {
        Ambiguity::ContentContradicts => {
            "content contradicts what this skb was: a birth was missed"
        }
        Ambiguity::BirthNotObserved => "its first event is not a birth",
        Ambiguity::SameIdentification => {
            "another datagram of the same identification was incomplete"
        }
        Ambiguity::LossWhileOpen => "events were lost while it was under way",
    }
}

/// How it is joined to another journey.
pub(super) fn lineage(lineage: Lineage, of: u64) -> String {
    match lineage {
        Lineage::Clone => format!("clone of journey {of}"),
        Lineage::Copy => format!("copy of journey {of}"),
        Lineage::Segment => format!("segment of journey {of}"),
        Lineage::Merged => format!("merged by GRO into journey {of}"),
        Lineage::Fragment => format!("fragment of the datagram of journey {of}"),
        Lineage::Reassembled => format!("reassembled into journey {of}"),
    }
}

/// How the stack of an event is known.
pub(super) fn evidence(evidence: StackEvidence) -> &'static str {
    match evidence {
        StackEvidence::None => "",
        StackEvidence::Observed => "observed",
        StackEvidence::Confirmed => "confirmed",
        StackEvidence::Contradicted => "contradicted",
        StackEvidence::Inferred => "inferred",
    }
}

/// `comm[pid]`, `softirq`, `hardirq` or nothing.
pub(super) fn context(context: Context, world: World<'_>) -> String {
    match context {
        Context::Unknown => String::new(),
        Context::Softirq => "softirq".to_owned(),
        Context::Hardirq => "hardirq".to_owned(),
        Context::Task(tid) => match world.tables.tasks.get(&tid) {
            Some(task) => format!("{}[{}]", task.comm, task.pid),
            None => format!("task[{tid}]"),
        },
    }
}

/// What the probe saw beyond its name; empty when that says it all.
pub(super) fn detail(event: &Event, world: World<'_>) -> String {
    let location = |id| world.tables.location(id);
    match &event.kind {
        EventKind::Captured { direction: 1 } => "inbound".to_owned(),
        EventKind::Captured { direction: 2 } => "outbound".to_owned(),
        EventKind::QdiscEnqueue { handle } => format!("qdisc {:x}:", handle >> 16),
        EventKind::QdiscDequeue { handle, packets } => {
            format!("qdisc {:x}:, {packets} dequeued", handle >> 16)
        }
        EventKind::TransmitDone { rc: 0 } => "taken by the driver".to_owned(),
        EventKind::TransmitDone { rc: 0x10 } => "driver busy, queued again".to_owned(),
        EventKind::TransmitDone { rc }
        | EventKind::UdpQueueFail { rc }
        | EventKind::ReceiveReturn { rc } => format!("rc {rc}"),
        EventKind::Free { reason, location: at } => {
            format!("reason {} at {}", world.manifest.drop_reason(*reason), location(*at))
        }
        EventKind::Consume { location: at } if at.0 != 0 => format!("by {}", location(*at)),
        EventKind::CopyToUser { bytes } => format!("{bytes} bytes asked for"),
        EventKind::SendReset { tuple, reason } => {
            let why = world.manifest.reset_reasons.get(reason);
            match why {
                Some(why) => format!("reset to {tuple}: {why}"),
                None => format!("reset to {tuple}"),
            }
        }
        EventKind::ReceiveQueueFull { used, limit } => {
            format!("{used} bytes queued, limit {limit}")
        }
        EventKind::IcmpSend { icmp_type, code } => {
            format!("ICMP type {icmp_type} code {code} about it")
        }
        EventKind::TcpProbe { cwnd, srtt_us, .. } => {
            format!("cwnd {cwnd} segments, smoothed RTT {srtt_us} us")
        }
        EventKind::FunctionEntry { argument, value, .. } => entered(*argument, *value, world),
        EventKind::FunctionReturn { meaning, value, elapsed } => {
            returned(*meaning, *value, *elapsed, world)
        }
        EventKind::Cloned { .. } => "cloned".to_owned(),
        EventKind::Copied { .. } => "copied".to_owned(),
        EventKind::Segmented { .. } => "a segment cut from it".to_owned(),
        EventKind::Merged { .. } => "merged into another packet".to_owned(),
        EventKind::Fragmented { .. } => "a fragment cut from it".to_owned(),
        EventKind::Reassembled { .. } => "joined into its datagram".to_owned(),
        EventKind::NetfilterHook { family, hook, priority } => {
            let end = if *priority < 0 { "before" } else { "after" };
            let (family, hook) = (family_name(*family), hook_name(*family, *hook));
            format!("{family} {hook}, {end} all other hooks")
        }
        EventKind::Softirq { vector, ran, .. } => {
            format!("{}, ran {ran} ns", if *vector == 2 { "NET_TX" } else { "NET_RX" })
        }
        EventKind::Scheduled { waited } => format!("runs {waited} ns after a socket woke it"),
        EventKind::Handed { .. } => "goes on at the next host".to_owned(),
        EventKind::XdpException { action } => format!("XDP action {action}"),
        EventKind::XdpRedirect { rc, to } => format!("to interface {to}, rc {rc}"),
        _ => String::new(),
    }
}

/// What a function was entered with.
fn entered(argument: u8, value: u64, world: World<'_>) -> String {
    let hook = |value: u64| {
        let (family, hook) = (value as u8, (value >> 8) as u8);
        format!("{} {}", family_name(family), hook_name(family, hook))
    };
    match Argument::from_u8(argument) {
        Some(Argument::NetfilterHook) => hook(value),
        Some(Argument::Chain) => match world.tables.chains.get(&(value as u32)) {
            Some(chain) if chain.chain.is_empty() => {
                format!("{} table {}, {}", chain.kind, chain.table, hook(value >> 32))
            }
            Some(chain) => {
                let (kind, table, name) = (&chain.kind, &chain.table, &chain.chain);
                format!("{kind} table {table}, chain {name}, {}", hook(value >> 32))
            }
            None => hook(value >> 32),
        },
        Some(Argument::Protocol) => format!("protocol {value}"),
        Some(Argument::Interface) => format!("to interface {value}"),
        Some(Argument::Bytes) => format!("{value} bytes"),
        Some(Argument::None) | None => String::new(),
    }
}

/// What a function returned, and when.
fn returned(meaning: u8, value: i64, elapsed: u64, world: World<'_>) -> String {
    let reason = |number| world.manifest.drop_reason(number);
    let words = Meaning::from_u8(meaning).unwrap_or_default().words(value, reason);
    if words.is_empty() {
        format!("returned after {elapsed} ns")
    } else {
        format!("returned {words} after {elapsed} ns")
    }
}

/// What the headers are now, as far as it differs from before.
pub(super) fn change(before: &Headers, now: &Headers) -> String {
    let mut words = String::new();
    let mut add = |what: std::fmt::Arguments<'_>| {
        if !words.is_empty() {
            words.push_str(", ");
        }
        // Writing to a string cannot fail.
        let _ = words.write_fmt(what);
    };
    if before.tuple() != now.tuple() {
        match now.tuple() {
            Some(tuple) => add(format_args!("{tuple}")),
            None => add(format_args!("{}", packet::summary(now))),
        }
    }
    if before.ttl() != now.ttl()
        && let (Some(was), Some(is)) = (before.ttl(), now.ttl())
    {
        add(format_args!("TTL {was} to {is}"));
    }
    if before.vlans != now.vlans {
        match now.vlans[0] {
            Some(id) => add(format_args!("VLAN {id}")),
            None => add(format_args!("no VLAN tag")),
        }
    }
    if before.payload_len != now.payload_len && before.tuple() == now.tuple() {
        add(format_args!("payload {} to {} bytes", before.payload_len, now.payload_len));
    }
    if before.ethernet != now.ethernet
        && let Some(ethernet) = now.ethernet
        && before.ethernet.is_some()
    {
        add(format_args!("to {}", Mac(ethernet.dst)));
    }
    words
}

struct Mac([u8; 6]);

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if i > 0 { ":" } else { "" })?;
        }
        Ok(())
    }
}
