//! Verifying: is every frame there, as it was written, where it was written?

use super::chain::{Chain, Place};
use super::data::Input;
use super::frame::{FLAG_PACKETS, FrameKind, Hash, Header, RecordingId, SCHEMA};
use super::index;
use super::payload;
use super::problem::{Fault, Problem, ProblemKind};
use super::reader::{decode_events, packet_bytes};
use super::walk::{Frame, Item, Walker};
use crate::SourceError;

/// Problems kept in a report; more are counted.
pub const PROBLEMS_KEPT: usize = 256;

/// What became of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its end is there and everything before it is as it was written.
    Closed,
    /// Everything there is as it was written, and there is no end: what a killed recorder, a full
    /// disk or a running recorder leaves. Not a sign of tampering, nor of its absence.
    Unclosed,
    /// Something is not as it was written.
    Damaged,
}

impl State {
    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Unclosed => "unclosed",
            Self::Damaged => "damaged",
        }
    }
}

/// What [`verify`] found.
///
/// A hash chain shows that a recording agrees with itself. Anyone can write another one that does:
/// only [`Self::last_hash`] compared with one kept elsewhere shows that this is the same recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// The recording; `None` when no frame was found.
    pub recording: Option<RecordingId>,
    /// What became of it.
    pub state: State,
    /// What is wrong, in file order, the first [`PROBLEMS_KEPT`] of them.
    pub problems: Vec<Problem>,
    /// How much is wrong.
    pub problem_count: u64,
    /// Sound frames.
    pub frames: u64,
    /// Events in sound frames.
    pub events: u64,
    /// Packets in sound frames.
    pub packets: u64,
    /// Facts in sound frames.
    pub facts: u64,
    /// Whether a sound index is there. It is made when a recording is closed and can be done
    /// without.
    pub index: bool,
    /// Bytes at the end that are the start of a frame which was not finished.
    pub unfinished: u64,
    /// Hash of the last frame, which stands for the whole recording.
    pub last_hash: Hash,
}

/// Goes through a whole archive: the hash of every frame, the chain through them, and whether each
/// payload can be read. An error is a file that cannot be read at all.
pub fn verify(input: Input) -> Result<VerifyReport, SourceError> {
    let name = input.name;
    let mut walker = Walker::new(input.data);
    let mut check = Check::default();
    while let Some(item) = walker.next(|_| true)? {
        match item {
            Item::Frame(frame) => check.frame(frame),
            Item::Damage(problem, header) => {
                let problem = check.chain.damaged(problem, header.as_ref());
                check.problems.push(problem);
            }
            Item::Index { offset, entries } => check.index(offset, entries),
            Item::Unfinished { offset, len } => {
                if check.chain.recording().is_none() {
                    return Err(SourceError::data(format!(
                        "{name} ends inside its first frame after {len} bytes: nothing in it can \
                         be read"
                    )));
                }
                check.unfinished(offset, len);
            }
        }
        check.bound();
    }
    if check.chain.recording().is_none() {
        return Err(SourceError::data(format!(
            "{name} has no readable frame: it is not a psc archive, or nothing of it is left"
        )));
    }
    Ok(check.report())
}

#[derive(Default)]
struct Check {
    chain: Chain,
    problems: Vec<Problem>,
    dropped: u64,
    /// Offsets and headers of the frames in file order, to compare the index with.
    headers: Vec<(u64, Header)>,
    packets_frame: Option<Frame>,
    events: u64,
    packets: u64,
    facts: u64,
    index: bool,
    unfinished: u64,
}

impl Check {
    fn frame(&mut self, frame: Frame) {
        self.headers.push((frame.offset, frame.header));
        if self.chain.follow(frame.offset, &frame.header, &mut self.problems) == Place::Ignore {
            return;
        }
        let header = frame.header;
        let Some(kind) = header.frame_kind().filter(|_| header.schema <= SCHEMA) else {
            self.problems.push(Problem::later(frame.offset, &header));
            return;
        };
        if header.number == 0 && kind != FrameKind::Manifest {
            let text = "the first frame is not the manifest".to_owned();
            self.problems.push(Problem::new(ProblemKind::Replaced, frame.offset, Some(0), text));
        }
        let before = self.packets_frame.take();
        let count = u64::from(header.count);
        let read = match kind {
            FrameKind::Manifest => {
                payload::manifest(&header, frame.stored()).and_then(|(json, _)| {
                    serde_json::from_slice::<crate::Manifest>(&json)
                        .map(drop)
                        .map_err(|error| Fault::Payload(format!("the manifest's JSON: {error}")))
                })
            }
            FrameKind::Facts | FrameKind::End => {
                self.facts += count;
                payload::facts(&header, frame.stored()).map(drop)
            }
            FrameKind::Packets => {
                self.packets += count;
                let offset = frame.offset;
                let read = packet_bytes(&frame).map(drop);
                self.packets_frame = Some(frame);
                self.readable(offset, &header, read);
                return;
            }
            FrameKind::Events => {
                self.events += count;
                Self::read_events(&frame, before.as_ref())
            }
        };
        self.readable(frame.offset, &header, read);
    }

    fn read_events(frame: &Frame, before: Option<&Frame>) -> Result<(), Fault> {
        let mut events = Vec::new();
        let flagged = frame.header.flags & FLAG_PACKETS != 0;
        let packets = before
            .filter(|before| {
                flagged && before.header.number.checked_add(1) == Some(frame.header.number)
            })
            .and_then(|before| packet_bytes(before).ok());
        decode_events(frame, packets.map(|packets| packets.len()), &mut events)?;
        let out = events
            .iter()
            .find(|event| event.at.0 < frame.header.first || event.at.0 > frame.header.last);
        match out {
            Some(event) => Err(Fault::Payload(format!(
                "an event at {} ns is outside the times in its header",
                event.at.0
            ))),
            None => Ok(()),
        }
    }

    fn readable(&mut self, offset: u64, header: &Header, read: Result<(), Fault>) {
        if let Err(fault) = read {
            self.problems.push(Problem::unreadable(offset, header, &fault));
        }
    }

    fn index(&mut self, offset: u64, entries: Option<Vec<index::Entry>>) {
        let text = match entries {
            // An index of damaged frames still describes them as they were.
            Some(entries) if self.index_agrees(&entries) => {
                self.index = true;
                return;
            }
            Some(_) => "does not describe the frames of this file",
            None => "is damaged",
        };
        self.problems.push(Problem::new(
            ProblemKind::Index,
            offset,
            None,
            format!(
                "the index at byte {offset} {text}; it is only an accelerator, so nothing else is \
                 lost by that"
            ),
        ));
    }

    fn index_agrees(&self, entries: &[index::Entry]) -> bool {
        self.headers.iter().all(|(offset, header)| {
            entries
                .binary_search_by_key(offset, |entry| entry.offset)
                .is_ok_and(|row| entries[row].matches(header))
        })
    }

    fn unfinished(&mut self, offset: u64, len: u64) {
        self.unfinished = len;
        if self.chain.ended() {
            // After the end only the index comes: its start is all that can be left of it.
            let text = format!(
                "the last {len} bytes, from byte {offset}, are the start of an index or frame; \
                 the recording itself is complete"
            );
            self.problems.push(Problem::new(ProblemKind::Index, offset, None, text));
        }
    }

    /// Keeps a file that is all problems from taking memory.
    fn bound(&mut self) {
        // Jumps that are explained by a frame coming late are taken back at the end, so these count
        // only once they are certain; the bound is far above what a person reads.
        let most = PROBLEMS_KEPT * 16;
        if self.problems.len() > most {
            self.dropped += (self.problems.len() - most) as u64;
            self.problems.truncate(most);
        }
    }

    fn report(mut self) -> VerifyReport {
        // A jump over frames that came later is the late frames' doing, not a loss.
        let missing = self.chain.missing();
        self.problems.retain(|problem| {
            problem.kind != ProblemKind::Missing
                || problem.frames.as_ref().is_some_and(|frames| {
                    missing.iter().any(|lost| lost.start < frames.end && frames.start < lost.end)
                })
        });
        let problem_count = self.problems.len() as u64 + self.dropped;
        self.problems.truncate(PROBLEMS_KEPT);
        let state = match (problem_count, self.chain.ended()) {
            (0, true) => State::Closed,
            (0, false) => State::Unclosed,
            _ => State::Damaged,
        };
        VerifyReport {
            recording: self.chain.recording(),
            state,
            problems: self.problems,
            problem_count,
            frames: self.headers.len() as u64,
            events: self.events,
            packets: self.packets,
            facts: self.facts,
            index: self.index,
            unfinished: self.unfinished,
            last_hash: self.chain.last_hash(),
        }
    }
}
