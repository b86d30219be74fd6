/* SPDX-License-Identifier: MIT */
/*
 * From bytes to keys: formats/src/packet/decode.rs and formats/src/guard/key.rs, step by step. Where
 * the two could differ, tests/parity.rs looks.
 *
 * The state of the walk lives in a map: what is read back from there is unknown to the verifier, so
 * that it does not follow every combination of header lengths through everything behind.
 */
#ifndef PSC_GUARD_WALK_H
#define PSC_GUARD_WALK_H

#define MAX_VLANS 8
#define MAX_EXTENSIONS 16

struct scratch {
	/* Reads of a whole header at a masked offset stay inside. */
	__u8 bytes[PSC_WINDOW + 64];
	__u64 value[64];
	/* Upper halves of the keys that have them. */
	__u64 high[64];
	__u64 present;
	/* Bytes stored, and where the innermost thing with a length ends. */
	__u32 have;
	__u32 end;
	__u32 at;
	__u32 kind;
	__u32 len;
	__u8 malformed;
	__u8 cut;
	__u8 tags;
	__u8 ways;
	/* The packet's flow, for state. */
	struct psc_state_key flow;
	/* The extension headers of IPv6. */
	__u8 next;
	__u8 fragmented;
	__u8 more;
	__u8 done;
	__u32 offset;
	/* Classification. */
	__u32 vector[PSC_MAX_DIMS];
	__u64 summary;
	__u64 word;
	__u32 part;
	__u32 index;
	__u32 last;
	__u32 verdict;
	__u32 rule;
	__u32 noted;
	__u32 blocks;
	__u32 unproven;
	__u64 now;
	__u8 mac[8];
	/* A state to insert, too large for the stack. */
	struct psc_cells cells;
};

#define PTR(s, where) (&(s)->bytes[(where) & (PSC_WINDOW - 1)])

static __always_inline __u16 get16(const __u8 *p)
{
	return (__u16)(p[0] << 8 | p[1]);
}

static __always_inline __u32 get32(const __u8 *p)
{
	return (__u32)get16(p) << 16 | get16(p + 2);
}

static __always_inline __u64 get48(const __u8 *p)
{
	return (__u64)get16(p) << 32 | get32(p + 2);
}

static __always_inline __u64 get64(const __u8 *p)
{
	return (__u64)get32(p) << 32 | get32(p + 4);
}

static __always_inline void put(struct scratch *s, __u64 used, enum psc_key key, __u64 value)
{
	if (used & (1ULL << key)) {
		s->value[key] = value;
		s->present |= 1ULL << key;
	}
}

static __always_inline void put128(struct scratch *s, __u64 used, enum psc_key key, const __u8 *p)
{
	if (used & (1ULL << key)) {
		s->high[key] = get64(p);
		s->value[key] = get64(p + 8);
		s->present |= 1ULL << key;
	}
}

/* Where stored bytes that may be read end. */
static __always_inline __u32 limit(const struct scratch *s)
{
	return s->end < s->have ? s->end : s->have;
}

/* Bytes up to `needed` are not stored: cut if the wire had them, else wrong. */
static __always_inline void too_short(struct scratch *s, __u32 needed)
{
	if (needed <= s->end)
		s->cut = 1;
	else
		s->malformed = 1;
}

static __always_inline bool take(struct scratch *s, __u32 where, __u32 count)
{
	if (where + count <= limit(s))
		return true;
	too_short(s, where + count);
	return false;
}

/* 802.1Q and kin, outermost first. */
static long vlan(__u64 turn, void *ctx)
{
	struct scratch *s = *(struct scratch **)ctx;
	__u64 used = config.used;
	const __u8 *p;

	if (s->kind != 0x8100 && s->kind != 0x88a8 && s->kind != 0x9100)
		return 1;
	if (s->tags == MAX_VLANS) {
		s->malformed = 1;
		s->done = 1;
		return 1;
	}
	if (!take(s, s->at, 4)) {
		s->done = 1;
		return 1;
	}
	p = PTR(s, s->at);
	if (s->tags == 0)
		put(s, used, PSC_VLAN0, get16(p) & 0x0fff);
	else if (s->tags == 1)
		put(s, used, PSC_VLAN1, get16(p) & 0x0fff);
	s->tags++;
	s->kind = get16(p + 2);
	s->at += 4;
	return 0;
}

/* What ended a chain of extension headers. */
enum { RUNNING, COMPLETE, BROKEN };

/* One extension header of the chain at s->at. */
static long extension(__u64 turn, void *ctx)
{
	struct scratch *s = *(struct scratch **)ctx;
	const __u8 *p = PTR(s, s->at);
	__u8 kind = s->next;
	__u32 length;

	if (kind != 0 && kind != 43 && kind != 44 && kind != 51 && kind != 60 && kind != 135 &&
	    kind != 139 && kind != 140) {
		s->done = COMPLETE;
		return 1;
	}
	if (!take(s, s->at, 8)) {
		s->done = BROKEN;
		return 1;
	}
	s->next = p[0];
	if (kind == 44) {
		/* A second fragment header is against RFC 8200; the first one decides. */
		if (!s->fragmented) {
			s->fragmented = 1;
			s->offset = get16(p + 2) & 0xfff8;
			s->more = p[3] & 1;
		}
		if (s->offset) {
			s->at += 8;
			s->done = COMPLETE;
			return 1;
		}
		length = 8;
	} else if (kind == 51) {
		length = (p[1] + 2) * 4;
	} else {
		length = (p[1] + 1) * 8;
	}
	s->at += length;
	if (s->at > s->end) {
		s->malformed = 1;
		s->done = BROKEN;
		return 1;
	}
	return 0;
}

/* Follows the chain; whether to its end. */
static __always_inline bool extensions(struct scratch *s)
{
	struct scratch *ctx = s;

	s->fragmented = 0;
	s->offset = 0;
	s->more = 0;
	s->done = RUNNING;
	bpf_loop(MAX_EXTENSIONS, extension, &ctx, 0);
	/* As many headers and no end: the chain is too long. */
	if (s->done == RUNNING)
		s->malformed = 1;
	return s->done == COMPLETE;
}

#include "guard_transport.h"

static __always_inline void walk_arp(struct scratch *s, __u64 used)
{
	__u32 at = s->at;
	const __u8 *p = PTR(s, at);

	if (!take(s, at, 8))
		return;
	/* Hardware Ethernet, protocol IPv4, lengths 6 and 4. */
	if (get32(p) != 0x00010800 || get16(p + 4) != 0x0604) {
		s->malformed = 1;
		return;
	}
	if (!take(s, at, 28))
		return;
	put(s, used, PSC_ARP_OPCODE, get16(p + 6));
	put(s, used, PSC_ARP_SENDER_MAC, get48(p + 8));
	put(s, used, PSC_ARP_SENDER, get32(p + 14));
	put(s, used, PSC_ARP_TARGET_MAC, get48(p + 18));
	put(s, used, PSC_ARP_TARGET, get32(p + 24));
	if (config.ethernet)
		put(s, used, PSC_ARP_DIFFERS, get48(&s->bytes[6]) != get48(p + 8));
}

static __always_inline void walk_ipv4(struct scratch *s, __u64 used)
{
	__u32 at = s->at, header, total, transport, fragment;
	const __u8 *p = PTR(s, at);
	__u8 protocol;

	if (!take(s, at, 20))
		return;
	header = (p[0] & 0x0f) * 4;
	if (p[0] >> 4 != 4 || header < 20) {
		s->malformed = 1;
		return;
	}
	protocol = p[9];
	total = get16(p + 2);
	fragment = get16(p + 6) & 0x7fff;
	put(s, used, PSC_IP_SRC, get32(p + 12));
	put(s, used, PSC_IP_DST, get32(p + 16));
	put(s, used, PSC_IP_PROTO, protocol);
	put(s, used, PSC_IP_TTL, p[8]);
	put(s, used, PSC_IP_LEN, total);
	put(s, used, PSC_IP_HDR_LEN, header);
	put(s, used, PSC_IP_ID, get16(p + 4));
	put(s, used, PSC_IP_TOS, p[1]);
	put(s, used, PSC_IP_FRAGMENT, fragment);
	put(s, used, PSC_IP_CHECKSUM, get16(p + 10));
	if (config.stateful || config.never) {
		s->flow.family = 4;
		s->flow.protocol = protocol;
		__builtin_memcpy(s->flow.src, p + 12, 4);
		__builtin_memcpy(s->flow.dst, p + 16, 4);
	}
	if (total) {
		if (total < header || at + total > s->end)
			s->malformed = 1;
		else
			s->end = at + total;
	}
	transport = at + header;
	if (transport > limit(s)) {
		too_short(s, transport);
		return;
	}
	if (fragment & 0x1fff)
		return;
	s->at = transport;
	if (protocol == 1)
		walk_icmp(s, used, true);
	else
		walk_transport(s, used, protocol, fragment & 0x2000);
}

static __always_inline void walk_ipv6(struct scratch *s, __u64 used)
{
	__u32 at = s->at, word, payload;
	const __u8 *p = PTR(s, at);
	bool complete;

	if (!take(s, at, 40))
		return;
	if (p[0] >> 4 != 6) {
		s->malformed = 1;
		return;
	}
	word = get32(p);
	payload = get16(p + 4);
	put128(s, used, PSC_V6_SRC, p + 8);
	put128(s, used, PSC_V6_DST, p + 24);
	put(s, used, PSC_V6_HOP_LIMIT, p[7]);
	put(s, used, PSC_V6_PAYLOAD_LEN, payload);
	put(s, used, PSC_V6_FLOW, word & 0x000fffff);
	put(s, used, PSC_V6_TRAFFIC_CLASS, word >> 20 & 0xff);
	if (config.stateful || config.never) {
		s->flow.family = 6;
		__builtin_memcpy(s->flow.src, p + 8, 16);
		__builtin_memcpy(s->flow.dst, p + 24, 16);
	}
	s->next = p[6];
	s->at = at + 40;
	if (payload) {
		if (s->at + payload > s->end)
			s->malformed = 1;
		else
			s->end = s->at + payload;
	}
	complete = extensions(s);
	put(s, used, PSC_V6_NEXT, s->next);
	s->flow.protocol = s->next;
	if (!complete || s->offset)
		return;
	if (s->next == 58)
		walk_icmp(s, used, false);
	else
		walk_transport(s, used, s->next, s->more);
}

static __always_inline void walk_network(struct scratch *s, __u64 used)
{
	if (s->kind)
		put(s, used, PSC_ETH_TYPE, s->kind);
	if (s->kind == 0x0800)
		walk_ipv4(s, used);
	else if (s->kind == 0x86dd)
		walk_ipv6(s, used);
	else if (s->kind == 0x0806)
		walk_arp(s, used);
}

/* 802.2: only SNAP carries protocols that are decoded. */
static __always_inline bool llc(struct scratch *s)
{
	const __u8 *p;

	if (s->at + s->kind > s->end)
		s->malformed = 1;
	else
		s->end = s->at + s->kind;
	if (!take(s, s->at, 3))
		return false;
	p = PTR(s, s->at);
	if (p[0] != 0xaa || p[1] != 0xaa || p[2] != 0x03)
		return false;
	if (!take(s, s->at + 3, 5))
		return false;
	if (p[3] || p[4] || (p[5] != 0 && p[5] != 0xf8))
		return false;
	s->kind = get16(p + 6);
	s->at += 8;
	return true;
}

/* Everything; the bytes, their number and the wire length are in place. */
static __always_inline void walk(struct scratch *s)
{
	__u64 used = config.used;

	if (config.ethernet) {
		if (!take(s, 0, 14))
			goto out;
		put(s, used, PSC_ETH_DST, get48(&s->bytes[0]));
		put(s, used, PSC_ETH_SRC, get48(&s->bytes[6]));
		if (config.never)
			__builtin_memcpy(s->mac, &s->bytes[6], 6);
		s->kind = get16(&s->bytes[12]);
		s->at = 14;
		if (s->kind == 0x8100 || s->kind == 0x88a8 || s->kind == 0x9100) {
			struct scratch *ctx = s;

			bpf_loop(MAX_VLANS + 1, vlan, &ctx, 0);
			if (s->done)
				goto out;
		}
		if (s->kind < 0x0600 && !llc(s))
			goto out;
	} else {
		s->at = 0;
		if (!take(s, 0, 1))
			goto out;
		if (s->bytes[0] >> 4 == 4) {
			s->kind = 0x0800;
		} else if (s->bytes[0] >> 4 == 6) {
			s->kind = 0x86dd;
		} else {
			s->malformed = 1;
			goto out;
		}
	}
	walk_network(s, used);
out:
	put(s, used, PSC_FRAME_LEN, s->len);
	put(s, used, PSC_CUT, s->cut);
	if (s->malformed)
		put(s, used, PSC_MALFORMED, 1);
}

#endif
