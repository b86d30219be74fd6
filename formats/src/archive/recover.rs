//! Recovering: every complete frame of a damaged or unclosed archive, in a new one that is closed.

use std::io::{self, Write};

use super::chain::{Chain, Place};
use super::data::Input;
use super::frame::{FLAG_PACKETS, FrameKind, RecordingId, SCHEMA};
use super::payload::{self, Parent};
use super::problem::{Problem, ProblemKind};
use super::reader::notice;
use super::verify::PROBLEMS_KEPT;
use super::walk::{Frame, Item, Walker};
use super::writer::{Labels, Writer};
use crate::custody::Step;
use crate::fact::{EndFact, Severity};
use crate::{Manifest, SourceError};

/// What [`recover`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoverReport {
    /// The recording that was read.
    pub source: RecordingId,
    /// The one that was written.
    pub recording: RecordingId,
    /// Frames kept.
    pub frames: u64,
    /// Events kept.
    pub events: u64,
    /// What was wrong, the first [`PROBLEMS_KEPT`]; each is a notice in the new recording.
    pub problems: Vec<Problem>,
    /// How much was wrong.
    pub problem_count: u64,
    /// Bytes of the last frame, when it was not finished.
    pub unfinished: u64,
    /// Whether the recording had its end.
    pub closed: bool,
}

/// Writes every complete frame of `input` to `output`, in the order in which they were recorded.
///
/// Payloads are copied as they are, so what only a later psc can read is kept. Frames get new
/// numbers and hashes, and the new recording names the old one as its parent, so that it verifies;
/// what was lost is in it as notices. The same input gives the same output.
pub fn recover<W: Write>(input: Input, output: W) -> Result<(RecoverReport, W), SourceError> {
    let name = input.name;
    let mut walker = Walker::new(input.data);
    let mut chain = Chain::default();
    let mut frames: Vec<Frame> = Vec::new();
    let mut problems = Vec::new();
    let mut problem_count = 0;
    let mut unfinished = 0;
    while let Some(item) = walker.next(|_| true)? {
        match item {
            Item::Frame(frame) => {
                if chain.follow(frame.offset, &frame.header, &mut problems) == Place::Use {
                    frames.push(frame);
                }
            }
            Item::Damage(problem, header) => {
                let problem = chain.damaged(problem, header.as_ref());
                // The new recording has an index of its own.
                if problem.kind != ProblemKind::Index {
                    problems.push(problem);
                }
            }
            Item::Index { .. } => {}
            Item::Unfinished { len, .. } => unfinished = len,
        }
        problem_count += problems.len().saturating_sub(PROBLEMS_KEPT) as u64;
        problems.truncate(PROBLEMS_KEPT);
    }
    problem_count += problems.len() as u64;
    let Some(source) = chain.recording() else {
        return Err(SourceError::data(format!(
            "{name} has no complete frame: there is nothing to recover"
        )));
    };
    frames.sort_by_key(|frame| frame.header.number);
    let parent = Parent { recording: source, hash: chain.last_hash() };
    let recording = RecordingId::derived(&[b"recover", &source.0, &parent.hash]);
    let report = RecoverReport {
        source,
        recording,
        frames: frames.len() as u64,
        events: frames
            .iter()
            .filter(|frame| frame.header.frame_kind() == Some(FrameKind::Events))
            .map(|frame| u64::from(frame.header.count))
            .sum(),
        problems,
        problem_count,
        unfinished,
        closed: chain.ended(),
    };
    let output = write(&frames, &report, parent, output)
        .map_err(|error| SourceError::io(format!("writing what was recovered of {name}"), error))?;
    Ok((report, output))
}

fn write<W: Write>(
    frames: &[Frame],
    report: &RecoverReport,
    parent: Parent,
    output: W,
) -> io::Result<W> {
    let manifest = frames
        .iter()
        .filter(|frame| frame.header.frame_kind() == Some(FrameKind::Manifest))
        .find(|frame| frame.header.schema <= SCHEMA)
        .and_then(|frame| payload::manifest(&frame.header, frame.stored()).ok());
    let lost_manifest = manifest.is_none();
    let (json, mut parents) = match manifest {
        Some(manifest) => manifest,
        None => (serde_json::to_vec(&Manifest::default())?, Vec::new()),
    };
    parents.push(parent);
    let json = payload::with_step(&json, &Step::new("recover", "", vec![parent.file()]))?;
    let mut writer = Writer::with_manifest_json(output, json, report.recording, &parents)?;
    if lost_manifest {
        writer.append_fact(&notice(
            Severity::Error,
            "the manifest is lost: clock, probe names and drop-reason names are unknown".to_owned(),
            1,
        ))?;
    }
    for problem in &report.problems {
        writer.append_fact(&problem.notice())?;
    }
    let more = report.problem_count - report.problems.len() as u64;
    if more > 0 {
        let text = "more places were damaged".to_owned();
        writer.append_fact(&notice(Severity::Error, text, more))?;
    }
    if !report.closed {
        writer.append_fact(&notice(
            Severity::DataLoss,
            "the recording was unclosed when it was recovered: what its recorder had not yet \
             written is not here"
                .to_owned(),
            1,
        ))?;
    }
    writer.flush_frame()?;
    let mut end = None;
    let mut last = 0;
    let mut before: Option<&Frame> = None;
    for frame in frames {
        let header = &frame.header;
        let mut labels = Labels::of(header);
        match header.frame_kind() {
            Some(FrameKind::Manifest) if header.schema <= SCHEMA => continue,
            Some(FrameKind::End) => {
                end = Some(frame);
                continue;
            }
            Some(FrameKind::Events) => {
                last = last.max(header.last);
                let theirs = before.is_some_and(|before| {
                    before.header.frame_kind() == Some(FrameKind::Packets)
                        && before.header.number.checked_add(1) == Some(header.number)
                });
                if labels.flags & FLAG_PACKETS != 0 && !theirs {
                    labels.flags &= !FLAG_PACKETS;
                    let text = format!(
                        "the packet bytes of {} events (frame {} of recording {}) are lost",
                        header.count, header.number, report.source
                    );
                    writer.append_fact(&notice(Severity::Error, text, 1))?;
                    writer.flush_frame()?;
                }
            }
            Some(FrameKind::Manifest | FrameKind::Facts | FrameKind::Packets) | None => {}
        }
        writer.copy_frame(labels, frame.stored())?;
        before = Some(frame);
    }
    if let Some(frame) = end {
        return writer.finish_with(Labels::of(&frame.header), frame.stored());
    }
    let reason = "recovered from an unclosed recording".to_owned();
    writer.finish(EndFact { at: last, reason, ..EndFact::default() })
}
