//! Segments and datagrams that the transport refuses: checksums, windows, timestamps, signatures.

use psc_formats::manifest::Layer;

use super::case::Case;
use super::rule::{DropRule, Find, Found, Rule};
use super::seen::Kind;

/// Drops that say their cause themselves.
pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "bad-checksum",
        layer: Layer::Transport,
        severity: "high",
        looks_at: "drop reasons TCP_CSUM, UDP_CSUM, ICMP_CSUM, IP_CSUM and the InCsumErrors counters",
        cause: "checksums are wrong on arrival: damage on the path, or offload that computed none",
        silent_on: "checksums left to the device inside of one host",
        references: &["RFC 1071", "Documentation/networking/checksum-offloads.rst"],
        find: Find::Drops(DropRule {
            reasons: &["TCP_CSUM", "UDP_CSUM", "ICMP_CSUM", "IP_CSUM"],
            title: "{packets} from {src} {were} dropped at {place} for a wrong checksum ({reason}).",
            advice: "At the sender: `ethtool -K DEVICE tx off` as a test of its offload; a program that rewrites packets \
                     (tc, XDP, NAT in a VM) has to correct checksums; else cables and memory on the path.",
            counters: &[
                "TcpInCsumErrors",
                "UdpInCsumErrors",
                "Udp6InCsumErrors",
                "IcmpInCsumErrors",
                "Icmp6InCsumErrors",
                "IpExtInCsumErrors",
            ],
            ..DropRule::PLAIN
        }),
    },
    Rule {
        id: "tcp-signature",
        layer: Layer::Transport,
        severity: "high",
        looks_at: "drop reasons TCP_MD5* and TCP_AO*, TcpExtTCPMD5* and TcpExtTCPAO* counters",
        cause: "the two ends do not agree on TCP-MD5 or TCP-AO keys",
        silent_on: "connections whose keys match, or without keys on both ends",
        references: &["RFC 2385", "RFC 5925", "tcp(7) TCP_MD5SIG"],
        find: Find::Drops(DropRule {
            reasons: &[
                "TCP_MD5NOTFOUND",
                "TCP_MD5UNEXPECTED",
                "TCP_MD5FAILURE",
                "TCP_AONOTFOUND",
                "TCP_AOUNEXPECTED",
                "TCP_AOKEYNOTFOUND",
                "TCP_AOFAILURE",
                "TCP_AUTH_HDR",
            ],
            title: "{packets} from {src} to {service} {were} dropped at {place} for their TCP signature ({reason}).",
            advice: "Configure the same key at both ends (the `password` of a BGP session); NOTFOUND: {src} signs nothing, \
                     UNEXPECTED: only it signs, FAILURE: the keys differ.",
            counters: &[
                "TcpExtTCPMD5NotFound",
                "TcpExtTCPMD5Unexpected",
                "TcpExtTCPMD5Failure",
                "TcpExtTCPAORequired",
                "TcpExtTCPAOBad",
                "TcpExtTCPAOKeyNotFound",
            ],
            ..DropRule::PLAIN
        }),
    },
    Rule {
        id: "old-timestamp",
        layer: Layer::Transport,
        severity: "medium",
        looks_at: "drop reasons TCP_RFC7323_PAWS, TCP_RFC7323_TW_PAWS, TCP_RFC7323_TSECR",
        cause: "segments carry timestamps older than ones already seen (PAWS)",
        silent_on: "pure acknowledgements out of order",
        references: &["RFC 7323 section 5", "net/ipv4/tcp_input.c tcp_paws_discard"],
        find: Find::Drops(DropRule {
            reasons: &["TCP_RFC7323_PAWS", "TCP_RFC7323_TW_PAWS", "TCP_RFC7323_TSECR"],
            title: "{packets} from {src} to {service} {were} dropped at {place} for an old timestamp ({reason}).",
            advice: "Several hosts behind one NAT address, a device that rewrites timestamps, or replayed segments: \
                     net.ipv4.tcp_timestamps=0 at one end as a test.",
            counters: &[
                "TcpExtPAWSEstab",
                "TcpExtPAWSActive",
                "TcpExtPAWSOldAck",
                "TcpExtTSEcrRejected",
            ],
            ..DropRule::PLAIN
        }),
    },
    Rule {
        id: "out-of-window",
        layer: Layer::Transport,
        severity: "medium",
        looks_at: "drop reasons TCP_INVALID_SEQUENCE, TCP_OVERWINDOW, TCP_INVALID_END_SEQUENCE, TCP_INVALID_ACK_SEQUENCE, TCP_INVALID_SYN, TCP_TOO_OLD_ACK",
        cause: "segments lie outside of the window: injected, from a stale connection, or changed on the way",
        silent_on: "retransmissions of what was received, keep-alives",
        references: &["RFC 9293 section 3.10.7.4", "RFC 5961"],
        find: Find::Drops(DropRule {
            reasons: &[
                "TCP_INVALID_SEQUENCE",
                "TCP_OVERWINDOW",
                "TCP_INVALID_END_SEQUENCE",
                "TCP_INVALID_ACK_SEQUENCE",
                "TCP_INVALID_SYN",
                "TCP_TOO_OLD_ACK",
                "TCP_ACK_UNSENT_DATA",
            ],
            title: "{packets} from {src} to {service} {were} dropped at {place}: outside of the window ({reason}).",
            advice: "Look at the packets before them: a middlebox that shifts sequence numbers, a peer that lost its state, \
                     or segments that somebody injects.",
            counters: &[
                "TcpExtTCPChallengeACK",
                "TcpExtTCPSYNChallenge",
                "TcpExtTCPACKSkippedSeq",
                "TcpExtBeyondWindow",
            ],
            ..DropRule::PLAIN
        }),
    },
    Rule {
        id: "ttl-security",
        layer: Layer::Transport,
        severity: "medium",
        looks_at: "drop reason TCP_MINTTL",
        cause: "the TTL is below what the socket demands (GTSM)",
        silent_on: "peers as near as the socket expects",
        references: &["RFC 5082", "ip(7) IP_MINTTL"],
        find: Find::Drops(DropRule {
            reasons: &["TCP_MINTTL"],
            title: "{packets} from {src} to {service} {were} dropped at {place}: their TTL is below the socket's minimum.",
            advice: "Let the peer send with TTL 255 (`ttl-security` of BGP), or lower IP_MINTTL by the hops between.",
            counters: &["TcpExtTCPMinTTLDrop"],
            ..DropRule::PLAIN
        }),
    },
    Rule {
        id: "tunnel-mismatch",
        layer: Layer::Network,
        severity: "high",
        looks_at: "drop reasons VXLAN_VNI_NOT_FOUND, VXLAN_INVALID_HDR, TUNNEL_TXINFO, IP_TUNNEL_ECN",
        cause: "the two ends of a tunnel do not agree: no device for its network id, or wrong headers",
        silent_on: "tunnels whose ends agree",
        references: &["RFC 7348", "RFC 6040", "ip-link(8) vxlan", "drivers/net/vxlan/vxlan_core.c"],
        find: Find::Own(tunnel),
    },
    Rule {
        id: "no-protocol",
        layer: Layer::Network,
        severity: "medium",
        looks_at: "drop reason IP_NOPROTO, IpInUnknownProtos",
        cause: "nothing on this host handles the IP protocol",
        silent_on: "protocols with a handler",
        references: &["RFC 1122 section 3.2.2.1", "net/ipv4/ip_input.c"],
        find: Find::Drops(DropRule {
            reasons: &["IP_NOPROTO"],
            title: "{packets} from {src} {were} dropped at {place}: no handler for {service}.",
            advice: "Load the protocol's module (gre, ipip, sctp, esp) or make its tunnel device; else correct the sender.",
            counters: &["IpInUnknownProtos", "Ip6InUnknownProtos"],
            ..DropRule::PLAIN
        }),
    },
    Rule {
        id: "malformed",
        layer: Layer::Network,
        severity: "medium",
        looks_at: "drop reasons IP_INHDR, HDR_TRUNC, PKT_TOO_SMALL, UDP length, TCP_FLAGS, IPV6_BAD_EXTHDR, DEV_HDR",
        cause: "packets have headers that contradict themselves",
        silent_on: "proper packets",
        references: &["RFC 1122 section 3.2.1", "net/ipv4/ip_input.c ip_rcv_core"],
        find: Find::Drops(DropRule {
            reasons: &["IP_INHDR", "HDR_TRUNC", "PKT_TOO_SMALL", "IPV6_BAD_EXTHDR", "DEV_HDR"],
            title: "{packets} from {src} to {dst} {were} dropped at {place}: their headers are wrong ({reason}).",
            advice: "Capture them (`psc export --to pcapng`) and look at the sender, or at what cut them on the way.",
            counters: &["IpInHdrErrors", "Ip6InHdrErrors", "IpInTruncatedPkts", "UdpInErrors"],
            ..DropRule::PLAIN
        }),
    },
    Rule {
        id: "bad-discovery",
        layer: Layer::Network,
        severity: "medium",
        looks_at: "drop reasons IPV6_NDISC_HOP_LIMIT, IPV6_NDISC_FRAG, IPV6_NDISC_BAD_CODE, IPV6_NDISC_BAD_OPTIONS",
        cause: "neighbour discovery messages that may not be: from off the link, or broken",
        silent_on: "neighbour discovery as specified",
        references: &["RFC 4861 section 7.1", "RFC 6980"],
        find: Find::Drops(DropRule {
            reasons: &[
                "IPV6_NDISC_HOP_LIMIT",
                "IPV6_NDISC_FRAG",
                "IPV6_NDISC_BAD_CODE",
                "IPV6_NDISC_BAD_OPTIONS",
            ],
            title: "{packets} from {src} {were} dropped at {place}: invalid neighbour discovery ({reason}).",
            advice: "Find {src}: somebody off the link, or a tool that makes such packets.",
            ..DropRule::PLAIN
        }),
    },
    Rule {
        id: "late-data",
        layer: Layer::Transport,
        severity: "medium",
        looks_at: "drop reason TCP_ABORT_ON_DATA",
        cause: "data came for a connection that its owner had closed: it was reset and the data lost",
        silent_on: "connections closed after everything was read",
        references: &["RFC 9293 section 3.10.7.2", "net/ipv4/tcp_input.c tcp_rcv_state_process"],
        find: Find::Drops(DropRule {
            reasons: &["TCP_ABORT_ON_DATA"],
            kinds: &[Kind::Segment],
            title: "{packets} with data from {src} came for a connection to {service} that was already closed at {place}.",
            advice: "Let the application read until the end before close(), or shutdown(SHUT_WR) and wait.",
            counters: &["TcpExtTCPAbortOnData", "TcpExtTCPAbortOnClose"],
            ..DropRule::PLAIN
        }),
    },
];

fn tunnel(case: &mut Case<'_>) -> Vec<Found> {
    const REASONS: [&str; 4] =
        ["VXLAN_VNI_NOT_FOUND", "VXLAN_INVALID_HDR", "TUNNEL_TXINFO", "IP_TUNNEL_ECN"];
    let drops =
        case.take(|case, drop| REASONS.contains(&case.reason(drop)) && drop.kind != Kind::Chatter);
    let mut all = Vec::new();
    for group in case.by_place(&drops) {
        let mut found = case.found(&group);
        found.title =
            case.fill("{packets} of a tunnel {were} dropped at {place} ({reason}).", &group);
        found.advice =
            "`ip -d link show type vxlan` at both ends: the same id, port, group or remote.".into();
        all.push(found);
    }
    if !all.is_empty() {
        // Whoever is looked for through the tunnel is not to blame.
        let through: Vec<_> = case
            .seen
            .link
            .asks()
            .into_iter()
            .filter(|(_, ask)| {
                case.tables.devices.get(&ask.device).is_some_and(|device| device.kind == "vxlan")
            })
            .map(|(ip, _)| *ip)
            .collect();
        for host in through {
            case.explain_host(host);
        }
    }
    all
}
