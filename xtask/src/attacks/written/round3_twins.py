"""A third round: ordinary traffic that looks like the attacks of the round."""

import random

from scapy.all import (
    ARP, BOOTP, DHCP, DNS, DNSQR, DNSRR, ESP, GRE, ICMP, IP, TCP, UDP, VXLAN, Ether, ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RA,
    ICMPv6NDOptDstLLAddr, ICMPv6NDOptSrcLLAddr, ICMPv6NDOptPrefixInfo, ICMPv6PacketTooBig, IPv6, Raw,
)
from scapy.layers.dhcp6 import DHCP6_Advertise, DHCP6_Reply, DHCP6_Request, DHCP6_Solicit, DHCP6OptClientId
from scapy.layers.dhcp6 import DHCP6OptDNSServers, DHCP6OptServerId, DUID_LL
from scapy.layers.vrrp import VRRP

from attacks import arp, bootp, rip4, rmac
from round3 import genuine_ra
from round3_services import master
from services import COTP, COTP_OK, PLC, RESOLVER, SCADA, ask, brute, bvlc, cip, dnp3, enip, iec104, modbus, s7, smb2, ssh, tell
from wire import ALL, EVIL, FAR, GATEWAY, OTHER, VICTIM, Conn, benign, eth, everyday, get, ip, mac, tcp, tls, udp

RNG = random.Random(43)


def twin(name, **form):
    return benign(name, round=3, **form)


# Link.

@twin("firewalls under one address (CARP): one fails, the other announces itself")
def carp():
    shared, virtual = "10.9.0.254", "00:00:5e:00:01:07"
    for n in range(60):
        yield n, Ether(src=virtual, dst="01:00:5e:00:00:12") / IP(src=GATEWAY if n < 30 else "10.9.0.2", dst="224.0.0.18", ttl=255, proto=112) / Raw(b"\x21\x07\x00\x07\x01\x01\x00\x00" + RNG.randbytes(28))
    for n in range(5):
        yield 30 + n * 0.5, Ether(src="02:00:00:00:00:02", dst=ALL) / ARP(op=1, hwsrc=virtual, psrc=shared, pdst=shared)
    yield from everyday(50)


@twin("keepalived without a virtual hardware address: the standby's own card takes the address, and gives it back")
def keepalived():
    shared = "10.9.0.254"
    for n in range(90):
        router = GATEWAY if n < 30 or n >= 70 else "10.9.0.2"
        yield n, ip(router, "224.0.0.18", 255, proto=112) / VRRP(vrid=3, priority=100 if router == GATEWAY else 90, addrlist=[shared])
    for start, card in ((30, "10.9.0.2"), (70, GATEWAY)):
        for n in range(10):
            yield arp(start + 0.1 + n // 5 * 5 + n % 5 * 0.01, 1, mac(card), shared, shared, ALL)
    for n in range(20):
        yield arp(n * 4, 1, mac(VICTIM), VICTIM, shared, ALL)
        card = mac("10.9.0.2") if 30 < n * 4 < 70 else mac(GATEWAY)
        yield arp(n * 4 + 0.001, 2, card, shared, VICTIM, mac(VICTIM), mac(VICTIM))


@twin("virtual machines that move between hosts, and announce it")
def moved():
    for n in range(12):
        for k in range(3):
            yield arp(n * 5 + k, 1, f"52:54:00:00:00:{n:02x}", f"10.9.0.{100 + n}", f"10.9.0.{100 + n}", ALL)
    yield from everyday(60)


@twin("a router that answers for hosts beyond it (proxy ARP)")
def proxy_arp():
    for n in range(40):
        yield arp(n, 1, mac(VICTIM), VICTIM, f"10.9.0.{200 + n % 20}", ALL)
        yield arp(n + 0.001, 2, mac(GATEWAY), f"10.9.0.{200 + n % 20}", VICTIM, mac(VICTIM), mac(VICTIM))


@twin("150 phones that come to a wireless network in two minutes")
def phones():
    for n in range(150):
        client, lease, t = "da:" + rmac()[3:], f"10.9.0.{n + 50}", n * 0.8
        yield bootp(t, client, "discover")
        yield bootp(t + 0.01, client, "offer", GATEWAY, lease, GATEWAY, mac(GATEWAY))
        yield bootp(t + 0.02, client, "request", GATEWAY)
        yield bootp(t + 0.03, client, "ack", GATEWAY, lease, GATEWAY, mac(GATEWAY))
        for k in range(3):
            yield t + 0.1 + k, Ether(src=client, dst=ALL) / ARP(op=1, hwsrc=client, psrc="0.0.0.0", pdst=lease)
        yield t + 3.2, Ether(src=client, dst=ALL) / ARP(op=1, hwsrc=client, psrc=lease, pdst=GATEWAY)


@twin("DHCPv6 of a provider's router, with its resolver")
def dhcp6():
    yield from genuine_ra(60)
    router = "fe80::1"
    for n in range(8):
        client = f"fe80::1{n}"
        them, us = DUID_LL(lladdr=mac(client)), DUID_LL(lladdr=mac(router))
        out = Ether(src=mac(client), dst="33:33:00:01:00:02") / IPv6(src=client, dst="ff02::1:2") / UDP(sport=546, dport=547)
        options = DHCP6OptServerId(duid=us) / DHCP6OptClientId(duid=them) / DHCP6OptDNSServers(dnsservers=["2001:db8::53"])
        yield n * 5, out / DHCP6_Solicit(trid=n) / DHCP6OptClientId(duid=them)
        yield n * 5 + 0.002, ip(router, client) / UDP(sport=547, dport=546) / DHCP6_Advertise(trid=n) / options
        yield n * 5 + 1, out / DHCP6_Request(trid=n + 99) / DHCP6OptClientId(duid=them) / DHCP6OptServerId(duid=us)
        yield n * 5 + 1.002, ip(router, client) / UDP(sport=547, dport=546) / DHCP6_Reply(trid=n + 99) / options


@twin("a wireless network's neighbours: addresses taken, defended by nobody, asked again and again")
def neighbours():
    yield from genuine_ra(120)
    for n in range(120):
        card = "da:" + rmac()[3:]
        address = "2001:db8::%x:%x" % (RNG.getrandbits(16), RNG.getrandbits(16))
        yield n, Ether(src=card, dst="33:33:ff:00:00:01") / IPv6(src="::", dst="ff02::1:ff00:1", hlim=255) / ICMPv6ND_NS(tgt=address)
        yield n + 1.1, Ether(src=card, dst="33:33:00:00:00:01") / IPv6(src=address, dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt=address, S=0, O=1, R=0) / ICMPv6NDOptDstLLAddr(lladdr=card)
        yield n + 2, Ether(src=mac("fe80::1"), dst=card) / IPv6(src="fe80::1", dst=address, hlim=255) / ICMPv6ND_NS(tgt=address) / ICMPv6NDOptSrcLLAddr(lladdr=mac("fe80::1"))
        yield n + 2.01, Ether(src=card, dst=mac("fe80::1")) / IPv6(src=address, dst="fe80::1", hlim=255) / ICMPv6ND_NA(tgt=address, S=1, O=1, R=0) / ICMPv6NDOptDstLLAddr(lladdr=card)


@twin("everything twice: a switch that mirrors both ports", twice=True)
def mirrored():
    yield from everyday(60)
    for n in range(60):
        yield ask(n, VICTIM, 30000 + n, RESOLVER, f"host{n}.example.com", "A", n)
        yield tell(n + 0.02, VICTIM, 30000 + n, RESOLVER, f"host{n}.example.com", f"203.0.113.{n + 1}", "A", n)
        yield n + 0.5, ip(VICTIM, FAR) / ICMP(id=1, seq=n) / Raw(bytes(56))
        yield n + 0.52, ip(FAR, VICTIM) / ICMP(type=0, id=1, seq=n) / Raw(bytes(56))
        yield arp(n + 0.3, 1, mac(VICTIM), VICTIM, GATEWAY, mac(GATEWAY))
        yield arp(n + 0.301, 2, mac(GATEWAY), GATEWAY, VICTIM, mac(VICTIM), mac(VICTIM))


@twin("before and behind a router in one capture: all seen twice, one hop apart")
def both_sides():
    packets = list(everyday(60))
    for n in range(40):
        packets.append(ask(n, VICTIM, 30000 + n, RESOLVER, f"host{n}.example.com", "A", n))
        packets.append(tell(n + 0.02, VICTIM, 30000 + n, RESOLVER, f"host{n}.example.com", f"203.0.113.{n + 1}", "A", n))
    for t, packet in packets:
        second = packet.copy()
        second.src, second.dst = "02:99:00:00:00:01", "02:99:00:00:00:02"
        second[IP].ttl -= 1
        yield t, packet
        yield t + 0.0003, second


# Network.

@twin("routes traced by three tools at once (mtr, traceroute, tracert)")
def traced():
    for round in range(20):
        for hop in range(1, 14):
            for kind in range(3):
                t = round * 2 + hop * 0.1 + kind * 0.03
                body = [ICMP(id=7, seq=round * 20 + hop) / Raw(bytes(36)), UDP(sport=40000 + hop, dport=33434 + hop + round % 3 * 13) / Raw(bytes(32)), TCP(sport=50000 + hop, dport=443, flags="S", seq=hop)][kind]
                packet = ip(VICTIM, FAR, hop) / body
                yield t, packet
                if hop < 12:
                    yield t + 0.01, ip(f"203.0.113.{hop}", VICTIM, 64 - hop) / ICMP(type=11, code=0) / packet[IP]
                elif kind == 0:
                    yield t + 0.03, ip(FAR, VICTIM, 52) / ICMP(type=0, id=7, seq=round * 20 + hop) / Raw(bytes(36))
                elif kind == 1:
                    yield t + 0.03, ip(FAR, VICTIM, 52) / ICMP(type=3, code=3) / packet[IP]
                else:
                    yield tcp(t + 0.03, FAR, 443, VICTIM, 50000 + hop, "SA", 1, hop + 1)


@twin("the size of paths found out, IPv4 and IPv6")
def path_mtu():
    for n in range(20):
        client = "203.0.113.%d" % (n + 1)
        conn = Conn(n * 2, client, 40000 + n, VICTIM, 443)
        conn.ask(bytes(300))
        t, seq = conn.t, conn.seq[1]
        big = ip(VICTIM, client) / TCP(sport=443, dport=40000 + n, flags="A", seq=seq, ack=conn.seq[0]) / Raw(bytes(1460))
        big[IP].flags = "DF"
        yield from conn.out
        yield t, big
        yield t + 0.01, ip("198.51.100.1", VICTIM, 60) / ICMP(type=3, code=4, nexthopmtu=1400) / Raw(bytes(big[IP])[:28])
        yield tcp(t + 0.02, VICTIM, 443, client, 40000 + n, "A", seq, conn.seq[0], bytes(1360))
        yield tcp(t + 0.021, VICTIM, 443, client, 40000 + n, "A", seq + 1360, conn.seq[0], bytes(100))
        six = IPv6(src="2001:db8::10", dst="2001:db8:5::%x" % (n + 1)) / TCP(sport=443, dport=5000, seq=9, flags="A") / Raw(bytes(1420))
        yield t + 1, eth("2001:db8::10", "fe80::1") / six
        yield t + 1.01, ip("2001:db8:ee::1", "2001:db8::10", 60) / ICMPv6PacketTooBig(mtu=1400) / Raw(bytes(six)[:1200])


@twin("a tunnel by ESP at full rate, keys by IKE")
def esp():
    for n in range(6):
        yield udp(n * 0.05, VICTIM, 500, FAR, 500, RNG.randbytes(400))
        yield udp(n * 0.05 + 0.02, FAR, 500, VICTIM, 500, RNG.randbytes(400))
    for n in range(6000):
        a, b = (VICTIM, FAR) if n % 3 else (FAR, VICTIM)
        yield 1 + n * 0.0007, ip(a, b) / ESP(spi=0x1000 + n % 3 // 2, seq=n, data=RNG.randbytes(1300))


@twin("a tunnel by GRE, another by VXLAN, at full rate")
def gre():
    for n in range(3000):
        inner = IP(src="10.50.0.5", dst="10.60.0.6") / TCP(sport=5000, dport=80, flags="A", seq=n * 1300, ack=1) / Raw(bytes(1300))
        yield n * 0.001, ip(FAR, VICTIM) / GRE() / inner
        yield n * 0.001 + 0.0005, ip("10.9.0.2", "10.9.0.3") / UDP(sport=50000 + n % 16, dport=4789) / VXLAN(vni=7) / Ether(src="02:01:01:01:01:01", dst="02:01:01:01:01:02") / inner


@twin("television by multicast, 4,000 datagrams a second")
def iptv():
    for n in range(16000):
        yield n / 4000, Ether(src=mac(GATEWAY), dst="01:00:5e:01:02:03") / IP(src="203.0.113.200", dst="239.1.2.3", ttl=12) / UDP(sport=5000, dport=5000) / Raw(b"\x47" + bytes(1315))


# Transport.

@twin("a page of 40 hosts: 100 connections and QUIC at once")
def cdn():
    for n in range(100):
        yield from tls(1 + n * 0.01, VICTIM, 20000 + n, f"203.0.113.{n % 40 + 1}", rtt=0.02, down=20000)
    for n in range(12):
        server = f"198.18.{n}.7"
        for k in range(120):
            yield udp(1 + n * 0.05 + k * 0.003, server, 443, VICTIM, 50000 + n, b"\x4a" + RNG.randbytes(1230))
            if k % 4 == 0:
                yield udp(1 + n * 0.05 + k * 0.003 + 0.001, VICTIM, 50000 + n, server, 443, b"\x4b" + RNG.randbytes(40))


@twin("a film by QUIC, 2,500 datagrams a second from one server")
def film():
    yield udp(0, VICTIM, 51000, "203.0.113.77", 443, b"\xc3\x00\x00\x00\x01" + RNG.randbytes(1200))
    for n in range(10000):
        yield udp(0.02 + n * 0.0004, "203.0.113.77", 443, VICTIM, 51000, b"\x4a" + RNG.randbytes(1240))
        if n % 20 == 0:
            yield udp(0.02 + n * 0.0004 + 0.0001, VICTIM, 51000, "203.0.113.77", 443, b"\x4b" + RNG.randbytes(30))


@twin("peers by the hundred: DHT, uTP and TCP, most of them gone")
def torrent():
    for n in range(500):
        peer, t = rip4(), n * 0.1
        yield udp(t, VICTIM, 6881, peer, RNG.randint(1024, 65000), b"d1:ad2:id20:" + RNG.randbytes(20) + b"e1:q4:ping1:t2:aa1:y1:qe")
        port = RNG.randint(1024, 65000)
        yield tcp(t + 0.01, VICTIM, 20000 + n, peer, port, "S", n)
        if n % 5 == 0:
            yield from Conn(t + 1, VICTIM, 30000 + n, peer, port, rtt=0.1).ask(b"\x13BitTorrent protocol" + bytes(48)).tell(b"\x13BitTorrent protocol" + bytes(48)).close()
        elif n % 3 == 0:
            yield tcp(t + 0.1, peer, port, VICTIM, 20000 + n, "RA", 0, n + 1)
    for n in range(400):
        peer = f"203.0.{n % 40}.9"
        yield udp(n * 0.1, peer, 51413, VICTIM, 6881, b"\x01\x00" + RNG.randbytes(1200))
        yield udp(n * 0.1 + 0.03, VICTIM, 6881, peer, 51413, b"\x21\x00" + RNG.randbytes(18))


@twin("a balancer that opens and resets, every two seconds, at eight servers, one down (haproxy)")
def health():
    for n in range(100):
        for k in range(8):
            server, t = f"10.9.0.{30 + k}", n * 2 + k * 0.1
            if k == 7:
                yield tcp(t, GATEWAY, 20000 + n, server, 8080, "S", n)
                yield tcp(t + 0.001, server, 8080, GATEWAY, 20000 + n, "RA", 0, n + 1)
            else:
                yield from Conn(t, GATEWAY, 20000 + n, server, 8080).reset(0)


@twin("checks of 20 services on each of 15 hosts, a few of them down (Nagios)")
def nagios():
    ports = [22, 25, 80, 110, 143, 443, 465, 587, 993, 995, 3306, 5432, 5666, 6379, 8080, 8443, 9090, 9100, 9200, 11211]
    for round in range(3):
        for host in range(15):
            for k, port in enumerate(ports):
                t, server = round * 300 + host * 10 + k * 0.4, f"10.9.0.{100 + host}"
                if (host, k) in ((3, 5), (9, 12), (4, 4)):
                    yield tcp(t, OTHER, 20000 + k + host * 20 + round * 300, server, port, "S", 1)
                    yield tcp(t + 0.001, server, port, OTHER, 20000 + k + host * 20 + round * 300, "RA", 0, 2)
                else:
                    yield from brute(t, OTHER, 20000 + k + host * 20 + round * 300, server, port, [(1, b"ok\r\n")], closes=0)


@twin("keep-alives and closed windows of 300 idle connections, captured from their middle on", since=30)
def keepalive():
    for n in range(300):
        conn = Conn(n * 0.05, f"203.0.{n % 3}.{n % 250 + 1}", 20000 + n, VICTIM, 443, rtt=0.04)
        conn.ask(bytes(200)).tell(bytes(600))
        for k in range(4):
            conn.t += 45
            (a, ap, b, bp), (c, s) = conn.ends, conn.seq
            conn.out.append(tcp(conn.t, a, ap, b, bp, "A", c - 1, s, b"\0" if n % 2 else b""))
            conn.out.append(tcp(conn.t + 0.04, b, bp, a, ap, "A", s, c))
        yield from conn.out


@twin("a push server with 400 connections that say a word in half a minute")
def push():
    for n in range(400):
        client = f"203.0.{n % 3}.{n % 250 + 1}"
        conn = Conn(n * 0.02, client, 20000 + n, VICTIM, 8883, rtt=0.04)
        conn.ask(b"\x10\x20" + bytes(32)).tell(b"\x20\x02\x00\x00")
        for k in range(4):
            conn.ask(b"\xc0\x00", 30).tell(b"\xd0\x00")
        yield from conn.out


@twin("a service that is down: 60 clients try again and again")
def down():
    for n in range(60):
        for k in range(5):
            yield tcp(n * 0.2 + (2 ** k - 1), f"203.0.113.{n + 1}", 20000 + n, VICTIM, 8443, "S", n)
            if n % 2:
                yield tcp(n * 0.2 + (2 ** k - 1) + 0.001, VICTIM, 8443, f"203.0.113.{n + 1}", 20000 + n, "RA", 0, n + 1)


@twin("two protocols tried at once, IPv6 always in vain (happy eyeballs)")
def eyeballs():
    for n in range(80):
        yield tcp(n, "2001:db8::10", 20000 + n, "2001:db8:5::%x" % (n % 30 + 1), 443, "S", 1)
        yield from tls(n + 0.25, VICTIM, 20000 + n, f"203.0.113.{n % 30 + 1}")


@twin("speed measured: eight connections down, eight up, 64 bytes of each", snap=64)
def speed():
    for n in range(16):
        conn = Conn(1 + n * 0.01, VICTIM, 20000 + n, "203.0.113.8", 8080, rtt=0.01)
        for k in range(20):
            (conn.ask if n % 2 else conn.tell)(bytes(14000))
        yield from conn.close()


@twin("iperf by UDP, 3,000 datagrams a second between two hosts")
def iperf():
    yield from Conn(0, OTHER, 40000, VICTIM, 5201).ask(bytes(37)).tell(bytes(1)).out
    for n in range(9000):
        yield udp(1 + n / 3000, OTHER, 41000, VICTIM, 5201, n.to_bytes(4, "big") * 300)


@twin("a game server and its 64 players")
def game():
    for n in range(6000):
        player = n % 64
        client = f"203.0.113.{player + 1}"
        yield udp(n * 0.001, client, 27005, VICTIM, 27015, RNG.randbytes(60))
        yield udp(n * 0.001 + 0.0004, VICTIM, 27015, client, 27005, RNG.randbytes(280))


@twin("a player who asks 200 game servers for their state")
def browser():
    for n in range(200):
        server = f"203.0.{n % 40}.{n + 1}"
        yield udp(n * 0.02, VICTIM, 50000, server, 27015, b"\xff\xff\xff\xffTSource Engine Query\0")
        if n % 4:
            yield udp(n * 0.02 + 0.05, server, 27015, VICTIM, 50000, b"\xff\xff\xff\xffI" + bytes(150))


@twin("a video call: addresses tried, STUN, media both ways")
def webrtc():
    for n in range(60):
        for peer in ("192.168.1.5", "172.17.0.1", "10.0.0.4", "203.0.113.90"):
            yield udp(n * 0.05, VICTIM, 52000, peer, 50000 + n % 3, b"\x00\x01\x00\x50\x21\x12\xa4\x42" + bytes(92))
    for n in range(4000):
        a = (VICTIM, 52000, "203.0.113.90", 50000)
        b = (a[2], a[3], a[0], a[1])
        yield udp(3 + n * 0.005, *(a if n % 2 else b), b"\x80\x60" + n.to_bytes(2, "big") + RNG.randbytes(900))


@twin("40 calls: SIP with its 401s, RTP and RTCP, cooked capture", link="sll")
def calls():
    for n in range(40):
        phone, t = f"10.9.0.{n + 100}", n * 0.5
        yield udp(t, phone, 5060, VICTIM, 5060, b"REGISTER sip:a SIP/2.0\r\nCSeq: 1 REGISTER\r\n\r\n")
        yield udp(t + 0.01, VICTIM, 5060, phone, 5060, b"SIP/2.0 401 Unauthorized\r\nCSeq: 1 REGISTER\r\n\r\n")
        yield udp(t + 0.02, phone, 5060, VICTIM, 5060, b"REGISTER sip:a SIP/2.0\r\nCSeq: 2 REGISTER\r\nAuthorization: Digest username=\"a\"\r\n\r\n")
        yield udp(t + 0.03, VICTIM, 5060, phone, 5060, b"SIP/2.0 200 OK\r\nCSeq: 2 REGISTER\r\n\r\n")
        for k in range(150):
            yield udp(t + 1 + k * 0.02, phone, 16000 + n * 2, VICTIM, 18000 + n * 2, b"\x80\x00" + k.to_bytes(2, "big") + RNG.randbytes(168))
            yield udp(t + 1.01 + k * 0.02, VICTIM, 18000 + n * 2, phone, 16000 + n * 2, b"\x80\x00" + k.to_bytes(2, "big") + RNG.randbytes(168))


# Services.

@twin("a server of the NTP pool, 3,000 clients")
def ntp_pool():
    for n in range(6000):
        client, port = rip4(), RNG.choice([123, RNG.randint(1024, 65000)])
        yield udp(n * 0.002, client, port, VICTIM, 123, b"\x23\x00\x06\xec" + bytes(44))
        yield udp(n * 0.002 + 0.0002, VICTIM, 123, client, port, b"\x24\x02\x06\xec" + bytes(44))


@twin("a recursive resolver at work: lame servers, retries, TCP, NXDOMAIN")
def recursive():
    for n in range(1500):
        server, t = rip4(), n * 0.02
        name = f"{RNG.choice(['www', 'mail', 'api', 'cdn', 'ns1'])}.{RNG.choice(['Example', 'exaMPLE', 'test', 'Shop'])}{n % 300}.{RNG.choice(['com', 'net', 'org'])}"
        port, ident = RNG.randint(1024, 65000), RNG.getrandbits(16)
        query = ask(t, VICTIM, port, server, name, RNG.choice(["A", "AAAA", "NS", "DS"]), ident)
        yield query
        kind = RNG.random()
        if kind < 0.06:
            yield t + 0.05, ip(server, VICTIM) / ICMP(type=3, code=3) / query[1][IP]
        elif kind < 0.16:
            yield ask(t + 0.8, VICTIM, port, server, name, "A", ident)
        elif kind < 0.4:
            yield t + 0.04, ip(server, VICTIM) / UDP(sport=53, dport=port) / DNS(id=ident, qr=1, aa=1, rcode=3, qd=DNSQR(qname=name))
        elif kind < 0.45:
            yield from Conn(t + 0.1, VICTIM, port, server, 53, rtt=0.03).ask(b"\x00\x20" + bytes(32)).tell(b"\x07\x00" + bytes(1792)).close()
        else:
            yield tell(t + 0.04, VICTIM, port, server, name, f"203.0.113.{n % 250 + 1}", "A", ident, aa=1)


@twin("a name server of a signed zone: large answers to many resolvers")
def signed():
    for n in range(3000):
        client, port, t = rip4(), RNG.randint(1024, 65000), n * 0.004
        name = RNG.choice(["www.example.net", "example.net", "mail.example.net", "ns1.example.net"])
        yield ask(t, client, port, VICTIM, name, RNG.choice(["A", "DNSKEY", "TXT", "MX"]), n)
        yield udp(t + 0.0003, VICTIM, 53, client, port, n.to_bytes(2, "big") + b"\x84\x00\x00\x01\x00\x03\x00\x00\x00\x01" + b"\x07example\x03net\x00\x00\x30\x00\x01" + RNG.randbytes(RNG.randint(200, 1100)))


@twin("printers, televisions and Windows looked for: WS-Discovery, SSDP, mDNS, answered by thirty")
def discovery():
    for n in range(20):
        for group, port in (("239.255.255.250", 3702), ("239.255.255.250", 1900), ("224.0.0.251", 5353)):
            source = 5353 if port == 5353 else 50000 + n
            yield n * 6, Ether(src=mac(VICTIM), dst="01:00:5e:7f:ff:fa") / IP(src=VICTIM, dst=group, ttl=1) / UDP(sport=source, dport=port) / Raw(b"\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04_ipp\x04_tcp\x05local\x00\x00\x0c\x00\x01" if port == 5353 else b"M-SEARCH * HTTP/1.1\r\n\r\n")
            if port != 5353:
                for k in range(30):
                    for again in range(2):
                        yield udp(n * 6 + 0.1 + k * 0.02 + again * 0.005, f"10.9.0.{100 + k}", port, VICTIM, source, b"HTTP/1.1 200 OK\r\n" + bytes(700))


@twin("a poller of SNMP that walks switches, answers of a kilobyte")
def walk():
    for n in range(600):
        switch = f"10.9.0.{100 + n % 20}"
        for k in range(4):
            yield udp(n * 0.1 + k * 0.02, OTHER, 45000, switch, 161, b"\x30\x2e" + bytes(46))
            yield udp(n * 0.1 + k * 0.02 + 0.01, switch, 161, OTHER, 45000, b"\x30\x82\x04\x00" + bytes(1000))


@twin("Windows at work: Kerberos asks for proof first, SMB for more processing, LDAP binds")
def windows():
    for n in range(60):
        host, t = f"10.9.0.{n + 100}", n * 3
        for k in range(2):
            yield udp(t, host, 50000 + k, VICTIM, 88, b"\x6a\x81" + bytes(180))
            yield udp(t + 0.002, VICTIM, 88, host, 50000 + k, bytes.fromhex("7e523050a003020105a10302011ea411180f32303233303130313030303030305aa50502030f4240a603020119") + bytes(30))
            yield udp(t + 0.1, host, 50010 + k, VICTIM, 88, b"\x6a\x81" + bytes(250))
            yield udp(t + 0.102, VICTIM, 88, host, 50010 + k, b"\x6b\x82" + bytes(1300))
        yield from brute(t + 0.5, host, 51000, VICTIM, 445, [(0, smb2(0, 0, False)), (1, smb2(0, 0, True)), (0, smb2(1, 0, False)), (1, smb2(1, 0xC0000016, True)), (0, smb2(1, 0, False)), (1, smb2(1, 0, True))])
        yield from brute(t + 0.8, host, 51001, VICTIM, 389, [(0, bytes.fromhex("300c020101600702010304008000")), (1, bytes.fromhex("300c02010161070a010004000400"))])


@twin("mail to many: a server that sends to 200 others, a tenth of them away")
def mailer():
    for n in range(200):
        server, t = f"203.0.{n % 40}.{n + 1}", n * 0.5
        if n % 10 == 0:
            for k in range(4):
                yield tcp(t + 2 ** k, VICTIM, 20000 + n, server, 25, "S", n)
        else:
            yield from brute(t, VICTIM, 20000 + n, server, 25, [(1, b"220 a\r\n"), (0, b"EHLO b\r\n"), (1, b"250 a\r\n"), (0, b"MAIL FROM:<a@b>\r\n"), (1, b"250 ok\r\n"), (0, b"RCPT TO:<c@d>\r\n"), (1, b"550 unknown\r\n" if n % 9 == 0 else b"250 ok\r\n"), (0, b"QUIT\r\n")])


@twin("a crawler that meets old links, 200 and 404 mixed")
def crawler():
    for n in range(6):
        conn = Conn(n * 3, FAR, 40000 + n, VICTIM, 80, rtt=0.03)
        for k in range(60):
            conn.ask(b"GET /page/%d HTTP/1.1\r\nHost: a\r\nUser-Agent: Googlebot\r\n\r\n" % (n * 60 + k), 0.5)
            conn.tell(b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found" if k % 5 == 0 else b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n" + bytes(3000))
        yield from conn.close()


@twin("a form sent every minute by a script, answered 200")
def form():
    conn = Conn(0, OTHER, 40000, VICTIM, 80)
    for n in range(60):
        conn.ask(b"POST /report HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n" + bytes(20), 5).tell(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    yield from conn.close()


@twin("files copied by a script every five minutes (rsync over SSH)")
def rsync():
    for n in range(12):
        yield from ssh(n * 300, OTHER, 40000 + n, VICTIM, True, 9000)
    yield from everyday(60)


@twin("a cloud that keeps 30 MB of a host, by TLS, 96 bytes of each", snap=96)
def cloud():
    for n in range(3):
        yield from tls(1 + n * 5, VICTIM, 40000 + n, "203.0.113.44", up=10_000_000 // 1000, down=2000)


@twin("a station that boots by TFTP, and logs by syslog")
def tftp():
    yield udp(0, VICTIM, 2070, OTHER, 69, b"\x00\x01pxelinux.0\x00octet\x00")
    for n in range(2000):
        yield udp(0.01 + n * 0.001, OTHER, 50001, VICTIM, 2070, b"\x00\x03" + (n + 1).to_bytes(2, "big") + bytes(1408))
        yield udp(0.0104 + n * 0.001, VICTIM, 2070, OTHER, 50001, b"\x00\x04" + (n + 1).to_bytes(2, "big"))
    for n in range(300):
        yield udp(3 + n * 0.01, VICTIM, 514, OTHER, 514, b"<30>host kernel: line")


@twin("clocks that are read with long answers: NTP with authentication and NTS")
def nts():
    for n in range(60):
        yield udp(n * 16, VICTIM, 123, "203.0.113.12", 123, b"\x23\x00\x06\xec" + bytes(44) + b"\x01\x04\x00\x24" + RNG.randbytes(32) + b"\x02\x04\x00\x68" + RNG.randbytes(100) + b"\x04\x04\x00\x28" + RNG.randbytes(36))
        yield udp(n * 16 + 0.02, "203.0.113.12", 123, VICTIM, 123, b"\x24\x01\x06\xec" + bytes(44) + b"\x01\x04\x00\x24" + RNG.randbytes(32) + b"\x04\x04\x00\x90" + RNG.randbytes(140))


@twin("names of the link asked and answered by their owners, by three protocols")
def owners():
    from scapy.all import LLMNRQuery, LLMNRResponse
    for n in range(30):
        owner, client = f"10.9.0.{100 + n % 6}", f"10.9.0.{20 + n % 4}"
        yield n * 4, ip(client, "224.0.0.252", 1) / UDP(sport=55000 + n, dport=5355) / LLMNRQuery(id=n, qd=DNSQR(qname=f"pc{n % 6}"))
        yield n * 4 + 0.002, ip(owner, client) / UDP(sport=5355, dport=55000 + n) / LLMNRResponse(id=n, qd=DNSQR(qname=f"pc{n % 6}"), an=DNSRR(rrname=f"pc{n % 6}", rdata=owner, ttl=30))
        yield n * 4 + 0.1, ip(client, "224.0.0.251", 255) / UDP(sport=5353, dport=5353) / DNS(qd=DNSQR(qname=f"pc{n % 6}.local"))
        yield n * 4 + 0.11, ip(owner, "224.0.0.251", 255) / UDP(sport=5353, dport=5353) / DNS(qr=1, aa=1, qd=None, an=DNSRR(rrname=f"pc{n % 6}.local", rdata=owner, ttl=120))


# Industrial.

@twin("S7 program loaded from the controller by the engineers' station")
def s7_upload():
    conn = master(102, (COTP, COTP_OK), (s7(b"\xf0\x00\x00\x01\x00\x01\x01\xe0"), s7(b"\xf0\x00\x00\x01\x00\x01\x00\xf0", 3)), client=SCADA)
    for n in range(40):
        conn.ask(s7(b"\x04\x01\x12\x0a\x10\x02\x00\x10\x00\x01\x84\x00\x00\x00"), 0.2).tell(s7(b"\x04\x01", 3, b"\xff\x04\x00\x80" + bytes(16)))
    conn.ask(s7(b"\x1d\x00\x00\x00\x00\x00\x00\x00\x09_0800001A")).tell(s7(b"\x1d\x00\x01\x00\x00\x00\x00\x07\x07\x30\x30\x30\x32\x31\x34\x00", 3))
    for n in range(10):
        conn.ask(s7(b"\x1e\x00\x00\x00\x00\x00\x00\x07")).tell(s7(b"\x1e\x01", 3, b"\x00\xc8\x00\xfb" + bytes(200)))
    conn.ask(s7(b"\x1f\x00\x00\x00\x00\x00\x00\x07")).tell(s7(b"\x1f", 3))
    yield from conn.close()


@twin("Modbus: an operator who changes a set point now and then on the connection that polls")
def modbus_operator():
    conn = Conn(0, SCADA, 50000, PLC, 502)
    for n in range(300):
        conn.ask(modbus(b"\x03\x00\x00\x00\x0a", ident=n), 0.5).tell(modbus(b"\x03\x14" + bytes(20), ident=n))
        if n and n % 100 == 0:
            conn.ask(modbus(b"\x06\x00\x05\x01\x00", ident=n)).tell(modbus(b"\x06\x00\x05\x01\x00", ident=n))
    yield from conn.out


@twin("DNP3: unsolicited events, confirmed, times written at the restart, as its master does")
def dnp3_master():
    conn = Conn(0, SCADA, 50000, PLC, 20000)
    for n in range(80):
        conn.ask(dnp3(b"\xc0\xc0\x01\x3c\x02\x06\x3c\x03\x06\x3c\x04\x06"), 1).tell(dnp3(b"\xe0\xc0\x81\x00\x00", False)).ask(dnp3(b"\xc0\xc0\x00"))
        conn.tell(dnp3(b"\xf0\xf0\x82\x00\x00", False)).ask(dnp3(b"\xd0\xd0\x00"))
    yield from conn.out


@twin("IEC 104: interrogated each minute, clock set, test frames, from the middle on", since=20)
def iec_master():
    conn = Conn(0, SCADA, 50000, PLC, 2404)
    conn.ask(b"\x68\x04\x07\x00\x00\x00").tell(b"\x68\x04\x0b\x00\x00\x00")
    for n in range(100):
        conn.tell(iec104(36, 3, 2000 + n % 30, bytes(12), seq=n), 2)
        if n % 30 == 0:
            conn.ask(iec104(100, 6, 0, b"\x14")).tell(iec104(100, 7, 0, b"\x14")).tell(iec104(100, 10, 0, b"\x14"))
        if n % 10 == 0:
            conn.ask(b"\x68\x04\x43\x00\x00\x00").tell(b"\x68\x04\x83\x00\x00\x00")
    yield from conn.out


@twin("BACnet at a building: who-is by broadcast, values by the hundred, subscriptions")
def bacnet():
    for n in range(10):
        yield n * 30, Ether(src=mac(SCADA), dst=ALL) / IP(src=SCADA, dst="10.9.0.255") / UDP(sport=47808, dport=47808) / Raw(bvlc(b"\x01\x20\xff\xff\x00\xff\x10\x08", 0x0B))
        for k in range(15):
            yield n * 30 + 0.1 + k * 0.01, Ether(src=mac(f"10.9.0.{100 + k}"), dst=ALL) / IP(src=f"10.9.0.{100 + k}", dst="10.9.0.255") / UDP(sport=47808, dport=47808) / Raw(bvlc(b"\x01\x00\x10\x00\xc4\x02\x00\x00" + bytes([k]) + b"\x22\x01\xe0\x91\x00\x21\x05", 0x0B))
    for n in range(600):
        invoke, device = bytes([n & 255]), f"10.9.0.{100 + n % 15}"
        yield udp(n * 0.4, SCADA, 47808, device, 47808, bvlc(b"\x01\x04\x00\x05" + invoke + b"\x0c\x0c\x00\x00\x00" + bytes([n % 40]) + b"\x19\x55"))
        yield udp(n * 0.4 + 0.01, device, 47808, SCADA, 47808, bvlc(b"\x01\x00\x30" + invoke + b"\x0c\x0c\x00\x00\x00" + bytes([n % 40]) + b"\x19\x55\x3e\x44\x42\xc8\x00\x00\x3f"))


@twin("EtherNet/IP: looked for by broadcast, read by name, inputs and outputs by UDP")
def enip_io():
    yield 0, Ether(src=mac(SCADA), dst=ALL) / IP(src=SCADA, dst="10.9.0.255") / UDP(sport=50000, dport=44818) / Raw(enip(0x63, b"", 0))
    for k in range(20):
        yield udp(0.01 + k * 0.01, f"10.9.0.{100 + k}", 44818, SCADA, 50000, enip(0x63, bytes(60), 0))
    conn = master(44818, (enip(0x65, b"\x01\x00\x00\x00", 0), enip(0x65, b"\x01\x00\x00\x00")), client=SCADA)
    for n in range(100):
        conn.ask(cip(b"\x4c\x04\x91\x05count\x00\x01\x00"), 0.1).tell(cip(b"\xcc\x00\x00\x00\xc4\x00" + bytes(4)))
    yield from conn.out
    for n in range(4000):
        a, b = (SCADA, PLC) if n % 2 else (PLC, SCADA)
        yield udp(1 + n * 0.005, a, 2222, b, 2222, b"\x02\x00\x02\x80\x08\x00\x01\x00\x00\x00" + n.to_bytes(4, "little") + b"\xb1\x00\x0a\x00" + bytes(10))
