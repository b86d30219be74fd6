/* SPDX-License-Identifier: MIT */
/*
 * Tier 1b: psc as the first and the last hook of netfilter's own list (6.4 and later, opt-in). Seen
 * after and not before means nothing; seen before and not after, a hook between kept the packet.
 */
#ifndef PSC_NETFILTER_H
#define PSC_NETFILTER_H

#define NF_ACCEPT 1

static __always_inline int netfilter_event(struct bpf_nf_ctx *ctx, __u8 probe, __u64 priority)
{
	struct psc_record rec = {};
	struct sk_buff *skb = ctx->skb;
	struct net_device *dev;
	struct here here;
	struct sock *sk;

	if (config.empty || !find_here(&here))
		return NF_ACCEPT;
	dev = late_device(skb);
	if (dev)
		put_device(&rec, dev);
	sk = skb->sk;
	if (sk && is_inet(sk)) {
		rec.sock = (__u64)sk;
		if (!dev)
			rec.netns = netns_of(sk->__sk_common.skc_net.net);
	}
	if (config.filtering) {
		int before = decided(skb, rec.ifindex);

		if (before == 1 || !passes_filter(rec.netns, rec.ifindex)) {
			__sync_fetch_and_add(&here.cpu->filtered, 1);
			return NF_ACCEPT;
		}
		if (before == 2) {
			__sync_fetch_and_add(&here.cpu->shed, 1);
			return NF_ACCEPT;
		}
	}
	rec.head.type = PSC_HOOK;
	rec.head.probe = probe;
	rec.skb = (__u64)skb;
	rec.len = skb->len;
	rec.iif = skb->skb_iif;
	rec.context = PSC_CONTEXT_UNKNOWN;
	rec.arg[0] = ctx->state->pf | ctx->state->hook << 8;
	rec.arg[1] = priority;
	submit_plain(&here, &rec);
	return NF_ACCEPT;
}

SEC("netfilter")
int on_netfilter_first(struct bpf_nf_ctx *ctx)
{
	return netfilter_event(ctx, PROBE_NETFILTER_FIRST, (__u32)PSC_HOOK_FIRST);
}

SEC("netfilter")
int on_netfilter_last(struct bpf_nf_ctx *ctx)
{
	return netfilter_event(ctx, PROBE_NETFILTER_LAST, PSC_HOOK_LAST);
}

#endif
