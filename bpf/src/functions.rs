//! The functions of the stack that tier 2 probes: the one place that says what each is for.
//!
//! A row is a function of the kernel, its layer, which of its arguments are the packet and the socket, and what
//! its return value means. Names, arguments and return values are those of Linux 6.1 to 6.18; a kernel that
//! lacks a function, or has inlined it, leaves a line in the manifest. Functions that are entered where tier 1
//! has a tracepoint anyway (`netif_rx`, `napi_gro_receive`...) are left out.

use psc_formats::function::{Argument, Meaning};
use psc_formats::manifest::Layer;

/// What a function does to skbs besides handling one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Lineage {
    /// Nothing.
    #[default]
    None = 0,
    /// Returns a clone.
    Clone = 1,
    /// Returns a copy.
    Copy = 2,
    /// Returns a list of segments.
    Segment = 3,
    /// Merges the skb into another argument, when it returns 0.
    Merge = 4,
    /// Returns a fragment.
    Fragment = 5,
    /// Takes a fragment out of an iterator argument.
    FragmentList = 6,
    /// Has made one skb of the fragments that hang on it.
    Reassemble = 7,
}

/// One function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) layer: Layer,
    /// Which argument is the skb, from 1.
    pub(crate) skb: u8,
    /// Which argument is the socket; 0 for none.
    pub(crate) sock: u8,
    /// What to read of the arguments besides, and of which one.
    pub(crate) argument: (Argument, u8),
    /// What the return value means; `None` leaves the return alone, which halves the cost.
    pub(crate) returns: Option<Meaning>,
    pub(crate) lineage: Lineage,
    /// The other skb's argument, for [`Lineage::Merge`] and [`Lineage::FragmentList`].
    pub(crate) other: u8,
}

impl Function {
    /// What the program needs to know, as wire.h lays it out.
    pub(crate) fn cookie(&self, probe: u8) -> u64 {
        let returns = self.returns.is_some() || self.reads_return();
        u64::from(probe)
            | u64::from(self.skb) << 8
            | u64::from(self.sock) << 12
            | u64::from(self.argument.1) << 16
            | u64::from(self.argument.0 as u8) << 20
            | u64::from(self.lineage as u8) << 24
            | u64::from(self.other) << 28
            | u64::from(returns) << 32
    }

    /// Whether what it does shows only when it has returned.
    pub(crate) fn reads_return(&self) -> bool {
        !matches!(self.lineage, Lineage::None | Lineage::FragmentList)
    }

    /// Whether its return is probed.
    pub(crate) fn probes_return(&self) -> bool {
        self.returns.is_some() || self.reads_return()
    }
}

const fn plain(name: &'static str, layer: Layer, skb: u8, returns: Option<Meaning>) -> Function {
    Function {
        name,
        layer,
        skb,
        sock: 0,
        argument: (Argument::None, 0),
        returns,
        lineage: Lineage::None,
        other: 0,
    }
}

const fn of_sock(
    name: &'static str,
    layer: Layer,
    sock: u8,
    skb: u8,
    returns: Option<Meaning>,
) -> Function {
    Function { sock, ..plain(name, layer, skb, returns) }
}

const fn with(
    name: &'static str,
    layer: Layer,
    skb: u8,
    argument: (Argument, u8),
    returns: Option<Meaning>,
) -> Function {
    Function { argument, ..plain(name, layer, skb, returns) }
}

const fn makes(name: &'static str, layer: Layer, skb: u8, lineage: Lineage, other: u8) -> Function {
    Function { lineage, other, ..plain(name, layer, skb, None) }
}

use Argument::{Bytes, Chain, NetfilterHook, Protocol};
use Layer::{Driver, Link, Network, Qdisc, Socket, Transport, User};
use Meaning::{
    DropReason, Errno, Gro, HookResult, Nothing, Receive, Resubmit, Tc, Transmit, Truth, Verdict,
    Xdp,
};

const NOT: Option<Meaning> = None;

/// Every function; its probe's number follows those of tier 1.
#[rustfmt::skip]
pub(crate) const FUNCTIONS: &[Function] = &[
    // Driver, NAPI, XDP on skbs.
    plain("dev_gro_receive",              Link,      2, Some(Gro)),
    plain("napi_gro_complete",            Link,      2, NOT),
    plain("bpf_prog_run_generic_xdp",     Driver,    1, Some(Xdp)),
    plain("veth_xmit",                    Driver,    1, NOT),
    plain("loopback_xmit",                Driver,    1, NOT),
    plain("__dev_forward_skb",            Link,      2, NOT),
    plain("enqueue_to_backlog",           Link,      1, Some(Receive)),
    plain("skb_do_redirect",              Link,      1, Some(Errno)),
    // Traffic control and queueing disciplines.
    plain("tcf_classify",                 Qdisc,     1, Some(Tc)),
    plain("sch_direct_xmit",              Qdisc,     1, NOT),
    plain("pfifo_fast_enqueue",           Qdisc,     1, Some(Transmit)),
    plain("fq_codel_enqueue",             Qdisc,     1, Some(Transmit)),
    plain("fq_enqueue",                   Qdisc,     1, Some(Transmit)),
    plain("cake_enqueue",                 Qdisc,     1, Some(Transmit)),
    plain("tbf_enqueue",                  Qdisc,     1, Some(Transmit)),
    plain("htb_enqueue",                  Qdisc,     1, Some(Transmit)),
    plain("netem_enqueue",                Qdisc,     1, Some(Transmit)),
    plain("__dev_queue_xmit",             Link,      1, Some(Transmit)),
    plain("dev_hard_start_xmit",          Driver,    1, NOT),
    plain("validate_xmit_skb",            Link,      1, NOT),
    // Bridge.
    plain("br_handle_frame_finish",       Link,      3, NOT),
    plain("br_forward",                   Link,      2, NOT),
    plain("br_dev_xmit",                  Link,      1, NOT),
    plain("br_dev_queue_push_xmit",       Link,      3, NOT),
    plain("br_pass_frame_up",             Link,      1, NOT),
    plain("br_nf_pre_routing",            Link,      2, Some(Verdict)),
    // Netfilter, conntrack, NAT.
    with("nf_hook_slow",                  Network,   1, (NetfilterHook, 2), Some(HookResult)),
    with("nft_do_chain",                  Network,   1, (Chain, 2), Some(Verdict)),
    with("ipt_do_table",                  Network,   2, (Chain, 1), Some(Verdict)),
    with("ip6t_do_table",                 Network,   2, (Chain, 1), Some(Verdict)),
    with("nf_conntrack_in",               Network,   1, (NetfilterHook, 2), Some(Verdict)),
    plain("nf_confirm",                   Network,   2, Some(Verdict)),
    plain("__nf_conntrack_confirm",       Network,   1, Some(Verdict)),
    with("nf_nat_inet_fn",                Network,   2, (NetfilterHook, 3), Some(Verdict)),
    plain("nf_nat_manip_pkt",             Network,   1, Some(Verdict)),
    plain("nf_nat_packet",                Network,   4, Some(Verdict)),
    plain("synproxy_send_client_synack",  Network,   2, NOT),
    // IPv4: receive, route, forward, local delivery.
    plain("ip_rcv",                       Network,   1, NOT),
    plain("ip_rcv_finish",                Network,   3, Some(Receive)),
    plain("ip_route_input_slow",          Network,   1, NOT),
    plain("fib_validate_source",          Network,   1, Some(Errno)),
    plain("ip_forward",                   Network,   1, Some(Receive)),
    plain("ip_forward_finish",            Network,   3, NOT),
    plain("ip_local_deliver",             Network,   1, NOT),
    with("ip_protocol_deliver_rcu",       Network,   2, (Protocol, 3), NOT),
    plain("ip_mr_input",                  Network,   1, NOT),
    plain("ip_options_rcv_srr",           Network,   1, Some(Errno)),
    // IPv4: output.
    of_sock("__ip_queue_xmit",            Network,   1, 2, Some(Transmit)),
    of_sock("ip_build_and_send_pkt",      Network,   2, 1, Some(Transmit)),
    plain("ip_send_skb",                  Network,   2, Some(Errno)),
    of_sock("__ip_local_out",             Network,   2, 3, NOT),
    of_sock("ip_output",                  Network,   2, 3, NOT),
    of_sock("ip_mc_output",               Network,   2, 3, NOT),
    of_sock("ip_finish_output2",          Network,   2, 3, NOT),
    // IPv6.
    plain("ipv6_rcv",                     Network,   1, NOT),
    plain("ip6_rcv_finish",               Network,   3, Some(Receive)),
    plain("ip6_route_input",              Network,   1, NOT),
    plain("ip6_forward",                  Network,   1, Some(Errno)),
    plain("ip6_input",                    Network,   1, NOT),
    with("ip6_protocol_deliver_rcu",      Network,   2, (Protocol, 3), NOT),
    of_sock("ip6_xmit",                   Network,   1, 2, NOT),
    of_sock("__ip6_local_out",            Network,   2, 3, NOT),
    of_sock("ip6_output",                 Network,   2, 3, NOT),
    of_sock("ip6_finish_output2",         Network,   2, 3, NOT),
    // Fragments.
    plain("ip_defrag",                    Network,   2, Some(Errno)),
    plain("ipv6_frag_rcv",                Network,   1, NOT),
    plain("nf_ct_frag6_gather",           Network,   2, Some(Errno)),
    of_sock("ip_do_fragment",             Network,   2, 3, Some(Errno)),
    of_sock("ip6_fragment",               Network,   2, 3, Some(Errno)),
    makes("ip_frag_next",                 Network,   1, Lineage::Fragment, 0),
    makes("ip6_frag_next",                Network,   1, Lineage::Fragment, 0),
    makes("ip_fraglist_prepare",          Network,   1, Lineage::FragmentList, 2),
    makes("ip6_fraglist_prepare",         Network,   1, Lineage::FragmentList, 2),
    makes("inet_frag_reasm_finish",       Network,   2, Lineage::Reassemble, 0),
    // Neighbours.
    plain("neigh_resolve_output",         Link,      2, Some(Errno)),
    plain("neigh_connected_output",       Link,      2, NOT),
    plain("arp_rcv",                      Link,      1, NOT),
    plain("ndisc_rcv",                    Network,   1, NOT),
    // ICMP.
    plain("icmp_rcv",                     Network,   1, NOT),
    plain("icmp_unreach",                 Network,   1, Some(DropReason)),
    plain("icmp_redirect",                Network,   1, Some(DropReason)),
    plain("icmpv6_rcv",                   Network,   1, NOT),
    plain("ping_rcv",                     Transport, 1, NOT),
    plain("raw_local_deliver",            Transport, 1, Some(Truth)),
    // UDP.
    plain("udp_send_skb",                 Transport, 1, Some(Errno)),
    plain("udp_v6_send_skb",              Transport, 1, Some(Errno)),
    with("__udp4_lib_rcv",                Transport, 1, (Protocol, 3), Some(Resubmit)),
    with("__udp6_lib_rcv",                Transport, 1, (Protocol, 3), Some(Resubmit)),
    of_sock("udp_queue_rcv_one_skb",      Transport, 1, 2, Some(Resubmit)),
    of_sock("udpv6_queue_rcv_one_skb",    Transport, 1, 2, Some(Resubmit)),
    of_sock("__udp_enqueue_schedule_skb", Socket,    1, 2, Some(Errno)),
    of_sock("skb_consume_udp",            Socket,    1, 2, NOT),
    // TCP.
    of_sock("__tcp_transmit_skb",         Transport, 1, 2, Some(Transmit)),
    plain("tcp_v4_rcv",                   Transport, 1, Some(Nothing)),
    plain("tcp_v6_rcv",                   Transport, 1, Some(Nothing)),
    of_sock("tcp_v4_do_rcv",              Transport, 1, 2, NOT),
    of_sock("tcp_v6_do_rcv",              Transport, 1, 2, NOT),
    of_sock("tcp_rcv_established",        Transport, 1, 2, Some(Nothing)),
    of_sock("tcp_rcv_state_process",      Transport, 1, 2, Some(DropReason)),
    of_sock("tcp_conn_request",           Transport, 3, 4, NOT),
    of_sock("tcp_validate_incoming",      Transport, 1, 2, Some(Truth)),
    of_sock("tcp_data_queue",             Transport, 1, 2, NOT),
    of_sock("tcp_add_backlog",            Transport, 1, 2, Some(Truth)),
    of_sock("tcp_queue_rcv",              Socket,    1, 2, NOT),
    // Sockets.
    of_sock("sk_filter_trim_cap",         Socket,    1, 2, Some(Errno)),
    of_sock("__sock_queue_rcv_skb",       Socket,    1, 2, Some(Errno)),
    with("skb_copy_datagram_iter",        User,      1, (Bytes, 4), Some(Errno)),
    plain("packet_rcv",                   Socket,    1, NOT),
    plain("tpacket_rcv",                  Socket,    1, NOT),
    // Tunnels and stacked devices.
    plain("vlan_dev_hard_start_xmit",     Driver,    1, NOT),
    plain("vxlan_xmit",                   Driver,    1, NOT),
    of_sock("vxlan_rcv",                  Driver,    1, 2, NOT),
    plain("geneve_xmit",                  Driver,    1, NOT),
    plain("ipgre_xmit",                   Driver,    1, NOT),
    plain("gre_rcv",                      Network,   1, NOT),
    plain("ipip_tunnel_xmit",             Driver,    1, NOT),
    plain("ipip_rcv",                     Network,   1, NOT),
    plain("sit_tunnel_xmit",              Driver,    1, NOT),
    plain("ip6_tnl_start_xmit",           Driver,    1, NOT),
    plain("ip_tunnel_xmit",               Network,   1, NOT),
    plain("ip_tunnel_rcv",                Network,   2, NOT),
    of_sock("iptunnel_xmit",              Network,   1, 3, NOT),
    of_sock("xfrm_output",                Network,   1, 2, Some(Errno)),
    plain("xfrm_input",                   Network,   1, NOT),
    // One skb becomes several, or several one.
    makes("skb_clone",                    Network,   1, Lineage::Clone, 0),
    makes("skb_copy",                     Network,   1, Lineage::Copy, 0),
    makes("__pskb_copy_fclone",           Network,   1, Lineage::Copy, 0),
    makes("skb_copy_expand",              Network,   1, Lineage::Copy, 0),
    makes("__skb_gso_segment",            Link,      1, Lineage::Segment, 0),
    makes("skb_gro_receive",              Link,      2, Lineage::Merge, 1),
    makes("skb_gro_receive_list",         Link,      2, Lineage::Merge, 1),
];

/// Whether a symbol of the kernel is `name`, or what the compiler made of it: `.isra.0` (arguments taken apart),
/// `.constprop.0` (called with constants), `.part.0` (its cold half) are others. Only the first two still
/// are entered where the function is, and only with `.constprop` are the arguments surely where they were.
pub(crate) fn is_variant(symbol: &str, name: &str) -> bool {
    symbol.strip_prefix(name).is_some_and(|rest| {
        rest.strip_prefix(".constprop.").is_some_and(|number| number.parse::<u32>().is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_each_function_once_and_sanely() {
        let mut names: Vec<_> = FUNCTIONS.iter().map(|function| function.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
        for function in FUNCTIONS {
            let name = function.name;
            assert!((1..=6).contains(&function.skb) && function.sock <= 6, "{name}");
            assert_ne!(function.skb, function.sock, "{name}");
            assert!(function.lineage == Lineage::None || function.returns.is_none(), "{name}");
            let needs_other = matches!(function.lineage, Lineage::Merge | Lineage::FragmentList);
            assert_eq!(function.other > 0, needs_other, "{name}");
        }
    }

    #[test]
    fn every_layer_is_covered() {
        for layer in [Driver, Qdisc, Link, Network, Transport, Socket, User] {
            assert!(FUNCTIONS.iter().any(|function| function.layer == layer), "{layer:?}");
        }
    }

    #[test]
    fn only_what_is_entered_with_the_same_arguments_is_the_function() {
        let cases = [
            ("ip_rcv", "ip_rcv", false),
            ("tcp_ack.constprop.0", "tcp_ack", true),
            ("tcp_ack.isra.0", "tcp_ack", false),
            ("tcp_ack.part.0", "tcp_ack", false),
            ("tcp_ack.cold", "tcp_ack", false),
            ("tcp_ack_probe.constprop.0", "tcp_ack", false),
        ];
        for (symbol, name, is) in cases {
            assert_eq!(is_variant(symbol, name), is, "{symbol}");
        }
    }
}
