"""A third round: links, networks and transport, as real tools attack them and as captures of them come."""

import random

from scapy.all import (
    ARP, BOOTP, DHCP, GRE, ICMP, IP, LLC, STP, TCP, UDP, Dot3, Ether, ICMPv6DestUnreach, ICMPv6EchoRequest, ICMPv6ND_NA,
    ICMPv6ND_NS, ICMPv6ND_RA, ICMPv6ND_Redirect, ICMPv6NDOptDstLLAddr, ICMPv6NDOptPrefixInfo, ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrRouting, PadN, Raw, fragment,
)
from scapy.layers.dhcp6 import DHCP6_Advertise, DHCP6_Reply, DHCP6_Request, DHCP6_Solicit, DHCP6OptClientId
from scapy.layers.dhcp6 import DHCP6OptDNSServers, DHCP6OptServerId, DUID_LL

from attacks import arp, rip4, rmac
from wire import ALL, EVIL, FAR, GATEWAY, OTHER, VICTIM, Conn, case, everyday, eth, get, ip, mac, tcp, tls, udp

RNG = random.Random(37)
ARPED = ["arp-spoofing", "arp-poisoning", "arp-conflict"]


def attack(name, expect, **more):
    return case(name, expect, round=3, **more)


# Link.

@attack("ARP poisoning of two hosts, traffic forwarded, cured at the end (ettercap)", ARPED, attacker=EVIL)
def ettercap():
    yield arp(0.2, 1, mac(VICTIM), VICTIM, GATEWAY, ALL)
    yield arp(0.201, 2, mac(GATEWAY), GATEWAY, VICTIM, mac(VICTIM), mac(VICTIM))
    for n in range(8):
        yield arp(2 + n * (1 if n < 5 else 10), 2, mac(EVIL), GATEWAY, VICTIM, mac(VICTIM), mac(VICTIM))
        yield arp(2.01 + n * (1 if n < 5 else 10), 2, mac(EVIL), VICTIM, GATEWAY, mac(GATEWAY), mac(GATEWAY))
    for n in range(3):
        yield 40 + n, Ether(src=mac(EVIL), dst=mac(VICTIM)) / ARP(op=2, hwsrc=mac(GATEWAY), psrc=GATEWAY, hwdst=mac(VICTIM), pdst=VICTIM)
    for t, packet in everyday(38, hosts=(VICTIM,)):
        first, second = packet.copy(), packet.copy()
        first.dst, second.src = mac(EVIL), mac(EVIL)
        second[IP].ttl -= 1
        yield t + 3, first
        yield t + 3.0004, second


@attack("ARP: a host told that the gateway is nobody (NetCut)", ARPED, victim=VICTIM)
def netcut():
    yield from everyday(20)
    yield arp(0.1, 1, mac(VICTIM), VICTIM, GATEWAY, ALL)
    yield arp(0.101, 2, mac(GATEWAY), GATEWAY, VICTIM, mac(VICTIM), mac(VICTIM))
    for n in range(20):
        yield 3 + n, Ether(src=mac(EVIL), dst=mac(VICTIM)) / ARP(op=2, hwsrc="02:de:ad:00:be:ef", psrc=GATEWAY, hwdst=mac(VICTIM), pdst=VICTIM)


@attack("ARP poisoning seen from its middle on, 64 bytes of each", ARPED, attacker=EVIL, since=10, snap=64)
def arp_middle():
    for n in range(40):
        yield arp(n * 2, 2, mac(EVIL), GATEWAY, VICTIM, mac(VICTIM), mac(VICTIM))
        yield arp(n * 2 + 0.01, 2, mac(EVIL), VICTIM, GATEWAY, mac(GATEWAY), mac(GATEWAY))
    yield arp(35, 1, mac(VICTIM), VICTIM, GATEWAY, mac(EVIL))
    yield arp(35.001, 2, mac(EVIL), GATEWAY, VICTIM, mac(VICTIM), mac(VICTIM))
    yield arp(60, 1, mac(GATEWAY), GATEWAY, OTHER, ALL)


@attack("DHCP starvation from one card, another hardware address in each request (dhcpstarv)", ["dhcp-starvation"])
def dhcpstarv():
    for n in range(250):
        card, t = bytes([0, 0x16, 0x36]) + RNG.randbytes(3), n * 0.05
        head = Ether(src=mac(EVIL), dst=ALL) / IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67)
        yield t, head / BOOTP(chaddr=card, xid=n + 5) / DHCP(options=[("message-type", "discover"), "end"])
        if n < 180:
            offer = BOOTP(op=2, chaddr=card, xid=n + 5, yiaddr=f"10.9.0.{n + 20}")
            yield t + 0.01, (Ether(src=mac(GATEWAY), dst=ALL) / IP(src=GATEWAY, dst="255.255.255.255") / UDP(sport=67, dport=68)
                             / offer / DHCP(options=[("message-type", "offer"), ("server_id", GATEWAY), "end"]))


@attack("DHCP: the leases of others released (yersinia)", ["dhcp-starvation"])
def dhcp_release():
    for n in range(120):
        card = bytes([0, 0x50, 0x56, 0, 1, n])
        yield n * 0.02, (Ether(src=mac(EVIL), dst=mac(GATEWAY)) / IP(src=f"10.9.0.{n + 20}", dst=GATEWAY) / UDP(sport=68, dport=67)
                         / BOOTP(chaddr=card, ciaddr=f"10.9.0.{n + 20}", xid=n) / DHCP(options=[("message-type", "release"), ("server_id", GATEWAY), "end"]))


@attack("topology changes by the thousand (yersinia TCN)", ["stp-flood"])
def tcn():
    for n in range(1500):
        yield n * 0.004, Dot3(src=rmac(), dst="01:80:c2:00:00:00") / LLC(dsap=0x42, ssap=0x42, ctrl=3) / Raw(b"\x00\x00\x00\x80" + bytes(43))


@attack("MAC flood that carries nothing known (etherflood), 64 bytes of each", ["mac-flood"], snap=64)
def etherflood():
    for n in range(4000):
        yield n * 0.001, Ether(src=rmac(), dst=rmac(), type=0x0800) / Raw(RNG.randbytes(46))


R6, V6, E6 = "fe80::1", "fe80::10", "fe80::66"


@attack("DHCPv6 answered by a host that names itself as resolver (mitm6)", ["rogue-dhcp"], attacker=E6)
def mitm6():
    for n in range(12):
        client = f"fe80::1{n % 4}"
        them, us = DUID_LL(lladdr=mac(client)), DUID_LL(lladdr=mac(E6))
        out = Ether(src=mac(client), dst="33:33:00:01:00:02") / IPv6(src=client, dst="ff02::1:2") / UDP(sport=546, dport=547)
        back = ip(E6, client) / UDP(sport=547, dport=546)
        options = DHCP6OptServerId(duid=us) / DHCP6OptClientId(duid=them) / DHCP6OptDNSServers(dnsservers=[E6])
        yield n * 5, out / DHCP6_Solicit(trid=n) / DHCP6OptClientId(duid=them)
        yield n * 5 + 0.002, back / DHCP6_Advertise(trid=n) / options
        yield n * 5 + 0.1, out / DHCP6_Request(trid=n + 99) / DHCP6OptClientId(duid=them) / DHCP6OptServerId(duid=us)
        yield n * 5 + 0.102, back / DHCP6_Reply(trid=n + 99) / options
        yield n * 5 + 2, ip(E6, "ff02::1", 255) / ICMPv6ND_RA(M=1, O=1, routerlifetime=0)


def genuine_ra(seconds):
    for n in range(int(seconds / 10)):
        yield n * 10 + 1, (Ether(src=mac(R6), dst="33:33:00:00:00:01") / IPv6(src=R6, dst="ff02::1", hlim=255) / ICMPv6ND_RA(routerlifetime=1800)
                           / ICMPv6NDOptSrcLLAddr(lladdr=mac(R6)) / ICMPv6NDOptPrefixInfo(prefix="2001:db8::", prefixlen=64))


@attack("router advertisement in fragments behind options, past RA guard (fake_router6)", ["rogue-ra", "fragmented-ndp"], also=["tiny-fragments"], attacker=E6)
def ra_fragments():
    yield from genuine_ra(60)
    for n in range(6):
        ra = bytes(IPv6(src=E6, dst="ff02::1", hlim=255) / IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(60))]) / ICMPv6ND_RA(routerlifetime=9000, prf=1)
                   / ICMPv6NDOptSrcLLAddr(lladdr=mac(E6)) / ICMPv6NDOptPrefixInfo(prefix="2001:db8:bad::", prefixlen=64))[40:]
        for at, more in ((0, 1), (64, 0)):
            yield 12 + n * 5 + at * 0.00001, (Ether(src=mac(E6), dst="33:33:00:00:00:01") / IPv6(src=E6, dst="ff02::1", hlim=255)
                                               / IPv6ExtHdrFragment(nh=60, offset=at // 8, m=more, id=n) / Raw(ra[at:at + 64] if more else ra[at:]))


@attack("neighbour advertisements of hosts by the thousand (flood_advertise6)", ["ndp-spoofing", "ndp-exhaustion", "na-flood"])
def flood_na():
    for n in range(2000):
        source = "fe80::%x:%x" % (RNG.getrandbits(16), RNG.getrandbits(16))
        yield n * 0.002, (Ether(src=rmac(), dst="33:33:00:00:00:01") / IPv6(src=source, dst="ff02::1", hlim=255)
                          / ICMPv6ND_NA(tgt=source, O=1, S=0) / ICMPv6NDOptDstLLAddr(lladdr=rmac()))


@attack("IPv6 redirect in the router's name (redir6)", ["forged-redirect"], victim="2001:db8::10")
def redir6():
    yield from genuine_ra(30)
    victim, far = "2001:db8::10", "2001:db8:ffff::5"
    for n in range(6):
        ping = IPv6(src=victim, dst=far) / ICMPv6EchoRequest(seq=n, data=bytes(16))
        yield 5 + n, eth(victim, R6) / ping
        yield 5.002 + n, (Ether(src=mac(E6), dst=mac(victim)) / IPv6(src=R6, dst=victim, hlim=255) / ICMPv6ND_Redirect(tgt=E6, dst=far)
                          / ICMPv6NDOptDstLLAddr(lladdr=mac(E6)))


@attack("packets too big of what nobody sent (toobig6)", ["forged-packet-too-big", "forged-icmp-error"], victim="2001:db8::10")
def toobig6():
    for n in range(12):
        quoted = IPv6(src="2001:db8::10", dst="2001:db8:ffff::5") / TCP(sport=443, dport=30000 + n, seq=RNG.getrandbits(32), flags="A") / Raw(bytes(40))
        yield n * 2, ip("2001:db8:6::66", "2001:db8::10", 58) / ICMPv6PacketTooBig(mtu=1280) / quoted
    yield from [(t, p) for t, p in get(3, "2001:db8:5::1", 4000, "2001:db8::10")]


@attack("smurf over IPv6 (smurf6)", ["smurf"], victim="2001:db8::10")
def smurf6():
    for n in range(600):
        yield n * 0.01, Ether(src=mac(E6), dst="33:33:00:00:00:01") / IPv6(src="2001:db8::10", dst="ff02::1") / ICMPv6EchoRequest(seq=n, data=bytes(64))
        for m in range(5):
            yield n * 0.01 + 0.001 * m, ip(f"2001:db8::2{m}", "2001:db8::10") / ICMPv6EchoRequest(type=129, seq=n, data=bytes(64))


@attack("routing header of type 0 between two hosts (RFC 5095)", ["source-route"])
def rh0():
    for n in range(20):
        hops = ["2001:db8::1", "2001:db8::2"] * 10
        yield n, ip("2001:db8:6::66", "2001:db8::1") / IPv6ExtHdrRouting(addresses=hops) / ICMPv6EchoRequest(seq=n)


# Network.

def pieces(t, src, dst, ident, *parts, proto=17):
    for n, (offset, more, data) in enumerate(parts):
        yield t + n * 0.0001, eth(src, dst) / IP(src=src, dst=dst, id=ident, proto=proto, frag=offset // 8, flags="MF" if more else 0) / Raw(data)


@attack("nestea", ["fragment-overlap", "tiny-fragments"], attacker=FAR, victim=VICTIM)
def nestea():
    for n in range(40):
        yield from pieces(n * 0.1, FAR, VICTIM, 242, (0, 1, bytes(18)), (48, 0, bytes(116)), (0, 1, bytes(264)))


@attack("bonk", ["fragment-overlap", "oversized-datagram", "tiny-fragments"], attacker=FAR, victim=VICTIM)
def bonk():
    for n in range(40):
        yield from pieces(n * 0.1, FAR, VICTIM, 1109, (0, 1, bytes(36)), (32, 0, bytes(4)))


@attack("newtear, seen from its middle without link headers", ["fragment-overlap", "tiny-fragments"], victim=VICTIM, since=1, link="raw")
def newtear():
    for n in range(60):
        yield from pieces(n * 0.05, rip4(), VICTIM, 242, (0, 1, bytes(28)), (24, 0, bytes(4)))


@attack("scan cut into fragments of eight bytes (nmap -f)", ["tiny-fragments", "port-scan"], attacker=EVIL, victim=VICTIM)
def nmap_f():
    for port in range(1, 300):
        segment = bytes(TCP(sport=51000, dport=port, flags="S", seq=77, window=1024, options=[("MSS", 1460)]))
        yield from pieces(port * 0.01, EVIL, VICTIM, RNG.getrandbits(16), (0, 1, segment[:8]), (8, 1, segment[8:16]), (16, 0, segment[16:]), proto=6)
        yield tcp(port * 0.01 + 0.002, VICTIM, port, EVIL, 51000, "RA" if port % 50 else "SA", 0, 78)


@attack("flood of middle fragments from anywhere", ["fragment-flood"], victim=VICTIM)
def middle_fragments():
    for n in range(3000):
        yield from pieces(n * 0.001, rip4(), VICTIM, RNG.getrandbits(16), (1480 * RNG.randint(1, 30) // 8 * 8, 1, bytes(1000)))


@attack("unreachables by the thousand (BlackNurse), 64 bytes of each", ["icmp-flood", "forged-icmp-error"], victim=VICTIM, snap=64)
def blacknurse():
    quoted = IP(src=VICTIM, dst=FAR) / UDP(sport=1, dport=2)
    for n in range(6000):
        yield n * 0.0005, ip(FAR, VICTIM) / ICMP(type=3, code=3) / quoted


@attack("pings of forged hosts, cooked capture", ["icmp-flood"], victim=VICTIM, link="sll")
def ping_forged():
    for n in range(3000):
        yield n * 0.001, ip(rip4(), VICTIM) / ICMP(id=n & 0xFFFF, seq=0) / Raw(bytes(56))


@attack("connections reset by forged unreachables (Smack)", ["forged-icmp-error"], victim=VICTIM)
def smack():
    conn = Conn(0, OTHER, 45000, VICTIM, 22)
    for n in range(40):
        conn.ask(bytes(48), 0.2).tell(bytes(48))
    yield from conn.out
    for n in range(400):
        quoted = IP(src=VICTIM, dst=OTHER) / TCP(sport=22, dport=44900 + n, seq=RNG.getrandbits(32), flags="A")
        yield 3 + n * 0.01, ip(FAR, VICTIM) / ICMP(type=3, code=2) / quoted


@attack("time stamps and masks asked on every address (nmap -PP -PM)", ["ping-sweep"], attacker=FAR)
def other_pings():
    for n in range(1, 255):
        yield n * 0.02, ip(FAR, f"10.9.0.{n}") / ICMP(type=13, id=n)
        yield n * 0.02 + 0.01, ip(FAR, f"10.9.0.{n}") / ICMP(type=17, id=n)


@attack("UDP flood inside GRE (Mirai greip)", ["udp-flood", "gre-flood", "spoofed-source", "ip-flood"], victim=VICTIM)
def greip():
    for n in range(6000):
        inner = IP(src=rip4(), dst=rip4()) / UDP(sport=RNG.getrandbits(16), dport=RNG.getrandbits(16)) / Raw(bytes(512))
        yield n * 0.0005, ip(FAR, VICTIM) / GRE() / inner


@attack("packets of any protocol number from anywhere", ["ip-flood", "protocol-scan", "spoofed-source"], victim=VICTIM)
def any_protocol():
    for n in range(5000):
        yield n * 0.0006, ip(rip4(), VICTIM, proto=RNG.choice([0, 4, 41, 47, 50, 55, 97, 103, 255])) / Raw(bytes(400))


@attack("carpet bombing: NTP answers over a /24", ["amplification-victim", "carpet-bombing"])
def carpet():
    for n in range(6000):
        yield udp(n * 0.001, f"203.0.{n % 7}.{n % 40 + 1}", 123, f"10.9.0.{n % 254 + 1}", 80, b"\xd7\x00\x03\x2a\x00\x06\x00\x48" + bytes(432))


@attack("pulses of UDP: half a second in ten", ["udp-flood"], victim=VICTIM)
def pulses():
    yield from everyday(60)
    for pulse in range(6):
        for n in range(2000):
            yield udp(3 + pulse * 10 + n * 0.00025, rip4(), RNG.getrandbits(16), VICTIM, 27015, RNG.randbytes(200))


# Transport: scans.

@attack("SYN scan, everything in one second", ["port-scan"], attacker=FAR, victim=VICTIM, scale=0.0)
def scan_timeless():
    for port in RNG.sample(range(1, 65535), 1000):
        yield tcp(0.0, FAR, 61000, VICTIM, port, "S", 5, window=1024, options=[("MSS", 1460)])
        yield tcp(0.0001, VICTIM, port, FAR, 61000, "RA", 0, 6)


@attack("SYN scan of which only the refusals were captured", ["port-scan"], attacker=FAR, sender=VICTIM)
def scan_refusals():
    for port in range(1, 500):
        yield tcp(port * 0.01, FAR, 61000, VICTIM, port, "S", 5)
        yield tcp(port * 0.01 + 0.001, VICTIM, port, FAR, 61000, "SA" if port in (22, 80) else "RA", 0, 6)


@attack("ACK scan of a filtered host (nmap -sA)", ["port-scan"], attacker=FAR, victim=VICTIM)
def ack_scan():
    for port in range(1, 600):
        for again in (0, 1):
            yield tcp(port * 0.004 + again * 1.1, FAR, 40000 + again, VICTIM, port, "A", 0, RNG.getrandbits(32), window=1024)
        if port % 40 == 0:
            yield tcp(port * 0.004 + 0.001, VICTIM, port, FAR, 40000, "R", RNG.getrandbits(32))


@attack("NULL scan, 60 bytes of each, without link headers", ["port-scan"], attacker=FAR, victim=VICTIM, snap=60, link="raw")
def null_scan():
    for port in range(1, 400):
        yield tcp(port * 0.02, FAR, 40000, VICTIM, port, 0, RNG.getrandbits(32), window=1024)
        if port % 30:
            yield tcp(port * 0.02 + 0.001, VICTIM, port, FAR, 40000, "RA", 0, 1)


@attack("polite scan: every port 15 seconds (nmap -T1), cooked capture", ["port-scan"], attacker=FAR, victim=VICTIM, link="sll")
def sneaky():
    for n, port in enumerate(RNG.sample(range(1, 9000), 140)):
        yield tcp(n * 15, FAR, 40000, VICTIM, port, "S", 9, window=1024, options=[("MSS", 1460)])
        yield tcp(n * 15 + 0.001, VICTIM, port, FAR, 40000, "RA", 0, 10)


@attack("hosts scanned at random order, five ports each (masscan)", ["port-scan"], attacker=FAR)
def masscan():
    pairs = [(host, port) for host in range(1, 255) for port in (21, 22, 80, 443, 3306)]
    RNG.shuffle(pairs)
    for n, (host, port) in enumerate(pairs):
        yield tcp(n * 0.005, FAR, 61000, f"10.9.0.{host}", port, "S", RNG.getrandbits(32), window=1024, ttl=243)
        if host in (10, 11, 30):
            answer = "SA" if port in (22, 80) else "RA"
            yield tcp(n * 0.005 + 0.0005, f"10.9.0.{host}", port, FAR, 61000, answer, 1, 1)
            if answer == "SA":
                yield tcp(n * 0.005 + 0.04, FAR, 61000, f"10.9.0.{host}", port, "R", 1, ttl=243)


@attack("one host in a thousand asked (zmap), at an infected host", ["port-scan"], attacker=VICTIM)
def zmap():
    yield from everyday(20)
    for n in range(3000):
        yield n * 0.005, ip(VICTIM, rip4(), 255, id=54321) / TCP(sport=RNG.randint(32768, 61000), dport=6379, flags="S", seq=n * 77, window=65535)


@attack("445 of random hosts inside and outside (WannaCry)", ["port-scan"], attacker=VICTIM)
def wannacry():
    yield from everyday(60)
    for n in range(900):
        target = rip4() if n % 3 else f"10.9.0.{n // 3 % 254 + 1}"
        if target != VICTIM:
            yield tcp(n * 0.06, VICTIM, 49200 + n, target, 445, "S", n, options=[("MSS", 1460)])
            if n % 3 == 0 and n % 60 == 0:
                yield tcp(n * 0.06 + 0.001, target, 445, VICTIM, 49200 + n, "RA", 0, n + 1)


@attack("Slammer", ["port-scan", "udp-flood"], attacker=VICTIM)
def slammer():
    for n in range(4000):
        yield udp(n * 0.0005, VICTIM, 1045, rip4(), 1434, b"\x04" + b"\x01" * 96 + RNG.randbytes(279))


@attack("135 of a subnet by one who is let through at some (Blaster)", ["port-scan", "arp-scan"], attacker=EVIL)
def blaster():
    for n in range(1, 200):
        host = f"10.20.0.{n}"
        yield tcp(n * 0.05, EVIL, 3000 + n, host, 135, "S", n)
        if n % 9 == 0:
            yield from Conn(n * 0.05 + 1, EVIL, 3300 + n, host, 135).ask(bytes(72)).tell(bytes(60)).ask(bytes(1400)).reset(0)
        elif n % 2:
            yield tcp(n * 0.05 + 0.001, host, 135, EVIL, 3000 + n, "RA", 0, n + 1)


@attack("UDP asked on every address for open resolvers, 96 bytes of each", ["port-scan"], attacker=FAR, snap=96)
def zmap_dns():
    question = bytes.fromhex("000101000001000000000000") + b"\x07version\x04bind\x00\x00\x10\x00\x03"
    for n in range(1, 255):
        yield udp(n * 0.02, FAR, 51337, f"10.9.0.{n}", 53, question)
        if n % 25 == 0:
            yield n * 0.02 + 0.001, ip(f"10.9.0.{n}", FAR) / ICMP(type=3, code=3) / (IP(src=FAR, dst=f"10.9.0.{n}") / UDP(sport=51337, dport=53) / Raw(question))


@attack("the system asked for by odd segments (nmap -O)", ["port-scan", "os-probing", "ipid-probing"], attacker=EVIL, victim=VICTIM)
def nmap_o():
    for n in range(6):
        yield tcp(n * 0.1, EVIL, 50000 + n, VICTIM, 22, "S", 100 + n, 0xFFFF, window=1, options=[("WScale", 10), ("NOP", None), ("MSS", 1460), ("Timestamp", (0xFFFFFFFF, 0)), ("SAckOK", b"")])
        yield tcp(n * 0.1 + 0.001, VICTIM, 22, EVIL, 50000 + n, "SA", 7 * n, 101 + n, options=[("MSS", 1460)])
        yield tcp(n * 0.1 + 0.002, EVIL, 50000 + n, VICTIM, 22, "R", 101 + n)
    for n, (flags, port) in enumerate([("SEC", 22), ("", 22), ("SFUP", 22), ("A", 22), ("S", 1), ("A", 1), ("FPU", 1)] * 2):
        yield tcp(1 + n * 0.1, EVIL, 50010 + n, VICTIM, port, flags, 300, 0xFFFF, window=128, options=[("WScale", 10), ("NOP", None), ("MSS", 265), ("Timestamp", (0xFFFFFFFF, 0)), ("SAckOK", b"")])
        if port == 1:
            yield tcp(1.001 + n * 0.1, VICTIM, port, EVIL, 50010 + n, "RA", 0, 301)
    probe = ip(EVIL, VICTIM) / UDP(sport=50030, dport=39999) / Raw(b"C" * 300)
    yield 3, probe
    yield 3.001, ip(VICTIM, EVIL) / ICMP(type=3, code=3) / probe[IP]


# Transport: floods, and connections of others.

@attack("SYN flood from its middle on, 64 bytes, no link headers, in one second", ["syn-flood"], victim=VICTIM, since=2, snap=64, link="raw", scale=0.1)
def syn_middle():
    for n in range(8000):
        source, port = rip4(), RNG.randint(1024, 65000)
        yield tcp(n * 0.001, source, port, VICTIM, 80, "S", n, window=64)
        if n % 4 == 0:
            yield tcp(n * 0.001 + 0.0004, VICTIM, 80, source, port, "SA", 5, n + 1)


@attack("SYN flood that carries a kilobyte each (Tsunami)", ["syn-flood"], victim=VICTIM)
def tsunami():
    for n in range(3000):
        yield tcp(n * 0.001, rip4(), RNG.randint(1024, 65000), VICTIM, 443, "S", n, body=bytes(1000))


@attack("SYN flood spread over a /24", ["syn-flood", "carpet-bombing"])
def syn_carpet():
    for n in range(8000):
        yield tcp(n * 0.001, rip4(), RNG.randint(1024, 65000), f"10.9.0.{n % 254 + 1}", 443, "S", n)


@attack("SYN-ACKs of servers that were asked in the victim's name", ["syn-ack-reflection"], victim=VICTIM)
def reflected():
    for n in range(3000):
        for again in range(2):
            yield tcp(n * 0.002 + again, f"203.0.{n % 90}.{n % 200 + 1}", RNG.choice([80, 443, 22, 179]), VICTIM, 1024 + n, "SA", RNG.getrandbits(32), 1)


@attack("block pages of middleboxes that were asked in the victim's name", ["amplification-victim", "syn-ack-reflection", "tcp-stray-flood", "ack-flood"], victim=VICTIM)
def middlebox():
    page = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 900\r\n\r\n" + b"<html>blocked</html>" * 45
    for n in range(3000):
        yield tcp(n * 0.002, f"203.0.{n % 90}.{n % 200 + 1}", 80, VICTIM, RNG.randint(1024, 65000), "PA", RNG.getrandbits(32), 1, page)


@attack("Christmas trees (hping3 --flood -FSRPAU)", ["tcp-flag-flood"], victim=VICTIM)
def christmas():
    for n in range(5000):
        yield tcp(n * 0.0008, rip4(), n + 1000, VICTIM, 80, "FSRPAUEC", n, 0, window=512)


@attack("NULL segments from anywhere, 60 bytes of each", ["tcp-flag-flood"], victim=VICTIM, snap=60)
def null_flood():
    for n in range(5000):
        yield tcp(n * 0.0008, rip4(), n + 1000, VICTIM, 80, 0, n, 0, window=512)


@attack("PSH+ACK with random data (LOIC TCP), beside a server's clients", ["ack-flood", "tcp-stray-flood", "conflicting-data"], victim=VICTIM)
def psh_flood():
    for n in range(100):
        yield from get(n * 0.1, f"198.51.100.{n % 50 + 1}", 20000 + n, VICTIM)
    for n in range(6000):
        yield tcp(2 + n * 0.001, rip4(), RNG.randint(1024, 65000), VICTIM, 80, "PA", RNG.getrandbits(32), RNG.getrandbits(32), RNG.randbytes(200))


@attack("a shell taken over, and the storm of ACKs after it (hunt)", ["tcp-data-injection", "off-path-injection", "ack-storm"], victim=VICTIM)
def hijack():
    conn = Conn(0, OTHER, 45000, VICTIM, 23)
    for n in range(20):
        conn.ask(b"l", 0.2).tell(b"l").ask(b"s\r\n").tell(b"file\r\n$ ")
    yield from conn.out
    body, t = b"\r\necho + + > ~/.rhosts\r\n", conn.t + 1
    (c, s), n = conn.seq, len(body)
    yield t, Ether(src=mac(EVIL), dst=mac(VICTIM)) / IP(src=OTHER, dst=VICTIM, ttl=64, id=1) / TCP(sport=45000, dport=23, flags="PA", seq=c, ack=s) / Raw(body)
    yield tcp(t + 0.001, VICTIM, 23, OTHER, 45000, "PA", s, c + n, b"\r\n$ ")
    for k in range(800):
        yield tcp(t + 0.002 + k * 0.001, OTHER, 45000, VICTIM, 23, "A", c, s)
        yield tcp(t + 0.0025 + k * 0.001, VICTIM, 23, OTHER, 45000, "A", s + 4, c + n)


@attack("TLS asked for by the thousand and left (thc-ssl-dos)", ["connection-exhaustion", "http-flood", "tls-flood"], attacker=FAR, victim=VICTIM)
def ssl_dos():
    for n in range(1200):
        conn = Conn(n * 0.01, FAR, 20000 + n, VICTIM, 443, rtt=0.02)
        yield from conn.ask(b"\x16\x03\x01\x00\x9b" + RNG.randbytes(155)).tell(b"\x16\x03\x03\x0b\xb3" + RNG.randbytes(2995)).reset(0)


@attack("slow headers over TLS, from its middle on, 96 bytes of each", ["connection-exhaustion"], attacker=FAR, victim=VICTIM, since=20, snap=96)
def slow_tls():
    for n in range(300):
        conn = Conn(n * 0.03, FAR, 20000 + n, VICTIM, 443, rtt=0.02)
        conn.ask(b"\x16\x03\x01\x02\x00" + bytes(512)).tell(b"\x16\x03\x03\x0b\xb3" + bytes(2995)).ask(b"\x17\x03\x03\x00\x80" + bytes(128))
        for k in range(20):
            conn.ask(b"\x17\x03\x03\x00\x20" + bytes(32), 12)
        yield from conn.out
