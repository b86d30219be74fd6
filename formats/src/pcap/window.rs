//! A sliding window over an input stream: contiguous bytes of what comes next, in memory bounded by
//! what was really there and not by what a length field claims.

use std::io::{self, Read};

/// How much is read at once, and so about how much one batch holds.
const CHUNK: usize = 1 << 20;

pub(super) struct Window {
    input: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// What comes next is `buffer[start..end]`.
    start: usize,
    end: usize,
    /// Offset in the stream of `buffer[start]`.
    offset: u64,
    finished: bool,
    /// Why the stream ended, when not in good order.
    damage: Option<io::Error>,
}

impl Window {
    pub(super) fn new(input: Box<dyn Read + Send>) -> Self {
        Self {
            input,
            // Zeroed by the system page by page, as it is used.
            buffer: vec![0; CHUNK],
            start: 0,
            end: 0,
            offset: 0,
            finished: false,
            damage: None,
        }
    }

    /// Bytes at hand, without reading.
    #[inline]
    pub(super) fn ready(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// At least `wanted` bytes, fewer only at the end of the stream.
    #[inline]
    pub(super) fn peek(&mut self, wanted: usize) -> &[u8] {
        if self.end - self.start < wanted {
            self.read_up_to(wanted);
        }
        self.ready()
    }

    #[cold]
    fn read_up_to(&mut self, wanted: usize) {
        while self.end - self.start < wanted && !self.finished {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            // Grown by what has arrived, never by `wanted`, which may be a lie.
            if self.end == self.buffer.len() {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.finished = true,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.damage = Some(error);
                    self.finished = true;
                }
            }
        }
    }

    /// Steps over `count` bytes at hand.
    #[inline]
    pub(super) fn advance(&mut self, count: usize) {
        let count = count.min(self.end - self.start);
        self.start += count;
        self.offset += count as u64;
    }

    /// Offset in the (decompressed) stream of what comes next.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Why reading stopped before the end of the stream, once.
    pub(super) fn take_damage(&mut self) -> Option<io::Error> {
        self.damage.take()
    }
}
