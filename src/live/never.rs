//! Who is never discarded without being asked: the session that psc was started through, and the gateway.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use psc_bpf::Exclude;
use psc_bpf::guard::Never;
use psc_replay::guarder::rules::{NeverWhat, RuleFile};

/// Never-block entries for `interface`, each with who it is in words.
pub(super) fn entries(interface: &str, file: &RuleFile) -> Vec<(Never, String)> {
    let mut all = Vec::new();
    if let Some(ssh) = Exclude::ssh() {
        let Exclude { protocol, local, remote } = ssh;
        all.push((
            Never::Connection { protocol, local, remote },
            format!("this ssh session from {}", remote.0),
        ));
    }
    for (address, mac) in gateways(interface) {
        let who = format!("the gateway {address} at {}", psc_formats::packet::Mac(mac));
        all.push((Never::Neighbour { address, mac }, who));
    }
    for entry in &file.never_block {
        match &entry.what {
            NeverWhat::Neighbour { interface: bound, mac, address } if bound == interface => {
                let who = format!("{address} at {}", psc_formats::packet::Mac(*mac));
                all.push((Never::Neighbour { address: *address, mac: *mac }, who));
            }
            NeverWhat::Neighbour { .. } => {}
            NeverWhat::Connection { protocol, local, remote } => {
                let (protocol, local, remote) = (*protocol, *local, *remote);
                let who =
                    format!("the connection {}:{} {}:{}", local.0, local.1, remote.0, remote.1);
                all.push((Never::Connection { protocol, local, remote }, who));
            }
        }
    }
    all
}

/// IPv4 gateways of routes over `interface` whose hardware address is known.
fn gateways(interface: &str) -> Vec<(IpAddr, [u8; 6])> {
    let routes = fs::read_to_string("/proc/thread-self/net/route").unwrap_or_default();
    let neighbours = fs::read_to_string("/proc/thread-self/net/arp").unwrap_or_default();
    let mut found: Vec<(IpAddr, [u8; 6])> = Vec::new();
    for gateway in routes.lines().skip(1).filter_map(|line| gateway(line, interface)) {
        let mac = neighbours.lines().skip(1).find_map(|line| neighbour(line, interface, gateway));
        if let Some(mac) = mac
            && !found.iter().any(|(known, _)| *known == gateway)
        {
            found.push((gateway.into(), mac));
        }
    }
    found
}

/// The gateway of a line of `/proc/net/route`, which has addresses as they lie in memory.
fn gateway(line: &str, interface: &str) -> Option<Ipv4Addr> {
    let mut words = line.split_whitespace();
    let name = words.next()?;
    let gateway = u32::from_str_radix(words.nth(1)?, 16).ok()?;
    (name == interface && gateway != 0).then(|| Ipv4Addr::from(gateway.to_ne_bytes()))
}

/// The hardware address of `address` from a line of `/proc/net/arp`.
fn neighbour(line: &str, interface: &str, address: Ipv4Addr) -> Option<[u8; 6]> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let &[ip, _, _, mac, _, device] = words.as_slice() else { return None };
    if device != interface || ip.parse::<Ipv4Addr>() != Ok(address) {
        return None;
    }
    let mut octets = [0; 6];
    let mut parts = mac.split(':');
    for octet in &mut octets {
        *octet = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    (octets != [0; 6]).then_some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let ten = u32::from_ne_bytes([10, 0, 0, 1]);
        let route = format!("eth0\t00000000\t{ten:08X}\t0003\t0\t0\t0\t00000000\t0\t0\t0");
        assert_eq!(gateway(&route, "eth0"), Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(gateway(&route, "eth1"), None);
        assert_eq!(gateway("eth0\t0000000A\t00000000\t0001", "eth0"), None);
        let arp = "10.0.0.1  0x1  0x2  02:00:00:00:00:09  *  eth0";
        let address = Ipv4Addr::new(10, 0, 0, 1);
        assert_eq!(neighbour(arp, "eth0", address), Some([2, 0, 0, 0, 0, 9]));
        assert_eq!(neighbour(arp, "eth1", address), None);
        let unknown = "10.0.0.1  0x1  0x0  00:00:00:00:00:00  *  eth0";
        assert_eq!(neighbour(unknown, "eth0", address), None);
    }
}
