"""A third round: amplifiers, tunnels, guessed passwords and industrial protocols, as real tools attack them."""

import random

from scapy.all import DNS, DNSQR, DNSRR, ICMP, IP, TCP, UDP, Ether, Raw

from attacks import rip4
from services import (
    COTP, COTP_OK, PLC, RESOLVER, SCADA, ask, brute, bvlc, cip, crc, dnp3, enip, iec104, modbus, poll_modbus, s7, tell,
)
from wire import ALL, EVIL, FAR, GATEWAY, OTHER, VICTIM, Conn, case, everyday, get, ip, mac, tcp, tls, udp

RNG = random.Random(41)
CONTROL = ["ics-control-command"]


def attack(name, expect, **more):
    return case(name, expect, round=3, **more)


# Amplification. Port, what is asked and what is answered, as scanners and booters have them.

AMPLIFIERS = {
    "CoAP": (5683, b"\x40\x01\x7d\x70\xbb.well-known\x04core", b"\x60\x45\x7d\x70\xc1\x28\xff</a>;rt=\"x\"," + b"</sensors/temp>;if=\"s\"," * 40),
    "WS-Discovery": (3702, b"<\xaa>", b'<?xml version="1.0"?><SOAP-ENV:Envelope>' + b"<d:ProbeMatch/>" * 80),
    "ARMS": (3283, b"\x00\x14\x00\x00", b"\x00\x15\x03\xe8" + bytes(996)),
    "Plex": (32414, b"M-SEARCH * HTTP/1.1\r\n\r\n", b"HTTP/1.0 200 OK\r\nContent-Type: plex/media-server\r\n" + b"Name: a\r\n" * 30),
    "mDNS": (5353, bytes.fromhex("000000000001000000000000") + b"\x09_services\x07_dns-sd\x04_udp\x05local\x00\x00\x0c\x00\x01", b"\x00\x00\x84\x00\x00\x01\x00\x08" + bytes(600)),
    "portmap": (111, bytes.fromhex("65720a370000000000000002000186a00000000200000004") + bytes(16), b"\x65\x72\x0a\x37\x00\x00\x00\x01" + bytes(480)),
    "QOTD": (17, b"\x0d", b'"Anyone who has never made a mistake has never tried anything new." ' * 8),
    "RIPv1": (520, b"\x01\x01\x00\x00" + bytes(19) + b"\x10", b"\x02\x01\x00\x00" + b"\x00\x02\x00\x00\x0a\x01\x02\x00" + bytes(492)),
    "SNMP": (161, bytes.fromhex("302902010104067075626c6963a51c02040000000102010002 0200ff300e300c06082b060102010100 0500".replace(" ", "")), b"\x30\x82\x05\x00\x02\x01\x01\x04\x06public\xa2" + bytes(1270)),
    "NetBIOS": (137, bytes.fromhex("80f00000000100000000000020434b4141414141414141414141414141414141414141414141414141414141410000210001"), b"\x80\xf0\x84\x00" + bytes(400)),
    "MSSQL browser": (1434, b"\x02", b"\x05\xe8\x03ServerName;A;InstanceName;B;" * 15),
    "Quake": (27960, b"\xff\xff\xff\xffgetstatus\x10", b"\xff\xff\xff\xffstatusResponse\n" + b"\\k\\v" * 200),
    "DVR (DHCPDiscover)": (37810, b"\xff", b'{"device":"x"}' * 40),
    "Jenkins": (33848, b"\n", b"<hudson><version>2</version></hudson>" * 12),
    "Ubiquiti": (10001, b"\x01\x00\x00\x00", b"\x01\x00\x00\x90" + bytes(200)),
    "OpenVPN": (1194, b"\x38" + bytes(13), b"\x40" + bytes(13) * 8),
}


def amplified(service, port, answer):
    @attack(f"{service} answers at the victim", ["amplification-victim"], victim=VICTIM)
    def at_victim():
        target = RNG.choice([80, 443, 3074])
        for n in range(2500):
            yield udp(n * 0.001, f"203.0.{n % 8}.{n % 60 + 1}", port, VICTIM, target, answer)


def reflected(service, port, question, answer):
    @attack(f"{service} asked in the victim's name, at the reflector", ["amplification-reflector"], victim="192.0.2.80")
    def at_reflector():
        for n in range(400):
            yield udp(n * 0.01, "192.0.2.80", 3074, VICTIM, port, question)
            yield udp(n * 0.01 + 0.0005, VICTIM, port, "192.0.2.80", 3074, answer)


for service, (port, question, answer) in AMPLIFIERS.items():
    amplified(service, port, answer)
    if service in ("CoAP", "WS-Discovery", "ARMS", "portmap", "SNMP"):
        reflected(service, port, question, answer)


@attack("TFTP data at the victim, from ports that were never asked", ["amplification-victim", "udp-flood"], victim=VICTIM)
def tftp():
    for n in range(2500):
        yield udp(n * 0.001, f"203.0.113.{n % 60 + 1}", 32768 + n % 60 * 7, VICTIM, 80, b"\x00\x03\x00\x01" + bytes(512))


@attack("answers of open resolvers in fragments, seen from its middle on, cooked", ["amplification-victim", "fragment-flood"], victim=VICTIM, since=1, link="sll")
def dns_fragments():
    for n in range(1500):
        server, ident = f"203.0.{n % 8}.{n % 60 + 1}", RNG.getrandbits(16)
        body = bytes(UDP(sport=53, dport=80, len=3012) / Raw(b"\x00\x01\x81\x80\x00\x01\x00\x20\x00\x00\x00\x01" + bytes(2992)))
        for at in (0, 1480, 2960):
            yield n * 0.002 + at * 1e-8, ip(server, VICTIM, id=ident, proto=17, flags="MF" if at < 2960 else 0, frag=at // 8) / Raw(body[at:at + 1480])


@attack("UDP of one port and one byte from forged hosts (hping3 --rand-source)", ["udp-flood"], victim=VICTIM)
def hping_udp():
    for n in range(6000):
        yield udp(n * 0.0006, rip4(), 1000 + n, VICTIM, 53, b"X")


# Tunnels, names.

@attack("DNS tunnel of which only the questions were captured, 128 bytes of each", ["dns-tunnel"], attacker=VICTIM, sender=VICTIM, snap=200)
def dns_questions():
    for n in range(200):
        yield ask(n * 0.2, VICTIM, 40000, RESOLVER, f"{RNG.randbytes(28).hex()}.{RNG.randbytes(28).hex()}.z.example.com", "CNAME", n)


@attack("commands by TXT (Cobalt Strike)", ["dns-tunnel", "beaconing"], attacker=VICTIM)
def cobalt_dns():
    for n in range(150):
        name = f"{RNG.choice(['post', 'api', 'www'])}.1{RNG.randbytes(24).hex()}.{n:x}9{RNG.randbytes(3).hex()}.ns1.example.net"
        yield ask(n * 1.2, VICTIM, 40000 + n, RESOLVER, name, "TXT" if n % 3 == 0 else "A", n)
        yield tell(n * 1.2 + 0.05, VICTIM, 40000 + n, RESOLVER, name, RNG.randbytes(90).hex() if n % 3 == 0 else "0.0.0.0", "TXT" if n % 3 == 0 else "A", n)


@attack("anything but DNS over UDP port 53", ["dns-tunnel", "port-mismatch", "covert-channel"], attacker=VICTIM)
def udp53():
    for n in range(1500):
        yield udp(n * 0.01, VICTIM, 40000, FAR, 53, RNG.randbytes(RNG.choice([80, 148, 1200])))
        yield udp(n * 0.01 + 0.004, FAR, 53, VICTIM, 40000, RNG.randbytes(RNG.choice([80, 1200])))


@attack("a file out in NTP packets", ["ntp-tunnel", "port-mismatch", "covert-channel"], attacker=VICTIM)
def ntp_out():
    for n in range(900):
        yield udp(n * 0.05, VICTIM, 123, FAR, 123, b"\x23\x00\x06\xec" + bytes(8) + RNG.randbytes(36 + RNG.choice([0, 400, 900])))
        yield udp(n * 0.05 + 0.02, FAR, 123, VICTIM, 123, b"\x24\x01\x06\xec" + bytes(8) + RNG.randbytes(36))


@attack("ICMP tunnel of one way only (nping --icmp --data)", ["icmp-tunnel"], attacker=VICTIM)
def icmp_out():
    for n in range(300):
        yield n * 0.1, ip(VICTIM, FAR) / ICMP(id=77, seq=n) / Raw(RNG.randbytes(900))


@attack("addresses under ICMP (hans)", ["icmp-tunnel"])
def hans():
    for n in range(300):
        inner = bytes(IP(src="10.1.2.2", dst="10.1.2.1") / TCP(sport=22, dport=4000, flags="PA", seq=n * 77) / Raw(RNG.randbytes(RNG.choice([0, 80, 1300]))))
        yield n * 0.05, ip(VICTIM, FAR) / ICMP(id=8, seq=n) / Raw(b"\x16data" + inner)
        yield n * 0.05 + 0.01, ip(FAR, VICTIM) / ICMP(type=0, id=8, seq=n) / Raw(b"\x16data" + inner[::-1])


@attack("mDNS answered for names of others (Responder)", ["name-poisoning"], attacker=EVIL)
def mdns():
    for n, name in enumerate(["wpad.local", "fileserver.local", "printr.local", "sqlsrv.local", "intra.local"]):
        client = f"10.9.0.{20 + n % 3}"
        yield n * 9, ip(client, "224.0.0.251", 255) / UDP(sport=5353, dport=5353) / DNS(qd=DNSQR(qname=name))
        yield n * 9 + 0.003, ip(EVIL, client) / UDP(sport=5353, dport=5353) / DNS(qr=1, aa=1, qd=None, an=DNSRR(rrname=name, rdata=EVIL, ttl=120))


@attack("one name only, WPAD, answered by two protocols", ["name-poisoning"], attacker=EVIL)
def wpad():
    from scapy.all import LLMNRQuery, LLMNRResponse
    raw = b"WPAD".ljust(15) + b"\x00"
    encoded = bytes(65 + x for b in raw for x in (b >> 4, b & 15))
    for n in range(4):
        client, t = f"10.9.0.{20 + n}", n * 11
        yield t, Ether(src=mac(client), dst=ALL) / IP(src=client, dst="10.9.0.255") / UDP(sport=137, dport=137) / Raw((90 + n).to_bytes(2, "big") + b"\x01\x10\x00\x01\x00\x00\x00\x00\x00\x00\x20" + encoded + b"\x00\x00\x20\x00\x01")
        yield udp(t + 0.004, EVIL, 137, client, 137, (90 + n).to_bytes(2, "big") + b"\x85\x00\x00\x00\x00\x01\x00\x00\x00\x00\x20" + encoded + b"\x00\x00\x20\x00\x01\x00\x00\x00\xa5\x00\x06\x00\x00" + bytes([10, 9, 0, 66]))
        yield t + 0.01, ip(client, "224.0.0.252", 1) / UDP(sport=55000 + n, dport=5355) / LLMNRQuery(id=n, qd=DNSQR(qname="wpad"))
        yield t + 0.012, ip(EVIL, client) / UDP(sport=5355, dport=55000 + n) / LLMNRResponse(id=n, qd=DNSQR(qname="wpad"), an=DNSRR(rrname="wpad", rdata=EVIL, ttl=30))


@attack("answers for a question of another port and number each (Kaminsky with ports guessed)", ["dns-poisoning", "port-scan"], also=["amplification-victim"], victim=VICTIM)
def sad_dns():
    for n in range(12):
        name, t = f"{RNG.randbytes(5).hex()}.example.com", n * 2
        yield ask(t, VICTIM, 30000 + n * 13, "198.51.100.53", name, "A", RNG.getrandbits(16))
        for m in range(250):
            yield tell(t + 0.001 + m * 0.0002, VICTIM, RNG.randint(30000, 31000), "198.51.100.53", name, "192.0.2.66", "A", RNG.getrandbits(16), aa=1)
        yield tell(t + 0.2, VICTIM, 30000 + n * 13, "198.51.100.53", name, "203.0.113.7", "A", 1)


# Web, passwords.

@attack("pages of 150 bots, four a second each", ["http-flood"], victim=VICTIM)
def bots():
    for n in range(3000):
        yield from get(n * 0.004, f"203.0.{n % 3}.{n % 150 + 1}", 20000 + n, VICTIM, f"/?{RNG.getrandbits(32)}", 300)


@attack("form passwords guessed on one connection (hydra http-post-form)", ["brute-force", "http-flood"], attacker=FAR, victim=VICTIM)
def form():
    for n in range(8):
        conn = Conn(n * 0.2, FAR, 40000 + n, VICTIM, 80, rtt=0.02)
        for k in range(30):
            body = b"log=admin&pwd=%d" % RNG.getrandbits(40)
            conn.ask(b"POST /wp-login.php HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n" % len(body) + body, 0.1)
            conn.tell(b"HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n" + b"The password you entered is incorrect".ljust(600))
        yield from conn.close()


@attack("paths tried out (gobuster)", ["web-scan", "http-flood", "brute-force"], attacker=FAR, victim=VICTIM)
def gobuster():
    for n in range(10):
        conn = Conn(n * 0.01, FAR, 40000 + n, VICTIM, 80, rtt=0.005)
        for k in range(80):
            conn.ask(b"GET /%s HTTP/1.1\r\nHost: a\r\nUser-Agent: gobuster/3.6\r\n\r\n" % RNG.randbytes(4).hex().encode(), 0.05)
            conn.tell(b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found")
        yield from conn.close()


@attack("SSH passwords guessed, 68 bytes of each", ["brute-force"], attacker=FAR, victim=VICTIM, snap=68)
def ssh_short():
    from services import ssh
    for n in range(100):
        yield from ssh(n * 0.8, FAR, 40000 + n, VICTIM)


@attack("VNC passwords guessed", ["brute-force"], attacker=FAR, victim=VICTIM)
def vnc():
    for n in range(60):
        yield from brute(n * 0.5, FAR, 40000 + n, VICTIM, 5900, [(1, b"RFB 003.008\n"), (0, b"RFB 003.008\n"), (1, b"\x01\x02"), (0, b"\x02"), (1, RNG.randbytes(16)), (0, RNG.randbytes(16)), (1, b"\x00\x00\x00\x01\x00\x00\x00\x16Authentication failure")])


@attack("SIP passwords guessed (svcrack)", ["brute-force"], attacker=FAR, victim=VICTIM)
def svcrack():
    for n in range(150):
        yield udp(n * 0.1, FAR, 5060, VICTIM, 5060, b"REGISTER sip:10.9.0.10 SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z%d\r\nTo: <sip:100@a>\r\nFrom: <sip:100@a>\r\nCSeq: %d REGISTER\r\nAuthorization: Digest username=\"100\",response=\"%s\"\r\n\r\n" % (n, n, RNG.randbytes(16).hex().encode()))
        yield udp(n * 0.1 + 0.01, VICTIM, 5060, FAR, 5060, b"SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP a;branch=z%d\r\nCSeq: %d REGISTER\r\nWWW-Authenticate: Digest nonce=\"a\"\r\n\r\n" % (n, n))


@attack("SNMP communities guessed (onesixtyone)", ["brute-force"], attacker=EVIL, victim=VICTIM)
def onesixtyone():
    for n in range(200):
        name = b"pw%d" % n
        inner = b"\x02\x01\x00\x04" + bytes([len(name)]) + name + bytes.fromhex("a01902010102010002010 0300e300c06082b0601020101010005 00".replace(" ", ""))
        yield udp(n * 0.05, EVIL, 45000, VICTIM, 161, b"\x30" + bytes([len(inner)]) + inner)


@attack("SMTP passwords guessed", ["brute-force"], attacker=FAR, victim=VICTIM)
def smtp():
    for n in range(60):
        yield from brute(n * 0.7, FAR, 40000 + n, VICTIM, 25, [(1, b"220 mail\r\n"), (0, b"EHLO a\r\n"), (1, b"250-mail\r\n250 AUTH LOGIN\r\n"), (0, b"AUTH LOGIN\r\n"), (1, b"334 VXNlcm5hbWU6\r\n"), (0, b"YWRtaW4=\r\n"), (1, b"334 UGFzc3dvcmQ6\r\n"), (0, b"MTIz\r\n"), (1, b"535 5.7.8 Error: authentication failed\r\n")])


@attack("LDAP binds tried out", ["brute-force"], attacker=EVIL, victim=VICTIM)
def ldap():
    for n in range(60):
        yield from brute(n * 0.5, EVIL, 40000 + n, VICTIM, 389, [(0, bytes.fromhex("302c020101602702010304") + b"\x16cn=admin,dc=example,dc=x\x80\x08password"), (1, bytes.fromhex("300c02010161070a013104000400"))])


@attack("MSSQL passwords guessed", ["brute-force"], attacker=FAR, victim=VICTIM)
def mssql():
    no = "Login failed for user 'sa'.".encode("utf-16-le")
    token = b"\xaa" + (len(no) + 14).to_bytes(2, "little") + b"\x18\x48\x00\x00\x01\x0e" + len(no).to_bytes(1, "little") + b"\x00" + no
    for n in range(60):
        yield from brute(n * 0.5, FAR, 40000 + n, VICTIM, 1433, [(0, b"\x12\x01\x00\x2f\x00\x00\x01\x00" + bytes(39)), (1, b"\x04\x01\x00\x2b\x00\x00\x01\x00" + bytes(35)), (0, b"\x10\x01\x00\xa0\x00\x00\x01\x00" + bytes(152)), (1, b"\x04\x01\x00\x50\x00\x34\x01\x00" + token)])


# Industrial.

def master(port, *talk, client=EVIL, t=1, gap=0.2):
    conn = Conn(t, client, 50001, PLC, port)
    for question, answer in talk:
        conn.ask(question, gap)
        if answer:
            conn.tell(answer)
    return conn


@attack("Schneider controller stopped by UMAS (function 90)", CONTROL + ["ics-write"], attacker=EVIL, victim=PLC)
def umas():
    yield from poll_modbus()
    talk = [(modbus(b"\x5a\x00\x02"), modbus(b"\x5a\x00\xfe" + bytes(30))), (modbus(b"\x5a\x00\x10\x3b\x0e\x00\x00\x0ahost"), modbus(b"\x5a\x00\xfe\x72")),
            (modbus(b"\x5a\x72\x41\xff\x00"), modbus(b"\x5a\x72\xfe")), (modbus(b"\x5a\x72\x40\xff\x00"), modbus(b"\x5a\x72\xfe"))]
    yield from master(502, *talk).close()


@attack("Modbus: communications restarted, then listening only (function 8)", CONTROL, attacker=EVIL, victim=PLC)
def modbus_8():
    yield from poll_modbus()
    yield from master(502, (modbus(b"\x08\x00\x01\x00\x00"), modbus(b"\x08\x00\x01\x00\x00")), (modbus(b"\x08\x00\x04\x00\x00"), None)).close()


@attack("Modbus registers written by the thousand, from the middle of a connection on", ["ics-write"], attacker=EVIL, victim=PLC, since=5)
def modbus_flood():
    yield from poll_modbus(60)
    conn = Conn(1, EVIL, 50001, PLC, 502)
    for n in range(1500):
        body = modbus(b"\x10" + (n % 100).to_bytes(2, "big") + b"\x00\x02\x04" + RNG.randbytes(4), ident=n)
        conn.ask(body, 0.01).tell(modbus(b"\x10" + (n % 100).to_bytes(2, "big") + b"\x00\x02", ident=n))
    yield from conn.out


@attack("Modbus addresses tried out one by one", ["ics-scan"], also=["ics-refused"], attacker=EVIL, victim=PLC)
def modbus_addresses():
    yield from poll_modbus()
    conn = Conn(1, EVIL, 50001, PLC, 502)
    for n in range(400):
        conn.ask(modbus(b"\x03" + (n * 64).to_bytes(2, "big") + b"\x00\x01", ident=n), 0.03)
        conn.tell(modbus(b"\x83\x02", ident=n) if n > 8 else modbus(b"\x03\x02\x00\x00", ident=n))
    yield from conn.close()


@attack("S7 stopped, from the middle of a connection on, without link headers", CONTROL, attacker=EVIL, victim=PLC, since=2, link="raw")
def s7_middle():
    talk = [(COTP, COTP_OK), (s7(b"\xf0\x00\x00\x01\x00\x01\x01\xe0"), s7(b"\xf0\x00\x00\x01\x00\x01\x00\xf0", 3))]
    talk += [(s7(b"\x29\x00\x00\x00\x00\x00\x09P_PROGRAM"), s7(b"\x29", 3))]
    yield from master(102, *talk, gap=0.7).out


@attack("S7 blocks deleted, memory copied, clock set", CONTROL + ["ics-write"], attacker=EVIL, victim=PLC)
def s7_delete():
    talk = [(COTP, COTP_OK), (s7(b"\xf0\x00\x00\x01\x00\x01\x01\xe0"), s7(b"\xf0\x00\x00\x01\x00\x01\x00\xf0", 3)),
            (s7(b"\x28\x00\x00\x00\x00\x00\x00\xfd\x00\x0a\x01\x000800001P\x05_DELE"), s7(b"\x28", 3)),
            (s7(b"\x28\x00\x00\x00\x00\x00\x00\xfd\x00\x02EP\x05_MODU"), s7(b"\x28", 3)),
            (s7(b"\x00\x01\x12\x04\x11\x47\x02\x00", 7, b"\xff\x09\x00\x0a\x00\x19\x23\x01\x01\x10\x00\x00\x00\x01"), s7(b"\x00\x01\x12\x08\x12\x87\x02\x00\x00\x00\x00\x00", 7, b"\x0a\x00\x00\x00"))]
    yield from master(102, *talk).close()


@attack("S7 looked for on every address (plcscan)", ["port-scan", "ics-scan", "arp-scan"], attacker=EVIL)
def plcscan():
    for n in range(1, 255):
        if n not in (50, 66):
            yield tcp(n * 0.3, EVIL, 41000 + n, f"10.9.0.{n}", 102, "S", 1)
    talk = [(COTP, COTP_OK), (s7(b"\xf0\x00\x00\x01\x00\x01\x01\xe0"), s7(b"\xf0\x00\x00\x01\x00\x01\x00\xf0", 3)), (s7(b"\x00\x01\x12\x04\x11\x44\x01\x00", 7, b"\xff\x09\x00\x04\x00\x11\x00\x01"), s7(b"\x00\x01\x12\x08\x12\x84\x01\x01\x00\x00\x00\x00", 7, bytes(40)))]
    yield from master(102, *talk, t=15).close()


def broadcast_dnp3(user):
    head = b"\x05\x64" + bytes([5 + len(user), 0xC4]) + b"\xff\xff\x01\x00"
    return head + crc(head) + user + crc(user)


@attack("DNP3: warm restart, unsolicited disabled, files deleted", CONTROL, attacker=EVIL, victim=PLC)
def dnp3_more():
    ok = dnp3(b"\xc0\xc0\x81\x00\x00", False)
    yield from master(20000, (dnp3(b"\xc0\xc0\x0e"), ok), (dnp3(b"\xc1\xc1\x15\x3c\x02\x06\x3c\x03\x06\x3c\x04\x06"), ok), (dnp3(b"\xc2\xc2\x1b\x46\x03\x5b\x01" + bytes(10)), ok)).close()


@attack("DNP3 written and restarted by broadcast over UDP", CONTROL + ["ics-write"], attacker=EVIL, victim=PLC)
def dnp3_broadcast():
    for n in range(4):
        yield udp(n * 2, EVIL, 20001, PLC, 20000, broadcast_dnp3(b"\xc0\xc0\x0d"))
        yield udp(n * 2 + 1, EVIL, 20001, PLC, 20000, broadcast_dnp3(b"\xc1\xc1\x02\x50\x01\x00\x07\x07\x00"))


@attack("CIP: outputs forced by the set of attributes, connections of others closed", ["ics-write", "ics-control-command"], attacker=EVIL, victim=PLC)
def cip_write():
    talk = [(enip(0x65, b"\x01\x00\x00\x00", 0), enip(0x65, b"\x01\x00\x00\x00"))]
    talk += [(cip(b"\x10\x03\x20\x04\x24\x65\x30\x03" + bytes([n])), cip(b"\x90\x00\x00\x00")) for n in range(20)]
    talk += [(cip(b"\x4e\x02\x20\x06\x24\x01\x0a\x0e" + n.to_bytes(2, "little") + b"\x37\x13\x01\x00\x00\x00\x02\x00\x20\x02\x24\x01"), cip(b"\xce\x00\x00\x00")) for n in range(20)]
    yield from master(44818, *talk).close()


@attack("breakers selected and executed over a range (Industroyer2)", ["ics-write", "ics-control-command"], attacker=EVIL, victim=PLC, link="sll")
def industroyer2():
    talk = [(b"\x68\x04\x43\x00\x00\x00", b"\x68\x04\x83\x00\x00\x00"), (b"\x68\x04\x07\x00\x00\x00", b"\x68\x04\x0b\x00\x00\x00"), (iec104(100, 6, 0, b"\x14"), iec104(100, 7, 0, b"\x14"))]
    for n in range(44):
        talk += [(iec104(46, 6, 1101 + n, b"\x81", seq=2 * n + 1), iec104(46, 7, 1101 + n, b"\x81", seq=2 * n)), (iec104(46, 6, 1101 + n, b"\x01", seq=2 * n + 2), iec104(46, 7, 1101 + n, b"\x01", seq=2 * n + 1))]
    yield from master(2404, *talk).close()


@attack("objects of an IEC 104 station tried out", ["ics-scan"], also=["ics-refused"], attacker=EVIL, victim=PLC)
def iec_objects():
    talk = [(b"\x68\x04\x07\x00\x00\x00", b"\x68\x04\x0b\x00\x00\x00")]
    talk += [(iec104(102, 5, n, b"", seq=n), iec104(102, 47 | 0x40, n, b"", seq=n)) for n in range(1, 200)]
    yield from master(2404, *talk).close()


@attack("BACnet told to be silent, then foreign devices entered", CONTROL + ["ics-write"], attacker=EVIL, victim=PLC)
def bacnet_silent():
    yield udp(1, EVIL, 47808, PLC, 47808, bvlc(b"\x01\x04\x00\x05\x01\x11\x09\x3c\x19\x01\x2d\x08\x00secret1"))
    yield udp(1.01, PLC, 47808, EVIL, 47808, bvlc(b"\x01\x00\x20\x01\x11"))
    for n in range(5):
        yield udp(2 + n, EVIL, 47808, PLC, 47808, bvlc(b"\x01\x2c", 0x05))


@attack("BACnet objects tried out", ["ics-scan"], also=["ics-refused"], attacker=EVIL, victim=PLC)
def bacnet_objects():
    for n in range(300):
        invoke = bytes([n & 255])
        yield udp(n * 0.05, EVIL, 47808, PLC, 47808, bvlc(b"\x01\x04\x00\x05" + invoke + b"\x0c\x0c" + (n // 100 << 22 | n).to_bytes(4, "big") + b"\x19\x55"))
        yield udp(n * 0.05 + 0.01, PLC, 47808, EVIL, 47808, bvlc(b"\x01\x50" + invoke + b"\x0c\x91\x01\x91\x1f"))


@attack("BACnet who-is of every network, again and again", ["ics-scan", "udp-flood", "ics-flood"], attacker=EVIL)
def whois():
    for n in range(3000):
        yield n * 0.001, Ether(src=mac(EVIL), dst=ALL) / IP(src=EVIL, dst="10.9.0.255") / UDP(sport=47808, dport=47808) / Raw(bvlc(b"\x01\x20\xff\xff\x00\xff\x10\x08", 0x0B))


@attack("Modbus controller asked for connections until it has none", ["connection-exhaustion", "syn-flood"], attacker=EVIL, victim=PLC)
def modbus_connections():
    yield from poll_modbus(60)
    for n in range(300):
        yield from Conn(1 + n * 0.05, EVIL, 20000 + n, PLC, 502).out
