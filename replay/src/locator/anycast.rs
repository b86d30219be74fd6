//! Blocks known to answer from many places at once. A registered country says nothing about them, and
//! a near answer contradicts nothing.
//!
//! From what their holders publish: the root servers (<https://root-servers.org>, RFC 7720), AS112
//! (RFC 7534, RFC 7535), AMT relays (RFC 7450), 6to4 relays (RFC 3068, deprecated by RFC 7526), Cloudflare
//! (<https://www.cloudflare.com/ips/>), and the public resolvers' own documentation of their addresses.
//! What is not listed may still be anycast.

use std::net::IpAddr;

use ipnet::IpNet;

use super::prefixes::Prefixes;
use std::sync::LazyLock;

#[rustfmt::skip]
const KNOWN: &[(&str, &str)] = &[
    ("198.41.0.0/24",      "root server A"), ("2001:503:ba3e::/48", "root server A"),
    ("170.247.170.0/24",   "root server B"), ("199.9.14.0/24",      "root server B"),
    ("2801:1b8:10::/48",   "root server B"),
    ("192.33.4.0/24",      "root server C"), ("2001:500:2::/48",    "root server C"),
    ("199.7.91.0/24",      "root server D"), ("2001:500:2d::/48",   "root server D"),
    ("192.203.230.0/24",   "root server E"), ("2001:500:a8::/48",   "root server E"),
    ("192.5.5.0/24",       "root server F"), ("2001:500:2f::/48",   "root server F"),
    ("192.112.36.0/24",    "root server G"), ("2001:500:12::/48",   "root server G"),
    ("198.97.190.0/24",    "root server H"), ("2001:500:1::/48",    "root server H"),
    ("192.36.148.0/24",    "root server I"), ("2001:7fe::/33",      "root server I"),
    ("192.58.128.0/24",    "root server J"), ("2001:503:c27::/48",  "root server J"),
    ("193.0.14.0/24",      "root server K"), ("2001:7fd::/48",      "root server K"),
    ("199.7.83.0/24",      "root server L"), ("2001:500:9f::/48",   "root server L"),
    ("202.12.27.0/24",     "root server M"), ("2001:dc3::/32",      "root server M"),
    ("192.175.48.0/24",    "AS112"),         ("2620:4f:8000::/48",  "AS112"),
    ("192.31.196.0/24",    "AS112"),         ("2001:4:112::/48",    "AS112"),
    ("192.52.193.0/24",    "AMT relays"),    ("192.88.99.0/24",     "6to4 relays"),
    ("1.1.1.0/24",         "Cloudflare resolver"), ("1.0.0.0/24",   "Cloudflare resolver"),
    ("8.8.8.0/24",         "Google Public DNS"),   ("8.8.4.0/24",   "Google Public DNS"),
    ("2001:4860:4860::/48", "Google Public DNS"),
    ("9.9.9.0/24",         "Quad9"), ("149.112.112.0/24", "Quad9"), ("2620:fe::/48", "Quad9"),
    ("208.67.220.0/24",    "OpenDNS"), ("208.67.222.0/24", "OpenDNS"), ("2620:119::/36", "OpenDNS"),
    ("94.140.14.0/24",     "AdGuard DNS"), ("94.140.15.0/24", "AdGuard DNS"),
    ("2a10:50c0::/32",     "AdGuard DNS"),
    ("64.6.64.0/24",       "UltraDNS Public"), ("64.6.65.0/24", "UltraDNS Public"),
    ("185.228.168.0/24",   "CleanBrowsing"), ("185.228.169.0/24", "CleanBrowsing"),
    ("45.90.28.0/24",      "NextDNS"), ("45.90.30.0/24", "NextDNS"),
    ("103.21.244.0/22",    "Cloudflare"), ("103.22.200.0/22",   "Cloudflare"),
    ("103.31.4.0/22",      "Cloudflare"), ("104.16.0.0/13",     "Cloudflare"),
    ("104.24.0.0/14",      "Cloudflare"), ("108.162.192.0/18",  "Cloudflare"),
    ("131.0.72.0/22",      "Cloudflare"), ("141.101.64.0/18",   "Cloudflare"),
    ("162.158.0.0/15",     "Cloudflare"), ("172.64.0.0/13",     "Cloudflare"),
    ("173.245.48.0/20",    "Cloudflare"), ("188.114.96.0/20",   "Cloudflare"),
    ("190.93.240.0/20",    "Cloudflare"), ("197.234.240.0/22",  "Cloudflare"),
    ("198.41.128.0/17",    "Cloudflare"), ("2400:cb00::/32",    "Cloudflare"),
    ("2405:8100::/32",     "Cloudflare"), ("2405:b500::/32",    "Cloudflare"),
    ("2606:4700::/32",     "Cloudflare"), ("2803:f800::/32",    "Cloudflare"),
    ("2a06:98c0::/29",     "Cloudflare"), ("2c0f:f248::/32",    "Cloudflare"),
];

static TABLE: LazyLock<Prefixes<&'static str>> = LazyLock::new(|| {
    let nets = KNOWN.iter().filter_map(|(net, name)| Some((net.parse::<IpNet>().ok()?, *name)));
    nets.collect()
});

/// The service that answers for this address from many places; `None` when none is known.
pub(super) fn service(address: IpAddr) -> Option<&'static str> {
    TABLE.longest(address).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::ip;

    #[test]
    fn every_prefix_parses_and_has_no_host_bits() {
        for (net, _) in KNOWN {
            let parsed: IpNet = net.parse().expect(net);
            assert_eq!(parsed, parsed.trunc(), "{net}");
        }
        assert_eq!(TABLE.len(), KNOWN.len(), "none twice");
    }

    #[test]
    fn known_services_are_named() {
        #[rustfmt::skip]
        let cases = [
            ("1.1.1.1", Some("Cloudflare resolver")), ("8.8.4.4", Some("Google Public DNS")),
            ("104.27.255.255", Some("Cloudflare")), ("104.28.0.0", None),
            ("2001:4860:4860::8888", Some("Google Public DNS")), ("193.0.14.129", Some("root server K")),
            ("2001:dc3::35", Some("root server M")), ("193.0.6.139", None), ("10.0.0.1", None),
        ];
        for (address, expected) in cases {
            assert_eq!(service(ip(address)), expected, "{address}");
        }
    }
}
