"""Hosts, conversations and the case list of the captures that `cargo xtask attacks --written` makes.

Nothing is sent: packets are put into files with times, as they pass a tap on the victim's link.
"""

import ipaddress
import random

from scapy.all import IP, TCP, UDP, CookedLinux, Ether, IPv6, Raw

GATEWAY, VICTIM, OTHER, EVIL = "10.9.0.1", "10.9.0.10", "10.9.0.11", "10.9.0.66"
FAR = "198.51.100.66"
ALL = "ff:ff:ff:ff:ff:ff"
CASES = []


def case(name, expect=(), also=(), attacker=None, victim=None, round=1, **form):
    """Registers a generator of (seconds, packet). `expect`: findings of which one has to be there, none
    for a benign twin. `round`: 1 for what was written first, 2 and 3 for what was written after the detectors
    had been improved on the ones before. `form`: how the capture was made, see `as_captured`."""

    def register(make):
        CASES.append({"name": name, "expect": list(expect), "also": list(also), "attacker": attacker,
                      "victim": victim, "round": round, "make": make, "form": form})
        return make

    return register


def benign(name, round=1, **form):
    return case(name, round=round, **form)


def as_captured(packets, since=0.0, sender=None, snap=None, link="ethernet", scale=1.0, twice=False):
    """What a capture has of `packets`: from the second `since` on, only what the host `sender` sends, `snap`
    bytes of each, with Ethernet, cooked ("sll") or no ("raw") link header, times stretched by `scale`, and
    everything twice where a switch mirrors both of its ports (`twice`)."""
    for t, packet in packets:
        network = packet.getlayer(IP) or packet.getlayer(IPv6)
        if t < since or (sender and (network is None or network.src != sender)):
            continue
        if link == "raw":
            if network is None:
                continue
            data = bytes(network)
        elif link == "sll":
            data = bytes(CookedLinux(pkttype=4 if packet.src == mac(VICTIM) else 0, lladdrlen=6,
                                     src=bytes.fromhex(packet.src.replace(":", "")) + bytes(2),
                                     proto=packet.type) / packet.payload)
        else:
            data = bytes(packet)
        for again in range(2 if twice else 1):
            yield t * scale + again * 0.000004, data[:snap], len(data)


def local(ip):
    return ip.startswith("10.9.0.")


def mac(ip):
    """Hosts of the link have their own address, all others come through the gateway."""
    if ":" in ip:
        return "02:06:%02x:%02x:%02x:%02x" % tuple(ipaddress.ip_address(ip).packed[-4:])
    return "02:00:%02x:%02x:%02x:%02x" % tuple(ipaddress.ip_address(ip if local(ip) else GATEWAY).packed)


def eth(src, dst, **more):
    return Ether(src=more.get("smac", mac(src)), dst=more.get("dmac", mac(dst)))


def ip(src, dst, ttl=None, **more):
    if ":" in src:
        return eth(src, dst) / IPv6(src=src, dst=dst, hlim=ttl or 64, **more)
    return eth(src, dst) / IP(src=src, dst=dst, ttl=ttl or (64 if local(src) else 52),
                              id=more.pop("id", random.getrandbits(16)), **more)


def udp(t, src, sport, dst, dport, body=b"", ttl=None):
    return t, ip(src, dst, ttl) / UDP(sport=sport, dport=dport) / Raw(body)


def tcp(t, src, sport, dst, dport, flags, seq=0, ack=0, body=b"", ttl=None, **more):
    packet = ip(src, dst, ttl) / TCP(sport=sport, dport=dport, flags=flags, seq=seq, ack=ack, **more)
    return t, packet / Raw(body) if body else packet


class Conn:
    """One TCP connection; packets are kept in `out`."""

    def __init__(self, t, client, cport, server, sport, rtt=0.002, shake=True, **more):
        self.t, self.rtt, self.out = t, rtt, []
        self.ends = (client, cport, server, sport)
        self.seq = [random.getrandbits(31), random.getrandbits(31)]
        self.more = more
        if shake:
            self.put(0, "S", options=[("MSS", 1460), ("SAckOK", b""), ("WScale", 7)])
            self.put(1, "SA", options=[("MSS", 1460), ("SAckOK", b""), ("WScale", 7)])
            self.put(0, "A")
        else:
            self.seq = [n + 1 for n in self.seq]

    def put(self, side, flags, body=b"", **more):
        client, cport, server, sport = self.ends
        a, b = ((client, cport), (server, sport))[:: 1 if side == 0 else -1]
        ack = self.seq[1 - side] if "A" in flags else 0
        self.out.append(tcp(self.t, *a, *b, flags, self.seq[side], ack, body, **{**self.more, **more}))
        self.seq[side] += len(body) + ("S" in flags) + ("F" in flags)
        self.t += self.rtt / 2
        return self

    def ask(self, body, gap=0.0):
        self.t += gap
        for part in range(0, max(len(body), 1), 1400):
            self.put(0, "PA", body[part:part + 1400])
        return self.put(1, "A")

    def tell(self, body, gap=0.0):
        self.t += gap
        for part in range(0, max(len(body), 1), 1400):
            self.put(1, "PA", body[part:part + 1400])
        return self.put(0, "A")

    def close(self, side=0):
        self.put(side, "FA")
        self.put(1 - side, "FA")
        self.put(side, "A")
        return self.out

    def reset(self, side=1):
        self.put(side, "RA")
        return self.out


def get(t, client, cport, server, path="/", size=5000, port=80, **more):
    conn = Conn(t, client, cport, server, port, **more)
    conn.ask(b"GET %s HTTP/1.1\r\nHost: www.example.net\r\nUser-Agent: x\r\n\r\n" % path.encode())
    conn.tell(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
    return conn.close()


def tls(t, client, cport, server, up=800, down=4000, port=443, **more):
    """A TLS-like exchange: record headers, and bytes that say nothing."""
    def record(kind, size):
        return bytes([kind, 3, 3]) + size.to_bytes(2, "big") + random.randbytes(size)
    conn = Conn(t, client, cport, server, port, **more)
    conn.ask(record(22, 517)).tell(record(22, 2800)).ask(record(22, 80))
    conn.ask(record(23, up)).tell(record(23, down))
    return conn.close()


def everyday(seconds=60, hosts=(VICTIM, OTHER), seed=5):
    """What goes on anyway: names, pages, time."""
    rng, out, port = random.Random(seed), [], 41000
    for host in hosts:
        t = rng.random()
        while t < seconds:
            port += 1
            out += rng.choice([get, tls])(t, host, port, f"203.0.113.{rng.randint(1, 40)}", rtt=0.03)
            t += rng.expovariate(0.7)
    return out
