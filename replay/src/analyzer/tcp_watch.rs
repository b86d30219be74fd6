//! Every judgement about every TCP segment: for comparison with other tools.

use psc_formats::Tables;

use super::flows::Flows;
use super::notes::Keeper;
use super::tcp::Note;
use super::told::Told;
use crate::engine::{Observer, Sighting, World};
use crate::first_sight::FirstSight;
use crate::view::analyze::FlowRow;

/// Observes a pass and keeps what [`super::Analyzer`] only counts. Its memory grows with the source.
#[derive(Debug)]
pub struct TcpWatch {
    once: FirstSight,
    flows: Flows,
}

impl Default for TcpWatch {
    fn default() -> Self {
        Self { once: FirstSight::default(), flows: Flows::keeping(Keeper::everything()) }
    }
}

impl TcpWatch {
    /// All judgements with the number of their connection, in the order of the packets, and all
    /// connections.
    pub fn finish(mut self, tables: &Tables) -> (Vec<(u64, Note)>, Vec<FlowRow>) {
        let notes = self.flows.take_notes();
        (notes, self.flows.rows(tables, usize::MAX).0)
    }
}

impl Observer for TcpWatch {
    fn sighting(&mut self, _world: World<'_>, sighting: &Sighting<'_>) {
        if let Some((headers, _)) = self.once.packet(sighting) {
            if let Some(told) = Told::of(sighting.event, headers, sighting.journey) {
                self.flows.packet(&told);
            }
        } else {
            self.flows.socket_event(sighting.event);
        }
    }
}
