//! Mirror of `bpf/guard.h`, compared with what clang made of it at compile time.

use psc_formats::guard::{Dim, KEYS, MAX_DIMS, StateKey, WINDOW};

use crate::guard_skeleton::types;
use crate::wire::{Wire, mirror};

/// `PSC_NONE`.
pub(super) const NONE: u32 = u32::MAX;

mirror! {
    /// One key in use.
    WireDim = psc_dim {
        key = key: u8, kind = kind: u8, steps = steps: u8, pad = pad: u8,
        table = table: u32, classes = classes: u32, starts = starts: u32, absent = absent: u32,
    }
    /// What is fixed when a rule set is loaded.
    Config = psc_guard_config {
        used = used: u64, dims = dims: u32, words = words: u32, summary = summary: u32, rules = rules: u32,
        small_mask = small_mask: u32, edges32_mask = edges32_mask: u32, edges64_mask = edges64_mask: u32,
        classes_mask = classes_mask: u32, starts_mask = starts_mask: u32, vectors_mask = vectors_mask: u32,
        rows_mask = rows_mask: u32, blocking = blocking: u32,
        stateful = stateful: u8, enforce = enforce: u8, never = never: u8, heartbeat = heartbeat: u8,
        test = test: u8, ethernet = ethernet: u8, pad = pad: [u8; 2],
        dim = dim: [WireDim; MAX_DIMS],
    }
    /// What a rule does.
    WireRule = psc_guard_rule {
        action = action: u8, per = per: u8, ways = ways: u8, rate = rate: u8,
        distinct = distinct: u8, unproven = unproven: u8, pad = pad: [u8; 2], over = over: u32, pad2 = pad2: u32,
        within = within: u64, amount = amount: u64, every = every: u64, depth = depth: u64, block = block: u64,
    }
    /// What state is kept by.
    WireKey = psc_state_key {
        rule = rule: u32, per = per: u8, family = family: u8, protocol = protocol: u8, pad = pad: u8,
        sport = sport: u16, dport = dport: u16, src = src: [u8; 16], dst = dst: [u8; 16],
    }
    /// A block under way.
    WireBlock = psc_block { until = until: u64, made = made: u64, first = first: u64, rule = rule: u32, pad = pad: u32 }
    /// Who is never discarded.
    WireNever = psc_never_key {
        kind = kind: u8, family = family: u8, protocol = protocol: u8, pad = pad: u8,
        sport = sport: u16, dport = dport: u16, src = src: [u8; 16], dst = dst: [u8; 16],
        mac = mac: [u8; 6], pad2 = pad2: [u8; 2],
    }
    /// Counters of one rule on one CPU.
    WireCounters = psc_rule_counters {
        matched = matched: u64, matched_bytes = matched_bytes: u64, discarded = discarded: u64,
        blocked = blocked: u64, discarded_bytes = discarded_bytes: u64, blocks = blocks: u64,
        unproven = unproven: u64, first = first: u64, last = last: u64,
    }
    /// Counters of one CPU.
    WireTotals = psc_guard_totals {
        asked = asked: u64, asked_bytes = asked_bytes: u64, discarded = discarded: u64,
        discarded_bytes = discarded_bytes: u64, never = never: u64, cut = cut: u64, no_state = no_state: u64,
    }
    /// Verdict of one test run.
    WireTold = psc_told {
        discard = discard: u32, by = by: u32, rule = rule: u32, noted = noted: u32,
        blocks = blocks: u32, unproven = unproven: u32, notes = notes: [u32; 16],
    }
}

// The last key on both sides.
const _: () = assert!(types::psc_key::PSC_KEYS.0 as usize == KEYS);
const _: () = assert!(types::psc_key::PSC_QUOTED_DST_PORT.0 as usize + 1 == KEYS);
const _: () = assert!(types::psc_key::PSC_TCP_FLAGS.0 == psc_formats::guard::Key::TcpFlags as u32);
const _: () = assert!(types::psc_key::PSC_IP_SRC.0 == psc_formats::guard::Key::IpSrc as u32);
const _: () = assert!(types::psc_key::PSC_V6_SRC.0 == psc_formats::guard::Key::V6Src as u32);
const _: () = assert!(types::psc_key::PSC_ICMP_TYPE.0 == psc_formats::guard::Key::IcmpType as u32);
const _: () = assert!(WINDOW == 256);

impl WireDim {
    pub(super) const UNUSED: Self =
        Self { key: 0, kind: 0, steps: 0, pad: 0, table: 0, classes: 0, starts: NONE, absent: 0 };

    pub(super) fn of(dim: &Dim) -> Self {
        Self {
            key: dim.key as u8,
            kind: dim.kind as u8,
            steps: dim.steps,
            pad: 0,
            table: dim.table,
            classes: dim.classes,
            starts: dim.starts.unwrap_or(NONE),
            absent: dim.absent,
        }
    }
}

impl WireKey {
    /// Ports lie in maps as they do in packets.
    pub(super) fn of(key: &StateKey) -> Self {
        Self {
            rule: key.rule,
            per: key.per,
            family: key.family,
            protocol: key.protocol,
            pad: 0,
            sport: key.sport.to_be(),
            dport: key.dport.to_be(),
            src: key.src,
            dst: key.dst,
        }
    }

    pub(super) fn key(&self) -> StateKey {
        StateKey {
            rule: self.rule,
            per: self.per,
            family: self.family,
            protocol: self.protocol,
            sport: u16::from_be(self.sport),
            dport: u16::from_be(self.dport),
            src: self.src,
            dst: self.dst,
        }
    }
}
