//! Just enough netlink to dump tables: requests out, messages and attributes in.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

const HEADER: usize = 16;
/// The kernel fills at most this much per read of a dump.
const BUFFER: usize = 64 << 10;
/// Messages of one dump at most; a host with more routes than this gets the first ones.
const LIMIT: usize = 1 << 20;

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The 32-bit number at `at`, in host order.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The 64-bit number at `at`, in host order.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// One netlink socket, in the namespace of the thread that opened it.
pub(super) struct Netlink {
    fd: OwnedFd,
    sequence: u32,
}

impl Netlink {
    pub(super) fn open(protocol: i32) -> io::Result<Self> {
        // SAFETY: no pointers.
        let fd = unsafe {
            libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just created and owned by nobody else.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, sequence: 0 })
    }

    /// Dumps a table, calling `each` with the body of every message.
    pub(super) fn dump(
        &mut self,
        kind: u16,
        body: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        self.sequence += 1;
        let mut request = Vec::with_capacity(HEADER + body.len());
        request.extend_from_slice(&((HEADER + body.len()) as u32).to_ne_bytes());
        request.extend_from_slice(&kind.to_ne_bytes());
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
        request.extend_from_slice(&flags.to_ne_bytes());
        request.extend_from_slice(&self.sequence.to_ne_bytes());
        request.extend_from_slice(&0_u32.to_ne_bytes());
        request.extend_from_slice(body);
        // SAFETY: the buffer is alive and as long as said.
        let sent =
            unsafe { libc::send(self.fd.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut buffer = vec![0_u8; BUFFER];
        let mut seen = 0;
        loop {
            // SAFETY: the buffer is alive, writable and as long as said.
            let got = unsafe {
                libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0)
            };
            if got < 0 {
                let e = io::Error::last_os_error();
                if e.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                return Err(e);
            }
            let mut rest = &buffer[..got as usize];
            if rest.is_empty() {
                return Ok(());
            }
            while let Some((kind, body, next)) = message(rest) {
                rest = next;
                match i32::from(kind) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => {
                        let code = u32_at(body, 0).unwrap_or(0).cast_signed();
                        return Err(io::Error::from_raw_os_error(-code));
                    }
                    _ => each(body),
                }
                seen += 1;
                if seen >= LIMIT {
                    return Ok(());
                }
            }
        }
    }
}

/// Splits the first message off: its kind, its body and what follows.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let len = u32_at(bytes, 0)? as usize;
    let body = bytes.get(HEADER..len)?;
    let next = bytes.get(len.next_multiple_of(4)..).unwrap_or(&[]);
    Some((u16_at(bytes, 4)?, body, next))
}

/// Attributes after a fixed part of `skip` bytes: (type without flags, value).
pub(super) fn attributes(body: &[u8], skip: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = body.get(skip..).unwrap_or(&[]);
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(rest, 0)?);
        let value = rest.get(4..len)?;
        // The top bits say "nested" and "network order".
        let kind = u16_at(rest, 2)? & 0x3fff;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

/// A NUL-terminated name.
pub(super) fn text(value: &[u8]) -> String {
    super::tasks::comm(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_stop_at_what_does_not_fit() {
        let mut bytes = vec![0xaa; 4];
        bytes.extend_from_slice(&[6, 0, 3, 0, b'l', b'o', 0, 0]);
        bytes.extend_from_slice(&[8, 0, 4, 0x80, 1, 0, 0, 0]);
        bytes.extend_from_slice(&[200, 0, 5, 0, 1]);
        let all: Vec<_> = attributes(&bytes, 4).collect();
        assert_eq!(all, [(3, &b"lo"[..]), (4, &[1, 0, 0, 0][..])]);
        // Lengths below the header's own would never advance.
        assert_eq!(attributes(&[0, 0, 1, 0, 9, 9], 0).count(), 0);
        assert_eq!(attributes(&[3, 0, 1, 0, 9, 9], 0).count(), 0);
        assert_eq!(attributes(&[], 4).count(), 0);
    }

    #[test]
    fn messages_cut_short_are_no_messages() {
        assert!(message(&[0; 15]).is_none());
        assert!(message(&[200, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_none());
        assert!(message(&[4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_none());
    }
}
