//! The connection table, on a thread of its own where there is one to spare.
//!
//! It needs nothing but what it is told, in order, so where it runs changes no result.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use psc_formats::packet::Headers;
use psc_formats::{Event, FiveTuple};

use super::flows::Flows;
use super::told::{Fragment, Told, fragment};
use crate::engine::{ClosedJourney, JourneyId, Outcome};

/// What is handed over at once.
const BATCH: usize = 1024;

/// Batches on their way at most: what bounds memory.
const BATCHES: usize = 8;

#[derive(Debug)]
pub(super) enum Word {
    Packet(Told),
    Socket(Box<Event>),
    Arrived(u64, FiveTuple, JourneyId),
    Dropped(FiveTuple, Option<Fragment>),
}

impl Word {
    fn tell(self, flows: &mut Flows) {
        match self {
            Self::Packet(told) => flows.packet(&told),
            Self::Socket(event) => flows.socket_event(&event),
            Self::Arrived(at, tuple, journey) => flows.arrived(at, tuple, journey),
            Self::Dropped(tuple, fragment) => flows.dropped(tuple, fragment),
        }
    }
}

/// Where the table is.
#[derive(Debug)]
pub(super) enum Lane {
    Here(Box<Flows>),
    Beside { words: Vec<Word>, send: SyncSender<Vec<Word>>, thread: JoinHandle<Flows> },
}

impl Default for Lane {
    fn default() -> Self {
        Self::Here(Box::default())
    }
}

impl Lane {
    /// A lane for `flows`: beside this thread when more than one is to be used.
    pub(super) fn new(flows: Flows) -> Self {
        if rayon::current_num_threads() < 2 {
            return Self::Here(Box::new(flows));
        }
        let (send, receive) = sync_channel::<Vec<Word>>(BATCHES);
        let mut table = flows;
        let work = move || {
            for words in receive {
                for word in words {
                    word.tell(&mut table);
                }
            }
            table
        };
        match std::thread::Builder::new().name("connections".to_owned()).spawn(work) {
            Ok(thread) => Self::Beside { words: Vec::with_capacity(BATCH), send, thread },
            // No thread to be had; the table went with the attempt and was empty.
            Err(_) => Self::default(),
        }
    }

    fn tell(&mut self, word: Word) {
        match self {
            Self::Here(flows) => word.tell(flows),
            Self::Beside { words, send, .. } => {
                words.push(word);
                if words.len() == BATCH {
                    // It ends only by a panic, which `finish` passes on.
                    let _ = send.send(std::mem::replace(words, Vec::with_capacity(BATCH)));
                }
            }
        }
    }

    /// One packet, told once.
    pub(super) fn packet(&mut self, event: &Event, headers: &Headers, journey: Option<JourneyId>) {
        if let Some(told) = Told::of(event, headers, journey) {
            self.tell(Word::Packet(told));
        }
    }

    /// Socket events: who owns which end, and what the kernel sent again.
    pub(super) fn socket_event(&mut self, event: &Event) {
        if Flows::heeds(&event.kind) {
            self.tell(Word::Socket(Box::new(*event)));
        }
    }

    /// A packet counted before came in by a device.
    pub(super) fn arrived(&mut self, at: u64, headers: &Headers, journey: JourneyId) {
        let acks = headers.tcp().is_some_and(|tcp| tcp.flags & super::tcp::ACK != 0);
        if let Some(tuple) = headers.tuple().filter(|_| acks) {
            self.tell(Word::Arrived(at, tuple, journey));
        }
    }

    /// A closed journey; `uncounted` when it never came by a device (dropped before any).
    pub(super) fn journey(&mut self, journey: &ClosedJourney, uncounted: bool) {
        if !matches!(journey.outcome, Outcome::Dropped { .. }) {
            return;
        }
        let Some((index, headers)) = journey.headers.first() else { return };
        if uncounted && let Some(event) = journey.steps.get(*index as usize) {
            self.packet(event, headers, Some(journey.id));
        }
        if let Some(tuple) = headers.tuple() {
            self.tell(Word::Dropped(tuple, fragment(headers)));
        }
    }

    /// The table, when everything has been told.
    pub(super) fn finish(self) -> Flows {
        match self {
            Self::Here(flows) => *flows,
            Self::Beside { words, send, thread } => {
                let _ = send.send(words);
                drop(send);
                match thread.join() {
                    Ok(flows) => flows,
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        }
    }
}
