//! Walking the frames of a file, over damage.

use super::data::{Data, Stored};
use super::frame::{HEADER_LEN, Hash, Header, MAGIC, RecordingId};
use super::index;
use super::{Fault, Problem, ProblemKind};
use crate::SourceError;

/// Bytes searched for a frame at once.
const SEARCH: usize = 1 << 20;
/// Bytes that may be hashed in vain, beside as many as the file has: what a file of forged headers,
/// each claiming the rest of the file, can cost.
const VAIN: u64 = 256 << 20;

/// A frame whose hash is right, or one that was passed over unread.
pub(super) struct Frame {
    pub(super) offset: u64,
    pub(super) header: Header,
    /// The payload as stored; `None` when the frame was not wanted.
    pub(super) stored: Option<Stored>,
}

impl Frame {
    /// The payload as stored; empty when the frame was passed over.
    pub(super) fn stored(&self) -> &[u8] {
        self.stored.as_ref().map_or(&[], AsRef::as_ref)
    }
}

/// What comes next in a file.
pub(super) enum Item {
    Frame(Frame),
    /// Bytes that are no frame, with the header that they had when that is sound.
    Damage(Problem, Option<Header>),
    /// The index.
    Index {
        offset: u64,
        entries: Option<Vec<index::Entry>>,
    },
    /// Bytes at the end that are the start of a frame: what a recorder had not finished.
    Unfinished {
        offset: u64,
        len: u64,
    },
}

/// Goes through a file frame by frame.
pub(super) struct Walker {
    data: Data,
    at: u64,
    /// Frames to visit and no others, last first; when empty, each frame in turn.
    visits: Option<Vec<index::Entry>>,
    /// The recording of the first frame: while looking for a frame inside damage, only its own are
    /// taken, since packets may carry another archive.
    recording: Option<RecordingId>,
    vain: u64,
}

impl Walker {
    pub(super) fn new(data: Data) -> Self {
        Self { data, at: 0, visits: None, recording: None, vain: 0 }
    }

    /// Bytes behind, and in all.
    pub(super) fn position(&self) -> Option<(u64, u64)> {
        self.data.len().map(|len| (self.at.min(len), len))
    }

    pub(super) fn offset(&self) -> u64 {
        self.at
    }

    /// All bytes of the file, when they are at hand.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        self.data.whole()
    }

    /// Visits only these frames from here on.
    pub(super) fn visit(&mut self, mut entries: Vec<index::Entry>) {
        entries.reverse();
        self.visits = Some(entries);
    }

    /// Hash of the last frame by the headers alone, when all bytes are at hand.
    pub(super) fn last_hash(&self) -> Result<Option<Hash>, SourceError> {
        let Data::Whole(whole) = &self.data else { return Ok(None) };
        let mut walker = Self::new(Data::Whole(whole.clone()));
        if let Some(last) = index::read((**whole).as_ref()).and_then(|mut entries| entries.pop()) {
            walker.at = last.offset;
        }
        let mut hash = None;
        while let Some(item) = walker.next(|_| false)? {
            if let Item::Frame(frame) = item {
                hash = Some(frame.header.hash);
            }
        }
        Ok(hash)
    }

    /// The next item. Payloads of frames that `want` refuses are neither read nor checked.
    pub(super) fn next(
        &mut self,
        want: impl Fn(&Header) -> bool,
    ) -> Result<Option<Item>, SourceError> {
        if let Some(visits) = &mut self.visits {
            let Some(entry) = visits.pop() else { return Ok(None) };
            self.at = entry.offset;
            if let Ok(header) = self.header(entry.offset)?
                && entry.matches(&header)
                && let Some(frame) = self.frame(header, true)?
            {
                return Ok(Some(Item::Frame(frame)));
            }
            // The index promised something else: it is no use from here on.
            self.visits = None;
        }
        let start = self.at;
        match self.header(start)? {
            Ok(header) => {
                self.recording.get_or_insert(header.recording);
                let wanted = want(&header);
                if let Some(frame) = self.frame(header, wanted)? {
                    return Ok(Some(Item::Frame(frame)));
                }
                let left = self.remaining(start)?;
                if left < header.frame_len() {
                    return self.unfinished(start, left, Some(header));
                }
                self.skip_damage(start, Some(header), &Fault::Hash).map(Some)
            }
            Err(Fault::NoFrame) => {
                let head = self.data.view(start, start, HEADER_LEN)?;
                if head.is_empty() {
                    return Ok(None);
                }
                if let Some(len) = index::len_of(head) {
                    return self.index(start, len).map(Some);
                }
                let len = head.len();
                let begins = head[..len.min(16)] == MAGIC[..len.min(16)]
                    || head[..len.min(4)] == index::MAGIC[..len.min(4)];
                if len < HEADER_LEN && begins {
                    return self.unfinished(start, len as u64, None);
                }
                self.skip_damage(start, None, &Fault::NoFrame).map(Some)
            }
            Err(fault) => self.skip_damage(start, None, &fault).map(Some),
        }
    }

    /// The header at an offset.
    fn header(&mut self, at: u64) -> Result<Result<Header, Fault>, SourceError> {
        let bytes = self.data.view(at, at, HEADER_LEN)?;
        Ok(match bytes.first_chunk::<HEADER_LEN>() {
            Some(bytes) => Header::parse(bytes),
            None => Err(Fault::NoFrame),
        })
    }

    /// The frame at the current offset, which then is behind; `None` when it is not all there or
    /// its hash is wrong.
    fn frame(&mut self, header: Header, wanted: bool) -> Result<Option<Frame>, SourceError> {
        let offset = self.at;
        let payload_at = offset + HEADER_LEN as u64;
        let stored = if wanted {
            let len = header.stored as usize;
            let payload = self.data.view(offset, payload_at, len)?;
            if payload.len() < len {
                return Ok(None);
            }
            if !header.payload_is_sound(payload) {
                self.vain += len as u64;
                return Ok(None);
            }
            Some(self.data.stored(payload_at, len)?)
        } else {
            // Not read, so what counts is that a frame, an index or nothing comes after it.
            let after = offset + header.frame_len();
            let next = self.data.view(offset, after, HEADER_LEN)?;
            let plausible = match next.first_chunk::<HEADER_LEN>() {
                _ if index::len_of(next).is_some() => true,
                Some(bytes) => Header::parse(bytes).is_ok(),
                None => next.is_empty() && self.data.len() == Some(after),
            };
            if !plausible {
                return self.frame(header, true);
            }
            None
        };
        self.at = offset + header.frame_len();
        Ok(Some(Frame { offset, header, stored }))
    }

    /// Bytes from `at` to the end, counted no further than a frame can reach.
    fn remaining(&mut self, at: u64) -> Result<u64, SourceError> {
        let most = HEADER_LEN + super::frame::MAX_STORED as usize;
        Ok(self.data.view(at, at, most)?.len() as u64)
    }

    /// A frame that reaches past the end: the recorder's last, unless more frames follow inside.
    fn unfinished(
        &mut self,
        start: u64,
        len: u64,
        header: Option<Header>,
    ) -> Result<Option<Item>, SourceError> {
        if let Some(next) = self.search(start + 1, start + 1)? {
            self.at = next;
            let number = header.map(|header| header.number);
            let problem = Problem::damage(start, next, number, &Fault::Cut);
            return Ok(Some(Item::Damage(problem, header)));
        }
        self.at = start + len;
        Ok(Some(Item::Unfinished { offset: start, len }))
    }

    fn index(&mut self, start: u64, len: u64) -> Result<Item, SourceError> {
        let seen = self.data.view(start, start, len as usize)?.len() as u64;
        let end = start + len;
        if seen < len {
            let problem = Problem::new(
                ProblemKind::Index,
                start,
                None,
                format!(
                    "the index at byte {start} is cut short or its length is damaged; it is only \
                     an accelerator, so nothing else is lost by that"
                ),
            );
            // Frames may still follow when the length is what was damaged.
            self.at = self.search(start + 1, start + 1)?.unwrap_or(start + seen);
            return Ok(Item::Damage(problem, None));
        }
        let entries = index::parse(self.data.view(start, start, len as usize)?, start);
        self.at = end;
        Ok(Item::Index { offset: start, entries })
    }

    /// Names the damage from `start` up to the next sound frame, or to the end.
    fn skip_damage(
        &mut self,
        start: u64,
        header: Option<Header>,
        fault: &Fault,
    ) -> Result<Item, SourceError> {
        let number = header.map(|header| header.number);
        let damage = |end| Item::Damage(Problem::damage(start, end, number, fault), header);
        let mut from = start + 1;
        while let Some(at) = self.search(from, from)? {
            self.at = at;
            if let Some(len) = index::len_of(self.data.view(at, at, 8)?) {
                // An index is where the file ends; anything else that looks like one is chance.
                if self.data.view(at, at.saturating_add(len) - 1, 2)?.len() == 1 {
                    return Ok(damage(at));
                }
            } else if let Ok(header) = self.header(at)? {
                if self.frame(header, true)?.is_some() {
                    self.at = at;
                    return Ok(damage(at));
                }
                // The last frame of a file that was cut is whole as far as it goes.
                if self.remaining(at)? < header.frame_len() && self.search(at, at + 1)?.is_none() {
                    self.at = at;
                    return Ok(damage(at));
                }
            }
            if self.vain > VAIN.saturating_add(at) {
                return self.give_up(start);
            }
            from = at + 1;
        }
        let end = self.end()?;
        self.at = end;
        Ok(damage(end))
    }

    /// Stops reading a file that is made to be read for ever.
    fn give_up(&mut self, start: u64) -> Result<Item, SourceError> {
        self.at = self.end()?;
        let text = format!(
            "from byte {start} on the file is full of frames whose hashes are wrong; reading \
             stopped there"
        );
        Ok(Item::Damage(Problem::new(ProblemKind::Damaged, start, None, text), None))
    }

    /// Offset of the first header from `from` on that belongs to this recording, or of an index.
    /// Bytes from `keep` on can still be seen after.
    fn search(&mut self, keep: u64, from: u64) -> Result<Option<u64>, SourceError> {
        let recording = self.recording;
        let mut at = from;
        loop {
            let bytes = self.data.view(keep.min(at), at, SEARCH)?;
            let ended = bytes.len() < SEARCH;
            let mut skip = 0;
            while let Some(found) =
                bytes[skip..].iter().position(|&byte| byte == MAGIC[0] || byte == index::MAGIC[0])
            {
                let here = &bytes[skip + found..];
                if here.len() < HEADER_LEN && !ended {
                    break;
                }
                if let Some(header) = here.first_chunk::<HEADER_LEN>()
                    && here.starts_with(&MAGIC)
                    && let Ok(header) = Header::parse(header)
                    && recording.is_none_or(|recording| recording == header.recording)
                {
                    return Ok(Some(at + (skip + found) as u64));
                }
                if index::len_of(here).is_some() {
                    return Ok(Some(at + (skip + found) as u64));
                }
                skip += found + 1;
            }
            if ended {
                return Ok(None);
            }
            // Whole headers must be seen, so the next part begins with this one's tail.
            at += (SEARCH - HEADER_LEN + 1) as u64;
        }
    }

    /// Offset of the end, reading a stream up to it.
    fn end(&mut self) -> Result<u64, SourceError> {
        let mut at = self.at;
        loop {
            let seen = self.data.view(at, at, SEARCH)?.len();
            at += seen as u64;
            if seen < SEARCH {
                return Ok(at);
            }
        }
    }
}
