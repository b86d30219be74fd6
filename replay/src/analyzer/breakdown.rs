//! The same totals by flow, interface, process, cgroup, namespace, drop reason, peer and port.
//!
//! Made at the end from the connections, the volume at the link layer and the drops, so each packet
//! counts once for each key and breakdowns cost nothing while reading.

use std::cmp::Reverse;
use std::collections::HashMap;

use psc_formats::Tables;
use psc_formats::flow::ProtocolName;

use super::flows::{Flows, Talk};
use crate::view::analyze::{Breakdown, BreakdownRow, DropRow, VolumeRow};

/// By what, in the order of the report.
pub const KEYS: [&str; 8] =
    ["flow", "interface", "process", "cgroup", "netns", "drop-reason", "peer", "port"];

/// What is known when everything has been counted.
pub(super) struct Known<'a> {
    pub(super) tables: &'a Tables,
    pub(super) flows: &'a Flows,
    pub(super) volume: &'a [VolumeRow],
    pub(super) drops: &'a [DropRow],
}

#[derive(Default)]
struct Sums(HashMap<String, BreakdownRow>);

impl Sums {
    fn row(&mut self, name: String) -> &mut BreakdownRow {
        self.0.entry(name).or_default()
    }

    fn talk(&mut self, name: String, talk: &Talk) {
        let row = self.row(name);
        row.packets += talk.packets;
        row.bytes += talk.bytes;
        row.drops += talk.drops;
        row.retransmits += talk.retransmits;
        row.connections += 1;
    }

    /// Most bytes first, then most packets and drops, then by name.
    fn finish(self, by: &str, limit: usize) -> Breakdown {
        let mut rows: Vec<BreakdownRow> =
            self.0.into_iter().map(|(name, row)| BreakdownRow { name, ..row }).collect();
        rows.sort_by(|a, b| {
            let most = |row: &BreakdownRow| Reverse((row.bytes, row.packets, row.drops));
            most(a).cmp(&most(b)).then_with(|| a.name.cmp(&b.name))
        });
        let omitted = rows.len().saturating_sub(limit) as u64;
        rows.truncate(limit);
        Breakdown { by: by.to_owned(), rows, omitted }
    }
}

/// All breakdowns, at most `limit` rows each.
pub(super) fn all(known: &Known<'_>, limit: usize) -> Vec<Breakdown> {
    let mut sums: [Sums; KEYS.len()] = std::array::from_fn(|_| Sums::default());
    let [flow, interface, process, cgroup, netns, reason, peer, port] = &mut sums;
    known.flows.talks(known.tables, |talk| {
        flow.talk(format!("{} #{}", talk.tuple, talk.id), talk);
        for (sums, names) in [(&mut *process, &talk.processes), (&mut *cgroup, &talk.cgroups)] {
            let [a, b] = names;
            let other = b.as_ref().filter(|b| Some(*b) != a.as_ref());
            for name in a.iter().chain(other) {
                sums.talk(name.clone(), talk);
            }
            if a.is_none() && b.is_none() {
                sums.talk("unknown".to_owned(), talk);
            }
        }
        peer.talk(talk.tuple.src.to_string(), talk);
        if talk.tuple.dst != talk.tuple.src {
            peer.talk(talk.tuple.dst.to_string(), talk);
        }
        let service = ProtocolName(talk.tuple.protocol);
        match talk.tuple.dport {
            0 => port.talk(service.to_string(), talk),
            number => port.talk(format!("{number}/{service}"), talk),
        }
    });
    let links = known.volume.iter().filter(|row| row.layer == "link" && !row.device.is_empty());
    for row in links {
        let device = interface.row(row.device.clone());
        device.packets += row.skbs;
        device.bytes += row.bytes;
        let place = netns.row(or_unknown(&row.netns));
        place.packets += row.skbs;
        place.bytes += row.bytes;
    }
    for row in known.drops {
        let device = if row.device.is_empty() { "unknown" } else { &row.device };
        interface.row(device.to_owned()).drops += row.packets;
        netns.row(or_unknown(&row.netns)).drops += row.packets;
        let dropped = reason.row(or_unknown(&row.reason));
        dropped.packets += row.packets;
        dropped.bytes += row.bytes;
        dropped.drops += row.packets;
    }
    KEYS.iter().zip(sums).map(|(by, sums)| sums.finish(by, limit)).collect()
}

fn or_unknown(name: &str) -> String {
    if name.is_empty() { "unknown".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::told::Told;
    use super::*;
    use crate::sample;
    use psc_formats::EventKind;

    /// Three packets of two connections to one server, and a drop on its interface.
    #[test]
    fn each_packet_counts_once_for_each_key() {
        let mut flows = Flows::default();
        for (client, bytes) in
            [("10.0.0.1:1000", 100), ("10.0.0.1:1000", 60), ("10.0.0.3:1000", 40)]
        {
            let headers = sample::udp(client, "10.0.0.2:53", bytes - 28);
            let event = sample::event(0, EventKind::Captured { direction: 0 }).into();
            flows.packet(&Told::of(&event, &headers, None).expect("addresses"));
        }
        let link = VolumeRow {
            layer: "link".to_owned(),
            device: "eth0".to_owned(),
            netns: "web".to_owned(),
            skbs: 3,
            bytes: 242,
            ..VolumeRow::default()
        };
        let over_all = VolumeRow { device: String::new(), ..link.clone() };
        let drop = DropRow {
            reason: "NO_SOCKET".to_owned(),
            device: "eth0".to_owned(),
            netns: "web".to_owned(),
            packets: 2,
            bytes: 90,
            ..DropRow::default()
        };
        let tables = Tables::default();
        let (volume, drops) = ([over_all, link], [drop]);
        let known = Known { tables: &tables, flows: &flows, volume: &volume, drops: &drops };
        let rows: Vec<String> = all(&known, 10)
            .iter()
            .flat_map(|table| {
                table.rows.iter().map(|row| {
                    format!(
                        "{}: {} {} {} {} {}",
                        table.by, row.name, row.packets, row.bytes, row.drops, row.connections
                    )
                })
            })
            .collect();
        assert_eq!(
            rows,
            [
                "flow: udp 10.0.0.1:1000 > 10.0.0.2:53 #1 2 160 0 1",
                "flow: udp 10.0.0.3:1000 > 10.0.0.2:53 #2 1 40 0 1",
                "interface: eth0 3 242 2 0",
                "process: unknown 3 200 0 2",
                "cgroup: unknown 3 200 0 2",
                "netns: web 3 242 2 0",
                "drop-reason: NO_SOCKET 2 90 2 0",
                "peer: 10.0.0.2 3 200 0 2",
                "peer: 10.0.0.1 2 160 0 1",
                "peer: 10.0.0.3 1 40 0 1",
                "port: 53/udp 3 200 0 2",
            ]
        );
        let short = all(&known, 1);
        assert_eq!(short.iter().map(|table| table.omitted).sum::<u64>(), 1 + 2);
    }
}
