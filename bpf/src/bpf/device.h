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

static __always_inline bool same_half(const __u8 *a, const __u8 *b)
{
	const __u32 *x = (const __u32 *)a, *y = (const __u32 *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3];
}

static __noinline bool passes_filter(__u32 netns, __u32 ifindex)
{
	__u32 zero = 0;
	struct psc_filter *f = bpf_map_lookup_elem(&filter, &zero);
	bool found;

	if (!f)
		return true;
	if (f->namespaces && netns) {
		found = false;
		for (int i = 0; i < PSC_MAX_NAMESPACES; i++)
			if (i < f->namespaces && f->netns[i] == netns)
				found = true;
		if (!found)
			return false;
	}
	if (f->interfaces && ifindex) {
		found = false;
		for (int i = 0; i < PSC_MAX_INTERFACES; i++)
			if (i < f->interfaces && f->interface_index[i] == ifindex &&
			    f->interface_netns[i] == netns)
				found = true;
		if (!found)
			return false;
	}
	return true;
}

static __noinline bool is_excluded(const struct psc_tuple *t)
{
	__u32 zero = 0;
	struct psc_filter *f = bpf_map_lookup_elem(&filter, &zero);

	if (!f || !t || !t->family)
		return false;
	for (int i = 0; i < PSC_MAX_EXCLUDES; i++) {
		struct psc_tuple *x = &f->exclude[i];

		if (i >= f->excludes || x->protocol != t->protocol || x->family != t->family)
			continue;
		if (x->sport == t->sport && x->dport == t->dport && same_half(x->src, t->src) &&
		    same_half(x->dst, t->dst))
			return true;
		if (x->sport == t->dport && x->dport == t->sport && same_half(x->src, t->dst) &&
		    same_half(x->dst, t->src))
			return true;
	}
	return false;
}

#endif
