//! Payload bytes: rkyv inside zstd, and the documents inside facts and manifest frames.

use std::cell::RefCell;

use rkyv::api::high::{HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Error as RkyvError;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Portable, Serialize};

use super::Fault;
use super::frame::{Hash, Header, MAX_RAW, RecordingId};
use super::v1::{ArchivedFactsV1, ArchivedManifestV1, FactsV1};
use crate::Fact;
use crate::custody::{ParentFile, Step, hex};

/// zstd level that archives are written with unless told otherwise: the level that the size
/// targets are measured against.
pub const LEVEL: i32 = 3;

/// Serialises and compresses payloads, keeping its memory between frames.
pub(super) struct Packer {
    zstd: zstd::bulk::Compressor<'static>,
    raw: AlignedVec,
    stored: Vec<u8>,
}

impl Packer {
    pub(super) fn new(level: i32) -> std::io::Result<Self> {
        let mut zstd = zstd::bulk::Compressor::new(level)?;
        // Our own hash covers the payload; another checksum inside would only cost bytes.
        zstd.include_checksum(false)?;
        Ok(Self { zstd, raw: AlignedVec::new(), stored: Vec::new() })
    }

    /// The payload as stored, and its length before compression.
    pub(super) fn pack(
        &mut self,
        value: &impl for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, RkyvError>>,
    ) -> std::io::Result<(&[u8], u32)> {
        let mut raw = std::mem::take(&mut self.raw);
        raw.clear();
        self.raw = rkyv::api::high::to_bytes_in(value, raw).map_err(std::io::Error::other)?;
        let len = u32::try_from(self.raw.len()).ok().filter(|&len| len <= MAX_RAW);
        let len = len.ok_or_else(|| {
            std::io::Error::other(format!("a frame of {} bytes is too large", self.raw.len()))
        })?;
        self.stored.clear();
        self.stored.reserve(zstd::zstd_safe::compress_bound(self.raw.len()));
        self.zstd.compress_to_buffer(&self.raw, &mut self.stored)?;
        Ok((&self.stored, len))
    }
}

thread_local! {
    /// What decompressing needs, kept between frames: a frame of 1 MiB would else cost its pages twice.
    static UNPACKER: RefCell<Unpacker> = RefCell::new(Unpacker::default());
}

#[derive(Default)]
struct Unpacker {
    zstd: Option<zstd::bulk::Decompressor<'static>>,
    raw: AlignedVec,
}

/// Largest buffer kept between frames, bytes.
const KEPT: usize = 8 << 20;

/// Decompresses a payload into a buffer that rkyv can be read in place from, and hands it to `take`.
pub(super) fn unpack<R>(
    header: &Header,
    stored: &[u8],
    take: impl FnOnce(&[u8]) -> Result<R, Fault>,
) -> Result<R, Fault> {
    UNPACKER.with_borrow_mut(|unpacker| {
        let fault = |error: std::io::Error| Fault::Payload(format!("zstd: {error}"));
        let len = header.raw as usize;
        // The caps were checked with the header, so this allocation is bounded; zstd writes straight
        // into it and never more.
        if unpacker.raw.len() < len {
            unpacker.raw.resize(len, 0);
        }
        let zstd = match &mut unpacker.zstd {
            Some(zstd) => zstd,
            none => none.insert(zstd::bulk::Decompressor::new().map_err(fault)?),
        };
        let room = unpacker.raw.get_mut(..len).unwrap_or_default();
        let written = zstd.decompress_to_buffer(stored, room).map_err(fault)?;
        if written != len {
            return Err(Fault::Payload(format!(
                "it decompresses to {written} bytes where its header says {len}"
            )));
        }
        let taken = take(room);
        if unpacker.raw.len() > KEPT {
            unpacker.raw = AlignedVec::new();
        }
        taken
    })
}

/// Reads a payload in place after checking every pointer and length in it.
pub(super) fn access<T>(raw: &[u8]) -> Result<&T, Fault>
where
    T: Portable + for<'a> CheckBytes<HighValidator<'a, RkyvError>>,
{
    rkyv::access::<T, RkyvError>(raw).map_err(|error| Fault::Payload(format!("rkyv: {error}")))
}

/// A recording that another one was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its id.
    pub recording: RecordingId,
    /// Hash of its last frame; of its first one when it was sliced from a stream, whose end was then
    /// not yet known.
    pub hash: Hash,
}

impl Parent {
    const LEN: usize = 48;

    pub(super) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..16].copy_from_slice(&self.recording.0);
        out[16..].copy_from_slice(&self.hash);
        out
    }

    /// As the custody log has it.
    pub fn file(self) -> ParentFile {
        ParentFile { recording: self.recording.to_string(), hash: hex(&self.hash) }
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let (mut recording, mut hash) = ([0; 16], [0; 32]);
        recording.copy_from_slice(&bytes[..16]);
        hash.copy_from_slice(&bytes[16..Self::LEN]);
        Self { recording: RecordingId(recording), hash }
    }
}

/// What a manifest frame holds: the manifest's JSON, and what the recording was made from.
pub(super) fn manifest(header: &Header, stored: &[u8]) -> Result<(Vec<u8>, Vec<Parent>), Fault> {
    unpack(header, stored, |raw| {
        let payload = access::<ArchivedManifestV1>(raw)?;
        let parents = payload.parents.chunks_exact(Parent::LEN).map(Parent::from_bytes).collect();
        Ok((payload.json.to_vec(), parents))
    })
}

/// The facts of a facts or end frame, and how many of its documents could not be understood.
pub(super) fn facts(header: &Header, stored: &[u8]) -> Result<(Vec<Fact>, u64), Fault> {
    let mut facts = Vec::new();
    let mut unreadable = 0;
    documents(header, stored, |text| match serde_json::from_slice(text) {
        Ok(fact) => facts.push(fact),
        Err(_) => unreadable += 1,
    })?;
    Ok((facts, unreadable))
}

/// The JSON documents of a facts or end frame, in order.
pub(super) fn documents(
    header: &Header,
    stored: &[u8],
    mut take: impl FnMut(&[u8]),
) -> Result<(), Fault> {
    unpack(header, stored, |raw| {
        let payload = access::<ArchivedFactsV1>(raw)?;
        if payload.end.len() != header.count as usize {
            return Err(Fault::Payload(format!(
                "{} facts where its header says {}",
                payload.end.len(),
                header.count
            )));
        }
        let mut start = 0;
        for end in payload.end.iter() {
            let end = end.to_native() as usize;
            let text = payload
                .text
                .get(start..end)
                .ok_or_else(|| Fault::Payload("a fact ends outside the text".to_owned()))?;
            start = end;
            take(text);
        }
        Ok(())
    })
}

/// A manifest's JSON with one more step in its custody log. Fields that only a later psc knows stay.
pub(super) fn with_step(json: &[u8], step: &Step) -> std::io::Result<Vec<u8>> {
    let mut document: serde_json::Value = serde_json::from_slice(json)?;
    if let Some(fields) = document.as_object_mut() {
        let steps = fields.entry("custody").or_insert_with(|| serde_json::Value::Array(Vec::new()));
        if let Some(steps) = steps.as_array_mut() {
            steps.push(serde_json::to_value(step)?);
        }
    }
    Ok(serde_json::to_vec(&document)?)
}

/// Facts on their way into a frame.
#[derive(Default)]
pub(super) struct FactRows {
    rows: FactsV1,
    names: Vec<&'static str>,
}

impl FactRows {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.end.is_empty()
    }

    /// Facts and bytes of text so far.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.rows.end.len(), self.rows.text.len())
    }

    /// Takes one fact whose JSON is `json`.
    pub(super) fn push(&mut self, fact: &Fact, json: &[u8]) {
        let name = fact.name();
        let kind = self.names.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.names.push(name);
            self.rows.names.extend_from_slice(name.as_bytes());
            self.rows.names.push(b'\n');
            self.names.len() - 1
        });
        self.rows.at.push(fact.at().map_or(0, |at| at.0));
        self.rows.kind.push(kind as u8);
        self.rows.text.extend_from_slice(json);
        self.rows.end.push(self.rows.text.len() as u32);
    }

    /// The payload; there are none left after.
    pub(super) fn take(&mut self) -> FactsV1 {
        self.names.clear();
        std::mem::take(&mut self.rows)
    }
}
