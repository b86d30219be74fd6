//! Which judgements about segments are kept for the report.

use super::tcp::{Note, Notes};
use crate::view::tcp::TcpNote;

/// Notes kept of one kind for each connection.
const OF_A_KIND: usize = 4;

/// Notes kept for each connection.
const OF_A_CONNECTION: usize = 24;

/// Notes kept of the connection that was asked for.
const WHOLE: usize = 100_000;

/// Notes kept of all connections together.
const ALL: u64 = 500_000;

/// Notes of one connection.
#[derive(Debug, Default)]
pub(super) struct Kept {
    notes: Vec<Note>,
    omitted: u64,
}

impl Kept {
    /// The notes in order, and how many were left out.
    pub(super) fn view(&self) -> (Vec<TcpNote>, u64) {
        (self.notes.iter().map(Note::view).collect(), self.omitted)
    }
}

/// Decides what is kept.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    kept: u64,
    /// The connection that is kept whole.
    whole: Option<u64>,
    /// Everything, with the number of the connection: only for those who can bear it.
    everything: Option<Vec<(u64, Note)>>,
}

impl Keeper {
    /// Keeps the first of each kind, and connection `flow` whole.
    pub(super) fn whole(flow: Option<u64>) -> Self {
        Self { whole: flow, ..Self::default() }
    }

    /// Keeps everything: as large as the source is long.
    pub(super) fn everything() -> Self {
        Self { everything: Some(Vec::new()), ..Self::default() }
    }

    pub(super) fn take_all(&mut self) -> Vec<(u64, Note)> {
        self.everything.take().unwrap_or_default()
    }

    /// Takes notes about connection `flow`.
    pub(super) fn of<'a>(&'a mut self, flow: u64, kept: &'a mut Kept) -> Of<'a> {
        Of { keeper: self, flow, kept }
    }
}

pub(super) struct Of<'a> {
    keeper: &'a mut Keeper,
    flow: u64,
    kept: &'a mut Kept,
}

impl Notes for Of<'_> {
    fn note(&mut self, note: Note) {
        if let Some(everything) = &mut self.keeper.everything {
            everything.push((self.flow, note));
        }
        let notes = &mut self.kept.notes;
        let fits = if self.keeper.whole == Some(self.flow) {
            notes.len() < WHOLE
        } else {
            let of_kind = notes.iter().filter(|other| other.kind == note.kind).count();
            of_kind < OF_A_KIND && notes.len() < OF_A_CONNECTION && self.keeper.kept < ALL
        };
        if fits {
            self.keeper.kept += 1;
            notes.push(note);
        } else {
            self.kept.omitted += 1;
        }
    }
}
