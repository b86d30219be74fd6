//! What an archive holds, from its headers alone.

use std::collections::BTreeMap;

use super::data::Input;
use super::frame::{FrameKind, Hash, RecordingId, SCHEMA};
use super::payload::{self, Parent};
use super::walk::{Item, Walker};
use crate::fact::{EndFact, Fact};
use crate::{Manifest, Ns, SourceError};

/// Frames of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCount {
    /// Frames.
    pub frames: u64,
    /// Events, packets or facts in them.
    pub rows: u64,
    /// Bytes in the file, headers too.
    pub stored: u64,
    /// Payload bytes once decompressed.
    pub raw: u64,
}

/// What an archive holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArchiveInfo {
    /// The recording.
    pub recording: RecordingId,
    /// Highest payload schema seen; above 1 a later psc wrote some of it.
    pub schema: u16,
    /// What it was made from.
    pub parents: Vec<Parent>,
    /// The manifest; `None` when it is lost or of a later psc.
    pub manifest: Option<Manifest>,
    /// The end fact; `None` when the recording is unclosed.
    pub end: Option<EndFact>,
    /// Frames by kind.
    pub frames: BTreeMap<FrameKind, FrameCount>,
    /// Frames of kinds that only a later psc knows.
    pub unknown: FrameCount,
    /// Earliest and latest event.
    pub times: Option<(Ns, Ns)>,
    /// Bytes of the index, 0 when there is none.
    pub index_bytes: u64,
    /// Bytes that are no sound frame: damage, or a frame that was not finished.
    pub lost_bytes: u64,
    /// Frames of other recordings.
    pub foreign: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Hash of its last frame by the headers.
    pub last_hash: Hash,
}

impl ArchiveInfo {
    /// Frames of one kind.
    pub fn count(&self, kind: FrameKind) -> FrameCount {
        self.frames.get(&kind).copied().unwrap_or_default()
    }

    /// Events.
    pub fn events(&self) -> u64 {
        self.count(FrameKind::Events).rows
    }

    /// Bytes in the file of what `kinds` hold, for each event; `None` without events.
    pub fn bytes_per_event(&self, kinds: &[FrameKind]) -> Option<f64> {
        let stored: u64 = kinds.iter().map(|kind| self.count(*kind).stored).sum();
        let events = self.events();
        (events > 0).then(|| stored as f64 / events as f64)
    }
}

/// Reads the headers, the manifest and the end; [`super::verify`] reads everything. Damage is counted
/// in bytes, not explained.
pub fn info(input: Input) -> Result<ArchiveInfo, SourceError> {
    let name = input.name;
    let mut walker = Walker::new(input.data);
    let mut info = ArchiveInfo::default();
    let mut first = true;
    let mut sound = 0;
    let want = |kind: Option<FrameKind>| matches!(kind, Some(FrameKind::Manifest | FrameKind::End));
    while let Some(item) = walker.next(|header| want(header.frame_kind()))? {
        match item {
            Item::Frame(frame) => {
                let header = frame.header;
                sound += header.frame_len();
                if first {
                    info.recording = header.recording;
                    first = false;
                } else if header.recording != info.recording {
                    info.foreign += 1;
                    continue;
                }
                info.last_hash = header.hash;
                info.schema = info.schema.max(header.schema);
                let kind = header.frame_kind();
                let count = match kind {
                    Some(kind) => info.frames.entry(kind).or_default(),
                    None => &mut info.unknown,
                };
                count.frames += 1;
                count.rows += u64::from(header.count);
                count.stored += header.frame_len();
                count.raw += u64::from(header.raw);
                if kind == Some(FrameKind::Events) && header.first <= header.last {
                    let (earliest, latest) =
                        info.times.unwrap_or((Ns(header.first), Ns(header.last)));
                    info.times =
                        Some((earliest.min(Ns(header.first)), latest.max(Ns(header.last))));
                }
                if header.schema > SCHEMA {
                    continue;
                }
                if kind == Some(FrameKind::Manifest)
                    && let Ok((json, parents)) = payload::manifest(&header, frame.stored())
                {
                    info.manifest = serde_json::from_slice(&json).ok();
                    info.parents = parents;
                }
                if kind == Some(FrameKind::End)
                    && let Ok((facts, _)) = payload::facts(&header, frame.stored())
                {
                    info.end = facts.into_iter().find_map(|fact| match fact {
                        Fact::End(end) => Some(end),
                        _ => None,
                    });
                }
            }
            Item::Index { offset, .. } => {
                info.index_bytes = walker.offset() - offset;
                sound += info.index_bytes;
            }
            Item::Damage(..) | Item::Unfinished { .. } => {}
        }
    }
    if first {
        return Err(SourceError::data(format!(
            "{name} has no readable frame: it is not a psc archive, or nothing of it is left"
        )));
    }
    info.file_bytes = walker.offset();
    info.lost_bytes = info.file_bytes.saturating_sub(sound);
    Ok(info)
}
