/* SPDX-License-Identifier: MIT */
/* The way of an skb: one function that every skb tracepoint goes through. */
#ifndef PSC_SKB_PATH_H
#define PSC_SKB_PATH_H

/* What a probe asks of skb_event(), known at compile time. */
struct ask {
	enum psc_probe probe;
	enum where where;
	/* Read headers: for content, and for bytes when they changed. */
	bool headers;
	/* The skb ends here; its cache entry is forgotten. */
	bool ends;
	bool discards;
};

static __always_inline __u32 path_key(const struct psc_record *rec, struct sk_buff *skb,
				      struct sock *sk, __u8 protocol, __u64 location)
{
	__u32 key = mix(rec->head.probe, (__u32)location);
	__u32 kind = skb ? skb->protocol : 0;

	/* Whose packet, which way, how big: what decides the callers most often. */
	key = mix(key, rec->ifindex);
	key = mix(key, rec->netns);
	kind |= (rec->iif != 0) << 16;
	kind |= (rec->len <= 128) << 17;
	kind |= (rec->gso_size != 0) << 18;
	kind |= (sk != NULL) << 19;
	key = mix(key, kind);
	key = mix(key, protocol | (sk ? sk->__sk_common.skc_state << 8 : 0) |
			       (sk ? sk->__sk_common.skc_family << 16 : 0));
	if (rec->context >= PSC_CONTEXT_SOFTIRQ)
		key = mix(key, rec->context);
	else
		key = mix(key, syscall_number());
	return key ? key : 1;
}

static __always_inline int skb_event(void *ctx, const struct ask ask, struct sk_buff *skb,
				     struct sock *sk, struct net_device *other_dev,
				     struct psc_record *rec)
{
	struct net_device *dev;
	struct packet packet = {};
	struct here here;
	__u64 *slot, tag;
	bool bytes = false;

	if (!skb || !find_here(&here))
		return 0;
	rec->head.type = PSC_EVENT;
	rec->head.probe = ask.probe;

	dev = other_dev ? other_dev : ask.where == AT_ANY ? late_device(skb) : skb->dev;
	if (dev)
		put_device(rec, dev);
	if (!sk)
		sk = skb->sk;
	if (sk && !is_inet(sk)) {
		__u16 family = sk->__sk_common.skc_family;

		/* Unix and netlink sockets use skbs too; they are no packets of the network. */
		if (!dev && family != 17 /* AF_PACKET */)
			return 0;
		sk = NULL;
	}
	if (!dev && !sk && !skb->protocol)
		return 0;

	slot = skb_slot(skb, &tag);
	if (!slot)
		return 0;
	if (ask.headers || config.bytes_always)
		find_packet(&packet, skb, dev, ask.where, config.filtering);
	if (config.filtering) {
		bool known = (*slot & 0xffffffff00000000ULL) == tag;
		bool out = known && (__u32)*slot == SKB_EXCLUDED;

		if (rec->ifindex || packet.tuple.family)
			out = !passes_filter(rec->netns, rec->ifindex) ||
			      is_excluded(&packet.tuple);
		if (out) {
			__sync_fetch_and_add(&here.cpu->filtered, 1);
			*slot = ask.ends ? 0 : tag | SKB_EXCLUDED;
			return 0;
		}
	}
	rec->skb = (__u64)skb;
	rec->len = skb->len;
	rec->iif = skb->skb_iif;
	rec->content = packet.content;
	put_gso(rec, skb);
	rec->context = context_here(&here);
	if (sk)
		put_sock(&here, rec, sk, false);

	if (ask.ends) {
		if (*slot == (tag | packet.headers) || !packet.content)
			bytes = false;
		else
			bytes = true;
		*slot = 0;
	} else if (packet.content && *slot != (tag | packet.headers)) {
		bytes = true;
		*slot = tag | packet.headers;
	}
	put_stack(ctx, &here, rec, path_key(rec, skb, sk, packet.protocol, rec->arg[1]),
		  ask.discards);
	if ((bytes || config.bytes_always) && packet.start && config.snaplen) {
		__u32 caplen = packet.pktlen;

		if (caplen > packet.linear)
			caplen = packet.linear;
		if (caplen > config.snaplen)
			caplen = config.snaplen;
		rec->caplen = caplen;
		rec->pktlen = packet.pktlen;
		rec->link = packet.link;
		submit_bytes(&here, rec, packet.start);
		return 0;
	}
	submit_plain(&here, rec);
	return 0;
}

#define ASK(...) ((const struct ask){ __VA_ARGS__ })

SEC("tp_btf/netif_rx")
int BPF_PROG(on_netif_rx, struct sk_buff *skb)
{
	struct psc_record rec = {};

	if (config.empty)
		return 0;
	return skb_event(ctx, ASK(PROBE_NETIF_RX, AT_NETWORK, .headers = true), skb, NULL, NULL,
			 &rec);
}

SEC("tp_btf/netif_receive_skb")
int BPF_PROG(on_netif_receive_skb, struct sk_buff *skb)
{
	struct psc_record rec = {};

	if (config.empty)
		return 0;
	return skb_event(ctx, ASK(PROBE_NETIF_RECEIVE_SKB, AT_NETWORK, .headers = true), skb, NULL,
			 NULL, &rec);
}

SEC("tp_btf/net_dev_queue")
int BPF_PROG(on_net_dev_queue, struct sk_buff *skb)
{
	struct psc_record rec = {};

	if (config.empty)
		return 0;
	return skb_event(ctx, ASK(PROBE_NET_DEV_QUEUE, AT_LINK, .headers = true), skb, NULL, NULL,
			 &rec);
}

SEC("tp_btf/net_dev_start_xmit")
int BPF_PROG(on_net_dev_start_xmit, struct sk_buff *skb, struct net_device *dev)
{
	struct psc_record rec = {};

	if (config.empty)
		return 0;
	return skb_event(ctx, ASK(PROBE_NET_DEV_START_XMIT, AT_LINK), skb, NULL, dev, &rec);
}

SEC("tp_btf/kfree_skb")
int BPF_PROG(on_kfree_skb, struct sk_buff *skb, void *location, int reason)
{
	struct psc_record rec = {};
	struct sock *sk = NULL;

	if (config.empty)
		return 0;
	rec.arg[0] = (__u32)reason;
	rec.arg[1] = (__u64)location;
	if (config.free_has_socket)
		sk = (struct sock *)ctx[3];
	return skb_event(ctx,
			 ASK(PROBE_KFREE_SKB, AT_ANY, .headers = true, .ends = true,
			     .discards = true),
			 skb, sk, NULL, &rec);
}

SEC("tp_btf/consume_skb")
int BPF_PROG(on_consume_skb, struct sk_buff *skb)
{
	struct psc_record rec = {};

	if (config.empty)
		return 0;
	if (config.consume_has_location)
		rec.arg[1] = ctx[1];
	return skb_event(ctx, ASK(PROBE_CONSUME_SKB, AT_ANY, .headers = true, .ends = true), skb,
			 NULL, NULL, &rec);
}

#endif
