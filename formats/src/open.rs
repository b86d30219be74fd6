//! Opening whatever was recorded, told apart by content and not by name.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ahead::Ahead;
use crate::archive;
use crate::pcap::{self, CaptureSource};
use crate::source::{Batch, EventSource, Progress, SourceError};
use crate::{Manifest, archive::frame};

/// Enough of a start to tell every format.
const HEAD: usize = 16;

/// How far an archive is looked for behind a damaged start.
const DAMAGED_HEAD: usize = 1 << 20;

type Input = Box<dyn Read + Send>;

/// A source that another thread may read.
type Sendable = Box<dyn EventSource + Send>;

/// Opens a recording: a .psc archive, a pcap or pcapng capture, or one of them compressed with zstd
/// or gzip. `-` is standard input.
///
/// Compressed input is read as a stream in bounded memory, whatever it expands to.
pub fn open(path: &Path) -> Result<Box<dyn EventSource>, SourceError> {
    if path.as_os_str() == "-" {
        return from_stream(Box::new(io::stdin()), "standard input");
    }
    let name = path.display().to_string();
    let failed = |error: io::Error| SourceError::io(format!("cannot open {name}"), error);
    let file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if meta.is_dir() {
        return Err(SourceError::data(format!("{name} is a directory; name a recording in it")));
    }
    let total = if meta.is_file() { meta.len() } else { 0 };
    let done = Arc::new(AtomicU64::new(0));
    let mut input: Input = Box::new(Counted { inner: file, done: Arc::clone(&done) });
    let head = head_of(&mut input, HEAD).map_err(failed)?;
    if archive::is_archive(&head) && meta.is_file() {
        // By path: a file is mapped and its frames decoded in parallel.
        return Ok(Box::new(archive::Reader::open(path)?));
    }
    let source = told_apart(&head, input, &name)?;
    if total == 0 {
        return Ok(source);
    }
    // A file is read ahead; a stream may be live, and hands on what has come.
    let source: Box<dyn EventSource> =
        if rayon::current_num_threads() > 1 { Box::new(Ahead::new(source)?) } else { source };
    Ok(Box::new(Measured { source, done, total }))
}

/// Opens a stream as [`open`] does a file; `name` is what messages call it.
pub fn from_stream(mut input: Input, name: &str) -> Result<Box<dyn EventSource>, SourceError> {
    let head = head_of(&mut input, HEAD)
        .map_err(|error| SourceError::io(format!("cannot read {name}"), error))?;
    Ok(told_apart(&head, input, name)?)
}

/// The first bytes of `input`, fewer only when it ends.
fn head_of(input: &mut Input, wanted: usize) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    input.by_ref().take(wanted as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// The source for `input`, of which `head` was read already.
fn told_apart(head: &[u8], input: Input, name: &str) -> Result<Sendable, SourceError> {
    let bad = |error| SourceError::io(format!("cannot decompress {name}"), error);
    let compressed = compression(head);
    let whole: Input = Box::new(Cursor::new(head.to_owned()).chain(input));
    let mut expanded: Input = match compressed {
        None => return by_format(head, whole, name, ""),
        Some(Compression::Zstd) => Box::new(zstd::Decoder::new(whole).map_err(bad)?),
        Some(Compression::Gzip) => Box::new(flate2::read::MultiGzDecoder::new(whole)),
    };
    let head = head_of(&mut expanded, HEAD).map_err(bad)?;
    let whole: Input = Box::new(Cursor::new(head.clone()).chain(expanded));
    by_format(&head, whole, name, "inside the compression, ")
}

#[derive(Clone, Copy)]
enum Compression {
    Zstd,
    Gzip,
}

fn compression(head: &[u8]) -> Option<Compression> {
    // An archive is itself a sequence of zstd frames, so it is asked for first.
    if archive::is_archive(head) {
        return None;
    }
    match head {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Compression::Zstd),
        [0x1f, 0x8b, 8, ..] => Some(Compression::Gzip),
        _ => None,
    }
}

/// `whole` starts with `head`.
fn by_format(
    head: &[u8],
    mut whole: Input,
    name: &str,
    place: &str,
) -> Result<Sendable, SourceError> {
    if archive::is_archive(head) {
        return Ok(Box::new(archive::Reader::from_stream(whole, name)?));
    }
    if pcap::is_capture(head) {
        return Ok(Box::new(CaptureSource::new(whole)?));
    }
    if head.is_empty() {
        return Err(SourceError::data(format!(
            "{name}: {place}empty; was the recording interrupted before it began?"
        )));
    }
    // An archive whose first frame is damaged still has the others.
    let more = head_of(&mut whole, DAMAGED_HEAD)
        .map_err(|error| SourceError::io(format!("cannot read {name}"), error))?;
    if more.windows(frame::MAGIC.len()).any(|bytes| bytes == frame::MAGIC) {
        let whole = Cursor::new(more).chain(whole);
        return Ok(Box::new(archive::Reader::from_stream(whole, name)?));
    }
    let mut start = String::new();
    for byte in &head[..head.len().min(4)] {
        let _ = write!(start, " {byte:02x}");
    }
    Err(SourceError::data(format!(
        "{name}: {place}not a psc archive, pcap or pcapng (starts with{start}); record with \
         `psc record`, or capture with `tcpdump -w`"
    )))
}

/// Counts the bytes read of a file, for progress.
struct Counted {
    inner: File,
    done: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.done.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// A streamed source that knows how much of its file is behind it.
struct Measured {
    source: Box<dyn EventSource>,
    done: Arc<AtomicU64>,
    total: u64,
}

impl EventSource for Measured {
    fn manifest(&self) -> &Manifest {
        self.source.manifest()
    }

    fn fill(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        self.source.fill(batch)
    }

    fn position(&self) -> Option<(u64, u64)> {
        Some((self.done.load(Ordering::Relaxed).min(self.total), self.total))
    }
}
