//! What can be wrong with an archive, and how it is said.

use std::fmt;
use std::ops::Range;

use super::frame::{FrameKind, Header, MAX_COUNT, MAX_RAW, SCHEMA};
use crate::Fact;
use crate::fact::{NoticeFact, Severity};

/// Why bytes are not the frame they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// There is no frame here.
    NoFrame,
    /// A header that is not as it was written.
    Header,
    /// A header or payload that is not as it was written.
    Hash,
    /// The frame reaches past where another begins or the file ends.
    Cut,
    /// More bytes than any psc writes.
    TooLarge(u32),
    /// More rows than any psc writes.
    TooMany(u32),
    /// The payload is as it was written and still makes no sense.
    Payload(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFrame => f.write_str("no frame starts there"),
            Self::Header => f.write_str("the frame header does not match its check"),
            Self::Hash => f.write_str("the frame does not match its BLAKE3 hash"),
            Self::Cut => f.write_str("the frame is cut"),
            Self::TooLarge(size) => {
                write!(f, "a frame of {size} bytes is above the limit of {MAX_RAW}")
            }
            Self::TooMany(count) => {
                write!(f, "a frame of {count} rows is above the limit of {MAX_COUNT}")
            }
            Self::Payload(what) => write!(f, "its payload cannot be read: {what}"),
        }
    }
}

/// What kind of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProblemKind {
    /// Bytes are not as they were written.
    Damaged,
    /// Frames that must have been there are not.
    Missing,
    /// A frame is there, but not where it was written.
    Reordered,
    /// A frame, or another with its number, was there before.
    Duplicated,
    /// A frame of another recording.
    Foreign,
    /// A frame after the end frame.
    AfterEnd,
    /// A frame whose hash is right and that does not follow from the one before: one of them was
    /// replaced.
    Replaced,
    /// A frame is not the one that was signed, a signature is not what it says, or what had to be
    /// signed is not.
    Contradicts,
    /// A frame that only a later psc can read, or that makes no sense.
    Unreadable,
    /// The index is not as it was written. Costs time, never data.
    Index,
}

impl ProblemKind {
    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Missing => "missing",
            Self::Reordered => "reordered",
            Self::Duplicated => "duplicated",
            Self::Foreign => "foreign",
            Self::AfterEnd => "after-end",
            Self::Replaced => "replaced",
            Self::Contradicts => "contradicts",
            Self::Unreadable => "unreadable",
            Self::Index => "index",
        }
    }
}

/// One thing that is wrong with an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What kind of thing.
    pub kind: ProblemKind,
    /// Where in the file, bytes.
    pub offset: u64,
    /// Which frames, by number, when it is known.
    pub frames: Option<Range<u64>>,
    /// One sentence: what and where.
    pub text: String,
}

impl Problem {
    pub(super) fn new(
        kind: ProblemKind,
        offset: u64,
        frame: Option<u64>,
        text: impl Into<String>,
    ) -> Self {
        let frames = frame.map(|frame| frame..frame.saturating_add(1));
        Self { kind, offset, frames, text: text.into() }
    }

    /// Bytes `[start, end)` that are no frame.
    pub(super) fn damage(start: u64, end: u64, frame: Option<u64>, fault: &Fault) -> Self {
        let which = frame.map_or(String::new(), |number| format!(" (frame {number})"));
        let text = format!("bytes {start}..{end}{which} are damaged: {fault}");
        Self::new(ProblemKind::Damaged, start, frame, text)
    }

    /// A sound frame whose payload cannot be read.
    pub(super) fn unreadable(offset: u64, header: &Header, fault: &Fault) -> Self {
        let text = format!(
            "frame {} ({}, byte {offset}) cannot be read: {fault}",
            header.number,
            header.frame_kind().map_or("of an unknown kind", FrameKind::name)
        );
        Self::new(ProblemKind::Unreadable, offset, Some(header.number), text)
    }

    /// A frame of a later version.
    pub(super) fn later(offset: u64, header: &Header) -> Self {
        let what = if header.schema > SCHEMA {
            format!("archive schema {}, and this psc reads up to {SCHEMA}", header.schema)
        } else {
            format!("frame kind {}, which this psc does not know", header.kind)
        };
        let text = format!(
            "frame {} ({} rows, byte {offset}) was written by a later psc: {what}; a newer psc \
             can read it",
            header.number, header.count
        );
        Self::new(ProblemKind::Unreadable, offset, Some(header.number), text)
    }

    /// The notice that readers hand on.
    pub(super) fn notice(&self) -> Fact {
        Fact::Notice(NoticeFact {
            at: 0,
            severity: Severity::Error,
            text: self.text.clone(),
            count: 1,
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
