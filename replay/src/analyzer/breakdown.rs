//! The same totals by flow, interface, process, cgroup, namespace, drop reason, peer and port.
//!
//! Made at the end from the connections, the volume at the link layer and the drops, so each packet
//! counts once for each key and breakdowns cost nothing while reading.

use std::cmp::Reverse;
use std::hash::Hash;
use std::net::IpAddr;

use hashbrown::HashMap;
use psc_formats::flow::ProtocolName;
use psc_formats::{FiveTuple, Tables};

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

/// What a row counts, before it gets its name: of a hundred thousand keys, few are shown.
#[derive(Clone, Copy, Default)]
struct Sum {
    packets: u64,
    bytes: u64,
    drops: u64,
    retransmits: u64,
    connections: u64,
}

impl Sum {
    fn talk(&mut self, talk: &Talk) {
        self.packets += talk.packets;
        self.bytes += talk.bytes;
        self.drops += talk.drops;
        self.retransmits += talk.retransmits;
        self.connections += 1;
    }

    fn named(self, name: String) -> BreakdownRow {
        let Self { packets, bytes, drops, retransmits, connections } = self;
        BreakdownRow { name, packets, bytes, drops, retransmits, connections }
    }
}

struct Sums<K>(HashMap<K, Sum>);

impl<K> Default for Sums<K> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<K: Hash + Eq> Sums<K> {
    fn row(&mut self, key: K) -> &mut Sum {
        self.0.entry(key).or_default()
    }

    fn finish(self, by: &str, limit: usize, name: impl Fn(K) -> String) -> Breakdown {
        table(by, self.0.into_iter().collect(), limit, name)
    }
}

impl Sums<String> {
    fn named(&mut self, name: &str) -> &mut Sum {
        self.0.entry_ref(name).or_default()
    }
}

/// Most bytes first, then most packets and drops, then by name.
fn table<K>(
    by: &str,
    mut all: Vec<(K, Sum)>,
    limit: usize,
    name: impl Fn(K) -> String,
) -> Breakdown {
    let most = |sum: &Sum| Reverse((sum.bytes, sum.packets, sum.drops));
    let omitted = all.len().saturating_sub(limit) as u64;
    if omitted > 0 {
        // Names decide among equals: all that are as great as the last one shown stay for that.
        let last = limit.checked_sub(1).map(|last| {
            let (_, (_, sum), _) = all.select_nth_unstable_by_key(last, |(_, sum)| most(sum));
            most(sum)
        });
        all.retain(|(_, sum)| last.is_some_and(|last| most(sum) <= last));
    }
    let mut rows: Vec<(Reverse<_>, BreakdownRow)> =
        all.into_iter().map(|(key, sum)| (most(&sum), sum.named(name(key)))).collect();
    rows.sort_unstable_by(|(a, left), (b, right)| {
        a.cmp(b).then_with(|| left.name.cmp(&right.name))
    });
    rows.truncate(limit);
    Breakdown { by: by.to_owned(), rows: rows.into_iter().map(|(_, row)| row).collect(), omitted }
}

/// All breakdowns, at most `limit` rows each.
pub(super) fn all(known: &Known<'_>, limit: usize) -> Vec<Breakdown> {
    let mut flow: Vec<((FiveTuple, u64), Sum)> = Vec::new();
    let [mut interface, mut process, mut cgroup, mut netns, mut reason] =
        std::array::from_fn(|_| Sums::<String>::default());
    let (mut peer, mut port) = (Sums::<IpAddr>::default(), Sums::<(u16, u8)>::default());
    known.flows.talks(known.tables, |talk| {
        let mut alone = Sum::default();
        alone.talk(talk);
        flow.push(((talk.tuple, talk.id), alone));
        for (sums, names) in [(&mut process, &talk.processes), (&mut cgroup, &talk.cgroups)] {
            let [a, b] = names;
            let other = b.as_ref().filter(|b| Some(*b) != a.as_ref());
            for name in a.iter().chain(other) {
                sums.named(name).talk(talk);
            }
            if a.is_none() && b.is_none() {
                sums.named("unknown").talk(talk);
            }
        }
        peer.row(talk.tuple.src).talk(talk);
        if talk.tuple.dst != talk.tuple.src {
            peer.row(talk.tuple.dst).talk(talk);
        }
        port.row((talk.tuple.dport, talk.tuple.protocol)).talk(talk);
    });
    let links = known.volume.iter().filter(|row| row.layer == "link" && !row.device.is_empty());
    for row in links {
        let device = interface.named(&row.device);
        device.packets += row.skbs;
        device.bytes += row.bytes;
        let place = netns.named(or_unknown(&row.netns));
        place.packets += row.skbs;
        place.bytes += row.bytes;
    }
    for row in known.drops {
        interface.named(or_unknown(&row.device)).drops += row.packets;
        netns.named(or_unknown(&row.netns)).drops += row.packets;
        let dropped = reason.named(or_unknown(&row.reason));
        dropped.packets += row.packets;
        dropped.bytes += row.bytes;
        dropped.drops += row.packets;
    }
    let service = |(number, protocol)| match (number, ProtocolName(protocol)) {
        (0, protocol) => protocol.to_string(),
        (number, protocol) => format!("{number}/{protocol}"),
    };
    let as_it_is = |name| name;
    let [by_flow, by_interface, by_process, by_cgroup, by_netns, by_reason, by_peer, by_port] =
        KEYS;
    vec![
        table(by_flow, flow, limit, |(tuple, id)| format!("{tuple} #{id}")),
        interface.finish(by_interface, limit, as_it_is),
        process.finish(by_process, limit, as_it_is),
        cgroup.finish(by_cgroup, limit, as_it_is),
        netns.finish(by_netns, limit, as_it_is),
        reason.finish(by_reason, limit, as_it_is),
        peer.finish(by_peer, limit, |address| address.to_string()),
        port.finish(by_port, limit, service),
    ]
}

fn or_unknown(name: &str) -> &str {
    if name.is_empty() { "unknown" } else { name }
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
