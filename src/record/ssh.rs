//! The connection that carries `-o -`: recording it would make it carry more, without end.

use std::fs;
use std::net::IpAddr;

use psc_formats::FiveTuple;

/// How many ancestors are asked for `SSH_CONNECTION`: sudo strips it, the login shell has it.
const ANCESTORS: usize = 16;

const TCP: u8 = 6;

/// The ssh connection that this process was started through, this host's end first.
pub(super) fn connection() -> Option<FiveTuple> {
    if let Some(tuple) = std::env::var("SSH_CONNECTION").ok().and_then(|text| parse(&text)) {
        return Some(tuple);
    }
    let mut pid = std::process::id();
    for _ in 0..ANCESTORS {
        pid = parent(pid)?;
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let found = environment
            .split(|byte| *byte == 0)
            .filter_map(|entry| std::str::from_utf8(entry).ok())
            .find_map(|entry| parse(entry.strip_prefix("SSH_CONNECTION=")?));
        if found.is_some() {
            return found;
        }
    }
    None
}

/// `client-address client-port server-address server-port`, see ssh(1).
fn parse(text: &str) -> Option<FiveTuple> {
    let mut words = text.split(' ');
    let mut end = || {
        // A link-local address may carry its interface: `fe80::1%eth0`.
        let address: IpAddr = words.next()?.split('%').next()?.parse().ok()?;
        Some((address.to_canonical(), words.next()?.parse().ok()?))
    };
    let (dst, dport) = end()?;
    let (src, sport) = end()?;
    words.next().is_none().then_some(FiveTuple { protocol: TCP, src, sport, dst, dport })
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok().filter(|parent| *parent > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_names_the_client_first() {
        let tuple = parse("192.0.2.9 50000 198.51.100.1 22").unwrap();
        assert_eq!(tuple.to_string(), "tcp 198.51.100.1:22 > 192.0.2.9:50000");
        let tuple = parse("fe80::9%eth0 50000 fe80::1%eth0 22").unwrap();
        assert_eq!((tuple.sport, tuple.dport), (22, 50_000));
        for bad in ["", "192.0.2.9 50000", "a b c d", "192.0.2.9 50000 198.51.100.1 22 x"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
