"""What looks like an attack and is none: nothing may be found."""

import random

from scapy.all import (
    ARP, DNS, DNSQR, DNSRR, ICMP, IP, TCP, UDP, Dot1Q, Dot3, Ether, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, IPv6, LLC,
    Raw, fragment,
)
from scapy.layers.hsrp import HSRP
from scapy.layers.vrrp import VRRP

from attacks import arp, bootp, bpdu, lsu, ra, rip4, rmac
from services import (
    B32, COTP, COTP_OK, PLC, RESOLVER, SCADA, ask, brute, bvlc, cip, dnp3, enip, iec104, modbus, poll_modbus, s7, ssh, tell,
)
from wire import ALL, EVIL, FAR, GATEWAY, OTHER, VICTIM, Conn, benign, everyday, get, ip, mac, tcp, tls, udp

RNG = random.Random(17)


@benign("an ordinary office")
def office():
    yield from everyday(120, hosts=[f"10.9.0.{n}" for n in range(20, 30)])
    for n in range(20, 30):
        yield arp(n * 0.3, 1, mac(f"10.9.0.{n}"), f"10.9.0.{n}", GATEWAY, ALL)
        yield arp(n * 0.3 + 0.001, 2, mac(GATEWAY), GATEWAY, f"10.9.0.{n}", mac(f"10.9.0.{n}"))


@benign("failover by gratuitous ARP")
def failover():
    yield from everyday(60)
    for n in range(5):
        yield arp(2 + n * 0.1, 2, "02:00:00:00:aa:01", "10.9.0.200", "10.9.0.200", ALL, ALL)
        yield arp(30 + n * 0.5, 2, "02:00:00:00:aa:02", "10.9.0.200", "10.9.0.200", ALL, ALL)


@benign("a phone that roams and takes a new address")
def roaming():
    for n in range(6):
        client = "02:00:5e:00:00:01"
        yield bootp(n * 60, client, "discover")
        yield bootp(n * 60 + 0.1, client, "offer", GATEWAY, "10.9.0.77", GATEWAY, mac(GATEWAY))
        yield bootp(n * 60 + 0.2, client, "request", GATEWAY)
        yield bootp(n * 60 + 0.3, client, "ack", GATEWAY, "10.9.0.77", GATEWAY, mac(GATEWAY))
        for m in range(3):
            yield arp(n * 60 + 1 + m, 1, client, "0.0.0.0", "10.9.0.77", ALL)
        yield arp(n * 60 + 4, 1, client, "10.9.0.77", "10.9.0.77", ALL)


@benign("an office that switches on")
def morning():
    for n in range(50):
        client, t, lease = f"02:00:5e:00:01:{n:02x}", n * 0.4, f"10.9.0.{100 + n}"
        yield bootp(t, client, "discover")
        yield bootp(t + 0.01, client, "offer", GATEWAY, lease, GATEWAY, mac(GATEWAY))
        yield bootp(t + 0.02, client, "request", GATEWAY)
        yield bootp(t + 0.03, client, "ack", GATEWAY, lease, GATEWAY, mac(GATEWAY))
        yield arp(t + 0.1, 1, client, lease, lease, ALL)
        yield arp(t + 0.2, 1, client, lease, GATEWAY, ALL)
        yield arp(t + 0.201, 2, mac(GATEWAY), GATEWAY, lease, client)


@benign("spanning tree that reconverges")
def spanning_tree():
    first, second = "00:1b:54:00:00:01", "00:1b:54:00:00:02"
    for n in range(10):
        yield bpdu(n * 2, first, 4096, first, 4096, first)
    for n in range(5):
        yield bpdu(40 + n * 2, second, 8192, second, 8192, second, flags=1)
    for n in range(10):
        yield bpdu(52 + n * 2, second, 4096, first, 8192, second, cost=4, flags=1 if n < 3 else 0)


@benign("a provider's double tags")
def qinq():
    for n in range(50):
        yield n * 0.1, Ether(src="02:00:00:00:bb:01", dst="02:00:00:00:bb:02", type=0x88A8) / Dot1Q(vlan=100) / Dot1Q(vlan=5) / IP(src="10.5.0.1", dst="10.5.0.2") / UDP(sport=5000, dport=5001) / Raw(b"a" * 100)
        yield n * 0.1 + 0.01, Ether(src="02:00:00:00:bb:02", dst="02:00:00:00:bb:01", type=0x88A8) / Dot1Q(vlan=100) / Dot1Q(vlan=5) / IP(src="10.5.0.2", dst="10.5.0.1") / UDP(sport=5001, dport=5000) / Raw(b"b" * 100)


@benign("HSRP and VRRP: a router fails, the standby takes over, it comes back")
def virtual_router():
    for n in range(60):
        if not 10 <= n < 30:
            yield n * 3, ip(GATEWAY, "224.0.0.2", 1) / UDP(sport=1985, dport=1985) / HSRP(opcode=1 if n == 30 else 0, state=16, priority=110, virtualIP="10.9.0.254", group=1)
            yield n * 3, ip(GATEWAY, "224.0.0.18", 255, proto=112) / VRRP(vrid=7, priority=150, addrlist=["10.9.0.253"])
        yield n * 3 + 0.5, ip("10.9.0.2", "224.0.0.2", 1) / UDP(sport=1985, dport=1985) / HSRP(state=16 if 13 <= n < 30 else 8, priority=100, virtualIP="10.9.0.254", group=1)
        if 11 <= n < 30:
            yield n * 3 + 0.6, ip("10.9.0.2", "224.0.0.18", 255, proto=112) / VRRP(vrid=7, priority=100, addrlist=["10.9.0.253"])


@benign("OSPF: LSAs refreshed and flooded on")
def ospf():
    for n in range(12):
        yield lsu(n * 10, GATEWAY, "192.0.2.1", 0x80000001 + n, links=1 + n % 2)
        yield lsu(n * 10 + 1, "10.9.0.2", "192.0.2.2", 0x80000001 + n)
        yield lsu(n * 10 + 2, "10.9.0.2", "192.0.2.9", 0x80000001 + n, age=3)


@benign("IPv6 hosts and two routers")
def ipv6():
    for n in range(30):
        yield ra(n * 10, "fe80::1", "02:00:00:00:00:01", "2001:db8:1::")
        yield ra(n * 10 + 3, "fe80::2", "02:00:00:00:00:02", "2001:db8:1::")
        target, owner = f"fe80::{n % 5 + 10:x}", f"02:00:00:00:00:{n % 5 + 16:02x}"
        yield n * 10 + 5, Ether(src="02:00:00:00:00:01", dst="33:33:ff:00:00:01") / IPv6(src="fe80::1", dst="ff02::1:ff00:1", hlim=255) / ICMPv6ND_NS(tgt=target)
        yield n * 10 + 5.01, Ether(src=owner, dst="02:00:00:00:00:01") / IPv6(src=target, dst="fe80::1", hlim=255) / ICMPv6ND_NA(tgt=target, S=1, O=1) / ICMPv6NDOptDstLLAddr(lladdr=owner)


# Transport.

@benign("a busy address behind which many are (NAT)")
def nat():
    for n in range(1500):
        make = get if n % 3 else tls
        yield from make(n * 0.08, FAR, 10000 + n, VICTIM, size=3000) if make is get else make(n * 0.08, FAR, 10000 + n, VICTIM)


@benign("a crawler that asks much and is told much")
def crawler():
    for n in range(150):
        yield from get(n * 0.4, FAR, 10000 + n, VICTIM, f"/page/{n}", 8000)


@benign("a monitor of 60 hosts, two of them down")
def monitor():
    for round in range(5):
        for n in range(60):
            host, t = f"10.9.0.{100 + n}", round * 60 + n * 0.2
            yield t, ip(OTHER, host) / ICMP(id=7, seq=round) / Raw(b"m" * 56)
            if n > 1:
                yield t + 0.001, ip(host, OTHER) / ICMP(type=0, id=7, seq=round) / Raw(b"m" * 56)
                yield from Conn(t + 0.01, OTHER, 20000 + round * 100 + n, host, 22).tell(b"SSH-2.0-OpenSSH_9.2\r\n").close(0)


@benign("a load balancer that checks its servers")
def load_balancer():
    for round in range(60):
        for n in range(8):
            host, t = f"10.9.0.{100 + n}", round * 5 + n * 0.1
            if n < 6:
                yield from get(t, GATEWAY, 20000 + round * 10 + n, host, "/healthz", 2, 8080)
            else:
                yield tcp(t, GATEWAY, 20000 + round * 10 + n, host, 8080, "S", 1)
                yield tcp(t + 0.001, host, 8080, GATEWAY, 20000 + round * 10 + n, "RA" if n == 7 else "SA", 0, 2)
                if n == 6:
                    yield tcp(t + 0.002, GATEWAY, 20000 + round * 10 + n, host, 8080, "R", 2)


@benign("a backup at night")
def backup():
    for n in range(4):
        conn = Conn(n * 20, VICTIM, 30000 + n, OTHER, 873)
        for _ in range(300):
            conn.ask(bytes(14000))
        yield from conn.close()


@benign("pages from many servers at once (CDN)")
def cdn():
    for n in range(300):
        yield from tls(n * 0.1, VICTIM, 30000 + n, f"203.0.113.{n % 60 + 1}", down=9000, rtt=0.02)


@benign("a tunnel (WireGuard) at full rate")
def wireguard():
    for n in range(6000):
        yield udp(n * 0.002, VICTIM, 51820, FAR, 51820, b"\x04\x00\x00\x00" + bytes(1200))
        if n % 2:
            yield udp(n * 0.002 + 0.001, FAR, 51820, VICTIM, 51820, b"\x04\x00\x00\x00" + bytes(60))


@benign("time from four servers, for an hour")
def ntp():
    for n in range(60):
        for m in range(4):
            t = n * 64 + m
            yield udp(t, VICTIM, 123, f"203.0.113.{m + 1}", 123, b"\x23" + bytes(47))
            yield udp(t + 0.02, f"203.0.113.{m + 1}", 123, VICTIM, 123, b"\x24\x02" + bytes(46))


@benign("discovery by mDNS and SSDP")
def discovery():
    for n in range(200):
        host = f"10.9.0.{20 + n % 20}"
        yield n * 0.5, ip(host, "224.0.0.251", 255) / UDP(sport=5353, dport=5353) / DNS(qd=DNSQR(qname=f"_ipp{n % 7}._tcp.local", qtype="PTR"))
        yield n * 0.5 + 0.1, ip(OTHER, "224.0.0.251", 255) / UDP(sport=5353, dport=5353) / DNS(qr=1, aa=1, qd=None, an=DNSRR(rrname=f"_ipp{n % 7}._tcp.local", type="PTR", rdata="printer.local"))
        yield udp(n * 0.5 + 0.2, host, 40000 + n, "239.255.255.250", 1900, b"M-SEARCH * HTTP/1.1\r\nST: ssdp:all\r\n\r\n", 4)
        for m in range(5):
            yield udp(n * 0.5 + 0.21 + m * 0.01, OTHER, 1900, host, 40000 + n, b"HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\nUSN: uuid:%d\r\n" % m + bytes(250))


@benign("knocking at three ports, then SSH")
def knocking():
    for n, port in enumerate((7000, 8000, 9000)):
        yield tcp(1 + n * 0.5, FAR, 30000 + n, VICTIM, port, "S", 1)
        yield tcp(1 + n * 0.5 + 0.001, VICTIM, port, FAR, 30000 + n, "RA", 0, 2)
    yield from ssh(4, FAR, 30009, VICTIM, True)


@benign("BitTorrent: many peers, half of them gone")
def bittorrent():
    for n in range(600):
        peer, port = rip4(), RNG.randint(10000, 60000)
        yield udp(n * 0.1, VICTIM, 51413, peer, port, b"d1:ad2:id20:" + RNG.randbytes(20) + b"6:target20:" + RNG.randbytes(20) + b"e1:q9:find_node1:t2:aa1:y1:qe")
        if n % 2:
            yield udp(n * 0.1 + 0.08, peer, port, VICTIM, 51413, b"d1:rd2:id20:" + RNG.randbytes(20) + b"5:nodes208:" + RNG.randbytes(208) + b"e1:t2:aa1:y1:re")
        if n % 5 == 0:
            if n % 10:
                yield tcp(n * 0.1 + 0.2, VICTIM, 20000 + n, peer, port, "S", 1)
                yield tcp(n * 0.1 + 1.2, VICTIM, 20000 + n, peer, port, "S", 1)
            else:
                conn = Conn(n * 0.1 + 0.2, VICTIM, 20000 + n, peer, port, rtt=0.08)
                conn.ask(b"\x13BitTorrent protocol" + RNG.randbytes(48)).tell(b"\x13BitTorrent protocol" + RNG.randbytes(48))
                for _ in range(10):
                    conn.tell(RNG.randbytes(16000))
                yield from conn.close()


@benign("a storm of retransmissions")
def retransmissions():
    for m in range(5):
        conn = Conn(m, VICTIM, 30000 + m, FAR, 443, rtt=0.1)
        conn.ask(b"x" * 300)
        for n in range(100):
            body, seq = RNG.randbytes(1400), conn.seq[1]
            conn.put(1, "PA", body)
            for again in range(RNG.randint(0, 4)):
                conn.out.append(tcp(conn.t + again * 0.2, FAR, 443, VICTIM, 30000 + m, "PA", seq, conn.seq[0], body))
            conn.put(0, "A").put(0, "A").put(0, "A")
        yield from conn.close()


@benign("a capture that starts among 200 connections")
def middle():
    for n in range(200):
        conn = Conn(n * 0.01, f"203.0.113.{n % 50 + 1}", 20000 + n, VICTIM, 443, shake=False)
        for _ in range(5):
            conn.ask(bytes(200)).tell(bytes(2000))
        yield from conn.close(n % 2)


def one_direction(packets, dst):
    return [(t, p) for t, p in packets if not (IP in p and p[IP].dst == dst)]


@benign("only what the server gets of a busy hour")
def one_way_in():
    for n in range(800):
        yield from one_direction(get(n * 0.05, f"203.0.113.{n % 90 + 1}", 20000 + n, VICTIM, size=8000), f"203.0.113.{n % 90 + 1}")


@benign("only what the server says of a busy hour")
def one_way_out():
    for n in range(800):
        yield from one_direction(get(n * 0.05, f"203.0.113.{n % 90 + 1}", 20000 + n, VICTIM, size=8000), VICTIM)


@benign("one packet in 50 of a busy server")
def sampled():
    packets = []
    for n in range(4000):
        packets += get(n * 0.02, f"203.0.{n % 7}.{n % 200 + 1}", 10000 + n, VICTIM, size=6000)
    yield from [p for n, p in enumerate(sorted(packets, key=lambda p: p[0])) if RNG.random() < 0.02]


@benign("a client that is refused while a service restarts")
def restart():
    for n in range(120):
        yield tcp(n * 0.5, OTHER, 20000 + n, VICTIM, 8080, "S", n)
        yield tcp(n * 0.5 + 0.001, VICTIM, 8080, OTHER, 20000 + n, "RA", 0, n + 1)
    yield from get(62, OTHER, 30000, VICTIM, port=8080)


@benign("logs, flows and traps one way, all day")
def logs():
    for n in range(6000):
        yield udp(n * 0.005, f"10.9.0.{n % 5 + 100}", 40000 + n % 5, OTHER, (514, 2055, 6343, 162)[n % 4], b"<13>" + bytes(200))


@benign("a call: media both ways")
def call():
    for n in range(3000):
        yield udp(n * 0.02, VICTIM, 16384, FAR, 16400, b"\x80\x00" + bytes(170))
        yield udp(n * 0.02 + 0.01, FAR, 16400, VICTIM, 16384, b"\x80\x00" + bytes(170))


@benign("fragmented NFS")
def nfs():
    for n in range(60):
        for m, part in enumerate(fragment(IP(src=OTHER, dst=VICTIM, id=n + 1) / UDP(sport=2049, dport=800) / Raw(bytes(8192)), 1480)):
            yield n * 0.05 + m * 0.0001, Ether(src=mac(OTHER), dst=mac(VICTIM)) / part


@benign("pings of 1400 bytes, and a flood ping of 300")
def pings():
    for n in range(300):
        body = bytes(range(256)) * 5
        yield n * 0.1, ip(VICTIM, FAR) / ICMP(id=3, seq=n) / Raw(body)
        yield n * 0.1 + 0.02, ip(FAR, VICTIM) / ICMP(type=0, id=3, seq=n) / Raw(body)


# Services.

@benign("a busy resolver")
def resolver():
    for n in range(3000):
        name = f"{RNG.choice(['www', 'api', 'cdn', 'img', 'mail'])}.{RNG.choice(B32)}{RNG.randint(1, 400)}.example"
        client = f"10.9.0.{n % 40 + 100}"
        yield ask(n * 0.01, client, 20000 + n, OTHER, name, "A", n)
        yield tell(n * 0.01 + 0.01, client, 20000 + n, OTHER, name, "203.0.113.9", "A", n)


@benign("long names of a CDN, block lists and reputation services")
def long_names():
    for n in range(400):
        name = RNG.choice([
            f"{RNG.randint(1, 254)}.{RNG.randint(1, 254)}.{RNG.randint(1, 254)}.{RNG.randint(1, 254)}.zen.blocklist.example",
            f"r{RNG.randint(1, 9)}---sn-{''.join(RNG.choice(B32) for _ in range(8))}.video.example", f"e{RNG.randint(1000, 9999)}.dscb.akamai.example",
            f"{RNG.randint(1, 254)}.{RNG.randint(1, 254)}.0.10.in-addr.arpa", "selector1-example-com._domainkey.mail.example", "_dmarc.example.org"])
        qtype = "TXT" if "_d" in name else "PTR" if "arpa" in name else "A"
        yield ask(n * 0.2, VICTIM, 20000 + n, RESOLVER, name, qtype, n)
        yield tell(n * 0.2 + 0.03, VICTIM, 20000 + n, RESOLVER, name, "127.0.0.2" if qtype == "A" else "v=DKIM1.example", qtype, n)


@benign("a question asked again, answered twice the same")
def asked_again():
    for n in range(30):
        for m in range(2):
            yield ask(n * 2 + m * 0.5, VICTIM, 20000 + n, RESOLVER, f"a{n}.example", "A", n)
        for m in range(2):
            yield tell(n * 2 + 0.9 + m * 0.01, VICTIM, 20000 + n, RESOLVER, f"a{n}.example", f"203.0.113.{n % 3 * m + 1}", "A", n)


@benign("40 deployments by SSH, all let in")
def deployments():
    for n in range(60):
        yield from ssh(n * 2, OTHER, 40000 + n, f"10.9.0.{100 + n % 40}", True)


@benign("git over SSH from a build server")
def git():
    for n in range(50):
        yield from ssh(n * 5, OTHER, 40000 + n, FAR, True, 20000)


@benign("somebody who mistypes three times and is let in")
def mistyped():
    lines = [(1, b"220 ready\r\n")]
    for m in range(3):
        lines += [(0, b"USER bob\r\n"), (1, b"331 Password required\r\n"), (0, b"PASS x%d\r\n" % m), (1, b"530 Login incorrect.\r\n")]
    lines += [(0, b"USER bob\r\n"), (1, b"331 Password required\r\n"), (0, b"PASS right\r\n"), (1, b"230 Logged in\r\n"), (0, b"LIST\r\n"), (1, b"150 x\r\n226 done\r\n")]
    yield from brute(1, OTHER, 40000, VICTIM, 21, lines)


@benign("a mail client that looks every minute")
def mail():
    for n in range(60):
        yield from brute(n * 60, VICTIM, 40000 + n, "203.0.113.25", 143, [
            (1, b"* OK ready\r\n"), (0, b"a LOGIN bob x\r\n"), (1, b"a OK\r\n"), (0, b"b SELECT INBOX\r\n"), (1, b"* 5 EXISTS\r\nb OK\r\n"), (0, b"c LOGOUT\r\n"), (1, b"* BYE\r\nc OK\r\n")])


@benign("NTLM and digest: 401 first, then in")
def digest():
    for n in range(80):
        conn = Conn(n * 0.5, VICTIM, 40000 + n, OTHER, 80)
        conn.ask(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").tell(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n")
        conn.ask(b"GET /a HTTP/1.1\r\nAuthorization: NTLM TlRM\r\n\r\n").tell(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM TlRMx\r\nContent-Length: 0\r\n\r\n")
        conn.ask(b"GET /a HTTP/1.1\r\nAuthorization: NTLM TlRMyyy\r\n\r\n").tell(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
        yield from conn.close()


@benign("a page that asks every ten seconds on one connection")
def polling():
    conn = Conn(0, VICTIM, 40000, FAR, 443)
    for _ in range(90):
        conn.ask(b"\x17\x03\x03\x00\x50" + bytes(80), 10).tell(b"\x17\x03\x03\x00\x60" + bytes(96))
    yield from conn.close()


@benign("agents that report to their server inside")
def agents():
    for n in range(60):
        for m in range(10):
            yield from tls(n * 30 + m, f"10.9.0.{100 + m}", 20000 + n, OTHER, up=900, down=200, port=8443)


@benign("names looked for on the link and answered by their owners")
def llmnr():
    from scapy.all import LLMNRQuery, LLMNRResponse
    for n in range(12):
        owner, client = f"10.9.0.{100 + n % 4}", f"10.9.0.{20 + n % 5}"
        yield n * 5, ip(client, "224.0.0.252", 1) / UDP(sport=55000 + n, dport=5355) / LLMNRQuery(id=n, qd=DNSQR(qname=f"host{n % 4}"))
        yield n * 5 + 0.01, (ip(owner, client) / UDP(sport=5355, dport=55000 + n)
                             / LLMNRResponse(id=n, qd=DNSQR(qname=f"host{n % 4}"), an=DNSRR(rrname=f"host{n % 4}", rdata=owner)))


# Industrial.

@benign("Modbus polled by two masters, one gateway with ten units")
def modbus_polling():
    yield from poll_modbus(60)
    conn = Conn(0.2, "10.9.0.21", 50001, PLC, 502)
    for n in range(100):
        conn.ask(modbus(b"\x04\x00\x10\x00\x04", n % 10 + 1, n), 0.3).tell(modbus(b"\x04\x08" + bytes(8), n % 10 + 1, n))
    yield from conn.close()


@benign("DNP3 polled, classes and integrity, unsolicited confirmed")
def dnp3_polling():
    conn = Conn(0, SCADA, 50001, PLC, 20000)
    for n in range(40):
        c = 0xC0 | n % 16
        conn.ask(dnp3(bytes([c, c, 1]) + b"\x3c\x02\x06\x3c\x03\x06\x3c\x04\x06"), 2).tell(dnp3(bytes([c, c, 0x81, 0, 0]) + b"\x1e\x03\x00\x00\x01" + bytes(8), False))
        conn.tell(dnp3(bytes([0xF0 | n % 16, 0xF0 | n % 16, 0x82, 0, 0]) + b"\x02\x01\x28\x01\x00\x05\x00\x81", False), 0.5).ask(dnp3(bytes([0xD0 | n % 16, 0xD0 | n % 16, 0])))
    yield from conn.close()


@benign("S7 read by an operator station")
def s7_polling():
    conn = Conn(0, SCADA, 50001, PLC, 102)
    conn.ask(COTP).tell(COTP_OK).ask(s7(b"\xf0\x00\x00\x01\x00\x01\x01\xe0")).tell(s7(b"\xf0\x00\x00\x01\x00\x01\x00\xf0", 3))
    for _ in range(60):
        conn.ask(s7(b"\x04\x01\x12\x0a\x10\x02\x00\x04\x00\x01\x84\x00\x00\x00"), 1).tell(s7(b"\x04\x01", 3, b"\xff\x04\x00\x20" + bytes(4)))
    yield from conn.close()


@benign("CIP read explicitly and by I/O connection")
def cip_polling():
    conn = Conn(0, SCADA, 50001, PLC, 44818)
    conn.ask(enip(0x65, b"\x01\x00\x00\x00", 0)).tell(enip(0x65, b"\x01\x00\x00\x00"))
    for _ in range(40):
        conn.ask(cip(b"\x0e\x03\x20\x01\x24\x01\x30\x07"), 1).tell(cip(b"\x8e\x00\x00\x00\x04abcd"))
    yield from conn.close()
    for n in range(3000):
        yield udp(n * 0.01, SCADA, 2222, PLC, 2222, b"\x02\x00\x02\x80\x08\x00" + bytes(12) + b"\xb1\x00\x06\x00" + bytes(6))
        yield udp(n * 0.01 + 0.005, PLC, 2222, SCADA, 2222, b"\x02\x00\x02\x80\x08\x00" + bytes(12) + b"\xb1\x00\x06\x00" + bytes(6))


@benign("BACnet: who is, read, changes of values")
def bacnet_polling():
    for n in range(60):
        yield n, Ether(src=mac(SCADA), dst=ALL) / IP(src=SCADA, dst="10.9.0.255") / UDP(sport=47808, dport=47808) / Raw(bvlc(b"\x01\x20\xff\xff\x00\xff\x10\x08", 0x0B))
        for host in range(50, 60):
            yield n + 0.01, Ether(src=mac(f"10.9.0.{host}"), dst=ALL) / IP(src=f"10.9.0.{host}", dst="10.9.0.255") / UDP(sport=47808, dport=47808) / Raw(bvlc(b"\x01\x20\xff\xff\x00\xff\x10\x00\xc4\x02\x00\x00" + bytes([host]) + b"\x22\x05\xc4\x91\x00\x21\x0f", 0x0B))
        yield udp(n + 0.3, SCADA, 47808, PLC, 47808, bvlc(b"\x01\x04\x00\x05" + bytes([n]) + b"\x0c\x0c\x00\x00\x00\x01\x19\x55"))
        yield udp(n + 0.31, PLC, 47808, SCADA, 47808, bvlc(b"\x01\x00\x30" + bytes([n]) + b"\x0c\x0c\x00\x00\x00\x01\x19\x55\x3e\x44\x00\x00\x00\x00\x3f"))


@benign("IEC 104: interrogation and spontaneous values")
def iec_polling():
    conn = Conn(0, SCADA, 50001, PLC, 2404)
    conn.ask(b"\x68\x04\x07\x00\x00\x00").tell(b"\x68\x04\x0b\x00\x00\x00")
    conn.ask(iec104(100, 6, 0, b"\x14")).tell(iec104(100, 7, 0, b"\x14"))
    for n in range(200):
        conn.tell(iec104(36, 3, 1000 + n % 20, bytes(12), seq=n), 0.5)
        if n % 8 == 0:
            conn.ask(b"\x68\x04\x01\x00" + (n << 1).to_bytes(2, "little"))
    yield from conn.close()
