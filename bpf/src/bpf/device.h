/* SPDX-License-Identifier: MIT */
/* Devices, namespaces and what the filter lets through. */
#ifndef PSC_DEVICE_H
#define PSC_DEVICE_H

static __always_inline __u32 netns_of(struct net *net)
{
	return net ? net->ns.inum : 0;
}

static __always_inline void put_device(struct psc_record *rec, struct net_device *dev)
{
	__u32 slot = mix_pointer(dev) & (DEVICES - 1);
	__u64 *known;

	rec->ifindex = dev->ifindex;
	rec->netns = netns_of(dev->nd_net.net);
	known = bpf_map_lookup_elem(&devices, &slot);
	if (known && *known != (__u64)dev)
		*known = (__u64)dev;
}

/*
 * Late in an skb's life `dev` is null, stale, or another use of the same bytes (UDP keeps its size
 * there, TCP an rb-tree link). Believe it only when it was seen as a device before.
 */
static __always_inline struct net_device *late_device(struct sk_buff *skb)
{
	struct net_device *dev = skb->dev;
	__u32 slot = mix_pointer(dev) & (DEVICES - 1);
	__u64 *known = bpf_map_lookup_elem(&devices, &slot);

	return dev && known && *known == (__u64)dev ? dev : NULL;
}

static __noinline bool passes_filter(__u32 netns, __u32 ifindex)
{
	struct psc_interface key = { .netns = netns, .ifindex = ifindex };
	__u32 zero = 0;
	struct psc_filter *f = bpf_map_lookup_elem(&filter, &zero);

	if (!f)
		return true;
	/* Nothing says where this is: what the filter wants was marked when it was born. */
	if (!netns)
		return !f->namespaces && !f->interfaces;
	if (f->namespaces && !bpf_map_lookup_elem(&namespaces, &netns))
		return false;
	return !f->interfaces || !ifindex || bpf_map_lookup_elem(&interfaces, &key);
}

/* Connections are kept in both directions, so that one lookup answers. */
static __noinline bool is_excluded(const struct psc_tuple *t)
{
	__u32 zero = 0;
	struct psc_filter *f = bpf_map_lookup_elem(&filter, &zero);
	struct psc_tuple key;

	if (!f || !f->excludes || !t || !t->family)
		return false;
	key = *t;
	key.state = 0;
	key.pad = 0;
	return bpf_map_lookup_elem(&excludes, &key);
}

/*
 * Whether the load governor leaves this flow out. By a hash of both ends, so that both directions of a
 * connection share its fate, and in nested sets: what a high weight keeps, a lower one keeps, too.
 */
static __noinline bool is_shed(const struct psc_tuple *t)
{
	__u32 zero = 0, hash = 0;
	struct psc_filter *f = bpf_map_lookup_elem(&filter, &zero);

	if (!f || !f->shed_mask || !t || !t->family)
		return false;
	for (int i = 0; i < 4; i++)
		hash = mix(hash, ((__u32 *)t->src)[i] + ((__u32 *)t->dst)[i]);
	hash = mix(hash, ((__u32)t->sport + t->dport) | (__u32)t->protocol << 24);
	hash = mix(hash, t->sport ^ t->dport);
	return hash & f->shed_mask;
}

#endif
