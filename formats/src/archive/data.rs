//! The bytes of an archive: mapped when it is a file, through a window when it is a stream.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::SourceError;

/// Bytes asked of a stream at once.
const CHUNK: usize = 256 << 10;

/// An archive to be read: a file, a stream or bytes at hand.
pub struct Input {
    pub(super) data: Data,
    /// What messages call it.
    pub(super) name: String,
}

impl Input {
    /// A file; a pipe or another stream by its path works too.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        Ok(Self { data: Data::open(path)?, name: path.display().to_string() })
    }

    /// A stream, read once and forward.
    pub fn stream(stream: impl Read + Send + 'static, name: &str) -> Self {
        Self { data: Data::Stream(Stream::new(Box::new(stream))), name: name.to_owned() }
    }

    /// Bytes at hand.
    pub fn bytes(bytes: impl AsRef<[u8]> + Send + Sync + 'static, name: &str) -> Self {
        Self { data: Data::Whole(Arc::new(bytes)), name: name.to_owned() }
    }
}

/// Where the bytes are.
pub(super) enum Data {
    /// All of them, at hand.
    Whole(Whole),
    /// A part of them, moving forward.
    Stream(Stream),
}

/// All bytes, shared with the threads that decode.
pub(super) type Whole = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// A stored payload.
pub(super) enum Stored {
    Shared(Whole, Range<usize>),
    Owned(Vec<u8>),
}

impl AsRef<[u8]> for Stored {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Shared(whole, range) => (**whole).as_ref().get(range.clone()).unwrap_or(&[]),
            Self::Owned(bytes) => bytes,
        }
    }
}

impl Data {
    /// Opens a file, or whatever else the path names (a pipe, a terminal).
    pub(super) fn open(path: &Path) -> Result<Self, SourceError> {
        let doing = || format!("opening {}", path.display());
        let file = File::open(path).map_err(|error| SourceError::io(doing(), error))?;
        let meta = file.metadata().map_err(|error| SourceError::io(doing(), error))?;
        if meta.is_dir() {
            return Err(SourceError::data(format!(
                "{} is a directory; name an archive in it",
                path.display()
            )));
        }
        // A file that is still being written is read as long as it is now: the length is that of
        // the mapping.
        if meta.is_file() && meta.len() > 0 {
            // SAFETY: the mapping is private and read-only, and every byte read through it is
            // checked as hostile input, so another process changing the file can only look like
            // damage. One that shortens it while we read ends this process (SIGBUS): psc never
            // shortens an archive, and says so in FORMAT.md.
            if let Ok(map) = unsafe { memmap2::Mmap::map(&file) } {
                return Ok(Self::Whole(Arc::new(map)));
            }
        }
        Ok(Self::Stream(Stream::new(Box::new(file))))
    }

    /// Length, when it is known.
    pub(super) fn len(&self) -> Option<u64> {
        match self {
            Self::Whole(whole) => Some((**whole).as_ref().len() as u64),
            Self::Stream(stream) => stream.end(),
        }
    }

    /// All bytes, when they are at hand.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        match self {
            Self::Whole(whole) => Some((**whole).as_ref()),
            Self::Stream(_) => None,
        }
    }

    /// Up to `len` bytes from `at`: fewer only where the data ends. A stream forgets what is
    /// before `keep`.
    pub(super) fn view(&mut self, keep: u64, at: u64, len: usize) -> Result<&[u8], SourceError> {
        match self {
            Self::Whole(whole) => {
                let bytes = (**whole).as_ref();
                let start = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                Ok(&bytes[start..start.saturating_add(len).min(bytes.len())])
            }
            Self::Stream(stream) => stream
                .view(keep, at, len)
                .map_err(|error| SourceError::io(format!("reading at byte {at}"), error)),
        }
    }

    /// A payload that [`Self::view`] has just shown whole.
    pub(super) fn stored(&mut self, at: u64, len: usize) -> Result<Stored, SourceError> {
        if let Self::Whole(whole) = self {
            let start = usize::try_from(at).unwrap_or(usize::MAX);
            return Ok(Stored::Shared(whole.clone(), start..start.saturating_add(len)));
        }
        Ok(Stored::Owned(self.view(at, at, len)?.to_vec()))
    }
}

/// A stream seen through a window that only moves forward.
pub(super) struct Stream {
    source: Box<dyn Read + Send>,
    window: Vec<u8>,
    /// Offset of the window in the stream.
    base: u64,
    ended: bool,
}

impl Stream {
    pub(super) fn new(source: Box<dyn Read + Send>) -> Self {
        Self { source, window: Vec::new(), base: 0, ended: false }
    }

    fn end(&self) -> Option<u64> {
        self.ended.then_some(self.base + self.window.len() as u64)
    }

    fn view(&mut self, keep: u64, at: u64, len: usize) -> io::Result<&[u8]> {
        let passed = usize::try_from(keep.saturating_sub(self.base)).unwrap_or(usize::MAX);
        // Moving the rest down costs as much as it keeps, so only when most of it is behind.
        if passed > CHUNK && passed > self.window.len() / 2 {
            let passed = passed.min(self.window.len());
            self.window.drain(..passed);
            self.base += passed as u64;
        }
        let start = usize::try_from(at.saturating_sub(self.base)).unwrap_or(usize::MAX);
        let end = start.saturating_add(len);
        while self.window.len() < end && !self.ended {
            let had = self.window.len();
            self.window.resize(had + CHUNK, 0);
            let read = loop {
                match self.source.read(&mut self.window[had..]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
            match read {
                Ok(read) => {
                    self.window.truncate(had + read);
                    self.ended = read == 0;
                }
                Err(error) => {
                    self.window.truncate(had);
                    return Err(error);
                }
            }
        }
        let start = start.min(self.window.len());
        Ok(&self.window[start..end.min(self.window.len())])
    }
}
