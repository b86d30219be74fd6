//! End states, the `conn_state` they make, and the history: Zeek's, so that they mean what readers of
//! its `conn.log` know (`scripts/base/protocols/conn/main.zeek`).

use super::{ACK, FIN, RST, SYN};

/// State of one end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    #[default]
    Inactive,
    SynSent,
    SynAckSent,
    /// Sends, but its SYN was not seen.
    Partial,
    Established,
    Closed,
    Reset,
}

/// Both ends.
#[derive(Clone, Debug, Default)]
pub(super) struct States {
    /// Originator, responder.
    ends: [End; 2],
    /// Any payload seen.
    payload: bool,
    /// Who sent the first RST that counted.
    pub(super) reset_by: Option<usize>,
    history: History,
}

/// What happened, in order of first times.
#[derive(Clone, Debug, Default)]
struct History {
    letters: String,
    /// Letters that come once per direction.
    once: [u16; 2],
    /// Sequence number of the last SYN, SYN-ACK, FIN and RST, which come once for each number.
    numbered: [[Option<u32>; 4]; 2],
    /// Times of what comes again at each power of ten.
    tens: [[u32; 3]; 2],
}

/// Most letters of a history; a scan of resets would go on for ever.
const LETTERS: usize = 64;

impl History {
    fn put(&mut self, from: usize, letter: char) {
        if self.letters.len() < LETTERS {
            self.letters.push(if from == 0 { letter.to_ascii_uppercase() } else { letter });
        }
    }

    fn once(&mut self, from: usize, bit: u32, letter: char) {
        if self.once[from] >> bit & 1 == 0 {
            self.once[from] |= 1 << bit;
            self.put(from, letter);
        }
    }

    fn numbered(&mut self, from: usize, slot: usize, number: u32, letter: char) {
        if self.numbered[from][slot].replace(number) != Some(number) {
            self.put(from, letter);
        }
    }

    fn tens(&mut self, from: usize, slot: usize, letter: char) {
        let count = &mut self.tens[from][slot];
        *count = count.saturating_add(1);
        if [1, 10, 100, 1_000, 10_000, 100_000].contains(count) {
            self.put(from, letter);
        }
    }
}

/// What a segment adds to the history.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) from: usize,
    pub(super) flags: u16,
    pub(super) seq: u32,
    pub(super) payload: u32,
    /// Payload seen before.
    pub(super) again: bool,
    /// The receive window went to 0.
    pub(super) closes_window: bool,
    /// Acknowledges what was not seen.
    pub(super) gap: bool,
}

impl States {
    /// A crossing SYN of a simultaneous open may come now.
    pub(super) fn awaits_crossing_syn(&self) -> bool {
        self.ends == [End::SynSent, End::Inactive]
    }

    pub(super) fn step(&mut self, step: Step) {
        self.remember(step);
        self.payload |= step.payload > 0 && step.flags & SYN == 0;
        self.advance(step.from, step.flags);
    }

    fn remember(&mut self, step: Step) {
        let Step { from, flags, seq, payload, .. } = step;
        let [syn, ack, fin, rst] = [SYN, ACK, FIN, RST].map(|bit| flags & bit != 0);
        let history = &mut self.history;
        if from == 1 && syn && ack && self.ends == [End::Inactive; 2] {
            // The first packet is an answer: who it answers is the originator.
            history.letters.push('^');
        }
        if syn && (fin || rst) {
            history.once(from, 0, 'q');
        }
        if fin && rst {
            history.once(from, 1, 'i');
        }
        if syn {
            let (slot, letter) = if ack { (1, 'h') } else { (0, 's') };
            history.numbered(from, slot, seq, letter);
        }
        if step.again {
            history.tens(from, 0, 't');
        }
        if payload > 0 && !syn {
            history.once(from, 2, 'd');
        } else if ack && !syn && !fin && !rst {
            history.once(from, 3, 'a');
        }
        if step.gap {
            history.tens(1 - from, 1, 'g');
        }
        if step.closes_window {
            history.tens(from, 2, 'w');
        }
        if fin {
            history.numbered(from, 2, seq.wrapping_add(payload), 'f');
        }
        if rst {
            history.numbered(from, 3, seq, 'r');
        }
    }

    fn advance(&mut self, from: usize, flags: u16) {
        let [syn, ack, fin, rst] = [SYN, ACK, FIN, RST].map(|bit| flags & bit != 0);
        let peer = 1 - from;
        if rst {
            // A reset after both ends had closed changes nothing that either end cares about.
            if self.ends != [End::Closed; 2] {
                self.ends[from] = End::Reset;
                self.reset_by.get_or_insert(from);
            }
            return;
        }
        self.ends[from] = match self.ends[from] {
            End::Inactive if syn && from == 0 && ack => End::SynAckSent,
            End::Inactive if syn && from == 0 => End::SynSent,
            End::Inactive if syn => {
                if matches!(self.ends[peer], End::SynSent | End::SynAckSent) {
                    self.ends[peer] = End::Established;
                }
                End::Established
            }
            End::Inactive if !fin => End::Partial,
            // The final ACK of a handshake whose SYN-ACK was not seen, and data after it.
            End::SynSent | End::SynAckSent if !syn && !fin && ack => {
                if self.ends[peer] == End::Partial || self.ends[peer] == End::Established {
                    End::Established
                } else {
                    self.ends[from]
                }
            }
            known => known,
        };
        if fin && self.ends[from] != End::Reset {
            self.ends[from] = End::Closed;
        }
    }

    /// Whether this end has sent its FIN, or reset.
    pub(super) fn is_closed(&self, end: usize) -> bool {
        matches!(self.ends[end], End::Closed | End::Reset)
    }

    /// Whether this end has only asked for a connection so far.
    pub(super) fn is_opening(&self, end: usize) -> bool {
        matches!(self.ends[end], End::SynSent | End::SynAckSent)
    }

    /// Zeek's `conn_state`.
    pub(super) fn conn_state(&self) -> &'static str {
        let [orig, resp] = self.ends;
        let inactive = |end| matches!(end, End::Inactive | End::Partial);
        match (orig, resp) {
            (End::SynSent | End::SynAckSent, End::Reset) => "REJ",
            (End::Reset, End::Reset) if !self.payload => "REJ",
            (_, End::Reset) if inactive(orig) => "RSTRH",
            (_, End::Reset) => "RSTR",
            (End::Reset, _) if inactive(resp) => "RSTOS0",
            (End::Reset, _) => "RSTO",
            (End::Closed, End::Closed) => "SF",
            (End::Closed, _) if inactive(resp) => "SH",
            (End::Closed, _) => "S2",
            (_, End::Closed) if inactive(orig) => "SHR",
            (_, End::Closed) => "S3",
            (End::SynSent, End::Inactive) => "S0",
            (End::Established, End::Established) => "S1",
            _ => "OTH",
        }
    }

    /// Zeek's `history`.
    pub(super) fn history(&self) -> &str {
        &self.history.letters
    }

    /// How it ended, in words.
    pub(super) fn ended(&self) -> &'static str {
        match (self.conn_state(), self.reset_by) {
            ("SF", _) => "closed by both",
            ("REJ", _) => "refused by the responder",
            (_, Some(0)) => "reset by the originator",
            (_, Some(_)) => "reset by the responder",
            ("S0", _) => "never answered",
            ("S1", _) => "open",
            ("S2" | "SH", _) => "closed by the originator only",
            ("S3" | "SHR", _) => "closed by the responder only",
            _ => "open, its beginning not seen",
        }
    }
}
