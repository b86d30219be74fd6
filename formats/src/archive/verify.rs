//! Verifying: is every frame there, as it was written, where it was written?

use rayon::prelude::*;

use super::chain::{Chain, Place};
use super::claims::{Claim, Expected, Known, SignedBy, judge};
use super::data::Input;
use super::frame::{FLAG_PACKETS, FrameKind, Hash, Header, RecordingId, SCHEMA};
use super::index;
use super::payload;
use super::problem::{Fault, Problem, ProblemKind};
use super::reader::{decode_events, packet_bytes};
use super::walk::{Frame, Item, Walker};
use crate::custody::{Statement, StatementState};
use crate::{Fact, SourceError};

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
    /// It agrees with itself or not, and not with what was signed: somebody rewrote it, or it is
    /// not the recording that was signed.
    Contradicting,
}

impl State {
    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Unclosed => "unclosed",
            Self::Damaged => "damaged",
            Self::Contradicting => "contradicting",
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
    /// Number of that frame.
    pub last_frame: u64,
    /// Latest event by the headers, nanoseconds on the recording's clock.
    pub last: u64,
    /// Who signed what of it.
    pub signed: Vec<SignedBy>,
}

impl VerifyReport {
    /// The statement that says what this recording is, to be signed and kept elsewhere.
    pub fn statement(&self) -> Option<Statement> {
        Some(Statement {
            recording: self.recording?,
            frame: self.last_frame,
            hash: self.last_hash,
            at: self.last,
            state: if self.state == State::Closed {
                StatementState::Closed
            } else {
                StatementState::Open
            },
            signatures: Vec::new(),
        })
    }
}

/// Goes through a whole archive: the hash of every frame, the chain through them, and whether each
/// payload can be read. An error is a file that cannot be read at all.
pub fn verify(input: Input) -> Result<VerifyReport, SourceError> {
    verify_against(input, &Expected::default())
}

/// As [`verify`], and holds the recording against keys and statements kept elsewhere.
pub fn verify_against(input: Input, expected: &Expected) -> Result<VerifyReport, SourceError> {
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
        check.look(false);
    }
    check.look(true);
    if check.chain.recording().is_none() {
        return Err(SourceError::data(format!(
            "{name} has no readable frame: it is not a psc archive, or nothing of it is left"
        )));
    }
    Ok(check.report(expected))
}

#[derive(Default)]
struct Check {
    chain: Chain,
    problems: Vec<Problem>,
    dropped: u64,
    /// Offsets and headers of the frames in file order, to compare the index with.
    headers: Vec<(u64, Header)>,
    /// A packets frame whose events may come next.
    packets_frame: Option<Frame>,
    /// Frames to be looked into, several at once.
    jobs: Vec<Job>,
    /// Problems before these were in order when the jobs were last done.
    ordered: usize,
    claims: Vec<Claim>,
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
        let theirs = before.as_ref().is_some_and(|before| {
            kind == FrameKind::Events
                && header.flags & FLAG_PACKETS != 0
                && before.header.number.checked_add(1) == Some(header.number)
        });
        let (packets, alone) = if theirs { (before, None) } else { (None, before) };
        self.jobs.extend(alone.map(|frame| Job { frame, packets: None }));
        let count = u64::from(header.count);
        match kind {
            FrameKind::Manifest => {}
            FrameKind::Facts | FrameKind::End => self.facts += count,
            FrameKind::Events => self.events += count,
            FrameKind::Packets => {
                self.packets += count;
                self.packets_frame = Some(frame);
                return;
            }
        }
        self.jobs.push(Job { frame, packets });
    }

    /// Looks into the frames that wait, when there are enough of them or no more will come.
    fn look(&mut self, all: bool) {
        if all {
            self.jobs.extend(self.packets_frame.take().map(|frame| Job { frame, packets: None }));
        } else if self.jobs.len() < JOBS {
            return;
        }
        let jobs = std::mem::take(&mut self.jobs);
        let looked: Vec<Looked> = jobs.into_par_iter().map(Job::look).collect();
        for mut looked in looked {
            self.problems.append(&mut looked.problems);
            self.claims.append(&mut looked.claims);
        }
        // What is wrong with a frame's place was known before what is wrong inside others.
        let ordered = self.ordered.min(self.problems.len());
        self.problems[ordered..].sort_by_key(|problem| problem.offset);
        self.bound();
        self.ordered = self.problems.len();
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

    fn report(mut self, expected: &Expected) -> VerifyReport {
        // A jump over frames that came later is the late frames' doing, not a loss.
        let missing = self.chain.missing();
        self.problems.retain(|problem| {
            problem.kind != ProblemKind::Missing
                || problem.frames.as_ref().is_some_and(|frames| {
                    missing.iter().any(|lost| lost.start < frames.end && frames.start < lost.end)
                })
        });
        let mut signed = Vec::new();
        let frames = self.headers.iter().map(|(_, header)| header);
        let last = frames.clone().filter(|header| header.first <= header.last);
        let last = last.map(|header| header.last).max().unwrap_or(0);
        let end = frames.clone().find(|header| header.frame_kind() == Some(FrameKind::End));
        if let Some(recording) = self.chain.recording()
            && !(self.claims.is_empty()
                && expected.keys.is_empty()
                && expected.statements.is_empty())
        {
            let own = self.headers.iter().rev().filter(|(_, h)| h.recording == recording);
            let known = Known {
                recording,
                // Backwards: of two frames with one number the first counts.
                frames: own.map(|(offset, h)| (h.number, (*offset, h.hash))).collect(),
                end: end.map(|header| header.number),
            };
            signed = judge(&known, &self.claims, expected, &mut self.problems);
        }
        let contradicts =
            self.problems.iter().any(|problem| problem.kind == ProblemKind::Contradicts);
        let problem_count = self.problems.len() as u64 + self.dropped;
        if contradicts {
            // These first: they are what no accident does.
            self.problems.sort_by_key(|problem| problem.kind != ProblemKind::Contradicts);
        }
        self.problems.truncate(PROBLEMS_KEPT);
        let state = match (problem_count, self.chain.ended()) {
            _ if contradicts => State::Contradicting,
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
            last_frame: self.chain.last_number(),
            last,
            signed,
        }
    }
}

/// Frames looked into at once: enough for any number of threads, little enough to be held.
const JOBS: usize = 32;

/// A frame to look into.
struct Job {
    frame: Frame,
    /// The packets of an events frame.
    packets: Option<Frame>,
}

/// What is in a frame, as far as it matters here.
#[derive(Default)]
struct Looked {
    problems: Vec<Problem>,
    claims: Vec<Claim>,
}

impl Job {
    fn look(self) -> Looked {
        let mut looked = Looked::default();
        let (frame, header) = (&self.frame, &self.frame.header);
        let bytes = self.packets.as_ref().and_then(|packets| {
            let read = packet_bytes(packets);
            if let Err(fault) = &read {
                let problem = Problem::unreadable(packets.offset, &packets.header, fault);
                looked.problems.push(problem);
            }
            read.ok().map(|bytes| bytes.len())
        });
        let read = match header.frame_kind() {
            Some(FrameKind::Manifest) => {
                payload::manifest(header, frame.stored()).and_then(|(json, _)| {
                    serde_json::from_slice::<crate::Manifest>(&json)
                        .map(drop)
                        .map_err(|error| Fault::Payload(format!("the manifest's JSON: {error}")))
                })
            }
            Some(FrameKind::Facts | FrameKind::End) => facts(frame, &mut looked.claims),
            Some(FrameKind::Packets) => packet_bytes(frame).map(drop),
            Some(FrameKind::Events) => events(frame, bytes),
            None => Ok(()),
        };
        if let Err(fault) = read {
            looked.problems.push(Problem::unreadable(frame.offset, header, &fault));
        }
        looked
    }
}

fn events(frame: &Frame, packets: Option<usize>) -> Result<(), Fault> {
    let mut events = Vec::new();
    decode_events(frame, packets, &mut events)?;
    let (first, last) = (frame.header.first, frame.header.last);
    match events.iter().find(|event| event.at.0 < first || event.at.0 > last) {
        Some(event) => Err(Fault::Payload(format!(
            "an event at {} ns is outside the times in its header",
            event.at.0
        ))),
        None => Ok(()),
    }
}

fn facts(frame: &Frame, claims: &mut Vec<Claim>) -> Result<(), Fault> {
    let (number, offset) = (frame.header.number, frame.offset);
    payload::documents(&frame.header, frame.stored(), |text| {
        // Most facts claim nothing and need not be understood here.
        if !text.windows(11).any(|window| window == b"\"signature\"") {
            return;
        }
        match serde_json::from_slice(text) {
            Ok(Fact::Checkpoint(fact)) => claims.push(Claim::new(number, offset, fact, None)),
            Ok(Fact::End(end)) => {
                if let (Some(seal), Some(text)) = (end.seal, unsealed(text)) {
                    claims.push(Claim::new(number, offset, seal, Some(text)));
                }
            }
            _ => {}
        }
    })
}

/// The text of an end fact as it was when it was signed.
fn unsealed(text: &[u8]) -> Option<String> {
    let mut document: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(text).ok()?;
    document.shift_remove("seal")?;
    serde_json::to_string(&document).ok()
}
