//! The smallest BPF programs there are, attached for as long as the returned descriptor lives.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::netns::Host;

const PROG_LOAD: i32 = 5;
const LINK_CREATE: i32 = 28;
const SCHED_CLS: u32 = 3;
const XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const ATTACH_TCX_INGRESS: u32 = 46;

/// What a program answers to every packet.
#[derive(Clone, Copy)]
pub enum Verdict {
    XdpDrop,
    XdpAborted,
    TcDrop,
}

/// `bpf(2)` with an attribute of this size, zeroed beyond what is given.
fn bpf(command: i32, attribute: &[u8]) -> OwnedFd {
    let mut whole = [0_u8; 128];
    whole[..attribute.len()].copy_from_slice(attribute);
    // SAFETY: the attribute is as large as it says; pointers in it outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, whole.as_ptr(), whole.len()) };
    assert!(fd >= 0, "bpf command {command}: {}", std::io::Error::last_os_error());
    // SAFETY: just created and owned by nobody else.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

/// Attaches a program that answers every packet of `device` with one verdict.
pub fn attach(host: &Host, device: &str, verdict: Verdict) -> OwnedFd {
    let (kind, attach, answer) = match verdict {
        Verdict::XdpDrop => (XDP, ATTACH_XDP, 1_u32),
        Verdict::XdpAborted => (XDP, ATTACH_XDP, 0),
        Verdict::TcDrop => (SCHED_CLS, ATTACH_TCX_INGRESS, 2),
    };
    // r0 = answer; exit.
    let mut code = vec![0xb7, 0, 0, 0];
    code.extend(answer.to_ne_bytes());
    code.extend([0x95, 0, 0, 0, 0, 0, 0, 0]);
    let licence = c"Dual MIT/GPL";
    let mut load = Vec::new();
    load.extend(kind.to_ne_bytes());
    load.extend(2_u32.to_ne_bytes());
    load.extend((code.as_ptr() as u64).to_ne_bytes());
    load.extend((licence.as_ptr() as u64).to_ne_bytes());
    let program = bpf(PROG_LOAD, &load);
    let name = std::ffi::CString::new(device).expect("device name");
    host.run(|| {
        // SAFETY: a terminated string.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        let mut link = Vec::new();
        link.extend((program.as_raw_fd() as u32).to_ne_bytes());
        link.extend(index.to_ne_bytes());
        link.extend(attach.to_ne_bytes());
        bpf(LINK_CREATE, &link)
    })
}
