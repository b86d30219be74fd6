//! The frame: a fixed header, the payload after it, and the chain of hashes through all headers.
//!
//! The header is itself a zstd skippable frame, so a whole archive is one valid zstd stream:
//! `zstd -t` tests it and `zstd -l` lists it, with no psc at hand.

use std::fmt;

use super::Fault;

/// Bytes of a frame header.
pub const HEADER_LEN: usize = 152;
/// What every frame starts with: zstd skippable frame number 11, its length, then eight bytes that
/// no text file and no 7-bit or newline-converting transfer leaves alone.
pub const MAGIC: [u8; 16] =
    [0x5b, 0x2a, 0x4d, 0x18, 0x90, 0, 0, 0, 0x89, b'p', b's', b'c', b'\r', b'\n', 0x1a, b'\n'];
/// Layout of payloads that this version writes.
pub const SCHEMA: u16 = 1;
/// Most bytes of a payload, decompressed or stored.
pub const MAX_RAW: u32 = 64 << 20;
/// Most bytes of a payload as stored: zstd adds at most this little to what it cannot compress.
pub const MAX_STORED: u32 = MAX_RAW + (MAX_RAW >> 8) + 64;
/// Most rows (events, packets, facts) of a frame. An event takes some 150 bytes of memory however
/// few it takes in the file, so this and not [`MAX_RAW`] bounds what a hostile frame can ask for.
pub const MAX_COUNT: u32 = 1 << 16;
/// Offset of this frame's hash in its header; the hash covers everything before it.
const HASH_AT: usize = 112;
/// Offset of the header check.
const CHECK_AT: usize = 144;

/// BLAKE3 of a frame, as its header has it.
pub type Hash = [u8; 32];

/// Which recording a frame belongs to, so that a frame spliced in from another one is named.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct RecordingId(pub [u8; 16]);

impl RecordingId {
    /// An id that no other recording has.
    pub fn random() -> Self {
        use std::hash::{BuildHasher, RandomState};
        // The standard library seeds each thread's states from the operating system's generator.
        // They are keyed hashes of nothing: unique is what is needed here, secret is not.
        let mut id = [0; 16];
        let mut hasher = blake3::Hasher::new();
        for _ in 0..4 {
            hasher.update(&RandomState::new().hash_one(0u8).to_le_bytes());
        }
        hasher.update(&std::process::id().to_le_bytes());
        id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(id)
    }

    /// The id of what is made from `parts` alone, so that the same input and options give the same
    /// archive, byte for byte.
    pub fn derived(parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(id)
    }
}

impl fmt::Display for RecordingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RecordingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordingId({self})")
    }
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// How the recording was made, and what it was made from. The first frame.
    Manifest = 1,
    /// Facts.
    Facts = 2,
    /// Packet bytes of the events frame right after it.
    Packets = 3,
    /// Events.
    Events = 4,
    /// The end fact. The last frame of a closed recording.
    End = 5,
}

impl FrameKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 5] =
        [Self::Manifest, Self::Facts, Self::Packets, Self::Events, Self::End];

    /// The kind for a header value; `None` for one that this version does not know.
    pub fn from_u8(value: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == value)
    }

    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Facts => "facts",
            Self::Packets => "packets",
            Self::Events => "events",
            Self::End => "end",
        }
    }
}

/// Set in [`Header::flags`] of an events frame when the frame before it has its packet bytes.
pub const FLAG_PACKETS: u8 = 1;

/// A frame header. All integers are little-endian in the file; FORMAT.md has the offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Layout of the payload, [`SCHEMA`] in this version.
    pub schema: u16,
    /// [`FrameKind`] as a number, since a later version may have more.
    pub kind: u8,
    /// [`FLAG_PACKETS`]; other bits are 0.
    pub flags: u8,
    /// Events, packets or facts in the payload.
    pub count: u32,
    /// Position in the recording, from 0.
    pub number: u64,
    /// The recording.
    pub recording: RecordingId,
    /// Earliest event time, nanoseconds; above `last` when there is none.
    pub first: u64,
    /// Latest event time, nanoseconds.
    pub last: u64,
    /// Every event before this time is in this frame or an earlier one; 0 promises nothing.
    pub watermark: u64,
    /// Payload bytes in the file.
    pub stored: u32,
    /// Payload bytes once decompressed.
    pub raw: u32,
    /// Hash of the frame before this one; zeros in the first frame.
    pub previous: Hash,
    /// Hash of this frame: BLAKE3 of the header up to here and of the payload as stored.
    pub hash: Hash,
}

impl Header {
    /// The kind; `None` for one of a later version.
    pub fn frame_kind(&self) -> Option<FrameKind> {
        FrameKind::from_u8(self.kind)
    }

    /// Whether any event of the frame may be in `[start, end)`.
    pub fn overlaps(&self, start: u64, end: u64) -> bool {
        self.first <= self.last && self.first < end && self.last >= start
    }

    /// Bytes of the whole frame in the file.
    pub fn frame_len(&self) -> u64 {
        HEADER_LEN as u64 + u64::from(self.stored)
    }

    /// The header as it stands in the file, with hash and check computed for `payload`.
    pub fn seal(&mut self, payload: &[u8]) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        self.write_hashed(&mut out);
        self.hash = hash(&out, payload);
        out[HASH_AT..CHECK_AT].copy_from_slice(&self.hash);
        let check = check(&out);
        out[CHECK_AT..].copy_from_slice(&check);
        out
    }

    fn write_hashed(&self, out: &mut [u8; HEADER_LEN]) {
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&MAGIC);
        put(&self.schema.to_le_bytes());
        put(&[self.kind, self.flags]);
        put(&self.count.to_le_bytes());
        put(&self.number.to_le_bytes());
        put(&self.recording.0);
        put(&self.first.to_le_bytes());
        put(&self.last.to_le_bytes());
        put(&self.watermark.to_le_bytes());
        put(&self.stored.to_le_bytes());
        put(&self.raw.to_le_bytes());
        put(&self.previous);
        debug_assert_eq!(at, HASH_AT);
    }

    /// Reads a header, trusting nothing in it that the check or the caps refuse. The frame's hash
    /// is not looked at: see [`Self::payload_is_sound`].
    pub(super) fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, Fault> {
        if bytes[..16] != MAGIC {
            return Err(Fault::NoFrame);
        }
        if bytes[CHECK_AT..] != check(bytes) {
            return Err(Fault::Header);
        }
        let u64_at = |at: usize| u64::from_le_bytes(array(bytes, at));
        let u32_at = |at: usize| u32::from_le_bytes(array(bytes, at));
        let header = Self {
            schema: u16::from_le_bytes(array(bytes, 16)),
            kind: bytes[18],
            flags: bytes[19],
            count: u32_at(20),
            number: u64_at(24),
            recording: RecordingId(array(bytes, 32)),
            first: u64_at(48),
            last: u64_at(56),
            watermark: u64_at(64),
            stored: u32_at(72),
            raw: u32_at(76),
            previous: array(bytes, 80),
            hash: array(bytes, HASH_AT),
        };
        if header.stored > MAX_STORED || header.raw > MAX_RAW {
            return Err(Fault::TooLarge(header.raw.max(header.stored)));
        }
        if header.count > MAX_COUNT {
            return Err(Fault::TooMany(header.count));
        }
        Ok(header)
    }

    /// Whether the payload is the one this header was sealed with.
    pub(super) fn payload_is_sound(&self, payload: &[u8]) -> bool {
        let mut out = [0; HEADER_LEN];
        self.write_hashed(&mut out);
        hash(&out, payload) == self.hash
    }
}

fn hash(header: &[u8; HEADER_LEN], payload: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&header[..HASH_AT]);
    hasher.update(payload);
    *hasher.finalize().as_bytes()
}

/// Lets a reader tell a frame from chance and damage before it reads a payload.
fn check(header: &[u8; HEADER_LEN]) -> [u8; 8] {
    array(blake3::hash(&header[..CHECK_AT]).as_bytes(), 0)
}

/// `N` bytes at an offset that the caller knows to be inside.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            schema: SCHEMA,
            kind: FrameKind::Events as u8,
            flags: FLAG_PACKETS,
            count: 3,
            number: 7,
            recording: RecordingId::derived(&[b"test"]),
            first: 10,
            last: 20,
            watermark: 15,
            stored: 5,
            raw: 9,
            previous: [1; 32],
            hash: [0; 32],
        }
    }

    #[test]
    fn a_sealed_header_reads_back_and_no_bit_of_it_can_change() {
        let mut header = header();
        let sealed = header.seal(b"bytes");
        assert_eq!(Header::parse(&sealed).unwrap(), header);
        assert!(header.payload_is_sound(b"bytes"));
        assert!(!header.payload_is_sound(b"bytez"));
        for bit in 0..HEADER_LEN * 8 {
            let mut damaged = sealed;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::parse(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_header_is_a_zstd_skippable_frame() {
        let length = u32::from_le_bytes(array(&MAGIC, 4)) as usize;
        assert_eq!(length + 8, HEADER_LEN);
        assert_eq!(u32::from_le_bytes(array(&MAGIC, 0)) & !0xf, 0x184d_2a50);
    }

    #[test]
    fn sizes_above_the_caps_are_refused_before_anything_is_allocated() {
        let mut header = Header { raw: MAX_RAW + 1, ..header() };
        assert!(matches!(Header::parse(&header.seal(b"")), Err(Fault::TooLarge(_))));
    }

    #[test]
    fn random_ids_differ() {
        assert_ne!(RecordingId::random(), RecordingId::random());
    }
}
