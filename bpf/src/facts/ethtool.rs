//! What a network card counts itself: drops there never reach the stack.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use psc_formats::fact::DeviceFact;

const GET_STRINGS: u32 = 0x1b;
const GET_STATISTICS: u32 = 0x1d;
const GET_SET_INFO: u32 = 0x37;
/// `ETH_SS_STATS`.
const STATISTICS_SET: u32 = 1;
const NAME: usize = 32;
/// Counters of one card at most; the largest known have a few thousand.
const LIMIT: usize = 16384;

#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    data: *mut u8,
    // `struct ifreq` is larger than the pointer.
    rest: [u8; 16],
}

/// Adds `ethtool.NAME.COUNTER` for a hardware device or veth of the namespace that the thread is in.
pub(super) fn read(device: &DeviceFact, into: &mut BTreeMap<String, u64>) {
    // Software devices have a kind, and their counters are in the link's; but what XDP drops at a veth is
    // nowhere else.
    if !(device.kind.is_empty() || device.kind == "veth") || device.name.len() >= libc::IFNAMSIZ {
        return;
    }
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return;
    }
    // SAFETY: just created and owned by nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // struct ethtool_sset_info: command, reserved, mask, then one length per bit of the mask.
    let mut info = vec![0_u8; 24];
    info[0..4].copy_from_slice(&GET_SET_INFO.to_ne_bytes());
    info[8..16].copy_from_slice(&(1_u64 << STATISTICS_SET).to_ne_bytes());
    if !ask(&fd, &device.name, &mut info) {
        return;
    }
    let count = super::netlink::u32_at(&info, 16).unwrap_or(0) as usize;
    if count == 0 || count > LIMIT {
        return;
    }
    // struct ethtool_gstrings: command, set, length, strings of 32 bytes.
    let mut names = vec![0_u8; 12 + count * NAME];
    names[0..4].copy_from_slice(&GET_STRINGS.to_ne_bytes());
    names[4..8].copy_from_slice(&STATISTICS_SET.to_ne_bytes());
    names[8..12].copy_from_slice(&(count as u32).to_ne_bytes());
    // struct ethtool_stats: command, length, values of 64 bits.
    let mut values = vec![0_u8; 8 + count * 8];
    values[0..4].copy_from_slice(&GET_STATISTICS.to_ne_bytes());
    values[4..8].copy_from_slice(&(count as u32).to_ne_bytes());
    if !ask(&fd, &device.name, &mut names) || !ask(&fd, &device.name, &mut values) {
        return;
    }
    for (at, name) in names[12..].chunks_exact(NAME).enumerate() {
        if let Some(value) = super::netlink::u64_at(&values, 8 + at * 8) {
            let name = super::netlink::text(name);
            into.insert(format!("ethtool.{}.{}", device.name, name.trim()), value);
        }
    }
}

fn ask(fd: &OwnedFd, name: &str, data: &mut [u8]) -> bool {
    let mut request = Request { name: [0; libc::IFNAMSIZ], data: data.as_mut_ptr(), rest: [0; 16] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: the kernel writes at most what the command's own length field allows, which the
    // callers have set to what `data` has room for.
    unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) == 0 }
}
