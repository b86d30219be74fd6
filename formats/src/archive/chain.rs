//! Whether each frame is the one that should come next.

use std::ops::Range;

use super::frame::{FrameKind, Hash, Header, RecordingId};
use super::problem::{Problem, ProblemKind};

/// What to do with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Use it.
    Use,
    /// It is not of this recording, or was there before.
    Ignore,
}

/// Follows the numbers and hashes of one recording's frames.
#[derive(Default)]
pub(super) struct Chain {
    recording: Option<RecordingId>,
    /// Number that comes next.
    next: u64,
    previous: Hash,
    /// Numbers that were jumped over and have not come since, ascending.
    missing: Vec<Range<u64>>,
    /// Frames are left out on purpose.
    blind: bool,
    /// The end frame was seen.
    ended: bool,
}

impl Chain {
    /// The recording, once a frame was seen.
    pub(super) fn recording(&self) -> Option<RecordingId> {
        self.recording
    }

    /// Hash of the frame with the highest number so far.
    pub(super) fn last_hash(&self) -> Hash {
        self.previous
    }

    /// The highest number so far.
    pub(super) fn last_number(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// Numbers that were jumped over and have not come since.
    pub(super) fn missing(&self) -> &[Range<u64>] {
        &self.missing
    }

    /// Frames will be left out on purpose: jumps say nothing from here on.
    pub(super) fn expect_gaps(&mut self) {
        self.blind = true;
    }

    /// The end frame was seen.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Takes damage in: says what it is in its place. When the header is sound, what follows the
    /// frame can still be told to follow.
    pub(super) fn damaged(&mut self, problem: Problem, header: Option<&Header>) -> Problem {
        let Some(header) = header else {
            if !self.ended || problem.kind != ProblemKind::Damaged {
                return problem;
            }
            // Nothing but the index comes after the end.
            let text = format!(
                "the bytes after the end frame, from byte {}, are no sound index; an index is only \
                 an accelerator, so nothing else is lost by that",
                problem.offset
            );
            return Problem::new(ProblemKind::Index, problem.offset, None, text);
        };
        if Some(header.recording) == self.recording && header.number == self.next {
            self.missing.push(header.number..header.number.saturating_add(1));
            self.next = header.number.saturating_add(1);
            self.previous = header.hash;
        }
        problem
    }

    /// Takes the next frame of the file; pushes what is wrong about its place.
    pub(super) fn follow(
        &mut self,
        offset: u64,
        header: &Header,
        problems: &mut Vec<Problem>,
    ) -> Place {
        let number = header.number;
        let mut say =
            |kind, text: String| problems.push(Problem::new(kind, offset, Some(number), text));
        let recording = *self.recording.get_or_insert(header.recording);
        if header.recording != recording {
            say(
                ProblemKind::Foreign,
                format!(
                    "frame {number} at byte {offset} belongs to recording {}, not to {recording}",
                    header.recording
                ),
            );
            return Place::Ignore;
        }
        if number < self.next {
            let Some(at) = self.missing.iter().position(|range| range.contains(&number)) else {
                say(
                    ProblemKind::Duplicated,
                    format!("frame {number} comes again at byte {offset}; the first one counts"),
                );
                return Place::Ignore;
            };
            let range = self.missing.remove(at);
            for part in [number + 1..range.end, range.start..number] {
                if !part.is_empty() {
                    self.missing.insert(at, part);
                }
            }
            say(
                ProblemKind::Reordered,
                format!("frame {number} comes at byte {offset}, after frame {}", self.next - 1),
            );
            return Place::Use;
        }
        if self.ended {
            say(
                ProblemKind::AfterEnd,
                format!("frame {number} at byte {offset} comes after the end of the recording"),
            );
        }
        if self.blind {
            // Which of the frames between were left out on purpose is not known here.
        } else if number > self.next {
            let missing = self.next..number;
            let what = if missing.end - missing.start == 1 {
                format!("frame {} is", missing.start)
            } else {
                format!("frames {} to {} are", missing.start, missing.end - 1)
            };
            let text = format!("{what} missing before frame {number} at byte {offset}");
            let problem = Problem::new(ProblemKind::Missing, offset, None, text);
            problems.push(Problem { frames: Some(missing.clone()), ..problem });
            self.missing.push(missing);
        } else if header.previous != self.previous {
            say(
                ProblemKind::Replaced,
                format!(
                    "frame {number} at byte {offset} does not follow from the frame before it: \
                     one of the two was replaced"
                ),
            );
        }
        self.next = number.saturating_add(1);
        self.previous = header.hash;
        self.ended |= header.frame_kind() == Some(FrameKind::End);
        Place::Use
    }
}
