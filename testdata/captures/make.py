#!/usr/bin/env python3
"""Writes the captures in this folder, byte by byte, so that nothing of psc has a hand in them.

One set of packets goes out through every link type, both byte orders and both time units; the
same packets over and over make it visible when only the container is read wrongly. Checksums are
right unless a name says otherwise. Run it here: python3 make.py
"""

import struct

MAC_A, MAC_B = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
A4, B4 = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
A6, B6 = (bytes.fromhex("fd" + "00" * 14 + last) for last in ("01", "02"))
START = 1_767_225_600  # 2026-01-01T00:00:00Z


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip4(protocol, payload, ident=1, ttl=64, flags=0x4000, options=b"", src=A4, dst=B4):
    ihl = 5 + len(options) // 4
    head = struct.pack("!BBHHHBBH4s4s", 0x40 | ihl, 0, ihl * 4 + len(payload), ident, flags, ttl, protocol, 0, src, dst)
    head += options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ip6(protocol, payload, hop_limit=64, src=A6, dst=B6):
    return struct.pack("!IHBB", 0x60012345, len(payload), protocol, hop_limit) + src + dst + payload


def with_sum(protocol, data, at, v6):
    pseudo = A6 + B6 + struct.pack("!II", len(data), protocol) if v6 else A4 + B4 + struct.pack("!HH", protocol, len(data))
    value = checksum(pseudo + data)
    return data[:at] + struct.pack("!H", value) + data[at + 2 :]


def tcp(flags, seq, ack=0, payload=b"", options=b"", v6=False, sport=40000, dport=443):
    offset = 5 + len(options) // 4
    head = struct.pack("!HHIIHHHH", sport, dport, seq, ack, offset << 12 | flags, 64240, 0, 0)
    return with_sum(6, head + options + payload, 16, v6)


def udp(payload, v6=False, sport=5353, dport=53):
    return with_sum(17, struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload, 6, v6)


def icmp(kind, code, rest, payload=b""):
    data = struct.pack("!BBHI", kind, code, 0, rest) + payload
    return data[:2] + struct.pack("!H", checksum(data)) + data[4:]


def icmp6(kind, code, rest, payload=b""):
    return with_sum(58, struct.pack("!BBHI", kind, code, 0, rest) + payload, 2, True)


TS = b"\1\1\x08\x0a" + struct.pack("!II", 1000, 2000)
SYN_OPTIONS = struct.pack("!BBHBBBBIIBBB", 2, 4, 1460, 4, 2, 8, 10, 1000, 0, 1, 3, 3) + b"\x07"
SACK = b"\1\1" + struct.pack("!BBIIII", 5, 18, 5000, 6000, 7000, 8000)

V4 = [
    ip4(6, tcp(0x002, 100, options=SYN_OPTIONS)),
    ip4(6, tcp(0x018, 101, 900, b"hello over IPv4", TS), ident=2),
    ip4(6, tcp(0x010, 101, 900, b"", TS + SACK), ident=3),
    ip4(6, tcp(0x1C2, 7, 0), ident=4),  # every ECN flag, NS among them
    ip4(17, udp(b"datagram"), ident=5, ttl=1),
    ip4(17, udp(b"")[:8], ident=6),
    ip4(1, icmp(8, 0, 0x00030001, b"ping"), ident=7),
    ip4(1, icmp(3, 3, 0, ip4(17, udp(b"refused"), ident=77)), ident=8, src=B4, dst=A4),
    ip4(1, icmp(3, 4, 1400, ip4(6, tcp(0x10, 1, 2), ident=78)), ident=9, src=B4, dst=A4),
    ip4(6, tcp(0x010, 200, 900, b"router alert"), ident=10, options=b"\x94\4\0\0"),
    ip4(17, udp(b"f" * 24)[:16], ident=11, flags=0x2000),  # first fragment
    ip4(17, udp(b"f" * 24)[16:], ident=11, flags=0x0002),  # last fragment
    ip4(132, struct.pack("!HHII", 2905, 2906, 1, 0), ident=12),  # SCTP
    ip4(47, b"\0\0\x08\0" + ip4(1, icmp(8, 0, 1)), ident=13),  # GRE
]
HOP = b"\x3a\0\5\2\0\0\1\0"
V6 = [
    ip6(6, tcp(0x012, 300, 101, options=SYN_OPTIONS, v6=True)),
    ip6(17, udp(b"over IPv6", v6=True), hop_limit=3),
    ip6(58, icmp6(128, 0, 0x00030001, b"ping")),
    ip6(58, icmp6(2, 0, 1280, ip6(6, tcp(0x10, 1, 2, v6=True)))),
    ip6(0, HOP + icmp6(143, 0, 1, b"\4\0\0\0" + A6)),  # hop-by-hop, router alert, MLDv2
    ip6(44, struct.pack("!BBHI", 17, 0, 1, 99) + udp(b"g" * 24, v6=True)[:16]),  # first fragment
    ip6(44, struct.pack("!BBHI", 17, 0, 2 << 3, 99) + udp(b"g" * 24, v6=True)[16:]),
]
ARP_REQUEST = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, MAC_A, A4, bytes(6), B4)
ARP_REPLY = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 2, MAC_B, B4, MAC_A, A4)
ANY = [(0x0800, p) for p in V4] + [(0x86DD, p) for p in V6]


def ethernet(kind, payload, tags=()):
    head = MAC_B + MAC_A
    for tpid, tci in tags:
        head += struct.pack("!HH", tpid, tci)
    return (head + struct.pack("!H", kind) + payload).ljust(60, b"\0")


def snap(payload):
    return (MAC_B + MAC_A + struct.pack("!H", len(payload) + 8) + bytes.fromhex("aaaa03000000") + b"\x08\0" + payload).ljust(60, b"\0")


ETHERNET = (
    [ethernet(kind, p) for kind, p in ANY]
    + [ethernet(0x0806, ARP_REQUEST), ethernet(0x0806, ARP_REPLY)]
    + [ethernet(0x0800, V4[1], [(0x8100, 0x2005)]), ethernet(0x86DD, V6[1], [(0x88A8, 100), (0x8100, 4094)])]
    + [snap(V4[4]), ethernet(0x88CC, b"\2\7\4\2\0\0\0\0\1\0\0")]
)


def sll(n, kind, payload):
    return struct.pack("!HHH8sH", 4 if n % 2 else 0, 1, 6, MAC_A, kind) + payload


def sll2(n, kind, payload):
    return struct.pack("!HHIHBB8s", kind, 0, 2 + n % 3, 1, 4 if n % 2 else 0, 6, MAC_A) + payload


def family(kind, inet6):
    return 2 if kind == 0x0800 else inet6


def pcap(name, link, packets, order="<", nanoseconds=False, snaplen=262144, magic=None, cut=None):
    unit = 1 if nanoseconds else 1000
    magic = magic or (0xA1B23C4D if nanoseconds else 0xA1B2C3D4)
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snaplen, link)
    for n, packet in enumerate(packets):
        stored = packet[:cut]
        ns = n * 1_000_001 + 5
        out += struct.pack(order + "IIII", START + n, ns // unit, len(stored), len(packet))
        if magic == 0xA1B2CD34:
            out += struct.pack(order + "IHBB", 2, 0x0800, 0, 0)
        out += stored
    with open(name, "wb") as file:
        file.write(out)


def block(order, kind, body):
    body += b"\0" * (-len(body) % 4)
    return struct.pack(order + "II", kind, len(body) + 12) + body + struct.pack(order + "I", len(body) + 12)


def options(order, *pairs):
    out = b""
    for code, value in pairs:
        out += struct.pack(order + "HH", code, len(value)) + value + b"\0" * (-len(value) % 4)
    return out + b"\0\0\0\0"


def section(order, *pairs):
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1) + options(order, *pairs))


def interface(order, link, *pairs, snaplen=0):
    return block(order, 1, struct.pack(order + "HHI", link, 0, snaplen) + options(order, *pairs))


def enhanced(order, number, stamp, packet, *pairs, stored=None):
    stored = packet if stored is None else packet[:stored]
    body = struct.pack(order + "IIIII", number, stamp >> 32, stamp & 0xFFFFFFFF, len(stored), len(packet))
    return block(order, 6, body + stored + b"\0" * (-len(stored) % 4) + (options(order, *pairs) if pairs else b""))


def two_interfaces(order):
    """Interfaces with other time units, and every block type a reader meets."""
    u32, u64 = (lambda v: struct.pack(order + "I", v)), (lambda v: struct.pack(order + "Q", v))
    out = section(order, (1, b"made by hand"), (2, b"none"), (3, b"Linux 6.18"), (4, b"make.py"))
    out += interface(order, 1, (2, b"eth0"), (3, b"uplink"), (4, A4 + b"\xff\xff\xff\0"), (5, A6 + b"\x40"), (6, MAC_A), (9, b"\x09"))
    out += interface(order, 101, (2, b"tun0"), (9, bytes([0x80 | 20])), (14, struct.pack(order + "q", START)))
    out += interface(order, 276, (2, b"any"))
    out += block(order, 4, struct.pack(order + "HH", 1, 9) + A4 + b"host\0\0\0\0" + b"\0\0\0\0")
    for n, packet in enumerate(ETHERNET):
        out += enhanced(order, 0, START * 10**9 + n * 1001, packet, (2, u32(1 + n % 2)), (1, b"comment %d" % n))
    for n, (_, packet) in enumerate(ANY):
        out += enhanced(order, 1, (n + 1 << 20) + 1, packet)
    for n, (kind, packet) in enumerate(ANY[:4]):
        out += enhanced(order, 2, (START + 60 + n) * 10**6, sll2(n, kind, packet), stored=70)
    out += block(order, 2, struct.pack(order + "HHIIII", 0, 3, 0, 5, len(ETHERNET[0]), len(ETHERNET[0])) + ETHERNET[0])
    out += block(order, 3, struct.pack(order + "I", len(ETHERNET[1])) + ETHERNET[1])
    out += block(order, 0x7FFFFFFF, b"of a kind that nobody knows")
    for number, dropped in ((0, 7), (1, 0)):
        out += block(order, 5, struct.pack(order + "III", number, 0, 0) + options(order, (4, u64(100)), (5, u64(dropped)), (7, u64(2))))
    return out


pcap("ethernet.pcap", 1, ETHERNET)
pcap("ethernet-ns.pcap", 1, ETHERNET, nanoseconds=True)
pcap("ethernet-be.pcap", 1, ETHERNET, order=">")
pcap("ethernet-be-ns.pcap", 1, ETHERNET, order=">", nanoseconds=True)
pcap("ethernet-cut.pcap", 1, ETHERNET, snaplen=60, cut=60)
pcap("kuznetzov.pcap", 1, ETHERNET, magic=0xA1B2CD34)
pcap("raw.pcap", 101, [p for _, p in ANY])
pcap("ipv4.pcap", 228, V4)
pcap("ipv6.pcap", 229, V6)
pcap("null.pcap", 0, [struct.pack("<I", family(kind, 30)) + p for kind, p in ANY])
pcap("null-be.pcap", 0, [struct.pack(">I", family(kind, 28)) + p for kind, p in ANY], order=">")
pcap("loop.pcap", 108, [struct.pack(">I", family(kind, 24)) + p for kind, p in ANY])
pcap("sll.pcap", 113, [sll(n, kind, p) for n, (kind, p) in enumerate(ANY)], nanoseconds=True)
pcap("sll2.pcap", 276, [sll2(n, kind, p) for n, (kind, p) in enumerate(ANY)])
for suffix, order in (("", "<"), ("-be", ">")):
    with open(f"interfaces{suffix}.pcapng", "wb") as file:
        file.write(two_interfaces(order))
with open("sections.pcapng", "wb") as file:
    file.write(two_interfaces("<") + two_interfaces(">"))
