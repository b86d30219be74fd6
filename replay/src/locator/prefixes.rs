//! Longest-prefix match, and block lists made of it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rustc_hash::FxHashMap;

/// Entries of one block list at most.
const ENTRIES: usize = 4_000_000;
/// Characters kept of an entry's label.
const LABEL: usize = 80;

/// A table of prefixes. A look-up asks once for each length that occurs, longest first.
#[derive(Clone, Debug)]
pub(super) struct Prefixes<V> {
    entries: FxHashMap<(bool, u8, u128), V>,
    /// Lengths that occur, IPv4 and IPv6.
    lengths: [BTreeSet<u8>; 2],
}

impl<V> Default for Prefixes<V> {
    fn default() -> Self {
        Self { entries: FxHashMap::default(), lengths: <[BTreeSet<u8>; 2]>::default() }
    }
}

/// An address as left-aligned bits.
fn bits(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(v4) => (false, u128::from(u32::from(v4)) << 96),
        IpAddr::V6(v6) => (true, u128::from(v6)),
    }
}

fn masked(bits: u128, length: u8) -> u128 {
    if length == 0 { 0 } else { bits & (u128::MAX << (128 - u32::from(length.min(128)))) }
}

impl<V> Prefixes<V> {
    pub(super) fn insert(&mut self, net: IpNet, value: V) {
        let (v6, bits) = bits(net.network());
        let length = net.prefix_len();
        self.lengths[usize::from(v6)].insert(length);
        self.entries.insert((v6, length, masked(bits, length)), value);
    }

    /// The longest prefix that contains `address`: its length and value.
    pub(super) fn longest(&self, address: IpAddr) -> Option<(u8, &V)> {
        let (v6, bits) = bits(address);
        self.lengths[usize::from(v6)].iter().rev().find_map(|&length| {
            Some((length, self.entries.get(&(v6, length, masked(bits, length)))?))
        })
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

impl<V> FromIterator<(IpNet, V)> for Prefixes<V> {
    fn from_iter<T: IntoIterator<Item = (IpNet, V)>>(nets: T) -> Self {
        let mut table = Self::default();
        for (net, value) in nets {
            table.insert(net, value);
        }
        table
    }
}

/// The /24 or /48 that an address is in: the shortest that are announced by themselves.
pub(super) fn announced(address: IpAddr) -> String {
    let (_, bits) = bits(address);
    match address {
        IpAddr::V4(_) => {
            format!("{}/24", Ipv4Addr::from((masked(bits, 24) >> 96) as u32))
        }
        IpAddr::V6(_) => format!("{}/48", Ipv6Addr::from(masked(bits, 48))),
    }
}

/// Addresses that somebody wants to know of: one prefix or address a line, then any words about it.
/// `#` and `;` start comments.
#[derive(Clone, Debug, Default)]
pub struct BlockList {
    table: Prefixes<(IpNet, u32, String)>,
    names: Vec<String>,
}

impl BlockList {
    /// Adds the list `text`, called `name` in reports. An error names the first line that is no prefix.
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), String> {
        let list = self.names.len() as u32;
        self.names.push(name.to_owned());
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split(['#', ';']).next().unwrap_or_default().trim();
            let Some(first) = line.split_whitespace().next() else { continue };
            let net = match (first.parse::<IpNet>(), first.parse::<IpAddr>()) {
                (Ok(net), _) => net.trunc(),
                (_, Ok(address)) => IpNet::from(address),
                _ => {
                    let shown: String = first.chars().take(60).collect();
                    return Err(format!(
                        "{name} line {number}: `{shown}` is no address and no prefix; write \
                         192.0.2.0/24 or 2001:db8::/32, one a line"
                    ));
                }
            };
            let label: String = line[first.len()..].trim().chars().take(LABEL).collect();
            self.table.insert(net, (net, list, label));
            if self.table.len() > ENTRIES {
                return Err(format!("{name}: more than {ENTRIES} prefixes; shorten the list"));
            }
        }
        Ok(())
    }

    /// The entry with the longest prefix that covers `address`, as shown.
    pub(super) fn covers(&self, address: IpAddr) -> Option<String> {
        let (_, (net, list, label)) = self.table.longest(address)?;
        let name = self.names.get(*list as usize).map_or("", String::as_str);
        let about = if label.is_empty() { String::new() } else { format!(" {label}") };
        Some(format!("{net}{about} ({name})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::ip;

    #[test]
    fn hosts_inside_prefixes_are_found_and_the_longest_decides() {
        let mut list = BlockList::default();
        let text = "# comment\n203.0.113.0/24 botnet\n203.0.113.128/25 worse ; really\n\n\
                    198.51.100.7\n2001:db8::/32\n2001:db8:1::/48 inner\n10.1.2.3/8 host bits\n";
        list.add("bad.txt", text).expect("parses");
        #[rustfmt::skip]
        let cases = [
            ("203.0.113.1",     Some("203.0.113.0/24 botnet (bad.txt)")),
            ("203.0.113.127",   Some("203.0.113.0/24 botnet (bad.txt)")),
            ("203.0.113.128",   Some("203.0.113.128/25 worse (bad.txt)")),
            ("203.0.114.0",     None),
            ("198.51.100.7",    Some("198.51.100.7/32 (bad.txt)")),
            ("198.51.100.8",    None),
            ("2001:db8:1:2::3", Some("2001:db8:1::/48 inner (bad.txt)")),
            ("2001:db8:2::",    Some("2001:db8::/32 (bad.txt)")),
            ("2001:db9::",      None),
            ("10.255.0.1",      Some("10.0.0.0/8 host bits (bad.txt)")),
        ];
        for (address, expected) in cases {
            assert_eq!(list.covers(ip(address)).as_deref(), expected, "{address}");
        }
    }

    #[test]
    fn everything_and_nothing_can_be_listed() {
        let mut list = BlockList::default();
        list.add("all", "0.0.0.0/0\n::/0").expect("parses");
        assert!(list.covers(ip("255.255.255.255")).is_some() && list.covers(ip("::")).is_some());
        assert!(BlockList::default().covers(ip("10.0.0.1")).is_none());
    }

    #[test]
    fn a_bad_line_is_named() {
        let error =
            BlockList::default().add("x.txt", "10.0.0.0/8\nexample.com\n").expect_err("bad");
        assert!(error.starts_with("x.txt line 2: `example.com` is no address"), "{error}");
    }

    #[test]
    fn prefixes_are_those_announced() {
        assert_eq!(announced(ip("203.0.113.77")), "203.0.113.0/24");
        assert_eq!(announced(ip("2001:db8:1:2::3")), "2001:db8:1::/48");
    }
}
