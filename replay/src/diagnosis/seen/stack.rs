//! Where in the stack a packet was, told by the kernel functions that called.

use psc_formats::Tables;
use psc_formats::event::StackId;

/// The hook at which netfilter (or a tc or XDP program) gave its verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::diagnosis) enum Hook {
    /// No stack, or none of these.
    #[default]
    Unknown,
    Ingress,
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
    Egress,
    ArpInput,
    ArpOutput,
    Bridge,
}

impl Hook {
    pub(in crate::diagnosis) fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ingress => "ingress",
            Self::Prerouting => "prerouting",
            Self::Input | Self::ArpInput => "input",
            Self::Forward => "forward",
            Self::Output | Self::ArpOutput => "output",
            Self::Postrouting => "postrouting",
            Self::Egress => "egress",
            Self::Bridge => "bridge",
        }
    }
}

/// Callers of `nf_hook_slow` and the hook each calls it for (`NF_HOOK` in `net/ipv4`, `net/ipv6`,
/// `net/bridge`, `net/core/dev.c`).
#[rustfmt::skip]
const CALLERS: &[(&str, Hook)] = &[
    ("ip_local_deliver", Hook::Input),
    ("ip_rcv", Hook::Prerouting),
    ("ip_forward", Hook::Forward),
    ("__ip_local_out", Hook::Output),
    ("raw_send_hdrinc", Hook::Output),
    ("ip_output", Hook::Postrouting),
    ("ip_mc_output", Hook::Postrouting),
    ("ip6_input", Hook::Input),
    ("ip6_mc_input", Hook::Input),
    ("ipv6_rcv", Hook::Prerouting),
    ("ip6_forward", Hook::Forward),
    ("__ip6_local_out", Hook::Output),
    ("ip6_xmit", Hook::Output),
    ("rawv6_send_hdrinc", Hook::Output),
    ("mld_sendpack", Hook::Output),
    ("ndisc_send_skb", Hook::Output),
    ("ip6_output", Hook::Postrouting),
    ("arp_rcv", Hook::ArpInput),
    ("arp_xmit", Hook::ArpOutput),
    ("__netif_receive_skb_core", Hook::Ingress),
    ("__dev_queue_xmit", Hook::Egress),
];

/// The hook of a stack: the first function after `nf_hook_slow` that is known to call it.
pub(super) fn hook(tables: &Tables, stack: StackId) -> Hook {
    let Some(fact) = tables.stacks.get(&stack) else { return Hook::Unknown };
    let name = |frame: &u32| tables.function(psc_formats::event::SymbolId(*frame));
    let mut frames =
        fact.frames.iter().skip_while(|frame| !name(frame).starts_with("nf_hook_slow"));
    frames.next();
    for frame in frames.take(4) {
        // The compiler's clones (`.constprop.0`) are the same function.
        let function = name(frame).split('.').next().unwrap_or_default();
        if let Some((_, hook)) = CALLERS.iter().find(|(caller, _)| *caller == function) {
            return *hook;
        }
        if function.starts_with("br_") {
            return Hook::Bridge;
        }
    }
    Hook::Unknown
}

/// Whether some function of a stack has this name.
pub(super) fn passes(tables: &Tables, stack: StackId, function: &str) -> bool {
    tables.stacks.get(&stack).is_some_and(|fact| {
        fact.frames
            .iter()
            .any(|frame| tables.function(psc_formats::event::SymbolId(*frame)) == function)
    })
}
