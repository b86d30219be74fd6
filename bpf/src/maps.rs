//! Array maps that the kernel shares with us by mapping.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr::NonNull;

use crate::wire::Wire;

/// A mapped `BPF_MAP_TYPE_ARRAY` of `T`.
///
/// The kernel writes it while we read: values are read and written field by field or copied whole
/// with volatile accesses, and a copy may mix old and new fields.
pub(crate) struct SharedArray<T: Wire> {
    start: NonNull<u8>,
    bytes: usize,
    stride: usize,
    len: usize,
    kind: PhantomData<T>,
}

// SAFETY: plain shared memory, only reached through volatile accesses.
unsafe impl<T: Wire> Send for SharedArray<T> {}

impl<T: Wire> SharedArray<T> {
    /// Maps the map behind `fd`, which has `len` entries.
    pub(crate) fn new(fd: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        // SAFETY: sysconf has no preconditions.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let stride = size_of::<T>().next_multiple_of(8);
        let bytes = (stride * len).next_multiple_of(page);
        // SAFETY: a fresh shared mapping chosen by the kernel aliases no Rust object.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { start, bytes, stride, len, kind: PhantomData })
    }

    fn slot(&self, index: usize) -> *mut T {
        assert!(index < self.len, "entry {index} of {}", self.len);
        // SAFETY: inside the mapping, by the assertion.
        unsafe { self.start.as_ptr().add(index * self.stride).cast() }
    }

    /// Entries.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Copies one entry out.
    pub(crate) fn get(&self, index: usize) -> T {
        // SAFETY: mapped, aligned to 8, any bytes are a `T`.
        unsafe { self.slot(index).read_volatile() }
    }

    /// Writes one entry.
    pub(crate) fn set(&self, index: usize, value: T) {
        // SAFETY: mapped writable, aligned to 8.
        unsafe { self.slot(index).write_volatile(value) }
    }
}

impl SharedArray<u8> {
    /// Maps `len` single bytes that are one entry of the map behind `fd`.
    pub(crate) fn bytes(fd: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        let mut array = Self::new(fd, len.div_ceil(8))?;
        array.stride = 1;
        array.len = len;
        Ok(array)
    }
}

impl<T: Wire> Drop for SharedArray<T> {
    fn drop(&mut self) {
        // SAFETY: exactly what mmap returned; values are only ever copied out.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
