//! Scenes for the detectors' tests: frames as they are on the wire, and what a detector finds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use psc_formats::packet::Headers;

use crate::engine::Pass;
use crate::sample::Feed;
use crate::view::detect::Finding;

use super::Detectors;
use super::detect::Detector;

pub(super) type Mac = [u8; 6];

pub(super) const A: Mac = [2, 0, 0, 0, 0, 0xa];
pub(super) const B: Mac = [2, 0, 0, 0, 0, 0xb];
pub(super) const GATEWAY: Mac = [2, 0, 0, 0, 0, 1];
pub(super) const ALL: Mac = [0xff; 6];

/// One detector watching made frames.
pub(super) struct Scene {
    pub(super) feed: Feed,
    detectors: Detectors,
}

impl Scene {
    pub(super) fn of(detector: impl Detector + 'static) -> Self {
        Self { feed: Feed::default(), detectors: Detectors::of(vec![Box::new(detector)]) }
    }

    /// A packet of which only headers matter, at a time in milliseconds.
    pub(super) fn headers(&mut self, ms: u64, headers: &Headers) {
        self.feed.frame(&mut self.detectors, ms * 1_000_000, headers);
    }

    /// A frame, at a time in milliseconds.
    pub(super) fn frame(&mut self, ms: u64, bytes: &[u8]) {
        self.feed.wire(&mut self.detectors, ms * 1_000_000, bytes);
    }

    pub(super) fn findings(self) -> Vec<Finding> {
        let mut pass = Pass { tables: self.feed.tables.clone(), ..Pass::default() };
        pass.provenance.completeness.lost = Some(0);
        self.detectors.finish(&self.feed.manifest, &pass).findings
    }

    /// Their ids.
    pub(super) fn ids(self) -> Vec<String> {
        self.findings().into_iter().map(|finding| finding.id).collect()
    }
}

pub(super) fn ether(src: Mac, dst: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&dst[..], &src, &kind.to_be_bytes(), payload].concat()
}

/// An Ethernet frame with IPv4 or IPv6, as the addresses say.
pub(super) fn ip(macs: (Mac, Mac), src: &str, dst: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    ip_with(macs, (src, dst), protocol, (64, 0, 0x4000), payload)
}

/// As [`ip`], with (TTL, identification, flags and fragment offset field) of IPv4; IPv6 takes the TTL.
pub(super) fn ip_with(
    macs: (Mac, Mac),
    ends: (&str, &str),
    protocol: u8,
    (ttl, id, fragment): (u8, u16, u16),
    payload: &[u8],
) -> Vec<u8> {
    match (crate::sample::ip(ends.0), crate::sample::ip(ends.1)) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            ether(macs.0, macs.1, 0x0800, &v4(src, dst, protocol, (ttl, id, fragment), payload))
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            ether(macs.0, macs.1, 0x86dd, &v6(src, dst, protocol, ttl, payload))
        }
        _ => panic!("one family"),
    }
}

pub(super) fn v4(
    src: Ipv4Addr,
    dst: Ipv4Addr,
    protocol: u8,
    (ttl, id, fragment): (u8, u16, u16),
    payload: &[u8],
) -> Vec<u8> {
    let len = (20 + payload.len()) as u16;
    let mut out = vec![0x45, 0];
    out.extend(len.to_be_bytes());
    out.extend(id.to_be_bytes());
    out.extend(fragment.to_be_bytes());
    out.extend([ttl, protocol, 0, 0]);
    out.extend(src.octets());
    out.extend(dst.octets());
    out.extend(payload);
    out
}

fn v6(src: Ipv6Addr, dst: Ipv6Addr, next: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x60, 0, 0, 0];
    out.extend((payload.len() as u16).to_be_bytes());
    out.extend([next, hops]);
    out.extend(src.octets());
    out.extend(dst.octets());
    out.extend(payload);
    out
}

pub(super) fn udp(sport: u16, dport: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(sport.to_be_bytes());
    out.extend(dport.to_be_bytes());
    out.extend(((8 + payload.len()) as u16).to_be_bytes());
    out.extend([0, 0]);
    out.extend(payload);
    out
}

pub(super) fn tcp(
    ports: (u16, u16),
    flags: u8,
    seq: u32,
    ack: u32,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    assert_eq!(options.len() % 4, 0, "options fill words");
    let mut out = Vec::new();
    out.extend(ports.0.to_be_bytes());
    out.extend(ports.1.to_be_bytes());
    out.extend(seq.to_be_bytes());
    out.extend(ack.to_be_bytes());
    out.extend([(((20 + options.len()) / 4) << 4) as u8, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    out.extend(options);
    out.extend(payload);
    out
}

/// ICMP or ICMPv6: type, code, the four bytes after the checksum, the body.
pub(super) fn icmp(kind: u8, code: u8, rest: u32, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, code, 0, 0];
    out.extend(rest.to_be_bytes());
    out.extend(body);
    out
}
