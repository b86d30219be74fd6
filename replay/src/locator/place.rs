//! What kind of address it is, and where it is registered.

use std::net::IpAddr;
use std::sync::LazyLock;

use ipnet::IpNet;

use super::prefixes::Prefixes;

/// The scope of an address that can be a place on the Internet.
pub(super) const GLOBAL: &str = "global";

/// IANA's special-purpose address registries (RFC 6890 and updates:
/// <https://www.iana.org/assignments/iana-ipv4-special-registry>,
/// <https://www.iana.org/assignments/iana-ipv6-special-registry>), and multicast (RFC 5771, RFC 4291).
/// The longest matching prefix decides; what none matches is global.
#[rustfmt::skip]
const SPECIAL: &[(&str, &str)] = &[
    ("0.0.0.0/8",          "this-network"),
    ("0.0.0.0/32",         "unspecified"),
    ("10.0.0.0/8",         "private"),
    ("100.64.0.0/10",      "carrier-nat"),
    ("127.0.0.0/8",        "loopback"),
    ("169.254.0.0/16",     "link-local"),
    ("172.16.0.0/12",      "private"),
    ("192.0.0.0/24",       "protocol"),
    ("192.0.0.9/32",       GLOBAL),
    ("192.0.0.10/32",      GLOBAL),
    ("192.0.2.0/24",       "documentation"),
    ("192.168.0.0/16",     "private"),
    ("198.18.0.0/15",      "benchmarking"),
    ("198.51.100.0/24",    "documentation"),
    ("203.0.113.0/24",     "documentation"),
    ("224.0.0.0/4",        "multicast"),
    ("240.0.0.0/4",        "reserved"),
    ("255.255.255.255/32", "broadcast"),
    ("::/128",             "unspecified"),
    ("::1/128",            "loopback"),
    ("::ffff:0:0/96",      "ipv4-mapped"),
    ("64:ff9b:1::/48",     "translation"),
    ("64:ff9b::/96",       "translation"),
    ("100::/64",           "discard"),
    ("100:0:0:1::/64",     "dummy"),
    ("2001::/23",          "protocol"),
    ("2001::/32",          "teredo"),
    ("2001:1::1/128",      GLOBAL),
    ("2001:1::2/128",      GLOBAL),
    ("2001:1::3/128",      GLOBAL),
    ("2001:2::/48",        "benchmarking"),
    ("2001:3::/32",        GLOBAL),
    ("2001:4:112::/48",    GLOBAL),
    ("2001:20::/28",       GLOBAL),
    ("2001:30::/28",       GLOBAL),
    ("2001:db8::/32",      "documentation"),
    ("2002::/16",          "6to4"),
    ("3fff::/20",          "documentation"),
    ("5f00::/16",          "segment-routing"),
    ("fc00::/7",           "private"),
    ("fe80::/10",          "link-local"),
    ("ff00::/8",           "multicast"),
];

static TABLE: LazyLock<Prefixes<&'static str>> = LazyLock::new(|| {
    SPECIAL.iter().filter_map(|(net, scope)| Some((net.parse::<IpNet>().ok()?, *scope))).collect()
});

/// `global`, `private`, `loopback`, `link-local`, ... by IANA's registries.
pub(super) fn scope(address: IpAddr) -> &'static str {
    TABLE.longest(address).map_or(GLOBAL, |(_, scope)| scope)
}

/// Whether a packet with this source or destination can have passed routers.
pub(super) fn crosses_routers(address: IpAddr) -> bool {
    // As `scope` says; asked of both ends of each flow, so without a look into the table.
    let stays = match address {
        IpAddr::V4(v4) => {
            v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.is_unspecified()
                || v4.is_loopback()
        }
        IpAddr::V6(v6) => {
            v6.is_unicast_link_local()
                || v6.is_multicast()
                || v6.is_unspecified()
                || v6.is_loopback()
        }
    };
    !stays
}

/// ISO 3166 code of the country in which the block of a global address is registered. That is where
/// its holder registered it, not where it is used: anycast and multinational networks differ.
pub(super) fn registered_country(address: IpAddr) -> Option<&'static str> {
    (scope(address) == GLOBAL).then(|| iptocc::country_code(address)).flatten()
}

/// Version of the crate that the country data comes in; a test compares it with Cargo.lock.
const IPTOCC: &str = "1.4.175";

/// What every report with countries must say.
pub(super) fn attribution() -> String {
    format!(
        "Countries are those in which address blocks are registered, by the delegated statistics of \
         the Regional Internet Registries (AFRINIC, APNIC, ARIN, LACNIC, RIPE NCC; compiled by the \
         Number Resource Organization), as of iptocc {IPTOCC} (MIT or Apache-2.0). Registration is \
         not location."
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::ip;

    #[test]
    fn every_prefix_of_the_table_parses_and_has_no_host_bits() {
        assert_eq!(TABLE.len(), SPECIAL.len());
        for (net, _) in SPECIAL {
            let parsed: IpNet = net.parse().expect(net);
            assert_eq!(parsed, parsed.trunc());
        }
    }

    #[test]
    fn the_longest_prefix_decides() {
        #[rustfmt::skip]
        let cases = [
            ("8.8.8.8",            "global"),
            ("10.255.0.1",         "private"),
            ("11.0.0.0",           "global"),
            ("100.63.255.255",     "global"),
            ("100.64.0.0",         "carrier-nat"),
            ("172.31.255.255",     "private"),
            ("172.32.0.0",         "global"),
            ("192.0.0.1",          "protocol"),
            ("192.0.0.9",          "global"),
            ("203.0.113.7",        "documentation"),
            ("239.1.1.1",          "multicast"),
            ("255.255.255.255",    "broadcast"),
            ("254.0.0.1",          "reserved"),
            ("0.0.0.0",            "unspecified"),
            ("::",                 "unspecified"),
            ("::1",                "loopback"),
            ("fe80::1",            "link-local"),
            ("fd12::1",            "private"),
            ("2001:db8::1",        "documentation"),
            ("2001::1",            "teredo"),
            ("2001:4860:4860::8888", "global"),
            ("::ffff:10.0.0.1",    "ipv4-mapped"),
        ];
        for (address, expected) in cases {
            assert_eq!(scope(ip(address)), expected, "{address}");
            let stays = ["link-local", "multicast", "broadcast", "unspecified", "loopback"]
                .contains(&expected);
            assert_eq!(crosses_routers(ip(address)), !stays, "{address}");
        }
    }

    #[test]
    fn only_global_addresses_are_registered_somewhere() {
        assert_eq!(registered_country(ip("8.8.8.8")), Some("US"));
        assert_eq!(registered_country(ip("2001:4860:4860::8888")), Some("US"));
        for special in ["10.0.0.1", "192.0.2.1", "224.0.0.1", "fe80::1", "2001:db8::1"] {
            assert_eq!(registered_country(ip(special)), None, "{special}");
        }
    }

    #[test]
    fn the_attribution_names_the_data_that_is_linked_in() {
        let lock = include_str!("../../../Cargo.lock");
        let version = lock
            .split("[[package]]")
            .find(|package| package.contains("name = \"iptocc\""))
            .and_then(|package| package.split("version = \"").nth(1)?.split('"').next());
        assert_eq!(version, Some(IPTOCC));
    }
}
