//! What the kernel's drop reasons mean and what to look at.
//!
//! Names are `enum skb_drop_reason` without `SKB_DROP_REASON_`, as in `include/net/dropreason-core.h`
//! of 6.1 to 6.18. Numbers differ by kernel and are therefore not used.

/// (name, what it means, what to look at).
#[rustfmt::skip]
const REASONS: &[(&str, &str, &str)] = &[
    ("NOT_SPECIFIED", "The kernel gives no reason at this place", "the function of the location; newer kernels name more reasons"),
    ("NO_SOCKET", "No socket listens on the port it was for", "`ss -lntu`: is the service running, and on this address and namespace?"),
    ("SOCKET_CLOSE", "Its socket was being closed with data still queued", "does the application close before it has read everything?"),
    ("SOCKET_FILTER", "A filter attached to the socket refused it (SO_ATTACH_FILTER, SO_ATTACH_BPF)", "`ss -0 -b` and the application's own filter"),
    ("SOCKET_RCVBUFF", "The socket's receive buffer was full: the application reads too slowly", "`ss -uamn` (skmem, drops), SO_RCVBUF, net.core.rmem_max"),
    ("UNIX_DISCONNECT", "A unix socket's peer went away", "the peer process"),
    ("UNIX_SKIP_OOB", "Out-of-band data of a unix socket was skipped", "the application's use of MSG_OOB"),
    ("PKT_TOO_SMALL", "It is shorter than its headers say", "the sender, or a device that cuts frames"),
    ("PKT_TOO_BIG", "It is larger than the MTU and may not be fragmented", "`ip link` MTUs along the path; is ICMP fragmentation-needed let through?"),
    ("TCP_CSUM", "Its TCP checksum is wrong", "corruption on the path, or checksum offload: `ethtool -k`, `nstat TcpInCsumErrors`"),
    ("UDP_CSUM", "Its UDP checksum is wrong", "corruption on the path, or checksum offload: `ethtool -k`, `nstat UdpInCsumErrors`"),
    ("ICMP_CSUM", "Its ICMP checksum is wrong", "corruption on the path, or a hand-made packet"),
    ("IP_CSUM", "Its IPv4 header checksum is wrong", "corruption on the path, or a hand-made packet"),
    ("SKB_CSUM", "Its checksum could not be completed for the device", "`ethtool -k` checksum offloads of the device"),
    ("NETFILTER_DROP", "A netfilter rule dropped it", "`nft list ruleset` or `iptables-save -c`; `nft monitor trace` names the rule"),
    ("OTHERHOST", "Its destination MAC address is another host's", "promiscuous mode, a flooding switch, or a stale neighbour entry at the sender"),
    ("IP_INHDR", "Its IP header is invalid, or its TTL ran out while forwarding", "`nstat IpInHdrErrors`; a routing loop, or traceroute at work"),
    ("IP_RPFILTER", "Reverse-path filter: the route back to its source uses another interface", "net.ipv4.conf.*.rp_filter, `ip route get SOURCE`; spoofing or asymmetric routing"),
    ("UNICAST_IN_L2_MULTICAST", "A unicast IP packet came in a multicast or broadcast frame", "the sender; net.ipv4.conf.*.drop_unicast_in_l2_multicast"),
    ("XFRM_POLICY", "An IPsec policy refused it", "`ip xfrm policy`, `ip xfrm state`"),
    ("IP_NOPROTO", "No handler for its IP protocol", "`nstat IpInUnknownProtos`; is the module of the protocol loaded?"),
    ("PROTO_MEM", "The protocol's memory limit was reached", "net.ipv4.tcp_mem or udp_mem, `cat /proc/net/sockstat`"),
    ("TCP_AUTH_HDR", "Its TCP authentication option is malformed", "the peer's TCP-MD5 or TCP-AO configuration"),
    ("TCP_MD5NOTFOUND", "It has no TCP-MD5 signature and one is required", "the key configuration of both peers (BGP?)"),
    ("TCP_MD5UNEXPECTED", "It has a TCP-MD5 signature and none is expected", "the key configuration of both peers"),
    ("TCP_MD5FAILURE", "Its TCP-MD5 signature is wrong", "do the keys of both peers match?"),
    ("TCP_AONOTFOUND", "It has no TCP-AO signature and one is required", "the key configuration of both peers"),
    ("TCP_AOUNEXPECTED", "It has a TCP-AO signature and none is expected", "the key configuration of both peers"),
    ("TCP_AOKEYNOTFOUND", "Its TCP-AO key is unknown", "the key configuration of both peers"),
    ("TCP_AOFAILURE", "Its TCP-AO signature is wrong", "do the keys of both peers match?"),
    ("SOCKET_BACKLOG", "The socket was locked by its owner and its backlog was full", "`nstat TcpExtTCPBacklogDrop`, SO_RCVBUF; a reader that holds the socket long"),
    ("TCP_FLAGS", "Its TCP flags make no sense in the state of the connection", "a scanner, or a middlebox that rewrites flags"),
    ("TCP_ABORT_ON_DATA", "Data came for a connection already closed by its owner: it was reset", "does the application close before the peer is done?"),
    ("TCP_ZEROWINDOW", "Data came while the receive window was closed", "the reading application; the peer ignores the window"),
    ("TCP_OLD_DATA", "Its data had been received before", "spurious retransmissions: delay spikes or lost ACKs"),
    ("TCP_OVERWINDOW", "Its data lies beyond the receive window", "the peer ignores the window, or an injected segment"),
    ("TCP_OFOMERGE", "Its out-of-order data had already been queued", "retransmissions under reordering; usually harmless"),
    ("TCP_RFC7323_PAWS", "Its timestamp is older than one already seen (PAWS)", "old duplicates, or several hosts behind one NAT address: `nstat TcpExtPAWSEstab`"),
    ("TCP_RFC7323_PAWS_ACK", "A pure ACK with an old timestamp (PAWS)", "reordering; usually harmless"),
    ("TCP_RFC7323_TW_PAWS", "An old timestamp for a connection in TIME-WAIT (PAWS)", "reuse of ports behind one NAT address"),
    ("TCP_RFC7323_TSECR", "It echoes a timestamp never sent", "an injected segment or a broken middlebox"),
    ("TCP_LISTEN_OVERFLOW", "The accept queue of the listener was full", "`ss -ltn` (Recv-Q above Send-Q), net.core.somaxconn, the backlog given to listen()"),
    ("TCP_OLD_SEQUENCE", "Its sequence numbers are wholly before the window", "old duplicates or keep-alives; usually harmless"),
    ("TCP_INVALID_SEQUENCE", "Its sequence number is outside the window", "an injected segment, or a middlebox that lost state"),
    ("TCP_INVALID_END_SEQUENCE", "Its end lies outside the window", "the peer ignores the window, or an injected segment"),
    ("TCP_INVALID_ACK_SEQUENCE", "It acknowledges what was not sent in this connection", "an injected segment, or a stale connection of the peer"),
    ("TCP_RESET", "It is a valid reset: it ended the connection", "why the peer reset; not a fault of this host"),
    ("TCP_INVALID_SYN", "A SYN came inside an established connection", "a peer that restarted, port reuse, or an injected segment (RFC 5961)"),
    ("TCP_CLOSE", "Its connection is closed", "late segments; usually harmless"),
    ("TCP_FASTOPEN", "Data of a fast-open SYN was repeated", "net.ipv4.tcp_fastopen; usually harmless"),
    ("TCP_OLD_ACK", "It acknowledges what had been acknowledged", "reordering; usually harmless"),
    ("TCP_TOO_OLD_ACK", "It acknowledges far less than had been acknowledged (RFC 5961)", "an injected segment, or very old duplicates"),
    ("TCP_ACK_UNSENT_DATA", "It acknowledges data not yet sent", "an injected segment, or a stale connection of the peer"),
    ("TCP_OFO_QUEUE_PRUNE", "The out-of-order queue was cut for want of memory", "`nstat TcpExtOfoPruned`, net.ipv4.tcp_rmem; loss on the path"),
    ("TCP_OFO_DROP", "Out-of-order data was dropped for want of memory", "`nstat TcpExtTCPOFODrop`, net.ipv4.tcp_rmem; loss on the path"),
    ("TCP_MINTTL", "Its TTL is below the socket's minimum (GTSM, RFC 5082)", "IP_MINTTL of the socket; a peer further away than allowed"),
    ("IP_OUTNOROUTES", "No route to its destination when it was to be sent", "`ip route get DESTINATION`"),
    ("IP_INNOROUTES", "No route to its destination when it was to be forwarded or delivered", "`ip route get DESTINATION from SOURCE iif DEVICE`"),
    ("IP_INADDRERRORS", "Its addresses may not be used here", "net.ipv4.ip_forward and net.ipv6.conf.*.forwarding; the addresses of the device"),
    ("IP_LOCAL_SOURCE", "Its source address is one of this host's own", "spoofing, a loop, or a duplicated address: net.ipv4.conf.*.accept_local"),
    ("IP_INVALID_SOURCE", "Its source address may not be a source (multicast, broadcast, zero)", "spoofing or a misconfigured sender"),
    ("IP_LOCALNET", "A loopback address came from outside", "spoofing; net.ipv4.conf.*.route_localnet"),
    ("IP_INVALID_DEST", "Its destination address may not be a destination", "a misconfigured sender"),
    ("BPF_CGROUP_EGRESS", "A cgroup BPF program refused to let it out", "`bpftool cgroup tree`"),
    ("IPV6DISABLED", "IPv6 is disabled on the device", "net.ipv6.conf.*.disable_ipv6"),
    ("NEIGH_CREATEFAIL", "No neighbour entry could be made", "`ip -s neigh`, net.ipv4.neigh.default.gc_thresh3"),
    ("NEIGH_FAILED", "The next hop did not answer ARP or neighbour discovery", "`ip neigh` (FAILED); is the next hop up and on this link?"),
    ("NEIGH_QUEUEFULL", "Too many packets waited for the next hop's address", "`ip neigh`, net.ipv4.neigh.*.unres_qlen_bytes; the next hop is slow or down"),
    ("NEIGH_DEAD", "The neighbour entry was being removed", "`ip neigh`; a device going down"),
    ("NEIGH_HH_FILLFAIL", "The link-layer header could not be filled in", "`ip neigh`, the device's type"),
    ("TC_EGRESS", "A tc filter dropped it on the way out", "`tc -s filter show dev DEVICE egress`, `bpftool net`"),
    ("TC_INGRESS", "A tc filter dropped it on the way in", "`tc -s filter show dev DEVICE ingress`, `bpftool net`"),
    ("TC_COOKIE_ERROR", "tc could not keep its cookie", "memory; `tc -s filter show dev DEVICE`"),
    ("TC_CHAIN_NOTFOUND", "tc was sent to a chain that does not exist", "`tc chain show dev DEVICE`"),
    ("TC_RECLASSIFY_LOOP", "tc reclassified it too often", "`tc filter show dev DEVICE`: a loop of actions"),
    ("SECURITY_HOOK", "A security module refused it", "the audit log (SELinux, Smack)"),
    ("QDISC_DROP", "The queueing discipline dropped it, mostly because its queue was full", "`tc -s qdisc show dev DEVICE`; txqueuelen or the limit of the qdisc"),
    ("QDISC_OVERLIMIT", "The queue of the queueing discipline was over its limit", "`tc -s qdisc show dev DEVICE`"),
    ("QDISC_CONGESTED", "Active queue management dropped it to signal congestion", "`tc -s qdisc show dev DEVICE`; works as intended under overload"),
    ("CAKE_FLOOD", "cake's flood protection dropped it", "`tc -s qdisc show dev DEVICE`"),
    ("FQ_BAND_LIMIT", "fq's limit for its band was reached", "`tc -s qdisc show dev DEVICE`"),
    ("FQ_HORIZON_LIMIT", "Its sending time is too far in the future for fq", "SO_TXTIME of the application, fq's horizon"),
    ("FQ_FLOW_LIMIT", "fq's limit for its flow was reached", "`tc -s qdisc show dev DEVICE`, flow_limit"),
    ("DUALPI2_STEP_DROP", "dualpi2 dropped it above its step threshold", "`tc -s qdisc show dev DEVICE`"),
    ("CPU_BACKLOG", "The per-CPU backlog was full", "/proc/net/softnet_stat, net.core.netdev_max_backlog, RPS and IRQ affinity"),
    ("XDP", "An XDP program dropped it", "`bpftool net`, the program's own counters"),
    ("UNHANDLED_PROTO", "No handler for its EtherType", "what sends it (LLDP, STP, ...); usually harmless"),
    ("SKB_GSO_SEG", "It could not be cut into segments", "`ethtool -k` segmentation offloads of the device"),
    ("SKB_UCOPY_FAULT", "Copying to or from user memory failed", "the application's buffers"),
    ("DEV_HDR", "The device's header is invalid or could not be made", "the driver, the tunnel's configuration"),
    ("DEV_READY", "The device was down or not ready", "`ip link show DEVICE`"),
    ("FULL_RING", "A ring of the driver (tun, veth, ptp) was full", "the reader of the device: the VM, or NAPI on the peer"),
    ("NOMEM", "No memory", "`dmesg`, memory limits of the host"),
    ("HDR_TRUNC", "Its headers are cut", "the sender, or a device that cuts frames"),
    ("TAP_FILTER", "The tap's filter refused it", "the filter the VM or application attached"),
    ("TAP_TXFILTER", "The tap's address filter refused it", "the MAC addresses the VM listens to"),
    ("INVALID_PROTO", "Its protocol field is not valid here", "the sender, or a tunnel's configuration"),
    ("DUP_FRAG", "The same fragment came twice", "duplication on the path, or an attack on reassembly"),
    ("FRAG_REASM_TIMEOUT", "Its other fragments did not come in time", "loss on the path; is a firewall dropping later fragments?"),
    ("FRAG_TOO_FAR", "Its fragment id is too far from the last ones of that source", "net.ipv4.ipfrag_max_dist; reordering or id reuse at high rates"),
    ("IPV6_BAD_EXTHDR", "Its IPv6 extension headers are invalid", "the sender; `nstat Ip6InHdrErrors`"),
    ("IPV6_NDISC_FRAG", "Neighbour discovery in fragments is refused (RFC 6980)", "an attack on neighbour discovery, or a broken sender"),
    ("IPV6_NDISC_HOP_LIMIT", "Neighbour discovery from off the link (hop limit not 255)", "an attack on neighbour discovery"),
    ("IPV6_NDISC_BAD_CODE", "Neighbour discovery with a wrong code", "the sender"),
    ("IPV6_NDISC_BAD_OPTIONS", "Neighbour discovery with invalid options", "the sender"),
    ("IPV6_NDISC_NS_OTHERHOST", "A neighbour solicitation for another host", "usually harmless"),
    ("QUEUE_PURGE", "A queue was emptied (socket closed, device down)", "what was closed at that time; usually harmless"),
    ("PACKET_SOCK_ERROR", "A packet socket could not take it", "the capturing program"),
    ("VXLAN_INVALID_HDR", "Its VXLAN header is invalid", "the tunnel's peer"),
    ("VXLAN_VNI_NOT_FOUND", "No device for its VXLAN network id", "`ip -d link show type vxlan`"),
    ("VXLAN_ENTRY_EXISTS", "VXLAN would not move a learned address", "`bridge fdb show`; a duplicated MAC address"),
    ("MAC_INVALID_SOURCE", "Its source MAC address is not valid", "the sender"),
    ("NO_TX_TARGET", "No destination to send it to (tunnel, vxlan, bridge)", "`bridge fdb show`, the tunnel's remotes"),
    ("IP_TUNNEL_ECN", "Its ECN bits contradict the tunnel's outer header (RFC 6040)", "a router that rewrites ECN"),
    ("TUNNEL_TXINFO", "It has no tunnel metadata where some is needed", "the route or program that sends to the tunnel"),
    ("LOCAL_MAC", "Its source MAC address is the device's own", "a loop, or a duplicated MAC address"),
    ("ARP_PVLAN_DISABLE", "Private VLAN ARP is off", "net.ipv4.conf.*.proxy_arp_pvlan"),
    ("MAC_IEEE_MAC_CONTROL", "A MAC control frame (pause) reached the bridge", "flow control settings of the switch; usually harmless"),
    ("BRIDGE_INGRESS_STP_STATE", "The bridge port was not forwarding (STP)", "`bridge link`; is the topology changing?"),
    ("CAN_RX_INVALID_FRAME", "An invalid CAN frame", "the sender"),
    ("CANFD_RX_INVALID_FRAME", "An invalid CAN FD frame", "the sender"),
    ("CANXL_RX_INVALID_FRAME", "An invalid CAN XL frame", "the sender"),
    ("PFMEMALLOC", "It was made from emergency memory and is not for swapping", "memory pressure on the host"),
    ("PSP_INPUT", "PSP refused it on the way in", "the PSP associations of the socket"),
    ("PSP_OUTPUT", "PSP refused it on the way out", "the PSP associations of the socket"),
    ("RECURSION_LIMIT", "Devices sent to one another too deeply", "a loop of tunnels or stacked devices"),
];

/// One sentence on what the reason means and what to look at; `None` when psc has no note on it.
pub(crate) fn meaning(reason: &str) -> Option<String> {
    REASONS.iter().find(|(name, ..)| *name == reason).map(|(_, means, look)| sentence(means, look))
}

fn sentence(means: &str, look: &str) -> String {
    let stop = if look.ends_with('?') { "" } else { "." };
    format!("{means}. Look at: {look}{stop}")
}

/// (function, what it means, what to look at) where the kernel gives no reason of its own.
#[rustfmt::skip]
const PLACES: &[(&str, &str, &str)] = &[
    ("ip6_mc_input", "IPv6 multicast for a group that nothing here joined; every link has some", "nothing, unless the group should be joined here: `ip maddr`"),
    ("ip_mr_input", "Multicast that no route forwards", "`ip mroute`"),
    ("tcp_rcv_state_process", "TCP had no use for it in the state that the connection was in", "the connection's states around this time; usually harmless at its close"),
];

/// As [`meaning`], for a drop that the kernel gives no reason for, by the function that discards it.
pub(crate) fn meaning_of_place(function: &str) -> Option<String> {
    PLACES.iter().find(|(name, ..)| *name == function).map(|(_, means, look)| sentence(means, look))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reason_is_listed_twice() {
        let mut names: Vec<&str> = REASONS.iter().map(|(name, ..)| *name).collect();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before);
    }

    #[test]
    fn a_reason_without_a_note_has_none() {
        assert!(meaning("NO_SOCKET").is_some_and(|m| m.ends_with("namespace?")));
        assert!(meaning("NO_SOCKET").is_some_and(|m| m.starts_with("No socket listens")));
        assert_eq!(meaning("OVS_LAST_ACTION"), None);
    }
}
