//! The hosts of a case: two on one wire, or two with a router between.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::net::Ipv4Addr;

use crate::netns::{Host, Pair, join, raw};

/// Server's address on one wire with the client.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Client's address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Server's address behind the router.
pub const FAR: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);
/// A further address of the server behind the router, to which the router has a route.
pub const FARTHER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);

/// Which hosts a case has.
#[derive(Clone, Copy)]
pub enum Kind {
    /// `c` 10.77.0.1 and `s` 10.77.0.2 on one wire.
    Wire,
    /// `c` 10.77.0.1, router `r`, `s` 10.78.0.2 and 10.99.0.2.
    Routed,
    /// `c` 10.77.0.1 and `s` 10.77.0.2 on ports `p0` and `p1` of bridge `br0` in `r`.
    Bridged,
}

/// The hosts.
pub struct Net {
    pub c: Host,
    pub s: Host,
    r: Option<Host>,
    kind: Kind,
}

impl Net {
    pub fn new(kind: Kind) -> Self {
        match kind {
            Kind::Wire => {
                let Pair { client, server } = Pair::new();
                Self { kind, c: client, s: server, r: None }
            }
            Kind::Bridged => {
                let (c, r, s) = (Host::new("c"), Host::new("r"), Host::new("s"));
                r.ip(&["link", "add", "br0", "type", "bridge"]);
                join((&c, "c0", &["10.77.0.1/24", "fd77::1/64"]), (&r, "p0", &[]));
                join((&s, "s0", &["10.77.0.2/24", "fd77::2/64"]), (&r, "p1", &[]));
                for device in ["p0", "p1"] {
                    r.ip(&["link", "set", device, "master", "br0"]);
                }
                r.ip(&["link", "set", "br0", "up"]);
                Self { kind, c, s, r: Some(r) }
            }
            Kind::Routed => {
                let (c, r, s) = (Host::new("c"), Host::new("r"), Host::new("s"));
                join(
                    (&c, "c0", &["10.77.0.1/24", "fd77::1/64"]),
                    (&r, "r0", &["10.77.0.254/24", "fd77::fe/64"]),
                );
                join(
                    (&r, "r1", &["10.78.0.254/24", "fd78::fe/64"]),
                    (&s, "s0", &["10.78.0.2/24", "fd78::2/64"]),
                );
                s.ip(&["addr", "add", "10.99.0.2/32", "dev", "lo"]);
                for (host, v4, v6) in
                    [(&c, "10.77.0.254", "fd77::fe"), (&s, "10.78.0.254", "fd78::fe")]
                {
                    host.ip(&["route", "add", "default", "via", v4]);
                    host.ip(&["-6", "route", "add", "default", "via", v6]);
                }
                r.ip(&["route", "add", "10.99.0.0/24", "via", "10.78.0.2"]);
                r.sysctl("net.ipv4.ip_forward", "1");
                r.sysctl("net.ipv6.conf.all.forwarding", "1");
                Self { kind, c, s, r: Some(r) }
            }
        }
    }

    /// The router, or the host of the bridge.
    pub fn r(&self) -> &Host {
        self.r.as_ref().expect("a case with a host between")
    }

    pub fn hosts(&self) -> Vec<&Host> {
        [Some(&self.c), self.r.as_ref(), Some(&self.s)].into_iter().flatten().collect()
    }

    /// Neighbours know each other, so that asking for them is part of no case, nor is asking again: an
    /// entry made from a question is probed five seconds after its first use, and one that was confirmed
    /// grows old after 15 to 45, which a slow machine reaches in the middle of a case.
    pub fn settle(&self) {
        for host in self.hosts() {
            host.run(|| {
                for family in ["ipv4", "ipv6"] {
                    let devices = std::fs::read_dir(format!("/proc/sys/net/{family}/neigh"));
                    for device in devices.expect("neighbour tables").flatten() {
                        for (name, value) in [
                            ("base_reachable_time_ms", "600000"),
                            ("delay_first_probe_time", "600"),
                        ] {
                            std::fs::write(device.path().join(name), value).expect(name);
                        }
                    }
                }
            });
        }
        let (v4, v6) = if matches!(self.kind, Kind::Routed) {
            ("10.78.0.2", "fd78::2")
        } else {
            ("10.77.0.2", "fd77::2")
        };
        self.c.sh(&["ping", "-c1", "-q", v4]);
        self.c.sh(&["ping", "-c1", "-q", v6]);
    }

    /// Sends `count` IPv4 packets made by hand out of the client's interface.
    pub fn inject(&self, count: u16, packet: impl Fn(u16) -> Vec<u8> + Send + Sync) {
        let to = match &self.r {
            Some(router) => router.run(|| raw::mac("r0")),
            None => self.s.run(|| raw::mac("s0")),
        };
        self.c.run(|| (0..count).for_each(|n| raw::send_ipv4("c0", to, &packet(n))));
    }
}

/// `nft` script on a host.
pub fn nft(host: &Host, script: &str) {
    host.sh(&["nft", script]);
}
