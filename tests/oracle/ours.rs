//! What psc says of a capture.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use psc_formats::open::open;
use psc_formats::packet::Headers;
use psc_replay::analyzer::{TcpJudgement, TcpWatch};
use psc_replay::engine::{self, Observer, Selection, Sighting, World};
use psc_replay::view::analyze::FlowRow;

/// Judgements by packet number, and connections.
#[derive(Debug, Default)]
pub(crate) struct Ours {
    /// (connection, judgements) of each packet that has some.
    pub(crate) notes: BTreeMap<u64, (u64, Vec<TcpJudgement>)>,
    /// Packets that are TCP to psc and have all their headers.
    pub(crate) tcp: BTreeSet<u64>,
    /// TCP packets whose headers or lengths are damaged, cut, or a fragment's.
    pub(crate) odd: BTreeSet<u64>,
    /// The file has packets out of the order of their times, in which psc takes them.
    pub(crate) disordered: bool,
    /// Connections by number.
    pub(crate) flows: BTreeMap<u64, FlowRow>,
}

#[derive(Default)]
struct Packets {
    last: u64,
    disordered: bool,
    tcp: BTreeSet<u64>,
    odd: BTreeSet<u64>,
}

fn is_odd(headers: &Headers, len: u32) -> bool {
    use psc_formats::packet::Network;
    let fragment = match headers.network {
        Network::V4(ip) => ip.more_fragments || ip.fragment_offset > 0,
        Network::V6(ip) => ip.fragment.is_some(),
        Network::Arp(_) | Network::None => true,
    };
    fragment
        || headers.malformed.is_some()
        || headers.cut
        || matches!(headers.network, Network::V4(ip) if ip.total_len == 0 || u32::from(ip.total_len) > len)
}

impl Observer for Packets {
    fn sighting(&mut self, _world: World<'_>, sighting: &Sighting<'_>) {
        let Some(headers) = sighting.headers.filter(|headers| headers.tcp().is_some()) else {
            return;
        };
        let number = sighting.event.seq + 1;
        self.disordered |= number < self.last;
        self.last = number;
        self.tcp.insert(number);
        if is_odd(headers, sighting.event.len) {
            self.odd.insert(number);
        }
    }
}

impl Ours {
    /// Reads a capture.
    pub(crate) fn read(capture: &Path) -> Result<Self, String> {
        let (mut watch, mut packets) = (TcpWatch::default(), Packets::default());
        let mut source = open(capture).map_err(|error| error.to_string())?;
        let observers: &mut [&mut dyn Observer] = &mut [&mut watch, &mut packets];
        let pass = engine::run(source.as_mut(), &Selection::default(), observers)
            .map_err(|error| error.to_string())?;
        let (notes, flows) = watch.finish(&pass.tables);
        let mut ours = Self {
            tcp: packets.tcp,
            odd: packets.odd,
            disordered: packets.disordered,
            ..Self::default()
        };
        for (flow, note) in notes {
            ours.notes.entry(note.packet).or_insert_with(|| (flow, Vec::new())).1.push(note);
        }
        ours.flows = flows.into_iter().map(|flow| (flow.id, flow)).collect();
        Ok(ours)
    }
}
