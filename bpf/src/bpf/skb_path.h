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
	/* The skb may be gone: read nothing of it. */
	bool address_only;
};

/*
 * How deep this CPU's stack is, as a number: callers that differ leave different depths. It goes
 * through a map because only memory turns a pointer into a number for the verifier. In softirq the
 * depth is the callers' alone: softirqs start at the top of a stack of their own. A system call
 * starts at a random offset on many kernels, so tasks are told apart by its number instead.
 */
static __always_inline __u32 stack_depth(void *ctx, const struct here *here)
{
	volatile __u64 *depth = &here->cpu->depth;

	*depth = (__u64)ctx;
	return *depth & 0x3fff;
}

static __always_inline __u32 path_key(void *ctx, const struct here *here,
				      const struct psc_record *rec, struct sk_buff *skb,
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
		key = mix(key, rec->context ^ stack_depth(ctx, here));
	else
		key = mix(key, syscall_number());
	return key ? key : 1;
}

/* Whether the filter leaves this skb out; what it decides at a device holds for later probes. */
static __always_inline bool filtered_out(const struct here *here, const struct psc_record *rec,
					 const struct packet *packet, __u64 *slot, __u64 tag,
					 bool ends, bool answers)
{
	bool shed = *slot == (tag | SKB_SHED), excluded = *slot == (tag | SKB_EXCLUDED);
	bool elsewhere = *slot == (tag | SKB_ELSEWHERE);
	bool known = (*slot & 0xffffffff00000000ULL) == tag;

	/* Each device decides for itself: while it is sent, a veth's skb arrives at a far side that may
	 * be left out, and the driver's answer is still of this side. */
	if (rec->ifindex) {
		elsewhere = !passes_filter(rec->netns, rec->ifindex);
		excluded = is_excluded(&packet->tuple) || (excluded && !packet->tuple.family);
	} else if (!known) {
		elsewhere = !passes_filter(rec->netns, 0);
		excluded = is_excluded(&packet->tuple);
	}
	if (!elsewhere && !excluded) {
		/* What an event without headers belongs to was decided at one that had them. */
		if (packet->tuple.family)
			shed = is_shed(&packet->tuple);
		if (!shed)
			return false;
		__sync_fetch_and_add(&here->cpu->shed, 1);
		*slot = ends ? 0 : tag | SKB_SHED;
		return true;
	}
	__sync_fetch_and_add(&here->cpu->filtered, 1);
	/* The driver's answer comes after the far side of a veth has taken the skb in. */
	if (!answers)
		*slot = ends ? 0 : tag | (excluded ? SKB_EXCLUDED : SKB_ELSEWHERE);
	return true;
}

static __always_inline int skb_event(void *ctx, const struct ask ask, struct sk_buff *skb,
				     struct sock *sk, struct net_device *other_dev,
				     struct psc_record *rec)
{
	bool headers = ask.headers || (config.bytes_always && !ask.address_only);
	struct net_device *dev;
	struct packet packet = {};
	struct here here;
	__u64 *slot, tag;
	bool bytes = false;
	__u32 key;

	if (config.empty || !skb || !find_here(&here))
		return 0;
	rec->head.type = PSC_EVENT;
	rec->head.probe = ask.probe;

	dev = other_dev ? other_dev : ask.where == AT_ANY ? late_device(skb) : skb->dev;
	if (dev)
		put_device(rec, dev);
	if (!sk && !ask.address_only)
		sk = skb->sk;
	if (sk && !is_inet(sk)) {
		__u16 family = sk->__sk_common.skc_family;

		/* Unix and netlink sockets use skbs too; they are no packets of the network. */
		if (!dev && family != AF_PACKET)
			return 0;
		sk = NULL;
	}
	if (!dev && !sk && !skb->protocol)
		return 0;
	if (!dev && sk)
		rec->netns = netns_of(sk->__sk_common.skc_net.net);

	slot = skb_slot(skb, &tag);
	if (!slot)
		return 0;
	if (headers)
		find_packet(&packet, skb, dev, ask.where, config.filtering);
	if (config.filtering && filtered_out(&here, rec, &packet, slot, tag, ask.ends,
					     ask.probe == PROBE_NET_DEV_XMIT))
		return 0;
	rec->skb = (__u64)skb;
	if (!ask.address_only) {
		rec->len = skb->len;
		rec->iif = skb->skb_iif;
		rec->content = packet.content;
		put_gso(rec, skb);
	}
	if (packet.content && *slot != (tag | packet.headers))
		bytes = true;
	if (ask.ends)
		*slot = 0;
	else if (bytes)
		*slot = tag | packet.headers;
	if (ask.discards && config.aggregate_over && aggregated(&here, rec))
		return 0;
	rec->context = context_here(&here);
	if (sk)
		put_sock(&here, rec, sk, false);
	key = path_key(ctx, &here, rec, ask.address_only ? NULL : skb, sk, packet.protocol, rec->arg[1]);
	/* The driver's answer says nothing of the packet, but comes back to where it was sent. */
	if (ask.probe == PROBE_NET_DEV_START_XMIT)
		here.cpu->sending = key;
	if (ask.probe == PROBE_NET_DEV_XMIT)
		key = mix(key, here.cpu->sending) ?: 1;
	put_stack(ctx, &here, rec, key, ask.discards);
	if ((bytes || config.bytes_always) && packet.start && config.snaplen) {
		__u32 caplen = packet.pktlen;

		if (caplen > config.snaplen)
			caplen = config.snaplen;
		rec->pktlen = packet.pktlen;
		rec->link = packet.link;
		if (config.paged && caplen > packet.linear) {
			rec->caplen = caplen;
			submit_paged(&here, rec, skb, &packet);
			return 0;
		}
		rec->caplen = caplen > packet.linear ? packet.linear : caplen;
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

	return skb_event(ctx, ASK(PROBE_NETIF_RX, AT_NETWORK, .headers = true), skb, NULL, NULL,
			 &rec);
}

SEC("tp_btf/napi_gro_receive_entry")
int BPF_PROG(on_napi_gro_receive_entry, struct sk_buff *skb)
{
	struct psc_record rec = {};

	return skb_event(ctx, ASK(PROBE_GRO_RECEIVE, AT_NETWORK, .headers = true), skb, NULL, NULL,
			 &rec);
}

SEC("tp_btf/napi_gro_frags_entry")
int BPF_PROG(on_napi_gro_frags_entry, struct sk_buff *skb)
{
	struct psc_record rec = {};

	return skb_event(ctx, ASK(PROBE_GRO_FRAGS, AT_NETWORK, .headers = true), skb, NULL, NULL,
			 &rec);
}

SEC("tp_btf/netif_receive_skb")
int BPF_PROG(on_netif_receive_skb, struct sk_buff *skb)
{
	struct psc_record rec = {};

	return skb_event(ctx, ASK(PROBE_NETIF_RECEIVE_SKB, AT_NETWORK, .headers = true), skb, NULL,
			 NULL, &rec);
}

SEC("tp_btf/net_dev_queue")
int BPF_PROG(on_net_dev_queue, struct sk_buff *skb)
{
	struct psc_record rec = {};

	return skb_event(ctx, ASK(PROBE_NET_DEV_QUEUE, AT_LINK, .headers = true), skb, NULL, NULL,
			 &rec);
}

SEC("tp_btf/net_dev_start_xmit")
int BPF_PROG(on_net_dev_start_xmit, struct sk_buff *skb, struct net_device *dev)
{
	struct psc_record rec = {};

	return skb_event(ctx, ASK(PROBE_NET_DEV_START_XMIT, AT_LINK), skb, NULL, dev, &rec);
}

/* The driver may have freed the skb: its address is all that is used of it. */
SEC("tp_btf/net_dev_xmit")
int BPF_PROG(on_net_dev_xmit, struct sk_buff *skb, int rc, struct net_device *dev,
	     unsigned int len)
{
	struct psc_record rec = {};

	rec.arg[0] = (__u32)rc;
	rec.len = len;
	return skb_event(ctx, ASK(PROBE_NET_DEV_XMIT, AT_LINK, .address_only = true), skb, NULL,
			 dev, &rec);
}

SEC("tp_btf/qdisc_enqueue")
int BPF_PROG(on_qdisc_enqueue, struct Qdisc *qdisc, struct netdev_queue *queue,
	     struct sk_buff *skb)
{
	struct psc_record rec = {};

	rec.arg[0] = qdisc->handle;
	return skb_event(ctx, ASK(PROBE_QDISC_ENQUEUE, AT_LINK), skb, NULL, queue->dev, &rec);
}

SEC("tp_btf/qdisc_dequeue")
int BPF_PROG(on_qdisc_dequeue, struct Qdisc *qdisc, struct netdev_queue *queue, int packets,
	     struct sk_buff *skb)
{
	struct psc_record rec = {};

	/* An empty queue polled: nothing left it. */
	if (!skb)
		return 0;
	rec.arg[0] = qdisc->handle | (__u64)(__u32)packets << 32;
	return skb_event(ctx, ASK(PROBE_QDISC_DEQUEUE, AT_LINK), skb, NULL, queue->dev, &rec);
}

SEC("tp_btf/kfree_skb")
int BPF_PROG(on_kfree_skb, struct sk_buff *skb, void *location, int reason)
{
	struct psc_record rec = {};
	struct sock *sk = NULL;

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

	if (config.consume_has_location)
		rec.arg[1] = ctx[1];
	return skb_event(ctx, ASK(PROBE_CONSUME_SKB, AT_ANY, .headers = true, .ends = true), skb,
			 NULL, NULL, &rec);
}

SEC("tp_btf/skb_copy_datagram_iovec")
int BPF_PROG(on_skb_copy_datagram_iovec, struct sk_buff *skb, int len)
{
	struct psc_record rec = {};

	rec.arg[0] = (__u32)len;
	/* Headers always: a reader's clone is first seen here, and many frees before it are not. */
	return skb_event(ctx, ASK(PROBE_COPY_DATAGRAM, AT_ANY, .headers = true), skb, NULL, NULL,
			 &rec);
}

SEC("tp_btf/tcp_bad_csum")
int BPF_PROG(on_tcp_bad_csum, struct sk_buff *skb)
{
	struct psc_record rec = {};

	return skb_event(ctx, ASK(PROBE_TCP_BAD_CSUM, AT_ANY, .headers = true), skb, NULL, NULL,
			 &rec);
}

SEC("tp_btf/icmp_send")
int BPF_PROG(on_icmp_send, struct sk_buff *skb, int type, int code)
{
	struct psc_record rec = {};

	rec.arg[0] = (__u8)type | (__u64)(__u8)code << 32;
	return skb_event(ctx, ASK(PROBE_ICMP_SEND, AT_ANY, .headers = true), skb, NULL, NULL, &rec);
}

SEC("tp_btf/sock_rcvqueue_full")
int BPF_PROG(on_sock_rcvqueue_full, struct sock *sk, struct sk_buff *skb)
{
	struct psc_record rec = {};

	rec.arg[0] = (__u32)sk->sk_backlog.rmem_alloc.counter |
		     (__u64)(__u32)sk->sk_rcvbuf << 32;
	return skb_event(ctx, ASK(PROBE_RCVQUEUE_FULL, AT_ANY, .headers = true), skb, sk, NULL,
			 &rec);
}

#endif
