//! Lists of addresses that a rule names by file.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use psc_formats::guard::ValueSet;

use super::RuleError;

/// Addresses and prefixes of both families.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressList {
    /// As the rule names it.
    pub name: String,
    /// Entries.
    pub entries: usize,
    /// IPv4 addresses.
    pub v4: ValueSet,
    /// IPv6 addresses.
    pub v6: ValueSet,
}

/// One address, prefix (`192.0.2.0/24`) or range (`192.0.2.1-192.0.2.9`) a line; `#` starts a comment.
pub fn parse_list(name: &str, text: &str) -> Result<AddressList, RuleError> {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let entry = line.split('#').next().unwrap_or_default().trim();
        if !entry.is_empty() {
            match ends(entry) {
                Some((IpAddr::V4(from), IpAddr::V4(to))) => {
                    v4.push((u32::from(from).into(), u32::from(to).into()));
                }
                Some((IpAddr::V6(from), IpAddr::V6(to))) => v6.push((from.into(), to.into())),
                _ => {
                    let start = at + line.find(entry).unwrap_or(0);
                    let what = "an address, a prefix (192.0.2.0/24) or a range \
                                (192.0.2.1-192.0.2.9) is expected";
                    return Err(
                        RuleError::new(text, start..start + entry.len(), what).in_file(name)
                    );
                }
            }
        }
        at += line.len();
    }
    let entries = v4.len() + v6.len();
    Ok(AddressList { name: name.to_owned(), entries, v4: ValueSet::new(v4), v6: ValueSet::new(v6) })
}

fn ends(entry: &str) -> Option<(IpAddr, IpAddr)> {
    if let Some((from, to)) = entry.split_once('-') {
        let (from, to): (IpAddr, IpAddr) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        return (from.is_ipv4() == to.is_ipv4() && from <= to).then_some((from, to));
    }
    if let Ok(address) = entry.parse::<IpAddr>() {
        return Some((address, address));
    }
    Some(match entry.parse::<IpNet>().ok()? {
        IpNet::V4(net) => (Ipv4Addr::into(net.network()), Ipv4Addr::into(net.broadcast())),
        IpNet::V6(net) => (Ipv6Addr::into(net.network()), Ipv6Addr::into(net.broadcast())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_hold_addresses_prefixes_and_ranges() {
        let text = "# bad\n192.0.2.1\n198.51.100.0/24 # a net\n\n203.0.113.5-203.0.113.7\n::1\n";
        let list = parse_list("bad.txt", text).expect("well formed");
        assert_eq!(list.entries, 4);
        let has = |address: [u8; 4]| list.v4.contains(Some(u32::from_be_bytes(address).into()));
        assert!(has([192, 0, 2, 1]) && has([198, 51, 100, 255]) && has([203, 0, 113, 6]));
        assert!(!has([192, 0, 2, 2]) && !has([203, 0, 113, 8]));
        assert!(list.v6.contains(Some(1)) && !list.v6.contains(Some(2)));
        for (text, line, column) in [
            ("10.0.0.1\n  10.0.0.300 # x\n", 2, 3),
            ("10.0.0.9-10.0.0.1", 1, 1),
            ("::1-10.0.0.1", 1, 1),
        ] {
            let error = parse_list("bad.txt", text).expect_err(text);
            assert_eq!((error.line, error.column), (line, column), "{text}");
            assert!(error.to_string().starts_with("bad.txt, line "), "{error}");
        }
    }
}
