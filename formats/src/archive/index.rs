//! The index: where the frames are, in a zstd skippable frame after the last one.
//!
//! It only saves a reader from touching every header. Whatever it says is also in the headers, so a
//! file without it, or with a damaged one, has lost nothing.

use super::frame::{HEADER_LEN, Header, MAX_RAW};

/// What an index starts with: zstd skippable frame number 12.
pub(super) const MAGIC: [u8; 4] = [0x5c, 0x2a, 0x4d, 0x18];
/// What an index, and with it a closed archive, ends with.
const END: [u8; 8] = *b"psc-idx\n";
/// Bytes of an entry.
const ENTRY: usize = 48;
/// Most bytes of an index after its first eight: entries of 1.4 million frames.
const MAX_LEN: u32 = MAX_RAW;
/// Entries, offset of the index, hash, end.
const TRAILER: usize = 8 + 8 + 32 + 8;

/// What the index says of one frame; the fields are those of its [`Header`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) offset: u64,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) watermark: u64,
    pub(super) count: u32,
    pub(super) stored: u32,
    pub(super) raw: u32,
    pub(super) schema: u16,
    pub(super) kind: u8,
    pub(super) flags: u8,
}

impl Entry {
    fn of(offset: u64, header: &Header) -> Self {
        Self {
            offset,
            first: header.first,
            last: header.last,
            watermark: header.watermark,
            count: header.count,
            stored: header.stored,
            raw: header.raw,
            schema: header.schema,
            kind: header.kind,
            flags: header.flags,
        }
    }

    fn to_bytes(self) -> [u8; ENTRY] {
        let mut out = [0; ENTRY];
        out[0..8].copy_from_slice(&self.offset.to_le_bytes());
        out[8..16].copy_from_slice(&self.first.to_le_bytes());
        out[16..24].copy_from_slice(&self.last.to_le_bytes());
        out[24..32].copy_from_slice(&self.watermark.to_le_bytes());
        out[32..36].copy_from_slice(&self.count.to_le_bytes());
        out[36..40].copy_from_slice(&self.stored.to_le_bytes());
        out[40..44].copy_from_slice(&self.raw.to_le_bytes());
        out[44..46].copy_from_slice(&self.schema.to_le_bytes());
        out[46] = self.kind;
        out[47] = self.flags;
        out
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        Self {
            offset: u64_at(bytes, 0),
            first: u64_at(bytes, 8),
            last: u64_at(bytes, 16),
            watermark: u64_at(bytes, 24),
            count: u32_at(bytes, 32),
            stored: u32_at(bytes, 36),
            raw: u32_at(bytes, 40),
            schema: u16::from_le_bytes([bytes[44], bytes[45]]),
            kind: bytes[46],
            flags: bytes[47],
        }
    }

    /// Whether a header is the one this entry was made of.
    pub(super) fn matches(&self, header: &Header) -> bool {
        *self == Self::of(self.offset, header)
    }

    /// As [`Header::overlaps`].
    pub(super) fn overlaps(&self, start: u64, end: u64) -> bool {
        self.first <= self.last && self.first < end && self.last >= start
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(out)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Collects entries while frames are written.
#[derive(Default)]
pub(super) struct Builder {
    entries: Vec<u8>,
    offset: u64,
}

impl Builder {
    /// Bytes of all frames so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn add(&mut self, header: &Header) {
        self.entries.extend_from_slice(&Entry::of(self.offset, header).to_bytes());
        self.offset += header.frame_len();
    }

    /// Appends the index to `out`, or nothing when there are more frames than an index may list:
    /// such an archive is scanned.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        let len = u32::try_from(self.entries.len() + TRAILER).ok();
        let Some(len) = len.filter(|&len| len <= MAX_LEN) else { return };
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&len.to_le_bytes());
        let mut hasher = blake3::Hasher::new();
        let mut put = |bytes: &[u8]| {
            hasher.update(bytes);
            out.extend_from_slice(bytes);
        };
        put(&self.entries);
        put(&((self.entries.len() / ENTRY) as u64).to_le_bytes());
        put(&self.offset.to_le_bytes());
        out.extend_from_slice(hasher.finalize().as_bytes());
        out.extend_from_slice(&END);
    }
}

/// Bytes of the index that starts `head` (eight bytes), by its own account; `None` when it is no
/// index or claims more than [`MAX_LEN`].
pub(super) fn len_of(head: &[u8]) -> Option<u64> {
    let (magic, rest) = head.split_first_chunk::<4>()?;
    let (len, _) = rest.split_first_chunk::<4>()?;
    let len = u32::from_le_bytes(*len);
    (*magic == MAGIC && len <= MAX_LEN).then(|| 8 + u64::from(len))
}

/// Reads the index that ends `file`; see [`parse`].
pub(super) fn read(file: &[u8]) -> Option<Vec<Entry>> {
    let trailer = &file[file.len().checked_sub(TRAILER)?..];
    let start = u64_at(trailer, 8);
    parse(file.get(usize::try_from(start).ok()?..)?, start)
}

/// Reads an index that starts at `start` of its file. `None` when it does not hold together: its
/// hash, and that its frames follow each other from the first byte up to the index itself. One that
/// was made to lie can still be told only from the headers, which `verify` does.
pub(super) fn parse(bytes: &[u8], start: u64) -> Option<Vec<Entry>> {
    let trailer_at = bytes.len().checked_sub(TRAILER)?;
    let trailer = &bytes[trailer_at..];
    let entries = bytes.get(8..trailer_at)?;
    let count = usize::try_from(u64_at(trailer, 0)).ok()?;
    let sound = trailer[TRAILER - 8..] == END
        && u64_at(trailer, 8) == start
        && entries.len() == count.checked_mul(ENTRY)?
        && len_of(bytes)? == bytes.len() as u64;
    if !sound {
        return None;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(entries);
    hasher.update(&trailer[..16]);
    if hasher.finalize().as_bytes()[..] != trailer[16..48] {
        return None;
    }
    let mut at = 0u64;
    let mut out = Vec::with_capacity(count);
    for entry in entries.chunks_exact(ENTRY).map(Entry::from_bytes) {
        if entry.offset != at || entry.raw > MAX_RAW {
            return None;
        }
        at = at.checked_add(HEADER_LEN as u64 + u64::from(entry.stored))?;
        out.push(entry);
    }
    (at == start).then_some(out)
}
