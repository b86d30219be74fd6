//! The faults, each with its healthy twin.
#![allow(missing_docs, unreachable_pub)]

#[path = "bpf.rs"]
mod bpf;
#[path = "net.rs"]
mod net;
#[path = "scenes.rs"]
mod scenes;
#[path = "silent.rs"]
mod silent;
#[path = "subtle.rs"]
mod subtle;

use std::net::{Ipv4Addr, Ipv6Addr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::netns::raw;
use crate::traffic::{answering, ask, ask_within, dns, echo, listener, resolve, send, web};

use bpf::{Verdict, attach};
use net::Kind::{Routed, Wire};
pub use net::Net;
use net::{CLIENT, FAR, FARTHER, Kind, SERVER, nft};
use scenes::{
    bulk, closing, dhcp, group, held, near_only, none, signed, ten_datagrams, three_far_requests,
    three_requests, unfragmented, unread_datagrams,
};

/// One fault.
pub struct Case {
    pub name: &'static str,
    /// How the fault is made, for the table.
    pub made_by: &'static str,
    /// The cause that has to be named.
    pub cause: &'static str,
    /// What its title or targets have to say.
    pub place: &'static [&'static str],
    /// Further causes that are true of it.
    pub also: &'static [&'static str],
    /// What the twin does, for the table.
    pub twin: &'static str,
    pub net: Kind,
    /// Makes the fault.
    pub fault: fn(&Net),
    /// Makes the traffic, of the fault (`true`) or of the twin.
    pub traffic: fn(&Net, bool),
}

const SYN: u8 = 2;
const ACK: u8 = 16;
const HERE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const SOON: Duration = Duration::from_millis(5);
const AT_ONCE: Duration = Duration::ZERO;
const SERVER6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
const FAR6: Ipv6Addr = Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, 2);

/// Every fault of the campaign.
pub fn all() -> impl Iterator<Item = &'static Case> {
    CASES.iter().chain(subtle::CASES).chain(silent::CASES)
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case {
        name: "closed-port", made_by: "connect() to a port without listener", cause: "no-listener",
        place: &["tcp 10.77.0.2:80", "namespace s"], also: &[], twin: "the same with a listener", net: Wire, fault: none,
        traffic: |net, faulty| if faulty { ask(&net.c, (SERVER, 80), 3, 100) } else { three_requests(net, false) },
    },
    Case {
        name: "closed-udp-port", made_by: "datagrams to a port without socket", cause: "no-listener",
        place: &["udp 10.77.0.2:9", "namespace s"], also: &[], twin: "the same with a socket", net: Wire, fault: none,
        traffic: |net, faulty| if faulty { send(&net.c, (SERVER, 9), 3, 10, SOON) } else { ten_datagrams(net, false) },
    },
    Case {
        name: "wrong-bind-address", made_by: "a server bound to 127.0.0.1", cause: "wrong-bind-address",
        place: &["tcp 10.77.0.2:80", "127.0.0.1:80"], also: &[], twin: "bound to 10.77.0.2", net: Wire, fault: none,
        traffic: |net, faulty| {
            let _server = web(&net.s, (if faulty { Ipv4Addr::LOCALHOST } else { SERVER }, 80));
            ask(&net.c, (SERVER, 80), 3, 100);
        },
    },
    Case {
        name: "accept-queue", made_by: "listen() with a backlog of 1 and nobody accepting", cause: "listen-overflow",
        place: &["10.77.0.2:80", "namespace s"], also: &[], twin: "a backlog of 64", net: Wire, fault: none,
        traffic: |net, faulty| held(net, if faulty { 1 } else { 64 }),
    },
    Case {
        name: "syn-queue", made_by: "tcp_max_syn_backlog=8 and 60 SYNs that never complete", cause: "syn-queue-full",
        place: &["10.77.0.2:80", "namespace s"], also: &[], twin: "connections that complete", net: Wire,
        fault: |net| net.s.sysctl("net.ipv4.tcp_max_syn_backlog", "8"),
        traffic: |net, faulty| {
            let _server = answering(listener(&net.s, (SERVER, 80), 8));
            if faulty {
                net.inject(60, |n| {
                    let from = Ipv4Addr::new(10, 77, 0, 100 + n as u8);
                    raw::ipv4(from, SERVER, 6, 64, n, &raw::tcp((from, 4000, SERVER, 80), 1, SYN, b"", 0))
                });
            } else {
                ask_within(&net.c, (SERVER, 80).into(), 4, 10, Duration::from_millis(100));
            }
        },
    },
    Case {
        name: "udp-buffer", made_by: "SO_RCVBUF of the least and nobody reading", cause: "socket-buffer-full",
        place: &["udp 10.77.0.2:9", "namespace s"], also: &[], twin: "the default buffer", net: Wire, fault: none,
        traffic: unread_datagrams,
    },
    Case {
        name: "zero-window", made_by: "a reader that does not read for 600 ms", cause: "zero-window",
        place: &["10.77.0.2:80", "namespace s"], also: &[], twin: "a reader that reads", net: Wire, fault: none,
        traffic: |net, faulty| bulk(net, !faulty),
    },
    Case {
        name: "unread-close", made_by: "a server that closes without reading the request", cause: "reset-unread-data",
        place: &["10.77.0.2:80"], also: &[], twin: "a server that reads it", net: Wire, fault: none, traffic: closing,
    },
    Case {
        name: "ports-exhausted", made_by: "ip_local_port_range of four ports", cause: "ports-exhausted",
        place: &["10.77.0.2:80", "namespace c"], also: &[], twin: "the default range", net: Wire,
        fault: |net| net.c.sysctl("net.ipv4.ip_local_port_range", "40000 40003"),
        traffic: |net, _| { let _server = web(&net.s, (HERE, 80)); ask(&net.c, (SERVER, 80), 8, 10); },
    },
    Case {
        name: "time-wait-overflow", made_by: "tcp_max_tw_buckets=1", cause: "time-wait-overflow",
        place: &["namespace c"], also: &[], twin: "the default", net: Wire,
        fault: |net| net.c.sysctl("net.ipv4.tcp_max_tw_buckets", "1"),
        traffic: |net, _| { let _server = web(&net.s, (HERE, 80)); ask(&net.c, (SERVER, 80), 8, 10); },
    },
    Case {
        name: "firewall-input", made_by: "nft input hook: tcp dport 80 drop", cause: "firewall-drop",
        place: &["hook input", "namespace s", "by rule 2 of inet t c", "10.77.0.2:80"], also: &[], twin: "no rule", net: Wire,
        fault: |net| nft(&net.s, "add table inet t; add chain inet t c { type filter hook input priority 0; }; add rule inet t c tcp dport 80 drop"),
        traffic: three_requests,
    },
    Case {
        name: "firewall-policy", made_by: "nft input hook with policy drop", cause: "firewall-drop",
        place: &["hook input", "namespace s", "by the policy of inet t c", "udp 10.77.0.2:9"], also: &[], twin: "no rule", net: Wire,
        fault: |net| nft(&net.s, "add table inet t; add chain inet t c { type filter hook input priority 0; policy drop; }; add rule inet t c meta l4proto { icmp, ipv6-icmp } accept"),
        traffic: ten_datagrams,
    },
    Case {
        name: "firewall-reject", made_by: "nft input hook: tcp dport 80 reject", cause: "firewall-reject",
        place: &["hook input", "namespace s", "by rule 2 of inet t c", "10.77.0.2:80"], also: &[], twin: "no rule", net: Wire,
        fault: |net| nft(&net.s, "add table inet t; add chain inet t c { type filter hook input priority 0; }; add rule inet t c tcp dport 80 reject with tcp reset"),
        traffic: three_requests,
    },
    Case {
        name: "firewall-output", made_by: "nft output hook: udp dport 9 drop", cause: "firewall-drop",
        place: &["hook output", "namespace c", "10.77.0.2:9"], also: &[], twin: "no rule", net: Wire,
        fault: |net| nft(&net.c, "add table inet t; add chain inet t c { type filter hook output priority 0; }; add rule inet t c udp dport 9 drop"),
        traffic: ten_datagrams,
    },
    Case {
        name: "firewall-forward", made_by: "nft forward hook on the router: tcp dport 80 drop", cause: "firewall-drop",
        place: &["hook forward", "namespace r", "10.78.0.2:80"], also: &[], twin: "no rule", net: Routed,
        fault: |net| nft(net.r(), "add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c tcp dport 80 drop"),
        traffic: three_far_requests,
    },
    Case {
        name: "firewall-arp", made_by: "nft arp table on the server: drop", cause: "firewall-drop",
        place: &["arp input", "namespace s"], also: &[], twin: "no rule", net: Wire,
        fault: |net| nft(&net.s, "add table arp t; add chain arp t c { type filter hook input priority 0; }; add rule arp t c drop"),
        traffic: |net, _| {
            net.c.ip(&["neigh", "flush", "dev", "c0"]);
            three_requests(net, false);
        },
    },
    Case {
        name: "conntrack-invalid", made_by: "nf_conntrack_tcp_loose=0, ct state invalid drop, a segment without SYN", cause: "conntrack-invalid",
        place: &["namespace s"], also: &[], twin: "whole connections through the same host", net: Wire,
        fault: |net| {
            net.s.sysctl("net.netfilter.nf_conntrack_tcp_loose", "0");
            nft(&net.s, "add table inet t; add chain inet t c { type filter hook input priority 0; }; add rule inet t c ct state invalid drop");
        },
        traffic: |net, faulty| if faulty {
            net.inject(3, |n| raw::ipv4(CLIENT, SERVER, 6, 64, n, &raw::tcp((CLIENT, 4000, SERVER, 80), 99, ACK, b"x", 0)));
        } else {
            nft(&net.s, "add table inet t; add chain inet t c { type filter hook input priority 0; }; add rule inet t c ct state invalid drop");
            three_requests(net, false);
        },
    },
    Case {
        name: "nat-exhausted", made_by: "snat to two ports, four connections", cause: "nat-exhausted",
        place: &["namespace r"], also: &[], twin: "masquerade", net: Routed,
        fault: |net| nft(net.r(), "add table ip t; add chain ip t c { type nat hook postrouting priority 100; }; add rule ip t c ip protocol tcp oif r1 snat to 10.78.0.254:5000-5001"),
        traffic: |net, faulty| {
            if !faulty {
                nft(net.r(), "add table ip t; add chain ip t c { type nat hook postrouting priority 100; }; add rule ip t c oif r1 masquerade");
            }
            let _listener = listener(&net.s, (FAR, 80), 16);
            net.c.run(|| {
                let wait = Duration::from_millis(300);
                let open: Vec<_> = (0..4).map(|_| TcpStream::connect_timeout(&(FAR, 80).into(), wait)).collect();
                drop(open);
            });
        },
    },
    Case {
        name: "route-prohibit", made_by: "ip route add prohibit", cause: "route-refuses",
        place: &["prohibit", "10.77.0.2"], also: &[], twin: "no such route", net: Wire,
        fault: |net| drop(net.c.ip(&["route", "add", "prohibit", "10.77.0.2"])),
        traffic: ten_datagrams,
    },
    Case {
        name: "route-blackhole", made_by: "ip route add blackhole", cause: "route-refuses",
        place: &["blackhole", "10.77.0.2"], also: &[], twin: "no such route", net: Wire,
        fault: |net| drop(net.c.ip(&["route", "add", "blackhole", "10.77.0.2"])),
        traffic: three_requests,
    },
    Case {
        name: "no-route", made_by: "the default route deleted", cause: "no-route",
        place: &["namespace c", "10.78.0.2"], also: &[], twin: "with it", net: Routed,
        fault: |net| drop(net.c.ip(&["route", "del", "default"])),
        traffic: three_far_requests,
    },
    Case {
        name: "router-no-route", made_by: "the router's route to the server's network deleted", cause: "no-route",
        place: &["r0", "namespace r", "10.99.0.2"], also: &[], twin: "with it", net: Routed,
        fault: |net| drop(net.r().ip(&["route", "del", "10.99.0.0/24"])),
        traffic: |net, _| { let _server = web(&net.s, (HERE, 80)); ask(&net.c, (FARTHER, 80), 3, 100); },
    },
    Case {
        name: "no-return-route", made_by: "the server's default route deleted", cause: "no-return-route",
        place: &["namespace s", "10.77.0.1"], also: &[], twin: "with it", net: Routed,
        fault: |net| drop(net.s.ip(&["route", "del", "default"])),
        traffic: three_far_requests,
    },
    Case {
        name: "forwarding-off", made_by: "ip_forward=0 on the router", cause: "forwarding-off",
        place: &["r0", "namespace r", "10.78.0.2"], also: &[], twin: "ip_forward=1", net: Routed,
        fault: |net| net.r().sysctl("net.ipv4.ip_forward", "0"),
        traffic: three_far_requests,
    },
    Case {
        name: "forwarding-off-v6", made_by: "ipv6 forwarding=0 on the router", cause: "forwarding-off",
        place: &["r0", "namespace r", "fd78::2"], also: &[], twin: "forwarding=1", net: Routed,
        fault: |net| net.r().sysctl("net.ipv6.conf.all.forwarding", "0"),
        traffic: |net, _| { let _server = web(&net.s, (Ipv6Addr::UNSPECIFIED, 80)); ask(&net.c, (FAR6, 80), 2, 100); },
    },
    Case {
        name: "routing-loop", made_by: "two routers that send a prefix to each other", cause: "routing-loop",
        place: &["10.99.0.2"], also: &[], twin: "the address where the route leads", net: Routed,
        fault: |net| {
            net.s.ip(&["addr", "del", "10.99.0.2/32", "dev", "lo"]);
            net.s.sysctl("net.ipv4.ip_forward", "1");
        },
        traffic: |net, _| { let _server = echo(&net.s, (HERE, 9)); send(&net.c, (FARTHER, 9), 3, 50, SOON); },
    },
    Case {
        name: "ttl-too-small", made_by: "ip_default_ttl=1 on the client", cause: "ttl-expired",
        place: &["r0", "namespace r", "10.78.0.2"], also: &[], twin: "64", net: Routed,
        fault: |net| net.c.sysctl("net.ipv4.ip_default_ttl", "1"),
        traffic: |net, _| { let _server = web(&net.s, (HERE, 80)); ask(&net.c, (FAR, 80), 2, 100); },
    },
    Case {
        name: "reverse-path", made_by: "rp_filter=1 and a route back that leads elsewhere", cause: "reverse-path-filter",
        place: &["s0", "namespace s", "10.66.0.1"], also: &[], twin: "rp_filter=0 and the right route", net: Wire,
        fault: |net| {
            for name in ["all", "s0"] {
                net.s.sysctl(&format!("net.ipv4.conf.{name}.rp_filter"), "1");
            }
            net.s.ip(&["route", "add", "10.66.0.1/32", "dev", "lo"]);
        },
        traffic: |net, faulty| {
            net.c.ip(&["addr", "add", "10.66.0.1/32", "dev", "lo"]);
            net.c.ip(&["route", "add", "10.77.0.2/32", "dev", "c0", "src", "10.66.0.1"]);
            if !faulty {
                net.s.ip(&["route", "add", "10.66.0.1/32", "via", "10.77.0.1"]);
            }
            three_requests(net, faulty);
        },
    },
    Case {
        name: "neighbour-missing", made_by: "an address that nobody has", cause: "neighbour-unresolved",
        place: &["c0", "namespace c", "10.77.0.9"], also: &[], twin: "the server's address", net: Wire, fault: none,
        traffic: |net, faulty| {
            let _server = echo(&net.s, (HERE, 9));
            let to = if faulty { Ipv4Addr::new(10, 77, 0, 9) } else { SERVER };
            send(&net.c, (to, 9), 3, 50, SOON);
            std::thread::sleep(Duration::from_millis(if faulty { 4500 } else { 100 }));
        },
    },
    Case {
        name: "arp-ignored", made_by: "arp_ignore=8 on the server", cause: "neighbour-ignores",
        place: &["namespace s", "10.77.0.2"], also: &[], twin: "arp_ignore=0", net: Wire,
        fault: |net| net.s.sysctl("net.ipv4.conf.all.arp_ignore", "8"),
        traffic: |net, faulty| {
            // The server's own entry as well: probing it would tell the client who the server is.
            net.s.ip(&["neigh", "flush", "dev", "s0"]);
            net.c.ip(&["neigh", "flush", "dev", "c0"]);
            let _server = echo(&net.s, (HERE, 9));
            send(&net.c, (SERVER, 9), 3, 50, SOON);
            std::thread::sleep(Duration::from_millis(if faulty { 4500 } else { 100 }));
        },
    },
    Case {
        name: "wrong-mac", made_by: "a permanent neighbour entry with another MAC address", cause: "wrong-mac",
        place: &["s0", "namespace s", "10.77.0.2"], also: &[], twin: "the entry that ARP makes", net: Wire,
        fault: |net| drop(net.c.ip(&["neigh", "replace", "10.77.0.2", "lladdr", "02:11:22:33:44:55", "dev", "c0", "nud", "permanent"])),
        traffic: three_requests,
    },
    Case {
        name: "duplicate-address", made_by: "the server's address on the client too", cause: "duplicate-address",
        place: &["10.77.0.2"], also: &[], twin: "another address", net: Wire,
        fault: |net| drop(net.c.ip(&["addr", "add", "10.77.0.2/32", "dev", "lo"])),
        traffic: |net, _| {
            // A client with the asker's address does not answer ARP either, and entries grow old.
            let mac = net.c.sh(&["cat", "/sys/class/net/c0/address"]);
            net.s.ip(&["neigh", "replace", "10.77.0.1", "lladdr", mac.trim(), "dev", "s0", "nud", "permanent"]);
            let _server = web(&net.c, (HERE, 80));
            ask(&net.s, (CLIENT, 80), 2, 10);
        },
    },
    Case {
        name: "duplicate-address-v6", made_by: "duplicate address detection for an address in use", cause: "duplicate-address",
        place: &["fd77::2"], also: &[], twin: "detection for a free address", net: Wire, fault: none,
        traffic: |net, faulty| {
            // Else the question waits for up to a second, at random (addrconf_dad_kick).
            net.c.sysctl("net.ipv6.conf.c0.router_solicitation_delay", "0");
            net.c.ip(&["addr", "add", if faulty { "fd77::2/64" } else { "fd77::9/64" }, "dev", "c0"]);
            std::thread::sleep(Duration::from_millis(1500));
        },
    },
    Case {
        name: "ipv6-disabled", made_by: "disable_ipv6=1 on the server's interface", cause: "ipv6-disabled",
        place: &["s0", "namespace s"], also: &[], twin: "disable_ipv6=0", net: Wire,
        fault: |net| net.s.sysctl("net.ipv6.conf.s0.disable_ipv6", "1"),
        traffic: |net, _| { let _server = web(&net.s, (Ipv6Addr::UNSPECIFIED, 80)); ask(&net.c, (SERVER6, 80), 2, 100); },
    },
    Case {
        name: "interface-down", made_by: "ip link set c0 down", cause: "link-down",
        place: &["c0", "namespace c"], also: &[], twin: "up", net: Wire,
        fault: |net| drop(net.c.ip(&["link", "set", "c0", "down"])),
        traffic: three_requests,
    },
    Case {
        name: "peer-down", made_by: "the other end of the wire down", cause: "link-down",
        place: &["c0", "namespace c", "carrier"], also: &[], twin: "up", net: Wire,
        fault: |net| drop(net.s.ip(&["link", "set", "s0", "down"])),
        traffic: |net, faulty| if faulty { send(&net.c, (SERVER, 9), 10, 100, SOON) } else { ten_datagrams(net, false) },
    },
    Case {
        name: "loopback-down", made_by: "ip link set lo down", cause: "link-down",
        place: &["lo", "namespace c"], also: &[], twin: "up", net: Wire,
        fault: |net| drop(net.c.ip(&["link", "set", "lo", "down"])),
        traffic: |net, faulty| {
            let server = (!faulty).then(|| echo(&net.c, (HERE, 9)));
            send(&net.c, (Ipv4Addr::LOCALHOST, 9), 3, 10, SOON);
            drop(server);
        },
    },
    Case {
        name: "mtu-black-hole", made_by: "a link of MTU 1300 behind a router whose ICMP errors are filtered", cause: "mtu-black-hole",
        place: &["10.78.0.2:80", "namespace r"], also: &[], twin: "MTU 1500 all the way", net: Routed,
        fault: |net| {
            net.r().ip(&["link", "set", "r1", "mtu", "1300"]);
            nft(net.r(), "add table ip t; add chain ip t c { type filter hook output priority 0; }; add rule ip t c icmp type destination-unreachable drop");
        },
        traffic: |net, _| { let _server = web(&net.s, (HERE, 80)); ask_within(&net.c, (FAR, 80).into(), 1, 20_000, Duration::from_millis(2500)); },
    },
    Case {
        name: "path-mtu-discovery", made_by: "nothing but a link of MTU 1300: the errors come through and are heeded, which is no fault; a closed port is", cause: "no-listener",
        place: &["tcp 10.78.0.2:81"], also: &[], twin: "the same link without the closed port", net: Routed, fault: none,
        traffic: |net, faulty| {
            net.r().ip(&["link", "set", "r1", "mtu", "1300"]);
            let _server = web(&net.s, (HERE, 80));
            ask_within(&net.c, (FAR, 80).into(), 2, 20_000, Duration::from_millis(1500));
            if faulty {
                ask(&net.c, (FAR, 81), 1, 10);
            }
        },
    },
    Case {
        name: "mtu-mismatch", made_by: "MTU 1300 at one end of the wire, 1500 at the other", cause: "mtu-mismatch",
        place: &["1300"], also: &[], twin: "1500 at both", net: Wire,
        fault: |net| drop(net.s.ip(&["link", "set", "s0", "mtu", "1300"])),
        traffic: |net, _| { let _server = echo(&net.s, (HERE, 9)); send(&net.c, (SERVER, 9), 4, 1450, SOON); },
    },
    Case {
        name: "message-too-long", made_by: "datagrams of 3000 bytes with don't-fragment", cause: "message-too-long",
        place: &["namespace c", "EMSGSIZE"], also: &[], twin: "of 1000 bytes", net: Wire, fault: none,
        traffic: |net, faulty| unfragmented(net, if faulty { 3000 } else { 1000 }),
    },
    Case {
        name: "reassembly-timeout", made_by: "first fragments without the others, ipfrag_time=1", cause: "reassembly-timeout",
        place: &["s0", "namespace s", "10.77.0.1"], also: &[], twin: "datagrams in fragments that all come", net: Wire,
        fault: |net| net.s.sysctl("net.ipv4.ipfrag_time", "1"),
        traffic: |net, faulty| if faulty {
            net.inject(3, |n| {
                let mut packet = raw::ipv4(CLIENT, SERVER, 17, 64, 500 + n, &[0; 800]);
                packet[6] = 0x20;
                packet[10..12].copy_from_slice(&[0, 0]);
                let sum = raw::checksum(&[&packet[..20]]);
                packet[10..12].copy_from_slice(&sum.to_be_bytes());
                packet
            });
            std::thread::sleep(Duration::from_millis(1700));
        } else {
            let _server = echo(&net.s, (HERE, 9));
            send(&net.c, (SERVER, 9), 3, 4000, SOON);
        },
    },
    Case {
        name: "bad-checksum", made_by: "TCP segments with a wrong checksum", cause: "bad-checksum",
        place: &["s0", "namespace s", "10.77.0.1"], also: &[], twin: "right checksums", net: Wire, fault: none,
        traffic: |net, faulty| if faulty {
            net.inject(3, |n| raw::ipv4(CLIENT, SERVER, 6, 64, n, &raw::tcp((CLIENT, 4000, SERVER, 80), 1, SYN, b"", 1)));
        } else {
            three_requests(net, false);
        },
    },
    Case {
        name: "tcp-md5", made_by: "a listener that requires TCP-MD5, a client that does not sign", cause: "tcp-signature",
        place: &["s0", "namespace s", "10.77.0.2:80"], also: &[], twin: "a listener that does not", net: Wire, fault: none, traffic: signed,
    },
    Case {
        name: "ttl-security", made_by: "IP_MINTTL=255 on the listener", cause: "ttl-security",
        place: &["s0", "namespace s", "10.77.0.2:80"], also: &[], twin: "without", net: Wire, fault: none, traffic: near_only,
    },
    Case {
        name: "half-open", made_by: "a segment of a connection that the server does not know", cause: "half-open",
        place: &["10.77.0.2:80"], also: &[], twin: "connections that are made and closed", net: Wire, fault: none,
        traffic: |net, faulty| if faulty {
            net.inject(3, |n| raw::ipv4(CLIENT, SERVER, 6, 64, n, &raw::tcp((CLIENT, 4000, SERVER, 80), 99, ACK, b"x", 0)));
        } else {
            three_requests(net, false);
        },
    },
    Case {
        name: "queue-rate", made_by: "tbf of 500 kbit/s with a limit of 3000 bytes", cause: "queue-drop",
        place: &["tbf", "c0", "namespace c"], also: &[], twin: "no qdisc", net: Wire,
        fault: |net| drop(net.c.sh(&["tc", "qdisc", "add", "dev", "c0", "root", "tbf", "rate", "500kbit", "burst", "2k", "limit", "3000"])),
        traffic: |net, _| { let _server = echo(&net.s, (HERE, 9)); send(&net.c, (SERVER, 9), 50, 1000, AT_ONCE); },
    },
    Case {
        name: "queue-limit", made_by: "pfifo with a limit of 2 below a tbf", cause: "queue-drop",
        place: &["pfifo", "c0", "namespace c"], also: &[], twin: "a pfifo of 1000", net: Wire,
        fault: |net| {
            net.c.sh(&["tc", "qdisc", "add", "dev", "c0", "root", "handle", "1:", "tbf", "rate", "2mbit", "burst", "3k", "limit", "90000"]);
            net.c.sh(&["tc", "qdisc", "add", "dev", "c0", "parent", "1:1", "pfifo", "limit", "2"]);
        },
        traffic: |net, faulty| {
            if !faulty {
                net.c.sh(&["tc", "qdisc", "add", "dev", "c0", "root", "pfifo", "limit", "1000"]);
            }
            let _server = echo(&net.s, (HERE, 9));
            send(&net.c, (SERVER, 9), 50, 1000, AT_ONCE);
        },
    },
    Case {
        name: "xdp-drop", made_by: "an XDP program that drops (native)", cause: "xdp-drop",
        place: &["s0", "namespace s"], also: &[], twin: "no program", net: Wire, fault: none,
        traffic: |net, faulty| {
            let _program = faulty.then(|| attach(&net.s, "s0", Verdict::XdpDrop));
            ten_datagrams(net, faulty);
        },
    },
    Case {
        name: "xdp-aborted", made_by: "an XDP program that aborts", cause: "xdp-exception",
        place: &["s0", "namespace s", "XDP_ABORTED"], also: &["xdp-drop"], twin: "no program", net: Wire, fault: none,
        traffic: |net, faulty| {
            let _program = faulty.then(|| attach(&net.s, "s0", Verdict::XdpAborted));
            ten_datagrams(net, faulty);
        },
    },
    Case {
        name: "tc-drop", made_by: "a tc (TCX) program that drops", cause: "tc-drop",
        place: &["s0", "namespace s", "TC_INGRESS"], also: &[], twin: "no program", net: Wire, fault: none,
        traffic: |net, faulty| {
            let _program = faulty.then(|| attach(&net.s, "s0", Verdict::TcDrop));
            ten_datagrams(net, faulty);
        },
    },
    Case {
        name: "dns-silent", made_by: "a name server that does not answer", cause: "dns-no-answer",
        place: &["10.77.0.2", "10.77.0.1"], also: &[], twin: "one that answers", net: Wire, fault: none,
        traffic: |net, faulty| {
            let silent = faulty.then(|| net.s.run(|| UdpSocket::bind((SERVER, 53)).expect("bind")));
            let server = (!faulty).then(|| dns(&net.s, (SERVER, 53), 0));
            resolve(&net.c, SERVER, 4);
            drop((silent, server));
        },
    },
    Case {
        name: "dns-servfail", made_by: "a name server that answers SERVFAIL", cause: "dns-failure",
        place: &["10.77.0.2", "SERVFAIL"], also: &[], twin: "one that answers", net: Wire, fault: none,
        traffic: |net, faulty| { let _server = dns(&net.s, (SERVER, 53), if faulty { 2 } else { 0 }); resolve(&net.c, SERVER, 3); },
    },
    Case {
        name: "dhcp-silent", made_by: "DISCOVERs that nobody answers", cause: "dhcp-no-answer",
        place: &["02:00:00:00:00:01"], also: &[], twin: "a server that answers", net: Wire, fault: none,
        traffic: |net, faulty| dhcp(net, !faulty),
    },
    Case {
        name: "group-not-joined", made_by: "multicast to a group that the reader did not join", cause: "group-not-joined",
        place: &["239.1.2.3", "s0", "namespace s"], also: &[], twin: "joined", net: Wire, fault: none,
        traffic: |net, faulty| group(net, !faulty),
    },
    Case {
        name: "ping-ignored", made_by: "icmp_echo_ignore_all=1", cause: "echo-unanswered",
        place: &["10.77.0.2", "namespace s", "told to ignore"], also: &[], twin: "0", net: Wire,
        fault: |net| net.s.sysctl("net.ipv4.icmp_echo_ignore_all", "1"),
        traffic: |net, _| drop(net.c.command("ping").args(["-c4", "-i0.1", "-W1", "-q", "10.77.0.2"]).output()),
    },
    Case {
        name: "wrong-vni", made_by: "a VXLAN tunnel with another id at each end", cause: "tunnel-mismatch",
        place: &["VXLAN_VNI_NOT_FOUND", "s0", "namespace s"], also: &[], twin: "one id", net: Wire, fault: none,
        traffic: |net, faulty| {
            let theirs = if faulty { "8" } else { "7" };
            for (host, id, local, remote, inner) in [(&net.c, "7", "10.77.0.1", "10.77.0.2", "10.5.0.1/24"), (&net.s, theirs, "10.77.0.2", "10.77.0.1", "10.5.0.2/24")] {
                // Its own chatter would come before the other end is there.
                host.sysctl("net.ipv6.conf.default.disable_ipv6", "1");
                host.ip(&["link", "add", "vx", "type", "vxlan", "id", id, "dstport", "4789", "local", local, "remote", remote]);
                host.ip(&["addr", "add", inner, "dev", "vx"]);
                host.ip(&["link", "set", "vx", "up"]);
            }
            let _server = web(&net.s, (HERE, 80));
            ask(&net.c, (Ipv4Addr::new(10, 5, 0, 2), 80), 2, 100);
        },
    },
    Case {
        name: "icmp-rate-limit", made_by: "200 datagrams to a closed port at once", cause: "icmp-rate-limited",
        place: &["namespace s"], also: &["no-listener"], twin: "to an open one", net: Wire, fault: none,
        traffic: |net, faulty| {
            let server = (!faulty).then(|| echo(&net.s, (HERE, 9)));
            send(&net.c, (SERVER, 9), 200, 10, AT_ONCE);
            drop(server);
        },
    },
];
