//! How much went through each layer, each packet once per layer and direction.

use std::collections::{BTreeMap, BTreeSet};

use psc_formats::event::DeviceId;
use psc_formats::manifest::Layer;
use psc_formats::{Event, EventKind, Tables};

use crate::engine::ClosedJourney;
use crate::first_sight::Direction;
use crate::view::analyze::VolumeRow;

/// Where a kind of event counts: the layer whose door it is, and the direction.
///
/// One probe per door, so that a packet passing several probes of a layer counts once:
/// - driver ingress: handed to GRO or to the backlog; driver egress: handed to the driver
/// - qdisc egress: enqueued
/// - link ingress: `netif_receive_skb`; link egress: `net_dev_queue`
/// - transport ingress: `tcp_probe`, segments of established connections only
/// - socket: bytes copied to readers, taken from writers
fn door(kind: &EventKind) -> Option<(Layer, Direction)> {
    Some(match kind {
        EventKind::GroReceive {} | EventKind::BacklogQueue {} => {
            (Layer::Driver, Direction::Ingress)
        }
        EventKind::Receive {} => (Layer::Link, Direction::Ingress),
        EventKind::DeviceQueue {} => (Layer::Link, Direction::Egress),
        EventKind::QdiscEnqueue { .. } => (Layer::Qdisc, Direction::Egress),
        EventKind::TransmitStart {} => (Layer::Driver, Direction::Egress),
        EventKind::TcpProbe { .. } => (Layer::Transport, Direction::Ingress),
        EventKind::CopyToUser { .. } => (Layer::Socket, Direction::Ingress),
        EventKind::Captured { .. } => (Layer::Link, Direction::of(kind)?),
        _ => return None,
    })
}

/// The door of a kind counted by the recorder instead of stored.
fn door_of_tag(tag: u8) -> Option<(Layer, Direction)> {
    match tag {
        1 | 2 => Some((Layer::Driver, Direction::Ingress)),
        3 => Some((Layer::Link, Direction::Ingress)),
        4 => Some((Layer::Link, Direction::Egress)),
        5 => Some((Layer::Qdisc, Direction::Egress)),
        7 => Some((Layer::Driver, Direction::Egress)),
        _ => None,
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    skbs: u64,
    segments: u64,
    bytes: u64,
}

impl Count {
    fn add(&mut self, event: &Event) {
        self.skbs += 1;
        self.segments += u64::from(event.gso.segments());
        self.bytes += match event.kind {
            EventKind::CopyToUser { bytes } => u64::from(bytes),
            _ => u64::from(event.len),
        };
    }
}

/// Rows are per (layer, direction, device); `None` is over all devices.
type Key = (Layer, Direction, Option<DeviceId>);

#[derive(Debug, Default)]
pub(super) struct Volume {
    rows: BTreeMap<Key, Count>,
    /// Rows of captured frames, the first that came.
    captured: Vec<(Key, Count)>,
}

impl Volume {
    /// A frame of a capture.
    pub(super) fn captured(&mut self, event: &Event) {
        if let Some((layer, direction)) = door(&event.kind) {
            for device in [None, Some(event.device)] {
                self.frames(layer, direction, device).add(event);
            }
        }
    }

    /// The row of frames; the few that a capture has are found without walking the table.
    fn frames(
        &mut self,
        layer: Layer,
        direction: Direction,
        device: Option<DeviceId>,
    ) -> &mut Count {
        const FEW: usize = 16;
        let key = (layer, direction, device);
        match self.captured.iter().position(|(known, _)| *known == key) {
            Some(index) => &mut self.captured[index].1,
            None if self.captured.len() < FEW => {
                self.captured.push((key, Count::default()));
                let last = self.captured.len() - 1;
                &mut self.captured[last].1
            }
            None => self.rows.entry(key).or_default(),
        }
    }

    /// Socket reads and writes, and what the recorder only counted.
    pub(super) fn without_journey(&mut self, event: &Event) {
        match event.kind {
            EventKind::SockSend { rc } if rc > 0 => {
                let row = self.rows.entry((Layer::Socket, Direction::Egress, None)).or_default();
                row.skbs += 1;
                row.segments += 1;
                row.bytes += rc.unsigned_abs() as u64;
            }
            EventKind::Repeated { kind, count, bytes, .. } => {
                let Some((layer, direction)) = door_of_tag(kind) else { return };
                for device in [None, Some(event.device)] {
                    let row = self.rows.entry((layer, direction, device)).or_default();
                    row.skbs = row.skbs.saturating_add(count);
                    row.segments = row.segments.saturating_add(count);
                    row.bytes = row.bytes.saturating_add(bytes);
                }
            }
            _ => {}
        }
    }

    /// A journey: its first passage of each door, and its first of each door of each device.
    pub(super) fn journey(&mut self, journey: &ClosedJourney) {
        let mut passed: BTreeSet<Key> = BTreeSet::new();
        for event in &journey.steps {
            if matches!(event.kind, EventKind::Captured { .. }) {
                continue;
            }
            let Some((layer, direction)) = door(&event.kind) else { continue };
            for device in [None, Some(event.device)] {
                // A reader may copy one skb in pieces: each piece is bytes, the skb is one.
                let first = passed.insert((layer, direction, device));
                let row = self.rows.entry((layer, direction, device)).or_default();
                if first {
                    row.add(event);
                } else if let EventKind::CopyToUser { bytes } = event.kind {
                    row.bytes += u64::from(bytes);
                }
            }
        }
    }

    pub(super) fn rows(&self, tables: &Tables) -> Vec<VolumeRow> {
        let mut rows: Vec<(Key, VolumeRow)> = self
            .rows
            .iter()
            .chain(self.captured.iter().map(|(key, count)| (key, count)))
            // At a socket `skb->dev` is gone, so a row by device would say nothing.
            .filter(|((_, _, device), _)| *device != Some(DeviceId(0)))
            .map(|(key, count)| {
                let (layer, direction, device) = *key;
                let row = VolumeRow {
                    layer: layer.name().to_owned(),
                    direction: direction.name().to_owned(),
                    device: device.map_or_else(String::new, |id| device_label(tables, id)),
                    netns: device
                        .and_then(|id| super::netns_of_device(tables, id))
                        .unwrap_or_default(),
                    skbs: count.skbs,
                    segments: count.segments,
                    bytes: count.bytes,
                };
                (*key, row)
            })
            .collect();
        rows.sort_by(|(a, left), (b, right)| {
            (a.0, a.1, a.2.is_some(), &left.device, a.2).cmp(&(
                b.0,
                b.1,
                b.2.is_some(),
                &right.device,
                b.2,
            ))
        });
        rows.into_iter().map(|(_, row)| row).collect()
    }
}

/// `eth0`, or `eth0@ns` when its namespace has a name.
pub(super) fn device_label(tables: &Tables, id: DeviceId) -> String {
    match tables.devices.get(&id) {
        None => format!("device {}", id.0),
        Some(device) if device.netns_name.is_empty() => device.name.clone(),
        Some(device) => format!("{}@{}", device.name, device.netns_name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_packet_crossing_veth_counts_once_per_layer_and_once_per_device() {
        let mut volume = Volume::default();
        let steps = [
            sample::event(1, EventKind::DeviceQueue {}).device(1).len(1000).segments(3),
            sample::event(2, EventKind::TransmitStart {}).device(1).len(1000).segments(3),
            sample::event(3, EventKind::BacklogQueue {}).device(2).len(986).segments(3),
            sample::event(4, EventKind::Receive {}).device(2).len(986).segments(3),
            // Forwarded out of a third device: the same packet in the same layer again.
            sample::event(5, EventKind::DeviceQueue {}).device(3).len(1000).segments(3),
        ];
        volume.journey(&sample::journey(1, steps.map(Into::into).to_vec()));
        let tables = sample::devices(&[(1, "a", 10), (2, "b", 20), (3, "c", 20)]);
        let rows: Vec<_> = volume
            .rows(&tables)
            .into_iter()
            .map(|r| (r.layer, r.direction, r.device, r.skbs, r.segments, r.bytes))
            .collect();
        let row = |l: &str, d: &str, dev: &str, bytes| {
            (l.to_owned(), d.to_owned(), dev.to_owned(), 1, 3, bytes)
        };
        assert_eq!(
            rows,
            [
                row("driver", "ingress", "", 986),
                row("driver", "ingress", "b", 986),
                row("driver", "egress", "", 1000),
                row("driver", "egress", "a", 1000),
                row("link", "ingress", "", 986),
                row("link", "ingress", "b", 986),
                row("link", "egress", "", 1000),
                row("link", "egress", "a", 1000),
                row("link", "egress", "c", 1000),
            ]
        );
    }

    #[test]
    fn what_the_recorder_only_counted_is_volume_too() {
        let mut volume = Volume::default();
        let kind = EventKind::Repeated {
            kind: EventKind::Receive {}.tag(),
            count: 500,
            bytes: 30_000,
            reason: 0,
            location: psc_formats::event::SymbolId(0),
            first: 0,
        };
        volume.without_journey(&sample::event(9, kind).device(1).into());
        let rows = volume.rows(&sample::devices(&[(1, "a", 10)]));
        assert_eq!(rows.len(), 2);
        assert!(rows.iter().all(|r| r.skbs == 500 && r.bytes == 30_000));
    }

    #[test]
    fn tags_of_doors_are_those_of_the_kinds() {
        let kinds = [
            EventKind::GroReceive {},
            EventKind::BacklogQueue {},
            EventKind::Receive {},
            EventKind::DeviceQueue {},
            EventKind::QdiscEnqueue { handle: 0 },
            EventKind::TransmitStart {},
        ];
        for kind in kinds {
            assert_eq!(door_of_tag(kind.tag()), door(&kind), "{}", kind.name());
        }
    }
}
