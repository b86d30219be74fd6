//! Which layer a kernel function belongs to, by the names the kernel gives its functions.

use psc_formats::manifest::Layer;

/// Longest prefix wins, so an exception is simply a longer entry.
#[rustfmt::skip]
const PREFIXES: &[(&str, Layer)] = &[
    ("__dev_queue_xmit", Layer::Link),
    ("__dev_forward_skb", Layer::Link),
    ("__napi", Layer::Driver),
    ("__netif_", Layer::Link),
    ("__neigh", Layer::Link),
    ("__icmp", Layer::Network),
    ("__ip", Layer::Network),
    ("__nf", Layer::Network),
    ("__qdisc", Layer::Qdisc),
    ("__sk", Layer::Socket),
    ("__skb_recv", Layer::Socket),
    ("__sock", Layer::Socket),
    ("__sys_", Layer::User),
    ("__tcp", Layer::Transport),
    ("__udp", Layer::Transport),
    ("__x64_sys", Layer::User),
    ("__arm64_sys", Layer::User),
    ("arp_", Layer::Link),
    ("br_", Layer::Link),
    ("cake_", Layer::Qdisc),
    ("codel_", Layer::Qdisc),
    ("dev_", Layer::Link),
    ("dev_hard_start_xmit", Layer::Driver),
    ("do_tcp", Layer::Transport),
    ("do_xdp", Layer::Driver),
    ("enqueue_to_backlog", Layer::Link),
    ("fib", Layer::Network),
    ("fq_", Layer::Qdisc),
    ("gro_", Layer::Link),
    ("htb_", Layer::Qdisc),
    ("icmp", Layer::Network),
    ("igmp", Layer::Network),
    ("inet_csk", Layer::Transport),
    ("inet_recvmsg", Layer::Socket),
    ("inet_sendmsg", Layer::Socket),
    ("inet6_recvmsg", Layer::Socket),
    ("inet6_sendmsg", Layer::Socket),
    ("ip", Layer::Network),
    ("loopback_xmit", Layer::Driver),
    ("mld_", Layer::Network),
    ("napi_", Layer::Driver),
    ("napi_gro", Layer::Link),
    ("ndisc", Layer::Network),
    ("neigh", Layer::Link),
    ("net_rx_action", Layer::Driver),
    ("net_tx_action", Layer::Driver),
    ("netem_", Layer::Qdisc),
    ("netif_", Layer::Link),
    ("nf_", Layer::Network),
    ("nft_", Layer::Network),
    ("packet_", Layer::Socket),
    ("pfifo_", Layer::Qdisc),
    ("bfifo_", Layer::Qdisc),
    ("ping_", Layer::Transport),
    ("process_backlog", Layer::Link),
    ("qdisc_", Layer::Qdisc),
    ("raw_", Layer::Transport),
    ("rawv6_", Layer::Transport),
    ("sch_", Layer::Qdisc),
    ("sctp_", Layer::Transport),
    ("sfq_", Layer::Qdisc),
    ("sk_", Layer::Socket),
    ("sk_stream", Layer::Transport),
    ("skb_copy_datagram", Layer::Socket),
    ("skb_defer_free", Layer::Socket),
    ("skb_queue_purge", Layer::Socket),
    ("sock", Layer::Socket),
    ("tbf_", Layer::Qdisc),
    ("tcf_", Layer::Qdisc),
    ("tcp", Layer::Transport),
    ("tun_", Layer::Driver),
    ("udp", Layer::Transport),
    ("unix_", Layer::Socket),
    ("validate_xmit_skb", Layer::Link),
    ("veth_", Layer::Driver),
    ("virtnet_", Layer::Driver),
    ("vxlan_", Layer::Driver),
];

/// The layer of a kernel function; `None` for one that no entry names.
pub fn of_function(name: &str) -> Option<Layer> {
    PREFIXES
        .iter()
        .filter(|(prefix, _)| name.starts_with(prefix))
        .max_by_key(|(prefix, _)| prefix.len())
        .map(|(_, layer)| *layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_decides() {
        #[rustfmt::skip]
        let cases = [
            ("tcp_v4_rcv",            Some(Layer::Transport)),
            ("ip_rcv_core",           Some(Layer::Network)),
            ("ip6_forward",           Some(Layer::Network)),
            ("__udp4_lib_rcv",        Some(Layer::Transport)),
            ("nft_do_chain",          Some(Layer::Network)),
            ("dev_hard_start_xmit",   Some(Layer::Driver)),
            ("dev_queue_xmit",        Some(Layer::Link)),
            ("napi_gro_receive",      Some(Layer::Link)),
            ("sock_queue_rcv_skb",    Some(Layer::Socket)),
            ("kthread",               None),
        ];
        for (name, layer) in cases {
            assert_eq!(of_function(name), layer, "{name}");
        }
    }
}
