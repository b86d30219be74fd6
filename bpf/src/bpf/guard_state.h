/* SPDX-License-Identifier: MIT */
/* Token buckets, thresholds, blocks: formats/src/guard/behaviour.rs. */
#ifndef PSC_GUARD_STATE_H
#define PSC_GUARD_STATE_H

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

/* Rounds of an update that another CPU may spoil before the packet passes. */
#define ROUNDS 8

static __always_inline void state_key(struct psc_state_key *key, const struct scratch *s,
				      __u32 rule, __u8 per)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->rule = rule;
	key->per = per;
	if (per == PSC_ALL)
		return;
	key->family = s->flow.family;
	if (per != PSC_DESTINATION)
		__builtin_memcpy(key->src, s->flow.src, 16);
	if (per != PSC_SOURCE)
		__builtin_memcpy(key->dst, s->flow.dst, 16);
	/* One host has all of a /64. */
	if (per == PSC_SOURCE && s->flow.family == 6)
		__builtin_memset(key->src + 8, 0, 8);
	if (per == PSC_FLOW) {
		key->protocol = s->flow.protocol;
		key->sport = s->flow.sport;
		key->dport = s->flow.dport;
	}
}

static __always_inline void no_state(void)
{
	__u32 zero = 0;
	struct psc_guard_totals *all = bpf_map_lookup_elem(&totals, &zero);

	if (all)
		all->no_state++;
}

static __always_inline __u64 mix64(__u64 z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

/* Adds the packet's value; whether more different ones were seen than the rule allows. */
static __always_inline bool distinct_is_over(struct scratch *s, const struct psc_guard_rule *rule,
					     const struct psc_state_key *key, __u64 *first)
{
	__u32 which = rule->distinct & 63;
	struct psc_cells *cells;
	__u64 start, bit;
	__u32 cell;

	if (!(s->present >> which & 1))
		return false;
	cells = bpf_map_lookup_elem(&thresholds, key);
	if (!cells) {
		__builtin_memset(&s->cells, 0, sizeof(s->cells));
		s->cells.start = s->now;
		bpf_map_update_elem(&thresholds, key, &s->cells, BPF_NOEXIST);
		cells = bpf_map_lookup_elem(&thresholds, key);
		if (!cells) {
			no_state();
			return false;
		}
	}
	start = cells->start;
	if (s->now >= start && s->now - start >= rule->within &&
	    __sync_val_compare_and_swap(&cells->start, start, s->now) == start) {
		__builtin_memset(cells->bits, 0, sizeof(cells->bits));
		cells->count = 0;
	}
	cell = mix64(s->value[which] + mix64(s->high[which])) >> 54;
	bit = 1ULL << (cell & 63);
	if (!(__sync_fetch_and_or(&cells->bits[cell >> 6 & 15], bit) & bit))
		__sync_fetch_and_add(&cells->count, 1);
	*first = cells->start;
	return cells->count > rule->over;
}

/* Takes the packet out of its bucket; whether there was not enough in it. */
static __always_inline bool rate_is_over(struct scratch *s, const struct psc_guard_rule *rule,
					 const struct psc_state_key *key, __u64 *first)
{
	struct psc_bucket fresh = {}, *bucket = bpf_map_lookup_elem(&buckets, key);
	__u64 units = rule->rate == 1 ? 1 : s->len, amount = rule->amount ?: 1;
	__u64 cost = units * rule->every / amount, now = s->now;

	if (!bucket) {
		bpf_map_update_elem(&buckets, key, &fresh, BPF_NOEXIST);
		bucket = bpf_map_lookup_elem(&buckets, key);
		if (!bucket) {
			no_state();
			return false;
		}
	}
	for (int round = 0; round < ROUNDS; round++) {
		__u64 full_at = *(volatile __u64 *)&bucket->full_at;
		__u64 after = (full_at > now ? full_at : now) + cost;

		if (after - now > rule->depth) {
			if (!bucket->first)
				bucket->first = now;
			*first = bucket->first;
			return true;
		}
		if (__sync_val_compare_and_swap(&bucket->full_at, full_at, after) == full_at)
			return false;
	}
	no_state();
	return false;
}

static __always_inline bool is_proven(const struct scratch *s)
{
	struct psc_state_key key;

	state_key(&key, s, PSC_NONE, PSC_SOURCE);
	return bpf_map_lookup_elem(&proven, &key);
}

/* The rule that blocked this packet's source, pair or flow, or none. */
static __always_inline __u32 blocked_by(const struct scratch *s)
{
	for (__u8 per = PSC_SOURCE; per <= PSC_FLOW; per++) {
		struct psc_state_key key;
		struct psc_block *block;

		if (!(config.blocking & (1U << per)))
			continue;
		state_key(&key, s, PSC_NONE, per);
		block = bpf_map_lookup_elem(&blocks, &key);
		if (block && block->until > s->now)
			return block->rule;
	}
	return PSC_NONE;
}

static __always_inline bool is_never(const struct scratch *s)
{
	struct psc_never_key key = {};

	key.kind = PSC_NEVER_CONNECTION;
	key.family = s->flow.family;
	key.protocol = s->flow.protocol;
	key.sport = s->flow.sport;
	key.dport = s->flow.dport;
	__builtin_memcpy(key.src, s->flow.src, 16);
	__builtin_memcpy(key.dst, s->flow.dst, 16);
	if (bpf_map_lookup_elem(&nevers, &key))
		return true;
	if (s->ways != 1)
		return false;
	key.kind = PSC_NEVER_NEIGHBOUR;
	key.protocol = 0;
	key.sport = 0;
	key.dport = 0;
	__builtin_memset(key.dst, 0, 16);
	__builtin_memcpy(key.mac, s->mac, 6);
	return bpf_map_lookup_elem(&nevers, &key);
}

static __always_inline void told_never(struct scratch *s)
{
	__u32 zero = 0;
	struct psc_guard_totals *all = bpf_map_lookup_elem(&totals, &zero);

	if (all)
		all->never++;
	s->verdict = 0;
}

#endif
