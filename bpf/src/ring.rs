//! Reader of one BPF ring buffer, by its documented layout
//! (<https://docs.kernel.org/bpf/ringbuf.html>): a consumer page, a producer page, and the data
//! mapped twice in a row so that a record never wraps.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const BUSY: u32 = 1 << 31;
const DISCARD: u32 = 1 << 30;
const HEADER: u64 = 8;

/// A memory mapping, unmapped on drop.
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(fd: BorrowedFd<'_>, len: usize, offset: usize, write: bool) -> io::Result<Self> {
        let protection = if write { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        // SAFETY: a fresh shared mapping chosen by the kernel aliases no Rust object.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                protection,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                offset as libc::off_t,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { start, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what mmap returned, and nothing borrows from it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// The reading end of one ring.
pub(crate) struct Ring {
    consumer: Mapping,
    producer: Mapping,
    page: usize,
    mask: u64,
    /// Our position; the kernel sees it after [`Ring::release`].
    at: u64,
}

// SAFETY: the mappings are owned and only reached through this value.
unsafe impl Send for Ring {}

/// What reading one record gave.
pub(crate) enum Next<'ring> {
    /// A record.
    Record(&'ring [u8]),
    /// Nothing before the limit.
    Done,
    /// The next record is reserved and not yet written.
    Busy,
}

impl Ring {
    /// Maps the ring of `bytes` data bytes behind `fd`.
    pub(crate) fn new(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        // SAFETY: sysconf has no preconditions.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let consumer = Mapping::new(fd, page, 0, true)?;
        let producer = Mapping::new(fd, page + 2 * bytes, page, false)?;
        let mut ring = Self { consumer, producer, page, mask: bytes as u64 - 1, at: 0 };
        ring.at = ring.consumer_position().load(Ordering::Relaxed);
        Ok(ring)
    }

    fn consumer_position(&self) -> &AtomicU64 {
        // SAFETY: the first word of the consumer page, aligned, mapped writable, shared with the
        // kernel only through atomics.
        unsafe { AtomicU64::from_ptr(self.consumer.start.as_ptr().cast()) }
    }

    /// How far the kernel has reserved: everything reserved before this call is below.
    pub(crate) fn produced(&self) -> u64 {
        // SAFETY: as above; loads only, the page is read-only.
        let position = unsafe { AtomicU64::from_ptr(self.producer.start.as_ptr().cast()) };
        position.load(Ordering::Acquire)
    }

    /// Where this reader is.
    pub(crate) fn position(&self) -> u64 {
        self.at
    }

    /// The next record below `limit`. The slice is valid until [`Self::release`].
    pub(crate) fn next(&mut self, limit: u64) -> Next<'_> {
        while self.at < limit {
            let offset = (self.at & self.mask) as usize;
            // SAFETY: records start 8-aligned inside the data area; the data follows the
            // producer page and is mapped twice, so header and body are contiguous.
            let start = unsafe { self.producer.start.as_ptr().add(self.page + offset) };
            // SAFETY: aligned, mapped, written by the kernel with release semantics.
            let word = unsafe { AtomicU32::from_ptr(start.cast()) }.load(Ordering::Acquire);
            if word & BUSY != 0 {
                return Next::Busy;
            }
            let len = word & !(BUSY | DISCARD);
            self.at += (u64::from(len) + HEADER).next_multiple_of(8);
            if word & DISCARD == 0 {
                // SAFETY: the kernel keeps a record's bytes unchanged until the consumer
                // position passes it, which only `release` does.
                return Next::Record(unsafe {
                    std::slice::from_raw_parts(start.add(HEADER as usize), len as usize)
                });
            }
        }
        Next::Done
    }

    /// Gives everything read so far back to the kernel.
    pub(crate) fn release(&mut self) {
        self.consumer_position().store(self.at, Ordering::Release);
    }
}
