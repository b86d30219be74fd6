//! Drops by reason and place. A drop is a journey that ended in one, never a bare `kfree_skb`.

use std::collections::BTreeMap;

use psc_formats::event::{DeviceId, SymbolId};
use psc_formats::{Event, EventKind, FiveTuple, Manifest, Tables};

use crate::bounded::Top;
use crate::engine::{ClosedJourney, JourneyId, Outcome};
use crate::layers;
use crate::view::analyze::DropRow;

use super::volume::device_label;

/// Distinct (reason, location, device) kept; a real kernel has a few hundred at most.
const ROWS: usize = 4096;

/// Flows remembered per row to find the top five.
const FLOWS: usize = 128;

/// Journeys and flows shown per row.
const SHOWN: usize = 5;

type Key = (u32, SymbolId, DeviceId);

#[derive(Debug)]
struct Row {
    packets: u64,
    bytes: u64,
    first: u64,
    last: u64,
    journeys: Vec<JourneyId>,
    flows: Top<FiveTuple>,
}

/// Frees of one (reason, location), to judge those that the recorder only counted.
#[derive(Clone, Copy, Debug, Default)]
struct Judged {
    drops: u64,
    harmless: u64,
}

#[derive(Debug, Default)]
pub(super) struct Drops {
    rows: BTreeMap<Key, Row>,
    judged: BTreeMap<(u32, SymbolId), Judged>,
    repeated: BTreeMap<Key, Row>,
    dropped: u64,
    journeys: u64,
    unlisted: u64,
}

impl Drops {
    pub(super) fn journey(&mut self, journey: &ClosedJourney) {
        self.journeys += u64::from(!journey.clone);
        let free = journey.steps.iter().rev().find_map(|event| match event.kind {
            EventKind::Free { reason, location } => Some((event, reason, location)),
            _ => None,
        });
        let Outcome::Dropped { reason, location } = journey.outcome else {
            if let Some((_, reason, location)) = free
                && (self.judged.len() < ROWS || self.judged.contains_key(&(reason, location)))
            {
                self.judged.entry((reason, location)).or_default().harmless += 1;
            }
            return;
        };
        self.dropped += 1;
        if self.judged.len() < ROWS || self.judged.contains_key(&(reason, location)) {
            self.judged.entry((reason, location)).or_default().drops += 1;
        }
        let last = free.map(|(event, ..)| event).or(journey.tier_one().next_back());
        let (at, len) = last.map_or((0, 0), |event| (event.at.0, event.len));
        let device = place(&journey.steps);
        let Some(row) = slot(&mut self.rows, (reason, location, device), at) else {
            self.unlisted += 1;
            return;
        };
        row.count(1, u64::from(len), at, at);
        if row.journeys.len() < SHOWN {
            row.journeys.push(journey.id);
        }
        if let Some(flow) = journey.flow {
            row.flows.add(flow, 1);
        }
    }

    /// Like events that the recorder counted instead of storing.
    pub(super) fn repeated(&mut self, event: &Event) {
        let EventKind::Repeated { kind, count, bytes, reason, location, first } = event.kind else {
            return;
        };
        if kind != (EventKind::Free { reason: 0, location: SymbolId(0) }).tag() {
            return;
        }
        let at = event.at.0;
        match slot(&mut self.repeated, (reason, location, event.device), first) {
            Some(row) => row.count(count, bytes, first, at),
            None => self.unlisted = self.unlisted.saturating_add(count),
        }
    }

    /// Frees counted by the recorder are drops, unless every stored free of the same reason and
    /// place turned out harmless (a clone freed while the packet lived on).
    pub(super) fn settle(&mut self) {
        let repeated = std::mem::take(&mut self.repeated);
        for (key, counted) in repeated {
            let judged = self.judged.get(&(key.0, key.1)).copied().unwrap_or_default();
            if judged.drops == 0 && judged.harmless > 0 {
                continue;
            }
            self.dropped = self.dropped.saturating_add(counted.packets);
            self.journeys = self.journeys.saturating_add(counted.packets);
            match slot(&mut self.rows, key, counted.first) {
                Some(row) => {
                    row.count(counted.packets, counted.bytes, counted.first, counted.last);
                }
                None => self.unlisted = self.unlisted.saturating_add(counted.packets),
            }
        }
    }

    /// (dropped, all journeys).
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.dropped, self.journeys)
    }

    /// Drops in no row because the table was full.
    pub(super) fn unlisted(&self) -> u64 {
        self.unlisted
    }

    pub(super) fn rows(&self, manifest: &Manifest, tables: &Tables) -> Vec<DropRow> {
        let mut rows: Vec<DropRow> = self
            .rows
            .iter()
            .map(|(&(reason, location, device), row)| {
                let reason = manifest.drop_reason(reason);
                DropRow {
                    meaning: (reason == "NOT_SPECIFIED")
                        .then(|| super::reasons::meaning_of_place(tables.function(location)))
                        .flatten()
                        .or_else(|| super::reasons::meaning(&reason))
                        .unwrap_or_default(),
                    reason,
                    location: tables.location(location),
                    layer: layers::of_function(tables.function(location))
                        .map_or("", psc_formats::manifest::Layer::name)
                        .to_owned(),
                    netns: super::netns_of_device(tables, device).unwrap_or_default(),
                    device: if device == DeviceId(0) {
                        String::new()
                    } else {
                        device_label(tables, device)
                    },
                    packets: row.packets,
                    bytes: row.bytes,
                    first: row.first,
                    last: row.last,
                    journeys: row.journeys.iter().map(|j| j.0).collect(),
                    flows: row
                        .flows
                        .most(SHOWN)
                        .into_iter()
                        .map(|(flow, n)| (flow.to_string(), n))
                        .collect(),
                }
            })
            .collect();
        rows.sort_by(|a, b| {
            (b.packets, &a.reason, &a.location, &a.netns, &a.device, a.first).cmp(&(
                a.packets,
                &b.reason,
                &b.location,
                &b.netns,
                &b.device,
                b.first,
            ))
        });
        rows
    }
}

/// Where a journey was when it ended: its last device that is known, since `skb->dev` is gone at
/// many frees.
pub(crate) fn place(steps: &[Event]) -> DeviceId {
    steps.iter().rev().map(|event| event.device).find(|id| id.0 != 0).unwrap_or_default()
}

fn slot(rows: &mut BTreeMap<Key, Row>, key: Key, first: u64) -> Option<&mut Row> {
    if rows.len() >= ROWS && !rows.contains_key(&key) {
        return None;
    }
    Some(rows.entry(key).or_insert_with(|| Row {
        packets: 0,
        bytes: 0,
        first,
        last: first,
        journeys: Vec::new(),
        flows: Top::new(FLOWS),
    }))
}

impl Row {
    fn count(&mut self, packets: u64, bytes: u64, first: u64, last: u64) {
        self.packets = self.packets.saturating_add(packets);
        self.bytes = self.bytes.saturating_add(bytes);
        self.first = self.first.min(first);
        self.last = self.last.max(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use psc_formats::Fact;
    use psc_formats::fact::SymbolFact;

    fn manifest() -> Manifest {
        let mut manifest = Manifest::default();
        manifest.drop_reasons.insert(3, "NO_SOCKET".to_owned());
        manifest
    }

    fn tables() -> Tables {
        let mut tables = sample::devices(&[(1, "eth0", 10)]);
        for (id, name) in [(7, "__udp4_lib_rcv"), (8, "raw_local_deliver")] {
            tables.apply(&Fact::Symbol(SymbolFact {
                id,
                name: name.to_owned(),
                offset: 0x40,
                ..SymbolFact::default()
            }));
        }
        tables
    }

    fn dropped(id: u64, at: u64) -> ClosedJourney {
        let location = SymbolId(7);
        let mut journey = sample::journey(
            id,
            vec![
                sample::event(at - 5, EventKind::Receive {}).device(1).len(60).into(),
                sample::event(at, EventKind::Free { reason: 3, location }).len(40).into(),
            ],
        );
        journey.outcome = Outcome::Dropped { reason: 3, location };
        journey.flow = sample::udp("10.0.0.1:5000", "10.0.0.2:53", 1).tuple();
        journey
    }

    fn repeated(at: u64, count: u64, location: u32) -> Event {
        let kind = EventKind::Repeated {
            kind: 9,
            count,
            bytes: count * 40,
            reason: 3,
            location: SymbolId(location),
            first: at - 1,
        };
        sample::event(at, kind).device(1).into()
    }

    #[test]
    fn stored_and_counted_drops_make_one_row() {
        let mut drops = Drops::default();
        for n in 1..=7 {
            drops.journey(&dropped(n, n * 100));
        }
        drops.repeated(&repeated(5_000, 900, 7));
        drops.settle();
        let rows = drops.rows(&manifest(), &tables());
        assert_eq!(rows.len(), 1);
        let row = &rows[0];
        assert_eq!((row.packets, row.bytes), (907, 907 * 40));
        assert_eq!((row.first, row.last), (100, 5_000));
        assert_eq!(row.location, "__udp4_lib_rcv+0x40");
        assert_eq!((row.layer.as_str(), row.device.as_str()), ("transport", "eth0"));
        assert_eq!(row.journeys, [1, 2, 3, 4, 5]);
        assert_eq!(row.flows, [("udp 10.0.0.1:5000 > 10.0.0.2:53".to_owned(), 7)]);
        assert!(row.meaning.starts_with("No socket listens"));
        assert_eq!(drops.totals(), (907, 907));
    }

    #[test]
    fn a_freed_clone_of_a_delivered_packet_is_no_drop_even_when_only_counted() {
        let mut drops = Drops::default();
        let mut ping = dropped(1, 100);
        ping.outcome = Outcome::Delivered;
        ping.clone = true;
        ping.steps[1].kind = EventKind::Free { reason: 3, location: SymbolId(8) };
        drops.journey(&ping);
        drops.repeated(&repeated(5_000, 900, 8));
        drops.settle();
        assert!(drops.rows(&manifest(), &tables()).is_empty());
        assert_eq!(drops.totals(), (0, 0));
    }

    #[test]
    fn hostile_variety_is_counted_but_not_kept() {
        let mut drops = Drops::default();
        for n in 0..10_000_u32 {
            let mut journey = dropped(u64::from(n), 100);
            journey.outcome = Outcome::Dropped { reason: n, location: SymbolId(7) };
            drops.journey(&journey);
        }
        assert_eq!(drops.rows.len(), ROWS);
        assert_eq!(drops.unlisted(), 10_000 - ROWS as u64);
        assert_eq!(drops.totals().0, 10_000);
    }
}
