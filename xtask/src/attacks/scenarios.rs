//! What is done, by which tool, and what must be found of it: fixed before a run is looked at.

/// A host of the campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// 10.80.0.2: recorded; serves HTTP-like on 8080, Modbus-like on 502.
    Victim,
    /// 10.80.0.66, on the victim's link.
    Attacker,
    /// 10.80.0.3, on the victim's link.
    Neighbour,
    /// 10.80.0.1 and 198.51.100.1: routes.
    Gateway,
    /// 198.51.100.9, behind the gateway.
    Outside,
}

/// One attack or benign twin.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// The tool that makes it, for the table.
    pub(super) tool: &'static str,
    /// Findings of which one must be there; none for a benign twin.
    pub(super) expected: &'static [&'static str],
    /// Findings that are true beside those: a flood from invented addresses is also seen as such.
    pub(super) also: &'static [&'static str],
    /// Shell line run in the background before, with its host; ended afterwards.
    pub(super) background: Option<(Host, &'static str)>,
    /// Shell lines, in order.
    pub(super) lines: &'static [(Host, &'static str)],
    /// Captured with tcpdump instead of recorded: what is looked at is in the payload, which is not in the
    /// linear part of packets that were made on this machine.
    pub(super) captured: bool,
    /// Part of the quick subset that every test run makes.
    pub(super) quick: bool,
}

use Host::{Attacker, Gateway, Neighbour, Outside, Victim};

const fn attack(
    name: &'static str,
    tool: &'static str,
    expected: &'static [&'static str],
    lines: &'static [(Host, &'static str)],
) -> Scenario {
    Scenario {
        name,
        tool,
        expected,
        also: &[],
        background: None,
        lines,
        captured: false,
        quick: false,
    }
}

const fn benign(
    name: &'static str,
    tool: &'static str,
    lines: &'static [(Host, &'static str)],
) -> Scenario {
    attack(name, tool, &[], lines)
}

impl Scenario {
    const fn also(self, also: &'static [&'static str]) -> Self {
        Self { also, ..self }
    }
    const fn captured(self) -> Self {
        Self { captured: true, ..self }
    }
    const fn quick(self) -> Self {
        Self { quick: true, ..self }
    }
    const fn beside(self, host: Host, line: &'static str) -> Self {
        Self { background: Some((host, line)), ..self }
    }
}

/// In a line, `$V`, `$G`, `$O`, `$N` are the addresses of victim, gateway, outside and neighbour, `inject`
/// runs inject.py.
#[rustfmt::skip]
pub(super) const SCENARIOS: &[Scenario] = &[
    // Link.
    attack("ARP spoofing", "arpspoof (dsniff)", &["arp-spoofing"], &[
        (Attacker, "timeout -s INT 13 arpspoof -i eth0 -t $V $G 2>/dev/null || true")])
        .beside(Victim, "ping -q -i 0.5 $G"),
    benign("failover by gratuitous ARP", "scapy", &[
        (Neighbour, "inject announce 10.80.0.50"), (Attacker, "inject announce 10.80.0.50")]),
    attack("ARP scan", "nmap -sn -PR", &["arp-scan"], &[(Attacker, "nmap -n -sn -PR 10.80.0.0/24 >/dev/null")]).quick(),
    benign("ARP for neighbours that are there", "ping", &[
        (Attacker, "for i in 1 2 3; do ip neigh flush dev eth0; ping -q -c 2 -i 0.2 $V; ping -q -c 2 -i 0.2 $G; ping -q -c 2 -i 0.2 $N; done")]),
    attack("MAC flood", "macof (dsniff)", &["mac-flood"], &[(Attacker, "timeout 5 macof -i eth0 -n 1500 >/dev/null 2>&1 || true")])
        .also(&["spoofed-source", "syn-flood", "ack-flood", "tcp-flag-flood"]),
    attack("rogue DHCP server", "scapy", &["rogue-dhcp"], &[(Attacker, "inject rogue_dhcp")]).captured(),
    benign("DHCP servers in failover", "scapy", &[(Attacker, "inject dhcp_failover")]).captured(),
    attack("rogue router advertisement", "scapy", &["rogue-ra"], &[(Attacker, "inject rogue_ra")]),
    benign("redundant IPv6 routers", "scapy", &[(Attacker, "inject redundant_routers")]),
    attack("neighbour spoofing", "scapy", &["ndp-spoofing"], &[(Attacker, "inject ndp_spoof")]),
    benign("IPv6 address moved", "scapy", &[(Attacker, "inject ndp_failover")]),
    // Network.
    attack("forged redirect", "scapy", &["forged-redirect"], &[(Attacker, "inject redirect")])
        .beside(Victim, "ping -q -i 0.2 $O"),
    benign("a gateway's own redirect", "Linux", &[
        (Victim, "sysctl -qw net.ipv4.conf.all.accept_redirects=1; ip route add 203.0.113.0/24 via $G; ping -q -c 5 -i 0.3 -W 1 203.0.113.5 || true")]),
    attack("forged fragmentation needed", "scapy", &["forged-packet-too-big"], &[(Attacker, "inject frag_needed")])
        .beside(Neighbour, "inject get 100 / 0.1"),
    benign("a router's fragmentation needed", "Linux", &[
        (Gateway, "ip link set eth1 mtu 1000"), (Victim, "ping -q -c 3 -i 0.2 -M do -s 1200 $O || true"),
        (Gateway, "ip link set eth1 mtu 1500")]),
    attack("forged unreachables", "scapy", &["forged-icmp-error"], &[(Attacker, "sleep 1.5; inject unreachable")])
        .beside(Neighbour, "inject get 100 / 0.1"),
    benign("genuine unreachables", "ping, python sockets", &[
        (Victim, "ping -q -c 2 -W 1 198.51.100.77 || true"), (Victim, "inject closed_ports $O")]),
    attack("teardrop", "scapy", &["fragment-overlap"], &[(Attacker, "inject teardrop")]).also(&["tiny-fragments"]).quick(),
    attack("tiny fragments", "nmap -f", &["tiny-fragments"], &[(Attacker, "nmap -n -Pn -sS -f -p 1-5 $V >/dev/null")]),
    attack("fragment flood", "scapy", &["fragment-flood"], &[(Attacker, "inject fragment_flood")]),
    benign("fragmented bulk", "scapy", &[(Attacker, "inject fragmented_bulk")]),
    attack("martian sources", "hping3", &["spoofed-source"], &[(Attacker, "hping3 -q -c 5 -i u20000 -a 127.0.0.9 -S -p 8080 $V >/dev/null 2>&1 || true")]),
    attack("LAND", "hping3", &["land"], &[(Attacker, "hping3 -q -c 3 -i u20000 -a $V -S -s 8080 -k -p 8080 $V >/dev/null 2>&1 || true")])
        .also(&["spoofed-source"]),
    attack("smurf", "hping3", &["smurf"], &[(Attacker, "hping3 -q -c 60 -i u20000 --icmp -a $V 10.80.0.255 >/dev/null 2>&1 || true")])
        .also(&["spoofed-source"]),
    benign("ping to broadcast by hand", "ping", &[(Victim, "ping -q -b -c 5 -i 0.5 10.80.0.255 || true")]),
    // Floods.
    attack("SYN flood, one source", "hping3", &["syn-flood"], &[(Attacker, "hping3 -q -c 800 -i u2000 -S -p 8080 $V >/dev/null 2>&1 || true")]),
    attack("SYN flood, random sources", "hping3", &["syn-flood"], &[(Attacker, "hping3 -q -c 800 -i u2000 -S -p 8080 --rand-source $V >/dev/null 2>&1 || true")])
        .also(&["spoofed-source"]).quick(),
    attack("SYN flood with ECN flags", "hping3", &["syn-flood"], &[(Attacker, "hping3 -q -c 800 -i u2000 -S -X -Y -p 8080 --rand-source $V >/dev/null 2>&1 || true")])
        .also(&["spoofed-source"]),
    // One client that asks 90 times a second is a flood; each request is seen at both of its ends here.
    benign("a busy server", "python sockets", &[(Neighbour, "inject get 300")]).quick(),
    attack("ACK flood", "hping3", &["ack-flood"], &[(Attacker, "hping3 -q -c 1200 -i u1000 -A -p 8080 $V >/dev/null 2>&1 || true")]),
    attack("RST flood", "hping3", &["rst-flood"], &[(Attacker, "hping3 -q -c 1200 -i u1000 -R -p 8080 --rand-source $V >/dev/null 2>&1 || true")]).also(&["spoofed-source"]),
    attack("FIN flood", "hping3", &["fin-flood"], &[(Attacker, "hping3 -q -c 1200 -i u1000 -F -p 8080 $V >/dev/null 2>&1 || true")]),
    attack("XMAS flood", "hping3", &["fin-flood", "tcp-flag-flood"], &[(Attacker, "hping3 -q -c 1200 -i u1000 -F -P -U -p 8080 $V >/dev/null 2>&1 || true")]),
    attack("SYN-ACK reflection", "scapy", &["syn-ack-reflection"], &[(Attacker, "inject syn_ack_reflection")]),
    attack("UDP flood", "hping3", &["udp-flood"], &[(Attacker, "hping3 -q -c 2500 -i u1000 --udp -p 7777 --rand-source $V >/dev/null 2>&1 || true")])
        .also(&["spoofed-source"]),
    benign("a stream of datagrams", "python sockets", &[(Neighbour, "inject stream 4000")])
        .beside(Victim, "inject stream_sink"),
    attack("ICMP flood", "ping -f", &["icmp-flood"], &[(Attacker, "ping -q -f -c 1500 $V || true")]),
    benign("a monitoring poller", "ping", &[(Neighbour, "for i in 1 2 3 4 5; do ping -q -c 3 -i 0.2 $V; inject get 5; done")]),
    attack("amplified answers", "scapy", &["amplification-victim"], &[(Attacker, "inject amplified_answers")])
        .beside(Victim, "ping -q -i 0.5 $G"),
    attack("small MSS", "scapy", &["tcp-resource-abuse"], &[(Attacker, "inject small_mss")]),
    attack("slowloris", "python sockets", &["connection-exhaustion"], &[(Attacker, "inject slowloris 80 14")]),
    benign("a NAT office", "python sockets", &[(Neighbour, "inject office 60")]),
    benign("a backup", "python sockets", &[(Neighbour, "inject get 8 /big")]),
    // Scans.
    // The flood before it is still being answered.
    attack("SYN scan", "nmap -sS", &["port-scan"], &[(Attacker, "nmap -n -Pn -sS -p 1-200 $V >/dev/null")])
        .also(&["backscatter"])
        .quick(),
    attack("connect scan", "nmap -sT", &["port-scan"], &[(Attacker, "nmap -n -Pn -sT -p 1-200 $V >/dev/null")]),
    attack("FIN scan", "nmap -sF", &["port-scan"], &[(Attacker, "nmap -n -Pn -sF -p 1-100 $V >/dev/null")]),
    attack("null scan", "nmap -sN", &["port-scan"], &[(Attacker, "nmap -n -Pn -sN -p 1-100 $V >/dev/null")]),
    attack("XMAS scan", "nmap -sX", &["port-scan"], &[(Attacker, "nmap -n -Pn -sX -p 1-100 $V >/dev/null")]),
    attack("ACK scan", "nmap -sA", &["port-scan"], &[(Attacker, "nmap -n -Pn -sA -p 1-100 $V >/dev/null")]),
    attack("UDP scan", "nmap -sU", &["port-scan"], &[(Attacker, "nmap -n -Pn -sU -p 1-40 --max-retries 0 $V >/dev/null; sleep 2; ping -q -c 1 $V")]),
    attack("slow scan", "nmap --scan-delay", &["port-scan"], &[(Attacker, "nmap -n -Pn -sS -p 1-24 --scan-delay 500ms --max-retries 0 $V >/dev/null")]),
    // Connections.
    attack("off-path reset", "scapy", &["off-path-reset"], &[(Attacker, "inject off_path_reset $(cat $PORT)")])
        .beside(Neighbour, "inject hold 20 >$PORT"),
    attack("off-path data", "scapy", &["off-path-injection"], &[(Attacker, "inject off_path_data $(cat $PORT)")])
        .beside(Neighbour, "inject hold 20 >$PORT"),
    attack("challenge-ACK probing", "scapy", &["challenge-ack-probing", "off-path-reset"], &[(Attacker, "inject challenge_ack")]),
    benign("connections cut short", "python sockets, kill", &[
        (Neighbour, "for i in 1 2 3; do timeout -s KILL 0.7 inject get 50 /big || true; done")]),
    // Industrial.
    attack("Modbus restart and silence", "python sockets", &["ics-control-command"], &[(Attacker, "inject modbus_restart")])
        .beside(Victim, "inject modbus_server").captured(),
    benign("Modbus polling", "python sockets", &[(Neighbour, "inject modbus_poll")])
        .beside(Victim, "inject modbus_server").captured(),
    // Probes that look like attacks.
    benign("traceroute", "traceroute", &[(Victim, "traceroute -n -q 2 $O >/dev/null || true"), (Outside, "traceroute -n -I $V >/dev/null || true")]),
];
