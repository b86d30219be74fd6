/* SPDX-License-Identifier: MIT */
/* From the transport header on: TCP with its options, UDP, ports alone, ICMP with what it quotes. */
#ifndef PSC_GUARD_TRANSPORT_H
#define PSC_GUARD_TRANSPORT_H

struct options {
	struct scratch *s;
	/* Start of the options in the packet, their length, and where we are in them. */
	__u32 start;
	__u32 whole;
	__u32 at;
	__u32 stored;
};

static long option(__u64 turn, void *ctx)
{
	struct options *o = ctx;
	struct scratch *s = o->s;
	__u64 used = config.used;
	const __u8 *p;
	__u8 kind, length;

	if (o->at >= o->whole)
		return 1;
	if (o->at >= o->stored) {
		s->cut = 1;
		return 1;
	}
	p = PTR(s, o->start + o->at);
	kind = p[0];
	if (kind == 0)
		return 1;
	if (kind == 1) {
		o->at++;
		return 0;
	}
	if (o->at + 1 < o->stored) {
		length = p[1];
	} else if (o->at + 1 < o->whole) {
		s->cut = 1;
		return 1;
	} else {
		length = 0;
	}
	if (length < 2 || o->at + length > o->whole) {
		s->malformed = 1;
		return 1;
	}
	if (o->at + length > o->stored) {
		s->cut = 1;
		return 1;
	}
	switch (kind) {
	case 2:
		if (length != 4)
			goto wrong;
		put(s, used, PSC_TCP_MSS, get16(p + 2));
		break;
	case 3:
		if (length != 3)
			goto wrong;
		put(s, used, PSC_TCP_WINDOW_SCALE, p[2]);
		break;
	case 4:
		if (length != 2)
			goto wrong;
		break;
	case 5:
		if (length != 10 && length != 18 && length != 26 && length != 34)
			goto wrong;
		break;
	case 8:
		if (length != 10)
			goto wrong;
		break;
	}
	o->at += length;
	return 0;
wrong:
	s->malformed = 1;
	return 1;
}

/* Keys that only the options, the quotation or the extent of what is wrong can tell. */
#define USES_OPTIONS                                                                              \
	(1ULL << PSC_TCP_MSS | 1ULL << PSC_TCP_WINDOW_SCALE | 1ULL << PSC_MALFORMED |             \
	 1ULL << PSC_CUT)
#define USES_QUOTED                                                                               \
	(1ULL << PSC_QUOTED_PROTO | 1ULL << PSC_QUOTED_SRC | 1ULL << PSC_QUOTED_DST |             \
	 1ULL << PSC_QUOTED_V6_SRC | 1ULL << PSC_QUOTED_V6_DST | 1ULL << PSC_QUOTED_SRC_PORT |    \
	 1ULL << PSC_QUOTED_DST_PORT)

/* Only the ports of a transport header. */
static __always_inline void ports(struct scratch *s, __u64 used, __u8 protocol)
{
	__u32 at = s->at;
	const __u8 *p = PTR(s, at);

	if (at + 4 > limit(s)) {
		if (at + 4 <= s->end)
			s->cut = 1;
		return;
	}
	s->flow.sport = *(__u16 *)p;
	s->flow.dport = *(__u16 *)(p + 2);
	if (protocol == 132) {
		put(s, used, PSC_SCTP_SRC_PORT, get16(p));
		put(s, used, PSC_SCTP_DST_PORT, get16(p + 2));
	}
}

static __always_inline void walk_tcp(struct scratch *s, __u64 used)
{
	__u32 at = s->at, end = s->end, payload, header;
	const __u8 *p = PTR(s, at);

	if (!take(s, at, 20)) {
		ports(s, used, 6);
		return;
	}
	s->flow.sport = *(__u16 *)p;
	s->flow.dport = *(__u16 *)(p + 2);
	header = (p[12] >> 4) * 4;
	put(s, used, PSC_TCP_SRC_PORT, get16(p));
	put(s, used, PSC_TCP_DST_PORT, get16(p + 2));
	put(s, used, PSC_TCP_SEQ, get32(p + 4));
	if (p[13] & 0x10)
		put(s, used, PSC_TCP_ACK, get32(p + 8));
	put(s, used, PSC_TCP_HDR_LEN, header);
	put(s, used, PSC_TCP_WINDOW, get16(p + 14));
	put(s, used, PSC_TCP_CHECKSUM, get16(p + 16));
	put(s, used, PSC_TCP_FLAGS, (p[12] & 1) << 8 | p[13]);
	payload = at + header;
	if (header < 20 || payload > end) {
		s->malformed = 1;
		payload = at + 20;
	} else if (header > 20 && (used & USES_OPTIONS)) {
		struct options o = { .s = s, .start = at + 20, .whole = header - 20 };
		__u32 stored = limit(s) > o.start ? limit(s) - o.start : 0;

		o.stored = stored < o.whole ? stored : o.whole;
		bpf_loop(41, option, &o, 0);
	}
	put(s, used, PSC_TCP_LEN, end > payload ? end - payload : 0);
}

static __always_inline void walk_udp(struct scratch *s, __u64 used, bool fragmented)
{
	__u32 at = s->at, available, claimed;
	const __u8 *p = PTR(s, at);

	if (!take(s, at, 8)) {
		ports(s, used, 17);
		return;
	}
	s->flow.sport = *(__u16 *)p;
	s->flow.dport = *(__u16 *)(p + 2);
	claimed = get16(p + 4);
	put(s, used, PSC_UDP_SRC_PORT, get16(p));
	put(s, used, PSC_UDP_DST_PORT, get16(p + 2));
	put(s, used, PSC_UDP_LEN, claimed);
	put(s, used, PSC_UDP_CHECKSUM, get16(p + 6));
	available = s->end - at;
	if (claimed == 0 || (fragmented && claimed > available))
		return;
	if (claimed < 8 || claimed > available)
		s->malformed = 1;
}

static __always_inline bool has_ports(__u8 protocol)
{
	return protocol == 6 || protocol == 17 || protocol == 132 || protocol == 33 ||
	       protocol == 136;
}

/* Keys of the quoted packet's transport at `rest`, of which `stored` bytes are there. */
static __always_inline void quoted_ports(struct scratch *s, __u64 used, __u8 protocol, __u32 rest,
					 bool first)
{
	__u32 sport = 0, dport = 0;
	const __u8 *p = PTR(s, rest);

	if (first && has_ports(protocol) && rest + 4 <= limit(s)) {
		sport = get16(p);
		dport = get16(p + 2);
	}
	put(s, used, PSC_QUOTED_PROTO, protocol);
	put(s, used, PSC_QUOTED_SRC_PORT, sport);
	put(s, used, PSC_QUOTED_DST_PORT, dport);
}

static __always_inline void quoted_v4(struct scratch *s, __u64 used, __u32 start)
{
	const __u8 *p = PTR(s, start);
	__u32 header;

	if (start + 20 > limit(s))
		return;
	header = (p[0] & 0x0f) * 4;
	if (p[0] >> 4 != 4 || header < 20)
		return;
	put(s, used, PSC_QUOTED_SRC, get32(p + 12));
	put(s, used, PSC_QUOTED_DST, get32(p + 16));
	quoted_ports(s, used, p[9], start + header, !(get16(p + 6) & 0x1fff));
}

static __always_inline void quoted_v6(struct scratch *s, __u64 used, __u32 start)
{
	const __u8 *p = PTR(s, start);
	__u32 end = s->end, have = s->have;
	__u8 malformed = s->malformed, cut = s->cut;
	bool complete;

	if (start + 40 > limit(s))
		return;
	if (p[0] >> 4 != 6)
		return;
	put128(s, used, PSC_QUOTED_V6_SRC, p + 8);
	put128(s, used, PSC_QUOTED_V6_DST, p + 24);
	/* The chain as if the packet ended with the quotation; what is wrong in it is its own affair. */
	s->end = limit(s);
	s->next = p[6];
	s->at = start + 40;
	complete = extensions(s);
	quoted_ports(s, used, s->next, s->at, complete && !s->offset);
	s->end = end;
	s->have = have;
	s->malformed = malformed;
	s->cut = cut;
}

/* Looks for the redirected-header option (RFC 4861, 4.6.3). */
static long redirected(__u64 turn, void *ctx)
{
	struct scratch *s = *(struct scratch **)ctx;
	const __u8 *p = PTR(s, s->at);

	if (s->at + 2 > limit(s))
		return 1;
	if (p[0] == 4) {
		s->at += 8;
		s->done = 1;
		return 1;
	}
	if (p[1] == 0)
		return 1;
	s->at += p[1] * 8;
	return 0;
}

static __always_inline void walk_icmp(struct scratch *s, __u64 used, bool v4)
{
	__u32 at = s->at;
	const __u8 *p = PTR(s, at);
	__u8 type = p[0];

	if (!take(s, at, 8))
		return;
	if (v4) {
		put(s, used, PSC_ICMP_TYPE, type);
		put(s, used, PSC_ICMP_CODE, p[1]);
		if (type == 0 || type == 8) {
			put(s, used, PSC_ICMP_IDENT, get16(p + 4));
			put(s, used, PSC_ICMP_SEQ, get16(p + 6));
		}
		if ((used & USES_QUOTED) &&
		    (type == 3 || type == 4 || type == 5 || type == 11 || type == 12))
			quoted_v4(s, used, at + 8);
		return;
	}
	put(s, used, PSC_ICMP6_TYPE, type);
	put(s, used, PSC_ICMP6_CODE, p[1]);
	if (!(used & USES_QUOTED))
		return;
	if (type >= 1 && type <= 4) {
		quoted_v6(s, used, at + 8);
	} else if (type == 137) {
		struct scratch *ctx = s;

		s->at = at + 8 + 32;
		s->done = 0;
		bpf_loop(PSC_WINDOW / 8, redirected, &ctx, 0);
		if (s->done)
			quoted_v6(s, used, s->at);
	}
}

static __always_inline void walk_transport(struct scratch *s, __u64 used, __u8 protocol,
					   bool fragmented)
{
	if (protocol == 6)
		walk_tcp(s, used);
	else if (protocol == 17)
		walk_udp(s, used, fragmented);
	else if (protocol == 132 || protocol == 136 || protocol == 33)
		ports(s, used, protocol);
}

#endif
