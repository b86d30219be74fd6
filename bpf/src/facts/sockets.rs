//! Sockets of a namespace by sock_diag, and which process has each.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use psc_formats::fact::SocketFact;
use rustc_hash::FxHashMap;

use super::netlink::{Netlink, u32_at};
use super::tasks;

/// A socket with the inode that leads to its process.
pub(super) struct Found {
    pub(super) fact: SocketFact,
    pub(super) inode: u32,
}

/// Sockets kept of one namespace at most.
const LIMIT: usize = 1 << 17;
const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// TCP and UDP sockets of the namespace that the thread is in.
pub(super) fn read() -> Vec<Found> {
    let mut found = Vec::new();
    for (protocol, name) in [(libc::IPPROTO_TCP, "tcp"), (libc::IPPROTO_UDP, "udp")] {
        for (family, suffix) in [(libc::AF_INET, ""), (libc::AF_INET6, "6")] {
            let before = found.len();
            if diag(family as u8, protocol as u8, &mut found).is_err() {
                // A kernel without inet_diag for it: the text has no cookie and no backlog limit.
                found.truncate(before);
                let path = format!("/proc/thread-self/net/{name}{suffix}");
                let text = fs::read_to_string(path).unwrap_or_default();
                found.extend(
                    text.lines().skip(1).filter_map(|line| proc_line(line, protocol as u8)),
                );
            }
        }
    }
    found.truncate(LIMIT);
    found
}

fn diag(family: u8, protocol: u8, found: &mut Vec<Found>) -> io::Result<()> {
    let mut netlink = Netlink::open(libc::NETLINK_SOCK_DIAG)?;
    // struct inet_diag_req_v2: family, protocol, extensions, pad, states, then the socket id.
    let mut request = vec![family, protocol, 0, 0];
    request.extend_from_slice(&u32::MAX.to_ne_bytes());
    request.resize(56, 0);
    netlink.dump(SOCK_DIAG_BY_FAMILY, &request, |body| {
        if found.len() < LIMIT {
            found.extend(diag_message(body, protocol));
        }
    })
}

/// `struct inet_diag_msg`.
fn diag_message(body: &[u8], protocol: u8) -> Option<Found> {
    let &[family, state, _, _, ..] = body else { return None };
    let port = |at: usize| Some(u16::from_be_bytes(body.get(at..at + 2)?.try_into().ok()?));
    let address = |at: usize| -> Option<IpAddr> {
        if i32::from(family) == libc::AF_INET {
            Some(Ipv4Addr::from(<[u8; 4]>::try_from(body.get(at..at + 4)?).ok()?).into())
        } else {
            let v6 = Ipv6Addr::from(<[u8; 16]>::try_from(body.get(at..at + 16)?).ok()?);
            Some(v6.to_canonical())
        }
    };
    let (sport, dport) = (port(4)?, port(6)?);
    let cookie = u64::from(u32_at(body, 44)?) | u64::from(u32_at(body, 48)?) << 32;
    let fact = SocketFact {
        cookie,
        protocol,
        local: Some((address(8)?, sport)),
        remote: (dport != 0).then(|| Some((address(24)?, dport))).flatten(),
        state,
        recv_queue: u32_at(body, 56)?,
        send_queue: u32_at(body, 60)?,
        ..SocketFact::default()
    };
    Some(Found { fact, inode: u32_at(body, 68)? })
}

/// `sl local remote st tx:rx ...`: addresses are hexadecimal words in host order.
fn proc_line(line: &str, protocol: u8) -> Option<Found> {
    fn end(text: &str) -> Option<(IpAddr, u16)> {
        let (address, port) = text.split_once(':')?;
        let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok();
        let port = u16::from_str_radix(port, 16).ok()?;
        let address = if address.len() == 8 {
            IpAddr::from(word(0)?.to_ne_bytes())
        } else {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at * 8)?.to_ne_bytes());
            }
            Ipv6Addr::from(bytes).to_canonical()
        };
        Some((address, port))
    }
    let mut words = line.split_ascii_whitespace().skip(1);
    let local = end(words.next()?)?;
    let remote = end(words.next()?)?;
    let state = u8::from_str_radix(words.next()?, 16).ok()?;
    let (send, recv) = words.next()?.split_once(':')?;
    let inode = words.nth(4)?.parse().ok()?;
    let fact = SocketFact {
        protocol,
        local: Some(local),
        remote: (remote.1 != 0).then_some(remote),
        state,
        recv_queue: u32::from_str_radix(recv, 16).ok()?,
        send_queue: u32::from_str_radix(send, 16).ok()?,
        ..SocketFact::default()
    };
    Some(Found { fact, inode })
}

/// Socket inode to its first owner: (pid, comm).
pub(super) fn owners() -> FxHashMap<u32, (u32, String)> {
    /// Descriptors looked at: on a host with more, the owners of some sockets stay unknown.
    const DESCRIPTORS: usize = 1 << 18;
    let mut owners = FxHashMap::default();
    let mut seen = 0;
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let mut comm: Option<String> = None;
        for descriptor in fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten() {
            seen += 1;
            if seen > DESCRIPTORS {
                return owners;
            }
            let Ok(target) = fs::read_link(descriptor.path()) else { continue };
            let Some(inode) = target
                .to_str()
                .and_then(|text| text.strip_prefix("socket:["))
                .and_then(|text| text.strip_suffix(']'))
                .and_then(|text| text.parse().ok())
            else {
                continue;
            };
            let comm = comm.get_or_insert_with(|| {
                let text = fs::read(entry.path().join("comm")).unwrap_or_default();
                tasks::comm(text.trim_ascii_end())
            });
            owners.entry(inode).or_insert_with(|| (pid, comm.clone()));
        }
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_ours_is_found_with_its_owner() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let local = listener.local_addr().expect("address");
        let all = read();
        let found = all
            .iter()
            .find(|found| found.fact.local == Some((local.ip(), local.port())))
            .expect("our listener");
        assert_eq!((found.fact.state, found.fact.protocol), (10, 6));
        let owner = owners();
        assert_eq!(owner[&found.inode].0, std::process::id());
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn proc_lines_of_both_families() {
        let v4 = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000     0        0 4242 1 x";
        let found = proc_line(v4, 6).expect("well formed");
        assert_eq!(found.fact.local, Some(([127, 0, 0, 1].into(), 8080)));
        assert_eq!((found.fact.remote, found.fact.recv_queue, found.inode), (None, 3, 4242));
        let v6 = "   0: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7 1 x";
        let found = proc_line(v6, 6).expect("well formed");
        assert_eq!(found.fact.local, Some((Ipv6Addr::LOCALHOST.into(), 22)));
        assert!(proc_line("garbage", 6).is_none());
        assert!(proc_line("", 17).is_none());
    }
}
