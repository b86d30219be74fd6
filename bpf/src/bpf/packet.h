/* SPDX-License-Identifier: MIT */
/* Where an skb's headers are, what identifies its content, and when to take its bytes. */
#ifndef PSC_PACKET_H
#define PSC_PACKET_H

/* What `skb->data` points at. */
enum where {
	/* The link header: on its way out. */
	AT_LINK,
	/* Past the link header: just received. */
	AT_NETWORK,
	/* Anywhere: trust the header offsets. */
	AT_ANY,
};

#define HEADER_WORDS 16

struct packet {
	/* Kernel address of the first byte to store. */
	const void *start;
	/* Stored at most; pktlen is the wire length from the same start. */
	__u32 linear;
	__u32 pktlen;
	__u16 link;
	/* Header fingerprint without what NAT and forwarding change; 0 when not read. */
	__u32 content;
	/* The same with addresses and ports: what decides whether bytes are taken again. */
	__u32 headers;
	__u8 protocol;
	struct psc_tuple tuple;
};

static __always_inline __u16 swap16(__u16 v)
{
	return __builtin_bswap16(v);
}

static __always_inline __u16 from_be16(__u16 v)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return swap16(v);
#else
	return v;
#endif
}

/* First 16 bits of a word as it lies in memory, in network order, and the second. */
static __always_inline __u16 first16(__u32 word)
{
	return from_be16(*(__u16 *)&word);
}

static __always_inline __u16 second16(__u32 word)
{
	return from_be16(*((__u16 *)&word + 1));
}

/*
 * Transport part: TCP by sequence and acknowledgement, UDP and the rest by their first payload
 * words, ICMP by type, code and sequence (NAT rewrites the identifier).
 */
static __always_inline __u32 mix_transport(__u32 hash, __u8 protocol, const __u32 *w, __u32 have,
					   struct packet *p)
{
	if (have < 8)
		return hash;
	if (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP) {
		p->headers = mix(p->headers, w[0]);
		p->tuple.sport = first16(w[0]);
		p->tuple.dport = second16(w[0]);
	}
	if (protocol == IPPROTO_TCP) {
		hash = mix(hash, w[1]);
		return have >= 12 ? mix(hash, w[2]) : hash;
	}
	if (protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6) {
		hash = mix(hash, first16(w[0]));
		hash = mix(hash, second16(w[1]));
	} else if (protocol != IPPROTO_UDP) {
		hash = mix(hash, w[0]);
		hash = mix(hash, w[1]);
	}
	if (have >= 12)
		hash = mix(hash, w[2]);
	if (have >= 16)
		hash = mix(hash, w[3]);
	return hash;
}

static __always_inline void read_headers(struct packet *p, const void *network, __u32 have,
					 __u16 ether_type, bool tuple)
{
	__u32 w[HEADER_WORDS];
	__u32 hash = ether_type;

	if (have < 20)
		return;
	if (have > sizeof(w))
		have = sizeof(w);
	/* The linear part is followed by skb_shared_info, so reading past `have` stays inside. */
	if (bpf_probe_read_kernel(w, sizeof(w), network))
		return;
	if (ether_type == ETH_P_IP) {
		__u8 first = *(__u8 *)w;
		__u16 fragment = second16(w[1]) & 0x3fff;

		p->protocol = ((__u8 *)w)[9];
		hash = mix(hash, (first16(w[1]) << 16) | fragment);
		hash = mix(hash, p->protocol);
		p->headers = mix(w[3], w[4]);
		if (tuple) {
			p->tuple.family = 4;
			*(__u32 *)p->tuple.src = w[3];
			*(__u32 *)p->tuple.dst = w[4];
			p->tuple.protocol = p->protocol;
		}
		if (first == 0x45 && !(fragment & 0x1fff))
			hash = mix_transport(hash, p->protocol, w + 5, have - 20, p);
	} else if (ether_type == ETH_P_IPV6) {
		if (have < 40)
			return;
		p->protocol = ((__u8 *)w)[6];
		hash = mix(hash, p->protocol);
		p->headers = mix(mix(w[4], w[5]), mix(w[2], w[3]));
		p->headers = mix(p->headers, mix(mix(w[6], w[7]), mix(w[8], w[9])));
		if (tuple) {
			p->tuple.family = 6;
			for (int i = 0; i < 4; i++) {
				((__u32 *)p->tuple.src)[i] = w[2 + i];
				((__u32 *)p->tuple.dst)[i] = w[6 + i];
			}
			p->tuple.protocol = p->protocol;
		}
		hash = mix_transport(hash, p->protocol, w + 10, have - 40, p);
	} else {
		for (int i = 0; i < 5; i++)
			hash = mix(hash, w[i]);
	}
	p->content = hash ? hash : 1;
	p->headers = mix(p->headers, hash);
}

static __always_inline void find_packet(struct packet *p, struct sk_buff *skb,
					struct net_device *dev, enum where where, bool tuple)
{
	unsigned char *head = skb->head;
	__u32 data = skb->data - head, tail = skb->tail;
	__u32 mac = skb->mac_header, network = skb->network_header;
	__u32 len = skb->len, link;
	__u16 ether_type = from_be16(skb->protocol);
	bool ethernet = dev && (dev->type == ARPHRD_ETHER || dev->type == ARPHRD_LOOPBACK);

	if (where == AT_LINK) {
		link = data;
		if (network < data || network - data > 64)
			network = data + (ethernet ? 14 : 0);
	} else {
		if (where == AT_NETWORK)
			network = data;
		else if (!network)
			return;
		link = mac;
		if (mac == 0xffff || mac > network || network - mac > 64) {
			link = network;
			ethernet = false;
		} else if (!dev) {
			ethernet = network - mac >= 14;
		}
	}
	if (!ethernet) {
		/* A link type that captures rarely have a name for: store from the IP header. */
		if (ether_type != ETH_P_IP && ether_type != ETH_P_IPV6)
			return;
		link = network;
	}
	if (tail <= network || tail <= link)
		return;
	p->link = ethernet ? LINKTYPE_ETHERNET : LINKTYPE_RAW;
	p->start = head + link;
	p->linear = tail - link;
	p->pktlen = len + data - link;
	read_headers(p, head + network, tail - network, ether_type, tuple);
}

static __always_inline void put_gso(struct psc_record *rec, struct sk_buff *skb)
{
	const void *shared = skb->head + skb->end;
	__u32 both;

	/* gso_size and gso_segs are neighbours in every kernel: one read for the common answer. */
	if (!read_u32(&both, shared + bpf_core_field_offset(struct skb_shared_info, gso_size)))
		return;
	rec->gso_size = ((__u16 *)&both)[0];
	if (!rec->gso_size)
		return;
	rec->gso_segs = ((__u16 *)&both)[1];
	read_u32(&rec->gso_kind,
		 shared + bpf_core_field_offset(struct skb_shared_info, gso_type));
}

/* skb cache entries: high half tells skbs apart, low half is `headers` or this. */
#define SKB_EXCLUDED 0xffffffffU
#define SKB_ELSEWHERE 0xfffffffdU
#define SKB_SHED 0xfffffffeU

static __always_inline __u64 *skb_slot(struct sk_buff *skb, __u64 *tag)
{
	__u32 low = low_half(skb);
	/* The high bits of the product: the low ones know only the low bits of the address. */
	__u32 slot = (low * 0x9e3779b1U >> 15) & config.skb_mask;

	*tag = (__u64)low << 32;
	return bpf_map_lookup_elem(&skbs, &slot);
}

/*
 * What was decided about an skb at an earlier probe: 1 the filter leaves it out, 2 it is shed, 0 neither, or
 * nothing known. That it was elsewhere holds only where no device says where it is.
 */
static __always_inline int decided(struct sk_buff *skb, __u32 ifindex)
{
	__u64 tag, *slot = skb_slot(skb, &tag);

	if (!slot)
		return 0;
	if (*slot == (tag | SKB_EXCLUDED) || (!ifindex && *slot == (tag | SKB_ELSEWHERE)))
		return 1;
	return *slot == (tag | SKB_SHED) ? 2 : 0;
}

#endif
