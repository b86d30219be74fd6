/* SPDX-License-Identifier: MIT */
/* Keys to the rules that match, in order: formats/src/guard/table.rs. */
#ifndef PSC_GUARD_MATCH_H
#define PSC_GUARD_MATCH_H

#define BY_NOTHING 0
#define BY_RULE 1
#define BY_BLOCK 2

/* Enough turns for any table: each either ends, or takes a word or a bit. */
#define TURNS (1 << 18)

/* A length that the verifier can bound: 1 to PSC_WINDOW. */
static __always_inline __u32 bounded(__u32 have)
{
	return ((have - 1) & (PSC_WINDOW - 1)) + 1;
}

#define TABLE_AT(map, type, mask, index)                                                          \
	({                                                                                        \
		__u32 zero_ = 0;                                                                  \
		const type *base_ = bpf_map_lookup_elem(&(map), &zero_);                          \
		base_ ? base_[(index) & (mask)] : 0;                                              \
	})

/*
 * Edges that are not above the value, counted by halving. Comparisons are arithmetic: with branches the
 * verifier would follow every way through the search.
 */
static __always_inline __u32 below32(const volatile struct psc_dim *dim, __u32 table, __u64 value)
{
	__u32 zero = 0, below = 0;
	const __u32 *edges = bpf_map_lookup_elem(&edges32, &zero);

	if (!edges)
		return 0;
	if (dim->starts != PSC_NONE)
		below = TABLE_AT(starts, __u32, config.starts_mask, dim->starts + (value >> 16));
	for (__u32 step = dim->steps; step > 0; step--) {
		__u32 half = 1U << ((step - 1) & 31);
		__s64 edge = edges[(table + below + half - 1) & config.edges32_mask];
		/* All ones when edge <= value. */
		__s64 take = (edge - (__s64)value - 1) >> 63;

		below += half & (__u32)take;
	}
	return below;
}

static __always_inline __u32 below48(const volatile struct psc_dim *dim, __u32 table, __u64 value)
{
	__u32 zero = 0, below = 0;
	const __u64 *edges = bpf_map_lookup_elem(&edges64, &zero);

	if (!edges)
		return 0;
	for (__u32 step = dim->steps; step > 0; step--) {
		__u32 half = 1U << ((step - 1) & 31);
		__s64 edge = edges[(table + below + half - 1) & config.edges64_mask];
		__s64 take = (edge - (__s64)value - 1) >> 63;

		below += half & (__u32)take;
	}
	return below;
}

/* 1 when a - b - borrow is below zero. */
static __always_inline __u64 borrows(__u64 a, __u64 b, __u64 borrow)
{
	return ((~a & b) | ((~a | b) & (a - b - borrow))) >> 63;
}

static __always_inline __u32 below128(const volatile struct psc_dim *dim, __u32 table, __u64 high,
				      __u64 low)
{
	__u32 zero = 0, below = 0;
	const __u64 *edges = bpf_map_lookup_elem(&edges64, &zero);

	if (!edges)
		return 0;
	for (__u32 step = dim->steps; step > 0; step--) {
		__u32 half = 1U << ((step - 1) & 31);
		__u32 at = table + 2 * (below + half - 1);
		__u64 edge_high = edges[at & config.edges64_mask];
		__u64 edge_low = edges[(at + 1) & config.edges64_mask];
		__u64 above = borrows(high, edge_high, borrows(low, edge_low, 0));

		below += half & ((__u32)above - 1);
	}
	return below;
}

/* Position of the vector of this packet in one dimension. */
static __always_inline __u32 vector_of(const struct scratch *s, const volatile struct psc_dim *dim)
{
	__u32 key = dim->key & 63, kind = dim->kind, below;
	__u64 value = s->value[key];

	if (!(s->present >> key & 1))
		return dim->absent;
	if (kind == PSC_SMALL)
		return TABLE_AT(small, __u32, config.small_mask, dim->table + value);
	if (kind == PSC_WORD)
		below = below32(dim, dim->table, value);
	else if (kind == PSC_MAC)
		below = below48(dim, dim->table, value);
	else
		below = below128(dim, dim->table, s->high[key], value);
	return TABLE_AT(classes, __u32, config.classes_mask, dim->classes + below);
}

/* One word of the conjunction of the vectors of all dimensions. */
static __always_inline __u64 conjunction(const struct scratch *s, __u32 offset)
{
	__u32 zero = 0, dims = config.dims;
	const __u64 *base = bpf_map_lookup_elem(&vectors, &zero);
	__u64 word = ~0ULL;

	if (!base)
		return 0;
	/* With no dimension, the one vector of all rows. */
	if (!dims)
		return base[offset & config.vectors_mask];
	for (__u32 i = 0; i < PSC_MAX_DIMS; i++) {
		if (i >= dims)
			break;
		word &= base[(s->vector[i] + offset) & config.vectors_mask];
	}
	return word;
}

static __always_inline __u32 lowest_bit(__u64 word)
{
	/* No instruction for it: isolate the bit, count by a De Bruijn sequence (Leiserson 1998). */
	static const __u8 position[64] = {
		0,  1,  2,  53, 3,  7,	54, 27, 4,  38, 41, 8,	34, 55, 48, 28,
		62, 5,	39, 46, 44, 42, 22, 9,	24, 35, 59, 56, 49, 18, 29, 11,
		63, 52, 6,  26, 37, 40, 33, 47, 61, 45, 43, 21, 23, 58, 17, 10,
		51, 25, 36, 32, 60, 20, 57, 16, 50, 31, 19, 15, 30, 14, 13, 12,
	};

	return position[((word & -word) * 0x022fdd63cc95386dULL) >> 58];
}

static __always_inline void count_match(const struct scratch *s, __u32 rule)
{
	struct psc_rule_counters *c = bpf_map_lookup_elem(&counters, &rule);

	if (!c)
		return;
	c->matched++;
	c->matched_bytes += s->len;
	if (config.stateful) {
		if (!c->first)
			c->first = s->now;
		c->last = s->now;
	}
}

static __always_inline void block(struct scratch *s, __u32 number, const struct psc_guard_rule *rule,
				  __u64 first)
{
	struct psc_block fresh = { .made = s->now, .first = first, .rule = number };
	struct psc_rule_counters *c = bpf_map_lookup_elem(&counters, &number);
	struct psc_state_key key;

	if (!is_proven(s)) {
		s->unproven = 1;
		if (c)
			c->unproven++;
		return;
	}
	fresh.until = s->now + rule->block;
	state_key(&key, s, PSC_NONE, rule->per);
	bpf_map_update_elem(&blocks, &key, &fresh, BPF_ANY);
	s->blocks = 1;
	if (c)
		c->blocks++;
}

/* A rule whose condition holds; whether it decides. */
static __always_inline bool apply(struct scratch *s, __u32 number)
{
	const struct psc_guard_rule *rule = bpf_map_lookup_elem(&rules, &number);
	__u64 first = 0;

	if (!rule || !(rule->ways & s->ways))
		return false;
	if (config.stateful && rule->unproven && is_proven(s))
		return false;
	if (config.stateful && (rule->distinct != 0xff || rule->rate)) {
		struct psc_state_key key;

		state_key(&key, s, number, rule->per);
		if (rule->distinct != 0xff && !distinct_is_over(s, rule, &key, &first))
			return false;
		if (rule->rate && !rate_is_over(s, rule, &key, &first))
			return false;
	}
	count_match(s, number);
	if (rule->action == PSC_PASS || rule->action == PSC_DROP || rule->action == PSC_LIMIT) {
		s->verdict = BY_RULE;
		s->rule = number;
		if (rule->action == PSC_PASS)
			return true;
		s->verdict |= 0x100;
		if (config.stateful && rule->block)
			block(s, number, rule, first);
		return true;
	}
	if (config.test) {
		__u32 zero = 0;
		struct psc_told *t = bpf_map_lookup_elem(&told, &zero);

		if (t && s->noted < 16)
			t->notes[s->noted & 15] = number;
		s->noted++;
	}
	return false;
}

/* One step through summaries, words and bits. */
static long step(__u64 turn, void *ctx)
{
	struct scratch *s = *(struct scratch **)ctx;
	__u32 bit, rule;

	if (s->word) {
		bit = s->index * 64 + lowest_bit(s->word);
		s->word &= s->word - 1;
		rule = TABLE_AT(rows, __u32, config.rows_mask, bit);
		if (rule == s->last)
			return 0;
		s->last = rule;
		return apply(s, rule);
	}
	if (s->summary) {
		s->index = (s->part - 1) * 64 + lowest_bit(s->summary);
		s->summary &= s->summary - 1;
		s->word = conjunction(s, config.summary + s->index);
		return 0;
	}
	if (s->part >= config.summary)
		return 1;
	s->summary = conjunction(s, s->part);
	s->part++;
	return 0;
}

/* Whether the packet is to be discarded; s->verdict says by what. */
static __always_inline bool ask(struct scratch *s)
{
	struct scratch *ctx = s;

	s->verdict = BY_NOTHING;
	s->rule = PSC_NONE;
	s->noted = 0;
	s->blocks = 0;
	s->unproven = 0;
	if (config.blocking && s->ways == 1) {
		__u32 rule = blocked_by(s);

		if (rule != PSC_NONE) {
			s->verdict = BY_BLOCK | 0x100;
			s->rule = rule;
			count_match(s, rule);
			return true;
		}
	}
	if (!config.summary)
		return false;
	for (__u32 i = 0; i < PSC_MAX_DIMS; i++) {
		if (i >= config.dims)
			break;
		s->vector[i] = vector_of(s, &config.dim[i]);
	}
	s->summary = 0;
	s->word = 0;
	s->part = 0;
	s->last = PSC_NONE;
	bpf_loop(TURNS, step, &ctx, 0);
	return s->verdict & 0x100;
}

static __always_inline void account(const struct scratch *s, bool discard)
{
	__u32 zero = 0, rule = s->rule;
	struct psc_guard_totals *all = bpf_map_lookup_elem(&totals, &zero);

	if (all) {
		all->asked++;
		all->asked_bytes += s->len;
		all->cut += s->cut;
		if (discard) {
			all->discarded++;
			all->discarded_bytes += s->len;
		}
	}
	if (discard) {
		struct psc_rule_counters *c = bpf_map_lookup_elem(&counters, &rule);

		if (c) {
			if ((s->verdict & 0xff) == BY_BLOCK)
				c->blocked++;
			else
				c->discarded++;
			c->discarded_bytes += s->len;
		}
	}
	if (config.test) {
		struct psc_told *t = bpf_map_lookup_elem(&told, &zero);

		if (t) {
			t->discard = discard;
			t->by = s->verdict & 0xff;
			t->rule = s->rule;
			t->noted = s->noted;
			t->blocks = s->blocks;
			t->unproven = s->unproven;
		}
	}
}

#endif
