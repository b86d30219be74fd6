/* SPDX-License-Identifier: MIT */
/* Sockets: their tuples, and saying who one is the first time. */
#ifndef PSC_SOCK_H
#define PSC_SOCK_H

static __always_inline bool is_inet(const struct sock *sk)
{
	__u16 family = sk->__sk_common.skc_family;

	return family == AF_INET || family == AF_INET6;
}

static __always_inline void put_v6(__u8 *to, const struct in6_addr *from)
{
	__u32 *words = (__u32 *)to;

	words[0] = from->in6_u.u6_addr32[0];
	words[1] = from->in6_u.u6_addr32[1];
	words[2] = from->in6_u.u6_addr32[2];
	words[3] = from->in6_u.u6_addr32[3];
}

/* Local end first. Time-wait and request sockets share only sock_common with full ones. */
static __always_inline void put_sock_tuple(struct psc_tuple *t, const struct sock *sk)
{
	__u8 state = sk->__sk_common.skc_state;

	t->sport = sk->__sk_common.skc_num;
	t->dport = from_be16(sk->__sk_common.skc_dport);
	t->state = state;
	/* Not a plain load: the verifier knows a request socket's size, not its state. */
	t->protocol = state == TCP_TIME_WAIT || state == TCP_NEW_SYN_RECV
			      ? IPPROTO_TCP
			      : BPF_CORE_READ(sk, sk_protocol);
	if (sk->__sk_common.skc_family == AF_INET) {
		t->family = 4;
		*(__u32 *)t->src = sk->__sk_common.skc_rcv_saddr;
		*(__u32 *)t->dst = sk->__sk_common.skc_daddr;
	} else if (sk->__sk_common.skc_family == AF_INET6) {
		t->family = 6;
		put_v6(t->src, &sk->__sk_common.skc_v6_rcv_saddr);
		put_v6(t->dst, &sk->__sk_common.skc_v6_daddr);
	}
}

static __noinline void describe_sock(const struct here *here, const struct psc_record *of,
				     struct sock *sk)
{
	struct psc_record rec = *of;
	struct psc_tuple tuple = {};

	put_sock_tuple(&tuple, sk);
	rec.head.type = PSC_SOCK_SEEN;
	rec.head.stack = PSC_STACK_NONE;
	rec.skb = 0;
	rec.len = 0;
	rec.iif = 0;
	rec.ifindex = 0;
	rec.content = 0;
	rec.caplen = 0;
	rec.pktlen = 0;
	rec.arg[0] = 0;
	rec.arg[1] = 0;
	rec.netns = netns_of(sk->__sk_common.skc_net.net);
	submit_tuple(here, &rec, &tuple);
}

/* Puts the socket into the event and says who it is the first time. */
static __always_inline void put_sock(const struct here *here, struct psc_record *rec,
				     struct sock *sk, bool described)
{
	__u32 slot, other;
	__u64 *first, *second, tag;

	rec->sock = (__u64)sk;
	if (!rec->netns)
		rec->netns = netns_of(sk->__sk_common.skc_net.net);
	tag = (__u64)low_half(sk) << 32 | (__u32)sk->__sk_common.skc_num << 16 |
	      sk->__sk_common.skc_dport;
	slot = mix_pointer(sk) & (SOCKS - 1);
	other = slot ^ 1;
	first = bpf_map_lookup_elem(&socks, &slot);
	second = bpf_map_lookup_elem(&socks, &other);
	if (!first || !second || *first == tag || *second == tag)
		return;
	*second = *first;
	*first = tag;
	if (!described)
		describe_sock(here, rec, sk);
}

#endif
